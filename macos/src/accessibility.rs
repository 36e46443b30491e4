//! Accessibility: the interface of other programs as a tree of elements, read and operated (mac-app §8.4). An element
//! stays on the thread that made it. Each call waits for the other program, never longer than [`PATIENCE`].

use crate::foundation::{self, NSNumber};
use crate::library::Missing;
use crate::runtime::{self, Id, NIL, Owned, Point, Size};
use std::ffi::c_void;
use std::fmt;

functions! {
    Functions from ApplicationServices {
        fn AXUIElementCreateApplication(process: i32) -> Id;
        fn AXUIElementCreateSystemWide() -> Id;
        fn AXUIElementGetTypeID() -> usize;
        fn AXUIElementGetPid(element: Id, process: *mut i32) -> i32;
        fn AXUIElementSetMessagingTimeout(element: Id, seconds: f32) -> i32;
        fn AXUIElementCopyAttributeValue(element: Id, name: Id, value: *mut Id) -> i32;
        fn AXUIElementCopyAttributeValues(element: Id, name: Id, first: isize, most: isize, values: *mut Id) -> i32;
        fn AXUIElementCopyMultipleAttributeValues(element: Id, names: Id, options: u32, values: *mut Id) -> i32;
        fn AXUIElementIsAttributeSettable(element: Id, name: Id, settable: *mut u8) -> i32;
        fn AXUIElementSetAttributeValue(element: Id, name: Id, value: Id) -> i32;
        fn AXUIElementCopyActionNames(element: Id, names: *mut Id) -> i32;
        fn AXUIElementPerformAction(element: Id, name: Id) -> i32;
        fn AXUIElementCopyElementAtPosition(element: Id, x: f32, y: f32, found: *mut Id) -> i32;
        fn AXValueCreate(kind: u32, value: *const c_void) -> Id;
        fn AXValueGetType(value: Id) -> u32;
        fn AXValueGetTypeID() -> usize;
        fn AXValueGetValue(value: Id, kind: u32, into: *mut c_void) -> u8;
    }
}

functions! {
    /// Not in Apple's headers; every system so far has it.
    Private from ApplicationServices {
        fn _AXUIElementGetWindow(element: Id, window: *mut u32) -> i32;
    }
}

functions! {
    Types from CoreFoundation {
        fn CFGetTypeID(object: Id) -> usize;
        fn CFBooleanGetTypeID() -> usize;
    }
}

/// Seconds that one call waits for the other program, which may hang.
pub const PATIENCE: f32 = 1.0;

/// `kAXValueTypeCGPoint`
const POINT: u32 = 1;
/// `kAXValueTypeCGSize`
const SIZE: u32 = 2;
/// `kAXErrorInvalidUIElement`
const INVALID_ELEMENT: i32 = -25202;
/// `kAXErrorCannotComplete`
const CANNOT_COMPLETE: i32 = -25204;
/// `kAXErrorAttributeUnsupported`
const ATTRIBUTE_UNSUPPORTED: i32 = -25205;
/// `kAXErrorActionUnsupported`
const ACTION_UNSUPPORTED: i32 = -25206;
/// `kAXErrorAPIDisabled`
const DISABLED: i32 = -25211;
/// `kAXErrorNoValue`
const NO_VALUE: i32 = -25212;

