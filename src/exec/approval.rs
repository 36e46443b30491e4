//! From a request to a plan that may run: analysis, policy, the person's answer, the check again.

use super::analysis::{self, Host};
use super::display;
use super::fence;
use super::grants::Grants;
use super::matching::{By, SkillBin};
use super::plan::{self, NotUnderstood, Plan, Stage, Work};
use super::policy::{self, Judgement, Offer, Rules, Verdict};
use super::prepare::{self, PreparedPlans};
use crate::identity::random;
use crate::limits;
use crate::log;
use crate::protocol::node::RunRequest;
use crate::protocol::policy::{Ask, Decision, Fence, Refusal, Security};
use crate::protocol::text;
use crate::state::approvals::{AllowEntry, EffectivePolicy};
use crate::state::audit::{self, AuditLog, Ticket};
use crate::state::{StateDir, StateError};
use crate::sys::clock::{Expiry, Now};
use crate::sys::fence::{Enclosure, Fencer, Gap};
use crate::sys::wake::Wake;
use std::fs::DirEntry;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Stands where a program's path would, for a shell's text that was understood.
const NO_SHELL: &str = "no shell; what is started stands below";

/// What a question is about: how it is put, and what its answers are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Command,
    /// A change of how strict this machine is, by its owner or an edit from outside; `command` says what it means.
    Change,
    /// A message to an agent that a link asks for; the question's `command` is the message. Source: spec mac-app (3.6).
    Link,
    /// A device or node that wants in at the gateway; `command` says who. May be put off. Source: spec mac-app (3.4).
    Pairing,
    /// A page of the web to which a page of the canvas leads; `command` is its address. Source: spec mac-app (8.7).
    Page,
}

/// What a person is shown. Every text is raw: whoever shows it escapes it (`exec::display`).
#[derive(Clone, Debug)]
pub struct Question {
    /// What it is about.
    pub kind: Kind,
    /// Names this question in logs.
    pub id: String,
    /// The whole command, quoted so that arguments can be told apart.
    pub command: String,
    /// The resolved program file, or words for none.
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

impl Question {
    /// One about something else than a command; it is answered once, within the usual time.
    pub fn of(kind: Kind, subject: String, requester: String) -> Self {
        Self {
            kind,
            id: random::uuid(),
            command: subject,
            executable: String::new(),
            cwd: String::new(),
            env: Vec::new(),
            agent: None,
            session: None,
            requester,
            notes: Vec::new(),
            allow_always: Err("it is answered once".to_owned()),
            spans: Vec::new(),
            unbound: None,
            deadline: Expiry::after(Now::read(), limits::PROMPT_DEADLINE),
        }
    }
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
    /// A person will decide another time.
    Later,
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
    /// What the owner has said until now. Read again at each call.
    fn rules(&self, agent: Option<&str>) -> Rules;

    /// Why nothing at all may start now. Asked at each decision, and again right before the start.
    fn paused(&self) -> Option<&'static str> {
        None
    }

    /// Where the programs of the gateway's skills are kept; none where no policy counts on them.
    fn skills(&self) -> Option<&Mutex<Vec<SkillBin>>> {
        None
    }

    /// Adds an entry that an answer made, all of its members as they are.
    ///
    /// # Errors
    /// A sentence: the document could not be written, or has changed in a way that forbids it.
    fn add_allow_always(&self, agent: Option<&str>, entry: &AllowEntry) -> Result<(), String>;

    /// Notes that `entry` allowed this program in a run. An entry that is gone meanwhile stays gone (A73).
    fn record_use(&self, entry: &AllowEntry, command_text: &str, path: &str);
}

/// Through which wire a request came, which decides what its words of approval are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A gateway's `node.invoke`.
    Gateway,
    /// The exec socket.
    Socket,
}

/// What stands between all commands of this process and the machine.
pub struct Guards {
    /// Keeps commands away from our state.
    pub fencer: Fencer,
    /// What may be repeated for a while.
    pub grants: Arc<Grants>,
    /// Where decisions are written down.
    pub audit: AuditLog,
}

