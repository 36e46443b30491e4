//! Edits of the policy from outside, what a node tells, and the limits of the gateway before and
//! after login.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Answer, Client, Closed, Connect, Device, Gateway, Options, Process, QUIET, Stream, Surface, Upgrade, read_answer,
    wait_until,
};
use support_exec::*;
use tungstenite::Message;

const ADMIN: &[&str] = &["operator.admin", "operator.read", "operator.write", "operator.pairing"];
const QUESTION: &str = "openclaw: allow this command?";

/// An operator of the app's own gateway, over its Unix socket.
fn operator(scratch: &Scratch, scopes: &[&str]) -> Client {
    let socket = scratch.state().join("gateway.sock");
    wait_until("the app's gateway", || UnixStream::connect(&socket).ok());
    let config: Value = serde_json::from_slice(&fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let token = config["gateway"]["auth"]["token"].as_str().unwrap();
    let mut client = Client::unix_at(&socket);
    client.connect(&Connect::backend(scopes).token(token)).unwrap();
    client
}

/// An owner of the app's gateway, with its one node.
struct Owner {
    client: Client,
    node: String,
}

impl Owner {
    fn of(scratch: &Scratch) -> Self {
        let mut client = operator(scratch, ADMIN);
        let node = wait_until("the node", || {
            let list = client.request("node.list", json!({})).unwrap();
            let row = list["nodes"].as_array()?.iter().find(|row| row["approvalState"] == "approved")?.clone();
            Some(row["nodeId"].as_str()?.to_owned())
        });
        Self { client, node }
    }

    fn get(&mut self) -> Value {
        self.client.request("exec.approvals.node.get", json!({"nodeId": self.node})).unwrap()
    }

    fn set(&mut self, file: &Value, base_hash: Option<&str>) -> Answer {
        let mut params = json!({"nodeId": self.node, "file": file});
        if let Some(hash) = base_hash {
            params["baseHash"] = json!(hash);
        }
        self.client.request("exec.approvals.node.set", params)
    }

    /// Edits what is there now.
    fn edit(&mut self, change: impl FnOnce(&mut Value)) -> Answer {
        let mut now = self.get();
        change(&mut now["file"]);
        let hash = now["hash"].as_str().unwrap().to_owned();
        self.set(&now["file"], Some(&hash))
    }
}

/// Code and message of a node's own error inside the gateway's.
fn node_error(answer: Answer) -> (String, String) {
    let error = answer.unwrap_err();
    assert_eq!((&error["code"], &error["details"]["nodeCommandDispatched"]), (&json!("UNAVAILABLE"), &json!(true)));
    let nested = &error["details"]["nodeError"];
    (nested["code"].as_str().unwrap().to_owned(), nested["message"].as_str().unwrap().to_owned())
}

fn document() -> Value {
    json!({
        "version": 1,
        "defaults": {"security": "allowlist", "ask": "always", "askFallback": "deny"},
        "agents": {"*": {"allowlist": [{"pattern": program("echo")}]}, "main": {"security": "deny"}},
        "ours": {"kept": [1, 2]},
    })
}

/// The edits that A53 names, and their neighbours.
fn loosening() -> Vec<(&'static str, Box<dyn Fn(&mut Value)>)> {
    fn row(name: &'static str, pointer: &'static str, value: Value) -> (&'static str, Box<dyn Fn(&mut Value)>) {
        let edit = move |file: &mut Value| {
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            file.pointer_mut(parent).unwrap()[member] = value.clone();
        };
        (name, Box::new(edit))
    }
    vec![
        row("security", "/defaults/security", json!("full")),
        row("ask", "/defaults/ask", json!("off")),
        row("askFallback", "/defaults/askFallback", json!("full")),
        row("skills", "/defaults/autoAllowSkills", json!(true)),
        row("an entry more", "/agents/*/allowlist", json!([{"pattern": program("echo")}, {"pattern": "/**"}])),
        row("a wider entry", "/agents/*/allowlist", json!([{"pattern": "/usr/bin/*"}])),
        row("an agent's entry", "/agents/main/allowlist", json!([program("touch")])),
        row("an agent's level", "/agents/main", json!({})),
        row("an agent more", "/agents/other", json!({"security": "full"})),
        row("what nobody knows", "/agents/main/mcpTools", json!([{"server": "s", "tool": "t"}])),
    ]
}

/// A53, H15: with nobody to ask nothing is loosened; a stale or missing hash and a missing scope
/// refuse whatever it is; tightening is made, and logged.
#[test]
fn sec_a53_h15_loosening_from_outside_is_refused_and_tightening_made() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let first = owner.get();
    let stored = fs::read(scratch.approvals_path()).unwrap();
    assert_eq!(first["hash"], support::sha256_hex(&stored), "{first}");
    assert_eq!((&first["exists"], &first["file"]["ours"]), (&json!(true), &json!({"kept": [1, 2]})));
    for (name, change) in loosening() {
        let (code, message) = node_error(owner.edit(change));
        assert_eq!(code, "APPROVAL_REQUIRED", "{name}: {message}");
        assert!(message.contains("remoteEdits"), "{name}: it says what to do: {message}");
        assert_eq!(fs::read(scratch.approvals_path()).unwrap(), stored, "{name}");
    }
    assert!(app.log().contains("refused an edit"), "{}", app.log());
    // Malformed documents are no edits either.
    for bad in [json!({"version": 2}), json!({"version": 1, "defaults": {"security": "FULL"}}), json!([]), json!("x")] {
        let (code, message) = node_error(owner.set(&bad, first["hash"].as_str()));
        assert!(code == "INVALID_REQUEST" && message.starts_with("Error: INVALID_REQUEST: "), "{bad}: {message}");
    }
    let tight = json!({"version": 1, "defaults": {"security": "deny", "ask": "always"}, "ours": {"kept": [1, 2]}});
    for (hash, text) in [(Some("stale"), "changed"), (None, "base hash required"), (Some(" "), "base hash required")] {
        let (code, message) = node_error(owner.set(&tight, hash));
        assert_eq!(code, "INVALID_REQUEST", "{message}");
        assert_eq!(message, format!("Error: INVALID_REQUEST: exec approvals {text}; reload and retry"));
    }
    let mut others = operator(&scratch, &["operator.read", "operator.write", "operator.pairing", "operator.approvals"]);
    for (method, params) in [
        ("exec.approvals.node.get", json!({"nodeId": owner.node})),
        ("exec.approvals.node.set", json!({"nodeId": owner.node, "file": tight, "baseHash": first["hash"]})),
    ] {
        let error = others.request(method, params).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin", "{method}: {error}");
    }
    for command in ["system.execApprovals.get", "system.execApprovals.set", " SYSTEM.execapprovals.set\u{a0}"] {
        let params =
            json!({"nodeId": owner.node, "command": command, "idempotencyKey": "k", "params": {"file": tight}});
        let error = owner.client.request("node.invoke", params).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{command:?}: {error}");
    }
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), stored);
    let after = owner.set(&tight, first["hash"].as_str()).unwrap();
    assert_eq!(after["file"]["defaults"]["security"], "deny", "{after}");
    assert_eq!(after["file"]["ours"], json!({"kept": [1, 2]}), "unknown members stay");
    assert_eq!(after["hash"], support::sha256_hex(&fs::read(scratch.approvals_path()).unwrap()));
    wait_until("the log line", || app.log().contains("approvals document: edited").then_some(()));
    let refused = scratch.mac_debug(&["run", "--", "echo", "x"]);
    assert!(refused.stderr.contains("security=deny"), "it holds at once: {refused:?}");
}

