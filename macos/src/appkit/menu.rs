//! The item in the menu bar and its menu. Where there is no menu bar to be in, the menu is the application's main menu.

use super::NSButton;
use super::application::NSApplication;
use crate::class::{self, Method, guarded};
use crate::foundation::string;
use crate::library::Missing;
use crate::main_thread::MainThread;
use crate::runtime::{self, Bool, Id, NIL, Owned, Sel, Shared, allocate, responds};
use std::cell::RefCell;
use std::sync::OnceLock;

objc_class! {
    NSMenu from AppKit {
        - init_with_title = "initWithTitle:" (title: Id) -> Id;
        - add_item = "addItem:" (item: Id);
        - set_autoenables_items = "setAutoenablesItems:" (enables: Bool);
        - count = "numberOfItems" () -> isize;
        - remove_item_at = "removeItemAtIndex:" (index: isize);
    }
}

objc_class! {
    NSMenuItem from AppKit {
        - init_with_title = "initWithTitle:action:keyEquivalent:" (title: Id, action: Sel, key: Id) -> Id;
        + separator = "separatorItem" () -> Id;
        - set_target = "setTarget:" (target: Id);
        - set_tag = "setTag:" (tag: isize);
        - tag = "tag" () -> isize;
        - set_state = "setState:" (state: isize);
        - set_enabled = "setEnabled:" (enabled: Bool);
        - set_submenu = "setSubmenu:" (menu: Id);
    }
}

objc_class! {
    NSStatusBar from AppKit {
        + system = "systemStatusBar" () -> Id;
        - item = "statusItemWithLength:" (length: f64) -> Id;
    }
}

objc_class! {
    NSStatusItem from AppKit {
        - button = "button" () -> Id;
        - set_menu = "setMenu:" (menu: Id);
    }
}

objc_class! {
    NSImage from AppKit {
        + symbol = "imageWithSystemSymbolName:accessibilityDescription:" (name: Id, description: Id) -> Id;
        - set_template = "setTemplate:" (template: Bool);
        - tiff = "TIFFRepresentation" () -> Id;
    }
}

/// `NSVariableStatusItemLength`
const VARIABLE_LENGTH: f64 = -1.0;

/// One line of a menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What it says; empty for a line between two groups.
    pub title: String,
    /// What is told when it is chosen; 0 for a line that only says something.
    pub tag: isize,
    /// Whether it has a check mark.
    pub is_checked: bool,
    /// Its own menu; empty for none. These have none of their own.
    pub items: Vec<Item>,
}

/// Told the tag of the item that was chosen, on the main thread.
pub type Chosen = fn(MainThread, isize);

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

struct Shown {
    menu: Owned,
    status_item: Option<Owned>,
    /// Lines with a menu of their own, kept for ever: the compatible library still looks at one that is open when its line
    /// is long gone.
    groups: Vec<Group>,
}

struct Group {
    title: String,
    item: Owned,
    menu: Owned,
}

thread_local! {
    static SHOWN: RefCell<Option<Shown>> = const { RefCell::new(None) };
}

/// Shows `items` in the place of those that were shown, with the symbol of this name in the menu bar. To be called while
/// nothing is held.
///
/// # Errors
/// AppKit is not here.
pub fn show(_: MainThread, symbol: &str, description: &str, items: &[Item], chosen: Chosen) -> Result<(), Missing> {
    CHOSEN.get_or_init(|| chosen);
    let missing = || Missing { name: "NSMenu".to_owned() };
    runtime::pooled(|| {
        SHOWN.with(|slot| {
            let Ok(mut slot) = slot.try_borrow_mut() else { return Ok(()) };
            // SAFETY: on the main thread, in a pool.
            unsafe {
                let shown = match slot.take() {
                    Some(shown) => shown,
                    None => install().ok_or_else(missing)?,
                };
                let shown = slot.insert(shown);
                shown.fill(items).ok_or_else(missing)?;
                if let Some(item) = &shown.status_item {
                    set_symbol(item.id(), symbol, description);
                }
            }
            Ok(())
        })
    })
}

/// # Safety
/// On the main thread, in a pool.
unsafe fn install() -> Option<Shown> {
    // SAFETY: by the caller's promise; what is shown is kept.
    unsafe {
        let application = NSApplication::shared();
        let bar = NSStatusBar::system();
        let menu = new_menu("OpenClaw")?;
        if bar.is_null() {
            NSApplication::set_main_menu(application, menu.id());
            return Some(Shown { menu, status_item: None, groups: Vec::new() });
        }
        let status_item = Owned::retain(NSStatusBar::item(bar, VARIABLE_LENGTH))?;
        NSStatusItem::set_menu(status_item.id(), menu.id());
        // An agent has no menu bar, but its main menu still knows the keys of its windows.
        let main = new_menu("")?;
        NSMenu::add_item(main.id(), edit()?.item.id());
        NSApplication::set_main_menu(application, main.id());
        Some(Shown { menu, status_item: Some(status_item), groups: Vec::new() })
    }
}

