//! A panel that asks: it floats above other windows, is never modal, and shows all of its text.
//!
//! One panel for each question: the compatible library takes frame and content for each other when a hidden window is
//! shown again. Everything stands at fixed distances from the window's corners.

use super::application::{self, Input, NSEvent, current_input};
use super::{NSButton, NSControl, NSView, view};
use crate::class::{self, Method, guarded};
use crate::foundation::{NSNumber, Timer, array, dictionary, is_tracking, objects, string};
use crate::library::Missing;
use crate::main_thread::{MainThread, When, on_main};
use crate::runtime::{self, Bool, Id, NIL, Owned, Point, Range, Rect, Sel, Shared, Size, allocate, responds};
use std::cell::RefCell;
use std::sync::OnceLock;

objc_class! {
    NSWindow from AppKit {
        - init_with_content = "initWithContentRect:styleMask:backing:defer:" (content: Rect, style: usize, backing: usize, later: Bool) -> Id;
        - set_title = "setTitle:" (title: Id);
        - content_view = "contentView" () -> Id;
        - set_content_view = "setContentView:" (view: Id);
        - set_content_min_size = "setContentMinSize:" (size: Size);
        - set_level = "setLevel:" (level: isize);
        - set_collection_behavior = "setCollectionBehavior:" (behavior: usize);
        - set_released_when_closed = "setReleasedWhenClosed:" (released: Bool);
        - set_hides_on_deactivate = "setHidesOnDeactivate:" (hides: Bool);
        - set_min_size = "setMinSize:" (size: Size);
        - set_delegate = "setDelegate:" (delegate: Id);
        - set_default_button_cell = "setDefaultButtonCell:" (cell: Id);
        - make_first_responder = "makeFirstResponder:" (view: Id) -> Bool;
        - order_front_regardless = "orderFrontRegardless" ();
        - make_key_and_order_front = "makeKeyAndOrderFront:" (sender: Id);
        - close = "close" ();
        - center = "center" ();
        - frame = "frame" () -> Rect;
        - set_frame_origin = "setFrameOrigin:" (origin: Point);
        - set_frame = "setFrame:display:" (frame: Rect, display: Bool);
        - order_out = "orderOut:" (sender: Id);
        - window_number = "windowNumber" () -> isize;
    }
}

objc_class! {
    NSPanel from AppKit {}
}

objc_class! {
    NSScreen from AppKit {
        + screens = "screens" () -> Id;
        + main = "mainScreen" () -> Id;
        - frame = "frame" () -> Rect;
        - visible_frame = "visibleFrame" () -> Rect;
    }
}

objc_class! {
    NSTextField from AppKit {
        - set_editable = "setEditable:" (editable: Bool);
        - set_selectable = "setSelectable:" (selectable: Bool);
        - set_bezeled = "setBezeled:" (bezeled: Bool);
        - set_draws_background = "setDrawsBackground:" (draws: Bool);
        - set_text_color = "setTextColor:" (color: Id);
    }
}

objc_class! {
    NSText from AppKit {
        - set_editable = "setEditable:" (editable: Bool);
        - set_selectable = "setSelectable:" (selectable: Bool);
        - set_vertically_resizable = "setVerticallyResizable:" (resizable: Bool);
        - set_horizontally_resizable = "setHorizontallyResizable:" (resizable: Bool);
        - set_min_size = "setMinSize:" (size: Size);
        - set_max_size = "setMaxSize:" (size: Size);
        - size_to_fit = "sizeToFit" ();
        - scroll_to = "scrollRangeToVisible:" (range: Range);
    }
}

objc_class! {
    NSTextView from AppKit {
        - container = "textContainer" () -> Id;
        - layout_manager = "layoutManager" () -> Id;
        - storage = "textStorage" () -> Id;
        - set_container_inset = "setTextContainerInset:" (inset: Size);
    }
}

objc_class! {
    NSTextContainer from AppKit {
        - set_container_size = "setContainerSize:" (size: Size);
        - set_width_tracks_text_view = "setWidthTracksTextView:" (tracks: Bool);
    }
}

