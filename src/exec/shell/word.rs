//! Words: what was written, and what it becomes.

use super::{files, not_understood};
use crate::exec::plan::NotUnderstood;
use crate::limits;
use std::path::Path;
use std::time::Duration;

/// What the words of one text find around them.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// What `~` and `$HOME` are.
    pub home: &'a str,
    /// What `$PWD` is, and where relative globs begin: the directory that the command will have.
    pub directory: &'a Path,
    /// Names that globs may still find.
    pub(in crate::exec) names: usize,
    /// Time that globs may still take.
    pub(in crate::exec) time: Duration,
}

impl<'a> Surroundings<'a> {
    /// With everything that the globs of one text may use.
    pub fn new(home: &'a str, directory: &'a Path) -> Self {
        Self { home, directory, names: limits::GLOB_NAMES, time: limits::GLOB_TIME }
    }
}

/// One word of a command, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    parts: Vec<Part>,
    position: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Pattern(Pattern),
    Variable { variable: Variable, is_quoted: bool, position: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Home,
    Directory,
}

/// A character of a glob that stands for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `*`
    Any,
    /// `?`
    One,
    /// `[…]`
    Set { written: String, is_negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    fn written(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::One => "?",
            Self::Set { written, .. } => written,
        }
    }
}

/// A word whose variables have their values.
pub(super) enum Token<'a> {
    Character(char),
    Pattern(&'a Pattern),
}

impl Word {
    /// Whether it is written as a glob.
    pub(super) fn has_pattern(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Pattern(_)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the program gets: one argument, or of a glob every name that matches, in byte order; a
    /// glob that nothing matches stays as it is written.
    ///
    /// # Errors
    /// A variable's value would be split or taken for a glob, a glob goes past its budget, or finds
    /// a name that begins with `-` or is not Unicode.
    pub fn expand(&self, around: &mut Surroundings) -> Result<Vec<String>, NotUnderstood> {
        let mut literal = String::new();
        let mut tokens = Vec::new();
        let has_pattern = self.has_pattern();
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text,
                Part::Variable { variable, is_quoted, position } => value(*variable, *is_quoted, *position, around)?,
                Part::Pattern(pattern) => {
                    tokens.push(Token::Pattern(pattern));
                    literal.push_str(pattern.written());
                    continue;
                }
            };
            literal.push_str(text);
            if has_pattern {
                tokens.extend(text.chars().map(Token::Character));
            }
        }
        let found = if has_pattern { files::find(&tokens, around, self.position)? } else { Vec::new() };
        Ok(if found.is_empty() { vec![literal] } else { found })
    }
}

fn value<'a>(
    variable: Variable,
    is_quoted: bool,
    position: usize,
    around: &Surroundings<'a>,
) -> Result<&'a str, NotUnderstood> {
    let value = match variable {
        Variable::Home => Some(around.home),
        Variable::Directory => around.directory.to_str(),
    };
    let value = value.filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| not_understood("a variable without a usable value", position))?;
    if !is_quoted && value.contains(|c: char| c.is_ascii_whitespace() || "*?[\\".contains(c)) {
        return Err(not_understood("a variable that must stand in double quotes here", position));
    }
    Ok(value)
}

/// A word that is being read.
pub(super) struct Builder {
    word: Word,
    /// An unquoted `{` was met.
    has_brace: bool,
    /// And behind it `,` or `..`.
    has_split_brace: bool,
    /// An unquoted `[` that nothing closed before the run's end.
    has_open_bracket: bool,
}

impl Builder {
    pub(super) fn new(position: usize) -> Self {
        let word = Word { parts: Vec::new(), position };
        Self { word, has_brace: false, has_split_brace: false, has_open_bracket: false }
    }

    pub(super) fn finish(self) -> Word {
        self.word
    }

