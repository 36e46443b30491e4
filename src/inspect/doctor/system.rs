//! App, gateway and nodes; settings; clocks; the search path.

use super::{Findings, is_granted, is_skewed};
use crate::exec::analysis::Host;
use crate::gateway::VERSION;
use crate::inspect::facts::{Place, file_alone};
use crate::inspect::text_at as text;
use crate::limits;
use crate::protocol::text::visible;
use crate::state::config::{Config, SharedSecret};
use crate::state::pause;
use crate::sys::clock;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Who runs, and whether they can do their work.
pub(super) fn peers(findings: &mut Findings, facts: &Value) {
    let reachable = facts.pointer("/gateway/reachable") == Some(&Value::Bool(true));
    versions(findings, facts, reachable);
    app(findings, facts, reachable);
    if reachable {
        let at = format!("answers at {}", text(facts, "/endpoint"));
        findings.well("gateway", at);
        if facts.pointer("/gateway/healthy") == Some(&Value::Bool(false)) {
            let remedy = "see its log (`openclaw mac-debug logs --role gateway`) and the checks `disk` and `files`";
            findings.problem("gateway", "it says of itself that it cannot keep what is decided", remedy);
        }
        nodes(findings, facts);
    } else if facts["configBroken"].is_string() {
        findings.problem("gateway", "it cannot be asked as long as the configuration is broken", "repair that first");
    } else {
        findings.sentence("gateway", text(facts, "/gateway/why"));
    }
    port(findings, facts, reachable);
    permissions(findings, facts);
    services(findings, facts);
}

/// Peers of ours only: an official gateway has versions of its own.
fn versions(findings: &mut Findings, facts: &Value, reachable: bool) {
    let is_ours =
        |peer: &str| peer == "app" || (reachable && facts.pointer("/gateway/key").is_some_and(Value::is_string));
    let mut all_same = true;
    for peer in ["app", "gateway"].into_iter().filter(|peer| is_ours(peer)) {
        let version = facts.pointer(&format!("/version/{peer}")).and_then(Value::as_str);
        if let Some(other) = version.filter(|version| *version != VERSION) {
            all_same = false;
            let found = format!("the running {peer} is version {}, this program is {VERSION}", visible(other));
            findings.note(
                "version",
                found,
                format!("restart it: openclaw {peer} restart, or end it and start it again"),
            );
        }
    }
    if all_same {
        findings.well("version", format!("openclaw {VERSION}"));
    }
}

fn app(findings: &mut Findings, facts: &Value, reachable: bool) {
    let is_locked = facts.pointer("/app/running") == Some(&Value::Bool(true));
    let answers = facts.pointer("/appStatus/ok") == Some(&Value::Bool(true));
    for role in ["node", "operator"] {
        if let Some(why) = facts.pointer(&format!("/appStatus/{role}/why")).and_then(Value::as_str) {
            let found = format!("its {role} connection: {}", visible(why));
            findings.note("app", found, "it goes on trying; see openclaw mac-debug logs");
        }
    }
    match (is_locked, answers) {
        (_, true) => findings.well("app", "runs and answers"),
        (true, false) => {
            let found = format!("the app runs and does not answer: {}", text(facts, "/appStatus/why"));
            findings.problem("app", found, "wait a moment; if it stays so, restart it and keep its log");
        }
        (false, false) if reachable => {
            findings.note(
                "app",
                "no app runs here",
                "start it with `openclaw app` where commands of this machine are wanted",
            );
        }
        (false, false) => {
            findings.problem("app", "no app runs here", "start it: openclaw app (or openclaw app install)")
        }
    }
}

fn nodes(findings: &mut Findings, facts: &Value) {
    let rows: Vec<&Value> = facts["nodes"].as_array().into_iter().flatten().collect();
    let connected = rows.iter().filter(|row| row["connected"] == true).count();
    if connected == 0 {
        let found = if rows.is_empty() { "no node is known to the gateway" } else { "no node is connected" };
        findings.problem("node", found, "start one: openclaw app, or openclaw node; then openclaw mac-debug nodes");
    } else {
        findings.well("node", format!("{connected} connected"));
    }
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        *names.entry(text(row, "/displayName")).or_default() += 1;
        if row["approvalState"] == "pending-approval" || row["approvalState"] == "pending-reapproval" {
            let remedy = match row["pendingRequestId"].as_str() {
                Some(request) => format!("openclaw mac-debug pair approve {}", visible(request)),
                None => "openclaw mac-debug pair list, then pair approve ID".to_owned(),
            };
            findings.problem("node", format!("{} waits for approval", text(row, "/displayName")), remedy);
        }
    }
    for (name, count) in names.iter().filter(|(_, count)| **count > 1) {
        let remedy = "name them by the beginning of their id (--node), give one another name, or remove the old one";
        findings.note("node", format!("{count} nodes are called {name}"), remedy);
    }
}