objc_class! {
    NSLayoutManager from AppKit {
        - glyphs_in = "glyphRangeForTextContainer:" (container: Id) -> Range;
    }
}

objc_class! {
    NSScrollView from AppKit {
        - set_document_view = "setDocumentView:" (view: Id);
        - set_has_vertical_scroller = "setHasVerticalScroller:" (has: Bool);
        - set_border_type = "setBorderType:" (border: usize);
        - content_size = "contentSize" () -> Size;
        - visible = "documentVisibleRect" () -> Rect;
    }
}

objc_class! {
    NSNotification from Foundation {
        - object = "object" () -> Id;
    }
}

objc_class! {
    NSImageView from AppKit {
        - set_image = "setImage:" (image: Id);
    }
}

objc_class! {
    NSFont from AppKit {
        + bold = "boldSystemFontOfSize:" (size: f64) -> Id;
        + monospaced = "monospacedSystemFontOfSize:weight:" (size: f64, weight: f64) -> Id;
        + fixed_pitch = "userFixedPitchFontOfSize:" (size: f64) -> Id;
    }
}

objc_class! {
    NSColor from AppKit {
        + text = "textColor" () -> Id;
        + system_red = "systemRedColor" () -> Id;
    }
}

objc_class! {
    NSMutableParagraphStyle from AppKit {
        - set_head_indent = "setHeadIndent:" (points: f64);
        - set_tab_stops = "setTabStops:" (stops: Id);
        - set_paragraph_spacing = "setParagraphSpacing:" (points: f64);
        - set_base_writing_direction = "setBaseWritingDirection:" (direction: isize);
    }
}

objc_class! {
    NSTextTab from AppKit {
        - init_with_type = "initWithType:location:" (kind: usize, location: f64) -> Id;
    }
}

objc_class! {
    NSMutableAttributedString from Foundation {
        - init_with_string = "initWithString:attributes:" (text: Id, attributes: Id) -> Id;
        - append = "appendAttributedString:" (text: Id);
        - set_attributed_string = "setAttributedString:" (text: Id);
    }
}

variables! { AppKit {
    /// A font.
    NSFontAttributeName: Id;
    /// Indents and tab stops.
    NSParagraphStyleAttributeName: Id;
    /// A colour.
    NSForegroundColorAttributeName: Id;
    /// Numbers of [`LEFT_TO_RIGHT_OVERRIDE`]'s kind.
    NSWritingDirectionAttributeName: Id;
} }

/// `NSWindowStyleMaskTitled`
const TITLED: usize = 1;
/// `NSWindowStyleMaskClosable`
const CLOSABLE: usize = 2;
/// `NSWindowStyleMaskResizable`
const RESIZABLE: usize = 8;
/// `NSWindowStyleMaskNonactivatingPanel`
const NON_ACTIVATING: usize = 128;
/// `NSBackingStoreBuffered`
const BUFFERED: usize = 2;
/// `NSModalPanelWindowLevel`
const MODAL_PANEL_LEVEL: isize = 8;
/// `NSWindowCollectionBehaviorCanJoinAllSpaces`
const CAN_JOIN_ALL_SPACES: usize = 1;
/// `NSWindowCollectionBehaviorFullScreenAuxiliary`
const FULL_SCREEN_AUXILIARY: usize = 256;
/// `NSViewMinXMargin`
const STICKS_RIGHT: usize = 1;
/// `NSViewWidthSizable`
const WIDE: usize = 2;
/// `NSViewMinYMargin`
const STICKS_TOP: usize = 8;
/// `NSViewHeightSizable`
const HIGH: usize = 16;
/// `NSViewMaxYMargin`
const STICKS_BOTTOM: usize = 32;
/// `NSBezelBorder`
const BEZEL_BORDER: usize = 2;
/// `NSBezelStylePush`
const PUSH_BEZEL: usize = 1;
/// `NSButtonTypeSwitch`
const SWITCH: usize = 3;
/// `NSControlStateValueOn`
const ON: isize = 1;
/// `NSLeftTabStopType`
const LEFT_TAB_STOP: usize = 0;
/// `NSWritingDirectionLeftToRight`
const LEFT_TO_RIGHT: isize = 0;
/// `NSWritingDirectionOverride`
const LEFT_TO_RIGHT_OVERRIDE: isize = 2;

