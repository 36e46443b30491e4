//! A run that an operator approved, from the outside: who may use the approval, for what, how often.
//! Cases A60 to A63 at the gateway, and what belongs to them of A48, A52, A55 and A66.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Map, Value, json};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use support::{Client, Connect, Device, FakeNode, Gateway, Reply, Surface, wait_until};
use support_exec::{App, Scratch, program, stays_absent};

/// What somebody needs to ask for a run and to have it approved.
const ASKER: &[&str] = &["operator.read", "operator.write", "operator.approvals"];
/// Longer than a test lasts.
const LIFE_MS: u64 = 60_000;

/// A gateway, a node that runs everything, another node, somebody who asks, and somebody who answers.
struct Scene {
    gateway: Gateway,
    node: FakeNode,
    other_node: FakeNode,
    asker: Client,
    device: Device,
    approver: Client,
    count: u32,
}

fn node(gateway: &Gateway) -> FakeNode {
    FakeNode::approved(gateway, &Surface::linux(&["system.run", "system.run.prepare"]), |_| {
        Reply::Payload(
            json!({"exitCode": 0, "timedOut": false, "success": true, "stdout": "", "stderr": "", "error": null}),
        )
    })
}

fn operator(gateway: &Gateway, device: &Device, scopes: &[&str]) -> Client {
    Client::login(gateway, &Connect::new("openclaw-linux", "ui", "operator", scopes).device(device))
}

fn plan() -> Value {
    json!({"argv": ["/bin/echo", "a b", "c"], "cwd": "/tmp", "commandText": "/bin/echo \"a b\" c", "commandPreview": null,
        "agentId": "main", "sessionKey": "agent:main:main",
        "policySnapshot": {"security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false,
            "allowlistRules": []}})
}

impl Scene {
    fn new() -> Self {
        let gateway = Gateway::new();
        let (node, other_node, device) = (node(&gateway), node(&gateway), Device::new());
        let asker = operator(&gateway, &device, ASKER);
        let approver =
            Client::login(&gateway, &Connect::cli(&["operator.admin"]).set("caps", json!(["exec-approvals"])));
        Self { gateway, node, other_node, asker, device, approver, count: 0 }
    }

    /// The members of a request for an approval of [`plan`] with an environment.
    fn request(&mut self) -> Map<String, Value> {
        self.count += 1;
        let request = json!({"id": format!("a-{}", self.count), "host": "node", "nodeId": self.node.id(), "command": "x",
            "systemRunPlan": plan(), "env": {"MODE": "fast"}, "timeoutMs": LIFE_MS, "twoPhase": true});
        request.as_object().unwrap().clone()
    }

    /// Has `request` answered with `decision`; its id.
    fn answered(&mut self, request: Map<String, Value>, decision: &str) -> String {
        let id = request["id"].as_str().unwrap().to_owned();
        let asked = self.asker.start("exec.approval.request", Value::Object(request));
        assert_eq!(self.asker.response(&asked).unwrap()["status"], "accepted");
        let wanted = |frame: &Value| frame["event"] == "exec.approval.requested" && frame["payload"]["id"] == json!(id);
        self.approver.take("the question", wanted);
        self.approver.request("exec.approval.resolve", json!({"id": id, "decision": decision})).unwrap();
        assert_eq!(self.asker.response(&asked).unwrap()["decision"], json!(decision));
        id
    }

    fn approved(&mut self, decision: &str) -> String {
        let request = self.request();
        self.answered(request, decision)
    }

    /// A run of [`plan`] under approval `id`.
    fn run(&self, id: &str) -> Map<String, Value> {
        let run = json!({"command": plan()["argv"], "rawCommand": plan()["commandText"], "cwd": "/tmp",
            "agentId": "main", "sessionKey": "agent:main:main", "env": {"MODE": "fast"}, "runId": id, "approved": true,
            "approvalDecision": "allow-once", "systemRunPlan": plan(), "timeoutMs": 5_000});
        run.as_object().unwrap().clone()
    }

    fn invoke(&mut self, run: Map<String, Value>) -> Result<Value, Value> {
        let node = self.node.id();
        invoke(&mut self.asker, &node, run)
    }

    /// What reached the node so far.
    fn ran(&self) -> Vec<Value> {
        self.node.invokes().iter().map(parameters).collect()
    }
}

