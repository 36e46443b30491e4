//! A running gateway of our own.

use super::client::{Client, Connect};
use super::process::{Finished, Process, openclaw};
use super::temp::{TempDir, free_port, wait_until};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

/// The shared token of every gateway that a test starts, unless its configuration names another.
pub const TOKEN: &str = "tok-test-0123456789abcdef0123456789abcdef";

/// How to start one.
pub struct Options {
    state: Rc<TempDir>,
    config: Option<Value>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    tcp: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state: Rc::new(TempDir::new()),
            config: Some(json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": TOKEN}}})),
            arguments: Vec::new(),
            environment: Vec::new(),
            tcp: true,
        }
    }
}

impl Options {
    /// Uses a state directory that is already there.
    pub fn state(mut self, state: &Rc<TempDir>) -> Self {
        self.state = Rc::clone(state);
        self
    }

    /// Writes exactly this `openclaw.json`.
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
        self
    }

    /// Writes no `openclaw.json`, leaves the one that is there.
    pub fn no_config(mut self) -> Self {
        self.config = None;
        self
    }

    /// New devices have to be approved, also local ones.
    pub fn manual_pairing(self) -> Self {
        self.config(json!({"gateway": {
            "mode": "local",
            "auth": {"mode": "token", "token": TOKEN},
            "nodes": {"pairing": {"autoApproveLocal": false}},
        }}))
    }

    /// One more argument behind `gateway run --port P`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only the Unix socket (`--no-tcp`).
    pub fn no_tcp(mut self) -> Self {
        self.tcp = false;
        self
    }

    /// Writes the configuration and returns the command that would start it on `port`.
    pub fn command(&self, port: u16) -> Command {
        if let Some(config) = &self.config {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(self.state.join("openclaw.json"))
                .unwrap();
            file.write_all(config.to_string().as_bytes()).unwrap();
        }
        let mut command = openclaw(self.state.path());
        command.args(["gateway", "run"]);
        if self.tcp {
            command.arg("--port").arg(port.to_string());
        } else {
            command.arg("--no-tcp");
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for its end: for starts that must fail.
    pub fn run_to_end(&self) -> Finished {
        Process::run(self.command(free_port()))
    }
}

/// A gateway process; killed when dropped.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Its TCP port; 0 without TCP.
    pub port: u16,
    /// Its state directory.
    pub state: Rc<TempDir>,
}

impl Gateway {
    /// Starts one with the shared token [`TOKEN`] and silent pairing of local devices.
    pub fn new() -> Self {
        Self::start(Options::default())
    }

    /// Starts one and waits until it listens; prints its standard error when it does not.
    pub fn start(options: Options) -> Self {
        // Another process may take the free port before the gateway does.
        for _ in 0..4 {
            let port = if options.tcp { free_port() } else { 0 };
            let mut process = Process::spawn(options.command(port));
            let socket = options.state.join("gateway.sock");
            let up = wait_until("the gateway listens or ends", || {
                let unix = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
                let tcp = || !options.tcp || TcpStream::connect(("127.0.0.1", port)).is_ok();
                if process.ended().is_some() {
                    return Some(false);
                }
                (unix() && tcp()).then_some(true)
            });
            if up {
                return Self { process, port, state: Rc::clone(&options.state) };
            }
            let stderr = process.finish().stderr;
            assert!(stderr.contains("in use") || stderr.contains("already"), "the gateway ended:\n{stderr}");
        }
        panic!("no free port in four tries");
    }

    /// `<state>/gateway.sock`.
    pub fn socket(&self) -> PathBuf {
        self.state.join("gateway.sock")
    }

    /// A device-less owner session with all the scopes that Part 1 uses.
    pub fn owner(&self) -> Client {
        Client::login(
            self,
            &Connect::backend(&["operator.admin", "operator.read", "operator.write", "operator.pairing"]),
        )
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(self) -> Finished {
        self.process.signal(libc::SIGTERM);
        self.process.finish()
    }

    /// Asserts that it still answers a good request.
    pub fn assert_alive(&mut self) {
        assert!(self.process.ended().is_none(), "the gateway ended:\n{}", self.process.stderr());
        let health = Client::login(self, &Connect::cli(&[])).request("health", json!({})).unwrap();
        assert!(health.is_object(), "{health}");
    }

    /// A `mac-debug` command against this gateway's state directory, not started yet.
    pub fn mac_debug(&self, arguments: &[&str]) -> Command {
        let mut command = openclaw(self.state.path());
        command.arg("mac-debug").args(arguments);
        command
    }

    /// Approves the pending surface of `node_id` through a fresh owner session.
    pub fn approve_surface(&self, node_id: &str) -> Value {
        let mut owner = self.owner();
        let id = self.pending_surface(&mut owner, node_id);
        owner.request("node.pair.approve", json!({"requestId": id})).unwrap()
    }

    /// The request id of the pending surface of `node_id`.
    pub fn pending_surface(&self, owner: &mut Client, node_id: &str) -> String {
        wait_until("a pending surface", || {
            let list = owner.request("node.pair.list", json!({})).unwrap();
            let row = list["pending"].as_array().unwrap().iter().find(|row| row["nodeId"] == node_id)?.clone();
            Some(row["requestId"].as_str().unwrap().to_owned())
        })
    }
}
