//! What a command that runs for an agent is kept from: our state directory and sockets, writing
//! elsewhere, the network. Which means the system offers is found out once, at start, by trying.

#[cfg(not(target_os = "macos"))]
#[path = "fence/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "fence/macos.rs"]
mod platform;

pub use platform::Enclosure;
use std::path::{Path, PathBuf};

/// What a fence is asked to keep a command from. Whatever is asked, a command inside gains no
/// privileges from set-uid programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walls<'a> {
    /// Looking into, changing and connecting to what [`Fencer::prepare`] was told to hide. The one
    /// wall that is done without where the system has no means for it; [`Fencer::mechanism`] says so.
    pub hide: bool,
    /// Writing anywhere but below these directories and to the harmless devices.
    pub write_only_below: Option<&'a [&'a Path]>,
    /// The network, loopback included.
    pub no_network: bool,
}

/// Encloses commands with what works on this system.
#[derive(Debug)]
pub struct Fencer {
    means: platform::Means,
    mechanism: String,
}

impl Fencer {
    /// Tries what there is in a child of its own and keeps what works. `program` is our own binary.
    /// `hidden` names what commands shall not reach; it must stay where it is as long as we run.
    pub fn prepare(program: &Path, hidden: &[PathBuf]) -> Self {
        let (means, mechanism) = platform::Means::find(program, hidden);
        Self { means, mechanism }
    }

    /// Without any means, for this reason: whatever can be done without is done without.
    pub fn none(reason: &str) -> Self {
        Self { means: platform::Means::default(), mechanism: format!("none ({reason}): {UNHIDDEN}") }
    }

    /// In words, for `status` and the audit record.
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// What encloses one command.
    ///
    /// # Errors
    /// A sentence: it cannot be fenced as asked, so it must not run.
    pub fn enclose(&self, walls: &Walls<'_>) -> Result<Enclosure, String> {
        self.means.enclose(walls).map_err(|missing| format!("{missing} (fence: {})", self.mechanism))
    }
}

/// What is said where nothing can be hidden.
const UNHIDDEN: &str = "not fenced: token files are readable by commands";
