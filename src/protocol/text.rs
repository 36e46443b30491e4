//! Which characters a person cannot see, and how they are shown instead.

/// True for every character that is invisible, moves the cursor, changes direction, or looks like
/// an ordinary space without being one. Source: vectors `approval-display`, cases A66, A67.
pub fn is_hidden(character: char) -> bool {
    let code = character as u32;
    matches!(code,
        0x00..=0x1F | 0x7F..=0x9F            // C0, DEL, C1
        | 0xA0 | 0x1680 | 0x2000..=0x200A | 0x202F | 0x205F | 0x3000 // spaces that are not U+0020
        | 0xAD | 0x061C | 0x070F | 0x08E2 | 0x180B..=0x180F | 0x0600..=0x0605 | 0x06DD | 0x0890..=0x0891
        | 0x034F | 0x115F..=0x1160 | 0x17B4..=0x17B5
        | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
        | 0x2800 | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
        | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
        | 0xE000..=0xF8FF | 0xE0000..=0xE0FFF | 0xF0000..=0x10FFFF)
}

/// The escape shown in place of `character`: `\u{HEX}`, upper case, no padding.
pub fn visible_escape(character: char) -> String {
    format!("\\u{{{:X}}}", character as u32)
}

/// `text` with every hidden character written as its escape.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            out.push_str(&visible_escape(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// The longest prefix of `text` that has at most `limit` bytes and ends at a character border.
pub fn prefix(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// `2026-11-21T15:00:10Z` for milliseconds since 1970.
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Counted from 0000-03-01, so that a leap day is the last of its year; 400 years have 146 097 days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + i64::from(month > 9), if month > 9 { month - 9 } else { month + 3 });
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_escapes_and_escaping_twice_changes_nothing() {
        let raw = "a\u{200B}\u{202E}\u{2066}\u{FEFF}\u{AD}\u{E0061}\u{2028}\u{A0}\r\n\t\u{1b}é漢";
        let shown = visible(raw);
        assert_eq!(
            shown,
            "a\\u{200B}\\u{202E}\\u{2066}\\u{FEFF}\\u{AD}\\u{E0061}\\u{2028}\\u{A0}\\u{D}\\u{A}\\u{9}\\u{1B}é漢"
        );
        assert_eq!(visible(&shown), shown);
    }

    #[test]
    fn prefix_never_cuts_a_character() {
        assert_eq!(prefix("aé", 2), "a");
        assert_eq!(prefix("aé", 3), "aé");
        assert_eq!(prefix("aé", 99), "aé");
    }
}
