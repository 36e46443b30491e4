//! From a request to a plan that may run: analysis, policy, the person's answer, the check again.

use super::analysis::{self, Host};
use super::display;
use super::plan::{Form, Plan};
use super::policy::{self, Verdict};
use super::prepare::{self, PreparedPlans};
use crate::identity::random;
use crate::limits;
use crate::log;
use crate::protocol::node::RunRequest;
use crate::protocol::policy::{Ask, Decision, Refusal, Security};
use crate::protocol::text;
use crate::state::approvals::{AllowEntry, EffectivePolicy};
use crate::sys::clock::{Expiry, Now};
use crate::sys::fence::{Enclosure, Fencer, Walls};
use crate::sys::wake::Wake;

/// What a person is shown. Every text is raw: whoever shows it escapes it (`exec::display`).
#[derive(Clone, Debug)]
pub struct Question {
    /// Names this question in logs.
    pub id: String,
    /// The whole command, quoted so that arguments can be told apart.
    pub command: String,
    /// The resolved program file.
    pub executable: String,
    /// Working directory.
    pub cwd: String,
    /// Environment overrides, `NAME=value`.
    pub env: Vec<String>,
    /// Who asks, as the caller says ("says it is …").
    pub agent: Option<String>,
    /// In which session, as the caller says.
    pub session: Option<String>,
    /// Through which way it came: our own node, another program's socket request …
    pub requester: String,
    /// What else the person should know, for example that the gateway's approver said yes.
    pub notes: Vec<String>,
    /// Whether "always" is offered; `Err` says why not.
    pub allow_always: Result<(), String>,
    /// For how long the same command may be allowed again without a question; empty offers nothing.
    pub spans: Vec<Span>,
    /// Why "once" cannot be bound to what would run. An answer must then say that it knows (A108).
    pub unbound: Option<String>,
    /// When the question ends.
    pub deadline: Expiry,
}

/// How long a grant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// [`limits::GRANT_MINUTES`].
    Minutes,
    /// As long as the session that asked, at most [`limits::GRANT_SESSION`].
    Session,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A person answered.
    Decided(Decision),
    /// A person allowed it now, and the very same command again for a while.
    Granted(Span),
    /// There is nobody to ask, and why.
    Nobody(String),
    /// Nobody answered in time.
    TimedOut,
    /// The requester went away.
    Withdrawn,
}

/// Somebody who can be asked.
pub trait Person: Send + Sync {
    /// Blocks until there is an answer, the question's deadline has passed, or `withdrawn` fires.
    fn ask(&self, question: &Question, withdrawn: &Wake) -> Answer;
}

/// Where the policy comes from and where answers go. It knows through whom the request came, and
/// so how far a claimed agent is believed (security-cases, row A55).
pub trait PolicySource: Send + Sync {
    /// The policy that holds now. Read again at each call.
    fn effective(&self, agent: Option<&str>) -> EffectivePolicy;

    /// Why nothing at all may start now. Asked at each decision, and again right before the start.
    fn paused(&self) -> Option<&'static str> {
        None
    }

    /// Adds an entry that an answer made, all of its members as they are.
    ///
    /// # Errors
    /// A sentence: the document could not be written, or has changed in a way that forbids it.
    fn add_allow_always(
        &self,
        agent: Option<&str>,
        entry: &AllowEntry,
        command_text: &str,
        path: &str,
    ) -> Result<(), String>;

    /// Notes that `entry` allowed a run. An entry that is gone meanwhile stays gone (A73).
    fn record_use(&self, agent: Option<&str>, entry: &AllowEntry, command_text: &str, path: &str);
}

/// Through which wire a request came, which decides what its words of approval are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A gateway's `node.invoke`.
    Gateway,
    /// The exec socket.
    Socket,
}

/// What a request is judged with.
pub struct Context<'a> {
    /// Where the command would run.
    pub host: &'a Host,
    /// The owner's policy.
    pub policy: &'a dyn PolicySource,
    /// Through which wire it came.
    pub origin: Origin,
    /// The same as a sentence for the person: "your own node, for the gateway at …".
    pub requester: &'a str,
    /// The plans prepared on this gateway connection; none on the socket.
    pub prepared: Option<&'a PreparedPlans>,
    /// Whether this process may record the screen.
    pub screen_recording: bool,
}

