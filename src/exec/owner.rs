//! The owner's approvals document as the policy source of one way in.

use super::approval::PolicySource;
use crate::state::approvals::{AllowEntry, ApprovalsDocument, EffectivePolicy};
use std::path::Path;
use std::sync::Arc;

/// The document, read again at each decision.
///
/// An agent's name is the caller's claim on every way in (our own node relays it for callers whom
/// it cannot see), so an agent's entry only ever tightens what holds for everybody, and an
/// "always" is stored for everybody: storing it under the claimed name would have no effect, and
/// the prompt says whom it is for (security-cases, rows A55 and H16).
pub struct OwnersPolicy(pub Arc<ApprovalsDocument>);

impl PolicySource for OwnersPolicy {
    fn effective(&self, agent: Option<&str>) -> EffectivePolicy {
        self.0.effective(agent, false)
    }

    fn add_allow_always(
        &self,
        _agent: Option<&str>,
        entry: &AllowEntry,
        _command_text: &str,
        _path: &str,
    ) -> Result<(), String> {
        let stored = self.0.add_allow_always(None, &entry.pattern, entry.arg_pattern.as_deref());
        stored.map_err(|error| error.to_string())
    }

    fn record_use(&self, _agent: Option<&str>, entry: &AllowEntry, command_text: &str, path: &str) {
        if let Err(error) = self.0.record_use(entry, command_text, Path::new(path)) {
            crate::log!("app", "the use of an allowlist entry could not be noted: {error}");
        }
    }
}
