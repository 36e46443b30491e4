//! How a command is shown: to a person, whole and unmistakable; to programs, as the original
//! writes it.

use crate::limits;
use crate::protocol::node::RunResult;
use crate::protocol::text;

/// Canonical display of an argument vector. It is a name for the command in events and claims,
/// ambiguous by design of the protocol, and never shown to a person in place of [`quoted`].
/// Source: spec exec (d.1), 2026.9; vectors `argv-allowlist`.
pub fn canonical(argv: &[String]) -> String {
    let word = |argument: &String| {
        if argument.is_empty() {
            "\"\"".to_owned()
        } else if argument.contains(|c: char| c == '"' || is_white_space(c)) {
            format!("\"{}\"", argument.replace('"', "\\\""))
        } else {
            argument.clone()
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// ECMAScript's `\s`.
fn is_white_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == '\u{FEFF}'
}

/// The command for a person: one line, nothing left out, arguments separable, no character that
/// hides. What needs no quotes has none; `'…'` holds its text literally (`'\''` is one quote);
/// `$'…'` holds escapes: `\\`, `\'`, and `\u{HEX}` for a character that would not be seen
/// (A64, A66, A67, A68).
pub fn quoted(argv: &[String]) -> String {
    argv.iter().map(|argument| quote(argument)).collect::<Vec<_>>().join(" ")
}

fn quote(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_./:=@%+,-".contains(c);
    if argument.contains(text::is_hidden) {
        let mut out = String::from("$'");
        for character in argument.chars() {
            match character {
                '\\' | '\'' => out.extend(['\\', character]),
                hidden if text::is_hidden(hidden) => out.push_str(&text::visible_escape(hidden)),
                shown => out.push(shown),
            }
        }
        out.push('\'');
        out
    } else if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

/// What stands before the tail of an output that was cut. Source: spec exec (e.3).
const TAIL_MARK: &str = "... (truncated) ";

/// The `output` of `exec.finished`: stdout, stderr and error joined, trimmed, and of what is longer
/// than the limit only the end. Source: spec exec (e.3).
pub fn output_tail(result: &RunResult) -> String {
    let parts = [result.stdout.as_str(), result.stderr.as_str(), result.error.as_deref().unwrap_or_default()];
    let joined = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let trimmed = joined.trim();
    if trimmed.is_empty() {
        return joined;
    }
    // Counted from the end, whole characters only: a tail never starts inside a surrogate pair.
    let mut units = 0;
    let fits = |(_, character): &(usize, char)| {
        units += character.len_utf16();
        units <= limits::EVENT_OUTPUT_UNITS
    };
    let start = trimmed.char_indices().rev().take_while(fits).last().map_or(trimmed.len(), |(start, _)| start);
    if start == 0 { trimmed.to_owned() } else { format!("{TAIL_MARK}{}", trimmed.get(start..).unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn canonical_text_is_the_originals() {
        assert_eq!(canonical(&argv(&["sh", "-c", "a \"b\" $c", ""])), r#"sh -c "a \"b\" $c" """#);
        assert_eq!(canonical(&argv(&["a'b", "c\\d", "e\nf"])), "a'b c\\d \"e\nf\"");
    }

    /// A67, A68: one visible line in which no two argument vectors look alike.
    #[test]
    fn sec_a67_a68_one_line_and_separable() {
        let shown = quoted(&argv(&["tool ", " x", "", "a\n\r\x08\x1b[2J\t\x7f\u{9b}", "it's", "\\u{A}", "\n"]));
        assert_eq!(
            shown,
            "'tool ' ' x' '' $'a\\u{A}\\u{D}\\u{8}\\u{1B}[2J\\u{9}\\u{7F}\\u{9B}' 'it'\\''s' '\\u{A}' $'\\u{A}'"
        );
        assert_ne!(quoted(&argv(&["a b"])), quoted(&argv(&["a", "b"])));
        assert_ne!(quoted(&argv(&["$'\\u{A}'"])), quoted(&argv(&["\n"])));
        assert_eq!(text::visible(&shown), shown);
    }

    /// A66: nothing invisible is left, whatever it is.
    #[test]
    fn sec_a66_no_hidden_character_survives() {
        let hidden = "\u{200B}\u{200D}\u{202E}\u{2066}\u{2069}\u{FEFF}\u{AD}\u{E0061}\u{2028}\u{A0}";
        let shown = quoted(&argv(&["rm", hidden]));
        assert!(!shown.contains(text::is_hidden));
        assert_eq!(shown.matches("\\u{").count(), hidden.chars().count());
    }

    /// A64: twenty kilobytes are shown to the last byte.
    #[test]
    fn sec_a64_nothing_is_cut() {
        let long = format!("{};rm -rf ~", "x".repeat(20_000));
        assert!(quoted(&argv(&["sh", "-c", &long])).ends_with(";rm -rf ~'"));
        let many = vec!["a".to_owned(); 4_096];
        assert_eq!(quoted(&many).len(), 2 * 4_096 - 1);
    }

    #[test]
    fn the_tail_keeps_the_end_and_whole_characters() {
        let of = |stdout: &str, stderr: &str, error: Option<&str>| {
            output_tail(&RunResult {
                stdout: stdout.to_owned(),
                stderr: stderr.to_owned(),
                error: error.map(str::to_owned),
                ..RunResult::default()
            })
        };
        assert_eq!(of("a\n", "", Some("e")), "a\n\ne");
        assert_eq!(of(" \n", "", None), " \n");
        assert_eq!(of(&"x".repeat(20_000), "", None).len(), 20_000);
        let long = of(&format!("{}END", "x".repeat(30_000)), "", None);
        assert!(long.starts_with("... (truncated) x") && long.ends_with("END"));
        assert_eq!(long.encode_utf16().count(), 20_016);
        let astral = of(&format!("x{}", "\u{1F4A5}".repeat(10_001)), "yy", None);
        assert_eq!(astral.encode_utf16().count(), 16 + 19_999, "one unit less instead of half a character");
    }
}
