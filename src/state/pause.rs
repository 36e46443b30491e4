//! The switch that stops everything: as long as its file is there, no command starts. A file, so
//! that it holds for every process and survives all of them.

use super::{DocumentLock, StateDir, StateError, files};
use std::path::Path;

/// What whoever asks is told.
pub const SENTENCE: &str = "paused; `openclaw mac-debug resume` lets commands run again";

/// Whether commands are stopped by the file at `path`. What cannot be looked at counts as a switch that is on.
pub fn is_on(path: &Path) -> bool {
    !matches!(files::stamp(path), Ok(None))
}

/// Stops every command that has not started; what runs goes on.
///
/// # Errors
/// The file cannot be written: nothing is stopped.
pub fn pause(state: &StateDir) -> Result<(), StateError> {
    files::replace(&DocumentLock::take(&state.paused())?, format!("{SENTENCE}\n").as_bytes())
}

/// Lets commands start again.
///
/// # Errors
/// The file cannot be removed: it stays paused.
pub fn resume(state: &StateDir) -> Result<(), StateError> {
    files::discard(&state.paused())
}
