//! What the owner has allowed this app (TCC): looked at without asking, or asked for (mac-app §2).

use crate::block::Unanswered;
use crate::camera::{AVCaptureDevice, AVMediaTypeAudio, AVMediaTypeVideo};
use crate::completion;
use crate::foundation::NSNumber;
use crate::image::dictionary;
use crate::library::Missing;
use crate::runtime::{self, Id};
use std::ffi::c_void;
use std::time::Instant;

functions! {
    Accessibility from ApplicationServices {
        fn AXIsProcessTrusted() -> u8;
        fn AXIsProcessTrustedWithOptions(options: Id) -> u8;
    }
}

variables! { ApplicationServices {
    kAXTrustedCheckOptionPrompt: Id;
} }

functions! {
    Screen from CoreGraphics {
        fn CGPreflightScreenCaptureAccess() -> bool;
        fn CGRequestScreenCaptureAccess() -> bool;
        fn CGPreflightPostEventAccess() -> bool;
        fn CGRequestPostEventAccess() -> bool;
    }
}

functions! {
    AppleEvents from CoreServices {
        fn AECreateDesc(kind: u32, data: *const c_void, size: isize, descriptor: *mut AEDesc) -> i16;
        fn AEDisposeDesc(descriptor: *mut AEDesc) -> i16;
        fn AEDeterminePermissionToAutomateTarget(target: *const AEDesc, class: u32, id: u32, ask: u8) -> i32;
    }
}

objc_class! {
    SFSpeechRecognizer from Speech {
        + authorization = "authorizationStatus" () -> isize;
        + request = "requestAuthorization:" (handler: Id);
    }
}

/// `AEDesc`, packed as in Apple's headers.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
pub(crate) struct AEDesc {
    kind: u32,
    data: *mut Id,
}

/// typeApplicationBundleID
const BUNDLE_ID: u32 = 0x6275_6E64;
/// typeWildCard
const ANY: u32 = 0x2A2A_2A2A;
/// errAEEventNotPermitted
const NOT_PERMITTED: i32 = -1743;
/// errAEEventWouldRequireUserConsent
const WOULD_ASK: i32 = -1744;

/// How a permission stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Given.
    Granted,
    /// Refused by the owner.
    Denied,
    /// Nobody has been asked yet.
    NotAsked,
    /// Forbidden by whoever manages this Mac.
    Restricted,
    /// The system does not tell now.
    Unknown,
}

fn yes_or_denied(yes: bool) -> Grant {
    if yes { Grant::Granted } else { Grant::Denied }
}

/// Reading and operating other programs' interface.
///
/// # Errors
/// This system has no such permission.
pub fn accessibility() -> Result<Grant, Missing> {
    // SAFETY: no arguments.
    Ok(yes_or_denied(unsafe { (Accessibility::get()?.AXIsProcessTrusted)() } != 0))
}

/// Has the system ask; what it says comes later.
///
/// # Errors
/// As [`accessibility`].
pub fn ask_accessibility() -> Result<(), Missing> {
    runtime::pooled(|| {
        let functions = Accessibility::get()?;
        // SAFETY: a dictionary with the exported key and a boolean.
        unsafe {
            let options = dictionary(&[(kAXTrustedCheckOptionPrompt()?, NSNumber::with_bool(true.into()))]);
            (functions.AXIsProcessTrustedWithOptions)(options);
        }
        Ok(())
    })
}

/// Seeing the screen.
///
/// # Errors
/// As [`accessibility`].
pub fn screen_recording() -> Result<Grant, Missing> {
    // SAFETY: no arguments.
    Ok(yes_or_denied(unsafe { (Screen::get()?.CGPreflightScreenCaptureAccess)() }))
}

/// Has the system ask, once in its life; on the main thread.
///
/// # Errors
/// As [`accessibility`].
pub fn ask_screen_recording(_: crate::MainThread) -> Result<(), Missing> {
    // SAFETY: no arguments; on the main thread.
    unsafe { (Screen::get()?.CGRequestScreenCaptureAccess)() };
    Ok(())
}

/// Sending keys and clicks.
///
/// # Errors
/// As [`accessibility`].
pub fn event_posting() -> Result<Grant, Missing> {
    // SAFETY: no arguments.
    Ok(yes_or_denied(unsafe { (Screen::get()?.CGPreflightPostEventAccess)() }))
}

