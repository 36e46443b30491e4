//! What a node tells of itself after each login: that it has no skills and tools of its own. What the gateway kept of
//! an earlier node under this id is thereby gone. Of workers it says nothing: the one `node.runnerInventory.update` that
//! the official gateway takes names a worker protocol that we do not speak. Source: spec gateway §5.

use crate::client::{CallError, Link};
use crate::limits;
use crate::protocol::node::name;
use crate::sys::poll::{self, Interest};
use serde_json::{Value, json};
use std::thread;

/// Tells it on a thread of its own, which ends with the connection at the latest. Only a courtesy: without a
/// thread it is left out.
pub fn start(link: Link) {
    let _ =
        thread::Builder::new().name("announce".into()).stack_size(limits::PEER_STACK_BYTES).spawn(move || tell(&link));
}

fn tell(link: &Link) {
    let mut open: Vec<(&str, Value)> =
        vec![(name::SKILLS_UPDATE, json!({"skills": []})), (name::PLUGIN_TOOLS, json!({"tools": []}))];
    let mut pause = limits::UPDATE_RETRY_FIRST;
    loop {
        open.retain(|(method, params)| must_repeat(link, method, params));
        let over = || poll::wait_one(link.over_fd(), Interest::Readable, poll::deadline_in(pause)).unwrap_or(true);
        if open.is_empty() || over() {
            return;
        }
        pause = (pause * 2).min(limits::UPDATE_RETRY_MAX);
    }
}

/// A gateway that does not know the method, or never takes this, is not asked again.
fn must_repeat(link: &Link, method: &str, params: &Value) -> bool {
    match link.call(method, params, limits::REQUEST_DEADLINE) {
        Ok(_) => false,
        Err(CallError::Refused(error)) => error.code != "INVALID_REQUEST",
        Err(_) => true,
    }
}
