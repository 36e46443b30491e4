//! Windows: where they are, what they say of themselves, whose they are.

use super::library::{Id, XClientMessageEvent, XEvent, XResClientIdSpec, XWindowAttributes, take_text};
use super::{Connection, Error, Window, narrow};
use crate::limits;
use std::ffi::{c_int, c_long, c_uint, c_void};
use std::mem::zeroed;
use std::ptr::{null_mut, slice_from_raw_parts};

/// `ClientMessage` of X.h.
const CLIENT_MESSAGE: c_int = 33;
/// `SubstructureRedirectMask | SubstructureNotifyMask`: window managers listen there.
const TO_WINDOW_MANAGER: c_long = 0x18_0000;
/// `InputOnly`
const INPUT_ONLY: c_int = 2;
/// `IsViewable`
const VIEWABLE: c_int = 2;
/// `XRES_CLIENT_ID_PID_MASK`
const PID_MASK: c_uint = 2;

/// Where a window lies within its parent, pixels, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct Attributes {
    pub x: i32,
    pub y: i32,
    pub width: u32,
    pub height: u32,
    pub border: u32,
    /// It and all above it are mapped.
    pub visible: bool,
    /// Only takes input, draws nothing.
    pub input_only: bool,
    /// Kept from window managers: menus, tooltips.
    pub unmanaged: bool,
    /// Its colormap.
    pub colormap: u32,
}

/// A monitor: a part of the root window, pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct Monitor {
    pub name: Option<String>,
    pub x: i32,
    pub y: i32,
    pub width: u32,
    pub height: u32,
}

/// A property's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Property {
    /// Atom of its type; 0: there is no such property.
    pub kind: Id,
    /// Of format 8.
    pub bytes: Vec<u8>,
    /// Of format 32.
    pub numbers: Vec<u32>,
}

/// An array that Xlib allocated, copied; the array is freed.
///
/// # Safety
/// `array` is null or has `count` live elements, allocated for `XFree`.
pub(super) unsafe fn take_array<T: Copy>(connection: &Connection, array: *mut T, count: usize) -> Vec<T> {
    if array.is_null() {
        return Vec::new();
    }
    // SAFETY: see above.
    let copy = unsafe { slice_from_raw_parts(array, count).as_ref() }.map(<[T]>::to_vec).unwrap_or_default();
    // SAFETY: nobody reads it afterwards.
    unsafe { (connection.library.x.XFree)(array.cast::<c_void>()) };
    copy
}

impl Connection {
    /// A window's parent (0 for the root) and its children, from back to front.
    ///
    /// # Errors
    /// There is no such window.
    pub fn family(&self, window: Window) -> Result<(Window, Vec<Window>), Error> {
        let (mut root, mut parent, mut children, mut count) = (0, 0, null_mut(), 0);
        // SAFETY: a live connection and live variables.
        let found = unsafe {
            (self.library.x.XQueryTree)(
                self.display,
                window.into(),
                &raw mut root,
                &raw mut parent,
                &raw mut children,
                &raw mut count,
            )
        };
        self.refusal()?;
        if found == 0 {
            return Err(Error::Refused(3));
        }
        // SAFETY: XQueryTree has succeeded and says how many there are.
        let children = unsafe { take_array(self, children, usize::try_from(count).unwrap_or(0)) };
        Ok((narrow(parent), children.into_iter().map(narrow).collect()))
    }

    /// How a window is shown.
    ///
    /// # Errors
    /// There is no such window.
    pub fn attributes(&self, window: Window) -> Result<Attributes, Error> {
        // SAFETY: integers and pointers, for which zeros are values.
        let mut found: XWindowAttributes = unsafe { zeroed() };
        // SAFETY: a live connection and a live structure.
        let ok = unsafe { (self.library.x.XGetWindowAttributes)(self.display, window.into(), &raw mut found) };
        self.refusal()?;
        if ok == 0 {
            return Err(Error::Refused(3));
        }
        let length = |value: c_int| u32::try_from(value).unwrap_or(0);
        Ok(Attributes {
            x: found.x,
            y: found.y,
            width: length(found.width),
            height: length(found.height),
            border: length(found.border),
            visible: found.map_state == VIEWABLE,
            input_only: found.class == INPUT_ONLY,
            unmanaged: found.override_redirect != 0,
            colormap: narrow(found.colormap),
        })
    }

    /// The child of `window` under a point of the root window, as input would find it; 0 if none.
    fn child_at(&self, window: Window, x: i32, y: i32) -> Result<Window, Error> {
        let (mut there_x, mut there_y, mut child) = (0, 0, 0);
        // SAFETY: a live connection and live variables.
        unsafe {
            (self.library.x.XTranslateCoordinates)(
                self.display,
                self.root,
                window.into(),
                x,
                y,
                &raw mut there_x,
                &raw mut there_y,
                &raw mut child,
            )
        };
        self.refusal()?;
        Ok(narrow(child))
    }

