//! Every part may end and come back, in every order: the others find it again by themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};
use support::{Process, free_port, wait_until};
use support_exec::*;

/// How soon everything works again (A169).
const SOON: Duration = Duration::from_secs(10);

const SHARED: &str = "the-shared-token-of-this-test";

/// Gateway, node and app as three processes in one state directory. The app's own gateway gives way
/// to the one that runs; its node offers a surface that nobody approves.
struct Parts {
    scratch: Scratch,
    port: u16,
    running: BTreeMap<&'static str, Process>,
}

const PARTS: [&str; 3] = ["gateway", "node", "app"];

impl Parts {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.approvals(&allowing_everything());
        let mut parts = Self { scratch, port: free_port(), running: BTreeMap::new() };
        parts.configure(SHARED);
        for part in PARTS {
            parts.start(part);
        }
        parts
    }

    fn configure(&self, token: &str) {
        let config =
            json!({"gateway": {"mode": "local", "port": self.port, "auth": {"mode": "token", "token": token}}});
        write_private(&self.scratch.state().join("openclaw.json"), config.to_string().as_bytes());
    }

    fn start(&mut self, part: &'static str) {
        let command = match part {
            "gateway" => self.scratch.openclaw(&["gateway", "run"]),
            "node" => self.scratch.openclaw(&["node", "run", "--exec-host", "app", "--display-name", "apart"]),
            _ => self.scratch.openclaw(&["app", "--ask", "none"]),
        };
        self.running.insert(part, Process::spawn(command));
        // Its socket may be there before it has looked for a gateway.
        let ready = match part {
            "gateway" => "listening on",
            "node" => return,
            _ => "ready",
        };
        wait_until(part, || self.running[part].stderr().contains(ready).then_some(()));
    }

    fn end(&mut self, part: &'static str, number: i32) {
        let process = self.running.remove(part).unwrap();
        process.signal(number);
        let ended = process.finish();
        assert!(number == libc::SIGKILL || ended.code == Some(0), "{part}: {ended:?}");
    }

    /// The node's id, once its surface has been approved.
    fn approve(&self) -> String {
        wait_until("the node's surface", || {
            let pending = self.scratch.mac_debug(&["pair", "list", "--json"]);
            let pending: Value = serde_json::from_str(&pending.stdout).ok()?;
            let rows = find_rows(&pending);
            let row = rows.iter().find(|row| row["displayName"] == "apart")?;
            let approved = self.scratch.mac_debug(&["pair", "approve", row["requestId"].as_str()?]);
            assert_eq!(approved.code, Some(0), "{approved:?}");
            Some(row["nodeId"].as_str()?.to_owned())
        })
    }

    /// Waits until a command runs over the whole chain; how long that took.
    fn works_again(&mut self, node: &str, after: &str) -> Duration {
        let started = Instant::now();
        loop {
            let ran = self.scratch.mac_debug(&["run", "--node", node, "--timeout", "5000", "--", "echo", "again"]);
            if ran.code == Some(0) && ran.stdout == "again\n" {
                return started.elapsed();
            }
            if started.elapsed() > SOON {
                let logs: Vec<String> =
                    self.running.iter().map(|(part, process)| format!("{part}:\n{}", process.stderr())).collect();
                panic!("{after}: nothing works after {SOON:?}: {ran:?}\n{}", logs.join("\n"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Every object with a `requestId` in an answer of `pair list`.
fn find_rows(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) if members.contains_key("requestId") => vec![value.clone()],
        Value::Object(members) => members.values().flat_map(find_rows).collect(),
        Value::Array(list) => list.iter().flat_map(find_rows).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn sec_a169_every_part_comes_back_in_every_order() {
    let mut parts = Parts::new();
    let node = parts.approve();
    parts.works_again(&node, "the start");
    for (number, name) in [(libc::SIGTERM, "TERM"), (libc::SIGKILL, "KILL")] {
        for part in PARTS {
            parts.end(part, number);
            parts.start(part);
            let took = parts.works_again(&node, &format!("{name} of {part}"));
            println!("sec_a169: {name} {part}: {took:?}");
        }
    }
    // All ended; started in each order that has the gateway before the app.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2]] {
        for part in PARTS {
            parts.end(part, libc::SIGTERM);
        }
        for at in order {
            parts.start(PARTS[at]);
        }
        let took = parts.works_again(&node, &format!("start in the order {order:?}"));
        println!("sec_a169: order {order:?}: {took:?}");
    }
}

/// The orders in which the app comes before the gateway: it then runs one itself, and a second
/// gateway says who is in the way.
#[test]
fn sec_a169_an_app_that_comes_first_runs_the_gateway() {
    let mut parts = Parts::new();
    let node = parts.approve();
    for part in PARTS {
        parts.end(part, libc::SIGTERM);
    }
    parts.start("app");
    let second = Process::run(parts.scratch.openclaw(&["gateway", "run"]));
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("already runs"), "{second:?}");
    parts.start("node");
    parts.works_again(&node, "the app first");
    // It ends and takes its gateway along; a gateway of its own takes over, and the node finds it.
    parts.end("app", libc::SIGTERM);
    parts.start("gateway");
    parts.start("app");
    parts.works_again(&node, "the gateway apart again");
}

#[test]
fn sec_a169_a_new_socket_token_holds_at_once() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let old = app.exec(&scratch);
    old.assert_works();
    let token = "a-new-token-for-the-exec-socket-0123456789";
    scratch.edit_approvals(|document| document["socket"]["token"] = json!(token));
    let started = Instant::now();
    wait_until("the chain works with the new token", || {
        (scratch.mac_debug(&["run", "--", "echo", "x"]).stdout == "x\n").then_some(())
    });
    assert!(started.elapsed() < SOON);
    assert!(old.run(&["/bin/true"]).is_refusal(), "the old token still works");
    Exec { token: token.to_owned(), ..old }.assert_works();
}

#[test]
fn sec_a169_a_wrong_secret_ends_the_node_and_is_not_tried_again() {
    let mut parts = Parts::new();
    parts.end("node", libc::SIGTERM);
    // A device of its own, so that no device token helps.
    let other = Scratch::new();
    make_dir(&other.state());
    let config =
        json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": "not-the-right-token-at-all"}}});
    write_private(&other.state().join("openclaw.json"), config.to_string().as_bytes());
    let port = parts.port.to_string();
    let ended = Process::run(other.openclaw(&["node", "run", "--port", &port]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("token"), "{ended:?}");
    let mut command = other.openclaw(&["mac-debug", "--url", &format!("ws://127.0.0.1:{port}"), "nodes"]);
    command.env("OPENCLAW_GATEWAY_TOKEN", "not-the-right-token-at-all");
    let ended = Process::run(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // The twin: a paired node needs the shared token no more, so a changed one does not end it.
    parts.start("node");
    let node = parts.approve();
    parts.works_again(&node, "the start");
    parts.configure("another-shared-token-0123456789");
    parts.end("gateway", libc::SIGTERM);
    parts.start("gateway");
    parts.works_again(&node, "a changed shared token");
}

#[test]
fn sec_a169_a_gateway_that_is_away_is_not_hammered() {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    let config = json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": SHARED}}});
    write_private(&scratch.state().join("openclaw.json"), config.to_string().as_bytes());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let node = Process::spawn(scratch.openclaw(&["node", "run", "--port", &port]));
    let mut tries = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(8) {
        // Taken and dropped: a gateway that ends each connection at once.
        if listener.accept().is_ok() {
            tries.push(started.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!((3..=5).contains(&tries.len()), "tries at {tries:?}");
    let pauses: Vec<Duration> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= Duration::from_millis(500), "{pauses:?}");
    assert!(pauses.last().unwrap() > &pauses[0], "no backing off: {pauses:?}");
    assert_eq!(node.stderr().matches("trying again").count(), 1, "one line, not one a try:\n{}", node.stderr());
    node.signal(libc::SIGTERM);
    assert_eq!(node.finish().code, Some(0));
}
