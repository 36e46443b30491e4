//! Conversations recorded with the original product, spoken again with our gateway: what clients
//! and nodes said is sent as recorded, what the gateway said is compared member by member. Every
//! difference has a row in [`ROWS`] that names the security case or the reason; a row without a
//! difference fails too. `OPENCLAW_FRAMES_DIR` names another directory of recordings.
//!
//! Keys and tokens are not ours, so proofs and tokens are made anew in the recorded shape: a good
//! signature stays good, a wrong one wrong, a stale one as stale. Ids are learned pairwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use data_encoding::BASE64URL_NOPAD;
use ed25519_compact::{PublicKey, Signature};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Device, Gateway, Incoming, Options, Payload, Stream, TOKEN, Upgrade, sha256_hex, signed_text};

/// How long an answer may take; the slowest recorded one took 4 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// The shared token of the recordings.
const RECORDED_TOKEN: &str = "tok-real-0123456789abcdef0123456789abcdef";

/// Conversations that belong together, because later ones go on with connections, devices or
/// requests of earlier ones. A file that is not named here is a conversation of its own.
const TOGETHER: &[&[&str]] = &[
    &[
        "pair-node-refused",
        "pair-devices-list-pending",
        "pair-devices-approve",
        "pair-node-reconnect-approved",
        "pair-nodes-reject",
        "pair-node-reconnect-device-token",
        "pair-nodes-approve",
    ],
    &[
        "node-mac-pairing-surface",
        "node-events-raw",
        "node-invoke-result-shapes",
        "node-double-connect-same-device",
        "node-second-declared-command-change",
    ],
    &[
        "node-first-connect",
        APPROVE_FIRST_NODE,
        "call-node-invoke-unknown-node",
        "call-node-invoke-unknown-command",
        "call-unknown-method",
        "call-system-presence",
        "call-node-invoke-system-run-prepare",
        "call-node-invoke-system-run",
        "call-run-allowlist-ok",
        "call-run-denied",
        "rpc-empty-scopes",
        "rpc-missing-scope",
        "rpc-node-role-calls-operator-methods",
        "rpc-operator-calls-node-methods",
        "rpc-unauthorized-flood-close",
        "rpc-invalid-frames-after-hello",
        "rpc-oversize-after-hello",
        "rpc-invoke-system-which",
        "rpc-invoke-bad-params",
        "rpc-invoke-timeout",
        "rpc-invoke-idempotent-dup",
        "rpc-system-run-variants",
        "rpc-approved-flag-injection",
    ],
];

/// Not a file: here the surface of the node that `node-first-connect` brought is approved.
const APPROVE_FIRST_NODE: &str = "(approve)";

/// Recordings that are not replayed, and why.
const NOT_REPLAYED: &[(&str, &str)] = &[
    ("cli-*", "the real command line drives our gateway in `make interop`"),
    ("gateway-shutdown-and-restart", "ends the gateway: tests/gateway_cli.rs and tests/sec_restart.rs"),
    ("rpc-exec-approval-*", "approval records: tests/approvals_operator.rs"),
    ("rpc-approvals-node-get-set", "the node's part is tested in tests/node_part1b.rs"),
];

/// What a row allows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Allows {
    /// A recorded frame that we do not send.
    Unsent,
    /// A frame of ours that is not in the recording.
    Extra,
    /// A member that differs, at this JSON pointer below the frame (`*` stands for anything).
    Member(&'static str),
}

use Allows::{Extra, Member, Unsent};

struct Row {
    /// File, `*` stands for anything.
    file: &'static str,
    /// `res METHOD`, `event NAME`, `close` or `upgrade`, with `*`.
    frame: &'static str,
    allows: Allows,
    /// Case id or reason.
    why: &'static str,
}

const fn row(file: &'static str, frame: &'static str, allows: Allows, why: &'static str) -> Row {
    Row { file, frame, allows, why }
}

/// Which of its sixteen frames are there when the first one is answered is a matter of timing
/// (both outcomes: tests/gateway_limits.rs), so its rows may go unused.
const TIMING: &str = "neg-preauth-16-queued";

/// Reads and edits the policy of the gateway's own machine, which this test puts there as recorded.
const POLICY: &str = "rpc-approvals-gateway-get-set";

