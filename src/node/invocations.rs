//! The invocations of one connection: what may take long on a thread of its own, all bounded, ended by
//! deadline or cancel. An invocation that is over says nothing any more. Source: spec gateway §5.

use super::commands::{Commands, Outcome};
use super::skills::Skills;
use crate::client::{CallError, Link};
use crate::exec::prepare::PreparedPlans;
use crate::exec::progress::Listener;
use crate::limits;
use crate::protocol::node::{InvokeCancel, InvokeProgress, InvokeRequest, InvokeResult, NodeError, name};
use crate::sys::wake::Wake;
use crate::sys::worker;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One that is under way.
struct Running {
    cancel: Arc<Wake>,
    deadline: Option<Instant>,
    is_run: bool,
}

#[derive(Default)]
struct State {
    /// By invocation id. Whoever takes an entry out decides what is said: its thread the outcome,
    /// everybody else nothing.
    running: HashMap<String, Running>,
    /// Threads that have not ended, those of cancelled invocations too.
    threads: usize,
    over: bool,
    /// When the watcher looks at the deadlines next; none until it is told.
    watched: Option<Instant>,
}

/// See the module.
pub struct Invocations {
    node_id: String,
    commands: Arc<Commands>,
    recent: Arc<RecentRuns>,
    prepared: PreparedPlans,
    skills: Skills,
    state: Mutex<State>,
    changed: Condvar,
}

impl Invocations {
    /// An empty table and the thread that watches deadlines; both last until [`Invocations::end`].
    ///
    /// # Errors
    /// No thread.
    pub fn start(node_id: String, commands: Arc<Commands>, recent: Arc<RecentRuns>) -> io::Result<Arc<Self>> {
        let invocations = Arc::new(Self {
            node_id,
            commands,
            recent,
            prepared: PreparedPlans::default(),
            skills: Skills::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&invocations);
        thread::Builder::new()
            .name("node-deadlines".into())
            .stack_size(limits::PEER_STACK_BYTES)
            .spawn(move || watched.watch_deadlines())?;
        Ok(invocations)
    }

    /// Cancels everything and waits, bounded, until what runs has been stopped.
    pub fn end(&self) {
        let mut state = self.state();
        state.over = true;
        for (_, running) in state.running.drain() {
            running.cancel.fire();
        }
        self.changed.notify_all();
        let deadline = Instant::now() + limits::KILL_GRACE + limits::DRAIN_LIMIT;
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nothing is under way, so that the connection may be exchanged.
    pub fn is_idle(&self) -> bool {
        self.state().threads == 0
    }

    /// An event of the gateway. Never waits.
    pub fn on_event(self: &Arc<Self>, link: &Link, event: &str, payload: Option<&RawValue>) {
        let text = payload.map_or("null", RawValue::get);
        match event {
            name::INVOKE_REQUEST => match self.read_request(text) {
                Some(request) => self.accept(link, request),
                None => crate::log!("node", "ignored a malformed {event} ({} bytes)", text.len()),
            },
            name::INVOKE_CANCEL => match serde_json::from_str::<InvokeCancel>(text) {
                Ok(cancel) if cancel.node_id == self.node_id => self.cancel(&cancel.invoke_id),
                _ => crate::log!("node", "ignored a malformed {event} ({} bytes)", text.len()),
            },
            // Ticks, greetings, broadcasts: not for a node host.
            _ => {}
        }
    }

    fn read_request(&self, text: &str) -> Option<InvokeRequest> {
        let request: InvokeRequest = serde_json::from_str(text).ok()?;
        let filled = |text: &str| !text.trim().is_empty();
        (filled(&request.id) && filled(&request.command) && request.node_id == self.node_id).then_some(request)
    }

    fn accept(self: &Arc<Self>, link: &Link, request: InvokeRequest) {
        let cancel = match self.enter(&request) {
            Ok(Some(cancel)) => cancel,
            Ok(None) => return,
            Err(error) => return self.post_result(link, &request.id, Err(error)),
        };
        if is_quick(&request) {
            return self.perform(link, &request, &cancel);
        }
        let invocations = Arc::clone(self);
        let of_thread = link.clone();
        let id = request.id.clone();
        let started = worker::start(move || invocations.perform(&of_thread, &request, &cancel));
        if started.is_err() {
            self.leave();
            self.report(link, &id, Outcome::refused(busy()));
        }
    }

    /// Takes a place in the table; none for an id that is already at work.
    fn enter(&self, request: &InvokeRequest) -> Result<Option<Arc<Wake>>, NodeError> {
        let is_run = request.command == name::RUN;
        let mut state = self.state();
        if state.over || state.running.contains_key(&request.id) {
            return Ok(None);
        }
        let runs = state.running.values().filter(|running| running.is_run).count();
        if state.threads >= limits::NODE_INVOCATIONS || (is_run && runs >= limits::RUNS_AT_ONCE) {
            return Err(busy());
        }
        let cancel = Arc::new(Wake::new().map_err(|_| busy())?);
        if is_run && !self.recent.note(request.idempotency_key.as_deref()) {
            return Err(NodeError::new(
                "INVALID_REQUEST",
                "this idempotencyKey was used for an earlier system.run; the command was not run again",
            ));
        }
        // 0 means no deadline.
        let timeout = request.timeout_ms.filter(|millis| *millis > 0).map(Duration::from_millis);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        state.running.insert(request.id.clone(), Running { cancel: Arc::clone(&cancel), deadline, is_run });
        state.threads += 1;
        // Woken for nothing, the watcher costs as much as a small invocation.
        if deadline.is_some_and(|deadline| state.watched.is_none_or(|watched| deadline < watched)) {
            self.changed.notify_all();
        }
        Ok(Some(cancel))
    }

    fn perform(&self, link: &Link, request: &InvokeRequest, cancel: &Wake) {
        let teller = Teller::new(self, link, &request.id);
        let listener: Listener<'_> = &|chunk| teller.tell(chunk);
        // Only our own gateway is known to take progress.
        let listener = link.hello().gateway_key.is_some().then_some(listener);
        let work = || {
            if matches!(request.command.as_str(), name::RUN | name::RUN_PREPARE) {
                self.skills.refresh(link, &self.commands);
            }
            self.commands.perform(request, &self.prepared, cancel, listener)
        };
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            crate::log!("node", "{} failed inside the node", request.command);
            Some(Outcome::refused(NodeError::new("UNAVAILABLE", "node invocation failed")))
        });
        // None: cancelled, and whoever cancelled has taken it out of the table.
        if let Some(outcome) = outcome {
            self.report(link, &request.id, outcome);
        }
        self.leave();
    }

