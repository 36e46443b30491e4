//! `mac-debug status` and `doctor` on a healthy system and on broken ones. What they print is kept in
//! `tests/snapshots/`, with what differs from run to run written as a word; `UPDATE_SNAPSHOTS=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use support::{
    FakeNode, Faketime, Finished, Gateway, Options, Process, Pty, Reply, Surface, TOKEN, free_port, mode, wait_until,
};
use support_exec::*;

/// A machine whose gateway's port is one that nobody else has.
struct Machine {
    scratch: Scratch,
    port: u16,
}

impl Machine {
    fn new() -> Self {
        Self { scratch: Scratch::new(), port: free_port() }
    }

    fn state(&self) -> PathBuf {
        self.scratch.state()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scratch.mac_debug_command(arguments);
        // As the file says it; a variable would be a finding of its own.
        if !self.state().join("openclaw.json").exists() {
            command.env("OPENCLAW_GATEWAY_PORT", self.port.to_string());
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        Process::run(self.command(arguments))
    }

    fn app(&self) -> App {
        let port = self.port.to_string();
        let app = App::start_with(&self.scratch, self.scratch.openclaw(&["app", "--ask", "none", "--port", &port]));
        wait_for_node(&self.scratch);
        app
    }

    /// The directory, and an `openclaw.json` of its owner.
    fn configured(&self, gateway: Value) {
        make_dir(&self.state());
        write_private(&self.state().join("openclaw.json"), json!({ "gateway": gateway }).to_string().as_bytes());
    }

    /// Both outputs as they are kept, and the exit code of the doctor.
    fn keep(&self, name: &str, expected: i32) -> String {
        let doctor = self.run(&["doctor"]);
        let status = self.run(&["status"]);
        self.compare(name, expected, &doctor, &status)
    }

    fn compare(&self, name: &str, expected: i32, doctor: &Finished, status: &Finished) -> String {
        assert_eq!(doctor.code, Some(expected), "{name}: {doctor:?}");
        assert!(status.code == Some(0) && status.stderr.is_empty() && doctor.stderr.is_empty(), "{name}: {status:?}");
        let kept =
            format!("$ openclaw mac-debug status\n{}\n$ openclaw mac-debug doctor\n{}", status.stdout, doctor.stdout);
        let kept = self.normal(&kept);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &kept).unwrap();
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, before, "{name} prints something else than {}", path.display());
        kept
    }

    fn normal(&self, text: &str) -> String {
        let text = text.replace(text_of(self.scratch.path()), "~tmp").replace(&self.port.to_string(), "PORT");
        let lines = text.lines().map(|line| {
            let mut line = line.to_owned();
            for (before, after) in [
                ("(pid ", ")"),
                ("; up ", " s;"),
                ("proves the key ", ""),
                ("state, by: ", ""),
                ("clock differs by ", " s"),
                // The last caller may still be leaving.
                (" nodes, ", " operators"),
            ] {
                if let Some(start) = line.find(before).map(|at| at + before.len()) {
                    let end = if after.is_empty() {
                        line.len()
                    } else {
                        line[start..].find(after).map_or(line.len(), |at| start + at)
                    };
                    line.replace_range(start..end, "…");
                }
            }
            for (after, word) in [(" MiB free", "N"), (" (pid …), which is not our", "PROGRAM")] {
                if let Some(end) = line.find(after) {
                    let start = line[..end].rfind(' ').unwrap() + 1;
                    line.replace_range(start..end, word);
                }
            }
            line.replace(&host_name(), "HOST")
                .replace(env!("CARGO_PKG_VERSION"), "VERSION")
                .replace("(os error 61)", "(os error 111)")
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn host_name() -> String {
    String::from_utf8(Command::new("hostname").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// The checks of `doctor --json` that are no `ok`, as `check: status`.
fn bad(machine: &Machine) -> Vec<String> {
    let found = machine.run(&["doctor", "--json"]).json();
    let rows = found["checks"].as_array().unwrap().iter().filter(|row| row["status"] != "ok");
    rows.map(|row| format!("{}: {}", row["check"].as_str().unwrap(), row["status"].as_str().unwrap())).collect()
}

#[test]
fn a_healthy_machine() {
    let machine = Machine::new();
    let _app = machine.app();
    machine.keep("healthy", 0);
    let found = machine.run(&["doctor", "--json"]).json();
    assert_eq!(found["ok"], true);
    assert!(
        found["checks"].as_array().unwrap().iter().all(|row| row["status"] == "ok" && row["remedy"].is_null()),
        "{found}"
    );
    let status = machine.run(&["status", "--json"]).json();
    assert_eq!(status["problems"], json!([]));
    assert_eq!(status["listener"]["pid"], status["gatewayLock"]["pid"], "{status}");
    for socket in status["sockets"].as_array().unwrap().iter().filter(|row| row["present"] == true) {
        assert_eq!((&socket["mode"], &socket["served"]), (&json!("0600"), &json!(true)), "{socket}");
    }
}

#[test]
fn nothing_is_there_yet() {
    let machine = Machine::new();
    machine.keep("nothing", 1);
    assert!(!machine.state().exists());
}

#[test]
fn only_a_gateway_and_no_node() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let mut gateway = Process::spawn(machine.scratch.openclaw(&["gateway"]));
    wait_until("the gateway", || {
        assert!(gateway.ended().is_none(), "{}", gateway.stderr());
        machine.state().join("gateway.sock").exists().then_some(())
    });
    machine.keep("no-node", 1);
    // Another secret in the shell than the gateway has.
    let with = |arguments: &[&str]| {
        let mut command = machine.command(arguments);
        command.env("OPENCLAW_GATEWAY_TOKEN", "another-token-than-the-one-of-the-gateway");
        Process::run(command)
    };
    let kept = machine.compare("wrong-token", 1, &with(&["doctor"]), &with(&["status"]));
    assert!(kept.contains("AUTH_TOKEN_MISMATCH") && !kept.contains("another-token"), "{kept}");
}

#[test]
fn two_nodes_of_one_name_and_one_that_waits() {
    let gateway = Gateway::new();
    let surface = Surface::linux(&["system.which"]);
    let answer = |_: &Value| Reply::Payload(json!({}));
    let _nodes = [(); 2].map(|()| FakeNode::approved(&gateway, &surface, answer));
    let _waits = FakeNode::pending(&gateway, &surface, answer);
    let finished = Process::run(gateway.mac_debug(&["doctor"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("3 nodes are called "), "{finished:?}");
    assert!(
        finished.stdout.contains("waits for approval") && finished.stdout.contains("pair approve "),
        "{finished:?}"
    );
}

#[test]
fn a_stranger_has_the_port() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let stranger = TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
    // It answers as no gateway does.
    std::thread::spawn(move || {
        for stream in stranger.incoming() {
            let _ = stream.unwrap().write_all(b"SSH-2.0-x\r\n\r\n");
        }
    });
    let kept = machine.keep("port-taken", 1);
    assert!(kept.contains("which is not our gateway"), "{kept}");
}

#[test]
fn another_users_program_has_the_port() {
    if !is_root() || !have("setpriv", "another_users_program_has_the_port") || !have("perl", "the same") {
        return;
    }
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 5) or die $@; sleep 600;";
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "perl",
        "-e",
        listen,
        &machine.port.to_string(),
    ]);
    let _stranger = Process::spawn(command);
    wait_until("the stranger", || std::net::TcpStream::connect(("127.0.0.1", machine.port)).ok());
    machine.keep("port-of-another-user", 1);
}

/// Everything that `--fix` may touch, and the same after it.
#[test]
fn loose_modes_and_leftovers_are_repaired_when_that_is_wanted() {
    let machine = Machine::new();
    drop(machine.app());
    let state = machine.state();
    drop(UnixListener::bind(state.join("gateway.sock")).unwrap());
    drop(UnixListener::bind(state.join("bridge.sock")).unwrap());
    set_mode(&state.join("nodes/paired.json"), 0o644);
    set_mode(&state.join("devices"), 0o755);
    set_mode(&state, 0o755);
    machine.keep("loose", 1);

    // Nobody can be asked: it says what it would do and does nothing.
    let asked = machine.run(&["doctor", "--fix"]);
    assert!(asked.code == Some(2) && asked.stderr.contains("nothing was changed"), "{asked:?}");
    for what in ["chmod 700 ", "chmod 600 ", "/gateway.sock (nobody serves it)"] {
        assert!(asked.stderr.contains(what), "{asked:?}");
    }
    assert!(state.join("gateway.sock").exists() && mode(&state) == 0o755);

    let fixed = machine.run(&["doctor", "--fix", "--yes"]);
    assert!(fixed.stderr.contains("/gateway.sock (nobody serves it)"), "it says what it does: {fixed:?}");
    assert!(!state.join("gateway.sock").exists() && !state.join("bridge.sock").exists(), "{fixed:?}");
    assert_eq!(
        (mode(&state), mode(&state.join("devices")), mode(&state.join("nodes/paired.json"))),
        (0o700, 0o700, 0o600)
    );
    let bad = bad(&machine);
    assert!(
        !bad.iter().any(|row| row.starts_with("files") || row.starts_with("sockets") || row.starts_with("state")),
        "{bad:?}"
    );
    assert_eq!(machine.run(&["doctor", "--yes"]).code, Some(2));
}

/// What somebody else may have read or written is no matter of a mode: it is told and not repaired.
#[test]
fn what_cannot_be_trusted_any_more_is_not_repaired() {
    let machine = Machine::new();
    drop(machine.app());
    let state = machine.state();
    set_mode(&state.join("identity/gateway.json"), 0o644);
    set_mode(&state.join("devices/paired.json"), 0o666);
    fs::write(state.join("mac-control.sock"), "no socket").unwrap();
    machine.keep("untrusted", 1);
    machine.run(&["doctor", "--fix", "--yes"]);
    assert_eq!((mode(&state.join("identity/gateway.json")), mode(&state.join("devices/paired.json"))), (0o644, 0o666));
    assert!(state.join("mac-control.sock").exists());
}

#[test]
fn a_socket_that_is_open_to_others() {
    let machine = Machine::new();
    let _app = machine.app();
    let socket = machine.state().join("exec-approvals.sock");
    set_mode(&socket, 0o666);
    assert_eq!(bad(&machine), ["sockets: problem"]);
    assert_eq!(machine.run(&["doctor", "--fix", "--yes"]).code, Some(0));
    assert_eq!(mode(&socket), 0o600);
}

#[test]
fn broken_files() {
    let machine = Machine::new();
    drop(machine.app());
    let state = machine.state();
    fs::write(state.join("nodes/paired.json"), "{").unwrap();
    fs::write(state.join("exec-approvals.json"), "{\"version\":1,\"version\":1}").unwrap();
    machine.keep("broken-documents", 1);
    fs::write(state.join("openclaw.json"), "{gateway: {port: 'x'}}").unwrap();
    machine.keep("broken-config", 1);
}

#[test]
fn a_broken_audit_log_and_a_paused_machine() {
    let machine = Machine::new();
    let app = machine.app();
    for word in ["one", "two"] {
        machine.run(&["run", "--", "echo", word]);
    }
    drop(app);
    let log = machine.state().join("audit.jsonl");
    let lines = fs::read_to_string(&log).unwrap();
    fs::write(&log, lines.replace("echo one", "echo ONE")).unwrap();
    machine.run(&["pause"]);
    let bad = bad(&machine);
    assert!(bad.contains(&"audit: problem".to_owned()) && bad.contains(&"paused: note".to_owned()), "{bad:?}");
}

#[test]
fn a_secret_that_can_be_guessed_and_a_folder_that_is_copied() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": "password1"}}));
    fs::write(machine.state().join("disable-launchagent"), "").unwrap();
    let kept = machine.keep("weak-token", 1);
    assert!(!kept.contains("password1"), "{kept}");
    let synced = machine.scratch.join("Dropbox");
    make_dir(&synced);
    let mut command = machine.command(&["doctor"]);
    command.env("OPENCLAW_STATE_DIR", synced.join("state"));
    make_dir(&synced.join("state"));
    let found = Process::run(command).stdout;
    assert!(found.contains("copied to other machines (Dropbox)"), "{found}");
}

#[test]
fn a_clock_that_was_put_back() {
    let machine = Machine::new();
    let _app = machine.app();
    let file = fs::File::options().write(true).open(machine.state().join("nodes/paired.json")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3_600)).unwrap();
    assert_eq!(bad(&machine), ["clock: problem"]);
    file.set_modified(SystemTime::now()).unwrap();
    assert!(bad(&machine).is_empty());
}

