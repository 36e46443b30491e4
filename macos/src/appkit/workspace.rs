//! Opening what the system has a program for. Any thread may.

use crate::foundation::{NSURL, string};
use crate::library::Missing;
use crate::runtime::{self, Bool, Id};

objc_class! {
    NSWorkspace from AppKit {
        + shared = "sharedWorkspace" () -> Id;
        - notification_center = "notificationCenter" () -> Id;
        - open = "openURL:" (url: Id) -> Bool;
    }
}

/// Has the system open a URL, or the file at a path: a pane of System Settings, a log.
///
/// # Errors
/// There is nothing to open it with.
pub fn open(target: &str) -> Result<(), Missing> {
    let missing = || Missing { name: format!("program that opens {target}") };
    // What stands for the workspace elsewhere starts programs of its own.
    if !cfg!(target_os = "macos") {
        return Err(missing());
    }
    runtime::pooled(|| {
        // SAFETY: a string and a URL in the pool; nil is opened by nothing.
        let opened = unsafe {
            let text = string(target);
            let url = if target.starts_with('/') { NSURL::file(text) } else { NSURL::with_string(text) };
            !url.is_null() && NSWorkspace::open(NSWorkspace::shared(), url).is()
        };
        opened.then_some(()).ok_or_else(missing)
    })
}
