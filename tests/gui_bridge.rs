//! H04, end to end: the app's own panel and menu, on a screen, against the bridge that the same app serves and against
//! `computer.act`. Nothing of it may press, type into, move or close what only the person may. `scripts/gui-test.sh` runs it.
#![cfg(all(feature = "gnustep", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;
mod support_gui;

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command};
use support::{Finished, Process, wait_until};
use support_exec::*;
use support_gui::{Desk, *};

/// What each refusal says.
const OWN: &str = "window of OpenClaw itself";

/// An app with its bridge on, and who speaks to that.
struct Host {
    desk: Desk,
    socket: PathBuf,
}

/// A program of somebody else.
struct Xterm(Child);

impl Drop for Xterm {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Host {
    fn new() -> Self {
        let unsigned = ("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS".to_owned(), "1".to_owned());
        // What its node wants to offer from then on is not asked about here.
        let desk = Desk::start_with(None, &[unsigned], &["--no-gateway-approvals"]);
        let host = Self { socket: desk.scratch.state().join("bridge.sock"), desk };
        assert_eq!(host.standing(), "off", "until somebody switches it on");
        host.switch(true);
        host.wait_for("serving ");
        host
    }

    fn switch(&self, on: bool) {
        let switches = json!({"bridge": on, "computer-control": true});
        write_private(&self.desk.scratch.state().join("switches.json"), switches.to_string().as_bytes());
    }

    fn standing(&self) -> String {
        let status = self.desk.scratch.mac_debug(&["status", "--json"]).json();
        status["appStatus"]["bridge"].as_str().unwrap_or_default().to_owned()
    }

    fn wait_for(&self, words: &str) {
        wait_until(words, || self.standing().starts_with(words).then_some(()));
    }

    fn bridge(&self, words: &[&str]) -> Finished {
        let socket = self.socket.to_str().unwrap();
        Process::run(self.desk.scratch.openclaw(&[&["bridge"], words, &["--bridge-socket", socket]].concat()))
    }

    fn does(&self, words: &[&str]) {
        let done = self.bridge(words);
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    }

    fn refuses(&self, words: &[&str]) {
        let refused = self.bridge(words);
        assert_eq!(refused.code, Some(1), "{words:?}: {refused:?}");
        assert!(refused.stderr.contains(OWN), "{words:?}: {refused:?}");
    }

    /// The person clicks into the panel's text: from then on it has the keyboard.
    fn focus(&self, panel: &Window) {
        let id = i64::from_str_radix(panel.id.trim_start_matches("0x"), 16).unwrap().to_string();
        wait_until("the keyboard", || {
            self.desk.screen.click((panel.x + panel.width / 2, panel.y + 100));
            (self.desk.screen.run("xdotool", &["getwindowfocus"]).trim() == id).then_some(())
        });
    }

