//! The node's way to the app: one request over the exec socket. Source: spec gateway §8, exec (b).
//!
//! A failure here is an answer of its own. The command is never run by the node instead: what did
//! not come back may have run already.

use crate::exec::progress::Listener;
use crate::identity::envelope::{answer_is_proven, request_mac};
use crate::identity::random;
use crate::identity::secret::{Secret, SecretSource};
use crate::limits;
use crate::protocol::exec_host::{AnswerLine, ExecAnswer, ExecEnvelope, ExecError, exec_line, parse_answer};
use crate::protocol::node::{RunRequest, RunResult};
use crate::protocol::text;
use crate::sys::clock::wall_ms;
use crate::sys::connect::connect_unix;
use crate::sys::poll::{self, Interest, deadline_in};
use crate::sys::wake::Wake;
use crate::sys::{process, socket};
use crate::transport::line::{LineError, LineReader};
use crate::transport::stream::Stream;
use data_encoding::HEXLOWER;
use std::fmt;
use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a stranger's message that we repeat.
const QUOTED_BYTES: usize = 200;

/// Whose app serves the socket: `--exec-host-peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecHostPeer {
    /// Our app: its answers carry a proof, and we wait as long as it may take (H02, A123).
    Ours,
    /// The original's app: no proof, and 20 s for everything.
    Official,
}

/// Why nothing is known of the command. On the wire all of these are
/// `COMPANION_APP_UNAVAILABLE: macOS app exec host unreachable`.
#[derive(Debug)]
pub enum HostUnreachable {
    /// Something that we may not talk to lies at the path (A121).
    Unsafe(PathBuf, &'static str),
    /// There is no token to sign with.
    Token(String),
    /// The request is longer than the app reads, bytes.
    RequestTooLong(usize),
    /// The connection could not be made or broke.
    Io(PathBuf, io::Error),
    /// The process behind the socket belongs to this user id.
    Stranger(u32),
    /// It closed without an answer.
    Closed,
    /// It sent an answer longer than we read.
    AnswerTooLong,
    /// It sent an answer that is neither a result nor an error.
    Useless,
    /// Its answer carries no valid proof that it knows the token; what it said.
    Unproven(String),
    /// No answer in this time.
    TooSlow(Duration),
    /// The caller wants no answer any more; the app stops the command.
    Cancelled,
}

impl fmt::Display for HostUnreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsafe(path, what) => write!(f, "{} {what}; nothing was sent to it", path.display()),
            Self::Token(why) => write!(f, "the exec socket's token cannot be used: {why}"),
            Self::RequestTooLong(bytes) => {
                write!(f, "the request has {bytes} bytes and the app reads {}", limits::EXEC_LINE_BYTES)
            }
            Self::Io(path, error) => write!(f, "{}: {error}; is `openclaw app` running?", path.display()),
            Self::Stranger(uid) => write!(f, "a program of user {uid} serves the exec socket; nothing was sent to it"),
            Self::Closed => f.write_str("the app closed the connection without an answer"),
            Self::AnswerTooLong => write!(f, "the app's answer is longer than {} bytes", limits::EXEC_ANSWER_BYTES),
            Self::Useless => f.write_str("the app's answer is neither a result nor an error"),
            Self::Unproven(said) => write!(
                f,
                "the program behind the exec socket did not prove that it is our app (it said: {said}); \
                 with the original's app use --exec-host-peer official"
            ),
            Self::TooSlow(limit) => write!(f, "the app gave no answer in {} ms", limit.as_millis()),
            Self::Cancelled => f.write_str("the request was cancelled"),
        }
    }
}

impl std::error::Error for HostUnreachable {}

/// The client of one exec socket.
pub struct ExecHostClient {
    socket: PathBuf,
    token: SecretSource,
    peer: ExecHostPeer,
}

impl ExecHostClient {
    /// A client of the app that serves `socket`. Nothing is opened yet.
    pub fn new(socket: PathBuf, token: SecretSource, peer: ExecHostPeer) -> Self {
        Self { socket, token, peer }
    }

