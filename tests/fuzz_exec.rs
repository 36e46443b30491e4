//! What reads texts of strangers, against everything that mutation finds (H23): nothing panics, nothing takes long, and
//! each target's own invariants hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_fuzz;

use openclaw::exec::analysis::{Host, analyse};
use openclaw::exec::display::{self, quoted};
use openclaw::exec::matching::SafeBins;
use openclaw::exec::plan::{Program, Work};
use openclaw::exec::policy::{Judgement, Outcome, Rules, table};
use openclaw::exec::{arguments, glob};
use openclaw::identity::envelope::{answer_is_proven, prove_answer, request_mac, request_mac_is};
use openclaw::identity::random;
use openclaw::identity::secret::Secret;
use openclaw::limits;
use openclaw::protocol::exec_host::{BadLine, Request, exec_line, parse_answer, parse_line};
use openclaw::protocol::node::{RunRequest, RunResult, RunSource, parse_run};
use openclaw::protocol::policy::{Ask, Fence, Security};
use openclaw::protocol::{frame, text};
use openclaw::state::approvals::wire::Form;
use openclaw::state::approvals::{AllowEntry, ApprovalsDocument, EffectivePolicy};
use openclaw::state::{Environment, StateDir};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support_fuzz::{Random, for_a_while, fuzz, trace};

/// A directory that is removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().canonicalize().unwrap().join(format!("ocf-{}", random::uuid()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// ---- shell text ----

/// Programs that an allowlist names here, in a directory of their own.
const LISTED: &[&str] = &["git", "ls", "cargo", "echo", "rg"];
const UNLISTED: &[&str] = &["rm", "sh", "bash", "env", "nice", "python3", "xargs", "npm", "sudo"];

#[rustfmt::skip]
const SHELL_WORDS: &[&str] = &[
    "'", "\"", "\\", "$", "`", "~", "*", "?", "[", "]", "{", "}", "(", ")", "<", ">", "|", "&", ";", "#", "!", "=", "\n",
    " ", "\t", "\r", "\0", "\u{b}", "\u{a0}", "&&", "||", "2>&1", ">/dev/null", "2>/dev/null", "$(", "${", "$HOME",
    "${PWD}", "$((", "$'", "$\"", "<<EOF\n", "<(", "&>", ">>", "|&", ";;", "ls", "git status", "cargo test", "echo ",
    "rm -rf /", "sh -c ", "bash -lc ", "env -i ", "nice ", "cd ", "cd sub && ", "pwd", "true", "test -f x", "[ a ]",
    "time ", "if ", "then ", "fi", "done", "for x in ", "xargs rm", "./x", "../", "sub/*", "-", "--", "A=b ", "~root",
    "command ", "exec ", ". ./a", "eval ", "\\\n", "\u{202e}", "\u{feff}", "é",
];

