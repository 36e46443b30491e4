//! `node.invoke` from outside, both ends held by the test: an operator here, a node there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Client, Connect, Device, FakeNode, Gateway, Reply, Surface};

/// A gateway with one approved node, and an owner beside it.
struct Scene {
    gateway: Gateway,
    owner: Client,
    node: Client,
    device: Device,
    surface: Surface,
}

impl Scene {
    fn new() -> Self {
        Self::with(Surface::linux(&["system.run", "system.run.prepare", "system.which"]))
    }

    fn with(surface: Surface) -> Self {
        let gateway = Gateway::new();
        let device = Device::new();
        let node = Client::login(&gateway, &Connect::node(&device, &surface));
        gateway.approve_surface(&device.id());
        let owner = gateway.owner();
        Self { gateway, owner, node, device, surface }
    }

    fn id(&self) -> String {
        self.device.id()
    }

    /// Sends `node.invoke`, does not wait; returns the request id.
    fn start(&mut self, command: &str, params: Value) -> String {
        let id = self.id();
        self.owner.start(
            "node.invoke",
            json!({"nodeId": id, "command": command, "params": params, "timeoutMs": 15_000, "idempotencyKey": "k"}),
        )
    }

    /// The same, and what reaches the node.
    fn dispatch(&mut self, command: &str, params: Value) -> (String, Value) {
        let id = self.start(command, params);
        (id, self.node.event("node.invoke.request"))
    }

    /// The node answers `request` with the members of `result`.
    fn answer(&mut self, request: &Value, result: Value) -> Value {
        let mut params = json!({"id": request["id"], "nodeId": self.id()});
        params.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
        self.node.request("node.invoke.result", params).unwrap()
    }

    /// `node.invoke` that must be refused without reaching the node.
    fn refused(&mut self, command: &str, params: Value) -> Value {
        let id = self.start(command, params.clone());
        let error = self.owner.response(&id).expect_err(command);
        self.node.no_event("node.invoke.request");
        error
    }
}

/// What the node was told to do.
fn parameters(request: &Value) -> Value {
    serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap()
}

/// frames/rpc-invoke-system-which.json
#[test]
fn an_invocation_goes_there_and_back() {
    let mut scene = Scene::new();
    let id = scene.id();
    let invocation = scene.owner.start(
        "node.invoke",
        json!({
            "nodeId": id, "command": "system.which", "params": {"bins": ["ls", "é\u{1f600}"]},
            "timeoutMs": 4_000, "idempotencyKey": "key-1", "sessionKey": "agent:main:main",
        }),
    );
    let frame = scene.node.event_frame("node.invoke.request");
    assert!(frame.get("seq").is_none(), "directed events carry no seq: {frame}");
    let request = &frame["payload"];
    assert_eq!(request["nodeId"], json!(id));
    assert_eq!(request["command"], "system.which");
    assert_eq!(parameters(request), json!({"bins": ["ls", "é\u{1f600}"]}));
    let left = request["timeoutMs"].as_u64().unwrap();
    assert!((1..=4_000).contains(&left), "{left}");
    assert_eq!(request["idempotencyKey"], "key-1");
    assert_eq!(request["sessionKey"], "agent:main:main");
    assert_eq!(request["id"].as_str().unwrap().len(), 36);
    let ack = scene.answer(request, json!({"ok": true, "payloadJSON": "{\"bins\":{\"ls\":\"/bin/ls\"}}"}));
    assert_eq!(ack, json!({"ok": true}));
    let answer = scene.owner.response(&invocation).unwrap();
    assert_eq!(
        answer,
        json!({
            "ok": true, "nodeId": id, "command": "system.which",
            "payload": {"bins": {"ls": "/bin/ls"}}, "payloadJSON": "{\"bins\":{\"ls\":\"/bin/ls\"}}",
        })
    );
}

/// `paramsJSON` is null when the operator sent none, and the default deadline is 30 s.
#[test]
fn absent_parameters_stay_absent() {
    let mut scene = Scene::new();
    let id = scene.id();
    scene.owner.start("node.invoke", json!({"nodeId": id, "command": "system.which", "idempotencyKey": "a"}));
    let request = scene.node.event("node.invoke.request");
    assert_eq!(request["paramsJSON"], Value::Null);
    let left = request["timeoutMs"].as_u64().unwrap();
    assert!((25_000..=30_000).contains(&left), "{left}");
    scene.dispatch("system.which", json!({}));
}

/// Relayed bytes pass unchanged: order, number spelling, escapes.
#[test]
fn parameters_are_relayed_byte_for_byte() {
    let mut scene = Scene::new();
    let text = r#"{"z":1.50e+2,"a":"\u00e9\/","n":12345678901234567890123,"deep":[[[[{"b":null}]]]],"s":" x "}"#;
    let frame = format!(
        r#"{{"type":"req","id":"raw","method":"node.invoke","params":{{"nodeId":"{}","command":"system.which","params":{text},"idempotencyKey":"k"}}}}"#,
        scene.id()
    );
    scene.owner.send_text(&frame);
    let request = scene.node.event("node.invoke.request");
    assert_eq!(request["paramsJSON"], text);
}

