//! What looks at one thing and changes nothing: nodes, explain, exec-host, audit.

use super::print;
use crate::inspect::{InspectError, Target, audit, exec_host, explain, nodes, selftest};
use crate::protocol::node::RunRequest;
use crate::state::{Environment, StateDir};
use argh::{ArgsInfo, FromArgs};
use serde_json::Value;
use std::process::ExitCode;

/// Try whether this build and this machine fit: every name of the system's libraries, each kind of value, signature,
/// permissions, notifications, services. Harmless; exits with 1 when something is wrong.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "selftest", example = "openclaw mac-debug selftest")]
pub(super) struct SelfTest {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// The nodes that the gateway knows.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "nodes", example = "openclaw mac-debug nodes")]
pub(super) struct Nodes {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Tell what would happen to a command here, without running it: how it is understood, what allows it or why nothing
/// does, and what to do to allow it. What somebody allowed for a while (see grants) is left out.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "explain", example = "openclaw mac-debug explain --shell 'git status && cargo test'")]
pub(super) struct Explain {
    /// name of the agent that would ask (default: none)
    #[argh(option)]
    agent: Option<String>,
    /// the command's working directory (default: this one)
    #[argh(option)]
    cwd: Option<String>,
    /// instead of a command: a text, as `sh -c` would get it
    #[argh(option)]
    shell: Option<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// command and arguments, after --
    #[argh(positional, greedy)]
    command: Vec<String>,
}

/// Print the approvals document with which the official node host hands its commands to this machine's app: link. It
/// contains the exec socket's token.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "exec-host", example = "openclaw mac-debug exec-host link")]
pub(super) struct ExecHost {
    /// print the document alone, as JSON
    #[argh(switch)]
    json: bool,
    /// link
    #[argh(positional)]
    verb: String,
}

/// The log of every decision about a command on this machine: show the last ones, or verify that none was removed, altered
/// or moved. verify exits with 1 when the log is broken.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "audit", example = "openclaw mac-debug audit show --last 5")]
pub(super) struct Audit {
    /// how many decisions to show (default: 20)
    #[argh(option, default = "20")]
    last: usize,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// show or verify
    #[argh(positional)]
    verb: String,
}

pub(super) fn self_test(state: &StateDir, environment: &Environment, flags: &SelfTest) -> ExitCode {
    let report = selftest::run(state, environment);
    let said = print(&report, flags.json, selftest::text);
    if report.get("bad") == Some(&Value::from(0)) { said } else { ExitCode::FAILURE }
}

pub(super) fn nodes(target: &Target, flags: &Nodes) -> Result<ExitCode, InspectError> {
    Ok(print(&nodes::nodes(target)?, flags.json, nodes::text))
}

pub(super) fn exec_host(state: &StateDir, flags: &ExecHost) -> Result<ExitCode, InspectError> {
    match flags.verb.as_str() {
        "link" => Ok(print(&exec_host::link(state)?, flags.json, exec_host::text)),
        other => Err(InspectError::Usage(format!("`exec-host {other}` is not known; say link"))),
    }
}

pub(super) fn explain(state: &StateDir, environment: &Environment, flags: Explain) -> Result<ExitCode, InspectError> {
    let command = match (flags.shell, flags.command.is_empty()) {
        (Some(text), true) => vec!["sh".to_owned(), "-c".to_owned(), text],
        (None, false) => flags.command,
        _ => {
            return Err(InspectError::Usage("say a command after --, or a text with --shell, and not both".to_owned()));
        }
    };
    let request = RunRequest { command, cwd: flags.cwd, agent_id: flags.agent, ..RunRequest::default() };
    let explained = explain::here(state, environment, &request)?;
    Ok(print(&explained, flags.json, explain::text))
}

pub(super) fn audit(state: &StateDir, flags: &Audit) -> Result<ExitCode, InspectError> {
    match flags.verb.as_str() {
        "show" => Ok(print(&audit::show(state, flags.last)?, flags.json, audit::show_text)),
        "verify" => {
            let found = audit::verify(state)?;
            let printed = print(&found, flags.json, audit::verify_text);
            Ok(if found.get("ok") == Some(&Value::Bool(true)) { printed } else { ExitCode::FAILURE })
        }
        other => Err(InspectError::Usage(format!("`audit {other}` is not known; say show or verify"))),
    }
}
