//! Edits from outside: compare-and-swap of the whole document, and what an edit would loosen.
//! Source: spec exec (a.5), (e.7); cases A53, A142, A157, H15; DESIGN "Decisions and edits from outside".

use super::wire::{self, Form};
use super::{AllowEntry, ApprovalsDocument, DenyEntry, Document, EVERY_AGENT, EffectivePolicy, RemoteEdits, Snapshot};
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::{Refusal, Security};
use crate::state::audit::Decision;
use crate::state::{StateError, store};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// Members of each level that [`Document::parse`] understands; everything else is foreign.
const TOP: &[&str] = &["version", "socket", "defaults", "agents", "local"];
const LEVEL: &[&str] = &["security", "ask", "askFallback", "autoAllowSkills", "fence", "allowlist", "denylist"];

/// Beginning of every sentence that says that the caller has not seen the document as it is.
/// Source: spec exec (e.7), frames `rpc-approvals-gateway-get-set`.
pub const CHANGED: &str = "exec approvals changed";
/// Beginning of the sentence that says that the caller has not named what it edits. Source: the same.
pub const NO_BASE_HASH: &str = "exec approvals base hash required";
/// Where nobody can be asked about an edit that loosens.
pub const NOBODY_HERE: &str = "nobody can be asked here; edit the file on that machine, or allow it there with \
     \"local\": {\"remoteEdits\": \"allow\"} in the approvals document";

/// Why an edit was not made. The document is as it was.
#[derive(Debug)]
pub enum EditError {
    /// The caller sent no document.
    NoFile,
    /// The caller did not say which state it edits.
    NoBaseHash,
    /// The document is not the one that the caller has seen.
    Changed,
    /// The new document is not one, or says what may not be said from outside.
    NotAllowed(String),
    /// The stored document.
    State(StateError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("exec approvals file required"),
            Self::NoBaseHash => write!(f, "{NO_BASE_HASH}; reload and retry"),
            Self::Changed => write!(f, "{CHANGED}; reload and retry"),
            Self::NotAllowed(why) => f.write_str(why),
            Self::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EditError {}

impl EditError {
    pub(super) fn not_valid(why: String) -> Self {
        Self::NotAllowed(format!("exec approvals file is not valid: {why}"))
    }
}

impl From<StateError> for EditError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// An edit that was checked and not made yet.
#[derive(Debug)]
pub struct Edit {
    base_hash: String,
    file: Map<String, Value>,
    form: Form,
    /// What would be allowed that is not now, in words; empty when the edit only tightens.
    pub loosened: Vec<String>,
    remote_edits: RemoteEdits,
}

impl Edit {
    /// Whether somebody must be asked: it loosens, and the owner has not said that this needs no
    /// question.
    pub fn needs_person(&self) -> bool {
        !self.loosened.is_empty() && self.remote_edits != RemoteEdits::Allow
    }

    /// Why it is not made.
    pub fn refusal(&self, why: &str) -> String {
        format!("this edit loosens the policy ({}) and {why}", self.loosened.join("; "))
    }

    /// What it does, for a log.
    pub fn summary(&self) -> String {
        if self.loosened.is_empty() { "tightened".to_owned() } else { self.loosened.join("; ") }
    }
}

impl ApprovalsDocument {
    /// Checks the replacement of the whole document by `file`, of a peer that has seen the state
    /// `base_hash` in this form. Socket, token, `local` and what the form cannot carry stay as they are
    /// stored; unknown members of `file` are kept.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn propose(&self, file: Option<&Value>, base_hash: Option<&str>, form: Form) -> Result<Edit, EditError> {
        let Some(Value::Object(file)) = file else { return Err(EditError::NoFile) };
        let base_hash = base_hash.map(str::trim).filter(|hash| !hash.is_empty()).ok_or(EditError::NoBaseHash)?;
        let stored = self.read();
        let old = stored.document.as_ref().map_err(|why| StateError::broken(&self.path, why.clone()))?;
        if stored.hash != base_hash {
            return Err(EditError::Changed);
        }
        let mut file = file.clone();
        keep_socket(&mut file, &old.raw)?;
        keep_local(&mut file, old)?;
        if form == Form::Wire {
            wire::keep(&mut file, &old.raw);
        }
        let text = store::to_text(&self.path, &file)?;
        if text.len() as u64 > limits::DOCUMENT_BYTES {
            return Err(EditError::NotAllowed(format!("the document is larger than {} bytes", limits::DOCUMENT_BYTES)));
        }
        let new = Document::parse(&text).map_err(EditError::not_valid)?;
        let loosened = loosened(old, &new);
        Ok(Edit { base_hash: base_hash.to_owned(), file, form, loosened, remote_edits: old.local.remote_edits })
    }

    /// Makes an edit of `requester`, unless the document has changed since it was proposed.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn apply(&self, edit: &Edit, requester: &str) -> Result<Snapshot, EditError> {
        self.change(|document, hash| {
            if hash != edit.base_hash {
                return Err(EditError::Changed);
            }
            self.note(requester, &edit.summary(), None)?;
            // There may have been no document, and no socket in it, when the edit was proposed.
            let socket = document.remove("socket");
            *document = edit.file.clone();
            document.extend(socket.map(|socket| ("socket".to_owned(), socket)));
            Ok(())
        })?;
        Ok(self.snapshot(edit.form)?)
    }

