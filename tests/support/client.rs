//! A WebSocket client of the gateway that shows everything: challenge, frames, events, close codes.

use super::device::{Device, Payload};
use super::gateway::{Gateway, TOKEN};
use super::http::{HttpAnswer, Stream, Upgrade, read_answer};
use super::{DEADLINE, QUIET};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tungstenite::protocol::{Message, Role, WebSocket};

/// `connect.challenge`.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub nonce: String,
    /// Milliseconds since 1970.
    pub ts: i64,
    /// The whole frame.
    pub frame: Value,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// 1006 when the stream ended without a close frame, 1005 when that had no code.
    pub code: u16,
    pub reason: String,
}

/// The next thing from the gateway.
#[derive(Clone, Debug)]
pub enum Incoming {
    Frame(Value),
    Closed(Closed),
}

/// Payload of a good response, or the error object of a refusal.
pub type Answer = Result<Value, Value>;

/// One connection. Frames that were not asked for wait in `pending` in their order.
pub struct Client {
    socket: WebSocket<Stream>,
    pending: VecDeque<Value>,
    closed: Option<Closed>,
    counter: u32,
    /// The answer to the upgrade.
    pub upgrade: HttpAnswer,
    /// The first frame.
    pub challenge: Challenge,
}

impl Client {
    /// Connects over TCP and reads the challenge.
    pub fn tcp(gateway: &Gateway) -> Self {
        Self::over(Stream::tcp(gateway.port), &Upgrade::to(gateway.port))
    }

    /// Connects over `<state>/gateway.sock` and reads the challenge.
    pub fn unix(gateway: &Gateway) -> Self {
        Self::unix_at(&gateway.socket())
    }

    /// Connects over a Unix socket and reads the challenge.
    pub fn unix_at(path: &Path) -> Self {
        Self::over(Stream::unix(path), &Upgrade::to(0).host("localhost"))
    }

    /// Upgrades `stream` as `upgrade` says; panics unless the answer is 101 with the right accept key.
    pub fn over(stream: Stream, upgrade: &Upgrade) -> Self {
        Self::try_over(stream, upgrade).unwrap_or_else(|answer| panic!("{answer:?}"))
    }

    /// The same; any other answer than 101 is returned.
    pub fn try_over(mut stream: Stream, upgrade: &Upgrade) -> Result<Self, HttpAnswer> {
        stream.write_all(&upgrade.bytes()).unwrap();
        let answer = read_answer(&mut stream);
        if answer.status != 101 {
            return Err(answer);
        }
        let accept = tungstenite::handshake::derive_accept_key(upgrade.key.as_bytes());
        assert_eq!(answer.header("sec-websocket-accept"), Some(accept.as_str()));
        let socket = WebSocket::from_partially_read(stream, answer.body.clone(), Role::Client, None);
        let challenge = Challenge { nonce: String::new(), ts: 0, frame: Value::Null };
        let mut client =
            Self { socket, pending: VecDeque::new(), closed: None, counter: 0, upgrade: answer, challenge };
        let frame = client.frame();
        assert_eq!(frame["event"], "connect.challenge", "{frame}");
        client.challenge = Challenge {
            nonce: frame["payload"]["nonce"].as_str().unwrap().to_owned(),
            ts: frame["payload"]["ts"].as_i64().unwrap(),
            frame,
        };
        Ok(client)
    }

    /// Connects over TCP and logs in; panics when refused.
    pub fn login(gateway: &Gateway, connect: &Connect) -> Self {
        Self::login_hello(gateway, connect).0
    }

    /// The same, with the payload of `hello-ok`.
    pub fn login_hello(gateway: &Gateway, connect: &Connect) -> (Self, Value) {
        let mut client = Self::tcp(gateway);
        let hello = client.connect(connect).unwrap_or_else(|error| panic!("refused: {error}"));
        assert_eq!(hello["type"], "hello-ok", "{hello}");
        (client, hello)
    }

    /// Sends `connect` and waits for the answer.
    pub fn connect(&mut self, connect: &Connect) -> Answer {
        let params = connect.params(&self.challenge);
        self.connect_with(params)
    }

    /// The same with parameters that a test has changed.
    pub fn connect_with(&mut self, params: Value) -> Answer {
        self.request("connect", params)
    }

    /// Sends one text frame as it is.
    pub fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends one JSON frame.
    pub fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends any WebSocket message. That the peer has already closed shows in what is read.
    pub fn send_message(&mut self, message: Message) {
        drop(self.socket.send(message));
    }

