//! `mac-debug connect`: one login, followed step by step, and what it would take where it fails. Looks only: no device,
//! nothing pinned, nothing stored. Source: spec mac-app (4.1), gateway §3.

use super::{InspectError, Target, call, shown, table};
use crate::app::supervisor::{given_credentials, remote_credential_source};
use crate::client::{
    CallError, ConnectError, ConnectOptions, Connection, Credentials, Endpoint, Role, Step, Surface, Watch,
};
use crate::limits;
use crate::protocol::connect::ClientInfo;
use crate::protocol::text;
use crate::state::config::{Config, GatewayMode};
use crate::state::pins::GatewayPins;
use crate::state::{Environment, StateDir};
use crate::sys::clock::wall_ms;
use crate::transport::http::UpgradeError;
use crate::transport::peer::End;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Of the WebSocket close codes, those of a gateway that stops or starts. Source: spec gateway §2 "Close codes".
const COMES_BACK: [u16; 2] = [1012, 1013];

/// What to try.
pub struct Check {
    /// A gateway that was named; else that of the mode.
    pub endpoint: Option<Endpoint>,
    /// Else that of openclaw.json.
    pub mode: Option<GatewayMode>,
    /// What was given for this one check; else what belongs to the gateway.
    pub credentials: Option<Credentials>,
    /// Who we say we are.
    pub client: ClientInfo,
    /// As whom.
    pub role: Role,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// How long each wait may take.
    pub limit: Duration,
    /// Have the gateway probe what its health rests on.
    pub probe: bool,
}

/// What kind of answer it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Logged in, and the gateway says that it is well.
    Ok = 0,
    /// Logged in and not well; or something on this machine.
    Trouble = 1,
    /// Nobody listens, or ssh does not get there.
    Unreachable = 3,
    /// Something else than a gateway, or another user's, listens there.
    Stranger = 4,
    /// Not the gateway whose key is pinned.
    OtherGateway = 5,
    /// Token or password are missing or wrong.
    Credentials = 6,
    /// The gateway wants a device, or has not approved it.
    NotPaired = 7,
    /// Protocol, role, scopes or what we say of ourselves do not fit.
    Unfit = 8,
    /// It may work later: starting, stopping, too slow, locked out for a while.
    Later = 9,
}

impl Class {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trouble => "trouble",
            Self::Unreachable => "unreachable",
            Self::Stranger => "stranger",
            Self::OtherGateway => "other-gateway",
            Self::Credentials => "credentials",
            Self::NotPaired => "not-paired",
            Self::Unfit => "unfit",
            Self::Later => "later",
        }
    }

    fn of(error: &InspectError) -> Self {
        match error {
            InspectError::Held(_) => Self::Stranger,
            InspectError::Connect(error) => Self::of_login(error),
            InspectError::Call(CallError::TimedOut | CallError::Ended(_)) => Self::Later,
            _ => Self::Trouble,
        }
    }

    fn of_login(error: &ConnectError) -> Self {
        match error {
            ConnectError::Unreachable(..) | ConnectError::Tunnel(_) => Self::Unreachable,
            ConnectError::Upgrade(_, UpgradeError::Refused(503)) | ConnectError::NoAnswer(_) => Self::Later,
            ConnectError::Closed(_, End::Closed(Some((code, _)))) if COMES_BACK.contains(code) => Self::Later,
            ConnectError::NotOurs(..)
            | ConnectError::Upgrade(..)
            | ConnectError::NoChallenge(_)
            | ConnectError::Closed(..)
            | ConnectError::BadHello(..) => Self::Stranger,
            ConnectError::GatewayKey(..) => Self::OtherGateway,
            ConnectError::PairingRequired(_) => Self::NotPaired,
            ConnectError::Pins(_) | ConnectError::Thread(_) => Self::Trouble,
            ConnectError::Refused(error) => match error.detail_code() {
                "AUTH_RATE_LIMITED" => Self::Later,
                "AUTH_SCOPE_MISMATCH" => Self::Unfit,
                code if code.starts_with("AUTH_") => Self::Credentials,
                code if code.contains("DEVICE_") => Self::NotPaired,
                _ if error.code == "UNAVAILABLE" => Self::Later,
                _ => Self::Unfit,
            },
        }
    }
}

