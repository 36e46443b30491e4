//! Windows and their programs, by the window manager's lists (EWMH) or, without one, by what lies on the root window.

use super::guard::Guard;
use super::{Pixelated, desktop, pixel};
use crate::desktop::automation::{
    Application, Done, Expected, Failure, Point, Presence, Size, Window, WindowChange, WindowId,
};
use crate::limits;
use crate::sys::x11::{Connection, Error};
use std::time::Instant;

/// `IconicState` of ICCCM 4.1.3.1.
const ICONIC: u32 = 3;
/// Source indication of EWMH: a tool that acts for the person.
const PAGER: u32 = 2;

/// What the window manager can do; empty without one.
fn supported(connection: &Connection) -> Done<Vec<u32>> {
    let check = "_NET_SUPPORTING_WM_CHECK";
    let manager = connection.numbers(connection.root(), check)?.first().copied().unwrap_or(0);
    // One that has ended leaves its properties behind, but not its window.
    match connection.numbers(manager, check) {
        Ok(own) if manager != 0 && own == [manager] => Ok(connection.numbers(connection.root(), "_NET_SUPPORTED")?),
        _ => Ok(Vec::new()),
    }
}

fn can(connection: &Connection, supported: &[u32], what: &'static str) -> Done<bool> {
    Ok(supported.contains(&connection.atom_number(what)?))
}

/// All programs' windows, from front to back.
fn ids(connection: &Connection) -> Done<Vec<WindowId>> {
    if supported(connection)?.is_empty() {
        let (_, children) = connection.family(connection.root())?;
        let shown =
            |window: &WindowId| connection.attributes(*window).is_ok_and(|window| window.visible && !window.input_only);
        return Ok(children.into_iter().rev().filter(shown).take(limits::X11_WINDOWS).collect());
    }
    let mut windows = connection.numbers(connection.root(), "_NET_CLIENT_LIST_STACKING")?;
    if windows.is_empty() {
        windows = connection.numbers(connection.root(), "_NET_CLIENT_LIST")?;
    }
    Ok(windows.into_iter().rev().take(limits::X11_WINDOWS).collect())
}

/// Passes a window that is in the list.
pub(super) fn known(connection: &Connection, window: WindowId) -> Done<WindowId> {
    match ids(connection)?.contains(&window) {
        true => Ok(window),
        false => Err(Failure::NotFound(format!("window {window}"))),
    }
}

/// The window on the root that holds this one: itself, or the frame around it.
pub(super) fn toplevel(connection: &Connection, window: WindowId) -> Done<WindowId> {
    let mut toplevel = window;
    for _ in 0..limits::X11_DEPTH {
        match connection.family(toplevel)?.0 {
            parent if parent == 0 || parent == connection.root() => return Ok(toplevel),
            parent => toplevel = parent,
        }
    }
    Err(Failure::Internal("a window lies too deep".to_owned()))
}

/// The programs' windows within a toplevel, which window managers mark; a frame may hold several.
pub(super) fn clients_in(connection: &Connection, toplevel: WindowId) -> Done<Vec<WindowId>> {
    let mut looked_at = vec![toplevel];
    let mut clients = Vec::new();
    let mut next = 0;
    while let Some(window) = looked_at.get(next).copied() {
        next += 1;
        if !connection.numbers(window, "WM_STATE")?.is_empty() {
            clients.push(window);
        } else if looked_at.len() < limits::X11_FRAME_WINDOWS {
            looked_at.extend(connection.family(window)?.1);
            looked_at.truncate(limits::X11_FRAME_WINDOWS);
        }
    }
    Ok(clients)
}

/// Where a window on the root lies, its border included.
pub(super) fn bounds(connection: &Connection, toplevel: WindowId) -> Done<Pixelated> {
    let window = connection.attributes(toplevel)?;
    let border = 2 * window.border;
    Ok(Pixelated { x: window.x, y: window.y, width: window.width + border, height: window.height + border })
}

