//! The bridge inside the app: off until its owner wants it, gone as soon as not (A131), told in `status` and noted in the
//! audit log. And `computer.act` from a gateway to a program on a virtual X server.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;
mod support_x11;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use support::{mode, wait_until};
use support_exec::*;
use support_x11::Display;

fn app(scratch: &Scratch, flags: &[&str]) -> App {
    let mut command = scratch.openclaw(&[&["app", "--ask", "none", "--no-tcp"], flags].concat());
    command.env("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS", "1");
    App::start_with(scratch, command)
}

fn switch(scratch: &Scratch, bridge: bool, control: bool) {
    let switches = json!({"bridge": bridge, "computer-control": control});
    write_private(&scratch.state().join("switches.json"), switches.to_string().as_bytes());
}

fn standing(scratch: &Scratch) -> String {
    let status = scratch.mac_debug(&["status", "--json"]).json();
    status["appStatus"]["bridge"].as_str().unwrap_or_default().to_owned()
}

fn wait_for(scratch: &Scratch, words: &str) {
    wait_until(words, || standing(scratch).starts_with(words).then_some(()));
}

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.state().join("bridge.sock")
}

fn ask(stream: &mut UnixStream, request: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

const PERMISSIONS: &str = r#"{"permissionsStatus":{}}"#;

#[test]
fn sec_a131_the_bridge_is_there_exactly_as_long_as_its_owner_wants_it() {
    let scratch = Scratch::new();
    let app = app(&scratch, &[]);
    assert_eq!(standing(&scratch), "off");
    assert!(!socket(&scratch).exists());
    switch(&scratch, true, false);
    wait_for(&scratch, "off: the switch computer-control is off");
    assert!(!socket(&scratch).exists());

    switch(&scratch, true, true);
    wait_for(&scratch, &format!("serving {}", socket(&scratch).display()));
    assert_eq!(mode(&socket(&scratch)), 0o600);
    let answer = ask(&mut UnixStream::connect(socket(&scratch)).unwrap(), PERMISSIONS);
    assert!(answer.contains("permissionsStatus"), "{answer}");

    // A client that is connected loses its connection, and what it still sends does nothing.
    let mut early = UnixStream::connect(socket(&scratch)).unwrap();
    switch(&scratch, true, false);
    wait_for(&scratch, "off: the switch computer-control is off");
    assert!(!socket(&scratch).exists());
    assert_eq!(ask(&mut early, PERMISSIONS), "");

    switch(&scratch, true, true);
    wait_for(&scratch, "serving ");
    assert_eq!(scratch.mac_debug(&["pause"]).code, Some(0));
    wait_for(&scratch, "off: everything is paused");
    assert_eq!(scratch.mac_debug(&["resume", "--yes"]).code, Some(0));
    wait_for(&scratch, "serving ");
    // A document that cannot be read leaves everything off.
    write_private(&scratch.state().join("switches.json"), b"{");
    wait_for(&scratch, "off");
    wait_until("no socket", || (!socket(&scratch).exists()).then_some(()));

    let log = std::fs::read_to_string(scratch.state().join("audit.jsonl")).unwrap_or_default();
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((count("the bridge is on"), count("the bridge is off")), (3, 3), "{log}");
    assert_eq!(scratch.mac_debug(&["audit", "verify"]).code, Some(0));
    drop(app);
}

#[test]
fn the_flag_stands_for_the_bridges_own_switch_and_a_stop_leaves_no_socket() {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    switch(&scratch, false, true);
    let mut app = app(&scratch, &["--bridge"]);
    wait_for(&scratch, "serving ");
    // Another program that asks for the socket gets a word about it, and ours stays.
    let second = must_fail(scratch.openclaw(&["bridge", "serve"]), "a second host");
    assert!(second.contains("bridge"), "{second}");
    assert!(ask(&mut UnixStream::connect(socket(&scratch)).unwrap(), PERMISSIONS).contains("permissionsStatus"));
    app.signal(libc::SIGTERM);
    assert!(app.wait().success());
    assert!(!socket(&scratch).exists());
}

fn invoke(scratch: &Scratch, members: &Value) -> String {
    let mut members = members.clone();
    members["executionId"] = "0b6c3f9e-1111-4222-8333-444455556666".into();
    let done = scratch.mac_debug(&["invoke", "computer.act", &members.to_string()]);
    format!("{}{}", done.stdout, done.stderr)
}

#[test]
fn computer_act_is_declared_when_its_owner_switches_it_on_and_types() {
    let Some(display) = Display::start("800x600x24") else { return };
    let _manager = display.manager();
    let scratch = Scratch::new();
    let mut command = scratch.openclaw(&["app", "--ask", "none", "--no-tcp"]);
    command.env("DISPLAY", &display.name);
    let _app = App::start_with(&scratch, command);
    wait_for_node(&scratch);
    let typed = json!({"action": "type", "text": "grün\n"});
    let said = invoke(&scratch, &typed);
    assert!(!said.contains("\"ok\""), "off by default: {said}");

    switch(&scratch, false, true);
    // The app tells its own gateway what its owner has switched on; nobody is asked again.
    wait_until("computer.act", || {
        scratch.mac_debug(&["nodes", "--json"]).stdout.contains("computer.act").then_some(())
    });

    let file = scratch.join("typed");
    let _xterm = display.program("xterm", &["-u8", "-e", "sh", "-c", &format!("cat > {}", file.display())]);
    wait_until("a terminal", || file.exists().then_some(()));
    wait_until("the terminal has the keyboard", || invoke(&scratch, &typed).contains("\"ok\"").then_some(()));
    wait_until("the text", || (std::fs::read_to_string(&file).ok()? == "grün\n").then_some(()));
    let said = invoke(&scratch, &json!({"action": "left_click", "x": 1, "y": 1}));
    assert!(said.contains("COMPUTER_STALE_FRAME"), "{said}");
    let said = invoke(&scratch, &json!({"action": "launch_app", "app": "xterm"}));
    assert!(said.contains("COMPUTER_UNSUPPORTED_ACTION"), "{said}");
    let said = invoke(&scratch, &json!({"action": "list_windows"}));
    assert!(said.contains("windowRef"), "{said}");
    // Looked at again at each call, whatever was declared.
    switch(&scratch, false, false);
    let said = invoke(&scratch, &typed);
    assert!(said.contains("COMPUTER_DISABLED") || said.contains("declare"), "{said}");
}