    /// Has the app run `request` and waits for its answer: at most `at_most`, else [`patience`].
    /// The connection is closed when this returns, which makes the app stop what still goes on.
    /// `listener` hears what the command prints, from our own app.
    ///
    /// # Errors
    /// The outer error says that the app could not be asked; the inner one is the app's refusal.
    pub fn run(
        &self,
        request: &RunRequest,
        cancel: &Wake,
        at_most: Option<Duration>,
        listener: Option<Listener<'_>>,
    ) -> Result<Result<RunResult, ExecError>, HostUnreachable> {
        let limit = at_most.unwrap_or_else(|| patience(self.peer, request));
        let deadline = deadline_in(limit).ok_or(HostUnreachable::TooSlow(limit))?;
        let token = self.token()?;
        let listener = listener.filter(|_| self.peer == ExecHostPeer::Ours);
        let envelope = envelope(&token, &RunRequest { progress: listener.is_some(), ..request.clone() });
        let line = exec_line(&envelope);
        if line.len() > limits::EXEC_LINE_BYTES {
            return Err(HostUnreachable::RequestTooLong(line.len()));
        }
        let stream = self.connect()?;
        let sent_by = deadline.min(Instant::now() + limits::EXEC_LINE_DEADLINE);
        stream.write_until(line.as_bytes(), sent_by).map_err(|error| self.io(error))?;
        stream.shutdown(Shutdown::Write);
        let (line, answer) = self.answer(&stream, cancel, deadline, limit, listener)?;
        if self.peer == ExecHostPeer::Ours && !answer_is_proven(&token, &envelope.nonce, &line) {
            return Err(HostUnreachable::Unproven(quoted(&answer)));
        }
        Ok(answer.outcome)
    }

    fn token(&self) -> Result<Secret, HostUnreachable> {
        let token = (self.token)().map_err(HostUnreachable::Token)?;
        if token.expose_text().trim().is_empty() {
            return Err(HostUnreachable::Token("it is empty".to_owned()));
        }
        Ok(token)
    }

    /// A connection to a process of our own user; nothing was sent yet.
    fn connect(&self) -> Result<Stream, HostUnreachable> {
        check_path(&self.socket)?;
        let stream = connect_unix(&self.socket, limits::EXEC_LINE_DEADLINE).map_err(|error| self.io(error))?;
        let uid = socket::peer_uid(stream.as_fd()).map_err(|error| self.io(error))?;
        if uid != process::effective_uid() {
            return Err(HostUnreachable::Stranger(uid));
        }
        Ok(Stream::unix(stream))
    }

    /// The first line that is an answer. Blank lines, other types and broken JSON are skipped.
    fn answer(
        &self,
        stream: &Stream,
        cancel: &Wake,
        deadline: Instant,
        limit: Duration,
        listener: Option<Listener<'_>>,
    ) -> Result<(String, ExecAnswer), HostUnreachable> {
        let mut reader = LineReader::new(stream, limits::EXEC_ANSWER_BYTES);
        loop {
            // What has arrived, without waiting; then a wait that the cancel ends too.
            match reader.next_line(Instant::now()) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    match parse_answer(&line) {
                        AnswerLine::Skip => {}
                        AnswerLine::Progress(chunk) => {
                            if let Some(listener) = listener {
                                listener(&chunk);
                            }
                        }
                        AnswerLine::Useless => return Err(HostUnreachable::Useless),
                        AnswerLine::Answer(answer) => return Ok((line, answer)),
                    }
                }
                Err(LineError::Ended(_)) => return Err(HostUnreachable::Closed),
                Err(LineError::TooLong) => return Err(HostUnreachable::AnswerTooLong),
                Err(LineError::Io(error)) => return Err(self.io(error)),
                Err(LineError::TooSlow) => {
                    let ends = [(cancel.fd(), Interest::Readable), (stream.as_fd(), Interest::Readable)];
                    poll::wait(&ends, Some(deadline)).map_err(|error| self.io(error))?;
                }
            }
            if cancel.is_fired() {
                return Err(HostUnreachable::Cancelled);
            }
            if Instant::now() >= deadline {
                return Err(HostUnreachable::TooSlow(limit));
            }
        }
    }

    fn io(&self, error: io::Error) -> HostUnreachable {
        HostUnreachable::Io(self.socket.clone(), error)
    }
}