const ROWS: &[Row] = &[
    row(
        "*",
        "event health",
        Unsent,
        "no health snapshots are broadcast: there are no agents and channels whose health changes",
    ),
    row("*", "event voicewake.*", Unsent, "no voice here"),
    row("*", "event skills.changed", Unsent, "no agents here"),
    row("*", "event chat.metadata.changed", Unsent, "no agents here"),
    row("*", "event node.runnerInventory.changed", Unsent, "no agents here"),
    row(
        "*",
        "event connect.challenge",
        Member("/payload/capabilities"),
        "optional; announces the model catalogue, which needs agents",
    ),
    row(
        "*",
        "res connect",
        Member("/payload/auth/recovery*"),
        "optional; belongs to a browser session of the original's dashboard",
    ),
    row("*", "res connect", Member("/payload/controlUi*"), "optional; there is no dashboard here"),
    row("*", "res connect", Member("/payload/pluginSurfaceUrls"), "optional; there are no plugins here"),
    row("*", "res connect", Member("/payload/policy/*"), "optional members about chats and attachments"),
    row("*", "res connect", Member("/payload/server/buildId"), "optional; the version says enough"),
    row("*", "res connect", Member("/payload/server/controlUiBuildSource"), "optional; there is no dashboard here"),
    row(
        "*",
        "res connect",
        Member("/payload/snapshot/appliedConfigHash"),
        "optional; configuration is not edited over the gateway (A59)",
    ),
    row("*", "res connect", Member("/payload/snapshot/*Path"), "optional; local paths are nobody's business"),
    row("*", "res connect", Member("/payload/snapshot/stateDir"), "optional; local paths are nobody's business"),
    row("*", "res connect", Member("/payload/snapshot/authMode"), "optional; the client knows how it logged in"),
    row("*", "res connect", Member("/payload/snapshot/sessionDefaults"), "optional; no agents here"),
    row("*", "res connect", Member("/payload/snapshot/suspension"), "optional; no agents here"),
    row("*", "res connect", Member("/payload/snapshot/update*"), "optional; this program does not update itself"),
    row(
        "*",
        "res connect",
        Member("/payload/auth/deviceToken"),
        "H20: a device token is sent when it is made, not on each connect",
    ),
    row("*", "res connect", Member("/payload/auth/issuedAtMs"), "H20: comes with the token"),
    row(
        "pair-*",
        "res device.pair.approve",
        Member("/payload/device/tokens"),
        "H20: the token is made at the first login, when it can be handed over",
    ),
    row(
        "pair-*",
        "res device.pair.approve",
        Member("/payload/device/connected"),
        "additional, as in the rows of the list",
    ),
    row("origin-*", "upgrade", Unsent, "A21, A22: a page is refused before the upgrade, loopback pages too"),
    row(
        "xff-*",
        "upgrade",
        Member("/body/error/message"),
        "A25: there is no proxy mode that the sentence could recommend",
    ),
    row(TIMING, "res connect", Extra, "the first frame was answered before the sixteenth had come"),
    row(TIMING, "close", Member("/reason"), "as above"),
    row("op-device-token-reconnect", "res connect", Member("/error/message"), "own words; clients read details.code"),
    row("op-device-token-reconnect", "close", Member("/reason"), "the same words"),
    row(
        "op-device-token-reconnect",
        "res connect",
        Member("/error/details/remediationHint"),
        "one sentence for every pairing request",
    ),
    row(
        "*",
        "res node.event",
        Member("/ok"),
        "load of the machine is taken from a node whose surface still waits; the original refuses it for a moment",
    ),
    row(
        "*",
        "res node.runnerInventory.update",
        Member("/ok"),
        "answered finally: the original's node repeats the refused call for as long as its surface waits",
    ),
    row(
        "node-events-raw",
        "res node.event",
        Member("/payload/reason"),
        "sightings are kept in memory at once, so never throttled or apart persisted",
    ),
    row(
        "node-events-raw",
        "res node.event",
        Member("/payload/handled"),
        "what a person does at the machine is not tracked: node.presence.activity is not handled",
    ),
    row("node-events-raw", "event node.presence", Unsent, "as above"),
    row("node-events-raw", "res node.describe", Member("/payload/active"), "as above"),
    row("node-events-raw", "res node.describe", Member("/payload/lastActiveAtMs"), "as above"),
    row("node-events-raw", "res node.describe", Member("/payload/presenceUpdatedAtMs"), "as above"),
    row(
        "node-events-raw",
        "res node.describe",
        Member("/payload/lastSeenReason"),
        "a node that is connected was last seen by its connection",
    ),
    row("*", "res node.pending.*", Member("*"), "not served: nothing is kept for a node that is away"),
    row("*", "res node.pluginSurface.refresh", Member("*"), "not served: no plugins here"),
    row("*", "res skills.bins", Member("/payload/bins"), "no skills here"),
    row(
        "*",
        "event node.invoke.request system.which {\"bins\":[\"op\",*",
        Unsent,
        "the gateway's own look for programs that skills need; no skills here",
    ),
    row("pair-*", "res node.pair.*", Member("*/commands"), "commands of model plugins (ollama.*) are not forwarded"),
    row(
        "pair-nodes-reject",
        "event node.pair.resolved",
        Extra,
        "the node hears of a rejection as it hears of an approval",
    ),
    row(
        "call-node-invoke-unknown-command",
        "res node.invoke",
        Member("/error/message"),
        "own words; the code is the same",
    ),
    row(
        "node-mac-pairing-surface",
        "event device.pair.resolved",
        Unsent,
        "a silent pairing had no request that could be resolved",
    ),
    row(
        "node-mac-pairing-surface",
        "event node.pair.requested",
        Member("/payload/silent"),
        "optional; a surface is never approved in silence",
    ),
    row(
        "node-*",
        "res node.pair.list",
        Member("/payload/pending/*/silent"),
        "optional; a surface is never approved in silence",
    ),
    row(
        "*",
        "res node.*list",
        Member("/payload/*HostStats"),
        "the load of a machine that has gone, or has come back a moment ago, is not told",
    ),
    row("*", "res node.*list", Member("/payload/*/hostStats"), "as above"),
    row("*", "res node.*list", Member("/payload/*/last*edAtMs"), "optional; lastSeenAtMs is always there"),
    row(
        "node-events-raw",
        "res node.list",
        Member("/payload/nodes/*/lastSeenReason"),
        "the disconnect was seen later than the event",
    ),
    row(
        "rpc-missing-scope",
        "res node.list",
        Member("/payload/nodes/0/displayName"),
        "the recorded node had been renamed by a command line that is not replayed",
    ),
    row(
        "rpc-missing-scope",
        "res node.list",
        Member("/payload/nodes/0/hostStats/*"),
        "the recorded node had sent newer figures",
    ),
    row(
        "rpc-missing-scope",
        "res node.list",
        Member("/payload/nodes/0/commands"),
        "commands of model plugins (ollama.*) are not forwarded",
    ),
    row(
        "rpc-system-run-variants",
        "res node.event",
        Member("/payload/*"),
        "the run's id was cut out of this recording together with the environment",
    ),
    row(POLICY, "res exec.approvals.*", Member("/payload/path"), "ours is a file"),
    row(
        POLICY,
        "res exec.approvals.*",
        Member("/payload/resolvedDefaults/*"),
        "A140: a new user is asked, also where the document says nothing",
    ),
];

