//! The gateway's methods: who may call which, whose records they reach, and what none of them takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::net::TcpListener;
use support::{Client, Connect, Device, Gateway, QUIET, Surface};

/// Who may call what, as it was reviewed: a scope, everybody (`-`) or nodes (`node`). A method that is not here fails
/// `sec_a45_…`: whoever adds one decides about it here, too.
#[rustfmt::skip]
const REVIEWED: &[(&str, &str)] = &[
    ("health", "-"),
    ("status", "operator.read"),
    ("system-presence", "operator.read"),
    ("config.get", "operator.read"),
    ("node.list", "operator.read"),
    ("node.describe", "operator.read"),
    ("node.invoke", "operator.write"),
    ("node.pair.list", "operator.pairing"),
    ("node.pair.approve", "operator.pairing"),
    ("node.pair.reject", "operator.pairing"),
    ("node.pair.remove", "operator.pairing"),
    ("node.rename", "operator.pairing"),
    ("device.pair.list", "operator.pairing"),
    ("device.pair.approve", "operator.pairing"),
    ("device.pair.reject", "operator.pairing"),
    ("device.pair.remove", "operator.pairing"),
    ("device.pair.rename", "operator.pairing"),
    ("device.pair.setupCode", "operator.admin"),
    ("device.token.rotate", "operator.pairing"),
    ("device.token.revoke", "operator.pairing"),
    ("exec.approvals.get", "operator.admin"),
    ("exec.approvals.set", "operator.admin"),
    ("exec.approvals.node.get", "operator.admin"),
    ("exec.approvals.node.set", "operator.admin"),
    ("exec.approval.request", "operator.approvals"),
    ("exec.approval.waitDecision", "operator.approvals"),
    ("exec.approval.get", "operator.approvals"),
    ("exec.approval.list", "operator.approvals"),
    ("exec.approval.resolve", "operator.approvals"),
    ("approval.get", "operator.approvals"),
    ("approval.resolve", "operator.approvals"),
    ("approval.history", "operator.approvals"),
    ("plugin.approval.list", "operator.approvals"),
    ("openclaw.approval.list", "operator.approvals"),
    ("node.invoke.progress", "node"),
    ("node.invoke.result", "node"),
    ("node.event", "node"),
    ("node.runnerInventory.update", "node"),
    ("node.skills.update", "node"),
    ("node.pluginTools.update", "node"),
    ("node.pending.enqueue", "operator.write"),
    ("node.pending.drain", "node"),
    ("node.pending.pull", "node"),
    ("node.pending.ack", "node"),
    ("skills.bins", "node"),
];

/// Names that are no methods: what the original has and we have not, and other spellings of what we have.
#[rustfmt::skip]
const NONE: &[&str] = &[
    "config.set", "config.patch", "config.apply", "config.schema", "update.run", "gateway.restart", "gateway.restart.request",
    "chat.send", "agent", "agent.wait", "send", "wake", "cron.add", "sessions.patch", "secrets.reload", "logs.tail",
    "tools.invoke", "browser.request", "talk.config", "connect", "made.up", "Node.List", "node.list ", " node.list",
    "NODE.INVOKE", "node.list\u{0}", "node..list", "node", "*", "__proto__", "constructor",
];

/// Methods that look at no parameter, or only take note of what a node says of itself.
#[rustfmt::skip]
const READS_NOTHING: &[&str] =
    &["health", "node.runnerInventory.update", "node.skills.update", "node.pluginTools.update", "skills.bins"];

