//! The two approvals of a node, from outside: the device lets it in, the surface lets it be asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::rc::Rc;
use support::{Client, Connect, Device, Gateway, Options, Surface, TOKEN, wait_until};

/// The row of `node_id` as an owner sees it.
fn describe(owner: &mut Client, node_id: &str) -> Value {
    owner.request("node.describe", json!({"nodeId": node_id})).unwrap()
}

fn invoke_which(owner: &mut Client, node_id: &str) -> String {
    owner.start(
        "node.invoke",
        json!({"nodeId": node_id, "command": "system.which", "params": {"bins": ["x"]}, "idempotencyKey": "p1"}),
    )
}

/// frames/node-mac-pairing-surface.json, with a Linux surface.
#[test]
fn a_surface_waits_for_approval_and_then_works_on_the_live_connection() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let surface = Surface::linux(&["system.run", "system.which"]);
    let (mut node, hello) = Client::login_hello(&gateway, &Connect::node(&device, &surface));
    assert_eq!(hello["auth"]["role"], "node");
    assert_eq!(hello["auth"]["scopes"], json!([]));
    assert!(hello["auth"]["deviceToken"].as_str().is_some_and(|token| token.len() == 43), "{hello}");

    let requested = owner.event("node.pair.requested");
    let list = owner.request("node.pair.list", json!({})).unwrap();
    assert_eq!(list["paired"], json!([]));
    let pending = &list["pending"][0];
    assert_eq!(&requested, pending, "the event is the row");
    for (name, value) in [
        ("nodeId", json!(id)),
        ("clientId", json!("node-host")),
        ("clientMode", json!("node")),
        ("displayName", json!("test node")),
        ("platform", json!("linux")),
        ("version", json!("0.0.1")),
        ("deviceFamily", json!("Linux")),
        ("caps", json!(["system"])),
        ("requiredApproveScopes", json!(["operator.pairing", "operator.admin"])),
    ] {
        assert_eq!(pending[name], value, "{name} in {pending}");
    }
    let mut commands: Vec<&str> =
        pending["commands"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    commands.sort_unstable();
    assert_eq!(commands, ["system.run", "system.which"]);
    assert!(pending["ts"].is_u64(), "{pending}");
    let row = describe(&mut owner, &id);
    assert_eq!((&row["connected"], &row["paired"]), (&json!(true), &json!(true)), "{row}");
    assert_eq!((&row["caps"], &row["commands"]), (&json!([]), &json!([])), "{row}");
    assert_eq!(row["approvalState"], "pending-approval");
    assert_eq!(row["pendingRequestId"], pending["requestId"]);

    let answer = owner.request("node.pair.approve", json!({"requestId": pending["requestId"]})).unwrap();
    assert_eq!(answer["requestId"], pending["requestId"]);
    assert_eq!(answer["node"]["nodeId"], json!(id));
    assert!(answer["node"]["approvedAtMs"].is_u64() && answer["node"]["createdAtMs"].is_u64(), "{answer}");
    assert!(!answer.to_string().contains(hello["auth"]["deviceToken"].as_str().unwrap()));
    for client in [&mut owner, &mut node] {
        let resolved = client.event("node.pair.resolved");
        assert_eq!(resolved["requestId"], pending["requestId"]);
        assert_eq!((&resolved["nodeId"], &resolved["decision"]), (&json!(id), &json!("approved")));
    }
    let invocation = invoke_which(&mut owner, &id);
    let request = node.event("node.invoke.request");
    node.request("node.invoke.result", json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {"a": 1}}))
        .unwrap();
    assert_eq!(owner.response(&invocation).unwrap()["payload"], json!({"a": 1}));

    let again = owner.request("node.pair.approve", json!({"requestId": pending["requestId"]})).unwrap_err();
    assert_eq!((&again["code"], &again["message"]), (&json!("INVALID_REQUEST"), &json!("unknown requestId")));
    let list = owner.request("node.pair.list", json!({})).unwrap();
    assert_eq!(list["pending"], json!([]));
    assert_eq!(list["paired"][0]["nodeId"], json!(id));
}

