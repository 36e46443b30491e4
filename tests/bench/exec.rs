//! What a decision about a command costs before anything starts, and what its fence and its record cost.
//!
//! In this process, by the library; the whole way of a command is `wire.rs`' own business.

use crate::floor::TRUE;
use crate::gateway::{BINARY, Scratch};
use crate::{Figure, Outcome, median, microseconds, percentile, sample, sample_one};
use openclaw::exec::analysis::{self, Host};
use openclaw::exec::plan::Work;
use openclaw::exec::policy::{self, Rules, Verdict};
use openclaw::exec::{fence, identity};
use openclaw::limits;
use openclaw::protocol::node::RunRequest;
use openclaw::protocol::policy::{Ask, Fence, Security};
use openclaw::state::approvals::{AllowEntry, EffectivePolicy};
use openclaw::state::audit::{AuditLog, Decision, End};
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::poll::{self, Interest};
use openclaw::sys::spawn::{self, Command, Exit, Program};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bound for the analysis of a typical line.
const ANALYSIS_TARGET_US: f64 = 50.0;
/// Names in the directory that a glob reads.
const NAMES: usize = 1000;
/// Bytes of the file that is hashed.
const HASHED_BYTES: usize = 16 << 20;

/// Figures of everything before the start.
pub fn figures(samples: &impl Fn(usize) -> usize) -> Outcome<Vec<Figure>> {
    let host = Host::of_this_process(None);
    let scratch = Scratch::new()?;
    let mut figures = typical_lines(&host, samples(5000))?;
    figures.extend(lengths(&host, samples(200))?);
    figures.push(directory_read(&host, scratch.path(), samples(200))?);
    figures.push(hashing(scratch.path(), samples(20))?);
    figures.extend(decisions(&host, samples(1000))?);
    figures.push(audit_append(scratch.path(), samples(3000))?);
    Ok(figures)
}

/// Lines as agents send them, of programs that this machine has; each is judged as it stands here, in the repository.
fn typical_lines(host: &Host, count: usize) -> Outcome<Vec<Figure>> {
    let there = |names: [&'static str; 2]| {
        let is_there = |name: &&str| host.find(name, Path::new("/")).is_some();
        names.into_iter().find(is_there).ok_or_else(|| format!("neither of {names:?} is in the search path"))
    };
    let lines = [
        "ls -la".to_owned(),
        "cat README.md".to_owned(),
        "sed -n 1,40p src/lib.rs".to_owned(),
        "sh scripts/check-rooms.sh".to_owned(),
        format!("git status && {} test", there(["cargo", "git"])?),
        format!("{} -n TODO src | head -20", there(["rg", "grep"])?),
        "cd src && wc -l lib.rs main.rs 2>/dev/null | tail -1".to_owned(),
        "git diff --stat; git log --oneline -5".to_owned(),
    ];
    let mut figures = Vec::new();
    for line in lines {
        let is_text = line.contains(['&', '|', ';']);
        let request = if is_text { shell(&line) } else { request(line.split(' ')) };
        let mut times = Vec::new();
        sample_one(count, &mut || understood(&request, host), &mut times)?;
        let target = Some(ANALYSIS_TARGET_US);
        let time = microseconds(percentile(&mut times, 50));
        figures.push(Figure { target, ..Figure::new(format!("analysis of `{line}`, p50"), "µs", time) });
    }
    Ok(figures)
}

/// Texts of growing length and of one command, so that what is measured is the reading. The last is
/// longer than any that is analysed.
fn lengths(host: &Host, count: usize) -> Outcome<Vec<Figure>> {
    const WORDS: &str = " 'plain words between quotes' \"and more of them\" of/a/longer/kind a\\ blank";
    let mut figures = Vec::new();
    for kib in [1, 4, 16, 64, 80] {
        let request = shell(&format!("echo{}", WORDS.repeat((kib * 1024 - "echo".len()) / WORDS.len())));
        let is_too_long = kib > limits::SHELL_TEXT_BYTES / 1024;
        let mut analyse = || {
            let work = analysis::analyse(&request, host).map_err(|refusal| refusal.message)?.work;
            if matches!(work, Work::Opaque(_)) == is_too_long { Ok(()) } else { Err(format!("{work:?}").into()) }
        };
        let mut times = Vec::new();
        sample_one(count, &mut analyse, &mut times)?;
        let note = if is_too_long { ", too long to be read" } else { "" };
        let time = microseconds(percentile(&mut times, 50));
        figures.push(Figure::new(format!("analysis of {kib} KiB of text{note}, p50"), "µs", time));
    }
    Ok(figures)
}

