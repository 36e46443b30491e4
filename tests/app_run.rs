//! Running a command: what a request may set, what the child sees, how long it lives, how much of it
//! comes back, and who may answer for the app.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Finished, Gateway, Process, TOKEN, children, wait_until};
use support_exec::*;

/// An app in which everything runs unasked, with its node connected.
fn permissive() -> (Scratch, App, Exec) {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    (scratch, app, exec)
}

/// The same request by the second way: operator, gateway, node, socket, app.
fn invoke_run(scratch: &Scratch, request: &Value) -> Finished {
    scratch.mac_debug(&["invoke", "system.run", &request.to_string(), "--json"])
}

/// Asserts that both ways refuse `request` as invalid, with `words` among the reasons.
fn both_refuse(scratch: &Scratch, exec: &Exec, request: &Value, words: &[&str]) {
    let reply = exec.request(request);
    let message = reply.refused("INVALID_REQUEST")["message"].as_str().unwrap().to_owned();
    let invoked = invoke_run(scratch, request);
    assert!(invoked.code.is_some_and(|code| code != 0), "{request}: {invoked:?}");
    let invoked = words_of(&invoked);
    assert!(invoked.contains("INVALID_REQUEST"), "{request}: {invoked}");
    for word in words {
        assert!(message.contains(word), "{request}: the socket said {message}");
        assert!(invoked.contains(word), "{request}: the gateway said {invoked}");
    }
}

#[test]
fn sec_a91_the_first_element_is_a_program_and_nothing_else() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let canary = scratch.canary();
    let (sh, touch) = (program("sh"), format!("touch {}", canary.display()));
    for command in [
        vec!["FOO=bar", &sh, "-c", &touch],
        vec!["-i", &sh, "-c", &touch],
        vec!["-S", &sh, "-c", &touch],
        vec![&*format!("-S{sh} -c '{touch}'")],
        vec!["--", &sh, "-c", &touch],
        vec!["-", &sh, "-c", &touch],
        vec!["-u", "FOO", &sh, "-c", &touch],
        vec![&*format!("{sh} -c '{touch}'")],
    ] {
        let request = json!({ "command": command });
        let reply = exec.request(&request);
        let ran = reply.value()["ok"] == json!(true) && reply.value()["payload"]["success"] == json!(true);
        assert!(!ran, "{command:?}: {:?}", reply.value);
        assert!(!invoke_run(&scratch, &request).stdout.contains("\"success\":true"), "{command:?}");
    }
    stays_absent(&canary);
    exec.run(&[&sh, "-c", &touch]).ran();
    assert!(canary.exists(), "the twin without a prefix runs");
}

#[test]
fn sec_a92_degenerate_argv_is_refused_on_the_long_way_too() {
    let (scratch, _app, _exec) = permissive();
    wait_for_node(&scratch);
    let echo = program("echo");
    for command in [
        json!([]),
        json!([""]),
        json!([" "]),
        json!("ls"),
        json!([1]),
        json!([null]),
        json!([echo, null]),
        json!([echo, "a\u{0}b"]),
    ] {
        let refused = invoke_run(&scratch, &json!({ "command": command }));
        assert!(refused.code.is_some_and(|code| code != 0), "{command}: {refused:?}");
        assert!(words_of(&refused).contains("INVALID_REQUEST"), "{command}: {refused:?}");
    }
    let good = invoke_run(&scratch, &json!({ "command": [program("printf"), "<%s>", " x ", "", "é"] }));
    assert!(good.stdout.contains("< x ><><é>"), "{good:?}");
}

#[test]
fn sec_a97_loader_variables_are_refused() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    for name in
        ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "DYLD_FRAMEWORK_PATH", "LD_X", "DYLD_"]
    {
        let request = json!({ "command": [program("env")], "env": { name: "/nowhere/evil.so" } });
        both_refuse(&scratch, &exec, &request, &["environment override rejected", name]);
    }
    let good = exec.request(&json!({ "command": [program("env")], "env": { "GREETING": "hello" } }));
    let seen = good.ran()["stdout"].as_str().unwrap().to_owned();
    assert!(seen.lines().any(|line| line == "GREETING=hello"), "{seen}");
    assert!(!seen.contains("LD_") && !seen.contains("DYLD_"), "{seen}");
}

