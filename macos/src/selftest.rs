//! What can be tried of this crate without anybody noticing: every library and name is looked up, and every kind of value
//! goes to the system and comes back. For `mac-debug selftest`, on the first Mac and on every later one.

use crate::appkit::application::{self, Events, NSApplication, NSEvent};
use crate::block::{self, Block, Unanswered};
use crate::class::{self, Method};
use crate::core_graphics::{Displays, Events as Posting};
use crate::foundation::{self, NSDate, NSNumber, NSProcessInfo, Version};
use crate::image::{self, Encoded, Format};
use crate::inventory;
use crate::library::{Library, Missing};
use crate::main_thread::MainThread;
use crate::permissions::{self, Media};
use crate::runtime::{self, Id, NIL, NSObject, Owned, Point, Range, Rect, Sel, Size};
use crate::{camera, location, screen, web};
use std::ffi::{CStr, c_void};
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

objc_class! {
    NSValue from Foundation {
        + with_point = "valueWithPoint:" (point: Point) -> Id;
        + with_size = "valueWithSize:" (size: Size) -> Id;
        + with_rect = "valueWithRect:" (rect: Rect) -> Id;
        + with_range = "valueWithRange:" (range: Range) -> Id;
        - point = "pointValue" () -> Point;
        - size = "sizeValue" () -> Size;
        - rect = "rectValue" () -> Rect;
        - range = "rangeValue" () -> Range;
    }
}

/// How one thing went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; what was seen.
    Good(String),
    /// Not as it should be: what was seen, and what to do.
    Bad(String, &'static str),
    /// Not to be tried here; why.
    Absent(String),
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it belongs to.
    pub group: &'static str,
    /// What it is.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
}

const REPORT: &str = "this build does not fit this system: report it with this table and `sw_vers`";

/// Tries everything. On the main thread more is tried than on another.
pub fn run() -> Vec<Check> {
    if !cfg!(target_os = "macos")
        && let Err(missing) = Library::Foundation.load()
    {
        let why = if cfg!(feature = "gnustep") {
            format!("{missing} (Debian: apt install libgnustep-gui0.29)")
        } else {
            "this program was built without the feature `gnustep`, which Linux needs for it".to_owned()
        };
        return vec![check("libraries", "Objective-C", Outcome::Absent(why))];
    }
    let mut checks = libraries();
    checks.extend(names());
    runtime::pooled(|| {
        checks.extend(values());
        checks.push(check("blocks", "a block of ours, called as the system calls it", block_round_trip()));
        checks.push(check("classes", "a class of ours, made now and sent a message", own_class()));
        checks.extend(screen());
        checks.extend(abilities());
    });
    checks
}

fn check(group: &'static str, name: &str, outcome: Outcome) -> Check {
    Check { group, name: name.to_owned(), outcome }
}

fn libraries() -> Vec<Check> {
    let look = |library: &Library| {
        let outcome = match library.load() {
            Ok(()) => Outcome::Good("opened".to_owned()),
            Err(missing) if cfg!(target_os = "macos") => Outcome::Bad(missing.to_string(), REPORT),
            Err(missing) => Outcome::Absent(missing.to_string()),
        };
        check("libraries", &format!("{library:?}"), outcome)
    };
    Library::ALL.iter().map(look).collect()
}

/// One line a library: how many of its names there are, and which are not.
fn names() -> Vec<Check> {
    let looked = inventory::look_up();
    let count = |library: &Library| {
        let of_it: Vec<_> = looked.iter().filter(|looked| looked.library == *library).collect();
        let missing: Vec<&str> = of_it.iter().filter(|looked| !looked.found).map(|looked| &*looked.name).collect();
        let outcome = match (of_it.len(), missing.len()) {
            (0, _) => return None,
            (all, 0) => Outcome::Good(format!("{all} names")),
            (all, some) if cfg!(target_os = "macos") => {
                Outcome::Bad(format!("{some} of {all} are missing: {}", missing.join(", ")), REPORT)
            }
            (all, some) if some == all => return None,
            (all, some) => Outcome::Absent(format!("{some} of {all} only a Mac has: {}", missing.join(", "))),
        };
        Some(check("names", &format!("{library:?}"), outcome))
    };
    Library::ALL.iter().filter_map(count).collect()
}

