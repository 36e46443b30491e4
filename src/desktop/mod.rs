//! What a desktop does for us, behind one trait, and its backends.
//!
//! | backend | who is asked |
//! | --- | --- |
//! | [`appkit`] | whoever sits at the screen: a panel ([`sheet`], [`guard`]) and a menu ([`menu`]) |
//! | [`terminal`] | whoever sits at the controlling terminal, while we are in its foreground |
//! | [`headless`] | nobody; it knows why |
//!
//! [`bundle`] tells from where this program runs, [`permissions`] what the system lets it do,
//! [`presence`] whether its screen can be seen; [`notify`] shows notifications.
//! Seeing the desktop and acting on it is a trait of its own, [`automation`].

use crate::exec::approval::{Answer, Kind, Question};
use crate::protocol::policy::Decision;
use crate::state::approvals::ApprovalsDocument;
use crate::sys::wake::Wake;
use notify::Notifications;
use permissions::Permissions;
use presence::Presence;
use std::str::FromStr;
use std::sync::Arc;

pub mod abilities;
pub mod appkit;
pub mod automation;
pub mod bundle;
pub mod canvas;
pub mod guard;
pub mod headless;
pub mod mac_abilities;
pub mod mac_automation;
pub mod mac_permissions;
pub mod menu;
pub mod notify;
pub mod permissions;
pub mod png;
pub mod presence;
pub mod sheet;
pub mod terminal;
#[cfg(target_os = "linux")]
pub mod x11;

/// Something in front of which a person may sit.
pub trait Desktop: Send + Sync {
    /// Shows one question and waits for the person's answer, the question's deadline or
    /// `withdrawn`, whatever comes first. Called for one question at a time.
    fn ask(&self, question: &Question, place: Place, withdrawn: &Wake) -> Answer;

    /// Whether somebody may sit in front of it, at this machine.
    fn has_person(&self) -> bool {
        true
    }

    /// So many questions wait now, the one before the person included. Does not wait.
    fn waiting(&self, _count: usize) {}

    /// Where there is room for a menu.
    fn menu(&self) -> Option<Arc<dyn menu::Menu>> {
        None
    }

    /// What the system lets this process do.
    fn permissions(&self) -> Arc<dyn Permissions> {
        Arc::new(permissions::Unsupported)
    }

    /// What shows notifications; where nobody sits, nothing.
    fn notifications(&self) -> Arc<Notifications> {
        Arc::default()
    }

    /// Whether the person can see it; what does not know says so always.
    fn presence(&self) -> Arc<Presence> {
        Arc::default()
    }
}

/// What a person may answer; last what leaves everything as it is. What cannot be bound is never allowed for longer than
/// once (A108).
pub fn offers(question: &Question) -> Vec<Answer> {
    let mut offers = vec![Answer::Decided(Decision::AllowOnce)];
    if question.kind == Kind::Command && question.unbound.is_none() {
        offers.extend(question.allow_always.is_ok().then_some(Answer::Decided(Decision::AllowAlways)));
        offers.extend(question.spans.iter().copied().map(Answer::Granted));
    }
    offers.push(Answer::Decided(Decision::Deny));
    offers.extend((question.kind == Kind::Pairing).then_some(Answer::Later));
    offers
}

/// Where a question stands among those that wait, shown as "1 of 3".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub number: usize,
    /// Questions waiting, this one included.
    pub of: usize,
}

/// Which backend asks: `--ask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `panel`
    Panel,
    /// `terminal`
    Terminal,
    /// `none`
    None,
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "panel" => Ok(Self::Panel),
            "terminal" => Ok(Self::Terminal),
            "none" => Ok(Self::None),
            _ => Err("say `panel`, `terminal` or `none`".to_owned()),
        }
    }
}

impl Backend {
    /// What asks when nobody says what should: a panel on a Mac that has a screen, else the terminal.
    pub fn usual() -> Self {
        if cfg!(target_os = "macos") && appkit::check().is_ok() { Self::Panel } else { Self::Terminal }
    }

    /// Opens it. A terminal that is not there leaves nobody to ask, which is logged. `document` says which input counts.
    pub fn open(self, document: &Arc<ApprovalsDocument>) -> Box<dyn Desktop> {
        match self {
            Self::Panel => Box::new(appkit::AppKitDesktop::new(Arc::clone(document))),
            Self::None => Box::new(headless::Headless::new("the app was started with --ask none")),
            Self::Terminal => match terminal::TerminalDesktop::open() {
                Ok(terminal) => Box::new(terminal),
                Err(error) => {
                    crate::log!("app", "there is no terminal to ask on ({error}); nobody will be asked");
                    Box::new(headless::Headless::new("the app has no terminal to ask on"))
                }
            },
        }
    }
}
