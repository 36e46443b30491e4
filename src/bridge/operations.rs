//! What each operation needs of a desktop, and how it is done with it. Source: spec peekaboo-bridge §6.

use super::keys;
use super::snapshots::{Seen, Snapshots};
use super::targets::{Desk, count};
use crate::desktop::automation::{
    self, Ability, ApplicationChange, Area, Automation, Button, Done, ElementKind, ElementScope, Expected, Failure,
    Modifiers, Pointer, Presence, WindowChange,
};
use crate::limits;
use crate::protocol::peekaboo::coding::{Data, Date};
use crate::protocol::peekaboo::types::{
    self as wire, Cadence, CaptureMode, ClickTarget, ClickType, Direction, ElementType, ErrorCode, HandshakeAnswer,
    HostKind, PermissionsStatus, Scale, TypeAction, Version, WindowContext, WindowTarget,
};
use crate::protocol::peekaboo::{Operation, Request, Response};
use crate::sys::clock;
use crate::sys::poll::{Interest, deadline_in, wait_one};
use crate::sys::wake::Wake;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a desktop must be able to do for an operation; none for those that we never serve.
pub fn needs(operation: Operation) -> Option<&'static [Ability]> {
    use Ability as A;
    use Operation as O;
    Some(match operation {
        O::PermissionsStatus
        | O::RequestPostEventPermission
        | O::AppleScriptProbe
        | O::CreateSnapshot
        | O::StoreDetectionResult
        | O::GetDetectionResult
        | O::StoreScreenshot
        | O::StoreAnnotatedScreenshot
        | O::ListSnapshots
        | O::GetMostRecentSnapshot
        | O::CleanSnapshot
        | O::CleanSnapshotsOlderThan
        | O::CleanAllSnapshots => &[],
        O::CaptureScreen | O::CaptureArea => &[A::CaptureScreen],
        O::CaptureWindow | O::CaptureFrontmost => &[A::CaptureWindow, A::Windows, A::Applications],
        O::DetectElements | O::InspectAccessibilityTree | O::WaitForElement => &[A::Elements],
        O::SetValue | O::PerformAction => &[A::Elements, A::ElementActions],
        O::Click | O::Swipe | O::Drag | O::MoveMouse => &[A::Pointer],
        O::TargetedClick => &[A::Pointer, A::Targeted],
        O::Type | O::TypeActions | O::Hotkey => &[A::Keyboard],
        O::TargetedHotkey => &[A::Keyboard, A::Targeted],
        O::Scroll => &[A::Scroll],
        O::ListWindows => &[A::Windows, A::Applications],
        O::GetFocusedWindow => &[A::Windows],
        O::FocusWindow => &[A::Windows, A::Applications, A::FocusWindow],
        O::MoveWindow | O::ResizeWindow | O::SetWindowBounds => &[A::Windows, A::Applications, A::PlaceWindow],
        O::CloseWindow => &[A::Windows, A::Applications, A::CloseWindow],
        O::MinimizeWindow => &[A::Windows, A::Applications, A::MinimizeWindow],
        O::MaximizeWindow => &[A::Windows, A::Applications, A::MaximizeWindow],
        O::ListApplications | O::FindApplication | O::GetFrontmostApplication | O::IsApplicationRunning => {
            &[A::Applications]
        }
        O::LaunchApplication => &[A::Launch],
        O::ActivateApplication => &[A::Applications, A::Activate],
        O::HideApplication | O::UnhideApplication | O::HideOtherApplications | O::ShowAllApplications => {
            &[A::Applications, A::Hide]
        }
        O::QuitApplication => &[A::Applications, A::Quit],
        O::ListMenus | O::ListFrontmostMenus | O::ClickMenuItem | O::ClickMenuItemByName => &[A::Menus],
        O::ListMenuExtras
        | O::ClickMenuExtra
        | O::MenuExtraOpenMenuFrame
        | O::ListMenuBarItems
        | O::ClickMenuBarItemNamed
        | O::ClickMenuBarItemIndex => &[A::MenuExtras],
        O::ListDockItems
        | O::LaunchDockItem
        | O::RightClickDockItem
        | O::HideDock
        | O::ShowDock
        | O::IsDockHidden
        | O::FindDockItem => &[A::Dock],
        O::DialogFindActive
        | O::DialogListElements
        | O::DialogClickButton
        | O::DialogEnterText
        | O::DialogHandleFile
        | O::DialogDismiss => &[A::Dialogs],
        // Files of the host (A133), another program's browser, a daemon: not for us.
        O::DesktopObservation
        | O::BrowserStatus
        | O::BrowserConnect
        | O::BrowserDisconnect
        | O::BrowserExecute
        | O::DaemonStatus
        | O::DaemonStop => return None,
    })
}

