//! What agents come for beside commands, through the real gateway: declared exactly when it works, refused with the right
//! words otherwise. By the app on a virtual X server, and by a node whose desktop this test plays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;
#[cfg(target_os = "linux")]
mod support_x11;

use openclaw::client::{ConnectOptions, Connection, Credentials, Endpoint, Role};
use openclaw::desktop::abilities::{Abilities, CanvasAnswer, Done, Trouble};
use openclaw::desktop::permissions::{Capability, Grant, Permissions};
use openclaw::exec::analysis::Host;
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::identity::device::DeviceKey;
use openclaw::identity::secret::Secret;
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use openclaw::node::{self, AbilityHost, ExecHost, NodeOptions};
use openclaw::protocol::ability::{
    Bytes, Camera, CameraSnap, Canvas, Facing, Film, Location, LocationGet, Picture, PictureFormat, ScreenRecording,
    ScreenSnapshot,
};
use openclaw::protocol::connect::ClientInfo;
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::paths::DeviceOwner;
use openclaw::state::switches::{Switch, Switches};
use openclaw::state::{Environment, StateDir, device_key};
use openclaw::sys::wake::Wake;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
#[cfg(target_os = "linux")]
use std::time::Duration;
#[cfg(target_os = "linux")]
use support::Pty;
use support::{Client, Gateway, Options, TOKEN, wait_until};
use support_exec::*;

const APPLESCRIPT: &str = "system.applescript";
/// What the gateway's owner must allow by name. Source: spec mac-app (1.10)
const DANGEROUS: [&str; 3] = ["camera.snap", "screen.record", APPLESCRIPT];

fn state_of(directory: &Path) -> StateDir {
    let state = Environment { state_dir: Some(directory.to_owned()), ..Environment::default() };
    StateDir::locate(&state).unwrap()
}

fn credentials(token: &str) -> Credentials {
    Credentials { token: Some(Secret::new(token.to_owned())), ..Credentials::default() }
}

// ---- the app on an X server ----

/// The one node of the app's gateway.
fn own_node(scratch: &Scratch) -> Value {
    let nodes = scratch.mac_debug(&["nodes", "--json"]).json();
    nodes.as_array().or_else(|| nodes["nodes"].as_array()).unwrap()[0].clone()
}

fn offers(scratch: &Scratch, command: &str) -> bool {
    own_node(scratch)["commands"].as_array().unwrap().contains(&json!(command))
}

#[cfg(target_os = "linux")]
fn becomes(scratch: &Scratch, command: &str, offered: bool) {
    wait_until(&format!("{command} is {offered}"), || {
        let node = own_node(scratch);
        let is = node["commands"].as_array().unwrap().contains(&json!(command));
        (is == offered && node["connected"] == true).then_some(())
    });
}

