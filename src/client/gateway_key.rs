//! Our gateway proves its key in the upgrade answer, before we send any secret (H26). An official
//! gateway shows none and is used unpinned, unless a key was pinned at that place before.

use crate::identity::device;
use std::fmt;

/// What stands in front of the WebSocket key in the signed text.
const SIGNED_PREFIX: &str = "openclaw-gateway-v1|";
/// First field of the header.
const VERSION: &str = "v1";

/// Why a gateway is not the one we know. No credential was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The header is not `v1.<key>.<signature>`, or the signature is wrong.
    Invalid,
    /// It proved another key than the pinned one.
    Changed,
    /// It proved none, but one is pinned.
    Missing,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "it showed a gateway key but could not prove it",
            Self::Changed => "it proved another key than the gateway that was here before",
            Self::Missing => "the gateway that was here before had a key, and this one shows none",
        })
    }
}

/// The text that a gateway signs for one upgrade.
pub fn signed_text(websocket_key: &str) -> String {
    format!("{SIGNED_PREFIX}{websocket_key}")
}

/// The header's value.
pub fn header_value(public_key: &str, signature: &str) -> String {
    format!("{VERSION}.{public_key}.{signature}")
}

/// Judges the header of an upgrade answer; returns the proven public key (base64url), if any.
///
/// # Errors
/// See [`KeyError`].
pub fn check(header: Option<&str>, websocket_key: &str, pinned: Option<&str>) -> Result<Option<String>, KeyError> {
    let Some(header) = header else {
        return if pinned.is_some() { Err(KeyError::Missing) } else { Ok(None) };
    };
    let public_key = proven(header, websocket_key).ok_or(KeyError::Invalid)?;
    match pinned {
        Some(pinned) if pinned != public_key => Err(KeyError::Changed),
        _ => Ok(Some(public_key)),
    }
}

fn proven(header: &str, websocket_key: &str) -> Option<String> {
    let mut fields = header.split('.');
    let (version, key, signature) = (fields.next()?, fields.next()?, fields.next()?);
    if version != VERSION || fields.next().is_some() {
        return None;
    }
    device::verify(key, &signed_text(websocket_key), signature).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::device::DeviceKey;

    fn shown(key: &DeviceKey, websocket_key: &str) -> (String, String) {
        let public = key.public_key_base64url();
        (header_value(&public, &key.sign(&signed_text(websocket_key))), public)
    }

    #[test]
    fn sec_h26_only_the_pinned_key_with_a_fresh_proof_passes() {
        let (header, public) = shown(&DeviceKey::generate(), "k1");
        let (other, _) = shown(&DeviceKey::generate(), "k1");
        assert_eq!(check(Some(&header), "k1", None), Ok(Some(public.clone())));
        assert_eq!(check(Some(&header), "k1", Some(&public)), Ok(Some(public.clone())));
        assert_eq!(check(None, "k1", None), Ok(None));
        assert_eq!(check(None, "k1", Some(&public)), Err(KeyError::Missing));
        assert_eq!(check(Some(&other), "k1", Some(&public)), Err(KeyError::Changed));
        // A proof for another connection, cut, longer, or of another version is none.
        for bad in
            [header.replace("v1.", "v2."), format!("{header}.x"), header[..header.len() - 1].to_owned(), String::new()]
        {
            assert_eq!(check(Some(&bad), "k1", Some(&public)), Err(KeyError::Invalid), "{bad}");
            assert_eq!(check(Some(&bad), "k1", None), Err(KeyError::Invalid), "{bad}");
        }
        assert_eq!(check(Some(&header), "k2", None), Err(KeyError::Invalid));
    }
}