/// A machine with these programs only, and files to find.
fn machine(scratch: &Scratch) -> Host {
    for directory in ["bin", "home", "work", "work/sub"] {
        fs::create_dir(scratch.0.join(directory)).unwrap();
    }
    for name in [LISTED, UNLISTED].concat() {
        let path = scratch.0.join("bin").join(name);
        fs::write(&path, b"\x7fELF").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["a", "b c", "-n", "sub/x.rs", "sub/;"] {
        fs::write(scratch.0.join("work").join(name), "").unwrap();
    }
    Host {
        home: scratch.0.join("home"),
        user: "u".into(),
        shell: "/bin/sh".into(),
        search_path: vec![scratch.0.join("bin")],
        system_directories: vec![scratch.0.join("bin")],
        inherited: BTreeMap::new(),
        open_files: None,
    }
}

fn rules(scratch: &Scratch) -> Rules {
    let entry = |name: &&str| AllowEntry {
        id: (*name).to_owned(),
        pattern: scratch.0.join("bin").join(name).to_str().unwrap().to_owned(),
        arg_pattern: None,
        source: None,
    };
    let policy = EffectivePolicy {
        security: Security::Allowlist,
        ask: Ask::OnMiss,
        ask_fallback: Security::Deny,
        auto_allow_skills: false,
        allowlist: LISTED.iter().map(entry).collect(),
        denylist: Vec::new(),
        fence: Fence::State,
        trust_gateway_approvals: false,
        broken: None,
        snapshot: String::new(),
    };
    Rules { policy, safe_bins: Arc::new(SafeBins::default()), skills: Vec::new(), strict_inline_eval: false }
}

/// Whatever runs without a question runs without a shell: only listed programs are started, and no character with a
/// meaning to a shell is in a word unless the text quotes it or a file is called so.
#[test]
fn sec_h23_shell_text() {
    let scratch = Scratch::new();
    let (host, rules) = (machine(&scratch), rules(&scratch));
    let work = scratch.0.join("work").to_str().unwrap().to_owned();
    let target = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let command = vec!["sh".to_owned(), "-c".to_owned(), text.clone()];
        let request = RunRequest { command, cwd: Some(work.clone()), ..RunRequest::default() };
        let Ok(plan) = analyse(&request, &host) else { panic!("an argument vector has no claims: {text:?}") };
        if let Work::Opaque(why) = &plan.work {
            assert!(why.position <= text.len() && text.is_char_boundary(why.position), "{text:?}: {why:?}");
            assert!(!why.reason.is_empty());
            return trace(&why.reason);
        }
        let judgement = Judgement::of(&plan, &rules);
        assert!(!judgement.sentence().is_empty());
        if judgement.is_satisfied() {
            for stage in plan.stages() {
                assert_allowed(&text, &stage.program, &stage.argv, &host);
            }
        }
        let Work::Steps(steps) = &plan.work else { unreachable!() };
        let shape: Vec<_> = steps.iter().map(|step| (format!("{:?}", step.after), step.stages.len())).collect();
        let words: Vec<_> =
            plan.stages().map(|stage| (stage.argv.len().min(4), format!("{:?}", stage.stderr))).collect();
        trace((shape, words, judgement.is_satisfied(), judgement.sentence().len()))
    };
    fuzz("shell", 16_000, SHELL_WORDS, target);
}

fn assert_allowed(text: &str, program: &Program, argv: &[String], host: &Host) {
    match program {
        Program::Missing => panic!("{text:?}: {argv:?} is allowed and there is no such program"),
        Program::Builtin(_) => {}
        Program::File(executable) => {
            let listed = |name: &str| host.search_path[0].join(name) == executable.file.path;
            // `test` and `[` are the system's; there are none here.
            assert!(LISTED.iter().any(|name| listed(name)), "{text:?}: {:?}", executable.file.path);
        }
    }
    if !text.contains(['\'', '"', '\\', '*', '?', '[']) {
        let is_syntax = |c: char| "|&;<>()`\n".contains(c);
        assert!(!argv.iter().any(|word| word.contains(is_syntax)), "{text:?} hands on {argv:?}");
    }
}

// ---- allowlist patterns ----

#[rustfmt::skip]
const PATTERN_WORDS: &[&str] = &[
    "*", "**", "?", "/", "/usr/bin/", "/home/u", "~", "~/", ".", "..", "/../", "\\", "\\\\", "[", "]", "{a,b}", "\n", " ",
    "/private/var/", "/var", "a", "rg", "RG", "é", "\u{1F4A5}", "\u{2028}", "\r", "\0", "!",
];

/// The documented meaning once more, by recursion over a table.
fn is_match(pattern: &str, target: &str) -> bool {
    let (pattern, target): (Vec<u16>, Vec<u16>) = (pattern.encode_utf16().collect(), target.encode_utf16().collect());
    // reach[i][j]: the pattern from i on matches the target from j on.
    let mut reach = vec![vec![false; target.len() + 1]; pattern.len() + 1];
    reach[pattern.len()][target.len()] = true;
    for i in (0..pattern.len()).rev() {
        let is_run = pattern[i] == u16::from(b'*');
        let is_long = is_run && pattern.get(i + 1) == Some(&u16::from(b'*'));
        // The second half of `**` is no beginning.
        let is_inner = i > 0 && is_run && pattern[..i].iter().rev().take_while(|unit| **unit == 42).count() % 2 == 1;
        for j in (0..=target.len()).rev() {
            let unit = target.get(j).copied();
            reach[i][j] = match (is_inner, is_long, is_run) {
                (true, ..) => false,
                (_, true, _) => {
                    reach[i + 2][j]
                        || unit.is_some_and(|unit| ![10, 13, 0x2028, 0x2029].contains(&unit) && reach[i][j + 1])
                }
                (_, _, true) => reach[i + 1][j] || unit.is_some_and(|unit| unit != 47 && reach[i][j + 1]),
                _ if pattern[i] == u16::from(b'?') => unit.is_some_and(|unit| unit != 47 && reach[i + 1][j + 1]),
                _ => unit == Some(pattern[i]) && reach[i + 1][j + 1],
            };
        }
    }
    reach[0][0]
}

