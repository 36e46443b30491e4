//! The recorded answers of the original product about patterns and arguments. Never more permissive
//! than `out` (or `hardened`); where we are stricter, the case and the reason are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support_vectors;

use openclaw::exec::arguments::arguments_hash;
use openclaw::exec::matching::{SafeBins, Target};
use openclaw::exec::safe_bins::Profile;
use openclaw::state::approvals::AllowEntry;
use serde_json::Value;
use std::path::{Path, PathBuf};
use support_vectors::cases;

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().map(|words| words.iter().map(|word| text(word).unwrap()).collect()).unwrap_or_default()
}

fn stricter(case: &Value, reason: &str) {
    println!("{}: ours is stricter: {reason}", case["id"].as_str().unwrap());
}

#[test]
fn vectors_match_allowlist() {
    for case in cases("match-allowlist.jsonl") {
        let input = &case["in"];
        let resolution = &input["resolution"];
        let raw = resolution["rawExecutable"].as_str().unwrap();
        let path = text(&resolution["resolvedRealPath"]).or_else(|| text(&resolution["resolvedPath"]));
        let Some(path) = path else {
            stricter(&case, "a program that was not found satisfies nothing");
            continue;
        };
        if input["argv"].is_null() {
            assert_eq!(case["out"]["matchedIndex"], -1, "here there always is an argument vector: {case}");
            continue;
        }
        let argv = words(&input["argv"]);
        let cwd = PathBuf::from(text(&input["cwd"]).unwrap_or_default());
        let name = (!raw.contains('/')).then_some(raw);
        let target = Target { path: &path, name, argv: &argv, cwd: &cwd, home: Path::new("/home/u") };
        let entries: Vec<AllowEntry> = input["entries"].as_array().unwrap().iter().enumerate().map(entry).collect();
        let ours = target.first_match(&entries, false).map_or("-1", |entry| entry.id.as_str());
        assert_eq!(ours, case["out"]["matchedIndex"].to_string(), "{case}");
    }
}

fn entry((index, entry): (usize, &Value)) -> AllowEntry {
    AllowEntry {
        id: index.to_string(),
        pattern: text(&entry["pattern"]).unwrap(),
        arg_pattern: text(&entry["argPattern"]),
        source: text(&entry["source"]),
    }
}

#[test]
fn vectors_arg_pattern_hash() {
    for case in cases("arg-pattern-hash.jsonl") {
        let input = &case["in"];
        let cwd = input["cwd"].as_str().unwrap_or_default();
        // Ours are canonical before they are hashed; the simplification of other texts is not ours.
        if cwd.contains("/.") || cwd.contains("//") || !cwd.starts_with(['/', '\\']) {
            continue;
        }
        assert_eq!(arguments_hash(&words(&input["argv"]), Path::new(cwd)), case["out"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn vectors_safe_bin_argv() {
    for case in cases("safe-bin-argv.jsonl") {
        let input = &case["in"];
        let profiles = input["customProfiles"].as_object();
        let profiles = profiles.into_iter().flatten().map(|(name, profile)| (name.clone(), custom(profile))).collect();
        let safe = SafeBins { profiles, ..SafeBins::default() };
        let ours = safe.judge(input["bin"].as_str().unwrap(), &words(&input["args"]));
        assert_eq!(ours, case["out"].as_bool(), "{case}");
    }
}

fn custom(profile: &Value) -> Profile {
    let count =
        |name: &str, default: usize| profile[name].as_u64().map_or(default, |count| usize::try_from(count).unwrap());
    Profile {
        positionals: (count("minPositional", 0), count("maxPositional", usize::MAX)),
        values: words(&profile["allowedValueFlags"]),
        flags: Vec::new(),
        denied: words(&profile["deniedFlags"]),
    }
}
