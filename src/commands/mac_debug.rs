//! `openclaw mac-debug`

use super::{approvals, complain, failed, locate, permissions, say, ssh, usage};
use crate::client::tunnel::Target as SshTarget;
use crate::client::{CallError, Endpoint};
use crate::inspect::{
    InspectError, Target, audit, exec_host, explain, grants, nodes, pairing, run as runs, status, token,
};
use crate::protocol::node::{RunRequest, RunResult};
use crate::protocol::text;
use crate::state::config::Config;
use crate::state::{Environment, StateDir, StateError, pause};
use crate::sys::process;
use argh::FromArgs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Look at everything, and drive it: connects to the gateway over its Unix socket, without a device,
/// asking the least rights. Looking creates and changes nothing.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "mac-debug",
    note = "`run` exits with the command's exit code; 124 = it ran out of time, 125 = it could not be asked for, 126 = it was refused."
)]
pub struct Flags {
    /// state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// another gateway on this machine, ws://127.0.0.1:PORT; its secret comes from OPENCLAW_GATEWAY_TOKEN
    #[argh(option)]
    url: Option<String>,
    /// a gateway on another machine: USER@HOST or USER@HOST:PORT, reached by ssh with a key (never a password)
    #[argh(option)]
    ssh: Option<SshTarget>,
    /// the one key file that ssh uses (default: what its agent and configuration have)
    #[argh(option)]
    ssh_identity: Option<PathBuf>,
    /// ssh configuration file (default: ssh's own ones)
    #[argh(option)]
    ssh_config: Option<PathBuf>,
    /// with --ssh, the gateway's port on that machine (default: OPENCLAW_GATEWAY_PORT, gateway.port, 18789)
    #[argh(option)]
    port: Option<u16>,
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Status(Status),
    Nodes(Nodes),
    Run(Run),
    Invoke(Invoke),
    Pair(Pair),
    Approvals(approvals::Flags),
    Explain(Explain),
    Grants(Grants),
    Permissions(permissions::Flags),
    ExecHost(ExecHost),
    Audit(Audit),
    Token(Token),
    Pause(Pause),
    Resume(Resume),
}

