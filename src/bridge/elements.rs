//! Operations on what a program's interface consists of: looking, finding again, waiting, setting, pressing. Source: spec
//! peekaboo-bridge §6.

use super::operations::{Job, Operations};
use super::snapshots::Seen;
use super::targets::count;
use crate::desktop::automation::{self, Done, ElementKind, ElementScope, Failure};
use crate::limits;
use crate::protocol::peekaboo::Response;
use crate::protocol::peekaboo::types::{self as wire, ClickTarget, ElementType, WindowContext, WindowTarget};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

impl Operations {
    pub(super) fn detect(&self, context: Option<WindowContext>, snapshot: Option<String>) -> Done<Response> {
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
    pub(super) fn element(&self, target: &str, by_id: bool, snapshot: Option<&str>) -> Done<(Seen, wire::Element)> {
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
    pub(super) fn named_element(&self, target: &str, snapshot: Option<&str>) -> Done<(Seen, wire::Element)> {
        match self.element(target, true, snapshot) {
            Err(Failure::NotFound(_) | Failure::Stale(_)) => self.element(target, false, snapshot),
            found => found,
        }
    }

    pub(super) fn wait_for(&self, asked: &wire::WaitForElement, job: &Job) -> Done<Response> {
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

    pub(super) fn set_value(&self, asked: wire::SetValue) -> Done<Response> {
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

    pub(super) fn perform_action(&self, asked: wire::PerformAction) -> Done<Response> {
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
