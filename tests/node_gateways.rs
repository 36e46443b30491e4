//! The node and more than one gateway: setup links, what is shown to whom, what a node says of itself, when it comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_node;

use data_encoding::BASE64URL_NOPAD;
use openclaw::identity::device::DeviceKey;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Client, Connect, Device, Gateway, Options, Process, Stream, Surface, TOKEN, TempDir, Upgrade, mode, openclaw,
    wait_until,
};
use support_node::{Script, Seat};

/// A secret for one run.
const GIVEN: &str = "given-for-this-run";
/// Time in which a client that comes back would have come.
const QUIET: Duration = Duration::from_millis(1_500);

fn node_at(state: &Path, arguments: &[&str]) -> Command {
    let mut command = openclaw(state);
    command.args(["node", "--exec-host", "local"]).args(arguments);
    command
}

/// With this shared secret for the one run.
fn given(mut command: Command, token: &str) -> Command {
    command.env("OPENCLAW_GATEWAY_TOKEN", token);
    command
}

fn link(gateway: &Gateway) -> String {
    let made = Process::run(gateway.mac_debug(&["pair", "link", "--yes"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let link = made.stdout.trim_end().to_owned();
    assert!(link.starts_with("oc-pair://") && !link.contains(char::is_whitespace), "{made:?}");
    link
}

fn content(link: &str) -> Value {
    let code = link.strip_prefix("oc-pair://").unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(code.as_bytes()).unwrap()).unwrap()
}

fn connected(owner: &mut Client) -> Option<String> {
    let list = owner.request("node.list", json!({})).unwrap();
    let row = list["nodes"].as_array()?.iter().find(|row| row["connected"] == true)?.clone();
    Some(row["nodeId"].as_str()?.to_owned())
}

fn by_link(device: &Device, token: &Value) -> Connect {
    Connect::node(device, &Surface::linux(&["system.which"])).auth(json!({"bootstrapToken": token}))
}

/// One link, one node, nothing else: neither role nor scopes, neither twice nor by two at once.
#[test]
fn sec_a19_a_setup_link_admits_one_node() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let token = content(&link(&gateway))["bootstrapToken"].clone();
    let device = Device::new();
    let as_operator = |scopes: &[&str]| {
        let connect = Connect::new("openclaw-macos", "ui", "operator", scopes).device(&device);
        connect.auth(json!({"bootstrapToken": token}))
    };
    let with_scopes = by_link(&device, &token).set("scopes", json!(["operator.read"]));
    for (what, connect) in [
        ("operator", as_operator(&[])),
        ("operator with scopes", as_operator(&["operator.admin"])),
        ("node with scopes", with_scopes),
        ("another token", by_link(&device, &json!(format!("{}x", token.as_str().unwrap())))),
        ("empty", by_link(&device, &json!(""))),
    ] {
        let error = Client::tcp(&gateway).connect(&connect).unwrap_err();
        assert_eq!(error["details"]["code"], "AUTH_BOOTSTRAP_TOKEN_INVALID", "{what}: {error}");
    }
    // Without a device there is nobody to admit.
    let nobody = Connect::new("node-host", "node", "node", &[]).auth(json!({"bootstrapToken": token}));
    assert!(Client::tcp(&gateway).connect(&nobody).is_err());

    let start = Arc::new(Barrier::new(2));
    let port = gateway.port;
    let racers: Vec<_> = (0..2)
        .map(|_| {
            let (start, token) = (Arc::clone(&start), token.clone());
            thread::spawn(move || {
                let device = Device::new();
                let mut client = Client::over(Stream::tcp(port), &Upgrade::to(port));
                start.wait();
                client.connect(&by_link(&device, &token)).map(|hello| (client, device, hello))
            })
        })
        .collect();
    let mut results: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    results.sort_by_key(Result::is_err);
    let (Ok((_client, device, hello)), Err(error)) = (&results[0], &results[1]) else {
        panic!("not exactly one got in")
    };
    assert_eq!(error["details"]["code"], "AUTH_BOOTSTRAP_TOKEN_INVALID", "{error}");
    assert_eq!(hello["auth"]["method"], "bootstrap-token");
    assert_eq!((&hello["auth"]["role"], &hello["auth"]["scopes"]), (&json!("node"), &json!([])));
    // Not for the same device again either: it has a token of its own now.
    assert!(Client::tcp(&gateway).connect(&by_link(device, &token)).is_err());
    let own = hello["auth"]["deviceToken"].as_str().unwrap();
    let again = Connect::node(device, &Surface::linux(&["system.which"])).device_token(own);
    Client::login(&gateway, &again);
    // What it offers still waits for an owner.
    let mut owner = gateway.owner();
    assert_eq!(owner.request("node.pair.list", json!({})).unwrap()["pending"][0]["nodeId"], json!(device.id()));
    let unapproved = json!({"nodeId": device.id(), "command": "system.which", "params": {}, "idempotencyKey": "k"});
    assert!(owner.request("node.invoke", unapproved).is_err());
    let row = owner.request("device.pair.list", json!({})).unwrap()["paired"][0].clone();
    assert_eq!((&row["approvedVia"], &row["roles"]), (&json!("setup-link"), &json!(["node"])));
}

/// Only an admin makes links, and only so many.
#[test]
fn sec_a19_links_are_made_by_admins_and_counted() {
    let gateway = Gateway::new();
    let mut pairing = Client::login(&gateway, &Connect::cli(&["operator.pairing", "operator.write"]));
    let refused = pairing.request("device.pair.setupCode", json!({})).unwrap_err();
    assert_eq!(refused["details"]["missingScope"], "operator.admin", "{refused}");
    let mut admin = gateway.owner();
    let other = admin.request("device.pair.setupCode", json!({"bootstrapProfile": "limited"})).unwrap_err();
    assert_eq!(other["code"], "INVALID_REQUEST", "{other}");
    let made = (0..100).take_while(|_| admin.request("device.pair.setupCode", json!({})).is_ok()).count();
    assert_eq!(made, 16);
}

/// A link holds no lasting credential, and nobody's log shows it.
#[test]
fn sec_a160_a_setup_link_is_no_secret_that_lasts() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let link = link(&gateway);
    let content = content(&link);
    let mut names: Vec<_> = content.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["bootstrapToken", "expiresAtMs", "gatewayKey", "url"]);
    assert!(!content.to_string().contains(TOKEN));
    let left = content["expiresAtMs"].as_i64().unwrap() - gateway_now();
    assert!((1..=600_000).contains(&left), "{left} ms");
    let state = TempDir::new();
    let node = Process::spawn(node_at(state.path(), &["--pair", &link]));
    wait_until("the node", || connected(&mut gateway.owner()));
    let used = Process::run(node_at(TempDir::new().path(), &["--pair", &link]));
    assert_eq!(used.code, Some(1), "{used:?}");
    assert!(used.stderr.contains("pair link"), "what to do is not said: {used:?}");
    let token = content["bootstrapToken"].as_str().unwrap();
    let code = &link["oc-pair://".len()..];
    let said = format!("{}{}{}{}", node.stdout(), node.stderr(), used.stdout, used.stderr);
    let gateway_said = gateway.stop();
    for text in [said, format!("{gateway_said:?}")] {
        assert!(!text.contains(token) && !text.contains(code), "{text}");
    }
    // Nor does what it keeps.
    let kept = std::fs::read_to_string(state.join("identity/device-auth.json")).unwrap();
    assert!(!kept.contains(token), "{kept}");
}

