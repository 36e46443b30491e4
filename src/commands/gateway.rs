//! `openclaw gateway`

use super::{failed, is_run, locate, usage};
use crate::gateway::{Gateway, Settings};
use crate::state::config::Config;
use crate::state::{Environment, InstanceLock};
use crate::sys::process;
use crate::sys::signal::Termination;
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run only the gateway: the WebSocket control plane, on loopback and on a Unix socket. The shared
/// token is in gateway.auth.token of openclaw.json (or OPENCLAW_GATEWAY_TOKEN).
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "gateway", example = "openclaw gateway --port 18789")]
pub struct Flags {
    /// run (may be left out)
    #[argh(positional)]
    verb: Option<String>,
    /// loopback TCP port (default: OPENCLAW_GATEWAY_PORT, gateway.port, 18789)
    #[argh(option)]
    port: Option<u16>,
    /// state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// open no TCP port, only <state>/gateway.sock
    #[argh(switch)]
    no_tcp: bool,
}

/// Runs until a signal ends it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    if let Err(error) = is_run(flags.verb.as_deref()) {
        return usage(&error);
    }
    environment.gateway_port = flags.port.or(environment.gateway_port);
    match serve(flags, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("gateway", &*error),
    }
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let state = locate(flags.state_dir, &mut environment)?;
    state.prepare()?;
    let signals = Termination::install()?;
    let lock = InstanceLock::take(&state.gateway_lock()).map_err(crate::gateway::GatewayError::State)?;
    let settings = Settings::from_config(Config::load(&state, &environment)?, !flags.no_tcp)?;
    let gateway = Gateway::start(settings, &state, lock)?;
    let tcp = gateway.port().map_or_else(String::new, |port| format!(" and ws://127.0.0.1:{port}"));
    crate::log!("gateway", "listening on {}{tcp}", gateway.socket_path().display());
    signals.wait()?;
    crate::log!("gateway", "stopping");
    gateway.stop();
    Ok(())
}