/// A login as it went.
struct Journey {
    began: Instant,
    /// When the last step was done.
    last: Instant,
    /// Names and durations of the steps that worked.
    steps: Vec<(&'static str, Duration)>,
    /// The next one, which did not, if the last one is not the last one of all.
    next: &'static str,
    key: Option<String>,
    clock_skew_ms: Option<i64>,
    hello: Option<Value>,
    /// Each further one is a way that a refusal named.
    attempts: u32,
    has_secret: bool,
}

impl Journey {
    fn new() -> Self {
        let began = Instant::now();
        let (steps, next) = (Vec::new(), "reach");
        Self {
            began,
            last: began,
            steps,
            next,
            key: None,
            clock_skew_ms: None,
            hello: None,
            attempts: 0,
            has_secret: false,
        }
    }

    fn take(&mut self, step: &Step<'_>) {
        let (name, next) = match step {
            Step::Reached => {
                self.steps.clear();
                self.attempts += 1;
                ("reach", "upgrade")
            }
            Step::Upgraded(key) => {
                self.key = key.map(str::to_owned);
                ("upgrade", "challenge")
            }
            Step::Challenged(clock) => {
                self.clock_skew_ms = clock.checked_sub(wall_ms());
                ("challenge", "hello")
            }
            Step::Answered(hello) => {
                self.hello = serde_json::from_str(hello.get()).ok().map(without_tokens);
                ("hello", "")
            }
        };
        self.done(name, next);
    }

    fn done(&mut self, name: &'static str, next: &'static str) {
        let now = Instant::now();
        self.steps.push((name, now - self.last));
        (self.last, self.next) = (now, next);
    }

