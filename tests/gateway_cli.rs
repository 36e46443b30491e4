//! Starting, stopping and configuring the gateway: the command line, files, sockets, signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::json;
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use support::{
    Client, Closed, Connect, Device, Gateway, Options, Process, Surface, TOKEN, TempDir, free_port, mode, openclaw,
    wait_until,
};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a configuration with the shared token into `state`.
fn configure(state: &Path) {
    let config = json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": TOKEN}}});
    std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
    set_mode(&state.join("openclaw.json"), 0o600);
}

/// Starts `openclaw` with `arguments` over `state` and waits until its socket answers.
fn start(state: &Path, arguments: &[&str]) -> Process {
    let mut command = openclaw(state);
    command.args(arguments);
    let mut process = Process::spawn(command);
    wait_until("the gateway listens", || {
        assert!(process.ended().is_none(), "ended:\n{}", process.stderr());
        UnixStream::connect(state.join("gateway.sock")).ok()
    });
    process
}

/// frames/gateway-shutdown-and-restart.json
#[test]
fn sigterm_says_goodbye_and_leaves_nothing_behind() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let gateway = Gateway::new();
        let mut owner = gateway.owner();
        let mut node = Client::login(&gateway, &Connect::node(&Device::new(), &Surface::linux(&["system.run"])));
        let mut stranger = Client::tcp(&gateway);
        let socket = gateway.socket();
        assert!(socket.exists());
        gateway.process.signal(number);
        for client in [&mut owner, &mut node] {
            assert_eq!(client.event("shutdown")["reason"], "gateway stopping");
            assert_eq!(client.closed(), Closed { code: 1012, reason: "service restart".to_owned() });
        }
        stranger.closed();
        let port = gateway.port;
        let finished = gateway.process.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(!socket.exists(), "the socket is left behind");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(!finished.stderr.contains(TOKEN) && !finished.stdout.contains(TOKEN));
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
}

#[test]
fn a_second_gateway_names_the_first_and_leaves_it_alone() {
    let mut gateway = Gateway::new();
    let pid = gateway.process.pid().to_string();
    let mut owner = gateway.owner();
    // The same state directory, another port.
    let second = Process::run(Options::default().state(&gateway.state).command(free_port()));
    assert!(second.code.is_some_and(|code| code != 0), "{second:?}");
    assert!(second.stderr.contains(&pid), "no pid {pid} in {:?}", second.stderr);
    // Another state directory, the same port.
    let options = Options::default();
    let second = Process::run(options.command(gateway.port));
    assert!(second.code.is_some_and(|code| code != 0), "{second:?}");
    assert!(second.stderr.contains(&gateway.port.to_string()), "{second:?}");
    assert!(second.stderr.contains(&pid), "no pid {pid} in {:?}", second.stderr);
    assert!(owner.request("node.list", json!({})).is_ok());
    assert!(Client::unix(&gateway).connect(&Connect::cli(&[])).is_ok());
    gateway.assert_alive();
}

/// A gateway that was killed leaves a socket and a lock file; the next one takes both over.
#[test]
fn a_killed_gateway_is_replaced() {
    let gateway = Gateway::new();
    let state = Rc::clone(&gateway.state);
    gateway.process.signal(libc::SIGKILL);
    assert_eq!(gateway.process.finish().code, None);
    assert!(state.join("gateway.sock").exists());
    let mut again = Gateway::start(Options::default().state(&state));
    again.assert_alive();
    Client::unix(&again).connect(&Connect::cli(&[])).unwrap();
}

#[test]
fn the_originals_spellings_work() {
    let state = TempDir::new();
    configure(state.path());
    let port = free_port();
    let text = port.to_string();
    for arguments in [vec!["gateway", "run", "--port", &text], vec!["gateway", "--port", &text]] {
        let process = start(state.path(), &arguments);
        wait_until("the port answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        process.signal(libc::SIGTERM);
        assert_eq!(process.finish().code, Some(0));
    }
    // The port from the environment, the configuration's below it, the flag above both.
    let other = free_port();
    let mut command = openclaw(state.path());
    command.args(["gateway", "run"]).env("OPENCLAW_GATEWAY_PORT", other.to_string());
    let _process = Process::spawn(command);
    wait_until("the port of the environment answers", || TcpStream::connect(("127.0.0.1", other)).ok());
}

#[test]
fn the_state_directory_can_be_named_and_is_created_private() {
    let home = TempDir::new();
    let state = home.join("fresh/state");
    let port = free_port().to_string();
    let mut command = openclaw(home.path());
    command.args(["gateway", "run", "--port", &port, "--state-dir"]).arg(&state).env_remove("OPENCLAW_STATE_DIR");
    let mut process = Process::spawn(command);
    wait_until("the socket answers", || {
        assert!(process.ended().is_none(), "{}", process.stderr());
        UnixStream::connect(state.join("gateway.sock")).ok()
    });
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("gateway.sock")), 0o600);
    assert_eq!(mode(&state.join("openclaw.json")), 0o600);
    assert!(!home.join("gateway.sock").exists());
}

