//! JSON5, as people write `openclaw.json`: comments, trailing commas, single quotes, bare names,
//! hexadecimal numbers. Nesting, and with it recursion, is limited to
//! [`limits::STRICT_JSON_DEPTH`], and a member that stands twice is an error, since one of the two
//! would silently not count. Source: json5.org, the 2018 specification.

use crate::limits;
use serde_json::{Map, Number, Value};
use std::fmt;
use std::str::Chars;

/// Where a text stops being JSON5, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json5Error {
    /// First line is 1.
    pub line: usize,
    /// In characters; the first is 1.
    pub column: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Json5Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Json5Error {}

/// Reads one value and nothing after it.
///
/// # Errors
/// The first offence and where it stands.
pub fn parse(text: &str) -> Result<Value, Json5Error> {
    let mut reader = Reader { rest: text.chars(), line: 1, column: 1 };
    let value = reader.value(limits::STRICT_JSON_DEPTH)?;
    reader.blank()?;
    if reader.peek().is_some() { reader.error("text after the value") } else { Ok(value) }
}

struct Reader<'a> {
    rest: Chars<'a>,
    line: usize,
    column: usize,
}

fn ends_line(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

impl Reader<'_> {
    /// `depth`: how many containers may still open.
    fn value(&mut self, depth: usize) -> Result<Value, Json5Error> {
        self.blank()?;
        match self.peek() {
            Some('{' | '[') if depth == 0 => self.error("nested too deeply"),
            Some('{') => self.object(depth - 1),
            Some('[') => self.array(depth - 1),
            Some('"' | '\'') => self.string().map(Value::String),
            Some('+' | '-' | '.' | '0'..='9') => self.number().map(Value::Number),
            Some(_) => self.word(),
            None => self.error("the text ends where a value is expected"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Json5Error> {
        let mut members = Map::new();
        self.next();
        loop {
            self.blank()?;
            if self.take('}') {
                return Ok(Value::Object(members));
            }
            let at = (self.line, self.column);
            let name = self.member_name()?;
            if members.contains_key(&name) {
                return Err(Json5Error { line: at.0, column: at.1, what: "this member stands twice" });
            }
            self.blank()?;
            if !self.take(':') {
                return self.error("expected a colon");
            }
            members.insert(name, self.value(depth)?);
            self.blank()?;
            if !self.take(',') && self.peek() != Some('}') {
                return self.error("expected a comma or `}`");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Json5Error> {
        let mut items = Vec::new();
        self.next();
        loop {
            self.blank()?;
            if self.take(']') {
                return Ok(Value::Array(items));
            }
            items.push(self.value(depth)?);
            self.blank()?;
            if !self.take(',') && self.peek() != Some(']') {
                return self.error("expected a comma or `]`");
            }
        }
    }

    fn member_name(&mut self) -> Result<String, Json5Error> {
        if matches!(self.peek(), Some('"' | '\'')) {
            return self.string();
        }
        if self.peek().is_none_or(char::is_numeric) {
            return self.error("expected a member name");
        }
        let name = self.bare_word();
        if name.is_empty() { self.error("expected a member name") } else { Ok(name) }
    }

    fn bare_word(&mut self) -> String {
        let mut word = String::new();
        while let Some(character) = self.peek() {
            if !(character.is_alphanumeric() || matches!(character, '_' | '$')) {
                break;
            }
            word.push(character);
            self.next();
        }
        word
    }

    fn word(&mut self) -> Result<Value, Json5Error> {
        let at = (self.line, self.column);
        let what = match self.bare_word().as_str() {
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            "null" => return Ok(Value::Null),
            "Infinity" | "NaN" => NOT_A_NUMBER,
            _ => "expected a value",
        };
        Err(Json5Error { line: at.0, column: at.1, what })
    }

    fn string(&mut self) -> Result<String, Json5Error> {
        let quote = self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.error("the text ends inside a string"),
                Some('\n' | '\r') => return self.error("a string may not go on in the next line without `\\`"),
                Some('\\') => {
                    self.next();
                    self.escape(&mut text)?;
                }
                Some(character) => {
                    self.next();
                    if Some(character) == quote {
                        return Ok(text);
                    }
                    text.push(character);
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Json5Error> {
        let Some(character) = self.peek() else { return self.error("the text ends inside a string") };
        if character.is_ascii_digit() && (character != '0' || self.second_is_digit()) {
            return self.error("an escape may not be a digit");
        }
        self.next();
        match character {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{C}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{B}'),
            '0' => text.push('\0'),
            'x' => {
                let code = self.hex_digits(2)?;
                text.push(char::from_u32(code).unwrap_or_default());
            }
            'u' => text.push(self.unicode_escape()?),
            '\r' => {
                // A line that is continued; CR LF is one end of line.
                self.take('\n');
            }
            other if ends_line(other) => {}
            other => text.push(other),
        }
        Ok(())
    }

    fn second_is_digit(&self) -> bool {
        self.rest.clone().nth(1).is_some_and(|second| second.is_ascii_digit())
    }

    fn unicode_escape(&mut self) -> Result<char, Json5Error> {
        let first = self.hex_digits(4)?;
        let code = if (0xD800..=0xDBFF).contains(&first) {
            if !(self.take('\\') && self.take('u')) {
                return self.error("half of a surrogate pair");
            }
            let second = self.hex_digits(4)?;
            if !(0xDC00..=0xDFFF).contains(&second) {
                return self.error("half of a surrogate pair");
            }
            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        } else {
            first
        };
        match char::from_u32(code) {
            Some(character) => Ok(character),
            None => self.error("half of a surrogate pair"),
        }
    }

    fn hex_digits(&mut self, count: usize) -> Result<u32, Json5Error> {
        let mut code = 0;
        for _ in 0..count {
            let Some(digit) = self.peek().and_then(|character| character.to_digit(16)) else {
                return self.error("expected a hexadecimal digit");
            };
            self.next();
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Number, Json5Error> {
        let at = (self.line, self.column);
        let mut text = String::new();
        while let Some(character) = self.peek() {
            if !(character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.')) {
                break;
            }
            text.push(character);
            self.next();
        }
        number(&text).map_err(|what| Json5Error { line: at.0, column: at.1, what })
    }

    /// White space and comments.
    fn blank(&mut self) -> Result<(), Json5Error> {
        loop {
            match self.peek() {
                Some(character) if character.is_whitespace() || character == '\u{FEFF}' => {
                    self.next();
                }
                Some('/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), Json5Error> {
        self.next();
        if self.take('/') {
            while self.peek().is_some_and(|character| !ends_line(character)) {
                self.next();
            }
            return Ok(());
        }
        if !self.take('*') {
            return self.error("expected a comment");
        }
        let mut star = false;
        while let Some(character) = self.next() {
            if star && character == '/' {
                return Ok(());
            }
            star = character == '*';
        }
        self.error("a comment does not end")
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.next()?;
        if character == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(character)
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.next();
        }
        found
    }

    fn error<T>(&self, what: &'static str) -> Result<T, Json5Error> {
        Err(Json5Error { line: self.line, column: self.column, what })
    }
}

const NOT_A_NUMBER: &str = "Infinity and NaN are not numbers here";
const BAD_NUMBER: &str = "not a number";

fn number(text: &str) -> Result<Number, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(digits, "Infinity" | "NaN") {
        return Err(NOT_A_NUMBER);
    }
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        if !hex.starts_with(|first: char| first.is_ascii_hexdigit()) {
            return Err(BAD_NUMBER);
        }
        let value = u64::from_str_radix(hex, 16).map_err(|_| BAD_NUMBER)?;
        return if negative { negated(value) } else { Ok(value.into()) };
    }
    decimal(negative, digits)
}

fn negated(value: u64) -> Result<Number, &'static str> {
    0_i64.checked_sub_unsigned(value).map(Number::from).ok_or(BAD_NUMBER)
}

/// JSON5 allows what JSON does not at both ends of the point: `.5` and `5.`.
fn decimal(negative: bool, digits: &str) -> Result<Number, &'static str> {
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || (whole.len() > 1 && whole.starts_with('0'))
    {
        return Err(BAD_NUMBER);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if negative { "-" } else { "" };
    serde_json::from_str(&format!("{sign}{whole}{point}{fraction}{exponent}")).map_err(|_| BAD_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_people_write() {
        let text = "// mine\n{ /* * / */ bare: 'it\\'s', \"quoted\": \"a\\\n b\\x41\\u00e9\\ud83d\\ude00\",\n $_1: [+1, -.5, 5., 0xFF, -0x10, 1e3, null, true,],}\n";
        let value = parse(text).unwrap();
        assert_eq!(
            value,
            json!({ "bare": "it's", "quoted": "a bAé😀", "$_1": [1, -0.5, 5, 255, -16, 1000.0, null, true] })
        );
        assert_eq!(parse("[]").unwrap(), json!([]));
        assert_eq!(parse("\u{FEFF}{}").unwrap(), json!({}));
    }

    #[test]
    fn refuses_the_rest_and_says_where() {
        let deep = "[".repeat(100_000);
        for (text, what) in [
            ("", "line 1 column 1: the text ends where a value is expected"),
            ("{a:1,\n a:2}", "line 2 column 2: this member stands twice"),
            ("{a:1,'\\u0061':2}", "line 1 column 6: this member stands twice"),
            ("[Infinity]", "line 1 column 2: Infinity and NaN are not numbers here"),
            ("-Infinity", "line 1 column 1: Infinity and NaN are not numbers here"),
            ("NaN", "line 1 column 1: Infinity and NaN are not numbers here"),
            ("[,]", "line 1 column 2: expected a value"),
            ("{1:2}", "line 1 column 2: expected a member name"),
            ("{a 1}", "line 1 column 4: expected a colon"),
            ("[1 2]", "line 1 column 4: expected a comma or `]`"),
            ("{} {}", "line 1 column 4: text after the value"),
            ("01", "line 1 column 1: not a number"),
            ("0x", "line 1 column 1: not a number"),
            (".", "line 1 column 1: not a number"),
            ("1e", "line 1 column 1: not a number"),
            ("1e999", "line 1 column 1: not a number"),
            ("'a\nb'", "line 1 column 3: a string may not go on in the next line without `\\`"),
            ("'a", "line 1 column 3: the text ends inside a string"),
            ("'\\ud800'", "line 1 column 8: half of a surrogate pair"),
            ("'\\1'", "line 1 column 3: an escape may not be a digit"),
            ("/* x", "line 1 column 5: a comment does not end"),
            ("/x", "line 1 column 2: expected a comment"),
            (&deep, "line 1 column 33: nested too deeply"),
        ] {
            let shown = text.get(..20).unwrap_or(text);
            assert_eq!(parse(text).err().map(|error| error.to_string()).as_deref(), Some(what), "{shown}");
        }
    }

    /// Whatever is JSON means the same here, and no mutation of a good text panics.
    #[test]
    fn mutations_never_panic() {
        let good = "{a:'b\\n',\"c\":[1,-2.5e3,0xF,.5,true,null,],/*x*/d:{e:\"\\u00e9\"}}//end";
        let alphabet: Vec<char> = "{}[]:,'\"\\/*+-.0x1eEuaN\n\u{2028}é$".chars().collect();
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap()
        };
        let mut parsed = 0;
        for _ in 0..50_000 {
            let mut text: Vec<char> = good.chars().collect();
            for _ in 0..=random(3) {
                let at = random(text.len());
                match random(3) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, alphabet[random(alphabet.len())]),
                    _ => text[at] = alphabet[random(alphabet.len())],
                }
            }
            let text: String = text.into_iter().collect();
            let ours = parse(&text);
            parsed += usize::from(ours.is_ok());
            if crate::protocol::strict::check(&text, 32).is_ok() {
                assert_eq!(ours.ok(), serde_json::from_str(&text).ok(), "{text}");
            }
        }
        assert!(parsed > 100);
    }
}
