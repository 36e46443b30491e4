//! `mac-debug nodes`, and choosing one.

use super::{InspectError, Target, call, shown, table};
use crate::client::Connection;
use crate::gateway::scope;
use serde_json::{Value, json};

/// `node.list` as the gateway gives it.
///
/// # Errors
/// See [`InspectError`].
pub fn nodes(target: &Target) -> Result<Value, InspectError> {
    call(&target.connect(&[scope::READ, scope::PAIRING])?, "node.list", &json!({}))
}

fn rows(list: &Value) -> &[Value] {
    list.get("nodes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The same for a person.
pub fn text(list: &Value) -> String {
    let rows: Vec<Vec<String>> = rows(list)
        .iter()
        .map(|row| {
            let commands = row.get("commands").and_then(Value::as_array).map(Vec::len).unwrap_or(0);
            let connected = row.get("connected") == Some(&Value::Bool(true));
            let approval = match row.get("pendingRequestId").and_then(Value::as_str) {
                Some(request) => {
                    format!("{} (request {})", shown(row, "approvalState"), crate::protocol::text::visible(request))
                }
                None => shown(row, "approvalState").into_owned(),
            };
            vec![
                shown(row, "displayName").into_owned(),
                shown(row, "nodeId").chars().take(12).collect(),
                if connected { "connected" } else { "away" }.to_owned(),
                shown(row, "platform").into_owned(),
                commands.to_string(),
                approval,
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no nodes; start one with `openclaw app` or `openclaw node`\n".to_owned();
    }
    table(&["NAME", "NODE", "STATE", "PLATFORM", "COMMANDS", "APPROVAL"], &rows)
}

/// The node that `wanted` names by id, id prefix or name; without a name the only connected one
/// that has `command`.
///
/// # Errors
/// None fits, or more than one.
pub fn choose(connection: &Connection, wanted: Option<&str>, command: &str) -> Result<String, InspectError> {
    let list = call(connection, "node.list", &json!({}))?;
    let text = |row: &Value, member: &str| row.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let fits = |row: &&Value| match wanted {
        Some(wanted) => {
            let id = text(row, "nodeId");
            id == wanted || text(row, "displayName") == wanted || (wanted.len() >= 4 && id.starts_with(wanted))
        }
        None => {
            let has = row
                .get("commands")
                .and_then(Value::as_array)
                .is_some_and(|names| names.iter().any(|name| name.as_str() == Some(command)));
            has && row.get("connected") == Some(&Value::Bool(true))
        }
    };
    let found: Vec<&Value> = rows(&list).iter().filter(fits).collect();
    match (found.as_slice(), wanted) {
        ([row], _) => Ok(text(row, "nodeId")),
        ([], Some(wanted)) => {
            Err(InspectError::Usage(format!("no node is called {wanted}; see `openclaw mac-debug nodes`")))
        }
        ([], None) => Err(InspectError::Usage(format!(
            "no connected node offers {command}; see `openclaw mac-debug nodes` (a new node must be approved first)"
        ))),
        (more, _) => {
            let names: Vec<String> = more
                .iter()
                .map(|row| {
                    format!(
                        "{} ({})",
                        shown(row, "displayName"),
                        shown(row, "nodeId").chars().take(12).collect::<String>()
                    )
                })
                .collect();
            Err(InspectError::Usage(format!("several nodes fit, say one with --node: {}", names.join(", "))))
        }
    }
}
