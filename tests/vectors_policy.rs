//! The policy of one agent, as a document says it, against the original's reading. The recorded
//! defaults are 2026.9's (full, off); the documents are run with those written out. Never more
//! permissive; where ours is stricter, the case and the reason are printed, and any other difference
//! fails. `OPENCLAW_VECTORS_DIR` names another directory than `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_vectors;

use openclaw::protocol::policy::{Ask, Security};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::{Environment, StateDir};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use support_vectors::cases;

/// The document with the defaults of 2026.9 where it names none.
fn with_their_defaults(mut file: Value) -> Value {
    if file.get("defaults").is_none_or(Value::is_null) {
        file["defaults"] = json!({});
    }
    if let Some(defaults) = file["defaults"].as_object_mut() {
        defaults.entry("security").or_insert(json!("full"));
        defaults.entry("ask").or_insert(json!("off"));
    }
    file
}

#[test]
fn vectors_effective_policy() {
    let scratch = std::env::temp_dir().join(format!("ocp-{}", openclaw::identity::random::uuid()));
    let mut agree = 0;
    for case in cases("effective-policy.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        std::fs::DirBuilder::new().mode(0o700).create(&scratch).unwrap();
        let environment = Environment { state_dir: Some(scratch.clone()), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(state.approvals()).unwrap();
        file.write_all(with_their_defaults(input["file"].clone()).to_string().as_bytes()).unwrap();
        let ours = ApprovalsDocument::new(&state).effective(input["agentId"].as_str(), true);
        std::fs::remove_dir_all(&scratch).unwrap();
        if let Some(why) = &ours.broken {
            assert_eq!((ours.security, ours.ask_fallback), (Security::Deny, Security::Deny), "{case}");
            let why = why.split_once(" is broken ").map_or(why.as_str(), |(_, why)| why);
            println!("{}: ours is stricter: a broken document allows nothing: {why}", case["id"].as_str().unwrap());
            continue;
        }
        assert!(out.get("throws").is_none(), "more permissive: {ours:?} for {case}");
        let word = |name: &str| out[name].as_str().unwrap();
        let theirs = (
            Security::from_word(word("security")).unwrap(),
            Ask::from_word(word("ask")).unwrap(),
            Security::from_word(word("askFallback")).unwrap(),
        );
        assert_eq!((ours.security, ours.ask, ours.ask_fallback), theirs, "{case}");
        assert_eq!(json!(ours.auto_allow_skills), out["autoAllowSkills"], "{case}");
        let mut rules: Vec<Value> = ours
            .allowlist
            .iter()
            .map(|entry| {
                let mut rule = json!({"pattern": entry.pattern});
                for (name, value) in [("argPattern", &entry.arg_pattern), ("source", &entry.source)] {
                    if let Some(value) = value {
                        rule[name] = json!(value);
                    }
                }
                rule
            })
            .collect();
        rules.sort_by_key(|rule| rule["pattern"].as_str().unwrap().to_owned());
        rules.dedup();
        assert_eq!(json!(rules), out["allowlistRules"], "{case}");
        agree += 1;
    }
    println!("{agree} cases agree");
    assert!(agree > 0, "nothing was compared");
}