/// frames/node-invoke-result-shapes.json
#[test]
fn every_shape_of_result_is_understood() {
    let mut scene = Scene::new();
    let id = scene.id();
    let good = [
        (json!({"ok": true, "payload": {"a": 1}}), Some(json!({"a": 1})), Value::Null),
        (json!({"ok": true, "payloadJSON": "{\"b\":2}"}), Some(json!({"b": 2})), json!("{\"b\":2}")),
        (json!({"ok": true, "payloadJSON": "not json"}), Some(json!({"payloadJSON": "not json"})), json!("not json")),
        (json!({"ok": true}), None, Value::Null),
        (json!({"ok": true, "payloadJSON": null, "error": null}), None, Value::Null),
        (json!({"ok": true, "payload": [1, "x"]}), Some(json!([1, "x"])), Value::Null),
    ];
    for (result, payload, payload_json) in good {
        let (invocation, request) = scene.dispatch("system.which", json!({"i": "shape"}));
        scene.answer(&request, result.clone());
        let answer = scene.owner.response(&invocation).unwrap();
        assert_eq!(answer.get("payload"), payload.as_ref(), "{result}");
        assert_eq!(answer["payloadJSON"], payload_json, "{result}");
        assert_eq!((&answer["ok"], &answer["nodeId"]), (&json!(true), &json!(id)));
    }
    let bad = [
        (
            json!({"ok": false, "error": {"code": "X_CODE", "message": "msg"}}),
            "X_CODE: msg",
            json!({"code": "X_CODE", "message": "msg"}),
        ),
        (json!({"ok": false, "error": {"message": "msg"}}), "msg", json!({"message": "msg"})),
        (json!({"ok": false}), "node invoke failed", Value::Null),
        (json!({"ok": false, "error": null}), "node invoke failed", Value::Null),
    ];
    for (result, message, node_error) in bad {
        let (invocation, request) = scene.dispatch("system.which", json!({"i": "error"}));
        scene.answer(&request, result.clone());
        let error = scene.owner.response(&invocation).unwrap_err();
        assert_eq!(error["code"], "UNAVAILABLE", "{result}");
        assert_eq!(error["message"], message, "{result}");
        assert_eq!(error["details"]["nodeCommandDispatched"], true, "{result}");
        assert!(error["details"].as_object().unwrap().contains_key("nodeError"), "{result}: {error}");
        for name in ["code", "message"] {
            assert_eq!(error["details"]["nodeError"][name], node_error[name], "{result}: {error}");
        }
    }
}

/// frames/node-invoke-result-shapes.json: asked again, with a new id, four times.
#[test]
fn a_node_that_is_not_ready_is_asked_again() {
    let mut scene = Scene::new();
    let not_ready = json!({"ok": false, "error": {"code": "NODE_NOT_READY", "message": "later"}});
    let (invocation, mut request) = scene.dispatch("system.which", json!({"i": "notready"}));
    let mut ids = vec![request["id"].clone()];
    let mut left = request["timeoutMs"].as_u64().unwrap();
    for pause in [100, 250, 500, 1_000] {
        let begun = Instant::now();
        scene.answer(&request, not_ready.clone());
        request = scene.node.event("node.invoke.request");
        assert!(begun.elapsed() >= Duration::from_millis(pause - 20), "{:?} < {pause} ms", begun.elapsed());
        assert!(!ids.contains(&request["id"]));
        assert_eq!(parameters(&request), json!({"i": "notready"}));
        let now_left = request["timeoutMs"].as_u64().unwrap();
        assert!(now_left < left, "{now_left} of {left}");
        left = now_left;
        ids.push(request["id"].clone());
    }
    scene.answer(&request, not_ready);
    let error = scene.owner.response(&invocation).unwrap_err();
    assert_eq!(error["message"], "NODE_NOT_READY: later");
    // Ready at the second try.
    let (invocation, request) = scene.dispatch("system.which", json!({}));
    scene.answer(&request, json!({"ok": false, "error": {"code": "NODE_NOT_READY", "message": "later"}}));
    let request = scene.node.event("node.invoke.request");
    scene.answer(&request, json!({"ok": true, "payload": {"a": 1}}));
    assert_eq!(scene.owner.response(&invocation).unwrap()["payload"], json!({"a": 1}));
}

