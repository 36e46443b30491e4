//! `mac-debug exec-host link`: what points the official node host at this app's exec socket.

use super::InspectError;
use crate::state::StateDir;
use crate::state::approvals::ApprovalsDocument;
use serde_json::{Value, json};

/// The document for `openclaw approvals set --node` of the official CLI. It holds the socket's token:
/// whoever has that and runs as this user may ask the app. Source: spec gateway §8.
///
/// # Errors
/// The app has not made a token yet, or the approvals document is broken.
pub fn link(state: &StateDir) -> Result<Value, InspectError> {
    let document = ApprovalsDocument::for_inspection(state);
    let token = document.socket_token()?;
    Ok(json!({"version": 1, "socket": {"path": document.socket_path(), "token": token.expose_text()}}))
}

/// The same for a person.
pub fn text(link: &Value) -> String {
    format!(
        "With this approvals document the official node host on this machine, started with OPENCLAW_NODE_EXEC_HOST=app,\n\
         hands each command to the app; the app's policy and person then decide. It replaces the node's own document:\n  \
         (umask 077; openclaw mac-debug exec-host link --json > link.json)\n  \
         openclaw approvals set --node NODE --file link.json    (the official CLI), then remove link.json\n\
         The token in it is a secret.\n\n{link:#}\n"
    )
}
