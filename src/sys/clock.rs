//! Both clocks. `Instant` stops while the machine sleeps and the wall clock can be set, so what
//! must end, ends when either has passed, and what must be remembered is kept until both have
//! (NOTES "Clocks", H28).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall_ms: wall_ms() }
    }

    /// The same moment, shifted; for tests and deadlines.
    pub fn later(self, by: Duration) -> Self {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self { instant: self.instant + by, wall_ms: self.wall_ms.saturating_add(millis) }
    }
}

/// Milliseconds since 1970.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An end on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Expiry(Now);

impl Expiry {
    /// `after` from now.
    pub fn after(now: Now, after: Duration) -> Self {
        Self(now.later(after))
    }

    /// Either clock has passed the end: a permission is over.
    pub fn passed(self, now: Now) -> bool {
        now.instant >= self.0.instant || now.wall_ms >= self.0.wall_ms
    }

    /// Both clocks have passed the end: a thing to remember may be forgotten.
    pub fn passed_on_both(self, now: Now) -> bool {
        now.instant >= self.0.instant && now.wall_ms >= self.0.wall_ms
    }

    /// What is left of it, by the clock that reaches it first.
    pub fn remaining(self, now: Now) -> Duration {
        let wall_ms = u64::try_from(self.0.wall_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
        self.0.instant.saturating_duration_since(now.instant).min(Duration::from_millis(wall_ms))
    }

    /// Until when to wait before looking at both clocks again: a wait runs on the monotonic clock
    /// only and would sleep through an end that the wall clock has reached.
    pub fn next_look(self) -> Instant {
        self.0.instant.min(Instant::now() + Duration::from_secs(1))
    }

    /// The monotonic end, for waits.
    pub fn instant(self) -> Instant {
        self.0.instant
    }

    /// The wall-clock end, milliseconds since 1970.
    pub fn wall_ms(self) -> i64 {
        self.0.wall_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_h28_either_clock_ends_a_permission_and_only_both_forget() {
        let now = Now::read();
        let end = Expiry::after(now, Duration::from_secs(10));
        let slept = Now { wall_ms: now.wall_ms + 11_000, ..now };
        let set_back = Now { instant: now.instant + Duration::from_secs(11), wall_ms: now.wall_ms - 86_400_000 };
        assert!(!end.passed(now));
        assert!(end.passed(slept) && end.passed(set_back));
        assert!(!end.passed_on_both(slept) && !end.passed_on_both(set_back));
        assert!(end.passed_on_both(now.later(Duration::from_secs(10))));
    }
}
