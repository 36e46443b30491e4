//! What can go wrong with a gateway, each with what a person can do about it.

use super::endpoint::Endpoint;
use super::gateway_key::KeyError;
use super::tunnel::Trouble;
use crate::protocol::error::WireError;
use crate::state::StateError;
use crate::transport::http::UpgradeError;
use crate::transport::peer::End;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody listens there, or not in time.
    Unreachable(Endpoint, io::Error),
    /// The socket file, or the process behind it, is not ours. Nothing was sent.
    NotOurs(PathBuf, String),
    /// ssh did not bring us there.
    Tunnel(Trouble),
    /// What listens there does not speak WebSocket, or refused to.
    Upgrade(Endpoint, UpgradeError),
    /// Not the gateway that was here before (H26). No credential was sent.
    GatewayKey(Endpoint, KeyError),
    /// The pinned keys cannot be read or written.
    Pins(StateError),
    /// It did not send a usable challenge in time.
    NoChallenge(Endpoint),
    /// It did not answer `connect` in time.
    NoAnswer(Endpoint),
    /// It closed before it answered.
    Closed(Endpoint, End),
    /// It answered something that is no `hello-ok`.
    BadHello(Endpoint, String),
    /// This device waits for approval.
    PairingRequired(PairingRequired),
    /// The gateway's refusal; `details.code` says more.
    Refused(WireError),
    /// No thread could be started.
    Thread(io::Error),
}

/// The gateway knows this device not, or not so. Source: spec gateway §3 "Refusals".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingRequired {
    /// What the person approves.
    pub request_id: Option<String>,
    /// The gateway's sentence.
    pub message: String,
    /// Whether the client should stop asking until it is started again.
    pub pause: bool,
}

impl ConnectError {
    /// Sorts a refused `connect`.
    pub fn from_refusal(error: WireError) -> Self {
        if error.detail_code() != "PAIRING_REQUIRED" {
            return Self::Refused(error);
        }
        let detail = |name: &str| error.details.as_ref().and_then(|details| details.get(name));
        let goes_on = detail("pauseReconnect") == Some(&Value::Bool(false))
            || detail("recommendedNextStep").and_then(Value::as_str) == Some("wait_then_retry");
        Self::PairingRequired(PairingRequired {
            request_id: detail("requestId").and_then(Value::as_str).map(str::to_owned),
            pause: !goes_on,
            message: error.message,
        })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(endpoint, error) => {
                write!(f, "no gateway at {endpoint} ({error}); start one with `openclaw app` or `openclaw gateway`")
            }
            Self::Tunnel(trouble) => trouble.fmt(f),
            Self::NotOurs(path, what) => write!(f, "{} {what}; nothing was sent to it", path.display()),
            Self::Upgrade(endpoint, error) => write!(f, "{endpoint}: {error}"),
            Self::GatewayKey(endpoint, error) => write!(
                f,
                "{endpoint} is not the gateway that we know: {error}. No credential was sent. If the gateway was \
                 really replaced, remove the entry '{}' from identity/gateway-pins.json in the state directory",
                endpoint.pin_name()
            ),
            Self::Pins(error) => write!(f, "the pinned gateway keys cannot be used: {error}"),
            Self::NoChallenge(endpoint) => {
                write!(f, "{endpoint} did not begin as a gateway does; is another program listening there?")
            }
            Self::NoAnswer(endpoint) => write!(f, "{endpoint} did not answer the login in time; try again"),
            Self::Closed(endpoint, end) => write!(f, "{endpoint} closed the connection during the login: {end}"),
            Self::BadHello(endpoint, why) => write!(f, "{endpoint} answered the login with something unknown: {why}"),
            Self::PairingRequired(pairing) => write!(f, "{pairing}"),
            Self::Refused(error) => {
                write!(f, "the gateway refused the login: {error}")?;
                let advice = advice(error);
                if advice.is_empty() { Ok(()) } else { write!(f, "; {advice}") }
            }
            Self::Thread(error) => write!(f, "no thread for the connection: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for PairingRequired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request_id {
            Some(id) => write!(
                f,
                "{}; approve it with `openclaw mac-debug pair approve {id}` (official gateway: `openclaw devices approve {id}`) and connect again",
                self.message
            ),
            None => write!(f, "{}; see `openclaw mac-debug pair list`", self.message),
        }
    }
}

