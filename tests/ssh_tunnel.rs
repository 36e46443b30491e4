//! A gateway on another machine, reached with `--ssh`, against a real sshd on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::{Finished, Gateway, Process, TOKEN, TempDir, children, free_port, openclaw, signal, wait_until};

const SSHD: &str = "/usr/sbin/sshd";

/// False, with the reason, where there is no sshd.
fn have_sshd(test: &str) -> bool {
    let missing = [SSHD, "/usr/bin/ssh", "/usr/bin/ssh-keygen"].into_iter().find(|path| !Path::new(path).exists());
    if let Some(path) = missing {
        println!("{test}: skipped, there is no {path} on this machine (Debian: openssh-server)");
    }
    missing.is_none()
}

/// Another machine's sshd, on loopback, and what our ssh knows about it.
struct Sshd {
    dir: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Sshd {
    /// One that knows our key, and whose key we know.
    fn new() -> Self {
        let sshd = Self::unknown();
        sshd.know("host");
        sshd
    }

    /// One whose key we do not know.
    fn unknown() -> Self {
        let dir = TempDir::new();
        for name in ["host", "other-host", "client", "stranger"] {
            let status = Command::new("/usr/bin/ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(dir.join(name))
                .stdin(Stdio::null())
                .status();
            assert!(status.unwrap().success());
        }
        fs::copy(dir.join("client.pub"), dir.join("authorized_keys")).unwrap();
        let mut sshd = Self { dir, port: free_port(), process: None };
        sshd.configure("");
        sshd.start();
        sshd
    }

    /// Writes the configuration of our ssh, with `more` before the rest.
    fn configure(&self, more: &str) {
        let dir = self.dir.path().display();
        let config = format!(
            "{more}\nUserKnownHostsFile {dir}/known_hosts\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n\
             IdentitiesOnly yes\nIdentityFile {dir}/client\n"
        );
        fs::write(self.dir.join("ssh_config"), config).unwrap();
    }

    /// From now on our ssh takes this key for the machine's.
    fn know(&self, key: &str) {
        let public = fs::read_to_string(self.dir.join(format!("{key}.pub"))).unwrap();
        fs::write(self.dir.join("known_hosts"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
    }

    fn start(&mut self) {
        let dir = self.dir.path().display();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nLogLevel VERBOSE\nMaxStartups 100\n",
            self.port
        );
        fs::write(self.dir.join("sshd_config"), config).unwrap();
        // As root it wants the directory that its service would make.
        // SAFETY: geteuid has no arguments.
        if unsafe { libc::geteuid() } == 0 {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.dir.join("sshd_config")).stdin(Stdio::null());
        let mut process = Process::spawn(command);
        wait_until("sshd listens", || {
            assert!(process.ended().is_none(), "sshd ended: {}", process.stderr());
            TcpStream::connect(("127.0.0.1", self.port)).is_ok().then_some(())
        });
        self.process = Some(process);
    }

    /// Ends it with all its sessions, as a machine that goes down does.
    fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            let mut all = vec![process.pid()];
            for next in 0.. {
                let Some(pid) = all.get(next).copied() else { break };
                all.extend(children(pid));
            }
            drop(process);
            for pid in all.into_iter().skip(1) {
                // It may have ended with the one above it.
                // SAFETY: kill takes two integers.
                unsafe { libc::kill(libc::pid_t::try_from(pid).unwrap(), libc::SIGKILL) };
            }
        }
    }

    fn log(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::stderr)
    }

