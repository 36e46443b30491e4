//! `device-auth.json`: the tokens that gateways gave to a device of ours, one a role.
//! Source: spec exec (f.1).

use super::StateError;
use super::store::Store;
use crate::identity::secret::Secret;
use crate::sys::clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    device_id: String,
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
}

impl Default for Document {
    fn default() -> Self {
        Self { version: 1, device_id: String::new(), tokens: BTreeMap::new() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    token: String,
    role: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    updated_at_ms: i64,
}

/// The tokens of one device of ours.
pub struct DeviceTokens {
    store: Store<Document>,
    device_id: String,
    /// What stands behind a role.
    suffix: String,
}

impl DeviceTokens {
    /// The store at `path` for the device `device_id`; another device's tokens are never used.
    pub fn new(path: PathBuf, device_id: String) -> Self {
        Self { store: Store::new(path), device_id, suffix: String::new() }
    }

    /// Those of the gateway at `place` only: another gateway must not be shown them (A30).
    #[must_use]
    pub fn of(self, place: &str) -> Self {
        Self { suffix: format!("@{place}"), ..self }
    }

    fn name(&self, role: &str) -> String {
        format!("{role}{}", self.suffix)
    }

    /// The token for `role`, if there is one.
    ///
    /// # Errors
    /// The file is unsafe or broken.
    pub fn token(&self, role: &str) -> Result<Option<Secret>, StateError> {
        let mut document = self.store.load()?;
        if document.device_id != self.device_id {
            return Ok(None);
        }
        Ok(document.tokens.remove(&self.name(role)).map(|token| Secret::new(token.token)))
    }

    /// Keeps a token that a gateway minted.
    ///
    /// # Errors
    /// The file is unsafe or broken, or the write failed.
    pub fn keep(&self, role: &str, token: &Secret, scopes: &[String]) -> Result<(), StateError> {
        let mut scopes = scopes.to_vec();
        scopes.sort();
        scopes.dedup();
        let token = Token {
            token: token.expose_text().to_owned(),
            role: role.to_owned(),
            scopes,
            updated_at_ms: clock::wall_ms(),
        };
        self.store.update(|document| {
            if document.device_id != self.device_id {
                *document = Document { device_id: self.device_id.clone(), ..Document::default() };
            }
            document.tokens.insert(self.name(role), token);
        })
    }

    /// Forgets the token for `role`: a gateway refused it.
    ///
    /// # Errors
    /// The file is unsafe or broken, or the write failed.
    pub fn forget(&self, role: &str) -> Result<(), StateError> {
        self.store.update(|document| {
            if document.device_id == self.device_id {
                document.tokens.remove(&self.name(role));
            }
        })
    }
}
