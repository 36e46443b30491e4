//! `openclaw app`

use super::service::{self, Kept, Order, Word};
use super::uninstall::{self, Extent};
use super::{failed, locate, say, ssh, usage};
use crate::app::control;
use crate::app::operator::Ask;
use crate::app::supervisor::{self, AppOptions, AttachOnly, SupervisorError, remote_credential_source};
use crate::client::tunnel::Target;
use crate::client::{Endpoint, Tunnel};
use crate::desktop::bundle::{self, Bundle};
use crate::desktop::{Backend, appkit};
use crate::limits;
use crate::service::{Role, Service, Verb, log_file, output_file};
use crate::state::config::Config;
use crate::state::{Environment, InstanceLock, StateDir, StateError};
use crate::sys::process;
use crate::sys::signal::Termination;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

/// Run the app: it asks you before anything runs, and runs it. In local mode it runs the gateway and
/// this machine's node too; with --ssh its node joins a gateway elsewhere. A second start says so and exits 0.
#[derive(Clone, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "app", example = "openclaw app --ask terminal\nopenclaw app install")]
pub struct Flags {
    /// run (may be left out), open LINK (an openclaw:// link, about which the running app asks you), or what to do with
    /// it as a service: install (with the flags below), uninstall, start, stop, restart or status
    #[argh(positional, arg_name = "verb")]
    words: Vec<String>,
    /// who is asked: panel (on the screen), terminal (where the app was started), operator (`mac-debug approvals`, or any
    /// operator of the gateway who may answer) or none (default: panel on a Mac with a screen, else terminal; of a
    /// service: operator)
    #[argh(option)]
    ask: Option<Ask>,
    /// start no gateway: join the one that runs already, or comes later (so does a file `disable-launchagent` in the
    /// state directory)
    #[argh(switch)]
    attach_only: bool,
    /// understood for the sake of the official tools, which start the app with it; this app opens no window unasked
    #[argh(switch)]
    #[expect(dead_code, reason = "only understood")]
    background_only: bool,
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
    /// do not ask the person about what waits for approval at the gateway (asked with --ask panel and terminal only)
    #[argh(switch)]
    no_gateway_approvals: bool,
    /// serve the bridge in this run although its switch is off; the switch computer-control must be on in any case
    #[argh(switch)]
    bridge: bool,
    /// use the token that OPENCLAW_GATEWAY_TOKEN held when the service was installed
    #[argh(switch)]
    stored_token: bool,
    /// with uninstall: the services of gateway and node too
    #[argh(switch)]
    all: bool,
    /// with uninstall: all of that, and this program's documents in the state directory
    #[argh(switch)]
    state: bool,
    /// with uninstall --state: do not ask
    #[argh(switch)]
    yes: bool,
    /// print how the service stands as JSON
    #[argh(switch)]
    json: bool,
}