#[test]
fn sec_a98_shell_startup_variables_are_refused() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let script = scratch.join("rc");
    fs::write(&script, format!("touch {}\n", scratch.canary().display())).unwrap();
    let function = format!("() {{ touch {}; }}", scratch.canary().display());
    for (name, value) in [
        ("BASH_ENV", script.to_str().unwrap()),
        ("ENV", script.to_str().unwrap()),
        ("BASH_FUNC_ls%%", &function),
        ("BASH_FUNC_ls()", &function),
        ("PROMPT_COMMAND", "touch x"),
        ("CDPATH", "/"),
        ("IFS", "/"),
        ("SHELLOPTS", "xtrace"),
        ("PS4", "$(touch x)"),
    ] {
        let request = json!({ "command": [program("sh"), "-c", "ls"], "env": { name: value } });
        both_refuse(&scratch, &exec, &request, &["environment override rejected"]);
    }
    stays_absent(&scratch.canary());
    exec.request(&json!({ "command": [program("sh"), "-c", "ls"], "env": { "LC_ALL": "C" } })).ran();
}

#[test]
fn sec_a99_path_is_never_the_callers() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let evil = scratch.join("evil");
    make_dir(&evil);
    write_private(&evil.join("uname"), format!("#!/bin/sh\ntouch {}\n", scratch.canary().display()).as_bytes());
    set_mode(&evil.join("uname"), 0o755);
    let evil_path = evil.to_str().unwrap();
    for (name, value) in [
        ("PATH", evil_path.to_owned()),
        ("Path", evil_path.to_owned()),
        ("path", evil_path.to_owned()),
        ("PATH ", evil_path.to_owned()),
        (" PATH", evil_path.to_owned()),
        ("PATH", format!("{evil_path}:/usr/bin:/bin")),
        ("PATH", ":/usr/bin".to_owned()),
        ("PATH", ".:/usr/bin".to_owned()),
        ("PATH", String::new()),
    ] {
        both_refuse(&scratch, &exec, &json!({ "command": ["uname"], "cwd": evil, "env": { name: value } }), &[]);
    }
    // Neither the working directory nor anything there is a place to find programs.
    let good = exec.request(&json!({ "command": ["uname"], "cwd": evil }));
    assert_eq!(good.ran()["exitCode"], json!(0));
    assert!(!good.ran()["stdout"].as_str().unwrap().is_empty());
    let path = exec.request(&json!({ "command": [program("sh"), "-c", "echo \"$PATH\""] }));
    let path = path.ran()["stdout"].as_str().unwrap().trim().to_owned();
    assert!(path.split(':').all(|entry| entry.starts_with('/')), "{path}");
    stays_absent(&scratch.canary());
}

#[test]
fn sec_a100_spelling_tricks_do_not_pass() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let env = program("env");
    for name in [
        " LD_PRELOAD",
        "ld_preload",
        "Ld_Preload",
        "LD_PRELOAD=x",
        "A=B",
        "A\nLD_PRELOAD",
        "A\u{0}B",
        "",
        " ",
        "1A",
        "A-B",
        "ÄB",
    ] {
        both_refuse(&scratch, &exec, &json!({ "command": [env], "env": { name: "x" } }), &[]);
    }
    both_refuse(&scratch, &exec, &json!({ "command": [env], "env": { "ld_preload": "x", "LD_PRELOAD": "y" } }), &[]);
    both_refuse(&scratch, &exec, &json!({ "command": [env], "env": { "A": "x\u{0}LD_PRELOAD=y" } }), &[]);
    let twice = format!(r#"{{"command":["{env}"],"env":{{"A":"1","A":"2"}}}}"#);
    assert!(exec.send(&exec.signed(&twice)).is_refusal(), "one name twice");
    for assignment in ["LD_PRELOAD=x", "PATH=/nowhere", "BASH_ENV=x"] {
        for command in [json!([env, assignment, "ls"]), json!(["env", "A=b", assignment, "ls"])] {
            both_refuse(&scratch, &exec, &json!({ "command": command }), &["assignment"]);
        }
    }
    let good = exec.request(&json!({ "command": [env, "GREETING=hello", env], "env": { "_OK1": "yes" } }));
    let seen = good.ran()["stdout"].as_str().unwrap().to_owned();
    assert!(seen.contains("GREETING=hello") && seen.contains("_OK1=yes"), "{seen}");
}

