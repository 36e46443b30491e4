//! `computer.act`: what an agent may ask of mouse and keyboard. Source: docs nodes/computer-use (contract 2), spec mac-app
//! (1.10).
//!
//! Unknown members are refused, also those that belong to another action only.

use super::ability::is_uuid;
use super::policy::Refusal;
use super::strict;
use crate::limits;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// Name of the command, and of what is declared with it.
pub const ACT: &str = "computer.act";
/// What is declared with it.
pub const CAP: &str = "computer";

/// One action of one execution: a caller's chain of looks and actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// A UUID.
    pub execution: String,
    /// What to do.
    pub action: Action,
}

/// What is done. Keys and modifiers are words that are understood where they are pressed.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Click, this often.
    Click {
        /// Where.
        at: Spot,
        /// With the right button.
        is_right: bool,
        /// One to three times.
        count: u32,
    },
    /// The pointer goes there.
    Move(Spot),
    /// The left button is held down from here to there.
    Drag {
        /// Where it goes down.
        from: Spot,
        /// Where it goes up.
        to: Spot,
        /// How long that takes.
        time: Duration,
    },
    /// The wheel turns.
    Scroll {
        /// Where; else where the pointer is.
        at: Option<Spot>,
        /// `up`, `down`, `left`, `right`.
        direction: Direction,
        /// Notches.
        amount: u32,
    },
    /// Types this.
    Type(String),
    /// Presses these keys together.
    Key {
        /// `cmd+shift+t`
        keys: String,
        /// How long.
        hold: Duration,
    },
    /// The running programs.
    ListApps,
    /// The windows, from front to back.
    ListWindows,
    /// Where the pointer is.
    CursorPosition,
    /// The window with this reference of [`Action::ListWindows`] comes to the front.
    BringToFront(String),
    /// The execution is over: its screenshots lead nowhere any more.
    Close,
}

/// A place in a screenshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// Pixels from its left.
    pub x: f64,
    /// Pixels from its top.
    pub y: f64,
    /// Which screenshot: what `screen.snapshot` called `displayFrameId`.
    pub frame: Option<String>,
    /// How wide the caller takes it to be.
    pub width: Option<u32>,
    /// Of which screen it takes it to be.
    pub screen: Option<usize>,
}

/// Which way the content moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The names say it.
pub enum Direction {
    Up,
    Down,
    Left,
    Right,
}

/// Members that many actions have.
const TARGET: &[&str] = &["screenIndex", "refWidth", "windowRef", "elementRef", "observationId", "deliveryMode"];
/// Those of a pointer's action.
const PLACE: &[&str] = &["displayFrameId", "x", "y", "modifiers"];

/// The actions that are understood, with their members.
const ACTIONS: &[(&str, &[&[&str]])] = &[
    ("left_click", &[TARGET, PLACE]),
    ("right_click", &[TARGET, PLACE]),
    ("double_click", &[TARGET, PLACE]),
    ("triple_click", &[TARGET, PLACE]),
    ("mouse_move", &[TARGET, PLACE]),
    ("left_click_drag", &[TARGET, &["displayFrameId", "x", "y", "fromX", "fromY", "durationMs"]]),
    ("scroll", &[TARGET, PLACE, &["scrollDirection", "scrollAmount"]]),
    ("type", &[TARGET, &["text"]]),
    ("key", &[TARGET, &["keys"]]),
    ("hold_key", &[TARGET, &["keys", "durationMs"]]),
    ("list_apps", &[]),
    ("list_windows", &[]),
    ("get_cursor_position", &[]),
    ("bring_to_front", &[&["windowRef"]]),
    // Not in the published contract; the official tool sends it at the end.
    ("__close_execution", &[&["reason"]]),
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    action: String,
    execution_id: Option<String>,
    screen_index: Option<usize>,
    ref_width: Option<u32>,
    window_ref: Option<String>,
    element_ref: Option<String>,
    observation_id: Option<String>,
    delivery_mode: Option<String>,
    display_frame_id: Option<String>,
    x: Option<f64>,
    y: Option<f64>,
    from_x: Option<f64>,
    from_y: Option<f64>,
    modifiers: Option<String>,
    duration_ms: Option<u64>,
    scroll_direction: Option<Direction>,
    scroll_amount: Option<u32>,
    text: Option<String>,
    keys: Option<String>,
}

/// How long a drag takes whose caller does not say.
const DRAG: Duration = Duration::from_millis(300);
/// Notches of a scroll whose caller does not say. Source: the official tool
const NOTCHES: u32 = 3;

