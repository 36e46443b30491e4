//! Remembers nonces so that no signed line works twice (H01).

use crate::limits;
use crate::sys::clock::{Expiry, Now};
use std::collections::HashMap;
use std::time::Duration;

/// Nonces of accepted lines, each until its `ts` can no longer be fresh.
pub struct ReplayGuard {
    seen: HashMap<String, Expiry>,
    capacity: usize,
    keep: Duration,
}

/// What the guard says of a nonce.
#[derive(Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never seen; now remembered.
    Fresh,
    /// Seen before.
    Replayed,
    /// No room to remember it: refuse, never forget an older one.
    Full,
}

impl Default for ReplayGuard {
    fn default() -> Self {
        Self::new(limits::NONCES, limits::EXEC_TTL)
    }
}

impl ReplayGuard {
    /// A guard for `capacity` nonces of lines whose `ts` may be off by `skew` either way: each is kept for twice that,
    /// after which its `ts` is too old.
    pub fn new(capacity: usize, skew: Duration) -> Self {
        Self { seen: HashMap::new(), capacity, keep: skew * 2 + Duration::from_secs(1) }
    }

    /// Notes `nonce`.
    pub fn note(&mut self, nonce: &str, now: Now) -> Freshness {
        if self.seen.contains_key(nonce) {
            return Freshness::Replayed;
        }
        if self.seen.len() >= self.capacity {
            self.seen.retain(|_, expiry| !expiry.passed_on_both(now));
        }
        if self.seen.len() >= self.capacity {
            return Freshness::Full;
        }
        self.seen.insert(nonce.to_owned(), Expiry::after(now, self.keep));
        Freshness::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_h01_a_nonce_works_once_and_a_full_guard_refuses_instead_of_forgetting() {
        let now = Now::read();
        let mut guard = ReplayGuard::new(2, limits::EXEC_TTL);
        assert_eq!(guard.note("a", now), Freshness::Fresh);
        assert_eq!(guard.note("a", now), Freshness::Replayed);
        assert_eq!(guard.note("b", now), Freshness::Fresh);
        assert_eq!(guard.note("c", now), Freshness::Full);
        assert_eq!(guard.note("a", now), Freshness::Replayed);
        let later = now.later(std::time::Duration::from_secs(60));
        assert_eq!(guard.note("c", later), Freshness::Fresh);
    }
}
