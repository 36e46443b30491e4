//! Pictures and films of the screen, by ScreenCaptureKit (macOS 15). Our own windows are left out of every one.

use crate::block::Unanswered;
use crate::class::{self, Method};
use crate::completion;
use crate::core_graphics;
use crate::foundation::{self, NSDictionary, NSURL};
use crate::image::{self, Encoded, Format};
use crate::library::{Library, Missing};
use crate::runtime::{self, Bool, Id, Imp, NIL, Owned, Rect, Sel, Shared, allocate};
use std::ffi::c_void;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// `CMTime`, packed as in Apple's headers.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub(crate) struct CMTime {
    value: i64,
    timescale: i32,
    flags: u32,
    epoch: i64,
}

/// kCMTimeFlags_Valid
const VALID: u32 = 1;

objc_class! {
    SCShareableContent from ScreenCaptureKit {
        + get = "getShareableContentExcludingDesktopWindows:onScreenWindowsOnly:completionHandler:" (exclude_desktop: Bool, on_screen_only: Bool, handler: Id);
        - displays = "displays" () -> Id;
        - windows = "windows" () -> Id;
    }
}

objc_class! {
    SCDisplay from ScreenCaptureKit {
        - id = "displayID" () -> u32;
        - frame = "frame" () -> Rect;
    }
}

objc_class! {
    SCWindow from ScreenCaptureKit {
        - id = "windowID" () -> u32;
        - frame = "frame" () -> Rect;
        - application = "owningApplication" () -> Id;
    }
}

objc_class! {
    SCRunningApplication from ScreenCaptureKit {
        - process = "processID" () -> i32;
    }
}

objc_class! {
    SCContentFilter from ScreenCaptureKit {
        - init_display = "initWithDisplay:excludingWindows:" (display: Id, windows: Id) -> Id;
        - init_window = "initWithDesktopIndependentWindow:" (window: Id) -> Id;
        - scale = "pointPixelScale" () -> f32;
    }
}

objc_class! {
    SCStreamConfiguration from ScreenCaptureKit {
        - init = "init" () -> Id;
        - set_width = "setWidth:" (pixels: usize);
        - set_height = "setHeight:" (pixels: usize);
        - set_source = "setSourceRect:" (area: Rect);
        - set_interval = "setMinimumFrameInterval:" (interval: CMTime);
        - set_audio = "setCapturesAudio:" (on: Bool);
    }
}

objc_class! {
    SCScreenshotManager from ScreenCaptureKit {
        + capture = "captureImageWithFilter:configuration:completionHandler:" (filter: Id, configuration: Id, handler: Id);
    }
}

objc_class! {
    SCStream from ScreenCaptureKit {
        - init = "initWithFilter:configuration:delegate:" (filter: Id, configuration: Id, delegate: Id) -> Id;
        - add_recording = "addRecordingOutput:error:" (output: Id, error: *mut Id) -> Bool;
        - start = "startCaptureWithCompletionHandler:" (handler: Id);
        - stop = "stopCaptureWithCompletionHandler:" (handler: Id);
    }
}

objc_class! {
    SCRecordingOutputConfiguration from ScreenCaptureKit {
        - init = "init" () -> Id;
        - set_url = "setOutputURL:" (url: Id);
    }
}

objc_class! {
    SCRecordingOutput from ScreenCaptureKit {
        - init = "initWithConfiguration:delegate:" (configuration: Id, delegate: Id) -> Id;
    }
}

functions! {
    Console from CoreGraphics {
        fn CGSessionCopyCurrentDictionary() -> *const c_void;
    }
}

/// Who sits at this Mac's screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Our user, and it is not locked.
    Active,
    /// Our user, locked.
    Locked,
    /// Another user; ours is logged in behind.
    Away,
    /// Nobody, or this process has no part in it (over SSH).
    None,
}

