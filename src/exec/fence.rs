//! Which walls a fence level stands for. Source: issue part 2, point 6.

use crate::protocol::policy::Fence;
use crate::sys::fence::{Enclosure, Fencer};
use std::path::Path;

/// What a command in `workspace` is kept in at this level.
///
/// # Errors
/// A sentence: this machine cannot do that.
pub fn enclose(fencer: &Fencer, level: Fence, workspace: &Path) -> Result<Enclosure, String> {
    fencer.enclose(level, workspace)
}