/// Reads the parameters.
///
/// # Errors
/// `COMPUTER_INVALID_REQUEST` or `COMPUTER_UNSUPPORTED_ACTION`, with what is wrong.
pub fn parse(params: Option<&str>) -> Result<Act, Refusal> {
    let text = params.unwrap_or("{}");
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|error| invalid(&error.to_string()))?;
    let members: Map<String, Value> = serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))?;
    let action = members.get("action").and_then(Value::as_str).unwrap_or_default().to_owned();
    let known: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).filter(|name| !name.starts_with('_')).collect();
    let Some((_, own)) = ACTIONS.iter().find(|(name, _)| *name == action) else {
        return Err(unsupported(&format!("`action` must be one of: {}", known.join(", "))));
    };
    let is_own = |name: &str| matches!(name, "action" | "executionId") || own.iter().any(|some| some.contains(&name));
    if let Some(stranger) = members.keys().find(|name| !is_own(name)) {
        let stranger: String = super::text::visible(stranger).chars().take(64).collect();
        return Err(invalid(&format!("{action} has no member `{stranger}`")));
    }
    let wire: Wire = serde_json::from_value(Value::Object(members)).map_err(|error| invalid(&error.to_string()))?;
    let execution = wire.execution_id.clone().filter(|id| is_uuid(id));
    let execution = execution.ok_or_else(|| invalid("executionId must be a UUID"))?;
    Ok(Act { execution, action: wire.action()? })
}

impl Wire {
    fn action(self) -> Result<Action, Refusal> {
        if self.action != "bring_to_front" {
            self.checks_target()?;
        }
        let click = |is_right, count| Ok(Action::Click { at: self.spot(self.x, self.y)?, is_right, count });
        match self.action.as_str() {
            "left_click" => click(false, 1),
            "right_click" => click(true, 1),
            "double_click" => click(false, 2),
            "triple_click" => click(false, 3),
            "mouse_move" => Ok(Action::Move(self.spot(self.x, self.y)?)),
            "left_click_drag" => {
                let (from, to) = (self.spot(self.from_x, self.from_y)?, self.spot(self.x, self.y)?);
                Ok(Action::Drag { from, to, time: self.time(DRAG)? })
            }
            "scroll" => {
                let amount = self.scroll_amount.unwrap_or(NOTCHES);
                if !(1..=limits::COMPUTER_NOTCHES).contains(&amount) {
                    return Err(invalid(&format!("scrollAmount must be 1 to {}", limits::COMPUTER_NOTCHES)));
                }
                let at = (self.x.is_some() || self.y.is_some()).then(|| self.spot(self.x, self.y)).transpose()?;
                let direction = self.scroll_direction.ok_or_else(|| invalid("scrollDirection required"))?;
                Ok(Action::Scroll { at, direction, amount })
            }
            "type" => {
                let text = filled(self.text, "text")?;
                if text.chars().nth(limits::COMPUTER_TEXT_CHARS).is_some() {
                    let most = limits::COMPUTER_TEXT_CHARS;
                    return Err(invalid(&format!("text must have at most {most} characters; send it in pieces")));
                }
                Ok(Action::Type(text))
            }
            "key" => Ok(Action::Key { keys: filled(self.keys, "keys")?, hold: Duration::ZERO }),
            "hold_key" => {
                let hold = self.time(Duration::from_secs(1))?;
                Ok(Action::Key { keys: filled(self.keys, "keys")?, hold })
            }
            "list_apps" => Ok(Action::ListApps),
            "list_windows" => Ok(Action::ListWindows),
            "get_cursor_position" => Ok(Action::CursorPosition),
            "bring_to_front" => Ok(Action::BringToFront(filled(self.window_ref, "windowRef")?)),
            _ => Ok(Action::Close),
        }
    }

    /// Input goes to the screen, in the foreground: what asks for more must not be done as less.
    fn checks_target(&self) -> Result<(), Refusal> {
        if self.window_ref.is_some() || self.element_ref.is_some() || self.observation_id.is_some() {
            return Err(unsupported("input goes to places of the screen here, not to windows or elements"));
        }
        match self.delivery_mode.as_deref() {
            None | Some("foreground") => {}
            Some("background") => return Err(unsupported("input goes to what is in front here, never behind it")),
            Some(_) => return Err(invalid("deliveryMode must be background or foreground")),
        }
        match self.modifiers.as_deref() {
            None | Some("") => Ok(()),
            Some(_) => Err(unsupported("the pointer's actions know no modifiers here")),
        }
    }

    fn spot(&self, x: Option<f64>, y: Option<f64>) -> Result<Spot, Refusal> {
        let pixel = |value: Option<f64>| value.filter(|value| value.is_finite() && *value >= 0.0);
        let (Some(x), Some(y)) = (pixel(x), pixel(y)) else {
            return Err(invalid("coordinates required: pixels of the screenshot, none negative"));
        };
        Ok(Spot { x, y, frame: self.display_frame_id.clone(), width: self.ref_width, screen: self.screen_index })
    }

    fn time(&self, usual: Duration) -> Result<Duration, Refusal> {
        let time = self.duration_ms.map_or(usual, Duration::from_millis);
        let most = limits::COMPUTER_HOLD;
        let too_long = || invalid(&format!("durationMs must be at most {}", most.as_millis()));
        (time <= most).then_some(time).ok_or_else(too_long)
    }
}

