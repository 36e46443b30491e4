//! The exec socket's server: one request a connection, checked in the order peer, line, JSON, type,
//! time, HMAC, replay, request; then decided, run and answered. Source: spec exec (b), mac-app 1.12.

use super::peers::Peers;
use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::exec::progress::Listener;
use crate::identity::envelope::{prove_answer, request_mac_is};
use crate::identity::random;
use crate::identity::replay::{Freshness, ReplayGuard};
use crate::identity::secret::{Secret, SecretSource};
use crate::limits;
use crate::log;
use crate::protocol::exec_host::{
    BadLine, ExecAnswer, ExecEnvelope, ExecError, PromptRequest, Request, decision_line, parse_line, progress_line,
};
use crate::protocol::node::{RunRequest, RunResult, RunSource, parse_run};
use crate::protocol::policy::{Decision, Refusal};
use crate::sys::clock::{Expiry, Now};
use crate::sys::poll::{Gone, deadline_in, wait_gone};
use crate::sys::socket;
use crate::sys::wake::Wake;
use crate::sys::worker;
use crate::transport::connections::{Connection, Connections, Listening, send};
use crate::transport::lease::SocketLease;
use crate::transport::line::{LineError, LineReader};
use crate::transport::stream::Stream;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Decides about an authenticated request and runs it.
pub trait Runner: Send + Sync {
    /// Returns when the command has ended, or was refused. When `end` fires, whatever stands or
    /// runs for this request ends at once. `requester` is what the person is told, `listener` hears
    /// what the command prints.
    ///
    /// # Errors
    /// The refusal, for the caller.
    fn run(
        &self,
        request: &RunRequest,
        requester: &str,
        end: &Wake,
        listener: Option<Listener<'_>>,
    ) -> Result<RunResult, Refusal>;
}

/// What the server needs to know and to call.
pub struct Services {
    /// Whose HMACs and prompt tokens are accepted.
    pub token: SecretSource,
    /// Who runs commands.
    pub runner: Box<dyn Runner>,
    /// Who is asked when a request only asks.
    pub person: Arc<dyn Person>,
    /// Who may connect.
    pub peers: Arc<Peers>,
}

/// The name of the socket in logs.
const NAME: &str = "exec";

/// The running server. Dropping it stops it.
pub struct ExecHost {
    connections: Arc<Connections>,
    _listening: Listening,
}

impl ExecHost {
    /// Serves `lease` from now on.
    ///
    /// # Errors
    /// No descriptors or threads are left.
    pub fn start(lease: SocketLease, services: Services) -> io::Result<Self> {
        let connections = Arc::new(Connections::default());
        let server = Server {
            services,
            replay: Mutex::new(ReplayGuard::default()),
            connections: Arc::clone(&connections),
            panics: AtomicUsize::new(0),
        };
        let serve = move |stream: &Arc<Stream>, connection: &Connection| server.serve(stream, connection);
        let listening = Listening::start(NAME, lease, Arc::clone(&connections), serve)?;
        Ok(Self { connections, _listening: listening })
    }

    /// How many requests are under way.
    pub fn serving(&self) -> usize {
        self.connections.serving()
    }

    /// Takes no more requests, withdraws prompts, kills commands, answers what can be answered,
    /// and unlinks the socket.
    pub fn stop(self) {}
}

struct Server {
    services: Services,
    replay: Mutex<ReplayGuard>,
    connections: Arc<Connections>,
    panics: AtomicUsize,
}

/// One answer, and whether the requester has shown that it knows the token.
struct Reply {
    answer: ExecAnswer,
    proof: Option<(Secret, String)>,
}

impl Reply {
    fn unproven(id: Option<String>, error: ExecError) -> Self {
        Self { answer: ExecAnswer { id, outcome: Err(error) }, proof: None }
    }

