//! `computer.act`: mouse and keyboard for an agent, over the same desktop as the bridge. Declared exactly when the owner
//! has switched it on and the system has granted it; looked at again before each action, and before each character.
//!
//! Nothing here reaches a window of this process (H04): that is the desktop's own to refuse.
//! Source: docs nodes/computer-use, spec mac-app (1.10).

use super::frames::Frames;
use crate::bridge::keys;
use crate::desktop::automation::{
    self, Ability, Automation, Button, Expected, Failure, Modifiers, Pointer, Rect, Scroll, Window, WindowChange,
};
use crate::exec::approval::Guards;
use crate::limits;
use crate::log;
use crate::protocol::computer::{self, Act, Action, Direction, Spot};
use crate::protocol::node::NodeError;
use crate::protocol::peekaboo::types::MouseProfile;
use crate::state::switches::{Switch, Switches};
use crate::state::{StateDir, audit, pause};
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

/// What it takes of a desktop.
const NEEDED: [Ability; 3] = [Ability::Pointer, Ability::Scroll, Ability::Keyboard];

/// Acts, one action at a time, in the app's process, which alone has the permissions.
pub struct ComputerHost {
    /// The desktop.
    pub automation: Arc<dyn Automation>,
    /// The screenshots that places are of; `screen.snapshot` takes them.
    pub frames: Arc<Frames>,
    /// Where the owner's switches lie.
    pub state: StateDir,
    /// Why nobody could see this desktop now: locked, another user's.
    pub away: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Where it is noted who acts.
    pub guards: Arc<Guards>,
    /// The executions that were noted lately; locked while one acts.
    pub at_work: Mutex<VecDeque<String>>,
}

impl ComputerHost {
    /// Why nothing is done now; none when it is.
    pub fn refusal(&self) -> Option<NodeError> {
        self.may().err()
    }

    fn may(&self) -> Result<(), NodeError> {
        if !Switches::new(&self.state).is_on(Switch::ComputerControl) {
            return Err(unavailable("COMPUTER_DISABLED: enable Computer Control in Settings"));
        }
        // A desktop is opened by the first look at it, so the switch comes before.
        if !NEEDED.iter().all(|ability| self.automation.abilities().contains(ability)) {
            return Err(unavailable("command not supported"));
        }
        let granted = self.automation.permissions();
        for needed in [automation::Permission::Accessibility, automation::Permission::EventPosting] {
            if !granted.has(needed) {
                return Err(missing(needed));
            }
        }
        Ok(())
    }

    /// The same, and that nothing is paused and somebody could see it.
    fn may_now(&self) -> Result<(), NodeError> {
        self.may()?;
        if pause::is_on(&self.state.paused()) {
            return Err(unavailable(format!("COMPUTER_DISABLED: {}", pause::SENTENCE)));
        }
        match (self.away)() {
            None => Ok(()),
            Some(why) => Err(unavailable(format!("DESKTOP_UNAVAILABLE: {why}"))),
        }
    }

