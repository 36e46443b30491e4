//! Nobody to ask.

use super::{Desktop, Place};
use crate::exec::approval::{Answer, Question};
use crate::sys::wake::Wake;

/// Answers every question at once with the reason why there is nobody.
pub struct Headless {
    reason: String,
}

impl Headless {
    /// `reason` is a sentence part: "the app was started with --ask none".
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl Desktop for Headless {
    fn ask(&self, _question: &Question, _place: Place, _withdrawn: &Wake) -> Answer {
        Answer::Nobody(self.reason.clone())
    }

    fn has_person(&self) -> bool {
        false
    }
}
