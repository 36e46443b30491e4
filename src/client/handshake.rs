//! From a place to a logged-in peer: dial, upgrade, the gateway's key, challenge, `connect`,
//! `hello-ok`. No secret leaves before the gateway's key was checked.

use super::endpoint::Endpoint;
use super::error::ConnectError;
use super::gateway_key;
use super::options::ConnectOptions;
use super::tunnel::Ssh;
use crate::identity::random;
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::connect::Role;
use crate::protocol::connect::{
    DevicePayload, DeviceProof, HelloOk, PROTOCOL, PROTOCOL_OLDEST, PayloadForm, SecretText, device_payload,
};
use crate::protocol::error::WireError;
use crate::protocol::frame::{self, Incoming};
use crate::sys::connect::connect_unix;
use crate::sys::{process, socket};
use crate::transport::http;
use crate::transport::outbox::{Kind, Pushed};
use crate::transport::peer::{End, Peer};
use crate::transport::stream::Stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the gateway granted.
pub struct Hello {
    /// Negotiated protocol.
    pub protocol: u32,
    /// `server.version`.
    pub server_version: String,
    /// `server.connId`.
    pub connection_id: String,
    /// What this connection may do.
    pub scopes: Vec<String>,
    /// The token of this device, to be kept for later logins.
    pub device_token: Option<Secret>,
    /// A gateway that is silent for longer than two of these is gone.
    pub tick_interval: Duration,
    /// The key that the gateway proved; none for a gateway that has none.
    pub gateway_key: Option<String>,
}

/// How far a login got, as it happens.
pub enum Step<'a> {
    /// There is somebody who listens.
    Reached,
    /// It speaks WebSocket, and proved this gateway key.
    Upgraded(Option<&'a str>),
    /// It sent a challenge: its clock, milliseconds since 1970.
    Challenged(i64),
    /// It answered `connect` with this `hello-ok`.
    Answered(&'a RawValue),
}

/// Who follows a login, and how long each of its waits may take.
pub struct Watch<'a> {
    /// At most [`limits::CONNECT_DEADLINE`].
    pub limit: Duration,
    /// Hears each step.
    pub on_step: &'a mut dyn FnMut(Step<'_>),
}

/// One try to log in; a refusal may name another way.
#[derive(Clone, Copy)]
struct Attempt {
    protocol: u32,
    /// Leave the shared token away and show the device token.
    device_token_only: bool,
    /// Leave that away too and show what the setup link says.
    bootstrap_only: bool,
}

/// Logs in.
///
/// # Errors
/// See [`ConnectError`]; the connection is closed then.
pub fn log_in(
    endpoint: &Endpoint,
    options: &ConnectOptions,
    watch: &mut Watch<'_>,
) -> Result<(Peer, Hello), ConnectError> {
    let mut attempt = Attempt { protocol: PROTOCOL, device_token_only: false, bootstrap_only: false };
    loop {
        match try_once(endpoint, options, attempt, watch) {
            Err(ConnectError::Refused(error)) => {
                attempt = attempt.after(&error, options).ok_or(ConnectError::Refused(error))?;
            }
            other => return other,
        }
    }
}

impl Attempt {
    /// The other way that a refusal names; each at most once.
    fn after(self, error: &WireError, options: &ConnectOptions) -> Option<Self> {
        let detail = |name: &str| error.details.as_ref().and_then(|details| details.get(name));
        match error.detail_code() {
            "PROTOCOL_MISMATCH" if self.protocol == PROTOCOL => (detail("expectedProtocol")
                == Some(&json!(PROTOCOL_OLDEST)))
            .then_some(Self { protocol: PROTOCOL_OLDEST, ..self }),
            "AUTH_TOKEN_MISMATCH" if !self.device_token_only => (detail("canRetryWithDeviceToken")
                == Some(&Value::Bool(true))
                && options.credentials.token.is_some()
                && options.credentials.device_token.is_some())
            .then_some(Self { device_token_only: true, ..self }),
            "AUTH_DEVICE_TOKEN_MISMATCH" if !self.bootstrap_only => {
                options.credentials.bootstrap_token.is_some().then_some(Self { bootstrap_only: true, ..self })
            }
            _ => None,
        }
    }
}

