//! Plans made by hand, run for real. What authorises a plan is tested in `tests/exec_run.rs`.

use super::*;
use crate::exec::identity;
use crate::exec::plan::{Form, Operand, directory_identity};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory of one test, gone at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oc-run-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory.canonicalize().unwrap())
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn search(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn find(name: &str) -> Option<Executable> {
    let path = if name.contains('/') { Some(PathBuf::from(name)) } else { search(name) };
    identity::executable(&path?, &search)
}

/// A command; the shell's own three are builtins.
fn stage(argv: &[&str]) -> Stage {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let executable = find(&argv[0]);
    let program = match argv[0].as_str() {
        "true" => Program::Builtin(Builtin::True),
        "false" => Program::Builtin(Builtin::False),
        "pwd" => Program::Builtin(Builtin::Pwd),
        _ => executable.clone().map_or(Program::Missing, Program::File),
    };
    let subject = Subject { argv: argv.clone(), executable, ..Subject::default() };
    Stage { argv, program, stdout: Sink::Output, stderr: Sink::Error, subject }
}

fn sh(text: &str) -> Stage {
    stage(&["sh", "-c", text])
}

fn words(text: &str) -> Stage {
    stage(&text.split(' ').collect::<Vec<_>>())
}

fn directory(path: &Path) -> Directory {
    Directory { path: path.to_owned(), identity: directory_identity(path).unwrap() }
}

fn step(after: After, stages: Vec<Stage>) -> Step {
    Step { after, is_negated: false, directory: Some(directory(Path::new("/"))), stages }
}

/// `a | b`, words split at single spaces.
fn pipeline(text: &str) -> Step {
    step(After::Always, text.split(" | ").map(words).collect())
}

fn and(text: &str) -> Step {
    Step { after: After::Success, ..pipeline(text) }
}

fn or(text: &str) -> Step {
    Step { after: After::Failure, ..pipeline(text) }
}

fn not(step: Step) -> Step {
    Step { is_negated: true, ..step }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        argv: vec!["sh".to_owned()],
        executable: None,
        cwd: PathBuf::from("/"),
        cwd_identity: Ok(directory_identity(Path::new("/")).unwrap()),
        work: Work::Steps(steps),
        form: Form::Shell,
        home: PathBuf::from("/"),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        overrides: BTreeMap::new(),
        command_text: String::new(),
        command_preview: None,
        agent_id: None,
        session_key: None,
        timeout: Some(Duration::from_secs(60)),
        needs_screen_recording: false,
    }
}

fn outcome(plan: &Plan) -> RunOutcome {
    execute(plan, None, &Enclosure::none(), &Wake::new().unwrap(), None)
}

fn finished(plan: &Plan) -> RunResult {
    match outcome(plan) {
        RunOutcome::Finished(result) => result,
        other => panic!("{other:?}"),
    }
}

fn ran(steps: Vec<Step>) -> RunResult {
    finished(&plan(steps))
}

fn limited(timeout: Duration, steps: Vec<Step>) -> RunResult {
    finished(&Plan { timeout: Some(timeout), ..plan(steps) })
}

