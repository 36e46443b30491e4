//! `openclaw node`

use super::service::{self, Kept, Order, Word};
use super::{failed, locate, ssh, usage};
use crate::app::supervisor::{credential_source, device_tokens, given_credentials, remote_credential_source};
use crate::client::tunnel::Target;
use crate::client::{CredentialSource, Credentials, Endpoint, Surface};
use crate::desktop::permissions::Unsupported;
use crate::exec::analysis::Host;
use crate::exec::approval::Guards;
use crate::exec::document::{DocumentPolicy, Settings};
use crate::identity::secret::Secret;
use crate::limits;
use crate::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use crate::node::policy_edits::PolicyEditor;
use crate::node::{self, NodeOptions, commands::ExecHost};
use crate::protocol::setup::SetupLink;
use crate::service::{Role, log_file, output_file};
use crate::state::approvals::ApprovalsDocument;
use crate::state::config::Config;
use crate::state::paths::DeviceOwner;
use crate::state::pins::GatewayPins;
use crate::state::{Environment, StateDir, StateError, device_key, node_config};
use crate::sys::process;
use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use argh::{ArgsInfo, FromArgs};
use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

/// Run only the node host: it connects to a gateway (this product's or the original one) and offers
/// this machine's commands. A gateway on another machine is reached with --ssh.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "node", example = "openclaw node --ssh me@gateway.example\nopenclaw node install")]
pub struct Flags {
    /// run (may be left out), or what to do with it as a service: install (with the flags below), uninstall, start,
    /// stop, restart or status
    #[argh(positional)]
    verb: Option<String>,
    /// loopback host of the gateway (default: 127.0.0.1)
    #[argh(option)]
    host: Option<String>,
    /// port of the gateway, here or behind --ssh (default: OPENCLAW_GATEWAY_PORT, gateway.port, 18789)
    #[argh(option)]
    port: Option<u16>,
    /// ws://HOST:PORT instead of --host and --port
    #[argh(option)]
    url: Option<String>,
    /// unix socket of the gateway instead
    #[argh(option)]
    socket: Option<PathBuf>,
    /// a gateway on another machine: USER@HOST or USER@HOST:PORT, reached by ssh with a key (never a password)
    #[argh(option)]
    ssh: Option<Target>,
    /// the one key file that ssh uses (default: what its agent and configuration have)
    #[argh(option)]
    ssh_identity: Option<PathBuf>,
    /// ssh configuration file (default: ssh's own ones)
    #[argh(option)]
    ssh_config: Option<PathBuf>,
    /// a setup link (oc-pair://…), used once: it names the gateway and admits this node there; - reads it from standard
    /// input, where nobody else on this machine sees it
    #[argh(option)]
    pair: Option<String>,
    /// what to offer, separated by commas (default: all), for example system.which,system.run.prepare,system.run
    #[argh(option)]
    commands: Option<String>,
    /// name shown to operators (default: the last one, else this machine's name)
    #[argh(option)]
    display_name: Option<String>,
    /// who runs commands: app (the default on macOS) or local (OPENCLAW_NODE_EXEC_HOST says so too)
    #[argh(option)]
    exec_host: Option<ExecHostWord>,
    /// whose app serves the exec socket: ours or official (default: ours)
    #[argh(option, default = "PeerWord(ExecHostPeer::Ours)")]
    exec_host_peer: PeerWord,
    /// state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// use the token that OPENCLAW_GATEWAY_TOKEN held when the service was installed
    #[argh(switch)]
    stored_token: bool,
    /// print how the service stands as JSON
    #[argh(switch)]
    json: bool,
}

#[derive(Clone, Copy)]
enum ExecHostWord {
    App,
    Local,
}

impl ExecHostWord {
    fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Local => "local",
        }
    }
}

impl FromStr for ExecHostWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.trim().to_ascii_lowercase().as_str() {
            "app" => Ok(Self::App),
            "local" | "node" => Ok(Self::Local),
            _ => Err("say `app` or `local`".to_owned()),
        }
    }
}

struct PeerWord(ExecHostPeer);

impl FromStr for PeerWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "ours" => Ok(Self(ExecHostPeer::Ours)),
            "official" => Ok(Self(ExecHostPeer::Official)),
            _ => Err("say `ours` or `official`".to_owned()),
        }
    }
}

