//! Which program, window, element or place is meant. Source: spec peekaboo-bridge §6 "Semantics".

use super::snapshots::Seen;
use crate::desktop::automation::{self, Automation, Done, Expected, Failure, Point, Presence, Rect, Size};
use crate::protocol::peekaboo::types::{self as wire, WindowTarget};

/// The smallest window that counts as a program's main one, points each way. Source: spec §6
const MAIN_WINDOW: f64 = 50.0;

/// Programs and windows, looked at once for one request.
pub struct Desk<'a> {
    automation: &'a dyn Automation,
    /// All programs.
    pub applications: Vec<automation::Application>,
    /// All windows, from front to back.
    pub windows: Vec<automation::Window>,
}

impl<'a> Desk<'a> {
    /// Looks. What this desktop cannot list is empty.
    ///
    /// # Errors
    /// The backend's.
    pub fn look(automation: &'a dyn Automation) -> Done<Self> {
        let or_none = |failure| if matches!(failure, Failure::NotSupported(_)) { Ok(Vec::new()) } else { Err(failure) };
        let applications =
            automation.applications().or_else(|failure| or_none(failure).map(|_: Vec<()>| Vec::new()))?;
        let windows = automation.windows().or_else(|failure| or_none(failure).map(|_: Vec<()>| Vec::new()))?;
        Ok(Self { automation, applications, windows })
    }

    /// The program that is meant: `PID:n`, else the exact bundle id, the exact name, the best name that contains it.
    ///
    /// # Errors
    /// [`Failure::NotFound`].
    pub fn application(&self, identifier: &str) -> Done<&automation::Application> {
        let wanted = identifier.trim();
        let lower = wanted.to_lowercase();
        let mut all = self.applications.iter();
        let by_pid = lower.strip_prefix("pid:").and_then(|pid| pid.trim().parse::<i32>().ok());
        let found = match by_pid {
            Some(pid) => all.find(|application| application.pid == pid),
            None if wanted.is_empty() => None,
            None => all
                .clone()
                .find(|application| application.bundle_id.as_deref() == Some(wanted))
                .or_else(|| all.find(|application| application.name.to_lowercase() == lower))
                .or_else(|| self.best_by_name(&lower)),
        };
        found.ok_or_else(|| Failure::NotFound("such application".to_owned()))
    }

    fn best_by_name(&self, lower: &str) -> Option<&automation::Application> {
        let score = |application: &automation::Application| {
            let name = application.name.to_lowercase();
            let prefix = if name.starts_with(lower) { 100 } else { 0 };
            let regular = if application.presence == Presence::Regular { 50 } else { 0 };
            prefix + regular - i64::try_from(application.name.chars().count()).unwrap_or(i64::MAX)
        };
        self.applications
            .iter()
            .filter(|application| application.presence != Presence::Background)
            .filter(|application| application.name.to_lowercase().contains(lower))
            .max_by_key(|application| score(application))
    }

    /// The program in front.
    ///
    /// # Errors
    /// [`Failure::NotFound`].
    pub fn frontmost(&self) -> Done<&automation::Application> {
        let active = self.applications.iter().find(|application| application.active);
        active.ok_or_else(|| Failure::NotFound("application in front".to_owned()))
    }

    /// The windows of a program, from front to back.
    pub fn windows_of(&self, pid: i32) -> Vec<&automation::Window> {
        self.windows.iter().filter(|window| window.pid == pid).collect()
    }

    /// All windows that a target names.
    ///
    /// # Errors
    /// [`Failure::NotFound`], or [`Failure::Invalid`] for an index that there is not.
    pub fn windows(&self, target: &WindowTarget) -> Done<Vec<&automation::Window>> {
        Ok(match target {
            WindowTarget::Application { app } => self.windows_of(self.application(app)?.pid),
            WindowTarget::Frontmost => self.windows_of(self.frontmost()?.pid),
            WindowTarget::Title { title } => titled(self.windows.iter().collect(), title),
            WindowTarget::ApplicationAndTitle { app, title } => {
                titled(self.windows_of(self.application(app)?.pid), title)
            }
            WindowTarget::Index { app, index } => {
                let windows = self.windows_of(self.application(app)?.pid);
                let place = usize::try_from(*index).ok().and_then(|index| windows.get(index).copied());
                vec![place.ok_or_else(|| Failure::Invalid("there is no window of this index".to_owned()))?]
            }
            WindowTarget::WindowId { window_id } => {
                self.windows.iter().filter(|window| i64::from(window.id) == *window_id).collect()
            }
        })
    }

    /// The one window that a target names: of a program its first one that is not put away and not tiny.
    ///
    /// # Errors
    /// As for [`Desk::windows`].
    pub fn window(&self, target: &WindowTarget) -> Done<&automation::Window> {
        main_window(&self.windows(target)?).ok_or_else(|| Failure::NotFound("such window".to_owned()))
    }

