//! What `node.invoke system.run` forwards: a fixed list of members, and no word of approval but the
//! one on this gateway's record of that very run. Source: spec exec g.6, gateway §5; cases A48, A60
//! to A62.

use super::run_binding::{BoundEnv, BoundRun, RunPlan};
use crate::exec::display;
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::policy::Decision;
use crate::protocol::strict;
use crate::sys::clock::{Expiry, Now};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Members that pass.
#[rustfmt::skip]
const FORWARDED: &[&str] = &[
    "command", "rawCommand", "systemRunPlan", "cwd", "env", "timeoutMs", "needsScreenRecording", "agentId",
    "sessionKey", "runId", "suppressNotifyOnExit",
];
/// Where the word of an approval comes from when nobody gave one.
const ASK_FALLBACK: &str = "ask-fallback";

/// What goes to the node.
pub struct Guarded {
    /// Text of the parameters.
    pub params_json: String,
    /// Names the run; made here when the caller named none.
    pub run_id: String,
    /// If the caller named one.
    pub session_key: Option<String>,
}

/// What a caller says about its run; only a record makes it true.
#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Approved,
    NobodyAnswered,
}

/// Whoever asks for a run.
pub struct Caller<'a> {
    /// Where it is to run.
    pub node_id: &'a str,
    /// Proven; none of a device-less operator.
    pub device_id: Option<&'a str>,
    /// Its connection.
    pub conn_id: &'a str,
    /// It has the approvals scope.
    pub may_approve: bool,
}

/// What an approval record says, and whether it has been used up. Held under the records' lock while
/// a run is judged, so that one record is one run (A62).
pub struct Ticket<'a> {
    /// Where the run was approved for.
    pub node_id: Option<&'a str>,
    /// What was approved; none if it was no plan.
    pub run: Option<&'a BoundRun>,
    /// Who asked: this device, or where there is none …
    pub device_id: Option<&'a str>,
    /// … this connection.
    pub conn_id: &'a str,
    /// None while it waits; Some(None) when nobody answered.
    pub end: Option<Option<Decision>>,
    /// When an answer counts no more.
    pub expires: Expiry,
    /// When the want of an answer counts no more.
    pub kept: Expiry,
    /// It had its one run.
    pub spent: &'a mut bool,
}

/// The parameters of `system.run`, without any word of approval until [`Run::redeem`] adds one.
pub struct Run {
    members: Map<String, Value>,
    run_id: String,
    claim: Option<Claim>,
}

impl Run {
    /// Reads what a caller sent.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with the code of spec exec g.6 in `details.code`.
    pub fn read(params: Option<&RawValue>) -> Result<Self, WireError> {
        let text = params.map_or("{}", RawValue::get);
        let bad = |why: &str| WireError::invalid(format!("INVALID_REQUEST: {why}"));
        strict::check(text, limits::STRICT_JSON_DEPTH)
            .map_err(|error| bad(&format!("system.run parameters are not strict JSON: {error}")))?;
        let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(text) else {
            return Err(bad("system.run parameters must be an object"));
        };
        let named = filled(&members, "runId").map(str::to_owned);
        let claim = claim(&members, named.as_deref())?;
        members.retain(|member, value| FORWARDED.contains(&member.as_str()) && !value.is_null());
        if claim.is_none() {
            check_raw_command(&mut members)?;
        }
        let is_short = |id: &String| id.len() <= limits::DECLARED_NAME_BYTES;
        let run_id = named.filter(is_short).unwrap_or_else(random::uuid);
        members.insert("runId".to_owned(), run_id.as_str().into());
        Ok(Self { members, run_id, claim })
    }

    /// The record that must be redeemed before the run goes anywhere.
    pub fn claims(&self) -> Option<&str> {
        self.claim.is_some().then_some(self.run_id.as_str())
    }

    /// Makes the run the one on record, with the recorded word, and uses the record up. A run that
    /// wants the screen goes on without the word: nobody was asked about that, so the node asks
    /// (row A60).
    ///
    /// # Errors
    /// The record does not fit, in the order of spec exec g.6; it stays as good as it was. A caller
    /// that names another run than the recorded one is refused, where the original runs the
    /// recorded one (A60).
    pub fn redeem(&mut self, ticket: &mut Ticket<'_>, caller: &Caller<'_>, now: Now) -> Result<(), WireError> {
        let refuse = |code: &str, message: &str| refusal(code, message, Some(&self.run_id));
        let required = || refuse("APPROVAL_REQUIRED", "approval required");
        let unlike = || refuse("APPROVAL_REQUEST_MISMATCH", "approval id does not match request");
        let fallback = self.claim == Some(Claim::NobodyAnswered);
        if fallback {
            self.check_unanswered(ticket, caller)?;
        }
        if if fallback { ticket.kept } else { ticket.expires }.passed(now) {
            return Err(refuse("APPROVAL_EXPIRED", "approval expired"));
        }
        self.check_caller(ticket, caller)?;
        let run = ticket.run.ok_or_else(unlike)?;
        if !names_nothing_but(&self.members, &run.plan) {
            return Err(unlike());
        }
        let env = BoundEnv::read(self.members.get("env"));
        check_env(&env, run, &self.run_id)?;
        let word = match ticket.end.flatten() {
            None if fallback => None,
            Some(word @ (Decision::AllowOnce | Decision::AllowAlways)) => Some(word),
            _ => return Err(required()),
        };
        if *ticket.spent {
            return Err(required());
        }
        self.become_planned(&run.plan, env);
        if self.members.get("needsScreenRecording").is_some_and(|flag| *flag != Value::Bool(false)) {
            return Ok(());
        }
        *ticket.spent = word != Some(Decision::AllowAlways);
        match word {
            Some(word) => {
                self.members.insert("approved".to_owned(), true.into());
                self.members.insert("approvalDecision".to_owned(), word.word().into());
            }
            None => {
                self.members.insert("approvalSource".to_owned(), ASK_FALLBACK.into());
            }
        }
        Ok(())
    }

