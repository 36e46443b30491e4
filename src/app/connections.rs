//! Which connections the exec socket has, so that they can be counted and ended.

use crate::limits;
use crate::sys::wake::Wake;
use crate::transport::stream::Stream;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one connection is doing.
enum Stage {
    /// Its request has not come yet.
    Reading(Arc<Stream>),
    /// Its request is under way; firing this ends it.
    Serving(Arc<Wake>),
}

#[derive(Default)]
struct Table {
    stages: HashMap<u64, Stage>,
    next: u64,
    stopping: bool,
}

impl Table {
    fn serving(&self) -> usize {
        self.stages.values().filter(|stage| matches!(stage, Stage::Serving(_))).count()
    }
}

/// The connections of one exec socket.
#[derive(Default)]
pub struct Connections {
    table: Mutex<Table>,
    fewer: Condvar,
}

impl Connections {
    /// Notes a connection that will send its request; none when there are too many, or at the end.
    pub fn open(self: &Arc<Self>, stream: &Arc<Stream>) -> Option<Connection> {
        let mut table = self.table();
        if table.stopping || table.stages.len() - table.serving() >= limits::EXEC_READING {
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.stages.insert(id, Stage::Reading(Arc::clone(stream)));
        Some(Connection { connections: Arc::clone(self), id })
    }

    /// How many requests are under way.
    pub fn serving(&self) -> usize {
        self.table().serving()
    }

    /// Ends all of them, takes no more, and waits until they are gone; at most `limit`.
    pub fn stop(&self, limit: Duration) {
        let mut table = self.table();
        table.stopping = true;
        for stage in table.stages.values() {
            match stage {
                Stage::Reading(stream) => stream.shutdown(Shutdown::Both),
                Stage::Serving(end) => end.fire(),
            }
        }
        let gone = |table: &mut Table| !table.stages.is_empty();
        let _ = self.fewer.wait_timeout_while(table, limit, gone).unwrap_or_else(PoisonError::into_inner);
    }

    /// Whether [`Connections::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.table().stopping
    }

    /// No code that may panic runs under this lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's entry; dropping it removes it.
pub struct Connection {
    connections: Arc<Connections>,
    id: u64,
}

impl Connection {
    /// Its request has come: from now on the answer, when fired, means that the request is to end.
    /// None when too many are under way.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn serve(&self) -> io::Result<Option<Arc<Wake>>> {
        let end = Arc::new(Wake::new()?);
        let mut table = self.connections.table();
        if table.serving() >= limits::EXEC_CONNECTIONS {
            return Ok(None);
        }
        if table.stopping {
            end.fire();
        }
        table.stages.insert(self.id, Stage::Serving(Arc::clone(&end)));
        Ok(Some(end))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.table().stages.remove(&self.id);
        self.connections.fewer.notify_all();
    }
}