/// frames/rpc-invoke-timeout.json
#[test]
fn a_deadline_cancels_the_invocation_and_a_late_result_is_ignored() {
    let mut scene = Scene::new();
    let id = scene.id();
    let begun = Instant::now();
    let invocation = scene.owner.start(
        "node.invoke",
        json!({"nodeId": id, "command": "system.which", "params": {}, "timeoutMs": 600, "idempotencyKey": "t"}),
    );
    let request = scene.node.event("node.invoke.request");
    let error = scene.owner.response(&invocation).unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(580), "{:?}", begun.elapsed());
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["message"], "TIMEOUT: node invoke timed out");
    assert_eq!(
        error["details"],
        json!({"nodeError": {"code": "TIMEOUT", "message": "node invoke timed out"}, "nodeCommandDispatched": true})
    );
    let cancel = scene.node.event("node.invoke.cancel");
    assert_eq!(cancel, json!({"invokeId": request["id"], "nodeId": id}));
    let late = scene.answer(&request, json!({"ok": true, "payload": {}}));
    assert_eq!(late, json!({"ok": true, "ignored": true}));
    let (invocation, request) = scene.dispatch("system.which", json!({}));
    scene.answer(&request, json!({"ok": true}));
    assert!(scene.owner.response(&invocation).is_ok());
}

/// frames/node-events-raw.json (its end)
#[test]
fn a_node_that_goes_away_ends_its_invocations() {
    let mut scene = Scene::new();
    let (invocation, _) = scene.dispatch("system.which", json!({}));
    let Scene { node, mut owner, device, gateway, surface } = scene;
    node.close();
    let error = owner.response(&invocation).unwrap_err();
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["details"]["nodeError"]["code"], "DISCONNECTED");
    assert_eq!(error["details"]["nodeError"]["message"], "node disconnected (system.which)");
    assert_eq!(error["details"]["nodeCommandDispatched"], true);

    let which = json!({"nodeId": device.id(), "command": "system.which", "params": {}, "idempotencyKey": "off1"});
    let error = owner.request("node.invoke", which.clone()).unwrap_err();
    assert_eq!((&error["code"], &error["message"]), (&json!("UNAVAILABLE"), &json!("node not connected")));
    assert_eq!(
        error["details"],
        json!({
            "code": "NOT_CONNECTED",
            "nodeError": {"code": "NOT_CONNECTED", "message": "node not connected"},
            "nodeCommandDispatched": false,
        })
    );
    // Twin: it comes back and answers.
    let mut node = Client::login(&gateway, &Connect::node(&device, &surface));
    let invocation = owner.start("node.invoke", which);
    let request = node.event("node.invoke.request");
    node.request("node.invoke.result", json!({"id": request["id"], "nodeId": device.id(), "ok": true})).unwrap();
    assert!(owner.response(&invocation).is_ok());
}

/// frames/call-node-invoke-unknown-node.json
#[test]
fn an_unknown_node_looks_like_one_that_was_never_approved() {
    let mut scene = Scene::new();
    for node in ["deadbeef", "../../x"] {
        let error = scene
            .owner
            .request("node.invoke", json!({"nodeId": node, "command": "system.which", "idempotencyKey": "k"}))
            .unwrap_err();
        assert_eq!(
            error,
            json!({
                "code": "UNAVAILABLE", "message": "node pairing changed while invocation was active",
                "retryable": true, "details": {"code": "PAIRING_CHANGED"},
            })
        );
    }
}

/// frames/call-node-invoke-unknown-command.json; spec gateway §5 "refused before dispatch"
#[test]
fn what_may_not_be_asked_never_reaches_the_node() {
    let mut scene = Scene::new();
    for (command, reason) in [
        ("camera.snap", "command not allowlisted"),
        ("made.up", "command not allowlisted"),
        ("SYSTEM.RUN", "command not allowlisted"),
        ("system.notify", "command not declared by node"),
    ] {
        let error = scene.refused(command, json!({}));
        assert_eq!(error["code"], "INVALID_REQUEST", "{command}: {error}");
        assert!(error["message"].as_str().unwrap().starts_with("node command not allowed: "), "{command}: {error}");
        assert_eq!(error["details"], json!({"reason": reason, "command": command}), "{error}");
    }
    for command in ["system.execApprovals.get", "system.execApprovals.set", " system.execApprovals.set "] {
        let error = scene.refused(command, json!({}));
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert_eq!(error["message"], "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*");
        assert_eq!(error["details"]["command"], json!(command.trim()), "{error}");
    }
    let mut bare = Scene::with(Surface::linux(&[]));
    let error = bare.refused("system.notify", json!({}));
    assert_eq!(error["details"]["reason"], "node did not declare commands", "{error}");
    let error = bare.refused("system.which", json!({}));
    assert_eq!(error["details"]["reason"], "command not allowlisted", "a host command, not approved: {error}");
}