/// Members that hold times, counts of time or running numbers: only their type is compared.
const NUMBERS_OF_THE_MOMENT: &[&str] = &[
    "ts",
    "issuedAtMs",
    "createdAtMs",
    "approvedAtMs",
    "connectedAtMs",
    "lastConnectedAtMs",
    "lastSeenAtMs",
    "updatedAtMs",
    "uptimeMs",
    "durationMs",
    "onlineSince",
    "seq",
    "presence",
    "health",
    "retryAfterMs",
    "timeoutMs",
    "expiresAtMs",
];
/// Members whose text is each product's own.
const FREE_TEXTS: &[&str] = &["version"];
/// Members of which only the type is compared: what they hold are the product's features.
const SHAPES: &[&str] =
    &["/payload/features", "/payload/snapshot/health", "/payload/snapshot/presence", "/payload/presence"];

/// What was recorded.
struct Recording {
    name: String,
    events: Vec<Value>,
}

fn directory() -> PathBuf {
    std::env::var_os("OPENCLAW_FRAMES_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames")), PathBuf::from)
}

fn recording(name: &str) -> Recording {
    let path = directory().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut whole: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(mut events) = whole["events"].take() else { panic!("{name}: no events") };
    events.iter_mut().for_each(expand);
    Recording { name: name.to_owned(), events }
}

/// Stands in a recording for what a node answered to `env`; the answer that the gateway made of it is there.
const ENV_OMITTED: &str = "<JSON string with the host environment omitted; stdout contained FOO_X=bar>";

