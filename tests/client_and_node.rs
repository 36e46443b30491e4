//! Client and node against a scripted gateway on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support_node;

use openclaw::client::{CallError, ConnectError, ConnectOptions, Connection, Credentials, Endpoint, Role, Surface};
use openclaw::desktop::permissions::{Capability, Grant, Permissions};
use openclaw::exec::analysis::Host;
use openclaw::exec::approval::{Guards, PolicySource};
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::exec::policy::Rules;
use openclaw::identity::device::{self, DeviceKey};
use openclaw::identity::envelope::prove_answer;
use openclaw::identity::secret::Secret;
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use openclaw::node::{self, ExecHost, NodeError, NodeOptions};
use openclaw::protocol::connect::{ClientInfo, DevicePayload, PayloadForm, device_payload};
use openclaw::protocol::exec_host::{Request, parse_line};
use openclaw::protocol::policy::{Ask, Fence, Security};
use openclaw::state::approvals::{AllowEntry, ApprovalsDocument, EffectivePolicy};
use openclaw::state::audit::AuditLog;
use openclaw::state::pins::GatewayPins;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::wake::Wake;
use openclaw::transport::peer::End;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support_node::{PATIENCE, Script, Seat, TOKEN, credentials, is_of_itself};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oc-cn-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn pins(&self) -> Arc<GatewayPins> {
        let environment = Environment { state_dir: Some(self.0.join("s")), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        Arc::new(GatewayPins::new(&state))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn operator(pins: Option<Arc<GatewayPins>>) -> ConnectOptions {
    ConnectOptions {
        client: ClientInfo {
            id: "cli".to_owned(),
            version: "1".to_owned(),
            platform: "linux".to_owned(),
            mode: "cli".to_owned(),
            ..ClientInfo::default()
        },
        role: Role::Operator,
        scopes: vec!["operator.read".to_owned()],
        surface: Surface::default(),
        path_env: None,
        credentials: credentials(),
        device: None,
        pins,
    }
}

fn open(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Connection, ConnectError> {
    Connection::open(endpoint, options, Box::new(|_, _, _| {}))
}

#[test]
fn answers_find_their_callers_and_late_ones_find_nobody() {
    let script = Script::new();
    let endpoint = script.endpoint();
    let gateway = thread::spawn(move || {
        let (mut seat, params) = script.logged_in();
        assert_eq!(params["auth"]["token"], TOKEN);
        let late = seat.read().unwrap();
        let (first, second) = (seat.read().unwrap(), seat.read().unwrap());
        for frame in [&late, &second, &first] {
            seat.send(&json!({"type": "res", "id": frame["id"], "ok": true, "payload": frame["params"]}));
        }
        let bad = seat.read().unwrap();
        seat.send(&json!("garbage"));
        seat.send(&json!({"type": "res", "id": bad["id"], "ok": false,
            "error": {"code": "FORBIDDEN", "message": "missing scope: x", "details": {"code": "MISSING_SCOPE"}}}));
        assert!(matches!(seat.read(), Err(End::Closed(Some((1000, _))))));
    });
    let connection = open(&endpoint, &operator(None)).unwrap();
    let late = connection.call("late", &json!(0), Duration::from_millis(50));
    assert!(matches!(late, Err(CallError::TimedOut)));
    thread::scope(|scope| {
        for number in 1..=2 {
            let connection = &connection;
            scope.spawn(move || {
                let answer = connection.call("echo", &json!(number), PATIENCE).unwrap();
                assert_eq!(answer.get(), number.to_string());
            });
        }
    });
    let Err(CallError::Refused(error)) = connection.call("bad", &json!({}), PATIENCE) else { panic!() };
    assert_eq!(error.detail_code(), "MISSING_SCOPE");
    let link = openclaw::client::Link::clone(&connection);
    connection.close();
    gateway.join().unwrap();
    assert!(matches!(link.call("after", &json!({}), PATIENCE), Err(CallError::Ended(_))));
}

/// Nothing may be read after the upgrade: no credential, no `connect`.
fn hears_nothing(script: &Script, key: Option<&DeviceKey>) {
    let mut seat = script.seat(key);
    let heard = seat.read();
    assert!(matches!(heard, Err(End::Closed(_) | End::Broken)), "{heard:?}");
}

#[test]
fn sec_h26_another_gateway_on_the_port_gets_nothing() {
    let scratch = Scratch::new("h26");
    let pins = scratch.pins();
    let script = Script::new();
    let endpoint = script.endpoint();
    let gateway = thread::spawn(move || {
        let (key, other) = (DeviceKey::generate(), DeviceKey::generate());
        // The first one refuses the login: nothing is pinned by that.
        let mut seat = script.seat(Some(&other));
        let connect = seat.read().unwrap();
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "AUTH_TOKEN_MISMATCH"}));
        drop(seat);
        for _ in 0..2 {
            let mut seat = script.seat(Some(&key));
            let connect = seat.read().unwrap();
            seat.hello(&connect);
            assert!(seat.read().is_err());
        }
        hears_nothing(&script, Some(&other));
        hears_nothing(&script, None);
        assert!(script.is_untouched());
    });
    let options = operator(Some(Arc::clone(&pins)));
    assert!(matches!(open(&endpoint, &options), Err(ConnectError::Refused(_))));
    assert_eq!(pins.pinned(&endpoint.pin_name()).unwrap(), None);
    for _ in 0..2 {
        let connection = open(&endpoint, &options).unwrap();
        assert!(connection.hello().gateway_key.is_some());
        assert_eq!(pins.pinned(&endpoint.pin_name()).unwrap(), connection.hello().gateway_key);
        connection.close();
    }
    for _ in 0..2 {
        let error = open(&endpoint, &options).err().unwrap();
        assert!(matches!(error, ConnectError::GatewayKey(..)), "{error}");
        assert!(error.to_string().contains("gateway-pins.json"));
    }
    gateway.join().unwrap();
}

