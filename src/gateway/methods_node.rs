//! Methods about nodes: looking at them, asking them, and what they say. Source: spec gateway §5.

use super::command_policy;
use super::invocations::{Invocation, Outcome, pairing_changed_error};
use super::methods::{Call, Reply};
use super::registry;
use super::run_guard::{Caller, Guarded, Run};
use super::scope;
use super::session::{NodeSession, Session};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::frame;
use crate::protocol::node::{NodeError, name};
use crate::protocol::schema::{Kind, Member, may, need};
use crate::protocol::strict;
use crate::sys::clock::{self, Now};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `node.list {}`
pub fn list(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    #[derive(Serialize)]
    struct List {
        ts: i64,
        nodes: Vec<Box<RawValue>>,
    }
    let list = List { ts: clock::wall_ms(), nodes: registry::node_rows(call.core, call.session) };
    to_raw_value(&list).map(Reply::Written).map_err(|error| WireError::unavailable(error.to_string()))
}

/// `node.describe {nodeId}`
pub fn describe(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("nodeId", Kind::Text(1))])?;
    let id = params.get("nodeId").and_then(Value::as_str).unwrap_or_default();
    let row = registry::node_row_of(call.core, id, call.session);
    let Some(mut row) = row else { return Err(WireError::invalid("unknown nodeId")) };
    row.insert("ts".to_owned(), clock::wall_ms().into());
    Ok(Reply::Now(Value::Object(row)))
}

/// Members of `node.invoke`; the typed form below must name the same.
const INVOKE: &[Member] = &[
    need("nodeId", Kind::Text(1)),
    need("command", Kind::Text(1)),
    need("idempotencyKey", Kind::Text(1)),
    may("params", Kind::Any),
    may("timeoutMs", Kind::Int(0)),
    may("sessionKey", Kind::Text(0)),
    may("turnSourceChannel", Kind::Any),
    may("turnSourceTo", Kind::Any),
    may("turnSourceAccountId", Kind::Any),
    may("turnSourceThreadId", Kind::Any),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InvokeParams<'a> {
    #[serde(borrow)]
    node_id: Cow<'a, str>,
    #[serde(borrow)]
    command: Cow<'a, str>,
    #[serde(borrow)]
    idempotency_key: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(default)]
    timeout_ms: Option<f64>,
    #[serde(borrow, default)]
    session_key: Option<Cow<'a, str>>,
    #[serde(rename = "turnSourceChannel", default)]
    _channel: Option<IgnoredAny>,
    #[serde(rename = "turnSourceTo", default)]
    _to: Option<IgnoredAny>,
    #[serde(rename = "turnSourceAccountId", default)]
    _account: Option<IgnoredAny>,
    #[serde(rename = "turnSourceThreadId", default)]
    _thread: Option<IgnoredAny>,
}

/// `node.invoke`: everything is checked here, in the original's order; the node's answer becomes
/// ours when it comes.
pub fn invoke(call: &Call<'_>) -> Result<Reply, WireError> {
    let text = call.request.params.map_or("{}", RawValue::get);
    let Ok(params) = serde_json::from_str::<InvokeParams<'_>>(text) else {
        // The slow path finds the words.
        call.params(INVOKE)?;
        return Err(WireError::invalid("invalid node.invoke params: a member stands twice or is out of range"));
    };
    let (node_id, command) = (params.node_id.trim(), params.command.trim());
    let timeout = timeout(params.timeout_ms)?;
    if node_id.is_empty() || command.is_empty() || params.idempotency_key.is_empty() {
        return Err(WireError::invalid("nodeId, command and idempotencyKey must not be blank"));
    }
    if params.idempotency_key.len() > limits::DECLARED_NAME_BYTES || command.len() > limits::DECLARED_NAME_BYTES {
        return Err(WireError::invalid("command or idempotencyKey is too long"));
    }
    refuse_policy_commands(command)?;
    if command_policy::invoke_needs_admin(command) && !call.session.may(scope::ADMIN) {
        return Err(WireError::missing_scope(scope::ADMIN, &[scope::ADMIN]));
    }
    let session = connected_and_approved(call, node_id)?;
    let node = session.node.as_ref().ok_or_else(pairing_changed_error)?;
    check_command(call, node, command)?;
    let (params_json, run) = if command == name::RUN {
        let guarded = guard_run(call, node_id, params.params)?;
        (Some(guarded.params_json), Some((guarded.run_id, guarded.session_key)))
    } else {
        (params.params.map(|params| params.get().to_owned()).filter(|text| text != "null"), None)
    };
    call.core.invocations.dispatch(Invocation {
        caller: Arc::clone(call.session),
        request_id: call.request.id.clone().into_owned(),
        node_id: node_id.to_owned(),
        command: command.to_owned(),
        params_json,
        run,
        deadline: Instant::now() + timeout,
        idempotency_key: Some(params.idempotency_key.into_owned()),
        session_key: params.session_key.map(Cow::into_owned),
        attempts: 0,
        node: session,
        bare: false,
    });
    Ok(Reply::Later)
}

