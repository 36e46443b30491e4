//! The X libraries, looked up at run time: a machine without them runs everything else.

use super::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

/// Xlib's connection; opaque.
pub(super) enum Display {}
/// A window, atom, keysym, colormap …: 32 bits on the wire, a C long in memory.
pub(super) type Id = c_ulong;
/// `XErrorHandler`.
pub(super) type ErrorHandler = unsafe extern "C" fn(*mut Display, *mut XErrorEvent) -> c_int;
/// `XIOErrorHandler`.
pub(super) type LostHandler = unsafe extern "C" fn(*mut Display) -> c_int;
/// `XIOErrorExitHandler`.
pub(super) type ExitHandler = unsafe extern "C" fn(*mut Display, *mut c_void);

/// A request that the server refused.
#[repr(C)]
pub(super) struct XErrorEvent {
    kind: c_int,
    display: *mut Display,
    resource: Id,
    serial: c_ulong,
    pub code: c_uchar,
    request: c_uchar,
    minor: c_uchar,
}

/// The beginning of `XImage`, as far as it is read here.
#[repr(C)]
pub(super) struct XImage {
    pub width: c_int,
    pub height: c_int,
    x_offset: c_int,
    format: c_int,
    pub data: *mut c_char,
    pub byte_order: c_int,
    bitmap_unit: c_int,
    bitmap_bit_order: c_int,
    bitmap_pad: c_int,
    depth: c_int,
    pub bytes_per_line: c_int,
    pub bits_per_pixel: c_int,
    pub red_mask: c_ulong,
    pub green_mask: c_ulong,
    pub blue_mask: c_ulong,
    object: *mut c_char,
    create: *mut c_void,
    pub destroy: Option<unsafe extern "C" fn(*mut XImage) -> c_int>,
}

/// What is known of a window.
#[repr(C)]
pub(super) struct XWindowAttributes {
    pub x: c_int,
    pub y: c_int,
    pub width: c_int,
    pub height: c_int,
    pub border: c_int,
    depth: c_int,
    visual: *mut c_void,
    root: Id,
    pub class: c_int,
    gravity: [c_int; 2],
    backing_store: c_int,
    backing: [c_ulong; 2],
    save_under: c_int,
    pub colormap: Id,
    map_installed: c_int,
    pub map_state: c_int,
    event_masks: [c_long; 3],
    pub override_redirect: c_int,
    screen: *mut c_void,
}

/// One cell of a colormap.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct XColor {
    pub pixel: c_ulong,
    pub red: u16,
    pub green: u16,
    pub blue: u16,
    pub flags: c_char,
    pub pad: c_char,
}

