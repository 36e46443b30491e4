//! `mac-debug status`: the facts in short lines, and under each what is wrong there and what to do.

use super::doctor::{self, Finding};
use super::facts::{Place, facts};
use crate::state::pause;
use serde_json::{Value, json};

/// What runs, where, and how strict it is; `problems` has what the doctor finds wrong in that. Looks only.
pub fn status(place: &Place) -> Value {
    let mut found = facts(place);
    let problems: Vec<Value> =
        doctor::of_facts(&found, place).iter().filter(|finding| !finding.is_well()).map(Finding::to_json).collect();
    if let Some(members) = found.as_object_mut() {
        members.insert("problems".to_owned(), json!(problems));
    }
    found
}

/// The lines of a status, each with its name in front.
struct Lines<'a> {
    status: &'a Value,
    out: String,
    /// Checks whose findings stand in `out` already.
    told: Vec<&'static str>,
}

impl Lines<'_> {
    fn text(&self, pointer: &str) -> String {
        super::text_at(self.status, pointer)
    }

    fn has(&self, pointer: &str) -> bool {
        self.status.pointer(pointer).is_some_and(|value| !value.is_null())
    }

    fn is(&self, pointer: &str) -> bool {
        self.status.pointer(pointer) == Some(&Value::Bool(true))
    }

    fn rows(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        self.status.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }

    fn running(&self, pointer: &str) -> String {
        if self.is(&format!("{pointer}/running")) {
            format!("running (pid {})", self.text(&format!("{pointer}/pid")))
        } else {
            "not running".to_owned()
        }
    }

    /// One line, and what the checks of these names have found below it.
    fn line(&mut self, name: &str, text: &str, checks: &[&'static str]) {
        self.out.push_str(&format!("{name:<10} {text}\n"));
        self.below(checks);
    }

    fn below(&mut self, checks: &[&'static str]) {
        self.told.extend(checks);
        self.problems(|check| checks.contains(&check));
    }

    fn problems(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let mut below = String::new();
        for problem in self.rows("/problems") {
            let text = |member: &str| super::text_at(problem, &format!("/{member}"));
            if is_wanted(&text("check")) {
                let mark = if problem["status"] == "problem" { '!' } else { '-' };
                below.push_str(&format!("           {mark} {}\n", text("found")));
                if problem["remedy"].is_string() {
                    below.push_str(&format!("             {}\n", text("remedy")));
                }
            }
        }
        self.out.push_str(&below);
    }
}

/// The same for a person.
pub fn text(status: &Value) -> String {
    let mut lines = Lines { status, out: String::new(), told: Vec::new() };
    lines.line("state", &lines.text("/stateDir"), &["state", "files", "disk", "clock", "marker"]);
    lines.line("version", &versions(&lines), &["version"]);
    app(&mut lines);
    gateway(&mut lines);
    let nodes: Vec<String> = lines.rows("/nodes").map(node).collect();
    if lines.has("/nodes") {
        let list = if nodes.is_empty() { "none".to_owned() } else { nodes.join("; ") };
        lines.line("nodes", &list, &["node"]);
    }
    if lines.has("/tunnel/target") {
        let up = lines.is("/tunnel/connected");
        let how = if up { "connected".to_owned() } else { format!("not connected: {}", lines.text("/tunnel/trouble")) };
        let text = format!("the app's gateway is {}: {how}", lines.text("/tunnel/target"));
        lines.line("tunnel", &text, &[]);
    }
    let token = match status["auth"].as_str() {
        Some(kind) => format!(
            "the shared {kind} is gateway.auth.{kind} in {}, or `gateway-token` in the state directory; give it to other tools as OPENCLAW_GATEWAY_TOKEN",
            lines.text("/config"),
        ),
        None if lines.has("/configBroken") => "not known as long as the configuration is broken".to_owned(),
        None => "there is none yet; the first start of the gateway makes one".to_owned(),
    };
    lines.line("token", &token, &["config", "environment", "token"]);
    if lines.is("/paused") {
        lines.line("paused", &format!("nothing runs: {}", pause::SENTENCE), &["paused"]);
    }
    policy(&mut lines);
    let permissions = permissions(&lines);
    if !permissions.is_empty() {
        lines.line("macos", &permissions, &["permissions", "signing"]);
    }
    if lines.has("/appStatus/bridge") {
        lines.line("bridge", &lines.text("/appStatus/bridge"), &[]);
    }
    let sockets: Vec<String> = lines.rows("/sockets").filter(|row| row["present"] == true).map(socket).collect();
    if !sockets.is_empty() {
        lines.line("sockets", &sockets.join(", "), &["sockets"]);
    }
    let services: Vec<String> = lines.rows("/services").filter(|row| row["installed"] == true).map(service).collect();
    if !services.is_empty() {
        lines.line("services", &services.join(", "), &["services"]);
    }
    let told = std::mem::take(&mut lines.told);
    lines.problems(|check| !told.contains(&check));
    lines.out
}

fn versions(lines: &Lines<'_>) -> String {
    let mut out = format!("openclaw {}", lines.text("/version/openclaw"));
    for peer in ["app", "gateway"] {
        if lines.has(&format!("/version/{peer}")) {
            out.push_str(&format!(", {peer} {}", lines.text(&format!("/version/{peer}"))));
        }
    }
    out
}

/// Whether it runs, and below what it says of itself.
fn app(lines: &mut Lines<'_>) {
    lines.line("app", &lines.running("/app"), &[]);
    let mut said = Vec::new();
    for (member, name) in [("app/bundleId", "bundle"), ("app/teamId", "team"), ("mode", "gateway")] {
        if lines.has(&format!("/appStatus/{member}")) {
            said.push(format!("{name} {}", lines.text(&format!("/appStatus/{member}"))));
        }
    }
    for role in ["node", "operator"] {
        let why = format!("/appStatus/{role}/why");
        match lines.status.pointer(&format!("/appStatus/{role}/connected")).and_then(Value::as_bool) {
            Some(true) => said.push(format!("{role} connected")),
            Some(false) if lines.has(&why) => said.push(format!("{role} not connected: {}", lines.text(&why))),
            // It has not tried, or need not.
            _ => {}
        }
    }
    if !said.is_empty() {
        lines.line("", &said.join("; "), &[]);
    }
    if lines.has("/appStatus/attachOnly") {
        let text = format!("attach-only ({}): it starts no gateway", lines.text("/appStatus/attachOnly"));
        lines.line("", &text, &[]);
    }
    if lines.has("/appStatus/held") {
        lines.line("", &format!("shows no prompt now: {}", lines.text("/appStatus/held")), &[]);
    }
    for (member, what) in
        [("pendingPrompts", "questions that wait for you"), ("pendingPairing", "pairing requests that wait for you")]
    {
        let count = lines.status.pointer(&format!("/appStatus/{member}")).and_then(Value::as_u64);
        if let Some(count) = count.filter(|count| *count > 0) {
            lines.line("", &format!("{what}: {count}"), &[]);
        }
    }
    lines.below(&["app"]);
}

fn gateway(lines: &mut Lines<'_>) {
    let running = lines.running("/gatewayLock");
    if !lines.is("/gateway/reachable") {
        return lines.line("gateway", &running, &["gateway", "port"]);
    }
    let seconds = lines.status.pointer("/gateway/uptimeMs").and_then(Value::as_u64).unwrap_or(0) / 1_000;
    let text = format!(
        "{running} at {}; up {seconds} s; {} nodes, {} operators connected",
        lines.text("/endpoint"),
        lines.text("/gateway/connections/nodes"),
        lines.text("/gateway/connections/operators"),
    );
    lines.line("gateway", &text, &["gateway", "port"]);
    let key = if lines.has("/gateway/key") {
        format!("proves the key {}", lines.text("/gateway/key"))
    } else {
        "shows no key, so it cannot be told from another gateway (an official one has none)".to_owned()
    };
    lines.line("", &key, &[]);
}

fn policy(lines: &mut Lines<'_>) {
    let text = format!(
        "security {}, ask {}, fallback {}, entries on the allowlist: {}",
        lines.text("/policy/security"),
        lines.text("/policy/ask"),
        lines.text("/policy/askFallback"),
        lines.text("/policy/allowlistEntries"),
    );
    lines.line("policy", &text, &["policy", "audit"]);
    if lines.is("/policy/trustGatewayApprovals") {
        lines.line("", "approvals made at the gateway are trusted (local.trustGatewayApprovals)", &[]);
    }
    if lines.has("/fence") {
        let text = format!("{}, by: {}", lines.text("/policy/fence"), lines.text("/fence"));
        lines.line("fence", &text, &[]);
    }
}

fn node(row: &Value) -> String {
    let connected = if row["connected"] == true { "connected" } else { "away" };
    format!("{} {connected}", super::shown(row, "displayName"))
}

/// `accessibility yes, screenRecording NO`
fn permissions(lines: &Lines<'_>) -> String {
    let of = lines.status.pointer("/appStatus/permissions").and_then(Value::as_object);
    let word = |(name, value): (&String, &Value)| {
        let name = crate::protocol::text::visible(name);
        let is = match doctor::is_granted(value) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "unknown",
        };
        format!("{name} {is}")
    };
    let is_there = |(_, value): &(&String, &Value)| *value != "unsupported";
    of.into_iter().flatten().filter(is_there).map(word).collect::<Vec<_>>().join(", ")
}

fn socket(row: &Value) -> String {
    let served = if row["served"] == true { "" } else { " (not served)" };
    format!("{} {}{served}", super::shown(row, "name"), super::shown(row, "mode"))
}

fn service(row: &Value) -> String {
    let running = if row["running"] == true { "runs" } else { "does not run" };
    format!("{} {running}", super::shown(row, "name"))
}
