//! Windows of other programs: the window server knows where they lie, their programs know the rest.

use super::guard::{Guard, ORDINARY, focused_window, front, own_processes};
use super::programs;
use crate::desktop::automation::{Done, Failure, Point, Rect, Size, Window, WindowChange, WindowId};
use crate::limits;
use openclaw_macos::accessibility::{Element, Refusal, Value};
use openclaw_macos::core_graphics::{self, WindowInfo};
use std::collections::BTreeMap;
use std::time::Instant;

impl From<&WindowInfo> for Window {
    fn from(info: &WindowInfo) -> Self {
        Self {
            id: info.id,
            pid: info.pid,
            title: info.title.clone().unwrap_or_default(),
            bounds: info.bounds.into(),
            on_screen: info.on_screen,
            level: info.layer,
            alpha: info.alpha,
            ..Self::default()
        }
    }
}

/// A window as its program describes it.
pub(super) struct Described {
    /// To operate it by.
    pub(super) element: Element,
    /// Its number, where the system tells.
    pub(super) id: Option<WindowId>,
    title: String,
    bounds: Rect,
    minimized: bool,
    main: bool,
    /// It is a dialog.
    pub(super) dialog: bool,
}

impl Described {
    pub(super) fn new(element: Element) -> Result<Self, Refusal> {
        let names = ["AXTitle", "AXPosition", "AXSize", "AXMinimized", "AXMain", "AXSubrole"];
        let mut values = element.get_all(&names)?.into_iter();
        let mut next = || values.next().flatten();
        let text = |value| if let Some(Value::Text(text)) = value { text } else { String::new() };
        let is = |value| matches!(value, Some(Value::Bool(true)));
        let title = text(next());
        let bounds = bounds(next(), next());
        let (minimized, main) = (is(next()), is(next()));
        let dialog = ["AXDialog", "AXSystemDialog"].contains(&text(next()).as_str());
        Ok(Self { id: element.window_number(), element, title, bounds, minimized, main, dialog })
    }

    /// Whether the window server means the same one. Without a number its place and title must do.
    fn is(&self, info: &WindowInfo) -> bool {
        same(self.id, self.bounds, &self.title, info)
    }
}

fn same(id: Option<WindowId>, bounds: Rect, title: &str, info: &WindowInfo) -> bool {
    id.map_or_else(
        || bounds == Rect::from(info.bounds) && info.title.as_deref().is_none_or(|other| other == title),
        |id| id == info.id,
    )
}

/// What `AXPosition` and `AXSize` say.
pub(super) fn bounds(position: Option<Value>, size: Option<Value>) -> Rect {
    let origin = if let Some(Value::Point(point)) = position { point.into() } else { Point::default() };
    let size = if let Some(Value::Size(size)) = size { size.into() } else { Size::default() };
    Rect { origin, size }
}

/// The windows of one program as it describes them.
pub(super) fn of_program(pid: i32) -> Result<Vec<Described>, Refusal> {
    let windows = Element::application(pid)?.list("AXWindows", 0, limits::PROGRAM_WINDOWS)?;
    Ok(windows.into_iter().filter_map(|window| Described::new(window).ok()).collect())
}

/// Windows from front to back, those after them that are put away or on another space; never our own.
pub(super) fn list() -> Done<Vec<Window>> {
    let own = own_processes();
    let seen = core_graphics::windows(false)?;
    let hidden = core_graphics::windows(true)?.into_iter().filter(|window| !window.on_screen && window.layer == 0);
    let is_window = |window: &WindowInfo| {
        (0..=ORDINARY).contains(&window.layer) && window.bounds.size.width >= 1.0 && !own.contains(&window.pid)
    };
    let front = front().ok().flatten();
    let focused = front.and_then(focused_window);
    // A program that hangs must not hold up the list: what it would have said is left out.
    let end = Instant::now() + limits::MAC_SETTLE;
    let mut programs: BTreeMap<i32, Vec<Described>> = BTreeMap::new();
    let mut windows = Vec::new();
    for info in seen.into_iter().chain(hidden).filter(is_window) {
        let described = programs.entry(info.pid).or_insert_with(|| {
            if Instant::now() < end { of_program(info.pid).unwrap_or_default() } else { Vec::new() }
        });
        let described = described.iter().find(|described| described.is(&info));
        // Programs keep invisible windows that are none to a person.
        if described.is_none() && !info.on_screen {
            continue;
        }
        let mut window = Window::from(&info);
        window.focused = focused == Some(info.id);
        if let Some(described) = described {
            window.minimized = described.minimized;
            window.main = described.main;
            if window.title.is_empty() {
                window.title.clone_from(&described.title);
            }
        }
        windows.push(window);
    }
    Ok(windows)
}

