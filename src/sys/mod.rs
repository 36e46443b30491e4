//! libc behind safe functions: the only unsafe code in this crate.
//!
//! What no test on Linux will show about macOS stands beside the guard as a comment.

pub mod account;
pub mod clock;
pub mod connect;
pub mod environment;
pub mod fence;
pub mod host_stats;
pub mod listener;
pub mod platform;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod wake;
pub mod worker;
#[cfg(target_os = "linux")]
pub mod x11;