/// The operations that a desktop with these abilities can serve, by name, as real hosts list them.
fn offered(abilities: &[Ability]) -> Vec<Operation> {
    let possible = |operation: &Operation| {
        needs(*operation).is_some_and(|needed| needed.iter().all(|ability| abilities.contains(ability)))
    };
    let mut offered: Vec<Operation> = Operation::ALL.iter().copied().filter(possible).collect();
    offered.sort_by_cached_key(ToString::to_string);
    offered
}

/// One request's work.
#[derive(Default)]
pub struct Job {
    /// Bytes of the request.
    pub bytes: usize,
    /// Fired when nobody waits for it any more: then nothing more is done.
    pub end: Option<Arc<Wake>>,
}

impl Job {
    /// Between two steps: goes on after `pause`, unless it is over.
    fn next(&self, pause: Duration) -> Done {
        if let Some(end) = &self.end {
            if !pause.is_zero() {
                let _ = wait_one(end.fd(), Interest::Readable, deadline_in(pause));
            }
            return if end.is_fired() { Err(Failure::Timeout) } else { Ok(()) };
        }
        std::thread::sleep(pause);
        Ok(())
    }
}

/// A desktop as the protocol sees it.
pub struct Operations {
    automation: Arc<dyn Automation>,
    offered: Vec<Operation>,
    snapshots: Snapshots,
    under_way: Arc<AtomicUsize>,
}

