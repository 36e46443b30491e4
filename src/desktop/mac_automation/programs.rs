//! Running programs.

use super::guard::{self, Guard};
use super::{Deadline, session};
use crate::desktop::automation::{Application, ApplicationChange, Done, Failure, Presence};
use crate::limits;
use openclaw_macos::accessibility::{Element, Value};
use openclaw_macos::core_graphics;
use openclaw_macos::workspace::{self, Change, LaunchError, Policy, Running};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Where programs are looked for by name.
const FOLDERS: [&str; 4] =
    ["/Applications", "/System/Applications", "/System/Applications/Utilities", "/Applications/Utilities"];

impl From<Running> for Application {
    fn from(running: Running) -> Self {
        Self {
            pid: running.pid,
            name: running.name,
            bundle_id: running.bundle_id,
            path: running.path,
            active: running.active,
            hidden: running.hidden,
            presence: match running.policy {
                Policy::Regular => Presence::Regular,
                Policy::Accessory => Presence::Accessory,
                Policy::Prohibited => Presence::Background,
            },
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Unanswered(openclaw_macos::Unanswered::TimedOut) => Self::Timeout,
            LaunchError::Unanswered(openclaw_macos::Unanswered::Missing(missing)) => missing.into(),
            LaunchError::NotFound => Self::NotFound("such application".to_owned()),
            LaunchError::Failed(words) => Self::Internal(words),
        }
    }
}

/// All of them. The system's list is as old as the main thread's last turn, so those that own windows are added.
pub(super) fn list() -> Done<Vec<Application>> {
    let mut programs = workspace::running();
    let known: BTreeSet<i32> = programs.iter().map(|program| program.pid).collect();
    let owners: BTreeSet<i32> = core_graphics::windows(true)?.into_iter().map(|window| window.pid).collect();
    programs.extend(owners.difference(&known).filter_map(|pid| workspace::of_process(*pid)));
    let front = guard::front().ok().flatten();
    let application = |program: Running| {
        let active = front.map_or(program.active, |front| front == program.pid);
        Application { active, ..program.into() }
    };
    Ok(programs.into_iter().map(application).collect())
}

/// One of them.
pub(super) fn of_process(pid: i32) -> Done<Application> {
    let program = workspace::of_process(pid);
    program.map(Application::from).ok_or_else(|| Failure::NotFound(format!("program with the process {pid}")))
}

/// Changes one of them; whether it did as told.
pub(super) fn change(pid: i32, change: ApplicationChange, guard: &Guard) -> Done<bool> {
    guard.process(pid)?;
    let order = match change {
        ApplicationChange::Activate => {
            activate(pid)?;
            return settled(|| guard::front().is_ok_and(|front| front == Some(pid)));
        }
        ApplicationChange::Hide => Change::Hide,
        ApplicationChange::Unhide => Change::Unhide,
        ApplicationChange::Quit { force: false } => Change::Terminate,
        ApplicationChange::Quit { force: true } => Change::ForceTerminate,
    };
    workspace::change(pid, order).ok_or_else(|| Failure::NotFound(format!("program with the process {pid}")))
}

/// Brings a program forward. The system need not let one program do that to another; the owner's grant of Accessibility
/// makes it.
pub(super) fn activate(pid: i32) -> Done {
    workspace::change(pid, Change::Activate)
        .ok_or_else(|| Failure::NotFound(format!("program with the process {pid}")))?;
    Ok(Element::application(pid)?.set("AXFrontmost", &Value::Bool(true))?)
}

/// Waits until something is so, a while.
fn settled(is_so: impl Fn() -> bool) -> Done<bool> {
    let (deadline, end) = (Deadline::new(), Instant::now() + limits::MAC_SETTLE);
    loop {
        if is_so() {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        deadline.pause(limits::MAC_LOOK)?;
    }
}

/// Starts a program by bundle id, name or path, or brings forward the one that runs.
pub(super) fn launch(identifier: &str) -> Done<Application> {
    session()?;
    let path = installed(identifier).ok_or_else(|| Failure::NotFound(format!("application called {identifier}")))?;
    Ok(workspace::launch(&path, Instant::now() + limits::MAC_ACTION)?.into())
}

/// Where the program is installed that is called so. Only the bundle of a program is ever opened: a document or a tool
/// would run something else.
fn installed(identifier: &str) -> Option<String> {
    let is_program = |path: &String| path.ends_with(".app") && Path::new(path).join("Contents/Info.plist").is_file();
    if identifier.contains('/') {
        let path = identifier.trim_end_matches('/').to_owned();
        return Some(path).filter(|path| path.starts_with('/')).filter(is_program);
    }
    let running = || {
        let same =
            |program: &Running| program.policy != Policy::Prohibited && program.name.eq_ignore_ascii_case(identifier);
        workspace::running().into_iter().find(same).and_then(|program| program.path)
    };
    let named = || {
        let name = identifier.strip_suffix(".app").unwrap_or(identifier);
        let home = std::env::var("HOME").map(|home| format!("{home}/Applications"));
        let folders = FOLDERS.iter().map(|folder| (*folder).to_owned()).chain(home);
        folders.map(|folder| format!("{folder}/{name}.app")).find(is_program)
    };
    workspace::path_of(identifier).or_else(running).or_else(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_bundle_of_a_program_is_started() {
        let folder = std::env::temp_dir().join(format!("mac-programs-{}", std::process::id()));
        let (program, empty) = (folder.join("Notes.app"), folder.join("Empty.app"));
        std::fs::create_dir_all(program.join("Contents")).unwrap();
        std::fs::create_dir_all(&empty).unwrap();
        std::fs::write(program.join("Contents/Info.plist"), "").unwrap();
        let path = program.to_str().unwrap();
        assert_eq!(installed(path).as_deref(), Some(path));
        assert_eq!(installed(&format!("{path}/")).as_deref(), Some(path));
        for other in ["/bin/sh", "../Notes.app", "", ".", "..", empty.to_str().unwrap(), folder.to_str().unwrap()] {
            assert_eq!(installed(other), None, "{other}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