fn port(findings: &mut Findings, facts: &Value, reachable: bool) {
    let listener = &facts["listener"];
    if listener.is_null() {
        return;
    }
    let pid = listener["pid"].as_u64();
    let gateway = ["/gatewayLock/pid", "/gateway/pid"].map(|pointer| facts.pointer(pointer).and_then(Value::as_u64));
    if pid.is_some() && gateway.contains(&pid) {
        return findings.well("port", format!("{} is the gateway's", text(listener, "/port")));
    }
    let is_over_port = facts["endpoint"].as_str().is_some_and(|endpoint| endpoint.starts_with("ws://"));
    if reachable && is_over_port {
        return findings.well("port", format!("{} is a gateway's", text(listener, "/port")));
    }
    let who = match (pid, listener["owner"].as_u64()) {
        (Some(pid), _) => format!("{} (pid {pid})", text(listener, "/program")),
        (None, Some(uid)) => format!("a program of uid {uid}"),
        (None, None) => "another program".to_owned(),
    };
    let found = format!("port {} is held by {who}, which is not our gateway", text(listener, "/port"));
    findings.problem("port", found, "end that program yourself, or choose another port: gateway.port in openclaw.json");
}

/// What macOS lets the app do, as it says; whoever wants more than the app has sees it here.
fn permissions(findings: &mut Findings, facts: &Value) {
    let of = facts.pointer("/appStatus/permissions").and_then(Value::as_object);
    for (name, _) in of.into_iter().flatten().filter(|(_, value)| is_granted(value) == Some(false)) {
        findings.note(
            "permissions",
            format!("the app does not have {}", visible(name)),
            "if it is wanted: System Settings, Privacy & Security, switch on OpenClaw there, and restart the app",
        );
    }
    if facts.pointer("/appStatus/app/adHoc") == Some(&Value::Bool(true)) {
        let remedy = "sign it with a certificate: macOS forgets the permissions of an ad-hoc build with each build";
        findings.note("signing", "the app is not signed by a team (ad hoc)", remedy);
    }
    if facts.pointer("/appStatus/app/translocated") == Some(&Value::Bool(true)) {
        let remedy = "move OpenClaw.app to /Applications with the Finder and start it there: no permission lasts here";
        findings.problem("signing", "macOS runs the app from a read-only copy (translocated)", remedy);
    }
}

fn services(findings: &mut Findings, facts: &Value) {
    let program = std::env::current_exe().unwrap_or_default();
    for service in facts["services"].as_array().into_iter().flatten().filter(|service| service["installed"] == true) {
        let (name, word) = (text(service, "/name"), text(service, "/service"));
        let file = std::fs::read_to_string(service["file"].as_str().unwrap_or_default()).unwrap_or_default();
        if service["problem"].is_string() {
            findings.note("services", text(service, "/problem"), "without a session of yours it cannot be looked at");
        } else if service["running"] != true {
            let found = format!("{name} is installed and does not run");
            findings.problem(
                "services",
                found,
                format!("openclaw {word} start; why it ended: {}", text(service, "/log")),
            );
        } else if !file.contains(&*program.to_string_lossy()) {
            let found =
                format!("{} starts another program than this one ({})", text(service, "/file"), program.display());
            findings.note("services", found, format!("if this is the right one: openclaw {word} install"));
        } else {
            findings.well("services", format!("{name} runs"));
        }
    }
}

/// `openclaw.json`, what goes before it, the token, the approvals document.
pub(super) fn settings(findings: &mut Findings, facts: &Value, place: &Place) {
    match facts["configBroken"].as_str() {
        None => findings.well("config", format!("{} is understood", text(facts, "/config"))),
        Some(error) => findings.sentence("config", visible(error)),
    }
    overriding(findings, place);
    let secret = Config::inspect(&place.state, &place.environment).ok().and_then(|config| config.shared_secret);
    if let Some(SharedSecret::Token(secret) | SharedSecret::Password(secret)) = secret {
        let count = secret.expose_text().chars().count();
        let mut characters: Vec<char> = secret.expose_text().chars().collect();
        characters.sort_unstable();
        characters.dedup();
        if count < limits::STRONG_SECRET_CHARS || characters.len() < limits::STRONG_SECRET_CHARS / 3 {
            let remedy = "openclaw mac-debug token rotate makes a strong one, or write another gateway.auth.token";
            findings.problem("token", format!("the shared secret can be guessed ({count} characters)"), remedy);
        } else {
            findings.well("token", "the shared secret cannot be guessed");
        }
    }
    match facts.pointer("/policy/broken").and_then(Value::as_str) {
        Some(why) => findings.problem(
            "policy",
            visible(why),
            "repair it in an editor, or move it away: with a new one a person is asked about everything",
        ),
        None => findings.well("policy", "the approvals document is understood"),
    }
    if facts["paused"] == true {
        findings.note("paused", pause::SENTENCE, "openclaw mac-debug resume");
    }
}

