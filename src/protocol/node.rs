//! What gateway and node say to each other about invocations, and `system.*` parameters and
//! results. Source: spec gateway §5, exec (e).

use super::policy::{Ask, Decision, Refusal, Security};
use super::strict;
use crate::limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Names of the commands and events of this room; each stands once.
pub mod name {
    /// Runs a command.
    pub const RUN: &str = "system.run";
    /// Analyses a command without running it.
    pub const RUN_PREPARE: &str = "system.run.prepare";
    /// Finds programs.
    pub const WHICH: &str = "system.which";
    /// Prefix of the policy commands, reachable only through dedicated methods.
    pub const EXEC_APPROVALS: &str = "system.execApprovals.";
    /// Shows the policy.
    pub const EXEC_APPROVALS_GET: &str = "system.execApprovals.get";
    /// Replaces the policy.
    pub const EXEC_APPROVALS_SET: &str = "system.execApprovals.set";
    /// Gateway to node: do this.
    pub const INVOKE_REQUEST: &str = "node.invoke.request";
    /// Gateway to node: stop doing this.
    pub const INVOKE_CANCEL: &str = "node.invoke.cancel";
    /// Node to gateway: the outcome.
    pub const INVOKE_RESULT: &str = "node.invoke.result";
    /// Node to gateway, and from there to a caller with [`PROGRESS_CAP`]: output so far.
    pub const INVOKE_PROGRESS: &str = "node.invoke.progress";
    /// In the caps of an operator that wants to hear of progress. Ours.
    pub const PROGRESS_CAP: &str = "invoke-progress";
    /// Node to gateway: something happened.
    pub const NODE_EVENT: &str = "node.event";
    /// A run has ended.
    pub const EXEC_FINISHED: &str = "exec.finished";
    /// A run was refused.
    pub const EXEC_DENIED: &str = "exec.denied";
    /// A run has begun (sent by the Mac app's node only).
    pub const EXEC_STARTED: &str = "exec.started";
    /// Load of the node's machine.
    pub const HOST_STATS: &str = "node.host.stats";
    /// Node to gateway: which programs its skills have.
    pub const SKILLS_BINS: &str = "skills.bins";
    /// Node to gateway: skills of its own.
    pub const SKILLS_UPDATE: &str = "node.skills.update";
    /// Node to gateway: tools of its own.
    pub const PLUGIN_TOOLS: &str = "node.pluginTools.update";
}

/// What a node offers: `caps`, `commands`, `permissions` of `connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surface {
    /// `system`, `canvas` …
    #[serde(default)]
    pub caps: Vec<String>,
    /// Commands.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Permissions by name; absent on a host that has none to speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
}

impl Surface {
    /// Whether `other` offers nothing that this one does not.
    pub fn holds(&self, other: &Self) -> bool {
        other.caps.iter().all(|cap| self.caps.contains(cap))
            && other.commands.iter().all(|command| self.commands.contains(command))
    }
}

/// Payload of `node.invoke.request`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeRequest {
    /// Of this invocation.
    pub id: String,
    /// Whom it is for.
    pub node_id: String,
    /// What to do.
    pub command: String,
    /// JSON text of the parameters; null when the caller sent none.
    #[serde(rename = "paramsJSON", default)]
    pub params_json: Option<String>,
    /// Milliseconds left.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// As the caller chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// As the caller named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
}

/// Payload of `node.invoke.cancel`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeCancel {
    /// The invocation to stop.
    pub invoke_id: String,
    /// Whose it is.
    pub node_id: String,
}

/// Why a node did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// Stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl NodeError {
    /// Both fields set.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: Some(code.to_owned()), message: Some(message.into()) }
    }
}

impl From<Refusal> for NodeError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

/// Parameters of `node.invoke.progress`, and what a caller hears of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeProgress {
    /// The invocation; to a caller, its own request.
    pub invoke_id: String,
    /// Who does it.
    pub node_id: String,
    /// Number of this piece, from 0.
    pub seq: u64,
    /// What was printed.
    pub chunk: String,
}

