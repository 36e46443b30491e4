//! What would happen to a command, without running anything: how it was understood, what matched, what
//! to do to allow it. The same functions decide when it is run.

use super::{InspectError, shown};
use crate::exec::analysis::{self, Host};
use crate::exec::approval::PolicySource;
use crate::exec::display;
use crate::exec::document::{DocumentPolicy, Settings};
use crate::exec::plan::{After, Plan, Program, Stage, Step, Work};
use crate::exec::policy::{self, Judgement, Verdict};
use crate::protocol::node::RunRequest;
use crate::protocol::policy::Ask;
use crate::protocol::text;
use crate::state::approvals::ApprovalsDocument;
use crate::state::config::Config;
use crate::state::{Environment, StateDir};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// Explains `request` by what this machine's owner has said. Looks only.
///
/// # Errors
/// The settings cannot be read, or the request is malformed.
pub fn here(state: &StateDir, environment: &Environment, request: &RunRequest) -> Result<Value, InspectError> {
    let settings = Settings::of(&Config::inspect(state, environment)?.exec);
    let document = Arc::new(ApprovalsDocument::for_inspection(state));
    explain(request, &Host::of_this_process(None), &DocumentPolicy { document, trusts_agent: false, settings })
}

fn explain(request: &RunRequest, host: &Host, policy: &dyn PolicySource) -> Result<Value, InspectError> {
    let plan = analysis::analyse(request, host).map_err(|refusal| InspectError::Usage(refusal.message))?;
    let rules = policy.rules(plan.agent_id.as_deref());
    let judgement = Judgement::of(&plan, &rules);
    let judged = match &judgement {
        Judgement::Stages(judged) => judged.iter().map(|by| by.as_ref().map(ToString::to_string)).collect(),
        Judgement::NotUnderstood(_) => Vec::new(),
    };
    let (outcome, sentence, is_miss) = match (policy.paused(), policy::decide(&plan, &rules)) {
        (Some(why), _) => ("refused", why.to_owned(), false),
        (None, Verdict::Run(rule)) => ("runs", rule, false),
        (None, Verdict::Ask(offer)) => ("asks", offer.why, rules.policy.ask != Ask::Always),
        (None, Verdict::Deny(refusal)) => ("refused", refusal.message, refusal.reason == Some("allowlist-miss")),
    };
    let (commands, why_not) = match to_allow(&plan, &judgement) {
        _ if !is_miss => (Vec::new(), None),
        Ok(commands) => (commands, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let mut judged = judged.into_iter();
    let steps: Vec<Value> = match &plan.work {
        Work::Opaque(_) => Vec::new(),
        Work::Steps(steps) => steps.iter().map(|step| step_value(step, &mut judged)).collect(),
    };
    let not_understood = match &plan.work {
        Work::Opaque(why) => json!({"reason": why.reason, "position": why.position}),
        Work::Steps(_) => Value::Null,
    };
    Ok(json!({
        "command": display::quoted(&plan.argv),
        "agentId": plan.agent_id,
        "cwd": plan.cwd.to_string_lossy(),
        "security": rules.policy.security.word(),
        "ask": rules.policy.ask.word(),
        "fence": rules.policy.fence.word(),
        "understood": not_understood.is_null(),
        "notUnderstood": not_understood,
        "steps": steps,
        "outcome": outcome,
        "sentence": sentence,
        "searchPath": host.search_path_text(),
        "toAllow": commands,
        "whyNotListable": why_not,
        "alwaysIsOffered": outcome == "asks" && policy::durable_entry(&plan).is_ok(),
    }))
}

fn step_value<'a>(step: &Step, judged: &mut impl Iterator<Item = Result<String, &'a String>>) -> Value {
    let after = match step.after {
        After::Always => ";",
        After::Success => "&&",
        After::Failure => "||",
    };
    let stages: Vec<Value> = step.stages.iter().map(|stage| stage_value(stage, judged.next())).collect();
    let directory = step.directory.as_ref().map(|directory| directory.path.to_string_lossy());
    json!({"after": after, "negated": step.is_negated, "directory": directory, "stages": stages})
}

fn stage_value(stage: &Stage, judged: Option<Result<String, &String>>) -> Value {
    let program = match &stage.program {
        Program::Missing => "not found".to_owned(),
        Program::Builtin(_) => "done by openclaw itself".to_owned(),
        Program::File(program) => program.file.path.to_string_lossy().into_owned(),
    };
    let (allowed, why) = match judged {
        Some(Ok(by)) => (true, by),
        Some(Err(why)) => (false, why.clone()),
        None => (false, String::new()),
    };
    json!({
        "command": display::quoted(&stage.argv),
        "program": program,
        "judged": display::quoted(&stage.subject.argv),
        "judgedPath": stage.subject.path(),
        "script": stage.subject.operand.as_ref().map(|operand| operand.file.path.to_string_lossy()),
        "allowed": allowed,
        "why": why,
    })
}

/// The commands that would allow it with any arguments.
///
/// # Errors
/// Why no list can allow it.
fn to_allow(plan: &Plan, judgement: &Judgement) -> Result<Vec<String>, String> {
    let judged = match judgement {
        Judgement::Stages(judged) => judged,
        Judgement::NotUnderstood(_) => return Err(judgement.sentence()),
    };
    let mut commands = Vec::new();
    for (stage, by) in plan.stages().zip(judged) {
        let Err(why) = by else { continue };
        let pattern = policy::entry_for(&stage.subject).ok_or_else(|| why.clone())?;
        let command = format!("openclaw mac-debug approvals allowlist add {}", display::quoted(&[pattern]));
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    Ok(commands)
}

/// For a person.
pub fn text(value: &Value) -> String {
    let mut out = format!("command    {}\ndirectory  {}\n", shown(value, "command"), shown(value, "cwd"));
    let _ = writeln!(
        out,
        "policy     security={} ask={} fence={}",
        shown(value, "security"),
        shown(value, "ask"),
        shown(value, "fence")
    );
    let _ = writeln!(out, "searched   {}", shown(value, "searchPath"));
    for (step_number, step) in value["steps"].as_array().into_iter().flatten().enumerate() {
        for (number, stage) in step["stages"].as_array().into_iter().flatten().enumerate() {
            let joint = match (step_number, number) {
                (0, 0) => "".into(),
                (_, 0) => shown(step, "after"),
                _ => "|".into(),
            };
            let mark = if stage["allowed"] == true { "allowed" } else { "not allowed" };
            let negation = if number == 0 && step["negated"] == true { "! " } else { "" };
            let _ = writeln!(out, "  {joint:<2} {negation}{}", shown(stage, "command"));
            let _ = writeln!(out, "       program  {}", shown(stage, "program"));
            if let Some(script) = stage["script"].as_str() {
                let _ = writeln!(out, "       script   {}", text::visible(script));
            }
            let _ = writeln!(out, "       {mark}: {}", shown(stage, "why"));
        }
    }
    let outcome = match value["outcome"].as_str() {
        Some("runs") => "runs without a question",
        Some("asks") => "a person is asked",
        _ => "is refused",
    };
    let _ = writeln!(out, "outcome    {outcome}: {}", shown(value, "sentence"));
    let commands = value["toAllow"].as_array().map(Vec::as_slice).unwrap_or_default();
    for command in commands {
        let _ = writeln!(out, "to allow   {}", text::visible(command.as_str().unwrap_or_default()));
    }
    if !commands.is_empty() {
        out.push_str("           (with any arguments; add --arg-pattern to say which)\n");
    } else if let Some(why) = value["whyNotListable"].as_str() {
        let _ = writeln!(out, "to allow   no entry by path alone can: {}", text::visible(why));
    }
    if value["alwaysIsOffered"] == true {
        out.push_str("           `always` at the prompt allows it with exactly these arguments in this directory\n");
    }
    out
}
