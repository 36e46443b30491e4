//! A notification in a window of our own, for where the system shows none: top right, above other windows, never takes the
//! keyboard, gone after a few seconds or on a click. Source: spec mac-app (3.1)

use super::panel::{NSFont, NSPanel, NSScreen, NSTextField, NSWindow};
use super::{NSButton, NSControl, NSView, view};
use crate::class::{self, Method, guarded};
use crate::foundation::{self, Timer, string};
use crate::library::{Library, Missing};
use crate::main_thread::MainThread;
use crate::runtime::{self, Bool, Id, Owned, Point, Rect, Sel, Shared, Size, allocate};
use std::cell::RefCell;
use std::sync::OnceLock;

/// `NSWindowStyleMaskNonactivatingPanel`
const NON_ACTIVATING: usize = 128;
/// `NSBackingStoreBuffered`
const BUFFERED: usize = 2;
/// `NSStatusWindowLevel`
const STATUS_LEVEL: isize = 25;
/// `NSWindowCollectionBehaviorCanJoinAllSpaces` | `NSWindowCollectionBehaviorTransient` |
/// `NSWindowCollectionBehaviorFullScreenAuxiliary`
const EVERYWHERE: usize = 1 | 8 | 256;

const WIDTH: f64 = 360.0;
const LEAST_HEIGHT: f64 = 64.0;
const MOST_HEIGHT: f64 = 220.0;
const PADDING: f64 = 12.0;
const MARGIN: f64 = 8.0;
const LINE: f64 = 17.0;
/// Of the text in one line, about; more is cut off at the bottom.
const CHARACTERS: usize = 52;
const SECONDS: f64 = 6.0;
const OVER: &str = "overlayIsOver:";

/// What is shown; dropping it takes it away.
struct Overlay {
    window: Owned,
    _timer: Timer,
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // SAFETY: on the main thread, which alone has these; a live window that closing does not release.
        unsafe { NSWindow::close(self.window.id()) }
    }
}

thread_local! {
    static SHOWN: RefCell<Option<Overlay>> = const { RefCell::new(None) };
}

/// Shows it, in place of the one before.
///
/// # Errors
/// What is missing here.
pub fn show(_: MainThread, title: &str, body: &str) -> Result<(), Missing> {
    let missing = || Missing { name: "NSPanel".to_owned() };
    let target = target()?;
    // SAFETY: on the main thread, in a pool.
    let window = runtime::pooled(|| unsafe { build(title, body, target) }).ok_or_else(missing)?;
    let timer = Timer::start(SECONDS, target, OVER)?;
    SHOWN.replace(Some(Overlay { window, _timer: timer }));
    Ok(())
}

/// # Safety
/// On the main thread, in a pool.
unsafe fn build(title: &str, body: &str, target: Shared) -> Option<Owned> {
    // SAFETY: by the caller's promise; each message is sent to an object of the class that has it, and views are alive as
    // long as the window that they are put into.
    unsafe {
        let screen = foundation::objects(NSScreen::screens()).next()?;
        let frame = frame(NSScreen::visible_frame(screen), body);
        let style = if cfg!(target_os = "macos") { NON_ACTIVATING } else { 0 };
        let made = NSWindow::init_with_content(allocate(NSPanel::class()), frame, style, BUFFERED, false.into());
        let window = Owned::adopt(made)?;
        NSWindow::set_released_when_closed(window.id(), false.into());
        NSWindow::set_hides_on_deactivate(window.id(), false.into());
        NSWindow::set_level(window.id(), STATUS_LEVEL);
        if runtime::responds(window.id(), "setCollectionBehavior:") {
            NSWindow::set_collection_behavior(window.id(), EVERYWHERE);
        }
        let content = NSWindow::content_view(window.id());
        let size = frame.size;
        let inner = |y: f64, height: f64| Rect {
            origin: Point { x: PADDING, y },
            size: Size { width: size.width - 2.0 * PADDING, height },
        };
        let top = size.height - PADDING - LINE;
        for (words, frame, font) in
            [(title, inner(top, LINE), Some(NSFont::bold(13.0))), (body, inner(PADDING, top - PADDING - 2.0), None)]
        {
            let label = view(NSTextField::class(), frame)?;
            NSTextField::set_editable(label.id(), false.into());
            NSTextField::set_selectable(label.id(), false.into());
            NSTextField::set_bezeled(label.id(), false.into());
            NSTextField::set_draws_background(label.id(), false.into());
            font.into_iter().for_each(|font| NSControl::set_font(label.id(), font));
            NSControl::set_string_value(label.id(), string(words));
            NSView::add_subview(content, label.id());
        }
        // Over everything, unseen: a click anywhere.
        let everywhere = view(button_class().ok()?.0, Rect { origin: Point::default(), size })?;
        NSButton::set_transparent(everywhere.id(), true.into());
        NSButton::set_bordered(everywhere.id(), false.into());
        NSControl::set_target(everywhere.id(), target.0);
        NSControl::set_action(everywhere.id(), runtime::selector(OVER));
        NSView::add_subview(content, everywhere.id());
        NSWindow::order_front_regardless(window.id());
        Some(window)
    }
}

/// Where it stands: top right of what can be seen, as high as its text.
fn frame(seen: Rect, body: &str) -> Rect {
    let lines: usize = body.lines().map(|line| line.chars().count().div_ceil(CHARACTERS).max(1)).sum();
    let wanted = 2.0 * PADDING + LINE * (1 + lines) as f64 + 6.0;
    let size = Size { width: WIDTH, height: wanted.clamp(LEAST_HEIGHT, MOST_HEIGHT) };
    let x = seen.origin.x + seen.size.width - MARGIN - size.width;
    let y = seen.origin.y + seen.size.height - MARGIN - size.height;
    Rect { origin: Point { x, y }, size }
}

fn target() -> Result<Shared, Missing> {
    static TARGET: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        let class = class::define("OpenClawOverlay", &[], &[Method::action(OVER, is_over)])?;
        // SAFETY: a class of ours without state.
        Ok(unsafe { class::immortal(class) })
    };
    TARGET.get_or_init(make).clone()
}

/// Buttons that take the first click too, which otherwise only brings a window forward.
fn button_class() -> Result<Shared, Missing> {
    let methods = [Method::question("acceptsFirstMouse:", takes_it)];
    class::define_under(Library::AppKit, "NSButton", "OpenClawOverlayButton", &[], &methods)
}

unsafe extern "C-unwind" fn takes_it(_: Id, _: Sel, _: Id) -> Bool {
    true.into()
}

unsafe extern "C-unwind" fn is_over(_: Id, _: Sel, _: Id) {
    guarded((), || drop(SHOWN.take()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_top_right_and_is_as_high_as_its_text_within_bounds() {
        let seen = Rect { origin: Point { x: 100.0, y: 50.0 }, size: Size { width: 1000.0, height: 800.0 } };
        let short = frame(seen, "");
        assert_eq!((short.size.width, short.size.height), (WIDTH, LEAST_HEIGHT));
        assert_eq!((short.origin.x, short.origin.y + short.size.height), (1100.0 - 8.0 - 360.0, 850.0 - 8.0));
        assert!(frame(seen, &"word ".repeat(40)).size.height > LEAST_HEIGHT);
        assert_eq!(frame(seen, &"\n".repeat(500)).size.height, MOST_HEIGHT);
    }
}
