//! The host: one request a connection. In this order: our own user, a signature that is allowed, then
//! the request is read, the same signature again, JSON, the operation, its permission, the work.
//! Source: spec peekaboo-bridge §1, §3–§5; cases A124–A132, A135.

use super::operations::{Job, Operations, needs};
use crate::desktop::automation::{self, Ability, Automation};
use crate::limits;
use crate::log;
use crate::protocol::peekaboo::coding::decode;
use crate::protocol::peekaboo::types::{ErrorCode, Failure, Handshake, HostKind, Version};
use crate::protocol::peekaboo::{Operation, Permission, Request, Response, VERSION};
use crate::sys::worker;
use crate::transport::code_identity::{CodeIdentity, Process, Unidentified};
use crate::transport::connections::{Connection, Connections, Listening, is_own_user};
use crate::transport::lease::SocketLease;
use crate::transport::stream::Stream;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whose programs may connect: one of these identifiers, signed by one of these teams. An empty list lets
/// nobody in (A127).
#[derive(Clone, Debug)]
pub struct Signers {
    /// Signing identifiers.
    pub identifiers: Vec<String>,
    /// Apple's ids of teams.
    pub teams: Vec<String>,
}

impl Default for Signers {
    /// The `peekaboo` command line tool of its makers. Our own team is not enough: every program could
    /// start our command line tool and act through it. Source: spec §4 (OpenClaw 2026.9.6)
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Self { identifiers: list(&["boo.peekaboo.peekaboo"]), teams: list(&["FWJYW4S8P8", "Y5PE65HELJ"]) }
    }
}

impl Signers {
    fn include(&self, signed: &CodeIdentity) -> bool {
        self.teams.contains(&signed.team) && self.identifiers.contains(&signed.identifier)
    }
}

/// How it is found out who signed the program at the other end.
pub type Identify = dyn Fn(&Stream) -> Result<CodeIdentity, Unidentified> + Send + Sync;

/// What a host consists of.
pub struct Options {
    /// The desktop.
    pub automation: Arc<dyn Automation>,
    /// Who may connect.
    pub signers: Signers,
    /// How that is found out: [`code_identity::of_peer`](crate::transport::code_identity::of_peer).
    pub identify: Box<Identify>,
    /// Unsigned programs of our own user may connect too: [`super::lets_unsigned_in`].
    pub lets_unsigned_in: bool,
    /// What this process is.
    pub kind: HostKind,
    /// Which app a person must grant permissions to, as it is called in System Settings.
    pub holder: String,
}

/// The name of the socket in logs.
const NAME: &str = "bridge";

/// Serves `lease` from now on, until the answer is dropped: then the socket goes, waiting requests are
/// refused and none that runs does anything more (A131).
///
/// # Errors
/// No descriptors or threads are left.
pub fn start(lease: SocketLease, options: Options) -> io::Result<Listening> {
    let connections = Arc::new(Connections::new(limits::BRIDGE_OPERATIONS));
    let operations = Arc::new(Operations::new(Arc::clone(&options.automation)));
    let host = Host {
        options,
        operations,
        connections: Arc::clone(&connections),
        reading: AtomicUsize::new(0),
        told: Mutex::default(),
    };
    Listening::start(NAME, lease, connections, move |stream, connection| host.serve(stream, connection))
}

struct Host {
    options: Options,
    operations: Arc<Operations>,
    connections: Arc<Connections>,
    /// Bytes of requests in memory.
    reading: AtomicUsize,
    /// What was said last about a refused client, and when.
    told: Mutex<Option<(String, Instant)>>,
}

/// Who is at the other end: process and signature, if any. It must be the same one before and after the
/// request was read (A126).
#[derive(PartialEq)]
struct Caller {
    process: Process,
    signed: Option<CodeIdentity>,
}

/// Bytes of a request, counted as long as they are held.
struct Held<'a> {
    bytes: Vec<u8>,
    counter: &'a AtomicUsize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

impl Host {
    /// One connection, from its first byte to its last.
    fn serve(&self, stream: &Arc<Stream>, connection: &Connection) {
        let deadline = Instant::now() + limits::BRIDGE_READ_DEADLINE;
        // Before anything is read (A129).
        let caller = match self.caller(stream) {
            Ok(caller) => caller,
            Err(why) => return self.refuse(stream, &why),
        };
        let request = match self.read(stream, deadline) {
            Ok(request) => request,
            // Too slow or too large: closed without an answer, as the original does.
            Err(Some(busy)) => return send(stream, &Response::Error(busy)),
            Err(None) => return,
        };
        if !self.caller(stream).is_ok_and(|now| now == caller) {
            return self.refuse(stream, "it became another program meanwhile");
        }
        let response = self.answer(&request.bytes, &caller, connection);
        drop(request);
        send(stream, &response);
    }

