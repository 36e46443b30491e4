//! Seeing a desktop and acting on it: one trait, implemented once a window system.
//!
//! Who asks has been checked before (signature, operation, permission). What a backend must see to
//! itself, at the moment of each action: nothing may reach a window of this process, whether by point,
//! by focus or by element ([`Failure::OwnPrompt`], H04), and an action that names what it expects to hit
//! hits nothing else ([`Failure::Stale`], A136).
//!
//! Points are global, of all screens together, the origin in the main screen's upper left corner, y
//! downwards, as `CGEvent` has them; they may be negative.

use crate::protocol::peekaboo::{Request, Response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A place on the desktop, points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Downwards.
    pub y: f64,
}

/// Extent, points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    /// To the right.
    pub width: f64,
    /// Downwards.
    pub height: f64,
}

/// A rectangle on the desktop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Upper left corner.
    pub origin: Point,
    /// Extent.
    pub size: Size,
}

impl Rect {
    /// Its middle: where an element is clicked.
    pub fn center(&self) -> Point {
        Point { x: self.origin.x + self.size.width / 2.0, y: self.origin.y + self.size.height / 2.0 }
    }

    /// Whether `point` lies in it; the right and lower edges do not.
    pub fn contains(&self, point: Point) -> bool {
        let (x, y) = (point.x - self.origin.x, point.y - self.origin.y);
        x >= 0.0 && y >= 0.0 && x < self.size.width && y < self.size.height
    }
}

/// What the owner of the Mac has granted this app, and what an operation may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Seeing the screen's contents.
    ScreenRecording,
    /// Reading and operating other programs' interface.
    Accessibility,
    /// Sending keys and clicks to one program.
    EventPosting,
    /// Telling other programs what to do, by Apple events.
    AppleScript,
}

/// Which of them are granted. On systems without such grants: all, where the backend works at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// See [`Permission::ScreenRecording`].
    pub screen_recording: bool,
    /// See [`Permission::Accessibility`].
    pub accessibility: bool,
    /// See [`Permission::EventPosting`].
    pub event_posting: bool,
    /// See [`Permission::AppleScript`].
    pub apple_script: bool,
}

impl Permissions {
    /// Everything.
    pub const ALL: Self = Self { screen_recording: true, accessibility: true, event_posting: true, apple_script: true };

    /// Whether this one is granted.
    pub fn has(&self, permission: Permission) -> bool {
        match permission {
            Permission::ScreenRecording => self.screen_recording,
            Permission::Accessibility => self.accessibility,
            Permission::EventPosting => self.event_posting,
            Permission::AppleScript => self.apple_script,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The owner has not granted this.
    Permission(Permission),
    /// No such application, window, screen or element; which.
    NotFound(String),
    /// The request makes no sense; why.
    Invalid(String),
    /// This backend cannot do it; what.
    NotSupported(String),
    /// The desktop or the other program did not answer in time.
    Timeout,
    /// What was to be hit is not there any more, or something else is; what is there.
    Stale(String),
    /// It would have reached a prompt or another window of this process (H04).
    OwnPrompt,
    /// The window system's refusal.
    Internal(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(permission) => write!(f, "the permission {permission} is not granted"),
            Self::NotFound(what) => write!(f, "there is no {what}"),
            Self::Invalid(why) => f.write_str(why),
            Self::NotSupported(what) => write!(f, "{what} is not possible on this desktop"),
            Self::Timeout => f.write_str("the desktop did not answer in time"),
            Self::Stale(what) => write!(f, "the desktop has changed: {what}; look again before acting"),
            Self::OwnPrompt => f.write_str("it would reach a window of OpenClaw itself, which only a person may use"),
            Self::Internal(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScreenRecording => "Screen Recording",
            Self::Accessibility => "Accessibility",
            Self::EventPosting => "Event Posting",
            Self::AppleScript => "Automation (System Events)",
        })
    }
}

/// What a backend can do. The bridge's handshake advertises an operation only when all that it needs is among
/// [`Automation::abilities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// [`Automation::capture`] of screens and areas, and [`Automation::screens`].
    CaptureScreen,
    /// [`Automation::capture`] of one window.
    CaptureWindow,
    /// [`Automation::applications`].
    Applications,
    /// [`Automation::windows`] and [`Automation::window_at`].
    Windows,
    /// [`Automation::pointer`].
    Pointer,
    /// [`Automation::scroll`].
    Scroll,
    /// [`Automation::type_text`] and [`Automation::press`].
    Keyboard,
    /// [`Automation::pointer`] and [`Automation::press`] with a process to send them to.
    Targeted,
    /// [`Automation::clipboard`] and [`Automation::set_clipboard`].
    Clipboard,
    /// [`WindowChange::Focus`].
    FocusWindow,
    /// [`WindowChange::Place`].
    PlaceWindow,
    /// [`WindowChange::Close`].
    CloseWindow,
    /// [`WindowChange::Minimize`].
    MinimizeWindow,
    /// [`WindowChange::Maximize`].
    MaximizeWindow,
    /// [`Automation::launch`].
    Launch,
    /// [`ApplicationChange::Activate`].
    Activate,
    /// [`ApplicationChange::Hide`] and [`ApplicationChange::Unhide`].
    Hide,
    /// [`ApplicationChange::Quit`].
    Quit,
    /// [`Automation::elements`].
    Elements,
    /// [`Automation::set_value`] and [`Automation::perform`].
    ElementActions,
    /// Menus of the menu bar.
    Menus,
    /// Status items at the right of the menu bar.
    MenuExtras,
    /// The Dock.
    Dock,
    /// Dialogs and sheets.
    Dialogs,
}

