//! From an upgraded connection to a [`Session`], or to a refusal. The order of checks is the
//! original's (spec gateway §3): frame, protocol range, role, shared secret, device proof, token,
//! pairing.

use super::approvals::shows_approvals;
use super::command_policy;
use super::failures::Suspect;
use super::pairing::{DeviceClaim, NotAdmitted, PairingRequired, Surface};
use super::scope::Role;
use super::session::{NodeSession, Session};
use super::{Core, event, pairing, registry, scope, setup};
use crate::identity::{device, random, secret::Secret};
use crate::limits;
use crate::protocol::connect::{self, ConnectParams, DevicePayload, DeviceProof, PayloadForm};
use crate::protocol::error::WireError;
use crate::protocol::frame::{self, BadFrame};
use crate::protocol::node::name;
use crate::state::config::SharedSecret;
use crate::sys::clock::{self, Now};
use crate::transport::peer::{End, Peer};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of a connection before it has said anything.
pub struct Arrival {
    /// Socket address; none over the Unix socket.
    pub address: Option<IpAddr>,
    /// An Origin that the owner has listed. Such a connection is a browser's, never a local program's.
    pub origin: Option<String>,
}

/// How a handshake failed.
pub enum Refused {
    /// Answered where there was something to answer; close with this.
    Close(u16, String),
    /// The connection ended by itself.
    Ended(End),
}

/// Runs the handshake. The text is `hello-ok`, which the caller sends as it registers the session.
///
/// # Errors
/// [`Refused`]: the caller closes.
pub fn run(core: &Arc<Core>, peer: &mut Peer, arrival: &Arrival) -> Result<(Arc<Session>, String), Refused> {
    let nonce = random::uuid();
    let challenge = json!({"nonce": nonce, "ts": clock::wall_ms()});
    send(peer, frame::event(event::CHALLENGE, &challenge));
    let text = peer.receive().map_err(Refused::Ended)?;
    // frames `neg-preauth-16-queued`: too eager a peer is told nothing else.
    if peer.gather(limits::HANDSHAKE_QUEUED_FRAMES) > limits::HANDSHAKE_QUEUED_FRAMES {
        return Err(Refused::Close(1008, "too many pending handshake frames".to_owned()));
    }
    let (id, params) = first_frame(peer, text.as_str())?;
    if core.stopping.load(Ordering::SeqCst) {
        let error = WireError::unavailable("gateway restart in progress").retryable();
        return Err(refuse(peer, &id, &error, 1013));
    }
    let decided = decide(core, arrival, &params, &nonce);
    let entry = decided.map_err(|refusal| refuse(peer, &id, &refusal.error, refusal.code))?;
    let session = Arc::new(make_session(core, peer, params, &entry));
    let hello = hello_ok(core, &session, &entry);
    peer.logged_in();
    Ok((session, frame::response_ok(&id, &hello)))
}

fn send(peer: &Peer, text: String) {
    peer.outbox().text(text, crate::transport::outbox::Kind::Must);
}

fn refuse(peer: &Peer, id: &str, error: &WireError, code: u16) -> Refused {
    send(peer, frame::response_error(id, error));
    let reason = match (error.detail_code(), error.details.as_ref().and_then(|details| details.get("requestId"))) {
        ("PAIRING_REQUIRED", Some(Value::String(request))) => format!("{} (requestId: {request})", error.message),
        _ => error.message.clone(),
    };
    Refused::Close(code, reason)
}

