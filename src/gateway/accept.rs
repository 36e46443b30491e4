//! Listening, and everything that is decided before the upgrade: who connects, from which page,
//! under which name. Source: spec gateway §2, §3; cases A15, A21–A25, A110, A118, A145.

use super::Core;
use super::admission::Place;
use super::handshake::{self, Arrival, Refused};
use super::registry;
use super::session::{self, Leave, Session};
use crate::client::gateway_key;
use crate::limits;
use crate::sys::{process, socket};
use crate::transport::accept::{Acceptor, Listener};
use crate::transport::http::{self, Head, HeadError};
use crate::transport::peer::Peer;
use crate::transport::stream::Stream;
use serde_json::json;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;
use tungstenite::protocol::Role as WebSocketRole;

/// Headers that only a proxy adds. There is no proxy mode, so each of them is refused (A25).
const FORWARDED: &[&str] = &["forwarded", "x-real-ip", "via", "cf-connecting-ip", "true-client-ip"];
/// And every header with this prefix.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// Serves a listener until the gateway stops.
pub fn run(core: &Arc<Core>, listener: &impl Listener) {
    match Acceptor::new("gateway", listener) {
        Ok(mut acceptor) => {
            while let Some(stream) = acceptor.next(&core.stop) {
                start(core, stream);
            }
        }
        Err(error) => crate::log!("gateway", "a listener cannot be served: {error}"),
    }
}

/// Gives a connection its thread. Where there is none, it is told so and closed.
fn start(core: &Arc<Core>, stream: Stream) {
    let stream = Arc::new(stream);
    let deadline = Instant::now() + limits::HANDSHAKE_DEADLINE;
    let room = core.registry.count() < limits::PEERS_TOTAL;
    let Some(place) = core.admission.enter(&stream).filter(|_| room) else {
        http::refuse_at_once(&stream, 503, &json!({"error": {"message": "too many connections; try again shortly"}}));
        return;
    };
    let for_thread = Arc::clone(core);
    let work = move || {
        let core = for_thread;
        // One connection's panic ends that connection.
        if catch_unwind(AssertUnwindSafe(|| serve(&core, stream, place, deadline))).is_err() {
            crate::log!("gateway", "a connection ended by an internal error; the others go on");
        }
    };
    let builder = thread::Builder::new().name("peer".into()).stack_size(limits::PEER_STACK_BYTES);
    if let Err(error) = builder.spawn(work) {
        crate::log!("gateway", "no thread for a connection: {error}");
    }
}

/// One connection from its first byte to its end.
fn serve(core: &Arc<Core>, stream: Arc<Stream>, place: Place, deadline: Instant) {
    if !is_ours(&stream) {
        crate::log!("gateway", "a process of another user connected to the socket; refused");
        return;
    }
    let head = match http::read_head(&stream, deadline) {
        Ok(head) => head,
        Err(HeadError::Gone) => return,
        Err(HeadError::Malformed | HeadError::TooLarge) => {
            return refuse(&stream, 400, "this is a WebSocket endpoint", "bad_request", deadline);
        }
    };
    place.spoke();
    let arrival = match judge(core, &stream, &head) {
        Ok(arrival) => arrival,
        Err((message, kind)) => return refuse(&stream, 403, message, kind, deadline),
    };
    let proof = gateway_proof(core, head.key().unwrap_or_default());
    if let Err(error) = http::accept_upgrade(&stream, &head, Some(&proof), deadline) {
        if error.kind() == io::ErrorKind::InvalidData {
            refuse(
                &stream,
                400,
                "this is a WebSocket endpoint; connect with a WebSocket client",
                "bad_request",
                deadline,
            );
        }
        return;
    }
    let mut peer = Peer::new(stream, head.early, WebSocketRole::Server);
    peer.set_deadline(deadline);
    match handshake::run(core, &mut peer, &arrival) {
        Ok((session, hello)) => {
            drop(place);
            live(core, &session, hello, peer);
        }
        Err(Refused::Close(code, reason)) => peer.close(code, &reason),
        Err(Refused::Ended(end)) => peer.end(&end),
    }
}

