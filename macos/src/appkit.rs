//! AppKit: the application, a panel that asks, menus. All of it belongs to the main thread.

pub mod application;
pub mod menu;
pub mod overlay;
pub mod panel;
pub mod session;

use crate::runtime::{Bool, Id, Owned, Rect, Sel, allocate};

objc_class! {
    NSView from AppKit {
        - init_with_frame = "initWithFrame:" (frame: Rect) -> Id;
        - add_subview = "addSubview:" (view: Id);
        - set_autoresizing_mask = "setAutoresizingMask:" (mask: usize);
        - frame = "frame" () -> Rect;
        - window = "window" () -> Id;
    }
}

objc_class! {
    NSControl from AppKit {
        - set_target = "setTarget:" (target: Id);
        - set_action = "setAction:" (action: Sel);
        - set_tag = "setTag:" (tag: isize);
        - tag = "tag" () -> isize;
        - set_enabled = "setEnabled:" (enabled: Bool);
        - set_font = "setFont:" (font: Id);
        - set_string_value = "setStringValue:" (text: Id);
    }
}

objc_class! {
    NSButton from AppKit {
        - set_title = "setTitle:" (title: Id);
        - set_image = "setImage:" (image: Id);
        - set_bezel_style = "setBezelStyle:" (style: usize);
        - set_button_type = "setButtonType:" (kind: usize);
        - set_key_equivalent = "setKeyEquivalent:" (key: Id);
        - set_transparent = "setTransparent:" (transparent: Bool);
        - set_bordered = "setBordered:" (bordered: Bool);
        - state = "state" () -> isize;
    }
}

/// A view of this class with this frame; none when the class is not here.
///
/// # Safety
/// `class` is nil or a class of views; on the main thread.
unsafe fn view(class: Id, frame: Rect) -> Option<Owned> {
    // SAFETY: allocated here and initialised at once; the reference is ours.
    unsafe { Owned::adopt(NSView::init_with_frame(allocate(class), frame)) }
}