    fn steps(&self, worked: bool) -> Vec<Value> {
        let row = |name: &str, took: Duration, ok: bool| json!({"step": name, "ms": millis(took), "ok": ok});
        let failed = (!worked && !self.next.is_empty()).then(|| row(self.next, self.last.elapsed(), false));
        self.steps.iter().map(|(name, took)| row(name, *took, true)).chain(failed).collect()
    }
}

/// With one digit behind the point.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

/// A device token is for the device alone.
fn without_tokens(mut hello: Value) -> Value {
    if let Some(auth) = hello.get_mut("auth").and_then(Value::as_object_mut) {
        auth.retain(|name, _| !name.starts_with("deviceToken"));
    }
    hello
}

/// Logs in once and asks for the gateway's health.
///
/// # Errors
/// What was asked for cannot be tried; whatever goes wrong in trying is an answer.
pub fn connect(state: StateDir, environment: &Environment, check: Check) -> Result<(Value, Class), InspectError> {
    let role = check.role;
    let mut report = json!({
        "role": role.word(),
        "clientId": check.client.id,
        "clientMode": check.client.mode,
        "scopes": check.scopes,
        "url": Value::Null,
        "mode": Value::Null,
    });
    let mut journey = Journey::new();
    let asked = check.scopes.clone();
    let result = match target(state, environment, &check) {
        Ok((target, mode)) => {
            let pinned = GatewayPins::new(&target.state).pinned(&target.endpoint.pin_name())?;
            let place = target.endpoint.to_string();
            add(&mut report, json!({"url": place, "mode": mode, "pinnedKey": pinned}));
            let secrets = [&target.credentials.token, &target.credentials.password];
            journey.has_secret = secrets.into_iter().any(Option::is_some);
            try_it(&target, check, &mut journey)
        }
        Err(InspectError::Usage(what)) => return Err(InspectError::Usage(what)),
        Err(error) => Err(error),
    };
    let class = match &result {
        Ok(health) if health.get("ok") == Some(&Value::Bool(false)) => Class::Trouble,
        Ok(_) => Class::Ok,
        // An operator whose secret does not count is asked for a device instead.
        Err(InspectError::Connect(ConnectError::Refused(error)))
            if role == Role::Operator && error.detail_code() == "DEVICE_IDENTITY_REQUIRED" =>
        {
            Class::Credentials
        }
        Err(error) => Class::of(error),
    };
    add(
        &mut report,
        json!({
            "status": if class == Class::Ok { "ok" } else { "error" },
            "class": class.word(),
            "steps": journey.steps(result.is_ok()),
            "totalMs": millis(journey.began.elapsed()),
            "attempts": journey.attempts,
            "gatewayKey": journey.key,
            "clockSkewMs": journey.clock_skew_ms,
            "warnings": warnings(&asked, &journey),
        }),
    );
    add(&mut report, outcome(result, class));
    if let Some(hello) = journey.hello {
        add(&mut report, json!({"snapshot": hello}));
    }
    Ok((report, class))
}

/// How it ended.
fn outcome(result: Result<Value, InspectError>, class: Class) -> Value {
    match result {
        Ok(health) if class == Class::Ok => json!({"health": health}),
        Ok(health) => json!({"health": health, "error": "the gateway says that it is not well"}),
        Err(InspectError::Connect(ConnectError::Refused(refusal))) => {
            json!({"refusal": refusal, "error": ConnectError::Refused(refusal).to_string()})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Adds the members of one object to another one.
fn add(to: &mut Value, members: Value) {
    if let (Value::Object(to), Value::Object(members)) = (to, members) {
        to.extend(members);
    }
}

/// The gateway and what may be shown to it: what is stored belongs to the gateway that it is stored for (A30).
fn target(state: StateDir, environment: &Environment, check: &Check) -> Result<(Target, &'static str), InspectError> {
    let given = check.credentials.as_ref().map(Credentials::copy);
    if let Some(endpoint) = check.endpoint.clone() {
        let is_ssh = matches!(endpoint, Endpoint::Ssh(_));
        let own =
            || if is_ssh { remote_credential_source(&state, environment)() } else { given_credentials(environment) };
        let credentials = given.unwrap_or_else(own);
        let mode = if is_ssh { "remote" } else { "local" };
        return Ok((Target::with(state, environment, Some(endpoint), Some(credentials))?, mode));
    }
    let config = Config::inspect(&state, environment)?;
    if check.mode.unwrap_or(config.mode) == GatewayMode::Local {
        return Ok((Target::with(state, environment, None, given)?, "local"));
    }
    let url = config.remote.url.ok_or_else(|| {
        InspectError::Usage("gateway.remote.url is not set in openclaw.json; set it, or say --url or --ssh".to_owned())
    })?;
    let endpoint =
        Endpoint::from_url(&url).map_err(|error| InspectError::Usage(format!("gateway.remote.url: {error}")))?;
    let credentials = given.unwrap_or_else(|| remote_credential_source(&state, environment)());
    Ok((Target::with(state, environment, Some(endpoint), Some(credentials))?, "remote"))
}

fn try_it(target: &Target, check: Check, journey: &mut Journey) -> Result<Value, InspectError> {
    let options = ConnectOptions {
        client: check.client,
        role: check.role,
        scopes: check.scopes,
        surface: Surface::default(),
        path_env: None,
        credentials: target.credentials.copy(),
        device: None,
        pins: target.pins.clone(),
    };
    let mut watch = Watch { limit: check.limit, on_step: &mut |step| journey.take(&step) };
    let opened = Connection::open_watched(&target.endpoint, &options, Box::new(|_, _, _| {}), &mut watch);
    let connection = opened.map_err(InspectError::Connect)?;
    journey.next = "health";
    let params = check.probe.then(|| json!({"probe": true}));
    let health = call(&connection, "health", &params.unwrap_or_else(|| json!({})))?;
    journey.done("health", "");
    connection.close();
    Ok(health)
}

/// What works and still deserves a word.
fn warnings(asked: &[String], journey: &Journey) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(skew) =
        journey.clock_skew_ms.filter(|skew| u128::from(skew.unsigned_abs()) > limits::DEVICE_SIGNATURE_SKEW.as_millis())
    {
        let (seconds, side) = (skew.unsigned_abs() / 1_000, if skew > 0 { "ahead of" } else { "behind" });
        warnings.push(format!(
            "the gateway's clock is {seconds} s {side} this machine's; past 120 s devices are refused: set both clocks"
        ));
    }
    if let Some(hello) = &journey.hello {
        let granted = hello.pointer("/auth/scopes").and_then(Value::as_array);
        let is_granted = |scope: &&String| granted.is_some_and(|granted| granted.contains(&json!(scope)));
        let missing: Vec<_> = asked.iter().filter(|scope| !is_granted(scope)).map(String::as_str).collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "not granted: {}. Without a device, a gateway grants scopes to the client id cli in mode cli only",
                missing.join(", ")
            ));
        }
    }
    if !journey.has_secret && journey.attempts > 0 {
        warnings.push(
            "no token or password was shown: a stored one goes to its own gateway only; give this one's with \
             --token-file, --token-stdin or OPENCLAW_GATEWAY_TOKEN"
                .to_owned(),
        );
    }
    if journey.attempts > 1 {
        warnings.push(format!("it took {} attempts, each with what the refusal before named", journey.attempts));
    }
    warnings
}