    /// The line, newline included.
    fn line(&self) -> String {
        let text = self.answer.text();
        let mut line = match &self.proof {
            Some((token, nonce)) => prove_answer(token, nonce, &text),
            None => text,
        };
        line.push('\n');
        line
    }
}

impl Server {
    /// One connection, from its first byte to its last.
    fn serve(&self, stream: &Arc<Stream>, connection: &Connection) {
        // Also to a client that wanted to run something: exec b.2.
        let refuse = || send(stream, &decision_line(&random::uuid(), Decision::Deny));
        // Before anything is read (A110).
        let Some(peer) = self.services.peers.admit(NAME, stream) else { return refuse() };
        let Some(line) = read_request(stream) else { return };
        // Whoever wrote the line must be whoever was admitted. Source: spec mac-app (7.3)
        if self.services.peers.admit(NAME, stream).as_ref() != Some(&peer) {
            return refuse();
        }
        match parse_line(&line) {
            Err(BadLine::Silent) => {}
            Err(BadLine::Invalid { id, reason, message }) => {
                send(stream, &Reply::unproven(id, invalid(message, reason)).line());
            }
            Ok(Request::Exec(envelope)) => {
                let reply = self.exec(stream, connection, envelope, &peer.requester);
                send(stream, &reply.line());
            }
            Ok(Request::Prompt(prompt)) => {
                if let Some(decision) = self.prompt(stream, connection, &prompt, &peer.requester) {
                    send(stream, &decision_line(&prompt.id, decision));
                }
            }
        }
    }

    fn exec(&self, stream: &Arc<Stream>, connection: &Connection, envelope: ExecEnvelope, requester: &str) -> Reply {
        let token = match self.authenticate(&envelope) {
            Ok(token) => token,
            Err(error) => return Reply::unproven(Some(envelope.id), error),
        };
        let outcome = self
            .fresh(&envelope.nonce)
            .and_then(|()| decode(&envelope.request_json))
            .and_then(|request| self.run(stream, connection, &envelope.id, &request, requester));
        let answer = ExecAnswer { id: Some(envelope.id), outcome };
        Reply { answer, proof: Some((token, envelope.nonce)) }
    }

    /// Time, then HMAC. Source: exec b.3.
    fn authenticate(&self, envelope: &ExecEnvelope) -> Result<Secret, ExecError> {
        let off = Now::read().wall_ms.abs_diff(envelope.ts);
        if u128::from(off) > limits::EXEC_TTL.as_millis() {
            return Err(invalid("expired request", "ttl"));
        }
        let token = self.token()?;
        if request_mac_is(&token, &envelope.nonce, envelope.ts, &envelope.request_json, &envelope.hmac) {
            Ok(token)
        } else {
            Err(invalid("invalid auth", "hmac"))
        }
    }

    /// Without a usable token nobody is authenticated, and the log says why (A121).
    fn token(&self) -> Result<Secret, ExecError> {
        let usable = |token: &Secret| token.expose_text().chars().count() >= limits::EXEC_TOKEN_CHARS;
        (self.services.token)()
            .and_then(|token| if usable(&token) { Ok(token) } else { Err("it is too short".to_owned()) })
            .map_err(|why| {
                log!("app", "a request was refused, the exec socket's token cannot be used: {why}");
                invalid("invalid auth", "hmac")
            })
    }

    /// Notes the nonce; only of lines whose HMAC was right, so that a stranger cannot fill the guard.
    fn fresh(&self, nonce: &str) -> Result<(), ExecError> {
        let mut guard = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.note(nonce, Now::read()) {
            Freshness::Fresh => Ok(()),
            Freshness::Replayed => Err(invalid("replayed request", "replay")),
            Freshness::Full => Err(unavailable("too many requests at once; try again in a minute", Some("replay"))),
        }
    }

