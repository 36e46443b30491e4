//! The application object and its event loop.

use crate::class::{self, Method, guarded};
use crate::foundation::{NSURL, objects, text};
use crate::library::{Library, Missing};
use crate::main_thread::MainThread;
use crate::runtime::{self, Bool, Id, Point, Sel};
use crate::screen;
use std::cell::{Cell, RefCell};
use std::fmt;

objc_class! {
    NSApplication from AppKit {
        + shared = "sharedApplication" () -> Id;
        - set_activation_policy = "setActivationPolicy:" (policy: isize) -> Bool;
        - set_delegate = "setDelegate:" (delegate: Id);
        - key_window = "keyWindow" () -> Id;
        - set_main_menu = "setMainMenu:" (menu: Id);
        - run = "run" ();
        - finish_launching = "finishLaunching" ();
        - next_event = "nextEventMatchingMask:untilDate:inMode:dequeue:" (mask: u64, until: Id, mode: Id, take: Bool) -> Id;
        - activate = "activateIgnoringOtherApps:" (even_over_others: Bool);
        - current_event = "currentEvent" () -> Id;
        - post_event = "postEvent:atStart:" (event: Id, at_start: Bool);
        - icon = "applicationIconImage" () -> Id;
    }
}

objc_class! {
    NSEvent from AppKit {
        + mouse = "mouseEventWithType:location:modifierFlags:timestamp:windowNumber:context:eventNumber:clickCount:pressure:" (kind: usize, location: Point, flags: usize, timestamp: f64, window: isize, context: Id, number: isize, clicks: isize, pressure: f32) -> Id;
        + mouse_location = "mouseLocation" () -> Point;
        - kind = "type" () -> usize;
        - window_number = "windowNumber" () -> isize;
        - timestamp = "timestamp" () -> f64;
        - location = "locationInWindow" () -> Point;
        - key_code = "keyCode" () -> u16;
        - cg_event = "CGEvent" () -> Id;
    }
}

functions! {
    /// Who made an event.
    Events from CoreGraphics {
        fn CGEventGetIntegerValueField(event: Id, field: u32) -> i64;
    }
}

/// `NSApplicationActivationPolicyAccessory`
const ACCESSORY: isize = 1;
/// `NSTerminateLater`
const TERMINATE_LATER: usize = 2;
/// `NSEventTypeLeftMouseUp`
const LEFT_MOUSE_UP: usize = 2;
/// `NSEventTypeKeyDown`
const KEY_DOWN: usize = 10;
/// `kVK_Space`
const SPACE: u16 = 49;
/// `kCGEventSourceUnixProcessID`
const SOURCE_PROCESS: u32 = 41;

/// Why there can be no panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoScreen {
    /// AppKit, or what stands for it, is not on this system.
    Library(Missing),
    /// Nobody is logged in on a screen here.
    Session(String),
}

impl fmt::Display for NoScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(missing) if cfg!(target_os = "macos") => missing.fmt(f),
            Self::Library(missing) if cfg!(feature = "gnustep") => {
                write!(f, "{missing} (Debian: apt install libgnustep-gui0.29 gnustep-back0.29-cairo)")
            }
            Self::Library(_) => {
                f.write_str("this program was built without the feature `gnustep`, which Linux needs for it")
            }
            Self::Session(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoScreen {}

/// Whether an application with a window can run here.
///
/// # Errors
/// See [`NoScreen`]. Without a screen AppKit would end the process, so this is asked first.
pub fn check() -> Result<(), NoScreen> {
    if NSApplication::class().is_null() {
        Library::AppKit.load().map_err(NoScreen::Library)?;
        return Err(NoScreen::Library(Missing { name: "NSApplication".to_owned() }));
    }
    session().map_err(|why| NoScreen::Session(why.to_owned()))
}

fn session() -> Result<(), &'static str> {
    if cfg!(target_os = "macos") {
        let none = "this process is not in the session of a logged-in user, so it has no screen";
        return if screen::session() == screen::Session::None { Err(none) } else { Ok(()) };
    }
    let display = std::env::var("DISPLAY").unwrap_or_default();
    if display.is_empty() {
        return Err("DISPLAY is not set, so there is no screen");
    }
    // A display of this machine is a socket; one of another machine can only be tried.
    let Some(local) = display.strip_prefix(':').or_else(|| display.strip_prefix("unix:")) else { return Ok(()) };
    let socket = format!("/tmp/.X11-unix/X{}", local.split('.').next().unwrap_or_default());
    std::os::unix::net::UnixStream::connect(socket).map(drop).map_err(|_| "no X server answers at DISPLAY")
}

/// What the application calls.
pub struct Hooks {
    /// Once, when the loop runs.
    pub launched: Box<dyn FnOnce(MainThread)>,
    /// Whenever somebody wants it to end: the system at logout, `terminate:`. It ends by [`leave`].
    pub quit: Box<dyn Fn()>,
    /// For each link of ours that somebody opened.
    pub opened: Box<dyn Fn(String)>,
}

