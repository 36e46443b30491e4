//! The app on a virtual X server with a window manager, driven by pointer and keyboard.
#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use crate::support::{QUIET, wait_until};
use crate::support_exec::*;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// After this a press counts: the app's half second after the panel has got the keyboard, and a little for that.
pub const ARMED: Duration = Duration::from_millis(800);

/// A virtual X server with a window manager; both end when dropped.
pub struct Screen {
    server: Child,
    manager: Child,
    pub display: String,
}

/// A window on the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub id: String,
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
}

impl Screen {
    pub fn new() -> Self {
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp", "-noreset"]);
        let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Xvfb");
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let display = format!(":{}", number.trim());
        let manager = Command::new("openbox").env("DISPLAY", &display).stderr(Stdio::null()).spawn().expect("openbox");
        let screen = Self { server, manager, display };
        wait_until("a window manager", || {
            let root = screen.run("xprop", &["-root", "_NET_SUPPORTING_WM_CHECK"]);
            root.contains("window id").then_some(())
        });
        screen
    }

    /// A tool of X to its end; what it prints.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let output = Command::new(tool).args(arguments).env("DISPLAY", &self.display).output().expect(tool);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Every window of the app that can be seen.
    pub fn windows(&self) -> Vec<Window> {
        let tree = self.run("xwininfo", &["-root", "-tree"]);
        tree.lines().filter(|line| line.contains("GNUstep")).filter_map(|line| self.window(line)).collect()
    }

    /// `0x40000c "OpenClaw": ("openclaw" "GNUstep")  720x460+1+20  +281+227`
    pub fn window(&self, line: &str) -> Option<Window> {
        let id = line.split_whitespace().next()?.to_owned();
        let info = self.run("xwininfo", &["-id", &id]);
        let number = |label: &str| -> Option<i32> {
            info.lines().find_map(|line| line.trim().strip_prefix(label))?.trim().parse().ok()
        };
        let (x, y) = (number("Absolute upper-left X:")?, number("Absolute upper-left Y:")?);
        let (width, height) = (number("Width:")?, number("Height:")?);
        info.contains("IsViewable").then_some(Window { id, x, y, width, height })
    }

    /// The panel, if it can be seen.
    pub fn panel(&self) -> Option<Window> {
        self.windows().into_iter().find(|window| window.width >= 700 && window.height >= 400)
    }

    pub fn wait_for_panel(&self) -> Window {
        wait_until("a panel", || self.panel())
    }

    /// A new panel, in place and ready for presses.
    pub fn armed_panel(&self) -> Window {
        self.wait_for_panel();
        thread::sleep(ARMED);
        self.wait_for_panel()
    }

    pub fn wait_for_no_panel(&self) {
        wait_until("no panel", || self.panel().is_none().then_some(()));
    }

    /// As a person clicks: neither at once nor without holding.
    pub fn click(&self, (x, y): (i32, i32)) {
        self.press((x, y));
        self.run("xdotool", &["sleep", "0.1", "mouseup", "1"]);
    }

    /// Presses and holds.
    pub fn press(&self, (x, y): (i32, i32)) {
        self.run("xdotool", &["mousemove", &x.to_string(), &y.to_string(), "sleep", "0.15", "mousedown", "1"]);
    }

    pub fn key(&self, keys: &[&str]) {
        self.run("xdotool", &[&["key", "--delay", "30"], keys].concat());
    }

