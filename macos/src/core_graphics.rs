//! Core Graphics: displays, the windows of all programs, synthetic input (mac-app §8.4). Points are
//! global, the origin in the main display's upper left corner, y downwards.

use crate::foundation::{self, NSDictionary};
use crate::library::Missing;
use crate::runtime::{self, Id, NIL, NSObject, Owned, Point, Rect};

functions! {
    Displays from CoreGraphics {
        fn CGMainDisplayID() -> u32;
        fn CGGetActiveDisplayList(most: u32, displays: *mut u32, count: *mut u32) -> i32;
        fn CGDisplayBounds(display: u32) -> Rect;
        fn CGDisplayCopyDisplayMode(display: u32) -> Id;
        fn CGDisplayModeGetPixelWidth(mode: Id) -> usize;
    }
}

functions! {
    Windows from CoreGraphics {
        fn CGWindowListCopyWindowInfo(option: u32, relative_to: u32) -> Id;
        fn CGRectMakeWithDictionaryRepresentation(dictionary: Id, rect: *mut Rect) -> bool;
    }
}

functions! {
    Events from CoreGraphics {
        fn CGEventCreate(source: Id) -> Id;
        fn CGEventGetLocation(event: Id) -> Point;
        fn CGEventCreateMouseEvent(source: Id, kind: u32, at: Point, button: u32) -> Id;
        fn CGEventCreateKeyboardEvent(source: Id, key: u16, down: bool) -> Id;
        fn CGEventCreateScrollWheelEvent2(source: Id, units: u32, wheels: u32, first: i32, second: i32, third: i32) -> Id;
        fn CGEventKeyboardSetUnicodeString(event: Id, length: usize, units: *const u16);
        fn CGEventSetIntegerValueField(event: Id, field: u32, value: i64);
        fn CGEventGetFlags(event: Id) -> u64;
        fn CGEventSetFlags(event: Id, flags: u64);
        fn CGEventPost(tap: u32, event: Id);
        fn CGEventPostToPid(process: i32, event: Id);
        fn CGEventSourceSecondsSinceLastEventType(state: i32, kind: u32) -> f64;
    }
}

variables! { CoreGraphics {
    kCGWindowNumber: Id;
    kCGWindowOwnerPID: Id;
    kCGWindowOwnerName: Id;
    kCGWindowName: Id;
    kCGWindowBounds: Id;
    kCGWindowLayer: Id;
    kCGWindowAlpha: Id;
    kCGWindowIsOnscreen: Id;
} }

/// Displays that are looked at.
const DISPLAYS: usize = 32;
/// `kCGWindowListOptionAll`
const ALL_WINDOWS: u32 = 0;
/// `kCGWindowListOptionOnScreenOnly`
const ON_SCREEN_ONLY: u32 = 1;
/// `kCGHIDEventTap`
const HID: u32 = 0;
/// `kCGEventSourceStateCombinedSessionState`
const SESSION: i32 = 0;
/// Any input event: a macro.
const ANY_INPUT: u32 = u32::MAX;
/// `kCGScrollEventUnitPixel`
const PIXEL: u32 = 0;
/// `kCGMouseEventClickState`
const CLICK_STATE: u32 = 1;
/// `kCGMouseEventWindowUnderMousePointer`
const WINDOW_UNDER_POINTER: u32 = 91;
/// `kCGMouseEventWindowUnderMousePointerThatCanHandleThisEvent`
const WINDOW_THAT_CAN_HANDLE: u32 = 92;
/// `kCGEventFlagMaskSecondaryFn` and `kCGEventFlagMaskNumericPad`, which belong to a key itself: arrows, function keys.
const OF_THE_KEY: u64 = 0x80_0000 | 0x20_0000;

/// Most UTF-16 units of one event's text; more are not taken by every program.
pub const EVENT_UNITS: usize = 20;

/// A display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Display {
    /// `CGDirectDisplayID`
    pub id: u32,
    /// Where it lies.
    pub bounds: Rect,
    /// Pixels a point.
    pub scale: f64,
}