/// Spec gateway §5 "node.list / node.describe row".
#[test]
fn the_node_row_has_the_fields_that_clients_read() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let surface = Surface::mac(&["system.which", "system.run"]);
    let connect = Connect::node(&device, &surface)
        .set("pathEnv", json!("/usr/bin:/bin"))
        .set("client/modelIdentifier", json!("Mac15,3"));
    let node = Client::login(&gateway, &connect);
    gateway.approve_surface(&id);
    let row = describe(&mut owner, &id);
    for (name, value) in [
        ("displayName", json!("macnode")),
        ("platform", json!("macos 15.5")),
        ("version", json!("0.0.1")),
        ("deviceFamily", json!("Mac")),
        ("modelIdentifier", json!("Mac15,3")),
        ("caps", json!(["system"])),
        ("commands", json!(["system.run", "system.which"])),
        ("permissions", json!({"accessibility": true, "screenRecording": false})),
        ("sessionHost", json!(false)),
        ("nodePluginTools", json!([])),
        ("pathEnv", json!("/usr/bin:/bin")),
        ("approvalState", json!("approved")),
        ("paired", json!(true)),
        ("connected", json!(true)),
    ] {
        assert_eq!(row[name], value, "{name} in {row}");
    }
    for name in ["ts", "connectedAtMs", "lastSeenAtMs", "approvedAtMs"] {
        assert!(row[name].is_u64(), "{name} in {row}");
    }
    node.close();
    let row = wait_until("the node is offline", || {
        let row = describe(&mut owner, &id);
        (row["connected"] == false).then_some(row)
    });
    assert_eq!(row["commands"], json!(["system.run", "system.which"]), "offline rows keep what is approved");
    for name in ["nodePluginTools", "pathEnv", "connectedAtMs"] {
        assert!(row.get(name).is_none(), "{name} is for connected nodes: {row}");
    }
    let error = owner.request("node.describe", json!({"nodeId": "nobody"})).unwrap_err();
    assert_eq!((&error["code"], &error["message"]), (&json!("INVALID_REQUEST"), &json!("unknown nodeId")));
}

