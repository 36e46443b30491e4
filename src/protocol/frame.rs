//! The three frames of the gateway's wire. Source: spec gateway §2.

use super::error::WireError;
use super::schema::{self, Kind, Member, may, need};
use super::strict;
use crate::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A request as it came in: `params` are not parsed yet, since most are only relayed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    /// Chosen by the caller, echoed in the response.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// What to do.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// The method's parameters; may be absent.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(rename = "expectedProfileId", default)]
    _expected_profile_id: Option<serde::de::IgnoredAny>,
}

const REQUEST: &[Member] = &[
    need("id", Kind::Text(1)),
    need("method", Kind::Text(1)),
    need("type", Kind::Const("req")),
    may("params", Kind::Any),
    may("traceparent", Kind::Text(0)),
    may("expectedProfileId", Kind::Text(0)),
];

/// Why a frame is not a request.
#[derive(Debug)]
pub enum BadFrame {
    /// Not JSON at all: ignored after login, closed before.
    NotJson,
    /// JSON, but not a request. The id, where the frame has one, goes into the answer.
    NotRequest {
        /// The frame's id, if it has a text one.
        id: Option<String>,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads a request frame.
///
/// # Errors
/// [`BadFrame`] says whether it was JSON, and what a caller should be told.
pub fn parse_request(text: &str) -> Result<Request<'_>, BadFrame> {
    if let Err(error) = strict::check_relayed(text, limits::RELAYED_JSON_DEPTH) {
        // JSON all the same, only nested too deep or with half a surrogate: whoever sent it waits.
        return Err(match serde_json::from_str::<Request<'_>>(text) {
            Ok(request) => BadFrame::NotRequest { id: Some(request.id.into_owned()), why: error.to_string() },
            Err(_) => BadFrame::NotJson,
        });
    }
    match serde_json::from_str::<Request<'_>>(text) {
        Ok(request)
            if request.kind == "req"
                && !request.id.is_empty()
                && !request.method.is_empty()
                && request.traceparent.as_ref().is_none_or(|trace| trace.len() <= 128) =>
        {
            Ok(request)
        }
        _ => Err(explain(text)),
    }
}

/// The slow path: says what is wrong with a frame that is no request.
fn explain(text: &str) -> BadFrame {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return BadFrame::NotJson };
    let id = value.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
    let why = schema::check(&value, REQUEST).err().unwrap_or_else(|| "a member stands twice or is too long".to_owned());
    BadFrame::NotRequest { id, why }
}

/// `params` as a value, checked: no duplicates, bounded depth, the method's members only.
/// Absent parameters count as `{}`.
///
/// # Errors
/// `INVALID_REQUEST "invalid <method> params: …"`.
pub fn checked_params(method: &str, params: Option<&RawValue>, members: &[Member]) -> Result<Value, WireError> {
    let text = params.map_or("{}", RawValue::get);
    let bad = |why: String| WireError::invalid(format!("invalid {method} params: {why}"));
    strict::check(text, limits::RELAYED_JSON_DEPTH).map_err(|error| bad(error.to_string()))?;
    let value: Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    schema::check(&value, members).map_err(bad)?;
    Ok(value)
}

/// A response frame.
#[derive(Serialize)]
pub struct Response<'a, P: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a WireError>,
}

/// The text of a good answer.
pub fn response_ok<P: Serialize>(id: &str, payload: &P) -> String {
    to_text(&Response { kind: "res", id, ok: true, payload: Some(payload), error: None })
}

/// The text of a refusal.
pub fn response_error(id: &str, error: &WireError) -> String {
    to_text(&Response::<()> { kind: "res", id, ok: false, payload: None, error: Some(error) })
}

/// Versions of the two broadcast documents; clients drop older ones. Source: spec gateway §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    /// Of the presence list.
    pub presence: u64,
    /// Of the health document.
    pub health: u64,
}

/// An event frame.
#[derive(Serialize)]
pub struct Event<'a, P: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    event: &'a str,
    payload: P,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(rename = "stateVersion", skip_serializing_if = "Option::is_none")]
    state_version: Option<StateVersion>,
}

/// The text of an event to one peer only; carries no `seq`.
pub fn event<P: Serialize>(name: &str, payload: &P) -> String {
    to_text(&Event { kind: "event", event: name, payload, seq: None, state_version: None })
}

/// The text of a broadcast event; `seq` counts the broadcasts of that one connection from 1.
pub fn broadcast<P: Serialize>(name: &str, payload: &P, seq: u64, version: Option<StateVersion>) -> String {
    to_text(&Event { kind: "event", event: name, payload, seq: Some(seq), state_version: version })
}

/// The text of a request frame.
pub fn request<P: Serialize>(id: &str, method: &str, params: Option<&P>) -> String {
    #[derive(Serialize)]
    struct Out<'a, P: Serialize> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a P>,
    }
    to_text(&Out { kind: "req", id, method, params })
}

/// Our own types always serialise; if one ever does not, the peer gets an empty text frame's
/// worth of nothing instead of a panic.
fn to_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A frame that a client reads.
#[derive(Debug, Deserialize)]
pub struct Incoming<'a> {
    /// `res` or `event`; others are ignored.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Of a response.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// Of a response.
    #[serde(default)]
    pub ok: bool,
    /// Of an event.
    #[serde(borrow, default)]
    pub event: Option<Cow<'a, str>>,
    /// Of a response or an event.
    #[serde(borrow, default)]
    pub payload: Option<&'a RawValue>,
    /// Of a refused response.
    #[serde(default)]
    pub error: Option<WireError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        match parse_request(text) {
            Ok(_) => "ok".into(),
            Err(BadFrame::NotJson) => "not JSON".into(),
            Err(BadFrame::NotRequest { id, why }) => format!("{}: {why}", id.unwrap_or_default()),
        }
    }

    #[test]
    fn requests_are_strict_at_the_top_and_raw_inside() {
        let text = r#"{"type":"req","id":"1:x","method":"m","params":{"a":1e400,"a":2}}"#;
        let request = parse_request(text).unwrap();
        assert_eq!(request.params.unwrap().get(), r#"{"a":1e400,"a":2}"#);
        assert_eq!(why(r#"{"type":"req","id":"a","method":"m"}"#), "ok");
        assert_eq!(why("garbage"), "not JSON");
        assert_eq!(
            why(r#"{"type":"nope","id":"z1"}"#),
            "z1: must have required property 'method'; at /type: must be equal to constant"
        );
        assert_eq!(why(r#"{"type":"req","method":"health"}"#), ": must have required property 'id'");
        assert_eq!(
            why(r#"{"type":"req","id":"z3","method":"health","extra":1}"#),
            "z3: at root: unexpected property 'extra'"
        );
        assert_eq!(why("[]"), ": at root: must be object");
        assert_eq!(why(r#"{"type":"req","id":"a","id":"b","method":"m"}"#), "b: a member stands twice or is too long");
    }
}
