//! `mac-debug approvals get|set|allowlist|denylist|mode|fence`: the approvals document of this machine,
//! of the gateway's host, or of a node. Source: spec exec (a.5), (a.7), (e.7).

use super::nodes::choose;
use super::{InspectError, Target};
use crate::client::Connection;
use crate::gateway::scope;
use crate::limits;
use crate::protocol::node::name;
use crate::protocol::strict;
use crate::protocol::text::visible;
use crate::state::StateDir;
use crate::state::approvals::change::{Change, List};
use crate::state::approvals::edit::{CHANGED, EditError};
use crate::state::approvals::wire::{Form, WHOLE};
use crate::state::approvals::{ApprovalsDocument, Snapshot};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Whose document.
pub enum Host {
    /// This machine's, straight from the disk: no gateway is needed.
    Here(StateDir),
    /// The one of the gateway's machine.
    Gateway(Box<Target>),
    /// A node's, by id, beginning of the id, or name.
    Node(Box<Target>, String),
}

impl Host {
    fn name(&self) -> String {
        match self {
            Self::Here(_) => "this machine".to_owned(),
            Self::Gateway(target) => format!("the gateway's machine ({})", target.endpoint),
            Self::Node(_, node) => format!("node {node}"),
        }
    }
}

/// A document somewhere else.
struct Remote {
    connection: Connection,
    node_id: Option<String>,
}

impl Remote {
    fn connect(target: &Target, node: Option<&str>) -> Result<Self, InspectError> {
        let connection = target.connect(&[scope::ADMIN])?;
        let node_id = node.map(|node| choose(&connection, Some(node), name::EXEC_APPROVALS_GET)).transpose()?;
        Ok(Self { connection, node_id })
    }

    /// `exec.approvals[.node].get` or `.set`; a person at the node may have to answer before it does.
    fn call(&self, verb: &str, mut params: Value) -> Result<Value, InspectError> {
        let node = if self.node_id.is_some() { ".node" } else { "" };
        if let Some(members) = params.as_object_mut() {
            members.extend(self.node_id.iter().map(|node_id| ("nodeId".to_owned(), node_id.as_str().into())));
            // Only a gateway of this program has proved a key; the official one takes no parameter of ours.
            let is_ours = self.connection.hello().gateway_key.is_some();
            members.extend(is_ours.then(|| (WHOLE.to_owned(), true.into())));
        }
        let patience = limits::INVOKE_TIMEOUT + limits::EDIT_ANSWER_MARGIN;
        let answer = self.connection.call(&format!("exec.approvals{node}.{verb}"), &params, patience)?;
        serde_json::from_str(answer.get()).map_err(|error| InspectError::Answer(error.to_string()))
    }

    /// What is there, changed and sent back; when somebody else was faster, once more.
    fn change(
        &self,
        change: &Change,
        agent: &str,
        base_hash: Option<&str>,
    ) -> Result<(Vec<String>, Value), InspectError> {
        let mut tries = 2;
        loop {
            tries -= 1;
            let mut now = self.call("get", json!({}))?;
            let needs_whole =
                matches!(change, Change::Add(List::Deny, _) | Change::Remove(List::Deny, ..) | Change::Fence(_));
            if needs_whole && !is_whole(&now) {
                let text = "the protocol has no denylist and no fence, and that node or the gateway before it knows \
                            nothing else: change them on that machine, if it runs this program";
                return Err(InspectError::Usage(text.to_owned()));
            }
            let seen = now.get("hash").cloned().unwrap_or_default();
            let Some(Value::Object(file)) = now.get_mut("file") else {
                return Err(InspectError::Answer("no document in it".to_owned()));
            };
            let said = change.make(file, agent)?;
            let base_hash = base_hash.map_or(seen, Value::from);
            match self.call("set", json!({"file": file, "baseHash": base_hash})) {
                // Who replaces the whole has seen the whole: it is not sent again.
                Err(error)
                    if tries > 0 && !matches!(change, Change::Replace(_)) && error.to_string().contains(CHANGED) => {}
                answer => return Ok((said, answer?)),
            }
        }
    }
}

/// The document: `{target, path, exists, hash, file, whole}`; no `whole` where the node, or the gateway
/// before it, knows the protocol's members only. Creates nothing.
///
/// # Errors
/// See [`InspectError`].
pub fn get(host: &Host) -> Result<Value, InspectError> {
    let answer = match host {
        Host::Here(state) => to_value(ApprovalsDocument::for_inspection(state).snapshot(Form::Whole)?)?,
        Host::Gateway(target) => Remote::connect(target, None)?.call("get", json!({}))?,
        Host::Node(target, node) => Remote::connect(target, Some(node))?.call("get", json!({}))?,
    };
    Ok(with(answer, "target", host.name().into()))
}