/// Spec gateway §5 "order of checks": the first thing that is wrong is the one that is said.
#[test]
fn checks_have_an_order() {
    let mut scene = Scene::new();
    let id = scene.id();
    let mut say = |params: Value| scene.owner.request("node.invoke", params).expect_err("was let through");
    let error = say(json!({"nodeId": "nobody", "command": "system.execApprovals.get"}));
    assert_eq!(error["message"], "invalid node.invoke params: must have required property 'idempotencyKey'");
    let error = say(json!({"nodeId": "nobody", "command": "x", "idempotencyKey": "k", "paramsJSON": "{}"}));
    assert_eq!(error["message"], "invalid node.invoke params: at root: unexpected property 'paramsJSON'");
    for (node, command) in [("  ", "system.which"), (id.as_str(), "  ")] {
        let error = say(json!({"nodeId": node, "command": command, "idempotencyKey": "k"}));
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        assert!(error["details"].get("reason").is_none(), "{error}");
    }
    let error = say(json!({"nodeId": "nobody", "command": "system.execApprovals.get", "idempotencyKey": "k"}));
    assert!(error["message"].as_str().unwrap().contains("execApprovals"), "{error}");
    let error = say(json!({"nodeId": "nobody", "command": "made.up", "idempotencyKey": "k"}));
    assert_eq!(error["details"]["code"], "PAIRING_CHANGED", "pairing comes before the command: {error}");
    let error = say(json!({
        "nodeId": id, "command": "made.up", "idempotencyKey": "k", "params": {"command": ["a"], "rawCommand": "b"},
    }));
    assert_eq!(error["details"]["reason"], "command not allowlisted", "{error}");
    let Scene { node, mut owner, .. } = scene;
    node.close();
    let invoke = json!({"nodeId": id, "command": "made.up", "idempotencyKey": "k"});
    let error = support::wait_until("the node is gone", || {
        let error = owner.request("node.invoke", invoke.clone()).unwrap_err();
        (error["details"]["reason"] != "command not allowlisted").then_some(error)
    });
    assert_eq!(error["details"]["code"], "NOT_CONNECTED", "connected comes before the command: {error}");
    // Some commands are for admins only, asked before anything about the node. Spec gateway §4
    let gateway = scene.gateway;
    let mut writer = Client::login(&gateway, &Connect::backend(&["operator.write"]));
    for command in ["browser.proxy", "fs.listDir", "terminal.upload"] {
        let invoke = json!({"nodeId": "nobody", "command": command, "idempotencyKey": "k"});
        let error = writer.request("node.invoke", invoke).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin", "{command}: {error}");
    }
}

/// Results come back in any order, and a slow one holds nobody up.
#[test]
fn invocations_run_side_by_side() {
    let mut scene = Scene::new();
    let (first, first_request) = scene.dispatch("system.which", json!({"n": 1}));
    let (second, second_request) = scene.dispatch("system.which", json!({"n": 2}));
    assert!(scene.owner.request("health", json!({})).is_ok(), "the same connection goes on");
    scene.answer(&second_request, json!({"ok": true, "payload": {"n": 2}}));
    assert_eq!(scene.owner.response(&second).unwrap()["payload"]["n"], 2);
    scene.answer(&first_request, json!({"ok": true, "payload": {"n": 1}}));
    assert_eq!(scene.owner.response(&first).unwrap()["payload"]["n"], 1);
}

/// Many at once, from several callers, each gets its own answer.
#[test]
fn answers_reach_the_one_who_asked() {
    let gateway = Gateway::new();
    let node = FakeNode::approved(&gateway, &Surface::linux(&["system.which"]), |request| {
        let text = request["paramsJSON"].as_str().unwrap();
        if text.contains("\"n\":7}") {
            return Reply::Error("ODD", "seven");
        }
        Reply::Payload(serde_json::from_str(text).unwrap())
    });
    let id = node.id();
    let mut callers: Vec<Client> = (0..4).map(|_| gateway.owner()).collect();
    let mut sent = Vec::new();
    for n in 0..50 {
        for (at, caller) in callers.iter_mut().enumerate() {
            let params = json!({"from": at, "n": n});
            let invoke = json!({"nodeId": id, "command": "system.which", "params": params, "idempotencyKey": "k"});
            sent.push((at, caller.start("node.invoke", invoke), params));
        }
    }
    for (at, request, params) in sent {
        match callers[at].response(&request) {
            Ok(answer) => assert_eq!(answer["payload"], params),
            Err(error) => {
                assert_eq!(params["n"], 7, "{error}");
                assert_eq!(error["message"], "ODD: seven");
            }
        }
    }
    assert_eq!(node.invokes().len(), 200);
}

/// frames/rpc-invoke-idempotent-dup.json: the key is passed on, not acted on.
#[test]
fn an_idempotency_key_does_not_merge_invocations() {
    let mut scene = Scene::new();
    let (_, first) = scene.dispatch("system.run", json!({"command": ["true"]}));
    let (_, second) = scene.dispatch("system.run", json!({"command": ["true"]}));
    assert_eq!(first["idempotencyKey"], second["idempotencyKey"]);
    assert_ne!(first["id"], second["id"]);
}

