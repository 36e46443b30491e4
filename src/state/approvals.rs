//! The approvals document: what its owner allowed. Looked at again for every decision; a document
//! that does not parse denies everything and is never overwritten (A139); a missing one means the
//! defaults (A140). Source: spec exec (a.2)–(a.6), (c.1); DESIGN "Decisions and edits from outside".

pub mod edit;

use super::files::Stamp;
use super::{Care, DocumentLock, StateDir, StateError, files, pause, store};
use crate::identity::random;
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::{Ask, Fence, Security};
use crate::protocol::strict;
use crate::sys::clock;
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The only version there is.
const VERSION: u64 = 1;
/// The entry that holds for every agent.
const EVERY_AGENT: &str = "*";
/// An old name of [`MAIN_AGENT`], folded into it on reading. Source: spec exec (a.4).
const DEFAULT_AGENT: &str = "default";
const MAIN_AGENT: &str = "main";
/// The word in `source` of an entry that an answer made.
const ALLOW_ALWAYS: &str = "allow-always";

/// What holds where the document says nothing. Source: security-cases A140 row.
const BUILT_IN: Rules =
    Rules { security: Security::Allowlist, ask: Ask::OnMiss, ask_fallback: Security::Deny, auto_allow_skills: false };
/// What holds when the document cannot be understood. Source: spec exec (a.4).
const NOTHING: Rules =
    Rules { security: Security::Deny, ask: Ask::Off, ask_fallback: Security::Deny, auto_allow_skills: false };

/// One allowlist entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    /// Names the entry in the document; one that has none there gets one from its content, so that
    /// it is the same at every reading.
    pub id: String,
    /// Glob over the resolved absolute path.
    pub pattern: String,
    /// Restricts the arguments; an entry with one never matches before part 2 understands it.
    pub arg_pattern: Option<String>,
    /// `allow-always` for entries that an answer made.
    pub source: Option<String>,
}

/// One denylist entry. ours
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyEntry {
    /// Glob over the resolved absolute path of any program that takes part, or over a bare name.
    Program(String),
    /// Glob over the whole command as it is shown to a person; `*` is any run of characters here.
    Command(String),
}

/// The policy that holds for one agent, after precedence (c.1) and the strictness rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// What may run.
    pub security: Security,
    /// When a person is asked.
    pub ask: Ask,
    /// What holds when nobody can answer.
    pub ask_fallback: Security,
    /// Trust the gateway's skill list (part 2).
    pub auto_allow_skills: bool,
    /// `*` entries, then the agent's.
    pub allowlist: Vec<AllowEntry>,
    /// `*` entries and the agent's. They win over everything, also in `full`.
    pub denylist: Vec<DenyEntry>,
    /// What a command is kept from.
    pub fence: Fence,
    /// `local.trustGatewayApprovals`: an approval made at the gateway replaces our prompt.
    pub trust_gateway_approvals: bool,
    /// Why everything is denied, when the document is broken; shown to the caller.
    pub broken: Option<String>,
    /// Identifies everything above; a changed one means: decide again. Recording the use of an
    /// entry does not change it.
    pub snapshot: String,
}

/// `local.remoteEdits`: what becomes of an edit from outside that loosens the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteEdits {
    /// The person is shown the difference.
    #[default]
    Ask,
    /// It is applied.
    Allow,
}

/// The document as the wire may see it: never with the token (A157).
#[derive(Debug)]
pub struct Snapshot {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether there is one.
    pub exists: bool,
    /// `baseHash` of a later edit. Source: spec exec (a.5).
    pub hash: String,
    /// The document, normalised; `socket` has only its path.
    pub file: Value,
}

/// The store of the one approvals document.
pub struct ApprovalsDocument {
    path: PathBuf,
    socket: PathBuf,
    pause: PathBuf,
    care: Care,
    cache: Mutex<Option<Cached>>,
}

struct Cached {
    stamp: Option<Stamp>,
    settled: bool,
    read: Arc<Reading>,
}

/// One state of the document, understood or not.
struct Reading {
    exists: bool,
    hash: String,
    document: Result<Document, String>,
}

