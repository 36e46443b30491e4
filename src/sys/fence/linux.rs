use super::{UNHIDDEN, Walls};
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Means {}

impl Means {
    pub(super) fn find(_program: &Path, _hidden: &[PathBuf]) -> (Self, String) {
        (Self::default(), format!("none (not built): {UNHIDDEN}"))
    }

    pub(super) fn enclose(&self, walls: &Walls<'_>) -> Result<Enclosure, String> {
        if walls.write_only_below.is_some() {
            return Err("writing elsewhere cannot be prevented here".to_owned());
        }
        if walls.no_network {
            return Err("the network cannot be taken away here".to_owned());
        }
        Ok(Enclosure { no_new_privileges: true })
    }
}

/// What one command starts in.
#[derive(Debug)]
pub struct Enclosure {
    no_new_privileges: bool,
}

impl Enclosure {
    /// No fence at all: the level `none`.
    pub fn none() -> Self {
        Self { no_new_privileges: false }
    }

    pub(in crate::sys) fn has_other_mounts(&self) -> bool {
        false
    }

    pub(in crate::sys) unsafe fn enter(&self) -> libc::c_int {
        0
    }

    pub(in crate::sys) unsafe fn shut(&self) -> libc::c_int {
        if self.no_new_privileges {
            // SAFETY: takes integers.
            return unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        }
        0
    }
}
