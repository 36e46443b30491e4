//! Executes a plan that was authorised: bounded output, bounded time, nothing left behind.
//! Source: spec exec (e.2) "Running"; cases A149, A150, A168, H10, H13.

use super::approval::Authorised;
use super::plan::{CwdProblem, Plan};
use super::progress::{Listener, Progress};
use crate::limits;
use crate::protocol::node::RunResult;
use crate::protocol::policy::Refusal;
use crate::sys::fence::{Fencer, Walls};
use crate::sys::poll::{self, Interest};
use crate::sys::spawn::{self, Child, Command, Exit, Program, Stop};
use crate::sys::wake::Wake;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It ended, by itself or by its limit, or could not be started.
    Finished(RunResult),
    /// It was not started, since something changed after it was authorised.
    Refused(Refusal),
    /// `cancel` was fired; the group is gone and nobody waits for a result.
    Cancelled,
}

/// Exit code of a run that was stopped by its limit and left no code of its own. Source: exec e.2.
const TIMED_OUT_CODE: i32 = 124;

/// Runs it and follows it to its end. Blocks for as long as the command may take. `listener` hears
/// now and then what it has printed.
pub fn run(authorised: Authorised, cancel: &Wake, listener: Option<Listener<'_>>) -> RunOutcome {
    if cancel.is_fired() {
        return RunOutcome::Cancelled;
    }
    match start(&authorised) {
        Ok(running) => follow(running, authorised.plan().timeout, cancel, listener),
        Err(NotStarted::Changed(refusal)) => RunOutcome::Refused(refusal),
        Err(NotStarted::Failed(error)) => {
            RunOutcome::Finished(RunResult { error: Some(error), ..RunResult::default() })
        }
    }
}

enum NotStarted {
    /// What runs would not be what was judged.
    Changed(Refusal),
    /// A sentence: there is nothing that could be started.
    Failed(String),
}

/// A command that was started, and what it prints.
struct Running {
    child: Child,
    stdout: PipeReader,
    stderr: PipeReader,
}

