//! X11: seeing and acting on a Linux desktop, with or without a window manager.
//!
//! All of it runs on the one thread of [`Server`]. Each press of a button or key is decided and done while the X server
//! serves nobody else ([`guard`]), so nothing can slip under it in between. Points are those of the root window.

mod abilities;
mod guard;
mod keyboard;
mod pointer;
mod windows;

use super::automation::{
    Ability, Application, ApplicationChange, Area, Automation, Done, Expected, Failure, Image, Key, Modifiers,
    Permissions, Point, Pointer, Rect, Scale, Screen, Scroll, Size, Window, WindowChange, WindowId,
};
use super::png;
use crate::limits;
use crate::sys::x11::{self, Connection, Error, Monitor, Pixels, Server};
use guard::Guard;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The desktop of an X server.
pub struct X11 {
    name: Option<String>,
    link: Mutex<Link>,
}

/// The connection, as far as there is one.
#[derive(Default)]
struct Link {
    /// None until it is needed.
    server: Option<Arc<Server>>,
    /// When a server was last found not to answer: who has waited for that attempt does not begin another one.
    hung: Option<Instant>,
}

/// What it can do.
const ABILITIES: [Ability; 13] = [
    Ability::CaptureScreen,
    Ability::CaptureWindow,
    Ability::Applications,
    Ability::Windows,
    Ability::Pointer,
    Ability::Scroll,
    Ability::Keyboard,
    Ability::Clipboard,
    Ability::FocusWindow,
    Ability::PlaceWindow,
    Ability::CloseWindow,
    Ability::MinimizeWindow,
    Ability::MaximizeWindow,
];

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Timeout => Self::Timeout,
            // BadWindow, BadMatch, BadDrawable: it was there when it was looked up.
            Error::Refused(3 | 8 | 9) => Self::Stale("the window is gone, or not where it was".to_owned()),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl X11 {
    /// The X server `name` (`:1`), or what `DISPLAY` says. It is connected to when that is needed.
    pub fn new(name: Option<&str>) -> Self {
        Self { name: name.map(str::to_owned), link: Mutex::default() }
    }

    /// The connection; a new one when there was none or it was lost.
    fn server(&self) -> Result<Arc<Server>, Error> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = link.server.as_ref().filter(|server| server.is_open()) {
            return Ok(Arc::clone(open));
        }
        if link.hung.is_some_and(|since| since.elapsed() < limits::X11_ACTION) {
            return Err(Error::Timeout);
        }
        let opened = Server::open(self.name.as_deref()).map(Arc::new);
        link.hung = (opened.as_ref().err() == Some(&Error::Timeout)).then(Instant::now);
        link.server = opened.as_ref().ok().cloned();
        opened
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Done<T> + Send + 'static) -> Done<T> {
        self.server()?.run(work)
    }
}

impl Automation for X11 {
    fn abilities(&self) -> &[Ability] {
        if self.server().is_ok() { &ABILITIES } else { &[] }
    }

    /// Whoever may connect may do all that there is.
    fn permissions(&self) -> Permissions {
        Permissions { apple_script: false, ..Permissions::ALL }
    }

    fn screens(&self) -> Done<Vec<Screen>> {
        self.run(screens)
    }

    fn applications(&self) -> Done<Vec<Application>> {
        self.run(windows::applications)
    }

    fn windows(&self) -> Done<Vec<Window>> {
        self.run(windows::list)
    }

    fn window_at(&self, point: Point) -> Done<Option<Window>> {
        self.run(move |connection| windows::at(connection, point))
    }

    fn capture(&self, area: Area, _: Scale) -> Done<Image> {
        let Pixels { width, height, rgb } = self.run(move |connection| capture(connection, area))?;
        Ok(Image { png: png::encode(width, height, &rgb), width, height })
    }

    fn pointer_position(&self) -> Done<Point> {
        let (x, y) = self.run(|connection| Ok(connection.pointer()?))?;
        Ok(Point { x: x.into(), y: y.into() })
    }

    fn pointer(&self, action: &Pointer, to: Option<i32>, expected: Expected) -> Done {
        not_targeted(to)?;
        let action = action.clone();
        self.run(move |connection| pointer::act(connection, &action, &Guard::new(connection, expected)?))
    }

    fn scroll(&self, scroll: &Scroll, expected: Expected) -> Done {
        let scroll = *scroll;
        self.run(move |connection| pointer::scroll(connection, &scroll, &Guard::new(connection, expected)?))
    }

    fn type_text(&self, text: &str, pause: Duration, expected: Expected) -> Done {
        let symbols = keyboard::symbols(text)?;
        self.run(move |connection| {
            keyboard::type_symbols(connection, &symbols, pause, &Guard::new(connection, expected)?)
        })
    }

    fn press(&self, key: Key, modifiers: Modifiers, hold: Duration, to: Option<i32>, expected: Expected) -> Done {
        not_targeted(to)?;
        self.run(move |connection| {
            keyboard::press(connection, key, modifiers, hold, &Guard::new(connection, expected)?)
        })
    }

    fn clipboard(&self) -> Done<String> {
        let text = self.run(|connection| connection.clipboard().map_err(Failure::from))?;
        text.ok_or_else(|| Failure::NotFound("text on the clipboard".to_owned()))
    }

    fn set_clipboard(&self, text: &str) -> Done {
        Ok(x11::hold_clipboard(self.name.as_deref(), text.to_owned())?)
    }

