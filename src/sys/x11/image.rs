//! What is on the screen.

use super::library::{XColor, XImage};
use super::{Connection, Error, Window};
use crate::limits;
use std::ffi::c_ulong;
use std::ptr::slice_from_raw_parts;

/// `ZPixmap`: whole pixels one after the other.
const Z_PIXMAP: i32 = 2;
/// `MSBFirst`
const MOST_SIGNIFICANT_FIRST: i32 = 1;

/// An image: three bytes a pixel, red, green, blue, row after row without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels to the right.
    pub width: u32,
    /// Pixels downwards.
    pub height: u32,
    /// `3 · width · height` bytes.
    pub rgb: Vec<u8>,
}

/// How the server lays out a pixel.
struct Layout {
    bytes: usize,
    big_endian: bool,
    /// Red, green, blue; all 0: the pixel is an index of a colormap.
    masks: [u32; 3],
}

impl Connection {
    /// A part of what a window shows, which must lie inside the window and on the screen.
    ///
    /// # Errors
    /// The window is gone, not visible, or the part is not inside it; the server has a layout that nobody uses any more.
    pub fn image(&self, window: Window, x: i32, y: i32, width: u32, height: u32) -> Result<Pixels, Error> {
        if u64::from(width) * u64::from(height) > limits::CAPTURE_PIXELS {
            return Err(Error::TooLarge);
        }
        // SAFETY: a live connection.
        let image = unsafe {
            (self.library.x.XGetImage)(self.display, window.into(), x, y, width, height, c_ulong::MAX, Z_PIXMAP)
        };
        let pixels = self.refusal().and_then(|()| {
            // SAFETY: null or an image that XGetImage made, destroyed only below.
            let image = unsafe { image.as_ref() }.ok_or(Error::Refused(8))?;
            self.pixels(image, window)
        });
        // SAFETY: as above; XDestroyImage is this call of the image's own function.
        unsafe {
            if let Some(destroy) = image.as_ref().and_then(|image| image.destroy) {
                destroy(image);
            }
        }
        pixels
    }

    fn pixels(&self, image: &XImage, window: Window) -> Result<Pixels, Error> {
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
        let (width, height, row) = (size(image.width), size(image.height), size(image.bytes_per_line));
        let layout = Layout {
            bytes: size(image.bits_per_pixel) / 8,
            big_endian: image.byte_order == MOST_SIGNIFICANT_FIRST,
            masks: [image.red_mask, image.green_mask, image.blue_mask].map(|mask| u32::try_from(mask).unwrap_or(0)),
        };
        if image.data.is_null() || width == 0 || !(1..=4).contains(&layout.bytes) || row < width * layout.bytes {
            return Err(Error::Extension("images of 8 to 32 bits a pixel"));
        }
        let palette = if layout.masks == [0; 3] { self.palette(window)? } else { Vec::new() };
        // SAFETY: XGetImage fills `height` rows of `bytes_per_line` bytes, live as long as the image.
        let data = unsafe { slice_from_raw_parts(image.data.cast::<u8>(), row * height).as_ref() }.unwrap_or_default();
        let mut rgb = vec![0; 3 * width * height];
        for (to, from) in rgb.chunks_exact_mut(3 * width).zip(data.chunks_exact(row)) {
            convert(to, from, &layout, &palette);
        }
        Ok(Pixels { width: image.width.unsigned_abs(), height: image.height.unsigned_abs(), rgb })
    }

    /// The 256 colours of a window's colormap.
    fn palette(&self, window: Window) -> Result<Vec<[u8; 3]>, Error> {
        let colormap = self.attributes(window)?.colormap;
        let mut colours: Vec<XColor> = (0..256).map(|pixel| XColor { pixel, ..XColor::default() }).collect();
        // SAFETY: a live connection and 256 live colours.
        unsafe { (self.library.x.XQueryColors)(self.display, colormap.into(), colours.as_mut_ptr(), 256) };
        self.refusal()?;
        Ok(colours
            .iter()
            .map(|colour| [colour.red, colour.green, colour.blue].map(|value| value.to_be_bytes()[0]))
            .collect())
    }
}

/// One row's pixels.
fn convert(rgb: &mut [u8], row: &[u8], layout: &Layout, palette: &[[u8; 3]]) {
    const USUAL: [u32; 3] = [0xff_0000, 0xff00, 0xff];
    let rgb = rgb.as_chunks_mut::<3>().0.iter_mut();
    if layout.bytes == 4 && !layout.big_endian && layout.masks == USUAL {
        return rgb.zip(row.as_chunks::<4>().0).for_each(|(to, [blue, green, red, _])| *to = [*red, *green, *blue]);
    }
    for (to, bytes) in rgb.zip(row.chunks_exact(layout.bytes)) {
        let add = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        let pixel = if layout.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) };
        let indexed = || usize::try_from(pixel).ok().and_then(|index| palette.get(index)).copied().unwrap_or_default();
        *to = if palette.is_empty() { layout.masks.map(|mask| channel(pixel, mask)) } else { indexed() };
    }
}

/// One colour of a pixel, scaled to 0–255.
fn channel(pixel: u32, mask: u32) -> u8 {
    let most = u64::from(mask.checked_shr(mask.trailing_zeros()).unwrap_or(0));
    let value = u64::from((pixel & mask).checked_shr(mask.trailing_zeros()).unwrap_or(0));
    (value * 255 + most / 2).checked_div(most).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: &[u8], size: usize, big_endian: bool, masks: [u32; 3], palette: &[[u8; 3]]) -> Vec<u8> {
        let mut rgb = vec![0; bytes.len() / size * 3];
        convert(&mut rgb, bytes, &Layout { bytes: size, big_endian, masks }, palette);
        rgb
    }

    #[test]
    fn every_layout_of_a_pixel_gives_the_same_colours() {
        let usual = [0xff_0000, 0xff00, 0xff];
        assert_eq!(row(&[3, 2, 1, 99, 6, 5, 4, 99], 4, false, usual, &[]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(row(&[99, 1, 2, 3], 4, true, usual, &[]), [1, 2, 3]);
        assert_eq!(row(&[3, 2, 1], 3, false, usual, &[]), [1, 2, 3]);
        // 5-6-5 bits: full red, full green, full blue, and half of all.
        let halves = (16 << 11 | 32 << 5 | 16_u16).to_le_bytes();
        let bytes = [0x00, 0xf8, 0xe0, 0x07, 0x1f, 0x00, halves[0], halves[1]];
        let expected = [255, 0, 0, 0, 255, 0, 0, 0, 255, 132, 130, 132];
        assert_eq!(row(&bytes, 2, false, [0xf800, 0x7e0, 0x1f], &[]), expected);
        // 10 bits a colour.
        let deep = 1023_u32 << 20 | 512 << 10;
        assert_eq!(row(&deep.to_le_bytes(), 4, false, [0x3ff0_0000, 0xf_fc00, 0x3ff], &[]), [255, 128, 0]);
        assert_eq!(row(&[1, 0, 7], 1, false, [0; 3], &[[9, 9, 9], [1, 2, 3]]), [1, 2, 3, 9, 9, 9, 0, 0, 0]);
    }
}
