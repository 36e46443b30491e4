//! `mac-debug audit`: the last decisions, and whether the log is whole. Needs no gateway and creates nothing.

use super::{InspectError, table};
use crate::desktop::terminal::shown;
use crate::limits;
use crate::protocol::text;
use crate::state::audit::{self, Link, Snapshot};
use crate::state::{StateDir, StateError};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// The last decisions, oldest first, each with what was written when it `ended`, or null.
///
/// # Errors
/// A file of the log is not what it should be, or the system refused.
pub fn show(state: &StateDir, last: usize) -> Result<Value, InspectError> {
    let mut found: VecDeque<Value> = VecDeque::new();
    for (path, lines) in audit::look(state)?.files {
        for line in lines {
            let line = line.map_err(|error| StateError::Io { doing: "read", path: path.clone(), error })?;
            let Ok(record) = serde_json::from_slice::<Value>(&line.bytes) else { continue };
            match record.get("kind").and_then(Value::as_str) {
                Some("decision" | "edit") => {
                    found.push_back(record);
                    if found.len() > last {
                        found.pop_front();
                    }
                }
                Some("ended") => {
                    let decision = found.iter_mut().rev().find(|decision| decision.get("seq") == record.get("of"));
                    if let Some(members) = decision.and_then(Value::as_object_mut) {
                        members.insert("ended".to_owned(), record);
                    }
                }
                _ => {}
            }
        }
    }
    for members in found.iter_mut().filter_map(Value::as_object_mut) {
        members.entry("ended").or_insert(Value::Null);
    }
    Ok(json!({"decisions": found}))
}

/// The same for a person.
pub fn show_text(found: &Value) -> String {
    let decisions = found.get("decisions").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = decisions.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return "no decision is in the log\n".to_owned();
    }
    table(&["TIME", "DECISION", "BY", "EXIT", "DURATION", "AGENT", "COMMAND"], &rows)
}

fn row(decision: &Value) -> Vec<String> {
    let cell = |member: &str| shown(&super::shown(decision, member));
    let ended = decision.get("ended").unwrap_or(&Value::Null);
    let exit = match ended.get("exitCode") {
        _ if decision.get("refusal").is_some() || decision["kind"] == "edit" => "-".to_owned(),
        None => "no end".to_owned(),
        _ if ended.get("timedOut") == Some(&Value::Bool(true)) => "timeout".to_owned(),
        _ if ended.get("error").is_some_and(Value::is_string) => "error".to_owned(),
        Some(Value::Null) => "signal".to_owned(),
        Some(_) => shown(&super::shown(ended, "exitCode")),
    };
    let duration = ended.get("durationMs").and_then(Value::as_u64).map_or("-".to_owned(), |ms| format!("{ms} ms"));
    let mut command = cell("command");
    if decision.get("commandSha256").is_some() {
        command.push_str(&format!("…(cut; {} bytes, SHA-256 {})", cell("commandBytes"), cell("commandSha256")));
    }
    let time = text::utc(decision.get("at").and_then(Value::as_i64).unwrap_or(0));
    vec![time, cell("decision"), cell("by"), exit, duration, cell("agent"), command]
}

/// Where something is wrong, and what.
struct Break {
    place: Place,
    why: String,
}

#[derive(Clone)]
struct Place {
    file: PathBuf,
    /// From 1; 0 in a file without lines.
    line: usize,
}

/// What was read so far.
#[derive(Default)]
struct Walk {
    records: u64,
    first: u64,
    last: u64,
    /// Hash of the last line and where it is.
    before: Option<(String, Place)>,
    /// It is no record, and the next one has to say so.
    torn: bool,
    has_head: bool,
    notes: Vec<String>,
}

/// Follows the chain through all files up to its first break.
///
/// # Errors
/// A file of the log is not what it should be, or the system refused.
pub fn verify(state: &StateDir) -> Result<Value, InspectError> {
    let snapshot = audit::look(state)?;
    let files = snapshot.files.len();
    let [newest, ..] = state.audit();
    let mut walk = Walk::default();
    let broken = walk.follow(snapshot, &newest)?;
    Ok(json!({
        "ok": broken.is_none(),
        "records": walk.records,
        "first": walk.first,
        "last": walk.last,
        "files": files,
        "notes": walk.notes,
        "break": broken.map(|Break { place, why }| json!({"file": place.file, "line": place.line, "why": why})),
    }))
}

