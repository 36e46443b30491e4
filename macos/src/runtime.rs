//! The Objective-C runtime: values, classes, selectors, message sends, autorelease pools (mac-app §8.1, §8.2).

use crate::library::{Library, Missing};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

/// An object, a class or nil.
pub(crate) type Id = *mut c_void;
/// No object.
pub(crate) const NIL: Id = ptr::null_mut();
/// The code of a method, to be cast to its true type before a call.
pub(crate) type Imp = unsafe extern "C-unwind" fn();

/// A registered selector.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Sel(*const c_void);

// SAFETY: a selector is a name in the runtime's table, which lives as long as the process and never changes.
unsafe impl Send for Sel {}
// SAFETY: as above.
unsafe impl Sync for Sel {}

/// An object that any thread may use: a class, or what Apple says so of (mac-app §8.5).
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) Id);

// SAFETY: only made of classes and of objects that Apple's documentation gives to any thread.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// `BOOL`: one byte everywhere, `bool` on Apple silicon, a signed or unsigned char elsewhere. Compared with 0 only.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bool(u8);

impl Bool {
    /// Whether it is not `NO`.
    pub(crate) fn is(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(u8::from(value))
    }
}

/// `NSPoint`, `CGPoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Point {
    /// Points from the left.
    pub x: f64,
    /// Points from the bottom (AppKit) or from the top (Core Graphics).
    pub y: f64,
}

/// `NSSize`, `CGSize`, in points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Size {
    /// Points.
    pub width: f64,
    /// Points.
    pub height: f64,
}

/// `NSRect`, `CGRect`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Rect {
    /// The corner with the smallest coordinates.
    pub origin: Point,
    /// How far it reaches.
    pub size: Size,
}

/// `NSRange`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) location: usize,
    pub(crate) length: usize,
}

/// What a message may give back; zero is what nil answers.
pub(crate) trait Returned: Copy {
    /// Nothing, 0, nil, NO.
    const ZERO: Self;
}

macro_rules! returned {
    ($($type:ty = $zero:expr;)*) => { $( impl Returned for $type { const ZERO: Self = $zero; } )* };
}

returned! {
    () = ();
    Id = NIL;
    *const c_char = ptr::null();
    *const u8 = ptr::null();
    *const c_void = ptr::null();
    Bool = Bool(0);
    u16 = 0;
    u32 = 0;
    i32 = 0;
    usize = 0;
    isize = 0;
    f32 = 0.0;
    f64 = 0.0;
    Point = Point { x: 0.0, y: 0.0 };
    Size = Size { width: 0.0, height: 0.0 };
    Rect = Rect { origin: Point { x: 0.0, y: 0.0 }, size: Size { width: 0.0, height: 0.0 } };
    Range = Range { location: 0, length: 0 };
}

functions! {
    /// What both runtimes have.
    Functions from Objc {
        fn objc_getClass(name: *const c_char) -> Id;
        fn sel_registerName(name: *const c_char) -> Sel;
        fn objc_allocateClassPair(superclass: Id, name: *const c_char, extra: usize) -> Id;
        fn objc_registerClassPair(class: Id);
        fn objc_getProtocol(name: *const c_char) -> Id;
        fn class_addMethod(class: Id, selector: Sel, code: Imp, types: *const c_char) -> Bool;
        fn class_addProtocol(class: Id, protocol: Id) -> Bool;
        fn class_respondsToSelector(class: Id, selector: Sel) -> Bool;
    }
}

/// How a message finds its method.
enum Dispatch {
    /// Apple: these functions are called in the method's place. The second gives structures of more than 16 bytes, and
    /// is Intel's only.
    Send(Imp, Option<Imp>),
    /// GCC's runtime: look it up, then call it.
    LookUp(unsafe extern "C-unwind" fn(Id, Sel) -> Option<Imp>),
}