/// The window that has the keyboard.
pub(super) fn active(connection: &Connection) -> Done<WindowId> {
    if let Some(active) = connection.numbers(connection.root(), "_NET_ACTIVE_WINDOW")?.first() {
        return Ok(*active);
    }
    match connection.focus()? {
        Some(focus) if focus != connection.root() => toplevel(connection, focus),
        _ => Ok(0),
    }
}

fn describe(connection: &Connection, id: WindowId, active: WindowId) -> Done<Window> {
    let bounds = bounds(connection, toplevel(connection, id)?)?;
    let state = connection.numbers(id, "_NET_WM_STATE")?;
    let has = |name| Ok::<_, Error>(state.contains(&connection.atom_number(name)?));
    let title = match connection.text(id, "_NET_WM_NAME")? {
        title if title.is_empty() => connection.text(id, "WM_NAME")?,
        title => title,
    };
    let opacity = connection.numbers(id, "_NET_WM_WINDOW_OPACITY")?;
    Ok(Window {
        id,
        pid: connection.pid(id)?.unwrap_or(0),
        title,
        bounds: bounds.rect(),
        minimized: has("_NET_WM_STATE_HIDDEN")? || connection.numbers(id, "WM_STATE")?.first() == Some(&ICONIC),
        main: false,
        focused: id == active,
        on_screen: connection.attributes(id)?.visible && {
            let seen = bounds.intersect(desktop(connection)?);
            seen.width > 0 && seen.height > 0
        },
        level: i32::from(has("_NET_WM_STATE_ABOVE")?) - i32::from(has("_NET_WM_STATE_BELOW")?),
        alpha: opacity.first().map_or(1.0, |opacity| f64::from(*opacity) / f64::from(u32::MAX)),
    })
}

/// All windows from front to back. One that goes away meanwhile is left out.
pub(super) fn list(connection: &Connection) -> Done<Vec<Window>> {
    let active = active(connection).unwrap_or(0);
    let mut windows: Vec<Window> = Vec::new();
    for id in ids(connection)? {
        match describe(connection, id, active) {
            Err(Failure::Stale(_)) => {}
            // The frontmost one of a program counts as its main one.
            Ok(window) => windows.push(Window { main: windows.iter().all(|other| other.pid != window.pid), ..window }),
            Err(failure) => return Err(failure),
        }
    }
    Ok(windows)
}

/// The window under a point, menus included.
pub(super) fn at(connection: &Connection, point: Point) -> Done<Option<Window>> {
    let (x, y) = pixel(point);
    let Some(toplevel) = connection.windows_at(x, y)?.first().copied() else { return Ok(None) };
    let id = clients_in(connection, toplevel)?.first().copied().unwrap_or(toplevel);
    describe(connection, id, active(connection).unwrap_or(0)).map(Some)
}

/// Programs that have windows, the active one first.
pub(super) fn applications(connection: &Connection) -> Done<Vec<Application>> {
    let mut found: Vec<Application> = Vec::new();
    for window in list(connection)?.into_iter().filter(|window| window.pid > 0) {
        if let Some(known) = found.iter_mut().find(|known| known.pid == window.pid) {
            known.active |= window.focused;
            known.hidden &= window.minimized;
            continue;
        }
        let class = connection.text(window.id, "WM_CLASS").unwrap_or_default();
        let class = class.split('\0').nth(1).filter(|class| !class.is_empty()).map(str::to_owned);
        found.push(Application {
            pid: window.pid,
            name: class.clone().unwrap_or(window.title),
            bundle_id: class,
            path: std::fs::read_link(format!("/proc/{}/exe", window.pid)).ok().map(|path| path.display().to_string()),
            active: window.focused,
            hidden: window.minimized,
            presence: Presence::Regular,
        });
    }
    found.sort_by_key(|application| !application.active);
    Ok(found)
}

/// Brings a program's frontmost window forward.
pub(super) fn activate(connection: &Connection, pid: i32) -> Done {
    let window = list(connection)?.into_iter().find(|window| window.pid == pid);
    let window = window.ok_or_else(|| Failure::NotFound(format!("window of process {pid}")))?;
    change(connection, window.id, WindowChange::Focus)
}