/// Long runs of one character are shortened in the recordings: `xxxx<…N × 'x'…>`.
fn expand(value: &mut Value) {
    match value {
        Value::String(text) if text == ENV_OMITTED => {
            *text = json!({"exitCode": 0, "timedOut": false, "success": true, "error": null, "stderr": "",
                "stdout": "<host environment omitted, contains FOO_X=bar>"})
            .to_string();
        }
        Value::String(text) => {
            while let Some(start) = text.find("<…") {
                let Some(end) = text[start..].find("…>").map(|at| start + at + "…>".len()) else { break };
                let inner = text[start..end].trim_start_matches("<…").trim_end_matches("…>").to_owned();
                let Some((count, character)) = inner.split_once(" × ") else { break };
                let character = character.trim_matches('\'');
                let shown = text[..start].chars().rev().take_while(|&c| character.starts_with(c)).count();
                let run = character.repeat(count.parse::<usize>().unwrap());
                text.replace_range(start - shown..end, &run);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(expand),
        Value::Object(members) => members.values_mut().for_each(expand),
        _ => {}
    }
}

/// `*` in `pattern` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|left| {
            rest.is_empty()
                || (0..=left.len()).filter(|&at| left.is_char_boundary(at)).any(|at| matches(rest, &left[at..]))
        }),
    }
}

/// Differences found, and which rows allowed one.
#[derive(Default)]
struct Verdict {
    used: Mutex<BTreeMap<usize, usize>>,
    unexplained: Mutex<Vec<String>>,
    compared: AtomicUsize,
}

impl Verdict {
    /// Records a difference.
    fn differs(&self, file: &str, frame: &str, kind: Allows, pointer: &str, what: &str) {
        let found = ROWS.iter().position(|row| {
            matches(row.file, file)
                && matches(row.frame, frame)
                && match (row.allows, kind) {
                    (Member(pattern), Member(_)) => matches(pattern, pointer),
                    (allows, kind) => allows == kind,
                }
        });
        match found {
            Some(row) => *self.used.lock().unwrap().entry(row).or_default() += 1,
            None => self.unexplained.lock().unwrap().push(format!("{file}: {frame} {pointer}: {what}")),
        }
    }

    fn allowed(&self, file: &str, frame: &str, kind: Allows) -> bool {
        ROWS.iter().any(|row| matches(row.file, file) && matches(row.frame, frame) && row.allows == kind)
    }
}

/// Ids and secrets of the recording and what they are here.
#[derive(Default)]
struct Names {
    ours: BTreeMap<String, String>,
    /// By recorded public key.
    devices: BTreeMap<String, Device>,
}

impl Names {
    /// A recorded text with our ids in it.
    fn translate(&self, text: &str) -> String {
        if let Some(ours) = self.ours.get(text) {
            return ours.clone();
        }
        let mut text = text.to_owned();
        // The padding of an oversize frame names nothing, and looking through it takes longer than the gateway waits.
        if text.len() > 1024 * 1024 {
            return text;
        }
        for (recorded, ours) in &self.ours {
            if recorded.len() >= 32 && text.contains(recorded.as_str()) {
                text = text.replace(recorded.as_str(), ours);
            }
        }
        text
    }

    fn translate_all(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.translate(text)),
            Value::Array(list) => list.iter().map(|item| self.translate_all(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, item)| (name.clone(), self.translate_all(item))).collect()
            }
            other => other.clone(),
        }
    }

    /// Whether `ours` says what `recorded` says; learns ids that stand at the same places.
    fn same_text(&mut self, recorded: &str, ours: &str) -> bool {
        if recorded == ours || self.translate(recorded) == ours {
            return true;
        }
        let (theirs_ids, our_ids) = (ids(recorded), ids(ours));
        if theirs_ids.len() != our_ids.len() {
            return false;
        }
        for (theirs, our) in theirs_ids.into_iter().zip(our_ids) {
            if kind_of(theirs) == kind_of(our) {
                self.ours.entry(theirs.to_owned()).or_insert_with(|| our.to_owned());
            }
        }
        self.translate(recorded) == ours
    }
}

/// What an opaque word looks like.
fn kind_of(word: &str) -> Option<&'static str> {
    let hex = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    match word.len() {
        36 if hex && word.matches('-').count() == 4 => Some("uuid"),
        64 if hex => Some("digest"),
        43 if word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) => Some("token"),
        _ => None,
    }
}

