//! Foundation: strings, collections, numbers, bundles, run-loop modes.

use crate::library::Missing;
use crate::runtime::{self, Bool, Id, NIL, NSObject, Owned, Sel, Shared, allocate};
use std::ffi::{c_char, c_void};

/// `NSUTF8StringEncoding`.
const UTF8: usize = 4;

objc_class! {
    NSString from Foundation {
        - init_with_bytes = "initWithBytes:length:encoding:" (bytes: *const c_void, length: usize, encoding: usize) -> Id;
        - utf8 = "UTF8String" () -> *const c_char;
        - utf8_length = "lengthOfBytesUsingEncoding:" (encoding: usize) -> usize;
    }
}

objc_class! {
    NSArray from Foundation {
        + with_objects = "arrayWithObjects:count:" (objects: *const Id, count: usize) -> Id;
        - count = "count" () -> usize;
        - object_at = "objectAtIndex:" (index: usize) -> Id;
    }
}

objc_class! {
    NSDictionary from Foundation {
        + with_objects = "dictionaryWithObjects:forKeys:count:" (objects: *const Id, keys: *const Id, count: usize) -> Id;
        - object_for = "objectForKey:" (key: Id) -> Id;
        - all_keys = "allKeys" () -> Id;
    }
}

objc_class! {
    NSNumber from Foundation {
        + with_bool = "numberWithBool:" (value: Bool) -> Id;
        + with_integer = "numberWithInteger:" (value: isize) -> Id;
        + with_float = "numberWithFloat:" (value: f32) -> Id;
        + with_double = "numberWithDouble:" (value: f64) -> Id;
        - bool_value = "boolValue" () -> Bool;
        - integer_value = "integerValue" () -> isize;
        - float_value = "floatValue" () -> f32;
        - double_value = "doubleValue" () -> f64;
    }
}

objc_class! {
    NSData from Foundation {
        + with_bytes = "dataWithBytes:length:" (bytes: *const c_void, length: usize) -> Id;
        - bytes = "bytes" () -> *const c_void;
        - length = "length" () -> usize;
    }
}

objc_class! {
    NSURL from Foundation {
        + with_string = "URLWithString:" (text: Id) -> Id;
        + file = "fileURLWithPath:" (path: Id) -> Id;
        - absolute_string = "absoluteString" () -> Id;
        - path = "path" () -> Id;
    }
}

objc_class! {
    NSError from Foundation {
        - domain = "domain" () -> Id;
        - code = "code" () -> isize;
        - localized_description = "localizedDescription" () -> Id;
    }
}

objc_class! {
    NSBundle from Foundation {
        + main = "mainBundle" () -> Id;
        - identifier = "bundleIdentifier" () -> Id;
        - path = "bundlePath" () -> Id;
        - info = "objectForInfoDictionaryKey:" (key: Id) -> Id;
    }
}

/// `NSOperatingSystemVersion`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Version {
    pub(crate) major: isize,
    pub(crate) minor: isize,
    pub(crate) patch: isize,
}

impl runtime::Returned for Version {
    const ZERO: Self = Self { major: 0, minor: 0, patch: 0 };
}

objc_class! {
    NSDate from Foundation {
        + soon = "dateWithTimeIntervalSinceNow:" (seconds: f64) -> Id;
        - since_1970 = "timeIntervalSince1970" () -> f64;
    }
}

objc_class! {
    NSProcessInfo from Foundation {
        + info = "processInfo" () -> Id;
        - version = "operatingSystemVersion" () -> Version;
        - low_power = "isLowPowerModeEnabled" () -> Bool;
        - thermal = "thermalState" () -> isize;
    }
}

objc_class! {
    NSRunLoop from Foundation {
        + main = "mainRunLoop" () -> Id;
        - current_mode = "currentMode" () -> Id;
        - add_timer = "addTimer:forMode:" (timer: Id, mode: Id);
    }
}

objc_class! {
    NSTimer from Foundation {
        + timer = "timerWithTimeInterval:target:selector:userInfo:repeats:" (seconds: f64, target: Id, action: Sel, info: Id, repeats: Bool) -> Id;
        - invalidate = "invalidate" ();
    }
}

variables! { Foundation {
    /// The mode in which nothing is held.
    NSDefaultRunLoopMode: Id;
} }

