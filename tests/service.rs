//! `openclaw node|app install` and the other words about services, under a real systemd user manager that lives in
//! namespaces of its own. What launchd is told is tested in src/service/tests.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{DEADLINE, Finished, Process, TOKEN, TempDir, openclaw, wait_until};

/// Set where there is a service manager.
const INSIDE: &str = "INSIDE_A_SESSION";
/// Exit code of the script on a machine that cannot do it.
const SKIPPED: i32 = 77;

/// Runs the test of this name again, in a session; false when it runs there already.
fn went_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let home = TempDir::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support_service/session.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", home.path())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(SKIPPED) {
        println!("{test}: {}", text.lines().last().unwrap_or_default());
    } else {
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    true
}

/// The program as a person in the session starts it.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openclaw"));
    command.args(arguments);
    command
}

fn ran(command: Command) -> Finished {
    Process::run(command)
}

/// Runs it; it must succeed.
fn done(arguments: &[&str]) -> String {
    let finished = ran(command(arguments));
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    finished.stdout
}

fn status(role: &str) -> serde_json::Value {
    serde_json::from_str(&done(&[role, "status", "--json"])).unwrap()
}

fn unit(role: &str) -> PathBuf {
    home().join(format!(".config/systemd/user/openclaw-{role}.service"))
}

fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap())
}

/// The arguments of the process that runs as this service.
fn arguments(role: &str) -> Vec<String> {
    let pid = status(role)["pid"].as_u64().unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Every file below a directory in which a text stands.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_node_is_installed_changed_stopped_started_and_removed() {
    if went_inside("a_node_is_installed_changed_stopped_started_and_removed") {
        return;
    }
    const NAME: &str = r#"My "Mac" 100% $HOME ${X} %h \ 'é'; x"#;
    assert_eq!(status("node")["installed"], false);
    let none = done(&["node", "uninstall"]);
    assert!(none.contains("nothing to do"), "{none}");
    let refused = ran(command(&["node", "start"]));
    assert!(refused.code == Some(1) && refused.stderr.contains("openclaw node install"), "{refused:?}");
    let bad = ran(command(&["node", "install", "--url", "ws://example.com:1"]));
    assert!(bad.code == Some(1) && !unit("node").exists(), "{bad:?}");

    // A socket on which nobody listens, so that the node stays and tries again.
    let socket = home().join("nobody.sock");
    let install = ["node", "install", "--display-name", NAME, "--socket", socket.to_str().unwrap()];
    let mut first = command(&install);
    first.env("OPENCLAW_GATEWAY_TOKEN", "sesame-open-yourself");
    let installed = ran(first);
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let before = status("node");
    assert!(before["installed"] == true && before["running"] == true, "{before}");
    let words = arguments("node");
    assert_eq!(words[1..3], ["node", "run"]);
    assert!(words.iter().any(|word| word == NAME), "{words:?}");
    let verified = Command::new("systemd-analyze").args(["verify", "--user"]).arg(unit("node")).output().unwrap();
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    let token = home().join(".openclaw/identity/node-service-token");
    assert_eq!(files_with(&home(), "sesame"), std::slice::from_ref(&token));
    assert_eq!(support::mode(&token), 0o600);

    // The same again, without the token in the environment: the same process, and the token stays.
    done(&install);
    assert_eq!(status("node")["pid"], before["pid"]);
    assert!(arguments("node").iter().any(|word| word == "--stored-token"));

    done(&["node", "install", "--port", "4567", "--state-dir", home().join("other").to_str().unwrap()]);
    assert_ne!(status("node")["pid"], before["pid"]);
    assert!(!arguments("node").iter().any(|word| word == NAME));
    assert!(files_with(&home(), "sesame").is_empty(), "a token does not stay where no service reads it");
    let before = status("node");
    done(&["node", "restart"]);
    let after = status("node");
    assert!(after["running"] == true && after["pid"] != before["pid"], "{after}");
    let stopped = done(&["node", "stop"]);
    assert!(stopped.contains("does not run"), "{stopped}");
    assert_eq!(status("node")["lastExitCode"], 0, "a service ends as a program does that was asked to");
    done(&["node", "stop"]);
    done(&["node", "start"]);
    assert_eq!(status("node")["running"], true);
    let json = ran(command(&["node", "uninstall", "--json"])).json();
    assert!(json["installed"] == false && json["running"] == false, "{json}");
    let left: Vec<_> =
        fs::read_dir(unit("node").parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.is_dir() && fs::read_dir(path).unwrap().next().is_none()), "{left:?}");
}