#[test]
fn an_older_gateway_is_spoken_to_in_its_protocol_and_gets_a_signed_device() {
    let script = Script::new();
    let endpoint = script.endpoint();
    let key = Arc::new(DeviceKey::generate());
    let id = key.id();
    let gateway = thread::spawn(move || {
        let mut seat = script.seat(None);
        let connect = seat.read().unwrap();
        assert_eq!((&connect["params"]["minProtocol"], &connect["params"]["maxProtocol"]), (&json!(4), &json!(4)));
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "PROTOCOL_MISMATCH", "expectedProtocol": 3}));
        drop(seat);
        let (_seat, params) = script.logged_in();
        assert_eq!((&params["minProtocol"], &params["maxProtocol"]), (&json!(3), &json!(3)));
        let payload = DevicePayload {
            device_id: &id,
            client_id: "cli",
            client_mode: "cli",
            role: "operator",
            scopes: &["operator.read".to_owned()],
            signed_at: 1_795_246_599_019,
            token: TOKEN,
            nonce: "n-1",
            platform: "linux",
            device_family: "",
        };
        let device = &params["device"];
        let text = device_payload(PayloadForm::V3, &payload);
        let (public, signature) = (device["publicKey"].as_str().unwrap(), device["signature"].as_str().unwrap());
        assert!(device::verify(public, &text, signature));
        assert_eq!(device["id"], id);
    });
    let connection = open(&endpoint, &ConnectOptions { device: Some(key), ..operator(None) }).unwrap();
    assert_eq!(connection.hello().protocol, 3);
    gateway.join().unwrap();
}

#[test]
fn a_device_token_is_the_second_try_only_when_the_gateway_offers_it() {
    let script = Script::new();
    let endpoint = script.endpoint();
    let gateway = thread::spawn(move || {
        for offered in [true, false] {
            let mut seat = script.seat(None);
            let connect = seat.read().unwrap();
            assert_eq!(connect["params"]["auth"], json!({"token": TOKEN}));
            let details = json!({"code": "AUTH_TOKEN_MISMATCH", "canRetryWithDeviceToken": offered});
            seat.refuse(&connect, "INVALID_REQUEST", &details);
            drop(seat);
            if offered {
                let (_seat, params) = script.logged_in();
                assert_eq!(params["auth"], json!({"deviceToken": "device-token"}));
            }
        }
        assert!(script.is_untouched());
    });
    let mut options = operator(None);
    options.credentials.device_token = Some(Secret::new("device-token".to_owned()));
    open(&endpoint, &options).unwrap();
    assert!(matches!(open(&endpoint, &options), Err(ConnectError::Refused(_))));
    gateway.join().unwrap();
}