/// One operation that is under way.
pub struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Operations {
    /// On this desktop, with an empty store of snapshots.
    pub fn new(automation: Arc<dyn Automation>) -> Self {
        let offered = offered(automation.abilities());
        Self { automation, offered, snapshots: Snapshots::default(), under_way: Arc::default() }
    }

    /// What the owner has granted, as the wire says it.
    pub fn granted(&self) -> PermissionsStatus {
        let automation::Permissions { screen_recording, accessibility, event_posting, apple_script } =
            self.automation.permissions();
        PermissionsStatus { screen_recording, accessibility, apple_script, post_event: event_posting }
    }

    /// A place for one more; none when too many are under way, those that hang included.
    pub fn begin(&self) -> Option<UnderWay> {
        let place = UnderWay(Arc::clone(&self.under_way));
        (self.under_way.fetch_add(1, Ordering::SeqCst) < limits::BRIDGE_OPERATIONS).then_some(place)
    }

    /// A host's side of a handshake in this version.
    pub fn introduce(&self, version: Version, kind: HostKind) -> HandshakeAnswer {
        let granted = self.granted();
        let offered: Vec<Operation> =
            self.offered.iter().copied().filter(|operation| operation.since() <= version.minor).collect();
        let is_granted = |operation: &Operation| operation.permission().is_none_or(|needed| granted.has(needed));
        HandshakeAnswer {
            negotiated_version: version,
            host_kind: kind,
            enabled_operations: Some(offered.iter().copied().filter(is_granted).collect()),
            permission_tags: offered
                .iter()
                .map(|operation| (operation.to_string(), operation.permission().into_iter().collect()))
                .collect(),
            supported_operations: offered,
            build: Some(env!("CARGO_PKG_VERSION").to_owned()),
            permissions: Some(granted),
        }
    }

    /// Offered here, and everything granted that it needs. Nothing is asked and nothing is opened.
    fn gate(&self, operation: Operation) -> Done {
        if !self.offered.contains(&operation) {
            return Err(Failure::NotSupported(operation.to_string()));
        }
        match operation.permission() {
            Some(needed) if !self.granted().has(needed) => Err(Failure::Permission(needed.into())),
            _ => Ok(()),
        }
    }

    /// Does it, if it is offered and permitted.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn perform(&self, request: Request, job: &Job) -> Done<Response> {
        job.next(Duration::ZERO)?;
        request.operation().map_or(Ok(()), |operation| self.gate(operation))?;
        match request {
            Request::Handshake(_) => Err(Failure::Invalid("a handshake is no operation".to_owned())),
            Request::PermissionsStatus(()) => Ok(Response::PermissionsStatus(self.granted())),
            Request::RequestPostEventPermission(()) => self.automation.request_event_posting().map(Response::Bool),
            Request::AppleScriptProbe(()) if self.automation.permissions().apple_script => Ok(Response::Ok(())),
            Request::AppleScriptProbe(()) => Err(Failure::Permission(automation::Permission::AppleScript)),
            Request::CaptureScreen(_)
            | Request::CaptureWindow(_)
            | Request::CaptureFrontmost(_)
            | Request::CaptureArea(_) => self.capture(&request).map(Response::Capture),
            Request::DetectElements(asked) => self.detect(asked.window_context, asked.snapshot_id),
            Request::InspectAccessibilityTree(asked) => self.detect(asked.window_context, None),
            Request::WaitForElement(asked) => self.wait_for(&asked, job),
            Request::SetValue(asked) => self.set_value(asked),
            Request::PerformAction(asked) => self.perform_action(asked),
            Request::Click(asked) => done(self.click(&asked.target, asked.click_type, asked.snapshot_id, None)),
            Request::TargetedClick(asked) => {
                let to = Some(asked.target_process_identifier);
                done(self.click(&asked.target, asked.click_type, asked.snapshot_id, to))
            }
            Request::Type(asked) => done(self.type_into(&asked, job)),
            Request::TypeActions(asked) => self.type_actions(&asked, job),
            Request::Scroll(asked) => done(self.scroll(&asked.request)),
            Request::Hotkey(asked) => done(self.hotkey(&asked.keys, asked.hold_duration, None)),
            Request::TargetedHotkey(asked) => {
                done(self.hotkey(&asked.keys, asked.hold_duration, Some(asked.target_process_identifier)))
            }
            Request::MoveMouse(asked) => {
                let from = self.automation.pointer_position().unwrap_or_else(|_| asked.to.into());
                let (path, pause) = keys::way(from, asked.to.into(), asked.steps, asked.duration, &asked.profile)?;
                done(self.automation.pointer(&Pointer::Move { path, pause }, None, Expected::default()))
            }
            Request::Swipe(asked) => done(self.drag(&wire::Drag {
                from: asked.from,
                to: asked.to,
                duration: asked.duration,
                steps: asked.steps,
                profile: asked.profile,
                modifiers: None,
            })),
            Request::Drag(asked) => done(self.drag(&asked)),
            Request::ListWindows(wire::WindowRequest { target }) => {
                let desk = self.desk()?;
                let windows = desk.windows(&target)?;
                Ok(Response::Windows(windows.into_iter().map(|window| desk.describe_window(window)).collect()))
            }
            Request::GetFocusedWindow(()) => {
                let desk = self.desk()?;
                let focused = desk.windows.iter().find(|window| window.focused);
                Ok(Response::Window(focused.map(|window| desk.describe_window(window))))
            }
            Request::FocusWindow(asked) => self.change_window(&asked.target, WindowChange::Focus),
            Request::CloseWindow(asked) => self.change_window(&asked.target, WindowChange::Close),
            Request::MinimizeWindow(asked) => self.change_window(&asked.target, WindowChange::Minimize),
            Request::MaximizeWindow(asked) => self.change_window(&asked.target, WindowChange::Maximize),
            Request::MoveWindow(asked) => {
                self.change_window(&asked.target, WindowChange::Place(Some(asked.position.into()), None))
            }
            Request::ResizeWindow(asked) => {
                self.change_window(&asked.target, WindowChange::Place(None, Some(asked.size.into())))
            }
            Request::SetWindowBounds(wire::SetWindowBounds { target, bounds: wire::Rect(origin, size) }) => {
                self.change_window(&target, WindowChange::Place(Some(origin.into()), Some(size.into())))
            }
            Request::ListApplications(()) => self.list_applications(),
            Request::FindApplication(asked) => {
                let desk = self.desk()?;
                Ok(Response::Application(desk.describe_application(desk.application(&asked.identifier)?)))
            }
            Request::GetFrontmostApplication(()) => {
                let desk = self.desk()?;
                Ok(Response::Application(desk.describe_application(desk.frontmost()?)))
            }
            Request::IsApplicationRunning(asked) => {
                Ok(Response::Bool(self.desk()?.application(&asked.identifier).is_ok()))
            }
            Request::LaunchApplication(asked) => {
                let started = self.automation.launch(&asked.identifier)?;
                Ok(Response::Application(self.desk()?.describe_application(&started)))
            }
            Request::ActivateApplication(asked) => self.change(&asked.identifier, ApplicationChange::Activate),
            Request::HideApplication(asked) => self.change(&asked.identifier, ApplicationChange::Hide),
            Request::UnhideApplication(asked) => self.change(&asked.identifier, ApplicationChange::Unhide),
            Request::QuitApplication(asked) => {
                let pid = self.desk()?.application(&asked.identifier)?.pid;
                let quit = ApplicationChange::Quit { force: asked.force };
                self.automation.change_application(pid, quit).map(Response::Bool)
            }
            Request::HideOtherApplications(asked) => {
                let desk = self.desk()?;
                let kept = desk.application(&asked.identifier)?.pid;
                self.change_all(&desk, ApplicationChange::Hide, |application| application.pid != kept)
            }
            Request::ShowAllApplications(()) => {
                self.change_all(&self.desk()?, ApplicationChange::Unhide, |application| application.hidden)
            }
            Request::CreateSnapshot(_) => Ok(Response::SnapshotId(self.snapshots.create())),
            Request::StoreDetectionResult(asked) => {
                done(self.snapshots.store_detection(&asked.snapshot_id, asked.result, None, job.bytes))
            }
            Request::StoreScreenshot(asked) => done(self.snapshots.store_screenshot(asked, job.bytes)),
            Request::StoreAnnotatedScreenshot(asked) => {
                let path = asked.annotated_screenshot_path;
                done(self.snapshots.store_annotated(&asked.snapshot_id, path, job.bytes))
            }
            Request::GetDetectionResult(asked) => {
                Ok(self.snapshots.detection(&asked.snapshot_id)?.map_or_else(not_found, Response::Detection))
            }
            Request::GetMostRecentSnapshot(asked) => {
                let recent = self.snapshots.most_recent(asked.application_bundle_id.as_deref());
                Ok(recent.map_or_else(not_found, Response::SnapshotId))
            }
            Request::ListSnapshots(()) => Ok(Response::Snapshots(self.snapshots.list())),
            Request::CleanSnapshot(asked) => done(self.snapshots.clean(&asked.snapshot_id)),
            Request::CleanSnapshotsOlderThan(asked) => Ok(Response::Int(self.snapshots.clean_older(Some(asked.days)))),
            Request::CleanAllSnapshots(()) => Ok(Response::Int(self.snapshots.clean_older(None))),
            carried => self.automation.carry_out(&carried),
        }
    }

    fn desk(&self) -> Done<Desk<'_>> {
        Desk::look(&*self.automation)
    }

    fn list_applications(&self) -> Done<Response> {
        let desk = self.desk()?;
        let is_listed = |one: &&automation::Application| one.presence != Presence::Background && !one.name.is_empty();
        let mut list: Vec<_> =
            desk.applications.iter().filter(is_listed).map(|one| desk.describe_application(one)).collect();
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::Applications(list))
    }

    fn change_window(&self, target: &WindowTarget, change: WindowChange) -> Done<Response> {
        let id = self.desk()?.window(target)?.id;
        done(self.automation.change_window(id, change))
    }

    fn change(&self, identifier: &str, change: ApplicationChange) -> Done<Response> {
        let pid = self.desk()?.application(identifier)?.pid;
        if self.automation.change_application(pid, change)? {
            return Ok(Response::Ok(()));
        }
        Err(Failure::Internal("the application did not do it".to_owned()))
    }

    fn change_all(
        &self,
        desk: &Desk<'_>,
        change: ApplicationChange,
        which: impl Fn(&automation::Application) -> bool,
    ) -> Done<Response> {
        let is_visible = |one: &&automation::Application| one.presence == Presence::Regular && which(one);
        for application in desk.applications.iter().filter(is_visible) {
            self.automation.change_application(application.pid, change)?;
        }
        Ok(Response::Ok(()))
    }

    // ---- capture ----

    fn capture(&self, request: &Request) -> Done<wire::Capture> {
        let desk = self.desk()?;
        let (area, mode, scale) = match request {
            Request::CaptureScreen(asked) => {
                let index = asked.display_index.unwrap_or_default();
                let index = usize::try_from(index)
                    .ok()
                    .filter(|index| self.automation.screens().is_ok_and(|screens| *index < screens.len()));
                let index = index.ok_or_else(|| Failure::Invalid("there is no screen of this index".to_owned()))?;
                (Area::Screen(index), CaptureMode::Screen, &asked.scale)
            }
            Request::CaptureArea(asked) => (Area::Rect(asked.rect.into()), CaptureMode::Area, &asked.scale),
            Request::CaptureFrontmost(asked) => {
                (Area::Window(desk.window(&WindowTarget::Frontmost)?.id), CaptureMode::Frontmost, &asked.scale)
            }
            Request::CaptureWindow(asked) => {
                let app = asked.app_identifier.clone();
                let target = match (asked.window_id, asked.window_index) {
                    (Some(window_id), _) => WindowTarget::WindowId { window_id },
                    _ if app.is_empty() => {
                        return Err(Failure::Invalid("captureWindow needs a window's id or an application".to_owned()));
                    }
                    (None, Some(index)) => WindowTarget::Index { app, index },
                    (None, None) => WindowTarget::Application { app },
                };
                (Area::Window(desk.window(&target)?.id), CaptureMode::Window, &asked.scale)
            }
            _ => return Err(Failure::NotSupported("this".to_owned())),
        };
        let density = match scale {
            Scale::Logical(()) => automation::Scale::Logical,
            Scale::Native(()) => automation::Scale::Native,
        };
        let image = self.automation.capture(area, density)?;
        let window = match area {
            Area::Window(id) => desk.windows.iter().find(|window| window.id == id),
            _ => None,
        };
        let owner = window.and_then(|window| desk.applications.iter().find(|one| one.pid == window.pid));
        let metadata = wire::CaptureMetadata {
            size: wire::Size(f64::from(image.width), f64::from(image.height)),
            mode,
            timestamp: Date(clock::wall_ms() / 1_000),
            video_timestamp_ms: None,
            application_info: owner.map(|owner| desk.describe_application(owner)),
            window_info: window.map(|window| desk.describe_window(window)),
            display_info: self.display(area)?,
            diagnostics: None,
        };
        Ok(wire::Capture { image_data: Data(image.png), metadata, saved_path: None, warning: None })
    }

    fn display(&self, area: Area) -> Done<Option<wire::Display>> {
        let Area::Screen(index) = area else { return Ok(None) };
        let screens = self.automation.screens()?;
        Ok(screens.into_iter().nth(index).map(|screen| wire::Display {
            index: count(index),
            bounds: screen.bounds.into(),
            scale_factor: screen.scale,
            name: screen.name,
        }))
    }

    // ---- elements ----

    fn detect(&self, context: Option<WindowContext>, snapshot: Option<String>) -> Done<Response> {
        let started = Instant::now();
        let context = context.unwrap_or_default();
        let looked = self.automation.elements(&self.scope(&context)?)?;
        let id = snapshot.clone().unwrap_or_default();
        let (detection, found) = describe(looked, context, id, started.elapsed());
        if let Some(id) = snapshot {
            // About as large as its text.
            let bytes = found.values().map(|element| 512 + element.attributes.len() * 64).sum();
            self.snapshots.store_detection(&id, detection.clone(), Some(found), bytes)?;
        }
        Ok(Response::ElementDetection(detection))
    }

    fn scope(&self, context: &WindowContext) -> Done<ElementScope> {
        let budget = context.traversal_budget.unwrap_or_default();
        let (depth, elements, children) = limits::BRIDGE_TREE;
        let at_most = |asked: i64, most: usize| usize::try_from(asked).unwrap_or_default().clamp(1, most);
        let named = context.application_bundle_id.as_ref().or(context.application_name.as_ref());
        let desk = self.desk()?;
        let pid = match (context.application_process_id, named) {
            (Some(pid), _) => Some(pid),
            (None, Some(name)) => Some(desk.application(name)?.pid),
            (None, None) => None,
        };
        let by_title = |title: &String| {
            let app = format!("PID:{}", pid?);
            desk.window(&WindowTarget::ApplicationAndTitle { app, title: title.clone() }).ok().map(|window| window.id)
        };
        Ok(ElementScope {
            pid,
            window: context
                .window_id
                .and_then(|id| u32::try_from(id).ok())
                .or_else(|| context.window_title.as_ref().and_then(by_title)),
            max_depth: at_most(budget.max_depth, depth),
            max_elements: at_most(budget.max_element_count, elements),
            max_children: at_most(budget.max_children_per_node, children),
        })
    }

    /// What is in front now, as if it had just been stored.
    fn look(&self) -> Done<Seen> {
        let started = Instant::now();
        let context = WindowContext::default();
        let looked = self.automation.elements(&self.scope(&context)?)?;
        let (detection, found) = describe(looked, context, String::new(), started.elapsed());
        Ok(Seen::now(detection, found))
    }

    /// What was seen, and the element in it that is meant: by id, else by what stands on it. Without a
    /// snapshot, a query looks at what is in front now.
    fn element(&self, target: &str, by_id: bool, snapshot: Option<&str>) -> Done<(Seen, wire::Element)> {
        let seen = match self.snapshots.seen(snapshot) {
            Err(Failure::Stale(_)) if !by_id && snapshot.is_none() => self.look()?,
            seen => seen?,
        };
        let detection = seen.detection.as_ref().ok_or_else(|| Failure::NotFound("such element".to_owned()))?;
        let element = elements_of(&detection.elements)
            .find(|element| if by_id { element.id == target } else { matches_query(element, target) });
        let element = element.cloned().ok_or_else(|| Failure::NotFound("such element".to_owned()))?;
        Ok((seen, element))
    }

    /// The same by id or, when there is none of this id, by what stands on it.
    fn named_element(&self, target: &str, snapshot: Option<&str>) -> Done<(Seen, wire::Element)> {
        match self.element(target, true, snapshot) {
            Err(Failure::NotFound(_) | Failure::Stale(_)) => self.element(target, false, snapshot),
            found => found,
        }
    }

    fn wait_for(&self, asked: &wire::WaitForElement, job: &Job) -> Done<Response> {
        let started = Instant::now();
        let most = limits::BRIDGE_OPERATION_DEADLINE.saturating_sub(Duration::from_millis(500));
        let timeout = Duration::try_from_secs_f64(asked.timeout.max(0.0)).unwrap_or(most).min(most);
        loop {
            let found = match &asked.target {
                ClickTarget::Coordinates { .. } => Ok(None),
                ClickTarget::ElementId { value } => {
                    self.element(value, true, asked.snapshot_id.as_deref()).map(|(_, element)| Some(element))
                }
                ClickTarget::Query { value } => self.look().and_then(|seen| {
                    let lists = seen.detection.as_ref().map(|detection| &detection.elements);
                    let found = lists.and_then(|lists| elements_of(lists).find(|one| matches_query(one, value)));
                    found.cloned().map(Some).ok_or_else(|| Failure::NotFound("such element".to_owned()))
                }),
            };
            let (found, element) = match found {
                Ok(element) => (true, element),
                Err(Failure::NotFound(_) | Failure::Stale(_)) => (false, None),
                Err(other) => return Err(other),
            };
            if found || started.elapsed() >= timeout {
                let wait_time = started.elapsed().as_secs_f64();
                return Ok(Response::WaitResult(wire::WaitResult { found, wait_time, warnings: Vec::new(), element }));
            }
            job.next(limits::BRIDGE_LOOK_PAUSE)?;
        }
    }

    fn set_value(&self, asked: wire::SetValue) -> Done<Response> {
        let (seen, element) = self.named_element(&asked.target, asked.snapshot_id.as_deref())?;
        let own = own_element(&seen, &element)?;
        let value = match asked.value {
            wire::ElementValue::Bool(value) => automation::ElementValue::Bool(value),
            wire::ElementValue::Int(value) => automation::ElementValue::Int(value),
            wire::ElementValue::Double(value) => automation::ElementValue::Double(value),
            wire::ElementValue::Text(value) => automation::ElementValue::Text(value),
        };
        let (old_value, new_value) = self.automation.set_value(own, &value)?;
        Ok(Response::ElementActionResult(wire::ElementActionResult {
            target: asked.target,
            action_name: None,
            anchor_point: Some(own.bounds.center().into()),
            old_value,
            new_value,
        }))
    }

    fn perform_action(&self, asked: wire::PerformAction) -> Done<Response> {
        let is_name = (1..=limits::BRIDGE_ACTION_CHARS).contains(&asked.action_name.chars().count())
            && asked.action_name.chars().all(|one| one.is_alphanumeric() || matches!(one, '_' | '-'));
        if !is_name {
            return Err(Failure::Invalid("an action's name is 1 to 128 letters, digits, _ and -".to_owned()));
        }
        let (seen, element) = self.named_element(&asked.target, asked.snapshot_id.as_deref())?;
        let own = own_element(&seen, &element)?;
        self.automation.perform(own, &asked.action_name)?;
        Ok(Response::ElementActionResult(wire::ElementActionResult {
            target: asked.target,
            action_name: Some(asked.action_name),
            anchor_point: Some(own.bounds.center().into()),
            old_value: None,
            new_value: None,
        }))
    }

    // ---- pointer and keys ----

    /// Where an element that was seen is now.
    fn place(&self, (seen, element): &(Seen, wire::Element)) -> Done<(automation::Point, Expected)> {
        self.desk()?.place_now(seen, element.bounds.into(), seen.found.get(&element.id))
    }

    fn click(&self, target: &ClickTarget, kind: ClickType, snapshot: Option<String>, to: Option<i32>) -> Done {
        let snapshot = snapshot.as_deref();
        let (at, expected) = match target {
            ClickTarget::Coordinates { x, y } => (automation::Point { x: *x, y: *y }, Expected::default()),
            ClickTarget::ElementId { value } => self.place(&self.element(value, true, snapshot)?)?,
            ClickTarget::Query { value } => self.place(&self.element(value, false, snapshot)?)?,
        };
        if to.is_some() && expected.pid.is_some() && to != expected.pid {
            return Err(Failure::Invalid("the element belongs to another process than the one named".to_owned()));
        }
        let (button, count) = match kind {
            ClickType::Single => (Button::Left, 1),
            ClickType::Right => (Button::Right, 1),
            ClickType::Double => (Button::Left, 2),
        };
        self.automation.pointer(&Pointer::Click { at, button, count }, to, expected)
    }

    fn drag(&self, asked: &wire::Drag) -> Done {
        let from = asked.from.into();
        let (mut path, pause) = keys::way(from, asked.to.into(), asked.steps, asked.duration, &asked.profile)?;
        path.insert(0, from);
        let modifiers = asked.modifiers.as_deref().map_or(Ok(Modifiers::default()), keys::modifiers)?;
        self.automation.pointer(&Pointer::Drag { path, pause, modifiers }, None, Expected::default())
    }

    fn scroll(&self, asked: &wire::ScrollRequest) -> Done {
        let invalid = || Failure::Invalid("amount must be 0 to 1000".to_owned());
        let ticks = u32::try_from(asked.amount).ok().filter(|ticks| *ticks <= 1_000).ok_or_else(invalid)?;
        let (at, expected) = match &asked.target {
            Some(target) => {
                let (at, expected) = self.place(&self.named_element(target, asked.snapshot_id.as_deref())?)?;
                (Some(at), expected)
            }
            None => (None, Expected::default()),
        };
        let direction = match asked.direction {
            Direction::Up => automation::Direction::Up,
            Direction::Down => automation::Direction::Down,
            Direction::Left => automation::Direction::Left,
            Direction::Right => automation::Direction::Right,
        };
        let pause = keys::milliseconds(asked.delay)?;
        self.automation.scroll(&automation::Scroll { at, direction, ticks, smooth: asked.smooth, pause }, expected)
    }

    fn hotkey(&self, text: &str, hold: i64, to: Option<i32>) -> Done {
        let (modifiers, key) = keys::shortcut(text)?;
        self.automation.press(key, modifiers, keys::milliseconds(hold)?, to, Expected::default())
    }

    fn type_into(&self, asked: &wire::Type, job: &Job) -> Done {
        let mut expected = Expected::default();
        if let Some(target) = &asked.target {
            let (at, there) = self.place(&self.named_element(target, asked.snapshot_id.as_deref())?)?;
            self.automation.pointer(&Pointer::Click { at, button: Button::Left, count: 1 }, None, there)?;
            expected = there;
        }
        if asked.clear_existing {
            self.clear(expected)?;
        }
        self.type_text(&asked.text, keys::milliseconds(asked.typing_delay)?, expected, job)
    }

    fn type_actions(&self, asked: &wire::TypeActions, job: &Job) -> Done<Response> {
        let pause = keys::milliseconds(match asked.cadence {
            Cadence::Fixed { milliseconds } => milliseconds,
            // A word is five characters.
            Cadence::Human { words_per_minute } => 12_000 / words_per_minute.max(1),
        })?;
        let expected = match asked.snapshot_id.as_deref() {
            Some(id) => Expected { pid: self.snapshots.seen(Some(id))?.context().application_process_id, window: None },
            None => Expected::default(),
        };
        let mut typed = wire::TypeResult { total_characters: 0, key_presses: 0 };
        for action in &asked.actions {
            job.next(pause)?;
            match action {
                TypeAction::Text { text } => {
                    self.type_text(text, pause, expected, job)?;
                    typed.total_characters += count(text.chars().count());
                    typed.key_presses += count(text.chars().count());
                }
                TypeAction::Key { key } => {
                    let key = keys::special(*key).ok_or_else(|| Failure::Invalid("an unknown key".to_owned()))?;
                    self.automation.press(key, Modifiers::default(), Duration::ZERO, None, expected)?;
                    typed.key_presses += 1;
                }
                TypeAction::Clear => {
                    self.clear(expected)?;
                    typed.key_presses += 2;
                }
            }
        }
        Ok(Response::TypeResult(typed))
    }

    /// One by one where there is a pause, so that nothing more is typed when nobody waits any more.
    fn type_text(&self, text: &str, pause: Duration, expected: Expected, job: &Job) -> Done {
        if pause.is_zero() {
            return self.automation.type_text(text, pause, expected);
        }
        for character in text.chars() {
            self.automation.type_text(character.encode_utf8(&mut [0; 4]), Duration::ZERO, expected)?;
            job.next(pause)?;
        }
        Ok(())
    }

    /// Selects everything in the field and deletes it.
    fn clear(&self, expected: Expected) -> Done {
        let is_mac = cfg!(target_os = "macos");
        let all = Modifiers { command: is_mac, control: !is_mac, ..Modifiers::default() };
        self.automation.press(automation::Key::Character('a'), all, Duration::ZERO, None, expected)?;
        self.automation.press(automation::Key::Delete, Modifiers::default(), Duration::ZERO, None, expected)
    }
}

