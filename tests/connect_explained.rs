//! `mac-debug connect` on healthy and on broken systems: what a person reads, what a program gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::rc::Rc;
use std::thread;
use support::{DEADLINE, Faketime, Finished, Gateway, Options, Process, TOKEN, TempDir, free_port, openclaw};
use tungstenite::protocol::Message;

/// `connect` with these arguments; `stdin` goes to its standard input.
fn connect_saying(state: &TempDir, arguments: &[&str], stdin: &str) -> Finished {
    let mut command = openclaw(state.path());
    // Not whatever else this machine has on the usual port.
    command.env("OPENCLAW_GATEWAY_PORT", "1").args(["mac-debug", "connect"]).args(arguments);
    let file = state.join("stdin");
    fs::write(&file, stdin).unwrap();
    let finished = Process::run({
        command.stdin(Stdio::from(fs::File::open(&file).unwrap()));
        command
    });
    fs::remove_file(file).unwrap();
    assert!(!format!("{finished:?}").contains(TOKEN), "the token was printed");
    finished
}

fn connect(state: &TempDir, arguments: &[&str]) -> Finished {
    connect_saying(state, arguments, "")
}

/// What differs from run to run, as words.
fn same(text: &str, state: &TempDir, port: u16) -> String {
    let mut out = String::new();
    for line in text.replace(&state.path().display().to_string(), "STATE").lines() {
        let line = line.replace(&port.to_string(), "PORT");
        let line = match line.strip_suffix(" ms").and_then(|rest| rest.rsplit_once(' ')) {
            Some((rest, _)) if line.starts_with("Step:") => format!("{} N ms", rest.trim_end()),
            _ => line,
        };
        let line = match line.strip_prefix("Key:").map(|rest| rest.trim()) {
            Some(rest) if rest.contains(',') && !rest.starts_with("none") => {
                format!("Key:       KEY,{}", rest.split_once(',').unwrap().1)
            }
            _ => line,
        };
        // The number is the system's.
        let line = match line.split_once("(os error ") {
            Some((rest, end)) => format!("{rest}(os error{}", &end[end.find(')').unwrap()..]),
            None => line,
        };
        let line = if line.starts_with("HOST ") { line.split_whitespace().collect::<Vec<_>>().join(" ") } else { line };
        let line = if line.ends_with("gateway  self") { "(this gateway)".to_owned() } else { line };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// A gateway that answers `connect` and `health` with what the function gives: a `res` frame without its id.
fn scripted(answer: impl Fn(&Value) -> Value + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let Ok(mut socket) = tungstenite::accept(stream) else { continue };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
            let challenge = json!({"nonce": "n", "ts": u64::try_from(now).unwrap()});
            let mut send = json!({"type": "event", "event": "connect.challenge", "payload": challenge});
            while socket.send(Message::text(send.to_string())).is_ok() {
                let Ok(Message::Text(text)) = socket.read() else { break };
                let request: Value = serde_json::from_str(&text).unwrap();
                send = answer(&request);
                send["type"] = "res".into();
                send["id"] = request["id"].clone();
            }
        }
    });
    port
}

fn hello(protocol: u64) -> Value {
    json!({"ok": true, "payload": {"type": "hello-ok", "protocol": protocol, "server": {"version": "2026.9.6", "connId": "c"},
        "features": {"methods": ["health"], "events": []}, "snapshot": {"presence": [], "health": {}},
        "auth": {"role": "operator", "scopes": ["operator.read"], "deviceToken": "SECRET-OF-A-DEVICE", "deviceTokens": []},
        "policy": {"maxPayload": 26_214_400, "tickIntervalMs": 30_000}}})
}

fn refused(code: &str, message: &str, details: Value) -> Value {
    json!({"ok": false, "error": {"code": code, "message": message, "details": details}})
}

/// `connect --url` to `port`, with a token: exit code and the lines from the first step on.
fn explained(port: u16) -> (i32, String) {
    let state = TempDir::new();
    let finished = connect_saying(
        &state,
        &["--url", &format!("ws://127.0.0.1:{port}"), "--token-stdin", "--timeout", "400"],
        TOKEN,
    );
    let text = same(&finished.stdout, &state, port);
    (finished.code.unwrap(), text[text.find("Step:").unwrap()..].to_owned())
}

