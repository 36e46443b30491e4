//! What crosses the wires, as types. No I/O, no clock, no policy.

pub mod ability;
pub mod connect;
pub mod error;
pub mod exec_host;
pub mod frame;
pub mod node;
pub mod peekaboo;
pub mod policy;
pub mod schema;
pub mod setup;
pub mod strict;
pub mod text;
