//! `argPattern` of an allowlist entry: which arguments it allows. Source: spec exec (d.3).
//!
//! A regular expression is read as ECMAScript reads it without flags: case-sensitive, unanchored,
//! over UTF-16 units. Understood are literals, `.`, classes with ranges, `\d \w \s` and their
//! opposites, `\b \B`, `\t \n \r \f \v \0`, escaped punctuation, `^ $`, groups, `|`, and the
//! quantifiers `* + ? {n} {n,} {n,m}`, greedy or lazy. An expression with anything else
//! (look-around, backreferences, names, flags, `\u`, `\x`, `\p`, a lone `{`, `}` or `]`) matches
//! nothing, and so does one that is broken. The time is bounded by states × text.
//!
//! Written here instead of taken from a crate: the crates speak another dialect, so that a filter as
//! long as this parser would have to stand in front of one.

use crate::limits;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::iter::Peekable;
use std::path::Path;

/// In front of a hash over working directory and arguments.
const BOUND: &str = "sha256:cwd-argv:v1:";
/// In front of a hash that did not bind the directory; honoured no more.
const UNBOUND: &str = "sha256:argv:";

/// Whether `pattern`, which is not empty, allows `arguments` (without argv[0]) in `cwd`.
pub fn matches(pattern: &str, arguments: &[String], cwd: &Path) -> bool {
    if pattern.starts_with(BOUND) {
        // A directory that the text of the hash cannot tell from another one satisfies none.
        let is_exact = cwd.to_str().is_some_and(|text| text.starts_with('/') && !text.contains('\\'));
        return is_exact && pattern == hash_of(arguments, cwd);
    }
    if pattern.starts_with(UNBOUND) {
        return false;
    }
    let text = if !pattern.contains('\0') {
        arguments.join(" ")
    } else if arguments.is_empty() {
        "\0\0".to_owned()
    } else {
        arguments.iter().flat_map(|argument| [argument.as_str(), "\0"]).collect()
    };
    Program::compile(pattern).is_some_and(|program| program.finds(&text))
}

/// Whether `pattern` is one that an answer made: bound to arguments and directory.
pub fn is_hash(pattern: &str) -> bool {
    pattern.starts_with(BOUND)
}

/// The `argPattern` of an entry that an answer made: binds the arguments and the working directory.
/// Source: spec exec (d.3) "Hash"; vectors `arg-pattern-hash`.
pub fn arguments_hash(argv: &[String], cwd: &Path) -> String {
    hash_of(argv.get(1..).unwrap_or_default(), cwd)
}

fn hash_of(arguments: &[String], cwd: &Path) -> String {
    let cwd = cwd.to_string_lossy().replace('\\', "/");
    let mut hasher = Sha256::new();
    hasher.update(format!("{}\0{cwd}\0{}\0", cwd.len(), arguments.len()));
    for argument in arguments {
        hasher.update(format!("{}\0{argument}\0", argument.len()));
    }
    format!("{BOUND}{}", HEXLOWER.encode(&hasher.finalize()))
}

/// What an expression consists of.
#[derive(Clone)]
enum Node {
    One(Set),
    At(Place),
    Both(Vec<Node>),
    Either(Vec<Node>),
    Repeat { what: Box<Node>, least: usize, most: Option<usize> },
}

/// Units that a state accepts.
#[derive(Clone)]
struct Set {
    ranges: Vec<(u16, u16)>,
    is_negated: bool,
}

/// Between two units.
#[derive(Clone, Copy)]
enum Place {
    Start,
    End,
    WordEdge,
    NoWordEdge,
}

const DIGITS: &[(u16, u16)] = &[(0x30, 0x39)];
const WORD: &[(u16, u16)] = &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)];
const LINE_BREAKS: &[(u16, u16)] = &[(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)];
#[rustfmt::skip]
const SPACES: &[(u16, u16)] = &[
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
];

fn within(ranges: &[(u16, u16)], unit: u16) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&unit))
}

/// The units outside `ranges`, which are in order and do not touch.
fn outside(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|(_, last)| last.saturating_add(1)));
    let ends = ranges.iter().map(|(first, _)| first.saturating_sub(1)).chain([u16::MAX]);
    starts.zip(ends).collect()
}

impl Set {
    fn of(ranges: Vec<(u16, u16)>) -> Self {
        Self { ranges, is_negated: false }
    }

    fn has(&self, unit: u16) -> bool {
        within(&self.ranges, unit) != self.is_negated
    }
}

/// Reads an expression; every `None` means: not of the subset.
struct Parser<I: Iterator<Item = u16>> {
    units: Peekable<I>,
}

impl<I: Iterator<Item = u16>> Parser<I> {
    fn eat(&mut self, byte: u8) -> bool {
        self.units.next_if_eq(&u16::from(byte)).is_some()
    }

