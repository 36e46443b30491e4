//! What one who is not let in, or one who is and misbehaves, can take of the gateway: guesses,
//! places, bytes, pending requests. The gateway goes on for everybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use support::{
    Client, Connect, Device, Gateway, Incoming, Options, Stream, Surface, TOKEN, Upgrade, read_answer, wait_until,
};
use tungstenite::protocol::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// `details.code` of a refusal.
fn code(error: &Value) -> &str {
    error["details"]["code"].as_str().unwrap_or_else(|| panic!("no code in {error}"))
}

/// The outcome of a login with this, over TCP, from a page of this origin.
fn login(gateway: &Gateway, origin: Option<&str>, connect: &Connect) -> Result<Value, Value> {
    let mut upgrade = Upgrade::to(gateway.port);
    if let Some(origin) = origin {
        upgrade = upgrade.header("Origin", origin);
    }
    Client::over(Stream::tcp(gateway.port), &upgrade).connect(connect)
}

/// A gateway that lets two pages in.
fn with_pages() -> Gateway {
    Gateway::start(Options::default().config(json!({"gateway": {
        "mode": "local",
        "auth": {"mode": "token", "token": TOKEN},
        "controlUi": {"allowedOrigins": ["https://one.example", "https://two.example"]},
    }})))
}

#[test]
fn sec_a09_guessing_from_loopback_is_counted_too() {
    let gateway = with_pages();
    for (origin, longest) in [(Some("https://one.example"), 300_000), (None, 60_000)] {
        let mut mismatches = 0;
        for guess in 0..60 {
            let error = login(&gateway, origin, &Connect::cli(&[]).token(&format!("guess {guess}"))).unwrap_err();
            match code(&error) {
                "AUTH_TOKEN_MISMATCH" => mismatches += 1,
                "AUTH_RATE_LIMITED" => {
                    let wait = error["retryAfterMs"].as_u64().unwrap();
                    assert!(wait > longest / 2 && wait <= longest, "{origin:?}: {error}");
                }
                other => panic!("{other}: {error}"),
            }
        }
        assert_eq!(mismatches, 10, "{origin:?}");
        let right = login(&gateway, origin, &Connect::cli(&[])).unwrap_err();
        assert_eq!(code(&right), "AUTH_RATE_LIMITED", "{origin:?}: the right one too");
        // The other page has a budget of its own; the command line after the first round too.
        login(&gateway, Some("https://two.example"), &Connect::cli(&[])).unwrap();
        if origin.is_some() {
            login(&gateway, None, &Connect::cli(&[])).unwrap();
        }
    }
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}

#[test]
fn sec_a10_a_bogus_device_token_hides_no_guess() {
    let gateway = Gateway::new();
    let device = Device::new();
    let mut outcomes = Vec::new();
    for guess in 0..30 {
        let auth = json!({"token": format!("guess {guess}"), "deviceToken": format!("bogus {guess}")});
        // With and without a device: both kinds of login look at the shared secret.
        let connect = Connect::cli(&["operator.read"]).auth(auth);
        let connect = if guess % 2 == 0 { connect.device(&device) } else { connect };
        outcomes.push(code(&login(&gateway, None, &connect).unwrap_err()).to_owned());
    }
    assert!(outcomes[..10].iter().all(|code| code == "AUTH_TOKEN_MISMATCH"), "{outcomes:?}");
    assert!(outcomes[10..].iter().all(|code| code == "AUTH_RATE_LIMITED"), "{outcomes:?}");
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}

#[test]
fn sec_a12_a_burst_of_guesses_gets_no_more_than_the_budget() {
    const GUESSES: usize = 204;
    // The gateway lets at most 32 sockets of one address wait to log in, and those of the last round may still be closing.
    const AT_ONCE: usize = 12;
    let gateway = Gateway::new();
    let port = gateway.port;
    let barrier = Barrier::new(AT_ONCE);
    let codes: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut codes = Vec::new();
                    for round in 0..GUESSES / AT_ONCE {
                        let mut client = Client::over(Stream::tcp(port), &Upgrade::to(port));
                        let guess = Connect::cli(&[]).token(&format!("guess {worker} {round}"));
                        barrier.wait();
                        codes.push(code(&client.connect(&guess).unwrap_err()).to_owned());
                    }
                    codes
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let compared = codes.iter().filter(|code| *code == "AUTH_TOKEN_MISMATCH").count();
    assert_eq!(codes.len(), GUESSES);
    assert!((10..=10 + AT_ONCE).contains(&compared), "{compared} guesses were compared");
    assert!(codes.iter().filter(|code| *code == "AUTH_RATE_LIMITED").count() == GUESSES - compared, "{codes:?}");
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}

