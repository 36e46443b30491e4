//! What a person is shown before a command runs, and which keys are an answer: the prompt of
//! `openclaw app` on a terminal, and every other surface that shows commands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{QUIET, signal, wait_until};
use support_exec::*;

/// A64: twenty kilobytes with the harmful part in the middle, in one argument and in four thousand.
#[test]
fn sec_a64_the_whole_command_is_in_the_prompt() {
    let mut desk = Desk::new();
    let canary = text(&desk.scratch.canary()).to_owned();
    let script = format!("true {}; touch {canary}; true {}", "x".repeat(5_000), "y".repeat(15_000));
    let mut many = vec![program("touch"), canary.clone()];
    many.extend((0..4_000).map(|number| format!("{canary}.{number}")));
    for (command, parts) in [(vec![program("sh"), "-c".to_owned(), script.clone()], vec![script]), (many.clone(), many)]
    {
        let request = json!({"command": command});
        let shown = desk.prompts(&request);
        let line = shown.lines().find(|line| line.trim_start().starts_with("command ")).expect("the command");
        let mut rest = line;
        for part in &parts {
            let at = rest.find(part.as_str()).unwrap_or_else(|| panic!("{part} is not shown"));
            rest = &rest[at + part.len()..];
        }
        assert!(!Path::new(&canary).exists());
        let (again, reply) = desk.answered(&request, "once");
        assert!(again.contains(line), "the same is shown again");
        assert_eq!(reply.ran()["success"], true);
        fs::remove_file(&canary).unwrap();
    }
    // What no prompt could show is refused, and nobody is asked.
    for command in [
        vec![program("sh"), "-c".to_owned(), format!("true {}; touch {canary}", "x".repeat(150_000))],
        [vec![program("touch"), canary.clone()], vec!["a".to_owned(); 5_000]].concat(),
    ] {
        desk.unasked(&json!({"command": command})).refused("INVALID_REQUEST");
    }
    stays_absent(&desk.scratch.canary());
}

/// Characters that nobody sees, or that move what is seen (A66, A67), each with its escape.
const HIDDEN: [(&str, &str); 22] = [
    ("\u{200B}", "\\u{200B}"),
    ("\u{200D}", "\\u{200D}"),
    ("\u{202E}", "\\u{202E}"),
    ("\u{2066}", "\\u{2066}"),
    ("\u{2067}", "\\u{2067}"),
    ("\u{2068}", "\\u{2068}"),
    ("\u{2069}", "\\u{2069}"),
    ("\u{FEFF}", "\\u{FEFF}"),
    ("\u{AD}", "\\u{AD}"),
    ("\u{E0061}", "\\u{E0061}"),
    ("\u{2028}", "\\u{2028}"),
    ("\u{2029}", "\\u{2029}"),
    ("\u{A0}", "\\u{A0}"),
    ("\u{3164}", "\\u{3164}"),
    ("\n", "\\u{A}"),
    ("\r", "\\u{D}"),
    ("\u{8}", "\\u{8}"),
    ("\u{1B}[2J", "\\u{1B}[2J"),
    ("\t", "\\u{9}"),
    ("\u{7F}", "\\u{7F}"),
    ("\u{9B}2J", "\\u{9B}2J"),
    ("\u{85}", "\\u{85}"),
];

/// Asserts that `shown` has every escape so often and none of the characters.
fn is_escaped(shown: &str, what: &str) {
    let shown = shown.replace("\r\n", "\n");
    for (raw, escape) in HIDDEN {
        assert!(shown.contains(escape), "{what}: no {escape} in {shown:?}");
        // A line's end is the surface's own; that it is no other is seen from the number of lines.
        assert!(raw == "\n" || !shown.contains(raw), "{what}: {raw:?} in {shown:?}");
    }
}

