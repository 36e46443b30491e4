//! What a long run has printed reaches whoever wants to hear of it, and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Client, Connect, Device, Gateway, Process, Surface, wait_until};
use support_exec::*;

const SCOPES: &[&str] = &["operator.admin", "operator.read", "operator.write", "operator.pairing"];
const PROGRESS: &str = "node.invoke.progress";
/// Prints before progress begins and after, and something that is no text.
const SCRIPT: &str = "echo one >&2; sleep 2; echo two; sleep 0.6; printf '\\377three'; sleep 0.6";

/// An operator of the gateway in this state directory, with these caps.
fn operator(scratch: &Scratch, caps: &[&str]) -> Client {
    let socket = scratch.state().join("gateway.sock");
    wait_until("the gateway", || UnixStream::connect(&socket).ok());
    let config: Value = serde_json::from_slice(&fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let mut client = Client::unix_at(&socket);
    let token = config["gateway"]["auth"]["token"].as_str().unwrap();
    client.connect(&Connect::backend(SCOPES).token(token).set("caps", json!(caps))).unwrap();
    client
}

fn node_of(client: &mut Client) -> String {
    wait_until("the node", || {
        let list = client.request("node.list", json!({})).unwrap();
        let row = list["nodes"].as_array()?.iter().find(|row| row["connected"] == true)?.clone();
        (row["approvalState"] == "approved").then(|| row["nodeId"].as_str().unwrap().to_owned())
    })
}

/// The frames about a run of `script`, its answer last.
fn frames_of_run(client: &mut Client, script: &str) -> Vec<Value> {
    let node = node_of(client);
    let params = json!({"command": ["/bin/sh", "-c", script]});
    let invoke = json!({"nodeId": node, "command": "system.run", "params": params, "idempotencyKey": fresh_nonce()});
    let id = client.start("node.invoke", invoke);
    let mut frames = Vec::new();
    loop {
        let frame = client.take("progress or the answer", |frame| frame["event"] == PROGRESS || frame["id"] == id);
        frames.push(frame);
        let frame = &frames[frames.len() - 1];
        if frame["id"] == id {
            assert_eq!(frame["ok"], json!(true), "{frame}");
            client.no_event(PROGRESS);
            return frames;
        }
        assert_eq!((&frame["payload"]["invokeId"], &frame["payload"]["nodeId"]), (&json!(id), &json!(node)));
    }
}

fn check_both_kinds_of_caller(scratch: &Scratch) {
    let mut frames = frames_of_run(&mut operator(scratch, &["invoke-progress"]), SCRIPT);
    let told = frames.pop().unwrap();
    let numbers: Vec<u64> = frames.iter().map(|frame| frame["payload"]["seq"].as_u64().unwrap()).collect();
    let chunks: Vec<&str> = frames.iter().map(|frame| frame["payload"]["chunk"].as_str().unwrap()).collect();
    assert_eq!(numbers, (0..chunks.len() as u64).collect::<Vec<_>>());
    // The last piece may be late, and is not told any more then.
    let heard = chunks.concat();
    assert!(chunks[0] == "one\n" && heard.starts_with("one\ntwo\n"), "{chunks:?}");
    assert!("one\ntwo\n\u{fffd}three".starts_with(&heard), "{chunks:?}");
    let plain = frames_of_run(&mut operator(scratch, &[]), SCRIPT);
    assert_eq!(plain.len(), 1, "{plain:?}");
    assert_eq!(told["payload"]["payload"], plain[0]["payload"]["payload"]);
    assert_eq!(told["payload"]["payload"]["stdout"], json!("two\n\u{fffd}three"));
}

fn app() -> (Scratch, App) {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    (scratch, app)
}

#[test]
fn through_the_app() {
    let (scratch, _app) = app();
    check_both_kinds_of_caller(&scratch);
    let quick = frames_of_run(&mut operator(&scratch, &["invoke-progress"]), "echo quick");
    assert_eq!(quick.len(), 1, "{quick:?}");
}

#[test]
fn of_a_node_that_runs_commands_itself() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let port = support::free_port().to_string();
    let _gateway = Process::spawn(scratch.openclaw(&["gateway", "--port", &port]));
    let mut owner = operator(&scratch, &[]);
    let _node = Process::spawn(scratch.openclaw(&["node", "--port", &port, "--exec-host", "local"]));
    let request = wait_until("the surface", || {
        let list = owner.request("node.pair.list", json!({})).unwrap();
        list["pending"][0]["requestId"].as_str().map(str::to_owned)
    });
    owner.request("node.pair.approve", json!({"requestId": request})).unwrap();
    check_both_kinds_of_caller(&scratch);
}