impl Guards {
    /// Those of one process. Tries out how commands can be fenced, in a child.
    pub fn new(state: &StateDir) -> Self {
        let mut hidden = vec![state.root().to_owned()];
        // The owner's file may have the gateway's secret, wherever it lies.
        hidden.extend(Some(state.config().to_owned()).filter(|config| !config.starts_with(state.root())));
        let fencer = std::env::current_exe().map_or_else(
            |error| Fencer::none(&format!("our own program cannot be found: {error}")),
            |program| Fencer::prepare(&program, &hidden, &gaps(state.root())),
        );
        Self { fencer, grants: Arc::default(), audit: AuditLog::new(state) }
    }
}

/// What commands reach in the state directory: workspaces, where the original's agents work, and the programs that it
/// keeps there. None of it is ours.
fn gaps(root: &Path) -> Vec<Gap> {
    let Ok(root) = root.canonicalize() else { return Vec::new() };
    let entries = root.read_dir().into_iter().flatten().filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let gap = |entry: DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let is_writable = name == "workspace" || name.starts_with("workspace-");
        (is_writable || name == "bin" || name == "tools").then(|| Gap { path: entry.path(), is_writable })
    };
    directories.filter_map(gap).take(limits::FENCE_GAPS).collect()
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
    /// Fence, grants, audit log.
    pub guards: &'a Arc<Guards>,
}

/// A plan that may run, once: running it takes it away (A62).
pub struct Authorised {
    plan: Plan,
    rule: String,
    open_files: Option<u64>,
    enclosure: Enclosure,
    guards: Arc<Guards>,
    ticket: Ticket,
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

    /// What the child is kept in.
    pub fn enclosure(&self) -> &Enclosure {
        &self.enclosure
    }

    /// Writes down how it ended.
    pub fn ended(self, end: &audit::End) {
        self.guards.audit.ended(self.ticket, end);
    }
}

/// Judges a request, asks where policy says so, checks everything again after the answer, and writes
/// the decision down. Blocks as long as the person does, at most until the question's deadline.
///
/// # Errors
/// The refusal for the caller.
pub fn authorise(
    request: &RunRequest,
    context: &Context<'_>,
    person: &dyn Person,
    withdrawn: &Wake,
) -> Result<Authorised, Refusal> {
    let sent = analysis::analyse(request, context.host)?;
    let claim = Claim::read(request, context.origin, &sent)?;
    let rules = context.policy.rules(sent.agent_id.as_deref()).tightened_by(request);
    let named = under_its_name(request, &sent, &rules, context)?;
    let plan = named.as_ref().unwrap_or(&sent);
    let judged = Judged { plan, sent: &sent, rules: &rules, context };
    let allowed = judged.judge(claim, person, withdrawn).and_then(|rule| Ok((judged.enclose()?, rule)));
    let rule = allowed.as_ref().map(|(_, rule)| rule.as_str());
    let noted = judged.note(request.run_id.as_deref(), rule);
    let (enclosure, rule) = allowed?;
    let ticket =
        noted.map_err(|error| Refusal::denied("approval-state-write-failed", format!("SYSTEM_RUN_DENIED: {error}")))?;
    let guards = Arc::clone(context.guards);
    let plan = named.unwrap_or(sent);
    Ok(Authorised { plan, rule, open_files: context.host.open_files, enclosure, guards, ticket })
}

/// A prepared plan under the name that its program was sent with before the wire's plan put a path there: what
/// the program sees is what is judged and shown (A69).
fn under_its_name(
    request: &RunRequest,
    sent: &Plan,
    rules: &Rules,
    context: &Context<'_>,
) -> Result<Option<Plan>, Refusal> {
    let Some(argv0) = context.prepared.and_then(|prepared| prepared.argv0(sent, &rules.policy)) else {
        return Ok(None);
    };
    let named = analysis::analyse(&RunRequest { argv0: Some(argv0), ..request.clone() }, context.host)?;
    if named.cwd_identity != sent.cwd_identity || !named.files().eq(sent.files()) {
        return Err(plan::changed("exec approval changed before execution"));
    }
    Ok(Some(named))
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
        if origin == Origin::Gateway
            && request.system_run_plan.as_ref().is_some_and(|carried| !prepare::is_plan(carried))
        {
            return Err(Refusal::invalid("systemRunPlan invalid"));
        }
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

/// A plan and what it is judged by.
struct Judged<'a> {
    plan: &'a Plan,
    /// The same under the names that the request has; what was prepared is known by them.
    sent: &'a Plan,
    rules: &'a Rules,
    context: &'a Context<'a>,
}