/// A glob over [`NAMES`] names. Floor: reading that directory.
fn directory_read(host: &Host, scratch: &Path, count: usize) -> Outcome<Figure> {
    let directory = scratch.join("names");
    fs::create_dir(&directory)?;
    for number in 0..NAMES {
        File::create(directory.join(format!("name-{number}.txt")))?;
    }
    let cwd = Some(directory.to_string_lossy().into_owned());
    let request = RunRequest { cwd, ..shell("ls *.txt") };
    let floor = || {
        let names: Result<Vec<OsString>, _> =
            fs::read_dir(&directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
        black_box(names?);
        Ok(())
    };
    Ok(median(format!("a glob over {NAMES} names, p50"), sample(count, || understood(&request, host), floor)?))
}

/// A file that commands could rewrite and that nobody has looked at yet. Floor: hashing the same bytes
/// in memory.
fn hashing(scratch: &Path, count: usize) -> Outcome<Figure> {
    let path = scratch.join("program");
    let bytes = vec![b'x'; HASHED_BYTES];
    fs::write(&path, &bytes)?;
    let ours = || {
        // Touched, so that its identity is too young to be believed.
        File::options().append(true).open(&path)?.set_len(HASHED_BYTES as u64)?;
        black_box(identity::hashed(&path)?);
        Ok(())
    };
    let floor = || {
        black_box(Sha256::digest(black_box(&bytes)));
        Ok(())
    };
    let [ours, floor] =
        sample(count, ours, floor)?.map(|mut all| HASHED_BYTES as f64 / microseconds(percentile(&mut all, 50)));
    let figure = Figure::new(format!("hashing {} MiB", HASHED_BYTES >> 20), "MB/s", ours);
    Ok(Figure { floor: Some(floor), more_is_better: true, ..figure })
}

/// One decision; the last entry is the one that allows it. Floor: the same with one entry.
fn decisions(host: &Host, count: usize) -> Outcome<Vec<Figure>> {
    let plan = analysis::analyse(&request(["ls", "-la"]), host).map_err(|refusal| refusal.message)?;
    let right = plan.executable_text().ok_or("ls was not found")?;
    let decide = |rules: &Rules| match policy::decide(black_box(&plan), rules) {
        Verdict::Run(_) => Ok(()),
        other => Err(format!("not allowed: {other:?}").into()),
    };
    let one = rules(1, right);
    let mut figures = Vec::new();
    for entries in [10, 100, 1000] {
        let many = rules(entries, right);
        let times = sample(count, || decide(&many), || decide(&one))?;
        figures.push(median(format!("a decision among {entries} entries, p50"), times));
    }
    Ok(figures)
}

/// An allowlist of which the last entry names `program`.
fn rules(entries: usize, program: &str) -> Rules {
    let entry = |number: usize| AllowEntry {
        id: number.to_string(),
        pattern: if number == entries { program.to_owned() } else { format!("/opt/tools/{number}/bin/*") },
        arg_pattern: None,
        source: None,
    };
    let policy = EffectivePolicy {
        security: Security::Allowlist,
        ask: Ask::OnMiss,
        ask_fallback: Security::Deny,
        auto_allow_skills: false,
        allowlist: (1..=entries).map(entry).collect(),
        denylist: Vec::new(),
        fence: Fence::State,
        trust_gateway_approvals: false,
        broken: None,
        snapshot: String::new(),
    };
    Rules { policy, safe_bins: Arc::default(), skills: Vec::new(), strict_inline_eval: false }
}

/// Both records of one command. Floor: appending as many bytes to a file by two writes.
fn audit_append(scratch: &Path, count: usize) -> Outcome<Figure> {
    let directory = scratch.join("state");
    let state = StateDir::locate(&Environment { state_dir: Some(directory.clone()), ..Environment::default() })?;
    state.prepare()?;
    let audit = AuditLog::new(&state);
    let decision = Decision { requester: "a benchmark", command: "ls -la", by: "it", ..Decision::default() };
    let ours = || {
        let ticket = audit.decision(&decision)?;
        audit.ended(ticket, &End::default());
        Ok(())
    };
    ours()?;
    let [newest, ..] = state.audit();
    let line = vec![b'x'; usize::try_from(fs::metadata(newest)?.len())? / 2];
    let mut file = File::options().append(true).create(true).open(scratch.join("lines"))?;
    let floor = || {
        file.write_all(&line)?;
        Ok(file.write_all(&line)?)
    };
    Ok(median("audit log, both records of a command, p50".to_owned(), sample(count, ours, floor)?))
}

/// Starts [`TRUE`] as commands are started, with nothing before and behind it.
pub struct Launcher {
    fencer: Fencer,
    workspace: PathBuf,
    null: File,
    directory: OwnedFd,
}

impl Launcher {
    /// `workspace` is what the fences hide, where commands start and may write.
    pub fn new(workspace: &Path) -> Outcome<Self> {
        let hidden = workspace.join("hidden");
        fs::create_dir_all(&hidden)?;
        let fencer = Fencer::prepare(Path::new(BINARY), &[hidden], &[]);
        eprintln!("bench: fence: {}", fencer.mechanism());
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self { fencer, workspace: workspace.to_owned(), null, directory: spawn::open_directory(workspace)? })
    }

    /// From its start to its end.
    pub fn run(&self, level: Fence) -> Outcome<()> {
        let fence = fence::enclose(&self.fencer, level, &self.workspace)?;
        let child = spawn::spawn(&Command {
            program: Program::Path(Path::new(TRUE)),
            arguments: &[OsString::from(TRUE)],
            environment: &[],
            directory: self.directory.as_fd(),
            directory_path: &self.workspace,
            streams: [self.null.as_fd(); 3],
            open_files: None,
            fence: &fence,
            ends_with_us: false,
        })?;
        poll::wait_one(child.exited(), Interest::Readable, None)?;
        match child.exit() {
            Some(Exit::Code(0)) => {
                child.release(None);
                Ok(())
            }
            other => Err(format!("{TRUE} ended with {other:?}").into()),
        }
    }
}

fn request<'a>(command: impl IntoIterator<Item = &'a str>) -> RunRequest {
    RunRequest { command: command.into_iter().map(str::to_owned).collect(), ..RunRequest::default() }
}

fn shell(text: &str) -> RunRequest {
    request(["/bin/sh", "-c", text])
}

fn understood(request: &RunRequest, host: &Host) -> Outcome<()> {
    match analysis::analyse(request, host).map_err(|refusal| refusal.message)?.work {
        Work::Steps(steps) => {
            black_box(steps);
            Ok(())
        }
        Work::Opaque(why) => Err(format!("{:?} was not understood: {}", request.command, why.reason).into()),
    }
}
