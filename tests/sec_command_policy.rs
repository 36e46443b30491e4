//! What may be asked of a node at all: declared, approved, and allowed; its policy by no spelling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::{Value, json};
use support::{Client, Connect, Device, Gateway, Options, Surface, TOKEN};

/// Asks, and is refused before the node hears of it.
fn refused(caller: &mut Client, node: &str, command: &str) -> Value {
    let params = json!({"command": ["touch", "x"], "bins": ["x"], "file": {"version": 1}, "baseHash": "x"});
    let invoke = json!({"nodeId": node, "command": command, "params": params, "idempotencyKey": "k"});
    let error = caller.request("node.invoke", invoke).expect_err(command);
    assert_eq!(error["code"], "INVALID_REQUEST", "{command:?}: {error}");
    error
}

/// The twin: this one is forwarded.
fn forwarded(caller: &mut Client, seat: &mut Client, node: &str, command: &str) {
    let params = if command == "system.run" { json!({"command": ["true"]}) } else { json!({}) };
    let invoke = json!({"nodeId": node, "command": command, "params": params, "idempotencyKey": command});
    caller.start("node.invoke", invoke);
    assert_eq!(seat.event("node.invoke.request")["command"], command);
}

/// A49: a node's policy is read and written by the methods that are for it, and for admins; not by `node.invoke`.
#[test]
fn sec_a49_no_invocation_edits_a_policy() {
    let commands = ["system.which", "system.execApprovals.get", "system.execApprovals.set"];
    // Also where the owner's list names it.
    let config = json!({"gateway": {"auth": {"mode": "token", "token": TOKEN},
        "nodes": {"commands": {"allow": ["system.execApprovals.set", "SYSTEM.EXECAPPROVALS.SET", "system.execapprovals.set"]}}}});
    for options in [Options::default(), Options::default().config(config)] {
        let gateway = Gateway::start(options);
        let device = Device::new();
        let id = device.id();
        let mut seat = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&commands)));
        gateway.approve_surface(&id);
        for scopes in [&["operator.write"][..], &["operator.admin"], &["operator.admin", "operator.write"]] {
            let mut caller = Client::login(&gateway, &Connect::backend(scopes));
            for verb in ["get", "set"] {
                for command in [
                    format!("system.execApprovals.{verb}"),
                    format!("System.ExecApprovals.{verb}"),
                    format!("SYSTEM.EXECAPPROVALS.{}", verb.to_uppercase()),
                    format!("system.execapprovals.{verb}"),
                    format!(" system.execApprovals.{verb}"),
                    format!("system.execApprovals.{verb} "),
                    format!("\tsystem.execApprovals.{verb}\r\n"),
                    format!("system. execApprovals.{verb}"),
                    format!("system.execApprovals .{verb}"),
                    format!("system.execApprovals.{verb}\u{0}"),
                    format!("system.exec\u{0}Approvals.{verb}"),
                    format!("\u{a0}system.execApprovals.{verb}\u{2003}"),
                    format!("system.exec\u{200b}Approvals.{verb}"),
                    format!("\u{feff}system.execApprovals.{verb}"),
                    format!("system.exec\u{ad}Approvals.{verb}"),
                    format!("ｓystem.execApprovals.{verb}"),
                    format!("system.execApproval\u{17f}.{verb}"),
                    format!("./system.execApprovals.{verb}"),
                    format!("system..execApprovals.{verb}"),
                    format!("system/execApprovals/{verb}"),
                ] {
                    refused(&mut caller, &id, &command);
                }
            }
        }
        seat.no_event("node.invoke.request");
        // Twin: the method for it, for an admin.
        let mut writer = Client::login(&gateway, &Connect::backend(&["operator.write"]));
        let error = writer.request("exec.approvals.node.get", json!({"nodeId": id})).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin");
        let mut admin = Client::login(&gateway, &Connect::backend(&["operator.admin"]));
        admin.start("exec.approvals.node.get", json!({"nodeId": id}));
        assert_eq!(seat.event("node.invoke.request")["command"], "system.execApprovals.get");
    }
}