/// Any event: the members that all have, and those of the kinds that are used here.
#[repr(C)]
pub(super) union XEvent {
    pub kind: c_int,
    pub client: XClientMessageEvent,
    pub selection: XSelectionEvent,
    pub request: XSelectionRequestEvent,
    pub property: XPropertyEvent,
    pub pad: [c_long; 24],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct XClientMessageEvent {
    pub kind: c_int,
    pub serial: c_ulong,
    pub send_event: c_int,
    pub display: *mut Display,
    pub window: Id,
    pub message: Id,
    pub format: c_int,
    pub data: [c_long; 5],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct XSelectionEvent {
    pub kind: c_int,
    pub serial: c_ulong,
    pub send_event: c_int,
    pub display: *mut Display,
    pub requestor: Id,
    pub selection: Id,
    pub target: Id,
    pub property: Id,
    pub time: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct XSelectionRequestEvent {
    pub kind: c_int,
    pub serial: c_ulong,
    pub send_event: c_int,
    pub display: *mut Display,
    pub owner: Id,
    pub requestor: Id,
    pub selection: Id,
    pub target: Id,
    pub property: Id,
    pub time: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct XPropertyEvent {
    pub kind: c_int,
    pub serial: c_ulong,
    pub send_event: c_int,
    pub display: *mut Display,
    pub window: Id,
    pub atom: Id,
    pub time: c_ulong,
    pub state: c_int,
}

/// One monitor.
#[repr(C)]
pub(super) struct XRRMonitorInfo {
    pub name: Id,
    pub primary: c_int,
    automatic: c_int,
    outputs: c_int,
    pub x: c_int,
    pub y: c_int,
    pub width: c_int,
    pub height: c_int,
    millimetres: [c_int; 2],
    output_list: *mut c_ulong,
}

/// The beginning of `XkbStateRec`.
#[repr(C)]
#[derive(Default)]
pub(super) struct XkbState {
    pub group: c_uchar,
    pub locked_group: c_uchar,
    base_group: u16,
    latched_group: u16,
    pub mods: c_uchar,
    rest: [c_uchar; 16],
}

/// Whose resources are asked for (`XResClientIdSpec`).
#[repr(C)]
pub(super) struct XResClientIdSpec {
    pub client: Id,
    pub mask: c_uint,
}

/// One answer to that (`XResClientIdValue`).
#[repr(C)]
pub(super) struct XResClientIdValue {
    spec: XResClientIdSpec,
    length: c_long,
    value: *mut c_void,
}

/// One library each: a function a line.
macro_rules! library {
    ($(#[$doc:meta])* $name:ident, $file:literal, $hint:literal, { $(fn $function:ident($($argument:ty),*) $(-> $result:ty)?;)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case)] // The names are the libraries' own.
        pub(super) struct $name { $(pub $function: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl $name {
            /// # Errors
            /// The library is not there, or too old to have one of the functions.
            pub(super) fn open() -> Result<Self, Error> {
                let missing = || Error::Library($file, $hint);
                let library = open($file).ok_or_else(missing)?;
                Ok(Self { $($function: {
                    let found = symbol(library, stringify!($function)).ok_or_else(missing)?;
                    // SAFETY: a function of this name in this library has this type (X11/Xlib.h and its neighbours).
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found) }
                },)* })
            }
        }
    };
}

library!(
    /// libX11; 1.7 (2020) is the first that lets a program outlive its connection.
    Xlib, "libX11.so.6", "install libX11 1.7 or newer (Debian: libx11-6)", {
    fn XInitThreads() -> c_int;
    fn XOpenDisplay(*const c_char) -> *mut Display;
    fn XCloseDisplay(*mut Display) -> c_int;
    fn XConnectionNumber(*mut Display) -> c_int;
    fn XDefaultRootWindow(*mut Display) -> Id;
    fn XSetErrorHandler(Option<ErrorHandler>) -> Option<ErrorHandler>;
    fn XSetIOErrorHandler(Option<LostHandler>) -> Option<LostHandler>;
    fn XSetIOErrorExitHandler(*mut Display, Option<ExitHandler>, *mut c_void);
    fn XSync(*mut Display, c_int) -> c_int;
    fn XFree(*mut c_void) -> c_int;
    fn XPending(*mut Display) -> c_int;
    fn XNextEvent(*mut Display, *mut XEvent) -> c_int;
    fn XSendEvent(*mut Display, Id, c_int, c_long, *mut XEvent) -> c_int;
    fn XGrabServer(*mut Display) -> c_int;
    fn XUngrabServer(*mut Display) -> c_int;
    fn XInternAtom(*mut Display, *const c_char, c_int) -> Id;
    fn XGetAtomName(*mut Display, Id) -> *mut c_char;
    fn XGetWindowProperty(*mut Display, Id, Id, c_long, c_long, c_int, Id, *mut Id, *mut c_int, *mut c_ulong, *mut c_ulong, *mut *mut c_uchar) -> c_int;
    fn XChangeProperty(*mut Display, Id, Id, Id, c_int, c_int, *const c_uchar, c_int) -> c_int;
    fn XQueryTree(*mut Display, Id, *mut Id, *mut Id, *mut *mut Id, *mut c_uint) -> c_int;
    fn XGetWindowAttributes(*mut Display, Id, *mut XWindowAttributes) -> c_int;
    fn XTranslateCoordinates(*mut Display, Id, Id, c_int, c_int, *mut c_int, *mut c_int, *mut Id) -> c_int;
    fn XQueryPointer(*mut Display, Id, *mut Id, *mut Id, *mut c_int, *mut c_int, *mut c_int, *mut c_int, *mut c_uint) -> c_int;
    fn XGetInputFocus(*mut Display, *mut Id, *mut c_int) -> c_int;
    fn XSetInputFocus(*mut Display, Id, c_int, c_ulong) -> c_int;
    fn XMoveResizeWindow(*mut Display, Id, c_int, c_int, c_uint, c_uint) -> c_int;
    fn XRaiseWindow(*mut Display, Id) -> c_int;
    fn XIconifyWindow(*mut Display, Id, c_int) -> c_int;
    fn XDefaultScreen(*mut Display) -> c_int;
    fn XGetImage(*mut Display, Id, c_int, c_int, c_uint, c_uint, c_ulong, c_int) -> *mut XImage;
    fn XQueryColors(*mut Display, Id, *mut XColor, c_int) -> c_int;
    fn XDisplayKeycodes(*mut Display, *mut c_int, *mut c_int) -> c_int;
    fn XGetKeyboardMapping(*mut Display, c_uchar, c_int, *mut c_int) -> *mut Id;
    fn XChangeKeyboardMapping(*mut Display, c_int, c_int, *const Id, c_int) -> c_int;
    fn XkbGetState(*mut Display, c_uint, *mut XkbState) -> c_int;
    fn XCreateSimpleWindow(*mut Display, Id, c_int, c_int, c_uint, c_uint, c_uint, c_ulong, c_ulong) -> Id;
    fn XDestroyWindow(*mut Display, Id) -> c_int;
    fn XSelectInput(*mut Display, Id, c_long) -> c_int;
    fn XConvertSelection(*mut Display, Id, Id, Id, Id, c_ulong) -> c_int;
    fn XSetSelectionOwner(*mut Display, Id, Id, c_ulong) -> c_int;
    fn XGetSelectionOwner(*mut Display, Id) -> Id;
});

library!(
    /// libXtst: input as from the person's own devices.
    Xtst, "libXtst.so.6", "install libXtst (Debian: libxtst6)", {
    fn XTestQueryExtension(*mut Display, *mut c_int, *mut c_int, *mut c_int, *mut c_int) -> c_int;
    fn XTestFakeMotionEvent(*mut Display, c_int, c_int, c_int, c_ulong) -> c_int;
    fn XTestFakeButtonEvent(*mut Display, c_uint, c_int, c_ulong) -> c_int;
    fn XTestFakeKeyEvent(*mut Display, c_uint, c_int, c_ulong) -> c_int;
});

library!(
    /// libXrandr: several monitors; without it the whole desktop counts as one.
    Xrandr, "libXrandr.so.2", "install libXrandr 1.5 or newer (Debian: libxrandr2)", {
    fn XRRQueryExtension(*mut Display, *mut c_int, *mut c_int) -> c_int;
    fn XRRGetMonitors(*mut Display, Id, c_int, *mut c_int) -> *mut XRRMonitorInfo;
    fn XRRFreeMonitors(*mut XRRMonitorInfo);
});

library!(
    /// libXRes: which process a window belongs to, by the server's word and not by the window's own.
    Xres, "libXRes.so.1", "install libXRes 1.2 or newer (Debian: libxres1)", {
    fn XResQueryExtension(*mut Display, *mut c_int, *mut c_int) -> c_int;
    fn XResQueryClientIds(*mut Display, c_long, *mut XResClientIdSpec, *mut c_long, *mut *mut XResClientIdValue) -> c_int;
    fn XResGetClientPid(*mut XResClientIdValue) -> libc::pid_t;
    fn XResClientIdsDestroy(c_long, *mut XResClientIdValue);
});

/// Opens a library for as long as the process lives.
fn open(file: &str) -> Option<*mut c_void> {
    let file = CString::new(file).ok()?;
    // SAFETY: the name ends with a NUL. Loading runs the library's constructors; these four have none that matter.
    let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    (!library.is_null()).then_some(library)
}

/// A function of it.
fn symbol(library: *mut c_void, name: &str) -> Option<*mut c_void> {
    let name = CString::new(name).ok()?;
    // SAFETY: `library` comes from dlopen and is never closed; the name ends with a NUL.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// A text of Xlib's, which it then frees.
pub(super) fn take_text(xlib: &Xlib, text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: a text that Xlib hands out ends with a NUL and is live until XFree, the next statement.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: as above; nobody reads it afterwards.
    unsafe { (xlib.XFree)(text.cast()) };
    Some(copy)
}

/// Xlib writes whole events.
const _: () = assert!(size_of::<XEvent>() == 24 * size_of::<c_long>());
