//! Asks operators: each question becomes an approval record at the gateway, and whoever has the
//! scope answers it, for example with `mac-debug approvals`. Source: spec gateway §6.

use super::supervisor::operator_client;
use crate::client::attach;
use crate::client::connection::{Ended, EventHandler};
use crate::client::reconnect::{self, Backoff, Next, Waited};
use crate::client::{
    CallError, ConnectError, ConnectOptions, Connection, CredentialSource, Endpoint, Link, Role, Standing, Surface,
};
use crate::desktop::{Backend, Desktop, Place};
use crate::exec::approval::{Answer, Kind, Question};
use crate::gateway::scope;
use crate::identity::random;
use crate::limits;
use crate::log;
use crate::protocol::connect::ClientInfo;
use crate::protocol::policy::Decision;
use crate::protocol::text;
use crate::state::approvals::ApprovalsDocument;
use crate::state::pins::GatewayPins;
use crate::sys::clock::Now;
use crate::sys::poll::{self, Interest};
use crate::sys::process;
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::io;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a command in one log line; the rest of a line is its name and number.
const LOGGED_BYTES: usize = limits::LOG_LINE_BYTES - 256;

/// Who is asked: `--ask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whoever a desktop backend finds.
    Desktop(Backend),
    /// `operator`
    Operator,
}

impl FromStr for Ask {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "operator" => Ok(Self::Operator),
            _ => word.parse().map(Self::Desktop).map_err(|why| format!("{why}, or `operator`")),
        }
    }
}

impl Ask {
    /// Opens it; operators are asked as soon as they have a route.
    pub fn open(self, operators: &OperatorDesktop, document: &Arc<ApprovalsDocument>) -> Box<dyn Desktop> {
        match self {
            Self::Desktop(backend) => backend.open(document),
            Self::Operator => Box::new(operators.clone()),
        }
    }
}

/// Where the gateway is and what we show it.
pub struct Route {
    /// The app's gateway.
    pub endpoint: Endpoint,
    /// Shared secret, read for each connection.
    pub credentials: CredentialSource,
    /// Pinned gateway keys.
    pub pins: Arc<GatewayPins>,
}

/// The operators of a gateway; unset until the app knows whether it has one.
#[derive(Clone, Default)]
pub struct OperatorDesktop(Arc<OnceLock<Option<Arc<Route>>>>);

impl OperatorDesktop {
    /// The app serves its exec socket before it has a gateway; from now on it has this one, or none.
    pub fn set_route(&self, route: Option<Arc<Route>>) {
        let _ = self.0.set(route);
    }
}

impl Desktop for OperatorDesktop {
    fn ask(&self, question: &Question, _place: Place, withdrawn: &Wake) -> Answer {
        if question.kind != Kind::Command {
            return Answer::Nobody("only somebody at this machine is asked that".to_owned());
        }
        // The protocol has no word for "although I cannot see what it runs".
        if let Some(why) = &question.unbound {
            return Answer::Nobody(format!(
                "no answer can be bound to what it runs ({why}), so only somebody at this machine can allow it, or an \
                 allowlist entry"
            ));
        }
        // A name of our own: the requester's could be another question's, here or at the gateway (A164).
        let id = random::uuid();
        say(&id, question);
        let mut backoff = Backoff::default();
        loop {
            let asked = match self.0.get() {
                Some(Some(route)) => route.ask_once(&id, question, withdrawn),
                Some(None) => return Answer::Nobody("the app has no gateway whose operators it could ask".to_owned()),
                None => Asked::Lost("the app is starting".to_owned()),
            };
            let pause = match asked {
                Asked::Answered(answer) => return answer,
                Asked::Lost(why) => {
                    log!("app", "approval {id} has no answer yet: {why}; asking again");
                    backoff.pause()
                }
            };
            let left = question.deadline.instant().saturating_duration_since(Instant::now());
            if !matches!(reconnect::wait(pause.min(left), withdrawn), Ok(Waited::Through | Waited::Jumped)) {
                return Answer::Withdrawn;
            }
            if question.deadline.passed(Now::read()) {
                return Answer::TimedOut;
            }
        }
    }

    fn has_person(&self) -> bool {
        false
    }
}

enum Asked {
    Answered(Answer),
    /// Nobody has answered yet, and the connection is gone or never was.
    Lost(String),
}