/// The Escape key.
const ESCAPE: &str = "\u{1b}";
/// Seconds between two looks at the clock and at what has been scrolled to.
const TICK: f64 = 0.1;

/// Distances in points; tests find the buttons by them.
mod layout {
    pub(super) const WIDTH: f64 = 720.0;
    pub(super) const HEIGHT: f64 = 460.0;
    pub(super) const MARGIN: f64 = 16.0;
    pub(super) const ICON: f64 = 48.0;
    pub(super) const BUTTON_WIDTH: f64 = 130.0;
    pub(super) const BUTTON_HEIGHT: f64 = 30.0;
    pub(super) const GAP: f64 = 8.0;
    pub(super) const LINE: f64 = 20.0;
    /// Where the values of the rows begin, and each further line of them.
    pub(super) const VALUES: f64 = 96.0;
    pub(super) const FONT: f64 = 12.0;
}
use layout::{BUTTON_HEIGHT, BUTTON_WIDTH, FONT, GAP, HEIGHT, ICON, LINE, MARGIN, VALUES, WIDTH};

/// What a panel says and offers.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Of the window.
    pub title: String,
    /// The question, one line.
    pub headline: String,
    /// Label and text, each a line however long; without control characters. Labels have a column of their own, in
    /// which no text can stand.
    pub rows: Vec<(String, String)>,
    /// A box that the person must tick before anything is allowed.
    pub acknowledgement: Option<String>,
    /// From the right, at most five. The first is the refusal: Escape and the close box mean it. The others can be
    /// switched off.
    pub buttons: Vec<Button>,
}

/// One button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Button {
    /// What [`Happening::Pressed`] calls it.
    pub tag: isize,
    /// What it says.
    pub title: String,
}

/// What the person, or the clock, did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// A button was pressed, also one that is switched off: whoever is told decides what it means.
    Pressed(Press),
    /// Escape, or the close box of the panel with this window number.
    Closed(isize),
    /// The panel with this window number has got the keyboard.
    Focused(isize),
    /// A tenth of a second is over.
    Tick,
}

/// A button was pressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Press {
    /// Which.
    pub tag: isize,
    /// The number of the window that the button stands in.
    pub window: isize,
    /// Where the button stands in it.
    pub button: Rect,
    /// The event behind it, if there is one.
    pub input: Option<Input>,
}

/// Told what happens, on the main thread.
pub type Handler = fn(MainThread, Happening);

static HANDLER: OnceLock<Handler> = OnceLock::new();

thread_local! {
    /// Panels that are over and wait for a moment in which nothing is held.
    static RETIRED: RefCell<Vec<Panel>> = const { RefCell::new(Vec::new()) };
}

/// A panel on the screen.
pub struct Panel {
    window: Owned,
    scroll: Owned,
    text: Owned,
    subtitle: Owned,
    status: Owned,
    notice: Owned,
    acknowledgement: Option<Owned>,
    guarded: Vec<Owned>,
    number: isize,
    timer: Option<Timer>,
}

impl Panel {
    /// Shows `sheet`; `handler` is told what happens, the same one for all panels of the process. The guarded buttons
    /// are off.
    ///
    /// # Errors
    /// AppKit is not here.
    pub fn show(main: MainThread, sheet: &Sheet, handler: Handler) -> Result<Self, Missing> {
        HANDLER.get_or_init(|| handler);
        runtime::pooled(|| {
            // SAFETY: on the main thread; every view is alive as long as the window that it is put into.
            unsafe { Self::build(main, sheet) }.ok_or_else(|| Missing { name: "NSPanel".to_owned() })
        })
    }

