//! Allowlist patterns. Source: spec exec (d.3), column 2026.9; vectors `glob-match`.
//!
//! `*` is any run without `/`, `**` any run of characters that are no line breaks, `?` one UTF-16
//! unit that is not `/`; everything else is itself, in its own case. The whole target must match.
//! Stricter than the original: two backslashes in a *target* stay backslashes (a file may be
//! called so), and a target with `.` or `..` components never meets a wildcard (ours are canonical).

use std::path::Path;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Unit(u16),
    One,
    Run,
    RunWithSlashes,
}

const SLASH: u16 = b'/' as u16;

/// Whether `target`, an absolute path, matches `pattern`. `private_var` is macOS' second name of
/// `/var`. Time and memory are bounded by pattern length × target length.
pub fn matches_path(pattern: &str, target: &str, home: &Path, private_var: bool) -> bool {
    let pattern = pattern.trim();
    if pattern.is_empty() {
        return false;
    }
    let home = home.to_string_lossy();
    let expanded = match pattern.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => pattern.to_owned(),
    };
    let expanded = expanded.replace("\\\\", "/");
    let (pattern, target) =
        if private_var { (without_private(&expanded), without_private(target)) } else { (expanded.as_str(), target) };
    if pattern.contains(['*', '?']) && target.split('/').any(|component| matches!(component, "." | "..")) {
        return false;
    }
    matches(pattern, target)
}

/// Whether a bare name matches a pattern without `/`.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let pattern = pattern.trim();
    !pattern.is_empty() && is_name_pattern(pattern) && matches(pattern, name)
}

/// Whether a pattern speaks of names instead of paths.
pub fn is_name_pattern(pattern: &str) -> bool {
    !pattern.contains(['/', '\\', '~'])
}

fn without_private(path: &str) -> &str {
    match path.strip_prefix("/private") {
        Some(rest) if rest == "/var" || rest.starts_with("/var/") => rest,
        _ => path,
    }
}

/// All positions in the pattern that the target read so far can have led to, moved on unit by unit.
fn matches(pattern: &str, target: &str) -> bool {
    let tokens = tokens(pattern);
    let mut reached = vec![false; tokens.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    skip_empty_runs(&tokens, &mut reached);
    for unit in target.encode_utf16() {
        let mut next = vec![false; reached.len()];
        for (position, token) in tokens.iter().enumerate() {
            if !reached.get(position).copied().unwrap_or(false) {
                continue;
            }
            let (stays, moves) = match token {
                Token::Unit(expected) => (false, *expected == unit),
                Token::One => (false, unit != SLASH),
                Token::Run => (unit != SLASH, false),
                Token::RunWithSlashes => (!is_line_break(unit), false),
            };
            mark(&mut next, position, stays);
            mark(&mut next, position + 1, moves);
        }
        reached = next;
        skip_empty_runs(&tokens, &mut reached);
    }
    reached.last().copied().unwrap_or(false)
}

fn mark(reached: &mut [bool], position: usize, yes: bool) {
    if yes && let Some(slot) = reached.get_mut(position) {
        *slot = true;
    }
}

/// A run may be empty: whoever stands before it also stands behind it.
fn skip_empty_runs(tokens: &[Token], reached: &mut [bool]) {
    for (position, token) in tokens.iter().enumerate() {
        let here = reached.get(position).copied().unwrap_or(false);
        mark(reached, position + 1, here && matches!(token, Token::Run | Token::RunWithSlashes));
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut units = pattern.encode_utf16().peekable();
    while let Some(unit) = units.next() {
        tokens.push(if unit == u16::from(b'?') {
            Token::One
        } else if unit != u16::from(b'*') {
            Token::Unit(unit)
        } else if units.next_if_eq(&u16::from(b'*')).is_some() {
            Token::RunWithSlashes
        } else {
            Token::Run
        });
    }
    tokens
}

/// ECMAScript's line terminators, which its `.` does not match.
fn is_line_break(unit: u16) -> bool {
    matches!(unit, 0x0A | 0x0D | 0x2028 | 0x2029)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn path(pattern: &str, target: &str) -> bool {
        matches_path(pattern, target, Path::new("/home/u"), false)
    }

    #[test]
    fn characters_of_other_languages_are_literal() {
        assert!(path("/a/[r]g", "/a/[r]g") && !path("/a/[r]g", "/a/rg"));
        assert!(path("/a/b.c", "/a/b.c") && !path("/a/b.c", "/a/bxc"));
        assert!(path("~/bin/*", "/home/u/bin/x") && !path("~u/bin/x", "/home/u/bin/x"));
        assert!(!path("/x/rg", "/x\\\\rg"));
    }

    /// A pattern of many runs is no way to stop us.
    #[test]
    fn hostile_patterns_take_bounded_time() {
        let started = Instant::now();
        assert!(!path(&"*a".repeat(200), &"a".repeat(2_000).replace("aa", "a/")));
        assert!(!path(&"**a".repeat(200), &format!("{}b", "a".repeat(2_000))));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn names() {
        assert!(matches_name(" rg ", "rg") && matches_name("*", "rg") && matches_name("r?", "rg"));
        assert!(!matches_name("RG", "rg") && !matches_name("./rg", "rg") && !matches_name("", ""));
    }
}