fn invoke(client: &mut Client, node: &str, run: Map<String, Value>) -> Result<Value, Value> {
    client.request("node.invoke", invocation(node, run))
}

fn invocation(node: &str, run: Map<String, Value>) -> Value {
    json!({"nodeId": node, "command": "system.run", "params": run, "timeoutMs": 15_000, "idempotencyKey": "k"})
}

fn parameters(invoke: &Value) -> Value {
    serde_json::from_str(invoke["paramsJSON"].as_str().unwrap()).unwrap()
}

fn code(error: &Value) -> &str {
    error["details"]["code"].as_str().unwrap_or_default()
}

fn with(mut run: Map<String, Value>, change: Value) -> Map<String, Value> {
    run.extend(change.as_object().unwrap().clone());
    run
}

fn without(mut run: Map<String, Value>, name: &str) -> Map<String, Value> {
    run.remove(name).unwrap();
    run
}

/// A60: exactly one change each, and the approval is as good as before; unchanged it works, once.
#[test]
fn sec_a60_an_approval_is_for_nothing_else() {
    let mut scene = Scene::new();
    let id = scene.approved("allow-once");
    let mut other_plan = plan();
    other_plan["argv"][1] = json!("x");
    let same = scene.run(&id);
    let changed = [
        ("argv element", with(same.clone(), json!({"command": ["/bin/echo", "a b", "d"]}))),
        ("argv element more", with(same.clone(), json!({"command": ["/bin/echo", "a b", "c", ""]}))),
        ("argv split", with(same.clone(), json!({"command": ["/bin/echo", "a", "b", "c"]}))),
        ("argv whitespace", with(same.clone(), json!({"command": ["/bin/echo", "a  b", "c"]}))),
        ("argv whitespace at an end", with(same.clone(), json!({"command": ["/bin/echo", "a b", "c "]}))),
        ("argv text", with(same.clone(), json!({"command": "/bin/echo \"a b\" c"}))),
        ("raw command", with(same.clone(), json!({"rawCommand": "/bin/echo \"a  b\" c"}))),
        ("plan", with(same.clone(), json!({"systemRunPlan": other_plan}))),
        ("cwd", with(same.clone(), json!({"cwd": "/"}))),
        ("cwd's spelling", with(same.clone(), json!({"cwd": "/tmp/"}))),
        ("agent", with(same.clone(), json!({"agentId": "other"}))),
        ("session", with(same.clone(), json!({"sessionKey": "agent:main:other"}))),
    ];
    for (what, run) in changed {
        let error = scene.invoke(run).expect_err(what);
        assert_eq!(code(&error), "APPROVAL_REQUEST_MISMATCH", "{what}: {error}");
    }
    for (what, run) in [
        ("env added", with(same.clone(), json!({"env": {"MODE": "fast", "PAGER": "cat"}}))),
        ("env changed", with(same.clone(), json!({"env": {"MODE": "slow"}}))),
        ("env in another case", with(same.clone(), json!({"env": {"mode": "fast"}}))),
        ("env emptied", with(same.clone(), json!({"env": {}}))),
        ("env removed", without(same.clone(), "env")),
    ] {
        let error = scene.invoke(run).expect_err(what);
        assert_eq!(code(&error), "APPROVAL_ENV_MISMATCH", "{what}: {error}");
    }
    let other = scene.other_node.id();
    let error = invoke(&mut scene.asker, &other, same.clone()).unwrap_err();
    assert_eq!(code(&error), "APPROVAL_NODE_MISMATCH", "{error}");
    assert_eq!((scene.ran().len(), scene.other_node.invokes().len()), (0, 0));

    // Nobody was asked about the screen: such a run goes without the word, so that the node asks.
    for flag in [json!(true), json!("true")] {
        scene.invoke(with(same.clone(), json!({"needsScreenRecording": flag}))).unwrap();
        let ran = scene.ran().pop().unwrap();
        for member in ["approved", "approvalDecision", "approvalSource"] {
            assert!(ran.get(member).is_none(), "{ran}");
        }
        assert_eq!(ran["needsScreenRecording"], flag);
    }

    scene.invoke(same.clone()).unwrap();
    let ran = scene.ran().pop().unwrap();
    assert_eq!((&ran["approved"], &ran["approvalDecision"]), (&json!(true), &json!("allow-once")), "{ran}");
    assert_eq!((&ran["command"], &ran["env"]), (&plan()["argv"], &json!({"MODE": "fast"})));
    assert_eq!((&ran["timeoutMs"], &ran["systemRunPlan"]), (&json!(5_000), &plan()));
    let error = scene.invoke(same).unwrap_err();
    assert_eq!(code(&error), "APPROVAL_REQUIRED", "once");
    assert_eq!(scene.ran().len(), 3);
}

