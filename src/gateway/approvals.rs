//! Approval records: commands that wait for an operator's word, and the words that were given, until
//! a run has used them. In memory only: whoever asked holds the connection, and with it goes the
//! request. Source: spec gateway §6, exec g.5; cases A47, A61 to A63, A152, A163, A164.

use super::run_binding::BoundRun;
use super::run_guard::{self, Ticket};
use super::scope::{self, Role};
use super::session::Session;
use super::{Core, event};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::frame;
use crate::protocol::policy::Decision;
use crate::sys::clock::{Expiry, Now};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Client ids that show approvals without saying so in their caps. Source: spec gateway §6 "Recipients".
const APPROVAL_CLIENTS: &[&str] = &["openclaw-macos", "openclaw-ios", "openclaw-android", "openclaw-control-ui"];
/// Caps of everybody else who shows them.
const APPROVAL_CAPS: &[&str] = &["approvals", "exec-approvals"];

/// Whether a client shows approvals to a person, by its own word.
pub fn shows_approvals(client_id: &str, caps: &[String]) -> bool {
    APPROVAL_CLIENTS.contains(&client_id) || caps.iter().any(|cap| APPROVAL_CAPS.contains(&cap.as_str()))
}

/// What is asked, checked.
pub struct Asked {
    /// Names the record; unused so far.
    pub id: String,
    /// As it is shown to operators, `allowedDecisions` included.
    pub request: Value,
    /// What a run must be to use the answer; none if the answer is for the requester alone.
    pub run: Option<BoundRun>,
    /// Whether `allow-always` is an answer.
    pub offers_always: bool,
    /// When nobody's answer counts any more.
    pub after: Duration,
    /// Ends at once when no approval client is connected.
    pub needs_route: bool,
    /// Answer first that it was accepted, then with the decision.
    pub two_phase: bool,
}

/// Somebody whose request is answered with the decision.
struct Waiter {
    session: Arc<Session>,
    request_id: String,
    /// `waitDecision` also tells how it came about.
    tells_reason: bool,
}

/// How a record ended.
struct End {
    /// None = nobody answered.
    decision: Option<Decision>,
    /// Who answered, by the name that it shows.
    by: Option<String>,
    /// Why and by whom it ended, in a snapshot's words.
    snapshot: Value,
}

impl End {
    fn answered(decision: Decision, session: &Session, now: Now) -> Self {
        let status = if decision == Decision::Deny { "denied" } else { "allowed" };
        let resolver = match &session.device_id {
            Some(device) => json!({"kind": "device", "id": device}),
            None => json!({"kind": "runtime", "id": session.client.id}),
        };
        Self {
            decision: Some(decision),
            by: Some(session.client.display_name.as_ref().unwrap_or(&session.client.id).clone()),
            snapshot: json!({"status": status, "decision": decision, "reason": "user", "resolvedAtMs": now.wall_ms,
                "resolver": resolver}),
        }
    }

    fn expired(now: Now) -> Self {
        let snapshot = json!({"status": "expired", "reason": "timeout", "resolvedAtMs": now.wall_ms});
        Self { decision: None, by: None, snapshot }
    }

    fn without_route(now: Now) -> Self {
        let snapshot =
            json!({"status": "denied", "decision": Decision::Deny, "reason": "no-route", "resolvedAtMs": now.wall_ms});
        Self { decision: None, by: None, snapshot }
    }
}

/// What an operator's word came to.
pub struct Resolved {
    /// It was the first.
    pub applied: bool,
    /// The word that holds.
    pub decision: Option<Decision>,
    /// The record, as `approval.get` shows it.
    pub approval: Value,
}

struct Record {
    id: String,
    request: Value,
    run: Option<BoundRun>,
    offers_always: bool,
    requester: Arc<Session>,
    created_at_ms: i64,
    expires: Expiry,
    /// Forgotten after this, once it has ended.
    kept: Expiry,
    end: Option<End>,
    /// It had its one run.
    spent: bool,
    waiters: Vec<Waiter>,
}