    /// Writes bytes below the WebSocket layer: broken or hand-made frames.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.socket.get_mut().write_all(bytes));
    }

    /// Sends a request, does not wait; returns its id.
    pub fn start(&mut self, method: &str, params: Value) -> String {
        self.counter += 1;
        let id = format!("{}:t", self.counter);
        self.send(&json!({"type": "req", "id": id, "method": method, "params": params}));
        id
    }

    /// Sends a request and waits for its answer.
    pub fn request(&mut self, method: &str, params: Value) -> Answer {
        let id = self.start(method, params);
        self.response(&id)
    }

    /// Waits for the answer to request `id`; panics when the connection ends first.
    pub fn response(&mut self, id: &str) -> Answer {
        let frame = self.take(&format!("answer to {id}"), |frame| frame["type"] == "res" && frame["id"] == id);
        if frame["ok"] == true {
            assert!(frame.get("error").is_none(), "{frame}");
            Ok(frame["payload"].clone())
        } else {
            assert_eq!(frame["ok"], false, "{frame}");
            assert!(frame["error"]["code"].is_string() && frame["error"]["message"].is_string(), "{frame}");
            Err(frame["error"].clone())
        }
    }

    /// Waits for an event and returns the whole frame.
    pub fn event_frame(&mut self, name: &str) -> Value {
        self.take(&format!("event {name}"), |frame| frame["type"] == "event" && frame["event"] == name)
    }

    /// Waits for an event and returns its payload.
    pub fn event(&mut self, name: &str) -> Value {
        self.event_frame(name)["payload"].take()
    }

    /// Panics if an event of that name has come or comes within [`QUIET`].
    pub fn no_event(&mut self, name: &str) {
        let until = Instant::now() + QUIET;
        while let Some(Incoming::Frame(frame)) = self.read(until) {
            self.pending.push_back(frame);
        }
        if let Some(frame) = self.pending.iter().find(|frame| frame["event"] == name) {
            panic!("unexpected {frame}");
        }
    }

    /// The next frame that nobody has taken; panics when the connection ends.
    pub fn frame(&mut self) -> Value {
        self.take("a frame", |_| true)
    }

    /// The first frame, waiting or coming, that `wanted` accepts. Others keep waiting.
    pub fn take(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.pending.iter().position(&wanted) {
            return self.pending.remove(at).unwrap();
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.read(deadline) {
                Some(Incoming::Frame(frame)) if wanted(&frame) => return frame,
                Some(Incoming::Frame(frame)) => self.pending.push_back(frame),
                Some(Incoming::Closed(closed)) => panic!("{closed:?} instead of {what}; before: {:?}", self.pending),
                None => panic!("no {what} in {DEADLINE:?}; but: {:?}", self.pending),
            }
        }
    }

    /// The same with a limit of its own; `None` when nothing of that kind came in time or before the end.
    pub fn find(&mut self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(at) = self.pending.iter().position(&wanted) {
            return self.pending.remove(at);
        }
        let deadline = Instant::now() + within;
        loop {
            match self.read(deadline) {
                Some(Incoming::Frame(frame)) if wanted(&frame) => return Some(frame),
                Some(Incoming::Frame(frame)) => self.pending.push_back(frame),
                Some(Incoming::Closed(_)) | None => return None,
            }
        }
    }

    /// What comes next, in order.
    pub fn next(&mut self) -> Incoming {
        if let Some(frame) = self.pending.pop_front() {
            return Incoming::Frame(frame);
        }
        self.read(Instant::now() + DEADLINE).unwrap_or_else(|| panic!("nothing came in {DEADLINE:?}"))
    }

    /// Reads until the gateway closes; frames on the way are kept. Panics when it does not.
    pub fn closed(&mut self) -> Closed {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.read(deadline) {
                Some(Incoming::Closed(closed)) => return closed,
                Some(Incoming::Frame(frame)) => self.pending.push_back(frame),
                None => panic!("not closed in {DEADLINE:?}; but: {:?}", self.pending),
            }
        }
    }

    /// Frames that have come and were not taken.
    pub fn waiting(&self) -> impl Iterator<Item = &Value> {
        self.pending.iter()
    }

    /// Closes as a client does and waits for the end.
    pub fn close(mut self) -> Closed {
        drop(self.socket.close(None));
        self.closed()
    }

    /// The next frame from the wire; `None` at the deadline. After the end it repeats the end.
    fn read(&mut self, deadline: Instant) -> Option<Incoming> {
        if let Some(closed) = &self.closed {
            return Some(Incoming::Closed(closed.clone()));
        }
        loop {
            self.socket.get_ref().read_until(deadline);
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(Incoming::Frame(serde_json::from_str(&text).unwrap())),
                Ok(Message::Close(frame)) => {
                    let closed = frame.map_or(Closed { code: 1005, reason: String::new() }, |frame| Closed {
                        code: frame.code.into(),
                        reason: frame.reason.to_string(),
                    });
                    // Sends the echo, so that the gateway need not wait for it.
                    drop(self.socket.flush());
                    self.closed = Some(closed.clone());
                    return Some(Incoming::Closed(closed));
                }
                Ok(Message::Binary(bytes)) => panic!("binary message from the gateway: {bytes:?}"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    if Instant::now() >= deadline {
                        return None;
                    }
                }
                Err(error) => {
                    let closed = Closed { code: 1006, reason: error.to_string() };
                    self.closed = Some(closed.clone());
                    return Some(Incoming::Closed(closed));
                }
            }
        }
    }

    /// The next frame or the end; `None` at `deadline`.
    pub fn poll(&mut self, deadline: Instant) -> Option<Incoming> {
        match self.pending.pop_front() {
            Some(frame) => Some(Incoming::Frame(frame)),
            None => self.read(deadline),
        }
    }

    /// Whether the connection stays open for `time`; frames that come are kept.
    pub fn stays_open(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match self.read(until) {
                Some(Incoming::Frame(frame)) => self.pending.push_back(frame),
                Some(Incoming::Closed(_)) => return false,
                None => return true,
            }
        }
    }
}