    /// Who asks, if they may.
    fn caller(&self, stream: &Stream) -> Result<Caller, String> {
        if !is_own_user(NAME, stream) {
            return Err("it is another user's program".to_owned());
        }
        let process = Process::of_peer(stream).map_err(|error| error.to_string())?;
        let pid = process.pid;
        match (self.options.identify)(stream) {
            Ok(signed) if self.options.signers.include(&signed) => Ok(Caller { process, signed: Some(signed) }),
            _ if self.options.lets_unsigned_in => Ok(Caller { process, signed: None }),
            Ok(signed) => Err(format!("process {pid} is {} of team {}", signed.identifier, signed.team)),
            Err(error) => Err(format!("process {pid}: {error}")),
        }
    }

    /// Answers at once; what the client still sends is discarded, so that a reset does not destroy the answer.
    fn refuse(&self, stream: &Stream, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.as_ref().is_some_and(|(last, at)| last == why && at.elapsed() < limits::BRIDGE_REFUSAL_LOGGED) {
            log!("bridge", "a client was refused: {why}");
            *told = Some((why.to_owned(), Instant::now()));
        }
        drop(told);
        send(stream, &unauthorized());
        stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + limits::CLOSE_GRACE;
        let (mut piece, mut count) = ([0_u8; 4096], 0);
        while let Ok(more @ 1..) = stream.read_until(&mut piece, deadline)
            && count < limits::BRIDGE_REFUSED_BYTES
        {
            count += more;
        }
    }

