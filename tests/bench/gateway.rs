//! The release binary as a server in a throw-away state directory, and connections to it.

use crate::Outcome;
use crate::floor::TRUE;
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_openclaw");

/// A server that is not up by then has failed.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Between two tries to connect to a server that is starting.
const RETRY: Duration = Duration::from_micros(200);
/// Longest wait for one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Of an operator's connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The shared secret of the throw-away gateway, which lives as long as this run.
pub const TOKEN: &str = "bench-token-0123456789abcdef";

/// A directory that goes away with it.
pub struct Scratch(PathBuf);

/// A state directory with configuration and policy, not started yet.
pub struct Prepared {
    state: Scratch,
    port: u16,
}

/// A running server; dropped, it is ended and its directory removed.
pub struct Server {
    child: Child,
    prepared: Prepared,
}

impl Server {
    /// A new state directory: the gateway on a free port, and a policy that allows [`TRUE`].
    pub fn prepare() -> Outcome<Prepared> {
        let state = Scratch::new()?;
        let prepared = Prepared { port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(), state };
        let auth = json!({"mode": "token", "token": TOKEN});
        prepared.write("openclaw.json", &json!({"gateway": {"mode": "local", "port": prepared.port, "auth": auth}}))?;
        let program = fs::canonicalize(TRUE)?;
        let agents = json!({"*": {"allowlist": [{"pattern": program}]}});
        prepared.write("exec-approvals.json", &json!({"version": 1, "agents": agents}))?;
        Ok(prepared)
    }

    /// Prepares and spawns.
    pub fn start(subcommand: &str, flags: &[&str]) -> Outcome<Self> {
        Self::prepare()?.spawn(subcommand, flags)
    }

    /// What its commands are kept from, from now on.
    pub fn fence(&self, level: &str) -> Outcome<()> {
        let mut command = Command::new(BINARY);
        command.args(["mac-debug", "approvals", "fence", level]).stdout(Stdio::null());
        let done = command.env("OPENCLAW_STATE_DIR", self.prepared.state.path()).status()?;
        if done.success() { Ok(()) } else { Err(format!("the fence {level} was not set").into()) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An operator without a device, as the official command line connects; waits while the server is starting.
    pub fn operator(&self) -> Outcome<Client> {
        self.connect(|_| {
            json!({
                "minProtocol": 4,
                "maxProtocol": 4,
                "client": {"id": "cli", "version": "bench", "platform": std::env::consts::OS, "mode": "cli"},
                "role": "operator",
                "scopes": ["operator.read", "operator.write"],
                "auth": {"token": TOKEN},
            })
        })
    }

    /// A connection that has got its `hello-ok`; `params` answers the challenge.
    pub fn connect(&self, params: impl FnOnce(&Value) -> Value) -> Outcome<Client> {
        let started = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", self.prepared.port)) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > START_DEADLINE => {
                    return Err(format!("the server did not come up: {error}").into());
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        };
        Client::connect(stream, self.prepared.port, params)
    }
}

impl Prepared {
    /// Starts `openclaw SUBCOMMAND FLAGS…` with nothing of the caller's configuration.
    pub fn spawn(self, subcommand: &str, flags: &[&str]) -> Outcome<Server> {
        let mut command = Command::new(BINARY);
        command.arg(subcommand).args(flags).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(self.state.path().join("bench.log"))?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OPENCLAW_")) {
            command.env_remove(name);
        }
        command.env("OPENCLAW_STATE_DIR", self.state.path());
        Ok(Server { child: command.spawn()?, prepared: self })
    }

