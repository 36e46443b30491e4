//! Keys by their place on the ANSI layout, and text by itself.

use super::Deadline;
use super::guard::Guard;
use crate::desktop::automation::{Done, Failure, Key, Modifiers};
use crate::limits;
use openclaw_macos::core_graphics::{self, EVENT_UNITS, Flag, Receiver};
use std::iter;
use std::time::Duration;

/// The characters of the ANSI layout, each at the place of its code; a space where a code has no character. Source: spec
/// peekaboo-bridge §6 "hotkey keys"
const CHARACTERS: &str = "asdfhgzxcv bqweryt123465=97-80]ou[ip lj'k;\\,/nm.  `";
/// The codes of F1 to F12.
const FUNCTIONS: [u16; 12] = [0x7a, 0x78, 0x63, 0x76, 0x60, 0x61, 0x62, 0x64, 0x65, 0x6d, 0x67, 0x6f];
const RETURN: u16 = 0x24;
const TAB: u16 = 0x30;

/// The virtual code of a key; none when no key bears the character.
fn code(key: Key) -> Option<u16> {
    Some(match key {
        Key::Character(' ') | Key::Space => 0x31,
        Key::Character(character) => u16::try_from(CHARACTERS.chars().position(|other| other == character)?).ok()?,
        Key::Function(number) => *FUNCTIONS.get(usize::from(number).checked_sub(1)?)?,
        Key::Return => RETURN,
        Key::Tab => TAB,
        Key::Delete => 0x33,
        Key::Escape => 0x35,
        Key::CapsLock => 0x39,
        Key::Clear => 0x47,
        Key::Help => 0x72,
        Key::Home => 0x73,
        Key::PageUp => 0x74,
        Key::ForwardDelete => 0x75,
        Key::End => 0x77,
        Key::PageDown => 0x79,
        Key::Left => 0x7b,
        Key::Right => 0x7c,
        Key::Down => 0x7d,
        Key::Up => 0x7e,
    })
}

/// These modifiers as event flags.
pub(super) fn flags(modifiers: Modifiers) -> u64 {
    let held = [
        (modifiers.command, Flag::Command),
        (modifiers.control, Flag::Control),
        (modifiers.option, Flag::Option),
        (modifiers.shift, Flag::Shift),
        (modifiers.function, Flag::Function),
    ];
    held.into_iter().filter(|(held, _)| *held).map(|(_, flag)| flag as u64).sum()
}

/// Presses a key together with modifiers.
pub(super) fn press(key: Key, modifiers: Modifiers, hold: Duration, to: Option<i32>, guard: &Guard) -> Done {
    let code = code(key).ok_or_else(|| Failure::Invalid("no key bears that character".to_owned()))?;
    match to {
        None => stroke(code, flags(modifiers), hold, Receiver::Desktop, Deadline::new(), || guard.keys()),
        Some(pid) => {
            let to = Receiver::Process(pid, None);
            stroke(code, flags(modifiers), hold, to, Deadline::new(), || guard.target(pid, None))
        }
    }
}

/// A key that is down; it goes up when this is dropped, whatever happened meanwhile.
struct Held<F: Fn()>(F);

impl<F: Fn()> Drop for Held<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn stroke(code: u16, flags: u64, hold: Duration, to: Receiver, deadline: Deadline, may: impl Fn() -> Done) -> Done {
    may()?;
    core_graphics::post_key(code, true, flags, to)?;
    let _held = Held(|| {
        // A failure has nobody to go to; the press went the same way.
        let _ = core_graphics::post_key(code, false, flags, to);
    });
    deadline.pause(hold.max(limits::MAC_KEY))
}

/// Types a text.
pub(super) fn type_text(text: &str, pause: Duration, guard: &Guard) -> Done {
    let deadline = Deadline::new();
    // Without a pause there is nothing to see between two characters, so one event has several.
    for piece in pieces(text, pause.is_zero())? {
        match piece {
            Piece::Key(code) => stroke(code, 0, limits::MAC_KEY, Receiver::Desktop, deadline, || guard.keys())?,
            Piece::Text(units) => {
                guard.keys()?;
                core_graphics::post_text(&units, true)?;
                let _held = Held(|| {
                    // As in `stroke`.
                    let _ = core_graphics::post_text(&units, false);
                });
                deadline.pause(limits::MAC_KEY)?;
            }
        }
        deadline.pause(pause)?;
    }
    Ok(())
}

/// What is typed at once.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// The key of this code.
    Key(u16),
    /// UTF-16, of at most [`EVENT_UNITS`].
    Text(Vec<u16>),
}

/// The text in pieces: one character each, or as many as one event has room for.
fn pieces(text: &str, packed: bool) -> Done<Vec<Piece>> {
    if text.chars().nth(limits::MAC_TYPED_CHARS).is_some() {
        return Err(Failure::Invalid(format!("at most {} characters are typed at once", limits::MAC_TYPED_CHARS)));
    }
    let mut pieces = Vec::new();
    for character in characters(&text.replace("\r\n", "\n")) {
        let key = match character {
            "\n" | "\r" => Some(RETURN),
            "\t" => Some(TAB),
            _ if character.contains(char::is_control) => {
                return Err(Failure::Invalid("the text has characters that no key types".to_owned()));
            }
            _ => None,
        };
        if let Some(code) = key {
            pieces.push(Piece::Key(code));
            continue;
        }
        for part in cut(character) {
            match pieces.last_mut() {
                Some(Piece::Text(last)) if packed && last.len() + part.len() <= EVENT_UNITS => last.extend(part),
                _ => pieces.push(Piece::Text(part)),
            }
        }
    }
    Ok(pieces)
}

