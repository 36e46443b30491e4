//! Shortcuts in words, and ways of the pointer. Source: spec peekaboo-bridge §6 "Semantics".

use crate::desktop::automation::{Done, Failure, Key, Modifiers, Point};
use crate::limits;
use crate::protocol::peekaboo::types::{HumanProfile, MouseProfile, SpecialKey};
use std::time::Duration;

/// `cmd,shift,4`, `ctrl+alt+delete`: any number of modifiers and exactly one other key.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn shortcut(text: &str) -> Done<(Modifiers, Key)> {
    let invalid = || Failure::Invalid("a shortcut is modifiers and exactly one other key, such as cmd,shift,4".into());
    let mut modifiers = Modifiers::default();
    let mut key = None;
    for word in words(text) {
        if modify(&mut modifiers, &word) {
            continue;
        }
        let named = key_named(&word).ok_or_else(invalid)?;
        if key.replace(named).is_some() {
            return Err(invalid());
        }
    }
    Ok((modifiers, key.ok_or_else(invalid)?))
}

/// `cmd,shift`: modifiers alone.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn modifiers(text: &str) -> Done<Modifiers> {
    let mut modifiers = Modifiers::default();
    if words(text).all(|word| modify(&mut modifiers, &word)) {
        return Ok(modifiers);
    }
    Err(Failure::Invalid("modifiers are cmd, ctrl, alt, shift and fn".to_owned()))
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let between = |character: char| matches!(character, ',' | '+') || character.is_whitespace();
    text.split(between).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn modify(modifiers: &mut Modifiers, word: &str) -> bool {
    let place = match word {
        "cmd" | "command" | "meta" | "win" | "windows" | "cmdorctrl" => &mut modifiers.command,
        "ctrl" | "control" => &mut modifiers.control,
        "alt" | "option" | "opt" => &mut modifiers.option,
        "shift" => &mut modifiers.shift,
        "fn" | "function" => &mut modifiers.function,
        _ => return false,
    };
    *place = true;
    true
}

/// Keys that are not on the keyboard as a character, by their names.
const NAMED: &[(&[&str], Key)] = &[
    (&["return", "enter"], Key::Return),
    (&["tab"], Key::Tab),
    (&["space", "spacebar"], Key::Space),
    (&["delete", "backspace", "del"], Key::Delete),
    (&["forwarddelete", "forward_delete"], Key::ForwardDelete),
    (&["escape", "esc"], Key::Escape),
    (&["capslock", "caps_lock"], Key::CapsLock),
    (&["clear"], Key::Clear),
    (&["help"], Key::Help),
    (&["home"], Key::Home),
    (&["end"], Key::End),
    (&["pageup", "page_up"], Key::PageUp),
    (&["pagedown", "page_down"], Key::PageDown),
    (&["left", "arrow_left"], Key::Left),
    (&["right", "arrow_right"], Key::Right),
    (&["up", "arrow_up"], Key::Up),
    (&["down", "arrow_down"], Key::Down),
    (&["equal"], Key::Character('=')),
    (&["minus"], Key::Character('-')),
    (&["leftbracket", "left_bracket"], Key::Character('[')),
    (&["rightbracket", "right_bracket"], Key::Character(']')),
    (&["quote"], Key::Character('\'')),
    (&["semicolon"], Key::Character(';')),
    (&["backslash"], Key::Character('\\')),
    (&["comma"], Key::Character(',')),
    (&["slash"], Key::Character('/')),
    (&["period"], Key::Character('.')),
    (&["grave"], Key::Character('`')),
];

fn key_named(word: &str) -> Option<Key> {
    if let Some((_, key)) = NAMED.iter().find(|(names, _)| names.contains(&word)) {
        return Some(*key);
    }
    let mut characters = word.chars();
    match (characters.next(), characters.as_str()) {
        (Some(only), "") if only.is_ascii_alphanumeric() || "[]=-';\\/.`".contains(only) => Some(Key::Character(only)),
        (Some('f'), digits) => digits
            .parse()
            .ok()
            .filter(|number| (1..=12).contains(number) && !digits.starts_with(['0', '+']))
            .map(Key::Function),
        _ => None,
    }
}

/// A key of a list of actions.
pub fn special(key: SpecialKey) -> Option<Key> {
    use serde::Serialize;
    struct Name(SpecialKey);
    impl std::fmt::Display for Name {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.serialize(f)
        }
    }
    key_named(&Name(key).to_string())
}

