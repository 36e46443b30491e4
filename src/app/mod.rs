//! The one instance that asks the person and runs commands: the exec socket's server, the approval
//! queue, and the supervisor of local mode.

pub mod connections;
pub mod exec_host;
pub mod queue;
pub mod runner;
pub mod supervisor;
