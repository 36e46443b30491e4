//! Edits of the policy from outside, and what a node tells beside its answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use support::{Answer, Client, Connect, Device, Gateway, Process, Surface, wait_until};
use support_exec::*;

const ADMIN: &[&str] = &["operator.admin", "operator.read", "operator.write", "operator.pairing"];

/// An operator of the app's own gateway, over its Unix socket.
fn operator(scratch: &Scratch, scopes: &[&str]) -> Client {
    let socket = scratch.state().join("gateway.sock");
    wait_until("the app's gateway", || UnixStream::connect(&socket).ok());
    let config: Value = serde_json::from_slice(&fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let token = config["gateway"]["auth"]["token"].as_str().unwrap();
    let mut client = Client::unix_at(&socket);
    client.connect(&Connect::backend(scopes).token(token)).unwrap();
    client
}

/// An owner of the app's gateway, with its one node.
struct Owner {
    client: Client,
    node: String,
}

impl Owner {
    fn of(scratch: &Scratch) -> Self {
        let mut client = operator(scratch, ADMIN);
        let node = wait_until("the node", || {
            let list = client.request("node.list", json!({})).unwrap();
            let row = list["nodes"]
                .as_array()?
                .iter()
                .find(|row| row["approvalState"] == "approved" && row["connected"] == true)?
                .clone();
            Some(row["nodeId"].as_str()?.to_owned())
        });
        Self { client, node }
    }

    fn get(&mut self) -> Value {
        self.client.request("exec.approvals.node.get", json!({"nodeId": self.node})).unwrap()
    }

    fn set(&mut self, file: &Value, base_hash: Option<&str>) -> Answer {
        let mut params = json!({"nodeId": self.node, "file": file});
        if let Some(hash) = base_hash {
            params["baseHash"] = json!(hash);
        }
        self.client.request("exec.approvals.node.set", params)
    }

    /// Edits what is there now.
    fn edit(&mut self, change: impl FnOnce(&mut Value)) -> Answer {
        let mut now = self.get();
        change(&mut now["file"]);
        let hash = now["hash"].as_str().unwrap().to_owned();
        self.set(&now["file"], Some(&hash))
    }
}

/// Code and message of a node's own error inside the gateway's.
fn node_error(answer: Answer) -> (String, String) {
    let error = answer.unwrap_err();
    assert_eq!((&error["code"], &error["details"]["nodeCommandDispatched"]), (&json!("UNAVAILABLE"), &json!(true)));
    let nested = &error["details"]["nodeError"];
    (nested["code"].as_str().unwrap().to_owned(), nested["message"].as_str().unwrap().to_owned())
}

fn document() -> Value {
    json!({
        "version": 1,
        "defaults": {"security": "allowlist", "ask": "always", "askFallback": "deny"},
        "agents": {"*": {"allowlist": [{"pattern": program("echo")}]}, "main": {"security": "deny"}},
        "ours": {"kept": [1, 2]},
    })
}

/// The edits that A53 names, and their neighbours: what is set to what.
fn loosening() -> Vec<(&'static str, Value)> {
    vec![
        ("/defaults/security", json!("full")),
        ("/defaults/ask", json!("off")),
        ("/defaults/askFallback", json!("full")),
        ("/defaults/autoAllowSkills", json!(true)),
        ("/agents/*/allowlist", json!([{"pattern": program("echo")}, {"pattern": "/**"}])),
        ("/agents/*/allowlist", json!([{"pattern": "/usr/bin/*"}])),
        ("/agents/main/allowlist", json!([program("touch")])),
        ("/agents/main", json!({})),
        ("/agents/other", json!({"security": "full"})),
        ("/agents/main/mcpTools", json!([{"server": "s", "tool": "t"}])),
    ]
}

/// A53, H15: with nobody to ask nothing is loosened; a stale or missing hash and a missing scope
/// refuse whatever it is; tightening is made, and logged.
#[test]
fn sec_a53_h15_loosening_from_outside_is_refused_and_tightening_made() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let first = owner.get();
    let stored = fs::read(scratch.approvals_path()).unwrap();
    assert_eq!(first["hash"], support::sha256_hex(&stored), "{first}");
    assert_eq!((&first["exists"], first["file"].get("ours")), (&json!(true), None), "the protocol has no such member");
    for (name, value) in loosening() {
        let (parent, member) = name.rsplit_once('/').unwrap();
        let (code, message) = node_error(owner.edit(|file| file.pointer_mut(parent).unwrap()[member] = value));
        assert_eq!(code, "APPROVAL_REQUIRED", "{name}: {message}");
        assert!(message.contains("remoteEdits"), "{name}: it says what to do: {message}");
        assert_eq!(fs::read(scratch.approvals_path()).unwrap(), stored, "{name}");
    }
    assert!(app.log().contains("refused an edit"), "{}", app.log());
    // Malformed documents are no edits either.
    for bad in [json!({"version": 2}), json!({"version": 1, "defaults": {"security": "FULL"}}), json!([]), json!("x")] {
        let (code, message) = node_error(owner.set(&bad, first["hash"].as_str()));
        assert!(code == "INVALID_REQUEST" && message.starts_with("Error: INVALID_REQUEST: "), "{bad}: {message}");
    }
    let tight = json!({"version": 1, "defaults": {"security": "deny", "ask": "always"}});
    for (hash, text) in [(Some("stale"), "changed"), (None, "base hash required"), (Some(" "), "base hash required")] {
        let (code, message) = node_error(owner.set(&tight, hash));
        assert_eq!(code, "INVALID_REQUEST", "{message}");
        assert_eq!(message, format!("Error: INVALID_REQUEST: exec approvals {text}; reload and retry"));
    }
    let mut others = operator(&scratch, &["operator.read", "operator.write", "operator.pairing", "operator.approvals"]);
    for (method, params) in [
        ("exec.approvals.node.get", json!({"nodeId": owner.node})),
        ("exec.approvals.node.set", json!({"nodeId": owner.node, "file": tight, "baseHash": first["hash"]})),
    ] {
        let error = others.request(method, params).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin", "{method}: {error}");
    }
    for command in ["system.execApprovals.get", "system.execApprovals.set", " SYSTEM.execapprovals.set\u{a0}"] {
        let params =
            json!({"nodeId": owner.node, "command": command, "idempotencyKey": "k", "params": {"file": tight}});
        let error = owner.client.request("node.invoke", params).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{command:?}: {error}");
    }
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), stored);
    let after = owner.set(&tight, first["hash"].as_str()).unwrap();
    assert_eq!(after["file"]["defaults"]["security"], "deny", "{after}");
    let stored = fs::read(scratch.approvals_path()).unwrap();
    assert_eq!(after["hash"], support::sha256_hex(&stored));
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["ours"], json!({"kept": [1, 2]}), "unknown members stay");
    wait_until("the log line", || app.log().contains("approvals document: edited").then_some(()));
    let audit = scratch.mac_debug(&["audit", "show", "--json", "--last", "1000"]);
    let audit: Value = serde_json::from_str(&audit.stdout).unwrap();
    let edits = |decision: &str| {
        let records = audit["decisions"].as_array().unwrap().iter();
        records.filter(|record| record["kind"] == "edit" && record["decision"] == decision).count()
    };
    assert_eq!((edits("denied"), edits("allowed")), (loosening().len(), 1), "{audit}");
    assert_eq!(scratch.mac_debug(&["audit", "verify"]).code, Some(0));
    let refused = scratch.mac_debug(&["run", "--", "echo", "x"]);
    assert!(refused.stderr.contains("security=deny"), "it holds at once: {refused:?}");
}

