//! Real commands through the whole room: request, analysis, policy, person, run.

// Helpers outside test functions may stop a test too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use openclaw::exec::analysis::Host;
use openclaw::exec::approval::{
    Answer, Authorised, Context, Guards, Origin, Person, PolicySource, Question, authorise,
};
use openclaw::exec::policy::Rules;
use openclaw::exec::prepare::{PreparedPlans, prepare};
use openclaw::exec::run::{RunOutcome, run};
use openclaw::limits;
use openclaw::protocol::node::{RunRequest, RunResult};
use openclaw::protocol::policy::{Ask, Decision, Fence, Refusal, Security};
use openclaw::state::approvals::{AllowEntry, EffectivePolicy};
use openclaw::state::audit::AuditLog;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::wake::Wake;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A document in memory.
struct Document(Mutex<(EffectivePolicy, u32)>);

impl PolicySource for Document {
    fn rules(&self, _: Option<&str>) -> Rules {
        let policy = self.0.lock().unwrap().0.clone();
        Rules { policy, safe_bins: Arc::default(), skills: Vec::new(), strict_inline_eval: false }
    }

    fn add_allow_always(&self, _: Option<&str>, entry: &AllowEntry) -> Result<(), String> {
        self.0.lock().unwrap().0.allowlist.push(entry.clone());
        Ok(())
    }

    fn record_use(&self, _: &AllowEntry, _: &str, _: &str) {
        self.0.lock().unwrap().1 += 1;
    }
}

fn document(security: Security, ask: Ask, fallback: Security) -> Document {
    Document(Mutex::new((
        EffectivePolicy {
            security,
            ask,
            ask_fallback: fallback,
            auto_allow_skills: false,
            allowlist: Vec::new(),
            denylist: Vec::new(),
            fence: Fence::State,
            trust_gateway_approvals: false,
            broken: None,
            snapshot: "1".to_owned(),
        },
        0,
    )))
}

impl Document {
    fn allow(self, pattern: &str) -> Self {
        let entry = AllowEntry { id: "1".to_owned(), pattern: pattern.to_owned(), arg_pattern: None, source: None };
        self.0.lock().unwrap().0.allowlist.push(entry);
        self
    }
}

/// Gives one answer and keeps what it was shown; `meanwhile` happens while the prompt is open.
struct Scripted<F: Fn() + Send + Sync> {
    answer: Answer,
    shown: Mutex<Vec<Question>>,
    meanwhile: F,
}

impl<F: Fn() + Send + Sync> Person for Scripted<F> {
    fn ask(&self, question: &Question, _: &Wake) -> Answer {
        self.shown.lock().unwrap().push(question.clone());
        (self.meanwhile)();
        self.answer.clone()
    }
}

fn person(answer: Answer) -> Scripted<fn()> {
    Scripted { answer, shown: Mutex::default(), meanwhile: || {} }
}

/// The guards of this test process: no fence but the loss of privileges, which `tests/fence.rs` looks at.
fn guards() -> &'static Arc<Guards> {
    static GUARDS: OnceLock<Arc<Guards>> = OnceLock::new();
    GUARDS.get_or_init(|| {
        let state = Environment { state_dir: Some(scratch().join("state")), ..Environment::default() };
        let state = StateDir::locate(&state).unwrap();
        state.prepare().unwrap();
        let fencer = Fencer::none("a test");
        Arc::new(Guards { fencer, grants: Arc::default(), audit: AuditLog::new(&state) })
    })
}

fn request(argv: &[&str]) -> RunRequest {
    RunRequest { command: argv.iter().map(|word| (*word).to_owned()).collect(), ..RunRequest::default() }
}

fn judge(request: &RunRequest, document: &Document, person: &dyn Person) -> Result<Authorised, Refusal> {
    let host = Host::of_this_process(Some(256));
    let context = Context {
        host: &host,
        policy: document,
        origin: Origin::Socket,
        requester: "a test",
        prepared: None,
        screen_recording: false,
        guards: guards(),
    };
    authorise(request, &context, person, &Wake::new().unwrap())
}

