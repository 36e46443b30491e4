//! Attempts to have more run than the owner allowed, or something else than a person was shown, each named
//! after what it tries. In this process: analysis, policy, prompt, run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use openclaw::exec::analysis::{Host, analyse};
use openclaw::exec::approval::{
    Answer, Authorised, Context, Guards, Origin, Person, PolicySource, Question, authorise,
};
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::exec::plan::Plan;
use openclaw::exec::policy::{Verdict, decide};
use openclaw::exec::prepare::{PreparedPlans, prepare};
use openclaw::exec::run::{RunOutcome, run};
use openclaw::protocol::node::RunRequest;
use openclaw::protocol::policy::{Decision, Refusal};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::audit::AuditLog;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::wake::Wake;
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// A state directory, a directory `w` to work in, and a policy.
struct Bench {
    root: PathBuf,
    host: Host,
    policy: DocumentPolicy,
    guards: Arc<Guards>,
    shown: Mutex<Vec<Question>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

impl Person for Bench {
    fn ask(&self, question: &Question, _: &Wake) -> Answer {
        self.shown.lock().unwrap().push(question.clone());
        Answer::Decided(Decision::AllowOnce)
    }
}

impl Bench {
    fn new(document: &Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oc-host-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().canonicalize().unwrap().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&root).unwrap();
        std::fs::create_dir_all(root.join("w/sub")).unwrap();
        let environment = Environment { state_dir: Some(root.join("state")), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(state.approvals()).unwrap();
        std::io::Write::write_all(&mut file, document.to_string().as_bytes()).unwrap();
        let document = Arc::new(ApprovalsDocument::new(&state));
        let policy = DocumentPolicy { document, trusts_agent: false, settings: Settings::default() };
        let audit = AuditLog::new(&state);
        let guards = Arc::new(Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit });
        Self { root, host: Host::of_this_process(None), policy, guards, shown: Mutex::default() }
    }

    /// Nothing is allowed, and a person is asked.
    fn asking() -> Self {
        Self::new(&json!({"version": 1}))
    }

    /// Everything is allowed but this.
    fn denying(entry: &Value) -> Self {
        let defaults = json!({"security": "full", "ask": "off", "denylist": [entry]});
        Self::new(&json!({"version": 1, "defaults": defaults}))
    }

    fn work(&self) -> String {
        self.root.join("w").to_str().unwrap().to_owned()
    }

    fn request(&self, argv: &[&str]) -> RunRequest {
        let command = argv.iter().map(|word| (*word).to_owned()).collect();
        RunRequest { command, cwd: Some(self.work()), ..RunRequest::default() }
    }

    fn shell(&self, text: &str) -> RunRequest {
        self.request(&["sh", "-c", text])
    }

    fn plan(&self, request: &RunRequest) -> Plan {
        analyse(request, &self.host).unwrap()
    }

    fn verdict(&self, request: &RunRequest) -> Verdict {
        decide(&self.plan(request), &self.policy.rules(None))
    }

    fn authorise(&self, request: &RunRequest) -> Result<Authorised, Refusal> {
        let context = Context {
            host: &self.host,
            policy: &self.policy,
            origin: Origin::Socket,
            requester: "a test",
            prepared: None,
            screen_recording: false,
            guards: &self.guards,
        };
        authorise(request, &context, self, &Wake::new().unwrap())
    }