/// What runs, where, and how strict it is.
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
struct Status {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// The nodes that the gateway knows.
#[derive(FromArgs)]
#[argh(subcommand, name = "nodes")]
struct Nodes {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Run a command on a node, through the whole chain: a person there may be asked first.
#[derive(FromArgs)]
#[argh(subcommand, name = "run", example = "openclaw mac-debug run -- uname -a")]
struct Run {
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
#[derive(FromArgs)]
#[argh(subcommand, name = "invoke", example = "openclaw mac-debug invoke system.which '{{\"bins\":[\"git\"]}}'")]
struct Invoke {
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

/// Devices that want in and surfaces that nodes offer: list, approve ID, reject ID; or link: a setup link for one new
/// node, good once and for ten minutes (there: openclaw node --pair LINK). What it offers is approved here.
#[derive(FromArgs)]
#[argh(subcommand, name = "pair")]
struct Pair {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// list, approve, reject or link
    #[argh(positional)]
    verb: String,
    /// the request
    #[argh(positional)]
    request_id: Option<String>,
}

/// Tell what would happen to a command here, without running it: how it is understood, what allows it or why nothing
/// does, and what to do to allow it. What somebody allowed for a while (see grants) is left out.
#[derive(FromArgs)]
#[argh(subcommand, name = "explain", example = "openclaw mac-debug explain --shell 'git status && cargo test'")]
struct Explain {
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

/// Commands that the person at the app allowed for a while (with the words `15min` or `session`): list, revoke ID, revoke
/// all. They end with the app, too.
#[derive(FromArgs)]
#[argh(subcommand, name = "grants")]
struct Grants {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// list or revoke
    #[argh(positional)]
    verb: String,
    /// the id that list shows, or all
    #[argh(positional)]
    id: Option<String>,
}

/// Print the approvals document with which the official node host hands its commands to this machine's app: link. It
/// contains the exec socket's token.
#[derive(FromArgs)]
#[argh(subcommand, name = "exec-host")]
struct ExecHost {
    /// print the document alone, as JSON
    #[argh(switch)]
    json: bool,
    /// link
    #[argh(positional)]
    verb: String,
}

/// The log of every decision about a command on this machine: show the last ones, or verify that none was removed, altered
/// or moved. verify exits with 1 when the log is broken.
#[derive(FromArgs)]
#[argh(subcommand, name = "audit")]
struct Audit {
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

/// Exchange the shared token: rotate. Works where the token is in `gateway-token`, or in an openclaw.json that is still
/// exactly what the first start wrote; any other openclaw.json is its owner's, who is told what to change there. A running
/// gateway takes the new token at once and closes every session that the old one let in; paired devices come back.
#[derive(FromArgs)]
#[argh(subcommand, name = "token")]
struct Token {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// rotate
    #[argh(positional)]
    verb: String,
}

/// Stop everything: from now on no command starts on this machine, whatever policy or a person says. What runs goes on.
/// Holds until `resume`, also over a restart.
#[derive(FromArgs)]
#[argh(subcommand, name = "pause")]
struct Pause {}

/// Let commands start again after `pause`.
#[derive(FromArgs)]
#[argh(subcommand, name = "resume")]
struct Resume {}

/// The command ran out of time, as `timeout` has it.
const TIMED_OUT: u8 = 124;
/// We could not even ask, as `docker run` and `env` have it.
const NOT_ASKED: u8 = 125;
/// It was refused.
const REFUSED: u8 = 126;

/// Does it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    let Flags { state_dir, url, ssh, ssh_identity, ssh_config, port, command } = flags;
    environment.gateway_port = port.or(environment.gateway_port);
    let named = Named { url, ssh, ssh_identity, ssh_config };
    let is_run = matches!(command, Command::Run(_));
    let result = locate(state_dir, &mut environment).map_err(InspectError::State).and_then(|state| match command {
        Command::Pause(_)
        | Command::Resume(_)
        | Command::Grants(_)
        | Command::Permissions(_)
        | Command::Explain(_)
        | Command::Audit(_)
        | Command::ExecHost(_)
            if named.is_any() =>
        {
            Err(InspectError::Usage("this is about this machine; leave out --url and --ssh".to_owned()))
        }
        // Must work whatever else is broken.
        Command::Pause(_) => {
            let effect = "paused: no command starts until `openclaw mac-debug resume`";
            Ok(switch(&state, state.prepare().and_then(|()| pause::pause(&state)), effect)?)
        }
        Command::Resume(_) => Ok(switch(&state, pause::resume(&state), "commands may run again")?),
        Command::Grants(flags) => grants(&state, &flags),
        Command::Permissions(flags) => permissions::run(&state, &flags),
        Command::Explain(flags) => explain(&state, &environment, flags),
        Command::ExecHost(flags) if flags.verb == "link" => {
            Ok(print(&exec_host::link(&state)?, flags.json, exec_host::text))
        }
        Command::ExecHost(flags) => {
            Err(InspectError::Usage(format!("`exec-host {}` is not known; say link", flags.verb)))
        }
        Command::Audit(flags) => audit(&state, &flags),
        Command::Approvals(flags) => {
            let other = named.endpoint(&state, &environment)?;
            approvals::run(flags, approvals::Way { state, environment, other })
        }
        command => {
            let other = named.endpoint(&state, &environment)?;
            look(Target::new(state, &environment, other)?, command)
        }
    });
    match result {
        Ok(code) => code,
        Err(InspectError::Usage(what)) if !is_run => usage(&what),
        Err(error) if is_run => {
            complain(&format!("mac-debug: {error}"));
            ExitCode::from(if matches!(error, InspectError::Call(CallError::Refused(_))) { REFUSED } else { NOT_ASKED })
        }
        Err(error) => failed("mac-debug", &error),
    }
}

/// Another gateway than this machine's own.
struct Named {
    url: Option<String>,
    ssh: Option<SshTarget>,
    ssh_identity: Option<PathBuf>,
    ssh_config: Option<PathBuf>,
}

impl Named {
    fn is_any(&self) -> bool {
        self.url.is_some() || self.ssh.is_some()
    }

