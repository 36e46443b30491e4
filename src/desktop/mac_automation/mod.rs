//! macOS: seeing and acting on the Mac's desktop, by Core Graphics, Accessibility, NSWorkspace and ScreenCaptureKit.
//!
//! Before each press of a button or key it is looked at what that reaches ([`guard`]). The window server asks nobody, so
//! a prompt that comes up in the moment between that look and the press is protected by its own rules: it takes no
//! answer right after it was shown, and none that a program made.

mod elements;
mod guard;
mod keyboard;
mod pointer;
mod programs;
mod windows;

use super::automation::{
    Ability, Application, ApplicationChange, Area, Automation, Done, Element, ElementScope, ElementValue, Elements,
    Expected, Failure, Image, Key, Modifiers, Permission, Permissions, Point, Pointer, Rect, Scale, Screen, Scroll,
    Size, Window, WindowChange, WindowId,
};
use super::mac_permissions::{self, Slow};
use crate::limits;
use guard::Guard;
use openclaw_macos::accessibility::{self, Refusal};
use openclaw_macos::core_graphics;
use openclaw_macos::image::Format;
use openclaw_macos::permissions::{self, Grant};
use openclaw_macos::screen::{self, CaptureError, Session, Subject};
use openclaw_macos::{Missing, When, on_main, workspace};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A Mac's desktop.
struct Mac {
    abilities: Vec<Ability>,
    apple_events: Slow,
}

const ABILITIES: [Ability; 18] = [
    Ability::Applications,
    Ability::Windows,
    Ability::Pointer,
    Ability::Scroll,
    Ability::Keyboard,
    Ability::Targeted,
    Ability::Clipboard,
    Ability::FocusWindow,
    Ability::PlaceWindow,
    Ability::CloseWindow,
    Ability::MinimizeWindow,
    Ability::MaximizeWindow,
    Ability::Launch,
    Ability::Activate,
    Ability::Hide,
    Ability::Quit,
    Ability::Elements,
    Ability::ElementActions,
];

/// The desktop of the Mac that this runs on; none elsewhere.
pub fn open() -> Option<Arc<dyn Automation>> {
    if !(core_graphics::displays().is_ok() && accessibility::is_here() && workspace::is_here()) {
        return None;
    }
    let mut abilities = ABILITIES.to_vec();
    if screen::can_capture() {
        abilities.extend([Ability::CaptureScreen, Ability::CaptureWindow]);
    }
    Some(Arc::new(Mac { abilities, apple_events: Slow::new(mac_permissions::automation) }))
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self::NotSupported(missing.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing(missing) => missing.into(),
            Refusal::NotGranted => Self::Permission(Permission::Accessibility),
            Refusal::Gone => Self::Stale("the element or its program is gone".to_owned()),
            Refusal::TimedOut => Self::Timeout,
            Refusal::Unsupported | Refusal::Error(_) => Self::Internal(refusal.to_string()),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Missing(missing) => missing.into(),
            CaptureError::NotFound => Self::NotFound("such screen or window, or it is one of ours".to_owned()),
            CaptureError::TimedOut | CaptureError::Cancelled => Self::Timeout,
            CaptureError::Declined => Self::Permission(Permission::ScreenRecording),
            CaptureError::Failed(words) => Self::Internal(words),
        }
    }
}

impl From<openclaw_macos::Point> for Point {
    fn from(point: openclaw_macos::Point) -> Self {
        Self { x: point.x, y: point.y }
    }
}

impl From<Point> for openclaw_macos::Point {
    fn from(point: Point) -> Self {
        Self { x: point.x, y: point.y }
    }
}

impl From<openclaw_macos::Size> for Size {
    fn from(size: openclaw_macos::Size) -> Self {
        Self { width: size.width, height: size.height }
    }
}

impl From<Size> for openclaw_macos::Size {
    fn from(size: Size) -> Self {
        Self { width: size.width, height: size.height }
    }
}

impl From<openclaw_macos::Rect> for Rect {
    fn from(rect: openclaw_macos::Rect) -> Self {
        Self { origin: rect.origin.into(), size: rect.size.into() }
    }
}

