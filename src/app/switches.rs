//! The switches of the menu: how strict this machine is, and whether anything runs at all. Each is a change of the
//! owner's own documents, noted in the audit log like any other. Source: spec mac-app (3.5), (3.7).

use crate::desktop::menu::ExecMode;
use crate::protocol::policy::{Ask, Security};
use crate::state::approvals::change::Change;
use crate::state::approvals::{ApprovalsDocument, EVERY_AGENT};
use crate::state::{StateDir, StateError, pause};

impl ExecMode {
    /// What has to be confirmed before this is switched on; none where nothing is loosened unseen.
    pub fn confirmation(self) -> Option<&'static str> {
        matches!(self, Self::Allow).then_some(
            "from now on every command that an agent sends to this machine runs without a question, until you switch \
             this back",
        )
    }

    /// What stands for it in the document.
    const fn words(self) -> (Security, Ask) {
        match self {
            Self::Deny => (Security::Deny, Ask::Off),
            Self::Ask => (Security::Allowlist, Ask::OnMiss),
            Self::Allow => (Security::Full, Ask::Off),
        }
    }

    fn of(security: Security, ask: Ask) -> Self {
        match (security, ask) {
            (Security::Deny, _) => Self::Deny,
            (Security::Full, Ask::Off | Ask::OnMiss) => Self::Allow,
            _ => Self::Ask,
        }
    }
}

/// See the module.
pub struct Switches {
    document: ApprovalsDocument,
    state: StateDir,
}

impl Switches {
    /// Those of the documents in `state`.
    pub fn new(state: &StateDir) -> Self {
        Self { document: ApprovalsDocument::new(state), state: state.clone() }
    }

    /// What holds for all agents that have no rule of their own.
    ///
    /// # Errors
    /// A sentence: the document is broken, so everything is denied.
    pub fn mode(&self) -> Result<ExecMode, String> {
        let policy = self.document.effective(None, false);
        policy.broken.map_or(Ok(ExecMode::of(policy.security, policy.ask)), Err)
    }

    /// Switches; says what that means, a sentence each. `confirmed`: the person has said yes to
    /// [`ExecMode::confirmation`].
    ///
    /// # Errors
    /// A sentence; the document is as it was.
    pub fn set_mode(&self, mode: ExecMode, confirmed: bool) -> Result<Vec<String>, String> {
        if !confirmed && mode.confirmation().is_some() {
            return Err("this has to be confirmed first".to_owned());
        }
        let (security, ask) = mode.words();
        let made = self.document.make_change(&Change::Mode(security, ask), EVERY_AGENT, None);
        made.map(|(said, _)| said).map_err(|error| error.to_string())
    }

    /// Whether nothing runs now, whatever the mode.
    pub fn is_paused(&self) -> bool {
        self.document.is_paused()
    }

    /// Stops everything that has not started, or lets it start again.
    ///
    /// # Errors
    /// The switch's file cannot be written or removed; it stands as before.
    pub fn set_paused(&self, paused: bool) -> Result<(), StateError> {
        if paused { pause::pause(&self.state) } else { pause::resume(&self.state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Environment;
    use std::os::unix::fs::DirBuilderExt;

    #[test]
    fn the_switch_says_and_does_what_the_document_says_and_asks_before_it_allows_all() {
        let directory = std::env::temp_dir().join(format!("oc-w-{}", crate::identity::random::uuid()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        let switches = Switches::new(&state);
        ApprovalsDocument::new(&state).ensure().unwrap();
        for mode in ExecMode::ALL {
            let before = switches.mode().unwrap();
            let unconfirmed = switches.set_mode(mode, false);
            assert_eq!(unconfirmed.is_err(), mode == ExecMode::Allow, "{mode:?}");
            assert_eq!(switches.mode().unwrap(), if unconfirmed.is_ok() { mode } else { before });
            switches.set_mode(mode, true).unwrap();
            assert_eq!(switches.mode(), Ok(mode));
        }
        let audit = std::fs::read_to_string(&state.audit()[0]).unwrap();
        assert!(audit.contains("the owner, at this machine"), "{audit}");
        assert_eq!(ExecMode::of(Security::Full, Ask::Always), ExecMode::Ask);
        for paused in [true, true, false, false] {
            switches.set_paused(paused).unwrap();
            assert_eq!(switches.is_paused(), paused);
        }
        std::fs::write(state.approvals(), "{").unwrap();
        assert!(switches.mode().is_err() && switches.set_mode(ExecMode::Deny, false).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
