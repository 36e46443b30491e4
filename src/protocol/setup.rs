//! A setup link: all that a new node needs to join a gateway, in one text to paste. The official product's
//! form, with our gateway's key added, so that the node knows the gateway before it shows anything.
//! Source: official docs gateway/pairing "One-paste node pairing"; `setupCode` as 2026.9.6 makes it.

use super::connect::SecretText;
use crate::limits;
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::json;

/// What a link begins with; a bare setup code is taken too.
const SCHEME: &str = "oc-pair://";

/// What a link says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetupLink {
    /// `ws://…` of the gateway; the client checks it.
    pub url: String,
    /// Admits one device, once (A19). Never the shared secret (A160).
    pub bootstrap_token: SecretText,
    /// The gateway's public key (base64url), if it has one.
    #[serde(default)]
    pub gateway_key: Option<String>,
}

impl SetupLink {
    /// Reads a link.
    ///
    /// # Errors
    /// A sentence that does not repeat the text, which holds a token.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "this is no setup link; it is one word that begins with oc-pair://";
        let text = text.trim();
        let code = text.strip_prefix(SCHEME).unwrap_or(text);
        if code.len() > limits::SETUP_LINK_BYTES {
            return Err(MALFORMED);
        }
        let decoded = BASE64URL_NOPAD.decode(code.as_bytes()).map_err(|_| MALFORMED)?;
        let link: Self = serde_json::from_slice(&decoded).map_err(|_| MALFORMED)?;
        if link.bootstrap_token.expose().is_empty() { Err(MALFORMED) } else { Ok(link) }
    }
}

/// The link's text without the scheme, as `device.pair.setupCode` answers it.
pub fn setup_code(url: &str, bootstrap_token: &str, expires_at_ms: i64, gateway_key: &str) -> String {
    let members = json!({
        "url": url, "bootstrapToken": bootstrap_token, "expiresAtMs": expires_at_ms, "gatewayKey": gateway_key,
    });
    BASE64URL_NOPAD.encode(members.to_string().as_bytes())
}

/// The link of a setup code.
pub fn setup_link(setup_code: &str) -> String {
    format!("{SCHEME}{setup_code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_both_gateways_are_read_and_others_refused_unrepeated() {
        let code = setup_code("ws://127.0.0.1:5", "t-1", 7, "key");
        for text in [setup_link(&code), code.clone(), format!(" {}\n", setup_link(&code))] {
            let link = SetupLink::parse(&text).unwrap();
            assert_eq!((link.url.as_str(), link.bootstrap_token.expose()), ("ws://127.0.0.1:5", "t-1"));
            assert_eq!(link.gateway_key.as_deref(), Some("key"));
        }
        // As the official gateway makes it.
        let official =
            BASE64URL_NOPAD.encode(br#"{"url":"ws://h:1","bootstrapToken":"x","expiresAtMs":1795279630289}"#);
        assert!(SetupLink::parse(&official).unwrap().gateway_key.is_none());
        let no_token = setup_code("ws://127.0.0.1:5", "", 7, "key");
        for bad in ["", "oc-pair://", "oc-pair://GEHEIM!", "e30", &code[1..], &no_token, &"A".repeat(100_000)] {
            let refusal = SetupLink::parse(bad).err().unwrap();
            assert!(!refusal.contains("GEHEIM"), "{bad}");
        }
    }
}
