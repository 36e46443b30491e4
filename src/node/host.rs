//! How this node introduces itself. Source: spec gateway §3, §5, exec f.3.

use crate::client::{Role, Surface};
use crate::protocol::connect::ClientInfo;
use crate::protocol::node::name;
use crate::sys::platform;

/// As whom a node connects.
pub const ROLE: Role = Role::Node;

/// Exactly what a node declares, so that the app can hand it to its own gateway before connecting.
pub fn surface() -> Surface {
    Surface {
        caps: vec!["system".to_owned()],
        commands: [name::RUN, name::RUN_PREPARE, name::WHICH].map(str::to_owned).to_vec(),
        permissions: None,
    }
}

/// `client` of `connect`.
pub fn client_info(id: &str, display_name: String, instance_id: String) -> ClientInfo {
    ClientInfo {
        id: id.to_owned(),
        display_name: Some(display_name),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: platform::platform(),
        device_family: Some(platform::device_family().to_owned()),
        model_identifier: platform::model_identifier(),
        mode: "node".to_owned(),
        instance_id: Some(instance_id),
    }
}
