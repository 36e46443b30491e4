//! What the parts print: never a secret, and never a second line or a terminal code of a peer's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use support::{
    Client, Connect, Device, FakeNode, Finished, Gateway, Options, Process, Reply as NodeReply, Stream, Surface,
    Upgrade, free_port, read_answer, wait_until,
};
use support_exec::*;

// Each is unlike any other text, in every part of eight characters.
const SHARED: &str = "Zq7vXk2mWp9tRf4dHs8nLc3b";
const WRONG: &str = "Bx5gTy1uJo6eQa0iVz7kMw2s";
const PASSWORD: &str = "Pn8rGd4yKl2hUc6jFt9xSe1a";
const EXEC: &str = "Hw3zNb7qDv5mYs1cRk9pXg4j";
const DEVICE: &str = "Ja6fLt2wEh8uOx4iCy0vBr5n";
const VALUE: &str = "Uk1oAd9sGp7zIm3lTe5qWj8x";
const OUTPUT: &str = "Fy4bVn0hZc6rQt8kXu2gMi7w";

/// Eight characters of a secret are enough to be a leak.
const PART: usize = 8;

/// Asserts that no part of a secret stands in `text`.
fn shows_none(secrets: &[&str], text: &str, what: &str) {
    for secret in secrets {
        for start in 0..=secret.len() - PART {
            let part = &secret[start..start + PART];
            assert!(!text.contains(part), "{what} shows {part} of {secret}:\n{text}");
        }
    }
}

fn configured(state: &Path, auth: &Value) {
    write_private(
        &state.join("openclaw.json"),
        json!({"gateway": {"mode": "local", "auth": auth}}).to_string().as_bytes(),
    );
}

/// The HMAC and nonce of a line are secrets too: who has them can replay it.
fn markers(exec: &Exec, request: &Value) -> (serde_json::Map<String, Value>, Vec<String>) {
    let line = exec.signed(&request.to_string());
    let hmac = line["hmac"].as_str().unwrap().to_owned();
    (line, vec![hmac])
}

