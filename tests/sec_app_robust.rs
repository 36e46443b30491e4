//! The app and the clients under odd conditions: hostile addresses, many questions, many runs,
//! kills in the middle, output that is no text, a wall clock that jumps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::{Client, Connect, DEADLINE, Faketime, Gateway, Options, Process, Pty, QUIET, TOKEN, signal, wait_until};
use support_exec::*;

/// The last words of a prompt.
const ANSWER: &str = "then Return: ";

/// Sends a request in the background.
fn ask(exec: &Exec, request: Value) -> JoinHandle<Reply> {
    let exec = exec.clone();
    thread::spawn(move || exec.request(&request))
}

/// Reads the terminal while something else goes on.
fn watch_until<T>(terminal: &mut Pty, thread: JoinHandle<T>) -> T {
    let started = Instant::now();
    while !thread.is_finished() {
        assert!(started.elapsed() < DEADLINE, "no answer; on the terminal:\n{}", terminal.screen());
        terminal.watch(Duration::from_millis(10));
    }
    thread.join().unwrap()
}

/// Starts `arguments` with a listener behind the port that they name; whatever they are, they must
/// refuse before anything reaches it, and never show the secret.
fn sends_nothing(arguments: &[&str], expected: &str) {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    let mut command = scratch.openclaw(arguments);
    command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let started = Instant::now();
    let said = must_fail(command, &arguments.join(" "));
    assert!(started.elapsed() < Duration::from_secs(5), "{arguments:?} looked for a name: {said}");
    assert!(!said.contains(TOKEN), "{said}");
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

#[test]
fn sec_a27_what_is_no_literal_loopback_gets_nothing() {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in [
        "127.evil.example",
        "127.0.0.1.nip.test",
        "localhost.evil.example",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::]",
        "127.0.0.1@evil.example",
    ] {
        let url = format!("ws://{host}:{port}");
        for arguments in [&["node", "run", "--url", &url][..], &["mac-debug", "--url", &url, "nodes"]] {
            sends_nothing(arguments, "");
            assert!(listener.accept().is_err(), "{arguments:?} connected");
        }
    }
}

#[test]
fn sec_a31_only_a_tunnel_leads_to_another_machine() {
    for url in
        ["ws://192.0.2.10:18789", "wss://192.0.2.10:18789", "wss://127.0.0.1:18789", "ws://gateway.example:18789"]
    {
        sends_nothing(&["node", "run", "--url", url], "open a tunnel (ssh -L");
        sends_nothing(&["mac-debug", "--url", url, "nodes"], "open a tunnel (ssh -L");
    }
    // The twins: the literal address and the name `localhost`, which no resolver is asked for.
    let gateway = Gateway::new();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("ws://{host}:{}", gateway.port);
        let mut command = gateway.mac_debug(&["--url", &url, "nodes", "--json"]);
        command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        assert_eq!(Process::run(command).code, Some(0), "{url}");
    }
}

#[test]
fn sec_a32_no_token_in_a_url() {
    for url in [format!("ws://127.0.0.1:1/?token={TOKEN}"), format!("ws://user:{TOKEN}@127.0.0.1:1")] {
        sends_nothing(&["node", "run", "--url", &url], "");
        sends_nothing(&["mac-debug", "--url", &url, "nodes"], "");
    }
}

#[test]
fn sec_a161_fifty_odd_questions_are_shown_one_by_one() {
    const QUESTIONS: usize = 50;
    let scratch = Scratch::new();
    let mut terminal = app_on_terminal(&scratch);
    let exec = Exec::of(&scratch);
    let echo = program("echo");
    let odd = [
        json!(["", "", ""]),
        json!(["x".repeat(20_000)]),
        json!(["👩‍👩‍👧‍👦🏳️‍🌈", "\u{202e}desrever", "e\u{301}\u{301}\u{301}"]),
        json!(["a\nb", "\u{1b}[2J", "\t"]),
        json!(["--", "-n", "$(id)", "`id`"]),
    ];
    let asked: Vec<_> = (0..QUESTIONS)
        .map(|at| {
            let mut command = vec![json!(echo), json!(format!("question-{at:02}"))];
            command.extend(odd[at % odd.len()].as_array().unwrap().iter().cloned());
            ask(
                &exec,
                json!({"command": command, "rawCommand": null, "cwd": null, "env": null, "agentId": null,
                    "sessionKey": null, "timeoutMs": null, "someday": {"nested": [1, {"deep": null}]}}),
            )
        })
        .collect();
    let mut shown = Vec::new();
    while shown.len() < QUESTIONS {
        terminal.expect("question-");
        let text = terminal.expect(ANSWER);
        shown.push(text[..2].to_owned());
        // The one who is shown is answered, nobody else.
        terminal.type_text(if shown.len() % 2 == 0 { "once\n" } else { "deny\n" });
    }
    let replies: Vec<Reply> = asked.into_iter().map(|asked| watch_until(&mut terminal, asked)).collect();
    let ran = replies.iter().filter(|reply| reply.value()["ok"] == json!(true)).count();
    assert_eq!(ran, QUESTIONS / 2);
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), QUESTIONS, "each was shown once");
    let again = ask(&exec, json!({"command": [echo, "afterwards"]}));
    terminal.expect(ANSWER);
    terminal.type_text("once\n");
    watch_until(&mut terminal, again).ran();
}

