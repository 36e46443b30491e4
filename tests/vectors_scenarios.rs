//! The recorded scenarios of 2026.1, played to a real gateway over its socket. They hold the defects of
//! that year too: where ours is stricter, or has the answer of 2026.9, the step and the reason are
//! printed; a step that nobody plays fails. `OPENCLAW_VECTORS_DIR` names another directory than
//! `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_vectors;

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Client, Connect, Device, Gateway, Options, Surface, mode, wait_until};
use support_vectors::cases;

/// One scenario's steps, taken one after the other.
struct Steps {
    name: &'static str,
    left: VecDeque<Value>,
}

impl Steps {
    fn of(name: &'static str) -> Self {
        let case = cases("scenarios.jsonl").into_iter().find(|case| case["in"]["name"] == name).unwrap();
        Self { name, left: case["out"].as_array().unwrap().iter().cloned().collect() }
    }

    /// What is recorded for the next step, which must be this one.
    fn next(&mut self, step: &str) -> Value {
        let next = self.left.pop_front().unwrap_or_else(|| panic!("{}: no {step}", self.name));
        assert_eq!(next["step"], step, "{}", self.name);
        next["out"].clone()
    }

    /// The next step is answered otherwise by ours, for this reason.
    fn differs(&mut self, step: &str, reason: &str) {
        self.next(step);
        println!("{}, {step}: {reason}", self.name);
    }

    /// The next step is refused there and here.
    fn refused(&mut self, step: &str, ours: Result<Value, Value>) {
        let theirs = self.next(step);
        let refuses = theirs.is_null()
            || theirs == json!(false)
            || theirs["ok"] == json!(false)
            || theirs.get("throws").is_some();
        assert!(refuses, "{}, {step}: {theirs}", self.name);
        assert!(ours.is_err(), "{}, {step}: more permissive: {ours:?}", self.name);
    }

    fn over(self) {
        assert!(self.left.is_empty(), "{}: not played: {:?}", self.name, self.left);
    }
}

fn members_are(ours: &Value, theirs: &Value, names: &[&str], step: &str) {
    for name in names {
        assert_eq!(ours[name], theirs[name], "{name} of {step}: {ours}");
    }
}

/// Everything below is for its owner alone.
fn only_for_the_owner(directory: &Path) {
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        if kind.is_dir() {
            only_for_the_owner(&path);
        }
    }
}

fn is_unknown_method(owner: &mut Client, method: &str) -> bool {
    owner.request(method, json!({})).unwrap_err()["message"] == format!("unknown method: {method}")
}

fn surface(commands: &[&str]) -> Surface {
    Surface { display_name: "N".to_owned(), ..Surface::linux(commands) }
}

#[test]
fn vectors_scenario_node_pairing() {
    let mut steps = Steps::of("node-pairing-step");
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let connect = Connect::node(&device, &surface(&["system.run"]));
    let pending = |owner: &mut Client| owner.request("node.pair.list", json!({})).unwrap()["pending"].clone();

    let _node = Client::login(&gateway, &connect);
    let recorded = steps.next("request");
    let first = pending(&mut owner)[0].clone();
    members_are(&first, &recorded["request"], &["displayName", "caps", "commands"], "request");
    assert_eq!((&first["nodeId"], recorded["created"] == true), (&json!(device.id()), true));
    let _node = Client::login(&gateway, &connect);
    assert_eq!(steps.next("request same node again")["sameId"], true);
    assert_eq!(pending(&mut owner), json!([first]), "one request, the same as before");
    let nameless = Connect::new("node-host", "node", "node", &[]);
    steps.refused("request blank", Client::tcp(&gateway).connect(&nameless));
    steps.refused("approve unknown", owner.request("node.pair.approve", json!({"requestId": "nothing"})));
    let recorded = steps.next("approve");
    let id = first["requestId"].clone();
    let ours = owner.request("node.pair.approve", json!({"requestId": id})).unwrap();
    members_are(&ours["node"], &recorded["node"], &["displayName", "caps", "commands"], "approve");
    assert!(ours["node"]["createdAtMs"].is_u64() && ours["node"]["approvedAtMs"].is_u64(), "{ours}");
    assert!(!ours.to_string().contains("token"), "stricter: no token is shown: {ours}");
    let created = ours["node"]["createdAtMs"].clone();
    steps.refused("approve twice", owner.request("node.pair.approve", json!({"requestId": id})));
    assert!(is_unknown_method(&mut owner, "node.pair.verify"));
    steps.differs("verify ok", "a surface has no token; the device proves itself with its key");
    steps.refused("verify bad", owner.request("node.pair.verify", json!({"nodeId": device.id(), "token": "bad"})));
    steps.refused("verify unknown", owner.request("node.pair.verify", json!({"nodeId": "x", "token": "bad"})));

    let _node = Client::login(&gateway, &Connect::node(&device, &surface(&["system.run", "system.which"])));
    assert_eq!(steps.next("repair request")["created"], true);
    let repair = pending(&mut owner)[0].clone();
    assert_eq!(repair["nodeId"], json!(device.id()));
    let recorded = steps.next("repair approve rotates token, keeps createdAt");
    let ours = owner.request("node.pair.approve", json!({"requestId": repair["requestId"]})).unwrap();
    assert_eq!(ours["node"]["createdAtMs"] == created, recorded["createdKept"] == true, "{ours}");
    assert_eq!(ours["node"]["displayName"], "N", "ours does not lose the name");
    let recorded = steps.next("rename");
    let rename = json!({"nodeId": device.id(), "displayName": recorded["displayName"]});
    members_are(&owner.request("node.rename", rename).unwrap(), &recorded, &["displayName"], "rename");
    steps.refused("rename unknown", owner.request("node.rename", json!({"nodeId": "x", "displayName": "New"})));
    let recorded = steps.next("files");
    assert_eq!((&recorded["pending"], &recorded["paired"]), (&json!("600"), &json!("600")));
    only_for_the_owner(gateway.state.path());
    assert_eq!(pending(&mut owner), recorded["pendingContent"].as_object().map(|_| json!([])).unwrap());
    steps.differs("expired pruned (TTL 5 min)", "as in 2026.9, what a node offers waits until somebody decides");
    steps.differs("approve expired", "as in 2026.9, what a node offers waits until somebody decides");
    steps.over();
}

