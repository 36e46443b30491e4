//! Invocations on their way: who asked, which connection does it, until when. Whoever finishes one
//! (the node's thread, the timer, a departure) answers the caller; no thread waits.
//! Source: spec gateway §5 "Invocation"; cases A54, A56.

use super::session::{Run, Session};
use super::{Core, event, now_ms, registry};
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::frame;
use crate::protocol::node::{InvokeCancel, InvokeProgress, InvokeRequest, NodeError, name};
use crate::protocol::strict;
use crate::sys::clock::{Expiry, Now};
use crate::transport::outbox::{Kind, Pushed};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pauses before a node that was not ready is asked again. Source: spec gateway §5.
const NOT_READY_PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];
/// How long events of a run are matched beyond its deadline. Source: spec exec g.4.
const RUN_MATCH_GRACE: Duration = Duration::from_secs(5 * 60);
/// Runs remembered for matching, a node.
const RUNS_REMEMBERED: usize = 1_024;

/// What an operator asked of a node, checked and ready to go.
pub struct Invocation {
    /// Who asked.
    pub caller: Arc<Session>,
    /// Of the caller's request frame.
    pub request_id: String,
    /// The connection that does it.
    pub node: Arc<Session>,
    /// The node.
    pub node_id: String,
    /// What to do.
    pub command: String,
    /// Text of the parameters.
    pub params_json: Option<String>,
    /// Names a run in events.
    pub run: Option<(String, Option<String>)>,
    /// When the caller gives up.
    pub deadline: Instant,
    /// As the caller chose it.
    pub idempotency_key: Option<String>,
    /// As the caller named it.
    pub session_key: Option<String>,
    /// Times that the node was not ready.
    pub attempts: usize,
    /// The node's payload is the whole answer.
    pub bare: bool,
}

type Due = (Instant, u64);

enum Task {
    TimeOut(String),
    Ask(Box<Invocation>),
}

struct Pending {
    invocation: Invocation,
    due: Due,
    /// Number of the next piece of progress.
    next_piece: u64,
}

/// All invocations, and what is due when.
#[derive(Default)]
pub struct Invocations {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    pending: HashMap<String, Pending>,
    per_node: HashMap<u64, usize>,
    due: BTreeMap<Due, Task>,
    next: u64,
    stopped: bool,
    /// When the timer looks next; none until it has looked first.
    watched: Option<Instant>,
}

impl Inner {
    fn schedule(&mut self, at: Instant, task: Task) -> Due {
        self.next += 1;
        let due = (at, self.next);
        self.due.insert(due, task);
        due
    }

    fn take(&mut self, id: &str) -> Option<Invocation> {
        let pending = self.pending.remove(id)?;
        self.due.remove(&pending.due);
        if let Some(count) = self.per_node.get_mut(&pending.invocation.node.number) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_node.remove(&pending.invocation.node.number);
            }
        }
        Some(pending.invocation)
    }

    fn take_all(&mut self, which: impl Fn(&Invocation) -> bool) -> Vec<(String, Invocation)> {
        let ids: Vec<String> =
            self.pending.iter().filter(|(_, pending)| which(&pending.invocation)).map(|(id, _)| id.clone()).collect();
        ids.into_iter().filter_map(|id| self.take(&id).map(|invocation| (id, invocation))).collect()
    }

    fn take_waiting(&mut self, which: impl Fn(&Invocation) -> bool) -> Vec<Invocation> {
        let dues: Vec<Due> = self
            .due
            .iter()
            .filter(|(_, task)| matches!(task, Task::Ask(invocation) if which(invocation)))
            .map(|(due, _)| *due)
            .collect();
        dues.into_iter()
            .filter_map(|due| match self.due.remove(&due) {
                Some(Task::Ask(invocation)) => Some(*invocation),
                _ => None,
            })
            .collect()
    }
}

