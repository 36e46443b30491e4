//! The libraries, and how a symbol of theirs is found.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::sync::OnceLock;

/// Something of the system that is not here; what needs it is not offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Library, symbol or class.
    pub name: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this system has no `{}`", self.name)
    }
}

impl std::error::Error for Missing {}

/// One table of all libraries: name, Apple's file, and the file of the AppKit-compatible library (`gnustep`) or none.
macro_rules! libraries {
    ($( $(#[$doc:meta])* $name:ident = $apple:literal, $linux:expr; )*) => {
        /// A library that is opened when something of it is first used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Library { $( $(#[$doc])* $name, )* }

        impl Library {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$name ),*];

            /// Where it lies on this system.
            fn file(self) -> Option<&'static CStr> {
                let (apple, linux): (_, Option<&CStr>) = match self { $( Self::$name => ($apple, $linux), )* };
                if cfg!(target_os = "macos") { Some(apple) } else { linux.filter(|_| cfg!(feature = "gnustep")) }
            }

            /// Opened once, never closed: its classes and code stay in use.
            fn handle(self) -> Result<Handle, Missing> {
                static HANDLES: [OnceLock<Option<Handle>>; Library::ALL.len()] =
                    [const { OnceLock::new() }; Library::ALL.len()];
                let opened = HANDLES.get(self as usize).and_then(|slot| *slot.get_or_init(|| open(self.file()?)));
                opened.ok_or_else(|| Missing { name: format!("{self:?}") })
            }
        }
    };
}

libraries! {
    /// The Objective-C runtime.
    Objc = c"/usr/lib/libobjc.A.dylib", Some(c"libobjc.so.4");
    /// libSystem: blocks, dispatch, Bonjour.
    System = c"/usr/lib/libSystem.B.dylib", None;
    /// Strings, collections, bundles, run loops.
    Foundation = c"/System/Library/Frameworks/Foundation.framework/Foundation", Some(c"libgnustep-base.so.1.28");
    /// Windows, menus, the event loop.
    AppKit = c"/System/Library/Frameworks/AppKit.framework/AppKit", Some(c"libgnustep-gui.so.0.29");
    /// C values of Foundation.
    CoreFoundation = c"/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation", None;
    /// Displays, windows of others, events.
    CoreGraphics = c"/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics", None;
    /// Accessibility.
    ApplicationServices = c"/System/Library/Frameworks/ApplicationServices.framework/ApplicationServices", None;
    /// Apple events.
    CoreServices = c"/System/Library/Frameworks/CoreServices.framework/CoreServices", None;
    /// Code signatures.
    Security = c"/System/Library/Frameworks/Security.framework/Security", None;
    /// Notification Center.
    UserNotifications = c"/System/Library/Frameworks/UserNotifications.framework/UserNotifications", None;
    /// Pictures to and from bytes.
    ImageIO = c"/System/Library/Frameworks/ImageIO.framework/ImageIO", None;
    /// Capture of the screen.
    ScreenCaptureKit = c"/System/Library/Frameworks/ScreenCaptureKit.framework/ScreenCaptureKit", None;
    /// Cameras and microphones.
    AVFoundation = c"/System/Library/Frameworks/AVFoundation.framework/AVFoundation", None;
    /// Where this Mac is.
    CoreLocation = c"/System/Library/Frameworks/CoreLocation.framework/CoreLocation", None;
    /// Speech recognition.
    Speech = c"/System/Library/Frameworks/Speech.framework/Speech", None;
    /// The canvas.
    WebKit = c"/System/Library/Frameworks/WebKit.framework/WebKit", None;
}

/// What `dlopen` gave; valid for the rest of the process.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: a handle is a number to `dlsym`, which any thread may call at any time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

fn open(file: &CStr) -> Option<Handle> {
    // SAFETY: a C string; the initialisers that run are those of the system's own libraries.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    (!handle.is_null()).then_some(Handle(handle))
}

impl Library {
    /// Loads it, so that its classes can be found.
    ///
    /// # Errors
    /// The library is not on this system.
    pub fn load(self) -> Result<(), Missing> {
        self.handle().map(drop)
    }

    /// The address of a function or variable of it; never null.
    ///
    /// # Errors
    /// The library is not on this system, or has no such symbol.
    pub fn symbol(self, name: &str) -> Result<*mut c_void, Missing> {
        let missing = || Missing { name: name.to_owned() };
        let symbol = CString::new(name).map_err(|_| missing())?;
        // SAFETY: a live handle and a C string.
        let address = unsafe { libc::dlsym(self.handle()?.0, symbol.as_ptr()) };
        if address.is_null() { Err(missing()) } else { Ok(address) }
    }
}
