//! NSWorkspace and NSPasteboard: running programs, starting them, the clipboard (mac-app §8.7). For any thread. Lists and
//! states are as fresh as the main thread's event loop, which a process without one never sees change.

use crate::appkit::application::NSApplication;
use crate::block::Unanswered;
use crate::completion;
use crate::foundation::{self, NSURL};
use crate::library::{Library, Missing};
use crate::main_thread::{When, on_main};
use crate::runtime::{self, Bool, Id, Shared};
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

objc_class! {
    NSWorkspace from AppKit {
        + shared = "sharedWorkspace" () -> Id;
        - running = "runningApplications" () -> Id;
        - frontmost = "frontmostApplication" () -> Id;
        - url_of = "URLForApplicationWithBundleIdentifier:" (bundle_id: Id) -> Id;
        - open = "openURL:" (url: Id) -> Bool;
        - open_application = "openApplicationAtURL:configuration:completionHandler:" (url: Id, configuration: Id, handler: Id);
        - notification_center = "notificationCenter" () -> Id;
    }
}

objc_class! {
    NSWorkspaceOpenConfiguration from AppKit {
        + configuration = "configuration" () -> Id;
    }
}

objc_class! {
    NSRunningApplication from AppKit {
        + with_process = "runningApplicationWithProcessIdentifier:" (process: i32) -> Id;
        + with_bundle_id = "runningApplicationsWithBundleIdentifier:" (bundle_id: Id) -> Id;
        - process = "processIdentifier" () -> i32;
        - name = "localizedName" () -> Id;
        - bundle_id = "bundleIdentifier" () -> Id;
        - bundle_url = "bundleURL" () -> Id;
        - is_active = "isActive" () -> Bool;
        - is_hidden = "isHidden" () -> Bool;
        - is_terminated = "isTerminated" () -> Bool;
        - policy = "activationPolicy" () -> isize;
        - activate = "activateWithOptions:" (options: usize) -> Bool;
        - hide = "hide" () -> Bool;
        - unhide = "unhide" () -> Bool;
        - terminate = "terminate" () -> Bool;
        - force_terminate = "forceTerminate" () -> Bool;
    }
}

objc_class! {
    NSPasteboard from AppKit {
        + general = "generalPasteboard" () -> Id;
        - clear = "clearContents" () -> isize;
        - set_string = "setString:forType:" (text: Id, kind: Id) -> Bool;
        - string = "stringForType:" (kind: Id) -> Id;
    }
}

variables! { AppKit {
    NSApp: Id;
    NSPasteboardTypeString: Id;
} }

/// `NSApplicationActivateAllWindows`
const ALL_WINDOWS: usize = 1;

/// How a program takes part in the desktop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `NSApplicationActivationPolicyRegular`
    Regular,
    /// `NSApplicationActivationPolicyAccessory`
    Accessory,
    /// `NSApplicationActivationPolicyProhibited`, and what else there may be.
    #[default]
    Prohibited,
}

/// A running program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Process.
    pub pid: i32,
    /// As it is shown.
    pub name: String,
    /// Bundle id.
    pub bundle_id: Option<String>,
    /// Its bundle's folder.
    pub path: Option<String>,
    /// In front.
    pub active: bool,
    /// Its windows are hidden.
    pub hidden: bool,
    /// See [`Policy`].
    pub policy: Policy,
}

/// What is done to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// To the front.
    Activate,
    /// Hides its windows.
    Hide,
    /// Shows them again.
    Unhide,
    /// Asks it to end.
    Terminate,
    /// Ends it.
    ForceTerminate,
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// This system cannot, or nothing came in time.
    Unanswered(Unanswered),
    /// There is none of that bundle id.
    NotFound,
    /// What the system said.
    Failed(String),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(unanswered) => unanswered.fmt(f),
            Self::NotFound => f.write_str("there is no such application"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<Unanswered> for LaunchError {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered)
    }
}

/// Whether this system has running programs.
pub fn is_here() -> bool {
    !NSWorkspace::class().is_null()
}

/// # Safety
/// `application` is nil or a live NSRunningApplication.
unsafe fn describe(application: Id) -> Option<Running> {
    // SAFETY: as the caller promises.
    unsafe {
        let pid = NSRunningApplication::process(application);
        if pid <= 0 || NSRunningApplication::is_terminated(application).is() {
            return None;
        }
        Some(Running {
            pid,
            name: foundation::text(NSRunningApplication::name(application)).unwrap_or_default(),
            bundle_id: foundation::text(NSRunningApplication::bundle_id(application)),
            path: foundation::text(NSURL::path(NSRunningApplication::bundle_url(application))),
            active: NSRunningApplication::is_active(application).is(),
            hidden: NSRunningApplication::is_hidden(application).is(),
            policy: match NSRunningApplication::policy(application) {
                0 => Policy::Regular,
                1 => Policy::Accessory,
                _ => Policy::Prohibited,
            },
        })
    }
}

/// The programs that run.
pub fn running() -> Vec<Running> {
    // SAFETY: the array is the pool's, its members live as long as it.
    runtime::pooled(|| unsafe {
        let list = NSWorkspace::running(NSWorkspace::shared());
        foundation::objects(list).filter_map(|application| describe(application)).collect()
    })
}

