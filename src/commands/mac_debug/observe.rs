//! What watches and explains: status, doctor, logs, watch, trace, replay.

use super::print;
use crate::client::Endpoint;
use crate::commands::confirm::confirmed;
use crate::commands::say;
use crate::inspect::facts::Place;
use crate::inspect::logs::{Log, Part};
use crate::inspect::trace::Trace;
use crate::inspect::watch::{self, Watch};
use crate::inspect::{InspectError, Target, doctor, replay, status};
use crate::limits;
use crate::state::{Environment, StateDir};
use crate::sys::poll::{Gone, wait_gone};
use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// What runs, where, in which version and how strict it is; and below each line what is wrong there and what to do.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status", example = "openclaw mac-debug status")]
pub(super) struct Status {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Check everything that usually goes wrong, and say what to do about it. Exits with 1 when there is a problem.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "doctor",
    note = "--fix closes files and sockets of ours to others and removes sockets that nobody serves; nothing else.",
    example = "openclaw mac-debug doctor --fix"
)]
pub(super) struct Doctor {
    /// repair what is harmless to repair; shows each change first and asks
    #[argh(switch)]
    fix: bool,
    /// with --fix: do not ask
    #[argh(switch)]
    yes: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Print the newest lines of a log.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logs", example = "openclaw mac-debug logs --role gateway --follow")]
pub(super) struct Logs {
    /// whose: app, gateway or node (default: app)
    #[argh(option, default = "Part::App")]
    role: Part,
    /// go on printing what comes
    #[argh(switch)]
    follow: bool,
    /// how many lines (default: 50)
    #[argh(option, default = "50")]
    lines: usize,
}

/// Print what happens, as it happens: connections, approvals, pairing, and each command of this machine with its
/// decision, its result and how long it took. Ends with Ctrl-C or when nobody reads any more.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "watch", example = "openclaw mac-debug watch --json")]
pub(super) struct WatchFlags {
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
}

/// Record what a client and the gateway say to each other, without secrets, until Ctrl-C: the client connects to the
/// address that is printed, and everything is passed on to the gateway as it is. What commands print is recorded, too.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "trace", example = "openclaw mac-debug trace --out frames.jsonl")]
pub(super) struct TraceFlags {
    /// file to record to; made, and readable by you only
    #[argh(option)]
    out: PathBuf,
    /// loopback port for clients (default: a free one)
    #[argh(option, default = "0")]
    listen: u16,
}

/// Send an operator's requests of a recording again, with a login of your own, and print in what the answers differ.
/// Only what looks is sent.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "replay", example = "openclaw mac-debug replay frames.jsonl")]
pub(super) struct ReplayFlags {
    /// which connection of the recording (default: the first operator's)
    #[argh(option)]
    connection: Option<usize>,
    /// send also what changes something or runs commands
    #[argh(switch)]
    yes: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// the recording
    #[argh(positional)]
    file: PathBuf,
}

/// Where to look; that there is no way to a gateway is part of what is found.
pub(super) fn place(state: StateDir, environment: Environment, other: Option<Endpoint>) -> Place {
    let target = Target::new(state.clone(), &environment, other);
    Place { state, environment, target }
}

pub(super) fn status(place: &Place, flags: &Status) -> ExitCode {
    print(&status::status(place), flags.json, status::text)
}

pub(super) fn doctor(place: &Place, flags: &Doctor) -> Result<ExitCode, InspectError> {
    if flags.yes && !flags.fix {
        return Err(InspectError::Usage("--yes is for --fix".to_owned()));
    }
    let mut diagnosis = doctor::examine(place);
    if flags.fix {
        let repairs = diagnosis.repairs();
        if repairs.is_empty() {
            crate::commands::complain("there is nothing that can be repaired here");
        } else if confirmed(&repairs, flags.yes)? {
            diagnosis.repair()?;
            diagnosis = doctor::examine(place);
        }
    }
    let printed = print(&diagnosis.to_json(), flags.json, doctor::text);
    Ok(if diagnosis.is_well() { printed } else { ExitCode::FAILURE })
}

pub(super) fn logs(state: &StateDir, environment: &Environment, flags: &Logs) -> Result<ExitCode, InspectError> {
    let mut log = Log::find(state, environment, flags.role)?;
    let found = log.lines()?;
    let mut lines = found.get(found.len().saturating_sub(flags.lines)..).unwrap_or_default().to_vec();
    loop {
        if !pass_on(lines.iter().map(|line| format!("{line}\n"))) || !flags.follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(limits::WATCH_GLANCE);
        lines = log.lines()?;
    }
}

pub(super) fn watch(target: Target, flags: &WatchFlags) -> ExitCode {
    let mut watch = Watch::new(target);
    loop {
        let line = |happening: &watch::Happening| {
            if flags.json { format!("{happening}\n") } else { watch::text(happening) }
        };
        if !pass_on(watch.glance().iter().map(line)) {
            return ExitCode::SUCCESS;
        }
    }
}

/// False once nobody reads, also if there was nothing to say.
fn pass_on(mut lines: impl Iterator<Item = String>) -> bool {
    let mut out = std::io::stdout().lock();
    let has_left =
        |never: Wake| wait_gone(out.as_fd(), &never, Some(Instant::now())).is_ok_and(|gone| gone == Gone::Peer);
    if Wake::new().is_ok_and(has_left) {
        return false;
    }
    lines.all(|line| out.write_all(line.as_bytes()).is_ok()) && out.flush().is_ok()
}

pub(super) fn trace(gateway: Endpoint, flags: &TraceFlags) -> Result<ExitCode, InspectError> {
    let broken = |error: std::io::Error| InspectError::App(error.to_string());
    let signals = Termination::install().map_err(broken)?;
    let (stop, whole) = (Arc::new(Wake::new().map_err(broken)?), gateway.to_string());
    let trace = Trace::start(gateway, flags.listen, &flags.out)?;
    let (url, for_signals) = (trace.url().map_err(broken)?, Arc::clone(&stop));
    let wait = move || {
        let _ = signals.wait();
        for_signals.fire();
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(broken)?;
    say(&format!("{url}\n"));
    crate::commands::complain(&format!(
        "records what passes between {url} and {whole} in {}; end it with Ctrl-C",
        flags.out.display()
    ));
    trace.run(&stop).map_err(broken)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn replay(target: &Target, flags: &ReplayFlags) -> Result<ExitCode, InspectError> {
    let recording = replay::read(&flags.file, flags.connection)?;
    if flags.yes {
        let changing = recording.requests.iter().filter(|request| !request.only_looks());
        let lines: Vec<String> =
            changing.map(|request| format!("call {} at {}", request.method(), target.endpoint)).collect();
        if !lines.is_empty() {
            confirmed(&lines, true)?;
        }
    }
    let replayed = replay::replay(target, &recording, |request| flags.yes || request.only_looks())?;
    Ok(print(&replayed, flags.json, replay::text))
}
