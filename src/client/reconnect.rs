//! When a node tries again, and when it does not. Source: spec gateway §2, §3 "Refusals".

use super::connection::Ended;
use super::error::ConnectError;
use crate::identity::random;
use crate::limits;
use crate::sys::clock::Now;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use std::io;
use std::time::Duration;

/// How often a waiting node looks at the wall clock.
const LOOK: Duration = Duration::from_secs(1);
/// `service restart`.
const SERVICE_RESTART: u16 = 1012;

/// What to do after a failed login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after the pause; a gateway may name a longer one.
    Retry(Option<Duration>),
    /// Nothing changes without a person: stay, try nothing, until stopped.
    Idle,
    /// End, so that a supervisor or a person sees it (exit status 1).
    Stop,
}

/// Sorts a failed login.
pub fn after(error: &ConnectError) -> Next {
    match error {
        ConnectError::PairingRequired(pairing) if pairing.pause => Next::Idle,
        ConnectError::GatewayKey(..) | ConnectError::Pins(_) | ConnectError::NotOurs(..) => Next::Idle,
        ConnectError::Refused(refusal) => match refusal.detail_code() {
            "AUTH_TOKEN_MISSING"
            | "AUTH_TOKEN_MISMATCH"
            | "AUTH_PASSWORD_MISSING"
            | "AUTH_PASSWORD_MISMATCH"
            | "AUTH_BOOTSTRAP_TOKEN_INVALID"
            | "AUTH_IDENTITY_HEADER_REQUIRED"
            | "CLIENT_VERSION_MISMATCH" => Next::Stop,
            code if code.starts_with("AUTH_PASSWORD_") => Next::Stop,
            "AUTH_DEVICE_TOKEN_MISMATCH"
            | "AUTH_SCOPE_MISMATCH"
            | "AUTH_RATE_LIMITED"
            | "DEVICE_IDENTITY_REQUIRED"
            | "PROTOCOL_MISMATCH" => Next::Idle,
            _ => Next::Retry(refusal.retry_after_ms.map(Duration::from_millis)),
        },
        _ => Next::Retry(None),
    }
}

/// Pauses between attempts: doubling, with jitter, so that many nodes do not come back at once.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: limits::RECONNECT_FIRST }
    }
}

impl Backoff {
    /// The next pause: between half and all of 1, 2, 4 … 30 s.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(limits::RECONNECT_MAX);
        whole / 2 + (whole / 2).mul_f64(f64::from(u16::from_le_bytes(random::bytes())) / f64::from(u16::MAX))
    }

    /// When the machine woke up.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The pause after a connection that had been up for `lasted`. A gateway that lets us in and drops us at once
    /// is no gateway that is well.
    pub fn pause_after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        let settled = lasted >= limits::RECONNECT_MAX;
        if settled {
            self.reset();
        }
        if settled && ended.code == Some(SERVICE_RESTART) { limits::RESTART_PAUSE } else { self.pause() }
    }
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The whole pause.
    Through,
    /// The wall clock jumped: the machine slept, or somebody set it. Try at once.
    Jumped,
    /// Stop.
    Stopped,
}

/// Waits for `pause`, watching `stop` and the wall clock (NOTES "Clocks").
///
/// # Errors
/// The kernel's refusal to wait.
pub fn wait(pause: Duration, stop: &Wake) -> io::Result<Waited> {
    let start = Now::read();
    let end = start.instant + pause;
    loop {
        let now = Now::read();
        if jumped(start, now) {
            return Ok(Waited::Jumped);
        }
        if now.instant >= end {
            return Ok(Waited::Through);
        }
        if poll::wait_one(stop.fd(), Interest::Readable, Some(end.min(now.instant + LOOK)))? {
            return Ok(Waited::Stopped);
        }
    }
}

fn jumped(start: Now, now: Now) -> bool {
    let monotonic = i64::try_from(now.instant.duration_since(start.instant).as_millis()).unwrap_or(i64::MAX);
    let wall = now.wall_ms.saturating_sub(start.wall_ms);
    let most = u64::try_from(limits::TICK_INTERVAL.as_millis()).unwrap_or(u64::MAX);
    wall.abs_diff(monotonic) > most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error::WireError;
    use serde_json::json;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_again_after_a_login() {
        let mut backoff = Backoff::default();
        for whole in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let pause = backoff.pause().as_millis();
            assert!((whole / 2..=whole).contains(&pause), "{pause} of {whole}");
        }
        let restart = Ended { code: Some(1012), reason: String::new() };
        let lost = Ended { code: None, reason: String::new() };
        for ended in [&restart, &lost] {
            assert!(
                backoff.pause_after(ended, Duration::from_secs(1)) >= limits::RECONNECT_MAX / 2,
                "it keeps dropping us"
            );
        }
        assert!(backoff.pause_after(&restart, limits::RECONNECT_MAX) < Duration::from_secs(1));
        assert!(backoff.pause_after(&lost, limits::RECONNECT_MAX) <= Duration::from_secs(1));
        let pauses: Vec<_> = (0..20).map(|_| Backoff::default().pause()).collect();
        assert!(pauses.iter().any(|pause| pause != &pauses[0]), "no jitter");
    }

    #[test]
    fn refusals_stop_idle_or_go_on_as_the_original_does() {
        let refused = |code: &str| ConnectError::from_refusal(WireError::invalid("x").with(json!({"code": code})));
        assert_eq!(after(&refused("AUTH_TOKEN_MISMATCH")), Next::Stop);
        assert_eq!(after(&refused("AUTH_PASSWORD_MISMATCH")), Next::Stop);
        assert_eq!(after(&refused("AUTH_DEVICE_TOKEN_MISMATCH")), Next::Idle);
        assert_eq!(after(&refused("PAIRING_REQUIRED")), Next::Idle);
        assert_eq!(after(&refused("startup-sidecars")), Next::Retry(None));
        for goes_on in [
            json!({"code": "PAIRING_REQUIRED", "pauseReconnect": false}),
            json!({"code": "PAIRING_REQUIRED", "recommendedNextStep": "wait_then_retry"}),
        ] {
            let error = ConnectError::from_refusal(WireError::new("NOT_PAIRED", "x").with(goes_on));
            assert_eq!(after(&error), Next::Retry(None));
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_ends_a_pause() {
        let start = Now::read();
        assert!(!jumped(start, start.later(Duration::from_secs(29))));
        let slept = Now { wall_ms: start.wall_ms + 31_000, ..start };
        let set_back = Now { wall_ms: start.wall_ms - 31_000, ..start };
        assert!(jumped(start, slept) && jumped(start, set_back));
        let stop = Wake::new().unwrap();
        assert_eq!(wait(Duration::from_millis(5), &stop).unwrap(), Waited::Through);
        stop.fire();
        assert_eq!(wait(Duration::from_secs(60), &stop).unwrap(), Waited::Stopped);
    }
}
