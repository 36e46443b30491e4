//! The app as an operator: what waits for a word at the gateway is put before this app's person, and the person's word
//! is brought there. Nothing else ever answers. Source: spec gateway §6.
//!
//! One thread keeps the connection and knows what waits; another one asks, one record after the other, so that the
//! questions of this machine's own commands never stand behind more than one of a gateway.

use super::gateway_question::{Here, Record};
use super::operator::{self, NoConnection, Route, operator_name};
use crate::client::connection::Ended;
use crate::client::{CallError, Connection, Link, Standing};
use crate::exec::approval::{Answer, Person};
use crate::gateway::{event, scope};
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::sys::clock::Now;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// How we say that we show approvals to somebody. Source: spec gateway §6 "Recipients".
const CAPS: &[&str] = &["exec-approvals", "approvals"];

/// Shows the approvals of the gateway behind `route` to `person` until `stop` fires.
///
/// # Errors
/// No threads are left.
pub fn start(
    route: Arc<Route>,
    standing: Arc<Standing>,
    person: Arc<dyn Person>,
    here: Here,
    stop: Arc<Wake>,
) -> io::Result<[JoinHandle<()>; 2]> {
    let board = Arc::new(Board::default());
    let asking = Arc::clone(&board);
    let thread = || thread::Builder::new().stack_size(limits::WORKER_STACK_BYTES);
    let asking = thread().name("gateway-ask".into()).spawn(move || asking.ask_all(&*person, &here))?;
    let connected =
        thread().name("gateway-approvals".into()).spawn(move || board.stay_connected(&route, &standing, &stop))?;
    Ok([asking, connected])
}

/// What waits at the gateway.
#[derive(Default)]
struct Board {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// Oldest first; what nobody answered in time goes to the end.
    waiting: VecDeque<Record>,
    shown: Option<Shown>,
    /// The connection, once it was heard what waits there.
    link: Option<Link>,
    /// What events were about while a list was on its way: they are newer than the list.
    touched: Option<HashSet<String>>,
    /// There was more than we keep.
    missed: bool,
    /// Has it listed again.
    again: Option<Arc<Wake>>,
    over: bool,
}

/// Before the person, or answered and on its way.
struct Shown {
    record: Record,
    withdrawn: Arc<Wake>,
    is_answered: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resolved {
    id: String,
    #[serde(default)]
    decision: Option<String>,
    #[serde(default)]
    resolved_by: Option<String>,
}

impl Table {
    fn touch(&mut self, id: &str) {
        let Some(touched) = &mut self.touched else { return };
        if touched.len() < limits::GATEWAY_EVENTS {
            touched.insert(id.to_owned());
        } else {
            self.missed = true;
        }
    }

    /// Takes a record in. The same one again changes nothing; another one under its name replaces it, so that no
    /// answer is taken for what it was not given to (A164).
    fn add(&mut self, record: Record) {
        if let Some(shown) = &self.shown
            && shown.record.id == record.id
            && !shown.withdrawn.is_fired()
        {
            if shown.record.request == record.request {
                return;
            }
            shown.withdrawn.fire();
        }
        if let Some(known) = self.waiting.iter_mut().find(|known| known.id == record.id) {
            *known = record;
        } else if self.waiting.len() < limits::GATEWAY_QUESTIONS {
            self.waiting.push_back(record);
        } else {
            self.missed = true;
        }
    }

    /// Lets go of what is not `kept`.
    fn keep(&mut self, kept: impl Fn(&str) -> bool) {
        self.waiting.retain(|record| kept(&record.id));
        if let Some(shown) = self.shown.as_ref().filter(|shown| !kept(&shown.record.id)) {
            shown.withdrawn.fire();
        }
    }

