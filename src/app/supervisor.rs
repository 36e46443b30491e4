//! `openclaw app`: the exec socket, and in local mode the gateway and this machine's node in the
//! same process. Source: DESIGN "Local mode and pinning".

use super::bridge_keeper::{BridgeKeeper, Wanted};
use super::canvas_links;
use super::control::Controls;
use super::gateway_approvals;
use super::gateway_question::Here;
use super::menu::{self, Sources};
use super::operator::{Ask, OperatorDesktop, Route};
use super::status::{About, Mode};
use super::switches;
use super::{AppError, AppHost};
use crate::client::attach::{self, PortHeld};
use crate::client::{ConnectOptions, Connection, CredentialSource, Credentials, Endpoint, Role, Surface};
use crate::desktop::Backend;
use crate::desktop::abilities::{self, Abilities};
use crate::desktop::bundle::Bundle;
use crate::desktop::menu::Menu;
use crate::exec::analysis::Host;
use crate::exec::document::{DocumentPolicy, Settings};
use crate::gateway::{self, Gateway, GatewayError};
use crate::identity::device::DeviceKey;
use crate::identity::secret::Secret;
use crate::limits;
use crate::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use crate::node::policy_edits::PolicyEditor;
use crate::node::{self, AbilityHost, ComputerHost, Frames, NodeOptions, commands};
use crate::protocol::connect::ClientInfo;
use crate::protocol::notify::NOTIFY;
use crate::service::Service;
use crate::state::approvals::ApprovalsDocument;
use crate::state::config::{Config, GatewayMode, SecretOrigin, SharedSecret};
use crate::state::device_tokens::DeviceTokens;
use crate::state::paths::DeviceOwner;
use crate::state::pins::GatewayPins;
use crate::state::switches::Switches;
use crate::state::{Environment, InstanceLock, StateDir, StateError, device_key};
use crate::sys::process;
use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Why no gateway is started here. Source: spec mac-app §1.2, §1.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachOnly {
    /// `--attach-only`
    Flag,
    /// [`StateDir::attach_only_marker`]
    Marker,
}

impl AttachOnly {
    /// The flag, or the owner's marker file, which nobody writes by the way (P6).
    pub fn of(flag: bool, state: &StateDir) -> Option<Self> {
        let marker = || state.attach_only_marker().symlink_metadata().is_ok().then_some(Self::Marker);
        if flag { Some(Self::Flag) } else { marker() }
    }

    /// For `status`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "--attach-only",
            Self::Marker => "disable-launchagent",
        }
    }
}

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
    /// Start no gateway here.
    pub attach_only: Option<AttachOnly>,
    /// A gateway elsewhere instead of one here, and what it is shown.
    pub remote: Option<(Endpoint, CredentialSource)>,
    /// Show what waits for approval at the gateway too, if there is somebody to show it to.
    pub gateway_approvals: bool,
    /// This app as a service that starts at each login, if it can be one as it was started.
    pub at_login: Option<Service>,
    /// Serve the bridge although its own switch is off.
    pub bridge: bool,
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

impl Attached {
    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Ours(gateway) => Endpoint::Socket(gateway.socket_path().to_path_buf()),
            Self::Running(endpoint) => endpoint.clone(),
        }
    }

    fn described(&self, is_remote: bool) -> (Mode, Option<Endpoint>) {
        let mode = match self {
            Self::Ours(_) => Mode::Local,
            Self::Running(_) if is_remote => Mode::Remote,
            Self::Running(_) => Mode::Attached,
        };
        (mode, Some(self.endpoint()))
    }
}