/// The same for a person.
pub fn text(report: &Value) -> String {
    let at = |pointer: &str| match report.pointer(pointer) {
        Some(Value::String(text)) => text::visible(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => text::visible(&other.to_string()),
    };
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    let list = |pointer: &str| {
        let names = report.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.map(text::visible).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut out = "OpenClaw gateway connection\n".to_owned();
    let mut line = |name: &str, value: String| out.push_str(&format!("{:<11}{value}\n", format!("{name}:")));
    line("Status", at("/status"));
    line("URL", at("/url"));
    line("Mode", at("/mode"));
    line("Client", format!("{} ({})", at("/clientId"), at("/clientMode")));
    line("Role", at("/role"));
    line("Scopes", list("/scopes"));
    for step in report["steps"].as_array().into_iter().flatten() {
        let took = step["ms"].as_f64().unwrap_or_default();
        let outcome = if step["ok"] == true { "done" } else { "failed" };
        line("Step", format!("{:<9} {outcome:<6} {took:>8.1} ms", shown(step, "step")));
    }
    if report.get("snapshot").is_some() {
        line("Protocol", at("/snapshot/protocol"));
        line("Server", at("/snapshot/server/version"));
        line("Granted", list("/snapshot/auth/scopes"));
        line(
            "Offers",
            format!(
                "{} methods, {} events; frames of {} bytes, a tick every {} ms",
                count("/snapshot/features/methods"),
                count("/snapshot/features/events"),
                at("/snapshot/policy/maxPayload"),
                at("/snapshot/policy/tickIntervalMs"),
            ),
        );
    }
    if report.pointer("/steps/1/ok") == Some(&Value::Bool(true)) {
        let pinned = match (&report["gatewayKey"], &report["pinnedKey"]) {
            (Value::Null, Value::Null) => {
                "none shown, as official gateways do; it cannot be told from another".to_owned()
            }
            (Value::Null, _) => format!("none shown, but {} is pinned", at("/pinnedKey")),
            (key, pin) if key == pin => format!("{}, the pinned one", at("/gatewayKey")),
            (_, Value::Null) => format!("{}, not pinned here", at("/gatewayKey")),
            _ => format!("{}, but {} is pinned", at("/gatewayKey"), at("/pinnedKey")),
        };
        line("Key", pinned);
    }
    let health = match (report.pointer("/health/ok"), report.get("health")) {
        (Some(Value::Bool(true)), _) => "ok",
        (Some(Value::Bool(false)), _) => "error",
        (_, Some(_)) => "received",
        _ => "-",
    };
    line("Health", health.to_owned());
    for warning in report["warnings"].as_array().into_iter().flatten() {
        line("Warning", text::visible(warning.as_str().unwrap_or_default()));
    }
    if report.get("error").is_some() {
        line("Error", at("/error"));
    }
    let rows = report.pointer("/snapshot/presence").or(report.pointer("/snapshot/snapshot/presence"));
    let columns = ["host", "version", "platform", "mode", "reason"];
    let row = |row: &Value| columns.iter().map(|name| shown(row, name).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.and_then(Value::as_array).into_iter().flatten().map(row).collect();
    if !rows.is_empty() {
        out.push_str(&format!(
            "Presence ({}):\n{}",
            rows.len(),
            table(&["HOST", "VERSION", "PLATFORM", "MODE", "WHY"], &rows)
        ));
    }
    out
}

/// The limit that a person asked for, milliseconds, between the least that makes sense and ours.
pub fn limit(millis: u64, least: u64) -> Result<Duration, InspectError> {
    if (least..=limits::INSPECTION_MS_MAX).contains(&millis) {
        return Ok(Duration::from_millis(millis));
    }
    Err(InspectError::Usage(format!("--timeout is in milliseconds, {least} to {}", limits::INSPECTION_MS_MAX)))
}
