//! Launchd agents and systemd user units: one file a service, and the session's own service manager to
//! start it. The file names what to run and never a secret: a token that was given at `install` is kept in
//! a file of its own (0600), which the service reads. Source: issue part 3, point 5; spec mac-app §1.4.

mod launchd;
mod systemd;
mod tool;

use crate::identity::secret::Secret;
use crate::state::paths::DeviceOwner;
use crate::state::{Care, DocumentLock, Environment, StateDir, StateError, files};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What runs as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `openclaw gateway`
    Gateway,
    /// `openclaw node`
    Node,
    /// `openclaw app`
    App,
}

impl Role {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Node, Self::App];

    /// Its subcommand.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Node => "node",
            Self::App => "app",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Gateway => "OpenClaw gateway",
            Self::Node => "OpenClaw node host",
            Self::App => "OpenClaw app",
        }
    }

    /// Where the token lies that it was installed with; a gateway's own secret is in its settings.
    fn token(self, state: &StateDir) -> Option<PathBuf> {
        match self {
            Self::Gateway => None,
            Self::Node => Some(state.service_token(DeviceOwner::NodeHost)),
            Self::App => Some(state.service_token(DeviceOwner::App)),
        }
    }
}

/// What can be done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Write its file, start it now and at each login.
    Install,
    /// End it and remove what `install` wrote.
    Uninstall,
    /// Start it; nothing when it runs.
    Start,
    /// End it until the next `start` or login.
    Stop,
    /// End it and start it.
    Restart,
    /// Look.
    Status,
}

impl FromStr for Verb {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "install" => Ok(Self::Install),
            "uninstall" => Ok(Self::Uninstall),
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "restart" => Ok(Self::Restart),
            "status" => Ok(Self::Status),
            _ => Err(()),
        }
    }
}

/// What `install` writes down.
#[derive(Clone)]
pub struct Service {
    /// Which one.
    pub role: Role,
    /// Absolute path of this binary.
    pub program: PathBuf,
    /// Everything after it.
    pub arguments: Vec<OsString>,
    /// Variables of its own; never a secret.
    pub environment: Vec<(&'static str, OsString)>,
    /// Its `PATH` under launchd, which gives a job next to none. Source: spec mac-app §1.11.
    pub search_path: String,
    /// The state directory. launchd puts the log there; a systemd unit writes to the journal, which is bounded.
    pub state: StateDir,
}

/// What the service manager knows of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    is_loaded: bool,
    is_running: bool,
    pid: Option<u32>,
    last_exit_code: Option<i32>,
}

/// How a service stands, as `status` tells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `node` or `app`.
    pub service: &'static str,
    /// `launchd` or `systemd`.
    pub manager: &'static str,
    /// What the manager calls it.
    pub name: &'static str,
    /// Whether its file is there.
    pub installed: bool,
    /// Whether it runs as a service now; a run by hand does not count.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// How it ended the last time.
    pub last_exit_code: Option<i32>,
    /// The unit or property list.
    pub file: PathBuf,
    /// The log file, or the command that shows the log.
    pub log: String,
    /// Why the manager could not be asked.
    pub problem: Option<String>,
}

/// Why a service was not installed, started, ended or removed.
#[derive(Debug)]
pub enum ServiceError {
    /// A file of it, or of the state directory.
    State(StateError),
    /// Something that no unit or property list can hold.
    Text(OsString),
    /// No service manager answers here; the text says why.
    NoManager(String),
    /// The manager's tool failed: what was asked and what it said.
    Tool(String, String),
    /// A file that this program did not write lies there.
    Foreign(PathBuf),
    /// There is nothing to start or end.
    NotInstalled(Role),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Text(text) => write!(
                f,
                "{} cannot stand in a service's file: it is not UTF-8 or has a line break or another control character; use another name",
                text.display()
            ),
            Self::NoManager(why) => write!(
                f,
                "no service manager answers here ({why}); run the same command with `run` in place of the verb, under whatever starts your programs"
            ),
            Self::Tool(asked, said) => write!(f, "`{asked}` failed: {said}"),
            Self::Foreign(path) => write!(
                f,
                "{} was not written by this program (by the original product?), so it is left alone; remove it with what wrote it, then install",
                path.display()
            ),
            Self::NotInstalled(role) => {
                write!(f, "it is not installed as a service; `openclaw {} install` does that", role.word())
            }
        }
    }
}

impl std::error::Error for ServiceError {}

impl From<StateError> for ServiceError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Stands in each file that we write; what lacks it is somebody else's.
const MARK: &str = "Written by openclaw itself; to change it, run its install again. State directory: ";

