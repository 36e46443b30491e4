//! The approvals document: what its owner allowed. Looked at again for every decision; a document
//! that does not parse denies everything and is never overwritten (A139); a missing one means the
//! defaults (A140). Source: spec exec (a.2)–(a.6), (c.1); DESIGN "Decisions and edits from outside".

pub mod change;
mod document;
pub mod edit;
pub mod wire;

use self::document::{Document, Rules};
use self::wire::Form;
use super::audit::AuditLog;
use super::files::Stamp;
use super::{Care, DocumentLock, StateDir, StateError, files, pause, store};
use crate::identity::random;
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::{Ask, Fence, Security};
use crate::sys::clock;
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The only version there is.
const VERSION: u64 = 1;
/// The entry that holds for every agent.
pub const EVERY_AGENT: &str = "*";
/// An old name of [`MAIN_AGENT`], folded into it on reading. Source: spec exec (a.4).
const DEFAULT_AGENT: &str = "default";
const MAIN_AGENT: &str = "main";
/// The word in `source` of an entry that an answer made. Source: spec exec (a.2).
pub const ALLOW_ALWAYS: &str = "allow-always";

/// What holds where the document says nothing. Source: security-cases A140 row; fence: ours.
const BUILT_IN: Rules = Rules {
    security: Security::Allowlist,
    ask: Ask::OnMiss,
    ask_fallback: Security::Deny,
    auto_allow_skills: false,
    fence: Fence::State,
};
/// What holds when the document cannot be understood. Source: spec exec (a.4).
const NOTHING: Rules = Rules {
    security: Security::Deny,
    ask: Ask::Off,
    ask_fallback: Security::Deny,
    auto_allow_skills: false,
    fence: Fence::Offline,
};

/// One allowlist entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    /// Names the entry in the document; one that has none there gets one from its content, so that
    /// it is the same at every reading.
    pub id: String,
    /// Glob over the resolved absolute path.
    pub pattern: String,
    /// Restricts the arguments.
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

/// The document as the wire may see it: never with the token (A157). Source: spec exec (e.7).
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether there is one.
    pub exists: bool,
    /// `baseHash` of a later edit. Source: spec exec (a.5).
    pub hash: String,
    /// The document, normalised; `socket` has only its path.
    pub file: Value,
    /// That `file` is in [`Form::Whole`]; the wire form has no such member.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What holds where no agent says otherwise, for those who ask for it.
    #[serde(rename = "resolvedDefaults", skip_serializing_if = "Option::is_none")]
    pub resolved_defaults: Option<Value>,
}

/// The store of the one approvals document.
pub struct ApprovalsDocument {
    path: PathBuf,
    socket: PathBuf,
    pause: PathBuf,
    care: Care,
    cache: Mutex<Option<Cached>>,
    audit: AuditLog,
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
            audit: AuditLog::new(state),
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