fn gateway_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// The way of a new machine: link, approval, command; later starts need neither link nor shared token.
#[test]
fn a_node_joins_by_a_link_and_comes_back_without() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let state = TempDir::new();
    let mut command = node_at(state.path(), &["--pair", "-", "--commands", "system.which"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", link(&gateway)).unwrap();
    let mut owner = gateway.owner();
    let id = wait_until("the node", || connected(&mut owner));
    gateway.approve_surface(&id);
    let which = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["sh"]}, "idempotencyKey": "w"});
    assert!(owner.request("node.invoke", which).unwrap()["payload"]["bins"]["sh"].is_string());
    let run = json!({"nodeId": id, "command": "system.run", "params": {"command": ["id"]}, "idempotencyKey": "r"});
    let refused = owner.request("node.invoke", run).unwrap_err();
    assert_eq!(refused["details"]["command"], "system.run", "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the node is gone", || connected(&mut owner).is_none().then_some(()));
    let auth = state.join("identity/device-auth.json");
    assert_eq!(mode(&auth), 0o600);
    let place = format!("node@loopback:{}", gateway.port);
    let document: Value = serde_json::from_slice(&std::fs::read(&auth).unwrap()).unwrap();
    assert!(document["tokens"][&place]["token"].is_string(), "{document}");
    let _node = Process::spawn(node_at(state.path(), &["--port", &gateway.port.to_string()]));
    assert_eq!(wait_until("the node, again", || connected(&mut owner)), id);
}

