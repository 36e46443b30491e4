//! Programs that start others decide nothing: what they start does; driven through the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_analysis;
mod support_exec;

use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::time::{Duration, Instant};
use support_analysis::*;
use support_exec::*;

#[test]
fn sec_a78_env_that_splits_a_string_is_never_looked_through() {
    let bench = Bench::new();
    let touch = bench.touch();
    let list = || bench.programs(&["env", "tr", "sh", "touch", "uname"]);
    list();
    let split = format!("sh -c '{touch}'");
    let all = |option: &str| format!("{option}{split}");
    for command in [
        &["env", "-S", &split][..],
        &["env", &all("-S")],
        &["env", &all("-vS")],
        &["env", "-vS", &split],
        &["env", &all("--split-string=")],
        &["env", "--split-string", &split],
        &["env", &all("--split=")],
        &["env", &all("--s=")],
        &["env", &all("-iS")],
        &["env", "-i", &all("-S")],
        &["env", "-S", &touch],
        &["/usr/bin/env", "-S\ttr"],
        &["/usr/bin/env", "-S tr a b"],
        &["/usr/bin/env", "-S", "uname"],
        &["nice", "env", &all("-S")],
        &["env", "env", &all("-S")],
        &["env", "--", "env", &all("-S")],
    ] {
        bench.asks(&argv(command));
    }
    for text in [format!("env -S \"{split}\""), format!("env -vS \"{split}\""), "env -S'uname'".into()] {
        bench.asks(&sh(&text));
    }
    assert!(!bench.runs(&argv(&["env", "uname"])).is_empty());
    assert_eq!(bench.runs(&sh("uname | env tr -d a-zA-Z0-9/_.-")).trim(), "");
    bench.finish();

    let mut attended = Attended::new();
    write_list(&attended.scratch, &[json!(program("env")), json!(program("sh"))]);
    let before = attended.stored();
    let split = argv(&["env", "-S", &format!("sh -c '{}'", attended.touch())]);
    let shown = attended.denies(&split);
    assert!(!offers(&shown, "always"), "{shown}");
    let (prompt, reply) = attended.ask(&split, "always");
    assert!(prompt.is_some() && reply.is_refusal(), "a word that is not offered is no answer");
    assert_eq!(attended.stored(), before);
    attended.finish();
}

#[test]
fn sec_a83_what_stands_behind_env_decides() {
    let bench = Bench::new();
    let touch = bench.touch();
    tool(&bench.work().join("uname"), &touch);
    let work = text_of(&bench.work());
    let inner: &[&[&str]] = &[
        &[],
        &["A=1"],
        &["A=1", "B=2"],
        &["-i"],
        &["-"],
        &["-u", "X"],
        &["--unset=X"],
        &["-C", &work],
        &["--chdir", &work],
        &["-P", &work],
        &["--"],
        &["-0"],
        &["-v"],
        &["--ignore-environment"],
        &["--default-signal"],
        &["--block-signal=INT"],
        &["-a", "uname"],
        &["--argv0=uname"],
    ];
    for list in [&["env"][..], &["env", "uname"]] {
        bench.programs(list);
        for modifiers in inner {
            for env in ["env", "/usr/bin/env"] {
                for rest in [&["sh", "-c", &touch][..], &["sh"], &["touch", &bench.canary()]] {
                    bench.asks(&argv(&[&[env], *modifiers, rest].concat()));
                }
            }
        }
    }
    // A listed program behind what changes its surroundings is not that program any more.
    for modifiers in inner.iter().filter(|modifiers| !matches!(modifiers, [] | ["--"])) {
        bench.asks(&argv(&[&["env"], *modifiers, &["uname"]].concat()));
    }
    for loader in ["LD_PRELOAD=./x.so", "PATH=.", "BASH_ENV=./x", "LD_PRELOAD+=./x.so"] {
        let reply = bench.send(&argv(&["env", loader, "uname"]));
        assert!(reply.is_refusal(), "{loader}: {}", reply.value());
    }
    for text in ["env A=1 uname", "A=1 uname", "env -i uname", "env -C / uname", "env -u X uname"] {
        bench.asks(&sh(text));
    }
    let name = bench.runs(&argv(&["uname"]));
    for twin in ["env uname", "/usr/bin/env uname", "env -- uname", "env env uname"] {
        assert_eq!(bench.runs(&words(twin)), name, "{twin}");
        assert_eq!(bench.runs(&sh(twin)), name, "{twin}");
    }
    bench.programs(&["uname"]);
    assert_eq!(bench.runs(&words("env uname")), name, "the wrapper itself needs no entry");
    bench.finish();

    let mut attended = Attended::new();
    for command in ["env A=1 uname", "env -u X uname"] {
        let shown = attended.denies(&words(command));
        assert!(!offers(&shown, "always"), "{shown}");
    }
    attended.finish();
}