fn refused(outcome: Result<Authorised, Refusal>) -> String {
    outcome.map(|authorised| authorised.rule().to_owned()).unwrap_err().message
}

/// Authorises under full/off and runs.
fn execute(request: &RunRequest) -> RunResult {
    let document = document(Security::Full, Ask::Off, Security::Deny);
    let authorised = judge(request, &document, &person(Answer::Nobody("test".to_owned()))).unwrap();
    match run(authorised, &Wake::new().unwrap(), None) {
        RunOutcome::Finished(result) => result,
        other => panic!("{other:?}"),
    }
}

fn shell(script: &str) -> RunRequest {
    request(&["/bin/sh", "-c", script])
}

/// A fresh directory of this test.
fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("oc-exec-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory.canonicalize().unwrap()
}

fn program(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(2);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn output_and_exit_code_come_back() {
    let result = execute(&shell("echo out; echo err >&2; exit 3"));
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!((result.exit_code, result.success, result.timed_out), (Some(3), false, false));
    let result = execute(&request(&["uname"]));
    assert!(result.success && result.exit_code == Some(0) && !result.stdout.is_empty());
    let result = execute(&shell("kill -9 $$"));
    assert_eq!((result.exit_code, result.success), (None, false));
}

/// A91: the launcher is the kernel, not `env`: such words are programs that do not exist.
#[test]
fn sec_a91_argv_is_nobodys_option() {
    for argv in [["FOO=bar", "/bin/sh"], ["-i", "sh"], ["-S", "sh"], ["--", "sh"]] {
        let result = execute(&request(&argv));
        assert!(result.exit_code.is_none() && result.error.unwrap().contains("there is no program"), "{argv:?}");
    }
}

/// A149: a flood is cut at the cap, marked, ended by its limit.
#[test]
fn sec_a149_flood() {
    for script in ["yes", "yes >&2", "while :; do printf xxxxxxxxxxxxxxxx; done"] {
        let started = Instant::now();
        let result = execute(&RunRequest { timeout_ms: Some(500), ..shell(script) });
        assert!(started.elapsed() < Duration::from_secs(5), "{script}");
        assert!(result.timed_out && !result.success && result.exit_code == Some(124), "{script}");
        assert_eq!(result.stdout.len() + result.stderr.len(), limits::OUTPUT_BYTES + "\n... (truncated)".len());
        let marked = if result.stderr.is_empty() { &result.stdout } else { &result.stderr };
        assert!(marked.ends_with("\n... (truncated)"), "{script}");
    }
}

/// A150: the whole group goes, also a child that ignores TERM or holds the pipe.
#[test]
fn sec_a150_the_group_ends() {
    for script in [
        "sleep 600 & echo $!; sleep 600",
        "trap '' TERM; echo $$; while :; do sleep 1; done",
        "(trap '' TERM; while :; do sleep 1; done) & echo $!; sleep 600",
    ] {
        let started = Instant::now();
        let result = execute(&RunRequest { timeout_ms: Some(300), ..shell(script) });
        assert!(result.timed_out && started.elapsed() < Duration::from_secs(3), "{script}");
        let pid = result.stdout.trim().to_owned();
        assert!(!pid.is_empty());
        eventually(script, || !is_alive(&pid));
    }
    // A daemon that left the session is out of reach; the answer is on time all the same.
    let started = Instant::now();
    let result = execute(&RunRequest { timeout_ms: Some(300), ..shell("setsid sleep 4 & echo $!; sleep 600") });
    assert!(result.timed_out && started.elapsed() < Duration::from_secs(3));
}

/// After a clean exit a left-over child may live on and does not hold the answer back.
#[test]
fn a_background_child_does_not_hold_the_answer() {
    let started = Instant::now();
    let result = execute(&RunRequest { timeout_ms: Some(60_000), ..shell("sleep 5 & echo $!") });
    assert!(result.success && !result.timed_out && started.elapsed() < Duration::from_secs(3));
    assert!(is_alive(result.stdout.trim()));
    let result = execute(&shell("sleep 600 & echo $!; exit 1"));
    eventually("killed after a failure", || !is_alive(result.stdout.trim()));
}

/// A168: a bad byte costs one character, whatever it stands beside.
#[test]
fn sec_a168_invalid_utf8() {
    let result = execute(&shell(r"printf '\377\376ok\n'; printf '\377\376ok\n' >&2; exit 2"));
    assert_eq!(result.stdout, "\u{FFFD}\u{FFFD}ok\n");
    assert_eq!((result.stderr.as_str(), result.exit_code), ("\u{FFFD}\u{FFFD}ok\n", Some(2)));
    let result = execute(&shell(r"i=0; while [ $i -lt 9000 ]; do printf 'aé漢'; i=$((i+1)); done"));
    assert!(!result.stdout.contains('\u{FFFD}') && result.stdout.len() == 6 * 9_000);
}

/// H10: three descriptors and the one that `ls` opens.
#[cfg(target_os = "linux")]
#[test]
fn sec_h10_three_descriptors() {
    let _open: Vec<_> = (0..20).map(|_| std::io::pipe().unwrap()).collect();
    let result = execute(&request(&["ls", "/proc/self/fd"]));
    assert_eq!(result.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// H13 and the terminal: own session without a terminal, no core, no privileges, old descriptor limit.
#[cfg(target_os = "linux")]
#[test]
fn sec_h13_what_a_child_has_not() {
    let result = execute(&shell("ulimit -c; ulimit -n; cat /proc/self/status; cat /proc/self/stat"));
    let lines: Vec<_> = result.stdout.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0", "256"));
    assert!(lines.contains(&"NoNewPrivs:\t1"));
    for mask in ["SigBlk", "SigIgn"] {
        let line = lines.iter().find(|line| line.starts_with(mask)).unwrap();
        assert_eq!(*line, format!("{mask}:\t0000000000000000"));
    }
    let stat: Vec<_> = lines.last().unwrap().rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(stat[4], "0", "a controlling terminal");
    assert_eq!(stat[2], stat[3], "group and session are its own");
    assert!(!execute(&shell("exec 3</dev/tty")).success);
}

/// A103: nothing of our environment but the named variables; the program reads nothing.
#[test]
fn sec_a103_environment_and_input() {
    let mut with_env = request(&["/usr/bin/env"]);
    with_env.env = Some([("FOO".to_owned(), "bar".to_owned())].into());
    let result = execute(&with_env);
    let names: Vec<_> = result.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    for name in &names {
        let fixed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "OPENCLAW_CLI", "FOO", "TMPDIR", "LANG", "TERM"];
        let other =
            ["SSH_AUTH_SOCK"].contains(name) || name.to_lowercase().ends_with("_proxy") || name.starts_with("LC_");
        assert!(fixed.contains(name) || other, "{name}");
    }
    assert!(names.contains(&"FOO") && !names.iter().any(|name| name.starts_with("CARGO")));
    assert_eq!(execute(&request(&["cat"])).stdout, "");
}

#[test]
fn what_cannot_start_is_a_result_that_says_why() {
    let directory = scratch();
    let missing = RunRequest { cwd: Some("/nonexistent/x".to_owned()), ..request(&["uname"]) };
    assert!(execute(&missing).error.unwrap().starts_with("node exec working directory does not exist"));
    let file = program(&directory, "text", "echo no interpreter line\n");
    let file_as_cwd = RunRequest { cwd: Some(file.clone()), ..request(&["uname"]) };
    assert!(execute(&file_as_cwd).error.unwrap().starts_with("node exec working directory is not a directory"));
    let result = execute(&request(&[&file]));
    assert!(!result.success && result.error.unwrap().contains("could not be started"), "no shell steps in");
    let here = RunRequest { cwd: Some(directory.to_str().unwrap().to_owned()), ..request(&["pwd"]) };
    assert_eq!(execute(&here).stdout.trim(), directory.to_str().unwrap());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn cancel_kills_and_leaves_no_zombie() {
    let document = document(Security::Full, Ask::Off, Security::Deny);
    let directory = scratch();
    let note = directory.join("pid");
    let script = format!("echo $$ > {0}.part; mv {0}.part {0}; sleep 600", note.display());
    let authorised = judge(&shell(&script), &document, &person(Answer::TimedOut)).unwrap();
    let cancel = Wake::new().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(authorised, &cancel, None));
        eventually("started", || note.exists());
        cancel.fire();
        assert_eq!(running.join().unwrap(), RunOutcome::Cancelled);
    });
    let pid = std::fs::read_to_string(&note).unwrap().trim().to_owned();
    eventually("collected", || !Path::new(&format!("/proc/{pid}")).exists());
    std::fs::remove_dir_all(directory).unwrap();
}