    /// A record that nobody answered, for somebody who may know that.
    fn check_unanswered(&self, ticket: &Ticket<'_>, caller: &Caller<'_>) -> Result<(), WireError> {
        let (code, message) = match ticket.end {
            Some(Some(_)) => ("APPROVAL_SOURCE_MISMATCH", "approval source does not match approval record"),
            None => ("APPROVAL_REQUIRED", "approval required"),
            Some(None) if !caller.may_approve => ("APPROVAL_REQUIRED", "approval required"),
            Some(None) if ticket.run.is_none() => ("APPROVAL_PLAN_REQUIRED", "approval has no plan that could run"),
            Some(None) => return Ok(()),
        };
        Err(refusal(code, message, Some(&self.run_id)))
    }

    /// The node that it was asked for, and whoever asked (A61).
    fn check_caller(&self, ticket: &Ticket<'_>, caller: &Caller<'_>) -> Result<(), WireError> {
        let (code, message) = match (ticket.node_id, ticket.device_id) {
            (None, _) => ("APPROVAL_NODE_BINDING_MISSING", "approval id missing node binding"),
            (Some(node), _) if node != caller.node_id => {
                ("APPROVAL_NODE_MISMATCH", "approval id not valid for this node")
            }
            (_, Some(device)) if caller.device_id != Some(device) => {
                ("APPROVAL_DEVICE_MISMATCH", "approval id not valid for this device")
            }
            (_, None) if ticket.conn_id != caller.conn_id => {
                ("APPROVAL_CLIENT_MISMATCH", "approval id not valid for this client")
            }
            _ => return Ok(()),
        };
        Err(refusal(code, message, Some(&self.run_id)))
    }

    /// Everything that was approved comes from the record, and the limit that nobody was shown is
    /// kept within reason (row A60).
    fn become_planned(&mut self, plan: &RunPlan, env: BoundEnv) {
        let mut planned = planned(plan);
        planned.insert("rawCommand".to_owned(), plan.command_text.as_str().into());
        planned.insert("systemRunPlan".to_owned(), json!(plan));
        planned.insert("env".to_owned(), if env.0.is_empty() { Value::Null } else { json!(env.0) });
        if let Some(limit) = self.members.get("timeoutMs") {
            let most = limits::APPROVED_RUN_TIMEOUT.as_millis() as f64;
            let millis = limit.as_f64().filter(|millis| *millis >= 1.0 && *millis < most).unwrap_or(most);
            planned.insert("timeoutMs".to_owned(), (millis as u64).into());
        }
        self.members.extend(planned);
        self.members.retain(|_, value| !value.is_null());
    }

    /// What goes to the node.
    pub fn guarded(self) -> Guarded {
        let session_key = filled(&self.members, "sessionKey").map(str::to_owned);
        Guarded { params_json: Value::Object(self.members).to_string(), run_id: self.run_id, session_key }
    }
}

/// A text that is not blank, trimmed.
fn filled<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

fn refusal(code: &str, message: &str, run_id: Option<&str>) -> WireError {
    let mut details = json!({"code": code});
    if let (Some(run_id), Some(details)) = (run_id, details.as_object_mut()) {
        details.insert("runId".to_owned(), run_id.into());
    }
    WireError::invalid(message).with(details)
}

/// No record has this id, or none any more.
pub fn unknown(id: &str) -> WireError {
    refusal("UNKNOWN_APPROVAL_ID", "unknown or expired approval id", Some(id))
}

/// What the parameters claim. Other spellings are not in [`FORWARDED`] and simply fall out.
fn claim(members: &Map<String, Value>, run_id: Option<&str>) -> Result<Option<Claim>, WireError> {
    let decision = members.get("approvalDecision").and_then(Value::as_str).and_then(Decision::from_word);
    let refuse = |code, message| Err(refusal(code, message, None));
    // An explicit no is final whoever says it; forwarding the rest without it would run the command.
    if decision == Some(Decision::Deny) {
        return refuse("APPROVAL_REQUIRED", "SYSTEM_RUN_DENIED: user denied");
    }
    let flagged = decision.is_some() || members.get("approved") == Some(&Value::Bool(true));
    let claim = match members.get("approvalSource").and_then(Value::as_str) {
        None if !flagged => return Ok(None),
        None => Claim::Approved,
        Some(ASK_FALLBACK) if flagged => {
            let message = "approval source cannot be combined with explicit approval";
            return refuse("APPROVAL_SOURCE_MISMATCH", message);
        }
        Some(ASK_FALLBACK) => Claim::NobodyAnswered,
        Some(_) => return refuse("INVALID_APPROVAL_SOURCE", "approval source invalid"),
    };
    match run_id {
        Some(_) => Ok(Some(claim)),
        None => refuse("MISSING_RUN_ID", "approval override requires params.runId"),
    }
}

