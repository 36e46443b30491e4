//! Input as from the person's own pointer and keyboard (XTEST).

use super::library::XkbState;
use super::tree::take_array;
use super::{Connection, Error};
use std::ffi::{c_int, c_uchar, c_uint, c_ulong};

/// `XkbUseCoreKbd`
const CORE_KEYBOARD: c_uint = 0x100;
/// `LockMask`: Caps Lock.
const LOCK: c_uchar = 2;

/// What the keys of the keyboard mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyboard {
    /// The lowest keycode.
    first: u8,
    /// Keysyms a key.
    width: usize,
    /// Of all keys, one after the other.
    symbols: Vec<u32>,
}

impl Keyboard {
    fn keys(&self) -> impl Iterator<Item = (u8, &[u32])> {
        (self.first..=u8::MAX).zip(self.symbols.chunks_exact(self.width.max(1)))
    }

    /// The key that gives `symbol` in the first layout, and whether Shift is needed.
    pub fn find(&self, symbol: u32) -> Option<(u8, bool)> {
        let at = |level: usize| self.keys().find(|(_, symbols)| symbols.get(level) == Some(&symbol));
        at(0).map(|(code, _)| (code, false)).or_else(|| at(1).map(|(code, _)| (code, true)))
    }

    /// Keys that mean nothing.
    pub fn spare(&self) -> Vec<u8> {
        self.keys().filter(|(_, symbols)| symbols.iter().all(|symbol| *symbol == 0)).map(|(code, _)| code).collect()
    }
}

impl Connection {
    /// Moves the pointer.
    pub fn move_pointer(&self, x: i32, y: i32) {
        // SAFETY: a live connection. Screen -1 is the one where the pointer is, 0 ms delay.
        unsafe { (self.library.test.XTestFakeMotionEvent)(self.display, -1, x, y, 0) };
    }

    /// Presses or releases a button: 1 left, 3 right, 4–7 the wheel up, down, left, right.
    pub fn button(&self, button: u32, down: bool) {
        // SAFETY: a live connection.
        unsafe { (self.library.test.XTestFakeButtonEvent)(self.display, button, c_int::from(down), 0) };
    }

    /// Presses or releases a key.
    pub fn key(&self, code: u8, down: bool) {
        // SAFETY: a live connection.
        unsafe { (self.library.test.XTestFakeKeyEvent)(self.display, code.into(), c_int::from(down), 0) };
    }

    /// What the keys mean now.
    ///
    /// # Errors
    /// The server is gone.
    pub fn keyboard(&self) -> Result<Keyboard, Error> {
        let (mut first, mut last, mut width) = (0, 0, 0);
        // SAFETY: a live connection and live variables.
        unsafe { (self.library.x.XDisplayKeycodes)(self.display, &raw mut first, &raw mut last) };
        let (first, last) = (c_uchar::try_from(first).unwrap_or(8), c_uchar::try_from(last).unwrap_or(255));
        let count = c_int::from(last) - c_int::from(first) + 1;
        // SAFETY: as above; the keycodes are those that the server has.
        let symbols = unsafe { (self.library.x.XGetKeyboardMapping)(self.display, first, count, &raw mut width) };
        let width = usize::try_from(width).unwrap_or(0);
        // SAFETY: it has `count` times `width` elements.
        let symbols = unsafe { take_array(self, symbols, usize::try_from(count).unwrap_or(0) * width) };
        self.refusal()?;
        Ok(Keyboard { first, width, symbols: symbols.into_iter().map(super::narrow).collect() })
    }

    /// Gives a key a meaning, with and without Shift; 0 takes it away.
    ///
    /// # Errors
    /// The server refused.
    pub fn set_key(&self, code: u8, symbol: u32) -> Result<(), Error> {
        let symbols = [c_ulong::from(symbol); 2];
        // SAFETY: a live connection and one key's two live symbols.
        unsafe { (self.library.x.XChangeKeyboardMapping)(self.display, code.into(), 2, symbols.as_ptr(), 1) };
        self.sync()
    }

    /// Whether Caps Lock is on, and whether a layout other than the first one is in use.
    ///
    /// # Errors
    /// The server is gone.
    pub fn keyboard_state(&self) -> Result<(bool, bool), Error> {
        let mut state = XkbState::default();
        // SAFETY: a live connection; the structure is larger than XkbStateRec.
        unsafe { (self.library.x.XkbGetState)(self.display, CORE_KEYBOARD, &raw mut state) };
        self.refusal()?;
        Ok((state.mods & LOCK != 0, state.group != 0))
    }
}
