//! `computer.act` on a virtual X server: pixels of a screenshot become places of the desktop, and a window of this very
//! process is out of reach (H04).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_x11;

use openclaw::desktop::automation::{Automation, Window};
use openclaw::desktop::x11::X11;
use openclaw::exec::approval::Guards;
use openclaw::node::{ComputerHost, Frames};
use openclaw::protocol::ability::ScreenSnapshot;
use openclaw::state::switches::{Switch, Switches};
use openclaw::state::{Environment, StateDir};
use openclaw::sys::wake::Wake;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::TempDir;
use support_x11::{Display, OwnClient, wait_until};

const ID: &str = "0b6c3f9e-1111-4222-8333-444455556666";

struct Desk {
    x11: Arc<X11>,
    host: ComputerHost,
    _home: TempDir,
}

impl Desk {
    fn new(display: &Display) -> Self {
        let home = TempDir::new();
        let environment = Environment { state_dir: Some(home.join("s")), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        state.prepare().unwrap();
        Switches::new(&state).set(Switch::ComputerControl, true).unwrap();
        let x11 = Arc::new(X11::new(Some(&display.name)));
        let automation: Arc<dyn Automation> = Arc::clone(&x11) as _;
        let host = ComputerHost {
            frames: Arc::new(Frames::new(Arc::clone(&automation))),
            automation,
            guards: Arc::new(Guards::new(&state)),
            state,
            away: Box::new(|| None),
            at_work: Mutex::default(),
        };
        Self { x11, host, _home: home }
    }

    fn act(&self, mut members: Value) -> Result<Value, String> {
        members["executionId"] = ID.into();
        let answer = self.host.perform(Some(&members.to_string()), "a test", &Wake::new().unwrap()).unwrap();
        answer.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.message.unwrap())
    }

    /// As `screen.snapshot` does: half as wide as the screen.
    fn frame(&self) -> String {
        let asked = json!({"executionId": ID, "maxWidth": 400}).to_string();
        let request = ScreenSnapshot::parse(Some(&asked)).unwrap();
        self.host.frames.keep(self.host.frames.look(0), &request, (400, 300)).unwrap()
    }

    fn window(&self, title: &str) -> Window {
        wait_until(title, || self.x11.windows().unwrap().into_iter().find(|window| window.title == title))
    }
}

#[test]
fn a_click_by_a_screenshots_pixels_presses_a_button_and_a_changed_screen_refuses_it() {
    let Some(display) = Display::start("800x600x24") else { return };
    let _manager = display.manager();
    let desk = Desk::new(&display);
    let mut asks = display.program("xmessage", &["-buttons", "Yes:7", "-geometry", "200x100+100+100", "Shall it be?"]);
    let bounds = desk.window("xmessage").bounds;
    // Its only button, in the lower left corner of the window that the manager has put into a frame.
    let (x, y) = (bounds.origin.x + 25.0, bounds.origin.y + bounds.size.height - 20.0);
    let frame = desk.frame();
    let click = json!({"action": "left_click", "x": x / 2.0, "y": y / 2.0, "refWidth": 400, "displayFrameId": frame});
    let mut stale = click.clone();
    stale["refWidth"] = json!(800);
    assert!(desk.act(stale).unwrap_err().starts_with("COMPUTER_STALE_FRAME"));
    assert_eq!(asks.ended(), None);
    desk.act(click.clone()).unwrap();
    assert_eq!(wait_until("the answer", || asks.ended()), 7);
    display.tool("xrandr", &["--setmonitor", "half", "400/100x600/150+0+0", "screen"]);
    wait_until("another shape", || (desk.x11.screens().ok()?[0].bounds.size.width < 800.0).then_some(()));
    assert!(desk.act(click).unwrap_err().starts_with("COMPUTER_STALE_FRAME"));
}

#[test]
fn sec_h04_computer_act_reaches_no_window_of_its_own_process() {
    let Some(display) = Display::start("800x600x24") else { return };
    let desk = Desk::new(&display);
    let mut own = OwnClient::connect(&display);
    let window = own.window([200, 200, 200, 200], true);
    own.raise(window);
    own.focus(window);
    let place = |x: u32, members: Value| {
        let mut members = members;
        members["displayFrameId"] = desk.frame().into();
        members["x"] = x.into();
        members["y"] = 150.into();
        members
    };
    for members in [
        place(150, json!({"action": "left_click"})),
        place(150, json!({"action": "right_click"})),
        place(150, json!({"action": "triple_click"})),
        place(150, json!({"action": "mouse_move"})),
        place(150, json!({"action": "left_click_drag", "fromX": 10, "fromY": 10})),
        place(10, json!({"action": "left_click_drag", "fromX": 150, "fromY": 150})),
        place(150, json!({"action": "scroll", "scrollDirection": "down"})),
        json!({"action": "type", "text": "\n"}),
        json!({"action": "key", "keys": "Return"}),
        json!({"action": "hold_key", "keys": "space", "durationMs": 50}),
    ] {
        let why = desk.act(members.clone()).unwrap_err();
        assert!(why.starts_with("COMPUTER_REFUSED_own_window"), "{members}: {why}");
    }
    assert_eq!(own.settle(), Vec::<u8>::new(), "nothing came through");
    desk.act(place(10, json!({"action": "left_click"}))).unwrap();
}
