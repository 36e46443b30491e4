//! Where secrets must not be: in what the gateway tells of its configuration, on a command line, with a child.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use support::{Client, Connect, Device, Gateway, Options, Process, Surface};
use support_exec::*;

// Each is unlike any other text, in every part of eight characters.
const SHARED: &str = "Zq7vXk2mWp9tRf4dHs8nLc3b";
const OTHER: &str = "Bx5gTy1uJo6eQa0iVz7kMw2s";
const EXEC: &str = "Hw3zNb7qDv5mYs1cRk9pXg4j";
const PART: usize = 8;

fn shows_none(secrets: &[&str], text: &str, what: &str) {
    for secret in secrets {
        for start in 0..=secret.len() - PART {
            let part = &secret[start..start + PART];
            assert!(!text.contains(part), "{what} shows {part} of {secret}:\n{text}");
        }
    }
}

/// A configuration with a secret wherever the original keeps one, and where nobody expects one.
fn full_of_secrets() -> Value {
    json!({
        "gateway": {
            "mode": "local",
            "auth": {"mode": "token", "token": SHARED, "password": OTHER, "allowTailscale": false},
            "remote": {"url": "ws://127.0.0.1:1", "token": OTHER, "password": OTHER},
            "controlUi": {"allowedOrigins": ["https://ok.example"]},
            "nodes": {"commands": {"allow": ["camera.snap"], "deny": ["system.notify"]}},
        },
        "env": {"vars": {"API_KEY": OTHER}, "shellEnv": {"OPENAI_API_KEY": OTHER}},
        "models": {"providers": {"some.provider": {"apiKey": OTHER, "headers": {"X-Api-Key": OTHER}}}},
        "channels": {"telegram": {"botToken": OTHER, "accounts": {OTHER: {"token": OTHER}}}},
        "hooks": {"token": OTHER, "mappings": [{"match": {"path": OTHER}}]},
        "skills": {"entries": {"x": {"apiKey": OTHER, "env": {"K": OTHER}}}},
        "plugins": {"entries": {"made-up": {"config": {"pass_phrase": OTHER, "pw": OTHER, "anything": [[OTHER]]}}}},
        "tools": {"web": {"search": {"apiKey": OTHER}}},
        "$comment": OTHER,
        OTHER: OTHER,
    })
}