/// A53: the owner may allow edits from outside, but not from outside.
#[test]
fn sec_a53_the_owner_may_opt_in_in_the_file_only() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let (_, message) = node_error(owner.edit(|file| file["local"] = json!({"remoteEdits": "allow"})));
    assert!(message.contains("`local` can only be changed in the file itself"), "{message}");
    scratch.edit_approvals(|file| drop(file.insert("local".to_owned(), json!({"remoteEdits": "allow"}))));
    let after = owner.edit(|file| file["defaults"]["security"] = json!("full")).unwrap();
    assert_eq!(
        (&after["file"]["defaults"]["security"], &after["file"]["local"]["remoteEdits"]),
        (&json!("full"), &json!("allow"))
    );
    let after = owner.edit(|file| drop(file.as_object_mut().unwrap().remove("local"))).unwrap();
    assert_eq!(after["file"]["local"], json!({"remoteEdits": "allow"}), "left out is not taken away");
    let (_, message) = node_error(owner.edit(|file| file["local"]["trustGatewayApprovals"] = json!(true)));
    assert!(message.contains("`local`"), "{message}");
    assert!(app.log().contains("security allowlist becomes full"), "{}", app.log());
}

/// H15: the person in front of the machine sees what would be loosened, and decides.
#[test]
fn sec_h15_the_person_decides_about_a_loosening_edit() {
    let scratch = Scratch::new();
    scratch.approvals(&document());
    let mut terminal = app_on_terminal(&scratch);
    for (typed, expected) in [("deny\n", "allowlist"), ("once\n", "full")] {
        let mut owner = Owner::of(&scratch);
        let setting = thread::spawn(move || owner.edit(|file| file["defaults"]["security"] = json!("full")));
        terminal.expect(QUESTION);
        terminal.expect("would from now on be allowed: everybody: security allowlist becomes full");
        terminal.expect("then Return");
        terminal.type_text(typed);
        while !setting.is_finished() {
            terminal.watch(Duration::from_millis(10));
        }
        match setting.join().unwrap() {
            Ok(after) => assert_eq!(after["file"]["defaults"]["security"], "full"),
            answer => assert!(node_error(answer).1.contains("said no")),
        }
        let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
        assert_eq!(stored["defaults"]["security"], expected);
    }
}

