//! The app's control socket, for its owner's own tools: one JSON line with a `type`, one JSON line
//! back.
//!
//! Whoever is our user may speak here without a secret, so only verbs that look, tighten or have the person asked live
//! here. The official command line speaks in [`control_envelope`]s. Commands are fenced away from this socket; one that came through could still loosen nothing.

use super::control_envelope::{self, Gate};
use super::deep_link::DeepLinks;
use super::peers::Peers;
use super::queue::ApprovalQueue;
use super::status::{self, About};
use crate::desktop::permissions::{self, Capability, Permissions};
use crate::exec::approval::Guards;
use crate::limits;
use crate::protocol::policy::Refusal;
use crate::protocol::{strict, text};
use crate::state::StateDir;
use crate::sys::connect::connect_unix;
use crate::sys::{process, socket};
use crate::transport::connections::{Connections, Listening, send};
use crate::transport::lease::SocketLease;
use crate::transport::line::{LineError, LineReader};
use crate::transport::stream::Stream;
use serde_json::{Value, json};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

/// The name of the socket in logs.
const NAME: &str = "control";

/// What the verbs look at and tighten.
pub struct Controls {
    /// This app's grants, and what its commands are fenced by.
    pub guards: Arc<Guards>,
    /// What waits for the person.
    pub queue: Arc<ApprovalQueue>,
    /// What the system lets this app do.
    pub permissions: Arc<dyn Permissions>,
    /// Where everything lies.
    pub state: StateDir,
    /// What else there is to tell.
    pub about: Arc<About>,
    /// Who may connect.
    pub peers: Arc<Peers>,
    /// Who may speak in the official form.
    pub gate: Gate,
    /// Follows links.
    pub links: Arc<DeepLinks>,
}

/// Answers a request with the members beside `ok`.
type Verb = fn(&Controls, &Value) -> Result<Value, Refusal>;

/// By `type`. Nothing in here may loosen anything.
const VERBS: &[(&str, Verb)] = &[
    ("status", |controls, _| Ok(status::status(controls))),
    ("grants.list", list_grants),
    ("grants.revoke", revoke_grants),
    ("permissions.status", list_permissions),
    ("permissions.request", request_permission),
    ("deeplink.open", open_link),
];

/// Has the person asked.
fn open_link(controls: &Controls, request: &Value) -> Result<Value, Refusal> {
    let url = request.get("url").and_then(Value::as_str).unwrap_or_default();
    controls.links.open(url).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(json!({}))
}

fn list_permissions(controls: &Controls, _request: &Value) -> Result<Value, Refusal> {
    Ok(json!({"permissions": permissions::all(&*controls.permissions)}))
}

/// Has the system ask the person; the pane is for when it does not ask any more.
fn request_permission(controls: &Controls, request: &Value) -> Result<Value, Refusal> {
    let name = request.get("name").and_then(Value::as_str).unwrap_or_default();
    let capability: Capability = name.parse().map_err(|error: String| Refusal::invalid(error))?;
    let grant = controls.permissions.request(capability);
    Ok(json!({"name": name, "state": grant.word(), "settings": capability.settings_url()}))
}

fn list_grants(controls: &Controls, _request: &Value) -> Result<Value, Refusal> {
    Ok(json!({"grants": controls.guards.grants.list()}))
}

fn revoke_grants(controls: &Controls, request: &Value) -> Result<Value, Refusal> {
    let id = request.get("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| Refusal::invalid("`id` must be the id of a grant, or \"all\""))?;
    Ok(json!({"revoked": controls.guards.grants.revoke(id)}))
}

/// Serves `lease` from now on, until the answer is dropped.
///
/// # Errors
/// No descriptors or threads are left.
pub fn start(lease: SocketLease, controls: Arc<Controls>) -> io::Result<Listening> {
    let serve = move |stream: &Arc<Stream>, _: &_| {
        // Before anything is read.
        if controls.peers.admit(NAME, stream).is_some()
            && let Some(line) = read(stream)
        {
            send(stream, &answer(line.and_then(|line| perform(&controls, &line))));
        }
    };
    Listening::start(NAME, lease, Arc::new(Connections::default()), serve)
}

