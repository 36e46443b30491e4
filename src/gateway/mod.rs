//! The WebSocket control plane: accept → handshake → session → methods; registry, pairing,
//! invocations, broadcasts. One thread a peer; nothing here waits for a slow reader.

pub mod accept;
pub mod admission;
pub mod approvals;
pub mod command_policy;
pub mod failures;
pub mod handshake;
pub mod invocations;
pub mod methods;
pub mod methods_approvals;
pub mod methods_node;
pub mod methods_pairing;
pub mod methods_policy;
pub mod pairing;
pub mod pending_work;
pub mod registry;
pub mod run_binding;
pub mod run_guard;
pub mod scope;
pub mod session;
pub mod setup;

use crate::identity::device::DeviceKey;
use crate::identity::random;
use crate::limits;
use crate::state::StateError;
use crate::state::config::{Config, SecretOrigin, SharedSecret};
use crate::state::locks::InstanceLock;
use crate::state::paths::StateDir;
use crate::sys::clock;
use crate::sys::wake::Wake;
use crate::transport::lease::{LeaseError, SocketLease};
use admission::Admission;
use approvals::Approvals;
use failures::Failures;
use invocations::Invocations;
use pairing::{Pairing, Surface};
use pending_work::PendingWork;
use registry::Registry;
use serde_json::json;
use session::Session;
use setup::Setups;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What we say our version is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names of the events that we send; each stands once.
pub mod event {
    /// First frame of every connection.
    pub const CHALLENGE: &str = "connect.challenge";
    /// The list of who is connected has changed.
    pub const PRESENCE: &str = "presence";
    /// Whether the gateway is well has changed.
    pub const HEALTH: &str = "health";
    /// Sign of life.
    pub const TICK: &str = "tick";
    /// The gateway is going.
    pub const SHUTDOWN: &str = "shutdown";
    /// A surface waits for approval.
    pub const NODE_PAIR_REQUESTED: &str = "node.pair.requested";
    /// A surface was approved, rejected or removed.
    pub const NODE_PAIR_RESOLVED: &str = "node.pair.resolved";
    /// A device waits for approval.
    pub const DEVICE_PAIR_REQUESTED: &str = "device.pair.requested";
    /// A device was approved, rejected or removed.
    pub const DEVICE_PAIR_RESOLVED: &str = "device.pair.resolved";
    /// A device got another name.
    pub const DEVICE_PAIR_CHANGED: &str = "device.pair.changed";
    /// Load of a node's machine.
    pub const NODE_HOST_STATS: &str = "node.hostStats";

    /// A command waits for an operator's word.
    pub const EXEC_APPROVAL_REQUESTED: &str = "exec.approval.requested";
    /// It waits no more.
    pub const EXEC_APPROVAL_RESOLVED: &str = "exec.approval.resolved";

    use crate::protocol::node::name::{INVOKE_CANCEL, INVOKE_REQUEST};

    /// `features.events` of hello-ok.
    pub const ALL: &[&str] = &[
        CHALLENGE,
        PRESENCE,
        HEALTH,
        TICK,
        SHUTDOWN,
        NODE_PAIR_REQUESTED,
        NODE_PAIR_RESOLVED,
        DEVICE_PAIR_REQUESTED,
        DEVICE_PAIR_RESOLVED,
        DEVICE_PAIR_CHANGED,
        NODE_HOST_STATS,
        EXEC_APPROVAL_REQUESTED,
        EXEC_APPROVAL_RESOLVED,
        INVOKE_REQUEST,
        INVOKE_CANCEL,
    ];
}

/// What the owner decided.
pub struct Settings {
    /// Loopback TCP port; none = Unix socket only.
    pub port: Option<u16>,
    /// Admits operators and new devices, as it is at the start.
    pub shared: Arc<SharedSecret>,
    /// Where it was found.
    pub secret_origin: SecretOrigin,
    /// A device with the right shared secret on a direct local connection pairs without a question.
    pub auto_approve_local: bool,
    /// Origins that may connect; none by default.
    pub allowed_origins: Vec<String>,
    /// `gateway.nodes.commands`.
    pub commands: command_policy::OwnerLists,
}