    fn run(
        &self,
        stream: &Arc<Stream>,
        connection: &Connection,
        id: &str,
        request: &RunRequest,
        requester: &str,
    ) -> Result<RunResult, ExecError> {
        let work = |watched: &Watched| {
            let listener: Listener<'_> = &|chunk| watched.send_progress(&progress_line(id, chunk));
            let listener = request.progress.then_some(listener);
            self.services.runner.run(request, requester, &watched.end, listener).map_err(refused)
        };
        let outcome = self.attend(stream, connection, work)??;
        if self.connections.is_stopping() && !outcome.success {
            return Err(unavailable("the app was stopped; the command was killed if it was running", None));
        }
        Ok(outcome)
    }

    /// Asks about a text and runs nothing. None when no person has decided: the original's client
    /// takes a close for "no decision" (mac-app 3.2).
    fn prompt(
        &self,
        stream: &Arc<Stream>,
        connection: &Connection,
        prompt: &PromptRequest,
        requester: &str,
    ) -> Option<Decision> {
        let known = self.token().is_ok_and(|token| token.matches(prompt.token.expose().as_bytes()));
        if !known {
            return Some(Decision::Deny);
        }
        let question = question(prompt, requester);
        match self.attend(stream, connection, |watched| self.services.person.ask(&question, &watched.end)) {
            Ok(Answer::Decided(decision)) => Some(decision),
            Ok(Answer::Granted(_)) => Some(Decision::AllowOnce),
            Ok(Answer::Nobody(_)) | Err(_) => Some(Decision::Deny),
            Ok(Answer::TimedOut | Answer::Withdrawn | Answer::Later) => None,
        }
    }

    /// Does `work` while somebody watches whether the requester is still there. A panic is an
    /// answer like any other; after some of them nothing is tried any more (H22).
    fn attend<T>(
        &self,
        stream: &Arc<Stream>,
        connection: &Connection,
        work: impl FnOnce(&Watched) -> T,
    ) -> Result<T, ExecError> {
        if self.panics.load(Ordering::SeqCst) >= limits::PANICS {
            return Err(unavailable("internal error: requests have failed repeatedly; restart the app", None));
        }
        let short = |error: io::Error| unavailable(&format!("the app is short of resources: {error}"), None);
        let Some(end) = connection.serve().map_err(short)? else {
            return Err(unavailable("busy: too many requests are under way; try again later", None));
        };
        let watch = Watch::start(stream, &end).map_err(short)?;
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&watch.0)));
        drop(watch);
        outcome.map_err(|_| {
            self.panics.fetch_add(1, Ordering::SeqCst);
            log!("app", "a request failed inside; it was answered as an internal error");
            unavailable("internal error; see the app's log", None)
        })
    }
}

/// Somebody who watches whether the requester is still there, until this is dropped.
struct Watch(Arc<Watched>);

struct Watched {
    stream: Arc<Stream>,
    end: Arc<Wake>,
    over: Wake,
    /// Held while a line is sent, and while that ends: none may get into another.
    speaking: Mutex<()>,
}

impl Watch {
    fn start(stream: &Arc<Stream>, end: &Arc<Wake>) -> io::Result<Self> {
        let (stream, end) = (Arc::clone(stream), Arc::clone(end));
        let watched = Arc::new(Watched { stream, end, over: Wake::new()?, speaking: Mutex::default() });
        let watch = Self(Arc::clone(&watched));
        worker::start(move || watched.watch())?;
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _speaking = self.0.speaking();
        self.0.over.fire();
    }
}

impl Watched {
    /// Fires `end` when the requester has gone: it has closed its connection, or a blank line, which
    /// clients skip, cannot be sent any more. Either sign suffices (NOTES "half-close"). Ends with `over`.
    fn watch(&self) {
        loop {
            match wait_gone(self.stream.as_fd(), &self.over, deadline_in(limits::KEEPALIVE)) {
                Ok(Gone::Woken) => return,
                Ok(Gone::Deadline) if self.is_spoken_to() => {}
                Ok(Gone::Peer | Gone::Deadline) | Err(_) => return self.end.fire(),
            }
        }
    }