#[test]
fn without_tcp_only_the_socket_listens() {
    let gateway = Gateway::start(Options::default().no_tcp().env("OPENCLAW_GATEWAY_PORT", &free_port().to_string()));
    let mut client = Client::unix(&gateway);
    assert!(client.connect(&Connect::cli(&["operator.read"])).is_ok());
    assert!(client.request("node.list", json!({})).is_ok());
    assert_eq!(listening_ports(gateway.process.pid()), 0);
}

/// TCP listeners of a process, by its open descriptors.
#[cfg(target_os = "linux")]
fn listening_ports(pid: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[3] == "0A" && inodes.iter().any(|inode| inode == columns[9])
        })
        .count()
}

/// TCP listeners of a process, as `lsof` knows them.
#[cfg(not(target_os = "linux"))]
fn listening_ports(pid: u32) -> usize {
    let mut command = std::process::Command::new("lsof");
    command.args(["-a", "-p", &pid.to_string(), "-iTCP", "-sTCP:LISTEN", "-Fn"]);
    String::from_utf8_lossy(&command.output().unwrap().stdout).lines().filter(|line| line.starts_with('n')).count()
}

/// There is no way to listen for other machines.
#[test]
fn nothing_listens_beyond_loopback() {
    let gateway = Gateway::new();
    assert!(listening_ports(gateway.process.pid()) >= 1);
    // Connecting a datagram socket sends nothing; it tells which address the machine would use.
    let probe = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    if probe.connect(("192.0.2.1", 9)).is_ok()
        && let IpAddr::V4(address) = probe.local_addr().unwrap().ip()
        && !address.is_loopback()
    {
        assert!(TcpStream::connect((address, gateway.port)).is_err(), "{address} answers");
    }
    for bind in ["lan", "0.0.0.0", "tailnet", "auto", "custom"] {
        let config = json!({"gateway": {"bind": bind, "auth": {"mode": "token", "token": TOKEN}}});
        let finished = Options::default().config(config).run_to_end();
        assert!(finished.code.is_some_and(|code| code != 0), "{bind}: {finished:?}");
        assert!(finished.stderr.contains("gateway.bind"), "{bind}: {finished:?}");
    }
    let config = json!({"gateway": {"bind": "loopback", "auth": {"mode": "token", "token": TOKEN}}});
    Gateway::start(Options::default().config(config)).assert_alive();
}

/// What we understand but do not support is said, not skipped. DESIGN "State"
#[test]
fn unsupported_configuration_stops_the_start_and_names_the_key() {
    let auth = json!({"mode": "token", "token": TOKEN});
    for (config, key) in [
        (json!({"gateway": {"auth": {"mode": "trusted-proxy"}}}), "auth.mode"),
        (json!({"gateway": {"auth": auth, "trustedProxies": ["127.0.0.1"]}}), "trustedProxies"),
        (json!({"gateway": {"auth": {"mode": "token", "token": "${SECRET_FROM_ENV}"}}}), "gateway.auth.token"),
        (json!({"gateway": {"auth": {"mode": "token", "token": {"source": "env", "id": "X"}}}}), "gateway.auth.token"),
        (json!({"$include": "other.json"}), "$include"),
        (json!({"gateway": {"auth": auth, "port": "18789"}}), "gateway.port"),
        (json!({"gateway": {"auth": auth, "port": 70_000}}), "gateway.port"),
    ] {
        let options = Options::default().config(config.clone());
        let finished = Process::run(options.command(free_port()));
        assert!(finished.code.is_some_and(|code| code != 0), "{config}: {finished:?}");
        assert!(finished.stderr.contains(key), "{config}: {finished:?}");
        assert!(!finished.stderr.contains(TOKEN), "{config}");
    }
}