    fn change_window(&self, window: WindowId, change: WindowChange) -> Done {
        self.run(move |connection| windows::change(connection, window, change))
    }

    fn change_application(&self, pid: i32, change: ApplicationChange) -> Done<bool> {
        match change {
            ApplicationChange::Activate => {
                self.run(move |connection| windows::activate(connection, pid)).map(|()| true)
            }
            _ => Err(Failure::NotSupported("hiding or ending programs".to_owned())),
        }
    }
}

fn not_targeted(to: Option<i32>) -> Done {
    match to {
        None => Ok(()),
        Some(_) => Err(Failure::NotSupported("sending input to a program that is not in front".to_owned())),
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pixelated {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
}

impl Pixelated {
    fn of(rect: Rect) -> Self {
        let (x, y) = pixel(rect.origin);
        let (right, lower) = (rect.origin.x + rect.size.width, rect.origin.y + rect.size.height);
        let length = |from: i32, to: f64| u32::try_from((to.ceil() as i64).saturating_sub(from.into())).unwrap_or(0);
        Self { x, y, width: length(x, right), height: length(y, lower) }
    }

    /// What both have; empty sizes if nothing.
    fn intersect(self, other: Self) -> Self {
        let axis = |(from, length): (i32, u32), (other_from, other_length): (i32, u32)| {
            let start = from.max(other_from);
            let end = from.saturating_add_unsigned(length).min(other_from.saturating_add_unsigned(other_length));
            (start, u32::try_from(i64::from(end) - i64::from(start)).unwrap_or(0))
        };
        let (x, width) = axis((self.x, self.width), (other.x, other.width));
        let (y, height) = axis((self.y, self.height), (other.y, other.height));
        Self { x, y, width, height }
    }

    fn rect(self) -> Rect {
        let size = Size { width: self.width.into(), height: self.height.into() };
        Rect { origin: Point { x: self.x.into(), y: self.y.into() }, size }
    }
}

/// The pixel that a point lies in.
fn pixel(point: Point) -> (i32, i32) {
    (point.x.floor() as i32, point.y.floor() as i32)
}

/// The root window's extent.
fn desktop(connection: &Connection) -> Done<Pixelated> {
    let root = connection.attributes(connection.root())?;
    Ok(Pixelated { x: 0, y: 0, width: root.width, height: root.height })
}

fn screens(connection: &Connection) -> Done<Vec<Screen>> {
    let monitors = connection.monitors()?;
    let screen = |Monitor { name, x, y, width, height }| {
        let bounds = Pixelated { x, y, width, height }.rect();
        Screen { name, bounds, scale: 1.0 }
    };
    if monitors.is_empty() {
        return Ok(vec![Screen { name: None, bounds: desktop(connection)?.rect(), scale: 1.0 }]);
    }
    Ok(monitors.into_iter().map(screen).collect())
}

fn capture(connection: &Connection, area: Area) -> Done<Pixels> {
    let whole = desktop(connection)?;
    let (from, bounds) = match area {
        Area::Window(window) => {
            if !connection.attributes(windows::known(connection, window)?)?.visible {
                return Err(Failure::NotFound("such window on the screen: it is put away".to_owned()));
            }
            let toplevel = windows::toplevel(connection, window)?;
            (Some(toplevel), windows::bounds(connection, toplevel)?)
        }
        Area::Rect(rect) => (None, Pixelated::of(rect)),
        Area::Screen(index) => match screens(connection)?.get(index) {
            Some(screen) => (None, Pixelated::of(screen.bounds)),
            None => return Err(Failure::Invalid(format!("there is no screen {index}"))),
        },
    };
    let seen = bounds.intersect(whole);
    if seen.width == 0 || seen.height == 0 {
        return Err(Failure::Invalid("that lies outside of the screen".to_owned()));
    }
    let (window, x, y) = match from {
        None => (connection.root(), seen.x, seen.y),
        // Its coordinates begin inside its border.
        Some(window) => {
            let border = i32::try_from(connection.attributes(window)?.border).unwrap_or(0);
            (window, seen.x - bounds.x - border, seen.y - bounds.y - border)
        }
    };
    Ok(connection.image(window, x, y, seen.width, seen.height)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_become_pixels_inside_the_screen_whatever_their_numbers_are() {
        let rect = |x, y, width, height| Rect { origin: Point { x, y }, size: Size { width, height } };
        let screen = Pixelated { x: 0, y: 0, width: 100, height: 50 };
        let seen = |x, y, width, height| Pixelated::of(rect(x, y, width, height)).intersect(screen);
        assert_eq!(seen(1.5, 2.0, 1.0, 3.0), Pixelated { x: 1, y: 2, width: 2, height: 3 });
        assert_eq!(seen(-5.0, -5.0, 10.0, 1_000.0), Pixelated { x: 0, y: 0, width: 5, height: 50 });
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN] {
            for pixels in [seen(odd, 0.0, 10.0, 10.0), seen(0.0, 0.0, odd, odd), seen(odd, odd, odd, odd)] {
                assert!(pixels.width <= 100 && pixels.height <= 50, "{odd}: {pixels:?}");
            }
        }
        assert_eq!(seen(100.0, 0.0, 5.0, 5.0).width, 0);
        assert_eq!(seen(5.0, 5.0, -3.0, 5.0).width, 0);
    }
}