    /// A terminal in the lower right corner that writes down what is typed.
    fn xterm(&self) -> (Xterm, PathBuf) {
        let file = self.desk.scratch.join("typed");
        let script = format!("cat > {}", file.display());
        let mut command = Command::new("xterm");
        command.args(["-geometry", "20x4-0-0", "-T", "Notes", "-e", "sh", "-c", &script]);
        let xterm = Xterm(command.env("DISPLAY", &self.desk.screen.display).spawn().expect("xterm"));
        wait_until("a terminal", || file.exists().then_some(()));
        (xterm, file)
    }
}

fn at((x, y): (i32, i32)) -> String {
    format!("{x},{y}")
}

/// Nowhere near anything of the app.
const BESIDE: (i32, i32) = (1_200, 100);

#[test]
fn sec_h04_the_bridge_can_neither_answer_nor_move_nor_reach_the_panel() {
    let host = Host::new();
    let screen = &host.desk.screen;
    let asked = host.desk.ask(&touch(&host.desk.scratch));
    let panel = screen.armed_panel();
    let id = i64::from_str_radix(panel.id.trim_start_matches("0x"), 16).unwrap().to_string();
    let process = format!("PID:{}", host.desk.app.pid());
    let beside = at(BESIDE);
    for button in [Button::Once, Button::Always, Button::Session, Button::Deny] {
        let place = at(panel.button(button));
        host.refuses(&["click", "--at", &place]);
        host.refuses(&["click", "--at", &place, "--double"]);
        host.refuses(&["click", "--at", &place, "--right"]);
    }
    let once = at(panel.button(Button::Once));
    let title = at((panel.x + panel.width / 2, panel.y - 8));
    let close = at((panel.x + panel.width - 8, panel.y - 10));
    host.refuses(&["click", "--at", &title]);
    host.refuses(&["click", "--at", &close]);
    host.refuses(&["move", "--at", &once]);
    host.refuses(&["drag", "--from", &title, "--at", &beside]);
    host.refuses(&["drag", "--from", &beside, "--at", &once]);
    host.focus(&panel);
    for keys in ["return", "space", "tab", "escape", "alt,f4", "alt,tab"] {
        host.refuses(&["press", keys]);
    }
    host.refuses(&["type", "y\n"]);
    screen.run("xdotool", &["mousemove", &(panel.x + 100).to_string(), &(panel.y + 100).to_string()]);
    host.refuses(&["scroll", "down"]);
    for change in ["focus", "close", "minimize", "maximize"] {
        host.refuses(&["window", change, "--window", &id]);
        host.refuses(&["window", change, "--app", &process]);
    }
    host.refuses(&["window", "place", "--window", &id, "--at", "0,0"]);
    host.refuses(&["window", "place", "--window", &id, "--at", "0,0", "--size", "50,50"]);
    assert_eq!(host.bridge(&["app", "activate", &process]).code, Some(3), "not offered on X11");

    assert_eq!(screen.wait_for_panel(), panel, "as it was");
    host.desk.still_asks(&asked, "all of that");
    assert_eq!(host.desk.waiting(), 1);

    // What is not ours is served as usual, the panel still being there.
    let (_xterm, typed) = host.xterm();
    let place = at((1_200, 870));
    host.does(&["click", "--at", &place]);
    host.does(&["type", "hello\n"]);
    wait_until("the text", || (std::fs::read_to_string(&typed).unwrap() == "hello\n").then_some(()));
    // Its window in front changes nothing about the panel, which is no way to the keyboard either.
    host.refuses(&["click", "--at", &once]);
    host.refuses(&["window", "focus", "--window", &id]);
    host.desk.still_asks(&asked, "and all of this");

    // A person brings it to the front, and then their click answers.
    host.focus(&panel);
    screen.click(screen.armed_panel().button(Button::Once));
    finish(asked).ran();
    screen.wait_for_no_panel();
    assert!(host.desk.scratch.canary().exists());
}

#[test]
fn sec_h04_sec_a131_the_bridge_cannot_use_the_menu_and_ends_with_its_switches() {
    let host = Host::new();
    let screen = &host.desk.screen;
    let menu = screen.menu(true);
    let (x, y) = (menu.x + 40, menu.y + 22 + 20 * line::PAUSE + 10);
    let (place, beside) = (at((x, y)), at(BESIDE));
    host.refuses(&["click", "--at", &place]);
    host.refuses(&["move", "--at", &place]);
    host.refuses(&["drag", "--from", &place, "--at", &beside]);
    host.refuses(&["drag", "--from", &beside, "--at", &place]);
    let paused = host.desk.scratch.state().join("paused");
    stays_absent(&paused);

    // A person may, and then the bridge is gone.
    screen.choose(&menu, line::PAUSE);
    wait_until("a pause", || paused.exists().then_some(()));
    host.wait_for("off: everything is paused");
    assert!(!host.socket.exists());
    assert_ne!(host.bridge(&["list", "windows"]).code, Some(0));
    std::fs::remove_file(&paused).unwrap();
    host.wait_for("serving ");
    host.does(&["list", "windows", "--app", &format!("PID:{}", host.desk.app.pid())]);
    host.switch(false);
    wait_until("off", || (host.standing() == "off").then_some(()));
    assert!(!host.socket.exists());
}

#[test]
fn sec_h04_computer_act_cannot_answer_the_panel() {
    let host = Host::new();
    let scratch = &host.desk.scratch;
    let act = |members: Value| {
        let mut members = members;
        members["executionId"] = "0b6c3f9e-1111-4222-8333-444455556666".into();
        let done = scratch.mac_debug(&["invoke", "computer.act", &members.to_string(), "--json"]);
        format!("{}{}", done.stdout, done.stderr)
    };
    wait_for_computer(scratch);
    let asked = host.desk.ask(&touch(scratch));
    let panel = host.desk.screen.armed_panel();
    host.focus(&panel);
    for members in [
        json!({"action": "key", "keys": "Return"}),
        json!({"action": "key", "keys": "space"}),
        json!({"action": "hold_key", "keys": "Return", "durationMs": 200}),
        json!({"action": "type", "text": "\n"}),
    ] {
        let said = act(members.clone());
        assert!(said.contains("COMPUTER_REFUSED_own_window"), "{members}: {said}");
    }
    let windows = act(json!({"action": "list_windows"}));
    let process = format!("{}-", host.desk.app.pid());
    let own = windows.split('"').find(|word| word.starts_with(&process)).unwrap_or_else(|| panic!("{windows}"));
    let said = act(json!({"action": "bring_to_front", "windowRef": own}));
    assert!(said.contains("COMPUTER_REFUSED_own_window"), "{said}");
    host.desk.still_asks(&asked, "computer.act");
    host.desk.screen.click(panel.button(Button::Once));
    finish(asked).ran();
}

/// The app's own gateway knows what its owner has switched on.
fn wait_for_computer(scratch: &Scratch) {
    wait_until("computer.act", || {
        let nodes = scratch.mac_debug(&["nodes", "--json"]);
        nodes.stdout.contains("computer.act").then_some(())
    });
}
