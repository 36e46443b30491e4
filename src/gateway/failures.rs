//! Wrong shared secrets are counted, so that nobody guesses one; a device token is another class and
//! goes on working. Source: security-cases A09, A10, A12, A18 and their row.

use crate::limits;
use crate::sys::clock::{Expiry, Now};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Whom a failure is counted against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// Socket address; none over the Unix socket.
    pub address: Option<IpAddr>,
    /// Origin header, where one was allowed.
    pub origin: Option<String>,
}

struct Record {
    /// Salted hashes of the distinct wrong secrets, with the time of each.
    wrong: VecDeque<([u8; 8], Expiry)>,
    locked: Option<Expiry>,
}

/// Failures of the shared secret.
pub struct Failures {
    salt: [u8; 16],
    suspects: HashMap<Suspect, Record>,
}

/// Suspects remembered at once; lock-outs are never evicted by a flood of new ones (A151).
const SUSPECTS: usize = 4_096;

impl Failures {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self { salt: crate::identity::random::bytes(), suspects: HashMap::new() }
    }

    /// Time left of a lock-out.
    pub fn locked_for(&mut self, suspect: &Suspect, now: Now) -> Option<std::time::Duration> {
        let record = self.suspects.get_mut(suspect)?;
        let until = record.locked?;
        if until.passed(now) {
            record.locked = None;
            record.wrong.clear();
            return None;
        }
        Some(until.instant().saturating_duration_since(now.instant))
    }

    /// Counts a wrong secret; the same one again does not count twice.
    pub fn count(&mut self, suspect: &Suspect, wrong: &[u8], now: Now) {
        if !self.suspects.contains_key(suspect) && self.suspects.len() >= SUSPECTS {
            self.suspects.retain(|_, record| {
                record.locked.is_some_and(|until| !until.passed(now))
                    || record.wrong.iter().any(|(_, until)| !until.passed(now))
            });
            if self.suspects.len() >= SUSPECTS {
                return;
            }
        }
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(wrong);
        let digest = hash.finalize();
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(digest) {
            *to = from;
        }
        let record =
            self.suspects.entry(suspect.clone()).or_insert_with(|| Record { wrong: VecDeque::new(), locked: None });
        record.wrong.retain(|(_, until)| !until.passed(now));
        if record.wrong.iter().any(|(known, _)| *known == short) {
            return;
        }
        record.wrong.push_back((short, Expiry::after(now, limits::AUTH_FAILURE_WINDOW)));
        if record.wrong.len() >= limits::AUTH_FAILURES {
            let lockout = if suspect.origin.is_some() { limits::AUTH_LOCKOUT_ORIGIN } else { limits::AUTH_LOCKOUT };
            record.locked = Some(Expiry::after(now, lockout));
        }
    }
}

impl Default for Failures {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn distinct_wrong_secrets_lock_out_and_repeats_do_not() {
        let now = Now::read();
        let suspect = Suspect { address: Some([127, 0, 0, 1].into()), origin: None };
        let mut failures = Failures::new();
        for _ in 0..100 {
            failures.count(&suspect, b"same", now);
        }
        assert_eq!(failures.locked_for(&suspect, now), None);
        for guess in 0..10_u8 {
            failures.count(&suspect, &[guess], now);
        }
        assert!(failures.locked_for(&suspect, now).is_some());
        let other = Suspect { address: None, origin: None };
        assert_eq!(failures.locked_for(&other, now), None);
        assert_eq!(failures.locked_for(&suspect, now.later(Duration::from_secs(61))), None);
    }
}
