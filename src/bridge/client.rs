//! The other end: finds a host that does what is wanted, else does it in this process. Source: spec
//! peekaboo-bridge §1, §3, §7.

use super::host::{deadline_of_call, refusal};
use super::operations::{Job, Operations};
use super::socket_of;
use crate::limits;
use crate::protocol::peekaboo::coding::decode;
use crate::protocol::peekaboo::types::{
    ClientIdentity, ErrorCode, Failure, Handshake, HandshakeAnswer, HostKind, Version,
};
use crate::protocol::peekaboo::{Operation, Request, Response, VERSION};
use crate::protocol::text;
use crate::sys::connect::connect_unix;
use crate::sys::{process, socket};
use crate::transport::stream::Stream;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A place where a host may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose it is: `Peekaboo.app`, … or the override.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
}

/// Where hosts are looked for, the preferred one first; only `chosen`, if that is given.
pub fn candidates(home: &Path, own: &Path, chosen: Option<&Path>) -> Vec<Candidate> {
    if let Some(socket) = chosen {
        return vec![Candidate { name: "the given socket".to_owned(), socket: socket.to_owned() }];
    }
    let app = |name: &str| Candidate { name: format!("{name}.app"), socket: socket_of(name, home) };
    let ours = Candidate { name: "OpenClaw.app".to_owned(), socket: own.to_owned() };
    vec![app("Peekaboo"), app("Claude"), ours]
}

/// Why a host did not answer as it should.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// There is no socket.
    Missing,
    /// There is a socket and nobody serves it.
    Dead,
    /// Another user's program serves there.
    Foreign,
    /// Nothing came in time.
    Timeout,
    /// The answer, or the request, has too many bytes.
    TooLarge,
    /// It closed without an answer: it wants no such client.
    Silent,
    /// The answer is no answer.
    Garbled(String),
    /// The system's refusal.
    Io(String),
    /// What it said itself.
    Refused(Failure),
    /// It answers, and does not do what is wanted.
    Lacks(Operation),
    /// It does it in principle, without the permission at present.
    NotPermitted(Operation),
}

