//! PeekabooBridge against what its real encoder, decoder and host wrote and took. Texts are free, so they are not
//! compared. `OPENCLAW_VECTORS_DIR` names another directory than `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_vectors;

use openclaw::protocol::peekaboo::coding::decode;
use openclaw::protocol::peekaboo::{Operation, Request, Response};
use serde_json::{Value, json};
use support_vectors::cases;

fn text<'a>(case: &'a Value, member: &str) -> &'a str {
    case[member].as_str().unwrap_or_else(|| panic!("{member} in {case}"))
}

/// Equal as JSON: `3` is `3.0`.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| is_same(left, right)))
        }
        _ => left == right,
    }
}

/// What our types make of a document.
fn reencoded(kind: &str, document: &str) -> Result<Value, String> {
    let value = match kind {
        "request" => decode::<Request>(document.as_bytes()).map(|request| serde_json::to_value(request).unwrap()),
        "response" => decode::<Response>(document.as_bytes()).map(|response| serde_json::to_value(response).unwrap()),
        other => panic!("{other}"),
    };
    value.map_err(|error| error.to_string())
}

#[test]
fn vectors_peekaboo_requests() {
    let cases = cases("peekaboo/requests.jsonl");
    for case in &cases {
        let (name, json) = (text(case, "name"), &case["json"]);
        let request: Request = decode(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = serde_json::to_value(&request).unwrap();
        assert!(is_same(&again, json), "{name}\n{again}\n{json}");
        let operation = request.operation().map_or("permissionsStatus".to_owned(), |operation| operation.to_string());
        assert_eq!(operation, text(case, "policyOperation"), "{name}");
        assert!(json.get(text(case, "operation")).is_some(), "{name}");
    }
    // Every case of ours is there.
    for operation in Operation::ALL {
        assert!(cases.iter().any(|case| text(case, "policyOperation") == operation.to_string()), "{operation}");
    }
}

#[test]
fn vectors_peekaboo_responses() {
    for case in cases("peekaboo/responses.jsonl") {
        let (name, mut json) = (text(&case, "name"), case["json"].clone());
        let response: Response = decode(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name == "browserToolResponse-nullMeta" {
            // The real decoder, too, reads an explicit null as absent (README of the vectors).
            json["browserToolResponse"]["_0"].as_object_mut().unwrap().remove("meta");
        }
        let again = serde_json::to_value(&response).unwrap();
        assert!(is_same(&again, &json), "{name}\n{again}\n{json}");
        assert!(json.get(text(&case, "case")).is_some(), "{name}");
        for operation in case["operation"].as_array().unwrap() {
            match operation.as_str().unwrap() {
                "any" | "handshake" => {}
                "appleScriptProbe" => assert!(Operation::AppleScriptProbe.is_answered_by(&response), "{name}"),
                other => assert!(other.parse::<Operation>().unwrap().is_answered_by(&response), "{name}: {other}"),
            }
        }
    }
}

#[test]
fn vectors_peekaboo_operations() {
    let cases = cases("peekaboo/operations.jsonl");
    assert_eq!(cases.len(), Operation::ALL.len());
    for case in cases {
        let operation: Operation = text(&case, "operation").parse().unwrap();
        let permissions: Vec<_> = operation.permission().into_iter().collect();
        assert_eq!(json!(permissions), case["requiredPermissions"], "{operation}");
        assert_eq!(case["inDefaultAllowlist"], true);
    }
}

/// Where we differ on purpose. Source: spec peekaboo-bridge §2.
const STRICTER: [&str; 2] = ["request-072", "request-073"]; // a trailing comma, a duplicate member
const MORE_LENIENT: [(&str, &str); 3] = [
    (
        "response-078",
        r#"{"handshake":{"_0":{"hostKind":"gui","negotiatedVersion":{"major":1,"minor":7},"supportedOperations":["captureScreen"]}}}"#,
    ),
    (
        "response-079",
        r#"{"handshake":{"_0":{"enabledOperations":[],"hostKind":"gui","negotiatedVersion":{"major":1,"minor":7},"supportedOperations":["captureScreen"]}}}"#,
    ),
    ("response-103", r#"{"error":{"_0":{"code":"internalError","message":"m"}}}"#),
];

#[test]
fn vectors_peekaboo_decode_checks() {
    for case in cases("peekaboo/decode-checks.jsonl") {
        let name = text(&case, "name");
        let ours = reencoded(text(&case, "type"), text(&case, "inputText"));
        if STRICTER.contains(&name) {
            assert!(ours.is_err(), "{name}: {ours:?}");
        } else if let Some((_, expected)) = MORE_LENIENT.iter().find(|(lenient, _)| *lenient == name) {
            assert!(is_same(&ours.unwrap(), &serde_json::from_str(expected).unwrap()), "{name}");
        } else if case["accepted"] == true {
            let ours = ours.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(is_same(&ours, &case["reencoded"]), "{name}\n{ours}\n{}", case["reencoded"]);
        } else {
            assert!(ours.is_err(), "{name} was accepted: {ours:?}");
        }
    }
}