#[test]
fn a_healthy_gateway() {
    let gateway = Gateway::new();
    let found = connect(&gateway.state, &[]);
    assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""));
    let text = same(&found.stdout, &gateway.state, gateway.port);
    let offers = text.lines().find(|line| line.starts_with("Offers:")).unwrap().to_owned();
    assert_eq!(
        text.replace(&offers, "(offers)"),
        "\
OpenClaw gateway connection
Status:    ok
URL:       STATE/gateway.sock
Mode:      local
Client:    cli (cli)
Role:      operator
Scopes:    operator.read
Step:      reach     done N ms
Step:      upgrade   done N ms
Step:      challenge done N ms
Step:      hello     done N ms
Step:      health    done N ms
Protocol:  4
Server:    0.1.0
Granted:   operator.read
(offers)
Key:       KEY, not pinned here
Health:    ok
Presence (1):
HOST VERSION PLATFORM MODE WHY
(this gateway)
"
    );
    assert!(offers.ends_with("frames of 26214400 bytes, a tick every 30000 ms"), "{offers}");

    let report =
        connect(&gateway.state, &["--json", "--display-name", "me", "--scopes", "operator.read, operator.write"]);
    let report = report.json();
    // The members of the original's CLI, then ours.
    for (member, value) in [
        ("status", json!("ok")),
        ("url", json!(gateway.socket())),
        ("mode", json!("local")),
        ("role", json!("operator")),
        ("clientId", json!("cli")),
        ("clientMode", json!("cli")),
        ("scopes", json!(["operator.read", "operator.write"])),
        ("class", json!("ok")),
        ("attempts", json!(1)),
        ("warnings", json!([])),
        ("pinnedKey", json!(null)),
    ] {
        assert_eq!(report[member], value, "{member}");
    }
    assert_eq!((&report["snapshot"]["type"], &report["health"]["ok"]), (&json!("hello-ok"), &json!(true)));
    assert!(report.get("error").is_none());
    let steps: Vec<_> = report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["reach", "upgrade", "challenge", "hello", "health"]);
    assert!(report["steps"][0]["ms"].is_f64() && report["totalMs"].as_f64().unwrap() > 0.0);
}

#[test]
fn no_gateway() {
    let port = free_port();
    assert_eq!(
        explained(port),
        (
            3,
            "Step:      reach     failed N ms\nHealth:    -\nError:     no gateway at ws://127.0.0.1:PORT (Connection refused \
             (os error)); start one with `openclaw app` or `openclaw gateway`\n"
                .to_owned()
        )
    );
    // Of a state directory that is not there; and none is made.
    let state = TempDir::new();
    let here = connect(&state, &["--json"]);
    assert_eq!((here.code, &here.json()["class"]), (Some(3), &json!("unreachable")));
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn wrong_and_missing_secrets() {
    let gateway = Gateway::new();
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let wrong = connect_saying(&gateway.state, &["--url", &url, "--token-stdin"], "guessed-guessed\n");
    assert_eq!(wrong.code, Some(6));
    let text = same(&wrong.stdout, &gateway.state, gateway.port);
    assert!(
        text.ends_with(
            "Step:      challenge done N ms\nStep:      hello     failed N ms\nKey:       KEY, not pinned here\nHealth:    -\n\
             Error:     the gateway refused the login: unauthorized: gateway token mismatch (use this gateway's gateway.auth.token \
             or pair the device) (AUTH_TOKEN_MISMATCH); set OPENCLAW_GATEWAY_TOKEN to the gateway's token \
             (gateway.auth.token in its openclaw.json)\n"
        ),
        "{text}"
    );
    let wrong = connect_saying(&gateway.state, &["--password-stdin", "--json"], "guessed-guessed").json();
    assert_eq!((&wrong["class"], &wrong["status"]), (&json!("credentials"), &json!("error")));
    assert_eq!(wrong["refusal"]["details"]["code"], "DEVICE_IDENTITY_REQUIRED");
    // The stored token is shown to its own gateway only (A30).
    let none = connect(&gateway.state, &["--url", &url]);
    assert_eq!(none.code, Some(6));
    assert!(
        none.stdout.contains("Warning:   no token or password was shown: a stored one goes to its own"),
        "{}",
        none.stdout
    );
    // And the right one, in every way in which it can be given.
    let file = gateway.state.join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    assert_eq!(connect(&gateway.state, &["--url", &url, "--token-file", file.to_str().unwrap()]).code, Some(0));
    assert_eq!(connect_saying(&gateway.state, &["--url", &url, "--token-stdin"], TOKEN).code, Some(0));
    let shown = connect(&gateway.state, &["--url", &url, "--token", TOKEN]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.stderr.contains("warning: --token shows the token to every program"), "{}", shown.stderr);
}

#[test]
fn what_cannot_be_tried() {
    let state = TempDir::new();
    for (arguments, said) in [
        (&["--token-stdin", "--token-file", "x"][..], "say one of --token, --token-file and --token-stdin"),
        (&["--token-stdin"], "the token is empty"),
        (&["--token-file", "nowhere"], "nowhere: No such file"),
        (&["--timeout", "249"], "--timeout is in milliseconds, 250 to 600000"),
        (&["--role", "boss"], "the roles are operator and node"),
        (&["--mode", "far"], "the modes are local and remote"),
        (&["--mode", "remote"], "gateway.remote.url is not set in openclaw.json"),
        (&["--url", "ws://192.0.2.1:1"], "'192.0.2.1' is not an address of this machine"),
        (&["--url", "ws://127.0.0.1:1", "--discovered", "x"], "say one of --url, --ssh and --discovered"),
    ] {
        let finished = connect(&state, arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(said), "{arguments:?}: {}", finished.stderr);
    }
    let config = json!({"gateway": {"mode": "remote", "remote": {"url": "wss://gateway.example", "token": TOKEN}}});
    let state = Rc::new(state);
    // Writes the file; the command is not started.
    Options::default().config(config).state(&state).command(1);
    let finished = connect(&state, &[]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("gateway.remote.url: 'wss:' is not supported"), "{}", finished.stderr);
}

#[test]
fn a_stranger_on_the_port() {
    // Says nothing; hangs up; speaks HTTP; speaks something else.
    let stranger = |answer: Option<&'static str>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if let Some(answer) = answer {
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(answer.as_bytes());
                } else {
                    kept.push(stream);
                }
            }
        });
        explained(port)
    };
    let said = |why: &str| {
        let head = "Step:      reach     done N ms\nStep:      upgrade   failed N ms\nHealth:    -\n";
        (4, format!("{head}Error:     ws://127.0.0.1:PORT: {why}\n"))
    };
    assert_eq!(stranger(Some("")), said("what listens there is not a gateway"));
    assert_eq!(stranger(Some("SSH-2.0-OpenSSH_9.2\r\n")), said("what listens there is not a gateway"));
    let page = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(stranger(Some(page)), said("the gateway refused the connection with HTTP 404"));
    assert_eq!(stranger(None), said("what listens there says nothing; it is not a gateway, or a stuck one"));
    // WebSocket, and nothing of ours behind it.
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    assert_eq!(stranger(Some(upgrade)), said("what listens there is not a gateway"));
}

