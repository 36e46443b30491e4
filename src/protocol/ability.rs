//! What a node can do beside running commands: `screen.*`, `camera.*`, `canvas.*`, `location.get`, `device.*`, their
//! parameters and results. Source: spec mac-app (1.10).
//!
//! Unknown parameters are ignored, as the original's decoder does; a known one of the wrong type is refused; numbers
//! outside their range are moved to its nearer end.

use super::node::RunRequest;
use super::policy::{Ask, Refusal};
use super::strict;
use crate::limits;
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;

/// Names of the commands; each stands once.
pub mod name {
    /// A picture of a screen.
    pub const SCREEN_SNAPSHOT: &str = "screen.snapshot";
    /// A film of a screen.
    pub const SCREEN_RECORD: &str = "screen.record";
    /// The cameras.
    pub const CAMERA_LIST: &str = "camera.list";
    /// A picture by a camera.
    pub const CAMERA_SNAP: &str = "camera.snap";
    /// Where this machine is.
    pub const LOCATION_GET: &str = "location.get";
    /// Shows the canvas.
    pub const CANVAS_PRESENT: &str = "canvas.present";
    /// Hides the canvas.
    pub const CANVAS_HIDE: &str = "canvas.hide";
    /// Shows something else on the canvas.
    pub const CANVAS_NAVIGATE: &str = "canvas.navigate";
    /// Runs a script in the canvas.
    pub const CANVAS_EVAL: &str = "canvas.eval";
    /// A picture of the canvas.
    pub const CANVAS_SNAPSHOT: &str = "canvas.snapshot";
    /// What this machine is.
    pub const DEVICE_INFO: &str = "device.info";
    /// How it is doing.
    pub const DEVICE_STATUS: &str = "device.status";
    /// Runs an AppleScript, which is shown to the person first. Ours.
    pub const APPLESCRIPT: &str = "system.applescript";
}

/// How a picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// Small.
    Jpeg,
    /// Exact.
    Png,
}

/// `screen.snapshot`
#[derive(Clone, Debug, PartialEq)]
pub struct ScreenSnapshot {
    /// Of the caller's chain of looks and actions; given back with nothing else done to it.
    pub execution_id: Option<String>,
    /// Place among the screens, the main one first.
    pub screen: usize,
    /// Pixels; a wider screen is scaled down.
    pub max_width: Option<u32>,
    /// 0.05 to 1, for JPEG.
    pub quality: f64,
    /// Encoding.
    pub format: PictureFormat,
}

/// `screen.record`
#[derive(Clone, Debug, PartialEq)]
pub struct ScreenRecording {
    /// Place among the screens, the main one first.
    pub screen: usize,
    /// How long.
    pub duration: Duration,
    /// Pictures a second.
    pub fps: u32,
    /// The system's sound too.
    pub audio: bool,
}

/// `camera.snap`
#[derive(Clone, Debug, PartialEq)]
pub struct CameraSnap {
    /// `front`, `back`; a camera named by `device` goes before it.
    pub facing: Facing,
    /// A camera of [`name::CAMERA_LIST`] by its id; an unknown one is an error.
    pub device: Option<String>,
    /// Pixels.
    pub max_width: u32,
    /// 0.05 to 1.
    pub quality: f64,
    /// Before the picture is taken, so that the camera can adapt.
    pub delay: Duration,
}

/// Which way a camera looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Facing {
    /// Towards the person.
    #[default]
    Front,
    /// Away.
    Back,
    /// Neither.
    Unspecified,
}

/// `location.get`
#[derive(Clone, Debug, PartialEq)]
pub struct LocationGet {
    /// How long to wait.
    pub timeout: Duration,
    /// An older answer will not do.
    pub max_age: Option<Duration>,
    /// How exact.
    pub accuracy: Accuracy,
}

/// How exact a location is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accuracy {
    /// Kilometres.
    Coarse,
    /// A hundred metres.
    #[default]
    Balanced,
    /// The best there is.
    Precise,
}

