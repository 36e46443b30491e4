//! One function from plan and policy to a verdict. Source: spec exec (b.3), (c.3), (c.4), (c.5);
//! issue part 2, point 4.

use super::arguments::arguments_hash;
use super::matching::{self, By, SafeBins, SkillBin};
use super::plan::{CwdProblem, Nature, NotUnderstood, Plan, Program, Stage, Step, Subject, Work};
use super::subject;
use crate::protocol::node::RunRequest;
use crate::protocol::policy::{Ask, Refusal, Security};
use crate::state::approvals::{ALLOW_ALWAYS, AllowEntry, DenyEntry, EffectivePolicy};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Everything that the owner has said, as far as it concerns one request.
#[derive(Clone)]
pub struct Rules {
    /// The approvals document, combined with the owner's settings.
    pub policy: EffectivePolicy,
    /// Filters that need no entry.
    pub safe_bins: Arc<SafeBins>,
    /// Programs of the gateway's skills.
    pub skills: Vec<SkillBin>,
    /// Code in arguments always needs a person, also under `full`.
    pub strict_inline_eval: bool,
}

impl Rules {
    /// With the caller's own policy, as far as it is stricter (A52).
    pub fn tightened_by(self, request: &RunRequest) -> Self {
        // The snapshot is the document's: what was prepared for this caller is redeemed without its words.
        let snapshot = self.policy.snapshot.clone();
        let mut policy = EffectivePolicy { snapshot, ..self.policy.tightened_by(request.security, request.ask) };
        if request.ask == Some(Ask::Always) {
            // Who demands the question takes nothing in the place of an answer.
            policy.ask_fallback = Security::Deny;
        }
        Self { policy, strict_inline_eval: self.strict_inline_eval || request.strict_inline_eval, ..self }
    }
}

/// What policy says of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it without a question; which entries or rule allowed it.
    Run(String),
    /// Ask a person.
    Ask(Offer),
    /// Do not run it.
    Deny(Refusal),
}

/// What a person may answer besides "once" and "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Why there is a question, and what would have made it unnecessary.
    pub why: String,
    /// Whether "allow always" may be offered; `Err` says why not.
    pub allow_always: Result<(), String>,
    /// Whether the very same command may be allowed again for a while.
    pub for_a_while: bool,
    /// Why an answer cannot be bound to what would run (A108).
    pub unbound: Option<String>,
}

/// What a policy with this security and ask says of a command, given whether the allowlist is
/// satisfied. The one decision table; everything else here finds its inputs. Source: exec c.3, c.4.
pub fn table(security: Security, ask: Ask, satisfied: bool) -> Outcome {
    match (security, ask) {
        (Security::Deny, _) => Outcome::Disabled,
        (_, Ask::Always) => Outcome::Ask,
        (Security::Full, _) => Outcome::Run,
        (Security::Allowlist, _) if satisfied => Outcome::Run,
        (Security::Allowlist, Ask::OnMiss) => Outcome::Ask,
        (Security::Allowlist, Ask::Off) => Outcome::Miss,
    }
}

/// A row's last column in [`table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing runs.
    Disabled,
    /// It runs without a question.
    Run,
    /// A person decides.
    Ask,
    /// It is not on the list and nobody is asked.
    Miss,
}

impl Outcome {
    /// The refusal when there is no answer; none where it runs. Codes, messages and reasons are
    /// the original's; `sentence` says more where there is more to say.
    pub fn refusal(self, sentence: &str) -> Option<Refusal> {
        match self {
            Self::Run => None,
            Self::Disabled => Some(Refusal::denied("security=deny", "SYSTEM_RUN_DISABLED: security=deny")),
            Self::Ask => Some(approval_required(sentence)),
            Self::Miss => Some(Refusal::denied("allowlist-miss", with("SYSTEM_RUN_DENIED: allowlist miss", sentence))),
        }
    }
}

/// `approval required`, with a sentence behind it when there is something to say.
pub fn approval_required(sentence: &str) -> Refusal {
    Refusal::denied("approval-required", with("SYSTEM_RUN_DENIED: approval required", sentence))
}