/// A plan that may run, once: running it takes it away (A62).
#[derive(Debug)]
pub struct Authorised {
    plan: Plan,
    rule: String,
    open_files: Option<u64>,
}

impl Authorised {
    /// What will run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What allowed it, for logs.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Soft limit of open files of the child.
    pub fn open_files(&self) -> Option<u64> {
        self.open_files
    }

    /// What the child is kept from. Until policy says more: no privileges to gain.
    ///
    /// # Errors
    /// A sentence: it cannot be fenced as asked, so it must not run.
    pub fn enclosure(&self) -> Result<Enclosure, String> {
        Fencer::none("not asked for").enclose(&Walls::default())
    }
}

/// Judges a request, asks where policy says so, and checks everything again after the answer.
/// Blocks as long as the person does, at most until the question's deadline.
///
/// # Errors
/// The refusal for the caller.
pub fn authorise(
    request: &RunRequest,
    context: &Context<'_>,
    person: &dyn Person,
    withdrawn: &Wake,
) -> Result<Authorised, Refusal> {
    let plan = analysis::analyse(request, context.host)?;
    let claim = Claim::read(request, context.origin, &plan)?;
    refuse_paused(context.policy)?;
    let agent = plan.agent_id.as_deref();
    let policy = context.policy.effective(agent);
    let verdict = policy::decide(&plan, &policy);
    if let Verdict::Deny(refusal) = verdict {
        return Err(refusal);
    }
    if claim == Claim::Denied {
        return Err(user_denied());
    }
    if plan.needs_screen_recording && !context.screen_recording {
        return Err(Refusal {
            code: "UNAVAILABLE",
            message: "PERMISSION_MISSING: screenRecording".to_owned(),
            reason: Some("permission:screenRecording"),
        });
    }
    let rule = match verdict {
        Verdict::Run(rule) => rule,
        Verdict::Ask { allow_always } => {
            let judged = Judged { plan: &plan, policy: &policy, context };
            judged.resolve(&claim, allow_always, person, withdrawn)?
        }
        Verdict::Deny(refusal) => return Err(refusal),
    };
    if let Some(entry) = policy::matching_entry(&plan, &policy)
        && let Some(path) = plan.executable_text()
    {
        context.policy.record_use(agent, entry, &plan.command_text, path);
    }
    plan.verify()?;
    refuse_paused(context.policy)?;
    Ok(Authorised { plan, rule, open_files: context.host.open_files })
}

fn refuse_paused(policy: &dyn PolicySource) -> Result<(), Refusal> {
    let refusal = |why| Refusal::denied("security=deny", format!("SYSTEM_RUN_DISABLED: {why}"));
    policy.paused().map_or(Ok(()), |why| Err(refusal(why)))
}

/// What a request says about an approval made elsewhere. None of it is evidence by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing, or a word that is no decision (A63).
    None,
    /// No, which is final whoever says it (A113).
    Denied,
    /// Yes.
    Approved(Decision),
    /// Nobody answered there; what holds without an answer shall hold.
    NobodyAnswered,
}

impl Claim {
    /// Reads it; a gateway's claim must name the plan that it is about. Source: exec e.2.
    fn read(request: &RunRequest, origin: Origin, plan: &Plan) -> Result<Self, Refusal> {
        let decision = request.approval_decision.as_deref().and_then(Decision::from_word);
        if decision == Some(Decision::Deny) {
            return Ok(Self::Denied);
        }
        let decision = decision.or(request.approved.then_some(Decision::AllowOnce));
        let claim = match (decision, request.approval_source.as_deref()) {
            (Some(_), Some(_)) if origin == Origin::Gateway => {
                return Err(Refusal::invalid("approvalSource cannot be combined with explicit approval"));
            }
            (Some(decision), _) => Self::Approved(decision),
            (None, Some("ask-fallback")) => Self::NobodyAnswered,
            (None, None | Some("auto-review")) => Self::None,
            (None, Some(_)) => return Err(Refusal::invalid("approvalSource invalid")),
        };
        if origin == Origin::Socket || claim == Self::None {
            return Ok(claim);
        }
        let what = if claim == Self::NobodyAnswered { "approvalSource" } else { "explicit approval" };
        match &request.system_run_plan {
            Some(carried) if !carried.is_object() => Err(Refusal::invalid("systemRunPlan invalid")),
            Some(carried) if !prepare::carries(carried, plan) => {
                Err(Refusal::invalid(format!("{what} requires matching systemRunPlan")))
            }
            Some(carried) if !carried.get("policySnapshot").is_some_and(serde_json::Value::is_object) => {
                Err(Refusal::invalid("delayed approval requires a prepared policy snapshot"))
            }
            Some(_) => Ok(claim),
            None => Err(Refusal::invalid(format!("{what} requires matching systemRunPlan"))),
        }
    }
}