/// A53: the owner may allow edits from outside, but not from outside.
#[test]
fn sec_a53_the_owner_may_opt_in_in_the_file_only() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let (_, message) = node_error(owner.edit(|file| file["local"] = json!({"remoteEdits": "allow"})));
    assert!(message.contains("`local` can only be changed in the file itself"), "{message}");
    scratch.edit_approvals(|file| drop(file.insert("local".to_owned(), json!({"remoteEdits": "allow"}))));
    let after = owner.edit(|file| file["defaults"]["security"] = json!("full")).unwrap();
    assert_eq!((&after["file"]["defaults"]["security"], after["file"].get("local")), (&json!("full"), None));
    let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    assert_eq!(stored["local"], json!({"remoteEdits": "allow"}), "left out is not taken away");
    let (_, message) = node_error(owner.edit(|file| file["local"]["trustGatewayApprovals"] = json!(true)));
    assert!(message.contains("`local`"), "{message}");
    assert!(app.log().contains("security allowlist becomes full"), "{}", app.log());
}

/// H15: the person in front of the machine sees what would be loosened, and decides.
#[test]
fn sec_h15_the_person_decides_about_a_loosening_edit() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let mut terminal = app_on_terminal(&scratch);
    for (typed, expected) in [("cancel\n", "allowlist"), ("change\n", "full")] {
        let mut owner = Owner::of(&scratch);
        let setting = thread::spawn(move || owner.edit(|file| file["defaults"]["security"] = json!("full")));
        terminal.expect("make this change?");
        terminal.expect("would from now on be allowed: everybody: security allowlist becomes full");
        terminal.expect("then Return");
        terminal.type_text(typed);
        while !setting.is_finished() {
            terminal.watch(Duration::from_millis(10));
        }
        match setting.join().unwrap() {
            Ok(after) => assert_eq!(after["file"]["defaults"]["security"], "full"),
            answer => assert!(node_error(answer).1.contains("said no")),
        }
        let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
        assert_eq!(stored["defaults"]["security"], expected);
    }
}

