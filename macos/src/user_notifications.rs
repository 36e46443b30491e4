//! UserNotifications: permission, banners, and what is done with a press on one (mac-app §3.1, §8.7). Any thread.
//!
//! Outside of an app bundle the notification center raises an exception, so it is never asked for there.

use crate::block::{self, Block, Unanswered, answer, wait};
use crate::class::{self, Method, guarded};
use crate::foundation;
use crate::library::Missing;
use crate::runtime::{self, Bool, Id, NIL, Owned, Sel, Shared};
use std::ffi::{CStr, c_void};
use std::fmt;
use std::sync::OnceLock;
use std::time::Instant;

objc_class! {
    UNUserNotificationCenter from UserNotifications {
        + current = "currentNotificationCenter" () -> Id;
        - set_delegate = "setDelegate:" (delegate: Id);
        - request_authorization = "requestAuthorizationWithOptions:completionHandler:" (options: usize, handler: Id);
        - get_settings = "getNotificationSettingsWithCompletionHandler:" (handler: Id);
        - add = "addNotificationRequest:withCompletionHandler:" (request: Id, handler: Id);
    }
}

objc_class! {
    UNNotificationSettings from UserNotifications {
        - authorization_status = "authorizationStatus" () -> isize;
    }
}

objc_class! {
    UNMutableNotificationContent from UserNotifications {
        - set_title = "setTitle:" (title: Id);
        - set_body = "setBody:" (body: Id);
        - set_sound = "setSound:" (sound: Id);
        - set_interruption_level = "setInterruptionLevel:" (level: usize);
    }
}

objc_class! {
    UNNotificationSound from UserNotifications {
        + named = "soundNamed:" (name: Id) -> Id;
    }
}

objc_class! {
    UNNotificationRequest from UserNotifications {
        + with_identifier = "requestWithIdentifier:content:trigger:" (identifier: Id, content: Id, trigger: Id) -> Id;
    }
}

/// `UNAuthorizationOptionBadge` | `UNAuthorizationOptionSound` | `UNAuthorizationOptionAlert`
const OPTIONS: usize = 7;
/// `UNNotificationPresentationOptionSound` | `UNNotificationPresentationOptionList` |
/// `UNNotificationPresentationOptionBanner`: shown although the app is in front.
const PRESENTATION: usize = 2 | 8 | 16;
const TIME_SENSITIVE_ENTITLEMENT: &str = "com.apple.developer.usernotifications.time-sensitive";

const SETTINGS: &CStr = c"v16@?0@\"UNNotificationSettings\"8";
const ERROR: &CStr = c"v16@?0@\"NSError\"8";
#[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
const AUTHORIZATION: &CStr = c"v20@?0B8@\"NSError\"12";
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
const AUTHORIZATION: &CStr = c"v20@?0c8@\"NSError\"12";

/// Why there is no notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationError {
    /// This program is not an app, or this system has no such thing.
    NotHere(String),
    /// The system did not answer in time.
    Unanswered,
    /// What the system said.
    Refused(String),
}

impl fmt::Display for NotificationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere(why) => write!(f, "no notifications here: {why}"),
            Self::Unanswered => f.write_str("the notification center did not answer in time"),
            Self::Refused(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for NotificationError {}

impl From<Unanswered> for NotificationError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TimedOut => Self::Unanswered,
            Unanswered::Missing(missing) => missing.into(),
        }
    }
}

impl From<Missing> for NotificationError {
    fn from(missing: Missing) -> Self {
        Self::NotHere(missing.to_string())
    }
}

/// What the person has said about this app's notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// `UNAuthorizationStatusNotDetermined`: nobody has asked.
    NotDetermined = 0,
    /// `UNAuthorizationStatusDenied`
    Denied = 1,
    /// `UNAuthorizationStatusAuthorized`
    Authorized = 2,
    /// `UNAuthorizationStatusProvisional`: without a banner.
    Provisional = 3,
}

impl Authorization {
    fn of(status: isize) -> Self {
        match status {
            0 => Self::NotDetermined,
            2 => Self::Authorized,
            3 => Self::Provisional,
            _ => Self::Denied,
        }
    }

    /// Whether one may be posted.
    pub fn permits(self) -> bool {
        matches!(self, Self::Authorized | Self::Provisional)
    }
}

/// How much it may disturb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// `UNNotificationInterruptionLevelPassive`
    Passive = 0,
    /// `UNNotificationInterruptionLevelActive`
    Active = 1,
    /// `UNNotificationInterruptionLevelTimeSensitive`: an app without the entitlement for it is *active*.
    TimeSensitive = 2,
}

/// What is posted.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Its identifier; a second one of the same replaces the first.
    pub identifier: &'a str,
    /// First line.
    pub title: &'a str,
    /// The rest.
    pub body: &'a str,
    /// Name of a sound of the system or of our bundle; silent without.
    pub sound: Option<&'a str>,
    /// The system's default without.
    pub interruption: Option<Interruption>,
}

/// The center, in the current pool.
fn center() -> Result<Id, NotificationError> {
    if foundation::main_bundle().is_none() {
        return Err(NotificationError::NotHere("this program does not run from an app bundle".to_owned()));
    }
    // SAFETY: in a bundle, see above.
    let center = unsafe { UNUserNotificationCenter::current() };
    let missing = || Missing { name: "UNUserNotificationCenter".to_owned() };
    if center.is_null() { Err(missing().into()) } else { Ok(center) }
}

