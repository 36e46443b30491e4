//! Methods about approval records. Source: spec gateway §6, exec g.5.

use super::approvals::{Asked, not_found, refused};
use super::methods::{Call, Reply};
use super::run_binding::{BoundEnv, BoundRun, RunPlan};
use crate::exec::display;
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::policy::Decision;
use crate::protocol::schema::{Kind, Member, may, need};
use crate::protocol::text::visible;
use serde_json::{Value, json};
use std::time::Duration;

const ID: &[Member] = &[need("id", Kind::Text(1))];
const RESOLVE: &[Member] = &[need("id", Kind::Text(1)), need("decision", Kind::Text(0))];
const UNIFIED_RESOLVE: &[Member] =
    &[need("id", Kind::Text(1)), need("kind", Kind::Const("exec")), need("decision", Kind::Text(1))];
const HISTORY: &[Member] = &[
    may("limit", Kind::Int(1)),
    may("cursor", Kind::Text(1)),
    may("kind", Kind::OneOf(&["exec", "plugin", "system-agent"])),
];
const TEXT: Kind = Kind::Nullable(&Kind::Text(0));
const FLAG: Kind = Kind::Nullable(&Kind::Bool);
const REQUEST: &[Member] = &[
    may("id", TEXT),
    may("command", TEXT),
    may("commandArgv", Kind::Nullable(&Kind::Texts)),
    may("systemRunPlan", Kind::Nullable(&Kind::Map)),
    may("env", Kind::Nullable(&Kind::Map)),
    may("cwd", TEXT),
    may("nodeId", TEXT),
    may("host", TEXT),
    may("security", TEXT),
    may("ask", TEXT),
    may("warningText", TEXT),
    may("agentId", TEXT),
    may("resolvedPath", TEXT),
    may("sessionKey", TEXT),
    may("sessionId", TEXT),
    may("runId", TEXT),
    may("toolCallId", TEXT),
    may("turnSourceChannel", Kind::Any),
    may("turnSourceTo", Kind::Any),
    may("turnSourceAccountId", Kind::Any),
    may("turnSourceThreadId", Kind::Any),
    may("unavailableDecisions", Kind::Nullable(&Kind::Texts)),
    may("timeoutMs", Kind::Int(1)),
    may("twoPhase", FLAG),
    may("requireDeliveryRoute", FLAG),
    may("suppressDelivery", FLAG),
    // For other places of the original than this gateway.
    may("scope", Kind::Any),
    may("commandSpans", Kind::Any),
    may("approvalReviewerDeviceIds", Kind::Any),
    may("deliverToApprovalClientsOnly", FLAG),
];
/// Members that are shown as they came.
const SHOWN: &[&str] = &[
    "nodeId",
    "host",
    "security",
    "ask",
    "resolvedPath",
    "sessionId",
    "runId",
    "toolCallId",
    "turnSourceChannel",
    "turnSourceTo",
    "turnSourceAccountId",
    "turnSourceThreadId",
];
/// Members that a plan decides where there is one: it is what would run.
const PLANNED: &[&str] = &["cwd", "agentId", "sessionKey"];
/// Ids that the original keeps for itself. Source: spec exec g.5.
const RESERVED: &str = "plugin:";

/// `exec.approval.request`
pub fn request(call: &Call<'_>) -> Result<Reply, WireError> {
    let asked = read(&call.params(REQUEST)?)?;
    call.core.approvals.begin(call.core, asked, call.session, &call.request.id)?;
    Ok(Reply::Later)
}

/// `exec.approval.waitDecision {id}`
pub fn wait_decision(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(ID)?;
    call.core.approvals.wait(call.core, text(&params, "id"), call.session, &call.request.id)?;
    Ok(Reply::Later)
}

/// `exec.approval.list {}`
pub fn list(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    Ok(Reply::Now(call.core.approvals.pending(call.core, call.session).into()))
}