/// Spec gateway §5: connected first, then the lower-cased name, then the id.
#[test]
fn nodes_are_listed_in_a_stable_order() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let login = |name: &str| {
        let mut surface = Surface::linux(&["system.which"]);
        surface.display_name = name.to_owned();
        Client::login(&gateway, &Connect::node(&Device::new(), &surface))
    };
    let (_zebra, _ant, _bear) = (login("zebra"), login("Ant"), login("bear"));
    login("aardvark").close();
    let names = wait_until("three of four are connected", || {
        let list = owner.request("node.list", json!({})).unwrap();
        let rows = list["nodes"].as_array().unwrap().clone();
        (rows.len() == 4 && rows.iter().filter(|row| row["connected"] == true).count() == 3)
            .then(|| rows.iter().map(|row| row["displayName"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(names, ["Ant", "bear", "zebra", "aardvark"]);
}

/// Spec gateway §5 "requiredApproveScopes": what runs programs needs an admin.
#[test]
fn a_surface_needs_the_scopes_of_its_strongest_command() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    for (commands, last) in [
        (vec![], None),
        (vec!["system.notify"], Some("operator.write")),
        (vec!["system.which"], Some("operator.admin")),
        (vec!["system.notify", "system.run.prepare"], Some("operator.admin")),
        (vec!["system.execApprovals.get"], Some("operator.admin")),
    ] {
        let device = Device::new();
        let _node = Client::login(&gateway, &Connect::node(&device, &Surface::mac(&commands)));
        let request = gateway.pending_surface(&mut owner, &device.id());
        let list = owner.request("node.pair.list", json!({})).unwrap();
        let row = list["pending"].as_array().unwrap().iter().find(|row| row["requestId"] == json!(request)).unwrap();
        let mut required = vec!["operator.pairing"];
        required.extend(last);
        assert_eq!(row["requiredApproveScopes"], json!(required), "{commands:?}");
        let mut weak = Client::login(&gateway, &Connect::backend(&["operator.pairing"]));
        let answer = weak.request("node.pair.approve", json!({"requestId": request}));
        assert_eq!(answer.is_ok(), last.is_none(), "{commands:?}: {answer:?}");
        if let Some(scope) = last {
            let error = answer.unwrap_err();
            assert_eq!(error["details"]["missingScope"], json!(scope), "{error}");
            let mut strong = Client::login(&gateway, &Connect::backend(&required));
            strong.request("node.pair.approve", json!({"requestId": request})).unwrap();
        }
        assert_eq!(describe(&mut owner, &device.id())["approvalState"], "approved");
    }
}

/// Requests that wait for a node: one of each kind, until it fetches them; and the node that is removed loses them.
/// Source: schemas NodePending* of the protocol.
#[test]
fn work_waits_for_a_node_until_it_fetches_it() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let mut node = Client::login(&gateway, &connect);
    let ask = |kind: &str| json!({"nodeId": id, "type": kind});
    let error = owner.request("node.pending.enqueue", ask("location.request")).unwrap_err();
    assert_eq!(error["details"]["code"], "PAIRING_CHANGED", "nobody approved it: {error}");
    gateway.approve_surface(&id);
    let first = owner.request("node.pending.enqueue", ask("location.request")).unwrap();
    assert_eq!((&first["nodeId"], &first["wakeTriggered"]), (&json!(id), &json!(false)), "{first}");
    let queued = &first["queued"];
    assert_eq!((&queued["type"], &queued["priority"]), (&json!("location.request"), &json!("normal")));
    let life = queued["expiresAtMs"].as_i64().unwrap() - queued["createdAtMs"].as_i64().unwrap();
    assert_eq!(life, 24 * 60 * 60 * 1_000);
    assert_eq!(owner.request("node.pending.enqueue", ask("location.request")).unwrap(), first, "one of a kind");
    let mut urgent = ask("status.request");
    urgent["priority"] = json!("high");
    urgent["wake"] = json!(true);
    let second = owner.request("node.pending.enqueue", urgent).unwrap();
    assert!(second["revision"].as_u64() > first["revision"].as_u64());
    let drain = |node: &mut Client, params: Value| node.request("node.pending.drain", params).unwrap();
    let got = drain(&mut node, json!({"maxItems": 1}));
    assert_eq!((&got["items"], &got["hasMore"]), (&json!([second["queued"]]), &json!(true)), "{got}");
    let got = drain(&mut node, json!({}));
    assert_eq!((&got["items"][0], &got["hasMore"]), (&first["queued"], &json!(false)), "{got}");
    assert_eq!(got["items"][1]["id"], "baseline-status");
    assert_eq!(drain(&mut node, json!({}))["items"].as_array().unwrap().len(), 1);
    let mut short = ask("location.request");
    short["expiresInMs"] = json!(1_000);
    owner.request("node.pending.enqueue", short).unwrap();
    wait_until("its end", || {
        let again = owner.request("node.pending.enqueue", ask("location.request")).unwrap();
        let life = again["queued"]["expiresAtMs"].as_i64()? - again["queued"]["createdAtMs"].as_i64()?;
        (life > 1_000).then_some(())
    });
    assert_eq!(node.request("node.pending.pull", json!({})).unwrap(), json!({"nodeId": id, "actions": []}));
    let acked = json!({"nodeId": id, "ackedIds": ["x"], "remainingCount": 0});
    assert_eq!(node.request("node.pending.ack", json!({"ids": ["x"]})).unwrap(), acked);
    for bad in [
        json!({"nodeId": id}),
        ask("wipe.request"),
        json!({"nodeId": id, "type": "status.request", "expiresInMs": 999}),
    ] {
        assert_eq!(owner.request("node.pending.enqueue", bad).unwrap_err()["code"], "INVALID_REQUEST");
    }
    for method in ["node.pending.drain", "node.pending.pull", "node.pending.ack"] {
        assert_eq!(owner.request(method, json!({})).unwrap_err()["message"], "unauthorized role: operator");
    }
    let mut reader = Client::login(&gateway, &Connect::backend(&["operator.read"]));
    let error = reader.request("node.pending.enqueue", ask("status.request")).unwrap_err();
    assert_eq!(error["details"]["missingScope"], "operator.write");
    owner.request("node.pair.remove", json!({"nodeId": id})).unwrap();
    node.closed();
    let mut node = Client::login(&gateway, &connect);
    assert_eq!(drain(&mut node, json!({}))["items"].as_array().unwrap().len(), 1, "the removed one's is gone");
}

/// frames/pair-nodes-reject.json
#[test]
fn a_rejected_surface_stays_unusable() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let mut node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    let request = gateway.pending_surface(&mut owner, &id);
    let answer = owner.request("node.pair.reject", json!({"requestId": request})).unwrap();
    assert_eq!(answer, json!({"requestId": request, "nodeId": id}));
    assert_eq!(owner.event("node.pair.resolved")["decision"], "rejected");
    let invocation = invoke_which(&mut owner, &id);
    assert_eq!(owner.response(&invocation).unwrap_err()["details"]["code"], "PAIRING_CHANGED");
    node.no_event("node.invoke.request");
    for method in ["node.pair.reject", "node.pair.approve"] {
        let error = owner.request(method, json!({"requestId": request})).unwrap_err();
        assert_eq!(error["message"], "unknown requestId", "{method}");
    }
    assert_eq!(describe(&mut owner, &id)["approvalState"], "unapproved");
}

/// frames/node-second-declared-command-change.json: more than was approved asks again, and until
/// then only the old commands work.
#[test]
fn a_larger_surface_asks_again_and_the_old_one_goes_on() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    gateway.approve_surface(&id);
    let larger = Surface::linux(&["system.which", "system.run"]);
    let mut node = Client::login(&gateway, &Connect::node(&device, &larger));
    let request = gateway.pending_surface(&mut owner, &id);
    let row = describe(&mut owner, &id);
    assert_eq!(row["approvalState"], "pending-reapproval", "{row}");
    assert_eq!(row["pendingRequestId"], json!(request));
    assert_eq!(row["commands"], json!(["system.which"]));
    assert_eq!(row["pendingDeclaredCommands"], json!(["system.run", "system.which"]), "{row}");
    let mut reader = Client::login(&gateway, &Connect::backend(&["operator.read"]));
    let seen = describe(&mut reader, &id);
    assert!(seen.get("pendingRequestId").is_none() && seen.get("pendingDeclaredCommands").is_none(), "{seen}");

    let run = json!({"nodeId": id, "command": "system.run", "params": {"command": ["true"]}, "idempotencyKey": "r"});
    // Host commands are on the allowlist only as far as they are approved. Spec exec g.3
    let error = owner.request("node.invoke", run.clone()).unwrap_err();
    assert_eq!(error["details"]["reason"], "command not allowlisted", "{error}");
    let invocation = invoke_which(&mut owner, &id);
    let asked = node.event("node.invoke.request");
    assert_eq!(asked["command"], "system.which");
    node.request("node.invoke.result", json!({"id": asked["id"], "nodeId": id, "ok": true})).unwrap();
    owner.response(&invocation).unwrap();

    owner.request("node.pair.approve", json!({"requestId": request})).unwrap();
    owner.start("node.invoke", run);
    assert_eq!(node.event("node.invoke.request")["command"], "system.run");
    // A smaller one asks for nothing.
    let mut small = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    assert_eq!(describe(&mut owner, &id)["approvalState"], "approved");
    let error = owner
        .request(
            "node.invoke",
            json!({"nodeId": id, "command": "system.run", "params": {"command": ["true"]}, "idempotencyKey": "r2"}),
        )
        .unwrap_err();
    assert_eq!(error["details"]["reason"], "command not declared by node", "{error}");
    small.no_event("node.invoke.request");
}

