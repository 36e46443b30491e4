//! What a desktop does for us, behind one trait, and its backends.
//!
//! | backend | who is asked |
//! | --- | --- |
//! | [`terminal`] | whoever sits at the controlling terminal, while we are in its foreground |
//! | [`headless`] | nobody; it knows why |
//!
//! Seeing the desktop and acting on it is a trait of its own, [`automation`].

use crate::exec::approval::{Answer, Question};
use crate::sys::wake::Wake;
use std::str::FromStr;

pub mod abilities;
pub mod automation;
pub mod canvas;
pub mod headless;
pub mod mac_abilities;
pub mod mac_automation;
pub mod png;
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
    /// `terminal`
    Terminal,
    /// `none`
    None,
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "terminal" => Ok(Self::Terminal),
            "none" => Ok(Self::None),
            _ => Err("say `terminal` or `none`".to_owned()),
        }
    }
}

impl Backend {
    /// Opens it. A terminal that is not there leaves nobody to ask, which is logged.
    pub fn open(self) -> Box<dyn Desktop> {
        match self {
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
