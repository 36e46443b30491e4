//! The line protocol between node host and app. Source: spec exec (b), gateway §8.

use super::node::RunResult;
use super::strict;
use crate::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line from a client.
#[derive(Debug)]
pub enum Request {
    /// Run this.
    Exec(ExecEnvelope),
    /// Only ask about this.
    Prompt(PromptRequest),
}

/// `{"type":"exec",…}`.
#[derive(Clone, Debug)]
pub struct ExecEnvelope {
    /// Echoed in the answer.
    pub id: String,
    /// Never to be used twice.
    pub nonce: String,
    /// Milliseconds since 1970.
    pub ts: i64,
    /// Lower-case hex HMAC-SHA256, checked before anything else is believed.
    pub hmac: String,
    /// The authenticated text.
    pub request_json: String,
}

/// `{"type":"request",…}`: asks for a decision, runs nothing.
pub struct PromptRequest {
    /// Echoed in the answer.
    pub id: String,
    /// The socket token, in clear.
    pub token: super::connect::SecretText,
    /// What to ask about.
    pub request: PromptText,
}

impl std::fmt::Debug for PromptRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromptRequest").field("id", &self.id).field("request", &self.request).finish_non_exhaustive()
    }
}

/// What a prompt request names; all of it is the caller's claim.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptText {
    /// Display text of the command.
    pub command: String,
    /// Working directory.
    #[serde(default)]
    pub cwd: Option<String>,
    /// On whose behalf.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// Program file.
    #[serde(default)]
    pub resolved_path: Option<String>,
    /// In which session.
    #[serde(default)]
    pub session_key: Option<String>,
}

/// Why a line is no request.
#[derive(Debug, PartialEq, Eq)]
pub enum BadLine {
    /// Not JSON, or of an unknown type: closed without an answer. Source: exec b.1.
    Silent,
    /// An `exec` whose envelope is wrong: answered, with the id where there is one.
    Invalid {
        /// The line's id.
        id: Option<String>,
        /// Reason member of the answer: `ttl`, `hmac`, `json`, `invalid`.
        reason: &'static str,
        /// Sentence of the answer.
        message: &'static str,
    },
}

/// Reads one line. Unknown members are ignored, duplicates and depth are refused (H17).
///
/// # Errors
/// [`BadLine`] says whether and what to answer.
pub fn parse_line(line: &[u8]) -> Result<Request, BadLine> {
    let text = std::str::from_utf8(line).map_err(|_| BadLine::Silent)?;
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|_| BadLine::Silent)?;
    let value: Value = serde_json::from_str(text).map_err(|_| BadLine::Silent)?;
    let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match value.get("type").and_then(Value::as_str) {
        Some("exec") => {
            let id = member("id");
            let invalid = |reason, message| BadLine::Invalid { id: id.clone(), reason, message };
            // A fraction or a text here fails to decode in the early app; we say so (A112).
            let ts = value.get("ts").and_then(Value::as_i64).ok_or_else(|| invalid("ttl", "expired request"))?;
            let hmac = member("hmac").ok_or_else(|| invalid("hmac", "invalid auth"))?;
            let nonce = member("nonce")
                .filter(|nonce| !nonce.is_empty() && nonce.len() <= limits::NONCE_BYTES)
                .ok_or_else(|| invalid("hmac", "invalid auth"))?;
            let request_json = member("requestJson").ok_or_else(|| invalid("json", "invalid payload"))?;
            let id = id.filter(|id| id.len() <= limits::EXEC_ID_BYTES).ok_or(BadLine::Silent)?;
            Ok(Request::Exec(ExecEnvelope { id, nonce, ts, hmac, request_json }))
        }
        Some("request") => {
            let id = member("id").filter(|id| id.len() <= limits::EXEC_ID_BYTES).ok_or(BadLine::Silent)?;
            let token = super::connect::SecretText::new(member("token").ok_or(BadLine::Silent)?);
            let request = value.get("request").cloned().ok_or(BadLine::Silent)?;
            let request = serde_json::from_value(request).map_err(|_| BadLine::Silent)?;
            Ok(Request::Prompt(PromptRequest { id, token, request }))
        }
        _ => Err(BadLine::Silent),
    }
}