/// Nothing is sent to it.
#[test]
#[cfg(target_os = "linux")]
fn a_port_of_another_user() {
    // SAFETY: no memory is touched.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("a_port_of_another_user: left out, because only root can become another user");
        return;
    }
    let listener = thread::spawn(|| {
        // SAFETY: three integers. The bare call is about this thread alone, which ends right after.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) }, 0);
        TcpListener::bind("127.0.0.1:0").unwrap()
    });
    let listener = listener.join().unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = TempDir::new();
    let mut command = openclaw(state.path());
    command.env("OPENCLAW_GATEWAY_PORT", port.to_string()).args(["mac-debug", "connect", "--json"]);
    let finished = Process::run(command);
    assert_eq!((finished.code, &finished.json()["class"]), (Some(4), &json!("stranger")));
    let error = finished.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with(&format!("port {port} is held by another user's program")), "{error}");
    assert!(error.contains("nothing was sent to it"), "{error}");
    // Who looked whether anybody listens hung up without a word.
    listener.set_nonblocking(true).unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }
}

#[test]
fn an_old_protocol() {
    let details = |expected: u64| json!({"code": "PROTOCOL_MISMATCH", "expectedProtocol": expected});
    let too_old = scripted(move |_| refused("INVALID_REQUEST", "protocol mismatch", details(2)));
    let (code, text) = explained(too_old);
    assert_eq!(code, 8);
    assert!(
        text.ends_with(
            "Step:      hello     failed N ms\nKey:       none shown, as official gateways do; it cannot be told from another\n\
             Health:    -\nError:     the gateway refused the login: protocol mismatch (PROTOCOL_MISMATCH); gateway and client are \
             of versions that do not fit together\n"
        ),
        "{text}"
    );
    // What answers with something else.
    let (code, text) =
        explained(scripted(|_| json!({"ok": true, "payload": {"type": "welcome", "auth": {"role": "guest"}}})));
    assert_eq!(code, 4);
    assert!(
        text.contains("Step:      hello     failed N ms\n") && text.contains("not a hello-ok for this role"),
        "{text}"
    );
    // One that is old, but not too old.
    let old = scripted(move |request| match request["params"]["maxProtocol"].as_u64() {
        Some(4) => refused("INVALID_REQUEST", "protocol mismatch", details(3)),
        Some(_) => hello(3),
        None => json!({"ok": true, "payload": {"ok": true}}),
    });
    let (code, text) = explained(old);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Protocol:  3\nServer:    2026.9.6\n"), "{text}");
    assert!(text.contains("Warning:   it took 2 attempts, each with what the refusal before named\n"), "{text}");
}

