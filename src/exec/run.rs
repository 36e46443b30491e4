//! Executes a plan that was authorised: every step by us and no shell, bounded output, bounded time,
//! nothing left behind. Source: spec exec (e.2) "Running"; cases A149, A150, A168, H07 to H10, H13.

use super::approval::Authorised;
use super::plan::{
    After, BoundFile, Builtin, CwdProblem, Directory, Executable, Plan, Program, Sink, Stage, Step, Subject, Work,
};
use super::progress::{Listener, Progress};
use crate::limits;
use crate::protocol::node::RunResult;
use crate::protocol::policy::Refusal;
use crate::state::audit;
use crate::sys::fence::Enclosure;
use crate::sys::poll::{self, Interest};
use crate::sys::spawn::{self, Child, Command, Exit, Stop};
use crate::sys::wake::Wake;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::slice;
use std::time::Instant;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It ended, by itself or by its limit, or could not be started.
    Finished(RunResult),
    /// It was not started, since something changed after it was authorised.
    Refused(Refusal),
    /// `cancel` was fired; the groups are gone and nobody waits for a result.
    Cancelled,
}

/// Exit code of a run that was stopped by its limit and left no code of its own. Source: exec e.2.
const TIMED_OUT_CODE: i32 = 124;
/// Exit code of a program that is there and cannot be started, as shells have it.
const NOT_STARTED_CODE: i32 = 126;
/// Exit code of a program that is not there, as shells have it.
const NOT_FOUND_CODE: i32 = 127;
/// Exit code by which a shell says that a program of its own died of SIGPIPE.
const BROKEN_PIPE_CODE: i32 = 128 + libc::SIGPIPE;

/// Runs it and follows it to its end. Blocks for as long as the commands may take. `listener` hears
/// now and then what they have printed.
pub fn run(authorised: Authorised, cancel: &Wake, listener: Option<Listener<'_>>) -> RunOutcome {
    let started = Instant::now();
    let outcome = execute(authorised.plan(), authorised.open_files(), authorised.enclosure(), cancel, listener);
    let (exit_code, timed_out, error) = match &outcome {
        RunOutcome::Finished(result) => (result.exit_code, result.timed_out, result.error.clone()),
        RunOutcome::Refused(refusal) => (None, false, Some(refusal.message.clone())),
        RunOutcome::Cancelled => (None, false, Some("it was stopped: nobody waits for it any more".to_owned())),
    };
    authorised.ended(&audit::End { exit_code, timed_out, duration: started.elapsed(), error });
    outcome
}

fn execute(
    plan: &Plan,
    open_files: Option<u64>,
    fence: &Enclosure,
    cancel: &Wake,
    listener: Option<Listener<'_>>,
) -> RunOutcome {
    if let Err(refusal) = plan.verify() {
        return RunOutcome::Refused(refusal);
    }
    let opened = || Ok((File::options().read(true).write(true).open("/dev/null")?, io::pipe()?, io::pipe()?));
    let (null, (stdout, stdout_writer), (stderr, stderr_writer)) = match opened() {
        Ok(opened) => opened,
        Err(error) => return failed(Output::default(), not_followed(&error)),
    };
    let mut run = Run {
        plan,
        open_files,
        fence,
        cancel,
        environment: plan.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        null,
        stdout: stdout_writer,
        stderr: stderr_writer,
        output: Output { stdout: Stream::from(stdout), stderr: Stream::from(stderr), cut: false },
        progress: listener.map(Progress::new),
        deadline: plan.timeout.and_then(poll::deadline_in),
        timed_out: false,
        has_started: false,
    };
    let ended = match &plan.work {
        Work::Steps(steps) => run.steps(steps),
        Work::Opaque(_) => run.steps(slice::from_ref(&opaque(plan))),
    };
    run.finish(ended)
}

/// The shell with its text, as it was sent, as a step.
fn opaque(plan: &Plan) -> Step {
    let stage = Stage {
        argv: plan.argv.clone(),
        program: plan.executable.clone().map_or(Program::Missing, Program::File),
        stdout: Sink::Output,
        stderr: Sink::Error,
        // Nothing of it was judged but the text.
        subject: Subject::default(),
    };
    let directory = plan.cwd_identity.ok().map(|identity| Directory { path: plan.cwd.clone(), identity });
    Step { after: After::Always, is_negated: false, directory, stages: vec![stage] }
}

/// Why a run ended before its commands did.
enum End {
    /// What runs would not be what was judged, and nothing has run.
    Refused(Refusal),
    /// A sentence.
    Failed(String),
    Cancelled,
}