impl Invocations {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an invocation to its node.
    pub fn dispatch(&self, invocation: Invocation) {
        let id = random::uuid();
        let left = invocation.deadline.saturating_duration_since(Instant::now());
        let request = InvokeRequest {
            id: id.clone(),
            node_id: invocation.node_id.clone(),
            command: invocation.command.clone(),
            params_json: invocation.params_json.clone(),
            timeout_ms: u64::try_from(left.as_millis()).ok(),
            idempotency_key: invocation.idempotency_key.clone(),
            session_key: invocation.session_key.clone(),
        };
        let text = frame::event(name::INVOKE_REQUEST, &request);
        remember_run(&invocation, left);
        let node = Arc::clone(&invocation.node);
        let mut inner = self.inner();
        // Looked up a moment ago, it may have gone since; whoever ended it would not see this one.
        if node.gone.load(Ordering::SeqCst) {
            drop(inner);
            return invocation.disconnected();
        }
        let waiting = inner.per_node.get(&node.number).copied().unwrap_or(0);
        if waiting >= limits::INVOKES_PER_NODE || inner.pending.len() >= limits::INVOKES_TOTAL {
            drop(inner);
            let error =
                WireError::unavailable("too many invocations wait for this node; try again shortly").retryable();
            invocation.answer_error(&error);
            return;
        }
        let due = inner.schedule(invocation.deadline, Task::TimeOut(id.clone()));
        *inner.per_node.entry(node.number).or_default() += 1;
        inner.pending.insert(id.clone(), Pending { invocation, due, next_piece: 0 });
        // Woken for nothing, the timer costs as much as the invocation.
        let is_next = inner.watched.is_none_or(|watched| due.0 < watched);
        drop(inner);
        if is_next {
            self.changed.notify_all();
        }
        // Registered before it is sent: the answer may come at once. A node that is just leaving
        // takes nothing more, and then nobody else answers for it.
        if node.outbox.text(text, Kind::Must) == Pushed::Closed
            && let Some(invocation) = self.inner().take(&id)
        {
            invocation.disconnected();
        }
    }

    /// A node answers. False if nothing of its waits under that id: late, or somebody else's (A54).
    pub fn finish(&self, node: &Session, id: &str, outcome: &Outcome<'_>) -> bool {
        let mut inner = self.inner();
        let is_its = inner.pending.get(id).is_some_and(|pending| pending.invocation.node.number == node.number);
        if !is_its {
            return false;
        }
        let Some(mut invocation) = inner.take(id) else { return false };
        if let Outcome::Failed(Some(error)) = outcome
            && error.code.as_deref() == Some("NODE_NOT_READY")
            && let Some(pause) = NOT_READY_PAUSES.get(invocation.attempts)
            && Instant::now() + *pause < invocation.deadline
        {
            invocation.attempts += 1;
            inner.schedule(Instant::now() + *pause, Task::Ask(Box::new(invocation)));
            drop(inner);
            self.changed.notify_all();
            return true;
        }
        drop(inner);
        invocation.answer(outcome);
        true
    }

    /// A node tells how far it is. None if nothing of its waits under that id, false if this is not
    /// the next piece. A caller that cannot keep up misses some.
    pub fn progress(&self, node: &Session, id: &str, piece: u64, chunk: &str) -> Option<bool> {
        let mut inner = self.inner();
        let pending = inner.pending.get_mut(id).filter(|pending| pending.invocation.node.number == node.number)?;
        let is_next = pending.next_piece == piece;
        pending.next_piece += u64::from(is_next);
        let invocation = &pending.invocation;
        if is_next && invocation.caller.hears_progress {
            let progress = InvokeProgress {
                invoke_id: invocation.request_id.clone(),
                node_id: invocation.node_id.clone(),
                seq: piece,
                chunk: chunk.to_owned(),
            };
            // Under the lock, so that none comes after the answer.
            invocation.caller.outbox.text(frame::event(name::INVOKE_PROGRESS, &progress), Kind::Droppable);
        }
        Some(is_next)
    }

