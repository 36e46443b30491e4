//! The HMAC of the exec socket's lines, both ways. Source: spec exec b.3; security-cases H02 row.

use super::secret::{Secret, equal};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn mac(token: &Secret, parts: &[&[u8]]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.expose()).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(HEXLOWER.encode(&mac.finalize().into_bytes()))
}

/// HMAC of a request: key = the token's text, message = `nonce:ts:requestJson`, lower-case hex.
pub fn request_mac(token: &Secret, nonce: &str, ts: i64, request_json: &str) -> String {
    let ts = ts.to_string();
    mac(token, &[nonce.as_bytes(), b":", ts.as_bytes(), b":", request_json.as_bytes()]).unwrap_or_default()
}

/// True if `claimed` is exactly the 64 lower-case hex digits of [`request_mac`] (A111).
pub fn request_mac_is(token: &Secret, nonce: &str, ts: i64, request_json: &str, claimed: &str) -> bool {
    let expected = request_mac(token, nonce, ts, request_json);
    equal(expected.as_bytes(), claimed.as_bytes())
}

const PROOF: &str = ",\"mac\":\"";

/// Our answer line with its proof as the last member: HMAC over `res:nonce:` and the line's bytes
/// before `,"mac":`. `answer` is a JSON object's text. No newline.
pub fn prove_answer(token: &Secret, nonce: &str, answer: &str) -> String {
    let Some(open) = answer.strip_suffix('}') else { return answer.to_owned() };
    let proof = mac(token, &[b"res:", nonce.as_bytes(), b":", open.as_bytes()]).unwrap_or_default();
    format!("{open}{PROOF}{proof}\"}}")
}

/// True if `line` (without newline) carries a valid proof for this nonce.
pub fn answer_is_proven(token: &Secret, nonce: &str, line: &str) -> bool {
    let Some((open, tail)) = line.rsplit_once(PROOF) else { return false };
    let Some(claimed) = tail.strip_suffix("\"}") else { return false };
    let Some(expected) = mac(token, &[b"res:", nonce.as_bytes(), b":", open.as_bytes()]) else { return false };
    equal(expected.as_bytes(), claimed.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_h02_answers_carry_a_proof_that_fits_one_nonce_and_one_text() {
        let token = Secret::new("dG9rZW4tMjQtYnl0ZXMtYmFzZTY0dXJs".into());
        let line = prove_answer(&token, "n1", r#"{"type":"exec-res","id":"x","ok":true}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        assert!(answer_is_proven(&token, "n1", &line));
        assert!(!answer_is_proven(&token, "n2", &line));
        assert!(!answer_is_proven(&Secret::new("other".into()), "n1", &line));
        assert!(!answer_is_proven(&token, "n1", &line.replace("true", "false")));
        assert!(!answer_is_proven(&token, "n1", r#"{"type":"exec-res","ok":true}"#));
        assert!(!answer_is_proven(&token, "n1", ""));
    }
}