/// Asks the manager's tool; the answer has its exit code and all that it printed.
type Tool = Box<dyn Fn(&[&str]) -> Result<tool::Answer, ServiceError>>;

/// One service manager.
trait Manager {
    fn word(&self) -> &'static str;
    /// Its name for the service.
    fn name(&self, role: Role) -> &'static str;
    fn file(&self, role: Role) -> PathBuf;
    /// Where a person finds the log.
    fn log(&self, role: Role, state: &StateDir) -> String;
    fn render(&self, service: &Service) -> Result<String, ServiceError>;
    fn state(&self, role: Role) -> Result<State, ServiceError>;
    /// From now on it starts by itself, with what its file says now; `is_changed` when that may be other
    /// than what runs.
    fn take_up(&self, role: Role, before: State, is_changed: bool) -> Result<(), ServiceError>;
    fn start(&self, role: Role, before: State) -> Result<(), ServiceError>;
    fn restart(&self, role: Role, before: State) -> Result<(), ServiceError>;
    fn stop(&self, role: Role, before: State) -> Result<(), ServiceError>;
    /// It starts by itself from the next login on; now nothing is started.
    fn enroll(&self, role: Role) -> Result<(), ServiceError>;
    /// It starts by itself no more; called while its file is still there.
    fn let_go(&self, role: Role) -> Result<(), ServiceError>;
    /// Its file is gone.
    fn forget(&self) -> Result<(), ServiceError>;
}

/// This session's services.
pub struct Services {
    manager: Box<dyn Manager>,
    state: StateDir,
}

impl Services {
    /// The services of the user whose home directory this is. Looks at nothing yet.
    pub fn of(home: &Path, state: StateDir) -> Self {
        let manager: Box<dyn Manager> = if cfg!(target_os = "macos") {
            Box::new(launchd::Launchd::new(home, tool::launchctl()))
        } else {
            Box::new(systemd::Systemd::new(home, tool::systemctl(home)))
        };
        Self { manager, state }
    }

    /// Writes the service's file, unless it says the same already, and has it run. `token` is kept for it.
    ///
    /// # Errors
    /// See [`ServiceError`]; without a manager nothing is written.
    pub fn install(&self, service: Service, token: Option<&Secret>) -> Result<(), ServiceError> {
        let role = service.role;
        self.refuse_foreign(role)?;
        let before = self.manager.state(role)?;
        let is_changed = self.write_down(service, token)?;
        self.manager.take_up(role, before, is_changed)
    }

