//! Devices and nodes that want in at the gateway, put before the person as a kind of question of its own. What is not
//! decided stays in the list, for the menu and `mac-debug pair`; it is not shown again by itself. A request that says
//! that it may be let in silently is asked about like any other. Source: spec mac-app (3.4).
//!
//! One thread keeps the connection and lists what waits at each event; another one asks.

use super::operator::{self, NoConnection, Route, operator_name};
use crate::client::connection::Ended;
use crate::client::{Link, Standing};
use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::gateway::scope;
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What wants in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Device,
    Node,
}

impl Sort {
    /// The beginning of its methods and events, and the member with its id.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Device => ("device.pair", "deviceId"),
            Self::Node => ("node.pair", "nodeId"),
        }
    }
}

/// One request, as far as it is shown: another text under its id is another request (A164).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    sort: Sort,
    id: String,
    who: String,
    facts: Vec<String>,
}

impl Request {
    /// Reads a row of the gateway's list; none for what cannot be shown whole.
    fn read(sort: Sort, row: &Value, own_node: &str) -> Option<Self> {
        if row.to_string().len() > limits::GATEWAY_QUESTION_BYTES {
            log!("app", "a pairing request of the gateway is too large to be shown here; answer it elsewhere");
            return None;
        }
        let text = |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (_, id_member) = sort.words();
        let device = text(id_member)?;
        let address = text("remoteIp").map(|ip| ip.strip_prefix("::ffff:").unwrap_or(ip));
        let list = |name: &str| {
            let texts = row.get(name).and_then(Value::as_array)?.iter().filter_map(Value::as_str);
            Some(texts.collect::<Vec<_>>().join(" ")).filter(|list| !list.is_empty())
        };
        let said = |what: &str, value: Option<&str>| value.map(|value| format!("{what}: {value}"));
        let mut facts = vec![match sort {
            Sort::Device => format!("a device that wants to connect as {}", text("role").unwrap_or("an operator")),
            Sort::Node => "a node whose commands others could then use".to_owned(),
        }];
        facts.extend(said("id", Some(device)));
        facts.extend(said("platform", text("platform")));
        facts.extend(said("version", text("version")));
        facts.extend(said("client", text("clientId")));
        facts.extend(said("address", address));
        facts.extend(said("scopes", list("scopes").as_deref()));
        facts.extend(said("commands", list("commands").as_deref()));
        if row.get("isRepair") == Some(&Value::Bool(true)) {
            facts.push("it is known already; its token will be another one".to_owned());
        }
        if sort == Sort::Node && device == own_node {
            facts.push("it is this app's own node".to_owned());
        }
        let fingerprint: String = device.chars().take(limits::FINGERPRINT_CHARS).collect();
        let who = format!("\"{}\" ({fingerprint})", text("displayName").unwrap_or("without a name"));
        Some(Self { sort, id: text("requestId")?.to_owned(), who, facts })
    }

    fn question(&self, gateway: &str) -> Question {
        let requester = format!("the gateway at {gateway}");
        Question { notes: self.facts.clone(), ..Question::of(Kind::Pairing, self.who.clone(), requester) }
    }
}

/// One that is put off or waits, for a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// For [`PairingDesk::ask_now`].
    pub id: String,
    /// Name and fingerprint; raw.
    pub who: String,
}

/// What waits for the person.
#[derive(Default)]
pub struct PairingDesk {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    waiting: VecDeque<Request>,
    later: Vec<Request>,
    shown: Option<(Request, Arc<Wake>)>,
    link: Option<Link>,
    over: bool,
}

impl Table {
    /// Takes in what the gateway lists now.
    fn update(&mut self, listed: Vec<Request>) {
        self.waiting.retain(|request| listed.contains(request));
        self.later.retain(|request| listed.contains(request));
        if let Some((shown, withdrawn)) = &self.shown
            && !listed.contains(shown)
        {
            withdrawn.fire();
        }
        for request in listed {
            let is_shown = self.shown.as_ref().is_some_and(|(shown, _)| *shown == request);
            let is_known = is_shown || self.waiting.contains(&request) || self.later.contains(&request);
            if !is_known && self.waiting.len() + self.later.len() < limits::GATEWAY_QUESTIONS {
                self.waiting.push_back(request);
            }
        }
    }
}

impl PairingDesk {
    /// Shows what waits at the gateway behind `route` to `person` until `stop` fires. `own_node` is this app's own.
    ///
    /// # Errors
    /// No threads are left.
    pub fn start(
        self: &Arc<Self>,
        route: Arc<Route>,
        person: Arc<dyn Person>,
        own_node: String,
        stop: Arc<Wake>,
    ) -> io::Result<[JoinHandle<()>; 2]> {
        let (asking, desk, gateway) = (Arc::clone(self), Arc::clone(self), route.endpoint.to_string());
        let thread = || thread::Builder::new().stack_size(limits::WORKER_STACK_BYTES);
        let asking = thread().name("pairing-ask".into()).spawn(move || asking.ask_all(&*person, &gateway))?;
        let connected = thread().name("pairing".into()).spawn(move || {
            operator::keep_up("what wants in at the gateway", &Standing::default(), &stop, || {
                desk.session(&route, &own_node, &stop)
            });
            desk.change(|table| {
                table.over = true;
                table.update(Vec::new());
            });
        })?;
        Ok([asking, connected])
    }

