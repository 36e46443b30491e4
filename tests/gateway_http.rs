//! What happens before the upgrade: Origin, Host, forwarded headers, broken HTTP, plain HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use data_encoding::BASE64URL_NOPAD;
use ed25519_compact::{PublicKey, Signature};
use serde_json::json;
use std::io::Write;
use support::{
    Client, Connect, Device, Gateway, HttpAnswer, Options, QUIET, Stream, Surface, TOKEN, Upgrade, read_answer,
    send_raw, wait_until,
};

/// Asserts that the answer is a plain HTTP refusal with `status` and no challenge behind it.
fn refused(status: u16, answer: &HttpAnswer, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert!(!answer.text().contains("connect.challenge"), "{what}: {answer:?}");
    assert!(!answer.text().contains(TOKEN), "{what}");
}

fn upgrade(gateway: &Gateway, upgrade: &Upgrade) -> HttpAnswer {
    send_raw(gateway.port, &upgrade.bytes())
}

/// A21: a web page cannot open a session, whatever it knows. Stricter than
/// frames/origin-browser-evil.json, where the refusal comes after the upgrade.
#[test]
fn sec_a21_no_cross_site_websocket() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    for origin in ["https://evil.example", "http://evil.example", "https://evil.example:443"] {
        let evil = Upgrade::to(port).header("Origin", origin);
        refused(403, &upgrade(&gateway, &evil), origin);
        for header in ["X-Forwarded-For", "X-Forwarded-Host"] {
            refused(403, &upgrade(&gateway, &evil.clone().header(header, "127.0.0.1")), origin);
        }
        let with_token = Upgrade { path: format!("/?token={TOKEN}"), ..evil }
            .header("Authorization", &format!("Bearer {TOKEN}"))
            .header("Sec-WebSocket-Protocol", TOKEN);
        refused(403, &upgrade(&gateway, &with_token), "with the right token");
    }
    gateway.assert_alive();
}

/// A22: an Origin that looks absent or local is still an Origin. Stricter than
/// frames/origin-localhost-backend.json and origin-loopback-cli.json.
#[test]
fn sec_a22_odd_origins_are_origins() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    let origins = [
        "null".to_owned(),
        String::new(),
        " ".to_owned(),
        "file://".to_owned(),
        "http://localhost.evil.example".to_owned(),
        format!("http://127.0.0.1.evil.example:{port}"),
        format!("http://localhost:{port}@evil.example"),
        "http://[::ffff:7f00:1]".to_owned(),
        "http://LOCALHOST.".to_owned(),
        "chrome-extension://x".to_owned(),
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://[::1]:{port}"),
    ];
    for origin in &origins {
        refused(403, &upgrade(&gateway, &Upgrade::to(port).header("Origin", origin)), origin);
        refused(403, &upgrade(&gateway, &Upgrade::to(port).header("oRIGIN", origin)), origin);
    }
    let two = Upgrade::to(port).header("Origin", "null").header("Origin", "null");
    let answer = upgrade(&gateway, &two);
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    gateway.assert_alive();
}

