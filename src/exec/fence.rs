//! Which walls a fence level stands for. Source: issue part 2, point 6.

use crate::protocol::policy::Fence;
use crate::sys::fence::{Enclosure, Fencer, Walls};
use std::path::Path;

/// What a command is kept in at this level. Where writing is kept in, that is to `workspace` and to our
/// own temporary folder, whatever the command is told about its own.
///
/// # Errors
/// A sentence: this machine cannot do that.
pub fn enclose(fencer: &Fencer, level: Fence, workspace: &Path) -> Result<Enclosure, String> {
    if level == Fence::None {
        return Ok(Enclosure::none());
    }
    let temporary = std::env::temp_dir();
    let writable = [workspace, &temporary];
    fencer.enclose(&Walls {
        write_only_below: (level >= Fence::Workspace).then_some(writable.as_slice()),
        no_network: level == Fence::Offline,
    })
}