    /// A document in the state directory.
    pub fn write(&self, name: &str, document: &Value) -> Outcome<()> {
        let path = self.state.path().join(name);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(file.write_all(document.to_string().as_bytes())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scratch {
    /// A new directory, which only we may enter.
    pub fn new() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("openclaw-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let scratch = Self(Path::new("/tmp").join(name)); // short: a Unix socket's path is limited
        fs::create_dir(&scratch.0)?;
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700))?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes of the two frames of one call, for a relay of the same size.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Operator to gateway.
    pub request: usize,
    /// Gateway to operator.
    pub answer: usize,
}

/// One `node.invoke`, written down once: building its text for each call would count our own work
/// into the gateway's time.
pub struct Invocation(String);

impl Invocation {
    /// `params` is an object without `idempotencyKey`.
    pub fn new(params: &Value) -> Self {
        Self(params.to_string().split_off(1))
    }
}

/// A connection that has logged in.
pub struct Client {
    socket: WebSocket<TcpStream>,
    calls: u64,
}

impl Client {
    fn connect(stream: TcpStream, port: u16, params: impl FnOnce(&Value) -> Value) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        // The default buffer is zero-filled on every read, 128 KiB: our own work in the gateway's time.
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let url = format!("ws://127.0.0.1:{port}/");
        let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))?;
        let mut client = Self { socket, calls: 0 };
        let challenge = client.frame_of("event")?;
        client.call("connect", &params(&serde_json::from_str(&challenge)?))?;
        Ok(client)
    }

    /// The id of the one node that is connected with `system.run` approved; waits while it is joining.
    pub fn own_node(&mut self) -> Outcome<String> {
        let started = Instant::now();
        loop {
            let listed = self.call("node.list", &json!({}))?;
            let nodes = listed.pointer("/payload/nodes").and_then(Value::as_array);
            let ready = nodes.into_iter().flatten().find(|node| {
                let commands = node.get("commands").and_then(Value::as_array);
                node.get("connected") == Some(&Value::Bool(true))
                    && commands.is_some_and(|all| all.contains(&Value::from("system.run")))
            });
            if let Some(id) = ready.and_then(|node| node.get("nodeId")).and_then(Value::as_str) {
                return Ok(id.to_owned());
            }
            if started.elapsed() > START_DEADLINE {
                return Err(format!("the app's own node did not join: {listed}").into());
            }
            std::thread::sleep(RETRY);
        }
    }

    /// One `node.invoke`, from sending to its answer.
    pub fn invoke(&mut self, call: &Invocation) -> Outcome<()> {
        self.send_invoke(call)?;
        self.good_answer().map(drop)
    }

    /// `count` invocations with `in_flight` under way.
    pub fn pipeline(&mut self, call: &Invocation, count: usize, in_flight: usize) -> Outcome<()> {
        for _ in 0..in_flight.min(count) {
            self.send_invoke(call)?;
        }
        for answered in 1..=count {
            self.good_answer()?;
            if answered + in_flight <= count {
                self.send_invoke(call)?;
            }
        }
        Ok(())
    }

    /// The bytes of one invocation's two frames.
    pub fn sizes(&mut self, call: &Invocation) -> Outcome<Sizes> {
        let request = self.send_invoke(call)?;
        Ok(Sizes { request, answer: self.good_answer()?.len() })
    }

    fn call(&mut self, method: &str, params: &Value) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.call_text(method, params)?)?)
    }

    /// One request; the text of its answer.
    pub fn call_text(&mut self, method: &str, params: &Value) -> Outcome<String> {
        self.calls += 1;
        let id = self.calls.to_string();
        self.send(json!({"type": "req", "id": id, "method": method, "params": params}).to_string())?;
        self.good_answer()
    }

    fn send_invoke(&mut self, call: &Invocation) -> Outcome<usize> {
        self.calls += 1;
        let (number, rest) = (self.calls, &call.0);
        self.send(format!(
            r#"{{"type":"req","id":"{number}","method":"node.invoke","params":{{"idempotencyKey":"bench-{number}",{rest}}}"#
        ))
    }

    /// Sends a text frame; returns its bytes.
    pub fn send(&mut self, frame: String) -> Outcome<usize> {
        let bytes = frame.len();
        self.socket.send(Message::text(frame))?;
        Ok(bytes)
    }

    fn good_answer(&mut self) -> Outcome<String> {
        let frame = self.frame_of("res")?;
        // Read as text: parsing each answer would count our own work into the gateway's time.
        let good = frame.contains("\"ok\":true") && !frame.contains("\"ok\":false");
        if good { Ok(frame) } else { Err(format!("the gateway refused: {frame}").into()) }
    }

    /// From now on a read waits until there is something.
    pub fn wait_for_ever(&self) -> Outcome<()> {
        Ok(self.socket.get_ref().set_read_timeout(None)?)
    }

    /// From now on a read takes what is there and does not wait.
    pub fn never_wait(&self) -> Outcome<()> {
        Ok(self.socket.get_ref().set_nonblocking(true)?)
    }

    /// Reads what has come, answers pings; false once the connection has ended.
    pub fn discard(&mut self) -> bool {
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    /// The next frame of this type; events in between are passed over.
    pub fn frame_of(&mut self, kind: &str) -> Outcome<String> {
        let wanted = format!("\"type\":\"{kind}\"");
        loop {
            match self.socket.read()? {
                Message::Text(text) if text.contains(&wanted) => return Ok(text.to_string()),
                Message::Close(frame) => return Err(format!("the gateway closed: {frame:?}").into()),
                _ => {}
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Reads exactly `bytes` bytes and drops them.
pub fn discard(stream: &mut impl Read, buffer: &mut Vec<u8>, bytes: usize) -> std::io::Result<()> {
    buffer.resize(bytes, 0);
    stream.read_exact(buffer)
}