thread_local! {
    static HOOKS: RefCell<Option<Hooks>> = const { RefCell::new(None) };
    static LAUNCHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs the application's loop on this thread. It ends by [`leave`] only.
///
/// # Errors
/// It cannot run here.
pub fn run(_: MainThread, hooks: Hooks) -> Result<(), NoScreen> {
    check()?;
    let methods = [
        Method::action("applicationDidFinishLaunching:", launched),
        Method::number("applicationShouldTerminate:", should_terminate),
        Method::pair("application:openURLs:", open_urls),
        Method::question("applicationSupportsSecureRestorableState:", yes),
    ];
    let class =
        class::define("OpenClawApplication", &["NSApplicationDelegate"], &methods).map_err(NoScreen::Library)?;
    HOOKS.set(Some(hooks));
    runtime::pooled(|| {
        // SAFETY: on the main thread, with a screen; the delegate lives for ever.
        unsafe {
            let application = NSApplication::shared();
            if runtime::responds(application, "setActivationPolicy:") {
                NSApplication::set_activation_policy(application, ACCESSORY);
            }
            NSApplication::set_delegate(application, class::immortal(class).0);
            NSApplication::run(application);
        }
    });
    Err(NoScreen::Session("the event loop has ended by itself".to_owned()))
}

/// Ends the process at once, from any thread, after everything has been put away. Not by `terminate:`, which a held
/// button can delay and which has nothing of ours to do.
pub fn leave(code: i32) -> ! {
    // SAFETY: never returns; nothing of ours is left to be written.
    unsafe { libc::_exit(code) }
}

extern "C-unwind" fn launched(_: Id, _: Sel, _: Id) {
    guarded((), || {
        let Some(main) = MainThread::here() else { return };
        if !LAUNCHED.replace(true) {
            // Taken out whole and put back without it: the hook may call what looks here.
            if let Some(Hooks { launched, quit, opened }) = HOOKS.take() {
                HOOKS.set(Some(Hooks { launched: Box::new(|_| ()), quit, opened }));
                launched(main);
            }
        }
    });
}

extern "C-unwind" fn should_terminate(_: Id, _: Sel, _: Id) -> usize {
    guarded((), || {
        HOOKS.with(|slot| {
            if let Ok(hooks) = slot.try_borrow()
                && let Some(hooks) = &*hooks
            {
                (hooks.quit)()
            }
        })
    });
    TERMINATE_LATER
}

extern "C-unwind" fn open_urls(_: Id, _: Sel, _: Id, urls: Id) {
    guarded((), || {
        // SAFETY: an array of URLs, alive during the call.
        let links: Vec<String> = unsafe { objects(urls).filter_map(|url| text(NSURL::absolute_string(url))).collect() };
        HOOKS.with(|slot| {
            if let Ok(hooks) = slot.try_borrow()
                && let Some(hooks) = &*hooks
            {
                links.into_iter().for_each(&hooks.opened);
            }
        });
    });
}

extern "C-unwind" fn yes(_: Id, _: Sel, _: Id) -> Bool {
    true.into()
}

/// What kind of input an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A button of the mouse was let go.
    Click,
    /// The space bar was pressed, which presses the button that has the keyboard.
    Space,
    /// Neither. No other key presses a button that can be guarded.
    Other,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// What it was.
    pub kind: Kind,
    /// The number of the window that it went to.
    pub window: isize,
    /// Seconds on the clock of [`uptime`].
    pub at: f64,
    /// Where in the window, points from its lower left corner.
    pub location: Point,
    /// The process that made it, 0 for hardware; none where the system does not say.
    pub source: Option<i64>,
}

/// The event that is being worked on. An action that accessibility started has none, or an old one.
pub(crate) fn current_input() -> Option<Input> {
    // SAFETY: on the main thread; the event is alive while it is worked on. The Core Graphics event is its own.
    unsafe {
        let event = NSApplication::current_event(NSApplication::shared());
        if event.is_null() {
            return None;
        }
        let kind = match NSEvent::kind(event) {
            LEFT_MOUSE_UP => Kind::Click,
            KEY_DOWN if NSEvent::key_code(event) == SPACE => Kind::Space,
            _ => Kind::Other,
        };
        let source = Events::get().ok().and_then(|functions| {
            let event = NSEvent::cg_event(event);
            (!event.is_null()).then(|| (functions.CGEventGetIntegerValueField)(event, SOURCE_PROCESS))
        });
        // `locationInWindow` is of mouse events only.
        let location = if kind == Kind::Click { NSEvent::location(event) } else { Point::default() };
        let at = on_our_clock(NSEvent::timestamp(event));
        Some(Input { kind, window: NSEvent::window_number(event), at, location, source })
    }
}

/// An X server counts milliseconds in 32 bits, which are over after 50 days.
fn on_our_clock(stamp: f64) -> f64 {
    const ROUND: f64 = 4_294_967.296;
    if cfg!(target_os = "macos") { stamp } else { stamp + ((uptime() - stamp) / ROUND).round() * ROUND }
}

/// Ends the following of a held button of this window, as if it had been let go far outside.
pub(crate) fn let_go(window: isize) {
    runtime::pooled(|| {
        let outside = Point { x: -10_000.0, y: -10_000.0 };
        // SAFETY: on the main thread; an event in the pool, which the queue keeps.
        unsafe {
            let event = NSEvent::mouse(LEFT_MOUSE_UP, outside, 0, 0.0, window, runtime::NIL, 0, 1, 0.0);
            NSApplication::post_event(NSApplication::shared(), event, true.into());
        }
    });
}

/// Seconds since the machine was started, on the clock of [`Input::at`].
pub fn uptime() -> f64 {
    #[cfg(target_os = "macos")]
    const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
    #[cfg(not(target_os = "macos"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock that every system has, and a live place for the answer.
    unsafe { libc::clock_gettime(CLOCK, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Brings the application to the front, so that keys reach its windows.
pub(crate) fn activate() {
    // SAFETY: on the main thread, by the callers' tokens.
    unsafe { NSApplication::activate(NSApplication::shared(), true.into()) }
}

/// The picture of the application; none when there is none.
pub(crate) fn icon() -> Id {
    // SAFETY: as above; the application keeps it.
    unsafe { NSApplication::icon(NSApplication::shared()) }
}
