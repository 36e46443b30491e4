//! The limits of the gateway before and after login: floods, guesses, queued frames, a second
//! connection of one device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Answer, Client, Closed, Connect, Device, Gateway, Options, QUIET, Stream, Surface, Upgrade, read_answer, wait_until,
};
use tungstenite::Message;

const ADMIN: &[&str] = &["operator.admin", "operator.read", "operator.write", "operator.pairing"];

/// A gateway with one approved node, both held by the test.
fn scene() -> (Gateway, Client, Client, String) {
    let gateway = Gateway::new();
    let (device, surface) =
        (Device::new(), Surface::linux(&["system.run", "system.which", "system.execApprovals.get"]));
    let node = Client::login(&gateway, &Connect::node(&device, &surface));
    gateway.approve_surface(&device.id());
    let owner = gateway.owner();
    (gateway, owner, node, device.id())
}

const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;

/// A client's frame; its mask is zero, so that the payload stands in it as it is.
fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | u8::from(is_final) << 7];
    match u16::try_from(payload.len()).unwrap() {
        short @ ..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend(long.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn text_frame(content: &Value) -> Vec<u8> {
    frame(TEXT, true, content.to_string().as_bytes())
}

/// frames/neg-preauth-16-queued.json: the sixteenth frame behind `connect` ends it without an
/// answer; fifteen are served in their order.
#[test]
fn sixteen_frames_behind_connect_are_too_many() {
    let gateway = Gateway::new();
    for (behind, token) in [(16, support::TOKEN), (19, "wrong"), (15, support::TOKEN)] {
        let mut client = Client::tcp(&gateway);
        let params = Connect::backend(ADMIN).token(token).params(&client.challenge);
        let mut bytes = text_frame(&json!({"type": "req", "id": "c", "method": "connect", "params": params}));
        for at in 0..behind {
            bytes.extend(text_frame(&json!({"type": "req", "id": format!("q{at}"), "method": "health"})));
        }
        client.send_bytes(&bytes);
        if behind == 15 {
            assert_eq!(client.response("c").unwrap()["type"], "hello-ok");
            for at in 0..behind {
                client.response(&format!("q{at}")).unwrap();
            }
        } else {
            let reason = "too many pending handshake frames".to_owned();
            assert_eq!(client.closed(), Closed { code: 1008, reason });
            assert_eq!(client.waiting().count(), 0, "no answer: {:?}", client.waiting().collect::<Vec<_>>());
        }
    }
}

/// A146: before login nothing large is collected, whatever pieces it comes in, and nothing that
/// says nothing stays for long.
#[test]
fn sec_a146_what_comes_before_login_is_bounded() {
    let mut gateway = Gateway::new();
    for (size, count) in [(1, 10_000_usize), (10, 10_000), (60_000, 20_000)] {
        let mut client = Client::tcp(&gateway);
        client.send_bytes(&frame(TEXT, false, b"{"));
        let piece = frame(CONTINUATION, false, &vec![b' '; size]);
        let batch = piece.repeat((4_000_000 / piece.len()).clamp(1, count));
        let mut sent = 0;
        while sent < size * count && sent < 1 << 30 {
            client.send_bytes(&batch);
            sent += batch.len();
            if sent > 100_000 && !client.stays_open(Duration::from_millis(50)) {
                break;
            }
        }
        if size * count > 65_536 {
            assert!([1009, 1006].contains(&client.closed().code), "{size} × {count}");
            assert!(sent < 64 << 20, "it took {sent} bytes");
        }
    }
    let begun = Instant::now();
    let mut pinging = Client::tcp(&gateway);
    while pinging.stays_open(Duration::from_millis(500)) {
        pinging.send_message(Message::Ping(vec![0; 100].into()));
        assert!(begun.elapsed() < Duration::from_secs(18), "pings keep a stranger in");
    }
    assert_eq!(pinging.closed().code, 1000);
    gateway.assert_alive();
}

fn open_files(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

/// A145: silent upgrades push out only each other; who is in stays in, who comes by the socket
/// gets in, and afterwards nothing is left of them.
#[test]
fn sec_a145_a_flood_before_login_harms_nobody() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a live structure.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(16_384);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    let wanted = usize::try_from(limit.rlim_cur).unwrap().saturating_sub(500).min(5_000);
    println!("sec_a145: {wanted} connections");
    let (mut gateway, mut owner, _node, _) = scene();
    let before = open_files(gateway.process.pid());
    let mut crowd: Vec<TcpStream> = Vec::new();
    for at in 0..wanted {
        crowd.push(TcpStream::connect(("127.0.0.1", gateway.port)).unwrap());
        if at % 1_000 == 0 {
            owner.request("node.list", json!({})).unwrap();
        }
    }
    owner.request("node.list", json!({})).unwrap();
    if let (Some(before), Some(now)) = (before, open_files(gateway.process.pid())) {
        assert!(now <= before + 2 * 128 + 64, "{before} descriptors became {now}");
    }
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
    drop(crowd);
    gateway.assert_alive();
    if let Some(before) = before {
        wait_until("the descriptors to be back", || (open_files(gateway.process.pid())? <= before + 2).then_some(()));
    }
}

/// Loopback addresses that a connection can come from: the fifth finds TCP full.
const FROM: &[[u8; 4]] = if cfg!(target_os = "linux") {
    &[[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4], [127, 0, 0, 5]]
} else {
    &[[127, 0, 0, 1]]
};

/// A connection to `port` from an address of our choice.
fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let address = |ip: [u8; 4], port: u16| {
        // SAFETY: all zeroes is a valid address of no family; what matters is set below.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes(ip);
        address
    };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: socket takes integers; the descriptor is ours alone; both addresses live as long as
    // the calls and have the size that is said.
    unsafe {
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        let (own, peer) = (address(from, 0), address([127, 0, 0, 1], port));
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const own).cast(), size), 0);
        assert_eq!(libc::connect(socket.as_raw_fd(), (&raw const peer).cast(), size), 0);
        TcpStream::from(socket)
    }
}