/// The active displays, the main one first.
///
/// # Errors
/// There is no Core Graphics.
pub fn displays() -> Result<Vec<Display>, Missing> {
    let functions = Displays::get()?;
    let (mut ids, mut count) = ([0_u32; DISPLAYS], 0_u32);
    // SAFETY: room for as many numbers as are asked for, and for their count.
    let status = unsafe { (functions.CGGetActiveDisplayList)(DISPLAYS as u32, ids.as_mut_ptr(), &raw mut count) };
    let count = if status == 0 { count as usize } else { 0 };
    let display = |id: u32| {
        // SAFETY: a display's number; an unknown one gives an empty rectangle and no mode. The mode is ours.
        let (bounds, pixels) = unsafe {
            let mode = Owned::adopt((functions.CGDisplayCopyDisplayMode)(id));
            let pixels = mode.map(|mode| (functions.CGDisplayModeGetPixelWidth)(mode.id()));
            ((functions.CGDisplayBounds)(id), pixels)
        };
        let scale = pixels.map_or(1.0, |pixels| pixels as f64 / bounds.size.width);
        Display { id, bounds, scale: if scale.is_finite() && scale > 0.0 { scale } else { 1.0 } }
    };
    Ok(ids.into_iter().take(count).map(display).collect())
}

/// A window of any program, as the window server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowInfo {
    /// `CGWindowID`
    pub id: u32,
    /// The process that owns it.
    pub pid: i32,
    /// That process by name.
    pub owner: String,
    /// Told only to those who may record the screen.
    pub title: Option<String>,
    /// Where it lies.
    pub bounds: Rect,
    /// 0 for ordinary windows; higher ones lie before them.
    pub layer: i32,
    /// 0 transparent, 1 opaque.
    pub alpha: f64,
    /// Visible, even if covered.
    pub on_screen: bool,
}

/// The windows that are on screen, from front to back; with `all` also the others, in no order.
///
/// # Errors
/// There is no Core Graphics.
pub fn windows(all: bool) -> Result<Vec<WindowInfo>, Missing> {
    let functions = Windows::get()?;
    runtime::pooled(|| {
        let keys = WindowKeys::get()?;
        let option = if all { ALL_WINDOWS } else { ON_SCREEN_ONLY };
        // SAFETY: no window is named; the array is ours, its dictionaries live as long as it.
        unsafe {
            let list = Owned::adopt((functions.CGWindowListCopyWindowInfo)(option, 0));
            let list = list.as_ref().map_or(NIL, Owned::id);
            Ok(foundation::objects(list).filter_map(|window| keys.read(functions, window)).collect())
        }
    })
}

struct WindowKeys {
    number: Id,
    pid: Id,
    owner: Id,
    title: Id,
    bounds: Id,
    layer: Id,
    alpha: Id,
    on_screen: Id,
}

impl WindowKeys {
    fn get() -> Result<Self, Missing> {
        Ok(Self {
            number: kCGWindowNumber()?,
            pid: kCGWindowOwnerPID()?,
            owner: kCGWindowOwnerName()?,
            title: kCGWindowName()?,
            bounds: kCGWindowBounds()?,
            layer: kCGWindowLayer()?,
            alpha: kCGWindowAlpha()?,
            on_screen: kCGWindowIsOnscreen()?,
        })
    }

    /// One window; none when its number, owner or place is missing.
    ///
    /// # Safety
    /// `window` is alive.
    unsafe fn read(&self, functions: &Windows, window: Id) -> Option<WindowInfo> {
        // SAFETY: alive; what is read is looked at for its class first.
        unsafe {
            if !NSObject::is_kind_of_class(window, NSDictionary::class()).is() {
                return None;
            }
            let value = |key| NSDictionary::object_for(window, key);
            let number = |key| foundation::number(value(key));
            let (place, mut bounds) = (value(self.bounds), Rect::default());
            let is_placed = NSObject::is_kind_of_class(place, NSDictionary::class()).is()
                && (functions.CGRectMakeWithDictionaryRepresentation)(place, &raw mut bounds);
            is_placed.then_some(WindowInfo {
                id: number(self.number)? as u32,
                pid: number(self.pid)? as i32,
                owner: foundation::text(value(self.owner)).unwrap_or_default(),
                title: foundation::text(value(self.title)),
                bounds,
                layer: number(self.layer).unwrap_or_default() as i32,
                alpha: number(self.alpha).unwrap_or(1.0),
                on_screen: number(self.on_screen).is_some_and(|on| on != 0.0),
            })
        }
    }
}