#[test]
fn a_clock_that_is_off() {
    let Some(faketime) = Faketime::find("a_clock_that_is_off") else { return };
    let state = Rc::new(TempDir::new());
    let clock = faketime.clock(state.join("clock"));
    clock.set("-11m");
    let environment = clock.environment();
    let options =
        environment.iter().fold(Options::default().state(&state), |options, (name, value)| options.env(name, value));
    let gateway = Gateway::start(options);
    let found = connect(&gateway.state, &[]);
    assert_eq!(found.code, Some(0));
    let warning = found.stdout.lines().find(|line| line.starts_with("Warning:")).unwrap();
    let seconds: String = warning.chars().filter(char::is_ascii_digit).collect();
    assert!(["660120", "659120"].contains(&seconds.as_str()), "{warning}");
    assert!(warning.contains("s behind this machine's; past 120 s devices are refused: set both clocks"), "{warning}");
}

#[test]
fn roles_and_scopes() {
    let gateway = Gateway::new();
    let node = connect(&gateway.state, &["--role", "node"]);
    assert_eq!(node.code, Some(7));
    assert!(
        node.stdout.contains("device identity required (DEVICE_IDENTITY_REQUIRED); whoever connects without a device")
    );
    let test = connect(&gateway.state, &["--client-id", "test", "--client-mode", "test"]);
    assert_eq!(test.code, Some(0));
    assert!(test.stdout.contains("Granted:   none\n"), "{}", test.stdout);
    assert!(
        test.stdout.contains("Warning:   not granted: operator.read. Without a device, a gateway grants"),
        "{}",
        test.stdout
    );
    let unknown = connect(&gateway.state, &["--client-id", "somebody"]);
    assert_eq!(unknown.code, Some(8));
    assert!(
        unknown.stdout.contains("see --client-id, --client-mode and --scopes, or its version"),
        "{}",
        unknown.stdout
    );
}

/// Every refusal of spec gateway §3: what kind it is, and what to do.
#[test]
fn refusals_are_explained() {
    let pairing = |reason: &str| json!({"code": "PAIRING_REQUIRED", "reason": reason, "requestId": "req-7"});
    let plain = |code: &str| json!({"code": code});
    for (code, details, class, remedy) in [
        ("INVALID_REQUEST", plain("AUTH_TOKEN_MISMATCH"), 6, "set OPENCLAW_GATEWAY_TOKEN"),
        ("INVALID_REQUEST", plain("AUTH_TOKEN_MISSING"), 6, "set OPENCLAW_GATEWAY_TOKEN"),
        ("INVALID_REQUEST", plain("AUTH_PASSWORD_MISMATCH"), 6, "set OPENCLAW_GATEWAY_PASSWORD"),
        ("INVALID_REQUEST", plain("AUTH_PASSWORD_MISSING"), 6, "set OPENCLAW_GATEWAY_PASSWORD"),
        (
            "INVALID_REQUEST",
            plain("AUTH_DEVICE_TOKEN_MISMATCH"),
            6,
            "no longer valid, connect once with the shared token",
        ),
        ("INVALID_REQUEST", plain("AUTH_BOOTSTRAP_TOKEN_INVALID"), 6, "make another: openclaw mac-debug pair link"),
        ("INVALID_REQUEST", plain("AUTH_RATE_LIMITED"), 9, "wait five minutes"),
        ("INVALID_REQUEST", plain("AUTH_SCOPE_MISMATCH"), 8, "approved for fewer scopes"),
        ("NOT_PAIRED", plain("DEVICE_IDENTITY_REQUIRED"), 6, "a node brings its device by itself"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_SIGNATURE_INVALID"), 7, "pair again"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_DEVICE_ID_MISMATCH"), 7, "pair again"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_PUBLIC_KEY_INVALID"), 7, "pair again"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_NONCE_REQUIRED"), 7, "connect without it"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_NONCE_MISMATCH"), 7, "connect without it"),
        ("INVALID_REQUEST", plain("DEVICE_AUTH_SIGNATURE_EXPIRED"), 7, "clocks of both sides differ"),
        ("INVALID_REQUEST", plain("CONTROL_UI_ORIGIN_NOT_ALLOWED"), 8, "leave --client-id out"),
        ("INVALID_REQUEST", plain("CONTROL_UI_DEVICE_IDENTITY_REQUIRED"), 7, "leave --client-id out"),
        ("INVALID_REQUEST", plain("PROTOCOL_MISMATCH"), 8, "versions that do not fit"),
        ("INVALID_REQUEST", plain("CLIENT_VERSION_MISMATCH"), 8, "versions that do not fit"),
        ("INVALID_REQUEST", json!(null), 8, "the words of the gateway"),
        ("UNAVAILABLE", json!({"reason": "startup-sidecars"}), 9, "try again in a moment"),
        (
            "NOT_PAIRED",
            pairing("not-paired"),
            7,
            "approve it with `openclaw mac-debug pair approve req-7` (official gateway:",
        ),
        ("NOT_PAIRED", pairing("role-upgrade"), 7, "pair approve req-7"),
        ("NOT_PAIRED", pairing("scope-upgrade"), 7, "pair approve req-7"),
        ("NOT_PAIRED", pairing("metadata-upgrade"), 7, "pair approve req-7"),
    ] {
        let what = format!("{code} {details}");
        let port = scripted(move |_| refused(code, "the words of the gateway", details.clone()));
        let (exit, text) = explained(port);
        assert_eq!(exit, class, "{what}\n{text}");
        let error = text.lines().last().unwrap();
        assert!(error.starts_with("Error:") && error.contains("the words of the gateway"), "{what}: {error}");
        assert!(error.contains(remedy), "{what}: {error}");
    }
}

