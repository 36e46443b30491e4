//! Where a gateway is. Only this machine, or one behind ssh, is ever an answer: a name could lead
//! elsewhere, and what is sent there is a credential in clear (A27, A31).

use super::tunnel::Tunnel;
use crate::state::config::DEFAULT_PORT;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// A gateway on this machine, or behind ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Our gateway's Unix socket.
    Socket(PathBuf),
    /// A port on loopback.
    Tcp {
        /// Which loopback address.
        host: Host,
        /// The port.
        port: u16,
    },
    /// On another machine's loopback.
    Ssh(Tunnel),
}

/// A loopback host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A literal loopback address.
    Address(IpAddr),
    /// The word `localhost`: 127.0.0.1, then ::1; no resolver is asked.
    Localhost,
}

/// Why a text is no place that we connect to. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a URL that we understand.
    Malformed(String),
    /// A host that is not literally loopback.
    NotLoopback(String),
    /// `wss` or another scheme.
    Scheme(String),
    /// The URL carries a query, a fragment or a user name, which is where tokens leak from (A32).
    Decorated,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TUNNEL: &str = "for a gateway on another machine say --ssh USER@HOST, or open a tunnel (ssh -L 18789:127.0.0.1:18789 HOST) and connect to 127.0.0.1";
        match self {
            Self::Malformed(text) => write!(f, "'{text}' is not a gateway address; write ws://127.0.0.1:18789"),
            Self::NotLoopback(host) => write!(
                f,
                "'{host}' is not an address of this machine (127.0.0.1, ::1 or localhost), so nothing was sent; {TUNNEL}"
            ),
            Self::Scheme(scheme) => write!(f, "'{scheme}:' is not supported, only ws: on this machine (there is no TLS here; ssh protects the way to others); {TUNNEL}"),
            Self::Decorated => f.write_str(
                "a gateway URL must not carry a user name, a query or a fragment; hand a token over by OPENCLAW_GATEWAY_TOKEN",
            ),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Host {
    /// Reads what stands in a URL or behind `--host`; brackets around IPv6 are optional.
    ///
    /// # Errors
    /// [`EndpointError::NotLoopback`] for everything that is not literally loopback.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let refused = || EndpointError::NotLoopback(text.to_owned());
        let bare = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(refused)?,
            None => text,
        };
        // The standard parsers take dotted decimal and plain IPv6 only: no octal, no short forms,
        // no zone. A v4 address in v6 clothes is judged as what it is.
        let address: IpAddr = bare.parse().map_err(|_| refused())?;
        if address.to_canonical().is_loopback() { Ok(Self::Address(address.to_canonical())) } else { Err(refused()) }
    }

    fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Address(address) => vec![address],
            Self::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }
}

impl Endpoint {
    /// `--host` and `--port`.
    ///
    /// # Errors
    /// The host is not loopback.
    pub fn from_host(host: &str, port: u16) -> Result<Self, EndpointError> {
        Ok(Self::Tcp { host: Host::parse(host)?, port })
    }

    /// `--url ws://HOST[:PORT][/]`.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn from_url(url: &str) -> Result<Self, EndpointError> {
        // The text is quoted only after this test: it could hold a token.
        if url.contains(['?', '#', '@']) {
            return Err(EndpointError::Decorated);
        }
        let malformed = || EndpointError::Malformed(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        if !scheme.eq_ignore_ascii_case("ws") {
            return Err(EndpointError::Scheme(scheme.to_owned()));
        }
        let authority = match rest.split_once('/') {
            Some((authority, "")) => authority,
            Some(_) => return Err(malformed()),
            None => rest,
        };
        let (host, port) = match authority.rsplit_once(':') {
            // In `[::1]` the last colon belongs to the address.
            Some((host, port)) if !port.contains(']') => (host, port_number(port).ok_or_else(malformed)?),
            _ => (authority, DEFAULT_PORT),
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(malformed());
        }
        Self::from_host(host, port)
    }