/// Who sits at this Mac's screen now.
pub fn session() -> Session {
    runtime::pooled(|| {
        let Ok(console) = Console::get() else { return Session::None };
        // SAFETY: no arguments; what comes is a dictionary that is ours to release, with booleans or nothing by these keys.
        unsafe {
            let Some(known) = image::held((console.CGSessionCopyCurrentDictionary)()) else { return Session::None };
            let value = |key| foundation::number(NSDictionary::object_for(known.id(), foundation::string(key)));
            let is = |key| value(key).is_some_and(|value| value != 0.0);
            match (is("kCGSSessionOnConsoleKey"), is("CGSSessionScreenIsLocked")) {
                (false, _) => Session::Away,
                (true, true) => Session::Locked,
                (true, false) => Session::Active,
            }
        }
    })
}

/// SCStreamErrorUserDeclined
const DECLINED: isize = -3801;

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureError {
    /// This system cannot do it.
    Missing(Missing),
    /// No such screen or window.
    NotFound,
    /// The system did not answer in time.
    TimedOut,
    /// The owner has not allowed it.
    Declined,
    /// What the system said.
    Failed(String),
    /// Nobody wants it any more.
    Cancelled,
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::NotFound => f.write_str("there is no such screen or window"),
            Self::TimedOut => f.write_str("the screen was not captured in time"),
            Self::Declined => f.write_str("Screen Recording is not allowed"),
            Self::Failed(words) => f.write_str(words),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for CaptureError {}

impl From<Missing> for CaptureError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<Unanswered> for CaptureError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TimedOut => Self::TimedOut,
            Unanswered::Missing(missing) => Self::Missing(missing),
        }
    }
}

fn failed(words: String) -> CaptureError {
    if words.contains(&DECLINED.to_string()) { CaptureError::Declined } else { CaptureError::Failed(words) }
}

/// What is captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// A screen by its place among them, the main one first.
    Display(usize),
    /// A part of that screen, in its own points from its upper left corner.
    Part(usize, Rect),
    /// A window by its number, whole even where others cover it.
    Window(u32),
}

/// Whether this system has what [`capture`] takes (macOS 14).
pub fn can_capture() -> bool {
    !SCScreenshotManager::class().is_null()
}

/// Whether this system has what [`record`] takes (macOS 15).
pub fn can_record() -> bool {
    !SCRecordingOutput::class().is_null()
}

/// Captures `subject`; `scale_to` gives the size of the picture from that of the subject in pixels.
///
/// # Errors
/// See [`CaptureError`].
pub fn capture(
    subject: Subject,
    scale_to: impl FnOnce(f64, f64) -> (f64, f64),
    format: Format,
    deadline: Instant,
) -> Result<Encoded, CaptureError> {
    if !can_capture() {
        return Err(Missing { name: "SCScreenshotManager".to_owned() }.into());
    }
    runtime::pooled(|| {
        let filter = filter(subject, deadline)?;
        let configuration = configuration(&filter, scale_to)?;
        if let Subject::Part(_, area) = subject {
            // SAFETY: a live configuration.
            unsafe { SCStreamConfiguration::set_source(configuration.id(), area) };
        }
        // SAFETY: live filter and configuration; the block takes (CGImage?, NSError?), and a CGImage can be retained as
        // any object of Core Foundation.
        let answer = unsafe {
            completion::object(deadline, |handler| {
                SCScreenshotManager::capture(filter.filter.id(), configuration.id(), handler);
            })
        };
        let image = answer?.map_err(failed)?.ok_or_else(|| CaptureError::Failed("no picture came".to_owned()))?;
        // SAFETY: the retained image.
        let encoded = unsafe { image::encode(image.0.id(), format) }?;
        encoded.ok_or_else(|| CaptureError::Failed("the picture could not be encoded".to_owned()))
    })
}

/// What is to be captured, and its size in pixels.
struct Filter {
    filter: Owned,
    width: f64,
    height: f64,
}

