//! What each further peer costs: memory, and time of everybody's calls.

use crate::gateway::{Client, Invocation, Server, TOKEN};
use crate::{Figure, Outcome, at, milliseconds, percentile, resident_kib, sample};
use openclaw::identity::device::DeviceKey;
use openclaw::protocol::connect::{DevicePayload, PayloadForm, device_payload};
use openclaw::sys::poll::{self, Interest};
use openclaw::sys::process;
use serde_json::{Map, Value, json};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nodes and further operators of each round.
const ROUNDS: [(usize, usize); 5] = [(1, 0), (10, 0), (100, 0), (1_000, 100), (5_000, 0)];
/// Threads that connect the peers, and then read for them.
const THREADS: usize = 4;
/// How long a gateway is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// What a peer may take beyond the kernel's share, KiB.
const PEER_KIB: f64 = 64.0;
/// What a list of a thousand nodes may take, ms.
const LIST_MS: f64 = 20.0;
/// What all nodes say of themselves; the signature covers it.
const ID: &str = "node-host";
const MODE: &str = "node";
const ROLE: &str = "node";
const PLATFORM: &str = "linux";
const FAMILY: &str = "Linux";
const COMMAND: &str = "system.which";
const MS: i64 = 1_700_000_000_000;

/// The figures of every round, one measure after the other, so that each shows how it grows.
pub fn figures(samples: &impl Fn(usize) -> usize) -> Outcome<Vec<Figure>> {
    process::settle(); // thousands of descriptors
    let lone = Crowd::gather(1, 0)?;
    let rounds = ROUNDS.iter().map(|&(nodes, operators)| round(nodes, operators, &lone, samples));
    let rounds = rounds.collect::<Outcome<Vec<_>>>()?;
    lone.end()?;
    let mut columns: Vec<_> = rounds.into_iter().map(Vec::into_iter).collect();
    let mut figures = Vec::new();
    while let Some(row) = columns.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
        figures.extend(row);
    }
    Ok(figures)
}

/// A gateway with so many peers, beside one with a single node at the same time.
fn round(nodes: usize, operators: usize, lone: &Crowd, samples: &impl Fn(usize) -> usize) -> Outcome<Vec<Figure>> {
    let crowd = Crowd::gather(nodes, operators)?;
    let peers = match (nodes, operators) {
        (1, 0) => "1 node".to_owned(),
        (_, 0) => format!("{nodes} nodes"),
        _ => format!("{nodes} nodes, {operators} operators"),
    };
    let (mut operator, mut lone_operator) = (crowd.server.operator()?, lone.server.operator()?);
    let mut lists = Vec::new();
    for _ in 0..samples(50) {
        let started = Instant::now();
        operator.call_text("node.list", &json!({}))?;
        lists.push(started.elapsed());
    }
    let (call, lone_call) = (&crowd.call, &lone.call);
    let times = sample(samples(3000), || operator.invoke(call), || lone_operator.invoke(lone_call))?;
    let figure = |name: &str, unit, ours| Figure::new(format!("{name}, {peers}"), unit, ours);
    let at_once = |limit| (nodes <= 1_000).then_some(limit);
    let all_in = milliseconds(crowd.all_in) / (nodes + operators) as f64;
    let figures = vec![
        figure("until connected, each", "ms", all_in),
        Figure {
            target: Some(PEER_KIB),
            ..figure("memory of each", "KiB", crowd.memory_kib / (nodes + operators) as f64)
        },
        Figure { target: at_once(LIST_MS), ..figure("node.list, p50", "ms", milliseconds(percentile(&mut lists, 50))) },
        figure("node.list, p99", "ms", milliseconds(percentile(&mut lists, 99))),
        at(format!("invoke, and with one node, p50, {peers}"), 50, &times),
        at(format!("invoke, and with one node, p99, {peers}"), 99, &times),
    ];
    crowd.end()?;
    Ok(figures)
}

/// A gateway with many peers. The first node answers; the others are only there.
struct Crowd {
    server: Arc<Server>,
    call: Invocation,
    threads: Vec<JoinHandle<()>>,
    /// From the first connection to the last `hello-ok`.
    all_in: Duration,
    /// What the gateway grew by.
    memory_kib: f64,
}