#[test]
fn sec_a103_no_secret_of_ours_reaches_a_command() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let marker = "marker-0f6c9f2d41";
    let secrets = [
        "OPENCLAW_GATEWAY_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "SSLKEYLOGFILE",
        "LD_LIBRARY_PATH",
        "DYLD_X",
        "GITHUB_TOKEN",
        "NODE_OPTIONS",
        "ANYTHING_ELSE",
    ];
    let mut command = scratch.openclaw(APP);
    command.envs(secrets.map(|name| (name, marker))).env("LD_PRELOAD", marker);
    let app = App::start_with(&scratch, command);
    let mut run = scratch.mac_debug_command(&["run", "--", "/usr/bin/env"]);
    run.env("OPENCLAW_GATEWAY_TOKEN", marker);
    let ran = wait_until("a run through the gateway", || {
        let mut again = Command::new(run.get_program());
        again.args(run.get_args()).env_clear().current_dir(scratch.path());
        again.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = Process::run(again);
        (ran.code == Some(0)).then_some(ran)
    });
    let direct = app.exec(&scratch).run(&[&program("env")]);
    for seen in [&*ran.stdout, direct.ran()["stdout"].as_str().unwrap()] {
        assert!(!seen.contains(marker), "{seen}");
        assert!(!seen.contains("OPENCLAW_STATE_DIR"), "{seen}");
        for name in ["PATH=", "HOME=", "OPENCLAW_CLI=1"] {
            assert!(seen.lines().any(|line| line.starts_with(name)), "{name} is missing: {seen}");
        }
    }
}

#[test]
fn sec_h10_a_command_gets_three_descriptors() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let directory = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let reply = exec.run(&[&program("ls"), "-1", directory]);
    let through_gateway = scratch.mac_debug(&["run", "--", "ls", "-1", directory]);
    for seen in [reply.ran()["stdout"].as_str().unwrap(), &through_gateway.stdout] {
        // 3 is the directory that `ls` itself has open.
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_starts_with_clean_signals_and_the_usual_descriptor_limit() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app =
        App::start_with(&scratch, scratch.openclaw_under(&["sh", "-c", "ulimit -S -n 300; exec \"$0\" \"$@\""], APP));
    let exec = app.exec(&scratch);
    let status = exec.run(&[&program("cat"), "/proc/self/status"]);
    let status = status.ran()["stdout"].as_str().unwrap().to_owned();
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(status.contains(line), "{status}");
    }
    let limit = exec.run(&[&program("sh"), "-c", "ulimit -S -n"]);
    assert_eq!(limit.ran()["stdout"], json!("300\n"), "children get the old soft limit");
    let stdin = exec.run(&[&program("cat")]);
    assert_eq!(stdin.ran()["stdout"], json!(""), "standard input is empty");
}

#[test]
fn sec_a120_the_work_ends_with_the_one_who_asked_for_it() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let start = |marker: &str| {
        let script = format!("sleep {marker} & sleep {marker}");
        exec.signed(&json!({ "command": [program("sh"), "-c", script] }).to_string())
    };
    let lives = |marker: &str| wait_until("the command", || (processes_named(marker).len() >= 2).then_some(()));
    let gone = |marker: &str| wait_until("the end of the command", || processes_named(marker).is_empty().then_some(()));

    for half_closed_before in [false, true] {
        let marker = sleep_marker();
        let mut stream = exec.connect();
        stream.write_all(format!("{}\n", Value::Object(start(&marker))).as_bytes()).unwrap();
        if half_closed_before {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        lives(&marker);
        drop(stream);
        gone(&marker);
    }

    let marker = sleep_marker();
    let operator = Process::spawn(scratch.mac_debug_command(&["run", "--", "sleep", &marker]));
    wait_until("the command", || {
        (processes_named(&marker).iter().any(|row| row.command.starts_with("sleep"))).then_some(())
    });
    drop(operator); // SIGKILL
    gone(&marker);

    // A half-close is no cancel: the official client always does it.
    let reply = exec.run(&[&program("sh"), "-c", "sleep 1.5; echo done"]);
    assert_eq!(reply.ran()["stdout"], json!("done\n"));
    assert!(reply.blanks >= 1, "a blank line a second tells a waiting client that the app lives");
}

