//! Which applications run, and opening things with them (mac-app §8.7). Any thread.

use crate::foundation::{self, NSURL, string};
use crate::runtime::{self, Bool, Id, NIL};

objc_class! {
    NSWorkspace from AppKit {
        + shared = "sharedWorkspace" () -> Id;
        - open = "openURL:" (url: Id) -> Bool;
    }
}

objc_class! {
    NSRunningApplication from AppKit {
        + with_identifier = "runningApplicationsWithBundleIdentifier:" (identifier: Id) -> Id;
        + with_process = "runningApplicationWithProcessIdentifier:" (process: i32) -> Id;
        - process = "processIdentifier" () -> i32;
        - path = "bundleURL" () -> Id;
        - activate = "activateWithOptions:" (options: usize) -> Bool;
    }
}

/// An application that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its process.
    pub process: i32,
    /// Its bundle's folder.
    pub path: Option<String>,
}

/// The applications that run with this bundle id, this process among them if it is one.
pub fn running(identifier: &str) -> Vec<Application> {
    runtime::pooled(|| {
        // SAFETY: a live string; an array of live objects, each asked what it is only; strings are copied.
        unsafe {
            let found = NSRunningApplication::with_identifier(string(identifier));
            let described = |application: Id| Application {
                process: NSRunningApplication::process(application),
                path: foundation::text(NSURL::path(NSRunningApplication::path(application))),
            };
            foundation::objects(found).map(described).collect()
        }
    })
}

/// Brings the windows of an application to the front; false when it has gone or the system does not want to.
pub fn activate(process: i32) -> bool {
    // SAFETY: a number; an object of this pool or nil.
    runtime::pooled(|| unsafe { NSRunningApplication::activate(NSRunningApplication::with_process(process), 0).is() })
}

/// Opens a URL as if the person had: a page, a folder, a pane of System Settings. False when nothing takes it. The caller
/// has looked at what it is.
pub fn open(url: &str) -> bool {
    runtime::pooled(|| {
        // SAFETY: a live string; nil for what is no URL, which is not opened.
        unsafe {
            let url = NSURL::with_string(string(url));
            url != NIL && NSWorkspace::open(NSWorkspace::shared(), url).is()
        }
    })
}

#[cfg(all(test, not(any(target_os = "macos", feature = "gnustep"))))]
mod tests {
    #[test]
    fn without_the_library_nothing_runs_and_nothing_opens() {
        assert_eq!(super::running("ai.openclaw.mac"), []);
        assert!(!super::activate(1) && !super::open("https://example.invalid"));
    }
}