    /// What stands for itself.
    pub(super) fn text(&mut self, text: &str) {
        match self.word.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(before)) => before.push_str(text),
            _ => self.word.parts.push(Part::Text(text.to_owned())),
        }
    }

    pub(super) fn variable(&mut self, variable: Variable, is_quoted: bool, position: usize) {
        self.word.parts.push(Part::Variable { variable, is_quoted, position });
    }

    /// Unquoted characters. `ends_word`: nothing of the word comes behind them.
    pub(super) fn run(&mut self, run: &str, start: usize, ends_word: bool) -> Result<(), NotUnderstood> {
        self.check(run, start)?;
        let mut rest = run;
        if start == self.word.position {
            if run.starts_with('=') && !(run == "=" && ends_word) {
                return Err(not_understood("a word that begins with =, which is a path in some shells", start));
            }
            if let Some(behind) = run.strip_prefix('~') {
                if !(behind.starts_with('/') || behind.is_empty() && ends_word) {
                    return Err(not_understood("a home directory other than ~", start));
                }
                self.variable(Variable::Home, true, start);
                rest = behind;
            }
        }
        if self.has_open_bracket && run.contains(']') {
            return Err(not_understood("a bracket pattern with quotes in it", start));
        }
        while let Some(next) = rest.find(['*', '?', '[']) {
            let (before, pattern) = rest.split_at_checked(next).unwrap_or_default();
            self.text(before);
            let (pattern, length) = match pattern.bytes().next() {
                Some(b'*') => (Some(Pattern::Any), 1),
                Some(b'?') => (Some(Pattern::One), 1),
                // What did not close the first `[` of a run closes none behind it.
                _ if self.has_open_bracket => (None, 1),
                _ => set(pattern, start + run.len() - pattern.len())?,
            };
            match pattern {
                Some(pattern) => self.word.parts.push(Part::Pattern(pattern)),
                None => {
                    self.has_open_bracket = true;
                    self.text("[");
                }
            }
            rest = rest.get(next + length..).unwrap_or_default();
        }
        self.text(rest);
        Ok(())
    }

    /// What an unquoted character means together with those before it.
    fn check(&mut self, run: &str, start: usize) -> Result<(), NotUnderstood> {
        let mut previous = ' ';
        for (offset, character) in run.char_indices() {
            let reason = match (previous, character) {
                (_, '{') => {
                    self.has_brace = true;
                    None
                }
                (_, ',') | ('.', '.') => {
                    self.has_split_brace |= self.has_brace;
                    None
                }
                (_, '}') if self.has_split_brace => Some("a brace expansion"),
                ('=' | ':', '~') => Some("~ behind = or :, which some shells expand"),
                ('*', '*') => Some("**, which shells read differently"),
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(not_understood(reason, start + offset));
            }
            previous = character;
        }
        Ok(())
    }
}

/// The bracket pattern at the beginning of `text`, and its length; none if nothing closes it, and
/// then the bracket is an ordinary character.
fn set(text: &str, position: usize) -> Result<(Option<Pattern>, usize), NotUnderstood> {
    let inner = text.get(1..).unwrap_or_default();
    let members = inner.strip_prefix('!').unwrap_or(inner);
    // A bracket that comes first is a member.
    let Some((end, _)) = members.char_indices().skip(1).find(|(_, character)| *character == ']') else {
        return Ok((None, 1));
    };
    let is_negated = members.len() < inner.len();
    let length = text.len() - members.len() + end + 1;
    let members = members.get(..end).unwrap_or_default();
    if members.starts_with('^') {
        return Err(not_understood("[^, which shells read differently ([! is the standard's)", position));
    }
    if members.contains('/') || ["[:", "[.", "[="].iter().any(|class| members.contains(class)) {
        return Err(not_understood("a bracket pattern with a class or a slash in it", position));
    }
    let mut ranges = Vec::new();
    let mut rest = members.chars();
    while let Some(first) = rest.next() {
        let mut ahead = rest.clone();
        let last = ahead.next().filter(|dash| *dash == '-').and_then(|_| ahead.next());
        if last.is_some() {
            rest = ahead;
        }
        ranges.push((first, last.unwrap_or(first)));
    }
    let written = text.get(..length).unwrap_or_default().to_owned();
    Ok((Some(Pattern::Set { written, is_negated, ranges }), length))
}
