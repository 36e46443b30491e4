//! `openclaw mac-debug`

mod changes;
mod find;
mod looks;
mod observe;
mod runs;
mod switches;

use super::{approvals, complain, failed, locate, permissions, say, ssh, usage};
use crate::client::tunnel::Target as SshTarget;
use crate::client::{CallError, Endpoint};
use crate::inspect::{InspectError, Target};
use crate::protocol::text;
use crate::state::config::Config;
use crate::state::{Environment, StateDir};
use argh::{ArgsInfo, FromArgs};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Look at everything, and drive it: connects to the gateway over its Unix socket, without a device,
/// asking the least rights. Looking creates and changes nothing.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "mac-debug",
    example = "openclaw mac-debug status\nopenclaw mac-debug connect",
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

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Discover(find::Discover),
    Connect(find::Connect),
    Status(observe::Status),
    Doctor(observe::Doctor),
    Logs(observe::Logs),
    Watch(observe::WatchFlags),
    Trace(observe::TraceFlags),
    Replay(observe::ReplayFlags),
    SelfTest(looks::SelfTest),
    Nodes(looks::Nodes),
    Run(runs::Run),
    Invoke(runs::Invoke),
    Pair(changes::Pair),
    Approvals(approvals::Flags),
    Explain(looks::Explain),
    Grants(changes::Grants),
    Permissions(permissions::Flags),
    ExecHost(looks::ExecHost),
    Audit(looks::Audit),
    Token(changes::Token),
    Switch(switches::Flags),
    Pause(changes::Pause),
    Resume(changes::Resume),
}

/// Does it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    let Flags { state_dir, url, ssh, ssh_identity, ssh_config, port, command } = flags;
    environment.gateway_port = port.or(environment.gateway_port);
    let named = Named { url, ssh, ssh_identity, ssh_config, port: None };
    let is_run = matches!(command, Command::Run(_));
    let result = locate(state_dir, &mut environment).map_err(InspectError::State).and_then(|state| match command {
        Command::Pause(_)
        | Command::Resume(_)
        | Command::Switch(_)
        | Command::Grants(_)
        | Command::Permissions(_)
        | Command::Explain(_)
        | Command::Logs(_)
        | Command::Audit(_)
        | Command::ExecHost(_)
        | Command::Discover(_)
        | Command::SelfTest(_)
            if named.is_any() =>
        {
            Err(InspectError::Usage("this is about this machine; leave out --url and --ssh".to_owned()))
        }
        Command::Pause(_) => changes::pause(&state),
        Command::Resume(flags) => changes::resume(&state, &flags),
        Command::Switch(flags) => switches::run(&state, &flags),
        Command::Grants(flags) => changes::grants(&state, &flags),
        Command::Permissions(flags) => permissions::run(&state, &flags),
        Command::SelfTest(flags) => Ok(looks::self_test(&state, &environment, &flags)),
        Command::Explain(flags) => looks::explain(&state, &environment, flags),
        Command::ExecHost(flags) => looks::exec_host(&state, &flags),
        Command::Audit(flags) => looks::audit(&state, &flags),
        Command::Logs(flags) => observe::logs(&state, &environment, &flags),
        Command::Status(flags) => {
            let other = named.endpoint(&state, &environment)?;
            Ok(observe::status(&observe::place(state, environment, other), &flags))
        }
        Command::Doctor(flags) => {
            let other = named.endpoint(&state, &environment)?;
            observe::doctor(&observe::place(state, environment, other), &flags)
        }
        // What passes brings its own secret.
        Command::Trace(flags) => {
            let gateway = match named.endpoint(&state, &environment)? {
                Some(other) => other,
                None => Target::new(state, &environment, None)?.endpoint,
            };
            observe::trace(gateway, &flags)
        }
        Command::Discover(flags) => find::discover(&environment, flags),
        Command::Connect(flags) => find::connect(state, environment, named, flags),
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
            ExitCode::from(if matches!(error, InspectError::Call(CallError::Refused(_))) {
                runs::REFUSED
            } else {
                runs::NOT_ASKED
            })
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
    /// Of the gateway behind ssh; else as configured.
    port: Option<u16>,
}

impl Named {
    fn is_any(&self) -> bool {
        self.url.is_some() || self.ssh.is_some()
    }

    fn endpoint(self, state: &StateDir, environment: &Environment) -> Result<Option<Endpoint>, InspectError> {
        let port = match self.port {
            None if self.ssh.is_some() => Config::inspect(state, environment)?.port,
            port => port.unwrap_or_default(),
        };
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

fn look(target: Target, command: Command) -> Result<ExitCode, InspectError> {
    match command {
        Command::Watch(flags) => Ok(observe::watch(target, &flags)),
        Command::Replay(flags) => observe::replay(&target, &flags),
        Command::Nodes(flags) => looks::nodes(&target, &flags),
        Command::Run(flags) => runs::run(&target, flags),
        Command::Invoke(flags) => runs::invoke(&target, &flags),
        Command::Pair(flags) => changes::pair(&target, &flags),
        Command::Token(flags) => changes::token(target, &flags),
        // They need no gateway and were done before there was a target.
        Command::Pause(_)
        | Command::Resume(_)
        | Command::Switch(_)
        | Command::Approvals(_)
        | Command::Connect(_)
        | Command::Discover(_)
        | Command::Grants(_)
        | Command::Permissions(_)
        | Command::SelfTest(_)
        | Command::ExecHost(_)
        | Command::Audit(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Logs(_)
        | Command::Trace(_)
        | Command::Explain(_) => Ok(ExitCode::SUCCESS),
    }
}

pub(super) fn print(value: &Value, json: bool, text: impl Fn(&Value) -> String) -> ExitCode {
    if json { say(&(harmless(&format!("{value:#}")) + "\n")) } else { say(&text(value)) }
}

/// JSON in which what a terminal obeys, and what a person cannot see, is escaped as JSON has it (A159). Such characters
/// stand inside its texts only.
fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && text::is_hidden(character) {
            out.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(character);
        }
    }
    out
}
