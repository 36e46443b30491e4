//! File globs, performed by us so that what was read is what is started.

use super::not_understood;
use super::word::{Pattern, Surroundings, Token};
use crate::exec::plan::NotUnderstood;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

/// The names that match, in byte order; none at all if nothing does. Links are followed as the
/// kernel does it; dot files only match a component that begins with a dot.
pub(super) fn find(tokens: &[Token], around: &mut Surroundings, position: usize) -> Result<Vec<String>, NotUnderstood> {
    let deadline = Instant::now() + around.time;
    let mut search = Search { around, deadline };
    let found = search.run(tokens);
    around.time = deadline.saturating_duration_since(Instant::now());
    let mut found = found.map_err(|reason| not_understood(reason, position))?;
    if found.iter().any(|name| name.starts_with('-')) {
        return Err(not_understood("a pattern that finds a name with - at its beginning", position));
    }
    found.sort_unstable();
    Ok(found)
}

struct Search<'a, 'b> {
    around: &'a mut Surroundings<'b>,
    deadline: Instant,
}

impl Search<'_, '_> {
    /// Component by component: what is found so far, each with everything that it continues with.
    fn run(&mut self, tokens: &[Token]) -> Result<Vec<String>, &'static str> {
        let mut found = vec![String::new()];
        let mut has_listed = false;
        for component in tokens.split_inclusive(|token| matches!(token, Token::Character('/'))) {
            let (name, slash) = match component.split_last() {
                Some((Token::Character('/'), name)) => (name, "/"),
                _ => (component, ""),
            };
            let literal: Option<String> = name.iter().map(Token::character).collect();
            if has_listed && name.is_empty() {
                return Err("a pattern with // behind it, which shells write differently");
            }
            has_listed |= literal.is_none();
            let mut continued = Vec::new();
            for before in found {
                let names = match &literal {
                    Some(name) => vec![name.clone()],
                    None => self.names(&before, name)?,
                };
                for name in names {
                    self.check_time()?;
                    let path = format!("{before}{name}{slash}");
                    // A listed name exists; a literal one may not, and one with a slash may not be a directory.
                    let is_listed = literal.is_none() && slash.is_empty();
                    if is_listed || fs::symlink_metadata(self.around.directory.join(&path)).is_ok() {
                        continued.push(path);
                    }
                }
            }
            found = continued;
        }
        Ok(found)
    }

    /// The entries of a directory that match; none if it cannot be read, as in a shell.
    fn names(&mut self, directory: &str, pattern: &[Token]) -> Result<Vec<String>, &'static str> {
        let mut names = Vec::new();
        let Ok(entries) = fs::read_dir(self.around.directory.join(directory)) else { return Ok(names) };
        let wants_dot = matches!(pattern.first(), Some(Token::Character('.')));
        if wants_dot && (matches(pattern, ".") || matches(pattern, "..")) {
            return Err("a pattern that in some shells finds . or ..");
        }
        for entry in entries.flatten() {
            self.check_time()?;
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") && !wants_dot {
                continue;
            }
            let name = name.to_str().ok_or("a pattern in a directory with a name that is not Unicode")?;
            if matches(pattern, name) {
                self.around.names = self.around.names.checked_sub(1).ok_or("patterns that find too many names")?;
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn check_time(&self) -> Result<(), &'static str> {
        if Instant::now() < self.deadline { Ok(()) } else { Err("patterns that take too long to find their names") }
    }
}

impl Token<'_> {
    fn character(&self) -> Option<char> {
        match self {
            Self::Character(character) => Some(*character),
            Self::Pattern(_) => None,
        }
    }

    /// Whether it is, or stands for, this one character.
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Character(own) => *own == character,
            Self::Pattern(Pattern::Any) => false,
            Self::Pattern(Pattern::One) => true,
            Self::Pattern(Pattern::Set { is_negated, ranges, .. }) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *is_negated
            }
        }
    }
}

/// Whether the whole name matches. Only the last `*` is ever tried again, so time is at most pattern
/// × name.
fn matches(pattern: &[Token], name: &str) -> bool {
    let (mut pattern, mut name) = (pattern, name.chars());
    let mut last_any = None;
    loop {
        match pattern.split_first() {
            Some((Token::Pattern(Pattern::Any), rest)) => {
                pattern = rest;
                last_any = Some((rest, name.clone()));
                continue;
            }
            Some((token, rest)) => {
                let mut ahead = name.clone();
                if ahead.next().is_some_and(|character| token.accepts(character)) {
                    (pattern, name) = (rest, ahead);
                    continue;
                }
            }
            None if name.as_str().is_empty() => return true,
            None => {}
        }
        // The last `*` takes one character more.
        let Some((behind, from)) = &mut last_any else { return false };
        if from.next().is_none() {
            return false;
        }
        (pattern, name) = (behind, from.clone());
    }
}

/// Whether the whole `text` is like `pattern`, which is not empty: `*` is any run of characters, `?` any one.
pub(in crate::exec) fn is_like(pattern: &str, text: &str) -> bool {
    let token = |character| match character {
        '*' => Token::Pattern(&Pattern::Any),
        '?' => Token::Pattern(&Pattern::One),
        other => Token::Character(other),
    };
    !pattern.is_empty() && matches(&pattern.chars().map(token).collect::<Vec<_>>(), text)
}