/// A70, A63: a miss asks; no, silence and nobody do not run, at once and in words.
#[test]
fn sec_a70_a63_no_answer_is_no_run() {
    let document = document(Security::Allowlist, Ask::OnMiss, Security::Deny);
    let asked = person(Answer::Decided(Decision::Deny));
    assert_eq!(refused(judge(&request(&["uname"]), &document, &asked)), "SYSTEM_RUN_DENIED: user denied");
    assert_eq!(asked.shown.lock().unwrap().len(), 1);
    for answer in [Answer::Nobody("no terminal".to_owned()), Answer::TimedOut, Answer::Withdrawn] {
        let said = refused(judge(&request(&["uname"]), &document, &person(answer)));
        assert!(said.starts_with("SYSTEM_RUN_DENIED: approval required: "), "{said}");
    }
    // A word that is no decision is none; a bare allow is no evidence; a deny is final.
    for word in ["allow", "ALLOW-ONCE", "", "allow-once", "allow-always"] {
        let claim = RunRequest { approval_decision: Some(word.to_owned()), ..request(&["uname"]) };
        assert!(judge(&claim, &document, &person(Answer::Nobody(String::new()))).is_err(), "{word}");
    }
    let denied = RunRequest { approval_decision: Some("deny".to_owned()), ..request(&["uname"]) };
    let open = unguarded();
    assert_eq!(refused(judge(&denied, &open, &person(Answer::TimedOut))), "SYSTEM_RUN_DENIED: user denied");
    document.0.lock().unwrap().0.trust_gateway_approvals = true;
    let trusted = RunRequest { approval_decision: Some("allow-once".to_owned()), ..request(&["uname"]) };
    assert!(judge(&trusted, &document, &person(Answer::TimedOut)).is_ok());
}