/// The first frame must be `connect`.
fn first_frame(peer: &Peer, text: &str) -> Result<(String, ConnectParams), Refused> {
    let request = match frame::parse_request(text) {
        Ok(request) => request,
        Err(BadFrame::NotJson) => return Err(Refused::Close(1000, String::new())),
        Err(BadFrame::NotRequest { .. }) => return Err(Refused::Close(1008, "invalid request frame".to_owned())),
    };
    if request.method != "connect" {
        let error = WireError::invalid("invalid handshake: first request must be connect");
        return Err(refuse(peer, &request.id, &error, 1008));
    }
    let params = connect::parse_connect(request.params).map_err(|why| {
        refuse(peer, &request.id, &WireError::invalid(format!("invalid connect params: {why}")), 1008)
    })?;
    // Workers are not served here; the original says nothing to a wrong one either.
    if params.role == "worker" || params.client.id == "openclaw-worker" || params.client.mode == "worker" {
        return Err(Refused::Close(1008, "invalid-handshake".to_owned()));
    }
    Ok((request.id.into_owned(), params))
}

/// What a good `connect` amounts to.
struct Entry {
    role: Role,
    scopes: Vec<String>,
    device_id: Option<String>,
    method: &'static str,
    admitted_by: Option<u64>,
    new_token: Option<(Secret, i64)>,
}

struct Refusal {
    error: WireError,
    code: u16,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self { error, code: 1008 }
    }
}

fn decide(core: &Core, arrival: &Arrival, params: &ConnectParams, nonce: &str) -> Result<Entry, Refusal> {
    check_protocol(params)?;
    let role = Role::from_word(&params.role).ok_or_else(|| WireError::invalid("invalid role"))?;
    let suspect = Suspect { address: arrival.address, origin: arrival.origin.clone() };
    let shared = evaluate_shared(core, &suspect, params)?;
    let Some(proof) = &params.device else {
        return enter_without_device(core, arrival, &suspect, params, role, &shared);
    };
    check_device(params, proof, nonce)?;
    let (method, admitted_by) = match shared {
        Shared::Right(method, generation) => (method, Some(generation)),
        Shared::Missing if params.auth.bootstrap_token.is_some() && params.auth.device_token.is_none() => {
            redeem_setup(core, params, role)?;
            ("bootstrap-token", None)
        }
        Shared::Missing | Shared::Wrong => {
            let scopes = device_token_scopes(core, &suspect, params, proof, role, &shared)?;
            if !params.scopes.iter().all(|wanted| scope::satisfies(&scopes, wanted)) {
                return Err(auth_error(
                    "AUTH_SCOPE_MISMATCH",
                    "device token does not cover these scopes",
                    "scope_mismatch",
                    params,
                )
                .into());
            }
            ("device-token", None)
        }
    };
    // A first pairing without a question: a setup link, or the right shared secret, direct local; no Origin (A24).
    let unasked = match method {
        _ if arrival.origin.is_some() => None,
        "bootstrap-token" => Some(setup::VIA),
        "device-token" => None,
        _ => core.settings.auto_approve_local.then_some(pairing::SILENT),
    };
    let public_key = device::normalised_public_key(&proof.public_key).ok_or_else(|| {
        device_error("device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch")
    })?;
    let claim = DeviceClaim {
        device_id: &proof.id,
        public_key: &public_key,
        client: &params.client,
        role,
        scopes: &params.scopes,
    };
    let admitted = core.pairing().admit(&claim, unasked);
    match admitted {
        Ok(admitted) => Ok(Entry {
            role,
            scopes: if role == Role::Operator { params.scopes.clone() } else { Vec::new() },
            device_id: Some(proof.id.clone()),
            method,
            admitted_by,
            new_token: admitted.new_token,
        }),
        Err(NotAdmitted::Failed(why)) => Err(WireError::unavailable(why).retryable().into()),
        Err(NotAdmitted::Required(required)) => Err(pairing_required(core, &required).into()),
    }
}

