//! `mac-debug approvals`: commands that wait for an operator's word.

use super::{InspectError, Target, call};
use crate::desktop::terminal::shown;
use crate::gateway::scope;
use crate::sys::clock;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What waits: the rows of `exec.approval.list`, oldest first, each with `secondsLeft`.
///
/// # Errors
/// See [`InspectError`].
pub fn list(target: &Target) -> Result<Value, InspectError> {
    let connection = target.connect(&[scope::ADMIN])?;
    let mut list = call(&connection, "exec.approval.list", &json!({}))?;
    let now = clock::wall_ms();
    for row in list.as_array_mut().into_iter().flatten() {
        let left = row.get("expiresAtMs").and_then(Value::as_i64).unwrap_or(now).saturating_sub(now) / 1_000;
        if let Some(members) = row.as_object_mut() {
            members.insert("secondsLeft".to_owned(), left.max(0).into());
        }
    }
    Ok(list)
}

/// The same for a person. One field a line, nothing cut, the command last, as in a prompt.
pub fn text(list: &Value) -> String {
    let mut out = String::new();
    for row in list.as_array().into_iter().flatten() {
        let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str);
        let mut field = |name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let _ = writeln!(out, "  {name:<10} {}", shown(value));
            }
        };
        field("approval", text("/id"));
        field("host", text("/request/host"));
        field("node", text("/request/nodeId"));
        field("program", text("/request/resolvedPath"));
        field("directory", text("/request/cwd"));
        let claim = |pointer: &str| text(pointer).map(|name| format!("says it is \"{name}\""));
        field("agent", claim("/request/agentId").as_deref());
        field("session", claim("/request/sessionKey").as_deref());
        for line in text("/request/warningText").unwrap_or_default().lines() {
            field("note", Some(line));
        }
        let words = row.pointer("/request/allowedDecisions").and_then(Value::as_array);
        let words: Vec<&str> = words.into_iter().flatten().filter_map(Value::as_str).collect();
        field("answers", Some(&words.join(", ")));
        field("ends in", row.get("secondsLeft").map(|left| format!("{left} s")).as_deref());
        field("command", text("/request/command"));
        out.push('\n');
    }
    if out.is_empty() { "nothing waits for an answer\n".to_owned() } else { out }
}

/// Answers one.
///
/// # Errors
/// See [`InspectError`]; another answer came first, or none waits under this id.
pub fn resolve(target: &Target, id: &str, decision: &str) -> Result<Value, InspectError> {
    let connection = target.connect(&[scope::ADMIN])?;
    call(&connection, "exec.approval.resolve", &json!({"id": id, "decision": decision}))
}
