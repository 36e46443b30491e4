//! The Mac's abilities, by the `macos` crate.

use super::abilities::{Abilities, CanvasAnswer, Done, OpenOutside, Power, Trouble};
use super::canvas::{Folder, Page, Target};
use crate::limits;
use crate::log;
use crate::protocol::ability::{
    Accuracy, Bytes, Camera, CameraSnap, Canvas, Facing, Film, Location, LocationGet, Picture, PictureFormat,
    Placement, ScreenRecording, ScreenSnapshot, name,
};
use crate::protocol::text;
use crate::state::StateDir;
use crate::state::store::Store;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use openclaw_macos::camera::{self, CameraError, Position};
use openclaw_macos::image::{self, Encoded, Format};
use openclaw_macos::location::{self, LocationError};
use openclaw_macos::screen::{self, CaptureError, Session, Subject};
use openclaw_macos::web::{self, CanvasError, Served, Site};
use openclaw_macos::{Rect, Size};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// See the module.
pub struct MacAbilities {
    folders: PathBuf,
    frames: Arc<Store<BTreeMap<String, [f64; 4]>>>,
    /// What each session's canvas was last asked to show of the web.
    asked: Arc<Mutex<BTreeMap<String, String>>>,
    /// Sessions whose files are being watched.
    watched: Arc<Mutex<Vec<String>>>,
    outside: OpenOutside,
}

impl MacAbilities {
    /// Canvases live in `Application Support`, where the original has them, or under a state directory of one's own.
    pub fn new(state: &StateDir, home: Option<&std::path::Path>, outside: OpenOutside) -> Self {
        let support = home.map(|home| home.join("Library/Application Support/OpenClaw"));
        let folders = support.filter(|_| cfg!(target_os = "macos")).unwrap_or_else(|| state.documents().to_owned());
        Self {
            folders: folders.join("canvas"),
            frames: Arc::new(Store::new(state.canvas_frames())),
            asked: Arc::default(),
            watched: Arc::default(),
            outside,
        }
    }
}

/// Waits for `time`, or less when `cancel` fires; whether it did.
fn cancelled_within(cancel: &Wake, time: Duration) -> bool {
    match poll::wait(&[(cancel.fd(), Interest::Readable)], poll::deadline_in(time)) {
        Ok(ready) => ready.contains(&true),
        Err(_) => true,
    }
}

fn format(format: PictureFormat, quality: f64) -> Format {
    match format {
        PictureFormat::Png => Format::Png,
        PictureFormat::Jpeg => Format::Jpeg(quality),
    }
}

fn picture(format: PictureFormat, encoded: Encoded) -> Picture {
    Picture { format, bytes: Bytes(encoded.bytes), width: encoded.width, height: encoded.height }
}

