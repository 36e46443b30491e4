//! `node.json`: which node this machine is. Source: spec exec (f.1).

use super::store::Store;
use super::{StateDir, StateError};
use crate::identity::random;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const VERSION: u64 = 1;

/// What the file says; members that we do not know are kept.
#[derive(Clone, Default, Deserialize, Serialize)]
struct Document {
    #[serde(flatten)]
    members: Map<String, Value>,
}

/// The node's persisted id and name.
pub struct NodeConfig {
    /// A UUID that stays.
    pub node_id: String,
    /// As the owner last named it.
    pub display_name: Option<String>,
}

/// Reads the file, creating what is missing; a name that is given now is kept for the next start.
///
/// # Errors
/// The file is unsafe or broken, or cannot be written.
pub fn load_or_create(state: &StateDir, display_name: Option<&str>) -> Result<NodeConfig, StateError> {
    Store::<Document>::new(state.node_config()).update(|document| {
        let members = &mut document.members;
        let text = |members: &Map<String, Value>, name: &str| {
            members.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let current = members.get("version").and_then(Value::as_u64) == Some(VERSION);
        let node_id = text(members, "nodeId").filter(|_| current).unwrap_or_else(random::uuid);
        members.insert("version".to_owned(), VERSION.into());
        members.insert("nodeId".to_owned(), node_id.as_str().into());
        if let Some(name) = display_name {
            members.insert("displayName".to_owned(), name.into());
        }
        NodeConfig { node_id, display_name: text(members, "displayName") }
    })
}
