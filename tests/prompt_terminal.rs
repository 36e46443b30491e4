//! The prompt on a terminal: what a person sees, which answers count, and what ends a question.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::{Finished, Process, Pty, QUIET, signal, wait_until};
use support_exec::*;

/// The first and the last words of a prompt.
const QUESTION: &str = "allow this command?";
const ANSWER: &str = "then Return: ";

/// An app on a terminal with the default policy, or with this document.
fn on_terminal(document: Option<Value>) -> (Scratch, Pty, Exec) {
    let scratch = Scratch::new();
    if let Some(document) = document {
        scratch.approvals(&document);
    }
    let terminal = app_on_terminal(&scratch);
    let exec = Exec::of(&scratch);
    (scratch, terminal, exec)
}

/// Sends a request in the background.
fn ask(exec: &Exec, request: Value) -> JoinHandle<Reply> {
    let exec = exec.clone();
    thread::spawn(move || exec.request(&request))
}

/// Waits for the next prompt; gives its text.
fn prompt(terminal: &mut Pty) -> String {
    terminal.expect(QUESTION);
    terminal.expect(ANSWER)
}

fn touch(scratch: &Scratch) -> Value {
    json!({ "command": [program("touch"), scratch.canary()] })
}

/// Reads the terminal while something else goes on.
fn watch_until<T>(terminal: &mut Pty, thread: JoinHandle<T>) -> T {
    while !thread.is_finished() {
        terminal.watch(Duration::from_millis(10));
    }
    thread.join().unwrap()
}

#[test]
fn the_prompt_shows_what_would_run_and_once_runs_it_once() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let (true_path, directory) = (program("printf"), scratch.path().to_str().unwrap().to_owned());
    for _ in 0..2 {
        let request = json!({
            "command": ["printf", "%s|", "two words", ""], "cwd": directory,
            "agentId": "main", "sessionKey": "agent:main:tests", "env": { "GREETING": "hello" },
        });
        let asked = ask(&exec, request);
        let shown = prompt(&mut terminal);
        for part in [
            &*true_path,
            &directory,
            "two words",
            "main",
            "agent:main:tests",
            "GREETING=hello",
            "once",
            "always",
            "deny",
        ] {
            assert!(shown.contains(part), "{part} is not shown: {shown}");
        }
        terminal.type_text("once\n");
        let reply = watch_until(&mut terminal, asked);
        assert_eq!(reply.ran()["stdout"], json!("two words||"));
    }
}

#[test]
fn always_is_remembered_as_the_canonical_path() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let asked = ask(&exec, json!({ "command": ["uname", "-s"] }));
    prompt(&mut terminal);
    terminal.type_text("always\n");
    let first = watch_until(&mut terminal, asked).ran()["stdout"].clone();
    let screen = terminal.screen().matches(QUESTION).count();
    let second = watch_until(&mut terminal, ask(&exec, json!({ "command": ["uname", "-s"] })));
    assert_eq!(second.ran()["stdout"], first);
    assert_eq!(terminal.screen().matches(QUESTION).count(), screen, "the second run asks nobody");
    let document: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    assert!(document.to_string().contains(&format!("\"{}\"", program("uname"))), "{document}");
    assert_eq!(document["socket"]["token"], json!(exec.token), "what was there is still there");
    // Another program still asks.
    let other = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.type_text("deny\n");
    watch_until(&mut terminal, other).refused("UNAVAILABLE");
    assert!(!scratch.canary().exists());
}

#[test]
fn a_shell_is_asked_about_each_time() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let request = json!({ "command": [program("sh"), "-c", format!("touch {}", scratch.canary().display())] });
    let asked = ask(&exec, request.clone());
    let shown = prompt(&mut terminal);
    assert!(shown.contains("always is not offered"), "{shown}");
    terminal.type_text("always\n");
    watch_until(&mut terminal, asked).refused("UNAVAILABLE");
    assert!(!scratch.canary().exists());
    let asked = ask(&exec, request);
    prompt(&mut terminal);
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
    assert!(scratch.canary().exists());
}

#[test]
fn only_the_whole_word_allows() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    for answer in [
        "y\n",
        "yes\n",
        "\n",
        "ONCE\n",
        "once more\n",
        "onc\n",
        "o\n",
        "deny\n",
        "allow-once\n",
        "once\u{1b}\n",
        "\u{4}",
    ] {
        let asked = ask(&exec, touch(&scratch));
        prompt(&mut terminal);
        terminal.type_text(answer);
        let reply = watch_until(&mut terminal, asked);
        assert_eq!(reply.refused("UNAVAILABLE")["reason"], json!("user-denied"), "{answer:?}");
    }
    stays_absent(&scratch.canary());
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
}