impl Walk {
    fn follow(&mut self, snapshot: Snapshot, newest: &Path) -> Result<Option<Break>, StateError> {
        let Snapshot { files, head, is_full } = snapshot;
        for (path, lines) in files {
            for (line, number) in lines.zip(1..) {
                let line = line.map_err(|error| StateError::Io { doing: "read", path: path.clone(), error })?;
                let (place, hash) = (Place { file: path.clone(), line: number }, audit::hash(&line.bytes));
                if let Some(link) = Link::of(&line.bytes) {
                    if let Err(broken) = self.check(&link, &place, is_full) {
                        return Ok(Some(broken));
                    }
                    if let Some(head) = head.as_ref().filter(|head| head.seq == link.seq) {
                        if head.hash != hash {
                            return Ok(Some(Break { place, why: "it was altered after it was written".to_owned() }));
                        }
                        self.has_head = true;
                    }
                    self.torn = false;
                } else {
                    self.note(format!("{} line {number}: a torn line after record {}", path.display(), self.last));
                    self.torn = true;
                }
                self.before = Some((hash, place));
            }
        }
        match head {
            Some(head) if !self.has_head => {
                let place = self.before.take().map(|(_, place)| place);
                let place = place.unwrap_or_else(|| Place { file: newest.to_owned(), line: 0 });
                let why = format!(
                    "records up to {} were written, and after this line they are missing: removed, or lost in a power failure",
                    head.seq
                );
                return Ok(Some(Break { place, why }));
            }
            None if self.records > 0 => self.note(format!(
                "the lock's file beside {} does not say which record is the newest: whether the last ones are there cannot be told",
                newest.display()
            )),
            _ => {}
        }
        Ok(None)
    }

    /// Whether a record may stand where it stands.
    fn check(&mut self, link: &Link, place: &Place, is_full: bool) -> Result<(), Break> {
        let broken = |place: &Place, why: &str| Err(Break { place: place.clone(), why: why.to_owned() });
        let belongs = self.last.saturating_add(1);
        match &self.before {
            Some((_, before)) if self.torn && !link.torn => {
                return broken(before, "it is no record, and the next record knows nothing of that");
            }
            _ if self.records == 0 && link.seq > 1 => {
                let gone = if is_full { "rotated away" } else { "removed" };
                self.note(format!("begins at record {}: older files were {gone}", link.seq));
            }
            _ if link.seq != belongs => {
                let why = format!("record {} stands where {belongs} belongs: lines were removed or moved", link.seq);
                return broken(place, &why);
            }
            None if !link.is_first() => return broken(place, "it names a line before it, and there is none"),
            Some((hash, before)) if *hash != link.prev => {
                return broken(before, "this line, or the record after it, was altered");
            }
            _ => {}
        }
        if self.records == 0 {
            self.first = link.seq;
        }
        self.records += 1;
        self.last = link.seq;
        Ok(())
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < limits::AUDIT_NOTES {
            self.notes.push(note);
        }
    }
}

/// The same for a person.
pub fn verify_text(found: &Value) -> String {
    let cell = |pointer: &str| match found.pointer(pointer) {
        Some(Value::String(text)) => shown(text),
        other => other.map(Value::to_string).unwrap_or_default(),
    };
    let mut out = String::new();
    for note in found.get("notes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        out.push_str(&format!("note: {}\n", shown(note)));
    }
    let records = format!("{} records in {} files", cell("/records"), cell("/files"));
    if found.get("ok") == Some(&Value::Bool(true)) {
        out.push_str(&format!("whole: {records}\n"));
    } else {
        out.push_str(&format!(
            "BROKEN at {} line {}: {}; up to there {records}\n",
            cell("/break/file"),
            cell("/break/line"),
            cell("/break/why")
        ));
    }
    out
}
