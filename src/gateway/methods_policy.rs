//! `exec.approvals.node.*`: the one way to a node's approvals document, for admins only. The node
//! itself decides what it takes (A49, A53). Source: spec gateway §5, frames `rpc-approvals-node-*`.

use super::invocations::{Invocation, pairing_changed_error};
use super::methods::{Call, Reply};
use super::methods_node::{check_command, connected_and_approved};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::node::name;
use crate::protocol::schema::{Kind, may, need};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Instant;

/// `exec.approvals.node.get {nodeId}`
pub fn node_get(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("nodeId", Kind::Text(1))])?;
    relay(call, &params, name::EXEC_APPROVALS_GET)
}

/// `exec.approvals.node.set {nodeId, file, baseHash?}`
pub fn node_set(call: &Call<'_>) -> Result<Reply, WireError> {
    let members = [need("nodeId", Kind::Text(1)), need("file", Kind::Any), may("baseHash", Kind::Text(0))];
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