impl Crowd {
    /// Starts the gateway, which knows these nodes already, and connects them.
    fn gather(nodes: usize, operators: usize) -> Outcome<Self> {
        let keys: Vec<DeviceKey> = (0..nodes).map(|_| DeviceKey::generate()).collect();
        let prepared = Server::prepare()?;
        let by_id = |record: fn(&DeviceKey) -> Value| -> Map<String, Value> {
            keys.iter().map(|key| (key.id(), record(key))).collect()
        };
        prepared.write("devices/paired.json", &by_id(device_record).into())?;
        prepared.write("nodes/paired.json", &by_id(surface_record).into())?;
        let server = Arc::new(prepared.spawn("gateway", &["run"])?);
        // What the first peer of a kind costs is not what each costs.
        drop((server.operator()?, keys.first().map(|key| connect(&server, key)).transpose()?));
        let before = resident_kib(server.pid())?;

        let id = keys.first().map(DeviceKey::id);
        let call = Invocation::new(&json!({"nodeId": id, "command": COMMAND, "params": {"bins": ["sh"]}}));
        let started = Instant::now();
        let mut threads = Vec::new();
        if operators > 0 {
            let all = (0..operators).map(|_| server.operator()).collect::<Outcome<Vec<_>>>()?;
            threads.push(thread::spawn(move || hold(all)));
        }
        let mut keys = keys.into_iter();
        let mut first = keys.next().map(|key| connect(&server, &key)).ok_or("a crowd has a node")??;
        first.wait_for_ever()?;
        threads.push(thread::spawn(move || while serve(&mut first).is_ok() {}));
        let keys: Vec<DeviceKey> = keys.collect();
        let parts = thread::scope(|scope| {
            let connect_part = |part: &[DeviceKey]| {
                // Not every error can leave its thread; its text can.
                let all: Outcome<Vec<Client>> = part.iter().map(|key| connect(&server, key)).collect();
                all.map_err(|error| error.to_string())
            };
            let parts = keys.chunks(keys.len().div_ceil(THREADS).max(1));
            let parts: Vec<_> = parts.map(|part| scope.spawn(move || connect_part(part))).collect();
            parts
                .into_iter()
                .map(|part| part.join().map_err(|_| "a thread ended".to_owned()).flatten())
                .collect::<Vec<_>>()
        });
        let all_in = started.elapsed();
        for part in parts {
            let part = part?;
            threads.push(thread::spawn(move || hold(part)));
        }
        thread::sleep(SETTLE); // the measurement is what is resident when all is said
        let memory_kib = resident_kib(server.pid())? - before;
        Ok(Self { server, call, threads, all_in, memory_kib })
    }

    /// Ends the gateway, and with it everything here.
    fn end(self) -> Outcome<()> {
        drop(self.server);
        self.threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread ended".into()))
    }
}

/// A paired node that is known by a device token, so that nothing is written when it connects.
fn device_record(key: &DeviceKey) -> Value {
    let token = json!({"sha256": "", "scopes": [], "createdAtMs": MS});
    json!({
        "deviceId": key.id(), "publicKey": key.public_key_base64url(), "client": client(), "roles": [ROLE], "scopes": [],
        "approvedVia": "owner", "createdAtMs": MS, "approvedAtMs": MS, "tokens": {ROLE: token},
    })
}

/// Its surface, approved.
fn surface_record(key: &DeviceKey) -> Value {
    json!({
        "nodeId": key.id(), "surface": {"caps": ["system"], "commands": [COMMAND]}, "client": client(), "createdAtMs": MS,
        "approvedAtMs": MS, "lastSeenAtMs": MS, "lastSeenReason": "connect",
    })
}

fn client() -> Value {
    json!({"id": ID, "displayName": "a node", "version": "bench", "platform": PLATFORM, "deviceFamily": FAMILY, "mode": MODE})
}

/// Logs a node in.
fn connect(server: &Server, key: &DeviceKey) -> Outcome<Client> {
    server.connect(|challenge| {
        let member = |name: &str| challenge.pointer(&format!("/payload/{name}"));
        let nonce = member("nonce").and_then(Value::as_str).unwrap_or_default();
        let signed_at = member("ts").and_then(Value::as_i64).unwrap_or_default();
        let payload = DevicePayload {
            device_id: &key.id(),
            client_id: ID,
            client_mode: MODE,
            role: ROLE,
            scopes: &[],
            signed_at,
            token: TOKEN,
            nonce,
            platform: PLATFORM,
            device_family: FAMILY,
        };
        let signature = key.sign(&device_payload(PayloadForm::V3, &payload));
        json!({
            "minProtocol": 4, "maxProtocol": 4, "client": client(), "role": ROLE, "scopes": [], "caps": ["system"],
            "commands": [COMMAND], "auth": {"token": TOKEN},
            "device": {"id": key.id(), "publicKey": key.public_key_base64url(), "signature": signature, "signedAt": signed_at, "nonce": nonce},
        })
    })
}

/// Answers the next invocation.
fn serve(node: &mut Client) -> Outcome<()> {
    let frame: Value = serde_json::from_str(&node.frame_of("event")?)?;
    if frame.get("event").and_then(Value::as_str) == Some("node.invoke.request") {
        let member = |name: &str| frame.pointer(&format!("/payload/{name}"));
        let params =
            json!({"id": member("id"), "nodeId": member("nodeId"), "ok": true, "payload": {"bins": {"sh": "/bin/sh"}}});
        node.send(
            json!({"type": "req", "id": "result", "method": "node.invoke.result", "params": params}).to_string(),
        )?;
    }
    Ok(())
}

/// Reads for these peers until the gateway has gone.
fn hold(mut peers: Vec<Client>) {
    peers.retain(|peer| peer.never_wait().is_ok());
    while !peers.is_empty() {
        let waited: Vec<_> = peers.iter().map(|peer| (peer.as_fd(), Interest::Readable)).collect();
        let Ok(ready) = poll::wait(&waited, None) else { return };
        let mut ready = ready.into_iter();
        peers.retain_mut(|peer| ready.next() != Some(true) || peer.discard());
    }
}