fn unguarded() -> Document {
    document(Security::Full, Ask::Off, Security::Full)
}

#[test]
fn ask_fallback_holds_when_nobody_answers() {
    let nobody = person(Answer::Nobody("none".to_owned()));
    let full = document(Security::Allowlist, Ask::OnMiss, Security::Full);
    assert!(judge(&request(&["uname"]), &full, &nobody).is_ok());
    let listed = document(Security::Allowlist, Ask::Always, Security::Allowlist).allow("/**/uname");
    assert!(judge(&request(&["uname"]), &listed, &nobody).is_ok());
    let said = refused(judge(&request(&["id"]), &listed, &nobody));
    assert!(said.starts_with("SYSTEM_RUN_DENIED: approval required"), "{said}");
}

/// Spec exec (d.5): an entry is for its program, also behind what changes nothing about it and in a text that was
/// understood; not for what else can start it, not even with `*` beside it.
#[test]
fn an_entry_allows_its_program_and_not_what_else_could_start_it() {
    let document = document(Security::Allowlist, Ask::Off, Security::Deny).allow("uname");
    let nobody = person(Answer::TimedOut);
    for (uses, argv) in [
        (1, &["uname", "-a"][..]),
        (2, &["env", "uname"]),
        (3, &["nice", "-n", "5", "uname"]),
        (4, &["timeout", "5", "uname", "-s"]),
        (7, &["/bin/sh", "-c", "uname | uname && uname"]),
    ] {
        assert!(judge(&request(argv), &document, &nobody).is_ok(), "{argv:?}");
        assert_eq!(document.0.lock().unwrap().1, uses, "{argv:?}: each use is recorded");
    }
    let document = document.allow("*");
    for argv in [
        &["env", "A=b", "uname"][..],
        &["env", "-i", "uname"],
        &["nice", "sh", "-c", "uname"],
        &["/bin/sh", "-c", "$(uname)"],
        &["/bin/sh", "-c", "sh -c uname"],
        &["/bin/sh", "-ic", "uname"],
        &["setsid", "uname"],
        &["find", ".", "-exec", "uname", ";"],
        &["xargs", "uname"],
        &["nosuchprogram"],
    ] {
        let said = refused(judge(&request(argv), &document, &nobody));
        let why = said.strip_prefix("SYSTEM_RUN_DENIED: allowlist miss: ");
        assert!(why.is_some_and(|why| !why.is_empty()), "{argv:?}: {said}");
    }
    assert_eq!(document.0.lock().unwrap().1, 7, "what did not run is no use");
}