/// A stage that was started, or was over at once.
enum Begun {
    Child(Child),
    Over(Exit),
}

impl Begun {
    fn child(&self) -> Option<&Child> {
        match self {
            Self::Child(child) => Some(child),
            Self::Over(_) => None,
        }
    }

    fn exit(&self) -> Option<Exit> {
        match self {
            Self::Child(child) => child.exit(),
            Self::Over(exit) => Some(*exit),
        }
    }
}

fn running(stages: &[Begun]) -> Vec<&Child> {
    stages.iter().filter_map(Begun::child).filter(|child| child.exit().is_none()).collect()
}

fn stop(stages: &[Begun], stop: Stop) {
    stages.iter().filter_map(Begun::child).for_each(|child| child.stop(stop));
}

/// A step's last look: how it ended, none if even KILL did not end it; and its stages, whose groups
/// are still theirs.
type Ended = (Option<Exit>, Vec<Begun>);

/// A plan at work.
struct Run<'a> {
    plan: &'a Plan,
    open_files: Option<u64>,
    fence: &'a Enclosure,
    cancel: &'a Wake,
    environment: Vec<(OsString, OsString)>,
    null: File,
    /// What leads to `output`.
    stdout: PipeWriter,
    /// What leads to `output`.
    stderr: PipeWriter,
    output: Output,
    progress: Option<Progress<'a>>,
    /// Of all steps together.
    deadline: Option<Instant>,
    timed_out: bool,
    has_started: bool,
}

