//! `exec.approvals.*`: the approvals document of this machine and, through `.node.*`, of a node; for
//! admins only. A node itself decides what it takes (A49, A53); here nobody can be asked, so an edit
//! that loosens is refused unless the owner's document says otherwise (H15).
//! Source: spec gateway §5, frames `rpc-approvals-*`.

use super::invocations::{Invocation, pairing_changed_error};
use super::methods::{Call, Reply};
use super::methods_node::{check_command, connected_and_approved};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::node::name;
use crate::protocol::policy::Refusal;
use crate::protocol::schema::{Kind, Member, may, need};
use crate::state::approvals::edit::{CHANGED, EditError, NO_BASE_HASH, NOBODY_HERE};
use crate::state::approvals::wire::{Form, WHOLE};
use crate::state::approvals::{ApprovalsDocument, Snapshot};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Our own tools say `whole: true` where the protocol's members are too few.
const FORM: Member = may(WHOLE, Kind::Bool);

/// `exec.approvals.get {whole?}` → `{path, exists, hash, file, resolvedDefaults}`. Creates no document (H25).
pub fn get(call: &Call<'_>) -> Result<Reply, WireError> {
    let form = Form::of(&call.params(&[FORM])?);
    let document = ApprovalsDocument::new(&call.core.state);
    answer(&document, document.snapshot(form).map_err(|error| refused(&error.into()))?)
}

/// `exec.approvals.set {file, baseHash, whole?}` → the new state.
pub fn set(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("file", Kind::Any), may("baseHash", Kind::Text(0)), FORM])?;
    let document = ApprovalsDocument::new(&call.core.state);
    let base_hash = params.get("baseHash").and_then(Value::as_str);
    let edit = document.propose(params.get("file"), base_hash, Form::of(&params)).map_err(|error| refused(&error))?;
    let requester = format!("gateway client {}", call.session.label());
    if edit.needs_person() {
        let why = edit.refusal(NOBODY_HERE);
        crate::log!("gateway", "approvals document: refused an edit of {}: {why}", call.session.label());
        document.refuse(&edit, &requester, &Refusal::denied("approval-required", &*why));
        return Err(WireError::new("FORBIDDEN", why).with(json!({"code": "APPROVAL_REQUIRED"})));
    }
    let snapshot = document.apply(&edit, &requester).map_err(|error| refused(&error))?;
    crate::log!("gateway", "approvals document: edited by {}: {}", call.session.label(), edit.summary());
    answer(&document, snapshot)
}

fn answer(document: &ApprovalsDocument, mut snapshot: Snapshot) -> Result<Reply, WireError> {
    snapshot.resolved_defaults = Some(document.resolved_defaults());
    serde_json::to_value(snapshot).map(Reply::Now).map_err(|error| WireError::unavailable(error.to_string()))
}

/// The gateway's own words where a node has others.
fn refused(error: &EditError) -> WireError {
    const AGAIN: &str = "re-run exec.approvals.get and retry";
    match error {
        EditError::State(error) => WireError::unavailable(error.to_string()),
        EditError::Changed => WireError::invalid(format!("{CHANGED} since last load; {AGAIN}")),
        EditError::NoBaseHash => WireError::invalid(format!("{NO_BASE_HASH}; {AGAIN}")),
        other => WireError::invalid(other.to_string()),
    }
}

/// `exec.approvals.node.get {nodeId, whole?}`
pub fn node_get(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("nodeId", Kind::Text(1)), FORM])?;
    relay(call, &params, name::EXEC_APPROVALS_GET)
}

/// `exec.approvals.node.set {nodeId, file, baseHash?, whole?}`
pub fn node_set(call: &Call<'_>) -> Result<Reply, WireError> {
    let members = [need("nodeId", Kind::Text(1)), need("file", Kind::Any), may("baseHash", Kind::Text(0)), FORM];
    let params = call.params(&members)?;
    relay(call, &params, name::EXEC_APPROVALS_SET)
}

/// Asks the node; its payload is the whole answer.
fn relay(call: &Call<'_>, params: &Value, command: &str) -> Result<Reply, WireError> {
    let node_id = params.get("nodeId").and_then(Value::as_str).unwrap_or_default().trim();
    let session = connected_and_approved(call, node_id)?;
    check_command(call, session.node.as_ref().ok_or_else(pairing_changed_error)?, command)?;
    let own: Map<String, Value> = params
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "nodeId")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    crate::log!("gateway", "{} asks node {node_id} for {command}", call.session.label());
    call.core.invocations.dispatch(Invocation {
        caller: Arc::clone(call.session),
        request_id: call.request.id.clone().into_owned(),
        node_id: node_id.to_owned(),
        command: command.to_owned(),
        params_json: Some(Value::Object(own).to_string()),
        run: None,
        deadline: Instant::now() + limits::INVOKE_TIMEOUT,
        idempotency_key: None,
        session_key: None,
        attempts: 0,
        node: session,
        bare: true,
    });
    Ok(Reply::Later)
}