#[test]
fn sec_a154_no_secret_is_printed() {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    configured(&scratch.state(), &json!({"mode": "token", "token": SHARED}));
    scratch
        .approvals(&json!({"version": 1, "socket": {"token": EXEC}, "defaults": {"security": "full", "ask": "off"}}));
    let port = free_port().to_string();
    let mut command = scratch.openclaw(&["app", "--ask", "none", "--port", &port]);
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").env("OPENCLAW_LOG", "trace").env("DEBUG", "*");
    let mut app = App::start_with(&scratch, command);
    wait_for_node(&scratch);
    let port: u16 = port.parse().unwrap();
    let exec = app.exec(&scratch);
    assert_eq!(exec.token, EXEC);
    let mut said = String::new();
    let mut secrets: Vec<String> = [SHARED, WRONG, PASSWORD, EXEC, DEVICE, VALUE, OUTPUT].map(str::to_owned).to_vec();
    let mut hear = |finished: Finished, shows_output: bool| {
        // A command's output goes to the one who asked for it, and nowhere else.
        said.push_str(&if shows_output { finished.stderr.clone() } else { words_of(&finished) });
        finished
    };

    // What works: logins of both kinds, runs over both ways, status, lists.
    let device = Device::new();
    let node = Connect::node(&device, &Surface::linux(&["system.run"])).token(SHARED);
    let over_tcp = || Client::over(Stream::tcp(port), &Upgrade::to(port));
    let mut first = over_tcp();
    let hello = first.connect(&node).unwrap();
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    over_tcp().connect(&node.clone().device_token(&device_token)).unwrap();
    secrets.push(device_token);
    let env = format!("GREETING={VALUE}");
    let run = ["run", "--node", "", "--env", &env, "--", "printenv", "GREETING"];
    let own = scratch.mac_debug(&["nodes", "--json"]).json();
    let own = own.as_array().or_else(|| own["nodes"].as_array()).unwrap();
    let own = own.iter().find(|node| node["nodeId"] != device.id()).unwrap()["nodeId"].as_str().unwrap().to_owned();
    let mut run = run.to_vec();
    run[2] = &own;
    let ran = hear(scratch.mac_debug(&run), true);
    assert_eq!(ran.stdout.trim(), VALUE, "{ran:?}");
    hear(scratch.mac_debug(&["run", "--node", &own, "--", "echo", OUTPUT]), true);
    for look in [&["status"][..], &["status", "--json"], &["nodes"], &["nodes", "--json"], &["pair", "list", "--json"]]
    {
        assert_eq!(hear(scratch.mac_debug(look), false).code, Some(0), "{look:?}");
    }
    let (line, line_secrets) = markers(&exec, &json!({"command": [program("echo"), "x"], "env": {"GREETING": VALUE}}));
    exec.send(&line).ran();
    secrets.extend(line_secrets);
    exec.send(&line).refused("INVALID_REQUEST");

    // What fails: wrong secrets of every kind, in every place where one can stand.
    let fail = |connect: &Connect| over_tcp().connect(connect).unwrap_err().to_string();
    let mut refusals = String::new();
    for auth in [
        json!({"token": WRONG}),
        json!({"password": PASSWORD}),
        json!({"deviceToken": DEVICE}),
        json!({"bootstrapToken": DEVICE}),
        json!({"token": WRONG, "deviceToken": DEVICE, "password": PASSWORD}),
        json!({"token": [WRONG]}),
        json!({"token": {"secret": WRONG}}),
        json!(WRONG),
        json!({"approvalRuntimeToken": DEVICE}),
    ] {
        refusals.push_str(&fail(&Connect::cli(&["operator.read"]).auth(auth.clone())));
        refusals.push_str(&fail(&node.clone().auth(auth)));
    }
    for text in [
        format!("{{\"type\":\"req\",\"id\":\"1\",\"method\":\"connect\",\"params\":{{\"auth\":{{\"token\":\"{WRONG}\""),
        WRONG.to_owned(),
        json!({"type": "req", "id": "1", "method": WRONG, "params": {"auth": {"token": WRONG}}}).to_string(),
    ] {
        let mut client = over_tcp();
        client.send_text(&text);
        let _ = client.closed();
    }
    for head in [
        format!(
            "GET /?token={WRONG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRONG}\r\nCookie: t={WRONG}\r\n\r\n"
        ),
        format!("GET /{WRONG} {WRONG}\r\n\r\n"),
    ] {
        let mut stream = Stream::tcp(port);
        stream.write_all(head.as_bytes()).unwrap();
        refusals.push_str(&read_answer(&mut stream).text());
    }
    let other = Exec { token: WRONG.to_owned(), ..exec.clone() };
    for reply in [
        other.run(&["/bin/true"]),
        exec.request(&json!({"command": ["/bin/true"], "env": {"LD_PRELOAD": VALUE}})),
        exec.send_bytes(format!("{{\"type\":\"exec\",\"token\":\"{EXEC}\"\n").as_bytes(), ""),
        exec.send_bytes(
            json!({"type": "request", "token": WRONG, "id": "1", "request": {}}).to_string().as_bytes(),
            "",
        ),
    ] {
        assert!(reply.is_refusal(), "{reply:?}");
        refusals.push_str(&reply.value.unwrap_or_default().to_string());
    }
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = scratch.mac_debug_command(arguments);
        command.env(name, value);
        Process::run(command)
    };
    let url = format!("ws://127.0.0.1:{port}");
    for (name, value) in [("OPENCLAW_GATEWAY_TOKEN", WRONG), ("OPENCLAW_GATEWAY_PASSWORD", PASSWORD)] {
        let refused = hear(with(name, value, &["--url", &url, "nodes"]), false);
        assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    }
    hear(scratch.mac_debug(&["run", "--node", &own, "--env", &format!("LD_PRELOAD={VALUE}"), "--", "true"]), false);
    hear(scratch.mac_debug(&["run", "--node", &own, "--env", VALUE, "--", "true"]), true);
    // A node with a wrong secret ends, and says why without it.
    let elsewhere = Scratch::new();
    make_dir(&elsewhere.state());
    configured(&elsewhere.state(), &json!({"mode": "token", "token": WRONG}));
    let ended = Process::run(elsewhere.openclaw(&["node", "run", "--url", &url]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    hear(ended, false);
    // A configuration that is broken right behind the secret.
    let broken = Scratch::new();
    make_dir(&broken.state());
    write_private(
        &broken.state().join("openclaw.json"),
        format!("{{\"gateway\":{{\"auth\":{{\"mode\":\"token\",\"token\":\"{WRONG}\"x}}}}}}").as_bytes(),
    );
    write_private(
        &broken.state().join("exec-approvals.json"),
        format!("{{\"version\":1,\"socket\":{{\"token\":\"{EXEC}\"x}}}}").as_bytes(),
    );
    for arguments in
        [&["gateway", "run", "--no-tcp"][..], &["app", "--ask", "none", "--no-tcp"], &["mac-debug", "status"]]
    {
        hear(Process::run(broken.openclaw(arguments)), false);
    }
    assert!(app.is_alive());
    app.signal(libc::SIGTERM);
    app.wait();

    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let log = app.log();
    assert!(log.lines().count() > 10, "hardly anything was logged:\n{log}");
    shows_none(&secrets, &log, "the app's log");
    shows_none(&secrets, &said, "an output of the command line");
    // What one sent may be named to that one; ours never.
    shows_none(&[SHARED, EXEC], &refusals, "an answer");
    // Nor in a file that is made for people or left behind: only where they belong.
    for entry in fs::read_dir(scratch.state()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".log") || name.ends_with(".tmp") {
            shows_none(&secrets, &String::from_utf8_lossy(&fs::read(entry.path()).unwrap()), &name);
        }
    }
}

