//! How this node introduces itself. Source: spec gateway §3, §5, exec f.3.

use crate::client::{Role, Surface};
use crate::protocol::connect::ClientInfo;
use crate::protocol::node::name;
use crate::sys::{host_stats, platform};
use serde_json::{Value, json};

/// As whom a node connects.
pub const ROLE: Role = Role::Node;

/// Exactly what a node declares, so that the app can hand it to its own gateway before connecting.
pub fn surface() -> Surface {
    Surface {
        caps: vec!["system".to_owned()],
        commands: [name::RUN, name::RUN_PREPARE, name::WHICH, name::EXEC_APPROVALS_GET, name::EXEC_APPROVALS_SET]
            .map(str::to_owned)
            .to_vec(),
        permissions: None,
    }
}

/// `node.event` with this machine's load; none where the system does not tell.
pub fn stats_event() -> Option<Value> {
    let stats = host_stats::read()?;
    let mut payload = json!({
        "cpuCount": stats.cpu_count,
        "memoryTotalBytes": stats.memory_total,
        "memoryFreeBytes": stats.memory_free,
    });
    if let Some(load) = stats.load_average {
        payload["loadAverage"] = json!(load);
    }
    if let Some((total, available)) = stats.disk {
        payload["diskTotalBytes"] = json!(total);
        payload["diskAvailableBytes"] = json!(available);
    }
    Some(json!({"event": name::HOST_STATS, "payloadJSON": payload.to_string()}))
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