/// What an earlier link got for this device goes first; when it holds no more, the new link counts.
#[test]
fn a_setup_link_is_shown_when_the_device_token_holds_no_more() {
    let script = Script::new();
    let endpoint = script.endpoint();
    let gateway = thread::spawn(move || {
        let mut seat = script.seat(None);
        let connect = seat.read().unwrap();
        assert_eq!(connect["params"]["auth"], json!({"deviceToken": "device-token"}));
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "AUTH_DEVICE_TOKEN_MISMATCH"}));
        drop(seat);
        let mut seat = script.seat(None);
        let connect = seat.read().unwrap();
        assert_eq!(connect["params"]["auth"], json!({"bootstrapToken": "of-the-link"}));
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "AUTH_DEVICE_TOKEN_MISMATCH"}));
        assert!(seat.read().is_err());
        assert!(script.is_untouched());
    });
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let mut options = operator(None);
    options.credentials = Credentials {
        device_token: secret("device-token"),
        bootstrap_token: secret("of-the-link"),
        ..Credentials::default()
    };
    assert!(matches!(open(&endpoint, &options), Err(ConnectError::Refused(_))));
    gateway.join().unwrap();
}

/// Everything runs, nobody is asked.
struct RunsAll;

impl PolicySource for RunsAll {
    fn rules(&self, _: Option<&str>) -> Rules {
        let policy = EffectivePolicy {
            security: Security::Full,
            ask: Ask::Off,
            ask_fallback: Security::Deny,
            auto_allow_skills: false,
            allowlist: Vec::new(),
            denylist: Vec::new(),
            fence: Fence::State,
            trust_gateway_approvals: false,
            broken: None,
            snapshot: "1".to_owned(),
        };
        Rules { policy, safe_bins: Arc::default(), skills: Vec::new(), strict_inline_eval: false }
    }

    fn add_allow_always(&self, _: Option<&str>, _: &AllowEntry) -> Result<(), String> {
        Ok(())
    }

    fn record_use(&self, _: &AllowEntry, _: &str, _: &str) {}
}

/// Starts a node for `script`, runs `test`, stops the node; its outcome.
fn with_node(script: Script, test: impl FnOnce(Script)) -> Result<(), NodeError> {
    with_node_of(local(), script, test)
}

fn local() -> ExecHost {
    let directory = std::env::temp_dir().join(format!("oc-cn-{}-{:?}", std::process::id(), thread::current().id()));
    let state = Environment { state_dir: Some(directory), ..Environment::default() };
    let state = StateDir::locate(&state).unwrap();
    state.prepare().unwrap();
    let guards = Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
    ExecHost::Local(Arc::new(guards))
}

fn with_node_of(exec_host: ExecHost, script: Script, test: impl FnOnce(Script)) -> Result<(), NodeError> {
    with_policy(Arc::new(RunsAll), exec_host, script, test)
}

fn with_policy(
    policy: Arc<dyn PolicySource>,
    exec_host: ExecHost,
    script: Script,
    test: impl FnOnce(Script),
) -> Result<(), NodeError> {
    let options = options(&script, policy, exec_host);
    let stop = Arc::new(Wake::new().unwrap());
    let stopped = Arc::clone(&stop);
    let node = thread::spawn(move || node::run(options, &stopped));
    test(script);
    stop.fire();
    node.join().unwrap()
}

fn options(script: &Script, policy: Arc<dyn PolicySource>, exec_host: ExecHost) -> NodeOptions {
    NodeOptions {
        endpoint: script.endpoint(),
        client: NodeOptions::headless("a test".to_owned(), "i-1".to_owned()),
        device: Arc::new(DeviceKey::generate()),
        credentials: Box::new(credentials),
        tokens: None,
        pins: None,
        host: Host::of_this_process(None),
        policy,
        surface: node::surface(),
        notifications: Arc::default(),
        permissions: Arc::new(openclaw::desktop::permissions::Unsupported),
        standing: Arc::default(),
        exec_host,
        policy_editor: None,
        declares: None,
        abilities: None,
        computer: None,
    }
}