    /// The way there, if it is one through ssh.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        if let Self::Ssh(tunnel) = self { Some(tunnel) } else { None }
    }

    /// What the Host header says. Every gateway accepts these names.
    pub fn host_header(&self) -> String {
        match self {
            Self::Socket(_) => "localhost".to_owned(),
            Self::Tcp { host, port } => match host {
                Host::Localhost => format!("localhost:{port}"),
                Host::Address(address) => SocketAddr::new(*address, *port).to_string(),
            },
            Self::Ssh(tunnel) => format!("127.0.0.1:{}", tunnel.gateway_port()),
        }
    }

    /// Names this place in the store of pinned gateway keys. All loopback addresses of a port are
    /// one place: a gateway listens on several, and a squatter may take one that it left free.
    pub fn pin_name(&self) -> String {
        match self {
            Self::Socket(path) => format!("unix:{}", path.display()),
            Self::Tcp { port, .. } => format!("loopback:{port}"),
            Self::Ssh(tunnel) => tunnel.place(),
        }
    }

    /// Addresses to try in this order; none for what is no TCP port.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Socket(_) | Self::Ssh(_) => Vec::new(),
            Self::Tcp { host, port } => {
                host.addresses().into_iter().map(|address| SocketAddr::new(address, *port)).collect()
            }
        }
    }
}

/// A port, digits only.
pub(super) fn port_number(text: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp { .. } => write!(f, "ws://{}", self.host_header()),
            Self::Ssh(tunnel) => tunnel.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_spellings_are_understood() {
        for (url, shown) in [
            ("ws://127.0.0.1:5", "ws://127.0.0.1:5"),
            ("WS://127.9.8.7:5/", "ws://127.9.8.7:5"),
            ("ws://[::1]:5", "ws://[::1]:5"),
            ("ws://[::1]", "ws://[::1]:18789"),
            ("ws://[::ffff:127.0.0.1]:5", "ws://127.0.0.1:5"),
            ("ws://LocalHost:5", "ws://localhost:5"),
            ("ws://localhost", "ws://localhost:18789"),
        ] {
            assert_eq!(Endpoint::from_url(url).unwrap().to_string(), shown, "{url}");
        }
        let localhost = Endpoint::from_host("localhost", 7).unwrap();
        assert_eq!(localhost.addresses(), ["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()]);
        assert!(Endpoint::from_host("::1", 7).is_ok());
    }

    #[test]
    fn sec_a27_what_only_looks_like_loopback_is_refused() {
        for host in [
            "127.evil.example",
            "127.0.0.1.nip.test",
            "localhost.evil.example",
            "localhost.",
            "evil.localhost",
            "0.0.0.0",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "127.0.0.1 ",
            " 127.0.0.1",
            "127.0.0.1\0",
            "[::]",
            "[::ffff:192.0.2.1]",
            "[::1%lo]",
            "[::1",
            "[127.0.0.1].evil.example",
            "",
        ] {
            let refused = Endpoint::from_url(&format!("ws://{host}:18789"));
            assert!(matches!(refused, Err(EndpointError::NotLoopback(_) | EndpointError::Malformed(_))), "{host:?}");
            assert!(Endpoint::from_host(host, 18_789).is_err(), "{host:?}");
        }
        for url in [
            "ws://127.0.0.1:18789:1",
            "ws://127.0.0.1:+5",
            "ws://127.0.0.1:0",
            "ws://127.0.0.1:70000",
            "ws://127.0.0.1:",
            "127.0.0.1:5",
            "ws:127.0.0.1",
        ] {
            assert!(Endpoint::from_url(url).is_err(), "{url}");
        }
        assert_eq!(Endpoint::from_url("ws://127.0.0.1@evil.example"), Err(EndpointError::Decorated));
    }

    #[test]
    fn sec_a31_other_machines_and_other_schemes_are_refused_with_the_way_out() {
        for url in [
            "ws://192.0.2.10:18789",
            "ws://gateway.example",
            "wss://127.0.0.1:18789",
            "wss://gateway.example",
            "http://127.0.0.1:1",
        ] {
            let refusal = Endpoint::from_url(url).unwrap_err().to_string();
            assert!(refusal.contains("ssh -L"), "{url}: {refusal}");
        }
    }

    #[test]
    fn sec_a32_a_token_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "ws://127.0.0.1:1/?token=GEHEIM",
            "ws://127.0.0.1:1?auth=GEHEIM",
            "ws://127.0.0.1:1/#GEHEIM",
            "ws://u:GEHEIM@127.0.0.1:1",
        ] {
            let refusal = Endpoint::from_url(url).unwrap_err();
            assert_eq!(refusal, EndpointError::Decorated);
            assert!(!refusal.to_string().contains("GEHEIM"));
        }
    }
}