/// Spec gateway §5 "CLI disconnect".
#[test]
fn a_command_line_that_goes_away_cancels_its_invocation() {
    let mut scene = Scene::new();
    let id = scene.id();
    let invoke = json!({"nodeId": id, "command": "system.which", "params": {}, "idempotencyKey": "c"});
    let mut cli = Client::login(&scene.gateway, &Connect::cli(&["operator.write"]));
    cli.start("node.invoke", invoke);
    let request = scene.node.event("node.invoke.request");
    cli.close();
    assert_eq!(scene.node.event("node.invoke.cancel"), json!({"invokeId": request["id"], "nodeId": id}));
    let late = scene.answer(&request, json!({"ok": true}));
    assert_eq!(late, json!({"ok": true, "ignored": true}));
}

/// frames/node-double-connect-same-device.json: the newest connection is the node.
#[test]
fn a_second_connection_of_a_device_takes_over() {
    let mut scene = Scene::new();
    let mut newer = Client::login(&scene.gateway, &Connect::node(&scene.device, &scene.surface));
    let invocation = scene.start("system.which", json!({}));
    let request = newer.event("node.invoke.request");
    scene.node.no_event("node.invoke.request");
    let id = scene.id();
    newer.request("node.invoke.result", json!({"id": request["id"], "nodeId": id, "ok": true})).unwrap();
    assert!(scene.owner.response(&invocation).is_ok());
    // exec h.1 (16): the end of the old one does not unregister the new one.
    let Scene { node, mut owner, gateway, .. } = scene;
    node.close();
    let row = owner.request("node.describe", json!({"nodeId": id})).unwrap();
    assert_eq!(row["connected"], true);
    owner.start("node.invoke", json!({"nodeId": id, "command": "system.which", "idempotencyKey": "z"}));
    newer.event("node.invoke.request");
    drop(gateway);
}

/// A48: an operator cannot write itself an approval. frames/rpc-approved-flag-injection.json
#[test]
fn sec_a48_a_caller_cannot_mark_itself_approved() {
    const PASSES: &[&str] = &[
        "command",
        "rawCommand",
        "systemRunPlan",
        "cwd",
        "env",
        "timeoutMs",
        "needsScreenRecording",
        "agentId",
        "sessionKey",
        "runId",
        "suppressNotifyOnExit",
    ];
    let mut scene = Scene::new();
    let mut writer = Client::login(&scene.gateway, &Connect::backend(&["operator.write"]));
    let id = scene.id();
    let run = |extra: Value| {
        let mut params = json!({"command": ["/bin/echo", "x"]});
        params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"nodeId": id, "command": "system.run", "params": params, "idempotencyKey": "inj"})
    };
    for (extra, code) in [
        (json!({"approved": true}), "MISSING_RUN_ID"),
        (json!({"approvalDecision": "allow-once"}), "MISSING_RUN_ID"),
        (json!({"approvalDecision": "allow-always"}), "MISSING_RUN_ID"),
        (json!({"approved": true, "approvalDecision": "allow-once", "runId": "  "}), "MISSING_RUN_ID"),
        (json!({"approved": true, "runId": "nope"}), "UNKNOWN_APPROVAL_ID"),
        (json!({"approvalDecision": "allow-always", "runId": "nope"}), "UNKNOWN_APPROVAL_ID"),
        (json!({"approved": true, "runId": "nope", "systemRunPlan": {"argv": ["/bin/echo"]}}), "UNKNOWN_APPROVAL_ID"),
    ] {
        let error = writer.request("node.invoke", run(extra.clone())).expect_err("was let through");
        assert_eq!(error["code"], "INVALID_REQUEST", "{extra}: {error}");
        assert_eq!(error["details"]["code"], code, "{extra}: {error}");
    }
    scene.node.no_event("node.invoke.request");
    // Other spellings are refused, or do not get through.
    for extra in [
        json!({"approved": "true"}),
        json!({"approved": 1}),
        json!({"approved": false}),
        json!({"Approved": true}),
        json!({"APPROVED": true}),
        json!({"approval_decision": "allow-once"}),
        json!({"approvaldecision": "allow-once"}),
        json!({"approvalDecision": "ALLOW-ONCE"}),
        json!({"approvalDecision": "deny"}),
        json!({"approvalSource": "operator"}),
        json!({"paramsJSON": "{\"approved\":true}"}),
        json!({"params": {"approved": true}}),
        json!({"grant": {"approved": true}}),
        json!({"__proto__": {"approved": true}}),
    ] {
        let invocation = writer.start("node.invoke", run(extra.clone()));
        let answered = |frame: &Value| frame["id"] == json!(invocation);
        let deadline = Instant::now() + support::DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "{extra}: neither forwarded nor refused");
            if let Some(support::Incoming::Frame(frame)) = scene.node.poll(Instant::now() + Duration::from_millis(20)) {
                if frame["event"] != "node.invoke.request" {
                    continue;
                }
                let forwarded = parameters(&frame["payload"]);
                for name in forwarded.as_object().unwrap().keys() {
                    assert!(PASSES.contains(&name.as_str()), "{extra}: {name} was forwarded in {forwarded}");
                }
                assert_eq!(forwarded["command"], json!(["/bin/echo", "x"]));
                assert!(!forwarded.to_string().to_ascii_lowercase().contains("approv"), "{extra}: {forwarded}");
                scene.answer(&frame["payload"].clone(), json!({"ok": true}));
                writer.response(&invocation).unwrap();
                break;
            }
            writer.stays_open(Duration::from_millis(20));
            if let Some(frame) = writer.waiting().find(|frame| answered(frame)) {
                assert_eq!(frame["error"]["code"], "INVALID_REQUEST", "{extra}: {frame}");
                break;
            }
        }
    }
    // Twin: a plain run is forwarded, with a run id of the gateway's.
    writer.start("node.invoke", run(json!({"cwd": "/", "agentId": "main", "sessionKey": "s"})));
    let forwarded = parameters(&scene.node.event("node.invoke.request"));
    assert_eq!((&forwarded["cwd"], &forwarded["agentId"]), (&json!("/"), &json!("main")));
    assert!(forwarded["runId"].as_str().is_some_and(|id| !id.is_empty()), "{forwarded}");
    // And a run id of the caller's stays.
    writer.start("node.invoke", run(json!({"runId": "mine"})));
    assert_eq!(parameters(&scene.node.event("node.invoke.request"))["runId"], "mine");
}

