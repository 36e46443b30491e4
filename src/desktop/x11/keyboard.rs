//! Keys. A character that no key bears is lent a key that has none, for as long as it is typed.

use super::guard::Guard;
use super::pointer::{Held, Input};
use super::windows;
use crate::desktop::automation::{Done, Failure, Key, Modifiers};
use crate::limits;
use crate::sys::x11::{Connection, Keyboard};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

// Keysyms (keysymdef.h).
const RETURN: u32 = 0xff0d;
const TAB: u32 = 0xff09;
const SHIFT: u32 = 0xffe1;
const CONTROL: u32 = 0xffe3;
const CAPS_LOCK: u32 = 0xffe5;
const ALT: u32 = 0xffe9;
const SUPER: u32 = 0xffeb;
/// Keysyms of characters past Latin-1 are their numbers and this.
const UNICODE: u32 = 0x0100_0000;

fn symbol(key: Key) -> u32 {
    match key {
        Key::Character(character) => character.into(),
        Key::Function(number) => 0xffbd + u32::from(number),
        Key::Return => RETURN,
        Key::Tab => TAB,
        Key::Space => ' '.into(),
        Key::Delete => 0xff08,
        Key::ForwardDelete => 0xffff,
        Key::Escape => 0xff1b,
        Key::CapsLock => CAPS_LOCK,
        Key::Clear => 0xff0b,
        Key::Help => 0xff6a,
        Key::Home => 0xff50,
        Key::Left => 0xff51,
        Key::Up => 0xff52,
        Key::Right => 0xff53,
        Key::Down => 0xff54,
        Key::PageUp => 0xff55,
        Key::PageDown => 0xff56,
        Key::End => 0xff57,
    }
}

/// The keysyms that type `text`.
pub(super) fn symbols(text: &str) -> Done<Vec<u32>> {
    if text.chars().nth(limits::X11_TYPED_CHARS).is_some() {
        return Err(Failure::Invalid(format!("at most {} characters are typed at once", limits::X11_TYPED_CHARS)));
    }
    let text = text.replace("\r\n", "\n");
    text.chars()
        .map(|character| match character {
            '\n' | '\r' => Ok(RETURN),
            '\t' => Ok(TAB),
            ' '..='~' | '\u{a0}'..='\u{ff}' => Ok(character.into()),
            _ if character.is_control() => {
                Err(Failure::Invalid("the text has characters that no key types".to_owned()))
            }
            _ => Ok(UNICODE | u32::from(character)),
        })
        .collect()
}

/// Keys that were given a meaning, until this is dropped.
struct Lent<'a> {
    connection: &'a Connection,
    keys: BTreeMap<u32, u8>,
}

impl<'a> Lent<'a> {
    /// Gives each of `symbols` one of the `spare` keys.
    fn new(connection: &'a Connection, symbols: &[u32], spare: &[u8]) -> Done<Self> {
        let mut lent = Self { connection, keys: BTreeMap::new() };
        for (symbol, code) in symbols.iter().zip(spare) {
            connection.set_key(*code, *symbol)?;
            lent.keys.insert(*symbol, *code);
        }
        Ok(lent)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for code in self.keys.values() {
            let _ = self.connection.set_key(*code, 0);
        }
    }
}

/// Presses a key if the keyboard's owner may get it.
fn hold<'a>(connection: &'a Connection, code: u8, guard: &Guard) -> Done<Held<'a>> {
    Held::press(connection, Input::Key(code), || guard.keys(connection))
}

fn tap(connection: &Connection, code: u8, guard: &Guard) -> Done {
    let held = hold(connection, code, guard)?;
    connection.pause(limits::X11_KEY)?;
    drop(held);
    Ok(())
}

fn code(keyboard: &Keyboard, symbol: u32) -> Done<u8> {
    let found = keyboard.find(symbol).map(|(code, _)| code);
    found.ok_or_else(|| Failure::NotSupported("a key that this keyboard does not have".to_owned()))
}

/// Holds modifiers down.
pub(super) fn hold_modifiers<'a>(
    connection: &'a Connection,
    modifiers: Modifiers,
    guard: &Guard,
) -> Done<Vec<Held<'a>>> {
    if modifiers.function {
        return Err(Failure::NotSupported("the key fn".to_owned()));
    }
    let wanted =
        [(modifiers.control, CONTROL), (modifiers.option, ALT), (modifiers.shift, SHIFT), (modifiers.command, SUPER)];
    if !wanted.iter().any(|(wanted, _)| *wanted) {
        return Ok(Vec::new());
    }
    let keyboard = connection.keyboard()?;
    wanted
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, symbol)| hold(connection, code(&keyboard, *symbol)?, guard))
        .collect()
}

/// Presses one key together with modifiers. It goes up early when the keyboard goes to one of our windows.
pub(super) fn press(connection: &Connection, key: Key, modifiers: Modifiers, time: Duration, guard: &Guard) -> Done {
    let keyboard = connection.keyboard()?;
    let found = keyboard.find(symbol(key));
    let (code, shift) =
        found.ok_or_else(|| Failure::NotSupported("a key that this keyboard does not have".to_owned()))?;
    let modifiers = hold_modifiers(connection, Modifiers { shift: modifiers.shift || shift, ..modifiers }, guard)?;
    let held = hold(connection, code, guard)?;
    let end = Instant::now() + time.max(limits::X11_KEY);
    // Held keys repeat, and the repetitions go to whatever has the keyboard by then.
    let done = loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Ok(());
        }
        let go_on = connection.pause(left.min(limits::X11_HELD_LOOK)).map_err(Failure::from);
        if let Err(stop) = go_on.and_then(|()| own_only(guard.keys(connection))) {
            break Err(stop);
        }
    };
    drop(held);
    // The last one down is the first one up.
    modifiers.into_iter().rev().for_each(drop);
    done
}

