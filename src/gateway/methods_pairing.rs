//! Methods about who is let in and what nodes may offer. Source: spec gateway §5, §7; cases A34–A44.

use super::methods::{Call, Reply};
use super::pairing::{DeviceRecord, PendingDevice, PendingSurface, RecordError, SurfaceRecord};
use super::scope::{self, Role};
use super::{event, methods_node};
use crate::limits;
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::WireError;
use crate::protocol::frame;
use crate::protocol::schema::{Kind, Member, may, need};
use crate::state::StateError;
use crate::sys::clock;
use serde_json::{Map, Value, json};

const REQUEST: &[Member] = &[need("requestId", Kind::Text(1))];
const NODE: &[Member] = &[need("nodeId", Kind::Text(1))];
const DEVICE: &[Member] = &[need("deviceId", Kind::Text(1))];
const DEVICE_TOKEN: &[Member; 2] = &[need("deviceId", Kind::Text(1)), need("role", Kind::Text(1))];

/// How a connection ends whose device or token is gone. Source: spec gateway §2 "Close codes".
const DEVICE_REMOVED: (u16, &str) = (4001, "device removed");

fn text(params: &Value, member: &str) -> String {
    params.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn unknown(what: &str) -> WireError {
    WireError::invalid(format!("unknown {what}"))
}

fn not_kept(error: StateError) -> WireError {
    WireError::unavailable(RecordError::from(error).to_string()).retryable()
}

fn client_members(client: &ClientInfo) -> Map<String, Value> {
    match serde_json::to_value(client) {
        Ok(Value::Object(mut members)) => {
            for (from, to) in [("id", "clientId"), ("mode", "clientMode")] {
                if let Some(value) = members.remove(from) {
                    members.insert(to.to_owned(), value);
                }
            }
            members.remove("instanceId");
            members
        }
        _ => Map::new(),
    }
}

/// What a device's row tells of its client. Source: schema `DevicePairRequestedEvent`.
fn device_members(client: &ClientInfo) -> Map<String, Value> {
    const TOLD: &[&str] = &["displayName", "platform", "deviceFamily", "clientId", "clientMode"];
    client_members(client).into_iter().filter(|(name, _)| TOLD.contains(&name.as_str())).collect()
}

fn row(mut members: Map<String, Value>, more: Value) -> Value {
    if let Value::Object(more) = more {
        members.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Object(members)
}

/// Row of `node.pair.list` `pending`, and payload of `node.pair.requested`.
pub fn pending_surface_row(pending: &PendingSurface) -> Value {
    row(
        client_members(&pending.client),
        json!({
            "requestId": pending.request_id,
            "nodeId": pending.node_id,
            "caps": pending.surface.caps,
            "commands": pending.surface.commands,
            "permissions": pending.surface.permissions,
            "requiredApproveScopes": pending.required_scopes(),
            "ts": pending.ts,
        }),
    )
}

fn surface_row(record: &SurfaceRecord) -> Value {
    let mut row = row(
        client_members(&record.client),
        json!({
            "nodeId": record.node_id,
            "caps": record.surface.caps,
            "commands": record.surface.commands,
            "permissions": record.surface.permissions,
            "createdAtMs": record.created_at_ms,
            "approvedAtMs": record.approved_at_ms,
            "lastSeenAtMs": record.last_seen_at_ms,
            "lastSeenReason": record.last_seen_reason,
        }),
    );
    if let (Some(label), Some(row)) = (&record.label, row.as_object_mut()) {
        row.insert("displayName".to_owned(), label.as_str().into());
    }
    row
}

/// Row of `device.pair.list` `pending`, and payload of `device.pair.requested`.
pub fn pending_device_row(pending: &PendingDevice) -> Value {
    row(
        device_members(&pending.client),
        json!({
            "requestId": pending.request_id,
            "deviceId": pending.device_id,
            "publicKey": pending.public_key,
            "role": pending.role,
            "roles": [pending.role],
            "scopes": pending.scopes,
            "silent": false,
            "isRepair": pending.is_repair,
            "ts": pending.ts,
        }),
    )
}

fn device_row(call: &Call<'_>, record: &DeviceRecord) -> Value {
    let connected = !call.core.registry.sessions_of(&record.device_id).is_empty();
    row(
        device_members(&record.client),
        json!({
            "deviceId": record.device_id,
            "publicKey": record.public_key,
            "operatorLabel": record.label,
            "role": record.roles.first(),
            "roles": record.roles,
            "scopes": record.scopes,
            "approvedVia": record.approved_via,
            "createdAtMs": record.created_at_ms,
            "approvedAtMs": record.approved_at_ms,
            "connected": connected,
            "tokens": record.token_rows(),
        }),
    )
}

/// `node.pair.list {}`
pub fn node_list(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    let (pending, paired) = call.core.pairing().surfaces();
    let pending: Vec<Value> =
        pending.iter().filter(|row| call.session.sees(&row.node_id)).map(pending_surface_row).collect();
    let paired: Vec<Value> = paired.iter().filter(|row| call.session.sees(&row.node_id)).map(surface_row).collect();
    Ok(Reply::Now(json!({"pending": pending, "paired": paired})))
}

/// `node.pair.approve {requestId}`: takes effect on the live connection.
pub fn node_approve(call: &Call<'_>) -> Result<Reply, WireError> {
    let request_id = text(&call.params(REQUEST)?, "requestId");
    let mut pairing = call.core.pairing();
    let pending = pairing.pending_surface(&request_id).filter(|pending| call.session.sees(&pending.node_id));
    let needed = pending.ok_or_else(|| unknown("requestId"))?.required_scopes();
    if let Some(missing) = needed.iter().find(|scope| !call.session.may(scope)) {
        return Err(WireError::missing_scope(missing, &needed));
    }
    let record = pairing.approve_surface(&request_id).map_err(not_kept)?.ok_or_else(|| unknown("requestId"))?;
    drop(pairing);
    if let Some(node) = call.core.registry.node(&record.node_id).as_ref().and_then(|session| session.node.as_ref()) {
        node.live().approved = Some(record.surface.clone());
    }
    crate::log!("gateway", "{} approved the surface of node {}", call.session.label(), record.node_id);
    methods_node::surface_resolved(call, &record.node_id, &request_id, "approved");
    Ok(Reply::Now(json!({"requestId": request_id, "node": surface_row(&record)})))
}

/// `node.pair.reject {requestId}`
pub fn node_reject(call: &Call<'_>) -> Result<Reply, WireError> {
    let request_id = text(&call.params(REQUEST)?, "requestId");
    let mut pairing = call.core.pairing();
    if !pairing.pending_surface(&request_id).is_some_and(|pending| call.session.sees(&pending.node_id)) {
        return Err(unknown("requestId"));
    }
    let pending = pairing.reject_surface(&request_id).map_err(not_kept)?.ok_or_else(|| unknown("requestId"))?;
    drop(pairing);
    methods_node::surface_resolved(call, &pending.node_id, &request_id, "rejected");
    Ok(Reply::Now(json!({"requestId": request_id, "nodeId": pending.node_id})))
}

/// `node.pair.remove {nodeId}`: the device is no node any more; its connection ends, and what runs
/// there is cancelled.
pub fn node_remove(call: &Call<'_>) -> Result<Reply, WireError> {
    let node_id = text(&call.params(NODE)?, "nodeId");
    if !call.session.sees(&node_id) || !call.core.pairing().remove_node(&node_id).map_err(not_kept)? {
        return Err(unknown("nodeId"));
    }
    call.core.pending_work.forget(&node_id);
    methods_node::surface_resolved(call, &node_id, "", "removed");
    role_ended(call, &node_id, Role::Node);
    Ok(Reply::Now(json!({"nodeId": node_id})))
}

/// `device.pair.list {}`
pub fn device_list(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    let (pending, paired) = call.core.pairing().devices();
    let pending: Vec<Value> =
        pending.iter().filter(|row| call.session.sees(&row.device_id)).map(pending_device_row).collect();
    let paired: Vec<Value> =
        paired.iter().filter(|row| call.session.sees(&row.device_id)).map(|record| device_row(call, record)).collect();
    Ok(Reply::Now(json!({"pending": pending, "paired": paired})))
}

/// `device.pair.approve {requestId}`. A node needs admin; an operator every scope that it asks for
/// (A40). The official CLI repeats the call with admin when it hears exactly this refusal.
pub fn device_approve(call: &Call<'_>) -> Result<Reply, WireError> {
    let request_id = text(&call.params(REQUEST)?, "requestId");
    let mut pairing = call.core.pairing();
    let pending = pairing.pending_device(&request_id).filter(|pending| call.session.sees(&pending.device_id));
    let pending = pending.ok_or_else(|| unknown("requestId"))?;
    let enough = if pending.role == Role::Node.word() {
        call.session.may(scope::ADMIN)
    } else {
        scope::covers(&call.session.scopes, &pending.scopes)
    };
    if !enough {
        return Err(WireError::invalid("device pairing approval denied"));
    }
    let record = pairing.approve_device(&request_id).map_err(not_kept)?.ok_or_else(|| unknown("requestId"))?;
    drop(pairing);
    crate::log!("gateway", "{} approved device {} as {}", call.session.label(), record.device_id, pending.role);
    device_resolved(call, &request_id, &record.device_id, "approved");
    Ok(Reply::Now(json!({"requestId": request_id, "device": device_row(call, &record)})))
}

/// `device.pair.reject {requestId}`
pub fn device_reject(call: &Call<'_>) -> Result<Reply, WireError> {
    let request_id = text(&call.params(REQUEST)?, "requestId");
    let mut pairing = call.core.pairing();
    if !pairing.pending_device(&request_id).is_some_and(|pending| call.session.sees(&pending.device_id)) {
        return Err(unknown("requestId"));
    }
    let pending = pairing.reject_device(&request_id).map_err(not_kept)?.ok_or_else(|| unknown("requestId"))?;
    drop(pairing);
    device_resolved(call, &request_id, &pending.device_id, "rejected");
    Ok(Reply::Now(json!({"requestId": request_id, "deviceId": pending.device_id})))
}

/// `device.pair.remove {deviceId}`: tokens, surface and live connections go with it.
pub fn device_remove(call: &Call<'_>) -> Result<Reply, WireError> {
    let device_id = text(&call.params(DEVICE)?, "deviceId");
    if !call.session.sees(&device_id) {
        return Err(unknown("deviceId"));
    }
    if !call.core.pairing().remove_device(&device_id).map_err(not_kept)? {
        return Err(unknown("deviceId"));
    }
    for session in call.core.registry.sessions_of(&device_id) {
        session.outbox.close(DEVICE_REMOVED.0, DEVICE_REMOVED.1);
    }
    call.core.invocations.pairing_changed(&device_id);
    call.core.pending_work.forget(&device_id);
    // No request ends with it, so there is nothing to name in `resolved`.
    call.core.registry.broadcast(event::DEVICE_PAIR_CHANGED, &json!({}), Some(scope::PAIRING), None);
    Ok(Reply::Now(json!({"deviceId": device_id})))
}

/// `node.rename {nodeId, displayName}`: the owner's name for a node whose surface is approved.
pub fn node_rename(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("nodeId", Kind::Text(1)), need("displayName", Kind::Text(1))])?;
    let (node_id, name) = (text(&params, "nodeId"), given_name(&params, "displayName", limits::DECLARED_NAME_BYTES)?);
    if !call.session.sees(&node_id) || !call.core.pairing().rename_surface(&node_id, &name).map_err(not_kept)? {
        return Err(unknown("nodeId"));
    }
    Ok(Reply::Now(json!({"nodeId": node_id, "displayName": name})))
}