/// A157: the token never leaves; the socket that a caller read may be written back and nothing else.
#[test]
fn sec_a157_the_token_stays_and_the_socket_cannot_be_moved() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let token = socket_token(&scratch);
    let now = owner.get();
    assert!(!now.to_string().contains(&token), "{now}");
    assert_eq!(now["file"]["socket"], json!({"path": exec_socket(&scratch)}), "{now}");
    for socket in [
        json!({"path": "/tmp/elsewhere.sock"}),
        json!({"path": exec_socket(&scratch), "token": "a-token-of-somebody-else-0123456"}),
        json!({"token": ""}),
        json!({"path": null}),
        json!({"mode": 1}),
        json!("x"),
    ] {
        let (code, message) = node_error(owner.edit(|file| file["socket"] = socket.clone()));
        assert!(code == "INVALID_REQUEST" && message.contains("socket"), "{socket}: {message}");
    }
    for change in [|_: &mut Value| {}, |file: &mut Value| drop(file.as_object_mut().unwrap().remove("socket"))] {
        let after = owner.edit(change).unwrap();
        assert!(!after.to_string().contains(&token));
        assert_eq!(
            (socket_token(&scratch), &after["file"]["socket"]["path"]),
            (token.clone(), &json!(exec_socket(&scratch)))
        );
    }
    app.exec(&scratch).assert_works();
}

/// A142: of edits with the same base one wins, and what is stored is one of them.
#[test]
fn sec_a142_of_two_edits_with_one_base_the_second_is_stale() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let _app = App::start(&scratch);
    scratch.edit_approvals(|file| drop(file.insert("local".to_owned(), json!({"remoteEdits": "allow"}))));
    let hash = Owner::of(&scratch).get()["hash"].as_str().unwrap().to_owned();
    let start = Arc::new(Barrier::new(8));
    let edits: Vec<_> = (0..8)
        .map(|number| {
            let (mut owner, hash, start) = (Owner::of(&scratch), hash.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let file =
                    json!({"version": 1, "agents": {format!("a{number}"): {"security": "deny"}}, "writer": number});
                start.wait();
                owner.set(&file, Some(&hash))
            })
        })
        .collect();
    let answers: Vec<Answer> = edits.into_iter().map(|edit| edit.join().unwrap()).collect();
    let won: Vec<&Value> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    let agents: Vec<&String> = stored["agents"].as_object().unwrap().keys().collect();
    assert_eq!(agents, [&format!("a{}", stored["writer"])], "no mixture: {stored}");
    assert_eq!(stored["agents"], won[0]["file"]["agents"]);
    for answer in answers.into_iter().filter(Result::is_err) {
        assert!(node_error(answer).1.ends_with("exec approvals changed; reload and retry"));
    }
}

#[test]
fn a_node_tells_its_load_and_the_resolved_defaults() {
    let scratch = Scratch::new();
    let _app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let stats = wait_until("the load of the node", || {
        let row = owner.client.request("node.describe", json!({"nodeId": owner.node})).unwrap();
        row.get("hostStats").cloned()
    });
    for member in
        ["cpuCount", "memoryTotalBytes", "memoryFreeBytes", "diskTotalBytes", "diskAvailableBytes", "updatedAtMs"]
    {
        assert!(stats[member].as_u64().is_some_and(|number| number > 0), "{member}: {stats}");
    }
    assert_eq!(stats["loadAverage"].as_array().unwrap().len(), 3);
    assert_eq!(owner.get()["file"]["defaults"]["security"], "allowlist");
}

/// A gateway with one approved node, both held by the test.
fn scene() -> (Gateway, Client, Client, String) {
    let gateway = Gateway::new();
    let (device, surface) =
        (Device::new(), Surface::linux(&["system.run", "system.which", "system.execApprovals.get"]));
    let node = Client::login(&gateway, &Connect::node(&device, &surface));
    gateway.approve_surface(&device.id());
    let owner = gateway.owner();
    (gateway, owner, node, device.id())
}

