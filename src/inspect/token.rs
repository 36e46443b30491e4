//! `mac-debug token rotate`: another shared token.

use super::{InspectError, Target};
use crate::client::ConnectError;
use crate::state::InstanceLock;
use crate::state::config;
use serde_json::{Value, json};

/// Replaces the token where that is ours to do, and has a running gateway take it: the first login
/// with a token that it does not know makes it look. Where the new token is, and whether a gateway
/// has taken it.
///
/// # Errors
/// See [`InspectError`]. Nothing was changed, unless the sentence says otherwise.
pub fn rotate(mut target: Target) -> Result<Value, InspectError> {
    let running = InstanceLock::holder(&target.state.gateway_lock()).is_some();
    // Before anything is written: a gateway that does not know the token of now would not take
    // the next one either.
    target.use_stored_secret()?;
    if running {
        target.connect(&[])?.close();
    }
    let Some(written) = config::rotate_token(&target.state)? else {
        return Err(InspectError::Usage(format!(
            "nothing was changed: the shared secret stands in {}, which is its owner's file and never rewritten. Put \
             another gateway.auth.token (or gateway.auth.password) there; the gateway takes it, and closes the sessions \
             of the old one, at the first login with it, for example by: openclaw mac-debug status",
            target.state.config().display()
        )));
    };
    target.use_stored_secret()?;
    if running {
        match target.connect(&[]) {
            Ok(connection) => connection.close(),
            Err(InspectError::Connect(ConnectError::Refused(_))) => {
                return Err(InspectError::Usage(format!(
                    "a new token is in {}, but the running gateway has not taken it: it has its own from \
                     OPENCLAW_GATEWAY_TOKEN. Start it again without, or with the new one",
                    written.display()
                )));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(json!({"written": written, "gatewayHasIt": running}))
}

/// What was done, and what to do elsewhere.
pub fn text(done: &Value) -> String {
    let path = crate::protocol::text::visible(done.get("written").and_then(Value::as_str).unwrap_or_default());
    let gateway = if done.get("gatewayHasIt") == Some(&Value::Bool(true)) {
        "the gateway has taken it and closed all sessions of the old one"
    } else {
        "no gateway runs here; the next one takes it"
    };
    format!(
        "a new token is in {path}\n{gateway}\n\
         change it elsewhere too: OPENCLAW_GATEWAY_TOKEN of other tools, gateway.remote.token on other machines.\n\
         Paired devices and nodes need nothing: they have tokens of their own\n"
    )
}
