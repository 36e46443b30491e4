//! What a client brings to a connection.

use crate::identity::device::DeviceKey;
use crate::identity::secret::Secret;
use crate::protocol::connect::{ClientInfo, Role};
use crate::protocol::node::Surface;
use crate::state::pins::GatewayPins;
use std::sync::Arc;

/// What we may show a gateway. A shared token goes before a device token. Source: spec gateway §3.
#[derive(Default)]
pub struct Credentials {
    /// The shared token.
    pub token: Option<Secret>,
    /// The shared password.
    pub password: Option<Secret>,
    /// What this device got in an earlier `hello-ok`.
    pub device_token: Option<Secret>,
    /// What a setup link says: shown once there is nothing else to show.
    pub bootstrap_token: Option<Secret>,
}

impl Credentials {
    /// Another copy, for another attempt.
    pub fn copy(&self) -> Self {
        let copy = |secret: &Option<Secret>| secret.as_ref().map(Secret::copy);
        Self {
            token: copy(&self.token),
            password: copy(&self.password),
            device_token: copy(&self.device_token),
            bootstrap_token: copy(&self.bootstrap_token),
        }
    }
}

/// Reads what we may show anew for each login, so that an exchanged secret counts at once.
pub type CredentialSource = Box<dyn Fn() -> Credentials + Send + Sync>;

/// Everything of one connection but the place.
pub struct ConnectOptions {
    /// Who we say we are.
    pub client: ClientInfo,
    /// As whom.
    pub role: Role,
    /// What an operator asks for: the least that the work needs. Empty for nodes.
    pub scopes: Vec<String>,
    /// What we can do.
    pub surface: Surface,
    /// PATH of a node's commands.
    pub path_env: Option<String>,
    /// What we may show.
    pub credentials: Credentials,
    /// Our device key; none connects without a device, as the official CLI does.
    pub device: Option<Arc<DeviceKey>>,
    /// Pinned gateway keys; none neither checks nor pins.
    pub pins: Option<Arc<GatewayPins>>,
}