/// What was pressed may have closed its own window; that is no failure.
fn own_only(done: Done) -> Done {
    if done == Err(Failure::OwnPrompt) { done } else { Ok(()) }
}

/// Types, one symbol each `pause`.
pub(super) fn type_symbols(connection: &Connection, symbols: &[u32], pause: Duration, guard: &Guard) -> Done {
    let keyboard = connection.keyboard()?;
    let (caps, other_layout) = connection.keyboard_state()?;
    // Lent keys have one meaning in all layouts; keys of the keyboard are known for the first layout only.
    let missing = |symbol: u32| {
        let typed = !(0xff00..UNICODE).contains(&symbol);
        keyboard.find(symbol).is_none() || (other_layout && typed)
    };
    let spare = keyboard.spare();
    if spare.is_empty() && symbols.iter().any(|symbol| missing(*symbol)) {
        return Err(Failure::NotSupported("typing characters that this keyboard does not have".to_owned()));
    }
    if caps {
        tap(connection, code(&keyboard, CAPS_LOCK)?, guard)?;
    }
    let mut rest = symbols;
    let mut done = Ok(());
    while !rest.is_empty() && done.is_ok() {
        let (now, lend) = next_batch(rest, spare.len(), missing);
        done = type_batch(connection, &keyboard, (now, &lend, &spare), pause, guard);
        rest = rest.get(now.len()..).unwrap_or_default();
    }
    if caps {
        tap(connection, code(&keyboard, CAPS_LOCK)?, guard)?;
    }
    done
}

/// As many symbols as need no more than `spare` keys, and which those are.
fn next_batch(symbols: &[u32], spare: usize, missing: impl Fn(u32) -> bool) -> (&[u32], Vec<u32>) {
    let mut lend = Vec::new();
    let mut fits = |symbol: &u32| {
        if !missing(*symbol) || lend.contains(symbol) {
            return true;
        }
        let room = lend.len() < spare;
        if room {
            lend.push(*symbol);
        }
        room
    };
    let count = symbols.iter().take_while(|symbol| fits(symbol)).count();
    (symbols.get(..count).unwrap_or_default(), lend)
}

fn type_batch(
    connection: &Connection,
    keyboard: &Keyboard,
    (symbols, lend, spare): (&[u32], &[u32], &[u8]),
    pause: Duration,
    guard: &Guard,
) -> Done {
    let lent = Lent::new(connection, lend, spare)?;
    for symbol in symbols {
        let lent_key = lent.keys.get(symbol).map(|code| (*code, false));
        let Some((code, shift)) = lent_key.or_else(|| keyboard.find(*symbol)) else { continue };
        let shift = hold_modifiers(connection, Modifiers { shift, ..Modifiers::default() }, guard)?;
        tap(connection, code, guard)?;
        drop(shift);
        connection.pause(pause)?;
    }
    if lend.is_empty() { Ok(()) } else { settle(connection) }
}

/// Waits until the program that has the keyboard has nothing left to do: it looks up what a key means only when it gets to
/// it. Xlib has no word for that, but a process that did not run for a while has read what it was sent.
fn settle(connection: &Connection) -> Done {
    let pid = windows::active(connection).and_then(|window| Ok(connection.pid(window)?)).unwrap_or(None).unwrap_or(0);
    // With the state and the count of its switches; nothing of a process that is not of this machine.
    let look = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let end = Instant::now() + limits::X11_KEYS_SETTLE;
    let (mut before, mut quiet) = (String::new(), 0);
    while quiet < limits::X11_QUIET_LOOKS && Instant::now() < end {
        connection.pause(limits::X11_HELD_LOOK)?;
        let now = look();
        quiet = if now == before && now.contains("\nState:\tS") { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_keysyms_and_other_controls_are_refused() {
        assert_eq!(
            symbols("aZ é\n€\r\n\t🦀").unwrap(),
            [0x61, 0x5a, 0x20, 0xe9, RETURN, 0x0100_20ac, RETURN, TAB, 0x0101_f980]
        );
        for text in ["\u{1b}[A", "a\0", "\u{7f}", "\u{85}"] {
            assert!(symbols(text).is_err(), "{text:?}");
        }
        assert!(symbols(&"x".repeat(limits::X11_TYPED_CHARS)).is_ok());
        assert!(symbols(&"x".repeat(limits::X11_TYPED_CHARS + 1)).is_err());
    }

    #[test]
    fn keys_are_lent_as_long_as_there_are_some() {
        let missing = |symbol| symbol >= 100;
        assert_eq!(
            next_batch(&[1, 100, 2, 101, 100, 102, 3], 2, missing),
            (&[1, 100, 2, 101, 100][..], vec![100, 101])
        );
        assert_eq!(next_batch(&[102, 3], 2, missing), (&[102, 3][..], vec![102]));
        assert_eq!(next_batch(&[1, 2], 0, missing), (&[1, 2][..], vec![]));
    }
}