fn with(message: &str, sentence: &str) -> String {
    if sentence.is_empty() { message.to_owned() } else { format!("{message}: {sentence}") }
}

/// How the allowlist judged a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Stage by stage: what allows it, or why nothing does.
    Stages(Vec<Result<By, String>>),
    /// There was nothing to match.
    NotUnderstood(NotUnderstood),
}

impl Judgement {
    /// Judges `plan` by the allowlist and what stands beside it.
    pub fn of(plan: &Plan, rules: &Rules) -> Self {
        match &plan.work {
            Work::Opaque(why) => Self::NotUnderstood(why.clone()),
            Work::Steps(steps) => Self::of_steps(steps, &plan.cwd, &plan.home, rules),
        }
    }

    /// The same for steps alone; `cwd` counts for a step without a directory.
    pub fn of_steps(steps: &[Step], cwd: &Path, home: &Path, rules: &Rules) -> Self {
        let judged = steps.iter().flat_map(|step| {
            let directory = step.directory.as_ref().map_or(cwd, |directory| &directory.path);
            let judge = move |stage: &Stage| {
                matching::matches(&stage.subject, directory, home, &rules.policy, &rules.safe_bins, &rules.skills)
            };
            step.stages.iter().map(judge)
        });
        Self::Stages(judged.collect())
    }

    /// Whether all of it is allowed.
    pub fn is_satisfied(&self) -> bool {
        matches!(self, Self::Stages(stages) if !stages.is_empty() && stages.iter().all(Result::is_ok))
    }

    /// What stands in the way, or what allows it.
    pub fn sentence(&self) -> String {
        match self {
            Self::NotUnderstood(why) => {
                format!("the text was not understood at byte {}: {}", why.position, why.reason)
            }
            Self::Stages(stages) => match stages.iter().find_map(|judged| judged.as_ref().err()) {
                Some(why) => why.clone(),
                None => stages.iter().flatten().fold(String::new(), |mut out, by| {
                    let comma = if out.is_empty() { "" } else { ", " };
                    let _ = write!(out, "{comma}{by}");
                    out
                }),
            },
        }
    }
}

/// What `rules` say of `plan`.
pub fn decide(plan: &Plan, rules: &Rules) -> Verdict {
    let policy = &rules.policy;
    if let Some(why) = &policy.broken {
        return Verdict::Deny(Refusal::denied("security=deny", format!("SYSTEM_RUN_DISABLED: security=deny: {why}")));
    }
    let judgement = Judgement::of(plan, rules);
    let outcome = match table(policy.security, policy.ask, judgement.is_satisfied()) {
        Outcome::Run if must_ask(plan, rules) => Outcome::Ask,
        outcome => outcome,
    };
    if outcome != Outcome::Disabled {
        if let Some(entry) = matching::denied(plan, policy) {
            return Verdict::Deny(on_denylist(entry));
        }
        if (must_be_bound(policy) || outcome == Outcome::Ask)
            && let Err(refusal) = bindable(plan, outcome)
        {
            return Verdict::Deny(refusal);
        }
    }
    match outcome {
        Outcome::Run if policy.security == Security::Full => Verdict::Run("security=full".to_owned()),
        Outcome::Run => Verdict::Run(judgement.sentence()),
        Outcome::Ask => Verdict::Ask(offer(plan, policy, &judgement)),
        other => {
            let refusal = other.refusal(&judgement.sentence());
            refusal.map_or_else(|| Verdict::Run(String::new()), Verdict::Deny)
        }
    }
}

/// A denylist cannot be applied to what was not understood or starts programs that were not looked at, as `full` would
/// run it; and the owner may want to see code in arguments, whatever else allows it (A93).
fn must_ask(plan: &Plan, rules: &Rules) -> bool {
    let is_inline = |stage: &Stage| matches!(stage.subject.nature, Nature::InlineCode(_));
    let hides =
        |stage: &Stage| matches!(stage.subject.nature, Nature::PromptOnly(_)) && stage.subject.unbound.is_some();
    let (has_denylist, is_opaque) = (!rules.policy.denylist.is_empty(), matches!(plan.work, Work::Opaque(_)));
    (has_denylist && (is_opaque || plan.stages().any(hides)))
        || (rules.strict_inline_eval && (is_opaque || plan.stages().any(is_inline)))
}

