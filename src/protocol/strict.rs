//! A pre-scan for documents that decide something: serde's maps keep the last of two equal members
//! silently and derived structs stop at the first, so the question "does this text mean one thing
//! only" is answered here, before serde sees it. Source: security-cases H17 and its row.

use std::collections::HashSet;
use std::fmt;

/// Why a text was refused, with the byte position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictError {
    /// Byte offset of the first offence.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for StrictError {}

/// Accepts exactly one JSON value with no duplicate members, no lone surrogates, no trailing data
/// and at most `depth` nested containers. The scan is iterative: nesting costs no stack.
///
/// # Errors
/// The first offence and where it stands.
pub fn check(text: &str, depth: usize) -> Result<(), StrictError> {
    Scanner { bytes: text.as_bytes(), at: 0, duplicates: true }.document(depth)
}

/// Like [`check`] for text that is only relayed: depth and well-formedness, duplicates pass.
///
/// # Errors
/// The first offence and where it stands.
pub fn check_relayed(text: &str, depth: usize) -> Result<(), StrictError> {
    Scanner { bytes: text.as_bytes(), at: 0, duplicates: false }.document(depth)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    duplicates: bool,
}

/// One open container.
enum Open {
    Array,
    Object(HashSet<String>),
}

impl Scanner<'_> {
    fn document(mut self, depth: usize) -> Result<(), StrictError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            // A value begins here.
            self.blank();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if open.len() >= depth {
                        return self.error("nested too deeply");
                    }
                    self.blank();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        open.push(Open::Object(HashSet::new()));
                        self.member(&mut open)?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if open.len() >= depth {
                        return self.error("nested too deeply");
                    }
                    self.blank();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        open.push(Open::Array);
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string(false)?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return self.error("no JSON value"),
            }
            // A value has ended here: close what it ends, or go on to the next one.
            loop {
                self.blank();
                match (open.last(), self.peek()) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return self.error("data after the value"),
                    (Some(Open::Array), Some(b']')) | (Some(Open::Object(_)), Some(b'}')) => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(Open::Array), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(Open::Object(_)), Some(b',')) => {
                        self.at += 1;
                        self.member(&mut open)?;
                        break;
                    }
                    _ => return self.error("expected a comma or the end of the container"),
                }
            }
        }
    }

    /// A member's name and colon.
    fn member(&mut self, open: &mut [Open]) -> Result<(), StrictError> {
        self.blank();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return self.error("expected a member name");
        }
        let name = self.string(self.duplicates)?;
        if let (Some(Open::Object(seen)), true) = (open.last_mut(), self.duplicates)
            && !seen.insert(name)
        {
            return Err(StrictError { at: start, what: "duplicate member" });
        }
        self.blank();
        if self.peek() != Some(b':') {
            return self.error("expected a colon");
        }
        self.at += 1;
        Ok(())
    }

    /// A string; its decoded text when `keep`, else an empty one.
    fn string(&mut self, keep: bool) -> Result<String, StrictError> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let Some(byte) = self.peek() else { return self.error("string does not end") };
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(keep.then_some(&mut text))?,
                0x00..=0x1F => {
                    self.at -= 1;
                    return self.error("control character in a string");
                }
                other => {
                    if keep {
                        text.push(other);
                    }
                }
            }
        }
        // The input is UTF-8 and escapes add whole characters, so this never replaces anything.
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn escape(&mut self, text: Option<&mut Vec<u8>>) -> Result<(), StrictError> {
        let Some(byte) = self.peek() else { return self.error("string does not end") };
        self.at += 1;
        let character = match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = match first {
                    0xD800..=0xDBFF => {
                        if self.peek() != Some(b'\\') || self.bytes.get(self.at + 1) != Some(&b'u') {
                            return self.error("lone surrogate");
                        }
                        self.at += 2;
                        let second = self.hex4()?;
                        if !(0xDC00..=0xDFFF).contains(&second) {
                            return self.error("lone surrogate");
                        }
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    0xDC00..=0xDFFF => return self.error("lone surrogate"),
                    other => other,
                };
                char::from_u32(code).unwrap_or('\u{FFFD}')
            }
            _ => return self.error("unknown escape"),
        };
        if let Some(text) = text {
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, StrictError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            let Some(digit) = digit else { return self.error("bad \\u escape") };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<(), StrictError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.error("bad number"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), StrictError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.error("bad number") } else { Ok(()) }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), StrictError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            self.error("no JSON value")
        }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn error<T>(&self, what: &'static str) -> Result<T, StrictError> {
        Err(StrictError { at: self.at, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> &'static str {
        check(text, 4).err().map_or("ok", |error| error.what)
    }

    #[test]
    fn accepts_what_means_one_thing() {
        for good in [
            "null",
            " true ",
            "-0.5e+3",
            "\"\\u00e9\\ud83d\\ude00\"",
            "[]",
            "{}",
            "[1,[2,[3,[]]]]",
            r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#,
        ] {
            assert_eq!(what(good), "ok", "{good}");
            assert!(serde_json::from_str::<serde_json::Value>(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_what_means_two_things_or_nothing() {
        for (bad, why) in [
            (r#"{"a":1,"a":2}"#, "duplicate member"),
            (r#"{"a":1,"\u0061":2}"#, "duplicate member"),
            ("[[[[[]]]]]", "nested too deeply"),
            ("\"\\ud800\"", "lone surrogate"),
            ("\"\\udc00\"", "lone surrogate"),
            ("\"\\ud800\\u0041\"", "lone surrogate"),
            ("1 2", "data after the value"),
            ("{}x", "data after the value"),
            ("", "no JSON value"),
            ("NaN", "no JSON value"),
            ("nul", "no JSON value"),
            ("01", "data after the value"),
            ("1.", "bad number"),
            ("-", "bad number"),
            ("\"a", "string does not end"),
            ("\"\\", "string does not end"),
            ("\"\\x\"", "unknown escape"),
            ("\"a\u{1}\"", "control character in a string"),
            ("[1,]", "no JSON value"),
            ("[1 2]", "expected a comma or the end of the container"),
            ("{\"a\"}", "expected a colon"),
            ("{a:1}", "expected a member name"),
            ("{\"a\":1,}", "expected a member name"),
            ("[", "no JSON value"),
        ] {
            assert_eq!(what(bad), why, "{bad}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(what(&deep), "nested too deeply");
        assert!(check(&deep, usize::MAX).is_err());
    }

    #[test]
    fn relayed_text_may_repeat_a_member() {
        assert!(check_relayed(r#"{"a":1,"a":2}"#, 4).is_ok());
        assert!(check_relayed("[[[[[]]]]]", 4).is_err());
    }
}
