//! Calls that wait for their answer, matched by request id.

use super::error::CallError;
use crate::limits;
use crate::protocol::error::WireError;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The payload of an answer (none counts as null), or the refusal.
pub type Answer = Result<Box<RawValue>, WireError>;

enum Table {
    Open(HashMap<String, SyncSender<Answer>>),
    /// Nothing more will be answered, and why.
    Ended(String),
}

/// The table of one connection.
pub struct Pending(Mutex<Table>);

/// A call's place in the table; leaving it gives the place up, so that a late answer finds nobody.
pub struct Waiting<'a> {
    table: &'a Pending,
    id: String,
    answer: Receiver<Answer>,
}

impl Pending {
    /// An empty table.
    pub fn new() -> Self {
        Self(Mutex::new(Table::Open(HashMap::new())))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place before the request is sent.
    ///
    /// # Errors
    /// The connection has ended, or too many wait.
    pub fn enter(&self, id: &str) -> Result<Waiting<'_>, CallError> {
        match &mut *self.table() {
            Table::Ended(why) => Err(CallError::Ended(why.clone())),
            Table::Open(waiting) if waiting.len() >= limits::REQUESTS_IN_FLIGHT => Err(CallError::Busy),
            Table::Open(waiting) => {
                let (sender, answer) = mpsc::sync_channel(1);
                waiting.insert(id.to_owned(), sender);
                Ok(Waiting { table: self, id: id.to_owned(), answer })
            }
        }
    }

    /// Hands an answer to whoever waits for it. Nobody waiting is fine: it came late, or the
    /// request was one whose answer nobody wants.
    pub fn answer(&self, id: &str, answer: Answer) {
        if let Table::Open(waiting) = &mut *self.table()
            && let Some(sender) = waiting.remove(id)
        {
            // One answer, one place in the channel: never blocks.
            let _ = sender.try_send(answer);
        }
    }

    /// Ends every wait, now and later.
    pub fn end(&self, why: &str) {
        *self.table() = Table::Ended(why.to_owned());
    }

    /// Why no more answers come; none while they may.
    pub fn ended(&self) -> Option<String> {
        match &*self.table() {
            Table::Open(_) => None,
            Table::Ended(why) => Some(why.clone()),
        }
    }
}

impl Waiting<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn wait(self, deadline: Instant) -> Result<Box<RawValue>, CallError> {
        match self.answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => answer.map_err(CallError::Refused),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(CallError::TimedOut),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(CallError::Ended(self.table.ended().unwrap_or_else(|| "closed".to_owned())))
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Table::Open(waiting) = &mut *self.table.table() {
            waiting.remove(&self.id);
        }
    }
}
