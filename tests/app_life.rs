//! The app's life without a screen: attach-only, what it tells of itself, links, pairing prompts, and its removal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use support::{Process, Pty, TOKEN, wait_until};
use support_exec::*;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    scratch
}

fn with_token(scratch: &Scratch, gateway: &Value) {
    let mut gateway = gateway.clone();
    gateway["auth"] = json!({"token": TOKEN});
    write_private(&scratch.state().join("openclaw.json"), json!({"gateway": gateway}).to_string().as_bytes());
}

fn status(scratch: &Scratch) -> Value {
    let finished = scratch.mac_debug(&["status", "--json"]);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
}

/// Neither the flag nor the marker starts, stops or removes a gateway, and nobody writes the marker (P6).
#[test]
fn attach_only_starts_no_gateway_and_ends_none() {
    for marker in [false, true] {
        let scratch = scratch();
        let path = scratch.state().join("disable-launchagent");
        let arguments = [APP, if marker { &[][..] } else { &["--attach-only"] }].concat();
        if marker {
            fs::write(&path, "").unwrap();
        }
        let mut app = App::start_with(&scratch, scratch.openclaw(&arguments));
        assert!(app.log().contains("no gateway is started, stopped or removed"), "{}", app.log());
        assert!(!scratch.state().join("gateway.sock").exists() && !scratch.state().join("openclaw.json").exists());
        let told = status(&scratch);
        let why = if marker { "disable-launchagent" } else { "--attach-only" };
        assert_eq!((&told["appStatus"]["attachOnly"], &told["appStatus"]["mode"]), (&json!(why), &json!("attached")));
        let shown = scratch.mac_debug(&["status"]).stdout;
        assert!(shown.contains(&format!("attach-only ({why})")), "{shown}");

        // One that comes later is joined, and outlives the app.
        with_token(&scratch, &json!({}));
        let mut gateway = Process::spawn(scratch.openclaw(&["gateway", "--no-tcp"]));
        wait_until("the node at the gateway", || {
            let listed = scratch.mac_debug(&["pair", "list", "--json"]);
            let listed: Value = serde_json::from_str(&listed.stdout).ok()?;
            (!listed.pointer("/nodes/pending")?.as_array()?.is_empty()).then_some(())
        });
        wait_until("its status", || (status(&scratch)["appStatus"]["node"]["connected"] == true).then_some(()));
        app.signal(libc::SIGTERM);
        assert!(app.wait().success());
        assert!(gateway.ended().is_none() && UnixStream::connect(scratch.state().join("gateway.sock")).is_ok());
        assert_eq!(path.exists(), marker);
        gateway.signal(libc::SIGTERM);
        wait_until("the gateway's end", || gateway.ended());
    }
}

#[test]
fn an_app_tells_where_it_stands_and_what_it_may() {
    let scratch = scratch();
    with_token(&scratch, &json!({}));
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let told = &status(&scratch)["appStatus"];
    assert_eq!((&told["app"]["pid"], &told["mode"]), (&json!(app.pid()), &json!("local")));
    for (socket, mode) in
        [("exec", json!("0600")), ("control", json!("0600")), ("gateway", json!("0600")), ("bridge", Value::Null)]
    {
        assert_eq!(told["sockets"][socket]["mode"], mode, "{socket}");
    }
    assert_eq!((&told["pendingPrompts"], &told["held"], &told["paused"]), (&json!(0), &Value::Null, &json!(false)));
    assert!(!told.to_string().contains(TOKEN));
    let permissions = scratch.mac_debug(&["permissions", "status"]);
    assert!(permissions.code == Some(0) && permissions.stdout.contains("screenRecording"), "{permissions:?}");
    let requested = scratch.mac_debug(&["permissions", "request", "camera", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&requested.stdout).unwrap()["state"], "unsupported");
    for wrong in
        [&["permissions", "request"][..], &["permissions", "grant", "camera"], &["permissions", "status", "camera"]]
    {
        assert_eq!(scratch.mac_debug(wrong).code, Some(2), "{wrong:?}");
    }
    let unknown = scratch.mac_debug(&["permissions", "request", "everything"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("screenRecording"), "{unknown:?}");
}

/// The line of `openclaw-mac`, as its public source makes it.
#[test]
fn the_official_command_line_is_answered() {
    use std::io::{BufRead, BufReader, Write};
    let scratch = scratch();
    let _app = App::start(&scratch);
    let token = fs::read_to_string(scratch.state().join("mac-control.token")).unwrap();
    let ask = |operation: &str| -> Value {
        let (nonce, ts) = (fresh_nonce(), now_ms());
        let request = json!({"operation": operation, "deadline": 810_000_000.5}).to_string();
        let hmac = hmac_hex(&token, &format!("{nonce}:{ts}:{request}"));
        let line = json!({"id": fresh_nonce(), "nonce": nonce, "ts": ts, "requestJson": request, "hmac": hmac});
        let mut stream = UnixStream::connect(scratch.state().join("mac-control.sock")).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let status = ask("status");
    assert_eq!((&status["ok"], &status["result"]["primary"]["mode"]), (&json!(true), &json!("local")));
    assert_eq!(status["result"]["localGateway"]["hosting"], true);
    assert_eq!(ask("gateway.list"), json!({"ok": true, "result": []}));
    let refused = ask("primary.clear");
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!("unsupported_operation")));
    assert!(scratch.state().join("mac-control.sock").exists());
}

