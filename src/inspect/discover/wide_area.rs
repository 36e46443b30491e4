//! Asks the name servers of this machine for the services of a domain. Source: RFC 6763, spec mac-app (4.2).

use super::Found;
use crate::identity::random;
use crate::limits;
use crate::protocol::dns::{self, Answer, Kind, Name};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

const RESOLVERS: &str = "/etc/resolv.conf";
/// Bytes of that file that are read. ours
const RESOLVERS_BYTES: u64 = 64 * 1024;
const PORT: u16 = 53;
/// There is no such name.
const NO_NAME: u16 = 3;

/// What the first name server knows that answers, within `window`.
pub fn ask(found: &mut Found, window: Duration) -> Result<(), String> {
    let deadline = Instant::now() + window;
    let mut last = format!("{RESOLVERS} names no name server");
    for server in servers() {
        let service = found.service.clone();
        match one(server, &service, Kind::Pointer, deadline) {
            Ok(answer) => {
                found.hear(answer);
                for (name, kind) in found.missing(0).map(|(name, kind)| (name.clone(), kind)).collect::<Vec<_>>() {
                    // What is not told is left out.
                    one(server, &name, kind, deadline).map(|answer| found.hear(answer)).ok();
                }
                return Ok(());
            }
            Err(why) => last = format!("(name server {server}) {why}"),
        }
    }
    Err(last)
}

fn servers() -> Vec<IpAddr> {
    let mut text = String::new();
    let _ = fs::File::open(RESOLVERS).map(|file| file.take(RESOLVERS_BYTES).read_to_string(&mut text));
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    addresses.take(limits::NAME_SERVERS).collect()
}

/// One question. The socket is connected, so only that server is heard.
fn one(server: IpAddr, name: &Name, kind: Kind, deadline: Instant) -> Result<Answer, String> {
    let id = u16::from_be_bytes(random::bytes());
    let asked = || {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((server, PORT))?;
        socket.send(&dns::query(id, (name, kind), true))?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = asked().map_err(|error| error.to_string())?;
    let deadline = deadline.min(Instant::now() + limits::NAME_SERVER_WAIT);
    let mut datagram = [0; limits::DNS_BYTES];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("did not answer in time".to_owned());
        }
        socket.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        let count = match socket.recv(&mut datagram) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.to_string()),
        };
        match datagram.get(..count).and_then(|message| dns::answer(message, id)) {
            Some(answer) if answer.truncated => return Err("has more than fits into one answer".to_owned()),
            Some(answer) if [0, NO_NAME].contains(&answer.code) => return Ok(answer),
            Some(answer) => return Err(format!("refused with code {}", answer.code)),
            None => {}
        }
    }
}
