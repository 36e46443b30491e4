//! `system.run.prepare`: what a request would run, bound so that an approval made elsewhere fits
//! this and nothing else. Source: spec exec (c.6), (e.4).

use super::plan::{CwdProblem, Plan};
use super::policy;
use crate::limits;
use crate::protocol::policy::Refusal;
use crate::state::approvals::{AllowEntry, EffectivePolicy};
use crate::sys::clock::{Expiry, Now};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Programs that are many programs and look at argv[0] to know which; their path is not pinned.
const MANY_IN_ONE: &[&str] = &["busybox", "toybox", "coreutils"];

/// The answer to `system.run.prepare`. The plan that an approval will be bound to is `plan` with
/// [`pinned`] argv; remember its hash in [`PreparedPlans`].
///
/// # Errors
/// `INVALID_REQUEST`: there is nothing that an approval could be bound to.
pub fn prepare(plan: &Plan, policy: &EffectivePolicy) -> Result<Value, Refusal> {
    let bound = policy::must_be_bound(policy);
    let problem = match (plan.cwd_identity, bound) {
        (Err(_), false) => Some("working directory does not exist or is inaccessible"),
        (Err(CwdProblem::Missing), true) => Some("SYSTEM_RUN_DENIED: approval requires an existing canonical cwd"),
        (Err(CwdProblem::NotADirectory), true) => Some("SYSTEM_RUN_DENIED: approval requires cwd to be a directory"),
        (Ok(_), true) if plan.executable_text().is_none() => {
            Some("SYSTEM_RUN_DENIED: approval requires a stable executable path")
        }
        (Ok(_), _) => None,
    };
    if let Some(problem) = problem {
        return Err(Refusal::invalid(problem));
    }
    let plan = pinned(plan.clone());
    let durable = policy::durable_entry(&plan);
    let patterns: Vec<Value> =
        durable.iter().map(|entry| json!({"pattern": entry.pattern, "argPattern": entry.arg_pattern})).collect();
    Ok(json!({
        "plan": {
            "argv": plan.argv,
            "cwd": plan.cwd.to_string_lossy(),
            "commandText": plan.command_text,
            "commandPreview": plan.command_preview,
            "agentId": plan.agent_id,
            "sessionKey": plan.session_key,
            "policySnapshot": snapshot(policy),
        },
        "execPolicy": {"security": policy.security.word(), "ask": policy.ask.word()},
        "allowAlwaysCoverage": {"complete": durable.is_ok(), "patterns": patterns},
    }))
}

/// The plan with argv[0] replaced by the program's real path, as the gateway will send it back.
pub fn pinned(mut plan: Plan) -> Plan {
    let name = plan.executable.as_ref().and_then(|executable| executable.file.path.file_name()?.to_str());
    if name.is_some_and(|name| MANY_IN_ONE.contains(&name)) {
        return plan;
    }
    if let Some(path) = plan.executable_text().map(str::to_owned)
        && let Some(first) = plan.argv.first_mut()
    {
        *first = path;
        plan.command_text = super::display::canonical(&plan.argv);
    }
    plan
}

/// The policy as a plan carries it: four words and the rules, unique and in the order of their
/// UTF-8 bytes, absent before present. Source: spec exec (c.6).
fn snapshot(policy: &EffectivePolicy) -> Value {
    let key = |entry: &AllowEntry| (entry.pattern.clone(), entry.arg_pattern.clone(), entry.source.clone());
    let mut rules: Vec<_> = policy.allowlist.iter().map(key).collect();
    rules.sort();
    rules.dedup();
    let rule = |(pattern, arg_pattern, source): (String, Option<String>, Option<String>)| {
        let mut members = Map::new();
        members.insert("pattern".to_owned(), pattern.into());
        for (name, value) in [("argPattern", arg_pattern), ("source", source)] {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.into());
            }
        }
        Value::Object(members)
    };
    json!({
        "security": policy.security.word(),
        "ask": policy.ask.word(),
        "askFallback": policy.ask_fallback.word(),
        "autoAllowSkills": policy.auto_allow_skills,
        "allowlistRules": rules.into_iter().map(rule).collect::<Vec<_>>(),
    })
}

/// Whether `carried`, the `systemRunPlan` of a request, is the plan that this request makes.
/// Source: spec exec (e.2) "plan equals request".
pub fn carries(carried: &Value, plan: &Plan) -> bool {
    let text = |name: &str| carried.get(name).and_then(Value::as_str);
    let argv = carried.get("argv").and_then(Value::as_array).is_some_and(|argv| {
        argv.len() == plan.argv.len() && argv.iter().zip(&plan.argv).all(|(carried, own)| carried == own.as_str())
    });
    argv && text("commandText") == Some(plan.command_text.as_str())
        && text("cwd") == plan.cwd.to_str()
        && text("agentId") == plan.agent_id.as_deref()
        && text("sessionKey") == plan.session_key.as_deref()
}

/// The plans that this node prepared on one connection, by hash; each may be redeemed once (A60, A62).
#[derive(Default)]
pub struct PreparedPlans(Mutex<HashMap<String, Expiry>>);

impl PreparedPlans {
    /// Remembers the plan that a gateway was given. When there are too many the oldest goes.
    pub fn remember(&self, plan: &Plan, policy: &EffectivePolicy) {
        let now = Now::read();
        let mut plans = self.plans();
        plans.retain(|_, expiry| !expiry.passed(now));
        if plans.len() >= limits::PREPARED_PLANS {
            let oldest = plans.iter().min_by_key(|(_, expiry)| expiry.instant()).map(|(hash, _)| hash.clone());
            if let Some(oldest) = oldest {
                plans.remove(&oldest);
            }
        }
        let hash = pinned(plan.clone()).hash(&policy.snapshot);
        plans.insert(hash, Expiry::after(now, limits::PREPARED_PLAN_TTL));
    }

    /// Takes the plan out: true exactly once, in time, for the very plan and policy.
    pub fn redeem(&self, plan: &Plan, policy: &EffectivePolicy) -> bool {
        let hash = plan.hash(&policy.snapshot);
        self.plans().remove(&hash).is_some_and(|expiry| !expiry.passed(Now::read()))
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<String, Expiry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