/// Runs until a signal ends it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    environment.gateway_port = flags.port.or(environment.gateway_port);
    let words: Vec<&str> = flags.words.iter().map(String::as_str).collect();
    let verb = match words.as_slice() {
        ["open", link] => return open(link, flags.state_dir.clone(), environment),
        [] => None,
        [verb] if *verb != "open" => Some(*verb),
        _ => return usage("say one word, or: open openclaw://agent?message=…"),
    };
    match service::word(verb) {
        Err(error) => return usage(&error),
        Ok(Word::Service(verb)) => {
            let order = Order { verb, role: Role::App, json: flags.json, state_dir: flags.state_dir.clone() };
            if verb == Verb::Uninstall {
                let extent = Extent { all: flags.all, state: flags.state, yes: flags.yes };
                return uninstall::run(order, &extent, environment);
            }
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

/// Hands a link to the running app, as the system does on a Mac; only the app asks and sends.
fn open(link: &str, state_dir: Option<PathBuf>, mut environment: Environment) -> ExitCode {
    let state = locate(state_dir, &mut environment).map_err(|error| error.to_string());
    match state.and_then(|state| control::ask(&state, &json!({"type": "deeplink.open", "url": link}))) {
        Ok(_) => say("the app asks about it now\n"),
        Err(error) => failed("app", &error),
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
        words: _,
        ask,
        attach_only,
        background_only: _,
        port: _,
        state_dir: _,
        no_tcp,
        ssh,
        ssh_identity,
        ssh_config,
        no_gateway_approvals,
        bridge,
        stored_token: _,
        all: _,
        state: _,
        yes: _,
        json: _,
    } = flags;
    let ask = match ask {
        Some(Ask::Desktop(Backend::Terminal)) => {
            return Err("a service has no terminal; say --ask operator or none".into());
        }
        Some(Ask::Desktop(Backend::None)) => Some("none"),
        Some(Ask::Desktop(Backend::Panel)) => Some("panel"),
        // In its bundle the app shows what it asks.
        None if Bundle::of_this_process().is_some() => None,
        Some(Ask::Operator) | None => Some("operator"),
    };
    kept.option("--ask", ask);
    kept.switch("--attach-only", attach_only);
    kept.option("--port", environment.gateway_port.map(|port| port.to_string()));
    kept.switch("--no-tcp", no_tcp);
    kept.switch("--no-gateway-approvals", no_gateway_approvals);
    kept.switch("--bridge", bridge);
    Ok(ssh::keep(kept, ssh, ssh_identity, ssh_config)?)
}

/// This app as a service, for its menu; none where only `install` can say what is to be kept.
fn at_login(flags: &Flags, state: &StateDir, environment: &Environment) -> Option<Service> {
    let keep_flags = |state: &_, environment: &_, kept: &mut _| keep(flags.clone(), state, environment, kept);
    // A token that came with this start alone is in no file.
    let is_whole = flags.stored_token || environment.gateway_token.is_none();
    service::describe(Role::App, state, environment, keep_flags).ok().filter(|_| is_whole)
}

/// On a Mac, an app outside of a bundle is somebody else to the system: it would get no permission, or another
/// program's. Source: spec mac-app §1.1.
fn check_bundle(is_macos: bool, ask: Option<Ask>, is_in_bundle: bool) -> Result<(), &'static str> {
    if is_macos && ask.is_none() && !is_in_bundle {
        return Err("this program is not in OpenClaw.app, so macOS would give it no permissions of its own; open \
                    OpenClaw.app, or say --ask terminal, operator or none to run without a screen");
    }
    Ok(())
}

/// The process that runs as our application already, which the lock of another state directory does not show: there is
/// one that asks, and that holds the permissions. Source: spec mac-app §1.3.
fn another_instance() -> Option<u32> {
    let bundle = Bundle::of_this_process().filter(|_| cfg!(target_os = "macos"))?;
    // What has just ended may still be listed.
    let is_another = |pid: &u32| *pid != std::process::id() && process::name_of(*pid).is_some();
    appkit::instances(&bundle.identifier).into_iter().find(is_another)
}

/// The gateway elsewhere that the flags or the settings name. What is wrong with the settings ends no app: it still
/// decides for a node in another process.
fn elsewhere(flags: &Flags, config: &Config) -> Result<Option<Endpoint>, String> {
    if let Some(tunnel) = tunnel(flags, config)? {
        return Ok(Some(Endpoint::Ssh(tunnel)));
    }
    Ok(ssh::configured(config).unwrap_or_else(|error| {
        crate::log!("app", "{error}");
        None
    }))
}

/// The way to a gateway elsewhere, if one is named.
fn tunnel(flags: &Flags, config: &Config) -> Result<Option<Tunnel>, String> {
    ssh::tunnel(flags.ssh.clone(), flags.ssh_identity.as_deref(), flags.ssh_config.as_deref(), config.port)
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    check_bundle(cfg!(target_os = "macos"), flags.ask, Bundle::of_this_process().is_some())?;
    let state = locate(flags.state_dir.clone(), &mut environment)?;
    state.prepare()?;
    crate::log::keep_bounded(&output_file(&state, Role::App), log_file(&state, Role::App));
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
    if let Some(pid) = another_instance() {
        crate::log!("app", "already running (pid {pid}), with another state directory; nothing to do");
        return Ok(());
    }
    let signals = Termination::install()?;
    if std::env::current_exe().is_ok_and(|program| bundle::is_translocated(&program)) {
        crate::log!("app", "{}", bundle::TRANSLOCATED);
    }
    let attach_only = AttachOnly::of(flags.attach_only, &state);
    // Without a gateway here, nothing is made for one.
    let read = if flags.ssh.is_some() || attach_only.is_some() { Config::inspect } else { Config::load };
    let config = read(&state, &environment)?;
    let remote = elsewhere(&flags, &config)?.map(|place| (place, remote_credential_source(&state, &environment)));
    let ask = flags.ask.unwrap_or_else(|| Ask::Desktop(Backend::usual()));
    let gateway_approvals = !flags.no_gateway_approvals;
    let has_menu = ask == Ask::Desktop(Backend::Panel);
    let at_login = has_menu.then(|| at_login(&flags, &state, &environment)).flatten();
    let (tcp, bridge) = (!flags.no_tcp, flags.bridge);
    let options = AppOptions { state, config, ask, tcp, attach_only, remote, gateway_approvals, at_login, bridge };
    if has_menu {
        let links = options.state.clone();
        let run = on_screen(move || supervisor::run(options, lock, &signals), links);
        return run
            .map_err(|error| format!("there can be no panel: {error}; --ask terminal asks on this terminal").into());
    }
    Ok(supervisor::run(options, lock, &signals)?)
}

/// Runs the app beside the screen, which has this thread; the process ends with the app.
fn on_screen(
    work: impl FnOnce() -> Result<(), SupervisorError> + Send + 'static,
    state: StateDir,
) -> Result<(), appkit::NoScreen> {
    let work = move || {
        // A library may have put its own handlers in the place of ours while it was started.
        match Termination::catch().map_err(SupervisorError::System).and_then(|()| work()) {
            Ok(()) => 0,
            Err(error) => {
                failed("app", &error);
                1
            }
        }
    };
    let opened = move |link: String| {
        let state = state.clone();
        let follow = move || {
            // A link may have started us.
            let end = Instant::now() + limits::EXEC_LINE_DEADLINE;
            while !state.control_socket().exists() && Instant::now() < end {
                thread::sleep(limits::LINK_PAUSE);
            }
            if let Err(error) = control::ask(&state, &json!({"type": "deeplink.open", "url": link})) {
                crate::log!("app", "{error}");
            }
        };
        if let Err(error) = thread::Builder::new().name("link".into()).spawn(follow) {
            crate::log!("app", "a link was not followed: {error}");
        }
    };
    appkit::run(work, Termination::request, opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_without_a_bundle_says_who_is_asked() {
        assert!(check_bundle(true, None, false).unwrap_err().contains("--ask terminal"));
        for ask in [Ask::Operator, Ask::Desktop(Backend::Terminal), Ask::Desktop(Backend::None)] {
            assert_eq!(check_bundle(true, Some(ask), false), Ok(()));
        }
        assert_eq!((check_bundle(true, None, true), check_bundle(false, None, false)), (Ok(()), Ok(())));
    }
}