#[test]
fn sec_h23_glob() {
    let target = |bytes: &[u8]| {
        let both = String::from_utf8_lossy(bytes);
        let (pattern, target) = both.split_once('\t').unwrap_or((&both, "/usr/bin/rg"));
        let home = Path::new("/home/u");
        let ours = [false, true].map(|private| glob::matches_path(pattern, target, home, private));
        let trimmed = pattern.trim();
        let expanded = match trimmed.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/home/u{rest}"),
            _ => trimmed.to_owned(),
        };
        let expanded = expanded.replace("\\\\", "/");
        let has_wildcard = expanded.contains(['*', '?']);
        let climbs = target.split('/').any(|part| part == "." || part == "..");
        let is_hopeless = trimmed.is_empty() || (has_wildcard && climbs);
        let expected = !is_hopeless && is_match(&expanded, target);
        assert_eq!(ours[0], expected, "{pattern:?} on {target:?}");
        assert!(!ours[0] || has_wildcard || expanded == target, "{pattern:?} on {target:?}");
        let (name_matches, is_name) = (glob::matches_name(pattern, target), glob::is_name_pattern(trimmed));
        assert!(!name_matches || is_name && is_match(trimmed, target), "{pattern:?} on {target:?}");
        trace((ours, name_matches, is_name, climbs, trimmed.len().min(12), target.len().min(12)))
    };
    fuzz("glob", 40_000, PATTERN_WORDS, target);
}

#[rustfmt::skip]
const EXPRESSION_WORDS: &[&str] = &[
    "^", "$", "(", ")", "(?:", "(?=", "|", "*", "+", "?", "{2}", "{1,}", "{0,3}", "{9999}", "[", "]", "[^", "-", "\\d",
    "\\w", "\\s", "\\b", "\\B", "\\", "\\n", "\\u0041", "\\1", ".", ".*", "a", "status", " ", "\0", "é", "sha256:argv:",
    "sha256:cwd-argv:v1:",
];

/// An expression of letters only is found where the letters are; with `^` and `$`, only where they are all.
#[test]
fn sec_h23_arg_patterns() {
    let target = |bytes: &[u8]| {
        let both = String::from_utf8_lossy(bytes);
        let (pattern, rest) = both.split_once('\t').unwrap_or((&both, "status --short"));
        let words: Vec<String> = rest.split(' ').map(str::to_owned).collect();
        let cwd = Path::new("/work");
        let ours = arguments::matches(pattern, &words, cwd);
        if pattern.chars().all(|c| c.is_alphanumeric() || c == ' ') {
            assert_eq!(ours, rest.contains(pattern), "{pattern:?} on {rest:?}");
        }
        let exact = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
        if let Some(exact) = exact.filter(|exact| exact.chars().all(|c| c.is_alphanumeric() || c == ' ')) {
            assert_eq!(ours, rest == exact, "{pattern:?} on {rest:?}");
        }
        let hash = arguments::arguments_hash(&[vec!["x".to_owned()], words.clone()].concat(), cwd);
        assert!(arguments::matches(&hash, &words, cwd) && !arguments::matches(&hash, &words, Path::new("/other")));
        trace((ours, pattern.len().min(40), words.len().min(8)))
    };
    fuzz("arg-pattern", 20_000, EXPRESSION_WORDS, target);
}

// ---- display ----

#[rustfmt::skip]
const DISPLAY_WORDS: &[&str] = &[
    "\0", " ", "'", "'\\''", "$'", "\\", "\\u{A}", "\\u{", "}", "\n", "\r", "\t", "\u{1b}[2J", "\u{1b}]52;c;", "\u{7}",
    "\u{9b}", "\u{7f}", "\u{200b}", "\u{202e}", "\u{2066}", "\u{feff}", "\u{ad}", "\u{e0061}", "\u{2028}", "\u{a0}",
    "\u{3000}", "\u{2800}", "\u{fe0f}", "\u{1F4A5}", "é", "rm", "-rf", "/", "$HOME", "`id`", "\"", "#", "=", "~",
];