impl ApprovalsDocument {
    /// The document of `state`; nothing is read or created yet.
    pub fn new(state: &StateDir) -> Self {
        Self {
            path: state.approvals(),
            socket: state.exec_socket(),
            pause: state.paused(),
            care: Care::Document,
            cache: Mutex::new(None),
        }
    }

    /// The same for those who only look: reading repairs nothing.
    pub fn for_inspection(state: &StateDir) -> Self {
        Self { care: Care::Inspect, ..Self::new(state) }
    }

    /// The policy for a request of `agent` right now. A missing or unknown agent gets `*` and
    /// `defaults` only, never `main` (H16). A known agent's own entry can only tighten that unless
    /// the caller's word for the agent is `trusted` (A55). Never fails: what cannot be read denies.
    pub fn effective(&self, agent: Option<&str>, trusted: bool) -> EffectivePolicy {
        match &self.read().document {
            Ok(document) => document.effective(agent, trusted),
            Err(why) => EffectivePolicy::broken(why.clone()),
        }
    }

    /// Where the document lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing may start, whatever the document says.
    pub fn is_paused(&self) -> bool {
        pause::is_on(&self.pause)
    }

    /// `local.remoteEdits`; the strict answer when the document is broken.
    pub fn remote_edits(&self) -> RemoteEdits {
        self.read().document.as_ref().map_or(RemoteEdits::Ask, |document| document.local.remote_edits)
    }

    /// Hash of the stored bytes, `missing:` and the hash of nothing when there is no document.
    pub fn hash(&self) -> String {
        self.read().hash.clone()
    }

    /// Creates the document when there is none, and adds socket path and token when it has none.
    ///
    /// # Errors
    /// The document is broken or unsafe (it stays as it is), or the write failed.
    pub fn ensure(&self) -> Result<(), StateError> {
        self.change(|_| {})
    }

    /// The token of the exec socket.
    ///
    /// # Errors
    /// No usable document, or a token of fewer than [`limits::EXEC_TOKEN_CHARS`] characters.
    pub fn socket_token(&self) -> Result<Secret, StateError> {
        let read = self.read();
        let document = read.document.as_ref().map_err(|why| StateError::broken(&self.path, why.clone()))?;
        match &document.socket_token {
            Some(token) if token.expose_text().chars().count() >= limits::EXEC_TOKEN_CHARS => Ok(token.copy()),
            Some(_) => Err(StateError::broken(
                &self.path,
                format!(
                    "socket.token has fewer than {} characters; remove it and start the app again",
                    limits::EXEC_TOKEN_CHARS
                ),
            )),
            None => Err(StateError::broken(&self.path, "it has no socket.token; start the app once")),
        }
    }

    /// The exec socket that the document names, else ours.
    pub fn socket_path(&self) -> PathBuf {
        let read = self.read();
        let named = read.document.as_ref().ok().and_then(|document| document.socket_path.clone());
        named.map_or_else(|| self.socket.clone(), PathBuf::from)
    }

    /// Puts `pattern` on the allowlist of `agent`, of every agent when there is none. Everything
    /// else in the document stays as it is by now, so nothing that its owner removed meanwhile
    /// comes back (A73).
    ///
    /// # Errors
    /// The document is broken or unsafe (it stays as it is), or the write failed.
    pub fn add_allow_always(
        &self,
        agent: Option<&str>,
        pattern: &str,
        arg_pattern: Option<&str>,
    ) -> Result<(), StateError> {
        let agent = agent.map(str::trim).filter(|agent| !agent.is_empty()).unwrap_or(EVERY_AGENT);
        // `__proto__` would make the document malformed.
        if agent == "__proto__" || pattern.trim().is_empty() {
            return Err(StateError::broken(&self.path, "this agent or pattern cannot be written into it"));
        }
        self.change(|document| {
            let Some(entries) = allowlist_of(document, agent) else { return };
            let same = |entry: &Value| {
                entry_pattern(entry) == pattern && entry.get("argPattern").and_then(Value::as_str) == arg_pattern
            };
            if entries.iter().any(same) {
                return;
            }
            let mut entry = json!({
                "id": random::uuid(),
                "pattern": pattern,
                "source": ALLOW_ALWAYS,
                "lastUsedAt": clock::wall_ms(),
            });
            if let (Some(arg_pattern), Some(members)) = (arg_pattern, entry.as_object_mut()) {
                members.insert("argPattern".to_owned(), arg_pattern.into());
            }
            entries.push(entry);
        })
    }

