//! `mac-debug replay`: an operator's requests of a recording again, over a connection of our own, and in what the answers
//! differ. The recording has no secrets, so the login is ours.

use super::trace::{TO_CLIENT, TO_GATEWAY};
use super::{InspectError, Target};
use crate::client::CallError;
use crate::limits;
use crate::protocol::redact::redact;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Last words of the methods that only look.
const LOOKS: &[&str] = &["list", "get", "describe", "status", "health", "history", "system-presence"];

/// A request as it was recorded.
pub struct Recorded {
    method: String,
    params: Value,
    /// The whole answering frame; none if it never came.
    answer: Option<Value>,
}

impl Recorded {
    /// Sending it again changes nothing.
    pub fn only_looks(&self) -> bool {
        self.method.rsplit('.').next().is_some_and(|word| LOOKS.contains(&word))
    }

    /// What is called.
    pub fn method(&self) -> &str {
        &self.method
    }
}

/// One connection of a recording.
pub struct Recording {
    /// What its operator asked for at login.
    scopes: Vec<String>,
    /// In order.
    pub requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Line {
    connection: usize,
    dir: String,
    frame: Value,
}

/// Reads the requests of one connection (none = the first that logged in as an operator).
///
/// # Errors
/// The file cannot be read, is no recording, or has no such connection.
pub fn read(path: &Path, connection: Option<usize>) -> Result<Recording, InspectError> {
    let bad = |what: String| InspectError::Usage(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    let mut reader = BufReader::new(file).take(limits::TRACE_FILE_BYTES + limits::TRACE_LINE_BYTES);
    let mut wanted = connection;
    let mut recording: Option<Recording> = None;
    // By id: its place among the requests.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for number in 1.. {
        let mut text = Vec::new();
        let count = reader.read_until(b'\n', &mut text).map_err(|error| bad(error.to_string()))?;
        if count == 0 {
            break;
        }
        let line: Line = serde_json::from_slice(&text)
            .map_err(|error| bad(format!("line {number} is no line of `mac-debug trace`: {error}")))?;
        let frame = line.frame;
        let word = |member: &str| frame.get(member).and_then(Value::as_str).unwrap_or_default();
        if line.dir == TO_GATEWAY && word("method") == "connect" && recording.is_none() {
            let is_operator = frame.pointer("/params/role").is_none_or(|role| role == "operator");
            if wanted.is_none_or(|wanted| wanted == line.connection) && is_operator {
                wanted = Some(line.connection);
                let scopes = frame.pointer("/params/scopes").cloned().unwrap_or_default();
                let scopes = serde_json::from_value(scopes).unwrap_or_default();
                recording = Some(Recording { scopes, requests: Vec::new() });
            }
            continue;
        }
        let Some(recording) = recording.as_mut().filter(|_| wanted == Some(line.connection)) else { continue };
        match (line.dir.as_str(), word("type")) {
            (TO_GATEWAY, "req") => {
                places.insert(word("id").to_owned(), recording.requests.len());
                let params = frame.get("params").cloned().unwrap_or_else(|| json!({}));
                recording.requests.push(Recorded { method: word("method").to_owned(), params, answer: None });
            }
            (TO_CLIENT, "res") => {
                let request = places.get(word("id")).and_then(|place| recording.requests.get_mut(*place));
                // A two-phase call is answered twice; the last word counts.
                if let Some(request) = request {
                    request.answer = Some(frame);
                }
            }
            _ => {}
        }
    }
    recording.ok_or_else(|| bad("no operator's login is in it, or not on that connection".to_owned()))
}

/// Sends what `may` admits, in order; `{"requests":[{"method","sent","same","differences":[…]}]}`.
///
/// # Errors
/// See [`InspectError`]; a refused request is an answer.
pub fn replay(target: &Target, recording: &Recording, may: impl Fn(&Recorded) -> bool) -> Result<Value, InspectError> {
    let scopes: Vec<&str> = recording.scopes.iter().map(String::as_str).collect();
    let connection = target.connect(&scopes)?;
    let mut rows = Vec::new();
    for request in &recording.requests {
        if !may(request) {
            rows.push(json!({"method": request.method, "sent": false}));
            continue;
        }
        let mut answer = match connection.call(&request.method, &request.params, limits::REQUEST_DEADLINE) {
            Ok(payload) => {
                json!({"ok": true, "payload": serde_json::from_str::<Value>(payload.get()).unwrap_or_default()})
            }
            Err(CallError::Refused(error)) => {
                json!({"ok": false, "error": {"code": error.code, "message": error.message}})
            }
            Err(CallError::TimedOut) => json!({"ok": Value::Null}),
            Err(error) => return Err(error.into()),
        };
        redact(&mut answer);
        let before = request.answer.as_ref().map_or(json!({"ok": Value::Null}), |answer| {
            let error = answer.get("error").map(|error| json!({"code": error["code"], "message": error["message"]}));
            match error {
                Some(error) => json!({"ok": answer["ok"], "error": error}),
                None => json!({"ok": answer["ok"], "payload": answer["payload"]}),
            }
        });
        let mut differences = Vec::new();
        compare("", &before, &answer, &mut differences);
        rows.push(json!({"method": request.method, "sent": true, "same": differences.is_empty(),
            "differences": differences}));
    }
    Ok(json!({ "requests": rows }))
}

/// Where two answers differ; times and durations always do.
fn compare(at: &str, before: &Value, now: &Value, out: &mut Vec<Value>) {
    let name = at.rsplit('/').next().unwrap_or_default();
    if before == now || out.len() >= limits::REPLAY_DIFFERENCES {
        return;
    }
    match (before, now) {
        (Value::Number(_), Value::Number(_)) if name == "ts" || name.ends_with("Ms") => {}
        (Value::Object(one), Value::Object(other)) => {
            for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                let member = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                compare(&format!("{at}/{name}"), &member(one), &member(other), out);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{at}/{index}"), one, other, out);
            }
        }
        _ => out.push(json!({"at": at, "before": before, "now": now})),
    }
}

/// The same for a person.
pub fn text(replayed: &Value) -> String {
    let mut out = String::new();
    for row in replayed["requests"].as_array().into_iter().flatten() {
        let said = match (&row["sent"], &row["same"]) {
            (Value::Bool(false), _) => "not sent: it may change something (--yes sends it)",
            (_, Value::Bool(true)) => "same answer",
            _ => "another answer",
        };
        out.push_str(&format!("{:<28} {said}\n", super::shown(row, "method")));
        for difference in row["differences"].as_array().into_iter().flatten() {
            let at = super::shown(difference, "at");
            out.push_str(&format!("    {at}: {} -> {}\n", brief(&difference["before"]), brief(&difference["now"])));
        }
    }
    out
}

/// Enough of a value to see what it is.
fn brief(value: &Value) -> String {
    let whole = crate::protocol::text::visible(&value.to_string());
    let cut = crate::protocol::text::prefix(&whole, 200);
    if cut.len() < whole.len() { format!("{cut}… ({} bytes)", whole.len()) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clocks_may_differ_in_silence() {
        let before = json!({"ts": 1, "uptimeMs": 5, "n": 1, "list": [1, {"a": 2}], "gone": true});
        let now = json!({"ts": 2, "uptimeMs": 6, "n": 2, "list": [1, {"a": 3}], "new": 1});
        let mut found = Vec::new();
        compare("", &before, &now, &mut found);
        let places: Vec<&str> = found.iter().map(|row| row["at"].as_str().unwrap()).collect();
        assert_eq!(places, ["/gone", "/list/1/a", "/n", "/new"]);
    }
}
