//! Core Graphics' pictures to files and back, by ImageIO.

use crate::foundation::{self, NSDictionary, NSNumber};
use crate::library::Missing;
use crate::runtime::{self, Id, NIL, Owned, allocate};
use std::ffi::c_void;

functions! {
    Pixels from CoreGraphics {
        fn CGImageGetWidth(image: *const c_void) -> usize;
        fn CGImageGetHeight(image: *const c_void) -> usize;
    }
}

functions! {
    Codec from ImageIO {
        fn CGImageSourceCreateWithData(data: Id, options: Id) -> *const c_void;
        fn CGImageSourceCreateThumbnailAtIndex(source: *const c_void, index: usize, options: Id) -> *const c_void;
        fn CGImageDestinationCreateWithData(data: Id, kind: Id, count: usize, options: Id) -> *const c_void;
        fn CGImageDestinationAddImage(destination: *const c_void, image: *const c_void, properties: Id);
        fn CGImageDestinationFinalize(destination: *const c_void) -> bool;
    }
}

variables! { ImageIO {
    kCGImageDestinationLossyCompressionQuality: Id;
    kCGImageSourceCreateThumbnailFromImageAlways: Id;
    kCGImageSourceCreateThumbnailWithTransform: Id;
    kCGImageSourceThumbnailMaxPixelSize: Id;
} }

objc_class! {
    NSMutableData from Foundation {
        - init = "init" () -> Id;
    }
}

/// How a picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// Exact.
    Png,
    /// With this quality, 0 to 1.
    Jpeg(f64),
}

/// An encoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Something of Core Foundation or Core Graphics that we hold. Those are objects to the Objective-C runtime, so `release`
/// is as good as `CFRelease`.
pub(crate) fn held(reference: *const c_void) -> Option<Owned> {
    // SAFETY: only called with what a Create function has just given, whose reference is ours.
    unsafe { Owned::adopt(reference.cast_mut()) }
}

/// Encodes a `CGImage`; none when the system cannot.
///
/// # Safety
/// `image` is a live `CGImage`.
///
/// # Errors
/// There is no ImageIO.
pub(crate) unsafe fn encode(image: *const c_void, format: Format) -> Result<Option<Encoded>, Missing> {
    let (pixels, codec) = (Pixels::get()?, Codec::get()?);
    let (kind, properties) = match format {
        Format::Png => ("public.png", NIL),
        Format::Jpeg(quality) => ("public.jpeg", {
            // SAFETY: one live key and value.
            unsafe { dictionary(&[(kCGImageDestinationLossyCompressionQuality()?, NSNumber::with_double(quality))]) }
        }),
    };
    // SAFETY: a new, growing NSMutableData, which is a CFMutableData; the image is alive by the caller's promise; the
    // destination is used before it is released, and the data read after it was finalised.
    unsafe {
        let Some(data) = Owned::adopt(NSMutableData::init(allocate(NSMutableData::class()))) else { return Ok(None) };
        let made = (codec.CGImageDestinationCreateWithData)(data.id(), foundation::string(kind), 1, NIL);
        let Some(destination) = held(made) else { return Ok(None) };
        (codec.CGImageDestinationAddImage)(destination.id(), image, properties);
        if !(codec.CGImageDestinationFinalize)(destination.id()) {
            return Ok(None);
        }
        let (width, height) = ((pixels.CGImageGetWidth)(image), (pixels.CGImageGetHeight)(image));
        Ok(foundation::bytes(data.id()).map(|bytes| Encoded { bytes, width: width as u32, height: height as u32 }))
    }
}

/// Decodes a picture file, turns it upright, shrinks it until no side is longer than `most` pixels, and encodes it again.
/// None when it is no picture.
///
/// # Errors
/// There is no ImageIO.
pub fn shrink(file: &[u8], most: u32, format: Format) -> Result<Option<Encoded>, Missing> {
    runtime::pooled(|| {
        let codec = Codec::get()?;
        // SAFETY: live keys and values; the source is alive while the thumbnail is made, that while it is encoded.
        unsafe {
            let options = dictionary(&[
                (kCGImageSourceCreateThumbnailFromImageAlways()?, NSNumber::with_bool(true.into())),
                (kCGImageSourceCreateThumbnailWithTransform()?, NSNumber::with_bool(true.into())),
                (kCGImageSourceThumbnailMaxPixelSize()?, NSNumber::with_integer(most as isize)),
            ]);
            let data = foundation::data(file);
            let Some(source) = held((codec.CGImageSourceCreateWithData)(data, NIL)) else { return Ok(None) };
            let Some(image) = held((codec.CGImageSourceCreateThumbnailAtIndex)(source.id(), 0, options)) else {
                return Ok(None);
            };
            encode(image.id(), format)
        }
    })
}

/// An `NSDictionary` in the pool.
///
/// # Safety
/// Keys and values are alive; pairs with a nil value are left out.
pub(crate) unsafe fn dictionary(pairs: &[(Id, Id)]) -> Id {
    let (keys, values): (Vec<Id>, Vec<Id>) =
        pairs.iter().copied().filter(|(key, value)| !key.is_null() && !value.is_null()).unzip();
    // SAFETY: as many live keys as values.
    unsafe { NSDictionary::with_objects(values.as_ptr(), keys.as_ptr(), keys.len()) }
}