/// An app on a terminal, its gateway inside.
fn on_terminal() -> (Scratch, Pty) {
    let scratch = scratch();
    with_token(&scratch, &json!({}));
    let terminal = app_on_terminal(&scratch);
    (scratch, terminal)
}

/// A65, A167: the whole message stands on the terminal, and only the word sends it. Our gateway has no agents, so
/// what is sent is refused there; the app says so.
#[test]
fn sec_a167_a_link_from_outside_asks_the_person() {
    let (scratch, mut terminal) = on_terminal();
    let open = |link: &str| Process::run(scratch.openclaw(&["app", "open", link]));
    let message = format!("{}payload at the end", "harmless ".repeat(30));
    let link =
        format!("openclaw://agent?sessionKey=main&key=forged-key-of-nobody&message={}", message.replace(' ', "%20"));
    let opened = open(&link);
    assert_eq!(opened.code, Some(0), "{opened:?}");
    let shown = terminal.expect("then Return: ");
    assert!(shown.contains("send its message to an agent?") && !shown.contains("forged"), "{shown}");
    let flat: String = shown.split_whitespace().collect();
    assert!(flat.contains(&message.split_whitespace().collect::<String>()), "{shown}");
    let second = open(&link);
    assert!(second.code == Some(1) && second.stderr.contains("open it again later"), "{second:?}");
    terminal.type_text("cancel\n");
    terminal.expect("link was not followed: the person said no");
    for (wrong, why) in
        [("openclaw://gateway?host=evil.example", "names a gateway"), ("openclaw://agent?message=%ff", "encoding")]
    {
        let refused = open(wrong);
        assert!(
            refused.code == Some(1) && refused.stderr.contains(why) && !refused.stderr.contains("evil"),
            "{refused:?}"
        );
    }
    // Not within a second of the last one.
    wait_until("a link that is taken", || (open("openclaw://agent?message=hello").code == Some(0)).then_some(()));
    terminal.expect("then Return: ");
    terminal.type_text("send\n");
    terminal.expect("the gateway refuses");
    assert!(!terminal.screen().contains("key-of-nobody"), "no log has the query");
}

/// A28: no address is taken from a link, and nothing is sent to one.
#[test]
fn sec_a28_a_link_leads_to_no_gateway() {
    let (scratch, terminal) = on_terminal();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let there = listener.local_addr().unwrap();
    for link in [
        format!("openclaw://gateway?host=127.0.0.1&port={}", there.port()),
        format!("openclaw://gateway/add?url=ws://{there}&name=x"),
        format!("openclaw://agent?message=x&gatewayUrl=ws://{there}"),
        format!("openclaw://agent?message=x&url=ws://{there}"),
    ] {
        let refused = Process::run(scratch.openclaw(&["app", "open", &link]));
        assert!(refused.code == Some(1) && refused.stderr.contains("not followed"), "{refused:?}");
    }
    assert!(listener.accept().is_err(), "nobody came");
    assert!(!terminal.screen().contains("then Return"), "and nobody was asked");
}

