//! `screen.snapshot` on X11: every client may see the screen there, so only the owner's switch stands before it. X11 does
//! not tell whether the screen is locked; then the picture shows the locker.

use super::{Area, Failure, Pixels, X11, capture};
use crate::desktop::abilities::{Abilities, Done, Trouble};
use crate::desktop::png;
use crate::limits;
use crate::protocol::ability::{Bytes, Picture, PictureFormat, ScreenSnapshot, name};
use crate::sys::wake::Wake;

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(why) => Self::Invalid(why),
            Failure::Timeout => Self::Timeout("SCREEN", failure.to_string()),
            other => Self::Failed("SCREEN", other.to_string()),
        }
    }
}

impl Abilities for X11 {
    fn has(&self, command: &str) -> bool {
        command == name::SCREEN_SNAPSHOT && self.session().is_ok()
    }

    /// A server that is gone shows when it is asked something.
    fn session(&self) -> Done {
        let answers = self.run(|connection| Ok(connection.sync()?));
        answers.map_err(|failure| Trouble::NoSession(failure.to_string()))
    }

    /// A PNG whatever was asked for: there is no JPEG encoder here, and the answer says which it is.
    fn screen_snapshot(&self, request: &ScreenSnapshot, cancel: &Wake) -> Done<Picture> {
        let screen = request.screen;
        let pixels = self.run(move |connection| capture(connection, Area::Screen(screen)))?;
        let pixels = narrowed(pixels, request.max_width.unwrap_or(limits::PICTURE_PIXELS));
        if cancel.is_fired() {
            return Err(Trouble::Cancelled);
        }
        let Pixels { width, height, rgb } = pixels;
        Ok(Picture { format: PictureFormat::Png, bytes: Bytes(png::encode(width, height, &rgb)), width, height })
    }
}

/// At most `most` pixels wide, in the same proportions: each pixel is the mean of those that it stands for.
fn narrowed(pixels: Pixels, most: u32) -> Pixels {
    let Pixels { width, height, rgb } = &pixels;
    if *width <= most {
        return pixels;
    }
    let scaled = u64::from(*height) * u64::from(most) / u64::from(*width);
    let (new_width, new_height) = (most, u32::try_from(scaled).unwrap_or(*height).max(1));
    let [from_width, from_height, to_width, to_height] =
        [*width, *height, new_width, new_height].map(|pixels| usize::try_from(pixels).unwrap_or(usize::MAX));
    // Never empty: there are more pixels before than after.
    let share = |at: usize, from: usize, to: usize| at * from / to..(at + 1) * from / to;
    let mut out = Vec::with_capacity(3 * to_width * to_height);
    for row in 0..to_height {
        let lines = share(row, from_height, to_height);
        let lines = rgb.get(3 * from_width * lines.start..3 * from_width * lines.end).unwrap_or_default();
        for column in 0..to_width {
            let columns = share(column, from_width, to_width);
            let mut sums = [0_u64; 3];
            let mut count = 0;
            for line in lines.chunks_exact(3 * from_width) {
                let (parts, _) = line.get(3 * columns.start..3 * columns.end).unwrap_or_default().as_chunks::<3>();
                for part in parts {
                    sums.iter_mut().zip(part).for_each(|(sum, colour)| *sum += u64::from(*colour));
                    count += 1;
                }
            }
            out.extend(sums.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX)));
        }
    }
    Pixels { width: new_width, height: new_height, rgb: out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_picture_becomes_the_means_of_its_pixels_in_its_proportions() {
        let rgb = [[0, 0, 0], [10, 20, 30], [100, 100, 100], [200, 100, 0], [20, 40, 60], [30, 60, 90], [0; 3], [0; 3]];
        let picture = Pixels { width: 4, height: 2, rgb: rgb.concat() };
        let half = narrowed(picture.clone(), 2);
        assert_eq!((half.width, half.height, half.rgb), (2, 1, vec![15, 30, 45, 75, 50, 25]));
        assert_eq!(narrowed(picture.clone(), 4), picture);
        assert_eq!(narrowed(picture.clone(), 1).rgb.len(), 3, "never less than one pixel");
        for (width, height) in [(1_000, 1), (7, 5), (640, 480), (3, 1_000)] {
            let size = usize::try_from(3 * width * height).unwrap();
            for most in [1, 2, 3, 5, 6, 639] {
                let shrunk = narrowed(Pixels { width, height, rgb: vec![77; size] }, most);
                assert_eq!(shrunk.rgb.len(), usize::try_from(3 * shrunk.width * shrunk.height).unwrap());
                assert!(shrunk.width == most.min(width) && shrunk.rgb.iter().all(|colour| *colour == 77));
            }
        }
    }
}
