//! One binary, `openclaw`: the Mac side of OpenClaw.
//!
//! The house, top to bottom. A room imports only rooms below it: `scripts/check-rooms.sh` reads the
//! order from this file.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(all(feature = "test-doors", not(debug_assertions)))]
compile_error!("feature `test-doors` must never be in a release build");

/// Command-line flags, each turned into one call into the room that does the work.
pub mod commands;
/// What `mac-debug` looks at: status, nodes, runs, invokes, pairing, approvals.
pub mod inspect;
/// The one instance that asks the person and runs commands: exec socket, approval queue, supervisor.
pub mod app;
/// The node host: answers a gateway's invocations with this machine's commands.
pub mod node;
/// PeekabooBridge host and client.
pub mod bridge;
/// The WebSocket control plane.
pub mod gateway;
/// A connection to a gateway, ours or the official one.
pub mod client;
/// Installing and controlling launchd agents and systemd user units.
pub mod service;
/// What a desktop does for us: ask, notify; and its backends.
pub mod desktop;
/// Analysis, policy, plan, run. No socket, no screen.
pub mod exec;
/// What lies on disk.
pub mod state;
/// Bytes to messages and back, blocking.
pub mod transport;
/// Keys, tokens, signatures, the HMAC envelope, the replay guard, the secret type.
pub mod identity;
/// One line a log record, escaped and bounded; secrets never.
pub mod log;
/// What crosses the wires, as types. No I/O, no clock, no policy.
pub mod protocol;
/// libc: the only unsafe code in this crate.
#[allow(unsafe_code)]
pub mod sys;
/// Every bound, with its source.
pub mod limits;