    /// Has the service start at each login from the next one on, or not any more. What runs goes on either way: it may
    /// be the caller. Source: spec mac-app §1.4.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn set_at_login(&self, service: Service, is_on: bool) -> Result<(), ServiceError> {
        let role = service.role;
        if !self.refuse_foreign(role)? && !is_on {
            return Ok(());
        }
        self.manager.state(role)?;
        if is_on {
            self.write_down(service, None)?;
            return self.manager.enroll(role);
        }
        // Its token stays for what runs: after a crash it is started again.
        self.remove_file(role)
    }

    /// True when its file or its token is other than before.
    fn write_down(&self, mut service: Service, token: Option<&Secret>) -> Result<bool, ServiceError> {
        let role = service.role;
        self.state.prepare()?;
        let (token_path, old_token_path) = (role.token(&self.state), role.token(&self.state_of(role)));
        let mut is_new_token = false;
        if let Some(path) = &token_path {
            if let Some(token) = token {
                is_new_token = write(path, &format!("{}\n", token.expose_text()))?;
            }
            // Also one of an earlier install: it is kept until `uninstall`.
            if files::stamp(path)?.is_some() {
                service.arguments.push(STORED_TOKEN.into());
            }
        }
        let text = self.manager.render(&service)?;
        files::secure_directory(&self.state.logs())?;
        let is_new_text = write(&self.manager.file(role), &text)?;
        if let Some(old) = old_token_path.filter(|old| Some(old) != token_path.as_ref()) {
            remove(&old)?;
        }
        Ok(is_new_text || is_new_token)
    }

    fn remove_file(&self, role: Role) -> Result<(), ServiceError> {
        self.manager.let_go(role)?;
        remove(&self.manager.file(role))?;
        self.manager.forget()
    }

    /// Ends the service and removes its file and token; false when there was nothing.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn uninstall(&self, role: Role) -> Result<bool, ServiceError> {
        let is_installed = self.refuse_foreign(role)?;
        let token = role.token(&self.state_of(role));
        let before = match self.manager.state(role) {
            Err(_) if !is_installed => State::default(),
            other => other?,
        };
        if before.is_loaded {
            self.manager.stop(role, before)?;
        }
        if is_installed {
            self.remove_file(role)?;
        }
        token.map_or(Ok(()), |token| remove(&token))?;
        Ok(is_installed || before.is_loaded)
    }

    /// Starts an installed service.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn start(&self, role: Role) -> Result<(), ServiceError> {
        self.manager.start(role, self.installed(role)?)
    }

    /// Ends an installed service's process.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn stop(&self, role: Role) -> Result<(), ServiceError> {
        self.manager.stop(role, self.installed(role)?)
    }

    /// Ends an installed service's process and starts another.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn restart(&self, role: Role) -> Result<(), ServiceError> {
        self.manager.restart(role, self.installed(role)?)
    }

    /// How it stands.
    pub fn status(&self, role: Role) -> Status {
        let file = self.manager.file(role);
        let (state, problem) = match self.manager.state(role) {
            Ok(state) => (state, None),
            Err(error) => (State::default(), Some(error.to_string())),
        };
        Status {
            service: role.word(),
            manager: self.manager.word(),
            name: self.manager.name(role),
            installed: self.is_installed(role),
            running: state.is_running,
            pid: state.pid,
            last_exit_code: state.last_exit_code,
            log: self.manager.log(role, &self.state_of(role)),
            file,
            problem,
        }
    }

    /// Whether its file is there, whoever wrote it.
    pub fn is_installed(&self, role: Role) -> bool {
        self.manager.file(role).symlink_metadata().is_ok()
    }

    fn installed(&self, role: Role) -> Result<State, ServiceError> {
        if !self.refuse_foreign(role)? {
            return Err(ServiceError::NotInstalled(role));
        }
        self.manager.state(role)
    }

    /// The state directory that the service was installed with, whatever this call was told.
    fn state_of(&self, role: Role) -> StateDir {
        let path = self.manager.file(role);
        let noted = || {
            let found = files::read(&path, Care::Inspect).ok()??;
            let line = found.text(&path).ok()?.lines().find_map(|line| line.split_once(MARK))?.1;
            let root = line.strip_suffix("</string>").map_or_else(|| line.to_owned(), launchd::unescaped);
            StateDir::locate(&Environment { state_dir: Some(root.into()), ..Environment::default() }).ok()
        };
        noted().unwrap_or_else(|| self.state.clone())
    }

    /// Whether our file is there.
    fn refuse_foreign(&self, role: Role) -> Result<bool, ServiceError> {
        let path = self.manager.file(role);
        match files::read(&path, Care::Inspect)? {
            Some(found) if found.text(&path)?.contains(MARK) => Ok(true),
            Some(_) => Err(ServiceError::Foreign(path)),
            None => Ok(false),
        }
    }
}

/// The switch by which a service is told to read its stored token.
const STORED_TOKEN: &str = "--stored-token";

/// The token that was given when the service was installed.
///
/// # Errors
/// There is none, or its file is unsafe.
pub fn stored_token(state: &StateDir, role: Role) -> Result<Secret, ServiceError> {
    let path = role.token(state).ok_or(ServiceError::NotInstalled(role))?;
    let found = files::read(&path, Care::Secret)?.ok_or(ServiceError::NotInstalled(role))?;
    Ok(Secret::new(found.text(&path)?.trim().to_owned()))
}

/// The log that a service under launchd writes and turns over itself.
pub fn log_file(state: &StateDir, role: Role) -> PathBuf {
    state.logs().join(format!("{}.log", role.word()))
}

/// What launchd opens as a service's output: crashes end up there. Source: spec mac-app §1.5.
pub fn output_file(state: &StateDir, role: Role) -> PathBuf {
    state.logs().join(format!("{}-stdout.log", role.word()))
}

/// False when the file says just that already.
fn write(path: &Path, text: &str) -> Result<bool, ServiceError> {
    let lock = DocumentLock::take(path)?;
    if files::read(path, Care::Inspect)?.is_some_and(|found| found.bytes == text.as_bytes()) {
        return Ok(false);
    }
    files::replace(&lock, text.as_bytes())?;
    Ok(true)
}

fn remove(path: &Path) -> Result<(), ServiceError> {
    if files::stamp(path)?.is_some() {
        files::remove(DocumentLock::take(path)?)?;
    }
    Ok(())
}

/// Text that both kinds of file can hold.
fn plain(text: &OsStr) -> Result<&str, ServiceError> {
    // No XML document may have the last two.
    let is_bad = |character: char| character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}');
    text.to_str().filter(|text| !text.contains(is_bad)).ok_or_else(|| ServiceError::Text(text.to_owned()))
}

#[cfg(test)]
mod tests;
