//! `mac-debug` looks (H25): whatever it is told that names no object to change, the machine is as it was
//! before. What changes something says what and where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use support::{Process, free_port};
use support_exec::*;

/// What only looks.
const LOOKS: &[&[&str]] = &[
    &["permissions", "status"],
    &["selftest"],
    &["selftest", "--json"],
    &["switch"],
    &["switch", "--json"],
    &["status"],
    &["status", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["logs"],
    &["logs", "--role", "gateway"],
    &["connect"],
    &["connect", "--json", "--probe", "--timeout", "5000"],
    &["nodes"],
    &["nodes", "--json"],
    &["pair", "list"],
    &["approvals", "list"],
    &["approvals", "get"],
    &["approvals", "get", "--json"],
    &["approvals", "get", "--gateway"],
    &["approvals", "get", "--node", "x"],
    &["explain", "--", "ls"],
    &["explain", "--agent", "main", "--shell", "ls | cat"],
    &["grants", "list"],
    &["exec-host", "link"],
    &["exec-host", "link", "--json"],
    &["audit", "show"],
    &["audit", "verify"],
    &["help"],
];

/// What would change something, and does not say what.
const WITHOUT_OBJECT: &[&[&str]] = &[
    // It asks the whole network, so it is tried in one of its own: tests/discover.rs.
    &["discover", "--timeout", "1"],
    &["permissions", "request"],
    &["switch", "camera", "on"],
    &["run"],
    &["invoke"],
    &["pair", "approve"],
    &["pair", "reject"],
    &["pair"],
    &["approvals", "allow-once"],
    &["approvals", "allow-always"],
    &["approvals", "deny"],
    &["approvals", "set"],
    &["approvals", "allowlist"],
    &["approvals", "allowlist", "add"],
    &["approvals", "allowlist", "remove"],
    &["approvals", "denylist", "add"],
    &["approvals", "denylist", "remove"],
    &["approvals", "mode"],
    &["approvals", "fence"],
    &["approvals"],
    &["explain"],
    &["grants", "revoke"],
    &["grants"],
    &["audit"],
    &["token"],
    &["token", "rotate"],
    &["pair", "link"],
    &["doctor", "--yes"],
    &["trace"],
    &["replay"],
    &["replay", "/nonexistent"],
    &[],
];

/// What changes the only thing that there is: its own name says so.
const ONE_OBJECT: &[&[&str]] = &[&["pause"], &["resume"]];

/// What only looks and does not end by itself: `tests/watch.rs`.
const ENDLESS: &[&[&str]] = &[&["watch"]];

/// Mode, time of change and content.
type Seen = (u32, i64, i64, Option<Vec<u8>>);

/// Everything below a directory.
fn walk(directory: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let status = fs::symlink_metadata(&path).unwrap();
        if status.is_dir() {
            found.extend(walk(&path));
        }
        let content = status.is_file().then(|| fs::read(&path).unwrap());
        found.insert(path, (status.mode(), status.mtime(), status.mtime_nsec(), content));
    }
    found
}

/// Runs everything that may change nothing.
fn look(scratch: &Scratch, state: &str) {
    let before = walk(scratch.path());
    for (commands, incomplete) in [(LOOKS, false), (WITHOUT_OBJECT, true)] {
        for arguments in commands {
            let mut command = scratch.mac_debug_command(arguments);
            // Not whatever else this machine has on the usual port.
            command.env("OPENCLAW_GATEWAY_PORT", free_port().to_string());
            let finished = Process::run(command);
            assert!(finished.code.is_some() && !finished.stderr.contains("panicked"), "{arguments:?}: {finished:?}");
            assert!(!incomplete || finished.code != Some(0), "{state}: {arguments:?}: {finished:?}");
            let after = walk(scratch.path());
            let changed: Vec<_> = after.keys().filter(|path| after.get(*path) != before.get(*path)).collect();
            assert!(changed.is_empty() && after.len() == before.len(), "{state}: {arguments:?} changed {changed:?}");
        }
    }
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<&str> {
    let commands = help.split_once("Commands:\n").unwrap().1;
    let lines = commands.lines().take_while(|line| line.starts_with("  "));
    lines.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap()).collect()
}

/// H25.
#[test]
fn sec_h25_nothing_changes_that_was_not_named() {
    // Nothing is there, not even the directory.
    let scratch = Scratch::new();
    look(&scratch, "a new machine");
    assert!(!scratch.state().exists());

    // None was forgotten here.
    for (group, parents) in [(&[][..], &["mac-debug"][..]), (&["approvals"], &["mac-debug", "approvals"])] {
        let help = Process::run(scratch.openclaw(&[parents, &["--help"]].concat())).stdout;
        let names = listed(&help);
        assert!(names.len() > 8, "{help}");
        for name in names {
            let is_this = |arguments: &&&[&str]| arguments.starts_with(&[group, &[name]].concat());
            assert!(
                [LOOKS, WITHOUT_OBJECT, ONE_OBJECT, ENDLESS].concat().iter().any(|one| is_this(&one)),
                "{name} is not tried"
            );
        }
    }

    // An app is running.
    let document = json!({"version": 1, "agents": {"*": {"allowlist": [{"pattern": program("echo")}]}}});
    scratch.approvals(&document);
    let port = free_port().to_string();
    let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--port", &port]));
    wait_for_node(&scratch);
    app.exec(&scratch).assert_works();
    let settled = walk(&scratch.state());
    look(&scratch, "a running app");
    assert_eq!(scratch.mac_debug(&["approvals", "list"]).code, Some(0), "it was really looked at");
    assert_eq!(walk(&scratch.state()), settled);

    // And is not any more; two of its files are not as they should be, which looking does not repair.
    drop(app);
    set_mode(&scratch.approvals_path(), 0o644);
    fs::write(scratch.state().join("nodes/paired.json"), "{").unwrap();
    look(&scratch, "a stopped app");
}

/// H25: what changes something prints what, where, and what it does. (`approvals …`: `tests/approvals_cli.rs`;
/// `token rotate`: `tests/token_rotate.rs`.)
#[test]
fn sec_h25_a_change_says_what_and_where() {
    let scratch = Scratch::new();
    let state = text(&scratch.state()).to_owned();
    let said = |verb: &str| {
        let finished = scratch.mac_debug(&[verb]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    };
    let paused = said("pause");
    assert!(paused.contains("no command starts") && paused.contains("resume") && paused.contains(&state), "{paused}");
    // It loosens: with nobody to ask, it says what it would do.
    let asked = scratch.mac_debug(&["resume"]);
    assert!(asked.code == Some(2) && asked.stderr.contains("let commands run again"), "{asked:?}");
    assert!(scratch.state().join("paused").exists());
    let resumed = scratch.mac_debug(&["resume", "--yes"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let resumed = resumed.stdout;
    assert!(resumed.contains("commands may run again") && resumed.contains(&state), "{resumed}");
}
