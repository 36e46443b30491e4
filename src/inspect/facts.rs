//! What there is on this machine: sockets and who serves them, services, who listens, what app and gateway say of
//! themselves. Looks only; what is not there is part of the answer.

use super::{InspectError, Target, call};
use crate::app::control;
use crate::gateway::{VERSION, scope};
use crate::limits;
use crate::service::{Role, Services};
use crate::state::approvals::ApprovalsDocument;
use crate::state::config::{Config, SharedSecret};
use crate::state::{Environment, InstanceLock, StateDir, pause};
use crate::sys::connect::connect_unix;
use crate::sys::{clock, host_stats, listener, process};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where to look, as far as it could be found out.
pub struct Place {
    /// Where everything lies.
    pub state: StateDir,
    /// The variables, and the flags that stand for one.
    pub environment: Environment,
    /// The gateway, or why none can be named.
    pub target: Result<Target, InspectError>,
}

/// Everything, as `status --json` prints it.
pub fn facts(place: &Place) -> Value {
    let state = &place.state;
    let (gateway, nodes) = gateway(&place.target);
    let app = control::ask(state, &json!({"type": "status"}));
    let said = |member: &str| app.as_ref().ok().and_then(|app| app.get(member)).cloned();
    let policy = ApprovalsDocument::for_inspection(state).effective(None, false);
    let config = Config::inspect(state, &place.environment);
    let port = config.as_ref().ok().map(|config| config.port).or(place.environment.gateway_port);
    json!({
        "version": {"openclaw": VERSION, "app": app.as_ref().ok().and_then(|app| app.pointer("/app/version")),
            "gateway": gateway.get("version")},
        "stateDir": state.root(),
        "config": state.config(),
        "configBroken": config.as_ref().err().map(ToString::to_string),
        "endpoint": place.target.as_ref().ok().map(|target| target.endpoint.to_string()),
        "port": port,
        "auth": config.as_ref().ok().and_then(|config| config.shared_secret.as_ref()).map(SharedSecret::kind),
        "app": holder(&state.app_lock()),
        "appStatus": match &app {
            Ok(answer) => answer.clone(),
            Err(why) => json!({"ok": false, "why": why}),
        },
        "fence": said("fence"),
        "grants": said("grants"),
        "tunnel": said("tunnel"),
        "gatewayLock": holder(&state.gateway_lock()),
        "execSocket": {"path": state.exec_socket(), "present": state.exec_socket().exists()},
        "sockets": sockets(state),
        "listener": port.map(port_holder),
        "services": services(place),
        "gateway": gateway,
        "nodes": nodes,
        "freeBytes": existing(state.root()).and_then(host_stats::free_bytes),
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
    })
}

fn holder(path: &Path) -> Value {
    match InstanceLock::holder(path) {
        Some(pid) => json!({"running": true, "pid": pid}),
        None => json!({"running": false}),
    }
}

/// What the gateway says of itself, and its nodes.
fn gateway(target: &Result<Target, InspectError>) -> (Value, Value) {
    let unreachable = |error: &InspectError| (json!({"reachable": false, "why": error.to_string()}), Value::Null);
    let connection = match target.as_ref().map(|target| target.connect(&[scope::READ])) {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return unreachable(&error),
        Err(error) => return unreachable(error),
    };
    let mut answer = match call(&connection, "status", &json!({})) {
        Ok(answer) => answer,
        Err(error) => return unreachable(&error),
    };
    let health = call(&connection, "health", &json!({})).unwrap_or_default();
    let hello = connection.hello();
    if let Some(members) = answer.as_object_mut() {
        members.insert("reachable".to_owned(), true.into());
        members.insert("version".to_owned(), hello.server_version.clone().into());
        members.insert("protocol".to_owned(), hello.protocol.into());
        members.insert("healthy".to_owned(), health.get("ok").cloned().unwrap_or_default());
        let ahead = health.get("ts").and_then(Value::as_i64).map(|theirs| theirs.saturating_sub(clock::wall_ms()));
        members.insert("clockAheadMs".to_owned(), ahead.into());
        members.insert("key".to_owned(), hello.gateway_key.clone().into());
        members.insert("pinned".to_owned(), hello.gateway_key.is_some().into());
    }
    let list = call(&connection, "node.list", &json!({})).unwrap_or_default();
    let shown = ["nodeId", "displayName", "connected", "version", "platform", "approvalState", "pendingRequestId"];
    let row = |row: &Value| -> Value {
        shown.iter().filter_map(|name| Some(((*name).to_owned(), row.get(*name)?.clone()))).collect()
    };
    let nodes = list.get("nodes").and_then(Value::as_array);
    (answer, nodes.map(|nodes| nodes.iter().map(row).collect::<Vec<_>>()).into())
}

fn sockets(state: &StateDir) -> Vec<Value> {
    let all: [(&str, PathBuf); 4] = [
        ("gateway", state.gateway_socket()),
        ("exec", state.exec_socket()),
        ("control", state.control_socket()),
        ("bridge", state.bridge_socket()),
    ];
    all.into_iter().map(|(name, path)| socket(name, &path)).collect()
}

fn socket(name: &str, path: &Path) -> Value {
    let Ok(found) = path.symlink_metadata() else {
        return json!({"name": name, "path": path, "present": false});
    };
    let is_socket = found.file_type().is_socket();
    let is_own = found.uid() == process::effective_uid();
    json!({
        "name": name, "path": path, "present": true, "isSocket": is_socket, "owner": found.uid(), "isOwn": is_own,
        "mode": format!("{:04o}", found.mode() & 0o7777), "served": is_socket && is_own && is_served(path),
    })
}

/// Whether somebody takes connections there.
pub(super) fn is_served(path: &Path) -> bool {
    connect_unix(path, limits::EXEC_LINE_DEADLINE).is_ok()
}

/// Who has the gateway's port; null when nobody listens there.
fn port_holder(port: u16) -> Value {
    let (pid, uid) = (listener::holder_of(port), listener::owner_of(port));
    if pid.is_none() && uid.is_none() && TcpStream::connect(("127.0.0.1", port)).is_err() {
        return Value::Null;
    }
    json!({"port": port, "pid": pid, "owner": uid, "isOwn": uid == Some(process::effective_uid()),
        "program": pid.and_then(process::name_of)})
}

fn services(place: &Place) -> Value {
    let home = place.environment.home.as_deref().filter(|home| home.is_absolute());
    let Some(home) = home else { return json!([]) };
    let services = Services::of(home, place.state.clone());
    let all = Role::ALL.map(|role| serde_json::to_value(services.status(role)).unwrap_or_default());
    json!(all)
}

/// The nearest directory above that is there.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists())
}

/// `openclaw.json` alone, without any variable, if it can be read.
pub(super) fn file_alone(state: &StateDir) -> Option<Config> {
    Config::inspect(state, &Environment::default()).ok()
}
