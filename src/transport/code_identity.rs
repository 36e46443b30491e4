//! Who signed the program at the other end of a socket (mac-app §7.2).
//!
//! Only macOS has code signatures that the kernel vouches for. Elsewhere nobody is signed, so what
//! asks for a signature is refused unless its own rule has a way for that.

use super::stream::Stream;
use crate::limits;
use crate::sys::socket;
use openclaw_macos::security::{AuditToken, Code, SecurityError, Signature};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// The signature of a running program, checked against the kernel's own record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeIdentity {
    /// Apple's id of the team that signed it, ten capital letters and digits.
    pub team: String,
    /// Signing identifier: of an app its bundle id.
    pub identifier: String,
}

/// A program in a process: another one in the same process is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number; for words, since numbers come back.
    pub pid: u32,
    /// Where the kernel counts the programs of a process.
    token: Option<AuditToken>,
}

impl Process {
    /// What used the other end of `stream` last, now.
    ///
    /// # Errors
    /// It has gone.
    pub fn of_peer(stream: &Stream) -> io::Result<Self> {
        let token = match socket::peer_token(stream.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            token => Some(token?),
        };
        Ok(Self { pid: socket::peer_pid(stream.as_fd())?, token })
    }
}

/// Why it is not known who signed a peer. Each of them refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// This system has no code signatures.
    NoSignatures,
    /// Nobody's signature, or nobody's in particular (ad hoc, self-signed).
    Unsigned,
    /// A signature that does not hold, or a program that could be made to do another's will; what is wrong with it.
    Untrustworthy(String),
    /// The peer ended, or became another program while it was looked at.
    Gone,
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignatures => f.write_str("this system has no code signatures"),
            Self::Unsigned => f.write_str("the program is not signed by a team"),
            Self::Untrustworthy(what) => write!(f, "the program's signature is not good enough: {what}"),
            Self::Gone => f.write_str("the program ended or became another one"),
        }
    }
}

impl std::error::Error for Unidentified {}

impl From<SecurityError> for Unidentified {
    fn from(error: SecurityError) -> Self {
        match error {
            SecurityError::Missing(_) => Self::NoSignatures,
            SecurityError::Unsigned => Self::Unsigned,
            SecurityError::Gone => Self::Gone,
            error @ SecurityError::Failed(..) => Self::Untrustworthy(error.to_string()),
        }
    }
}

/// `kSecCodeSignatureAdhoc`, `kSecCodeSignatureRuntime`: flags of a signature. Source: spec mac-app (8.3)
const AD_HOC: u32 = 0x2;
const HARDENED_RUNTIME: u32 = 0x1_0000;
/// `kSecCodeStatusValid`, `kSecCodeStatusDebugged`: what the kernel says of the running code. Source: spec mac-app (8.3)
const VALID: u32 = 0x1;
const DEBUGGED: u32 = 0x1000_0000;

/// What a signature is worth to us: code that carries it runs as its team made it, and does nobody else's will.
/// Source: spec mac-app (7.2)
fn worth(signature: &Signature) -> Result<CodeIdentity, Unidentified> {
    let untrustworthy = |what: &str| Err(Unidentified::Untrustworthy(what.to_owned()));
    let (Some(team), Some(identifier)) = (&signature.team, &signature.identifier) else {
        return Err(Unidentified::Unsigned);
    };
    if signature.flags & AD_HOC != 0 {
        return Err(Unidentified::Unsigned);
    }
    if signature.flags & HARDENED_RUNTIME == 0 {
        return untrustworthy("it has no hardened runtime, so it can be made to load foreign code");
    }
    if signature.lets_debug {
        return untrustworthy("it lets every program of its user look into it (get-task-allow)");
    }
    if signature.status & VALID == 0 {
        return untrustworthy("the system does not vouch for it any more");
    }
    if signature.status & DEBUGGED != 0 {
        return untrustworthy("it is being debugged");
    }
    Ok(CodeIdentity { team: team.clone(), identifier: identifier.clone() })
}

