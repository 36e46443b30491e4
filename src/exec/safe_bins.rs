//! Filters that need no entry: programs that with these arguments read their input, write their
//! output, and touch no file. Source: spec exec (d.6); vectors `safe-bin-argv`.

use super::plan::{Nature, Subject};
use crate::state::config::SafeBinProfile;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which programs are safe bins here.
#[derive(Clone, Debug)]
pub struct SafeBins {
    /// Their names, in lower case.
    pub names: Vec<String>,
    /// Where their files must really lie, or links to files of the same name. Never taken from `PATH`.
    pub directories: Vec<PathBuf>,
    /// The owner's profiles; one replaces the built-in profile of that name.
    pub profiles: BTreeMap<String, Profile>,
}

impl Default for SafeBins {
    fn default() -> Self {
        Self {
            names: ["cut", "uniq", "head", "tail", "tr", "wc"].map(str::to_owned).to_vec(),
            directories: ["/bin", "/usr/bin"].map(PathBuf::from).to_vec(),
            profiles: BTreeMap::new(),
        }
    }
}

/// Which arguments leave a program a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Least and most arguments that are no options; a most below the least counts as the least.
    pub positionals: (usize, usize),
    /// Options with a value, with their dashes.
    pub values: Vec<String>,
    /// Options without one.
    pub flags: Vec<String>,
    /// Options that are refused.
    pub denied: Vec<String>,
}

impl From<&SafeBinProfile> for Profile {
    fn from(profile: &SafeBinProfile) -> Self {
        Self {
            positionals: (profile.min_positional, profile.max_positional.unwrap_or(usize::MAX)),
            values: profile.allowed_value_flags.clone(),
            flags: Vec::new(),
            denied: profile.denied_flags.clone(),
        }
    }
}

impl Default for Profile {
    /// No option at all, any number of other arguments.
    fn default() -> Self {
        Self { positionals: (0, usize::MAX), values: Vec::new(), flags: Vec::new(), denied: Vec::new() }
    }
}

/// Name, least and most positionals, options with a value, without one, denied ones.
#[rustfmt::skip]
const BUILT_IN: &[(&str, usize, usize, &str, &str, &str)] = &[
    ("cut", 0, 0, "--bytes --characters --fields --delimiter --output-delimiter -b -c -f -d",
        "--complement --only-delimited --zero-terminated -n -s -z", ""),
    ("uniq", 0, 0, "--skip-fields --skip-chars --check-chars --group -f -s -w",
        "--count --repeated --unique --ignore-case --zero-terminated -c -d -u -i -z", ""),
    ("head", 0, 0, "--lines --bytes -n -c", "--quiet --silent --verbose --zero-terminated -q -v -z", ""),
    ("tail", 0, 0, "--lines --bytes --sleep-interval --max-unchanged-stats --pid -n -c",
        "--quiet --silent --verbose --zero-terminated -q -v -z", "--follow --retry -F -f"),
    ("tr", 1, 2, "", "--complement --delete --squeeze-repeats --truncate-set1 -C -c -d -s -t", ""),
    ("wc", 0, 0, "", "--bytes --chars --lines --max-line-length --words -L -c -l -m -w", "--files0-from"),
    ("grep", 0, 0, "--regexp --max-count --after-context --before-context --context --devices --binary-files --exclude \
         --include --label -e -m -A -B -C -D", "",
        "--file --exclude-from --dereference-recursive --directories --recursive -f -d -r -R"),
    ("sort", 0, 0, "--key --field-separator --buffer-size --parallel --batch-size -k -t -S", "",
        "--compress-program --files0-from --output --random-source --temporary-directory -T -o"),
];

/// Languages of their own, whatever a profile says.
const NEVER: &[&str] = &["jq", "awk", "gawk", "mawk", "nawk", "sed", "gsed"];

impl SafeBins {
    /// Whether `subject` is one of them, by its real file, with arguments that it may have. Only the
    /// words that the program gets are judged: whatever was expanded already is (A77).
    pub fn allow(&self, subject: &Subject) -> bool {
        let (Nature::Plain, Some(executable), Some(called)) =
            (&subject.nature, &subject.executable, subject.argv.first())
        else {
            return false;
        };
        let path = &executable.file.path;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A link `head` to another program is not head, whatever directory it leads to.
        let is_itself = called.rsplit('/').next() == Some(name);
        // Also what a trusted directory itself links to under this name.
        let is_there = |folder: &PathBuf| {
            path.parent() == Some(folder) || folder.join(name).canonicalize().is_ok_and(|linked| linked == *path)
        };
        let is_trusted = self.directories.iter().any(is_there);
        let is_listed = self.names.iter().any(|listed| listed.trim().to_lowercase() == name);
        is_itself
            && is_trusted
            && is_listed
            && self.judge(name, subject.argv.get(1..).unwrap_or_default()) == Some(true)
    }

    /// Whether these arguments leave the program a filter; none if no profile knows it.
    pub fn judge(&self, name: &str, arguments: &[String]) -> Option<bool> {
        if NEVER.contains(&name) {
            return Some(false);
        }
        let own = self.profiles.iter().find(|(known, _)| known.to_lowercase() == name);
        let profile = own.map(|(_, profile)| profile.clone()).or_else(|| built_in(name))?;
        Some(profile.allows(arguments))
    }
}

fn built_in(name: &str) -> Option<Profile> {
    let (_, least, most, values, flags, denied) = BUILT_IN.iter().find(|row| row.0 == name)?;
    let options = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Some(Profile {
        positionals: (*least, *most),
        values: options(values),
        flags: options(flags),
        denied: options(denied),
    })
}

