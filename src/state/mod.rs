//! What lies on disk: paths, atomic 0600 writes, locks, config, approvals document, stores.

pub mod approvals;
pub mod audit;
pub mod config;
pub mod device_key;
pub mod device_tokens;
pub mod environment;
pub mod error;
pub mod files;
pub mod json5;
pub mod locks;
pub mod node_config;
pub mod paths;
pub mod pause;
pub mod pins;
pub mod store;
pub mod switches;

pub use environment::Environment;
pub use error::StateError;
pub use files::Care;
pub use locks::{DocumentLock, InstanceLock};
pub use paths::StateDir;
