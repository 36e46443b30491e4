//! `system.notify`. Source: spec exec (e.6), mac-app (1.10, 3.1)

use super::policy::Refusal;
use super::strict;
use crate::limits;
use serde::Deserialize;

/// The command.
pub const NOTIFY: &str = "system.notify";

/// What an agent wants to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Notification {
    /// One line.
    #[serde(default)]
    pub title: String,
    /// May be empty if the title is not.
    #[serde(default)]
    pub body: String,
    /// Name of a sound; without one it is silent.
    #[serde(default)]
    pub sound: Option<String>,
    /// How much it may disturb.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Where it is shown.
    #[serde(default)]
    pub delivery: Option<Delivery>,
}

/// How much a notification may disturb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Priority {
    /// Not at all: only listed.
    Passive,
    /// As usual.
    Active,
    /// Although the person does not want to be disturbed.
    TimeSensitive,
}

/// Where a notification is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// By the system.
    #[default]
    System,
    /// By a panel of our own.
    Overlay,
    /// By the system, else by our own panel.
    Auto,
}

impl Notification {
    /// Reads `paramsJSON`; both texts trimmed, and cut to what anybody reads of a notification.
    ///
    /// # Errors
    /// `INVALID_REQUEST`.
    pub fn parse(params: &str) -> Result<Self, Refusal> {
        let bad = |what: &str| Refusal::invalid(format!("INVALID_REQUEST: {what}"));
        strict::check(params, limits::STRICT_JSON_DEPTH).map_err(|_| bad("paramsJSON malformed JSON"))?;
        let mut notification: Self = serde_json::from_str(params).map_err(|error| bad(&error.to_string()))?;
        notification.title = shortened(&notification.title, limits::NOTIFICATION_TITLE_CHARS);
        notification.body = shortened(&notification.body, limits::NOTIFICATION_BODY_CHARS);
        notification.sound = notification.sound.map(|sound| sound.trim().to_owned()).filter(|sound| !sound.is_empty());
        if notification.sound.as_ref().is_some_and(|sound| !is_sound(sound)) {
            return Err(bad("sound is the name of a sound, without a folder"));
        }
        if notification.title.is_empty() && notification.body.is_empty() {
            return Err(bad("empty notification"));
        }
        Ok(notification)
    }
}

fn is_sound(name: &str) -> bool {
    name.len() <= limits::NOTIFICATION_SOUND_BYTES
        && !name.starts_with('.')
        && name.chars().all(|character| character.is_alphanumeric() || matches!(character, ' ' | '.' | '-' | '_'))
}

/// The text without what a person cannot see, line ends aside.
fn shortened(text: &str, most: usize) -> String {
    let seen: String = text
        .trim()
        .chars()
        .map(|character| if character == '\t' || character == '\u{a0}' { ' ' } else { character })
        .filter(|character| *character == '\n' || !super::text::is_hidden(*character))
        .collect();
    match seen.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", seen.get(..end).unwrap_or_default()),
        None => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_the_original_reads() {
        let whole = Notification::parse(
            r#"{"title": " T ", "body": "b\n\u202ec", "sound": "Glass", "priority": "timeSensitive", "delivery": "auto", "x": 1}"#,
        );
        let expected = Notification {
            title: "T".to_owned(),
            body: "b\nc".to_owned(),
            sound: Some("Glass".to_owned()),
            priority: Some(Priority::TimeSensitive),
            delivery: Some(Delivery::Auto),
        };
        assert_eq!(whole.unwrap(), expected);
        assert_eq!(Notification::parse(r#"{"body": "b", "sound": " "}"#).unwrap().sound, None);
        for (bad, words) in [
            ("{}", "empty notification"),
            (r#"{"title": " ", "body": "\n"}"#, "empty notification"),
            (r#"{"title": "\u200b"}"#, "empty notification"),
            (r#"{"title": "t", "priority": "critical"}"#, "unknown variant"),
            (r#"{"title": "t", "sound": "../../x"}"#, "sound is the name"),
            (r#"{"title": 3}"#, "invalid type"),
            (r#"{"title": "t", "title": "u"}"#, "malformed"),
            ("[", "malformed"),
        ] {
            let refusal = Notification::parse(bad).unwrap_err();
            assert!(refusal.code == "INVALID_REQUEST" && refusal.message.contains(words), "{bad}: {refusal:?}");
            assert!(refusal.message.starts_with("INVALID_REQUEST: "), "{refusal:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = Notification::parse(&format!(r#"{{"title": "{0}", "body": "{0}"}}"#, "é".repeat(9_000))).unwrap();
        assert_eq!(long.title.chars().count(), limits::NOTIFICATION_TITLE_CHARS + 1);
        assert_eq!(long.body.chars().count(), limits::NOTIFICATION_BODY_CHARS + 1);
        assert!(long.title.ends_with('…'));
    }
}
