//! Pairing against an attacker: who may approve what, what a record that shrank is worth, what a paired key may turn into,
//! and what the store gives away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;
use support::{Client, Connect, Device, Gateway, Options, Surface, sha256_hex, wait_until};

fn operator(device: &Device, scopes: &[&str]) -> Connect {
    Connect::new("openclaw-macos", "ui", "operator", scopes).device(device)
}

/// A refused login's `details`.
fn refused(gateway: &Gateway, connect: &Connect) -> Value {
    Client::tcp(gateway).connect(connect).expect_err("it got in")["details"].take()
}

/// A36: a token gives what the record holds now, not what it held when the token was made.
#[test]
fn sec_a36_a_token_is_worth_no_more_than_its_record() {
    let gateway = Gateway::new();
    let device = Device::new();
    let both = ["operator.read", "operator.write"];
    let (_, hello) = Client::login_hello(&gateway, &operator(&device, &both));
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let state = Rc::clone(&gateway.state);
    assert_eq!(gateway.stop().code, Some(0));
    // The record shrinks, the token in it stays as it was made.
    let path = state.join("devices/paired.json");
    let mut store: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let record = store.pointer_mut(&format!("/{}", device.id())).unwrap();
    assert_eq!(record["tokens"]["operator"]["scopes"], json!(both));
    record["scopes"] = json!(["operator.read"]);
    std::fs::write(&path, store.to_string()).unwrap();

    let gateway = Gateway::start(Options::default().state(&state));
    for connect in [operator(&device, &both), operator(&device, &["operator.write"])] {
        for connect in [connect.clone().device_token(&token), connect.clone().token(&token)] {
            assert_eq!(refused(&gateway, &connect)["code"], "AUTH_SCOPE_MISMATCH");
        }
        // Nor does the shared secret widen it again.
        let details = refused(&gateway, &connect);
        assert_eq!((&details["code"], &details["reason"]), (&json!("PAIRING_REQUIRED"), &json!("scope-upgrade")));
    }
    let (mut client, hello) =
        Client::login_hello(&gateway, &operator(&device, &["operator.read"]).device_token(&token));
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    assert!(client.request("node.list", json!({})).is_ok());
    let invoke = json!({"nodeId": "x", "command": "system.which", "idempotencyKey": "k"});
    assert_eq!(client.request("node.invoke", invoke).unwrap_err()["details"]["missingScope"], "operator.write");
}

/// A40: nobody gives away what he has not, on no way.
#[test]
fn sec_a40_an_approver_holds_what_he_approves() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let mut owner = gateway.owner();
    let all = ["operator.read", "operator.write", "operator.approvals", "operator.pairing", "operator.admin"];
    let ask = |scopes: &[&str]| refused(&gateway, &operator(&Device::new(), scopes))["requestId"].clone();
    // A device whose own pairing is all that it has.
    let weak = Device::new();
    let first = refused(&gateway, &operator(&weak, &["operator.pairing"]))["requestId"].clone();
    owner.request("device.pair.approve", json!({"requestId": first})).unwrap();
    let mut approvers = vec![
        ("backend", Client::login(&gateway, &Connect::backend(&["operator.pairing"]))),
        ("cli", Client::login(&gateway, &Connect::cli(&["operator.pairing"]))),
        ("device", Client::login(&gateway, &operator(&weak, &["operator.pairing"]))),
    ];
    let mut unix = Client::unix(&gateway);
    unix.connect(&Connect::cli(&["operator.pairing"])).unwrap();
    approvers.push(("socket", unix));
    for wanted in [
        &["operator.admin"][..],
        &["operator.read"],
        &["operator.write"],
        &["operator.approvals"],
        &["operator.pairing", "operator.admin"],
        &["operator.admin.x"],
        &["*"],
        &all,
    ] {
        let request = ask(wanted);
        for (way, approver) in &mut approvers {
            for method in ["device.pair.approve", "node.pair.approve"] {
                let error = approver.request(method, json!({"requestId": request})).expect_err(way);
                let message = error["message"].as_str().unwrap();
                assert!(matches!(message, "device pairing approval denied" | "unknown requestId"), "{way}: {error}");
            }
        }
        let list = owner.request("device.pair.list", json!({})).unwrap();
        assert!(
            list["pending"].as_array().unwrap().iter().any(|row| row["requestId"] == request),
            "{wanted:?}: {list}"
        );
    }
    // All but one; admin is all of them, write is read.
    for missing in all.iter().filter(|scope| !matches!(**scope, "operator.pairing" | "operator.read")) {
        let has: Vec<&str> =
            all.iter().filter(|scope| scope != &missing && **scope != "operator.admin").copied().collect();
        let request = ask(&[missing]);
        let mut approver = Client::login(&gateway, &Connect::backend(&has));
        let error = approver.request("device.pair.approve", json!({"requestId": request})).expect_err(missing);
        assert_eq!(error["message"], "device pairing approval denied", "{missing}");
        let mut twin = Client::login(&gateway, &Connect::backend(&[missing, "operator.pairing"]));
        twin.request("device.pair.approve", json!({"requestId": request})).unwrap();
    }
    // Without pairing not even what one has.
    let request = ask(&["operator.read"]);
    let mut reader = Client::login(&gateway, &Connect::backend(&["operator.read", "operator.write"]));
    let error = reader.request("device.pair.approve", json!({"requestId": request})).unwrap_err();
    assert_eq!(error["details"]["missingScope"], "operator.pairing");
    // A node needs an admin; and a device does not widen itself.
    let node = refused(&gateway, &Connect::node(&Device::new(), &Surface::linux(&[])))["requestId"].clone();
    let wider = refused(&gateway, &operator(&weak, &["operator.pairing", "operator.read"]))["requestId"].clone();
    for request in [&node, &wider] {
        for (way, approver) in &mut approvers {
            approver.request("device.pair.approve", json!({"requestId": request})).expect_err(way);
        }
        owner.request("device.pair.approve", json!({"requestId": request})).unwrap();
    }
}

