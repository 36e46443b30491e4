//! The handshake: challenge, `connect`, `hello-ok`. Source: spec gateway §3.

use super::schema::{self, Kind, Member, may, need};
use super::{strict, text};
use crate::limits;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The protocol version that we speak.
pub const PROTOCOL: u32 = 4;
/// The oldest one that nodes and probes may offer.
pub const PROTOCOL_OLDEST: u32 = 3;

/// Client ids that the protocol knows.
#[rustfmt::skip]
pub const CLIENT_IDS: &[&str] = &[
    "webchat-ui", "openclaw-control-ui", "openclaw-browser-copilot", "openclaw-tui", "webchat", "cli",
    "gateway-client", "openclaw-macos", "openclaw-linux", "openclaw-ios", "openclaw-watchos", "openclaw-android",
    "node-host", "openclaw-worker", "test", "fingerprint", "openclaw-probe",
];

/// Client modes that the protocol knows.
pub const CLIENT_MODES: &[&str] = &["webchat", "cli", "ui", "backend", "node", "worker", "probe", "test"];

const CLIENT: &[Member] = &[
    need("id", Kind::OneOf(CLIENT_IDS)),
    need("version", Kind::Text(1)),
    need("platform", Kind::Text(1)),
    need("mode", Kind::OneOf(CLIENT_MODES)),
    may("displayName", Kind::Text(1)),
    may("buildId", Kind::Text(1)),
    may("deviceFamily", Kind::Text(1)),
    may("modelIdentifier", Kind::Text(1)),
    may("timeZone", Kind::Text(1)),
    may("instanceId", Kind::Text(1)),
];

const AUTH: &[Member] = &[
    may("token", Kind::Text(0)),
    may("password", Kind::Text(0)),
    may("deviceToken", Kind::Text(0)),
    may("bootstrapToken", Kind::Text(0)),
    may("approvalRuntimeToken", Kind::Text(0)),
    may("agentRuntimeIdentityToken", Kind::Text(0)),
];

const DEVICE: &[Member] = &[
    need("id", Kind::Text(1)),
    need("publicKey", Kind::Text(1)),
    need("signature", Kind::Text(1)),
    need("signedAt", Kind::Int(i64::MIN)),
    need("nonce", Kind::Text(0)),
];

const CONNECT: &[Member] = &[
    need("minProtocol", Kind::Int(1)),
    need("maxProtocol", Kind::Int(1)),
    need("client", Kind::Object(CLIENT)),
    may("caps", Kind::Texts),
    may("commands", Kind::Texts),
    may("permissions", Kind::Flags),
    may("pathEnv", Kind::Text(0)),
    may("computerUse", Kind::Any),
    may("workerRuns", Kind::Any),
    may("role", Kind::Text(1)),
    may("scopes", Kind::Texts),
    may("device", Kind::Object(DEVICE)),
    may("auth", Kind::Object(AUTH)),
    may("locale", Kind::Text(0)),
    may("userAgent", Kind::Text(0)),
    may("modelCatalog", Kind::Any),
];

/// As what a connection logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gives orders.
    Operator,
    /// Offers a machine's commands.
    Node,
}

impl Role {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }

    /// The exact word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "operator" => Some(Self::Operator),
            "node" => Some(Self::Node),
            _ => None,
        }
    }
}

/// Who connects. `id` and `mode` are claims, never credentials.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientInfo {
    /// One of [`CLIENT_IDS`].
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Of the program.
    pub version: String,
    /// `linux`, `macos 15.5` …
    pub platform: String,
    /// `Linux`, `Mac` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// `Mac15,6` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// One of [`CLIENT_MODES`].
    pub mode: String,
    /// A UUID that the client keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

/// Credentials. Deliberately neither `Debug` nor `Serialize`: the client writes its own frame.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The shared token (or, from the reference client, a device token).
    pub token: Option<crate::protocol::connect::SecretText>,
    /// The shared password.
    pub password: Option<crate::protocol::connect::SecretText>,
    /// A token that this device got in an earlier `hello-ok`.
    pub device_token: Option<crate::protocol::connect::SecretText>,
    /// A single-use setup token.
    pub bootstrap_token: Option<crate::protocol::connect::SecretText>,
}

/// Text of a credential on its way from the wire to the place that checks it. Neither `Debug`,
/// `Display`, `PartialEq` nor `Serialize`; wiped when dropped.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for comparison and signing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

/// Proof that the peer holds a device key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceProof {
    /// Lower-case hex SHA-256 of the raw public key.
    pub id: String,
    /// The raw 32 bytes, base64url without padding.
    pub public_key: String,
    /// Ed25519 over the payload of [`device_payload`], base64url without padding.
    pub signature: String,
    /// Milliseconds since 1970.
    pub signed_at: i64,
    /// The challenge's nonce.
    pub nonce: String,
}

/// The parameters of `connect`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectParams {
    /// Oldest protocol that the peer speaks.
    pub min_protocol: u64,
    /// Newest protocol that the peer speaks.
    pub max_protocol: u64,
    /// Who connects.
    pub client: ClientInfo,
    /// `operator` (default) or `node`; checked by the gateway.
    #[serde(default = "operator")]
    pub role: String,
    /// What an operator asks for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What a client can show or a node can do.
    #[serde(default)]
    pub caps: Vec<String>,
    /// Commands of a node.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Permissions of a node.
    #[serde(default)]
    pub permissions: Option<BTreeMap<String, bool>>,
    /// PATH of a node.
    #[serde(default)]
    pub path_env: Option<String>,
    /// Credentials.
    #[serde(default)]
    pub auth: Auth,
    /// Proof of a device.
    #[serde(default)]
    pub device: Option<DeviceProof>,
}

