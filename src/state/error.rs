//! What can be wrong with what lies on disk, each with a sentence that says what to do.

use crate::limits;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The one error of this room.
#[derive(Debug)]
pub enum StateError {
    /// The system refused.
    Io {
        /// What we were doing: `read`, `create` …
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file or directory that somebody else could have written, or that is not what it should be.
    Unsafe {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file that does not mean what it should. It is kept as it is.
    Broken {
        /// Which one.
        path: PathBuf,
        /// What is wrong in it; never a secret's text.
        why: String,
    },
    /// Another process has kept a document's lock for longer than we wait.
    Busy {
        /// The document.
        path: PathBuf,
    },
    /// Another instance runs.
    AlreadyHeld {
        /// The lock.
        path: PathBuf,
        /// The process that holds it, where it has said so.
        pid: Option<u32>,
    },
    /// A setting that we cannot work with.
    Setting {
        /// The key in `openclaw.json` or the name of the variable.
        name: String,
        /// What is wrong and what to do; never a secret's text.
        what: String,
    },
    /// The audit log cannot be written, so nothing may start.
    Audit(Box<StateError>),
    /// There is no shared secret yet and this caller may not make one.
    NoSharedSecret,
}

impl StateError {
    pub(super) fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), error }
    }

    pub(super) fn unsafe_file(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsafe { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn broken(path: &Path, why: impl Into<String>) -> Self {
        Self::Broken { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn setting(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Setting { name: name.into(), what: what.into() }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, error } => write!(f, "cannot {doing} {}: {error}", path.display()),
            Self::Unsafe { path, what } => write!(f, "{} is not used: {what}", path.display()),
            Self::Broken { path, why } => write!(f, "{} cannot be understood and was left as it is: {why}", path.display()),
            Self::Busy { path } => write!(
                f,
                "{} is locked by another process for more than {} s; try again",
                path.display(),
                limits::DOCUMENT_LOCK_WAIT.as_secs()
            ),
            Self::AlreadyHeld { path, pid: Some(pid) } => {
                write!(f, "already running as process {pid} (lock {})", path.display())
            }
            Self::AlreadyHeld { path, pid: None } => write!(f, "already running (lock {})", path.display()),
            Self::Setting { name, what } => write!(f, "{name}: {what}"),
            Self::Audit(error) => write!(f, "the audit log cannot be written: {error}; free space or repair it"),
            Self::NoSharedSecret => f.write_str(
                "there is no gateway token yet; start `openclaw app` or `openclaw gateway` once, or set OPENCLAW_GATEWAY_TOKEN",
            ),
        }
    }
}

impl std::error::Error for StateError {}
