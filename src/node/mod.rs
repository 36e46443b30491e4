//! The node host: connects to a gateway, offers this machine's commands, answers invocations.
//! Usable inside another process: no global state, ends when told to.

pub mod abilities;
mod announce;
pub mod commands;
pub mod computer;
pub mod exec_host_client;
pub mod frames;
mod host;
mod invocations;
pub mod policy_edits;
mod skills;

pub use abilities::AbilityHost;
pub use commands::ExecHost;
pub use computer::ComputerHost;
pub use frames::Frames;
pub use host::surface;

use crate::client::connection::Ended;
use crate::client::reconnect::{self, Backoff, Next, Waited};
use crate::client::{ConnectError, Connection, CredentialSource, Endpoint, Standing, Surface};
use crate::desktop::notify::Notifications;
use crate::desktop::permissions::{self, Permissions};
use crate::exec::analysis::Host;
use crate::exec::approval::PolicySource;
use crate::identity::device::DeviceKey;
use crate::limits;
use crate::protocol::connect::ClientInfo;
use crate::protocol::node::name;
use crate::state::device_tokens::DeviceTokens;
use crate::state::pins::GatewayPins;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use commands::Commands;
use invocations::{Invocations, RecentRuns};
use policy_edits::PolicyEditor;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hears what a node is about to declare.
pub type Declares = Box<dyn Fn(&Surface) + Send + Sync>;

/// Everything that a node needs.
pub struct NodeOptions {
    /// The gateway.
    pub endpoint: Endpoint,
    /// How the node introduces itself, see [`NodeOptions::headless`] and [`NodeOptions::app`].
    pub client: ClientInfo,
    /// The key that this node is known by.
    pub device: Arc<DeviceKey>,
    /// Shared token or password.
    pub credentials: CredentialSource,
    /// Where the token lies that the gateway gave this device. None keeps and shows none: for a
    /// gateway that was named for this one run, which must not get another gateway's token (A30).
    pub tokens: Option<DeviceTokens>,
    /// Pinned gateway keys.
    pub pins: Option<Arc<GatewayPins>>,
    /// Where commands are analysed, and run when the node runs them itself.
    pub host: Host,
    /// The owner's policy.
    pub policy: Arc<dyn PolicySource>,
    /// What it offers, at most [`surface`]; it does nothing else, whoever asks.
    pub surface: Surface,
    /// Told what will be declared, before each connection: the app's own gateway hears it so, from within the process.
    pub declares: Option<Declares>,
    /// What the system lets it do, which is declared beside it, and anew when it changes.
    pub permissions: Arc<dyn Permissions>,
    /// How its connection stands, for others.
    pub standing: Arc<Standing>,
    /// Who shows notifications.
    pub notifications: Arc<Notifications>,
    /// Who runs commands.
    pub exec_host: ExecHost,
    /// Who serves `system.execApprovals.*`; none does not.
    pub policy_editor: Option<PolicyEditor>,
    /// Who serves what needs no program: the app's own node only, whose process has the permissions.
    pub abilities: Option<AbilityHost>,
    /// Who serves `computer.act`: as for `abilities`.
    pub computer: Option<ComputerHost>,
}

impl NodeOptions {
    /// How the headless host introduces itself.
    pub fn headless(display_name: String, instance_id: String) -> ClientInfo {
        host::client_info("node-host", display_name, instance_id)
    }

    /// How the app's own node introduces itself: as the Mac app where there is one.
    pub fn app(display_name: String, instance_id: String) -> ClientInfo {
        let id = if cfg!(target_os = "macos") { "openclaw-macos" } else { "node-host" };
        host::client_info(id, display_name, instance_id)
    }
}

/// Why a node has ended although nobody told it to.
#[derive(Debug)]
pub enum NodeError {
    /// The gateway refused in a way that only a person can change: end with exit status 1.
    Login(ConnectError),
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "the node cannot go on: {error}"),
        }
    }
}

impl std::error::Error for NodeError {}

/// Runs a node until `stop` fires: connects, answers, comes back. Blocks.
///
/// # Errors
/// See [`NodeError`].
pub fn run(options: NodeOptions, stop: &Wake) -> Result<(), NodeError> {
    let node = Node::new(options);
    let mut backoff = Backoff::default();
    let mut said = String::new();
    while !stop.is_fired() {
        let pause = match node.session(stop) {
            Ok(Session::Stopped) => break,
            Ok(Session::Outdated) => {
                crate::log!("node", "what this machine offers has changed; connecting again to say so");
                continue;
            }
            Ok(Session::Lost(ended, lasted)) => {
                said.clear();
                node.standing.lost(&ended.reason);
                crate::log!("node", "the connection has ended: {}; connecting again", ended.reason);
                backoff.pause_after(&ended, lasted)
            }
            Err(error) => {
                node.standing.lost(&error);
                let next = reconnect::after(&error);
                say_once(&mut said, &error, next);
                match next {
                    Next::Stop => return Err(NodeError::Login(error)),
                    Next::Idle => {
                        poll::wait_one(stop.fd(), Interest::Readable, None).map_err(NodeError::Io)?;
                        break;
                    }
                    Next::Retry(at_least) => {
                        backoff.pause().max(at_least.unwrap_or_default().min(limits::RECONNECT_MAX))
                    }
                }
            }
        };
        match reconnect::wait(pause, stop).map_err(NodeError::Io)? {
            Waited::Stopped => break,
            Waited::Jumped => backoff.reset(),
            Waited::Through => {}
        }
    }
    Ok(())
}

