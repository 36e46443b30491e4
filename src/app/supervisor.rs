//! `openclaw app`: the exec socket, and in local mode the gateway and this machine's node in the
//! same process. Source: DESIGN "Local mode and pinning".

use super::gateway_approvals;
use super::gateway_question::Here;
use super::operator::{Ask, OperatorDesktop, Route};
use super::{AppError, AppHost};
use crate::client::attach::{self, PortHeld};
use crate::client::{ConnectOptions, Connection, CredentialSource, Credentials, Endpoint, Role, Tunnel};
use crate::desktop::Backend;
use crate::exec::analysis::Host;
use crate::exec::approval::Person;
use crate::exec::document::{DocumentPolicy, Settings};
use crate::gateway::{self, Gateway, GatewayError};
use crate::identity::device::DeviceKey;
use crate::identity::secret::Secret;
use crate::limits;
use crate::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use crate::node::policy_edits::PolicyEditor;
use crate::node::{self, NodeOptions, commands};
use crate::protocol::connect::ClientInfo;
use crate::state::approvals::ApprovalsDocument;
use crate::state::config::{Config, GatewayMode, SecretOrigin, SharedSecret};
use crate::state::device_tokens::DeviceTokens;
use crate::state::paths::DeviceOwner;
use crate::state::pins::GatewayPins;
use crate::state::{Environment, InstanceLock, StateDir, StateError, device_key};
use crate::sys::process;
use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What `openclaw app` was told.
pub struct AppOptions {
    /// Where everything lies; prepared.
    pub state: StateDir,
    /// The owner's settings.
    pub config: Config,
    /// Who is asked.
    pub ask: Ask,
    /// Open the TCP port too.
    pub tcp: bool,
    /// A gateway elsewhere instead of one here, and what it is shown.
    pub remote: Option<(Tunnel, CredentialSource)>,
    /// Show what waits for approval at the gateway too, if there is somebody to show it to.
    pub gateway_approvals: bool,
}

/// Why the app did not start.
#[derive(Debug)]
pub enum SupervisorError {
    /// State on disk.
    State(StateError),
    /// The exec socket.
    Host(AppError),
    /// Its own gateway.
    Gateway(GatewayError),
    /// Somebody who is not us holds the gateway's port.
    PortHeld(PortHeld),
    /// Threads or descriptors.
    System(io::Error),
}

impl fmt::Display for SupervisorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Host(error) => error.fmt(f),
            Self::Gateway(error) => error.fmt(f),
            Self::PortHeld(held) => held.fmt(f),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for SupervisorError {}

/// The gateway that this app works with.
enum Attached {
    /// It runs in this process.
    Ours(Box<Gateway>),
    /// It ran before, or elsewhere.
    Running(Endpoint),
}

/// Runs the app until a signal ends it. `_lock` makes it the only one.
///
/// # Errors
/// See [`SupervisorError`]; nothing of it runs then.
pub fn run(options: AppOptions, _lock: InstanceLock, signals: &Termination) -> Result<(), SupervisorError> {
    let AppOptions { state, config, ask, tcp, remote, gateway_approvals } = options;
    let operators = OperatorDesktop::default();
    let settings = Settings::of(&config.exec);
    let desktop = ask.open(&operators);
    // Whoever asks operators is none, and a gateway is not told that somebody is here when nobody is.
    let gateway_approvals = gateway_approvals && desktop.has_person();
    let tunnel = remote.as_ref().map(|(tunnel, _)| tunnel.clone());
    let host = AppHost::start(&state, desktop, settings.clone(), tunnel).map_err(SupervisorError::Host)?;
    let approvals = Arc::new(ApprovalsDocument::new(&state));
    let gateway = match (remote, config.mode) {
        (Some((tunnel, source)), _) => Some((Attached::Running(Endpoint::Ssh(tunnel)), source)),
        (None, GatewayMode::Local) => {
            let source = credential_source(&state, &config);
            Some((find_gateway(&state, config, tcp, &GatewayPins::new(&state))?, source))
        }
        (None, GatewayMode::Remote) => None,
    };
    let local = match gateway {
        Some((gateway, source)) => {
            // Only somebody in front of this machine may confirm an edit from outside (H15).
            let person = (ask == Ask::Desktop(Backend::Terminal)).then(|| Arc::clone(host.person()));
            let editor = PolicyEditor { document: Arc::clone(&approvals), person };
            let mut local = start_local(&state, gateway, source, &approvals, editor, &operators, settings)?;
            if gateway_approvals {
                local.show_approvals(Arc::clone(host.person()), approvals).map_err(SupervisorError::System)?;
            }
            Some(local)
        }
        None => {
            operators.set_route(None);
            crate::log!(
                "app",
                "gateway.mode is remote: no gateway and no node here; say --ssh, or start the node with `openclaw node`"
            );
            None
        }
    };
    crate::log!("app", "ready; commands are decided here, {}", state.exec_socket().display());
    signals.wait().map_err(SupervisorError::System)?;
    crate::log!("app", "stopping");
    // Prompts and commands first: what they answer still finds its way back.
    host.stop();
    if let Some(local) = local {
        local.stop();
    }
    Ok(())
}