/// A60: an environment that nobody was shown has no approval; and a time that nobody was shown is
/// cut to what can be expected.
#[test]
fn sec_a60_what_was_not_shown_was_not_approved() {
    let mut scene = Scene::new();
    let request = without(scene.request(), "env");
    let id = scene.answered(request, "allow-always");
    let run = scene.run(&id);
    let error = scene.invoke(run.clone()).unwrap_err();
    assert_eq!(code(&error), "APPROVAL_ENV_BINDING_MISSING", "{error}");
    let run = without(run, "env");
    const MOST_MS: u64 = 30 * 60 * 1000;
    for (asked, forwarded) in [
        (json!(1_500), json!(1_500)),
        (json!(u64::MAX), json!(MOST_MS)),
        (json!(0), json!(MOST_MS)),
        (json!(-1), json!(MOST_MS)),
        (json!("5000"), json!(MOST_MS)),
        (Value::Null, Value::Null),
    ] {
        // A key that is no variable's name is not bound, so it does not go along.
        scene.invoke(with(run.clone(), json!({"timeoutMs": asked, "env": {"A B": "1", "": "2"}}))).unwrap();
        let ran = scene.ran().pop().unwrap();
        assert_eq!(ran["timeoutMs"], forwarded, "{asked}");
        assert_eq!((&ran["approvalDecision"], ran.get("env")), (&json!("allow-always"), None), "{ran}");
    }
    // What the caller leaves out comes from the record.
    let bare = json!({"runId": id, "approved": true});
    scene.invoke(bare.as_object().unwrap().clone()).unwrap();
    let ran = scene.ran().pop().unwrap();
    for (member, planned) in [("command", "argv"), ("cwd", "cwd"), ("agentId", "agentId"), ("sessionKey", "sessionKey")]
    {
        assert_eq!(ran[member], plan()[planned], "{ran}");
    }

    // What a command is to be given is part of the question.
    let request = with(scene.request(), json!({"env": {"NOTE": "\u{1b}[2J"}, "warningText": "careful"}));
    scene.asker.start("exec.approval.request", Value::Object(request));
    let shown = scene.approver.event("exec.approval.requested");
    assert_eq!(shown["request"]["warningText"], "careful\nsets NOTE=\\u{1B}[2J", "{shown}");
}

/// A61: an approval belongs to who asked for it, at the node it was asked for.
#[test]
fn sec_a61_nobody_else_can_use_an_approval() {
    let mut scene = Scene::new();
    let id = scene.approved("allow-once");
    let run = scene.run(&id);
    let (node, other_node) = (scene.node.id(), scene.other_node.id());
    let mut thief = operator(&scene.gateway, &Device::new(), ASKER);
    let mut admin = Client::login(&scene.gateway, &Connect::cli(&["operator.admin"]));
    for client in [&mut thief, &mut admin] {
        let error = invoke(client, &node, run.clone()).unwrap_err();
        assert_eq!(code(&error), "APPROVAL_DEVICE_MISMATCH", "{error}");
        let error = invoke(client, &other_node, run.clone()).unwrap_err();
        assert_eq!(code(&error), "APPROVAL_NODE_MISMATCH", "{error}");
    }
    assert_eq!((scene.ran().len(), scene.other_node.invokes().len()), (0, 0));
    // The device is who asked, not the connection.
    scene.asker = operator(&scene.gateway, &scene.device, ASKER);
    scene.invoke(run).unwrap();
    assert_eq!(scene.ran().len(), 1);

    // Without a device the connection is who asked.
    scene.asker = Client::login(&scene.gateway, &Connect::backend(ASKER));
    let id = scene.approved("allow-once");
    let run = scene.run(&id);
    let mut twin = Client::login(&scene.gateway, &Connect::backend(ASKER));
    for client in [&mut thief, &mut twin] {
        let error = invoke(client, &node, run.clone()).unwrap_err();
        assert_eq!(code(&error), "APPROVAL_CLIENT_MISMATCH", "{error}");
    }
    scene.invoke(run).unwrap();
    assert_eq!(scene.ran().len(), 2);

    // An answer for the requester's own use is no approval of a run.
    let mut request = scene.request();
    request.insert("host".to_owned(), json!("gateway"));
    request.remove("nodeId");
    let id = scene.answered(request, "allow-once");
    let run = scene.run(&id);
    assert_eq!(code(&scene.invoke(run).unwrap_err()), "APPROVAL_NODE_BINDING_MISSING");
    let mut request = without(scene.request(), "systemRunPlan");
    request.extend([("host".to_owned(), json!("gateway")), ("commandArgv".to_owned(), plan()["argv"].clone())]);
    let id = scene.answered(request, "allow-once");
    let run = scene.run(&id);
    assert_eq!(code(&scene.invoke(run).unwrap_err()), "APPROVAL_REQUEST_MISMATCH");
    assert_eq!(scene.ran().len(), 2);
}

