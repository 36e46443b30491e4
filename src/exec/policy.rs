//! One function from plan and policy to a verdict. Source: spec exec (b.3), (c.3), (c.4), (c.5).

use super::analysis;
use super::glob;
use super::plan::{CwdProblem, Form, Plan};
use crate::protocol::policy::{Ask, Refusal, Security};
use crate::state::approvals::{AllowEntry, EffectivePolicy};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::path::Path;

/// What policy says of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it without a question; which entry or rule allowed it.
    Run(String),
    /// Ask a person. `Err` says why "always" cannot be offered.
    Ask {
        /// Whether "allow always" may be offered.
        allow_always: Result<(), String>,
    },
    /// Do not run it.
    Deny(Refusal),
}

/// What a policy with this security and ask says of a command, given whether the allowlist is
/// satisfied. The one decision table; everything else here finds its inputs. Source: exec c.3, c.4.
pub fn table(security: Security, ask: Ask, satisfied: bool) -> Outcome {
    match (security, ask) {
        (Security::Deny, _) => Outcome::Disabled,
        (_, Ask::Always) => Outcome::Ask,
        (Security::Full, _) => Outcome::Run,
        (Security::Allowlist, _) if satisfied => Outcome::Run,
        (Security::Allowlist, Ask::OnMiss) => Outcome::Ask,
        (Security::Allowlist, Ask::Off) => Outcome::Miss,
    }
}

/// A row's last column in [`table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing runs.
    Disabled,
    /// It runs without a question.
    Run,
    /// A person decides.
    Ask,
    /// It is not on the list and nobody is asked.
    Miss,
}

impl Outcome {
    /// The refusal when there is no answer; none where it runs. Codes, messages and reasons are
    /// the original's.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Run => None,
            Self::Disabled => Some(Refusal::denied("security=deny", "SYSTEM_RUN_DISABLED: security=deny")),
            Self::Ask => Some(approval_required("")),
            Self::Miss => Some(Refusal::denied("allowlist-miss", "SYSTEM_RUN_DENIED: allowlist miss")),
        }
    }
}

/// `approval required`, with a sentence behind it when there is something to say.
pub fn approval_required(sentence: &str) -> Refusal {
    let colon = if sentence.is_empty() { "" } else { ": " };
    Refusal::denied("approval-required", format!("SYSTEM_RUN_DENIED: approval required{colon}{sentence}"))
}

/// What `policy` says of `plan`.
pub fn decide(plan: &Plan, policy: &EffectivePolicy) -> Verdict {
    if let Some(why) = &policy.broken {
        return Verdict::Deny(Refusal::denied("security=deny", format!("SYSTEM_RUN_DISABLED: security=deny: {why}")));
    }
    let entry = matching_entry(plan, policy);
    let outcome = table(policy.security, policy.ask, entry.is_some());
    if outcome != Outcome::Disabled
        && must_be_bound(policy)
        && let Err(refusal) = bindable(plan, outcome)
    {
        return Verdict::Deny(refusal);
    }
    match outcome {
        Outcome::Run => Verdict::Run(match entry.filter(|_| policy.security == Security::Allowlist) {
            Some(entry) => format!("allowlist entry {}", entry.pattern),
            None => "security=full".to_owned(),
        }),
        Outcome::Ask => Verdict::Ask { allow_always: allow_always(plan, policy) },
        other => other.refusal().map_or_else(|| Verdict::Run(String::new()), Verdict::Deny),
    }
}

/// Only a policy that lets everything run unasked does without a program and a directory that can
/// be checked again; its failures are then results of the run, as with the original.
pub fn must_be_bound(policy: &EffectivePolicy) -> bool {
    policy.security != Security::Full || policy.ask == Ask::Always
}