impl Settings {
    /// From the owner's config. Without `tcp` only the Unix socket is opened.
    ///
    /// # Errors
    /// There is no shared secret.
    pub fn from_config(config: Config, tcp: bool) -> Result<Self, StateError> {
        Ok(Self {
            port: tcp.then_some(config.port),
            secret_origin: config.secret_origin,
            shared: Arc::new(config.shared_secret.ok_or(StateError::NoSharedSecret)?),
            auto_approve_local: config.auto_approve_local,
            allowed_origins: config.allowed_origins,
            commands: command_policy::OwnerLists { allow: config.allowed_commands, deny: config.denied_commands },
        })
    }
}

/// Close reason of sessions whose shared secret was exchanged. Source: spec gateway §2 "Close codes".
const AUTH_CHANGED: &str = "gateway auth changed";

/// Everything that the connections share. Locks are never held across another peer's I/O, and
/// taken in this order only: approvals, pairing, registry, one node's live state.
pub struct Core {
    settings: Settings,
    shared: Mutex<Admittance>,
    state: StateDir,
    key: DeviceKey,
    pairing: Mutex<Pairing>,
    failures: Mutex<Failures>,
    setups: Mutex<Setups>,
    registry: Registry,
    invocations: Invocations,
    approvals: Approvals,
    pending_work: PendingWork,
    admission: Admission,
    host_name: String,
    boot_id: String,
    started: Instant,
    next_session: AtomicU64,
    /// What was last told of [`Pairing::is_failing`].
    told_failing: AtomicBool,
    /// The presence list has changed since it was told.
    presence_waits: AtomicBool,
    stopping: AtomicBool,
    stop: Wake,
}

/// The shared secret, which can be exchanged while we run.
struct Admittance {
    secret: Arc<SharedSecret>,
    /// Counts the exchanges.
    generation: u64,
}

impl Core {
    /// The shared secret that holds now, and which one that is.
    fn shared(&self) -> (Arc<SharedSecret>, u64) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&shared.secret), shared.generation)
    }

    /// Reads the shared secret again, for a login that brings another one than we know: its owner
    /// may have exchanged it. When it is another one, every session that the old one let in is
    /// closed (A14).
    fn reload_shared(&self) {
        if self.settings.secret_origin == SecretOrigin::Environment {
            return;
        }
        // A file that cannot be read, or is half written, changes nothing.
        let Ok(secret) = Config::stored_secret(&self.state) else { return };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.secret.is_same(&secret) {
            return;
        }
        *shared = Admittance { secret: Arc::new(secret), generation: shared.generation + 1 };
        drop(shared);
        crate::log!("gateway", "the shared secret was exchanged; sessions of the old one are closed");
        for session in self.registry.sessions().iter().filter(|session| self.is_outdated(session)) {
            session.outbox.close(4001, AUTH_CHANGED);
        }
    }

    /// Whether a session was let in by a shared secret that holds no more.
    fn is_outdated(&self, session: &Session) -> bool {
        session.admitted_by.is_some_and(|generation| generation != self.shared().1)
    }

    fn pairing(&self) -> MutexGuard<'_, Pairing> {
        self.pairing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn setups(&self) -> MutexGuard<'_, Setups> {
        self.setups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why the gateway did not start.
