//! Recorded behaviour of the original product against ours: device identity and the approvals
//! document. Where ours is stricter on purpose, the difference is named here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support_vectors;

use ed25519_compact::{KeyPair, Seed};
use openclaw::identity::device::{self, DeviceKey};
use openclaw::protocol::connect::{DevicePayload, PayloadForm, device_payload};
use openclaw::protocol::policy::{Ask, Security};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::{Environment, StateDir, device_key};
use serde_json::{Value, json};
use std::path::PathBuf;
use support_vectors::cases;

/// A state directory that is removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ocv-{}", openclaw::identity::random::uuid()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn state(&self) -> StateDir {
        let environment = Environment { state_dir: Some(self.0.clone()), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        state
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The key of a seed; `None` for the seed of zeros, which ours refuses.
fn key_of(seed_hex: &str) -> Option<DeviceKey> {
    let seed = data_encoding::HEXLOWER.decode(seed_hex.as_bytes()).unwrap();
    let pair = KeyPair::try_from_seed(Seed::from_slice(&seed).unwrap()).ok()?;
    let pem = |label: &str, prefix: &[u8], raw: &[u8]| {
        let body = data_encoding::BASE64.encode(&[prefix, raw].concat());
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let document = json!({
        "version": 1,
        "publicKeyPem": pem("PUBLIC KEY", &[0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0], &*pair.pk),
        "privateKeyPem": pem("PRIVATE KEY", &[0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20], &seed),
    });
    Some(DeviceKey::from_document(&document.to_string()).ok().unwrap().key)
}

#[test]
fn vectors_device_identity() {
    let vectors = cases("device-identity.jsonl");
    let of_kind = |kind: &'static str| vectors.iter().filter(move |vector| vector["fn"] == kind);
    for vector in of_kind("device-id") {
        let (id, out) = (text(vector, "id"), &vector["out"]);
        if let Some(not_a_key) = vector["in"].get("publicKey") {
            // Ours is stricter: the original makes an id of any text.
            assert_eq!(out["verify"], false, "{id}");
            assert_eq!(device::device_id_of(not_a_key.as_str().unwrap()), None, "{id}");
            continue;
        }
        let raw = text(out, "publicKeyRawBase64Url");
        for form in [raw, text(out, "publicKeyPem")] {
            assert_eq!(device::device_id_of(form).as_deref(), out["deviceId"].as_str(), "{id}");
            assert_eq!(device::normalised_public_key(form).as_deref(), Some(raw), "{id}");
        }
        let Some(key) = key_of(text(&vector["in"], "seedHex")) else {
            // Ours is stricter: a private key of zeros is no key.
            assert_eq!(text(&vector["in"], "seedHex"), "0".repeat(64), "{id}");
            continue;
        };
        let document: Value = serde_json::from_str(&key.to_document(0)).unwrap();
        for name in ["deviceId", "publicKeyPem", "privateKeyPem"] {
            assert_eq!(document[name], out[name], "{id}");
        }
        assert_eq!(key.public_key_base64url(), raw, "{id}");
    }
    for vector in of_kind("device-auth") {
        let (id, seed, parameters) = (text(vector, "id"), text(&vector["in"], "seedHex"), &vector["in"]["params"]);
        let key = key_of(seed);
        // The public key of the seed of zeros, from the first vector.
        let zeros = || text(&vectors[0]["out"], "publicKeyRawBase64Url").to_owned();
        let public_key = key.as_ref().map_or_else(zeros, DeviceKey::public_key_base64url);
        let scopes: Vec<String> = serde_json::from_value(parameters["scopes"].clone()).unwrap();
        let payload = DevicePayload {
            device_id: text(parameters, "deviceId"),
            client_id: text(parameters, "clientId"),
            client_mode: text(parameters, "clientMode"),
            role: text(parameters, "role"),
            scopes: &scopes,
            signed_at: parameters["signedAtMs"].as_i64().unwrap(),
            token: text(parameters, "token"),
            nonce: text(parameters, "nonce"),
            platform: text(parameters, "platform"),
            device_family: text(parameters, "deviceFamily"),
        };
        let (v3, legacy) = (&vector["out"]["v3"], &vector["out"]["legacy_2026_1"]);
        let made = device_payload(PayloadForm::V3, &payload);
        assert_eq!(made, text(v3, "payload"), "{id}");
        assert_eq!(device_payload(PayloadForm::V2, &payload), text(&vector["out"], "v2_2026_9"), "{id}");
        for (payload, signature) in
            [(made.as_str(), text(v3, "signature")), (text(legacy, "payload"), text(legacy, "signature"))]
        {
            assert!(device::verify(&public_key, payload, signature), "{id}");
            assert!(!device::verify(&public_key, &format!("{payload}x"), signature), "{id}");
            if let Some(key) = &key {
                assert_eq!(key.sign(payload), signature, "{id}");
            }
        }
    }
}

/// As recorded, except that what cannot be used is kept aside instead of overwritten.
#[test]
fn vectors_device_load() {
    let vectors = cases("device-identity.jsonl");
    let cases: Vec<_> = vectors.iter().filter(|vector| vector["fn"] == "device-load").collect();
    assert!(!cases.is_empty());
    for vector in cases {
        let (id, stored, out) = (text(vector, "id"), &vector["in"]["file"], &vector["out"]);
        let before = stored.as_str().map_or_else(|| stored.to_string(), ToOwned::to_owned);
        let scratch = Scratch::new();
        let path = scratch.0.join("device.json");
        std::fs::write(&path, &before).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(&scratch.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let key = device_key::load_or_create(&path).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        let document: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(document["deviceId"], key.id(), "{id}");
        assert_eq!(after != before, out["fileRewritten"].as_bool().unwrap(), "{id}");
        let mut names: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected: Vec<&str> = out["fileKeys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "{id}");
        let kept: Vec<_> = std::fs::read_dir(&scratch.0)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("device.json.broken-"))
            .collect();
        assert_eq!(kept.len(), usize::from(out["regenerated"].as_bool().unwrap()), "{id}");
        for aside in kept {
            assert_eq!(std::fs::read_to_string(aside.path()).unwrap(), before, "{id}");
        }
    }
}

fn from_words(resolved: &Value) -> (Security, Ask, Security, bool) {
    let agent = &resolved["agent"];
    let security = |name| Security::from_word(text(agent, name)).unwrap();
    (
        security("security"),
        Ask::from_word(text(agent, "ask")).unwrap(),
        security("askFallback"),
        agent["autoAllowSkills"].as_bool().unwrap(),
    )
}

/// The verdict of the strict parser agrees; what a good document allows is never more than the
/// original's reading of it (with the node host's defaults, which are ours).
#[test]
fn vectors_approvals_normalize() {
    let mut good = 0;
    for vector in cases("approvals-normalize.jsonl") {
        let id = text(&vector, "id");
        let raw = text(&vector["in"], "raw");
        let scratch = Scratch::new();
        let state = scratch.state();
        std::fs::write(state.approvals(), raw).unwrap();
        let approvals = ApprovalsDocument::new(&state);
        let wanted = vector["out"]["persistedParse"]["ok"].as_bool().unwrap();
        let policy = approvals.effective(Some("main"), true);
        assert_eq!(policy.broken.is_none(), wanted, "{id}: {:?}", policy.broken);
        assert_eq!(std::fs::read_to_string(state.approvals()).unwrap(), raw, "{id}");
        if !wanted {
            assert_eq!((policy.security, policy.ask_fallback), (Security::Deny, Security::Deny), "{id}");
            continue;
        }
        good += 1;
        for agent in ["main", "other"] {
            let ours = approvals.effective(Some(agent), true);
            let resolved = &vector["legacy_2026_1"]["resolved"][format!("{agent}+node")];
            let (security, ask, ask_fallback, skills) = from_words(resolved);
            assert!(ours.security <= security, "{id} {agent}");
            assert!(ours.ask >= ask, "{id} {agent}");
            assert!(ours.ask_fallback <= ask_fallback, "{id} {agent}");
            assert!(!ours.auto_allow_skills || skills, "{id} {agent}");
            let theirs: Vec<&str> =
                resolved["allowlist"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let ours: Vec<&str> = ours.allowlist.iter().map(|entry| entry.pattern.as_str()).collect();
            assert_eq!(ours, theirs, "{id} {agent}");
        }
    }
    assert!(good > 5);
}