#[test]
fn vectors_scenario_device_pairing() {
    let mut steps = Steps::of("device-pairing-step");
    let gateway = Gateway::start(Options::default().manual_pairing());
    let mut owner = gateway.owner();
    let device = Device::new();
    let connect = Connect::node(&device, &surface(&["system.run"]));
    let refused = |connect: &Connect| Client::tcp(&gateway).connect(connect);

    let recorded = steps.next("request");
    let id = refused(&connect).unwrap_err()["details"]["requestId"].clone();
    let list = owner.request("device.pair.list", json!({})).unwrap();
    members_are(&list["pending"][0], &recorded["request"], &["clientId", "role", "roles"], "request");
    assert_eq!(list["pending"][0]["publicKey"], json!(device.public_key()));
    steps.refused("verify before pairing", refused(&connect.clone().device_token("token")));
    let recorded = steps.next("approve");
    let ours = owner.request("device.pair.approve", json!({"requestId": id})).unwrap();
    members_are(&ours["device"], &recorded["device"], &["clientId", "roles"], "approve");
    assert_eq!(ours["device"]["deviceId"], json!(device.id()));
    let (_node, hello) = Client::login_hello(&gateway, &connect);
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    assert!(!ours.to_string().contains(&token), "stricter: only the device sees its token");
    assert_eq!(steps.next("verify ok")["ok"], true);
    Client::login(&gateway, &connect.clone().device_token(&token));
    steps.refused("verify bad token", refused(&connect.clone().device_token(&format!("{token}x"))));
    let with_token = connect.clone().device_token(&token);
    steps.refused("verify no role", refused(&with_token.clone().set("role", json!(""))));
    let operator = Connect::new("openclaw-linux", "ui", "operator", &["operator.read"]).device(&device);
    steps.refused("verify other role", refused(&operator.clone().device_token(&token)));
    steps.refused(
        "verify scopes not granted",
        refused(&operator.clone().device_token(&token).set("scopes", json!(["operator.admin"]))),
    );

    let recorded = steps.next("second role request isRepair");
    let second = refused(&operator).unwrap_err();
    assert_eq!(
        (&second["details"]["reason"], &recorded["request"]["role"]),
        (&json!("role-upgrade"), &json!("operator"))
    );
    let row = owner.request("device.pair.list", json!({})).unwrap()["pending"][0].clone();
    assert_eq!((&row["isRepair"], &row["role"]), (&json!(true), &json!("operator")), "{row}");
    assert_eq!(row["publicKey"], json!(device.public_key()), "another key is another device");
    let recorded = steps.next("second role approve merges roles/scopes, replaces publicKey");
    let ours = owner.request("device.pair.approve", json!({"requestId": second["details"]["requestId"]})).unwrap();
    members_are(&ours["device"], &recorded["device"], &["roles"], "second role");
    println!("{}: the key of a device is never replaced: its id is the key's hash", steps.name);
    let scopes = Client::login_hello(&gateway, &operator).1["auth"]["scopes"].clone();
    assert_eq!(scopes, json!(["operator.read"]));
    Client::login(&gateway, &with_token);
    steps.differs("ensure same scopes returns same", "the token that there is stays; only its hash is kept");
    let wider = operator.clone().set("scopes", json!(["operator.read", "operator.admin"]));
    let answer = refused(&wider);
    assert!(answer.is_err(), "more permissive: {answer:?}");
    steps.differs("ensure wider scopes mints new", "wider scopes are a new question to the owner (A39)");
    let strange = operator.clone().set("role", json!("brandnew"));
    let answer = refused(&strange);
    assert!(answer.is_err(), "more permissive: {answer:?}");
    steps.differs("ensure unknown role mints", "there are two roles");
    let node_role = json!({"deviceId": device.id(), "role": "node"});
    let recorded = steps.next("rotate");
    let operator_role = json!({"deviceId": device.id(), "role": "operator"});
    let ours = owner.request("device.token.rotate", operator_role).unwrap();
    members_are(&ours, &recorded, &["role"], "rotate");
    assert_eq!(ours["tokenDelivery"], "withheld-cross-device", "stricter: only the device sees its token");
    let recorded = steps.next("revoke");
    members_are(&owner.request("device.token.revoke", node_role).unwrap(), &recorded, &["role"], "revoke");
    steps.refused("verify revoked", refused(&with_token));
    let answer = refused(&connect);
    assert_eq!(answer.unwrap_err()["code"], "NOT_PAIRED");
    steps.differs("ensure after revoke mints", "what was taken back is not given again in silence");
    let missing = json!({"deviceId": Device::new().id(), "role": "node"});
    steps.refused("revoke missing", owner.request("device.token.revoke", missing));
    steps.refused("ensure unknown device", refused(&Connect::node(&Device::new(), &surface(&[]))));
    assert_eq!(steps.next("modes"), json!({"pending": "600", "paired": "600"}));
    only_for_the_owner(gateway.state.path());
    steps.over();
}

