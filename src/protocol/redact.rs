//! What must not stay in a frame that is written down. Whoever keeps frames passes them through here.

use serde_json::Value;

/// Stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// Parts of the names of members that hold secrets, in lower case.
const SECRET_PARTS: &[&str] = &[
    "token",
    "password",
    "secret",
    "signature",
    "nonce",
    "hmac",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "setupcode",
];
/// Whole names: the exec socket's proof; a command's environment, whose names stay and whose values go.
const SECRET_NAMES: &[&str] = &["mac", "env"];
/// A setup link has its token in it.
const SECRET_BEGINNING: &str = "oc-pair:";
/// JSON in a text in JSON: no frame of the protocol has more than one level.
const NESTED: usize = 4;

/// Takes the secrets out: every text below a member that is named like one, setup links, and the same in JSON that
/// stands in a text. What a command printed, or was given as an argument, stays.
pub fn redact(value: &mut Value) {
    walk(value, false, NESTED);
}

fn walk(value: &mut Value, is_secret: bool, nested: usize) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                walk(member, is_secret || names_secret(name), nested);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, is_secret, nested)),
        Value::String(text) if text.is_empty() => {}
        Value::String(text) if is_secret || text.starts_with(SECRET_BEGINNING) => REDACTED.clone_into(text),
        Value::String(text) if text.starts_with(['{', '[']) => {
            let Ok(mut inner) = serde_json::from_str::<Value>(text) else { return };
            if nested == 0 {
                REDACTED.clone_into(text);
            } else {
                walk(&mut inner, false, nested - 1);
                *text = inner.to_string();
            }
        }
        _ => {}
    }
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_go_and_what_explains_stays() {
        let inner = json!({"env": {"KEY": "GEHEIM"}, "command": ["ls"]}).to_string();
        let mut frame = json!({
            "params": {
                "auth": {"token": "GEHEIM", "deviceToken": "GEHEIM", "Password": "GEHEIM", "role": "operator"},
                "device": {"id": "d", "publicKey": "p", "signature": "GEHEIM", "nonce": "GEHEIM", "signedAt": 1},
                "socket": {"path": "/s", "token": {"deep": ["GEHEIM"]}},
                "contextTokens": 5, "link": "oc-pair://GEHEIM", "empty": {"token": ""},
                "paramsJSON": inner,
            },
        });
        redact(&mut frame);
        let text = frame.to_string();
        assert!(!text.contains("GEHEIM"), "{text}");
        let expected = json!({
            "params": {
                "auth": {"token": REDACTED, "deviceToken": REDACTED, "Password": REDACTED, "role": "operator"},
                "device": {"id": "d", "publicKey": "p", "signature": REDACTED, "nonce": REDACTED, "signedAt": 1},
                "socket": {"path": "/s", "token": {"deep": [REDACTED]}},
                "contextTokens": 5, "link": REDACTED, "empty": {"token": ""},
                "paramsJSON": json!({"env": {"KEY": REDACTED}, "command": ["ls"]}).to_string(),
            },
        });
        assert_eq!(frame, expected);
        redact(&mut frame);
        assert_eq!(frame, expected, "a second time changes nothing");
    }

    #[test]
    fn json_in_json_in_json_has_an_end() {
        let mut value = json!({"token": "GEHEIM"});
        for _ in 0..8 {
            value = json!({ "x": value.to_string() });
        }
        redact(&mut value);
        assert!(!value.to_string().contains("GEHEIM"));
    }
}
