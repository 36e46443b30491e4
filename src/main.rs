//! Arguments in, one command called, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    openclaw::sys::fence::serve(std::env::args_os()).unwrap_or_else(|| openclaw::commands::run(std::env::args_os()))
}