/// What a person can do about a refusal. Source: spec gateway §3 "Refusals", and the codes of its "Who may omit the device".
fn advice(error: &WireError) -> &'static str {
    match error.detail_code() {
        "AUTH_TOKEN_MISSING" | "AUTH_TOKEN_MISMATCH" | "AUTH_REQUIRED" => {
            "set OPENCLAW_GATEWAY_TOKEN to the gateway's token (gateway.auth.token in its openclaw.json)"
        }
        "AUTH_PASSWORD_MISSING" | "AUTH_PASSWORD_MISMATCH" => "set OPENCLAW_GATEWAY_PASSWORD to the gateway's password",
        "AUTH_DEVICE_TOKEN_MISMATCH" => "this device's token is no longer valid, connect once with the shared token",
        "AUTH_BOOTSTRAP_TOKEN_INVALID" => {
            "a setup link is good for one node and ten minutes; make another: openclaw mac-debug pair link"
        }
        "AUTH_SCOPE_MISMATCH" => {
            "this device was approved for fewer scopes; ask for fewer, or have its larger request approved there"
        }
        "AUTH_RATE_LIMITED" => "wait five minutes, then try once, with the right secret",
        "DEVICE_IDENTITY_REQUIRED" => {
            "whoever connects without a device needs the shared token or password, and can be an operator only; \
             a node brings its device by itself (openclaw node)"
        }
        "DEVICE_AUTH_SIGNATURE_EXPIRED" => "the clocks of both sides differ by more than two minutes",
        "DEVICE_AUTH_NONCE_REQUIRED" | "DEVICE_AUTH_NONCE_MISMATCH" => {
            "something between both sides repeats or changes messages; connect without it"
        }
        "DEVICE_AUTH_SIGNATURE_INVALID" | "DEVICE_AUTH_DEVICE_ID_MISMATCH" | "DEVICE_AUTH_PUBLIC_KEY_INVALID" => {
            "the device's key in the state directory is damaged; remove that file and pair again"
        }
        "CONTROL_UI_ORIGIN_NOT_ALLOWED" | "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" => {
            "that client id is for the gateway's web page; leave --client-id out"
        }
        "CLIENT_VERSION_MISMATCH" | "PROTOCOL_MISMATCH" => {
            "gateway and client are of versions that do not fit together"
        }
        _ if error.code == "UNAVAILABLE" => "the gateway is starting or about to stop; try again in a moment",
        _ if error.message.starts_with("invalid role") => "the roles are operator and node",
        _ if error.message.starts_with("invalid connect params") => {
            "the gateway does not know what we say of ourselves; see --client-id, --client-mode and --scopes, or its version"
        }
        _ => "",
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The gateway's refusal.
    Refused(WireError),
    /// No answer in time.
    TimedOut,
    /// The connection has ended; why.
    Ended(String),
    /// Too many calls wait already.
    Busy,
    /// The request is larger than the gateway reads, bytes.
    TooLarge(usize),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::TimedOut => f.write_str("the gateway did not answer in time"),
            Self::Ended(why) => write!(f, "the connection to the gateway has ended: {why}"),
            Self::Busy => f.write_str("too many requests wait for this gateway already; try again"),
            Self::TooLarge(bytes) => {
                write!(f, "the request has {bytes} bytes and a gateway reads {}; send less", crate::limits::FRAME_BYTES)
            }
        }
    }
}

impl std::error::Error for CallError {}