/// Of a panel, in points; what is absent stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Placement {
    /// From the left.
    pub x: Option<f64>,
    /// From the bottom.
    pub y: Option<f64>,
    /// Points.
    pub width: Option<f64>,
    /// Points.
    pub height: Option<f64>,
}

/// `canvas.*`
#[derive(Clone, Debug, PartialEq)]
pub enum Canvas {
    /// Shows it, perhaps with something else and somewhere else.
    Present {
        /// What to show.
        target: Option<String>,
        /// Where.
        placement: Option<Placement>,
    },
    /// Hides it.
    Hide,
    /// Shows this.
    Navigate(String),
    /// Runs this script.
    Eval(String),
    /// A picture of it.
    Snapshot {
        /// Encoding.
        format: PictureFormat,
        /// Pixels.
        max_width: u32,
        /// 0.05 to 1, for JPEG.
        quality: f64,
    },
}

/// Bytes that cross the wire as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// An encoded picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    /// Encoding.
    pub format: PictureFormat,
    /// The file.
    #[serde(rename = "base64")]
    pub bytes: Bytes,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A recorded film, always MP4.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// The file.
    pub bytes: Bytes,
    /// Whether it has sound.
    pub has_audio: bool,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Camera {
    /// What `deviceId` names.
    pub id: String,
    /// As the system calls it.
    pub name: String,
    /// Which way it looks.
    pub position: Facing,
    /// The system's word for its kind.
    pub device_type: String,
}

/// Where this machine is. What is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lon: f64,
    /// Radius in metres.
    pub accuracy_meters: f64,
    /// Metres above the sea.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altitude_meters: Option<f64>,
    /// Metres a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mps: Option<f64>,
    /// Degrees from north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heading_deg: Option<f64>,
    /// When it was found, ISO 8601.
    pub timestamp: String,
    /// Whether the owner gives exact locations.
    pub is_precise: bool,
}

/// Reads the parameters of a command; none are as good as `{}`.
fn read<T: DeserializeOwned>(params: Option<&str>) -> Result<T, Refusal> {
    let text = params.unwrap_or("{}");
    strict::check(text, limits::STRICT_JSON_DEPTH)
        .map_err(|error| Refusal::invalid(format!("INVALID_REQUEST: the parameters are not JSON: {error}")))?;
    serde_json::from_str(text).map_err(|error| Refusal::invalid(format!("INVALID_REQUEST: {error}")))
}

fn milliseconds(value: Option<f64>, default: u64, least: u64, most: u64) -> Duration {
    let value = value.filter(|value| value.is_finite()).map_or(default, |value| value.max(0.0) as u64);
    Duration::from_millis(value.clamp(least, most))
}

fn quality(value: Option<f64>) -> f64 {
    value.filter(|value| value.is_finite()).unwrap_or(0.9).clamp(0.05, 1.0)
}

fn pixels(value: Option<f64>) -> Option<u32> {
    value.filter(|value| *value >= 1.0).map(|value| (value as u32).min(limits::PICTURE_PIXELS))
}

fn screen(index: Option<i64>) -> Result<usize, Refusal> {
    let bad = |_| Refusal::invalid("INVALID_REQUEST: screenIndex must not be negative");
    usize::try_from(index.unwrap_or(0)).map_err(bad)
}

fn picture_format(word: Option<&str>, default: PictureFormat) -> Result<PictureFormat, Refusal> {
    match word.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(default),
        Some("jpeg" | "jpg") => Ok(PictureFormat::Jpeg),
        Some("png") => Ok(PictureFormat::Png),
        Some(_) => Err(Refusal::invalid("INVALID_REQUEST: format must be jpeg or png")),
    }
}

/// Parameters as they cross the wire, of all commands together: no name means two things.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    execution_id: Option<String>,
    screen_index: Option<i64>,
    max_width: Option<f64>,
    quality: Option<f64>,
    format: Option<String>,
    duration_ms: Option<f64>,
    fps: Option<f64>,
    include_audio: Option<bool>,
    facing: Option<Facing>,
    device_id: Option<String>,
    delay_ms: Option<f64>,
    timeout_ms: Option<f64>,
    max_age_ms: Option<f64>,
    desired_accuracy: Option<Accuracy>,
    url: Option<String>,
    placement: Option<Placement>,
    java_script: Option<String>,
}

