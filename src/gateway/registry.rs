//! Who is connected, and telling them.

use super::pairing::{DeviceRecord, Pairing};
use super::scope::{self, Role};
use super::session::Session;
use super::{Core, event};
use crate::protocol::frame::{self, StateVersion};
use crate::sys::clock;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everybody who has logged in.
#[derive(Default)]
pub struct Registry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sessions: HashMap<u64, Arc<Session>>,
    /// The newest connection of each node.
    nodes: HashMap<String, Arc<Session>>,
    version: StateVersion,
}

impl Registry {
    /// Adds a session; a node's newest connection owns the node. `hello` is sent under the lock:
    /// nothing overtakes it, and whoever acts on it finds the session registered.
    pub fn add(&self, session: &Arc<Session>, hello: String) {
        let mut inner = self.inner();
        session.send(hello);
        inner.version.presence += 1;
        inner.sessions.insert(session.number, Arc::clone(session));
        if let (Some(id), Role::Node) = (&session.device_id, session.role) {
            inner.nodes.insert(id.clone(), Arc::clone(session));
        }
    }

    /// Removes a session. True if it owned its node, so that the node is gone now.
    pub fn remove(&self, session: &Session) -> bool {
        let mut inner = self.inner();
        inner.version.presence += 1;
        inner.sessions.remove(&session.number);
        let Some(id) = session.device_id.as_deref().filter(|_| session.role == Role::Node) else { return false };
        // An older connection that closes must not take the newer one with it.
        if inner.nodes.get(id).is_some_and(|owner| owner.number == session.number) {
            inner.nodes.remove(id);
            return true;
        }
        false
    }

    /// The connection that owns a node.
    pub fn node(&self, id: &str) -> Option<Arc<Session>> {
        self.inner().nodes.get(id).cloned()
    }

    /// Everybody.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.inner().sessions.values().cloned().collect()
    }

    /// Connections of one device.
    pub fn sessions_of(&self, device_id: &str) -> Vec<Arc<Session>> {
        let inner = self.inner();
        inner.sessions.values().filter(|session| session.device_id.as_deref() == Some(device_id)).cloned().collect()
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.inner().sessions.len()
    }

    /// Versions of presence and health.
    pub fn version(&self) -> StateVersion {
        self.inner().version
    }

    /// Sends an event to every operator with `scope` (none = to everybody), numbered per connection.
    pub fn broadcast<P: Serialize>(&self, name: &str, payload: &P, scope: Option<&str>, version: Option<StateVersion>) {
        // Written once: a presence list has a row for each peer, and goes to each operator.
        let Ok(payload) = to_raw_value(payload) else { return };
        for session in self.sessions() {
            if scope.is_none_or(|scope| session.may(scope)) {
                session.outbox.numbered(|seq| frame::broadcast(name, &payload, seq, version));
            }
        }
    }

    /// An event about the pairing of a device, for those who may know of it (A44).
    pub fn tell_of_pairing(&self, name: &str, payload: &Value, device_id: &str) {
        for session in self.sessions().iter().filter(|session| session.sees(device_id)) {
            session.outbox.numbered(|seq| frame::broadcast(name, payload, seq, None));
        }
    }

    /// Counts a change of health.
    fn next_health(&self) -> StateVersion {
        let mut inner = self.inner();
        inner.version.health += 1;
        inner.version
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who may look, and nodes, whether the gateway is well; only when that has changed.
/// Called now and then: nobody waits for it.
pub fn tell_health(core: &Core) {
    let failing = core.pairing().is_failing();
    if core.told_failing.swap(failing, Ordering::SeqCst) == failing {
        return;
    }
    let (health, version) = (super::methods::health(core), core.registry.next_health());
    for session in core.registry.sessions() {
        if session.role == Role::Node || session.may(scope::READ) {
            session.outbox.numbered(|seq| frame::broadcast(event::HEALTH, &health, seq, Some(version)));
        }
    }
}

/// The presence list has changed: the timer tells those who may look, at once or as soon as
/// [`crate::limits::PRESENCE_INTERVAL`] allows. Told for each change, a thousand nodes that come back together would
/// be a million rows for each operator.
pub fn presence_changed(core: &Core) {
    tell_health(core);
    if !core.presence_waits.swap(true, Ordering::SeqCst) {
        core.invocations.wake_timer();
    }
}

/// Tells those who may look who is connected now.
pub fn tell_presence(core: &Core) {
    core.presence_waits.store(false, Ordering::SeqCst);
    let payload = json!({"presence": presence(core)});
    core.registry.broadcast(event::PRESENCE, &payload, Some(scope::READ), Some(core.registry.version()));
}

/// The presence list: this gateway, then everybody connected. Source: spec gateway §7.
pub fn presence(core: &Core) -> Vec<Value> {
    let platform = std::env::consts::OS;
    let host = &core.host_name;
    let mut rows = vec![json!({
        "host": host, "version": super::VERSION, "platform": platform, "deviceFamily": crate::sys::platform::device_family(), "mode": "gateway", "reason": "self",
        "instanceId": core.boot_id, "text": format!("Gateway: {host} · mode gateway · reason self"),
        "ts": clock::wall_ms(),
    })];
    let mut sessions = core.registry.sessions();
    sessions.sort_by_key(|session| session.number);
    rows.extend(sessions.iter().map(|session| presence_row(session)));
    rows
}

fn presence_row(session: &Session) -> Value {
    let client = &session.client;
    let name = client.display_name.as_deref().unwrap_or(&client.id);
    let mut row = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            row.insert(key.to_owned(), value);
        }
    };
    put("host", Some(name.into()));
    put("clientId", Some(client.id.as_str().into()));
    put("version", Some(client.version.as_str().into()));
    put("platform", Some(client.platform.as_str().into()));
    put("deviceFamily", client.device_family.as_deref().map(Value::from));
    put("modelIdentifier", client.model_identifier.as_deref().map(Value::from));
    put("mode", Some(client.mode.as_str().into()));
    put("deviceId", session.device_id.as_deref().map(Value::from));
    put("roles", Some(json!([session.role.word()])));
    put("scopes", (session.role == Role::Operator).then(|| json!(session.scopes)));
    put("instanceId", session.device_id.as_deref().or(client.instance_id.as_deref()).map(Value::from));
    put("reason", Some("connect".into()));
    put("text", Some(format!("Node: {name} · mode {}", client.mode).into()));
    put("ts", Some(session.connected_at_ms.into()));
    Value::Object(row)
}