/// Changes a window, never one of ours.
pub(super) fn change(connection: &Connection, window: WindowId, change: WindowChange) -> Done {
    Guard::new(connection, Expected::default())?.window(connection, known(connection, window)?)?;
    let supported = supported(connection)?;
    let root = connection.root();
    let unmanaged = |what: &str| Err(Failure::NotSupported(format!("{what} without a window manager")));
    match change {
        WindowChange::Focus => focus(connection, window, can(connection, &supported, "_NET_ACTIVE_WINDOW")?),
        WindowChange::Place(to, size) => {
            place(connection, window, to, size, can(connection, &supported, "_NET_MOVERESIZE_WINDOW")?)
        }
        WindowChange::Close if can(connection, &supported, "_NET_CLOSE_WINDOW")? => {
            Ok(connection.send(root, window, "_NET_CLOSE_WINDOW", [0, PAGER, 0, 0, 0])?)
        }
        WindowChange::Close => {
            let delete = connection.atom_number("WM_DELETE_WINDOW")?;
            if !connection.numbers(window, "WM_PROTOCOLS")?.contains(&delete) {
                return Err(Failure::NotSupported("closing this window".to_owned()));
            }
            Ok(connection.send(window, window, "WM_PROTOCOLS", [delete, 0, 0, 0, 0])?)
        }
        WindowChange::Minimize if !supported.is_empty() => Ok(connection.iconify(window)?),
        WindowChange::Minimize => unmanaged("minimizing"),
        WindowChange::Maximize if can(connection, &supported, "_NET_WM_STATE_MAXIMIZED_VERT")? => {
            const ADD: u32 = 1;
            let both = ["_NET_WM_STATE_MAXIMIZED_VERT", "_NET_WM_STATE_MAXIMIZED_HORZ"];
            let [vertical, horizontal] = [connection.atom_number(both[0])?, connection.atom_number(both[1])?];
            Ok(connection.send(root, window, "_NET_WM_STATE", [ADD, vertical, horizontal, PAGER, 0])?)
        }
        WindowChange::Maximize => unmanaged("maximizing"),
    }
}

/// Asks for the keyboard and waits until the window has it: who types next must not type elsewhere.
fn focus(connection: &Connection, window: WindowId, managed: bool) -> Done {
    if !managed {
        return Ok(connection.raise(window)?);
    }
    connection.send(connection.root(), window, "_NET_ACTIVE_WINDOW", [PAGER, 0, 0, 0, 0])?;
    let end = Instant::now() + limits::X11_SETTLE;
    while active(connection)? != window {
        if Instant::now() >= end {
            return Err(Failure::Timeout);
        }
        connection.pause(limits::X11_HELD_LOOK)?;
    }
    Ok(())
}

/// Puts the window's frame to `to` and gives the frame this size.
fn place(connection: &Connection, window: WindowId, to: Option<Point>, size: Option<Size>, managed: bool) -> Done {
    let now = bounds(connection, toplevel(connection, window)?)?;
    let inner = connection.attributes(window)?;
    let (x, y) = to.map_or((now.x, now.y), pixel);
    let [wide, high] = [now.width.saturating_sub(inner.width), now.height.saturating_sub(inner.height)];
    let length = |wanted: f64, frame: u32| (wanted.round() as u32).clamp(frame + 1, limits::X11_LONGEST) - frame;
    let (width, height) =
        size.map_or((inner.width, inner.height), |size| (length(size.width, wide), length(size.height, high)));
    if !managed {
        return Ok(connection.place(window, x, y, width, height)?);
    }
    /// NorthWest: the place is that of the frame; then which of x, y, width and height are meant, and who asks.
    const GRAVITY: u32 = 1;
    let [position, extent] = [if to.is_some() { 0x300 } else { 0 }, if size.is_some() { 0xC00 } else { 0 }];
    let flags = GRAVITY | position | extent | (PAGER << 12);
    let message = [flags, x.cast_unsigned(), y.cast_unsigned(), width, height];
    Ok(connection.send(connection.root(), window, "_NET_MOVERESIZE_WINDOW", message)?)
}