/// A71: what became stricter while the prompt was open wins over the answer.
#[test]
fn sec_a71_tightened_meanwhile() {
    let tighten: [fn(&mut EffectivePolicy); 4] = [
        |policy| policy.security = Security::Deny,
        |policy| policy.broken = Some("broken".to_owned()),
        |policy| policy.allowlist.clear(),
        |policy| policy.allowlist[0].arg_pattern = Some("^x$".to_owned()),
    ];
    for change in tighten {
        let document = document(Security::Allowlist, Ask::Always, Security::Deny).allow("uname");
        let asked = Scripted {
            answer: Answer::Decided(Decision::AllowOnce),
            shown: Mutex::default(),
            meanwhile: || change(&mut document.0.lock().unwrap().0),
        };
        assert!(judge(&request(&["uname"]), &document, &asked).is_err());
    }
    let document = document(Security::Allowlist, Ask::OnMiss, Security::Deny);
    let asked = Scripted {
        answer: Answer::Decided(Decision::AllowOnce),
        shown: Mutex::default(),
        meanwhile: || document.0.lock().unwrap().0.snapshot = "2".to_owned(),
    };
    assert!(judge(&request(&["uname"]), &document, &asked).is_ok(), "a change that still asks is no obstacle");
}

/// A72: "always" is stored only where it means one command, and then it means this one.
#[test]
fn sec_a72_allow_always() {
    let always = person(Answer::Decided(Decision::AllowAlways));
    for (security, ask, argv) in [
        (Security::Allowlist, Ask::Always, &["uname"][..]),
        (Security::Full, Ask::Always, &["uname"]),
        (Security::Allowlist, Ask::OnMiss, &["/bin/sh", "-c", "uname"]),
        (Security::Allowlist, Ask::OnMiss, &["/bin/sh", "-c", "uname | uname"]),
        (Security::Allowlist, Ask::OnMiss, &["env", "A=b", "uname"]),
        (Security::Allowlist, Ask::OnMiss, &["env", "sh", "-c", "uname"]),
        (Security::Allowlist, Ask::OnMiss, &["xargs", "uname"]),
    ] {
        let document = document(security, ask, Security::Deny);
        assert!(judge(&request(argv), &document, &always).is_ok());
        assert!(document.0.lock().unwrap().0.allowlist.is_empty(), "{argv:?}");
        assert!(always.shown.lock().unwrap().last().unwrap().allow_always.is_err());
    }
    // The twin. Of a wrapper that changes nothing, the program behind it is stored (spec exec (c.5)).
    for stored in [&["uname", "-s"][..], &["env", "uname", "-s"]] {
        let document = document(Security::Allowlist, Ask::OnMiss, Security::Deny);
        assert!(judge(&request(stored), &document, &always).is_ok());
        assert!(always.shown.lock().unwrap().last().unwrap().allow_always.is_ok());
        let entry = document.0.lock().unwrap().0.allowlist[0].clone();
        assert!(entry.pattern.ends_with("/uname") && entry.arg_pattern.is_some(), "{entry:?}");
        let deny = person(Answer::Decided(Decision::Deny));
        assert!(judge(&request(stored), &document, &deny).is_ok(), "the same again is not asked");
        let elsewhere = RunRequest { cwd: Some("/".to_owned()), ..request(&["uname", "-s"]) };
        for other in [request(&["uname", "-a"]), request(&["env", "A=b", "uname", "-s"]), elsewhere] {
            assert!(judge(&other, &document, &deny).is_err(), "{:?}", other.command);
        }
    }
}