#[test]
fn what_was_typed_before_the_prompt_answers_nothing() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    terminal.type_text("once\nonce\n");
    terminal.watch(QUIET);
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.watch(QUIET);
    assert!(!asked.is_finished() && !scratch.canary().exists(), "type-ahead answered the prompt");
    terminal.type_text("deny\n");
    watch_until(&mut terminal, asked).refused("UNAVAILABLE");
}

#[test]
fn sec_a67_control_characters_show_as_one_visible_line() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let newlines = "\n".repeat(200);
    let tricks = [
        &*newlines,
        "\r",
        "\u{8}\u{8}",
        "\u{1b}[2J\u{1b}[1;1H",
        "\t",
        "\u{7f}",
        "\u{9b}2J",
        "\u{202e}",
        "\u{200b}",
        "\u{2028}",
    ];
    let mut argv = vec![program("touch")];
    argv.extend(tricks.iter().map(|trick| format!("a{trick}b")));
    argv.push(scratch.canary().to_str().unwrap().to_owned());
    let asked = ask(&exec, json!({ "command": argv, "agentId": "m\nn", "sessionKey": "s\u{1b}[1A" }));
    let shown = prompt(&mut terminal);
    assert!(!scratch.canary().exists(), "nothing runs before the answer");
    // The terminal itself sends `\r\n` at a line's end; nothing else may come out.
    let hidden: Vec<char> = shown
        .replace("\r\n", "")
        .chars()
        .filter(|character| character.is_control() || "\u{202e}\u{200b}\u{2028}".contains(*character))
        .collect();
    assert_eq!(hidden, Vec::<char>::new(), "{shown:?}");
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(scratch.canary().to_str().unwrap())).collect();
    assert_eq!(lines.len(), 1, "the command is one line: {shown}");
    for escape in
        ["\\u{A}", "\\u{D}", "\\u{8}", "\\u{1B}", "\\u{9}", "\\u{7F}", "\\u{9B}", "\\u{202E}", "\\u{200B}", "\\u{2028}"]
    {
        assert!(lines[0].contains(escape), "{escape} is not shown: {}", lines[0]);
    }
    assert_eq!(lines[0].matches("\\u{A}").count(), 200, "nothing is cut");
    assert!(shown.lines().count() < 20, "the height is not the caller's: {shown}");
    terminal.type_text("deny\n");
    watch_until(&mut terminal, asked).refused("UNAVAILABLE");
    stays_absent(&scratch.canary());
}

#[test]
fn sec_a70_a_question_answered_with_deny_or_asked_of_nobody_runs_nothing() {
    // (a) a person says no
    let (scratch, mut terminal, exec) = on_terminal(Some(allowing(&["echo"])));
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.type_text("deny\n");
    assert_eq!(watch_until(&mut terminal, asked).refused("UNAVAILABLE")["reason"], json!("user-denied"));
    stays_absent(&scratch.canary());
    exec.assert_works();

    // (b) there is nobody
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    exec.request(&touch(&scratch)).refused("UNAVAILABLE");
    stays_absent(&scratch.canary());
    exec.assert_works();
}

#[test]
fn sec_a70_an_app_in_the_background_of_its_terminal_asks_nobody() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    // A shell with job control puts the app into a background process group.
    let starter = ["sh", "-c", "set -m; \"$0\" \"$@\" & echo $! > pid; wait"];
    let mut terminal = Pty::spawn(scratch.openclaw_under(&starter, &["app", "--ask", "terminal", "--no-tcp"]));
    wait_until("the exec socket", || {
        terminal.watch(Duration::from_millis(10));
        std::os::unix::net::UnixStream::connect(exec_socket(&scratch)).ok()
    });
    let exec = Exec::of(&scratch);
    for _ in 0..2 {
        let asked = ask(&exec, touch(&scratch));
        watch_until(&mut terminal, asked).refused("UNAVAILABLE");
    }
    stays_absent(&scratch.canary());
    terminal.watch(QUIET);
    assert!(!terminal.screen().contains(QUESTION), "{}", terminal.screen());
    assert_eq!(terminal.screen().matches("not in the foreground").count(), 1, "said once: {}", terminal.screen());
    watch_until(&mut terminal, ask(&exec, json!({ "command": [program("echo")] }))).ran();
    let pid = fs::read_to_string(scratch.join("pid")).unwrap().trim().parse().unwrap();
    signal(pid, libc::SIGTERM);
    terminal.finish();
}

