//! What the owner has switched on of that which commands do not need: camera, location, canvas, control of the computer,
//! AppleScript, the bridge. Nothing in here comes from a gateway.

use super::store::Store;
use super::{StateDir, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the document.
const FILE: &str = "switches.json";

/// One switch. Source: spec mac-app (3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
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
    pub const ALL: [Self; 7] = [
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
            Self::Camera => "Camera",
            Self::Location => "Location",
            Self::PreciseLocation => "Precise Location",
            Self::Canvas => "Canvas",
            Self::ComputerControl => "Computer Control",
            Self::AppleScript => "AppleScript",
            Self::Bridge => "PeekabooBridge",
        }
    }

    /// The switch of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|switch| switch.word() == word)
    }

    /// How it stands when the owner has said nothing. The canvas shows only our own folder.
    fn default(self) -> bool {
        matches!(self, Self::Canvas | Self::PreciseLocation)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Document(BTreeMap<String, bool>);

/// The owner's switches.
pub struct Switches(Store<Document>);

impl Switches {
    /// Those of this state directory. Opens nothing yet.
    pub fn new(state: &StateDir) -> Self {
        Self(Store::new(state.documents().join(FILE)))
    }

    /// Whether it is on. A document that cannot be read leaves everything off.
    pub fn is_on(&self, switch: Switch) -> bool {
        match self.0.inspect() {
            Ok(document) => document.0.get(switch.word()).copied().unwrap_or_else(|| switch.default()),
            Err(_) => false,
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// The document cannot be read or written; all stays as it was.
    pub fn set(&self, switch: Switch, on: bool) -> Result<(), StateError> {
        self.0.update(|document| {
            document.0.insert(switch.word().to_owned(), on);
        })
    }
}
