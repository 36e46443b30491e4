//! `mac-debug doctor`: what is wrong, and what to do about each; `--fix` repairs what is harmless to repair. Looking
//! changes nothing, also no mode.

mod disk;
mod system;

use super::InspectError;
use super::facts::{Place, facts, is_served};
use crate::limits;
use crate::protocol::text;
use crate::state::{Care, InstanceLock, files};
use crate::sys::process;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Well,
    /// Worth knowing; nothing fails because of it.
    Note,
    Problem,
}

impl Weight {
    const fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// What one check found.
#[derive(Debug)]
pub struct Finding {
    check: &'static str,
    weight: Weight,
    found: String,
    remedy: Option<String>,
    repair: Option<Repair>,
}

/// A change that takes nothing from anybody: files of ours are closed to others, and a socket that nobody serves goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Sets 0700.
    Directory(PathBuf),
    /// Sets 0600 of a document that others could read; one that they could write is no matter of a mode.
    Document(PathBuf),
    /// Sets 0600.
    Socket(PathBuf),
    /// Removes a socket file that its process has left behind, as long as the lock is free.
    Leftover(PathBuf, PathBuf),
}

impl Repair {
    /// What would be done, in one line.
    fn sentence(&self) -> String {
        let visible = |path: &PathBuf| text::visible(&path.to_string_lossy());
        match self {
            Self::Directory(path) => format!("chmod 700 {}", visible(path)),
            Self::Document(path) | Self::Socket(path) => format!("chmod 600 {}", visible(path)),
            Self::Leftover(path, _) => format!("remove {} (nobody serves it)", visible(path)),
        }
    }

    /// Does it, after another look: something may have started meanwhile.
    fn carry_out(&self) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        match self {
            Self::Directory(path) => files::secure_directory(path).map_err(|error| said(&error)),
            // A document's modes are repaired by reading it as its owner does, after every check.
            Self::Document(path) => files::read(path, Care::Document).map(drop).map_err(|error| said(&error)),
            Self::Socket(path) | Self::Leftover(path, _) => {
                let found = path.symlink_metadata().map_err(|error| said(&error))?;
                if !found.file_type().is_socket() || found.uid() != process::effective_uid() {
                    return Err("it is no socket of ours any more".to_owned());
                }
                match self {
                    Self::Leftover(_, lock) if InstanceLock::holder(lock).is_some() || is_served(path) => {
                        Err("it is served by now".to_owned())
                    }
                    Self::Leftover(..) => fs::remove_file(path).map_err(|error| said(&error)),
                    _ => fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| said(&error)),
                }
            }
        }
    }
}

impl Finding {
    /// Nothing to do.
    pub fn is_well(&self) -> bool {
        self.weight == Weight::Well
    }

    /// As printed.
    pub fn to_json(&self) -> Value {
        json!({"check": self.check, "status": self.weight.word(), "found": self.found, "remedy": self.remedy,
            "repair": self.repair.as_ref().map(Repair::sentence)})
    }
}

/// What the checks have found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, weight: Weight, found: String, remedy: Option<String>) {
        self.0.push(Finding { check, weight, found, remedy, repair: None });
    }

    fn well(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Weight::Well, found.into(), None);
    }

    fn note(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Weight::Note, found.into(), Some(remedy.into()));
    }

    fn problem(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Weight::Problem, found.into(), Some(remedy.into()));
    }

    /// What a sentence of ours says together with what to do.
    fn sentence(&mut self, check: &'static str, found: impl std::fmt::Display) {
        self.add(check, Weight::Problem, found.to_string(), None);
    }

    /// The last finding can be repaired so.
    fn repaired_by(&mut self, repair: Repair) {
        if let Some(last) = self.0.last_mut() {
            last.repair = Some(repair);
        }
    }

    fn has(&self, check: &str) -> bool {
        self.0.iter().any(|finding| finding.check == check)
    }
}

/// What the facts alone tell.
pub(super) fn of_facts(facts: &Value, place: &Place) -> Vec<Finding> {
    let mut findings = Findings::default();
    disk::places(&mut findings, facts, place);
    system::peers(&mut findings, facts);
    system::settings(&mut findings, facts, place);
    findings.0
}

/// `accessibility: true`, or an object that says so in one of the ways that permissions are told.
pub(super) fn is_granted(permission: &Value) -> Option<bool> {
    match permission {
        Value::Bool(is) => Some(*is),
        Value::String(word) => match word.as_str() {
            "granted" | "authorized" => Some(true),
            "denied" | "missing" | "restricted" => Some(false),
            _ => None,
        },
        Value::Object(_) => {
            ["granted", "effective", "status"].iter().find_map(|name| is_granted(permission.get(name)?))
        }
        _ => None,
    }
}

/// Every check.
pub struct Diagnosis {
    findings: Vec<Finding>,
}

/// Looks at everything.
pub fn examine(place: &Place) -> Diagnosis {
    let facts = facts(place);
    let mut findings = Findings(of_facts(&facts, place));
    disk::documents(&mut findings, place);
    disk::audit(&mut findings, place);
    system::clocks(&mut findings, &facts, place);
    system::search_path(&mut findings);
    Diagnosis { findings: findings.0 }
}

impl Diagnosis {
    /// Nothing is a problem.
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight != Weight::Problem)
    }

    /// What `--fix` would do, a line each.
    pub fn repairs(&self) -> Vec<String> {
        self.findings.iter().filter_map(|finding| finding.repair.as_ref()).map(Repair::sentence).collect()
    }

    /// Does all of it; a line for each.
    ///
    /// # Errors
    /// One could not be done; those before it were.
    pub fn repair(&self) -> Result<Vec<String>, InspectError> {
        let repairs = self.findings.iter().filter_map(|finding| finding.repair.as_ref());
        repairs
            .map(|repair| {
                let sentence = repair.sentence();
                let done = repair.carry_out();
                done.map(|()| sentence.clone())
                    .map_err(|why| InspectError::App(format!("`{sentence}` was not done: {}", text::visible(&why))))
            })
            .collect()
    }

    /// `{"ok","checks":[{"check","status","found","remedy","repair"}]}`; status is ok, note or problem.
    pub fn to_json(&self) -> Value {
        json!({"ok": self.is_well(), "checks": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>()})
    }
}

/// The same for a person.
pub fn text(diagnosis: &Value) -> String {
    let mut out = String::new();
    let mut problems = 0;
    for finding in diagnosis["checks"].as_array().into_iter().flatten() {
        let text = |member: &str| super::text_at(finding, &format!("/{member}"));
        problems += usize::from(finding["status"] == Weight::Problem.word());
        out.push_str(&format!("{:<8} {:<12} {}\n", text("status"), text("check"), text("found")));
        if finding["remedy"].is_string() {
            out.push_str(&format!("{:21} {}\n", "", text("remedy")));
        }
    }
    out.push_str(&match problems {
        0 => "all is well\n".to_owned(),
        1 => "1 problem\n".to_owned(),
        count => format!("{count} problems\n"),
    });
    if diagnosis["checks"].as_array().is_some_and(|checks| checks.iter().any(|check| check["repair"].is_string())) {
        out.push_str("some of it can be repaired here: openclaw mac-debug doctor --fix shows what, and asks\n");
    }
    out
}

/// How much that is, for a person.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

/// Whether two clocks are too far apart for a login, milliseconds.
fn is_skewed(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > u64::try_from(limits::DEVICE_SIGNATURE_SKEW.as_millis()).unwrap_or(u64::MAX)
}