/// The life of a session in the registry.
fn live(core: &Arc<Core>, session: &Arc<Session>, hello: String, mut peer: Peer) {
    core.registry.add(session, hello);
    refresh_approved(core, session);
    // The secret may have been exchanged between the check and the registration (A14).
    if core.is_outdated(session) {
        session.outbox.close(4001, super::AUTH_CHANGED);
    }
    if core.stopping.load(Ordering::SeqCst) {
        session.outbox.close(1012, "service restart");
    }
    crate::log!("gateway", "{} connected", session.label());
    registry::presence_changed(core);
    let served = catch_unwind(AssertUnwindSafe(|| session::serve(core, session, &mut peer)));
    let was_owner = core.registry.remove(session);
    core.invocations.session_gone(core, session);
    core.approvals.session_gone(core, session);
    if let (true, Some(id)) = (was_owner, &session.device_id) {
        core.pairing().node_left(id);
    }
    registry::presence_changed(core);
    match served {
        Ok(Leave::Ended(end)) => {
            crate::log!("gateway", "{} left: {end}", session.label());
            peer.end(&end);
        }
        Ok(Leave::Close(code, reason)) => peer.close(code, reason),
        Err(_) => {
            crate::log!("gateway", "{} ended by an internal error; the others go on", session.label());
            peer.close(1011, "internal error");
        }
    }
}

/// An approval between the declaration and the registration must not be lost.
fn refresh_approved(core: &Core, session: &Session) {
    if let (Some(node), Some(id)) = (&session.node, &session.device_id) {
        let approved = core.pairing().surface(id).map(|record| record.surface.clone());
        node.live().approved = approved;
    }
}

/// A Unix-socket peer must be our own user; if the kernel does not say, it is not (A110).
fn is_ours(stream: &Stream) -> bool {
    match stream {
        Stream::Tcp(_) => true,
        Stream::Unix(_) | Stream::Program(..) => {
            socket::peer_uid(stream.as_fd()).is_ok_and(|uid| uid == process::effective_uid())
        }
    }
}

type Refusal = (&'static str, &'static str);

/// Looks at the head of an upgrade before anything else is said.
fn judge(core: &Core, stream: &Stream, head: &Head) -> Result<Arrival, Refusal> {
    let proxied = head
        .request
        .headers()
        .keys()
        .any(|name| FORWARDED.contains(&name.as_str()) || name.as_str().starts_with(FORWARDED_PREFIX));
    if proxied {
        return Err((
            "this gateway serves no proxies: a forwarded header was sent; connect directly, from elsewhere through an SSH tunnel",
            "proxy_attribution_required",
        ));
    }
    if matches!(stream, Stream::Tcp(_)) && !host_is_local(&head.values("host")) {
        return Err(("the Host header must name a loopback address or localhost", "host_not_allowed"));
    }
    let origin = match head.values("origin").as_slice() {
        [] => None,
        [origin] if core.settings.allowed_origins.iter().any(|allowed| allowed == origin) => Some((*origin).to_owned()),
        _ => {
            return Err((
                "web pages may not connect; list the page's origin in gateway.controlUi.allowedOrigins",
                "origin_not_allowed",
            ));
        }
    };
    Ok(Arrival { address: stream.peer_address(), origin })
}

/// The *name* in Host must be a literal loopback address or `localhost`; tunnels use other ports,
/// so the port is not compared (row A23).
fn host_is_local(hosts: &[&str]) -> bool {
    let [host] = hosts else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => name,
            Some((name, port)) if port.strip_prefix(':').is_some_and(is_port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn refuse(stream: &Stream, status: u16, message: &str, kind: &str, deadline: Instant) {
    http::refuse(stream, status, &json!({"error": {"message": message, "type": kind}}), deadline);
}

/// Our key, and that we hold it: a signature over the client's own nonce (DESIGN, H26).
fn gateway_proof(core: &Core, websocket_key: &str) -> String {
    let signature = core.key.sign(&gateway_key::signed_text(websocket_key));
    gateway_key::header_value(&core.key.public_key_base64url(), &signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_a23_only_loopback_names_in_host() {
        for good in ["127.0.0.1:18789", "localhost", "LOCALHOST:1", "[::1]:18789", "[::1]", "127.9.9.9"] {
            assert!(host_is_local(&[good]), "{good}");
        }
        for bad in [
            "evil.example:18789",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "0.0.0.0:18789",
            "[::]",
            "[::1",
            "[::1]x",
            "2130706433",
            "127.1",
            "",
            "localhost:99999",
            "localhost:1:2",
            "a@localhost",
            "[::ffff:7f00:1]",
        ] {
            assert!(!host_is_local(&[bad]), "{bad}");
        }
        assert!(!host_is_local(&[]) && !host_is_local(&["localhost", "evil.example"]));
    }
}
