//! What allows a command without a question, and what forbids it whatever else is said.
//! Source: spec exec (d.3), (d.5) "Satisfaction order"; issue part 2, point 3.

use super::plan::{Nature, Plan, Subject};
pub use super::safe_bins::SafeBins;
use super::{arguments, display, glob, shell};
use crate::state::approvals::{ALLOW_ALWAYS, AllowEntry, DenyEntry, EffectivePolicy};
use std::fmt;
use std::path::{Path, PathBuf};

/// What allowed a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// An entry of the allowlist.
    Entry(AllowEntry),
    /// A filter with harmless arguments.
    SafeBin,
    /// A builtin of the shell that does no harm.
    SafeBuiltin,
    /// A program that a skill brought, as the policy allows.
    Skill,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(entry) => write!(f, "allowlist entry {}", entry.pattern),
            Self::SafeBin => f.write_str("safe bin"),
            Self::SafeBuiltin => f.write_str("safe builtin"),
            Self::Skill => f.write_str("skill"),
        }
    }
}

/// A program that a skill brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkillBin {
    /// The bare name by which it is called.
    pub name: String,
    /// Its canonical file.
    pub path: PathBuf,
}

/// What allows `subject` in `directory`, the canonical one. `home` is what `~` means in a pattern.
///
/// # Errors
/// Nothing does; a sentence that says why, and what to do.
pub fn matches(
    subject: &Subject,
    directory: &Path,
    home: &Path,
    policy: &EffectivePolicy,
    safe: &SafeBins,
    skills: &[SkillBin],
) -> Result<By, String> {
    let code = match &subject.nature {
        Nature::SafeBuiltin => return Ok(By::SafeBuiltin),
        Nature::PromptOnly(reason) => return Err(format!("{reason}; only a person can allow that")),
        Nature::InlineCode(reason) => Some(reason),
        Nature::Plain => None,
    };
    let name = subject.argv.first().map(String::as_str).unwrap_or_default();
    let Some(executable) = &subject.executable else { return Err(format!("there is no program `{name}`")) };
    let Some(path) = subject.path() else {
        return Err(format!("the path of `{name}` is not Unicode, so that no entry can name it"));
    };
    let target = Target { path, name: subject.bare_name(), argv: &subject.argv, cwd: directory, home };
    if let Some(entry) = target.first_match(&policy.allowlist, code.is_some()) {
        return Ok(By::Entry(entry.clone()));
    }
    if let Some(reason) = code {
        return Err(format!("{reason}; an entry for {path} must have an argPattern for these arguments"));
    }
    if safe.allow(subject) {
        return Ok(By::SafeBin);
    }
    let is_skill =
        |skill: &SkillBin| Some(skill.name.as_str()) == subject.bare_name() && skill.path == executable.file.path;
    if policy.auto_allow_skills && skills.iter().any(is_skill) {
        return Ok(By::Skill);
    }
    Err(format!("no allowlist entry names {path} with these arguments; add one to allow it"))
}

/// What an allowlist entry is compared with.
pub struct Target<'a> {
    /// Real path of the program.
    pub path: &'a str,
    /// The bare name by which it was found in the search path.
    pub name: Option<&'a str>,
    /// The argument vector.
    pub argv: &'a [String],
    /// Canonical working directory.
    pub cwd: &'a Path,
    /// For patterns that begin with `~`.
    pub home: &'a Path,
}

/// In front of entries that remember a text; they name no program. Source: spec exec (c.5).
const MARKERS: &[&str] = &["=command:", "=node-command:"];