impl Running {
    /// Starts it with nothing to read.
    fn start(command: impl FnOnce([BorrowedFd<'_>; 3]) -> io::Result<Child>) -> io::Result<Self> {
        let null = std::fs::File::open("/dev/null")?;
        let (stdout, stdout_child) = io::pipe()?;
        let (stderr, stderr_child) = io::pipe()?;
        let child = command([null.as_fd(), stdout_child.as_fd(), stderr_child.as_fd()])?;
        Ok(Self { child, stdout, stderr })
    }
}

fn start(authorised: &Authorised) -> Result<Running, NotStarted> {
    let plan = authorised.plan();
    let failed = |error: String| NotStarted::Failed(error);
    let directory = open_directory(plan)?;
    let Some(executable) = &plan.executable else {
        let name = plan.argv.first().map(String::as_str).unwrap_or_default();
        let searched = if plan.is_bare_name() { " in the node's search path" } else { "" };
        return Err(failed(format!("there is no program {name:?}{searched}; name an executable file")));
    };
    let arguments: Vec<OsString> = plan.argv.iter().map(OsString::from).collect();
    let environment: Vec<(OsString, OsString)> =
        plan.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    // Until the plan says which: no privileges to gain.
    let fence = Fencer::none("not asked for").enclose(&Walls::default()).map_err(failed)?;
    // The last look before the start; between here and exec lie a few system calls.
    plan.verify().map_err(NotStarted::Changed)?;
    let command = |streams: [BorrowedFd<'_>; 3]| {
        spawn::spawn(&Command {
            program: Program::Path(&executable.file.path),
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_fd(),
            directory_path: &plan.cwd,
            streams,
            open_files: authorised.open_files(),
            fence: &fence,
        })
    };
    Running::start(command)
        .map_err(|error| failed(format!("{} could not be started: {error}", executable.file.path.display())))
}

/// The working directory as a descriptor, still the one that was judged.
fn open_directory(plan: &Plan) -> Result<OwnedFd, NotStarted> {
    let shown = plan.cwd.display();
    let wanted = plan.cwd_identity.map_err(|problem| {
        NotStarted::Failed(match problem {
            CwdProblem::Missing => format!("node exec working directory does not exist on the node host: {shown}"),
            CwdProblem::NotADirectory => {
                format!("node exec working directory is not a directory on the node host: {shown}")
            }
        })
    })?;
    let directory = spawn::open_directory(&plan.cwd)
        .map_err(|error| NotStarted::Failed(format!("the working directory {shown} cannot be entered: {error}")))?;
    let file = std::fs::File::from(directory);
    match file.metadata() {
        Ok(metadata) if (metadata.dev(), metadata.ino()) == wanted => Ok(file.into()),
        _ => Err(NotStarted::Changed(Refusal::denied(
            "approval-required",
            "SYSTEM_RUN_DENIED: approval cwd changed before execution",
        ))),
    }
}

/// Follows a child: output, exit, limit, cancellation.
fn follow(running: Running, timeout: Option<Duration>, cancel: &Wake, listener: Option<Listener<'_>>) -> RunOutcome {
    let mut output = Output::default();
    let mut progress = listener.map(Progress::new);
    let mut timed_out = false;
    // First the limit, then the grace after TERM, then what we allow KILL to take.
    let mut deadline = timeout.and_then(poll::deadline_in);
    let mut next_stop = Some(Stop::Terminate);
    while running.child.exit().is_none() {
        let due = progress.as_ref().and_then(|progress| progress.due(output.streams()));
        match output.wait(&running, Some(cancel), deadline.into_iter().chain(due).min()) {
            Ok(Event::Cancelled) => {
                end_group(running.child);
                return RunOutcome::Cancelled;
            }
            // Only progress is due.
            Ok(Event::Deadline) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Ok(Event::Deadline) => {
                timed_out = true;
                let Some(stop) = next_stop else { break };
                running.child.stop(stop);
                (next_stop, deadline) = match stop {
                    Stop::Terminate => (Some(Stop::Kill), poll::deadline_in(limits::KILL_GRACE)),
                    Stop::Kill => (None, poll::deadline_in(limits::KILL_WAIT)),
                };
            }
            Ok(Event::Progress) => {}
            Err(error) => {
                end_group(running.child);
                let error = Some(format!("the command could not be followed and was stopped: {error}"));
                return RunOutcome::Finished(RunResult { error, ..output.into_result() });
            }
        }
        if let Some(progress) = &mut progress {
            progress.tell(output.streams());
        }
    }
    let exit = running.child.exit();
    let clean = exit == Some(Exit::Code(0)) && !timed_out;
    if !clean && !timed_out {
        running.child.stop(Stop::Terminate);
    }
    output.drain(&running);
    running.child.release((!clean).then_some(limits::KILL_GRACE));
    let mut result = output.into_result();
    result.timed_out = timed_out;
    result.exit_code = match exit {
        Some(Exit::Code(0) | Exit::Signal(_)) | None if timed_out => Some(TIMED_OUT_CODE),
        Some(Exit::Code(code)) => Some(code),
        Some(Exit::Signal(_)) | None => None,
    };
    result.success = clean;
    RunOutcome::Finished(result)
}

/// TERM, a moment, KILL. Waits, since nobody will look at this group again.
fn end_group(child: Child) {
    child.stop(Stop::Terminate);
    let _ = poll::wait_one(child.exited(), Interest::Readable, poll::deadline_in(limits::KILL_GRACE));
    child.stop(Stop::Kill);
    child.release(None);
}

enum Event {
    /// Output came, a stream ended, or the leader exited.
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
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Waits for anything to happen and reads what there is, one piece a stream. Whoever can be
    /// cancelled waits for the leader too. It may exit at any moment, so that is not asked here: an
    /// exit between the caller's look and this one would leave nothing to wait for.
    fn wait(&mut self, running: &Running, cancel: Option<&Wake>, deadline: Option<Instant>) -> io::Result<Event> {
        let mut watched = Vec::with_capacity(4);
        let (out_open, err_open) = (!self.stdout.ended, !self.stderr.ended);
        watched.extend(out_open.then_some((running.stdout.as_fd(), Interest::Readable)));
        watched.extend(err_open.then_some((running.stderr.as_fd(), Interest::Readable)));
        if let Some(cancel) = cancel {
            watched.extend([running.child.exited(), cancel.fd()].map(|fd| (fd, Interest::Readable)));
        }
        let ready = poll::wait(&watched, deadline)?;
        if cancel.is_some_and(Wake::is_fired) {
            return Ok(Event::Cancelled);
        }
        let mut ready = ready.into_iter();
        let room = limits::OUTPUT_BYTES.saturating_sub(self.stdout.bytes.len() + self.stderr.bytes.len());
        let mut any = false;
        let mut room = room;
        for (open, stream, pipe) in
            [(out_open, &mut self.stdout, &running.stdout), (err_open, &mut self.stderr, &running.stderr)]
        {
            if open && ready.next().unwrap_or(false) {
                any = true;
                let (kept, dropped) = stream.read(pipe, room)?;
                room = room.saturating_sub(kept);
                self.cut |= dropped > 0;
            }
        }
        any |= ready.next().unwrap_or(false);
        let passed = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        // A flood must not hide the deadline.
        Ok(if passed || !any { Event::Deadline } else { Event::Progress })
    }

    /// Reads what the exited leader and its children still write: to the end of both streams, or
    /// until a silence, or until the limit. Never turned into a timeout. Source: exec e.2.
    fn drain(&mut self, running: &Running) {
        let Some(end) = poll::deadline_in(limits::DRAIN_LIMIT) else { return };
        while !(self.stdout.ended && self.stderr.ended) && Instant::now() < end {
            let silence = poll::deadline_in(limits::DRAIN_SILENCE).map_or(end, |silence| silence.min(end));
            if !matches!(self.wait(running, None, Some(silence)), Ok(Event::Progress)) {
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

impl Stream {
    /// Reads one piece, keeps at most `room` bytes of it; returns what was kept and what not.
    fn read(&mut self, mut pipe: &PipeReader, room: usize) -> io::Result<(usize, usize)> {
        let mut piece = [0; limits::OUTPUT_CHUNK_BYTES];
        let count = match pipe.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok((0, 0)),
            Err(error) => return Err(error),
        };
        self.ended = count == 0;
        let kept = count.min(room);
        self.bytes.extend_from_slice(piece.get(..kept).unwrap_or_default());
        Ok((kept, count - kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fence::Enclosure;

    /// The leader may exit between the look at it and the wait, its streams long at their end.
    #[test]
    fn an_exit_just_before_the_wait_ends_it() {
        let directory = spawn::open_directory(std::path::Path::new("/")).unwrap();
        let fence = Enclosure::none();
        let command = |streams: [BorrowedFd<'_>; 3]| {
            spawn::spawn(&Command {
                program: Program::Path(std::path::Path::new("/bin/sh")),
                arguments: &["sh".into(), "-c".into(), "exit 3".into()],
                environment: &[],
                directory: directory.as_fd(),
                directory_path: std::path::Path::new("/"),
                streams,
                open_files: None,
                fence: &fence,
            })
        };
        let running = Running::start(command).unwrap();
        assert!(
            poll::wait_one(running.child.exited(), Interest::Readable, poll::deadline_in(Duration::from_secs(20)))
                .unwrap()
        );
        let mut output = Output::default();
        output.drain(&running);
        assert!(output.stdout.ended && output.stderr.ended);
        let cancel = Wake::new().unwrap();
        let event = output.wait(&running, Some(&cancel), poll::deadline_in(Duration::from_secs(5))).unwrap();
        assert!(matches!(event, Event::Progress));
        assert_eq!(running.child.exit(), Some(Exit::Code(3)));
        running.child.release(None);
    }
}
