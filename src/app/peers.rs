//! Who may speak on the app's sockets: programs of our own user and, where the owner wants that, of our own team only.
//!
//! A signature of our own team is preferred, not required: the original's node host, which is signed by others, may
//! speak here too. Then the person is told what it is. With `"local": {"requireOwnTeam": true}` in the approvals document
//! nobody else is served, and nobody at all by a build that is not signed. Source: spec mac-app (7.3)

use crate::log;
use crate::transport::code_identity::{self, Process, Standing};
use crate::transport::connections::is_own_user;
use crate::transport::stream::Stream;

/// The rule, for all sockets of one app.
pub struct Peers {
    /// Whether only our own team's programs are served; asked for each connection.
    pub requires_own_team: Box<dyn Fn() -> bool + Send + Sync>,
    /// How a program stands to this one.
    pub standing: Box<dyn Fn(&Stream) -> Standing + Send + Sync>,
}

/// Whoever is served on a socket.
#[derive(PartialEq)]
pub struct Peer {
    process: Option<Process>,
    /// Who that is, in words for the person.
    pub requester: String,
}

impl Peers {
    /// The rule of this machine's owner.
    pub fn new(requires_own_team: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { requires_own_team: Box::new(requires_own_team), standing: Box::new(code_identity::standing) }
    }

    /// Who is connected to the `name` socket; none for whoever is not served, or when the system does not say (A110).
    /// Asked before anything is read, and again after: it must be the same.
    pub fn admit(&self, name: &str, stream: &Stream) -> Option<Peer> {
        if !is_own_user(name, stream) {
            return None;
        }
        let process = Process::of_peer(stream).ok();
        if process.is_some_and(|process| process.pid == std::process::id()) {
            return Some(Peer { process, requester: "this app's own node".to_owned() });
        }
        let who = process.map_or_else(|| "a process".to_owned(), |process| format!("process {}", process.pid));
        let served = judge((self.standing)(stream), (self.requires_own_team)());
        let note = served.inspect_err(|why| log!("app", "{who} was not served on the {name} socket: {why}")).ok()?;
        Some(Peer { process, requester: format!("{who} of this user, through the {name} socket{note}") })
    }
}

/// What the person is told of a program besides, or why it is not served.
fn judge(standing: Standing, requires_own_team: bool) -> Result<String, String> {
    match standing {
        Standing::Ours => Ok(", signed as this app is".to_owned()),
        Standing::Unknown if requires_own_team => {
            Err("local.requireOwnTeam is set, but this app itself is not signed by a team".to_owned())
        }
        Standing::Unknown => Ok(String::new()),
        Standing::Foreign(what) if requires_own_team => {
            Err(format!("local.requireOwnTeam is set, and it is not this app's own: {what}"))
        }
        Standing::Foreign(what) => Ok(format!(", not one of this app's own programs: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_program_is_named_and_refused_only_where_our_own_team_is_required() {
        let foreign = || Standing::Foreign("a.b of team ABCDE12345".to_owned());
        assert!(judge(foreign(), false).unwrap().contains("a.b of team ABCDE12345"));
        assert!(judge(foreign(), true).unwrap_err().contains("a.b of team ABCDE12345"));
        assert!(judge(Standing::Ours, true).is_ok() && judge(Standing::Ours, false).is_ok());
        assert_eq!(judge(Standing::Unknown, false).as_deref(), Ok(""));
        assert!(judge(Standing::Unknown, true).unwrap_err().contains("itself is not signed"));
    }
}
