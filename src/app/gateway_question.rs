//! What a gateway's approval record says, put for a person. All of it is the gateway's word, and is called so.
//! Source: spec gateway §6.

use crate::exec::approval::{Kind, Question};
use crate::exec::display;
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::state::approvals::ApprovalsDocument;
use crate::sys::clock::{Expiry, Now};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Where the arguments of a command stand; what would run comes first.
const ARGV: &[&str] = &["/systemRunPlan/argv", "/systemRunBinding/argv", "/commandArgv"];
/// Members that are shown under their names: what asked for the command, and why there.
const CONTEXT: &[&str] = &[
    "security",
    "ask",
    "sessionId",
    "runId",
    "toolCallId",
    "turnSourceChannel",
    "turnSourceTo",
    "turnSourceAccountId",
    "turnSourceThreadId",
];

/// Where this app stands, seen from a gateway.
pub struct Here {
    /// The gateway, in words.
    pub gateway: String,
    /// This app's own node.
    pub node_id: String,
    /// Says whether an answer given at the gateway counts here.
    pub document: Arc<ApprovalsDocument>,
}

/// A command that waits at a gateway for somebody's word.
#[derive(Clone)]
pub struct Record {
    /// Its name there.
    pub id: String,
    /// What is asked.
    pub request: Value,
    /// When it has certainly ended; the gateway's own word may come earlier.
    pub expires: Expiry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    request: Value,
    created_at_ms: i64,
    expires_at_ms: i64,
}

impl Record {
    /// Reads one as it is listed and announced; none for what cannot be shown whole.
    pub fn read(row: &str) -> Option<Self> {
        if row.len() > limits::GATEWAY_QUESTION_BYTES {
            log!("app", "an approval of the gateway is too large to be shown here; answer it elsewhere");
            return None;
        }
        let row: Row = serde_json::from_str(row).ok()?;
        // Its life and not its end: the gateway's clock may be another machine's.
        let life = u64::try_from(row.expires_at_ms.saturating_sub(row.created_at_ms)).ok()?;
        let life = Duration::from_millis(life).min(limits::APPROVAL_TIMEOUT);
        let record = Self { id: row.id, request: row.request, expires: Expiry::after(Now::read(), life) };
        (record.id.len() <= limits::DECLARED_NAME_BYTES && record.command().is_some()).then_some(record)
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.request.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// A plan is what would run, so its word goes before the requester's.
    fn planned(&self, member: &str) -> Option<&str> {
        let is_planned = self.request.get("systemRunPlan").is_some_and(Value::is_object);
        self.text(&format!("{}/{member}", if is_planned { "/systemRunPlan" } else { "" }))
    }

    fn argv(&self) -> Option<Vec<String>> {
        let argv = |place: &&str| Vec::<String>::deserialize(self.request.pointer(place)?).ok();
        ARGV.iter().find_map(argv).filter(|argv| !argv.is_empty())
    }

    /// Where the arguments are known they are what is shown, whatever the command is called (A64).
    fn command(&self) -> Option<String> {
        self.argv().map(|argv| display::quoted(&argv)).or_else(|| self.text("/command").map(str::to_owned))
    }

    /// What the command is called, if that is no way to write its arguments.
    fn other_name(&self) -> Option<&str> {
        let (argv, called) = (self.argv()?, self.text("/command")?);
        (called != display::quoted(&argv) && called != display::canonical(&argv)).then_some(called)
    }

    /// What the person is asked, now; `others` is how many more wait.
    pub fn question(&self, here: &Here, others: usize) -> Question {
        let now = Now::read();
        let says = |claim: Option<&str>| match claim {
            Some(claim) => format!("the gateway says \"{claim}\""),
            None => "the gateway does not say".to_owned(),
        };
        let mut notes = vec![self.place(here)];
        let called = |name| format!("the gateway calls the command \"{name}\"; what would run stands below");
        notes.extend(self.other_name().map(called));
        notes.extend(self.warnings().into_iter().map(|line| format!("the gateway says: {line}")));
        let context = CONTEXT.iter().filter_map(|name| Some((name, self.request.get(*name)?)));
        let context: Vec<_> = context.filter(|(_, value)| !value.is_null()).map(|(n, v)| format!("{n}={v}")).collect();
        if !context.is_empty() {
            notes.push(format!("the gateway says: {}", context.join(", ")));
        }
        if others > 0 {
            notes.push(format!("{others} more wait at the gateway"));
        }
        let offered = self.request.get("allowedDecisions").and_then(Value::as_array);
        let always = Some(Decision::AllowAlways.word());
        let offers_always = offered.is_some_and(|words| words.iter().any(|word| word.as_str() == always));
        Question {
            kind: Kind::Command,
            id: self.id.clone(),
            command: self.command().unwrap_or_default(),
            executable: says(self.text("/resolvedPath")),
            cwd: says(self.planned("cwd")),
            env: Vec::new(),
            agent: self.planned("agentId").map(str::to_owned),
            session: self.planned("sessionKey").map(str::to_owned),
            requester: format!("a client of the gateway at {}", here.gateway),
            notes,
            allow_always: if offers_always { Ok(()) } else { Err("the gateway does not offer it here".to_owned()) },
            spans: Vec::new(),
            unbound: None,
            deadline: Expiry::after(now, self.expires.remaining(now).min(limits::PROMPT_DEADLINE)),
        }
    }

    /// Where it would run, and what an answer is worth there.
    fn place(&self, here: &Here) -> String {
        match (self.text("/host"), self.text("/nodeId")) {
            (Some("node"), Some(node)) if node == here.node_id => {
                let policy = here.document.effective(self.planned("agentId"), false);
                if policy.trust_gateway_approvals {
                    "it would run on this machine, on your word alone if this machine has prepared it".to_owned()
                } else {
                    "it would run on this machine, whose own rules come next; they may have you asked once more"
                        .to_owned()
                }
            }
            (Some(host), Some(node)) => {
                format!("the gateway says that it would run elsewhere: host {host}, node {node}")
            }
            (Some(host), None) => format!("the gateway says that it would run elsewhere: host {host}"),
            (None, _) => "the gateway does not say where it would run".to_owned(),
        }
    }

    /// A line each; of too many one, so that the height of the prompt is not the requester's (A67).
    fn warnings(&self) -> Vec<String> {
        let analysed = self.request.pointer("/commandAnalysis/warningLines").and_then(Value::as_array);
        let analysed = analysed.into_iter().flatten().filter_map(Value::as_str);
        let lines: Vec<&str> = self.text("/warningText").into_iter().chain(analysed).flat_map(str::lines).collect();
        if lines.len() > limits::GATEWAY_WARNING_LINES {
            return vec![lines.join("\n")];
        }
        lines.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests;
