//! The manager's own tool, by a fixed path, with few variables, bounded output and bounded time.

use super::{ServiceError, Tool};
use crate::limits;
use crate::sys::process;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a tool said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All that it printed.
    pub text: String,
}

impl Answer {
    /// The answer of a tool that had to succeed.
    pub fn checked(self, arguments: &[&str]) -> Result<Self, ServiceError> {
        match self.code {
            Some(0) => Ok(self),
            _ => Err(ServiceError::Tool(arguments.join(" "), self.said())),
        }
    }

    /// For a sentence.
    pub fn said(&self) -> String {
        let code = self.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        match self.text.trim() {
            "" => code,
            text => format!("{} ({code})", text.replace('\n', "; ")),
        }
    }
}

/// macOS has it there, and nobody can put another one in its place.
pub(super) fn launchctl() -> Tool {
    Box::new(|arguments| run(Path::new("/bin/launchctl"), arguments, Vec::new()))
}

/// Where systems have it; the last one is NixOS.
const SYSTEMCTL: [&str; 3] = ["/usr/bin/systemctl", "/bin/systemctl", "/run/current-system/sw/bin/systemctl"];

pub(super) fn systemctl(home: &Path) -> Tool {
    let mut variables: Vec<(&str, OsString)> = vec![("HOME", home.into())];
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
    }
    // After `su` or in a cron job there is no variable, but there may be a session.
    let session = PathBuf::from(format!("/run/user/{}", process::effective_uid()));
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && session.is_dir() {
        variables.push(("XDG_RUNTIME_DIR", session.into()));
    }
    Box::new(move |arguments| {
        let Some(program) = SYSTEMCTL.iter().map(Path::new).find(|path| path.exists()) else {
            return Err(ServiceError::NoManager("there is no systemctl".to_owned()));
        };
        let arguments: Vec<&str> =
            ["--user", "--no-pager", "--no-ask-password"].iter().chain(arguments).copied().collect();
        run(program, &arguments, variables.clone())
    })
}

fn run(program: &Path, arguments: &[&str], variables: Vec<(&str, OsString)>) -> Result<Answer, ServiceError> {
    let failed = |error: std::io::Error| ServiceError::NoManager(format!("{}: {error}", program.display()));
    let deadline = Instant::now() + limits::SERVICE_TOOL_WAIT;
    let (output, writer) = std::io::pipe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(variables)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .spawn()
        .map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new().name("tool".into()).spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.take(limits::SERVICE_TOOL_BYTES).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let ended = loop {
        match child.try_wait() {
            Ok(None) if reader.is_ok() && Instant::now() < deadline => std::thread::sleep(GLANCE),
            Ok(Some(status)) => break status,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let waited = format!("no answer within {} s", limits::SERVICE_TOOL_WAIT.as_secs());
                return Err(ServiceError::Tool(arguments.join(" "), waited));
            }
        }
    };
    let bytes = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
    Ok(Answer { code: ended.code(), text: String::from_utf8_lossy(&bytes).into_owned() })
}

const GLANCE: Duration = Duration::from_millis(5);