impl Run<'_> {
    /// Runs one step after the other as their operators say. Returns the last one's end.
    fn steps(&mut self, steps: &[Step]) -> Result<Ended, End> {
        let mut ended: Ended = (Some(Exit::Code(0)), Vec::new());
        for step in steps {
            let has_succeeded = ended.0 == Some(Exit::Code(0));
            match step.after {
                After::Success if !has_succeeded => continue,
                After::Failure if has_succeeded => continue,
                _ => {}
            }
            if self.cancel.is_fired() {
                return Err(End::Cancelled);
            }
            self.timed_out |= self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if self.timed_out {
                break;
            }
            // A shell would not look after what these have left behind either.
            release(ended.1, None);
            // `Plan::verify` has just looked at everything.
            if self.has_started && !step.stages.iter().flat_map(Stage::files).all(BoundFile::is_unchanged) {
                return Err(self.changed("exec approval"));
            }
            ended = self.step(step)?;
        }
        Ok(ended)
    }

    /// Starts all stages of a pipeline and follows them until each has ended, as a shell does.
    fn step(&mut self, step: &Step) -> Result<Ended, End> {
        if step.stages.len() > limits::PIPELINE_STAGES {
            let most = limits::PIPELINE_STAGES;
            return Err(End::Failed(format!("a pipeline has at most {most} commands here; split it")));
        }
        let directory = self.directory(step)?;
        let mut stages = Vec::with_capacity(step.stages.len());
        let mut input: Option<PipeReader> = None;
        for (index, stage) in step.stages.iter().enumerate() {
            let is_last = index + 1 == step.stages.len();
            let (reader, writer) = match (!is_last).then(io::pipe).transpose() {
                Ok(pipe) => pipe.unzip(),
                Err(error) => return Err(End::Failed(not_followed(&error))),
            };
            stages.push(self.start(stage, &directory, input.as_ref(), writer)?);
            input = reader;
        }
        self.follow(&stages)?;
        Ok((status(&stages, step.is_negated), stages))
    }

    /// Starts a stage; `pipe` leads to the next one.
    fn start(
        &mut self,
        stage: &Stage,
        (directory, path): &(OwnedFd, &Directory),
        input: Option<&PipeReader>,
        pipe: Option<PipeWriter>,
    ) -> Result<Begun, End> {
        let name = stage.argv.first().map(String::as_str).unwrap_or_default();
        let executable = match &stage.program {
            Program::File(executable) => executable,
            Program::Builtin(builtin) => {
                if *builtin == Builtin::Pwd {
                    let line = [path.path.as_os_str().as_bytes(), b"\n"].concat();
                    self.say(stage.stdout, pipe, &line);
                }
                return Ok(Begun::Over(Exit::Code(i32::from(*builtin == Builtin::False))));
            }
            Program::Missing if self.is_one_command() => {
                let searched = if name.contains('/') { "" } else { " in the node's search path" };
                return Err(End::Failed(format!("there is no program {name:?}{searched}; name an executable file")));
            }
            Program::Missing => {
                self.say(stage.stderr, pipe, format!("{name}: not found\n").as_bytes());
                return Ok(Begun::Over(Exit::Code(NOT_FOUND_CODE)));
            }
        };
        let Some(program) = Checked::of(executable) else { return Err(self.changed("exec approval")) };
        let lead = |sink| match (sink, &pipe) {
            (Sink::Output, Some(pipe)) => pipe.as_fd(),
            (Sink::Output, None) => self.stdout.as_fd(),
            (Sink::Error, _) => self.stderr.as_fd(),
            (Sink::Null, _) => self.null.as_fd(),
        };
        let input = input.map_or(self.null.as_fd(), AsFd::as_fd);
        let spawned = spawn::spawn(&Command {
            program: program.start_by(),
            arguments: &stage.argv.iter().map(OsString::from).collect::<Vec<_>>(),
            environment: &self.environment,
            directory: directory.as_fd(),
            directory_path: &path.path,
            streams: [input, lead(stage.stdout), lead(stage.stderr)],
            open_files: self.open_files,
            fence: self.fence,
            ends_with_us: false,
        });
        let why = match spawned {
            Ok(child) => {
                self.has_started = true;
                return Ok(Begun::Child(child));
            }
            Err(error) => format!("{} could not be started: {error}", executable.file.path.display()),
        };
        if self.is_one_command() {
            return Err(End::Failed(why));
        }
        self.say(stage.stderr, pipe, format!("{why}\n").as_bytes());
        Ok(Begun::Over(Exit::Code(NOT_STARTED_CODE)))
    }

    /// Whether what cannot start is the whole run, and its reason the run's error.
    fn is_one_command(&self) -> bool {
        self.plan.stages().nth(1).is_none()
    }

    /// Writes what we have to say in a stage's place.
    fn say(&mut self, sink: Sink, pipe: Option<PipeWriter>, text: &[u8]) {
        let text = text.get(..limits::SAID_BYTES).unwrap_or(text);
        match (sink, pipe) {
            // Nobody reads it yet, but it is empty and this fits in.
            (Sink::Output, Some(mut pipe)) => drop(pipe.write_all(text)),
            (Sink::Output, None) => self.output.add(false, text),
            (Sink::Error, _) => self.output.add(true, text),
            (Sink::Null, _) => {}
        }
    }

    /// A step's working directory as a descriptor, still the one that was judged.
    fn directory<'s>(&self, step: &'s Step) -> Result<(OwnedFd, &'s Directory), End> {
        let Some(directory) = &step.directory else {
            let shown = self.plan.cwd.display();
            return Err(End::Failed(match self.plan.cwd_identity {
                Err(CwdProblem::NotADirectory) => {
                    format!("node exec working directory is not a directory on the node host: {shown}")
                }
                _ => format!("node exec working directory does not exist on the node host: {shown}"),
            }));
        };
        let opened = spawn::open_directory(&directory.path).map_err(|error| {
            End::Failed(format!("the working directory {} cannot be entered: {error}", directory.path.display()))
        })?;
        let file = File::from(opened);
        match file.metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == directory.identity => Ok((file.into(), directory)),
            _ => Err(self.changed("approval cwd")),
        }
    }

    fn changed(&self, what: &str) -> End {
        let text = format!("SYSTEM_RUN_DENIED: {what} changed before execution");
        if self.has_started {
            End::Failed(format!("{text}; what came before it has run, this and what follows has not"))
        } else {
            End::Refused(Refusal::denied("approval-required", text))
        }
    }

    /// Follows the stages of a step: output, exits, limit, cancellation.
    fn follow(&mut self, stages: &[Begun]) -> Result<(), End> {
        // First the limit, then the grace after TERM, then what we allow KILL to take.
        let mut deadline = self.deadline;
        let mut next_stop = Some(Stop::Terminate);
        loop {
            let running = running(stages);
            if running.is_empty() {
                return Ok(());
            }
            let due = self.progress.as_ref().and_then(|progress| progress.due(self.output.streams()));
            match self.output.wait(&running, Some(self.cancel), deadline.into_iter().chain(due).min()) {
                Ok(Event::Cancelled) => {
                    end(stages);
                    return Err(End::Cancelled);
                }
                // Only progress is due.
                Ok(Event::Deadline) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Ok(Event::Deadline) => {
                    self.timed_out = true;
                    let Some(next) = next_stop else { return Ok(()) };
                    stop(stages, next);
                    (next_stop, deadline) = match next {
                        Stop::Terminate => (Some(Stop::Kill), poll::deadline_in(limits::KILL_GRACE)),
                        Stop::Kill => (None, poll::deadline_in(limits::KILL_WAIT)),
                    };
                }
                Ok(Event::Progress) => {}
                Err(error) => {
                    end(stages);
                    return Err(End::Failed(not_followed(&error)));
                }
            }
            if let Some(progress) = &mut self.progress {
                progress.tell(self.output.streams());
            }
        }
    }

    /// Reads what is still coming, puts away what is left and says what came of it.
    fn finish(self, ended: Result<Ended, End>) -> RunOutcome {
        let Self { mut output, timed_out, stdout, stderr, .. } = self;
        // Only what the commands have left behind still writes.
        drop((stdout, stderr));
        let (exit, stages) = match ended {
            Ok(ended) => ended,
            Err(End::Refused(refusal)) => return RunOutcome::Refused(refusal),
            Err(End::Cancelled) => return RunOutcome::Cancelled,
            Err(End::Failed(error)) => {
                output.drain();
                return failed(output, error);
            }
        };
        let success = exit == Some(Exit::Code(0)) && !timed_out;
        if !success && !timed_out {
            stop(&stages, Stop::Terminate);
        }
        output.drain();
        release(stages, (!success).then_some(limits::KILL_GRACE));
        let exit_code = match exit {
            Some(Exit::Code(0) | Exit::Signal(_)) | None if timed_out => Some(TIMED_OUT_CODE),
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal(_)) | None => None,
        };
        RunOutcome::Finished(RunResult { timed_out, exit_code, success, ..output.into_result() })
    }
}