/// When an action must be over.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn new() -> Self {
        Self(Instant::now() + limits::MAC_ACTION)
    }

    /// Lets `time` pass, or what is left.
    fn pause(self, time: Duration) -> Done {
        thread::sleep(time.min(self.0.saturating_duration_since(Instant::now())));
        if Instant::now() < self.0 { Ok(()) } else { Err(Failure::Timeout) }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Passes when somebody could see what is done: an unlocked screen.
fn session() -> Done {
    let why = match screen::session() {
        Session::Active => return Ok(()),
        Session::Locked => "the screen is locked; unlock it first",
        Session::Away => "another user's session is on the screen; switch to this one first",
        Session::None => "this process has no screen; start it in the session of the logged-in user",
    };
    Err(Failure::Internal(why.to_owned()))
}

impl Automation for Mac {
    fn abilities(&self) -> &[Ability] {
        &self.abilities
    }

    fn permissions(&self) -> Permissions {
        let granted = |grant: Result<Grant, Missing>| grant == Ok(Grant::Granted);
        Permissions {
            screen_recording: granted(permissions::screen_recording()),
            accessibility: granted(permissions::accessibility()),
            event_posting: granted(permissions::event_posting()),
            apple_script: self.apple_events.status() == super::permissions::Grant::Granted,
        }
    }

    fn request_event_posting(&self) -> Done<bool> {
        on_main(When::Idle, |main| {
            // Whether it is granted is seen by the next look.
            let _asked = permissions::ask_event_posting(main);
        })?;
        Ok(permissions::event_posting()? == Grant::Granted)
    }

    fn screens(&self) -> Done<Vec<Screen>> {
        let screen = |display: core_graphics::Display| Screen {
            name: None,
            bounds: display.bounds.into(),
            scale: display.scale,
        };
        Ok(core_graphics::displays()?.into_iter().map(screen).collect())
    }

    fn applications(&self) -> Done<Vec<Application>> {
        programs::list()
    }

    fn windows(&self) -> Done<Vec<Window>> {
        windows::list()
    }

    fn window_at(&self, point: Point) -> Done<Option<Window>> {
        let windows = core_graphics::windows(false)?;
        Ok(guard::hit(&windows, point, guard::has_element_at(point)).map(Window::from))
    }

    fn capture(&self, area: Area, scale: Scale) -> Done<Image> {
        session()?;
        let (subject, size) = subject(area, &self.screens()?)?;
        let to = |width, height| match scale {
            Scale::Native => (width, height),
            Scale::Logical => (size.width, size.height),
        };
        let picture = screen::capture(subject, to, Format::Png, Deadline::new().0)?;
        Ok(Image { png: picture.bytes, width: picture.width, height: picture.height })
    }

    fn pointer_position(&self) -> Done<Point> {
        Ok(core_graphics::pointer()?.into())
    }

    fn pointer(&self, action: &Pointer, to: Option<i32>, expected: Expected) -> Done {
        pointer::act(action, to, &Guard::new(expected)?)
    }

    fn scroll(&self, scroll: &Scroll, expected: Expected) -> Done {
        pointer::scroll(scroll, &Guard::new(expected)?)
    }

    fn type_text(&self, text: &str, pause: Duration, expected: Expected) -> Done {
        keyboard::type_text(text, pause, &Guard::new(expected)?)
    }

    fn press(&self, key: Key, modifiers: Modifiers, hold: Duration, to: Option<i32>, expected: Expected) -> Done {
        keyboard::press(key, modifiers, hold, to, &Guard::new(expected)?)
    }

    fn clipboard(&self) -> Done<String> {
        let text = workspace::clipboard()?.ok_or_else(|| Failure::NotFound("text on the clipboard".to_owned()))?;
        fits_clipboard(&text)?;
        Ok(text)
    }

    fn set_clipboard(&self, text: &str) -> Done {
        fits_clipboard(text)?;
        let taken = workspace::set_clipboard(text)?;
        if taken { Ok(()) } else { Err(Failure::Internal("the clipboard did not take the text".to_owned())) }
    }

    fn change_window(&self, window: WindowId, change: WindowChange) -> Done {
        windows::change(window, change, &Guard::new(Expected::default())?)
    }

    fn change_application(&self, pid: i32, change: ApplicationChange) -> Done<bool> {
        programs::change(pid, change, &Guard::new(Expected::default())?)
    }

    fn launch(&self, identifier: &str) -> Done<Application> {
        programs::launch(identifier)
    }

    fn elements(&self, scope: &ElementScope) -> Done<Elements> {
        elements::look(scope, &Guard::new(Expected::default())?)
    }

    fn set_value(&self, element: &Element, value: &ElementValue) -> Done<(Option<String>, Option<String>)> {
        elements::set_value(element, value, &Guard::new(Expected::default())?)
    }

    fn perform(&self, element: &Element, action: &str) -> Done {
        elements::perform(element, action, &Guard::new(Expected::default())?)
    }
}

fn fits_clipboard(text: &str) -> Done {
    if text.len() <= limits::CLIPBOARD_BYTES {
        return Ok(());
    }
    Err(Failure::Invalid(format!("the text is longer than {} bytes", limits::CLIPBOARD_BYTES)))
}

/// What is captured, and its size in points.
fn subject(area: Area, screens: &[Screen]) -> Done<(Subject, Size)> {
    match area {
        Area::Screen(index) => {
            let screen = screens.get(index).ok_or_else(|| Failure::Invalid(format!("there is no screen {index}")))?;
            Ok((Subject::Display(index), screen.bounds.size))
        }
        Area::Window(id) => Ok((Subject::Window(id), windows::foreign(id)?.bounds.size.into())),
        Area::Rect(rect) => {
            part(rect, screens).ok_or_else(|| Failure::Invalid("that lies outside of the screens".to_owned()))
        }
    }
}

/// The screen that has most of `rect`, and that part of it in the screen's own points.
fn part(rect: Rect, screens: &[Screen]) -> Option<(Subject, Size)> {
    if ![rect.origin.x, rect.origin.y, rect.size.width, rect.size.height].into_iter().all(f64::is_finite) {
        return None;
    }
    let seen = screens.iter().enumerate().filter_map(|(index, screen)| {
        let axis = |from: f64, length: f64, start: f64, extent: f64| {
            let begin = from.max(start);
            let end = (from + length).min(start + extent);
            (end - begin >= 1.0).then_some((begin - start, end - begin))
        };
        let Rect { origin, size } = screen.bounds;
        let (x, width) = axis(rect.origin.x, rect.size.width, origin.x, size.width)?;
        let (y, height) = axis(rect.origin.y, rect.size.height, origin.y, size.height)?;
        Some((index, openclaw_macos::Rect { origin: Point { x, y }.into(), size: Size { width, height }.into() }))
    });
    let area = |rect: &openclaw_macos::Rect| rect.size.width * rect.size.height;
    let (index, part) = seen.max_by(|(_, one), (_, other)| area(one).total_cmp(&area(other)))?;
    Some((Subject::Part(index, part), part.size.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: f64, y: f64, width: f64, height: f64) -> Rect {
        Rect { origin: Point { x, y }, size: Size { width, height } }
    }

    #[test]
    fn a_rectangle_is_captured_on_the_screen_that_has_most_of_it() {
        let screen = |bounds| Screen { name: None, bounds, scale: 2.0 };
        let screens = [screen(rect(0.0, 0.0, 100.0, 50.0)), screen(rect(-80.0, -10.0, 80.0, 60.0))];
        let part = |x, y, width, height| match part(rect(x, y, width, height), &screens) {
            Some((Subject::Part(index, part), _)) => Some((index, Rect::from(part))),
            _ => None,
        };
        assert_eq!(part(10.0, 5.0, 20.0, 10.0), Some((0, rect(10.0, 5.0, 20.0, 10.0))));
        assert_eq!(part(-30.0, 0.0, 40.0, 10.0), Some((1, rect(50.0, 10.0, 30.0, 10.0))));
        assert_eq!(part(90.0, 40.0, 1e9, 1e9), Some((0, rect(90.0, 40.0, 10.0, 10.0))));
        assert_eq!(part(100.0, 0.0, 10.0, 10.0), None);
        assert_eq!(part(5.0, 5.0, -10.0, 10.0), None);
        for odd in [f64::NAN, f64::INFINITY, f64::MIN] {
            assert_eq!(part(odd, odd, odd, odd), None);
        }
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn elsewhere_there_is_none() {
        assert!(open().is_none());
        assert!(matches!(session(), Err(Failure::Internal(_))));
    }
}
