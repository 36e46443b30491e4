//! What lies on disk: who may read it, what a broken policy means, what is there when nothing is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use support::{Process, mode, wait_until};
use support_exec::*;

/// Every entry below `dir`, and `dir` itself.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    visit(dir);
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), visit);
        } else {
            visit(&entry.path());
        }
    }
}

/// Asserts that nobody else can use anything below `dir`; gives how many sockets and files there are.
fn assert_private(dir: &Path) -> (usize, usize) {
    let (mut sockets, mut files) = (0, 0);
    walk(dir, &mut |path| {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        let expected = if kind.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path), expected, "{}", path.display());
        sockets += usize::from(kind.is_socket());
        files += usize::from(kind.is_file());
    });
    (sockets, files)
}

#[test]
fn sec_a137_nothing_in_the_state_directory_is_for_others() {
    let scratch = Scratch::new();
    let starter = ["sh", "-c", "umask 000; exec \"$0\" \"$@\""];
    let app = App::start_with(&scratch, scratch.openclaw_under(&starter, APP));
    wait_for_node(&scratch);
    let exec = app.exec(&scratch);
    assert!(exec.run(&[&program("touch"), scratch.canary().to_str().unwrap()]).is_refusal());
    let debug = scratch.openclaw_under(&starter, &["mac-debug", "run", "--", "true"]);
    Process::run(debug);
    let (sockets, files) = assert_private(&scratch.state());
    assert!(sockets >= 2, "exec-approvals.sock and gateway.sock");
    assert!(files >= 2, "documents, keys, locks");
    drop(app);
    assert_private(&scratch.state());
    let config: Vec<_> = fs::read_dir(scratch.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(config.iter().any(|name| name == "openclaw.json"), "{config:?}");
}

#[test]
fn sec_a137_a_loosened_directory_is_repaired_or_reported() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    set_mode(&scratch.state(), 0o755);
    let mut app = App::spawn(&scratch, scratch.openclaw(APP));
    let settled = wait_until("a repaired directory or a refusal", || {
        if !app.is_alive() {
            return Some(false);
        }
        std::os::unix::net::UnixStream::connect(exec_socket(&scratch)).ok().map(|_| true)
    });
    if settled {
        assert_eq!(mode(&scratch.state()), 0o700);
    } else {
        assert!(app.log().contains("0700") || app.log().contains("700"), "{}", app.log());
    }
}