/// The opaque words of a text, in order.
fn ids(text: &str) -> Vec<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)))
        .filter(|word| kind_of(word).is_some())
        .collect()
}

/// One connection of a recording, and what is known of it here.
struct Seat {
    client: Client,
    recorded_nonce: String,
    recorded_ts: i64,
    /// Method of each request that was sent.
    methods: BTreeMap<String, String>,
    logged_in: bool,
}

/// A gateway with the connections of the recordings that belong together.
struct Stage<'a> {
    gateway: Gateway,
    names: Names,
    seats: BTreeMap<u64, Seat>,
    verdict: &'a Verdict,
    file: String,
}

impl<'a> Stage<'a> {
    fn new(options: Options, verdict: &'a Verdict) -> Self {
        let mut names = Names::default();
        names.ours.insert(RECORDED_TOKEN.to_owned(), TOKEN.to_owned());
        Self { gateway: Gateway::start(options), names, seats: BTreeMap::new(), verdict, file: String::new() }
    }

    fn play(&mut self, recording: &Recording) {
        self.file.clone_from(&recording.name);
        for (at, event) in recording.events.iter().enumerate() {
            let conn = event["conn"].as_u64().unwrap();
            match (event["kind"].as_str(), event["dir"].as_str()) {
                (Some("open"), _) => self.open(conn, event, &recording.events[at..]),
                (Some("close"), _) => self.close(conn, event, &recording.events),
                (None, Some("client->gateway")) => self.say(conn, event),
                (None, Some("gateway->client")) => self.hear(conn, &event["frame"]),
                _ => {}
            }
        }
        self.nothing_more();
        self.gateway.assert_alive();
    }

    /// Opens a connection as recorded and compares the challenge.
    fn open(&mut self, conn: u64, event: &Value, later: &[Value]) {
        let rejected = later.iter().find(|other| other["conn"] == conn && other["kind"] == "upgrade-rejected");
        let mut upgrade = Upgrade::to(self.gateway.port);
        for (name, value) in event["headers"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            match name.as_str() {
                "host" if !value.starts_with("127.0.0.1") => upgrade = upgrade.host(value),
                "origin" | "x-forwarded-for" | "sec-websocket-extensions" => upgrade = upgrade.header(name, value),
                _ => {}
            }
        }
        let client = match (Client::try_over(Stream::tcp(self.gateway.port), &upgrade), rejected) {
            (Ok(client), None) => client,
            (Ok(_), Some(rejected)) => {
                return self.verdict.differs(&self.file, "upgrade", Extra, "", &rejected.to_string());
            }
            (Err(answer), None) => {
                return self.verdict.differs(
                    &self.file,
                    "upgrade",
                    Unsent,
                    "",
                    &format!("{}: {}", answer.status, answer.text()),
                );
            }
            (Err(answer), Some(rejected)) => {
                let body: Value = serde_json::from_str(rejected["body"].as_str().unwrap()).unwrap();
                let ours: Value = serde_json::from_slice(&answer.body).unwrap();
                let recorded = json!({"status": rejected["status"], "body": body});
                return self.compare("upgrade", &recorded, &json!({"status": answer.status, "body": ours}));
            }
        };
        assert_eq!(client.upgrade.header("sec-websocket-extensions"), None, "no extension is negotiated");
        let challenge = later
            .iter()
            .find(|other| other["conn"] == conn && other["frame"]["event"] == "connect.challenge")
            .map(|other| &other["frame"]);
        let recorded_nonce = challenge.map_or("", |frame| frame["payload"]["nonce"].as_str().unwrap()).to_owned();
        let recorded_ts = challenge.map_or(0, |frame| frame["payload"]["ts"].as_i64().unwrap());
        self.seats
            .insert(conn, Seat { client, recorded_nonce, recorded_ts, methods: BTreeMap::new(), logged_in: false });
    }

    /// Sends what a client said.
    fn say(&mut self, conn: u64, event: &Value) {
        let Some(seat) = self.seats.get_mut(&conn) else { return };
        if let Some(text) = event["text"].as_str() {
            return seat.client.send_text(text);
        }
        let mut frame = self.names.translate_all(&event["frame"]);
        if event["frame"]["params"]["device"].is_object() {
            prove(&mut self.names, seat, &event["frame"]["params"], &mut frame["params"]);
        }
        if let (Some(id), Some(method)) = (frame["id"].as_str(), frame["method"].as_str()) {
            seat.methods.insert(id.to_owned(), method.to_owned());
        }
        seat.client.send(&frame);
    }

