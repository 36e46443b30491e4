//! A systemd user unit. Source: systemd.service(5), systemd.syntax(7), systemctl(1).

use super::tool::Answer;
use super::{MARK, Manager, Role, Service, ServiceError, State, Tool, plain};
use crate::state::StateDir;
use std::path::{Path, PathBuf};

/// `systemctl --user` and where its units lie.
pub(super) struct Systemd {
    units: PathBuf,
    tool: Tool,
}

impl Systemd {
    pub fn new(home: &Path, tool: Tool) -> Self {
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        Self::in_directory(config.unwrap_or_else(|| home.join(".config")).join("systemd/user"), tool)
    }

    pub fn in_directory(units: PathBuf, tool: Tool) -> Self {
        Self { units, tool }
    }

    fn call(&self, arguments: &[&str]) -> Result<Answer, ServiceError> {
        (self.tool)(arguments)?.checked(arguments)
    }
}

impl Manager for Systemd {
    fn word(&self) -> &'static str {
        "systemd"
    }

    fn name(&self, role: Role) -> &'static str {
        match role {
            Role::Gateway => "openclaw-gateway.service",
            Role::Node => "openclaw-node.service",
            Role::App => "openclaw-app.service",
        }
    }

    fn file(&self, role: Role) -> PathBuf {
        self.units.join(self.name(role))
    }

    fn log(&self, role: Role, _state: &StateDir) -> String {
        format!("journalctl --user --unit {}", self.name(role))
    }

    fn render(&self, service: &Service) -> Result<String, ServiceError> {
        // The colon: `$` means nothing in this line.
        let mut command = quoted(&format!(":{}", plain(service.program.as_os_str())?));
        for argument in &service.arguments {
            command.push(' ');
            command.push_str(&quoted(plain(argument)?));
        }
        let mut environment = String::new();
        for (name, value) in &service.environment {
            environment.push_str(&format!("Environment={}\n", quoted(&format!("{name}={}", plain(value)?))));
        }
        // Exit code 2 is wrong usage, which no second try mends.
        Ok(format!(
            "# {MARK}{}\n[Unit]\nDescription={}\n\n[Service]\nType=exec\nExecStart={command}\n{environment}\
             Restart=on-failure\nRestartSec=10\nRestartPreventExitStatus=2\nTimeoutStopSec=10\nUMask=0077\n\n\
             [Install]\nWantedBy=default.target\n",
            plain(service.state.root().as_os_str())?,
            service.role.title()
        ))
    }

    fn state(&self, role: Role) -> Result<State, ServiceError> {
        let answer = (self.tool)(&[
            "show",
            "--property=LoadState,ActiveState,MainPID,ExecMainCode,ExecMainStatus",
            self.name(role),
        ])?;
        if answer.code != Some(0) {
            return Err(ServiceError::NoManager(answer.said()));
        }
        Ok(state(&answer.text))
    }

    fn take_up(&self, role: Role, before: State, is_changed: bool) -> Result<(), ServiceError> {
        self.enroll(role)?;
        if is_changed { self.restart(role, before) } else { self.start(role, before) }
    }

    fn start(&self, role: Role, _before: State) -> Result<(), ServiceError> {
        self.call(&["start", self.name(role)]).map(drop)
    }

    fn restart(&self, role: Role, _before: State) -> Result<(), ServiceError> {
        self.call(&["restart", self.name(role)]).map(drop)
    }

    fn stop(&self, role: Role, _before: State) -> Result<(), ServiceError> {
        self.call(&["stop", self.name(role)]).map(drop)
    }

    fn enroll(&self, role: Role) -> Result<(), ServiceError> {
        self.forget()?;
        self.call(&["enable", self.name(role)]).map(drop)
    }

    fn let_go(&self, role: Role) -> Result<(), ServiceError> {
        self.call(&["disable", self.name(role)]).map(drop)
    }

    fn forget(&self) -> Result<(), ServiceError> {
        self.call(&["daemon-reload"]).map(drop)
    }
}

/// One word of a unit file; `%` would be a specifier.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// What `show` printed, one `Name=value` a line.
fn state(text: &str) -> State {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim).unwrap_or_default()
    };
    /// `ExecMainCode` of a process that called exit (`CLD_EXITED`).
    const EXITED: &str = "1";
    State {
        is_loaded: value("LoadState") == "loaded",
        is_running: matches!(value("ActiveState"), "active" | "reloading"),
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
        last_exit_code: value("ExecMainStatus").parse().ok().filter(|_| value("ExecMainCode") == EXITED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_prints() {
        let running = "LoadState=loaded\nActiveState=active\nMainPID=77\nExecMainCode=0\nExecMainStatus=0\n";
        let expected = State { is_loaded: true, is_running: true, pid: Some(77), last_exit_code: None };
        assert_eq!(state(running), expected);
        let failed = "LoadState=loaded\nActiveState=activating\nMainPID=0\nExecMainCode=1\nExecMainStatus=78\n";
        assert_eq!(state(failed), State { is_loaded: true, last_exit_code: Some(78), ..State::default() });
        let killed = "LoadState=loaded\nActiveState=failed\nMainPID=0\nExecMainCode=2\nExecMainStatus=9\n";
        assert_eq!(state(killed), State { is_loaded: true, ..State::default() });
        assert_eq!(state("LoadState=not-found\nActiveState=inactive\nMainPID=0\n"), State::default());
        assert_eq!(state(""), State::default());
    }
}
