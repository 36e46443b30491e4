//! `openclaw app` as a whole: gateway, node and app in one process, one of them a machine, and what
//! is left when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use support::{Process, children, free_port, signal, wait_until};
use support_exec::*;

/// An app that runs these programs unasked, with its node connected.
fn local(programs: &[&str]) -> (Scratch, App) {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(programs));
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    (scratch, app)
}

/// The sockets in the state directory.
fn sockets(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = fs::read_dir(scratch.state()).unwrap().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().unwrap().is_socket()).map(|entry| entry.path()).collect()
}

#[test]
fn mac_debug_runs_a_command_and_passes_on_what_it_did() {
    let (scratch, _app) = local(&["echo", "false", "cat", "pwd", "printenv", "sleep"]);
    let ran = scratch.mac_debug(&["run", "--", "echo", "two words", "--json"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "two words --json\n"), "{ran:?}");
    let failed = scratch.mac_debug(&["run", "--", "false"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let error = scratch.mac_debug(&["run", "--", "cat", "/nowhere/at/all"]);
    assert!(error.code == Some(1) && error.stdout.is_empty() && error.stderr.contains("/nowhere/at/all"), "{error:?}");
    let directory = scratch.mac_debug(&["run", "--cwd", scratch.path().to_str().unwrap(), "--", "pwd"]);
    assert_eq!(directory.stdout.trim(), scratch.path().to_str().unwrap(), "{directory:?}");
    let variable = scratch.mac_debug(&["run", "--env", "GREETING=hello there", "--", "printenv"]);
    assert!(variable.stdout.lines().any(|line| line == "GREETING=hello there"), "{variable:?}");
    let limited = scratch.mac_debug(&["run", "--timeout", "1000", "--", "sleep", "30"]);
    assert_eq!(limited.code, Some(124), "{limited:?}");
    let json = scratch.mac_debug(&["run", "--json", "--", "echo", "hi"]).json();
    assert!(json.to_string().contains("hi\\n"), "{json}");
}

#[test]
fn a_refusal_is_a_sentence_and_an_exit_code() {
    let (scratch, _app) = local(&["echo"]);
    let refused = scratch.mac_debug(&["run", "--", "touch", scratch.canary().to_str().unwrap()]);
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(refused.stderr.contains("SYSTEM_RUN_DENIED"), "{refused:?}");
    assert!(refused.stderr.split_whitespace().count() > 5, "{refused:?}");
    stays_absent(&scratch.canary());
    for bad in [
        &["run"][..],
        &["run", "--"],
        &["run", "--node", "nobody", "--", "echo"],
        &["invoke", "system.nothing"],
        &["invoke", "system.run", "{"],
        &["nothing"],
    ] {
        let output = scratch.mac_debug(bad);
        assert!(output.code.is_some_and(|code| code != 0), "{bad:?}: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "{bad:?}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "{bad:?}: {output:?}");
    }
}

#[test]
fn status_and_nodes_show_the_one_node_with_what_it_may_do() {
    let (scratch, _app) = local(&["echo"]);
    let nodes = scratch.mac_debug(&["nodes", "--json"]).json();
    let list = nodes.as_array().or_else(|| nodes["nodes"].as_array()).unwrap();
    assert_eq!(list.len(), 1, "{nodes}");
    assert_eq!(list[0]["connected"], json!(true), "{nodes}");
    assert_eq!(list[0]["approvalState"], json!("approved"), "the app vouches for its own node: {nodes}");
    let commands = list[0]["commands"].as_array().unwrap();
    for command in ["system.run", "system.which"] {
        assert!(commands.contains(&json!(command)), "{nodes}");
    }
    let status = scratch.mac_debug(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.stdout.contains("\nfence      state, by: "), "{status:?}");
    let status = scratch.mac_debug(&["status", "--json"]).json();
    assert!(status["fence"].is_string() && status["grants"] == 0, "{status}");
    let found = scratch.mac_debug(&["invoke", "system.which", r#"{"bins":["sh","no-such-program"]}"#, "--json"]).json();
    assert!(found.to_string().contains("/sh") && !found.to_string().contains("no-such-program"), "{found}");
    let pending = scratch.mac_debug(&["pair", "list", "--json"]).json();
    assert!(!pending.to_string().contains("requestId"), "nothing waits for an approval: {pending}");
}

#[test]
fn mac_debug_without_a_gateway_says_so_and_creates_nothing() {
    let scratch = Scratch::new();
    for arguments in [&["status"][..], &["nodes"], &["run", "--", "echo"], &["pair", "list"]] {
        let output = scratch.mac_debug(arguments);
        assert!(!output.stderr.contains("panicked"), "{arguments:?}: {output:?}");
        assert!(!words_of(&output).trim().is_empty(), "{arguments:?}: {output:?}");
        if arguments[0] != "status" {
            assert!(output.code.is_some_and(|code| code != 0), "{arguments:?}: {output:?}");
        }
    }
    assert!(!scratch.state().exists(), "a read-only command created the state directory");
}

#[test]
fn the_end_of_a_pipe_is_a_quiet_end() {
    let (scratch, _app) = local(&["yes", "seq"]);
    let mut command = std::process::Command::new("sh");
    let inner = scratch.mac_debug_command(&["run", "--", "seq", "20000"]);
    command.arg("-c").arg("\"$0\" \"$@\" | head -1").arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = Process::run(command);
    assert_eq!(output.stdout, "1\n", "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

#[test]
fn a_second_app_ends_well_and_at_once_and_harms_nothing() {
    let (scratch, mut app) = local(&["echo"]);
    let before = fs::read(scratch.approvals_path()).unwrap();
    let second = Process::run(scratch.openclaw(APP));
    assert_eq!(second.code, Some(0), "launchd must not start it again: {second:?}");
    assert!(words_of(&second).contains(&app.pid().to_string()), "it says who is there: {second:?}");
    assert!(app.is_alive());
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), before);
    app.exec(&scratch).assert_works();
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "still"]).stdout, "still\n");
}

#[test]
fn ten_apps_at_once_make_one() {
    let scratch = Scratch::new();
    let mut apps: Vec<Process> = (0..10).map(|_| Process::spawn(scratch.openclaw(APP))).collect();
    wait_until("nine ends", || {
        let ended = apps.iter_mut().filter_map(Process::ended).collect::<Vec<_>>();
        assert!(ended.iter().all(|status| status.success()), "{ended:?}");
        (ended.len() == 9).then_some(())
    });
    wait_until("the exec socket of the one", || std::os::unix::net::UnixStream::connect(exec_socket(&scratch)).ok());
    let mut winner = apps.into_iter().find_map(|mut app| app.ended().is_none().then_some(app)).unwrap();
    winner.signal(libc::SIGTERM);
    wait_until("its end", || winner.ended());
}

#[test]
fn term_and_int_leave_no_socket_and_no_child() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let scratch = Scratch::new();
        scratch.approvals(&allowing_everything());
        let mut app = App::start(&scratch);
        wait_for_node(&scratch);
        let exec = app.exec(&scratch);
        let marker = sleep_marker();
        let script = format!("sleep {marker} & sleep {marker}");
        let run = std::thread::spawn(move || exec.run(&[&program("sh"), "-c", &script]));
        wait_until("the command", || (processes_named(&marker).len() >= 2).then_some(()));
        assert!(!sockets(&scratch).is_empty());
        let pid = app.pid();
        app.signal(number);
        let status = app.wait();
        assert!(status.code().is_some(), "an end by its own doing, not by the signal: {status}");
        assert_eq!(sockets(&scratch), Vec::<PathBuf>::new());
        assert!(children(pid).is_empty());
        wait_until("the end of the command", || processes_named(&marker).is_empty().then_some(()));
        drop(run.join());
        // And the next one starts where it was.
        App::start(&scratch).exec(&scratch).assert_works();
    }
}