/// Parameters of `node.invoke.result`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeResult {
    /// Of the invocation.
    pub id: String,
    /// Who answers.
    pub node_id: String,
    /// Whether it was done.
    pub ok: bool,
    /// JSON text of the outcome.
    #[serde(rename = "payloadJSON", default, skip_serializing_if = "Option::is_none")]
    pub payload_json: Option<String>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeError>,
}

/// What `system.run` was asked to do: from the gateway (strict) or from the exec socket (unknown
/// members ignored). Nothing in here is evidence of approval, identity or policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// The argument vector, byte for byte.
    pub command: Vec<String>,
    /// A claim about the text of the command; must agree with it.
    pub raw_command: Option<String>,
    /// Working directory as named by the caller.
    pub cwd: Option<String>,
    /// Environment overrides in the caller's order.
    pub env: Option<BTreeMap<String, String>>,
    /// Milliseconds; absent or 0 = no limit of its own.
    pub timeout_ms: Option<u64>,
    /// The command needs the screen recording permission.
    pub needs_screen_recording: bool,
    /// On whose behalf, as the caller says.
    pub agent_id: Option<String>,
    /// In which session, as the caller says.
    pub session_key: Option<String>,
    /// `allow-once`, `allow-always` or `deny`, as the caller says.
    pub approval_decision: Option<String>,
    /// What the program is to see as its own name, when `command` has its path. Ours, for the exec socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
    /// The exec socket's client wants to hear what the command prints. Ours; left out when false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub progress: bool,
    /// The caller's own policy; it can only tighten ours.
    #[serde(skip)]
    pub security: Option<Security>,
    /// The same. Crosses the exec socket, for a command that is always asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
    /// The same, for code in arguments.
    #[serde(skip)]
    pub strict_inline_eval: bool,
    /// Names the run in events.
    #[serde(skip)]
    pub run_id: Option<String>,
    /// The gateway says that this was approved.
    #[serde(skip)]
    pub approved: bool,
    /// The plan that was approved, as `system.run.prepare` gave it.
    #[serde(skip)]
    pub system_run_plan: Option<Value>,
    /// Where the approval comes from.
    #[serde(skip)]
    pub approval_source: Option<String>,
    /// Copied into events.
    #[serde(skip)]
    pub suppress_notify_on_exit: bool,
}

/// How a [`RunRequest`] is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RunSource {
    /// `paramsJSON` of an invocation: unknown members are refused.
    Gateway,
    /// `requestJson` of the exec socket: unknown members are ignored.
    Socket,
}

/// Members of `system.run` parameters. Source: exec e.2.
const RUN_MEMBERS: &[&str] = &[
    "command",
    "rawCommand",
    "cwd",
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "approved",
    "approvalDecision",
    "systemRunPlan",
    "approvalSource",
    "suppressNotifyOnExit",
    // Of system.run.prepare.
    "security",
    "ask",
    "strictInlineEval",
];

