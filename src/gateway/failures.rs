//! Wrong shared secrets are counted, so that nobody guesses one; a device token is another class and
//! goes on working. Source: security-cases A09, A10, A12, A18 and their row.

use crate::limits;
use crate::sys::clock::{Expiry, Now};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Whom a failure is counted against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// Socket address; none over the Unix socket.
    pub address: Option<IpAddr>,
    /// Origin header, where one was allowed.
    pub origin: Option<String>,
}

#[derive(Default)]
struct Record {
    wrong: Guesses,
    locked: Option<Expiry>,
}

/// Failures of the shared secret.
pub struct Failures {
    salt: [u8; 16],
    suspects: HashMap<Suspect, Record>,
    /// No look for suspects to forget before this; a full map would be searched at each failure.
    full_until: Option<Expiry>,
    /// Distinct wrong secrets of all addresses together (H19).
    together: Guesses,
}

/// Salted hashes of distinct wrong secrets, each with the time at which it no longer counts.
#[derive(Default)]
struct Guesses(VecDeque<([u8; 8], Expiry)>);

impl Guesses {
    /// Adds one; the same one again does not count twice, and no more than `most` are kept.
    fn add(&mut self, hash: [u8; 8], most: usize, now: Now) {
        self.0.retain(|(_, until)| !until.passed(now));
        if self.0.len() < most && !self.0.iter().any(|(known, _)| *known == hash) {
            self.0.push_back((hash, Expiry::after(now, limits::AUTH_FAILURE_WINDOW)));
        }
    }

    fn any(&self, now: Now) -> bool {
        self.0.iter().any(|(_, until)| !until.passed(now))
    }

    /// When the oldest of `most` no longer counts; none while there are fewer.
    fn full_until(&self, most: usize, now: Now) -> Option<Expiry> {
        let oldest = self.0.iter().rev().nth(most.checked_sub(1)?)?.1;
        (!oldest.passed(now)).then_some(oldest)
    }
}

/// Suspects remembered at once; lock-outs are never evicted by a flood of new ones (A151).
const SUSPECTS: usize = 4_096;
/// Pause between two searches of a full map.
const PRUNE_PAUSE: Duration = Duration::from_secs(1);

impl Failures {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            salt: crate::identity::random::bytes(),
            suspects: HashMap::new(),
            full_until: None,
            together: Guesses::default(),
        }
    }

    /// Time left of a lock-out, of this suspect or of everybody. The Unix socket, which only our own
    /// user reaches, has no part in the latter.
    pub fn locked_for(&mut self, suspect: &Suspect, now: Now) -> Option<Duration> {
        let own = self.own_lockout(suspect, now);
        let everybody = suspect.address.and_then(|_| self.together.full_until(limits::AUTH_FAILURES_TOGETHER, now));
        let until = own.into_iter().chain(everybody).map(Expiry::instant).max()?;
        Some(until.saturating_duration_since(now.instant))
    }

    fn own_lockout(&mut self, suspect: &Suspect, now: Now) -> Option<Expiry> {
        let record = self.suspects.get_mut(suspect)?;
        let until = record.locked?;
        if until.passed(now) {
            *record = Record::default();
            return None;
        }
        Some(until)
    }

    /// Counts a wrong secret; the same one again does not count twice.
    pub fn count(&mut self, suspect: &Suspect, wrong: &[u8], now: Now) {
        let hash = self.hash(wrong);
        if suspect.address.is_some() {
            self.together.add(hash, limits::AUTH_FAILURES_TOGETHER, now);
        }
        if !self.suspects.contains_key(suspect) && !self.room(now) {
            return;
        }
        let record = self.suspects.entry(suspect.clone()).or_default();
        record.wrong.add(hash, limits::AUTH_FAILURES, now);
        if record.locked.is_none() && record.wrong.full_until(limits::AUTH_FAILURES, now).is_some() {
            let lockout = if suspect.origin.is_some() { limits::AUTH_LOCKOUT_ORIGIN } else { limits::AUTH_LOCKOUT };
            record.locked = Some(Expiry::after(now, lockout));
        }
    }

    fn hash(&self, secret: &[u8]) -> [u8; 8] {
        let digest = Sha256::new().chain_update(self.salt).chain_update(secret).finalize();
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(digest) {
            *to = from;
        }
        short
    }

    /// Whether one more suspect can be remembered; forgets those of whom nothing counts any more.
    fn room(&mut self, now: Now) -> bool {
        if self.suspects.len() < SUSPECTS {
            return true;
        }
        if self.full_until.is_some_and(|until| !until.passed(now)) {
            return false;
        }
        self.full_until = Some(Expiry::after(now, PRUNE_PAUSE));
        self.suspects
            .retain(|_, record| record.locked.is_some_and(|until| !until.passed(now)) || record.wrong.any(now));
        self.suspects.len() < SUSPECTS
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
    use std::net::Ipv4Addr;

    /// A151: a million addresses, one failure each.
    #[test]
    fn sec_a151_a_flood_of_suspects_is_bounded_and_evicts_no_lockout() {
        let now = Now::read();
        let locked = Suspect { address: Some(Ipv4Addr::LOCALHOST.into()), origin: Some("https://page.example".into()) };
        let mut failures = Failures::new();
        for guess in 0..10_u8 {
            failures.count(&locked, &[guess], now);
        }
        for at in 0..1_000_000_u32 {
            failures.count(&Suspect { address: Some(Ipv4Addr::from(at).into()), origin: None }, b"one", now);
        }
        assert!(failures.suspects.len() <= SUSPECTS);
        assert!(failures.locked_for(&locked, now).is_some());
        // Later the flood is forgotten, the lock-out is not, and a new one is remembered.
        let later = now.later(Duration::from_secs(100));
        failures.count(&Suspect { address: Some(Ipv4Addr::BROADCAST.into()), origin: None }, b"one", later);
        assert_eq!(failures.suspects.len(), 2);
        assert!(failures.locked_for(&locked, later).is_some());
    }

    /// H19: nine guesses an address lock nobody out alone, but a hundred of all do.
    #[test]
    fn sec_h19_guesses_of_all_addresses_are_bounded() {
        let now = Now::read();
        let mut failures = Failures::new();
        let address = |at: u32| Suspect { address: Some(Ipv4Addr::from(at).into()), origin: None };
        for guess in 0..u32::try_from(limits::AUTH_FAILURES_TOGETHER).unwrap() {
            assert_eq!(failures.locked_for(&address(guess), now), None, "{guess}");
            failures.count(&address(guess), &guess.to_be_bytes(), now);
        }
        assert!(failures.locked_for(&address(7_000), now).is_some_and(|left| left <= limits::AUTH_FAILURE_WINDOW));
        assert_eq!(failures.locked_for(&Suspect { address: None, origin: None }, now), None);
        assert_eq!(failures.locked_for(&address(7_000), now.later(Duration::from_secs(61))), None);
    }

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
