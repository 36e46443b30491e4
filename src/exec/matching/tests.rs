use super::*;
use crate::exec::plan::{After, BoundFile, Executable, Form, NotUnderstood, Operand, Program, Sink, Stage, Step, Work};
use crate::exec::subject::tests::{Tree, argv};
use crate::protocol::policy::{Ask, Fence, Security};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

fn entry(pattern: &str, arg_pattern: Option<&str>, source: Option<&str>) -> AllowEntry {
    AllowEntry {
        id: String::new(),
        pattern: pattern.to_owned(),
        arg_pattern: arg_pattern.map(str::to_owned),
        source: source.map(str::to_owned),
    }
}

fn policy(patterns: &[&str]) -> EffectivePolicy {
    EffectivePolicy {
        security: Security::Allowlist,
        ask: Ask::OnMiss,
        ask_fallback: Security::Deny,
        auto_allow_skills: false,
        allowlist: patterns.iter().map(|pattern| entry(pattern, None, None)).collect(),
        denylist: Vec::new(),
        fence: Fence::State,
        trust_gateway_approvals: false,
        broken: None,
        snapshot: String::new(),
    }
}

/// `matches` on the small machine; `$` in a pattern is its root.
fn verdict(tree: &Tree, subject: &Subject, entries: &[AllowEntry]) -> Result<By, String> {
    let mut policy = policy(&[]);
    policy.allowlist = entries.to_vec();
    for entry in &mut policy.allowlist {
        entry.pattern = entry.pattern.replace('$', tree.root.to_str().unwrap());
    }
    let safe = SafeBins { directories: vec![tree.root.join("sys")], ..SafeBins::default() };
    matches(subject, &tree.work(), &tree.host.home, &policy, &safe, &[])
}

fn allows(tree: &Tree, command: &str, patterns: &[&str]) -> bool {
    let entries: Vec<AllowEntry> = patterns.iter().map(|pattern| entry(pattern, None, None)).collect();
    verdict(tree, &tree.in_text(command), &entries).is_ok()
}

/// A86: case counts, `?` and `*` stay in their directory, `**` does not.
#[test]
fn sec_a86_globs_do_not_overmatch() {
    let tree = Tree::new();
    for pattern in ["$/S?S/ls", "$?sys?ls", "$/*", "$/SYS/ls", "$/sys/LS", "$/sys/l", "$/sys", "$/sys/ls/", "/**/lss"] {
        assert!(!allows(&tree, "ls", &[pattern]), "{pattern}");
    }
    for pattern in ["$/sys/l?", "$/s?s/*", "$/**", " $/sys/ls ", "ls", "l?", "*", "**"] {
        assert!(allows(&tree, "ls", &[pattern]), "{pattern}");
    }
}

/// A87: the canonical path is what matches, however the program was called.
#[test]
fn sec_a87_dot_segments() {
    let tree = Tree::new();
    tree.program("here/evil");
    let root = tree.root.to_str().unwrap();
    for called in ["sys/../here/evil", "sys/.././here/evil", "/sys/..//here/evil"] {
        assert!(
            !allows(&tree, &format!("{root}/{called}"), &["$/sys/**", "$/sys/*", "$/sys/../here/evil"]),
            "{called}"
        );
        assert!(allows(&tree, &format!("{root}/{called}"), &["$/here/evil"]), "{called}");
    }
    // `..` behind a link is the kernel's `..`.
    tree.program("here/tool");
    tree.program("far/tool");
    std::fs::create_dir_all(tree.root.join("far/off")).unwrap();
    symlink(tree.root.join("far/off"), tree.root.join("here/link")).unwrap();
    assert!(!allows(&tree, "link/../tool", &["$/here/**"]) && allows(&tree, "link/../tool", &["$/far/tool"]));
}

/// A88: a bare name is only what the search path has under it.
#[test]
fn sec_a88_bare_names() {
    let tree = Tree::new();
    for place in ["here/rg", "here/sub/rg"] {
        tree.program(place);
    }
    assert!(allows(&tree, "rg x", &["rg"]) && allows(&tree, "nice rg x", &["rg"]));
    for command in ["./rg", "sub/rg", &format!("{}/bin/rg", tree.root.display())] {
        assert!(!allows(&tree, command, &["rg", "r?"]), "{command}");
    }
    assert!(!allows(&tree, "rg", &["$/here/rg"]), "the working directory is no part of the search path");
    tree.program("here/script");
    assert!(!allows(&tree, "bash script", &["script", "bash"]), "nor is a shell's script");
    assert!(allows(&tree, "bash script", &["$/here/script"]));
}

/// A89: trust is in the real file, so that a link that leads elsewhere now has none.
#[test]
fn sec_a89_retargeted_links() {
    let tree = Tree::new();
    let link = tree.root.join("here/l");
    symlink(tree.root.join("sys/ls"), &link).unwrap();
    assert!(allows(&tree, "./l", &["$/sys/ls"]) && !allows(&tree, "./l", &["$/here/l"]));
    std::fs::remove_file(&link).unwrap();
    tree.program("here/other");
    symlink("other", &link).unwrap();
    assert!(!allows(&tree, "./l", &["$/sys/ls", "$/here/l"]));
}