/// The app in local mode, and a node of its own identity that gets in with the token that was stored.
#[test]
fn app_and_node_run_as_services_side_by_side() {
    if went_inside("app_and_node_run_as_services_side_by_side") {
        return;
    }
    let refused = ran(command(&["app", "install", "--ask", "terminal"]));
    assert!(refused.code == Some(1) && refused.stderr.contains("no terminal"), "{refused:?}");
    let mut install = command(&["app", "install", "--no-tcp"]);
    install.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    assert_eq!(ran(install).code, Some(0));
    assert!(arguments("app").windows(2).any(|pair| pair == ["--ask", "operator"]));
    let nodes = || {
        let mut command = command(&["mac-debug", "nodes", "--json"]);
        command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        ran(command).stdout
    };
    wait_until("the app's own node", || nodes().contains("\"connected\": true").then_some(()));
    let gateway = home().join(".openclaw/gateway.sock");
    let other = home().join("other");
    let mut install = command(&["node", "install", "--display-name", "second", "--socket", gateway.to_str().unwrap()]);
    install.env("OPENCLAW_GATEWAY_TOKEN", TOKEN).env("OPENCLAW_STATE_DIR", &other);
    assert_eq!(ran(install).code, Some(0));
    wait_until("the other node", || {
        let mut pending = command(&["mac-debug", "pair", "list", "--json"]);
        pending.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        format!("{}{}", nodes(), ran(pending).stdout).contains("\"second\"").then_some(())
    });
    done(&["node", "uninstall"]);
    assert!(!other.join("identity/node-service-token").exists(), "also without being told the state directory again");
    done(&["app", "uninstall"]);
    assert!(files_with(&home(), TOKEN).is_empty());
}

/// Which ssh, with which key and configuration, named from another directory than the service's.
#[test]
fn the_way_over_ssh_is_kept() {
    if went_inside("the_way_over_ssh_is_kept") {
        return;
    }
    for name in ["key", "config"] {
        fs::write(home().join(name), "").unwrap();
    }
    let target = format!("me@127.0.0.1:{}", support::free_port());
    let install = |role: &str, flags: &[&str]| {
        let mut command = command(&[role, "install"]);
        command.args(flags).current_dir(home());
        ran(command)
    };
    for role in ["app", "node"] {
        let alone = install(role, &["--ssh-identity", "key"]);
        assert!(alone.code == Some(1) && alone.stderr.contains("say that too"), "{alone:?}");
        let missing = install(role, &["--ssh", &target, "--ssh-config", "none"]);
        assert!(missing.code == Some(1) && missing.stderr.contains("cannot be handed to ssh"), "{missing:?}");
        assert!(!unit(role).exists());
        let way = ["--ssh", &target, "--ssh-identity", "key", "--ssh-config", "config", "--port", "4567"];
        let installed = install(role, &way);
        assert_eq!(installed.code, Some(0), "{installed:?}");
        let words = arguments(role);
        let value = |flag: &str| words[1 + words.iter().position(|word| word == flag).expect(flag)].as_str();
        assert_eq!(value("--ssh"), target);
        assert_eq!(Path::new(value("--ssh-identity")), home().join("key"));
        assert_eq!(Path::new(value("--ssh-config")), home().join("config"));
        assert_eq!(value("--port"), "4567");
        let pid = status(role)["pid"].clone();
        assert_eq!(install(role, &way).code, Some(0));
        assert_eq!(status(role)["pid"], pid, "the same flags, the same service");
        done(&[role, "uninstall"]);
    }
}