    /// What can be copied from the panel's text: all of it. `part` is in no text that was copied before.
    pub fn copied(&self, panel: &Window, part: &str) -> String {
        wait_until("a copy", || {
            self.click((panel.x + panel.width / 2, panel.y + 100));
            self.key(&["alt+a", "alt+c"]);
            let text = self.run("timeout", &["1", "xclip", "-o", "-selection", "clipboard"]);
            text.contains(part).then_some(text)
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for child in [&mut self.manager, &mut self.server] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Buttons, counted from the right.
#[derive(Clone, Copy, Debug)]
pub enum Button {
    Deny = 1,
    Once = 2,
    Always = 3,
    Minutes = 4,
    Session = 5,
}

impl Window {
    pub fn button(&self, button: Button) -> (i32, i32) {
        let place = button as i32;
        (self.x + self.width - 16 - 138 * place + 8 + 65, self.y + self.height - 16 - 15)
    }

    /// The box to be ticked.
    pub fn switch(&self) -> (i32, i32) {
        (self.x + 16 + 9, self.y + self.height - 132)
    }
}

/// An app that asks on a screen.
pub struct Desk {
    pub scratch: Scratch,
    pub app: App,
    pub exec: Exec,
    pub screen: Screen,
}

impl Desk {
    pub fn new() -> Self {
        Self::with(None)
    }

    pub fn with(document: Option<Value>) -> Self {
        Self::start(document, &[])
    }

    pub fn start(document: Option<Value>, environment: &[(String, String)]) -> Self {
        Self::start_with(document, environment, &[])
    }

    pub fn start_with(document: Option<Value>, environment: &[(String, String)], flags: &[&str]) -> Self {
        let (scratch, screen) = (Scratch::new(), Screen::new());
        if let Some(document) = document {
            scratch.approvals(&document);
        }
        let mut command = scratch.openclaw(&[&["app", "--ask", "panel", "--no-tcp"], flags].concat());
        command.env("DISPLAY", &screen.display).envs(environment.iter().map(|(name, value)| (name, value)));
        let app = App::start_with(&scratch, command);
        let exec = Exec::of(&scratch);
        Self { scratch, app, exec, screen }
    }

    /// Sends a request in the background.
    pub fn ask(&self, request: &Value) -> JoinHandle<Reply> {
        let (exec, request) = (self.exec.clone(), request.clone());
        thread::spawn(move || exec.request(&request))
    }

    /// Sends a request and gives its connection.
    pub fn ask_and_leave(&self, request: &Value) -> UnixStream {
        let mut stream = self.exec.connect();
        let line = Value::Object(self.exec.signed(&request.to_string()));
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        stream
    }

    /// Asks, and presses a button when it counts.
    pub fn answered(&self, request: &Value, button: Button) -> Reply {
        let asked = self.ask(request);
        let panel = self.screen.armed_panel();
        self.screen.click(panel.button(button));
        let reply = finish(asked);
        self.screen.wait_for_no_panel();
        reply
    }

    /// Nothing has come of it after a while, and it is still shown.
    pub fn still_asks(&self, asked: &JoinHandle<Reply>, why: &str) {
        thread::sleep(QUIET);
        assert!(!asked.is_finished(), "{why}: answered");
        assert!(self.screen.panel().is_some(), "{why}: no panel");
        assert!(!self.scratch.canary().exists(), "{why}: it ran");
    }

    pub fn waiting(&self) -> u64 {
        self.scratch.mac_debug(&["status", "--json"]).json()["appStatus"]["pendingPrompts"].as_u64().unwrap_or(99)
    }

    pub fn deny(&self, asked: JoinHandle<Reply>) {
        let panel = self.screen.armed_panel();
        self.screen.click(panel.button(Button::Deny));
        assert_eq!(finish(asked).refused("UNAVAILABLE")["reason"], "user-denied");
        self.screen.wait_for_no_panel();
    }

    /// Resident memory, kB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.app.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn document(&self) -> String {
        fs::read_to_string(self.scratch.approvals_path()).unwrap()
    }

    /// A picture of the screen, where the caller of the tests wants one.
    pub fn picture(&self, name: &str) {
        if let Some(place) = std::env::var_os("GUI_TEST_PICTURES") {
            let path = std::path::Path::new(&place).join(format!("{name}.png"));
            self.screen.run("import", &["-window", "root", path.to_str().unwrap()]);
        }
    }
}

pub fn finish(asked: JoinHandle<Reply>) -> Reply {
    wait_until("an answer", || asked.is_finished().then_some(()));
    asked.join().unwrap()
}

pub fn uname() -> Value {
    json!({"command": ["uname", "-s"], "agentId": "main", "sessionKey": "agent:main:tests"})
}

/// Lines of the menu, counted from 0; they are 20 points high, below a title of 22.
pub mod line {
    pub const QUESTIONS: i32 = 4;
    pub const PAUSE: i32 = 5;
    pub const COMMANDS: i32 = 6;
    pub const QUIT: i32 = 12;
}

impl Screen {
    /// The main menu stands at the left; the one that hangs on it is the next to the right.
    pub fn menu(&self, is_main: bool) -> Window {
        let is_it = |window: &Window| window.width < 400 && window.height > 70 && (window.x == 0) == is_main;
        wait_until("a menu", || self.windows().into_iter().find(|window| window.y == 0 && is_it(window)))
    }

    pub fn choose(&self, menu: &Window, line: i32) {
        self.click((menu.x + 40, menu.y + 22 + 20 * line + 10));
    }
}