/// A client of the exec socket gets lines of progress only if it asks for them, and then the same answer.
#[test]
fn on_the_exec_socket() {
    let (scratch, app) = app();
    let exec = app.exec(&scratch);
    let request = json!({"command": ["/bin/sh", "-c", SCRIPT]});
    let answer = exec.request(&request).ran().clone();
    let mut asking = request;
    asking["progress"] = json!(true);
    let first = exec.request(&asking);
    assert_eq!(first.value()["type"], json!("exec-progress"), "{first:?}");
    assert_eq!(first.value()["chunk"], json!("one\n"));
    assert_eq!(answer["stdout"], json!("two\n\u{fffd}three"));
    exec.assert_works();
}

/// What a cancelled run printed, or would have printed, is told to nobody.
#[test]
fn a_cancelled_run_says_nothing_any_more() {
    let (scratch, _app) = app();
    let mut client = operator(&scratch, &["invoke-progress"]);
    let node = node_of(&mut client);
    let script = "while :; do echo again; sleep 0.05; done";
    let params = json!({"nodeId": node, "command": "system.run", "params": {"command": ["/bin/sh", "-c", script]},
        "timeoutMs": 2_500, "idempotencyKey": "cancelled"});
    let asked = client.start("node.invoke", params);
    assert!(client.event(PROGRESS)["chunk"].as_str().unwrap().contains("again"));
    client.response(&asked).unwrap_err();
    while client.find(Duration::ZERO, |frame| frame["event"] == PROGRESS).is_some() {}
    client.no_event(PROGRESS);
}

/// Whatever a node sends, only the next piece goes on, and only to the caller, until it has its answer.
#[test]
fn only_checked_pieces_go_to_the_one_who_asked() {
    let gateway = Gateway::new();
    let device = Device::new();
    let surface = Surface::linux(&["system.run"]);
    let mut owner = gateway.owner();
    let mut node = Client::login(&gateway, &Connect::node(&device, &surface));
    let id = device.id();
    gateway.approve_surface(&id);
    let hearing = Connect::backend(SCOPES).set("caps", json!(["invoke-progress"]));
    let mut asking = Client::login(&gateway, &hearing);
    let mut other = Client::login(&gateway, &hearing);
    let params = json!({"nodeId": id, "command": "system.run", "params": {"command": ["ls"]}, "idempotencyKey": "k"});
    let asked = asking.start("node.invoke", params);
    let request = node.event("node.invoke.request");
    let piece = |seq: u64| json!({"invokeId": request["id"], "nodeId": id, "seq": seq, "chunk": format!("{seq}")});
    node.request(PROGRESS, piece(0)).unwrap();
    node.request(PROGRESS, piece(2)).unwrap_err();
    node.request(PROGRESS, piece(1)).unwrap();
    for seq in [0, 1] {
        let told = json!({"invokeId": asked, "nodeId": id, "seq": seq, "chunk": format!("{seq}")});
        assert_eq!(asking.event(PROGRESS), told);
    }
    node.request("node.invoke.result", json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {}})).unwrap();
    asking.response(&asked).unwrap();
    node.request(PROGRESS, piece(2)).unwrap();
    for client in [&mut asking, &mut other, &mut owner] {
        client.no_event(PROGRESS);
    }
}

#[test]
fn mac_debug_follows_a_run() {
    let (scratch, _app) = app();
    let run = ["--", "/bin/sh", "-c", "echo one; sleep 3"];
    let mut following = Process::spawn(scratch.mac_debug_command(&[&["run", "--follow"], &run[..]].concat()));
    wait_until("the first line", || following.stderr().contains("one\n").then_some(()));
    assert!(following.ended().is_none() && following.stdout().is_empty(), "{}", following.stdout());
    let followed = following.finish();
    assert_eq!((followed.code, &*followed.stdout, &*followed.stderr), (Some(0), "one\n", "one\n"));
    let plain = scratch.mac_debug(&[&["run"], &run[..]].concat());
    assert_eq!((plain.code, &*plain.stdout, &*plain.stderr), (Some(0), "one\n", ""));
}