/// Makes a change of what holds for `agent`: the same with `effect`, a sentence each. With `base_hash`
/// only if the document is still that one.
///
/// # Errors
/// See [`InspectError`]; the document is as it was. The refusal of an edit that would loosen somebody
/// else's policy is that machine's sentence.
pub fn change(host: &Host, change: &Change, agent: &str, base_hash: Option<&str>) -> Result<Value, InspectError> {
    let (said, answer) = match host {
        Host::Here(state) => {
            state.prepare()?;
            let (said, snapshot) = ApprovalsDocument::new(state).make_change(change, agent, base_hash)?;
            (said, to_value(snapshot)?)
        }
        Host::Gateway(target) => Remote::connect(target, None)?.change(change, agent, base_hash)?,
        Host::Node(target, node) => Remote::connect(target, Some(node))?.change(change, agent, base_hash)?,
    };
    Ok(with(with(answer, "target", host.name().into()), "effect", json!(said)))
}

/// A whole document out of text.
///
/// # Errors
/// It is too large, or no JSON object, or a member stands in it twice.
pub fn replacement(text: &str) -> Result<Change, InspectError> {
    if text.len() as u64 > limits::DOCUMENT_BYTES {
        return Err(InspectError::Usage(format!("the document is larger than {} bytes", limits::DOCUMENT_BYTES)));
    }
    strict::check(text, limits::STRICT_JSON_DEPTH)
        .map_err(|error| InspectError::Usage(format!("the document is not used: {error}")))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(file)) => Ok(Change::Replace(file)),
        _ => Err(InspectError::Usage("the document is not a JSON object".to_owned())),
    }
}

/// What was changed, for a person.
pub fn effect_text(answer: &Value) -> String {
    let mut out = heading(answer);
    for said in answer.get("effect").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(out, "  {}", visible(said));
    }
    out
}

/// The document for a person: each level's settings and entries.
pub fn text(answer: &Value) -> String {
    let mut out = heading(answer);
    let file = answer.get("file");
    let exists = answer.get("exists") != Some(&Value::Bool(false));
    let _ = match answer.get("hash").and_then(Value::as_str).filter(|_| exists) {
        Some(hash) => writeln!(out, "  hash {}", visible(hash)),
        None => {
            writeln!(out, "  there is no document: nothing is on a list, and a person is asked about every command")
        }
    };
    let mut level = |who: &str, members: &Map<String, Value>| {
        let _ = write!(out, "{}:", visible(who));
        for (name, value) in members.iter().filter(|(_, value)| !value.is_array() && !value.is_object()) {
            let value = value.as_str().map_or_else(|| value.to_string(), visible);
            let _ = write!(out, "  {} {value}", visible(name));
        }
        out.push('\n');
        for list in [List::Allow, List::Deny] {
            for entry in members.get(list.member()).and_then(Value::as_array).into_iter().flatten() {
                let _ = writeln!(out, "  {}  {}", list.member(), entry_text(entry));
            }
        }
    };
    let object = |name: &str| file.and_then(|file| file.get(name)).and_then(Value::as_object);
    for name in ["defaults", "local"] {
        if let Some(members) = object(name).filter(|members| !members.is_empty()) {
            level(name, members);
        }
    }
    for (agent, members) in object("agents").into_iter().flatten() {
        if let Some(members) = members.as_object() {
            level(&format!("agent {agent}"), members);
        }
    }
    out
}

fn entry_text(entry: &Value) -> String {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(visible);
    let mut out = entry.as_str().map(visible).or_else(|| text("pattern")).unwrap_or_default();
    for (name, label) in
        [("argPattern", " with arguments "), ("command", "command "), ("source", "  from "), ("id", "  id ")]
    {
        if let Some(text) = text(name) {
            let _ = write!(out, "{label}{text}");
        }
    }
    out
}

/// Whether an answer shows all of a document.
fn is_whole(answer: &Value) -> bool {
    answer.get(WHOLE) == Some(&Value::Bool(true))
}

fn heading(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(visible).unwrap_or_default();
    let part = if is_whole(answer) {
        ""
    } else {
        "  as the protocol has it: a denylist, a fence and `local` there are not shown, and stay as they are\n"
    };
    format!("approvals document of {}: {}\n{part}", text("target"), text("path"))
}

fn to_value(snapshot: Snapshot) -> Result<Value, InspectError> {
    serde_json::to_value(snapshot).map_err(|error| InspectError::Answer(error.to_string()))
}

fn with(mut answer: Value, name: &str, value: Value) -> Value {
    if let Some(members) = answer.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    answer
}

impl From<EditError> for InspectError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::State(error) => Self::State(error),
            other => Self::Edit(other),
        }
    }
}