/// Source: spec gateway §3 "connect params" and frames `neg-protocol-mismatch-*`, `ok-*-protocol-v3`.
fn check_protocol(params: &ConnectParams) -> Result<(), Refusal> {
    let newest = u64::from(connect::PROTOCOL);
    let oldest = u64::from(connect::PROTOCOL_OLDEST);
    let may_be_older = (params.role == "node" && params.client.mode == "node") || params.client.mode == "probe";
    let least = if may_be_older { oldest } else { newest };
    if params.min_protocol <= newest && params.max_protocol >= least && params.min_protocol <= params.max_protocol {
        return Ok(());
    }
    let error = WireError::invalid("protocol mismatch").with(json!({
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": params.min_protocol,
        "clientMaxProtocol": params.max_protocol,
        "expectedProtocol": newest,
        "minimumProbeProtocol": oldest,
    }));
    Err(Refusal { error, code: 1002 })
}

/// What the shared credential in `connect` is worth.
enum Shared {
    /// By which method, and which of the secrets that this gateway has had.
    Right(&'static str, u64),
    Missing,
    Wrong,
}

/// Compares the shared secret. During a lock-out nothing counts, also not the right one.
fn evaluate_shared(core: &Core, suspect: &Suspect, params: &ConnectParams) -> Result<Shared, Refusal> {
    let (secret, generation) = core.shared();
    let Some(offer) = offer(&secret, params) else { return Ok(Shared::Missing) };
    if let Some(left) = core.failures().locked_for(suspect, Now::read()) {
        // A device token in `auth.token` is another class of credential: it is judged on its own.
        if params.device.is_some() {
            return Ok(Shared::Wrong);
        }
        return Err(rate_limited(left).into());
    }
    if offer.is_right {
        return Ok(Shared::Right(offer.method, generation));
    }
    core.reload_shared();
    let (secret, generation) = core.shared();
    match self::offer(&secret, params).filter(|offer| offer.is_right) {
        Some(offer) => Ok(Shared::Right(offer.method, generation)),
        None => Ok(Shared::Wrong),
    }
}

/// A credential of the kind that the shared secret is.
struct Offer {
    method: &'static str,
    is_right: bool,
}

fn offer(secret: &SharedSecret, params: &ConnectParams) -> Option<Offer> {
    let (known, given, method) = match secret {
        SharedSecret::Token(known) => (known, &params.auth.token, "token"),
        SharedSecret::Password(known) => (known, &params.auth.password, "password"),
    };
    let given = given.as_ref().filter(|given| !given.expose().is_empty())?;
    Some(Offer { method, is_right: known.matches(given.expose().as_bytes()) })
}

fn rate_limited(left: std::time::Duration) -> WireError {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let mut error = WireError::invalid("unauthorized: too many failed authentication attempts (retry later)")
        .with(json!({"code": "AUTH_RATE_LIMITED", "authReason": "rate_limited", "recommendedNextStep": "wait_then_retry"}))
        .retryable();
    error.retry_after_ms = Some(millis);
    error
}

/// Counts a wrong shared secret and says so; the answer is the same whatever was wrong with it.
fn wrong_shared(core: &Core, suspect: &Suspect, params: &ConnectParams) -> WireError {
    let (given, what) = match &*core.shared().0 {
        SharedSecret::Token(_) => (&params.auth.token, "token"),
        SharedSecret::Password(_) => (&params.auth.password, "password"),
    };
    let now = Now::read();
    let mut failures = core.failures();
    if let Some(left) = failures.locked_for(suspect, now) {
        return rate_limited(left);
    }
    if let Some(given) = given {
        failures.count(suspect, given.expose().as_bytes(), now);
    }
    drop(failures);
    let (code, reason) = if what == "token" {
        ("AUTH_TOKEN_MISMATCH", "token_mismatch")
    } else {
        ("AUTH_PASSWORD_MISMATCH", "password_mismatch")
    };
    auth_error(
        code,
        &format!("gateway {what} mismatch (use this gateway's gateway.auth.{what} or pair the device)"),
        reason,
        params,
    )
}

/// Source: spec gateway §3 "Refusals".
fn auth_error(code: &str, message: &str, reason: &str, params: &ConnectParams) -> WireError {
    let device = params.device.is_some();
    let can_retry = device && params.auth.device_token.is_none() && code.ends_with("TOKEN_MISMATCH");
    let next = match code {
        "AUTH_TOKEN_MISMATCH" if can_retry => "retry_with_device_token",
        "AUTH_TOKEN_MISSING" | "AUTH_PASSWORD_MISSING" => "update_auth_configuration",
        "AUTH_SCOPE_MISMATCH" => "review_auth_configuration",
        _ => "update_auth_credentials",
    };
    WireError::invalid(format!("unauthorized: {message}")).with(json!({
        "code": code, "authReason": reason, "canRetryWithDeviceToken": can_retry, "recommendedNextStep": next,
    }))
}

/// A connection without a device: operators only, with the right shared secret, and with scopes
/// only for the owner's own tools on a direct local connection (rows A04, A37).
fn enter_without_device(
    core: &Core,
    arrival: &Arrival,
    suspect: &Suspect,
    params: &ConnectParams,
    role: Role,
    shared: &Shared,
) -> Result<Entry, Refusal> {
    let missing =
        || WireError::new("NOT_PAIRED", "device identity required").with(json!({"code": "DEVICE_IDENTITY_REQUIRED"}));
    let (method, generation) = match shared {
        Shared::Right(method, generation) => (*method, *generation),
        Shared::Missing => return Err(missing().into()),
        Shared::Wrong => return Err(wrong_shared(core, suspect, params).into()),
    };
    if role == Role::Node {
        return Err(missing().into());
    }
    let tool = matches!(
        (params.client.id.as_str(), params.client.mode.as_str()),
        ("cli", "cli") | ("gateway-client", "backend")
    );
    let keeps_scopes = tool && arrival.origin.is_none();
    let scopes = if keeps_scopes { params.scopes.clone() } else { Vec::new() };
    Ok(Entry { role, scopes, device_id: None, method, admitted_by: Some(generation), new_token: None })
}

fn device_error(message: &str, code: &str, reason: &str) -> WireError {
    WireError::invalid(message).with(json!({"code": code, "reason": reason}))
}

/// The proof: id, age, nonce, signature over everything that is believed later (A07, A08).
fn check_device(params: &ConnectParams, proof: &DeviceProof, nonce: &str) -> Result<(), Refusal> {
    if device::device_id_of(&proof.public_key).as_deref() != Some(proof.id.as_str()) {
        return Err(
            device_error("device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch").into()
        );
    }
    let skew = i64::try_from(limits::DEVICE_SIGNATURE_SKEW.as_millis()).unwrap_or(0);
    if proof.signed_at.saturating_sub(clock::wall_ms()).unsigned_abs() > skew.unsigned_abs() {
        return Err(device_error(
            "device signature expired",
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
        )
        .into());
    }
    if proof.nonce.trim().is_empty() {
        return Err(device_error("device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing").into());
    }
    if proof.nonce != nonce {
        return Err(device_error("device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch").into());
    }
    let auth = &params.auth;
    let token = [&auth.token, &auth.device_token, &auth.bootstrap_token]
        .into_iter()
        .find_map(Option::as_ref)
        .map(connect::SecretText::expose)
        .unwrap_or_default();
    let payload = DevicePayload {
        device_id: &proof.id,
        client_id: &params.client.id,
        client_mode: &params.client.mode,
        role: &params.role,
        scopes: &params.scopes,
        signed_at: proof.signed_at,
        token,
        nonce: &proof.nonce,
        platform: &params.client.platform,
        device_family: params.client.device_family.as_deref().unwrap_or_default(),
    };
    // A separator inside a field would let two claims share one signed text (exec f.2).
    let plain = params.scopes.iter().all(|scope| !scope.contains(['|', ','])) && !token.contains('|');
    let signed = plain
        && [PayloadForm::V3, PayloadForm::V2]
            .into_iter()
            .any(|form| device::verify(&proof.public_key, &connect::device_payload(form, &payload), &proof.signature));
    if signed {
        Ok(())
    } else {
        Err(device_error("device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature").into())
    }
}

/// A device token instead of the shared secret: in `auth.deviceToken`, or where the reference
/// client puts a stored one, in `auth.token`.
fn device_token_scopes(
    core: &Core,
    suspect: &Suspect,
    params: &ConnectParams,
    proof: &DeviceProof,
    role: Role,
    shared: &Shared,
) -> Result<Vec<String>, Refusal> {
    let pairing = core.pairing();
    let scopes_of = |token: &Option<connect::SecretText>| {
        token.as_ref().and_then(|token| pairing.token_scopes(&proof.id, role, token.expose().as_bytes()))
    };
    let found = scopes_of(&params.auth.device_token).or_else(|| scopes_of(&params.auth.token));
    drop(pairing);
    match found {
        Some(scopes) => Ok(scopes),
        // A bogus device token never hides a wrong shared secret from the count (A10).
        None if matches!(shared, Shared::Wrong) => Err(wrong_shared(core, suspect, params).into()),
        None if params.auth.device_token.is_some() => {
            Err(auth_error("AUTH_DEVICE_TOKEN_MISMATCH", "device token mismatch", "device_token_mismatch", params)
                .into())
        }
        None => {
            let (code, what, reason) = match &*core.shared().0 {
                SharedSecret::Token(_) => ("AUTH_TOKEN_MISSING", "token", "token_missing"),
                SharedSecret::Password(_) => ("AUTH_PASSWORD_MISSING", "password", "password_missing"),
            };
            let message = format!("gateway {what} missing (use this gateway's gateway.auth.{what} or pair the device)");
            Err(auth_error(code, &message, reason, params).into())
        }
    }
}

/// Uses up the token of a setup link, which admits exactly a node and nothing else (A19).
fn redeem_setup(core: &Core, params: &ConnectParams, role: Role) -> Result<(), Refusal> {
    let token = params.auth.bootstrap_token.as_ref().map(connect::SecretText::expose).unwrap_or_default();
    let fits = role == Role::Node && params.scopes.is_empty();
    if fits && core.setups().redeem(token.as_bytes(), Now::read()) {
        return Ok(());
    }
    let reason = "bootstrap_token_invalid";
    Err(auth_error("AUTH_BOOTSTRAP_TOKEN_INVALID", "bootstrap token invalid or expired", reason, params).into())
}

/// Tells owners of a new request, and the device what it waits for.
fn pairing_required(core: &Core, required: &PairingRequired) -> WireError {
    let request = &required.request;
    let sentence = match required.reason {
        "role-upgrade" => "device is asking for a higher role than currently approved",
        "scope-upgrade" => "device is asking for more scopes than currently approved",
        "metadata-upgrade" => "device identity changed and must be re-approved",
        _ => "device is not approved yet",
    };
    if required.is_new {
        crate::log!(
            "gateway",
            "device {} asks to be paired as {} ({sentence}); approve it with: openclaw mac-debug pair approve {}",
            request.device_id,
            request.role,
            request.request_id
        );
        let row = super::methods_pairing::pending_device_row(request);
        core.registry.tell_of_pairing(event::DEVICE_PAIR_REQUESTED, &row, &request.device_id);
    }
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "reason": required.reason,
        "requestId": request.request_id,
        "remediationHint": "Approve this device from the pending pairing requests.",
        "deviceId": request.device_id,
        "requestedRole": request.role,
    });
    if let Some(members) = details.as_object_mut() {
        if !request.scopes.is_empty() {
            members.insert("requestedScopes".to_owned(), json!(request.scopes));
        }
        if let Some((roles, scopes)) = &required.approved {
            members.insert("approvedRoles".to_owned(), json!(roles));
            members.insert("approvedScopes".to_owned(), json!(scopes));
        }
    }
    WireError::new("NOT_PAIRED", format!("pairing required: {sentence}")).with(details)
}