/// What the system says of one permission; looked at, never requested, by a node.
struct OneGrant(std::sync::Mutex<Grant>);

impl Permissions for OneGrant {
    fn status(&self, capability: Capability) -> Grant {
        let grant = *self.0.lock().unwrap();
        if capability == Capability::ScreenRecording { grant } else { Grant::Unsupported }
    }

    fn request(&self, _capability: Capability) -> Grant {
        panic!("a node made the system ask");
    }
}

/// A changed permission is declared by a new login, but not while a command runs.
#[test]
fn permissions_are_declared_and_declared_anew_when_they_change() {
    let permissions = Arc::new(OneGrant(std::sync::Mutex::new(Grant::Denied)));
    let script = Script::new();
    let options =
        NodeOptions { permissions: Arc::clone(&permissions) as _, ..options(&script, Arc::new(RunsAll), local()) };
    let standing = Arc::clone(&options.standing);
    let stop = Arc::new(Wake::new().unwrap());
    let stopped = Arc::clone(&stop);
    let node = thread::spawn(move || node::run(options, &stopped));
    let (mut seat, connect) = script.logged_in();
    assert_eq!(connect["permissions"], json!({"screenRecording": false}));
    let end = std::time::Instant::now() + PATIENCE;
    while !standing.look().connected {
        assert!(std::time::Instant::now() < end, "{:?}", standing.look());
        thread::sleep(Duration::from_millis(2));
    }
    seat.invoke(&connect, "r", "system.run", r#"{"command":["/bin/sleep","6"]}"#, 20_000, "k");
    *permissions.0.lock().unwrap() = Grant::Granted;
    assert_eq!(seat.request().1["event"], "exec.finished");
    assert_eq!(seat.result()["ok"], true, "the run was not cut off");
    let (_seat, connect) = script.logged_in();
    assert_eq!(connect["permissions"], json!({"screenRecording": true}));
    stop.fire();
    node.join().unwrap().unwrap();
}

#[test]
fn a_node_answers_events_first_and_once() {
    with_node(Script::new(), |script| {
        let (mut seat, node) = script.logged_in();
        assert_eq!((&node["role"], &node["scopes"]), (&json!("node"), &json!([])));
        assert_eq!(
            node["commands"],
            json!([
                "system.run",
                "system.run.prepare",
                "system.which",
                "system.execApprovals.get",
                "system.execApprovals.set"
            ])
        );
        assert_eq!(node["auth"]["token"], TOKEN);

        seat.invoke(&node, "w", "system.which", r#"{"bins":["sh","no-such-bin","../sh","bin/sh"]}"#, 5_000, "w");
        let result = seat.result();
        let bins: Value = serde_json::from_str(result["payloadJSON"].as_str().unwrap()).unwrap();
        let names: Vec<&String> = bins["bins"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["sh"]);
        assert!(Path::new(bins["bins"]["sh"].as_str().unwrap()).is_absolute());

        let run = r#"{"command":["/bin/echo","hello"],"runId":"r-1","suppressNotifyOnExit":true}"#;
        seat.invoke(&node, "r", "system.run", run, 10_000, "k-1");
        let (method, event) = seat.request();
        assert_eq!((method.as_str(), &event["event"]), ("node.event", &json!("exec.finished")));
        let payload: Value = serde_json::from_str(event["payloadJSON"].as_str().unwrap()).unwrap();
        assert_eq!(
            payload,
            json!({"sessionKey": "node", "runId": "r-1", "host": "node",
            "command": "/bin/echo hello", "exitCode": 0, "timedOut": false, "success": true, "output": "hello",
            "suppressNotifyOnExit": true})
        );
        let result = seat.result();
        assert_eq!((&result["ok"], &result["id"]), (&json!(true), &json!("r")));
        let payload: Value = serde_json::from_str(result["payloadJSON"].as_str().unwrap()).unwrap();
        assert_eq!(
            payload,
            json!({"exitCode": 0, "timedOut": false, "success": true, "stdout": "hello\n",
            "stderr": "", "error": null})
        );

        // The same key again, under a new id: not a second run.
        seat.invoke(&node, "r2", "system.run", run, 10_000, "k-1");
        let result = seat.result();
        assert_eq!((&result["ok"], &result["error"]["code"]), (&json!(false), &json!("INVALID_REQUEST")));

        seat.invoke(&node, "u", "camera.snap", "{}", 5_000, "u");
        let error = &seat.result()["error"];
        assert_eq!(error, &json!({"code": "UNAVAILABLE", "message": "command not supported"}));
    })
    .unwrap();
}

/// A57, A92: every malformed request has a stable answer, and the node stays connected.
#[test]
fn sec_a57_malformed_parameters_are_refused_and_the_node_stays() {
    with_node(Script::new(), |script| {
        let (mut seat, node) = script.logged_in();
        let deep = format!("{{\"command\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        let cases = [
            "",
            "{",
            "[]",
            "\"x\"",
            "null",
            r#"{"command":["ls"],"command":["rm"]}"#,
            r#"{"command":["\ud800"]}"#,
            &deep,
            r#"{"command":[]}"#,
            r#"{"command":"ls"}"#,
            r#"{"command":["ls",null]}"#,
        ];
        for command in ["system.run", "system.run.prepare", "system.which"] {
            for (number, params) in cases.iter().enumerate() {
                let id = format!("{command}-{number}");
                seat.invoke(&node, &id, command, params, 5_000, &id);
                let result = seat.result();
                assert_eq!((&result["id"], &result["error"]["code"]), (&json!(id), &json!("INVALID_REQUEST")));
            }
        }
        // Not even an invocation: ignored.
        for payload in [
            json!(null),
            json!([]),
            json!({"id": "x"}),
            json!({"id": "x", "nodeId": "another",
            "command": "system.which", "paramsJSON": "{\"bins\":[]}"}),
        ] {
            seat.event("node.invoke.request", &payload);
        }
        seat.event("node.invoke.cancel", &json!({"invokeId": 1}));
        seat.invoke(&node, "last", "system.which", r#"{"bins":[]}"#, 5_000, "last");
        assert_eq!(seat.result()["id"], "last");
    })
    .unwrap();
}

#[cfg(target_os = "linux")]
fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !seen() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The process id that a command wrote into `file`.
#[cfg(target_os = "linux")]
fn pid_in(file: &Path) -> String {
    wait_for("the command did not start", || std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n')));
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

#[cfg(target_os = "linux")]
fn is_gone(pid: &str) -> bool {
    // A zombie that nobody has collected yet has no command line any more.
    std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

#[cfg(target_os = "linux")]
#[test]
fn a_cancelled_or_overdue_run_is_killed_and_says_nothing() {
    let scratch = Scratch::new("cancel");
    with_node(Script::new(), |script| {
        let (mut seat, node) = script.logged_in();
        for (name, timeout_ms) in [("cancelled", 60_000), ("overdue", 1_000)] {
            let file = scratch.0.join(name);
            let text = format!("sleep 600 & echo $! > {}; wait", file.display());
            let params = json!({"command": ["/bin/sh", "-c", text]}).to_string();
            seat.invoke(&node, name, "system.run", &params, timeout_ms, name);
            let pid = pid_in(&file);
            if name == "cancelled" {
                seat.event("node.invoke.cancel", &json!({"invokeId": name, "nodeId": node["device"]["id"]}));
            }
            wait_for("the process tree lives on", || is_gone(&pid));
        }
        // What comes next is the answer to what is asked next: no event, no result in between.
        seat.invoke(&node, "after", "system.which", r#"{"bins":[]}"#, 5_000, "after");
        assert_eq!(seat.result()["id"], "after");
        // A lost connection ends its runs too.
        let file = scratch.0.join("lost");
        let params = json!({"command": ["/bin/sh", "-c", format!("echo $$ > {}; exec sleep 600", file.display())]});
        seat.invoke(&node, "lost", "system.run", &params.to_string(), 60_000, "lost");
        let pid = pid_in(&file);
        seat.0.close(1012, "service restart");
        wait_for("the run outlived its connection", || is_gone(&pid));
        // 1012 brings the node back at once; the key of a run that has begun stays used.
        let (mut seat, node) = script.logged_in();
        seat.invoke(&node, "again", "system.run", &params.to_string(), 60_000, "lost");
        assert_eq!(seat.result()["error"]["code"], "INVALID_REQUEST");
    })
    .unwrap();
}

#[test]
fn a_node_waits_after_pairing_required_and_ends_after_a_wrong_token() {
    with_node(Script::new(), |script| {
        let mut seat = script.seat(None);
        let connect = seat.read().unwrap();
        seat.refuse(&connect, "NOT_PAIRED", &json!({"code": "PAIRING_REQUIRED", "requestId": "q-1"}));
        assert!(seat.read().is_err());
        // Nothing is waited for: this is the time in which two attempts would have come.
        thread::sleep(Duration::from_millis(2_500));
        assert!(script.is_untouched());
    })
    .unwrap();
    let ended = with_node(Script::new(), |script| {
        let mut seat = script.seat(None);
        let connect = seat.read().unwrap();
        seat.refuse(&connect, "INVALID_REQUEST", &json!({"code": "AUTH_TOKEN_MISMATCH"}));
        assert!(seat.read().is_err());
    });
    assert!(matches!(ended, Err(NodeError::Login(ConnectError::Refused(_)))));
}

/// The programs of the gateway's skills run unasked where the policy says so; a gateway that does not
/// name them any more changes nothing.
#[test]
fn skills_are_asked_for_once_a_connection_and_kept() {
    let scratch = Scratch::new("skills");
    let state = Environment { state_dir: Some(scratch.0.join("state")), ..Environment::default() };
    let state = StateDir::locate(&state).unwrap();
    state.prepare().unwrap();
    let document = r#"{"version": 1, "defaults": {"ask": "off", "autoAllowSkills": true}}"#;
    std::fs::write(state.approvals(), document).unwrap();
    std::fs::set_permissions(state.approvals(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let guards = Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
    let document = Arc::new(ApprovalsDocument::new(&state));
    let policy = DocumentPolicy { document, trusts_agent: false, settings: Settings::default() };
    with_policy(Arc::new(policy), ExecHost::Local(Arc::new(guards)), Script::new(), |script| {
        for (round, skills, uname_runs) in [
            (0, json!({"not": "understood"}), false),
            (1, json!({"bins": ["uname", "/usr/bin/id", "no-such-program"]}), true),
            (2, json!({"not": "understood"}), true),
        ] {
            let (mut seat, node) = script.logged_in();
            for (number, (program, runs)) in [("uname", uname_runs), ("id", false)].into_iter().enumerate() {
                let key = format!("{round}-{number}");
                seat.invoke(&node, &key, "system.run", &json!({"command": [program]}).to_string(), 10_000, &key);
                if number == 0 {
                    let mut frame = seat.read().unwrap();
                    while frame["method"] != "skills.bins" {
                        assert!(is_of_itself(&frame), "{frame}");
                        frame = seat.read().unwrap();
                    }
                    seat.send(&json!({"type": "res", "id": frame["id"], "ok": true, "payload": skills}));
                }
                let (method, event) = seat.request();
                let expected = if runs { "exec.finished" } else { "exec.denied" };
                assert_eq!((method.as_str(), &event["event"]), ("node.event", &json!(expected)), "{key} {event}");
                assert_eq!(seat.result()["ok"], runs, "{key}");
            }
        }
    })
    .unwrap();
}

fn app_at(socket: &Path) -> ExecHost {
    let token = Box::new(|| Ok(Secret::new(TOKEN.to_owned())));
    ExecHost::App(ExecHostClient::new(socket.to_path_buf(), token, ExecHostPeer::Ours))
}

#[test]
fn without_the_app_nothing_runs() {
    let scratch = Scratch::new("noapp");
    let trace = scratch.0.join("trace");
    with_node_of(app_at(&scratch.0.join("socket")), Script::new(), |script| {
        let (mut seat, node) = script.logged_in();
        let params = json!({"command": ["/usr/bin/touch", trace], "runId": "r"}).to_string();
        seat.invoke(&node, "r", "system.run", &params, 10_000, "k");
        let (method, event) = seat.request();
        assert_eq!((method.as_str(), &event["event"]), ("node.event", &json!("exec.denied")));
        assert!(event["payloadJSON"].as_str().unwrap().contains(r#""reason":"companion-unavailable""#));
        assert_eq!(
            seat.result()["error"],
            json!({"code": "UNAVAILABLE",
            "message": "COMPANION_APP_UNAVAILABLE: macOS app exec host unreachable"})
        );
        // A person's no at the gateway is final; malformed parameters raise no event.
        seat.invoke(&node, "d", "system.run", r#"{"command":["/bin/true"],"approvalDecision":"deny"}"#, 10_000, "d");
        let (_, event) = seat.request();
        assert!(event["payloadJSON"].as_str().unwrap().contains(r#""reason":"user-denied""#));
        assert_eq!(seat.result()["error"]["message"], "SYSTEM_RUN_DENIED: user denied");
        seat.invoke(&node, "m", "system.run", r#"{"command":["/bin/true"],"env":{"LD_PRELOAD":"/x"}}"#, 10_000, "m");
        assert_eq!(seat.result()["error"]["code"], "INVALID_REQUEST");
    })
    .unwrap();
    assert!(!trace.exists());
}

/// The app hears of a gateway's approval only if this node prepared that very plan on this
/// connection, and only once.
#[test]
fn an_approval_reaches_the_app_only_for_a_prepared_plan_and_once() {
    let scratch = Scratch::new("app");
    let socket = scratch.0.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let Ok(Request::Exec(envelope)) = parse_line(line.trim_end().as_bytes()) else { panic!("{line}") };
        let result =
            r#"{"type":"exec-res","ok":true,"payload":{"timedOut":false,"success":true,"stdout":"","stderr":""}}"#;
        let proven = prove_answer(&Secret::new(TOKEN.to_owned()), &envelope.nonce, result);
        (&stream).write_all(format!("{proven}\n").as_bytes()).unwrap();
        serde_json::from_str::<Value>(&envelope.request_json).unwrap()["approvalDecision"].clone()
    };
    with_node_of(app_at(&socket), Script::new(), |script| {
        let (mut seat, node) = script.logged_in();
        let run = |seat: &mut Seat, plan: &Value, argv: &Value, id: &str| {
            let params = json!({"command": argv, "cwd": plan["cwd"], "approved": true, "systemRunPlan": plan});
            seat.invoke(&node, id, "system.run", &params.to_string(), 10_000, id);
            let decision = answer();
            assert_eq!(seat.request().0, "node.event");
            assert_eq!(seat.result()["ok"], true);
            decision
        };
        seat.invoke(&node, "p", "system.run.prepare", r#"{"command":["/bin/echo","a"]}"#, 10_000, "p");
        let prepared: Value = serde_json::from_str(seat.result()["payloadJSON"].as_str().unwrap()).unwrap();
        let plan = &prepared["plan"];
        let mut other = plan["argv"].clone();
        other[1] = json!("b");
        assert_eq!(run(&mut seat, plan, &other, "another command"), Value::Null);
        assert_eq!(run(&mut seat, plan, &plan["argv"], "the prepared one"), "allow-once");
        assert_eq!(run(&mut seat, plan, &plan["argv"], "the same again"), Value::Null);
        let mut forged = plan.clone();
        forged["argv"] = other.clone();
        assert_eq!(run(&mut seat, &forged, &other, "never prepared"), Value::Null);
    })
    .unwrap();
}

#[test]
fn a_socket_that_is_not_ours_gets_nothing() {
    let scratch = Scratch::new("socket");
    let (file, link, missing) = (scratch.0.join("file"), scratch.0.join("link"), scratch.0.join("missing"));
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [file, link] {
        assert!(matches!(open(&Endpoint::Socket(path), &operator(None)), Err(ConnectError::NotOurs(..))));
    }
    assert!(matches!(open(&Endpoint::Socket(missing), &operator(None)), Err(ConnectError::Unreachable(..))));
}