/// Why a route leads nowhere now.
pub struct NoConnection {
    /// In words.
    pub why: String,
    /// Nothing changes by itself.
    pub is_final: bool,
}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> Self {
        Self { why: error.to_string(), is_final: false }
    }
}

impl From<CallError> for NoConnection {
    fn from(error: CallError) -> Self {
        let is_final = matches!(&error, CallError::Refused(error) if error.retryable != Some(true));
        Self { why: error.to_string(), is_final }
    }
}

/// A gateway that is away may come back; one that refuses us will not change its mind.
impl From<ConnectError> for NoConnection {
    fn from(error: ConnectError) -> Self {
        Self { why: error.to_string(), is_final: !matches!(reconnect::after(&error), Next::Retry(_)) }
    }
}

impl Route {
    /// Logs in as the owner's own tools do, without a device, for these scopes.
    ///
    /// # Errors
    /// See [`NoConnection`].
    pub fn open(
        &self,
        client: ClientInfo,
        scopes: &[&str],
        caps: &[&str],
        on_event: EventHandler,
    ) -> Result<Connection, NoConnection> {
        self.may_show_secret().map_err(|why| NoConnection { why, is_final: true })?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let options = ConnectOptions {
            client,
            role: Role::Operator,
            scopes: words(scopes),
            surface: Surface { caps: words(caps), ..Surface::default() },
            path_env: None,
            credentials: (self.credentials)(),
            device: None,
            pins: Some(Arc::clone(&self.pins)),
        };
        Ok(Connection::open(&self.endpoint, &options, on_event)?)
    }

    /// One connection for one question: with it goes the record, so that no answer finds a
    /// question that nobody asks any more (A163).
    fn ask_once(&self, id: &str, question: &Question, withdrawn: &Wake) -> Asked {
        let connection = match self.open(operator_client(), &[scope::APPROVALS], &[], Box::new(|_, _, _| {})) {
            Ok(connection) => connection,
            Err(NoConnection { why, is_final: false }) => return Asked::Lost(why),
            Err(NoConnection { why, .. }) => {
                return Asked::Answered(Answer::Nobody(format!("operators cannot be asked: {why}")));
            }
        };
        let asked = thread::scope(|scope| {
            let over = CloseOnDrop(&connection);
            let watch = || close_at_end(&connection, question, withdrawn);
            let watcher = thread::Builder::new()
                .name("operator-watch".into())
                .stack_size(limits::PEER_STACK_BYTES)
                .spawn_scoped(scope, watch);
            let asked = match watcher {
                Ok(_) => decision(&connection, id, question),
                Err(error) => Err(CallError::Ended(error.to_string())),
            };
            drop(over);
            asked
        });
        match asked {
            _ if withdrawn.is_fired() => Asked::Answered(Answer::Withdrawn),
            _ if question.deadline.passed(Now::read()) => Asked::Answered(Answer::TimedOut),
            Ok(Value::Null) => Asked::Answered(Answer::TimedOut),
            Ok(word) => Asked::Answered(match word.as_str().and_then(Decision::from_word) {
                Some(Decision::AllowAlways) if question.allow_always.is_err() => Answer::Decided(Decision::Deny),
                Some(decision) => Answer::Decided(decision),
                None => Answer::Nobody("the gateway's answer is not a decision".to_owned()),
            }),
            Err(CallError::Refused(error)) if error.retryable != Some(true) => {
                Asked::Answered(Answer::Nobody(format!("the gateway does not take the question: {error}")))
            }
            Err(error) => Asked::Lost(error.to_string()),
        }
    }

    /// Another program may hold the port by now.
    fn may_show_secret(&self) -> Result<(), String> {
        let Endpoint::Tcp { port, .. } = self.endpoint else { return Ok(()) };
        let pinned = attach::is_pinned(&self.pins, port).map_err(|error| error.to_string())?;
        attach::check(port, pinned).map_err(|held| held.to_string())
    }
}

/// How the app introduces itself where it shows what others ask.
pub fn operator_name() -> ClientInfo {
    ClientInfo { display_name: Some(format!("openclaw app on {}", process::host_name())), ..operator_client() }
}