#[test]
fn a_gateway_with_another_clock() {
    let test = "a_gateway_with_another_clock";
    let Some(faketime) = Faketime::find(test) else { return };
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let clock = faketime.clock(machine.scratch.join("clock"));
    clock.set("+1h");
    let mut command = machine.scratch.openclaw(&["gateway"]);
    command.envs(clock.environment());
    let _gateway = Process::spawn(command);
    wait_until("the gateway", || machine.state().join("gateway.sock").exists().then_some(()));
    let found = machine.run(&["doctor"]);
    assert!(
        found.stdout.contains("the gateway's clock differs by 35")
            || found.stdout.contains("the gateway's clock differs by 36"),
        "{found:?}"
    );
}

/// An app that says other things than ours can on this system.
fn scripted_app(machine: &Machine, status: &Value) {
    let path = machine.state().join("mac-control.sock");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    set_mode(&path, 0o600);
    let answer = format!("{status}\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A look at whether anybody serves says nothing.
            if BufReader::new(&stream).lines().next().is_some() {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
}

#[test]
fn permissions_that_are_missing_and_another_version() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    scripted_app(
        &machine,
        &json!({"ok": true, "app": {"version": "0.0.9", "bundleId": "ai.openclaw.mac", "teamId": null, "translocated": true},
            "mode": "local", "pendingPrompts": 2, "fence": "seatbelt", "grants": 0,
            "node": {"connected": true}, "operator": {"connected": false, "why": "refused \u{1b}[2J"},
            "permissions": {"accessibility": "granted", "screenRecording": "denied", "microphone": "notDetermined", "x\u{202e}": "unsupported"}}),
    );
    let kept = machine.keep("permissions", 1);
    assert!(!kept.contains('\u{1b}') && !kept.contains('\u{202e}'), "{kept}");
}

/// A159: whatever an app, a gateway or a file says, nothing of it reaches the terminal as it is.
#[test]
fn sec_a159_no_output_can_move_the_cursor() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let nasty = "a\u{1b}]52;c;eA==\u{7}\r\n\u{202e}b\u{9b}2J";
    scripted_app(
        &machine,
        &json!({"ok": true, "app": {"version": nasty, "bundleId": nasty, "teamId": nasty}, "mode": nasty, "held": nasty, "fence": nasty,
            "grants": nasty, "node": {"connected": false, "why": nasty}, "operator": {"connected": false, "why": nasty},
            "tunnel": {"target": nasty, "connected": false, "trouble": nasty}, "bridge": {nasty: nasty}, "permissions": {nasty: "denied"}}),
    );
    make_dir(&machine.state().join("logs"));
    write_private(&machine.state().join("logs/app.log"), format!("{nasty}\n").as_bytes());
    write_private(&machine.scratch.join("recording"), format!("{{\"{nasty}\": 1}}\n").as_bytes());
    for arguments in [&["status"][..], &["doctor"], &["logs"], &["replay", "recording"], &["replay", nasty]] {
        let said = words_of(&machine.run(arguments));
        let is_safe = |character: char| character == '\n' || !character.is_control() && character != '\u{202e}';
        assert!(said.chars().all(is_safe), "{arguments:?}: {said:?}");
        assert!(!said.contains("\nb\u{9b}"), "{arguments:?}: {said:?}");
    }
    for arguments in [&["status", "--json"][..], &["doctor", "--json"]] {
        let said = machine.run(arguments).stdout;
        assert!(serde_json::from_str::<Value>(&said).is_ok() && !said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn nobody_answers_over_ssh() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}, "remote": {"token": TOKEN}}));
    let nowhere = format!("nobody@127.0.0.1:{}", free_port());
    let finished = machine.run(&["--ssh", &nowhere, "doctor"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let gateway = finished.stdout.lines().find(|line| line.starts_with("problem  gateway")).unwrap();
    assert!(gateway.contains("ssh"), "{finished:?}");
}

/// A file system without room, in a mount namespace of its own.
#[test]
fn a_full_disk() {
    let machine = Machine::new();
    make_dir(&machine.state());
    let state = text_of(&machine.state()).to_owned();
    let command = machine.command(&["doctor"]);
    let program = command.get_program().to_str().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=256k,mode=700 tmpfs {state} || exit 77; cat /dev/zero > {state}/fill 2>/dev/null; \
         exec {program} --state-dir {state} mac-debug doctor"
    )
    .replace(&format!("{program} --state-dir {state} mac-debug"), &format!("{program} mac-debug --state-dir {state}"));
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", &script]).stdin(Stdio::null());
    let Ok(output) = shell.output() else { return };
    if output.status.code() != Some(1) {
        println!("a_full_disk: left out, no mount namespace can be made here");
        return;
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("is full (0 MiB free)"), "{said}");
}