fn methods_of(hello: &Value) -> Vec<String> {
    hello["features"]["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// What came of a call by somebody who has logged in like this: `missing SCOPE`, `role`, `unknown` or `served`.
fn outcome(gateway: &Gateway, connect: &Connect, method: &str) -> String {
    // A session of its own, since some wrong calls in a row end one.
    match Client::login(gateway, connect).request(method, json!({})) {
        Ok(_) => "served".to_owned(),
        Err(error) if error["details"]["code"] == "MISSING_SCOPE" => {
            format!("missing {}", error["details"]["missingScope"].as_str().unwrap())
        }
        Err(error) => match error["message"].as_str().unwrap() {
            "unauthorized role: node" | "unauthorized role: operator" => "role".to_owned(),
            message if message.starts_with("unknown method: ") => "unknown".to_owned(),
            _ => "served".to_owned(),
        },
    }
}

/// A45: everything that there is has one owner; nothing else is there.
#[test]
fn sec_a45_each_method_is_for_whom_it_was_reviewed() {
    let gateway = Gateway::new();
    let (_, hello) = Client::login_hello(&gateway, &Connect::cli(&["operator.read"]));
    let methods = methods_of(&hello);
    assert!(methods.len() > 30, "{methods:?}");
    let scopes = ["operator.read", "operator.write", "operator.approvals", "operator.pairing", "operator.admin"];
    let mut callers: Vec<(&str, Connect)> = scopes.iter().map(|scope| (*scope, Connect::backend(&[scope]))).collect();
    callers.push(("", Connect::cli(&[])));
    callers.push(("operator.made-up", Connect::cli(&["operator.made-up", "*", "operator.*", "operator", "admin", ""])));
    for method in &methods {
        let (_, who) =
            REVIEWED.iter().find(|(name, _)| name == method).unwrap_or_else(|| panic!("{method}: for whom?"));
        for (scope, connect) in &callers {
            let may =
                scope == who || *scope == "operator.admin" || (*scope == "operator.write" && *who == "operator.read");
            let expected = match *who {
                "-" => "served".to_owned(),
                "node" => "role".to_owned(),
                _ if may => "served".to_owned(),
                needed => format!("missing {needed}"),
            };
            assert_eq!(outcome(&gateway, connect, method), expected, "{method} by {scope:?}");
        }
        let node = Connect::node(&Device::new(), &Surface::linux(&[]));
        let expected = if matches!(*who, "-" | "node") { "served" } else { "role" };
        assert_eq!(outcome(&gateway, &node, method), expected, "{method} by a node");
        // Scopes give a node nothing.
        let node = node.set("scopes", json!(["operator.admin"]));
        if let Ok(hello) = Client::tcp(&gateway).connect(&node) {
            assert_eq!(hello["auth"]["scopes"], json!([]), "{hello}");
            assert_eq!(outcome(&gateway, &node, method), expected, "{method} by a node that claims admin");
        }
    }
    let (admin, node) = (Connect::backend(&scopes), Connect::node(&Device::new(), &Surface::linux(&[])));
    for name in NONE {
        assert!(!methods.iter().any(|method| method == name), "{name}");
        assert_eq!(outcome(&gateway, &admin, name), if *name == "connect" { "served" } else { "unknown" }, "{name:?}");
        assert_ne!(outcome(&gateway, &node, name), "unknown", "{name:?}: a node is told of its role only");
    }
}

/// A153: there is nothing to write or to restart, however often it is called.
#[test]
fn sec_a153_nobody_writes_configuration_or_restarts() {
    let mut gateway = Gateway::new();
    let config = gateway.state.join("openclaw.json");
    let before = std::fs::read(&config).unwrap();
    let mut admin = gateway.owner();
    let raw = json!({"raw": "{}", "baseHash": "x"});
    let writes = (0..100).map(|at| (["config.set", "config.patch", "config.apply"][at % 3], raw.clone()));
    let restarts = (0..20).map(|at| (["gateway.restart", "update.run"][at % 2], json!({"delayMs": 0})));
    for (method, params) in writes.chain(restarts) {
        let error = admin.request(method, params).unwrap_err();
        assert_eq!(error["message"], format!("unknown method: {method}"), "{error}");
    }
    assert!(admin.stays_open(QUIET));
    assert_eq!(std::fs::read(&config).unwrap(), before);
    gateway.assert_alive();
}

/// A29: no method connects to where its caller says.
#[test]
fn sec_a29_no_method_takes_an_address() {
    let mut gateway = Gateway::new();
    let bait = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    bait.set_nonblocking(true).unwrap();
    let port = bait.local_addr().unwrap().port();
    let addresses =
        [format!("ws://127.0.0.1:{port}"), format!("http://localhost:{port}"), "ws://169.254.169.254".to_owned()];
    let (_, hello) = Client::login_hello(&gateway, &Connect::cli(&["operator.read"]));
    let admin = Connect::backend(&["operator.admin"]);
    let node = Connect::node(&Device::new(), &Surface::linux(&["system.which"]));
    for method in methods_of(&hello) {
        let by_node = REVIEWED.iter().any(|(name, who)| *name == method && *who == "node");
        for member in ["gatewayUrl", "url", "target", "baseUrl"] {
            for address in &addresses {
                let mut client = Client::login(&gateway, if by_node { &node } else { &admin });
                match client.request(&method, json!({member: address})) {
                    Ok(_) if READS_NOTHING.contains(&method.as_str()) => {}
                    Ok(answer) => panic!("{method} {member}: {answer}"),
                    Err(error) => assert_eq!(error["code"], "INVALID_REQUEST", "{method} {member}: {error}"),
                }
            }
        }
    }
    // A command's parameters are the node's business; the gateway follows no address in them either.
    let device = Device::new();
    let mut seat = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    gateway.approve_surface(&device.id());
    let mut owner = gateway.owner();
    let params = json!({"bins": ["x"], "gatewayUrl": addresses[0]});
    let invoke = json!({"nodeId": device.id(), "command": "system.which", "params": params, "idempotencyKey": "k"});
    owner.start("node.invoke", invoke);
    seat.event("node.invoke.request");
    assert!(bait.accept().is_err(), "somebody connected");
    gateway.assert_alive();
}

/// A44: a device without admin reaches its own records; those of others look as if there were none, whatever it calls
/// and hears.
#[test]
fn sec_a44_other_devices_look_nonexistent() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    // Paired, with more asked for: one as an operator, one as a node.
    let (other, node) = (Device::new(), Device::new());
    let operator = |scopes: &[&str]| Connect::new("openclaw-macos", "ui", "operator", scopes).device(&other);
    let (_first, hello) = Client::login_hello(&gateway, &operator(&["operator.read"]));
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    Client::login(&gateway, &Connect::node(&node, &Surface::linux(&["system.which"])));
    gateway.approve_surface(&node.id());

    let scopes = ["operator.pairing", "operator.read", "operator.write", "operator.approvals"];
    let me = Device::new();
    let mine = Connect::new("openclaw-macos", "ui", "operator", &scopes).device(&me);
    let mut caller = Client::login(&gateway, &mine);
    let mut admin_device = Client::login(
        &gateway,
        &Connect::new("openclaw-macos", "ui", "operator", &["operator.admin"]).device(&Device::new()),
    );
    let error = Client::tcp(&gateway).connect(&operator(&["operator.read", "operator.admin"])).unwrap_err();
    let device_request = error["details"]["requestId"].clone();
    let larger = Surface::linux(&["system.which", "system.run"]);
    let mut live = Client::login(&gateway, &Connect::node(&node, &larger));
    let surface_request = json!(gateway.pending_surface(&mut owner, &node.id()));

    for (name, client) in [("owner", &mut owner), ("admin", &mut admin_device)] {
        assert_eq!(client.event("device.pair.requested")["requestId"], device_request, "{name}");
        let told = client.take(name, |frame| {
            frame["event"] == "node.pair.requested" && frame["payload"]["requestId"] == surface_request
        });
        assert_eq!(told["payload"]["nodeId"], json!(node.id()));
    }
    for event in ["device.pair.requested", "node.pair.requested"] {
        caller.no_event(event);
    }
    let list = caller.request("device.pair.list", json!({})).unwrap();
    assert_eq!(list["pending"], json!([]));
    let rows: Vec<&Value> = list["paired"].as_array().unwrap().iter().map(|row| &row["deviceId"]).collect();
    assert_eq!(rows, [&json!(me.id())]);
    assert_eq!(caller.request("node.pair.list", json!({})).unwrap(), json!({"pending": [], "paired": []}));
    let seen = caller.request("node.describe", json!({"nodeId": node.id()})).unwrap();
    assert!(!seen.to_string().contains(surface_request.as_str().unwrap()), "{seen}");
    let seen = caller.request("node.list", json!({})).unwrap();
    assert!(!seen.to_string().contains(surface_request.as_str().unwrap()), "{seen}");

    let mut alike = |method: &str, member: &str, others: &Value, more: Value| {
        let mut answers = [others, &json!("nobody")].map(|id| {
            let mut params = more.clone();
            params[member] = id.clone();
            caller.request(method, params).expect_err(method)
        });
        let made_up = answers[1].take();
        assert_eq!(answers[0], made_up, "{method}");
    };
    for (kind, request) in [("device", &device_request), ("node", &surface_request)] {
        for verb in ["approve", "reject"] {
            alike(&format!("{kind}.pair.{verb}"), "requestId", request, json!({}));
        }
    }
    for id in [json!(other.id()), json!(node.id())] {
        alike("device.pair.remove", "deviceId", &id, json!({}));
        alike("device.pair.rename", "deviceId", &id, json!({"label": "x"}));
        alike("node.pair.remove", "nodeId", &id, json!({}));
        alike("node.rename", "nodeId", &id, json!({"displayName": "x"}));
        for role in ["operator", "node"] {
            alike("device.token.rotate", "deviceId", &id, json!({"role": role}));
            alike("device.token.revoke", "deviceId", &id, json!({"role": role}));
        }
    }
    // Nothing happened to the others.
    assert!(live.stays_open(QUIET));
    Client::login(&gateway, &operator(&["operator.read"]).device_token(&token));
    let list = owner.request("device.pair.list", json!({})).unwrap();
    assert_eq!(list["pending"][0]["requestId"], device_request);
    assert_eq!(list["paired"].as_array().unwrap().len(), 4, "{list}");
    assert_eq!(owner.request("node.pair.list", json!({})).unwrap()["pending"][0]["requestId"], surface_request);

    // Twins: its own entry, and what an admin's device may.
    caller.request("device.pair.rename", json!({"deviceId": me.id(), "label": "mine"})).unwrap();
    caller.request("device.token.rotate", json!({"deviceId": me.id(), "role": "operator"})).unwrap();
    assert_eq!(caller.closed().code, 4001);
    assert_eq!(admin_device.request("device.pair.list", json!({})).unwrap()["paired"].as_array().unwrap().len(), 4);
    admin_device.request("node.pair.approve", json!({"requestId": surface_request})).unwrap();
    assert_eq!(live.event("node.pair.resolved")["decision"], "approved");
}
