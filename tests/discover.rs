//! `mac-debug discover`: a look around the network, each in a network of its own that has nothing but loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![cfg(target_os = "linux")]

mod support;

use serde_json::json;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use support::{DEADLINE, Finished, Process, TempDir, openclaw};

const SERVICE: &[&str] = &["_openclaw-gw", "_tcp", "local"];
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;

/// Runs the ignored test `inside` in namespaces of its own: network, mounts, and ourselves as root there.
fn in_a_network_of_its_own(inside: &str) {
    let usable = Command::new("unshare").args(["-Urnm", "ip", "link", "set", "lo", "up"]).output();
    if !usable.is_ok_and(|done| done.status.success()) {
        eprintln!("{inside}: left out, because `unshare -Urnm` or `ip` cannot be used here");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-Urnm", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).arg(this);
    let finished = Process::run_for(command.args(["--ignored", "--exact", inside, "--nocapture"]));
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.stdout, finished.stderr);
    assert!(finished.stdout.contains("1 passed"), "{inside}: {}", finished.stdout);
}

trait RunFor {
    fn run_for(command: &mut Command) -> Finished;
}

impl RunFor for Process {
    /// Longer than one program may take.
    fn run_for(command: &mut Command) -> Finished {
        let done = command.stdin(Stdio::null()).output().unwrap();
        Finished {
            code: done.status.code(),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }
}

fn discover(state: &TempDir, arguments: &[&str]) -> Finished {
    let mut command = openclaw(state.path());
    command.args(["mac-debug", "discover"]).args(arguments);
    let finished = Process::run(command);
    let left = fs::read_dir(state.path()).unwrap().count();
    assert_eq!(left, 0, "looking around left something behind");
    finished
}

fn name(labels: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(about: &[&str], kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = name(about);
    bytes.extend([kind, 0x8001, 0, 10, u16::try_from(content.len()).unwrap()].into_iter().flat_map(u16::to_be_bytes));
    bytes.extend(content);
    bytes
}

/// An answer to `query`, whose question is repeated, as one-shot queries get it.
fn answer(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2] = 0x84;
    bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    bytes.extend(records.concat());
    bytes
}

/// Everything that one gateway says of itself.
fn gateway(service: &[&str], instance: &str, texts: &[&str], port: u16) -> Vec<Vec<u8>> {
    let full = [&[instance], service].concat();
    let row: Vec<u8> = texts.iter().flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
    let place = [&[0, 0, 0, 0][..], &port.to_be_bytes(), &name(&["studio", "local"])].concat();
    vec![record(service, PTR, &name(&full)), record(&full, TXT, &row), record(&full, SRV, &place)]
}

/// Answers questions at `socket` as `script` says, until the test ends; counts them.
fn serve(socket: UdpSocket, script: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static) -> Arc<AtomicUsize> {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    thread::spawn(move || {
        let mut query = [0; 9000];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            count.fetch_add(1, Ordering::SeqCst);
            for datagram in script(&query[..length], from) {
                let _ = socket.send_to(&datagram, from);
            }
        }
    });
    heard
}

fn responder(script: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind(("0.0.0.0", 5353)).unwrap();
    socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST).unwrap();
    serve(socket, script)
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// One with zeroconf: what stands first in PATH may be another than the system's.
fn python() -> Option<&'static str> {
    let has_it = |python: &&str| {
        let found = Command::new(python).args(["-c", "import zeroconf"]).output();
        found.is_ok_and(|done| done.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has_it)
}

#[test]
fn a_real_responder_is_found() {
    if python().is_none() {
        assert!(std::env::var_os("CI").is_none(), "python3 has no zeroconf");
        eprintln!("a_real_responder_is_found: left out, because python3 has no zeroconf (Debian: python3-zeroconf)");
        return;
    }
    in_a_network_of_its_own("inside_a_real_responder");
}