/// Runs the app until a signal ends it. `_lock` makes it the only one.
///
/// # Errors
/// See [`SupervisorError`]; nothing of it runs then.
pub fn run(options: AppOptions, _lock: InstanceLock, signals: &Termination) -> Result<(), SupervisorError> {
    let AppOptions { state, config, ask, tcp, attach_only, remote, gateway_approvals, at_login, bridge } = options;
    let operators = OperatorDesktop::default();
    let settings = Settings::of(&config.exec);
    let approvals = Arc::new(ApprovalsDocument::new(&state));
    let desktop = ask.open(&operators, &approvals);
    let menu = desktop.menu();
    // Whoever asks operators is none, and a gateway is not told that somebody is here when nobody is.
    let gateway_approvals = gateway_approvals && desktop.has_person();
    let about =
        Arc::new(About { bundle: Bundle::of_this_process(), attach_only, port: config.port, ..About::default() });
    let host = AppHost::start(&state, desktop, settings.clone(), Arc::clone(&about)).map_err(SupervisorError::Host)?;
    let is_remote = remote.is_some();
    let gateway = match (remote, config.mode) {
        (Some((place, source)), _) => Some((Attached::Running(place), source)),
        (None, GatewayMode::Local) => {
            let source = credential_source(&state, &config);
            let pins = GatewayPins::new(&state);
            let gateway = match attach_only {
                Some(why) => attach_only_gateway(&state, config.port, &pins, why)?,
                None => find_gateway(&state, config, tcp, &pins)?,
            };
            Some((gateway, source))
        }
        (None, GatewayMode::Remote) => None,
    };
    let _ = about
        .gateway
        .set(gateway.as_ref().map_or((Mode::Unconfigured, None), |(gateway, _)| gateway.described(is_remote)));
    let Controls { guards, .. } = &**host.controls();
    let wanted = Wanted { state: state.clone(), in_this_run: bridge };
    let bridge =
        BridgeKeeper::start(wanted, Arc::clone(host.automation()), Arc::clone(guards), Arc::clone(&about.bridge))
            .map_err(SupervisorError::System)?;
    if let Some(menu) = menu {
        let gateway = gateway.as_ref().map(|(gateway, _)| gateway);
        show_menu(menu, gateway, &host, at_login).map_err(SupervisorError::System)?;
    }
    let local = match gateway {
        Some((gateway, source)) => {
            // Only somebody in front of this machine may confirm an edit from outside (H15).
            let is_here = matches!(ask, Ask::Desktop(Backend::Panel | Backend::Terminal));
            let person = is_here.then(|| Arc::clone(host.person()));
            let editor = PolicyEditor { document: Arc::clone(&approvals), person };
            let outside = canvas_links::asker(Arc::clone(host.person()), menu::open);
            let offered = abilities::of_this_system(&state, ask == Ask::Desktop(Backend::Panel), outside);
            let mut local = start_local(&state, gateway, source, &host, editor, offered, settings)?;
            operators.set_route(Some(Arc::clone(&local.route)));
            if gateway_approvals {
                local.show_approvals(&host, approvals).map_err(SupervisorError::System)?;
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
    drop(bridge);
    // Prompts and commands first: what they answer still finds its way back.
    host.stop();
    if let Some(local) = local {
        local.stop();
    }
    Ok(())
}

/// A menu for the owner.
fn show_menu(
    menu: Arc<dyn Menu>,
    gateway: Option<&Attached>,
    host: &AppHost,
    at_login: Option<Service>,
) -> io::Result<()> {
    let nodes: Box<dyn Fn() -> Vec<String> + Send + Sync> = match gateway {
        Some(Attached::Ours(gateway)) => Box::new(gateway.nodes()),
        _ => Box::new(|| vec![process::host_name()]),
    };
    let (controls, person) = (Arc::clone(host.controls()), Arc::clone(host.person()));
    menu::start(menu, Sources { switches: switches::Switches::new(&controls.state), controls, person, nodes, at_login })
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
    fn show_approvals(&mut self, host: &AppHost, document: Arc<ApprovalsDocument>) -> io::Result<()> {
        let here = Here { gateway: self.route.endpoint.to_string(), node_id: self.node_id.clone(), document };
        let about = &host.controls().about;
        let way = || (Arc::clone(&self.route), Arc::clone(host.person()), Arc::clone(&self.stop));
        let (route, person, stop) = way();
        self.threads.extend(about.pairing.start(route, person, self.node_id.clone(), stop)?);
        let (route, person, stop) = way();
        self.threads.extend(gateway_approvals::start(route, Arc::clone(&about.operator), person, here, stop)?);
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
    host: &AppHost,
    policy_editor: PolicyEditor,
    offered: Option<Arc<dyn Abilities>>,
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
    let approvals = &policy_editor.document;
    let Controls { permissions, about, queue, guards, .. } = &**host.controls();
    let mut surface = node::surface();
    if host.notifications().are_possible() {
        surface.commands.push(NOTIFY.to_owned());
    }
    // What it will declare is told to our own gateway each time, by a call in this process: so a switch of the owner's, or
    // a permission, counts at once, and a stolen device key still gets no more than what is switched on now.
    let mut declares: Option<node::Declares> = None;
    let endpoint = match &gateway {
        Attached::Ours(ours) => {
            declares = Some(Box::new(ours.local_app(device.id())));
            gateway.endpoint()
        }
        Attached::Running(endpoint) => {
            crate::log!("app", "the gateway is {endpoint}; this machine's node joins it");
            say_what_to_approve(endpoint.clone(), device.id(), source(), Arc::clone(&pins));
            endpoint.clone()
        }
    };
    let route = Arc::new(Route { endpoint: endpoint.clone(), credentials: read_again(), pins: Arc::clone(&pins) });
    let _ = about.route.set(Arc::clone(&route));
    let node_id = device.id();
    let exec_host = ExecHostClient::new(state.exec_socket(), token_source(approvals), ExecHostPeer::Ours);
    let seeing = Arc::clone(queue);
    let frames = Arc::new(Frames::new(Arc::clone(host.automation())));
    let computer = ComputerHost {
        automation: Arc::clone(host.automation()),
        frames: Arc::clone(&frames),
        state: state.clone(),
        away: Box::new(move || seeing.away().map(|away| away.word().to_owned())),
        guards: Arc::clone(guards),
        at_work: Mutex::default(),
    };
    let options = NodeOptions {
        tokens: Some(device_tokens(state, DeviceOwner::App, &device, &endpoint)),
        endpoint,
        client: NodeOptions::app(process::host_name(), device.id()),
        device,
        credentials: read_again(),
        pins: Some(Arc::clone(&pins)),
        host: Host::of_this_process(process::found_open_files()),
        policy: Arc::new(DocumentPolicy { document: Arc::clone(approvals), trusts_agent: false, settings }),
        surface,
        declares,
        notifications: Arc::clone(host.notifications()),
        permissions: Arc::clone(permissions),
        standing: Arc::clone(&about.node),
        exec_host: commands::ExecHost::App(exec_host),
        policy_editor: Some(policy_editor),
        abilities: offered.map(|offered| {
            AbilityHost::new(offered, Arc::clone(permissions), Switches::new(state)).with_frames(frames)
        }),
        computer: Some(computer),
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

/// The gateway that runs already; else our own socket, on which one may come.
fn attach_only_gateway(
    state: &StateDir,
    port: u16,
    pins: &GatewayPins,
    why: AttachOnly,
) -> Result<Attached, SupervisorError> {
    crate::log!("app", "attach-only ({}): no gateway is started, stopped or removed by this app", why.word());
    let is_on_port = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    if InstanceLock::holder(&state.gateway_lock()).is_none() {
        if is_on_port() {
            attach::check(port, attach::is_pinned(pins, port).map_err(SupervisorError::State)?)
                .map_err(SupervisorError::PortHeld)?;
            return Ok(Attached::Running(attach::on_port(port)));
        }
        crate::log!(
            "app",
            "no gateway runs here yet; start one with `openclaw gateway`, it is joined as soon as it is there"
        );
    }
    Ok(Attached::Running(Endpoint::Socket(state.gateway_socket())))
}

/// A gateway that ran before us approves nothing by itself: looks what our node waits for there,
/// and says how to approve it.
fn say_what_to_approve(endpoint: Endpoint, node_id: String, credentials: Credentials, pins: Arc<GatewayPins>) {
    let look = move || {
        let options = ConnectOptions {
            client: operator_client(),
            role: Role::Operator,
            scopes: vec![gateway::scope::PAIRING.to_owned()],
            surface: Surface::default(),
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
                let way = endpoint.tunnel().map_or_else(String::new, |tunnel| format!("--ssh {} ", tunnel.target()));
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