impl Record {
    /// Whether a run may still use its answer.
    fn is_redeemable(&self, now: Now) -> bool {
        let allows = self.end.as_ref().is_some_and(|end| end.decision.is_some_and(|word| word != Decision::Deny));
        allows && self.run.is_some() && !self.spent && !self.expires.passed(now)
    }

    /// Administrators, and whoever shares the requester's device or connection. Source: spec gateway §6.
    fn is_visible_to(&self, session: &Session) -> bool {
        let same_device = self.requester.device_id.is_some() && self.requester.device_id == session.device_id;
        session.may(scope::ADMIN) || same_device || self.requester.number == session.number
    }

    /// As listed and announced.
    fn row(&self) -> Value {
        json!({"approvalKind": "exec", "id": self.id, "request": self.request,
            "createdAtMs": self.created_at_ms, "expiresAtMs": self.expires.wall_ms()})
    }

    /// As `approval.get` shows it. Source: schema `ApprovalSnapshot`, recorded answers of 2026.9.6.
    fn snapshot(&self) -> Value {
        let member = |name: &str| self.request.get(name).cloned().unwrap_or_default();
        let mut snapshot = json!({
            "id": self.id,
            "status": "pending",
            "presentation": {
                "kind": "exec",
                "commandText": member("command"),
                "commandPreview": self.request.pointer("/systemRunPlan/commandPreview"),
                "warningText": member("warningText"),
                "host": member("host"),
                "nodeId": member("nodeId"),
                "agentId": member("agentId"),
                "allowedDecisions": member("allowedDecisions"),
            },
            // Clients insist on it; there is no such page here.
            "urlPath": format!("/approve/{}", self.id),
            "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires.wall_ms(),
        });
        if let (Some(end), Some(members)) = (&self.end, snapshot.as_object_mut()) {
            members.extend(end.snapshot.as_object().cloned().unwrap_or_default());
            let said = ["agentId", "sessionKey"].map(|name| (name.to_owned(), member(name)));
            let source = said.into_iter().filter(|(_, value)| value.as_str().is_some_and(|text| !text.is_empty()));
            members.insert("source".to_owned(), Value::Object(source.collect()));
        }
        snapshot
    }

    fn answer(&self, waiter: &Waiter, end: &End) {
        let mut answer = json!({"id": self.id, "decision": end.decision.map(Decision::word),
            "createdAtMs": self.created_at_ms, "expiresAtMs": self.expires.wall_ms()});
        if let (true, Some(_), Some(members)) = (waiter.tells_reason, end.decision, answer.as_object_mut()) {
            members.insert("terminalReason".to_owned(), "user".into());
        }
        waiter.session.send(frame::response_ok(&waiter.request_id, &answer));
    }

    /// The first end counts. Everybody who waits is answered, everybody who was told is told.
    fn finish(&mut self, core: &Core, end: End, now: Now) {
        self.kept = Expiry::after(now, limits::APPROVAL_KEPT);
        for waiter in std::mem::take(&mut self.waiters) {
            self.answer(&waiter, &end);
        }
        let word = end.decision.unwrap_or(Decision::Deny).word();
        let payload = json!({"id": self.id, "decision": word, "resolvedBy": end.by, "ts": now.wall_ms,
            "request": self.request});
        self.tell(core, event::EXEC_APPROVAL_RESOLVED, &payload);
        self.end = Some(end);
    }

    /// Tells every approval client that may see this, but not the requester. How many those are.
    fn tell(&self, core: &Core, name: &str, payload: &Value) -> usize {
        let told = |session: &Arc<Session>| session.number != self.requester.number && self.is_recipient(session);
        let sessions: Vec<_> = core.registry.sessions().into_iter().filter(told).collect();
        for session in &sessions {
            session.outbox.numbered(|seq| frame::broadcast(name, payload, seq, None));
        }
        sessions.len()
    }

    fn is_recipient(&self, session: &Session) -> bool {
        session.role == Role::Operator
            && session.shows_approvals
            && session.may(scope::APPROVALS)
            && self.is_visible_to(session)
    }
}

/// All records, oldest first. Frames are sent under the lock, so that nobody hears of an end
/// before the beginning; no push blocks.
#[derive(Default)]
pub struct Approvals(Mutex<Vec<Record>>);