    /// A session has gone: what it asked for is cancelled, what it was doing has failed.
    pub fn session_gone(&self, _core: &Core, session: &Session) {
        let mut inner = self.inner();
        session.gone.store(true, Ordering::SeqCst);
        let asked = inner.take_all(|invocation| invocation.caller.number == session.number);
        let doing = inner.take_all(|invocation| invocation.node.number == session.number);
        inner.take_waiting(|invocation| invocation.caller.number == session.number);
        let not_ready = inner.take_waiting(|invocation| invocation.node.number == session.number);
        drop(inner);
        for (id, invocation) in asked {
            invocation.cancel(&id);
        }
        for invocation in doing.into_iter().map(|(_, invocation)| invocation).chain(not_ready) {
            invocation.disconnected();
        }
    }

    /// The pairing of a node has changed: what it is doing is cancelled and refused.
    pub fn pairing_changed(&self, node_id: &str) {
        let mut inner = self.inner();
        let doing = inner.take_all(|invocation| invocation.node_id == node_id);
        inner.take_waiting(|invocation| invocation.node_id == node_id);
        drop(inner);
        for (id, invocation) in doing {
            invocation.cancel(&id);
            invocation.answer_error(&pairing_changed_error());
        }
    }

    /// The gateway stops: nodes are told to stop, callers that it was not done.
    pub fn abandon_all(&self, _core: &Core) {
        let mut inner = self.inner();
        let all = inner.take_all(|_| true);
        let waiting = inner.take_waiting(|_| true);
        drop(inner);
        for (id, invocation) in all {
            invocation.cancel(&id);
            invocation.answer_error(&WireError::unavailable("gateway stopping").retryable());
        }
        for invocation in waiting {
            invocation.answer_error(&WireError::unavailable("gateway stopping").retryable());
        }
    }

    /// Something is due earlier than the timer knows.
    pub fn wake_timer(&self) {
        // Under the lock: the timer is either before its own look or in its wait.
        let _inner = self.inner();
        self.changed.notify_all();
    }

    /// Ends the timer.
    pub fn stop(&self) {
        self.inner().stopped = true;
        self.changed.notify_all();
    }
}

/// `node.invoke` for a node that is not (or not any more) approved. Source: spec gateway §4.
pub fn pairing_changed_error() -> WireError {
    WireError::unavailable("node pairing changed while invocation was active")
        .with(json!({"code": "PAIRING_CHANGED"}))
        .retryable()
}