fn dispatch() -> Option<&'static Dispatch> {
    static DISPATCH: OnceLock<Option<Dispatch>> = OnceLock::new();
    let find = || {
        if cfg!(target_os = "macos") {
            let code = |name| {
                let address = Library::Objc.symbol(name).ok()?;
                // SAFETY: a function of the runtime, never called by this type but cast to a method's first.
                Some(unsafe { std::mem::transmute::<*mut c_void, Imp>(address) })
            };
            let large = cfg!(target_arch = "x86_64").then(|| code("objc_msgSend_stret")).flatten();
            return Some(Dispatch::Send(code("objc_msgSend")?, large));
        }
        let address = Library::Objc.symbol("objc_msg_lookup").ok()?;
        // SAFETY: GCC's `IMP objc_msg_lookup(id, SEL)`.
        let look_up =
            unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(Id, Sel) -> Option<Imp>>(address) };
        Some(Dispatch::LookUp(look_up))
    };
    DISPATCH.get_or_init(find).as_ref()
}

/// The code to call for a message that gives an `R`; none for nil.
pub(crate) fn implementation<R>(receiver: Id, selector: Sel) -> Option<Imp> {
    if receiver.is_null() {
        return None;
    }
    match dispatch()? {
        Dispatch::Send(_, Some(large)) if size_of::<R>() > 16 => Some(*large),
        Dispatch::Send(send, _) => Some(*send),
        // SAFETY: the receiver is an object, as the caller of the message promises.
        Dispatch::LookUp(look_up) => unsafe { look_up(receiver, selector) },
    }
}

/// Loads the libraries of every message, once. On Linux their process is told an argument vector of our own: it would
/// open our words as documents.
fn prepare() -> Result<(), Missing> {
    static PREPARED: OnceLock<Result<(), Missing>> = OnceLock::new();
    let open = || {
        Library::Objc.load()?;
        Library::Foundation.load()?;
        if !cfg!(target_os = "macos") {
            initialise_process()?;
        }
        Ok(())
    };
    PREPARED.get_or_init(open).clone()
}

functions! {
    /// Of the AppKit-compatible library only.
    Compatible from Foundation {
        fn GSInitializeProcess(count: c_int, arguments: *mut *mut c_char, environment: *mut *mut c_char);
    }
}

/// Words that are read as settings: no tile for our icon.
const ARGUMENTS: [&CStr; 3] = [c"openclaw", c"-GSSuppressAppIcon", c"YES"];

fn initialise_process() -> Result<(), Missing> {
    let functions = Compatible::get()?;
    let mut arguments: Vec<*mut c_char> = ARGUMENTS.iter().map(|word| word.as_ptr().cast_mut()).collect();
    arguments.push(ptr::null_mut());
    let words: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut word = name.into_encoded_bytes();
            word.push(b'=');
            word.extend(value.into_encoded_bytes());
            CString::new(word).ok()
        })
        .collect();
    let mut environment: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    environment.push(ptr::null_mut());
    // SAFETY: two null-terminated vectors of C strings with their count; the library copies what it keeps. Called once,
    // before any class of it is used.
    unsafe {
        (functions.GSInitializeProcess)(ARGUMENTS.len() as c_int, arguments.as_mut_ptr(), environment.as_mut_ptr());
    }
    Ok(())
}

/// A class by its name; nil when this system has no such library or class.
pub(crate) fn class_named(library: Library, name: &str) -> Id {
    let look_up = || {
        prepare().ok()?;
        library.load().ok()?;
        let name = CString::new(name).ok()?;
        // SAFETY: a C string.
        Some(unsafe { (Functions::get().ok()?.objc_getClass)(name.as_ptr()) })
    };
    look_up().unwrap_or(NIL)
}

/// The selector of this name; without a runtime one that no message can be sent by.
pub(crate) fn selector(name: &str) -> Sel {
    let register = || {
        let name = CString::new(name).ok()?;
        // SAFETY: a C string, which the runtime copies.
        Some(unsafe { (Functions::get().ok()?.sel_registerName)(name.as_ptr()) })
    };
    register().unwrap_or(Sel(ptr::null()))
}