#[test]
fn a_question_whose_asker_is_gone_is_withdrawn_and_a_late_answer_does_nothing() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let line = exec.signed(&touch(&scratch).to_string());
    for half_closed in [false, true] {
        let line = if half_closed { exec.signed(&touch(&scratch).to_string()) } else { line.clone() };
        let mut stream = exec.connect();
        stream.write_all(format!("{}\n", Value::Object(line)).as_bytes()).unwrap();
        if half_closed {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        prompt(&mut terminal);
        terminal.watch(QUIET);
        assert!(!terminal.screen().contains("withdrawn") || half_closed, "an open connection is no withdrawal");
        drop(stream);
        terminal.expect("withdrawn");
        terminal.type_text("once\n");
        terminal.watch(QUIET);
    }
    stays_absent(&scratch.canary());

    // The same when the operator who asked is killed.
    let canary = scratch.canary();
    let run = ["run", "--", "touch", canary.to_str().unwrap()];
    let operator = {
        let spawn = || Process::spawn(scratch.mac_debug_command(&run));
        let mut operator = spawn();
        wait_until("a question from the operator", || {
            terminal.watch(Duration::from_millis(10));
            if operator.ended().is_some() {
                operator = spawn(); // the node was not connected yet
            }
            (terminal.screen().matches(QUESTION).count() == 3).then_some(())
        });
        operator
    };
    prompt(&mut terminal);
    drop(operator); // SIGKILL
    terminal.expect("withdrawn");
    terminal.type_text("once\n");
    stays_absent(&scratch.canary());

    // The next question is a new one.
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
}

#[test]
fn sec_a119_a_hundred_vanished_askers_leave_the_prompt_usable() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    for _ in 0..100 {
        let mut stream = exec.connect();
        stream.write_all(format!("{}\n", Value::Object(exec.signed(&touch(&scratch).to_string()))).as_bytes()).unwrap();
        drop(stream);
        terminal.watch(Duration::from_millis(2));
    }
    let asked = ask(&exec, json!({ "command": ["uname"] }));
    loop {
        let shown = prompt(&mut terminal);
        if shown.contains("uname") {
            break;
        }
    }
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
    assert!(!scratch.canary().exists());
}

#[test]
fn questions_come_one_at_a_time() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let commands = ["one", "two", "three"].map(|word| json!({ "command": [program("touch"), scratch.join(word)] }));
    let mut asked: Vec<_> = commands.iter().map(|request| ask(&exec, request.clone())).collect();
    for answered in 0..3 {
        let shown = prompt(&mut terminal);
        terminal.watch(QUIET);
        assert_eq!(terminal.screen().matches(QUESTION).count(), answered + 1, "two prompts at once");
        let word = ["one", "two", "three"]
            .into_iter()
            .find(|word| shown.contains(scratch.join(word).to_str().unwrap()))
            .unwrap();
        terminal.type_text(if word == "two" { "deny\n" } else { "once\n" });
        wait_until("an answer", || {
            terminal.watch(Duration::from_millis(5));
            asked.iter().any(JoinHandle::is_finished).then_some(())
        });
        asked.retain(|thread| !thread.is_finished());
    }
    assert!(scratch.join("one").exists() && scratch.join("three").exists());
    assert!(!scratch.join("two").exists(), "each answer went to the question it was given to");
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let modes = |terminal: &Pty| {
        let modes = terminal.termios();
        (modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag)
    };
    let before = modes(&terminal);
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.type_text("deny\n");
    watch_until(&mut terminal, asked);
    assert_eq!(modes(&terminal), before);
    let asked = ask(&exec, touch(&scratch));
    prompt(&mut terminal);
    terminal.signal(libc::SIGTERM);
    assert!(watch_until(&mut terminal, asked).is_refusal());
    wait_until("the end of the app", || {
        terminal.watch(Duration::from_millis(10));
        (!exec_socket(&scratch).exists()).then_some(())
    });
    assert_eq!(modes(&terminal), before, "also when the app ends under a prompt");
    assert!(!scratch.canary().exists());
}

#[test]
fn a_command_cannot_reach_the_terminal_of_the_prompt() {
    let (_scratch, mut terminal, exec) = on_terminal(Some(allowing_everything()));
    let request = json!({ "command": [program("sh"), "-c", "exec 3<>/dev/tty && echo once >&3"] });
    let reply = watch_until(&mut terminal, ask(&exec, request));
    assert_eq!(reply.ran()["success"], json!(false), "{:?}", reply.value);
    let no_terminal =
        watch_until(&mut terminal, ask(&exec, json!({ "command": [program("sh"), "-c", "ps -o tty= -p $$"] })));
    assert!(no_terminal.ran()["stdout"].as_str().unwrap().trim().starts_with('?'), "{:?}", no_terminal.value);
}