impl Approvals {
    /// Looks with the clocks first: what has run out can neither be seen nor answered.
    fn records(&self, core: &Core) -> MutexGuard<'_, Vec<Record>> {
        let now = Now::read();
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records.iter_mut().filter(|record| record.end.is_none() && record.expires.passed(now)) {
            record.finish(core, End::expired(now), now);
        }
        records.retain(|record| record.end.is_none() || !record.kept.passed(now) || record.is_redeemable(now));
        records
    }

    /// Ends what has run out; when to look again.
    pub fn look(&self, core: &Core) -> Option<Instant> {
        let records = self.records(core);
        let now = Now::read();
        let is_open = |record: &Record| record.end.is_none() || record.is_redeemable(now);
        let ends = records.iter().map(|record| if is_open(record) { record.expires } else { record.kept });
        ends.map(Expiry::next_look).min()
    }

    /// Begins a record for `requester`, whose request is answered when it ends.
    ///
    /// # Errors
    /// The id is taken, or too many wait (A152).
    pub fn begin(
        &self,
        core: &Core,
        asked: Asked,
        requester: &Arc<Session>,
        request_id: &str,
    ) -> Result<(), WireError> {
        let now = Now::read();
        let mut records = self.records(core);
        if records.iter().any(|record| record.id == asked.id) {
            return Err(WireError::invalid("approval id already pending").retryable());
        }
        make_room(&mut records, requester, now)?;
        let waiter = Waiter { session: Arc::clone(requester), request_id: request_id.to_owned(), tells_reason: false };
        let mut record = Record {
            id: asked.id,
            request: asked.request,
            run: asked.run,
            offers_always: asked.offers_always,
            requester: Arc::clone(requester),
            created_at_ms: now.wall_ms,
            expires: Expiry::after(now, asked.after),
            kept: Expiry::after(now, asked.after),
            end: None,
            spent: false,
            waiters: vec![waiter],
        };
        let routes = record.tell(core, event::EXEC_APPROVAL_REQUESTED, &record.row());
        if asked.two_phase {
            let route = if routes > 0 { "approval-client" } else { "none" };
            let accepted = json!({"status": "accepted", "id": record.id, "deliveryRoute": route,
                "createdAtMs": record.created_at_ms, "expiresAtMs": record.expires.wall_ms()});
            requester.send(frame::response_ok(request_id, &accepted));
        }
        if routes == 0 && asked.needs_route {
            record.finish(core, End::without_route(now), now);
        }
        records.push(record);
        drop(records);
        core.invocations.wake_timer();
        Ok(())
    }

    /// Answers `session`'s request with the decision, now or when there is one.
    ///
    /// # Errors
    /// There is no such record, or too many wait for it.
    pub fn wait(&self, core: &Core, id: &str, session: &Arc<Session>, request_id: &str) -> Result<(), WireError> {
        let mut records = self.records(core);
        let record = records
            .iter_mut()
            .find(|record| record.id == id && record.is_visible_to(session))
            .ok_or_else(|| WireError::invalid("approval expired or not found"))?;
        let waiter = Waiter { session: Arc::clone(session), request_id: request_id.to_owned(), tells_reason: true };
        match &record.end {
            Some(end) => record.answer(&waiter, end),
            None if record.waiters.len() >= limits::APPROVAL_WAITERS => {
                return Err(WireError::unavailable("too many wait for this approval already").retryable());
            }
            None => record.waiters.push(waiter),
        }
        Ok(())
    }

    /// What waits for an answer and `session` may see, oldest first.
    pub fn pending(&self, core: &Core, session: &Session) -> Vec<Value> {
        let records = self.records(core);
        let pending = records.iter().filter(|record| record.end.is_none() && record.is_visible_to(session));
        pending.map(Record::row).collect()
    }

    /// One record, waiting or ended a short time ago.
    ///
    /// # Errors
    /// There is none that `session` may see.
    pub fn snapshot(&self, core: &Core, id: &str, session: &Session) -> Result<Value, WireError> {
        let records = self.records(core);
        let record = records.iter().find(|record| record.id == id && record.is_visible_to(session));
        record.map(Record::snapshot).ok_or_else(not_found)
    }

    /// What has ended and is not forgotten yet, of what `session` may see, newest first.
    pub fn history(&self, core: &Core, session: &Session) -> Vec<Value> {
        let records = self.records(core);
        let ended = records.iter().rev().filter(|record| record.end.is_some() && record.is_visible_to(session));
        ended.map(Record::snapshot).collect()
    }

    /// An operator's word. The first one counts; another one changes nothing.
    ///
    /// # Errors
    /// There is no such record, or the word is not offered.
    pub fn resolve(&self, core: &Core, id: &str, decision: Decision, session: &Session) -> Result<Resolved, WireError> {
        let mut records = self.records(core);
        let record =
            records.iter_mut().find(|record| record.id == id && record.is_visible_to(session)).ok_or_else(not_found)?;
        let applied = record.end.is_none();
        if applied && decision == Decision::AllowAlways && !record.offers_always {
            let message = "allow-always is not offered for this command; answer allow-once or deny";
            return Err(refused(message, "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE"));
        }
        if applied {
            let now = Now::read();
            record.finish(core, End::answered(decision, session, now), now);
        }
        let decision = record.end.as_ref().and_then(|end| end.decision);
        Ok(Resolved { applied, decision, approval: record.snapshot() })
    }

    /// Has `run` judge a record and use it up. One at a time, so that one record is one run (A62).
    ///
    /// # Errors
    /// There is no such record, or `run` refuses it.
    pub fn redeem(
        &self,
        core: &Core,
        id: &str,
        run: impl FnOnce(&mut Ticket<'_>, Now) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut records = self.records(core);
        let record = records.iter_mut().find(|record| record.id == id).ok_or_else(|| run_guard::unknown(id))?;
        let mut ticket = Ticket {
            node_id: record.request.get("nodeId").and_then(Value::as_str),
            run: record.run.as_ref(),
            device_id: record.requester.device_id.as_deref(),
            conn_id: &record.requester.conn_id,
            end: record.end.as_ref().map(|end| end.decision),
            expires: record.expires,
            kept: record.kept,
            spent: &mut record.spent,
        };
        run(&mut ticket, Now::read())
    }

    /// A session has gone: what it asked is withdrawn and forgotten, so that a late answer finds
    /// nothing; what it waited for goes on without it.
    pub fn session_gone(&self, core: &Core, session: &Session) {
        let now = Now::read();
        let mut records = self.records(core);
        for record in records.iter_mut() {
            record.waiters.retain(|waiter| waiter.session.number != session.number);
        }
        let withdrawn = |record: &mut Record| record.end.is_none() && record.requester.number == session.number;
        for mut record in records.extract_if(.., withdrawn) {
            record.finish(core, End::expired(now), now);
        }
    }
}

