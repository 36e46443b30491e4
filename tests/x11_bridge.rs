//! The built bridge, host and client, on a virtual X server with a real program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_x11;

use serde_json::Value;
use support::{Finished, Process, TempDir, openclaw};
use support_x11::{Display, png, wait_until};

/// A host on a desktop, and the client of the same home.
struct Bridge {
    home: TempDir,
    process: Process,
}

impl Bridge {
    fn serve(display: &Display) -> Self {
        let home = TempDir::new();
        let mut command = openclaw(home.path());
        command
            .args(["bridge", "serve"])
            .env("DISPLAY", &display.name)
            .env("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS", "1");
        let process = Process::spawn(command);
        wait_until("the bridge serves", || process.stderr().contains("bridge: serving ").then_some(()));
        Self { home, process }
    }

    fn run(&self, words: &[&str]) -> Finished {
        let mut command = openclaw(self.home.path());
        command.arg("bridge").args(words);
        Process::run(command)
    }

    fn json(&self, words: &[&str]) -> Value {
        let finished = self.run(&[words, &["--json"]].concat());
        assert_eq!(finished.code, Some(0), "{words:?}: {finished:?}");
        finished.json()
    }
}

/// The rectangle of a window as the bridge tells it: x, y, width, height.
fn bounds(window: &Value) -> [f64; 4] {
    let number = |place: usize, part: usize| window["bounds"][place][part].as_f64().unwrap();
    [number(0, 0), number(0, 1), number(1, 0), number(1, 1)]
}

#[test]
fn list_capture_click_type_and_a_hotkey_through_the_bridge() {
    let Some(display) = Display::start("800x600x24") else { return };
    let _manager = display.manager();
    let bridge = Bridge::serve(&display);
    assert!(bridge.run(&["status"]).stdout.contains("OpenClaw.app"));

    let file = bridge.home.join("typed");
    let mut xterm = display.program(
        "xterm",
        &["-u8", "-T", "Notes", "-bg", "#102030", "-e", "sh", "-c", &format!("cat > {}", file.display())],
    );
    let mut asks = display.program("xmessage", &["-buttons", "Yes:7,No:8", "-geometry", "+20+400", "Shall it be?"]);
    let list = |app: &str| {
        let answer = bridge.run(&["list", "windows", "--app", app, "--json"]);
        (answer.code == Some(0))
            .then(|| answer.json()["windows"]["_0"][0].clone())
            .filter(|window| window["isOnScreen"] == true)
    };
    let notes = wait_until("the window", || list("XTerm"));
    assert_eq!(notes["title"], "Notes");
    let id = notes["window_id"].to_string();

    let shot = bridge.home.join("shot.png");
    bridge.json(&["capture", "--window", &id, "--out", shot.to_str().unwrap()]);
    let (width, height, pixels) = png::decode(&std::fs::read(&shot).unwrap());
    let [_, _, wide, high] = bounds(&notes);
    assert_eq!((width as f64, height as f64), (wide, high));
    assert_eq!(pixels[height / 2 * width + width / 2], [0x10, 0x20, 0x30]);

    bridge.json(&["window", "focus", "--window", &id]);
    bridge.json(&["type", "grün 10 €\n"]);
    bridge.json(&["press", "ctrl,d"]);
    wait_until("the program's end", || xterm.ended());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "grün 10 €\n");

    let [x, y, _, high] = wait_until("the question", || list("Xmessage").map(|window| bounds(&window)));
    // Its second button, from the lower left corner: below it lies the frame's border.
    let frame = display.tool("xprop", &["-name", "xmessage", "_NET_FRAME_EXTENTS"]);
    let border: Vec<f64> =
        frame.split('=').nth(1).unwrap().split(',').map(|part| part.trim().parse().unwrap()).collect();
    let at = format!("{},{}", x + border[0] + 52.0, y + high - border[3] - 15.0);
    bridge.json(&["click", "--at", &at]);
    assert_eq!(wait_until("the answer", || asks.ended()), 8);
}

/// The host's own connection has a window that is never shown. Shown by a person's tools, it is a window of that process
/// like any prompt.
#[test]
fn sec_h04_the_bridge_reaches_no_window_of_its_own_process() {
    let Some(display) = Display::start("800x600x24") else { return };
    let bridge = Bridge::serve(&display);
    bridge.json(&["list", "apps"]);
    let tree = display.tool("xwininfo", &["-root", "-tree"]);
    let own =
        tree.lines().find(|line| line.contains(" 1x1+-1+-1")).unwrap().split_whitespace().next().unwrap().to_owned();
    display.tool("xdotool", &["windowsize", &own, "200", "150", "windowmove", &own, "100", "100", "windowmap", &own]);
    wait_until("the window", || display.tool("xwininfo", &["-id", &own]).contains("IsViewable").then_some(()));
    display.tool("xdotool", &["windowfocus", "--sync", &own]);
    let number = u32::from_str_radix(own.trim_start_matches("0x"), 16).unwrap().to_string();
    for words in [
        &["click", "--at", "150,150"][..],
        &["click", "--at", "150,150", "--right"],
        &["move", "--at", "150,150"],
        &["drag", "--from", "150,150", "--at", "500,500"],
        &["drag", "--from", "500,500", "--at", "150,150"],
        &["type", "\n"],
        &["press", "return"],
        &["press", "space"],
        &["window", "focus", "--window", &number],
        &["window", "close", "--window", &number],
        &["window", "place", "--window", &number, "--at", "0,0"],
    ] {
        let refused = bridge.run(words);
        assert_eq!(refused.code, Some(1), "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("window of OpenClaw itself"), "{words:?}: {refused:?}");
    }
    // Beside it, all is as usual.
    bridge.json(&["click", "--at", "500,500"]);
    drop(bridge.process);
}
