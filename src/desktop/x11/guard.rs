//! What an action would reach, looked at when it is done: never a window of this process (H04), never another window
//! than the caller means (A136).

use super::windows;
use crate::desktop::automation::{Done, Expected, Failure};
use crate::sys::x11::{Connection, Window};
use std::process;

/// What one action may reach.
pub(super) struct Guard {
    /// This process by the X server's word.
    own: Option<i32>,
    expected: Expected,
}

impl Guard {
    pub(super) fn new(connection: &Connection, expected: Expected) -> Done<Self> {
        Ok(Self { own: connection.own_pid()?, expected })
    }

    /// A window of any client of this process: of AppKit's connection as of ours.
    fn is_own(&self, connection: &Connection, window: Window) -> Done<bool> {
        let claimed = connection.claimed_pid(window)?;
        Ok(connection.pid(window)? == self.own || claimed.is_some_and(|pid| u32::try_from(pid) == Ok(process::id())))
    }

    /// Passes when a button pressed at this point reaches nothing of ours, and what is expected.
    pub(super) fn point(&self, connection: &Connection, (x, y): (i32, i32)) -> Done {
        let path = connection.windows_at(x, y)?;
        let clients = path.first().map_or(Ok(Vec::new()), |toplevel| windows::clients_in(connection, *toplevel))?;
        self.foreign(connection, &[path.as_slice(), &clients].concat())?;
        self.expects(connection, clients.first().or(path.first()).copied())
    }

    /// Passes when keys reach nothing of ours, and what is expected. A window manager's shortcuts act on the window that
    /// it calls active, so that one counts too.
    pub(super) fn keys(&self, connection: &Connection) -> Done {
        let Some(focus) = connection.focus()? else {
            return Err(Failure::NotFound("window that has the keyboard".to_owned()));
        };
        let active = connection.numbers(connection.root(), "_NET_ACTIVE_WINDOW")?;
        for window in active.into_iter().filter(|window| *window != 0) {
            // A manager that has ended leaves the property behind.
            if connection.attributes(window).is_ok() {
                self.window(connection, window)?;
            }
        }
        if focus == connection.root() {
            return self.point(connection, connection.pointer()?);
        }
        let client = self.window(connection, focus)?;
        self.expects(connection, Some(client))
    }

    /// Passes when neither this window nor what lies in the same frame is ours; the program's own window in there.
    pub(super) fn window(&self, connection: &Connection, window: Window) -> Done<Window> {
        let toplevel = windows::toplevel(connection, window)?;
        let clients = windows::clients_in(connection, toplevel)?;
        self.foreign(connection, &[&[window, toplevel], clients.as_slice()].concat())?;
        Ok(clients.first().copied().unwrap_or(toplevel))
    }

    fn foreign(&self, connection: &Connection, windows: &[Window]) -> Done {
        for window in windows {
            if self.is_own(connection, *window)? {
                return Err(Failure::OwnPrompt);
            }
        }
        Ok(())
    }

    fn expects(&self, connection: &Connection, found: Option<Window>) -> Done {
        let pid = || found.map_or(Ok(None), |window| connection.pid(window));
        if self.expected.window.is_some() && self.expected.window != found {
            return Err(Failure::Stale("another window is there now".to_owned()));
        }
        if self.expected.pid.is_some() && self.expected.pid != pid()? {
            return Err(Failure::Stale("another program is there now".to_owned()));
        }
        Ok(())
    }
}
