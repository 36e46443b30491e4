//! Flags, each turned into one call into the room that does the work, and exit codes.

mod app;
mod approvals;
mod bridge;
mod gateway;
mod mac_debug;
mod node;
mod service;
mod ssh;

use crate::state::{Environment, StateDir, StateError};
use crate::sys::process;
use argh::FromArgs;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

/// OpenClaw on this Mac: lets an agent use it, as far as you allow.
#[derive(FromArgs)]
struct Openclaw {
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Gateway(gateway::Flags),
    Node(node::Flags),
    App(app::Flags),
    Bridge(bridge::Flags),
    MacDebug(mac_debug::Flags),
}

/// Exit code for wrong usage, as `sysexits` and most tools have it.
const USAGE: u8 = 2;

/// The whole program: reads its environment and arguments, calls one command.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    process::private_umask();
    process::ignore_sigpipe();
    // Before the first thread: our variables leave the environment, so no child inherits a secret.
    let environment = match Environment::take() {
        Ok(environment) => environment,
        Err(error) => return failed("openclaw", &error),
    };
    let mut words = Vec::new();
    for argument in arguments.skip(1) {
        match argument.into_string() {
            Ok(word) => words.push(word),
            Err(_) => return usage("an argument is not UTF-8"),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let parsed = match Openclaw::from_args(&["openclaw"], &words) {
        Ok(parsed) => parsed,
        Err(exit) => {
            return match exit.status {
                Ok(()) => say(&format!("{}\n", exit.output.trim_end())),
                Err(()) => usage(&without_values(exit.output.trim_end(), &words)),
            };
        }
    };
    if parsed.version {
        return say(&format!("openclaw {}\n", crate::gateway::VERSION));
    }
    match parsed.command {
        None => usage("say what to do: gateway, node, app, bridge, mac-debug; `openclaw --help` tells more"),
        Some(Command::Gateway(flags)) => gateway::run(flags, environment),
        Some(Command::Node(flags)) => node::run(flags, environment),
        Some(Command::App(flags)) => app::run(flags, environment),
        Some(Command::MacDebug(flags)) => mac_debug::run(flags, environment),
        Some(Command::Bridge(flags)) => bridge::run(flags, environment),
    }
}

/// What is wrong with the arguments, without what stands behind an option's `=`: it may be a secret (A158).
fn without_values(text: &str, words: &[&str]) -> String {
    let values = words.iter().filter_map(|word| word.strip_prefix('-')?.split_once('=')).map(|(_, value)| value);
    values
        .filter(|value| !value.is_empty())
        .fold(text.to_owned(), |text, value| text.replace(&format!("={value}"), "=…"))
}

/// Prints to standard output; a reader that has left is not an error.
fn say(text: &str) -> ExitCode {
    use std::io::Write;
    let written = std::io::stdout().write_all(text.as_bytes());
    if process::quiet_epipe(written).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(USAGE)
}

fn failed(part: &str, error: &dyn Display) -> ExitCode {
    complain(&format!("{part}: {error}"));
    ExitCode::FAILURE
}

/// One line, or as many as a usage text has, on standard error; never a panic when that is closed.
fn complain(text: &str) {
    use std::io::Write;
    let mut safe = String::with_capacity(text.len());
    for line in text.lines() {
        crate::log::escape_into(line, crate::limits::LOG_LINE_BYTES, &mut safe);
        safe.push('\n');
    }
    let _ = std::io::stderr().write_all(safe.as_bytes());
}

/// The state directory, with the flag going before the variable.
fn locate(flag: Option<PathBuf>, environment: &mut Environment) -> Result<StateDir, StateError> {
    if let Some(directory) = flag {
        // A flag is relative to where we are; the variable is relative to the home directory.
        environment.state_dir = Some(std::path::absolute(&directory).unwrap_or(directory));
    }
    StateDir::locate(environment)
}

/// `gateway run`: the word is optional and nothing else is known yet.
fn is_run(verb: Option<&str>) -> Result<(), String> {
    match verb {
        None | Some("run") => Ok(()),
        Some(other) => Err(format!("`{other}` is not known here; the only word is `run`, and it may be left out")),
    }
}
