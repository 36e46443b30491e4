//! What a desktop can do for an agent beside showing questions: pictures, films, the canvas, where it is. One trait,
//! implemented once a system; who may ask for it is decided elsewhere.

use super::mac_abilities::MacAbilities;
use crate::protocol::ability::{
    Camera, CameraSnap, Canvas, Film, Location, LocationGet, Picture, ScreenRecording, ScreenSnapshot,
};
use crate::state::StateDir;
use crate::sys::wake::Wake;
use std::fmt;
use std::sync::Arc;

/// Why something was not done. The words begin with the spec's code where it has one (mac-app §1.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This backend cannot do it; what is missing.
    NotHere(String),
    /// The request names something that is not there; what.
    Invalid(String),
    /// The system's permission is missing: the code before `_PERMISSION_REQUIRED`, and what to do.
    Permission(&'static str, String),
    /// It did not answer in time; what.
    Timeout(&'static str, String),
    /// Nobody can see or use this desktop now: locked, asleep, another user's, no session.
    NoSession(String),
    /// The system refused, or something was unplugged midway; what it said.
    Failed(&'static str, String),
    /// The requester went away.
    Cancelled,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere(what) => write!(f, "this machine cannot do that: {what}"),
            Self::Invalid(what) => write!(f, "INVALID_REQUEST: {what}"),
            Self::Permission(code, what) => write!(f, "{code}_PERMISSION_REQUIRED: {what}"),
            Self::Timeout(code, what) => write!(f, "{code}_TIMEOUT: {what}"),
            Self::NoSession(what) => write!(f, "DESKTOP_UNAVAILABLE: {what}"),
            Self::Failed(code, what) => write!(f, "{code}_UNAVAILABLE: {what}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Trouble {}

/// What a link that leads out of the canvas is given to; it asks the person. Must not wait.
pub type OpenOutside = Arc<dyn Fn(String) + Send + Sync>;

/// Result of a call.
pub type Done<T = ()> = Result<T, Trouble>;

fn not_here<T>(what: &str) -> Done<T> {
    Err(Trouble::NotHere(format!("{what} is not supported")))
}

/// What one desktop can do. Calls may come from several threads; each ends by itself within
/// [`crate::limits::ABILITY_WAIT`] beyond what it was asked to take, and earlier when `cancel` fires.
#[allow(unused_variables)] // The default methods use none of their arguments.
pub trait Abilities: Send + Sync {
    /// Whether the system has what `command` takes, the owner's grants and switches aside. Fast; nothing is opened.
    fn has(&self, command: &str) -> bool;

    /// Whether somebody could see or use this desktop now.
    ///
    /// # Errors
    /// [`Trouble::NoSession`].
    fn session(&self) -> Done {
        Ok(())
    }

    /// A picture of a screen.
    fn screen_snapshot(&self, request: &ScreenSnapshot, cancel: &Wake) -> Done<Picture> {
        not_here("capturing the screen")
    }

    /// A film of a screen.
    fn screen_record(&self, request: &ScreenRecording, cancel: &Wake) -> Done<Film> {
        not_here("recording the screen")
    }

    /// The cameras.
    fn cameras(&self) -> Done<Vec<Camera>> {
        not_here("a camera")
    }

    /// A picture by a camera; it may be larger than asked for.
    fn camera_snap(&self, request: &CameraSnap, cancel: &Wake) -> Done<Picture> {
        not_here("a camera")
    }

    /// Where this machine is.
    fn location(&self, request: &LocationGet, cancel: &Wake) -> Done<Location> {
        not_here("a location")
    }

    /// How much the machine must save power; see [`Power`].
    fn power(&self) -> Power {
        Power::default()
    }

    /// Something with the canvas of `session`: text for a script's result, a picture for a snapshot, else neither.
    fn canvas(&self, session: &str, call: &Canvas, cancel: &Wake) -> Done<CanvasAnswer> {
        not_here("a canvas")
    }
}

/// What this system has for an app; none where it has nothing. On a Mac the app must be on the screen (`on_screen`): only
/// then has it permissions of its own, and a main thread for the frameworks.
pub fn of_this_system(state: &StateDir, on_screen: bool, outside: OpenOutside) -> Option<Arc<dyn Abilities>> {
    if cfg!(target_os = "macos") {
        let home = std::env::home_dir();
        return on_screen.then(|| Arc::new(MacAbilities::new(state, home.as_deref(), outside)) as _);
    }
    #[cfg(target_os = "linux")]
    if std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty()) {
        return Some(Arc::new(super::x11::X11::new(None)));
    }
    None
}

/// Part of `device.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// The owner's switch.
    pub low_power_mode: bool,
    /// 0 nominal, 1 fair, 2 serious, 3 critical (`NSProcessInfoThermalState`).
    pub thermal: u8,
}

/// What the canvas gave back.
#[derive(Clone, Debug, PartialEq)]
pub enum CanvasAnswer {
    /// It was done.
    Done,
    /// A script's result, described.
    Text(String),
    /// A snapshot.
    Picture(Picture),
}