/// frames/rpc-invoke-bad-params.json
#[test]
fn a_raw_command_that_says_something_else_is_refused_by_the_gateway() {
    let mut scene = Scene::new();
    let error = scene.refused("system.run", json!({"command": ["/bin/echo", "a"], "rawCommand": "/bin/echo b"}));
    assert_eq!(error["code"], "INVALID_REQUEST");
    assert_eq!(error["details"]["code"], "RAW_COMMAND_MISMATCH", "{error}");
    for same in [json!("/bin/echo a"), json!(""), json!("  "), json!(null)] {
        let (_, request) = scene.dispatch("system.run", json!({"command": ["/bin/echo", "a"], "rawCommand": same}));
        assert_eq!(parameters(&request)["command"], json!(["/bin/echo", "a"]));
    }
}

/// A54: only the connection that was asked may answer.
#[test]
fn sec_a54_results_cannot_be_spoofed() {
    let mut scene = Scene::new();
    let id = scene.id();
    let other = Device::new();
    let mut stranger = Client::login(&scene.gateway, &Connect::node(&other, &scene.surface));
    scene.gateway.approve_surface(&other.id());
    let (invocation, request) = scene.dispatch("system.which", json!({}));
    let forged = |node: &str| json!({"id": request["id"], "nodeId": node, "ok": true, "payload": {"forged": true}});

    let error = stranger.request("node.invoke.result", forged(&id)).unwrap_err();
    assert_eq!((&error["code"], &error["message"]), (&json!("INVALID_REQUEST"), &json!("nodeId mismatch")));
    let ignored = stranger.request("node.invoke.result", forged(&other.id())).unwrap();
    assert_eq!(ignored, json!({"ok": true, "ignored": true}));
    for node in [id.as_str(), other.id().as_str()] {
        let error = scene.owner.request("node.invoke.result", forged(node)).unwrap_err();
        assert_eq!(error["message"], "unauthorized role: operator");
    }
    scene.answer(&request, json!({"ok": true, "payload": {"forged": false}}));
    assert_eq!(scene.owner.response(&invocation).unwrap()["payload"], json!({"forged": false}));

    // The old socket of the same device, after it has connected again.
    let mut newer = Client::login(&scene.gateway, &Connect::node(&scene.device, &scene.surface));
    let invocation = scene.start("system.which", json!({}));
    let request = newer.event("node.invoke.request");
    let ignored = scene.answer(&request, json!({"ok": true, "payload": {"forged": true}}));
    assert_eq!(ignored, json!({"ok": true, "ignored": true}));
    newer
        .request(
            "node.invoke.result",
            json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {"forged": false}}),
        )
        .unwrap();
    assert_eq!(scene.owner.response(&invocation).unwrap()["payload"], json!({"forged": false}));

    // An id that nobody gave out. frames/node-events-raw.json
    let unknown = newer.request("node.invoke.result", json!({"id": "nope", "nodeId": id, "ok": true})).unwrap();
    assert_eq!(unknown, json!({"ok": true, "ignored": true}));
}

