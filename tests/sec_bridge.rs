//! Hostile clients of the bridge (security cases, area 10): the real host on its real socket, with a desktop that
//! notes what reaches it; and the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_bridge;

use openclaw::bridge::client::{call, shake_hands};
use openclaw::bridge::host::Signers;
use openclaw::bridge::{lets_unsigned_in, link_legacy_names, socket_of, unlink_legacy_names};
use openclaw::desktop::automation::Permissions;
use openclaw::limits;
use openclaw::protocol::peekaboo::Request;
use openclaw::transport::code_identity::Unidentified;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use support::{Process, TempDir, mode, openclaw, wait_until};
use support_bridge::{Desk, Host, Signature, code, exchange, peekaboo, signed, window};

fn click(x: i64, y: i64) -> Value {
    json!({"click": {"_0": {"target": {"kind": "coordinates", "x": x, "y": y}, "clickType": "single"}}})
}

fn scroll() -> Value {
    json!({"scroll": {"_0": {"request": {"direction": "down", "amount": 1, "smooth": false, "delay": 0}}}})
}

fn handshake(major: i64, minor: i64) -> Value {
    json!({"handshake": {"_0": {"protocolVersion": {"major": major, "minor": minor}, "client": {"processIdentifier": 1}}}})
}

fn permissions() -> Value {
    json!({"permissionsStatus": {}})
}

fn refused_by(signature: impl Fn(u32) -> Signature + Send + Sync + 'static) -> Host {
    Host::with(Desk::default(), Signers::default(), false, signature)
}

#[test]
fn sec_a124_unsigned_and_foreign_clients_are_refused() {
    let cases: Vec<Signature> = vec![
        Err(Unidentified::NoSignatures),
        Err(Unidentified::Unsigned),
        Err(Unidentified::Untrustworthy("a forged entitlement".to_owned())),
        Err(Unidentified::Gone),
        signed("AAAAAAAAAA", "boo.peekaboo.peekaboo"),
        signed("Y5PE65HELJ", "com.example.other"),
        signed("", ""),
    ];
    for signature in cases {
        let again = signature.clone();
        let host = refused_by(move |_| again.clone());
        for request in [click(5, 5), permissions(), handshake(1, 7), json!("garbage")] {
            let answer = host.ask(&request);
            assert_eq!(code(&answer), "unauthorizedClient", "{signature:?}: {answer}");
            assert_eq!(answer["error"]["_0"].get("details"), None);
        }
        assert!(host.desk.done().is_empty());
    }
    assert_eq!(code(&Host::new(Desk::default()).ask(&click(5, 5))), "");
}

#[test]
fn sec_a125_every_request_is_checked_not_the_handshake_alone() {
    // Signed rightly at first, then not any more: a handshake that went well opens nothing.
    let host = refused_by(|asked| if asked < 2 { peekaboo() } else { signed("Y5PE65HELJ", "com.example.other") });
    assert!(host.ask(&handshake(1, 7)).get("handshake").is_some());
    for request in [click(1, 1), json!({"type": {"_0": {"text": "x", "clearExisting": false, "typingDelay": 0}}})] {
        assert_eq!(code(&host.ask(&request)), "unauthorizedClient");
    }
    assert!(host.desk.done().is_empty());
    // And none is needed by who may.
    assert!(Host::new(Desk::default()).ask(&permissions()).get("permissionsStatus").is_some());
}

#[test]
fn sec_a126_who_becomes_another_program_meanwhile_is_refused() {
    let other_team = |asked: u32| signed(if asked == 0 { "Y5PE65HELJ" } else { "FWJYW4S8P8" }, "boo.peekaboo.peekaboo");
    let host = refused_by(other_team);
    assert_eq!(code(&host.ask(&click(1, 1))), "unauthorizedClient");
    let gone = refused_by(|asked| if asked == 0 { peekaboo() } else { Err(Unidentified::Gone) });
    assert_eq!(code(&gone.ask(&click(1, 1))), "unauthorizedClient");
    assert!(host.desk.done().is_empty() && gone.desk.done().is_empty());
}

