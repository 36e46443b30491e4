//! Scopes and roles. Source: spec gateway §4.

pub use crate::protocol::connect::Role;

/// Satisfies every scope.
pub const ADMIN: &str = "operator.admin";
/// Looks.
pub const READ: &str = "operator.read";
/// Acts; satisfies read.
pub const WRITE: &str = "operator.write";
/// Approves devices and surfaces.
pub const PAIRING: &str = "operator.pairing";
/// Answers exec approvals.
pub const APPROVALS: &str = "operator.approvals";

/// Whether `granted` satisfies `needed`.
pub fn satisfies(granted: &[String], needed: &str) -> bool {
    granted
        .iter()
        .any(|scope| scope == needed || scope == ADMIN || (scope == WRITE && matches!(needed, READ | "operator.talk")))
}

/// Whether every scope of `wanted` is satisfied by `granted`.
pub fn covers(granted: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|scope| satisfies(granted, scope))
}