impl ScreenSnapshot {
    /// # Errors
    /// What is wrong with the parameters.
    pub fn parse(params: Option<&str>) -> Result<Self, Refusal> {
        let wire: Wire = read(params)?;
        if wire.execution_id.as_ref().is_some_and(|id| !is_uuid(id)) {
            return Err(Refusal::invalid("INVALID_REQUEST: executionId must be a UUID"));
        }
        Ok(Self {
            execution_id: wire.execution_id,
            screen: screen(wire.screen_index)?,
            max_width: pixels(wire.max_width),
            quality: quality(wire.quality),
            format: picture_format(wire.format.as_deref(), PictureFormat::Jpeg)?,
        })
    }
}

/// Whether `text` is a UUID in its usual form.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

impl ScreenRecording {
    /// # Errors
    /// What is wrong with the parameters.
    pub fn parse(params: Option<&str>) -> Result<Self, Refusal> {
        let wire: Wire = read(params)?;
        if wire.format.is_some_and(|format| !format.eq_ignore_ascii_case("mp4")) {
            return Err(Refusal::invalid("INVALID_REQUEST: screen format must be mp4"));
        }
        let fps = wire.fps.filter(|fps| fps.is_finite()).unwrap_or(10.0).clamp(1.0, 60.0);
        Ok(Self {
            screen: screen(wire.screen_index)?,
            duration: milliseconds(wire.duration_ms, 10_000, 250, 60_000),
            fps: fps.round() as u32,
            audio: wire.include_audio.unwrap_or(false),
        })
    }
}

impl CameraSnap {
    /// # Errors
    /// What is wrong with the parameters.
    pub fn parse(params: Option<&str>) -> Result<Self, Refusal> {
        let wire: Wire = read(params)?;
        if picture_format(wire.format.as_deref(), PictureFormat::Jpeg)? != PictureFormat::Jpeg {
            return Err(Refusal::invalid("INVALID_REQUEST: camera format must be jpg"));
        }
        Ok(Self {
            facing: wire.facing.unwrap_or_default(),
            device: wire.device_id.filter(|id| !id.trim().is_empty()),
            max_width: pixels(wire.max_width).unwrap_or(1_600),
            quality: quality(wire.quality),
            delay: milliseconds(wire.delay_ms, 2_000, 0, 10_000),
        })
    }
}

impl LocationGet {
    /// # Errors
    /// What is wrong with the parameters.
    pub fn parse(params: Option<&str>) -> Result<Self, Refusal> {
        let wire: Wire = read(params)?;
        Ok(Self {
            timeout: milliseconds(wire.timeout_ms, 10_000, 1_000, 60_000),
            max_age: wire.max_age_ms.map(|age| milliseconds(Some(age), 0, 0, 24 * 3_600_000)),
            accuracy: wire.desired_accuracy.unwrap_or_default(),
        })
    }
}

impl Canvas {
    /// `command` is one of the `canvas.*` names.
    ///
    /// # Errors
    /// What is wrong with the parameters.
    pub fn parse(command: &str, params: Option<&str>) -> Result<Self, Refusal> {
        let wire: Wire = read(params)?;
        let text = |value: Option<String>, name: &str| {
            let value = value.filter(|text| !text.trim().is_empty());
            value.ok_or_else(|| Refusal::invalid(format!("INVALID_REQUEST: {name} required")))
        };
        Ok(match command {
            name::CANVAS_PRESENT => {
                Self::Present { target: wire.url.filter(|url| !url.trim().is_empty()), placement: wire.placement }
            }
            name::CANVAS_HIDE => Self::Hide,
            name::CANVAS_NAVIGATE => Self::Navigate(text(wire.url, "url")?),
            name::CANVAS_EVAL => Self::Eval(text(wire.java_script, "javaScript")?),
            _ => {
                let format = picture_format(wire.format.as_deref(), PictureFormat::Jpeg)?;
                let usual = if format == PictureFormat::Png { 900 } else { 1_600 };
                let max_width = pixels(wire.max_width).unwrap_or(usual);
                Self::Snapshot { format, max_width, quality: quality(wire.quality) }
            }
        })
    }
}