fn code(steps: Vec<Step>) -> Option<i32> {
    ran(steps).exit_code
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn pipelines_hand_on_what_they_print() {
    let three = vec![sh("printf 'b\\na\\nb\\n'"), words("sort"), words("uniq -c")];
    let result = ran(vec![step(After::Always, three)]);
    assert_eq!(result.stdout.split_whitespace().collect::<Vec<_>>(), ["1", "a", "2", "b"]);
    assert_eq!((result.success, result.exit_code, result.stderr.as_str()), (true, Some(0), ""));
    assert_eq!(ran(vec![pipeline("cat")]).stdout, "", "the first one reads nothing");
    // More than pipes hold, through all of them.
    assert_eq!(ran(vec![pipeline("head -c 3000000 /dev/zero | cat | cat | wc -c")]).stdout.trim(), "3000000");
    let long = |cats: usize| ran(vec![pipeline(&format!("echo far{}", " | cat".repeat(cats)))]);
    assert_eq!(long(limits::PIPELINE_STAGES - 1).stdout, "far\n");
    assert!(long(limits::PIPELINE_STAGES).error.unwrap().contains("at most"));
}

#[test]
fn chains_go_on_as_their_operators_say() {
    let steps = vec![pipeline("false"), and("echo a"), or("echo b"), and("echo c"), pipeline("echo d")];
    assert_eq!(ran(steps).stdout, "b\nc\nd\n");
    assert_eq!(ran(vec![pipeline("true"), or("echo a"), and("echo b")]).stdout, "b\n");
    assert_eq!(code(vec![pipeline("true"), and("false")]), Some(1));
    assert_eq!(code(vec![pipeline("false"), and("true")]), Some(1), "what was skipped says nothing");
    assert_eq!(code(vec![pipeline("false"), pipeline("true")]), Some(0));
    let ends = step(After::Always, vec![sh("exit 3")]);
    let result = ran(vec![ends.clone()]);
    assert_eq!((result.exit_code, result.success, result.error), (Some(3), false, None));
    assert_eq!(code(vec![ends.clone(), or("true")]), Some(0));
    assert_eq!(code(vec![not(ends)]), Some(0));
    assert_eq!(code(vec![not(pipeline("true"))]), Some(1));
    assert_eq!(ran(vec![not(pipeline("true")), and("echo no"), or("echo yes")]).stdout, "yes\n");
    let killed = ran(vec![step(After::Always, vec![sh("kill -9 $$")])]);
    assert_eq!((killed.exit_code, killed.success), (None, false));
}

#[test]
fn the_last_stage_that_failed_decides() {
    let stages = |codes: &[&str]| {
        code(vec![step(After::Always, codes.iter().map(|code| sh(&format!("exit {code}"))).collect())])
    };
    assert_eq!(stages(&["3", "5", "0"]), Some(5));
    assert_eq!(stages(&["3", "0", "0"]), Some(3));
    assert_eq!(stages(&["0", "0", "7"]), Some(7));
    assert_eq!(stages(&["141", "0"]), Some(0), "a shell whose program's reader had enough");
    assert_eq!(stages(&["0", "141"]), Some(141));
    let pipe = |text: &str| code(vec![step(After::Always, vec![sh(text), words("true")])]);
    assert_eq!(pipe("kill -PIPE $$"), Some(0));
    assert_eq!(pipe("kill -TERM $$"), None);
}

#[test]
fn a_reader_that_had_enough_ends_its_writer() {
    let started = Instant::now();
    let result = ran(vec![pipeline("yes | head -1")]);
    assert_eq!((result.stdout.as_str(), result.success), ("y\n", true));
    assert!(ran(vec![pipeline("yes | cat | cat | head -1")]).success);
    assert!(ran(vec![pipeline("yes | true")]).success);
    assert!(ran(vec![pipeline("yes | nosuchprogram")]).exit_code == Some(NOT_FOUND_CODE));
    assert!(started.elapsed() < Duration::from_secs(10));
    // All have to end, not only the last one.
    let note = Scratch::new();
    let late = sh(&format!("exec >&-; sleep 0.3; echo late > {}", note.0.join("note").display()));
    assert!(ran(vec![step(After::Always, vec![late, words("true")])]).success);
    assert!(note.0.join("note").exists());
}

#[test]
fn sinks_lead_where_they_say() {
    let both = || sh("echo out; echo err >&2");
    let with = |stdout, stderr| Stage { stdout, stderr, ..both() };
    let one = |stage| {
        let result = ran(vec![step(After::Always, vec![stage])]);
        (result.stdout, result.stderr)
    };
    let text = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(one(both()), text("out\n", "err\n"));
    assert_eq!(one(with(Sink::Output, Sink::Output)), text("out\nerr\n", ""));
    assert_eq!(one(with(Sink::Null, Sink::Error)), text("", "err\n"));
    assert_eq!(one(with(Sink::Null, Sink::Output)), text("err\n", ""));
    assert_eq!(one(with(Sink::Error, Sink::Null)), text("", "out\n"));
    let counted = |stage| ran(vec![step(After::Always, vec![stage, words("wc -l")])]).stdout.trim().to_owned();
    assert_eq!(counted(with(Sink::Output, Sink::Output)), "2");
    assert_eq!(counted(with(Sink::Null, Sink::Output)), "1");
    assert_eq!(counted(with(Sink::Null, Sink::Null)), "0");
    assert_eq!(counted(with(Sink::Error, Sink::Null)), "0");
}

#[test]
fn builtins_are_done_in_their_place() {
    let scratch = Scratch::new();
    let there = |after, text: &str| Step { after, directory: Some(directory(&scratch.0)), ..pipeline(text) };
    let line = format!("{}\n", scratch.0.display());
    assert_eq!(ran(vec![there(After::Always, "pwd")]).stdout, line);
    assert_eq!(ran(vec![there(After::Always, "pwd | cat")]).stdout, line);
    assert_eq!(ran(vec![there(After::Always, "echo x | pwd")]).stdout, line);
    let mut quiet = there(After::Always, "pwd");
    quiet.stages[0].stdout = Sink::Null;
    assert_eq!(ran(vec![quiet.clone()]).stdout, "");
    quiet.stages[0].stdout = Sink::Error;
    assert_eq!(ran(vec![quiet]).stderr, line);
    // Each step in its own directory, and in order however much lies in the pipe.
    let much = "head -c 60000 /dev/zero";
    let result = ran(vec![pipeline(much), there(After::Success, "pwd"), and("pwd"), and("echo end")]);
    assert_eq!(result.stdout.trim_start_matches('\0'), format!("{line}/\nend\n"));
    assert_eq!(result.stdout.len(), 60_000 + line.len() + 6);
}

#[test]
fn what_cannot_start_says_so() {
    let scratch = Scratch::new();
    let text = scratch.write("text", "echo no interpreter line\n");
    let text = text.to_str().unwrap();
    let alone = ran(vec![pipeline("nosuchprogram")]);
    assert!(alone.error.unwrap().starts_with("there is no program \"nosuchprogram\" in the node's search path"));
    assert!(ran(vec![pipeline(text)]).error.unwrap().contains("could not be started"), "no shell steps in");
    let result = ran(vec![pipeline("nosuchprogram | cat"), or("echo instead")]);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("instead\n", "nosuchprogram: not found\n"));
    assert_eq!(code(vec![pipeline("nosuchprogram | cat")]), Some(127));
    assert_eq!(code(vec![pipeline("cat | nosuchprogram")]), Some(127));
    assert_eq!(code(vec![pipeline("true"), and(text)]), Some(126));
    // A name that is longer than a pipe, into a pipe whose reader comes later.
    let mut missing = stage(&["x".repeat(100_000).as_str()]);
    missing.stderr = Sink::Output;
    let counted = ran(vec![step(After::Always, vec![missing, words("wc -c")])]);
    assert_eq!(counted.stdout.trim(), limits::SAID_BYTES.to_string());
    let nowhere = Step { directory: None, ..pipeline("echo x") };
    let plan = Plan { cwd_identity: Err(CwdProblem::Missing), ..plan(vec![nowhere]) };
    assert!(finished(&plan).error.unwrap().starts_with("node exec working directory does not exist"));
}

