//! Decide what a request would really execute, match it against what its owner allowed, show
//! exactly that, and execute exactly that. No socket and no screen in here.

pub mod analysis;
pub mod approval;
pub mod display;
pub mod document;
pub mod env;
pub mod glob;
pub mod identity;
pub mod plan;
pub mod policy;
pub mod prepare;
pub mod progress;
pub mod run;