/// One screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Screen {
    /// As the system calls it.
    pub name: Option<String>,
    /// Where it lies, points.
    pub bounds: Rect,
    /// Pixels a point.
    pub scale: f64,
}

/// A running program that a person could see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    /// Process.
    pub pid: i32,
    /// As it is shown.
    pub name: String,
    /// `com.example.Editor`; on X11 the class.
    pub bundle_id: Option<String>,
    /// Where it is installed.
    pub path: Option<String>,
    /// Has the focus.
    pub active: bool,
    /// All its windows are hidden.
    pub hidden: bool,
    /// How it takes part in the desktop.
    pub presence: Presence,
}

/// How a program takes part in the desktop (`NSApplicationActivationPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// With windows and in the Dock.
    #[default]
    Regular,
    /// Without a place in the Dock.
    Accessory,
    /// Not at all.
    Background,
}

/// Identifies a window among those of all programs (`CGWindowID`, X11 window).
pub type WindowId = u32;

/// One window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Its number.
    pub id: WindowId,
    /// Whose it is; 0 where the system does not say.
    pub pid: i32,
    /// Its title.
    pub title: String,
    /// Where it lies, points.
    pub bounds: Rect,
    /// Put away.
    pub minimized: bool,
    /// Its program's main one.
    pub main: bool,
    /// Has the keyboard.
    pub focused: bool,
    /// Visible, even if covered.
    pub on_screen: bool,
    /// Layer: 0 is the ordinary one, higher ones lie before it.
    pub level: i32,
    /// 0 transparent, 1 opaque.
    pub alpha: f64,
}

/// What is captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// One screen, by its place in [`Automation::screens`].
    Screen(usize),
    /// One window, whole even where others cover it (as far as the system can).
    Window(WindowId),
    /// A rectangle.
    Rect(Rect),
}

/// How many pixels a capture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// One a point.
    Logical,
    /// As many as the screen.
    Native,
}

/// A captured image.
#[derive(Clone, PartialEq)]
pub struct Image {
    /// A PNG file.
    pub png: Vec<u8>,
    /// Pixels to the right.
    pub width: u32,
    /// Pixels downwards.
    pub height: u32,
}

/// A button of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// The main one.
    Left,
    /// For the context menu.
    Right,
}

/// What the pointer does.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointer {
    /// Goes there and clicks.
    Click {
        /// Where.
        at: Point,
        /// With which button.
        button: Button,
        /// How often in a row.
        count: u32,
    },
    /// Goes along these points, one each `pause`.
    Move {
        /// Not empty; the last one is where it ends.
        path: Vec<Point>,
        /// Between two of them.
        pause: Duration,
    },
    /// The same with the left button held down from the first point to the last, and these keys.
    Drag {
        /// Not empty.
        path: Vec<Point>,
        /// Between two of them.
        pause: Duration,
        /// Held down meanwhile.
        modifiers: Modifiers,
    },
}

/// What an action expects to hit; anything else there is [`Failure::Stale`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The program that owns what is hit.
    pub pid: Option<i32>,
    /// The window that is hit.
    pub window: Option<WindowId>,
}

