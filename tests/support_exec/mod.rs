//! What the tests of the app and of the exec side share beyond `support`: the app as a process, a
//! raw client of the exec socket, `mac-debug`, documents, and a look at the process table.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this module")]

mod desk;

pub use desk::Desk;

use crate::support::{Finished, Process, Pty, TempDir, openclaw, signal, wait_until};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an answer of the exec socket may take: longer than any run in these tests.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of our own with a home and, once something makes it, a state directory.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        let dir = TempDir::new();
        make_dir(&dir.join("home"));
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The state directory that tests use unless they are about another one.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path that only a command which should not have run would create.
    pub fn canary(&self) -> PathBuf {
        self.0.join("canary")
    }

    /// `openclaw` with these arguments, in our directory, with our home and state directory.
    pub fn openclaw(&self, arguments: &[&str]) -> Command {
        let mut command = openclaw(self.path());
        command.env("HOME", self.join("home")).env("OPENCLAW_STATE_DIR", self.state()).args(arguments);
        command
    }

    /// [`Scratch::openclaw`], started by a program that comes before it on the command line: a shell
    /// with `-c '…; exec "$0" "$@"'`, a tracer.
    pub fn openclaw_under(&self, starter: &[&str], arguments: &[&str]) -> Command {
        let ours = self.openclaw(arguments);
        let mut command = Command::new(starter[0]);
        command.args(&starter[1..]).arg(ours.get_program()).args(ours.get_args());
        command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.path()).stdin(std::process::Stdio::null());
        command
    }

    /// Writes the approvals document as its owner would.
    pub fn approvals(&self, document: &Value) -> PathBuf {
        let state = self.state();
        if !state.exists() {
            make_dir(&state);
        }
        let path = state.join("exec-approvals.json");
        write_private(&path, serde_json::to_string_pretty(document).unwrap().as_bytes());
        path
    }

    /// Changes the document that is there, and keeps the token.
    pub fn edit_approvals(&self, edit: impl FnOnce(&mut Map<String, Value>)) {
        let mut document: Value = serde_json::from_slice(&fs::read(self.approvals_path()).unwrap()).unwrap();
        edit(document.as_object_mut().unwrap());
        self.approvals(&document);
    }

    pub fn approvals_path(&self) -> PathBuf {
        self.state().join("exec-approvals.json")
    }

    /// `openclaw mac-debug …`, not started yet.
    pub fn mac_debug_command(&self, arguments: &[&str]) -> Command {
        self.openclaw(&[&["mac-debug"], arguments].concat())
    }

    /// `openclaw mac-debug …` to its end.
    pub fn mac_debug(&self, arguments: &[&str]) -> Finished {
        Process::run(self.mac_debug_command(arguments))
    }
}

/// A command that makes the canary.
pub fn touch(scratch: &Scratch) -> Value {
    json!({"command": [program("touch"), scratch.canary()]})
}

/// The members of `change` in the place of those in `request`.
pub fn amended(request: &Value, change: &Value) -> Value {
    let mut changed = request.clone();
    changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    changed
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory that only we may enter.
pub fn make_dir(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}

/// A file that only we may read, written from the start.
pub fn write_private(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The file that a program's name stands for, all links resolved.
pub fn program(name: &str) -> String {
    let found = ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("no {name} on this machine"));
    fs::canonicalize(found).unwrap().to_str().unwrap().to_owned()
}

/// An approvals document in which these programs run without a question, for every agent.
pub fn allowing(programs: &[&str]) -> Value {
    let entries: Vec<Value> = programs.iter().map(|name| json!({ "pattern": program(name) })).collect();
    json!({ "version": 1, "agents": { "*": { "allowlist": entries } } })
}

/// An approvals document in which everything runs without a question.
pub fn allowing_everything() -> Value {
    json!({ "version": 1, "defaults": { "security": "full", "ask": "off" } })
}

/// Nothing may appear at `path` in the two seconds after the answer.
pub fn stays_absent(path: &Path) {
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(!path.exists(), "{} was created: something ran that should not have", path.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end of something that may take longer than the usual deadline.
pub fn finish_within(mut process: Process, patience: Duration) -> Finished {
    let end = Instant::now() + patience;
    while process.ended().is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    process.finish()
}

/// Both outputs, for messages and for looking for words.
pub fn words_of(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

/// [`Process::run`] for something that must fail and give a reason.
pub fn must_fail(command: Command, what: &str) -> String {
    let mut process = Process::spawn(command);
    let status = wait_until(&format!("a refused start: {what}"), || process.ended());
    let finished = process.finish();
    assert!(status.code().is_some_and(|code| code != 0), "{what}: {finished:?}");
    assert!(!finished.stderr.trim().is_empty(), "{what}: no reason given");
    assert!(!finished.stderr.contains("panicked"), "{what}: {}", finished.stderr);
    words_of(&finished)
}

/// One line of the process table.
#[derive(Clone, Debug)]
pub struct Row {
    pub pid: u32,
    pub command: String,
}

/// Every process that lives; zombies are not counted.
fn processes() -> Vec<Row> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,stat=,args="]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            if words.next()?.starts_with('Z') {
                return None;
            }
            Some(Row { pid, command: words.collect::<Vec<_>>().join(" ") })
        })
        .collect()
}

