//! The Ed25519 key that names a device, as text and in signatures. Reading and writing its file is
//! `state::device_key`'s. Source: spec exec (f.1), (f.2), gateway §3 "Device identity".

use super::random;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Version of the key document.
const VERSION: u64 = 1;
/// What stands before the 32 raw bytes in the two DER forms of an Ed25519 key (RFC 8410).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// Characters of a public key's text that we look at: a PEM has 113.
const PUBLIC_KEY_TEXT_BYTES: usize = 256;

/// A device's key. Neither `Debug` nor `Serialize`: [`DeviceKey::to_document`] is the one way out.
pub struct DeviceKey {
    pair: KeyPair,
}

/// A key that was read, and the document as it should stand on disk if that differs.
pub struct ReadKey {
    /// The key.
    pub key: DeviceKey,
    /// The same document with the device id put right; every other member as it was.
    pub corrected: Option<String>,
}

impl DeviceKey {
    /// A new key.
    pub fn generate() -> Self {
        loop {
            // Only a seed of nothing but zeros is refused.
            if let Some(key) = Self::from_seed(random::bytes()) {
                return key;
            }
        }
    }

    fn from_seed(seed: [u8; 32]) -> Option<Self> {
        KeyPair::try_from_seed(Seed::new(seed)).ok().map(|pair| Self { pair })
    }

    /// Reads a key document. The private key decides: a public key that is not its own is an
    /// error, a wrong device id is corrected.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text.
    pub fn from_document(text: &str) -> Result<ReadKey, &'static str> {
        let document: Map<String, Value> = serde_json::from_str(text).map_err(|_| "it is not a JSON object")?;
        if document.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err("its version is not 1");
        }
        let member = |name| document.get(name).and_then(Value::as_str);
        let seed = member("privateKeyPem")
            .and_then(|pem| read_pem(pem, PRIVATE_LABEL, &PRIVATE_PREFIX))
            .ok_or("privateKeyPem is not an Ed25519 key in PKCS#8 form")?;
        let key = Self::from_seed(seed).ok_or("privateKeyPem is all zeros")?;
        let public = member("publicKeyPem")
            .and_then(|pem| read_pem(pem, PUBLIC_LABEL, &PUBLIC_PREFIX))
            .ok_or("publicKeyPem is not an Ed25519 key in SPKI form")?;
        if public != *key.pair.pk {
            return Err("publicKeyPem does not belong to privateKeyPem");
        }
        let corrected = (member("deviceId") != Some(&key.id())).then(|| {
            let mut document = document.clone();
            document.insert("deviceId".to_owned(), key.id().into());
            to_text(&Value::Object(document))
        });
        Ok(ReadKey { key, corrected })
    }

    /// The key document; `created_at_ms` in milliseconds since 1970.
    pub fn to_document(&self, created_at_ms: i64) -> String {
        to_text(&json!({
            "version": VERSION,
            "deviceId": self.id(),
            "publicKeyPem": write_pem(PUBLIC_LABEL, &PUBLIC_PREFIX, &*self.pair.pk),
            "privateKeyPem": write_pem(PRIVATE_LABEL, &PRIVATE_PREFIX, &*self.pair.sk.seed()),
            "createdAtMs": created_at_ms,
        }))
    }

    /// The device id: lower-case hex SHA-256 of the raw public key.
    pub fn id(&self) -> String {
        id_of(&self.pair.pk)
    }

    /// The raw public key, base64url without padding.
    pub fn public_key_base64url(&self) -> String {
        BASE64URL_NOPAD.encode(&*self.pair.pk)
    }

    /// The signature over `payload`, base64url without padding.
    pub fn sign(&self, payload: &str) -> String {
        BASE64URL_NOPAD.encode(&*self.pair.sk.sign(payload, None))
    }
}