/// Documents that must mean "nothing runs", with their names.
fn broken_documents() -> Vec<(&'static str, Vec<u8>)> {
    let entry = format!(r#""agents":{{"*":{{"allowlist":[{{"pattern":"{}"}}]}}}}"#, program("echo"));
    let full = r#""defaults":{"security":"full","ask":"off"}"#;
    let document = |text: &str| text.replace("ENTRY", &entry).replace("FULL", full).into_bytes();
    let mut oversized = document(r#"{"version":1,FULL,ENTRY}"#);
    oversized.resize(100 * 1024 * 1024, b' ');
    vec![
        ("empty", Vec::new()),
        ("blank", b"  \n".to_vec()),
        ("not JSON", b"security: full".to_vec()),
        ("truncated", document(r#"{"version":1,FULL,ENTRY"#)),
        ("garbage behind", document(r#"{"version":1,FULL,ENTRY} x"#)),
        ("byte order mark", [b"\xef\xbb\xbf".to_vec(), document(r#"{"version":1,FULL,ENTRY}"#)].concat()),
        ("not UTF-8", [document(r#"{"version":1,FULL,ENTRY,"x":""#), b"\xff\"}".to_vec()].concat()),
        ("no version", document(r#"{FULL,ENTRY}"#)),
        ("version 0", document(r#"{"version":0,FULL,ENTRY}"#)),
        ("version 2", document(r#"{"version":2,FULL,ENTRY}"#)),
        ("version as text", document(r#"{"version":"1",FULL,ENTRY}"#)),
        ("version 1.5", document(r#"{"version":1.5,FULL,ENTRY}"#)),
        ("an array", document(r#"[{"version":1,FULL,ENTRY}]"#)),
        ("null", b"null".to_vec()),
        ("number for a word", document(r#"{"version":1,"defaults":{"security":2,"ask":"off"},ENTRY}"#)),
        ("unknown word", document(r#"{"version":1,"defaults":{"security":"ful","ask":"off"},ENTRY}"#)),
        ("another case", document(r#"{"version":1,"defaults":{"security":"FULL","ask":"off"},ENTRY}"#)),
        ("unknown ask", document(r#"{"version":1,"defaults":{"security":"full","ask":"never"},ENTRY}"#)),
        ("defaults of a wrong type", document(r#"{"version":1,"defaults":"full",ENTRY}"#)),
        ("agents of a wrong type", document(r#"{"version":1,FULL,"agents":[]}"#)),
        ("an agent that is null", document(r#"{"version":1,FULL,"agents":{"*":null}}"#)),
        ("an empty pattern", document(r#"{"version":1,FULL,"agents":{"*":{"allowlist":[{"pattern":""}]}}}"#)),
        ("a pattern that is no text", document(r#"{"version":1,FULL,"agents":{"*":{"allowlist":[{"pattern":1}]}}}"#)),
        ("a member twice", document(r#"{"version":1,"defaults":{"security":"deny"},FULL,ENTRY}"#)),
        ("an agent twice", document(r#"{"version":1,FULL,"agents":{"a":{"security":"deny"},"a":{}}}"#)),
        ("too deep", document(&format!(r#"{{"version":1,FULL,ENTRY,"x":{}{}}}"#, "[".repeat(500), "]".repeat(500)))),
        ("100 MB", oversized),
    ]
}

#[test]
fn sec_a139_a_broken_document_denies_and_is_never_overwritten() {
    let scratch = Scratch::new();
    let good = allowing(&["echo"]);
    scratch.approvals(&good);
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    wait_for_node(&scratch);
    exec.assert_works();
    let sound = fs::read(scratch.approvals_path()).unwrap();
    for (what, bytes) in broken_documents() {
        write_private(&scratch.approvals_path(), &bytes);
        // The token is in the document too, so that the answer may be a refused authentication.
        assert!(exec.run(&[&program("touch"), scratch.canary().to_str().unwrap()]).is_refusal(), "{what}");
        let always = json!({ "command": [program("echo")], "approvalDecision": "allow-always" });
        assert!(exec.request(&always).is_refusal(), "{what}");
        assert!(app.log().contains("exec-approvals.json"), "{what}: {}", app.log());
        let refused = scratch.mac_debug(&["run", "--", "touch", scratch.canary().to_str().unwrap()]);
        assert!(refused.code.is_some_and(|code| code != 0), "{what}: {refused:?}");
        assert!(refused.stderr.contains("approvals"), "{what}: the caller is told why: {refused:?}");
        assert!(fs::read(scratch.approvals_path()).unwrap() == bytes, "{what}: the bytes on disk have changed");
    }
    stays_absent(&scratch.canary());
    write_private(&scratch.approvals_path(), &sound);
    exec.assert_works();
}

#[test]
fn sec_a139_an_app_that_starts_beside_a_broken_document_runs_nothing() {
    for (what, bytes) in broken_documents() {
        let scratch = Scratch::new();
        make_dir(&scratch.state());
        write_private(&scratch.approvals_path(), &bytes);
        let mut app = App::spawn(&scratch, scratch.openclaw(APP));
        wait_until("words about the document", || {
            let said = app.log().contains("exec-approvals.json");
            assert!(said || app.is_alive(), "{what}: it ended without a word: {}", app.log());
            said.then_some(())
        });
        drop(app);
        assert!(fs::read(scratch.approvals_path()).unwrap() == bytes, "{what}: the bytes on disk have changed");
    }
}

#[test]
fn unknown_members_survive_and_do_not_break() {
    let scratch = Scratch::new();
    let mut document = allowing(&["echo"]);
    document["tomorrow"] = json!({ "x": [1, 2] });
    document["agents"]["*"]["allowlist"][0]["note"] = json!("mine");
    document["agents"]["*"]["allowlist"][0]["lastUsedAt"] = json!(1.5);
    scratch.approvals(&document);
    let app = App::start(&scratch);
    app.exec(&scratch).assert_works();
    let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    assert_eq!(stored["tomorrow"], json!({ "x": [1, 2] }), "the token was added, nothing was lost");
    assert_eq!(stored["agents"]["*"]["allowlist"][0]["note"], json!("mine"));
}

#[test]
fn policy_is_read_at_each_decision_and_the_stricter_word_wins() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    exec.assert_works();
    scratch.edit_approvals(|document| document["agents"] = json!({}));
    exec.run(&[&program("echo")]).refused("UNAVAILABLE");
    scratch.edit_approvals(|document| {
        drop(document.insert("defaults".into(), json!({ "security": "full", "ask": "off" })))
    });
    exec.assert_works();
    scratch.edit_approvals(|document| drop(document.insert("defaults".into(), json!({ "security": "deny" }))));
    let denied = exec.run(&[&program("echo")]);
    assert_eq!(denied.refused("UNAVAILABLE")["reason"], json!("security=deny"));
    scratch.edit_approvals(|document| {
        drop(document.insert("defaults".into(), json!({ "security": "full", "ask": "always" })))
    });
    exec.run(&[&program("echo")]).refused("UNAVAILABLE");
    // Of a claimed agent only what is stricter counts.
    scratch.edit_approvals(|document| {
        document.insert("defaults".into(), json!({ "security": "full", "ask": "off" }));
        document.insert("agents".into(), json!({ "careful": { "security": "deny" } }));
    });
    exec.assert_works();
    let careful = exec.request(&json!({ "command": [program("echo")], "agentId": "careful" }));
    assert_eq!(careful.refused("UNAVAILABLE")["reason"], json!("security=deny"));
    exec.request(&json!({ "command": [program("echo")], "agentId": "unknown" })).ran();
}

#[test]
fn an_entry_names_the_file_that_runs() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let echo = program("echo");
    exec.run(&["echo"]).ran();
    let link = scratch.join("echo");
    symlink(&echo, &link).unwrap();
    exec.run(&[link.to_str().unwrap(), "by a link"]).ran();
    fs::remove_file(&link).unwrap();
    symlink(program("touch"), &link).unwrap();
    exec.run(&[link.to_str().unwrap(), scratch.canary().to_str().unwrap()]).refused("UNAVAILABLE");
    // A text and a wrapper are what they start.
    exec.run(&["sh", "-c", "echo x"]).ran();
    exec.run(&["env", "echo", "x"]).ran();
    let touch = format!("touch {}", scratch.canary().display());
    let hidden = format!("echo $({touch})");
    for command in [json!(["sh", "-c", touch]), json!(["sh", "-c", hidden]), json!([format!("{echo}x")])] {
        assert!(exec.request(&json!({ "command": command })).is_refusal(), "{command}");
    }
    stays_absent(&scratch.canary());
}

#[test]
fn sec_a140_a_fresh_directory_allows_nothing_unasked() {
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let exec = app.exec(&scratch);
    for request in [
        json!({ "command": [program("echo"), "harmless"] }),
        json!({ "command": [program("touch"), scratch.canary()] }),
        json!({ "command": [program("echo")], "agentId": "main" }),
        json!({ "command": [program("echo")], "agentId": "no-such-agent" }),
        json!({ "command": [program("echo")], "agentId": "*" }),
    ] {
        let reply = exec.request(&request);
        let reason = reply.refused("UNAVAILABLE")["reason"].clone();
        assert_ne!(reason, json!("security=deny"), "the default asks, it does not forbid: {request}");
        let invoked = scratch.mac_debug(&["invoke", "system.run", &request.to_string()]);
        assert!(invoked.code.is_some_and(|code| code != 0), "{request}: {invoked:?}");
    }
    stays_absent(&scratch.canary());
    // Nothing that loosens was written by the way.
    let document = fs::read_to_string(scratch.approvals_path()).unwrap();
    assert!(!document.contains("full") && !document.contains("allowlist\":[{"), "{document}");
}

#[test]
fn the_token_is_made_once_and_is_long() {
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    let token = socket_token(&scratch);
    assert_eq!(token.len(), 32, "24 random bytes");
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{token}");
    assert!(!app.log().contains(&token), "a secret in the log");
    drop(app);
    let app = App::start(&scratch);
    assert_eq!(socket_token(&scratch), token);
    drop(app);
    let other = Scratch::new();
    let _app = App::start(&other);
    assert_ne!(socket_token(&other), token);
}

/// Whether an app started on this directory serves somebody who knows the token.
fn serves(scratch: &Scratch, token: &str) -> (bool, String) {
    let mut app = App::spawn(scratch, scratch.openclaw(APP));
    let socket = exec_socket(scratch);
    let serving = wait_until("service or an end", || {
        if !app.is_alive() {
            return Some(false);
        }
        std::os::unix::net::UnixStream::connect(&socket).ok().map(|_| true)
    });
    let exec = Exec { socket, token: token.to_owned() };
    let ran = serving && !exec.run(&[&program("echo")]).is_refusal();
    (ran, app.log())
}

#[test]
fn sec_a121_a_token_that_others_could_have_written_or_read_serves_nobody() {
    const GOOD: &str = "0123456789abcdef0123456789abcdef";
    let with_token = |token: &str| {
        let scratch = Scratch::new();
        let mut document = allowing_everything();
        document["socket"] = json!({ "token": token });
        scratch.approvals(&document);
        scratch
    };
    let refuses = |scratch: &Scratch, what: &str| {
        let (ran, log) = serves(scratch, GOOD);
        assert!(!ran, "{what}: {log}");
        assert!(log.contains("exec-approvals.json"), "{what}: {log}");
    };

    let link = with_token(GOOD);
    fs::rename(link.approvals_path(), link.join("elsewhere.json")).unwrap();
    symlink(link.join("elsewhere.json"), link.approvals_path()).unwrap();
    refuses(&link, "a symlink");

    let hard = with_token(GOOD);
    fs::hard_link(hard.approvals_path(), hard.join("elsewhere.json")).unwrap();
    refuses(&hard, "a hard link");

    for writable in [0o666, 0o620, 0o602] {
        let loose = with_token(GOOD);
        set_mode(&loose.approvals_path(), writable);
        refuses(&loose, &format!("mode {writable:o}: others may have written it"));
    }
    for readable in [0o644, 0o640, 0o604] {
        let loose = with_token(GOOD);
        set_mode(&loose.approvals_path(), readable);
        let (ran, log) = serves(&loose, GOOD);
        assert!(log.contains("exec-approvals.json"), "mode {readable:o} is reported: {log}");
        assert!(!ran || mode(&loose.approvals_path()) == 0o600, "mode {readable:o}: refused, or repaired first: {log}");
    }

    let directory = with_token(GOOD);
    fs::remove_file(directory.approvals_path()).unwrap();
    make_dir(&directory.approvals_path());
    refuses(&directory, "a directory");

    let empty = with_token(GOOD);
    write_private(&empty.approvals_path(), b"");
    refuses(&empty, "an empty file");

    let fifo = with_token(GOOD);
    fs::remove_file(fifo.approvals_path()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(fifo.approvals_path()).status().unwrap().success());
    set_mode(&fifo.approvals_path(), 0o600);
    refuses(&fifo, "a FIFO");

    if is_root() {
        let foreign = with_token(GOOD);
        std::os::unix::fs::chown(foreign.approvals_path(), Some(65_534), None).unwrap();
        refuses(&foreign, "another owner");
        assert_eq!(fs::metadata(foreign.approvals_path()).unwrap().uid(), 65_534);
    } else {
        eprintln!("sec_a121: another owner is left out, because only root can make one");
    }

    let short = with_token("short");
    let (ran, log) = serves(&short, "short");
    assert!(!ran, "{log}");
    let blank = with_token("   ");
    assert!(!serves(&blank, "").0, "an empty key signs nothing");

    let newline = with_token(&format!("{GOOD}\n"));
    let (ran, log) = serves(&newline, GOOD);
    assert!(ran, "white space around the token is not part of it: {log}");
    let (ran, log) = serves(&with_token(GOOD), GOOD);
    assert!(ran, "{log}");
}

/// The original's agents work in the state directory: there, and nowhere else in it, commands can.
#[test]
fn commands_work_in_a_workspace_of_the_state_directory() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["touch"]));
    let [workspace, own] = ["workspace", "devices"].map(|name| scratch.state().join(name));
    fs::create_dir_all(&workspace).unwrap();
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let touch = |directory: &Path| exec.request(&json!({"command": ["touch", "made"], "cwd": directory}));
    touch(&workspace).ran();
    assert!(workspace.join("made").exists());
    if !app.log().contains("fenced by: mount namespace") {
        return println!("the rest is left out, because nothing can be hidden here");
    }
    assert_eq!(touch(&own).refused("UNAVAILABLE")["reason"], "cwd-unavailable");
    assert!(!own.join("made").exists());
}