    fn target(&self) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        format!("{}@127.0.0.1:{}", String::from_utf8(user.stdout).unwrap().trim(), self.port)
    }

    /// `--ssh` and what belongs to it.
    fn flags(&self, gateway_port: u16) -> Vec<String> {
        let config = self.dir.join("ssh_config");
        let flags = ["--ssh", &self.target(), "--ssh-config", config.to_str().unwrap(), "--port"];
        flags.into_iter().map(str::to_owned).chain([gateway_port.to_string()]).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// This machine: its own state directory, apart from the gateway's.
struct Here(TempDir);

impl Here {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn command(&self, arguments: &[&str], flags: &[String]) -> Command {
        let mut command = openclaw(self.0.path());
        command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN).args(arguments).args(flags);
        command
    }

    fn node(&self, flags: &[String]) -> Process {
        Process::spawn(self.command(&["node", "run", "--exec-host", "local"], flags))
    }

    fn mac_debug(&self, flags: &[String], arguments: &[&str]) -> Finished {
        let mut command = self.command(&["mac-debug"], flags);
        command.args(arguments);
        Process::run(command)
    }

    fn node_id(&self) -> String {
        let device: Value = wait_until("a device key", || {
            let text = fs::read_to_string(self.0.join("identity/device.json")).ok()?;
            serde_json::from_str(&text).ok()
        });
        device["deviceId"].as_str().unwrap().to_owned()
    }
}

fn said(process: &Process, what: &str) {
    wait_until(&format!("'{what}' in the log"), || process.stderr().contains(what).then_some(()));
}

/// Live `ssh` processes below `pid`.
fn ssh_of(pid: u32) -> Vec<u32> {
    let is_ssh = |pid: &u32| {
        let name = Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&name.stdout).trim() == "ssh"
    };
    children(pid).into_iter().filter(is_ssh).collect()
}

fn is_alive(pid: u32) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