/// Source: spec mac-app (3.4).
#[test]
fn a_node_that_wants_in_is_shown_and_let_in_by_the_person() {
    let (scratch, mut terminal) = on_terminal();
    let socket = scratch.state().join("gateway.sock");
    wait_until("the gateway", || UnixStream::connect(&socket).ok());
    let mut command =
        scratch.openclaw(&["node", "--socket", socket.to_str().unwrap(), "--display-name", "Another \u{1b}[2J"]);
    command.env("OPENCLAW_STATE_DIR", scratch.join("other")).env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let node = Process::spawn(command);
    let shown = terminal.expect("Type approve, reject or later, then Return: ");
    assert!(shown.contains("let this in at the gateway?") && shown.contains("commands: system.run"), "{shown}");
    assert!(shown.contains("Another \\u{1B}[2J"), "{shown}");
    assert_eq!(status(&scratch)["appStatus"]["pendingPairing"], 1);
    terminal.type_text("\n");
    terminal.expect("put off");
    let row = wait_until("the request in the list", || {
        let listed: Value = serde_json::from_str(&scratch.mac_debug(&["pair", "list", "--json"]).stdout).ok()?;
        listed.pointer("/nodes/pending/0").or(listed.pointer("/devices/pending/0")).cloned()
    });
    assert_eq!(status(&scratch)["appStatus"]["pendingPairing"], 1, "later keeps it");
    let approved = scratch.mac_debug(&["pair", "approve", row["requestId"].as_str().unwrap()]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    wait_until("an empty list", || {
        terminal.watch(Duration::from_millis(10));
        // A device that was let in asks for its surface next.
        if terminal.screen().matches("Type approve").count() > 1 {
            terminal.type_text("approve\n");
        }
        (status(&scratch)["appStatus"]["pendingPairing"] == 0).then_some(())
    });
    drop(node);
}

#[test]
fn uninstall_takes_away_what_is_ours_and_nothing_else() {
    let scratch = scratch();
    let uninstall =
        |arguments: &[&str]| Process::run(scratch.openclaw(&[&["app", "uninstall"][..], arguments].concat()));
    with_token(&scratch, &json!({}));
    let mut app = App::start(&scratch);
    let running = uninstall(&["--state", "--yes"]);
    assert!(running.code == Some(1) && running.stderr.contains("end what runs first"), "{running:?}");
    assert!(scratch.approvals_path().exists());
    app.signal(libc::SIGKILL);
    app.wait();
    let state = scratch.state();
    fs::write(state.join("mine.txt"), "").unwrap();
    drop(UnixListener::bind(state.join("bridge.sock")).unwrap());
    let done = uninstall(&[]);
    assert!(done.code == Some(0) && done.stdout.contains("app was not installed as a service"), "{done:?}");
    for gone in ["exec-approvals.sock", "mac-control.sock", "bridge.sock", "gateway.sock", "app.lock", "gateway.lock"] {
        assert!(!state.join(gone).exists(), "{gone}");
    }
    assert!(scratch.approvals_path().exists() && state.join("mac-control.token").exists());
    let unasked = uninstall(&["--state"]);
    assert!(unasked.code == Some(1) && unasked.stderr.contains("say --yes"), "{unasked:?}");
    for (typed, code) in [("no\n", 1), ("\n", 1), ("\u{4}", 1)] {
        let command = scratch.openclaw(&["app", "uninstall", "--state"]);
        let mut terminal = Pty::spawn(command);
        terminal.expect("Type yes to go on: ");
        terminal.type_text(typed);
        let (ended, screen) = terminal.finish();
        assert_eq!(ended, Some(code), "{typed:?}: {screen}");
        assert!(scratch.approvals_path().exists(), "{typed:?}");
    }
    let done = uninstall(&["--state", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut left: Vec<_> =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["mine.txt", "openclaw.json"]);
}

#[test]
fn settings_name_a_gateway_elsewhere_and_what_is_in_clear_is_refused() {
    let scratch = scratch();
    with_token(&scratch, &json!({"remote": {"url": "wss://gateway.example", "transport": "direct"}}));
    let app = App::start(&scratch);
    assert!(app.log().contains("gateway.remote.url: ") && app.log().contains("no TLS here"), "{}", app.log());
    assert_eq!(status(&scratch)["appStatus"]["mode"], "unconfigured");
    assert!(!scratch.state().join("gateway.sock").exists(), "remote mode starts no gateway");
}