/// Whether a value comes back as it went.
fn same<T: PartialEq + Debug>(name: &str, sent: T, back: T) -> Check {
    let outcome = if sent == back {
        Outcome::Good(format!("{back:?}"))
    } else {
        Outcome::Bad(format!("{sent:?} came back as {back:?}"), REPORT)
    };
    check("values", name, outcome)
}

/// Each kind of value that this processor passes in a way of its own.
fn values() -> Vec<Check> {
    let (point, size) = (Point { x: 1.5, y: -2.25 }, Size { width: 3.0, height: 4.5 });
    let rect = Rect { origin: point, size };
    let range = Range { location: 7, length: usize::MAX / 4 };
    let words = "zero \0, ümläut, \u{1f99e}";
    // SAFETY: values of this pool, each asked for what was put in.
    let mut checks = unsafe {
        vec![
            same("text", Some(words.to_owned()), foundation::text(foundation::string(words))),
            same("f64", 1.0e-300, NSNumber::double_value(NSNumber::with_double(1.0e-300))),
            same("f32", 0.1_f32, NSNumber::float_value(NSNumber::with_float(0.1))),
            same("isize", isize::MIN, NSNumber::integer_value(NSNumber::with_integer(isize::MIN))),
            same("BOOL", (true, false), {
                let there_and_back = |value: bool| NSNumber::bool_value(NSNumber::with_bool(value.into())).is();
                (there_and_back(true), there_and_back(false))
            }),
            same("bytes", Some(vec![0, 255, 7]), foundation::bytes(foundation::data(&[0, 255, 7]))),
            same("NSPoint", point, NSValue::point(NSValue::with_point(point))),
            same("NSSize", size, NSValue::size(NSValue::with_size(size))),
            same("NSRect", rect, NSValue::rect(NSValue::with_rect(rect))),
            same("NSRange", range, NSValue::range(NSValue::with_range(range))),
            same(
                "nil",
                (NIL, 0, Rect::default()),
                (NSObject::description(NIL), foundation::NSArray::count(NIL), NSValue::rect(NIL)),
            ),
        ]
    };
    // SAFETY: an object that lives for ever; older compatible libraries do not have the message.
    let version = unsafe {
        let info = NSProcessInfo::info();
        runtime::responds(info, "operatingSystemVersion").then(|| NSProcessInfo::version(info))
    };
    checks.push(check(
        "values",
        "a structure of 24 bytes: the system's version",
        match version {
            Some(Version { major, minor, patch }) if (1..1000).contains(&major) && (0..1000).contains(&minor) => {
                Outcome::Good(format!("{major}.{minor}.{patch}"))
            }
            Some(version) => Outcome::Bad(format!("{version:?}"), REPORT),
            None => Outcome::Absent("the compatible library does not tell".to_owned()),
        },
    ));
    checks
}

const NUMBER_BLOCK: &CStr = c"v16@?0Q8";

fn block_round_trip() -> Outcome {
    const NUMBER: usize = 0x1234_5678_9abc_def0;
    let code = took_number as unsafe extern "C-unwind" fn(*const Block, usize) as *const c_void;
    let deadline = Instant::now() + Duration::from_secs(1);
    // SAFETY: the code takes what the block is called with, here and now.
    let back = unsafe {
        block::wait::<usize>(code, NUMBER_BLOCK, deadline, |block| block::call_with(block.cast_const().cast(), NUMBER))
    };
    match back {
        Ok(NUMBER) => Outcome::Good("called, and answered once".to_owned()),
        Ok(other) => Outcome::Bad(format!("{other:#x} came back"), REPORT),
        Err(Unanswered::TimedOut) => Outcome::Bad("it was not called".to_owned(), REPORT),
        Err(Unanswered::Missing(missing)) => Outcome::Absent(missing.to_string()),
    }
}

