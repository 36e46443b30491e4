//! The changes that have a name on the command line, on the stored JSON; what the owner has there
//! beside them stays. Source: spec exec (a.7); issue part 2, point 8.

use super::edit::{EditError, keep_socket, loosened};
use super::wire::Form;
use super::{ApprovalsDocument, DEFAULT_AGENT, Document, EVERY_AGENT, MAIN_AGENT, Snapshot, entry_pattern, id_of};
use crate::identity::random;
use crate::protocol::policy::{Ask, Fence, Security};
use serde_json::{Map, Value, json};

/// One of an agent's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// What runs without a question.
    Allow,
    /// What never runs.
    Deny,
}

impl List {
    /// The member of the document.
    pub fn member(self) -> &'static str {
        match self {
            Self::Allow => "allowlist",
            Self::Deny => "denylist",
        }
    }
}

/// What tells one entry from another, next to its id.
const IDENTITY: [&str; 4] = ["pattern", "argPattern", "command", "source"];

/// A change of what holds for one agent, `*` for all.
#[derive(Clone, Debug)]
pub enum Change {
    /// The whole document becomes this one.
    Replace(Map<String, Value>),
    /// A list gets an entry with these members.
    Add(List, Vec<(&'static str, String)>),
    /// A list loses the entries that have this text in this member, or as their id.
    Remove(List, &'static str, String),
    /// What may run, and when a person is asked.
    Mode(Security, Ask),
    /// What commands are kept from.
    Fence(Fence),
}

impl Change {
    /// Makes the change, of what holds for `agent`; what that means, a sentence each.
    ///
    /// # Errors
    /// There is nothing to remove, or no such agent can be.
    pub fn make(&self, document: &mut Map<String, Value>, agent: &str) -> Result<Vec<String>, EditError> {
        let agent = match agent.trim() {
            "" | "__proto__" => return Err(EditError::NotAllowed("this is no agent; leave it out for all".to_owned())),
            DEFAULT_AGENT => MAIN_AGENT,
            agent => agent,
        };
        let who = if agent == EVERY_AGENT { "everybody".to_owned() } else { format!("agent \"{agent}\"") };
        match self {
            Self::Replace(file) => replace(document, file.clone()),
            Self::Add(list, members) => {
                let described =
                    members.iter().map(|(_, text)| text.trim()).collect::<Vec<_>>().join(" with arguments ");
                let mut entry = Map::new();
                for (name, text) in members {
                    if text.trim().is_empty() {
                        return Err(EditError::NotAllowed(format!("an empty {name} names nothing")));
                    }
                    entry.insert((*name).to_owned(), text.trim().into());
                }
                let verb = if add_entry(document, agent, *list, entry) { "gets" } else { "already has" };
                Ok(vec![format!("{who}: the {} {verb} {described}", list.member())])
            }
            Self::Remove(list, member, text) => {
                let removed = remove_entries(document, agent, *list, member, text.trim());
                if removed.is_empty() {
                    let list = list.member();
                    return Err(EditError::NotAllowed(format!(
                        "{who}: the {list} has no such entry; see `approvals get`"
                    )));
                }
                Ok(removed.into_iter().map(|entry| format!("{who}: the {} loses {entry}", list.member())).collect())
            }
            Self::Mode(security, ask) => {
                set(document, agent, "security", security.word());
                set(document, agent, "ask", ask.word());
                let mut said = vec![format!("{who}: security is {}, ask is {}", security.word(), ask.word())];
                if *security == Security::Full {
                    said.push(format!(
                        "WARNING: {who}: EVERY command runs from now on, and nobody is asked; only the denylist still refuses"
                    ));
                }
                said.extend(exceptions(document, agent, &["security", "ask"]));
                Ok(said)
            }
            Self::Fence(fence) => {
                set(document, agent, "fence", fence.word());
                let mut said = vec![format!("{who}: commands are kept from {}", kept_from(*fence))];
                if *fence == Fence::None {
                    said.push(format!(
                        "WARNING: {who}: commands can read the gateway's token and edit this very document"
                    ));
                }
                said.extend(exceptions(document, agent, &["fence"]));
                Ok(said)
            }
        }
    }
}

impl ApprovalsDocument {
    /// Makes a change of the owner's, here, between nobody else's (A142); with `base_hash` only if the
    /// document is still that one. What it means, and the document afterwards.
    ///
    /// # Errors
    /// See [`EditError`]; the document is as it was.
    pub fn make_change(
        &self,
        change: &Change,
        agent: &str,
        base_hash: Option<&str>,
    ) -> Result<(Vec<String>, Snapshot), EditError> {
        let said = self.change(|document, hash| match base_hash {
            Some(base) if base.trim() != hash => Err(EditError::Changed),
            _ => {
                let said = change.make(document, agent)?;
                Document::parse(&Value::Object(document.clone()).to_string()).map_err(EditError::not_valid)?;
                self.note("the owner, at this machine", &said.join("; "), None)?;
                Ok(said)
            }
        })?;
        Ok((said, self.snapshot(Form::Whole)?))
    }
}

fn replace(document: &mut Map<String, Value>, mut file: Map<String, Value>) -> Result<Vec<String>, EditError> {
    keep_socket(&mut file, document)?;
    let parse = |members: &Map<String, Value>| Document::parse(&Value::Object(members.clone()).to_string());
    let (old, new) = (parse(document).map_err(EditError::not_valid)?, parse(&file).map_err(EditError::not_valid)?);
    let mut said = loosened(&old, &new);
    for what in &mut said {
        what.insert_str(0, "from now on allowed: ");
    }
    said.insert(0, "the document is replaced".to_owned());
    if file.get("local") != document.get("local") {
        said.push("`local`, what the owner says about edits and approvals from outside, is another one".to_owned());
    }
    *document = file;
    Ok(said)
}

/// Puts an entry on a list and gives it an id; false if one like it stands there.
pub(super) fn add_entry(
    document: &mut Map<String, Value>,
    agent: &str,
    list: List,
    mut entry: Map<String, Value>,
) -> bool {
    let Some(policy) = policy_of(document, agent) else { return false };
    let entries = policy.entry(list.member()).or_insert_with(|| json!([]));
    let Some(entries) = entries.as_array_mut() else { return false };
    let is_like = |stored: &Value| IDENTITY.iter().all(|name| text_of(stored, name) == text_in(&entry, name));
    if entries.iter().any(is_like) {
        return false;
    }
    entry.insert("id".to_owned(), random::uuid().into());
    entries.push(Value::Object(entry));
    true
}

/// Takes entries off a list, and what is empty then with them; their texts.
fn remove_entries(document: &mut Map<String, Value>, agent: &str, list: List, member: &str, text: &str) -> Vec<String> {
    let mut removed = Vec::new();
    let Some(agents) = document.get_mut("agents").and_then(Value::as_object_mut) else { return removed };
    // What stands under the old name holds for `main`.
    for name in [agent, DEFAULT_AGENT].into_iter().take(if agent == MAIN_AGENT { 2 } else { 1 }) {
        let Some(policy) = agents.get_mut(name).and_then(Value::as_object_mut) else { continue };
        let Some(entries) = policy.get_mut(list.member()).and_then(Value::as_array_mut) else { continue };
        entries.retain(|stored| {
            let is_it = text_of(stored, member) == text || id_of(name, stored) == text;
            if is_it {
                let texts = IDENTITY.iter().take(3).map(|name| text_of(stored, name)).filter(|text| !text.is_empty());
                removed.push(texts.collect::<Vec<_>>().join(" with arguments "));
            }
            !is_it
        });
        if entries.is_empty() {
            policy.remove(list.member());
        }
        if policy.is_empty() {
            agents.remove(name);
        }
    }
    removed
}

/// The stored policy of `agent`, made if it is not there.
fn policy_of<'a>(document: &'a mut Map<String, Value>, agent: &str) -> Option<&'a mut Map<String, Value>> {
    let agents = document.entry("agents").or_insert_with(|| json!({})).as_object_mut()?;
    agents.entry(agent).or_insert_with(|| json!({})).as_object_mut()
}

fn set(document: &mut Map<String, Value>, agent: &str, name: &str, word: &str) {
    if let Some(policy) = policy_of(document, agent) {
        policy.insert(name.to_owned(), word.into());
    }
}

/// Agents whose own settings go before what was just said for all.
fn exceptions(document: &Map<String, Value>, agent: &str, names: &[&str]) -> Vec<String> {
    let agents = document.get("agents").and_then(Value::as_object).filter(|_| agent == EVERY_AGENT);
    let others = agents.into_iter().flatten().filter(|(name, _)| *name != EVERY_AGENT);
    let own = others.flat_map(|(agent, policy)| {
        names.iter().filter_map(move |name| {
            let word = policy.get(*name)?.as_str()?;
            Some(format!("but agent \"{agent}\" has its own: {name} {word}"))
        })
    });
    own.collect()
}

fn text_in<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default().trim()
}