/// Seconds since anything was typed, clicked or moved in this session, by whomever.
///
/// # Errors
/// There is no Core Graphics.
pub fn seconds_since_input() -> Result<f64, Missing> {
    // SAFETY: two numbers.
    Ok(unsafe { (Events::get()?.CGEventSourceSecondsSinceLastEventType)(SESSION, ANY_INPUT) })
}

/// Where the pointer is.
///
/// # Errors
/// There is no Core Graphics, or no window server.
pub fn pointer() -> Result<Point, Missing> {
    let functions = Events::get()?;
    // SAFETY: a new event without a source, ours, has the pointer's place.
    unsafe {
        let event = Owned::adopt((functions.CGEventCreate)(NIL)).ok_or_else(no_event)?;
        Ok((functions.CGEventGetLocation)(event.id()))
    }
}

fn no_event() -> Missing {
    Missing { name: "window server, so no input".to_owned() }
}

/// What the mouse does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mouse {
    /// `kCGEventLeftMouseDown`
    LeftDown = 1,
    /// `kCGEventLeftMouseUp`
    LeftUp = 2,
    /// `kCGEventRightMouseDown`
    RightDown = 3,
    /// `kCGEventRightMouseUp`
    RightUp = 4,
    /// `kCGEventMouseMoved`
    Moved = 5,
    /// `kCGEventLeftMouseDragged`
    LeftDragged = 6,
}

/// Keys that are held down, as event flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Flag {
    /// `kCGEventFlagMaskShift`
    Shift = 0x2_0000,
    /// `kCGEventFlagMaskControl`
    Control = 0x4_0000,
    /// `kCGEventFlagMaskAlternate`
    Option = 0x8_0000,
    /// `kCGEventFlagMaskCommand`
    Command = 0x10_0000,
    /// `kCGEventFlagMaskSecondaryFn`
    Function = 0x80_0000,
}

/// To whom an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Whatever lies there or has the keyboard, as from a device.
    Desktop,
    /// This process, and this window of it.
    Process(i32, Option<u32>),
}

/// Posts a mouse event; `click` counts the clicks in a row from 1, `flags` is a sum of [`Flag`]s.
///
/// # Errors
/// There is no Core Graphics, or no window server.
pub fn post_mouse(what: Mouse, at: Point, click: i64, flags: u64, to: Receiver) -> Result<(), Missing> {
    let functions = Events::get()?;
    let button = u32::from(matches!(what, Mouse::RightDown | Mouse::RightUp));
    // SAFETY: a new event without a source, ours until it is posted.
    unsafe {
        let made = (functions.CGEventCreateMouseEvent)(NIL, what as u32, at, button);
        let event = Owned::adopt(made).ok_or_else(no_event)?;
        (functions.CGEventSetIntegerValueField)(event.id(), CLICK_STATE, click);
        if let Receiver::Process(_, Some(window)) = to {
            (functions.CGEventSetIntegerValueField)(event.id(), WINDOW_UNDER_POINTER, window.into());
            (functions.CGEventSetIntegerValueField)(event.id(), WINDOW_THAT_CAN_HANDLE, window.into());
        }
        (functions.CGEventSetFlags)(event.id(), flags);
        functions.post(&event, to);
    }
    Ok(())
}

/// Turns the wheel under the pointer by so many pixels: upwards and to the left when positive.
///
/// # Errors
/// As [`post_mouse`].
pub fn post_scroll(up: i32, left: i32) -> Result<(), Missing> {
    let functions = Events::get()?;
    // SAFETY: a new event without a source, ours until it is posted.
    unsafe {
        let made = (functions.CGEventCreateScrollWheelEvent2)(NIL, PIXEL, 2, up, left, 0);
        let event = Owned::adopt(made).ok_or_else(no_event)?;
        functions.post(&event, Receiver::Desktop);
    }
    Ok(())
}