    fn leave(&self) {
        let mut state = self.state();
        state.threads = state.threads.saturating_sub(1);
        if state.over {
            self.changed.notify_all();
        }
    }

    /// Says the outcome, the event first, unless the invocation is over. What is said under the lock never waits: a
    /// cancel comes before all of it or after all of it.
    fn report(&self, link: &Link, id: &str, outcome: Outcome) {
        let event = outcome.event.map(|(event, payload)| {
            json!({"event": event, "payloadJSON": serde_json::to_string(&payload).unwrap_or_default()})
        });
        // The official gateway works on several requests of a node at once, and knows an event's run only until it
        // has the result. Ours takes them in order.
        let in_order = link.hello().gateway_key.is_some();
        if let Some(event) = event.as_ref().filter(|_| !in_order && self.is_running(id)) {
            let _ = link.call(name::NODE_EVENT, event, limits::EVENT_ACKNOWLEDGED);
        }
        let mut state = self.state();
        if state.running.remove(id).is_none() {
            return;
        }
        if let Some(event) = event.filter(|_| in_order) {
            let _ = link.post(name::NODE_EVENT, &event);
        }
        self.post_result(link, id, outcome.result);
    }

    fn post_result(&self, link: &Link, id: &str, result: Result<String, NodeError>) {
        let answer = |result: Result<String, NodeError>| {
            let ok = result.is_ok();
            let (payload_json, error) = match result {
                Ok(payload) => (Some(payload), None),
                Err(error) => (None, Some(error)),
            };
            let result = InvokeResult { id: id.to_owned(), node_id: self.node_id.clone(), ok, payload_json, error };
            link.post(name::INVOKE_RESULT, &result)
        };
        // Any other failure means that the connection is over, and with it the invocation.
        if let Err(CallError::TooLarge(bytes)) = answer(result) {
            let text = format!("the result has {bytes} bytes, more than a gateway reads");
            let _ = answer(Err(NodeError::new("UNAVAILABLE", text)));
        }
    }