/// The prompt line of the protocol: a question without a run.
fn prompt_line(token: &str) -> Value {
    json!({ "type": "request", "token": token, "id": "ask-1", "request": { "command": "rm -rf /", "cwd": "/tmp", "agentId": "main" } })
}

#[test]
fn sec_h03_a_prompt_request_needs_the_whole_token() {
    let (_scratch, mut terminal, exec) = on_terminal(None);
    let decide = |token: &str| {
        let (exec, line) = (exec.clone(), format!("{}\n", prompt_line(token)));
        thread::spawn(move || exec.send_bytes(line.as_bytes(), ""))
    };
    let mut wrong: Vec<String> = (0..exec.token.len()).map(|length| exec.token[..length].to_owned()).collect();
    wrong.push(format!("{}x", exec.token));
    wrong.push(exec.token.to_uppercase());
    for token in wrong {
        let reply = watch_until(&mut terminal, decide(&token));
        assert_eq!(reply.value()["decision"], json!("deny"), "token of {} bytes", token.len());
    }
    assert!(!terminal.screen().contains(QUESTION), "nobody is asked on a stranger's behalf");
    for (word, decision) in [("once", "allow-once"), ("deny", "deny"), ("nonsense", "deny")] {
        let asked = decide(&exec.token.clone());
        let shown = prompt(&mut terminal);
        assert!(shown.contains("rm -rf /"), "{shown}");
        terminal.type_text(&format!("{word}\n"));
        let reply = watch_until(&mut terminal, asked);
        assert_eq!(*reply.value(), json!({ "type": "decision", "id": "ask-1", "decision": decision }));
    }
}

#[test]
fn sec_a113_a_decision_in_the_request_does_not_skip_the_prompt() {
    let (scratch, mut terminal, exec) = on_terminal(None);
    let mut request = touch(&scratch);
    request["approvalDecision"] = json!("allow-always");
    let asked = ask(&exec, request);
    prompt(&mut terminal);
    assert!(!scratch.canary().exists());
    terminal.type_text("deny\n");
    watch_until(&mut terminal, asked).refused("UNAVAILABLE");
    let document = fs::read_to_string(scratch.approvals_path()).unwrap();
    assert!(!document.contains(&program("touch")), "{document}");
}

#[test]
fn a_story_from_a_fresh_directory_to_the_output() {
    let (scratch, mut terminal, _exec) = on_terminal(None);
    wait_for_node(&scratch);
    let run = |argv: &[&str]| Process::spawn(scratch.mac_debug_command(&[&["run", "--"], argv].concat()));
    let wait = |terminal: &mut Pty, mut process: Process| -> Finished {
        while process.ended().is_none() {
            terminal.watch(Duration::from_millis(10));
        }
        process.finish()
    };

    let asked = run(&["uname", "-a"]);
    let shown = prompt(&mut terminal);
    for part in ["uname -a", &*program("uname"), "directory"] {
        assert!(shown.contains(part), "{part} is not shown: {shown}");
    }
    terminal.type_text("once\n");
    let ran = wait(&mut terminal, asked);
    let expected = std::process::Command::new("uname").arg("-a").output().unwrap();
    assert_eq!((ran.code, ran.stdout.as_bytes()), (Some(0), &*expected.stdout), "{ran:?}");

    let asked = run(&["uname", "-a"]);
    prompt(&mut terminal);
    terminal.type_text("always\n");
    assert_eq!(wait(&mut terminal, asked).code, Some(0));
    let prompts = terminal.screen().matches(QUESTION).count();
    let unasked = run(&["uname", "-a"]);
    assert_eq!(wait(&mut terminal, unasked).code, Some(0));
    assert_eq!(terminal.screen().matches(QUESTION).count(), prompts, "the second run asks nobody");
    assert!(fs::read_to_string(scratch.approvals_path()).unwrap().contains(&program("uname")));

    let asked = run(&["touch", scratch.canary().to_str().unwrap()]);
    prompt(&mut terminal);
    terminal.type_text("sure\n");
    let refused = wait(&mut terminal, asked);
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(!refused.stderr.trim().is_empty(), "a refusal has a sentence");
    stays_absent(&scratch.canary());

    // The exit code of the command is the exit code of the run.
    let asked = run(&["sh", "-c", "echo no >&2; exit 7"]);
    prompt(&mut terminal);
    terminal.type_text("unbound\n");
    let failed = wait(&mut terminal, asked);
    assert_eq!((failed.code, &*failed.stderr), (Some(7), "no\n"), "{failed:?}");
}