    /// # Safety
    /// On the main thread, in a pool.
    unsafe fn build(_: MainThread, sheet: &Sheet) -> Option<Self> {
        let target = target().ok()?;
        // SAFETY: by the caller's promise; each message is sent to an object of the class that has it.
        unsafe {
            let window = window(&sheet.title, target)?;
            let content = NSWindow::content_view(window.id());
            let add = |class: Id, frame: Rect, mask: usize| {
                let view = view(class, frame)?;
                NSView::set_autoresizing_mask(view.id(), mask);
                NSView::add_subview(content, view.id());
                Some(view)
            };
            let label = |frame: Rect, mask: usize| {
                let label = add(NSTextField::class(), frame, mask)?;
                let off = [
                    NSTextField::set_editable,
                    NSTextField::set_selectable,
                    NSTextField::set_bezeled,
                    NSTextField::set_draws_background,
                ];
                for set in off {
                    set(label.id(), false.into());
                }
                Some(label)
            };
            let (beside, top) = (MARGIN + ICON + MARGIN, HEIGHT - MARGIN);
            let line = |x: f64, y: f64, lines: f64| rect(x, y, WIDTH - MARGIN - x, LINE * lines);
            let icon = add(NSImageView::class(), rect(MARGIN, top - ICON, ICON, ICON), STICKS_TOP)?;
            NSImageView::set_image(icon.id(), application::icon());
            let headline = label(line(beside, top - LINE - 4.0, 1.0), WIDE | STICKS_TOP)?;
            NSControl::set_font(headline.id(), NSFont::bold(FONT + 3.0));
            NSControl::set_string_value(headline.id(), string(&sheet.headline));
            let subtitle = label(line(beside, top - ICON, 1.0), WIDE | STICKS_TOP)?;
            let status = label(line(MARGIN, MARGIN + BUTTON_HEIGHT + GAP, 1.0), WIDE | STICKS_BOTTOM)?;
            let notice_y = MARGIN + BUTTON_HEIGHT + GAP + LINE;
            let notice = label(line(MARGIN, notice_y, 2.0), WIDE | STICKS_BOTTOM)?;
            NSTextField::set_text_color(notice.id(), NSColor::system_red());
            let mut bottom = notice_y + 2.0 * LINE + GAP;
            let mut acknowledgement = None;
            if let Some(words) = &sheet.acknowledgement {
                let switch = add(NSButton::class(), line(MARGIN, bottom, 1.0), WIDE | STICKS_BOTTOM)?;
                NSButton::set_button_type(switch.id(), SWITCH);
                NSButton::set_title(switch.id(), string(words));
                acknowledgement = Some(switch);
                bottom += LINE + GAP;
            }
            let frame = rect(MARGIN, bottom, WIDTH - 2.0 * MARGIN, top - ICON - GAP - bottom);
            let scroll = add(NSScrollView::class(), frame, WIDE | HIGH)?;
            let text = text_view(scroll.id(), &sheet.rows)?;
            let mut guarded = Vec::new();
            for (button, place) in sheet.buttons.iter().zip(1_u8..) {
                let x = WIDTH - MARGIN - f64::from(place) * BUTTON_WIDTH - f64::from(place - 1) * GAP;
                let made =
                    add(NSButton::class(), rect(x, MARGIN, BUTTON_WIDTH, BUTTON_HEIGHT), STICKS_RIGHT | STICKS_BOTTOM)?;
                NSButton::set_title(made.id(), string(&button.title));
                NSButton::set_bezel_style(made.id(), PUSH_BEZEL);
                NSButton::set_key_equivalent(made.id(), string(if place == 1 { ESCAPE } else { "" }));
                NSControl::set_target(made.id(), target.0);
                NSControl::set_action(made.id(), runtime::selector("press:"));
                NSControl::set_tag(made.id(), button.tag);
                if place > 1 {
                    NSControl::set_enabled(made.id(), false.into());
                    guarded.push(made);
                }
            }
            NSWindow::set_default_button_cell(window.id(), NIL);
            place(window.id());
            NSWindow::make_first_responder(window.id(), text.id());
            let mut panel = Self {
                window,
                scroll,
                text,
                subtitle,
                status,
                notice,
                acknowledgement,
                guarded,
                number: 0,
                timer: None,
            };
            // On a Mac a window that comes up by itself must not take the keyboard; elsewhere it does whatever is called.
            NSWindow::order_front_regardless(panel.window.id());
            if !cfg!(target_os = "macos") {
                panel.bring_forward();
            }
            panel.number = NSWindow::window_number(panel.window.id());
            panel.timer = Timer::start(TICK, target, "tick:").ok();
            Some(panel)
        }
    }

