//! The interface of another program: walked through within bounds, and an element of it found again by its way from the
//! window and by what it is called.

use super::guard::{self, Guard};
use super::windows::{self, Described};
use super::{Deadline, programs};
use crate::desktop::automation::{
    Done, Element, ElementKind, ElementScope, ElementValue, Elements, Failure, Window, WindowId,
};
use crate::limits;
use openclaw_macos::accessibility::{self, Refusal, Value};
use openclaw_macos::core_graphics;
use std::iter;

type Node = accessibility::Element;

const SECURE: &str = "AXSecureTextField";
/// What makes an element the same one when it is found again, as far as it has it.
const IDENTITY: [&str; 5] = ["role", "subrole", "identifier", "title", "description"];
/// What is asked for by one question; the first ones are [`IDENTITY`].
const QUESTIONS: [&str; 11] = [
    "AXRole",
    "AXSubrole",
    "AXIdentifier",
    "AXTitle",
    "AXDescription",
    "AXPlaceholderValue",
    "AXHelp",
    "AXEnabled",
    "AXSelected",
    "AXPosition",
    "AXSize",
];
/// Roles whose value is worth a question of its own.
const WITH_VALUE: [&str; 11] = [
    "AXTextField",
    "AXTextArea",
    "AXComboBox",
    "AXStaticText",
    "AXCheckBox",
    "AXRadioButton",
    "AXSlider",
    "AXPopUpButton",
    "AXIncrementor",
    "AXProgressIndicator",
    "AXSwitch",
];

/// What a program's interface consists of.
pub(super) fn look(scope: &ElementScope, guard: &Guard) -> Done<Elements> {
    let pid = match scope.pid {
        Some(pid) => pid,
        None => guard::front()?.ok_or_else(|| Failure::NotFound("program in front".to_owned()))?,
    };
    guard.process(pid)?;
    let application = programs::of_process(pid)?;
    // Programs made with Electron show what is inside their windows only to who asks for it, from the next look on.
    let _ = Node::application(pid)?.set("AXManualAccessibility", &Value::Bool(true));
    let (root, id, dialog) = match root_window(pid, scope.window)? {
        Some(window) => (window.element, window.id, window.dialog),
        None => (Node::application(pid)?, None, false),
    };
    let deadline = Deadline::new();
    let (most_deep, most, most_children) = limits::BRIDGE_TREE;
    let bounds = [scope.max_depth.min(most_deep), scope.max_elements.min(most), scope.max_children.min(most_children)];
    let mut elements = Vec::new();
    let children = |node: &Node, most| {
        // One that hangs or is gone by now has none.
        if deadline.is_over() { Err(()) } else { Ok(node.list("AXChildren", 0, most).unwrap_or_default()) }
    };
    let truncated =
        walk(root, bounds, children, |node, way| elements.extend(describe(node, pid, id, way).ok().flatten()));
    let window = match id {
        Some(id) => core_graphics::windows(true)?.iter().find(|window| window.id == id).map(Window::from),
        None => None,
    };
    Ok(Elements { elements, application, window, dialog, truncated })
}

/// The window of this number; else the program's focused, main or first one, if it has any.
fn root_window(pid: i32, wanted: Option<WindowId>) -> Done<Option<Described>> {
    if let Some(id) = wanted {
        let info = windows::foreign(id)?;
        if info.pid != pid {
            return Err(Failure::Stale("the window belongs to another program".to_owned()));
        }
        return described(pid, id).map(Some);
    }
    Ok(windows_of(pid)?.next())
}

/// The focused window, the main one, then all. A dialog may be focused and not among all.
fn windows_of(pid: i32) -> Done<impl Iterator<Item = Described>> {
    let application = Node::application(pid)?;
    let focused = application.get("AXFocusedWindow")?;
    let main = iter::once_with(move || application.get("AXMainWindow").ok().flatten());
    let element = |value| if let Some(Value::Element(window)) = value { Described::new(window).ok() } else { None };
    let named = iter::once(focused).chain(main).filter_map(element);
    Ok(named.chain(iter::once_with(move || windows::of_program(pid).unwrap_or_default()).flatten()))
}

fn described(pid: i32, id: WindowId) -> Done<Described> {
    let found = windows_of(pid)?.find(|window| window.id == Some(id));
    found.ok_or_else(|| Failure::Stale("the window is gone".to_owned()))
}