/// Names that the platform's allowlist does not know never reach the pending surface.
/// frames/node-mac-pairing-surface.json
#[test]
fn dangerous_and_unknown_commands_are_dropped_from_the_surface() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let declared = [
        "system.run",
        "system.which",
        "system.notify",
        "canvas.present",
        "camera.list",
        "camera.snap",
        "screen.snapshot",
        "screen.record",
        "location.get",
        "device.info",
        "bogus.command",
    ];
    let device = Device::new();
    let _node = Client::login(&gateway, &Connect::node(&device, &Surface::mac(&declared)));
    gateway.pending_surface(&mut owner, &device.id());
    let pending = owner.request("node.pair.list", json!({})).unwrap()["pending"][0]["commands"].clone();
    let has = |name: &str| pending.as_array().unwrap().contains(&json!(name));
    for name in ["system.run", "system.which", "system.notify", "camera.list", "screen.snapshot", "device.info"] {
        assert!(has(name), "{name} in {pending}");
    }
    for name in ["camera.snap", "screen.record", "bogus.command"] {
        assert!(!has(name), "{name} in {pending}");
    }
    // Unless the owner names them; and what the owner denies goes, too.
    let config = json!({"gateway": {
        "mode": "local",
        "auth": {"mode": "token", "token": TOKEN},
        "nodes": {"commands": {"allow": ["camera.snap"], "deny": ["system.run"]}},
    }});
    let gateway = Gateway::start(Options::default().config(config));
    let mut owner = gateway.owner();
    let _node = Client::login(&gateway, &Connect::node(&device, &Surface::mac(&declared)));
    gateway.pending_surface(&mut owner, &device.id());
    let pending = owner.request("node.pair.list", json!({})).unwrap()["pending"][0]["commands"].clone();
    assert!(pending.as_array().unwrap().contains(&json!("camera.snap")), "{pending}");
    assert!(!pending.as_array().unwrap().contains(&json!("system.run")), "{pending}");
}

/// A41: the device is in, its commands are not.
#[test]
fn sec_a41_device_pairing_exposes_no_command() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let mut node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.run", "system.which"])));
    for command in ["system.run", "system.which", "system.run.prepare"] {
        let error = owner
            .request(
                "node.invoke",
                json!({"nodeId": id, "command": command, "params": {"command": ["true"]}, "idempotencyKey": command}),
            )
            .unwrap_err();
        assert_eq!(error["code"], "UNAVAILABLE", "{error}");
        assert_eq!(error["message"], "node pairing changed while invocation was active");
        assert_eq!(error["retryable"], true);
        assert_eq!(error["details"]["code"], "PAIRING_CHANGED");
    }
    node.no_event("node.invoke.request");
    gateway.approve_surface(&id);
    owner.start(
        "node.invoke",
        json!({"nodeId": id, "command": "system.run", "params": {"command": ["true"]}, "idempotencyKey": "k"}),
    );
    assert_eq!(node.event("node.invoke.request")["command"], "system.run");
}

