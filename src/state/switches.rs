//! What the owner has switched on of that which commands do not need: screen, camera, location, canvas, control of the
//! computer, AppleScript, the bridge. Nothing in here comes from a gateway.

use super::audit::{AuditLog, Decision};
use super::store::Store;
use super::{StateDir, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One switch. Source: spec mac-app (3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Pictures and films of the screen.
    Screen,
    /// Pictures by the camera.
    Camera,
    /// Where this machine is.
    Location,
    /// Exactly where; without it to about a kilometre.
    PreciseLocation,
    /// The canvas window.
    Canvas,
    /// Mouse and keyboard for agents.
    ComputerControl,
    /// AppleScript, each time shown to the person.
    AppleScript,
    /// PeekabooBridge on its socket.
    Bridge,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Screen,
        Self::Camera,
        Self::Location,
        Self::PreciseLocation,
        Self::Canvas,
        Self::ComputerControl,
        Self::AppleScript,
        Self::Bridge,
    ];

    /// As in the document and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Camera => "camera",
            Self::Location => "location",
            Self::PreciseLocation => "precise-location",
            Self::Canvas => "canvas",
            Self::ComputerControl => "computer-control",
            Self::AppleScript => "apple-script",
            Self::Bridge => "bridge",
        }
    }

    /// As in the menu.
    pub fn title(self) -> &'static str {
        match self {
            Self::Screen => "Screen",
            Self::Camera => "Camera",
            Self::Location => "Location",
            Self::PreciseLocation => "Precise Location",
            Self::Canvas => "Canvas",
            Self::ComputerControl => "Computer Control",
            Self::AppleScript => "AppleScript",
            Self::Bridge => "PeekabooBridge",
        }
    }

    /// What an agent that the gateway lets in may do while it is on.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Screen => "see what is on the screen, as pictures and films",
            Self::Camera => "list the cameras and take pictures with them",
            Self::Location => "ask where this machine is",
            Self::PreciseLocation => "hear exactly where, not to about a kilometre",
            Self::Canvas => "show pages in a window of this app",
            Self::ComputerControl => "use mouse and keyboard in your place",
            Self::AppleScript => "ask to run AppleScript, each time shown to you first",
            Self::Bridge => "see and control other programs by PeekabooBridge's socket",
        }
    }

    /// The switch of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|switch| switch.word() == word)
    }

    /// How it stands when the owner has said nothing. The canvas shows only our own folder; a Mac asks for the screen itself,
    /// an X server lets every program see it.
    fn default(self) -> bool {
        matches!(self, Self::Canvas | Self::PreciseLocation) || (self == Self::Screen && cfg!(target_os = "macos"))
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Document(BTreeMap<String, bool>);

/// The owner's switches.
pub struct Switches {
    store: Store<Document>,
    audit: AuditLog,
}

impl Switches {
    /// Those of this state directory. Opens nothing yet.
    pub fn new(state: &StateDir) -> Self {
        Self { store: Store::new(state.switches()), audit: AuditLog::new(state) }
    }

    /// Whether it is on. A document that cannot be read leaves everything off.
    pub fn is_on(&self, switch: Switch) -> bool {
        match self.store.inspect() {
            Ok(document) => document.0.get(switch.word()).copied().unwrap_or_else(|| switch.default()),
            Err(_) => false,
        }
    }

    /// Sets it, and notes that in the audit log.
    ///
    /// # Errors
    /// The document cannot be read or written; all stays as it was.
    pub fn set(&self, switch: Switch, on: bool) -> Result<(), StateError> {
        let command = format!("switch {} {}", switch.word(), if on { "on" } else { "off" });
        let requester = "the owner, at this machine";
        self.audit.edit(&Decision { requester, command: &command, by: "switched", ..Decision::default() })?;
        self.store.update(|document| {
            document.0.insert(switch.word().to_owned(), on);
        })
    }
}
