//! The application bundle that this program runs from, as its path and its Info.plist say. No AppKit, so that it is
//! known before anything is loaded. Source: spec mac-app §1.1.

use crate::limits;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How our bundles' identifiers begin; a development build adds `.debug`.
const IDENTIFIER: &str = "ai.openclaw.mac";

/// What to do about [`is_translocated`].
pub const TRANSLOCATED: &str = "macOS runs this app from a hidden copy, where no permission and no launch agent lasts; \
                                quit it, move OpenClaw.app to the Applications folder with the Finder, and open it there";

/// An application bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// `…/OpenClaw.app`
    pub path: PathBuf,
    /// `CFBundleIdentifier`
    pub identifier: String,
    /// `OpenClawGitCommit`, stamped when it was packaged.
    pub commit: Option<String>,
}

impl Bundle {
    /// The bundle of the running program, if it is one of ours.
    pub fn of_this_process() -> Option<Self> {
        Self::of(&std::env::current_exe().ok()?.canonicalize().ok()?)
    }

    /// The bundle whose program `executable` is, if it is one of ours.
    pub fn of(executable: &Path) -> Option<Self> {
        let path = root(executable)?;
        let mut text = String::new();
        let plist = File::open(path.join("Contents/Info.plist")).ok()?;
        plist.take(limits::INFO_PLIST_BYTES).read_to_string(&mut text).ok()?;
        let identifier = string_of(&text, "CFBundleIdentifier").filter(|identifier| is_ours(identifier))?;
        Some(Self { path: path.to_owned(), identifier, commit: string_of(&text, "OpenClawGitCommit") })
    }
}

/// `X.app` of `X.app/Contents/MacOS/program`.
fn root(executable: &Path) -> Option<&Path> {
    let inside = executable.parent()?;
    let root = inside.parent()?.parent()?;
    let is_bundle = inside.ends_with("Contents/MacOS") && root.extension().is_some_and(|name| name == "app");
    is_bundle.then_some(root)
}

fn is_ours(identifier: &str) -> bool {
    identifier.strip_prefix(IDENTIFIER).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The string behind a key of a property list in XML; none in a binary one. A reader for what our own packaging
/// writes, not for every property list: no key of ours stands in a nested dictionary too.
fn string_of(plist: &str, key: &str) -> Option<String> {
    let (_, rest) = plist.split_once(&format!("<key>{key}</key>"))?;
    let (text, _) = rest.trim_start().strip_prefix("<string>")?.split_once("</string>")?;
    let text = text.trim();
    (!text.is_empty() && !text.contains(['<', '&']) && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Whether macOS runs a copy of a quarantined app instead of the app that was opened.
pub fn is_translocated(executable: &Path) -> bool {
    executable.components().any(|part| part.as_os_str() == "AppTranslocation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plist(members: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<plist version=\"1.0\">\n<dict>\n{members}\n</dict>\n</plist>\n")
    }

    fn identifier(text: &str) -> String {
        plist(&format!("\t<key>CFBundleIdentifier</key>\n\t<string>{text}</string>"))
    }

    #[test]
    fn only_a_program_of_our_own_bundle_is_in_one() {
        let directory = std::env::temp_dir().join(format!("oc-b-{}", crate::identity::random::uuid()));
        let inside = directory.join("Open Claw.app/Contents/MacOS");
        std::fs::create_dir_all(&inside).unwrap();
        let (program, info) = (inside.join("openclaw"), directory.join("Open Claw.app/Contents/Info.plist"));
        assert_eq!(Bundle::of(&program), None, "no Info.plist");
        for ours in ["ai.openclaw.mac", "ai.openclaw.mac.debug"] {
            std::fs::write(&info, identifier(ours)).unwrap();
            let bundle = Bundle::of(&program).unwrap();
            assert_eq!((bundle.identifier.as_str(), bundle.path), (ours, directory.join("Open Claw.app")));
        }
        let with_commit = plist(
            "<key>OpenClawGitCommit</key><string> abc1234 </string>\n<key>CFBundleIdentifier</key> <string>ai.openclaw.mac</string>",
        );
        std::fs::write(&info, with_commit).unwrap();
        assert_eq!(Bundle::of(&program).unwrap().commit.as_deref(), Some("abc1234"));
        for other in ["ai.openclaw.machine", "com.example.mac", "", "ai.openclaw", "ai.openclaw.mac&amp;"] {
            std::fs::write(&info, identifier(other)).unwrap();
            assert_eq!(Bundle::of(&program), None, "{other}");
        }
        for broken in [&b"bplist00\xd1"[..], b"", b"<key>CFBundleIdentifier</key><string>ai.openclaw.mac"] {
            std::fs::write(&info, broken).unwrap();
            assert_eq!(Bundle::of(&program), None);
        }
        std::fs::write(&info, identifier("ai.openclaw.mac")).unwrap();
        assert_eq!(Bundle::of(&directory.join("Open Claw.app/Contents/Helpers/openclaw")), None);
        std::fs::remove_dir_all(directory).unwrap();
        for path in ["/usr/bin/openclaw", "openclaw", "/", "/Contents/MacOS/openclaw", "/x/Contents/MacOS/openclaw"] {
            assert_eq!(root(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_hidden_copy_is_known_by_its_path() {
        let hidden = "/private/var/folders/ab/x/X/AppTranslocation/1234-5678/d/OpenClaw.app/Contents/MacOS/openclaw";
        assert!(is_translocated(Path::new(hidden)));
        assert!(!is_translocated(Path::new("/Applications/OpenClaw.app/Contents/MacOS/openclaw")));
    }
}