#[derive(Debug)]
pub enum GatewayError {
    /// State on disk, including another instance that holds the lock.
    State(StateError),
    /// The Unix socket.
    Socket(LeaseError),
    /// The TCP port.
    Port(u16, std::io::Error),
    /// Threads or descriptors.
    System(std::io::Error),
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(StateError::AlreadyHeld { pid, .. }) => {
                let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                write!(f, "a gateway already runs here{who}; stop it first, or use another OPENCLAW_STATE_DIR")
            }
            Self::State(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::Port(port, error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let holder = crate::sys::listener::holder_of(*port);
                let who = holder.map_or_else(String::new, |pid| format!(" by pid {pid}"));
                write!(f, "port {port} is taken{who}; choose another with --port, or use --no-tcp")
            }
            Self::Port(port, error) => write!(f, "port {port} cannot be opened: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for GatewayError {}

/// A running gateway. Dropping it without [`Gateway::stop`] leaves its threads to the end of the
/// process.
pub struct Gateway {
    core: Arc<Core>,
    _lock: InstanceLock,
    socket: SocketLease,
    port: Option<u16>,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a gateway: reads its records, binds its sockets, serves. `lock` is the state
    /// directory's gateway lock, held already.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing listens then.
    pub fn start(settings: Settings, state: &StateDir, lock: InstanceLock) -> Result<Self, GatewayError> {
        let secret = Arc::clone(&settings.shared);
        let key = crate::state::device_key::load_or_create(&state.gateway_key()).map_err(GatewayError::State)?;
        let pairing = Pairing::load(state).map_err(GatewayError::State)?;
        let listeners = match settings.port {
            Some(port) => listen(port)?,
            None => Vec::new(),
        };
        let port = listeners.first().and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
        let socket = SocketLease::bind(&state.gateway_socket()).map_err(GatewayError::Socket)?;
        let core = Arc::new(Core {
            settings,
            shared: Mutex::new(Admittance { secret, generation: 0 }),
            state: state.clone(),
            key,
            pairing: Mutex::new(pairing),
            failures: Mutex::new(Failures::new()),
            setups: Mutex::default(),
            registry: Registry::default(),
            invocations: Invocations::default(),
            approvals: Approvals::default(),
            pending_work: PendingWork::default(),
            admission: Admission::default(),
            host_name: crate::sys::process::host_name(),
            boot_id: random::uuid(),
            started: Instant::now(),
            next_session: AtomicU64::new(1),
            told_failing: AtomicBool::new(false),
            presence_waits: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: Wake::new().map_err(GatewayError::System)?,
        });
        let mut threads = Vec::new();
        for listener in listeners {
            let core = Arc::clone(&core);
            threads.push(service("accept-tcp", move || accept::run(&core, &listener))?);
        }
        let unix = socket.listener().try_clone().map_err(GatewayError::System)?;
        let for_unix = Arc::clone(&core);
        threads.push(service("accept-unix", move || accept::run(&for_unix, &unix))?);
        let for_timer = Arc::clone(&core);
        threads.push(service("timer", move || invocations::timer(&for_timer))?);
        Ok(Self { core, _lock: lock, socket, port, threads })
    }

    /// The TCP port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The Unix socket.
    pub fn socket_path(&self) -> &std::path::Path {
        self.socket.path()
    }

    /// By what this gives, the app that runs this gateway hands over exactly what its own node, `device_id`, is about to
    /// declare, each time. Only that device with at most that surface is approved without a person.
    pub fn local_app(&self, device_id: String) -> impl Fn(&Surface) + Send + Sync + use<> {
        let core = Arc::clone(&self.core);
        move |surface| core.pairing().set_local_app(device_id.clone(), surface.clone())
    }

    /// Gives the names of the nodes that are connected, whenever it is called.
    pub fn nodes(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let core = Arc::clone(&self.core);
        move || {
            let sessions = core.registry.sessions().into_iter().filter(|session| session.node.is_some());
            let name = |session: Arc<session::Session>| {
                let client = &session.client;
                crate::protocol::text::visible(client.display_name.as_deref().unwrap_or(&client.id))
            };
            let mut names: Vec<String> = sessions.map(name).collect();
            names.sort();
            names
        }
    }

    /// Says goodbye, closes every connection with 1012, and waits for the threads (bounded).
    pub fn stop(self) {
        self.core.stopping.store(true, Ordering::SeqCst);
        self.core.stop.fire();
        let goodbye = json!({"reason": "gateway stopping"});
        self.core.registry.broadcast(event::SHUTDOWN, &goodbye, None, None);
        self.core.invocations.abandon_all(&self.core);
        for session in self.core.registry.sessions() {
            session.outbox.close(1012, "service restart");
        }
        let deadline = Instant::now() + limits::CLOSE_GRACE * 2;
        while self.core.registry.count() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        self.core.invocations.stop();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Binds the port on both loopback addresses; IPv6 may be missing on this machine.
fn listen(port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| GatewayError::Port(port, error))?;
    let port = v4.local_addr().map_err(|error| GatewayError::Port(port, error))?.port();
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    match TcpListener::bind(v6) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(GatewayError::Port(port, error)),
        Err(_) => Ok(vec![v4]),
    }
}

fn service(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, GatewayError> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(limits::PEER_STACK_BYTES)
        .spawn(work)
        .map_err(GatewayError::System)
}

/// What hello-ok and `status` give as the time now.
fn now_ms() -> i64 {
    clock::wall_ms()
}