    /// The windows under a point, from the one on the root down to the deepest; empty on the bare root.
    ///
    /// # Errors
    /// One of them went away meanwhile.
    pub fn windows_at(&self, x: i32, y: i32) -> Result<Vec<Window>, Error> {
        let mut path = Vec::new();
        let mut window = self.root();
        while path.len() < limits::X11_DEPTH {
            match self.child_at(window, x, y)? {
                0 => break,
                child => path.push(child),
            }
            window = path.last().copied().unwrap_or(window);
        }
        Ok(path)
    }

    /// Where the pointer is.
    ///
    /// # Errors
    /// The server is gone.
    pub fn pointer(&self) -> Result<(i32, i32), Error> {
        let (mut root, mut child, mut x, mut y, mut inner, mut mask) = (0, 0, 0, 0, [0; 2], 0);
        let [inner_x, inner_y] = &mut inner;
        // SAFETY: a live connection and live variables.
        unsafe {
            (self.library.x.XQueryPointer)(
                self.display,
                self.root,
                &raw mut root,
                &raw mut child,
                &raw mut x,
                &raw mut y,
                inner_x,
                inner_y,
                &raw mut mask,
            )
        };
        self.refusal()?;
        Ok((x, y))
    }

    /// The window that gets the keys; the root when that is whichever lies under the pointer, none when they are lost.
    ///
    /// # Errors
    /// The server is gone.
    pub fn focus(&self) -> Result<Option<Window>, Error> {
        let (mut window, mut revert) = (0, 0);
        // SAFETY: a live connection and live variables.
        unsafe { (self.library.x.XGetInputFocus)(self.display, &raw mut window, &raw mut revert) };
        self.refusal()?;
        Ok(match window {
            0 => None,
            1 => Some(self.root()), // PointerRoot
            window => Some(narrow(window)),
        })
    }

