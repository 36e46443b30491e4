//! What each command does. Source: spec gateway §5 "system.* commands", exec (e).

use super::abilities::AbilityHost;
use super::computer::ComputerHost;
use super::exec_host_client::{ExecHostClient, HostUnreachable};
use super::policy_edits::{Caller, PolicyEditor};
use crate::client::Surface;
use crate::desktop::notify::{Notifications, NotifyError};
use crate::exec::analysis::{self, Host};
use crate::exec::approval::{self, Answer, Context, Guards, Origin, Person, PolicySource, Question};
use crate::exec::display;
use crate::exec::plan::Plan;
use crate::exec::prepare::{self, PreparedPlans};
use crate::exec::progress::Listener;
use crate::exec::run::{self, RunOutcome};
use crate::identity::random;
use crate::limits;
use crate::protocol::ability;
use crate::protocol::computer;
use crate::protocol::node::{
    ExecEvent, InvokeRequest, NodeError, RunRequest, RunResult, RunSource, name, parse_run, parse_which,
};
use crate::protocol::notify::{NOTIFY, Notification};
use crate::protocol::policy::{Decision, Refusal, Security};
use crate::state::approvals::EffectivePolicy;
use crate::sys::wake::Wake;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Who runs commands.
pub enum ExecHost {
    /// The app, which decides and asks. The node never runs anything itself then.
    App(ExecHostClient),
    /// This process, without a person: what policy allows unasked, behind its own guards.
    Local(Arc<Guards>),
}

/// The commands of one node.
pub struct Commands {
    /// What was declared to the gateway; nothing else is done.
    pub offered: Surface,
    /// Where commands are analysed.
    pub host: Host,
    /// The owner's policy.
    pub policy: Arc<dyn PolicySource>,
    /// Who runs them.
    pub exec_host: ExecHost,
    /// Who shows notifications.
    pub notifications: Arc<Notifications>,
    /// Who serves `system.execApprovals.*`.
    pub policy_editor: Option<PolicyEditor>,
    /// Who serves what needs no program.
    pub abilities: Option<AbilityHost>,
    /// Who serves `computer.act`.
    pub computer: Option<ComputerHost>,
    /// Through which way requests come, for the person.
    pub requester: String,
}

/// What an invocation came to.
pub struct Outcome {
    /// Sent before the result.
    pub event: Option<(&'static str, ExecEvent)>,
    /// JSON text of the payload, or why not.
    pub result: Result<String, NodeError>,
}

impl Outcome {
    /// Not done, and no event about it.
    pub fn refused(error: NodeError) -> Self {
        Self { event: None, result: Err(error) }
    }