fn try_once(
    endpoint: &Endpoint,
    options: &ConnectOptions,
    attempt: Attempt,
    watch: &mut Watch<'_>,
) -> Result<(Peer, Hello), ConnectError> {
    let pinned = match &options.pins {
        Some(pins) => pins.pinned(&endpoint.pin_name()).map_err(ConnectError::Pins)?,
        None => None,
    };
    let (stream, ssh) = dial(endpoint, watch.limit)?;
    (watch.on_step)(Step::Reached);
    let logged_in = on_stream(stream, endpoint, options, attempt, pinned.as_deref(), watch);
    match (ssh, &logged_in) {
        (Some(ssh), Ok(_)) => ssh.connected(),
        (Some(ssh), Err(ConnectError::Upgrade(..) | ConnectError::Closed(..))) => {
            if let Some(trouble) = ssh.trouble() {
                return Err(ConnectError::Tunnel(trouble));
            }
        }
        _ => {}
    }
    logged_in
}

fn on_stream(
    stream: Stream,
    endpoint: &Endpoint,
    options: &ConnectOptions,
    attempt: Attempt,
    pinned: Option<&str>,
    watch: &mut Watch<'_>,
) -> Result<(Peer, Hello), ConnectError> {
    let deadline = Instant::now() + watch.limit;
    let upgraded = http::request_upgrade(&stream, &endpoint.host_header(), deadline)
        .map_err(|error| ConnectError::Upgrade(endpoint.clone(), error))?;
    let proven = gateway_key::check(upgraded.gateway_key.as_deref(), &upgraded.key, pinned)
        .map_err(|error| ConnectError::GatewayKey(endpoint.clone(), error))?;
    (watch.on_step)(Step::Upgraded(proven.as_deref()));
    let mut peer = Peer::new(Arc::new(stream), upgraded.early, tungstenite::protocol::Role::Client);
    // An official hello-ok is larger than what a gateway reads before login.
    peer.logged_in();
    let challenge = match read_challenge(&mut peer, watch.limit) {
        Ok(challenge) => challenge,
        Err(end) => return Err(end_early(peer, endpoint, end, (1008, "connect challenge timeout"))),
    };
    (watch.on_step)(Step::Challenged(challenge.signed_at));
    let id = format!("1:{}", random::uuid());
    let request = frame::request(&id, "connect", Some(&connect_params(options, &challenge, attempt)));
    if peer.outbox().text(request, Kind::Must) == Pushed::Closed {
        return Err(end_early(peer, endpoint, End::Broken, (1008, "connect failed")));
    }
    let answer = match read_answer(&mut peer, &id, watch.limit) {
        Ok(answer) => answer,
        Err(end) => return Err(end_early(peer, endpoint, end, (4000, "connect timeout"))),
    };
    let judged = answer
        .map_err(ConnectError::from_refusal)
        .and_then(|payload| {
            let hello = read_hello(endpoint, options.role, &payload, proven)?;
            (watch.on_step)(Step::Answered(&payload));
            Ok(hello)
        })
        .and_then(|hello| {
            pin(options, &endpoint.pin_name(), pinned.is_some(), hello.gateway_key.as_deref())?;
            Ok(hello)
        });
    match judged {
        Ok(hello) => Ok((peer, hello)),
        Err(error) => {
            peer.close(1008, "connect failed");
            Err(error)
        }
    }
}

/// Ends a peer that did not get to an answer.
fn end_early(peer: Peer, endpoint: &Endpoint, end: End, (code, reason): (u16, &str)) -> ConnectError {
    match end {
        End::Deadline => {
            peer.close(code, reason);
            if code == 1008 {
                ConnectError::NoChallenge(endpoint.clone())
            } else {
                ConnectError::NoAnswer(endpoint.clone())
            }
        }
        end => {
            peer.end(&end);
            ConnectError::Closed(endpoint.clone(), end)
        }
    }
}

