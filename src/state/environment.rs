//! Our environment variables: each read once, then removed from the process, so that a secret in
//! one reaches neither a child nor a later reader.

use super::StateError;
use crate::identity::secret::Secret;
use crate::sys;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the `OPENCLAW_*` variables say. Source: issue "Drop-in spelling".
#[derive(Default)]
pub struct Environment {
    /// The account's home directory.
    pub home: Option<PathBuf>,
    /// `OPENCLAW_STATE_DIR`; a `--state-dir` flag is put here too.
    pub state_dir: Option<PathBuf>,
    /// `OPENCLAW_CONFIG_PATH`.
    pub config_path: Option<PathBuf>,
    /// `OPENCLAW_GATEWAY_PORT`.
    pub gateway_port: Option<u16>,
    /// `OPENCLAW_GATEWAY_TOKEN`.
    pub gateway_token: Option<Secret>,
    /// `OPENCLAW_GATEWAY_PASSWORD`.
    pub gateway_password: Option<Secret>,
    /// `OPENCLAW_WIDE_AREA_DOMAIN`: where `discover` looks, too.
    pub wide_area_domain: Option<String>,
    /// `OPENCLAW_NODE_EXEC_HOST`: the node host checks the word.
    pub node_exec_host: Option<String>,
}

impl Environment {
    /// Reads our variables and removes **all** that begin with `OPENCLAW_`, also those that we do
    /// not know. The first thing `main` does.
    ///
    /// # Errors
    /// A variable that means nothing, or a second thread.
    pub fn take() -> Result<Self, StateError> {
        let home = std::env::home_dir();
        let variables =
            sys::environment::take_variables("OPENCLAW_").map_err(|what| StateError::setting("OPENCLAW_*", what))?;
        Self::from_variables(home, variables)
    }

    /// The same from given variables.
    ///
    /// # Errors
    /// A variable that means nothing.
    pub fn from_variables(
        home: Option<PathBuf>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, StateError> {
        let mut environment = Self { home, ..Self::default() };
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            match name {
                "OPENCLAW_STATE_DIR" => environment.state_dir = path(value),
                "OPENCLAW_CONFIG_PATH" => environment.config_path = path(value),
                "OPENCLAW_GATEWAY_PORT" => environment.gateway_port = Some(port(name, &text(name, value)?)?),
                // A blank secret stays one here: config refuses it with its name (A03).
                "OPENCLAW_GATEWAY_TOKEN" => environment.gateway_token = Some(Secret::new(text(name, value)?)),
                "OPENCLAW_GATEWAY_PASSWORD" => environment.gateway_password = Some(Secret::new(text(name, value)?)),
                "OPENCLAW_WIDE_AREA_DOMAIN" => environment.wide_area_domain = Some(text(name, value)?),
                "OPENCLAW_NODE_EXEC_HOST" => environment.node_exec_host = Some(text(name, value)?),
                _ => {}
            }
        }
        Ok(environment)
    }
}

/// An empty path variable counts as unset.
fn path(value: OsString) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

fn text(name: &str, value: OsString) -> Result<String, StateError> {
    value.into_string().map_err(|_| StateError::setting(name, "is not UTF-8 text"))
}

fn port(name: &str, value: &str) -> Result<u16, StateError> {
    value.trim().parse().map_err(|_| StateError::setting(name, "is not a port number (0–65535)"))
}
