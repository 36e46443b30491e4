//! Work that waits until a node fetches it (phones that sleep do): one request of each kind a node, in memory only.
//! Source: schemas `NodePending*` of @openclaw/gateway-protocol 2026.9, and how 2026.9.6 answers.

use super::invocations::pairing_changed_error;
use super::methods::{Call, Reply};
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::schema::{Kind, Member, may, need};
use crate::sys::clock::{Expiry, Now};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What every node is asked for when nobody has asked it for more.
const STATUS: &str = "status.request";
const ENQUEUE: &[Member] = &[
    need("nodeId", Kind::Text(1)),
    need("type", Kind::OneOf(&[STATUS, "location.request"])),
    may("priority", Kind::OneOf(&["normal", "high"])),
    may("expiresInMs", Kind::Int(1_000)),
    may("wake", Kind::Bool),
];

/// Everything that waits, and how often that has changed.
#[derive(Default)]
pub struct PendingWork(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    revision: u64,
    items: Vec<Item>,
}

/// `id`, `type`, `priority`, `createdAtMs` and `expiresAtMs` stand in `row`.
struct Item {
    node_id: String,
    row: Value,
    expires: Expiry,
}

impl PendingWork {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Now::read();
        queue.keep(|item| !item.expires.passed(now));
        queue
    }

    /// A node that was removed and comes back is another one.
    pub fn forget(&self, node_id: &str) {
        self.queue().keep(|item| item.node_id != node_id);
    }
}

impl Queue {
    fn keep(&mut self, wanted: impl Fn(&Item) -> bool) {
        let before = self.items.len();
        self.items.retain(wanted);
        self.revision += u64::from(self.items.len() != before);
    }
}

/// `node.pending.enqueue {nodeId, type, priority?, expiresInMs?, wake?}`; we have no way to wake a node.
pub fn enqueue(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(ENQUEUE)?;
    let text = |name| params.get(name).and_then(Value::as_str).unwrap_or_default();
    let node_id = text("nodeId").trim();
    if call.core.pairing().surface(node_id).is_none() {
        return Err(pairing_changed_error());
    }
    let mut queue = call.core.pending_work.queue();
    let is_same = |item: &&Item| item.node_id == node_id && item.row.get("type") == params.get("type");
    let row = match queue.items.iter().find(is_same) {
        Some(item) => item.row.clone(),
        None => {
            let now = Now::read();
            let patience = params.get("expiresInMs").and_then(Value::as_u64).map(Duration::from_millis);
            let patience = patience.map_or(limits::PENDING_WORK, |patience| patience.min(limits::PENDING_WORK));
            let expires = Expiry::after(now, patience);
            let priority = if text("priority") == "high" { "high" } else { "normal" };
            let row = json!({"id": random::uuid(), "type": text("type"), "priority": priority,
                "createdAtMs": now.wall_ms, "expiresAtMs": expires.wall_ms()});
            queue.items.push(Item { node_id: node_id.to_owned(), row: row.clone(), expires });
            queue.revision += 1;
            row
        }
    };
    Ok(Reply::Now(json!({"nodeId": node_id, "revision": queue.revision, "queued": row, "wakeTriggered": false})))
}

/// `node.pending.drain {maxItems?}`: what waits for this node, the urgent first; it waits no more.
pub fn drain(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[may("maxItems", Kind::Int(1))])?;
    let node_id = call.session.device_id.as_deref().unwrap_or_default();
    let most = params.get("maxItems").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(limits::PENDING_WORK_DRAINED, |most| most.min(limits::PENDING_WORK_DRAINED));
    let mut queue = call.core.pending_work.queue();
    let own = queue.items.iter().filter(|item| item.node_id == node_id);
    let mut items: Vec<Value> = own.map(|item| item.row.clone()).collect();
    items.sort_by_key(|row| row.get("priority").and_then(Value::as_str) != Some("high"));
    if !items.iter().any(|row| row.get("type").and_then(Value::as_str) == Some(STATUS)) {
        items.push(json!({"id": "baseline-status", "type": STATUS, "priority": "default",
            "createdAtMs": Now::read().wall_ms, "expiresAtMs": null}));
    }
    let has_more = items.len() > most;
    items.truncate(most);
    let is_taken = |item: &Item| items.iter().any(|row| row.get("id") == item.row.get("id"));
    queue.keep(|item| !is_taken(item));
    Ok(Reply::Now(json!({"nodeId": node_id, "revision": queue.revision, "items": items, "hasMore": has_more})))
}

/// `node.pending.pull {}`: invocations that wait until an app is in the foreground. We keep none: whoever invokes
/// hears at once that the node cannot.
pub fn pull(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(&[])?;
    Ok(Reply::Now(json!({"nodeId": call.session.device_id, "actions": []})))
}

/// `node.pending.ack {ids}`
pub fn ack(call: &Call<'_>) -> Result<Reply, WireError> {
    let params = call.params(&[need("ids", Kind::Texts)])?;
    Ok(Reply::Now(json!({"nodeId": call.session.device_id, "ackedIds": params.get("ids"), "remainingCount": 0})))
}
