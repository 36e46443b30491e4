//! The HTTP head before a WebSocket: read and judged by us, since tungstenite's own acceptor
//! answers nothing to malformed requests (NOTES "What tungstenite really does", A15).

use super::stream::Stream;
use crate::limits;
use data_encoding::BASE64;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;
use tungstenite::handshake::client::Response;
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response};

/// Name of the header in which a gateway proves its key; see DESIGN "Local mode and pinning".
pub const GATEWAY_KEY_HEADER: &str = "OpenClaw-Gateway";

/// A request head and the bytes that came after it.
pub struct Head {
    /// Method, target and headers.
    pub request: Request,
    /// What the peer sent behind the head.
    pub early: Vec<u8>,
}

impl Head {
    /// All values of a header; a value that is not text is an empty one.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.request.headers().get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
    }

    /// `Sec-WebSocket-Key`.
    pub fn key(&self) -> Option<&str> {
        self.values("sec-websocket-key").first().copied()
    }
}

/// Why there is no head.
#[derive(Debug)]
pub enum HeadError {
    /// Not HTTP/1.1 GET with a path as its target: answer 400.
    Malformed,
    /// Over [`limits::HTTP_HEAD_BYTES`]: answer 400.
    TooLarge,
    /// The deadline passed, or the peer went: no answer.
    Gone,
}

/// Reads a request head.
///
/// # Errors
/// See [`HeadError`].
pub fn read_head(stream: &Stream, deadline: Instant) -> Result<Head, HeadError> {
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 2048];
    loop {
        let count = stream.read_until(&mut piece, deadline).map_err(|_| HeadError::Gone)?;
        if count == 0 {
            return Err(HeadError::Gone);
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        match Request::try_parse(&bytes) {
            Ok(Some((_, request))) if !is_path(&request) => return Err(HeadError::Malformed),
            Ok(Some((size, request))) if size <= limits::HTTP_HEAD_BYTES => {
                return Ok(Head { request, early: bytes.split_off(size) });
            }
            Ok(None) if bytes.len() <= limits::HTTP_HEAD_BYTES => {}
            Ok(_) => return Err(HeadError::TooLarge),
            Err(_) => return Err(HeadError::Malformed),
        }
    }
}

/// A target of another form (`http://…`, `*`) speaks to a proxy, and `//` reads as one for some (A15).
fn is_path(request: &Request) -> bool {
    let target = request.uri();
    target.authority().is_none() && target.path().starts_with('/') && !target.path().starts_with("//")
}

/// Answers with a status and a JSON body, then ends the connection.
pub fn refuse(stream: &Stream, status: u16, body: &serde_json::Value, deadline: Instant) {
    if stream.write_until(refusal(status, body).as_bytes(), deadline).is_ok() {
        stream.shutdown(std::net::Shutdown::Write);
        super::peer::discard(stream);
    }
}

/// The same for a caller that must not wait: what the kernel takes now, and the end.
pub fn refuse_at_once(stream: &Stream, status: u16, body: &serde_json::Value) {
    let _ = crate::sys::socket::send_now(stream.as_fd(), refusal(status, body).as_bytes());
    stream.shutdown(std::net::Shutdown::Write);
}

fn refusal(status: u16, body: &serde_json::Value) -> String {
    let phrase = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        _ => "Service Unavailable",
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Answers an upgrade request with 101. `gateway_key` is the value of [`GATEWAY_KEY_HEADER`].
///
/// # Errors
/// `InvalidData` when the request is no upgrade (answer 400); else the peer has gone.
pub fn accept_upgrade(stream: &Stream, head: &Head, gateway_key: Option<&str>, deadline: Instant) -> io::Result<()> {
    create_response(&head.request).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let accept = derive_accept_key(head.key().unwrap_or_default().as_bytes());
    let mut text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(key) = gateway_key {
        text.push_str(&format!("{GATEWAY_KEY_HEADER}: {key}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_until(text.as_bytes(), deadline)
}

/// Why a client got no WebSocket.
#[derive(Debug)]
pub enum UpgradeError {
    /// The answer was a plain HTTP one.
    Refused(u16),
    /// The answer was not HTTP, or not to our request.
    NotWebSocket,
    /// The connection broke or was too slow.
    Io(io::Error),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the gateway refused the connection with HTTP {status}"),
            Self::NotWebSocket => f.write_str("what listens there is not a gateway"),
            Self::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                f.write_str("what listens there says nothing; it is not a gateway, or a stuck one")
            }
            Self::Io(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

/// A successful upgrade on the client side.
pub struct Upgraded {
    /// Our `Sec-WebSocket-Key`.
    pub key: String,
    /// Value of [`GATEWAY_KEY_HEADER`], if the gateway sent one.
    pub gateway_key: Option<String>,
    /// Bytes behind the head.
    pub early: Vec<u8>,
}

/// Asks for an upgrade. `host` goes into the Host header; no Origin is sent.
///
/// # Errors
/// See [`UpgradeError`].
pub fn request_upgrade(stream: &Stream, host: &str, deadline: Instant) -> Result<Upgraded, UpgradeError> {
    let key = BASE64.encode(&crate::identity::random::bytes::<16>());
    let text = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_until(text.as_bytes(), deadline).map_err(UpgradeError::Io)?;
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 2048];
    loop {
        let count = stream.read_until(&mut piece, deadline).map_err(UpgradeError::Io)?;
        if count == 0 {
            return Err(UpgradeError::NotWebSocket);
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        match Response::try_parse(&bytes) {
            Ok(Some((size, response))) => {
                let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
                if response.status().as_u16() != 101 {
                    return Err(UpgradeError::Refused(response.status().as_u16()));
                }
                if header("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str())
                    || header("sec-websocket-extensions").is_some()
                {
                    return Err(UpgradeError::NotWebSocket);
                }
                let gateway_key = header(GATEWAY_KEY_HEADER).map(str::to_owned);
                return Ok(Upgraded { key, gateway_key, early: bytes.split_off(size) });
            }
            Ok(None) if bytes.len() <= limits::HTTP_HEAD_BYTES => {}
            _ => return Err(UpgradeError::NotWebSocket),
        }
    }
}