/// A plan that needs an answer.
struct Judged<'a> {
    plan: &'a Plan,
    policy: &'a EffectivePolicy,
    context: &'a Context<'a>,
}

impl Judged<'_> {
    /// Gets the answer and acts on it; returns what allowed the run.
    fn resolve(
        &self,
        claim: &Claim,
        allow_always: Result<(), String>,
        person: &dyn Person,
        withdrawn: &Wake,
    ) -> Result<String, Refusal> {
        let (decision, rule) = if self.believes(claim) {
            match claim {
                Claim::Approved(decision) => (*decision, format!("{} at the gateway", decision.word())),
                _ => return self.without_answer(self.after_no_answer_elsewhere(), "nobody answered at the gateway"),
            }
        } else {
            let question = self.question(claim, allow_always);
            match person.ask(&question, withdrawn) {
                Answer::Decided(decision) => (decision, format!("{} by the person", decision.word())),
                Answer::Granted(_) => (Decision::AllowOnce, "granted for a while by the person".to_owned()),
                Answer::Nobody(why) => return self.without_answer(self.fallback(), &self.nobody(claim, &why)),
                Answer::TimedOut => return self.without_answer(self.fallback(), "nobody answered in time; try again"),
                Answer::Withdrawn => return Err(policy::approval_required("the request was withdrawn")),
            }
        };
        if decision == Decision::Deny {
            return Err(user_denied());
        }
        let offered = self.still_holds()?;
        self.plan.verify()?;
        if decision == Decision::AllowAlways {
            match offered {
                Ok(()) => self.store()?,
                Err(why) => log!("exec", "allowed once only, not always: {why}"),
            }
        }
        Ok(rule)
    }

    /// Whether a claim replaces the question (DESIGN, "Decisions and edits from outside").
    fn believes(&self, claim: &Claim) -> bool {
        if !self.policy.trust_gateway_approvals || !matches!(claim, Claim::Approved(_) | Claim::NobodyAnswered) {
            return false;
        }
        match self.context.origin {
            // The node that forwards it has checked it with its own prepared plans.
            Origin::Socket => true,
            // What the plan's hash does not bind is asked again (row A60).
            Origin::Gateway => {
                !self.plan.needs_screen_recording
                    && self.context.prepared.is_some_and(|prepared| prepared.redeem(self.plan, self.policy))
            }
        }
    }

    fn question(&self, claim: &Claim, allow_always: Result<(), String>) -> Question {
        let plan = self.plan;
        let (given, kept_out): (Vec<_>, Vec<_>) =
            plan.overrides.iter().partition(|(name, value)| plan.env.get(*name) == Some(*value));
        let mut notes = Vec::new();
        if let Claim::Approved(decision) = claim {
            notes.push(format!("the gateway says that it was approved there ({})", decision.word()));
        }
        if plan.form != Form::Direct {
            notes.push("it starts other programs or hands text to a shell; what they do was not analysed".to_owned());
        }
        if let Some(preview) = &plan.command_preview {
            notes.push(format!("the shell is told: {preview}"));
        }
        if !kept_out.is_empty() {
            let names: Vec<_> = kept_out.iter().map(|(name, _)| name.as_str()).collect();
            notes.push(format!("not passed on to a shell: {}", names.join(", ")));
        }
        if let Some(timeout) = plan.timeout {
            notes.push(format!("stopped after {timeout:?}"));
        }
        if plan.needs_screen_recording {
            notes.push("it says that it needs to record the screen".to_owned());
        }
        Question {
            id: random::uuid(),
            command: display::quoted(&plan.argv),
            executable: plan
                .executable
                .as_ref()
                .map(|file| file.file.path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            cwd: plan.cwd.to_string_lossy().into_owned(),
            env: given.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            agent: plan.agent_id.clone(),
            session: plan.session_key.clone(),
            requester: self.context.requester.to_owned(),
            notes,
            allow_always,
            spans: Vec::new(),
            unbound: None,
            deadline: Expiry::after(Now::read(), limits::PROMPT_DEADLINE),
        }
    }

    /// Reads the policy again after an answer (A71): what has become stricter meanwhile refuses;
    /// a change that would ask the same again does not. Returns whether "always" may be stored now.
    fn still_holds(&self) -> Result<Result<(), String>, Refusal> {
        let now = self.context.policy.effective(self.plan.agent_id.as_deref());
        let matched = |policy| policy::matching_entry(self.plan, policy).is_some();
        let verdict = policy::decide(self.plan, &now);
        if let Verdict::Deny(refusal) = verdict {
            return Err(refusal);
        }
        let tightened = now.security < self.policy.security
            || now.ask > self.policy.ask
            || (matched(self.policy) && !matched(&now));
        if tightened {
            return Err(Refusal::denied(
                "approval-required",
                "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again",
            ));
        }
        Ok(match verdict {
            Verdict::Ask { allow_always } => allow_always,
            _ => Err("it is allowed already".to_owned()),
        })
    }

    /// Puts the command on the allowlist; a command that cannot be stored as answered does not run.
    fn store(&self) -> Result<(), Refusal> {
        let failed = |why: String| {
            Refusal::denied(
                "approval-state-write-failed",
                format!("SYSTEM_RUN_DENIED: the answer could not be stored, so the command did not run: {why}"),
            )
        };
        let entry = policy::durable_entry(self.plan).map_err(failed)?;
        let path = entry.pattern.clone();
        let agent = self.plan.agent_id.as_deref();
        self.context.policy.add_allow_always(agent, &entry, &self.plan.command_text, &path).map_err(failed)
    }

    /// What holds when our own person does not answer. Source: spec exec (c.4) "askFallback meaning".
    fn fallback(&self) -> EffectivePolicy {
        EffectivePolicy { security: self.policy.ask_fallback, ask: Ask::Off, ..self.policy.clone() }
    }

    /// The same for a gateway whose approver did not answer: never looser than the policy.
    /// Source: spec exec (c.4) "approvalSource: ask-fallback".
    fn after_no_answer_elsewhere(&self) -> EffectivePolicy {
        EffectivePolicy {
            security: self.policy.security.min(self.policy.ask_fallback),
            ask: Ask::Off,
            ..self.policy.clone()
        }
    }

    /// Judges the plan by what holds without an answer, after the same check as after an answer.
    fn without_answer(&self, fallback: EffectivePolicy, why: &str) -> Result<String, Refusal> {
        let word = fallback.security.word();
        match policy::decide(self.plan, &fallback) {
            Verdict::Run(rule) => {
                let _ = self.still_holds()?;
                self.plan.verify()?;
                Ok(format!("askFallback={word}, {rule}"))
            }
            Verdict::Ask { .. } => Err(policy::approval_required(why)),
            Verdict::Deny(_) if fallback.security == Security::Deny => Err(policy::approval_required(why)),
            Verdict::Deny(refusal) => Err(refusal),
        }
    }

    /// Why there is no answer, and what to do about it.
    fn nobody(&self, claim: &Claim, why: &str) -> String {
        let why = text::visible(why);
        match claim {
            Claim::Approved(_) => format!(
                "nobody can be asked here ({why}), and an approval made at the gateway does not count here unless \
                 the approvals document says \"local\": {{\"trustGatewayApprovals\": true}}"
            ),
            _ => format!(
                "nobody can be asked here ({why}); start the app with somebody to answer, or allow the \
                 command in the approvals document"
            ),
        }
    }
}

/// The answer of a person, or of anybody who may speak, was no.
fn user_denied() -> Refusal {
    Refusal::denied("user-denied", "SYSTEM_RUN_DENIED: user denied")
}