fn done(outcome: Done) -> Done<Response> {
    outcome.map(Response::Ok)
}

/// The one answer that clients tell from a failure. Source: spec §5
fn not_found() -> Response {
    let message = "no such snapshot, or it holds nothing".to_owned();
    Response::Error(wire::Failure { code: ErrorCode::NotFound, message, details: None, permission: None })
}

fn own_element<'a>(seen: &'a Seen, element: &wire::Element) -> Done<&'a automation::Element> {
    let own = seen.found.get(&element.id);
    own.ok_or_else(|| Failure::Stale("the element was not looked up through this host".to_owned()))
}

/// What stands on it, ignoring case. Source: spec §6 "Semantics"
fn matches_query(element: &wire::Element, query: &str) -> bool {
    let query = query.to_lowercase();
    let named = ["title", "description", "identifier", "placeholder"];
    let named = named.iter().filter_map(|name| element.attributes.get(*name));
    let mut texts = element.label.iter().chain(&element.value).chain(named);
    !query.is_empty() && texts.any(|text| text.to_lowercase().contains(&query))
}

fn elements_of(lists: &wire::ElementLists) -> impl Iterator<Item = &wire::Element> {
    let wire::ElementLists { buttons, text_fields, links, images, groups, sliders, checkboxes, menus, other } = lists;
    [buttons, text_fields, links, images, groups, sliders, checkboxes, menus, other].into_iter().flatten()
}