unsafe extern "C-unwind" fn took_number(block: *const Block, number: usize) {
    // SAFETY: our block.
    unsafe { block::answer(block, number) };
}

static SENT: AtomicUsize = AtomicUsize::new(0);

fn own_class() -> Outcome {
    let class = match class::define("OpenClawSelfTest", &[], &[Method::action("selfTest:", was_sent)]) {
        Ok(class) => class,
        Err(missing) => return Outcome::Bad(missing.to_string(), REPORT),
    };
    let before = SENT.load(Ordering::SeqCst);
    // SAFETY: a class of ours without state, whose object has this method, which takes an object.
    unsafe {
        if let Some(object) = runtime::new(class.0) {
            NSObject::perform(object.id(), runtime::selector("selfTest:"), NIL);
        }
    }
    if SENT.load(Ordering::SeqCst) == before + 1 {
        Outcome::Good("called once".to_owned())
    } else {
        Outcome::Bad("its method was not called".to_owned(), REPORT)
    }
}

unsafe extern "C-unwind" fn was_sent(_: Id, _: Sel, _: Id) {
    SENT.fetch_add(1, Ordering::SeqCst);
}

/// What needs a screen and the main thread.
fn screen() -> Vec<Check> {
    const NAMES: [&str; 2] = ["the main display's bounds", "a posted event tells who posted it (H04)"];
    let absent = |why: String| NAMES.map(|name| check("screen", name, Outcome::Absent(why.clone()))).to_vec();
    if !cfg!(target_os = "macos") {
        return absent("only a Mac has these".to_owned());
    }
    let Some(main) = MainThread::here() else { return absent("not on the main thread".to_owned()) };
    if let Err(why) = application::check() {
        return absent(why.to_string());
    }
    let [display, posted] = NAMES;
    match (Displays::get(), Posting::get(), Events::get()) {
        (Ok(displays), Ok(posting), Ok(events)) => vec![
            check("screen", display, bounds(displays)),
            check("screen", posted, posted_event(main, posting, events)),
        ],
        (Err(missing), ..) | (_, Err(missing), _) | (.., Err(missing)) => absent(missing.to_string()),
    }
}

fn bounds(functions: &Displays) -> Outcome {
    // SAFETY: numbers only.
    let Rect { size, .. } = unsafe { (functions.CGDisplayBounds)((functions.CGMainDisplayID)()) };
    let seen = format!("{} x {} points", size.width, size.height);
    if (1.0..100_000.0).contains(&size.width) && (1.0..100_000.0).contains(&size.height) {
        Outcome::Good(seen)
    } else {
        Outcome::Bad(seen, REPORT)
    }
}

/// A key that no keyboard has a use for, let go; posted to this process only.
fn posted_event(_: MainThread, functions: &Posting, events: &Events) -> Outcome {
    /// `NSEventTypeKeyUp`
    const KEY_UP: usize = 11;
    /// `NSEventMaskKeyUp`
    const KEY_UP_MASK: u64 = 1 << 11;
    /// `kCGEventSourceUnixProcessID`
    const SOURCE: u32 = 41;
    /// F20's code.
    const KEY: u16 = 0x5a;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mode = match foundation::NSDefaultRunLoopMode() {
        Ok(mode) => mode,
        Err(Missing { name }) => return Outcome::Absent(name),
    };
    // SAFETY: on the main thread, with a screen; the application shows nothing and takes no focus.
    unsafe {
        let application = NSApplication::shared();
        NSApplication::finish_launching(application);
        let made = Owned::adopt((functions.CGEventCreateKeyboardEvent)(NIL, KEY, false));
        let Some(made) = made else { return Outcome::Bad("no event was made".to_owned(), REPORT) };
        (functions.CGEventPostToPid)(own, made.id());
        let until = NSDate::soon(1.0);
        let event = NSApplication::next_event(application, KEY_UP_MASK, until, mode, true.into());
        if event.is_null() || NSEvent::kind(event) != KEY_UP {
            return Outcome::Absent("the posted event did not come back within a second".to_owned());
        }
        let source = NSEvent::cg_event(event);
        if source.is_null() {
            return Outcome::Bad("it has no Core Graphics event".to_owned(), REPORT);
        }
        let source = (events.CGEventGetIntegerValueField)(source, SOURCE);
        let seen = format!("source process {source}, ours is {own}");
        if source == i64::from(own) {
            Outcome::Good(seen)
        } else {
            Outcome::Bad(
                seen,
                "presses by programs cannot be told from a person's here: set no `full` security, and report it",
            )
        }
    }
}