/// What was approved survives a restart; what was pending comes back when the node does.
#[test]
fn approvals_survive_a_restart() {
    let gateway = Gateway::new();
    let state = Rc::clone(&gateway.state);
    let device = Device::new();
    let id = device.id();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let (_, hello) = Client::login_hello(&gateway, &connect);
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    gateway.approve_surface(&id);
    assert_eq!(gateway.stop().code, Some(0));
    assert_no_file_holds(state.path(), &token);

    let gateway = Gateway::start(Options::default().state(&state));
    let mut owner = gateway.owner();
    let row = describe(&mut owner, &id);
    assert_eq!((&row["connected"], &row["approvalState"]), (&json!(false), &json!("approved")), "{row}");
    // The device token alone is enough now. frames/pair-node-reconnect-device-token.json
    let (mut node, hello) = Client::login_hello(&gateway, &connect.clone().device_token(&token));
    assert_eq!(hello["auth"]["method"], "device-token");
    assert_eq!(owner.request("node.pair.list", json!({})).unwrap()["pending"], json!([]));
    invoke_which(&mut owner, &id);
    node.event("node.invoke.request");
    // The official client sends a stored device token in `auth.token`, too; another device's is refused.
    Client::login(&gateway, &connect.clone().token(&token));
    let stolen = Connect::node(&Device::new(), &Surface::linux(&["system.which"])).device_token(&token);
    let error = Client::tcp(&gateway).connect(&stolen).unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{error}");
    let as_operator = Connect::new("cli", "cli", "operator", &["operator.read"]).device(&device).device_token(&token);
    assert!(Client::tcp(&gateway).connect(&as_operator).is_err(), "a node's token opened an operator session");
}

/// frames/op-device-token-reconnect.json
#[test]
fn an_operators_device_token_holds_what_was_approved() {
    let gateway = Gateway::new();
    let device = Device::new();
    let scopes = ["operator.read", "operator.write"];
    let connect = Connect::new("openclaw-macos", "ui", "operator", &scopes).device(&device);
    let (_, hello) = Client::login_hello(&gateway, &connect);
    assert_eq!((&hello["auth"]["method"], &hello["auth"]["scopes"]), (&json!("token"), &json!(scopes)));
    let token = hello["auth"]["deviceToken"].as_str().unwrap();
    // The reference client sends a stored device token in `auth.token`.
    for connect in [connect.clone().token(token), connect.clone().device_token(token)] {
        let (_, hello) = Client::login_hello(&gateway, &connect);
        assert_eq!(hello["auth"]["method"], "device-token");
        assert_eq!(hello["auth"]["scopes"], json!(scopes));
    }
    let narrow = connect.clone().device_token(token).set("scopes", json!(["operator.read"]));
    assert_eq!(Client::login_hello(&gateway, &narrow).1["auth"]["scopes"], json!(["operator.read"]));
    let refused = |connect: &Connect| Client::tcp(&gateway).connect(connect).unwrap_err()["details"].take();
    let wide = refused(&connect.clone().device_token(token).set("scopes", json!(["operator.admin"])));
    assert_eq!(wide["code"], "AUTH_SCOPE_MISMATCH", "{wide}");
    assert_eq!(wide["recommendedNextStep"], "review_auth_configuration", "{wide}");
    for connect in [
        connect.clone().device_token(&format!("x{token}")),
        connect.clone().device_token(token).device(&Device::new()),
        Connect::node(&device, &Surface::linux(&[])).device_token(token),
    ] {
        let details = refused(&connect);
        assert_eq!(details["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{details}");
        assert_eq!(details["recommendedNextStep"], "update_auth_credentials", "{details}");
    }
    let details = refused(&connect.token(&format!("x{token}")));
    assert_eq!(details["code"], "AUTH_TOKEN_MISMATCH", "in `auth.token` it counts as a wrong shared token: {details}");
}

/// H20: the gateway's store holds only a hash of the tokens that it gave out.
fn assert_no_file_holds(directory: &std::path::Path, secret: &str) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_file_holds(&path, secret);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{} holds a device token", path.display());
        }
    }
}

/// frames/pair-node-refused.json: the same request waits, whoever knocks again.
#[test]
fn with_manual_pairing_a_device_waits_and_keeps_its_request() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let device = Device::new();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut client = Client::tcp(&gateway);
        let error = client.connect(&connect).unwrap_err();
        assert_eq!(error["code"], "NOT_PAIRED");
        assert_eq!(error["message"], "pairing required: device is not approved yet");
        assert_eq!(error["details"]["code"], "PAIRING_REQUIRED");
        assert_eq!(error["details"]["reason"], "not-paired");
        assert_eq!(error["details"]["deviceId"], json!(device.id()));
        assert_eq!(error["details"]["requestedRole"], "node");
        assert!(error["details"]["remediationHint"].is_string(), "{error}");
        let id = error["details"]["requestId"].as_str().unwrap().to_owned();
        let closed = client.closed();
        assert_eq!(closed.code, 1008);
        assert_eq!(closed.reason, format!("pairing required: device is not approved yet (requestId: {id})"));
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(gateway.owner().request("node.list", json!({})).unwrap()["nodes"], json!([]));
    // Twin: the owner's device-less tools still get in.
    Client::login(&gateway, &Connect::cli(&["operator.read"]));
}