    /// Notes that `entry` let a command run. An entry that is no longer there stays away (A73).
    ///
    /// # Errors
    /// The document is broken or unsafe (it stays as it is), or the write failed.
    pub fn record_use(&self, entry: &AllowEntry, command: &str, resolved: &Path) -> Result<(), StateError> {
        self.change(|document| {
            let agents = document.get_mut("agents").and_then(Value::as_object_mut);
            for (agent, policy) in agents.into_iter().flatten() {
                let entries = policy.get_mut("allowlist").and_then(Value::as_array_mut);
                for stored in entries.into_iter().flatten() {
                    if id_of(agent, stored) == entry.id && entry_pattern(stored) == entry.pattern {
                        note_use(stored, &entry.id, command, resolved);
                    }
                }
            }
        })
    }

    /// The document for a peer that may read it.
    ///
    /// # Errors
    /// The document is broken or unsafe.
    pub fn snapshot_for_wire(&self) -> Result<Snapshot, StateError> {
        let read = self.read();
        let document = read.document.as_ref().map_err(|why| StateError::broken(&self.path, why.clone()))?;
        let socket = document.socket_path.as_ref().map_or_else(|| json!({}), |path| json!({ "path": path }));
        let mut file = document.raw.clone();
        file.insert("version".to_owned(), VERSION.into());
        file.insert("socket".to_owned(), socket);
        for name in ["defaults", "agents"] {
            file.entry(name).or_insert_with(|| json!({}));
        }
        Ok(Snapshot {
            path: self.path.clone(),
            exists: read.exists,
            hash: read.hash.clone(),
            file: Value::Object(file),
        })
    }

    /// The document as it is now; parsed again only when the file is another one than before.
    fn read(&self) -> Arc<Reading> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let now = files::stamp(&self.path);
        if let (Some(cached), Ok(stamp)) = (&*cache, &now)
            && cached.settled
            && cached.stamp == *stamp
        {
            return Arc::clone(&cached.read);
        }
        let (stamp, read) = read_document(&self.path, self.care);
        let read = Arc::new(read);
        // What has no stamp may be mended without the file changing (a directory's mode): look again.
        let settled = stamp.is_some_and(|stamp| stamp.is_settled());
        *cache = Some(Cached { stamp, settled, read: Arc::clone(&read) });
        read
    }

    /// Changes the stored JSON under the document's lock, after making sure that it has a socket
    /// and a token. Nothing is written when nothing changed.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), StateError> {
        let lock = DocumentLock::take(&self.path)?;
        let mut document = match files::read(&self.path, Care::Document)? {
            None => new_document(),
            Some(contents) => {
                let text = contents.text(&self.path)?;
                Document::parse(text).map_err(|why| StateError::broken(&self.path, why))?.raw
            }
        };
        let before = Value::Object(document.clone());
        add_socket(&mut document, &self.socket);
        change(&mut document);
        let after = Value::Object(document);
        if after == before {
            return Ok(());
        }
        let text = store::to_text(&self.path, &after)?;
        // What we write must be what we would read.
        Document::parse(&text).map_err(|why| StateError::broken(&self.path, why))?;
        files::replace(&lock, text.as_bytes())
    }
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn read_document(path: &Path, care: Care) -> (Option<Stamp>, Reading) {
    match files::read(path, care) {
        Ok(None) => {
            let hash = format!("missing:{}", sha256(b""));
            (None, Reading { exists: false, hash, document: Ok(Document::default()) })
        }
        Ok(Some(contents)) => {
            let document = std::str::from_utf8(&contents.bytes)
                .map_err(|_| "it is not UTF-8 text".to_owned())
                .and_then(Document::parse)
                .map_err(|why| format!("{} is broken ({why}); nothing runs until it is repaired", path.display()));
            (Some(contents.stamp), Reading { exists: true, hash: sha256(&contents.bytes), document })
        }
        Err(error) => {
            let why = format!("{error}; nothing runs until that is repaired");
            (None, Reading { exists: true, hash: String::new(), document: Err(why) })
        }
    }
}