fn operator() -> String {
    "operator".to_owned()
}

/// Reads the parameters of `connect`: strict, since everything later rests on them.
///
/// # Errors
/// The text after `invalid connect params: `.
pub fn parse_connect(params: Option<&RawValue>) -> Result<ConnectParams, String> {
    let raw = params.map_or("{}", RawValue::get);
    strict::check(raw, limits::STRICT_JSON_DEPTH).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(raw).map_err(|error| error.to_string())?;
    schema::check(&value, CONNECT)?;
    let params: ConnectParams = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let names = [&params.caps, &params.commands, &params.scopes];
    if names.iter().any(|list| list.len() > limits::DECLARED_NAMES)
        || params.permissions.as_ref().is_some_and(|map| map.len() > limits::DECLARED_NAMES)
    {
        return Err(format!("more than {} names in one list", limits::DECLARED_NAMES));
    }
    let too_long = |name: &String| name.len() > limits::DECLARED_NAME_BYTES;
    if names.iter().any(|list| list.iter().any(too_long))
        || params.permissions.as_ref().is_some_and(|map| map.keys().any(too_long))
        || params.client.display_name.as_ref().is_some_and(too_long)
        || [&params.client.version, &params.client.platform].iter().any(|name| too_long(name))
        || [&params.client.device_family, &params.client.model_identifier, &params.client.instance_id]
            .iter()
            .any(|name| name.as_ref().is_some_and(too_long))
    {
        return Err(format!("a name is longer than {} bytes", limits::DECLARED_NAME_BYTES));
    }
    Ok(params)
}

/// The two forms of the signed text that a gateway accepts. Source: spec gateway §3, exec f.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    /// Without platform and family.
    V2,
    /// With them.
    V3,
}

/// Everything that the signed text covers.
pub struct DevicePayload<'a> {
    /// Device id.
    pub device_id: &'a str,
    /// `client.id`.
    pub client_id: &'a str,
    /// `client.mode`.
    pub client_mode: &'a str,
    /// After defaulting.
    pub role: &'a str,
    /// As sent, in order.
    pub scopes: &'a [String],
    /// As sent, milliseconds.
    pub signed_at: i64,
    /// First present of `auth.token`, `auth.deviceToken`, `auth.bootstrapToken`; else empty.
    pub token: &'a str,
    /// The challenge's nonce.
    pub nonce: &'a str,
    /// `client.platform`.
    pub platform: &'a str,
    /// `client.deviceFamily`, else empty.
    pub device_family: &'a str,
}

/// The text that a device signs.
pub fn device_payload(form: PayloadForm, payload: &DevicePayload<'_>) -> String {
    let (version, tail) = match form {
        PayloadForm::V2 => ("v2", String::new()),
        PayloadForm::V3 => ("v3", format!("|{}|{}", normalised(payload.platform), normalised(payload.device_family))),
    };
    format!(
        "{version}|{}|{}|{}|{}|{}|{}|{}|{}{tail}",
        payload.device_id,
        payload.client_id,
        payload.client_mode,
        payload.role,
        payload.scopes.join(","),
        payload.signed_at,
        payload.token,
        payload.nonce,
    )
}

/// Trimmed, A–Z lowered: how platform and family enter the signature and the pinned record.
pub fn normalised(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// A close reason that mirrors a message, cut to what a close frame holds.
pub fn close_reason(message: &str) -> &str {
    text::prefix(message, limits::CLOSE_REASON_BYTES)
}

/// What a client needs of `hello-ok`; everything else in it is ignored.
#[derive(Debug, Deserialize)]
pub struct HelloOk {
    /// Negotiated protocol.
    #[serde(default)]
    pub protocol: u32,
    /// Version and connection id of the gateway.
    #[serde(default)]
    pub server: Map<String, Value>,
    /// Live authority.
    pub auth: HelloAuth,
    /// Limits of the gateway.
    #[serde(default)]
    pub policy: HelloPolicy,
}

/// `hello-ok.auth`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloAuth {
    /// `operator` or `node`.
    pub role: String,
    /// What this connection may do.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// `hello-ok.policy`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloPolicy {
    /// Milliseconds between `tick` events.
    #[serde(default)]
    pub tick_interval_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectParams, String> {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        parse_connect(Some(&raw))
    }

    const GOOD: &str =
        r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"cli","version":"1","platform":"linux","mode":"cli"}}"#;

    #[test]
    fn connect_is_strict() {
        let params = parse(GOOD).ok().unwrap();
        assert_eq!(params.role, "operator");
        for (from, to, why) in [
            ("\"minProtocol\":4,", "", "must have required property 'minProtocol'"),
            ("}}", "},\"bogusField\":1}", "at root: unexpected property 'bogusField'"),
            ("\"version\":\"1\",", "", "at /client: must have required property 'version'"),
            (
                "\"cli\",\"version\"",
                "\"nope\",\"version\"",
                "at /client/id: must be equal to one of the allowed values",
            ),
            ("\"mode\":\"cli\"", "\"mode\":\"x\"", "at /client/mode: must be equal to one of the allowed values"),
            ("{\"minProtocol\":4,", "{\"minProtocol\":4,\"minProtocol\":3,", "duplicate member at byte 17"),
        ] {
            assert_eq!(parse(&GOOD.replacen(from, to, 1)).err().unwrap_or_default(), why);
        }
        assert!(parse_connect(None).is_err());
    }
}