fn make_session(core: &Arc<Core>, peer: &Peer, params: ConnectParams, entry: &Entry) -> Session {
    let node =
        (entry.role == Role::Node).then(|| declare(core, &params, entry.device_id.as_deref().unwrap_or_default()));
    Session {
        number: core.next_session.fetch_add(1, Ordering::Relaxed),
        conn_id: random::uuid(),
        role: entry.role,
        scopes: entry.scopes.clone(),
        shows_approvals: shows_approvals(&params.client.id, &params.caps),
        hears_progress: params.caps.iter().any(|cap| cap == name::PROGRESS_CAP),
        client: params.client,
        device_id: entry.device_id.clone(),
        admitted_by: entry.admitted_by,
        outbox: Arc::clone(peer.outbox()),
        connected_at_ms: clock::wall_ms(),
        node,
        gone: AtomicBool::new(false),
    }
}

/// Cuts what a node declares to what its platform may serve, and looks up what is approved of it.
fn declare(core: &Core, params: &ConnectParams, node_id: &str) -> NodeSession {
    let family = params.client.device_family.as_deref().unwrap_or_default();
    let platform = command_policy::platform(&params.client.platform, family);
    let owner = &core.settings.commands;
    let mut commands: Vec<String> = params
        .commands
        .iter()
        .map(|command| command.trim().to_owned())
        .filter(|command| command_policy::may_declare(platform, owner, command))
        .collect();
    commands.dedup();
    let surface = Surface { caps: params.caps.clone(), commands, permissions: params.permissions.clone() };
    let state = core.pairing().declare(node_id, &surface, &params.client);
    let state = state.unwrap_or_else(|error| {
        crate::log!("gateway", "the surface of node {node_id} cannot be recorded: {error}");
        super::pairing::SurfaceState::default()
    });
    if let Some((pending, true)) = &state.pending {
        crate::log!(
            "gateway",
            "node {node_id} offers {}; approve it with: openclaw mac-debug pair approve {}",
            if pending.surface.commands.iter().any(|command| command == name::RUN) {
                "to run commands"
            } else {
                "commands"
            },
            pending.request_id
        );
        let row = super::methods_pairing::pending_surface_row(pending);
        core.registry.tell_of_pairing(event::NODE_PAIR_REQUESTED, &row, node_id);
    }
    NodeSession::new(platform, surface, params.path_env.clone(), state.approved)
}