impl From<CaptureError> for Trouble {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Missing(missing) => Self::NotHere(missing.to_string()),
            CaptureError::NotFound => Self::Invalid("there is no such screen".to_owned()),
            CaptureError::TimedOut => Self::Timeout("SCREEN", error.to_string()),
            CaptureError::Declined => Self::Permission(
                "SCREEN_RECORDING",
                "macOS says no; look at System Settings, Screen Recording".to_owned(),
            ),
            CaptureError::Failed(words) => Self::Failed("SCREEN", words),
            CaptureError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<CameraError> for Trouble {
    fn from(error: CameraError) -> Self {
        match error {
            CameraError::Missing(missing) => Self::NotHere(missing.to_string()),
            CameraError::NotFound => Self::Invalid("there is no such camera; camera.list has their ids".to_owned()),
            CameraError::TimedOut => Self::Timeout("CAMERA", error.to_string()),
            CameraError::Failed(words) => Self::Failed("CAMERA", words),
            CameraError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<LocationError> for Trouble {
    fn from(error: LocationError) -> Self {
        match error {
            LocationError::Missing(missing) => Self::NotHere(missing.to_string()),
            LocationError::Denied => Self::Permission("LOCATION", "Location Services do not allow it".to_owned()),
            LocationError::TimedOut => Self::Timeout("LOCATION", error.to_string()),
            LocationError::Failed(words) => Self::Failed("LOCATION", words),
        }
    }
}

impl From<CanvasError> for Trouble {
    fn from(error: CanvasError) -> Self {
        match error {
            CanvasError::Missing(missing) => Self::NotHere(missing.to_string()),
            CanvasError::NotShown => Self::Invalid(error.to_string()),
            CanvasError::TimedOut => Self::Timeout("CANVAS", error.to_string()),
            CanvasError::Failed(words) => Self::Failed("CANVAS", words),
        }
    }
}

impl Abilities for MacAbilities {
    fn has(&self, command: &str) -> bool {
        match command {
            name::SCREEN_SNAPSHOT => screen::can_capture(),
            name::SCREEN_RECORD => screen::can_record(),
            name::CAMERA_LIST | name::CAMERA_SNAP => camera::is_here(),
            name::LOCATION_GET => location::is_here(),
            name::DEVICE_INFO | name::DEVICE_STATUS | name::APPLESCRIPT => true,
            canvas => canvas.starts_with("canvas.") && web::is_here(),
        }
    }

    fn session(&self) -> Done {
        match screen::session() {
            Session::Active => Ok(()),
            Session::Locked => Err(Trouble::NoSession("the screen is locked".to_owned())),
            Session::Away => Err(Trouble::NoSession("another user is at this Mac".to_owned())),
            Session::None => Err(Trouble::NoSession("nobody is logged in at this Mac's screen".to_owned())),
        }
    }

    fn screen_snapshot(&self, request: &ScreenSnapshot, _cancel: &Wake) -> Done<Picture> {
        let most = f64::from(request.max_width.unwrap_or(limits::PICTURE_PIXELS));
        let scale_to = move |width: f64, height: f64| {
            let factor = (most / width).min(1.0);
            (width * factor, height * factor)
        };
        let how = format(request.format, request.quality);
        let deadline = Instant::now() + limits::ABILITY_WAIT;
        Ok(picture(request.format, screen::capture(Subject::Display(request.screen), scale_to, how, deadline)?))
    }

    fn screen_record(&self, request: &ScreenRecording, cancel: &Wake) -> Done<Film> {
        let file = TemporaryFile::new("mp4");
        screen::record(
            request.screen,
            request.duration,
            request.fps,
            request.audio,
            &file.0,
            limits::ABILITY_WAIT,
            |time| cancelled_within(cancel, time),
        )?;
        let unreadable = |error: std::io::Error| Trouble::Failed("SCREEN", format!("the film cannot be read: {error}"));
        let length = file.0.metadata().map_err(unreadable)?.len();
        if length > limits::ABILITY_BYTES as u64 {
            let most = limits::ABILITY_BYTES;
            return Err(Trouble::Invalid(format!(
                "the film has {length} bytes, at most {most} fit; ask for less time"
            )));
        }
        let bytes = Bytes(std::fs::read(&file.0).map_err(unreadable)?);
        Ok(Film { bytes, has_audio: request.audio })
    }

    fn cameras(&self) -> Done<Vec<Camera>> {
        let cameras = camera::cameras().map_err(|missing| Trouble::NotHere(missing.to_string()))?;
        let described = |camera: camera::Camera| Camera {
            position: match camera.position {
                Position::Front => Facing::Front,
                Position::Back => Facing::Back,
                Position::Unspecified => Facing::Unspecified,
            },
            id: camera.id,
            name: camera.name,
            device_type: camera.kind,
        };
        Ok(cameras.into_iter().map(described).collect())
    }

    fn camera_snap(&self, request: &CameraSnap, cancel: &Wake) -> Done<Picture> {
        let cameras = self.cameras()?;
        let chosen = match &request.device {
            // Another camera than the one named would show what nobody asked for.
            Some(id) => cameras.iter().find(|camera| camera.id == *id),
            None => cameras.iter().find(|camera| camera.position == request.facing).or(cameras.first()),
        };
        let chosen = chosen.ok_or(CameraError::NotFound)?;
        let sleep = |time| cancelled_within(cancel, time);
        let file = camera::snap(&chosen.id, request.delay, limits::ABILITY_WAIT, sleep)?;
        let missing = |missing: openclaw_macos::Missing| Trouble::NotHere(missing.to_string());
        for (width, quality) in shrinking(request.max_width, request.quality) {
            let encoded = image::shrink(&file, width, Format::Jpeg(quality)).map_err(missing)?;
            let encoded = encoded.ok_or_else(|| Trouble::Failed("CAMERA", "the picture cannot be read".to_owned()))?;
            if encoded.bytes.len() <= limits::CAMERA_BYTES {
                return Ok(picture(PictureFormat::Jpeg, encoded));
            }
        }
        Err(Trouble::Failed("CAMERA", "the picture does not get small enough".to_owned()))
    }

    fn location(&self, request: &LocationGet, _cancel: &Wake) -> Done<Location> {
        // Metres, as Core Location's own constants.
        let meters = match request.accuracy {
            Accuracy::Coarse => 1_000.0,
            Accuracy::Balanced => 100.0,
            Accuracy::Precise => -1.0,
        };
        let place = location::locate(meters, request.max_age, request.timeout)?;
        Ok(Location {
            lat: place.latitude,
            lon: place.longitude,
            accuracy_meters: place.accuracy,
            altitude_meters: place.altitude,
            speed_mps: place.speed,
            heading_deg: place.course,
            timestamp: text::utc(milliseconds(place.at)),
            is_precise: place.precise,
        })
    }

    fn power(&self) -> Power {
        let (low_power_mode, thermal) = openclaw_macos::foundation::power();
        Power { low_power_mode, thermal: u8::try_from(thermal).unwrap_or(0) }
    }

    fn canvas(&self, session: &str, call: &Canvas, _cancel: &Wake) -> Done<CanvasAnswer> {
        let patience = limits::ABILITY_WAIT;
        match call {
            Canvas::Present { target, placement } => self.show(session, target.as_deref(), *placement, true),
            Canvas::Navigate(target) => self.show(session, Some(target), None, false),
            Canvas::Hide => {
                self.watched.lock().unwrap_or_else(PoisonError::into_inner).retain(|watched| watched != session);
                web::hide(session, patience)?;
                Ok(CanvasAnswer::Done)
            }
            Canvas::Eval(script) if script.len() > limits::SCRIPT_BYTES => {
                Err(Trouble::Invalid(format!("javaScript is longer than {} bytes", limits::SCRIPT_BYTES)))
            }
            Canvas::Eval(script) => Ok(CanvasAnswer::Text(web::evaluate(session, script, patience)?)),
            Canvas::Snapshot { format: kind, max_width, quality } => {
                let encoded = web::snapshot(session, *max_width, format(*kind, *quality), patience)?;
                Ok(CanvasAnswer::Picture(picture(*kind, encoded)))
            }
        }
    }
}

impl MacAbilities {
    fn show(
        &self,
        session: &str,
        target: Option<&str>,
        placement: Option<Placement>,
        home: bool,
    ) -> Done<CanvasAnswer> {
        let folder = Folder::open(&self.folders, session)
            .map_err(|error| Trouble::Failed("CANVAS", format!("its folder cannot be made: {error}")))?;
        // The first time there is nothing yet to stay at.
        let is_first =
            !self.watched.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known == session);
        let target = target.or((home && is_first).then_some("/"));
        let url = match target.map(|target| folder.target(target)).transpose().map_err(Trouble::Invalid)? {
            None => None,
            Some(Target::Own(url)) => Some(url),
            Some(Target::Web(url)) => {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                if asked.len() >= limits::CANVAS_FRAMES {
                    asked.clear();
                }
                asked.insert(session.to_owned(), url.clone());
                Some(url)
            }
        };
        let remembered = self.frames.load().unwrap_or_default().remove(session);
        let site = Arc::new(CanvasSite {
            folder: folder.clone(),
            session: session.to_owned(),
            asked: Arc::clone(&self.asked),
            outside: Arc::clone(&self.outside),
        });
        let placed = move |now: Rect| {
            let before = remembered.filter(|_| is_first).map_or(now, rect_of);
            placement.map_or(before, |wanted| place(before, wanted))
        };
        let frame = web::present(session, site, url, placed, limits::ABILITY_WAIT)?;
        self.remember(session, frame);
        self.watch(session, folder);
        Ok(CanvasAnswer::Done)
    }

    fn remember(&self, session: &str, frame: Rect) {
        let Rect { origin, size } = frame;
        let kept = self.frames.update(|frames| {
            if frames.len() < limits::CANVAS_FRAMES || frames.contains_key(session) {
                frames.insert(session.to_owned(), [origin.x, origin.y, size.width, size.height]);
            }
        });
        if let Err(error) = kept {
            log!("canvas", "its place is not remembered: {error}");
        }
    }

    /// Loads a canvas again when its files change, until it is hidden. One thread for each that is shown.
    fn watch(&self, session: &str, folder: Folder) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.iter().any(|known| known == session) || watched.len() >= limits::CANVAS_FRAMES {
            return;
        }
        watched.push(session.to_owned());
        let (shown, session) = (Arc::clone(&self.watched), session.to_owned());
        let looks = move || {
            let mut before = folder.stamp();
            while shown.lock().unwrap_or_else(PoisonError::into_inner).contains(&session) {
                thread::sleep(limits::CANVAS_LOOK);
                let now = folder.stamp();
                if now != before && web::reload(&session).is_err() {
                    return;
                }
                before = now;
            }
        };
        if thread::Builder::new().name("canvas".into()).stack_size(limits::WORKER_STACK_BYTES).spawn(looks).is_err() {
            log!("canvas", "no thread is left to watch its files");
        }
    }
}

struct CanvasSite {
    folder: Folder,
    session: String,
    asked: Arc<Mutex<BTreeMap<String, String>>>,
    outside: OpenOutside,
}

impl Site for CanvasSite {
    fn serve(&self, url: &str) -> Served {
        let Page { status, mime, policy, bytes } = self.folder.serve(url);
        Served { status, mime: mime.to_owned(), policy: policy.to_owned(), bytes }
    }

    fn may_open(&self, url: &str) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&self.session).cloned();
        let may = self.folder.may_open(url, asked.as_deref());
        if !may && (url.starts_with("https://") || url.starts_with("http://")) {
            (self.outside)(url.to_owned());
        }
        may
    }
}

