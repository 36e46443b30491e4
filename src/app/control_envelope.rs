//! The control socket in the words of the official command line `openclaw-mac`: the request stands as text in an
//! envelope that proves knowledge of the app's token file. Only what looks is done here; what would change the app's
//! connection is its owner's to write into `openclaw.json`. Source: spec mac-app (4.3); docs platforms/mac/xpc (2026.9).

use super::control::Controls;
use super::status;
use crate::identity::envelope::request_mac_is;
use crate::identity::random;
use crate::identity::replay::{Freshness, ReplayGuard};
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::Refusal;
use crate::protocol::strict;
use crate::state::{Care, DocumentLock, StateDir, StateError, files};
use crate::sys::clock::{self, Now};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// What the official command line can ask for besides looking.
const ELSEWHERE: [&str; 5] = ["primary.set", "primary.clear", "gateway.add", "gateway.remove", "gateway.reconnect"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    nonce: String,
    ts: i64,
    request_json: String,
    hmac: String,
}

/// Who may speak so: whoever can read the token file, each line once and not for long.
pub struct Gate {
    state: StateDir,
    nonces: Mutex<ReplayGuard>,
}

impl Gate {
    /// Makes the token file if there is none.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(state: &StateDir) -> Result<Self, StateError> {
        let path = state.control_token();
        let lock = DocumentLock::take(&path)?;
        if files::stamp(&path)?.is_none() {
            files::replace(&lock, HEXLOWER.encode(&random::bytes::<32>()).as_bytes())?;
        }
        let nonces = ReplayGuard::new(limits::CONTROL_NONCES, limits::CONTROL_TTL);
        Ok(Self { state: state.clone(), nonces: Mutex::new(nonces) })
    }

    /// Read at each request: a token that was replaced, or is unsafe, serves nobody from then on.
    fn token(&self) -> Result<Secret, Refusal> {
        let path = self.state.control_token();
        let found = files::read(&path, Care::Secret).ok().flatten();
        let text = found.as_ref().and_then(|found| found.text(&path).ok()).map(str::trim).unwrap_or_default();
        if text.is_empty() {
            return Err(refused("authentication_failed", "the app's control token is missing or not private"));
        }
        Ok(Secret::new(text.to_owned()))
    }

    /// The request in the envelope, if it may be believed.
    fn open(&self, line: &Value) -> Result<Value, Refusal> {
        let malformed = |_| refused("invalid_request", "this is no control request");
        let envelope = Envelope::deserialize(line).map_err(malformed)?;
        let failed = || refused("authentication_failed", "the control request is not authenticated");
        let skew = clock::wall_ms().abs_diff(envelope.ts);
        let is_named = (1..=limits::CONTROL_NONCE_BYTES).contains(&envelope.nonce.len());
        let Envelope { nonce, ts, request_json, hmac } = envelope;
        if !is_named
            || u128::from(skew) > limits::CONTROL_TTL.as_millis()
            || !request_mac_is(&self.token()?, &nonce, ts, &request_json, &hmac)
        {
            return Err(failed());
        }
        match self.nonces.lock().unwrap_or_else(PoisonError::into_inner).note(&nonce, Now::read()) {
            Freshness::Fresh => {}
            Freshness::Replayed => return Err(failed()),
            Freshness::Full => return Err(refused("busy", "too many control requests; try again shortly")),
        }
        strict::check(&request_json, limits::STRICT_JSON_DEPTH)
            .map_err(|_| refused("invalid_request", "no strict JSON"))?;
        serde_json::from_str(&request_json).map_err(malformed)
    }
}

/// Whether a line speaks so.
pub fn is_one(line: &Value) -> bool {
    line.get("requestJson").is_some() || line.get("hmac").is_some()
}

/// Does what the envelope asks for; the answer's members beside `ok`.
///
/// # Errors
/// It is not believed, or not done here.
pub fn perform(controls: &Controls, line: &Value) -> Result<Value, Refusal> {
    let request = controls.gate.open(line)?;
    match request.get("operation").and_then(Value::as_str).unwrap_or_default() {
        "status" => Ok(json!({"result": status::official(controls)})),
        "gateway.list" => Ok(json!({"result": []})),
        operation if ELSEWHERE.contains(&operation) => Err(refused(
            "unsupported_operation",
            "this app takes its connection from openclaw.json (gateway.mode, gateway.remote) and its flags; change it there and restart the app",
        )),
        _ => Err(refused("invalid_request", "the operations are status and gateway.list")),
    }
}

fn refused(code: &'static str, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned(), reason: None }
}
