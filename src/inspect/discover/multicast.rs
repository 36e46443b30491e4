//! Asks the neighbours once, from ports of our own, and reads what comes back to them. We join no group, so nothing that
//! others ask or tell is read. Source: RFC 6762 (5.1), (6.7).

use super::Found;
use crate::identity::random;
use crate::limits;
use crate::protocol::dns::{self, Kind, Name};
use crate::sys::interfaces;
use crate::sys::poll::{self, Interest};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Where neighbours listen, and from where they answer. Source: RFC 6762 (3), (6).
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Source: RFC 6762 (11).
const TTL: u32 = 255;

/// What answers within `window`, or why nobody could be asked.
pub fn browse(found: &mut Found, window: Duration) -> Result<(), String> {
    browse_until(found, Instant::now(), window).map_err(|error| format!("(multicast) {error}"))
}

fn browse_until(found: &mut Found, start: Instant, window: Duration) -> io::Result<()> {
    let id = u16::from_be_bytes(random::bytes());
    let sockets = sockets()?;
    let service = found.service.clone();
    ask(&sockets, id, (&service, Kind::Pointer))?;
    let mut again = Some(start + window / 2);
    let mut datagram = [0; limits::DNS_BYTES];
    while start.elapsed() < window {
        let waiting: Vec<_> = sockets.iter().map(|socket| (socket.as_fd(), Interest::Readable)).collect();
        let ready = poll::wait(&waiting, Some(again.unwrap_or(start + window)))?;
        // One that is new is asked at once.
        let mut first = found.instances.len();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            // One that fails has nothing to say; the poll has the time.
            let Ok((count, from)) = socket.recv_from(&mut datagram) else { continue };
            let answer = datagram.get(..count).filter(|_| from.port() == GROUP.1);
            if let Some(answer) = answer.and_then(|answer| dns::answer(answer, id)) {
                found.hear(answer);
            }
        }
        // A datagram may get lost, so everything is asked twice.
        if again.is_some_and(|again| Instant::now() >= again) {
            (again, first) = (None, 0);
            let _ = ask(&sockets, id, (&service, Kind::Pointer));
        }
        for question in found.missing(first) {
            let _ = ask(&sockets, id, question);
        }
    }
    Ok(())
}

/// One for each interface: a socket bound to its address sends there.
fn sockets() -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    for address in interfaces::ipv4_addresses()?.into_iter().take(limits::DISCOVERY_INTERFACES) {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_multicast_ttl_v4(TTL)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Fails when none takes it.
fn ask(sockets: &[UdpSocket], id: u16, question: (&Name, Kind)) -> io::Result<()> {
    let query = dns::query(id, question, false);
    let mut last = Err(io::Error::other("no network interface is up"));
    for socket in sockets {
        match socket.send_to(&query, GROUP) {
            Ok(_) => last = Ok(()),
            Err(error) if last.is_err() => last = Err(error),
            Err(_) => {}
        }
    }
    last
}