/// Source: spec gateway §3 "hello-ok".
fn hello_ok(core: &Core, session: &Session, entry: &Entry) -> Value {
    let presence = if session.may(scope::READ) { registry::presence(core) } else { Vec::new() };
    let mut auth = json!({"method": entry.method, "role": session.role.word(), "scopes": session.scopes});
    if let (Some((token, issued_at)), Some(members)) = (&entry.new_token, auth.as_object_mut()) {
        members.insert("deviceToken".to_owned(), token.expose_text().into());
        members.insert("issuedAtMs".to_owned(), (*issued_at).into());
    }
    json!({
        "type": "hello-ok",
        "protocol": connect::PROTOCOL,
        "server": {"version": super::VERSION, "connId": session.conn_id, "bootId": core.boot_id},
        "features": {"methods": super::methods::names(), "events": event::ALL, "capabilities": []},
        "snapshot": {
            "presence": presence,
            "health": super::methods::health(core),
            "stateVersion": core.registry.version(),
            "uptimeMs": core.uptime_ms(),
        },
        "auth": auth,
        "policy": {
            "maxPayload": limits::FRAME_BYTES,
            "maxBufferedBytes": limits::OUTBOX_BYTES,
            "tickIntervalMs": u64::try_from(limits::TICK_INTERVAL.as_millis()).unwrap_or(u64::MAX),
        },
    })
}
