//! The node host between a gateway and an app that both do what a recorded case says. Never more
//! permissive than `out`; where ours differs, the case and the reason are printed, and any other
//! difference fails. `OPENCLAW_VECTORS_DIR` names another directory than `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_node;
mod support_vectors;

use openclaw::exec::analysis::Host;
use openclaw::exec::approval::{Guards, PolicySource};
use openclaw::exec::policy::Rules;
use openclaw::identity::device::DeviceKey;
use openclaw::identity::secret::Secret;
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use openclaw::node::{self, ExecHost, NodeOptions};
use openclaw::protocol::exec_host::{Request, parse_line};
use openclaw::protocol::policy::{Ask, Fence, Security};
use openclaw::state::approvals::{AllowEntry, EffectivePolicy};
use openclaw::state::audit::AuditLog;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::poll;
use openclaw::sys::wake::Wake;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use support_node::{PATIENCE, Script, Seat, TOKEN, credentials};
use support_vectors::cases;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn says(case: &Value, what: &str) {
    println!("{}: {what}", text(&case["id"]));
}

/// The part of the fixture tree that these cases use.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ocf-{}", openclaw::identity::random::uuid()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let path = path.canonicalize().unwrap();
        std::fs::create_dir_all(path.join("usr/local/bin")).unwrap();
        std::fs::create_dir(path.join("work")).unwrap();
        let hello = path.join("usr/local/bin/hello");
        std::fs::write(&hello, "#!/bin/sh\necho hello \"$@\"\n").unwrap();
        std::fs::set_permissions(&hello, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// What a node that runs commands itself needs beside its policy.
    fn guards(&self) -> Arc<Guards> {
        let environment = Environment { state_dir: Some(self.0.join("state")), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        Arc::new(Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) })
    }

    fn fill(&self, value: &Value) -> Value {
        serde_json::from_str(&value.to_string().replace("$ROOT", self.0.to_str().unwrap())).unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The document of a case, which allows its program.
struct Fixed(EffectivePolicy);

impl Fixed {
    fn of(policy: &Value, root: &Root) -> Self {
        let entry = AllowEntry {
            id: "e".to_owned(),
            pattern: root.0.join("usr/local/bin/hello").to_str().unwrap().to_owned(),
            arg_pattern: None,
            source: None,
        };
        Self(EffectivePolicy {
            security: Security::from_word(policy["security"].as_str().unwrap_or("full")).unwrap(),
            ask: Ask::from_word(policy["ask"].as_str().unwrap_or("off")).unwrap(),
            ask_fallback: Security::Deny,
            auto_allow_skills: false,
            allowlist: vec![entry],
            denylist: Vec::new(),
            fence: Fence::State,
            trust_gateway_approvals: false,
            broken: None,
            snapshot: "1".to_owned(),
        })
    }
}

impl PolicySource for Fixed {
    fn rules(&self, _: Option<&str>) -> Rules {
        Rules { policy: self.0.clone(), safe_bins: Arc::default(), skills: Vec::new(), strict_inline_eval: false }
    }

    fn add_allow_always(&self, _: Option<&str>, _: &AllowEntry) -> Result<(), String> {
        Err("these tests add nothing".to_owned())
    }

    fn record_use(&self, _: &AllowEntry, _: &str, _: &str) {}
}

fn app_at(socket: &Path) -> ExecHost {
    let token = Box::new(|| Ok(Secret::new(TOKEN.to_owned())));
    ExecHost::App(ExecHostClient::new(socket.to_path_buf(), token, ExecHostPeer::Official))
}

/// A node that is logged in to a scripted gateway; it ends with `test`.
fn with_node<T>(exec_host: ExecHost, policy: Fixed, test: impl FnOnce(&mut Seat, &Value) -> T) -> T {
    let script = Script::new();
    let options = NodeOptions {
        endpoint: script.endpoint(),
        client: NodeOptions::headless("a test".to_owned(), "i-1".to_owned()),
        device: Arc::new(DeviceKey::generate()),
        credentials: Box::new(credentials),
        tokens: None,
        pins: None,
        host: Host::of_this_process(None),
        policy: Arc::new(policy),
        surface: node::surface(),
        notifications: Arc::default(),
        permissions: Arc::new(openclaw::desktop::permissions::Unsupported),
        standing: Arc::default(),
        exec_host,
        policy_editor: None,
        declares: None,
        abilities: None,
        computer: None,
    };
    let stop = Arc::new(Wake::new().unwrap());
    let stopped = Arc::clone(&stop);
    let node = thread::spawn(move || node::run(options, &stopped));
    let (mut seat, connect) = script.logged_in();
    let result = test(&mut seat, &connect);
    stop.fire();
    drop(seat);
    node.join().unwrap().unwrap();
    result
}

/// What an app saw of one request.
struct Seen {
    request: Value,
    half_closed: bool,
}

/// Takes one request, if one comes before `over`, tells so, and answers it as the case says.
fn app(listener: &UnixListener, answer: &Value, over: &Wake, arrived: &Wake) -> Option<Seen> {
    let ends = [(listener.as_fd(), poll::Interest::Readable), (over.fd(), poll::Interest::Readable)];
    poll::wait(&ends, Some(Instant::now() + PATIENCE)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let Ok(Request::Exec(envelope)) = parse_line(line.trim_end().as_bytes()) else { panic!("{line}") };
    let request = serde_json::from_str(&envelope.request_json).unwrap();
    arrived.fire();
    let half_closed = match answer {
        Value::Object(body) => {
            let half_closed = reader.read(&mut [0]).unwrap() == 0;
            let mut body = body.clone();
            body.extend([("type".to_owned(), json!("exec-res")), ("id".to_owned(), json!(envelope.id))]);
            (&stream).write_all(format!("{}\n", Value::Object(body)).as_bytes()).unwrap();
            half_closed
        }
        silent if silent == "silent" => {
            let deadline = Some(Instant::now() + PATIENCE);
            let gone = poll::wait_gone(stream.as_fd(), &Wake::new().unwrap(), deadline).unwrap();
            assert_eq!(gone, poll::Gone::Peer, "a cancel closes the connection");
            false
        }
        _ => false,
    };
    Some(Seen { request, half_closed })
}

/// What the gateway heard about one run.
struct Heard {
    events: Vec<Value>,
    result: Option<Value>,
}

fn hear(seat: &mut Seat) -> Heard {
    let mut events = Vec::new();
    loop {
        let (method, params) = seat.request();
        if method == "node.invoke.result" {
            return Heard { events, result: Some(params) };
        }
        let payload: Value = serde_json::from_str(text(&params["payloadJSON"])).unwrap();
        events.push(json!({"event": params["event"], "payload": payload}));
    }
}

/// Runs one case; what the app and the gateway saw.
fn play(case: &Value, input: &Value, root: &Root) -> (Option<Seen>, Heard) {
    let socket = root.0.join("s");
    let _ = std::fs::remove_file(&socket);
    let listener = (input["appServer"] != "none").then(|| UnixListener::bind(&socket).unwrap());
    let (over, arrived) = (Wake::new().unwrap(), Wake::new().unwrap());
    thread::scope(|scope| {
        let answer = &input["appServer"];
        let app = listener.as_ref().map(|listener| scope.spawn(|| app(listener, answer, &over, &arrived)));
        // Before 2026.9 the app was asked whenever there was one.
        let word = text(&input["env"]["OPENCLAW_NODE_EXEC_HOST"]).trim().to_lowercase();
        let is_local = case["era"] == "2026.9" && word != "app" && !input["env"].is_null();
        let exec_host = if is_local { ExecHost::Local(root.guards()) } else { app_at(&socket) };
        let heard = with_node(exec_host, Fixed::of(&input["policy"], root), |seat, node| {
            let mut params = input["params"].clone();
            if input["usesPreparedPlan"] == true {
                let request = json!({"command": params["command"], "cwd": params["cwd"], "agentId": params["agentId"],
                    "sessionKey": params["sessionKey"]});
                seat.invoke(node, "prepare", "system.run.prepare", &request.to_string(), 10_000, "prepare");
                let prepared: Value = serde_json::from_str(text(&seat.result()["payloadJSON"])).unwrap();
                params["systemRunPlan"] = prepared["plan"].clone();
            }
            seat.invoke(node, "run", "system.run", &params.to_string(), 20_000, "run");
            if input.get("abortAfterMs").is_some() {
                poll::wait(&[(arrived.fd(), poll::Interest::Readable)], Some(Instant::now() + PATIENCE)).unwrap();
                assert!(arrived.is_fired(), "{case}");
                seat.event("node.invoke.cancel", &json!({"invokeId": "run", "nodeId": node["device"]["id"]}));
                // Whatever it still had to say of the run would come before this.
                seat.invoke(node, "after", "system.which", r#"{"bins":["sh"]}"#, 5_000, "after");
                let Heard { events, result } = hear(seat);
                return Heard { events, result: result.filter(|result| result["id"] != "after") };
            }
            hear(seat)
        });
        // Of a run that was refused, or done here, the app hears nothing.
        over.fire();
        (app.and_then(|app| app.join().unwrap()), heard)
    })
}

#[test]
fn vectors_mac_forward() {
    let root = Root::new();
    for case in cases("mac-forward.jsonl") {
        let (input, out) = (root.fill(&case["in"]), root.fill(&case["out"]));
        let (seen, heard) = play(&case, &input, &root);
        let newer = case["era"] == "2026.9";
        let Some(result) = heard.result else {
            assert!(out["result"].is_null() && heard.events.is_empty() && out["events"] == json!([]), "{case}");
            continue;
        };
        assert!(!out["result"].is_null(), "{case}");
        let ok = result["ok"] == true;
        let decision = input["params"]["approvalDecision"].as_str();
        if !ok && out["result"]["ok"] == true {
            let message = text(&result["error"]["message"]);
            let why = match message {
                "SYSTEM_RUN_DENIED: user denied" if decision == Some("deny") => "a no is final (A113)",
                "SYSTEM_RUN_DISABLED: security=deny" if !newer => "the owner's deny holds before the app is asked",
                "COMPANION_APP_UNAVAILABLE: macOS app exec host unreachable" if input["appServer"] == "none" => {
                    "without the app nothing runs"
                }
                _ => panic!("{message}: {case}"),
            };
            assert!(seen.is_none(), "{case}");
            assert_eq!(heard.events[0]["event"], "exec.denied", "{case}");
            says(&case, &format!("ours is stricter: {why}"));
            continue;
        }
        let seen_request = seen.as_ref().map(|seen| &seen.request);
        if ok && out["result"]["ok"] == false {
            // The app that answers here has no policy. Ours has the owner's, and nothing that we sent
            // it stands for an answer.
            assert_eq!(
                (&input["policy"]["ask"], text(&out["result"]["error"]["message"])),
                (&json!("always"), "SYSTEM_RUN_DENIED: approval required"),
                "more permissive: {case}"
            );
            assert!(seen_request.unwrap()["approvalDecision"].is_null(), "more permissive: {case}");
            says(&case, "the app asks its person instead of the node refusing");
            continue;
        }
        compare_outcome(&case, &out, &result, &heard.events, newer);
        match (seen, &out["appReceived"]) {
            (None, Value::Null) => {}
            (Some(seen), theirs) if !theirs.is_null() => compare_request(&case, &input, theirs, &seen, newer),
            (seen, _) => panic!("the app saw {:?}: {case}", seen.map(|seen| seen.request)),
        }
    }
}

fn compare_outcome(case: &Value, out: &Value, result: &Value, events: &[Value], newer: bool) {
    let theirs = &out["result"];
    if theirs["ok"] == true {
        let payload: Value = serde_json::from_str(text(&result["payloadJSON"])).unwrap();
        assert_eq!(payload, theirs["payload"], "{case}");
    } else {
        assert_eq!(result["error"]["message"], theirs["error"]["message"], "{case}");
        let code = &theirs["error"]["code"];
        let renamed = !newer && *code == "UNAVAILABLE" && result["error"]["code"] == "SYSTEM_RUN_DENIED";
        assert!(result["error"]["code"] == *code || renamed, "{case}");
    }
    let mut expected = out["events"].as_array().unwrap().clone();
    let app_reason = &case["in"]["appServer"]["error"]["reason"];
    for (theirs, ours) in expected.iter_mut().zip(events) {
        let (theirs, ours) = (&mut theirs["payload"], &ours["payload"]);
        if !newer || theirs.get("suppressNotifyOnExit").is_none() {
            theirs["suppressNotifyOnExit"] = ours["suppressNotifyOnExit"].clone();
        }
        if theirs["reason"] != ours["reason"] {
            let known = match (text(&theirs["reason"]), text(&ours["reason"])) {
                ("approval-required", "user-denied") if app_reason == "user-denied" => "the person's no is told as one",
                (theirs, "approval-required") if !newer && app_reason == theirs => {
                    "a reason of the app alone is not passed on"
                }
                _ => panic!("{ours} for {case}"),
            };
            says(case, known);
            theirs["reason"] = ours["reason"].clone();
        }
    }
    assert_eq!(json!(events), json!(expected), "{case}");
}

fn compare_request(case: &Value, input: &Value, theirs: &Value, seen: &Seen, newer: bool) {
    let ours = &seen.request;
    for (name, theirs) in theirs.as_object().unwrap() {
        let ours = &ours[name];
        let said = &input["params"][name];
        let why = match name.as_str() {
            _ if ours == theirs => continue,
            "needsScreenRecording" if theirs.is_null() && *ours == json!(false) => continue,
            // What the app is told about the text of the command, and of a session, it can tell itself.
            "rawCommand" if newer && ours.is_null() && said.is_null() => continue,
            "sessionKey" if newer && *theirs == "node" && ours.is_null() => continue,
            "policySnapshot" if ours.is_null() => "the app reads the policy itself",
            "approvalDecision"
                if !newer && input["usesPreparedPlan"] == true && input["params"]["approved"] == true =>
            {
                "as in 2026.9, `approved` with a prepared plan is an allow-once"
            }
            _ => panic!("{name}: {ours} instead of {theirs} in {case}"),
        };
        says(case, why);
    }
    let answered = case["in"]["appServer"].is_object();
    assert!(seen.half_closed == answered, "{case}");
}

/// Which invocations a node takes up, from `gateway-side`.
#[test]
fn vectors_gateway_side_invocations() {
    let root = Root::new();
    let policy = Fixed::of(&json!({}), &root);
    with_node(app_at(&root.0.join("none")), policy, |seat, node| {
        let own_id = text(&node["device"]["id"]);
        let mut count = 0;
        for case in cases("gateway-side.jsonl").iter().filter(|case| case["fn"] == "coerce-invoke") {
            count += 1;
            let mut payload = case["in"]["payload"].clone();
            if let Some(node_id) = payload.get_mut("nodeId") {
                *node_id = json!(text(node_id).replace('n', own_id));
            }
            if payload["timeoutMs"].is_u64() {
                // The recorded 5 ms may be over before there is an answer.
                payload["timeoutMs"] = json!(5_000);
            }
            let is_exact = |name: &str| text(&payload[name]).trim() == text(&payload[name]);
            let timeout = &payload["timeoutMs"];
            let why = if !["id", "nodeId", "command"].into_iter().all(is_exact) {
                Some("names are exact")
            } else if !timeout.is_null() && !timeout.is_u64() {
                Some("a limit that is no number is no limit that we could keep")
            } else {
                None
            };
            seat.event("node.invoke.request", &payload);
            seat.invoke(node, "after", "system.which", r#"{"bins":["sh"]}"#, 5_000, "after");
            let mut expected = vec![json!("after")];
            match (case["out"].get("id"), why) {
                (None, _) => {}
                (Some(_), Some(why)) => says(case, &format!("ours is stricter: {why}")),
                (Some(id), None) => expected.push(id.clone()),
            }
            // They are done at the same time, so in either order; one too many would be found next.
            expected.sort_by_key(Value::to_string);
            let mut ids: Vec<Value> = expected.iter().map(|_| seat.result()["id"].clone()).collect();
            ids.sort_by_key(Value::to_string);
            assert_eq!(ids, expected, "{case}");
        }
        assert!(count > 3);
    });
}
