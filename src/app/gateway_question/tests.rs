use super::*;
use crate::state::{Environment, StateDir};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

struct Place(PathBuf, Here);

impl Place {
    fn new(name: &str, local: &Value) -> Self {
        let directory = std::env::temp_dir().join(format!("oc-q-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        state.prepare().unwrap();
        let document = Arc::new(ApprovalsDocument::new(&state));
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(state.approvals()).unwrap();
        file.write_all(json!({"version": 1, "local": local}).to_string().as_bytes()).unwrap();
        Self(directory, Here { gateway: "ws://127.0.0.1:1".into(), node_id: "us".into(), document })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn row(request: &Value) -> String {
    json!({"approvalKind": "exec", "id": "r", "request": request, "createdAtMs": 1_000, "expiresAtMs": 61_000})
        .to_string()
}

fn question(place: &Place, request: &Value) -> Question {
    Record::read(&row(request)).unwrap().question(&place.1, 0)
}

/// A64: the plan is what would run, so the plan is what is shown; frames/rpc-exec-approval-resolve-flow.json.
#[test]
fn sec_a64_the_plan_is_shown_and_not_what_it_is_called() {
    let place = Place::new("plan", &json!({}));
    let request = json!({"command": "ls -la", "cwd": "/elsewhere", "agentId": "other", "sessionKey": "s2",
        "systemRunPlan": {"argv": ["rm", "-rf", "a b"], "cwd": "/tmp", "agentId": "main", "sessionKey": "s"},
        "commandArgv": ["ls"], "host": "node", "nodeId": "us", "security": "allowlist", "ask": "on-miss",
        "runId": null, "turnSourceChannel": "chat, ask=off", "allowedDecisions": ["allow-once", "deny"]});
    let asked = question(&place, &request);
    assert_eq!((asked.command.as_str(), asked.cwd.as_str()), ("rm -rf 'a b'", "the gateway says \"/tmp\""));
    assert_eq!((asked.agent.as_deref(), asked.session.as_deref()), (Some("main"), Some("s")));
    assert!(asked.notes.iter().any(|note| note.contains("calls the command \"ls -la\"")), "{:?}", asked.notes);
    let context = "the gateway says: security=\"allowlist\", ask=\"on-miss\", turnSourceChannel=\"chat, ask=off\"";
    assert!(asked.notes.iter().any(|note| note == context), "{:?}", asked.notes);
    assert!(asked.requester.contains("gateway at ws://127.0.0.1:1") && asked.spans.is_empty());
    assert!(asked.allow_always.is_err(), "what is not offered is no answer");
    let left = asked.deadline.remaining(Now::read()).as_secs();
    assert!((58..=60).contains(&left), "{left}");
    // The original's own name for the same arguments is no other command.
    let same = json!({"command": "rm \"a b\"", "commandArgv": ["rm", "a b"]});
    assert_eq!(question(&place, &same).notes.len(), 1);
    // Without arguments the text is all there is.
    let asked = question(&place, &json!({"command": "ls | wc", "allowedDecisions": ["allow-always"]}));
    assert_eq!((asked.command.as_str(), &asked.allow_always), ("ls | wc", &Ok(())));
    assert_eq!(asked.cwd, "the gateway does not say");
}

/// What an answer is worth here is said with it.
#[test]
fn the_place_says_what_the_answer_is_worth() {
    let here = json!({"command": "x", "host": "node", "nodeId": "us"});
    let first = |place: &Place, request: &Value| question(place, request).notes[0].clone();
    let plain = Place::new("plain", &json!({}));
    assert!(first(&plain, &here).contains("whose own rules come next"), "{}", first(&plain, &here));
    let trusting = Place::new("trusting", &json!({"trustGatewayApprovals": true}));
    assert!(first(&trusting, &here).contains("on your word alone"), "{}", first(&trusting, &here));
    let there = json!({"command": "x", "host": "node", "nodeId": "them"});
    assert_eq!(first(&trusting, &there), "the gateway says that it would run elsewhere: host node, node them");
    assert!(first(&plain, &json!({"command": "x", "nodeId": "us"})).contains("does not say where"));
}

/// What cannot be shown whole is not shown at all, and nothing odd is a question.
#[test]
fn what_is_no_question_is_not_asked() {
    for bad in [
        "".to_owned(),
        "{}".to_owned(),
        row(&json!({})),
        row(&json!({"command": ""})),
        row(&json!({"command": 7, "commandArgv": []})),
        row(&json!({"command": "x".repeat(limits::GATEWAY_QUESTION_BYTES)})),
        row(&json!({"command": "x"})).replace("\"r\"", &json!("r".repeat(300)).to_string()),
        row(&json!({"command": "x"})).replace("61000", "0"),
        row(&json!({"command": "x"})).replace("61000", "1e99"),
    ] {
        assert!(Record::read(&bad).is_none(), "{:?}", crate::protocol::text::prefix(&bad, 80));
    }
    let endless = row(&json!({"command": "x"})).replace("61000", "9223372036854775807");
    assert!(Record::read(&endless).unwrap().expires.remaining(Now::read()) <= limits::APPROVAL_TIMEOUT);
}

/// A67: a warning has few lines or one.
#[test]
fn sec_a67_a_warning_does_not_push_the_prompt_away() {
    let place = Place::new("warning", &json!({}));
    let notes = |warning: String| question(&place, &json!({"command": "x", "warningText": warning})).notes;
    assert_eq!(notes("one\ntwo".to_owned())[1..], ["the gateway says: one", "the gateway says: two"]);
    let flood = notes("line\n".repeat(500));
    assert_eq!(flood.len(), 2, "{flood:?}");
    assert_eq!(flood[1].matches("line").count(), 500, "nothing is cut");
}