/// Asks the system for what there is, and makes the filter of `subject`.
fn filter(subject: Subject, deadline: Instant) -> Result<Filter, CaptureError> {
    // SAFETY: the block takes (SCShareableContent?, NSError?); the content is for any thread.
    let content =
        unsafe { completion::object(deadline, |handler| SCShareableContent::get(false.into(), false.into(), handler)) };
    let content = content?.map_err(failed)?.ok_or(CaptureError::NotFound)?;
    // SAFETY: the retained content, its arrays and their members, all alive as long as it.
    unsafe {
        let content = content.0.id();
        let (made, size) = match subject {
            Subject::Display(place) | Subject::Part(place, _) => {
                // Its own order is not said to be that of the displays.
                let id = core_graphics::displays()?.get(place).map(|display| display.id);
                let display = foundation::objects(SCShareableContent::displays(content))
                    .find(|display| Some(SCDisplay::id(*display)) == id);
                let display = display.ok_or(CaptureError::NotFound)?;
                let own: Vec<Id> = foundation::objects(SCShareableContent::windows(content))
                    .filter(|window| is_own(*window))
                    .collect();
                let filter = allocate(SCContentFilter::class());
                let size =
                    if let Subject::Part(_, area) = subject { area.size } else { SCDisplay::frame(display).size };
                (SCContentFilter::init_display(filter, display, foundation::array(&own)), size)
            }
            Subject::Window(id) => {
                let window = foundation::objects(SCShareableContent::windows(content))
                    .find(|window| SCWindow::id(*window) == id && !is_own(*window));
                let window = window.ok_or(CaptureError::NotFound)?;
                let filter = allocate(SCContentFilter::class());
                (SCContentFilter::init_window(filter, window), SCWindow::frame(window).size)
            }
        };
        let filter = Owned::adopt(made).ok_or(CaptureError::NotFound)?;
        let scale = f64::from(SCContentFilter::scale(filter.id())).max(1.0);
        Ok(Filter { filter, width: size.width * scale, height: size.height * scale })
    }
}

/// # Safety
/// `window` is a live SCWindow.
unsafe fn is_own(window: Id) -> bool {
    // SAFETY: as the caller promises.
    let process = unsafe { SCRunningApplication::process(SCWindow::application(window)) };
    u32::try_from(process).is_ok_and(|process| process == std::process::id())
}

fn configuration(filter: &Filter, scale_to: impl FnOnce(f64, f64) -> (f64, f64)) -> Result<Owned, CaptureError> {
    // SAFETY: plain `init` makes it whole.
    let configuration = unsafe { Owned::adopt(SCStreamConfiguration::init(allocate(SCStreamConfiguration::class()))) };
    let configuration = configuration.ok_or_else(|| Missing { name: "SCStreamConfiguration".to_owned() })?;
    let (width, height) = scale_to(filter.width, filter.height);
    // SAFETY: a live configuration; at least one pixel each way.
    unsafe {
        SCStreamConfiguration::set_width(configuration.id(), width.max(1.0) as usize);
        SCStreamConfiguration::set_height(configuration.id(), height.max(1.0) as usize);
    }
    Ok(configuration)
}

/// Who waits for the end of the one recording: ours or the system's.
static RECORDED: Mutex<Option<SyncSender<Result<(), String>>>> = Mutex::new(None);

fn tell(result: Result<(), String>) {
    if let Some(waiter) = RECORDED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _left = waiter.try_send(result);
    }
}

extern "C-unwind" fn finished(_: Id, _: Sel, _: Id) {
    class::guarded((), || tell(Ok(())));
}

extern "C-unwind" fn did_fail(_: Id, _: Sel, _: Id, error: Id) {
    // SAFETY: an error that lives during the call.
    class::guarded((), || tell(Err(unsafe { foundation::error_text(error) })));
}

fn delegate() -> Result<Shared, Missing> {
    static DELEGATE: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        type Code = unsafe extern "C-unwind" fn(Id, Sel, Id, Id);
        // SAFETY: only ever called by the runtime with the type that stands in `types`, which is the code's own.
        let failing = || unsafe { std::mem::transmute::<Code, Imp>(did_fail) };
        let methods = [
            Method::action("recordingOutputDidFinishRecording:", finished),
            Method { selector: "recordingOutput:didFailWithError:", types: "v@:@@", code: failing() },
            Method { selector: "stream:didStopWithError:", types: "v@:@@", code: failing() },
        ];
        let class = class::define("OpenClawRecorder", &["SCRecordingOutputDelegate", "SCStreamDelegate"], &methods)?;
        // SAFETY: a class of ours without state.
        Ok(unsafe { class::immortal(class) })
    };
    DELEGATE.get_or_init(make).clone()
}