/// A96: no character of a pattern is one of another language.
#[test]
fn sec_a96_patterns_are_literal() {
    let tree = Tree::new();
    tree.program("bin/g++");
    tree.program("bin/a(b");
    assert!(allows(&tree, "g++", &["$/bin/g++"]) && allows(&tree, "a(b", &["$/bin/a(b"]));
    for pattern in ["[", "\\", "\\\\", "(", "$/bin/l[s]", "$/bin/.*", "$/sys/(ls)", "$/sys/ls|x", "^ls$", ""] {
        assert!(!allows(&tree, "ls", &[pattern]), "{pattern}");
    }
    let started = Instant::now();
    assert!(!allows(&tree, "ls", &[&format!("{}/x", "**/".repeat(50))]));
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// h.2-9, A78, A83: an entry for a wrapper allows nothing that it starts, and nothing allows what is
/// only for a person.
#[test]
fn sec_a78_a83_entries_for_wrappers() {
    let tree = Tree::new();
    let all = ["*", "**", "$/**", "env", "tr", "sudo", "xargs", "npx", "sh", "bash"];
    for command in [
        "env -S ls",
        "env A=1 ls",
        "sudo ls",
        "xargs ls",
        "npx tool",
        "sh -c ls",
        "nosuch",
        "./missing",
        "eval ls",
        "nice bash",
        "find . -exec ls",
    ] {
        let refusal =
            verdict(&tree, &tree.in_text(command), &all.map(|pattern| entry(pattern, None, None))).unwrap_err();
        assert!(!refusal.is_empty() && !refusal.contains('\n'), "{command}");
    }
    assert!(!allows(&tree, "env ls", &["$/sys/env", "env"]) && allows(&tree, "env ls", &["ls"]));
}

/// A93: code in arguments needs an entry that names them; the first that names the
/// arguments wins.
#[test]
fn entries_with_argument_patterns() {
    let tree = Tree::new();
    let code = tree.alone("python3 -c x");
    let exact = entry("$/bin/python3.11", Some("^-c x$"), None);
    assert!(verdict(&tree, &code, &[entry("*", None, None), entry("$/bin/python3.11", None, None)]).is_err());
    assert!(matches!(verdict(&tree, &code, &[entry("*", None, None), exact]), Ok(By::Entry(_))));
    let rg = tree.alone("rg foo");
    let plain = entry("rg", None, None);
    let named = entry("rg", Some("^foo$"), None);
    let Ok(By::Entry(winner)) = verdict(&tree, &rg, &[plain.clone(), named.clone()]) else { panic!() };
    assert_eq!(winner, named);
    let Ok(By::Entry(winner)) = verdict(&tree, &rg, &[entry("rg", Some("^bar$"), None), plain.clone()]) else {
        panic!()
    };
    assert_eq!(winner, plain);
    for useless in [
        entry("rg", None, Some(ALLOW_ALWAYS)),
        entry("rg", Some("^foo$"), Some(ALLOW_ALWAYS)),
        entry("*", Some("^foo$"), None),
        entry("=command:0123456789abcdef", None, None),
        entry("=node-command:0123456789abcdef", None, Some(ALLOW_ALWAYS)),
        entry("rg", Some("["), None),
    ] {
        assert!(verdict(&tree, &rg, std::slice::from_ref(&useless)).is_err(), "{useless:?}");
    }
    let hash = arguments::arguments_hash(&rg.argv, &tree.work());
    assert!(verdict(&tree, &rg, &[entry("rg", Some(&hash), Some(ALLOW_ALWAYS))]).is_ok());
}

/// A77, A79, A90: the file, the directory and the words decide. A planted link of the name does not.
#[test]
fn safe_bins_by_file_and_words() {
    let tree = Tree::new();
    assert_eq!(verdict(&tree, &tree.alone("head -n 5"), &[]), Ok(By::SafeBin));
    assert_eq!(verdict(&tree, &tree.alone("nice head -n 5"), &[]), Ok(By::SafeBin));
    for command in ["head x", "head -n *", "HEAD -n 5", "./head", "cat", "env A=1 head"] {
        assert!(verdict(&tree, &tree.alone(command), &[]).is_err(), "{command}");
    }
    symlink(tree.root.join("sys/cat"), tree.root.join("bin/head")).unwrap();
    assert!(verdict(&tree, &tree.alone("head -n 5"), &[]).is_err(), "a link to another program");
    std::fs::remove_file(tree.root.join("bin/head")).unwrap();
    tree.program("bin/head");
    assert!(verdict(&tree, &tree.alone("head -n 5"), &[]).is_err(), "a file elsewhere");
    assert_eq!(verdict(&tree, &tree.in_text("cd x"), &[]), Ok(By::SafeBuiltin));
    // The system's own link to a file of that name.
    tree.program("lib/wc");
    std::fs::remove_file(tree.root.join("sys/wc")).unwrap();
    assert!(verdict(&tree, &tree.alone("../lib/wc -l"), &[]).is_err());
    symlink(tree.root.join("lib/wc"), tree.root.join("sys/wc")).unwrap();
    assert_eq!(verdict(&tree, &tree.alone("wc -l"), &[]), Ok(By::SafeBin));
}

/// Only by its bare name and only the very file, and only if the policy says so.
#[test]
fn skills() {
    let tree = Tree::new();
    let bin = |path: &str| [SkillBin { name: "rg".to_owned(), path: tree.root.join(path) }];
    let of = |command: &str, auto: bool, path: &str| {
        let policy = EffectivePolicy { auto_allow_skills: auto, ..policy(&[]) };
        matches(&tree.alone(command), &tree.work(), &tree.host.home, &policy, &SafeBins::default(), &bin(path)).ok()
    };
    assert_eq!(of("rg x", true, "bin/rg"), Some(By::Skill));
    assert_eq!(of("env rg x", true, "bin/rg"), Some(By::Skill));
    for (command, auto, path) in
        [("rg x", false, "bin/rg"), ("rg x", true, "sys/ls"), ("../bin/rg", true, "bin/rg"), ("cargo", true, "bin/rg")]
    {
        assert_eq!(of(command, auto, path), None, "{command}");
    }
}

fn bound(path: &str) -> BoundFile {
    let identity = crate::state::files::Stamp { device: 0, inode: 0, size: 0, mtime_ns: 0, ctime_ns: 0 };
    BoundFile { path: path.into(), identity, sha256: None }
}

fn executable(path: &str, interpreter: Option<&str>) -> Executable {
    Executable { file: bound(path), interpreters: interpreter.map(bound).into_iter().collect() }
}

/// `nice rm -rf x` of a shell text, with an interpreter and a script thrown in.
fn plan() -> Plan {
    let subject = Subject {
        argv: argv("rm -rf x"),
        executable: Some(executable("/usr/bin/rm", Some("/opt/interp"))),
        nature: Nature::Plain,
        wrappers: vec![executable("/usr/bin/nice", None)],
        operand: Some(Operand { index: 1, file: bound("/w/script.py") }),
        unbound: None,
    };
    let stage = Stage {
        argv: argv("nice rm -rf x"),
        program: Program::File(executable("/usr/bin/nice", None)),
        stdout: Sink::Output,
        stderr: Sink::Error,
        subject,
    };
    let step = Step { after: After::Always, is_negated: false, directory: None, stages: vec![stage] };
    Plan {
        argv: ["./l/sh", "-c", "nice rm -rf x"].map(str::to_owned).to_vec(),
        executable: Some(executable("/usr/bin/dash", None)),
        work: Work::Steps(vec![step]),
        form: Form::Shell,
        cwd: "/w".into(),
        cwd_identity: Ok((0, 0)),
        home: "/home/u".into(),
        env: BTreeMap::new(),
        overrides: BTreeMap::new(),
        command_text: "./l/sh -c \"nice rm -rf x\"".to_owned(),
        command_preview: Some("nice rm -rf x".to_owned()),
        agent_id: None,
        session_key: None,
        timeout: None,
        needs_screen_recording: false,
    }
}

/// A denial is found wherever the program or the text takes part, and nothing else denies.
#[test]
fn the_denylist_sees_everything_that_takes_part() {
    let of = |entry: DenyEntry| {
        let policy = EffectivePolicy { denylist: vec![entry], ..policy(&["*"]) };
        denied(&plan(), &policy).is_some()
    };
    for program in [
        "rm",
        "/usr/bin/rm",
        "/usr/bin/nice",
        "nice",
        "/usr/bin/dash",
        "dash",
        "/w/./l/sh",
        "sh",
        "/opt/*",
        "interp",
        "/w/script.py",
        "*",
        " r? ",
    ] {
        assert!(of(DenyEntry::Program(program.to_owned())), "{program}");
    }
    for program in ["ls", "/other/rm", "RM", "", "/usr/*", "m"] {
        assert!(!of(DenyEntry::Program(program.to_owned())), "{program}");
    }
    for command in ["*rm -rf*", "rm *", "rm -?f x", "./l/sh -c 'nice rm -rf x'", "nice rm*", "*/sh*", "*"] {
        assert!(of(DenyEntry::Command(command.to_owned())), "{command}");
    }
    for command in ["rm", "rm -rf", "*RM*", "", "rm -rf ??", "*y"] {
        assert!(!of(DenyEntry::Command(command.to_owned())), "{command}");
    }
    let opaque = Plan { work: Work::Opaque(NotUnderstood { reason: String::new(), position: 0 }), ..plan() };
    let policy = EffectivePolicy { denylist: vec![DenyEntry::Command("*rm -rf*".to_owned())], ..policy(&[]) };
    assert!(denied(&opaque, &policy).is_some());
}

#[test]
fn wildcards_over_commands_take_bounded_time() {
    let is_like = shell::is_like;
    assert!(is_like("a*b?c*", "axxbxb/c !") && is_like("**", "") && is_like("*a*a*a", "aaaa") && !is_like("a?", "a"));
    let started = Instant::now();
    assert!(!is_like(&"*a".repeat(200), &format!("{}b", "a".repeat(50_000))));
    assert!(started.elapsed() < Duration::from_secs(5));
}
