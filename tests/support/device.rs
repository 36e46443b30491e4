//! A device identity: key, id, signed proof. Source: spec gateway §3 "Device identity".

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_compact::{KeyPair, Seed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Lower-case hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Which of the two signed texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    V2,
    V3,
}

/// An Ed25519 key with its device id.
#[derive(Clone)]
pub struct Device {
    key: KeyPair,
}

impl Device {
    /// A new random one.
    pub fn new() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        Self { key: KeyPair::from_seed(Seed::new(seed)) }
    }

    /// Lower-case hex SHA-256 of the raw public key; also the node id.
    pub fn id(&self) -> String {
        sha256_hex(self.key.pk.as_ref())
    }

    /// The raw public key, base64url without padding.
    pub fn public_key(&self) -> String {
        BASE64URL_NOPAD.encode(self.key.pk.as_ref())
    }

    /// A signature over `text`, base64url without padding.
    pub fn sign(&self, text: &str) -> String {
        BASE64URL_NOPAD.encode(self.key.sk.sign(text, None).as_ref())
    }

    /// The `device` member for the connect parameters `params`, signed at `signed_at` for `nonce`.
    pub fn proof(&self, params: &Value, payload: Payload, nonce: &str, signed_at: i64) -> Value {
        let text = signed_text(&self.id(), params, payload, nonce, signed_at);
        json!({
            "id": self.id(),
            "publicKey": self.public_key(),
            "signature": self.sign(&text),
            "signedAt": signed_at,
            "nonce": nonce,
        })
    }
}

/// The text that a device signs for connect parameters.
pub fn signed_text(device_id: &str, params: &Value, payload: Payload, nonce: &str, signed_at: i64) -> String {
    let text = |pointer: &str| params.pointer(pointer).and_then(Value::as_str);
    let scopes: Vec<&str> =
        params["scopes"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    let token = ["/auth/token", "/auth/deviceToken", "/auth/bootstrapToken"].into_iter().find_map(text);
    let signed_at = signed_at.to_string();
    let scopes = scopes.join(",");
    let mut parts = vec![
        if payload == Payload::V2 { "v2" } else { "v3" },
        device_id,
        text("/client/id").unwrap(),
        text("/client/mode").unwrap(),
        text("/role").unwrap_or("operator"),
        &scopes,
        &signed_at,
        token.unwrap_or(""),
        nonce,
    ];
    let platform = text("/client/platform").unwrap_or("").trim().to_ascii_lowercase();
    let family = text("/client/deviceFamily").unwrap_or("").trim().to_ascii_lowercase();
    if payload == Payload::V3 {
        parts.extend([platform.as_str(), family.as_str()]);
    }
    parts.join("|")
}