/// Why another program's interface was not read or operated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This system has none.
    Missing(Missing),
    /// The owner has not granted Accessibility.
    NotGranted,
    /// The element or its program is not there any more.
    Gone,
    /// The program did not answer in time.
    TimedOut,
    /// The element does not have that.
    Unsupported,
    /// Another `AXError`.
    Error(i32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::NotGranted => f.write_str("Accessibility is not granted"),
            Self::Gone => f.write_str("the element is gone"),
            Self::TimedOut => f.write_str("the program did not answer in time"),
            Self::Unsupported => f.write_str("the element does not have that"),
            Self::Error(status) => write!(f, "the program refused ({status})"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

fn checked(status: i32) -> Result<(), Refusal> {
    match status {
        0 => Ok(()),
        DISABLED => Err(Refusal::NotGranted),
        INVALID_ELEMENT => Err(Refusal::Gone),
        CANNOT_COMPLETE => Err(Refusal::TimedOut),
        ATTRIBUTE_UNSUPPORTED | ACTION_UNSUPPORTED | NO_VALUE => Err(Refusal::Unsupported),
        other => Err(Refusal::Error(other)),
    }
}

/// The value of an attribute.
pub enum Value {
    /// `CFString`
    Text(String),
    /// `CFNumber`
    Number(f64),
    /// `CFBoolean`
    Bool(bool),
    /// A place on the desktop.
    Point(Point),
    /// An extent.
    Size(Size),
    /// Another element.
    Element(Element),
}

impl Value {
    /// # Safety
    /// `object` is nil or alive.
    unsafe fn read(object: Id) -> Option<Self> {
        if object.is_null() {
            return None;
        }
        let (functions, types) = (Functions::get().ok()?, Types::get().ok()?);
        // SAFETY: alive, and looked at for its type before it is read as that.
        unsafe {
            if let Some(text) = foundation::text(object) {
                return Some(Self::Text(text));
            }
            let of = (types.CFGetTypeID)(object);
            if of == (types.CFBooleanGetTypeID)() {
                return foundation::number(object).map(|value| Self::Bool(value != 0.0));
            }
            if of == (functions.AXUIElementGetTypeID)() {
                return Element::adopt(Owned::retain(object)).ok().map(Self::Element);
            }
            if of != (functions.AXValueGetTypeID)() {
                return foundation::number(object).map(Self::Number);
            }
            let (mut point, mut size) = (Point::default(), Size::default());
            let get = functions.AXValueGetValue;
            match (functions.AXValueGetType)(object) {
                POINT => (get(object, POINT, (&raw mut point).cast()) != 0).then_some(Self::Point(point)),
                SIZE => (get(object, SIZE, (&raw mut size).cast()) != 0).then_some(Self::Size(size)),
                _ => None,
            }
        }
    }

    /// The object for it; none where the system has none.
    fn object(&self) -> Option<Owned> {
        // SAFETY: new values, each with bytes of its type, and live objects.
        unsafe {
            match self {
                Self::Text(text) => Owned::retain(foundation::string(text)),
                Self::Number(number) => Owned::retain(NSNumber::with_double(*number)),
                Self::Bool(value) => Owned::retain(NSNumber::with_bool((*value).into())),
                Self::Point(point) => {
                    Owned::adopt((Functions::get().ok()?.AXValueCreate)(POINT, (&raw const *point).cast()))
                }
                Self::Size(size) => {
                    Owned::adopt((Functions::get().ok()?.AXValueCreate)(SIZE, (&raw const *size).cast()))
                }
                Self::Element(element) => Owned::retain(element.0.id()),
            }
        }
    }
}

/// An element of some program's interface.
pub struct Element(Owned);

impl Element {
    /// Every element is made here, so that none waits for long.
    fn adopt(object: Option<Owned>) -> Result<Self, Refusal> {
        let object = object.ok_or(Refusal::Gone)?;
        // SAFETY: a live element.
        unsafe { (Functions::get()?.AXUIElementSetMessagingTimeout)(object.id(), PATIENCE) };
        Ok(Self(object))
    }

    /// A program as a whole.
    ///
    /// # Errors
    /// There is no Accessibility. Whether there is such a program shows at the first question to it.
    pub fn application(process: i32) -> Result<Self, Refusal> {
        // SAFETY: a number; the element is ours.
        Self::adopt(unsafe { Owned::adopt((Functions::get()?.AXUIElementCreateApplication)(process)) })
    }

    /// All programs together.
    ///
    /// # Errors
    /// There is no Accessibility.
    pub fn system_wide() -> Result<Self, Refusal> {
        // SAFETY: no arguments; the element is ours.
        Self::adopt(unsafe { Owned::adopt((Functions::get()?.AXUIElementCreateSystemWide)()) })
    }

    /// What lies at this point, of any program.
    ///
    /// # Errors
    /// See [`Refusal`]; [`Refusal::Unsupported`] for nothing.
    pub fn at(point: Point) -> Result<Self, Refusal> {
        let (functions, all, mut found) = (Functions::get()?, Self::system_wide()?, NIL);
        // SAFETY: a live element; what is found is ours.
        unsafe {
            let position = (point.x as f32, point.y as f32);
            checked((functions.AXUIElementCopyElementAtPosition)(all.0.id(), position.0, position.1, &raw mut found))?;
            Self::adopt(Owned::adopt(found))
        }
    }

    /// The process that answers for it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn pid(&self) -> Result<i32, Refusal> {
        let mut process = 0;
        // SAFETY: a live element and room for a number.
        checked(unsafe { (Functions::get()?.AXUIElementGetPid)(self.0.id(), &raw mut process) })?;
        Ok(process)
    }

    /// A window's `CGWindowID`; none of what is no window, or where the system does not tell.
    pub fn window_number(&self) -> Option<u32> {
        let mut window = 0;
        // SAFETY: a live element and room for a number.
        let status = unsafe { (Private::get().ok()?._AXUIElementGetWindow)(self.0.id(), &raw mut window) };
        (status == 0 && window != 0).then_some(window)
    }

    /// The value of an attribute, such as `AXFocusedWindow`; none when it has none of that name or no value now.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn get(&self, name: &str) -> Result<Option<Value>, Refusal> {
        let functions = Functions::get()?;
        // SAFETY: a live element and name; the value is ours.
        runtime::pooled(|| unsafe {
            let mut value = NIL;
            let status =
                (functions.AXUIElementCopyAttributeValue)(self.0.id(), foundation::string(name), &raw mut value);
            let value = Owned::adopt(value);
            match checked(status) {
                Ok(()) => Ok(value.and_then(|value| Value::read(value.id()))),
                Err(Refusal::Unsupported) => Ok(None),
                Err(refusal) => Err(refusal),
            }
        })
    }

    /// The values of these attributes, in their order, by one question.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn get_all(&self, names: &[&str]) -> Result<Vec<Option<Value>>, Refusal> {
        let functions = Functions::get()?;
        // SAFETY: a live element and live names; the array is ours, its members live as long as it.
        runtime::pooled(|| unsafe {
            let wanted: Vec<Id> = names.iter().map(|name| foundation::string(name)).collect();
            let (wanted, mut values) = (foundation::array(&wanted), NIL);
            let status = (functions.AXUIElementCopyMultipleAttributeValues)(self.0.id(), wanted, 0, &raw mut values);
            let values = Owned::adopt(values);
            checked(status)?;
            Ok(foundation::objects(values.as_ref().map_or(NIL, Owned::id)).map(|value| Value::read(value)).collect())
        })
    }

    /// Part of an attribute that is a list of elements, such as `AXChildren`; empty when there is none.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn list(&self, name: &str, first: usize, most: usize) -> Result<Vec<Self>, Refusal> {
        let functions = Functions::get()?;
        let (Ok(first), Ok(most)) = (isize::try_from(first), isize::try_from(most)) else { return Ok(Vec::new()) };
        // SAFETY: a live element and name; the array is ours, its members live as long as it.
        runtime::pooled(|| unsafe {
            let (name, mut values) = (foundation::string(name), NIL);
            let status = (functions.AXUIElementCopyAttributeValues)(self.0.id(), name, first, most, &raw mut values);
            let values = Owned::adopt(values);
            match checked(status) {
                Ok(()) => {}
                // Another error than these is said for an index past the end.
                Err(refusal @ (Refusal::NotGranted | Refusal::Gone | Refusal::TimedOut)) => return Err(refusal),
                Err(_) => return Ok(Vec::new()),
            }
            let element = |object| match Value::read(object) {
                Some(Value::Element(element)) => Some(element),
                _ => None,
            };
            Ok(foundation::objects(values.as_ref().map_or(NIL, Owned::id)).filter_map(element).collect())
        })
    }

    /// Whether the value of an attribute can be set.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn is_settable(&self, name: &str) -> Result<bool, Refusal> {
        let (functions, mut settable) = (Functions::get()?, 0);
        // SAFETY: a live element and name, and room for a truth value.
        runtime::pooled(|| unsafe {
            let name = foundation::string(name);
            checked((functions.AXUIElementIsAttributeSettable)(self.0.id(), name, &raw mut settable))
        })?;
        Ok(settable != 0)
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn set(&self, name: &str, value: &Value) -> Result<(), Refusal> {
        let functions = Functions::get()?;
        // SAFETY: a live element, name and value.
        runtime::pooled(|| unsafe {
            let value = value.object().ok_or(Refusal::Unsupported)?;
            checked((functions.AXUIElementSetAttributeValue)(self.0.id(), foundation::string(name), value.id()))
        })
    }

    /// What can be done with it: `AXPress`, …
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn actions(&self) -> Result<Vec<String>, Refusal> {
        let functions = Functions::get()?;
        // SAFETY: a live element; the array is ours, its members live as long as it.
        runtime::pooled(|| unsafe {
            let mut names = NIL;
            let status = (functions.AXUIElementCopyActionNames)(self.0.id(), &raw mut names);
            let names = Owned::adopt(names);
            checked(status)?;
            let names = names.as_ref().map_or(NIL, Owned::id);
            Ok(foundation::objects(names).filter_map(|name| foundation::text(name)).collect())
        })
    }

    /// Does one of them.
    ///
    /// # Errors
    /// See [`Refusal`]; [`Refusal::TimedOut`] also when the program did it and then did not answer, as it does when it
    /// shows a modal dialog.
    pub fn perform(&self, action: &str) -> Result<(), Refusal> {
        let functions = Functions::get()?;
        // SAFETY: a live element and name.
        runtime::pooled(|| unsafe {
            checked((functions.AXUIElementPerformAction)(self.0.id(), foundation::string(action)))
        })
    }
}

/// Whether this system has what all of this takes.
pub fn is_here() -> bool {
    Functions::get().is_ok() && Types::get().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_meaning() {
        let meaning = |status| checked(status).err();
        assert_eq!(meaning(0), None);
        assert_eq!(meaning(-25211), Some(Refusal::NotGranted));
        assert_eq!(meaning(-25204), Some(Refusal::TimedOut));
        assert_eq!(meaning(-25202), Some(Refusal::Gone));
        assert_eq!(meaning(-25212), Some(Refusal::Unsupported));
        assert_eq!(meaning(-25200), Some(Refusal::Error(-25200)));
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn without_the_system_every_way_in_says_so() {
        assert!(!is_here());
        assert!(matches!(Element::application(1), Err(Refusal::Missing(_))));
        assert!(matches!(Element::at(Point::default()), Err(Refusal::Missing(_))));
    }
}
