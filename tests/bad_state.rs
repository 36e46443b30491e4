//! Bad state: records that are broken or unsafe at start and while running, a full disk, no
//! descriptors left. Nothing crashes, nothing stored is lost, the next good request works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use support::{
    Client, Connect, Device, Finished, Gateway, Options, Process, Stream, Surface, TOKEN, TempDir, Upgrade, free_port,
    mode, openclaw, wait_until,
};

/// What the gateway stores, and what it may do with a loosened mode: repair it, or refuse a file
/// that is nothing but a secret.
const FILES: &[(&str, Loosened)] = &[
    ("openclaw.json", Loosened::Either),
    ("devices/paired.json", Loosened::Repaired),
    ("devices/pending.json", Loosened::Repaired),
    ("nodes/paired.json", Loosened::Repaired),
    ("nodes/pending.json", Loosened::Repaired),
    ("identity/gateway.json", Loosened::Refused),
];

#[derive(Clone, Copy, PartialEq)]
enum Loosened {
    Repaired,
    Refused,
    Either,
}

/// A node that is paired and approved, and may come back with its own token.
struct Known {
    device: Device,
    surface: Surface,
    token: String,
}

impl Known {
    fn pair(gateway: &Gateway) -> Self {
        let (device, surface) = (Device::new(), Surface::linux(&["system.which"]));
        let (_node, hello) = Client::login_hello(gateway, &Connect::node(&device, &surface));
        gateway.approve_surface(&device.id());
        Self { device, surface, token: hello["auth"]["deviceToken"].as_str().unwrap().to_owned() }
    }

    fn connect(&self) -> Connect {
        Connect::node(&self.device, &self.surface).device_token(&self.token)
    }

    /// Connects, and finds its surface still approved.
    fn assert_known(&self, gateway: &Gateway) {
        let _node = Client::login(gateway, &self.connect());
        let row = gateway.owner().request("node.describe", json!({"nodeId": self.device.id()})).unwrap();
        assert_eq!((&row["approvalState"], &row["commands"]), (&json!("approved"), &json!(["system.which"])), "{row}");
    }
}

/// A stopped gateway's state directory, everything of [`FILES`] in it, and its node.
fn stored() -> (Rc<TempDir>, Known) {
    let gateway = Gateway::new();
    let known = Known::pair(&gateway);
    // Something waits in every record.
    Client::login(&gateway, &Connect::node(&Device::new(), &Surface::linux(&["system.run"])));
    let wider = Connect::cli(&["operator.read"]).device(&known.device);
    assert_eq!(Client::tcp(&gateway).connect(&wider).unwrap_err()["details"]["reason"], "role-upgrade");
    let state = Rc::clone(&gateway.state);
    gateway.stop();
    for (file, _) in FILES {
        assert!(state.join(file).exists(), "{file}");
    }
    (state, known)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts a gateway; whether it came up, and what it said until it ended or was stopped.
fn try_to_start(state: &Rc<TempDir>) -> (bool, Finished) {
    let mut process = Process::spawn(Options::default().state(state).no_config().command(free_port()));
    let up = wait_until("a start or an end", || {
        if process.ended().is_some() {
            return Some(false);
        }
        UnixStream::connect(state.join("gateway.sock")).is_ok().then_some(true)
    });
    if up {
        process.signal(libc::SIGTERM);
    }
    (up, process.finish())
}

/// Every file, spoilt in every way, one after the other, before the start.
#[test]
fn a_spoilt_file_at_start_is_named_and_kept() {
    let (state, known) = stored();
    let elsewhere = state.join("elsewhere");
    for (file, _) in FILES {
        let path = state.join(file);
        let good = fs::read(&path).unwrap();
        let half = &good[..good.len() / 2];
        let spoilt: [(&str, &[u8]); 7] = [
            ("empty", b""),
            ("half of it", half),
            ("not JSON", b"\0\xff\xfe garbage"),
            ("another shape", b"[1, 2]\n"),
            ("nested", &[b'['; 5_000]),
            ("twice the same", b"{\"a\":1,\"a\":2}"),
            ("huge", &vec![b' '; 5 << 20]),
        ];
        for (how, bytes) in spoilt {
            fs::write(&path, bytes).unwrap();
            let (up, ended) = try_to_start(&state);
            let told = format!("{file}, {how}: {ended:?}");
            assert!(ended.stderr.contains(path.file_name().unwrap().to_str().unwrap()), "it names the file: {told}");
            assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains(TOKEN), "{told}");
            if up {
                // A key that is none is put aside, and a new one made: without it nothing could start.
                assert_eq!(*file, "identity/gateway.json", "{told}");
                let aside: Vec<_> = fs::read_dir(path.parent().unwrap())
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.to_str().unwrap().contains(".broken-"))
                    .collect();
                assert_eq!(aside.len(), 1, "{told}");
                assert_eq!(fs::read(&aside[0]).unwrap(), bytes, "{told}");
                fs::remove_file(&aside[0]).unwrap();
            } else {
                assert!(ended.code.is_some_and(|code| code != 0 && code != 101), "{told}");
                assert_eq!(fs::read(&path).unwrap(), bytes, "it stays as it is: {told}");
            }
        }
        fs::write(&elsewhere, &good).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let ended = Options::default().state(&state).no_config().run_to_end();
        assert!(ended.code.is_some_and(|code| code != 0) && ended.stderr.contains("link"), "{file}: {ended:?}");
        assert_eq!(fs::read(&elsewhere).unwrap(), good, "{file}: nothing is written through a link");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let ended = Options::default().state(&state).no_config().run_to_end();
        assert!(ended.code.is_some_and(|code| code != 0 && code != 101), "{file}, a directory: {ended:?}");
        fs::remove_dir(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        set_mode(&path, 0o600);
    }
    known.assert_known(&Gateway::start(Options::default().state(&state).no_config()));
}

