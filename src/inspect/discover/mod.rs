//! `mac-debug discover`: gateways that make themselves known in the local network, or in a domain. What they say of
//! themselves is a stranger's word: it is shown, and nothing here connects to anything. Source: spec mac-app (4.1), (4.2).

#[cfg(not(target_os = "macos"))]
mod multicast;
mod naming;
mod wide_area;

#[cfg(target_os = "macos")]
mod multicast {
    //! The system's own responder does it.

    use super::Found;
    use crate::protocol::dns::{self, Name};
    use std::time::Duration;

    /// What answers within `window`, or why nobody could be asked.
    pub fn browse(found: &mut Found, window: Duration) -> Result<(), String> {
        let seen = openclaw_macos::dns_sd::browse(super::SERVICE, window, crate::limits::DISCOVERED);
        for service in seen.map_err(|error| error.to_string())? {
            let place = service.host.as_deref().and_then(Name::from_dotted).zip(Some(service.port));
            found.add(&service.instance, dns::texts(&service.text), place);
        }
        Ok(())
    }
}

use super::{shown, table};
use crate::client::tunnel::Target;
use crate::limits;
use crate::protocol::dns::{Answer, Data, Kind, Name};
use crate::protocol::text;
use crate::sys::process;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::Duration;

/// The type under which gateways advertise. Source: spec mac-app (4.2).
const SERVICE: &str = "_openclaw-gw._tcp";
/// The domain of the local network.
const LOCAL: &str = "local.";
/// Where ssh listens when nobody says.
const SSH_PORT: u16 = 22;

/// What to look for.
pub struct Search {
    /// How long to listen.
    pub window: Duration,
    /// List this machine's own gateways, too.
    pub include_local: bool,
    /// A domain whose name servers are asked, too.
    pub domain: Option<String>,
}

/// What was heard in one domain.
struct Found {
    /// The service's name there.
    service: Name,
    instances: Vec<Instance>,
}

struct Instance {
    name: Name,
    /// The label in front of the service.
    label: String,
    texts: Option<BTreeMap<String, String>>,
    place: Option<(Name, u16)>,
}

impl Found {
    fn new(domain: &str) -> Option<Self> {
        Name::from_dotted(&format!("{SERVICE}.{domain}")).map(|service| Self { service, instances: Vec::new() })
    }

    fn entry(&mut self, name: &Name) -> Option<&mut Instance> {
        let label = name.label_below(&self.service)?;
        let at = self.instances.iter().position(|instance| instance.name.is(name));
        if at.is_none() && self.instances.len() < limits::DISCOVERED {
            self.instances.push(Instance { name: name.clone(), label: label.to_owned(), texts: None, place: None });
            return self.instances.last_mut();
        }
        self.instances.get_mut(at?)
    }

    #[cfg(target_os = "macos")]
    fn add(&mut self, label: &str, texts: BTreeMap<String, String>, place: Option<(Name, u16)>) {
        if let Some(instance) = self.entry(&self.service.with(label)) {
            instance.texts = Some(texts);
            instance.place = place;
        }
    }

    /// Takes what concerns our service.
    fn hear(&mut self, answer: Answer) {
        for record in answer.records {
            match record.data {
                Data::Pointer(instance) if record.name.is(&self.service) => drop(self.entry(&instance)),
                Data::Pointer(_) => {}
                Data::Text(texts) => {
                    self.entry(&record.name).map(|instance| instance.texts.get_or_insert(texts));
                }
                Data::Place { host, port } => {
                    self.entry(&record.name).map(|instance| instance.place.get_or_insert((host, port)));
                }
            }
        }
    }

    /// What is still to be asked of them, those before `first` left out.
    fn missing(&self, first: usize) -> impl Iterator<Item = (&Name, Kind)> {
        self.instances.iter().skip(first).flat_map(|instance| {
            let text = instance.texts.is_none().then_some((&instance.name, Kind::Text));
            text.into_iter().chain(instance.place.is_none().then_some((&instance.name, Kind::Place)))
        })
    }
}

/// Listens for the whole window. Nothing found is an answer, too.
///
/// # Errors
/// A sentence: the domain cannot be one.
pub fn discover(search: &Search) -> Result<Value, String> {
    let domain = search.domain.as_deref().map(|domain| domain.trim_end_matches('.').to_ascii_lowercase());
    let domain = domain.filter(|domain| !domain.is_empty() && domain != "local").map(|domain| domain + ".");
    let refused = || format!("`{}` cannot be a domain", text::visible(domain.as_deref().unwrap_or_default()));
    let mut wide = domain.as_deref().map(|domain| Found::new(domain).ok_or_else(refused)).transpose()?;
    let mut near = Found::new(LOCAL).ok_or_else(refused)?;
    let (heard_near, heard_wide) = thread::scope(|scope| {
        let asked = wide.as_mut().map(|wide| scope.spawn(|| wide_area::ask(wide, search.window)));
        let near = multicast::browse(&mut near, search.window);
        (near, asked.map(|asked| asked.join().unwrap_or_else(|_| Err("it failed".to_owned()))))
    });
    let host = process::host_name();
    let mut gateways = BTreeMap::new();
    for (found, wide_domain) in [(Some(near), None), (wide, domain.as_deref())] {
        for instance in found.into_iter().flat_map(|found| found.instances) {
            let row = gateway(&instance, wide_domain, &host);
            if search.include_local || row.get("isLocal") != Some(&Value::Bool(true)) {
                let name = shown(&row, "displayName").to_lowercase();
                gateways.entry((name, shown(&row, "stableID").into_owned())).or_insert(row);
            }
        }
    }
    let failures = [(LOCAL, Some(heard_near)), (domain.as_deref().unwrap_or_default(), heard_wide)];
    let failures = failures.into_iter().filter_map(|(place, heard)| Some(format!("{place} {}", heard?.err()?)));
    let failures: Vec<String> = failures.collect();
    let status = if failures.is_empty() { "Stopped".to_owned() } else { format!("Failed: {}", failures.join("; ")) };
    Ok(json!({
        "status": status,
        "timeoutMs": u64::try_from(search.window.as_millis()).unwrap_or(u64::MAX),
        "includeLocal": search.include_local,
        "count": gateways.len(),
        "gateways": gateways.into_values().collect::<Vec<_>>(),
    }))
}