    /// The number of its window.
    pub fn number(&self) -> isize {
        self.number
    }

    /// Puts it before all other windows and gives it the keyboard: the person has asked for it.
    pub fn bring_forward(&self) {
        application::activate();
        // SAFETY: a live window, on the main thread, which panels never leave.
        unsafe { NSWindow::make_key_and_order_front(self.window.id(), NIL) }
    }

    /// The line below the headline.
    pub fn set_subtitle(&self, text: &str) {
        set_text(&self.subtitle, text);
    }

    /// The line above the buttons.
    pub fn set_status(&self, text: &str) {
        set_text(&self.status, text);
    }

    /// Why a press does not count, in red.
    pub fn set_notice(&self, text: &str) {
        set_text(&self.notice, text);
    }

    /// Switches the guarded buttons on or off.
    pub fn set_enabled(&self, enabled: bool) {
        for button in &self.guarded {
            // SAFETY: a live button, on the main thread.
            unsafe { NSControl::set_enabled(button.id(), enabled.into()) }
        }
    }

    /// Whether the last line of the text can be seen now.
    pub fn shows_end(&self) -> bool {
        // SAFETY: live views, on the main thread.
        let (visible, text) = unsafe { (NSScrollView::visible(self.scroll.id()), NSView::frame(self.text.id())) };
        visible.size.height > 0.0 && visible.origin.y + visible.size.height >= text.size.height - 2.0
    }

    /// Whether the box is ticked, if there is one.
    pub fn is_acknowledged(&self) -> bool {
        // SAFETY: a live button, on the main thread.
        self.acknowledgement.as_ref().is_none_or(|switch| unsafe { NSButton::state(switch.id()) } == ON)
    }

    /// Takes it off the screen: as soon as nothing is held, and ends the holding.
    pub fn retire(mut self) {
        self.timer = None;
        self.set_enabled(false);
        let number = self.number;
        RETIRED.with(|retired| retired.borrow_mut().push(self));
        if is_tracking() {
            // Each of the two alone was seen to come late.
            application::let_go(number);
            let _gone = on_main(When::Now, move |_| application::let_go(number));
        }
        let _gone = on_main(When::Idle, |_| drop(RETIRED.take()));
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        // SAFETY: a live window on the main thread; nothing calls us for it from now on.
        unsafe {
            NSWindow::set_delegate(self.window.id(), NIL);
            NSWindow::close(self.window.id());
        }
    }
}

/// # Safety
/// On the main thread, in a pool.
unsafe fn window(title: &str, delegate: Shared) -> Option<Owned> {
    // Elsewhere the last bit means a small window without a title.
    let activation = if cfg!(target_os = "macos") { NON_ACTIVATING } else { 0 };
    // SAFETY: by the caller's promise; allocated and initialised at once.
    unsafe {
        let style = TITLED | CLOSABLE | RESIZABLE | activation;
        let frame = rect(0.0, 0.0, WIDTH, HEIGHT);
        let made = NSWindow::init_with_content(allocate(NSPanel::class()), frame, style, BUFFERED, false.into());
        let window = Owned::adopt(made)?;
        NSWindow::set_released_when_closed(window.id(), false.into());
        NSWindow::set_hides_on_deactivate(window.id(), false.into());
        NSWindow::set_level(window.id(), MODAL_PANEL_LEVEL);
        NSWindow::set_collection_behavior(window.id(), CAN_JOIN_ALL_SPACES | FULL_SCREEN_AUXILIARY);
        NSWindow::set_min_size(window.id(), Size { width: WIDTH, height: HEIGHT });
        NSWindow::set_delegate(window.id(), delegate.0);
        NSWindow::set_title(window.id(), string(title));
        Some(window)
    }
}

