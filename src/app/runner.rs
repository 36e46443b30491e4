//! What the exec socket's server calls for an authenticated request: the decision and the run.

use super::exec_host::Runner;
use crate::exec::analysis::Host;
use crate::exec::approval::{self, Context, Origin, Person, PolicySource};
use crate::exec::run::{self, RunOutcome};
use crate::protocol::node::{RunRequest, RunResult};
use crate::protocol::policy::Refusal;
use crate::sys::wake::Wake;
use std::sync::Arc;

/// Decides by the owner's policy, asks the person, runs the command here.
pub struct AppRunner {
    /// Where commands run.
    pub host: Host,
    /// The owner's policy.
    pub policy: Box<dyn PolicySource>,
    /// Who is asked.
    pub person: Arc<dyn Person>,
}

impl Runner for AppRunner {
    fn run(&self, request: &RunRequest, requester: &str, end: &Wake) -> Result<RunResult, Refusal> {
        let context = Context {
            host: &self.host,
            policy: &*self.policy,
            origin: Origin::Socket,
            requester,
            prepared: None,
            // Arrives with the permissions of part 5.
            screen_recording: false,
        };
        let authorised = approval::authorise(request, &context, &*self.person, end)?;
        match run::run(authorised, end) {
            RunOutcome::Finished(result) => Ok(result),
            RunOutcome::Refused(refusal) => Err(refusal),
            RunOutcome::Cancelled => Err(Refusal::denied("user-denied", "SYSTEM_RUN_DENIED: the requester went away")),
        }
    }
}