/// A157: the token never leaves; the socket that a caller read may be written back and nothing else.
#[test]
fn sec_a157_the_token_stays_and_the_socket_cannot_be_moved() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let token = socket_token(&scratch);
    let now = owner.get();
    assert!(!now.to_string().contains(&token), "{now}");
    assert_eq!(now["file"]["socket"], json!({"path": exec_socket(&scratch)}), "{now}");
    for socket in [
        json!({"path": "/tmp/elsewhere.sock"}),
        json!({"path": exec_socket(&scratch), "token": "a-token-of-somebody-else-0123456"}),
        json!({"token": ""}),
        json!({"path": null}),
        json!({"mode": 1}),
        json!("x"),
    ] {
        let (code, message) = node_error(owner.edit(|file| file["socket"] = socket.clone()));
        assert!(code == "INVALID_REQUEST" && message.contains("socket"), "{socket}: {message}");
    }
    for change in [|_: &mut Value| {}, |file: &mut Value| drop(file.as_object_mut().unwrap().remove("socket"))] {
        let after = owner.edit(change).unwrap();
        assert!(!after.to_string().contains(&token));
        assert_eq!(
            (socket_token(&scratch), &after["file"]["socket"]["path"]),
            (token.clone(), &json!(exec_socket(&scratch)))
        );
    }
    app.exec(&scratch).assert_works();
}

/// A142: of edits with the same base one wins, and what is stored is one of them.
#[test]
fn sec_a142_of_two_edits_with_one_base_the_second_is_stale() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let _app = App::start(&scratch);
    scratch.edit_approvals(|file| drop(file.insert("local".to_owned(), json!({"remoteEdits": "allow"}))));
    let hash = Owner::of(&scratch).get()["hash"].as_str().unwrap().to_owned();
    let start = Arc::new(Barrier::new(8));
    let edits: Vec<_> = (0..8)
        .map(|number| {
            let (mut owner, hash, start) = (Owner::of(&scratch), hash.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let file =
                    json!({"version": 1, "agents": {format!("a{number}"): {"security": "deny"}}, "writer": number});
                start.wait();
                owner.set(&file, Some(&hash))
            })
        })
        .collect();
    let answers: Vec<Answer> = edits.into_iter().map(|edit| edit.join().unwrap()).collect();
    let won: Vec<&Value> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    let stored: Value = serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap();
    let agents: Vec<&String> = stored["agents"].as_object().unwrap().keys().collect();
    assert_eq!(agents, [&format!("a{}", stored["writer"])], "no mixture: {stored}");
    assert_eq!(stored["writer"], won[0]["file"]["writer"]);
    for answer in answers.into_iter().filter(Result::is_err) {
        assert!(node_error(answer).1.ends_with("exec approvals changed; reload and retry"));
    }
}

#[test]
fn a_node_tells_its_load_and_the_resolved_defaults() {
    let scratch = Scratch::new();
    let _app = App::start(&scratch);
    let mut owner = Owner::of(&scratch);
    let stats = wait_until("the load of the node", || {
        let row = owner.client.request("node.describe", json!({"nodeId": owner.node})).unwrap();
        row.get("hostStats").cloned()
    });
    for member in
        ["cpuCount", "memoryTotalBytes", "memoryFreeBytes", "diskTotalBytes", "diskAvailableBytes", "updatedAtMs"]
    {
        assert!(stats[member].as_u64().is_some_and(|number| number > 0), "{member}: {stats}");
    }
    assert_eq!(stats["loadAverage"].as_array().unwrap().len(), 3);
    assert_eq!(owner.get()["file"]["defaults"]["security"], "allowlist");
}

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

