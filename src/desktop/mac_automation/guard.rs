//! What an action would reach, looked at when it is done: never a window of OpenClaw (H04), never another window or
//! program than the caller means (A136).

use super::session;
use crate::desktop::automation::{Done, Expected, Failure, Point, Rect};
use crate::limits;
use openclaw_macos::accessibility::{Element, Refusal, Value};
use openclaw_macos::core_graphics::{self, WindowInfo};
use openclaw_macos::{foundation, workspace};
use std::process;

/// `kCGModalPanelWindowLevel`: up to here windows are what they seem. Higher ones may be invisible covers of the whole
/// screen, as the Dock's.
pub(super) const ORDINARY: i32 = 8;
/// `kCGPopUpMenuWindowLevel`
const OPEN_MENU: i32 = 101;

/// What one action may reach.
pub(super) struct Guard {
    /// See [`own_processes`].
    own: Vec<i32>,
    expected: Expected,
}

impl Guard {
    /// For an action that expects this.
    ///
    /// # Errors
    /// Nobody could see it: the screen is locked, or there is none.
    pub(super) fn new(expected: Expected) -> Done<Self> {
        session()?;
        Ok(Self { own: own_processes(), expected })
    }

    /// The same without expectations: for where a drag ends.
    pub(super) fn anywhere(&self) -> Self {
        Self { own: self.own.clone(), expected: Expected::default() }
    }

    /// Passes when this process is not of OpenClaw.
    pub(super) fn process(&self, pid: i32) -> Done {
        if self.own.contains(&pid) { Err(Failure::OwnPrompt) } else { Ok(()) }
    }

    /// Passes when nothing of ours lies at this point, not even covered, and what is expected is hit.
    pub(super) fn point(&self, at: Point) -> Done {
        self.point_among(&core_graphics::windows(false)?, at, has_element_at(at))
    }

    fn point_among(&self, windows: &[WindowInfo], at: Point, has_element: impl Fn(i32) -> bool) -> Done {
        windows.iter().filter(|window| is_at(window, at)).try_for_each(|window| self.process(window.pid))?;
        if self.expected == Expected::default() {
            return Ok(());
        }
        let found = hit(windows, at, has_element);
        self.expects(found.map(|window| window.pid), found.map(|window| window.id))
    }

    /// Passes when events may go to this process, at this point of what is expected of it.
    pub(super) fn target(&self, pid: i32, at: Option<Point>) -> Done {
        self.process(pid)?;
        if workspace::of_process(pid).is_none() {
            return Err(Failure::NotFound(format!("program with the process {pid}")));
        }
        let Some(window) = self.expected.window else { return self.expects(Some(pid), None) };
        let windows = core_graphics::windows(false)?;
        let there = windows.iter().find(|other| other.id == window && at.is_none_or(|at| is_at(other, at)));
        self.expects(there.map(|window| window.pid), there.map(|window| window.id))?;
        if there.is_some_and(|window| window.pid == pid) {
            return Ok(());
        }
        Err(Failure::Stale("the window belongs to another program".to_owned()))
    }

    /// The window that events for one process are meant for.
    pub(super) fn target_window(&self) -> Option<u32> {
        self.expected.window
    }

    /// Passes when keys reach nothing of ours, and what is expected. A panel of ours may have the keyboard while another
    /// program is in front, and so does an open menu of ours.
    pub(super) fn keys(&self) -> Done {
        for pid in [workspace::frontmost(), focused("AXFocusedUIElement")?].into_iter().flatten() {
            self.process(pid)?;
        }
        let in_front = front()?;
        in_front.map_or(Ok(()), |pid| self.process(pid))?;
        if core_graphics::windows(false)?
            .iter()
            .any(|window| window.layer == OPEN_MENU && self.own.contains(&window.pid))
        {
            return Err(Failure::OwnPrompt);
        }
        match workspace::own_window_has_keys(limits::MAC_OWN_KEYS) {
            Ok(false) => {}
            Ok(true) => return Err(Failure::OwnPrompt),
            Err(_) => return Err(Failure::Timeout),
        }
        let pid = in_front.ok_or_else(|| Failure::NotFound("program that has the keyboard".to_owned()))?;
        if self.expected == Expected::default() {
            return Ok(());
        }
        let window = self.expected.window.and_then(|_| focused_window(pid));
        self.expects(Some(pid), window)
    }

    fn expects(&self, pid: Option<i32>, window: Option<u32>) -> Done {
        if self.expected.pid.is_some() && self.expected.pid != pid {
            return Err(Failure::Stale("another program is there now".to_owned()));
        }
        if self.expected.window.is_some() && self.expected.window != window {
            return Err(Failure::Stale("another window is there now".to_owned()));
        }
        Ok(())
    }
}

/// The processes of OpenClaw: this one, and those of the same bundle, since the bridge may run beside the app.
pub(super) fn own_processes() -> Vec<i32> {
    let bundle = foundation::main_bundle();
    let mut own = bundle.map_or(Vec::new(), |bundle| workspace::of_bundle_id(&bundle.identifier));
    own.extend(i32::try_from(process::id()));
    own
}

fn is_at(window: &WindowInfo, at: Point) -> bool {
    Rect::from(window.bounds).contains(at)
}