    /// Whether any policy in it counts on the gateway's skills.
    pub fn wants_skills(&self) -> bool {
        self.read().document.as_ref().is_ok_and(Document::wants_skills)
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

    /// `local.requireOwnTeam`: nobody but programs of our own team may speak on the app's sockets. ours
    pub fn requires_own_team(&self) -> bool {
        self.read().document.as_ref().is_ok_and(|document| document.local.require_own_team)
    }

    /// `local.assistiveInput`: a prompt's buttons may also be pressed by a program, for example a screen reader.
    pub fn accepts_assistive_input(&self) -> bool {
        self.read().document.as_ref().is_ok_and(|document| document.local.assistive_input)
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
        self.change(|_, _| Ok(()))
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
        self.change(|document, _| {
            let mut entry = Map::new();
            entry.insert("pattern".to_owned(), pattern.into());
            entry.insert("source".to_owned(), ALLOW_ALWAYS.into());
            entry.insert("lastUsedAt".to_owned(), clock::wall_ms().into());
            if let Some(arg_pattern) = arg_pattern {
                entry.insert("argPattern".to_owned(), arg_pattern.into());
            }
            change::add_entry(document, agent, change::List::Allow, entry);
            Ok(())
        })
    }

    /// Notes that `entry` let a command run. An entry that is no longer there stays away (A73).
    /// A document is not written at every run: when and with which command an entry was last used is
    /// known to [`limits::USE_NOTED_EVERY`], which program it was exactly.
    ///
    /// # Errors
    /// The document is broken or unsafe (it stays as it is), or the write failed.
    pub fn record_use(&self, entry: &AllowEntry, command: &str, resolved: &Path) -> Result<(), StateError> {
        let is_it =
            |agent: &str, stored: &Value| id_of(agent, stored) == entry.id && entry_pattern(stored) == entry.pattern;
        // Without a lock first: mostly there is nothing to write.
        if let Ok(document) = &self.read().document {
            let agents = document.raw.get("agents").and_then(Value::as_object);
            let is_noted = agents.into_iter().flatten().all(|(agent, policy)| {
                let entries = policy.get("allowlist").and_then(Value::as_array);
                entries.into_iter().flatten().all(|stored| !is_it(agent, stored) || is_noted(stored, resolved))
            });
            if is_noted {
                return Ok(());
            }
        }
        self.change(|document, _| {
            let agents = document.get_mut("agents").and_then(Value::as_object_mut);
            for (agent, policy) in agents.into_iter().flatten() {
                let entries = policy.get_mut("allowlist").and_then(Value::as_array_mut);
                for stored in entries.into_iter().flatten().filter(|stored| is_it(agent, stored)) {
                    note_use(stored, &entry.id, command, resolved);
                }
            }
            Ok(())
        })
    }

    /// The document for a peer that may read it, in this form.
    ///
    /// # Errors
    /// The document is broken or unsafe.
    pub fn snapshot(&self, form: Form) -> Result<Snapshot, StateError> {
        let read = self.read();
        let document = read.document.as_ref().map_err(|why| StateError::broken(&self.path, why.clone()))?;
        let socket = document.socket_path.as_ref().map_or_else(|| json!({}), |path| json!({ "path": path }));
        let mut file = document.raw.clone();
        file.insert("version".to_owned(), VERSION.into());
        file.insert("socket".to_owned(), socket);
        for name in ["defaults", "agents"] {
            file.entry(name).or_insert_with(|| json!({}));
        }
        if form == Form::Wire {
            wire::carried(&mut file);
        }
        Ok(Snapshot {
            path: self.path.clone(),
            exists: read.exists,
            hash: read.hash.clone(),
            file: Value::Object(file),
            whole: form == Form::Whole,
            resolved_defaults: None,
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
    /// and a token. `change` also gets the hash of what is stored; when it refuses, or changes
    /// nothing, nothing is written.
    fn change<R, E: From<StateError>>(
        &self,
        change: impl FnOnce(&mut Map<String, Value>, &str) -> Result<R, E>,
    ) -> Result<R, E> {
        let lock = DocumentLock::take(&self.path)?;
        let stored = files::read(&self.path, Care::Document)?;
        let hash = hash_of(stored.as_ref().map(|contents| contents.bytes.as_slice()));
        let mut document = match &stored {
            None => new_document(),
            Some(contents) => {
                let text = contents.text(&self.path)?;
                Document::parse(text).map_err(|why| StateError::broken(&self.path, why))?.raw
            }
        };
        let before = stored.is_some().then(|| document.clone());
        add_socket(&mut document, &self.socket);
        let result = change(&mut document, &hash)?;
        if before.as_ref() != Some(&document) {
            let text = store::to_text(&self.path, &document)?;
            // What we write must be what we would read.
            Document::parse(&text).map_err(|why| StateError::broken(&self.path, why))?;
            files::replace(&lock, text.as_bytes())?;
        }
        Ok(result)
    }
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// `baseHash` of these stored bytes. Source: spec exec (a.5).
fn hash_of(stored: Option<&[u8]>) -> String {
    stored.map_or_else(|| format!("missing:{}", sha256(b"")), sha256)
}

fn read_document(path: &Path, care: Care) -> (Option<Stamp>, Reading) {
    match files::read(path, care) {
        Ok(None) => (None, Reading { exists: false, hash: hash_of(None), document: Ok(Document::default()) }),
        Ok(Some(contents)) => {
            let document = std::str::from_utf8(&contents.bytes)
                .map_err(|_| "it is not UTF-8 text".to_owned())
                .and_then(Document::parse)
                .map_err(|why| format!("{} is broken ({why}); nothing runs until it is repaired", path.display()));
            (Some(contents.stamp), Reading { exists: true, hash: hash_of(Some(&contents.bytes)), document })
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

/// Whether a use of this program was noted a short time ago. The Mac app stores a fraction.
fn is_noted(stored: &Value, resolved: &Path) -> bool {
    let age = stored.get("lastUsedAt").and_then(Value::as_f64).map(|at| clock::wall_ms() as f64 - at);
    let recent = 0.0..limits::USE_NOTED_EVERY.as_millis() as f64;
    age.is_some_and(|age| recent.contains(&age))
        && stored.get("lastResolvedPath").and_then(Value::as_str) == Some(&*resolved.to_string_lossy())
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

impl EffectivePolicy {
    fn new(
        rules: Rules,
        allowlist: Vec<AllowEntry>,
        denylist: Vec<DenyEntry>,
        trust_gateway_approvals: bool,
        broken: Option<String>,
    ) -> Self {
        Self {
            security: rules.security,
            ask: rules.ask,
            ask_fallback: rules.ask_fallback,
            auto_allow_skills: rules.auto_allow_skills,
            allowlist,
            denylist,
            fence: rules.fence,
            trust_gateway_approvals,
            broken,
            snapshot: String::new(),
        }
        .with_snapshot()
    }

    fn broken(why: String) -> Self {
        Self::new(NOTHING, Vec::new(), Vec::new(), false, Some(why))
    }

    /// The stricter of this and what the configuration says; also where nobody answers. Source: spec exec (c.2).
    pub fn tightened_by(mut self, security: Option<Security>, ask: Option<Ask>) -> Self {
        let most = security.unwrap_or(Security::Full);
        self.security = self.security.min(most);
        self.ask_fallback = self.ask_fallback.min(most);
        self.ask = self.ask.max(ask.unwrap_or(Ask::Off));
        self.with_snapshot()
    }

    fn with_snapshot(mut self) -> Self {
        self.snapshot = String::new();
        self.snapshot = sha256(format!("{self:?}").as_bytes());
        self
    }
}
