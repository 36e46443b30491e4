//! `mac-debug status`

use super::{InspectError, Target, call};
use crate::app::control;
use crate::gateway::scope;
use crate::state::InstanceLock;
use crate::state::approvals::ApprovalsDocument;
use crate::state::pause;
use serde_json::{Value, json};

/// What runs, where, and how strict it is. Looks only.
///
/// # Errors
/// Never because something is not running: that is part of the answer.
pub fn status(target: &Target) -> Result<Value, InspectError> {
    let state = &target.state;
    let holder = |path: std::path::PathBuf| match InstanceLock::holder(&path) {
        Some(pid) => json!({"running": true, "pid": pid}),
        None => json!({"running": false}),
    };
    let policy = ApprovalsDocument::for_inspection(state).effective(None, false);
    let gateway = match target.connect(&[scope::READ]) {
        Ok(connection) => {
            let mut answer = call(&connection, "status", &json!({}))?;
            if let Some(members) = answer.as_object_mut() {
                members.insert("reachable".to_owned(), true.into());
                members.insert("key".to_owned(), connection.hello().gateway_key.clone().into());
                members.insert("pinned".to_owned(), connection.hello().gateway_key.is_some().into());
            }
            answer
        }
        Err(error) => json!({"reachable": false, "why": error.to_string()}),
    };
    let app = control::ask(state, &json!({"type": "status"})).unwrap_or_default();
    Ok(json!({
        "stateDir": state.root(),
        "config": state.config(),
        "endpoint": target.endpoint.to_string(),
        "port": target.config.port,
        "auth": target.secret_kind(),
        "app": holder(state.app_lock()),
        "appStatus": app,
        "fence": app.get("fence"),
        "grants": app.get("grants"),
        "tunnel": app.get("tunnel"),
        "gatewayLock": holder(state.gateway_lock()),
        "execSocket": {"path": state.exec_socket(), "present": state.exec_socket().exists()},
        "gateway": gateway,
        "paused": pause::is_on(&state.paused()),
        "policy": {
            "security": policy.security.word(),
            "ask": policy.ask.word(),
            "askFallback": policy.ask_fallback.word(),
            "fence": policy.fence.word(),
            "allowlistEntries": policy.allowlist.len(),
            "trustGatewayApprovals": policy.trust_gateway_approvals,
            "broken": policy.broken,
        },
    }))
}

/// What the running app tells of itself.
fn app_text(app: &Value) -> String {
    let word = |value: &Value| crate::protocol::text::visible(value.as_str().unwrap_or("-"));
    let connection = |value: &Value| match (value["connected"].as_bool(), value["why"].as_str()) {
        (Some(true), _) => "connected".to_owned(),
        (_, Some(why)) => format!("not connected: {}", crate::protocol::text::visible(why)),
        _ => "not connected".to_owned(),
    };
    let mut out = format!("           gateway {}; node {}\n", word(&app["mode"]), connection(&app["node"]));
    if app["attachOnly"].is_string() {
        let how = if app["attachOnly"] == "disable-launchagent" { "; remove that file to change it" } else { "" };
        out.push_str(&format!("           attach-only ({}){how}: it starts no gateway\n", word(&app["attachOnly"])));
    }
    if app["held"].is_string() {
        out.push_str(&format!("           shows no prompt now: {}\n", word(&app["held"])));
    }
    if app["pendingPrompts"].as_u64().is_some_and(|count| count > 0) {
        out.push_str(&format!("           questions that wait for you: {}\n", app["pendingPrompts"]));
    }
    let of_app = app["permissions"].as_object().into_iter().flatten().filter(|(_, state)| *state != "unsupported");
    let permissions: Vec<String> =
        of_app.map(|(name, state)| format!("{} {}", crate::protocol::text::visible(name), word(state))).collect();
    if !permissions.is_empty() {
        out.push_str(&format!("           permissions: {}\n", permissions.join(", ")));
    }
    out
}

/// The same for a person.
pub fn text(status: &Value) -> String {
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => crate::protocol::text::visible(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let running = |pointer: &str| {
        if status.pointer(&format!("{pointer}/running")) == Some(&Value::Bool(true)) {
            format!("running (pid {})", text(&format!("{pointer}/pid")))
        } else {
            "not running".to_owned()
        }
    };
    let mut out = format!("state      {}\n", text("/stateDir"));
    out.push_str(&format!("app        {}\n", running("/app")));
    if status.pointer("/appStatus/mode").is_some() {
        out.push_str(&app_text(&status["appStatus"]));
    }
    if status.pointer("/gateway/reachable") == Some(&Value::Bool(true)) {
        out.push_str(&format!(
            "gateway    {} at {}; up {} s; {} nodes, {} operators connected\n",
            running("/gatewayLock"),
            text("/endpoint"),
            status.pointer("/gateway/uptimeMs").and_then(Value::as_u64).unwrap_or(0) / 1_000,
            text("/gateway/connections/nodes"),
            text("/gateway/connections/operators"),
        ));
        let key = if status.pointer("/gateway/key").is_some_and(Value::is_string) {
            format!("proves the key {}", text("/gateway/key"))
        } else {
            "shows no key, so it cannot be told from another gateway (an official one has none)".to_owned()
        };
        out.push_str(&format!("           {key}\n"));
    } else {
        out.push_str(&format!("gateway    {}: {}\n", running("/gatewayLock"), text("/gateway/why")));
    }
    if status.pointer("/tunnel/target").is_some() {
        let up = status.pointer("/tunnel/connected") == Some(&Value::Bool(true));
        let how = if up { "connected".to_owned() } else { format!("not connected: {}", text("/tunnel/trouble")) };
        out.push_str(&format!("tunnel     the app's gateway is {}: {how}\n", text("/tunnel/target")));
    }
    out.push_str(&match status["auth"].as_str() {
        Some(kind) => format!(
            "token      the shared {kind} is gateway.auth.{kind} in {}, or `gateway-token` in the state directory; give it to other tools as OPENCLAW_GATEWAY_TOKEN\n",
            text("/config"),
        ),
        None => "token      there is none yet; the first start of the gateway makes one\n".to_owned(),
    });
    if status.pointer("/paused") == Some(&Value::Bool(true)) {
        out.push_str(&format!("paused     nothing runs: {}\n", pause::SENTENCE));
    }
    out.push_str(&format!(
        "policy     security {}, ask {}, fallback {}, entries on the allowlist: {}\n",
        text("/policy/security"),
        text("/policy/ask"),
        text("/policy/askFallback"),
        text("/policy/allowlistEntries"),
    ));
    if status.pointer("/fence").is_some_and(Value::is_string) {
        out.push_str(&format!("fence      {}, by: {}\n", text("/policy/fence"), text("/fence")));
    }
    if status.pointer("/policy/broken").is_some_and(Value::is_string) {
        out.push_str(&format!("           {}\n", text("/policy/broken")));
    }
    if status.pointer("/policy/trustGatewayApprovals") == Some(&Value::Bool(true)) {
        out.push_str("           approvals made at the gateway are trusted (local.trustGatewayApprovals)\n");
    }
    out
}