/// A42: what a paired node offers at a later login waits, however often and in whatever company it comes.
#[test]
fn sec_a42_a_reconnect_brings_no_command_along() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = |commands: &[&str]| Connect::node(&device, &Surface::linux(commands));
    let (first, hello) = Client::login_hello(&gateway, &connect(&["system.which"]));
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    gateway.approve_surface(&id);
    drop(first);
    let run = json!({"nodeId": id, "command": "system.run", "params": {"command": ["x"]}, "idempotencyKey": "k"});
    let mut requests = Vec::new();
    for login in [
        connect(&["system.which", "system.run"]),
        connect(&["system.run"]).device_token(&token),
        connect(&["system.run", "system.which", "system.run.prepare"]).set("caps", json!(["system", "canvas"])),
        connect(&["system.which", "system.run"]).device_token(&token),
    ] {
        let mut node = Client::login(&gateway, &login);
        requests.push(gateway.pending_surface(&mut owner, &id));
        let row = owner.request("node.describe", json!({"nodeId": id})).unwrap();
        assert_eq!(row["approvalState"], "pending-reapproval", "{row}");
        assert!(!row["commands"].to_string().contains("system.run"), "{row}");
        assert_eq!(owner.request("node.invoke", run.clone()).unwrap_err()["code"], "INVALID_REQUEST");
        node.no_event("node.invoke.request");
    }
    assert_eq!(
        owner.request("node.pair.list", json!({})).unwrap()["pending"].as_array().unwrap().len(),
        1,
        "one question"
    );
    // An approval of what is not asked any more approves nothing.
    let stale = owner.request("node.pair.approve", json!({"requestId": requests[1]})).unwrap_err();
    assert_eq!(stale["message"], "unknown requestId");
    let mut node = Client::login(&gateway, &connect(&["system.which", "system.run"]));
    owner.request("node.pair.approve", json!({"requestId": requests[3]})).unwrap();
    owner.start("node.invoke", run);
    assert_eq!(node.event("node.invoke.request")["command"], "system.run", "the twin");
}

