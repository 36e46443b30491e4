//! The approvals document, understood: strictly, or not at all. Source: spec exec (a.2)–(a.4), (c.1).

use super::{
    ALLOW_ALWAYS, AllowEntry, BUILT_IN, DEFAULT_AGENT, DenyEntry, EVERY_AGENT, EffectivePolicy, MAIN_AGENT,
    RemoteEdits, VERSION, entry_pattern, id_of,
};
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::{Ask, Fence, Security};
use crate::protocol::strict;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// Policy fields as one level of the document has them.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    security: Option<Security>,
    ask: Option<Ask>,
    ask_fallback: Option<Security>,
    auto_allow_skills: Option<bool>,
    fence: Option<Fence>,
}

impl Level {
    /// What is absent here is taken from `below`.
    fn over(self, below: Rules) -> Rules {
        Rules {
            security: self.security.unwrap_or(below.security),
            ask: self.ask.unwrap_or(below.ask),
            ask_fallback: self.ask_fallback.unwrap_or(below.ask_fallback),
            auto_allow_skills: self.auto_allow_skills.unwrap_or(below.auto_allow_skills),
            fence: self.fence.unwrap_or(below.fence),
        }
    }

    /// What is absent here is taken from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            security: self.security.or(other.security),
            ask: self.ask.or(other.ask),
            ask_fallback: self.ask_fallback.or(other.ask_fallback),
            auto_allow_skills: self.auto_allow_skills.or(other.auto_allow_skills),
            fence: self.fence.or(other.fence),
        }
    }
}

/// All policy fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) security: Security,
    pub(super) ask: Ask,
    pub(super) ask_fallback: Security,
    pub(super) auto_allow_skills: bool,
    pub(super) fence: Fence,
}

impl Rules {
    fn stricter(self, other: Self) -> Self {
        Self {
            security: self.security.min(other.security),
            ask: self.ask.max(other.ask),
            ask_fallback: self.ask_fallback.min(other.ask_fallback),
            auto_allow_skills: self.auto_allow_skills && other.auto_allow_skills,
            fence: self.fence.max(other.fence),
        }
    }
}

#[derive(Default)]
pub(super) struct Agent {
    level: Level,
    allowlist: Vec<AllowEntry>,
    denylist: Vec<DenyEntry>,
}

#[derive(Default)]
pub(super) struct Local {
    pub(super) trust_gateway_approvals: bool,
    pub(super) remote_edits: RemoteEdits,
    pub(super) require_own_team: bool,
    pub(super) assistive_input: bool,
}

/// The document, understood.
#[derive(Default)]
pub(super) struct Document {
    pub(super) socket_path: Option<String>,
    pub(super) socket_token: Option<Secret>,
    /// Has no allowlist: there is none at this level.
    defaults: Agent,
    pub(super) agents: BTreeMap<String, Agent>,
    pub(super) local: Local,
    /// As stored, with members that we do not know.
    pub(super) raw: Map<String, Value>,
}

impl Document {
    pub(super) fn effective(&self, agent: Option<&str>, trusted: bool) -> EffectivePolicy {
        let nobody = Agent::default();
        let everyone = self.agents.get(EVERY_AGENT).unwrap_or(&nobody);
        let base = everyone.level.over(self.defaults.level.over(BUILT_IN));
        let own = agent.map(str::trim).filter(|agent| *agent != EVERY_AGENT).and_then(|agent| self.agents.get(agent));
        let own = own.unwrap_or(&nobody);
        let rules = own.level.over(base);
        let mut allowlist = everyone.allowlist.clone();
        if trusted {
            allowlist.extend_from_slice(&own.allowlist);
        }
        EffectivePolicy::new(
            if trusted { rules } else { rules.stricter(base) },
            allowlist,
            // A deny only tightens, so the claim needs nobody's trust.
            [&self.defaults, everyone, own].into_iter().flat_map(|level| &level.denylist).cloned().collect(),
            self.local.trust_gateway_approvals,
            None,
        )
    }

    pub(super) fn wants_skills(&self) -> bool {
        self.agents.values().chain([&self.defaults]).any(|agent| agent.level.auto_allow_skills == Some(true))
    }

