//! The switch that stops everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::json;
use std::thread;
use support::{Process, free_port, mode, wait_until};
use support_exec::*;

const APP: &[&str] = &["app", "--ask", "operator", "--no-tcp"];

fn assert_paused(scratch: &Scratch) {
    let refused = scratch.mac_debug(&["run", "--", "touch", scratch.canary().to_str().unwrap()]);
    assert_eq!(refused.code, Some(126), "{refused:?}");
    assert!(refused.stderr.contains("paused; `openclaw mac-debug resume`"), "{refused:?}");
    assert!(!scratch.canary().exists());
}

#[test]
fn nothing_runs_while_paused_also_after_a_restart() {
    let scratch = Scratch::new();
    // Works before there is anything.
    assert_eq!(scratch.mac_debug(&["pause"]).code, Some(0));
    assert_eq!(mode(&scratch.state().join("paused")), 0o600);
    assert_eq!(mode(&scratch.state()), 0o700);
    scratch.approvals(&allowing_everything());
    let mut app = App::start_with(&scratch, scratch.openclaw(APP));
    wait_for_node(&scratch);
    assert_paused(&scratch);
    let status = scratch.mac_debug(&["status"]).stdout;
    assert!(status.contains("nothing runs: paused"), "{status}");
    app.signal(libc::SIGTERM);
    app.wait();
    let app = App::start_with(&scratch, scratch.openclaw(APP));
    wait_for_node(&scratch);
    assert_paused(&scratch);

    assert_eq!(scratch.mac_debug(&["resume", "--yes"]).code, Some(0));
    assert_eq!(scratch.mac_debug(&["resume", "--yes"]).code, Some(0), "nothing to do is fine");
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "again"]).stdout, "again\n");
    assert_eq!(scratch.mac_debug(&["status", "--json"]).json()["paused"], false);
    app.exec(&scratch).assert_works();
}

/// A prompt that stood when the pause came is not answered by it, and its answer does not count.
#[test]
fn an_answer_after_the_pause_does_not_count() {
    let scratch = Scratch::new();
    let app = App::start_with(&scratch, scratch.openclaw(APP));
    wait_for_node(&scratch);
    let canary = scratch.canary();
    let exec = app.exec(&scratch);
    let request = canary.to_str().unwrap().to_owned();
    let run = thread::spawn(move || exec.run(&["touch", &request]));
    let id = wait_until("the question", || {
        let list = scratch.mac_debug(&["approvals", "list", "--json"]);
        Some(serde_json::from_str::<serde_json::Value>(&list.stdout).ok()?[0]["id"].as_str()?.to_owned())
    });
    assert_eq!(scratch.mac_debug(&["pause"]).code, Some(0));
    scratch.mac_debug(&["approvals", "allow-always", &id]);
    let reply = run.join().unwrap();
    reply.refused("UNAVAILABLE");
    assert!(reply.value().to_string().contains("paused"), "{:?}", reply.value());
    stays_absent(&canary);
    let document = std::fs::read_to_string(scratch.approvals_path()).unwrap();
    assert!(!document.contains("touch"), "the answer was stored: {document}");
}

/// A node that runs commands itself looks at the same switch.
#[test]
fn a_node_host_without_the_app_is_paused_too() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let gateway = Process::spawn(scratch.openclaw(&["gateway", "--port", &free_port().to_string()]));
    wait_until("the gateway", || gateway.stderr().contains("listening").then_some(()));
    let socket = scratch.state().join("gateway.sock");
    let _node =
        Process::spawn(scratch.openclaw(&["node", "--socket", socket.to_str().unwrap(), "--exec-host", "local"]));
    let request = wait_until("the node's request", || {
        let list = scratch.mac_debug(&["pair", "list", "--json"]);
        let list = serde_json::from_str::<serde_json::Value>(&list.stdout).ok()?;
        Some(list["nodes"]["pending"][0]["requestId"].as_str()?.to_owned())
    });
    assert_eq!(scratch.mac_debug(&["pair", "approve", &request]).code, Some(0));
    wait_for_node(&scratch);
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "before"]).stdout, "before\n");
    scratch.mac_debug(&["pause"]);
    assert_paused(&scratch);
    scratch.mac_debug(&["resume", "--yes"]);
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "after"]).stdout, "after\n");
    // A switch that cannot be understood is on.
    std::fs::create_dir(scratch.state().join("paused")).unwrap();
    assert_paused(&scratch);
    assert_eq!(json!(scratch.mac_debug(&["resume", "--yes"]).code), json!(1), "and says that it could not be turned");
}