impl Trouble {
    /// A person can do something about it: what.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Dead => Some("the app that made the socket is gone; start it again"),
            Self::Silent => Some("the host lets only programs in that its team has signed"),
            Self::Refused(failure) if failure.code == ErrorCode::UnauthorizedClient => {
                Some("the host lets only programs in that an allowed team has signed")
            }
            Self::NotPermitted(_) => Some(
                "grant the host what it lacks in System Settings, Privacy & Security (`openclaw bridge permissions`)",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not running (no socket)"),
            Self::Dead => f.write_str("nobody serves its socket"),
            Self::Foreign => f.write_str("another user's program serves its socket; nothing was sent"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLarge => write!(f, "more than {} MiB", limits::BRIDGE_MESSAGE_BYTES >> 20),
            Self::Silent => f.write_str("closed the connection without an answer"),
            Self::Garbled(what) => write!(f, "its answer makes no sense: {}", text::visible(what)),
            Self::Io(error) => f.write_str(error),
            Self::Refused(failure) => {
                let code = serde_json::to_value(failure.code).ok();
                let code = code.as_ref().and_then(serde_json::Value::as_str).unwrap_or("internalError");
                write!(f, "{code}: {}", text::visible(&failure.message))
            }
            Self::Lacks(operation) => write!(f, "does not offer {operation}"),
            Self::NotPermitted(operation) => match operation.permission() {
                Some(permission) => write!(f, "has not been granted {permission}, which {operation} needs"),
                None => write!(f, "does not permit {operation} at present"),
            },
        }
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::ConnectionRefused => Self::Dead,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Silent,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// One request to the host at `socket`, answered within `limit`. An error of the host is one here.
///
/// # Errors
/// See [`Trouble`].
pub fn call(socket: &Path, request: &Request, limit: Duration) -> Result<Response, Trouble> {
    let text = serde_json::to_vec(request).map_err(|error| Trouble::Garbled(error.to_string()))?;
    if text.len() > limits::BRIDGE_MESSAGE_BYTES {
        return Err(Trouble::TooLarge);
    }
    let stream = connect_unix(socket, limits::BRIDGE_CONNECT_DEADLINE.min(limit))?;
    if socket::peer_uid(stream.as_fd()).ok() != Some(process::effective_uid()) {
        return Err(Trouble::Foreign);
    }
    let stream = Stream::unix(stream);
    // A host that refuses before it has read everything closes on us: its answer may still be there.
    let written = stream.write_until(&text, Instant::now() + limit);
    stream.shutdown(Shutdown::Write);
    let answer = read(&stream, Instant::now() + limit)?;
    if answer.is_empty() {
        written?;
        return Err(Trouble::Silent);
    }
    match decode(&answer).map_err(|error| Trouble::Garbled(error.to_string()))? {
        Response::Error(failure) => Err(Trouble::Refused(failure)),
        response if request.operation().is_some_and(|operation| !operation.is_answered_by(&response)) => {
            Err(Trouble::Garbled("it answers something else than was asked".to_owned()))
        }
        response => Ok(response),
    }
}

fn read(stream: &Stream, deadline: Instant) -> Result<Vec<u8>, Trouble> {
    let (mut answer, mut piece) = (Vec::new(), vec![0_u8; 64 * 1024]);
    loop {
        match stream.read_until(&mut piece, deadline)? {
            0 => return Ok(answer),
            count if answer.len() + count > limits::BRIDGE_MESSAGE_BYTES => return Err(Trouble::TooLarge),
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// Who we say we are. No bundle and no team: where they count, the host reads them from our signature.
pub fn identity() -> ClientIdentity {
    ClientIdentity {
        process_identifier: i32::try_from(std::process::id()).unwrap_or_default(),
        bundle_identifier: None,
        team_identifier: None,
        hostname: Some(process::host_name()).filter(|name| !name.is_empty()),
    }
}

/// Shakes hands; with an older host in its version, trying each down to 1.0. Source: spec §3
///
/// # Errors
/// See [`Trouble`]; if no version suits, the first refusal.
pub fn shake_hands(socket: &Path, limit: Duration) -> Result<HandshakeAnswer, Trouble> {
    let mut first = None;
    for minor in (0..=VERSION.minor).rev() {
        let protocol_version = Version { minor, ..VERSION };
        let handshake = Handshake { protocol_version, client: identity(), requested_host_kind: None };
        match call(socket, &Request::Handshake(handshake), limit) {
            Ok(Response::Handshake(answer)) => return Ok(answer),
            Ok(_) => return Err(Trouble::Garbled("it answers something else than a handshake".to_owned())),
            Err(Trouble::Refused(failure)) if failure.code == ErrorCode::VersionMismatch => {
                first.get_or_insert(Trouble::Refused(failure));
            }
            Err(other) => return Err(other),
        }
    }
    Err(first.unwrap_or(Trouble::Silent))
}

/// What a look at one candidate gave.
pub type Probe = (Candidate, Result<HandshakeAnswer, Trouble>);

/// Whether this host does `operation`, and may at present.
fn fitness(answer: &HandshakeAnswer, operation: Operation) -> Result<(), Trouble> {
    if !answer.supported_operations.contains(&operation) {
        return Err(Trouble::Lacks(operation));
    }
    match &answer.enabled_operations {
        Some(enabled) if !enabled.contains(&operation) => Err(Trouble::NotPermitted(operation)),
        _ => Ok(()),
    }
}

/// Who does what is asked.
pub enum Chosen {
    /// A host, and what it said of itself.
    Remote(Candidate, HandshakeAnswer),
    /// This process.
    Local,
}

/// Everything needed to have operations done.
pub struct Client {
    /// Where hosts may be.
    pub candidates: Vec<Candidate>,
    /// How long one answer may take; else what the protocol says.
    pub limit: Option<Duration>,
    /// This process's own desktop.
    pub local: Operations,
}

/// How this process is called where it lacks a permission.
const HOLDER: &str = "the program that this was started from (on macOS for example Terminal)";

impl Client {
    /// Asks all candidates who they are.
    pub fn probe(&self) -> Vec<Probe> {
        let limit = self.limit.unwrap_or(limits::BRIDGE_CALL_DEADLINE);
        self.candidates.iter().map(|one| (one.clone(), shake_hands(&one.socket, limit))).collect()
    }

    /// The first candidate that does `operation`, looked for one after the other; then this process.
    pub fn choose(&self, operation: Operation) -> (Chosen, Vec<(Candidate, Trouble)>) {
        let limit = self.limit.unwrap_or(limits::BRIDGE_CALL_DEADLINE);
        let mut passed = Vec::new();
        for candidate in &self.candidates {
            let answer = shake_hands(&candidate.socket, limit);
            match answer.and_then(|answer| fitness(&answer, operation).map(|()| answer)) {
                Ok(answer) => return (Chosen::Remote(candidate.clone(), answer), passed),
                Err(trouble) => passed.push((candidate.clone(), trouble)),
            }
        }
        (Chosen::Local, passed)
    }

    /// Has `request` done by whom [`Client::choose`] found.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn perform(&self, chosen: &Chosen, request: Request) -> Result<Response, Trouble> {
        let Some(operation) = request.operation() else { return Err(Trouble::Garbled("a handshake".to_owned())) };
        match chosen {
            Chosen::Remote(candidate, _) => {
                call(&candidate.socket, &request, self.limit.unwrap_or(deadline_of_call(operation)))
            }
            Chosen::Local => match self.local.perform(request, &Job::default()) {
                Ok(Response::Error(failure)) => Err(Trouble::Refused(failure)),
                Ok(response) => Ok(response),
                Err(cause) => Err(Trouble::Refused(refusal(operation, &cause, HOLDER))),
            },
        }
    }

    /// What this process could say of itself, were it a host.
    pub fn local_handshake(&self) -> HandshakeAnswer {
        self.local.introduce(VERSION, HostKind::InProcess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    /// A host that answers each connection with what `answer` makes of the request; its socket.
    fn host(answer: impl Fn(&str) -> String + Send + 'static) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("oc-bc-{}-{number}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut request) = (stream.unwrap(), String::new());
                stream.read_to_string(&mut request).unwrap();
                let _ = stream.write_all(answer(&request).as_bytes());
            }
        });
        path
    }

    fn greeting(minor: i64, supported: &str, enabled: &str) -> String {
        format!(
            r#"{{"handshake":{{"_0":{{"negotiatedVersion":{{"major":1,"minor":{minor}}},"hostKind":"gui",
            "supportedOperations":[{supported}],"enabledOperations":[{enabled}]}}}}}}"#
        )
    }

    const SHORT: Duration = Duration::from_secs(5);

    #[test]
    fn an_older_host_is_spoken_to_in_its_version_and_may_know_operations_that_we_do_not() {
        let old = host(|request| {
            if request.contains(r#""minor":3"#) {
                return greeting(3, r#""captureScreen","laterOperation""#, r#""captureScreen""#);
            }
            r#"{"error":{"_0":{"code":"versionMismatch","message":"no"}}}"#.to_owned()
        });
        let answer = shake_hands(&old, SHORT).unwrap();
        assert_eq!((answer.negotiated_version.minor, answer.supported_operations), (3, vec![Operation::CaptureScreen]));
        let never = host(|_| r#"{"error":{"_0":{"code":"versionMismatch","message":"2.0 only"}}}"#.to_owned());
        assert!(matches!(shake_hands(&never, SHORT), Err(Trouble::Refused(failure)) if failure.message == "2.0 only"));
    }

    #[test]
    fn the_first_host_that_does_it_is_chosen_and_each_other_one_has_its_reason() {
        let with = |name: &str, socket: PathBuf| Candidate { name: name.to_owned(), socket };
        let silent = host(|_| String::new());
        let garbled = host(|_| "{}".to_owned());
        let stranger = host(|_| r#"{"error":{"_0":{"code":"unauthorizedClient","message":"m"}}}"#.to_owned());
        let poor = host(|_| greeting(7, r#""click""#, r#""click""#));
        let denied = host(|_| greeting(7, r#""captureScreen""#, ""));
        let good = host(|_| greeting(7, r#""captureScreen""#, r#""captureScreen""#));
        let dead = host(|_| String::new());
        std::fs::remove_file(&dead).unwrap();
        drop(UnixListener::bind(&dead).unwrap());
        let candidates = vec![
            with("missing", PathBuf::from("/nowhere/bridge.sock")),
            with("dead", dead),
            with("silent", silent),
            with("garbled", garbled),
            with("stranger", stranger),
            with("poor", poor),
            with("denied", denied),
            with("good", good),
        ];
        let local = Operations::new(crate::desktop::automation::open());
        let client = Client { candidates, limit: Some(SHORT), local };
        let (chosen, passed) = client.choose(Operation::CaptureScreen);
        assert!(matches!(chosen, Chosen::Remote(candidate, _) if candidate.name == "good"));
        let reasons: Vec<&Trouble> = passed.iter().map(|(_, trouble)| trouble).collect();
        assert!(
            matches!(
                reasons.as_slice(),
                [
                    Trouble::Missing,
                    Trouble::Dead,
                    Trouble::Silent,
                    Trouble::Garbled(_),
                    Trouble::Refused(_),
                    Trouble::Lacks(Operation::CaptureScreen),
                    Trouble::NotPermitted(Operation::CaptureScreen)
                ]
            ),
            "{reasons:?}"
        );
        assert!(matches!(client.choose(Operation::ListDockItems).0, Chosen::Local));
    }

    #[test]
    fn an_answer_of_another_case_is_none() {
        let odd = host(|_| r#"{"ok":{}}"#.to_owned());
        let asked = Request::PermissionsStatus(());
        assert!(matches!(call(&odd, &asked, SHORT), Err(Trouble::Garbled(_))));
        let slow = host(|_| {
            thread::sleep(Duration::from_secs(3));
            String::new()
        });
        assert_eq!(call(&slow, &asked, Duration::from_millis(100)), Err(Trouble::Timeout));
    }
}