    /// Everything that is not decided.
    pub fn pending(&self) -> Vec<Pending> {
        let table = self.table();
        let shown = table.shown.iter().map(|(request, _)| request);
        let all = shown.chain(&table.waiting).chain(&table.later);
        all.map(|request| Pending { id: request.id.clone(), who: request.who.clone() }).collect()
    }

    /// Shows one again that was put off.
    pub fn ask_now(&self, id: &str) {
        self.change(|table| {
            if let Some(index) = table.later.iter().position(|request| request.id == id) {
                let request = table.later.remove(index);
                table.waiting.push_front(request);
            }
        });
    }

    /// No code that may panic runs under this lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.table());
        self.changed.notify_all();
    }

    /// One connection, from login to its end.
    fn session(&self, route: &Route, own_node: &str, stop: &Wake) -> Result<Ended, NoConnection> {
        // Fired by an event; a new one for each list, so that what happens during a list has the next one made.
        let again = Arc::new(Mutex::new(Arc::new(Wake::new()?)));
        let heard = Arc::clone(&again);
        let on_event = move |_: &Link, name: &str, _: Option<&_>| {
            if [Sort::Device, Sort::Node].iter().any(|sort| name.starts_with(sort.words().0)) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).fire();
            }
        };
        let connection = route.open(operator_name(), &[scope::PAIRING, scope::ADMIN], &[], Box::new(on_event))?;
        while connection.ended().is_none() && !stop.is_fired() {
            let wake = Arc::new(Wake::new()?);
            *again.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&wake);
            let listed = list(&connection, own_node)?;
            let is_pending = !listed.is_empty();
            self.change(|table| {
                table.update(listed);
                table.link = Some(connection.link());
            });
            let ends = [stop.fd(), connection.over_fd(), wake.fd()].map(|fd| (fd, Interest::Readable));
            poll::wait(&ends, is_pending.then(|| poll::deadline_in(limits::PAIRING_LOOK)).flatten())?;
            // Many events at once are one list.
            poll::wait_one(stop.fd(), Interest::Readable, poll::deadline_in(limits::PAIRING_PAUSE))?;
        }
        self.change(|table| table.link = None);
        Ok(connection.ended().cloned().unwrap_or(Ended { code: None, reason: String::new() }))
    }

    fn ask_all(&self, person: &dyn Person, gateway: &str) {
        while let Some((request, withdrawn)) = self.next() {
            let answer = person.ask(&request.question(gateway), &withdrawn);
            let mut table = self.table();
            table.shown = None;
            if withdrawn.is_fired() || table.over {
                continue;
            }
            match answer {
                Answer::Decided(decision) => {
                    let link = table.link.clone();
                    drop(table);
                    resolve(link, &request, decision != Decision::Deny);
                }
                Answer::Later | Answer::TimedOut => {
                    log!(
                        "app",
                        "{} waits: `openclaw mac-debug pair approve|reject {}` decides",
                        request.who,
                        request.id
                    );
                    table.later.push(request);
                }
                Answer::Nobody(_) | Answer::Granted(_) | Answer::Withdrawn => {
                    table.waiting.push_back(request);
                    drop(self.changed.wait_timeout(table, limits::GATEWAY_ASK_AGAIN));
                }
            }
        }
    }

    /// Waits for a request and makes it the shown one; none at the end.
    fn next(&self) -> Option<(Request, Arc<Wake>)> {
        let mut table = self.table();
        while !table.over {
            if !table.waiting.is_empty()
                && let Ok(withdrawn) = Wake::new().map(Arc::new)
                && let Some(request) = table.waiting.pop_front()
            {
                table.shown = Some((request.clone(), Arc::clone(&withdrawn)));
                return Some((request, withdrawn));
            }
            table = self.changed.wait_timeout(table, limits::PAIRING_LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

fn list(link: &Link, own_node: &str) -> Result<Vec<Request>, NoConnection> {
    let mut listed = Vec::new();
    for sort in [Sort::Device, Sort::Node] {
        let answer = link.call(&format!("{}.list", sort.words().0), &json!({}), limits::REQUEST_DEADLINE)?;
        let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
        let rows = answer.get("pending").and_then(Value::as_array);
        listed.extend(rows.into_iter().flatten().filter_map(|row| Request::read(sort, row, own_node)));
    }
    Ok(listed)
}

/// Brings the person's word there. What does not arrive is listed, and so asked, again.
fn resolve(link: Option<Link>, request: &Request, approve: bool) {
    let verb = if approve { "approve" } else { "reject" };
    let method = format!("{}.{verb}", request.sort.words().0);
    let answer = link.map(|link| link.call(&method, &json!({"requestId": request.id}), limits::REQUEST_DEADLINE));
    match answer {
        Some(Ok(_)) => log!("app", "{}: {verb} by the person here", request.who),
        Some(Err(error)) => log!("app", "{}: the answer is not taken: {error}", request.who),
        None => log!("app", "{}: the gateway is away; it is asked again", request.who),
    }
}

#[cfg(test)]
mod tests;