/// The window that a button pressed at this point goes to, among those on screen from front to back. One above the
/// ordinary layers counts only when its program has an element there.
pub(super) fn hit(windows: &[WindowInfo], at: Point, has_element: impl Fn(i32) -> bool) -> Option<&WindowInfo> {
    let is_solid = |window: &&WindowInfo| window.alpha > 0.0 && (window.layer <= ORDINARY || has_element(window.pid));
    windows.iter().filter(|window| is_at(window, at)).find(is_solid)
}

/// Whether a program has an element at this point; yes where that cannot be known.
pub(super) fn has_element_at(at: Point) -> impl Fn(i32) -> bool {
    move |pid| match Element::at(at.into()).and_then(|element| element.pid()) {
        Ok(of) => of == pid,
        Err(refusal) => refusal != Refusal::Unsupported,
    }
}

/// The process of what this attribute of the whole system names; none when nothing does.
fn focused(attribute: &str) -> Done<Option<i32>> {
    match Element::system_wide()?.get(attribute) {
        Ok(Some(Value::Element(element))) => Ok(element.pid().ok()),
        Err(Refusal::NotGranted) => Err(Refusal::NotGranted.into()),
        // The program in front hangs, or has no interface of its own: others are asked too.
        _ => Ok(None),
    }
}

/// The program that has the keyboard, as it is now.
pub(super) fn front() -> Done<Option<i32>> {
    Ok(focused("AXFocusedApplication")?.or_else(workspace::frontmost))
}

/// The window of a program that has the keyboard when the program has it.
pub(super) fn focused_window(pid: i32) -> Option<u32> {
    match Element::application(pid).ok()?.get("AXFocusedWindow") {
        Ok(Some(Value::Element(window))) => window.window_number(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openclaw_macos::{Point as At, Rect as Bounds, Size};

    const OURS: i32 = 1;
    const DOCK: i32 = 2;
    const EDITOR: i32 = 3;
    const BROWSER: i32 = 4;

    fn window(id: u32, pid: i32, layer: i32, x: f64, width: f64) -> WindowInfo {
        let bounds = Bounds { origin: At { x, y: 0.0 }, size: Size { width, height: 100.0 } };
        WindowInfo { id, pid, layer, bounds, alpha: 1.0, on_screen: true, ..WindowInfo::default() }
    }

    fn guard(pid: Option<i32>, window: Option<u32>) -> Guard {
        Guard { own: vec![OURS], expected: Expected { pid, window } }
    }

    fn at(x: f64) -> Point {
        Point { x, y: 50.0 }
    }

    #[test]
    fn sec_h04_a_point_of_an_own_window_is_refused_wherever_the_window_lies() {
        let in_front = [window(10, OURS, 3, 0.0, 100.0), window(11, EDITOR, 0, 0.0, 500.0)];
        let behind = [window(11, EDITOR, 0, 0.0, 500.0), window(10, OURS, 0, 0.0, 100.0)];
        let mut transparent = in_front.clone();
        transparent[0].alpha = 0.0;
        for windows in [&in_front, &behind, &transparent] {
            for expected in [guard(None, None), guard(Some(EDITOR), Some(11)), guard(Some(OURS), Some(10))] {
                assert_eq!(expected.point_among(windows, at(50.0), |_| false), Err(Failure::OwnPrompt));
            }
            assert_eq!(guard(Some(EDITOR), Some(11)).point_among(windows, at(150.0), |_| false), Ok(()));
        }
        assert_eq!(guard(None, None).process(OURS), Err(Failure::OwnPrompt));
        assert_eq!(guard(None, None).process(EDITOR), Ok(()));
    }

    #[test]
    fn sec_a136_another_window_or_program_at_the_point_is_stale() {
        let windows = [window(20, BROWSER, 0, 0.0, 100.0), window(21, EDITOR, 0, 0.0, 500.0)];
        let point = |pid, window, x| guard(pid, window).point_among(&windows, at(x), |_| false);
        assert_eq!(point(Some(EDITOR), Some(21), 200.0), Ok(()));
        assert_eq!(point(Some(EDITOR), None, 200.0), Ok(()));
        for (pid, window, x) in [(Some(EDITOR), None, 50.0), (None, Some(21), 50.0), (Some(BROWSER), Some(20), 200.0)] {
            assert!(matches!(point(pid, window, x), Err(Failure::Stale(_))), "{pid:?} {window:?} {x}");
        }
        assert!(matches!(point(Some(EDITOR), None, 900.0), Err(Failure::Stale(_))), "nothing is there");
    }

    #[test]
    fn an_invisible_cover_of_the_screen_is_not_what_is_hit() {
        let mut windows = [window(30, DOCK, 20, 0.0, 1000.0), window(31, EDITOR, 0, 0.0, 500.0)];
        let id = |windows: &[WindowInfo], with: i32| hit(windows, at(50.0), |pid| pid == with).map(|window| window.id);
        assert_eq!(id(&windows, EDITOR), Some(31));
        assert_eq!(id(&windows, DOCK), Some(30));
        windows[1].alpha = 0.0;
        assert_eq!(id(&windows, EDITOR), None);
        assert_eq!(hit(&windows, Point { x: f64::NAN, y: 1.0 }, |_| true), None);
    }
}