/// Spec gateway §3: another role, more scopes or another kind of machine is a new question.
#[test]
fn a_paired_device_is_never_widened_in_silence() {
    let gateway = Gateway::new();
    let device = Device::new();
    let operator = Connect::new("openclaw-macos", "ui", "operator", &["operator.read"]).device(&device);
    Client::login(&gateway, &operator);
    let wider = operator.clone().set("scopes", json!(["operator.read", "operator.admin"]));
    let node = Connect::node(&device, &Surface::linux(&["system.run"]));
    let moved = operator.clone().set("client/platform", json!("windows")).set("client/deviceFamily", json!("Windows"));
    for (connect, reason) in [(wider, "scope-upgrade"), (node, "role-upgrade"), (moved, "metadata-upgrade")] {
        let error = Client::tcp(&gateway).connect(&connect).expect_err(reason);
        assert_eq!(error["details"]["code"], "PAIRING_REQUIRED", "{reason}: {error}");
        assert_eq!(error["details"]["reason"], reason, "{error}");
    }
    Client::login(&gateway, &operator);
    // A43: version digits of the system, and the two spellings of a node host on a Mac, are no change.
    let device = Device::new();
    let mac = |platform: &str| Connect::node(&device, &Surface::mac(&[])).set("client/platform", json!(platform));
    for platform in ["macos 15.5", "macos 15.6.1", "macos 16", "macos"] {
        Client::login(&gateway, &mac(platform));
    }
}

/// frames/pair-devices-list-pending.json, pair-devices-approve.json: a device that runs commands is
/// let in by an admin, and its surface is a second question with another id.
#[test]
fn a_device_is_approved_by_an_admin_and_its_surface_apart() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let device = Device::new();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let error = Client::tcp(&gateway).connect(&connect).unwrap_err();
    let request = error["details"]["requestId"].clone();
    let mut owner = gateway.owner();
    let list = owner.request("device.pair.list", json!({})).unwrap();
    assert_eq!(list["paired"], json!([]));
    let row = &list["pending"][0];
    for (name, value) in [
        ("requestId", request.clone()),
        ("deviceId", json!(device.id())),
        ("publicKey", json!(device.public_key())),
        ("role", json!("node")),
        ("displayName", json!("test node")),
        ("clientId", json!("node-host")),
        ("clientMode", json!("node")),
        ("platform", json!("linux")),
    ] {
        assert_eq!(row[name], value, "{name} in {row}");
    }
    let mut weak = Client::login(&gateway, &Connect::backend(&["operator.pairing"]));
    let error = weak.request("device.pair.approve", json!({"requestId": request})).unwrap_err();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("INVALID_REQUEST"), &json!("device pairing approval denied"))
    );
    let answer = owner.request("device.pair.approve", json!({"requestId": request})).unwrap();
    assert_eq!((&answer["requestId"], &answer["device"]["deviceId"]), (&request, &json!(device.id())), "{answer}");
    let error = owner.request("device.pair.approve", json!({"requestId": request})).unwrap_err();
    assert_eq!(error["message"], "unknown requestId");

    let (_node, hello) = Client::login_hello(&gateway, &connect);
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let surface = gateway.pending_surface(&mut owner, &device.id());
    assert_ne!(json!(surface), request);
    let list = owner.request("device.pair.list", json!({})).unwrap();
    assert_eq!((&list["pending"], &list["paired"][0]["deviceId"]), (&json!([]), &json!(device.id())), "{list}");
    assert!(!list.to_string().contains(&token), "a list shows a token");
}

#[test]
fn a_rejected_device_asks_anew() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let mut owner = gateway.owner();
    let connect = Connect::node(&Device::new(), &Surface::linux(&["system.which"]));
    let ask = || Client::tcp(&gateway).connect(&connect).unwrap_err()["details"]["requestId"].take();
    let first = ask();
    owner.request("device.pair.reject", json!({"requestId": first})).unwrap();
    assert_eq!(owner.request("device.pair.list", json!({})).unwrap()["pending"], json!([]));
    assert!(owner.request("device.pair.approve", json!({"requestId": first})).is_err());
    assert_ne!(ask(), first);
}