/// A149: one bound for all steps and stages, and a flood hides no limit.
#[test]
fn sec_a149_flood_of_a_plan() {
    let mark = "\n... (truncated)".len();
    let half = "head -c 150000 /dev/zero";
    let result = ran(vec![pipeline(half), and(half), and("echo end")]);
    assert_eq!((result.stdout.len(), result.success), (limits::OUTPUT_BYTES + mark, true));
    let mut loud = words("yes");
    loud.stdout = Sink::Error;
    for stages in [vec![words("yes"), words("cat")], vec![loud, words("cat")], vec![words("yes")]] {
        let started = Instant::now();
        let result = limited(Duration::from_millis(500), vec![step(After::Always, stages), and("echo no")]);
        assert!(result.timed_out && started.elapsed() < Duration::from_secs(5));
        assert_eq!((result.exit_code, result.success), (Some(TIMED_OUT_CODE), false));
        assert_eq!(result.stdout.len() + result.stderr.len(), limits::OUTPUT_BYTES + mark);
    }
    // All heard it while it went on, in bounded pieces.
    let heard = std::cell::RefCell::new(Vec::new());
    let listener = |chunk: &str| heard.borrow_mut().push(chunk.len());
    let slow = plan(vec![step(After::Always, vec![sh("echo a; sleep 2; echo b"), words("cat")]), and("echo c")]);
    execute(&slow, None, &Enclosure::none(), &Wake::new().unwrap(), Some(&listener));
    assert_eq!(heard.borrow().first(), Some(&2), "the first line, long before the end");
}