    fn payload(payload: String) -> Self {
        Self { event: None, result: Ok(payload) }
    }
}

/// Reasons that the original's node passes on from the app, and the person's no. Source: exec e.3, e.8.
const DENIED_REASONS: &[&str] = &[
    "security=deny",
    "approval-required",
    "allowlist-miss",
    "execution-plan-miss",
    "companion-unavailable",
    "cwd-unavailable",
    "permission:screenRecording",
    "approval-state-write-failed",
    "auto-review-denied",
    "user-denied",
];

/// The gateway's own deadline passes first, and ends an invocation without a result.
const AFTER_DEADLINE: Duration = Duration::from_secs(5);

impl Commands {
    /// Does what was asked; none when it was cancelled. `listener` hears what a command prints.
    pub fn perform(
        &self,
        request: &InvokeRequest,
        prepared: &PreparedPlans,
        cancel: &Wake,
        listener: Option<Listener<'_>>,
    ) -> Option<Outcome> {
        let params = request.params_json.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if let Some(abilities) = &self.abilities
            && abilities.knows(&request.command)
        {
            return self.use_ability(abilities, request, params, prepared, cancel);
        }
        if let Some(computer) = self.computer.as_ref().filter(|_| request.command == computer::ACT) {
            let answer = computer.perform(params, &self.requester, cancel)?;
            return Some(answer.map_or_else(Outcome::refused, Outcome::payload));
        }
        if !self.offered.commands.contains(&request.command) {
            return Some(Outcome::refused(unsupported()));
        }
        if let Some(editor) = &self.policy_editor
            && request.command.starts_with(name::EXEC_APPROVALS)
        {
            return Some(self.edit_policy(editor, request, params, cancel));
        }
        let judged = match (request.command.as_str(), params) {
            (name::RUN | name::RUN_PREPARE | name::WHICH | NOTIFY, None) => {
                Err(Refusal::invalid("Error: INVALID_REQUEST: paramsJSON required"))
            }
            (name::WHICH, Some(params)) => self.which(params),
            (NOTIFY, Some(params)) => self.notify(params),
            (name::RUN_PREPARE, Some(params)) => self.prepare(params, prepared),
            (name::RUN, Some(params)) => {
                let invoke_timeout = request.timeout_ms.filter(|millis| *millis > 0).map(Duration::from_millis);
                match parse_run(params, RunSource::Gateway) {
                    Ok(run) => return Run::of(run).perform(self, prepared, cancel, invoke_timeout, listener),
                    Err(refusal) => Err(refusal),
                }
            }
            _ => return Some(Outcome::refused(unsupported())),
        };
        Some(judged.map_or_else(|refusal| Outcome::refused(refusal.into()), Outcome::payload))
    }

    /// What is offered now, to be declared: abilities come and go with switches and permissions.
    pub fn surface(&self) -> Surface {
        let mut surface = self.offered.clone();
        if let Some(abilities) = &self.abilities {
            let now = abilities.surface();
            surface.caps.extend(now.caps.into_iter().filter(|cap| !self.offered.caps.contains(cap)));
            surface.commands.extend(now.commands);
        }
        if self.computer.as_ref().is_some_and(|computer| computer.refusal().is_none()) {
            surface.caps.push(computer::CAP.to_owned());
            surface.commands.push(computer::ACT.to_owned());
        }
        surface
    }

    /// Whether [`Commands::surface`] depends on switches and permissions.
    pub fn surface_may_change(&self) -> bool {
        self.abilities.is_some() || self.computer.is_some()
    }

    fn use_ability(
        &self,
        abilities: &AbilityHost,
        request: &InvokeRequest,
        params: Option<&str>,
        prepared: &PreparedPlans,
        cancel: &Wake,
    ) -> Option<Outcome> {
        if request.command == ability::name::APPLESCRIPT {
            let refused = abilities.refuses(&request.command).map_or(Ok(()), Err);
            return match refused.and_then(|()| Ok(ability::applescript(params)?)) {
                Ok(run) => Run::of(run).perform(self, prepared, cancel, None, None),
                Err(error) => Some(Outcome::refused(error)),
            };
        }
        let session = request.session_key.as_deref();
        let answer = abilities.perform(&request.command, params, session, cancel)?;
        Some(answer.map_or_else(Outcome::refused, Outcome::payload))
    }

    fn edit_policy(
        &self,
        editor: &PolicyEditor,
        request: &InvokeRequest,
        params: Option<&str>,
        cancel: &Wake,
    ) -> Outcome {
        let patience = request.timeout_ms.filter(|millis| *millis > 0);
        let caller = Caller {
            requester: &self.requester,
            patience: patience.map_or(limits::INVOKE_TIMEOUT, Duration::from_millis),
            cancel,
        };
        let result = match request.command.as_str() {
            name::EXEC_APPROVALS_GET => editor.get(params),
            name::EXEC_APPROVALS_SET => editor.set(params, &caller),
            _ => Err(unsupported()),
        };
        result.map_or_else(Outcome::refused, Outcome::payload)
    }

    /// Names with a separator are ignored; what is not an executable regular file is not found.
    fn which(&self, params: &str) -> Result<String, Refusal> {
        let mut found = BTreeMap::new();
        for bin in parse_which(params)? {
            if bin.contains(['/', '\\', '\0']) {
                continue;
            }
            let program = self.host.find(&bin, Path::new("/"));
            if let Some(program) = program {
                found.insert(bin, program.to_string_lossy().into_owned());
            }
        }
        Ok(json!({"bins": found}).to_string())
    }

