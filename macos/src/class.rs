//! Classes that are made at run time: targets and delegates, whose methods are Rust functions.

use crate::library::{Library, Missing};
use crate::runtime::{self, Functions, Id, Imp, NIL, Sel, Shared, class_named};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A method's code: receiver and selector, then one object.
pub(crate) type ActionCode = unsafe extern "C-unwind" fn(Id, Sel, Id);

/// A delegate method's code: who calls and about what, then a block to be called exactly once.
pub(crate) type CompletionCode = unsafe extern "C-unwind" fn(Id, Sel, Id, Id, *const crate::block::Block);

/// A method of a class of ours.
pub(crate) struct Method {
    /// For example `drain:`.
    pub(crate) selector: &'static str,
    /// Result, `@`, `:`, arguments: as the table of mac-app §8.1 says.
    pub(crate) types: &'static str,
    /// The code, of the true type that `types` says.
    pub(crate) code: Imp,
}

impl Method {
    /// One that takes an object and gives nothing: an action, a notification, a timer's callback.
    pub(crate) fn action(selector: &'static str, code: ActionCode) -> Self {
        // SAFETY: only ever called by the runtime with the type that `types` says, which is the code's own.
        let code = unsafe { std::mem::transmute::<ActionCode, Imp>(code) };
        Self { selector, types: "v@:@", code }
    }

    /// One that takes two objects and gives nothing: `application:openURLs:`.
    pub(crate) fn pair(selector: &'static str, code: unsafe extern "C-unwind" fn(Id, Sel, Id, Id)) -> Self {
        // SAFETY: as above.
        let code = unsafe { std::mem::transmute::<unsafe extern "C-unwind" fn(Id, Sel, Id, Id), Imp>(code) };
        Self { selector, types: "v@:@@", code }
    }

    /// One that answers a question about an object: `windowShouldClose:` and kin.
    pub(crate) fn question(
        selector: &'static str,
        code: unsafe extern "C-unwind" fn(Id, Sel, Id) -> runtime::Bool,
    ) -> Self {
        // SAFETY: as above.
        let code =
            unsafe { std::mem::transmute::<unsafe extern "C-unwind" fn(Id, Sel, Id) -> runtime::Bool, Imp>(code) };
        let types = if cfg!(all(target_os = "macos", target_arch = "x86_64")) { "c@:@" } else { "B@:@" };
        Self { selector, types, code }
    }

    /// One that is told of two objects and calls a block when it is done.
    pub(crate) fn with_completion(selector: &'static str, code: CompletionCode) -> Self {
        // SAFETY: as above.
        let code = unsafe { std::mem::transmute::<CompletionCode, Imp>(code) };
        Self { selector, types: "v@:@@@?", code }
    }

    /// One that answers with a number: `applicationShouldTerminate:`.
    pub(crate) fn number(selector: &'static str, code: unsafe extern "C-unwind" fn(Id, Sel, Id) -> usize) -> Self {
        // SAFETY: as above.
        let code = unsafe { std::mem::transmute::<unsafe extern "C-unwind" fn(Id, Sel, Id) -> usize, Imp>(code) };
        Self { selector, types: "Q@:@", code }
    }
}

/// Makes a class of ours with these methods and protocols. Called once a name: the second call gives the first class.
///
/// # Errors
/// There is no runtime.
pub(crate) fn define(name: &str, protocols: &[&str], methods: &[Method]) -> Result<Shared, Missing> {
    define_under(Library::Foundation, "NSObject", name, protocols, methods)
}

/// As [`define`], under another superclass.
pub(crate) fn define_under(
    library: Library,
    superclass: &str,
    name: &str,
    protocols: &[&str],
    methods: &[Method],
) -> Result<Shared, Missing> {
    let missing = || Missing { name: name.to_owned() };
    let c_string = |text: &str| CString::new(text).map_err(|_| missing());
    let superclass = class_named(library, superclass);
    if superclass.is_null() {
        return Err(missing());
    }
    let functions = Functions::get()?;
    let class_name = c_string(name)?;
    // SAFETY: a live superclass and a C string, which the runtime copies.
    let class = unsafe { (functions.objc_allocateClassPair)(superclass, class_name.as_ptr(), 0) };
    if class.is_null() {
        let known = class_named(library, name);
        return if known.is_null() { Err(missing()) } else { Ok(Shared(known)) };
    }
    for method in methods {
        let types = c_string(method.types)?;
        // SAFETY: a class that is not registered yet; code and types agree, as the makers of `Method` promise. The runtime
        // copies `types` (Apple) or keeps it (GCC), so it is never freed.
        unsafe {
            (functions.class_addMethod)(class, runtime::selector(method.selector), method.code, types.into_raw())
        };
    }
    for protocol in protocols {
        let protocol = c_string(protocol)?;
        // SAFETY: C string; a protocol that no loaded image mentions is nil, and not added.
        unsafe {
            let protocol = (functions.objc_getProtocol)(protocol.as_ptr());
            if !protocol.is_null() {
                (functions.class_addProtocol)(class, protocol);
            }
        }
    }
    // SAFETY: a complete class, registered once.
    unsafe { (functions.objc_registerClassPair)(class) };
    Ok(Shared(class))
}

/// An object of a class of ours that lives as long as the process: targets and delegates are not retained by those that
/// call them.
///
/// # Safety
/// `class` came from [`define`], so plain `init` makes its objects whole.
pub(crate) unsafe fn immortal(class: Shared) -> Shared {
    // SAFETY: by the caller's promise; never released.
    let object = unsafe { runtime::new(class.0) }.map(std::mem::ManuallyDrop::new);
    Shared(object.map_or(NIL, |object| object.id()))
}

/// Runs the body of a callback: a panic stops here, said in the log of the process, since it must not go through
/// AppKit's frames.
pub(crate) fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(|| runtime::pooled(body))).unwrap_or(otherwise)
}

#[cfg(all(test, any(target_os = "macos", feature = "gnustep")))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::runtime::{NSObject, instances_respond, new, pooled, selector};
    use std::sync::atomic::{AtomicUsize, Ordering};

    static CALLED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C-unwind" fn panics(_: Id, _: Sel, argument: Id) {
        guarded((), || {
            CALLED.fetch_add(1, Ordering::SeqCst);
            assert!(argument.is_null(), "stopped before the runtime's frames");
        });
    }

    #[test]
    fn a_class_is_made_once_and_a_panic_in_its_method_stops_there() {
        pooled(|| {
            let methods = || [Method::action("poke:", panics)];
            let class = define("OpenClawClassTest", &["NSCopying"], &methods()).unwrap();
            assert_eq!(define("OpenClawClassTest", &[], &[]).unwrap().0, class.0, "the second call gives the first");
            assert!(instances_respond(class.0, "poke:") && !instances_respond(class.0, "prod:"));
            assert!(instances_respond(class.0, "description"), "inherited");
            // SAFETY: a class of ours; its method takes an object or nil.
            unsafe {
                let object = new(class.0).unwrap();
                NSObject::perform(object.id(), selector("poke:"), NIL);
                NSObject::perform(object.id(), selector("poke:"), object.id());
                assert_eq!(CALLED.load(Ordering::SeqCst), 2);
                assert!(immortal(class).0 != NIL);
            }
            assert!(define_under(Library::Foundation, "NSNoSuchClass", "OpenClawNone", &[], &[]).is_err());
        });
    }
}
