//! Screenshots that an agent may point into: `screen.snapshot` gives each an id, and `computer.act` turns pixels of it into
//! a place on the desktop, as long as that still has the shape that it had. Source: docs nodes/computer-use
//! ("displayFrameId").

use crate::desktop::automation::{Automation, Point, Screen};
use crate::identity::random;
use crate::limits;
use crate::protocol::ability::ScreenSnapshot;
use crate::protocol::computer::Spot;
use crate::sys::clock::{Expiry, Now};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The screenshots that were taken lately.
pub struct Frames {
    automation: Arc<dyn Automation>,
    taken: Mutex<VecDeque<Frame>>,
}

/// The screen as it was when a screenshot was begun.
pub struct Sight {
    index: usize,
    screen: Screen,
}

struct Frame {
    id: String,
    execution: String,
    sight: Sight,
    /// Pixels of the picture.
    size: (u32, u32),
    /// The width that it was asked to have; the official tool goes on calling it so wide.
    asked: Option<u32>,
    until: Expiry,
}

impl Frames {
    /// Of this desktop, none yet.
    pub fn new(automation: Arc<dyn Automation>) -> Self {
        Self { automation, taken: Mutex::default() }
    }

    /// Before a screenshot of this screen: what it shows. None where nobody can say.
    pub fn look(&self, index: usize) -> Option<Sight> {
        let screen = self.automation.screens().ok()?.into_iter().nth(index)?;
        Some(Sight { index, screen })
    }

    /// After it, with the picture's pixels: its id. None for a picture that belongs to no execution, and when the screen is
    /// another one by now.
    pub fn keep(&self, sight: Option<Sight>, request: &ScreenSnapshot, size: (u32, u32)) -> Option<String> {
        let (sight, execution) = (sight?, request.execution_id.clone()?);
        if self.look(sight.index)?.screen != sight.screen {
            return None;
        }
        let id = random::uuid();
        let mut taken = self.taken();
        if taken.len() >= limits::COMPUTER_FRAMES {
            taken.pop_front();
        }
        let asked = request.max_width;
        // On both clocks: a machine that slept does not show what it did.
        let until = Expiry::after(Now::read(), limits::COMPUTER_FRAME_TTL);
        taken.push_back(Frame { id: id.clone(), execution, sight, size, asked, until });
        Some(id)
    }