    fn endpoint(self, state: &StateDir, environment: &Environment) -> Result<Option<Endpoint>, InspectError> {
        let port = if self.ssh.is_some() { Config::inspect(state, environment)?.port } else { 0 };
        let tunnel = ssh::tunnel(self.ssh, self.ssh_identity.as_deref(), self.ssh_config.as_deref(), port);
        match (self.url, tunnel.map_err(InspectError::Usage)?) {
            (Some(_), Some(_)) => Err(InspectError::Usage("say one of --url and --ssh".to_owned())),
            (Some(url), None) => {
                Endpoint::from_url(&url).map(Some).map_err(|error| InspectError::Usage(error.to_string()))
            }
            (None, tunnel) => Ok(tunnel.map(Endpoint::Ssh)),
        }
    }
}

/// Says what it did, and where.
fn switch(state: &StateDir, done: Result<(), StateError>, effect: &str) -> Result<ExitCode, StateError> {
    done.map(|()| say(&format!("{effect} ({})\n", text::visible(&state.root().to_string_lossy()))))
}

fn look(target: Target, command: Command) -> Result<ExitCode, InspectError> {
    match command {
        Command::Status(flags) => {
            let found = status::status(&target)?;
            Ok(print(&found, flags.json, status::text))
        }
        Command::Nodes(flags) => Ok(print(&nodes::nodes(&target)?, flags.json, nodes::text)),
        Command::Run(flags) => run_command(&target, flags),
        Command::Invoke(flags) => {
            let limit = Duration::from_millis(flags.timeout);
            let answer = runs::invoke(&target, flags.node.as_deref(), &flags.command, flags.params.as_deref(), limit)?;
            let shown = if flags.json { answer } else { answer.get("payload").cloned().unwrap_or_default() };
            Ok(print(&shown, true, |_| String::new()))
        }
        Command::Pair(flags) => pair(&target, &flags),
        Command::Token(flags) if flags.verb == "rotate" => Ok(print(&token::rotate(target)?, flags.json, token::text)),
        Command::Token(flags) => Err(InspectError::Usage(format!("`token {}` is not known; say rotate", flags.verb))),
        // They need no gateway and were done before there was a target.
        Command::Pause(_)
        | Command::Resume(_)
        | Command::Approvals(_)
        | Command::Grants(_)
        | Command::Permissions(_)
        | Command::ExecHost(_)
        | Command::Audit(_)
        | Command::Explain(_) => Ok(ExitCode::SUCCESS),
    }
}

pub(super) fn print(value: &Value, json: bool, text: impl Fn(&Value) -> String) -> ExitCode {
    if json { say(&format!("{value:#}\n")) } else { say(&text(value)) }
}

fn run_command(target: &Target, flags: Run) -> Result<ExitCode, InspectError> {
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

fn pair(target: &Target, flags: &Pair) -> Result<ExitCode, InspectError> {
    let request = || {
        flags
            .request_id
            .as_deref()
            .ok_or_else(|| InspectError::Usage("say which request; see `openclaw mac-debug pair list`".to_owned()))
    };
    match flags.verb.as_str() {
        "list" => Ok(print(&pairing::list(target)?, flags.json, pairing::text)),
        "link" => Ok(print(&pairing::link(target)?, flags.json, pairing::link_text)),
        "approve" => {
            let answer = pairing::resolve(target, request()?, true)?;
            Ok(print(&answer, flags.json, |_| "approved\n".to_owned()))
        }
        "reject" => {
            let answer = pairing::resolve(target, request()?, false)?;
            Ok(print(&answer, flags.json, |_| "rejected\n".to_owned()))
        }
        other => Err(InspectError::Usage(format!("`pair {other}` is not known; say list, approve, reject or link"))),
    }
}

fn explain(state: &StateDir, environment: &Environment, flags: Explain) -> Result<ExitCode, InspectError> {
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

fn grants(state: &StateDir, flags: &Grants) -> Result<ExitCode, InspectError> {
    match (flags.verb.as_str(), &flags.id) {
        ("list", None) => Ok(print(&grants::list(state)?, flags.json, grants::text)),
        ("revoke", Some(id)) => Ok(print(&grants::revoke(state, id)?, flags.json, grants::revoked)),
        _ => {
            Err(InspectError::Usage("say `grants list`, or `grants revoke` and the id of a grant or `all`".to_owned()))
        }
    }
}

fn audit(state: &StateDir, flags: &Audit) -> Result<ExitCode, InspectError> {
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
