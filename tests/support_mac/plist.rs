//! As much of property lists as ours have; anything else is a panic.

#[derive(Debug, PartialEq)]
pub enum Value {
    Text(String),
    Bool(bool),
    Array(Vec<Value>),
    Dict(Vec<(String, Value)>),
}

impl Value {
    pub fn get(&self, key: &str) -> &Value {
        let Value::Dict(members) = self else { panic!("no dictionary: {self:?}") };
        &members.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    pub fn text(&self, key: &str) -> &str {
        let Value::Text(text) = self.get(key) else { panic!("{key} is no text") };
        text
    }
}

pub fn read(text: &str) -> Value {
    let (_, rest) = text.split_once("<plist version=\"1.0\">").unwrap();
    assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC"));
    let mut rest = rest;
    let value = one(&mut rest).unwrap();
    assert_eq!(rest.trim(), "</plist>");
    value
}

/// None at an end tag.
fn one(rest: &mut &str) -> Option<Value> {
    let (blank, after) = rest.split_once('<').unwrap();
    assert!(blank.trim().is_empty() && !after.starts_with('!'), "text where none may be: {blank}");
    let (tag, after) = after.split_once('>').unwrap();
    *rest = after;
    Some(match tag {
        "true/" => Value::Bool(true),
        "false/" => Value::Bool(false),
        "string" | "key" => {
            let (text, after) = rest.split_once('<').unwrap();
            *rest = after.strip_prefix(&format!("/{tag}>")).unwrap();
            assert!(!text.contains(['&', '>', '@']), "not filled in, or not escaped: {text}");
            Value::Text(text.to_owned())
        }
        "array" => Value::Array(std::iter::from_fn(|| one(rest)).collect()),
        "dict" => {
            let mut members: Vec<(String, Value)> = Vec::new();
            while let Some(Value::Text(key)) = one(rest) {
                assert!(members.iter().all(|(name, _)| *name != key), "{key} twice");
                members.push((key, one(rest).unwrap()));
            }
            Value::Dict(members)
        }
        end => {
            assert!(["/array", "/dict"].contains(&end), "unknown: {end}");
            return None;
        }
    })
}