#[test]
fn sec_a127_an_empty_list_lets_nobody_in() {
    let empty = |identifiers: &[&str], teams: &[&str]| Signers {
        identifiers: identifiers.iter().map(|it| (*it).to_owned()).collect(),
        teams: teams.iter().map(|it| (*it).to_owned()).collect(),
    };
    for signers in [empty(&[], &["Y5PE65HELJ"]), empty(&["boo.peekaboo.peekaboo"], &[]), empty(&[], &[])] {
        let host = Host::with(Desk::default(), signers, false, |_| peekaboo());
        assert_eq!(code(&host.ask(&permissions())), "unauthorizedClient");
    }
}

#[test]
fn sec_a128_unsigned_clients_come_in_in_debug_builds_only() {
    assert_eq!(lets_unsigned_in(Some(OsStr::new("1"))), cfg!(debug_assertions));
    for other in ["", "0", "true", "yes", " 1", "11"] {
        assert!(!lets_unsigned_in(Some(OsStr::new(other))), "{other:?}");
    }
    assert!(!lets_unsigned_in(None));
}

/// The program as a host in a directory of its own.
struct Served {
    home: TempDir,
    process: Process,
}

impl Served {
    fn new(program: Option<&Path>, variable: Option<&str>) -> Self {
        let home = TempDir::new();
        let mut command = openclaw(home.path());
        if let Some(program) = program {
            let mut other = std::process::Command::new(program);
            other.env_clear().env("HOME", home.path()).env("OPENCLAW_STATE_DIR", home.path());
            command = other;
        }
        command.args(["bridge", "serve"]);
        if let Some(value) = variable {
            command.env("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS", value);
        }
        let process = Process::spawn(command);
        wait_until("the bridge serves", || process.stderr().contains("bridge: serving ").then_some(()));
        Self { home, process }
    }

    fn socket(&self) -> PathBuf {
        openclaw_socket(self.home.path())
    }

    fn bridge(&self, words: &[&str]) -> support::Finished {
        let mut command = openclaw(self.home.path());
        command.arg("bridge").args(words);
        Process::run(command)
    }
}

fn openclaw_socket(home: &Path) -> PathBuf {
    if cfg!(target_os = "macos") { socket_of("OpenClaw", home) } else { home.join("bridge.sock") }
}

#[test]
fn sec_a128_the_built_program_says_loudly_that_it_lets_everybody_in_or_nobody_comes_in() {
    let open = Served::new(None, Some("1"));
    assert!(open.process.stderr().contains("DANGER"), "{}", open.process.stderr());
    assert_eq!(mode(&open.socket()), 0o600);
    assert!(exchange(&open.socket(), permissions().to_string().as_bytes()).starts_with(b"{\"permissionsStatus\""));
    for value in [None, Some("true"), Some("0")] {
        let closed = Served::new(None, value);
        let answer = exchange(&closed.socket(), permissions().to_string().as_bytes());
        assert_eq!(code(&serde_json::from_slice(&answer).unwrap()), "unauthorizedClient", "{value:?}");
        assert!(!closed.process.stderr().contains("DANGER"));
        assert_eq!(value.is_some(), closed.process.stderr().contains("is ignored"), "{}", closed.process.stderr());
    }
}

/// The binary of the release profile beside the one under test; `make build` makes it.
fn release_binary() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_openclaw"));
    let release = built.parent()?.parent()?.join("release").join(built.file_name()?);
    let is_newer = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bridge/host.rs");
    (is_newer(&release)? >= is_newer(&source)?).then_some(release)
}