/// The comparison itself is a unit test (`sec_h03_one_comparison`); here: what is nearly right is
/// refused like anything else, and nothing panics.
#[test]
fn sec_a17_nearly_right_is_wrong() {
    let gateway = Gateway::new();
    let nearly = [
        TOKEN[..TOKEN.len() - 1].to_owned(),
        format!("{TOKEN}x"),
        format!("{TOKEN} "),
        format!("\u{0}{TOKEN}"),
        TOKEN.to_uppercase(),
        TOKEN.replace('t', "ť"),
        "\u{1F510}".repeat(64),
        "x".repeat(60_000),
    ];
    for wrong in nearly {
        let error = Client::tcp(&gateway).connect(&Connect::cli(&[]).token(&wrong)).unwrap_err();
        assert_eq!(code(&error), "AUTH_TOKEN_MISMATCH", "{error}");
    }
    Client::login(&gateway, &Connect::cli(&[]));
}

#[test]
fn sec_a18_no_credential_is_no_guess() {
    let gateway = Gateway::new();
    let device = Device::new();
    for round in 0..30 {
        let connect = Connect::cli(&["operator.read"]);
        let connect = if round % 2 == 0 { connect.no_auth() } else { connect.auth(json!({"token": ""})) };
        let connect = if round % 3 == 0 { connect.device(&device) } else { connect };
        let error = login(&gateway, None, &connect).unwrap_err();
        assert_ne!(code(&error), "AUTH_RATE_LIMITED", "{error}");
    }
    login(&gateway, None, &Connect::cli(&[])).unwrap();
    for guess in 0..10 {
        login(&gateway, None, &Connect::cli(&[]).token(&format!("guess {guess}"))).unwrap_err();
    }
    assert_eq!(code(&login(&gateway, None, &Connect::cli(&[])).unwrap_err()), "AUTH_RATE_LIMITED");
}