/// A23: a page whose name was rebound to 127.0.0.1 still says its own name.
#[test]
fn sec_a23_dns_rebinding() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("127.0.0.1@evil.example:{port}"),
        "0.0.0.0".to_owned(),
        "192.168.1.1".to_owned(),
        "2130706433".to_owned(),
        "0x7f000001".to_owned(),
        "[::ffff:8.8.8.8]".to_owned(),
    ] {
        let answer = upgrade(&gateway, &Upgrade::to(port).host(&host));
        assert!(matches!(answer.status, 400 | 403), "{host}: {answer:?}");
        refused(answer.status, &answer, &host);
        let rebound = Upgrade::to(port).host(&host).header("Origin", &format!("http://{host}"));
        let answer = upgrade(&gateway, &rebound);
        assert!(matches!(answer.status, 400 | 403), "{host}: {answer:?}");
        let plain = send_raw(port, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert!((400..500).contains(&plain.status), "{host}: {plain:?}");
    }
    refused(403, &upgrade(&gateway, &Upgrade::to(port).host("evil.example")), "a foreign name");
    for hosts in [vec![], vec!["127.0.0.1", "evil.example"], vec!["evil.example", "127.0.0.1"], vec![""]] {
        let mut request = Upgrade::to(port);
        request.host = None;
        for host in &hosts {
            request = request.header("Host", host);
        }
        let answer = upgrade(&gateway, &request);
        assert!(matches!(answer.status, 400 | 403), "{hosts:?}: {answer:?}");
    }
    // Twins: the literal loopback names, with any port, since a tunnel has another one.
    for host in ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:4711"] {
        let answer = send_head(Stream::tcp(port), &Upgrade::to(port).host(host));
        assert_eq!(answer.status, 101, "{host}: {answer:?}");
    }
    // On the Unix socket the name means nothing.
    assert_eq!(send_head(Stream::unix(&gateway.socket()), &Upgrade::to(0).host("anything")).status, 101);
    gateway.assert_alive();
}

/// Sends an upgrade and reads only its head.
fn send_head(mut stream: Stream, upgrade: &Upgrade) -> HttpAnswer {
    stream.write_all(&upgrade.bytes()).unwrap();
    read_answer(&mut stream)
}

/// A24: a key that nobody knows is not paired for coming from 127.0.0.1.
#[test]
fn sec_a24_no_silent_pairing_of_a_browser() {
    const ALLOWED: &str = "https://dashboard.example";
    let config = json!({"gateway": {
        "mode": "local",
        "auth": {"mode": "token", "token": TOKEN},
        "controlUi": {"allowedOrigins": [ALLOWED]},
    }});
    let gateway = Gateway::start(Options::default().config(config));
    let mut owner = gateway.owner();
    let surface = Surface::linux(&["system.run"]);
    for connect in [
        Connect::node(&Device::new(), &surface),
        Connect::new("openclaw-control-ui", "ui", "operator", &["operator.admin"]).device(&Device::new()),
    ] {
        // (a) with an Origin that is allowed to connect at all
        let from_browser = Upgrade::to(gateway.port).header("Origin", ALLOWED);
        let mut browser = Client::over(Stream::tcp(gateway.port), &from_browser);
        let error = browser.connect(&connect).expect_err("paired in silence");
        assert_eq!(error["details"]["code"], "PAIRING_REQUIRED", "{error}");
        // (b) with forwarded headers
        refused(403, &upgrade(&gateway, &Upgrade::to(gateway.port).header("X-Forwarded-For", "10.0.0.1")), "forwarded");
        // (c) without the shared secret
        let error = Client::tcp(&gateway).connect(&connect.clone().no_auth()).expect_err("paired without the secret");
        assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISSING", "{error}");
    }
    refused(403, &upgrade(&gateway, &Upgrade::to(gateway.port).header("Origin", "https://dashboard.example.evil")), "");
    assert_eq!(owner.request("node.list", json!({})).unwrap()["nodes"], json!([]));
    assert_eq!(owner.request("device.pair.list", json!({})).unwrap()["paired"], json!([]));
    // Twin: the owner's node host with the secret is paired in silence, and no more than that.
    let device = Device::new();
    let _node = Client::login(&gateway, &Connect::node(&device, &surface));
    let row = owner.request("node.describe", json!({"nodeId": device.id()})).unwrap();
    assert_eq!((&row["connected"], &row["commands"]), (&json!(true), &json!([])));
}