/// Variables that go before the file, or lead elsewhere than one might think. Source: spec mac-app §9 (P17).
fn overriding(findings: &mut Findings, place: &Place) {
    let environment = &place.environment;
    let file = file_alone(&place.state).filter(|_| place.state.config().exists());
    if let (Some(port), Some(file)) = (environment.gateway_port, &file)
        && port != file.port
    {
        let found = format!("OPENCLAW_GATEWAY_PORT (or --port) says {port}, openclaw.json says {}", file.port);
        findings.note(
            "environment",
            found,
            "unset it, or set it for everybody: services and other shells do not see it",
        );
    }
    let given = [&environment.gateway_token, &environment.gateway_password];
    let stored = file.as_ref().and_then(|file| file.shared_secret.as_ref()).map(|secret| match secret {
        SharedSecret::Token(secret) | SharedSecret::Password(secret) => secret,
    });
    if let (Some(given), Some(stored)) = (given.into_iter().flatten().next(), stored)
        && !given.matches(stored.expose())
    {
        findings.note(
            "environment",
            "OPENCLAW_GATEWAY_TOKEN (or _PASSWORD) is another secret than the stored one, and goes before it",
            "unset it if the gateway was started without it: it would refuse",
        );
    }
    let usual = environment.home.as_ref().map(|home| home.join(".openclaw"));
    if let Some(usual) = usual.filter(|usual| usual.is_dir() && usual != place.state.root()) {
        let found =
            format!("the state directory is {}, and {} is there too", place.state.root().display(), usual.display());
        findings.note(
            "environment",
            visible(&found),
            "OPENCLAW_STATE_DIR or --state-dir says so: everybody has to be told the same",
        );
    }
    if environment.config_path.is_some() {
        let found = format!("OPENCLAW_CONFIG_PATH: the configuration is {}", place.state.config().display());
        findings.note("environment", visible(&found), "services that were installed without it read another one");
    }
}

/// This clock against the gateway's, the files and this program itself.
pub(super) fn clocks(findings: &mut Findings, facts: &Value, place: &Place) {
    const REMEDY: &str = "set the clock (macOS: System Settings, Date & Time, automatically): logins are refused when two differ by more than two minutes";
    if let Some(ahead) =
        facts.pointer("/gateway/clockAheadMs").and_then(Value::as_i64).filter(|ahead| is_skewed(*ahead))
    {
        findings.problem("clock", format!("the gateway's clock differs by {} s", ahead / 1_000), REMEDY);
    }
    let written = |path: &Path| {
        let modified = path.symlink_metadata().and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH);
        modified.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    };
    let program = std::env::current_exe().ok();
    let paths = place.state.document_paths().chain(program);
    let newest = paths.map(|path| (written(&path), path)).max();
    match newest.filter(|(at, _)| is_skewed(at.saturating_sub(clock::wall_ms()).max(0))) {
        Some((_, path)) => {
            let found = format!("this machine's clock is slow, or was put back: {} is from the future", path.display());
            findings.problem("clock", visible(&found), REMEDY);
        }
        None if !findings.has("clock") => findings.well("clock", "agrees with the files and the gateway"),
        None => {}
    }
}

/// The folders in which programs are looked up: a fixed list, whatever PATH a service or a shell has.
pub(super) fn search_path(findings: &mut Findings) {
    let folders = Host::of_this_process(None).search_path_text();
    let is_open = |folder: &&str| {
        Path::new(folder)
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0)
    };
    let open: Vec<&str> = folders.split(':').filter(is_open).collect();
    if open.is_empty() {
        findings.well("path", "programs are looked up in fixed folders, which others cannot write in");
    }
    for folder in open {
        let remedy = format!("chmod go-w {}: whoever writes there decides what an allowed name runs", visible(folder));
        findings.problem("path", format!("others may write in {}", visible(folder)), remedy);
    }
}