/// An `NSString` in the current pool; nil without a runtime.
pub(crate) fn string(text: &str) -> Id {
    // SAFETY: bytes and their length, copied by the string; UTF-8 by Rust's promise; the reference goes to the pool.
    unsafe {
        let made = NSString::init_with_bytes(allocate(NSString::class()), text.as_ptr().cast(), text.len(), UTF8);
        NSObject::autorelease(made)
    }
}

/// The text of an `NSString`; none for nil and for what is no string.
///
/// # Safety
/// `object` is nil or alive.
pub(crate) unsafe fn text(object: Id) -> Option<String> {
    // SAFETY: alive; its bytes are the pool's, and as many as its length says.
    unsafe {
        if !NSObject::is_kind_of_class(object, NSString::class()).is() {
            return None;
        }
        let bytes = NSString::utf8(object);
        if bytes.is_null() {
            return None;
        }
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), NSString::utf8_length(object, UTF8));
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// The value of an `NSNumber` (a truth value is 0 or 1); none for nil and for what is no number.
///
/// # Safety
/// `object` is nil or alive.
pub(crate) unsafe fn number(object: Id) -> Option<f64> {
    // SAFETY: alive, and a number before it is asked for its value.
    unsafe { NSObject::is_kind_of_class(object, NSNumber::class()).is().then(|| NSNumber::double_value(object)) }
}

/// An `NSArray` in the current pool of these objects. Nil among them ends the process (an exception), so they are left out.
///
/// # Safety
/// Each object is nil or alive.
pub(crate) unsafe fn array(objects: &[Id]) -> Id {
    let present: Vec<Id> = objects.iter().copied().filter(|object| !object.is_null()).collect();
    // SAFETY: that many live objects, retained by the array.
    unsafe { NSArray::with_objects(present.as_ptr(), present.len()) }
}

/// An `NSDictionary` in the current pool of these keys and values; pairs with nil are left out.
///
/// # Safety
/// Each object is nil or alive; keys can be copied.
pub(crate) unsafe fn dictionary(pairs: &[(Id, Id)]) -> Id {
    let present = pairs.iter().filter(|(key, value)| !key.is_null() && !value.is_null());
    let (keys, values): (Vec<Id>, Vec<Id>) = present.copied().unzip();
    // SAFETY: as many live values as live keys, retained by the dictionary.
    unsafe { NSDictionary::with_objects(values.as_ptr(), keys.as_ptr(), keys.len()) }
}

/// The objects of an `NSArray`, alive as long as the array; none of nil.
///
/// # Safety
/// `object` is nil or a live array that nobody changes meanwhile.
pub(crate) unsafe fn objects(array: Id) -> impl Iterator<Item = Id> {
    // SAFETY: alive or nil, by the caller's promise.
    let count = unsafe { NSArray::count(array) };
    // SAFETY: as above; indices below its count never raise.
    (0..count).map(move |index| unsafe { NSArray::object_at(array, index) })
}

/// The bytes of an `NSData`, copied; none of nil.
///
/// # Safety
/// `data` is nil or a live `NSData`.
pub(crate) unsafe fn bytes(data: Id) -> Option<Vec<u8>> {
    // SAFETY: as many bytes as its length says, alive as long as it is.
    unsafe {
        let start = NSData::bytes(data);
        let length = NSData::length(data);
        if start.is_null() || length == 0 {
            return (!data.is_null()).then(Vec::new);
        }
        Some(std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec())
    }
}

/// An `NSData` in the current pool with a copy of these bytes.
pub(crate) fn data(bytes: &[u8]) -> Id {
    // SAFETY: bytes and their length.
    unsafe { NSData::with_bytes(bytes.as_ptr().cast(), bytes.len()) }
}

/// What an `NSError` says, with domain and code.
///
/// # Safety
/// `error` is nil or a live `NSError`.
pub(crate) unsafe fn error_text(error: Id) -> String {
    // SAFETY: alive.
    unsafe {
        let words = text(NSError::localized_description(error)).unwrap_or_default();
        let domain = text(NSError::domain(error)).unwrap_or_default();
        format!("{words} ({domain} {})", NSError::code(error))
    }
}

/// The code of an `NSError`; 0 for nil.
///
/// # Safety
/// `error` is nil or a live `NSError`.
pub(crate) unsafe fn error_code(error: Id) -> isize {
    // SAFETY: as the caller promises.
    unsafe { NSError::code(error) }
}

/// Names of run-loop modes that are macros or differ between the libraries, by their text.
const MODAL: &str = "NSModalPanelRunLoopMode";
const TRACKING: &str = "NSEventTrackingRunLoopMode";