/// A43: what kind of machine a key is was part of what was approved.
#[test]
fn sec_a43_a_paired_key_stays_the_machine_that_it_was() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let phone = Surface {
        platform: "ios 18.0".to_owned(),
        device_family: "iPhone".to_owned(),
        ..Surface::linux(&["device.info", "system.run", "system.which"])
    };
    let (node, hello) = Client::login_hello(&gateway, &Connect::node(&device, &phone));
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    gateway.approve_surface(&device.id());
    drop(node);
    let describe = |owner: &mut Client| {
        let row = owner.request("node.describe", json!({"nodeId": device.id()})).unwrap();
        (row["commands"].clone(), row["approvalState"].clone())
    };
    let before = describe(&mut owner);
    assert_eq!(before, (json!(["device.info"]), json!("approved")), "a phone runs no commands");

    let mut request = Value::Null;
    for (platform, family) in [
        ("macos 15.5", "Mac"),
        ("macos", "iPhone"),
        ("linux", "Linux"),
        ("ios 18.0", "Linux"),
        ("ios 18.0", "Mac"),
        ("unknown", "unknown"),
        ("haiku", "iPhone"),
        ("windows", "Windows"),
    ] {
        let moved = Surface { platform: platform.to_owned(), device_family: family.to_owned(), ..phone.clone() };
        let connect = Connect::node(&device, &moved);
        for connect in [connect.clone(), connect.device_token(&token)] {
            let details = refused(&gateway, &connect);
            assert_eq!(
                (&details["code"], &details["reason"]),
                (&json!("PAIRING_REQUIRED"), &json!("metadata-upgrade")),
                "{platform} {family}"
            );
            request = details["requestId"].clone();
        }
        assert_eq!(describe(&mut owner), before, "{platform} {family}");
    }
    for (member, value) in [
        ("client/platform", json!("")),
        ("client/platform", json!(0)),
        ("client/platform", Value::Null),
        ("client/deviceFamily", json!({})),
    ] {
        let error = Client::tcp(&gateway).connect(&Connect::node(&device, &phone).set(member, value.clone()));
        assert_eq!(error.unwrap_err()["code"], "INVALID_REQUEST", "{member} {value}");
    }
    let rows = owner.request("device.pair.list", json!({})).unwrap()["pending"].clone();
    let row = rows.as_array().unwrap().iter().find(|row| row["requestId"] == request).unwrap();
    assert_eq!((&row["isRepair"], &row["platform"]), (&json!(true), &json!("windows")), "{row}");
    // Twin: the phone itself is still in. And an approved change of machine is one of the device, not of its commands.
    Client::login(&gateway, &Connect::node(&device, &phone).device_token(&token));
    owner.request("device.pair.approve", json!({"requestId": request})).unwrap();
    let moved = Surface { platform: "windows".to_owned(), device_family: "Windows".to_owned(), ..phone };
    let mut node = Client::login(&gateway, &Connect::node(&device, &moved));
    let run =
        json!({"nodeId": device.id(), "command": "system.run", "params": {"command": ["x"]}, "idempotencyKey": "k"});
    let error = owner.request("node.invoke", run).unwrap_err();
    assert_eq!(error["details"]["reason"], "command not allowlisted", "{error}");
    node.no_event("node.invoke.request");
    wait_until("the larger surface waits", || (describe(&mut owner).1 == "pending-reapproval").then_some(()));
}

fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

/// H20: whoever reads the store cannot log in with what stands there; the devices can.
#[test]
fn sec_h20_the_store_holds_no_usable_token() {
    let gateway = Gateway::new();
    let (tablet, node) = (Device::new(), Device::new());
    let tablet = operator(&tablet, &["operator.pairing"]);
    let node = Connect::node(&node, &Surface::linux(&["system.which"]));
    let mut tokens = Vec::new();
    for connect in [&tablet, &node] {
        let (_, hello) = Client::login_hello(&gateway, connect);
        tokens.push(hello["auth"]["deviceToken"].as_str().unwrap().to_owned());
        // It is shown once.
        let (_, hello) = Client::login_hello(&gateway, connect);
        assert_eq!(hello["auth"].get("deviceToken"), None, "{hello}");
    }
    // Also one that was made later.
    let mut own = Client::login(&gateway, &tablet);
    let id = own.request("device.pair.list", json!({})).unwrap()["paired"][0]["deviceId"].clone();
    let rotated = own.request("device.token.rotate", json!({"deviceId": id, "role": "operator"})).unwrap();
    let old = std::mem::replace(&mut tokens[0], rotated["token"].as_str().unwrap().to_owned());
    let state = Rc::clone(&gateway.state);
    gateway.stop();
    let mut stored = Vec::new();
    files(state.path(), &mut stored);
    for token in tokens.iter().chain([&old]) {
        let bytes = token.as_bytes();
        let raw = BASE64URL_NOPAD.decode(bytes).expect("a token is base64url");
        let backwards: Vec<u8> = bytes.iter().rev().copied().collect();
        let forms = [
            bytes.to_vec(),
            backwards,
            raw.clone(),
            HEXLOWER.encode(bytes).into_bytes(),
            HEXLOWER.encode(&raw).into_bytes(),
            BASE64.encode(bytes).into_bytes(),
            BASE64.encode(&raw).into_bytes(),
        ];
        for (path, content) in &stored {
            for form in &forms {
                assert!(!content.windows(form.len()).any(|window| window == form), "{path} holds a token");
            }
        }
    }
    let hash = sha256_hex(tokens[1].as_bytes());
    let holds = |text: &str| stored.iter().any(|(_, content)| String::from_utf8_lossy(content).contains(text));
    assert!(holds(&hash), "the store holds its hash; otherwise this test looked in the wrong place");
    assert!(!holds(&sha256_hex(old.as_bytes())), "and nothing of one that is over");

    let gateway = Gateway::start(Options::default().state(&state));
    for (connect, token) in [&tablet, &node].into_iter().zip(&tokens) {
        let (_, hello) = Client::login_hello(&gateway, &connect.clone().device_token(token));
        assert_eq!(hello["auth"]["method"], "device-token");
        for stolen in [sha256_hex(token.as_bytes()), old.clone(), String::new()] {
            assert!(Client::tcp(&gateway).connect(&connect.clone().device_token(&stolen)).is_err(), "{stolen}");
        }
    }
}