/// Our looking in the wire's words, and our own elements by the ids that it gave them.
fn describe(
    looked: automation::Elements,
    asked: WindowContext,
    snapshot_id: String,
    took: Duration,
) -> (wire::Detection, HashMap<String, automation::Element>) {
    let window = looked.window.as_ref();
    let context = WindowContext {
        application_name: Some(looked.application.name.clone()),
        application_bundle_id: looked.application.bundle_id.clone(),
        application_process_id: Some(looked.application.pid),
        window_title: window.map(|window| window.title.clone()),
        window_id: window.map(|window| i64::from(window.id)),
        window_bounds: window.map(|window| window.bounds.into()),
        ..asked
    };
    let [max_depth_reached, max_element_count_reached, max_children_per_node_reached] = looked.truncated;
    let truncation_info = looked.truncated.contains(&true).then_some(wire::Truncation {
        max_depth_reached,
        max_element_count_reached,
        max_children_per_node_reached,
    });
    let metadata = wire::DetectionMetadata {
        detection_time: took.as_secs_f64(),
        element_count: count(looked.elements.len()),
        method: "accessibility".to_owned(),
        warnings: Vec::new(),
        is_dialog: looked.dialog,
        window_context: Some(context),
        truncation_info,
    };
    let (mut lists, mut found) = (wire::ElementLists::default(), HashMap::new());
    for (number, element) in looked.elements.into_iter().enumerate() {
        let id = format!("elem_{number}");
        let (kind, list) = list_of(element.kind, &mut lists);
        list.push(wire::Element {
            id: id.clone(),
            kind,
            bounds: element.bounds.into(),
            is_enabled: element.enabled,
            attributes: element
                .attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            label: element.label.clone(),
            value: element.value.clone(),
            is_selected: element.selected,
        });
        found.insert(id, element);
    }
    (wire::Detection { snapshot_id, screenshot_path: String::new(), elements: lists, metadata }, found)
}