    /// # Errors
    /// Where the text breaks the schema, without its values. Source: spec exec (a.2), (a.4).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(text).map_err(|_| "invalid JSON".to_owned())?;
        let Value::Object(raw) = value else { return Err("document: expected an object".to_owned()) };
        // 1.0 is 1 in JSON.
        if raw.get("version").and_then(Value::as_f64) != Some(VERSION as f64) {
            return Err("version: expected 1".to_owned());
        }
        let socket = object(&raw, "socket")?;
        let socket_text =
            |name| Ok::<_, String>(text_at(socket, name, "socket")?.map(str::trim).filter(|text| !text.is_empty()));
        let socket_path = socket_text("path")?.map(ToOwned::to_owned);
        let socket_token = socket_text("token")?.map(|token| Secret::new(token.to_owned()));
        let defaults = match object(&raw, "defaults")? {
            Some(members) => Agent {
                level: level(members, "defaults")?,
                allowlist: Vec::new(),
                denylist: list(members, "defaults", "denylist", parse_deny)?,
            },
            None => Agent::default(),
        };
        let agents = parse_agents(object(&raw, "agents")?)?;
        let local = parse_local(object(&raw, "local")?)?;
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
        let agent = Agent {
            level: level(members, &at)?,
            allowlist: list(members, &at, "allowlist", |entry, at| parse_allow(name, entry, at))?,
            denylist: list(members, &at, "denylist", parse_deny)?,
        };
        agents.insert(name.clone(), agent);
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
    main.denylist.extend(old.denylist);
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
            ("requireOwnTeam", Value::Bool(require)) => parsed.require_own_team = *require,
            ("requireOwnTeam", _) => return Err("local.requireOwnTeam: expected a boolean".to_owned()),
            ("remoteEdits", Value::String(word)) if word == "allow" => parsed.remote_edits = RemoteEdits::Allow,
            ("remoteEdits", Value::String(word)) if word == "ask" => parsed.remote_edits = RemoteEdits::Ask,
            ("remoteEdits", _) => return Err("local.remoteEdits: expected `ask` or `allow`".to_owned()),
            ("assistiveInput", Value::Bool(accepted)) => parsed.assistive_input = *accepted,
            ("assistiveInput", _) => return Err("local.assistiveInput: expected a boolean".to_owned()),
            _ => return Err("local: a member that we do not know".to_owned()),
        }
    }
    Ok(parsed)
}

fn level(members: &Map<String, Value>, at: &str) -> Result<Level, String> {
    Ok(Level {
        security: word(members, at, "security", Security::from_word)?,
        ask: word(members, at, "ask", Ask::from_word)?,
        ask_fallback: word(members, at, "askFallback", Security::from_word)?,
        auto_allow_skills: match members.get("autoAllowSkills") {
            None => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => return Err(format!("{at}.autoAllowSkills: expected a boolean")),
        },
        fence: word(members, at, "fence", Fence::from_word)?,
    })
}

fn word<T>(
    members: &Map<String, Value>,
    at: &str,
    name: &str,
    from_word: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let known = value.as_str().and_then(from_word);
    known.map(Some).ok_or_else(|| format!("{at}.{name}: expected a supported value"))
}

fn list<T>(
    members: &Map<String, Value>,
    at: &str,
    name: &str,
    parse: impl Fn(&Value, &str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match members.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(entries)) => {
            let entries = entries.iter().enumerate();
            entries.map(|(position, entry)| parse(entry, &format!("{at}.{name}[{position}]"))).collect()
        }
        Some(_) => Err(format!("{at}.{name}: expected an array")),
    }
}

/// The members of an entry; none when it is a plain pattern.
fn entry_members<'a>(entry: &'a Value, at: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match entry {
        Value::String(_) => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err(format!("{at}: expected an object or a non-empty string")),
    }
}

fn parse_allow(agent: &str, entry: &Value, at: &str) -> Result<AllowEntry, String> {
    let members = entry_members(entry, at)?;
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

/// `{id?, pattern}`, `{id?, command}` or a plain pattern. Nothing else may stand there: a member that
/// we do not understand may be what narrows the entry, or what was meant. ours
fn parse_deny(entry: &Value, at: &str) -> Result<DenyEntry, String> {
    let members = entry_members(entry, at)?;
    if members.is_some_and(|members| members.keys().any(|name| !["id", "pattern", "command"].contains(&name.as_str())))
    {
        return Err(format!("{at}: a member that we do not know"));
    }
    text_at(members, "id", at)?;
    let command = text_at(members, "command", at)?.map(str::trim);
    let pattern = members.map_or(Ok(entry.as_str()), |_| text_at(members, "pattern", at))?.map(str::trim);
    match (pattern.filter(|text| !text.is_empty()), command.filter(|text| !text.is_empty())) {
        (Some(pattern), None) if command.is_none() => Ok(DenyEntry::Program(pattern.to_owned())),
        (None, Some(command)) if pattern.is_none() => Ok(DenyEntry::Command(command.to_owned())),
        _ => Err(format!("{at}: expected either a non-empty pattern or a non-empty command")),
    }
}

fn object<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("{name}: expected an object")),
    }
}

