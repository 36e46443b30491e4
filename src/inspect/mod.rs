//! What `mac-debug` looks at and asks for: status, nodes, runs, invokes, pairing, approvals, grants, the audit log, the
//! token. It connects as the official CLI does, without a device, and asks the least scopes.

pub mod approvals;
pub mod audit;
pub mod connect;
pub mod doctor;
pub mod exec_host;
pub mod discover;
pub mod explain;
pub mod facts;
pub mod grants;
pub mod logs;
pub mod nodes;
pub mod pairing;
pub mod policy;
pub mod replay;
pub mod run;
pub mod selftest;
pub mod status;
mod tail;
pub mod token;
pub mod trace;
pub mod watch;

use crate::app::supervisor::{credentials, given_credentials, operator_client, remote_credential_source};
use crate::client::attach::PortHeld;
use crate::client::connection::EventHandler;
use crate::client::{
    CallError, ConnectError, ConnectOptions, Connection, Credentials, Endpoint, Role, Surface, attach,
};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::text;
use crate::state::approvals::edit::EditError;
use crate::state::config::Config;
use crate::state::pins::GatewayPins;
use crate::state::{Environment, StateDir, StateError};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Where to look and how to say it.
pub struct Target {
    /// Where everything lies; nothing is created there.
    pub state: StateDir,
    /// The owner's settings.
    pub config: Config,
    /// The gateway.
    pub endpoint: Endpoint,
    credentials: Credentials,
    pins: Option<Arc<GatewayPins>>,
    /// Named by `--url` or `--ssh`.
    is_other: bool,
}

/// Why there is nothing to show.
#[derive(Debug)]
pub enum InspectError {
    /// State on disk.
    State(StateError),
    /// The gateway's port may be anybody's.
    Held(PortHeld),
    /// No connection.
    Connect(ConnectError),
    /// The gateway refused, or did not answer.
    Call(CallError),
    /// The gateway answered something else than expected.
    Answer(String),
    /// The app is not there, or refuses; the whole sentence.
    App(String),
    /// The approvals document was not changed.
    Edit(EditError),
    /// What was asked for cannot be done as it was asked.
    Usage(String),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Held(held) => held.fmt(f),
            Self::Connect(error) => error.fmt(f),
            // A node's refusal comes wrapped twice; its own sentence and code say it all.
            Self::Call(CallError::Refused(error)) if nodes_own_words(error).is_some() => {
                let (code, message) = nodes_own_words(error).unwrap_or_default();
                f.write_str(&text::visible(message))?;
                if message.starts_with(code) { Ok(()) } else { write!(f, " ({})", text::visible(code)) }
            }
            Self::Call(error) => error.fmt(f),
            Self::Answer(what) => write!(f, "the gateway's answer is not understood: {what}"),
            Self::App(what) | Self::Usage(what) => f.write_str(what),
            Self::Edit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InspectError {}

/// `code` and `message` of `details.nodeError`.
fn nodes_own_words(error: &WireError) -> Option<(&str, &str)> {
    let nested = error.details.as_ref()?.get("nodeError")?;
    Some((nested.get("code")?.as_str()?, nested.get("message")?.as_str()?))
}

impl From<StateError> for InspectError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<CallError> for InspectError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Target {
    /// The gateway of this state directory: its Unix socket where there is one, else its port.
    /// With `other`, that gateway, and then only a secret from the environment is shown to it, or one that
    /// is stored for a remote one if it is behind ssh: the stored one belongs to our own (A30).
    ///
    /// # Errors
    /// The config cannot be used, or there is no secret for the other gateway.
    pub fn new(state: StateDir, environment: &Environment, other: Option<Endpoint>) -> Result<Self, InspectError> {
        let Some(endpoint) = other else { return Self::with(state, environment, None, None) };
        let is_ssh = matches!(endpoint, Endpoint::Ssh(_));
        let credentials =
            if is_ssh { remote_credential_source(&state, environment)() } else { given_credentials(environment) };
        if credentials.token.is_none() && credentials.password.is_none() {
            return Err(InspectError::Usage(
                "with --url or --ssh, set OPENCLAW_GATEWAY_TOKEN (or OPENCLAW_GATEWAY_PASSWORD; for --ssh also gateway.remote.token in openclaw.json): the stored token belongs to this machine's own gateway".to_owned(),
            ));
        }
        Self::with(state, environment, Some(endpoint), Some(credentials))
    }