    /// A property, at most [`limits::X11_PROPERTY_BYTES`] of it.
    pub(super) fn property(&self, window: Window, name: Id, take: bool) -> Result<Property, Error> {
        let most = c_long::try_from(limits::X11_PROPERTY_BYTES / 4).unwrap_or(c_long::MAX);
        let (mut kind, mut format, mut count, mut left, mut data) = (0, 0, 0, 0, null_mut());
        // SAFETY: a live connection and live variables.
        unsafe {
            (self.library.x.XGetWindowProperty)(
                self.display,
                window.into(),
                name,
                0,
                most,
                c_int::from(take),
                0,
                &raw mut kind,
                &raw mut format,
                &raw mut count,
                &raw mut left,
                &raw mut data,
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: Xlib keeps `count` items there: longs for format 32, bytes for format 8. The other formats are not read.
        let (bytes, numbers) = unsafe {
            match format {
                32 => (Vec::new(), take_array(self, data.cast::<Id>(), count)),
                8 => (take_array(self, data, count), Vec::new()),
                _ => (take_array(self, data, 0), Vec::new()),
            }
        };
        self.refusal()?;
        if left != 0 {
            return Err(Error::TooLarge);
        }
        Ok(Property { kind, bytes, numbers: numbers.into_iter().map(narrow).collect() })
    }

    /// A property that consists of numbers: windows, atoms, counts. Empty if there is none.
    ///
    /// # Errors
    /// There is no such window.
    pub fn numbers(&self, window: Window, name: &'static str) -> Result<Vec<u32>, Error> {
        Ok(self.property(window, self.atom(name)?, false)?.numbers)
    }

    /// A property that is text; Latin-1 where it is not UTF-8. Empty if there is none.
    ///
    /// # Errors
    /// There is no such window.
    pub fn text(&self, window: Window, name: &'static str) -> Result<String, Error> {
        Ok(decode(self.property(window, self.atom(name)?, false)?.bytes))
    }

    /// The number that stands for `name` in properties.
    ///
    /// # Errors
    /// The server is gone.
    pub fn atom_number(&self, name: &'static str) -> Result<u32, Error> {
        self.atom(name).map(narrow)
    }

    /// The process that the server knows as a window's owner; for a client on another machine, what it says itself.
    ///
    /// # Errors
    /// There is no such window.
    pub fn pid(&self, window: Window) -> Result<Option<i32>, Error> {
        let mut spec = XResClientIdSpec { client: window.into(), mask: PID_MASK };
        let (mut count, mut values) = (0, null_mut());
        // SAFETY: a live connection, one live specification and live variables.
        unsafe {
            (self.library.resource.XResQueryClientIds)(self.display, 1, &raw mut spec, &raw mut count, &raw mut values)
        };
        // SAFETY: values has `count` elements, of which the first is read.
        let pid = if count > 0 { unsafe { (self.library.resource.XResGetClientPid)(values) } } else { -1 };
        if !values.is_null() {
            // SAFETY: what the query allocated; nobody reads it afterwards.
            unsafe { (self.library.resource.XResClientIdsDestroy)(count, values) };
        }
        self.refusal()?;
        if pid > 0 {
            return Ok(Some(pid));
        }
        self.claimed_pid(window)
    }

    /// The process that a window says it belongs to.
    ///
    /// # Errors
    /// There is no such window.
    pub fn claimed_pid(&self, window: Window) -> Result<Option<i32>, Error> {
        Ok(self.numbers(window, "_NET_WM_PID")?.first().and_then(|pid| i32::try_from(*pid).ok()))
    }

    /// Tells the window manager (`to` is the root) or a program something about `window`.
    ///
    /// # Errors
    /// There is no such window.
    pub fn send(&self, to: Window, window: Window, message: &'static str, data: [u32; 5]) -> Result<(), Error> {
        let event = XClientMessageEvent {
            kind: CLIENT_MESSAGE,
            serial: 0,
            send_event: 1,
            display: self.display,
            window: window.into(),
            message: self.atom(message)?,
            format: 32,
            data: data.map(c_long::from),
        };
        let mask = if to == self.root() { TO_WINDOW_MANAGER } else { 0 };
        let mut event = XEvent { client: event };
        // SAFETY: a live connection and a live event of the kind that it says.
        unsafe { (self.library.x.XSendEvent)(self.display, to.into(), 0, mask, &raw mut event) };
        self.sync()
    }

    /// Puts a window to a place and size; a window manager may have its own opinion.
    ///
    /// # Errors
    /// There is no such window.
    pub fn place(&self, window: Window, x: i32, y: i32, width: u32, height: u32) -> Result<(), Error> {
        // SAFETY: a live connection.
        unsafe { (self.library.x.XMoveResizeWindow)(self.display, window.into(), x, y, width.max(1), height.max(1)) };
        self.sync()
    }

    /// Brings a window to the front and gives it the keyboard, without a window manager.
    ///
    /// # Errors
    /// There is no such window, or it is not visible.
    pub fn raise(&self, window: Window) -> Result<(), Error> {
        const REVERT_TO_POINTER_ROOT: c_int = 1;
        // SAFETY: a live connection.
        unsafe {
            (self.library.x.XRaiseWindow)(self.display, window.into());
            (self.library.x.XSetInputFocus)(self.display, window.into(), REVERT_TO_POINTER_ROOT, 0);
        }
        self.sync()
    }

    /// Asks the window manager to put a window away.
    ///
    /// # Errors
    /// There is no such window.
    pub fn iconify(&self, window: Window) -> Result<(), Error> {
        // SAFETY: a live connection.
        unsafe {
            (self.library.x.XIconifyWindow)(self.display, window.into(), (self.library.x.XDefaultScreen)(self.display))
        };
        self.sync()
    }

    /// The monitors, the primary one first. Empty where the server does not tell.
    ///
    /// # Errors
    /// The server is gone.
    pub fn monitors(&self) -> Result<Vec<Monitor>, Error> {
        let Some(library) = &self.library.monitors else { return Ok(Vec::new()) };
        let (mut event, mut error, mut count) = (0, 0, 0);
        // SAFETY: a live connection and live variables.
        if unsafe { (library.XRRQueryExtension)(self.display, &raw mut event, &raw mut error) } == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: as above.
        let array = unsafe { (library.XRRGetMonitors)(self.display, self.root, 1, &raw mut count) };
        self.refusal()?;
        if array.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: it has `count` elements until it is freed below.
        let monitors =
            unsafe { slice_from_raw_parts(array, usize::try_from(count).unwrap_or(0)).as_ref() }.unwrap_or_default();
        let mut found: Vec<_> = monitors
            .iter()
            .map(|monitor| {
                let length = |value: c_int| u32::try_from(value).unwrap_or(0);
                // SAFETY: a live connection; the name is an atom of the server's.
                let name = unsafe { (self.library.x.XGetAtomName)(self.display, monitor.name) };
                let (width, height) = (length(monitor.width), length(monitor.height));
                let name = take_text(&self.library.x, name);
                (monitor.primary == 0, Monitor { name, x: monitor.x, y: monitor.y, width, height })
            })
            .collect();
        // SAFETY: what XRRGetMonitors allocated; all that is kept was copied.
        unsafe { (library.XRRFreeMonitors)(array) };
        found.sort_by_key(|(secondary, _)| *secondary);
        Ok(found.into_iter().map(|(_, monitor)| monitor).collect())
    }
}

/// UTF-8, or else Latin-1.
pub(super) fn decode(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}
