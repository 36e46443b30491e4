//! Commands that need no program: screen, camera, location, canvas, device. Each is declared exactly when its backend, the
//! owner's switch and the system's permission are there, and all three are looked at again at each call.
//! Source: spec mac-app (1.10).

use super::frames::Frames;
use crate::client::Surface;
use crate::desktop::abilities::{Abilities, CanvasAnswer, Done, Trouble};
use crate::desktop::permissions::{Capability, Grant, Permissions};
use crate::limits;
use crate::protocol::ability::{
    CameraSnap, Canvas, Film, Location, LocationGet, Picture, ScreenRecording, ScreenSnapshot, name,
};
use crate::protocol::node::NodeError;
use crate::protocol::policy::Refusal;
use crate::state::switches::{Switch, Switches};
use crate::sys::clock::wall_ms;
use crate::sys::wake::Wake;
use crate::sys::{host_stats, platform, process};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one command needs.
struct Need {
    command: &'static str,
    /// Declared with it.
    cap: &'static str,
    /// The system's permission, and the word before `_PERMISSION_REQUIRED`.
    permission: Option<(Capability, &'static str)>,
    /// The owner's switch, and what is said when it is off.
    switch: Option<(Switch, &'static str)>,
}

const SEES: Option<(Capability, &str)> = Some((Capability::ScreenRecording, "SCREEN_RECORDING"));
const SCREEN: Option<(Switch, &str)> = Some((Switch::Screen, "SCREEN_DISABLED: enable Screen in Settings"));
const CAMERA: Option<(Switch, &str)> = Some((Switch::Camera, "CAMERA_DISABLED: enable Camera in Settings"));
const CANVAS: Option<(Switch, &str)> = Some((Switch::Canvas, "CANVAS_DISABLED: enable Canvas in Settings"));
const LOCATION: Option<(Switch, &str)> = Some((Switch::Location, "LOCATION_DISABLED: enable Location in Settings"));
const SCRIPT: Option<(Switch, &str)> =
    Some((Switch::AppleScript, "APPLESCRIPT_DISABLED: enable AppleScript in Settings"));

const fn need(
    command: &'static str,
    cap: &'static str,
    permission: Option<(Capability, &'static str)>,
    switch: Option<(Switch, &'static str)>,
) -> Need {
    Need { command, cap, permission, switch }
}

const NEEDS: &[Need] = &[
    need(name::SCREEN_SNAPSHOT, "screen", SEES, SCREEN),
    need(name::SCREEN_RECORD, "screen", SEES, SCREEN),
    need(name::CAMERA_LIST, "camera", None, CAMERA),
    need(name::CAMERA_SNAP, "camera", Some((Capability::Camera, "CAMERA")), CAMERA),
    need(name::LOCATION_GET, "location", Some((Capability::Location, "LOCATION")), LOCATION),
    need(name::CANVAS_PRESENT, "canvas", None, CANVAS),
    need(name::CANVAS_HIDE, "canvas", None, CANVAS),
    need(name::CANVAS_NAVIGATE, "canvas", None, CANVAS),
    need(name::CANVAS_EVAL, "canvas", None, CANVAS),
    need(name::CANVAS_SNAPSHOT, "canvas", None, CANVAS),
    need(name::DEVICE_INFO, "device", None, None),
    need(name::DEVICE_STATUS, "device", None, None),
    need(name::APPLESCRIPT, "system", None, SCRIPT),
];

/// Does these commands in the app's process, which alone has the permissions.
pub struct AbilityHost {
    backend: Arc<dyn Abilities>,
    permissions: Arc<dyn Permissions>,
    switches: Switches,
    frames: Option<Arc<Frames>>,
    at_work: AtomicUsize,
}

impl AbilityHost {
    /// Over one desktop, with what the system has granted and the owner has switched on.
    pub fn new(backend: Arc<dyn Abilities>, permissions: Arc<dyn Permissions>, switches: Switches) -> Self {
        Self { backend, permissions, switches, frames: None, at_work: AtomicUsize::new(0) }
    }

    /// The same, whose screenshots `computer.act` may point into.
    pub fn with_frames(self, frames: Arc<Frames>) -> Self {
        Self { frames: Some(frames), ..self }
    }

    /// What can be done now, to be declared; the permissions stand beside it.
    pub fn surface(&self) -> Surface {
        let offered = NEEDS.iter().filter(|need| self.refusal(need).is_none());
        let mut surface = Surface::default();
        for need in offered {
            surface.commands.push(need.command.to_owned());
            if !surface.caps.iter().any(|cap| cap == need.cap) {
                surface.caps.push(need.cap.to_owned());
            }
        }
        surface
    }

    /// Whether `command` is one of these at all, possible now or not.
    pub fn knows(&self, command: &str) -> bool {
        NEEDS.iter().any(|need| need.command == command) && self.backend.has(command)
    }

    /// Why `command` is not possible now; none when it is.
    pub fn refuses(&self, command: &str) -> Option<NodeError> {
        let need = NEEDS.iter().find(|need| need.command == command)?;
        self.refusal(need)
    }

    fn refusal(&self, need: &Need) -> Option<NodeError> {
        // First: a backend whose switch is off is not even opened to see whether it is there.
        if let Some((switch, sentence)) = need.switch
            && !self.switches.is_on(switch)
        {
            let switch = switch.word();
            return Some(unavailable(format!("{sentence} (`openclaw mac-debug switch {switch} on`)")));
        }
        if !self.backend.has(need.command) {
            return Some(NodeError::new("UNAVAILABLE", "command not supported"));
        }
        if let Some((permission, code)) = need.permission
            && !matches!(self.permissions.status(permission), Grant::Granted | Grant::Unsupported)
        {
            let permission = permission.name();
            return Some(unavailable(format!(
                "{code}_PERMISSION_REQUIRED: grant OpenClaw this permission in System Settings, Privacy & Security \
                 (`openclaw mac-debug permissions request {permission}`)"
            )));
        }
        None
    }

    /// Does what was asked; none when it was cancelled meanwhile. `session` is the caller's, for the canvas.
    pub fn perform(
        &self,
        command: &str,
        params: Option<&str>,
        session: Option<&str>,
        cancel: &Wake,
    ) -> Option<Result<String, NodeError>> {
        if let Some(error) = self.refuses(command) {
            return Some(Err(error));
        }
        let Some(_place) = Place::take(&self.at_work) else {
            return Some(Err(unavailable("this machine is busy with other requests of this kind; try again later")));
        };
        match self.call(command, params, session, cancel) {
            Ok(value) => Some(Ok(value.to_string())),
            Err(Failed::Trouble(Trouble::Cancelled)) => None,
            Err(Failed::Trouble(trouble @ Trouble::Invalid(_))) => {
                Some(Err(NodeError::new("INVALID_REQUEST", trouble.to_string())))
            }
            Err(Failed::Trouble(trouble)) => Some(Err(unavailable(trouble.to_string()))),
            Err(Failed::Refused(refusal)) => Some(Err(refusal.into())),
        }
    }

    fn call(&self, command: &str, params: Option<&str>, session: Option<&str>, cancel: &Wake) -> Result<Value, Failed> {
        let desktop = &*self.backend;
        if !matches!(command, name::DEVICE_INFO | name::DEVICE_STATUS | name::CAMERA_LIST) {
            desktop.session()?;
        }
        Ok(match command {
            name::SCREEN_SNAPSHOT => {
                let request = ScreenSnapshot::parse(params)?;
                let sight = self.frames.as_ref().and_then(|frames| frames.look(request.screen));
                let picture = checked(desktop.screen_snapshot(&request, cancel), |picture| picture.bytes.0.len())?;
                let mut answer = json!(picture);
                let size = (picture.width, picture.height);
                if let Some(id) = self.frames.as_ref().and_then(|frames| frames.keep(sight, &request, size)) {
                    set(&mut answer, "displayFrameId", json!(id));
                }
                set(&mut answer, "screenIndex", json!(request.screen));
                set(&mut answer, "capturedAtMs", json!(wall_ms()));
                answer
            }
            name::SCREEN_RECORD => {
                let request = ScreenRecording::parse(params)?;
                let film = checked(desktop.screen_record(&request, cancel), |film: &Film| film.bytes.0.len())?;
                json!({
                    "format": "mp4", "base64": film.bytes, "durationMs": request.duration.as_millis() as u64,
                    "fps": request.fps, "screenIndex": request.screen, "hasAudio": film.has_audio,
                })
            }
            name::CAMERA_LIST => json!({"devices": desktop.cameras()?}),
            name::CAMERA_SNAP => {
                let picture = desktop.camera_snap(&CameraSnap::parse(params)?, cancel);
                let mut answer = json!(checked(picture, |picture: &Picture| picture.bytes.0.len())?);
                set(&mut answer, "format", json!("jpg"));
                answer
            }
            name::LOCATION_GET => {
                let location = desktop.location(&LocationGet::parse(params)?, cancel)?;
                let precise = self.switches.is_on(Switch::PreciseLocation);
                json!(if precise { location } else { blurred(location) })
            }
            name::DEVICE_INFO => device_info(),
            name::DEVICE_STATUS => device_status(desktop),
            canvas => {
                let call = Canvas::parse(canvas, params)?;
                match desktop.canvas(&session_name(session), &call, cancel)? {
                    CanvasAnswer::Done => json!({"ok": true}),
                    CanvasAnswer::Text(result) => json!({"result": result}),
                    CanvasAnswer::Picture(picture) => json!({"format": picture.format, "base64": picture.bytes}),
                }
            }
        })
    }
}

enum Failed {
    Trouble(Trouble),
    Refused(Refusal),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn unavailable(message: impl Into<String>) -> NodeError {
    NodeError::new("UNAVAILABLE", message)
}

fn set(answer: &mut Value, member: &str, value: Value) {
    if let Value::Object(members) = answer {
        members.insert(member.to_owned(), value);
    }
}

/// What a gateway could not read is said here, with what to do.
fn checked<T>(result: Done<T>, bytes: impl Fn(&T) -> usize) -> Done<T> {
    let value = result?;
    let bytes = bytes(&value);
    if bytes <= limits::ABILITY_BYTES {
        return Ok(value);
    }
    let most = limits::ABILITY_BYTES;
    Err(Trouble::Invalid(format!(
        "the result has {bytes} bytes, at most {most} fit; ask for less (width, quality, time)"
    )))
}

/// To two decimals of a degree, about a kilometre; what would tell more is left out.
fn blurred(location: Location) -> Location {
    let round = |degrees: f64| (degrees * 100.0).round() / 100.0;
    Location {
        lat: round(location.lat),
        lon: round(location.lon),
        accuracy_meters: location.accuracy_meters.max(1_000.0),
        timestamp: location.timestamp,
        is_precise: false,
        ..Location::default()
    }
}

/// Letters, digits, `_-+` of a session's name; the folder and the window of its canvas bear it. Source: mac-app (8.7).
fn session_name(session: Option<&str>) -> String {
    let safe = |c: &char| c.is_ascii_alphanumeric() || "_-+".contains(*c);
    let name: String = session.unwrap_or_default().chars().filter(safe).take(64).collect();
    if name.is_empty() { "main".to_owned() } else { name }
}

fn device_info() -> Value {
    let platform = platform::platform();
    let (system, version) = platform.split_once(' ').unwrap_or((&platform, ""));
    json!({
        "deviceName": process::host_name(), "modelIdentifier": platform::model_identifier().unwrap_or_default(),
        "systemName": system, "systemVersion": version, "appVersion": env!("CARGO_PKG_VERSION"),
        "appBuild": env!("CARGO_PKG_VERSION"), "locale": std::env::var("LANG").unwrap_or_default(),
    })
}

fn device_status(desktop: &dyn Abilities) -> Value {
    let power = desktop.power();
    let thermal = ["nominal", "fair", "serious", "critical"].get(usize::from(power.thermal)).copied();
    let mut status = json!({
        // Its level is not read; "unknown" is one of the states of the original.
        "battery": {"state": "unknown", "lowPowerModeEnabled": power.low_power_mode},
        "thermal": {"state": thermal.unwrap_or("nominal")},
    });
    if let Some(stats) = host_stats::read() {
        if let Some((total, free)) = stats.disk {
            let used = total.saturating_sub(free);
            set(&mut status, "storage", json!({"totalBytes": total, "freeBytes": free, "usedBytes": used}));
        }
        set(&mut status, "memory", json!({"totalBytes": stats.memory_total, "freeBytes": stats.memory_free}));
    }
    status
}

/// One of [`limits::ABILITIES_AT_ONCE`] places, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize) -> Option<Self> {
        let free = |count| (count < limits::ABILITIES_AT_ONCE).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok().map(|_| Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
