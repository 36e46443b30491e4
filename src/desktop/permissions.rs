//! What macOS asks its user before a program may do it (TCC), as one table and one trait. A status never prompts; a
//! request may, and only the app makes one. Source: spec mac-app (2.1), schema of `permissions` in `connect`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Something that needs the user's permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Sending Apple events to other programs.
    AppleScript,
    /// Showing notifications.
    Notifications,
    /// Reading and driving the user interface of other programs.
    Accessibility,
    /// Recording the screen.
    ScreenRecording,
    /// Recording sound.
    Microphone,
    /// Turning speech into text.
    SpeechRecognition,
    /// Taking pictures.
    Camera,
    /// Where this machine is.
    Location,
    /// Input in the user's place; a bucket of its own since 2026.9, kept in the pane of accessibility.
    EventPosting,
}

/// The name on the wire, and the anchor of its pane in System Settings; none for the pane that is an extension.
const TABLE: [(Capability, &str, Option<&str>); 9] = [
    (Capability::AppleScript, "appleScript", Some("Privacy_Automation")),
    (Capability::Notifications, "notifications", None),
    (Capability::Accessibility, "accessibility", Some("Privacy_Accessibility")),
    (Capability::ScreenRecording, "screenRecording", Some("Privacy_ScreenCapture")),
    (Capability::Microphone, "microphone", Some("Privacy_Microphone")),
    (Capability::SpeechRecognition, "speechRecognition", Some("Privacy_SpeechRecognition")),
    (Capability::Camera, "camera", Some("Privacy_Camera")),
    (Capability::Location, "location", Some("Privacy_LocationServices")),
    (Capability::EventPosting, "eventPosting", Some("Privacy_Accessibility")),
];

impl Capability {
    /// Every one, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(capability, ..)| *capability)
    }

    /// As the protocol spells it.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(capability, ..)| *capability == self).map_or("", |(_, name, _)| name)
    }

    /// For people, as System Settings call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::AppleScript => "Automation (System Events)",
            Self::Notifications => "Notifications",
            Self::Accessibility => "Accessibility",
            Self::ScreenRecording => "Screen Recording",
            Self::Microphone => "Microphone",
            Self::SpeechRecognition => "Speech Recognition",
            Self::Camera => "Camera",
            Self::Location => "Location",
            Self::EventPosting => "Input in Your Place",
        }
    }

    /// The URL that opens its pane of System Settings.
    pub fn settings_url(self) -> String {
        match TABLE.iter().find(|(capability, ..)| *capability == self) {
            Some((.., Some(anchor))) => format!("x-apple.systempreferences:com.apple.preference.security?{anchor}"),
            _ => "x-apple.systempreferences:com.apple.Notifications-Settings.extension".to_owned(),
        }
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = TABLE.iter().find(|(_, name, _)| *name == text).map(|(capability, ..)| *capability);
        found.ok_or_else(|| format!("no such permission; say one of: {}", TABLE.map(|(_, name, _)| name).join(", ")))
    }
}

/// How a permission stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The user said yes.
    Granted,
    /// The user said no.
    Denied,
    /// Nobody was asked yet.
    NotDetermined,
    /// Somebody who manages this machine said no.
    Restricted,
    /// The system did not tell.
    Unknown,
    /// There is no such thing here.
    Unsupported,
}

impl Grant {
    /// As the control socket spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::NotDetermined => "notDetermined",
            Self::Restricted => "restricted",
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Who knows the permissions of this process, and can ask for them.
pub trait Permissions: Send + Sync {
    /// How it stands now. Never prompts and does not wait for anybody.
    fn status(&self, capability: Capability) -> Grant;

    /// Has the system ask the user where it still may, and says how it stands then; an answer may come later. Only
    /// the app calls this, at its owner's word.
    fn request(&self, capability: Capability) -> Grant;
}

/// Where there are no such permissions, or nobody to ask for them.
pub struct Unsupported;

impl Permissions for Unsupported {
    fn status(&self, _capability: Capability) -> Grant {
        Grant::Unsupported
    }

    fn request(&self, _capability: Capability) -> Grant {
        Grant::Unsupported
    }
}

/// How all of them stand.
pub fn all(permissions: &dyn Permissions) -> BTreeMap<&'static str, &'static str> {
    Capability::all().map(|capability| (capability.name(), permissions.status(capability).word())).collect()
}

/// The node's `permissions` map: what there is here, and whether it is granted; none where there is nothing.
pub fn declared(permissions: &dyn Permissions) -> Option<BTreeMap<String, bool>> {
    let stand = Capability::all().map(|capability| (capability.name(), permissions.status(capability)));
    let there = stand.filter(|(_, grant)| *grant != Grant::Unsupported);
    let map: BTreeMap<String, bool> = there.map(|(name, grant)| (name.to_owned(), grant == Grant::Granted)).collect();
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Says what it is told, and notes what was requested.
    #[derive(Default)]
    pub struct Scripted {
        pub stand: Mutex<BTreeMap<Capability, Grant>>,
        pub requested: Mutex<Vec<Capability>>,
    }

    impl Scripted {
        pub fn set(&self, capability: Capability, grant: Grant) {
            self.stand.lock().unwrap().insert(capability, grant);
        }
    }

    impl Permissions for Scripted {
        fn status(&self, capability: Capability) -> Grant {
            self.stand.lock().unwrap().get(&capability).copied().unwrap_or(Grant::Unsupported)
        }

        fn request(&self, capability: Capability) -> Grant {
            self.requested.lock().unwrap().push(capability);
            self.status(capability)
        }
    }

    #[test]
    fn names_and_panes_are_those_of_the_system() {
        for capability in Capability::all() {
            assert_eq!(capability.name().parse(), Ok(capability));
            assert!(capability.settings_url().starts_with("x-apple.systempreferences:com.apple."));
        }
        assert_eq!(Capability::all().count(), 9);
        assert!(Capability::ScreenRecording.settings_url().ends_with("security?Privacy_ScreenCapture"));
        assert!(Capability::Notifications.settings_url().ends_with("Notifications-Settings.extension"));
        for wrong in ["", "Camera", "camera ", "screen"] {
            assert!(wrong.parse::<Capability>().unwrap_err().contains("screenRecording, microphone"), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_there_is_declared_and_only_a_yes_is_one() {
        assert_eq!(declared(&Unsupported), None);
        let scripted = Scripted::default();
        let stand = [Grant::Granted, Grant::Denied, Grant::NotDetermined, Grant::Restricted, Grant::Unknown];
        for (capability, grant) in Capability::all().zip(stand) {
            scripted.set(capability, grant);
        }
        let map = declared(&scripted).unwrap();
        assert_eq!(map.len(), stand.len());
        assert_eq!(
            map.iter().filter(|(_, granted)| **granted).map(|(name, _)| name).collect::<Vec<_>>(),
            ["appleScript"]
        );
        assert_eq!(all(&scripted)["eventPosting"], "unsupported");
        assert!(scripted.requested.lock().unwrap().is_empty(), "a look prompts nobody");
    }
}