fn on_denylist(entry: &DenyEntry) -> Refusal {
    let what = match entry {
        DenyEntry::Program(pattern) => format!("the program is on the denylist ({pattern})"),
        DenyEntry::Command(pattern) => format!("the command is on the denylist ({pattern})"),
    };
    Refusal::denied("security=deny", format!("SYSTEM_RUN_DENIED: {what}, which wins over everything else"))
}

/// Only a policy that lets everything run unasked does without a program and a directory that can
/// be checked again; its failures are then results of the run, as with the original.
pub fn must_be_bound(policy: &EffectivePolicy) -> bool {
    policy.security != Security::Full || policy.ask == Ask::Always
}

/// Whether there is something that an answer can be bound to. Source: spec exec (c.6).
fn bindable(plan: &Plan, outcome: Outcome) -> Result<(), Refusal> {
    let denied = |text: &str| Err(Refusal::denied("approval-required", format!("SYSTEM_RUN_DENIED: {text}")));
    let is_missing = plan.executable.is_none() || plan.stages().any(|stage| stage.program == Program::Missing);
    match (is_missing, plan.cwd_identity) {
        (true, _) if outcome == Outcome::Miss => Ok(()),
        (true, _) => denied("approval requires a stable executable path"),
        (false, Err(CwdProblem::Missing)) => denied("approval requires an existing canonical cwd"),
        (false, Err(CwdProblem::NotADirectory)) => denied("approval requires cwd to be a directory"),
        (false, Ok(_)) => Ok(()),
    }
}

fn offer(plan: &Plan, policy: &EffectivePolicy, judgement: &Judgement) -> Offer {
    let (is_understood, unbound) = match &plan.work {
        Work::Steps(_) => (true, plan.stages().find_map(|stage| stage.subject.unbound.clone())),
        Work::Opaque(_) => (false, Some("what the text starts was not analysed".to_owned())),
    };
    Offer {
        why: if judgement.is_satisfied() { "the policy asks before it".to_owned() } else { judgement.sentence() },
        allow_always: allow_always(plan, policy),
        for_a_while: is_understood && unbound.is_none() && policy.ask != Ask::Always && !plan.needs_screen_recording,
        unbound,
    }
}

/// The entry that "always" would add: exactly this program, these arguments, this directory (A72, A85).
///
/// # Errors
/// A sentence that says why nothing may be added.
pub fn durable_entry(plan: &Plan) -> Result<AllowEntry, String> {
    if matches!(plan.work, Work::Opaque(_)) {
        return Err("it is a text for a shell that was not understood".to_owned());
    }
    let stage = plan.stages().next().filter(|_| !plan.replaces_shell());
    let subject = &stage.ok_or("it is a text for a shell; put the programs on the allowlist instead")?.subject;
    Ok(AllowEntry {
        id: crate::identity::random::uuid(),
        pattern: subject::durable(subject)?.to_owned(),
        arg_pattern: Some(arguments_hash(&subject.argv, &plan.cwd)),
        source: Some(ALLOW_ALWAYS.to_owned()),
    })
}

/// Whether "always" may be offered (A72).
fn allow_always(plan: &Plan, policy: &EffectivePolicy) -> Result<(), String> {
    match (policy.security, policy.ask) {
        (_, Ask::Always) => Err("the policy asks before every command".to_owned()),
        (Security::Allowlist, _) => durable_entry(plan).map(drop),
        _ => Err("the policy has no allowlist in force".to_owned()),
    }
}

/// The pattern of an allowlist entry that would allow this command with any arguments; none where no
/// such entry can.
pub fn entry_for(subject: &Subject) -> Option<String> {
    let is_listable = subject.nature == Nature::Plain;
    subject.path().filter(|_| is_listable).map(str::to_owned)
}