fn failed(output: Output, error: String) -> RunOutcome {
    RunOutcome::Finished(RunResult { error: Some(error), ..output.into_result() })
}

fn not_followed(error: &io::Error) -> String {
    format!("the command could not be followed and was stopped: {error}")
}

/// How a pipeline ended: the last of its stages that failed says it, and one that wrote more than its
/// reader wanted did not fail.
fn status(stages: &[Begun], is_negated: bool) -> Option<Exit> {
    let had_enough = |exit| matches!(exit, Some(Exit::Signal(libc::SIGPIPE)) | Some(Exit::Code(BROKEN_PIPE_CODE)));
    let is_failure =
        |(place, exit): &(usize, Option<Exit>)| *exit != Some(Exit::Code(0)) && (*place == 0 || !had_enough(*exit));
    let failure = stages.iter().rev().map(Begun::exit).enumerate().find(is_failure);
    match failure.map(|(_, exit)| exit) {
        None => Some(Exit::Code(i32::from(is_negated))),
        Some(_) if is_negated => Some(Exit::Code(0)),
        Some(exit) => exit,
    }
}

/// A program that is still what was judged.
struct Checked<'a> {
    executable: &'a Executable,
    /// Of a binary: what runs by it is this very file, whatever its path has become.
    #[cfg(not(target_os = "macos"))]
    binary: Option<File>,
}

impl<'a> Checked<'a> {
    /// The last look before the start; between here and exec lie a few system calls.
    fn of(executable: &'a Executable) -> Option<Self> {
        #[cfg(not(target_os = "macos"))]
        if executable.interpreters.is_empty() {
            let binary = super::identity::open_unchanged(&executable.file).ok()??;
            return Some(Self { executable, binary: Some(binary) });
        }
        executable.files().all(BoundFile::is_unchanged).then_some(Self {
            executable,
            #[cfg(not(target_os = "macos"))]
            binary: None,
        })
    }

    fn start_by(&self) -> spawn::Program<'_> {
        #[cfg(not(target_os = "macos"))]
        if let Some(binary) = &self.binary {
            return spawn::Program::Descriptor(binary.as_fd());
        }
        spawn::Program::Path(&self.executable.file.path)
    }
}

/// Lets go of the stages of a step; what is left of their groups is killed after `kill_after`.
fn release(stages: Vec<Begun>, kill_after: Option<std::time::Duration>) {
    for stage in stages {
        if let Begun::Child(child) = stage {
            child.release(kill_after);
        }
    }
}

/// TERM, a moment, KILL. Waits, since nobody will look at these groups again.
fn end(stages: &[Begun]) {
    stop(stages, Stop::Terminate);
    let deadline = poll::deadline_in(limits::KILL_GRACE);
    loop {
        let running = running(stages);
        let exits: Vec<_> = running.iter().map(|child| (child.exited(), Interest::Readable)).collect();
        if exits.is_empty() || !poll::wait(&exits, deadline).is_ok_and(|ready| ready.contains(&true)) {
            break;
        }
    }
    stop(stages, Stop::Kill);
}