    /// The next unit, if it is in ASCII.
    fn ascii(&mut self) -> Option<u8> {
        self.units.peek().and_then(|unit| u8::try_from(*unit).ok()).filter(u8::is_ascii)
    }

    fn either(&mut self, depth: usize) -> Option<Node> {
        let mut branches = vec![self.both(depth)?];
        while self.eat(b'|') {
            branches.push(self.both(depth)?);
        }
        Some(Node::Either(branches))
    }

    fn both(&mut self, depth: usize) -> Option<Node> {
        let mut terms = Vec::new();
        while self.units.peek().is_some() && !matches!(self.ascii(), Some(b'|' | b')')) {
            let atom = self.atom(depth)?;
            terms.push(match (self.quantifier()?, atom) {
                (None, atom) => atom,
                (Some(_), Node::At(_)) => return None,
                (Some((least, most)), atom) => Node::Repeat { what: Box::new(atom), least, most },
            });
        }
        Some(Node::Both(terms))
    }

    fn atom(&mut self, depth: usize) -> Option<Node> {
        let first = self.ascii();
        let unit = self.units.next()?;
        Some(match first {
            Some(b'^') => Node::At(Place::Start),
            Some(b'$') => Node::At(Place::End),
            Some(b'.') => Node::One(Set::of(outside(LINE_BREAKS))),
            Some(b'[') => Node::One(self.class()?),
            Some(b'(') => {
                if depth == 0 || (self.eat(b'?') && !self.eat(b':')) {
                    return None;
                }
                let inside = self.either(depth - 1)?;
                return self.eat(b')').then_some(inside);
            }
            Some(b'\\') if self.eat(b'b') => Node::At(Place::WordEdge),
            Some(b'\\') if self.eat(b'B') => Node::At(Place::NoWordEdge),
            Some(b'\\') => Node::One(Set::of(self.escape()?)),
            Some(b'*' | b'+' | b'?' | b'{' | b'}' | b']' | b')' | b'|') => return None,
            _ => Node::One(Set::of(vec![(unit, unit)])),
        })
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Option<Vec<(u16, u16)>> {
        let letter = self.ascii()?;
        self.units.next();
        let one = |unit: u8| vec![(u16::from(unit), u16::from(unit))];
        Some(match letter {
            b'd' => DIGITS.to_vec(),
            b'D' => outside(DIGITS),
            b'w' => WORD.to_vec(),
            b'W' => outside(WORD),
            b's' => SPACES.to_vec(),
            b'S' => outside(SPACES),
            b't' => one(b'\t'),
            b'n' => one(b'\n'),
            b'r' => one(b'\r'),
            b'f' => one(0x0C),
            b'v' => one(0x0B),
            b'0' if !self.ascii().is_some_and(|next| next.is_ascii_digit()) => one(0),
            other if other.is_ascii_punctuation() => one(other),
            _ => return None,
        })
    }

    fn class(&mut self) -> Option<Set> {
        let is_negated = self.eat(b'^');
        let mut ranges = Vec::new();
        while !self.eat(b']') {
            let first = self.member()?;
            if !self.eat(b'-') {
                ranges.extend(first);
            } else if self.ascii() == Some(b']') {
                ranges.extend(first);
                ranges.push((u16::from(b'-'), u16::from(b'-')));
            } else {
                match (first.as_slice(), self.member()?.as_slice()) {
                    ([(low, same)], [(high, last)]) if low == same && high == last && low <= high => {
                        ranges.push((*low, *high));
                    }
                    _ => return None,
                }
            }
        }
        Some(Set { ranges, is_negated })
    }

    fn member(&mut self) -> Option<Vec<(u16, u16)>> {
        let unit = self.units.next()?;
        // Half a character would be a member of its own in ECMAScript; nobody means that.
        match unit {
            0x5C => self.escape(),
            0xD800..=0xDFFF => None,
            _ => Some(vec![(unit, unit)]),
        }
    }

    /// How often: `Some(None)` when there is no quantifier, `None` when it is broken.
    fn quantifier(&mut self) -> Option<Option<(usize, Option<usize>)>> {
        let counts = if self.eat(b'*') {
            (0, None)
        } else if self.eat(b'+') {
            (1, None)
        } else if self.eat(b'?') {
            (0, Some(1))
        } else if self.eat(b'{') {
            let least = self.number()?;
            let most = match self.eat(b',') {
                false => Some(least),
                true if self.ascii() == Some(b'}') => None,
                true => Some(self.number()?),
            };
            if !self.eat(b'}') || most.is_some_and(|most| most < least) {
                return None;
            }
            (least, most)
        } else {
            return Some(None);
        };
        // Lazy or greedy: the same texts match.
        self.eat(b'?');
        Some(Some(counts))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.ascii().filter(u8::is_ascii_digit) {
            self.units.next();
            number = Some(number.unwrap_or(0_usize) * 10 + usize::from(digit - b'0'));
            number.filter(|number| *number <= limits::PATTERN_STATES)?;
        }
        number
    }
}

/// One state of the automaton; where no next one is named it is the one behind it.
enum State {
    Unit(Set),
    At(Place),
    /// Here and there.
    Fork(usize, usize),
    Go(usize),
}

/// An automaton whose last state, behind all of them, accepts.
struct Program {
    states: Vec<State>,
}

impl Program {
    fn compile(pattern: &str) -> Option<Self> {
        let mut parser = Parser { units: pattern.encode_utf16().peekable() };
        let node = parser.either(limits::PATTERN_DEPTH)?;
        if parser.units.next().is_some() {
            return None;
        }
        let mut program = Self { states: Vec::new() };
        program.add(&node)?;
        Some(program)
    }