    /// Writes down that an edit of `requester` is not made.
    pub fn refuse(&self, edit: &Edit, requester: &str, refusal: &Refusal) {
        if let Err(error) = self.note(requester, &edit.summary(), Some(refusal)) {
            crate::log!("state", "{error}");
        }
    }

    /// One record of the audit log: what an edit of this document changes, in words.
    pub(super) fn note(&self, requester: &str, what: &str, refusal: Option<&Refusal>) -> Result<(), StateError> {
        let command = format!("approvals document: {what}");
        let by = if refusal.is_some() { "refused" } else { "edited" };
        self.audit.edit(&Decision { requester, command: &command, by, refusal, ..Decision::default() })
    }

    /// What holds where no agent says otherwise: `resolvedDefaults` of a snapshot.
    pub fn resolved_defaults(&self) -> Value {
        let policy = self.effective(None, false);
        serde_json::json!({
            "security": policy.security,
            "ask": policy.ask,
            "askFallback": policy.ask_fallback,
            "autoAllowSkills": policy.auto_allow_skills,
        })
    }
}

/// A caller writes back the socket that it read; that is no edit. Another one is refused (A157).
pub(super) fn keep_socket(new: &mut Map<String, Value>, old: &Map<String, Value>) -> Result<(), EditError> {
    let stored = old.get("socket").cloned();
    let given = new.remove("socket");
    let same = |name: &str, value: &Value| {
        let stored = stored.as_ref().and_then(|socket| socket.get(name)).and_then(Value::as_str);
        match (stored, value.as_str()) {
            (Some(stored), Some(given)) if ["path", "token"].contains(&name) => {
                Secret::new(stored.trim().to_owned()).matches(given.trim().as_bytes())
            }
            _ => false,
        }
    };
    let is_ours = match &given {
        None => true,
        Some(Value::Object(given)) => given.iter().all(|(name, value)| same(name, value)),
        Some(_) => false,
    };
    new.extend(stored.map(|stored| ("socket".to_owned(), stored)));
    is_ours.then_some(()).ok_or_else(|| {
        EditError::NotAllowed("the exec socket is not changed by an edit; leave `socket` out".to_owned())
    })
}

/// What the owner said about edits from outside is not for edits from outside.
fn keep_local(new: &mut Map<String, Value>, old: &Document) -> Result<(), EditError> {
    let stored = old.raw.get("local");
    if new.get("local").is_some_and(|given| Some(given) != stored) {
        let text = "`local` can only be changed in the file itself, on this machine; leave it out";
        return Err(EditError::NotAllowed(text.to_owned()));
    }
    if let Some(stored) = stored {
        new.insert("local".to_owned(), stored.clone());
    }
    Ok(())
}

/// What `new` would allow that `old` does not, for everybody and for every agent that either
/// names; at most [`limits::EDIT_DIFFERENCES`] sentences. When in doubt it is loosened.
pub(super) fn loosened(old: &Document, new: &Document) -> Vec<String> {
    let mut said = Vec::new();
    let named: BTreeSet<&str> = old.agents.keys().chain(new.agents.keys()).map(String::as_str).collect();
    compare("everybody", &old.effective(None, true), &new.effective(None, true), &mut said);
    for agent in named.into_iter().filter(|agent| *agent != EVERY_AGENT) {
        let who = format!("agent \"{agent}\"");
        // Believed or not, an agent's own entry counts; what holds for everybody was said above.
        for trusted in [true, false] {
            let before = said.len();
            compare(&who, &old.effective(Some(agent), trusted), &new.effective(Some(agent), trusted), &mut said);
            if said.len() > before {
                break;
            }
        }
    }
    for place in foreign(&new.raw).difference(&foreign(&old.raw)) {
        said.push(format!("something that this program does not know: {place}"));
    }
    if said.len() > limits::EDIT_DIFFERENCES {
        let more = said.split_off(limits::EDIT_DIFFERENCES).len();
        said.push(format!("and {more} more"));
    }
    said
}