    /// The whole request, up to the client's half-close.
    fn read(&self, stream: &Stream, deadline: Instant) -> Result<Held<'_>, Option<Failure>> {
        let mut request = Held { bytes: Vec::new(), counter: &self.reading };
        let mut piece = [0_u8; 16 * 1024];
        loop {
            let count = stream.read_until(&mut piece, deadline).map_err(|_| None)?;
            if count == 0 {
                return Ok(request);
            }
            if request.bytes.len() + count > limits::BRIDGE_MESSAGE_BYTES {
                return Err(None);
            }
            request.bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            if self.reading.fetch_add(count, Ordering::SeqCst) + count > limits::BRIDGE_REQUEST_BYTES {
                return Err(Some(failure(ErrorCode::ServerBusy, "too many large requests at once; try again later")));
            }
        }
    }

    fn answer(&self, bytes: &[u8], caller: &Caller, connection: &Connection) -> Response {
        let request: Request = match decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                log!("bridge", "process {}: a request could not be read: {error}", caller.process.pid);
                return Response::Error(failure(ErrorCode::DecodingFailed, "the request could not be read"));
            }
        };
        match request.operation() {
            None => self.handshake(&request, caller),
            Some(operation) => {
                if operation.permission().is_some() {
                    log!("bridge", "process {} asks for {operation}", caller.process.pid);
                }
                self.perform(operation, request, bytes.len(), connection).unwrap_or_else(Response::Error)
            }
        }
    }

    fn handshake(&self, request: &Request, caller: &Caller) -> Response {
        let Request::Handshake(Handshake { protocol_version: version, client, .. }) = request else {
            return unauthorized();
        };
        if version.major != VERSION.major || !(0..=VERSION.minor).contains(&version.minor) {
            let Version { major, minor } = VERSION;
            let text = format!("this host speaks {major}.0 to {major}.{minor}");
            return Response::Error(failure(ErrorCode::VersionMismatch, &text));
        }
        // Without a signature a claim stands in for it, which can only make it worse. Source: spec §4
        let Signers { identifiers, teams } = &self.options.signers;
        let is_listed = |claim: &Option<String>, list: &Vec<String>| claim.as_ref().is_none_or(|it| list.contains(it));
        let claims_nothing_else =
            is_listed(&client.bundle_identifier, identifiers) && is_listed(&client.team_identifier, teams);
        if caller.signed.is_none() && !claims_nothing_else {
            return unauthorized();
        }
        Response::Handshake(self.operations.introduce(*version, self.options.kind))
    }

    /// Works on a thread of its own, since a desktop may hang: then this one request is answered
    /// `timeout` and the thread stays behind, counted (A130).
    fn perform(
        &self,
        operation: Operation,
        request: Request,
        bytes: usize,
        connection: &Connection,
    ) -> Result<Response, Failure> {
        if needs(operation).is_some_and(<[Ability]>::is_empty) {
            let job = Job { bytes, ..Job::default() };
            return self.operations.perform(request, &job).map_err(|error| self.failed(operation, &error));
        }
        let short = |error: io::Error| {
            log!("bridge", "short of resources: {error}");
            failure(ErrorCode::ServerBusy, "short of resources; try again later")
        };
        let busy = || failure(ErrorCode::ServerBusy, "too many operations are under way; try again later");
        let end = connection.serve().map_err(short)?.ok_or_else(busy)?;
        let job = Arc::new(Job { bytes, end: Some(Arc::clone(&end)) });
        let (said, heard) = channel();
        let operations = Arc::clone(&self.operations);
        // A thread that stays behind counts as long as it does.
        let place = self.operations.begin().ok_or_else(busy)?;
        worker::start(move || {
            let _place = place;
            let _ = said.send(operations.perform(request, &job));
        })
        .map_err(short)?;
        let deadline = Instant::now() + deadline_of(operation);
        let outcome = loop {
            let pause = deadline.saturating_duration_since(Instant::now()).min(limits::BRIDGE_LOOK_PAUSE);
            match heard.recv_timeout(pause) {
                Ok(outcome) => break outcome,
                // It panicked.
                Err(RecvTimeoutError::Disconnected) => break Err(automation::Failure::Internal("a panic".to_owned())),
                Err(RecvTimeoutError::Timeout) if self.connections.is_stopping() => {
                    return Err(failure(ErrorCode::OperationNotSupported, "the bridge was switched off"));
                }
                Err(RecvTimeoutError::Timeout) if pause.is_zero() => break Err(automation::Failure::Timeout),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        end.fire();
        outcome.map_err(|error| self.failed(operation, &error))
    }

    fn failed(&self, operation: Operation, cause: &automation::Failure) -> Failure {
        refusal(operation, cause, &self.options.holder)
    }
}

/// Why it was not done, for the wire: a backend's words may quote what was typed or what stands on the
/// screen, so they go no further than the log (A135). `holder` is the app that permissions are granted
/// to. Source of the codes: spec §5
pub fn refusal(operation: Operation, cause: &automation::Failure, holder: &str) -> Failure {
    use automation::Failure as Cause;
    let (code, message) = match cause {
        Cause::Permission(permission) => {
            let message = format!(
                "{operation} needs the permission {permission}, which {holder} has not been granted; its owner can do that in System Settings, Privacy & Security"
            );
            let permission = Some((*permission).into());
            return Failure { permission, ..failure(ErrorCode::PermissionDenied, &message) };
        }
        Cause::NotFound(_) => (ErrorCode::InternalError, "no such application, window or element".to_owned()),
        Cause::Invalid(why) => (ErrorCode::InvalidRequest, why.clone()),
        Cause::NotSupported(_) => (ErrorCode::OperationNotSupported, format!("{operation} is not possible here")),
        Cause::Timeout => (ErrorCode::Timeout, "the desktop did not answer in time".to_owned()),
        Cause::Stale(_) => {
            (ErrorCode::InvalidRequest, "SNAPSHOT_STALE: the desktop has changed since; look again".to_owned())
        }
        Cause::OwnPrompt => (ErrorCode::PermissionDenied, cause.to_string()),
        Cause::Internal(_) => {
            log!("bridge", "{operation} failed: {cause}");
            (ErrorCode::InternalError, "the operation failed; the host's log has more".to_owned())
        }
    };
    failure(code, &message)
}

/// How long an operation may take.
fn deadline_of(operation: Operation) -> Duration {
    match operation {
        Operation::DetectElements | Operation::InspectAccessibilityTree => limits::BRIDGE_DETECTION_DEADLINE,
        _ => limits::BRIDGE_OPERATION_DEADLINE,
    }
}

/// How long a client waits for its answer.
pub fn deadline_of_call(operation: Operation) -> Duration {
    match operation {
        Operation::DetectElements | Operation::InspectAccessibilityTree => limits::BRIDGE_DETECTION_CALL_DEADLINE,
        _ => limits::BRIDGE_CALL_DEADLINE,
    }
}

/// A client that has gone, or does not read, loses its answer.
fn send(stream: &Stream, response: &Response) {
    let deadline = Instant::now() + limits::BRIDGE_WRITE_DEADLINE;
    let _ = stream.write_until(&encode(response), deadline);
}

/// What is too large to be sent is an error instead.
fn encode(response: &Response) -> Vec<u8> {
    let text = serde_json::to_vec(response).unwrap_or_default();
    if (1..=limits::BRIDGE_MESSAGE_BYTES).contains(&text.len()) {
        return text;
    }
    let error = failure(ErrorCode::InternalError, "the answer is too large; ask for less");
    serde_json::to_vec(&Response::Error(error)).unwrap_or_default()
}

fn failure(code: ErrorCode, message: &str) -> Failure {
    Failure { code, message: message.to_owned(), details: None, permission: None }
}

/// Says nothing about who would be let in (A135).
fn unauthorized() -> Response {
    Response::Error(failure(ErrorCode::UnauthorizedClient, "this program may not use the bridge"))
}

impl From<Permission> for automation::Permission {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Accessibility => Self::Accessibility,
            Permission::AppleScript => Self::AppleScript,
            Permission::PostEvent => Self::EventPosting,
            Permission::ScreenRecording => Self::ScreenRecording,
        }
    }
}

impl From<automation::Permission> for Permission {
    fn from(permission: automation::Permission) -> Self {
        match permission {
            automation::Permission::Accessibility => Self::Accessibility,
            automation::Permission::AppleScript => Self::AppleScript,
            automation::Permission::EventPosting => Self::PostEvent,
            automation::Permission::ScreenRecording => Self::ScreenRecording,
        }
    }
}