/// Processes with `marker` among their arguments.
pub fn processes_named(marker: &str) -> Vec<Row> {
    processes().into_iter().filter(|process| process.command.contains(marker)).collect()
}

/// A number of seconds to sleep that no other process on this machine sleeps.
pub fn sleep_marker() -> String {
    format!("600.{:05}{:03}", std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed) % 1_000)
}

/// Ends what a test left running on purpose.
pub fn kill_named(marker: &str) {
    for process in processes_named(marker) {
        signal(process.pid, libc::SIGKILL);
    }
}

pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// True if this machine has the program; otherwise says that a test is left out, and why.
pub fn have(tool: &str, test: &str) -> bool {
    let found = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(tool).exists());
    if !found {
        eprintln!("{test}: left out, because {tool} is not installed here");
    }
    found
}

// ---- the app ----

/// A running `openclaw app`; ended politely when dropped, so that nothing of it is left.
pub struct App {
    process: Process,
    socket: PathBuf,
}

impl App {
    /// Starts it without anybody to ask and without TCP, and waits until it serves.
    pub fn start(scratch: &Scratch) -> Self {
        Self::start_with(scratch, scratch.openclaw(APP))
    }

    /// Starts this command and waits until the app says that it is ready.
    pub fn start_with(scratch: &Scratch, command: Command) -> Self {
        let mut app = Self::spawn(scratch, command);
        wait_until("a ready app", || {
            assert!(app.is_alive(), "the app ended: {}", app.log());
            app.log().contains("app: ready;").then_some(())
        });
        app
    }

    /// Starts this command and waits for nothing.
    pub fn spawn(scratch: &Scratch, command: Command) -> Self {
        Self { process: Process::spawn(command), socket: exec_socket(scratch) }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        format!("{}{}", self.process.stdout(), self.process.stderr())
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end, after a signal or by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        wait_until("the end of the app", || self.process.ended())
    }

    pub fn signal(&self, number: i32) {
        self.process.signal(number);
    }