fn compare(who: &str, old: &EffectivePolicy, new: &EffectivePolicy, said: &mut Vec<String>) {
    let mut say = |what: &str, from: &str, to: &str| said.push(format!("{who}: {what} {from} becomes {to}"));
    if new.security > old.security {
        say("security", old.security.word(), &format!("{} (ask {})", new.security.word(), new.ask.word()));
    }
    // Where nothing runs nobody is asked, and whoever lets something run again meets the line above.
    if new.ask < old.ask && new.security > Security::Deny {
        say("ask", old.ask.word(), new.ask.word());
    }
    // Asking more often lets more happen where nobody answers and the fall-back allows it.
    if new.ask > old.ask && old.security < Security::Full && new.ask_fallback > Security::Deny {
        let fallback = new.ask_fallback.word();
        say("ask", old.ask.word(), &format!("{}, with askFallback {fallback}", new.ask.word()));
    }
    if new.ask_fallback > old.ask_fallback {
        say("askFallback", old.ask_fallback.word(), new.ask_fallback.word());
    }
    if new.auto_allow_skills && !old.auto_allow_skills {
        say("autoAllowSkills", "false", "true");
    }
    if new.fence < old.fence {
        say("fence", old.fence.word(), new.fence.word());
    }
    for entry in old.denylist.iter().filter(|entry| !new.denylist.contains(entry)) {
        let (DenyEntry::Program(lost) | DenyEntry::Command(lost)) = entry;
        said.push(format!("{who}: the denylist loses {lost}"));
    }
    let key = |entry: &AllowEntry| (entry.pattern.clone(), entry.arg_pattern.clone(), entry.source.clone());
    let known: BTreeSet<_> = old.allowlist.iter().map(key).collect();
    for entry in new.allowlist.iter().filter(|entry| !known.contains(&key(entry))) {
        let arguments = entry.arg_pattern.as_ref().map_or_else(String::new, |text| format!(" with arguments {text}"));
        said.push(format!("{who}: the allowlist gets {}{arguments}", entry.pattern));
    }
}

