//! The handshake from outside: challenge, `connect`, `hello-ok`, every refusal with its close code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{
    Client, Closed, Connect, DEADLINE, Device, Gateway, Incoming, Options, Payload, QUIET, Stream, Surface, TOKEN,
    Upgrade, children,
};
use tungstenite::protocol::Message;

const ADMIN: &[&str] = &["operator.admin"];

/// The error object of a refused `connect` and the close that must follow it.
fn refusal(client: &mut Client, params: Value) -> (Value, Closed) {
    let error = client.connect_with(params).expect_err("was let in");
    (error, client.closed())
}

/// Changes the member at `path`; `Value::Null` removes it.
fn change(mut params: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    let object = params.pointer_mut(&parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        object.remove(name);
    } else {
        object.insert(name.to_owned(), value);
    }
    params
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Asks each method that `hello` offers, each on a session of its own; returns the error of each
/// (`Null` for a good answer). A session of its own, since eleven wrong calls in a row end one.
fn ask_every_method(gateway: &Gateway, connect: &Connect, methods: &[String]) -> Vec<(String, Value)> {
    methods
        .iter()
        .map(|method| {
            let mut client = Client::login(gateway, connect);
            let error = client.request(method, json!({})).err().unwrap_or(Value::Null);
            (method.clone(), error)
        })
        .collect()
}

fn methods_of(hello: &Value) -> Vec<String> {
    hello["features"]["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// frames/cli-gateway-call-health.json: a directed event without `seq`, a UUID, the clock in milliseconds.
#[test]
fn the_challenge_comes_first_and_is_fresh() {
    let gateway = Gateway::new();
    let mut client = Client::tcp(&gateway);
    let frame = client.challenge.frame.clone();
    assert_eq!(frame["type"], "event");
    assert!(frame.get("seq").is_none(), "{frame}");
    assert!(frame["payload"]["capabilities"].as_array().is_none_or(|list| list.iter().all(Value::is_string)));
    let nonce = &client.challenge.nonce;
    assert_eq!(nonce.len(), 36, "{nonce}");
    let is_uuid = nonce.char_indices().all(|(at, character)| match at {
        8 | 13 | 18 | 23 => character == '-',
        _ => character.is_ascii_hexdigit() && !character.is_ascii_uppercase(),
    });
    assert!(is_uuid, "{nonce}");
    assert!((client.challenge.ts - now_ms()).abs() < 60_000, "{}", client.challenge.ts);
    assert_ne!(client.challenge.nonce, Client::tcp(&gateway).challenge.nonce);
    assert!(client.stays_open(QUIET));
    assert_eq!(client.waiting().count(), 0, "the gateway speaks only when spoken to");
}

/// frames/cli-gateway-call-health.json, reduced to what the published schema requires.
#[test]
fn hello_ok_has_what_clients_need() {
    let gateway = Gateway::new();
    let (_client, hello) = Client::login_hello(&gateway, &Connect::cli(&["operator.read"]));
    assert_eq!(hello["protocol"], 4);
    assert!(hello["server"]["version"].as_str().is_some_and(|text| !text.is_empty()), "{hello}");
    assert!(hello["server"]["connId"].as_str().is_some_and(|text| !text.is_empty()), "{hello}");
    let methods = methods_of(&hello);
    for method in ["health", "node.list", "node.describe", "node.invoke", "node.invoke.result", "node.event"] {
        assert!(methods.iter().any(|name| name == method), "{method} is missing: {methods:?}");
    }
    assert!(hello["features"]["events"].as_array().unwrap().iter().all(Value::is_string));
    assert!(hello["snapshot"]["presence"].is_array(), "{hello}");
    assert!(hello["snapshot"]["health"].is_object(), "{hello}");
    assert!(hello["snapshot"]["stateVersion"]["presence"].is_u64(), "{hello}");
    assert!(hello["snapshot"]["stateVersion"]["health"].is_u64(), "{hello}");
    assert!(hello["snapshot"]["uptimeMs"].is_u64(), "{hello}");
    assert_eq!(hello["auth"]["role"], "operator");
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    assert!(hello["auth"].get("deviceToken").is_none(), "a device-less session gets no token: {hello}");
    assert_eq!(hello["policy"]["maxPayload"], 26_214_400);
    assert_eq!(hello["policy"]["maxBufferedBytes"], 52_428_800);
    assert_eq!(hello["policy"]["tickIntervalMs"], 30_000);
    assert!(!hello.to_string().contains(TOKEN));
    assert!(
        !hello.to_string().contains(gateway.state.path().to_str().unwrap()),
        "paths are for admins only (configPath, stateDir)"
    );
}

/// frames/ok-v2-signature.json, ok-node-protocol-v3.json, ok-probe-protocol-v3.json
#[test]
fn older_signatures_and_protocols_are_accepted_where_the_original_accepts_them() {
    let gateway = Gateway::new();
    let device = Device::new();
    let operator = Connect::new("openclaw-macos", "ui", "operator", &["operator.read"]).device(&device);
    Client::login(&gateway, &operator.clone().payload(Payload::V2));
    Client::login(&gateway, &operator.payload(Payload::V3));

    let node = Connect::node(&Device::new(), &Surface::linux(&["system.which"]));
    let old_node = node.set("minProtocol", json!(3)).set("maxProtocol", json!(3));
    Client::login(&gateway, &old_node);
    let probe = Connect::new("cli", "probe", "operator", &["operator.read"]);
    let (_, hello) = Client::login_hello(&gateway, &probe.set("minProtocol", json!(3)).set("maxProtocol", json!(3)));
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let wide = Connect::cli(&[]).set("minProtocol", json!(1)).set("maxProtocol", json!(99));
    Client::login(&gateway, &wide);
}

/// One row of the table of refusals.
struct Row {
    name: &'static str,
    connect: Connect,
    /// Members changed after signing.
    changes: Vec<(&'static str, Value)>,
    code: &'static str,
    message: &'static str,
    detail: Option<&'static str>,
    close: u16,
}

fn row(name: &'static str, connect: Connect, changes: Vec<(&'static str, Value)>) -> Row {
    Row { name, connect, changes, code: "INVALID_REQUEST", message: "", detail: None, close: 1008 }
}

impl Row {
    fn says(mut self, message: &'static str) -> Self {
        self.message = message;
        self
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    fn detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    fn close(mut self, close: u16) -> Self {
        self.close = close;
        self
    }
}

/// Source: spec gateway §2 "Close codes", §3 "Refusals"; the frame file of each row is its name with
/// `neg-` in front where one was captured.
fn refusals(device: &Device) -> Vec<Row> {
    let backend = || Connect::backend(ADMIN);
    let signed = || Connect::cli(ADMIN).device(device);
    vec![
        row("protocol-mismatch-new", backend(), vec![("minProtocol", json!(5)), ("maxProtocol", json!(6))])
            .says("protocol mismatch")
            .detail("PROTOCOL_MISMATCH")
            .close(1002),
        row("protocol-mismatch-old", backend(), vec![("minProtocol", json!(3)), ("maxProtocol", json!(3))])
            .says("protocol mismatch")
            .detail("PROTOCOL_MISMATCH")
            .close(1002),
        row("unknown-client-id", backend(), vec![("client/id", json!("my-own-client"))])
            .says("invalid connect params: at /client/id: must be equal to one of the allowed values"),
        row("unknown-client-mode", backend(), vec![("client/mode", json!("backstage"))])
            .says("invalid connect params: at /client/mode: must be equal to one of the allowed values"),
        row("missing-client-version", backend(), vec![("client/version", Value::Null)])
            .says("invalid connect params: at /client: must have required property 'version'"),
        row("unknown-connect-field", backend(), vec![("bogusField", json!(1))])
            .says("invalid connect params: at root: unexpected property 'bogusField'"),
        row("invalid-role", backend(), vec![("role", json!("boss"))]).says("invalid role"),
        row("scopes that are no list", backend(), vec![("scopes", json!("operator.admin"))])
            .says("invalid connect params: "),
        row("a protocol that is no number", backend(), vec![("minProtocol", json!("4"))])
            .says("invalid connect params: "),
        row("no-auth", Connect::cli(ADMIN).no_auth(), vec![])
            .code("NOT_PAIRED")
            .says("device identity required")
            .detail("DEVICE_IDENTITY_REQUIRED"),
        row("node-missing-device", Connect::new("node-host", "node", "node", &[]), vec![])
            .code("NOT_PAIRED")
            .says("device identity required")
            .detail("DEVICE_IDENTITY_REQUIRED"),
        row("wrong-token", Connect::cli(ADMIN).token("wrong"), vec![]).detail("AUTH_TOKEN_MISMATCH"),
        row("wrong-token-with-device", signed().token("wrong"), vec![]).detail("AUTH_TOKEN_MISMATCH"),
        row("no-auth-with-device", signed().no_auth(), vec![]).detail("AUTH_TOKEN_MISSING"),
        row("a made-up device token", signed().device_token("wrong"), vec![]).detail("AUTH_DEVICE_TOKEN_MISMATCH"),
        row("bad-signature", signed(), vec![("device/signature", json!(device.sign("something else")))])
            .says("device signature invalid")
            .detail("DEVICE_AUTH_SIGNATURE_INVALID"),
        row("a signature that is no base64url", signed(), vec![("device/signature", json!("+/=="))])
            .says("device signature invalid")
            .detail("DEVICE_AUTH_SIGNATURE_INVALID"),
        row("device-id-mismatch", signed(), vec![("device/id", json!(Device::new().id()))])
            .says("device identity mismatch")
            .detail("DEVICE_AUTH_DEVICE_ID_MISMATCH"),
        row("public-key-garbage", signed(), vec![("device/publicKey", json!("AAAA"))])
            .says("device identity mismatch")
            .detail("DEVICE_AUTH_DEVICE_ID_MISMATCH"),
        row("nonce-missing", signed(), vec![("device/nonce", json!(""))])
            .says("device nonce required")
            .detail("DEVICE_AUTH_NONCE_REQUIRED"),
        row("nonce-mismatch", signed(), vec![("device/nonce", json!("00000000-0000-4000-8000-000000000000"))])
            .says("device nonce mismatch")
            .detail("DEVICE_AUTH_NONCE_MISMATCH"),
        row("signature-stale", signed().skew(-121_000), vec![])
            .says("device signature expired")
            .detail("DEVICE_AUTH_SIGNATURE_EXPIRED"),
        row("a signature from the future", signed().skew(180_000), vec![])
            .says("device signature expired")
            .detail("DEVICE_AUTH_SIGNATURE_EXPIRED"),
    ]
}

#[test]
fn every_refusal_has_its_code_and_its_close() {
    let mut gateway = Gateway::new();
    let device = Device::new();
    for row in refusals(&device) {
        let mut client = Client::tcp(&gateway);
        let mut params = row.connect.params(&client.challenge);
        for (path, value) in row.changes {
            params = change(params, path, value);
        }
        let (error, closed) = refusal(&mut client, params);
        let name = row.name;
        assert_eq!(error["code"], row.code, "{name}: {error}");
        assert!(error["message"].as_str().unwrap().starts_with(row.message), "{name}: {error}");
        if let Some(detail) = row.detail {
            assert_eq!(error["details"]["code"], detail, "{name}: {error}");
        }
        assert_eq!(closed.code, row.close, "{name}: {closed:?}");
        // The reason mirrors the message, cut to what a close frame holds.
        assert!(error["message"].as_str().unwrap().starts_with(&closed.reason), "{name}: {error} {closed:?}");
        assert!(!closed.reason.is_empty() && closed.reason.len() <= 123, "{name}: {closed:?}");
        assert!(!error.to_string().contains(TOKEN), "{name}");
    }
    gateway.assert_alive();
    assert_eq!(gateway.owner().request("node.list", json!({})).unwrap()["nodes"], json!([]));
}

/// frames/neg-protocol-mismatch-new.json, neg-wrong-token.json, neg-wrong-token-with-device.json
#[test]
fn refusals_carry_what_a_client_acts_on() {
    let gateway = Gateway::new();
    let mut client = Client::tcp(&gateway);
    let connect = Connect::backend(ADMIN).set("minProtocol", json!(5)).set("maxProtocol", json!(6));
    let params = connect.params(&client.challenge);
    let (error, _) = refusal(&mut client, params);
    assert_eq!(error["details"]["clientMinProtocol"], 5);
    assert_eq!(error["details"]["clientMaxProtocol"], 6);
    assert_eq!(error["details"]["expectedProtocol"], 4);
    assert_eq!(error["details"]["minimumProbeProtocol"], 3);

    for (connect, retry, step) in [
        (Connect::cli(ADMIN), false, "update_auth_credentials"),
        (Connect::cli(ADMIN).device(&Device::new()), true, "retry_with_device_token"),
    ] {
        let mut client = Client::tcp(&gateway);
        let error = client.connect(&connect.token("wrong")).unwrap_err();
        assert_eq!(error["details"]["authReason"], "token_mismatch", "{error}");
        assert_eq!(error["details"]["canRetryWithDeviceToken"], retry, "{error}");
        assert_eq!(error["details"]["recommendedNextStep"], step, "{error}");
    }
}

/// frames/neg-first-frame-*.json, neg-worker-role.json
#[test]
fn the_first_frame_must_be_connect() {
    let mut gateway = Gateway::new();
    let first = |text: &str| {
        let mut client = Client::tcp(&gateway);
        client.send_text(text);
        let closed = client.closed();
        (client.waiting().cloned().collect::<Vec<_>>(), closed)
    };
    let (frames, closed) = first("this is not json");
    assert_eq!((frames.len(), closed.code, closed.reason.as_str()), (0, 1000, ""));
    for text in ["[1,2]", r#"{"type":"event","event":"x"}"#, "null", "7"] {
        let (frames, closed) = first(text);
        assert_eq!(closed.code, 1008, "{text}: {closed:?}");
        assert!(frames.iter().all(|frame| frame["ok"] == false), "{text}: {frames:?}");
    }
    let (frames, closed) = first(r#"{"type":"req","id":"a1","method":"health","params":{}}"#);
    assert_eq!(frames[0]["id"], "a1");
    assert_eq!(frames[0]["error"]["message"], "invalid handshake: first request must be connect");
    assert_eq!(closed, Closed { code: 1008, reason: "invalid handshake: first request must be connect".to_owned() });

    let mut client = Client::tcp(&gateway);
    let worker = Connect::new("openclaw-worker", "worker", "worker", &[]).params(&client.challenge);
    client.start("connect", worker);
    assert_eq!(client.closed(), Closed { code: 1008, reason: "invalid-handshake".to_owned() });
    assert_eq!(client.waiting().count(), 0, "no response to a worker identity");

    let mut client = Client::tcp(&gateway);
    client.send_message(Message::binary(vec![0_u8; 8]));
    assert_ne!(client.closed().code, 1005);
    gateway.assert_alive();
}

/// frames/neg-preauth-oversize.json: 65 536 bytes pass, one more closes with 1009 and no answer.
#[test]
fn a_frame_before_login_is_at_most_64_kib() {
    let gateway = Gateway::new();
    let padded = |client: &Client, bytes: usize| {
        let params = change(Connect::cli(&[]).params(&client.challenge), "userAgent", json!(""));
        let frame = json!({"type": "req", "id": "a1", "method": "connect", "params": params}).to_string();
        let padding = "x".repeat(bytes - frame.len());
        frame.replace(r#""userAgent":"""#, &format!(r#""userAgent":"{padding}""#))
    };
    let mut client = Client::tcp(&gateway);
    let text = padded(&client, 65_536);
    assert_eq!(text.len(), 65_536);
    client.send_text(&text);
    assert!(client.response("a1").is_ok());

    let mut client = Client::tcp(&gateway);
    let text = padded(&client, 65_537);
    client.send_text(&text);
    assert_eq!(client.closed(), Closed { code: 1009, reason: String::new() });
    assert_eq!(client.waiting().count(), 0);

    // A header that only announces a huge frame, and a message that grows by fragments.
    let mut client = Client::tcp(&gateway);
    client.send_bytes(&[0x81, 0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 1, 2, 3, 4]);
    assert_eq!(client.closed().code, 1009);
    let mut client = Client::tcp(&gateway);
    for at in 0..3 {
        let mut frame = vec![if at == 0 { 0x01 } else { 0x00 }, 0xfe, 0x7d, 0x00, 0, 0, 0, 0];
        frame.resize(frame.len() + 0x7d00, b'x');
        client.send_bytes(&frame);
    }
    assert_eq!(client.closed().code, 1009);
}

/// frames/rpc-oversize-after-hello.json
#[test]
fn a_frame_after_login_is_at_most_what_the_policy_says() {
    let mut gateway = Gateway::new();
    let mut client = gateway.owner();
    client.send_bytes(&[0x81, 0xff, 0, 0, 0, 0, 0x01, 0x90, 0x00, 0x01, 1, 2, 3, 4]);
    assert_eq!(client.closed(), Closed { code: 1009, reason: String::new() });
    let mut client = gateway.owner();
    // Larger than before login, smaller than the policy: read and refused by its method.
    let error = client.request("node.list", json!({"pad": "x".repeat(200_000)})).unwrap_err();
    assert!(error["message"].as_str().unwrap().starts_with("invalid node.list params: "), "{error}");
    gateway.assert_alive();
}

/// A client that writes on to the end of a frame that is too large, before it reads: what it writes is taken, so that
/// the close frame is there and not lost to a reset.
#[test]
fn who_sends_too_much_still_learns_why() {
    let mut gateway = Gateway::new();
    // Far more than the kernel keeps for a connection, all of it zeros.
    let rest = vec![0; 16 * 1024 * 1024];
    for logs_in in [true, false] {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let mut client = Client::over(Stream::Tcp(stream), &Upgrade::to(gateway.port));
        if logs_in {
            client.connect(&Connect::cli(&["operator.read"])).unwrap();
        }
        client.send_bytes(&[0x81, 0xff, 0, 0, 0, 0, 0x01, 0x90, 0x00, 0x01, 1, 2, 3, 4]);
        writer.write_all(&rest).unwrap();
        assert_eq!(client.closed(), Closed { code: 1009, reason: String::new() });
    }
    gateway.assert_alive();
}

/// frames/neg-handshake-timeout.json: 15 s from the accept, however slowly the bytes come.
#[test]
fn the_handshake_has_one_absolute_deadline() {
    let mut gateway = Gateway::new();
    let begun = Instant::now();
    let mut silent = Client::tcp(&gateway);
    let mut slow = Client::tcp(&gateway);
    let mut fed = 0;
    while silent.stays_open(Duration::from_millis(700)) {
        // The start of a frame of 100 bytes, one byte at a time.
        slow.send_bytes(if fed == 0 { &[0x81, 0xe4, 0, 0, 0, 0] } else { b"{" });
        fed += 1;
        assert!(begun.elapsed() < DEADLINE, "the deadline is not kept");
    }
    assert!(begun.elapsed() > Duration::from_secs(14), "cut after {:?}", begun.elapsed());
    assert_eq!(silent.closed(), Closed { code: 1000, reason: String::new() });
    slow.closed();
    assert!(begun.elapsed() < Duration::from_secs(18), "a slow peer got {:?}", begun.elapsed());
    gateway.assert_alive();
}

/// frames/neg-preauth-16-queued.json: whatever is queued behind a bad `connect`, nothing is served.
#[test]
fn frames_behind_a_refused_connect_are_never_served() {
    let gateway = Gateway::new();
    let mut client = Client::tcp(&gateway);
    let params = Connect::backend(ADMIN).token("wrong").params(&client.challenge);
    for at in 0..20 {
        client.send(&json!({"type": "req", "id": format!("q{at}"), "method": "connect", "params": params}));
    }
    assert_eq!(client.closed().code, 1008);
    assert!(client.waiting().all(|frame| frame["ok"] == false), "{:?}", client.waiting().collect::<Vec<_>>());
}

/// A01. Twin: the same methods answer an owner (asked in `sec_a37_…` and the other files).
#[test]
fn sec_a01_no_method_before_login() {
    let gateway = Gateway::new();
    let (_, hello) = Client::login_hello(&gateway, &Connect::backend(ADMIN));
    let mut methods = methods_of(&hello);
    methods.extend(["config.get", "config.set", "config.patch", "config.apply"].map(str::to_owned));
    methods.sort();
    methods.dedup();
    let config = gateway.state.join("openclaw.json");
    let before = (std::fs::read(&config).unwrap(), std::fs::metadata(&config).unwrap().modified().unwrap());

    for batch in methods.chunks(8) {
        // (a) instead of connect, (b) right behind a connect with a wrong token.
        let mut sessions: Vec<(&String, Client, Client)> =
            batch.iter().map(|method| (method, Client::tcp(&gateway), Client::tcp(&gateway))).collect();
        for (method, first, behind) in &mut sessions {
            first.start(method, json!({}));
            let params = Connect::backend(ADMIN).token("wrong").params(&behind.challenge);
            behind.start("connect", params);
            behind.start(method, json!({}));
        }
        for (method, mut first, mut behind) in sessions {
            let error = first.response("1:t").expect_err(method);
            assert_eq!(error["message"], "invalid handshake: first request must be connect", "{method}");
            assert_eq!(first.closed().code, 1008, "{method}");
            let error = behind.response("1:t").expect_err(method);
            assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISMATCH", "{method}");
            assert_eq!(behind.closed().code, 1008, "{method}");
            assert!(behind.waiting().all(|frame| frame["ok"] != true), "{method}");
        }
    }
    let after = (std::fs::read(&config).unwrap(), std::fs::metadata(&config).unwrap().modified().unwrap());
    assert_eq!(before, after, "the configuration was touched");
    assert_eq!(children(gateway.process.pid()), Vec::<u32>::new());
}

/// A02: without a secret the gateway makes one, or does not start; nobody gets in without.
#[test]
fn sec_a02_never_without_auth() {
    for config in [json!({}), json!({"gateway": {"auth": {}}}), json!({"gateway": {"mode": "local"}})] {
        let gateway = Gateway::start(Options::default().config(config.clone()));
        for connect in [Connect::cli(ADMIN).no_auth(), Connect::cli(ADMIN).auth(json!({}))] {
            let error = Client::tcp(&gateway).connect(&connect).expect_err("let in");
            assert_eq!(error["details"]["code"], "DEVICE_IDENTITY_REQUIRED", "{config}");
        }
        let device = Connect::cli(ADMIN).device(&Device::new()).no_auth();
        assert!(Client::tcp(&gateway).connect(&device).is_err(), "{config}");
        let stored = std::fs::read_to_string(gateway.state.join("gateway-token")).unwrap();
        assert!(stored.trim().len() >= 32, "a created token is long: {} characters", stored.trim().len());
        assert_eq!(support::mode(&gateway.state.join("gateway-token")), 0o600);
        Client::login(&gateway, &Connect::cli(ADMIN).token(stored.trim()));
    }
    let none = Options::default().config(json!({"gateway": {"auth": {"mode": "none"}}})).run_to_end();
    assert_ne!(none.code, Some(0), "{none:?}");
    assert!(none.stderr.contains("auth.mode"), "{none:?}");
}

/// The first start of all writes a configuration that other tools can use. DESIGN "State"
#[test]
fn the_first_start_writes_a_configuration_with_a_token() {
    let options = Options::default().no_config();
    let gateway = Gateway::start(options);
    let path = gateway.state.join("openclaw.json");
    assert_eq!(support::mode(&path), 0o600);
    let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(config["gateway"]["mode"], "local");
    assert_eq!(config["gateway"]["auth"]["mode"], "token");
    assert_eq!(config["gateway"]["port"], gateway.port);
    let token = config["gateway"]["auth"]["token"].as_str().unwrap();
    assert!(token.len() >= 32);
    Client::login(&gateway, &Connect::cli(ADMIN).token(token));
}

/// A03: no spelling of "nothing" is a secret.
#[test]
fn sec_a03_no_placeholder_is_a_secret() {
    let refused = |gateway: &Gateway| {
        for token in ["undefined", "null", "None", "", " ", "NaN", "[object Object]"] {
            for auth in [json!({"token": token}), json!({"password": token})] {
                assert!(Client::tcp(gateway).connect(&Connect::cli(ADMIN).auth(auth.clone())).is_err(), "{auth}");
            }
        }
    };
    let unset = json!({"gateway": {"auth": {"mode": "token"}}});
    refused(&Gateway::start(Options::default().config(unset)));
    for token in [json!(""), json!("  "), json!("\t"), json!(null), json!("short"), json!(["x"])] {
        let config = json!({"gateway": {"auth": {"mode": "token", "token": token}}});
        let finished = Options::default().config(config).run_to_end();
        assert_ne!(finished.code, Some(0), "{token}: {finished:?}");
        assert!(finished.stderr.contains("gateway.auth.token"), "{token}: {finished:?}");
    }
    for (mode, name) in [("token", "OPENCLAW_GATEWAY_TOKEN"), ("password", "OPENCLAW_GATEWAY_PASSWORD")] {
        for blank in ["", "   "] {
            let config = json!({"gateway": {"auth": {"mode": mode}}});
            let finished = Options::default().config(config).env(name, blank).run_to_end();
            assert_ne!(finished.code, Some(0), "{name}={blank:?}: {finished:?}");
            assert!(finished.stderr.contains(name), "{name}={blank:?}: {finished:?}");
        }
    }
    // Twin: a real one from the environment works.
    let config = json!({"gateway": {"auth": {"mode": "token"}}});
    let gateway = Gateway::start(Options::default().config(config).env("OPENCLAW_GATEWAY_TOKEN", TOKEN));
    Client::login(&gateway, &Connect::cli(ADMIN));
    refused(&gateway);
}

/// A04: the secret is checked first, and without a device it buys no scopes.
#[test]
fn sec_a04_the_secret_is_checked_before_the_device_is_waived() {
    let gateway = Gateway::new();
    for connect in [Connect::cli(ADMIN), Connect::new("test", "test", "operator", ADMIN)] {
        let error = Client::tcp(&gateway).connect(&connect.token("wrong")).unwrap_err();
        assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISMATCH", "{error}");
    }
    let claims = ["operator.admin", "operator.approvals", "operator.write"];
    let (mut client, hello) = Client::login_hello(&gateway, &Connect::new("test", "test", "operator", &claims));
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let error = client.request("node.list", json!({})).unwrap_err();
    assert_eq!(error["details"]["code"], "MISSING_SCOPE");
}

/// A05: a node is a device, or it is nothing.
#[test]
fn sec_a05_no_node_without_a_device() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let device = Device::new();
    let good = Connect::node(&device, &Surface::linux(&["system.run"]));
    for (path, value) in [
        ("device", Value::Null),
        ("device", json!({})),
        ("device/id", json!("")),
        ("device/id", Value::Null),
        ("device/publicKey", json!("")),
        ("device/signature", json!("")),
        ("device/nonce", json!("")),
    ] {
        let mut client = Client::tcp(&gateway);
        let params = change(good.params(&client.challenge), path, value.clone());
        let (_, closed) = refusal(&mut client, params);
        assert_eq!(closed.code, 1008, "{path} = {value}");
    }
    let mut client = Client::tcp(&gateway);
    let mut params = good.params(&client.challenge);
    params["device"] = Value::Null;
    refusal(&mut client, params);
    assert_eq!(owner.request("node.list", json!({})).unwrap()["nodes"], json!([]));
    let _node = Client::login(&gateway, &good);
    assert_eq!(owner.request("node.list", json!({})).unwrap()["nodes"][0]["nodeId"], json!(device.id()));
}

/// A06: what a client calls itself never changes what it gets.
#[test]
fn sec_a06_the_client_id_is_no_credential() {
    const NAMES: &[(&str, &str)] = &[
        ("node-host", "node"),
        ("openclaw-control-ui", "ui"),
        ("webchat", "webchat"),
        ("webchat-ui", "webchat"),
        ("gateway-client", "backend"),
        ("openclaw-macos", "node"),
        ("openclaw-macos", "ui"),
        ("cli", "cli"),
        ("cli", "backend"),
        ("openclaw-probe", "probe"),
    ];
    let gateway = Gateway::start(Options::default().manual_pairing());
    let surface = Surface::linux(&["system.run"]);
    for (id, mode) in NAMES {
        for role in ["node", "operator"] {
            let named = |connect: Connect| {
                connect.set("client/id", json!(id)).set("client/mode", json!(mode)).set("role", json!(role))
            };
            let mut client = Client::tcp(&gateway);
            let params = named(Connect::node(&Device::new(), &surface)).params(&client.challenge);
            let (error, _) = refusal(&mut client, params);
            assert_eq!(error["code"], "NOT_PAIRED", "{id}/{mode} as {role}: {error}");
            assert_eq!(error["details"]["code"], "PAIRING_REQUIRED", "{id}/{mode} as {role}: {error}");
            let mut client = Client::tcp(&gateway);
            let params = named(Connect::node(&Device::new(), &surface).no_auth()).params(&client.challenge);
            let (error, _) = refusal(&mut client, params);
            assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISSING", "{id}/{mode} as {role}: {error}");
        }
    }
    assert_eq!(gateway.owner().request("node.list", json!({})).unwrap()["nodes"], json!([]));

    // Twin: with silent pairing the device gets in, its surface stays pending whatever its name.
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    for (id, mode) in [("node-host", "node"), ("openclaw-macos", "node"), ("gateway-client", "backend")] {
        let device = Device::new();
        let connect = Connect::node(&device, &surface).set("client/id", json!(id)).set("client/mode", json!(mode));
        let _node = Client::login(&gateway, &connect);
        let row = owner.request("node.describe", json!({"nodeId": device.id()})).unwrap();
        assert_eq!(row["approvalState"], "pending-approval", "{id}: {row}");
        assert_eq!(row["commands"], json!([]), "{id}: {row}");
    }
}

/// A07: a recorded login is worth nothing on another connection.
#[test]
fn sec_a07_a_signature_belongs_to_one_challenge() {
    let gateway = Gateway::new();
    let connect = Connect::cli(ADMIN).device(&Device::new());
    for payload in [Payload::V2, Payload::V3] {
        let connect = connect.clone().payload(payload);
        let mut client = Client::tcp(&gateway);
        let recorded = connect.params(&client.challenge);
        client.connect_with(recorded.clone()).unwrap();

        let mut other = Client::tcp(&gateway);
        let (error, _) = refusal(&mut other, recorded.clone());
        assert_eq!(error["details"]["code"], "DEVICE_AUTH_NONCE_MISMATCH", "{error}");
        // With the new nonce written in, the signature no longer fits.
        let mut other = Client::tcp(&gateway);
        let patched = change(recorded, "device/nonce", json!(other.challenge.nonce));
        let (error, _) = refusal(&mut other, patched);
        assert_eq!(error["details"]["code"], "DEVICE_AUTH_SIGNATURE_INVALID", "{error}");

        // Correctly signed, but for a blank nonce or that of a socket that is open beside it.
        for (nonce, code) in [
            (String::new(), "DEVICE_AUTH_NONCE_REQUIRED"),
            ("  ".to_owned(), "DEVICE_AUTH_NONCE_REQUIRED"),
            (Client::tcp(&gateway).challenge.nonce.clone(), "DEVICE_AUTH_NONCE_MISMATCH"),
        ] {
            let mut client = Client::tcp(&gateway);
            client.challenge.nonce = nonce.clone();
            let params = connect.params(&client.challenge);
            let (error, _) = refusal(&mut client, params);
            assert_eq!(error["details"]["code"], code, "{nonce:?}: {error}");
        }
    }
}

/// A08: every signed field is bound; one changed at a time.
#[test]
fn sec_a08_signed_fields_cannot_be_swapped() {
    let gateway = Gateway::new();
    let other = Device::new();
    let connect = Connect::new("openclaw-macos", "ui", "operator", &["operator.read", "operator.write"])
        .device(&Device::new())
        .set("client/displayName", json!("mine"));
    Client::login(&gateway, &connect);
    let swaps: Vec<(&str, Value)> = vec![
        ("role", json!("node")),
        ("role", Value::Null),
        ("scopes", json!(["operator.admin"])),
        ("scopes", json!(["operator.write", "operator.read"])),
        ("scopes", json!(["operator.read"])),
        ("scopes", json!(["operator.read,operator.write"])),
        ("scopes", Value::Null),
        ("client/id", json!("cli")),
        ("client/mode", json!("cli")),
        ("client/platform", json!("macos")),
        ("client/deviceFamily", json!("Mac")),
        ("client/deviceFamily", Value::Null),
        ("device/id", json!(other.id())),
        ("device/publicKey", json!(other.public_key())),
        ("auth", json!({"token": "another"})),
        ("auth", json!({"token": TOKEN, "deviceToken": "another"})),
    ];
    for (path, value) in swaps {
        let mut client = Client::tcp(&gateway);
        let params = change(connect.params(&client.challenge), path, value.clone());
        if change(params.clone(), path, Value::Null) == change(connect.params(&client.challenge), path, Value::Null) {
            // `role` absent means `operator`, and a device token beside a token is not signed: the
            // same text is signed, so these two are no swap.
            if params["role"].is_null() || params["auth"]["deviceToken"].is_string() {
                continue;
            }
        }
        let (error, closed) = refusal(&mut client, params);
        let code = error["details"]["code"].as_str().unwrap_or_default();
        assert!(code.starts_with("DEVICE_AUTH_") || code == "AUTH_TOKEN_MISMATCH", "{path} = {value}: {error}");
        assert_eq!(closed.code, 1008, "{path} = {value}");
    }
    // Signed over another token than the one that is sent.
    let mut client = Client::tcp(&gateway);
    let params = connect.clone().token("another").params(&client.challenge);
    let (error, _) = refusal(&mut client, change(params, "auth/token", json!(TOKEN)));
    assert_eq!(error["details"]["code"], "DEVICE_AUTH_SIGNATURE_INVALID");
    // signedAt an hour off, as sent and as signed.
    for hour in [-3_600_000, 3_600_000] {
        let mut client = Client::tcp(&gateway);
        let wrong = json!(client.challenge.ts + hour);
        let params = change(connect.params(&client.challenge), "device/signedAt", wrong);
        let (error, _) = refusal(&mut client, params);
        assert!(error["details"]["code"].as_str().unwrap().starts_with("DEVICE_AUTH_SIGNATURE_"), "{error}");
        let error = Client::tcp(&gateway).connect(&connect.clone().skew(hour)).unwrap_err();
        assert_eq!(error["details"]["code"], "DEVICE_AUTH_SIGNATURE_EXPIRED");
    }
    Client::login(&gateway, &connect);
}

/// A37: the shared secret alone gives scopes to the owner's command line and backend client on this
/// machine, to nobody else.
#[test]
fn sec_a37_a_shared_secret_does_not_declare_scopes() {
    let gateway = Gateway::new();
    let claims = ["operator.admin", "operator.approvals"];
    let (_, hello) = Client::login_hello(&gateway, &Connect::new("openclaw-macos", "ui", "operator", &claims));
    assert_eq!(hello["auth"]["scopes"], json!([]), "{hello}");
    let nobody = [
        ("openclaw-macos", "ui"),
        ("openclaw-tui", "cli"),
        ("cli", "probe"),
        ("cli", "backend"),
        ("gateway-client", "cli"),
        ("test", "test"),
        ("openclaw-probe", "probe"),
        ("node-host", "backend"),
    ];
    for (id, mode) in nobody {
        let connect = Connect::new(id, mode, "operator", &claims);
        let (mut client, hello) = Client::login_hello(&gateway, &connect);
        assert_eq!(hello["auth"]["scopes"], json!([]), "{id}/{mode}");
        assert!(client.request("health", json!({})).is_ok(), "{id}/{mode}: health needs no scope");
        for method in ["config.set", "exec.approval.resolve"] {
            let error = client.request(method, json!({"id": "x", "decision": "deny"})).unwrap_err();
            assert!(error["code"] == "FORBIDDEN" || error["message"] == format!("unknown method: {method}"), "{error}");
        }
    }
    let connect = Connect::new("test", "test", "operator", &claims);
    for (method, error) in ask_every_method(&gateway, &connect, &methods_of(&hello)) {
        match method.as_str() {
            "health" => assert!(error.is_null(), "{error}"),
            _ => assert!(
                error["details"]["code"] == "MISSING_SCOPE" || error["message"] == "unauthorized role: operator",
                "{method}: {error}"
            ),
        }
    }
    // Twin: the owner's tools, over TCP and over the socket.
    for connect in [Connect::cli(&claims), Connect::backend(&claims)] {
        assert_eq!(Client::login_hello(&gateway, &connect).1["auth"]["scopes"], json!(claims));
        let mut unix = Client::unix(&gateway);
        assert_eq!(unix.connect(&connect).unwrap()["auth"]["scopes"], json!(claims));
        assert!(unix.request("node.list", json!({})).is_ok());
    }
    // The socket's file mode is no credential.
    assert!(Client::unix(&gateway).connect(&Connect::cli(&claims).no_auth()).is_err());
    assert!(Client::unix(&gateway).connect(&Connect::cli(&claims).token("wrong")).is_err());
}

/// H18: the states of a connection have no way back. Stricter than frames/rpc-operator-calls-node-methods.json,
/// where the connection survives a second `connect`.
#[test]
fn sec_h18_a_second_connect_ends_the_session() {
    let mut gateway = Gateway::new();
    for second in [Connect::backend(ADMIN), Connect::node(&Device::new(), &Surface::linux(&["system.run"]))] {
        let mut client = Client::login(&gateway, &Connect::cli(&["operator.read"]));
        let error = client.connect(&second).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert_eq!(error["message"], "connect is only valid as the first request");
        assert_eq!(client.closed().code, 1008);
    }
    assert_eq!(gateway.owner().request("node.list", json!({})).unwrap()["nodes"], json!([]));
    gateway.assert_alive();
}

/// H18: nothing behind a close frame is served.
#[test]
fn sec_h18_frames_after_close_are_not_served() {
    let gateway = Gateway::new();
    let mut client = gateway.owner();
    // A masked close frame with code 1000, then a masked text frame; the mask is zero.
    let mut bytes = vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    let request = br#"{"type":"req","id":"late","method":"health"}"#;
    bytes.extend([0x81, 0x80 | u8::try_from(request.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(request);
    client.send_bytes(&bytes);
    client.closed();
    assert!(client.waiting().all(|frame| frame["id"] != "late"));
}

/// RFC 6455: what no client may send ends the connection, before and after login.
#[test]
fn broken_websocket_frames_end_the_connection() {
    let mut gateway = Gateway::new();
    let mut long_ping = vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0];
    long_ping.resize(long_ping.len() + 126, 0);
    let broken: &[(&str, &[u8])] = &[
        ("unmasked", &[0x81, 0x02, b'{', b'}']),
        ("reserved bit", &[0xc1, 0x82, 0, 0, 0, 0, b'{', b'}']),
        ("reserved opcode", &[0x83, 0x82, 0, 0, 0, 0, b'{', b'}']),
        ("continuation of nothing", &[0x80, 0x82, 0, 0, 0, 0, b'{', b'}']),
        ("long ping", &long_ping),
        ("not UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]),
    ];
    for (name, bytes) in broken {
        for (when, mut client) in [("before", Client::tcp(&gateway)), ("after", gateway.owner())] {
            client.send_bytes(bytes);
            assert!(!client.stays_open(Duration::from_secs(5)), "{name} {when} login");
            assert!(client.waiting().all(|frame| frame["type"] != "res"), "{name} {when} login");
        }
    }
    gateway.assert_alive();
}

/// frames/rpc-invalid-frames-after-hello.json: a wrong frame is answered, the session goes on.
#[test]
fn malformed_requests_after_login_are_answered_and_survived() {
    let gateway = Gateway::new();
    let mut client = gateway.owner();
    for (text, id, message) in [
        (r#"{"type":"nope","id":"z1"}"#, "z1", "invalid request frame: must have required property 'method'"),
        (r#"{"type":"req","method":"health"}"#, "invalid", "invalid request frame: must have required property 'id'"),
        (
            r#"{"type":"req","id":"z3","method":"health","extra":1}"#,
            "z3",
            "invalid request frame: at root: unexpected property 'extra'",
        ),
        (
            r#"{"type":"req","id":"z5","method":"node.describe","params":{}}"#,
            "z5",
            "invalid node.describe params: must have required property 'nodeId'",
        ),
        (
            r#"{"type":"req","id":"z6","method":"node.list","params":{"bogus":1}}"#,
            "z6",
            "invalid node.list params: at root: unexpected property 'bogus'",
        ),
        (r#"{"type":"req","id":"z7","method":"nope.method"}"#, "z7", "unknown method: nope.method"),
        (r#"{"type":"req","id":"z8","id":"z9","method":"health"}"#, "z9", "invalid request frame: "),
        ("[]", "invalid", "invalid request frame: "),
    ] {
        client.send_text("garbage, which is not answered");
        client.send_text(text);
        let frame = client.take(text, |frame| frame["type"] == "res");
        assert!(frame["id"] == id || text.contains("\"id\":\"z8\""), "{text}: {frame}");
        assert_eq!(frame["error"]["code"], "INVALID_REQUEST", "{text}: {frame}");
        assert!(frame["error"]["message"].as_str().unwrap().starts_with(message), "{text}: {frame}");
    }
    client.send_text(r#"{"type":"req","id":"ok","method":"health"}"#);
    assert!(client.response("ok").unwrap().is_object(), "params may be absent");
}

/// frames/rpc-missing-scope.json
#[test]
fn a_missing_scope_is_named() {
    let gateway = Gateway::new();
    let mut reader = Client::login(&gateway, &Connect::backend(&["operator.read"]));
    for (method, params, scope) in [
        ("node.invoke", json!({"nodeId": "x", "command": "system.which", "idempotencyKey": "a"}), "operator.write"),
        ("node.pair.list", json!({}), "operator.pairing"),
    ] {
        let error = reader.request(method, params).unwrap_err();
        assert_eq!(error["code"], "FORBIDDEN", "{error}");
        assert_eq!(error["message"], format!("missing scope: {scope}"));
        assert_eq!(
            error["details"],
            json!({"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]})
        );
    }
    assert!(reader.request("node.list", json!({})).is_ok());
    // operator.write stands for operator.read, operator.admin for everything, pairing for neither.
    for (scopes, may) in [("operator.write", true), ("operator.admin", true), ("operator.pairing", false)] {
        let mut client = Client::login(&gateway, &Connect::backend(&[scopes]));
        assert_eq!(client.request("node.list", json!({})).is_ok(), may, "{scopes}");
    }
    let mut nobody = Client::login(&gateway, &Connect::backend(&["operator.questions", "made.up"]));
    assert!(nobody.request("node.list", json!({})).is_err());
}

/// frames/rpc-node-role-calls-operator-methods.json, rpc-unauthorized-flood-close.json,
/// rpc-operator-calls-node-methods.json
#[test]
fn roles_do_not_mix_and_eleven_wrong_calls_in_a_row_end_the_session() {
    let gateway = Gateway::new();
    let mut operator = gateway.owner();
    for method in ["node.invoke.result", "node.event"] {
        let error = operator.request(method, json!({"id": "x", "nodeId": "y", "ok": true, "event": "e"})).unwrap_err();
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("INVALID_REQUEST"), &json!("unauthorized role: operator"))
        );
    }
    let device = Device::new();
    let connect = Connect::node(&device, &Surface::linux(&["system.which"]));
    let mut node = Client::login(&gateway, &connect);
    for method in ["node.list", "node.pair.list", "node.invoke", "nope.method"] {
        let error = node.request(method, json!({})).unwrap_err();
        assert_eq!(error["message"], "unauthorized role: node", "{method}");
    }
    assert!(node.request("health", json!({})).is_ok());
    // The good call has ended the row; eleven more are answered, then comes the end.
    for at in 1..=11 {
        let error = node.request("node.list", json!({})).unwrap_err();
        assert_eq!(error["message"], "unauthorized role: node", "call {at}");
    }
    assert_eq!(node.closed(), Closed { code: 1008, reason: "repeated unauthorized calls".to_owned() });
}

/// Nobody hears anything of the others before login.
#[test]
fn no_event_reaches_a_peer_before_login() {
    let gateway = Gateway::new();
    let mut stranger = Client::tcp(&gateway);
    let _node = Client::login(&gateway, &Connect::node(&Device::new(), &Surface::linux(&["system.run"])));
    let owner = gateway.owner();
    owner.close();
    assert!(stranger.stays_open(QUIET));
    assert_eq!(stranger.waiting().count(), 0);
    // Twin: it may still log in.
    assert!(stranger.connect(&Connect::cli(&["operator.read"])).is_ok());
}

/// Spec gateway §2: `seq` counts the broadcasts of one connection from 1 without holes.
#[test]
fn broadcasts_are_numbered_per_connection() {
    let gateway = Gateway::new();
    let mut first = gateway.owner();
    let nodes: Vec<Client> = (0..3)
        .map(|_| Client::login(&gateway, &Connect::node(&Device::new(), &Surface::linux(&["system.which"]))))
        .collect();
    let mut expected = 1;
    let mut requested = 0;
    while requested < nodes.len() {
        let Incoming::Frame(frame) = first.next() else { panic!("closed") };
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(seq, expected, "{frame}");
            expected += 1;
        }
        requested += usize::from(frame["event"] == "node.pair.requested");
    }
}