    /// Does what was asked; none when it was cancelled meanwhile.
    pub fn perform(&self, params: Option<&str>, requester: &str, cancel: &Wake) -> Option<Result<String, NodeError>> {
        match self.act(params, requester, cancel) {
            Ok(Some(answer)) => Some(Ok(answer.to_string())),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn act(&self, params: Option<&str>, requester: &str, cancel: &Wake) -> Result<Option<Value>, NodeError> {
        let Act { execution, action } = computer::parse(params)?;
        if action == Action::Close {
            self.frames.forget(&execution);
            return Ok(Some(json!({"ok": true})));
        }
        self.may_now()?;
        let mut noted = match self.at_work.try_lock() {
            Ok(noted) => noted,
            Err(TryLockError::Poisoned(noted)) => noted.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(unavailable("COMPUTER_HOST_BUSY: another action is under way; try again later"));
            }
        };
        self.note(&mut noted, &execution, requester)?;
        let details = match action {
            Action::Type(text) => return Ok(self.type_text(&text, cancel)?.map(|()| done())),
            Action::ListApps => self.list_apps().map_err(failed)?,
            Action::ListWindows => self.list_windows().map_err(failed)?,
            Action::CursorPosition => {
                let at = self.automation.pointer_position().map_err(failed)?;
                json!({"x": at.x, "y": at.y})
            }
            Action::BringToFront(window) => {
                self.bring_to_front(&window)?;
                return Ok(Some(done()));
            }
            input => {
                self.send(&execution, input)?;
                return Ok(Some(done()));
            }
        };
        Ok(Some(json!({"ok": true, "details": details})))
    }

    /// Each execution once, before its first action: without a record nothing is done.
    fn note(&self, noted: &mut VecDeque<String>, execution: &str, requester: &str) -> Result<(), NodeError> {
        if noted.iter().any(|known| known == execution) {
            return Ok(());
        }
        let decision = audit::Decision {
            requester,
            session: Some(execution),
            command: computer::ACT,
            by: "the owner's switch computer-control",
            ..audit::Decision::default()
        };
        self.guards.audit.edit(&decision).map_err(|error| unavailable(format!("COMPUTER_DISABLED: {error}")))?;
        if noted.len() >= limits::COMPUTER_FRAMES {
            noted.pop_front();
        }
        noted.push_back(execution.to_owned());
        Ok(())
    }

    fn place(&self, execution: &str, spot: &Spot) -> Result<automation::Point, NodeError> {
        let stale = |why| refused(format!("COMPUTER_STALE_FRAME: {why}; take a new screenshot"));
        self.frames.place(execution, spot).map_err(stale)
    }

    fn send(&self, execution: &str, input: Action) -> Result<(), NodeError> {
        let desktop = &*self.automation;
        let any = Expected::default();
        let sent = match input {
            Action::Click { at, is_right, count } => {
                let (at, button) = (self.place(execution, &at)?, if is_right { Button::Right } else { Button::Left });
                desktop.pointer(&Pointer::Click { at, button, count }, None, any)
            }
            Action::Move(at) => {
                let path = vec![self.place(execution, &at)?];
                desktop.pointer(&Pointer::Move { path, pause: Duration::ZERO }, None, any)
            }
            Action::Drag { from, to, time } => {
                let (from, to) = (self.place(execution, &from)?, self.place(execution, &to)?);
                let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                keys::way(from, to, DRAG_STEPS, time, &MouseProfile::Linear).and_then(|(mut path, pause)| {
                    path.insert(0, from);
                    let modifiers = Modifiers::default();
                    desktop.pointer(&Pointer::Drag { path, pause, modifiers }, None, any)
                })
            }
            Action::Scroll { at, direction, amount } => {
                let at = at.map(|at| self.place(execution, &at)).transpose()?;
                let direction = match direction {
                    Direction::Up => automation::Direction::Up,
                    Direction::Down => automation::Direction::Down,
                    Direction::Left => automation::Direction::Left,
                    Direction::Right => automation::Direction::Right,
                };
                desktop.scroll(&Scroll { at, direction, ticks: amount, smooth: false, pause: Duration::ZERO }, any)
            }
            Action::Key { keys, hold } => {
                keys::shortcut(&keys).and_then(|(modifiers, key)| desktop.press(key, modifiers, hold, None, any))
            }
            _ => Ok(()),
        };
        sent.map_err(failed)
    }

    /// One character at a time, so that it ends before the next one: none when it was cancelled.
    fn type_text(&self, text: &str, cancel: &Wake) -> Result<Option<()>, NodeError> {
        for character in text.chars() {
            if cancel.is_fired() {
                return Ok(None);
            }
            self.may_now()?;
            let typed =
                self.automation.type_text(character.encode_utf8(&mut [0; 4]), Duration::ZERO, Expected::default());
            typed.map_err(failed)?;
        }
        Ok(Some(()))
    }

    fn list_apps(&self) -> automation::Done<Value> {
        let apps =
            self.automation.applications()?.into_iter().filter(|app| app.presence == automation::Presence::Regular);
        let apps: Vec<Value> = apps
            .map(|app| json!({"app": app.bundle_id, "name": app.name, "pid": app.pid, "isActive": app.active}))
            .collect();
        Ok(json!({"apps": apps}))
    }

    fn list_windows(&self) -> automation::Done<Value> {
        let describe = |window: Window| {
            let Rect { origin, size } = window.bounds;
            json!({
                "windowRef": reference(&window), "title": window.title, "pid": window.pid, "isFocused": window.focused,
                "bounds": {"x": origin.x, "y": origin.y, "width": size.width, "height": size.height},
            })
        };
        let windows = self.automation.windows()?.into_iter().filter(|window| window.on_screen);
        Ok(json!({"windows": windows.take(limits::COMPUTER_WINDOWS).map(describe).collect::<Vec<Value>>()}))
    }

    fn bring_to_front(&self, wanted: &str) -> Result<(), NodeError> {
        let windows = self.automation.windows().map_err(failed)?;
        let window = windows.iter().find(|window| reference(window) == wanted);
        let gone = || refused("COMPUTER_STALE_OBSERVATION: this window is gone; list the windows again");
        self.automation.change_window(window.ok_or_else(gone)?.id, WindowChange::Focus).map_err(failed)
    }
}

/// Points of a drag's way.
const DRAG_STEPS: i64 = 20;

/// A window's number may be given to another program's later.
fn reference(window: &Window) -> String {
    format!("{}-{}", window.pid, window.id)
}

/// What the program made of it, a new screenshot must show.
fn done() -> Value {
    json!({"ok": true, "effect": "unverifiable"})
}

fn unavailable(message: impl Into<String>) -> NodeError {
    NodeError::new("UNAVAILABLE", message)
}

fn refused(message: impl Into<String>) -> NodeError {
    NodeError::new("INVALID_REQUEST", message)
}

fn missing(permission: automation::Permission) -> NodeError {
    unavailable(format!(
        "ACCESSIBILITY_REQUIRED: OpenClaw has not been granted {permission}; its owner can do that in System Settings, \
         Privacy & Security"
    ))
}

/// A desktop's own words may quote what stands on the screen, so they go no further than the log.
fn failed(cause: Failure) -> NodeError {
    match &cause {
        Failure::Permission(permission) => missing(*permission),
        Failure::Invalid(why) => refused(format!("COMPUTER_INVALID_REQUEST: {why}")),
        Failure::NotSupported(_) => refused(format!("COMPUTER_UNSUPPORTED_ACTION: {cause}")),
        Failure::OwnPrompt => unavailable(format!("COMPUTER_REFUSED_own_window: {cause}")),
        Failure::Stale(_) => refused("COMPUTER_STALE_FRAME: the desktop has changed since; take a new screenshot"),
        Failure::NotFound(_) => refused("COMPUTER_INVALID_REQUEST: nothing there takes this input"),
        Failure::Timeout => unavailable("COMPUTER_TIMEOUT: the desktop did not answer in time"),
        Failure::Internal(_) => {
            log!("node", "{} failed: {cause}", computer::ACT);
            unavailable("COMPUTER_DRIVER_ERROR: the desktop refused; the app's log has more")
        }
    }
}

#[cfg(test)]
mod tests;