impl CodeIdentity {
    /// The requirement that only code of this team and identifier meets, in Apple's language for that. None when one of
    /// them is not of the form that such names have: they come from a file that its owner may have written.
    fn requirement(&self) -> Option<String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let is_team = self.team.len() == TEAM_BYTES
            && self.team.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        (is_team && !self.identifier.is_empty() && self.identifier.bytes().all(is_name)).then(|| {
            let Self { team, identifier } = self;
            format!(
                "anchor apple generic and identifier \"{identifier}\" and certificate leaf[subject.OU] = \"{team}\""
            )
        })
    }
}

/// Length of a team's id.
const TEAM_BYTES: usize = 10;

/// First that the code is what its signature covers, then what that says, then that Apple's certificates say so too.
fn examine(code: &Code) -> Result<CodeIdentity, Unidentified> {
    code.check(None)?;
    let identity = worth(&code.signature()?)?;
    let requirement = identity
        .requirement()
        .ok_or_else(|| Unidentified::Untrustworthy("its team or identifier has an unusual form".to_owned()))?;
    code.check(Some(&requirement))?;
    Ok(identity)
}

/// Who signed this program; found out once.
///
/// # Errors
/// See [`Unidentified`].
pub fn own() -> Result<&'static CodeIdentity, Unidentified> {
    static OWN: OnceLock<Result<CodeIdentity, Unidentified>> = OnceLock::new();
    OWN.get_or_init(|| examine(&Code::own()?)).as_ref().map_err(Clone::clone)
}

/// Who signed the program at the other end of `stream`, now. Slow on macOS (milliseconds), so called on the peer's thread;
/// what was found is believed for [`limits::SIGNATURE_AGE`] as long as the kernel names the same image of the same process.
///
/// # Errors
/// See [`Unidentified`].
pub fn of_peer(stream: &Stream) -> Result<CodeIdentity, Unidentified> {
    static KNOWN: Mutex<Known> = Mutex::new(Known(VecDeque::new()));
    let token = || match Process::of_peer(stream) {
        Ok(process) => process.token.ok_or(Unidentified::NoSignatures),
        Err(_) => Err(Unidentified::Gone),
    };
    let before = token()?;
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&before);
    let identity = match known {
        Some(identity) => identity,
        None => {
            let identity = examine(&Code::of_process(&before)?);
            KNOWN.lock().unwrap_or_else(PoisonError::into_inner).put(before, &identity);
            identity
        }
    }?;
    // The token is that of whoever used the socket last: somebody else by now is nobody. Source: spec mac-app (7.3)
    if token()? == before { Ok(identity) } else { Err(Unidentified::Gone) }
}

/// What was found out about processes lately, oldest first.
struct Known(VecDeque<(AuditToken, Instant, Result<CodeIdentity, Unidentified>)>);

impl Known {
    fn get(&mut self, token: &AuditToken) -> Option<Result<CodeIdentity, Unidentified>> {
        self.0.retain(|(_, found, _)| found.elapsed() < limits::SIGNATURE_AGE);
        self.0.iter().find(|(known, ..)| known == token).map(|(.., identity)| identity.clone())
    }

    fn put(&mut self, token: AuditToken, identity: &Result<CodeIdentity, Unidentified>) {
        self.0.truncate(limits::SIGNATURES - 1);
        self.0.push_front((token, Instant::now(), identity.clone()));
    }
}

/// How a program at the other end stands to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This program itself is not signed by a team, so there is nothing to compare with.
    Unknown,
    /// The same program, signed by the same team.
    Ours,
    /// Anything else; what it is, in words.
    Foreign(String),
}

/// How the program at the other end of `stream` stands to this one.
pub fn standing(stream: &Stream) -> Standing {
    own().map_or(Standing::Unknown, |own| compare(own, of_peer(stream)))
}