/// A62: twenty at once, from twenty connections of the device that asked: one of them runs. In
/// every round; and the rounds in which several were under way together are counted.
#[test]
fn sec_a62_one_approval_is_one_run() {
    let mut scene = Scene::new();
    let mut racers: Vec<Client> = (0..20).map(|_| operator(&scene.gateway, &scene.device, ASKER)).collect();
    let mut hits = 0;
    for round in 0..10 {
        let id = scene.approved("allow-once");
        let frame = invocation(&scene.node.id(), scene.run(&id));
        let barrier = Barrier::new(racers.len());
        let started = Instant::now();
        let race = |racer: &mut Client| {
            barrier.wait();
            let sent = started.elapsed();
            let result = racer.request("node.invoke", frame.clone());
            (result, sent, started.elapsed())
        };
        let race = &race;
        let results: Vec<(Result<Value, Value>, Duration, Duration)> = std::thread::scope(|scope| {
            let threads: Vec<_> = racers.iter_mut().map(|racer| scope.spawn(move || race(racer))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won: Vec<_> = results.iter().filter(|(result, ..)| result.is_ok()).collect();
        assert_eq!(won.len(), 1, "round {round}");
        for (result, ..) in &results {
            if let Err(error) = result {
                assert_eq!(code(error), "APPROVAL_REQUIRED", "{error}");
            }
        }
        assert_eq!(scene.ran().len(), round + 1, "round {round}");
        // Sent before the winner had its answer: a real competitor.
        let rivals = results.iter().filter(|(result, sent, _)| result.is_err() && *sent < won[0].2).count();
        hits += usize::from(rivals > 0);
    }
    println!("the race was hit in {hits} of 10 rounds");
    assert!(hits > 0, "nothing raced");
}

/// A63: what is no yes is a no; and where nobody can answer, that is said at once.
#[test]
fn sec_a63_only_a_recorded_yes_runs() {
    let mut scene = Scene::new();
    let refused = |scene: &mut Scene, id: &str, expected: &str| {
        for decision in ["allow-once", "allow-always"] {
            let run = with(scene.run(id), json!({"approvalDecision": decision}));
            let error = scene.invoke(run).unwrap_err();
            assert_eq!(code(&error), expected, "{id}: {error}");
        }
    };
    // Odd words are no answer: the record goes on waiting, and waiting is no yes.
    let request = scene.request();
    let id = request["id"].as_str().unwrap().to_owned();
    let asked = scene.asker.start("exec.approval.request", Value::Object(request));
    scene.asker.response(&asked).unwrap();
    for odd in
        [json!("allow"), json!("ALLOW-ONCE"), json!(" allow-once"), json!(true), Value::Null, json!(""), json!({})]
    {
        let error = scene.approver.request("exec.approval.resolve", json!({"id": id, "decision": odd})).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{odd}: {error}");
    }
    assert!(scene.approver.request("exec.approval.resolve", json!({"id": id})).is_err());
    refused(&mut scene, &id, "APPROVAL_REQUIRED");
    // The same words from the caller claim nothing: the run goes on without any.
    for odd in [json!("allow"), json!("ALLOW-ONCE"), json!(true), json!(""), json!({})] {
        let run = with(without(scene.run(&id), "approved"), json!({"approvalDecision": odd}));
        scene.invoke(run).unwrap();
        let ran = scene.ran().pop().unwrap();
        assert!(ran.get("approved").is_none() && ran.get("approvalDecision").is_none(), "{odd}: {ran}");
    }
    let plain = scene.ran().len();
    scene.approver.request("exec.approval.resolve", json!({"id": id, "decision": "deny"})).unwrap();
    refused(&mut scene, &id, "APPROVAL_REQUIRED");
    // A no of the caller is final too, whatever the record says.
    let id = scene.approved("allow-once");
    let run = with(scene.run(&id), json!({"approvalDecision": "deny"}));
    assert_eq!(code(&scene.invoke(run).unwrap_err()), "APPROVAL_REQUIRED");

    // The time is over, and with it the yes.
    let request = with(scene.request(), json!({"timeoutMs": 700}));
    let id = scene.answered(request, "allow-once");
    let answered = Instant::now();
    wait_until("the end of its time", || (answered.elapsed() > Duration::from_millis(700)).then_some(()));
    refused(&mut scene, &id, "APPROVAL_EXPIRED");

    // The approver dies: nobody has answered.
    let request = with(scene.request(), json!({"timeoutMs": 600}));
    let id = request["id"].as_str().unwrap().to_owned();
    let asked = scene.asker.start("exec.approval.request", Value::Object(request));
    scene.asker.response(&asked).unwrap();
    scene.approver.event_frame("exec.approval.requested");
    scene.approver.send_bytes(b"\xff\x80\0\0\0\0");
    assert!(scene.asker.response(&asked).unwrap()["decision"].is_null());
    refused(&mut scene, &id, "APPROVAL_EXPIRED");
    drop(scene.approver.closed());

    // No approver at all: said at once.
    let request = without(scene.request(), "twoPhase");
    let id = request["id"].as_str().unwrap().to_owned();
    let started = Instant::now();
    let answer = scene.asker.request("exec.approval.request", Value::Object(request)).unwrap();
    assert!(answer["decision"].is_null() && started.elapsed() < Duration::from_secs(5), "{answer}");
    refused(&mut scene, &id, "APPROVAL_REQUIRED");
    assert_eq!(scene.ran().len(), plain, "nothing ran");
}

/// The want of an answer is worth one run, of what was asked, to who asked and may approve; the node
/// then judges by its own askFallback. Source: spec exec g.6.
#[test]
fn sec_a63_no_answer_is_used_once_and_only_as_what_it_is() {
    let mut scene = Scene::new();
    let id = scene.approved("allow-once");
    let fallback = |scene: &Scene, id: &str| {
        let run = without(without(scene.run(id), "approved"), "approvalDecision");
        with(run, json!({"approvalSource": "ask-fallback"}))
    };
    let run = fallback(&scene, &id);
    assert_eq!(code(&scene.invoke(run).unwrap_err()), "APPROVAL_SOURCE_MISMATCH", "somebody did answer");
    let request = with(scene.request(), json!({"timeoutMs": 500}));
    let id = request["id"].as_str().unwrap().to_owned();
    let asked = scene.asker.start("exec.approval.request", Value::Object(request));
    scene.asker.response(&asked).unwrap();
    let run = fallback(&scene, &id);
    assert_eq!(code(&scene.invoke(run.clone()).unwrap_err()), "APPROVAL_REQUIRED", "somebody still may");
    assert!(scene.asker.response(&asked).unwrap()["decision"].is_null());
    let mut writer = operator(&scene.gateway, &scene.device, &["operator.write"]);
    let node = scene.node.id();
    assert_eq!(code(&invoke(&mut writer, &node, run.clone()).unwrap_err()), "APPROVAL_REQUIRED", "may not approve");
    let changed = with(run.clone(), json!({"cwd": "/"}));
    assert_eq!(code(&scene.invoke(changed).unwrap_err()), "APPROVAL_REQUEST_MISMATCH");
    let both = with(run.clone(), json!({"approved": true}));
    assert_eq!(code(&scene.invoke(both).unwrap_err()), "APPROVAL_SOURCE_MISMATCH");
    assert_eq!(scene.ran().len(), 0);
    scene.invoke(run.clone()).unwrap();
    let ran = scene.ran().pop().unwrap();
    assert_eq!((&ran["approvalSource"], ran.get("approved")), (&json!("ask-fallback"), None), "{ran}");
    assert_eq!(code(&scene.invoke(run).unwrap_err()), "APPROVAL_REQUIRED", "once");
    assert_eq!(scene.ran().len(), 1);
}

/// A52, A55: what a caller adds to its parameters loosens nothing, and whom it names is its claim.
#[test]
fn sec_a52_a55_parameters_do_not_choose_the_policy() {
    let mut scene = Scene::new();
    let run = json!({"command": ["/bin/echo"], "security": "full", "ask": "off", "elevated": true, "host": "gateway",
        "agentId": "trusted", "sessionKey": "agent:trusted:main", "params": {"agentId": "nested"},
        "context": {"agentId": "nested"}});
    scene.invoke(run.as_object().unwrap().clone()).unwrap();
    let mut ran = scene.ran().pop().unwrap();
    assert!(ran.as_object_mut().unwrap().remove("runId").is_some());
    let claims = json!({"command": ["/bin/echo"], "agentId": "trusted", "sessionKey": "agent:trusted:main"});
    assert_eq!(ran, claims, "the claims alone");
    // A claim is what an approval of it is bound to, and what the person is shown.
    let id = scene.approved("allow-once");
    let foreign = with(scene.run(&id), json!({"agentId": "trusted"}));
    assert_eq!(code(&scene.invoke(foreign).unwrap_err()), "APPROVAL_REQUEST_MISMATCH");
    let resolved = wait_until("the record's end", || {
        let frame = scene.approver.event("exec.approval.resolved");
        (frame["id"] == json!(id)).then_some(frame)
    });
    assert_eq!(resolved["request"]["agentId"], "main", "{resolved}");
}

/// A59: there is no method that writes the configuration, whoever asks and however it is spelled.
#[test]
fn sec_a59_the_configuration_is_written_by_nobody() {
    let mut gateway = Gateway::new();
    let path = gateway.state.join("openclaw.json");
    let before = std::fs::read(&path).unwrap();
    let node = node(&gateway);
    let loose = json!({"tools": {"exec": {"security": "full", "ask": "off", "mode": "full", "safeBins": ["sh"]}},
        "gateway": {"auth": {"mode": "none"}, "controlUi": {"allowedOrigins": ["*"]},
            "nodes": {"allowCommands": ["system.run"]}},
        "agents": {"list": [{"id": "main", "tools": {"exec": {"security": "full"}}}]}});
    for scopes in [&["operator.admin"][..], &["operator.write"]] {
        let mut client = operator(&gateway, &Device::new(), scopes);
        for method in ["config.set", "config.patch", "config.apply", "config.schema.set", "Config.Set", "config.set "] {
            for params in [json!({"raw": loose.to_string()}), json!({"patch": loose}), loose.clone()] {
                let error = client.request(method, params).unwrap_err();
                assert_eq!(error["code"], "INVALID_REQUEST", "{method}: {error}");
                assert!(error["message"].as_str().unwrap().contains("unknown method"), "{method}: {error}");
            }
        }
        for command in ["config.set", "gateway.config.apply", "system.execApprovals.set"] {
            let invoke = json!({"nodeId": node.id(), "command": command, "params": loose, "idempotencyKey": "k"});
            assert_eq!(client.request("node.invoke", invoke).unwrap_err()["code"], "INVALID_REQUEST", "{command}");
        }
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(node.invokes().len(), 0);
    gateway.assert_alive();
}

/// A66: what cannot be seen is shown as an escape, and what runs is what was sent.
#[test]
fn sec_a66_hidden_characters_are_shown_to_approvers() {
    const HIDDEN: &str = "\u{200B}\u{200D}\u{202E}\u{2066}\u{2069}\u{FEFF}\u{AD}\u{E0061}\u{2028}\u{A0}";
    let mut scene = Scene::new();
    let mut hiding = plan();
    hiding["argv"] = json!(["/bin/echo", HIDDEN]);
    hiding["commandText"] = json!(format!("/bin/echo {HIDDEN}"));
    let request = with(scene.request(), json!({"systemRunPlan": hiding}));
    let id = request["id"].as_str().unwrap().to_owned();
    let asked = scene.asker.start("exec.approval.request", Value::Object(request));
    scene.asker.response(&asked).unwrap();
    let listed = scene.approver.request("exec.approval.list", json!({})).unwrap();
    let got = scene.approver.request("exec.approval.get", json!({"id": id})).unwrap();
    let shown = scene.approver.event("exec.approval.requested");
    for text in [&shown["request"]["command"], &listed[0]["request"]["command"], &got["commandText"]] {
        let text = text.as_str().unwrap();
        assert!(text.is_ascii() && text.matches("\\u{").count() == HIDDEN.chars().count(), "{text}");
    }
    scene.approver.request("exec.approval.resolve", json!({"id": id, "decision": "allow-once"})).unwrap();
    scene.asker.response(&asked).unwrap();
    let run = json!({"runId": id, "approved": true, "env": {"MODE": "fast"}});
    scene.invoke(run.as_object().unwrap().clone()).unwrap();
    assert_eq!(scene.ran().pop().unwrap()["command"], json!(["/bin/echo", HIDDEN]));
}

// ---- the whole way: gateway, node, app ----

/// An operator of the app's own gateway, and the app's node.
fn owner(scratch: &Scratch) -> (Client, String) {
    let socket = scratch.state().join("gateway.sock");
    wait_until("the app's gateway", || UnixStream::connect(&socket).ok());
    let config: Value = serde_json::from_slice(&std::fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let mut client = Client::unix_at(&socket);
    let connect = Connect::backend(&["operator.read", "operator.write", "operator.approvals"]);
    client.connect(&connect.token(config["gateway"]["auth"]["token"].as_str().unwrap())).unwrap();
    let node = wait_until("the node", || {
        let list = client.request("node.list", json!({})).unwrap();
        let is_ready = |row: &&Value| row["approvalState"] == "approved" && row["connected"] == true;
        Some(list["nodes"].as_array()?.iter().find(is_ready)?["nodeId"].as_str()?.to_owned())
    });
    (client, node)
}

/// A60, A62 through gateway, node and app: what was prepared and approved runs, once, where the owner
/// trusts the gateway's approvals; elsewhere the app's own person has the word, and here is none.
#[test]
fn sec_a60_a62_the_approved_plan_runs_once_on_a_real_node() {
    for trusted in [true, false] {
        let scratch = Scratch::new();
        scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": trusted},
            "defaults": {"security": "allowlist", "ask": "on-miss", "askFallback": "deny"}}));
        let _app = App::start(&scratch);
        let (mut owner, node) = owner(&scratch);
        let touch = std::fs::canonicalize(program("touch")).unwrap();
        let command = json!({"command": [touch, scratch.canary()], "cwd": scratch.path().canonicalize().unwrap()});
        let prepare =
            json!({"nodeId": node, "command": "system.run.prepare", "params": command, "idempotencyKey": "p"});
        let plan = owner.request("node.invoke", prepare).unwrap()["payload"]["plan"].clone();
        let id = if trusted { "trusted" } else { "not-trusted" };
        let asked = owner.start(
            "exec.approval.request",
            json!({"id": id, "host": "node", "nodeId": node, "command": "x",
            "systemRunPlan": plan, "twoPhase": true, "requireDeliveryRoute": false}),
        );
        assert_eq!(owner.response(&asked).unwrap()["status"], "accepted");
        owner.request("exec.approval.resolve", json!({"id": id, "decision": "allow-once"})).unwrap();
        let mut run = |key: &str| {
            let params = json!({"command": plan["argv"], "cwd": plan["cwd"], "runId": id, "approved": true});
            let invoke = json!({"nodeId": node, "command": "system.run", "params": params, "idempotencyKey": key});
            owner.request("node.invoke", invoke)
        };
        let first = run("1");
        if trusted {
            assert_eq!(first.unwrap()["payload"]["success"], true);
            assert!(scratch.canary().exists());
            std::fs::remove_file(scratch.canary()).unwrap();
        } else {
            let error = first.unwrap_err();
            assert!(error["message"].as_str().unwrap().contains("trustGatewayApprovals"), "{error}");
        }
        assert_eq!(code(&run("2").unwrap_err()), "APPROVAL_REQUIRED");
        stays_absent(&scratch.canary());
    }
}