/// The program that runs AppleScript.
const OSASCRIPT: &str = "/usr/bin/osascript";

/// `system.applescript` {`script`, `timeoutMs?`, `agentId?`, `sessionKey?`} as a run that is asked for whatever policy
/// says: the whole text stands before the person, as any command's.
///
/// # Errors
/// What is wrong with the parameters.
pub fn applescript(params: Option<&str>) -> Result<RunRequest, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Script {
        script: String,
        timeout_ms: Option<u64>,
        agent_id: Option<String>,
        session_key: Option<String>,
    }
    let wire: Script = read(params)?;
    if wire.script.trim().is_empty() || wire.script.len() > limits::SCRIPT_BYTES || wire.script.contains('\0') {
        let most = limits::SCRIPT_BYTES;
        return Err(Refusal::invalid(format!("INVALID_REQUEST: script required, at most {most} bytes without NUL")));
    }
    Ok(RunRequest {
        command: vec![OSASCRIPT.to_owned(), "-e".to_owned(), wire.script],
        timeout_ms: wire.timeout_ms,
        agent_id: wire.agent_id,
        session_key: wire.session_key,
        ask: Some(Ask::Always),
        ..RunRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_move_to_the_nearer_end_of_their_range() {
        let recording = ScreenRecording::parse(Some(r#"{"durationMs": 9e9, "fps": 0.1, "format": "MP4"}"#)).unwrap();
        assert_eq!((recording.duration.as_millis(), recording.fps, recording.audio), (60_000, 1, false));
        let recording = ScreenRecording::parse(None).unwrap();
        assert_eq!((recording.duration.as_millis(), recording.fps, recording.screen), (10_000, 10, 0));
        let snap = CameraSnap::parse(Some(r#"{"quality": 7, "delayMs": -3, "maxWidth": 0}"#)).unwrap();
        assert_eq!((snap.quality, snap.delay.as_millis(), snap.max_width), (1.0, 0, 1_600));
        let get = LocationGet::parse(Some(r#"{"timeoutMs": 1, "desiredAccuracy": "precise"}"#)).unwrap();
        assert_eq!((get.timeout.as_millis(), get.accuracy), (1_000, Accuracy::Precise));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        let refused = |text: &str| ScreenRecording::parse(Some(text)).unwrap_err().message;
        assert_eq!(refused(r#"{"format": "avi"}"#), "INVALID_REQUEST: screen format must be mp4");
        assert!(refused(r#"{"screenIndex": -1}"#).contains("negative"));
        assert!(refused(r#"{"durationMs": "long"}"#).starts_with("INVALID_REQUEST"));
        assert!(refused(r#"{"fps": 1, "fps": 2}"#).contains("not JSON"));
        assert!(refused("[").contains("not JSON"));
        assert!(ScreenSnapshot::parse(Some(r#"{"executionId": "../x"}"#)).is_err());
        assert!(ScreenSnapshot::parse(Some(r#"{"executionId": "5d2e9f19-8c06-4453-8241-c97ee8ec751f"}"#)).is_ok());
        assert!(Canvas::parse(name::CANVAS_NAVIGATE, Some(r#"{"url": " "}"#)).is_err());
        assert!(Canvas::parse(name::CANVAS_EVAL, None).is_err());
    }

    #[test]
    fn a_canvas_snapshot_has_the_width_of_its_format() {
        let width = |params| match Canvas::parse(name::CANVAS_SNAPSHOT, params).unwrap() {
            Canvas::Snapshot { max_width, .. } => max_width,
            other => panic!("{other:?}"),
        };
        assert_eq!((width(None), width(Some(r#"{"format": "png"}"#))), (1_600, 900));
    }
}