enum Event {
    /// Output came, a stream ended, or a leader exited.
    Progress,
    Deadline,
    Cancelled,
}

/// What was read of both streams, first come first served up to one common limit.
#[derive(Default)]
struct Output {
    stdout: Stream,
    stderr: Stream,
    cut: bool,
}

#[derive(Default)]
struct Stream {
    /// Until its end.
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl From<PipeReader> for Stream {
    fn from(pipe: PipeReader) -> Self {
        Self { pipe: Some(pipe), bytes: Vec::new() }
    }
}

impl Output {
    /// Waits for anything to happen and reads what there is, one piece a stream. `running` are those
    /// that the caller saw running: any of them may have exited since, and is seen here.
    fn wait(&mut self, running: &[&Child], cancel: Option<&Wake>, deadline: Option<Instant>) -> io::Result<Event> {
        let streams = [&self.stdout, &self.stderr].map(|stream| stream.pipe.as_ref().map(AsFd::as_fd));
        let exits = running.iter().map(|child| child.exited());
        let watched: Vec<(BorrowedFd<'_>, Interest)> = (streams.into_iter().flatten())
            .chain(exits)
            .chain(cancel.map(Wake::fd))
            .map(|fd| (fd, Interest::Readable))
            .collect();
        let ready = poll::wait(&watched, deadline)?;
        if cancel.is_some_and(Wake::is_fired) {
            return Ok(Event::Cancelled);
        }
        let any = ready.contains(&true);
        let mut ready = ready.into_iter();
        for is_error in [false, true] {
            if self.stream(is_error).pipe.is_some() && ready.next().unwrap_or(false) {
                self.read(is_error)?;
            }
        }
        let passed = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        // A flood must not hide the deadline.
        Ok(if passed || !any { Event::Deadline } else { Event::Progress })
    }

    fn stream(&mut self, is_error: bool) -> &mut Stream {
        if is_error { &mut self.stderr } else { &mut self.stdout }
    }

    /// Reads one piece.
    fn read(&mut self, is_error: bool) -> io::Result<()> {
        let mut piece = [0; limits::OUTPUT_CHUNK_BYTES];
        let Some(pipe) = &mut self.stream(is_error).pipe else { return Ok(()) };
        match pipe.read(&mut piece) {
            Ok(0) => self.stream(is_error).pipe = None,
            Ok(count) => self.keep(is_error, piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Keeps what there is room for.
    fn keep(&mut self, is_error: bool, bytes: &[u8]) {
        let room = limits::OUTPUT_BYTES.saturating_sub(self.stdout.bytes.len() + self.stderr.bytes.len());
        self.cut |= bytes.len() > room;
        self.stream(is_error).bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Adds a text of ours, behind everything that lies in the pipes.
    fn add(&mut self, is_error: bool, text: &[u8]) {
        for _ in 0..=limits::PIPE_BYTES / limits::OUTPUT_CHUNK_BYTES {
            let _ = self.wait(&[], None, Some(Instant::now()));
        }
        self.keep(is_error, text);
    }

    /// Reads what the exited leaders and their children still write: to the end of both streams, or
    /// until a silence, or until the limit. Never turned into a timeout. Source: exec e.2.
    fn drain(&mut self) {
        let Some(end) = poll::deadline_in(limits::DRAIN_LIMIT) else { return };
        while (self.stdout.pipe.is_some() || self.stderr.pipe.is_some()) && Instant::now() < end {
            let silence = poll::deadline_in(limits::DRAIN_SILENCE).map_or(end, |silence| silence.min(end));
            if !matches!(self.wait(&[], None, Some(silence)), Ok(Event::Progress)) {
                return;
            }
        }
    }

    /// What was kept of stdout and stderr.
    fn streams(&self) -> [&[u8]; 2] {
        [&self.stdout.bytes, &self.stderr.bytes]
    }

    /// Decodes both streams, once, and marks a cut. Source: exec e.2 "Output caps".
    fn into_result(self) -> RunResult {
        let mut stdout = String::from_utf8_lossy(&self.stdout.bytes).into_owned();
        let mut stderr = String::from_utf8_lossy(&self.stderr.bytes).into_owned();
        if self.cut {
            let marked = if stderr.trim().is_empty() { &mut stdout } else { &mut stderr };
            marked.push_str("\n... (truncated)");
        }
        RunResult { stdout, stderr, ..RunResult::default() }
    }
}

#[cfg(test)]
mod tests;