#[test]
fn sec_a154_a_gateway_of_its_own_prints_no_secret() {
    for (mode, secret) in [("token", SHARED), ("password", PASSWORD)] {
        let gateway = Gateway::start(
            Options::default()
                .config(json!({"gateway": {"mode": "local", "auth": {"mode": mode, mode: secret}}}))
                .env("RUST_LOG", "trace"),
        );
        let auth = |value: &str| json!({mode: value});
        Client::login(&gateway, &Connect::cli(&[]).auth(auth(secret)));
        for guess in 0..12 {
            let wrong = Connect::cli(&[]).auth(auth(&format!("{WRONG}{guess}")));
            let error = Client::tcp(&gateway).connect(&wrong).unwrap_err().to_string();
            shows_none(&[secret, WRONG], &error, "a refusal");
        }
        let ended = gateway.stop();
        shows_none(&[secret, WRONG], &words_of(&ended), "the gateway");
    }
}

/// Asserts that everything printed is whole lines of ours, with nothing hidden in them.
fn plain_lines(printed: &str, what: &str) {
    for line in printed.lines() {
        assert!(line.len() <= 4_096, "{what}: a line of {} bytes", line.len());
        assert!(!line.starts_with("forged"), "{what}: a line of a peer's: {line}");
        let hidden = line.chars().find(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{200b}\u{85}".contains(*c));
        assert_eq!(hidden, None, "{what}: {line}");
    }
}

#[test]
fn sec_a155_nobody_writes_lines_into_the_log() {
    let mut gateway = Gateway::new();
    let hostile = "x\r\nforged: line\n\u{1b}[2J\u{1b}]0;t\u{7}\u{2028}forged\u{202e}\u{85}\u{200b}end";
    let long = format!("{hostile}{}", "x".repeat(1_000_000));
    // Headers can hold no line break; escapes and length they can.
    for value in ["\u{1b}[31mred", &"h".repeat(7_000)] {
        for name in ["User-Agent", "Origin", "Sec-WebSocket-Protocol", "X-Forwarded-For", "X\u{1b}[1m"] {
            let mut stream = Stream::tcp(gateway.port);
            drop(stream.write_all(&Upgrade::to(gateway.port).header(name, value).bytes()));
            read_answer(&mut stream);
        }
    }
    let device = Device::new();
    for name in ["displayName", "version", "instanceId", "modelIdentifier"] {
        let connect =
            Connect::node(&device, &Surface::linux(&["system.run"])).set(&format!("client/{name}"), json!(hostile));
        drop(Client::tcp(&gateway).connect(&connect));
        // A megabyte before login closes without an answer (1009).
        let mut client = Client::tcp(&gateway);
        let params = Connect::cli(&[]).set(&format!("client/{name}"), json!(long)).params(&client.challenge);
        client.start("connect", params);
        assert_eq!(client.closed().code, 1009);
    }
    let node = FakeNode::approved(
        &gateway,
        &Surface { display_name: hostile.to_owned(), ..Surface::linux(&["system.run", "system.which"]) },
        move |_| NodeReply::Payload(json!({"path": "x\r\nforged: line\u{1b}[2J\u{2028}"})),
    );
    let mut owner = gateway.owner();
    for text in [hostile, &long[..200_000]] {
        let params = json!({"command": ["/bin/echo", text], "agentId": text, "sessionKey": text, "cwd": text});
        let invoke = json!({"nodeId": node.id(), "command": "system.run", "params": params, "idempotencyKey": "k"});
        drop(owner.request("node.invoke", invoke));
        let error = owner.request(text, json!({})).unwrap_err();
        assert!(error["message"].as_str().unwrap().len() < 1_000, "the method's name comes back at length");
        drop(owner.request("node.pair.approve", json!({"requestId": text})));
    }
    // The command line prints what peers said of themselves.
    for look in [&["nodes"][..], &["pair", "list"], &["status"]] {
        let shown = Process::run(gateway.mac_debug(look));
        plain_lines(&words_of(&shown), &format!("mac-debug {look:?}"));
    }
    gateway.assert_alive();
    drop(node);
    wait_until("the last line", || gateway.process.stderr().contains("left").then_some(()));
    let log = gateway.process.stderr();
    assert!(log.contains("forged"), "nothing hostile was logged: nothing was tested");
    plain_lines(&log, "the gateway");

    // Keys and words of the owner's own files come back in one line too.
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    let key = json!({"gateway": {"auth": {"mode": hostile}}}).to_string();
    write_private(&scratch.state().join("openclaw.json"), key.as_bytes());
    for arguments in [&["gateway", "run"][..], &["app"], &["node", "run", "--url", hostile], &[hostile]] {
        let ended = Process::run(scratch.openclaw(arguments));
        assert_ne!(ended.code, Some(0), "{ended:?}");
        for line in words_of(&ended).lines() {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}'), "{arguments:?}: {line:?}");
        }
    }
}
