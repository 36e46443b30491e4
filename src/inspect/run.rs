//! `mac-debug run` and `mac-debug invoke`

use super::nodes::choose;
use super::{InspectError, Target};
use crate::client::Connection;
use crate::client::connection::EventHandler;
use crate::gateway::scope;
use crate::identity::random;
use crate::limits;
use crate::protocol::node::{InvokeProgress, RunResult, name};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SCOPES: &[&str] = &[scope::READ, scope::WRITE];

/// What to run.
pub struct RunOrder {
    /// Which node; none = the only one that fits.
    pub node: Option<String>,
    /// The argument vector.
    pub command: Vec<String>,
    /// Working directory on the node.
    pub cwd: Option<String>,
    /// Environment overrides.
    pub env: BTreeMap<String, String>,
    /// Limit of the run in milliseconds; none = no limit.
    pub timeout_ms: Option<u64>,
}

/// Hears what a command prints, on the thread that reads the connection.
pub type Follower = Box<dyn Fn(&str) + Send>;

/// Runs a command on a node; a person there may be asked first. `follower` hears what a run that
/// takes longer has printed so far; the result has all of it.
///
/// # Errors
/// See [`InspectError`]; a refusal is [`InspectError::Call`].
pub fn run(target: &Target, order: &RunOrder, follower: Option<Follower>) -> Result<RunResult, InspectError> {
    let mut params = json!({"command": order.command});
    if let Some(members) = params.as_object_mut() {
        if let Some(cwd) = &order.cwd {
            members.insert("cwd".to_owned(), cwd.as_str().into());
        }
        if !order.env.is_empty() {
            members.insert("env".to_owned(), json!(order.env));
        }
        if let Some(timeout) = order.timeout_ms {
            members.insert("timeoutMs".to_owned(), timeout.into());
        }
    }
    // The run's own limit begins after the person has answered.
    let limit = order
        .timeout_ms
        .map(|millis| Duration::from_millis(millis) + limits::PROMPT_DEADLINE + limits::REQUEST_DEADLINE);
    let connection = match follower {
        None => target.connect(SCOPES)?,
        Some(follower) => target.connect_and_hear(SCOPES, &[name::PROGRESS_CAP], hear_progress(follower))?,
    };
    let answer = send(&connection, order.node.as_deref(), name::RUN, Some(&params), limit)?;
    let payload = answer.get("payload").cloned().unwrap_or_default();
    serde_json::from_value(payload).map_err(|error| InspectError::Answer(error.to_string()))
}

/// Invokes any command with JSON parameters.
///
/// # Errors
/// See [`InspectError`].
pub fn invoke(
    target: &Target,
    node: Option<&str>,
    command: &str,
    params: Option<&str>,
    limit: Duration,
) -> Result<Value, InspectError> {
    let params = match params {
        None => None,
        Some(text) => Some(
            serde_json::from_str::<Box<RawValue>>(text)
                .map_err(|error| InspectError::Usage(format!("the parameters are not JSON: {error}")))?,
        ),
    };
    send(&target.connect(SCOPES)?, node, command, params.as_ref(), Some(limit))
}

fn hear_progress(follower: Follower) -> EventHandler {
    Box::new(move |_, event, payload| {
        let text = payload.filter(|_| event == name::INVOKE_PROGRESS).map_or("null", RawValue::get);
        if let Ok(progress) = serde_json::from_str::<InvokeProgress>(text) {
            follower(&progress.chunk);
        }
    })
}

fn send<P: serde::Serialize>(
    connection: &Connection,
    node: Option<&str>,
    command: &str,
    params: Option<&P>,
    limit: Option<Duration>,
) -> Result<Value, InspectError> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Invoke<'a, P: serde::Serialize> {
        node_id: &'a str,
        command: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a P>,
        timeout_ms: u64,
        idempotency_key: String,
    }
    let node_id = choose(connection, node, command)?;
    let timeout_ms = limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(0));
    let invoke = Invoke { node_id: &node_id, command, params, timeout_ms, idempotency_key: random::uuid() };
    let patience = limit.unwrap_or(limits::INVOKE_TIMEOUT_MAX) + limits::REQUEST_DEADLINE;
    let answer = connection.call("node.invoke", &invoke, patience)?;
    serde_json::from_str(answer.get()).map_err(|error| InspectError::Answer(error.to_string()))
}