/// Every node that is paired or connected. Source: spec gateway §5 "node.list / node.describe row".
/// What waits for approval is shown to those who may approve.
pub fn node_rows(core: &Core, viewer: &Session) -> Vec<Box<RawValue>> {
    let pairing = core.pairing();
    let rows = pairing.node_devices().filter_map(|device| node_row(core, &pairing, device, viewer).ok());
    let mut rows: Vec<(NodeOrder, Box<RawValue>)> = rows.collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows.into_iter().map(|(_, row)| row).collect()
}

/// One node's row, or none when it is unknown.
pub fn node_row_of(core: &Core, id: &str, viewer: &Session) -> Option<Map<String, Value>> {
    let pairing = core.pairing();
    let device = pairing.device(id).filter(|device| device.has_role(Role::Node))?;
    let (_, row) = node_row(core, &pairing, device, viewer).ok()?;
    serde_json::from_str(row.get()).ok()
}

/// Connected nodes first, then by name, then by id.
type NodeOrder = (bool, String, String);

/// Written member by member: as a [`Value`] each, a thousand rows take several times as long.
fn node_row(
    core: &Core,
    pairing: &Pairing,
    device: &DeviceRecord,
    viewer: &Session,
) -> Result<(NodeOrder, Box<RawValue>), serde_json::Error> {
    let id = device.device_id.as_str();
    let session = core.registry.node(id);
    let node = session.as_ref().and_then(|session| session.node.as_ref());
    let record = pairing.surface(id);
    let pending = pairing.pending_surface_of(id);
    let client = session
        .as_ref()
        .map(|session| &session.client)
        .or(record.map(|record| &record.client))
        .unwrap_or(&device.client);
    let state = match (record, pending) {
        (Some(_), Some(_)) => "pending-reapproval",
        (Some(_), None) => "approved",
        (None, Some(_)) => "pending-approval",
        (None, None) => "unapproved",
    };
    let surface = match node {
        Some(node) => node.effective(),
        None => record.map(|record| record.surface.clone()).unwrap_or_default(),
    };
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    let mut row = serializer.serialize_map(None)?;
    let label = record.and_then(|record| record.label.as_deref());
    let name = label.or(client.display_name.as_deref()).unwrap_or(&client.id);
    row.serialize_entry("nodeId", id)?;
    row.serialize_entry("displayName", name)?;
    row.serialize_entry("platform", &client.platform)?;
    row.serialize_entry("version", &client.version)?;
    row.serialize_entry("clientId", &client.id)?;
    row.serialize_entry("clientMode", &client.mode)?;
    put(&mut row, "deviceFamily", client.device_family.as_ref())?;
    put(&mut row, "modelIdentifier", client.model_identifier.as_ref())?;
    row.serialize_entry("caps", &sorted(&surface.caps))?;
    row.serialize_entry("commands", &sorted(&surface.commands))?;
    put(&mut row, "permissions", surface.permissions.as_ref())?;
    row.serialize_entry("sessionHost", &false)?;
    row.serialize_entry("approvalState", state)?;
    if let Some(pending) = pending.filter(|_| viewer.sees(id)) {
        row.serialize_entry("pendingRequestId", &pending.request_id)?;
        row.serialize_entry("pendingDeclaredCaps", &sorted(&pending.surface.caps))?;
        row.serialize_entry("pendingDeclaredCommands", &sorted(&pending.surface.commands))?;
        put(&mut row, "pendingDeclaredPermissions", pending.surface.permissions.as_ref())?;
    }
    if let (Some(session), Some(node)) = (&session, node) {
        row.serialize_entry("nodePluginTools", &[(); 0])?;
        put(&mut row, "pathEnv", node.path_env.as_ref())?;
        put(&mut row, "hostStats", node.live().host_stats.as_ref())?;
        row.serialize_entry("connectedAtMs", &session.connected_at_ms)?;
        row.serialize_entry("lastConnectedAtMs", &session.connected_at_ms)?;
    }
    let seen = record.map(|record| (record.last_seen_at_ms, record.last_seen_reason.as_str()));
    let seen = seen.or(session.as_ref().map(|session| (session.connected_at_ms, "connect")));
    put(&mut row, "lastSeenAtMs", seen.map(|(at, _)| at))?;
    put(&mut row, "lastSeenReason", seen.map(|(_, reason)| reason))?;
    put(&mut row, "approvedAtMs", record.map(|record| record.approved_at_ms))?;
    row.serialize_entry("paired", &true)?;
    row.serialize_entry("connected", &session.is_some())?;
    SerializeMap::end(row)?;
    let row = RawValue::from_string(String::from_utf8(text).unwrap_or_default())?;
    Ok(((session.is_none(), name.to_lowercase(), id.to_owned()), row))
}

/// A member that is left out when there is nothing to say.
fn put<M: SerializeMap>(row: &mut M, key: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| row.serialize_entry(key, &value))
}

fn sorted(names: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}