/// A57, the gateway's side: parameters that no parser should see are refused here, and results that
/// are no JSON harm nobody.
#[test]
fn sec_a57_malformed_parameters_and_results() {
    let mut scene = Scene::new();
    let id = scene.id();
    let deep = format!("{{\"command\":[\"true\"],\"x\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let bad_runs = [
        r#""x""#.to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        r#"{"command":["true"],"command":["rm"]}"#.to_owned(),
        r#"{"command":["true"],"env":{"A":"1","A":"2"}}"#.to_owned(),
        r#"{"command":["true"],"comm\u0061nd":["rm"]}"#.to_owned(),
        r#"{"command":["\ud800"]}"#.to_owned(),
        deep,
    ];
    for text in &bad_runs {
        let frame = format!(
            r#"{{"type":"req","id":"bad","method":"node.invoke","params":{{"nodeId":"{id}","command":"system.run","params":{text},"idempotencyKey":"k"}}}}"#
        );
        scene.owner.send_text(&frame);
        let error = scene.owner.response("bad").expect_err(text);
        assert_eq!(error["code"], "INVALID_REQUEST", "{text}: {error}");
    }
    scene.node.no_event("node.invoke.request");
    // A nesting that no parser should follow: refused, and the session goes on.
    let frame = format!(
        r#"{{"type":"req","id":"deep","method":"node.invoke","params":{{"nodeId":"{id}","command":"system.which","params":{}{},"idempotencyKey":"k"}}}}"#,
        "[".repeat(500_000),
        "]".repeat(500_000),
    );
    scene.owner.send_text(&frame);
    let answer = scene.owner.take("an answer to the deep frame", |frame| frame["type"] == "res");
    assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{answer}");
    scene.node.no_event("node.invoke.request");

    for text in ["{", "[]", "\"x\"", r#"{"a":1,"a":2}"#, r#""\ud800""#, "", "nul", &"[".repeat(200_000)] {
        let (invocation, request) = scene.dispatch("system.which", json!({}));
        scene.answer(&request, json!({"ok": true, "payloadJSON": text}));
        let answer = scene.owner.response(&invocation).unwrap();
        assert_eq!(answer["payloadJSON"], json!(text));
    }
    // A result that is itself no good is answered; the invocation waits for a good one.
    let (invocation, request) = scene.dispatch("system.which", json!({}));
    for bad in [
        json!({"id": request["id"], "nodeId": id}),
        json!({"id": request["id"], "nodeId": id, "ok": "yes"}),
        json!({"id": request["id"], "nodeId": id, "ok": true, "extra": 1}),
        json!({"id": 7, "nodeId": id, "ok": true}),
        json!({"id": request["id"], "nodeId": id, "ok": false, "error": "text"}),
    ] {
        let error = scene.node.request("node.invoke.result", bad.clone()).expect_err("was taken");
        assert_eq!(error["code"], "INVALID_REQUEST", "{bad}: {error}");
    }
    scene.answer(&request, json!({"ok": true, "payload": {"a": 1}}));
    assert_eq!(scene.owner.response(&invocation).unwrap()["payload"], json!({"a": 1}));
    scene.gateway.assert_alive();
}

/// frames/node-events-raw.json
#[test]
fn node_events_are_always_acknowledged() {
    let mut scene = Scene::with(Surface::mac(&["system.run", "system.which"]));
    let id = scene.id();
    for (params, handled, reason) in [
        (
            json!({"event": "node.host.stats", "payloadJSON": "{\"cpuCount\":8,\"loadAverage\":[1,2,3],\"memoryTotalBytes\":100,\"memoryFreeBytes\":50,\"diskTotalBytes\":10,\"diskAvailableBytes\":5}"}),
            true,
            "updated",
        ),
        (json!({"event": "node.host.stats", "payloadJSON": "{\"cpuCount\":\"x\"}"}), false, "invalid_payload"),
        (json!({"event": "node.host.stats", "payloadJSON": "{"}), false, "invalid_payload"),
        (
            json!({"event": "exec.started", "payloadJSON": "{\"sessionKey\":\"node\",\"runId\":\"r1\",\"host\":\"node\",\"command\":\"ls\"}"}),
            false,
            "unmatched_exec_event",
        ),
        (
            json!({"event": "exec.finished", "payloadJSON": "{\"sessionKey\":\"node\",\"runId\":\"r1\",\"host\":\"node\",\"command\":\"ls\",\"exitCode\":0,\"timedOut\":false,\"success\":true,\"output\":\"x\"}"}),
            false,
            "unmatched_exec_event",
        ),
        (json!({"event": "something.else", "payloadJSON": "{\"a\":1}"}), false, "unsupported_event"),
    ] {
        let ack = scene.node.request("node.event", params.clone()).unwrap();
        assert_eq!(
            ack,
            json!({"ok": true, "event": params["event"], "handled": handled, "reason": reason}),
            "{params}"
        );
    }
    let stats = scene.owner.request("node.describe", json!({"nodeId": id})).unwrap()["hostStats"].clone();
    assert_eq!((&stats["cpuCount"], &stats["memoryFreeBytes"]), (&json!(8), &json!(50)), "{stats}");
    let error = scene.node.request("node.event", json!({"event": "x", "payloadJSON": null})).unwrap_err();
    assert_eq!(error["message"], "invalid node.event params: at /payloadJSON: must be string");

    // A run that was dispatched on this connection matches, once.
    let (invocation, request) = scene.dispatch("system.run", json!({"command": ["true"]}));
    let run = parameters(&request)["runId"].clone();
    let finished = json!({"event": "exec.finished", "payloadJSON": json!({
        "sessionKey": "node", "runId": run, "host": "node", "command": "true", "exitCode": 0, "timedOut": false,
        "success": true, "output": "", "suppressNotifyOnExit": false,
    }).to_string()});
    assert_eq!(scene.node.request("node.event", finished.clone()).unwrap(), json!({"ok": true}));
    scene.answer(&request, json!({"ok": true}));
    scene.owner.response(&invocation).unwrap();
    assert_eq!(scene.node.request("node.event", finished).unwrap()["reason"], "unmatched_exec_event");
}