/// Every member that we do not understand, where it stands and with its value.
fn foreign(raw: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut look = |at: &str, members: &Map<String, Value>, known: &[&str]| {
        for (name, value) in members.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            found.insert(format!("{at}{name} = {value}"));
        }
    };
    look("", raw, TOP);
    let object = |name: &str| raw.get(name).and_then(Value::as_object);
    if let Some(defaults) = object("defaults") {
        look("defaults.", defaults, LEVEL);
    }
    for (agent, policy) in object("agents").into_iter().flatten() {
        if let Some(policy) = policy.as_object() {
            look(&format!("agents.{agent}."), policy, LEVEL);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(members: Value) -> Document {
        let mut raw = json!({"version": 1});
        raw.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Document::parse(&raw.to_string()).unwrap()
    }

    fn says(old: Value, new: Value) -> Vec<String> {
        loosened(&document(old), &document(new))
    }

    #[test]
    fn sec_h15_everything_that_allows_more_is_loosening() {
        let strict = json!({
            "defaults": {"security": "allowlist", "ask": "always", "askFallback": "deny", "fence": "workspace",
                "denylist": ["/bin/dd"]},
            "agents": {"*": {"allowlist": [{"pattern": "/bin/ls", "argPattern": "-l"}], "denylist": [{"command": "rm -rf *"}]},
                "careful": {"security": "deny"}, "main": {"allowlist": [], "denylist": ["/bin/*"]}},
        });
        assert_eq!(says(strict.clone(), strict.clone()), Vec::<String>::new());
        let edited = |place: &str, value: Value| {
            let mut new = strict.clone();
            match place.rsplit_once('/') {
                Some((parent, name)) => new.pointer_mut(parent).unwrap()[name] = value,
                None => unreachable!(),
            }
            new
        };
        for (place, value, word) in [
            ("/defaults/security", json!("full"), "security allowlist becomes full"),
            ("/defaults/ask", json!("off"), "ask always becomes off"),
            ("/defaults/ask", json!("on-miss"), "ask always becomes on-miss"),
            ("/defaults/askFallback", json!("full"), "askFallback deny becomes full"),
            ("/defaults/autoAllowSkills", json!(true), "autoAllowSkills false becomes true"),
            ("/agents/*/ask", json!("off"), "everybody: ask"),
            ("/agents/*/allowlist", json!(["/bin/ls"]), "the allowlist gets /bin/ls"),
            ("/agents/*/allowlist", json!([{"pattern": "/bin/*", "argPattern": "-l"}]), "gets /bin/* with"),
            ("/agents/*/allowlist", json!([{"pattern": "/bin/ls", "argPattern": ".*"}]), "arguments .*"),
            ("/agents/main/allowlist", json!(["/bin/rm"]), "agent \"main\": the allowlist gets /bin/rm"),
            ("/agents/default", json!({"allowlist": ["/bin/rm"]}), "agent \"main\": the allowlist gets /bin/rm"),
            ("/agents/new", json!({"security": "full"}), "agent \"new\": security"),
            ("/agents/careful", json!({}), "agent \"careful\": security deny becomes allowlist"),
            ("/agents/main/mcpTools", json!([{"server": "s", "tool": "t"}]), "does not know: agents.main.mcpTools"),
            ("/agents", json!({"*": strict["agents"]["*"]}), "agent \"careful\": security"),
            ("/defaults/fence", json!("none"), "everybody: fence workspace becomes none"),
            ("/agents/main/fence", json!("state"), "agent \"main\": fence workspace becomes state"),
            ("/defaults/denylist", json!([]), "everybody: the denylist loses /bin/dd"),
            ("/agents/*/denylist", json!([{"pattern": "rm -rf *"}]), "everybody: the denylist loses rm -rf *"),
            ("/agents/*/denylist", json!([{"command": "rm -rf /*"}]), "everybody: the denylist loses rm -rf *"),
            ("/agents/main/denylist", json!(["/bin/x"]), "agent \"main\": the denylist loses /bin/*"),
        ] {
            let said = says(strict.clone(), edited(place, value));
            assert!(said.iter().any(|line| line.contains(word)), "{place}: {said:?}");
        }
        // Nothing runs, so nobody need be asked; but not for an agent that has a security of its own.
        let asks = json!({"defaults": {"ask": "always"}, "agents": {"main": {"security": "allowlist"}}});
        let denies = json!({"defaults": {"security": "deny", "ask": "off"}, "agents": asks["agents"]});
        assert_eq!(says(asks.clone(), denies.clone()), ["agent \"main\": ask always becomes off"]);
        assert!(says(denies, asks)[0].ends_with("security deny becomes allowlist (ask always)"));
        // More questions are more permission where no answer is permission.
        let off = json!({"defaults": {"security": "allowlist", "ask": "off", "askFallback": "full"}});
        let asks = json!({"defaults": {"security": "allowlist", "ask": "on-miss", "askFallback": "full"}});
        assert_eq!(says(off, asks).len(), 1);
        let many: Vec<_> = (0..100).map(|number| format!("/bin/{number}")).collect();
        let said = says(json!({}), json!({"agents": {"*": {"allowlist": many}}}));
        assert_eq!((said.len(), said.last().unwrap().as_str()), (limits::EDIT_DIFFERENCES + 1, "and 80 more"));
    }

    #[test]
    fn what_only_forbids_is_no_loosening() {
        let loose = json!({
            "defaults": {"security": "full", "ask": "off", "askFallback": "full", "autoAllowSkills": true, "fence": "none"},
            "agents": {"main": {"allowlist": ["/bin/ls", {"pattern": "/bin/cat"}]}, "x": {"mcpTools": []}},
        });
        for new in [
            json!({"defaults": {"security": "full", "ask": "always"}, "agents": {}}),
            json!({"defaults": {"security": "deny", "ask": "off"}}),
            json!({"defaults": {"security": "deny", "ask": "off"}, "agents": {"x": {"mcpTools": []}}}),
            json!({"defaults": {"security": "allowlist"}, "agents": {"main": {"allowlist": ["/bin/cat"]}}}),
            json!({"defaults": {"security": "full", "ask": "off"}, "agents": {"new": {"security": "deny"}}}),
            json!({}),
            json!({"defaults": {"security": "full", "ask": "off", "fence": "state", "denylist": ["x"]}}),
            json!({"agents": {"main": {"fence": "offline", "denylist": [{"command": "*"}]}}}),
        ] {
            assert_eq!(says(loose.clone(), new.clone()), Vec::<String>::new(), "{new}");
        }
    }
}
