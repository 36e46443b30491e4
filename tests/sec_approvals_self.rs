//! What runs for an agent cannot approve itself (A75): through the app's exec socket, under a policy that
//! lets everything run, each attempt behind the fence and, so that it is known to be a real one, without.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use support::{free_port, wait_until};
use support_exec::*;

const BINARY: &str = env!("CARGO_BIN_EXE_openclaw");
/// Only an answer from outside lets this agent's commands run.
const ASKED: &str = "asked";
/// Tells this test binary, as a command of the app, which sockets to try.
const SOCKETS: &str = "SELF_SOCKETS";
/// What an attempt on the document wants to have in it.
const WANTED: &str = "/opt/wanted/*";

/// An app whose commands run unasked, and ask operators where an agent says that it is [`ASKED`].
struct Cage {
    scratch: Scratch,
    app: App,
    exec: Exec,
    url: String,
    document: Value,
    /// The approval that waits at this moment.
    id: String,
}

impl Cage {
    fn new(fence: &str) -> Self {
        let scratch = Scratch::new();
        let document = json!({"version": 1, "defaults": {"security": "full", "ask": "off", "fence": fence},
            "agents": {ASKED: {"security": "allowlist", "ask": "on-miss"}}});
        scratch.approvals(&document);
        let port = free_port().to_string();
        let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--port", &port]));
        wait_until("the gateway", || (scratch.mac_debug(&["approvals", "list"]).code == Some(0)).then_some(()));
        let exec = app.exec(&scratch);
        let document = amended(&document, &json!({"socket": {"token": exec.token}}));
        Self { scratch, app, exec, url: format!("ws://127.0.0.1:{port}"), document, id: String::new() }
    }

    /// Has somebody ask for what nobody allowed yet.
    fn question(&mut self) -> JoinHandle<Reply> {
        let request = amended(&touch(&self.scratch), &json!({"agentId": ASKED}));
        let exec = self.exec.clone();
        let asked = thread::spawn(move || exec.request(&request));
        self.id = wait_until("the question", || self.waiting().pop());
        asked
    }