#[test]
fn after_a_kill_the_next_app_takes_over() {
    let (scratch, mut app) = local(&["echo"]);
    signal(app.pid(), libc::SIGKILL);
    app.wait();
    assert!(exec_socket(&scratch).exists(), "a dead socket lies there");
    let token = socket_token(&scratch);
    let app = App::start(&scratch);
    assert_eq!(socket_token(&scratch), token);
    app.exec(&scratch).assert_works();
    wait_for_node(&scratch);
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "again"]).stdout, "again\n");
}

#[test]
fn the_node_survives_in_its_own_right_with_tcp_too() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let port = free_port().to_string();
    let mut app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "none", "--port", &port]));
    wait_for_node(&scratch);
    assert!(app.is_alive());
    assert_eq!(scratch.mac_debug(&["run", "--", "echo", "over TCP"]).stdout, "over TCP\n");
    std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
}

#[test]
fn without_tcp_nothing_listens_on_the_network() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (scratch, app) = local(&["echo"]);
    let inodes: Vec<String> = fs::read_dir(format!("/proc/{}/fd", app.pid()))
        .map(|entries| {
            let link = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.unwrap().path()).ok();
            entries
                .filter_map(link)
                .filter_map(|path| Some(path.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
                .collect()
        })
        .unwrap_or_default();
    assert!(is_root() && !inodes.is_empty() || !is_root(), "its sockets can be counted");
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default().lines().skip(1) {
            let inode = line.split_whitespace().nth(9).unwrap_or_default();
            assert!(!inodes.iter().any(|ours| ours == inode), "{table}: {line}");
        }
    }
    drop(scratch);
}

#[test]
fn the_output_of_a_run_has_the_shape_of_the_protocol() {
    let (scratch, _app) = local(&["echo"]);
    let request = json!({ "command": ["echo", "hi"] }).to_string();
    let answer = scratch.mac_debug(&["invoke", "system.run", &request, "--json"]).json();
    let payload = [&answer, &answer["payload"]].into_iter().find(|value| value.get("stdout").is_some()).unwrap();
    let expected: Value =
        json!({ "exitCode": 0, "timedOut": false, "success": true, "stdout": "hi\n", "stderr": "", "error": null });
    assert_eq!(*payload, expected, "{answer}");
}