/// What an option is to a profile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Flag,
    Denied,
}

impl Profile {
    fn options(&self) -> impl Iterator<Item = (&str, Kind)> {
        // Denied first: what stands in two lists is denied.
        let lists = [(&self.denied, Kind::Denied), (&self.values, Kind::Value), (&self.flags, Kind::Flag)];
        lists.into_iter().flat_map(|(list, kind)| list.iter().map(move |option| (option.as_str(), kind)))
    }

    fn kind(&self, option: &str) -> Option<Kind> {
        self.options().find(|(known, _)| *known == option).map(|(_, kind)| kind)
    }

    /// A long option may be shortened as long as only one is meant.
    fn long_kind(&self, option: &str) -> Option<Kind> {
        let mut candidates = self.options().filter(|(known, _)| known.len() > 2 && known.starts_with(option));
        self.kind(option).or_else(|| candidates.next().filter(|_| candidates.next().is_none()).map(|(_, kind)| kind))
    }

    fn allows(&self, arguments: &[String]) -> bool {
        let mut positionals = 0;
        let mut is_over = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let argument = argument.as_str();
            let is_fine = if argument.is_empty() || argument == "-" {
                true
            } else if is_over || !argument.starts_with('-') {
                positionals += 1;
                is_literal(argument)
            } else if argument == "--" {
                is_over = true;
                true
            } else if argument.starts_with("--") {
                self.allows_long(argument, &mut rest)
            } else {
                self.allows_cluster(argument, &mut rest)
            };
            if !is_fine {
                return false;
            }
        }
        let (least, most) = self.positionals;
        (least..=most.max(least)).contains(&positionals)
    }

    fn allows_long<'a>(&self, argument: &str, rest: &mut impl Iterator<Item = &'a String>) -> bool {
        let (option, inline) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (argument, None),
        };
        match (self.long_kind(option), inline) {
            (Some(Kind::Value), Some(value)) => value.is_empty() || is_literal(value),
            (Some(Kind::Value), None) => rest.next().is_some_and(|value| is_literal(value)),
            (Some(Kind::Flag), None) => true,
            _ => false,
        }
    }

    fn allows_cluster<'a>(&self, argument: &str, rest: &mut impl Iterator<Item = &'a String>) -> bool {
        for (position, letter) in argument.char_indices().skip(1) {
            match self.kind(&format!("-{letter}")) {
                Some(Kind::Flag) => {}
                Some(Kind::Value) => {
                    let inline = argument.get(position + letter.len_utf8()..).filter(|value| !value.is_empty());
                    return inline.or_else(|| rest.next().map(String::as_str)).is_some_and(is_literal);
                }
                Some(Kind::Denied) | None => return false,
            }
        }
        true
    }
}

/// Whether a word is nothing but itself, and no path: not empty, no pattern, no variable.
fn is_literal(word: &str) -> bool {
    let is_variable = |next: char| next.is_alphanumeric() || "_{([@*#?-$!".contains(next);
    let has_variable =
        word.match_indices('$').any(|(at, _)| word.get(at + 1..).is_some_and(|rest| rest.starts_with(is_variable)));
    let is_path = word.contains('/')
        || word.starts_with('~')
        || matches!(word, "." | "..")
        || matches!(word.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic());
    !word.is_empty() && !word.contains(['*', '?', '[', ']']) && !has_variable && !is_path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe(command: &str) -> bool {
        let mut words = command.split(' ').map(str::to_owned);
        let name = words.next().unwrap();
        SafeBins::default().judge(&name, &words.collect::<Vec<_>>()) == Some(true)
    }

    /// A79: unknown letters in clusters, shortened and unknown long options.
    #[test]
    fn sec_a79_unknown_flags_are_not_safe() {
        for command in [
            "wc -lX",
            "head -n5Z/x",
            "head -qZ",
            "tr -dQ a",
            "uniq -cO",
            "uniq -cOCANARY",
            "head --unknown",
            "sort --compress-prog=sh",
            "sort --comp=sh",
            "wc --files0=x",
            "head -- x",
            "wc --files0-from=-",
            "cut --=x",
            "head --quiet=1",
            "head -é",
        ] {
            assert!(!safe(command), "{command}");
        }
        assert!(safe("wc -lwc") && safe("head --") && safe("head -") && safe("head --lin=5"));
    }

    /// A90: flags and arguments that name files.
    #[test]
    fn sec_a90_no_option_reaches_a_file() {
        for command in [
            "grep -f x",
            "grep -e a .env",
            "grep -r -e x",
            "grep -R",
            "grep --file=x",
            "sort -o CANARY",
            "sort -k1 -oX",
            "sort --compress-program=sh",
            "sort --files0-from=x",
            "sort -T.",
            "wc --files0-from x",
            "wc x",
            "jq -f x",
            "jq -n env",
            "jq .",
            "tail -f",
            "tail -F",
            "tail --follow=name",
            "tr a b file",
            "awk {print}",
            "sed p",
            "head /etc/passwd",
            "head -n /etc/passwd",
            "head -n ../x",
            "cut -d~ -f1",
            "head C:x",
        ] {
            assert!(!safe(command), "{command}");
        }
    }

    /// A77: nothing that a shell could still expand is a literal.
    #[test]
    fn sec_a77_no_expansion_is_literal() {
        for command in ["head *", "head -n $HOME", "head -c $(x)", "wc ~/x", "cut -c1-?", "tr $1 b", "tr $$ b"] {
            assert!(!safe(command), "{command}");
        }
        assert!(safe("tr $ b") && safe("tr -d \\n"));
    }
}
