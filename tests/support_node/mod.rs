//! A gateway that does what a test says, for clients and nodes in this process.
#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use openclaw::client::{Credentials, Endpoint, gateway_key};
use openclaw::identity::device::DeviceKey;
use openclaw::identity::secret::Secret;
use openclaw::transport::outbox::Kind;
use openclaw::transport::peer::{End, Peer};
use openclaw::transport::{http, stream::Stream};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::protocol::Role as Side;

pub const TOKEN: &str = "the-shared-token-of-this-test";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A listening gateway that does what a test says.
pub struct Script(pub TcpListener);

/// One connection of it, after the upgrade.
pub struct Seat(pub Peer);

impl Script {
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_host("127.0.0.1", self.0.local_addr().unwrap().port()).unwrap()
    }

    /// Accepts, proves `key`, sends the challenge.
    pub fn seat(&self, key: Option<&DeviceKey>) -> Seat {
        let stream = Stream::tcp(self.0.accept().unwrap().0).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let head = http::read_head(&stream, deadline).unwrap();
        let proof = key.map(|key| {
            let signature = key.sign(&gateway_key::signed_text(head.key().unwrap()));
            gateway_key::header_value(&key.public_key_base64url(), &signature)
        });
        http::accept_upgrade(&stream, &head, proof.as_deref(), deadline).unwrap();
        let mut seat = Seat(Peer::new(Arc::new(stream), head.early, Side::Server));
        seat.0.logged_in();
        seat.event("connect.challenge", &json!({"nonce": "n-1", "ts": 1_795_246_599_019_i64}));
        seat
    }

    /// A seat whose client has logged in; its `connect` parameters.
    pub fn logged_in(&self) -> (Seat, Value) {
        let mut seat = self.seat(None);
        let connect = seat.read().unwrap();
        seat.hello(&connect);
        (seat, connect["params"].clone())
    }

    pub fn is_untouched(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.accept().is_err()
    }
}

/// Whether a node tells something of itself, as after each login.
pub fn is_of_itself(frame: &Value) -> bool {
    frame["params"]["event"] == "node.host.stats"
        || ["node.skills.update", "node.pluginTools.update"].iter().any(|method| frame["method"] == *method)
}

impl Seat {
    pub fn send(&self, frame: &Value) {
        self.0.outbox().text(frame.to_string(), Kind::Must);
    }

    pub fn event(&self, name: &str, payload: &Value) {
        self.send(&json!({"type": "event", "event": name, "payload": payload}));
    }

    pub fn read(&mut self) -> Result<Value, End> {
        self.0.set_deadline(Instant::now() + PATIENCE);
        Ok(serde_json::from_str(&self.0.receive()?).unwrap())
    }

    pub fn hello(&self, connect: &Value) {
        assert_eq!(connect["method"], "connect");
        let role = &connect["params"]["role"];
        self.send(&json!({"type": "res", "id": connect["id"], "ok": true, "payload": {
            "type": "hello-ok", "protocol": connect["params"]["maxProtocol"],
            "server": {"version": "test", "connId": "c"}, "auth": {"role": role, "scopes": []},
            "policy": {"tickIntervalMs": 30_000}}}));
    }

    pub fn refuse(&mut self, connect: &Value, code: &str, details: &Value) {
        self.send(&json!({"type": "res", "id": connect["id"], "ok": false,
            "error": {"code": code, "message": "refused", "details": details}}));
    }

    pub fn invoke(&self, node: &Value, id: &str, command: &str, params: &str, timeout_ms: u64, key: &str) {
        self.event(
            "node.invoke.request",
            &json!({"id": id, "nodeId": node["device"]["id"], "command": command,
            "paramsJSON": params, "timeoutMs": timeout_ms, "idempotencyKey": key}),
        );
    }

    /// The next request of a node, acknowledged; what it says of its machine is passed over.
    pub fn request(&mut self) -> (String, Value) {
        let mut frame = self.read().unwrap();
        while is_of_itself(&frame) {
            frame = self.read().unwrap();
        }
        self.send(&json!({"type": "res", "id": frame["id"], "ok": true, "payload": {"ok": true}}));
        (frame["method"].as_str().unwrap().to_owned(), frame["params"].clone())
    }

    /// The next result, which must come without an event before it.
    pub fn result(&mut self) -> Value {
        let (method, params) = self.request();
        assert_eq!(method, "node.invoke.result");
        params
    }
}

pub fn credentials() -> Credentials {
    Credentials { token: Some(Secret::new(TOKEN.to_owned())), ..Credentials::default() }
}
