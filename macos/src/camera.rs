//! Cameras, by AVFoundation.

use crate::class::{self, Method};
use crate::foundation;
use crate::library::{Library, Missing};
use crate::runtime::{self, Bool, Id, Imp, NIL, NSObject, Owned, Sel, Shared, allocate};
use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

objc_class! {
    AVCaptureDeviceDiscoverySession from AVFoundation {
        + discover = "discoverySessionWithDeviceTypes:mediaType:position:" (kinds: Id, media: Id, position: isize) -> Id;
        - devices = "devices" () -> Id;
    }
}

objc_class! {
    AVCaptureDevice from AVFoundation {
        + authorization = "authorizationStatusForMediaType:" (media: Id) -> isize;
        + request_access = "requestAccessForMediaType:completionHandler:" (media: Id, handler: Id);
        - unique_id = "uniqueID" () -> Id;
        - name = "localizedName" () -> Id;
        - kind = "deviceType" () -> Id;
        - position = "position" () -> isize;
        - adjusting_exposure = "isAdjustingExposure" () -> Bool;
        - adjusting_white_balance = "isAdjustingWhiteBalance" () -> Bool;
    }
}

objc_class! {
    AVCaptureDeviceInput from AVFoundation {
        + with_device = "deviceInputWithDevice:error:" (device: Id, error: *mut Id) -> Id;
    }
}

objc_class! {
    AVCaptureSession from AVFoundation {
        - can_add_input = "canAddInput:" (input: Id) -> Bool;
        - add_input = "addInput:" (input: Id);
        - can_add_output = "canAddOutput:" (output: Id) -> Bool;
        - add_output = "addOutput:" (output: Id);
        - start = "startRunning" ();
        - stop = "stopRunning" ();
        - is_running = "isRunning" () -> Bool;
    }
}

objc_class! {
    AVCapturePhotoOutput from AVFoundation {
        - capture = "capturePhotoWithSettings:delegate:" (settings: Id, delegate: Id);
    }
}

objc_class! {
    AVCapturePhotoSettings from AVFoundation {
        + settings = "photoSettings" () -> Id;
    }
}

objc_class! {
    AVCapturePhoto from AVFoundation {
        - file = "fileDataRepresentation" () -> Id;
    }
}

variables! { AVFoundation {
    AVMediaTypeVideo: Id;
    AVMediaTypeAudio: Id;
    AVCaptureDeviceTypeBuiltInWideAngleCamera: Id;
    AVCaptureDeviceTypeExternal: Id;
    AVCaptureDeviceTypeContinuityCamera: Id;
} }

/// AVCaptureDevicePositionUnspecified
const ANY_POSITION: isize = 0;
/// AVCaptureDevicePositionBack
const BACK: isize = 1;
/// AVCaptureDevicePositionFront
const FRONT: isize = 2;

/// After the start, before the camera is asked whether it still adapts. Source: mac-app (8.7).
const WARM_UP: Duration = Duration::from_millis(150);
/// How long it may adapt.
const SETTLE: Duration = Duration::from_millis(1_500);
/// Between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Which way a camera looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Neither.
    Unspecified,
    /// Away from the person.
    Back,
    /// Towards the person.
    Front,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Camera {
    /// The same one keeps it.
    pub id: String,
    /// As the system calls it.
    pub name: String,
    /// The system's word.
    pub kind: String,
    /// Where it looks.
    pub position: Position,
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraError {
    /// This system cannot do it.
    Missing(Missing),
    /// No such camera.
    NotFound,
    /// The camera went away, or gave no picture in time.
    TimedOut,
    /// What the system said.
    Failed(String),
    /// Nobody wants it any more.
    Cancelled,
}

impl fmt::Display for CameraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::NotFound => f.write_str("there is no such camera"),
            Self::TimedOut => f.write_str("the camera gave no picture in time"),
            Self::Failed(words) => f.write_str(words),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for CameraError {}

impl From<Missing> for CameraError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// The system's cameras as objects of the current pool.
fn devices() -> Result<Vec<Id>, Missing> {
    Library::AVFoundation.load()?;
    // The newer kinds are absent on older systems.
    let kinds = [
        AVCaptureDeviceTypeBuiltInWideAngleCamera().unwrap_or(NIL),
        AVCaptureDeviceTypeExternal().unwrap_or(NIL),
        AVCaptureDeviceTypeContinuityCamera().unwrap_or(NIL),
    ];
    // SAFETY: live constants; the session and its devices are the pool's.
    unsafe {
        let media = AVMediaTypeVideo()?;
        let session = AVCaptureDeviceDiscoverySession::discover(foundation::array(&kinds), media, ANY_POSITION);
        Ok(foundation::objects(AVCaptureDeviceDiscoverySession::devices(session)).collect())
    }
}

/// # Safety
/// `device` is a live AVCaptureDevice.
unsafe fn describe(device: Id) -> Camera {
    // SAFETY: as the caller promises.
    unsafe {
        let text = |object| foundation::text(object).unwrap_or_default();
        Camera {
            id: text(AVCaptureDevice::unique_id(device)),
            name: text(AVCaptureDevice::name(device)),
            kind: text(AVCaptureDevice::kind(device)),
            position: match AVCaptureDevice::position(device) {
                BACK => Position::Back,
                FRONT => Position::Front,
                _ => Position::Unspecified,
            },
        }
    }
}

/// Whether this system has AVFoundation.
pub fn is_here() -> bool {
    !AVCaptureDevice::class().is_null()
}

/// The cameras that are there now. Opens none and asks nobody.
///
/// # Errors
/// This system has no AVFoundation.
pub fn cameras() -> Result<Vec<Camera>, Missing> {
    // SAFETY: live devices of this pool.
    runtime::pooled(|| Ok(devices()?.into_iter().map(|device| unsafe { describe(device) }).collect()))
}

/// A picture's file, or what the system said.
type Taken = Result<Vec<u8>, String>;

/// Who waits for the one picture.
static TAKEN: Mutex<Option<SyncSender<Taken>>> = Mutex::new(None);

extern "C-unwind" fn took(_: Id, _: Sel, _: Id, photo: Id, error: Id) {
    class::guarded((), || {
        // SAFETY: photo and error live during the call, or are nil.
        let result = unsafe {
            if error.is_null() {
                foundation::bytes(AVCapturePhoto::file(photo)).ok_or_else(|| "the picture is empty".to_owned())
            } else {
                Err(foundation::error_text(error))
            }
        };
        if let Some(waiter) = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _left = waiter.try_send(result);
        }
    });
}