fn compare(own: &CodeIdentity, peer: Result<CodeIdentity, Unidentified>) -> Standing {
    match peer {
        Ok(peer) if peer == *own => Standing::Ours,
        Ok(peer) => Standing::Foreign(format!("{} of team {}", peer.identifier, peer.team)),
        Err(error) => Standing::Foreign(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(team: &str, identifier: &str) -> CodeIdentity {
        CodeIdentity { team: team.to_owned(), identifier: identifier.to_owned() }
    }

    fn signature() -> Signature {
        Signature {
            identifier: Some("ai.openclaw.mac".to_owned()),
            team: Some("ABCDE12345".to_owned()),
            flags: HARDENED_RUNTIME,
            status: VALID,
            lets_debug: false,
        }
    }

    #[test]
    fn a_requirement_holds_only_names_that_cannot_end_it() {
        assert_eq!(
            identity("FWJYW4S8P8", "boo.peekaboo.peekaboo").requirement().as_deref(),
            Some(
                "anchor apple generic and identifier \"boo.peekaboo.peekaboo\" \
                 and certificate leaf[subject.OU] = \"FWJYW4S8P8\""
            )
        );
        for (team, identifier) in [
            ("FWJYW4S8P8\" or true", "a.b"),
            ("fwjyw4s8p8", "a.b"),
            ("FWJYW4S8P", "a.b"),
            ("", "a.b"),
            ("FWJYW4S8P8", ""),
            ("FWJYW4S8P8", "a\" or anchor trusted"),
            ("FWJYW4S8P8", "a_b"),
            ("FWJYW4S8P8", "ä.b"),
        ] {
            assert_eq!(identity(team, identifier).requirement(), None, "{team} {identifier}");
        }
    }

    #[test]
    fn sec_a124_a_signature_is_worth_something_only_with_everything_right() {
        assert_eq!(worth(&signature()), Ok(identity("ABCDE12345", "ai.openclaw.mac")));
        let unsigned = [
            Signature { team: None, ..signature() },
            Signature { identifier: None, ..signature() },
            // Ad hoc, with a team that its file claims.
            Signature { flags: AD_HOC | HARDENED_RUNTIME, ..signature() },
        ];
        for signature in unsigned {
            assert_eq!(worth(&signature), Err(Unidentified::Unsigned), "{signature:?}");
        }
        let poor = [
            Signature { flags: 0, ..signature() },
            Signature { lets_debug: true, ..signature() },
            Signature { status: 0, ..signature() },
            Signature { status: VALID | DEBUGGED, ..signature() },
        ];
        for signature in poor {
            assert!(matches!(worth(&signature), Err(Unidentified::Untrustworthy(_))), "{signature:?}");
        }
    }

    #[test]
    fn sec_a126_another_program_of_the_same_process_is_another() {
        let first = Process { pid: 7, token: Some([7; 32]) };
        let mut next = [7; 32];
        next[28] = 8;
        assert_ne!(first, Process { token: Some(next), ..first });
        assert_ne!(first, Process { token: None, ..first });
    }

    #[test]
    fn a_peer_is_ours_only_as_the_same_program_of_the_same_team() {
        let own = identity("ABCDE12345", "ai.openclaw.mac");
        assert_eq!(compare(&own, Ok(own.clone())), Standing::Ours);
        for peer in [
            Ok(identity("ABCDE12345", "com.example.other")),
            Ok(identity("ZZZZZ12345", "ai.openclaw.mac")),
            Err(Unidentified::Unsigned),
            Err(Unidentified::Gone),
        ] {
            assert!(matches!(compare(&own, peer.clone()), Standing::Foreign(_)), "{peer:?}");
        }
    }

    #[test]
    fn sec_a126_what_was_found_is_kept_by_the_whole_token_and_bounded() {
        let mut known = Known(VecDeque::new());
        let token = |number: usize| {
            let mut token = [7; 32];
            // Same process, next image: the last word.
            token[28..].copy_from_slice(&u32::try_from(number).unwrap().to_ne_bytes());
            token
        };
        known.put(token(1), &Ok(identity("ABCDE12345", "a")));
        assert_eq!((known.get(&token(1)).is_some(), known.get(&token(2))), (true, None));
        for number in 2..=limits::SIGNATURES + 1 {
            known.put(token(number), &Err(Unidentified::Unsigned));
        }
        assert_eq!((known.0.len(), known.get(&token(1))), (limits::SIGNATURES, None));
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn without_signatures_nobody_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let one = Stream::unix(one);
        assert_eq!(of_peer(&one), Err(Unidentified::NoSignatures));
        assert_eq!((own(), standing(&one)), (Err(Unidentified::NoSignatures), Standing::Unknown));
        assert_eq!(Process::of_peer(&one).unwrap(), Process { pid: std::process::id(), token: None });
    }
}
