//! PeekabooBridge against what its real encoder, decoder and host wrote and took. Texts are free, so they are not
//! compared. `OPENCLAW_VECTORS_DIR` names another directory than `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_bridge;
mod support_vectors;

use openclaw::bridge::host::Signers;
use openclaw::desktop::automation::{Ability, Permissions};
use openclaw::protocol::peekaboo::coding::decode;
use openclaw::protocol::peekaboo::{Operation, Request, Response};
use openclaw::transport::code_identity::Unidentified;
use serde_json::{Value, json};
use support_bridge::{ALL, Desk, Host, code, exchange, signed};
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

/// Answers of ours that differ from the recorded host's on purpose, and why.
const OTHER_ANSWERS: &[(&str, &str, &str)] = &[
    ("service-timeout", "timeout", "A130: a timeout is called one"),
    ("nonhandshake-wrong-bundle-still-served", "unauthorizedClient", "A125: each request is checked"),
    ("unauthorized-unsigned-no-halfclose", "unauthorizedClient", "A129: refused before the request is read"),
    ("same-uid-unsigned-empty-allowlist", "unauthorizedClient", "A127: an empty list does not mean everybody"),
    ("utf8-bom", "decodingFailed", "JSON has no byte-order mark; no real client sends one"),
    ("appleScriptProbe-denied", "permissionDenied", "ours names the permission"),
];

/// Exchanges that set the recorded host up as ours cannot be: other limits, fewer operations, a daemon's, no list of teams
/// but one of bundles. Limits have tests of their own (sec_bridge).
fn is_of_another_host(case: &Value) -> bool {
    let flags: Vec<&str> =
        case["host"]["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()).collect();
    flags.iter().any(|flag| ["--max-minor", "--max-bytes"].contains(flag))
        || text(case, "name") == "service-slower-than-read-timeout"
        || text(case, "name") == "no-halfclose-timeout"
        || case["host"]["build"] == "release"
            && case["host"]["env"].get("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS").is_some()
}

/// A host of ours with what the recorded one was given.
fn host_of(case: &Value) -> Host {
    let env = |name: &str| case["host"]["env"][name].as_str();
    let flags: Vec<&str> =
        case["host"]["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()).collect();
    let list = |flag: &str| {
        let value = flags.iter().position(|other| *other == flag).map(|place| flags[place + 1]);
        value.map(|value| value.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let desk = Desk::default();
    let is_granted = |name: &str| env(name) != Some("0");
    *desk.permissions.lock().unwrap() = Permissions {
        screen_recording: is_granted("PEEK_SCREEN_RECORDING"),
        accessibility: is_granted("PEEK_ACCESSIBILITY"),
        event_posting: is_granted("PEEK_POST_EVENT"),
        apple_script: is_granted("PEEK_APPLE_SCRIPT"),
    };
    if env("PEEK_NO_FOCUS").is_some() {
        desk.windows.lock().unwrap().clear();
    }
    let abilities: &'static [Ability] = match (flags.contains(&"--no-targeted"), text(case, "name")) {
        (true, _) => &[Ability::Pointer, Ability::Keyboard, Ability::Elements],
        (false, "unsupported-not-allowed") => &[],
        _ => ALL,
    };
    let teams = list("--teams");
    let team = env("PEEK_FAKE_TEAM").map(str::to_owned);
    let bundle = env("PEEK_FAKE_BUNDLE").unwrap_or("boo.peekaboo.peekaboo").to_owned();
    let escape = env("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS") == Some("1");
    let defaults = Signers::default();
    let signers = Signers {
        identifiers: list("--bundles").unwrap_or(defaults.identifiers),
        teams: teams.clone().unwrap_or_default(),
    };
    Host::with(Desk { abilities, ..desk }, signers, escape || teams.is_none(), move |_| match &team {
        Some(team) => signed(team, &bundle),
        None => Err(Unidentified::Unsigned),
    })
}

/// What counts of an answer: the case; of an error code and permission; of a handshake what does not depend on how much
/// a host can do.
fn essence(answer: &Value) -> Value {
    if let Some(error) = answer.pointer("/error/_0") {
        return json!({"code": error["code"], "permission": error["permission"]});
    }
    if let Some(handshake) = answer.pointer("/handshake/_0") {
        return json!({"negotiated": handshake["negotiatedVersion"], "kind": handshake["hostKind"],
            "permissions": handshake["permissions"]});
    }
    answer.clone()
}

/// What we offer is what the recorded host offers in this version, with its tags, and enabled like there.
fn assert_offers(name: &str, ours: &Value, recorded: &Value) {
    let (ours, recorded) = (&ours["handshake"]["_0"], &recorded["handshake"]["_0"]);
    let names = |of: &Value, list: &str| -> Vec<String> { serde_json::from_value(of[list].clone()).unwrap() };
    let is_large = names(recorded, "supportedOperations").len() > 10;
    for operation in names(ours, "supportedOperations").iter().filter(|_| is_large) {
        assert!(names(recorded, "supportedOperations").contains(operation), "{name}: {operation}");
        assert_eq!(ours["permissionTags"][operation], recorded["permissionTags"][operation], "{name}: {operation}");
        let enabled = |of: &Value| names(of, "enabledOperations").contains(operation);
        assert_eq!(enabled(ours), enabled(recorded), "{name}: {operation}");
    }
    assert!(names(ours, "supportedOperations").is_sorted(), "{name}");
}

#[test]
fn vectors_peekaboo_exchanges() {
    let cases = cases("peekaboo/exchanges.jsonl");
    let mut compared = 0;
    for case in cases.iter().filter(|case| !is_of_another_host(case)) {
        let name = text(case, "name");
        let host = host_of(case);
        let request = case["requestText"].as_str().map_or_else(|| case["request"].to_string(), str::to_owned);
        let answer: Value = serde_json::from_slice(&exchange(&host.socket, request.as_bytes())).unwrap();
        compared += 1;
        if let Some((_, expected, _)) = OTHER_ANSWERS.iter().find(|(other, ..)| *other == name) {
            assert_eq!(code(&answer), *expected, "{name}: {answer}");
            continue;
        }
        let (mut ours, mut recorded) = (essence(&answer), essence(&case["response"]));
        if case["host"]["flags"].as_array().unwrap().iter().any(|flag| flag == "onDemand") {
            (ours["kind"], recorded["kind"]) = (Value::Null, Value::Null);
        }
        assert!(is_same(&ours, &recorded), "{name}\n{answer}\n{}", case["response"]);
        if answer.get("handshake").is_some() {
            assert_offers(name, &answer, &case["response"]);
        }
    }
    assert!(compared >= 70, "{compared} of {}", cases.len());
}