/// What the app's process weighs, as it says itself through its gateway.
fn weight(scratch: &Scratch) -> (u64, u64) {
    let status = scratch.mac_debug(&["status", "--json"]).json();
    let figure = |name: &str| status["gateway"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {status}"));
    (figure("descriptors"), figure("threads"))
}

#[test]
fn sec_a162_the_app_outlives_its_runs() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let mut app = App::start(&scratch);
    wait_for_node(&scratch);
    let exec = app.exec(&scratch);
    let (pid, echo) = (app.pid(), program("echo"));
    for _ in 0..50 {
        exec.run(&[&echo, "warm"]).ran();
    }
    let before = weight(&scratch);
    for at in 0..1_000 {
        let text = at.to_string();
        assert_eq!(exec.run(&[&echo, &text]).ran()["stdout"], json!(format!("{text}\n")));
    }
    let at_once: Vec<_> = (0..50).map(|at| ask(&exec, json!({"command": [echo, at.to_string()]}))).collect();
    for (at, run) in at_once.into_iter().enumerate() {
        assert_eq!(run.join().unwrap().ran()["stdout"], json!(format!("{at}\n")));
    }
    let idle = Instant::now() + Duration::from_secs(5);
    while Instant::now() < idle {
        assert!(app.is_alive(), "{}", app.log());
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(app.pid(), pid);
    let after = weight(&scratch);
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 1, "descriptors, threads: {before:?} became {after:?}");
    let listing = Process::run({
        let mut command = Command::new("ps");
        command.args(["-o", "pid=,stat=", "--ppid", &pid.to_string()]);
        command
    });
    assert!(listing.stdout.trim().is_empty(), "children are left: {}", listing.stdout);
    exec.assert_works();
}

#[test]
fn sec_a165_killed_in_the_middle_and_started_again() {
    for number in [libc::SIGTERM, libc::SIGKILL] {
        // During a prompt: whatever ends the app, the command does not run.
        let scratch = Scratch::new();
        let mut terminal = app_on_terminal(&scratch);
        let exec = Exec::of(&scratch);
        let asked = ask(&exec, json!({"command": [program("touch"), scratch.canary()]}));
        terminal.expect(ANSWER);
        signal(terminal.pid(), number);
        assert!(watch_until(&mut terminal, asked).is_refusal());
        terminal.finish();
        assert_eq!(exec_socket(&scratch).exists(), number == libc::SIGKILL);
        stays_absent(&scratch.canary());
        scratch.approvals(&json!({"version": 1, "socket": {"token": exec.token},
            "defaults": {"security": "full", "ask": "off"}}));
        let mut app = App::start(&scratch);
        exec.assert_works();
        // During a run: TERM ends the command too; after KILL the next start works beside it.
        let marker = sleep_marker();
        let run = ask(&exec, json!({"command": [program("sleep"), marker]}));
        wait_until("the command", || (!processes_named(&marker).is_empty()).then_some(()));
        app.signal(number);
        app.wait();
        if number == libc::SIGTERM {
            wait_until("the end of the command", || processes_named(&marker).is_empty().then_some(()));
        }
        assert!(run.join().unwrap().is_refusal());
        let app = App::start(&scratch);
        app.exec(&scratch).assert_works();
        kill_named(&marker);
    }
}

