//! What this app tells of itself: in our own words for `mac-debug` and the menu, and in those of the official command
//! line. Never a secret. Source: spec mac-app (4.3).

use super::bridge_keeper::BridgeStanding;
use super::control::Controls;
use super::operator::Route;
use super::pairing::PairingDesk;
use super::supervisor::AttachOnly;
use crate::bridge;
use crate::client::{Endpoint, Standing};
use crate::desktop::bundle::{self, Bundle};
use crate::desktop::permissions;
use crate::exec::approval::Guards;
use crate::gateway::VERSION;
use crate::state::StateDir;
use crate::state::pause;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Where this app's gateway is. Source: spec mac-app §1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In this process.
    Local,
    /// On this machine, started by somebody else.
    Attached,
    /// On another machine.
    Remote,
    /// There is none.
    Unconfigured,
}

impl Mode {
    /// For `status`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Attached => "attached",
            Self::Remote => "remote",
            Self::Unconfigured => "unconfigured",
        }
    }
}

/// What whoever starts the app knows of it, and what its parts note down.
#[derive(Default)]
pub struct About {
    /// The bundle that it runs from.
    pub bundle: Option<Bundle>,
    /// Why it starts no gateway.
    pub attach_only: Option<AttachOnly>,
    /// The gateway's port on this machine, if it has one.
    pub port: u16,
    /// Its gateway; not set while it starts.
    pub gateway: OnceLock<(Mode, Option<Endpoint>)>,
    /// The way there, once it is known.
    pub route: OnceLock<Arc<Route>>,
    /// What wants in there.
    pub pairing: Arc<PairingDesk>,
    /// Its node's connection.
    pub node: Arc<Standing>,
    /// Its connection as an operator, by which it shows what waits at the gateway.
    pub operator: Arc<Standing>,
    /// The bridge.
    pub bridge: Arc<BridgeStanding>,
}

impl About {
    fn mode(&self) -> &'static str {
        self.gateway.get().map_or("starting", |(mode, _)| mode.word())
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.gateway.get()?.1.as_ref()
    }
}

/// The answer to `status`, in our own form.
pub fn status(controls: &Controls) -> Value {
    let Controls { guards, queue, permissions, state, about, .. } = controls;
    let Guards { fencer, grants, .. } = &**guards;
    let tunnel = about.endpoint().and_then(Endpoint::tunnel).map(|tunnel| {
        let status = tunnel.status();
        json!({"target": status.target, "connected": status.connected, "trouble": status.trouble})
    });
    json!({
        "app": {
            "version": VERSION,
            "commit": about.bundle.as_ref().and_then(|bundle| bundle.commit.clone()),
            "pid": std::process::id(),
            "bundleId": about.bundle.as_ref().map(|bundle| bundle.identifier.clone()),
            "bundlePath": about.bundle.as_ref().map(|bundle| bundle.path.clone()),
            "translocated": about.bundle.as_ref().is_some_and(|bundle| bundle::is_translocated(&bundle.path)),
            // The signature is looked at by the code that can (macos crate).
            "teamId": null,
        },
        "mode": about.mode(),
        "attachOnly": about.attach_only.map(AttachOnly::word),
        "paused": pause::is_on(&state.paused()),
        "pendingPrompts": queue.waiting(),
        "pendingPairing": about.pairing.pending().len(),
        "held": queue.away().map(|away| away.word()),
        "gateway": {
            "endpoint": about.endpoint().map(ToString::to_string),
            "hostedHere": matches!(about.gateway.get(), Some((Mode::Local, _))),
        },
        "node": about.node.look(),
        "operator": about.operator.look(),
        "permissions": permissions::all(&**permissions),
        "bridge": about.bridge.look(),
        "sockets": sockets(state),
        "fence": fencer.mechanism(),
        "grants": grants.list().len(),
        "tunnel": tunnel,
    })
}

/// Where each of them is, and who may open it; no mode where there is none.
fn sockets(state: &StateDir) -> Value {
    let socket = |path: &Path| {
        let mode = path.symlink_metadata().ok().map(|found| format!("{:04o}", found.permissions().mode() & 0o7777));
        json!({"path": path, "mode": mode})
    };
    let bridge = std::env::home_dir().map_or_else(|| state.bridge_socket(), |home| bridge::own_socket(state, &home));
    json!({
        "exec": socket(&state.exec_socket()),
        "control": socket(&state.control_socket()),
        "gateway": socket(&state.gateway_socket()),
        "bridge": socket(&bridge),
    })
}

/// The same in the official form. Source: docs platforms/mac/xpc "App control socket" (2026.9).
pub fn official(controls: &Controls) -> Value {
    let Controls { about, .. } = controls;
    let mode = about.gateway.get().map_or(Mode::Unconfigured, |(mode, _)| *mode);
    let tunnel = about.endpoint().and_then(Endpoint::tunnel);
    let url = match about.endpoint() {
        Some(endpoint @ Endpoint::Tcp { .. }) => endpoint.to_string(),
        Some(Endpoint::Ssh(tunnel)) => format!("ws://127.0.0.1:{}", tunnel.gateway_port()),
        Some(Endpoint::Socket(_)) => format!("ws://127.0.0.1:{}", about.port),
        None => String::new(),
    };
    let node = about.node.look();
    let mut connection = json!({"state": if node.connected { "connected" } else { "disconnected" }});
    let mut primary = json!({
        "mode": match mode { Mode::Attached => Mode::Local, mode => mode }.word(),
        "transport": match (mode, tunnel) {
            (Mode::Remote, Some(_)) => Some("ssh"),
            (Mode::Remote, None) => Some("direct"),
            _ => None,
        },
        "url": url,
        "tunnel": {"running": tunnel.is_some_and(|tunnel| tunnel.status().connected)},
    });
    put(&mut connection, "gatewayVersion", node.gateway_version.filter(|_| node.connected));
    put(&mut connection, "error", node.why);
    put(&mut primary, "connection", Some(connection));
    put(&mut primary, "sshTarget", tunnel.map(|tunnel| tunnel.target().to_string()));
    put(&mut primary, "remotePort", tunnel.map(|tunnel| tunnel.gateway_port()));
    json!({
        "primary": primary,
        // This app keeps no list of others.
        "gateways": [],
        "app": {
            "version": VERSION,
            "build": about.bundle.as_ref().and_then(|bundle| bundle.commit.as_deref()).unwrap_or(VERSION),
            "profile": "default",
        },
        "localGateway": {"hosting": mode == Mode::Local, "port": about.port, "running": mode != Mode::Remote && node.connected},
    })
}

/// An absent optional is left out.
fn put(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), value.into());
    }
}