#[test]
fn a_broken_configuration_is_reported_and_kept() {
    let state = TempDir::new();
    let path = state.join("openclaw.json");
    for text in ["{\"gateway\": {", "", "[]", "null", "\"x\"", "{\"gateway\": 7}"] {
        std::fs::write(&path, text).unwrap();
        let mut command = openclaw(state.path());
        command.args(["gateway", "run", "--port", &free_port().to_string()]);
        let finished = Process::run(command);
        assert!(finished.code.is_some_and(|code| code != 0), "{text:?}: {finished:?}");
        assert!(finished.stderr.contains("openclaw.json"), "{text:?}: {finished:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file was touched");
    }
}

/// The owner's file is JSON5 and stays as it is.
#[test]
fn the_configuration_is_json5() {
    let state = Rc::new(TempDir::new());
    let text = format!("// mine\n{{gateway: {{auth: {{mode: 'token', token: '{TOKEN}',}}, /* here */ }},}}\n");
    std::fs::write(state.join("openclaw.json"), &text).unwrap();
    let mut gateway = Gateway::start(Options::default().no_config().state(&state));
    gateway.assert_alive();
    assert_eq!(std::fs::read_to_string(state.join("openclaw.json")).unwrap(), text);
}

#[test]
fn a_password_works_where_it_is_configured() {
    const PASSWORD: &str = "correct horse battery staple";
    let config = json!({"gateway": {"auth": {"mode": "password", "password": PASSWORD}}});
    let gateway = Gateway::start(Options::default().config(config));
    let connect = |auth| Connect::cli(&["operator.read"]).auth(auth);
    let (_, hello) = Client::login_hello(&gateway, &connect(json!({"password": PASSWORD})));
    assert_eq!(hello["auth"]["method"], "password");
    for auth in [json!({"password": "wrong one"}), json!({"token": PASSWORD}), json!({"password": ""})] {
        assert!(Client::tcp(&gateway).connect(&connect(auth.clone())).is_err(), "{auth}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let state = TempDir::new();
    for arguments in [
        vec!["gateway", "run", "--bogus"],
        vec!["gateway", "run", "--port", "x"],
        vec!["gateway", "run", "--port", "70000"],
        vec!["gateway", "run", "--bind", "lan"],
        vec!["gateway", "dance"],
    ] {
        let mut command = openclaw(state.path());
        command.args(&arguments);
        let finished = Process::run(command);
        assert!(finished.code.is_some_and(|code| code != 0), "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.trim().is_empty(), "{arguments:?}");
        assert!(!finished.stderr.contains("panicked"), "{arguments:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
        assert!(!state.join("gateway.sock").exists(), "{arguments:?}");
    }
}

/// H11: the socket lies only where nobody else can put another one in its place.
#[test]
fn sec_h11_the_sockets_directory_is_ours_alone() {
    // Runs a gateway over `state`; true when it served there.
    fn serves(state: &Path) -> bool {
        let mut command = openclaw(state);
        command.args(["gateway", "run", "--no-tcp"]).current_dir("/");
        let mut process = Process::spawn(command);
        let served = wait_until("the gateway serves or ends", || {
            if process.ended().is_some() {
                return Some(false);
            }
            UnixStream::connect(state.join("gateway.sock")).is_ok().then_some(true)
        });
        if !served {
            assert!(!process.finish().stderr.trim().is_empty(), "refused without a word");
        }
        served
    }
    let root = TempDir::new();
    let make = |name: &str, bits: u32| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).unwrap();
        set_mode(&path, bits);
        path
    };
    // Twins: an ordinary parent, and a sticky one such as /tmp.
    make("plain", 0o755);
    assert!(serves(&make("plain/s", 0o700)));
    make("sticky", 0o1777);
    assert!(serves(&make("sticky/s", 0o700)));

    make("open", 0o777);
    assert!(!serves(&make("open/s", 0o700)), "an ancestor that everybody may write");
    make("group", 0o770);
    assert!(!serves(&make("group/s", 0o700)), "an ancestor that the group may write");
    let wide = make("plain/wide", 0o777);
    assert!(!serves(&wide) || mode(&wide) == 0o700, "served in a directory that everybody may write");
    make("plain/real", 0o700);
    // The directory itself may be its owner's link; what counts is where it leads. Nothing below it may be one.
    symlink(root.join("plain/real"), root.join("plain/link")).unwrap();
    assert!(serves(&root.join("plain/link")), "the owner's own link");
    symlink(root.join("open/s"), root.join("plain/link-to-open")).unwrap();
    assert!(!serves(&root.join("plain/link-to-open")), "a link to where everybody may write");
    let linked = make("plain/linked", 0o700);
    symlink(root.join("plain/real"), linked.join("identity")).unwrap();
    assert!(!serves(&linked), "a link below the directory");
    std::fs::write(root.join("plain/file"), "").unwrap();
    assert!(!serves(&root.join("plain/file")), "a file");
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        let other = make("plain/other", 0o700);
        std::os::unix::fs::chown(&other, Some(65_534), None).unwrap();
        assert!(!serves(&other), "somebody else's directory");
        let link = root.join("plain/their-link");
        symlink(root.join("plain/real"), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
        assert!(!serves(&link), "somebody else's link");
    }
}

/// H11: what is already there under the socket's name.
#[test]
fn sec_h11_nothing_of_others_is_replaced() {
    let blocked = |prepare: &dyn Fn(&Path)| {
        let state = Rc::new(TempDir::new());
        prepare(&state.join("gateway.sock"));
        let finished = Options::default().state(&state).no_tcp().run_to_end();
        assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
        assert!(finished.stderr.contains("gateway.sock"), "{finished:?}");
        state
    };
    let state = blocked(&|path| std::fs::write(path, "precious").unwrap());
    assert_eq!(std::fs::read_to_string(state.join("gateway.sock")).unwrap(), "precious");
    let target = TempDir::new();
    std::fs::write(target.join("precious"), "precious").unwrap();
    blocked(&|path| symlink(target.join("precious"), path).unwrap());
    assert_eq!(std::fs::read_to_string(target.join("precious")).unwrap(), "precious");
    // A live socket of another program.
    let state = Rc::new(TempDir::new());
    let _listener = UnixListener::bind(state.join("gateway.sock")).unwrap();
    let finished = Options::default().state(&state).no_tcp().run_to_end();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(UnixStream::connect(state.join("gateway.sock")).is_ok(), "the live socket is gone");
}

/// The gateway removes only its own socket when it stops.
#[test]
fn stopping_leaves_another_ones_socket() {
    let gateway = Gateway::new();
    let socket = gateway.socket();
    std::fs::remove_file(&socket).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let state = Rc::clone(&gateway.state);
    assert_eq!(gateway.stop().code, Some(0));
    assert!(state.join("gateway.sock").exists());
}

/// NOTES "Paths over the limit"
#[test]
fn a_path_too_long_for_a_socket_is_explained() {
    let root = TempDir::new();
    let state = root.join("x".repeat(100));
    let mut command = openclaw(&state);
    command.args(["gateway", "run", "--no-tcp"]).current_dir("/");
    let finished = Process::run(command);
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("OPENCLAW_STATE_DIR"), "{finished:?}");
    assert!(!state.exists(), "nothing is created before the check");
}

/// Secrets of the environment are read once and are nobody else's to see.
#[test]
#[cfg(target_os = "linux")]
fn secrets_leave_the_environment_of_children() {
    let config = json!({"gateway": {"auth": {"mode": "token"}}});
    let gateway = Gateway::start(Options::default().config(config).env("OPENCLAW_GATEWAY_TOKEN", TOKEN));
    Client::login(&gateway, &Connect::cli(&[]));
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", gateway.process.pid())).unwrap();
    assert!(!command_line.contains(TOKEN));
    let log = gateway.stop().stderr;
    assert!(!log.contains(TOKEN), "{log}");
}

/// A09 row: only distinct wrong secrets count, for their class only, and the lock-out says so.
#[test]
fn guessing_the_secret_is_locked_out() {
    let gateway = Gateway::new();
    let wrong = |token: &str| Client::tcp(&gateway).connect(&Connect::cli(&[]).token(token)).unwrap_err();
    let code = |error: &serde_json::Value| error["details"]["code"].as_str().unwrap().to_owned();
    for _ in 0..12 {
        assert_eq!(code(&wrong("the same wrong one")), "AUTH_TOKEN_MISMATCH", "a stale secret is one secret");
    }
    let device = Device::new();
    let node = Connect::node(&device, &Surface::linux(&[]));
    let (_, hello) = Client::login_hello(&gateway, &node);
    let mut last = json!({});
    for at in 0..12 {
        last = wrong(&format!("guess {at}"));
    }
    assert_eq!(code(&last), "AUTH_RATE_LIMITED", "{last}");
    assert_eq!(last["retryable"], true);
    assert!(last["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0 && wait <= 60_000), "{last}");
    let error = Client::tcp(&gateway).connect(&Connect::cli(&[])).unwrap_err();
    assert_eq!(code(&error), "AUTH_RATE_LIMITED", "also the right one: {error}");
    // Device tokens and the socket go on.
    let token = hello["auth"]["deviceToken"].as_str().unwrap();
    Client::login(&gateway, &node.device_token(token));
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}