/// A145 and DESIGN "budgets": who has said something keeps a place, so 128 strangers from many
/// addresses fill TCP; the Unix socket has its own places, and at most 32.
#[test]
fn sec_a145_the_unix_socket_has_places_of_its_own() {
    let gateway = Gateway::new();
    let mut crowd = Vec::new();
    for from in FROM {
        let before = crowd.len();
        loop {
            let mut stream = Stream::Tcp(connect_from(*from, gateway.port));
            drop(stream.write_all(&Upgrade::to(gateway.port).bytes()));
            if read_answer(&mut stream).status != 101 {
                break;
            }
            crowd.push(stream);
        }
        assert_eq!(crowd.len() - before, if before == 128 { 0 } else { 32 }, "{from:?}");
    }
    let mut strangers = Vec::new();
    let answer = loop {
        let mut stream = Stream::unix(&gateway.socket());
        // Who is refused may find the other side closed already.
        drop(stream.write_all(&Upgrade::to(0).host("localhost").bytes()));
        let answer = read_answer(&mut stream);
        if answer.status != 101 || strangers.len() > 40 {
            break answer.status;
        }
        strangers.push(stream);
    };
    assert_eq!((strangers.len(), answer), (32, 503), "its own count, and no more than that");
    drop(strangers);
    wait_until("a place on the socket", || {
        let mut stream = Stream::unix(&gateway.socket());
        drop(stream.write_all(&Upgrade::to(0).host("localhost").bytes()));
        (read_answer(&mut stream).status == 101).then_some(())
    });
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}

const PASSWORD: &str = "the-right-password-of-this-test";
const PAGES: [&str; 2] = ["https://one.example", "https://two.example"];

