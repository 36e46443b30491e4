//! The methods: one table with who may call what, and the dispatch. A method that is not in the
//! table does not exist. Source: spec gateway §4.

use super::scope::{self, Role};
use super::session::Session;
use super::{
    Core, methods_approvals, methods_node, methods_pairing, methods_policy, now_ms, pending_work, registry, setup,
};
use crate::protocol::error::WireError;
use crate::protocol::frame::{self, Request};
use crate::protocol::schema::{Kind, Member, may};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// Who may call a method.
#[derive(Clone, Copy)]
pub enum Access {
    /// Everybody who has logged in.
    Anyone,
    /// Operators with this scope.
    Scope(&'static str),
    /// Nodes.
    Node,
}

/// What a method says.
pub enum Reply {
    /// The answer.
    Now(Value),
    /// The answer, written already.
    Written(Box<RawValue>),
    /// Somebody else answers when it is done.
    Later,
}

/// A call on its way to its method.
pub struct Call<'a> {
    /// What the connections share.
    pub core: &'a Arc<Core>,
    /// Who calls.
    pub session: &'a Arc<Session>,
    /// The frame.
    pub request: &'a Request<'a>,
}

impl Call<'_> {
    /// The parameters as a value, checked against the method's members.
    ///
    /// # Errors
    /// `INVALID_REQUEST` that names the member.
    pub fn params(&self, members: &[Member]) -> Result<Value, WireError> {
        frame::checked_params(&self.request.method, self.request.params, members)
    }
}

type Run = fn(&Call<'_>) -> Result<Reply, WireError>;

/// Every method.
const METHODS: &[(&str, Access, Run)] = &[
    ("health", Access::Anyone, |call| Ok(Reply::Now(health(call.core)))),
    ("status", Access::Scope(scope::READ), status),
    ("system-presence", Access::Scope(scope::READ), presence),
    ("config.get", Access::Scope(scope::READ), config),
    ("node.list", Access::Scope(scope::READ), methods_node::list),
    ("node.describe", Access::Scope(scope::READ), methods_node::describe),
    ("node.invoke", Access::Scope(scope::WRITE), methods_node::invoke),
    ("node.pair.list", Access::Scope(scope::PAIRING), methods_pairing::node_list),
    ("node.pair.approve", Access::Scope(scope::PAIRING), methods_pairing::node_approve),
    ("node.pair.reject", Access::Scope(scope::PAIRING), methods_pairing::node_reject),
    ("node.pair.remove", Access::Scope(scope::PAIRING), methods_pairing::node_remove),
    ("node.rename", Access::Scope(scope::PAIRING), methods_pairing::node_rename),
    ("device.pair.list", Access::Scope(scope::PAIRING), methods_pairing::device_list),
    ("device.pair.approve", Access::Scope(scope::PAIRING), methods_pairing::device_approve),
    ("device.pair.reject", Access::Scope(scope::PAIRING), methods_pairing::device_reject),
    ("device.pair.remove", Access::Scope(scope::PAIRING), methods_pairing::device_remove),
    ("device.pair.rename", Access::Scope(scope::PAIRING), methods_pairing::device_rename),
    ("device.token.rotate", Access::Scope(scope::PAIRING), methods_pairing::token_rotate),
    ("device.token.revoke", Access::Scope(scope::PAIRING), methods_pairing::token_revoke),
    ("device.pair.setupCode", Access::Scope(scope::ADMIN), setup::setup_code_of),
    ("exec.approvals.get", Access::Scope(scope::ADMIN), methods_policy::get),
    ("exec.approvals.set", Access::Scope(scope::ADMIN), methods_policy::set),
    ("exec.approvals.node.get", Access::Scope(scope::ADMIN), methods_policy::node_get),
    ("exec.approvals.node.set", Access::Scope(scope::ADMIN), methods_policy::node_set),
    ("node.invoke.progress", Access::Node, methods_node::invoke_progress),
    ("exec.approval.request", Access::Scope(scope::APPROVALS), methods_approvals::request),
    ("exec.approval.waitDecision", Access::Scope(scope::APPROVALS), methods_approvals::wait_decision),
    ("exec.approval.get", Access::Scope(scope::APPROVALS), methods_approvals::get),
    ("exec.approval.list", Access::Scope(scope::APPROVALS), methods_approvals::list),
    ("exec.approval.resolve", Access::Scope(scope::APPROVALS), methods_approvals::resolve),
    ("approval.get", Access::Scope(scope::APPROVALS), methods_approvals::unified_get),
    ("approval.resolve", Access::Scope(scope::APPROVALS), methods_approvals::unified_resolve),
    ("approval.history", Access::Scope(scope::APPROVALS), methods_approvals::history),
    // The official CLI asks for all kinds of approvals at once; of these kinds there are none here.
    ("plugin.approval.list", Access::Scope(scope::APPROVALS), none),
    ("openclaw.approval.list", Access::Scope(scope::APPROVALS), none),
    ("node.invoke.result", Access::Node, methods_node::invoke_result),
    ("node.event", Access::Node, methods_node::event),
    ("node.runnerInventory.update", Access::Node, methods_node::runner_inventory),
    ("node.skills.update", Access::Node, methods_node::skills),
    ("node.pluginTools.update", Access::Node, methods_node::plugin_tools),
    ("node.pending.enqueue", Access::Scope(scope::WRITE), pending_work::enqueue),
    ("node.pending.drain", Access::Node, pending_work::drain),
    ("node.pending.pull", Access::Node, pending_work::pull),
    ("node.pending.ack", Access::Node, pending_work::ack),
    ("skills.bins", Access::Node, methods_node::skill_bins),
];

/// `features.methods` of hello-ok: what is there and nothing else.
pub fn names() -> Vec<&'static str> {
    METHODS.iter().map(|(name, _, _)| *name).collect()
}