/// A68, A69: the prompt shows the file and every argument; a name is its exact bytes.
#[test]
fn sec_a68_a69_what_is_shown_is_what_runs() {
    let directory = scratch();
    let tool = program(&directory, "tool", "#!/bin/sh\necho good\n");
    let spaced = program(&directory, "tool ", "#!/bin/sh\necho other\n");
    let document = document(Security::Allowlist, Ask::OnMiss, Security::Deny).allow(&tool);
    let asked = person(Answer::Decided(Decision::AllowOnce));
    let authorised = judge(&request(&[&spaced, " x"]), &document, &asked).unwrap();
    let question = asked.shown.lock().unwrap().pop().unwrap();
    assert_eq!(question.command, format!("'{spaced}' ' x'"));
    assert_eq!(question.executable, spaced);
    let RunOutcome::Finished(result) = run(authorised, &Wake::new().unwrap(), None) else { panic!() };
    assert_eq!(result.stdout, "other\n");
    std::fs::remove_dir_all(directory).unwrap();
}

/// The file that was judged is the file that runs, or nothing is.
#[test]
fn a_program_or_directory_that_changed_does_not_run() {
    let directory = scratch();
    let tool = program(&directory, "tool", "#!/bin/sh\necho good\n");
    let document = document(Security::Allowlist, Ask::Off, Security::Deny).allow(&tool);
    let nobody = person(Answer::TimedOut);
    let authorised = judge(&request(&[&tool]), &document, &nobody).unwrap();
    program(&directory, "tool", "#!/bin/sh\necho evil\n");
    assert!(matches!(run(authorised, &Wake::new().unwrap(), None), RunOutcome::Refused(_)));
    let work = directory.join("work");
    std::fs::create_dir(&work).unwrap();
    let there = RunRequest { cwd: Some(work.to_str().unwrap().to_owned()), ..request(&[&tool]) };
    let authorised = judge(&there, &document, &nobody).unwrap();
    std::fs::rename(&work, directory.join("old")).unwrap();
    std::os::unix::fs::symlink("/", &work).unwrap();
    assert!(matches!(run(authorised, &Wake::new().unwrap(), None), RunOutcome::Refused(_)));
    std::fs::remove_dir_all(directory).unwrap();
}