#[test]
fn sec_a128_the_release_binary_refuses_everybody() {
    let Some(release) = release_binary() else {
        assert!(std::env::var_os("CI").is_none(), "`make build` comes first");
        println!("skipped: there is no release binary newer than the host's source; `make build` makes one");
        return;
    };
    let host = Served::new(Some(&release), Some("1"));
    for request in [permissions(), handshake(1, 7), click(1, 1)] {
        let answer = exchange(&host.socket(), request.to_string().as_bytes());
        assert_eq!(code(&serde_json::from_slice(&answer).unwrap()), "unauthorizedClient");
    }
    assert!(host.process.stderr().contains("is ignored"), "{}", host.process.stderr());
}

#[cfg(target_os = "linux")]
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn sec_a129_who_is_refused_sends_a_few_kilobytes_at_most() {
    let host = Served::new(None, None);
    let before = resident_kib(host.process.pid());
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let socket = host.socket();
            thread::spawn(move || {
                let mut stream = UnixStream::connect(socket).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                let piece = vec![b' '; 64 * 1024];
                // Up to 1 GB, were it taken.
                let sent = (0..16_384).take_while(|_| stream.write_all(&piece).is_ok()).count();
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                (sent, answer)
            })
        })
        .collect();
    for client in clients {
        let (sent, answer) = client.join().unwrap();
        assert!(sent < 64, "{sent} pieces were taken");
        // A client that goes on writing may lose the answer to the reset; one that reads has it.
        assert!(answer.is_empty() || code(&serde_json::from_slice(&answer).unwrap()) == "unauthorizedClient");
    }
    let grown = resident_kib(host.process.pid()).saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
    // A patient one gets the answer although its request is under way.
    let answer = exchange(&host.socket(), &vec![b' '; 32 * 1024]);
    assert_eq!(code(&serde_json::from_slice(&answer).unwrap()), "unauthorizedClient");
}

#[test]
fn sec_a130_one_operation_that_hangs_does_not_hold_up_others() {
    let host = Host::new(Desk { image_bytes: 4 << 20, ..Desk::default() });
    let started = Instant::now();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| host.ask(&scroll()));
        wait_until("it hangs", || (host.desk.hanging.load(Ordering::SeqCst) == 1).then_some(()));
        // One that does not read its large answer is held up alone.
        let mut deaf = UnixStream::connect(&host.socket).unwrap();
        let capture =
            json!({"captureScreen": {"_0": {"visualizerMode": {"screenshotFlash": {}}, "scale": {"native": {}}}}});
        deaf.write_all(capture.to_string().as_bytes()).unwrap();
        deaf.shutdown(Shutdown::Write).unwrap();
        for number in 0..20 {
            assert_eq!(host.ask(&click(number, 5)), json!({"ok": {}}));
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let answer = hanging.join().unwrap();
        assert_eq!(code(&answer), "timeout", "{answer}");
        let took = started.elapsed();
        assert!((Duration::from_secs(8)..Duration::from_secs(10)).contains(&took), "{took:?}");
        drop(deaf);
    });
    // What comes back to life after all was given up: its thread ends and nothing else happens.
    host.desk.release();
    assert_eq!(host.ask(&click(9, 9)), json!({"ok": {}}));
}

#[test]
fn sec_a130_a_backend_that_panics_costs_one_request() {
    let host = Host::new(Desk::default());
    host.desk.faulty.store(true, Ordering::SeqCst);
    assert_eq!(code(&host.ask(&click(5, 5))), "internalError");
    host.desk.faulty.store(false, Ordering::SeqCst);
    // The mutex that it held is poisoned for a real backend to deal with; ours here was not held.
    assert_eq!(host.ask(&click(5, 5)), json!({"ok": {}}));
}

