//! A launchd agent of the logged-in user. Source: spec mac-app §1.4, §1.7.

use super::tool::Answer;
use super::{MARK, Manager, Role, Service, ServiceError, State, Tool, log_file, output_file, plain};
use crate::limits;
use crate::state::StateDir;
use crate::sys::process;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// `launchctl` and where its agents lie.
pub(super) struct Launchd {
    agents: PathBuf,
    home: PathBuf,
    tool: Tool,
}

/// `launchctl print` of a job that is not loaded. Source: spec mac-app §1.4, as all exit codes here.
const NOT_FOUND: i32 = 113;
/// What is asked for is still under way, or the job that was there is not gone yet.
const BUSY: [i32; 3] = [5, 36, 37];
/// `bootout` of a job that is not loaded.
const NO_SUCH_PROCESS: i32 = 3;
/// Nobody is logged in at the screen.
const NO_SESSION: [i32; 2] = [125, 134];

/// What launchctl's exit codes mean; its own words rarely say it.
const MEANINGS: [(i32, &str); 8] = [
    (NO_SUCH_PROCESS, "there is no such job"),
    (5, "the job is loaded already, is disabled, or its file cannot be read"),
    (36, "the job is still ending; try again in a moment"),
    (37, "launchd is still busy with it; try again in a moment"),
    (NOT_FOUND, "launchd does not know the job; install it again"),
    (119, "the job is disabled; `launchctl enable` with its name allows it again"),
    (125, "this login has no screen, as over ssh; log in at this Mac's screen first"),
    (134, "the job needs a session with a screen; log in at this Mac's screen first"),
];

/// The answer of a call that had to succeed.
fn checked(answer: Answer, arguments: &[&str]) -> Result<Answer, ServiceError> {
    if answer.code == Some(0) {
        return Ok(answer);
    }
    let meaning = MEANINGS.iter().find(|(code, _)| answer.code == Some(*code));
    let said = meaning.map_or_else(|| answer.said(), |(_, meaning)| format!("{}: {meaning}", answer.said()));
    Err(if answer.code.is_some_and(|code| NO_SESSION.contains(&code)) {
        ServiceError::NoManager(said)
    } else {
        ServiceError::Tool(arguments.join(" "), said)
    })
}

impl Launchd {
    pub fn new(home: &Path, tool: Tool) -> Self {
        Self { agents: home.join("Library/LaunchAgents"), home: home.to_owned(), tool }
    }

    fn domain() -> String {
        format!("gui/{}", process::effective_uid())
    }

    fn target(&self, role: Role) -> String {
        format!("{}/{}", Self::domain(), self.name(role))
    }

    fn call(&self, arguments: &[&str]) -> Result<Answer, ServiceError> {
        checked((self.tool)(arguments)?, arguments)
    }

    /// Loads the job and has it run. Without `-k`: that would end the process that loading has just started.
    fn bootstrap(&self, role: Role) -> Result<(), ServiceError> {
        self.load(role)?;
        let target = self.target(role);
        let arguments = ["kickstart", &target];
        let answer = (self.tool)(&arguments)?;
        if answer.code.is_some_and(|code| BUSY.contains(&code)) {
            Ok(())
        } else {
            checked(answer, &arguments).map(drop)
        }
    }

    /// What `bootout` left behind may be in the way for a moment.
    fn load(&self, role: Role) -> Result<(), ServiceError> {
        self.enroll(role)?;
        let (domain, file) = (Self::domain(), self.file(role));
        let arguments = ["bootstrap", &domain, plain(file.as_os_str())?];
        let deadline = Instant::now() + limits::LAUNCHD_WAIT;
        loop {
            let answer = (self.tool)(&arguments)?;
            match answer.code {
                Some(code) if BUSY.contains(&code) && Instant::now() < deadline => {
                    if self.state(role)?.is_loaded {
                        return Ok(());
                    }
                    std::thread::sleep(limits::LAUNCHD_PAUSE);
                }
                _ => return checked(answer, &arguments).map(drop),
            }
        }
    }