#[test]
fn sec_a32_a_token_in_the_query_is_no_credential() {
    let gateway = Gateway::new();
    for query in [format!("/?token={TOKEN}"), format!("/?auth={TOKEN}"), format!("/ws?password={TOKEN}#{TOKEN}")] {
        let mut upgrade = Upgrade::to(gateway.port);
        upgrade.path = query.clone();
        match Client::try_over(Stream::tcp(gateway.port), &upgrade) {
            Ok(mut client) => {
                let error = client.connect(&Connect::cli(&["operator.admin"]).no_auth()).unwrap_err();
                assert!(!error.to_string().contains(TOKEN), "{error}");
            }
            Err(answer) => assert!((400..500).contains(&answer.status) && !answer.text().contains(TOKEN), "{answer:?}"),
        }
        let plain =
            support::send_raw(gateway.port, format!("GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert!((400..500).contains(&plain.status) && !plain.text().contains(TOKEN), "{plain:?}");
    }
    Client::login(&gateway, &Connect::cli(&[]));
    assert!(!gateway.process.stderr().contains(TOKEN), "{}", gateway.process.stderr());
}

#[test]
fn sec_a39_a_reconnect_widens_nothing() {
    let gateway = Gateway::new();
    let device = Device::new();
    let reader = Connect::new("openclaw-macos", "ui", "operator", &["operator.read"]).device(&device);
    Client::login(&gateway, &reader);
    let wider = reader.clone().set("scopes", json!(["operator.read", "operator.admin"]));
    for _ in 0..3 {
        let error = Client::tcp(&gateway).connect(&wider).unwrap_err();
        assert_eq!(
            (code(&error), &error["details"]["reason"]),
            ("PAIRING_REQUIRED", &json!("scope-upgrade")),
            "{error}"
        );
    }
    // Nothing came of asking: reading goes on, admin is still missing.
    let mut client = Client::login(&gateway, &reader);
    client.request("status", json!({})).unwrap();
    assert_eq!(client.request("node.pair.list", json!({})).unwrap_err()["details"]["missingScope"], "operator.pairing");
    // One request waits, and with the owner's word it is granted.
    let mut owner = gateway.owner();
    let pending = owner.request("device.pair.list", json!({})).unwrap()["pending"].take();
    assert_eq!(pending.as_array().unwrap().len(), 1, "{pending}");
    owner.request("device.pair.approve", json!({"requestId": pending[0]["requestId"]})).unwrap();
    Client::login(&gateway, &wider);
}

/// The gateway's part: an invocation that has ended has ended, whatever comes later.
#[test]
fn sec_a56_what_was_cancelled_does_not_come_back() {
    let gateway = Gateway::new();
    let device = Device::new();
    let surface = Surface::linux(&["system.which"]);
    let mut node = Client::login(&gateway, &Connect::node(&device, &surface));
    gateway.approve_surface(&device.id());
    let mut owner = gateway.owner();
    let invoke = |id: &str, limit: u64| {
        json!({"nodeId": id, "command": "system.which", "params": {"bins": ["ls"]}, "timeoutMs": limit,
            "idempotencyKey": format!("key-{limit}")})
    };
    let late = |node: &mut Client, request: &Value| {
        node.request(
            "node.invoke.result",
            json!({"id": request["id"], "nodeId": request["nodeId"], "ok": true, "payload": {"late": true}}),
        )
    };
    // Out of time: one answer, and the late result is acknowledged and goes nowhere.
    let id = owner.start("node.invoke", invoke(&device.id(), 200));
    let request = node.event("node.invoke.request");
    assert_eq!(owner.response(&id).unwrap_err()["details"]["nodeError"]["code"], "TIMEOUT");
    assert_eq!(node.event("node.invoke.cancel")["invokeId"], request["id"]);
    assert_eq!(late(&mut node, &request).unwrap()["ignored"], true);
    assert!(owner.stays_open(support::QUIET) && owner.waiting().all(|frame| frame["id"] != id), "a second answer");
    // The node has gone: its result over the next connection is nobody's.
    let id = owner.start("node.invoke", invoke(&device.id(), 20_000));
    let request = node.event("node.invoke.request");
    drop(node);
    assert_eq!(owner.response(&id).unwrap_err()["details"]["nodeError"]["code"], "DISCONNECTED");
    let mut node = Client::login(&gateway, &Connect::node(&device, &surface));
    node.no_event("node.invoke.request");
    assert_eq!(late(&mut node, &request).unwrap()["ignored"], true);
    // The caller has gone: its result is nobody's, and the next one's answer is its own.
    let mut caller = gateway.owner();
    caller.start("node.invoke", invoke(&device.id(), 20_001));
    let request = node.event("node.invoke.request");
    drop(caller);
    node.event("node.invoke.cancel");
    late(&mut node, &request).unwrap();
    let id = owner.start("node.invoke", invoke(&device.id(), 20_002));
    let request = node.event("node.invoke.request");
    let result = json!({"id": request["id"], "nodeId": request["nodeId"], "ok": true, "payload": {"mine": true}});
    node.request("node.invoke.result", result).unwrap();
    assert_eq!(owner.response(&id).unwrap()["payload"], json!({"mine": true}));
}

/// A TCP connection to the gateway from this address of the loopback net.
fn connect_from(source: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    // SAFETY: socket takes integers; the descriptor is new and nobody else's.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    use std::os::fd::AsRawFd;
    let address = |address: Ipv4Addr, port: u16| {
        // SAFETY: an all-zero sockaddr_in is a valid value of that plain structure (macOS has one member more).
        let mut plain: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        plain.sin_family = libc::AF_INET as libc::sa_family_t;
        plain.sin_port = port.to_be();
        plain.sin_addr = libc::in_addr { s_addr: u32::from(address).to_be() };
        plain
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let (from, to) = (address(source, 0), address(Ipv4Addr::LOCALHOST, port));
    // SAFETY: both structures live across the calls and have the length that is given.
    let done = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const from).cast(), length) == 0
            && libc::connect(socket.as_raw_fd(), (&raw const to).cast(), length) == 0
    };
    if done { Ok(TcpStream::from(socket)) } else { Err(std::io::Error::last_os_error()) }
}

/// Descriptors of the gateway, as it says itself.
fn descriptors(owner: &mut Client) -> u64 {
    owner.request("status", json!({})).unwrap()["descriptors"].as_u64().unwrap()
}

