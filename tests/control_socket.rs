//! The app's control socket and `mac-debug grants`: looks and tightens, and holds nobody up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{DEADLINE, Process, mode, wait_until};
use support_exec::*;

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.state().join("mac-control.sock")
}

fn connect(scratch: &Scratch) -> UnixStream {
    let stream = UnixStream::connect(socket(scratch)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// What comes back for these bytes, to the end of the connection.
fn say(scratch: &Scratch, bytes: &[u8]) -> String {
    let mut stream = connect(scratch);
    // A line that is too long is answered before all of it was read.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn ask(scratch: &Scratch, request: &Value) -> Value {
    let answer = say(scratch, format!("{request}\n").as_bytes());
    assert_eq!(answer.matches('\n').count(), 1, "one line: {answer:?}");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn an_app_without_grants_lists_none_and_takes_its_socket_away() {
    let scratch = Scratch::new();
    let mut app = App::start(&scratch);
    assert_eq!(mode(&socket(&scratch)), 0o600);
    assert_eq!(ask(&scratch, &json!({"type": "grants.list"})), json!({"ok": true, "grants": []}));
    for id in ["all", "1", ""] {
        assert_eq!(ask(&scratch, &json!({"type": "grants.revoke", "id": id})), json!({"ok": true, "revoked": 0}));
    }
    let listed = scratch.mac_debug(&["grants", "list"]);
    assert_eq!((listed.code, &*listed.stdout), (Some(0), "no command is granted for a while\n"), "{listed:?}");
    let listed = scratch.mac_debug(&["grants", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&listed.stdout).unwrap(), json!({"ok": true, "grants": []}));
    let revoked = scratch.mac_debug(&["grants", "revoke", "7"]);
    assert!(revoked.code == Some(0) && revoked.stdout.contains("no such grant"), "{revoked:?}");
    let revoked = scratch.mac_debug(&["grants", "revoke", "all", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&revoked.stdout).unwrap(), json!({"ok": true, "revoked": 0}));
    for wrong in [&["grants", "add"][..], &["grants", "revoke"], &["grants", "list", "1"]] {
        assert_eq!(scratch.mac_debug(wrong).code, Some(2), "{wrong:?}");
    }
    app.signal(libc::SIGTERM);
    assert!(app.wait().success());
    assert!(!socket(&scratch).exists());
}

#[test]
fn without_an_app_there_is_a_sentence_and_nothing_is_created() {
    let scratch = Scratch::new();
    for arguments in [&["grants", "list"][..], &["grants", "list", "--json"], &["grants", "revoke", "all"]] {
        let refused = scratch.mac_debug(arguments);
        assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused:?}");
        assert!(refused.stderr.contains("no app runs here") && refused.stderr.contains("openclaw app"), "{refused:?}");
    }
    assert!(!scratch.state().exists());
    // A socket whose app has died is no app.
    make_dir(&scratch.state());
    drop(std::os::unix::net::UnixListener::bind(socket(&scratch)).unwrap());
    let refused = scratch.mac_debug(&["grants", "list"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("no app runs here"), "{refused:?}");
}

#[test]
fn sec_a117_what_is_no_request_is_refused_with_a_sentence() {
    let scratch = Scratch::new();
    let mut app = App::start(&scratch);
    let long = format!("{{\"type\":\"grants.list\",\"x\":\"{}\"}}\n", "x".repeat(100_000));
    let deep = format!("{{\"type\":\"grants.list\",\"x\":{}{}}}\n", "[".repeat(5_000), "]".repeat(5_000));
    for bytes in [
        &b"{\"type\":\"grants.add\"}\n"[..],
        b"{\"type\":\"exec\"}\n",
        b"{\"type\":7}\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\n",
        b"not json\n",
        b"\xff\n",
        b"{\"type\":\"grants.list\",\"type\":\"grants.list\"}\n",
        b"{\"type\":\"grants.list\"}",
        b"{\"type\":\"grants.revoke\"}\n",
        b"{\"type\":\"grants.revoke\",\"id\":1}\n",
        long.as_bytes(),
        deep.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let answer: Value = serde_json::from_str(&say(&scratch, bytes)).unwrap_or_else(|_| panic!("{shown}"));
        assert_eq!(answer["ok"], json!(false), "{shown}");
        assert_eq!(answer["error"]["code"], json!("INVALID_REQUEST"), "{shown}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty(), "{shown}");
    }
    // Only the first line of a connection is a request.
    let twice = say(&scratch, b"{\"type\":\"grants.list\"}\n{\"type\":\"grants.list\"}\n");
    assert_eq!(twice.lines().count(), 1, "{twice}");
    assert!(app.is_alive());
}

#[test]
fn sec_a110_another_user_is_refused_on_the_control_socket() {
    if !is_root() || !have("setpriv", "sec_a110") || !have("perl", "sec_a110") {
        eprintln!("sec_a110: left out, because only root can become another user");
        return;
    }
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    // The other user can come as far as connect: only the peer check is left.
    set_mode(scratch.path(), 0o711);
    set_mode(&scratch.state(), 0o711);
    set_mode(&socket(&scratch), 0o666);
    let talk = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"connect: $@\"; \
                print \"connected\\n\"; $SIG{PIPE} = 'IGNORE'; print {$s} qq({\"type\":\"grants.list\"}\\n); $s->flush; print while <$s>;";
    let path = socket(&scratch);
    let as_user = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "perl", "-e", talk, path.to_str().unwrap()]);
        Process::run(command)
    };
    let stranger = as_user("65534");
    assert_eq!(stranger.stdout, "connected\n", "{}", words_of(&stranger));
    wait_until("the refusal in the log", || app.log().contains("another user to the control socket").then_some(()));
    assert!(as_user("0").stdout.contains("\"ok\":true"), "the owner's twin is served");
}

/// A116, A165 on this socket: who says nothing keeps neither a request nor the end of the app.
#[test]
fn sec_a116_a165_a_hundred_silent_connections_hold_up_nobody() {
    let scratch = Scratch::new();
    let mut app = App::start(&scratch);
    let silent: Vec<UnixStream> = (0..100).map(|_| connect(&scratch)).collect();
    let started = Instant::now();
    assert_eq!(ask(&scratch, &json!({"type": "grants.list"}))["ok"], json!(true));
    assert!(started.elapsed() < Duration::from_secs(4), "it waited behind them: {:?}", started.elapsed());
    let started = Instant::now();
    app.signal(libc::SIGTERM);
    assert!(app.wait().success());
    assert!(started.elapsed() < Duration::from_secs(4), "they delayed the end: {:?}", started.elapsed());
    drop(silent);
}