/// One client cannot take all places, and all clients together not all memory; an ended record
/// gives way to a new one, one that a run may still use last.
fn make_room(records: &mut Vec<Record>, requester: &Session, now: Now) -> Result<(), WireError> {
    let same = |record: &&Record| match &requester.device_id {
        Some(device) => record.requester.device_id.as_ref() == Some(device),
        None => record.requester.number == requester.number,
    };
    let waiting = records.iter().filter(|record| record.end.is_none());
    if waiting.filter(same).count() >= limits::APPROVALS_PER_CLIENT {
        return Err(WireError::unavailable("too many approval requests of this client wait already").retryable());
    }
    if records.len() >= limits::APPROVALS_TOTAL {
        let ended =
            |usable| records.iter().position(move |record| record.end.is_some() && record.is_redeemable(now) == usable);
        let Some(oldest) = ended(false).or_else(|| ended(true)) else {
            return Err(WireError::unavailable("too many approval requests wait already; try again later").retryable());
        };
        records.remove(oldest);
    }
    Ok(())
}

/// No such record, or none that the caller may see.
pub fn not_found() -> WireError {
    refused("unknown or expired approval id", "APPROVAL_NOT_FOUND")
}

/// A refusal with its reason.
pub fn refused(message: &str, reason: &str) -> WireError {
    WireError::invalid(message).with(json!({"reason": reason}))
}