/// A role called what only the other one may call; counted and answered by the session.
pub struct WrongRole;

/// Runs one request and answers it.
///
/// # Errors
/// [`WrongRole`], which is not answered here.
pub fn handle(core: &Arc<Core>, session: &Arc<Session>, request: &Request<'_>) -> Result<(), WrongRole> {
    let found = METHODS.iter().find(|(name, _, _)| *name == request.method);
    let result = match found {
        Some((_, access, run)) => match access {
            Access::Node if session.role != Role::Node => return Err(WrongRole),
            Access::Scope(_) if session.role != Role::Operator => return Err(WrongRole),
            Access::Scope(scope) if !session.may(scope) => Err(WireError::missing_scope(scope, &[scope])),
            _ => run(&Call { core, session, request }),
        },
        None if session.role == Role::Node => return Err(WrongRole),
        None => {
            let name = crate::protocol::text::visible(crate::protocol::text::prefix(&request.method, 128));
            Err(WireError::invalid(format!("unknown method: {name}")))
        }
    };
    match result {
        Ok(Reply::Now(payload)) => session.send(frame::response_ok(&request.id, &payload)),
        Ok(Reply::Written(payload)) => session.send(frame::response_ok(&request.id, &payload)),
        Ok(Reply::Later) => {}
        Err(error) => session.send(frame::response_error(&request.id, &error)),
    }
    Ok(())
}

/// The health document: whether what is decided here can be kept. It needs no scope, so it says
/// nothing about anybody.
pub fn health(core: &Core) -> Value {
    json!({"ok": !core.pairing().is_failing(), "ts": now_ms(), "durationMs": 0, "channels": {}, "channelOrder": [],
        "agents": [], "plugins": {"loaded": [], "errors": []}})
}

fn status(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[may("includeChannelSummary", Kind::Bool), may("includeCliProjection", Kind::Bool)])?;
    let core = call.core;
    let sessions = core.registry.sessions();
    let nodes = sessions.iter().filter(|session| session.role == Role::Node).count();
    let footprint = crate::sys::process::footprint();
    Ok(Reply::Now(json!({
        "version": super::VERSION,
        "runtimeVersion": super::VERSION,
        "pid": std::process::id(),
        "uptimeMs": core.uptime_ms(),
        "port": core.settings.port,
        "connections": {"operators": sessions.len() - nodes, "nodes": nodes},
        "memoryBytes": footprint.resident_bytes,
        "threads": footprint.threads,
        "descriptors": footprint.descriptors,
        // What the official CLI reads without looking whether it is there: there are no agents here.
        "heartbeat": {"agents": []},
        "channelSummary": [],
        "queuedSystemEvents": [],
        "sessions": {"paths": [], "count": 0, "defaults": {"model": null, "contextTokens": null}, "recent": [], "byAgent": []},
    })))
}

fn none(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    Ok(Reply::Now(json!([])))
}

/// The configuration in effect, made from what was understood: no other member of the owner's file,
/// and no secret, can be in it.
fn config(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    let settings = &call.core.settings;
    let commands = json!({"allow": settings.commands.allow, "deny": settings.commands.deny});
    let config = json!({"gateway": {
        "mode": "local", "bind": "loopback", "port": settings.port,
        "nodes": {"pairing": {"autoApproveLocal": settings.auto_approve_local}, "commands": commands},
    }});
    let file = call.core.state.config();
    Ok(Reply::Now(json!({
        "path": call.session.may(scope::ADMIN).then(|| file.to_string_lossy()),
        "exists": file.exists(), "valid": true, "raw": null, "parsed": config, "config": config,
        "issues": [], "warnings": [], "legacyIssues": [],
    })))
}

fn presence(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    Ok(Reply::Now(json!(registry::presence(call.core))))
}