/// Reads a request: no duplicate members, bounded depth, argv of texts without NUL.
///
/// # Errors
/// An `INVALID_REQUEST` refusal that names the member.
pub fn parse_run(text: &str, source: RunSource) -> Result<RunRequest, Refusal> {
    strict::check(text, limits::STRICT_JSON_DEPTH)
        .map_err(|error| Refusal::invalid(format!("Error: INVALID_REQUEST: paramsJSON malformed JSON: {error}")))?;
    let value: Value = serde_json::from_str(text).map_err(|_| Refusal::invalid("parameters are not JSON"))?;
    let Value::Object(members) = value else {
        return Err(Refusal::invalid("command required: the parameters must be an object"));
    };
    if source == RunSource::Gateway
        && let Some(name) = members.keys().find(|name| !RUN_MEMBERS.contains(&name.as_str()))
    {
        let name = super::text::visible(super::text::prefix(name, 64));
        return Err(Refusal::invalid(format!("unexpected parameter '{name}'")));
    }
    let request = RunRequest {
        command: argv(&members)?,
        raw_command: text_member(&members, "rawCommand")?.filter(|raw| !raw.trim().is_empty()),
        cwd: text_member(&members, "cwd")?.filter(|cwd| !cwd.trim().is_empty()),
        env: env(&members)?,
        timeout_ms: milliseconds(&members, "timeoutMs")?,
        needs_screen_recording: flag(&members, "needsScreenRecording")?,
        agent_id: text_member(&members, "agentId")?.filter(|agent| !agent.trim().is_empty()),
        session_key: text_member(&members, "sessionKey")?.filter(|key| !key.trim().is_empty()),
        approval_decision: decision(&members)?,
        // Whatever it is to a client of another make, it is no reason to refuse the command.
        progress: members.get("progress") == Some(&Value::Bool(true)),
        argv0: text_member(&members, "argv0")?,
        security: text_member(&members, "security")?.as_deref().and_then(Security::from_word),
        ask: text_member(&members, "ask")?.as_deref().and_then(Ask::from_word),
        strict_inline_eval: members.get("strictInlineEval") == Some(&Value::Bool(true)),
        run_id: text_member(&members, "runId")?.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()),
        approved: members.get("approved") == Some(&Value::Bool(true)) && !has_odd_decision(&members),
        system_run_plan: members.get("systemRunPlan").filter(|plan| !plan.is_null()).cloned(),
        approval_source: text_member(&members, "approvalSource")?,
        suppress_notify_on_exit: flag(&members, "suppressNotifyOnExit")?,
    };
    for (name, text) in [("cwd", &request.cwd), ("agentId", &request.agent_id), ("sessionKey", &request.session_key)] {
        if text.as_ref().is_some_and(|text| text.contains('\0') || text.len() > 4_096) {
            return Err(Refusal::invalid(format!("{name} is too long or holds a NUL")));
        }
    }
    Ok(request)
}

fn argv(members: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let required = || Refusal::invalid("command required");
    let items = match members.get("command") {
        None | Some(Value::Null) => return Err(required()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Refusal::invalid("command required: it must be an array of strings")),
    };
    if items.len() > limits::ARGV_ELEMENTS {
        return Err(Refusal::invalid(format!("command has more than {} elements", limits::ARGV_ELEMENTS)));
    }
    let mut argv = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.as_str() else {
            return Err(Refusal::invalid("command required: it must be an array of strings"));
        };
        if text.contains('\0') {
            return Err(Refusal::invalid("command holds a NUL character"));
        }
        argv.push(text.to_owned());
    }
    if argv.iter().map(String::len).sum::<usize>() > limits::ARGV_BYTES {
        return Err(Refusal::invalid(format!("command is longer than {} bytes", limits::ARGV_BYTES)));
    }
    if argv.first().is_none_or(|first| first.trim().is_empty()) {
        return Err(required());
    }
    Ok(argv)
}

fn env(members: &Map<String, Value>) -> Result<Option<BTreeMap<String, String>>, Refusal> {
    let overrides = match members.get("env") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(overrides)) => overrides,
        Some(_) => return Err(Refusal::invalid("env must be an object of strings")),
    };
    if overrides.len() > limits::ENV_OVERRIDES {
        return Err(Refusal::invalid(format!("env has more than {} members", limits::ENV_OVERRIDES)));
    }
    let mut env = BTreeMap::new();
    for (key, value) in overrides {
        let Some(value) = value.as_str() else { return Err(Refusal::invalid("env must be an object of strings")) };
        if value.contains('\0') {
            return Err(Refusal::invalid("env holds a NUL character"));
        }
        env.insert(key.clone(), value.to_owned());
    }
    Ok(Some(env))
}

/// An explicit `deny` is final whoever says it; a word that we do not know is no decision.
fn decision(members: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match members.get("approvalDecision") {
        Some(Value::String(word)) => Ok(Some(word.clone())),
        _ => Ok(None),
    }
}

/// What says `approved` beside a word that is no decision has not decided (A63).
fn has_odd_decision(members: &Map<String, Value>) -> bool {
    let is_odd = |decision: &Value| decision.as_str().and_then(Decision::from_word).is_none();
    members.get("approvalDecision").is_some_and(|decision| !decision.is_null() && is_odd(decision))
}

fn text_member(members: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::invalid(format!("{name} must be a string"))),
    }
}

fn flag(members: &Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refusal::invalid(format!("{name} must be true or false"))),
    }
}