/// Reads back what a person is shown.
fn decode(shown: &str) -> Vec<String> {
    let mut argv = Vec::new();
    let mut rest = shown;
    while !rest.is_empty() {
        let mut word = String::new();
        while !rest.is_empty() && !rest.starts_with(' ') {
            if let Some(escaped) = rest.strip_prefix("$'") {
                rest = decode_escapes(escaped, &mut word);
            } else if let Some(literal) = rest.strip_prefix('\'') {
                let (inside, after) = literal.split_once('\'').expect("an open quote");
                word.push_str(inside);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("\\'") {
                word.push('\'');
                rest = after;
            } else {
                let character = rest.chars().next().unwrap();
                assert!(!"\"\\$`;&|<>()*?[]{}!#~".contains(character), "{character} without quotes: {shown}");
                word.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
        argv.push(word);
        match rest.strip_prefix(' ') {
            Some("") => panic!("a blank at the end: {shown}"),
            Some(after) => rest = after,
            None => break,
        }
    }
    argv
}

fn decode_escapes<'a>(mut rest: &'a str, word: &mut String) -> &'a str {
    loop {
        if let Some(hex) = rest.strip_prefix("\\u{") {
            let (code, after) = hex.split_once('}').unwrap();
            word.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\\') {
            let character = after.chars().next().unwrap();
            assert!("\\'".contains(character));
            word.push(character);
            rest = &after[1..];
        } else if let Some(after) = rest.strip_prefix('\'') {
            return after;
        } else {
            let character = rest.chars().next().expect("an open quote");
            word.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
}

/// What is shown is one line without a character that hides, is never empty, and means one argument vector only.
#[test]
fn sec_h23_display() {
    let target = |bytes: &[u8]| {
        let raw = String::from_utf8_lossy(bytes);
        let argv: Vec<String> = raw.split('\0').map(str::to_owned).collect();
        let shown = quoted(&argv);
        assert!(!shown.is_empty() && !shown.contains(text::is_hidden), "{shown:?}");
        assert_eq!(text::visible(&shown), shown);
        assert_eq!(decode(&shown), argv, "{shown}");
        let visible = text::visible(&raw);
        assert!(!visible.contains(text::is_hidden) && visible.is_empty() == raw.is_empty());
        let cut = text::prefix(&raw, bytes.len() / 2);
        assert!(raw.starts_with(cut) && cut.len() + 4 > raw.len().min(bytes.len() / 2));
        let canonical = display::canonical(&argv);
        assert!(!canonical.is_empty() || argv.iter().all(|word| word.is_empty()) || raw == "\u{0}", "{argv:?}");
        // Long texts take time.
        if shown.len().is_multiple_of(16) {
            let output = raw.repeat(1 + limits::EVENT_OUTPUT_UNITS / (raw.len() + 1));
            let tail = display::output_tail(&RunResult { stdout: output, ..RunResult::default() });
            assert!(tail.encode_utf16().count() <= limits::EVENT_OUTPUT_UNITS + 16 || raw.trim().is_empty());
        }
        let kinds: Vec<_> =
            argv.iter().take(4).map(|word| (word.len().min(6), word.contains(text::is_hidden))).collect();
        trace((argv.len().min(8), kinds, shown.len().min(30), visible.len().min(30)))
    };
    fuzz("display", 20_000, DISPLAY_WORDS, target);
}

// ---- approvals document ----

#[rustfmt::skip]
const DOCUMENT_WORDS: &[&str] = &[
    "{", "}", "[", "]", ",", ":", "\"", "\\", "null", "true", "false", "0", "1", "2", "1.0", "-1", "1e3", "\t",
    "\"version\":1", "\"version\":2", "\"socket\":", "\"token\":", "\"path\":", "\"defaults\":{", "\"agents\":{",
    "\"*\":{", "\"main\":{", "\"default\":{", "\"other\":{", "\"__proto__\":{", "\"security\":", "\"ask\":",
    "\"askFallback\":", "\"autoAllowSkills\":", "\"fence\":", "\"allowlist\":[", "\"denylist\":[", "\"pattern\":",
    "\"argPattern\":", "\"command\":", "\"id\":", "\"source\":\"allow-always\"", "\"lastUsedAt\":", "\"local\":{",
    "\"trustGatewayApprovals\":", "\"remoteEdits\":", "\"deny\"", "\"allowlist\"", "\"full\"", "\"off\"", "\"on-miss\"",
    "\"always\"", "\"none\"", "\"state\"", "\"offline\"", "\"allow\"", "\"/bin/ls\"", "\"*\"", "\"fu\\u006cl\"",
    "\"\\ud800\"", "\u{feff}",
];

const AGENTS: &[Option<&str>] = &[None, Some("main"), Some("default"), Some("other"), Some("*"), Some("nobody")];

/// Whether `new` may let something run, or run further, that `old` does not.
fn is_looser(old: &EffectivePolicy, new: &EffectivePolicy) -> bool {
    let reach = |policy: &EffectivePolicy, satisfied: bool| match table(policy.security, policy.ask, satisfied) {
        Outcome::Disabled | Outcome::Miss => 0,
        // A question lets run what a person or the fall-back allows.
        Outcome::Ask
            if policy.ask_fallback == Security::Full || (policy.ask_fallback == Security::Allowlist && satisfied) =>
        {
            2
        }
        Outcome::Ask => 1,
        Outcome::Run => 2,
    };
    let key = |entry: &AllowEntry| (entry.pattern.clone(), entry.arg_pattern.clone(), entry.source.clone());
    [true, false].into_iter().any(|satisfied| reach(new, satisfied) == 2 && reach(old, satisfied) < 2)
        || new.security > old.security
        || new.fence < old.fence
        || (new.auto_allow_skills && !old.auto_allow_skills)
        || (new.trust_gateway_approvals && !old.trust_gateway_approvals)
        || new.allowlist.iter().any(|entry| !old.allowlist.iter().any(|known| key(known) == key(entry)))
        || old.denylist.iter().any(|entry| !new.denylist.contains(entry))
}

fn document_place(scratch: &Scratch) -> StateDir {
    let environment = Environment { state_dir: Some(scratch.0.join("s")), ..Environment::default() };
    let state = StateDir::locate(&environment).unwrap();
    state.prepare().unwrap();
    state
}

/// The document with these bytes.
fn stored(state: &StateDir, bytes: &[u8]) -> ApprovalsDocument {
    let _ = fs::remove_file(state.approvals());
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(state.approvals()).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    ApprovalsDocument::for_inspection(state)
}

/// A text that is not a document denies everything; one that is says what its words say; a claimed agent gets nothing
/// that everybody has not; and an edit that is said to loosen nothing loosens nothing. An input is the stored text and,
/// behind a tab, what a peer wants to put in its place.
#[test]
fn sec_h23_approvals_document() {
    let scratch = Scratch::new();
    let state = document_place(&scratch);
    let opened = |bytes: &[u8]| stored(&state, bytes);
    let (believed, edits) = (Cell::new(0), Cell::new(0));
    let target = |bytes: &[u8]| {
        let mut parts = bytes.splitn(2, |byte| *byte == b'\t');
        let text = parts.next().unwrap_or_default();
        let document = opened(text);
        let base = document.effective(None, true);
        if let Some(why) = &base.broken {
            for agent in AGENTS {
                let policy = document.effective(*agent, true);
                let nothing =
                    (policy.security, policy.ask_fallback, policy.auto_allow_skills, policy.trust_gateway_approvals);
                assert_eq!(nothing, (Security::Deny, Security::Deny, false, false));
                assert!(policy.allowlist.is_empty() && policy.broken.is_some());
            }
            assert!(document.socket_token().is_err() && document.snapshot(Form::Whole).is_err());
            assert!(!document.wants_skills());
            return trace(why.chars().filter(|c| !c.is_ascii_digit()).collect::<String>());
        }
        believed.set(believed.get() + 1);
        let value: Value = serde_json::from_slice(text).expect("what is believed is JSON");
        assert_eq!(value["version"].as_f64(), Some(1.0));
        let says = |word: &str| value.to_string().contains(word);
        let mut shape = Vec::new();
        for agent in AGENTS {
            let [claimed, trusted] = [false, true].map(|trusted| document.effective(*agent, trusted));
            assert!(!is_looser(&base, &claimed), "{agent:?} is only a claim: {value}");
            assert!(trusted.security < Security::Full || says("\"full\""), "{value}");
            assert!(trusted.ask > Ask::Off || says("\"off\""), "{value}");
            assert!(trusted.fence > Fence::None || says("\"none\""), "{value}");
            assert!(trusted.ask_fallback == Security::Deny || says("askFallback"), "{value}");
            shape.push(format!(
                "{:?}{:?}{}{}",
                trusted.security,
                trusted.ask,
                trusted.allowlist.len(),
                trusted.denylist.len()
            ));
        }
        // As a peer gets it: of the socket only its path.
        for form in [Form::Whole, Form::Wire] {
            let shown = document.snapshot(form).expect("what is believed can be shown").file;
            assert!(
                !document.socket_token().is_ok_and(|token| shown.to_string().contains(token.expose_text())),
                "{shown}"
            );
            let unchanged =
                document.propose(Some(&shown), Some(&document.hash()), form).expect("an edit that changes nothing");
            assert_eq!(unchanged.loosened, Vec::<String>::new(), "{value}");
        }
        if let Some(Ok(file)) = parts.next().map(serde_json::from_slice::<Value>)
            && let Ok(edit) = document.propose(Some(&file), Some(&document.hash()), Form::Whole)
        {
            edits.set(edits.get() + 1);
            let before: Vec<_> = effective_of_all(&document);
            let mut new = file.clone();
            for kept in ["socket", "local"] {
                let members = new.as_object_mut().unwrap();
                members.remove(kept);
                members.extend(value.get(kept).map(|kept_value| (kept.to_owned(), kept_value.clone())));
            }
            let after = effective_of_all(&opened(new.to_string().as_bytes()));
            let looser = before.iter().zip(&after).any(|(old, new)| is_looser(old, new));
            assert!(!looser || !edit.loosened.is_empty(), "{value} becomes {file}");
            shape.push(format!("{:?}", edit.loosened.iter().map(|text| text.len()).collect::<Vec<_>>()));
        }
        trace(shape)
    };
    fuzz("approvals", 2_000, DOCUMENT_WORDS, target);
    println!("{} documents were believed, {} edits possible", believed.get(), edits.get());
    assert!(believed.get() > 100 && edits.get() > 50);
}

fn effective_of_all(document: &ApprovalsDocument) -> Vec<EffectivePolicy> {
    let both = |agent: &Option<&str>| [false, true].map(|trusted| document.effective(*agent, trusted));
    AGENTS.iter().flat_map(both).collect()
}

/// A document that is one, of a few words each.
fn some_document(random: &mut Random) -> Value {
    let level = |random: &mut Random, has_allowlist: bool| {
        let mut level = serde_json::Map::new();
        for (name, words) in [
            ("security", &["deny", "allowlist", "full"][..]),
            ("ask", &["off", "on-miss", "always"]),
            ("askFallback", &["deny", "allowlist", "full"]),
            ("fence", &["state", "workspace", "offline", "none"]),
        ] {
            if random.one_in(2) {
                level.insert(name.to_owned(), random.pick(words).into());
            }
        }
        if random.one_in(3) {
            level.insert("autoAllowSkills".to_owned(), random.one_in(2).into());
        }
        for (name, is_there) in [("allowlist", has_allowlist), ("denylist", true)] {
            if is_there && random.one_in(2) {
                let count = random.below(3);
                level.insert(name.to_owned(), (0..count).map(|_| some_entry(random, name)).collect());
            }
        }
        Value::Object(level)
    };
    let mut document = json!({ "version": 1 });
    if random.one_in(2) {
        document["defaults"] = level(random, false);
    }
    for agent in ["*", "main", "default", "other"] {
        if random.one_in(2) {
            document["agents"][agent] = level(random, true);
        }
    }
    document
}

fn some_entry(random: &mut Random, list: &str) -> Value {
    let program = random.pick(&["/bin/ls", "/bin/LS", "/bin/*", "rg", "*"]);
    match (list, random.below(4)) {
        (_, 0) => json!(program),
        ("denylist", 1) => json!({ "command": random.pick(&["git push *", "*"]) }),
        ("allowlist", 1) => json!({ "pattern": program, "argPattern": random.pick(&["^a$", ".*", ""]) }),
        ("allowlist", 2) => {
            json!({ "pattern": program, "source": "allow-always", "argPattern": "sha256:cwd-argv:v1:00" })
        }
        _ => json!({ "pattern": program }),
    }
}

/// H15: of two documents that are ones, the step from one to the other is called loosening whenever it is.
#[test]
fn sec_h23_h15_an_edit_that_loosens_is_called_so() {
    let scratch = Scratch::new();
    let state = document_place(&scratch);
    let mut random = Random::new();
    let (mut looser, mut silent) = (0, 0);
    for_a_while("edits", 700, || {
        let (old, mut new) = (some_document(&mut random), some_document(&mut random));
        if random.one_in(2) {
            // A step in one place.
            new = old.clone();
            let agent = random.pick(&["*", "main", "other"]);
            let other = some_document(&mut random);
            match random.below(3) {
                0 => new["defaults"] = other.get("defaults").cloned().unwrap_or_else(|| json!({})),
                _ => new["agents"][agent] = other["agents"].get(agent).cloned().unwrap_or_else(|| json!({})),
            }
        }
        let document = stored(&state, old.to_string().as_bytes());
        assert_eq!(document.effective(None, true).broken, None, "{old}");
        let before = effective_of_all(&document);
        let edit = document
            .propose(Some(&new), Some(&document.hash()), Form::Whole)
            .unwrap_or_else(|error| panic!("{new}: {error}"));
        let after = effective_of_all(&stored(&state, new.to_string().as_bytes()));
        let is_loosened = before.iter().zip(&after).any(|(old, new)| is_looser(old, new));
        assert!(!is_loosened || !edit.loosened.is_empty(), "{old} becomes {new}");
        looser += u32::from(is_loosened);
        silent += u32::from(edit.loosened.is_empty());
    });
    println!("{looser} loosened, {silent} were said not to");
    assert!(looser > 100 && silent > 20);
}

// ---- the exec socket's line ----

#[rustfmt::skip]
const LINE_WORDS: &[&str] = &[
    "{", "}", "[", "]", ",", ":", "\"", "\\", "null", "true", "0", "-1", "1.5", "1e99", "\0", "\u{feff}", "\\u0000",
    "\"type\":\"exec\"", "\"type\":\"request\"", "\"id\":\"i\"", "\"nonce\":\"n\"", "\"nonce\":\"a:1\"", "\"ts\":1700000000000",
    "\"hmac\":\"", "\"requestJson\":\"{\\\"command\\\":[\\\"ls\\\"]}\"", "\\\"command\\\":[\\\"rm\\\"]", "\\\"cwd\\\":\\\"/\\\"",
    "\\\"env\\\":{\\\"A\\\":\\\"b\\\"}", ":1:{", "\\\":1:{\\\"command\\\":[\\\"rm\\\"]}", "\"token\":\"t\"",
    "\"request\":{\"command\":\"ls\"}", ",\"mac\":\"", "\\ud800",
];

/// Nothing but the exact line of somebody who knows the token is believed: one bit more or less, and it is not; nor can
/// the authenticated text be cut elsewhere so that another request comes out.
#[test]
fn sec_h23_hmac_line() {
    let token = Secret::new("dG9rZW4tMjQtYnl0ZXMtYmFzZTY0dXJs".into());
    let stranger = Secret::new("dG9rZW4tMjQtYnl0ZXMtYmFzZTY0dXJt".into());
    let target = |bytes: &[u8]| {
        let (envelope, outcome) = match parse_line(bytes) {
            Ok(Request::Exec(envelope)) => (envelope, "exec"),
            Ok(Request::Prompt(prompt)) => {
                assert!(prompt.id.len() <= limits::EXEC_ID_BYTES);
                assert!(!format!("{prompt:?}").contains("SecretText(\""), "a token in a debug text");
                return trace(("prompt", prompt.request.command.len().min(20), prompt.request.cwd.is_some()));
            }
            Err(BadLine::Silent) => {
                return trace(("silent", serde_json::from_slice::<Value>(bytes).is_ok(), bytes.len().min(40)));
            }
            Err(BadLine::Invalid { id, reason, message }) => {
                return trace((id.map(|id| id.len().min(9)), reason, message));
            }
        };
        let value: Value = serde_json::from_slice(bytes).expect("what is believed is JSON");
        assert_eq!(value["ts"].as_i64(), Some(envelope.ts));
        assert!((1..=limits::NONCE_BYTES).contains(&envelope.nonce.len()));
        let (nonce, ts, json) = (&envelope.nonce, envelope.ts, &envelope.request_json);
        assert!(!request_mac_is(&stranger, nonce, ts, json, &request_mac(&token, nonce, ts, json)));
        // What is written is what is read.
        let line = exec_line(&envelope);
        let Ok(Request::Exec(again)) = parse_line(line.trim_end().as_bytes()) else { panic!("{line}") };
        assert_eq!(
            (&again.id, &again.nonce, again.ts, &again.hmac, &again.request_json),
            (&envelope.id, nonce, ts, &envelope.hmac, json)
        );
        // One bit.
        let mac = request_mac(&token, nonce, ts, json);
        assert!(
            request_mac_is(&token, nonce, ts, json, &mac)
                && !request_mac_is(&token, nonce, ts, json, &mac.to_uppercase())
                || !mac.contains(|c: char| c.is_ascii_lowercase())
        );
        for changed in [format!("{nonce}x"), format!("x{nonce}")] {
            assert!(!request_mac_is(&token, &changed, ts, json, &mac));
        }
        assert!(!request_mac_is(&token, nonce, ts ^ 1, json, &mac));
        assert!(!request_mac_is(&token, nonce, ts, &format!("{json} "), &mac));
        // Cut elsewhere.
        let request = parse_run(json, RunSource::Socket);
        let whole = format!("{nonce}:{ts}:{json}");
        if request.is_ok() {
            let colons: Vec<usize> = whole.match_indices(':').map(|(at, _)| at).take(64).collect();
            for (first, second) in colons.iter().flat_map(|first| colons.iter().map(move |second| (*first, *second))) {
                if first < second
                    && first <= limits::NONCE_BYTES
                    && let Ok(other) = whole[first + 1..second].parse::<i64>()
                    && other.to_string() == whole[first + 1..second]
                    && (other, &whole[second + 1..]) != (ts, json.as_str())
                {
                    assert!(parse_run(&whole[second + 1..], RunSource::Socket).is_err(), "{whole}");
                }
            }
        }
        let request =
            request.map(|request| (request.command.len().min(4), request.env.is_some(), request.cwd.is_some()));
        trace((outcome, request.map_err(|refusal| refusal.message)))
    };
    fuzz("exec-line", 20_000, LINE_WORDS, target);
}

/// An answer is believed with its proof only: any other text than the proven one is not.
#[test]
fn sec_h23_answer_line() {
    let token = Secret::new("dG9rZW4tMjQtYnl0ZXMtYmFzZTY0dXJs".into());
    let target = |bytes: &[u8]| {
        let line = String::from_utf8_lossy(bytes);
        assert!(!answer_is_proven(&token, "nonce", &line), "nobody has signed {line:?}");
        let proven = prove_answer(&token, "nonce", &line);
        let is_object = line.ends_with('}');
        assert_eq!(answer_is_proven(&token, "nonce", &proven), is_object, "{proven:?}");
        if is_object {
            assert!(!answer_is_proven(&token, "other", &proven));
            let flip = bytes.len() / 2;
            let mut changed = proven.clone().into_bytes();
            changed[flip] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(!answer_is_proven(&token, "nonce", &changed), "{changed:?}");
            }
        }
        trace((
            format!("{:?}", parse_answer(&line)).chars().filter(|c| c.is_alphabetic()).take(40).collect::<String>(),
            is_object,
        ))
    };
    fuzz("exec-line", 20_000, LINE_WORDS, target);
}

// ---- frames of the gateway ----

#[rustfmt::skip]
const FRAME_WORDS: &[&str] = &[
    "{", "}", "[", "]", ",", ":", "\"", "\\", "null", "true", "0", "-1", "1e99", "\0", "\\ud800", "\"type\":\"req\"",
    "\"type\":\"res\"", "\"id\":\"1\"", "\"id\":\"\"", "\"method\":\"connect\"", "\"method\":\"node.invoke\"", "\"params\":{}",
    "\"params\":{\"a\":1,\"a\":2}", "\"traceparent\":\"00\"", "\"expectedProfileId\":\"x\"", "\"extra\":1", "[[[[[[[[[[[[[[[[",
];

/// A request is one text with one meaning, and what is relayed passes byte for byte.
#[test]
fn sec_h23_frames() {
    let target = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match frame::parse_request(&text) {
            Ok(request) => {
                let value: Value = serde_json::from_str(&text).expect("a request is JSON");
                assert_eq!((value["type"].as_str(), value["id"].as_str()), (Some("req"), Some(&*request.id)));
                assert!(!request.id.is_empty() && !request.method.is_empty());
                if let Some(params) = request.params {
                    assert!(text.contains(params.get()), "{text}");
                }
                let checked = frame::checked_params("m", request.params, &[]);
                trace((
                    request.method.len().min(20),
                    request.params.map(|params| params.get().len().min(40)),
                    checked.is_ok(),
                ))
            }
            Err(frame::BadFrame::NotJson) => trace((serde_json::from_str::<Value>(&text).is_ok(), text.len().min(30))),
            Err(frame::BadFrame::NotRequest { id, why }) => {
                assert!(!why.is_empty() && id.as_deref() != Some(""));
                trace((id.is_some(), why))
            }
        }
    };
    fuzz("frames", 50_000, FRAME_WORDS, target);
}
