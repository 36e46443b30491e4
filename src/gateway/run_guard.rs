//! What `node.invoke system.run` forwards: a fixed list of members, and never a word of approval
//! that this gateway has not recorded itself. Source: spec exec g.6, gateway §5; cases A48, A60.

use crate::exec::display;
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::strict;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Members that pass.
#[rustfmt::skip]
const FORWARDED: &[&str] = &[
    "command", "rawCommand", "systemRunPlan", "cwd", "env", "timeoutMs", "needsScreenRecording", "agentId",
    "sessionKey", "runId", "suppressNotifyOnExit",
];

/// What goes to the node.
pub struct Guarded {
    /// Text of the parameters.
    pub params_json: String,
    /// Names the run; made here when the caller named none.
    pub run_id: String,
    /// If the caller named one.
    pub session_key: Option<String>,
}

/// Rewrites the parameters of `system.run`.
///
/// # Errors
/// `INVALID_REQUEST` with the code of spec exec g.6 in `details.code`.
pub fn guard(params: Option<&RawValue>) -> Result<Guarded, WireError> {
    let text = params.map_or("{}", RawValue::get);
    let bad = |why: &str| WireError::invalid(format!("INVALID_REQUEST: {why}"));
    strict::check(text, limits::STRICT_JSON_DEPTH)
        .map_err(|error| bad(&format!("system.run parameters are not strict JSON: {error}")))?;
    let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(text) else {
        return Err(bad("system.run parameters must be an object"));
    };
    refuse_claims(&members)?;
    members.retain(|member, value| FORWARDED.contains(&member.as_str()) && !value.is_null());
    check_raw_command(&mut members)?;
    let named = |member: &str| {
        let text = members.get(member).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let session_key = named("sessionKey");
    let run_id = named("runId").filter(|id| id.len() <= limits::DECLARED_NAME_BYTES).unwrap_or_else(random::uuid);
    members.insert("runId".to_owned(), run_id.as_str().into());
    Ok(Guarded { params_json: Value::Object(members).to_string(), run_id, session_key })
}

/// An approval must be one that this gateway has on record. Records come with part 3; until then
/// every claim names an unknown one. Other spellings are not in [`FORWARDED`] and simply fall out.
fn refuse_claims(members: &Map<String, Value>) -> Result<(), WireError> {
    let flagged = members.get("approved") == Some(&Value::Bool(true))
        || matches!(members.get("approvalDecision").and_then(Value::as_str), Some("allow-once" | "allow-always"));
    let source = members.get("approvalSource").and_then(Value::as_str);
    let refuse = |code: &str, message: &str, run_id: Option<&str>| {
        let mut details = json!({"code": code});
        if let (Some(run_id), Some(details)) = (run_id, details.as_object_mut()) {
            details.insert("runId".to_owned(), run_id.into());
        }
        Err(WireError::invalid(message).with(details))
    };
    // An explicit no is final whoever says it; forwarding the rest without it would run the command.
    if members.get("approvalDecision").and_then(Value::as_str) == Some("deny") {
        return refuse("APPROVAL_REQUIRED", "SYSTEM_RUN_DENIED: user denied", None);
    }
    match source {
        None | Some("ask-fallback") => {}
        Some(_) => return refuse("INVALID_APPROVAL_SOURCE", "approvalSource invalid", None),
    }
    if source.is_some() && flagged {
        return refuse("APPROVAL_SOURCE_MISMATCH", "approvalSource cannot be combined with explicit approval", None);
    }
    if !flagged && source.is_none() {
        return Ok(());
    }
    match members.get("runId").and_then(Value::as_str).map(str::trim).filter(|id| !id.is_empty()) {
        None => refuse("MISSING_RUN_ID", "approval override requires params.runId", None),
        Some(run_id) => refuse("UNKNOWN_APPROVAL_ID", "unknown or expired approval id", Some(run_id)),
    }
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
        match guard(Some(&raw)) {
            Ok(guarded) => guarded.params_json.replace(&guarded.run_id, "R"),
            Err(error) => error.detail_code().to_owned(),
        }
    }

    /// A48: whatever the spelling, no claim of approval gets through.
    #[test]
    fn sec_a48_claims_of_approval_never_pass() {
        let run = r#""command":["ls"]"#;
        assert_eq!(outcome(&format!("{{{run},\"approved\":true}}")), "MISSING_RUN_ID");
        assert_eq!(outcome(&format!("{{{run},\"approved\":true,\"runId\":\"x\"}}")), "UNKNOWN_APPROVAL_ID");
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