/// `exec.approval.get {id}`
pub fn get(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(ID)?;
    let rows = call.core.approvals.pending(call.core, call.session);
    let row = rows.iter().find(|row| row.get("id") == params.get("id")).ok_or_else(not_found)?;
    let member = |pointer: &str| row.pointer(pointer).cloned().unwrap_or_default();
    Ok(Reply::Now(json!({
        "id": member("/id"),
        "commandText": member("/request/command"),
        "commandPreview": member("/request/systemRunPlan/commandPreview"),
        "allowedDecisions": member("/request/allowedDecisions"),
        "host": member("/request/host"),
        "nodeId": member("/request/nodeId"),
        "agentId": member("/request/agentId"),
        "expiresAtMs": member("/expiresAtMs"),
    })))
}

/// `exec.approval.resolve {id, decision}`
pub fn resolve(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(RESOLVE)?;
    let decision =
        Decision::from_word(text(&params, "decision")).ok_or_else(|| WireError::invalid("invalid decision"))?;
    let resolved = call.core.approvals.resolve(call.core, text(&params, "id"), decision, call.session)?;
    if resolved.decision != Some(decision) {
        return Err(refused("approval already resolved", "APPROVAL_ALREADY_RESOLVED"));
    }
    Ok(Reply::Now(json!({"ok": true})))
}

/// `approval.get {id}`: the same record, as clients want it that know several kinds of approvals.
pub fn unified_get(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(ID)?;
    let approval = call.core.approvals.snapshot(call.core, text(&params, "id"), call.session)?;
    Ok(Reply::Now(json!({ "approval": approval })))
}

/// `approval.resolve {id, kind, decision}`: whoever comes too late learns what holds.
pub fn unified_resolve(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(UNIFIED_RESOLVE)?;
    let decision =
        Decision::from_word(text(&params, "decision")).ok_or_else(|| WireError::invalid("invalid decision"))?;
    let resolved = call.core.approvals.resolve(call.core, text(&params, "id"), decision, call.session)?;
    Ok(Reply::Now(json!({"applied": resolved.applied, "approval": resolved.approval})))
}

/// `approval.history {limit?, cursor?, kind?}`: what has ended and is not forgotten yet, newest first; the cursor is
/// the id of the last one seen. Source: schema `ApprovalHistoryResult`.
pub fn history(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(HISTORY)?;
    let ended = call.core.approvals.history(call.core, call.session);
    let rest = match params.get("cursor") {
        Some(cursor) => {
            let seen = ended.iter().position(|row| row.get("id") == Some(cursor));
            let seen = seen.ok_or_else(|| WireError::invalid("invalid approval.history cursor"))?;
            ended.get(seen + 1..).unwrap_or_default()
        }
        None => &ended,
    };
    let rest = if matches!(text(&params, "kind"), "" | "exec") { rest } else { &[] };
    let limit = params.get("limit").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.map_or(limits::APPROVAL_HISTORY, |limit| limit.min(limits::APPROVAL_HISTORY));
    let items = rest.get(..limit).unwrap_or(rest);
    let mut answer = json!({ "items": items });
    if let (true, Some(last), Some(members)) = (items.len() < rest.len(), items.last(), answer.as_object_mut()) {
        members.insert("nextCursor".to_owned(), last.get("id").cloned().unwrap_or_default());
    }
    Ok(Reply::Now(answer))
}