/// True if `signature` (base64url without padding) over `payload` was made with the key that
/// `public_key` names: its raw 32 bytes as base64url, or SPKI as PEM.
pub fn verify(public_key: &str, payload: &str, signature: &str) -> bool {
    let Some(key) = parse_public_key(public_key) else { return false };
    // 64 bytes are 86 characters; nothing longer is worth decoding.
    let Some(signature) = Some(signature).filter(|text| text.len() <= 88).and_then(decode_base64url) else {
        return false;
    };
    Signature::from_slice(&signature).is_ok_and(|signature| PublicKey::new(key).verify(payload, &signature).is_ok())
}

/// The device id that belongs to `public_key`; `None` unless that is exactly an Ed25519 key (the
/// original derives an id from any text).
pub fn device_id_of(public_key: &str) -> Option<String> {
    parse_public_key(public_key).map(|key| id_of(&key))
}

/// The public key as it is stored and compared: base64url of the raw 32 bytes.
pub fn normalised_public_key(public_key: &str) -> Option<String> {
    parse_public_key(public_key).map(|key| BASE64URL_NOPAD.encode(&key))
}

fn parse_public_key(text: &str) -> Option<[u8; 32]> {
    if text.len() > PUBLIC_KEY_TEXT_BYTES {
        return None;
    }
    if text.contains("BEGIN") {
        return read_pem(text, PUBLIC_LABEL, &PUBLIC_PREFIX);
    }
    decode_base64url(text)?.try_into().ok()
}

/// With or without padding.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()
}

fn id_of(public_key: &[u8; 32]) -> String {
    HEXLOWER.encode(&Sha256::digest(public_key))
}

fn write_pem(label: &str, prefix: &[u8], raw: &[u8]) -> String {
    let body = BASE64.encode(&[prefix, raw].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The 32 raw bytes behind `prefix`.
fn read_pem(pem: &str, label: &str, prefix: &[u8]) -> Option<[u8; 32]> {
    let body = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64.decode(body.as_bytes()).ok()?;
    der.strip_prefix(prefix)?.try_into().ok()
}

fn to_text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_document_and_signs_for_its_id() {
        let key = DeviceKey::generate();
        let document = key.to_document(5);
        let read = DeviceKey::from_document(&document).ok().unwrap();
        assert!(read.corrected.is_none());
        assert_eq!(read.key.id(), key.id());
        assert_eq!(device_id_of(&key.public_key_base64url()), Some(key.id()));
        let signature = read.key.sign("v3|x");
        assert!(verify(&key.public_key_base64url(), "v3|x", &signature));
        assert!(!verify(&key.public_key_base64url(), "v3|y", &signature));
        assert!(!verify(&DeviceKey::generate().public_key_base64url(), "v3|x", &signature));
    }

    #[test]
    fn only_a_whole_key_that_fits_itself_is_used() {
        let (one, other) = (DeviceKey::generate(), DeviceKey::generate());
        let mut document: Value = serde_json::from_str(&one.to_document(5)).unwrap();
        let foreign: Value = serde_json::from_str(&other.to_document(5)).unwrap();
        document["publicKeyPem"] = foreign["publicKeyPem"].clone();
        assert!(DeviceKey::from_document(&document.to_string()).is_err());
        assert!(DeviceKey::from_document("{}").is_err());
        assert!(DeviceKey::from_document("").is_err());
    }

    #[test]
    fn public_keys_have_exactly_32_bytes() {
        let key = DeviceKey::generate();
        let raw = key.public_key_base64url();
        let pem = write_pem(PUBLIC_LABEL, &PUBLIC_PREFIX, &*key.pair.pk);
        assert_eq!(normalised_public_key(&pem), Some(raw.clone()));
        for bad in [
            "",
            "AAAA",
            &BASE64URL_NOPAD.encode(&[0; 31]),
            &BASE64URL_NOPAD.encode(&[0; 33]),
            &format!("{raw}AA"),
            "é",
            &"A".repeat(100_000),
        ] {
            assert_eq!(device_id_of(bad), None);
            assert!(!verify(bad, "x", &key.sign("x")));
        }
        // A key of small order verifies nothing.
        assert!(!verify(&BASE64URL_NOPAD.encode(&[0; 32]), "x", &BASE64URL_NOPAD.encode(&[0; 64])));
    }
}
