//! Who counts as local and as logged in: nobody by an address, a header of a proxy, or somebody else's session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::net::TcpStream;
use support::{
    Client, Connect, Device, Gateway, Options, Process, Stream, Surface, TOKEN, Upgrade, free_port, send_raw,
};

/// A11: the same client by its v4 address and by that one in v6 clothes has one count.
#[test]
fn sec_a11_one_client_has_one_count() {
    let gateway = Gateway::new();
    let over = |host: &str| {
        let stream = TcpStream::connect(format!("{host}:{}", gateway.port)).unwrap();
        Client::over(Stream::Tcp(stream), &Upgrade::to(gateway.port))
    };
    let hosts = ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:FFFF:7F00:1]"];
    let guess = |host: &str, guess: usize| {
        let connect = Connect::cli(&[]).token(&format!("guess {guess}"));
        over(host).connect(&connect).unwrap_err()["details"]["code"].as_str().unwrap().to_owned()
    };
    for at in 0..10 {
        assert_eq!(guess(hosts[at % hosts.len()], at), "AUTH_TOKEN_MISMATCH", "guess {at}");
    }
    for host in hosts {
        assert_eq!(guess(host, 10), "AUTH_RATE_LIMITED", "{host}");
        let right = over(host).connect(&Connect::cli(&[])).unwrap_err();
        assert_eq!(right["details"]["code"], "AUTH_RATE_LIMITED", "{host}: {right}");
    }
}

/// A13: a session from the same address opens nothing over HTTP.
#[test]
fn sec_a13_an_address_is_no_login() {
    let mut gateway = Gateway::new();
    let port = gateway.port;
    let mut owner = gateway.owner();
    let device = Device::new();
    let _node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.run"])));
    for path in [
        "/",
        "/health",
        "/healthz",
        "/readyz",
        "/status",
        "/api",
        "/api/config",
        "/api/nodes",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/responses",
        "/tools/invoke",
        "/hooks/agent",
        "/hooks/wake",
        "/control",
        "/canvas",
        "/__openclaw__/canvas/",
        "/avatar/main",
        "/plugins",
        "/openclaw.json",
        "/ws",
        "/gateway",
        "/metrics",
        "/debug",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            for credential in ["", "Authorization: Bearer wrong\r\n", "Cookie: session=1\r\n"] {
                let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{credential}\r\n");
                let answer = send_raw(port, head.as_bytes());
                let what = format!("{method} {path} {credential}");
                assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
                let text = format!("{:?}{}", answer.headers, answer.text());
                assert!(text.len() < 1_024 && !text.contains(TOKEN) && !text.contains(&device.id()), "{what}: {text}");
            }
        }
    }
    // Nor does a WebSocket beside one that is logged in: it logs in for itself.
    let mut second = Client::tcp(&gateway);
    assert!(second.request("node.list", json!({})).is_err());
    assert!(owner.request("node.list", json!({})).is_ok(), "the twin");
    gateway.assert_alive();
}

/// A start with this configuration is refused, with the name of the setting; nothing listens.
fn is_refused(config: &Value, key: &str) {
    let finished = Process::run(Options::default().config(config.clone()).command(free_port()));
    assert!(finished.code.is_some_and(|code| code != 0), "{config}: {finished:?}");
    assert!(finished.stderr.contains(key) && !finished.stderr.contains(TOKEN), "{config}: {finished:?}");
}

