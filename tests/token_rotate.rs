//! Another shared token: who loses the connection, who comes back, and whose file is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use support::{Client, Closed, Connect, Device, Gateway, Options, Process, TOKEN, mode, openclaw, wait_until};
use support_exec::*;

fn token_of(config: &[u8]) -> String {
    serde_json::from_slice::<Value>(config).unwrap()["gateway"]["auth"]["token"].as_str().unwrap().to_owned()
}

/// A14: sessions of the old shared token end at once with 4001, a device token's session goes on.
#[test]
fn sec_a14_sessions_of_the_old_token_are_closed() {
    let gateway = Gateway::start(Options::default().no_config());
    let config = gateway.state.join("openclaw.json");
    let before = fs::read(&config).unwrap();
    let old = token_of(&before);
    let mut owner = Client::login(&gateway, &Connect::cli(&["operator.read"]).token(&old));
    let device = Device::new();
    let paired = Connect::new("openclaw-macos", "ui", "operator", &["operator.read"]).device(&device);
    let (mut by_shared, hello) = Client::login_hello(&gateway, &paired.clone().token(&old));
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap();
    let mut by_device = Client::login(&gateway, &paired.device_token(device_token));

    let rotated = Process::run(gateway.mac_debug(&["token", "rotate", "--yes", "--json"]));
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert_eq!(rotated.json(), json!({"written": config, "gatewayHasIt": true}));
    let new = token_of(&fs::read(&config).unwrap());
    assert!(new != old && !rotated.stdout.contains(&new) && !rotated.stderr.contains(&new), "{rotated:?}");
    assert_eq!(mode(&config), 0o600);

    let expected = Closed { code: 4001, reason: "gateway auth changed".to_owned() };
    assert_eq!((owner.closed(), by_shared.closed()), (expected.clone(), expected));
    assert!(by_device.request("health", json!({})).is_ok(), "a device token is another credential");
    let refused = Client::tcp(&gateway).connect(&Connect::cli(&[]).token(&old)).unwrap_err();
    assert_eq!(refused["details"]["code"], "AUTH_TOKEN_MISMATCH", "{refused}");
    Client::login(&gateway, &Connect::cli(&[]).token(&new));
}

/// In local mode everything comes back by itself.
#[test]
fn the_apps_own_node_comes_back_with_the_new_token() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let rotated = scratch.mac_debug(&["token", "rotate", "--yes"]);
    assert!(rotated.code == Some(0) && rotated.stdout.contains("has taken it"), "{rotated:?}");
    wait_until("the node loses its connection", || app.log().contains("gateway auth changed").then_some(()));
    wait_for_node(&scratch);
    let ran = scratch.mac_debug(&["run", "--", "echo", "back"]);
    assert_eq!(ran.stdout, "back\n", "{ran:?}");
}

/// The owner's file stays as it is; a change that its owner makes counts from the first login on.
#[test]
fn the_owners_file_is_not_touched_and_its_change_is_taken() {
    let gateway = Gateway::new();
    let config = gateway.state.join("openclaw.json");
    let before = fs::read(&config).unwrap();
    let refused = Process::run(gateway.mac_debug(&["token", "rotate", "--yes"]));
    assert!(refused.code == Some(2) && refused.stderr.contains("nothing was changed"), "{refused:?}");
    assert_eq!(fs::read(&config).unwrap(), before);

    let mut old = Client::login(&gateway, &Connect::cli(&[]));
    let new = "another-token-of-the-owner-0123456789";
    write_private(&config, json!({"gateway": {"auth": {"token": new}}}).to_string().as_bytes());
    assert!(old.request("health", json!({})).is_ok());
    Client::login(&gateway, &Connect::cli(&[]).token(new));
    assert_eq!(old.closed().code, 4001);

    // A half-written file changes nothing.
    write_private(&config, b"{gateway: {auth: ");
    let refused = Client::tcp(&gateway).connect(&Connect::cli(&[]).token("yet-another-one-0123")).unwrap_err();
    assert_eq!(refused["details"]["code"], "AUTH_TOKEN_MISMATCH");
    Client::login(&gateway, &Connect::cli(&[]).token(new));
}

#[test]
fn a_token_file_is_replaced_also_when_nothing_runs() {
    let config = json!({"gateway": {"port": 18_789}});
    let gateway = Gateway::start(Options::default().config(config.clone()));
    let state = std::rc::Rc::clone(&gateway.state);
    gateway.stop();
    let file = state.join("gateway-token");
    let old = fs::read_to_string(&file).unwrap();
    let rotate = || {
        let mut command = openclaw(state.path());
        command.args(["mac-debug", "token", "rotate", "--yes"]);
        Process::run(command)
    };
    let rotated = rotate();
    assert!(rotated.code == Some(0) && rotated.stdout.contains("the next one takes it"), "{rotated:?}");
    let new = fs::read_to_string(&file).unwrap();
    assert!(new != old && mode(&file) == 0o600);
    assert_eq!(fs::read(state.join("openclaw.json")).unwrap(), config.to_string().as_bytes());
    let gateway = Gateway::start(Options::default().state(&state).no_config());
    Client::login(&gateway, &Connect::cli(&[]).token(new.trim()));
}

/// A gateway with a secret of its own is not left behind with a file that means nothing.
#[test]
fn a_gateway_with_a_token_from_its_environment_is_noticed_first() {
    let gateway = Gateway::start(Options::default().no_config());
    let state = std::rc::Rc::clone(&gateway.state);
    gateway.stop();
    let before = fs::read(state.join("openclaw.json")).unwrap();
    let gateway = Gateway::start(Options::default().state(&state).no_config().env("OPENCLAW_GATEWAY_TOKEN", TOKEN));
    let refused = Process::run(gateway.mac_debug(&["token", "rotate", "--yes"]));
    assert!(refused.code == Some(1) && refused.stderr.contains("AUTH_TOKEN_MISMATCH"), "{refused:?}");
    assert_eq!(fs::read(state.join("openclaw.json")).unwrap(), before);
}