#[test]
fn sec_a131_switched_off_means_off_also_for_what_is_under_way() {
    let mut host = Host::new(Desk::default());
    let socket = host.socket.clone();
    let typing =
        json!({"type": {"_0": {"text": "abcdefghijklmnopqrstuvwxyz", "clearExisting": false, "typingDelay": 200}}});
    let client = thread::spawn(move || exchange(&socket, typing.to_string().as_bytes()));
    wait_until("it types", || (!host.desk.done().is_empty()).then_some(()));
    // Connected, nothing sent yet.
    let mut waiting = UnixStream::connect(&host.socket).unwrap();
    drop(host.listening.take());
    assert!(!host.socket.exists());
    let answer: Value = serde_json::from_slice(&client.join().unwrap()).unwrap();
    assert!(["timeout", "operationNotSupported"].contains(&code(&answer)), "{answer}");
    let typed = host.desk.done().len();
    assert!(typed < 26, "{typed}");
    let _ = waiting.write_all(click(1, 1).to_string().as_bytes());
    let _ = waiting.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = waiting.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    // At most the one character that was on its way.
    thread::sleep(support::QUIET);
    assert!(host.desk.done().len() <= typed + 1);
}

#[test]
fn sec_a132_unknown_unoffered_and_unpermitted_operations_are_told_apart() {
    let host = Host::new(Desk::default());
    assert_eq!(code(&host.ask(&json!({"noSuchOperation": {}}))), "decodingFailed");
    for request in [
        json!({"daemonStop": {}}),
        json!({"daemonStatus": {}}),
        json!({"browserExecute": {"_0": {"toolName": "x", "arguments": {}}}}),
    ] {
        assert_eq!(code(&host.ask(&request)), "operationNotSupported", "{request}");
    }
    for (major, minor) in [(0, 9), (99, 0), (1, 8), (2, 0), (1, -1), (i64::MAX, i64::MIN)] {
        assert_eq!(code(&host.ask(&handshake(major, minor))), "versionMismatch", "{major}.{minor}");
    }
    *host.desk.permissions.lock().unwrap() = Permissions::default();
    let capture = json!({"captureArea": {"_0": {"rect": [[0, 0], [1, 1]], "visualizerMode": {"screenshotFlash": {}},
        "scale": {"native": {}}}}});
    let targeted = json!({"targetedHotkey": {"_0": {"keys": "a", "holdDuration": 0, "targetProcessIdentifier": 5}}});
    let launch = json!({"launchApplication": {"_0": {"identifier": "Editor"}}});
    for (request, permission) in
        [(click(1, 1), "accessibility"), (capture, "screenRecording"), (targeted, "postEvent"), (launch, "appleScript")]
    {
        let answer = host.ask(&request);
        assert_eq!((code(&answer), &answer["error"]["_0"]["permission"]), ("permissionDenied", &json!(permission)));
        let message = answer["error"]["_0"]["message"].as_str().unwrap();
        assert!(message.contains("OpenClaw.app") && message.contains("System Settings"), "{message}");
    }
    assert!(host.desk.done().is_empty());
}

#[test]
fn sec_a133_paths_and_ids_in_requests_name_no_files() {
    let host = Host::new(Desk::default());
    let directory = TempDir::new();
    let precious = directory.join("precious");
    fs::write(&precious, "x").unwrap();
    for id in ["../../x", "/etc/passwd", "a\0b", "", ".", &"x".repeat(10_240)] {
        for request in [
            json!({"storeScreenshot": {"_0": {"snapshotId": id, "screenshotPath": precious}}}),
            json!({"cleanSnapshot": {"_0": {"snapshotId": id}}}),
            json!({"getDetectionResult": {"_0": {"snapshotId": id}}}),
            json!({"click": {"_0": {"target": {"kind": "elementId", "value": "e"}, "clickType": "single", "snapshotId": id}}}),
        ] {
            assert_eq!(code(&host.ask(&request)), "invalidRequest", "{request}");
        }
    }
    // Kept as a text: neither opened (a FIFO would block) nor deleted with its snapshot.
    let path = precious.to_str().unwrap();
    let store = json!({"storeScreenshot": {"_0": {"snapshotId": "s-1", "screenshotPath": path}}});
    assert_eq!(host.ask(&store), json!({"ok": {}}));
    let kept = host.ask(&json!({"getDetectionResult": {"_0": {"snapshotId": "s-1"}}}));
    assert_eq!(kept["detection"]["_0"]["screenshotPath"], path);
    assert_eq!(host.ask(&json!({"cleanAllSnapshots": {}})), json!({"int": {"_0": 1}}));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "x");
    assert_eq!(fs::read_dir(host.socket.parent().unwrap()).unwrap().count(), 2, "the socket and its lock");
    // The one operation that writes files for a client is not offered.
    let offered = host.ask(&handshake(1, 7));
    let offered = offered["handshake"]["_0"]["supportedOperations"].as_array().unwrap();
    assert!(offered.contains(&json!("click")) && !offered.contains(&json!("desktopObservation")));
}

