//! How a connection that is kept up stands, for whoever looks: `status`, the menu.

use serde::Serialize;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Written by who keeps the connection, read by everybody.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Look>);

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Logged in now.
    pub connected: bool,
    /// What the gateway called its version, the last time.
    pub gateway_version: Option<String>,
    /// Why there is no connection; none when nothing was tried yet.
    pub why: Option<String>,
}

impl Standing {
    /// A login succeeded.
    pub fn connected(&self, gateway_version: &str) {
        *self.look_mut() = Look { connected: true, gateway_version: Some(gateway_version.to_owned()), why: None };
    }

    /// The connection has ended, or none could be made.
    pub fn lost(&self, why: impl Display) {
        let mut look = self.look_mut();
        look.connected = false;
        look.why = Some(why.to_string());
    }

    /// How it stands.
    pub fn look(&self) -> Look {
        self.look_mut().clone()
    }

    /// No code that may panic runs under this lock.
    fn look_mut(&self) -> MutexGuard<'_, Look> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
