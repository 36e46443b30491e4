//! `mac-debug trace` and `replay`: what passes between a client and a gateway, without its secrets, and once more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use support::{
    Client, Connect, Device, FakeNode, Gateway, Process, Reply, Stream, Surface, TOKEN, Upgrade, mode, openclaw,
    wait_until,
};
use support_exec::{words_of, write_private};

struct Trace {
    process: Process,
    port: u16,
    file: PathBuf,
}

impl Trace {
    fn of(gateway: &Gateway) -> Self {
        let file = gateway.state.join("frames.jsonl");
        let process = Process::spawn(gateway.mac_debug(&["trace", "--out", file.to_str().unwrap()]));
        let url = wait_until("the relay's address", || {
            let said = process.stdout();
            said.strip_suffix('\n').map(str::to_owned)
        });
        Self { process, port: url.strip_prefix("ws://127.0.0.1:").unwrap().parse().unwrap(), file }
    }

    fn client(&self) -> Client {
        Client::over(Stream::tcp(self.port), &Upgrade::to(self.port))
    }

    fn lines(&self) -> Vec<Value> {
        read(&self.file)
    }

    /// Ends it as Ctrl-C does.
    fn stop(self) -> PathBuf {
        self.process.signal(libc::SIGINT);
        assert_eq!(self.process.finish().code, Some(0));
        self.file
    }
}

