//! `mac-debug pair`: devices that want in, and surfaces that nodes offer.

use super::{InspectError, Target, call, shown, table};
use crate::client::{Connection, Endpoint};
use crate::gateway::scope;
use crate::protocol::setup::setup_link;
use serde_json::{Value, json};

/// What waits and what is in: `{nodes: node.pair.list, devices: device.pair.list}`.
///
/// # Errors
/// See [`InspectError`].
pub fn list(target: &Target) -> Result<Value, InspectError> {
    let connection = target.connect(&[scope::PAIRING])?;
    let nodes = call(&connection, "node.pair.list", &json!({}))?;
    let devices = call(&connection, "device.pair.list", &json!({}))?;
    Ok(json!({"nodes": nodes, "devices": devices}))
}

/// The same for a person.
pub fn text(list: &Value) -> String {
    let mut rows = Vec::new();
    for (kind, pointer, waits, id) in [
        ("device", "/devices/pending", true, "deviceId"),
        ("surface", "/nodes/pending", true, "nodeId"),
        ("device", "/devices/paired", false, "deviceId"),
        ("surface", "/nodes/paired", false, "nodeId"),
    ] {
        for row in list.pointer(pointer).and_then(Value::as_array).into_iter().flatten() {
            let what = match row.get("commands").and_then(Value::as_array) {
                Some(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
                None => format!("{} {}", shown(row, "roles"), shown(row, "scopes")),
            };
            rows.push(vec![
                kind.to_owned(),
                if waits { shown(row, "requestId").into_owned() } else { "paired".to_owned() },
                shown(row, "displayName").into_owned(),
                shown(row, id).chars().take(12).collect(),
                crate::protocol::text::visible(&what),
            ]);
        }
    }
    if rows.is_empty() {
        return "nothing waits and nothing is paired\n".to_owned();
    }
    table(&["WHAT", "REQUEST", "NAME", "DEVICE", "FOR"], &rows)
}

/// A setup link for one new node: `device.pair.setupCode`, whose answer gets the member `link`.
///
/// # Errors
/// See [`InspectError`].
pub fn link(target: &Target) -> Result<Value, InspectError> {
    let connection = target.connect(&[scope::ADMIN])?;
    let mut params = json!({"bootstrapProfile": "node", "includeQr": false});
    // The official gateway does not count its loopback address as one to give away.
    if let (Endpoint::Tcp { .. }, Some(members)) = (&target.endpoint, params.as_object_mut()) {
        members.insert("publicUrl".to_owned(), target.endpoint.to_string().into());
    }
    let mut answer = call(&connection, "device.pair.setupCode", &params)?;
    let code = answer.get("setupCode").and_then(Value::as_str).map(str::to_owned);
    let code = code.ok_or_else(|| InspectError::Answer("it has no setupCode".to_owned()))?;
    if let Some(members) = answer.as_object_mut() {
        members.insert("link".to_owned(), setup_link(&code).into());
    }
    Ok(answer)
}

/// The link, alone on its line.
pub fn link_text(answer: &Value) -> String {
    format!("{}\n", shown(answer, "link"))
}

/// Approves or rejects a request, whichever of the two kinds it is. Asks for the scopes that the
/// request needs and no more.
///
/// # Errors
/// See [`InspectError`].
pub fn resolve(target: &Target, request_id: &str, approve: bool) -> Result<Value, InspectError> {
    let seen = list(target)?;
    let waits = |pointer: &str| {
        let rows = seen.pointer(pointer).and_then(Value::as_array);
        rows.into_iter().flatten().find(|row| row.get("requestId").and_then(Value::as_str) == Some(request_id)).cloned()
    };
    let verb = if approve { "approve" } else { "reject" };
    let texts = |row: &Value, member: &str| -> Vec<String> {
        let names = row.get(member).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (method, mut scopes) = match (waits("/nodes/pending"), waits("/devices/pending")) {
        (Some(row), _) => (format!("node.pair.{verb}"), texts(&row, "requiredApproveScopes")),
        (None, Some(row)) => {
            let is_node = row.get("role").and_then(Value::as_str) == Some("node");
            let scopes = if is_node { vec![scope::ADMIN.to_owned()] } else { texts(&row, "scopes") };
            (format!("device.pair.{verb}"), scopes)
        }
        (None, None) => {
            return Err(InspectError::Usage(
                "no request with this id waits; see `openclaw mac-debug pair list`".to_owned(),
            ));
        }
    };
    scopes.push(scope::PAIRING.to_owned());
    let wanted: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let connection: Connection = target.connect(&wanted)?;
    call(&connection, &method, &json!({"requestId": request_id}))
}