fn text_at<'a>(members: Option<&'a Map<String, Value>>, name: &str, at: &str) -> Result<Option<&'a str>, String> {
    match members.and_then(|members| members.get(name)) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{at}.{name}: expected a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(agents: &Value) -> Result<Document, String> {
        Document::parse(&json!({"version": 1, "defaults": {"denylist": ["/bin/dd"]}, "agents": agents}).to_string())
    }

    #[test]
    fn denies_of_every_level_hold_for_the_agent_that_is_claimed() {
        let document = parse(&json!({
            "*": {"denylist": [" /bin/rm ", {"id": "1", "pattern": "sudo"}]},
            "main": {"denylist": [{"command": "git push *"}]}, "default": {"denylist": ["/bin/nc"]},
        }))
        .unwrap();
        let program = |pattern: &str| DenyEntry::Program(pattern.to_owned());
        let every = vec![program("/bin/dd"), program("/bin/rm"), program("sudo")];
        assert_eq!(document.effective(None, true).denylist, every);
        assert_eq!(document.effective(Some("other"), true).denylist, every);
        let main = [every, vec![DenyEntry::Command("git push *".to_owned()), program("/bin/nc")]].concat();
        for trusted in [true, false] {
            assert_eq!(document.effective(Some("main"), trusted).denylist, main);
        }
    }

    #[test]
    fn a_claimed_agent_tightens_its_fence_and_a_trusted_one_loosens_it() {
        let document = parse(&json!({
            "*": {"fence": "workspace"}, "loose": {"fence": "none"}, "tight": {"fence": "offline"},
        }))
        .unwrap();
        let fence = |agent: Option<&str>, trusted| document.effective(agent, trusted).fence;
        assert_eq!(parse(&json!({})).unwrap().effective(None, false).fence, Fence::State);
        assert_eq!((fence(None, true), fence(Some("unknown"), true)), (Fence::Workspace, Fence::Workspace));
        assert_eq!((fence(Some("loose"), false), fence(Some("loose"), true)), (Fence::Workspace, Fence::None));
        assert_eq!((fence(Some("tight"), false), fence(Some("tight"), true)), (Fence::Offline, Fence::Offline));
    }

    #[test]
    fn the_snapshot_covers_denylist_and_fence() {
        let snapshot = |everyone: Value| parse(&json!({"*": everyone})).unwrap().effective(None, false).snapshot;
        let base = snapshot(json!({}));
        for other in [json!({"fence": "none"}), json!({"denylist": ["x"]}), json!({"denylist": [{"command": "x"}]})] {
            assert_ne!(snapshot(other.clone()), base, "{other}");
        }
        assert_eq!(snapshot(json!({"denylist": []})), base);
        assert_ne!(snapshot(json!({"denylist": ["x"]})), snapshot(json!({"denylist": [{"command": "x"}]})));
    }

    #[test]
    fn sec_a139_a_denylist_that_is_not_understood_breaks_the_document() {
        for bad in [
            json!({"denylist": {}}),
            json!({"denylist": "x"}),
            json!({"denylist": null}),
            json!({"denylist": [""]}),
            json!({"denylist": [" "]}),
            json!({"denylist": [1]}),
            json!({"denylist": [{}]}),
            json!({"denylist": [{"id": "1"}]}),
            json!({"denylist": [{"pattern": ""}]}),
            json!({"denylist": [{"pattern": 1}]}),
            json!({"denylist": [{"pattern": "a", "command": "b"}]}),
            json!({"denylist": [{"pattern": "a", "command": ""}]}),
            json!({"denylist": [{"pattern": "a", "argPattern": "b"}]}),
            json!({"denylist": [{"pattern": "a", "id": 1}]}),
            json!({"fence": "State"}),
            json!({"fence": true}),
            json!({"fence": null}),
        ] {
            for document in [json!({"version": 1, "defaults": bad}), json!({"version": 1, "agents": {"main": bad}})] {
                assert!(Document::parse(&document.to_string()).is_err(), "{document}");
            }
        }
    }

    #[test]
    fn settings_from_elsewhere_only_tighten() {
        let policy = parse(&json!({"*": {"security": "full", "ask": "on-miss", "askFallback": "full"}})).unwrap();
        let policy = policy.effective(None, true);
        assert_eq!(policy.clone().tightened_by(None, None), policy);
        assert_eq!(policy.clone().tightened_by(Some(Security::Full), Some(Ask::Off)), policy);
        let tight = policy.clone().tightened_by(Some(Security::Allowlist), Some(Ask::Always));
        assert_eq!(
            (tight.security, tight.ask, tight.ask_fallback),
            (Security::Allowlist, Ask::Always, Security::Allowlist)
        );
        assert_ne!(tight.snapshot, policy.snapshot);
    }
}
