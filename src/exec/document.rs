//! The approvals document as the policy of one way in.

use super::approval::PolicySource;
use super::matching::SkillBin;
use super::policy::Rules;
use super::safe_bins::{Profile, SafeBins};
use crate::log;
use crate::protocol::policy::{Ask, Security};
use crate::state::approvals::{AllowEntry, ApprovalsDocument};
use crate::state::config::ExecConfig;
use crate::state::pause;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What the owner has set elsewhere: `tools.exec` of `openclaw.json`, and the gateway's skills.
#[derive(Clone, Default)]
pub struct Settings {
    /// Filters that need no entry.
    pub safe_bins: Arc<SafeBins>,
    /// Code in arguments always needs a person.
    pub strict_inline_eval: bool,
    /// At most this may run, whatever the document says.
    pub security: Option<Security>,
    /// At least this often a person is asked.
    pub ask: Option<Ask>,
    /// Programs of the gateway's skills; they count where the policy says `autoAllowSkills`.
    pub skills: Arc<Mutex<Vec<SkillBin>>>,
}

impl Settings {
    /// As the file says; there are no skills yet.
    pub fn of(config: &ExecConfig) -> Self {
        let mut safe_bins = SafeBins::default();
        if let Some(names) = &config.safe_bins {
            safe_bins.names.clone_from(names);
        }
        safe_bins.directories.extend(config.safe_bin_trusted_dirs.iter().cloned());
        let profiles = config.safe_bin_profiles.iter().map(|(name, profile)| (name.clone(), Profile::from(profile)));
        safe_bins.profiles.extend(profiles);
        Self {
            safe_bins: Arc::new(safe_bins),
            strict_inline_eval: config.strict_inline_eval,
            security: config.security,
            ask: config.ask,
            skills: Arc::default(),
        }
    }
}

/// What the document says to requests that come in one way.
pub struct DocumentPolicy {
    /// The document, read again at each look.
    pub document: Arc<ApprovalsDocument>,
    /// Whether the caller's word for the agent may loosen anything (security-cases, row A55).
    pub trusts_agent: bool,
    /// The rest of what the owner has said.
    pub settings: Settings,
}

impl PolicySource for DocumentPolicy {
    fn rules(&self, agent: Option<&str>) -> Rules {
        let Settings { safe_bins, strict_inline_eval, security, ask, skills } = &self.settings;
        let policy = self.document.effective(agent, self.trusts_agent).tightened_by(*security, *ask);
        let skills = if policy.auto_allow_skills {
            skills.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            Vec::new()
        };
        Rules { policy, safe_bins: Arc::clone(safe_bins), skills, strict_inline_eval: *strict_inline_eval }
    }

    fn paused(&self) -> Option<&'static str> {
        self.document.is_paused().then_some(pause::SENTENCE)
    }

    fn skills(&self) -> Option<&Mutex<Vec<SkillBin>>> {
        self.document.wants_skills().then_some(&self.settings.skills)
    }

    fn add_allow_always(&self, agent: Option<&str>, entry: &AllowEntry) -> Result<(), String> {
        // Under a name that nobody vouches for it would have no effect later, so it is stored for
        // everybody, which is what an unproven name amounts to.
        self.document
            .add_allow_always(agent.filter(|_| self.trusts_agent), &entry.pattern, entry.arg_pattern.as_deref())
            .map_err(|error| error.to_string())
    }

    fn record_use(&self, entry: &AllowEntry, command_text: &str, path: &str) {
        // When the use cannot be written down the owner's word still stands.
        if let Err(error) = self.document.record_use(entry, command_text, Path::new(path)) {
            log!("exec", "the use of an allowlist entry could not be noted: {error}");
        }
    }
}
