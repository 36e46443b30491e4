//! From a request to a plan that may run: analysis, policy, the person's answer, the check again.

use crate::protocol::policy::Decision;
use crate::sys::clock::Expiry;
use crate::sys::wake::Wake;

/// What a person is shown. Every text is raw: whoever shows it escapes it (`exec::display`).
#[derive(Clone, Debug)]
pub struct Question {
    /// Names this question in logs.
    pub id: String,
    /// The whole command, quoted so that arguments can be told apart.
    pub command: String,
    /// The resolved program file.
    pub executable: String,
    /// Working directory.
    pub cwd: String,
    /// Environment overrides, `NAME=value`.
    pub env: Vec<String>,
    /// Who asks, as the caller says ("says it is …").
    pub agent: Option<String>,
    /// In which session, as the caller says.
    pub session: Option<String>,
    /// Through which way it came: our own node, another program's socket request …
    pub requester: String,
    /// What else the person should know, for example that the gateway's approver said yes.
    pub notes: Vec<String>,
    /// Whether "always" is offered; `Err` says why not.
    pub allow_always: Result<(), String>,
    /// When the question ends.
    pub deadline: Expiry,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A person answered.
    Decided(Decision),
    /// There is nobody to ask, and why.
    Nobody(String),
    /// Nobody answered in time.
    TimedOut,
    /// The requester went away.
    Withdrawn,
}

/// Somebody who can be asked.
pub trait Person: Send + Sync {
    /// Blocks until there is an answer, the question's deadline has passed, or `withdrawn` fires.
    fn ask(&self, question: &Question, withdrawn: &Wake) -> Answer;
}
