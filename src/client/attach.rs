//! Whom a secret may be shown on a TCP port that nobody named for this one run.
//! Source: DESIGN "Local mode and pinning".

use super::endpoint::{Endpoint, Host};
use crate::state::StateError;
use crate::state::pins::GatewayPins;
use crate::sys::{listener, process};
use std::fmt;
use std::net::TcpStream;

/// The gateway's port is served by a program that may be anybody's. Nothing was sent to it.
#[derive(Debug)]
pub struct PortHeld(pub u16);

impl fmt::Display for PortHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(port) = self;
        let holder = listener::holder_of(*port).map_or_else(String::new, |pid| format!(" (pid {pid})"));
        write!(
            f,
            "port {port} is held by another user's program{holder}; nothing was sent to it. \
             Choose another port with OPENCLAW_GATEWAY_PORT or gateway.port, or use only the Unix socket (--no-tcp)"
        )
    }
}

/// The gateway on this machine's port.
pub fn on_port(port: u16) -> Endpoint {
    Endpoint::Tcp { host: Host::Localhost, port }
}

/// Whether a gateway key is pinned for that port.
///
/// # Errors
/// The pins cannot be read.
pub fn is_pinned(pins: &GatewayPins, port: u16) -> Result<bool, StateError> {
    Ok(pins.pinned(&on_port(port).pin_name())?.is_some())
}

/// A pinned gateway proves its key before it is shown anything. Any other listener must at least
/// belong to our own user; where nobody listens there is nobody to fear.
///
/// # Errors
/// [`PortHeld`].
pub fn check(port: u16, pinned: bool) -> Result<(), PortHeld> {
    let ours = pinned || listener::owner_of(port) == Some(process::effective_uid());
    if ours || TcpStream::connect(("127.0.0.1", port)).is_err() { Ok(()) } else { Err(PortHeld(port)) }
}
