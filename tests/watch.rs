//! `mac-debug watch` and `logs`: what happens, as it happens, and the newest lines of a log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use support::{Client, Connect, Gateway, Process, free_port, wait_until};
use support_exec::*;

/// The lines of kind `kind` so far.
fn of_kind(watch: &Process, kind: &str) -> Vec<Value> {
    let lines = watch.stdout();
    // The last line may be half written.
    let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["kind"] == kind).collect()
}

fn watching(command: Command) -> Process {
    let watch = Process::spawn(command);
    wait_until("a watch that is connected", || of_kind(&watch, "gateway").first().cloned());
    watch
}

#[test]
fn connections_runs_and_approvals_are_told_as_they_happen() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let port = free_port().to_string();
    let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--port", &port]));
    wait_for_node(&scratch);
    let watch = watching(scratch.mac_debug_command(&["watch", "--json"]));
    let node = wait_until("the node that is there already", || {
        of_kind(&watch, "connected").into_iter().find(|row| row["roles"] == json!(["node"]))
    });
    assert!(node["host"].is_string() && node["time"].as_str().unwrap().ends_with('Z'), "{node}");

    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "hi"]).stdout, "hi\n");
    let started = wait_until("the decision", || of_kind(&watch, "exec").first().cloned());
    assert_eq!((&started["decision"], &started["command"]), (&json!("allowed"), &json!("echo hi")), "{started}");
    let ended = wait_until("the end", || of_kind(&watch, "exec-ended").first().cloned());
    assert_eq!((&ended["exitCode"], &ended["command"]), (&json!(0), &json!("echo hi")), "{ended}");
    assert!(ended["durationMs"].is_u64(), "{ended}");

    // Watching is not answering: it shows what waits and is nobody who could be asked.
    let asked = Process::spawn(scratch.mac_debug_command(&["run", "--", "id"]));
    let waits = wait_until("what waits", || of_kind(&watch, "approval-waits").first().cloned());
    assert!(waits["command"].as_str().unwrap().starts_with("id"), "{waits}");
    assert_eq!(scratch.mac_debug(&["approvals", "deny", waits["id"].as_str().unwrap()]).code, Some(0));
    let over = wait_until("its end", || of_kind(&watch, "approval-ended").first().cloned());
    assert_eq!((&over["id"], &over["decision"]), (&waits["id"], &json!("deny")), "{over}");
    assert_eq!(asked.finish().code, Some(126));
    wait_until("the refusal", || of_kind(&watch, "exec").into_iter().find(|row| row["decision"] == "denied"));

    scratch.mac_debug(&["approvals", "mode", "deny"]);
    wait_until("the edit", || of_kind(&watch, "policy-edit").first().cloned());

    // It goes on when the gateway goes, and when it comes back.
    drop(app);
    wait_until("the end of the gateway", || {
        of_kind(&watch, "gateway").into_iter().find(|row| row["connected"] == false)
    });
    let _app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--port", &port]));
    wait_until("the gateway again", || (of_kind(&watch, "gateway").len() >= 3).then_some(()));
}

/// A watch has no say: a request that wants somebody to answer is refused although one watches.
#[test]
fn a_watch_is_nobody_who_could_answer() {
    let gateway = Gateway::new();
    let _watch = watching(gateway.mac_debug(&["watch", "--json"]));
    let mut owner = Client::login(&gateway, &Connect::backend(&["operator.admin", "operator.approvals"]));
    let id = "a-watch";
    let params =
        json!({"id": id, "command": "id", "host": "gateway", "requireDeliveryRoute": true, "timeoutMs": 15_000});
    let answer = owner.request("exec.approval.request", params).unwrap();
    assert!(answer["decision"].is_null() || answer["decision"] == "deny", "{answer}");
}

#[test]
fn lines_for_a_person_and_a_reader_that_leaves() {
    let gateway = Gateway::new();
    let watch = Process::spawn(gateway.mac_debug(&["watch"]));
    let line = wait_until("a line", || watch.stdout().lines().next().map(str::to_owned));
    assert!(line.contains(" gateway ") && line.contains("connected=true"), "{line}");
    drop(watch);
    // `| head -1`
    let mut command = gateway.mac_debug(&["watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    // Although nothing more happens.
    let status = wait_until("its end", || child.try_wait().unwrap());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(status.success() && said.is_empty(), "{status:?} {said}");
}

#[test]
fn a_log_is_found_cut_and_followed() {
    let scratch = Scratch::new();
    let none = scratch.mac_debug(&["logs"]);
    assert!(
        none.code == Some(1) && none.stderr.contains("app.log") && none.stderr.contains("openclaw app install"),
        "{none:?}"
    );
    make_dir(&scratch.state());
    make_dir(&scratch.state().join("logs"));
    let path = scratch.state().join("logs/app.log");
    let lines: Vec<String> =
        (0..200).map(|n| format!("{}: line {n}", if n % 2 == 0 { "gateway" } else { "app" })).collect();
    write_private(&path, format!("{}\n", lines.join("\n")).as_bytes());
    let last = scratch.mac_debug(&["logs", "--lines", "3"]);
    assert_eq!((last.code, &*last.stdout), (Some(0), "app: line 197\ngateway: line 198\napp: line 199\n"), "{last:?}");
    assert_eq!(scratch.mac_debug(&["logs"]).stdout.lines().count(), 50);
    let gateways = scratch.mac_debug(&["logs", "--role", "gateway", "--lines", "2"]).stdout;
    assert_eq!(gateways, "gateway: line 196\ngateway: line 198\n");
    assert_eq!(scratch.mac_debug(&["logs", "--role", "node"]).code, Some(1));
    // What a service manager caught of it, too.
    write_private(&scratch.state().join("logs/node-stdout.log"), b"thread panicked\n");
    assert_eq!(scratch.mac_debug(&["logs", "--role", "node"]).stdout, "thread panicked\n");
    assert_eq!(scratch.mac_debug(&["logs", "--role", "cat"]).code, Some(2));

    let follow = Process::spawn(scratch.mac_debug_command(&["logs", "--follow", "--lines", "1"]));
    wait_until("the last line", || (follow.stdout() == "app: line 199\n").then_some(()));
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"app: more \x1b[2J\n").unwrap();
    wait_until("the next line", || follow.stdout().ends_with("\napp: more \\u{1B}[2J\n").then_some(()));
}