/// A gateway with a password, and two pages that may connect.
fn guarded() -> Gateway {
    Gateway::start(Options::default().config(json!({"gateway": {
        "mode": "local",
        "auth": {"mode": "password", "password": PASSWORD},
        "controlUi": {"allowedOrigins": PAGES},
    }})))
}

/// Logs in from a page, or none.
fn try_password(gateway: &Gateway, page: Option<&str>, password: &str) -> Answer {
    let mut upgrade = Upgrade::to(gateway.port);
    if let Some(page) = page {
        upgrade = upgrade.header("Origin", page);
    }
    let mut client = Client::over(Stream::tcp(gateway.port), &upgrade);
    client.connect(&Connect::cli(&[]).auth(json!({"password": password})))
}

fn code_of(answer: &Answer) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) => error["details"]["code"].as_str().unwrap_or_default().to_owned(),
    }
}

/// A09: ten wrong passwords, then nothing is compared any more, not even the right one; each page,
/// and no page, has its own count.
#[test]
fn sec_a09_a_password_cannot_be_guessed_over_loopback() {
    let gateway = guarded();
    for (page, longest) in [(Some(PAGES[0]), 300_000), (None, 60_000)] {
        assert_eq!(code_of(&try_password(&gateway, page, PASSWORD)), "ok");
        let mut compared = 0;
        for at in 0..60 {
            let answer = try_password(&gateway, page, &format!("guess {at}"));
            match &*code_of(&answer) {
                "AUTH_PASSWORD_MISMATCH" => compared += 1,
                "AUTH_RATE_LIMITED" => {
                    let error = answer.unwrap_err();
                    let wait = error["retryAfterMs"].as_u64().unwrap();
                    assert!(wait > 0 && wait <= longest && error["retryable"] == true, "{error}");
                }
                other => panic!("{other}: {answer:?}"),
            }
        }
        assert_eq!(compared, 10, "{page:?}");
        assert_eq!(code_of(&try_password(&gateway, page, PASSWORD)), "AUTH_RATE_LIMITED", "{page:?}");
        assert_eq!(code_of(&try_password(&gateway, Some(PAGES[1]), PASSWORD)), "ok", "another page is another one");
    }
}

/// A10: a made-up device token hides no wrong secret, with a device or without.
#[test]
fn sec_a10_a_bogus_device_token_does_not_hide_a_wrong_secret() {
    let device = Device::new();
    for with_device in [false, true] {
        let gateway = Gateway::new();
        let codes: Vec<String> = (0..30)
            .map(|at| {
                let auth = json!({"token": format!("wrong {at}"), "deviceToken": format!("bogus {at}")});
                let connect = Connect::cli(&[]).auth(auth);
                let connect = if with_device { connect.device(&device) } else { connect };
                code_of(&Client::tcp(&gateway).connect(&connect))
            })
            .collect();
        let expected: Vec<&str> =
            (0..30).map(|at| if at < 10 { "AUTH_TOKEN_MISMATCH" } else { "AUTH_RATE_LIMITED" }).collect();
        assert_eq!(codes, expected, "with_device={with_device}");
    }
}