    fn notify(&self, params: &str) -> Result<String, Refusal> {
        let unavailable = |error: NotifyError| Refusal { code: "UNAVAILABLE", ..Refusal::invalid(error.to_string()) };
        self.notifications.show(&Notification::parse(params)?).map_err(unavailable)?;
        Ok("{}".to_owned())
    }

    fn prepare(&self, params: &str, prepared: &PreparedPlans) -> Result<String, Refusal> {
        let request = parse_run(params, RunSource::Gateway)?;
        let rules = self.policy.rules(request.agent_id.as_deref()).tightened_by(&request);
        prepare::prepare(&request, &self.host, &rules, prepared).map(|answer| answer.to_string())
    }
}

fn unsupported() -> NodeError {
    NodeError::new("UNAVAILABLE", "command not supported")
}

/// One `system.run`.
struct Run {
    request: RunRequest,
    run_id: String,
    command_text: String,
}

impl Run {
    fn of(request: RunRequest) -> Self {
        Self {
            run_id: request.run_id.clone().unwrap_or_else(random::uuid),
            command_text: display::canonical(&request.command),
            request,
        }
    }

    fn perform(
        &self,
        commands: &Commands,
        prepared: &PreparedPlans,
        cancel: &Wake,
        invoke_timeout: Option<Duration>,
        listener: Option<Listener<'_>>,
    ) -> Option<Outcome> {
        match &commands.exec_host {
            ExecHost::Local(guards) => self.run_here(commands, guards, prepared, cancel, listener),
            ExecHost::App(app) => self.run_in_app(app, commands, prepared, cancel, invoke_timeout, listener),
        }
    }

    fn run_here(
        &self,
        commands: &Commands,
        guards: &Arc<Guards>,
        prepared: &PreparedPlans,
        cancel: &Wake,
        listener: Option<Listener<'_>>,
    ) -> Option<Outcome> {
        let context = Context {
            host: &commands.host,
            policy: &*commands.policy,
            origin: Origin::Gateway,
            requester: &commands.requester,
            prepared: Some(prepared),
            screen_recording: false,
            guards,
        };
        let authorised = match approval::authorise(&self.request, &context, &NoPerson, cancel) {
            Ok(authorised) => authorised,
            Err(refusal) => return Some(self.refused(refusal)),
        };
        match run::run(authorised, cancel, listener) {
            RunOutcome::Finished(result) => Some(self.finished(result)),
            RunOutcome::Refused(refusal) => Some(self.refused(refusal)),
            RunOutcome::Cancelled => None,
        }
    }

    /// From the first byte on, only the app knows whether it ran: nothing is ever run here instead.
    fn run_in_app(
        &self,
        app: &ExecHostClient,
        commands: &Commands,
        prepared: &PreparedPlans,
        cancel: &Wake,
        invoke_timeout: Option<Duration>,
        listener: Option<Listener<'_>>,
    ) -> Option<Outcome> {
        let request = match self.for_app(commands, prepared) {
            Ok(request) => request,
            Err(refusal) => return Some(self.refused(refusal)),
        };
        let at_most = invoke_timeout.map(|timeout| timeout.min(limits::INVOKE_TIMEOUT_MAX) + AFTER_DEADLINE);
        match app.run(&request, cancel, at_most, listener) {
            Ok(Ok(result)) => Some(self.finished(result)),
            Ok(Err(error)) => {
                let known = DENIED_REASONS.iter().find(|reason| error.reason.as_deref() == Some(**reason));
                let reason = known.copied().unwrap_or("approval-required");
                Some(self.refused(Refusal::denied(reason, error.message)))
            }
            Err(HostUnreachable::Cancelled) => None,
            Err(unreachable) => {
                crate::log!("node", "the app could not be asked: {unreachable}");
                let mut message = "COMPANION_APP_UNAVAILABLE: macOS app exec host unreachable".to_owned();
                if let HostUnreachable::Token(_) = unreachable {
                    // Nothing is wrong with the app, the document is broken: the caller must hear that (A139).
                    message = format!("{message}: {unreachable}");
                }
                Some(self.refused(Refusal { code: "UNAVAILABLE", message, reason: Some("companion-unavailable") }))
            }
        }
    }