/// frames/cli-nodes-remove.json, cli-devices-remove.json; spec gateway §2 "Close codes"
#[test]
fn what_was_allowed_can_be_taken_back() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let (mut node, hello) = Client::login_hello(&gateway, &connect);
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    gateway.approve_surface(&id);
    let waiting = invoke_which(&mut owner, &id);
    node.event("node.invoke.request");

    // Recorded: what takes rights away needs no more than pairing, also for a node.
    let mut pairing = Client::login(&gateway, &Connect::cli(&["operator.pairing"]));
    pairing.request("device.pair.remove", json!({"deviceId": id})).unwrap();
    assert_eq!(node.closed().code, 4001);
    assert!(owner.response(&waiting).is_err(), "the invocation under way has failed");
    let error = Client::tcp(&gateway).connect(&connect.clone().device_token(&token)).unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{error}");
    let error = owner.request("device.pair.remove", json!({"deviceId": id})).unwrap_err();
    assert_eq!(error["message"], "unknown deviceId");
    let error = owner.request("node.pair.remove", json!({"nodeId": "nobody"})).unwrap_err();
    assert_eq!(error["message"], "unknown nodeId");

    // It may come back as new: nothing of its old surface is left.
    let mut node = Client::login(&gateway, &connect);
    let again = invoke_which(&mut owner, &id);
    assert_eq!(owner.response(&again).unwrap_err()["details"]["code"], "PAIRING_CHANGED");
    node.no_event("node.invoke.request");
    gateway.approve_surface(&id);
    owner.request("node.pair.remove", json!({"nodeId": id})).unwrap();
    let closed = node.closed();
    assert_eq!((closed.code, closed.reason.as_str()), (4001, "device removed"));
    assert_eq!(
        owner.request("device.pair.list", json!({})).unwrap()["paired"],
        json!([]),
        "its only role was the node's"
    );
    let again = invoke_which(&mut owner, &id);
    assert_eq!(owner.response(&again).unwrap_err()["details"]["code"], "PAIRING_CHANGED");
}

/// frames/cli-nodes-rename.json, cli-devices-rename.json
#[test]
fn an_owner_names_nodes_and_devices() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let _node = Client::login(&gateway, &connect);
    let rename = json!({"nodeId": id, "displayName": " studio "});
    let error = owner.request("node.rename", rename.clone()).unwrap_err();
    assert_eq!(error["message"], "unknown nodeId", "no surface is approved yet");
    gateway.approve_surface(&id);
    assert_eq!(owner.request("node.rename", rename).unwrap(), json!({"nodeId": id, "displayName": "studio"}));
    assert_eq!(describe(&mut owner, &id)["displayName"], "studio");
    for name in [String::new(), "  ".to_owned(), "x".repeat(257)] {
        let error = owner.request("node.rename", json!({"nodeId": id, "displayName": name})).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }

    let answer = owner.request("device.pair.rename", json!({"deviceId": id, "label": "mine"})).unwrap();
    assert_eq!(answer, json!({"deviceId": id, "label": "mine"}));
    assert_eq!(owner.event("device.pair.changed"), json!({}));
    assert_eq!(owner.request("device.pair.list", json!({})).unwrap()["paired"][0]["operatorLabel"], "mine");
    let error = owner.request("device.pair.rename", json!({"deviceId": "nobody", "label": "x"})).unwrap_err();
    assert_eq!(error["message"], "unknown deviceId");
    let mut weak = Client::login(&gateway, &Connect::backend(&["operator.write"]));
    for method in ["node.rename", "device.pair.rename"] {
        let error = weak.request(method, json!({"nodeId": id, "displayName": "x", "deviceId": id, "label": "x"}));
        assert_eq!(error.unwrap_err()["details"]["missingScope"], "operator.pairing", "{method}");
    }
}

/// frames/cli-devices-rotate.json, cli-devices-revoke.json
#[test]
fn sec_a14_sessions_end_with_their_device_token() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let (mut node, hello) = Client::login_hello(&gateway, &connect);
    let old = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    gateway.approve_surface(&id);
    let waiting = invoke_which(&mut owner, &id);
    let request = node.event("node.invoke.request");

    let target = json!({"deviceId": id, "role": "node"});
    let answer = owner.request("device.token.rotate", target.clone()).unwrap();
    assert_eq!((&answer["deviceId"], &answer["role"], &answer["scopes"]), (&json!(id), &json!("node"), &json!([])));
    assert_eq!(answer["tokenDelivery"], "withheld-cross-device");
    assert!(answer["rotatedAtMs"].is_u64() && answer.get("token").is_none(), "{answer}");
    let closed = node.closed();
    assert_eq!((closed.code, closed.reason.as_str()), (4001, "device removed"));
    assert!(owner.response(&waiting).is_err(), "{request}: the invocation under way has failed");
    let error = Client::tcp(&gateway).connect(&connect.clone().device_token(&old)).unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{error}");

    // With the shared token the device is still the one that was approved.
    let mut node = Client::login(&gateway, &connect);
    let answer = owner.request("device.token.revoke", target.clone()).unwrap();
    assert!(answer["revokedAtMs"].is_u64(), "{answer}");
    assert_eq!(node.closed().code, 4001);
    let error = Client::tcp(&gateway).connect(&connect).unwrap_err();
    assert_eq!(error["details"]["reason"], "role-upgrade", "{error}");
    assert!(owner.request("device.token.rotate", target).is_err(), "a revoked role comes back by approval only");
    let request = json!({"requestId": error["details"]["requestId"]});
    owner.request("device.pair.approve", request).unwrap();
    Client::login(&gateway, &connect);
}

