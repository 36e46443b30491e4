//! The pointer, its buttons and the wheel.

use super::guard::Guard;
use super::{desktop, keyboard, pixel};
use crate::desktop::automation::{Button, Direction, Done, Failure, Modifiers, Point, Pointer, Scroll};
use crate::limits;
use crate::sys::x11::Connection;
use std::time::Duration;

/// A button or key that is down; it goes up when this is dropped, whatever happened meanwhile.
pub(super) struct Held<'a> {
    connection: &'a Connection,
    input: Input,
}

/// What can be pressed.
#[derive(Clone, Copy)]
pub(super) enum Input {
    /// By its number.
    Button(u32),
    /// By its code.
    Key(u8),
}

impl<'a> Held<'a> {
    /// Presses it. Whether it may be pressed is decided before, with nobody else being served in between.
    pub(super) fn press(connection: &'a Connection, input: Input, may: impl FnOnce() -> Done) -> Done<Self> {
        connection.alone(|| {
            may()?;
            let held = Self { connection, input };
            held.send(true);
            connection.sync()?;
            Ok(held)
        })
    }

    fn send(&self, down: bool) {
        match self.input {
            Input::Button(button) => self.connection.button(button, down),
            Input::Key(code) => self.connection.key(code, down),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.send(false);
        // A refusal has nobody to go to; a lost connection is seen by the next request.
        let _ = self.connection.sync();
    }
}

/// Does one action.
pub(super) fn act(connection: &Connection, action: &Pointer, guard: &Guard) -> Done {
    match action {
        Pointer::Click { at, button, count } => click(connection, on_screen(connection, *at)?, *button, *count, guard),
        Pointer::Move { path, pause } => path.iter().try_for_each(|point| {
            go(connection, on_screen(connection, *point)?, guard)?;
            Ok(connection.pause(*pause)?)
        }),
        Pointer::Drag { path, pause, modifiers } => drag(connection, path, *pause, *modifiers, guard),
    }
}

fn on_screen(connection: &Connection, point: Point) -> Done<(i32, i32)> {
    if desktop(connection)?.rect().contains(point) {
        return Ok(pixel(point));
    }
    Err(Failure::Invalid(format!("the point {}, {} lies outside of the screen", point.x, point.y)))
}

/// Puts the pointer there, if nothing of ours lies there.
fn go(connection: &Connection, at: (i32, i32), guard: &Guard) -> Done {
    connection.alone(|| {
        guard.point(connection, at)?;
        connection.move_pointer(at.0, at.1);
        Ok(connection.sync()?)
    })
}

/// Presses a button there.
fn press_at<'a>(connection: &'a Connection, at: (i32, i32), button: u32, guard: &Guard) -> Done<Held<'a>> {
    go(connection, at, guard)?;
    // What reacts to the pointer (a menu, a tooltip) has a moment to do so before what it then covers is pressed.
    connection.pause(limits::X11_HOVER)?;
    Held::press(connection, Input::Button(button), || {
        connection.move_pointer(at.0, at.1);
        connection.sync()?;
        // The button goes to where the pointer is, which somebody may confine.
        if connection.pointer()? != at {
            return Err(Failure::Stale("the pointer is kept elsewhere".to_owned()));
        }
        guard.point(connection, at)
    })
}

fn click(connection: &Connection, at: (i32, i32), button: Button, count: u32, guard: &Guard) -> Done {
    let button = match button {
        Button::Left => 1,
        Button::Right => 3,
    };
    for _ in 0..count {
        let held = press_at(connection, at, button, guard)?;
        connection.pause(limits::X11_PRESS)?;
        drop(held);
    }
    Ok(())
}

/// What lies on the way is looked at too: an own window that is reached ends it, with the pointer back where it began.
fn drag(connection: &Connection, path: &[Point], pause: Duration, modifiers: Modifiers, guard: &Guard) -> Done {
    let path = path.iter().map(|point| on_screen(connection, *point)).collect::<Done<Vec<_>>>()?;
    let (Some(start), Some(end)) = (path.first().copied(), path.last().copied()) else {
        return Err(Failure::Invalid("a drag needs points".to_owned()));
    };
    // The expected window is where it begins; where it ends may be another one, only never ours.
    let anywhere = Guard::new(connection, Default::default())?;
    anywhere.point(connection, end)?;
    let _modifiers = keyboard::hold_modifiers(connection, modifiers, &anywhere)?;
    let held = press_at(connection, start, 1, guard)?;
    let way = path.iter().try_for_each(|point| {
        go(connection, *point, &anywhere)?;
        Ok(connection.pause(pause.max(limits::X11_DRAG_STEP))?)
    });
    let done = way.and_then(|()| {
        connection.alone(|| {
            anywhere.point(connection, connection.pointer()?)?;
            connection.button(1, false);
            Ok(connection.sync()?)
        })
    });
    if done.is_err() {
        connection.move_pointer(start.0, start.1);
    }
    drop(held);
    done
}

/// Turns the wheel: its notches are buttons.
pub(super) fn scroll(connection: &Connection, scroll: &Scroll, guard: &Guard) -> Done {
    let button = match scroll.direction {
        Direction::Up => 4,
        Direction::Down => 5,
        Direction::Left => 6,
        Direction::Right => 7,
    };
    if let Some(at) = scroll.at {
        go(connection, on_screen(connection, at)?, guard)?;
        connection.pause(limits::X11_HOVER)?;
    }
    for _ in 0..scroll.ticks {
        drop(Held::press(connection, Input::Button(button), || guard.point(connection, connection.pointer()?))?);
        connection.pause(scroll.pause)?;
    }
    Ok(())
}