/// A gateway that is away for an hour is one line, not two hundred.
fn say_once(said: &mut String, error: &ConnectError, next: Next) {
    let then = match next {
        Next::Retry(_) => "trying again",
        Next::Idle => "this node now waits and tries nothing until it is started again",
        Next::Stop => "this node ends",
    };
    let text = format!("{error}; {then}");
    if *said != text {
        crate::log!("node", "{text}");
        *said = text;
    }
}

/// Why nobody waits any more.
#[derive(PartialEq, Eq)]
enum Stay {
    Over,
    Outdated,
}

/// Waits for the end of a connection or until what was declared no longer `holds` at a `look`, and tells the gateway this
/// machine's load now and then. Nobody waits for what it says to that: before the surface is approved it may refuse.
fn stay(connection: &Connection, stop: &Wake, look: Duration, holds: &dyn Fn() -> bool) -> io::Result<Stay> {
    let ends = [(stop.fd(), Interest::Readable), (connection.over_fd(), Interest::Readable)];
    let mut told: Option<Instant> = None;
    loop {
        if told.is_none_or(|told| told.elapsed() >= limits::HOST_STATS_INTERVAL) {
            told = Some(Instant::now());
            if let Some(event) = host::stats_event() {
                let _ = connection.post(name::NODE_EVENT, &event);
            }
        }
        if poll::wait(&ends, poll::deadline_in(look))?.contains(&true) {
            return Ok(Stay::Over);
        }
        if !holds() {
            return Ok(Stay::Outdated);
        }
    }
}

/// How a session ended.
enum Session {
    Stopped,
    /// What was declared does not hold any more.
    Outdated,
    /// Why, and after how long.
    Lost(Ended, Duration),
}

struct Node {
    endpoint: Endpoint,
    client: ClientInfo,
    device: Arc<DeviceKey>,
    credentials: CredentialSource,
    tokens: Option<DeviceTokens>,
    pins: Option<Arc<GatewayPins>>,
    declares: Option<Declares>,
    permissions: Arc<dyn Permissions>,
    standing: Arc<Standing>,
    commands: Arc<Commands>,
    recent: Arc<RecentRuns>,
}

impl Node {
    fn new(options: NodeOptions) -> Self {
        let requester = format!("your own node, for the gateway at {}", options.endpoint);
        Self {
            endpoint: options.endpoint,
            client: options.client,
            device: options.device,
            credentials: options.credentials,
            tokens: options.tokens,
            pins: options.pins,
            declares: options.declares,
            permissions: options.permissions,
            standing: options.standing,
            commands: Arc::new(Commands {
                offered: options.surface,
                host: options.host,
                policy: options.policy,
                exec_host: options.exec_host,
                notifications: options.notifications,
                policy_editor: options.policy_editor,
                abilities: options.abilities,
                computer: options.computer,
                requester,
            }),
            recent: Arc::new(RecentRuns::default()),
        }
    }

    /// One connection, from login to its end.
    fn session(&self, stop: &Wake) -> Result<Session, ConnectError> {
        let invocations = Invocations::start(self.device.id(), Arc::clone(&self.commands), Arc::clone(&self.recent))
            .map_err(ConnectError::Thread)?;
        let heard = Arc::clone(&invocations);
        let on_event = Box::new(move |link: &_, event: &str, payload: Option<&_>| heard.on_event(link, event, payload));
        let options = self.connect_options();
        if let Some(declares) = &self.declares {
            declares(&options.surface);
        }
        let opened = Connection::open(&self.endpoint, &options, on_event);
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                invocations.end();
                return Err(error);
            }
        };
        self.keep_token(&connection);
        let hello = connection.hello();
        crate::log!("node", "connected to {} (gateway {})", self.endpoint, hello.server_version);
        self.standing.connected(&hello.server_version);
        let since = Instant::now();
        announce::start(connection.link());
        let holds = || !invocations.is_idle() || self.surface() == options.surface;
        let is_looked_at = options.surface.permissions.is_some() || self.commands.surface_may_change();
        let look = if is_looked_at { limits::PERMISSIONS_LOOK } else { limits::HOST_STATS_INTERVAL };
        let waited = stay(&connection, stop, look, &holds);
        // What is under way has nobody to answer to any more.
        invocations.end();
        if waited.map_err(ConnectError::Thread)? == Stay::Outdated {
            connection.close();
            return Ok(Session::Outdated);
        }
        match connection.ended() {
            Some(ended) if !stop.is_fired() => Ok(Session::Lost(ended.clone(), since.elapsed())),
            _ => {
                connection.close();
                Ok(Session::Stopped)
            }
        }
    }

    /// What is offered now: abilities come and go with the owner's switches and the system's permissions.
    fn surface(&self) -> Surface {
        Surface { permissions: permissions::declared(&*self.permissions), ..self.commands.surface() }
    }

    fn connect_options(&self) -> crate::client::ConnectOptions {
        let mut credentials = (self.credentials)();
        if let Some(tokens) = &self.tokens {
            credentials.device_token = tokens.token(host::ROLE.word()).unwrap_or_else(|error| {
                crate::log!("node", "the stored device token is not used: {error}");
                None
            });
        }
        crate::client::ConnectOptions {
            client: self.client.clone(),
            role: host::ROLE,
            scopes: Vec::new(),
            surface: self.surface(),
            path_env: Some(self.commands.host.search_path_text()),
            credentials,
            device: Some(Arc::clone(&self.device)),
            pins: self.pins.clone(),
        }
    }

    fn keep_token(&self, connection: &Connection) {
        let hello = connection.hello();
        if let (Some(tokens), Some(token)) = (&self.tokens, &hello.device_token)
            && let Err(error) = tokens.keep(host::ROLE.word(), token, &hello.scopes)
        {
            crate::log!("node", "the device token could not be kept: {error}");
        }
    }
}