/// JavaScript peers may write any number here; what is not positive means "no limit".
fn milliseconds(members: &Map<String, Value>, name: &str) -> Result<Option<u64>, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let most = u64::try_from(limits::RUN_TIMEOUT_MAX.as_millis()).unwrap_or(u64::MAX);
            let millis = number.as_f64().unwrap_or(0.0);
            Ok((millis >= 1.0).then(|| (millis as u64).min(most)))
        }
        Some(_) => Err(Refusal::invalid(format!("{name} must be a number"))),
    }
}

/// Result of `system.run`. Source: exec e.2.
///
/// Absent members read as "no", since other hosts may leave them out (vectors `exec-client`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunResult {
    /// Absent when killed by a signal or not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The limit passed.
    pub timed_out: bool,
    /// Exit code 0, in time, no error.
    pub success: bool,
    /// Lossy UTF-8, bounded.
    pub stdout: String,
    /// Lossy UTF-8, bounded.
    pub stderr: String,
    /// Why it could not be started or followed.
    pub error: Option<String>,
}

/// Payload of `exec.finished` and `exec.denied`. Source: exec e.3.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecEvent {
    /// Of the request; `node` when it named none.
    pub session_key: String,
    /// Of the request.
    pub run_id: String,
    /// Always `node`.
    pub host: String,
    /// Display text of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Of the finished run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Of the finished run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<bool>,
    /// Of the finished run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// Tail of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why the run was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Copied from the request.
    pub suppress_notify_on_exit: bool,
}

/// Parameters of `system.which`.
///
/// # Errors
/// `INVALID_REQUEST` in the original's words, prefix included.
pub fn parse_which(text: &str) -> Result<Vec<String>, Refusal> {
    let bad = |what: &str| Refusal::invalid(format!("Error: INVALID_REQUEST: {what}"));
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|_| bad("paramsJSON malformed JSON"))?;
    let value: Value = serde_json::from_str(text).map_err(|_| bad("paramsJSON malformed JSON"))?;
    let Some(Value::Array(items)) = value.get("bins") else { return Err(bad("bins required")) };
    if items.len() > limits::WHICH_BINS {
        return Err(bad("too many bins"));
    }
    Ok(items.iter().filter_map(Value::as_str).map(str::trim).filter(|bin| !bin.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match parse_run(text, RunSource::Gateway) {
            Ok(request) => format!("{:?}", request.command),
            Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        }
    }

    /// A92: degenerate argv is refused, everything else passes byte for byte.
    #[test]
    fn sec_a92_degenerate_argv() {
        for bad in [r#"{"command":[]}"#, r#"{"command":[""]}"#, r#"{"command":[" "]}"#, "{}", r#"{"command":null}"#] {
            assert_eq!(said(bad), "INVALID_REQUEST: command required", "{bad}");
        }
        for bad in [r#"{"command":"ls"}"#, r#"{"command":[1]}"#, r#"{"command":[null]}"#, r#"{"command":["ls",null]}"#]
        {
            assert_eq!(said(bad), "INVALID_REQUEST: command required: it must be an array of strings", "{bad}");
        }
        assert_eq!(said("{\"command\":[\"a\\u0000b\"]}"), "INVALID_REQUEST: command holds a NUL character");
        assert_eq!(said(r#"{"command":["ls"," x ",""]}"#), r#"["ls", " x ", ""]"#);
    }

    #[test]
    fn gateway_parameters_are_strict_and_socket_ones_may_grow() {
        assert_eq!(said(r#"{"command":["ls"],"Approved":true}"#), "INVALID_REQUEST: unexpected parameter 'Approved'");
        assert!(parse_run(r#"{"command":["ls"],"futureField":1}"#, RunSource::Socket).is_ok());
        assert!(parse_run(r#"{"command":["ls"],"command":["rm"]}"#, RunSource::Socket).is_err());
        assert!(said("null").starts_with("INVALID_REQUEST: "));
        assert!(said("[]").starts_with("INVALID_REQUEST: "));
        assert!(said("{").starts_with("INVALID_REQUEST: "));
        assert!(said(r#"{"command":["ls"],"env":{"A":1}}"#).contains("env must be"));
        assert!(said(r#"{"command":["ls"],"timeoutMs":"5"}"#).contains("timeoutMs must be a number"));
    }
}