    fn is_running(&self, id: &str) -> bool {
        self.state().running.contains_key(id)
    }

    fn cancel(&self, id: &str) {
        if let Some(running) = self.state().running.remove(id) {
            running.cancel.fire();
        }
    }

    /// The gateway has given up at the deadline and says so; this holds when that gets lost.
    fn watch_deadlines(&self) {
        let mut state = self.state();
        while !state.over {
            let now = Instant::now();
            state.running.retain(|_, running| {
                let passed = running.deadline.is_some_and(|deadline| deadline <= now);
                if passed {
                    running.cancel.fire();
                }
                !passed
            });
            let next = state.running.values().filter_map(|running| running.deadline).min();
            state.watched = next;
            state = match next {
                Some(next) => {
                    let left = next.saturating_duration_since(now);
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the gateway what one invocation has printed so far. The app that it comes from has not proven
/// itself yet, so each bound is kept here too.
struct Teller<'a> {
    invocations: &'a Invocations,
    link: &'a Link,
    id: &'a str,
    seq: Cell<u64>,
    bytes: Cell<usize>,
    last: Cell<Option<Instant>>,
}

impl<'a> Teller<'a> {
    fn new(invocations: &'a Invocations, link: &'a Link, id: &'a str) -> Self {
        Self { invocations, link, id, seq: Cell::default(), bytes: Cell::default(), last: Cell::default() }
    }

    fn tell(&self, chunk: &str) {
        let bytes = self.bytes.get() + chunk.len();
        // Half of it: two that were sent apart may arrive closer together.
        let is_soon = self.last.get().is_some_and(|last| last.elapsed() < limits::PROGRESS_INTERVAL / 2);
        if is_soon || chunk.len() > limits::PROGRESS_CHUNK_BYTES || bytes > limits::PROGRESS_BYTES {
            return;
        }
        // Under the lock, as the result is: an invocation that is over says nothing any more.
        let state = self.invocations.state();
        if state.running.contains_key(self.id) {
            let progress = InvokeProgress {
                invoke_id: self.id.to_owned(),
                node_id: self.invocations.node_id.clone(),
                seq: self.seq.replace(self.seq.get() + 1),
                chunk: chunk.to_owned(),
            };
            let _ = self.link.post(name::INVOKE_PROGRESS, &progress);
            self.bytes.set(bytes);
            self.last.set(Some(Instant::now()));
        }
    }
}

/// Whether doing it takes less than handing it to another thread: a look for a few names in local
/// directories.
fn is_quick(request: &InvokeRequest) -> bool {
    request.command == name::WHICH
        && request.params_json.as_ref().is_none_or(|params| params.len() <= limits::QUICK_WHICH_BYTES)
}

fn busy() -> NodeError {
    NodeError::new("UNAVAILABLE", "this node is busy with other invocations; try again later")
}

/// Remembers the idempotency keys of recent runs, across connections: the gateway forwards a
/// repeated request as it is, and a command must not run twice for it. Source: spec exec f.4.
#[derive(Default)]
pub struct RecentRuns(Mutex<VecDeque<[u8; 32]>>);

impl RecentRuns {
    /// Notes a key; false when it was used before. A request without a key is always new. Beyond
    /// [`limits::NODE_RECENT_RUNS`] the oldest is forgotten.
    pub fn note(&self, key: Option<&str>) -> bool {
        let Some(key) = key else { return true };
        // A key may be of any length; its hash is not.
        let key: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.contains(&key) {
            return false;
        }
        if recent.len() >= limits::NODE_RECENT_RUNS {
            recent.pop_front();
        }
        recent.push_back(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_runs_once_and_memory_is_bounded() {
        let recent = RecentRuns::default();
        assert!(recent.note(None) && recent.note(None));
        assert!(recent.note(Some("a")) && !recent.note(Some("a")));
        for number in 0..limits::NODE_RECENT_RUNS {
            assert!(recent.note(Some(&number.to_string())));
        }
        assert!(recent.note(Some("a")), "the oldest was not forgotten");
        assert!(!recent.note(Some("5")));
    }
}