/// The window of this number, unless it is ours.
pub(super) fn foreign(id: WindowId) -> Done<WindowInfo> {
    let found = core_graphics::windows(true)?.into_iter().find(|window| window.id == id);
    let found = found.ok_or_else(|| Failure::NotFound("such window".to_owned()))?;
    if own_processes().contains(&found.pid) { Err(Failure::OwnPrompt) } else { Ok(found) }
}

/// Changes a window.
pub(super) fn change(id: WindowId, change: WindowChange, guard: &Guard) -> Done {
    let info = foreign(id)?;
    guard.process(info.pid)?;
    let mut described = of_program(info.pid)?.into_iter().filter(|described| described.is(&info));
    let window = described.next().ok_or_else(|| Failure::NotFound("such window that can be operated".to_owned()))?;
    if described.next().is_some() {
        return Err(Failure::Stale("two windows of that program cannot be told apart".to_owned()));
    }
    let window = window.element;
    match change {
        WindowChange::Focus => {
            // Some windows cannot be the main one and come forward all the same.
            let _ = window.set("AXMain", &Value::Bool(true));
            window.perform("AXRaise")?;
            programs::activate(info.pid)
        }
        WindowChange::Place(origin, size) => place(&window, origin, size),
        WindowChange::Close => press(&window, "AXCloseButton"),
        WindowChange::Minimize => Ok(window.set("AXMinimized", &Value::Bool(true))?),
        WindowChange::Maximize => press(&window, "AXZoomButton"),
    }
}

fn place(window: &Element, origin: Option<Point>, size: Option<Size>) -> Done {
    let numbers = origin.map(|at| [at.x, at.y]).into_iter().chain(size.map(|size| [size.width, size.height])).flatten();
    let is_odd = |number: f64| !number.is_finite() || number.abs() > f64::from(i16::MAX);
    if numbers.into_iter().any(is_odd) || size.is_some_and(|size| size.width < 1.0 || size.height < 1.0) {
        return Err(Failure::Invalid("no window can lie there".to_owned()));
    }
    if let Some(origin) = origin {
        window.set("AXPosition", &Value::Point(origin.into()))?;
    }
    if let Some(size) = size {
        window.set("AXSize", &Value::Size(size.into()))?;
    }
    Ok(())
}

fn press(window: &Element, button: &str) -> Done {
    match window.get(button)? {
        Some(Value::Element(button)) => Ok(button.perform("AXPress")?),
        _ => Err(Failure::Invalid("the window has no such button".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_known_by_its_number_or_else_by_place_and_title() {
        let bounds = openclaw_macos::Rect { size: Size { width: 5.0, height: 6.0 }.into(), ..Default::default() };
        let info = WindowInfo { id: 7, title: Some("Notes".to_owned()), bounds, ..WindowInfo::default() };
        let here = Rect::from(bounds);
        let elsewhere = Rect { origin: Point { x: 1.0, y: 0.0 }, ..here };
        assert!(same(Some(7), elsewhere, "renamed", &info));
        assert!(!same(Some(8), here, "Notes", &info));
        assert!(same(None, here, "Notes", &info));
        assert!(!same(None, here, "Other", &info));
        assert!(!same(None, elsewhere, "Notes", &info));
        assert!(same(None, here, "Other", &WindowInfo { title: None, ..info }));
    }
}
