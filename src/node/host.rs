//! How this node introduces itself. Source: spec gateway §3, §5, exec f.3.

use crate::client::{Role, Surface};
use crate::protocol::connect::ClientInfo;
use crate::protocol::node::name;
use crate::sys::{host_stats, platform};
use serde::Serialize;
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    cpu_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_average: Option<[f64; 3]>,
    memory_total_bytes: u64,
    memory_free_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_available_bytes: Option<u64>,
}

/// `node.event` with this machine's load; none where the system does not tell.
pub fn stats_event() -> Option<Value> {
    let found = host_stats::read()?;
    let stats = Stats {
        cpu_count: found.cpu_count,
        load_average: found.load_average,
        memory_total_bytes: found.memory_total,
        memory_free_bytes: found.memory_free,
        disk_total_bytes: found.disk.map(|(total, _)| total),
        disk_available_bytes: found.disk.map(|(_, available)| available),
    };
    Some(json!({"event": name::HOST_STATS, "payloadJSON": serde_json::to_string(&stats).ok()?}))
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
