//! `openclaw app`

use super::{failed, locate, ssh};
use crate::app::operator::Ask;
use crate::app::supervisor::{self, AppOptions, remote_credential_source};
use crate::client::tunnel::Target;
use crate::desktop::Backend;
use crate::state::config::Config;
use crate::state::{Environment, InstanceLock, StateError};
use crate::sys::process;
use crate::sys::signal::Termination;
use argh::FromArgs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run the app: it asks you before anything runs, and runs it. In local mode it runs the gateway and
/// this machine's node too; with --ssh its node joins a gateway elsewhere. A second start says so and exits 0.
#[derive(FromArgs)]
#[argh(subcommand, name = "app")]
pub struct Flags {
    /// who is asked: terminal (where the app was started), operator (`mac-debug approvals`, or any operator of the
    /// gateway who may answer) or none (default: terminal)
    #[argh(option, default = "Ask::Desktop(Backend::Terminal)")]
    ask: Ask,
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
}

/// Runs until a signal ends it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    environment.gateway_port = flags.port.or(environment.gateway_port);
    match serve(flags, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("app", &*error),
    }
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let state = locate(flags.state_dir, &mut environment)?;
    state.prepare()?;
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
    let (identity, ssh_config) = (flags.ssh_identity.as_deref(), flags.ssh_config.as_deref());
    let tunnel = ssh::tunnel(flags.ssh, identity, ssh_config, config.port)?;
    let remote = tunnel.map(|tunnel| (tunnel, remote_credential_source(&state, &environment)));
    let options = AppOptions { state, config, ask: flags.ask, tcp: !flags.no_tcp, remote };
    Ok(supervisor::run(options, lock, &signals)?)
}