/// The socket's token, read again at each use: a changed document holds from the next request on.
fn token_source(approvals: &Arc<ApprovalsDocument>) -> crate::identity::secret::SecretSource {
    let approvals = Arc::clone(approvals);
    Box::new(move || approvals.socket_token().map_err(|error| error.to_string()))
}

/// Gateway and node of local mode.
struct Local {
    gateway: Attached,
    route: Arc<Route>,
    node_id: String,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<Wake>,
}

impl Local {
    /// From now on the person answers what waits at the gateway too.
    fn show_approvals(&mut self, person: Arc<dyn Person>, document: Arc<ApprovalsDocument>) -> io::Result<()> {
        let here = Here { gateway: self.route.endpoint.to_string(), node_id: self.node_id.clone(), document };
        let route = Arc::clone(&self.route);
        self.threads.extend(gateway_approvals::start(route, person, here, Arc::clone(&self.stop))?);
        Ok(())
    }

    fn stop(self) {
        self.stop.fire();
        let deadline = Instant::now() + limits::CLOSE_GRACE * 2;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if let Attached::Ours(gateway) = self.gateway {
            gateway.stop();
        }
    }
}

fn start_local(
    state: &StateDir,
    gateway: Attached,
    source: CredentialSource,
    approvals: &Arc<ApprovalsDocument>,
    policy_editor: PolicyEditor,
    operators: &OperatorDesktop,
    settings: Settings,
) -> Result<Local, SupervisorError> {
    let device =
        Arc::new(device_key::load_or_create(&state.device_key(DeviceOwner::App)).map_err(SupervisorError::State)?);
    let pins = Arc::new(GatewayPins::new(state));
    let source = Arc::new(source);
    let read_again = || -> CredentialSource {
        let source = Arc::clone(&source);
        Box::new(move || source())
    };
    let endpoint = match &gateway {
        Attached::Ours(gateway) => {
            gateway.set_local_app(device.id(), node::surface());
            Endpoint::Socket(gateway.socket_path().to_path_buf())
        }
        Attached::Running(endpoint) => {
            crate::log!("app", "the gateway is {endpoint}; this machine's node joins it");
            say_what_to_approve(endpoint.clone(), device.id(), source(), Arc::clone(&pins));
            endpoint.clone()
        }
    };
    let route = Arc::new(Route { endpoint: endpoint.clone(), credentials: read_again(), pins: Arc::clone(&pins) });
    operators.set_route(Some(Arc::clone(&route)));
    let node_id = device.id();
    let exec_host = ExecHostClient::new(state.exec_socket(), token_source(approvals), ExecHostPeer::Ours);
    let options = NodeOptions {
        tokens: Some(device_tokens(state, DeviceOwner::App, &device, &endpoint)),
        endpoint,
        client: NodeOptions::app(process::host_name(), device.id()),
        device,
        credentials: read_again(),
        pins: Some(Arc::clone(&pins)),
        host: Host::of_this_process(process::found_open_files()),
        policy: Arc::new(DocumentPolicy { document: Arc::clone(approvals), trusts_agent: false, settings }),
        surface: node::surface(),
        exec_host: commands::ExecHost::App(exec_host),
        policy_editor: Some(policy_editor),
        abilities: None,
    };
    let stop = Arc::new(Wake::new().map_err(SupervisorError::System)?);
    let stopped = Arc::clone(&stop);
    let node = thread::Builder::new()
        .name("node".into())
        .stack_size(limits::PEER_STACK_BYTES)
        .spawn(move || {
            if let Err(error) = node::run(options, &stopped) {
                crate::log!("node", "{error}");
            }
        })
        .map_err(SupervisorError::System)?;
    Ok(Local { gateway, route, node_id, threads: vec![node], stop })
}

/// What we show a gateway.
pub fn credentials(config: &Config) -> Result<Credentials, StateError> {
    let mut credentials = Credentials::default();
    match config.shared_secret()? {
        SharedSecret::Token(token) => credentials.token = Some(token.copy()),
        SharedSecret::Password(password) => credentials.password = Some(password.copy()),
    }
    Ok(credentials)
}

/// The same, read again for each login: a rotated secret counts at once. What came from the
/// environment stays, and so does the last known secret while the file cannot be read.
pub fn credential_source(state: &StateDir, config: &Config) -> CredentialSource {
    let first = credentials(config).unwrap_or_default();
    let is_fixed = config.secret_origin == SecretOrigin::Environment;
    let state = state.clone();
    Box::new(move || {
        let now = if is_fixed { None } else { Config::inspect(&state, &Environment::default()).ok() };
        now.and_then(|config| credentials(&config).ok()).unwrap_or_else(|| first.copy())
    })
}