    /// Takes the frame that answers to the recorded one, and compares.
    fn hear(&mut self, conn: u64, recorded: &Value) {
        let Some(seat) = self.seats.get_mut(&conn) else { return };
        let (label, id, name) = match recorded["type"].as_str() {
            Some("res") => {
                let id = recorded["id"].as_str().unwrap().to_owned();
                let method = seat.methods.get(&id).map_or("?", String::as_str);
                (format!("res {method}"), id, String::new())
            }
            _ => {
                let name = recorded["event"].as_str().unwrap().to_owned();
                (event_label(recorded), String::new(), name)
            }
        };
        if name == "tick" {
            return;
        }
        if self.verdict.allowed(&self.file, &label, Unsent) {
            // Only this row's frames; the node's own requests among others of the same name are told apart.
            return self.verdict.differs(&self.file, &label, Unsent, "", "");
        }
        let ours = if name == "connect.challenge" {
            seat.client.challenge.frame.clone()
        } else {
            let found = seat.client.find(PATIENCE, |frame| {
                if name.is_empty() { frame["type"] == "res" && frame["id"] == id } else { frame["event"] == name }
            });
            let Some(found) = found else {
                let recorded = recorded.to_string().chars().take(600).collect::<String>();
                return self.verdict.differs(&self.file, &label, Unsent, "", &recorded);
            };
            found
        };
        seat.logged_in |= label == "res connect" && ours["ok"] == true;
        self.compare(&label, recorded, &ours);
    }

    /// How many sessions the gateway has seen leave.
    fn departures(&self) -> usize {
        self.gateway.process.stderr().matches(" left: ").count()
    }