fn delegate() -> Result<Shared, Missing> {
    static DELEGATE: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        type Code = unsafe extern "C-unwind" fn(Id, Sel, Id, Id, Id);
        // SAFETY: only ever called by the runtime with the type that stands in `types`, which is the code's own.
        let code = unsafe { std::mem::transmute::<Code, Imp>(took) };
        let method = Method { selector: "captureOutput:didFinishProcessingPhoto:error:", types: "v@:@@@", code };
        let class = class::define("OpenClawPhotographer", &["AVCapturePhotoCaptureDelegate"], &[method])?;
        // SAFETY: a class of ours without state.
        Ok(unsafe { class::immortal(class) })
    };
    DELEGATE.get_or_init(make).clone()
}

/// A session that runs until it is dropped.
struct Running(Owned);

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the live session; stopping one that has stopped by itself does nothing.
        unsafe { AVCaptureSession::stop(self.0.id()) }
    }
}

/// Takes one picture, as the camera encodes it. Blocks for seconds, so never on the main thread. One at a time.
///
/// `sleep` waits for what it is given and says whether nobody wants the picture any more.
///
/// # Errors
/// See [`CameraError`].
pub fn snap(
    camera: &str,
    delay: Duration,
    patience: Duration,
    sleep: impl Fn(Duration) -> bool,
) -> Result<Vec<u8>, CameraError> {
    static ONE: Mutex<()> = Mutex::new(());
    let Ok(_one) = ONE.try_lock() else { return Err(CameraError::Failed("the camera is in use".to_owned())) };
    runtime::pooled(|| {
        // SAFETY: live devices of this pool.
        let device = devices()?.into_iter().find(|device| unsafe { describe(*device) }.id == camera);
        let device = device.ok_or(CameraError::NotFound)?;
        let (running, output) = open(device)?;
        settle(device, delay, &sleep)?;
        // SAFETY: the live session. A camera that was unplugged stops it, and a stopped one must not be asked (it raises).
        if !unsafe { AVCaptureSession::is_running(running.0.id()) }.is() {
            return Err(CameraError::Failed("the camera stopped; it may have been unplugged".to_owned()));
        }
        let (sender, taken) = sync_channel(1);
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        // SAFETY: a live output with fresh settings of its own defaults, as it demands; the delegate lives for ever.
        unsafe { AVCapturePhotoOutput::capture(output.id(), AVCapturePhotoSettings::settings(), delegate()?.0) };
        let picture = taken.recv_timeout(patience).map_err(|_| CameraError::TimedOut)?;
        picture.map_err(CameraError::Failed)
    })
}

/// A session that runs with this camera and an output for photos.
fn open(device: Id) -> Result<(Running, Owned), CameraError> {
    let refused = || CameraError::Failed("the camera cannot be opened now".to_owned());
    // SAFETY: live objects; inputs and outputs are added only after the session says that it takes them (else it raises);
    // the error is the pool's and looked at only when there is no input.
    unsafe {
        let mut error = NIL;
        let input = AVCaptureDeviceInput::with_device(device, &raw mut error);
        if input.is_null() {
            return Err(CameraError::Failed(foundation::error_text(error)));
        }
        let session = runtime::new(AVCaptureSession::class()).ok_or_else(refused)?;
        let made = NSObject::init(allocate(AVCapturePhotoOutput::class()));
        let output = Owned::adopt(made).ok_or_else(refused)?;
        if !AVCaptureSession::can_add_input(session.id(), input).is() {
            return Err(refused());
        }
        AVCaptureSession::add_input(session.id(), input);
        if !AVCaptureSession::can_add_output(session.id(), output.id()).is() {
            return Err(refused());
        }
        AVCaptureSession::add_output(session.id(), output.id());
        AVCaptureSession::start(session.id());
        Ok((Running(session), output))
    }
}

/// Gives exposure and white balance their time, then `delay`. Source: mac-app (8.7).
fn settle(device: Id, delay: Duration, sleep: &impl Fn(Duration) -> bool) -> Result<(), CameraError> {
    let pause = |time: Duration| if sleep(time) { Err(CameraError::Cancelled) } else { Ok(()) };
    pause(WARM_UP)?;
    let until = Instant::now() + SETTLE;
    // SAFETY: the live device.
    let adapts = || unsafe {
        AVCaptureDevice::adjusting_exposure(device).is() || AVCaptureDevice::adjusting_white_balance(device).is()
    };
    while adapts() && Instant::now() < until {
        pause(STEP)?;
    }
    pause(delay)
}