/// A file that others may read: a record is repaired, a key is not used any more.
#[test]
fn a_file_that_others_may_read_is_repaired_or_refused() {
    let (state, known) = stored();
    for (file, expected) in FILES {
        let path = state.join(file);
        set_mode(&path, 0o644);
        let (up, ended) = try_to_start(&state);
        match expected {
            Loosened::Repaired => assert!(up && mode(&path) == 0o600, "{file}: {ended:?}"),
            Loosened::Refused => assert!(!up && ended.stderr.contains("others may read"), "{file}: {ended:?}"),
            Loosened::Either => assert!(!up || mode(&path) == 0o600, "{file}: {ended:?}"),
        }
        set_mode(&path, 0o600);
    }
    known.assert_known(&Gateway::start(Options::default().state(&state).no_config()));
}

/// Waits for the health that is told when it changes; a presence change makes the gateway look.
fn told_health(owner: &mut Client, gateway: &Gateway, ok: bool) {
    drop(Client::login(gateway, &Connect::cli(&[])));
    let frame = owner.take("health", |frame| frame["event"] == "health" && frame["payload"]["ok"] == ok);
    assert!(frame["stateVersion"]["health"].as_u64().is_some_and(|version| version > 0), "{frame}");
    assert!(frame["seq"].is_u64(), "{frame}");
}