/// What we show a gateway behind ssh: what was given for this run, else `gateway.remote.token`, read again
/// for each login. Never what belongs to our own gateway (A30).
pub fn remote_credential_source(state: &StateDir, environment: &Environment) -> CredentialSource {
    let given = given_credentials(environment);
    let state = state.clone();
    Box::new(move || {
        if given.token.is_some() || given.password.is_some() {
            return given.copy();
        }
        let config = Config::inspect(&state, &Environment::default()).ok();
        Credentials { token: config.and_then(|config| config.remote.token), ..Credentials::default() }
    })
}

/// What the environment says.
pub fn given_credentials(environment: &Environment) -> Credentials {
    Credentials {
        token: environment.gateway_token.as_ref().map(Secret::copy),
        password: environment.gateway_password.as_ref().map(Secret::copy),
        ..Credentials::default()
    }
}

/// Where a device of ours keeps what the gateway at `endpoint` gives it, for that place only (A30).
pub fn device_tokens(state: &StateDir, owner: DeviceOwner, device: &DeviceKey, endpoint: &Endpoint) -> DeviceTokens {
    DeviceTokens::new(state.device_tokens(owner), device.id()).of(&endpoint.pin_name())
}

/// Our own gateway, or the one that already runs: on the Unix socket, else on the port if it is
/// pinned or our own user's.
fn find_gateway(state: &StateDir, config: Config, tcp: bool, pins: &GatewayPins) -> Result<Attached, SupervisorError> {
    let lock = match InstanceLock::take(&state.gateway_lock()) {
        Ok(lock) => lock,
        Err(StateError::AlreadyHeld { .. }) => {
            return Ok(Attached::Running(Endpoint::Socket(state.gateway_socket())));
        }
        Err(error) => return Err(SupervisorError::State(error)),
    };
    let port = config.port;
    let settings = gateway::Settings::from_config(config, tcp).map_err(SupervisorError::State)?;
    match Gateway::start(settings, state, lock) {
        Ok(gateway) => {
            let tcp = gateway.port().map_or_else(String::new, |port| format!(" and ws://127.0.0.1:{port}"));
            crate::log!("gateway", "listening on {}{tcp}", gateway.socket_path().display());
            Ok(Attached::Ours(Box::new(gateway)))
        }
        Err(GatewayError::Port(_, error)) if error.kind() == io::ErrorKind::AddrInUse => {
            let pinned = attach::is_pinned(pins, port).map_err(SupervisorError::State)?;
            attach::check(port, pinned).map_err(SupervisorError::PortHeld)?;
            Ok(Attached::Running(attach::on_port(port)))
        }
        Err(error) => Err(SupervisorError::Gateway(error)),
    }
}

/// A gateway that ran before us approves nothing by itself: looks what our node waits for there,
/// and says how to approve it.
fn say_what_to_approve(endpoint: Endpoint, node_id: String, credentials: Credentials, pins: Arc<GatewayPins>) {
    let look = move || {
        let options = ConnectOptions {
            client: operator_client(),
            role: Role::Operator,
            scopes: vec![gateway::scope::PAIRING.to_owned()],
            surface: crate::client::Surface::default(),
            path_env: None,
            credentials,
            device: None,
            pins: Some(pins),
        };
        for _ in 0..limits::APPROVAL_LOOKS {
            thread::sleep(limits::APPROVAL_LOOK_PAUSE);
            let Ok(connection) = Connection::open(&endpoint, &options, Box::new(|_, _, _| {})) else { continue };
            let Ok(list) = connection.call("node.pair.list", &json!({}), limits::REQUEST_DEADLINE) else { continue };
            let list: Value = serde_json::from_str(list.get()).unwrap_or_default();
            let rows = |name: &str| list.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            let is_ours = |row: &&Value| row.get("nodeId").and_then(Value::as_str) == Some(&node_id);
            if let Some(request) = rows("pending").iter().find(is_ours).and_then(|row| row.get("requestId")?.as_str()) {
                let way = match &endpoint {
                    Endpoint::Ssh(tunnel) => format!("--ssh {} ", tunnel.target()),
                    _ => String::new(),
                };
                crate::log!(
                    "app",
                    "this machine's node waits for approval; run: openclaw mac-debug {way}pair approve {request} (official gateway: openclaw nodes approve {request})"
                );
                return;
            }
            if rows("paired").iter().any(|row| is_ours(&row)) {
                return;
            }
        }
    };
    // Only a hint: without a thread there is none.
    let _ = thread::Builder::new().name("hint".into()).stack_size(limits::PEER_STACK_BYTES).spawn(look);
}

/// How our own tools introduce themselves: as the official CLI does, without a device.
pub fn operator_client() -> ClientInfo {
    ClientInfo {
        id: "cli".to_owned(),
        mode: "cli".to_owned(),
        version: gateway::VERSION.to_owned(),
        platform: crate::sys::platform::platform(),
        device_family: Some(crate::sys::platform::device_family().to_owned()),
        ..ClientInfo::default()
    }
}
