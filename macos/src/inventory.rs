//! Every foreign name that this crate uses, in one list: what `mac-debug selftest` looks up, since names that are found
//! at run time are not seen by the linker. `make ffi-audit` fails when a table is not in it.

use crate::library::Library;
use crate::{accessibility, core_graphics, foundation, runtime, workspace};

/// The names that one declaration makes: those of one class, or functions or variables of one library.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) library: Library,
    pub(crate) class: Option<&'static str>,
    /// Whether it is the class's own (`+`), and the name.
    pub(crate) names: &'static [(bool, &'static str)],
}

const TABLES: &[&[Table]] = &[
    &[runtime::Functions::TABLE, runtime::NSObject::TABLE, runtime::NSAutoreleasePool::TABLE],
    &[
        foundation::NSString::TABLE,
        foundation::NSArray::TABLE,
        foundation::NSDictionary::TABLE,
        foundation::NSNumber::TABLE,
        foundation::NSData::TABLE,
        foundation::NSURL::TABLE,
        foundation::NSError::TABLE,
        foundation::NSBundle::TABLE,
    ],
    foundation::VARIABLES,
    &[accessibility::Functions::TABLE, accessibility::Private::TABLE, accessibility::Types::TABLE],
    &[core_graphics::Displays::TABLE, core_graphics::Windows::TABLE, core_graphics::Events::TABLE],
    core_graphics::VARIABLES,
    &[
        workspace::NSWorkspace::TABLE,
        workspace::NSWorkspaceOpenConfiguration::TABLE,
        workspace::NSRunningApplication::TABLE,
        workspace::NSApplication::TABLE,
        workspace::NSPasteboard::TABLE,
    ],
    workspace::VARIABLES,
];

/// A class with what we send to it, or a function or variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Where it belongs.
    pub library: Library,
    /// For example `CFRelease`, `NSWindow`, `-[NSWindow setTitle:]`.
    pub name: String,
    /// Whether this system has it.
    pub found: bool,
}

/// Looks every name up. Opens all libraries, and calls nothing in them.
pub fn look_up() -> Vec<Looked> {
    TABLES.iter().copied().flatten().flat_map(look_up_table).collect()
}

fn look_up_table(table: &Table) -> Vec<Looked> {
    let library = table.library;
    let Some(class) = table.class else {
        let symbol = |(_, name): &(bool, &str)| Looked {
            library,
            name: (*name).to_owned(),
            found: library.symbol(name).is_ok(),
        };
        return table.names.iter().map(symbol).collect();
    };
    let object = runtime::class_named(library, class);
    let method = |&(own, name): &(bool, &str)| {
        let found = !object.is_null()
            && if own {
                // SAFETY: a class is an object that lives for ever.
                unsafe { runtime::responds(object, name) }
            } else {
                runtime::instances_respond(object, name)
            };
        Looked { library, name: format!("{}[{class} {name}]", if own { '+' } else { '-' }), found }
    };
    let itself = Looked { library, name: class.to_owned(), found: !object.is_null() };
    std::iter::once(itself).chain(table.names.iter().map(method)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_is_declared_twice() {
        let mut seen = HashSet::new();
        for table in TABLES.iter().copied().flatten() {
            for (own, name) in table.names {
                assert!(seen.insert((table.class, own, name)), "{:?} {name}", table.class);
            }
        }
        assert!(seen.len() > 40);
    }

    #[test]
    fn each_name_is_found_where_there_is_a_runtime() {
        let missing: Vec<_> = look_up().into_iter().filter(|looked| !looked.found).collect();
        // Apple's own classes that the compatible library does not have are not in these.
        let basics = |looked: &&Looked| matches!(looked.library, Library::Objc | Library::Foundation);
        let basics: Vec<_> = missing.iter().filter(basics).collect();
        if cfg!(any(target_os = "macos", feature = "gnustep")) {
            assert_eq!(basics, Vec::<&Looked>::new());
        } else {
            assert_eq!(missing.len(), look_up().len());
        }
    }
}