/// A fresh document says openly what holds.
fn new_document() -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("version".to_owned(), VERSION.into());
    document.insert(
        "defaults".to_owned(),
        json!({
            "security": BUILT_IN.security,
            "ask": BUILT_IN.ask,
            "askFallback": BUILT_IN.ask_fallback,
            "autoAllowSkills": BUILT_IN.auto_allow_skills,
        }),
    );
    document.insert("agents".to_owned(), json!({}));
    document
}

/// Adds what is absent or blank in `socket`; what is there stays.
fn add_socket(document: &mut Map<String, Value>, path: &Path) {
    let socket = document.entry("socket").or_insert_with(|| json!({}));
    let Some(socket) = socket.as_object_mut() else { return };
    let blank = |value: Option<&Value>| value.and_then(Value::as_str).is_none_or(|text| text.trim().is_empty());
    if blank(socket.get("path")) {
        socket.insert("path".to_owned(), path.to_string_lossy().into());
    }
    if blank(socket.get("token")) {
        let token = random::token::<{ random::SOCKET_TOKEN_BYTES }>();
        socket.insert("token".to_owned(), token.expose_text().into());
    }
}

/// The stored allowlist of `agent`, made if it is not there.
fn allowlist_of<'a>(document: &'a mut Map<String, Value>, agent: &str) -> Option<&'a mut Vec<Value>> {
    let agents = document.entry("agents").or_insert_with(|| json!({})).as_object_mut()?;
    let policy = agents.entry(agent).or_insert_with(|| json!({})).as_object_mut()?;
    policy.entry("allowlist").or_insert_with(|| json!([])).as_array_mut()
}

fn entry_pattern(entry: &Value) -> &str {
    entry.as_str().or_else(|| entry.get("pattern").and_then(Value::as_str)).unwrap_or_default().trim()
}

/// The stored id, else one made of the content: stable, so that a use can be recorded.
fn id_of(agent: &str, entry: &Value) -> String {
    if let Some(id) = entry.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()) {
        return id.to_owned();
    }
    let arg_pattern = entry.get("argPattern").and_then(Value::as_str).unwrap_or_default();
    let hex = sha256(format!("{agent}\0{}\0{arg_pattern}", entry_pattern(entry)).as_bytes());
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    // In the form of a version 8 UUID (RFC 9562): the Mac app demands one.
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

fn note_use(stored: &mut Value, id: &str, command: &str, resolved: &Path) {
    if stored.is_string() {
        *stored = json!({ "pattern": entry_pattern(stored) });
    }
    let Some(members) = stored.as_object_mut() else { return };
    let generated = members.get("source").is_some();
    members.insert("id".to_owned(), id.into());
    members.insert("lastUsedAt".to_owned(), clock::wall_ms().into());
    members.insert("lastResolvedPath".to_owned(), resolved.to_string_lossy().into());
    // The command of a generated entry may be private and is not needed. Source: spec exec (c.5).
    if !generated {
        members.insert("lastUsedCommand".to_owned(), command.into());
    }
}

/// Policy fields as one level of the document has them.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    security: Option<Security>,
    ask: Option<Ask>,
    ask_fallback: Option<Security>,
    auto_allow_skills: Option<bool>,
}

impl Level {
    /// What is absent here is taken from `below`.
    fn over(self, below: Rules) -> Rules {
        Rules {
            security: self.security.unwrap_or(below.security),
            ask: self.ask.unwrap_or(below.ask),
            ask_fallback: self.ask_fallback.unwrap_or(below.ask_fallback),
            auto_allow_skills: self.auto_allow_skills.unwrap_or(below.auto_allow_skills),
        }
    }

    /// What is absent here is taken from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            security: self.security.or(other.security),
            ask: self.ask.or(other.ask),
            ask_fallback: self.ask_fallback.or(other.ask_fallback),
            auto_allow_skills: self.auto_allow_skills.or(other.auto_allow_skills),
        }
    }
}

/// All policy fields.
#[derive(Clone, Copy, Debug)]
struct Rules {
    security: Security,
    ask: Ask,
    ask_fallback: Security,
    auto_allow_skills: bool,
}

impl Rules {
    fn stricter(self, other: Self) -> Self {
        Self {
            security: self.security.min(other.security),
            ask: self.ask.max(other.ask),
            ask_fallback: self.ask_fallback.min(other.ask_fallback),
            auto_allow_skills: self.auto_allow_skills && other.auto_allow_skills,
        }
    }
}