fn which(gateway: &Gateway) -> Finished {
    Process::run(gateway.mac_debug(&["invoke", "system.which", r#"{"bins":["sh"]}"#]))
}

/// A node behind sshd, connected and approved.
fn connected(sshd: &Sshd, gateway: &Gateway, here: &Here) -> Process {
    let node = here.node(&sshd.flags(gateway.port));
    said(&node, "connected to ");
    gateway.approve_surface(&here.node_id());
    node
}

#[test]
fn a_node_serves_through_ssh_and_comes_back_when_sshd_does() {
    if !have_sshd("a_node_serves_through_ssh_and_comes_back_when_sshd_does") {
        return;
    }
    let (mut sshd, gateway, here) = (Sshd::new(), Gateway::new(), Here::new());
    let node = connected(&sshd, &gateway, &here);
    let found = which(&gateway);
    assert!(found.code == Some(0) && found.stdout.contains("/sh"), "{found:?}");
    // Nothing of it listens on this machine, and no file was made for it.
    let sockets = fs::read_dir(here.0.path())
        .unwrap()
        .filter(|entry| std::os::unix::fs::FileTypeExt::is_socket(&entry.as_ref().unwrap().file_type().unwrap()));
    assert_eq!(sockets.count(), 0);
    // The gateway's key is pinned at its own place.
    let pins = fs::read_to_string(here.0.join("identity/gateway-pins.json")).unwrap();
    assert!(pins.contains(&format!("ssh:[127.0.0.1]:{}:{}", sshd.port, gateway.port)), "{pins}");
    // Looking works the same way, and makes nothing.
    let other = Here::new();
    let nodes = other.mac_debug(&sshd.flags(gateway.port), &["nodes", "--json"]);
    assert!(nodes.code == Some(0) && nodes.stdout.contains(&here.node_id()), "{nodes:?}");
    assert_eq!(fs::read_dir(other.0.path()).unwrap().count(), 0, "looking made a file");
    let [ssh] = ssh_of(node.pid())[..] else { panic!("not one ssh") };
    sshd.stop();
    said(&node, "the connection has ended");
    // Why, in its own words.
    said(&node, "ssh: ");
    wait_until("the old ssh is gone", || (!is_alive(ssh)).then_some(()));
    let down = Instant::now();
    thread::sleep(Duration::from_secs(1));
    sshd.start();
    let up = Instant::now();
    wait_until("an answer after the restart", || (which(&gateway).code == Some(0)).then_some(()));
    println!("down {:?}; back {:?} after sshd", up - down, up.elapsed());
    // A stop is an end of everything.
    let running = ssh_of(node.pid());
    assert_eq!(running.len(), 1);
    node.signal(libc::SIGTERM);
    let ended = node.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    wait_until("no ssh is left", || running.iter().all(|pid| !is_alive(*pid)).then_some(()));
    // Paired, it needs no shared secret any more: the token of this gateway is kept for it alone.
    let mut command = here.command(&["node", "--exec-host", "local"], &sshd.flags(gateway.port));
    command.env_remove("OPENCLAW_GATEWAY_TOKEN");
    let node = Process::spawn(command);
    said(&node, "connected to ");
}

#[test]
fn a_host_key_that_is_not_known_or_another_one_ends_it_before_anything_is_sent() {
    if !have_sshd("a_host_key_that_is_not_known_or_another_one_ends_it_before_anything_is_sent") {
        return;
    }
    let (sshd, gateway, here) = (Sshd::unknown(), Gateway::new(), Here::new());
    // No configuration loosens it.
    sshd.configure("StrictHostKeyChecking no\nLogLevel QUIET\n");
    for (known, sentence) in [(None, "not known here"), (Some("other-host"), "another host key than the known one")] {
        if let Some(key) = known {
            sshd.know(key);
        }
        let looked = here.mac_debug(&sshd.flags(gateway.port), &["nodes"]);
        assert_eq!(looked.code, Some(1), "{looked:?}");
        assert!(looked.stderr.contains(sentence) && looked.stderr.contains("nothing was sent"), "{looked:?}");
        assert_eq!(looked.stderr.trim_end().lines().count(), 1, "{looked:?}");
        let node = here.node(&sshd.flags(gateway.port));
        said(&node, sentence);
        assert!(!node.stderr().contains("connected"), "{}", node.stderr());
    }
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
    assert!(!fs::read_to_string(sshd.dir.join("known_hosts")).unwrap().contains("host@"));
    sshd.know("host");
    let looked = here.mac_debug(&sshd.flags(gateway.port), &["nodes"]);
    assert_eq!(looked.code, Some(0), "{looked:?}");
}

#[test]
fn a_refused_key_is_a_sentence_and_not_tried_over_and_over() {
    if !have_sshd("a_refused_key_is_a_sentence_and_not_tried_over_and_over") {
        return;
    }
    let (sshd, gateway, here) = (Sshd::new(), Gateway::new(), Here::new());
    fs::copy(sshd.dir.join("stranger.pub"), sshd.dir.join("authorized_keys")).unwrap();
    let node = here.node(&sshd.flags(gateway.port));
    said(&node, "does not let us in");
    assert!(node.stderr().contains("Permission denied"), "{}", node.stderr());
    let tries = |sshd: &Sshd| sshd.log().matches("Connection closed by authenticating user").count();
    wait_until("sshd has noted it", || (tries(&sshd) > 0).then_some(()));
    // The usual pauses would have tried three times by then.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(tries(&sshd), 1, "{}", sshd.log());
    assert_eq!(node.stderr().matches("does not let us in").count(), 1, "{}", node.stderr());
    // The app's several connections are no more tries than one.
    let app = Process::spawn(here.command(&["app", "--ask", "none"], &sshd.flags(gateway.port)));
    said(&app, "does not let us in");
    thread::sleep(Duration::from_secs(4));
    assert!((2..=3).contains(&tries(&sshd)), "{}", sshd.log());
    // The named key, and no other.
    let mut flags = sshd.flags(gateway.port);
    flags.extend(["--ssh-identity".to_owned(), sshd.dir.join("stranger").to_str().unwrap().to_owned()]);
    let looked = here.mac_debug(&flags, &["nodes"]);
    assert_eq!(looked.code, Some(0), "{looked:?}");
}

#[test]
fn what_is_wrong_behind_sshd_is_said_too() {
    if !have_sshd("what_is_wrong_behind_sshd_is_said_too") {
        return;
    }
    let (mut sshd, here) = (Sshd::new(), Here::new());
    let nobody = here.mac_debug(&sshd.flags(free_port()), &["nodes"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("no gateway listens"), "{nobody:?}");
    let status = here.mac_debug(&sshd.flags(free_port()), &["status", "--json"]).json();
    assert!(status["gateway"]["why"].as_str().unwrap().contains("no gateway listens"), "{status}");
    // Something else listens.
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = http.local_addr().unwrap().port();
    thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = http.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let other = here.mac_debug(&sshd.flags(port), &["nodes"]);
    assert!(other.code == Some(1) && !other.stderr.contains("ssh says"), "{other:?}");
    sshd.stop();
    let away = here.mac_debug(&sshd.flags(port), &["nodes"]);
    assert!(away.code == Some(1) && away.stderr.contains("Connection refused"), "{away:?}");
    // A secret is needed, and our own gateway's is not taken (A30).
    let mut command = here.command(&["mac-debug"], &sshd.flags(port));
    command.arg("nodes").env_remove("OPENCLAW_GATEWAY_TOKEN");
    let without = Process::run(command);
    assert!(without.code == Some(2) && without.stderr.contains("OPENCLAW_GATEWAY_TOKEN"), "{without:?}");
    let local = here.mac_debug(&sshd.flags(port), &["pause"]);
    assert!(local.code == Some(2) && local.stderr.contains("this machine"), "{local:?}");
}

/// H26: the pinned key holds through the tunnel.
#[test]
fn sec_h26_another_gateway_behind_the_same_ssh_gets_nothing() {
    if !have_sshd("sec_h26_another_gateway_behind_the_same_ssh_gets_nothing") {
        return;
    }
    let (sshd, here) = (Sshd::new(), Here::new());
    let first = Gateway::new();
    let (port, node) = (first.port, connected(&sshd, &first, &here));
    drop(first);
    let state = TempDir::new();
    let mut second = openclaw(state.path());
    second.env("OPENCLAW_GATEWAY_TOKEN", TOKEN).args(["gateway", "--port", &port.to_string()]);
    let second = Process::spawn(second);
    said(&node, "is not the gateway that we know");
    assert!(node.stderr().contains("No credential was sent"), "{}", node.stderr());
    let looked = here.mac_debug(&sshd.flags(port), &["nodes"]);
    assert!(looked.code == Some(1) && looked.stderr.contains("not the gateway that we know"), "{looked:?}");
    drop(second);
}

/// A166: a target is a name, or nothing is started; a file is a file.
#[test]
fn sec_a166_a_target_is_never_an_option_or_a_command() {
    let here = Here::new();
    let canary = here.0.join("canary");
    let touch = format!("touch {}", canary.display());
    let targets = [
        format!("-oProxyCommand={touch}"),
        format!("me@-oProxyCommand={touch}"),
        format!("-oProxyCommand={touch}@host"),
        format!("a;{touch}"),
        format!("me@a;{touch}"),
        format!("$({touch})"),
        format!("me@`{touch}`"),
        format!("me@host|{touch}"),
        format!("me@host\n{touch}"),
        format!("me@host -oProxyCommand={touch}"),
        "-".to_owned(),
        "--".to_owned(),
        "-l".to_owned(),
        "me@".to_owned(),
        "@host".to_owned(),
        String::new(),
        " host".to_owned(),
        "host ".to_owned(),
        "me@ho st".to_owned(),
        "me@host\t".to_owned(),
        "me@host\r".to_owned(),
        "me@host\u{1b}[2J".to_owned(),
        "me@%h".to_owned(),
        "%r@host".to_owned(),
        "me@host%lo".to_owned(),
        "me@[fe80::1%lo]".to_owned(),
        "me@[::1".to_owned(),
        "me@[::1]x".to_owned(),
        "me@[host]".to_owned(),
        "me@::1".to_owned(),
        "me@host:".to_owned(),
        "me@host:0".to_owned(),
        "me@host:+22".to_owned(),
        "me@host:-22".to_owned(),
        "me@host:70000".to_owned(),
        "me@host:22:22".to_owned(),
        "a@b@c".to_owned(),
        "ssh://me@host".to_owned(),
        "me@../host".to_owned(),
        "me@.host".to_owned(),
        "me@h\u{f6}st".to_owned(),
        "me@'host'".to_owned(),
        "me@host,other".to_owned(),
        "me@~".to_owned(),
        format!("me@{}", "h".repeat(300)),
    ];
    for target in &targets {
        for part in ["node", "app", "mac-debug"] {
            for spelling in [vec!["--ssh", target], vec![target.as_str(), "--ssh", target]] {
                // An option's value, and loose among the arguments.
                let mut command = here.command(&[part], &[]);
                command.args(&spelling);
                if part == "mac-debug" {
                    command.arg("nodes");
                }
                let refused = Process::run(command);
                assert_eq!(refused.code, Some(2), "{part} {spelling:?}: {refused:?}");
                assert!(!refused.stderr.trim().is_empty() && !refused.stderr.contains('\u{1b}'), "{refused:?}");
            }
        }
    }
    for (flag, file) in [
        ("--ssh-identity", "%d/key".to_owned()),
        ("--ssh-identity", "${HOME}/key".to_owned()),
        ("--ssh-config", "nowhere".to_owned()),
        ("--ssh-config", format!("-oProxyCommand={touch}")),
    ] {
        let refused = here.mac_debug(&["--ssh", "host", flag, &file].map(str::to_owned), &["nodes"]);
        assert!(refused.code == Some(2) && refused.stderr.contains("cannot be handed to ssh"), "{refused:?}");
    }
    let alone = here.mac_debug(&["--ssh-config", "x"].map(str::to_owned), &["nodes"]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
    assert!(!canary.exists(), "something ran");
}

/// A166, the other half: what reaches ssh is argv with `--` before the host, whatever the names.
#[test]
fn sec_a166_configurations_cannot_turn_the_connection_into_something_else() {
    if !have_sshd("sec_a166_configurations_cannot_turn_the_connection_into_something_else") {
        return;
    }
    let (sshd, gateway, here) = (Sshd::new(), Gateway::new(), Here::new());
    let (canary, master) = (here.0.join("canary"), here.0.join("master"));
    let forward = free_port();
    sshd.configure(&format!(
        "BatchMode no\nPermitLocalCommand yes\nLocalCommand touch {}\nControlMaster auto\nControlPath {}\nControlPersist yes\n\
         ForkAfterAuthentication yes\nForwardAgent yes\nLocalForward {forward} 127.0.0.1:{}\nRequestTTY force\n",
        canary.display(),
        master.display(),
        gateway.port
    ));
    let node = connected(&sshd, &gateway, &here);
    let [ssh] = ssh_of(node.pid())[..] else { panic!("it went to the background, or there are more") };
    let line = fs::read(format!("/proc/{ssh}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    if !words.is_empty() {
        assert_eq!(words[words.len() - 2..], [b"--".as_slice(), b"127.0.0.1"], "{words:?}");
        assert!(!String::from_utf8_lossy(&line).contains(TOKEN));
    }
    assert!(TcpStream::connect(("127.0.0.1", forward)).is_err(), "it forwards something else too");
    assert!(!canary.exists() && !master.exists());
}

/// A155 for what ssh and the programs of its configuration say.
#[test]
fn sec_a155_what_ssh_says_is_escaped_and_bounded() {
    if !have_sshd("sec_a155_what_ssh_says_is_escaped_and_bounded") {
        return;
    }
    let (sshd, here) = (Sshd::new(), Here::new());
    let script = here.0.join("proxy");
    fs::write(&script, "yes 'a long line' | head -c 3000000 >&2; printf 'end\\033[2J\\n' >&2\n").unwrap();
    sshd.configure(&format!("ProxyCommand sh {}\n", script.display()));
    let looked = here.mac_debug(&sshd.flags(18_789), &["nodes"]);
    assert_eq!(looked.code, Some(1), "{looked:?}");
    assert!(looked.stderr.contains("end\\u{1B}[2J") && looked.stderr.len() < 4096, "{looked:?}");
    assert_eq!(looked.stderr.trim_end().lines().count(), 1, "{looked:?}");
}

#[test]
fn a_killed_node_leaves_no_ssh_behind() {
    if !have_sshd("a_killed_node_leaves_no_ssh_behind") {
        return;
    }
    let (sshd, gateway, here) = (Sshd::new(), Gateway::new(), Here::new());
    let ends_with = |node: Process, what: &str| {
        let ssh = wait_until("an ssh", || ssh_of(node.pid()).first().copied());
        node.signal(libc::SIGKILL);
        drop(node);
        wait_until(what, || (!is_alive(ssh)).then_some(()));
    };
    ends_with(connected(&sshd, &gateway, &here), "ssh ends with a killed node");
    // Also where the gateway does not notice.
    let node = here.node(&sshd.flags(gateway.port));
    said(&node, "connected to ");
    gateway.process.signal(libc::SIGSTOP);
    ends_with(node, "ssh ends although the gateway hangs");
    gateway.process.signal(libc::SIGCONT);
    // And in the midst of a handshake.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let flags = ["--ssh".to_owned(), format!("127.0.0.1:{}", silent.local_addr().unwrap().port())];
    let node = here.node(&flags);
    let _accepted = silent.accept().unwrap();
    ends_with(node, "ssh ends in its handshake");
    // Nor does one that is told to end.
    let node = here.node(&flags);
    let _accepted = silent.accept().unwrap();
    let ssh = wait_until("an ssh", || ssh_of(node.pid()).first().copied());
    node.signal(libc::SIGTERM);
    wait_until("ssh ends with a node that was told to", || (!is_alive(ssh)).then_some(()));
}

#[test]
fn the_app_joins_a_gateway_behind_ssh_and_status_says_how_it_fares() {
    if !have_sshd("the_app_joins_a_gateway_behind_ssh_and_status_says_how_it_fares") {
        return;
    }
    let (mut sshd, gateway, here) = (Sshd::new(), Gateway::new(), Here::new());
    let app = Process::spawn(here.command(&["app", "--ask", "none"], &sshd.flags(gateway.port)));
    said(&app, "waits for approval; run: openclaw mac-debug --ssh ");
    let pending = gateway.owner().request("node.pair.list", json!({})).unwrap();
    gateway.approve_surface(pending["pending"][0]["nodeId"].as_str().unwrap());
    let found = which(&gateway);
    assert!(found.code == Some(0) && found.stdout.contains("/sh"), "{found:?}");
    let tunnel =
        |here: &Here| Process::run(here.command(&["mac-debug", "status", "--json"], &[])).json()["tunnel"].clone();
    let up = tunnel(&here);
    assert_eq!(up["connected"], true, "{up}");
    assert!(!here.0.join("gateway.sock").exists() && !here.0.join("openclaw.json").exists(), "a gateway of its own");
    sshd.stop();
    let down = wait_until("the trouble is in status", || {
        let now = tunnel(&here);
        (now["connected"] == false && now["trouble"].as_str()?.contains("Connection refused")).then_some(now)
    });
    assert!(down["trouble"].as_str().unwrap().starts_with("no ssh connection to "), "{down}");
    let text = Process::run(here.command(&["mac-debug", "status"], &[])).stdout;
    assert!(text.contains("\ntunnel     the app's gateway is port ") && text.contains(": not connected: "), "{text}");
    sshd.start();
    wait_until("it is back", || (tunnel(&here)["connected"] == true).then_some(()));
    signal(app.pid(), libc::SIGTERM);
    assert_eq!(app.finish().code, Some(0));
}