/// Films a screen into `file` (MP4, H.264) for `duration`, or until `cancelled` says so. One at a time.
///
/// # Errors
/// See [`CaptureError`]; the file may be there in part.
pub fn record(
    display: usize,
    duration: Duration,
    fps: u32,
    audio: bool,
    file: &Path,
    patience: Duration,
    cancelled: impl Fn(Duration) -> bool,
) -> Result<(), CaptureError> {
    static ONE: Mutex<()> = Mutex::new(());
    if !can_record() {
        return Err(Missing { name: "SCRecordingOutput".to_owned() }.into());
    }
    let Ok(_one) = ONE.try_lock() else { return Err(CaptureError::Failed("another recording runs".to_owned())) };
    Library::ScreenCaptureKit.load()?;
    runtime::pooled(|| {
        let filter = filter(Subject::Display(display), Instant::now() + patience)?;
        let configuration = configuration(&filter, |width, height| (width, height))?;
        let (sender, ended) = sync_channel(1);
        *RECORDED.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let delegate = delegate()?;
        // SAFETY: live objects throughout; the error is the pool's and looked at only after a NO.
        let stream = unsafe {
            let interval = CMTime { value: 1, timescale: fps.clamp(1, 60) as i32, flags: VALID, epoch: 0 };
            SCStreamConfiguration::set_interval(configuration.id(), interval);
            SCStreamConfiguration::set_audio(configuration.id(), audio.into());
            let how = runtime::new(SCRecordingOutputConfiguration::class());
            let how = how.ok_or_else(|| Missing { name: "SCRecordingOutputConfiguration".to_owned() })?;
            SCRecordingOutputConfiguration::set_url(how.id(), NSURL::file(foundation::string(&file.to_string_lossy())));
            let made = SCRecordingOutput::init(allocate(SCRecordingOutput::class()), how.id(), delegate.0);
            let output = Owned::adopt(made).ok_or(CaptureError::NotFound)?;
            let made = SCStream::init(allocate(SCStream::class()), filter.filter.id(), configuration.id(), delegate.0);
            let stream = Owned::adopt(made).ok_or(CaptureError::NotFound)?;
            let mut error = NIL;
            if !SCStream::add_recording(stream.id(), output.id(), &raw mut error).is() {
                return Err(failed(foundation::error_text(error)));
            }
            completion::end(Instant::now() + patience, |handler| SCStream::start(stream.id(), handler))?
                .map_err(failed)?;
            stream
        };
        let was_cancelled = film(duration, &ended, &cancelled)?;
        // SAFETY: the live stream. What stopping says does not matter: the file's end is what is waited for.
        let _stopped =
            unsafe { completion::end(Instant::now() + patience, |handler| SCStream::stop(stream.id(), handler)) };
        if was_cancelled {
            return Err(CaptureError::Cancelled);
        }
        match ended.recv_timeout(patience) {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(CaptureError::TimedOut),
        }
    })
}

/// Lets the time pass; true when it was cut short by the requester. `cancelled` sleeps for what it is given.
fn film(
    duration: Duration,
    ended: &std::sync::mpsc::Receiver<Result<(), String>>,
    cancelled: &impl Fn(Duration) -> bool,
) -> Result<bool, CaptureError> {
    const STEP: Duration = Duration::from_millis(50);
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if cancelled(left.min(STEP)) {
            return Ok(true);
        }
        match ended.recv_timeout(Duration::ZERO) {
            // The screen went to sleep or away, or the permission did.
            Ok(result) => return Err(failed(result.err().unwrap_or_else(|| "the recording ended early".to_owned()))),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    Ok(false)
}