/// A76: a text that is not the command is refused, whatever it looks like.
#[test]
fn sec_a76_raw_command_must_agree() {
    let open = document(Security::Full, Ask::Off, Security::Deny);
    let claim = |argv: &[&str], raw: &str| {
        let claim = RunRequest { raw_command: Some(raw.to_owned()), ..request(argv) };
        judge(&claim, &open, &person(Answer::TimedOut)).map(drop).map_err(|refusal| refusal.message)
    };
    let sh = ["/bin/sh", "-c", "touch x"];
    for raw in ["/bin/sh -c \"touch x\"", "touch x", "", "  "] {
        assert_eq!(claim(&sh, raw), Ok(()), "{raw:?}");
    }
    assert_eq!(claim(&["sh", "-lc", "ls -la"], "ls -la"), Ok(()));
    let mismatch = Err("INVALID_REQUEST: rawCommand does not match command".to_owned());
    for (argv, raw) in [
        (&sh[..], "/usr/bin/uname"),
        (&sh, "touch  x"),
        (&["/usr/bin/uname"], "touch x"),
        (&["ls", "-la"], "ls  -la"),
        (&["bash", "-lc", "ls -la"], "ls -la"),
        (&["bash", "-c", "ls", "extra"], "ls"),
        (&["sh", "-c", "$0", "ls"], "$0"),
    ] {
        assert_eq!(claim(argv, raw), mismatch, "{argv:?} {raw}");
    }
}

/// A60, A62: an approval made at the gateway fits the prepared plan, once, and nothing beside it.
#[test]
fn sec_a60_a62_gateway_approvals_are_bound_and_used_once() {
    let host = Host::of_this_process(None);
    let document = document(Security::Allowlist, Ask::OnMiss, Security::Deny);
    document.0.lock().unwrap().0.trust_gateway_approvals = true;
    let prepared = PreparedPlans::default();
    let env = |value: &str| Some([("FOO".to_owned(), value.to_owned())].into());
    let wanted = RunRequest {
        cwd: Some("/".to_owned()),
        env: env("1"),
        agent_id: Some("main".to_owned()),
        session_key: Some("s".to_owned()),
        ..request(&["uname", "-s"])
    };
    let answer = prepare(&wanted, &host, &document.rules(None), &prepared).unwrap();
    assert_eq!(answer["execPolicy"], serde_json::json!({"security": "allowlist", "ask": "on-miss"}));
    let argv: Vec<String> = serde_json::from_value(answer["plan"]["argv"].clone()).unwrap();
    let approved = RunRequest {
        command: argv.clone(),
        approval_decision: Some("allow-once".to_owned()),
        system_run_plan: Some(answer["plan"].clone()),
        ..wanted
    };
    let judge = |request: &RunRequest| {
        let context = Context {
            host: &host,
            policy: &document,
            origin: Origin::Gateway,
            requester: "a gateway",
            prepared: Some(&prepared),
            screen_recording: true,
            guards: guards(),
        };
        let nobody = person(Answer::Nobody("test".to_owned()));
        authorise(request, &context, &nobody, &Wake::new().unwrap()).map(drop)
    };
    let with = |change: &dyn Fn(&mut RunRequest)| {
        let mut changed = approved.clone();
        change(&mut changed);
        changed
    };
    for changed in [
        with(&|run| run.command[1] = "-a".to_owned()),
        with(&|run| run.command[1] = " -s".to_owned()),
        with(&|run| run.cwd = Some("/tmp".to_owned())),
        with(&|run| run.env = env("2")),
        with(&|run| run.env = None),
        with(&|run| run.agent_id = Some("other".to_owned())),
        with(&|run| run.agent_id = None),
        with(&|run| run.session_key = None),
        with(&|run| run.needs_screen_recording = true),
        with(&|run| run.system_run_plan = None),
    ] {
        assert!(judge(&changed).is_err(), "{changed:?}");
    }
    document.0.lock().unwrap().0.snapshot = "2".to_owned();
    assert!(judge(&approved).is_err(), "the policy was another one");
    document.0.lock().unwrap().0.snapshot = "1".to_owned();
    assert_eq!(judge(&approved), Ok(()));
    assert!(judge(&approved).is_err(), "a second time");
    document.0.lock().unwrap().0.trust_gateway_approvals = false;
    assert!(judge(&approved).unwrap_err().message.contains("trustGatewayApprovals"));
}
