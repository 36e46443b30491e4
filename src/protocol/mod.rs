//! What crosses the wires, as types. No I/O, no clock, no policy.

pub mod ability;
pub mod computer;
pub mod connect;
pub mod dns;
pub mod error;
pub mod exec_host;
pub mod frame;
pub mod node;
pub mod notify;
pub mod peekaboo;
pub mod policy;
pub mod redact;
pub mod schema;
pub mod setup;
pub mod strict;
pub mod text;