/// The run as it may go to the node; whatever it claims is redeemed here and now.
fn guard_run(call: &Call<'_>, node_id: &str, params: Option<&RawValue>) -> Result<Guarded, WireError> {
    let mut run = Run::read(params)?;
    if let Some(id) = run.claims().map(str::to_owned) {
        let caller = Caller {
            node_id,
            device_id: call.session.device_id.as_deref(),
            conn_id: &call.session.conn_id,
            may_approve: call.session.may(scope::APPROVALS),
        };
        call.core.approvals.redeem(call.core, &id, |ticket, now| run.redeem(ticket, &caller, now))?;
    }
    Ok(run.guarded())
}

/// Absent = the default; 0 = no deadline, which here is a very long one.
fn timeout(millis: Option<f64>) -> Result<Duration, WireError> {
    match millis {
        None => Ok(limits::INVOKE_TIMEOUT),
        Some(millis) if millis.fract() != 0.0 || !millis.is_finite() || millis < 0.0 => {
            Err(WireError::invalid("invalid node.invoke params: at /timeoutMs: must be integer"))
        }
        Some(0.0) => Ok(limits::INVOKE_TIMEOUT_MAX),
        Some(millis) => Ok(Duration::from_millis(millis as u64).min(limits::INVOKE_TIMEOUT_MAX)),
    }
}

/// The policy of the node is never edited through `node.invoke`, in no spelling (A49).
fn refuse_policy_commands(command: &str) -> Result<(), WireError> {
    let plain: String = command.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    if plain.to_ascii_lowercase().starts_with(&name::EXEC_APPROVALS.to_ascii_lowercase()) {
        return Err(WireError::invalid("node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*")
            .with(json!({"command": plain})));
    }
    Ok(())
}

/// The connection of a node whose surface an owner approved.
///
/// # Errors
/// The original's two.
pub fn connected_and_approved(call: &Call<'_>, node_id: &str) -> Result<Arc<Session>, WireError> {
    let session = call.core.registry.node(node_id);
    let approved = match session.as_ref().and_then(|session| session.node.as_ref()) {
        Some(node) => node.live().approved.is_some(),
        None => call.core.pairing().surface(node_id).is_some(),
    };
    if !approved {
        return Err(pairing_changed_error());
    }
    session.ok_or_else(|| {
        let message = "node not connected";
        let details = json!({
            "code": "NOT_CONNECTED",
            "nodeError": {"code": "NOT_CONNECTED", "message": message},
            "nodeCommandDispatched": false,
        });
        WireError::unavailable(message).with(details)
    })
}