/// `device.pair.rename {deviceId, label}`
pub fn device_rename(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("deviceId", Kind::Text(1)), need("label", Kind::Text(1))])?;
    let (device_id, label) = (text(&params, "deviceId"), given_name(&params, "label", limits::DEVICE_LABEL_BYTES)?);
    if !call.session.sees(&device_id) || !call.core.pairing().rename_device(&device_id, &label).map_err(not_kept)? {
        return Err(unknown("deviceId"));
    }
    call.core.registry.broadcast(event::DEVICE_PAIR_CHANGED, &json!({}), Some(scope::PAIRING), None);
    Ok(Reply::Now(json!({"deviceId": device_id, "label": label})))
}

/// `device.token.rotate {deviceId, role, scopes?}`: never for a role that was not approved (A35), never
/// with more than the caller and the record both have (A34). Only the device itself is told the token.
pub fn token_rotate(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[DEVICE_TOKEN[0], DEVICE_TOKEN[1], may("scopes", Kind::Texts)])?;
    let (record, role) = token_target(call, &params, "rotation")?;
    if record.is_revoked(role) {
        return Err(token_denied("rotation"));
    }
    let asked = params.get("scopes").and_then(|scopes| serde_json::from_value::<Vec<String>>(scopes.clone()).ok());
    let scopes = match (role, asked) {
        (Role::Node, asked) => asked.unwrap_or_default(),
        (Role::Operator, asked) => asked.unwrap_or_else(|| record.scopes.clone()),
    };
    let allowed = match role {
        Role::Node => scopes.is_empty(),
        Role::Operator => scope::covers(&record.scopes, &scopes) && scope::covers(&call.session.scopes, &scopes),
    };
    if !allowed {
        return Err(token_denied("rotation"));
    }
    let is_own = call.session.device_id.as_deref() == Some(record.device_id.as_str());
    let minted = call.core.pairing().rotate_token(&record.device_id, role, scopes.clone(), is_own);
    let minted = minted.map_err(|error| WireError::unavailable(error.to_string()).retryable())?;
    let (token, at) = minted.new_token.ok_or_else(|| unknown("deviceId"))?;
    let mut answer = json!({"deviceId": record.device_id, "role": role.word(), "scopes": scopes, "rotatedAtMs": at});
    if let Some(members) = answer.as_object_mut() {
        let delivery = if is_own { "in-band" } else { "withheld-cross-device" };
        members.insert("tokenDelivery".to_owned(), delivery.into());
        if is_own {
            members.insert("token".to_owned(), String::from_utf8_lossy(token.expose()).into());
        }
    }
    // The answer first: it may hold the token of the very connection that ends.
    call.session.send(frame::response_ok(&call.request.id, &answer));
    token_ended(call, &record.device_id, role, "rotated");
    Ok(Reply::Later)
}

