use super::*;
use crate::desktop::permissions::tests::Scripted as Granted;
use crate::protocol::ability::{Bytes, Camera, Facing, PictureFormat};
use crate::state::{Environment, StateDir};
use std::path::PathBuf;
use std::sync::Mutex;

/// A desktop that has everything and says what it was asked.
#[derive(Default)]
struct Scripted {
    asked: Mutex<Vec<String>>,
    bytes: usize,
    trouble: Option<Trouble>,
    locked: bool,
    lacks: Option<&'static str>,
}

impl Scripted {
    fn did(&self, what: String) -> Done {
        self.asked.lock().unwrap().push(what);
        self.trouble.clone().map_or(Ok(()), Err)
    }

    fn picture(&self) -> Picture {
        Picture { format: PictureFormat::Jpeg, bytes: Bytes(vec![7; self.bytes]), width: 4, height: 3 }
    }
}

impl Abilities for Scripted {
    fn has(&self, command: &str) -> bool {
        self.lacks != Some(command)
    }
    fn session(&self) -> Done {
        if self.locked { Err(Trouble::NoSession("the screen is locked".to_owned())) } else { Ok(()) }
    }
    fn screen_snapshot(&self, request: &ScreenSnapshot, _: &Wake) -> Done<Picture> {
        self.did(format!("{request:?}")).map(|()| self.picture())
    }
    fn screen_record(&self, request: &ScreenRecording, _: &Wake) -> Done<Film> {
        self.did(format!("{request:?}"))?;
        Ok(Film { bytes: Bytes(vec![1; self.bytes]), has_audio: request.audio })
    }
    fn cameras(&self) -> Done<Vec<Camera>> {
        let (id, name) = ("0x1".to_owned(), "Built-in".to_owned());
        Ok(vec![Camera { id, name, position: Facing::Front, device_type: "wide".to_owned() }])
    }
    fn camera_snap(&self, request: &CameraSnap, _: &Wake) -> Done<Picture> {
        self.did(format!("{request:?}")).map(|()| self.picture())
    }
    fn location(&self, _: &LocationGet, _: &Wake) -> Done<Location> {
        let (lat, lon, accuracy_meters, altitude_meters) = (48.208_49, 16.372_08, 12.5, Some(182.0));
        let timestamp = "2026-01-03T12:34:56.000Z".to_owned();
        Ok(Location { lat, lon, accuracy_meters, altitude_meters, timestamp, is_precise: true, ..Location::default() })
    }
    fn canvas(&self, session: &str, call: &Canvas, _: &Wake) -> Done<CanvasAnswer> {
        self.did(format!("{session} {call:?}"))?;
        Ok(match call {
            Canvas::Eval(_) => CanvasAnswer::Text("42".to_owned()),
            Canvas::Snapshot { .. } => CanvasAnswer::Picture(self.picture()),
            _ => CanvasAnswer::Done,
        })
    }
}

struct House {
    directory: PathBuf,
    state: StateDir,
    granted: Arc<Granted>,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn house() -> House {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("oc-ab-{}-{count}", std::process::id()));
    let environment = Environment { state_dir: Some(directory.join("s")), ..Environment::default() };
    let state = StateDir::locate(&environment).unwrap();
    state.prepare().unwrap();
    let granted = Arc::new(Granted::default());
    for capability in [Capability::ScreenRecording, Capability::Camera, Capability::Location] {
        granted.set(capability, Grant::Granted);
    }
    // As on a Mac, where the system asks for the screen.
    Switches::new(&state).set(Switch::Screen, true).unwrap();
    House { directory, state, granted }
}

impl House {
    fn host(&self, backend: Scripted) -> (AbilityHost, Arc<Scripted>) {
        let backend = Arc::new(backend);
        let permissions = Arc::clone(&self.granted) as _;
        (AbilityHost::new(Arc::clone(&backend) as _, permissions, Switches::new(&self.state)), backend)
    }