/// A50: declared and approved and allowed; what is denied is denied though it is allowed as well.
#[test]
fn sec_a50_declared_approved_and_allowed_must_meet() {
    let lists =
        json!({"allow": ["camera.snap", "screen.record", "made.up"], "deny": ["screen.record", "system.which"]});
    let config = json!({"gateway": {"auth": {"mode": "token", "token": TOKEN}, "nodes": {"commands": lists}}});
    let gateway = Gateway::start(Options::default().config(config));
    let mut owner = gateway.owner();
    let device = Device::new();
    let id = device.id();
    let connect = |commands: &[&str]| Connect::node(&device, &Surface::mac(commands));
    let first = ["system.run", "system.which", "camera.snap", "screen.record", "device.info", "bogus.command"];
    Client::login(&gateway, &connect(&first));
    gateway.approve_surface(&id);
    // It comes back, with one command more, which nobody has approved, and one less.
    let mut seat = Client::login(&gateway, &connect(&[&first[..4], &["system.notify", "made.up"]].concat()));
    gateway.pending_surface(&mut owner, &id);
    for (command, why) in [
        ("canvas.present", "never declared"),
        ("device.info", "approved, not declared any more"),
        ("system.notify", "declared, not approved"),
        ("made.up", "declared and allowed, not approved"),
        ("screen.record", "allowed and denied"),
        ("system.which", "the platform's, denied"),
        ("bogus.command", "unknown"),
        ("system.run.prepare", "a neighbour of what is approved"),
        ("SYSTEM.RUN", "another spelling"),
        ("system.run\u{0}", "another spelling"),
        ("system.*", "a pattern"),
        ("*", "a pattern"),
    ] {
        let error = refused(&mut owner, &id, command);
        assert!(error["details"]["reason"].is_string(), "{command} ({why}): {error}");
    }
    seat.no_event("node.invoke.request");
    for command in ["system.run", "camera.snap"] {
        forwarded(&mut owner, &mut seat, &id, command);
    }
}

/// A51: a machine of no known kind gets nothing that touches the host.
#[test]
fn sec_a51_an_unknown_platform_gets_least() {
    let gateway = Gateway::new();
    let mut owner = gateway.owner();
    let host = [
        "system.run",
        "system.run.prepare",
        "system.which",
        "system.execApprovals.get",
        "system.execApprovals.set",
        "fs.listDir",
        "browser.proxy",
        "terminal.upload",
        "screen.snapshot",
    ];
    let declared = [&host[..], &["system.notify"]].concat();
    for (platform, family) in [
        ("haiku", "Haiku"),
        ("haiku", "Mac"),
        ("haiku", "Linux"),
        ("unknown", "unknown"),
        ("linux", "Mac"),
        ("macos", "Linux"),
        ("macos evil", "Mac"),
        ("linux2", "Linux"),
        ("darwin", "Mac"),
        ("win32", "Windows"),
        (" ", " "),
        ("0", "0"),
    ] {
        let device = Device::new();
        let id = device.id();
        let surface =
            Surface { platform: platform.to_owned(), device_family: family.to_owned(), ..Surface::linux(&declared) };
        let mut seat = Client::login(&gateway, &Connect::node(&device, &surface));
        gateway.approve_surface(&id);
        let row = owner.request("node.describe", json!({"nodeId": id})).unwrap();
        assert_eq!(row["commands"], json!(["system.notify"]), "{platform} {family}");
        for command in host {
            refused(&mut owner, &id, command);
        }
        forwarded(&mut owner, &mut seat, &id, "system.notify");
        assert!(seat.waiting().all(|frame| frame["event"] != "node.invoke.request"), "{platform} {family}");
    }
    for value in [Value::Null, json!(0), json!({}), json!([]), json!(""), json!(true), json!({"name": "macos"})] {
        let connect = Connect::node(&Device::new(), &Surface::linux(&declared)).set("client/platform", value.clone());
        let error = Client::tcp(&gateway).connect(&connect).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{value}: {error}");
    }
    // Twin: a known one.
    let device = Device::new();
    let mut seat = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&declared)));
    gateway.approve_surface(&device.id());
    forwarded(&mut owner, &mut seat, &device.id(), "system.run");
}
