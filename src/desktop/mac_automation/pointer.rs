//! The pointer, its buttons and the wheel.

use super::guard::Guard;
use super::{Deadline, keyboard};
use crate::desktop::automation::{Button, Direction, Done, Failure, Modifiers, Point, Pointer, Rect, Scroll};
use crate::limits;
use openclaw_macos::core_graphics::{self, Mouse, Receiver};
use std::time::Duration;

/// Pixels of one notch of the wheel. Source: spec peekaboo-bridge §6 "scroll"
const NOTCH: i32 = 10;

/// Does one action.
pub(super) fn act(action: &Pointer, to: Option<i32>, guard: &Guard) -> Done {
    let deadline = Deadline::new();
    match (action, to) {
        (Pointer::Click { at, button, count }, None) => {
            let at = on_screen(*at)?;
            go(at, guard)?;
            // What reacts to the pointer (a menu, a tooltip) has a moment to do so before what it covers is pressed.
            deadline.pause(limits::MAC_HOVER)?;
            click(at, *button, *count, Receiver::Desktop, deadline, || guard.point(at))
        }
        (Pointer::Click { at, button, count }, Some(pid)) => {
            let to = Receiver::Process(pid, guard.target_window());
            click(*at, *button, *count, to, deadline, || guard.target(pid, Some(*at)))
        }
        (_, Some(_)) => Err(Failure::NotSupported("moving the pointer for one program".to_owned())),
        (Pointer::Move { path, pause }, None) => path.iter().try_for_each(|point| {
            go(on_screen(*point)?, guard)?;
            deadline.pause(*pause)
        }),
        (Pointer::Drag { path, pause, modifiers }, None) => drag(path, *pause, *modifiers, guard, deadline),
    }
}

/// Events elsewhere would be moved to the screen's edge, onto something that was not looked at.
fn on_screen(at: Point) -> Done<Point> {
    let displays = core_graphics::displays()?;
    if displays.iter().any(|display| Rect::from(display.bounds).contains(at)) {
        return Ok(at);
    }
    Err(Failure::Invalid(format!("the point {}, {} lies outside of the screens", at.x, at.y)))
}

/// Puts the pointer there, if nothing of ours lies there.
fn go(at: Point, guard: &Guard) -> Done {
    guard.point(at)?;
    Ok(core_graphics::post_mouse(Mouse::Moved, at.into(), 0, 0, Receiver::Desktop)?)
}

/// A button that is down; it goes up when this is dropped, whatever happened meanwhile.
struct Held {
    up: Mouse,
    at: Point,
    click: i64,
    flags: u64,
    to: Receiver,
}

impl Held {
    fn press(down: Mouse, held: Self) -> Done<Self> {
        core_graphics::post_mouse(down, held.at.into(), held.click, held.flags, held.to)?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A failure has nobody to go to; the press went the same way.
        let _ = core_graphics::post_mouse(self.up, self.at.into(), self.click, self.flags, self.to);
    }
}

fn click(at: Point, button: Button, count: u32, to: Receiver, deadline: Deadline, may: impl Fn() -> Done) -> Done {
    if count > limits::MAC_CLICKS {
        return Err(Failure::Invalid(format!("at most {} clicks in a row", limits::MAC_CLICKS)));
    }
    let (down, up) = match button {
        Button::Left => (Mouse::LeftDown, Mouse::LeftUp),
        Button::Right => (Mouse::RightDown, Mouse::RightUp),
    };
    for click in 1..=i64::from(count) {
        may()?;
        let held = Held::press(down, Held { up, at, click, flags: 0, to })?;
        deadline.pause(limits::MAC_PRESS)?;
        drop(held);
    }
    Ok(())
}

/// What lies on the way is looked at too: an own window that is reached ends it, with the pointer back where it began.
fn drag(path: &[Point], pause: Duration, modifiers: Modifiers, guard: &Guard, deadline: Deadline) -> Done {
    let path = path.iter().map(|point| on_screen(*point)).collect::<Done<Vec<_>>>()?;
    let (Some(start), Some(end)) = (path.first().copied(), path.last().copied()) else {
        return Err(Failure::Invalid("a drag needs points".to_owned()));
    };
    // What is expected is where it begins; where it ends may be another window, only never ours.
    let anywhere = guard.anywhere();
    anywhere.point(end)?;
    go(start, guard)?;
    deadline.pause(limits::MAC_HOVER)?;
    guard.point(start)?;
    let (flags, to) = (keyboard::flags(modifiers), Receiver::Desktop);
    let mut held = Held::press(Mouse::LeftDown, Held { up: Mouse::LeftUp, at: start, click: 1, flags, to })?;
    let mut step = |at: Point| {
        deadline.pause(pause.max(limits::MAC_DRAG_STEP))?;
        anywhere.point(at)?;
        core_graphics::post_mouse(Mouse::LeftDragged, at.into(), 1, flags, to)?;
        held.at = at;
        Ok(())
    };
    let done = path.iter().try_for_each(|at| step(*at)).and_then(|()| {
        deadline.pause(limits::MAC_DRAG_STEP)?;
        anywhere.point(end)
    });
    if done.is_err() {
        held.at = start;
        core_graphics::post_mouse(Mouse::LeftDragged, start.into(), 1, flags, to)?;
    }
    done
}

/// Turns the wheel.
pub(super) fn scroll(scroll: &Scroll, guard: &Guard) -> Done {
    let deadline = Deadline::new();
    if let Some(at) = scroll.at {
        go(on_screen(at)?, guard)?;
        deadline.pause(limits::MAC_HOVER)?;
    }
    let (steps, pixels) =
        if scroll.smooth { (scroll.ticks.saturating_mul(10), NOTCH / 10) } else { (scroll.ticks, NOTCH) };
    for _ in 0..steps {
        guard.point(core_graphics::pointer()?.into())?;
        let (up, left) = match scroll.direction {
            Direction::Up => (pixels, 0),
            Direction::Down => (-pixels, 0),
            Direction::Left => (0, pixels),
            Direction::Right => (0, -pixels),
        };
        core_graphics::post_scroll(up, left)?;
        deadline.pause(scroll.pause)?;
    }
    Ok(())
}