    fn push(&mut self, state: State) -> Option<usize> {
        let index = self.states.len();
        self.states.push(state);
        (index < limits::PATTERN_STATES).then_some(index)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(slot) = self.states.get_mut(index) {
            *slot = state;
        }
    }

    /// Appends the states of `node`; none when they are too many.
    fn add(&mut self, node: &Node) -> Option<()> {
        match node {
            Node::One(set) => self.push(State::Unit(set.clone())).map(drop),
            Node::At(place) => self.push(State::At(*place)).map(drop),
            Node::Both(nodes) => nodes.iter().try_for_each(|node| self.add(node)),
            Node::Either(nodes) => {
                let (last, others) = nodes.split_last()?;
                let mut ends = Vec::new();
                for node in others {
                    let fork = self.push(State::Go(0))?;
                    self.add(node)?;
                    ends.push(self.push(State::Go(0))?);
                    self.set(fork, State::Fork(fork + 1, self.states.len()));
                }
                self.add(last)?;
                let end = self.states.len();
                ends.into_iter().for_each(|index| self.set(index, State::Go(end)));
                Some(())
            }
            Node::Repeat { what, least, most } => {
                for _ in 0..*least {
                    self.push(State::Go(self.states.len() + 1))?;
                    self.add(what)?;
                }
                let (optional, is_loop) = most.map_or((1, true), |most| (most - least, false));
                let mut forks = Vec::new();
                for _ in 0..optional {
                    forks.push(self.push(State::Go(0))?);
                    self.add(what)?;
                    if is_loop {
                        self.push(State::Go(*forks.first()?))?;
                    }
                }
                let end = self.states.len();
                forks.into_iter().for_each(|fork| self.set(fork, State::Fork(fork + 1, end)));
                Some(())
            }
        }
    }

    /// Whether a part of `text` matches.
    fn finds(&self, text: &str) -> bool {
        let units: Vec<u16> = text.encode_utf16().collect();
        if (self.states.len() + 1).saturating_mul(units.len() + 1) > limits::PATTERN_STEPS {
            return false;
        }
        let mut now: Vec<usize> = Vec::new();
        for position in 0..=units.len() {
            // A match may begin anywhere.
            now.push(0);
            let reached = self.follow(now, &units, position);
            if reached.last() == Some(&true) {
                return true;
            }
            let Some(unit) = units.get(position) else { break };
            let accepts = |state: &State| matches!(state, State::Unit(set) if set.has(*unit));
            let states = self.states.iter().zip(&reached).enumerate();
            now = states.filter(|(_, (state, here))| **here && accepts(state)).map(|(index, _)| index + 1).collect();
        }
        false
    }

