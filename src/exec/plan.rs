//! The typed plan: what was analysed is what policy reads, what the person sees, what runs.

use crate::protocol::policy::Refusal;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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

impl FileIdentity {
    /// The identity in an open or named file's metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// All links resolved.
    pub path: PathBuf,
    /// Checked again right before the start.
    pub identity: FileIdentity,
}

impl Executable {
    /// Whether the path still names the same unchanged file.
    pub fn is_unchanged(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.is_file() && FileIdentity::of(&metadata) == self.identity)
    }
}

/// Whether the argument vector is a command of its own or hands work to another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// argv is the whole command.
    Direct,
    /// A wrapper, carrier or interpreter that starts something else: never matched by an allowlist here.
    Indirect,
    /// The same, and it is a shell: overrides are reduced (exec d.7).
    Shell,
}

/// Why there is no working directory. Only a policy that asks nothing goes on to report it as the
/// failure of a run, as the original does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CwdProblem {
    /// It does not exist, or we may not look.
    Missing,
    /// It is something else.
    NotADirectory,
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
    /// Canonical working directory; as named when there is a problem with it.
    pub cwd: PathBuf,
    /// Device and inode of it.
    pub cwd_identity: Result<(u64, u64), CwdProblem>,
    /// What `~` means in a pattern: home of the user record.
    pub home: PathBuf,
    /// The complete environment of the child.
    pub env: BTreeMap<String, String>,
    /// What the caller added to it and we accepted; a shell gets only some of it (`env` decides).
    pub overrides: BTreeMap<String, String>,
    /// Canonical display of argv (exec d.1).
    pub command_text: String,
    /// The text that a shell is given, where it can be told (exec d.1); for display only.
    pub command_preview: Option<String>,
    /// The caller's claim.
    pub agent_id: Option<String>,
    /// The caller's claim.
    pub session_key: Option<String>,
    /// Limit of the run.
    pub timeout: Option<Duration>,
    /// The command says it needs the screen.
    pub needs_screen_recording: bool,
}

impl Plan {
    /// The program's path as text; none if there is no program or its path is not Unicode.
    pub fn executable_text(&self) -> Option<&str> {
        self.executable.as_ref().and_then(|executable| executable.path.to_str())
    }

    /// Whether argv[0] is a name that was looked up in the search path.
    pub fn is_bare_name(&self) -> bool {
        self.argv.first().is_some_and(|name| !name.contains('/'))
    }

    /// Checks that program and working directory are still what was analysed.
    ///
    /// # Errors
    /// A refusal with the reason `approval-required`.
    pub fn verify(&self) -> Result<(), Refusal> {
        let changed = |text| Refusal::denied("approval-required", format!("SYSTEM_RUN_DENIED: {text}"));
        if self.executable.as_ref().is_some_and(|executable| !executable.is_unchanged()) {
            return Err(changed("exec approval changed before execution"));
        }
        match self.cwd_identity {
            Ok(identity) if directory_identity(&self.cwd).ok() != Some(identity) => {
                Err(changed("approval cwd changed before execution"))
            }
            _ => Ok(()),
        }
    }

    /// What an approval of this plan is bound to: hex SHA-256 over argv, working directory,
    /// overrides, agent, session, program and the policy it was judged by (A60). Versioned; never
    /// compared with a hash of another process.
    pub fn hash(&self, policy_snapshot: &str) -> String {
        let mut hasher = Sha256::new();
        let mut add = |field: &[u8]| {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field);
        };
        add(b"openclaw-plan-v1");
        add(&(self.argv.len() as u64).to_be_bytes());
        self.argv.iter().for_each(|argument| add(argument.as_bytes()));
        add(self.cwd.as_os_str().as_encoded_bytes());
        add(format!("{:?}", self.cwd_identity).as_bytes());
        add(&(self.overrides.len() as u64).to_be_bytes());
        for (name, value) in &self.overrides {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for claim in [&self.agent_id, &self.session_key] {
            add(&[u8::from(claim.is_some())]);
            add(claim.as_deref().unwrap_or_default().as_bytes());
        }
        let path = self.executable.as_ref().map(|executable| executable.path.as_path());
        add(path.unwrap_or(Path::new("")).as_os_str().as_encoded_bytes());
        add(format!("{:?}", self.executable.as_ref().map(|executable| executable.identity)).as_bytes());
        add(policy_snapshot.as_bytes());
        data_encoding::HEXLOWER.encode(&hasher.finalize())
    }
}

/// Device and inode of a directory.
///
/// # Errors
/// It cannot be looked at, or is something else (`NotADirectory`).
pub fn directory_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() { Ok((metadata.dev(), metadata.ino())) } else { Err(io::ErrorKind::NotADirectory.into()) }
}