fn filled(text: Option<String>, name: &str) -> Result<String, Refusal> {
    text.filter(|text| !text.is_empty()).ok_or_else(|| invalid(&format!("{name} required")))
}

fn invalid(why: &str) -> Refusal {
    Refusal::invalid(format!("COMPUTER_INVALID_REQUEST: {why}"))
}

fn unsupported(why: &str) -> Refusal {
    Refusal::invalid(format!("COMPUTER_UNSUPPORTED_ACTION: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0b6c3f9e-1111-4222-8333-444455556666";

    fn parsed(members: Value) -> Result<Action, String> {
        let mut members = members;
        members["executionId"] = ID.into();
        parse(Some(&members.to_string())).map(|act| act.action).map_err(|refusal| refusal.message)
    }

    fn spot(x: f64, y: f64) -> Spot {
        Spot { x, y, frame: Some("f".to_owned()), width: Some(1280), screen: Some(0) }
    }

    #[test]
    fn what_the_official_tool_sends_is_understood() {
        let place = json!({"displayFrameId": "f", "refWidth": 1280, "screenIndex": 0, "x": 10, "y": 20.5});
        let with = |action: &str, more: Value| {
            let mut members = place.clone();
            members["action"] = action.into();
            members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parsed(members)
        };
        let at = spot(10.0, 20.5);
        assert_eq!(
            with("triple_click", json!({"deliveryMode": "foreground"})),
            Ok(Action::Click { at: at.clone(), is_right: false, count: 3 })
        );
        assert_eq!(with("mouse_move", json!({"modifiers": ""})), Ok(Action::Move(at.clone())));
        assert_eq!(
            with("left_click_drag", json!({"fromX": 1, "fromY": 2, "durationMs": 50})),
            Ok(Action::Drag { from: spot(1.0, 2.0), to: at.clone(), time: Duration::from_millis(50) })
        );
        assert_eq!(
            with("scroll", json!({"scrollDirection": "down", "scrollAmount": 4})),
            Ok(Action::Scroll { at: Some(at), direction: Direction::Down, amount: 4 })
        );
        assert_eq!(
            parsed(json!({"action": "type", "text": "hé", "refWidth": 1280, "screenIndex": 0})),
            Ok(Action::Type("hé".to_owned()))
        );
        assert_eq!(parsed(json!({"action": "__close_execution", "reason": "done"})), Ok(Action::Close));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (members, code) in [
            (json!({}), "UNSUPPORTED_ACTION"),
            (json!({"action": "middle_click", "x": 1, "y": 1}), "UNSUPPORTED_ACTION"),
            (json!({"action": "wait", "durationMs": 1}), "UNSUPPORTED_ACTION"),
            (json!({"action": "left_click", "x": 1, "y": 1, "windowRef": "w"}), "UNSUPPORTED_ACTION"),
            (json!({"action": "left_click", "x": 1, "y": 1, "modifiers": "cmd"}), "UNSUPPORTED_ACTION"),
            (json!({"action": "type", "text": "x", "deliveryMode": "background"}), "UNSUPPORTED_ACTION"),
            (json!({"action": "type", "text": "x", "deliveryMode": "sideways"}), "INVALID_REQUEST"),
            (json!({"action": "type", "text": ""}), "INVALID_REQUEST"),
            (json!({"action": "type", "text": "x".repeat(limits::COMPUTER_TEXT_CHARS + 1)}), "INVALID_REQUEST"),
            (json!({"action": "type", "text": "x", "keys": "a"}), "INVALID_REQUEST"),
            (json!({"action": "left_click", "x": -1, "y": 1}), "INVALID_REQUEST"),
            (json!({"action": "left_click", "x": "1", "y": 1}), "INVALID_REQUEST"),
            (json!({"action": "left_click", "x": 1}), "INVALID_REQUEST"),
            (json!({"action": "left_click", "x": 1, "y": 1, "refWidth": -4}), "INVALID_REQUEST"),
            (json!({"action": "scroll", "scrollDirection": "down", "scrollAmount": 101}), "INVALID_REQUEST"),
            (json!({"action": "scroll", "scrollAmount": 1}), "INVALID_REQUEST"),
            (json!({"action": "hold_key", "keys": "a", "durationMs": 8_000}), "INVALID_REQUEST"),
            (json!({"action": "list_windows", "shell": "ls"}), "INVALID_REQUEST"),
        ] {
            let error = parsed(members.clone()).unwrap_err();
            assert!(error.starts_with(&format!("COMPUTER_{code}: ")), "{members}: {error}");
        }
        let no_id = parse(Some(r#"{"action":"type","text":"x"}"#)).unwrap_err().message;
        assert!(no_id.contains("executionId"), "{no_id}");
        assert!(parse(Some(r#"{"action":"type","text":"x","text":"y"}"#)).is_err() && parse(None).is_err());
    }
}