/// `device.token.revoke {deviceId, role}`: the role needs a new approval.
pub fn token_revoke(call: &Call<'_>) -> Result<Reply, WireError> {
    let (record, role) = token_target(call, &call.params(DEVICE_TOKEN)?, "revocation")?;
    let at = call.core.pairing().revoke_token(&record.device_id, role).map_err(not_kept)?;
    let answer = json!({"deviceId": record.device_id, "role": role.word(), "revokedAtMs": at});
    call.session.send(frame::response_ok(&call.request.id, &answer));
    token_ended(call, &record.device_id, role, "revoked");
    Ok(Reply::Later)
}

/// Whose token: a device that the caller may see, and a role that it was approved for.
fn token_target(call: &Call<'_>, params: &Value, what: &str) -> Result<(DeviceRecord, Role), WireError> {
    let (device_id, word) = (text(params, "deviceId"), text(params, "role"));
    let role = [Role::Node, Role::Operator].into_iter().find(|role| role.word() == word);
    let record = call.core.pairing().device(&device_id).filter(|_| call.session.sees(&device_id)).cloned();
    let found = record.zip(role).filter(|(record, role)| record.has_role(*role));
    let (record, role) = found.ok_or_else(|| token_denied(what))?;
    if role == Role::Node && !call.session.may(scope::ADMIN) {
        return Err(WireError::missing_scope(scope::ADMIN, &[scope::PAIRING, scope::ADMIN]));
    }
    Ok((record, role))
}