    /// The same with these credentials, which may be none at all. Another gateway is shown nothing else; our own what is
    /// stored for it, when none are given.
    ///
    /// # Errors
    /// The config cannot be used, or the port may be anybody's.
    fn with(
        state: StateDir,
        environment: &Environment,
        other: Option<Endpoint>,
        given: Option<Credentials>,
    ) -> Result<Self, InspectError> {
        let config = Config::inspect(&state, environment)?;
        if let Some(endpoint) = other {
            // As below: a first contact is not pinned, a pinned gateway is held to its key.
            let pins = GatewayPins::new(&state);
            let pins = pins.pinned(&endpoint.pin_name())?.is_some().then(|| Arc::new(pins));
            let credentials = given.unwrap_or_default();
            return Ok(Self { state, config, endpoint, credentials, pins, is_other: true });
        }
        let credentials = given.or_else(|| credentials(&config).ok()).unwrap_or_default();
        let socket = state.gateway_socket();
        if socket.symlink_metadata().is_ok() {
            return Ok(Self {
                endpoint: Endpoint::Socket(socket),
                state,
                config,
                credentials,
                pins: None,
                is_other: false,
            });
        }
        let port = config.port;
        let pins = GatewayPins::new(&state);
        let pinned = attach::is_pinned(&pins, port)?;
        attach::check(port, pinned).map_err(InspectError::Held)?;
        // Looking must not create a file (row H25), so a first contact is not pinned here.
        let pins = pinned.then(|| Arc::new(pins));
        Ok(Self { endpoint: attach::on_port(port), state, config, credentials, pins, is_other: false })
    }

    /// Connects, asking for these scopes.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, scopes: &[&str]) -> Result<Connection, InspectError> {
        self.connect_and_hear(scopes, &[], Box::new(|_, _, _| {}))
    }

    /// [`Target::connect`] with these caps; `on_event` hears every event.
    fn connect_and_hear(
        &self,
        scopes: &[&str],
        caps: &[&str],
        on_event: EventHandler,
    ) -> Result<Connection, InspectError> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let options = ConnectOptions {
            client: operator_client(),
            role: Role::Operator,
            scopes: owned(scopes),
            surface: Surface { caps: owned(caps), ..Surface::default() },
            path_env: None,
            credentials: self.credentials.copy(),
            device: None,
            pins: self.pins.clone(),
        };
        Connection::open(&self.endpoint, &options, on_event).map_err(InspectError::Connect)
    }

    /// From now on shows what is stored for this machine's own gateway, whatever the environment says.
    ///
    /// # Errors
    /// There is none, or the target is another gateway (`--url`, `--ssh`).
    fn use_stored_secret(&mut self) -> Result<(), InspectError> {
        if self.is_other {
            return Err(InspectError::Usage(
                "the token of this machine's own gateway: leave out --url and --ssh".to_owned(),
            ));
        }
        self.config = Config::inspect(&self.state, &Environment::default())?;
        self.credentials = credentials(&self.config)?;
        Ok(())
    }
}

/// Calls a method and reads its answer.
fn call<P: Serialize>(connection: &Connection, method: &str, params: &P) -> Result<Value, InspectError> {
    let answer = connection.call(method, params, limits::REQUEST_DEADLINE)?;
    serde_json::from_str(answer.get()).map_err(|error| InspectError::Answer(error.to_string()))
}

/// A text from outside, safe on a terminal (A159).
fn shown<'a>(row: &'a Value, member: &str) -> std::borrow::Cow<'a, str> {
    match row.get(member) {
        Some(Value::String(text)) => text::visible(text).into(),
        Some(Value::Null) | None => "-".into(),
        Some(other) => other.to_string().into(),
    }
}

/// The same for what a pointer names.
fn text_at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text::visible(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => text::visible(&other.to_string()),
    }
}

/// Rows under headings, columns as wide as their longest text.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let last = column + 1 == headings.len();
            let pad = if last { 0 } else { width(column).saturating_sub(cell.chars().count()) + 2 };
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', pad));
        }
        out.push('\n');
        out
    };
    let mut out = line(headings.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}