/// Keeps a connection up: does `session`, from login to its end, again and again until `stop` fires or the gateway
/// refuses for good. `what` is said to be shown here later, or not at all.
pub fn keep_up(what: &str, standing: &Standing, stop: &Wake, mut session: impl FnMut() -> Result<Ended, NoConnection>) {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    while !stop.is_fired() {
        let since = Instant::now();
        let pause = match session() {
            Ok(ended) => {
                standing.lost(&ended.reason);
                said.clear();
                backoff.pause_after(&ended, since.elapsed())
            }
            Err(NoConnection { why, is_final }) => {
                standing.lost(&why);
                let then = if is_final { "not shown here" } else { "shown here later" };
                let text = format!("{what} is {then}: {why}");
                if said != text {
                    log!("app", "{text}");
                    said = text;
                }
                if is_final {
                    return;
                }
                backoff.pause()
            }
        };
        if !matches!(reconnect::wait(pause, stop), Ok(Waited::Through | Waited::Jumped)) {
            return;
        }
    }
}

/// Closes the connection when the work is done, on every way out; that ends the watcher too.
struct CloseOnDrop<'a>(&'a Link);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close(1000, "");
    }
}

/// Waits for the end of the connection, and brings it about when the question is over first.
fn close_at_end(link: &Link, question: &Question, withdrawn: &Wake) {
    loop {
        let ends = [(link.over_fd(), Interest::Readable), (withdrawn.fd(), Interest::Readable)];
        let waited = poll::wait(&ends, Some(question.deadline.next_look()));
        let over = waited.is_err() || withdrawn.is_fired() || question.deadline.passed(Now::read());
        if over || link.ended().is_some() {
            return link.close(1000, "");
        }
    }
}

/// Asks, and waits for the word: null when nobody has said one in time.
fn decision(link: &Link, id: &str, question: &Question) -> Result<Value, CallError> {
    let left = question.deadline.instant().saturating_duration_since(Instant::now());
    let unavailable: &[&str] = if question.allow_always.is_ok() { &[] } else { &[Decision::AllowAlways.word()] };
    let request = json!({
        "id": id,
        "command": question.command,
        "host": "gateway",
        "cwd": question.cwd,
        "agentId": question.agent,
        "sessionKey": question.session,
        "resolvedPath": question.executable,
        "warningText": warning(question),
        "unavailableDecisions": unavailable,
        "timeoutMs": u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
        "twoPhase": true,
        "requireDeliveryRoute": false,
    });
    link.call("exec.approval.request", &request, limits::REQUEST_DEADLINE)?;
    // A little longer than the record lives: its end is the answer.
    let answer = link.call("exec.approval.waitDecision", &json!({"id": id}), left + Duration::from_secs(1))?;
    let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
    // A gateway that names no decision has not decided anything.
    Ok(answer.get("decision").cloned().unwrap_or_default())
}

/// What else a person should know, one fact a line.
fn warning(question: &Question) -> String {
    let from = format!("requester: {}", text::visible(&question.requester));
    let sets = question.env.iter().map(|variable| format!("sets {}", text::visible(variable)));
    let notes = question.notes.iter().map(|note| text::visible(note));
    std::iter::once(from).chain(sets).chain(notes).collect::<Vec<_>>().join("\n")
}

/// The id and the whole command, once; in as many lines as it takes.
fn say(id: &str, question: &Question) {
    log!("app", "approval {id} waits; answer with: openclaw mac-debug approvals allow-once|deny {id}");
    let shown = text::visible(&question.command);
    let mut rest = shown.as_str();
    while !rest.is_empty() {
        let piece = text::prefix(rest, LOGGED_BYTES);
        log!("app", "approval {id} command: {piece}");
        rest = rest.get(piece.len()..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::queue::tests::question;

    /// A108: the protocol's words promise what cannot be kept here, so no operator is asked.
    #[test]
    fn sec_a108_what_cannot_be_bound_is_not_for_operators() {
        let operators = OperatorDesktop::default();
        let unbound = Some("its code is in Makefile".to_owned());
        let unbound = Question { unbound, ..question("q", Duration::from_secs(30)) };
        let answer = operators.ask(&unbound, Place { number: 1, of: 1 }, &Wake::new().unwrap());
        let Answer::Nobody(why) = answer else { panic!("{answer:?}") };
        assert!(why.contains("Makefile") && why.contains("at this machine") && why.contains("allowlist"), "{why}");
    }
}