fn text_of<'a>(entry: &'a Value, name: &str) -> &'a str {
    match entry.as_object() {
        Some(members) => text_in(members, name),
        None if name == "pattern" => entry_pattern(entry),
        None => "",
    }
}

fn kept_from(fence: Fence) -> &'static str {
    match fence {
        Fence::None => "nothing (fence none)",
        Fence::State => "our state directory and sockets (fence state)",
        Fence::Workspace => "our state, and from writing outside their working directory (fence workspace)",
        Fence::Offline => "our state, writing outside their working directory, and the network (fence offline)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(change: &Change, document: &mut Value, agent: &str) -> Result<String, String> {
        let said = change.make(document.as_object_mut().unwrap(), agent);
        said.map(|said| said.join("; ")).map_err(|error| error.to_string())
    }

    fn allow(pattern: &str) -> Change {
        Change::Add(List::Allow, vec![("pattern", pattern.to_owned())])
    }

    #[test]
    fn the_last_setting_of_an_agent_takes_it_away() {
        let mut document = json!({"version": 1, "agents": {"main": {"allowlist": ["/bin/ls"]}, "x": {"future": 1}}});
        assert_eq!(
            make(&allow(" /bin/cat "), &mut document, "main").unwrap(),
            "agent \"main\": the allowlist gets /bin/cat"
        );
        assert!(make(&allow("/bin/cat"), &mut document, "main").unwrap().contains("already has"));
        assert!(make(&allow("/bin/ls"), &mut document, "main").unwrap().contains("already has"), "plain entries count");
        let id = document["agents"]["main"]["allowlist"][1]["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36);
        let remove = |text: &str| Change::Remove(List::Allow, "pattern", text.to_owned());
        make(&remove(&id), &mut document, "main").unwrap();
        assert_eq!(document["agents"]["main"], json!({"allowlist": ["/bin/ls"]}));
        assert!(make(&remove("/bin/cat"), &mut document, "main").unwrap_err().contains("no such entry"));
        make(&remove(" /bin/ls"), &mut document, "main").unwrap();
        make(&allow("/bin/ls"), &mut document, "x").unwrap();
        make(&remove("/bin/ls"), &mut document, "x").unwrap();
        assert_eq!(document["agents"], json!({"x": {"future": 1}}));
    }

    #[test]
    fn entries_differ_by_arguments_kind_and_origin() {
        let mut document = json!({"version": 1});
        make(&allow("/bin/ls"), &mut document, "*").unwrap();
        let limited = vec![("pattern", "/bin/ls".to_owned()), ("argPattern", "-l".to_owned())];
        assert!(
            make(&Change::Add(List::Allow, limited), &mut document, "*")
                .unwrap()
                .contains("gets /bin/ls with arguments -l")
        );
        let mut answered = Map::new();
        answered.insert("pattern".to_owned(), "/bin/ls".into());
        answered.insert("source".to_owned(), "allow-always".into());
        assert!(add_entry(document.as_object_mut().unwrap(), "*", List::Allow, answered));
        for member in ["pattern", "command"] {
            make(&Change::Add(List::Deny, vec![(member, "rm".to_owned())]), &mut document, "*").unwrap();
        }
        assert_eq!(document["agents"]["*"]["denylist"].as_array().unwrap().len(), 2);
        make(&Change::Remove(List::Deny, "command", "rm".to_owned()), &mut document, "*").unwrap();
        assert_eq!(document["agents"]["*"]["denylist"][0]["pattern"], "rm");
        assert_eq!(document["agents"]["*"]["allowlist"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn modes_and_fences_say_what_they_mean_and_who_is_excepted() {
        let mut document = json!({"version": 1, "agents": {"main": {"security": "deny", "fence": "offline"}}});
        let said = make(&Change::Mode(Security::Full, Ask::Off), &mut document, "*").unwrap();
        assert!(said.contains("EVERY command runs") && said.contains("but agent \"main\" has its own: security deny"));
        assert_eq!(document["agents"]["*"], json!({"security": "full", "ask": "off"}));
        let said = make(&Change::Fence(Fence::None), &mut document, "*").unwrap();
        assert!(said.contains("WARNING") && said.contains("fence offline"), "{said}");
        // The old name of an agent means the new one.
        make(&Change::Fence(Fence::State), &mut document, "default").unwrap();
        assert_eq!(document["agents"]["main"]["fence"], "state");
        for agent in ["", " ", "__proto__"] {
            assert!(make(&Change::Fence(Fence::State), &mut document, agent).is_err());
        }
    }
}