/// A150: the one limit of all steps ends every stage of the step at work, whoever ignores TERM, and
/// nothing starts after it.
#[test]
fn sec_a150_the_limit_ends_every_stage() {
    let note = Scratch::new();
    let stubborn = "trap '' TERM; echo $$ >&2; while :; do sleep 1; done";
    let polite = "echo $$ >&2; exec sleep 600";
    let parent = "sleep 600 & echo $! >&2; wait";
    let never = step(After::Always, vec![stage(&["touch", note.0.join("never").to_str().unwrap()])]);
    let at_work = step(After::Always, vec![sh(polite), sh(stubborn), sh(parent), sh(polite)]);
    let started = Instant::now();
    let result = limited(Duration::from_millis(600), vec![pipeline("sleep 0.2"), at_work, never]);
    assert!(result.timed_out && started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!((result.exit_code, result.success), (Some(TIMED_OUT_CODE), false));
    assert_eq!(result.stderr.lines().count(), 4);
    for pid in result.stderr.lines() {
        eventually("every stage is gone", || !is_alive(pid));
    }
    assert!(!note.0.join("never").exists());
    // Who left the session is out of reach; the answer is on time all the same.
    let started = Instant::now();
    let away = step(After::Always, vec![sh("setsid sleep 4 & sleep 600"), words("cat")]);
    assert!(limited(Duration::from_millis(300), vec![away]).timed_out);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn cancel_ends_every_stage() {
    let scratch = Scratch::new();
    let noted = |name: &str| {
        let note = scratch.0.join(name);
        sh(&format!("trap '' TERM; echo $$ > {0}.part; mv {0}.part {0}; while :; do sleep 1; done", note.display()))
    };
    let plan = plan(vec![step(After::Always, vec![noted("one"), noted("two")]), pipeline("echo no")]);
    let cancel = Wake::new().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| execute(&plan, None, &Enclosure::none(), &cancel, None));
        eventually("started", || scratch.0.join("one").exists() && scratch.0.join("two").exists());
        cancel.fire();
        assert_eq!(running.join().unwrap(), RunOutcome::Cancelled);
    });
    for name in ["one", "two"] {
        let pid = std::fs::read_to_string(scratch.0.join(name)).unwrap();
        eventually("collected", || !Path::new("/proc").join(pid.trim()).exists());
    }
    assert_eq!(execute(&plan, None, &Enclosure::none(), &cancel, None), RunOutcome::Cancelled);
}

#[test]
fn leftovers_hold_nothing_back() {
    let leaves = |end: &str| step(After::Always, vec![sh(&format!("sleep 20 & echo $!; {end}"))]);
    let started = Instant::now();
    let result = ran(vec![leaves("exit 0"), leaves("exit 1"), leaves("exit 0")]);
    assert!(result.success && started.elapsed() < Duration::from_secs(5));
    assert!(result.stdout.lines().all(is_alive), "as in a shell");
    let failed = ran(vec![step(After::Always, vec![sh("sleep 20 & echo $! >&2"), sh("exit 1")])]);
    eventually("killed after a failure", || !is_alive(failed.stderr.trim()));
    for pid in result.stdout.lines() {
        let kill = std::process::Command::new("kill").arg(pid).status().unwrap();
        assert!(kill.success());
    }
}