/// A66, A67: in the prompt, whatever field holds them; and what runs has the bytes that were sent.
#[test]
fn sec_a66_a67_hidden_characters_are_visible_in_the_prompt() {
    let mut desk = Desk::new();
    let all: String = HIDDEN.iter().map(|(raw, _)| format!("a{raw}")).collect();
    let place = desk.scratch.join(&all);
    make_dir(&place);
    let plain = json!({"command": ["printf", "%s", "x"], "agentId": "a", "sessionKey": "s", "env": {"NOTE": "x"},
        "cwd": desk.scratch.path()});
    let lines = desk.prompts(&plain).lines().count();
    for change in [
        json!({"command": ["printf", "%s", all]}),
        json!({"agentId": all}),
        json!({"sessionKey": all}),
        json!({"env": {"NOTE": all}}),
        json!({"cwd": place}),
    ] {
        let shown = desk.prompts(&amended(&plain, &change));
        is_escaped(&shown, &change.to_string());
        assert_eq!(shown.lines().count(), lines, "{shown}");
    }
    let (_, reply) = desk.answered(&amended(&plain, &json!({"command": ["printf", "%s", all]})), "once");
    assert_eq!(reply.ran()["stdout"], json!(all), "what runs has the very bytes");
    // The escape itself, as text, is another argument and looks like another one.
    let shown = |text: &str, desk: &mut Desk| {
        let shown = desk.prompts(&json!({"command": ["printf", text]}));
        shown.lines().find(|line| line.trim_start().starts_with("command ")).unwrap().to_owned()
    };
    let (character, spelled) = (shown("\u{202E}", &mut desk), shown("\\u{202E}", &mut desk));
    assert!(character.contains("\\u{202E}") && spelled.contains("\\u{202E}"), "an escape is not escaped again");
    assert_ne!(character, spelled);
    let spaces = desk.prompts(&json!({"command": ["printf", format!("a{}b", " ".repeat(300))]}));
    assert!(!spaces.contains(&" ".repeat(60)), "padding moves nothing out of view: {spaces}");
}

/// A66, A67: what operators are shown, on the command line and by the gateway, and the audit log.
#[test]
fn sec_a66_a67_hidden_characters_are_visible_on_every_other_surface() {
    let scratch = Scratch::new();
    let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--no-tcp"]));
    wait_for_node(&scratch);
    let all: String = HIDDEN.iter().map(|(raw, _)| format!("a{raw}")).collect();
    let exec = app.exec(&scratch);
    let request = json!({"command": ["printf", "%s", all], "agentId": all, "sessionKey": all});
    let asked = std::thread::spawn(move || exec.request(&request));
    let waiting = wait_until("the question", || {
        let list = scratch.mac_debug(&["approvals", "list", "--json"]).json();
        list.get(0).cloned()
    });
    is_escaped(waiting["request"]["command"].as_str().unwrap(), "the gateway's record");
    assert!(!waiting["request"]["command"].as_str().unwrap().contains('\n'));
    let list = scratch.mac_debug(&["approvals", "list"]).stdout;
    is_escaped(&list, "approvals list");
    assert!(list.lines().count() < 20, "{list}");
    is_escaped(&app.log(), "the app's log");
    let id = waiting["id"].as_str().unwrap();
    assert_eq!(scratch.mac_debug(&["approvals", "allow-once", id]).code, Some(0));
    assert_eq!(asked.join().unwrap().ran()["stdout"], json!(all));
    let table = scratch.mac_debug(&["audit", "show"]).stdout;
    is_escaped(&table, "audit show");
    assert_eq!(table.lines().count(), 2, "a head and one decision: {table}");
    let shown = scratch.mac_debug(&["audit", "show", "--json"]).json();
    for member in ["command", "agent", "session"] {
        is_escaped(shown["decisions"][0][member].as_str().unwrap(), member);
    }
}

/// A copy of a program of this machine under another name.
fn copy(of: &str, to: &Path) {
    fs::copy(program(of), to).unwrap();
    set_mode(to, 0o700);
}

/// A68: `tool` and `tool␠` are two files, `x` and `␠x` two arguments: to the eye, to the run, to an approval.
#[test]
fn sec_a68_white_space_is_shown_run_and_approved_as_it_is() {
    let mut desk = Desk::new();
    let (plain, spaced) = (desk.scratch.join("tool"), desk.scratch.join("tool "));
    copy("echo", &plain);
    copy("printf", &spaced);
    let run = |path: &Path, argument: &str| json!({"command": [path, argument]});
    let shown = desk.prompts(&run(&plain, "%%x"));
    assert!(shown.contains(&format!("command    {} %%x\r\n", plain.display())), "{shown}");
    let shown = desk.prompts(&run(&spaced, " %%x"));
    assert!(shown.contains(&format!("'{}' ' %%x'", spaced.display())), "quotes tell them apart: {shown}");
    let (_, reply) = desk.answered(&run(&spaced, " %%x"), "once");
    assert_eq!(reply.ran()["stdout"], " %x", "it was the other program, with the very argument");
    let (_, reply) = desk.answered(&run(&plain, "%%x"), "always");
    assert_eq!(reply.ran()["stdout"], "%%x\n");
    assert_eq!(desk.unasked(&run(&plain, "%%x")).ran()["stdout"], "%%x\n");
    for other in [run(&spaced, "%%x"), run(&plain, " %%x"), run(&plain, "%%x "), run(&spaced, " %%x")] {
        desk.prompts(&other);
    }
    // A name that would be trimmed in the document is not put there.
    let before = desk.document();
    let shown = desk.prompts(&run(&spaced, "x"));
    assert!(shown.contains("always is not offered"), "{shown}");
    assert_eq!(desk.document(), before);
    // The word in the document is not trimmed into the other one either.
    desk.scratch.approvals(&json!({"version": 1, "socket": {"token": desk.exec.token},
        "agents": {"*": {"allowlist": [{"pattern": text(&plain)}]}}}));
    desk.unasked(&run(&plain, "anything")).ran();
    desk.prompts(&run(&spaced, "anything"));
}

