//! Apple's frameworks behind a safe API: the only place that knows Objective-C.
//!
//! Empty until part 4; the crate exists so that nothing else grows such code. Its rules:
//!
//! - one file a framework; the FFI is written by hand, and every block says why it is sound;
//! - libraries and symbols are looked up at run time from one table, so that a gateway or a node
//!   never loads AppKit, and a missing symbol is an error with a name instead of a crash at start;
//! - outwards the API is safe and knows nothing of the rooms in `openclaw`;
//! - `make ffi-audit` compares every name with Apple's headers, `make check-macos` compiles and
//!   links it for both Apple targets.