/// Runs until a signal ends it, or the gateway refuses for good.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    match service::word(flags.verb.as_deref()) {
        Err(error) => return usage(&error),
        Ok(Word::Service(verb)) => {
            environment.gateway_port = flags.port.or(environment.gateway_port);
            let order = Order { verb, role: Role::Node, json: flags.json, state_dir: flags.state_dir.clone() };
            return service::carry_out(order, environment, |state, environment, kept| {
                keep(flags, state, environment, kept)
            });
        }
        Ok(Word::Run) => {}
    }
    match serve(flags, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("node", &*error),
    }
}

/// What a service is to be started with: each flag has its line here, or a reason to have none.
fn keep(
    flags: Flags,
    state: &StateDir,
    environment: &Environment,
    kept: &mut Kept,
) -> Result<(), Box<dyn std::error::Error>> {
    if flags.pair.is_some() {
        return Err("a setup link is good once; run `openclaw node --pair LINK` first, then install without it".into());
    }
    surface(flags.commands.as_deref())?;
    endpoint(&flags, &Config::inspect(state, environment)?, None)?;
    kept.option("--exec-host", Some(exec_host(&flags, environment)?.word()));
    // `port` is in the environment, as is the variable; the others are about this call.
    let Flags {
        verb: _,
        host,
        port: _,
        url,
        socket,
        ssh,
        ssh_identity,
        ssh_config,
        pair: _,
        commands,
        display_name,
        exec_host: _,
        exec_host_peer,
        state_dir: _,
        stored_token: _,
        json: _,
    } = flags;
    kept.option("--host", host);
    kept.option("--port", environment.gateway_port.map(|port| port.to_string()));
    kept.option("--url", url);
    kept.option("--socket", socket.map(std::path::absolute).transpose()?);
    ssh::keep(kept, ssh, ssh_identity, ssh_config)?;
    kept.option("--commands", commands);
    kept.option("--display-name", display_name);
    kept.option("--exec-host-peer", (exec_host_peer.0 == ExecHostPeer::Official).then_some("official"));
    Ok(())
}

fn exec_host(flags: &Flags, environment: &Environment) -> Result<ExecHostWord, String> {
    Ok(match (flags.exec_host, environment.node_exec_host.as_deref()) {
        (Some(word), _) => word,
        (None, Some(word)) if !word.trim().is_empty() => {
            word.parse().map_err(|error| format!("OPENCLAW_NODE_EXEC_HOST: {error}"))?
        }
        _ if cfg!(target_os = "macos") => ExecHostWord::App,
        _ => ExecHostWord::Local,
    })
}

fn serve(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let exec_host = exec_host(&flags, &environment)?;
    let state = locate(flags.state_dir.clone(), &mut environment)?;
    if flags.stored_token {
        service::take_stored_token(Role::Node, &state, &mut environment)?;
    }
    let config = Config::inspect(&state, &environment)?;
    let link = flags.pair.as_deref().map(setup_link).transpose()?;
    let endpoint = endpoint(&flags, &config, link.as_ref())?;
    let surface = surface(flags.commands.as_deref())?;
    state.prepare()?;
    crate::log::keep_bounded(&output_file(&state, Role::Node), log_file(&state, Role::Node));
    let credentials = match link {
        Some(link) => link_credentials(&state, &endpoint, link)?,
        None => credentials(&state, &environment, &config, &endpoint),
    };
    let options = options(&flags, &state, &config, endpoint, credentials, surface, exec_host)?;
    let signals = Termination::install()?;
    let stop = Arc::new(Wake::new()?);
    let for_signals = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let _ = signals.wait();
        for_signals.fire();
    })?;
    Ok(node::run(options, &stop)?)
}

fn setup_link(text: &str) -> Result<SetupLink, Box<dyn std::error::Error>> {
    let mut line = String::new();
    if text == "-" {
        let most = u64::try_from(limits::SETUP_LINK_BYTES)?;
        std::io::stdin().lock().take(most).read_line(&mut line)?;
    }
    Ok(SetupLink::parse(if text == "-" { &line } else { text })?)
}