/// Presses or releases the key of this code, with `flags` (a sum of [`Flag`]s) and no others held down.
///
/// # Errors
/// As [`post_mouse`].
pub fn post_key(code: u16, down: bool, flags: u64, to: Receiver) -> Result<(), Missing> {
    let functions = Events::get()?;
    // SAFETY: a new event without a source, ours until it is posted.
    unsafe {
        let event = Owned::adopt((functions.CGEventCreateKeyboardEvent)(NIL, code, down)).ok_or_else(no_event)?;
        let own = (functions.CGEventGetFlags)(event.id()) & OF_THE_KEY;
        (functions.CGEventSetFlags)(event.id(), own | flags);
        functions.post(&event, to);
    }
    Ok(())
}

/// Presses or releases a key that types this text, of at most [`EVENT_UNITS`].
///
/// # Errors
/// As [`post_mouse`].
pub fn post_text(units: &[u16], down: bool) -> Result<(), Missing> {
    let functions = Events::get()?;
    let count = units.len().min(EVENT_UNITS);
    // SAFETY: a new event without a source, ours until it is posted; that many units, copied.
    unsafe {
        let event = Owned::adopt((functions.CGEventCreateKeyboardEvent)(NIL, 0, down)).ok_or_else(no_event)?;
        (functions.CGEventSetFlags)(event.id(), 0);
        (functions.CGEventKeyboardSetUnicodeString)(event.id(), count, units.as_ptr());
        functions.post(&event, Receiver::Desktop);
    }
    Ok(())
}

impl Events {
    /// # Safety
    /// A live event.
    unsafe fn post(&self, event: &Owned, to: Receiver) {
        // SAFETY: as the caller promises; a process that is gone gets nothing.
        unsafe {
            match to {
                Receiver::Desktop => (self.CGEventPost)(HID, event.id()),
                Receiver::Process(process, _) => (self.CGEventPostToPid)(process, event.id()),
            }
        }
    }
}

#[cfg(all(test, feature = "gnustep"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::foundation::{NSNumber, array, string};
    use crate::image::dictionary;

    /// Has no rectangles: what it is asked is enough here.
    unsafe extern "C-unwind" fn rect(dictionary: Id, rect: *mut Rect) -> bool {
        // SAFETY: called by `read` with a live dictionary and a place for the result.
        unsafe {
            let width = foundation::number(NSDictionary::object_for(dictionary, string("Width")));
            *rect = Rect { size: runtime::Size { width: width.unwrap_or_default(), height: 1.0 }, ..Rect::default() };
            width.is_some()
        }
    }

    unsafe extern "C-unwind" fn none(_: u32, _: u32) -> Id {
        NIL
    }

    #[test]
    fn malformed_windows_are_left_out() {
        runtime::pooled(|| {
            let functions = Windows { CGWindowListCopyWindowInfo: none, CGRectMakeWithDictionaryRepresentation: rect };
            let [number, pid, owner, title, bounds, layer, alpha, on_screen] =
                ["n", "p", "o", "t", "b", "l", "a", "s"].map(string);
            let keys = WindowKeys { number, pid, owner, title, bounds, layer, alpha, on_screen };
            // SAFETY: live objects of this pool.
            unsafe {
                let seven = NSNumber::with_integer(7);
                let place = dictionary(&[(string("Width"), seven)]);
                let whole = [(number, seven), (pid, seven), (bounds, place), (layer, string("high")), (title, seven)];
                let read = keys.read(&functions, dictionary(&whole)).unwrap();
                assert_eq!((read.id, read.pid, read.bounds.size.width), (7, 7, 7.0));
                assert_eq!((read.layer, read.title, read.alpha, read.on_screen), (0, None, 1.0, false));
                for without in 0..3 {
                    let mut part = whole;
                    part[without].1 = array(&[]);
                    assert_eq!(keys.read(&functions, dictionary(&part)), None);
                }
                assert_eq!(keys.read(&functions, string("no dictionary")), None);
            }
        });
    }
}