/// # Safety
/// As [`install`].
unsafe fn new_menu(title: &str) -> Option<Owned> {
    // SAFETY: by the caller's promise.
    unsafe {
        let menu = Owned::adopt(NSMenu::init_with_title(allocate(NSMenu::class()), string(title)))?;
        NSMenu::set_autoenables_items(menu.id(), false.into());
        Some(menu)
    }
}

/// # Safety
/// As [`install`].
unsafe fn new_item(title: &str, action: &str, key: &str) -> Option<Owned> {
    // SAFETY: by the caller's promise.
    unsafe {
        let item = allocate(NSMenuItem::class());
        Owned::adopt(NSMenuItem::init_with_title(item, string(title), runtime::selector(action), string(key)))
    }
}

impl Shown {
    /// # Safety
    /// As [`install`].
    unsafe fn fill(&mut self, items: &[Item]) -> Option<()> {
        // SAFETY: by the caller's promise.
        unsafe {
            empty(self.menu.id());
            for item in items {
                let line = if item.items.is_empty() { line(item)? } else { self.group(item)? };
                NSMenu::add_item(self.menu.id(), line.id());
            }
            if self.status_item.is_none() {
                if !self.groups.iter().any(|group| group.title == EDIT) {
                    self.groups.push(edit()?);
                }
                let edit = self.groups.iter().find(|group| group.title == EDIT)?;
                NSMenu::add_item(self.menu.id(), edit.item.id());
            }
        }
        Some(())
    }

    /// # Safety
    /// As [`install`].
    unsafe fn group(&mut self, item: &Item) -> Option<Owned> {
        // SAFETY: by the caller's promise.
        unsafe {
            if !self.groups.iter().any(|group| group.title == item.title) {
                self.groups.push(new_group(&item.title)?);
            }
            let group = self.groups.iter().find(|group| group.title == item.title)?;
            empty(group.menu.id());
            for item in &item.items {
                NSMenu::add_item(group.menu.id(), line(item)?.id());
            }
            Owned::retain(group.item.id())
        }
    }
}

/// # Safety
/// As [`install`]; `menu` is one.
unsafe fn empty(menu: Id) {
    // SAFETY: by the caller's promise; indices below the count.
    unsafe { (0..NSMenu::count(menu)).rev().for_each(|index| NSMenu::remove_item_at(menu, index)) }
}

/// # Safety
/// As [`install`].
unsafe fn line(item: &Item) -> Option<Owned> {
    // SAFETY: by the caller's promise.
    unsafe {
        if item.title.is_empty() {
            return Owned::retain(NSMenuItem::separator());
        }
        let line = new_item(&item.title, "choose:", "")?;
        NSMenuItem::set_target(line.id(), target().ok()?.0);
        NSMenuItem::set_tag(line.id(), item.tag);
        NSMenuItem::set_state(line.id(), isize::from(item.is_checked));
        NSMenuItem::set_enabled(line.id(), (item.tag != 0).into());
        Some(line)
    }
}

/// # Safety
/// As [`install`].
unsafe fn new_group(title: &str) -> Option<Group> {
    // SAFETY: by the caller's promise.
    unsafe {
        let (menu, item) = (new_menu(title)?, new_item(title, "submenuAction:", "")?);
        NSMenuItem::set_submenu(item.id(), menu.id());
        Some(Group { title: title.to_owned(), item, menu })
    }
}

const EDIT: &str = "Edit";

/// Copying from a panel's text: keys reach it only through a main menu.
///
/// # Safety
/// As [`install`].
unsafe fn edit() -> Option<Group> {
    // SAFETY: by the caller's promise; whoever has the keyboard takes these two.
    unsafe {
        let edit = new_group(EDIT)?;
        for (title, action, key) in [("Copy", "copy:", "c"), ("Select All", "selectAll:", "a")] {
            NSMenu::add_item(edit.menu.id(), new_item(title, action, key)?.id());
        }
        Some(edit)
    }
}

/// # Safety
/// As [`install`]; `item` is a status item.
unsafe fn set_symbol(item: Id, symbol: &str, description: &str) {
    // SAFETY: by the caller's promise; both methods are of macOS 11.
    unsafe {
        let image = if responds(NSImage::class(), "imageWithSystemSymbolName:accessibilityDescription:") {
            NSImage::symbol(string(symbol), string(description))
        } else {
            NIL
        };
        let button = NSStatusItem::button(item);
        if image.is_null() {
            return NSButton::set_title(button, string(description));
        }
        NSImage::set_template(image, true.into());
        NSButton::set_image(button, image);
    }
}

fn target() -> Result<Shared, Missing> {
    static TARGET: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        let methods = [Method::action("choose:", choose)];
        // SAFETY: a class of ours without state.
        class::define("OpenClawMenu", &[], &methods).map(|class| unsafe { class::immortal(class) })
    };
    TARGET.get_or_init(make).clone()
}

extern "C-unwind" fn choose(_: Id, _: Sel, sender: Id) {
    guarded((), || {
        // SAFETY: the item that was chosen, alive during its action, on the main thread.
        let tag = unsafe { NSMenuItem::tag(sender) };
        if let (Some(chosen), Some(main)) = (CHOSEN.get(), MainThread::here())
            && tag != 0
        {
            chosen(main, tag);
        }
    });
}