/// What a node answered.
pub enum Outcome<'a> {
    /// Done, with `payload` as JSON.
    Value(&'a RawValue),
    /// Done, with `payloadJSON` as text.
    Text(&'a str),
    /// Done, with nothing to say.
    Nothing,
    /// Not done.
    Failed(Option<NodeError>),
}

impl Invocation {
    fn answer(&self, outcome: &Outcome<'_>) {
        match outcome {
            Outcome::Failed(error) => self.answer_error(&node_error(error.as_ref(), true)),
            Outcome::Value(value) => self.answer_ok(Some(value), None),
            Outcome::Nothing => self.answer_ok(None, None),
            Outcome::Text(text) => {
                let is_json = strict::check_relayed(text, limits::RELAYED_JSON_DEPTH).is_ok();
                if let (true, Ok(value)) = (is_json, serde_json::from_str::<&RawValue>(text)) {
                    return self.answer_ok(Some(value), Some(text));
                }
                let wrapped = json!({"payloadJSON": text}).to_string();
                if let Ok(value) = serde_json::from_str::<&RawValue>(&wrapped) {
                    self.answer_ok(Some(value), Some(text));
                }
            }
        }
    }

    fn answer_ok(&self, payload: Option<&RawValue>, payload_json: Option<&str>) {
        if self.bare {
            return self.caller.send(frame::response_ok(&self.request_id, &payload.unwrap_or(RawValue::NULL)));
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            ok: bool,
            node_id: &'a str,
            command: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            payload: Option<&'a RawValue>,
            #[serde(rename = "payloadJSON")]
            payload_json: Option<&'a str>,
        }
        let answer = Answer { ok: true, node_id: &self.node_id, command: &self.command, payload, payload_json };
        self.caller.send(frame::response_ok(&self.request_id, &answer));
    }

    fn answer_error(&self, error: &WireError) {
        self.caller.send(frame::response_error(&self.request_id, error));
    }

    fn disconnected(&self) {
        let message = format!("node disconnected ({})", self.command);
        self.answer_error(&node_error(Some(&NodeError::new("DISCONNECTED", message)), true));
    }

    /// Tells the node to stop; it sends no result then.
    fn cancel(&self, id: &str) {
        let cancel = InvokeCancel { invoke_id: id.to_owned(), node_id: self.node_id.clone() };
        self.node.send(frame::event(name::INVOKE_CANCEL, &cancel));
    }
}

/// A node's error as the operator sees it. Source: spec gateway §5 "node error".
pub fn node_error(error: Option<&NodeError>, dispatched: bool) -> WireError {
    let message = match error {
        Some(NodeError { code: Some(code), message: Some(message) }) => format!("{code}: {message}"),
        Some(NodeError { message: Some(message), .. }) => message.clone(),
        Some(NodeError { code: Some(code), .. }) => code.clone(),
        _ => "node invoke failed".to_owned(),
    };
    let nested = error.map_or(serde_json::Value::Null, |error| json!(error));
    WireError::unavailable(message).with(json!({"nodeError": nested, "nodeCommandDispatched": dispatched}))
}

/// Notes a run so that its events can be told from invented ones.
fn remember_run(invocation: &Invocation, left: Duration) {
    let (Some((run_id, session_key)), Some(node)) = (&invocation.run, &invocation.node.node) else { return };
    let now = Now::read();
    let mut live = node.live();
    if live.runs.len() >= RUNS_REMEMBERED {
        live.runs.retain(|_, run| !run.until.passed(now));
    }
    if live.runs.len() < RUNS_REMEMBERED {
        let until = Expiry::after(now, left + RUN_MATCH_GRACE);
        live.runs.insert(run_id.clone(), Run { session_key: session_key.clone(), until });
    }
}

/// The one timer thread: deadlines, repeated questions, approvals, presence, ticks. It never blocks, since no push does.
pub fn timer(core: &Arc<Core>) {
    let mut next_tick = Instant::now() + limits::TICK_INTERVAL;
    let mut next_presence = Instant::now();
    loop {
        let mut inner = core.invocations.inner();
        if inner.stopped {
            return;
        }
        let now = Instant::now();
        let mut ready = Vec::new();
        while let Some(entry) = inner.due.first_entry().filter(|entry| entry.key().0 <= now) {
            ready.push(entry.remove());
        }
        let mut timed_out = Vec::new();
        let mut ask = Vec::new();
        for task in ready {
            match task {
                Task::TimeOut(id) => timed_out.extend(inner.take(&id).map(|invocation| (id, invocation))),
                Task::Ask(invocation) => ask.push(*invocation),
            }
        }
        // Read under the lock, as the approvals below: what changes now wakes the wait.
        let presence = core.presence_waits.load(Ordering::SeqCst).then_some(next_presence);
        let presence_is_due = presence.is_some_and(|at| at <= now);
        if timed_out.is_empty() && ask.is_empty() && now < next_tick && !presence_is_due {
            // Under the lock, so that a record that begins now is seen here or wakes the wait.
            let approvals = core.approvals.look(core);
            let due = inner.due.first_key_value().map(|(due, _)| due.0);
            let until = [approvals, due, presence].into_iter().flatten().fold(next_tick, Instant::min);
            inner.watched = Some(until);
            let left = until.saturating_duration_since(now);
            drop(core.invocations.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner));
            continue;
        }
        drop(inner);
        for (id, invocation) in timed_out {
            invocation.cancel(&id);
            let error = NodeError::new("TIMEOUT", "node invoke timed out");
            invocation.answer_error(&node_error(Some(&error), true));
        }
        for invocation in ask {
            core.invocations.dispatch(invocation);
        }
        if presence_is_due {
            registry::tell_presence(core);
            next_presence = Instant::now() + limits::PRESENCE_INTERVAL;
        }
        if now >= next_tick {
            next_tick = now + limits::TICK_INTERVAL;
            core.registry.broadcast(event::TICK, &json!({"ts": now_ms()}), None, None);
            registry::tell_health(core);
        }
    }
}
