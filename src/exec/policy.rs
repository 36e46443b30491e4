//! One function from plan and policy to a verdict.

use crate::protocol::policy::Refusal;

/// What policy says of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it without a question; which entry or rule allowed it.
    Run(String),
    /// Ask a person. `Err` says why "always" cannot be offered.
    Ask {
        /// Whether "allow always" may be offered.
        allow_always: Result<(), String>,
    },
    /// Do not run it.
    Deny(Refusal),
}