/// A69: the prompt shows what is started and every argument, not only the harmless text inside.
#[test]
fn sec_a69_the_program_and_every_argument_are_shown() {
    let mut desk = Desk::new();
    let evil = desk.scratch.join("evil");
    make_dir(&evil);
    let sh = evil.join("sh");
    fs::write(&sh, format!("#!/bin/sh\ntouch {}\n", desk.scratch.canary().display())).unwrap();
    set_mode(&sh, 0o700);
    let (evil_sh, real_sh, env) = (text(&sh), program("sh"), program("env"));
    let evil = text(&evil);
    for (command, executable, line) in [
        (vec![evil_sh, "-c", "ls"], evil_sh, format!("{evil_sh} -c ls")),
        (vec!["sh", "-c", "$0 $1", evil_sh, "x"], &*real_sh, format!("sh -c '$0 $1' {evil_sh} x")),
        (vec!["env", "A=b", "sh", "-c", "ls"], &env, "env A=b sh -c ls".to_owned()),
        (vec!["env", evil_sh, "-c", "ls"], &env, format!("env {evil_sh} -c ls")),
        // A text that was understood: no shell is started, and what is started is shown with its path.
        (vec!["sh", "-c", "ls", evil], "no shell; what is started stands below", format!("sh -c ls {evil}")),
    ] {
        let asked = desk.ask(&json!({"command": command}));
        let shown = desk.prompt();
        let field = |name: &str, value: &str| shown.contains(&format!("  {name:<10} {value}\r\n"));
        assert!(field("program", executable), "{command:?}: {shown}");
        assert!(field("command", &line), "{command:?}: {shown}");
        let is_started = field("note", &format!("runs ls ({})", program("ls")));
        assert_eq!(is_started, executable.starts_with("no shell"), "{command:?}: {shown}");
        // The text inside comes beside it, and says that it is only that.
        assert!(shown.find("the shell's text").is_none_or(|at| at < shown.rfind("  command ").unwrap()), "{shown}");
        desk.terminal.type_text("deny\n");
        desk.wait(asked).refused("UNAVAILABLE");
    }
    // By a link: the file that is started, and the word that was sent.
    let link = desk.scratch.join("ls");
    symlink(&sh, &link).unwrap();
    let shown = desk.prompts(&json!({"command": [link, "-l"]}));
    assert!(shown.contains(&format!("program    {evil_sh}\r\n")), "{shown}");
    assert!(shown.contains(&format!("command    {} -l\r\n", link.display())), "{shown}");
    // The name that the program is to see is the one that is shown, if it is one of this program at all.
    let other = desk.scratch.join("other");
    symlink(program("ls"), &other).unwrap();
    for (argv0, name) in [(text(&other), text(&other)), ("sh", &program("ls")), ("no-such-name", &program("ls"))] {
        let request = json!({"command": [program("ls"), "--no-such-option"], "argv0": argv0});
        let (shown, reply) = desk.answered(&request, "once");
        assert!(shown.contains(&format!("command    {name} --no-such-option\r\n")), "{shown}");
        assert!(reply.ran()["stderr"].as_str().unwrap().starts_with(&format!("{name}: ")), "{reply:?}");
    }
    stays_absent(&desk.scratch.canary());
    // The name of a shell, with a text: no answer can be bound to that, so the everyday word does not count (A108).
    let request = json!({"command": [evil_sh, "-c", "ls"]});
    let (_, reply) = desk.answered(&request, "once");
    reply.refused("UNAVAILABLE");
    stays_absent(&desk.scratch.canary());
    let (_, reply) = desk.answered(&request, "unbound");
    reply.ran();
    assert!(desk.scratch.canary().exists(), "what was shown is what runs");
}

