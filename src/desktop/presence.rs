//! Whether the person can see this session's screen at all. A locked screen, or another user's session in front of
//! ours, takes every prompt away and answers none. Source: spec mac-app (3.2).

use crate::sys::wake::Wake;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why nobody sees the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// The screen is locked.
    Locked,
    /// Another user's session is in front (fast user switching).
    SwitchedOut,
}

impl Away {
    /// For `status`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Locked => "the screen is locked",
            Self::SwitchedOut => "another user's session is in front",
        }
    }
}

/// Told by the desktop's backend, heeded by the approval queue.
#[derive(Debug, Default)]
pub struct Presence(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    away: Vec<Away>,
    watcher: Option<Arc<Wake>>,
}

impl Presence {
    /// From now on nobody sees the screen, for this reason.
    pub fn left(&self, why: Away) {
        self.change(|away| {
            if !away.contains(&why) {
                away.push(why);
            }
        });
    }

    /// This reason is over; another one may still hold.
    pub fn returned(&self, why: Away) {
        self.change(|away| away.retain(|reason| *reason != why));
    }

    /// Why nobody sees the screen; none when somebody may.
    pub fn away(&self) -> Option<Away> {
        self.table().away.first().copied()
    }

    /// The same, and `change` is fired as soon as it is out of date. There is one watcher: who shows prompts.
    pub fn watch(&self, change: &Arc<Wake>) -> Option<Away> {
        let mut table = self.table();
        table.watcher = Some(Arc::clone(change));
        table.away.first().copied()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Away>)) {
        let mut table = self.table();
        let before = table.away.is_empty();
        change(&mut table.away);
        if table.away.is_empty() != before
            && let Some(watcher) = table.watcher.take()
        {
            watcher.fire();
        }
    }

    /// No code that may panic runs under this lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
