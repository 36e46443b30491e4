//! Bytes to messages and back, blocking: WebSocket peer, JSON line, Unix-socket lease.

pub mod accept;
pub mod code_identity;
pub mod connections;
pub mod http;
pub mod lease;
pub mod line;
pub mod outbox;
pub mod peer;
pub mod stream;
