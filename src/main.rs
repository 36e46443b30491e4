//! Arguments in, one command called, exit code out.
fn main() {}
