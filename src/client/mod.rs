//! A connection to a gateway, ours or the official one: where it is, the handshake, request
//! matching, when to try again.

pub mod attach;
pub mod connection;
pub mod endpoint;
pub mod error;
pub mod gateway_key;
mod handshake;
pub mod options;
mod pending;
pub mod reconnect;
pub mod standing;
pub mod tunnel;

pub use crate::protocol::connect::Role;
pub use crate::protocol::node::Surface;
pub use connection::{Connection, Link};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{CallError, ConnectError};
pub use handshake::{Hello, Step, Watch, reach};
pub use options::{ConnectOptions, CredentialSource, Credentials};
pub use standing::Standing;
pub use tunnel::Tunnel;