#[derive(Default)]
struct Agent {
    level: Level,
    allowlist: Vec<AllowEntry>,
}

#[derive(Default)]
struct Local {
    trust_gateway_approvals: bool,
    remote_edits: RemoteEdits,
}

/// The document, understood.
#[derive(Default)]
struct Document {
    socket_path: Option<String>,
    socket_token: Option<Secret>,
    defaults: Level,
    agents: BTreeMap<String, Agent>,
    local: Local,
    /// As stored, with members that we do not know.
    raw: Map<String, Value>,
}

impl Document {
    fn effective(&self, agent: Option<&str>, trusted: bool) -> EffectivePolicy {
        let nobody = Agent::default();
        let everyone = self.agents.get(EVERY_AGENT).unwrap_or(&nobody);
        let base = everyone.level.over(self.defaults.over(BUILT_IN));
        let mut allowlist = everyone.allowlist.clone();
        let own = agent.map(str::trim).filter(|agent| *agent != EVERY_AGENT).and_then(|agent| self.agents.get(agent));
        let rules = match own {
            None => base,
            Some(own) if trusted => {
                allowlist.extend(own.allowlist.iter().cloned());
                own.level.over(base)
            }
            Some(own) => own.level.over(base).stricter(base),
        };
        EffectivePolicy::new(rules, allowlist, self.local.trust_gateway_approvals, None)
    }

    /// # Errors
    /// Where the text breaks the schema, without its values. Source: spec exec (a.2), (a.4).
    fn parse(text: &str) -> Result<Self, String> {
        strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(text).map_err(|_| "invalid JSON".to_owned())?;
        let Value::Object(raw) = value else { return Err("document: expected an object".to_owned()) };
        // 1.0 is 1 in JSON.
        if raw.get("version").and_then(Value::as_f64) != Some(VERSION as f64) {
            return Err("version: expected 1".to_owned());
        }
        let socket = object(&raw, "socket", "socket")?;
        let socket_text =
            |name| Ok::<_, String>(text_at(socket, name, "socket")?.map(str::trim).filter(|text| !text.is_empty()));
        let socket_path = socket_text("path")?.map(ToOwned::to_owned);
        let socket_token = socket_text("token")?.map(|token| Secret::new(token.to_owned()));
        let defaults = match object(&raw, "defaults", "defaults")? {
            Some(defaults) => level(defaults, "defaults")?,
            None => Level::default(),
        };
        let agents = parse_agents(object(&raw, "agents", "agents")?)?;
        let local = parse_local(object(&raw, "local", "local")?)?;
        Ok(Self { socket_path, socket_token, defaults, agents, local, raw })
    }
}

fn parse_agents(stored: Option<&Map<String, Value>>) -> Result<BTreeMap<String, Agent>, String> {
    let mut agents = BTreeMap::new();
    for (position, (name, value)) in stored.into_iter().flatten().enumerate() {
        // Agents are counted, not named: a diagnostic carries no values.
        let at = format!("agents entry #{}", position + 1);
        if name == "__proto__" {
            return Err("agents: `__proto__` is not an agent".to_owned());
        }
        let Value::Object(members) = value else { return Err(format!("{at}: expected an object")) };
        agents.insert(name.clone(), Agent { level: level(members, &at)?, allowlist: allowlist(name, members, &at)? });
    }
    fold_default(&mut agents);
    Ok(agents)
}

/// `default` is `main`: main's own fields win, its entries come first. Source: spec exec (a.4).
fn fold_default(agents: &mut BTreeMap<String, Agent>) {
    let Some(old) = agents.remove(DEFAULT_AGENT) else { return };
    let Some(main) = agents.get_mut(MAIN_AGENT) else {
        agents.insert(MAIN_AGENT.to_owned(), old);
        return;
    };
    main.level = main.level.or(old.level);
    main.allowlist.extend(old.allowlist);
    let mut seen = HashSet::new();
    main.allowlist.retain(|entry| {
        let arguments = entry.arg_pattern.as_deref().map(|text| text.trim().to_owned());
        seen.insert((entry.pattern.to_lowercase(), arguments))
    });
}