fn text<'a>(params: &'a Value, member: &str) -> &'a str {
    params.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn read(params: &Value) -> Result<Asked, WireError> {
    let id = match text(params, "id").trim() {
        "" => random::uuid(),
        id if id.starts_with(RESERVED) => {
            return Err(WireError::invalid(format!("approval ids starting with {RESERVED} are reserved")));
        }
        id if id.len() > limits::DECLARED_NAME_BYTES => return Err(WireError::invalid("approval id is too long")),
        // No part of a path, however it is read (A144).
        id if id.starts_with('.')
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)) =>
        {
            return Err(WireError::invalid("approval id must consist of letters, digits and . _ : -"));
        }
        id => id.to_owned(),
    };
    let plan = match params.get("systemRunPlan").filter(|plan| !plan.is_null()) {
        Some(plan) => Some(RunPlan::read(plan).ok_or_else(|| WireError::invalid("systemRunPlan invalid"))?),
        None => None,
    };
    if text(params, "host") == "node" {
        if text(params, "nodeId").trim().is_empty() {
            return Err(WireError::invalid("nodeId is required for host=node"));
        }
        if plan.is_none() {
            return Err(WireError::invalid("systemRunPlan is required for host=node"));
        }
    }
    let command = command(params, plan.as_ref())?;
    let env = BoundEnv::read(params.get("env"));
    let unavailable = params.get("unavailableDecisions").and_then(Value::as_array);
    let no_always = Some(Decision::AllowAlways.word());
    let offers_always =
        text(params, "ask") != "always" && !unavailable.into_iter().flatten().any(|word| word.as_str() == no_always);
    let mut request = json!({"command": command, "systemRunPlan": plan, "allowedDecisions": allowed(offers_always)});
    let planned = plan.as_ref().map(|plan| json!(plan));
    if let Some(members) = request.as_object_mut() {
        for name in SHOWN {
            members.insert((*name).to_owned(), params.get(*name).cloned().unwrap_or_default());
        }
        for name in PLANNED {
            let source = planned.as_ref().unwrap_or(params);
            members.insert((*name).to_owned(), source.get(*name).cloned().unwrap_or_default());
        }
        members.insert("warningText".to_owned(), warning(text(params, "warningText"), &env));
        if let (None, Some(argv)) = (&plan, params.get("commandArgv").filter(|argv| argv.is_array())) {
            members.insert("commandArgv".to_owned(), argv.clone());
        }
    }
    // A person decides about all of it or about nothing.
    if request.to_string().len() > limits::APPROVAL_REQUEST_BYTES {
        return Err(WireError::invalid("command exceeds exec approval display limit"));
    }
    let flag = |member: &str| params.get(member).and_then(Value::as_bool);
    let after = params.get("timeoutMs").and_then(Value::as_f64).map(|millis| Duration::from_millis(millis as u64));
    Ok(Asked {
        id,
        request,
        run: plan.map(|plan| BoundRun { plan, env_hash: env.hash() }),
        offers_always,
        after: after.unwrap_or(limits::APPROVAL_TIMEOUT).min(limits::APPROVAL_TIMEOUT),
        needs_route: flag("requireDeliveryRoute") != Some(false),
        two_phase: flag("twoPhase") == Some(true),
    })
}

fn allowed(offers_always: bool) -> Vec<&'static str> {
    let words = [Decision::AllowOnce, Decision::AllowAlways, Decision::Deny];
    words.into_iter().filter(|word| offers_always || *word != Decision::AllowAlways).map(Decision::word).collect()
}

/// What the requester says to the person, and what it wants to set for the command (A60).
fn warning(said: &str, env: &BoundEnv) -> Value {
    let sets = env.0.iter().map(|(name, value)| format!("sets {name}={}", visible(value)));
    let lines: Vec<_> = (!said.is_empty()).then(|| said.to_owned()).into_iter().chain(sets).collect();
    if lines.is_empty() { Value::Null } else { lines.join("\n").into() }
}

/// The command as it is shown. Where the arguments are known they are what is shown, whatever the
/// caller calls them (A64).
fn command(params: &Value, plan: Option<&RunPlan>) -> Result<String, WireError> {
    let argv: Vec<String> = match (plan, params.get("commandArgv").filter(|argv| !argv.is_null())) {
        (Some(plan), _) => plan.argv.clone(),
        (None, Some(argv)) => serde_json::from_value(argv.clone()).unwrap_or_default(),
        (None, None) if text(params, "command").trim().is_empty() => Vec::new(),
        (None, None) => return Ok(visible(text(params, "command"))),
    };
    if argv.is_empty() {
        return Err(WireError::invalid("command is required, and the argv of a plan must not be empty"));
    }
    Ok(display::quoted(&argv))
}