    /// Sends a blank line unless it is over; false when that cannot be. A client that does not read
    /// is still there; its buffer is full of blank lines.
    fn is_spoken_to(&self) -> bool {
        let _speaking = self.speaking();
        self.over.is_fired()
            || socket::send_now(self.stream.as_fd(), b"\n")
                .map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
    }

    /// Sends a line of progress, or leaves it out when the client has not read the last one. A client
    /// that reads only half of it is taken for gone: nothing could be told to it any more.
    fn send_progress(&self, line: &str) {
        let _speaking = self.speaking();
        let line = line.as_bytes();
        // No byte sent: it is left out, or the watch notices that the client has gone.
        let sent = socket::send_now(self.stream.as_fd(), line).unwrap_or(line.len());
        let rest = line.get(sent..).unwrap_or_default();
        if self.stream.write_until(rest, Instant::now() + limits::EXEC_PROGRESS_DEADLINE).is_err() {
            self.stream.shutdown(Shutdown::Both);
            self.end.fire();
        }
    }

    fn speaking(&self) -> MutexGuard<'_, ()> {
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one line. A request whose newline is missing counts when it is whole: [`parse_line`] decides
/// that; half of one parses as nothing. What follows the line is never read.
fn read_request(stream: &Stream) -> Option<Vec<u8>> {
    match LineReader::new(stream, limits::EXEC_LINE_BYTES).next_line(Instant::now() + limits::EXEC_LINE_DEADLINE) {
        Ok(line) | Err(LineError::Ended(line)) => Some(line),
        Err(LineError::TooLong | LineError::TooSlow | LineError::Io(_)) => None,
    }
}

fn decode(request_json: &str) -> Result<RunRequest, ExecError> {
    parse_run(request_json, RunSource::Socket).map_err(|refusal| {
        // The two cases that the original's app tells apart. Source: exec b.3.
        if refusal.message == "command required" {
            refused(refusal)
        } else {
            log!("app", "a request was refused: {}", refusal.message);
            invalid("invalid payload", "json")
        }
    })
}

fn question(prompt: &PromptRequest, requester: &str) -> Question {
    let asked = &prompt.request;
    let claimed = |claim: &Option<String>| match claim {
        Some(claim) => format!("says it is \"{claim}\""),
        None => "not said".to_owned(),
    };
    Question {
        kind: Kind::Command,
        id: prompt.id.clone(),
        command: asked.command.clone(),
        executable: claimed(&asked.resolved_path),
        cwd: claimed(&asked.cwd),
        env: Vec::new(),
        agent: asked.agent_id.clone(),
        session: asked.session_key.clone(),
        requester: requester.to_owned(),
        notes: vec!["the requester only asks; this app neither checks nor runs the command".to_owned()],
        allow_always: Ok(()),
        spans: Vec::new(),
        unbound: None,
        deadline: Expiry::after(Now::read(), limits::PROMPT_DEADLINE),
    }
}

fn invalid(message: &str, reason: &str) -> ExecError {
    error("INVALID_REQUEST", message, Some(reason))
}

fn unavailable(message: &str, reason: Option<&str>) -> ExecError {
    error("UNAVAILABLE", message, reason)
}

/// On this socket a refusal by policy or person has the code UNAVAILABLE. Source: exec b.3.
fn refused(refusal: Refusal) -> ExecError {
    match refusal.code {
        "INVALID_REQUEST" => invalid(&refusal.message, refusal.reason.unwrap_or("invalid")),
        _ => unavailable(&refusal.message, refusal.reason),
    }
}

fn error(code: &str, message: &str, reason: Option<&str>) -> ExecError {
    ExecError { code: code.to_owned(), message: message.to_owned(), reason: reason.map(str::to_owned) }
}

#[cfg(test)]
mod tests;
