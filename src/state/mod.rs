//! What lies on disk: paths, atomic 0600 writes, locks, config, approvals document, stores.

pub mod approvals;