fn milliseconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn rect_of([x, y, width, height]: [f64; 4]) -> Rect {
    Rect { origin: openclaw_macos::Point { x, y }, size: Size { width, height } }
}

/// What `wanted` says, and for the rest `before`.
fn place(before: Rect, wanted: Placement) -> Rect {
    let Rect { origin, size } = before;
    rect_of([
        wanted.x.unwrap_or(origin.x),
        wanted.y.unwrap_or(origin.y),
        wanted.width.unwrap_or(size.width),
        wanted.height.unwrap_or(size.height),
    ])
}

/// Widths and qualities to try until a picture is small enough: first less quality, then smaller. Source: mac-app (1.10).
fn shrinking(width: u32, quality: f64) -> impl Iterator<Item = (u32, f64)> {
    let least = (0.35 * quality).max(0.2).min(quality);
    let qualities = std::iter::successors(Some(quality), move |last| (*last > least).then(|| (last * 0.75).max(least)));
    let sizes = std::iter::successors(Some(f64::from(width)), |last| Some((last * 0.85).max(256.0))).skip(1).take(6);
    qualities.map(move |quality| (width, quality)).chain(sizes.map(move |width| (width as u32, least)))
}

/// A file of ours that is gone when this is dropped.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(extension: &str) -> Self {
        let name = format!("openclaw-{}.{extension}", crate::identity::random::uuid());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been made.
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_loses_quality_before_it_loses_size() {
        let tries: Vec<_> = shrinking(1_600, 0.9).collect();
        assert_eq!(tries[0], (1_600, 0.9));
        let first_smaller = tries.iter().position(|(width, _)| *width < 1_600).unwrap();
        assert!(tries[..first_smaller].windows(2).all(|pair| pair[1].1 < pair[0].1));
        assert!((tries[first_smaller - 1].1 - 0.315).abs() < 1e-9);
        assert_eq!(tries.len() - first_smaller, 6);
        assert!(tries.iter().all(|(width, _)| *width >= 256));
        assert_eq!(shrinking(100, 0.05).next(), Some((100, 0.05)));
    }

    #[test]
    fn a_placement_overrides_only_what_it_says() {
        let before = rect_of([1.0, 2.0, 3.0, 4.0]);
        assert_eq!(place(before, Placement { y: Some(9.0), ..Placement::default() }), rect_of([1.0, 9.0, 3.0, 4.0]));
    }
}
