//! The typed plan: what was analysed is what policy reads, what the person sees, what runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Which file a path named when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Status change time, nanoseconds since 1970.
    pub ctime_ns: i128,
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// All links resolved.
    pub path: PathBuf,
    /// Checked again right before the start.
    pub identity: FileIdentity,
}

/// Whether the argument vector is a command of its own or hands text to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// argv is the whole command.
    Direct,
    /// A shell, or a wrapper that starts something else: never matched by an allowlist here.
    Indirect,
}

/// What will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// As sent, argv[0] included.
    pub argv: Vec<String>,
    /// What argv[0] names; none when there is no such program.
    pub executable: Option<Executable>,
    /// Direct or through something else.
    pub form: Form,
    /// Canonical working directory.
    pub cwd: PathBuf,
    /// Device and inode of it.
    pub cwd_identity: (u64, u64),
    /// The complete environment of the child.
    pub env: BTreeMap<String, String>,
    /// What the caller added to it.
    pub overrides: BTreeMap<String, String>,
    /// Canonical display of argv (exec d.1).
    pub command_text: String,
    /// The caller's claim.
    pub agent_id: Option<String>,
    /// The caller's claim.
    pub session_key: Option<String>,
    /// Limit of the run.
    pub timeout: Option<Duration>,
    /// The command says it needs the screen.
    pub needs_screen_recording: bool,
}
