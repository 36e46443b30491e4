//! A gateway that says exactly what a test wants: what a node does when its gateway lies.

use super::DEADLINE;
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::protocol::{Message, WebSocket};

/// Listens, and takes one node after the other.
pub struct ScriptedGateway(TcpListener);

impl ScriptedGateway {
    /// On a free port.
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// Waits for a node and lets it in.
    pub fn seat(&self) -> Seat {
        self.0.set_nonblocking(true).unwrap();
        let end = Instant::now() + DEADLINE;
        let stream = loop {
            match self.0.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert!(Instant::now() < end, "no node came: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut seat = Seat { socket: tungstenite::accept(stream).unwrap(), node: String::new(), invokes: 0 };
        seat.event("connect.challenge", &json!({"nonce": "n-1", "ts": 1_795_246_599_019_i64}));
        let connect = seat.read();
        assert_eq!(connect["method"], "connect", "{connect}");
        seat.node = connect["params"]["device"]["id"].as_str().unwrap().to_owned();
        seat.answer(
            &connect,
            &json!({"type": "hello-ok", "protocol": connect["params"]["maxProtocol"],
                "server": {"version": "test", "connId": "c"}, "auth": {"role": "node", "scopes": []},
                "policy": {"tickIntervalMs": 30_000}}),
        );
        seat
    }
}

/// The connection of a node that was let in.
pub struct Seat {
    socket: WebSocket<TcpStream>,
    node: String,
    invokes: u32,
}

impl Seat {
    /// The payload of one invocation, or its error.
    pub fn invoke(&mut self, command: &str, params: &Value) -> Result<Value, Value> {
        self.invoke_all(command, std::slice::from_ref(params)).remove(0).1
    }

    /// Sends all invocations before it reads anything. Their answers as they come, each with its place among
    /// `params`.
    pub fn invoke_all(&mut self, command: &str, params: &[Value]) -> Vec<(usize, Result<Value, Value>)> {
        let first = self.invokes;
        for params in params {
            let number = self.invokes;
            self.invokes += 1;
            let payload = json!({"id": format!("i-{number}"), "nodeId": self.node, "command": command,
                "paramsJSON": params.to_string(), "timeoutMs": 60_000, "idempotencyKey": format!("k-{number}")});
            self.event("node.invoke.request", &payload);
        }
        let mut answers = Vec::new();
        while answers.len() < params.len() {
            let frame = self.read();
            self.answer(&frame, &json!({"ok": true}));
            let result = &frame["params"];
            if frame["method"] == "node.invoke.result" {
                let number: u32 = result["id"].as_str().unwrap()[2..].parse().unwrap();
                let answer = if result["ok"] == true {
                    Ok(serde_json::from_str(result["payloadJSON"].as_str().unwrap()).unwrap())
                } else {
                    Err(result["error"].clone())
                };
                answers.push(((number - first) as usize, answer));
            }
        }
        answers
    }

    fn event(&mut self, name: &str, payload: &Value) {
        self.send(&json!({"type": "event", "event": name, "payload": payload}));
    }

    fn answer(&mut self, request: &Value, payload: &Value) {
        self.send(&json!({"type": "res", "id": request["id"], "ok": true, "payload": payload}));
    }

    fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    /// The next request.
    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}