fn read(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn frames_of_both_directions_are_recorded_without_secrets() {
    let gateway = Gateway::new();
    let trace = Trace::of(&gateway);
    assert_eq!(mode(&trace.file), 0o600);
    // A device proves itself through it, and the gateway's proof of its key comes through, too.
    let device = Device::new();
    let mut node = trace.client();
    assert!(node.upgrade.header("openclaw-gateway").is_some());
    let hello = node.connect(&Connect::node(&device, &Surface::linux(&["system.which"]))).unwrap();
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let mut owner = trace.client();
    owner.connect(&Connect::cli(&["operator.read", "operator.write"])).unwrap();
    let long = "x".repeat(200_000);
    owner
        .request(
            "node.invoke",
            json!({"nodeId": "none", "command": "system.run", "idempotencyKey": "k",
        "params": {"command": ["ls", long], "env": {"API": "geheim-7"}, "paramsJSON": "{\"password\":\"geheim-8\"}"}}),
        )
        .unwrap_err();
    owner.request("health", json!({})).unwrap();
    drop(owner);
    wait_until("the end of that connection", || {
        trace
            .lines()
            .iter()
            .any(|line| line["frame"]["type"] == "res" && line["frame"]["payload"]["durationMs"] == 0)
            .then_some(())
    });
    drop(node);
    let file = trace.stop();
    let text = fs::read_to_string(&file).unwrap();
    for secret in [TOKEN, &device_token, "geheim-7", "geheim-8"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let lines = read(&file);
    let of = |direction: &str| lines.iter().filter(|line| line["dir"] == direction).count();
    assert!(of("toGateway") >= 5 && of("toClient") >= 6, "{}", lines.len());
    let connect = lines.iter().find(|line| line["frame"]["method"] == "connect").unwrap();
    assert_eq!(connect["frame"]["params"]["auth"]["token"], "[redacted]", "{connect}");
    assert_eq!(connect["frame"]["params"]["device"]["signature"], "[redacted]", "{connect}");
    assert!(connect["frame"]["params"]["device"]["id"].is_string() && connect["ts"].is_i64(), "{connect}");
    let invoke = lines.iter().find(|line| line["frame"]["method"] == "node.invoke").unwrap();
    assert_eq!(invoke["frame"]["params"]["params"]["command"][1].as_str().map(str::len), Some(200_000));
}

#[test]
fn what_is_no_gateway_and_what_is_there_already() {
    let gateway = Gateway::new();
    let file = gateway.state.join("there");
    write_private(&file, b"mine");
    let refused = Process::run(gateway.mac_debug(&["trace", "--out", file.to_str().unwrap()]));
    assert!(refused.code == Some(1) && refused.stderr.contains("there cannot be made"), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    // The gateway goes: who connects is let go, and the trace stays.
    let trace = Trace::of(&gateway);
    gateway.process.signal(libc::SIGKILL);
    wait_until("nobody serves", || std::os::unix::net::UnixStream::connect(gateway.socket()).is_err().then_some(()));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", trace.port)).unwrap();
    let mut said = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut said);
    assert!(said.is_empty());
    wait_until("a line about it", || {
        trace.lines().iter().any(|line| line["frame"]["failed"].is_string()).then_some(())
    });
    trace.stop();
}

/// A recording, made as `record` does, sent again to the same gateway.
fn recorded(gateway: &Gateway, record: impl FnOnce(&mut Client)) -> PathBuf {
    let trace = Trace::of(gateway);
    let mut owner = trace.client();
    owner.connect(&Connect::cli(&["operator.read", "operator.write", "operator.pairing"])).unwrap();
    record(&mut owner);
    let answered = |lines: &[Value]| lines.iter().filter(|line| line["frame"]["type"] == "res").count();
    let asked = |lines: &[Value]| lines.iter().filter(|line| line["frame"]["type"] == "req").count();
    wait_until("all answers", || {
        let lines = trace.lines();
        (asked(&lines) == answered(&lines)).then_some(())
    });
    drop(owner);
    trace.stop()
}

fn replay(gateway: &Gateway, arguments: &[&str]) -> support::Finished {
    Process::run(gateway.mac_debug(&[&["replay"], arguments].concat()))
}

#[test]
fn what_looks_is_sent_again_and_what_changes_only_when_told() {
    let gateway = Gateway::new();
    let surface = Surface::linux(&["system.which"]);
    let node = FakeNode::approved(&gateway, &surface, |_| Reply::Payload(json!({"bins": {}})));
    let id = node.id();
    let file = recorded(&gateway, |owner| {
        owner.request("node.list", json!({})).unwrap();
        owner.request("node.rename", json!({"nodeId": id, "displayName": "first"})).unwrap();
        owner
            .request(
                "node.invoke",
                json!({"nodeId": id, "command": "system.which", "params": {"bins": []}, "idempotencyKey": "1"}),
            )
            .unwrap();
        owner.request("no.such.get", json!({})).unwrap_err();
    });
    let file = file.to_str().unwrap();
    gateway.owner().request("node.rename", json!({"nodeId": id, "displayName": "second"})).unwrap();
    let before = node.invokes().len();

    let said = replay(&gateway, &[file]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines[0].starts_with("node.list ") && lines[0].ends_with("another answer"), "{said:?}");
    assert!(said.stdout.contains("/payload/nodes/0/displayName: ") && said.stdout.contains("\"second\""), "{said:?}");
    assert!(said.stdout.contains("node.rename ") && said.stdout.matches("not sent").count() == 2, "{said:?}");
    assert!(
        said.stdout.lines().any(|line| line.starts_with("no.such.get") && line.ends_with("same answer")),
        "{said:?}"
    );
    assert_eq!(node.invokes().len(), before, "nothing ran");

    let said = replay(&gateway, &["--yes", "--json", file]);
    assert!(said.stderr.contains("call node.rename at ") && said.stderr.contains("call node.invoke at "), "{said:?}");
    assert!(said.json()["requests"].as_array().unwrap().iter().all(|row| row["sent"] == true), "{said:?}");
    assert_eq!(node.invokes().len(), before + 1);
    let row = gateway.owner().request("node.describe", json!({"nodeId": id})).unwrap();
    assert_eq!(row["displayName"], "first", "{row}");
    assert_eq!(replay(&gateway, &["--connection", "9", file]).code, Some(2));
}

#[test]
fn what_is_no_recording_is_refused_with_a_sentence() {
    let gateway = Gateway::new();
    for (name, bytes) in [("empty", &b""[..]), ("text", b"hello\n"), ("other", b"{\"a\":1}\n"), ("binary", b"\xff\0\n")]
    {
        let path = gateway.state.join(name);
        write_private(&path, bytes);
        let refused = replay(&gateway, &[path.to_str().unwrap()]);
        assert!(refused.code == Some(2) && words_of(&refused).contains(name), "{refused:?}");
    }
    let mut elsewhere = openclaw(gateway.state.path());
    elsewhere.args(["mac-debug", "trace"]);
    assert_eq!(Process::run(elsewhere).code, Some(2));
}
