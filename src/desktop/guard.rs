//! When pressing a button of the panel allows something. It is asked in the button's action, never only before the button
//! is switched on: a press that began earlier arrives all the same. Source: spec mac-app (3.2), (8.7) "Was it a person?";
//! cases H04, H05, H06.

use crate::limits;
use openclaw_macos::appkit::application::{Input, Kind};
use openclaw_macos::appkit::panel::Press;
use std::fmt;

/// What is true of the panel that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The number of its window.
    pub window: isize,
    /// Since when it is shown and has the keyboard, in seconds on the clock of the events.
    pub since: f64,
    /// The end of the text was in sight.
    pub end_seen: bool,
    /// The box is ticked, or there is none.
    pub acknowledged: bool,
    /// The owner lets programs press buttons: screen readers, remote desktops.
    pub any_source: bool,
}

/// Why a press allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was meant for a panel that is over.
    Over,
    /// Nobody reads that fast.
    TooEarly,
    /// There is more text below.
    EndNotSeen,
    /// The box is not ticked.
    NotAcknowledged,
    /// No hand was seen: there is no event behind it, or an old one, or one of another window.
    NoHand,
    /// The process that made the event.
    Program(i64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HOW: &str =
            "\"local\": {\"assistiveInput\": true} in the approvals document lets assistive programs answer.";
        match self {
            Self::Over => f.write_str("That question is over."),
            Self::TooEarly => f.write_str("That was too early to count. Read first, then press again."),
            Self::EndNotSeen => f.write_str("Scroll to the end of the text first."),
            Self::NotAcknowledged => f.write_str("Tick the box first."),
            Self::NoHand => write!(f, "Not counted: it did not come from mouse or keyboard. {HOW}"),
            Self::Program(pid) => write!(f, "Not counted: it came from a program (process {pid}). {HOW}"),
        }
    }
}

/// Whether the guarded buttons may look as if they could be pressed. A press is judged by [`may_allow`] all the same.
///
/// # Errors
/// Why not.
pub fn is_ready(shown: &Shown, now: f64) -> Result<(), Refused> {
    if now - shown.since < limits::PROMPT_DELAY.as_secs_f64() {
        Err(Refused::TooEarly)
    } else if !shown.end_seen {
        Err(Refused::EndNotSeen)
    } else if !shown.acknowledged {
        Err(Refused::NotAcknowledged)
    } else {
        Ok(())
    }
}

/// Whether this press of a guarded button allows what is shown.
///
/// # Errors
/// Why not.
pub fn may_allow(shown: &Shown, now: f64, press: &Press) -> Result<(), Refused> {
    if press.window != shown.window {
        return Err(Refused::Over);
    }
    is_ready(shown, now)?;
    if shown.any_source {
        return Ok(());
    }
    let input = press.input.filter(|input| is_of_this_press(input, now, press)).ok_or(Refused::NoHand)?;
    match input.source {
        // The press was made before it could count, and came late.
        _ if input.at - shown.since < limits::PROMPT_DELAY.as_secs_f64() => Err(Refused::TooEarly),
        Some(process) if process != 0 => Err(Refused::Program(process)),
        _ => Ok(()),
    }
}

/// The last event stays the current one for whoever starts an action without any.
fn is_of_this_press(input: &Input, now: f64, press: &Press) -> bool {
    let is_on_button = match input.kind {
        Kind::Click => press.button.contains(input.location),
        Kind::Space => true,
        Kind::Other => false,
    };
    is_on_button && input.window == press.window && (now - input.at).abs() < limits::PRESS_AGE.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openclaw_macos::{Point, Rect, Size};

    const NOW: f64 = 1_000.0;
    const READ: Shown = Shown { window: 7, since: NOW - 5.0, end_seen: true, acknowledged: true, any_source: false };

    fn press() -> Press {
        let button = Rect { origin: Point { x: 10.0, y: 10.0 }, size: Size { width: 100.0, height: 30.0 } };
        let location = Point { x: 50.0, y: 20.0 };
        let input = Input { kind: Kind::Click, window: 7, at: NOW - 0.01, location, source: None };
        Press { tag: 1, window: 7, button, input: Some(input) }
    }

    fn with(change: impl FnOnce(&mut Input)) -> Press {
        let mut press = press();
        change(press.input.as_mut().unwrap());
        press
    }

    /// H04: what a program posted, or what has no event behind it, allows nothing.
    #[test]
    fn sec_h04_only_a_hand_on_this_button_allows() {
        assert_eq!(may_allow(&READ, NOW, &press()), Ok(()));
        assert_eq!(may_allow(&READ, NOW, &with(|input| input.source = Some(0))), Ok(()));
        assert_eq!(may_allow(&READ, NOW, &with(|input| input.kind = Kind::Space)), Ok(()));
        assert_eq!(may_allow(&READ, NOW, &with(|input| input.source = Some(4711))), Err(Refused::Program(4711)));
        for odd in [
            Press { input: None, ..press() },
            with(|input| input.kind = Kind::Other),
            with(|input| input.window = 8),
            with(|input| input.at = NOW - 2.0),
            with(|input| input.at = NOW + 2.0),
            with(|input| input.at = 0.0),
            with(|input| input.at = f64::NAN),
            // A click into the text, and then an action that no click started.
            with(|input| input.location = Point { x: 50.0, y: 200.0 }),
        ] {
            assert_eq!(may_allow(&READ, NOW, &odd), Err(Refused::NoHand), "{odd:?}");
            assert_eq!(may_allow(&Shown { any_source: true, ..READ }, NOW, &odd), Ok(()), "the owner's choice");
        }
        assert_eq!(may_allow(&READ, NOW, &Press { window: 6, ..press() }), Err(Refused::Over));
        assert_eq!(
            may_allow(&Shown { any_source: true, ..READ }, NOW, &Press { window: 6, ..press() }),
            Err(Refused::Over)
        );
    }

    /// H05: also a press that was made too early and arrives late, whatever the owner lets programs do.
    #[test]
    fn sec_h05_nothing_counts_in_the_first_half_second() {
        for any_source in [false, true] {
            let fresh = Shown { since: NOW - 0.49, any_source, ..READ };
            assert_eq!(may_allow(&fresh, NOW, &press()), Err(Refused::TooEarly));
        }
        let shown = Shown { since: NOW - 0.6, ..READ };
        assert_eq!(may_allow(&shown, NOW, &with(|input| input.at = NOW - 0.3)), Err(Refused::TooEarly));
        assert_eq!(may_allow(&shown, NOW, &press()), Ok(()));
        assert_eq!(may_allow(&Shown { since: f64::INFINITY, ..READ }, NOW, &press()), Err(Refused::TooEarly));
    }

    /// H06, A108: whatever the owner lets programs do.
    #[test]
    fn sec_h06_the_end_must_have_been_seen_and_the_box_ticked() {
        for any_source in [false, true] {
            let unseen = Shown { end_seen: false, any_source, ..READ };
            assert_eq!(may_allow(&unseen, NOW, &press()), Err(Refused::EndNotSeen));
            let unticked = Shown { acknowledged: false, any_source, ..READ };
            assert_eq!(may_allow(&unticked, NOW, &press()), Err(Refused::NotAcknowledged));
        }
    }
}