#[test]
fn sec_a123_a_limit_is_told_from_a_failure() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let marker = sleep_marker();
    let request = json!({ "command": ["sleep", marker], "timeoutMs": 1000 });
    let asked = Instant::now();
    let reply = exec.request(&request);
    assert!(
        asked.elapsed() >= Duration::from_millis(900) && asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(reply.ran()["timedOut"], json!(true));
    assert_eq!(reply.ran()["success"], json!(false));
    let invoked = invoke_run(&scratch, &request);
    assert!(invoked.stdout.replace(' ', "").contains("\"timedOut\":true"), "{invoked:?}");
    assert!(processes_named(&marker).is_empty());
}

#[test]
fn sec_a123_a_run_may_outlast_what_the_official_client_waits() {
    let (scratch, _app, exec) = permissive();
    wait_for_node(&scratch);
    let direct = thread::spawn(move || exec.request(&json!({ "command": ["sleep", "21.5"], "timeoutMs": 60_000 })));
    let run = Process::spawn(scratch.mac_debug_command(&[
        "run",
        "--timeout",
        "60000",
        "--",
        "sh",
        "-c",
        "sleep 21.5; echo done",
    ]));
    let ran = finish_within(run, Duration::from_secs(50));
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "done\n"), "{ran:?}");
    assert_eq!(direct.join().unwrap().ran()["exitCode"], json!(0));
}

#[test]
fn sec_a149_endless_output_is_capped_and_marked() {
    /// Both streams together, plus the marker and replacement characters.
    const CAP: usize = 200_000;
    let (_scratch, app, exec) = permissive();
    for (what, script) in [
        ("lines", "yes"),
        ("lines on standard error", "yes >&2"),
        ("no line ends", "tr '\\0' x < /dev/zero"),
        ("both streams", "yes out & yes err >&2"),
    ] {
        let asked = Instant::now();
        let reply = exec.request(&json!({ "command": [program("sh"), "-c", script], "timeoutMs": 2_000 }));
        assert!(asked.elapsed() < Duration::from_secs(8), "{what}: {:?}", asked.elapsed());
        let payload = reply.ran();
        assert_eq!(payload["timedOut"], json!(true), "{what}");
        let (stdout, stderr) = (payload["stdout"].as_str().unwrap(), payload["stderr"].as_str().unwrap());
        let kept = stdout.len() + stderr.len();
        assert!((CAP..CAP + 64).contains(&kept), "{what}: {kept} bytes");
        let marked = if stderr.trim().is_empty() { stdout } else { stderr };
        assert!(marked.ends_with("... (truncated)"), "{what}");
    }
    if cfg!(target_os = "linux") {
        let status = fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>();
        assert!(peak.unwrap() < 65_536, "{status}");
    }
    exec.assert_works();
}

