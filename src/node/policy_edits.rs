//! `system.execApprovals.get` and `.set`: the policy as others see it, and edits from outside.
//! Source: spec exec e.7; cases A53, A142, A157, H15; DESIGN "Decisions and edits from outside".

use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::limits;
use crate::protocol::node::NodeError;
use crate::protocol::policy::{Decision, Refusal};
use crate::protocol::strict;
use crate::state::StateError;
use crate::state::approvals::edit::{Edit, EditError, NOBODY_HERE};
use crate::state::approvals::wire::Form;
use crate::state::approvals::{ApprovalsDocument, Snapshot};
use crate::sys::clock::{Expiry, Now};
use crate::sys::wake::Wake;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The policy document and who decides about edits that loosen it.
pub struct PolicyEditor {
    /// The owner's policy.
    pub document: Arc<ApprovalsDocument>,
    /// Whoever sits at this machine; none refuses what loosens. Never somebody at the gateway: who
    /// may edit there must not also confirm the edit.
    pub person: Option<Arc<dyn Person>>,
}

/// A call that edits.
pub struct Caller<'a> {
    /// Through which way it came, for the person.
    pub requester: &'a str,
    /// How long the gateway waits.
    pub patience: Duration,
    /// Fired when nobody waits any more.
    pub cancel: &'a Wake,
}

impl PolicyEditor {
    /// `{includeResolvedDefaults?, whole?}` → `{path, exists, hash, file, resolvedDefaults?}`. Unlike with the
    /// original, looking creates no document (H25).
    ///
    /// # Errors
    /// The document is broken or unsafe.
    pub fn get(&self, params: Option<&str>) -> Result<String, NodeError> {
        let params = members(params)?;
        let mut snapshot = self.document.snapshot(Form::of(&params)).map_err(|error| refused(&error.into()))?;
        if params.get("includeResolvedDefaults") == Some(&Value::Bool(true)) {
            snapshot.resolved_defaults = Some(self.document.resolved_defaults());
        }
        Ok(wire(&snapshot))
    }

    /// `{file, baseHash, whole?}` → the new state.
    ///
    /// # Errors
    /// The edit is not one, is stale, or nobody here wants it. The document is then as it was.
    pub fn set(&self, params: Option<&str>, caller: &Caller<'_>) -> Result<String, NodeError> {
        let params = members(params)?;
        let base_hash = params.get("baseHash").and_then(Value::as_str);
        let edit =
            self.document.propose(params.get("file"), base_hash, Form::of(&params)).map_err(|error| refused(&error))?;
        if let Err(error) = self.permit(&edit, caller) {
            let why = error.message.as_deref().unwrap_or_default();
            crate::log!("node", "approvals document: refused an edit ({}): {why}", caller.requester);
            self.document.refuse(&edit, caller.requester, &Refusal::denied("approval-required", why));
            return Err(error);
        }
        let snapshot = self.document.apply(&edit, caller.requester).map_err(|error| refused(&error))?;
        crate::log!("node", "approvals document: edited ({}): {}", caller.requester, edit.summary());
        Ok(wire(&snapshot))
    }

    /// Tightening needs nobody; loosening needs the owner's word, in the document or now.
    fn permit(&self, edit: &Edit, caller: &Caller<'_>) -> Result<(), NodeError> {
        if !edit.needs_person() {
            return Ok(());
        }
        let denied = |why: &str| Err(NodeError::new("APPROVAL_REQUIRED", edit.refusal(why)));
        let Some(person) = &self.person else { return denied(NOBODY_HERE) };
        match person.ask(&self.question(edit, caller), caller.cancel) {
            Answer::Decided(Decision::AllowOnce | Decision::AllowAlways) | Answer::Granted(_) => Ok(()),
            Answer::Decided(Decision::Deny) => denied("the person at that machine said no"),
            Answer::Nobody(why) => denied(&format!("nobody could be asked there: {why}")),
            Answer::TimedOut => denied("nobody at that machine answered in time; try again"),
            Answer::Withdrawn | Answer::Later => denied("the request was withdrawn"),
        }
    }

    fn question(&self, edit: &Edit, caller: &Caller<'_>) -> Question {
        let patience = caller.patience.saturating_sub(limits::EDIT_ANSWER_MARGIN).min(limits::PROMPT_DEADLINE);
        let subject = format!("allow more in the approvals document {}", self.document.path().display());
        Question {
            notes: edit.loosened.iter().map(|what| format!("would from now on be allowed: {what}")).collect(),
            deadline: Expiry::after(Now::read(), patience),
            ..Question::of(Kind::Change, subject, caller.requester.to_owned())
        }
    }
}

/// The parameters; absent ones are none.
fn members(params: Option<&str>) -> Result<Value, NodeError> {
    let text = params.unwrap_or("{}");
    let malformed = || invalid("paramsJSON malformed JSON");
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|_| malformed())?;
    match serde_json::from_str(text) {
        Ok(members @ (Value::Object(_) | Value::Null)) => Ok(members),
        _ => Err(malformed()),
    }
}

/// A path that is not UTF-8 cannot be said; nothing else here can fail.
fn wire(snapshot: &Snapshot) -> String {
    serde_json::to_string(snapshot).unwrap_or_default()
}

/// The original's prefix. Source: spec exec e.7.
fn invalid(text: &str) -> NodeError {
    NodeError::new("INVALID_REQUEST", format!("Error: INVALID_REQUEST: {text}"))
}

fn refused(error: &EditError) -> NodeError {
    match error {
        EditError::State(StateError::Busy { .. }) => NodeError::new("TIMEOUT", error.to_string()),
        EditError::State(_) => NodeError::new("UNAVAILABLE", error.to_string()),
        _ => invalid(&error.to_string()),
    }
}