/// Never more than the caller and the record both have.
#[test]
fn sec_a34_rotation_gives_no_scope_that_was_not_approved() {
    let gateway = Gateway::new();
    let tablet = Device::new();
    let connect = |scopes: &[&str]| Connect::new("openclaw-macos", "ui", "operator", scopes).device(&tablet);
    let scopes = ["operator.pairing", "operator.read"];
    let (_first, hello) = Client::login_hello(&gateway, &connect(&scopes));
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let mut pairing = Client::login(&gateway, &Connect::backend(&["operator.pairing"]));
    let rotate = |client: &mut Client, scopes: Value| {
        client.request("device.token.rotate", json!({"deviceId": tablet.id(), "role": "operator", "scopes": scopes}))
    };
    for wanted in ["operator.admin", "operator.write", "operator.read", "*"] {
        let error = rotate(&mut pairing, json!([wanted])).expect_err(wanted);
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
    let target = json!({"deviceId": tablet.id(), "role": "operator"});
    pairing
        .request("device.token.rotate", target.clone())
        .expect_err("all of the record's are more than the caller has");
    let mut owner = gateway.owner();
    rotate(&mut owner, json!(["operator.admin"])).expect_err("the record does not have it");
    let with_token = connect(&scopes).no_auth().device_token(&token);
    let mut own = Client::login(&gateway, &with_token);

    // The device itself is told its new token; the old one is worth nothing.
    let answer = own.request("device.token.rotate", target).unwrap();
    assert_eq!((&answer["tokenDelivery"], &answer["scopes"]), (&json!("in-band"), &json!(scopes)), "{answer}");
    assert_eq!(own.closed().code, 4001);
    Client::tcp(&gateway).connect(&with_token).expect_err("the old token");
    let new = answer["token"].as_str().unwrap();
    Client::login(&gateway, &connect(&scopes).no_auth().device_token(new));
}

/// Whose token was rotated by another hears the new one at its next login with the shared secret, once, with no more
/// than it was rotated to.
#[test]
fn a_token_that_was_withheld_is_replaced_at_the_next_login() {
    let gateway = Gateway::new();
    let tablet = Device::new();
    let scopes = ["operator.read", "operator.write"];
    let connect = Connect::new("openclaw-macos", "ui", "operator", &scopes).device(&tablet);
    let (mut first, _) = Client::login_hello(&gateway, &connect);
    let params = json!({"deviceId": tablet.id(), "role": "operator", "scopes": ["operator.read"]});
    let answer = gateway.owner().request("device.token.rotate", params).unwrap();
    assert_eq!(answer["tokenDelivery"], "withheld-cross-device", "{answer}");
    assert!(answer.get("token").is_none(), "{answer}");
    assert_eq!(first.closed().code, 4001);
    let (_client, hello) = Client::login_hello(&gateway, &connect);
    let token = hello["auth"]["deviceToken"].as_str().expect("another token").to_owned();
    let (_client, hello) = Client::login_hello(&gateway, &connect);
    assert!(hello["auth"].get("deviceToken").is_none(), "it is told once: {hello}");
    let with_token = |scopes: &[&str]| {
        Connect::new("openclaw-macos", "ui", "operator", scopes).device(&tablet).no_auth().device_token(&token)
    };
    Client::login(&gateway, &with_token(&["operator.read"]));
    Client::tcp(&gateway).connect(&with_token(&scopes)).expect_err("wider than it was rotated to");
}

/// A role that pairing never granted gets no token; other devices look as if they were not there.
#[test]
fn sec_a35_a44_rotation_makes_no_role_and_reaches_no_other_device() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let (node, tablet) = (Device::new(), Device::new());
    Client::login(&gateway, &Connect::node(&node, &Surface::linux(&["system.which"])));
    let scopes = ["operator.pairing"];
    let tablet = Connect::new("openclaw-macos", "ui", "operator", &scopes).device(&tablet);
    let mut tablet = Client::login(&gateway, &tablet);
    for method in ["device.token.rotate", "device.token.revoke"] {
        for role in ["operator", "worker"] {
            let error = owner.request(method, json!({"deviceId": node.id(), "role": role})).unwrap_err();
            assert!(error["message"].as_str().unwrap().ends_with(" denied"), "{method} {role}: {error}");
        }
        let error = tablet.request(method, json!({"deviceId": node.id(), "role": "node"})).unwrap_err();
        assert!(error["message"].as_str().unwrap().ends_with(" denied"), "{method}: {error}");
    }
    for (method, params) in [
        ("device.pair.rename", json!({"deviceId": node.id(), "label": "x"})),
        ("node.rename", json!({"nodeId": node.id(), "displayName": "x"})),
    ] {
        assert!(
            tablet.request(method, params).unwrap_err()["message"].as_str().unwrap().starts_with("unknown"),
            "{method}"
        );
    }
}
