use super::*;
use crate::desktop::automation::{Application, Done, Key, Permissions, Point, Screen, Size, WindowId};
use crate::protocol::ability::ScreenSnapshot;
use crate::state::Environment;
use crate::state::audit::AuditLog;
use crate::sys::fence::Fencer;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

const ID: &str = "0b6c3f9e-1111-4222-8333-444455556666";

/// A desktop that notes what was done on it; what happens at the third character is up to the test.
#[derive(Default)]
struct Desk {
    done: Mutex<Vec<String>>,
    permissions: Mutex<Permissions>,
    fails: Mutex<Option<Failure>>,
    at_third: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Desk {
    fn did(&self, what: String) -> Done {
        self.done.lock().unwrap().push(what);
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Automation for Desk {
    fn abilities(&self) -> &[Ability] {
        &NEEDED
    }
    fn permissions(&self) -> Permissions {
        *self.permissions.lock().unwrap()
    }
    fn screens(&self) -> Done<Vec<Screen>> {
        let bounds = Rect { origin: Point::default(), size: Size { width: 2_000.0, height: 1_000.0 } };
        Ok(vec![Screen { name: None, bounds, scale: 1.0 }])
    }
    fn pointer(&self, action: &Pointer, to: Option<i32>, _: Expected) -> Done {
        assert_eq!(to, None);
        self.did(format!("{action:?}"))
    }
    fn scroll(&self, scroll: &Scroll, _: Expected) -> Done {
        self.did(format!("{scroll:?}"))
    }
    fn press(&self, key: Key, modifiers: Modifiers, hold: Duration, _: Option<i32>, _: Expected) -> Done {
        self.did(format!("{key:?} shift={} {hold:?}", modifiers.shift))
    }
    fn type_text(&self, text: &str, _: Duration, _: Expected) -> Done {
        self.did(text.to_owned())?;
        if self.done.lock().unwrap().len() == 3 {
            self.at_third.lock().unwrap().iter().for_each(|act| act());
        }
        Ok(())
    }
    fn applications(&self) -> Done<Vec<Application>> {
        Ok(vec![Application { pid: 7, name: "Notes".to_owned(), ..Application::default() }])
    }
    fn windows(&self) -> Done<Vec<Window>> {
        Ok(vec![Window { id: 3, pid: 7, title: "a".to_owned(), on_screen: true, ..Window::default() }])
    }
    fn change_window(&self, window: WindowId, change: WindowChange) -> Done {
        self.did(format!("{change:?} {window}"))
    }
}

struct House {
    directory: PathBuf,
    desk: Arc<Desk>,
    host: ComputerHost,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Switched on, granted, nobody away.
fn house() -> House {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("oc-co-{}-{count}", std::process::id()));
    let environment = Environment { state_dir: Some(directory.join("s")), ..Environment::default() };
    let state = StateDir::locate(&environment).unwrap();
    state.prepare().unwrap();
    Switches::new(&state).set(Switch::ComputerControl, true).unwrap();
    let desk = Arc::new(Desk { permissions: Mutex::new(Permissions::ALL), ..Desk::default() });
    let guards = Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
    let host = ComputerHost {
        automation: Arc::clone(&desk) as _,
        frames: Arc::new(Frames::new(Arc::clone(&desk) as _)),
        state,
        away: Box::new(|| None),
        guards: Arc::new(guards),
        at_work: Mutex::default(),
    };
    House { directory, desk, host }
}

impl House {
    fn act(&self, members: Value) -> Result<Value, String> {
        let answer = self.cancelled_by(members, &Wake::new().unwrap());
        answer.expect("nobody cancelled it")
    }

    fn cancelled_by(&self, mut members: Value, cancel: &Wake) -> Option<Result<Value, String>> {
        members["executionId"] = ID.into();
        let answer = self.host.perform(Some(&members.to_string()), "a test", cancel)?;
        Some(answer.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.message.unwrap()))
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.desk.done.lock().unwrap())
    }

    fn switch(&self, on: bool) {
        Switches::new(&self.host.state).set(Switch::ComputerControl, on).unwrap();
    }

    /// A screenshot, half as large as the screen.
    fn frame(&self) -> String {
        let request = ScreenSnapshot::parse(Some(&json!({"executionId": ID}).to_string())).unwrap();
        self.host.frames.keep(self.host.frames.look(0), &request, (1_000, 500)).unwrap()
    }
}

#[test]
fn each_action_reaches_the_desktop_at_the_place_that_the_screenshot_shows() {
    let house = house();
    let frame = house.frame();
    let place = |members: Value| {
        let mut members = members;
        members["displayFrameId"] = frame.as_str().into();
        members
    };
    let at = "Point { x: 201.0, y: 101.0 }";
    let clicked = |button: &str, count: u32| format!("Click {{ at: {at}, button: {button}, count: {count} }}");
    for (action, expected) in [
        ("left_click", clicked("Left", 1)),
        ("right_click", clicked("Right", 1)),
        ("double_click", clicked("Left", 2)),
        ("triple_click", clicked("Left", 3)),
        ("mouse_move", format!("Move {{ path: [{at}], pause: 0ns }}")),
    ] {
        let answer = house.act(place(json!({"action": action, "x": 100, "y": 50, "refWidth": 1_000}))).unwrap();
        assert_eq!(answer, json!({"ok": true, "effect": "unverifiable"}));
        assert_eq!(house.done(), [expected]);
    }
    house.act(place(json!({"action": "left_click_drag", "fromX": 0, "fromY": 0, "x": 100, "y": 50}))).unwrap();
    let dragged = house.done().remove(0);
    assert!(dragged.starts_with("Drag { path: [Point { x: 1.0, y: 1.0 }") && dragged.contains(at), "{dragged}");
    house.act(json!({"action": "scroll", "scrollDirection": "up"})).unwrap();
    house.act(json!({"action": "key", "keys": "shift+Return"})).unwrap();
    house.act(json!({"action": "hold_key", "keys": "a", "durationMs": 20})).unwrap();
    house.act(json!({"action": "type", "text": "hé"})).unwrap();
    let done = house.done();
    assert!(done[0].contains("at: None, direction: Up, ticks: 3"), "{done:?}");
    assert_eq!(done[1..], ["Return shift=true 0ns", "Character('a') shift=false 20ms", "h", "é"]);
    let windows = house.act(json!({"action": "list_windows"})).unwrap()["details"]["windows"].clone();
    assert_eq!(house.act(json!({"action": "list_apps"})).unwrap()["details"]["apps"][0]["name"], "Notes");
    house.act(json!({"action": "bring_to_front", "windowRef": windows[0]["windowRef"]})).unwrap();
    assert_eq!(house.done(), ["Focus 3"]);
    let gone = house.act(json!({"action": "bring_to_front", "windowRef": "8-3"})).unwrap_err();
    assert!(gone.starts_with("COMPUTER_STALE_OBSERVATION"), "{gone}");
}

#[test]
fn a_screenshot_leads_nowhere_after_its_execution() {
    let house = house();
    let click = json!({"action": "left_click", "x": 1, "y": 1, "displayFrameId": house.frame()});
    house.act(click.clone()).unwrap();
    assert_eq!(house.act(json!({"action": "__close_execution", "reason": "done"})).unwrap(), json!({"ok": true}));
    let stale = house.act(click).unwrap_err();
    assert!(stale.starts_with("COMPUTER_STALE_FRAME"), "{stale}");
    assert_eq!(house.done().len(), 1);
}

#[test]
fn nothing_is_done_unless_switched_on_granted_awake_and_alone() {
    let mut house = house();
    let refused = |house: &House| {
        let why = house.act(json!({"action": "type", "text": "x"})).unwrap_err();
        assert!(house.done().is_empty(), "{why}");
        why
    };
    house.switch(false);
    assert!(refused(&house).starts_with("COMPUTER_DISABLED") && house.host.refusal().is_some());
    house.switch(true);
    assert!(house.host.refusal().is_none());
    *house.desk.permissions.lock().unwrap() = Permissions { event_posting: false, ..Permissions::ALL };
    assert!(refused(&house).starts_with("ACCESSIBILITY_REQUIRED") && house.host.refusal().is_some());
    *house.desk.permissions.lock().unwrap() = Permissions::ALL;
    pause::pause(&house.host.state).unwrap();
    assert!(refused(&house).starts_with("COMPUTER_DISABLED: paused"));
    pause::resume(&house.host.state).unwrap();
    house.host.away = Box::new(|| Some("the screen is locked".to_owned()));
    assert_eq!(refused(&house), "DESKTOP_UNAVAILABLE: the screen is locked");
    house.host.away = Box::new(|| None);
    let held = house.host.at_work.lock().unwrap();
    assert!(refused(&house).starts_with("COMPUTER_HOST_BUSY"));
    drop(held);
    house.act(json!({"action": "type", "text": "x"})).unwrap();
}

/// H04: what the desktop refuses for reaching a window of ours is refused here, by name.
#[test]
fn sec_h04_own_windows_are_refused_by_name() {
    let house = house();
    for (failure, code) in [
        (Failure::OwnPrompt, "COMPUTER_REFUSED_own_window"),
        (Failure::Stale("Secret title".to_owned()), "COMPUTER_STALE_FRAME"),
        (Failure::NotFound("Secret title".to_owned()), "COMPUTER_INVALID_REQUEST"),
        (Failure::Internal("Secret title".to_owned()), "COMPUTER_DRIVER_ERROR"),
        (Failure::Timeout, "COMPUTER_TIMEOUT"),
    ] {
        *house.desk.fails.lock().unwrap() = Some(failure);
        let why = house.act(json!({"action": "type", "text": "xyz"})).unwrap_err();
        assert!(why.starts_with(code) && !why.contains("Secret"), "{why}");
        assert_eq!(house.done(), ["x"], "nothing more after it");
    }
}

#[test]
fn typing_ends_before_the_next_character_when_cancelled_switched_off_or_paused() {
    let text = json!({"action": "type", "text": "abcdef"});
    let house = house();
    let cancel = Arc::new(Wake::new().unwrap());
    let fired = Arc::clone(&cancel);
    *house.desk.at_third.lock().unwrap() = Some(Box::new(move || fired.fire()));
    assert_eq!(house.cancelled_by(text.clone(), &cancel), None);
    assert_eq!(house.done(), ["a", "b", "c"]);
    let state = house.host.state.clone();
    *house.desk.at_third.lock().unwrap() =
        Some(Box::new(move || Switches::new(&state).set(Switch::ComputerControl, false).unwrap()));
    assert!(house.act(text.clone()).unwrap_err().starts_with("COMPUTER_DISABLED"));
    assert_eq!(house.done(), ["a", "b", "c"]);
    house.switch(true);
    let state = house.host.state.clone();
    *house.desk.at_third.lock().unwrap() = Some(Box::new(move || pause::pause(&state).unwrap()));
    assert!(house.act(text).unwrap_err().starts_with("COMPUTER_DISABLED"));
    assert_eq!(house.done(), ["a", "b", "c"]);
}

#[test]
fn each_execution_is_noted_once_and_without_a_record_nothing_is_done() {
    let house = house();
    let log = house.host.state.audit()[0].clone();
    for _ in 0..3 {
        house.act(json!({"action": "type", "text": "secret words"})).unwrap();
    }
    let noted = std::fs::read_to_string(&log).unwrap();
    // Beside the switch.
    assert_eq!(noted.lines().filter(|line| line.contains(ID)).count(), 1, "{noted}");
    assert!(noted.contains(ID) && noted.contains("computer.act") && !noted.contains("secret"), "{noted}");
    house.done();
    house.host.at_work.lock().unwrap().clear();
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert!(house.act(json!({"action": "type", "text": "x"})).is_err());
    assert!(house.done().is_empty());
}