/// H26, and A159 for what a gateway says.
#[test]
fn sec_h26_another_gateway_than_the_pinned_one_is_named() {
    let gateway = Gateway::new();
    let state = TempDir::new();
    let pin = |key: &str| {
        let pins = json!({"version": 1, "gateways": {format!("loopback:{}", gateway.port): key}});
        fs::create_dir_all(state.join("identity")).unwrap();
        for (path, mode) in [(state.join("identity"), 0o700), (state.join("identity/gateway-pins.json"), 0o600)] {
            if mode == 0o600 {
                fs::write(&path, pins.to_string()).unwrap();
            }
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    };
    pin("b2xkLWtleQ");
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let other = connect_saying(&state, &["--url", &url, "--token-stdin"], TOKEN);
    assert_eq!(other.code, Some(5));
    assert!(other.stdout.contains("is not the gateway that we know: it proved another key"), "{}", other.stdout);
    assert!(other.stdout.contains("No credential was sent"), "{}", other.stdout);
    let key = connect_saying(&TempDir::new(), &["--url", &url, "--token-stdin", "--json"], TOKEN).json();
    pin(key["gatewayKey"].as_str().unwrap());
    let same = connect_saying(&state, &["--url", &url, "--token-stdin"], TOKEN);
    assert_eq!(same.code, Some(0));
    assert!(same.stdout.contains(", the pinned one\n"), "{}", same.stdout);
}

#[test]
fn sec_a159_a_gateways_words_are_shown_and_its_device_tokens_not() {
    let evil = "\u{1b}]52;c;b3duZWQ=\u{7}\r\u{202E}words\u{9b}2J";
    let port = scripted(move |_| refused("INVALID_REQUEST", evil, json!({"code": format!("X{evil}")})));
    let (_, text) = explained(port);
    assert!(text.contains("\\u{1B}]52;c;b3duZWQ=\\u{7}\\u{D}\\u{202E}words\\u{9B}2J"), "{text}");
    assert!(text.chars().all(|letter| letter == '\n' || (' '..='~').contains(&letter)), "{text:?}");
    let state = TempDir::new();
    let url = format!("ws://127.0.0.1:{port}");
    let json = connect_saying(&state, &["--url", &url, "--token-stdin", "--json"], TOKEN);
    assert!(json.stdout.chars().all(|letter| letter == '\n' || (' '..='~').contains(&letter)), "{}", json.stdout);
    assert_eq!(json.json()["refusal"]["message"], evil);

    let port = scripted(|request| match request["method"].as_str() {
        Some("connect") => hello(4),
        _ => json!({"ok": true, "payload": {"ok": false}}),
    });
    let url = format!("ws://127.0.0.1:{port}");
    let json = connect_saying(&state, &["--url", &url, "--token-stdin", "--json"], TOKEN);
    assert_eq!(json.code, Some(1), "{json:?}");
    assert!(!json.stdout.contains("SECRET-OF-A-DEVICE") && json.stdout.contains("\"hello-ok\""), "{}", json.stdout);
    assert_eq!(json.json()["error"], "the gateway says that it is not well");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}