/// Whether there is something that an answer can be bound to. Source: spec exec (c.6).
fn bindable(plan: &Plan, outcome: Outcome) -> Result<(), Refusal> {
    let denied = |text: &str| Err(Refusal::denied("approval-required", format!("SYSTEM_RUN_DENIED: {text}")));
    match (plan.executable.is_some(), plan.cwd_identity) {
        (false, _) if outcome == Outcome::Miss => Ok(()),
        (false, _) => denied("approval requires a stable executable path"),
        (true, Err(CwdProblem::Missing)) => denied("approval requires an existing canonical cwd"),
        (true, Err(CwdProblem::NotADirectory)) => denied("approval requires cwd to be a directory"),
        (true, Ok(_)) => Ok(()),
    }
}

/// The allowlist entry that this plan satisfies. Only a command of its own whose program was found
/// satisfies one, and nothing that merely starts it (A78, h.2-1, h.2-9).
pub fn matching_entry<'a>(plan: &Plan, policy: &'a EffectivePolicy) -> Option<&'a AllowEntry> {
    if plan.form != Form::Direct {
        return None;
    }
    let path = plan.executable_text()?;
    let name = plan.argv.first().filter(|_| plan.is_bare_name());
    policy.allowlist.iter().find(|entry| {
        let target =
            Target { path, name: name.map(String::as_str), argv: &plan.argv, cwd: &plan.cwd, home: &plan.home };
        target.matches(entry)
    })
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

impl Target<'_> {
    /// Whether `entry` allows it. Entries for all commands of a program name its path, or its bare
    /// name, or `*`. Entries that an answer made are for one argument vector in one directory: they
    /// match through the hash only. Other argument patterns are regular expressions, which part 2
    /// reads; until then such an entry matches nothing.
    pub fn matches(&self, entry: &AllowEntry) -> bool {
        let arguments = match entry.arg_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
            None => entry.source.as_deref() != Some(GENERATED),
            Some(pattern) => pattern == arguments_hash(self.argv, self.cwd),
        };
        arguments && self.names(entry.pattern.trim())
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

/// `source` of an entry that an answer made. Source: spec exec (a.2).
pub const GENERATED: &str = "allow-always";

/// The `argPattern` of an entry that an answer made: binds the arguments and the working directory.
/// Source: spec exec (d.3) "Hash"; vectors `arg-pattern-hash`.
pub fn arguments_hash(argv: &[String], cwd: &Path) -> String {
    let cwd = cwd.to_string_lossy().replace('\\', "/");
    let arguments = argv.get(1..).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(format!("{}\0{cwd}\0{}\0", cwd.len(), arguments.len()));
    for argument in arguments {
        hasher.update(format!("{}\0{argument}\0", argument.len()));
    }
    format!("sha256:cwd-argv:v1:{}", HEXLOWER.encode(&hasher.finalize()))
}

/// The entry that "always" would add: exactly this program, these arguments, this directory.
///
/// # Errors
/// A sentence that says why nothing may be added.
pub fn durable_entry(plan: &Plan) -> Result<AllowEntry, String> {
    if plan.form != Form::Direct {
        return Err("it starts other programs or hands text to a shell".to_owned());
    }
    if analysis::is_interpreter(plan) {
        return Err("an interpreter runs whatever its program file holds next time".to_owned());
    }
    let path = plan.executable_text().ok_or("the program was not found, or its path is not Unicode")?;
    if path.contains(['*', '?', '\\']) || path.trim() != path {
        return Err("the program's path has characters that mean something else in an allowlist".to_owned());
    }
    Ok(AllowEntry {
        id: crate::identity::random::uuid(),
        pattern: path.to_owned(),
        arg_pattern: Some(arguments_hash(&plan.argv, &plan.cwd)),
        source: Some(GENERATED.to_owned()),
    })
}

/// Whether "always" may be offered (A72).
fn allow_always(plan: &Plan, policy: &EffectivePolicy) -> Result<(), String> {
    match (policy.security, policy.ask) {
        (_, Ask::Always) => Err("the policy asks before every command".to_owned()),
        (Security::Allowlist, _) => durable_entry(plan).map(drop),
        _ => Err("the policy has no allowlist in force".to_owned()),
    }
}
