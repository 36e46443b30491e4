//! The typed plan: what was analysed is what policy reads, what the person sees, what runs.

use crate::protocol::policy::Refusal;
use crate::state::files::Stamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that takes part in a run: a program, an interpreter, a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundFile {
    /// All links resolved.
    pub path: PathBuf,
    /// Checked again right before the start.
    pub identity: Stamp,
    /// Hex SHA-256 of the content, where we or others could write to the file or to its directory.
    pub sha256: Option<String>,
}

impl BoundFile {
    /// Whether the path still names the same unchanged file. Cheap, unless its identity was too young
    /// to tell for its content; then that is read again.
    pub fn is_unchanged(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.is_file() && Stamp::of(&metadata) == self.identity)
            && super::identity::has_same_content(self)
    }
}

/// A program: its file, and for a `#!` file what the kernel hands it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// The file that is started.
    pub file: BoundFile,
    /// Of a `#!` file its interpreter, and what that one starts when it is `env`. Empty for a binary.
    pub interpreters: Vec<BoundFile>,
}

impl Executable {
    /// Every file of it.
    pub fn files(&self) -> impl Iterator<Item = &BoundFile> {
        std::iter::once(&self.file).chain(&self.interpreters)
    }
}

/// A directory in which something is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// All links resolved.
    pub path: PathBuf,
    /// Device and inode.
    pub identity: (u64, u64),
}

/// What a plan does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// It was understood: we start exactly this, and no shell. An argument vector that is a command of
    /// its own is one step of one stage.
    Steps(Vec<Step>),
    /// A text for a shell that was not understood: after a person has allowed that very text, the
    /// plan's `executable` gets `argv` as it was sent.
    Opaque(NotUnderstood),
}

/// Why a text was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// What stands there, in words: "command substitution".
    pub reason: String,
    /// Where, in bytes from the beginning of the text.
    pub position: usize,
}

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// First, or behind `;` or a line's end.
    Always,
    /// Behind `&&`.
    Success,
    /// Behind `||`.
    Failure,
}

/// One pipeline of an understood text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// On what of the step before it depends.
    pub after: After,
    /// `!` stands before it.
    pub is_negated: bool,
    /// Where its stages start; none when the plan has no working directory.
    pub directory: Option<Directory>,
    /// All at once, the output of each is the input of the next.
    pub stages: Vec<Stage>,
}

/// One command of a pipeline: what starts, and what policy judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What the program sees, argv[0] included.
    pub argv: Vec<String>,
    /// What starts.
    pub program: Program,
    /// Where descriptor 1 leads.
    pub stdout: Sink,
    /// Where descriptor 2 leads.
    pub stderr: Sink,
    /// What policy judges: the command behind its wrappers.
    pub subject: Subject,
}

impl Stage {
    /// Every file that takes part in it.
    pub fn files(&self) -> impl Iterator<Item = &BoundFile> {
        let program = match &self.program {
            Program::File(executable) => Some(executable),
            Program::Missing | Program::Builtin(_) => None,
        };
        let programs = program.into_iter().chain(&self.subject.executable).chain(&self.subject.wrappers);
        programs.flat_map(Executable::files).chain(self.subject.operand.iter().map(|operand| &operand.file))
    }
}

/// What a stage starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// There is no such program.
    Missing,
    /// This one.
    File(Executable),
    /// Nothing: we do it ourselves.
    Builtin(Builtin),
}

/// What we do ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `true`, `:`; and `cd`, since the plan already says where each step starts.
    True,
    /// `false`
    False,
    /// `pwd`: prints the step's directory.
    Pwd,
}

/// Where an output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Into the pipe to the next stage; of the last stage, the run's standard output.
    Output,
    /// The run's standard error.
    Error,
    /// The null device.
    Null,
}

/// What policy judges of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The command without its transparent wrappers.
    pub argv: Vec<String>,
    /// What its argv[0] names.
    pub executable: Option<Executable>,
    /// How an allowlist may match it.
    pub nature: Nature,
    /// Transparent wrappers in front of it, outermost first; each one's program takes part in the run.
    pub wrappers: Vec<Executable>,
    /// The script file of an interpreter, bound by content.
    pub operand: Option<Operand>,
    /// Why an answer cannot be bound to what runs: its code is in files that its arguments do not name.
    pub unbound: Option<String>,
}

impl Subject {
    /// The program's path as text; none if there is no program or its path is not Unicode.
    pub fn path(&self) -> Option<&str> {
        self.executable.as_ref().and_then(|executable| executable.file.path.to_str())
    }

    /// The name, if argv[0] is one that was looked up in the search path.
    pub fn bare_name(&self) -> Option<&str> {
        self.argv.first().map(String::as_str).filter(|name| !name.contains('/'))
    }
}

/// How an allowlist may match a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nature {
    /// By its program's path, as safe bin, or as skill.
    #[default]
    Plain,
    /// A builtin of the shell that does no harm; it needs no entry.
    SafeBuiltin,
    /// Code stands in its arguments: only by an entry that names the arguments too. In words.
    InlineCode(String),
    /// Never; why, in words.
    PromptOnly(String),
}

/// A script file among the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its place in the subject's argv.
    pub index: usize,
    /// Always with its hash.
    pub file: BoundFile,
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
    /// What is done.
    pub work: Work,
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
        self.executable.as_ref().and_then(|executable| executable.file.path.to_str())
    }

    /// Whether the steps are those of a text for a shell, which itself is not started. A command in the text is shorter
    /// than the argument vector that holds the text, so none of them equals it.
    pub fn replaces_shell(&self) -> bool {
        matches!(self.work, Work::Steps(_)) && !self.stages().any(|stage| stage.argv == self.argv)
    }

    /// Every stage, in order; none of a text that was not understood.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        let steps = match &self.work {
            Work::Steps(steps) => steps.as_slice(),
            Work::Opaque(_) => &[],
        };
        steps.iter().flat_map(|step| &step.stages)
    }

    /// Every file that takes part in the run as far as it is known before.
    pub fn files(&self) -> impl Iterator<Item = &BoundFile> {
        self.executable.iter().flat_map(Executable::files).chain(self.stages().flat_map(Stage::files))
    }

    /// Checks that program and working directory are still what was analysed.
    ///
    /// # Errors
    /// A refusal with the reason `approval-required`.
    pub fn verify(&self) -> Result<(), Refusal> {
        if !self.files().all(BoundFile::is_unchanged) {
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
        // Everything that was understood, files and their hashes included.
        add(format!("{:?}{:?}", self.executable, self.work).as_bytes());
        add(policy_snapshot.as_bytes());
        data_encoding::HEXLOWER.encode(&hasher.finalize())
    }
}

/// The refusal of a plan that is no longer what was looked at; `text` in words.
pub fn changed(text: &str) -> Refusal {
    Refusal::denied("approval-required", format!("SYSTEM_RUN_DENIED: {text}"))
}

/// Device and inode of a directory.
///
/// # Errors
/// It cannot be looked at, or is something else (`NotADirectory`).
pub fn directory_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() { Ok((metadata.dev(), metadata.ino())) } else { Err(io::ErrorKind::NotADirectory.into()) }
}
