//! What an approval of a run is about: the plan that was shown, and the environment that goes with
//! it. Source: spec exec c.6, g.6, vectors `approval-binding`; case A60.

use crate::protocol::policy::{Ask, Security};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A `systemRunPlan` as it is kept, shown and forwarded: its known members and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPlan {
    /// What runs.
    pub argv: Vec<String>,
    /// Where.
    #[serde(default)]
    pub cwd: Option<String>,
    /// The node's name for it; never shown in place of `argv`.
    pub command_text: String,
    /// What a shell is told.
    #[serde(default)]
    pub command_preview: Option<String>,
    /// For whom, as was claimed.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// In which session, as was claimed.
    #[serde(default)]
    pub session_key: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    mutable_file_operand: Option<FileOperand>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    policy_snapshot: Option<PolicySnapshot>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileOperand {
    argv_index: usize,
    path: String,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicySnapshot {
    security: Security,
    ask: Ask,
    ask_fallback: Security,
    auto_allow_skills: bool,
    allowlist_rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    pattern: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    arg_pattern: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

/// Absent is none; null is not.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

impl RunPlan {
    /// None if it is no plan that something could be bound to.
    pub fn read(value: &Value) -> Option<Self> {
        let mut members = value.as_object()?.clone();
        // Its name in earlier plans.
        if let Some(text) = members.remove("rawCommand") {
            members.entry("commandText").or_insert(text);
        }
        let plan: Self = serde_json::from_value(Value::Object(members)).ok()?;
        (!plan.argv.is_empty() && !plan.command_text.trim().is_empty()).then_some(plan)
    }
}

/// The environment overrides of a run as they are bound: keys trimmed, what is no override left out.
/// What is forwarded is this and not what was sent, so that nothing unbound goes along.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoundEnv(pub BTreeMap<String, String>);

impl BoundEnv {
    /// Reads the member `env` of a request.
    pub fn read(env: Option<&Value>) -> Self {
        let members = env.and_then(Value::as_object).into_iter().flatten();
        let text = |(name, value): (&String, &Value)| Some((name.trim().to_owned(), value.as_str()?.to_owned()));
        Self(members.filter_map(text).filter(|(name, _)| is_variable(name)).collect())
    }

    /// In the original's order: capitals count only where nothing else differs, and come last.
    pub fn sorted(&self) -> Vec<(&String, &String)> {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by_key(|(name, _)| (name.to_ascii_lowercase(), Reverse(*name)));
        pairs
    }

    /// Hex SHA-256 over the sorted pairs; none of an empty one. Only ever compared with one of this
    /// gateway.
    pub fn hash(&self) -> Option<String> {
        let text = serde_json::to_string(&self.sorted()).ok()?;
        (!self.0.is_empty()).then(|| HEXLOWER.encode(&Sha256::digest(text)))
    }
}

/// Parentheses stand in some names of Windows.
fn is_variable(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit() || "()".contains(c))
}

/// What an approval record holds of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundRun {
    /// What was shown.
    pub plan: RunPlan,
    /// [`BoundEnv::hash`] of the environment that was shown.
    pub env_hash: Option<String>,
}
