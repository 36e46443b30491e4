//! What all integration tests share: they drive the built program from outside, over its sockets,
//! its command line and a pseudo-terminal. Nothing here imports the crate under test, so a mistake
//! in its protocol code cannot cancel itself out.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod client;
mod clock;
mod device;
mod gateway;
mod http;
mod node;
mod process;
mod pty;
mod script;
mod temp;

pub use client::{Answer, Challenge, Client, Closed, Connect, Incoming};
pub use clock::{Clock, Faketime};
pub use device::{Device, Payload, sha256_hex, signed_text};
pub use gateway::{Gateway, Options, TOKEN};
pub use http::{HttpAnswer, Stream, Upgrade, read_answer, send_raw};
pub use node::{FakeNode, Reply, Surface};
pub use process::{Finished, Process, openclaw, signal};
pub use pty::Pty;
pub use script::{ScriptedGateway, Seat};
pub use temp::{TempDir, children, free_port, mode, wait_until};

use std::time::Duration;

/// How long a test waits for something that must happen. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How long a test watches for something that must not happen.
pub const QUIET: Duration = Duration::from_millis(300);