/// A record that goes bad under a running gateway: what is paired goes on, what is new is refused
/// with a reason and is not half-known, the file stays as it is, and the repair is noticed.
#[test]
fn a_record_that_goes_bad_while_running_loses_nothing() {
    for (how, spoil) in [
        ("broken", (|path: &Path| fs::write(path, b"{ broken").unwrap()) as fn(&Path)),
        ("link", |path: &Path| {
            fs::write(path.with_extension("other"), b"{}").unwrap();
            fs::remove_file(path).unwrap();
            symlink(path.with_extension("other"), path).unwrap();
        }),
        ("directory", |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ] {
        let gateway = Gateway::new();
        let known = Known::pair(&gateway);
        let mut owner = gateway.owner();
        let mut node = Client::login(&gateway, &known.connect());
        for file in ["devices/paired.json", "nodes/paired.json"] {
            let path = gateway.state.join(file);
            let good = fs::read(&path).unwrap();
            let stranger = Device::new();
            let newcomer = Connect::node(&stranger, &Surface::linux(&["system.run"]));
            spoil(&path);
            known.assert_known(&gateway);
            if file.starts_with("devices") {
                for _ in 0..2 {
                    let error = Client::tcp(&gateway).connect(&newcomer).unwrap_err();
                    assert_eq!(error["code"], "UNAVAILABLE", "{how}: {error}");
                    assert!(error["message"].as_str().unwrap().contains("paired.json"), "{how}: {error}");
                }
            } else {
                let removed = owner.request("node.pair.remove", json!({"nodeId": known.device.id()}));
                assert!(removed.is_err(), "{how}: {removed:?}");
            }
            told_health(&mut owner, &gateway, false);
            node.event("health");
            if path.is_dir() {
                fs::remove_dir(&path).unwrap();
            } else {
                let kept = fs::read(&path).unwrap();
                assert!(kept == b"{ broken" || kept == b"{}", "{how}: {}", String::from_utf8_lossy(&kept));
                fs::remove_file(&path).unwrap();
            }
            fs::write(&path, &good).unwrap();
            set_mode(&path, 0o600);
            if file.starts_with("devices") {
                Client::login(&gateway, &newcomer);
            } else {
                Known::pair(&gateway);
            }
            told_health(&mut owner, &gateway, true);
            known.assert_known(&gateway);
        }
    }
}

/// A shell in a mount namespace of its own, with a tiny file system; told what to do line by line.
struct SmallDisk {
    shell: Child,
    answers: BufReader<std::process::ChildStdout>,
    state: PathBuf,
    /// Process id of the gateway that runs there.
    gateway: Option<String>,
}

impl SmallDisk {
    /// None where this is forbidden.
    fn new(at: &TempDir) -> Option<Self> {
        let state = at.join("state");
        fs::create_dir(&state).unwrap();
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let answers = BufReader::new(shell.stdout.take().unwrap());
        let mut disk = Self { shell, answers, state, gateway: None };
        let mount =
            format!("mount -t tmpfs -o size=256k,mode=700 tmpfs {} && echo yes || echo no", disk.state.display());
        (disk.say(&mount)? == "yes").then_some(disk)
    }

    /// Has one line done; gives the last line that it prints.
    fn say(&mut self, line: &str) -> Option<String> {
        writeln!(self.shell.stdin.as_ref().unwrap(), "{line}; echo .").ok()?;
        let (mut last, mut next) = (String::new(), String::new());
        loop {
            next.clear();
            if self.answers.read_line(&mut next).ok()? == 0 {
                return None;
            }
            if next.trim_end() == "." {
                return Some(last);
            }
            next.trim_end().clone_into(&mut last);
        }
    }

    /// Starts a gateway in there and waits for its port.
    fn gateway(&mut self, port: u16) {
        let command = openclaw(&self.state);
        let program = command.get_program().to_str().unwrap().to_owned();
        let state = self.state.display();
        let pid = self
            .say(&format!(
                "OPENCLAW_STATE_DIR={state} {program} gateway --port {port} >/dev/null 2>>{state}.log & echo $!"
            ))
            .unwrap();
        self.gateway = Some(pid);
        wait_until("the gateway on the small disk", || TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// Ends the gateway that runs there.
    fn stop(&mut self) {
        if let Some(pid) = self.gateway.take() {
            let _ = self.say(&format!("kill {pid}; wait {pid}"));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.stop();
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

fn client(port: u16) -> Client {
    Client::over(Stream::tcp(port), &Upgrade::to(port))
}

/// ENOSPC: who is known comes in, who is new is told that it cannot be kept, no file is damaged;
/// with room again everything works, also after a restart.
#[test]
fn a_full_disk_loses_nothing() {
    let at = TempDir::new();
    let Some(mut disk) = SmallDisk::new(&at) else {
        println!("a_full_disk_loses_nothing: skipped, no mount namespace can be made here");
        return;
    };
    let state = disk.state.display().to_string();
    let config = json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": TOKEN}}});
    disk.say(&format!("umask 077; echo '{config}' > {state}/openclaw.json"));
    let port = free_port();
    disk.gateway(port);
    let node = |device: &Device| Connect::node(device, &Surface::linux(&["system.which"]));
    let (first, second) = (Device::new(), Device::new());
    let mut owner = client(port);
    owner.connect(&Connect::backend(&["operator.read", "operator.admin"])).unwrap();
    client(port).connect(&node(&first)).unwrap();
    let records = format!("cat {state}/*/*.json | cksum");
    let before = disk.say(&records).unwrap();
    disk.say(&format!("cat /dev/zero > {state}/fill 2>/dev/null"));
    for _ in 0..3 {
        let error = client(port).connect(&node(&second)).unwrap_err();
        assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)), "{error}");
        client(port).connect(&node(&first)).unwrap();
    }
    assert_eq!(disk.say(&records).unwrap(), before, "a record was damaged");
    assert_eq!(disk.say(&format!("find {state} -name '*.tmp*' | wc -l")).unwrap().trim(), "0");
    assert_eq!(owner.request("health", json!({})).unwrap()["ok"], false);
    disk.say(&format!("rm {state}/fill"));
    client(port).connect(&node(&second)).unwrap();
    assert_eq!(owner.request("health", json!({})).unwrap()["ok"], true);
    disk.stop();
    let port = free_port();
    disk.gateway(port);
    let mut owner = client(port);
    owner.connect(&Connect::backend(&["operator.read"])).unwrap();
    let list: Value = owner.request("node.list", json!({})).unwrap();
    assert_eq!(list["nodes"].as_array().unwrap().len(), 2, "{list}");
}

/// EMFILE: a gateway that may open few files turns some away, and serves again afterwards.
#[test]
fn running_out_of_descriptors_ends_nothing() {
    let state = Rc::new(TempDir::new());
    let options = Options::default().state(&state);
    let port = free_port();
    let inner = options.command(port);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 32; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut gateway = Gateway { process: Process::spawn(command), port, state };
    wait_until("the gateway", || TcpStream::connect(("127.0.0.1", port)).ok());
    let known = Known::pair(&gateway);
    let before = fs::read(gateway.state.join("devices/paired.json")).unwrap();
    for _ in 0..3 {
        let crowd: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
        assert!(crowd.len() > 40);
        // New ones are turned away one by one, not left hanging.
        let mut one_more = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(one_more.write_all(b"GET / HTTP/1.1\r\n"));
        wait_until("that to be said", || gateway.process.stderr().contains("cannot be accepted").then_some(()));
        drop(crowd);
        wait_until("a good answer", || {
            assert!(gateway.process.ended().is_none(), "{}", gateway.process.stderr());
            let mut stream = Stream::tcp(port);
            stream.write_all(&Upgrade::to(port).bytes()).ok()?;
            (support::read_answer(&mut stream).status == 101).then_some(())
        });
    }
    assert_eq!(fs::read(gateway.state.join("devices/paired.json")).unwrap(), before);
    known.assert_known(&gateway);
    gateway.assert_alive();
}