/// Whether an object takes this message. False for nil.
///
/// # Safety
/// `receiver` is nil or alive.
pub(crate) unsafe fn responds(receiver: Id, name: &str) -> bool {
    // SAFETY: every object descends from NSObject; alive by the caller's promise.
    unsafe { NSObject::responds_to_selector(receiver, selector(name)).is() }
}

/// Whether objects of this class take this message.
pub(crate) fn instances_respond(class: Id, name: &str) -> bool {
    // SAFETY: a class or nil, which answers no.
    !class.is_null()
        && Functions::get()
            .is_ok_and(|functions| unsafe { (functions.class_respondsToSelector)(class, selector(name)).is() })
}

objc_class! {
    /// What every object can do.
    NSObject from Foundation {
        + alloc = "alloc" () -> Id;
        - init = "init" () -> Id;
        - retain = "retain" () -> Id;
        - release = "release" ();
        - autorelease = "autorelease" () -> Id;
        - responds_to_selector = "respondsToSelector:" (selector: Sel) -> Bool;
        - is_kind_of_class = "isKindOfClass:" (class: Id) -> Bool;
        - description = "description" () -> Id;
        - perform = "performSelector:withObject:" (selector: Sel, object: Id) -> Id;
        - perform_on_main = "performSelectorOnMainThread:withObject:waitUntilDone:modes:" (selector: Sel, object: Id, wait: Bool, modes: Id);
    }
}

/// A new object of `class`, allocated and not yet initialised; nil when there is no such class.
///
/// # Safety
/// `class` is a class or nil. The result must be given to an `init` method and nothing else.
pub(crate) unsafe fn allocate(class: Id) -> Id {
    match implementation::<Id>(class, selector("alloc")) {
        // SAFETY: `alloc` is a class method of every class, so it is sent to the class as to an object.
        Some(code) => unsafe {
            let send = std::mem::transmute::<Imp, unsafe extern "C-unwind" fn(Id, Sel) -> Id>(code);
            send(class, selector("alloc"))
        },
        None => NIL,
    }
}

/// A new object of `class` made by plain `init`; owned by the caller.
///
/// # Safety
/// `class` is a class whose objects `init` makes whole, or nil.
pub(crate) unsafe fn new(class: Id) -> Option<Owned> {
    // SAFETY: allocated here and given to `init` at once.
    unsafe { Owned::adopt(NSObject::init(allocate(class))) }
}

/// An object that we hold; released when dropped.
pub(crate) struct Owned(ptr::NonNull<c_void>);

impl Owned {
    /// Takes over what an `alloc`, `new`, `copy` or `init` method gave; none for nil.
    ///
    /// # Safety
    /// `object` is nil or one reference to it is ours to release.
    pub(crate) unsafe fn adopt(object: Id) -> Option<Self> {
        ptr::NonNull::new(object).map(Self)
    }

    /// Keeps an object that another holds, or a pool; none for nil.
    ///
    /// # Safety
    /// `object` is nil or alive.
    pub(crate) unsafe fn retain(object: Id) -> Option<Self> {
        // SAFETY: alive, so it can be retained; that reference is ours.
        unsafe { Self::adopt(NSObject::retain(object)) }
    }

    /// The object, alive as long as `self`.
    pub(crate) fn id(&self) -> Id {
        self.0.as_ptr()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference that was taken over or retained.
        unsafe { NSObject::release(self.id()) }
    }
}

objc_class! {
    NSAutoreleasePool from Foundation {
        - drain = "drain" ();
    }
}

/// Runs `work` with an autorelease pool around it: what methods give without ownership lives until it ends. Around each
/// unit of work of a thread of ours, and in each callback that the system makes on a thread of its own.
pub(crate) fn pooled<T>(work: impl FnOnce() -> T) -> T {
    struct Pool(Id);
    impl Drop for Pool {
        fn drop(&mut self) {
            // SAFETY: this thread's newest pool, drained (which releases it) once.
            unsafe { NSAutoreleasePool::drain(self.0) }
        }
    }
    // SAFETY: a new pool, drained on this thread when `work` is over, panicking or not.
    let _pool = Pool(unsafe { NSObject::init(allocate(NSAutoreleasePool::class())) });
    work()
}