    fn output(&self, request: &RunRequest) -> String {
        match run(self.authorise(request).unwrap(), &Wake::new().unwrap(), None) {
            RunOutcome::Finished(result) => result.stdout,
            other => panic!("{other:?}"),
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        let path = self.root.join("w").join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

fn program(name: &str) -> String {
    Path::new("/usr/bin").join(name).canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_cd_behind_command_changes_the_directory() {
    let bench = Bench::asking();
    for text in ["command cd sub && pwd", "command -- cd sub && pwd", "command command cd sub; pwd"] {
        assert_eq!(bench.output(&bench.shell(text)), format!("{}/sub\n", bench.work()), "{text}");
    }
    // And what then stands behind it is judged where it runs.
    bench.program("sub/tool");
    let plan = bench.plan(&bench.shell("command cd sub && ./tool"));
    assert!(matches!(decide(&plan, &bench.policy.rules(None)), Verdict::Ask(_)));
    assert_eq!(plan.stages().last().unwrap().subject.path(), bench.root.join("w/sub/tool").to_str());
    assert!(matches!(bench.verdict(&bench.shell("ls | command cd sub")), Verdict::Ask(_)), "a `cd` in a pipeline");
}

#[test]
fn a_denied_link_is_denied_by_every_name() {
    let bench = Bench::asking();
    let tool = bench.program("tool-1.0");
    let link = bench.root.join("w/tool");
    symlink(&tool, &link).unwrap();
    let denying = |pattern: &str| Bench::denying(&json!(pattern));
    for argv in [tool.to_str().unwrap(), link.to_str().unwrap()] {
        let verdict = denying(link.to_str().unwrap()).verdict(&bench.request(&[argv]));
        assert!(matches!(verdict, Verdict::Deny(_)), "{argv}: {verdict:?}");
    }
    // `/bin` is a link to `/usr/bin` on many systems; a bare name is found in the latter.
    for argv in [&["rm", "x"][..], &["/bin/rm", "x"], &["/usr/bin/rm", "x"], &["env", "rm", "x"]] {
        let verdict = denying("/bin/rm").verdict(&bench.request(argv));
        assert!(matches!(verdict, Verdict::Deny(_)), "{argv:?}: {verdict:?}");
    }
    assert!(matches!(denying("/bin/rm").verdict(&bench.request(&["ls"])), Verdict::Run(_)));
}

#[test]
fn a_denied_command_is_denied_under_its_programs_path() {
    let bench = Bench::denying(&json!({"command": "ls -l *"}));
    let path = program("ls");
    for request in [
        bench.request(&[&path, "-l", "x"]),
        bench.request(&["nice", &path, "-l", "x"]),
        bench.shell(&format!("true; {path} -l x")),
    ] {
        assert!(matches!(bench.verdict(&request), Verdict::Deny(_)), "{request:?}");
    }
    assert!(matches!(bench.verdict(&bench.request(&[&path, "x"])), Verdict::Run(_)));
}

/// What a denylist cannot be applied to is asked about, also in `full`.
#[test]
fn a_denylist_is_not_evaded_by_what_is_not_looked_into() {
    for entry in [json!("rm"), json!({"command": "rm *"})] {
        let bench = Bench::denying(&entry);
        for request in [
            bench.shell("A=1 rm x"),
            bench.shell("env A=1 rm x"),
            bench.request(&["env", "A=1", "rm", "x"]),
            bench.request(&["xargs", "rm"]),
            bench.request(&["find", ".", "-exec", "rm", "{}", ";"]),
            bench.request(&["sh", "-c", "sh -c 'rm x'"]),
        ] {
            assert!(matches!(bench.verdict(&request), Verdict::Ask(_)), "{entry} {request:?}");
        }
        for request in [bench.shell("ls | head"), bench.request(&["nice", "ls"]), bench.request(&["find", "."])] {
            assert!(matches!(bench.verdict(&request), Verdict::Run(_)), "{entry} {request:?}");
        }
    }
}

/// A text with words behind it is a text all the same: its script has no place among the words.
#[test]
fn a_text_with_words_behind_it_is_prepared_as_a_text() {
    let bench = Bench::asking();
    std::fs::write(bench.root.join("w/s.sh"), "exit 0\n").unwrap();
    let rules = bench.policy.rules(None);
    for text in ["sh s.sh", "sh s.sh a b c d e f", "sh -e -u -x s.sh a b c"] {
        let request = bench.request(&["sh", "-c", text, "x"]);
        let refusal = prepare(&request, &bench.host, &rules, &PreparedPlans::default()).unwrap_err();
        assert!(refusal.message.contains("cannot safely bind"), "{text}: {refusal:?}");
        let Verdict::Ask(offer) = bench.verdict(&request) else { panic!("{text}") };
        assert!(offer.allow_always.is_err(), "{text}");
    }
    // The words are shown as what runs, as of any text.
    bench.output(&bench.request(&["sh", "-c", "ls ~", "x"]));
    let shown = bench.shown.lock().unwrap();
    let runs = format!("runs ls {} ({})", bench.host.home.display(), program("ls"));
    assert!(shown[0].notes.contains(&runs), "{:?}", shown[0].notes);
}

#[test]
fn the_program_behind_a_wrapper_is_shown() {
    let bench = Bench::asking();
    bench.output(&bench.request(&["nice", "ls"]));
    let note = format!("runs nice ls ({})", program("ls"));
    let shown = bench.shown.lock().unwrap();
    assert!(shown[0].notes.contains(&note), "{:?}", shown[0].notes);
}

/// What tar, make, rsync or ripgrep would start comes from their environment too (A101).
#[test]
fn a_listed_program_is_not_told_by_a_variable_what_to_start() {
    let bench = Bench::new(&json!({"version": 1, "agents": {"*": {"allowlist": ["/usr/bin/*"]}}}));
    for name in ["TAR_OPTIONS", "MAKEFILES", "RSYNC_RSH", "RIPGREP_CONFIG_PATH", "SSH_SK_PROVIDER", "tar_options"] {
        let env = Some([(name.to_owned(), "x".to_owned())].into());
        let request = RunRequest { env, ..bench.request(&["ls"]) };
        let refusal = bench.authorise(&request).err().unwrap_or_else(|| panic!("{name} passes"));
        assert!(refusal.message.contains("blocked override keys"), "{refusal:?}");
    }
}

/// The use of an entry is noted with the program that it allowed, not with the shell of the text.
#[test]
fn a_use_is_noted_with_the_program_that_was_allowed() {
    let ls = program("ls");
    let bench = Bench::new(&json!({"version": 1, "agents": {"*": {"allowlist": [ls]}}}));
    bench.output(&bench.shell("ls | head -n 1"));
    let stored: Value = serde_json::from_slice(&std::fs::read(bench.policy.document.path()).unwrap()).unwrap();
    assert_eq!(stored["agents"]["*"]["allowlist"][0]["lastResolvedPath"], json!(ls));
    assert!(bench.shown.lock().unwrap().is_empty());
}

/// Whatever words stand together: no panic, and a prepared plan names only what it has.
#[test]
fn no_words_break_analysis_policy_or_preparation() {
    let bench = Bench::denying(&json!("nothing"));
    std::fs::write(bench.root.join("w/s.sh"), "exit 0\n").unwrap();
    let rules = bench.policy.rules(None);
    let words: Vec<&str> = "sh bash env nice timeout time command cd ls python3 perl sed awk find make xargs npm npx git \
        -c -e -lc -n -k -o -- - -exec ; && || | ! 5 A=1 s.sh ./s.sh ~ ~/x $HOME * ? [ ] {a,b} '' \"x\" \\ run exec --eval \
        --eval=x 2>&1 >/dev/null # é \u{202e} ../w /usr/bin/env"
        .split_whitespace()
        .chain(["", " ", "sh s.sh a b c", "command cd sub && ls | wc", "\n"])
        .collect();
    let mut seed = 1_u64;
    let mut next = |most: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % most
    };
    let mut prepared = 0;
    for _ in 0..4_000 {
        let mut argv: Vec<&str> = (0..=next(6)).map(|_| words[next(words.len())]).collect();
        let text = (0..=next(6)).map(|_| words[next(words.len())]).collect::<Vec<_>>().join(" ");
        if next(2) == 0 {
            argv.splice(0..0, ["sh", "-c", &text]);
        }
        let request = bench.request(&argv);
        let Ok(plan) = analyse(&request, &bench.host) else { continue };
        decide(&plan, &rules);
        let Ok(answer) = prepare(&request, &bench.host, &rules, &PreparedPlans::default()) else { continue };
        prepared += 1;
        let operand = answer.pointer("/plan/mutableFileOperand/argvIndex").map(|index| index.as_u64().unwrap());
        let count = answer["plan"]["argv"].as_array().unwrap().len() as u64;
        assert!(operand.is_none_or(|index| index < count), "{argv:?}: {answer}");
    }
    assert!(prepared > 100, "{prepared}");
}

/// The caller names the working directory, and with it what the fence `workspace` lets it write to.
#[test]
fn the_whole_home_is_no_workspace() {
    let bench =
        Bench::new(&json!({"version": 1, "defaults": {"security": "full", "ask": "off", "fence": "workspace"}}));
    let home = bench.host.home.to_str().unwrap();
    for cwd in ["/", home, "~"] {
        let request = RunRequest { cwd: Some(cwd.to_owned()), ..bench.request(&["ls"]) };
        let refusal = bench.authorise(&request).err().unwrap_or_else(|| panic!("{cwd} is a workspace"));
        assert!(refusal.message.contains("the working directory is home"), "{cwd}: {refusal:?}");
    }
}

/// Some systems have `/usr/sbin` as a link to `/usr/bin`, and it comes first in the search path.
#[test]
fn a_linked_directory_of_the_system_is_the_systems() {
    let mut bench = Bench::asking();
    let (system, own) = (bench.root.join("w/sbin"), bench.root.join("w/own"));
    symlink(Path::new(&program("sh")).parent().unwrap(), &system).unwrap();
    std::fs::create_dir(&own).unwrap();
    symlink(program("sh"), own.join("sh")).unwrap();
    bench.host.search_path.insert(0, system);
    for request in [bench.shell("nice ls"), bench.request(&["nice", "ls"])] {
        assert_eq!(bench.plan(&request).stages().next().unwrap().subject.argv, ["ls"], "{request:?}");
    }
    // A link to a program in a directory of somebody else is not.
    bench.host.search_path.insert(0, own);
    assert!(!bench.plan(&bench.shell("nice ls")).replaces_shell());
}
