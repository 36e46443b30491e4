//! Apple's frameworks behind a safe API: the only place that knows Objective-C.
//!
//! - One file a framework. Its head declares what of it is called (`objc_class!`, `functions!`, `variables!`), one
//!   line a name with its types; `make ffi-audit` compares these lines with Apple's headers.
//! - Libraries and symbols are looked up at run time from one table ([`library`]), so that a gateway or a node never
//!   loads AppKit, and a missing symbol is an error with a name instead of a crash at start.
//! - The same source is compiled for every target. On Linux nothing can be opened, except with the feature `gnustep`:
//!   then the AppKit-compatible library of Debian stands for Foundation and AppKit.
//! - Outwards the API is safe and knows nothing of the rooms in `openclaw`. What belongs to the main thread takes a
//!   [`MainThread`], which exists nowhere else.
//!
//! An Objective-C exception cannot be caught here. So nothing is called that may raise one: every wrapper checks first
//! what would (mac-app §8.9).
#![warn(missing_docs)]

#[macro_use]
mod declare;
pub mod accessibility;
pub mod appkit;
mod block;
pub mod camera;
mod class;
mod completion;
pub mod core_graphics;
pub mod dns_sd;
pub mod foundation;
pub mod image;
pub mod inventory;
pub mod library;
pub mod location;
mod main_thread;
pub mod permissions;
mod runtime;
pub mod screen;
pub mod security;
pub mod selftest;
pub mod user_notifications;
pub mod web;
pub mod workspace;

pub use block::Unanswered;
pub use library::Missing;
pub use main_thread::{MainThread, When, on_main};
pub use runtime::{Point, Rect, Size};
