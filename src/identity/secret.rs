//! The one secret type and the one comparison. A secret has neither `Debug`, `Display`,
//! `PartialEq` nor `Serialize`, and is wiped when dropped (H03, H27, A17).

use std::hint::black_box;

/// A token, password or key in memory.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        Self(text.into_bytes())
    }

    /// Another copy, for another owner.
    pub fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// The bytes, for MACs, signatures and the wire.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text. Secrets are made from text, so nothing is ever replaced.
    pub fn expose_text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// True if `candidate` is this secret; see [`equal`].
    pub fn matches(&self, candidate: &[u8]) -> bool {
        equal(&self.0, candidate)
    }
}

/// Reads a secret anew for each use, so that a changed file counts at once; the error says what is
/// wrong with where it is kept.
pub type SecretSource = Box<dyn Fn() -> Result<Secret, String> + Send + Sync>;

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        black_box(&self.0);
    }
}

/// The one comparison of credentials: its time depends on the lengths only, and an empty side
/// equals nothing.
pub fn equal(known: &[u8], candidate: &[u8]) -> bool {
    if known.is_empty() || known.len() != candidate.len() {
        return false;
    }
    let mut different = 0_u8;
    for (a, b) in known.iter().zip(candidate) {
        different |= black_box(a ^ b);
    }
    black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A17, H03: lengths, equal prefixes, non-ASCII, empty.
    #[test]
    fn sec_h03_one_comparison() {
        assert!(equal(b"abc", b"abc"));
        for (known, candidate) in [("abc", "abd"), ("abc", "ab"), ("abc", "abcd"), ("", ""), ("é", "e"), ("abc", "")] {
            assert!(!equal(known.as_bytes(), candidate.as_bytes()), "{known} {candidate}");
        }
        assert!(Secret::new("tökén".into()).matches("tökén".as_bytes()));
    }
}