/// Whether a node may be asked for `command`.
///
/// # Errors
/// It may not, and why.
pub fn check_command(call: &Call<'_>, node: &NodeSession, command: &str) -> Result<(), WireError> {
    let owner = &call.core.settings.commands;
    let live = node.live();
    let approved = live.approved.as_ref().map(|surface| surface.commands.as_slice()).unwrap_or_default();
    command_policy::check(node.platform, owner, approved, &node.declared.commands, command).map_err(|why| {
        let reason = why.reason();
        WireError::invalid(format!("node command not allowed: {reason}"))
            .with(json!({"reason": reason, "command": command}))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResultParams<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    node_id: Cow<'a, str>,
    ok: bool,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(rename = "payloadJSON", borrow, default)]
    payload_json: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Option<NodeError>,
}

const RESULT: &[Member] = &[
    need("id", Kind::Text(1)),
    need("nodeId", Kind::Text(1)),
    need("ok", Kind::Bool),
    may("payload", Kind::Any),
    may("payloadJSON", Kind::Nullable(&Kind::Text(0))),
    may("error", Kind::Nullable(&Kind::Object(&[may("code", Kind::Text(0)), may("message", Kind::Text(0))]))),
];

/// `node.invoke.result`: accepted only from the connection that was asked (A54).
pub fn invoke_result(call: &Call<'_>) -> Result<Reply, WireError> {
    let text = call.request.params.map_or("{}", RawValue::get);
    let Ok(params) = serde_json::from_str::<ResultParams<'_>>(text) else {
        call.params(RESULT)?;
        return Err(WireError::invalid("invalid node.invoke.result params: a member stands twice"));
    };
    if call.session.device_id.as_deref() != Some(&*params.node_id) {
        return Err(WireError::invalid("nodeId mismatch"));
    }
    let outcome = match (params.ok, &params.payload_json, params.payload) {
        (false, _, _) => Outcome::Failed(params.error.clone()),
        (true, Some(text), _) => Outcome::Text(text),
        (true, None, Some(value)) => Outcome::Value(value),
        (true, None, None) => Outcome::Nothing,
    };
    let known = call.core.invocations.finish(call.session, &params.id, &outcome);
    Ok(Reply::Now(if known { json!({"ok": true}) } else { json!({"ok": true, "ignored": true}) }))
}

const PROGRESS: &[Member] = &[
    need("invokeId", Kind::Text(1)),
    need("nodeId", Kind::Text(1)),
    need("seq", Kind::Int(0)),
    need("chunk", Kind::Text(0)),
];

/// `node.invoke.progress`: taken from the connection that was asked, piece after piece. Whoever
/// asked gets the whole output with the result, and these pieces only by its own wish.
pub fn invoke_progress(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(PROGRESS)?;
    let text = |member: &str| params.get(member).and_then(Value::as_str).unwrap_or_default();
    if call.session.device_id.as_deref() != Some(text("nodeId")) {
        return Err(WireError::invalid("nodeId mismatch"));
    }
    if text("chunk").len() > limits::PROGRESS_CHUNK_BYTES {
        let most = limits::PROGRESS_CHUNK_BYTES;
        return Err(WireError::invalid(format!(
            "invalid node.invoke.progress params: at /chunk: more than {most} bytes"
        )));
    }
    let seq = params.get("seq").and_then(Value::as_u64).unwrap_or_default();
    match call.core.invocations.progress(call.session, text("invokeId"), seq, text("chunk")) {
        Some(true) => Ok(Reply::Now(json!({"ok": true}))),
        Some(false) => Err(WireError::invalid("invalid node.invoke.progress params: at /seq: out of order")),
        None => Ok(Reply::Now(json!({"ok": true, "ignored": true}))),
    }
}

const EVENT: &[Member] = &[need("event", Kind::Text(1)), may("payload", Kind::Any), may("payloadJSON", Kind::Text(0))];