/// Goes through a tree, parents before their children: at most so many levels, nodes, and children of one node. Which of
/// these bounds were reached. `children` fails when there is no time for more, which counts as too many nodes.
fn walk<N>(
    root: N,
    [depth, nodes, each]: [usize; 3],
    mut children: impl FnMut(&N, usize) -> Result<Vec<N>, ()>,
    mut visit: impl FnMut(&N, &[usize]),
) -> [bool; 3] {
    let mut truncated = [false; 3];
    let mut waiting = vec![(root, Vec::new())];
    let mut visited = 0;
    while let Some((node, way)) = waiting.pop() {
        if visited == nodes {
            truncated[1] = true;
            break;
        }
        visited += 1;
        visit(&node, &way);
        let Ok(mut found) = children(&node, each.saturating_add(1)) else {
            truncated[1] = true;
            break;
        };
        if way.len().saturating_add(1) >= depth {
            truncated[0] |= !found.is_empty();
            continue;
        }
        truncated[2] |= found.len() > each;
        found.truncate(each);
        let place = |(index, child)| (child, way.iter().copied().chain([index]).collect());
        waiting.extend(found.into_iter().enumerate().map(place).rev());
    }
    truncated
}

/// An element as it is now; none when it has no role, so is none to anybody.
fn describe(node: &Node, pid: i32, window: Option<WindowId>, way: &[usize]) -> Result<Option<Element>, Refusal> {
    let mut values = node.get_all(&QUESTIONS)?.into_iter();
    let mut next = || values.next().flatten();
    let names = IDENTITY.into_iter().chain(["placeholder", "help"]);
    let attributes: Vec<(&'static str, String)> =
        names.filter_map(|name| text(next()).filter(|text| !text.is_empty()).map(|text| (name, text))).collect();
    let (enabled, selected) = (next(), next());
    let bounds = windows::bounds(next(), next());
    let attribute = |wanted| attributes.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text.as_str());
    let Some(role) = attribute("role") else { return Ok(None) };
    let subrole = attribute("subrole").unwrap_or_default();
    let value =
        if may_tell_value(role, subrole) { node.get("AXValue")?.and_then(|value| text(Some(value))) } else { None };
    let own_text = if role == "AXStaticText" { value.as_deref() } else { None };
    let label = ["title", "description"].into_iter().find_map(attribute).or(own_text);
    let label = label.or_else(|| ["placeholder", "help"].into_iter().find_map(attribute)).map(str::to_owned);
    let is = |value| if let Some(Value::Bool(is)) = value { Some(is) } else { None };
    let selected = is(selected)
        .or_else(|| ["AXCheckBox", "AXRadioButton", "AXSwitch"].contains(&role).then(|| value.as_deref() == Some("1")));
    Ok(Some(Element {
        handle: handle(window, way),
        pid,
        // A menu that belongs to an element of the window is a window of its own.
        window: window.filter(|_| !role.starts_with("AXMenu") || role == "AXMenuButton"),
        kind: kind(role, subrole),
        label,
        value,
        bounds,
        enabled: is(enabled).unwrap_or(true),
        selected,
        attributes,
    }))
}

/// Whether the value may be read: never of a field for secrets.
fn may_tell_value(role: &str, subrole: &str) -> bool {
    WITH_VALUE.contains(&role) && subrole != SECURE
}