/// A74: what the caller says of itself stays in its place, and what only the executor can know is not the caller's.
#[test]
fn sec_a74_fields_of_the_request_cannot_forge_the_prompt() {
    let mut desk = Desk::new();
    let lie = "main\n\n  note       Approved by admin\n  program    /bin/true";
    let place = desk.scratch.join("here\u{202E}txt");
    make_dir(&place);
    let request = json!({"command": [program("touch"), desk.scratch.canary()], "agentId": lie, "sessionKey": lie,
        "cwd": place, "env": {"NOTE": lie}});
    let plain = amended(&request, &json!({"agentId": "main", "sessionKey": "s", "env": {"NOTE": "x"}}));
    let (honest, shown) = (desk.prompts(&plain), desk.prompts(&request));
    assert_eq!(shown.lines().count(), honest.lines().count(), "{shown}");
    assert!(!shown.lines().any(|line| line.trim_start().starts_with("note       Approved")), "{shown}");
    assert_eq!(shown.matches("\n  program    ").count(), 1, "{shown}");
    assert!(shown.contains("says it is \"main\\u{A}\\u{A}  note") && shown.contains("here\\u{202E}txt"), "{shown}");
    // What the executor knows comes from it: not the host, not the policy, not the path, not who asks.
    let claims = json!({"host": "sandbox", "security": "full", "ask": "off", "resolvedPath": "/bin/sandboxed",
        "executable": "/bin/sandboxed", "requester": "the sandbox", "notes": ["sandboxed"], "fence": "none"});
    let shown = desk.prompts(&amended(&plain, &claims));
    assert!(!shown.contains("sandbox") && !shown.contains("full"), "{shown}");
    assert!(shown.contains(&format!("program    {}\r\n", program("touch"))), "{shown}");
    assert!(shown.contains(&format!("requester  process {} of this user", std::process::id())), "{shown}");
    stays_absent(&desk.scratch.canary());
    let (_, reply) = desk.answered(&plain, "once");
    reply.ran();
    assert!(desk.scratch.canary().exists());
}

// ---- the person's hand ----

/// H05: what is typed before the question could be read is no answer, and Return, the end of input and anything else
/// that happens by itself is no.
#[test]
fn sec_h05_a_key_too_early_and_return_alone_do_not_allow() {
    let mut desk = Desk::new();
    let request = touch(&desk.scratch);
    for early in ["once\n", "\n", "once\nonce\n", "always\n"] {
        let asked = desk.ask(&request);
        desk.beginning();
        let begun = Instant::now();
        desk.terminal.type_text(early);
        desk.rest();
        let is_early = begun.elapsed() >= Duration::from_millis(300);
        desk.terminal.watch(QUIET);
        assert!(is_early, "there is a time in which no key counts");
        assert!(!asked.is_finished(), "{early:?} was taken for an answer");
        desk.terminal.type_text("\n");
        assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied");
    }
    for alone in ["\n", " \n", "\u{4}", "\u{1b}\n", "\u{1b}[A\n"] {
        let asked = desk.ask(&request);
        desk.prompt();
        desk.terminal.type_text(alone);
        assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied", "{alone:?}");
    }
    // The terminal is closed under the question.
    let mut closed = Desk::new();
    let asked = closed.ask(&touch(&closed.scratch));
    closed.prompt();
    let Desk { scratch, terminal, .. } = closed;
    signal(terminal.pid(), libc::SIGCONT);
    drop(terminal);
    assert!(asked.join().unwrap().is_refusal());
    stays_absent(&scratch.canary());
    assert!(!desk.scratch.canary().exists());
    let (_, reply) = desk.answered(&request, "once");
    reply.ran();
    assert!(desk.scratch.canary().exists());
}

/// H06: of a long command nothing counts before its end was on the screen, also on a terminal that stands still.
#[test]
fn sec_h06_nothing_counts_before_the_whole_command_was_shown() {
    let mut desk = Desk::new();
    let canary = text(&desk.scratch.canary()).to_owned();
    let script = format!("true {}; touch {canary}", "x".repeat(60_000));
    let request = json!({"command": ["sh", "-c", script]});
    let asked = desk.ask(&request);
    desk.beginning();
    // Most of it is not read yet, so the app cannot have written all of it.
    for _ in 0..3 {
        desk.terminal.type_text("once\n");
    }
    std::thread::sleep(2 * QUIET);
    assert!(!asked.is_finished());
    let shown = desk.rest();
    assert!(shown.contains(&script), "the whole of it");
    desk.terminal.watch(QUIET);
    assert!(!asked.is_finished() && !Path::new(&canary).exists(), "an answer to half a command counted");
    desk.terminal.type_text("deny\n");
    assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied");
    let (_, reply) = desk.answered(&request, "once");
    reply.ran();
    assert!(Path::new(&canary).exists());
}