    /// Ends the job and waits until it is gone: `bootout` returns before that.
    fn bootout(&self, role: Role) -> Result<(), ServiceError> {
        let target = self.target(role);
        let arguments = ["bootout", &target];
        let answer = (self.tool)(&arguments)?;
        if !answer.code.is_some_and(|code| code == NO_SUCH_PROCESS || BUSY.contains(&code)) {
            checked(answer, &arguments)?;
        }
        let deadline = Instant::now() + limits::LAUNCHD_WAIT;
        while self.state(role)?.is_loaded {
            if Instant::now() >= deadline {
                let waited = format!("it still runs after {} s", limits::LAUNCHD_WAIT.as_secs());
                return Err(ServiceError::Tool(arguments.join(" "), waited));
            }
            std::thread::sleep(limits::LAUNCHD_PAUSE);
        }
        Ok(())
    }
}

impl Manager for Launchd {
    fn word(&self) -> &'static str {
        "launchd"
    }

    fn name(&self, role: Role) -> &'static str {
        match role {
            Role::Gateway => "ai.openclaw.gateway",
            Role::Node => "ai.openclaw.node",
            Role::App => "ai.openclaw.mac",
        }
    }

    fn file(&self, role: Role) -> PathBuf {
        self.agents.join(format!("{}.plist", self.name(role)))
    }

    fn log(&self, role: Role, state: &StateDir) -> String {
        log_file(state, role).display().to_string()
    }

    fn render(&self, service: &Service) -> Result<String, ServiceError> {
        let string = |text: &OsStr| plain(text).map(|text| format!("<string>{}</string>", escaped(text)));
        let mut command = String::new();
        for word in std::iter::once(service.program.as_os_str()).chain(service.arguments.iter().map(AsRef::as_ref)) {
            command.push_str(&format!("        {}\n", string(word)?));
        }
        let mut environment = format!("        <key>PATH</key>\n        {}\n", string(service.search_path.as_ref())?);
        for (name, value) in &service.environment {
            environment.push_str(&format!("        <key>{name}</key>\n        {}\n", string(value)?));
        }
        let output = string(output_file(&service.state, service.role).as_os_str())?;
        let home = string(self.home.as_os_str())?;
        // Only the app has anything to do with a screen.
        let session = match service.role {
            Role::Gateway | Role::Node => "",
            Role::App => {
                "    <key>LimitLoadToSessionType</key>\n    <string>Aqua</string>\n    \
                 <key>ProcessType</key>\n    <string>Interactive</string>\n"
            }
        };
        // Of KeepAlive only this half: a second instance and a wanted end exit with 0 and stay down (P7).
        Ok(format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Comment</key>
    <string>{}. {MARK}{}</string>
    <key>Label</key>
    <string>{}</string>
    <key>ProgramArguments</key>
    <array>
{command}    </array>
    <key>EnvironmentVariables</key>
    <dict>
{environment}    </dict>
    <key>WorkingDirectory</key>
    {home}
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
{session}    <key>Umask</key>
    <integer>63</integer>
    <key>StandardOutPath</key>
    {output}
    <key>StandardErrorPath</key>
    {output}
</dict>
</plist>
"#,
            service.role.title(),
            escaped(plain(service.state.root().as_os_str())?),
            self.name(service.role)
        ))
    }

    fn state(&self, role: Role) -> Result<State, ServiceError> {
        let target = self.target(role);
        let arguments = ["print", &target];
        let answer = (self.tool)(&arguments)?;
        match answer.code {
            Some(NOT_FOUND) => Ok(State::default()),
            _ => Ok(state(&checked(answer, &arguments)?.text)),
        }
    }

    fn take_up(&self, role: Role, before: State, is_changed: bool) -> Result<(), ServiceError> {
        if !(before.is_loaded && is_changed) {
            return self.start(role, before);
        }
        self.bootout(role)?;
        self.bootstrap(role)
    }

    fn start(&self, role: Role, before: State) -> Result<(), ServiceError> {
        if !before.is_loaded {
            return self.bootstrap(role);
        }
        if before.is_running {
            return Ok(());
        }
        self.call(&["kickstart", &self.target(role)]).map(drop)
    }

    fn restart(&self, role: Role, before: State) -> Result<(), ServiceError> {
        if !before.is_loaded {
            return self.bootstrap(role);
        }
        self.call(&["kickstart", "-k", &self.target(role)]).map(drop)
    }

    fn stop(&self, role: Role, before: State) -> Result<(), ServiceError> {
        if before.is_loaded { self.bootout(role) } else { Ok(()) }
    }

    /// launchd loads what lies in its folder at each login, and remembers a job as disabled even after its file is gone.
    fn enroll(&self, role: Role) -> Result<(), ServiceError> {
        self.call(&["enable", &self.target(role)]).map(drop)
    }

    fn let_go(&self, _role: Role) -> Result<(), ServiceError> {
        Ok(())
    }

    fn forget(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// What may not stand in XML text as itself. The ampersand comes first here, and last on the way back.
const ENTITIES: [(&str, &str); 5] = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&apos;")];

fn escaped(text: &str) -> String {
    ENTITIES.iter().fold(text.to_owned(), |text, (plain, entity)| text.replace(plain, entity))
}

pub(super) fn unescaped(text: &str) -> String {
    ENTITIES.iter().rev().fold(text.to_owned(), |text, (plain, entity)| text.replace(entity, plain))
}

/// What `launchctl print` says of a loaded job; only the outermost braces are about the job itself.
fn state(text: &str) -> State {
    let mut state = State { is_loaded: true, ..State::default() };
    let mut depth = 0_usize;
    for line in text.lines().map(str::trim) {
        if line.ends_with('{') {
            depth += 1;
        } else if line == "}" {
            depth = depth.saturating_sub(1);
        } else if let (1, Some((name, value))) = (depth, line.split_once(" = ")) {
            match name {
                "state" => state.is_running = value == "running",
                "pid" => state.pid = value.parse().ok(),
                // `1`, `78: EX_CONFIG`, or `(never exited)`.
                "last exit code" => state.last_exit_code = value.split(':').next().and_then(|code| code.parse().ok()),
                _ => {}
            }
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the tool prints it, shortened.
    const PRINTED: &str = "gui/501/ai.openclaw.node = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/ai.openclaw.node.plist
\tstate = running

\targuments = {
\t\tstate = broken
\t}

\tdefault environment = {
\t\tPATH => /usr/bin:/bin
\t}

\tpid = 4711
\tlast exit code = 1
\tspawn type = daemon (3)
\tendpoints = {
\t\t\"x\" = {
\t\t\tstate = waiting
\t\t\tpid = 1
\t\t}
\t}
}
";

    #[test]
    fn what_print_says() {
        let running = State { is_loaded: true, is_running: true, pid: Some(4711), last_exit_code: Some(1) };
        assert_eq!(state(PRINTED), running);
        let ended = "x = {\n\tstate = not running\n\tlast exit code = 78: EX_CONFIG\n}\n";
        assert_eq!(state(ended), State { is_loaded: true, last_exit_code: Some(78), ..State::default() });
        let never = "x = {\n\tstate = waiting\n\tlast exit code = (never exited)\n}\n";
        assert_eq!(state(never), State { is_loaded: true, ..State::default() });
        assert_eq!(state("}}}{{{= \u{0}"), State { is_loaded: true, ..State::default() });
    }

    #[test]
    fn entities_there_and_back() {
        for text in ["", "&lt;", "&amp;amp;", "<a href='x'>&\"", "a & b"] {
            assert!(!escaped(text).contains(['<', '>', '"', '\'']));
            assert_eq!(unescaped(&escaped(text)), text);
        }
    }
}