/// One character in UTF-16; one that no event has room for in parts, but no pair of surrogates is torn.
fn cut(character: &str) -> Vec<Vec<u16>> {
    let mut parts: Vec<Vec<u16>> = Vec::new();
    for scalar in character.chars() {
        let mut buffer = [0; 2];
        let units = scalar.encode_utf16(&mut buffer);
        match parts.last_mut() {
            Some(last) if last.len() + units.len() <= EVENT_UNITS => last.extend_from_slice(units),
            _ => parts.push(units.to_vec()),
        }
    }
    parts
}

/// What a person takes for one character: a scalar with all that is joined to it. Not all of Unicode's rules, but marks,
/// emoji with skin, sex or family, and flags.
fn characters(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        let mut scalars = rest.char_indices();
        let (_, first) = scalars.next()?;
        let (mut before, mut is_half_flag) = (first, is_regional(first));
        let end = scalars.find(|(_, scalar)| {
            let joined = !before.is_control()
                && (extends(*scalar) || before == JOINER || (is_half_flag && is_regional(*scalar)));
            is_half_flag &= !is_regional(*scalar);
            before = *scalar;
            !joined
        });
        let (character, others) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = others;
        Some(character)
    })
}

const JOINER: char = '\u{200d}';

fn is_regional(scalar: char) -> bool {
    matches!(scalar, '\u{1f1e6}'..='\u{1f1ff}')
}

fn extends(scalar: char) -> bool {
    scalar == JOINER
        || matches!(scalar, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_code() {
        let listed = "a 0 s 1 d 2 f 3 h 4 g 5 z 6 x 7 c 8 v 9 b B q C w D e E r F y 10 t 11 1 12 2 13 3 14 4 15 6 16 5 17 9 19 7 1A \
            8 1C 0 1D = 18 - 1B ] 1E o 1F u 20 [ 21 i 22 p 23 l 25 j 26 ' 27 k 28 ; 29 \\ 2A , 2B / 2C n 2D m 2E . 2F ` 32";
        let words: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!(words.len(), 2 * 47);
        for pair in words.chunks(2) {
            let character = pair[0].chars().next().unwrap_or_default();
            assert_eq!(code(Key::Character(character)), u16::from_str_radix(pair[1], 16).ok(), "{character}");
        }
        assert_eq!(code(Key::Character(' ')), code(Key::Space));
        for unknown in ['A', 'é', '\n', '§'] {
            assert_eq!(code(Key::Character(unknown)), None);
        }
        assert_eq!((code(Key::Function(1)), code(Key::Function(12))), (Some(0x7a), Some(0x6f)));
        assert_eq!((code(Key::Function(0)), code(Key::Function(13))), (None, None));
    }

    #[test]
    fn modifiers_become_flags() {
        assert_eq!(flags(Modifiers::default()), 0);
        assert_eq!(flags(Modifiers { command: true, shift: true, ..Modifiers::default() }), 0x12_0000);
        let all = Modifiers { command: true, control: true, option: true, shift: true, function: true };
        assert_eq!(flags(all), 0x9e_0000);
    }

    fn typed(text: &str, packed: bool) -> Vec<String> {
        let shown = |piece: Piece| match piece {
            Piece::Key(code) => format!("<{code}>"),
            Piece::Text(units) => String::from_utf16(&units).unwrap_or_else(|_| panic!("torn: {units:?}")),
        };
        pieces(text, packed)
            .map_or_else(|failure| vec![failure.to_string()], |all| all.into_iter().map(shown).collect())
    }

    #[test]
    fn a_text_is_typed_character_by_character() {
        assert_eq!(typed("aé\u{301}b", false), ["a", "é\u{301}", "b"]);
        assert_eq!(typed("👩‍👩‍👧👍🏽🇩🇪🇫🇷x", false), ["👩‍👩‍👧", "👍🏽", "🇩🇪", "🇫🇷", "x"]);
        assert_eq!(typed("a\r\nb\tc\n", false), ["a", "<36>", "b", "<48>", "c", "<36>"]);
        assert_eq!(typed("", false), Vec::<String>::new());
        assert_eq!(typed("a\u{1b}b", false).len(), 1, "refused");
        assert!(pieces(&"x".repeat(limits::MAC_TYPED_CHARS + 1), true).is_err());
    }

    #[test]
    fn no_event_has_too_many_units_and_none_is_torn() {
        assert_eq!(typed("abcdefghijklmnopqrstuvwxyz", true), ["abcdefghijklmnopqrst", "uvwxyz"]);
        // 19 units and a pair.
        assert_eq!(typed(&format!("{}🦞y", "x".repeat(19)), true), ["x".repeat(19), "🦞y".to_owned()]);
        let long = format!("{}\u{301}{}", "🦞".repeat(9), "👩‍👩‍👧‍👦".repeat(4));
        let monster = format!("a{}", "\u{301}".repeat(50));
        for text in [long.as_str(), monster.as_str()] {
            for packed in [true, false] {
                assert_eq!(typed(text, packed).concat(), text);
                let most = pieces(text, packed).into_iter().flatten().map(|piece| match piece {
                    Piece::Text(units) => units.len(),
                    Piece::Key(_) => 0,
                });
                assert!(most.max() <= Some(EVENT_UNITS));
            }
        }
    }
}