/// The text of an `exec` line with its newline; member order as the real client writes it.
pub fn exec_line(envelope: &ExecEnvelope) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        nonce: &'a str,
        ts: i64,
        hmac: &'a str,
        request_json: &'a str,
    }
    let out = Out {
        kind: "exec",
        id: &envelope.id,
        nonce: &envelope.nonce,
        ts: envelope.ts,
        hmac: &envelope.hmac,
        request_json: &envelope.request_json,
    };
    let mut text = serde_json::to_string(&out).unwrap_or_default();
    text.push('\n');
    text
}

/// Error member of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecError {
    /// `INVALID_REQUEST` or `UNAVAILABLE`.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// Stable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An `exec-res` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecAnswer {
    /// Of the request, where it had one.
    pub id: Option<String>,
    /// The outcome.
    pub outcome: Result<RunResult, ExecError>,
}

impl ExecAnswer {
    /// The JSON text without newline and without proof. Null members are left out (exec b.3).
    pub fn text(&self) -> String {
        #[derive(Serialize)]
        struct Out<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            ok: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            payload: Option<Payload<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a ExecError>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            exit_code: Option<i32>,
            timed_out: bool,
            success: bool,
            stdout: &'a str,
            stderr: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
        }
        let out = Out {
            kind: "exec-res",
            id: self.id.as_deref(),
            ok: self.outcome.is_ok(),
            payload: self.outcome.as_ref().ok().map(|result| Payload {
                exit_code: result.exit_code,
                timed_out: result.timed_out,
                success: result.success,
                stdout: &result.stdout,
                stderr: &result.stderr,
                error: result.error.as_deref(),
            }),
            error: self.outcome.as_ref().err(),
        };
        serde_json::to_string(&out).unwrap_or_default()
    }
}

/// The text of a progress line with its newline. Ours; official clients skip it, and none is sent
/// unless the request asks for it.
pub fn progress_line(id: &str, chunk: &str) -> String {
    let mut text = serde_json::json!({"type": PROGRESS, "id": id, "chunk": chunk}).to_string();
    text.push('\n');
    text
}

/// `type` of a progress line.
const PROGRESS: &str = "exec-progress";

/// One line that came back.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerLine {
    /// A blank line, another type, broken JSON: skipped.
    Skip,
    /// Some of what the command has printed so far. It carries no proof: only the answer says what
    /// the command did.
    Progress(String),
    /// An `exec-res` that is neither success nor error.
    Useless,
    /// The answer.
    Answer(ExecAnswer),
}

/// Reads an answer line as the official client does. Source: exec b.4, vectors `exec-client`.
pub fn parse_answer(line: &str) -> AnswerLine {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return AnswerLine::Skip };
    match value.get("type").and_then(Value::as_str) {
        Some("exec-res") => {}
        Some(PROGRESS) => {
            let chunk = value.get("chunk").and_then(Value::as_str);
            return chunk.map_or(AnswerLine::Skip, |chunk| AnswerLine::Progress(chunk.to_owned()));
        }
        _ => return AnswerLine::Skip,
    }
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    let outcome = match value.get("ok") {
        Some(Value::Bool(true)) => value
            .get("payload")
            .filter(|payload| payload.is_object())
            .and_then(|payload| serde_json::from_value(payload.clone()).ok())
            .map(Ok),
        Some(Value::Bool(false)) => {
            value.get("error").and_then(|error| serde_json::from_value(error.clone()).ok()).map(Err)
        }
        _ => None,
    };
    outcome.map_or(AnswerLine::Useless, |outcome| AnswerLine::Answer(ExecAnswer { id, outcome }))
}

/// The text of a decision line with its newline.
pub fn decision_line(id: &str, decision: super::policy::Decision) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        decision: super::policy::Decision,
    }
    let mut text = serde_json::to_string(&Out { kind: "decision", id, decision }).unwrap_or_default();
    text.push('\n');
    text
}