/// The modes in which a task or timer may run, as an `NSArray` in the pool: default and modal, with `tracking` also while
/// a button or menu item is held. "Common modes" leave the modal one out in the compatible library.
pub(crate) fn modes(tracking: bool) -> Result<Id, Missing> {
    let default = NSDefaultRunLoopMode()?;
    let modes = [default, string(MODAL), if tracking { string(TRACKING) } else { NIL }];
    // SAFETY: two or three live strings.
    Ok(unsafe { array(&modes) })
}

/// Whether the owner saves power, and how hot the machine is (`NSProcessInfoThermalState`). Any thread.
pub fn power() -> (bool, isize) {
    runtime::pooled(|| {
        // SAFETY: the process's own information lives for ever; what it does not know it is not asked.
        unsafe {
            let process = NSProcessInfo::info();
            let low = runtime::responds(process, "isLowPowerModeEnabled") && NSProcessInfo::low_power(process).is();
            let thermal = if runtime::responds(process, "thermalState") { NSProcessInfo::thermal(process) } else { 0 };
            (low, thermal)
        }
    })
}

/// Whether the main thread's loop follows a button or menu item that is held.
pub(crate) fn is_tracking() -> bool {
    runtime::pooled(|| {
        // SAFETY: the main loop lives for ever; its mode is a string in the pool, or nil outside the loop.
        unsafe { text(NSRunLoop::current_mode(NSRunLoop::main())) }.as_deref() == Some(TRACKING)
    })
}

/// A timer on the main thread's loop, in all modes of [`modes`]; stopped when dropped.
pub(crate) struct Timer(Owned);

impl Timer {
    /// Sends `action` to `target` every so many seconds.
    ///
    /// # Errors
    /// There is no loop here.
    pub(crate) fn start(seconds: f64, target: Shared, action: &str) -> Result<Self, Missing> {
        runtime::pooled(|| {
            let modes = modes(true)?;
            // SAFETY: an object of ours that lives for ever and has this method; the loop keeps the timer, and so do we.
            unsafe {
                let timer = NSTimer::timer(seconds, target.0, runtime::selector(action), NIL, true.into());
                objects(modes).for_each(|mode| NSRunLoop::add_timer(NSRunLoop::main(), timer, mode));
                Owned::retain(timer).map(Self).ok_or_else(|| Missing { name: "NSTimer".to_owned() })
            }
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: a live timer of the main loop, on the main thread.
        unsafe { NSTimer::invalidate(self.0.id()) }
    }
}

/// The program's own bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// For example `ai.openclaw.mac`.
    pub identifier: String,
    /// The folder that ends in `.app`.
    pub path: String,
}

/// The bundle that this program is the executable of; none for a bare tool.
pub fn main_bundle() -> Option<Bundle> {
    runtime::pooled(|| {
        // SAFETY: the main bundle lives for ever; its strings are in the pool.
        let (identifier, path) = unsafe {
            let bundle = NSBundle::main();
            (text(NSBundle::identifier(bundle))?, text(NSBundle::path(bundle))?)
        };
        path.ends_with(".app").then_some(Bundle { identifier, path })
    })
}

#[cfg(all(test, any(target_os = "macos", feature = "gnustep")))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_survives_the_way_to_an_object_and_back() {
        runtime::pooled(|| {
            for words in ["", "plain", "zero \0 inside", "ümläut 🦞 \u{202e}"] {
                // SAFETY: a string of ours, in this pool.
                assert_eq!(unsafe { text(string(words)) }.as_deref(), Some(words));
            }
            // SAFETY: nil, and an object that is no string.
            assert_eq!(unsafe { (text(NIL), text(NSNumber::with_integer(3))) }, (None, None));
        });
    }

    #[test]
    fn collections_leave_nil_out() {
        runtime::pooled(|| {
            // SAFETY: live strings and nil.
            let words: Vec<_> =
                unsafe { objects(array(&[string("a"), NIL, string("b")])).map(|object| text(object)) }.collect();
            assert_eq!(words, [Some("a".to_owned()), Some("b".to_owned())]);
        });
    }

    #[test]
    fn modes_differ_by_tracking() {
        runtime::pooled(|| {
            // SAFETY: arrays in this pool.
            let counts = unsafe { (NSArray::count(modes(false).unwrap()), NSArray::count(modes(true).unwrap())) };
            assert_eq!(counts, (2, 3));
        });
    }
}
