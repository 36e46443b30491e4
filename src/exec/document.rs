//! The approvals document as the policy of one way in.

use super::approval::PolicySource;
use crate::log;
use crate::state::approvals::{AllowEntry, ApprovalsDocument, EffectivePolicy};
use crate::state::pause;
use std::path::Path;
use std::sync::Arc;

/// What the document says to requests that come in one way.
pub struct DocumentPolicy {
    /// The document, read again at each look.
    pub document: Arc<ApprovalsDocument>,
    /// Whether the caller's word for the agent may loosen anything (security-cases, row A55).
    pub trusts_agent: bool,
}

impl PolicySource for DocumentPolicy {
    fn effective(&self, agent: Option<&str>) -> EffectivePolicy {
        self.document.effective(agent, self.trusts_agent)
    }

    fn paused(&self) -> Option<&'static str> {
        self.document.is_paused().then_some(pause::SENTENCE)
    }

    fn add_allow_always(
        &self,
        agent: Option<&str>,
        entry: &AllowEntry,
        _command_text: &str,
        _path: &str,
    ) -> Result<(), String> {
        // Under a name that nobody vouches for it would have no effect later, so it is stored for
        // everybody, which is what an unproven name amounts to.
        self.document
            .add_allow_always(agent.filter(|_| self.trusts_agent), &entry.pattern, entry.arg_pattern.as_deref())
            .map_err(|error| error.to_string())
    }

    fn record_use(&self, _agent: Option<&str>, entry: &AllowEntry, command_text: &str, path: &str) {
        // When the use cannot be written down the owner's word still stands.
        if let Err(error) = self.document.record_use(entry, command_text, Path::new(path)) {
            log!("exec", "the use of an allowlist entry could not be noted: {error}");
        }
    }
}
