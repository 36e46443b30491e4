//! Decide what a request would really execute, match it against what its owner allowed, show
//! exactly that, and execute exactly that. No socket and no screen in here.

pub mod approval;
pub mod plan;
pub mod policy;