/// One answer for every reason: the caller learns nothing about devices that are not its own.
fn token_denied(what: &str) -> WireError {
    WireError::invalid(format!("device token {what} denied"))
}

fn token_ended(call: &Call<'_>, device_id: &str, role: Role, what: &str) {
    crate::log!("gateway", "{} {what} the {} token of device {device_id}", call.session.label(), role.word());
    role_ended(call, device_id, role);
}

/// The live connections of a role end with it (A14).
fn role_ended(call: &Call<'_>, device_id: &str, role: Role) {
    for session in call.core.registry.sessions_of(device_id).iter().filter(|session| session.role == role) {
        if let Some(node) = &session.node {
            node.live().approved = None;
        }
        session.outbox.close(DEVICE_REMOVED.0, DEVICE_REMOVED.1);
    }
    if role == Role::Node {
        call.core.invocations.pairing_changed(device_id);
    }
}

/// A name that an owner gives; it is shown on terminals.
fn given_name(params: &Value, member: &str, most: usize) -> Result<String, WireError> {
    let name = text(params, member).trim().to_owned();
    if name.is_empty() || name.len() > most {
        return Err(WireError::invalid(format!("{member} must have 1 to {most} bytes")));
    }
    Ok(name)
}

fn device_resolved(call: &Call<'_>, request_id: &str, device_id: &str, decision: &str) {
    let payload = json!({"requestId": request_id, "deviceId": device_id, "decision": decision, "ts": clock::wall_ms()});
    call.core.registry.tell_of_pairing(event::DEVICE_PAIR_RESOLVED, &payload, device_id);
}
