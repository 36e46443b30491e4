//! `mac-debug watch`: what happens, as it happens. It listens to the gateway as an operator that shows nothing to
//! anybody, so nobody is told that somebody could answer; what waits for approval it asks for now and then; commands
//! come from the audit log of this machine.

use super::tail::Tail;
use super::{Target, call};
use crate::client::Connection;
use crate::client::connection::EventHandler;
use crate::gateway::{event, scope};
use crate::limits;
use crate::protocol::text;
use crate::sys::clock;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};
use std::time::Instant;

/// One thing that happened: `{"time","kind",…}`; kind says which other members there are.
pub type Happening = Value;

/// What the reading thread hands over.
type Heard = (String, Value);

/// Watches until nobody listens any more.
pub struct Watch {
    target: Target,
    connection: Option<Connection>,
    heard: (SyncSender<Heard>, Receiver<Heard>),
    lost: Arc<AtomicU64>,
    audit: Tail,
    /// By connection: what was said of it.
    present: Option<BTreeMap<String, Value>>,
    waiting: Option<BTreeMap<String, Value>>,
    /// Decisions whose end is still to come, by number.
    running: BTreeMap<u64, Value>,
    told_away: bool,
    next_try: Instant,
}

impl Watch {
    /// Watches this gateway, and the audit log of this state directory.
    pub fn new(target: Target) -> Self {
        let [newest, ..] = target.state.audit();
        Self {
            audit: Tail::from_now(newest),
            target,
            connection: None,
            heard: sync_channel(limits::WATCH_EVENTS),
            lost: Arc::default(),
            present: None,
            waiting: None,
            running: BTreeMap::new(),
            told_away: false,
            next_try: Instant::now(),
        }
    }

    /// What has happened since the last call; waits at most [`limits::WATCH_GLANCE`].
    pub fn glance(&mut self) -> Vec<Happening> {
        let mut out = Vec::new();
        self.stay_connected(&mut out);
        let until = Instant::now() + limits::WATCH_GLANCE;
        while let Ok((name, payload)) = self.heard.1.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.event(&name, &payload, &mut out);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            out.push(happened("lost", json!({"events": lost})));
        }
        self.approvals(&mut out);
        for line in self.audit.lines().unwrap_or_default() {
            if let Ok(record) = serde_json::from_str::<Value>(&line) {
                self.record(&record, &mut out);
            }
        }
        out
    }

    fn stay_connected(&mut self, out: &mut Vec<Happening>) {
        if let Some(connection) = &self.connection {
            let Some(ended) = connection.ended() else { return };
            out.push(happened("gateway", json!({"connected": false, "why": ended.reason})));
            (self.connection, self.present, self.waiting) = (None, None, None);
        }
        if Instant::now() < self.next_try {
            return;
        }
        self.next_try = Instant::now() + limits::WATCH_RETRY;
        let (sender, lost) = (self.heard.0.clone(), Arc::clone(&self.lost));
        let hear: EventHandler = Box::new(move |_, name, payload| {
            let payload = serde_json::from_str(payload.map_or("null", RawValue::get)).unwrap_or_default();
            if sender.try_send((name.to_owned(), payload)).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
        match self.target.connect_and_hear(&[scope::ADMIN], &[], hear) {
            Ok(connection) => {
                let version = connection.hello().server_version.clone();
                let endpoint = self.target.endpoint.to_string();
                out.push(happened("gateway", json!({"connected": true, "at": endpoint, "version": version})));
                let list = call(&connection, "system-presence", &json!({})).unwrap_or_default();
                self.presence(&list, out);
                (self.connection, self.told_away) = (Some(connection), false);
            }
            Err(error) if !std::mem::replace(&mut self.told_away, true) => {
                out.push(happened("gateway", json!({"connected": false, "why": error.to_string()})));
            }
            Err(_) => {}
        }
    }

    fn event(&mut self, name: &str, payload: &Value, out: &mut Vec<Happening>) {
        match name {
            event::PRESENCE => self.presence(&payload["presence"], out),
            event::TICK | event::NODE_HOST_STATS => {}
            event::HEALTH => out.push(happened("health", json!({"ok": payload["ok"]}))),
            event::SHUTDOWN => out.push(happened("shutdown", json!({"why": payload["reason"]}))),
            name if name.contains(".pair.") => {
                let members = ["requestId", "nodeId", "deviceId", "displayName", "decision", "status"];
                let mut said = picked(payload, &members);
                said.insert("event".to_owned(), name.into());
                out.push(happened("pairing", Value::Object(said)));
            }
            name => out.push(happened("event", json!({"event": name}))),
        }
    }

    /// Who came and who went since the last list.
    fn presence(&mut self, list: &Value, out: &mut Vec<Happening>) {
        let row = |row: &Value| -> (String, Value) {
            let said = picked(row, &["host", "clientId", "mode", "deviceId", "roles", "version", "platform"]);
            (format!("{} {} {}", row["instanceId"], row["deviceId"], row["ts"]), Value::Object(said))
        };
        let rows = list.as_array().into_iter().flatten().filter(|row| row["reason"] != "self");
        let now: BTreeMap<String, Value> = rows.map(row).collect();
        // What was there before is not news, but who watches wants to know with whom it began.
        let before = self.present.take().unwrap_or_default();
        for (_, said) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
            out.push(happened("connected", said.clone()));
        }
        for (_, said) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
            out.push(happened("disconnected", said.clone()));
        }
        self.present = Some(now);
    }

    /// What waits for a person, and what waits no more.
    fn approvals(&mut self, out: &mut Vec<Happening>) {
        let Some(connection) = &self.connection else { return };
        let Ok(list) = call(connection, "exec.approval.list", &json!({})) else { return };
        let row = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["request"].clone()));
        let now: BTreeMap<String, Value> = list.as_array().into_iter().flatten().filter_map(row).collect();
        let before = self.waiting.take().unwrap_or_default();
        let said = |id: &String, request: &Value| {
            let mut said = picked(request, &["command", "agentId", "nodeId", "host"]);
            said.insert("id".to_owned(), id.as_str().into());
            said
        };
        for (id, request) in now.iter().filter(|(id, _)| !before.contains_key(*id)) {
            out.push(happened("approval-waits", Value::Object(said(id, request))));
        }
        for (id, request) in before.iter().filter(|(id, _)| !now.contains_key(*id)) {
            let mut said = said(id, request);
            let got = call(connection, "approval.get", &json!({"id": id})).unwrap_or_default();
            said.extend(picked(got.get("approval").unwrap_or(&Value::Null), &["status", "decision", "reason"]));
            out.push(happened("approval-ended", Value::Object(said)));
        }
        self.waiting = Some(now);
    }

    /// A line of the audit log.
    fn record(&mut self, record: &Value, out: &mut Vec<Happening>) {
        match record["kind"].as_str() {
            Some("ended") => {
                let mut said = picked(record, &["exitCode", "timedOut", "durationMs", "error"]);
                said.retain(|name, value| name != "timedOut" || *value == true);
                let decision =
                    record["of"].as_u64().and_then(|number| self.running.remove(&number)).unwrap_or_default();
                said.extend(picked(&decision, &["command", "agent"]));
                out.push(happened("exec-ended", Value::Object(said)));
            }
            Some(kind) => {
                let members = ["decision", "by", "agent", "requester", "command", "cwd", "refusal"];
                let said = Value::Object(picked(record, &members));
                if record.get("refusal").is_none_or(Value::is_null)
                    && let Some(number) = record["seq"].as_u64()
                {
                    self.running.insert(number, said.clone());
                    if self.running.len() > limits::WATCH_EVENTS {
                        self.running.pop_first();
                    }
                }
                out.push(happened(if kind == "edit" { "policy-edit" } else { "exec" }, said));
            }
            None => {}
        }
    }
}