/// A12: however many guess at once, at most ten and those under way are compared.
#[test]
fn sec_a12_parallel_guesses_do_not_overrun_the_count() {
    const THREADS: usize = 16;
    let start = Arc::new(Barrier::new(THREADS));
    let gateway = Gateway::new();
    let port = gateway.port;
    let guesses: Vec<_> = (0..THREADS)
        .map(|thread| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                (0..13)
                    .map(|at| {
                        let mut client = Client::over(Stream::tcp(port), &Upgrade::to(port));
                        code_of(&client.connect(&Connect::cli(&[]).token(&format!("guess {thread}-{at}"))))
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let codes: Vec<String> = guesses.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let compared = codes.iter().filter(|code| *code == "AUTH_TOKEN_MISMATCH").count();
    let limited = codes.iter().filter(|code| *code == "AUTH_RATE_LIMITED").count();
    assert!((10..=10 + THREADS).contains(&compared), "{compared} were compared");
    assert_eq!(compared + limited, THREADS * 13);
}

/// A18: a credential that is missing is no guess; a wrong one still is.
#[test]
fn sec_a18_a_missing_credential_is_not_counted() {
    let gateway = Gateway::new();
    let device = Device::new();
    for at in 0..30 {
        let connect = if at % 2 == 0 { Connect::cli(&[]).no_auth() } else { Connect::cli(&[]).token("") };
        let connect = if at % 3 == 0 { connect.device(&device) } else { connect };
        Client::tcp(&gateway).connect(&connect).unwrap_err();
    }
    assert_eq!(code_of(&Client::tcp(&gateway).connect(&Connect::cli(&[]))), "ok");
    for at in 0..10 {
        Client::tcp(&gateway).connect(&Connect::cli(&[]).token(&format!("wrong {at}"))).unwrap_err();
    }
    assert_eq!(code_of(&Client::tcp(&gateway).connect(&Connect::cli(&[]))), "AUTH_RATE_LIMITED");
}

/// frames/node-double-connect-same-device.json: the older connection stays, and hears no invocation.
#[test]
fn the_older_connection_of_a_node_stays_open() {
    let gateway = Gateway::new();
    let (device, surface) = (Device::new(), Surface::linux(&["system.which"]));
    let mut old = Client::login(&gateway, &Connect::node(&device, &surface));
    gateway.approve_surface(&device.id());
    let mut new = Client::login(&gateway, &Connect::node(&device, &surface));
    let mut owner = gateway.owner();
    owner.start("node.invoke", json!({"nodeId": device.id(), "command": "system.which", "idempotencyKey": "k"}));
    new.event("node.invoke.request");
    old.no_event("node.invoke.request");
    assert!(old.stays_open(QUIET));
    assert!(old.request("health", json!({})).unwrap()["ok"] == true);
}

/// frames/call-system-presence.json: the gateway first, then who is connected.
#[test]
fn the_presence_rows_have_what_the_original_shows() {
    let (_gateway, mut owner, _node, id) = scene();
    let rows = owner.request("system-presence", json!({})).unwrap();
    let rows = rows.as_array().unwrap();
    for member in ["host", "version", "platform", "deviceFamily", "mode", "reason", "instanceId", "text"] {
        assert!(rows[0][member].is_string(), "{member}: {}", rows[0]);
    }
    assert_eq!((&rows[0]["mode"], &rows[0]["reason"]), (&json!("gateway"), &json!("self")));
    let node = rows.iter().find(|row| row["deviceId"] == id).unwrap();
    assert_eq!(node["text"], "Node: test node · mode node");
    assert_eq!((&node["roles"], &node["instanceId"]), (&json!(["node"]), &json!(id)));
    assert!(node.get("scopes").is_none(), "{node}");
}

/// A crowd that comes at once is told in a few lists, not in one for each; the last one has everybody.
#[test]
fn presence_is_told_at_most_once_a_second() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let rows = |frame: &Value| frame["payload"]["presence"].as_array().unwrap().len();
    let all = |count: usize| move |frame: &Value| frame["event"] == "presence" && rows(frame) == 2 + count;
    let started = Instant::now();
    let crowd: Vec<Client> = (0..30).map(|_| Client::login(&gateway, &Connect::cli(&["operator.read"]))).collect();
    let last = owner.take("everybody", all(crowd.len()));
    let waiting = owner.waiting().filter(|frame| frame["event"] == "presence");
    let told = 1 + waiting
        .inspect(|frame| {
            assert!(frame["stateVersion"]["presence"].as_u64() < last["stateVersion"]["presence"].as_u64())
        })
        .count();
    // The first at once, then one for each second that has passed.
    assert!(
        told <= 3 + usize::try_from(started.elapsed().as_secs()).unwrap(),
        "{told} lists in {:?}",
        started.elapsed()
    );
    drop(crowd);
    owner.take("nobody", all(0));
}
