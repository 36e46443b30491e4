//! How much of the approvals document a peer sees. The protocol's schema forbids every member that it
//! does not know, so a denylist or a fence cannot cross it: such members are left out on the way out
//! and kept on the way in. Source: schema `ExecApprovalsSnapshot` of @openclaw/gateway-protocol 2026.9.

use super::id_of;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Which members a peer shows and edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of them but the token: for our own tools.
    Whole,
    /// Those of the schema. What an edit in this form does not mention stays if the form cannot carry
    /// it; what it does mention counts.
    Wire,
}

/// Parameter with which our own tools ask our own gateway and node for [`Form::Whole`].
pub const WHOLE: &str = "whole";

impl Form {
    /// What these parameters of `exec.approvals.*` or `system.execApprovals.*` ask for.
    pub fn of(params: &Value) -> Self {
        if params.get(WHOLE) == Some(&Value::Bool(true)) { Self::Whole } else { Self::Wire }
    }
}

type Members = Map<String, Value>;
/// Whether the wire carries this member of its level.
type Carries = fn(&str, &Value) -> bool;

const TOP: Carries = |name, _| ["version", "socket", "defaults", "agents"].contains(&name);
const DEFAULTS: Carries = |name, _| ["security", "ask", "askFallback", "autoAllowSkills"].contains(&name);
const AGENT: Carries = |name, value| match name {
    "allowlist" => true,
    "mcpTools" => value.as_array().is_some_and(|tools| tools.iter().all(is_mcp_tool)),
    _ => DEFAULTS(name, value),
};
const ENTRY: Carries = |name, value| match name {
    "id" => value != "",
    "lastUsedAt" => is_time(value),
    _ => ["pattern", "source", "commandText", "argPattern", "lastUsedCommand", "lastResolvedPath"].contains(&name),
};

/// We use no such entries, but whoever does must not lose them.
fn is_mcp_tool(entry: &Value) -> bool {
    let named = |name| entry.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
    named("server")
        && named("tool")
        && entry.get("source").and_then(Value::as_str) == Some(super::ALLOW_ALWAYS)
        && entry.get("addedAt").is_some_and(is_time)
        && entry.as_object().into_iter().flatten().all(|(name, value)| match name.as_str() {
            "lastUsedAt" => is_time(value),
            name => ["server", "tool", "source", "addedAt"].contains(&name),
        })
}

fn is_time(value: &Value) -> bool {
    value.as_f64().is_some_and(|at| at >= 0.0)
}

/// A document that was understood, as the wire carries it.
pub(super) fn carried(file: &mut Members) {
    let only = |members: &mut Members, carries: Carries| members.retain(|name, value| carries(name, value));
    only(file, TOP);
    if let Some(defaults) = object(file, "defaults") {
        only(defaults, DEFAULTS);
    }
    for policy in object(file, "agents").into_iter().flat_map(Members::values_mut).filter_map(Value::as_object_mut) {
        only(policy, AGENT);
        for entry in policy.get_mut("allowlist").and_then(Value::as_array_mut).into_iter().flatten() {
            match entry {
                Value::Object(members) => only(members, ENTRY),
                pattern => *pattern = json!({ "pattern": pattern }),
            }
        }
    }
}

/// Puts back into `file`, which came over the wire, what the wire did not carry of `stored`.
pub(super) fn keep(file: &mut Members, stored: &Members) {
    put_back(file, stored, TOP);
    if let Some(old) = stored.get("defaults").and_then(Value::as_object) {
        put_back_below(file, "defaults", old, DEFAULTS);
    }
    for (agent, old) in stored.get("agents").and_then(Value::as_object).into_iter().flatten() {
        let Some(old) = old.as_object() else { continue };
        if old.iter().any(|(name, value)| !AGENT(name, value)) {
            file.entry("agents").or_insert_with(|| json!({}));
        }
        let Some(agents) = object(file, "agents") else { continue };
        put_back_below(agents, agent, old, AGENT);
        let entries = old.get("allowlist").and_then(Value::as_array).into_iter().flatten();
        let entries: HashMap<String, &Members> =
            entries.filter_map(|entry| Some((id_of(agent, entry), entry.as_object()?))).collect();
        let new = object(agents, agent).and_then(|policy| policy.get_mut("allowlist")).and_then(Value::as_array_mut);
        for given in new.into_iter().flatten() {
            if let Some(entry) = entries.get(&id_of(agent, given))
                && let Some(given) = given.as_object_mut()
            {
                put_back(given, entry, ENTRY);
            }
        }
    }
}

fn put_back(file: &mut Members, stored: &Members, carries: Carries) {
    for (name, value) in stored.iter().filter(|(name, value)| !carries(name, value)) {
        file.entry(name.as_str()).or_insert_with(|| value.clone());
    }
}

/// The same one level down, which is made where it has gone.
fn put_back_below(file: &mut Members, name: &str, stored: &Members, carries: Carries) {
    if stored.iter().any(|(name, value)| !carries(name, value))
        && let Some(level) = file.entry(name).or_insert_with(|| json!({})).as_object_mut()
    {
        put_back(level, stored, carries);
    }
}

fn object<'a>(members: &'a mut Members, name: &str) -> Option<&'a mut Members> {
    members.get_mut(name).and_then(Value::as_object_mut)
}