#[test]
fn sec_a150_a_limit_ends_the_whole_group_on_time() {
    let (_scratch, app, exec) = permissive();
    let limit = |script: &str| {
        let asked = Instant::now();
        let reply = exec.request(&json!({ "command": [program("sh"), "-c", script], "timeoutMs": 1_000 }));
        assert!(asked.elapsed() < Duration::from_secs(6), "{script}: {:?}", asked.elapsed());
        reply.ran().clone()
    };
    let gone = |marker: &str| wait_until("the end of the group", || processes_named(marker).is_empty().then_some(()));

    let marker = sleep_marker();
    assert_eq!(limit(&format!("sleep {marker} & sleep {marker}"))["timedOut"], json!(true));
    gone(&marker);

    let marker = sleep_marker();
    assert_eq!(
        limit(&format!("trap '' TERM; sleep {marker} & while :; do sleep {marker}; done"))["timedOut"],
        json!(true)
    );
    gone(&marker);

    // The shell itself ends at once; what it left holds standard output.
    let marker = sleep_marker();
    let left = limit(&format!("(sleep {marker} &) ; echo started"));
    assert_eq!(left["stdout"], json!("started\n"));
    kill_named(&marker);

    // A non-zero exit takes the rest of the group along.
    let marker = sleep_marker();
    assert_eq!(limit(&format!("sleep {marker} & exit 3"))["exitCode"], json!(3));
    gone(&marker);

    if have("setsid", "sec_a150, a child in a session of its own") {
        // Documented: who leaves the group outlives the limit. The answer is on time all the same.
        let marker = sleep_marker();
        assert_eq!(limit(&format!("setsid sleep {marker} & sleep {marker}"))["timedOut"], json!(true));
        kill_named(&marker);
    }
    exec.assert_works();
    wait_until("no child left", || children(app.pid()).is_empty().then_some(()));
}

/// What stands where the app should be.
#[derive(Clone, Copy)]
enum Impostor {
    /// Answers success, without knowing the token.
    Unproven,
    /// Answers with a proof made of something else.
    WrongProof,
    /// Answers with the proof of an earlier exchange.
    Replayed,
    /// Takes the request and closes.
    Silent,
    /// Knows the token.
    Genuine,
}

/// Serves the exec socket of `scratch` like `impostor`; each accepted request line is reported.
fn serve(scratch: &Scratch, impostor: Impostor) -> mpsc::Receiver<Value> {
    let token = "t".repeat(32);
    scratch.approvals(&json!({
        "version": 1, "socket": { "token": token }, "defaults": { "security": "full", "ask": "off" },
    }));
    let listener = UnixListener::bind(exec_socket(scratch)).unwrap();
    set_mode(&exec_socket(scratch), 0o600);
    let (report, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            if BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap_or(0) == 0 {
                continue;
            }
            let request: Value = serde_json::from_str(&line).unwrap();
            let id = request["id"].as_str().unwrap();
            let open = format!(
                r#"{{"type":"exec-res","id":"{id}","ok":true,"payload":{{"exitCode":0,"timedOut":false,"success":true,"stdout":"from the socket\n","stderr":""}}"#
            );
            let nonce = request["nonce"].as_str().unwrap();
            let proof =
                |key: &str, nonce: &str| format!(",\"mac\":\"{}\"", hmac_hex(key, &format!("res:{nonce}:{open}")));
            let proof = match impostor {
                Impostor::Silent => None,
                Impostor::Unproven => Some(String::new()),
                Impostor::WrongProof => Some(proof("something else", nonce)),
                Impostor::Replayed => Some(proof(&token, "0123456789abcdef0123456789abcdef")),
                Impostor::Genuine => Some(proof(&token, nonce)),
            };
            if let Some(proof) = proof {
                let _ = stream.write_all(format!("{open}{proof}}}\n").as_bytes());
            }
            let _ = report.send(request);
        }
    });
    requests
}

/// Runs `touch CANARY` through a gateway and a node of its own that forwards to `impostor`.
fn run_through_node(impostor: Impostor, node_flags: &[&str]) -> (Finished, usize) {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    let requests = serve(&scratch, impostor);
    let gateway = Gateway::new();
    let socket = gateway.socket();
    let arguments = ["node", "run", "--socket", socket.to_str().unwrap(), "--exec-host", "app"];
    let mut command = scratch.openclaw(&[&arguments, node_flags].concat());
    command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let mut node = Process::spawn(command);
    let mut owner = gateway.owner();
    let pending = wait_until("the node's surface", || {
        assert!(node.ended().is_none(), "the node ended: {}", node.stderr());
        let list = owner.request("node.pair.list", json!({})).unwrap();
        Some(list["pending"].as_array()?.first()?["requestId"].as_str()?.to_owned())
    });
    owner.request("node.pair.approve", json!({ "requestId": pending })).unwrap();
    let ran =
        Process::run(gateway.mac_debug(&["run", "--", program("touch").as_str(), scratch.canary().to_str().unwrap()]));
    assert!(!scratch.canary().exists(), "the node ran the command itself");
    node.signal(libc::SIGTERM);
    node.finish();
    (ran, requests.try_iter().count())
}