/// The link names the gateway's key: a squatter on its port is shown nothing.
#[test]
fn sec_h26_the_link_pins_the_gateway() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let mut content = content(&link(&gateway));
    let squatter = Script::new();
    content["url"] = json!(squatter.endpoint().to_string());
    let link = format!("oc-pair://{}", BASE64URL_NOPAD.encode(content.to_string().as_bytes()));
    for key in [None, Some(DeviceKey::generate())] {
        let state = TempDir::new();
        let node = Process::spawn(node_at(state.path(), &["--pair", &link]));
        let mut seat = squatter.seat(key.as_ref());
        assert!(seat.read().is_err(), "it was shown something");
        wait_until("the reason", || node.stderr().contains("not the gateway that we know").then_some(()));
    }
}

#[test]
fn a_link_that_is_none_is_refused_unrepeated() {
    let state = TempDir::new();
    let far = BASE64URL_NOPAD.encode(br#"{"url":"wss://far.example","bootstrapToken":"GEHEIM"}"#);
    for (link, said) in [("oc-pair://GEHEIM!", "no setup link"), (far.as_str(), "tunnel")] {
        let refused = Process::run(node_at(state.path(), &["--pair", link]));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(said) && !refused.stderr.contains("GEHEIM"), "{refused:?}");
        assert!(!refused.stderr.contains(link), "{refused:?}");
    }
    let unknown = Process::run(node_at(state.path(), &["--commands", "system.which,camera.snap"]));
    assert!(unknown.code == Some(1) && unknown.stderr.contains("camera.snap"), "{unknown:?}");
}

fn next_connect(script: &Script) -> (Seat, Value) {
    let mut seat = script.seat(None);
    let connect = seat.read().unwrap();
    (seat, connect)
}

/// A30: neither the stored shared secret nor the device token that one gateway gave is shown to another one.
#[test]
fn sec_a30_another_gateway_is_shown_nothing_that_was_stored() {
    let gateway = Gateway::start(Options::default());
    let state = gateway.state.path();
    let node = Process::spawn(given(node_at(state, &["--port", &gateway.port.to_string()]), TOKEN));
    let device_token = wait_until("its token", || {
        let kept: Value =
            serde_json::from_slice(&std::fs::read(state.join("identity/device-auth.json")).ok()?).unwrap();
        Some(kept["tokens"].as_object()?.values().next()?["token"].as_str()?.to_owned())
    });
    drop(node);

    let other = Script::new();
    let port = other.endpoint().addresses()[0].port().to_string();
    for arguments in [
        vec!["--url", &other.endpoint().to_string()],
        vec!["--port", &port],
        vec!["--host", "localhost", "--port", &port],
    ] {
        let node = Process::spawn(node_at(state, &arguments));
        let (mut seat, connect) = next_connect(&other);
        assert_eq!(connect["params"].get("auth"), None, "{arguments:?}");
        let text = connect.to_string();
        assert!(!text.contains(TOKEN) && !text.contains(&device_token), "{text}");
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "AUTH_TOKEN_MISSING"}));
        assert!(seat.read().is_err());
        let ended = node.finish();
        assert!(ended.code == Some(1) && ended.stderr.contains("OPENCLAW_GATEWAY_TOKEN"), "{ended:?}");
    }
    // What is given for it is shown; the other gateway's answer is kept for it alone.
    let node = Process::spawn(given(node_at(state, &["--port", &port]), GIVEN));
    let (seat, connect) = next_connect(&other);
    assert_eq!(connect["params"]["auth"], json!({"token": GIVEN}));
    seat.send(&json!({"type": "res", "id": connect["id"], "ok": true, "payload": {
        "type": "hello-ok", "protocol": 4, "server": {"version": "test", "connId": "c"},
        "auth": {"role": "node", "scopes": [], "deviceToken": "of-the-other"}, "policy": {"tickIntervalMs": 30_000}}}));
    let auth = state.join("identity/device-auth.json");
    wait_until("the other token", || std::fs::read_to_string(&auth).unwrap().contains("of-the-other").then_some(()));
    assert!(std::fs::read_to_string(&auth).unwrap().contains(&device_token));
    drop(node);
    // And the tool: with --url it wants a secret for that run.
    let asked = Process::run(gateway.mac_debug(&["--url", &other.endpoint().to_string(), "nodes"]));
    assert!(asked.code != Some(0) && asked.stderr.contains("OPENCLAW_GATEWAY_TOKEN"), "{asked:?}");
    assert!(other.is_untouched());
}

