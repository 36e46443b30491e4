//! `openclaw gateway`

use super::service::{self, Kept, Order, Word};
use super::{failed, locate, usage};
use crate::gateway::{Gateway, Settings};
use crate::service::{Role, log_file, output_file};
use crate::state::config::Config;
use crate::state::{Environment, InstanceLock, StateDir};
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
    /// run (may be left out), or what to do with it as a service: install (with the flags below), uninstall, start,
    /// stop, restart or status
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
            let order = Order { verb, role: Role::Gateway, json: flags.json, state_dir: flags.state_dir.clone() };
            return service::carry_out(order, environment, |state, environment, kept| {
                keep(&flags, state, environment, kept)
            });
        }
        Ok(Word::Run) => {}
    }
    match serve(flags, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("gateway", &*error),
    }
}

/// What a service is to be started with: the flags that are not about this call.
fn keep(
    flags: &Flags,
    state: &StateDir,
    environment: &Environment,
    kept: &mut Kept,
) -> Result<(), Box<dyn std::error::Error>> {
    Config::inspect(state, environment)?;
    kept.option("--port", environment.gateway_port.map(|port| port.to_string()));
    kept.switch("--no-tcp", flags.no_tcp);
    Ok(())
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let state = locate(flags.state_dir, &mut environment)?;
    state.prepare()?;
    crate::log::keep_bounded(&output_file(&state, Role::Gateway), log_file(&state, Role::Gateway));
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
