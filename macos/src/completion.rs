//! The completion handlers of the frameworks: what is called back with which arguments (mac-app §8.8).

use crate::block::{self, Awaited, Block, Literal, Unanswered};
use crate::class;
use crate::foundation;
use crate::runtime::{Bool, Id, Owned};
use std::ffi::{CStr, c_void};
use std::time::Instant;

/// An object that came on one thread and goes to another. Only for those that Apple gives to any thread (mac-app §8.5).
pub(crate) struct Anywhere(pub(crate) Owned);

// SAFETY: see the type: only made of objects that any thread may use.
unsafe impl Send for Anywhere {}

/// What a block of `(object?, NSError?)` was called with.
pub(crate) type Given = Result<Option<Anywhere>, String>;

/// `(BOOL)`
#[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
const ANSWER: &CStr = c"v12@?0B8";
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
const ANSWER: &CStr = c"v12@?0c8";
/// `(NSInteger)`
const NUMBER: &CStr = c"v16@?0q8";
/// `(NSError?)`
const END: &CStr = c"v16@?0@\"NSError\"8";
/// `(object?, NSError?)`
const OBJECT: &CStr = c"v24@?0@8@\"NSError\"16";

extern "C-unwind" fn answered(block: *const Block, granted: Bool) {
    // SAFETY: the block that this is the code of.
    class::guarded((), || unsafe { block::answer(block, granted.is()) });
}

extern "C-unwind" fn numbered(block: *const Block, number: isize) {
    // SAFETY: as above.
    class::guarded((), || unsafe { block::answer(block, number) });
}

extern "C-unwind" fn ended(block: *const Block, error: Id) {
    // SAFETY: as above; the error is nil or alive during the call.
    class::guarded((), || unsafe { block::answer::<Result<(), String>>(block, failure(error).map_or(Ok(()), Err)) });
}

extern "C-unwind" fn gave(block: *const Block, object: Id, error: Id) {
    class::guarded((), || {
        // SAFETY: as above; the object is nil or alive during the call, and kept by its retain.
        unsafe {
            let object = Owned::retain(object).map(Anywhere);
            let why = || failure(error).unwrap_or_else(|| "the system gave nothing".to_owned());
            block::answer::<Result<Option<Anywhere>, String>>(
                block,
                object.map_or_else(|| failure(error).map_or(Ok(None), |_| Err(why())), |object| Ok(Some(object))),
            );
        }
    });
}

/// # Safety
/// `error` is nil or alive.
unsafe fn failure(error: Id) -> Option<String> {
    // SAFETY: as the caller promises.
    (!error.is_null()).then(|| unsafe { foundation::error_text(error) })
}

/// Waits for a yes or no.
///
/// # Safety
/// `start` hands the block to a method that takes a block of `(BOOL)`.
pub(crate) unsafe fn answer(deadline: Instant, start: impl FnOnce(Id)) -> Result<bool, Unanswered> {
    // SAFETY: by the caller's promise.
    unsafe { block::wait(answered as *const c_void, ANSWER, deadline, start) }
}

/// Waits for a number.
///
/// # Safety
/// As [`answer`], with `(NSInteger)`.
pub(crate) unsafe fn number(deadline: Instant, start: impl FnOnce(Id)) -> Result<isize, Unanswered> {
    // SAFETY: by the caller's promise.
    unsafe { block::wait(numbered as *const c_void, NUMBER, deadline, start) }
}

/// Waits for the end, or the error's text.
///
/// # Safety
/// As [`answer`], with `(NSError?)`.
pub(crate) unsafe fn end(deadline: Instant, start: impl FnOnce(Id)) -> Result<Result<(), String>, Unanswered> {
    // SAFETY: by the caller's promise.
    unsafe { block::wait(ended as *const c_void, END, deadline, start) }
}

/// Waits for an object that any thread may use, nothing, or the error's text.
///
/// # Safety
/// As [`answer`], with `(object?, NSError?)`.
pub(crate) unsafe fn object(deadline: Instant, start: impl FnOnce(Id)) -> Result<Given, Unanswered> {
    // SAFETY: by the caller's promise.
    unsafe { block::wait(gave as *const c_void, OBJECT, deadline, start) }
}

/// What [`object`] gives, for a block that another thread hands over.
///
/// # Errors
/// There are no blocks here.
pub(crate) fn object_later() -> Result<(Literal, Awaited<Given>), Unanswered> {
    block::make(gave as *const c_void, OBJECT)
}