/// A25: what a proxy forwards is never local. frames/xff-untrusted-proxy-operator.json; `Via` and
/// `CF-Connecting-IP` are stricter than there.
#[test]
fn sec_a25_a_reverse_proxy_is_not_local() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
    ] {
        for spelled in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
            for value in ["203.0.113.9", "127.0.0.1", "", "for=127.0.0.1"] {
                let answer = upgrade(&gateway, &Upgrade::to(port).header(&spelled, value));
                refused(403, &answer, &format!("{spelled}: {value:?}"));
            }
        }
    }
    // Headers that a correct client may send.
    let plain = Upgrade::to(port)
        .header("User-Agent", "x")
        .header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let answer = send_head(Stream::tcp(port), &plain);
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-extensions"), None, "compression is not accepted");
    gateway.assert_alive();
}

/// A15: no request target and no broken head harms the gateway.
#[test]
fn sec_a15_malformed_requests_are_answered() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let with_host = |line: &str| format!("{line}\r\nHost: 127.0.0.1:{port}\r\n{upgrade}").into_bytes();
    let mut requests: Vec<(String, Vec<u8>)> = [
        "GET // HTTP/1.1",
        "GET http://[::1 HTTP/1.1",
        "GET \0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://evil.example/ HTTP/1.1",
        "GET http://127.0.0.1:1/ HTTP/1.1",
        "GET  HTTP/1.1",
        "GET",
        "GET / HTTP/9.9",
        "GET / HTTP/1.0",
        "POST / HTTP/1.1",
        "CONNECT evil.example:443 HTTP/1.1",
        "\u{16}\u{3}\u{1}\u{2}",
        "G\u{0}T / HTTP/1.1",
    ]
    .map(|line| (line.to_owned(), with_host(line)))
    .into();
    for host in ["[::1", "127.0.0.1:99999", "127.0.0.1:x", "a b", "\u{1}"] {
        requests.push((format!("Host: {host}"), format!("GET / HTTP/1.1\r\nHost: {host}\r\n{upgrade}").into_bytes()));
    }
    let local = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    for (name, headers) in [
        ("no key", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"),
        (
            "old version",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ),
        ("another upgrade", "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        ("a line without a colon", "nonsense\r\n\r\n"),
        ("a folded line", "A: b\r\n c\r\n\r\n"),
        ("a space before the colon", "Content-Length : 3\r\n\r\nabc"),
        ("a body", "Content-Length: 3\r\n\r\nabc"),
    ] {
        requests.push((name.to_owned(), format!("{local}{headers}").into_bytes()));
    }
    let mut served = Vec::new();
    for (name, bytes) in &requests {
        let answer = send_raw(port, bytes);
        if !(400..500).contains(&answer.status) {
            served.push((name, answer.status));
        }
        assert!(!answer.text().contains("connect.challenge") && !answer.text().contains(TOKEN), "{name:?}: {answer:?}");
    }
    assert_eq!(served, [], "neither refused nor explained");
    // Too much head; 400 or 431 for whoever reads the answer.
    let mut long = local.clone().into_bytes();
    long.extend(format!("A: {}\r\n", "x".repeat(20_000)).bytes());
    let answer = send_raw(port, &long);
    assert!((400..500).contains(&answer.status), "{answer:?}");
    gateway.assert_alive();
}

/// There is nothing to see over plain HTTP.
#[test]
fn plain_http_gets_a_sentence_and_no_content() {
    let mut gateway = Gateway::new();
    for path in ["/", "/health", "/openclaw.json", "/../../etc/passwd", "/api", "/favicon.ico"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port);
        let answer = send_raw(gateway.port, request.as_bytes());
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.body.is_empty() && answer.body.len() < 1_024, "{path}: {answer:?}");
        assert!(answer.text().is_ascii(), "{path}: {answer:?}");
        assert!(!answer.text().contains("root:"), "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    gateway.assert_alive();
}

/// A peer that sends nothing, or its head one byte at a time, is cut and holds nobody up.
#[test]
fn a_slow_head_is_cut_by_the_handshake_deadline() {
    let mut gateway = Gateway::new();
    let mut silent = Stream::tcp(gateway.port);
    // Not the client's own stream: that one goes on when it cannot write.
    let mut slow = std::net::TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let begun = std::time::Instant::now();
    wait_until("the slow peer is cut", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        slow.write_all(b"G").err()
    });
    assert!(begun.elapsed() > std::time::Duration::from_secs(13), "cut after {:?}", begun.elapsed());
    assert_ne!(read_answer(&mut silent).status, 101);
    gateway.assert_alive();
}

