//! What drives a node: run, invoke.

use super::print;
use crate::commands::{complain, say};
use crate::inspect::{InspectError, Target, run as runs};
use crate::protocol::node::RunResult;
use crate::sys::process;
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Run a command on a node, through the whole chain: a person there may be asked first.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run", example = "openclaw mac-debug run -- uname -a")]
pub(super) struct Run {
    /// node by id, beginning of the id, or name (default: the only connected one that runs commands)
    #[argh(option)]
    node: Option<String>,
    /// working directory on the node
    #[argh(option)]
    cwd: Option<String>,
    /// NAME=VALUE added to the command's environment; may be repeated
    #[argh(option)]
    env: Vec<String>,
    /// limit of the run in milliseconds (default: none)
    #[argh(option)]
    timeout: Option<u64>,
    /// print to standard error, too, what a long run has printed so far
    #[argh(switch)]
    follow: bool,
    /// print the result as JSON
    #[argh(switch)]
    json: bool,
    /// command and arguments, after --
    #[argh(positional, greedy)]
    command: Vec<String>,
}

/// Invoke any node command with JSON parameters.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "invoke", example = "openclaw mac-debug invoke system.which '{{\"bins\":[\"git\"]}}'")]
pub(super) struct Invoke {
    /// node by id, beginning of the id, or name (default: the only connected one that has it)
    #[argh(option)]
    node: Option<String>,
    /// limit in milliseconds (default: 30000)
    #[argh(option, default = "30_000")]
    timeout: u64,
    /// print the gateway's whole answer as JSON
    #[argh(switch)]
    json: bool,
    /// for example system.which
    #[argh(positional)]
    command: String,
    /// parameters as JSON
    #[argh(positional)]
    params: Option<String>,
}

/// The command ran out of time, as `timeout` has it.
const TIMED_OUT: u8 = 124;
/// We could not even ask, as `docker run` and `env` have it.
pub(super) const NOT_ASKED: u8 = 125;
/// It was refused.
pub(super) const REFUSED: u8 = 126;

pub(super) fn invoke(target: &Target, flags: &Invoke) -> Result<ExitCode, InspectError> {
    let limit = Duration::from_millis(flags.timeout);
    let answer = runs::invoke(target, flags.node.as_deref(), &flags.command, flags.params.as_deref(), limit)?;
    let shown = if flags.json { answer } else { answer.get("payload").cloned().unwrap_or_default() };
    Ok(print(&shown, true, |_| String::new()))
}

pub(super) fn run(target: &Target, flags: Run) -> Result<ExitCode, InspectError> {
    if flags.command.is_empty() {
        return Err(InspectError::Usage("say what to run: openclaw mac-debug run -- COMMAND…".to_owned()));
    }
    let mut env = BTreeMap::new();
    for pair in &flags.env {
        let Some((name, value)) = pair.split_once('=') else {
            // Not repeated: it may be a secret whose name was forgotten (A154).
            return Err(InspectError::Usage("--env wants NAME=VALUE; one has no `=`".to_owned()));
        };
        env.insert(name.to_owned(), value.to_owned());
    }
    let order =
        runs::RunOrder { node: flags.node, command: flags.command, cwd: flags.cwd, env, timeout_ms: flags.timeout };
    let follower = flags.follow.then(|| Box::new(pass_on_early) as runs::Follower);
    let result = runs::run(target, &order, follower)?;
    if flags.json {
        let value = serde_json::to_value(&result).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else {
        pass_on(&result);
    }
    Ok(exit_code(&result))
}

fn pass_on_early(chunk: &str) {
    let _ = process::quiet_epipe(std::io::stderr().write_all(chunk.as_bytes()));
}

/// The command's own output, as it came.
fn pass_on(result: &RunResult) {
    let _ = process::quiet_epipe(std::io::stdout().write_all(result.stdout.as_bytes()));
    let _ = process::quiet_epipe(std::io::stderr().write_all(result.stderr.as_bytes()));
    if let Some(error) = &result.error {
        complain(&format!("mac-debug: {error}"));
    } else if result.timed_out {
        complain("mac-debug: the command ran out of time and was stopped");
    }
}

fn exit_code(result: &RunResult) -> ExitCode {
    match result.exit_code {
        _ if result.timed_out => ExitCode::from(TIMED_OUT),
        Some(code) => ExitCode::from(u8::try_from(code & 0xFF).unwrap_or(1)),
        // Killed by a signal, or never started.
        None => ExitCode::FAILURE,
    }
}