    /// A client of its exec socket.
    pub fn exec(&self, scratch: &Scratch) -> Exec {
        Exec::of(scratch)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if self.is_alive() {
            self.process.signal(libc::SIGTERM);
            let end = Instant::now() + Duration::from_secs(5);
            while self.is_alive() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if thread::panicking() {
            eprintln!("--- log of the app ---\n{}", self.log());
        }
    }
}

/// Arguments of an app that asks nobody and is reached over Unix sockets only.
pub const APP: &[&str] = &["app", "--ask", "none", "--no-tcp"];

/// Where the exec socket lies.
pub fn exec_socket(scratch: &Scratch) -> PathBuf {
    scratch.state().join("exec-approvals.sock")
}

/// An app that asks on a terminal of its own; serves already.
pub fn app_on_terminal(scratch: &Scratch) -> Pty {
    let mut terminal = Pty::spawn(scratch.openclaw(&["app", "--ask", "terminal", "--no-tcp"]));
    wait_until("the exec socket", || {
        terminal.watch(Duration::from_millis(10));
        UnixStream::connect(exec_socket(scratch)).ok()
    });
    terminal
}

/// The token in the approvals document.
pub fn socket_token(scratch: &Scratch) -> String {
    let document: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    document["socket"]["token"].as_str().expect("a token in the approvals document").to_owned()
}

/// Waits until the local node can be invoked.
pub fn wait_for_node(scratch: &Scratch) {
    wait_until("the app's node at its gateway", || {
        (scratch.mac_debug(&["invoke", "system.which", r#"{"bins":["ls"]}"#]).code == Some(0)).then_some(())
    });
}

// ---- the exec socket ----

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Lower-case hex HMAC-SHA256.
pub fn hmac_hex(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 hex digits that were not there before.
pub fn fresh_nonce() -> String {
    format!("{:016x}{:08x}{:08x}", now_ms(), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What came back from the socket.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The first line that is not blank, if there was one.
    pub value: Option<Value>,
    /// Blank lines before it.
    pub blanks: usize,
    /// Whether it proves that the answerer has the token (H02).
    pub proven: bool,
}

impl Reply {
    pub fn value(&self) -> &Value {
        self.value.as_ref().expect("an answer, not a closed connection")
    }

    /// The payload of a run that took place.
    pub fn ran(&self) -> &Value {
        let value = self.value();
        assert_eq!(value["ok"], json!(true), "{value}");
        assert!(self.proven, "the answer carries no proof: {value}");
        &value["payload"]
    }

    /// The error of a request that was refused with this code.
    pub fn refused(&self, code: &str) -> &Value {
        let value = self.value();
        assert_eq!(value["type"], json!("exec-res"), "{value}");
        assert_eq!(value["ok"], json!(false), "{value}");
        assert_eq!(value["error"]["code"], json!(code), "{value}");
        assert!(!value["error"]["message"].as_str().unwrap().is_empty(), "{value}");
        &value["error"]
    }

    /// Closed without a word, or an error: nothing was done.
    pub fn is_refusal(&self) -> bool {
        self.value.as_ref().is_none_or(|value| value["ok"] == json!(false))
    }
}

/// A client of the exec socket, written from the protocol's text.
#[derive(Clone)]
pub struct Exec {
    pub socket: PathBuf,
    pub token: String,
}

impl Exec {
    /// A client of the app whose state directory this is.
    pub fn of(scratch: &Scratch) -> Self {
        Self { socket: exec_socket(scratch), token: socket_token(scratch) }
    }

    /// The members of a correctly signed `exec` line.
    pub fn signed(&self, request_json: &str) -> Map<String, Value> {
        self.signed_at(request_json, &fresh_nonce(), now_ms())
    }

    /// [`Exec::signed`] with this nonce and time.
    pub fn signed_at(&self, request_json: &str, nonce: &str, ts: i64) -> Map<String, Value> {
        let line = json!({
            "type": "exec",
            "id": format!("id-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            "nonce": nonce,
            "ts": ts,
            "hmac": hmac_hex(&self.token, &format!("{nonce}:{ts}:{request_json}")),
            "requestJson": request_json,
        });
        line.as_object().unwrap().clone()
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
        stream
    }

    /// Sends a line as the official client does (half-close behind it) and reads the answer.
    pub fn send(&self, line: &Map<String, Value>) -> Reply {
        let nonce = line.get("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.send_bytes(format!("{}\n", Value::Object(line.clone())).as_bytes(), &nonce)
    }

    /// Sends these bytes, half-closes, and reads the answer to `nonce`.
    pub fn send_bytes(&self, bytes: &[u8], nonce: &str) -> Reply {
        let mut stream = self.connect();
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        self.read_reply(&mut stream, nonce)
    }

    /// Reads to the first line that is not blank, or to the end.
    pub fn read_reply(&self, stream: &mut UnixStream, nonce: &str) -> Reply {
        let mut bytes = Vec::new();
        let mut blanks = 0;
        let mut piece = [0; 4096];
        loop {
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let line = std::str::from_utf8(&line).expect("UTF-8").trim_end();
                if line.is_empty() {
                    blanks += 1;
                    continue;
                }
                let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                return Reply { value: Some(value), blanks, proven: self.is_proven(line, nonce) };
            }
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
                Err(error) => panic!("no answer from the exec socket: {error}"),
            }
        }
        assert!(bytes.is_empty(), "an unterminated line: {}", String::from_utf8_lossy(&bytes));
        Reply { value: None, blanks, proven: false }
    }

    fn is_proven(&self, line: &str, nonce: &str) -> bool {
        let Some((open, tail)) = line.rsplit_once(",\"mac\":\"") else { return false };
        tail == format!("{}\"}}", hmac_hex(&self.token, &format!("res:{nonce}:{open}")))
    }

    /// A correctly signed request.
    pub fn request(&self, request: &Value) -> Reply {
        self.send(&self.signed(&request.to_string()))
    }

    /// A correctly signed request for this command.
    pub fn run(&self, argv: &[&str]) -> Reply {
        self.request(&json!({ "command": argv }))
    }

    /// The good request that must work after every case.
    pub fn assert_works(&self) {
        let reply = self.run(&[&program("echo"), "still here"]);
        assert_eq!(reply.ran()["stdout"], json!("still here\n"));
    }
}