    /// The request for the app: analysed, so that what is malformed is said without an event, and
    /// with an approval only if it is one that fits (DESIGN, "Decisions and edits from outside").
    fn for_app(&self, commands: &Commands, prepared: &PreparedPlans) -> Result<RunRequest, Refusal> {
        let plan = analysis::analyse(&self.request, &commands.host)?;
        let claimed = self.request.approval_decision.as_deref().and_then(Decision::from_word);
        if claimed == Some(Decision::Deny) {
            return Err(Refusal::denied("user-denied", "SYSTEM_RUN_DENIED: user denied"));
        }
        let claimed = claimed.or(self.request.approved.then_some(Decision::AllowOnce));
        let policy = commands.policy.rules(plan.agent_id.as_deref()).policy;
        // What the owner says of this way in; the app sees another one. Of a broken document it tells more.
        if policy.security == Security::Deny && policy.broken.is_none() {
            return Err(Refusal::denied("security=deny", "SYSTEM_RUN_DISABLED: security=deny"));
        }
        // The program's path is the wire's; the program sees the name that was sent first.
        let argv0 = prepared.argv0(&plan, &policy);
        let decision = claimed.filter(|_| self.was_prepared(&plan, &policy, prepared));
        Ok(RunRequest {
            approval_decision: decision.map(|decision| decision.word().to_owned()),
            argv0,
            ..self.request.clone()
        })
    }

    /// Whether the gateway's approval is about a plan that this node prepared on this connection,
    /// not long ago, not yet used, under the policy that holds now. What needs the screen is asked
    /// again: the plan's hash does not bind it (A60).
    fn was_prepared(&self, plan: &Plan, policy: &EffectivePolicy, prepared: &PreparedPlans) -> bool {
        !plan.needs_screen_recording
            && self.request.system_run_plan.as_ref().is_some_and(|carried| prepare::carries(carried, plan))
            && prepared.redeem(plan, policy)
    }

    fn finished(&self, result: RunResult) -> Outcome {
        let event = ExecEvent {
            command: Some(self.command_text.clone()),
            exit_code: result.exit_code,
            timed_out: Some(result.timed_out),
            success: Some(result.success),
            output: Some(display::output_tail(&result)),
            ..self.event()
        };
        let payload = serde_json::to_string(&result).unwrap_or_default();
        Outcome { event: Some((name::EXEC_FINISHED, event)), result: Ok(payload) }
    }

    fn refused(&self, refusal: Refusal) -> Outcome {
        let event = refusal.reason.map(|reason| {
            let event =
                ExecEvent { command: Some(self.command_text.clone()), reason: Some(reason.to_owned()), ..self.event() };
            (name::EXEC_DENIED, event)
        });
        Outcome { event, result: Err(refusal.into()) }
    }

    fn event(&self) -> ExecEvent {
        ExecEvent {
            session_key: self.request.session_key.clone().unwrap_or_else(|| "node".to_owned()),
            run_id: self.run_id.clone(),
            host: "node".to_owned(),
            command: None,
            exit_code: None,
            timed_out: None,
            success: None,
            output: None,
            reason: None,
            suppress_notify_on_exit: self.request.suppress_notify_on_exit,
        }
    }
}

/// A headless node has nobody to ask: `askFallback` holds.
struct NoPerson;

impl Person for NoPerson {
    fn ask(&self, _question: &Question, _withdrawn: &Wake) -> Answer {
        Answer::Nobody("this node host has nobody to ask; let the app run commands (--exec-host app)".to_owned())
    }
}