/// What the person has said; asks nobody.
///
/// # Errors
/// See [`NotificationError`].
pub fn authorization(deadline: Instant) -> Result<Authorization, NotificationError> {
    runtime::pooled(|| {
        let center = center()?;
        let code = got_settings as unsafe extern "C-unwind" fn(*const Block, Id) as *const c_void;
        // SAFETY: the code takes what this method's block takes.
        let status = unsafe {
            wait::<isize>(code, SETTINGS, deadline, |block| UNUserNotificationCenter::get_settings(center, block))
        };
        Ok(Authorization::of(status?))
    })
}

unsafe extern "C-unwind" fn got_settings(block: *const Block, settings: Id) {
    // SAFETY: our block, with live settings.
    guarded((), || unsafe { answer(block, UNNotificationSettings::authorization_status(settings)) });
}

/// Has the system ask the person, once in this app's life; true when they permit it.
///
/// # Errors
/// See [`NotificationError`].
pub fn request(deadline: Instant) -> Result<bool, NotificationError> {
    runtime::pooled(|| {
        let center = center()?;
        let code = was_authorized as unsafe extern "C-unwind" fn(*const Block, Bool, Id) as *const c_void;
        // SAFETY: as above.
        let answered = unsafe {
            wait::<Result<bool, String>>(code, AUTHORIZATION, deadline, |block| {
                UNUserNotificationCenter::request_authorization(center, OPTIONS, block);
            })
        };
        answered?.map_err(NotificationError::Refused)
    })
}

unsafe extern "C-unwind" fn was_authorized(block: *const Block, granted: Bool, error: Id) {
    // SAFETY: our block; an error is nil or alive.
    guarded((), || unsafe {
        let said = if error.is_null() { Ok(granted.is()) } else { Err(foundation::error_text(error)) };
        answer(block, said);
    });
}

/// Shows a notification now. The permission is the caller's to look at.
///
/// # Errors
/// See [`NotificationError`].
pub fn post(content: &Content<'_>, deadline: Instant) -> Result<(), NotificationError> {
    runtime::pooled(|| {
        let center = center()?;
        // SAFETY: a new object, and live strings of this pool; no trigger means now.
        let request = unsafe {
            let made = runtime::new(UNMutableNotificationContent::class());
            let Some(made) = made else { return Err(NotificationError::NotHere("no content".to_owned())) };
            UNMutableNotificationContent::set_title(made.id(), foundation::string(content.title));
            UNMutableNotificationContent::set_body(made.id(), foundation::string(content.body));
            if let Some(sound) = content.sound {
                let sound = UNNotificationSound::named(foundation::string(sound));
                UNMutableNotificationContent::set_sound(made.id(), sound);
            }
            if let Some(level) = content.interruption {
                UNMutableNotificationContent::set_interruption_level(made.id(), allowed(level) as usize);
            }
            Owned::retain(UNNotificationRequest::with_identifier(
                foundation::string(content.identifier),
                made.id(),
                NIL,
            ))
        };
        let request = request.ok_or(NotificationError::NotHere("no request".to_owned()))?;
        let code = was_added as unsafe extern "C-unwind" fn(*const Block, Id) as *const c_void;
        // SAFETY: as above.
        let added = unsafe {
            wait::<Option<String>>(code, ERROR, deadline, |block| {
                UNUserNotificationCenter::add(center, request.id(), block);
            })
        };
        added?.map_or(Ok(()), |error| Err(NotificationError::Refused(error)))
    })
}

fn allowed(level: Interruption) -> Interruption {
    static ENTITLED: OnceLock<bool> = OnceLock::new();
    match level {
        Interruption::TimeSensitive
            if !*ENTITLED.get_or_init(|| crate::security::is_entitled(TIME_SENSITIVE_ENTITLEMENT)) =>
        {
            Interruption::Active
        }
        level => level,
    }
}

unsafe extern "C-unwind" fn was_added(block: *const Block, error: Id) {
    // SAFETY: our block; an error is nil or alive.
    guarded((), || unsafe { answer(block, (!error.is_null()).then(|| foundation::error_text(error))) });
}

static PRESSED: OnceLock<fn()> = OnceLock::new();

/// Lets banners show while the app is in front, and has `pressed` called when the person presses one, on any thread.
/// Before the launch ends; once.
///
/// # Errors
/// See [`NotificationError`].
pub fn listen(pressed: fn()) -> Result<(), NotificationError> {
    runtime::pooled(|| {
        let center = center()?;
        let methods = [
            Method::with_completion("userNotificationCenter:willPresentNotification:withCompletionHandler:", present),
            Method::with_completion(
                "userNotificationCenter:didReceiveNotificationResponse:withCompletionHandler:",
                received,
            ),
        ];
        let class = class::define("OpenClawNotifications", &["UNUserNotificationCenterDelegate"], &methods)?;
        static DELEGATE: OnceLock<Shared> = OnceLock::new();
        let _first = PRESSED.set(pressed);
        // SAFETY: a class of ours without state; its object lives for ever, as the center does not retain it.
        unsafe {
            let delegate = DELEGATE.get_or_init(|| class::immortal(class));
            UNUserNotificationCenter::set_delegate(center, delegate.0);
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn present(_: Id, _: Sel, _: Id, _: Id, handler: *const Block) {
    // SAFETY: a live block that takes presentation options, called once.
    guarded((), || unsafe { block::call_with(handler, PRESENTATION) });
}

unsafe extern "C-unwind" fn received(_: Id, _: Sel, _: Id, _: Id, handler: *const Block) {
    guarded((), || {
        if let Some(pressed) = PRESSED.get() {
            pressed();
        }
        // SAFETY: a live block without arguments, called once.
        unsafe { block::call(handler) };
    });
}