#[test]
fn sec_a134_legacy_names_are_links_of_ours_or_left_alone() {
    let home = TempDir::new();
    let socket = socket_of("OpenClaw", home.path());
    let [clawdbot, clawdis, moltbot] = ["clawdbot", "clawdis", "moltbot"].map(|name| socket_of(name, home.path()));
    let make = |path: &Path, mode: u32| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // A file, a link elsewhere; the third is free.
    make(clawdbot.parent().unwrap(), 0o700);
    fs::write(&clawdbot, "precious").unwrap();
    make(clawdis.parent().unwrap(), 0o700);
    symlink(home.join("elsewhere"), &clawdis).unwrap();
    link_legacy_names(&socket, home.path());
    assert_eq!(fs::read_to_string(&clawdbot).unwrap(), "precious");
    assert_eq!(fs::read_link(&clawdis).unwrap(), home.join("elsewhere"));
    assert_eq!(fs::read_link(&moltbot).unwrap(), socket);
    assert_eq!(mode(moltbot.parent().unwrap()), 0o700);
    link_legacy_names(&socket, home.path());
    unlink_legacy_names(&socket, home.path());
    assert!(fs::symlink_metadata(&moltbot).is_err());
    assert!(fs::symlink_metadata(&clawdbot).is_ok() && fs::symlink_metadata(&clawdis).is_ok());
    // A directory into which others can put something, and one that is a link.
    fs::set_permissions(moltbot.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_dir_all(clawdis.parent().unwrap()).unwrap();
    make(&home.join("real"), 0o700);
    symlink(home.join("real"), clawdis.parent().unwrap()).unwrap();
    link_legacy_names(&socket, home.path());
    assert!(fs::symlink_metadata(&moltbot).is_err() && fs::symlink_metadata(&clawdis).is_err());
}

#[test]
fn sec_a135_errors_tell_nothing_that_was_not_theirs_to_know() {
    let host = Host::new(Desk::default());
    let query =
        |value: &str| json!({"click": {"_0": {"target": {"kind": "query", "value": value}, "clickType": "single"}}});
    let secret = "s3cret-typed-text";
    let broken = json!({"type": {"_0": {"text": secret, "clearExisting": "/home/me/private", "typingDelay": 0}}});
    for request in [
        query("fail:other"),
        query("fail:elementNotFound"),
        broken,
        json!({"focusWindow": {"_0": {"target":
        {"kind": "title", "title": secret}}}}),
    ] {
        let answer = host.ask(&request).to_string();
        for leak in ["/home", "Secret title", secret, "private", "Window 1", "Editor"] {
            assert!(!answer.contains(leak), "{leak} in {answer}");
        }
        assert!(answer.len() < 300 && !answer.contains("details"), "{answer}");
    }
    let refusing = refused_by(|_| Err(Unidentified::Unsigned));
    let answer = refusing.ask(&query(secret)).to_string();
    assert!(!answer.contains("FWJYW4S8P8") && !answer.contains("peekaboo") && !answer.contains(secret), "{answer}");
}

/// A snapshot of window 1 with its elements.
fn look(host: &Host, id: &str) -> String {
    let looked = host.ask(&json!({"detectElements": {"_0": {"imageData": "", "snapshotId": id}}}));
    let buttons = looked["elementDetection"]["_0"]["elements"]["other"].as_array().unwrap();
    let save = buttons.iter().find(|element| element["label"] == "Save").unwrap();
    save["id"].as_str().unwrap().to_owned()
}

#[test]
fn sec_a136_a_click_never_hits_what_has_taken_the_place() {
    let host = Host::new(Desk::default());
    let element = look(&host, "s-1");
    let click = json!({"click": {"_0": {"target": {"kind": "elementId", "value": element}, "clickType": "single",
        "snapshotId": "s-1"}}});
    let windows = |list: Vec<_>| *host.desk.windows.lock().unwrap() = list;
    assert_eq!(host.ask(&click), json!({"ok": {}}));
    assert!(host.desk.done()[0].contains("x: 205.0, y: 205.0"), "{:?}", host.desk.done());
    // It has moved: the click goes with it, and the backend is told what it must hit.
    windows(vec![window(1, 501, (150.0, 90.0))]);
    assert_eq!(host.ask(&click), json!({"ok": {}}));
    let done = host.desk.done();
    assert!(done[1].contains("x: 255.0, y: 195.0") && done[1].contains("pid: Some(501), window: Some(1)"), "{done:?}");
    let mut larger = window(1, 501, (100.0, 100.0));
    larger.bounds.size.width += 1.0;
    let mut hidden = window(1, 501, (100.0, 100.0));
    hidden.minimized = true;
    for (what, list) in [
        ("gone", vec![window(2, 502, (100.0, 100.0))]),
        ("its number is another program's now", vec![window(1, 502, (100.0, 100.0))]),
        ("of another size", vec![larger]),
        ("hidden", vec![hidden]),
        ("covered by another program", vec![window(9, 502, (100.0, 100.0)), window(1, 501, (100.0, 100.0))]),
    ] {
        windows(list);
        let answer = host.ask(&click);
        assert_eq!(code(&answer), "invalidRequest", "{what}: {answer}");
        assert!(answer.to_string().contains("SNAPSHOT_STALE"), "{what}: {answer}");
    }
    assert_eq!(host.desk.done().len(), 2);
    // An unknown snapshot, an expired one alike.
    let unknown = json!({"click": {"_0": {"target": {"kind": "elementId", "value": "e"}, "clickType": "single", "snapshotId": "s-2"}}});
    assert!(host.ask(&unknown).to_string().contains("SNAPSHOT_STALE"));
}

#[test]
fn two_hundred_clients_at_once() {
    let host = Host::new(Desk::default());
    thread::scope(|scope| {
        for number in 0..200 {
            let host = &host;
            scope.spawn(move || match number % 4 {
                0 => assert!(host.ask(&handshake(1, number % 8)).get("handshake").is_some()),
                1 => assert!(host.ask(&permissions()).get("permissionsStatus").is_some()),
                2 => assert!(host.ask(&json!({"listApplications": {}})).get("applications").is_some()),
                _ => assert_eq!(host.ask(&click(number, 5)), json!({"ok": {}})),
            });
        }
    });
    assert_eq!(host.desk.done().len(), 50);
}

#[test]
fn a_client_that_never_half_closes_is_cut_off_and_the_socket_is_never_taken_over() {
    let host = Host::new(Desk::default());
    let started = Instant::now();
    let mut stream = UnixStream::connect(&host.socket).unwrap();
    stream.write_all(permissions().to_string().as_bytes()).unwrap();
    let second = openclaw::transport::lease::SocketLease::bind(&host.socket);
    assert!(matches!(second, Err(openclaw::transport::lease::LeaseError::Live(_))));
    assert!(host.ask(&permissions()).get("permissionsStatus").is_some());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    let took = started.elapsed();
    assert!((limits::BRIDGE_READ_DEADLINE..limits::BRIDGE_READ_DEADLINE * 2).contains(&took), "{took:?}");
}

#[test]
fn a_request_may_have_64_mib_and_not_a_byte_more() {
    let host = Host::new(Desk::default());
    let request = |bytes: usize| {
        let text = permissions().to_string();
        let (start, end) = text.split_at(text.len() - 1);
        format!("{start}{}{end}", " ".repeat(bytes - text.len()))
    };
    let answer = exchange(&host.socket, request(limits::BRIDGE_MESSAGE_BYTES).as_bytes());
    assert!(answer.starts_with(b"{\"permissionsStatus\""), "{answer:?}");
    let mut stream = UnixStream::connect(&host.socket).unwrap();
    let _ = stream.write_all(request(limits::BRIDGE_MESSAGE_BYTES + 1).as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    // Nor may it become many times as much in memory.
    let many = format!("{{\"permissionsStatus\":{{\"x\":[{}0]}}}}", "0,".repeat(16 << 20));
    assert_eq!(code(&serde_json::from_slice(&exchange(&host.socket, many.as_bytes())).unwrap()), "decodingFailed");
    assert!(host.ask(&permissions()).get("permissionsStatus").is_some());
}

#[test]
fn our_client_and_our_host_understand_each_other() {
    let host = Host::new(Desk::default());
    let soon = Duration::from_secs(20);
    let answer = shake_hands(&host.socket, soon).unwrap();
    assert_eq!(answer.negotiated_version.minor, 7);
    assert!(answer.supported_operations.len() > 60 && answer.enabled_operations == Some(answer.supported_operations));
    let listed = call(&host.socket, &Request::ListApplications(()), soon).unwrap();
    assert!(serde_json::to_string(&listed).unwrap().contains("com.example.Editor"));
}

#[test]
fn the_built_client_and_the_built_host_work_together() {
    let host = Served::new(None, Some("1"));
    let status = host.bridge(&["status", "--json"]).json();
    assert_eq!(status["selected"], json!({"source": "local"}));
    let ours = status["candidates"].as_array().unwrap().iter().find(|one| one["name"] == "OpenClaw.app").unwrap();
    assert_eq!(ours["result"]["success"]["_0"]["hostKind"], "helper", "{status}");
    let status = host.bridge(&["status", "--verbose"]);
    for text in ["Peekaboo.app", "not running", "Nobody here can see the screen", "openclaw bridge serve", "socket: "] {
        assert!(status.stdout.contains(text), "{text} in {}", status.stdout);
    }
    let granted = host.bridge(&["permissions", "--json"]).json();
    assert_eq!(granted["permissionsStatus"]["_0"]["screenRecording"], false);
    let made = host.bridge(&["call", "createSnapshot"]).json();
    let id = made["snapshotId"]["_0"].as_str().unwrap().to_owned();
    let list = host.bridge(&["call", "listSnapshots", "--json"]).json();
    assert_eq!(list["snapshots"]["_0"][0]["id"], id.as_str());
    let cleaned = host.bridge(&["call", "cleanSnapshot", &json!({"snapshotId": id}).to_string()]);
    assert_eq!((cleaned.code, cleaned.stdout.as_str()), (Some(0), "done\n"));
    // Nobody here has a desktop.
    let list = host.bridge(&["list", "apps"]);
    assert_eq!(list.code, Some(3), "{list:?}");
    assert!(list.stderr.contains("OpenClaw.app: does not offer listApplications"), "{list:?}");
    // Only the given socket is asked.
    let nowhere = host.bridge(&["status", "--json", "--bridge-socket", "/nowhere/bridge.sock"]).json();
    assert_eq!(nowhere["candidates"].as_array().unwrap().len(), 1);
    for wrong in
        [&["click"][..], &["call", "noSuch"], &["press"], &["frobnicate"], &["capture"], &["call", "click", "{}"]]
    {
        assert_eq!(host.bridge(wrong).code, Some(2), "{wrong:?}");
    }
    host.process.signal(libc::SIGTERM);
    let socket = host.socket();
    wait_until("the socket is gone", || (!socket.exists()).then_some(()));
}
