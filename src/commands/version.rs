//! `--version`, with `--json` too, behind the program's name, a command or one of `mac-debug`'s.

use crate::gateway::VERSION;
use crate::protocol::connect::{PROTOCOL, PROTOCOL_OLDEST};
use serde_json::json;

/// Set by whoever builds from a repository (Makefile); none in a build from an archive.
const COMMIT: Option<&str> = option_env!("OPENCLAW_COMMIT");

/// What to print if that is all that was asked for. Behind a third word it may belong to a command that is to be run.
pub(super) fn asked(words: &[&str]) -> Option<String> {
    let names = words.iter().take_while(|word| !word.starts_with('-')).count();
    let options = words.get(names..).unwrap_or_default();
    let is_version = |word: &&str| matches!(*word, "--version" | "-V");
    let is_known = options.iter().all(|word| is_version(word) || *word == "--json");
    if names > 2 || !is_known || !options.iter().any(is_version) {
        return None;
    }
    let commit = COMMIT.filter(|commit| !commit.is_empty());
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    if options.contains(&"--json") {
        let version = json!({"version": VERSION, "commit": commit, "target": target,
            "protocol": {"min": PROTOCOL_OLDEST, "max": PROTOCOL}});
        return Some(format!("{version:#}\n"));
    }
    let commit = commit.map_or_else(String::new, |commit| format!(", {commit}"));
    Some(format!("openclaw {VERSION} ({target}{commit}; gateway protocol {PROTOCOL_OLDEST} to {PROTOCOL})\n"))
}

#[cfg(test)]
mod tests {
    use super::asked;

    #[test]
    fn only_where_it_can_mean_nothing_else() {
        for words in [&["--version"][..], &["-V", "--json"], &["mac-debug", "run", "--version"], &["node", "--version"]]
        {
            assert!(asked(words).is_some_and(|text| text.contains("0.")), "{words:?}");
        }
        for words in
            [&["mac-debug", "run", "ls", "--version"][..], &["mac-debug", "run", "--", "--version"], &["--json"]]
        {
            assert_eq!(asked(words), None, "{words:?}");
        }
    }
}