/// Kinds without a list of their own go to `other`. Source: spec §6 "Types"
fn list_of(kind: ElementKind, lists: &mut wire::ElementLists) -> (ElementType, &mut Vec<wire::Element>) {
    match kind {
        ElementKind::Button => (ElementType::Button, &mut lists.buttons),
        ElementKind::TextField => (ElementType::TextField, &mut lists.text_fields),
        ElementKind::Link => (ElementType::Link, &mut lists.links),
        ElementKind::Image => (ElementType::Image, &mut lists.images),
        ElementKind::Group => (ElementType::Group, &mut lists.groups),
        ElementKind::Slider => (ElementType::Slider, &mut lists.sliders),
        ElementKind::Checkbox => (ElementType::Checkbox, &mut lists.checkboxes),
        ElementKind::Menu => (ElementType::Menu, &mut lists.menus),
        ElementKind::MenuItem => (ElementType::MenuItem, &mut lists.menus),
        ElementKind::StaticText => (ElementType::StaticText, &mut lists.other),
        ElementKind::RadioButton => (ElementType::RadioButton, &mut lists.other),
        ElementKind::Window => (ElementType::Window, &mut lists.other),
        ElementKind::Dialog => (ElementType::Dialog, &mut lists.other),
        ElementKind::Other => (ElementType::Other, &mut lists.other),
    }
}