/// H07: the trace of a pipeline shows its programs, their arguments, and nothing else.
#[cfg(target_os = "linux")]
#[test]
fn sec_h07_no_shell_in_the_trace() {
    const TRACED: &str = "OPENCLAW_TEST_TRACED";
    let name = "exec::run::tests::sec_h07_no_shell_in_the_trace";
    if std::env::var_os(TRACED).is_some() {
        assert!(ran(vec![pipeline("echo b;a$(x) | sort -u | wc -l"), and("uname -s"), or("id")]).success);
        return;
    }
    let scratch = Scratch::new();
    let trace = scratch.0.join("trace");
    let options = ["-f", "-y", "-s", "200", "-e", "trace=execve,execveat", "-e", "signal=none", "-o"];
    let mut strace = std::process::Command::new("strace");
    strace.args(options).arg(&trace).arg(std::env::current_exe().unwrap()).args(["--exact", name]).env(TRACED, "1");
    let traced = match strace.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return println!("skipped: no strace here"),
        traced => traced.unwrap(),
    };
    assert!(traced.status.success(), "{traced:?}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    // A call during which another process is heard has a second line, without its arguments.
    let is_start = |line: &&str| line.contains("execve") && !line.contains(" resumed>");
    let execs: Vec<_> = trace.lines().filter(is_start).collect();
    let wanted = [
        (name, "[\""),
        ("echo>, \"\"", r#"["echo", "b;a$(x)"]"#),
        ("sort>, \"\"", r#"["sort", "-u"]"#),
        ("wc>, \"\"", r#"["wc", "-l"]"#),
        ("uname>, \"\"", r#"["uname", "-s"]"#),
    ];
    assert_eq!(execs.len(), wanted.len(), "{trace}");
    for (place, argv) in wanted {
        assert!(execs.iter().any(|line| line.contains(place) && line.contains(argv)), "{argv}: {trace}");
    }
}

#[cfg(target_os = "linux")]
struct Over<'a>(&'a AtomicBool);

#[cfg(target_os = "linux")]
impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges directories `here` and `there` of `scratch` for as long as `work` takes, in a tight loop;
/// at its end they are where they were. The files in them keep their identities.
#[cfg(target_os = "linux")]
fn while_exchanged<T>(scratch: &Scratch, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let [here, there, spare] = ["here", "there", "spare"].map(|name| scratch.0.join(name));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pause = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                // At home for some time, never the same, so that every moment of a run is met.
                pause = (pause + 7_919) % 100_000;
                (0..pause).for_each(|_| std::hint::spin_loop());
                for (from, to) in [(&here, &spare), (&there, &here), (&here, &there), (&spare, &here)] {
                    std::fs::rename(from, to).unwrap();
                }
            }
        });
        // At the end of a work that fails too.
        let _over = Over(&is_over);
        work()
    })
}

/// How often a race is run.
#[cfg(target_os = "linux")]
const RACES: usize = 1_000;
/// How often at most, where a busy machine lets it be met seldom.
#[cfg(target_os = "linux")]
const MOST_RACES: usize = 20 * RACES;