fn resident(owner: &mut Client) -> u64 {
    owner.request("status", json!({})).unwrap()["memoryBytes"].as_u64().unwrap()
}

/// Raises our own descriptor limit; returns how many sockets we may hold.
fn room_for_sockets() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer names a live rlimit, both times.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(16_384);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    usize::try_from(limit.rlim_cur).unwrap().saturating_sub(200).min(5_000)
}

#[test]
fn sec_a145_a_crowd_that_says_nothing_takes_no_place() {
    let mut gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let mut node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&[])));
    let before = descriptors(&mut owner);
    let wanted = room_for_sockets();
    println!("sec_a145: {wanted} sockets");
    let mut crowd = Vec::new();
    for at in 0..wanted {
        // Every third one upgrades and then says nothing.
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port)).unwrap();
        if at % 3 == 0 {
            drop(stream.write_all(&Upgrade::to(gateway.port).bytes()));
        }
        crowd.push(stream);
    }
    // Those that made room are closed at once, but by threads of their own.
    wait_until("one address holds few descriptors", || (descriptors(&mut owner) <= before + 40).then_some(()));
    // Who is in stays in and works.
    owner.request("node.list", json!({})).unwrap();
    node.request("skills.bins", json!({})).unwrap();
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
    // Other addresses have places too, up to a bound for all.
    let mut others = Vec::new();
    for at in 0..400_u32 {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + at);
        match connect_from(source, gateway.port) {
            Ok(stream) => others.push(stream),
            Err(error) => {
                println!("sec_a145: other loopback addresses cannot be used here: {error}");
                break;
            }
        }
    }
    wait_until("all addresses hold few descriptors", || (descriptors(&mut owner) <= before + 140).then_some(()));
    drop((crowd, others));
    wait_until("the descriptors of the crowd are back", || (descriptors(&mut owner) <= before + 2).then_some(()));
    gateway.assert_alive();
}

/// A masked frame of a client, by hand.
fn frame(data: Data, last: bool, payload: Vec<u8>) -> Message {
    Message::Frame(Frame::message(payload, OpCode::Data(data), last))
}

#[test]
fn sec_a146_before_login_little_is_read_and_not_for_long() {
    let mut gateway = Gateway::new();
    let mut owner = gateway.owner();
    let before = resident(&mut owner);
    // One byte too much, whole.
    let mut client = Client::tcp(&gateway);
    client.send_text(&"x".repeat(65_537));
    assert_eq!(client.closed().code, 1009);
    // A message without end, in pieces.
    let mut client = Client::tcp(&gateway);
    let started = Instant::now();
    client.send_message(frame(Data::Text, false, vec![b'x'; 60_000]));
    for _ in 0..2_000 {
        client.send_message(frame(Data::Continue, false, vec![b'x'; 60_000]));
    }
    let closed = client.closed();
    assert!(closed.code == 1009 || closed.code == 1006, "{closed:?}");
    assert!(started.elapsed() < Duration::from_secs(16), "{:?}", started.elapsed());
    // Ten thousand pieces of nearly nothing, and nothing but pings: until the deadline of the
    // handshake, and no longer.
    let port = gateway.port;
    std::thread::scope(|scope| {
        for pings in [false, true] {
            scope.spawn(move || {
                let mut client = Client::over(Stream::tcp(port), &Upgrade::to(port));
                let started = Instant::now();
                if !pings {
                    client.send_message(frame(Data::Text, false, vec![b'{']));
                    for _ in 0..10_000 {
                        client.send_message(frame(Data::Continue, false, vec![b' ']));
                    }
                }
                while client.stays_open(Duration::from_millis(200)) {
                    assert!(started.elapsed() < Duration::from_secs(17), "pings: {pings}");
                    if pings {
                        client.send_message(Message::Ping(b"x".to_vec().into()));
                    }
                }
                assert!(started.elapsed() > Duration::from_secs(13), "pings: {pings}, {:?}", started.elapsed());
            });
        }
    });
    let grown = resident(&mut owner).saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
    gateway.assert_alive();
}

