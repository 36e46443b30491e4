//! What a mistyped word may have been meant to be.

use argh::CommandInfoWithArgs;

/// How argh begins its sentence about a word that it does not know.
const UNKNOWN: &str = "Unrecognized argument: ";
/// Longer words are not typing errors.
const WORD_CHARS: usize = 40;

/// What to say behind argh's `error` about `words`; none when it is not about an unknown word.
pub fn hint(root: &CommandInfoWithArgs, words: &[&str], error: &str) -> Option<String> {
    let unknown = error.strip_prefix(UNKNOWN)?.lines().next()?;
    let (mut command, mut place) = (root, "openclaw".to_owned());
    for word in words.iter().take_while(|word| **word != unknown) {
        if let Some(below) = command.commands.iter().find(|below| below.name == *word) {
            (command, place) = (&below.command, format!("{place} {word}"));
        }
    }
    let (name, value) = unknown.split_once('=').unwrap_or((unknown, ""));
    let flags = || command.flags.iter().map(|flag| flag.long);
    let nearest = if name.starts_with('-') {
        nearest(name, flags())
    } else {
        nearest(name, command.commands.iter().map(|below| below.name))
    };
    Some(match nearest {
        Some(flag) if flag == name && !value.is_empty() => format!("write `{flag} VALUE`, with a blank between"),
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("`{place} --help` lists what is known"),
    })
}

/// The known word that is like `word`, or that it begins.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS {
        return None;
    }
    let far = |other: &str| {
        let begins = length > 2 && other.starts_with(word);
        if begins { 1 } else { distance(word, other) }
    };
    let best = known.map(|other| (far(other), other)).min()?;
    (best.0 <= (length / 3).max(1)).then_some(best.1)
}

/// How many letters to insert, remove, replace or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=other.len()).collect());
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, wanted) in other.iter().enumerate() {
            let replaced = at(&last, j) + usize::from(letter != wanted);
            let mut least = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let is_swap = i > 0 && j > 0 && one.get(i - 1) == Some(wanted) && other.get(j - 1) == Some(letter);
            if is_swap {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        (before, last) = (last, row);
    }
    at(&last, other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, far) in [
            ("", "", 0),
            ("a", "", 1),
            ("status", "satus", 1),
            ("status", "statsu", 1),
            ("run", "pair", 4),
            ("é", "e", 1),
        ] {
            assert_eq!((distance(one, other), distance(other, one)), (far, far), "{one} {other}");
        }
    }

    #[test]
    fn the_nearest_of_the_known_words() {
        let known = || ["status", "nodes", "run", "--json", "--state-dir"].into_iter();
        for (word, meant) in [
            ("statsu", Some("status")),
            ("stat", Some("status")),
            ("node", Some("nodes")),
            ("rnu", Some("run")),
            ("--jsno", Some("--json")),
            ("--statedir", Some("--state-dir")),
            ("x", None),
            ("explode", None),
            (&"s".repeat(10_000), None),
        ] {
            assert_eq!(nearest(word, known()), meant, "{word}");
        }
    }
}