#[test]
fn vectors_scenario_registry() {
    let mut steps = Steps::of("registry");
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let declared = Surface { permissions: Some(json!({"a": true})), ..surface(&["system.run", "system.which"]) };
    let connect = Connect::node(&device, &declared).set("pathEnv", json!("/bin"));
    let mut node = Client::login(&gateway, &connect);
    gateway.approve_surface(&id);
    let invoke = |command: &str, params: Value, timeout_ms: u64| {
        let mut invoke = json!({"nodeId": id, "command": command, "timeoutMs": timeout_ms, "idempotencyKey": "k"});
        if !params.is_null() {
            invoke["params"] = params;
        }
        invoke
    };
    let result = |request: &Value, node_id: &str, payload: &str| json!({"id": request["id"], "nodeId": node_id, "ok": true, "payloadJSON": payload});

    let recorded = steps.next("register");
    let row = owner.request("node.describe", json!({"nodeId": id})).unwrap();
    members_are(&row, &recorded, &["displayName", "platform", "caps", "permissions", "pathEnv"], "register");
    assert!(row["connectedAtMs"].is_u64() && row["connected"] == true, "{row}");
    let answer = Client::tcp(&gateway).connect(&Connect::new("node-host", "node", "node", &[]));
    assert!(answer.is_err(), "more permissive: {answer:?}");
    steps.differs("register without device uses client id", "a node proves its device");
    let unknown = json!({"nodeId": "x", "command": "system.run", "idempotencyKey": "k"});
    steps.refused("invoke unknown", owner.request("node.invoke", unknown));

    let recorded = steps.next("invoke frame")["payload"].clone();
    let asked = owner.start("node.invoke", invoke("system.which", json!({"a": 1}), 10_000));
    let request = node.event("node.invoke.request");
    members_are(&request, &recorded, &["paramsJSON", "idempotencyKey"], "invoke frame");
    assert_eq!((&request["nodeId"], &request["command"]), (&json!(id), &json!("system.which")));
    assert!(request["timeoutMs"].as_u64().unwrap() <= 10_000 && request["id"].is_string(), "{request}");
    steps.refused("result wrong node", node.request("node.invoke.result", result(&request, "other", "{}")));
    assert_eq!(steps.next("result ok"), true);
    assert_eq!(node.request("node.invoke.result", result(&request, &id, r#"{"x":1}"#)).unwrap(), json!({"ok": true}));
    assert_eq!(owner.response(&asked).unwrap()["payloadJSON"], steps.next("resolved")["payloadJSON"]);
    assert_eq!(steps.next("duplicate result"), false);
    let late = node.request("node.invoke.result", result(&request, &id, "{}")).unwrap();
    assert_eq!(late, json!({"ok": true, "ignored": true}));
    let recorded = steps.next("timeout");
    let error = owner.request("node.invoke", invoke("system.which", json!({}), 100)).unwrap_err();
    assert_eq!(error["details"]["nodeError"], recorded["error"]);
    node.event("node.invoke.request");

    let recorded = steps.next("frame without params")["payload"].clone();
    let asked = owner.start("node.invoke", invoke("system.which", Value::Null, 10_000));
    let request = node.event("node.invoke.request");
    members_are(&request, &recorded, &["command", "paramsJSON"], "frame without params");
    node.close();
    assert_eq!(steps.next("unregister returns"), "dev1");
    let error = owner.response(&asked).unwrap_err();
    assert_eq!(error["details"]["nodeError"]["message"], steps.next("pending rejected on disconnect")["throws"]);
    wait_until("the node is gone", || {
        let row = owner.request("node.describe", json!({"nodeId": id})).unwrap();
        (row["connected"] == false).then_some(())
    });
    steps.refused("unregister unknown", owner.request("node.invoke", invoke("system.which", json!({}), 1_000)));

    let older = Client::login(&gateway, &connect);
    let mut newer = Client::login(&gateway, &connect);
    older.close();
    let recorded = steps.next("old connection closing drops the NEW session (bug)");
    let asked = owner.start("node.invoke", invoke("system.which", json!({}), 10_000));
    let request = newer.event("node.invoke.request");
    newer.request("node.invoke.result", result(&request, &id, "{}")).unwrap();
    owner.response(&asked).unwrap();
    assert_eq!(recorded["stillConnected"], false);
    println!("{}: ours keeps the new connection", steps.name);
    newer.close();
    steps.refused("send throws", owner.request("node.invoke", invoke("system.which", json!({}), 1_000)));
    steps.over();
}

#[test]
fn vectors_scenario_approval_manager() {
    let mut steps = Steps::of("approval-manager");
    let gateway = Gateway::new();
    let mut asker = Client::login(&gateway, &Connect::backend(&["operator.approvals"]));
    let mut operator = Client::login(&gateway, &Connect::cli(&["operator.admin"]));
    let request = |id: &str, timeout_ms: u64| json!({"id": id, "command": "ls", "timeoutMs": timeout_ms, "requireDeliveryRoute": false, "twoPhase": true});
    let listed = |operator: &mut Client| operator.request("exec.approval.list", json!({})).unwrap();
    let resolve = |operator: &mut Client, id: &str, decision: &str| {
        operator.request("exec.approval.resolve", json!({"id": id, "decision": decision}))
    };

    let recorded = steps.next("create trims id");
    let asked = asker.start("exec.approval.request", request(" id1 ", 10_000));
    let accepted = asker.response(&asked).unwrap();
    assert_eq!(accepted["id"], recorded["id"]);
    let life = accepted["expiresAtMs"].as_i64().unwrap() - accepted["createdAtMs"].as_i64().unwrap();
    assert_eq!((life, &recorded["ttl"]), (10_000, &json!(1_000)), "as long as was asked for");
    assert_eq!(json!(listed(&mut operator)[0]["id"] == "id1"), steps.next("snapshot pending"));
    assert_eq!(json!(resolve(&mut operator, "id1", "allow-once").is_ok()), steps.next("resolve"));
    assert_eq!(asker.response(&asked).unwrap()["decision"], steps.next("decision"));
    steps.refused("resolve twice", resolve(&mut operator, "id1", "deny"));
    assert!(steps.next("snapshot gone").is_null() && listed(&mut operator) == json!([]));
    let asked = asker.start("exec.approval.request", request("id2", 300));
    asker.response(&asked).unwrap();
    let started = Instant::now();
    assert_eq!(asker.response(&asked).unwrap()["decision"], steps.next("timeout -> null"));
    assert!(started.elapsed() < Duration::from_secs(10));
    steps.refused("resolve after timeout", resolve(&mut operator, "id2", "allow-once"));
    assert_eq!(steps.next("blank id -> uuid"), "<uuid>");
    let asked = asker.start("exec.approval.request", request("  ", 10_000));
    let id = asker.response(&asked).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    steps.over();
}