/// The points of a movement, and the pause between two of them.
///
/// # Errors
/// [`Failure::Invalid`]: no steps, too many, or too long.
pub fn way(from: Point, to: Point, steps: i64, duration: i64, profile: &MouseProfile) -> Done<(Vec<Point>, Duration)> {
    let invalid = |why: &str| Failure::Invalid(why.to_owned());
    let count = usize::try_from(steps).ok().filter(|count| (1..=limits::BRIDGE_POINTER_STEPS).contains(count));
    let count = count.ok_or_else(|| invalid("steps must be 1 to 10000"))?;
    let duration = milliseconds(duration)?;
    let at = |part: f64, jitter: (f64, f64)| Point {
        x: from.x + (to.x - from.x) * part + jitter.0,
        y: from.y + (to.y - from.y) * part + jitter.1,
    };
    let mut jitter = Jitter::of(profile);
    let mut points: Vec<Point> = (1..count)
        .map(|step| {
            let part = step as f64 / count as f64;
            match profile {
                MouseProfile::Linear => at(part, (0.0, 0.0)),
                // Slow at both ends, as a hand is.
                MouseProfile::Human { .. } => at(part * part * (3.0 - 2.0 * part), (jitter.next(), jitter.next())),
            }
        })
        .collect();
    points.push(to);
    Ok((points, duration / u32::try_from(count).unwrap_or(u32::MAX)))
}

/// A duration on the wire.
///
/// # Errors
/// [`Failure::Invalid`]: negative, or longer than any operation may take.
pub fn milliseconds(count: i64) -> Done<Duration> {
    let duration = u64::try_from(count).ok().map(Duration::from_millis);
    duration
        .filter(|duration| *duration < limits::BRIDGE_OPERATION_DEADLINE)
        .ok_or_else(|| Failure::Invalid("a duration must be 0 to 8999 ms: no operation may take longer".to_owned()))
}

/// Small deviations, the same ones for the same seed.
struct Jitter {
    state: u64,
    amplitude: f64,
}

impl Jitter {
    fn of(profile: &MouseProfile) -> Self {
        let profile = match profile {
            MouseProfile::Human { profile } => profile.clone(),
            MouseProfile::Linear => HumanProfile::default(),
        };
        Self { state: profile.random_seed.unwrap_or(1), amplitude: profile.jitter_amplitude.clamp(0.0, 10.0) }
    }

    /// SplitMix64, mapped to ±amplitude.
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        (unit * 2.0 - 1.0) * self.amplitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcuts_are_modifiers_and_one_key() {
        let (modifiers, key) = shortcut("Cmd + shift, 4").unwrap();
        assert!(modifiers.command && modifiers.shift && !modifiers.option && key == Key::Character('4'));
        assert_eq!(shortcut("ctrl,alt,del").unwrap().1, Key::Delete);
        assert_eq!(shortcut("f12").unwrap().1, Key::Function(12));
        assert_eq!(shortcut("cmd,`").unwrap().1, Key::Character('`'));
        for bad in ["", "cmd", "a,b", "f13", "f01", "cmd,ä", "hello", "f"] {
            assert!(matches!(shortcut(bad), Err(Failure::Invalid(_))), "{bad}");
        }
        assert!(super::modifiers("cmd,shift").unwrap().command && super::modifiers("a").is_err());
    }

    #[test]
    fn every_key_of_a_list_of_actions_is_known() {
        for name in
            "return enter tab escape delete forward_delete space left right up down pageup pagedown home end f1 f2 \
                     f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 caps_lock clear help"
                .split_whitespace()
        {
            let key: SpecialKey = serde_json::from_str(&format!("{name:?}")).unwrap();
            assert!(special(key).is_some(), "{name}");
        }
    }

    #[test]
    fn a_way_ends_where_it_should() {
        let (from, to) = (Point { x: 0.0, y: 0.0 }, Point { x: 10.0, y: -20.0 });
        let (points, pause) = way(from, to, 4, 100, &MouseProfile::Linear).unwrap();
        assert_eq!((points.len(), points[0], points[3]), (4, Point { x: 2.5, y: -5.0 }, to));
        assert_eq!(pause, Duration::from_millis(25));
        let human = MouseProfile::Human { profile: HumanProfile::default() };
        assert_eq!(*way(from, to, 50, 0, &human).unwrap().0.last().unwrap(), to);
        for (steps, duration) in [(0, 0), (-1, 0), (1_000_000, 0), (1, -1), (1, 60_000), (i64::MAX, i64::MAX)] {
            assert!(way(from, to, steps, duration, &human).is_err(), "{steps} {duration}");
        }
    }
}
