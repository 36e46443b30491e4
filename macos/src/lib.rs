//! Apple's frameworks behind a safe API. Empty until part 4; the crate exists so that nothing
//! else grows code that knows Objective-C.
