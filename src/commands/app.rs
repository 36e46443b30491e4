//! `openclaw app`

use super::service::{self, Kept, Order, Word};
use super::{failed, locate, ssh, usage};
use crate::app::operator::Ask;
use crate::app::supervisor::{self, AppOptions, remote_credential_source};
use crate::client::Tunnel;
use crate::client::tunnel::Target;
use crate::desktop::Backend;
use crate::service::{Role, log_file};
use crate::state::config::Config;
use crate::state::{Environment, InstanceLock, StateDir, StateError};
use crate::sys::process;
use crate::sys::signal::Termination;
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run the app: it asks you before anything runs, and runs it. In local mode it runs the gateway and
/// this machine's node too; with --ssh its node joins a gateway elsewhere. A second start says so and exits 0.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "app", example = "openclaw app --ask terminal\nopenclaw app install")]
pub struct Flags {
    /// run (may be left out), or what to do with it as a service: install (with the flags below), uninstall, start,
    /// stop, restart or status
    #[argh(positional)]
    verb: Option<String>,
    /// who is asked: terminal (where the app was started), operator (`mac-debug approvals`, or any operator of the
    /// gateway who may answer) or none (default: terminal; of a service: operator)
    #[argh(option)]
    ask: Option<Ask>,
    /// loopback TCP port of the gateway, here or behind --ssh (default: OPENCLAW_GATEWAY_PORT, gateway.port, 18789)
    #[argh(option)]
    port: Option<u16>,
    /// state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// open no TCP port, only <state>/gateway.sock
    #[argh(switch)]
    no_tcp: bool,
    /// a gateway on another machine: USER@HOST or USER@HOST:PORT, reached by ssh with a key (never a password)
    #[argh(option)]
    ssh: Option<Target>,
    /// the one key file that ssh uses (default: what its agent and configuration have)
    #[argh(option)]
    ssh_identity: Option<PathBuf>,
    /// ssh configuration file (default: ssh's own ones)
    #[argh(option)]
    ssh_config: Option<PathBuf>,
    /// do not ask the person about what waits for approval at the gateway (asked with --ask terminal only)
    #[argh(switch)]
    no_gateway_approvals: bool,
    /// use the token that OPENCLAW_GATEWAY_TOKEN held when the service was installed
    #[argh(switch)]
    stored_token: bool,
    /// print how the service stands as JSON
    #[argh(switch)]
    json: bool,
}

/// Runs until a signal ends it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    environment.gateway_port = flags.port.or(environment.gateway_port);
    match service::word(flags.verb.as_deref()) {
        Err(error) => return usage(&error),
        Ok(Word::Service(verb)) => {
            let order = Order { verb, role: Role::App, json: flags.json, state_dir: flags.state_dir.clone() };
            return service::carry_out(order, environment, |state, environment, kept| {
                keep(flags, state, environment, kept)
            });
        }
        Ok(Word::Run) => {}
    }
    match serve(flags, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("app", &*error),
    }
}

/// What a service is to be started with: each flag has its line here, or a reason to have none.
fn keep(
    flags: Flags,
    state: &StateDir,
    environment: &Environment,
    kept: &mut Kept,
) -> Result<(), Box<dyn std::error::Error>> {
    tunnel(&flags, &Config::inspect(state, environment)?)?;
    // `port` is in the environment, as is the variable; the others are about this call.
    let Flags {
        verb: _,
        ask,
        port: _,
        state_dir: _,
        no_tcp,
        ssh,
        ssh_identity,
        ssh_config,
        no_gateway_approvals,
        stored_token: _,
        json: _,
    } = flags;
    let ask = match ask {
        Some(Ask::Desktop(Backend::Terminal)) => {
            return Err("a service has no terminal; say --ask operator or none".into());
        }
        Some(Ask::Desktop(Backend::None)) => "none",
        Some(Ask::Operator) | None => "operator",
    };
    kept.option("--ask", Some(ask));
    kept.option("--port", environment.gateway_port.map(|port| port.to_string()));
    kept.switch("--no-tcp", no_tcp);
    kept.switch("--no-gateway-approvals", no_gateway_approvals);
    Ok(ssh::keep(kept, ssh, ssh_identity, ssh_config)?)
}

/// The way to a gateway elsewhere, if one is named.
fn tunnel(flags: &Flags, config: &Config) -> Result<Option<Tunnel>, String> {
    ssh::tunnel(flags.ssh.clone(), flags.ssh_identity.as_deref(), flags.ssh_config.as_deref(), config.port)
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let state = locate(flags.state_dir.clone(), &mut environment)?;
    state.prepare()?;
    crate::log::keep_bounded(log_file(&state, Role::App));
    if flags.stored_token {
        service::take_stored_token(Role::App, &state, &mut environment)?;
    }
    // Before anything else is touched: another instance must not notice this one (mac-app §1.3).
    let lock = match InstanceLock::take(&state.app_lock()) {
        Ok(lock) => lock,
        Err(StateError::AlreadyHeld { pid, .. }) => {
            let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            crate::log!("app", "already running{who}; nothing to do");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let signals = Termination::install()?;
    // Without a gateway here, nothing is made for one.
    let read = if flags.ssh.is_some() { Config::inspect } else { Config::load };
    let config = read(&state, &environment)?;
    let remote = tunnel(&flags, &config)?.map(|tunnel| (tunnel, remote_credential_source(&state, &environment)));
    let ask = flags.ask.unwrap_or(Ask::Desktop(Backend::Terminal));
    let gateway_approvals = !flags.no_gateway_approvals;
    let options = AppOptions { state, config, ask, tcp: !flags.no_tcp, remote, gateway_approvals };
    Ok(supervisor::run(options, lock, &signals)?)
}