/// Keys that change others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// ⌘; on X11 Super.
    pub command: bool,
    /// ⌃
    pub control: bool,
    /// ⌥; on X11 Alt.
    pub option: bool,
    /// ⇧
    pub shift: bool,
    /// fn
    pub function: bool,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key that bears this character on the ANSI layout: `a`–`z`, `0`–`9`, ``=-[]';\,/.` ``.
    Character(char),
    /// A function key: 1–12.
    Function(u8),
    /// Return
    Return,
    /// Tab
    Tab,
    /// Space
    Space,
    /// Backwards: Backspace.
    Delete,
    /// Forwards: Delete.
    ForwardDelete,
    /// Escape
    Escape,
    /// Caps Lock
    CapsLock,
    /// Clear, of the number pad
    Clear,
    /// Help; on X11 also Insert's place.
    Help,
    /// Home
    Home,
    /// End
    End,
    /// Page Up
    PageUp,
    /// Page Down
    PageDown,
    /// ←
    Left,
    /// →
    Right,
    /// ↑
    Up,
    /// ↓
    Down,
}

/// Where content moves to when it is scrolled: `Down` shows what is further down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the beginning.
    Up,
    /// Towards the end.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
}

/// One scrolling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scroll {
    /// Where the pointer goes first; else it stays.
    pub at: Option<Point>,
    /// To where.
    pub direction: Direction,
    /// How far: turns of the wheel by one notch (10 units on macOS).
    pub ticks: u32,
    /// In ten small steps a notch, where the system can.
    pub smooth: bool,
    /// Between two steps.
    pub pause: Duration,
}

/// What is done to a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WindowChange {
    /// To the front, with the keyboard.
    Focus,
    /// To this place, this size, or both.
    Place(Option<Point>, Option<Size>),
    /// As by its close button.
    Close,
    /// As by its button.
    Minimize,
    /// As by its button.
    Maximize,
}

/// What is done to a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplicationChange {
    /// To the front.
    Activate,
    /// Its windows disappear.
    Hide,
    /// They come back.
    Unhide,
    /// It is asked to end; or ended.
    Quit {
        /// Without asking.
        force: bool,
    },
}

/// Where elements are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementScope {
    /// In this program; else in the one in front.
    pub pid: Option<i32>,
    /// In this window of it; else in its focused or first one.
    pub window: Option<WindowId>,
    /// Levels of the tree.
    pub max_depth: usize,
    /// Elements altogether.
    pub max_elements: usize,
    /// Children of one element.
    pub max_children: usize,
}

/// What an element is, as far as callers tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum ElementKind {
    Button,
    TextField,
    Link,
    Image,
    Group,
    Slider,
    Checkbox,
    Menu,
    StaticText,
    RadioButton,
    MenuItem,
    Window,
    Dialog,
    #[default]
    Other,
}

/// An element of a program's interface, as it was when it was looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Element {
    /// How the backend finds it again; means nothing to others.
    pub handle: String,
    /// Whose it is.
    pub pid: i32,
    /// In which window, where known.
    pub window: Option<WindowId>,
    /// What it is.
    pub kind: ElementKind,
    /// The best text to call it by.
    pub label: Option<String>,
    /// Its value; never of a field for secrets.
    pub value: Option<String>,
    /// Where it lies, points.
    pub bounds: Rect,
    /// Reacts.
    pub enabled: bool,
    /// Is chosen or switched on.
    pub selected: Option<bool>,
    /// More to find it by: `role`, `identifier`, `title`, `description`, `placeholder`, …
    pub attributes: Vec<(&'static str, String)>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elements {
    /// In the order of the tree.
    pub elements: Vec<Element>,
    /// The program that was looked at.
    pub application: Application,
    /// The window that was looked at.
    pub window: Option<Window>,
    /// That window is a dialog.
    pub dialog: bool,
    /// Which of the three bounds of [`ElementScope`] were reached, in its order.
    pub truncated: [bool; 3],
}

/// A new value for an element.
#[derive(Clone, Debug, PartialEq)]
pub enum ElementValue {
    /// A check mark.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number.
    Double(f64),
    /// A text.
    Text(String),
}

/// Result of a call.
pub type Done<T = ()> = Result<T, Failure>;

fn not_supported<T>(what: &str) -> Done<T> {
    Err(Failure::NotSupported(what.to_owned()))
}

/// One window system. All calls block, may come from several threads at once and return within seconds.
/// What a backend does not override answers [`Failure::NotSupported`].
#[allow(unused_variables)] // The default methods use none of their arguments.
pub trait Automation: Send + Sync {
    /// What it can do here and now, grants aside.
    fn abilities(&self) -> &[Ability];