#[test]
fn sec_a84_no_depth_of_wrappers_opens_the_list() {
    let bench = Bench::new();
    let touch = bench.touch();
    let rest = ["sh", "-c", touch.as_str()];
    let kinds: &[&[&str]] = &[&["env"], &["nice", "nohup"], &["env", "nice", "nohup", "timeout 5"]];
    let nested = |kind: &[&str], depth: usize, rest: &[&str]| -> Vec<String> {
        let wrappers = kind.iter().cycle().take(depth).flat_map(|wrapper| wrapper.split(' '));
        wrappers.chain(rest.iter().copied()).map(str::to_owned).collect()
    };
    let started = Instant::now();
    bench.programs(&["env", "nice", "nohup", "timeout", "uname"]);
    let name = bench.runs(&argv(&["uname"]));
    for depth in 1..=200 {
        for kind in kinds {
            bench.asks(&argv(&nested(kind, depth, &rest)));
            let harmless = argv(&nested(kind, depth, &["uname"]));
            if depth <= openclaw::limits::WRAPPERS {
                assert_eq!(bench.runs(&harmless), name, "{depth} of {kind:?}");
            } else if depth < 20 || depth % 20 == 0 {
                let why = bench.asks(&harmless);
                assert!(why.contains("wrappers"), "{why}");
            }
        }
    }
    // As much as a request may hold.
    let deep = nested(&["env"], 4_000, &rest);
    assert!(bench.send(&argv(&deep)).is_refusal());
    // In text and behind a shell.
    for depth in [1, 4, 5, 50] {
        bench.asks(&sh(&nested(&["env"], depth, &["sh", "-c", &format!("'{touch}'")]).join(" ")));
        bench.asks(&argv(&nested(&["sh", "-c"], depth * 2, &[&touch])));
    }
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    bench.finish();

    // What is asked about is what runs.
    let mut attended = Attended::new();
    for depth in [1, 4, 5, 6, 200] {
        let file = format!("depth-{depth}");
        let command = nested(&["env"], depth, &["sh", "-c", &format!("touch {file}")]);
        let (prompt, reply) = attended.ask(&argv(&command), "unbound");
        let prompt = prompt.unwrap().replace("\r\n", "");
        let shown = prompt.split("command    ").nth(1).unwrap_or_else(|| panic!("{prompt}"));
        assert_eq!(shown.matches("env ").count(), depth, "{shown}");
        assert!(shown.contains(&format!("'touch {file}'")), "{shown}");
        reply.ran();
        assert!(attended.scratch.join("w").join(&file).exists());
    }
    attended.finish();
}

#[test]
fn sec_a85_always_never_trusts_a_wrapper_or_a_shell() {
    let mut attended = Attended::new();
    let touch = attended.touch();
    let canary = text_of(&attended.scratch.canary());
    let payloads: &[&[&str]] = &[&["touch", &canary], &["sh", "-c", &touch], &["ls", &canary]];
    // What is offered is to allow the program behind, and only where the wrapper is understood.
    for (wrapper, is_offered) in [
        (&["sh", "-c"][..], false),
        (&["env"], true),
        (&["timeout", "5"], true),
        (&["nice"], true),
        (&["nohup"], true),
        (&["stdbuf", "-o0"], false),
        (&["stdbuf", "-o", "0"], true),
        (&["env", "nice"], true),
        (&["env", "sh", "-c"], false),
    ] {
        attended.scratch.edit_approvals(|document| drop(document.remove("agents")));
        let command = argv(&[wrapper, &["ls"]].concat());
        let (prompt, reply) = attended.ask(&command, "always");
        assert_eq!(offers(&prompt.unwrap(), "always"), is_offered, "{command}");
        assert_eq!(!reply.is_refusal(), is_offered, "{command}");
        let stored = attended.stored();
        let list = stored["agents"]["*"]["allowlist"].as_array().cloned().unwrap_or_default();
        let patterns: Vec<&str> = list.iter().map(|entry| entry["pattern"].as_str().unwrap()).collect();
        assert_eq!(patterns, if is_offered { vec![program("ls")] } else { Vec::new() }, "{stored}");
        if is_offered {
            let (prompt, reply) = attended.ask(&command, "deny");
            assert!(prompt.is_none() && !reply.is_refusal(), "{command} is allowed now: {prompt:?}");
        }
        // The same wrapper with something else, also with the same program and other arguments.
        for payload in payloads {
            let text = [&*payload.join(" ")];
            let other = argv(&[wrapper, if wrapper.contains(&"sh") { &text } else { payload }].concat());
            attended.denies(&other);
        }
    }
    attended.finish();
}

// ---- A93 ----