impl Judged<'_> {
    /// Decides; returns what allowed the run.
    fn judge(&self, claim: Claim, person: &dyn Person, withdrawn: &Wake) -> Result<String, Refusal> {
        let Self { plan, rules, context, .. } = *self;
        refuse_paused(context.policy)?;
        let verdict = policy::decide(plan, rules);
        if let Verdict::Deny(refusal) = verdict {
            return Err(refusal);
        }
        if claim == Claim::Denied {
            return Err(user_denied());
        }
        if plan.needs_screen_recording && !context.screen_recording {
            return Err(Refusal::denied("permission:screenRecording", "PERMISSION_MISSING: screenRecording"));
        }
        self.check_directory()?;
        let rule = match verdict {
            // Where an approver was waited for in vain, less may hold than where nobody is needed.
            Verdict::Run(_) if claim == Claim::NobodyAnswered => self.after_no_answer_elsewhere()?,
            Verdict::Run(rule) => rule,
            Verdict::Ask(offer) => match offer.for_a_while.then(|| context.guards.grants.covers(plan)).flatten() {
                Some(grant) => grant,
                None => self.resolve(claim, offer, person, withdrawn)?,
            },
            Verdict::Deny(refusal) => return Err(refusal),
        };
        if let Judgement::Stages(judged) = Judgement::of(plan, rules) {
            for (stage, by) in plan.stages().zip(judged) {
                if let Ok(By::Entry(entry)) = by {
                    context.policy.record_use(&entry, &plan.command_text, stage.subject.path().unwrap_or_default());
                }
            }
        }
        plan.verify()?;
        refuse_paused(context.policy)?;
        Ok(rule)
    }

    /// Whether a command can work there behind the fence that the policy asks for; before anybody is asked.
    fn check_directory(&self) -> Result<(), Refusal> {
        let (level, Plan { cwd, home, .. }) = (self.rules.policy.fence, self.plan);
        // The caller names the directory: it must not make the whole home a workspace.
        let why = if level >= Fence::Workspace && home.starts_with(cwd) {
            "the working directory is home, or holds it; name one below it"
        } else if level != Fence::None && self.context.guards.fencer.hides(cwd) {
            "commands do not reach this part of openclaw's own directory; a workspace that was made there since the \
             start is reached after a restart"
        } else {
            return Ok(());
        };
        Err(Refusal::denied("cwd-unavailable", format!("SYSTEM_RUN_DENIED: fence `{}`: {why}", level.word())))
    }

    /// The fence that the policy asks for, around the working directory.
    fn enclose(&self) -> Result<Enclosure, Refusal> {
        let level = self.rules.policy.fence;
        let refused = |why| format!("SYSTEM_RUN_DENIED: the fence `{}` cannot be had: {why}", level.word());
        let enclosure = fence::enclose(&self.context.guards.fencer, level, &self.plan.cwd);
        enclosure.map_err(|why| Refusal::denied("security=deny", refused(why)))
    }

    /// Writes the decision down.
    fn note(&self, run_id: Option<&str>, rule: Result<&str, &Refusal>) -> Result<Ticket, StateError> {
        let Self { plan, rules, context, .. } = *self;
        let decision = audit::Decision {
            requester: context.requester,
            agent: plan.agent_id.as_deref(),
            session: plan.session_key.as_deref(),
            run_id,
            plan_hash: Some(&plan.hash(&rules.policy.snapshot)),
            command: &display::quoted(&plan.argv),
            cwd: Some(&plan.cwd.to_string_lossy()),
            env: plan.overrides.keys().map(String::as_str).collect(),
            by: rule.as_ref().unwrap_or(&"refused"),
            refusal: rule.err(),
            fence: Some(rules.policy.fence),
            fence_mechanism: Some(context.guards.fencer.mechanism()),
        };
        let noted = context.guards.audit.decision(&decision);
        if let Err(error) = &noted {
            log!("exec", "{error}");
        }
        noted
    }

    /// Gets the answer and acts on it; returns what allowed the run.
    fn resolve(&self, claim: Claim, offer: Offer, person: &dyn Person, withdrawn: &Wake) -> Result<String, Refusal> {
        let mut granted = None;
        let (decision, rule) = if self.believes(&claim) {
            match claim {
                Claim::Approved(decision) => (decision, format!("{} at the gateway", decision.word())),
                _ => return self.after_no_answer_elsewhere(),
            }
        } else {
            let why = offer.why.clone();
            let question = self.question(claim, offer);
            match person.ask(&question, withdrawn) {
                Answer::Decided(decision) => (decision, format!("{} by the person", decision.word())),
                Answer::Granted(span) => {
                    granted = Some(span);
                    (Decision::AllowOnce, "granted for a while by the person".to_owned())
                }
                Answer::Nobody(nobody) => {
                    return self.without_answer(self.fallback(), &format!("{}; {why}", self.nobody(claim, &nobody)));
                }
                Answer::TimedOut => return self.without_answer(self.fallback(), "nobody answered in time; try again"),
                Answer::Withdrawn | Answer::Later => {
                    return Err(policy::approval_required("the request was withdrawn"));
                }
            }
        };
        if decision == Decision::Deny {
            return Err(user_denied());
        }
        let offered = self.still_holds()?;
        self.plan.verify()?;
        if decision == Decision::AllowAlways {
            match offered.map(|offer| offer.allow_always) {
                Some(Ok(())) => self.store()?,
                Some(Err(why)) => log!("exec", "allowed once only, not always: {why}"),
                None => log!("exec", "allowed once only, not always: it is allowed already"),
            }
        } else if let Some(span) = granted
            && offered.is_some_and(|offer| offer.for_a_while)
        {
            self.context.guards.grants.add(self.plan, span);
        }
        Ok(rule)
    }

    /// Whether a claim replaces the question (DESIGN, "Decisions and edits from outside").
    fn believes(&self, claim: &Claim) -> bool {
        if !self.rules.policy.trust_gateway_approvals || !matches!(claim, Claim::Approved(_) | Claim::NobodyAnswered) {
            return false;
        }
        match self.context.origin {
            // The node that forwards it has checked it with its own prepared plans.
            Origin::Socket => true,
            // What the plan's hash does not bind is asked again (row A60).
            Origin::Gateway => {
                !self.plan.needs_screen_recording
                    && self.context.prepared.is_some_and(|prepared| prepared.redeem(self.sent, &self.rules.policy))
            }
        }
    }

    fn question(&self, claim: Claim, offer: Offer) -> Question {
        let plan = self.plan;
        let (given, kept_out): (Vec<_>, Vec<_>) =
            plan.overrides.iter().partition(|(name, value)| plan.env.get(*name) == Some(*value));
        let mut notes = Vec::new();
        match &plan.work {
            Work::Opaque(NotUnderstood { .. }) => notes.push("the shell runs the text as it stands".to_owned()),
            Work::Steps(_) => {
                let is_shown = |stage: &&Stage| stage.argv == plan.argv && stage.subject.wrappers.is_empty();
                let stages = plan.stages().filter(|stage| !is_shown(stage));
                notes.extend(stages.map(|stage| {
                    let path = stage.subject.path().unwrap_or("done by the app itself");
                    format!("runs {} ({path})", display::quoted(&stage.argv))
                }));
            }
        }
        notes.push(format!("asked because {}", offer.why));
        if let Claim::Approved(decision) = claim {
            notes.push(format!("the gateway says that it was approved there ({})", decision.word()));
        }
        let operands = plan.stages().filter_map(|stage| stage.subject.operand.as_ref());
        notes.extend(operands.map(|operand| format!("bound to the content of {}", operand.file.path.display())));
        if let Some(preview) = &plan.command_preview {
            notes.push(format!("the shell's text: {preview}"));
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
            kind: Kind::Command,
            id: random::uuid(),
            command: display::quoted(&plan.argv),
            executable: match &plan.executable {
                _ if plan.replaces_shell() => NO_SHELL.to_owned(),
                Some(executable) => executable.file.path.to_string_lossy().into_owned(),
                None => String::new(),
            },
            cwd: plan.cwd.to_string_lossy().into_owned(),
            env: given.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            agent: plan.agent_id.clone(),
            session: plan.session_key.clone(),
            requester: self.context.requester.to_owned(),
            notes,
            spans: match (offer.for_a_while, &plan.session_key) {
                (false, _) => Vec::new(),
                (true, None) => vec![Span::Minutes],
                (true, Some(_)) => vec![Span::Minutes, Span::Session],
            },
            allow_always: offer.allow_always,
            unbound: offer.unbound,
            deadline: Expiry::after(Now::read(), limits::PROMPT_DEADLINE),
        }
    }

    /// Reads the policy again after an answer (A71): what has become stricter meanwhile refuses;
    /// a change that would ask the same again does not. Returns what may be offered now; none when it
    /// is allowed already.
    fn still_holds(&self) -> Result<Option<Offer>, Refusal> {
        let now = self.context.policy.rules(self.plan.agent_id.as_deref());
        let (before, after) = (&self.rules.policy, &now.policy);
        let verdict = policy::decide(self.plan, &now);
        if let Verdict::Deny(refusal) = verdict {
            return Err(refusal);
        }
        let matched = |rules| Judgement::of(self.plan, rules).is_satisfied();
        let tightened = after.security < before.security
            || after.ask > before.ask
            || after.fence > before.fence
            || (matched(self.rules) && !matched(&now));
        if tightened {
            return Err(Refusal::denied(
                "approval-required",
                "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again",
            ));
        }
        Ok(match verdict {
            Verdict::Ask(offer) => Some(offer),
            _ => None,
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
        self.context.policy.add_allow_always(self.plan.agent_id.as_deref(), &entry).map_err(failed)
    }

    /// What holds when our own person does not answer. Source: spec exec (c.4) "askFallback meaning".
    fn fallback(&self) -> Rules {
        self.unasked(self.rules.policy.ask_fallback)
    }

    /// The same for a gateway whose approver did not answer: never looser than the policy.
    /// Source: spec exec (c.4) "approvalSource: ask-fallback".
    fn after_no_answer_elsewhere(&self) -> Result<String, Refusal> {
        let fallback = self.unasked(self.rules.policy.security.min(self.rules.policy.ask_fallback));
        match policy::decide(self.plan, &fallback) {
            Verdict::Deny(refusal) => Err(refusal),
            _ => self.without_answer(fallback, "nobody answered at the gateway"),
        }
    }

    fn unasked(&self, security: Security) -> Rules {
        let policy = EffectivePolicy { security, ask: Ask::Off, ..self.rules.policy.clone() };
        Rules { policy, ..self.rules.clone() }
    }

    /// Judges the plan by what holds without an answer, after the same check as after an answer.
    fn without_answer(&self, fallback: Rules, why: &str) -> Result<String, Refusal> {
        let word = fallback.policy.security.word();
        match policy::decide(self.plan, &fallback) {
            Verdict::Run(rule) => {
                self.still_holds()?;
                self.plan.verify()?;
                Ok(format!("askFallback={word}, {rule}"))
            }
            Verdict::Ask(_) | Verdict::Deny(_) => Err(policy::approval_required(why)),
        }
    }

    /// Why there is no answer, and what to do about it.
    fn nobody(&self, claim: Claim, why: &str) -> String {
        let why = text::visible(why);
        match claim {
            Claim::Approved(_) if self.rules.policy.trust_gateway_approvals => format!(
                "nobody can be asked here ({why}), and the approval made at the gateway is of no plan that was prepared \
                 here a short time ago and not used since"
            ),
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