    /// The approvals that wait.
    fn waiting(&self) -> Vec<String> {
        let list = self.scratch.mac_debug(&["approvals", "list", "--json"]).json();
        list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs it; what it printed and its exit code, whether it succeeded or not.
    fn run(&self, request: &Value) -> Value {
        let place = json!({"cwd": self.scratch.path(), "timeoutMs": 20_000});
        self.exec.request(&amended(request, &place)).ran().clone()
    }

    /// `<program> mac-debug …` against the true state directory.
    fn cli(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let state = self.scratch.state();
        let words = [&[program, "mac-debug", "--state-dir", text(&state)], arguments].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// The CLI under a harmless name.
    fn link(&self) -> PathBuf {
        let link = self.scratch.join("harmless");
        if !link.exists() {
            symlink(BINARY, &link).unwrap();
        }
        link
    }

    /// A document in which more may run, with the right token, where every command can read it.
    fn forged(&self) -> String {
        let mut document = self.document.clone();
        document["agents"]["*"] = json!({"allowlist": [{"pattern": WANTED}]});
        let path = self.scratch.join("forged.json");
        write_private(&path, document.to_string().as_bytes());
        text(&path).to_owned()
    }

    fn stored(&self) -> String {
        fs::read_to_string(self.scratch.approvals_path()).unwrap()
    }

    /// A file of the state directory, as somebody would name it who looks past the fence.
    fn path(&self, name: &str) -> String {
        text(&self.scratch.state().join(name)).to_owned()
    }
}

fn shell(words: &[String]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    // The substitution keeps it from being understood, so that a real shell runs it.
    vec!["sh".to_owned(), "-c".to_owned(), format!("$(echo) {}", quoted.join(" "))]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// One way out of the cage: what an agent has run, and whether it got what it wanted.
type Attempt = (&'static str, fn(&Cage) -> Vec<String>, fn(&Cage, &Value) -> bool);

fn is_answered(cage: &Cage, _ran: &Value) -> bool {
    cage.waiting().is_empty()
}

fn is_edited(cage: &Cage, _ran: &Value) -> bool {
    cage.stored().contains(WANTED)
}

fn shows(ran: &Value, secret: &str) -> bool {
    assert!(secret.len() > 16);
    ran["stdout"].as_str().unwrap().contains(secret) || ran["stderr"].as_str().unwrap().contains(secret)
}

fn gateway_token(cage: &Cage) -> String {
    let config: Value = serde_json::from_str(&fs::read_to_string(cage.path("openclaw.json")).unwrap()).unwrap();
    config["gateway"]["auth"]["token"].as_str().unwrap().to_owned()
}

fn has_a_token(cage: &Cage, ran: &Value) -> bool {
    shows(ran, &cage.exec.token) || shows(ran, &gateway_token(cage))
}

const ADD: [&str; 4] = ["approvals", "allowlist", "add", WANTED];

/// What only the fence keeps out: without one, each of them works.
#[rustfmt::skip]
const FENCED: &[Attempt] = &[
    ("the CLI answers", |cage| cage.cli(BINARY, &["approvals", "allow-once", &cage.id]), is_answered),
    ("the CLI answers for ever", |cage| cage.cli(BINARY, &["approvals", "allow-always", &cage.id]), is_answered),
    ("a shell has the CLI answer", |cage| shell(&cage.cli(BINARY, &["approvals", "allow-once", &cage.id])), is_answered),
    ("a renamed CLI answers", |cage| cage.cli(text(&cage.link()), &["approvals", "allow-once", &cage.id]), is_answered),
    ("env finds the CLI and has it answer", |cage| {
        let place = cage.link().parent().unwrap().to_owned();
        let answer = cage.cli("./harmless", &["approvals", "allow-once", &cage.id]);
        [words(&["env", "-C", text(&place)]), answer].concat()
    }, is_answered),
    ("the CLI looks at what waits", |cage| cage.cli(BINARY, &["approvals", "list"]), |cage, ran| shows(ran, &cage.id)),
    ("the CLI adds an entry", |cage| cage.cli(BINARY, &ADD), is_edited),
    ("a shell has the CLI add an entry", |cage| shell(&cage.cli(BINARY, &ADD)), is_edited),
    ("a copy over the document", |cage| words(&["cp", &cage.forged(), &cage.path("exec-approvals.json")]), is_edited),
    ("a file moved into its place", |cage| words(&["mv", &cage.forged(), &cage.path("exec-approvals.json")]), is_edited),
    ("a pipeline into the document", |cage| {
        let line = format!("cat {} | tee {}", cage.forged(), cage.path("exec-approvals.json"));
        words(&["sh", "-c", &line])
    }, is_edited),
    ("reading the socket's token", |cage| words(&["cat", &cage.path("exec-approvals.json")]), has_a_token),
    ("reading the gateway's token", |cage| words(&["cat", &cage.path("openclaw.json")]), has_a_token),
    ("reading it under the directory's other name", |cage| {
        let name = format!("{}/../{}/openclaw.json", cage.scratch.state().display(), "state");
        words(&["cat", &name])
    }, has_a_token),
];

/// Where the machine itself is another one for root: there these count among the former.
const FENCED_FROM_ROOT: &[Attempt] = &[(
    "reading it where the app sees it",
    |cage| words(&["cat", &format!("/proc/{}/root{}", cage.app.pid(), cage.path("openclaw.json"))]),
    has_a_token,
)];

/// What never works: nothing is handed on that would help.
const NEVER: &[Attempt] = &[
    ("the environment", |_| words(&["env"]), has_a_token),
    ("the environment as it was at first", |_| words(&["cat", "/proc/self/environ"]), has_a_token),
    (
        "every open descriptor",
        |_| words(&["sh", "-c", "for n in /proc/$$/fd/*; do test -p $n || cat $n; done"]),
        has_a_token,
    ),
    (
        "the gateway's port without a secret",
        |cage| words(&[BINARY, "mac-debug", "--url", &cage.url, "approvals", "allow-once", &cage.id]),
        is_answered,
    ),
];

/// Whether commands are kept from the state directory on this machine at all.
fn is_fenced(cage: &Cage) -> bool {
    let log = cage.app.log();
    let mechanism = log.lines().find_map(|line| Some(line.split_once("commands are fenced by: ")?.1.to_owned()));
    let mechanism = mechanism.expect("the app says how it fences");
    println!("sec_a75: {mechanism}");
    mechanism.starts_with("mount namespace")
}

fn make_attempts(cage: &mut Cage, attempts: &[Attempt], works: bool) {
    for (what, command, worked) in attempts {
        let question = cage.question();
        let before = cage.stored();
        let argv = command(cage);
        let ran = cage.run(&json!({"command": argv}));
        assert_eq!(worked(cage, &ran), works, "{what}: {argv:?}: {ran}");
        if !works {
            assert_eq!(cage.stored(), before, "{what}: the document changed");
            assert_eq!(cage.waiting(), [&*cage.id], "{what}: the question was answered");
            assert!(!cage.scratch.canary().exists(), "{what}");
        }
        // The owner's own CLI answers, if nobody has.
        if !cage.waiting().is_empty() {
            assert_eq!(cage.scratch.mac_debug(&["approvals", "deny", &cage.id]).code, Some(0));
            assert_eq!(question.join().unwrap().refused("UNAVAILABLE")["reason"], "user-denied", "{what}");
        } else {
            question.join().unwrap().ran();
            fs::remove_file(cage.scratch.canary()).unwrap();
        }
        if cage.stored() != before {
            cage.scratch.approvals(&cage.document);
        }
    }
}

/// A75, the CLI, the document and the tokens.
#[test]
fn sec_a75_a_command_cannot_approve_itself() {
    for level in ["state", "none"] {
        let mut cage = Cage::new(level);
        if level == "state" && !is_fenced(&cage) {
            println!("sec_a75: left out, because nothing can be hidden here");
            continue;
        }
        make_attempts(&mut cage, FENCED, level == "none");
        make_attempts(&mut cage, FENCED_FROM_ROOT, level == "none" && is_root());
        make_attempts(&mut cage, NEVER, false);
        cage.exec.assert_works();
    }
}

/// Not a test unless it is a command of the app: says to which sockets it can connect.
#[test]
fn connections_from_inside() {
    let Ok(sockets) = std::env::var(SOCKETS) else { return };
    for path in sockets.split(':') {
        println!("@{path}={}", UnixStream::connect(Path::new(path)).is_ok());
    }
}

/// A75: no socket of ours can be reached, whatever one knows.
#[test]
fn sec_a75_a_command_reaches_no_socket_of_ours() {
    for level in ["state", "none"] {
        let cage = Cage::new(level);
        if level == "state" && !is_fenced(&cage) {
            println!("sec_a75: left out, because nothing can be hidden here");
            continue;
        }
        let sockets = ["exec-approvals.sock", "gateway.sock", "mac-control.sock"].map(|name| cage.path(name));
        assert!(sockets.iter().all(|path| UnixStream::connect(path).is_ok()), "they serve");
        let own = std::env::current_exe().unwrap();
        let ran = cage.run(&json!({"command": [own, "--exact", "connections_from_inside", "--nocapture"],
            "env": {SOCKETS: sockets.join(":")}}));
        let said = ran["stdout"].as_str().unwrap();
        for path in sockets {
            assert!(said.contains(&format!("@{path}={}", level == "none")), "{level}: {path}: {ran}");
        }
    }
}