/// The members of a request that a plan decides.
fn planned(plan: &RunPlan) -> Map<String, Value> {
    let members = [
        ("command", json!(plan.argv)),
        ("cwd", json!(plan.cwd)),
        ("agentId", json!(plan.agent_id)),
        ("sessionKey", json!(plan.session_key)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether everything that the caller names is as planned; what it leaves out is filled in.
fn names_nothing_but(members: &Map<String, Value>, plan: &RunPlan) -> bool {
    let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    let fits =
        |(name, planned): (String, Value)| members.get(&name).is_none_or(|named| *named == planned || is_blank(named));
    let raw = filled(members, "rawCommand");
    planned(plan).into_iter().all(fits)
        && raw.is_none_or(|raw| raw == plan.command_text || crate::exec::analysis::raw_command_agrees(&plan.argv, raw))
        && members.get("systemRunPlan").is_none_or(|carried| RunPlan::read(carried).as_ref() == Some(plan))
}

fn check_env(env: &BoundEnv, run: &BoundRun, run_id: &str) -> Result<(), WireError> {
    let actual = env.hash();
    if actual == run.env_hash {
        return Ok(());
    }
    let (code, message) = match run.env_hash {
        None => ("APPROVAL_ENV_BINDING_MISSING", "approval id missing env binding"),
        Some(_) => ("APPROVAL_ENV_MISMATCH", "approval id env binding mismatch"),
    };
    let keys: Vec<_> = env.sorted().into_iter().map(|(name, _)| name).collect();
    Err(WireError::invalid(message).with(json!({
        "code": code, "runId": run_id, "envKeys": keys, "expectedEnvHash": run.env_hash, "actualEnvHash": actual,
    })))
}

/// A text of the command must agree with argv; a blank one claims nothing (row A76).
fn check_raw_command(members: &mut Map<String, Value>) -> Result<(), WireError> {
    let Some(raw) = members.get("rawCommand").and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
    if raw.trim().is_empty() {
        members.remove("rawCommand");
        return Ok(());
    }
    let argv: Option<Vec<String>> = members
        .get("command")
        .and_then(Value::as_array)
        .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    let Some(argv) = argv.filter(|argv| !argv.is_empty()) else {
        return Err(WireError::invalid("INVALID_REQUEST: rawCommand requires params.command")
            .with(json!({"code": "MISSING_COMMAND"})));
    };
    if crate::exec::analysis::raw_command_agrees(&argv, &raw) {
        return Ok(());
    }
    let formatted = display::canonical(&argv);
    Err(WireError::invalid("INVALID_REQUEST: rawCommand does not match command").with(json!({
        "code": "RAW_COMMAND_MISMATCH", "rawCommand": raw, "inferred": formatted, "formattedArgv": formatted,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> String {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        match Run::read(Some(&raw)) {
            Ok(run) => {
                let record = run.claims().map(str::to_owned);
                let guarded = run.guarded();
                record.unwrap_or_else(|| guarded.params_json.replace(&guarded.run_id, "R"))
            }
            Err(error) => error.detail_code().to_owned(),
        }
    }

    /// A48: whatever the spelling, no claim of approval gets through.
    #[test]
    fn sec_a48_claims_of_approval_never_pass() {
        let run = r#""command":["ls"]"#;
        assert_eq!(outcome(&format!("{{{run},\"approved\":true}}")), "MISSING_RUN_ID");
        assert_eq!(outcome(&format!("{{{run},\"approved\":true,\"runId\":\"x\"}}")), "x", "a record is needed");
        assert_eq!(outcome(&format!("{{{run},\"approvalDecision\":\"allow-always\"}}")), "MISSING_RUN_ID");
        assert_eq!(outcome(&format!("{{{run},\"approvalDecision\":\"deny\"}}")), "APPROVAL_REQUIRED");
        assert_eq!(outcome(&format!("{{{run},\"approvalSource\":\"x\"}}")), "INVALID_APPROVAL_SOURCE");
        let plain = r#"{"command":["ls"],"runId":"R"}"#;
        for other in
            ["\"Approved\":true", "\"approval_decision\":\"allow-once\"", "\"APPROVED\":true", "\"approved\":1"]
        {
            assert_eq!(outcome(&format!("{{{run},{other}}}")), plain, "{other}");
        }
        assert_eq!(outcome(r#"{"command":["ls"],"approved":false,"approved":true}"#), "INVALID_REQUEST");
    }
}