fn happened(kind: &str, mut said: Value) -> Happening {
    if let Some(members) = said.as_object_mut() {
        members.insert("kind".to_owned(), kind.into());
        members.insert("time".to_owned(), text::utc(clock::wall_ms()).into());
    }
    said
}

/// Those of the members that say something.
fn picked(value: &Value, members: &[&str]) -> Map<String, Value> {
    let some = members.iter().filter_map(|name| Some((*name, value.get(*name)?)));
    some.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// What a line begins with, and what it ends with.
const FIRST: &[&str] =
    &["decision", "status", "exitCode", "timedOut", "durationMs", "connected", "event", "host", "id"];
const LAST: &[&str] = &["command", "refusal", "why"];

/// One line for a person: the time, what it is, and each member that says something; nothing is cut.
pub fn text(happening: &Happening) -> String {
    let mut out = format!("{} {:<14}", super::shown(happening, "time"), super::shown(happening, "kind"));
    let place = |name: &str| match FIRST.iter().position(|first| *first == name) {
        Some(place) => place,
        None => FIRST.len() + usize::from(LAST.contains(&name)),
    };
    let mut members: Vec<_> = happening.as_object().into_iter().flatten().collect();
    members.retain(|(name, _)| !matches!(name.as_str(), "time" | "kind"));
    members.sort_by_key(|(name, _)| place(name));
    for (name, value) in members {
        let value = match value {
            Value::String(text) if text.contains(' ') || text.is_empty() => Value::String(text.clone()).to_string(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        out.push_str(&format!(" {}={}", text::visible(name), text::visible(&value)));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A159: one happening is one line, whatever is in it.
    #[test]
    fn sec_a159_a_happening_is_one_visible_line() {
        let nasty = "a\u{1b}[2J\n\u{202e}b c";
        let happening = json!({"time": "t", "kind": "exec", nasty: 1, "command": nasty, "decision": "denied",
            "refusal": {"message": nasty}, "list": [nasty]});
        let line = text(&happening);
        assert!(line.starts_with("t exec           decision=denied "), "{line}");
        assert_eq!(
            line.find(|character: char| character.is_control() || character == '\u{202e}'),
            Some(line.len() - 1)
        );
    }
}