    /// What the wire says about a program.
    pub fn describe_application(&self, application: &automation::Application) -> wire::Application {
        wire::Application {
            process_identifier: application.pid,
            name: application.name.clone(),
            is_active: application.active,
            is_hidden: application.hidden,
            window_count: count(self.windows_of(application.pid).len()),
            bundle_identifier: application.bundle_id.clone(),
            bundle_path: application.path.clone(),
            activation_policy: Some(match application.presence {
                Presence::Regular => wire::ActivationPolicy::Regular,
                Presence::Accessory => wire::ActivationPolicy::Accessory,
                Presence::Background => wire::ActivationPolicy::Prohibited,
            }),
        }
    }

    /// What the wire says about a window.
    pub fn describe_window(&self, window: &automation::Window) -> wire::Window {
        let index = self.windows_of(window.pid).iter().position(|other| other.id == window.id);
        let screens = self.automation.screens().unwrap_or_default();
        let screen = screens.iter().position(|screen| screen.bounds.contains(window.bounds.center()));
        wire::Window {
            window_id: i64::from(window.id),
            title: window.title.clone(),
            bounds: window.bounds.into(),
            is_minimized: window.minimized,
            is_main_window: window.main,
            window_level: i64::from(window.level),
            alpha: finite(window.alpha),
            index: count(index.unwrap_or_default()),
            is_off_screen: screen.is_none(),
            layer: i64::from(window.level),
            is_on_screen: window.on_screen,
            is_excluded_from_windows_menu: false,
            space_id: None,
            space_name: None,
            screen_name: screen.and_then(|index| screens.get(index)).and_then(|screen| screen.name.clone()),
            screen_index: screen.map(count),
            sharing_state: None,
        }
    }

    /// Where a place that was seen lies now, and what must be hit there: its window may have moved since
    /// the snapshot. A window that is gone, of another size, or covered by another program's is not
    /// clicked at all (A136).
    ///
    /// # Errors
    /// [`Failure::Stale`].
    pub fn place_now(&self, seen: &Seen, bounds: Rect, found: Option<&automation::Element>) -> Done<(Point, Expected)> {
        let stale = |what: &str| Failure::Stale(what.to_owned());
        let context = seen.context();
        let pid = found.map(|element| element.pid).or(context.application_process_id);
        let id = context.window_id.and_then(|id| u32::try_from(id).ok()).or(found.and_then(|element| element.window));
        let mut point = bounds.center();
        if let Some(id) = id {
            let now = self.windows.iter().find(|window| window.id == id && pid.is_none_or(|pid| window.pid == pid));
            let now = now.ok_or_else(|| stale("the window is gone"))?;
            if now.minimized || !now.on_screen {
                return Err(stale("the window is hidden"));
            }
            if let Some(before) = context.window_bounds.map(Rect::from) {
                if before.size != now.bounds.size {
                    return Err(stale("the window has another size"));
                }
                point.x += now.bounds.origin.x - before.origin.x;
                point.y += now.bounds.origin.y - before.origin.y;
            }
            if !now.bounds.contains(point) {
                return Err(stale("the place is not in its window any more"));
            }
        }
        if let Some(pid) = pid {
            if !self.windows.is_empty() && self.windows_of(pid).is_empty() {
                return Err(stale("the program has no windows any more"));
            }
            let above = self.automation.window_at(point).or_else(|failure| match failure {
                Failure::NotSupported(_) => Ok(None),
                other => Err(other),
            })?;
            if above.is_some_and(|above| above.pid != pid) {
                return Err(stale("another program's window covers the place"));
            }
        }
        Ok((point, Expected { pid, window: id }))
    }
}

fn titled<'a>(windows: Vec<&'a automation::Window>, title: &str) -> Vec<&'a automation::Window> {
    let title = title.to_lowercase();
    windows.into_iter().filter(|window| window.title.to_lowercase().contains(&title)).collect()
}

/// Of a program's windows the one that is meant when none is named.
pub fn main_window<'a>(windows: &[&'a automation::Window]) -> Option<&'a automation::Window> {
    let is_main = |window: &&&automation::Window| {
        let Size { width, height } = window.bounds.size;
        !window.minimized && width >= MAIN_WINDOW && height >= MAIN_WINDOW
    };
    windows.iter().find(is_main).or(windows.first()).copied()
}

/// A number for the wire.
pub fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// JSON has no NaN and no infinity.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

impl From<wire::Point> for Point {
    fn from(wire::Point(x, y): wire::Point) -> Self {
        Self { x, y }
    }
}

impl From<Point> for wire::Point {
    fn from(point: Point) -> Self {
        Self(finite(point.x), finite(point.y))
    }
}

impl From<wire::Size> for Size {
    fn from(wire::Size(width, height): wire::Size) -> Self {
        Self { width, height }
    }
}

impl From<Size> for wire::Size {
    fn from(size: Size) -> Self {
        Self(finite(size.width), finite(size.height))
    }
}

impl From<wire::Rect> for Rect {
    fn from(wire::Rect(origin, size): wire::Rect) -> Self {
        Self { origin: origin.into(), size: size.into() }
    }
}

impl From<Rect> for wire::Rect {
    fn from(rect: Rect) -> Self {
        Self(rect.origin.into(), rect.size.into())
    }
}