/// The one line; none when there is nobody to answer.
fn read(stream: &Stream) -> Option<Result<Vec<u8>, Refusal>> {
    let mut reader = LineReader::new(stream, limits::CONTROL_LINE_BYTES);
    match reader.next_line(Instant::now() + limits::EXEC_LINE_DEADLINE) {
        Ok(line) => Some(Ok(line)),
        Err(LineError::Io(_)) => None,
        Err(error) => Some(Err(Refusal::invalid(error.to_string()))),
    }
}

fn perform(controls: &Controls, line: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(line).map_err(|_| Refusal::invalid("the line is not UTF-8"))?;
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|error| Refusal::invalid(error.to_string()))?;
    let request: Value = serde_json::from_str(text).map_err(|error| Refusal::invalid(error.to_string()))?;
    if control_envelope::is_one(&request) {
        return control_envelope::perform(controls, &request);
    }
    let asked = request.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == asked) else {
        let known: Vec<&str> = VERBS.iter().map(|(name, _)| *name).collect();
        return Err(Refusal::invalid(format!("`type` must be one of: {}", known.join(", "))));
    };
    verb(controls, &request)
}

/// The line, newline included.
fn answer(outcome: Result<Value, Refusal>) -> String {
    let ok = outcome.is_ok();
    let mut answer =
        outcome.unwrap_or_else(|refusal| json!({"error": {"code": refusal.code, "message": refusal.message}}));
    if let Some(members) = answer.as_object_mut() {
        members.insert("ok".to_owned(), ok.into());
    }
    format!("{answer}\n")
}

