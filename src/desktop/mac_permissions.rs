//! The Mac's permissions of this process, by the `macos` crate. What may hang is looked at on a thread of its own, whose
//! last answer stands meanwhile (P9). Source: spec mac-app (2.1), (2.2).

use super::permissions::{Capability, Grant, Permissions};
use crate::limits;
use crate::log;
use crate::sys::worker;
use openclaw_macos::permissions::{self as system, Media};
use openclaw_macos::user_notifications::{self, Authorization, NotificationError};
use openclaw_macos::{MainThread, Missing, When, location, on_main, workspace};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Permission to automate is one for each program; this is the one that scripts use to reach the others.
const AUTOMATED: &str = "com.apple.systemevents";

/// See the module.
pub struct MacPermissions {
    automation: Slow,
    notifications: Slow,
    location: Slow,
    /// What the system is asking the person just now.
    asking: Arc<Mutex<Vec<Capability>>>,
}

impl Default for MacPermissions {
    fn default() -> Self {
        Self {
            automation: Slow::new(automation),
            notifications: Slow::new(notifications),
            location: Slow::new(whereabouts),
            asking: Arc::default(),
        }
    }
}

impl From<system::Grant> for Grant {
    fn from(grant: system::Grant) -> Self {
        match grant {
            system::Grant::Granted => Self::Granted,
            system::Grant::Denied => Self::Denied,
            system::Grant::NotAsked => Self::NotDetermined,
            system::Grant::Restricted => Self::Restricted,
            system::Grant::Unknown => Self::Unknown,
        }
    }
}

fn known(grant: Result<system::Grant, Missing>) -> Grant {
    grant.map_or(Grant::Unsupported, Grant::from)
}

/// Whether Apple events to System Events are allowed. May hang.
pub(super) fn automation() -> Grant {
    known(system::automation(AUTOMATED, false))
}

fn notifications() -> Grant {
    match user_notifications::authorization(Instant::now() + limits::PERMISSION_LIMIT) {
        Ok(Authorization::NotDetermined) => Grant::NotDetermined,
        Ok(Authorization::Authorized | Authorization::Provisional) => Grant::Granted,
        Ok(Authorization::Denied) => Grant::Denied,
        Err(NotificationError::NotHere(_)) => Grant::Unsupported,
        Err(_) => Grant::Unknown,
    }
}

fn whereabouts() -> Grant {
    match location::authorization(limits::PERMISSION_LIMIT) {
        Err(location::LocationError::Missing(_)) => Grant::Unsupported,
        Err(_) => Grant::Unknown,
        // Switched off for the whole Mac.
        Ok((_, false)) => Grant::Denied,
        Ok((status, true)) => location_grant(status),
    }
}

/// `CLAuthorizationStatus`
fn location_grant(status: i32) -> Grant {
    match status {
        0 => Grant::NotDetermined,
        1 => Grant::Restricted,
        2 => Grant::Denied,
        3 | 4 => Grant::Granted,
        _ => Grant::Unknown,
    }
}

impl Permissions for MacPermissions {
    fn status(&self, capability: Capability) -> Grant {
        match capability {
            Capability::AppleScript => self.automation.status(),
            Capability::Notifications => self.notifications.status(),
            Capability::Location => self.location.status(),
            Capability::Accessibility => known(system::accessibility()),
            Capability::ScreenRecording => known(system::screen_recording()),
            Capability::EventPosting => known(system::event_posting()),
            Capability::Microphone => known(system::media(Media::Audio)),
            Capability::Camera => known(system::media(Media::Video)),
            Capability::SpeechRecognition => known(system::speech()),
        }
    }

    /// Waits for the person at most [`limits::PERMISSION_ANSWER`]. Opens the pane of System Settings when the system does not
    /// ask any more, or shows nothing.
    fn request(&self, capability: Capability) -> Grant {
        let before = self.status(capability);
        if matches!(before, Grant::Granted | Grant::Unsupported) {
            return before;
        }
        self.ask(capability);
        let after = self.status(capability);
        let shows_nothing = capability == Capability::Location && after == Grant::NotDetermined;
        let is_refused = !matches!(after, Grant::Granted | Grant::NotDetermined | Grant::Unsupported);
        if (shows_nothing || is_refused)
            && let Err(missing) = workspace::open(&capability.settings_url())
        {
            log!("app", "System Settings were not opened: {missing}");
        }
        after
    }
}

impl MacPermissions {
    /// Has the system ask, unless it is asking already; it may go on when we stop waiting.
    fn ask(&self, capability: Capability) {
        let asking = Arc::clone(&self.asking);
        {
            let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
            if asking.contains(&capability) {
                return;
            }
            asking.push(capability);
        }
        let (sender, done) = sync_channel::<()>(1);
        let prompt = move || {
            prompt(capability);
            asking.lock().unwrap_or_else(PoisonError::into_inner).retain(|asked| *asked != capability);
            drop(sender);
        };
        if worker::start(prompt).is_err() {
            self.asking.lock().unwrap_or_else(PoisonError::into_inner).retain(|asked| *asked != capability);
        }
        // Disconnected is its end.
        let _ = done.recv_timeout(limits::PERMISSION_ANSWER);
        for slow in [&self.automation, &self.notifications, &self.location] {
            slow.forget();
        }
    }
}