/// Has the system ask; on the main thread.
///
/// # Errors
/// As [`accessibility`].
pub fn ask_event_posting(_: crate::MainThread) -> Result<(), Missing> {
    // SAFETY: no arguments; on the main thread.
    unsafe { (Screen::get()?.CGRequestPostEventAccess)() };
    Ok(())
}

/// What a capture device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// The camera.
    Video,
    /// The microphone.
    Audio,
}

impl Media {
    fn name(self) -> Result<Id, Missing> {
        match self {
            Self::Video => AVMediaTypeVideo(),
            Self::Audio => AVMediaTypeAudio(),
        }
    }
}

/// Camera or microphone. 1 is *restricted* here and *denied* for speech.
///
/// # Errors
/// As [`accessibility`].
pub fn media(media: Media) -> Result<Grant, Missing> {
    // SAFETY: an exported constant.
    Ok(match unsafe { AVCaptureDevice::authorization(media.name()?) } {
        0 => Grant::NotAsked,
        1 => Grant::Restricted,
        2 => Grant::Denied,
        3 => Grant::Granted,
        _ => Grant::Unknown,
    })
}

/// Has the system ask, if nobody was asked yet, and waits for the person.
///
/// # Errors
/// No answer in time, or no such permission here.
pub fn ask_media(media: Media, deadline: Instant) -> Result<bool, Unanswered> {
    let name = media.name().map_err(Unanswered::Missing)?;
    // SAFETY: the block takes (BOOL).
    runtime::pooled(|| unsafe {
        completion::answer(deadline, |handler| AVCaptureDevice::request_access(name, handler))
    })
}

/// Speech recognition. 1 is *denied* here and *restricted* for the camera.
///
/// # Errors
/// As [`accessibility`].
pub fn speech() -> Result<Grant, Missing> {
    if SFSpeechRecognizer::class().is_null() {
        return Err(Missing { name: "SFSpeechRecognizer".to_owned() });
    }
    // SAFETY: a class method without arguments.
    Ok(speech_grant(unsafe { SFSpeechRecognizer::authorization() }))
}

fn speech_grant(status: isize) -> Grant {
    match status {
        0 => Grant::NotAsked,
        1 => Grant::Denied,
        2 => Grant::Restricted,
        3 => Grant::Granted,
        _ => Grant::Unknown,
    }
}

/// Has the system ask, if nobody was asked yet, and waits for the person.
///
/// # Errors
/// As [`ask_media`].
pub fn ask_speech(deadline: Instant) -> Result<Grant, Unanswered> {
    // SAFETY: the block takes (NSInteger).
    runtime::pooled(|| unsafe { completion::number(deadline, |handler| SFSpeechRecognizer::request(handler)) })
        .map(speech_grant)
}

/// Telling the program with this bundle id what to do, by Apple events. With `ask` the system asks and this **blocks**
/// until the person has answered; without it too it may hang, so never on the main thread, and with a limit outside.
///
/// # Errors
/// As [`accessibility`].
pub fn automation(bundle_id: &str, ask: bool) -> Result<Grant, Missing> {
    let functions = AppleEvents::get()?;
    let mut target = AEDesc { kind: 0, data: std::ptr::null_mut() };
    let size = isize::try_from(bundle_id.len()).unwrap_or(0);
    // SAFETY: bytes and their length, copied into the descriptor, which is disposed of once.
    let status = unsafe {
        if (functions.AECreateDesc)(BUNDLE_ID, bundle_id.as_ptr().cast(), size, &raw mut target) != 0 {
            return Ok(Grant::Unknown);
        }
        let status = (functions.AEDeterminePermissionToAutomateTarget)(&raw const target, ANY, ANY, u8::from(ask));
        (functions.AEDisposeDesc)(&raw mut target);
        status
    };
    Ok(match status {
        0 => Grant::Granted,
        NOT_PERMITTED => Grant::Denied,
        WOULD_ASK => Grant::NotAsked,
        // Among them: the program does not run.
        _ => Grant::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_descriptor_has_apples_size() {
        assert_eq!(size_of::<AEDesc>(), 12);
    }

    #[test]
    fn denied_and_restricted_are_not_mixed_up() {
        assert_eq!((speech_grant(1), speech_grant(2)), (Grant::Denied, Grant::Restricted));
    }
}