#[test]
fn sec_h02_an_answer_without_proof_is_a_failure() {
    for impostor in [Impostor::Unproven, Impostor::WrongProof, Impostor::Replayed, Impostor::Silent] {
        let (ran, requests) = run_through_node(impostor, &[]);
        assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
        assert!(!ran.stdout.contains("from the socket"), "{ran:?}");
        assert!(words_of(&ran).contains("COMPANION_APP_UNAVAILABLE"), "{ran:?}");
        assert_eq!(requests, 1, "once written, a request is never tried again");
    }
    let (ran, requests) = run_through_node(Impostor::Genuine, &[]);
    assert_eq!((ran.code, &*ran.stdout, requests), (Some(0), "from the socket\n", 1), "{ran:?}");
}

#[test]
fn sec_h02_the_official_app_is_believed_only_when_the_owner_says_so() {
    let (ran, requests) = run_through_node(Impostor::Unproven, &["--exec-host-peer", "official"]);
    assert_eq!((ran.code, &*ran.stdout, requests), (Some(0), "from the socket\n", 1), "{ran:?}");
    let (ran, _) = run_through_node(Impostor::Unproven, &["--exec-host-peer", "ours"]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
}

#[test]
fn a_node_without_its_app_refuses_and_runs_nothing() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({
        "version": 1, "socket": { "token": "t".repeat(32) }, "defaults": { "security": "full", "ask": "off" },
    }));
    let gateway = Gateway::new();
    let socket = gateway.socket();
    let node_with = |exec_host: &str| {
        let mut command =
            scratch.openclaw(&["node", "run", "--socket", socket.to_str().unwrap(), "--exec-host", exec_host]);
        command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        Process::spawn(command)
    };
    let touch = || {
        Process::run(gateway.mac_debug(&["run", "--", program("touch").as_str(), scratch.canary().to_str().unwrap()]))
    };
    let node = node_with("app");
    let mut owner = gateway.owner();
    let pending = wait_until("the node's surface", || {
        let list = owner.request("node.pair.list", json!({})).unwrap();
        Some(list["pending"].as_array()?.first()?["requestId"].as_str()?.to_owned())
    });
    owner.request("node.pair.approve", json!({ "requestId": pending })).unwrap();
    let refused = touch();
    assert!(words_of(&refused).contains("COMPANION_APP_UNAVAILABLE"), "{refused:?}");
    assert!(!scratch.canary().exists());
    node.signal(libc::SIGTERM);
    node.finish();
    let _local = node_with("local");
    wait_until("the twin that runs by itself", || (touch().code == Some(0)).then_some(()));
    assert!(scratch.canary().exists());
}

#[test]
fn a_missing_directory_and_a_missing_program_have_a_sentence() {
    let (scratch, _app, exec) = permissive();
    let nowhere = scratch.join("nowhere");
    let file = scratch.join("file");
    fs::write(&file, "").unwrap();
    let cwd = |path: &Path| exec.request(&json!({ "command": [program("echo")], "cwd": path }));
    for (what, reply) in [
        ("no such directory", cwd(&nowhere)),
        ("a file as directory", cwd(&file)),
        ("no such program", exec.run(&["no-such-program-here"])),
        ("a file that is no program", exec.run(&[file.to_str().unwrap()])),
    ] {
        let value = reply.value();
        let text = value["error"]["message"].as_str().or_else(|| value["payload"]["error"].as_str());
        assert!(text.is_some_and(|text| text.len() > 8), "{what}: {value}");
        assert_ne!(value["payload"]["success"], json!(true), "{what}");
    }
    exec.assert_works();
}