/// frames/rpc-approvals-node-get-set.json: what goes to the node, and what comes back.
#[test]
fn the_policy_of_a_node_is_relayed_as_it_is() {
    let (_gateway, mut owner, mut node, id) = scene();
    let asked = owner.start("exec.approvals.node.get", json!({"nodeId": id}));
    let request = node.event("node.invoke.request");
    assert_eq!((&request["command"], &request["paramsJSON"]), (&json!("system.execApprovals.get"), &json!("{}")));
    assert!(request["timeoutMs"].as_u64().is_some_and(|left| left > 29_000 && left <= 30_000), "{request}");
    assert!(request.get("idempotencyKey").is_none(), "{request}");
    let answer = json!({"path": "/p", "exists": true, "file": {"version": 1, "x": {"y": 1}}, "hash": "h"});
    let result = json!({"id": request["id"], "nodeId": id, "ok": true, "payloadJSON": answer.to_string()});
    node.request("node.invoke.result", result).unwrap();
    assert_eq!(owner.response(&asked).unwrap(), answer);
    // It declared no `set`, so none is approved.
    let error = owner.request("exec.approvals.node.set", json!({"nodeId": id, "file": {}})).unwrap_err();
    assert_eq!(error["details"]["reason"], "command not allowlisted", "{error}");
    let error = owner.request("exec.approvals.node.get", json!({"nodeId": "nobody"})).unwrap_err();
    assert_eq!(error["details"]["code"], "PAIRING_CHANGED", "{error}");
    let error = owner.request("exec.approvals.node.set", json!({"nodeId": id})).unwrap_err();
    assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    drop(node);
    let error = wait_until("the node to be gone", || {
        let error = owner.request("exec.approvals.node.get", json!({"nodeId": id})).unwrap_err();
        (error["details"]["code"] == "NOT_CONNECTED").then_some(error)
    });
    assert_eq!(error["code"], "UNAVAILABLE");
}

/// Spec gateway §5 "progress": only from the connection that works on it, piece after piece.
#[test]
fn sec_a54_progress_is_taken_from_the_node_that_was_asked() {
    let (gateway, mut owner, mut node, id) = scene();
    let other = Device::new();
    let mut stranger = Client::login(&gateway, &Connect::node(&other, &Surface::linux(&["system.run"])));
    let params = json!({"nodeId": id, "command": "system.run", "params": {"command": ["ls"]}, "idempotencyKey": "k"});
    let asked = owner.start("node.invoke", params);
    let request = node.event("node.invoke.request");
    let piece = |seq: u64| json!({"invokeId": request["id"], "nodeId": id, "seq": seq, "chunk": "x".repeat(16 * 1024)});
    assert_eq!(node.request("node.invoke.progress", piece(0)).unwrap(), json!({"ok": true}));
    assert_eq!(node.request("node.invoke.progress", piece(1)).unwrap(), json!({"ok": true}));
    for bad in [piece(1), piece(3)] {
        assert_eq!(node.request("node.invoke.progress", bad).unwrap_err()["code"], "INVALID_REQUEST");
    }
    let mut long = piece(2);
    long["chunk"] = json!("x".repeat(16 * 1024 + 1));
    assert!(node.request("node.invoke.progress", long).unwrap_err()["message"].as_str().unwrap().contains("chunk"));
    assert_eq!(node.request("node.invoke.progress", piece(2)).unwrap(), json!({"ok": true}), "nothing was lost");
    assert_eq!(stranger.request("node.invoke.progress", piece(3)).unwrap_err()["message"], "nodeId mismatch");
    let mut lie = piece(3);
    lie["nodeId"] = json!(other.id());
    assert_eq!(stranger.request("node.invoke.progress", lie).unwrap(), json!({"ok": true, "ignored": true}));
    let error = owner.request("node.invoke.progress", piece(3)).unwrap_err();
    assert_eq!(error["message"], "unauthorized role: operator", "{error}");
    node.request("node.invoke.result", json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {}})).unwrap();
    assert_eq!(owner.response(&asked).unwrap()["payload"], json!({}));
    assert_eq!(node.request("node.invoke.progress", piece(3)).unwrap(), json!({"ok": true, "ignored": true}));
}

/// `openclaw node` on its own has nobody to ask.
#[test]
fn sec_a53_a_headless_node_has_nobody_to_ask() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({"version": 1, "defaults": {"security": "allowlist", "ask": "on-miss"}}));
    let port = support::free_port().to_string();
    let _gateway = Process::spawn(scratch.openclaw(&["gateway", "--port", &port]));
    wait_until("the gateway", || UnixStream::connect(scratch.state().join("gateway.sock")).ok());
    let _node = Process::spawn(scratch.openclaw(&["node", "--port", &port, "--exec-host", "local"]));
    let mut admin = operator(&scratch, ADMIN);
    let request = wait_until("the surface", || {
        let list = admin.request("node.pair.list", json!({})).unwrap();
        list["pending"][0]["requestId"].as_str().map(str::to_owned)
    });
    admin.request("node.pair.approve", json!({"requestId": request})).unwrap();
    let mut owner = Owner::of(&scratch);
    let (code, message) = node_error(owner.edit(|file| file["defaults"]["security"] = json!("full")));
    assert!(code == "APPROVAL_REQUIRED" && message.contains("nobody can be asked"), "{message}");
    owner.edit(|file| file["defaults"]["security"] = json!("deny")).unwrap();
}
