//! Every foreign name that this crate uses, in one list: what `mac-debug selftest` looks up, since names that are found
//! at run time are not seen by the linker. `make ffi-audit` fails when a table is not in it.

use crate::library::Library;
use crate::{appkit, camera, core_graphics, foundation, image, permissions, runtime, security, workspace};

/// The names that one declaration makes: those of one class, or functions or variables of one library.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) library: Library,
    pub(crate) class: Option<&'static str>,
    /// Whether it is the class's own (`+`), and the name.
    pub(crate) names: &'static [(bool, &'static str)],
}

/// `file: table table …;` for each file; `make ffi-audit` reads these lines.
macro_rules! tables {
    ($( $($file:ident)::+ : $($table:ident)*; )*) => {
        &[$( { use crate::$($file)::+ as file; &[$( file::$table::TABLE ),*] } ),*]
    };
}

const TABLES: &[&[Table]] = tables! {
    accessibility: Functions Private Types;
    appkit: NSView NSControl NSButton;
    appkit::application: NSApplication NSEvent Events;
    appkit::menu: NSMenu NSMenuItem NSStatusBar NSStatusItem NSImage;
    appkit::session: NSNotificationCenter NSDistributedNotificationCenter;
    appkit::panel: NSNotification NSWindow NSPanel NSScreen NSTextField NSText NSTextView NSTextContainer NSLayoutManager NSScrollView
        NSImageView NSFont NSColor NSMutableParagraphStyle NSTextTab NSMutableAttributedString;
    camera: AVCaptureDeviceDiscoverySession AVCaptureDevice AVCaptureDeviceInput AVCaptureSession AVCapturePhotoOutput
        AVCapturePhotoSettings AVCapturePhoto;
    core_graphics: Displays Windows Events;
    dns_sd: Bonjour;
    foundation: NSString NSArray NSDictionary NSNumber NSData NSURL NSError NSBundle NSDate NSProcessInfo NSRunLoop NSTimer;
    image: Pixels Codec NSMutableData;
    location: CLLocationManager CLLocation;
    permissions: Accessibility Screen AppleEvents SFSpeechRecognizer;
    runtime: Functions NSObject NSAutoreleasePool;
    screen: SCShareableContent SCDisplay SCWindow SCRunningApplication SCContentFilter SCStreamConfiguration
        SCScreenshotManager SCStream SCRecordingOutputConfiguration SCRecordingOutput Console;
    security: Functions;
    selftest: NSValue;
    web: WKWebViewConfiguration WKWebsiteDataStore WKWebView WKNavigationAction WKSnapshotConfiguration WKURLSchemeTask
        NSURLRequest NSHTTPURLResponse;
    workspace: NSWorkspace NSWorkspaceOpenConfiguration NSRunningApplication NSPasteboard;
    user_notifications: UNUserNotificationCenter UNNotificationSettings UNMutableNotificationContent UNNotificationSound
        UNNotificationRequest;
};
const VARIABLES: &[&[Table]] = &[
    appkit::panel::VARIABLES,
    appkit::session::VARIABLES,
    camera::VARIABLES,
    core_graphics::VARIABLES,
    foundation::VARIABLES,
    image::VARIABLES,
    permissions::VARIABLES,
    security::VARIABLES,
    workspace::VARIABLES,
];

fn tables() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().chain(VARIABLES).copied().flatten()
}

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
    runtime::pooled(|| tables().flat_map(look_up_table).collect())
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
        for table in tables() {
            for (own, name) in table.names {
                assert!(seen.insert((table.class, own, name)), "{:?} {name}", table.class);
            }
        }
        assert!(seen.len() > 40);
    }

    #[test]
    fn each_name_is_found_where_there_is_a_runtime() {
        let looked = look_up();
        // Whole classes that the compatible library does not have are in other libraries than these.
        let is_basic = |looked: &&Looked| matches!(looked.library, Library::Objc | Library::Foundation);
        let missing: Vec<_> =
            looked.iter().filter(is_basic).filter(|looked| !looked.found).map(|looked| &*looked.name).collect();
        if cfg!(target_os = "macos") {
            assert_eq!(missing, [""; 0]);
        } else if cfg!(feature = "gnustep") {
            let apples = ["operatingSystemVersion", "isLowPowerModeEnabled", "thermalState"];
            assert_eq!(
                missing,
                apples.map(|name| format!("-[NSProcessInfo {name}]")),
                "of another library than Apple's"
            );
        } else {
            assert!(looked.iter().all(|looked| !looked.found));
        }
    }
}