/// How long an answer may take: the command's own limit and a person's time to answer (A123), or
/// what the original's client allows.
fn patience(peer: ExecHostPeer, request: &RunRequest) -> Duration {
    match peer {
        ExecHostPeer::Official => limits::EXEC_CLIENT_DEADLINE,
        ExecHostPeer::Ours => {
            let run = request.timeout_ms.map_or(limits::RUN_TIMEOUT_MAX, Duration::from_millis);
            run.min(limits::RUN_TIMEOUT_MAX)
                + limits::PROMPT_DEADLINE
                + limits::KILL_GRACE
                + limits::DRAIN_LIMIT
                + limits::EXEC_LINE_DEADLINE
        }
    }
}

/// The signed request. `requestJson` has the real client's members in its order.
fn envelope(token: &Secret, request: &RunRequest) -> ExecEnvelope {
    let request_json = serde_json::to_string(request).unwrap_or_default();
    let nonce = HEXLOWER.encode(&random::bytes::<16>());
    let ts = wall_ms();
    let hmac = request_mac(token, &nonce, ts, &request_json);
    ExecEnvelope { id: random::uuid(), nonce, ts, hmac, request_json }
}

/// The socket and its directory must be ours, and nobody else may be able to replace the socket.
fn check_path(path: &Path) -> Result<(), HostUnreachable> {
    let bad = |what| HostUnreachable::Unsafe(path.to_path_buf(), what);
    let io = |error| HostUnreachable::Io(path.to_path_buf(), error);
    let us = process::effective_uid();
    let socket = fs::symlink_metadata(path).map_err(io)?;
    if !socket.file_type().is_socket() {
        return Err(bad("is not a socket"));
    }
    if socket.uid() != us {
        return Err(bad("belongs to another user"));
    }
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/"))).map_err(io)?;
    if directory.uid() != us || directory.permissions().mode() & 0o022 != 0 {
        return Err(bad("lies in a directory that others can change"));
    }
    Ok(())
}