/// H08: what was opened and checked is what runs, whatever its path names at that moment.
#[cfg(target_os = "linux")]
#[test]
fn sec_h08_fd_bound_execution() {
    let scratch = Scratch::new();
    let (here, there) = (scratch.directory("here"), scratch.directory("there"));
    std::fs::copy(search("readlink").unwrap(), here.join("tool")).unwrap();
    std::fs::copy(search("echo").unwrap(), there.join("tool")).unwrap();
    let tool = here.join("tool");
    // So long it would be read anew each time, which is no race but a certain refusal.
    let changed = tool.metadata().unwrap().created().unwrap();
    eventually("settled", || changed.elapsed().is_ok_and(|age| age > limits::FILE_CLOCK_STEP));
    let plan = plan(vec![step(After::Always, vec![stage(&[tool.to_str().unwrap(), "/proc/self/exe"])])]);
    let [mut tries, mut at_home, mut elsewhere, mut refused] = [0; 4];
    while_exchanged(&scratch, || {
        while tries < RACES || (elsewhere == 0 && tries < MOST_RACES) {
            tries += 1;
            match outcome(&plan) {
                RunOutcome::Refused(_) => refused += 1,
                RunOutcome::Finished(result) => {
                    assert_eq!((result.error, result.exit_code), (None, Some(0)));
                    let name = result.stdout.trim_end();
                    assert_ne!(name, "/proc/self/exe", "the other program ran");
                    assert!(name.starts_with(scratch.0.to_str().unwrap()), "{name}");
                    *(if Path::new(name) == tool { &mut at_home } else { &mut elsewhere }) += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    });
    println!("h08: {tries} runs: {elsewhere} while the path named another file, {at_home} others, {refused} refused");
    assert!(elsewhere > 0 && refused > 0, "the race was not met");
}

/// H09: the child's working directory is the one that was judged, whatever becomes of its parents.
#[cfg(target_os = "linux")]
#[test]
fn sec_h09_cwd_by_descriptor() {
    let scratch = Scratch::new();
    let (good, _) = (scratch.directory("here/sub"), scratch.directory("there/sub"));
    let wanted = directory_identity(&good).unwrap().1.to_string();
    let argv = ["stat", "-c", "%i %N", ".", "/proc/self/cwd"];
    let place = Step { directory: Some(directory(&good)), ..step(After::Always, vec![stage(&argv)]) };
    let plan = plan(vec![place]);
    let [mut tries, mut at_home, mut elsewhere, mut refused] = [0; 4];
    while_exchanged(&scratch, || {
        while tries < RACES || (elsewhere == 0 && tries < MOST_RACES) {
            tries += 1;
            match outcome(&plan) {
                RunOutcome::Refused(_) => refused += 1,
                // There was no such path at that moment.
                RunOutcome::Finished(RunResult { error: Some(_), .. }) => refused += 1,
                RunOutcome::Finished(result) => {
                    assert_eq!(result.stdout.split(' ').next(), Some(wanted.as_str()), "{}", result.stdout);
                    let is_home = result.stdout.contains(&format!("-> '{}'", good.display()));
                    *(if is_home { &mut at_home } else { &mut elsewhere }) += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    });
    println!("h09: {tries} runs: {elsewhere} while the path named another one, {at_home} others, {refused} refused");
    assert!(elsewhere > 0 && refused > 0, "the race was not met");
}

/// H10: three descriptors in every stage, and the one that `ls` opens.
#[cfg(target_os = "linux")]
#[test]
fn sec_h10_three_descriptors_in_every_stage() {
    let mut first = words("ls /proc/self/fd");
    first.stdout = Sink::Error;
    let mut second = first.clone();
    let third = words("ls /proc/self/fd");
    second.stderr = Sink::Null;
    let result = ran(vec![step(After::Always, vec![first, second, third]), and("ls /proc/self/fd")]);
    for text in [&result.stdout, &result.stderr] {
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"].repeat(2));
    }
}

/// A105: a working directory that leads elsewhere by now, however it does.
#[test]
fn sec_a105_cwd_rebound() {
    let changes: [fn(&Path); 4] = [
        |at| {
            std::fs::rename(at.join("w"), at.join("old")).unwrap();
            symlink(at.join("evil"), at.join("w")).unwrap();
        },
        |at| {
            std::fs::rename(at.join("w/sub"), at.join("old")).unwrap();
            symlink(at.join("evil/sub"), at.join("w/sub")).unwrap();
        },
        |at| {
            std::fs::rename(at.join("w/sub"), at.join("old")).unwrap();
            std::fs::create_dir(at.join("w/sub")).unwrap();
        },
        |at| std::fs::rename(at.join("evil/sub"), at.join("w/sub")).unwrap(),
    ];
    for change in changes {
        let scratch = Scratch::new();
        let (good, _) = (scratch.directory("w/sub"), scratch.directory("evil/sub"));
        let place = Step { directory: Some(directory(&good)), ..pipeline("pwd") };
        let of_step = plan(vec![place.clone()]);
        let of_plan =
            Plan { cwd: good.clone(), cwd_identity: Ok(directory_identity(&good).unwrap()), ..of_step.clone() };
        assert_eq!(finished(&of_plan).stdout, format!("{}\n", good.display()));
        change(&scratch.0);
        assert!(matches!(outcome(&of_step), RunOutcome::Refused(_)));
        assert!(matches!(outcome(&of_plan), RunOutcome::Refused(_)));
        // Behind a step that has run it is an error, and says so.
        let later = finished(&plan(vec![pipeline("uname"), place, pipeline("echo no")]));
        assert!(later.error.unwrap().contains("changed before execution") && !later.success);
        assert!(!later.stdout.is_empty() && !later.stdout.contains("no\n"));
    }
}

/// A106: a script that was rewritten, replaced or only added to.
#[test]
fn sec_a106_script_changed() {
    let changes: [fn(&Path); 4] = [
        |path| std::fs::write(path, "echo evil\n").unwrap(),
        |path| File::options().append(true).open(path).unwrap().write_all(b"#").unwrap(),
        |path| {
            std::fs::write(path.with_extension("new"), "echo evil\n").unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        },
        |path| {
            std::fs::rename(path, path.with_extension("old")).unwrap();
            symlink(path.with_extension("old"), path).unwrap();
        },
    ];
    for change in changes {
        let scratch = Scratch::new();
        let script = scratch.write("script", "echo good\n");
        let mut command = stage(&["sh", script.to_str().unwrap()]);
        command.subject.operand = Some(Operand { index: 1, file: identity::hashed(&script).unwrap() });
        let plan = plan(vec![step(After::Always, vec![command])]);
        assert_eq!(finished(&plan).stdout, "good\n");
        change(&script);
        assert!(matches!(outcome(&plan), RunOutcome::Refused(_)));
    }
}

/// A107: a program, or the interpreter of one, that is another one by now. What lies earlier in a
/// search path now does not matter: the plan has the file.
#[test]
fn sec_a107_executable_swapped() {
    let changes: [fn(&Path); 3] = [
        |path| std::fs::write(path, "#!/bin/sh\necho evil\n").unwrap(),
        |path| {
            std::fs::rename(path, path.with_extension("old")).unwrap();
            symlink("/bin/sh", path).unwrap();
        },
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for change in changes {
        for changed in ["script", "interpreter", "binary"] {
            let scratch = Scratch::new();
            let interpreter = scratch.0.join("interpreter");
            std::fs::copy(search("sh").unwrap(), &interpreter).unwrap();
            std::fs::copy(search("echo").unwrap(), scratch.0.join("binary")).unwrap();
            scratch.write("script", &format!("#!{}\necho good\n", interpreter.display()));
            let name = if changed == "binary" { "binary" } else { "script" };
            let plan = plan(vec![step(After::Always, vec![stage(&[scratch.0.join(name).to_str().unwrap(), "good"])])]);
            assert_eq!(finished(&plan).stdout, "good\n");
            change(&scratch.0.join(changed));
            assert!(matches!(outcome(&plan), RunOutcome::Refused(_)), "{changed}");
        }
    }
}

#[test]
fn a_program_that_an_earlier_step_rewrote_does_not_run() {
    let scratch = Scratch::new();
    let tool = scratch.write("tool", "#!/bin/sh\necho good\n");
    let rewrite = step(After::Always, vec![sh(&format!("echo first; echo 'echo evil' >> {}", tool.display()))]);
    let use_it = Step { after: After::Success, ..pipeline(&format!("{} | cat", tool.display())) };
    let result = ran(vec![rewrite, use_it.clone(), pipeline("echo later")]);
    assert_eq!(result.stdout, "first\n");
    assert!(!result.success && result.error.unwrap().contains("exec approval changed before execution"));
    assert!(matches!(outcome(&plan(vec![use_it])), RunOutcome::Refused(_)));
}

/// A109: the program sees what was sent, byte for byte, argv[0] included, understood or not.
#[cfg(target_os = "linux")]
#[test]
fn sec_a109_argv_is_exact() {
    let shown = |argv: &[&str]| argv.iter().map(|word| format!("{word}\0")).collect::<String>();
    let mut named = words("cat /proc/self/cmdline -u");
    named.argv.push(String::new());
    named.argv[0] = "not the name ".to_owned();
    let argv: Vec<_> = named.argv.iter().map(String::as_str).collect();
    let result = ran(vec![step(After::Always, vec![named.clone()])]);
    assert_eq!(result.stdout, shown(&argv));
    let argv = ["env", "-i", "/bin/sh", "-c", "cat /proc/$$/cmdline; echo \"$HOME\"", "", " a  b", "$(x)"];
    let opaque = Plan {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        executable: find("env"),
        work: Work::Opaque(crate::exec::plan::NotUnderstood { reason: String::new(), position: 0 }),
        ..plan(Vec::new())
    };
    assert_eq!(finished(&opaque).stdout, shown(&argv[2..]) + "\n");
}

/// The leaders may exit between the look at them and the wait, their streams long at their end.
#[test]
fn an_exit_just_before_the_wait_ends_it() {
    let directory = spawn::open_directory(Path::new("/")).unwrap();
    let (stdout, writer) = io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let child = spawn::spawn(&Command {
        program: spawn::Program::Path(Path::new("/bin/sh")),
        arguments: &["sh".into(), "-c".into(), "exit 3".into()],
        environment: &[],
        directory: directory.as_fd(),
        directory_path: Path::new("/"),
        streams: [null.as_fd(), writer.as_fd(), writer.as_fd()],
        open_files: None,
        fence: &Enclosure::none(),
        ends_with_us: false,
    })
    .unwrap();
    drop(writer);
    let soon = || poll::deadline_in(Duration::from_secs(20));
    assert!(poll::wait_one(child.exited(), Interest::Readable, soon()).unwrap());
    let mut output = Output { stdout: Stream::from(stdout), ..Output::default() };
    output.drain();
    assert!(output.stdout.pipe.is_none());
    let cancel = Wake::new().unwrap();
    assert!(matches!(output.wait(&[&child], Some(&cancel), soon()).unwrap(), Event::Progress));
    assert_eq!(child.exit(), Some(Exit::Code(3)));
    child.release(None);
}
