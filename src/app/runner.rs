//! Runs commands for the exec socket: judged by the approvals document, asked of the person, run.

use super::exec_host::Runner;
use crate::desktop::permissions::{Capability, Grant, Permissions};
use crate::exec::analysis::Host;
use crate::exec::approval::{Context, Guards, Origin, Person, authorise};
use crate::exec::document::DocumentPolicy;
use crate::exec::progress::Listener;
use crate::exec::run::{RunOutcome, run};
use crate::limits;
use crate::log;
use crate::protocol::node::{RunRequest, RunResult};
use crate::protocol::policy::Refusal;
use crate::sys::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The commands of this app.
pub struct CommandRunner {
    host: Host,
    policy: DocumentPolicy,
    person: Arc<dyn Person>,
    guards: Arc<Guards>,
    permissions: Arc<dyn Permissions>,
    running: AtomicUsize,
}

impl CommandRunner {
    /// Commands run in `host`, `policy` judges them, `person` is asked; `permissions` are those of this process.
    pub fn new(
        host: Host,
        policy: DocumentPolicy,
        person: Arc<dyn Person>,
        guards: Arc<Guards>,
        permissions: Arc<dyn Permissions>,
    ) -> Self {
        Self { host, policy, person, guards, permissions, running: AtomicUsize::new(0) }
    }

    /// A place among the commands that run at once.
    fn place(&self) -> Result<Place<'_>, Refusal> {
        let place = Place(&self.running);
        if self.running.fetch_add(1, Ordering::SeqCst) < limits::RUNS_AT_ONCE {
            return Ok(place);
        }
        let most = limits::RUNS_AT_ONCE;
        Err(unavailable(format!("busy: {most} commands are running already; try again later")))
    }
}

impl Runner for CommandRunner {
    fn run(
        &self,
        request: &RunRequest,
        requester: &str,
        end: &Wake,
        listener: Option<Listener<'_>>,
    ) -> Result<RunResult, Refusal> {
        let context = Context {
            host: &self.host,
            policy: &self.policy,
            origin: Origin::Socket,
            requester,
            prepared: None,
            // Only asked about where it is needed; a look prompts nobody.
            screen_recording: request.needs_screen_recording
                && self.permissions.status(Capability::ScreenRecording) == Grant::Granted,
            guards: &self.guards,
        };
        let authorised = authorise(request, &context, self.person.as_ref(), end)?;
        let _place = self.place()?;
        // The command itself is for the audit log only.
        log!("app", "running a command ({})", authorised.rule());
        match run(authorised, end, listener) {
            RunOutcome::Finished(result) => Ok(result),
            RunOutcome::Refused(refusal) => Err(refusal),
            RunOutcome::Cancelled => Err(unavailable("the request was withdrawn; the command was stopped".to_owned())),
        }
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn unavailable(message: String) -> Refusal {
    Refusal { code: "UNAVAILABLE", message, reason: None }
}