/// A156: nothing that looks at the configuration or at a policy tells a secret, to nobody; and there is no way to write a
/// redacted form back over the original.
#[test]
fn sec_a156_no_look_at_the_configuration_shows_a_secret() {
    let config = full_of_secrets();
    let options = Options::default().config(config.clone());
    let state_of = |gateway: &Gateway| gateway.state.join("openclaw.json");
    let gateway = Gateway::start(options);
    write_private(
        &gateway.state.join("exec-approvals.json"),
        json!({"version": 1, "socket": {"path": gateway.state.join("exec-approvals.sock"), "token": EXEC, "Token": OTHER, "secret": {"x": [OTHER]}},
            "agents": {"main": {"allowlist": [{"pattern": "/bin/ls"}]}}})
        .to_string()
        .as_bytes(),
    );
    let secrets = [SHARED, OTHER, EXEC];
    let device = Device::new();
    let surface = Surface::linux(&["system.run", "system.execApprovals.get"]);
    let (_node, hello) = Client::login_hello(&gateway, &Connect::node(&device, &surface).token(SHARED));
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let secrets = [&secrets[..], &[device_token.as_str()]].concat();
    for scopes in [&["operator.read"][..], &["operator.read", "operator.pairing"], &["operator.admin"]] {
        let (mut client, hello) = Client::login_hello(&gateway, &Connect::cli(scopes).token(SHARED));
        shows_none(&secrets, &hello.to_string(), "hello-ok");
        let methods: Vec<String> =
            hello["features"]["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect();
        let looks = methods.iter().filter(|name| {
            let verb = name.rsplit('.').next().unwrap();
            matches!(verb, "get" | "list" | "describe" | "status" | "health" | "system-presence" | "history")
        });
        let mut answered = 0;
        for method in looks {
            for params in [json!({}), json!({"nodeId": device.id()}), json!({"id": SHARED})] {
                // The node here answers nothing.
                if method.starts_with("exec.approvals.node") && params["nodeId"].is_string() {
                    continue;
                }
                let answer = client.request(method, params.clone());
                answered += usize::from(answer.is_ok());
                let text = answer.map_or_else(|error| error.to_string(), |answer| answer.to_string());
                shows_none(&secrets, &text, &format!("{method} {params} for {scopes:?}"));
            }
        }
        assert!(answered >= 5, "{answered} answers");
        // What it says is the truth that may be told.
        let told = client.request("config.get", json!({})).unwrap();
        assert_eq!(told["raw"], Value::Null);
        assert_eq!(told["config"]["gateway"]["nodes"]["commands"]["allow"], json!(["camera.snap"]), "{told}");
        for method in ["config.set", "config.patch", "config.apply"] {
            let error = client.request(method, json!({"raw": told["config"].to_string()})).unwrap_err();
            assert_eq!(error["message"], format!("unknown method: {method}"));
        }
    }
    for look in [
        &["status"][..],
        &["status", "--json"],
        &["nodes", "--json"],
        &["pair", "list", "--json"],
        &["approvals", "get"],
        &["approvals", "get", "--json"],
        &["audit", "verify"],
    ] {
        shows_none(&secrets, &words_of(&Process::run(gateway.mac_debug(look))), &format!("mac-debug {look:?}"));
    }
    // A policy is written back as it was told: what was not told stays.
    let mut admin = Client::login(&gateway, &Connect::cli(&["operator.admin"]).token(SHARED));
    let told = admin.request("exec.approvals.get", json!({})).unwrap();
    let back = json!({"file": told["file"], "baseHash": told["hash"]});
    admin.request("exec.approvals.set", back).unwrap();
    let kept: Value = serde_json::from_slice(&fs::read(gateway.state.join("exec-approvals.json")).unwrap()).unwrap();
    assert_eq!(kept["socket"]["token"], EXEC, "{kept}");
    assert_eq!(fs::read_to_string(state_of(&gateway)).unwrap(), config.to_string(), "the owner's file");
}

/// A158: a secret as an argument is refused and not repeated.
#[test]
fn sec_a158_no_argument_takes_a_secret() {
    let scratch = Scratch::new();
    let commands = [
        &["gateway", "run"][..],
        &["node", "run", "--url", "ws://127.0.0.1:1"],
        &["node", "install"],
        &["app", "--ask", "none"],
        &["mac-debug", "status"],
        &["mac-debug", "token", "rotate", "--yes"],
        &["mac-debug"],
        &[],
    ];
    for command in commands {
        for flag in ["--token", "--password", "--auth", "--gateway-token", "--secret", "--device-token", "-t", "-p"] {
            for given in [vec![flag.to_owned(), SHARED.to_owned()], vec![format!("{flag}={SHARED}")]] {
                let given: Vec<&str> = given.iter().map(String::as_str).collect();
                let said = must_fail(scratch.openclaw(&[command, &given].concat()), &format!("{command:?} {given:?}"));
                shows_none(&[SHARED], &said, &format!("{command:?} {given:?}"));
            }
        }
    }
    assert!(!scratch.state().join("openclaw.json").exists(), "something started");
}

/// Where a process shows what it was given.
fn shown_by(pid: u32) -> String {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
}

/// A158: what was given in the environment or a file stands on no command line and goes to no child.
#[test]
fn sec_a158_no_child_gets_a_secret() {
    if !Path::new("/proc/self/environ").exists() {
        eprintln!("sec_a158: left out, because there is no /proc here");
        return;
    }
    let scratch = Scratch::new();
    scratch.approvals(&amended(&allowing_everything(), &json!({"socket": {"token": EXEC}})));
    let mut command = scratch.openclaw(APP);
    for name in ["OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"] {
        command.env(name, if name.ends_with("GATEWAY_TOKEN") { SHARED } else { OTHER });
    }
    let app = App::start_with(&scratch, command);
    let exec = app.exec(&scratch);
    let secrets = [SHARED, OTHER, EXEC];
    // What a command sees of itself, of whoever started it, and of everybody.
    for script in [
        "env; cat /proc/$$/environ /proc/$$/cmdline",
        "cat /proc/$PPID/environ /proc/$PPID/cmdline",
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
        "ps -A -o args= e",
    ] {
        let ran = exec.run(&[&program("sh"), "-c", script]);
        let ran = ran.ran();
        shows_none(&secrets, &format!("{}{}", ran["stdout"], ran["stderr"]), script);
    }
    // And from outside, while one runs. The app's own line shows none either.
    let marker = sleep_marker();
    let asked = {
        let (exec, marker) = (exec.clone(), marker.clone());
        std::thread::spawn(move || exec.run(&[&program("sleep"), &marker]))
    };
    let running = support::wait_until("the command", || processes_named(&marker).into_iter().next());
    let shown = shown_by(running.pid);
    assert!(shown.contains("PATH="), "its environment cannot be read: {shown}");
    shows_none(&secrets, &shown, "a running command");
    let line = fs::read(format!("/proc/{}/cmdline", app.pid())).unwrap();
    shows_none(&secrets, &String::from_utf8_lossy(&line), "the app's command line");
    kill_named(&marker);
    asked.join().unwrap();
    exec.assert_works();
}
