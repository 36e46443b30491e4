//! Setup links: a single-use token that admits one new node. Kept in memory only, hashed; a restart ends them.
//! The surface of that node is still approved by an owner. Source: spec exec g.7; cases A19, A160.

use super::methods::{Call, Reply};
use crate::identity::random;
use crate::identity::secret::{self, Secret};
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::schema::{Kind, Member, may};
use crate::protocol::setup::setup_code;
use crate::state::config::SharedSecret;
use crate::sys::clock::{Expiry, Now};
use serde_json::json;
use sha2::{Digest, Sha256};

/// `approvedVia` of a device that came by a link.
pub const VIA: &str = "setup-link";

/// Tokens that were handed out and not used.
#[derive(Default)]
pub struct Setups(Vec<([u8; 32], Expiry)>);

impl Setups {
    /// A new token and its end; none when too many wait.
    fn issue(&mut self, now: Now) -> Option<(Secret, Expiry)> {
        self.0.retain(|(_, end)| !end.passed(now));
        if self.0.len() >= limits::SETUP_LINKS {
            return None;
        }
        let token = random::token::<{ random::TOKEN_BYTES }>();
        let end = Expiry::after(now, limits::SETUP_LINK_TTL);
        self.0.push((Sha256::digest(token.expose()).into(), end));
        Some((token, end))
    }

    /// Uses a token up; false when it is not one, or is not one any more.
    pub fn redeem(&mut self, token: &[u8], now: Now) -> bool {
        self.0.retain(|(_, end)| !end.passed(now));
        let given = Sha256::digest(token);
        let found = self.0.iter().position(|(known, _)| secret::equal(known, &given));
        found.map(|index| self.0.swap_remove(index)).is_some()
    }
}

/// Members of the official method; what chooses between addresses and pictures has no meaning here.
const SETUP_CODE: &[Member] = &[
    may("bootstrapProfile", Kind::OneOf(&["node"])),
    may("publicUrl", Kind::Text(1)),
    may("preferRemoteUrl", Kind::Bool),
    may("includeQr", Kind::Bool),
];

/// `device.pair.setupCode {}`: for nodes only.
pub fn setup_code_of(call: &Call<'_>) -> Result<Reply, WireError> {
    call.params(SETUP_CODE)?;
    let core = call.core;
    let Some(port) = core.settings.port else {
        return Err(WireError::invalid(
            "a setup link names a TCP port and this gateway has none; start it without --no-tcp",
        ));
    };
    let issued = core.setups().issue(Now::read());
    let (token, end) = issued.ok_or_else(|| {
        WireError::unavailable(format!("{} setup links wait already; use them or wait", limits::SETUP_LINKS))
            .retryable()
    })?;
    let url = format!("ws://127.0.0.1:{port}");
    let code = setup_code(&url, token.expose_text(), end.wall_ms(), &core.key.public_key_base64url());
    let auth = match &*core.shared().0 {
        SharedSecret::Token(_) => "token",
        SharedSecret::Password(_) => "password",
    };
    crate::log!("gateway", "{} made a setup link for a node", call.session.label());
    Ok(Reply::Now(json!({
        "setupCode": code, "gatewayUrl": url, "auth": auth, "urlSource": "gateway.bind=loopback",
        "access": "node", "expiresAtMs": end.wall_ms(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sec_a19_a_setup_token_is_good_once_and_not_for_long() {
        let (mut setups, now) = (Setups::default(), Now::read());
        let (token, _) = setups.issue(now).unwrap();
        let (late, end) = setups.issue(now).unwrap();
        assert!(!setups.redeem(b"", now) && !setups.redeem(b"guessed", now));
        assert!(setups.redeem(token.expose(), now) && !setups.redeem(token.expose(), now));
        assert_eq!(end.remaining(now), limits::SETUP_LINK_TTL);
        assert!(!setups.redeem(late.expose(), now.later(limits::SETUP_LINK_TTL)));
        // Set back afterwards, the clock revives nothing.
        assert!(!setups.redeem(late.expose(), now));
        let made = (0..limits::SETUP_LINKS + 5).filter(|_| setups.issue(now).is_some()).count();
        assert_eq!(made, limits::SETUP_LINKS);
        assert!(setups.issue(now.later(limits::SETUP_LINK_TTL + Duration::from_secs(1))).is_some());
    }
}
