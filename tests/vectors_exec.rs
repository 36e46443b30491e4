//! The recorded answers of the original product. Never more permissive than `out` (or `hardened`);
//! where we are stricter, the case and the reason are printed.

// Helpers outside test functions may stop a test too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support_vectors;

use openclaw::exec::analysis::Host;
use openclaw::exec::arguments::arguments_hash;
use openclaw::exec::matching::Target;
use openclaw::exec::plan::Form;
use openclaw::exec::policy::{Outcome, table};
use openclaw::exec::{env, glob};
use openclaw::protocol::policy::{Ask, Decision, Security};
use openclaw::state::approvals::AllowEntry;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support_vectors::cases;

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn stricter(case: &Value, reason: &str) {
    println!("{}: ours is stricter: {reason}", case["id"].as_str().unwrap());
}

#[test]
fn vectors_glob_match() {
    for case in cases("glob-match.jsonl") {
        let input = &case["in"];
        let platform = input["platform"].as_str().unwrap();
        if platform == "win32" {
            stricter(&case, "there is no Windows here");
            continue;
        }
        let [pattern, target] = ["pattern", "target"].map(|name| input[name].as_str().unwrap());
        let target = target.replace("$ROOT", "/r");
        let ours = glob::matches_path(pattern, &target, Path::new("/r/home"), platform == "darwin");
        assert_eq!(ours, case["out"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn vectors_match_allowlist() {
    for case in cases("match-allowlist.jsonl") {
        let input = &case["in"];
        let theirs = case["out"]["matchedIndex"].as_i64().unwrap();
        let resolution = &input["resolution"];
        let raw = resolution["rawExecutable"].as_str().unwrap();
        let path = text(&resolution["resolvedRealPath"]).or_else(|| text(&resolution["resolvedPath"]));
        let (Some(path), Some(argv)) = (path, input["argv"].as_array()) else {
            stricter(&case, "a program that was not found satisfies nothing");
            continue;
        };
        let argv: Vec<String> = argv.iter().map(|argument| text(argument).unwrap()).collect();
        let cwd = PathBuf::from(text(&input["cwd"]).unwrap_or_default());
        let target = Target {
            path: &path,
            name: (!raw.contains('/')).then_some(raw),
            argv: &argv,
            cwd: &cwd,
            home: Path::new("/home/u"),
        };
        let matches = |entry: &Value| {
            target.matches(&AllowEntry {
                id: String::new(),
                pattern: text(&entry["pattern"]).unwrap(),
                arg_pattern: text(&entry["argPattern"]),
                source: text(&entry["source"]),
            })
        };
        let ours = input["entries"].as_array().unwrap().iter().position(matches);
        let ours = ours.map_or(-1, |index| i64::try_from(index).unwrap());
        if ours == -1 && theirs != -1 {
            assert!(case["in"]["entries"][0]["argPattern"].is_string(), "{case}");
            stricter(&case, "argument patterns are part 2");
        } else {
            assert_eq!(ours, theirs, "{case}");
        }
    }
}

#[test]
fn vectors_arg_pattern_hash() {
    for case in cases("arg-pattern-hash.jsonl") {
        let input = &case["in"];
        let Some(cwd) = input["cwd"].as_str() else { continue };
        // Ours are canonical before they are hashed; the simplification of other texts is not ours.
        if cwd.contains("/.") || cwd.contains("//") || cwd.is_empty() || !cwd.starts_with('/') {
            continue;
        }
        let argv: Vec<String> = input["argv"].as_array().unwrap().iter().map(|word| text(word).unwrap()).collect();
        assert_eq!(arguments_hash(&argv, Path::new(cwd)), case["out"].as_str().unwrap(), "{case}");
    }
}

/// Refusals agree exactly; the child's environment is a subset with equal values, besides the names
/// that we fix (exceptions table, rows A103 and H12).
#[test]
fn vectors_env_sanitize() {
    const FIXED: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "OPENCLAW_CLI"];
    for case in cases("env-sanitize.jsonl") {
        let map = |value: &Value| -> BTreeMap<String, String> {
            let members = value.as_object().unwrap().iter();
            members.map(|(name, value)| (name.clone(), text(value).unwrap())).collect()
        };
        let names = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|name| text(name).unwrap()).collect()
        };
        let input = &case["in"];
        let out = &case["out"];
        let host = Host {
            home: "/home/u".into(),
            user: "u".into(),
            shell: "/bin/sh".into(),
            search_path: vec!["/usr/bin".into()],
            system_directories: Vec::new(),
            inherited: map(&input["baseEnv"]),
            open_files: None,
        };
        let form = if input["shellWrapper"].as_bool().unwrap() { Form::Shell } else { Form::Direct };
        match env::judge_overrides(&map(&input["overrides"])) {
            Ok(accepted) => {
                assert_eq!(out["systemRunRejected"], false, "{case}");
                let theirs = map(&out["env"]);
                for (name, value) in env::child_env(&host, &accepted, form) {
                    assert!(FIXED.contains(&name.as_str()) || theirs.get(&name) == Some(&value), "{name} in {case}");
                }
                for (name, value) in theirs {
                    let asked = input["overrides"].get(&name).is_some() && name != "OPENCLAW_CLI";
                    let ours = env::child_env(&host, &accepted, form);
                    assert!(!asked || ours.get(&name) == Some(&value), "{name} in {case}");
                }
            }
            Err(refusal) => {
                assert_eq!(out["systemRunRejected"], true, "{case}");
                let mut parts = Vec::new();
                for (member, words) in [
                    ("rejectedBlocked", "blocked override keys"),
                    ("rejectedInvalid", "invalid non-portable override keys"),
                ] {
                    let names = names(&out[member]);
                    if !names.is_empty() {
                        parts.push(format!("{words}: {}", names.join(", ")));
                    }
                }
                let parts = parts.join("; ");
                let theirs = format!("SYSTEM_RUN_DENIED: environment override rejected ({parts})");
                assert_eq!((refusal.code, refusal.message), ("INVALID_REQUEST", theirs), "{case}");
            }
        }
    }
}

#[test]
fn vectors_policy_primitives() {
    let security = |value: &Value| Security::from_word(value.as_str().unwrap()).unwrap();
    for case in cases("policy-primitives.jsonl") {
        let input = &case["in"];
        match case["fn"].as_str().unwrap() {
            "min-security" => {
                assert_eq!(security(&input["a"]).min(security(&input["b"])).word(), case["out"], "{case}");
            }
            "max-ask" => {
                let ask = |value: &Value| Ask::from_word(value.as_str().unwrap()).unwrap();
                assert_eq!(ask(&input["a"]).max(ask(&input["b"])).word(), case["out"], "{case}");
            }
            "requires-ask" => requires_ask(&case),
            // Which answers are offered: `exec::policy` unit tests, A72.
            other => assert_eq!(other, "allowed-decisions"),
        }
    }
}

fn requires_ask(case: &Value) {
    let input = &case["in"];
    let flag = |name: &str| input[name].as_bool().unwrap();
    let (Some(security), Some(ask)) =
        (Security::from_word(input["security"].as_str().unwrap()), Ask::from_word(input["ask"].as_str().unwrap()))
    else {
        return;
    };
    let satisfied = (flag("analysisOk") && flag("allowlistSatisfied")) || flag("durableApprovalSatisfied");
    let outcome = table(security, ask, satisfied);
    match (outcome == Outcome::Ask, case["out"].as_bool().unwrap()) {
        (ours, theirs) if ours == theirs => {}
        // Their function is asked after a deny has been acted upon; nothing runs here.
        (false, true) => assert!(outcome == Outcome::Disabled, "{case}"),
        _ => stricter(case, "we ask"),
    }
}

#[test]
fn vectors_decision_policy() {
    for case in cases("decision-policy.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        let flag = |name: &str| input[name].as_bool().unwrap();
        let security = Security::from_word(input["security"].as_str().unwrap()).unwrap();
        let ask = Ask::from_word(input["ask"].as_str().unwrap()).unwrap();
        let satisfied = (flag("analysisOk") && flag("allowlistSatisfied")) || flag("durableApprovalSatisfied");
        let decision = input["approvalDecision"].as_str().and_then(Decision::from_word);
        let approved = flag("approved") || matches!(decision, Some(Decision::AllowOnce | Decision::AllowAlways));
        let outcome = table(security, ask, satisfied);
        let refusal = match outcome {
            Outcome::Ask if approved => None,
            // An approval covers a miss even where nobody would be asked; we refuse it.
            outcome => outcome.refusal(""),
        };
        let theirs = out["allowed"].as_bool().unwrap();
        match refusal {
            None => assert!(theirs, "{case}"),
            Some(_) if theirs => {
                assert_eq!((outcome, approved), (Outcome::Miss, true), "{case}");
                stricter(&case, "with ask off an approval from elsewhere does not cover an allowlist miss");
            }
            Some(refusal) => {
                assert_eq!(refusal.message, out["errorMessage"].as_str().unwrap(), "{case}");
                assert_eq!(refusal.reason, out["eventReason"].as_str(), "{case}");
            }
        }
    }
}