    fn close(&mut self, conn: u64, event: &Value, all: &[Value]) {
        // The proxy that recorded wrote both sides' closes, in the order in which it saw them.
        let by_gateway = all.iter().find(|other| {
            other["conn"] == conn && other["kind"] == "close" && other["by"] == "gateway" && other["code"] != 1005
        });
        match by_gateway {
            Some(recorded) => {
                let Some(mut seat) = self.seats.remove(&conn) else { return };
                let closed = seat.client.closed();
                let ours = json!({"code": closed.code, "reason": closed.reason});
                self.compare("close", &json!({"code": recorded["code"], "reason": recorded["reason"]}), &ours);
                self.leftover(seat);
            }
            None if event["by"] == "client" => {
                if let Some(seat) = self.seats.remove(&conn) {
                    for frame in seat.client.waiting() {
                        self.extra(&seat.methods, frame);
                    }
                    let before = self.departures();
                    seat.client.close();
                    // What comes next in the recording found the gateway knowing it; a session that the
                    // gateway itself had ended is not told of twice.
                    let deadline = Instant::now() + Duration::from_millis(500);
                    while seat.logged_in && self.departures() == before && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            None => {}
        }
    }

    fn leftover(&self, mut seat: Seat) {
        while let Incoming::Frame(frame) = seat.client.next() {
            self.extra(&seat.methods, &frame);
        }
    }

    /// At the end of a recording every frame of ours has been compared or has a row.
    fn nothing_more(&mut self) {
        let mut seats = std::mem::take(&mut self.seats);
        for seat in seats.values_mut() {
            while let Some(Incoming::Frame(frame)) = seat.client.poll(Instant::now() + Duration::from_millis(5)) {
                self.extra(&seat.methods, &frame);
            }
        }
        self.seats = seats;
    }

    fn extra(&self, methods: &BTreeMap<String, String>, frame: &Value) {
        let label = match frame["event"].as_str() {
            // How often it comes depends on who else is connected, when a tick comes on the clock.
            Some("presence" | "tick") => return,
            Some(_) => event_label(frame),
            None => format!("res {}", methods.get(frame["id"].as_str().unwrap()).map_or("?", String::as_str)),
        };
        self.verdict.differs(&self.file, &label, Extra, "", &frame.to_string());
    }

    fn compare(&mut self, label: &str, recorded: &Value, ours: &Value) {
        self.verdict.compared.fetch_add(1, Ordering::Relaxed);
        if recorded["ok"] != ours["ok"] {
            let what = format!("recorded {recorded}, ours {ours}").chars().take(900).collect::<String>();
            return self.verdict.differs(&self.file, label, Member("/ok"), "/ok", &what);
        }
        let shape = label == "res health" || label == "res system-presence";
        self.member(label, if shape { "/payload/features" } else { "" }, recorded, ours);
    }

    fn member(&mut self, label: &str, pointer: &str, recorded: &Value, ours: &Value) {
        let name = pointer.rsplit('/').next().unwrap();
        let elided = recorded.as_str().is_some_and(|text| text.starts_with('<'));
        if SHAPES.contains(&pointer) || elided {
            return self.check(label, pointer, recorded, ours, elided || kind(recorded) == kind(ours));
        }
        match (recorded, ours) {
            (Value::Object(theirs), Value::Object(our)) => self.members(label, pointer, theirs, our),
            (Value::Array(theirs), Value::Array(our)) if theirs.iter().any(|row| row["nodeId"].is_string()) => {
                self.nodes(label, pointer, theirs, our);
            }
            (Value::Array(theirs), Value::Array(our)) if theirs.len() == our.len() => {
                for (at, (recorded, ours)) in theirs.iter().zip(our).enumerate() {
                    self.member(label, &format!("{pointer}/{at}"), recorded, ours);
                }
            }
            (Value::Number(_), Value::Number(_)) if NUMBERS_OF_THE_MOMENT.contains(&name) => {}
            (Value::String(_), Value::String(_)) if FREE_TEXTS.contains(&name) => {}
            (Value::String(theirs), Value::String(our)) => {
                if self.names.same_text(theirs, our) {
                    return;
                }
                let parsed = (serde_json::from_str::<Value>(theirs), serde_json::from_str::<Value>(our));
                match parsed {
                    (Ok(theirs @ Value::Object(_)), Ok(our @ Value::Object(_))) => {
                        self.member(label, pointer, &theirs, &our);
                    }
                    _ => self.check(label, pointer, recorded, ours, false),
                }
            }
            _ => self.check(label, pointer, recorded, ours, recorded == ours),
        }
    }

    /// Rows of nodes. The recorded gateway knew nodes of other recordings too; those are left out.
    fn nodes(&mut self, label: &str, pointer: &str, theirs: &[Value], our: &[Value]) {
        let known: Vec<Value> = theirs
            .iter()
            .filter(|row| self.names.ours.contains_key(row["nodeId"].as_str().unwrap()))
            .cloned()
            .collect();
        self.check(label, pointer, &json!(known), &json!(our), known.len() == our.len());
        for recorded in known {
            let id = self.names.translate(recorded["nodeId"].as_str().unwrap());
            match our.iter().find(|row| row["nodeId"] == id) {
                Some(ours) => self.member(label, &format!("{pointer}/0"), &recorded, ours),
                None => self.check(label, pointer, &recorded, &json!("(missing)"), false),
            }
        }
    }

    fn members(&mut self, label: &str, pointer: &str, theirs: &Map<String, Value>, our: &Map<String, Value>) {
        let names: BTreeSet<&String> = theirs.keys().chain(our.keys()).collect();
        for name in names {
            let pointer = format!("{pointer}/{name}");
            match (theirs.get(name), our.get(name)) {
                (Some(recorded), Some(ours)) => self.member(label, &pointer, recorded, ours),
                (Some(recorded), None) => self.check(label, &pointer, recorded, &json!("(missing)"), false),
                (None, ours) => self.check(label, &pointer, &json!("(missing)"), ours.unwrap(), false),
            }
        }
    }

    fn check(&self, label: &str, pointer: &str, recorded: &Value, ours: &Value, same: bool) {
        if !same {
            let what = format!("recorded {recorded}, ours {ours}").chars().take(600).collect::<String>();
            self.verdict.differs(&self.file, label, Member(""), pointer, &what);
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `event NAME`, for an invocation with its command and parameters.
fn event_label(frame: &Value) -> String {
    let mut label = format!("event {}", frame["event"].as_str().unwrap());
    for member in ["command", "paramsJSON"] {
        if let Some(text) = frame["payload"][member].as_str() {
            label = format!("{label} {}", text.chars().take(60).collect::<String>());
        }
    }
    label
}

/// Makes the device proof anew: what was right stays right, what was wrong stays wrong.
fn prove(names: &mut Names, seat: &Seat, recorded: &Value, params: &mut Value) {
    let theirs = &recorded["device"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (public_key, nonce) = (text(&theirs["publicKey"]), text(&theirs["nonce"]));
    let Some(key) = BASE64URL_NOPAD.decode(public_key.as_bytes()).ok().filter(|key| key.len() == 32) else {
        return;
    };
    let device = names.devices.entry(public_key.clone()).or_insert_with(Device::new).clone();
    let recorded_id = sha256_hex(&key);
    names.ours.insert(recorded_id.clone(), device.id());
    names.ours.insert(public_key, device.public_key());
    let id = if theirs["id"] == recorded_id { device.id() } else { text(&theirs["id"]) };
    let skew = theirs["signedAt"].as_i64().unwrap() - seat.recorded_ts;
    let signed_at = seat.client.challenge.ts + skew;
    let our_nonce = if nonce == seat.recorded_nonce { seat.client.challenge.nonce.clone() } else { nonce.clone() };
    let form = [Payload::V3, Payload::V2].into_iter().find(|&form| {
        let said = signed_text(&text(&theirs["id"]), recorded, form, &nonce, theirs["signedAt"].as_i64().unwrap());
        let signature = BASE64URL_NOPAD.decode(text(&theirs["signature"]).as_bytes()).unwrap();
        let key = PublicKey::from_slice(&key).unwrap();
        Signature::from_slice(&signature).is_ok_and(|signature| key.verify(said.as_bytes(), &signature).is_ok())
    });
    let signature = match form {
        Some(form) => device.sign(&signed_text(&id, params, form, &our_nonce, signed_at)),
        None => text(&theirs["signature"]),
    };
    params["device"] = json!({
        "id": id, "publicKey": device.public_key(), "signature": signature, "signedAt": signed_at, "nonce": our_nonce,
    });
}

/// Every recording there is, in groups.
fn groups() -> Vec<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .filter(|name| !NOT_REPLAYED.iter().any(|(pattern, _)| matches(pattern, name)))
        .collect();
    names.sort();
    let mut groups: Vec<Vec<String>> =
        TOGETHER.iter().map(|group| group.iter().map(|name| (*name).to_owned()).collect()).collect();
    groups.extend(
        names
            .into_iter()
            .filter(|name| !TOGETHER.iter().any(|group| group.contains(&name.as_str())))
            .map(|name| vec![name]),
    );
    groups
}

fn play_group(group: &[String], verdict: &Verdict) {
    let manual = group[0].starts_with("pair-");
    let options = if manual { Options::default().manual_pairing() } else { Options::default() };
    let mut stage = Stage::new(options, verdict);
    if group[0] == POLICY {
        let events = recording(POLICY).events;
        let mut answers = events.iter().map(|event| &event["frame"]["payload"]["file"]);
        let mut document = answers.find(|file| file.is_object()).unwrap().clone();
        document["socket"]["token"] = json!("a-token-of-thirty-two-characters");
        let path = stage.gateway.state.join("exec-approvals.json");
        std::fs::write(&path, document.to_string()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    for name in group {
        if name == APPROVE_FIRST_NODE {
            let node = stage.names.devices.values().next().unwrap().id();
            stage.gateway.approve_surface(&node);
            stage.seats.values_mut().for_each(|seat| drop(seat.client.event("node.pair.resolved")));
            continue;
        }
        stage.play(&recording(name));
    }
}

#[test]
fn recorded_conversations_get_the_recorded_answers() {
    let verdict = Verdict::default();
    let groups = groups();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // They wait more than they work.
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    play_group(group, &verdict);
                }
            });
        }
    });
    let used = verdict.used.lock().unwrap();
    println!("{} recorded answers compared; where ours differ, and why:", verdict.compared.load(Ordering::Relaxed));
    for (at, row) in ROWS.iter().enumerate() {
        let count = used.get(&at).copied().unwrap_or(0);
        println!("{count:5} × {} | {} | {:?} | {}", row.file, row.frame, row.allows, row.why);
    }
    for (pattern, why) in NOT_REPLAYED {
        println!("not replayed: {pattern} | {why}");
    }
    let unexplained = verdict.unexplained.lock().unwrap();
    assert!(unexplained.is_empty(), "{} unexplained differences:\n{}", unexplained.len(), unexplained.join("\n"));
    let unused: Vec<&str> = ROWS
        .iter()
        .enumerate()
        .filter(|(at, row)| !used.contains_key(at) && row.file != TIMING)
        .map(|(_, row)| row.why)
        .collect();
    assert!(unused.is_empty(), "rows without a difference: {unused:?}");
}