    /// What the owner has granted, looked up at each call. Never asks.
    fn permissions(&self) -> Permissions;

    /// Asks the owner for [`Permission::EventPosting`], by the system's own question. Whether it is granted now.
    fn request_event_posting(&self) -> Done<bool> {
        Ok(self.permissions().event_posting)
    }

    /// The screens, the main one first.
    fn screens(&self) -> Done<Vec<Screen>> {
        not_supported("listing screens")
    }

    /// Running programs, the background ones too.
    fn applications(&self) -> Done<Vec<Application>> {
        not_supported("listing applications")
    }

    /// Windows of all programs, from front to back.
    fn windows(&self) -> Done<Vec<Window>> {
        not_supported("listing windows")
    }

    /// The frontmost window under a point, our own included.
    fn window_at(&self, point: Point) -> Done<Option<Window>> {
        let windows = self.windows()?;
        Ok(windows.into_iter().find(|window| window.on_screen && window.bounds.contains(point)))
    }

    /// An image of `area`.
    fn capture(&self, area: Area, scale: Scale) -> Done<Image> {
        not_supported("capturing the screen")
    }

    /// Where the pointer is.
    fn pointer_position(&self) -> Done<Point> {
        not_supported("asking where the pointer is")
    }

    /// Moves the pointer and its buttons; `to` sends the events to one program instead of to whatever lies there.
    fn pointer(&self, action: &Pointer, to: Option<i32>, expected: Expected) -> Done {
        not_supported("moving the pointer")
    }

    /// Turns the wheel.
    fn scroll(&self, scroll: &Scroll, expected: Expected) -> Done {
        not_supported("scrolling")
    }

    /// Types a text into whatever has the keyboard, one character each `pause`.
    fn type_text(&self, text: &str, pause: Duration, expected: Expected) -> Done {
        not_supported("typing")
    }

    /// Presses one key together with modifiers; `to` sends it to one program.
    fn press(&self, key: Key, modifiers: Modifiers, hold: Duration, to: Option<i32>, expected: Expected) -> Done {
        not_supported("pressing keys")
    }

    /// The clipboard's text.
    fn clipboard(&self) -> Done<String> {
        not_supported("reading the clipboard")
    }

    /// Puts a text on the clipboard.
    fn set_clipboard(&self, text: &str) -> Done {
        not_supported("writing the clipboard")
    }

    /// Changes a window.
    fn change_window(&self, window: WindowId, change: WindowChange) -> Done {
        not_supported("managing windows")
    }

    /// Changes a running program. Whether it did as told.
    fn change_application(&self, pid: i32, change: ApplicationChange) -> Done<bool> {
        not_supported("managing applications")
    }

    /// Starts a program by bundle id, name or path, or brings forward the one that runs.
    fn launch(&self, identifier: &str) -> Done<Application> {
        not_supported("starting applications")
    }

    /// What a program's interface consists of.
    fn elements(&self, scope: &ElementScope) -> Done<Elements> {
        not_supported("reading the interface of programs")
    }

    /// Sets an element's value, never of a field for secrets. The old and the new value as texts.
    fn set_value(&self, element: &Element, value: &ElementValue) -> Done<(Option<String>, Option<String>)> {
        not_supported("setting values")
    }

    /// Performs an action of an element, such as `AXPress`.
    fn perform(&self, element: &Element, action: &str) -> Done {
        not_supported("performing actions of elements")
    }

    /// Menus, status items, the Dock, dialogs: what the bridge only carries through is not translated
    /// twice. `request` is of an operation of [`Ability::Menus`], [`Ability::MenuExtras`],
    /// [`Ability::Dock`] or [`Ability::Dialogs`], and the answer is of the case that belongs to it.
    fn carry_out(&self, request: &Request) -> Done<Response> {
        not_supported("this")
    }
}

/// No desktop: nothing can be seen and nothing done.
pub struct NoDesktop;

impl Automation for NoDesktop {
    fn abilities(&self) -> &[Ability] {
        &[]
    }

    fn permissions(&self) -> Permissions {
        Permissions::default()
    }
}

/// The desktop that this process belongs to, [`NoDesktop`] where there is none.
pub fn open() -> Arc<dyn Automation> {
    if let Some(mac) = super::mac_automation::open() {
        return mac;
    }
    #[cfg(target_os = "linux")]
    if std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty()) {
        return Arc::new(super::x11::X11::new(None));
    }
    Arc::new(NoDesktop)
}