impl Target<'_> {
    /// The first entry that names the arguments too, else the first that names only the program,
    /// unless the arguments must be named.
    pub fn first_match<'e>(&self, entries: &'e [AllowEntry], needs_arguments: bool) -> Option<&'e AllowEntry> {
        let with_arguments = entries.iter().find(|entry| arg_pattern(entry).is_some() && self.matches(entry));
        with_arguments.or_else(|| {
            entries.iter().find(|entry| !needs_arguments && arg_pattern(entry).is_none() && self.matches(entry))
        })
    }

    /// Whether `entry` allows it. Entries that an answer made are for one argument vector in one
    /// directory: they match through the hash only.
    pub fn matches(&self, entry: &AllowEntry) -> bool {
        let is_generated = entry.source.as_deref() == Some(ALLOW_ALWAYS);
        let pattern = entry.pattern.trim();
        if MARKERS.iter().any(|marker| pattern.starts_with(marker)) {
            return false;
        }
        match arg_pattern(entry) {
            None => !is_generated && self.names(pattern),
            Some(allowed) => {
                let is_usable = pattern != "*" && (!is_generated || arguments::is_hash(allowed));
                let words = self.argv.get(1..).unwrap_or_default();
                is_usable && self.names(pattern) && arguments::matches(allowed, words, self.cwd)
            }
        }
    }

    fn names(&self, pattern: &str) -> bool {
        if pattern == "*" {
            return true;
        }
        if glob::is_name_pattern(pattern) {
            return self.name.is_some_and(|name| glob::matches_name(pattern, name));
        }
        glob::matches_path(pattern, self.path, self.home, cfg!(target_os = "macos"))
    }
}

/// An empty one is none.
fn arg_pattern(entry: &AllowEntry) -> Option<&str> {
    entry.arg_pattern.as_deref().filter(|pattern| !pattern.is_empty())
}

/// The entry that forbids `plan`. Wider than what allows: a name means the program however it is
/// called, a path also the one that was called and what it leads to, a command also each single one of
/// an understood text, and each with its program's name instead of its path.
pub fn denied<'a>(plan: &Plan, policy: &'a EffectivePolicy) -> Option<&'a DenyEntry> {
    if policy.denylist.is_empty() {
        return None;
    }
    let programs = programs(plan);
    let by_name = |argv: &[String]| {
        let name = argv.first().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        name.into_iter().chain(argv.iter().skip(1).cloned()).collect::<Vec<_>>()
    };
    let forms = |argv: &Vec<String>| [display::quoted(argv), display::quoted(&by_name(argv))];
    let mut commands: Vec<String> = argvs(plan).flat_map(forms).collect();
    commands.push(plan.command_text.clone());
    commands.extend(plan.command_preview.clone());
    policy.denylist.iter().find(|entry| match entry {
        DenyEntry::Program(pattern) => forbids(pattern.trim(), &programs, &plan.home),
        DenyEntry::Command(pattern) => commands.iter().any(|command| shell::is_like(pattern.trim(), command)),
    })
}

/// Every argument vector that stands for something in it.
fn argvs(plan: &Plan) -> impl Iterator<Item = &Vec<String>> {
    std::iter::once(&plan.argv).chain(plan.stages().flat_map(|stage| [&stage.argv, &stage.subject.argv]))
}

/// Every program that takes part: the paths of its files, and as it is called.
fn programs(plan: &Plan) -> Vec<String> {
    let called = argvs(plan).filter_map(|argv| argv.first()).map(|name| match name.contains('/') {
        true => plan.cwd.join(name).to_string_lossy().into_owned(),
        false => name.clone(),
    });
    plan.files().map(|file| file.path.to_string_lossy().into_owned()).chain(called).collect()
}

fn forbids(pattern: &str, programs: &[String], home: &Path) -> bool {
    if pattern == "*" {
        return true;
    }
    if glob::is_name_pattern(pattern) {
        return programs.iter().any(|path| glob::matches_name(pattern, path.rsplit('/').next().unwrap_or(path)));
    }
    // What is judged has no links in its path; what its owner wrote (`/bin/rm`) may have.
    let named = pattern.strip_prefix("~/").map_or_else(|| PathBuf::from(pattern), |below| home.join(below));
    let real = Some(named).filter(|named| named.is_absolute()).and_then(|named| named.canonicalize().ok());
    programs.iter().any(|path| {
        real.as_deref() == Some(Path::new(path)) || glob::matches_path(pattern, path, home, cfg!(target_os = "macos"))
    })
}

#[cfg(test)]
mod tests;