/// Builds the parameters of `connect`.
#[derive(Clone)]
pub struct Connect {
    params: Value,
    device: Option<Device>,
    payload: Payload,
    signed_at_skew: i64,
}

impl Connect {
    /// Any client on Linux with the shared token of [`TOKEN`].
    pub fn new(id: &str, mode: &str, role: &str, scopes: &[&str]) -> Self {
        let params = json!({
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": {"id": id, "version": "0.0.1", "platform": "linux", "deviceFamily": "Linux", "mode": mode},
            "caps": [],
            "role": role,
            "scopes": scopes,
            "auth": {"token": TOKEN},
        });
        Self { params, device: None, payload: Payload::V3, signed_at_skew: 0 }
    }

    /// As the official command line connects: no device. frames/cli-gateway-call-health.json
    pub fn cli(scopes: &[&str]) -> Self {
        Self::new("cli", "cli", "operator", scopes)
    }

    /// As the official backend client connects: no device. frames/cli-nodes-approve.json
    pub fn backend(scopes: &[&str]) -> Self {
        Self::new("gateway-client", "backend", "operator", scopes)
    }

    /// As a node host connects. frames/node-first-connect.json
    pub fn node(device: &Device, surface: &super::node::Surface) -> Self {
        let mut connect = Self::new("node-host", "node", "node", &[]).device(device);
        for (name, value) in surface.connect_members() {
            connect = connect.set(&name, value);
        }
        connect
    }

    /// Signs with this device.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Signs the older or the newer text (default: v3).
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Signs with a clock that is wrong by so many milliseconds.
    pub fn skew(mut self, millis: i64) -> Self {
        self.signed_at_skew = millis;
        self
    }

    /// Sends this shared token.
    pub fn token(self, token: &str) -> Self {
        self.auth(json!({"token": token}))
    }

    /// Sends this device token in `auth.deviceToken`.
    pub fn device_token(self, token: &str) -> Self {
        self.auth(json!({"deviceToken": token}))
    }

    /// Sends exactly this `auth` object.
    pub fn auth(self, auth: Value) -> Self {
        self.set("auth", auth)
    }

    /// Leaves `auth` out.
    pub fn no_auth(mut self) -> Self {
        self.params.as_object_mut().unwrap().remove("auth");
        self
    }

    /// Sets a member before signing; `name` may be a path such as `client/displayName`.
    pub fn set(mut self, name: &str, value: Value) -> Self {
        let mut place = &mut self.params;
        for step in name.split('/') {
            place = &mut place[step];
        }
        *place = value;
        self
    }

    /// The finished parameters for a connection with this challenge.
    pub fn params(&self, challenge: &Challenge) -> Value {
        let mut params = self.params.clone();
        if let Some(device) = &self.device {
            let signed_at = challenge.ts + self.signed_at_skew;
            params["device"] = device.proof(&params, self.payload, &challenge.nonce, signed_at);
        }
        params
    }
}