fn parse_local(local: Option<&Map<String, Value>>) -> Result<Local, String> {
    let mut parsed = Local::default();
    for (name, value) in local.into_iter().flatten() {
        match (name.as_str(), value) {
            ("trustGatewayApprovals", Value::Bool(trust)) => parsed.trust_gateway_approvals = *trust,
            ("trustGatewayApprovals", _) => return Err("local.trustGatewayApprovals: expected a boolean".to_owned()),
            ("remoteEdits", Value::String(word)) if word == "allow" => parsed.remote_edits = RemoteEdits::Allow,
            ("remoteEdits", Value::String(word)) if word == "ask" => parsed.remote_edits = RemoteEdits::Ask,
            ("remoteEdits", _) => return Err("local.remoteEdits: expected `ask` or `allow`".to_owned()),
            _ => return Err("local: a member that we do not know".to_owned()),
        }
    }
    Ok(parsed)
}

fn level(members: &Map<String, Value>, at: &str) -> Result<Level, String> {
    let wrong = |name: &str| format!("{at}.{name}: expected a supported value");
    let security = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().and_then(Security::from_word).map(Some).ok_or_else(|| wrong(name)),
    };
    Ok(Level {
        security: security("security")?,
        ask: match members.get("ask") {
            None => None,
            Some(value) => Some(value.as_str().and_then(Ask::from_word).ok_or_else(|| wrong("ask"))?),
        },
        ask_fallback: security("askFallback")?,
        auto_allow_skills: match members.get("autoAllowSkills") {
            None => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => return Err(format!("{at}.autoAllowSkills: expected a boolean")),
        },
    })
}

fn allowlist(agent: &str, members: &Map<String, Value>, at: &str) -> Result<Vec<AllowEntry>, String> {
    let at = format!("{at}.allowlist");
    let entries = match members.get("allowlist") {
        None => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("{at}: expected an array")),
    };
    entries
        .iter()
        .enumerate()
        .map(|(position, entry)| parse_entry(agent, entry, &format!("{at}[{position}]")))
        .collect()
}

fn parse_entry(agent: &str, entry: &Value, at: &str) -> Result<AllowEntry, String> {
    let members = match entry {
        Value::String(_) => None,
        Value::Object(members) => Some(members),
        _ => return Err(format!("{at}: expected an object or a non-empty string")),
    };
    if entry_pattern(entry).is_empty() {
        return Err(format!("{at}.pattern: expected a non-empty string"));
    }
    for name in ["id", "commandText", "lastUsedCommand", "lastResolvedPath"] {
        text_at(members, name, at)?;
    }
    if members.and_then(|members| members.get("lastUsedAt")).is_some_and(|at| !at.is_number()) {
        return Err(format!("{at}.lastUsedAt: expected a number"));
    }
    let source = text_at(members, "source", at)?;
    if source.is_some_and(|source| source != ALLOW_ALWAYS) {
        return Err(format!("{at}.source: expected a supported value"));
    }
    Ok(AllowEntry {
        id: id_of(agent, entry),
        pattern: entry_pattern(entry).to_owned(),
        arg_pattern: text_at(members, "argPattern", at)?.map(ToOwned::to_owned),
        source: source.map(ToOwned::to_owned),
    })
}

fn object<'a>(members: &'a Map<String, Value>, name: &str, at: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("{at}: expected an object")),
    }
}

fn text_at<'a>(members: Option<&'a Map<String, Value>>, name: &str, at: &str) -> Result<Option<&'a str>, String> {
    match members.and_then(|members| members.get(name)) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{at}.{name}: expected a string")),
    }
}

impl EffectivePolicy {
    fn new(rules: Rules, allowlist: Vec<AllowEntry>, trust_gateway_approvals: bool, broken: Option<String>) -> Self {
        let mut policy = Self {
            security: rules.security,
            ask: rules.ask,
            ask_fallback: rules.ask_fallback,
            auto_allow_skills: rules.auto_allow_skills,
            allowlist,
            denylist: Vec::new(),
            fence: Fence::State,
            trust_gateway_approvals,
            broken,
            snapshot: String::new(),
        };
        policy.snapshot = sha256(format!("{policy:?}").as_bytes());
        policy
    }

    fn broken(why: String) -> Self {
        Self::new(NOTHING, Vec::new(), false, Some(why))
    }
}
