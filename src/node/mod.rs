//! (stub)

pub mod exec_host_client;