/// frames/rpc-approvals-node-get-set.json: what goes to the node, and what comes back.
#[test]
fn the_policy_of_a_node_is_relayed_as_it_is() {
    let (_gateway, mut owner, mut node, id) = scene();
    let asked = owner.start("exec.approvals.node.get", json!({"nodeId": id}));
    let request = node.event("node.invoke.request");
    assert_eq!((&request["command"], &request["paramsJSON"]), (&json!("system.execApprovals.get"), &json!("{}")));
    assert!(request["timeoutMs"].as_u64().is_some_and(|left| left > 29_000 && left <= 30_000), "{request}");
    assert!(request.get("idempotencyKey").is_none(), "{request}");
    let answer = json!({"path": "/p", "exists": true, "file": {"version": 1, "x": {"y": 1}}, "hash": "h"});
    let result = json!({"id": request["id"], "nodeId": id, "ok": true, "payloadJSON": answer.to_string()});
    node.request("node.invoke.result", result).unwrap();
    assert_eq!(owner.response(&asked).unwrap(), answer);
    // It declared no `set`, so none is approved.
    let error = owner.request("exec.approvals.node.set", json!({"nodeId": id, "file": {}})).unwrap_err();
    assert_eq!(error["details"]["reason"], "command not allowlisted", "{error}");
    let error = owner.request("exec.approvals.node.get", json!({"nodeId": "nobody"})).unwrap_err();
    assert_eq!(error["details"]["code"], "PAIRING_CHANGED", "{error}");
    let error = owner.request("exec.approvals.node.set", json!({"nodeId": id})).unwrap_err();
    assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    drop(node);
    let error = wait_until("the node to be gone", || {
        let error = owner.request("exec.approvals.node.get", json!({"nodeId": id})).unwrap_err();
        (error["details"]["code"] == "NOT_CONNECTED").then_some(error)
    });
    assert_eq!(error["code"], "UNAVAILABLE");
}

/// Spec gateway §5 "progress": only from the connection that works on it, piece after piece.
#[test]
fn sec_a54_progress_is_taken_from_the_node_that_was_asked() {
    let (gateway, mut owner, mut node, id) = scene();
    let other = Device::new();
    let mut stranger = Client::login(&gateway, &Connect::node(&other, &Surface::linux(&["system.run"])));
    let params = json!({"nodeId": id, "command": "system.run", "params": {"command": ["ls"]}, "idempotencyKey": "k"});
    let asked = owner.start("node.invoke", params);
    let request = node.event("node.invoke.request");
    let piece = |seq: u64| json!({"invokeId": request["id"], "nodeId": id, "seq": seq, "chunk": "x".repeat(16 * 1024)});
    assert_eq!(node.request("node.invoke.progress", piece(0)).unwrap(), json!({"ok": true}));
    assert_eq!(node.request("node.invoke.progress", piece(1)).unwrap(), json!({"ok": true}));
    for bad in [piece(1), piece(3)] {
        assert_eq!(node.request("node.invoke.progress", bad).unwrap_err()["code"], "INVALID_REQUEST");
    }
    let mut long = piece(2);
    long["chunk"] = json!("x".repeat(16 * 1024 + 1));
    assert!(node.request("node.invoke.progress", long).unwrap_err()["message"].as_str().unwrap().contains("chunk"));
    assert_eq!(node.request("node.invoke.progress", piece(2)).unwrap(), json!({"ok": true}), "nothing was lost");
    assert_eq!(stranger.request("node.invoke.progress", piece(3)).unwrap_err()["message"], "nodeId mismatch");
    let mut lie = piece(3);
    lie["nodeId"] = json!(other.id());
    assert_eq!(stranger.request("node.invoke.progress", lie).unwrap(), json!({"ok": true, "ignored": true}));
    let error = owner.request("node.invoke.progress", piece(3)).unwrap_err();
    assert_eq!(error["message"], "unauthorized role: operator", "{error}");
    node.request("node.invoke.result", json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {}})).unwrap();
    assert_eq!(owner.response(&asked).unwrap()["payload"], json!({}));
    assert_eq!(node.request("node.invoke.progress", piece(3)).unwrap(), json!({"ok": true, "ignored": true}));
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
            stream.write_all(&Upgrade::to(gateway.port).bytes()).unwrap();
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
        stream.write_all(&Upgrade::to(0).host("localhost").bytes()).unwrap();
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
        stream.write_all(&Upgrade::to(0).host("localhost").bytes()).unwrap();
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

/// `openclaw node` on its own has nobody to ask.
#[test]
fn sec_a53_a_headless_node_has_nobody_to_ask() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({"version": 1, "defaults": {"security": "allowlist", "ask": "on-miss"}}));
    let port = support::free_port().to_string();
    let _gateway = Process::spawn(scratch.openclaw(&["gateway", "--port", &port]));
    wait_until("the gateway", || UnixStream::connect(scratch.state().join("gateway.sock")).ok());
    let _node = Process::spawn(scratch.openclaw(&["node", "--port", &port, "--exec-host", "local"]));
    let mut admin = operator(&scratch, ADMIN);
    let request = wait_until("the surface", || {
        let list = admin.request("node.pair.list", json!({})).unwrap();
        list["pending"][0]["requestId"].as_str().map(str::to_owned)
    });
    admin.request("node.pair.approve", json!({"requestId": request})).unwrap();
    let mut owner = Owner::of(&scratch);
    let (code, message) = node_error(owner.edit(|file| file["defaults"]["security"] = json!("full")));
    assert!(code == "APPROVAL_REQUIRED" && message.contains("nobody can be asked"), "{message}");
    owner.edit(|file| file["defaults"]["security"] = json!("deny")).unwrap();
}