/// Flags go before the link, and the link before the settings.
fn endpoint(flags: &Flags, config: &Config, link: Option<&SetupLink>) -> Result<Endpoint, Box<dyn std::error::Error>> {
    let port = flags.port.unwrap_or(config.port);
    let named = [flags.url.is_some(), flags.socket.is_some(), flags.host.is_some(), flags.ssh.is_some()];
    if named.iter().filter(|named| **named).count() > 1 {
        return Err("say one of --url, --socket, --host and --ssh".into());
    }
    let (identity, ssh_config) = (flags.ssh_identity.as_deref(), flags.ssh_config.as_deref());
    if let Some(tunnel) = ssh::tunnel(flags.ssh.clone(), identity, ssh_config, port)? {
        return Ok(Endpoint::Ssh(tunnel));
    }
    if let Some(url) = &flags.url {
        return Ok(Endpoint::from_url(url)?);
    }
    if let Some(socket) = &flags.socket {
        return Ok(Endpoint::Socket(std::path::absolute(socket)?));
    }
    let elsewhere = match link {
        _ if flags.host.is_some() || flags.port.is_some() => None,
        Some(link) => Some(Endpoint::from_url(&link.url)?),
        None => ssh::configured(config)?,
    };
    let here = || Endpoint::from_host(flags.host.as_deref().unwrap_or("127.0.0.1"), port);
    Ok(elsewhere.map_or_else(here, Ok)?)
}

/// What a gateway is shown beside its own device token: a stored secret only the one that it belongs to (A30).
fn credentials(state: &StateDir, environment: &Environment, config: &Config, endpoint: &Endpoint) -> CredentialSource {
    let is_remote = || ssh::configured(config).ok().flatten().as_ref() == Some(endpoint);
    let is_own = match endpoint {
        Endpoint::Socket(path) => *path == state.gateway_socket(),
        Endpoint::Tcp { port, .. } => *port == config.port,
        Endpoint::Ssh(_) => false,
    };
    if matches!(endpoint, Endpoint::Ssh(_)) || is_remote() {
        remote_credential_source(state, environment)
    } else if is_own {
        credential_source(state, config)
    } else {
        let given = given_credentials(environment);
        Box::new(move || given.copy())
    }
}

/// Only what the link says is shown to the gateway that it names, and that one must prove the link's key.
fn link_credentials(state: &StateDir, endpoint: &Endpoint, link: SetupLink) -> Result<CredentialSource, StateError> {
    if let Some(key) = &link.gateway_key {
        GatewayPins::new(state).pin(&endpoint.pin_name(), key)?;
    }
    let token = Secret::new(link.bootstrap_token.expose().to_owned());
    Ok(Box::new(move || Credentials { bootstrap_token: Some(token.copy()), ..Credentials::default() }))
}

/// All that we have, or what the owner lets us offer of it.
fn surface(wanted: Option<&str>) -> Result<Surface, String> {
    let mut surface = node::surface();
    let Some(wanted) = wanted else { return Ok(surface) };
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !surface.commands.iter().any(|known| known == *name)) {
        return Err(format!("--commands: '{unknown}' is not one of {}", surface.commands.join(", ")));
    }
    surface.commands.retain(|name| wanted.contains(&name.as_str()));
    Ok(surface)
}

fn options(
    flags: &Flags,
    state: &StateDir,
    config: &Config,
    endpoint: Endpoint,
    credentials: CredentialSource,
    surface: Surface,
    exec_host: ExecHostWord,
) -> Result<NodeOptions, Box<dyn std::error::Error>> {
    let device = Arc::new(device_key::load_or_create(&state.device_key(DeviceOwner::NodeHost))?);
    let node = node_config::load_or_create(state, flags.display_name.as_deref())?;
    let approvals = Arc::new(ApprovalsDocument::new(state));
    let token_of = Arc::clone(&approvals);
    let token = Box::new(move || token_of.socket_token().map_err(|error| error.to_string()));
    let exec_host = match exec_host {
        ExecHostWord::App => ExecHost::App(ExecHostClient::new(state.exec_socket(), token, flags.exec_host_peer.0)),
        ExecHostWord::Local => ExecHost::Local(Arc::new(Guards::new(state))),
    };
    Ok(NodeOptions {
        tokens: Some(device_tokens(state, DeviceOwner::NodeHost, &device, &endpoint)),
        endpoint,
        client: NodeOptions::headless(node.display_name.unwrap_or_else(process::host_name), node.node_id),
        device,
        credentials,
        pins: Some(Arc::new(GatewayPins::new(state))),
        host: Host::of_this_process(process::found_open_files()),
        policy: Arc::new(DocumentPolicy {
            document: Arc::clone(&approvals),
            trusts_agent: false,
            settings: Settings::of(&config.exec),
        }),
        surface,
        notifications: Arc::default(),
        permissions: Arc::new(Unsupported),
        standing: Arc::default(),
        exec_host,
        policy_editor: Some(PolicyEditor { document: approvals, person: None }),
        declares: None,
        abilities: None,
        computer: None,
    })
}