/// One row. Absent members are left out.
fn gateway(instance: &Instance, wide_domain: Option<&str>, host: &str) -> Value {
    let said = |key: &str| {
        let texts = instance.texts.as_ref()?;
        texts.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
    };
    let port = |key: &str| said(key).and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
    let name = naming::clean(&instance.label);
    let display = said("displayname").map_or_else(|| naming::pretty(&name), naming::clean);
    let is_local = naming::is_local(host, [said("lanhost"), said("tailnetdns"), Some(&name)], &display);
    let stable = match wide_domain {
        Some(domain) => format!("wide-area|{domain}|{}", instance.label),
        None => format!("{SERVICE}|{LOCAL}|{name}"),
    };
    let mut row = json!({
        "displayName": display,
        "sshPort": port("sshport").unwrap_or(SSH_PORT),
        "stableID": stable,
        "debugID": instance.name.to_string(),
        "isLocal": is_local,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let (Some(members), Some(value)) = (row.as_object_mut(), value) {
            members.insert(name.to_owned(), value);
        }
    };
    set("lanHost", said("lanhost").map(Value::from));
    set("tailnetDns", said("tailnetdns").map(Value::from));
    set("gatewayPort", port("gatewayport").map(Value::from));
    set("cliPath", said("clipath").map(Value::from));
    set("serviceHost", instance.place.as_ref().map(|(host, _)| host.to_string().into()));
    set("servicePort", instance.place.as_ref().map(|(_, port)| (*port).into()));
    row
}

/// How to get to a gateway that was found. Whoever goes there has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A port of this machine.
    Here(u16),
    /// By ssh, to that port over there.
    Ssh(Target, u16),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(port) => write!(f, "openclaw mac-debug connect --url ws://127.0.0.1:{port}"),
            Self::Ssh(target, port) => write!(f, "openclaw mac-debug --ssh {target} --port {port} connect"),
        }
    }
}

/// The way to a row's gateway, if what it says of itself can be an address.
pub fn way_to(row: &Value) -> Option<Way> {
    let number = |name: &str| row.get(name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    let port = number("gatewayPort").or(number("servicePort")).filter(|port| *port != 0)?;
    if row["isLocal"] == true {
        return Some(Way::Here(port));
    }
    let host = ["lanHost", "tailnetDns", "serviceHost"].into_iter().find_map(|name| row.get(name)?.as_str())?;
    let ssh = number("sshPort").filter(|port| *port != SSH_PORT);
    let target = ssh.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    // Its letters are harmless in a shell and in ssh's arguments, then.
    target.parse().ok().map(|target| Way::Ssh(target, port))
}

/// The way to the one gateway that has this name for people or this stable id.
///
/// # Errors
/// A sentence: none has it, or several, or it does not tell where it is.
pub fn way_to_named(found: &Value, name: &str) -> Result<Way, String> {
    let rows: Vec<&Value> = found["gateways"].as_array().into_iter().flatten().collect();
    let is_it = |row: &&&Value| {
        row["displayName"].as_str().is_some_and(|shown| shown.eq_ignore_ascii_case(name)) || row["stableID"] == name
    };
    match rows.iter().filter(is_it).collect::<Vec<_>>().as_slice() {
        [row] => way_to(row).ok_or_else(|| "that gateway does not tell where it is".to_owned()),
        [] => Err(format!("no gateway of that name was found ({} others); see `mac-debug discover`", rows.len())),
        _ => Err("several gateways have that name; say the stableID that `mac-debug discover` shows".to_owned()),
    }
}

/// The same for a person.
pub fn text(found: &Value) -> String {
    let filtered = if found["includeLocal"] == true { "" } else { " (local filtered)" };
    let mut out = format!(
        "OpenClaw gateway discovery\nStatus: {}\nFound {} gateway(s){filtered}\n",
        shown(found, "status"),
        shown(found, "count")
    );
    for row in found["gateways"].as_array().into_iter().flatten() {
        out.push_str(&format!("- {}\n", shown(row, "displayName")));
        let hosts = ["lanHost", "tailnetDns"].iter().filter(|name| row.get(**name).is_some());
        let hosts: Vec<_> = hosts.map(|name| shown(row, name)).collect();
        let mut lines = vec![vec!["  hosts".to_owned(), if hosts.is_empty() { "-".into() } else { hosts.join(", ") }]];
        let members = ["sshPort", "gatewayPort", "cliPath", "isLocal", "stableID", "debugID"];
        for (name, member) in ["ssh", "gatewayPort", "cliPath", "isLocal", "stableID", "debugID"].iter().zip(members) {
            if row.get(member).is_some() {
                lines.push(vec![format!("  {name}"), shown(row, member).into_owned()]);
            }
        }
        lines.extend(way_to(row).map(|way| vec!["  look".to_owned(), way.to_string()]));
        out.push_str(table(&["", ""], &lines).split_once('\n').map_or("", |(_, rows)| rows));
    }
    out
}
