//! `system.run.prepare`: what a request would run, bound so that an approval made elsewhere fits
//! this and nothing else. Source: spec exec (c.6), (e.4).

use super::analysis::{self, Host};
use super::plan::{CwdProblem, Nature, Plan, Program, Stage, Work};
use super::policy::{self, Rules};
use crate::limits;
use crate::protocol::node::RunRequest;
use crate::protocol::policy::{Ask, Refusal, Security};
use crate::state::approvals::{AllowEntry, EffectivePolicy};
use crate::sys::clock::{Expiry, Now};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Programs that are many programs and look at argv[0] to know which; their path is not pinned.
const MANY_IN_ONE: &[&str] = &["busybox", "toybox", "coreutils"];

/// The answer to `system.run.prepare`: the plan with argv[0] replaced by the program's real path, as the
/// gateway will send it back; `prepared` remembers it, and what argv[0] was.
///
/// # Errors
/// `INVALID_REQUEST`: there is nothing that an approval could be bound to.
pub fn prepare(request: &RunRequest, host: &Host, rules: &Rules, prepared: &PreparedPlans) -> Result<Value, Refusal> {
    let sent = analysis::analyse(request, host)?;
    if let Err(problem) = bindable(&sent, request, rules) {
        return Err(Refusal::invalid(problem));
    }
    let plan = match pinned(&sent) {
        Some(command) => analysis::analyse(&RunRequest { command, raw_command: None, ..request.clone() }, host)?,
        None => sent.clone(),
    };
    let policy = &rules.policy;
    prepared.remember(&plan, policy, sent.argv.first().cloned().unwrap_or_default());
    let durable = policy::durable_entry(&plan);
    let patterns: Vec<Value> =
        durable.iter().map(|entry| json!({"pattern": entry.pattern, "argPattern": entry.arg_pattern})).collect();
    let mut answer = json!({
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
    });
    if let (Some(operand), Some(members)) = (mutable_file(&plan), answer.pointer_mut("/plan")) {
        members["mutableFileOperand"] = operand;
    }
    Ok(answer)
}

/// What in the plan could be rewritten: the script operand, else the program itself if it is a script.
/// Source: spec exec (c.6).
fn mutable_file(plan: &Plan) -> Option<Value> {
    let stage = plan.stages().next().filter(|_| !plan.replaces_shell())?;
    let (index, file) = match (&stage.subject.operand, &stage.program) {
        (Some(operand), _) => (plan.argv.len() - stage.subject.argv.len() + operand.index, &operand.file),
        (None, Program::File(program)) if !program.interpreters.is_empty() => (0, &program.file),
        _ => return None,
    };
    Some(json!({"argvIndex": index, "path": file.path.to_string_lossy(), "sha256": file.sha256.as_ref()?}))
}

/// Whether an approval made elsewhere can be bound to what would run. Source: spec exec (c.6), (e.4).
fn bindable(plan: &Plan, request: &RunRequest, rules: &Rules) -> Result<(), &'static str> {
    let is_open = |security, ask| security == Security::Full && ask == Ask::Off;
    let is_unasked = is_open(rules.policy.security, rules.policy.ask)
        && matches!((request.security, request.ask), (Some(security), Some(ask)) if is_open(security, ask))
        && !rules.strict_inline_eval;
    match plan.cwd_identity {
        Err(_) if is_unasked => return Err("working directory does not exist or is inaccessible"),
        Err(CwdProblem::Missing) => return Err("SYSTEM_RUN_DENIED: approval requires an existing canonical cwd"),
        Err(CwdProblem::NotADirectory) => return Err("SYSTEM_RUN_DENIED: approval requires cwd to be a directory"),
        Ok(_) if is_unasked => return Ok(()),
        Ok(_) => {}
    }
    if plan.executable_text().is_none() {
        return Err("SYSTEM_RUN_DENIED: approval requires a stable executable path");
    }
    // A script inside a shell's text has a place that the wire's plan cannot name.
    let in_text = plan.replaces_shell();
    let is_hidden = |stage: &Stage| {
        let is_script = matches!(&stage.program, Program::File(file) if !file.interpreters.is_empty());
        let subject = &stage.subject;
        subject.unbound.is_some()
            || matches!(subject.nature, Nature::InlineCode(_))
            || (in_text && (is_script || subject.operand.is_some()))
    };
    if matches!(plan.work, Work::Opaque(_)) || plan.stages().any(is_hidden) {
        return Err("SYSTEM_RUN_DENIED: approval cannot safely bind this interpreter/runtime command");
    }
    Ok(())
}

/// The argument vector with the program's real path in front; none where that would change its meaning.
fn pinned(plan: &Plan) -> Option<Vec<String>> {
    let path = plan.executable_text().filter(|_| plan.command_preview.is_none() && !plan.replaces_shell())?;
    let name = path.rsplit('/').next()?;
    let rest = plan.argv.iter().skip(1).cloned();
    (!MANY_IN_ONE.contains(&name)).then(|| std::iter::once(path.to_owned()).chain(rest).collect())
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

/// Whether `carried`, the `systemRunPlan` of a request, has a plan's form.
pub fn is_plan(carried: &Value) -> bool {
    let words = carried.get("argv").and_then(Value::as_array);
    words.is_some_and(|words| !words.is_empty() && words.iter().all(Value::is_string))
        && carried.get("commandText").is_some_and(Value::is_string)
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
pub struct PreparedPlans(Mutex<HashMap<String, Prepared>>);

/// What is remembered of a plan beside its hash.
struct Prepared {
    expiry: Expiry,
    /// argv[0] as it was sent.
    argv0: String,
    /// The limit that was asked for. Without one the run may name any, which is shorter than none.
    timeout: Option<Duration>,
}

impl PreparedPlans {
    /// Remembers the plan that a gateway was given. When there are too many the oldest goes.
    fn remember(&self, plan: &Plan, policy: &EffectivePolicy, argv0: String) {
        let now = Now::read();
        let mut plans = self.plans();
        plans.retain(|_, prepared| !prepared.expiry.passed(now));
        if plans.len() >= limits::PREPARED_PLANS {
            let oldest = plans.iter().min_by_key(|(_, prepared)| prepared.expiry.instant());
            if let Some(oldest) = oldest.map(|(hash, _)| hash.clone()) {
                plans.remove(&oldest);
            }
        }
        let expiry = Expiry::after(now, limits::PREPARED_PLAN_TTL);
        plans.insert(plan.hash(&policy.snapshot), Prepared { expiry, argv0, timeout: plan.timeout });
    }

    /// Takes the plan out, exactly once, in time, for the very plan, limit and policy. Whether it was there.
    pub fn redeem(&self, plan: &Plan, policy: &EffectivePolicy) -> bool {
        let mut plans = self.plans();
        let Entry::Occupied(found) = plans.entry(plan.hash(&policy.snapshot)) else { return false };
        let fits = found.get().timeout.is_none_or(|timeout| plan.timeout == Some(timeout));
        fits && !found.remove().expiry.passed(Now::read())
    }

    /// The program's own name, of a plan that may still be redeemed.
    pub fn argv0(&self, plan: &Plan, policy: &EffectivePolicy) -> Option<String> {
        self.plans().get(&plan.hash(&policy.snapshot)).map(|prepared| prepared.argv0.clone())
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<String, Prepared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