/// The key of the first successful login holds from then on.
fn pin(options: &ConnectOptions, place: &str, known: bool, proven: Option<&str>) -> Result<(), ConnectError> {
    let (Some(pins), Some(key), false) = (&options.pins, proven, known) else { return Ok(()) };
    if !pins.pin(place, key).map_err(ConnectError::Pins)? {
        crate::log!("client", "the key of {place} was not pinned: {} places are pinned already", limits::GATEWAY_PINS);
    }
    Ok(())
}

/// The way there and nothing more, for one who passes on what another says.
///
/// # Errors
/// See [`ConnectError`].
pub fn reach(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    dial(endpoint, limits::CONNECT_DEADLINE).map(|(stream, _)| stream)
}

fn dial(endpoint: &Endpoint, limit: Duration) -> Result<(Stream, Option<Arc<Ssh>>), ConnectError> {
    match endpoint {
        Endpoint::Socket(path) => return dial_socket(path, endpoint, limit).map(|stream| (stream, None)),
        Endpoint::Ssh(tunnel) => {
            return tunnel.open().map(|(stream, ssh)| (stream, Some(ssh))).map_err(ConnectError::Tunnel);
        }
        Endpoint::Tcp { .. } => {}
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in endpoint.addresses() {
        match TcpStream::connect_timeout(&address, limit).and_then(Stream::tcp) {
            Ok(stream) => return Ok((stream, None)),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Unreachable(endpoint.clone(), last))
}

/// Nothing is sent before file and process are known to be ours.
fn dial_socket(path: &Path, endpoint: &Endpoint, limit: Duration) -> Result<Stream, ConnectError> {
    let unreachable = |error| ConnectError::Unreachable(endpoint.clone(), error);
    let not_ours = |what: &str| ConnectError::NotOurs(path.to_path_buf(), what.to_owned());
    let found = fs::symlink_metadata(path).map_err(unreachable)?;
    if found.file_type().is_symlink() {
        return Err(not_ours("is a symbolic link"));
    }
    if !found.file_type().is_socket() {
        return Err(not_ours("is not a socket"));
    }
    let us = process::effective_uid();
    if found.uid() != us {
        return Err(not_ours("belongs to another user"));
    }
    let stream = connect_unix(path, limit).map_err(unreachable)?;
    match socket::peer_uid(stream.as_fd()) {
        Ok(uid) if uid == us => Ok(Stream::unix(stream)),
        Ok(_) => Err(not_ours("is served by a process of another user")),
        Err(error) => Err(unreachable(error)),
    }
}

struct Challenge {
    nonce: String,
    signed_at: i64,
}

fn read_challenge(peer: &mut Peer, limit: Duration) -> Result<Challenge, End> {
    #[derive(Deserialize)]
    struct Payload {
        nonce: String,
        // A fraction here fails, as in the official client.
        ts: i64,
    }
    peer.set_deadline(Instant::now() + limit);
    loop {
        let text = peer.receive()?;
        let Ok(incoming) = serde_json::from_str::<Incoming<'_>>(&text) else { continue };
        if incoming.event.as_deref() != Some("connect.challenge") {
            continue;
        }
        let payload = incoming.payload.and_then(|payload| serde_json::from_str::<Payload>(payload.get()).ok());
        return match payload {
            Some(payload) if !payload.nonce.is_empty() => Ok(Challenge { nonce: payload.nonce, signed_at: payload.ts }),
            _ => Err(End::Protocol("connect challenge invalid")),
        };
    }
}

/// The answer to `connect`; what else comes before it is not for us yet.
fn read_answer(peer: &mut Peer, id: &str, limit: Duration) -> Result<Result<Box<RawValue>, WireError>, End> {
    peer.set_deadline(Instant::now() + limit);
    loop {
        let text = peer.receive()?;
        let Ok(incoming) = serde_json::from_str::<Incoming<'_>>(&text) else { continue };
        if incoming.kind != "res" || incoming.id.as_deref() != Some(id) {
            continue;
        }
        return Ok(match (incoming.ok, incoming.payload) {
            (true, Some(payload)) => Ok(payload.to_owned()),
            _ => Err(incoming.error.unwrap_or_else(|| WireError::unavailable("refused without a reason"))),
        });
    }
}

fn connect_params(options: &ConnectOptions, challenge: &Challenge, attempt: Attempt) -> Value {
    let credentials = &options.credentials;
    let shared = credentials.token.as_ref().filter(|_| !attempt.device_token_only);
    let password = credentials.password.as_ref().filter(|_| !attempt.device_token_only);
    let device_token = credentials.device_token.as_ref();
    let device_token = device_token.filter(|_| shared.is_none() && password.is_none() && !attempt.bootstrap_only);
    let bootstrap = credentials.bootstrap_token.as_ref();
    let bootstrap = bootstrap.filter(|_| shared.is_none() && password.is_none() && device_token.is_none());
    let mut auth = Map::new();
    let mut show = |name: &str, secret: Option<&Secret>| {
        if let Some(secret) = secret {
            auth.insert(name.to_owned(), json!(secret.expose_text()));
        }
    };
    show("token", shared);
    show("password", password);
    show("deviceToken", device_token);
    show("bootstrapToken", bootstrap);
    let mut params = json!({
        "minProtocol": attempt.protocol,
        "maxProtocol": attempt.protocol,
        "client": &options.client,
        "caps": &options.surface.caps,
        "role": options.role.word(),
        "scopes": &options.scopes,
    });
    let mut set = |name: &str, value: Value| {
        if let Some(members) = params.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if options.role == Role::Node {
        set("commands", json!(&options.surface.commands));
    }
    if let Some(permissions) = &options.surface.permissions {
        set("permissions", json!(permissions));
    }
    if let Some(path_env) = &options.path_env {
        set("pathEnv", json!(path_env));
    }
    let signed_token = shared.or(device_token).or(bootstrap).map_or("", Secret::expose_text);
    if let Some(proof) = device_proof(options, challenge, signed_token) {
        set("device", json!(proof));
    }
    if !auth.is_empty() {
        set("auth", Value::Object(auth));
    }
    params
}

fn device_proof(options: &ConnectOptions, challenge: &Challenge, token: &str) -> Option<DeviceProof> {
    let device = options.device.as_ref()?;
    let device_id = device.id();
    let payload = DevicePayload {
        device_id: &device_id,
        client_id: &options.client.id,
        client_mode: &options.client.mode,
        role: options.role.word(),
        scopes: &options.scopes,
        signed_at: challenge.signed_at,
        token,
        nonce: &challenge.nonce,
        platform: &options.client.platform,
        device_family: options.client.device_family.as_deref().unwrap_or_default(),
    };
    let signature = device.sign(&device_payload(PayloadForm::V3, &payload));
    Some(DeviceProof {
        public_key: device.public_key_base64url(),
        signature,
        signed_at: challenge.signed_at,
        nonce: challenge.nonce.clone(),
        id: device_id,
    })
}

fn read_hello(
    endpoint: &Endpoint,
    role: Role,
    payload: &RawValue,
    gateway_key: Option<String>,
) -> Result<Hello, ConnectError> {
    #[derive(Deserialize)]
    struct Frame {
        #[serde(rename = "type")]
        kind: String,
        auth: Token,
    }
    #[derive(Deserialize)]
    struct Token {
        #[serde(rename = "deviceToken", default)]
        device_token: Option<SecretText>,
    }
    let bad = |why: String| ConnectError::BadHello(endpoint.clone(), why);
    let hello: HelloOk = serde_json::from_str(payload.get()).map_err(|error| bad(error.to_string()))?;
    let frame: Frame = serde_json::from_str(payload.get()).map_err(|error| bad(error.to_string()))?;
    if frame.kind != "hello-ok" || hello.auth.role != role.word() {
        return Err(bad("not a hello-ok for this role".to_owned()));
    }
    let server = |name: &str| hello.server.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let tick = match hello.policy.tick_interval_ms {
        0 => limits::TICK_INTERVAL,
        millis => Duration::from_millis(millis).max(limits::TICK_INTERVAL_MIN),
    };
    Ok(Hello {
        protocol: hello.protocol,
        server_version: server("version"),
        connection_id: server("connId"),
        scopes: hello.auth.scopes,
        device_token: frame.auth.device_token.map(|token| Secret::new(token.expose().to_owned())),
        tick_interval: tick.min(limits::TICK_INTERVAL_MAX),
        gateway_key,
    })
}