/// Spec gateway §2: 32 sockets of one address before login; one more is answered 503.
#[test]
fn strangers_cannot_take_all_the_places() {
    let mut gateway = Gateway::new();
    let full = || Upgrade::to(gateway.port);
    let mut crowd = Vec::new();
    while crowd.len() < 40 {
        let mut stream = Stream::tcp(gateway.port);
        stream.write_all(&full().bytes()).unwrap();
        let answer = read_answer(&mut stream);
        if answer.status == 503 {
            break;
        }
        assert_eq!(answer.status, 101);
        crowd.push(stream);
    }
    assert_eq!(crowd.len(), 32);
    // Who is on this machine by the socket still gets in.
    let mut unix = Client::unix(&gateway);
    assert!(unix.connect(&Connect::cli(&["operator.read"])).is_ok());
    drop(crowd);
    wait_until("the places are free again", || {
        (send_head(Stream::tcp(gateway.port), &Upgrade::to(gateway.port)).status == 101).then_some(())
    });
    gateway.assert_alive();
}

/// H26: the gateway proves its key for this very upgrade, and keeps the key.
#[test]
fn the_upgrade_proves_the_gateways_key() {
    fn key_of(answer: &HttpAnswer, challenge: &str) -> String {
        let header = answer.header("openclaw-gateway").expect("no OpenClaw-Gateway header");
        let parts: Vec<&str> = header.split('.').collect();
        assert_eq!((parts.len(), parts[0]), (3, "v1"), "{header}");
        let key = PublicKey::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
        let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap()).unwrap();
        key.verify(format!("openclaw-gateway-v1|{challenge}"), &signature).expect("a bad signature");
        parts[1].to_owned()
    }
    let gateway = Gateway::new();
    let mut keys = Vec::new();
    for challenge in ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA=="] {
        let upgrade = Upgrade { key: challenge.to_owned(), ..Upgrade::to(gateway.port) };
        keys.push(key_of(&send_head(Stream::tcp(gateway.port), &upgrade), challenge));
        keys.push(key_of(&send_head(Stream::unix(&gateway.socket()), &upgrade), challenge));
    }
    assert_eq!(support::mode(&gateway.state.join("identity/gateway.json")), 0o600);
    let state = std::rc::Rc::clone(&gateway.state);
    assert_eq!(gateway.stop().code, Some(0));
    let again = Gateway::start(Options::default().state(&state));
    let upgrade = Upgrade::to(again.port);
    keys.push(key_of(&send_head(Stream::tcp(again.port), &upgrade), &upgrade.key));
    assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
    let other = Gateway::new();
    assert_ne!(key_of(&send_head(Stream::tcp(other.port), &upgrade), &upgrade.key), keys[0]);
}

/// Bytes of the first frame that arrive together with the head are not lost.
#[test]
fn an_eager_client_is_understood() {
    let gateway = Gateway::new();
    let mut stream = Stream::tcp(gateway.port);
    let mut bytes = Upgrade::to(gateway.port).bytes();
    let text = br#"{"type":"req","id":"e","method":"health"}"#;
    bytes.extend([0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(text);
    stream.write_all(&bytes).unwrap();
    let mut answer = read_answer(&mut stream);
    assert_eq!(answer.status, 101);
    wait_until("the answer to the eager frame", || {
        let mut chunk = [0; 1_024];
        stream.read_until(std::time::Instant::now() + QUIET);
        let count = std::io::Read::read(&mut stream, &mut chunk).unwrap_or(0);
        answer.body.extend_from_slice(&chunk[..count]);
        answer.text().contains("first request must be connect").then_some(())
    });
}
