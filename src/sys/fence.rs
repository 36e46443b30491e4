//! What a command that runs for an agent is kept from: our state directory and sockets, writing
//! elsewhere, the network. Which means the system offers is found out once, at start, by trying.

#[cfg(not(target_os = "macos"))]
#[path = "fence/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "fence/macos.rs"]
mod platform;

use super::poll::{self, Interest};
use super::spawn::{self, Command, Exit, Program};
use crate::limits;
pub use platform::Enclosure;
#[cfg(target_os = "macos")]
pub(super) use platform::{CHANNEL, Launch};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a fence is asked for. In any case, as far as the system has means for it (as
/// [`Fencer::mechanism`] tells), what [`Fencer::prepare`] was told to hide is out of reach, and set-uid
/// programs gain nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walls<'a> {
    /// No writing anywhere but below these directories, and to devices that keep nothing.
    pub write_only_below: Option<&'a [&'a Path]>,
    /// No network but one of its own, on which nobody else is.
    pub no_network: bool,
}

/// A directory inside a hidden one that commands reach all the same.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Canonical; itself no link.
    pub path: PathBuf,
    /// Whether they may change what is in it.
    pub is_writable: bool,
}

/// Encloses commands with what works on this system.
#[derive(Debug)]
pub struct Fencer {
    means: platform::Means,
    mechanism: String,
    hidden: Vec<PathBuf>,
}

impl Fencer {
    /// Tries what there is in a child of its own and keeps what works. `program` is our own binary.
    /// `hidden` names what commands shall not reach: directories, or files that nobody replaces. If one
    /// comes, goes or is replaced later, commands are refused until we start again. `gaps` that are there now
    /// stay in reach, as they are now.
    pub fn prepare(program: &Path, hidden: &[PathBuf], gaps: &[Gap]) -> Self {
        let (means, mechanism) = platform::Means::find(program, hidden, gaps);
        Self { means, mechanism, hidden: hidden.iter().filter_map(|path| path.canonicalize().ok()).collect() }
    }

    /// Without any means, for this reason: whatever can be done without is done without.
    pub fn none(reason: &str) -> Self {
        let mechanism = format!("none ({reason}): {UNHIDDEN}");
        Self { means: platform::Means::default(), mechanism, hidden: Vec::new() }
    }

    /// Whether commands cannot reach this canonical place.
    pub fn hides(&self, place: &Path) -> bool {
        self.means.gaps().is_some_and(|gaps| {
            self.hidden.iter().any(|hidden| place.starts_with(hidden)) && !gaps.iter().any(|gap| place.starts_with(gap))
        })
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

/// argv[0] of our own binary when it is the helper in front of the fence. Whoever else starts it so can
/// do with it what they can do without it.
const RESERVED_NAME: &str = "openclaw-fence";

/// Does the helper's work if that is what this process was started for.
pub fn serve(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.peekable();
    arguments.next_if(|name| name == RESERVED_NAME)?;
    Some(match platform::serve(arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("{RESERVED_NAME}: {refusal}");
            ExitCode::from(CANNOT_START)
        }
    })
}

/// Exit code of a helper that could not do its work; shells use it for what cannot be started.
const CANNOT_START: u8 = 126;

/// Starts a program behind `fence` as every command will be started, and wants it to succeed.
fn try_out(program: &Path, arguments: &[OsString], fence: &Enclosure) -> Result<(), String> {
    let exit = || -> io::Result<Option<Exit>> {
        let root = Path::new("/");
        let directory = spawn::open_directory(root)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let child = spawn::spawn(&Command {
            program: Program::Path(program),
            arguments,
            environment: &[],
            directory: directory.as_fd(),
            directory_path: root,
            streams: [null.as_fd(); 3],
            open_files: None,
            fence,
            ends_with_us: false,
        })?;
        poll::wait_one(child.exited(), Interest::Readable, poll::deadline_in(limits::FENCE_WAIT))?;
        Ok(child.exit())
    };
    match exit() {
        Ok(Some(Exit::Code(0))) => Ok(()),
        Ok(exit) => Err(format!("a trial behind the fence ended with {exit:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What is said where nothing can be hidden.
const UNHIDDEN: &str = "not fenced: token files are readable by commands";
