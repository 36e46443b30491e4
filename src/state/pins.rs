//! Which gateway key answered at which place: pinned at the first successful login (H26).

use super::store::Store;
use super::{StateDir, StateError};
use crate::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    version: u32,
    /// Place to public key, base64url without padding.
    #[serde(default)]
    gateways: BTreeMap<String, String>,
}

/// The pinned keys.
pub struct GatewayPins(Store<Document>);

impl GatewayPins {
    /// The pins of this state directory. Opens nothing yet.
    pub fn new(state: &StateDir) -> Self {
        Self(Store::new(state.gateway_pins()))
    }

    /// The public key that was pinned at `place`.
    ///
    /// # Errors
    /// The document is unsafe or broken: nothing may be sent then.
    pub fn pinned(&self, place: &str) -> Result<Option<String>, StateError> {
        Ok(self.0.load()?.gateways.remove(place))
    }

    /// Pins `public_key` at `place`, unless another one is pinned there already. False when there
    /// is no room for another place.
    ///
    /// # Errors
    /// The document cannot be read or written.
    pub fn pin(&self, place: &str, public_key: &str) -> Result<bool, StateError> {
        self.0.update(|document| {
            document.version = 1;
            if document.gateways.len() >= limits::GATEWAY_PINS && !document.gateways.contains_key(place) {
                return false;
            }
            document.gateways.entry(place.to_owned()).or_insert_with(|| public_key.to_owned());
            true
        })
    }
}