/// `node.event`: always an ok answer, which says what became of it. Source: spec gateway §5.
pub fn event(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(EVENT)?;
    let Some(node) = &call.session.node else { return Err(pairing_changed_error()) };
    let event = params.get("event").and_then(Value::as_str).unwrap_or_default();
    let payload = match params.get("payloadJSON").and_then(Value::as_str) {
        Some(text) if strict::check(text, limits::STRICT_JSON_DEPTH).is_ok() => serde_json::from_str(text).ok(),
        Some(_) => None,
        None => params.get("payload").cloned(),
    };
    let payload = match payload {
        Some(Value::Object(payload)) => Some(payload),
        _ => None,
    };
    let said = match event {
        name::EXEC_STARTED | name::EXEC_FINISHED | name::EXEC_DENIED => match payload {
            None => return Ok(Reply::Now(json!({"ok": true}))),
            Some(payload) if exec_event(node, event, &payload) => return Ok(Reply::Now(json!({"ok": true}))),
            Some(_) => (false, "unmatched_exec_event"),
        },
        name::HOST_STATS => host_stats(call, node, payload),
        "node.presence.alive" => (true, "updated"),
        _ => (false, "unsupported_event"),
    };
    let event = crate::protocol::text::prefix(event, 128);
    Ok(Reply::Now(json!({"ok": true, "event": event, "handled": said.0, "reason": said.1})))
}

/// An event of a run that was dispatched on this connection; the last one uses the match up (A58).
fn exec_event(node: &NodeSession, event: &str, payload: &Map<String, Value>) -> bool {
    let text = |member: &str| payload.get(member).and_then(Value::as_str);
    let Some(run_id) = text("runId") else { return false };
    let mut live = node.live();
    let matches = live.runs.get(run_id).is_some_and(|run| {
        !run.until.passed(Now::read())
            && run.session_key.as_deref().is_none_or(|session| text("sessionKey") == Some(session))
    });
    if matches && event != name::EXEC_STARTED {
        live.runs.remove(run_id);
    }
    matches
}

const STATS: &[Member] = &[
    need("cpuCount", Kind::Int(0)),
    need("memoryTotalBytes", Kind::Int(0)),
    need("memoryFreeBytes", Kind::Int(0)),
    may("loadAverage", Kind::Any),
    may("diskTotalBytes", Kind::Int(0)),
    may("diskAvailableBytes", Kind::Int(0)),
];

fn host_stats(call: &Call<'_>, node: &NodeSession, payload: Option<Map<String, Value>>) -> (bool, &'static str) {
    let Some(mut stats) = payload else { return (false, "invalid_payload") };
    let load = stats.get("loadAverage");
    let load_is_good = load.is_none_or(|load| {
        load.as_array().is_some_and(|values| values.len() == 3 && values.iter().all(Value::is_number))
    });
    if !load_is_good || crate::protocol::schema::check(&Value::Object(stats.clone()), STATS).is_err() {
        return (false, "invalid_payload");
    }
    stats.insert("updatedAtMs".to_owned(), clock::wall_ms().into());
    let stats = Value::Object(stats);
    node.live().host_stats = Some(stats.clone());
    let payload = json!({"nodeId": call.session.device_id, "hostStats": stats});
    call.core.registry.broadcast(super::event::NODE_HOST_STATS, &payload, Some(scope::READ), None);
    (true, "updated")
}

/// The three `*.update` calls of the official node host: taken note of, so that it does not repeat
/// them every five seconds (spec gateway §9.13).
pub fn runner_inventory(call: &Call<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Now(json!({"nodeId": call.session.device_id})))
}

/// `node.skills.update`
pub fn skills(call: &Call<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Now(json!({"nodeId": call.session.device_id, "skills": []})))
}

/// `node.pluginTools.update`
pub fn plugin_tools(call: &Call<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Now(json!({"nodeId": call.session.device_id, "tools": []})))
}

/// `skills.bins`: this gateway has no skills.
pub fn skill_bins(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    Ok(Reply::Now(json!({"bins": []})))
}

/// Tells a live node and the owners that its surface request is decided.
pub fn surface_resolved(call: &Call<'_>, node_id: &str, request_id: &str, decision: &str) {
    let payload = json!({"requestId": request_id, "nodeId": node_id, "decision": decision, "ts": clock::wall_ms()});
    if let Some(session) = call.core.registry.node(node_id) {
        session.send(frame::event(super::event::NODE_PAIR_RESOLVED, &payload));
    }
    call.core.registry.tell_of_pairing(super::event::NODE_PAIR_RESOLVED, &payload, node_id);
}