fn scripted(test: impl FnOnce(&Script, &Process)) {
    let script = Script::new();
    let state = TempDir::new();
    let command = node_at(state.path(), &["--url", &script.endpoint().to_string(), "--commands", "system.which"]);
    let node = Process::spawn(given(command, TOKEN));
    test(&script, &node);
}

fn welcome(seat: &Seat, connect: &Value, tick_ms: u64) {
    seat.send(&json!({"type": "res", "id": connect["id"], "ok": true, "payload": {
        "type": "hello-ok", "protocol": 4, "server": {"version": "test", "connId": "c"},
        "auth": {"role": "node", "scopes": []}, "policy": {"tickIntervalMs": tick_ms}}}));
}

/// A gateway that asks for more than was declared gets nothing, whatever it claims.
#[test]
fn what_is_not_offered_is_not_done() {
    scripted(|script, _| {
        let (mut seat, connect) = next_connect(script);
        welcome(&seat, &connect, 30_000);
        let node = connect["params"].clone();
        assert_eq!(node["commands"], json!(["system.which"]));
        for (id, command) in [("1", "system.run"), ("2", "system.run.prepare"), ("3", "system.execApprovals.get")] {
            seat.invoke(&node, id, command, r#"{"command":["id"]}"#, 5_000, id);
            assert_eq!(seat.result()["error"]["message"], "command not supported", "{command}");
        }
        seat.invoke(&node, "4", "system.which", r#"{"bins":["sh"]}"#, 5_000, "4");
        assert_eq!(seat.result()["ok"], true);
    });
}

/// Source: spec gateway §5: refused for now is repeated, not known is not.
#[test]
fn what_a_node_says_of_itself_is_repeated_until_taken() {
    scripted(|script, _| {
        let (mut seat, connect) = next_connect(script);
        welcome(&seat, &connect, 30_000);
        let mut counts = std::collections::BTreeMap::new();
        let quiet_from = loop {
            let frame = seat.read().unwrap();
            let method = frame["method"].as_str().unwrap().to_owned();
            let count: &mut u32 = counts.entry(method.clone()).or_default();
            *count += 1;
            match (method.as_str(), *count) {
                ("node.pluginTools.update", _) => {
                    let message = "unknown method: node.pluginTools.update";
                    seat.send(&json!({"type": "res", "id": frame["id"], "ok": false,
                        "error": {"code": "INVALID_REQUEST", "message": message}}));
                }
                ("node.skills.update", 1..=2) => seat.refuse(&frame, "UNAVAILABLE", &json!({})),
                _ => seat.send(&json!({"type": "res", "id": frame["id"], "ok": true, "payload": {}})),
            }
            if counts.get("node.skills.update") == Some(&3) {
                break Instant::now();
            }
        };
        seat.0.set_deadline(quiet_from + QUIET);
        assert!(seat.0.receive().is_err(), "it goes on");
        assert_eq!(counts["node.event"], 1);
        assert_eq!(counts["node.pluginTools.update"], 1);
    });
}

/// Source: spec gateway §2 "Client watchdog".
#[test]
fn a_silent_gateway_is_left_with_4000_and_tried_again() {
    scripted(|script, node| {
        let (mut seat, connect) = next_connect(script);
        welcome(&seat, &connect, 1_000);
        let began = Instant::now();
        let end = loop {
            match seat.read() {
                Ok(_) => {}
                Err(end) => break end,
            }
        };
        assert!(format!("{end:?}").contains("4000"), "{end:?}");
        let waited = began.elapsed();
        assert!((Duration::from_millis(1_900)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
        next_connect(script);
        assert!(node.stderr().contains("fell silent"), "{}", node.stderr());
    });
}

/// A gateway that lets it in and drops it at once is not hammered.
#[test]
fn pauses_grow_while_no_connection_lasts() {
    scripted(|script, _| {
        let mut pauses = Vec::new();
        let mut left = Instant::now();
        for _ in 0..5 {
            let (seat, connect) = next_connect(script);
            pauses.push(left.elapsed());
            welcome(&seat, &connect, 30_000);
            seat.0.close(1012, "service restart");
            left = Instant::now();
        }
        assert!(pauses[3] > Duration::from_millis(1_500), "{pauses:?}");
    });
}