#[test]
fn a_second_program_and_options_that_lead_elsewhere() {
    let gateway = Gateway::start(Options::default());
    let state = gateway.state.path().to_owned();
    let mut command = gateway.mac_debug(&["doctor"]);
    let home = gateway.state.join("home");
    make_dir(&home);
    make_dir(&home.join(".openclaw"));
    command.env("HOME", &home).env("OPENCLAW_CONFIG_PATH", state.join("openclaw.json"));
    command.env("OPENCLAW_GATEWAY_PORT", gateway.port.to_string());
    // A unit that starts another program than this one.
    fs::create_dir_all(home.join(".config/systemd/user")).unwrap();
    write_private(
        &home.join(".config/systemd/user/openclaw-app.service"),
        b"[Service]\nExecStart=/opt/old/openclaw app\n",
    );
    let said = Process::run(command).stdout;
    for part in ["is there too", "OPENCLAW_CONFIG_PATH", "OPENCLAW_GATEWAY_PORT (or --port) says"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("services"), "{said}");
}

/// H25: on a terminal the person is asked, after everything that would be done was shown.
#[test]
fn sec_h25_a_repair_is_shown_and_asked_for() {
    let machine = Machine::new();
    machine.configured(json!({"port": machine.port, "auth": {"token": TOKEN}}));
    let socket = machine.state().join("gateway.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let answered = |word: &str| {
        let mut terminal = Pty::spawn(machine.command(&["doctor", "--fix"]));
        let shown = terminal.expect("do it? [y/N]");
        assert!(shown.contains("gateway.sock (nobody serves it)"), "{shown}");
        terminal.type_text(word);
        terminal.finish().1
    };
    for word in ["\n", "n\n", "no\n", "x\n"] {
        assert!(answered(word).contains("nothing was changed"), "{word:?}");
        assert!(socket.exists());
    }
    answered("y\n");
    assert!(!socket.exists());
}

/// Point 3: the version at every level.
#[test]
fn versions_are_told_everywhere() {
    let machine = Machine::new();
    for words in [&[][..], &["gateway"], &["node"], &["app"], &["mac-debug"], &["mac-debug", "status"]] {
        let said = Process::run(machine.scratch.openclaw(&[words, &["--version", "--json"]].concat()));
        let version = said.json();
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"), "{words:?}");
        assert_eq!(version["protocol"], json!({"min": 3, "max": 4}), "{words:?}");
        assert!(version["target"].as_str().unwrap().ends_with(std::env::consts::OS), "{version}");
        let said = Process::run(machine.scratch.openclaw(&[words, &["-V"]].concat()));
        assert!(said.stdout.starts_with("openclaw ") && said.stdout.lines().count() == 1, "{said:?}");
    }
    assert!(!machine.state().exists());
}