    /// Where on the desktop a place of a screenshot is.
    ///
    /// # Errors
    /// Why it is nowhere any more.
    pub fn place(&self, execution: &str, spot: &Spot) -> Result<Point, &'static str> {
        let id = spot.frame.as_deref().ok_or("a place needs the displayFrameId of a screenshot")?;
        let taken = self.taken();
        let frame = taken.iter().find(|frame| frame.id == id && frame.execution == execution);
        let frame = frame.ok_or("this screenshot is not known here, or belongs to another execution")?;
        if frame.until.passed(Now::read()) {
            return Err("this screenshot is too old");
        }
        if spot.screen.is_some_and(|index| index != frame.sight.index) {
            return Err("this screenshot is of another screen");
        }
        let (width, height) = (f64::from(frame.size.0), f64::from(frame.size.1));
        if spot.width.is_some_and(|width| width != frame.size.0 && Some(width) != frame.asked) {
            return Err("this screenshot has another width than refWidth");
        }
        if spot.x >= width || spot.y >= height {
            return Err("this place lies outside of the screenshot");
        }
        let now = self.look(frame.sight.index).ok_or("the screen is gone")?;
        if now.screen != frame.sight.screen {
            return Err("the screen has changed since");
        }
        let bounds = now.screen.bounds;
        // The middle of a pixel of the picture, which may be one of many of the screen.
        let along = |pixel: f64, pixels: f64, points: f64| (pixel + 0.5) / pixels * points;
        Ok(Point {
            x: (bounds.origin.x + along(spot.x, width, bounds.size.width)).floor(),
            y: (bounds.origin.y + along(spot.y, height, bounds.size.height)).floor(),
        })
    }

    /// Forgets those of an execution that is over.
    pub fn forget(&self, execution: &str) {
        self.taken().retain(|frame| frame.execution != execution);
    }

    fn taken(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::automation::{Ability, Done, Permissions, Rect, Size};

    struct Screens(Mutex<Vec<Screen>>);

    impl Automation for Screens {
        fn abilities(&self) -> &[Ability] {
            &[]
        }
        fn permissions(&self) -> Permissions {
            Permissions::ALL
        }
        fn screens(&self) -> Done<Vec<Screen>> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    fn screen(x: f64, width: f64) -> Screen {
        let bounds = Rect { origin: Point { x, y: -10.0 }, size: Size { width, height: 1_000.0 } };
        Screen { name: None, bounds, scale: 2.0 }
    }

    fn of(execution: Option<&str>) -> ScreenSnapshot {
        let asked = ScreenSnapshot::parse(Some(r#"{"maxWidth": 1400}"#)).unwrap();
        ScreenSnapshot { execution_id: execution.map(str::to_owned), ..asked }
    }

    #[test]
    fn a_place_holds_for_its_screenshot_its_execution_and_its_screen_only() {
        let screens = Arc::new(Screens(Mutex::new(vec![screen(0.0, 1_600.0), screen(1_600.0, 2_000.0)])));
        let frames = Frames::new(Arc::clone(&screens) as _);
        assert_eq!(frames.keep(frames.look(1), &of(None), (1_000, 500)), None, "of no execution");
        let id = frames.keep(frames.look(1), &of(Some("e")), (1_000, 500)).unwrap();
        let spot = Spot { x: 10.0, y: 20.0, frame: Some(id), width: Some(1_000), screen: Some(1) };
        assert_eq!(frames.place("e", &spot), Ok(Point { x: 1_621.0, y: 31.0 }));
        assert!(frames.place("e", &Spot { width: Some(1_400), ..spot.clone() }).is_ok(), "as wide as asked");
        let last = Spot { x: 999.0, y: 499.0, ..spot.clone() };
        assert_eq!(frames.place("e", &last), Ok(Point { x: 3_599.0, y: 989.0 }));
        for other in [
            Spot { frame: None, ..spot.clone() },
            Spot { frame: Some("guessed".to_owned()), ..spot.clone() },
            Spot { width: Some(1_280), ..spot.clone() },
            Spot { screen: Some(0), ..spot.clone() },
            Spot { x: 1_000.0, ..spot.clone() },
            Spot { y: 500.0, ..spot.clone() },
        ] {
            assert!(frames.place("e", &other).is_err(), "{other:?}");
        }
        assert!(frames.place("f", &spot).is_err(), "another execution");
        let before = frames.look(1);
        screens.0.lock().unwrap()[1] = screen(1_600.0, 1_999.0);
        assert!(frames.place("e", &spot).is_err(), "another screen");
        assert_eq!(frames.keep(before, &of(Some("e")), (1, 1)), None, "changed meanwhile");
        screens.0.lock().unwrap()[1] = screen(1_600.0, 2_000.0);
        assert!(frames.place("e", &spot).is_ok());
        frames.forget("e");
        assert!(frames.place("e", &spot).is_err());
    }

    #[test]
    fn a_place_ends_with_its_time() {
        let frames = Frames::new(Arc::new(Screens(Mutex::new(vec![screen(0.0, 1_000.0)]))));
        let id = frames.keep(frames.look(0), &of(Some("e")), (1_000, 1_000)).unwrap();
        let spot = Spot { x: 1.0, y: 1.0, frame: Some(id), width: None, screen: None };
        assert!(frames.place("e", &spot).is_ok());
        frames.taken()[0].until = Expiry::after(Now::read(), std::time::Duration::ZERO);
        assert_eq!(frames.place("e", &spot), Err("this screenshot is too old"));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let frames = Frames::new(Arc::new(Screens(Mutex::new(vec![screen(0.0, 100.0)]))));
        let take = || frames.keep(frames.look(0), &of(Some("e")), (100, 100)).unwrap();
        let known = |id: &String| {
            let spot = Spot { x: 0.0, y: 0.0, frame: Some(id.clone()), width: None, screen: None };
            frames.place("e", &spot).is_ok()
        };
        let first = take();
        let second = take();
        (2..limits::COMPUTER_FRAMES).for_each(|_| drop(take()));
        assert!(known(&first));
        take();
        assert!(!known(&first) && known(&second));
    }
}