/// A value as text, cut where it is too long.
fn text(value: Option<Value>) -> Option<String> {
    let mut text = match value? {
        Value::Text(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => u8::from(value).to_string(),
        Value::Point(_) | Value::Size(_) | Value::Element(_) => return None,
    };
    text.truncate(text.floor_char_boundary(limits::ELEMENT_TEXT_BYTES));
    Some(text)
}

fn kind(role: &str, subrole: &str) -> ElementKind {
    match (role, subrole) {
        (_, "AXDialog" | "AXSystemDialog") | ("AXSheet", _) => ElementKind::Dialog,
        ("AXLink", _) | (_, "AXLink") => ElementKind::Link,
        ("AXButton" | "AXPopUpButton" | "AXMenuButton" | "AXDisclosureTriangle", _) => ElementKind::Button,
        ("AXTextField" | "AXTextArea" | "AXComboBox" | "AXSearchField", _) => ElementKind::TextField,
        ("AXImage", _) => ElementKind::Image,
        ("AXGroup" | "AXScrollArea" | "AXSplitGroup" | "AXTabGroup" | "AXToolbar" | "AXWebArea", _) => {
            ElementKind::Group
        }
        ("AXSlider", _) => ElementKind::Slider,
        ("AXCheckBox" | "AXSwitch", _) => ElementKind::Checkbox,
        ("AXRadioButton", _) => ElementKind::RadioButton,
        ("AXMenu" | "AXMenuBar", _) => ElementKind::Menu,
        ("AXMenuItem" | "AXMenuBarItem", _) => ElementKind::MenuItem,
        ("AXStaticText" | "AXHeading", _) => ElementKind::StaticText,
        ("AXWindow", _) => ElementKind::Window,
        _ => ElementKind::Other,
    }
}

/// `window:way`, the window's number (empty: the program itself) and each child's place among its siblings.
fn handle(window: Option<WindowId>, way: &[usize]) -> String {
    let way: Vec<String> = way.iter().map(usize::to_string).collect();
    format!("{}:{}", window.map_or(String::new(), |window| window.to_string()), way.join("."))
}

/// The inverse of [`handle`]; none for what it did not make.
fn parsed(handle: &str) -> Option<(Option<WindowId>, Vec<usize>)> {
    let (window, way) = handle.split_once(':')?;
    let window = if window.is_empty() { None } else { Some(window.parse().ok()?) };
    let way = if way.is_empty() { Ok(Vec::new()) } else { way.split('.').map(str::parse::<usize>).collect() }.ok()?;
    (way.len() <= limits::BRIDGE_TREE.0).then_some((window, way))
}

/// Finds an element again: at its place, and still the same as far as can be told (A136).
fn find(element: &Element, guard: &Guard) -> Done<(Node, Element)> {
    guard.process(element.pid)?;
    let stale = || Failure::Stale("the element is not where it was".to_owned());
    let (window, way) = parsed(&element.handle).ok_or_else(|| Failure::Invalid("no such element".to_owned()))?;
    let mut node = match window {
        Some(id) => {
            windows::foreign(id)?;
            described(element.pid, id)?.element
        }
        None => match root_window(element.pid, None)? {
            Some(window) if window.id.is_none() => window.element,
            Some(_) => return Err(stale()),
            None => Node::application(element.pid)?,
        },
    };
    for place in &way {
        node = node.list("AXChildren", *place, 1)?.into_iter().next().ok_or_else(stale)?;
    }
    // It may be shown by another process than its window's.
    guard.process(node.pid()?)?;
    let now = describe(&node, element.pid, window, &way)?.ok_or_else(stale)?;
    if is_same(element, &now) { Ok((node, now)) } else { Err(stale()) }
}

fn is_same(before: &Element, now: &Element) -> bool {
    let identity = |element: &Element| {
        let known = element.attributes.iter().filter(|(name, _)| IDENTITY.contains(name)).cloned();
        known.collect::<Vec<_>>()
    };
    identity(before) == identity(now)
}

/// Sets an element's value. The old and the new one.
pub(super) fn set_value(
    element: &Element,
    value: &ElementValue,
    guard: &Guard,
) -> Done<(Option<String>, Option<String>)> {
    let (node, now) = find(element, guard)?;
    if now.attributes.iter().any(|(_, text)| text == SECURE) {
        return Err(Failure::Invalid("it is a field for secrets, which only a person fills in".to_owned()));
    }
    if !node.is_settable("AXValue")? {
        return Err(Failure::Invalid("the element's value cannot be set".to_owned()));
    }
    let read = || node.get("AXValue").ok().flatten().and_then(|value| text(Some(value)));
    let old = read();
    node.set(
        "AXValue",
        &match value {
            ElementValue::Bool(value) => Value::Bool(*value),
            ElementValue::Int(number) => Value::Number(*number as f64),
            ElementValue::Double(number) => Value::Number(*number),
            ElementValue::Text(text) => Value::Text(text.clone()),
        },
    )?;
    Ok((old, read()))
}

/// Performs an action of an element.
pub(super) fn perform(element: &Element, action: &str, guard: &Guard) -> Done {
    let (node, _) = find(element, guard)?;
    let actions = node.actions()?;
    if !actions.iter().any(|known| known == action) {
        return Err(Failure::Invalid(format!("the element has these actions: {}", actions.join(", "))));
    }
    Ok(node.perform(action)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::automation::Rect;

    /// A tree in which each node has this many children, for ever.
    fn walked(bounds: [usize; 3], width: usize) -> (Vec<Vec<usize>>, [bool; 3]) {
        let mut ways = Vec::new();
        let children = |(): &(), most: usize| {
            assert!(most <= bounds[2].saturating_add(1));
            Ok(vec![(); width.min(most)])
        };
        let truncated = walk((), bounds, children, |(), way| ways.push(way.to_vec()));
        (ways, truncated)
    }

    #[test]
    fn a_tree_is_walked_within_its_bounds() {
        let (ways, truncated) = walked([2, 100, 10], 2);
        assert_eq!((ways, truncated), (vec![vec![], vec![0], vec![1]], [true, false, false]));
        let (ways, truncated) = walked([3, 100, 1], 2);
        assert_eq!((ways, truncated), (vec![vec![], vec![0], vec![0, 0]], [true, false, true]));
        let (ways, truncated) = walked([50, 4, 10], 3);
        assert_eq!((ways.len(), truncated), (4, [false, true, false]));
        assert_eq!(ways[3], [0, 0, 0], "parents before children, the first child first");
        assert_eq!(walked([usize::MAX; 3], 0), (vec![vec![]], [false; 3]));
        assert_eq!(walked([0, 0, 0], 1), (vec![], [false, true, false]));
        let (ways, _) = walked([64, 10_000, 1_000], 1_000);
        assert_eq!(ways.len(), 10_000);
    }

    #[test]
    fn a_walk_that_runs_out_of_time_says_so() {
        let mut left = 3;
        let children = |(): &(), _: usize| {
            left -= 1;
            if left == 0 { Err(()) } else { Ok(vec![(); 2]) }
        };
        let mut seen = 0;
        assert_eq!(walk((), [9, 900, 9], children, |(), _| seen += 1), [false, true, false]);
        assert_eq!(seen, 3);
    }

    #[test]
    fn handles_come_back_and_others_do_not() {
        for (window, way) in [(Some(77), vec![0, 12, 3]), (None, vec![]), (Some(u32::MAX), vec![5])] {
            assert_eq!(parsed(&handle(window, &way)), Some((window, way)));
        }
        for odd in ["", "7", "7:a", "x:1", "7:1..2", "7:-1", "-7:1", "4294967296:1", "7:99999999999999999999"] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
        assert_eq!(parsed(&format!("1:{}", vec!["0"; 65].join("."))), None);
    }

    #[test]
    fn sec_a136_an_element_that_is_called_otherwise_is_another_one() {
        let element = |attributes: &[(&'static str, &str)]| Element {
            attributes: attributes.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
            ..Element::default()
        };
        let before = element(&[("role", "AXButton"), ("title", "Save"), ("help", "Saves")]);
        assert!(is_same(&before, &element(&[("role", "AXButton"), ("title", "Save")])), "help may change");
        for other in [
            &[("role", "AXButton"), ("title", "Delete")][..],
            &[("role", "AXCheckBox"), ("title", "Save")],
            &[("role", "AXButton"), ("identifier", "save"), ("title", "Save")],
            &[],
        ] {
            assert!(!is_same(&before, &element(other)));
        }
    }

    #[test]
    fn a_secret_is_never_asked_for() {
        assert!(may_tell_value("AXTextField", ""));
        assert!(!may_tell_value("AXTextField", SECURE));
        assert!(!may_tell_value(SECURE, ""));
        assert_eq!(
            text(Some(Value::Text("ü".repeat(limits::ELEMENT_TEXT_BYTES)))).map(|text| text.len()),
            Some(limits::ELEMENT_TEXT_BYTES)
        );
    }

    #[test]
    fn roles_have_their_kinds() {
        assert_eq!(kind("AXWindow", "AXStandardWindow"), ElementKind::Window);
        assert_eq!(kind("AXWindow", "AXDialog"), ElementKind::Dialog);
        assert_eq!(kind("AXButton", "AXCloseButton"), ElementKind::Button);
        assert_eq!(kind("AXTextField", SECURE), ElementKind::TextField);
        assert_eq!(kind("AXUnknown", ""), ElementKind::Other);
    }

    #[test]
    fn the_identity_is_asked_first() {
        for (name, question) in IDENTITY.iter().zip(QUESTIONS) {
            assert_eq!(format!("ax{name}"), question.to_lowercase());
        }
        assert_eq!(windows::bounds(None, Some(Value::Bool(true))), Rect::default());
    }
}
