//! What crosses `bridge.sock`: PeekabooBridge 1.0–1.7. One JSON document each way a connection, see [`coding`]
//! for how values look. Source: spec peekaboo-bridge.

pub mod coding;
pub mod types;

use coding::case;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use types::*;

/// The newest version; all from 1.0 on are spoken. Source: spec §3
pub const VERSION: Version = Version { major: 1, minor: 7 };

/// A grant of macOS that an operation needs the host to hold, in the order in which a missing one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Permission {
    /// Reading and operating other programs' interface.
    Accessibility,
    /// Apple events to System Events.
    AppleScript,
    /// Events to one program.
    PostEvent,
    /// Seeing the screen's contents.
    ScreenRecording,
}

impl Permission {
    const R: Self = Self::AppleScript;
    const A: Self = Self::Accessibility;
    const E: Self = Self::PostEvent;
    const S: Self = Self::ScreenRecording;
}

/// One line an operation: request with payload, answer, minor version that brought it, permission.
macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident($payload:ty) -> $answer:ident, $since:literal $(, $permission:ident)?;)*) => {
        /// What a client asks for.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs, clippy::large_enum_variant)] // The table below says it; one lives at a time.
        pub enum Request {
            #[serde(serialize_with = "case")]
            Handshake(Handshake),
            $(#[serde(serialize_with = "case")] $name($payload),)*
        }

        /// An operation's name in lists and gates.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs)]
        pub enum Operation { $($(#[$meta])* $name),* }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The minor version that brought it.
            pub fn since(self) -> i64 {
                match self { $(Self::$name => $since),* }
            }

            /// What the host must have been granted for it; none has two.
            pub fn permission(self) -> Option<Permission> {
                match self { $(Self::$name => None$(.or(Some(Permission::$permission)))?),* }
            }

            /// Whether `response` is of the case that answers it, an error aside.
            pub fn is_answered_by(self, response: &Response) -> bool {
                match self { $(Self::$name => matches!(response, Response::$answer(_))),* }
            }
        }

        impl Request {
            /// Which operation it is; none for a handshake, which no gate holds up.
            pub fn operation(&self) -> Option<Operation> {
                match self { Self::Handshake(_) => None, $(Self::$name(_) => Some(Operation::$name)),* }
            }
        }
    };
}

operations! {
    PermissionsStatus(()) -> PermissionsStatus, 0;
    RequestPostEventPermission(()) -> Bool, 2;
    DaemonStatus(()) -> DaemonStatus, 0;
    DaemonStop(()) -> Bool, 0;
    #[serde(rename = "_appleScriptProbe")] AppleScriptProbe(()) -> Ok, 0;
    BrowserStatus(BrowserChannel) -> BrowserStatus, 4;
    BrowserConnect(BrowserChannel) -> BrowserStatus, 4;
    BrowserDisconnect(()) -> Ok, 4;
    BrowserExecute(BrowserExecute) -> BrowserToolResponse, 4;
    CaptureScreen(CaptureScreen) -> Capture, 0, S;
    CaptureWindow(CaptureWindow) -> Capture, 0, S;
    CaptureFrontmost(CaptureFrontmost) -> Capture, 0, S;
    CaptureArea(CaptureArea) -> Capture, 0, S;
    DetectElements(DetectElements) -> ElementDetection, 0, S;
    InspectAccessibilityTree(InspectTree) -> ElementDetection, 7, A;
    DesktopObservation(Observation) -> DesktopObservation, 5, S;
    Click(Click) -> Ok, 0, A;
    TargetedClick(TargetedClick) -> Ok, 6, E;
    Type(Type) -> Ok, 0, A;
    TypeActions(TypeActions) -> TypeResult, 0, A;
    SetValue(SetValue) -> ElementActionResult, 3, A;
    PerformAction(PerformAction) -> ElementActionResult, 3, A;
    Scroll(Scroll) -> Ok, 0, A;
    Hotkey(Hotkey) -> Ok, 0, A;
    TargetedHotkey(TargetedHotkey) -> Ok, 1, E;
    Swipe(Swipe) -> Ok, 0, A;
    Drag(Drag) -> Ok, 0, A;
    MoveMouse(MoveMouse) -> Ok, 0, A;
    WaitForElement(WaitForElement) -> WaitResult, 0, A;
    ListWindows(WindowRequest) -> Windows, 0, A;
    FocusWindow(WindowRequest) -> Ok, 0, A;
    MoveWindow(MoveWindow) -> Ok, 0, A;
    ResizeWindow(ResizeWindow) -> Ok, 0, A;
    SetWindowBounds(SetWindowBounds) -> Ok, 0, A;
    CloseWindow(WindowRequest) -> Ok, 0, A;
    MinimizeWindow(WindowRequest) -> Ok, 0, A;
    MaximizeWindow(WindowRequest) -> Ok, 0, A;
    GetFocusedWindow(()) -> Window, 0, A;
    ListApplications(()) -> Applications, 0;
    FindApplication(AppRequest) -> Application, 0;
    GetFrontmostApplication(()) -> Application, 0;
    IsApplicationRunning(AppRequest) -> Bool, 0;
    LaunchApplication(AppRequest) -> Application, 0, R;
    ActivateApplication(AppRequest) -> Ok, 0, R;
    HideApplication(AppRequest) -> Ok, 0, R;
    UnhideApplication(AppRequest) -> Ok, 0, R;
    HideOtherApplications(AppRequest) -> Ok, 0, R;
    QuitApplication(QuitApplication) -> Bool, 0, R;
    ShowAllApplications(()) -> Ok, 0, R;
    ListMenus(MenuList) -> MenuStructure, 0, A;
    ListFrontmostMenus(()) -> MenuStructure, 0, A;
    ClickMenuItem(MenuClick) -> Ok, 0, A;
    ClickMenuItemByName(MenuClickByName) -> Ok, 0, A;
    ListMenuExtras(()) -> MenuExtras, 0, A;
    ClickMenuExtra(NameRequest) -> Ok, 0, A;
    MenuExtraOpenMenuFrame(MenuExtraFrame) -> Rect, 0, A;
    ListMenuBarItems(bool) -> MenuBarItems, 0, A;
    ClickMenuBarItemNamed(NameRequest) -> ClickResult, 0, A;
    ClickMenuBarItemIndex(IndexRequest) -> ClickResult, 0, A;
    ListDockItems(DockList) -> DockItems, 0, A;
    LaunchDockItem(DockLaunch) -> Ok, 0, A;
    RightClickDockItem(DockRightClick) -> Ok, 0, A;
    HideDock(()) -> Ok, 0, A;
    ShowDock(()) -> Ok, 0, A;
    IsDockHidden(()) -> Bool, 0, A;
    FindDockItem(NameRequest) -> DockItem, 0, A;
    DialogFindActive(DialogRequest) -> DialogInfo, 0, A;
    DialogListElements(DialogRequest) -> DialogElements, 0, A;
    DialogClickButton(DialogClick) -> DialogResult, 0, A;
    DialogEnterText(DialogEnterText) -> DialogResult, 0, A;
    DialogHandleFile(DialogFile) -> DialogResult, 0, A;
    DialogDismiss(DialogDismiss) -> DialogResult, 0, A;
    CreateSnapshot(Nothing) -> SnapshotId, 0;
    StoreDetectionResult(StoreDetection) -> Ok, 0;
    GetDetectionResult(SnapshotRequest) -> Detection, 0;
    StoreScreenshot(StoreScreenshot) -> Ok, 0;
    StoreAnnotatedScreenshot(StoreAnnotated) -> Ok, 0;
    ListSnapshots(()) -> Snapshots, 0;
    GetMostRecentSnapshot(MostRecentSnapshot) -> SnapshotId, 0;
    CleanSnapshot(SnapshotRequest) -> Ok, 0;
    CleanSnapshotsOlderThan(CleanOlderThan) -> Int, 0;
    CleanAllSnapshots(()) -> Int, 0;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Operation {
    type Err = serde::de::value::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// Written as on the wire.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl PermissionsStatus {
    /// Whether it is granted.
    pub fn has(&self, permission: Permission) -> bool {
        match permission {
            Permission::Accessibility => self.accessibility,
            Permission::AppleScript => self.apple_script,
            Permission::PostEvent => self.post_event,
            Permission::ScreenRecording => self.screen_recording,
        }
    }
}

macro_rules! responses {
    ($($name:ident($payload:ty);)*) => {
        /// What a host answers.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum Response { $(#[serde(serialize_with = "case")] $name($payload),)* }
    };
}

responses! {
    Handshake(HandshakeAnswer);
    PermissionsStatus(PermissionsStatus);
    DaemonStatus(DaemonStatus);
    BrowserStatus(BrowserStatus);
    BrowserToolResponse(BrowserToolResponse);
    Capture(Capture);
    ElementDetection(Detection);
    DesktopObservation(ObservationResult);
    Ok(());
    WaitResult(WaitResult);
    ElementActionResult(ElementActionResult);
    TypeResult(TypeResult);
    Windows(Vec<Window>);
    Window(Option<Window>);
    Applications(Vec<Application>);
    Application(Application);
    Bool(bool);
    Int(i64);
    Rect(Option<Rect>);
    ClickResult(ClickResult);
    MenuStructure(MenuStructure);
    MenuExtras(Vec<MenuExtra>);
    MenuBarItems(Vec<MenuBarItem>);
    DockItems(Vec<DockItem>);
    DockItem(Option<DockItem>);
    DialogInfo(DialogInfo);
    DialogElements(DialogElements);
    DialogResult(DialogResult);
    SnapshotId(String);
    Snapshots(Vec<Snapshot>);
    Detection(Detection);
    Error(Failure);
}