    fn resolved(&mut self, end: &Resolved) {
        self.touch(&end.id);
        let is_shown = |shown: &&Shown| shown.record.id == end.id && !shown.is_answered;
        if self.shown.as_ref().filter(is_shown).is_some() {
            let by = end.resolved_by.as_deref().unwrap_or("nobody");
            let word = end.decision.as_deref().unwrap_or("no decision");
            log!("app", "approval {} has ended at the gateway: {word} by {by}", end.id);
        }
        self.keep(|id| id != end.id);
    }
}

impl Board {
    /// No code that may panic runs under this lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table; whoever waits for a change looks.
    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.table());
        self.changed.notify_all();
    }

    /// Waits for a change, at most [`limits::GATEWAY_ASK_AGAIN`].
    fn wait<'a>(&self, table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        self.changed.wait_timeout(table, limits::GATEWAY_ASK_AGAIN).unwrap_or_else(PoisonError::into_inner).0
    }

    // ---- the connection ----

    fn stay_connected(self: &Arc<Self>, route: &Route, standing: &Standing, stop: &Wake) {
        operator::keep_up("what waits for approval at the gateway", standing, stop, || {
            self.session(route, standing, stop)
        });
        self.change(|table| {
            table.over = true;
            table.keep(|_| false);
        });
    }

    /// One connection, from login to its end. What it was about stays until the next one knows better.
    fn session(self: &Arc<Self>, route: &Route, standing: &Standing, stop: &Wake) -> Result<Ended, NoConnection> {
        let connection = self.open(route)?;
        standing.connected(&connection.hello().server_version);
        while connection.ended().is_none() && !stop.is_fired() {
            let again = Arc::new(Wake::new()?);
            self.list(&connection, &again)?;
            let ends = [stop.fd(), connection.over_fd(), again.fd()];
            poll::wait(&ends.map(|fd| (fd, Interest::Readable)), None)?;
        }
        self.change(|table| table.link = None);
        Ok(connection.ended().cloned().unwrap_or(Ended { code: None, reason: String::new() }))
    }

    /// What others ask is shown to administrators only (spec gateway §6).
    fn open(self: &Arc<Self>, route: &Route) -> Result<Connection, NoConnection> {
        let board = Arc::clone(self);
        let on_event = move |_: &Link, name: &str, payload: Option<&RawValue>| {
            board.on_event(name, payload.map_or("", RawValue::get));
        };
        route.open(operator_name(), &[scope::APPROVALS, scope::ADMIN], CAPS, Box::new(on_event))
    }

    fn on_event(&self, name: &str, payload: &str) {
        match name {
            event::EXEC_APPROVAL_REQUESTED => {
                let Some(record) = Record::read(payload) else { return };
                self.change(|table| {
                    table.touch(&record.id);
                    table.add(record);
                });
            }
            event::EXEC_APPROVAL_RESOLVED => {
                let Ok(end) = serde_json::from_str::<Resolved>(payload) else { return };
                self.change(|table| table.resolved(&end));
            }
            _ => {}
        }
    }

    /// Learns what waits; what stands here and is not there any more is withdrawn.
    fn list(&self, link: &Link, again: &Arc<Wake>) -> Result<(), NoConnection> {
        self.table().touched = Some(HashSet::new());
        let answer = link.call("exec.approval.list", &json!({}), limits::REQUEST_DEADLINE)?;
        let rows: Vec<&RawValue> = serde_json::from_str(answer.get()).unwrap_or_default();
        let id = |row: &&RawValue| serde_json::from_str::<Resolved>(row.get()).ok().map(|row| row.id);
        let listed: HashSet<String> = rows.iter().filter_map(id).collect();
        self.change(|table| {
            let touched = table.touched.take().unwrap_or_default();
            table.keep(|id| listed.contains(id) || touched.contains(id));
            for record in rows.iter().filter_map(|row| Record::read(row.get())) {
                if !touched.contains(&record.id) {
                    table.add(record);
                }
            }
            table.link = Some(link.clone());
            table.again = Some(Arc::clone(again));
        });
        Ok(())
    }

    // ---- the person ----

    fn ask_all(&self, person: &dyn Person, here: &Here) {
        while !self.table().over {
            // Descriptors come back.
            let Ok(withdrawn) = Wake::new().map(Arc::new) else {
                drop(self.wait(self.table()));
                continue;
            };
            let Some((record, others)) = self.next(&withdrawn) else { return };
            let answer = person.ask(&record.question(here, others), &withdrawn);
            if let Answer::Decided(decision) = answer {
                self.resolve(&record, decision, &withdrawn);
            }
            let mut table = self.table();
            let Some(shown) = table.shown.take() else { continue };
            if !shown.is_answered && !withdrawn.is_fired() {
                table.waiting.push_back(shown.record);
                // There is nobody, or no room before the person: not at once again.
                if matches!(answer, Answer::Nobody(_)) {
                    drop(self.wait(table));
                }
            }
        }
    }

    /// Waits for a record and makes it the shown one; also says how many more there are. None at the end.
    fn next(&self, withdrawn: &Arc<Wake>) -> Option<(Record, usize)> {
        let mut table = self.table();
        while !table.over {
            let now = Now::read();
            table.waiting.retain(|record| !record.expires.passed(now));
            if let Some(record) = table.waiting.pop_front() {
                let withdrawn = Arc::clone(withdrawn);
                table.shown = Some(Shown { record: record.clone(), withdrawn, is_answered: false });
                return Some((record, table.waiting.len()));
            }
            if std::mem::take(&mut table.missed)
                && let Some(again) = &table.again
            {
                again.fire();
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Brings the person's word to the gateway, over the next connection if need be.
    fn resolve(&self, record: &Record, decision: Decision, withdrawn: &Wake) {
        let (id, word) = (&record.id, decision.word());
        log!("app", "approval {id} of the gateway is answered here: {word}");
        let mut table = self.table();
        if let Some(shown) = &mut table.shown {
            shown.is_answered = true;
        }
        while !withdrawn.is_fired() && !table.over && !record.expires.passed(Now::read()) {
            if let Some(link) = table.link.clone().filter(|link| link.ended().is_none()) {
                drop(table);
                let params = json!({"id": id, "decision": word});
                match link.call("exec.approval.resolve", &params, limits::REQUEST_DEADLINE) {
                    Ok(_) => return,
                    Err(CallError::Ended(_)) => {}
                    Err(error) => return log!("app", "approval {id}: the answer is not taken: {error}"),
                }
                table = self.table();
            }
            table = self.wait(table);
        }
        log!("app", "approval {id} has ended at the gateway; whether by this answer is not known");
    }
}

#[cfg(test)]
mod tests;