/// The program of this process; none when there is no such process, or it is none that the desktop knows.
pub fn of_process(pid: i32) -> Option<Running> {
    // SAFETY: the pool's object.
    runtime::pooled(|| unsafe { describe(NSRunningApplication::with_process(pid)) })
}

/// The processes of the program with this bundle id.
pub fn of_bundle_id(bundle_id: &str) -> Vec<i32> {
    // SAFETY: the array is the pool's, its members live as long as it.
    runtime::pooled(|| unsafe {
        let list = NSRunningApplication::with_bundle_id(foundation::string(bundle_id));
        foundation::objects(list).map(|application| NSRunningApplication::process(application)).collect()
    })
}

/// The process of the program in front.
pub fn frontmost() -> Option<i32> {
    // SAFETY: the pool's object.
    let pid =
        runtime::pooled(|| unsafe { NSRunningApplication::process(NSWorkspace::frontmost(NSWorkspace::shared())) });
    (pid > 0).then_some(pid)
}

/// Changes a program. Whether the system took the order; none when there is no such program.
pub fn change(pid: i32, change: Change) -> Option<bool> {
    // SAFETY: the pool's object.
    runtime::pooled(|| unsafe {
        let application = NSRunningApplication::with_process(pid);
        if application.is_null() {
            return None;
        }
        let taken = match change {
            Change::Activate => NSRunningApplication::activate(application, ALL_WINDOWS),
            Change::Hide => NSRunningApplication::hide(application),
            Change::Unhide => NSRunningApplication::unhide(application),
            Change::Terminate => NSRunningApplication::terminate(application),
            Change::ForceTerminate => NSRunningApplication::force_terminate(application),
        };
        Some(taken.is())
    })
}

/// Where the program with this bundle id is installed.
pub fn path_of(bundle_id: &str) -> Option<String> {
    // SAFETY: a live string; what comes is the pool's.
    runtime::pooled(|| unsafe {
        let url = NSWorkspace::url_of(NSWorkspace::shared(), foundation::string(bundle_id));
        foundation::text(NSURL::path(url))
    })
}

/// Starts the program whose bundle lies at `path`, or brings forward the one that runs.
///
/// # Errors
/// See [`LaunchError`].
pub fn launch(path: &str, deadline: Instant) -> Result<Running, LaunchError> {
    runtime::pooled(|| {
        // SAFETY: live objects; the block takes (NSRunningApplication?, NSError?), and those are for any thread.
        let answer = unsafe {
            let (url, how) = (NSURL::file(foundation::string(path)), NSWorkspaceOpenConfiguration::configuration());
            completion::object(deadline, |handler| {
                NSWorkspace::open_application(NSWorkspace::shared(), url, how, handler)
            })
        };
        let started = answer?.map_err(LaunchError::Failed)?.ok_or(LaunchError::NotFound)?;
        // SAFETY: the retained object.
        unsafe { describe(started.0.id()) }.ok_or_else(|| LaunchError::Failed("it ended at once".to_owned()))
    })
}

/// Whether a window of this process has the keyboard, which one may have without its program being in front. Not for the
/// main thread, which answers.
///
/// # Errors
/// The main thread did not answer in time.
pub fn own_window_has_keys(patience: Duration) -> Result<bool, Unanswered> {
    let Some(application) = NSApp().ok().filter(|application| !application.is_null()) else { return Ok(false) };
    let (sender, answer) = sync_channel(1);
    let application = Shared(application);
    let ask = move |_| {
        let application = application;
        // SAFETY: on the main thread; the application lives as long as the process.
        let _left = sender.try_send(!unsafe { NSApplication::key_window(application.0) }.is_null());
    };
    on_main(When::Now, ask).map_err(Unanswered::Missing)?;
    answer.recv_timeout(patience).map_err(|_| Unanswered::TimedOut)
}

/// The clipboard's text; none when it has none.
///
/// # Errors
/// There is no clipboard.
pub fn clipboard() -> Result<Option<String>, Missing> {
    let kind = NSPasteboardTypeString()?;
    // SAFETY: an exported constant; what comes is the pool's.
    Ok(runtime::pooled(|| unsafe { foundation::text(NSPasteboard::string(NSPasteboard::general(), kind)) }))
}

/// Puts a text on the clipboard in place of everything there. Whether it was taken.
///
/// # Errors
/// There is no clipboard.
pub fn set_clipboard(text: &str) -> Result<bool, Missing> {
    Library::AppKit.load()?;
    let kind = NSPasteboardTypeString()?;
    // SAFETY: an exported constant and a live string.
    Ok(runtime::pooled(|| unsafe {
        NSPasteboard::clear(NSPasteboard::general());
        NSPasteboard::set_string(NSPasteboard::general(), foundation::string(text), kind).is()
    }))
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
            let text = foundation::string(target);
            let url = if target.starts_with('/') { NSURL::file(text) } else { NSURL::with_string(text) };
            !url.is_null() && NSWorkspace::open(NSWorkspace::shared(), url).is()
        };
        opened.then_some(()).ok_or_else(missing)
    })
}
