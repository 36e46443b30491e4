//! Help that teaches: near words, an example for each command, completions and man pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use support::{Finished, Process, TempDir, mode, openclaw};

fn say(arguments: &[&str]) -> Finished {
    let state = TempDir::new();
    let mut command = openclaw(state.path());
    command.args(arguments);
    let finished = Process::run(command);
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "{arguments:?} made something");
    finished
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let Some((_, commands)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = commands.lines().take_while(|line| line.starts_with("  "));
    lines.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap().into()).collect()
}

/// Every command with the words that lead to it.
fn every(words: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = say(&arguments);
    assert_eq!(help.code, Some(0), "{help:?}");
    let below = listed(&help.stdout);
    into.push((words.to_vec(), help.stdout));
    for name in below {
        every(&[words, &[name]].concat(), into);
    }
}

fn all() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    every(&[], &mut found);
    assert!(found.len() > 25, "{}", found.len());
    found
}

#[test]
fn each_command_has_an_example_that_is_one() {
    for (words, help) in all() {
        let examples = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{words:?}: {help}")).1;
        let lines: Vec<_> = examples.lines().take_while(|line| !line.trim().is_empty()).collect();
        assert!(!lines.is_empty());
        for line in lines {
            let line = line.strip_prefix("  ").unwrap();
            let begins = ["openclaw".to_owned()].iter().chain(&words).cloned().collect::<Vec<_>>().join(" ");
            assert!(line.starts_with(&begins), "{words:?}: {line}");
        }
    }
}

#[test]
fn a_near_word_is_offered() {
    for (words, said) in [
        (&["gatway"][..], "Unrecognized argument: gatway\ndid you mean `gateway`?\n"),
        (&["mac-debug", "statsu"], "Unrecognized argument: statsu\ndid you mean `status`?\n"),
        (&["mac-debug", "disco"], "Unrecognized argument: disco\ndid you mean `discover`?\n"),
        (&["mac-debug", "nodes", "--jsn"], "Unrecognized argument: --jsn\ndid you mean `--json`?\n"),
        (
            &["mac-debug", "approvals", "allow-onse", "x"],
            "Unrecognized argument: allow-onse\ndid you mean `allow-once`?\n",
        ),
        (&["mac-debug", "zzz"], "Unrecognized argument: zzz\n`openclaw mac-debug --help` lists what is known\n"),
        // What stands behind `=` may be a secret (A158).
        (
            &["mac-debug", "connect", "--token=GEHEIM"],
            "Unrecognized argument: --token=…\nwrite `--token VALUE`, with a blank between\n",
        ),
        (&["mac-debug", "connect", "--tokn=GEHEIM"], "Unrecognized argument: --tokn=…\ndid you mean `--token`?\n"),
        (&["completions", "tcsh"], "completions: there are none for `tcsh`; say bash, zsh or fish\n"),
    ] {
        let finished = say(words);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(2), said), "{words:?}");
    }
    let hostile = say(&["mac-debug", "\u{1b}[2Jstatus"]);
    assert!(!hostile.stderr.contains('\u{1b}'), "{hostile:?}");
}

/// What each shell offers, by a shell's own word where it is installed.
#[test]
fn completions_know_every_command() {
    let scratch = TempDir::new();
    for (shell, checks) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let text = say(&["completions", shell]).stdout;
        for (words, _) in all() {
            let place = ["openclaw".to_owned()].iter().chain(&words).cloned().collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!("'{place}'")) || text.contains(&format!("\"{place}\"")), "{shell}: {place}");
        }
        let file = scratch.join(shell);
        fs::write(&file, text).unwrap();
        match Command::new(shell).args(checks).arg(&file).output() {
            Ok(checked) => assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {checked:?}"),
            Err(_) => {
                eprintln!("completions_know_every_command: {shell} is not installed, so its file was not read by it")
            }
        }
    }
    let offered = |words: &[&str]| {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let script = format!(
            "source {}; COMP_WORDS=({list}); COMP_CWORD={}; _openclaw; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            scratch.join("bash").display(),
            words.len() - 1
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(offered(&["openclaw", "ga"]), set(&["gateway"]));
    assert_eq!(
        offered(&["openclaw", "mac-debug", "--url", "x", "approvals", "al"]),
        set(&["allow-once", "allow-always", "allowlist"])
    );
    assert_eq!(offered(&["openclaw", "mac-debug", "connect", "--token-"]), set(&["--token-file", "--token-stdin"]));
    assert!(offered(&["openclaw", "mac-debug", "connect", "file"]).iter().all(String::is_empty));
}

#[test]
fn man_pages_tell_everything() {
    let directory = TempDir::new();
    let mut command = openclaw(directory.path());
    let into = directory.join("man");
    fs::create_dir(&into).unwrap();
    command.arg("man").arg(&into);
    assert_eq!(Process::run(command).code, Some(0));
    let page = |name: &str| fs::read_to_string(into.join(name)).unwrap();
    for (words, help) in all() {
        let name = words.first().map_or("openclaw.1".to_owned(), |first| format!("openclaw-{first}.1"));
        let page = page(&name).replace("\\-", "-");
        let place = ["openclaw".to_owned()].iter().chain(&words).cloned().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&format!(".B {place}\n")), "{name}: {place}");
        for line in help.lines().filter(|line| line.starts_with("  --")) {
            let flag = line.trim_start().split([' ', ',']).next().unwrap();
            assert!(page.contains(&format!(".B {flag}")), "{place}: {flag}");
        }
    }
    let debug = page("openclaw-mac-debug.1");
    assert!(debug.contains(".B 6\ntoken or password missing or wrong\n"), "{debug}");
    assert_eq!(mode(&into.join("openclaw.1")), 0o644);
    for entry in fs::read_dir(&into).unwrap() {
        let file = entry.unwrap().path();
        match Command::new("man").args(["--warnings", "-l"]).arg(&file).env("MANWIDTH", "200").output() {
            Ok(read) => {
                let said = String::from_utf8_lossy(&read.stderr).into_owned();
                assert!(read.status.success() && !said.contains("warning"), "{}: {said}", file.display());
            }
            Err(_) => {
                eprintln!("man_pages_tell_everything: man is not installed, so it did not read {}", file.display())
            }
        }
    }
    let nowhere = say(&["man", "nowhere"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.starts_with("man: nowhere/openclaw.1: "), "{}", nowhere.stderr);
}