#[test]
fn sec_a168_output_that_is_no_text_comes_back() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let sh = |script: &str| exec.run(&[&program("sh"), "-c", script]).ran().clone();
    let both = sh(r"printf '\377\376ok\n'; printf '\377\376oops\n' >&2; exit 3");
    assert_eq!(both["exitCode"], json!(3), "{both}");
    assert!(both["stdout"].as_str().unwrap().ends_with("ok\n"), "{both}");
    assert!(both["stderr"].as_str().unwrap().ends_with("oops\n"), "{both}");
    // A character in two writes is one character.
    let split = sh(r"printf '\303'; sleep 0.2; printf '\251\n'");
    assert_eq!(split["stdout"], json!("é\n"));
    // Three-byte characters up to the cap: cut between two of them or shown as one replacement.
    let capped = sh(r#"awk 'BEGIN { for (i = 0; i < 100000; i++) printf "漢" }'"#);
    let text = capped["stdout"].as_str().unwrap();
    assert!(text.starts_with("漢漢") && text.matches('漢').count() > 60_000, "{} characters", text.chars().count());
    assert!(text.matches('\u{fffd}').count() <= 1, "{} replacements", text.matches('\u{fffd}').count());
}

#[test]
fn sec_h28_a_jump_of_the_clock_extends_nothing() {
    let Some(faketime) = Faketime::find("sec_h28") else { return };
    // Lock-out: a clock set back does not prolong it beyond its minute, nor end it.
    let scratch = Scratch::new();
    let clock = faketime.clock(scratch.join("clock"));
    let environment = clock.environment();
    let options = environment.iter().fold(Options::default(), |options, (name, value)| options.env(name, value));
    let gateway = Gateway::start(options);
    let guess = |guess: &str| Client::tcp(&gateway).connect(&Connect::cli(&[]).token(guess)).unwrap_err();
    let moved = |offset: &str| {
        clock.set(offset);
        let ts = Client::tcp(&gateway).challenge.ts;
        assert_eq!((ts - now_ms()).abs() > 3_600_000, offset != "+0", "the clock did not move: {offset}");
    };
    moved("+0");
    let mut last = json!({});
    for at in 0..11 {
        last = guess(&format!("guess {at}"));
    }
    assert_eq!(last["details"]["code"], "AUTH_RATE_LIMITED", "{last}");
    moved("-1d");
    let error = guess("one more");
    assert_eq!(error["details"]["code"], "AUTH_RATE_LIMITED", "{error}");
    assert!(error["retryAfterMs"].as_u64().unwrap() <= 60_000, "{error}");
    // Either clock ends it: a machine that slept a day is not locked out any more.
    moved("+1d");
    Client::tcp(&gateway).connect(&Connect::cli(&[])).unwrap();

    // Prompt and time stamp.
    let scratch = Scratch::new();
    let clock = faketime.clock(scratch.join("clock"));
    let mut command = scratch.openclaw(&["app", "--ask", "terminal", "--no-tcp"]);
    command.envs(clock.environment());
    let mut terminal = Pty::spawn(command);
    wait_until("the exec socket", || {
        terminal.watch(Duration::from_millis(10));
        std::os::unix::net::UnixStream::connect(exec_socket(&scratch)).ok()
    });
    let exec = Exec::of(&scratch);
    let touch = json!({"command": [program("touch"), scratch.canary()]});
    // Set back: the question stands, and an answer is one.
    let asked = ask(&exec, json!({"command": [program("echo"), "first"]}));
    terminal.expect(ANSWER);
    clock.set("-1d");
    terminal.watch(QUIET);
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
    // A line of today is from the future now, and must not be kept for later.
    let line = exec.signed(&touch.to_string());
    assert!(exec.send(&line).is_refusal());
    clock.set("+0");
    // Set forward: the question's time is over; nothing runs, also not by a late answer.
    let asked = ask(&exec, touch.clone());
    terminal.expect(ANSWER);
    clock.set("+1d");
    let reply = watch_until(&mut terminal, asked);
    assert!(reply.is_refusal(), "{reply:?}");
    terminal.type_text("once\n");
    terminal.watch(QUIET);
    assert!(exec.send(&exec.signed(&touch.to_string())).is_refusal(), "a line of yesterday");
    stays_absent(&scratch.canary());
    clock.set("+0");
    let asked = ask(&exec, touch);
    terminal.expect(ANSWER);
    terminal.type_text("once\n");
    watch_until(&mut terminal, asked).ran();
}
