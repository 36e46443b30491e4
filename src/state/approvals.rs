//! The approvals document. Source: spec exec (a.2)–(a.5), (c.1).

use crate::protocol::policy::{Ask, Security};

/// One allowlist entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    /// UUID.
    pub id: String,
    /// Glob over the resolved absolute path.
    pub pattern: String,
    /// Restricts the arguments; an entry with one never matches before part 2 understands it.
    pub arg_pattern: Option<String>,
    /// `allow-always` for entries that an answer made.
    pub source: Option<String>,
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
    /// `local.trustGatewayApprovals`: an approval made at the gateway replaces our prompt.
    pub trust_gateway_approvals: bool,
    /// Why everything is denied, when the document is broken; shown to the caller.
    pub broken: Option<String>,
    /// Identifies the bytes that this policy was read from; a changed one means: decide again.
    pub snapshot: String,
}