/// May block as long as the person thinks. What came of it is seen by the next look.
fn prompt(capability: Capability) {
    let deadline = Instant::now() + limits::PROMPT_DEADLINE;
    // Only the main thread may; nobody else waits there.
    let on_main_thread = |ask: fn(MainThread) -> Result<(), Missing>| {
        let (sender, done) = sync_channel(1);
        if on_main(When::Now, move |main| drop(sender.try_send(ask(main)))).is_ok() {
            let _ = done.recv_timeout(limits::PERMISSION_LIMIT);
        }
    };
    match capability {
        Capability::AppleScript => drop(system::automation(AUTOMATED, true)),
        Capability::Notifications => drop(user_notifications::request(deadline)),
        Capability::Accessibility => drop(system::ask_accessibility()),
        Capability::ScreenRecording => on_main_thread(system::ask_screen_recording),
        Capability::EventPosting => on_main_thread(system::ask_event_posting),
        Capability::Microphone => drop(system::ask_media(Media::Audio, deadline)),
        Capability::Camera => drop(system::ask_media(Media::Video, deadline)),
        Capability::SpeechRecognition => drop(system::ask_speech(deadline)),
        Capability::Location => {
            let end = Instant::now() + limits::LOCATION_PROMPT;
            while location::ask().is_ok() && whereabouts() == Grant::NotDetermined && Instant::now() < end {
                thread::sleep(limits::LOCATION_PROMPT / 4);
            }
        }
    }
}

/// The answer of something that may hang, so that a thread of its own asks it, one at a time; what it said last stands
/// meanwhile, unless it takes longer than [`limits::PERMISSION_LIMIT`].
pub(super) struct Slow {
    look: fn() -> Grant,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    known: Option<(Grant, Instant)>,
    under_way: Option<(Receiver<Grant>, Instant)>,
}

impl Slow {
    pub(super) fn new(look: fn() -> Grant) -> Self {
        Self { look, looked: Mutex::default() }
    }

    /// Waits a moment for a fresh answer, on the main thread not at all: the look may need that.
    pub(super) fn status(&self) -> Grant {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let Looked { known, under_way } = &mut *looked;
        if let (Some((grant, at)), None) = (&known, &under_way)
            && at.elapsed() < limits::PERMISSION_FRESH
        {
            return *grant;
        }
        let (answer, since) = under_way.get_or_insert_with(|| {
            let (sender, answer) = sync_channel(1);
            let look = self.look;
            // Without a thread there is no answer, which is seen below.
            let _ = worker::start(move || {
                let _left = sender.try_send(look());
            });
            (answer, Instant::now())
        });
        let hangs = since.elapsed() > limits::PERMISSION_LIMIT;
        let may_wait = !hangs && MainThread::here().is_none();
        match answer.recv_timeout(if may_wait { limits::PERMISSION_PATIENCE } else { Duration::ZERO }) {
            Ok(grant) => (*known, *under_way) = (Some((grant, Instant::now())), None),
            Err(RecvTimeoutError::Disconnected) => *under_way = None,
            Err(RecvTimeoutError::Timeout) if hangs => *known = None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        known.map_or(Grant::Unknown, |(grant, _)| grant)
    }

    /// The next look is a new one.
    fn forget(&self) {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn without_the_frameworks_there_are_no_permissions_and_nobody_is_asked() {
        if cfg!(target_os = "macos") {
            return;
        }
        let permissions = MacPermissions::default();
        for capability in Capability::all() {
            assert_eq!(permissions.status(capability), Grant::Unsupported, "{capability:?}");
            assert_eq!(permissions.request(capability), Grant::Unsupported, "{capability:?}");
        }
        assert!(permissions.asking.lock().unwrap().is_empty());
    }

    #[test]
    fn what_hangs_is_asked_once_and_holds_nobody_up_for_long() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<()> = Mutex::new(());
        let slow = Slow::new(|| {
            LOOKS.fetch_add(1, Ordering::SeqCst);
            drop(GATE.lock());
            Grant::Granted
        });
        let held = GATE.lock().unwrap();
        let start = Instant::now();
        assert_eq!((slow.status(), slow.status()), (Grant::Unknown, Grant::Unknown));
        assert!(start.elapsed() < 4 * limits::PERMISSION_PATIENCE);
        drop(held);
        assert_eq!(slow.status(), Grant::Granted);
        assert_eq!(LOOKS.load(Ordering::SeqCst), 1, "one thread, however many ask");
        assert_eq!(slow.status(), Grant::Granted);
        assert_eq!(LOOKS.load(Ordering::SeqCst), 1, "a fresh answer is not asked for again");
        // Stale, and the next look hangs: what was known stands, and is unknown when it takes too long.
        let held = GATE.lock().unwrap();
        let long_ago = Instant::now().checked_sub(limits::PERMISSION_LIMIT * 2).unwrap();
        slow.looked.lock().unwrap().known = Some((Grant::Denied, long_ago));
        assert_eq!(slow.status(), Grant::Denied);
        slow.looked.lock().unwrap().under_way.as_mut().unwrap().1 = long_ago;
        let start = Instant::now();
        assert_eq!(slow.status(), Grant::Unknown);
        assert!(start.elapsed() < limits::PERMISSION_PATIENCE);
        drop(held);
    }

    #[test]
    fn the_status_of_core_location_is_read_as_apple_numbers_it() {
        let grants = [0, 1, 2, 3, 4, 9].map(location_grant);
        let granted = Grant::Granted;
        assert_eq!(grants, [Grant::NotDetermined, Grant::Restricted, Grant::Denied, granted, granted, Grant::Unknown]);
    }
}