/// A58: the end of a run is taken once, from the connection that has run it.
#[test]
fn sec_a58_a_repeated_completion_is_nobodys() {
    let mut scene = Scene::new();
    let (invocation, request) = scene.dispatch("system.run", json!({"command": ["true"]}));
    let run = parameters(&request)["runId"].clone();
    let finished = json!({"event": "exec.finished", "payloadJSON": json!({"sessionKey": "node", "runId": run,
        "host": "node", "command": "true", "exitCode": 0, "timedOut": false, "success": true, "output": ""}).to_string()});
    // Another node of the same gateway has not run it.
    let other = Device::new();
    let mut stranger = Client::login(&scene.gateway, &Connect::node(&other, &scene.surface));
    assert_eq!(stranger.request("node.event", finished.clone()).unwrap()["reason"], "unmatched_exec_event");
    assert_eq!(scene.node.request("node.event", finished.clone()).unwrap(), json!({"ok": true}), "the first");
    scene.answer(&request, json!({"ok": true}));
    scene.owner.response(&invocation).unwrap();
    for _ in 0..4 {
        assert_eq!(scene.node.request("node.event", finished.clone()).unwrap()["reason"], "unmatched_exec_event");
    }
    // One that ended with its connection, told by the next one.
    let (_, request) = scene.dispatch("system.run", json!({"command": ["true"]}));
    let mut finished = finished;
    let payload = finished["payloadJSON"].as_str().unwrap();
    let next = payload.replace(run.as_str().unwrap(), parameters(&request)["runId"].as_str().unwrap());
    assert_ne!(payload, next);
    finished["payloadJSON"] = json!(next);
    scene.node = Client::login(&scene.gateway, &Connect::node(&scene.device, &scene.surface));
    for _ in 0..2 {
        assert_eq!(scene.node.request("node.event", finished.clone()).unwrap()["reason"], "unmatched_exec_event");
    }
}

/// Spec gateway §9 (13): what we do not serve is refused in words that silence the official node host.
#[test]
fn the_official_nodes_updates_are_answered_finally() {
    let mut scene = Scene::new();
    for (method, params) in [
        ("node.runnerInventory.update", json!({"protocolFeatures": [], "workerHost": {"enabled": false}})),
        ("node.skills.update", json!({"skills": []})),
        ("node.pluginTools.update", json!({"tools": []})),
    ] {
        if let Err(error) = scene.node.request(method, params) {
            assert_eq!(error["code"], "INVALID_REQUEST", "{method}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message == format!("unknown method: {method}") || message == "unauthorized role: node",
                "{method}: {error}"
            );
        }
    }
    let (_, request) = scene.dispatch("system.which", json!({}));
    assert_eq!(request["command"], "system.which");
}

/// What a node says of itself for people passes as data, escaped in no log line.
#[test]
fn hostile_names_do_not_break_the_log() {
    let gateway = Gateway::new();
    let mut surface = Surface::linux(&["system.which"]);
    surface.display_name = "evil\r\n\u{1b}[2Jroot logged in\u{2028}".to_owned();
    let device = Device::new();
    let _node = Client::login(&gateway, &Connect::node(&device, &surface));
    let row = gateway.owner().request("node.describe", json!({"nodeId": device.id()})).unwrap();
    assert_eq!(row["displayName"], json!(surface.display_name));
    let log = gateway.stop().stderr;
    assert!(!log.contains('\u{1b}') && !log.contains('\u{2028}') && !log.contains("\nroot"), "{log:?}");
}