#[test]
fn sec_a147_after_login_a_frame_has_a_bound_and_a_depth() {
    let mut gateway = Gateway::new();
    // No compression is agreed on, whatever is offered.
    let offer = Upgrade::to(gateway.port)
        .header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits; server_no_context_takeover");
    let mut client = Client::over(Stream::tcp(gateway.port), &offer);
    assert_eq!(client.upgrade.header("sec-websocket-extensions"), None);
    client.connect(&Connect::cli(&["operator.read"])).unwrap();
    // A frame that says it is compressed is broken: RSV1 without the extension.
    client.send_bytes(&[0b1100_0001, 0b1000_0001, 0, 0, 0, 0, b'x']);
    assert_eq!(client.closed().code, 1002);
    for params in [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        format!("{{{}\"z\":1}}", (0..1_000_000).map(|at| format!("\"k{at}\":1,")).collect::<String>()),
        "1e999999999".to_owned(),
        format!("{{\"n\":{}}}", "9".repeat(1_000_000)),
    ] {
        let mut client = Client::login(&gateway, &Connect::cli(&["operator.read"]));
        client.send_text(&format!(r#"{{"type":"req","id":"deep","method":"node.list","params":{params}}}"#));
        // Refused with an answer, or ignored as no JSON; the session goes on with the next request.
        let list = client.request("node.list", json!({})).unwrap();
        assert!(list["nodes"].is_array());
        let deep = client.waiting().find(|frame| frame["id"] == "deep");
        assert!(deep.is_none_or(|frame| frame["ok"] == false), "{deep:?}");
    }
    let mut client = Client::login(&gateway, &Connect::cli(&["operator.read"]));
    client.send_text(&format!("\"{}\"", "x".repeat(26 * 1024 * 1024)));
    assert_eq!(client.closed().code, 1009);
    gateway.assert_alive();
}

#[test]
fn sec_a148_a_reader_that_stops_costs_a_bounded_buffer() {
    let gateway = Gateway::new();
    let device = Device::new();
    let mut node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    gateway.approve_surface(&device.id());
    let mut owner = gateway.owner();
    let mut slow = gateway.owner();
    // Answers of a megabyte each, a hundred of them, to somebody who reads none.
    let pad = "x".repeat(1024 * 1024);
    let ids: Vec<String> = (0..100)
        .map(|at| {
            slow.start(
                "node.invoke",
                json!({"nodeId": device.id(), "command": "system.which", "params": {"bins": ["ls"]},
                    "timeoutMs": 60_000, "idempotencyKey": format!("k{at}")}),
            )
        })
        .collect();
    let mut most = 0;
    for _ in &ids {
        let request = node.event("node.invoke.request");
        let result = json!({"id": request["id"], "nodeId": request["nodeId"], "ok": true, "payload": {"pad": pad}});
        node.request("node.invoke.result", result).unwrap();
        most = most.max(resident(&mut owner));
    }
    assert!(most < 110 * 1024 * 1024, "{most} bytes resident");
    // The one who does not read is closed as slow or keeps what fits; nobody else notices.
    wait_until("the slow reader is closed", || {
        let status = owner.request("status", json!({})).unwrap();
        (status["connections"]["operators"] == 1).then_some(())
    });
    wait_until("its memory is back", || (resident(&mut owner) < 40 * 1024 * 1024).then_some(()));
    let mut answers = 0;
    let closed = loop {
        match slow.next() {
            Incoming::Frame(frame) => answers += usize::from(frame["type"] == "res"),
            Incoming::Closed(closed) => break closed,
        }
    };
    assert!(answers < 100, "everything was delivered: nothing was tested");
    assert!(closed.code == 1008 && closed.reason == "slow consumer" || closed.code == 1006, "{closed:?}");
    // The twin: who reads gets everything.
    let mut quick = gateway.owner();
    let params = json!({"nodeId": device.id(), "command": "system.which", "params": {}, "idempotencyKey": "q"});
    let id = quick.start("node.invoke", params);
    let request = node.event("node.invoke.request");
    let result = json!({"id": request["id"], "nodeId": request["nodeId"], "ok": true, "payload": {"pad": pad}});
    node.request("node.invoke.result", result).unwrap();
    assert_eq!(quick.response(&id).unwrap()["payload"]["pad"], pad);
}

/// The map itself with a million keys is a unit test of `gateway::failures`; here two thousand real
/// addresses, and a lock-out that they must not push out.
#[test]
fn sec_a151_many_addresses_forget_no_lockout() {
    let gateway = Gateway::new();
    let mut owner = Client::unix(&gateway);
    owner.connect(&Connect::cli(&["operator.read"])).unwrap();
    for guess in 0..11 {
        login(&gateway, None, &Connect::cli(&[]).token(&format!("guess {guess}"))).unwrap_err();
    }
    assert_eq!(code(&login(&gateway, None, &Connect::cli(&[])).unwrap_err()), "AUTH_RATE_LIMITED");
    let before = resident(&mut owner);
    let mut done = 0;
    for at in 0..2_000_u32 {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + at);
        let stream = match connect_from(source, gateway.port) {
            Ok(stream) => stream,
            Err(error) => {
                println!("sec_a151: other loopback addresses cannot be used here: {error}");
                break;
            }
        };
        assert_eq!(stream.local_addr().unwrap().ip(), SocketAddr::V4(SocketAddrV4::new(source, 0)).ip());
        let mut client = Client::over(Stream::Tcp(stream), &Upgrade::to(gateway.port));
        let error = client.connect(&Connect::cli(&[]).token("one wrong one")).unwrap_err();
        assert_eq!(code(&error), "AUTH_TOKEN_MISMATCH", "{source}: {error}");
        done += 1;
    }
    println!("sec_a151: {done} addresses");
    let grown = resident(&mut owner).saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes for {done} addresses");
    assert_eq!(code(&login(&gateway, None, &Connect::cli(&[])).unwrap_err()), "AUTH_RATE_LIMITED");
}

#[test]
fn sec_a152_a_flood_of_pairing_requests_is_bounded_and_hides_nobody() {
    let gateway = Gateway::start(Options::default().manual_pairing());
    let known = Device::new();
    let node = |device: &Device| Connect::node(device, &Surface::linux(&["system.run"]));
    let error = Client::tcp(&gateway).connect(&node(&known)).unwrap_err();
    let first = error["details"]["requestId"].as_str().unwrap().to_owned();
    let mut owner = gateway.owner();
    let mut refused = 0;
    for _ in 0..1_000 {
        let error = Client::tcp(&gateway).connect(&node(&Device::new())).unwrap_err();
        match error["code"].as_str() {
            Some("NOT_PAIRED") => {}
            Some("UNAVAILABLE") => {
                assert!(error["message"].as_str().unwrap().split(' ').count() > 3, "says what to do: {error}");
                refused += 1;
            }
            _ => panic!("{error}"),
        }
    }
    let pending = owner.request("device.pair.list", json!({})).unwrap()["pending"].take();
    let pending = pending.as_array().unwrap();
    assert!(pending.len() <= 64, "{} pending", pending.len());
    assert_eq!(refused, 1_001 - pending.len());
    assert!(pending.iter().any(|row| row["requestId"] == first.as_str()), "the first one was pushed out");
    owner.request("device.pair.approve", json!({"requestId": first})).unwrap();
    Client::login(&gateway, &node(&known));
}

/// H19 with row A11: guesses of all addresses together are bounded as well. Forwarded headers, the
/// other way to many addresses, are refused (A25).
#[test]
fn sec_h19_guesses_from_many_addresses_are_bounded_together() {
    let gateway = Gateway::new();
    let device = Device::new();
    let node = Connect::node(&device, &Surface::linux(&[]));
    let (_, hello) = Client::login_hello(&gateway, &node);
    let token = hello["auth"]["deviceToken"].as_str().unwrap();
    let mut stream = Stream::tcp(gateway.port);
    stream.write_all(&Upgrade::to(gateway.port).header("X-Forwarded-For", "10.0.0.1").bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 403);
    let mut compared = 0;
    for at in 0..300_u32 {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 2, 0, 1)) + at / 5);
        let stream = match connect_from(source, gateway.port) {
            Ok(stream) => stream,
            Err(error) => {
                println!("sec_h19: other loopback addresses cannot be used here: {error}");
                return;
            }
        };
        let mut client = Client::over(Stream::Tcp(stream), &Upgrade::to(gateway.port));
        let error = client.connect(&Connect::cli(&[]).token(&format!("guess {at}"))).unwrap_err();
        compared += usize::from(code(&error) == "AUTH_TOKEN_MISMATCH");
    }
    assert_eq!(compared, 100, "guesses of sixty addresses");
    // However many guesses were made, a device token is another class.
    Client::login(&gateway, &node.device_token(token));
    Client::unix(&gateway).connect(&Connect::cli(&[])).unwrap();
}