fn quoted(answer: &ExecAnswer) -> String {
    let said = match &answer.outcome {
        Ok(_) => "a result",
        Err(error) => text::prefix(&error.message, QUOTED_BYTES),
    };
    text::visible(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::envelope::prove_answer;
    use crate::protocol::exec_host::{Request, parse_line};
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const TOKEN: &str = "a-token-of-some-length";

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("oc-c-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        directory
    }

    fn client(path: &Path) -> ExecHostClient {
        let token = Box::new(|| Ok(Secret::new(TOKEN.to_owned())));
        ExecHostClient::new(path.to_path_buf(), token, ExecHostPeer::Ours)
    }

    fn request() -> RunRequest {
        RunRequest { command: vec!["true".into()], ..RunRequest::default() }
    }

    fn run(client: &ExecHostClient) -> Result<Result<RunResult, ExecError>, HostUnreachable> {
        client.run(&request(), &Wake::new().unwrap(), Some(Duration::from_secs(5)), None)
    }

    /// H02: a program that took the socket's path cannot make up an outcome, good or bad.
    #[test]
    fn sec_h02_an_answer_without_proof_is_no_answer() {
        let directory = scratch("h02");
        let path = directory.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let good = r#"{"type":"exec-res","ok":true,"payload":{"success":true,"stdout":"x"}}"#;
        let bad = r#"{"type":"exec-res","ok":false,"error":{"code":"UNAVAILABLE","message":"no\u001b[2J"}}"#;
        let key = Secret::new(TOKEN.to_owned());
        let other = Secret::new("another-token-of-some-length".to_owned());
        type Proof = Option<(Secret, Option<&'static str>)>;
        // (answer, the key and nonce of its proof, whether it counts)
        let cases: Vec<(&str, Proof, bool)> = vec![
            (good, None, false),
            (bad, None, false),
            (good, Some((other, None)), false),
            (good, Some((key.copy(), Some("another nonce"))), false),
            (good, Some((key.copy(), None)), true),
            (bad, Some((key, None)), true),
        ];
        for (answer, proof, counts) in cases {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (stream, _) = listener.accept().unwrap();
                    let mut line = String::new();
                    BufReader::new(&stream).read_line(&mut line).unwrap();
                    let Ok(Request::Exec(envelope)) = parse_line(line.trim_end().as_bytes()) else { panic!("{line}") };
                    let answer = match &proof {
                        Some((key, nonce)) => prove_answer(key, nonce.unwrap_or(&envelope.nonce), answer),
                        None => answer.to_owned(),
                    };
                    (&stream).write_all(format!("\n{answer}\n").as_bytes()).unwrap();
                });
                match run(&client(&path)) {
                    Ok(outcome) => assert!(counts && outcome.is_ok() == (answer == good), "{answer}"),
                    Err(HostUnreachable::Unproven(said)) => assert!(!counts && !said.contains('\u{1b}'), "{said}"),
                    other => panic!("{other:?}"),
                }
            });
        }
        fs::remove_dir_all(directory).unwrap();
    }

    /// A121 and exec b.5: nothing is sent to what somebody else may have put at the path.
    #[test]
    fn sec_a121_the_path_is_checked_before_anything_is_sent() {
        let directory = scratch("a121");
        let (real, link, file) = (directory.join("real"), directory.join("link"), directory.join("file"));
        let listener = UnixListener::bind(&real).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&link, &file, &directory] {
            assert!(matches!(run(&client(path)), Err(HostUnreachable::Unsafe(..))), "{}", path.display());
        }
        assert!(matches!(run(&client(&directory.join("none"))), Err(HostUnreachable::Io(..))));
        let no_token = ExecHostClient::new(real.clone(), Box::new(|| Err("mode 0644".into())), ExecHostPeer::Ours);
        assert!(matches!(run(&no_token), Err(HostUnreachable::Token(why)) if why == "mode 0644"));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o722)).unwrap();
        assert!(matches!(run(&client(&real)), Err(HostUnreachable::Unsafe(..))));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody connected");
        fs::remove_dir_all(directory).unwrap();
    }

    /// A123: the wait follows the command's own limit; the original's client has one for everything.
    #[test]
    fn sec_a123_the_client_waits_as_long_as_the_command_may_take() {
        let minute = RunRequest { timeout_ms: Some(60_000), ..request() };
        let most = RunRequest { timeout_ms: Some(u64::MAX), ..request() };
        assert!(patience(ExecHostPeer::Ours, &minute) > Duration::from_secs(60) + limits::PROMPT_DEADLINE);
        assert!(patience(ExecHostPeer::Ours, &request()) > limits::RUN_TIMEOUT_MAX);
        assert!(patience(ExecHostPeer::Ours, &most) < limits::RUN_TIMEOUT_MAX * 2);
        assert_eq!(patience(ExecHostPeer::Official, &minute), Duration::from_secs(20));
    }

    #[test]
    fn a_cancel_ends_the_wait_and_closes_the_connection() {
        let directory = scratch("cancel");
        let path = directory.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let cancel = Wake::new().unwrap();
        let client = client(&path);
        thread::scope(|scope| {
            let running = scope.spawn(|| client.run(&request(), &cancel, None, None));
            let (stream, _) = listener.accept().unwrap();
            cancel.fire();
            assert!(matches!(running.join().unwrap(), Err(HostUnreachable::Cancelled)));
            let never = Wake::new().unwrap();
            let gone = poll::wait_gone(stream.as_fd(), &never, deadline_in(Duration::from_secs(5))).unwrap();
            assert_eq!(gone, poll::Gone::Peer);
        });
        fs::remove_dir_all(directory).unwrap();
    }
}