/// Under launchd the log is a file of our own, which is turned over; what launchd opened, for appending, is left for
/// crashes, and cut at a start when it has grown.
#[test]
fn a_log_file_is_turned_over_when_it_is_full() {
    let state = TempDir::new();
    let logs = state.join("logs");
    fs::create_dir(&logs).unwrap();
    for name in ["node.log", "node-stdout.log"] {
        fs::write(logs.join(name), "old\n".repeat(2_000_000)).unwrap();
    }
    let output = fs::OpenOptions::new().append(true).open(logs.join("node-stdout.log")).unwrap();
    let mut node = openclaw(state.path());
    // Nobody listens there, which is what it logs.
    node.args(["node", "--socket", "nobody.sock"]).stderr(output).stdout(std::process::Stdio::null());
    let mut node = node.spawn().unwrap();
    let deadline = Instant::now() + DEADLINE;
    let is_full = || fs::metadata(logs.join("node.log")).unwrap().len() > 1_000_000;
    while is_full() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(!is_full());
    let read = |name: &str| fs::read_to_string(logs.join(name)).unwrap();
    let (new, output) = (read("node.log"), read("node-stdout.log"));
    assert!(!new.contains('\0') && !new.contains("old"), "{new}");
    assert!(output.is_empty(), "the log is not there: {output}");
    let old = read("node.1.log");
    assert!(old.len() > 8_000_000 && old.starts_with("old\n") && old.contains("nobody.sock"));
    assert!(read("node-stdout.1.log").starts_with("old\n"));
}

/// `make restart` without its build.
#[test]
fn restart_puts_the_new_binary_in_place_and_starts_it() {
    if went_inside("restart_puts_the_new_binary_in_place_and_starts_it") {
        return;
    }
    let restart = || {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/restart.sh"));
        command.env("OPENCLAW_BIN", env!("CARGO_BIN_EXE_openclaw"));
        ran(command)
    };
    let none = restart();
    assert!(none.code == Some(1) && none.stderr.contains("app install"), "{none:?}");
    let place = home().join(".local/bin/openclaw");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_openclaw"), &place).unwrap();
    let mut install = Command::new(&place);
    install.args(["app", "install", "--no-tcp"]);
    assert_eq!(ran(install).code, Some(0));
    let before = status("app")["pid"].clone();
    let old = fs::metadata(&place).unwrap();
    let restarted = restart();
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    let after = status("app")["pid"].clone();
    assert_ne!(after, before, "{restarted:?}");
    assert_eq!(fs::read_link(format!("/proc/{after}/exe")).unwrap(), place);
    assert_ne!(fs::metadata(&place).unwrap().ino(), old.ino());
    done(&["node", "install"]);
    let elsewhere = restart();
    assert!(elsewhere.code == Some(1) && elsewhere.stderr.contains("node install"), "{elsewhere:?}");
    assert_eq!(status("app")["pid"], after, "nothing was touched");
}

/// No bus, no runtime directory: nothing is written, and the answer says what to do.
#[cfg(not(target_os = "macos"))]
#[test]
fn without_a_service_manager_the_answer_says_what_to_do() {
    let state = TempDir::new();
    let finished = |arguments: &[&str]| {
        let mut command = openclaw(state.path());
        // As where nobody is logged in, also if somebody is.
        command.args(arguments).env("XDG_RUNTIME_DIR", state.join("none"));
        Process::spawn(command).finish()
    };
    let refused = finished(&["node", "install"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("no service manager answers here") && refused.stderr.contains("`run`"),
        "{refused:?}"
    );
    assert!(fs::read_dir(state.path()).unwrap().next().is_none());
    assert_eq!(finished(&["node", "uninstall"]).code, Some(0));
    let status = finished(&["app", "status", "--json"]);
    assert!(status.code == Some(0) && status.json()["problem"].is_string(), "{status:?}");
    let unknown = finished(&["node", "instal"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("uninstall"), "{unknown:?}");
}