    fn all_on(&self) {
        for switch in Switch::ALL {
            Switches::new(&self.state).set(switch, true).unwrap();
        }
    }
}

fn call(host: &AbilityHost, command: &str, params: &str) -> Result<Value, NodeError> {
    let cancel = Wake::new().unwrap();
    let answer = host.perform(command, Some(params), Some("agent:main:x/../y"), &cancel).unwrap();
    answer.map(|text| serde_json::from_str(&text).unwrap())
}

fn message(error: NodeError) -> String {
    format!("{} {}", error.code.unwrap(), error.message.unwrap())
}

#[test]
fn what_is_declared_follows_backend_switch_and_permission() {
    let house = house();
    let (host, _) = house.host(Scripted { lacks: Some(name::SCREEN_RECORD), ..Scripted::default() });
    let commands = |host: &AbilityHost| host.surface().commands;
    let before = commands(&host);
    assert!(before.contains(&name::SCREEN_SNAPSHOT.to_owned()) && before.contains(&name::CANVAS_EVAL.to_owned()));
    assert!(!before.contains(&name::SCREEN_RECORD.to_owned()), "the backend lacks it");
    assert!(!before.iter().any(|name| name.starts_with("camera.")), "the camera is off unless the owner says so");
    assert!(!before.contains(&name::LOCATION_GET.to_owned()) && !before.contains(&name::APPLESCRIPT.to_owned()));
    house.all_on();
    assert!(commands(&host).contains(&name::CAMERA_SNAP.to_owned()), "a switch counts at once");
    house.granted.set(Capability::Camera, Grant::Denied);
    let after = host.surface();
    assert!(!after.commands.contains(&name::CAMERA_SNAP.to_owned()), "a withdrawn permission counts at once");
    assert!(after.commands.contains(&name::CAMERA_LIST.to_owned()) && after.caps.contains(&"camera".to_owned()));
}

