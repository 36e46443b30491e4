//! A Unix socket that is served, and which connections it has, so that they can be counted and ended.

use super::accept::Acceptor;
use super::lease::SocketLease;
use super::stream::Stream;
use crate::limits;
use crate::log;
use crate::sys::wake::Wake;
use crate::sys::{process, socket, worker};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A socket that is served, each connection on a thread of its own. Dropping this stops it.
pub struct Listening {
    stop: Arc<Wake>,
    connections: Arc<Connections>,
    accepting: Option<JoinHandle<()>>,
}

impl Listening {
    /// Serves `lease` from now on; `name` is for logs.
    ///
    /// # Errors
    /// No descriptors or threads are left.
    pub fn start(
        name: &'static str,
        lease: SocketLease,
        connections: Arc<Connections>,
        serve: impl Fn(&Arc<Stream>, &Connection) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Wake::new()?);
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&connections));
        let accepting = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(limits::EXEC_STACK_BYTES)
            .spawn(move || accept_all(name, &lease, &counted, &Arc::new(serve), &stopped))?;
        Ok(Self { stop, connections, accepting: Some(accepting) })
    }
}

impl Drop for Listening {
    /// Takes no more connections, ends those that there are, and unlinks the socket.
    fn drop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.stop.fire();
        self.connections.stop(limits::EXEC_STOP_WAIT);
        let _ = accepting.join();
    }
}

fn accept_all<S: Fn(&Arc<Stream>, &Connection) + Send + Sync + 'static>(
    name: &'static str,
    lease: &SocketLease,
    connections: &Arc<Connections>,
    serve: &Arc<S>,
    stop: &Wake,
) {
    let mut acceptor = match Acceptor::new("app", lease.listener()) {
        Ok(acceptor) => acceptor,
        Err(error) => return log!("app", "the {name} socket cannot be served: {error}"),
    };
    while let Some(stream) = acceptor.next(stop) {
        let stream = Arc::new(stream);
        // Too many that say nothing: closing this one is the only answer that costs nothing.
        let Some(connection) = connections.open(&stream) else { continue };
        let serve = Arc::clone(serve);
        if let Err(error) = worker::start(move || serve(&stream, &connection)) {
            log!("app", "a request was dropped, there is no thread for it: {error}");
        }
    }
}

/// Whether our own user is connected; not when the system does not say (A110).
pub fn is_own_user(name: &str, stream: &Stream) -> bool {
    let is_own = socket::peer_uid(stream.as_fd()).is_ok_and(|uid| uid == process::effective_uid());
    if !is_own {
        log!("app", "a connection of another user to the {name} socket was refused");
    }
    is_own
}

/// A requester that has gone, or does not read, loses its answer; that is all.
pub fn send(stream: &Stream, line: &str) {
    let _ = stream.write_until(line.as_bytes(), Instant::now() + limits::EXEC_ANSWER_DEADLINE);
}

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

/// The connections of one socket.
pub struct Connections {
    table: Mutex<Table>,
    fewer: Condvar,
    most_serving: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(limits::EXEC_CONNECTIONS)
    }
}

impl Connections {
    /// None yet; at most `most_serving` requests are under way at once.
    pub fn new(most_serving: usize) -> Self {
        Self { table: Mutex::default(), fewer: Condvar::new(), most_serving }
    }

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
        if table.serving() >= self.connections.most_serving {
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