/// Asks the running app, as its owner's tools do; returns the members of its answer.
///
/// # Errors
/// A sentence: there is no app, or it refuses.
pub fn ask(state: &StateDir, request: &Value) -> Result<Value, String> {
    let path = state.control_socket();
    let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let stream = connect_unix(&path, limits::EXEC_LINE_DEADLINE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no app runs here ({}); start it with `openclaw app`", path.display())
        }
        _ => broken(&error),
    })?;
    if socket::peer_uid(stream.as_fd()).ok() != Some(process::effective_uid()) {
        return Err(broken(&"it is another user's program that serves there; nothing was sent"));
    }
    let (stream, deadline) = (Stream::unix(stream), Instant::now() + limits::EXEC_ANSWER_DEADLINE);
    let unserved = || "the app runs and does not serve this program; the app's log says why".to_owned();
    stream.write_until(format!("{request}\n").as_bytes(), deadline).map_err(|_| unserved())?;
    let mut reader = LineReader::new(&stream, limits::EXEC_ANSWER_BYTES);
    let line = reader.next_line(deadline).map_err(|error| match error {
        LineError::Ended(_) | LineError::Io(_) => unserved(),
        error => broken(&error),
    })?;
    let answer: Value = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok(answer);
    }
    let why = answer.pointer("/error/message").and_then(Value::as_str);
    Err(format!("the app refuses: {}", text::visible(why.unwrap_or("it does not say why"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::permissions::Grant;
    use crate::desktop::permissions::tests::Scripted;
    use crate::exec::approval::Span;
    use crate::exec::grants::tests::plan;
    use crate::state::Environment;
    use crate::state::audit::AuditLog;
    use crate::sys::fence::Fencer;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    fn controls(state: &StateDir, guards: Guards, permissions: Arc<Scripted>) -> Controls {
        let headless = Box::new(crate::desktop::headless::Headless::new("a test"));
        let (queue, about) = (Arc::new(ApprovalQueue::new(headless)), Arc::default());
        Controls {
            guards: Arc::new(guards),
            links: DeepLinks::new(state, Arc::clone(&queue) as _, Arc::clone(&about)),
            queue,
            permissions,
            state: state.clone(),
            about,
            peers: Arc::new(Peers::new(|| false)),
            gate: Gate::new(state).unwrap(),
        }
    }

    struct Place {
        directory: std::path::PathBuf,
        state: StateDir,
        guards: Guards,
    }

    impl Place {
        fn new() -> Self {
            let directory = std::env::temp_dir().join(format!("oc-k-{}", crate::identity::random::uuid()));
            std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
            let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
            let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
            let guards =
                Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
            Self { directory, state, guards }
        }
    }

    #[test]
    fn permissions_are_looked_at_without_a_prompt_and_requested_by_name() {
        let Place { directory, state, guards } = Place::new();
        let scripted = Arc::new(Scripted::default());
        scripted.set(Capability::Camera, Grant::NotDetermined);
        let controls = controls(&state, guards, Arc::clone(&scripted));
        let ask = |request: Value| perform(&controls, request.to_string().as_bytes());
        let listed = ask(json!({"type": "permissions.status"})).unwrap();
        assert_eq!(
            (&listed["permissions"]["camera"], &listed["permissions"]["location"]),
            (&json!("notDetermined"), &json!("unsupported"))
        );
        let status = ask(json!({"type": "status"})).unwrap();
        assert_eq!(status["permissions"], listed["permissions"]);
        for name in ["status", "Camera", ""] {
            assert!(ask(json!({"type": "permissions.request", "name": name})).unwrap_err().message.contains("camera"));
        }
        assert!(scripted.requested.lock().unwrap().is_empty(), "nobody was prompted until now");
        let answer = ask(json!({"type": "permissions.request", "name": "camera"})).unwrap();
        assert_eq!((answer["state"].as_str(), answer["name"].as_str()), (Some("notDetermined"), Some("camera")));
        assert!(answer["settings"].as_str().unwrap().ends_with("Privacy_Camera"));
        assert_eq!(*scripted.requested.lock().unwrap(), [Capability::Camera]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn status_tells_where_everything_stands_and_no_secret() {
        let Place { directory, state, guards } = Place::new();
        let controls = controls(&state, guards, Arc::default());
        let status = status::status(&controls);
        assert_eq!((&status["mode"], &status["app"]["pid"]), (&json!("starting"), &json!(std::process::id())));
        assert_eq!(status["app"]["teamId"], Value::Null);
        assert_eq!(status["node"], json!({"connected": false, "gatewayVersion": null, "why": null}));
        controls.about.node.connected("2026.9.6");
        let tunnel = crate::client::Tunnel::new("me@mac".parse().unwrap(), 4567, None, None).unwrap();
        let endpoint = crate::client::Endpoint::Ssh(tunnel);
        controls.about.gateway.set((status::Mode::Remote, Some(endpoint))).unwrap();
        let status = status::status(&controls);
        assert_eq!(
            (&status["mode"], &status["tunnel"]["target"]),
            (&json!("remote"), &json!("port 4567 of me@mac (by ssh)"))
        );
        assert_eq!(status["node"]["connected"], true);
        let official = status::official(&controls);
        let primary = json!({"mode": "remote", "transport": "ssh", "sshTarget": "me@mac", "url": "ws://127.0.0.1:4567",
            "remotePort": 4567, "tunnel": {"running": false},
            "connection": {"state": "connected", "gatewayVersion": "2026.9.6"}});
        assert_eq!((&official["primary"], &official["gateways"]), (&primary, &json!([])));
        let token = std::fs::read_to_string(state.control_token()).unwrap();
        assert!(token.len() == 64 && ![&status, &official].iter().any(|said| said.to_string().contains(&token)));
        std::fs::remove_dir_all(directory).unwrap();
    }

    /// A line as the official command line makes it.
    fn envelope(token: &str, nonce: &str, ts: i64, request: &Value) -> Value {
        let (token, text) = (crate::identity::secret::Secret::new(token.to_owned()), request.to_string());
        let hmac = crate::identity::envelope::request_mac(&token, nonce, ts, &text);
        json!({"id": "x", "nonce": nonce, "ts": ts, "requestJson": text, "hmac": hmac})
    }

    #[test]
    fn sec_a111_a112_the_official_command_line_is_believed_once_and_not_for_long() {
        let Place { directory, state, guards } = Place::new();
        let controls = controls(&state, guards, Arc::default());
        let path = state.control_token();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&path).unwrap();
        let ask = |line: &Value| perform(&controls, line.to_string().as_bytes()).map_err(|refusal| refusal.code);
        let (now, look) = (crate::sys::clock::wall_ms(), json!({"operation": "status", "deadline": 1.5}));
        let good = envelope(&token, "n1", now, &look);
        assert_eq!(ask(&good).unwrap()["result"]["app"]["profile"], "default");
        assert_eq!(ask(&good), Err("authentication_failed"), "once");
        assert_eq!(ask(&envelope(&token, "n2", now, &json!({"operation": "gateway.list"}))), Ok(json!({"result": []})));
        let mut tampered = envelope(&token, "n3", now, &look);
        tampered["requestJson"] = json!("{\"operation\":\"primary.clear\"}");
        let mut unsigned = envelope(&token, "n4", now, &look);
        unsigned.as_object_mut().unwrap().remove("hmac");
        for (line, code) in [
            (tampered, "authentication_failed"),
            (unsigned, "invalid_request"),
            (envelope("another", "n5", now, &look), "authentication_failed"),
            (envelope(&token, "n6", now - 16_000, &look), "authentication_failed"),
            (envelope(&token, "n7", now + 20_000, &look), "authentication_failed"),
            (envelope(&token, "n8", i64::MIN, &look), "authentication_failed"),
            (envelope(&token, "", now, &look), "authentication_failed"),
            (envelope(&token, &"n".repeat(129), now, &look), "authentication_failed"),
            (
                envelope(&token, "n9", now, &json!({"operation": "primary.set", "mode": "local"})),
                "unsupported_operation",
            ),
            (envelope(&token, "n10", now, &json!({"operation": "grants.list"})), "invalid_request"),
            (envelope(&token, "n11", now, &json!([])), "invalid_request"),
        ] {
            assert_eq!(ask(&line), Err(code), "{line}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            ask(&envelope(&token, "n12", now, &look)),
            Err("authentication_failed"),
            "others could have read it"
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask(&envelope("", "n13", now, &look)), Err("authentication_failed"), "no token is no secret");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn grants_are_listed_and_ended_over_the_socket() {
        let Place { directory, state, guards } = Place::new();
        let grants = Arc::clone(&guards.grants);
        grants.add(&plan("echo \u{1b}[2J"), Span::Session);
        grants.add(&plan("id"), Span::Minutes);
        let lease = SocketLease::bind(&state.control_socket()).unwrap();
        let listening = start(lease, Arc::new(controls(&state, guards, Arc::default()))).unwrap();
        let answer = ask(&state, &json!({"type": "grants.list"})).unwrap();
        let expected = json!({"id": "1", "agentId": "main", "sessionKey": "s", "command": "echo $'\\u{1B}[2J'",
            "span": "this session", "remainingMs": answer["grants"][0]["remainingMs"], "uses": 0});
        assert_eq!((answer["grants"].as_array().unwrap().len(), &answer["grants"][0]), (2, &expected));
        assert!(answer["grants"][0]["remainingMs"].as_u64().unwrap() > 1_000_000);
        let status = ask(&state, &json!({"type": "status"})).unwrap();
        assert!(status["fence"].as_str().unwrap().starts_with("none (a test)") && status["grants"] == 2, "{status}");
        let ended = ask(&state, &json!({"type": "grants.revoke", "id": "1"})).unwrap();
        assert_eq!((&ended["revoked"], grants.list().len()), (&json!(1), 1));
        let refusal = ask(&state, &json!({"type": "grants.add"})).unwrap_err();
        assert!(refusal.contains("grants.list, grants.revoke"), "{refusal}");
        // As many as there can be, each as long as it can be, fit into the answer.
        for number in 0..limits::GRANTS {
            let text = format!("{number}{}", "\u{1}".repeat(limits::GRANT_TEXT_BYTES));
            let (agent_id, session_key) = (Some(text.clone()), Some(text.clone()));
            grants.add(&crate::exec::plan::Plan { agent_id, session_key, ..plan(&text) }, Span::Minutes);
        }
        let answer = ask(&state, &json!({"type": "grants.list"})).unwrap();
        assert_eq!(answer["grants"].as_array().unwrap().len(), limits::GRANTS);
        drop(listening);
        assert!(ask(&state, &json!({"type": "grants.list"})).unwrap_err().contains("no app runs here"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