/// A PNG of one pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\
    \x0cIDATx\xdac\xf8\xcf\xc0\0\0\x03\x01\x01\0\xf7\x03AC\0\0\0\0IEND\xaeB`\x82";

/// What agents come for: whether the system has it, and what it says of it unasked. Opens no camera, records nothing.
fn abilities() -> Vec<Check> {
    let there = |yes: bool, since: &'static str| {
        if yes { Outcome::Good("there".to_owned()) } else { Outcome::Absent(since.to_owned()) }
    };
    let said = |answer: Result<String, Missing>| match answer {
        Ok(words) => Outcome::Good(words),
        Err(missing) => Outcome::Absent(missing.to_string()),
    };
    let grant = |name, grant: Result<permissions::Grant, Missing>| {
        check("status without a question", name, said(grant.map(|grant| format!("{grant:?}, of this process"))))
    };
    let main = MainThread::here().ok_or_else(|| Missing { name: "main thread".to_owned() });
    let encoded = match image::shrink(PIXEL, 1, Format::Jpeg(0.5)) {
        Ok(Some(Encoded { bytes, width: 1, height: 1 })) if bytes.starts_with(&[0xff, 0xd8]) => {
            Outcome::Good(format!("one pixel, {} bytes", bytes.len()))
        }
        Ok(_) => Outcome::Bad("one pixel was not encoded".to_owned(), REPORT),
        Err(missing) => Outcome::Absent(missing.to_string()),
    };
    vec![
        grant("accessibility", permissions::accessibility()),
        grant("screen recording", permissions::screen_recording()),
        grant("event posting", permissions::event_posting()),
        grant("camera", permissions::media(Media::Video)),
        grant("microphone", permissions::media(Media::Audio)),
        grant("speech recognition", permissions::speech()),
        check("abilities", "pictures of the screen", there(screen::can_capture(), "macOS 14 has them")),
        check("abilities", "films of the screen", there(screen::can_record(), "macOS 15 has them")),
        check("abilities", "the canvas", there(web::is_here(), "there is no WebKit")),
        check("abilities", "cameras", said(camera::cameras().map(|cameras| format!("{} listed", cameras.len())))),
        check("abilities", "location", said(main.and_then(location::status).map(|status| format!("status {status}")))),
        check("abilities", "a picture as JPEG", encoded),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fails_on_a_system_that_has_the_libraries_and_nothing_is_tried_without() {
        let checks = run();
        let bad: Vec<_> = checks.iter().filter(|check| matches!(check.outcome, Outcome::Bad(..))).collect();
        assert_eq!(bad, Vec::<&Check>::new());
        let groups = |name| checks.iter().filter(|check| check.group == name).count();
        if cfg!(any(target_os = "macos", feature = "gnustep")) {
            assert_eq!(groups("libraries"), Library::ALL.len());
            assert!(groups("values") == 12 && groups("names") >= 3 && groups("classes") == 1, "{checks:?}");
        } else {
            assert!(checks.len() == 1 && matches!(checks[0].outcome, Outcome::Absent(_)), "{checks:?}");
        }
    }
}
