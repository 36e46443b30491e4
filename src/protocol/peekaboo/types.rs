//! The protocol's payloads. Names and members are the wire's, so they are not described one by one; what
//! they mean stands in the table of operations and in the spec. Source: spec peekaboo-bridge §6 "Types".
#![allow(missing_docs)]

use super::coding::{Data, Date, case, known, known_if_any, or_default, whole};
use super::{Operation, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Structs with the wire's member names in snake case: required ones, then after a semicolon those
/// that may be missing or null and are left out when there is nothing to say.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$member_meta:meta])* $member:ident: $type:ty),* $(,)?
        $(; $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty),* $(,)?)?
    })*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            $(#[$meta])*
            pub struct $name {
                $($(#[$member_meta])* pub $member: $type,)*
                $($(
                    #[serde(skip_serializing_if = "Option::is_none")]
                    $(#[$optional_meta])*
                    pub $optional: Option<$optional_type>,
                )*)?
            }
        )*
    };
}

/// Enums that are plain strings on the wire, in this style.
macro_rules! words {
    ($style:literal: $($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $word:ident)* })*) => {
        $(
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            #[serde(rename_all = $style)]
            $(#[$meta])*
            pub enum $name { $($(#[$word_meta])* $word),* }
        )*
    };
}

/// Enums in Swift's own coding, `{"case":{"_0":payload}}`.
macro_rules! cases {
    ($($(#[$meta:meta])* $name:ident { $($(#[$case_meta:meta])* $case:ident($payload:ty)),* $(,)? })*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            $(#[$meta])*
            pub enum $name { $($(#[$case_meta])* #[serde(serialize_with = "case")] $case($payload)),* }
        )*
    };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point(pub f64, pub f64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Size(pub f64, pub f64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rect(pub Point, pub Size);

/// `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(f64, f64)")]
pub struct Range(pub f64, pub f64);

impl TryFrom<(f64, f64)> for Range {
    type Error = &'static str;

    fn try_from((low, high): (f64, f64)) -> Result<Self, Self::Error> {
        if low <= high { Ok(Self(low, high)) } else { Err("a range's end lies before its beginning") }
    }
}

// Handshake, permissions, errors.

words! { "camelCase":
    HostKind { #[serde(rename = "gui")] App Helper OnDemand InProcess }
    /// One that this version does not know is read as an internal error.
    ErrorCode {
        PermissionDenied NotFound Timeout InvalidRequest OperationNotSupported ServerBusy VersionMismatch
        UnauthorizedClient DecodingFailed #[serde(other)] InternalError
    }
}

messages! {
    #[derive(Copy, Eq, PartialOrd, Ord)]
    Version { major: i64, minor: i64 }
    ClientIdentity { process_identifier: i32; bundle_identifier: String, team_identifier: String, hostname: String }
    Handshake { protocol_version: Version, client: ClientIdentity; requested_host_kind: HostKind }
    #[derive(Copy)]
    PermissionsStatus {
        screen_recording: bool,
        accessibility: bool,
        #[serde(default, deserialize_with = "or_default")] apple_script: bool,
        #[serde(default, deserialize_with = "or_default")] post_event: bool,
    }
    HandshakeAnswer {
        negotiated_version: Version,
        host_kind: HostKind,
        #[serde(deserialize_with = "known")] supported_operations: Vec<Operation>,
        #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
        permission_tags: BTreeMap<String, Vec<Permission>>;
        build: String,
        permissions: PermissionsStatus,
        #[serde(default, deserialize_with = "known_if_any")] enabled_operations: Vec<Operation>
    }
    Failure { code: ErrorCode, message: String; details: String, permission: Permission }
    Nothing {}
}

// Capture and detection.

cases! {
    VisualizerMode { ScreenshotFlash(()), WatchCapture(()) }
    #[derive(Copy)]
    Scale { #[serde(rename = "logical1x")] Logical(()), Native(()) }
    DetectionMode { None(()), Accessibility(()), #[serde(rename = "accessibilityAndOCR")] AccessibilityAndOcr(()) }
}

words! { "camelCase":
    CaptureMode { Screen Window Multi Frontmost Area }
    ActivationPolicy { Regular Accessory Prohibited Unknown }
    ElementType {
        Button TextField Link Image Group Slider Checkbox Menu Other StaticText RadioButton MenuItem Window Dialog
    }
}

/// 0 none, 1 read, 2 read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct SharingState(u8);

impl TryFrom<i64> for SharingState {
    type Error = &'static str;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        match value {
            0..=2 => Ok(Self(value as u8)),
            _ => Err("a sharing state is 0, 1 or 2"),
        }
    }
}

impl From<SharingState> for i64 {
    fn from(state: SharingState) -> Self {
        Self::from(state.0)
    }
}

messages! {
    CaptureScreen { visualizer_mode: VisualizerMode, scale: Scale; display_index: i64 }
    CaptureWindow {
        app_identifier: String, visualizer_mode: VisualizerMode, scale: Scale;
        window_index: i64, window_id: i64
    }
    CaptureFrontmost { visualizer_mode: VisualizerMode, scale: Scale }
    CaptureArea { rect: Rect, visualizer_mode: VisualizerMode, scale: Scale }
    #[derive(Copy)]
    TraversalBudget { max_depth: i64, max_element_count: i64, max_children_per_node: i64 }
    #[derive(Default)]
    WindowContext {;
        application_name: String,
        application_bundle_id: String,
        application_process_id: i32,
        window_title: String,
        #[serde(rename = "windowID")] window_id: i64,
        window_bounds: Rect,
        should_focus_web_content: bool,
        traversal_budget: TraversalBudget,
    }
    DetectElements { image_data: Data; snapshot_id: String, window_context: WindowContext }
    InspectTree {; window_context: WindowContext }
    Element {
        id: String, #[serde(rename = "type")] kind: ElementType, bounds: Rect, is_enabled: bool,
        attributes: BTreeMap<String, String>;
        label: String, value: String, is_selected: bool
    }
    #[derive(Default)]
    ElementLists {
        buttons: Vec<Element>, text_fields: Vec<Element>, links: Vec<Element>, images: Vec<Element>,
        groups: Vec<Element>, sliders: Vec<Element>, checkboxes: Vec<Element>, menus: Vec<Element>,
        other: Vec<Element>,
    }
    Truncation { max_depth_reached: bool, max_element_count_reached: bool, max_children_per_node_reached: bool }
    DetectionMetadata {
        detection_time: f64, element_count: i64, method: String, warnings: Vec<String>, is_dialog: bool;
        window_context: WindowContext, truncation_info: Truncation
    }
    Detection { snapshot_id: String, screenshot_path: String, elements: ElementLists, metadata: DetectionMetadata }
    Application {
        process_identifier: i32, name: String, is_active: bool, is_hidden: bool, window_count: i64;
        bundle_identifier: String, bundle_path: String, activation_policy: ActivationPolicy
    }
    Window {
        #[serde(rename = "window_id")] window_id: i64, title: String, bounds: Rect, is_minimized: bool,
        is_main_window: bool, window_level: i64, alpha: f64, index: i64, is_off_screen: bool, layer: i64,
        is_on_screen: bool, is_excluded_from_windows_menu: bool;
        #[serde(rename = "spaceID")] space_id: u64, space_name: String, screen_index: i64, screen_name: String,
        sharing_state: SharingState
    }
    Display { index: i64, bounds: Rect, scale_factor: f64; name: String }
    CaptureDiagnostics {
        requested_scale: Scale, native_scale: f64, output_scale: f64, scale_source: String, final_pixel_size: Size;
        engine: String, fallback_reason: String
    }
    CaptureMetadata {
        size: Size, mode: CaptureMode, timestamp: Date;
        video_timestamp_ms: i64, application_info: Application, window_info: Window, display_info: Display,
        diagnostics: CaptureDiagnostics
    }
    Capture { image_data: Data, metadata: CaptureMetadata; saved_path: String, warning: String }
}

// Input.

words! { "camelCase":
    ClickType { Single Right Double }
    Direction { Up Down Left Right }
}

words! { "snake_case":
    SpecialKey {
        Return Enter Tab Escape Delete ForwardDelete Space Left Right Up Down #[serde(rename = "pageup")] PageUp
        #[serde(rename = "pagedown")] PageDown Home End F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 CapsLock Clear Help
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum ClickTarget {
    ElementId { value: String },
    Coordinates { x: f64, y: f64 },
    Query { value: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WindowTarget {
    Application {
        app: String,
    },
    Title {
        title: String,
    },
    Index {
        app: String,
        #[serde(deserialize_with = "whole")]
        index: i64,
    },
    ApplicationAndTitle {
        app: String,
        title: String,
    },
    Frontmost,
    WindowId {
        #[serde(deserialize_with = "whole")]
        window_id: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum TypeAction {
    Text { text: String },
    Key { key: SpecialKey },
    Clear,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cadence {
    Fixed {
        #[serde(deserialize_with = "whole")]
        milliseconds: i64,
    },
    Human {
        #[serde(deserialize_with = "whole")]
        words_per_minute: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum MouseProfile {
    Linear,
    Human {
        #[serde(default, deserialize_with = "or_default")]
        profile: HumanProfile,
    },
}

/// A bare value of an element.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ElementValue {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for ElementValue {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        match &value {
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Number(number) => Ok(super::coding::from_value(&value)
                .map_or_else(|_| Self::Double(number.as_f64().unwrap_or_default()), Self::Int)),
            _ => Err(serde::de::Error::custom("expected a boolean, a number or a string")),
        }
    }
}

messages! {
    HumanProfile {
        jitter_amplitude: f64, overshoot_probability: f64, overshoot_fraction_range: Range, settle_radius: f64;
        random_seed: u64
    }
    Click { target: ClickTarget, click_type: ClickType; snapshot_id: String }
    TargetedClick { target: ClickTarget, click_type: ClickType, target_process_identifier: i32; snapshot_id: String }
    Type { text: String, clear_existing: bool, typing_delay: i64; target: String, snapshot_id: String }
    TypeActions { actions: Vec<TypeAction>, cadence: Cadence; snapshot_id: String }
    TypeResult { total_characters: i64, key_presses: i64 }
    SetValue { target: String, value: ElementValue; snapshot_id: String }
    PerformAction { target: String, action_name: String; snapshot_id: String }
    ElementActionResult { target: String; action_name: String, anchor_point: Point, old_value: String, new_value: String }
    ScrollRequest { direction: Direction, amount: i64, smooth: bool, delay: i64; target: String, snapshot_id: String }
    Scroll { request: ScrollRequest }
    Hotkey { keys: String, hold_duration: i64 }
    TargetedHotkey { keys: String, hold_duration: i64, target_process_identifier: i32 }
    Swipe { from: Point, to: Point, duration: i64, steps: i64, profile: MouseProfile }
    Drag { from: Point, to: Point, duration: i64, steps: i64, profile: MouseProfile; modifiers: String }
    MoveMouse { to: Point, duration: i64, steps: i64, profile: MouseProfile }
    WaitForElement { target: ClickTarget, timeout: f64; snapshot_id: String }
    WaitResult { found: bool, wait_time: f64, warnings: Vec<String>; element: Element }
}

impl Default for HumanProfile {
    fn default() -> Self {
        Self {
            jitter_amplitude: 0.35,
            overshoot_probability: 0.2,
            overshoot_fraction_range: Range(0.02, 0.06),
            settle_radius: 6.0,
            random_seed: None,
        }
    }
}

// Windows, applications, menus, Dock, dialogs.

words! { "snake_case":
    DockItemType { Application Folder File Url Separator Spacer MinimizedWindow Trash Unknown }
    DialogAction { ClickButton EnterText HandleFileDialog Dismiss Toggle Select }
}

messages! {
    WindowRequest { target: WindowTarget }
    MoveWindow { target: WindowTarget, position: Point }
    ResizeWindow { target: WindowTarget, size: Size }
    SetWindowBounds { target: WindowTarget, bounds: Rect }
    AppRequest { identifier: String }
    QuitApplication { identifier: String, force: bool }
    MenuList { app_identifier: String }
    MenuClick { app_identifier: String, item_path: String }
    MenuClickByName { app_identifier: String, item_name: String }
    NameRequest { name: String }
    MenuExtraFrame { title: String; #[serde(rename = "ownerPID")] owner_pid: i32 }
    IndexRequest { index: i64 }
    DockList { include_all: bool }
    DockLaunch { app_name: String }
    DockRightClick { app_name: String; menu_item: String }
    DialogRequest {; window_title: String, app_name: String }
    DialogClick { button_text: String; window_title: String, app_name: String }
    DialogEnterText {
        text: String, clear_existing: bool;
        field_identifier: String, window_title: String, app_name: String
    }
    DialogFile {; path: String, filename: String, action_button: String, ensure_expanded: bool, app_name: String }
    DialogDismiss { force: bool; window_title: String, app_name: String }
    Shortcut { modifiers: Vec<String>, key: String, display_string: String }
    MenuItem {
        title: String, is_enabled: bool, is_checked: bool, is_separator: bool, submenu: Vec<MenuItem>, path: String;
        bundle_identifier: String, owner_name: String, keyboard_shortcut: Shortcut
    }
    Menu { title: String, items: Vec<MenuItem>, is_enabled: bool; bundle_identifier: String, owner_name: String }
    MenuStructure { application: Application, menus: Vec<Menu> }
    MenuExtra {
        title: String, position: Point, is_visible: bool;
        raw_title: String, bundle_identifier: String, owner_name: String, identifier: String,
        #[serde(rename = "windowID")] window_id: u32, window_layer: i64,
        #[serde(rename = "ownerPID")] owner_pid: i32, source: String
    }
    MenuBarItem {
        index: i64, is_visible: bool;
        title: String, raw_title: String, bundle_identifier: String, owner_name: String, description: String,
        frame: Rect, identifier: String, ax_identifier: String, ax_description: String,
        #[serde(rename = "rawWindowID")] raw_window_id: u32, raw_window_layer: i64,
        #[serde(rename = "rawOwnerPID")] raw_owner_pid: i32, raw_source: String
    }
    ClickResult { element_description: String; location: Point }
    DockItem {
        index: i64, title: String, item_type: DockItemType;
        is_running: bool, bundle_identifier: String, position: Point, size: Size
    }
    DialogInfo { title: String, role: String, is_file_dialog: bool, bounds: Rect; subrole: String }
    DialogButton { title: String, is_enabled: bool, is_default: bool }
    DialogTextField { index: i64, is_enabled: bool; title: String, value: String, placeholder: String }
    DialogElement { role: String; title: String, value: String }
    DialogElements {
        dialog_info: DialogInfo, buttons: Vec<DialogButton>, text_fields: Vec<DialogTextField>,
        static_texts: Vec<String>, other_elements: Vec<DialogElement>,
    }
    DialogResult { success: bool, action: DialogAction, details: BTreeMap<String, String> }
}

// Snapshots, browser, daemon.

words! { "camelCase": DaemonMode { Auto Manual Mcp } }

messages! {
    SnapshotRequest { snapshot_id: String }
    StoreDetection { snapshot_id: String, result: Detection }
    StoreScreenshot {
        snapshot_id: String, screenshot_path: String;
        application_bundle_id: String, application_process_id: i32, application_name: String, window_title: String,
        window_bounds: Rect
    }
    StoreAnnotated { snapshot_id: String, annotated_screenshot_path: String }
    MostRecentSnapshot {; application_bundle_id: String }
    CleanOlderThan { days: i64 }
    Snapshot {
        id: String, process_id: i32, created_at: Date, last_accessed_at: Date, size_in_bytes: i64,
        screenshot_count: i64, is_active: bool
    }
    BrowserChannel {; channel: String }
    BrowserExecute { tool_name: String, arguments: BTreeMap<String, Value>; channel: String }
    Browser { name: String, bundle_identifier: String, process_identifier: i32, channel: String; version: String }
    BrowserStatus { is_connected: bool, tool_count: i64, detected_browsers: Vec<Browser>; error: String }
    BrowserToolResponse { content: Vec<Value>, is_error: bool; meta: Value }
    DaemonBridge {
        socket_path: String, host_kind: HostKind,
        #[serde(deserialize_with = "known")] allowed_operations: Vec<Operation>
    }
    DaemonSnapshots { backend: String, snapshot_count: i64, storage_path: String; last_accessed_at: Date }
    DaemonTracker {
        tracked_windows: i64, ax_observer_count: i64, cg_poll_interval_ms: i64;
        last_event_at: Date, last_poll_at: Date
    }
    DaemonActivity { active_requests: i64; last_activity_at: Date, idle_timeout_seconds: f64, idle_exit_at: Date }
    DaemonStatus {
        running: bool;
        pid: i32, started_at: Date, mode: DaemonMode, bridge: DaemonBridge, permissions: PermissionsStatus,
        snapshots: DaemonSnapshots, window_tracker: DaemonTracker, browser: BrowserStatus, activity: DaemonActivity
    }
}

// Observation: one call that captures, detects and stores.

words! { "camelCase":
    CaptureEngine { Auto Modern Legacy }
    CaptureFocus { Background Auto Foreground }
    ImageFormat { Png Jpg }
}

cases! {
    WindowSelection { Automatic(()), Index(i64), Title(String), Id(u32) }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ObservationTarget {
    Screen {
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<i64>,
    },
    AllScreens {},
    Frontmost {},
    App {
        identifier: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<WindowSelection>,
    },
    Pid {
        #[serde(rename = "_0")]
        pid: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<WindowSelection>,
    },
    #[serde(rename = "windowID", serialize_with = "case")]
    WindowId(u32),
    #[serde(serialize_with = "case")]
    Area(Rect),
    Menubar {},
    MenubarPopover {
        hints: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        open_if_needed: Option<PopoverOpening>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObservedKind {
    Screen {
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<i64>,
    },
    Frontmost {},
    AppWindow {},
    #[serde(rename = "windowID", serialize_with = "case")]
    WindowId(u32),
    #[serde(serialize_with = "case")]
    Area(Rect),
    Menubar {},
    MenubarPopover {},
}

messages! {
    PopoverOpening { settle_delay_nanoseconds: u64, use_click_location_area_fallback: bool; click_hint: String }
    ObservationCapture {
        engine: CaptureEngine, scale: Scale, focus: CaptureFocus, visualizer_mode: VisualizerMode,
        include_menu_bar: bool,
    }
    ObservationDetection {
        mode: DetectionMode, allow_web_focus_fallback: bool, include_menu_bar_elements: bool,
        #[serde(rename = "preferOCR")] prefer_ocr: bool,
        #[serde(default, deserialize_with = "or_default")] traversal_budget: TraversalBudget,
    }
    ObservationOutput {
        format: ImageFormat, save_raw_screenshot: bool, save_annotated_screenshot: bool, save_snapshot: bool;
        path: String, #[serde(rename = "snapshotID")] snapshot_id: String
    }
    ObservationTimeout {; overall: f64, detection: f64 }
    Observation {
        target: ObservationTarget, capture: ObservationCapture, detection: ObservationDetection,
        output: ObservationOutput, timeout: ObservationTimeout
    }
    ObservedApplication { process_identifier: i32, name: String; bundle_identifier: String }
    ObservedWindow { #[serde(rename = "windowID")] window_id: u32, title: String, bounds: Rect, index: i64 }
    ObservedTarget {
        kind: ObservedKind;
        app: ObservedApplication, window: ObservedWindow, bounds: Rect, detection_context: WindowContext,
        capture_scale_hint: f64
    }
    RecognizedText { text: String, confidence: f64, bounding_box: Rect }
    RecognizedTexts { observations: Vec<RecognizedText>, image_size: Size }
    ObservedFiles {; raw_screenshot_path: String, annotated_screenshot_path: String }
    Span {
        name: String, #[serde(rename = "durationMS")] duration_ms: f64, metadata: BTreeMap<String, String>
    }
    Timings { spans: Vec<Span> }
    ObservedState {
        captured_at: Date, display_count: i64, running_application_count: i64, window_count: i64;
        frontmost_application: ObservedApplication, frontmost_window: ObservedWindow
    }
    TargetDiagnostics {
        requested_kind: String, resolved_kind: String, source: String, hints: Vec<String>, open_if_needed: bool;
        click_hint: String, #[serde(rename = "windowID")] window_id: i64, bounds: Rect, capture_scale_hint: f64
    }
    ObservationDiagnostics { warnings: Vec<String>; state_snapshot: ObservedState, target: TargetDiagnostics }
    ObservationResult {
        target: ObservedTarget, capture: Capture, files: ObservedFiles, timings: Timings,
        diagnostics: ObservationDiagnostics;
        elements: Detection, ocr: RecognizedTexts
    }
}

impl Default for TraversalBudget {
    fn default() -> Self {
        Self { max_depth: 12, max_element_count: 400, max_children_per_node: 50 }
    }
}