/// Code in arguments, code that they load, and a program that comes from the input.
fn with_code(touch: &str) -> Vec<Vec<String>> {
    let python = format!("import os; os.system('{touch}')");
    let perl = format!("system('{touch}')");
    let node = format!("require('child_process').execSync('{touch}')");
    let cases: &[&[&str]] = &[
        &["python3", "-c", &python],
        &["python3", &format!("-c{python}")],
        &["python3", "-uc", &python],
        &["python3", "-m", "loaded"],
        &["python3", "-mloaded"],
        &["python3", "-i", "loaded.py"],
        &["python3", "-"],
        &["python3"],
        &["node", "-e", &node],
        &["node", "--eval", &node],
        &["node", &format!("--eval={node}")],
        &["node", "-p", &node],
        &["node", "--print", &node],
        &["node", "-pe", &node],
        &["node", "-r", "./loaded.js", "plain.js"],
        &["node", "--require", "./loaded.js", "plain.js"],
        &["node", "--require=./loaded.js", "plain.js"],
        &["node", "--import", "./loaded.js", "plain.js"],
        &["node", "--loader", "./loaded.js", "plain.js"],
        &["node", "-"],
        &["node"],
        &["perl", "-e", &perl],
        &["perl", "-E", &perl],
        &["perl", "-lane", &perl],
        &["perl", "-Mloaded", "plain.pl"],
        &["perl", "-I.", "-mloaded", "plain.pl"],
        &["perl", "-I", ".", "plain.pl"],
        &["ruby", "-e", &perl],
        &["ruby", "-r./loaded", "plain.rb"],
        &["ruby", "-I", ".", "plain.rb"],
        &["osascript", "-e", "do shell script \"x\""],
        &["osascript", "-"],
    ];
    let here: HashMap<&str, bool> =
        ["python3", "node", "perl", "ruby", "osascript"].map(|name| (name, have(name, "sec_a93"))).into();
    let texts = |case: &&[&str]| case.iter().map(|word| (*word).to_owned()).collect();
    cases.iter().filter(|case| here[case[0]]).map(texts).collect()
}

#[test]
fn sec_a93_code_for_an_interpreter_needs_its_arguments_named() {
    for is_strict in [false, true] {
        let bench = Bench::with(&json!({"strictInlineEval": is_strict}));
        let cases = with_code(&bench.touch());
        let names: BTreeSet<&str> = cases.iter().map(|case| case[0].as_str()).collect();
        let programs = [names.iter().copied().collect::<Vec<_>>().as_slice(), &["echo"]].concat();
        for (name, text) in [
            ("loaded.py", format!("open('{}', 'w')", bench.canary())),
            ("loaded.js", format!("require('fs').writeFileSync('{}', '')", bench.canary())),
            ("plain.js", "console.log('plain')".to_owned()),
            ("plain.pl", "print \"plain\\n\"".to_owned()),
        ] {
            fs::write(bench.work().join(name), text).unwrap();
        }
        bench.programs(&programs);
        for case in &cases {
            let why = bench.asks(&argv(case));
            assert!(why.contains("argPattern") || is_strict, "{why}");
            bench.asks(&argv(&[&["env".to_owned()][..], case].concat()));
            bench.asks(&sh(&format!("echo '{}' | '{}'", case.last().unwrap().replace('\'', ""), case.join("' '"))));
        }
        // A file is the program, and is bound. Its arguments are not code, whatever they look like.
        for (name, file) in [("node", "plain.js"), ("perl", "plain.pl")] {
            if names.contains(name) {
                assert_eq!(bench.runs(&argv(&[name, file, "-e", "x"])), "plain\n");
            }
        }
        // Where the owner has named the code, it runs; in strict mode even then a person decides.
        if names.contains("perl") {
            bench.list(&[json!({"pattern": program("perl"), "argPattern": "^-e print\\(1\\)$"})]);
            let named = argv(&["perl", "-e", "print(1)"]);
            match is_strict {
                true => drop(bench.asks(&named)),
                false => assert_eq!(bench.runs(&named), "1"),
            }
            bench.asks(&argv(&["perl", "-e", "print(1);print(2)"]));
        }
        // Strict means under `full` too.
        if is_strict {
            bench.scratch.edit_approvals(|document| {
                document.insert("defaults".into(), json!({"security": "full", "ask": "off"}));
            });
            cases.iter().for_each(|case| drop(bench.asks(&argv(case))));
            assert_eq!(bench.runs(&argv(&["printf", "full"])), "full");
            bench.scratch.edit_approvals(|document| drop(document.remove("defaults")));
        }
        bench.finish();
    }

    let mut attended = Attended::new();
    for case in with_code(&attended.touch()) {
        let shown = attended.denies(&argv(&case));
        assert!(!offers(&shown, "always"), "{shown}");
    }
    attended.finish();
}