const ZEROCONF: &str = "
import socket, sys, zeroconf
z = zeroconf.Zeroconf(interfaces=['127.0.0.1'], ip_version=zeroconf.IPVersion.V4Only)
t = '_openclaw-gw._tcp.local.'
def add(name, port, **properties):
    z.register_service(zeroconf.ServiceInfo(t, name + '.' + t, addresses=[socket.inet_aton('127.0.0.1')], port=port,
        server='studio-mac.local.', properties=properties))
add('studio-mac (OpenClaw)', 18789, role='gateway', lanHost='studio-mac.local', gatewayPort='18789', sshPort='2222',
    tailnetDns='studio-mac.tail.example', cliPath='/opt/openclaw', displayName='Studio Mac')
add('attic_gateway (OpenClaw)', 18790, lanHost='attic.local')
add(sys.argv[1] + ' (OpenClaw)', 18791, lanHost=sys.argv[1] + '.local', displayName='Here', gatewayPort='18791')
print('ready', flush=True)
sys.stdin.read()
";

#[test]
#[ignore = "runs in a network of its own, see a_real_responder_is_found"]
fn inside_a_real_responder() {
    let mut python = Command::new(python().unwrap())
        .args(["-c", ZEROCONF, &host_name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    python.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let state = TempDir::new();
    let found = discover(&state, &["--timeout", "3000"]);
    assert_eq!(
        (found.code, found.stdout.as_str(), found.stderr.as_str()),
        (
            Some(0),
            "\
OpenClaw gateway discovery
Status: Stopped
Found 2 gateway(s) (local filtered)
- Attic
  hosts     attic.local
  ssh       22
  isLocal   false
  stableID  _openclaw-gw._tcp|local.|attic_gateway
  debugID   attic_gateway (OpenClaw)._openclaw-gw._tcp.local
  look      openclaw mac-debug --ssh attic.local --port 18790 connect
- Studio Mac
  hosts        studio-mac.local, studio-mac.tail.example
  ssh          2222
  gatewayPort  18789
  cliPath      /opt/openclaw
  isLocal      false
  stableID     _openclaw-gw._tcp|local.|studio-mac
  debugID      studio-mac (OpenClaw)._openclaw-gw._tcp.local
  look         openclaw mac-debug --ssh studio-mac.local:2222 --port 18789 connect
",
            ""
        )
    );
    let all = discover(&state, &["--timeout", "2000", "--include-local", "--json"]).json();
    assert_eq!((&all["count"], &all["includeLocal"], &all["timeoutMs"]), (&json!(3), &json!(true), &json!(2000)));
    let here = all["gateways"].as_array().unwrap().iter().find(|row| row["isLocal"] == true).unwrap();
    assert_eq!(
        (&here["displayName"], &here["gatewayPort"], &here["sshPort"]),
        (&json!("Here"), &json!(18791), &json!(22))
    );
    assert!(here.get("cliPath").is_none() && here.get("tailnetDns").is_none(), "{here}");

    // Whoever names one gets there: nobody listens on that port.
    let mut command = openclaw(state.path());
    let tried = Process::run({
        command.args(["mac-debug", "connect", "--discovered", "here"]);
        command
    });
    assert_eq!(tried.code, Some(3), "{tried:?}");
    assert!(tried.stdout.contains("ws://localhost:18791"), "{}", tried.stdout);
    let unknown = Process::run({
        let mut command = openclaw(state.path());
        command.args(["mac-debug", "connect", "--discovered", "nobody"]);
        command
    });
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("no gateway of that name was found (3 others)"), "{}", unknown.stderr);
    python.kill().unwrap();
    python.wait().unwrap();
}

#[test]
fn sec_a159_hostile_answers_stay_text() {
    in_a_network_of_its_own("inside_hostile_answers");
}

/// What no honest responder sends.
fn nonsense(query: &[u8]) -> Vec<Vec<u8>> {
    let circle = [&query[..12], b"\xc0\x0c\0\x0c\0\x01"].concat();
    let mut counts = answer(query, &[]);
    counts[6..12].fill(0xFF);
    let mut loops = answer(query, &[]);
    loops[7] = 1;
    let at = u16::try_from(loops.len()).unwrap() | 0xC000;
    loops.extend(at.to_be_bytes());
    loops.extend([0, 12, 0, 1, 0, 0, 0, 9, 0, 0]);
    let whole = answer(query, &gateway(SERVICE, "Cut", &["displayName=Cut"], 1));
    let mut other_id = answer(query, &gateway(SERVICE, "Wrong id", &["a=b"], 1));
    other_id[0] ^= 0x55;
    let mut question = answer(query, &gateway(SERVICE, "A question", &["a=b"], 1));
    question[2] = 0;
    let elsewhere = answer(query, &gateway(&["_ssh", "_tcp", "local"], "Another service", &["a=b"], 1));
    vec![
        circle,
        counts,
        loops,
        whole[..whole.len() - 3].to_vec(),
        other_id,
        question,
        elsewhere,
        vec![0xFF; 8_000],
        vec![0; 12],
        vec![],
    ]
}

#[test]
#[ignore = "runs in a network of its own, see sec_a159_hostile_answers_stay_text"]
fn inside_hostile_answers() {
    // Not where neighbours answer from.
    let elsewhere = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    responder(move |query, from| {
        let strange = answer(query, &gateway(SERVICE, "Wrong port", &["a=b"], 1));
        elsewhere.send_to(&strange, from).unwrap();
        let mut all = nonsense(query);
        all.push(answer(
            query,
            &gateway(
                SERVICE,
                "Evil\u{1b}[2J",
                &[
                    "displayName=\u{1b}]0;owned\u{7}Evil\r\u{202E}\u{9b}31m",
                    "lanHost=-oProxyCommand=touch${IFS}x",
                    "tailnetDns=$(touch x)",
                    "gatewayPort=99999",
                    "sshPort=-1",
                    "cliPath=/bin/\u{8}\u{8}sh",
                ],
                7,
            ),
        ));
        all.push(answer(query, &gateway(SERVICE, "Plain", &["lanHost=plain.local", "gatewayPort=5"], 6)));
        all
    });
    let state = TempDir::new();
    let begun = Instant::now();
    let found = discover(&state, &["--timeout", "800"]);
    assert!(begun.elapsed() < DEADLINE);
    assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        found.stdout,
        "\
OpenClaw gateway discovery
Status: Stopped
Found 2 gateway(s) (local filtered)
- \\u{1B}]0;owned\\u{7}Evil \\u{202E}\\u{9B}31m
  hosts     -oProxyCommand=touch${IFS}x, $(touch x)
  ssh       22
  cliPath   /bin/\\u{8}\\u{8}sh
  isLocal   false
  stableID  _openclaw-gw._tcp|local.|Evil\\u{1B}[2J
  debugID   Evil\\u{1B}[2J._openclaw-gw._tcp.local
- Plain
  hosts        plain.local
  ssh          22
  gatewayPort  5
  isLocal      false
  stableID     _openclaw-gw._tcp|local.|Plain
  debugID      Plain._openclaw-gw._tcp.local
  look         openclaw mac-debug --ssh plain.local --port 5 connect
"
    );
    let printed = discover(&state, &["--timeout", "400", "--json"]);
    assert!(printed.stdout.chars().all(|letter| letter == '\n' || (' '..='~').contains(&letter)), "{}", printed.stdout);
    let rows = printed.json();
    assert_eq!(rows["gateways"][0]["displayName"], "\u{1b}]0;owned\u{7}Evil \u{202E}\u{9b}31m");
}

#[test]
fn a_crowd_is_listed_up_to_a_bound() {
    in_a_network_of_its_own("inside_a_crowd");
}

#[test]
#[ignore = "runs in a network of its own, see a_crowd_is_listed_up_to_a_bound"]
fn inside_a_crowd() {
    let heard = responder(|query, _| {
        (0..300).map(|number| answer(query, &gateway(SERVICE, &format!("G{number}"), &["a=b"], 1)[..1])).collect()
    });
    let state = TempDir::new();
    // Nobody but discover asks anybody.
    for arguments in [&["status"][..], &["nodes"], &["connect"], &["connect", "--url", "ws://127.0.0.1:9"]] {
        let mut command = openclaw(state.path());
        command.arg("mac-debug").args(arguments);
        Process::run(command);
    }
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    let found = discover(&state, &["--timeout", "600", "--json"]).json();
    assert_eq!(found["count"], 64);
    // Everything twice at most, however much they answer: who there is, then text and place of each that is listed.
    let asked = heard.load(Ordering::SeqCst);
    assert!((2..=2 * (1 + 2 * 64)).contains(&asked), "{asked}");
}

#[test]
fn nobody_can_be_asked() {
    let usable = Command::new("unshare").args(["-Urn", "true"]).output();
    if !usable.is_ok_and(|done| done.status.success()) {
        eprintln!("nobody_can_be_asked: left out, because `unshare -Urn` cannot be used here");
        return;
    }
    let state = TempDir::new();
    // Loopback is down there.
    let mut command = Command::new("unshare");
    command.args(["-Urn", env!("CARGO_BIN_EXE_openclaw"), "mac-debug", "discover", "--timeout", "100"]);
    command.env("OPENCLAW_STATE_DIR", state.path());
    let found = Process::run(command);
    assert_eq!(found.code, Some(0), "{found:?}");
    let status = "Status: Failed: local. (multicast) no network interface is up\nFound 0 gateway(s) (local filtered)\n";
    assert!(found.stdout.ends_with(status), "{}", found.stdout);
}

#[test]
fn a_domain_is_asked_of_its_name_server() {
    in_a_network_of_its_own("inside_a_domain");
}

#[test]
#[ignore = "runs in a network of its own, see a_domain_is_asked_of_its_name_server"]
fn inside_a_domain() {
    let state = TempDir::new();
    let resolvers = TempDir::new();
    let file = resolvers.join("resolv.conf");
    fs::write(&file, "# ours\nsearch example\nnameserver 127.0.0.9\nnameserver 127.0.0.1\nnameserver x\n").unwrap();
    let mounted =
        Command::new("mount").args(["--bind".as_ref(), file.as_os_str(), "/etc/resolv.conf".as_ref()]).status();
    assert!(mounted.unwrap().success());
    let heard = serve(UdpSocket::bind(("127.0.0.1", 53)).unwrap(), |query, _| {
        let domain = ["_openclaw-gw", "_tcp", "gw", "example"];
        let wants = |kind: u16| query[..query.len() - 2].ends_with(&kind.to_be_bytes());
        let all = gateway(&domain, "Far (OpenClaw)", &["lanHost=far.example", "gatewayPort=18789"], 18_789);
        // Each for what it asks.
        let which = if wants(PTR) {
            0..1
        } else if wants(TXT) {
            1..2
        } else {
            2..3
        };
        assert!(query[2] & 1 == 1, "recursion is asked for");
        vec![answer(query, &all[which])]
    });
    let found = discover(&state, &["--timeout", "3000", "--domain", "GW.Example."]);
    assert_eq!(
        found.stdout,
        "\
OpenClaw gateway discovery
Status: Stopped
Found 1 gateway(s) (local filtered)
- Far
  hosts        far.example
  ssh          22
  gatewayPort  18789
  isLocal      false
  stableID     wide-area|gw.example.|Far (OpenClaw)
  debugID      Far (OpenClaw)._openclaw-gw._tcp.gw.example
  look         openclaw mac-debug --ssh far.example --port 18789 connect
"
    );
    assert_eq!(heard.load(Ordering::SeqCst), 3);
    // Not a domain, no second look at the local one, and one whose server says nothing.
    assert_eq!(discover(&state, &["--domain", "a..b"]).code, Some(2));
    discover(&state, &["--timeout", "100", "--domain", "local."]);
    assert_eq!(heard.load(Ordering::SeqCst), 3);
    fs::write(&file, "nameserver 127.0.0.9\n").unwrap();
    let silent = discover(&state, &["--timeout", "300", "--domain", "gw.example"]);
    assert!(silent.stdout.contains("Status: Failed: gw.example. (name server 127.0.0.9) "), "{}", silent.stdout);
}