/// In the middle of the screen that the mouse is on. Before the window is first shown.
///
/// # Safety
/// As [`window`].
unsafe fn place(window: Id) {
    // SAFETY: by the caller's promise.
    unsafe {
        NSWindow::center(window);
        let mouse = NSEvent::mouse_location();
        if let Some(screen) = objects(NSScreen::screens()).find(|screen| NSScreen::frame(*screen).contains(mouse)) {
            let (free, frame) = (NSScreen::visible_frame(screen), NSWindow::frame(window));
            let middle = |start: f64, length: f64, own: f64| (start + (length - own) / 2.0).round();
            let x = middle(free.origin.x, free.size.width, frame.size.width);
            let y = middle(free.origin.y, free.size.height, frame.size.height);
            NSWindow::set_frame_origin(window, Point { x, y });
        }
    }
}

/// The text in `scroll`, laid out and seen from its beginning.
///
/// # Safety
/// As [`window`]; `scroll` is a scroll view.
unsafe fn text_view(scroll: Id, rows: &[(String, String)]) -> Option<Owned> {
    const ENDLESS: f64 = 1e7;
    // SAFETY: by the caller's promise.
    unsafe {
        NSScrollView::set_has_vertical_scroller(scroll, true.into());
        NSScrollView::set_border_type(scroll, BEZEL_BORDER);
        let size = NSScrollView::content_size(scroll);
        let text = view(NSTextView::class(), Rect { origin: Point::default(), size })?;
        NSText::set_min_size(text.id(), Size { width: 0.0, height: size.height });
        NSText::set_max_size(text.id(), Size { width: ENDLESS, height: ENDLESS });
        NSText::set_vertically_resizable(text.id(), true.into());
        NSText::set_horizontally_resizable(text.id(), false.into());
        NSView::set_autoresizing_mask(text.id(), WIDE);
        NSTextView::set_container_inset(text.id(), Size { width: 4.0, height: 6.0 });
        let container = NSTextView::container(text.id());
        NSTextContainer::set_container_size(container, Size { width: size.width, height: ENDLESS });
        NSTextContainer::set_width_tracks_text_view(container, true.into());
        NSText::set_editable(text.id(), false.into());
        NSText::set_selectable(text.id(), true.into());
        let words = attributed(rows)?;
        NSMutableAttributedString::set_attributed_string(NSTextView::storage(text.id()), words.id());
        NSScrollView::set_document_view(scroll, text.id());
        // Laid out to its end: what is not laid out has no height, and its end would seem to be in sight.
        NSLayoutManager::glyphs_in(NSTextView::layout_manager(text.id()), container);
        NSText::size_to_fit(text.id());
        NSText::scroll_to(text.id(), Range::default());
        Some(text)
    }
}

/// Label, tab, text: bold, and in a fixed-width font that is never drawn from right to left.
///
/// # Safety
/// As [`window`].
unsafe fn attributed(rows: &[(String, String)]) -> Option<Owned> {
    // SAFETY: by the caller's promise; what is passed on is alive or nil, and dictionaries leave nil out.
    unsafe {
        let style = runtime::new(NSMutableParagraphStyle::class())?;
        NSMutableParagraphStyle::set_head_indent(style.id(), VALUES);
        NSMutableParagraphStyle::set_paragraph_spacing(style.id(), GAP / 2.0);
        NSMutableParagraphStyle::set_base_writing_direction(style.id(), LEFT_TO_RIGHT);
        let tab = Owned::adopt(NSTextTab::init_with_type(allocate(NSTextTab::class()), LEFT_TAB_STOP, VALUES))?;
        NSMutableParagraphStyle::set_tab_stops(style.id(), array(&[tab.id()]));
        let fixed = if responds(NSFont::class(), "monospacedSystemFontOfSize:weight:") {
            NSFont::monospaced(FONT, 0.0)
        } else {
            NSFont::fixed_pitch(FONT)
        };
        let direction = array(&[NSNumber::with_integer(LEFT_TO_RIGHT_OVERRIDE)]);
        let attributes = |font: Id| {
            dictionary(&[
                (NSFontAttributeName().unwrap_or(NIL), font),
                (NSParagraphStyleAttributeName().unwrap_or(NIL), style.id()),
                (NSForegroundColorAttributeName().unwrap_or(NIL), NSColor::text()),
                (NSWritingDirectionAttributeName().unwrap_or(NIL), direction),
            ])
        };
        let piece = |text: &str, attributes: Id| {
            let made = allocate(NSMutableAttributedString::class());
            Owned::adopt(NSMutableAttributedString::init_with_string(made, string(text), attributes))
        };
        let (bold, fixed) = (attributes(NSFont::bold(FONT)), attributes(fixed));
        let whole = piece("", bold)?;
        for (index, (label, text)) in rows.iter().enumerate() {
            let label = if index == 0 { format!("{label}\t") } else { format!("\n{label}\t") };
            for (words, attributes) in [(&label, bold), (text, fixed)] {
                NSMutableAttributedString::append(whole.id(), piece(words, attributes)?.id());
            }
        }
        Some(whole)
    }
}

