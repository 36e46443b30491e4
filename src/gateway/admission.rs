//! Sockets that have not logged in yet: bounded per address and in all; the Unix socket has places of
//! its own. When there is no room, the oldest one that has said nothing makes room. Source: security-cases A145 and issue "failure budget".

use crate::limits;
use crate::transport::stream::Stream;
use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

struct Waiting {
    address: Option<IpAddr>,
    stream: Weak<Stream>,
    /// Has sent a whole HTTP head.
    spoke: bool,
}

#[derive(Default)]
struct Rooms {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// Who is waiting to log in.
#[derive(Clone, Default)]
pub struct Admission(Arc<Mutex<Rooms>>);

/// A place; given back when dropped.
pub struct Place {
    admission: Admission,
    number: u64,
}

impl Admission {
    /// A place for `stream`, or none when everybody in the way has already spoken.
    pub fn enter(&self, stream: &Arc<Stream>) -> Option<Place> {
        let address = stream.peer_address();
        let mut rooms = self.rooms();
        let same = rooms.waiting.values().filter(|waiting| waiting.address == address).count();
        let full_here = same >= limits::PRE_AUTH_PER_ADDRESS;
        let of_kind = rooms.waiting.values().filter(|waiting| waiting.address.is_some() == address.is_some()).count();
        if full_here || of_kind >= limits::PRE_AUTH_TOTAL {
            let oldest = rooms
                .waiting
                .iter()
                .find(|(_, waiting)| {
                    let in_the_way = if full_here { waiting.address == address } else { waiting.address.is_some() };
                    !waiting.spoke && in_the_way
                })
                .map(|(number, _)| *number)?;
            if let Some(stream) = rooms.waiting.remove(&oldest).and_then(|waiting| waiting.stream.upgrade()) {
                stream.shutdown(Shutdown::Both);
            }
        }
        let number = rooms.next;
        rooms.next += 1;
        rooms.waiting.insert(number, Waiting { address, stream: Arc::downgrade(stream), spoke: false });
        Some(Place { admission: self.clone(), number })
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The peer has sent a whole request head: it is not silent any more.
    pub fn spoke(&self) {
        if let Some(waiting) = self.admission.rooms().waiting.get_mut(&self.number) {
            waiting.spoke = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.rooms().waiting.remove(&self.number);
    }
}