#[test]
fn each_refusal_has_its_code() {
    let house = house();
    let (host, backend) = house.host(Scripted::default());
    let refused = |command, params| message(call(&host, command, params).unwrap_err());
    let off = "UNAVAILABLE CAMERA_DISABLED: enable Camera in Settings (`openclaw mac-debug switch camera on`)";
    assert_eq!(refused(name::CAMERA_SNAP, "{}"), off);
    assert!(refused(name::LOCATION_GET, "{}").starts_with("UNAVAILABLE LOCATION_DISABLED"));
    house.granted.set(Capability::ScreenRecording, Grant::NotDetermined);
    assert!(refused(name::SCREEN_SNAPSHOT, "{}").starts_with("UNAVAILABLE SCREEN_RECORDING_PERMISSION_REQUIRED"));
    house.granted.set(Capability::ScreenRecording, Grant::Granted);
    assert!(refused(name::SCREEN_RECORD, r#"{"format":"gif"}"#).starts_with("INVALID_REQUEST"));
    Switches::new(&house.state).set(Switch::Canvas, false).unwrap();
    assert!(refused(name::CANVAS_HIDE, "{}").starts_with("UNAVAILABLE CANVAS_DISABLED: enable Canvas in Settings"));
    assert!(backend.asked.lock().unwrap().is_empty(), "nothing that was refused reached the desktop");
    let (host, _) = house.host(Scripted { locked: true, ..Scripted::default() });
    let locked = message(call(&host, name::SCREEN_SNAPSHOT, "{}").unwrap_err());
    assert!(locked.contains("DESKTOP_UNAVAILABLE: the screen is locked"), "{locked}");
    let trouble = Some(Trouble::Failed("CAMERA", "it was unplugged".to_owned()));
    house.all_on();
    let (host, _) = house.host(Scripted { trouble, ..Scripted::default() });
    assert!(
        message(call(&host, name::CAMERA_SNAP, "{}").unwrap_err()).contains("CAMERA_UNAVAILABLE: it was unplugged")
    );
}

#[test]
fn results_have_the_shapes_of_the_original() {
    let house = house();
    house.all_on();
    let (host, backend) = house.host(Scripted { bytes: 3, ..Scripted::default() });
    let snapshot = call(&host, name::SCREEN_SNAPSHOT, r#"{"screenIndex": 1}"#).unwrap();
    assert_eq!((&snapshot["format"], &snapshot["base64"]), (&json!("jpeg"), &json!("BwcH")));
    assert_eq!((&snapshot["width"], &snapshot["screenIndex"]), (&json!(4), &json!(1)));
    let film = call(&host, name::SCREEN_RECORD, r#"{"durationMs": 300, "fps": 5, "includeAudio": true}"#).unwrap();
    let expected =
        json!({"format": "mp4", "base64": "AQEB", "durationMs": 300, "fps": 5, "screenIndex": 0, "hasAudio": true});
    assert_eq!(film, expected);
    let cameras = call(&host, name::CAMERA_LIST, "{}").unwrap();
    let camera = json!({"id": "0x1", "name": "Built-in", "position": "front", "deviceType": "wide"});
    assert_eq!(cameras, json!({"devices": [camera]}));
    assert_eq!(call(&host, name::CAMERA_SNAP, "{}").unwrap()["format"], "jpg");
    assert_eq!(call(&host, name::CANVAS_EVAL, r#"{"javaScript": "6*7"}"#).unwrap(), json!({"result": "42"}));
    assert_eq!(call(&host, name::CANVAS_SNAPSHOT, "{}").unwrap(), json!({"format": "jpeg", "base64": "BwcH"}));
    let asked = backend.asked.lock().unwrap();
    assert!(
        asked.iter().any(|what| what.starts_with("agentmainxy Eval")),
        "a session's name cannot leave its folder: {asked:?}"
    );
}

#[test]
fn a_location_is_as_exact_as_the_owner_allows() {
    let house = house();
    house.all_on();
    let (host, _) = house.host(Scripted::default());
    let exact = call(&host, name::LOCATION_GET, "{}").unwrap();
    assert_eq!(
        (&exact["lat"], &exact["altitudeMeters"], &exact["isPrecise"]),
        (&json!(48.208_49), &json!(182.0), &json!(true))
    );
    Switches::new(&house.state).set(Switch::PreciseLocation, false).unwrap();
    let blurred = call(&host, name::LOCATION_GET, "{}").unwrap();
    assert_eq!(
        (&blurred["lat"], &blurred["lon"], &blurred["isPrecise"]),
        (&json!(48.21), &json!(16.37), &json!(false))
    );
    assert!(blurred.get("altitudeMeters").is_none() && blurred["accuracyMeters"].as_f64() >= Some(1_000.0));
}

#[test]
fn a_result_that_no_frame_holds_is_refused_with_what_to_do() {
    let house = house();
    let (host, _) = house.host(Scripted { bytes: limits::ABILITY_BYTES + 1, ..Scripted::default() });
    let error = message(call(&host, name::SCREEN_SNAPSHOT, "{}").unwrap_err());
    assert!(error.starts_with("INVALID_REQUEST") && error.contains("ask for less"), "{error}");
}

#[test]
fn a_broken_document_of_switches_leaves_everything_off() {
    let house = house();
    house.all_on();
    std::fs::write(house.state.switches(), "{").unwrap();
    let (host, _) = house.host(Scripted::default());
    let commands = host.surface().commands;
    assert!(!commands.iter().any(|name| name.starts_with("camera.") || name.starts_with("canvas.")), "{commands:?}");
}

#[test]
fn only_so_many_are_at_work_at_once() {
    let taken = AtomicUsize::new(0);
    let places: Vec<_> = (0..limits::ABILITIES_AT_ONCE).map(|_| Place::take(&taken).unwrap()).collect();
    assert!(Place::take(&taken).is_none());
    drop(places);
    assert!(Place::take(&taken).is_some());
}