#[cfg(target_os = "linux")]
#[test]
fn screen_snapshot_is_what_is_on_the_screen_and_only_when_its_owner_wants_it() {
    let Some(display) = support_x11::Display::start("640x480x24") else { return };
    display.tool("xsetroot", &["-solid", "#336699"]);
    let scratch = Scratch::new();
    let mut command = scratch.openclaw(APP);
    command.env("DISPLAY", &display.name);
    let _app = App::start_with(&scratch, command);
    wait_for_node(&scratch);
    assert!(!offers(&scratch, "screen.snapshot"), "X11 has no permission of its own, so it is off at first");
    let snap = |params: &str| scratch.mac_debug(&["invoke", "screen.snapshot", params, "--json"]);
    let refused = snap("{}");
    assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused:?}");

    // Switching on says what that means, and is not done by the way (H25).
    let unasked = scratch.mac_debug(&["switch", "screen", "on"]);
    assert!(unasked.code != Some(0) && unasked.stderr.contains("see what is on the screen"), "{unasked:?}");
    assert_eq!(scratch.mac_debug(&["switch", "screen", "--json"]).json(), json!({"switches": {"screen": false}}));
    assert_eq!(scratch.mac_debug(&["switch", "screen", "on", "--yes"]).code, Some(0));
    let all = scratch.mac_debug(&["switch", "--json"]).json();
    assert_eq!((&all["switches"]["screen"], &all["switches"]["camera"]), (&json!(true), &json!(false)));
    becomes(&scratch, "screen.snapshot", true);
    assert_eq!(own_node(&scratch)["approvalState"], "approved", "handed over by a call in the app's own process");
    assert!(!scratch.mac_debug(&["pair", "list", "--json"]).stdout.contains("requestId"));
    for word in [&["switch", "telescope"][..], &["switch", "screen", "maybe"], &["switch", "screen", "on", "x"]] {
        assert_eq!(scratch.mac_debug(word).code, Some(2), "{word:?}");
    }

    let picture = |params: &str| {
        let finished = snap(params);
        assert_eq!(finished.code, Some(0), "{params}: {finished:?}");
        let answer = finished.json();
        let payload = if answer["payload"].is_object() { answer["payload"].clone() } else { answer };
        let bytes = data_encoding::BASE64.decode(payload["base64"].as_str().unwrap().as_bytes()).unwrap();
        (payload, support_x11::png::decode(&bytes))
    };
    let (payload, (width, height, pixels)) = picture(r#"{"format": "jpeg"}"#);
    assert_eq!((&payload["format"], &payload["screenIndex"]), (&json!("png"), &json!(0)), "it says what it is");
    assert_eq!((&payload["width"], &payload["height"]), (&json!(640), &json!(480)));
    assert!(payload["capturedAtMs"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!((width, height), (640, 480));
    assert!(pixels.iter().all(|pixel| *pixel == [0x33, 0x66, 0x99]));
    let (payload, (width, height, pixels)) = picture(r#"{"maxWidth": 320}"#);
    assert_eq!((width, height, &payload["width"]), (320, 240, &json!(320)));
    assert!(pixels.iter().all(|pixel| *pixel == [0x33, 0x66, 0x99]));
    for (params, why) in [
        (r#"{"screenIndex": 5}"#, "there is no screen 5"),
        (r#"{"screenIndex": -1}"#, "must not be negative"),
        (r#"{"maxWidth": "wide"}"#, "INVALID_REQUEST"),
        (r#"{"format": "gif"}"#, "format must be jpeg or png"),
        (r#"{"executionId": "../../x"}"#, "must be a UUID"),
    ] {
        let refused = snap(params);
        assert!(refused.code != Some(0) && words_of(&refused).contains(why), "{params}: {refused:?}");
    }
    // What this desktop does not have is not there, whatever is switched on.
    scratch.mac_debug(&["switch", "camera", "on", "--yes"]);
    for command in ["camera.snap", "canvas.present", "location.get", "screen.record", APPLESCRIPT, "device.info"] {
        let refused = scratch.mac_debug(&["invoke", command, "{}"]);
        assert!(refused.code != Some(0) && !offers(&scratch, command), "{command}: {refused:?}");
    }

    // Off counts at once, before the gateway hears of it.
    assert_eq!(scratch.mac_debug(&["switch", "screen", "off"]).code, Some(0));
    let off = snap("{}");
    assert!(off.code != Some(0) && off.stdout.is_empty(), "{off:?}");
    becomes(&scratch, "screen.snapshot", false);
    let audit = std::fs::read_to_string(scratch.state().join("audit.jsonl")).unwrap();
    assert!(audit.contains("switch screen on") && audit.contains("switch screen off"), "{audit}");
    scratch.mac_debug(&["switch", "screen", "on", "--yes"]);
    becomes(&scratch, "screen.snapshot", true);
    // Nor is it offered when the X server is gone.
    drop(display);
    becomes(&scratch, "screen.snapshot", false);
}

/// A42, A50: the device key of the app alone gets nothing that is not on in the app now.
#[test]
fn sec_a42_a50_another_process_with_the_apps_key_gets_no_larger_surface() {
    let scratch = Scratch::new();
    let _app = App::start(&scratch);
    wait_for_node(&scratch);
    let config: Value = serde_json::from_slice(&std::fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let state = state_of(&scratch.state());
    let device = Arc::new(device_key::load_or_create(&state.device_key(DeviceOwner::App)).unwrap());
    let mut surface = node::surface();
    surface.commands.push("screen.snapshot".to_owned());
    surface.caps.push("screen".to_owned());
    let options = ConnectOptions {
        client: NodeOptions::app(own_node(&scratch)["displayName"].as_str().unwrap().to_owned(), device.id()),
        role: Role::Node,
        scopes: Vec::new(),
        surface,
        path_env: None,
        credentials: credentials(config["gateway"]["auth"]["token"].as_str().unwrap()),
        device: Some(device),
        pins: None,
    };
    let endpoint = Endpoint::Socket(scratch.state().join("gateway.sock"));
    let connection = Connection::open(&endpoint, &options, Box::new(|_, _, _| {})).unwrap();
    assert!(!offers(&scratch, "screen.snapshot"));
    let refused = scratch.mac_debug(&["invoke", "screen.snapshot", "{}"]);
    assert!(refused.code != Some(0), "{refused:?}");
    let pending = scratch.mac_debug(&["pair", "list", "--json"]).json();
    assert!(pending.to_string().contains("screen.snapshot"), "it waits for a person: {pending}");
    drop(connection);
}

// ---- a node whose desktop this test plays ----

/// A new one each time.
fn key() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("k{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Default)]
struct Desktop {
    trouble: Mutex<Option<Trouble>>,
    grants: Mutex<BTreeMap<Capability, Grant>>,
    asked: Mutex<Vec<String>>,
}

impl Desktop {
    fn did(&self, what: &str) -> Done {
        self.asked.lock().unwrap().push(what.to_owned());
        self.trouble.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn picture(&self, what: &str, format: PictureFormat) -> Done<Picture> {
        self.did(what).map(|()| Picture { format, bytes: Bytes(vec![1, 2, 3]), width: 4, height: 3 })
    }
}

impl Abilities for Desktop {
    fn has(&self, _command: &str) -> bool {
        true
    }
    fn screen_snapshot(&self, request: &ScreenSnapshot, _: &Wake) -> Done<Picture> {
        self.picture("screen.snapshot", request.format)
    }
    fn screen_record(&self, request: &ScreenRecording, _: &Wake) -> Done<Film> {
        self.did("screen.record").map(|()| Film { bytes: Bytes(vec![9]), has_audio: request.audio })
    }
    fn cameras(&self) -> Done<Vec<Camera>> {
        let (id, name, device_type) = ("0x1".to_owned(), "Built-in".to_owned(), "builtInWideAngle".to_owned());
        Ok(vec![Camera { id, name, position: Facing::Front, device_type }])
    }
    fn camera_snap(&self, _: &CameraSnap, _: &Wake) -> Done<Picture> {
        self.picture("camera.snap", PictureFormat::Jpeg)
    }
    fn location(&self, _: &LocationGet, _: &Wake) -> Done<Location> {
        self.did("location.get")?;
        let timestamp = "2026-01-03T12:34:56.000Z".to_owned();
        Ok(Location { lat: 48.2, lon: 16.4, accuracy_meters: 5.0, timestamp, is_precise: true, ..Location::default() })
    }
    fn canvas(&self, session: &str, call: &Canvas, _: &Wake) -> Done<CanvasAnswer> {
        self.did(&format!("canvas of {session}"))?;
        Ok(match call {
            Canvas::Eval(script) => CanvasAnswer::Text(format!("did {script}")),
            Canvas::Snapshot { format, .. } => CanvasAnswer::Picture(self.picture("canvas", *format)?),
            _ => CanvasAnswer::Done,
        })
    }
}

impl Permissions for Desktop {
    fn status(&self, capability: Capability) -> Grant {
        self.grants.lock().unwrap().get(&capability).copied().unwrap_or(Grant::Granted)
    }
    fn request(&self, capability: Capability) -> Grant {
        panic!("a node made the system ask for {capability:?}");
    }
}

/// A node in this process, of another gateway process.
struct Played {
    id: String,
    desktop: Arc<Desktop>,
    switches: Switches,
    stop: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Played {
    /// A Mac with everything switched on, its surface approved; what runs commands is the app of `scratch`.
    fn start(gateway: &Gateway, scratch: &Scratch) -> Self {
        let state = state_of(&scratch.join("node"));
        state.prepare().unwrap();
        let (desktop, switches) = (Arc::new(Desktop::default()), || Switches::new(&state));
        for switch in Switch::ALL {
            switches().set(switch, true).unwrap();
        }
        let device = Arc::new(DeviceKey::generate());
        let app = scratch.approvals_path();
        let token = Box::new(move || {
            let document: Value = serde_json::from_slice(&std::fs::read(&app).unwrap()).unwrap();
            Ok(Secret::new(document["socket"]["token"].as_str().unwrap().to_owned()))
        });
        let me = NodeOptions::headless("played Mac".to_owned(), "i-1".to_owned());
        let options = NodeOptions {
            endpoint: Endpoint::Socket(gateway.socket()),
            client: ClientInfo { platform: "macos 15.5".to_owned(), device_family: Some("Mac".to_owned()), ..me },
            device: Arc::clone(&device),
            credentials: Box::new(|| credentials(TOKEN)),
            tokens: None,
            pins: None,
            host: Host::of_this_process(None),
            policy: Arc::new(DocumentPolicy {
                document: Arc::new(ApprovalsDocument::new(&state_of(&scratch.state()))),
                trusts_agent: false,
                settings: Settings::default(),
            }),
            surface: node::surface(),
            declares: None,
            notifications: Arc::default(),
            permissions: Arc::clone(&desktop) as _,
            standing: Arc::default(),
            exec_host: ExecHost::App(ExecHostClient::new(exec_socket(scratch), token, ExecHostPeer::Ours)),
            policy_editor: None,
            computer: None,
            abilities: Some(AbilityHost::new(Arc::clone(&desktop) as _, Arc::clone(&desktop) as _, switches())),
        };
        let stop = Arc::new(Wake::new().unwrap());
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || node::run(options, &stopped).unwrap()));
        let node = Self { id: device.id(), desktop, switches: switches(), stop, thread };
        gateway.approve_surface(&node.id);
        node
    }

    fn invoke(&self, caller: &mut Client, command: &str, params: Value) -> Result<Value, Value> {
        let invoke = json!({"nodeId": self.id, "command": command, "params": params, "idempotencyKey": key()});
        caller.request("node.invoke", invoke).map(|answer| answer["payload"].clone())
    }

    fn described(&self, caller: &mut Client) -> Value {
        caller.request("node.describe", json!({"nodeId": self.id})).unwrap()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.stop.fire();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

fn gateway_that_allows(commands: &[&str]) -> Gateway {
    let nodes = json!({"commands": {"allow": commands}});
    Gateway::start(
        Options::default().config(json!({"gateway": {"auth": {"mode": "token", "token": TOKEN}, "nodes": nodes}})),
    )
}

fn names(row: &Value, member: &str) -> Vec<String> {
    let mut names: Vec<String> =
        row[member].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_answer_has_the_shape_of_the_original_and_every_trouble_its_code() {
    let gateway = gateway_that_allows(&["camera.snap", "screen.record"]);
    let scratch = Scratch::new();
    let node = Played::start(&gateway, &scratch);
    let mut owner = gateway.owner();
    let mut done = |command: &str, params: Value| {
        let mut answer = node.invoke(&mut owner, command, params).unwrap_or_else(|error| panic!("{command}: {error}"));
        answer.as_object_mut().unwrap().remove("capturedAtMs");
        answer
    };
    let film = json!({"format": "mp4", "base64": "CQ==", "durationMs": 60_000, "fps": 10, "screenIndex": 1, "hasAudio": false});
    let location = json!({"lat": 48.2, "lon": 16.4, "accuracyMeters": 5.0, "timestamp": "2026-01-03T12:34:56.000Z",
        "isPrecise": true});
    for (command, params, expected) in [
        (
            "screen.snapshot",
            json!({"format": "png", "maxWidth": 100}),
            json!({"format": "png", "base64": "AQID", "width": 4, "height": 3, "screenIndex": 0}),
        ),
        ("screen.record", json!({"durationMs": 9_999_999, "screenIndex": 1}), film),
        (
            "camera.list",
            json!({}),
            json!({"devices": [{"id": "0x1", "name": "Built-in", "position": "front", "deviceType": "builtInWideAngle"}]}),
        ),
        ("camera.snap", json!({}), json!({"format": "jpg", "base64": "AQID", "width": 4, "height": 3})),
        ("location.get", json!({"desiredAccuracy": "precise"}), location),
        ("canvas.eval", json!({"javaScript": "1+1"}), json!({"result": "did 1+1"})),
        ("canvas.snapshot", json!({}), json!({"format": "jpeg", "base64": "AQID"})),
    ] {
        assert_eq!(done(command, params), expected, "{command}");
    }
    for command in ["canvas.present", "canvas.hide"] {
        done(command, json!({}));
    }
    assert!(done("device.info", json!({}))["systemName"].is_string());
    assert!(done("device.status", json!({}))["thermal"]["state"].is_string());

    for (trouble, words) in [
        (Trouble::NoSession("the screen is locked".to_owned()), "DESKTOP_UNAVAILABLE: the screen is locked"),
        (Trouble::Failed("CAMERA", "it was unplugged".to_owned()), "CAMERA_UNAVAILABLE: it was unplugged"),
        (Trouble::Timeout("CAMERA", "no picture".to_owned()), "CAMERA_TIMEOUT: no picture"),
        (Trouble::Permission("CAMERA", "withdrawn midway".to_owned()), "CAMERA_PERMISSION_REQUIRED: withdrawn midway"),
    ] {
        *node.desktop.trouble.lock().unwrap() = Some(trouble);
        let error = node.invoke(&mut owner, "camera.snap", json!({})).unwrap_err();
        assert_eq!(error["code"], "UNAVAILABLE", "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    *node.desktop.trouble.lock().unwrap() = None;
    // Parameters longer than any script may be, and than any frame: refused, and the node stays.
    let long = "x".repeat(64 * 1024 + 1);
    for (command, params) in [
        ("canvas.eval", json!({"javaScript": ""})),
        ("canvas.navigate", json!({"url": 7})),
        ("location.get", json!({"timeoutMs": "soon"})),
        ("camera.snap", json!({"format": "png"})),
        ("screen.record", json!({"format": "avi"})),
    ] {
        let error = node.invoke(&mut owner, command, params.clone()).unwrap_err();
        assert!(error["message"].as_str().unwrap().contains("INVALID_REQUEST"), "{command} {params}: {error}");
    }
    assert!(node.invoke(&mut owner, "canvas.navigate", json!({"url": long})).is_ok(), "the desktop's to judge");
    assert_eq!(node.invoke(&mut owner, "camera.list", json!({})).unwrap()["devices"][0]["id"], "0x1");
}

/// frames/node-mac-pairing-surface.json: what the official gateway lets a Mac declare, and what not.
#[test]
fn sec_a50_dangerous_abilities_need_the_gateways_owner() {
    let frame = include_str!("vectors/frames/node-mac-pairing-surface.json");
    let frame: Value = serde_json::from_str(frame).unwrap();
    let events = frame["events"].as_array().unwrap();
    let frames: Vec<&Value> = events.iter().map(|event| &event["frame"]).collect();
    let declared = frames.iter().find(|frame| frame["params"]["role"] == "node").unwrap();
    let kept = frames.iter().find(|frame| frame["event"] == "node.pair.requested").unwrap();
    let (declared, kept) = (names(&declared["params"], "commands"), names(&kept["payload"], "commands"));
    assert!(declared.contains(&"camera.snap".to_owned()) && !kept.contains(&"camera.snap".to_owned()));

    let scratch = Scratch::new();
    let gateway = Gateway::new();
    let node = Played::start(&gateway, &scratch);
    let mut owner = gateway.owner();
    let ours = names(&node.described(&mut owner), "commands");
    for command in DANGEROUS {
        assert!(!ours.contains(&command.to_owned()), "{ours:?}");
        let error = node.invoke(&mut owner, command, json!({"script": "beep"})).unwrap_err();
        assert_eq!(
            (&error["code"], error["details"]["reason"].is_string()),
            (&json!("INVALID_REQUEST"), true),
            "{error}"
        );
    }
    // Of what both know, the official gateway keeps the same.
    for command in declared.iter().filter(|command| !matches!(&***command, "bogus.command" | "system.notify")) {
        assert_eq!(ours.contains(command), kept.contains(command), "{command}");
    }
    assert!(node.desktop.asked.lock().unwrap().is_empty(), "nothing of it reached the desktop");
    drop(node);
    let gateway = gateway_that_allows(&DANGEROUS);
    let node = Played::start(&gateway, &Scratch::new());
    let ours = names(&node.described(&mut gateway.owner()), "commands");
    assert!(DANGEROUS.iter().all(|command| ours.contains(&(*command).to_owned())), "{ours:?}");
}

/// A42: in another process' gateway a node gets what was approved; what is switched on later waits for a person.
#[test]
fn sec_a42_a_switch_or_permission_declares_anew_and_more_waits_for_approval() {
    let gateway = Gateway::new();
    let scratch = Scratch::new();
    let node = Played::start(&gateway, &scratch);
    let mut owner = gateway.owner();
    let mut has = |command: &str, offered: bool| {
        wait_until(&format!("{command} is {offered}"), || {
            let row = node.described(&mut owner);
            let is = names(&row, "commands").contains(&command.to_owned());
            (row["connected"] == true && is == offered).then_some(row)
        })
    };
    has("camera.list", true);
    node.switches.set(Switch::Camera, false).unwrap();
    let mut caller = gateway.owner();
    let error = node.invoke(&mut caller, "camera.list", json!({})).unwrap_err();
    let words = error["message"].as_str().unwrap();
    assert!(words.contains("mac-debug switch camera on") || words.contains("not declared"), "{error}");
    has("camera.list", false);
    assert_eq!(has("screen.snapshot", true)["permissions"]["screenRecording"], true);
    node.desktop.grants.lock().unwrap().insert(Capability::ScreenRecording, Grant::Denied);
    assert_eq!(has("screen.snapshot", false)["permissions"]["screenRecording"], false);
    // Forgotten at the gateway, and on again here: nobody has approved that.
    caller.request("node.pair.remove", json!({"nodeId": node.id})).unwrap();
    node.switches.set(Switch::Camera, true).unwrap();
    gateway.pending_surface(&mut caller, &node.id);
    assert!(node.invoke(&mut caller, "camera.list", json!({})).is_err());
    gateway.approve_surface(&node.id);
    wait_until("an approved camera.list", || node.invoke(&mut caller, "camera.list", json!({})).ok());
}

// ---- AppleScript ----

/// The app on a terminal, with an `osascript` that writes what it is given into the canary; none where no file can be laid
/// over the system's.
#[cfg(target_os = "linux")]
fn desk_with_osascript(policy: &Value) -> Option<Desk> {
    let scratch = Scratch::new();
    scratch.approvals(policy);
    let over = scratch.join("over");
    make_dir(&over);
    std::fs::write(over.join("osascript"), format!("#!/bin/sh\nprintf %s \"$2\" >'{}'\n", scratch.canary().display()))
        .unwrap();
    set_mode(&over, 0o755);
    set_mode(&over.join("osascript"), 0o755);
    let lay = format!("mount -t overlay overlay -o lowerdir={}:/usr/bin /usr/bin", over.display());
    if !std::process::Command::new("unshare")
        .args(["-Urm", "sh", "-c", &lay])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        eprintln!("SKIPPED: no overlay in a namespace of our own, so AppleScript was not tested to its end");
        return None;
    }
    let then = format!("{lay} && exec \"$0\" \"$@\"");
    let command =
        scratch.openclaw_under(&["unshare", "-Urm", "sh", "-c", &then], &["app", "--ask", "terminal", "--no-tcp"]);
    let mut terminal = Pty::spawn(command);
    wait_until("the exec socket", || {
        terminal.watch(Duration::from_millis(10));
        std::os::unix::net::UnixStream::connect(exec_socket(&scratch)).ok()
    });
    let exec = Exec::of(&scratch);
    Some(Desk { scratch, terminal, exec })
}

/// The whole text stands before the person, whatever policy says; no answer, no run; "always" is no answer.
#[cfg(target_os = "linux")]
#[test]
fn sec_a48_a52_an_applescript_is_shown_whole_and_never_runs_without_an_answer() {
    let everything = json!({"version": 1, "defaults": {"security": "full", "ask": "off", "askFallback": "full"}});
    let Some(mut desk) = desk_with_osascript(&everything) else { return };
    let gateway = gateway_that_allows(&DANGEROUS);
    let node = Arc::new(Played::start(&gateway, &desk.scratch));
    let script =
        format!("tell application \"Finder\"\n{}display dialog \"last words\"\nend tell", "beep\n".repeat(400));
    let invoke = |params: Value| {
        let (node, mut caller) = (Arc::clone(&node), gateway.owner());
        thread::spawn(move || {
            let invoke = json!({"nodeId": node.id, "command": APPLESCRIPT, "params": params, "timeoutMs": 60_000,
                "idempotencyKey": key()});
            let id = caller.start("node.invoke", invoke);
            caller.find(Duration::from_secs(90), |frame| frame["id"] == json!(id)).expect("an answer")
        })
    };
    for (number, word) in ["deny", "always", "session", "15min"].into_iter().enumerate() {
        let asked = invoke(json!({"script": format!("{script} -- {number}"), "sessionKey": "agent:main:main"}));
        let shown = desk.prompt();
        assert_eq!(shown.replace("\r\n", "").matches("beep").count(), 400, "{shown}");
        assert!(shown.contains("Finder") && shown.contains("last words"), "{shown}");
        assert!(shown.contains("always is not offered"), "{shown}");
        assert!(!shown.contains("15min,") && !shown.contains("session,"), "{shown}");
        desk.terminal.type_text(&format!("{word}\n"));
        let answer = desk.wait(asked);
        assert_eq!(answer["ok"], false, "{word}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("SYSTEM_RUN_DENIED"), "{word}: {answer}");
    }
    stays_absent(&desk.scratch.canary());
    // Nothing that a caller adds stands for the answer; there is one question for each that is well-formed.
    let before = desk.questions();
    for params in [
        json!({"script": "beep", "approved": true}),
        json!({"script": "beep", "approvalDecision": "allow-once"}),
        json!({"script": "beep", "ask": "off"}),
        json!({"script": "beep", "security": "full"}),
        json!({"script": ["beep"]}),
        json!({"script": " "}),
        json!({"script": "a\u{0}b"}),
        json!({"script": "x".repeat(64 * 1024 + 1)}),
        json!({}),
    ] {
        let asked = invoke(params.clone());
        let answer = desk.wait(asked);
        assert!(answer["ok"] == false && desk.questions() == before, "{params}: {answer}");
    }
    // What runs is what was shown.
    let asked = invoke(json!({"script": script}));
    desk.prompt();
    desk.terminal.type_text("once\n");
    let answer = desk.wait(asked);
    assert_eq!((&answer["ok"], &answer["payload"]["payload"]["exitCode"]), (&json!(true), &json!(0)), "{answer}");
    assert_eq!(std::fs::read_to_string(desk.scratch.canary()).unwrap(), script);
    let before = desk.questions();
    node.switches.set(Switch::AppleScript, false).unwrap();
    let asked = invoke(json!({"script": "beep"}));
    assert_eq!(desk.wait(asked)["ok"], false);
    assert_eq!(desk.questions(), before, "switched off, nobody is asked");
}

/// The same demand, of a command that would leave a trace: no fallback, no policy stands for the answer.
#[test]
fn sec_a52_who_demands_a_question_gets_no_fallback() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({"version": 1, "defaults": {"security": "full", "ask": "off", "askFallback": "full"}}));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let refused = exec.request(&amended(&touch(&scratch), &json!({"ask": "always"})));
    assert_eq!(refused.refused("UNAVAILABLE")["reason"], "approval-required", "{refused:?}");
    stays_absent(&scratch.canary());
    exec.request(&touch(&scratch)).ran();
    assert!(scratch.canary().exists(), "the twin without the demand runs");
}