fn rect(x: f64, y: f64, width: f64, height: f64) -> Rect {
    Rect { origin: Point { x, y }, size: Size { width, height } }
}

impl Rect {
    /// Whether a point lies in it.
    pub fn contains(&self, point: Point) -> bool {
        let within = |start: f64, length: f64, at: f64| at >= start && at <= start + length;
        within(self.origin.x, self.size.width, point.x) && within(self.origin.y, self.size.height, point.y)
    }
}

fn set_text(label: &Owned, text: &str) {
    // SAFETY: a live label, on the main thread.
    runtime::pooled(|| unsafe { NSControl::set_string_value(label.id(), string(text)) });
}

/// The one object that buttons, timers and windows of panels call.
fn target() -> Result<Shared, Missing> {
    static TARGET: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        let methods = [
            Method::action("press:", press),
            Method::action("tick:", tick),
            Method::action("cancelOperation:", cancel),
            Method::action("windowDidBecomeKey:", focused),
            Method::question("windowShouldClose:", should_close),
        ];
        // SAFETY: a class of ours without state.
        class::define("OpenClawPanel", &["NSWindowDelegate"], &methods).map(|class| unsafe { class::immortal(class) })
    };
    TARGET.get_or_init(make).clone()
}

fn tell(happening: Happening) {
    if let (Some(handler), Some(main)) = (HANDLER.get(), MainThread::here()) {
        handler(main, happening);
    }
}

extern "C-unwind" fn press(_: Id, _: Sel, sender: Id) {
    guarded((), || {
        // SAFETY: the button that was pressed, alive during its action, on the main thread.
        let (tag, window, button) =
            unsafe { (NSControl::tag(sender), NSWindow::window_number(NSView::window(sender)), NSView::frame(sender)) };
        tell(Happening::Pressed(Press { tag, window, button, input: current_input() }));
    });
}

extern "C-unwind" fn tick(_: Id, _: Sel, _: Id) {
    guarded((), || tell(Happening::Tick));
}

extern "C-unwind" fn cancel(_: Id, _: Sel, sender: Id) {
    guarded((), || {
        // SAFETY: whatever passes Escape on is a view, or something that is none and has no window.
        let window = unsafe { if responds(sender, "window") { NSView::window(sender) } else { NIL } };
        // SAFETY: a live window or nil.
        tell(Happening::Closed(unsafe { NSWindow::window_number(window) }));
    });
}

extern "C-unwind" fn focused(_: Id, _: Sel, notification: Id) {
    // SAFETY: a notification about a window, both alive during the call.
    guarded((), || tell(Happening::Focused(unsafe { NSWindow::window_number(NSNotification::object(notification)) })));
}

extern "C-unwind" fn should_close(_: Id, _: Sel, window: Id) -> Bool {
    // SAFETY: the window that asks, alive meanwhile. It is closed by us, after this call.
    guarded((), || tell(Happening::Closed(unsafe { NSWindow::window_number(window) })));
    false.into()
}
