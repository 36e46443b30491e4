//! A small schema check for parameters: one table a message, so that a reviewer sees at a glance
//! what is accepted, and a caller is told exactly which member is wrong. The wording follows the
//! shape that official peers print (spec gateway §2, §4).

use serde_json::Value;

/// What a member may hold.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A string; the number is the smallest length in bytes.
    Text(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Exactly this string.
    Const(&'static str),
    /// An integer of at least this.
    Int(i64),
    /// Any finite number.
    Number,
    /// true or false.
    Bool,
    /// An array of strings.
    Texts,
    /// An object of booleans.
    Flags,
    /// An object with these members and no others.
    Object(&'static [Member]),
    /// Any object.
    Map,
    /// Anything.
    Any,
    /// This, or null.
    Nullable(&'static Kind),
}

/// One member of an object.
#[derive(Clone, Copy)]
pub struct Member {
    name: &'static str,
    kind: Kind,
    required: bool,
}

/// A member that must be there.
pub const fn need(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, required: true }
}

/// A member that may be there.
pub const fn may(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, required: false }
}

/// Checks `value` against an object of `members`.
///
/// # Errors
/// Every offence, joined by `; `: `at /client: must have required property 'version'` …
pub fn check(value: &Value, members: &[Member]) -> Result<(), String> {
    let mut found = Vec::new();
    object(value, members, "", &mut found);
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

/// Offences reported at most; a hostile document must not make the answer grow.
const OFFENCES: usize = 8;

fn object(value: &Value, members: &[Member], path: &str, found: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        report(found, path, "must be object");
        return;
    };
    for member in members {
        match map.get(member.name) {
            Some(inner) => self::member(inner, member.kind, &format!("{path}/{}", member.name), found),
            None if member.required => {
                let at = if path.is_empty() { String::new() } else { format!("at {path}: ") };
                push(found, format!("{at}must have required property '{}'", member.name));
            }
            None => {}
        }
    }
    for name in map.keys() {
        if !members.iter().any(|member| member.name == name) {
            let at = if path.is_empty() { "root" } else { path };
            let name = super::text::visible(super::text::prefix(name, 64));
            push(found, format!("at {at}: unexpected property '{name}'"));
        }
    }
}

fn member(value: &Value, kind: Kind, path: &str, found: &mut Vec<String>) {
    match kind {
        Kind::Text(least) => match value.as_str() {
            None => report(found, path, "must be string"),
            Some(text) if text.len() < least => {
                report(found, path, &format!("must NOT have fewer than {least} characters"));
            }
            Some(_) => {}
        },
        Kind::OneOf(words) => {
            if !value.as_str().is_some_and(|text| words.contains(&text)) {
                report(found, path, "must be equal to one of the allowed values");
            }
        }
        Kind::Const(word) => {
            if value.as_str() != Some(word) {
                report(found, path, "must be equal to constant");
            }
        }
        Kind::Int(least) => match integer(value) {
            None => report(found, path, "must be integer"),
            Some(number) if number < least => report(found, path, &format!("must be >= {least}")),
            Some(_) => {}
        },
        Kind::Number => {
            if !value.is_number() {
                report(found, path, "must be number");
            }
        }
        Kind::Bool => {
            if !value.is_boolean() {
                report(found, path, "must be boolean");
            }
        }
        Kind::Texts => match value.as_array() {
            None => report(found, path, "must be array"),
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    if !item.is_string() {
                        report(found, &format!("{path}/{index}"), "must be string");
                    }
                }
            }
        },
        Kind::Flags => match value.as_object() {
            None => report(found, path, "must be object"),
            Some(map) => {
                if map.values().any(|flag| !flag.is_boolean()) {
                    report(found, path, "must hold booleans only");
                }
            }
        },
        Kind::Object(members) => object(value, members, path, found),
        Kind::Map => {
            if !value.is_object() {
                report(found, path, "must be object");
            }
        }
        Kind::Any => {}
        Kind::Nullable(inner) => {
            if !value.is_null() {
                member(value, *inner, path, found);
            }
        }
    }
}

/// An integer that JavaScript peers may also have written as `5.0`.
fn integer(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
}

fn report(found: &mut Vec<String>, path: &str, what: &str) {
    let at = if path.is_empty() { "root" } else { path };
    push(found, format!("at {at}: {what}"));
}

fn push(found: &mut Vec<String>, text: String) {
    if found.len() < OFFENCES {
        found.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: &[Member] = &[
        need("id", Kind::Text(1)),
        may("n", Kind::Int(1)),
        may("inner", Kind::Object(&[need("mode", Kind::OneOf(&["a", "b"]))])),
        may("maybe", Kind::Nullable(&Kind::Texts)),
    ];

    #[test]
    fn says_what_is_wrong_and_where() {
        let said = |value: Value| check(&value, SHAPE).err().unwrap_or_default();
        assert_eq!(said(json!({"id": "x", "n": 2, "inner": {"mode": "a"}, "maybe": null})), "");
        assert_eq!(said(json!({"id": "x", "n": 2.0})), "");
        assert_eq!(said(json!({})), "must have required property 'id'");
        assert_eq!(said(json!({"id": "x", "q": 1})), "at root: unexpected property 'q'");
        assert_eq!(said(json!({"id": 1})), "at /id: must be string");
        assert_eq!(said(json!({"id": "x", "n": 0})), "at /n: must be >= 1");
        assert_eq!(said(json!({"id": "x", "n": 1.5})), "at /n: must be integer");
        assert_eq!(said(json!({"id": "x", "inner": {}})), "at /inner: must have required property 'mode'");
        assert_eq!(
            said(json!({"id": "x", "inner": {"mode": "c"}})),
            "at /inner/mode: must be equal to one of the allowed values"
        );
        assert_eq!(said(json!({"id": "x", "maybe": [1]})), "at /maybe/0: must be string");
        assert_eq!(said(json!([])), "at root: must be object");
    }
}