    /// Every state that can be reached from `pending` without another unit.
    fn follow(&self, mut pending: Vec<usize>, units: &[u16], position: usize) -> Vec<bool> {
        let mut reached = vec![false; self.states.len() + 1];
        while let Some(index) = pending.pop() {
            match reached.get_mut(index) {
                Some(here) if !*here => *here = true,
                _ => continue,
            }
            match self.states.get(index) {
                Some(State::Fork(one, other)) => pending.extend([*one, *other]),
                Some(State::Go(next)) => pending.push(*next),
                Some(State::At(place)) if place.is(units, position) => pending.push(index + 1),
                _ => {}
            }
        }
        reached
    }
}

impl Place {
    fn is(self, units: &[u16], position: usize) -> bool {
        let is_word =
            |index: Option<usize>| index.and_then(|index| units.get(index)).is_some_and(|unit| within(WORD, *unit));
        let is_edge = is_word(position.checked_sub(1)) != is_word(Some(position));
        match self {
            Self::Start => position == 0,
            Self::End => position == units.len(),
            Self::WordEdge => is_edge,
            Self::NoWordEdge => !is_edge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn finds(pattern: &str, text: &str) -> bool {
        Program::compile(pattern).is_some_and(|program| program.finds(text))
    }

    #[test]
    fn expressions_mean_what_ecmascript_means() {
        for (pattern, text, expected) in [
            ("foo", "a foo b", true),
            ("^foo$", "foo", true),
            ("^foo$", "foo bar", false),
            ("^FOO$", "foo", false),
            ("", "anything", true),
            ("^$", "", true),
            ("^a|b$", "ax", true),
            ("^(?:a|b)$", "ax", false),
            ("^(a|bc)*d$", "abcad", true),
            ("^a{2,3}$", "a", false),
            ("^a{2,3}$", "aaa", true),
            ("^a{2,3}$", "aaaa", false),
            ("^a{2}$", "aaa", false),
            ("^a{2,}?$", "aaaaa", true),
            ("^(?:){3}a{0}$", "", true),
            ("^a+?b??$", "aaab", true),
            ("^.$", "\n", false),
            ("^.$", "\u{2028}", false),
            ("^..$", "\u{1F4A5}", true),
            ("^\u{1F4A5}$", "\u{1F4A5}", true),
            (r"^\d\w\s$", "1_\u{3000}", true),
            (r"^\d$", "\u{661}", false),
            (r"^\D\W\S$", "a-x", true),
            (r"^[\d.-]+$", "1.2-3", true),
            ("^[^a-c]$", "b", false),
            ("^[^a-c]$", "\n", true),
            ("[]", "a", false),
            ("^[^]$", "\n", true),
            (r"^[\]\\^-]+$", r"]\^-", true),
            (r"\bfoo\b", "a foo-b", true),
            (r"\bfoo\b", "afoo", false),
            (r"\Boo", "foo", true),
            (r"^\*\{\/\}\.$", "*{/}.", true),
            (r"^a\0b$", "a\0b", true),
            (r"^\t\n\r\f\v$", "\t\n\r\u{C}\u{B}", true),
            ("a$b", "a$b", false),
            ("(a*)*$", "aaab", true),
        ] {
            assert_eq!(finds(pattern, text), expected, "{pattern:?} {text:?}");
            assert!(Program::compile(pattern).is_some(), "{pattern:?}");
        }
    }

    #[test]
    fn what_is_not_of_the_subset_matches_nothing() {
        for pattern in [
            "[",
            "(",
            ")",
            "a)",
            "*",
            "a**",
            "a{",
            "a{,2}",
            "{",
            "}",
            "]",
            "a{3,2}",
            "(?=a)",
            "(?!b)",
            "(?<=a)",
            "(?<n>a)",
            "(?i)a",
            r"(a)\1",
            r"\x61",
            r"\u0061",
            r"\p{L}",
            r"\k",
            r"\c",
            r"\a",
            "\\",
            r"\01",
            "[z-a]",
            r"[\d-z]",
            r"[\b]",
            "[a",
            "^*",
            r"\b+",
            "[\u{1F4A5}]",
            "a{2001}",
            "a{99999999999999999999999}",
            r"\é",
        ] {
            assert!(Program::compile(pattern).is_none(), "{pattern:?}");
        }
        assert!(Program::compile(&"(".repeat(100_000)).is_none(), "nesting is bounded");
        assert!(Program::compile("(?:(?:a{50}){50}){50}").is_none(), "states are bounded");
        assert!(Program::compile("(?:(?:(?:){2000}){2000}){2000}").is_none(), "also those of nothing");
    }

    /// A96: no expression is a way to stop us.
    #[test]
    fn sec_a96_hostile_expressions_take_bounded_time() {
        let started = Instant::now();
        let text = "a".repeat(20_000);
        for pattern in ["^(a+)+$", "^(a|aa)*b", "(a*)*b", "(?:a?){500}a{500}b", "^(?:.*){20}b$"] {
            finds(pattern, &text);
        }
        assert!(!finds("(?:a?){900}b", &"a".repeat(1_000_000)));
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn forms_of_the_text() {
        let cwd = Path::new("/w");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(matches("^a b$", &words(&["a", "b"]), cwd) && matches("^a b$", &words(&["a b"]), cwd));
        assert!(matches("^a\0b\0$", &words(&["a", "b"]), cwd) && !matches("^a\0b\0$", &words(&["a b"]), cwd));
        assert!(matches("^\0\0$", &[], cwd) && !matches("^\0\0$", &words(&[""]), cwd));
        let hash = arguments_hash(&words(&["x", "a"]), cwd);
        assert!(matches(&hash, &words(&["a"]), cwd) && !matches(&hash, &words(&["a"]), Path::new("/v")));
        assert!(!matches("sha256:argv:00", &words(&["sha256:argv:00"]), cwd));
        let odd = Path::new("/w\\v");
        assert!(!matches(&arguments_hash(&words(&["x"]), odd), &[], odd), "it could be /w/v");
    }
}