/// A16, A20, A26, A38: there is no proxy mode to fall back from, to forge, or to be believed.
#[test]
fn sec_a16_a20_a26_a38_no_proxy_says_who_somebody_is() {
    let token = json!({"mode": "token", "token": TOKEN});
    for (auth, key) in [
        (json!({"mode": "trusted-proxy"}), "auth.mode"),
        (json!({"mode": "trusted-proxy", "token": TOKEN, "password": "correct horse battery"}), "auth.mode"),
        (json!({"mode": "trusted-proxy", "trustedProxy": {"userHeader": "x-user"}}), "auth.mode"),
        (json!({"mode": "tailscale"}), "auth.mode"),
        (json!({"mode": "none"}), "auth.mode"),
    ] {
        is_refused(&json!({"gateway": {"auth": auth}}), key);
    }
    for proxies in [json!(["127.0.0.1"]), json!(["0.0.0.0/0"]), json!([]), json!("127.0.0.1")] {
        is_refused(&json!({"gateway": {"auth": token, "trustedProxies": proxies}}), "trustedProxies");
    }

    // What a proxy would say is refused or means nothing.
    let mut gateway = Gateway::new();
    let admin = ["operator.admin", "operator.approvals"];
    for (name, value) in [
        ("X-Forwarded-User", "owner"),
        ("X-Forwarded-For", "127.0.0.1, 203.0.113.9"),
        ("X-Forwarded-For", "203.0.113.9, 127.0.0.1"),
        ("X-Forwarded-For", "garbage"),
        ("X-Forwarded-For", "::1"),
        ("Remote-User", "owner"),
        ("X-Remote-User", "owner"),
        ("X-Auth-Request-Email", "owner@example.org"),
        ("Tailscale-User-Login", "owner@example.org"),
        ("Cf-Access-Authenticated-User-Email", "owner@example.org"),
        ("X-OpenClaw-Scopes", "operator.admin"),
        ("X-OpenClaw-User", "owner"),
        ("Authorization", &format!("Bearer {TOKEN}")),
        ("Cookie", &format!("token={TOKEN}")),
        ("Sec-WebSocket-Protocol", TOKEN),
    ] {
        let what = format!("{name}: {value}");
        let upgrade = Upgrade::to(gateway.port).header(name, value);
        let over = || Client::try_over(Stream::tcp(gateway.port), &upgrade);
        let Ok(mut nobody) = over() else {
            assert!(name.to_ascii_lowercase().starts_with("x-forwarded-"), "{what}");
            continue;
        };
        assert!(!name.starts_with("X-Forwarded-"), "{what}");
        // Nobody without a credential, (a) without and (b) with a device that nobody knows,
        nobody.connect(&Connect::cli(&admin).no_auth()).expect_err(&what);
        let unknown = Connect::new("openclaw-macos", "ui", "operator", &admin).device(&Device::new());
        over().unwrap().connect(&unknown.no_auth()).expect_err(&what);
        // and no scopes for who has none, on the live connection too.
        let mut client = over().unwrap();
        let hello = client.connect(&Connect::new("openclaw-tui", "cli", "operator", &admin)).unwrap();
        assert_eq!(hello["auth"]["scopes"], json!([]), "{what}");
        for (method, scope) in [("exec.approvals.get", "operator.admin"), ("node.list", "operator.read")] {
            let error = client.request(method, json!({})).unwrap_err();
            assert_eq!(
                (&error["code"], &error["details"]["missingScope"]),
                (&json!("FORBIDDEN"), &json!(scope)),
                "{what}"
            );
        }
    }
    assert_eq!(gateway.owner().request("device.pair.list", json!({})).unwrap()["paired"], json!([]));
    gateway.assert_alive();
}

/// A33: an origin that stands for all of them stops the start.
#[test]
fn sec_a33_no_wildcard_among_the_origins() {
    let config = |origins: Value| json!({"gateway": {"auth": {"mode": "token", "token": TOKEN}, "controlUi": {"allowedOrigins": origins}}});
    for origins in
        [json!(["*"]), json!(["https://ok.example", "*"]), json!([" * "]), json!(["https://*.example"]), json!("*")]
    {
        is_refused(&config(origins), "allowedOrigins");
    }
    // What reads like more than one origin is at most itself.
    let named = ["https://ok.example", "https://", "null", "", "https:"];
    let gateway = Gateway::start(Options::default().config(config(json!(named))));
    let comes_in = |origin: &str| {
        Client::try_over(Stream::tcp(gateway.port), &Upgrade::to(gateway.port).header("Origin", origin)).is_ok()
    };
    for origin in ["https://evil.example", "https://ok.example.evil.example", "http://ok.example", "file://"] {
        assert!(!comes_in(origin), "{origin}");
    }
    assert!(comes_in("https://ok.example"), "the twin");
}
