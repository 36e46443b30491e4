//! The state directory and what lies in it.

use super::{Findings, Repair, mebibytes};
use crate::inspect::facts::Place;
use crate::inspect::{audit, text_at};
use crate::limits;
use crate::protocol::text;
use crate::state::{Care, StateDir, files};
use crate::sys::process;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders that programs copy to other machines, as parts of a path. Source: spec mac-app §9 (P17).
const SYNCED: &[&str] =
    &["Library/Mobile Documents", "com~apple~CloudDocs", "CloudStorage", "iCloud Drive", "Dropbox", "OneDrive"];

/// As long as this file is there the official app starts no gateway. Source: spec mac-app §1.7, §9 (P6).
const ATTACH_ONLY: &str = "disable-launchagent";

fn shown(path: &Path) -> String {
    text::visible(&path.to_string_lossy())
}

/// The directory, its disk and its sockets.
pub(super) fn places(findings: &mut Findings, facts: &Value, place: &Place) {
    let state = &place.state;
    directory(findings, state.root());
    if let Err(error) = state.check_socket_paths() {
        findings.sentence("state", error);
    }
    let root = state.root().canonicalize().unwrap_or_else(|_| state.root().to_owned());
    if let Some(part) = SYNCED.iter().find(|part| root.to_string_lossy().contains(*part)) {
        findings.problem(
            "state",
            format!("{} lies in a folder that is copied to other machines ({part})", shown(&root)),
            "keys and tokens must not leave this one: move it to a local folder and set OPENCLAW_STATE_DIR",
        );
    }
    let marker = state.root().join(ATTACH_ONLY);
    if marker.symlink_metadata().is_ok() {
        findings.note(
            "marker",
            format!("{} is there: the official app then starts no gateway of its own (attach only)", shown(&marker)),
            "remove the file if that is not wanted",
        );
    }
    match facts["freeBytes"].as_u64() {
        Some(free) if free < limits::DISK_FREE_BYTES => findings.problem(
            "disk",
            format!("the disk of {} is full ({} free)", shown(state.root()), mebibytes(free)),
            "make room: no approval, pairing or audit record can be kept, and what cannot be recorded does not run",
        ),
        Some(free) => findings.well("disk", format!("{} free", mebibytes(free))),
        None => {}
    }
    for socket in facts["sockets"].as_array().into_iter().flatten().filter(|socket| socket["present"] == true) {
        self::socket(findings, state, socket);
    }
}

fn directory(findings: &mut Findings, path: &Path) {
    let named = shown(path);
    let Ok(found) = path.symlink_metadata() else {
        return findings.note(
            "state",
            format!("{named} is not there yet"),
            "the first start of `openclaw app` makes it",
        );
    };
    if !found.is_dir() {
        findings.problem("state", format!("{named} is no directory"), "remove it, or set OPENCLAW_STATE_DIR");
    } else if found.uid() != process::effective_uid() {
        let remedy = format!("set OPENCLAW_STATE_DIR to one of yours, or give it back: sudo chown -R $(id -u) {named}");
        findings.problem("state", format!("{named} belongs to another user (uid {})", found.uid()), remedy);
    } else if found.mode() & 0o077 != 0 {
        let found = format!("{named} is open to others (mode {:03o})", found.mode() & 0o777);
        findings.problem("state", found, format!("chmod 700 {named}"));
        findings.repaired_by(Repair::Directory(path.to_owned()));
    } else {
        findings.well("state", format!("{named} is yours alone"));
    }
}

fn socket(findings: &mut Findings, state: &StateDir, socket: &Value) {
    let path = PathBuf::from(socket["path"].as_str().unwrap_or_default());
    let named = shown(&path);
    let lock = if path == state.gateway_socket() { state.gateway_lock() } else { state.app_lock() };
    if socket["isSocket"] != true {
        findings.problem("sockets", format!("{named} is no socket"), "look at what it is, and remove it");
    } else if socket["isOwn"] != true {
        let found = format!("{named} belongs to another user (uid {}); nothing is sent to it", socket["owner"]);
        findings.problem("sockets", found, "find out who made it, and remove it");
    } else if socket["served"] != true {
        findings.problem(
            "sockets",
            format!("{named} is a leftover: nobody serves it"),
            "remove it, or start what serves it (`openclaw app` or `openclaw gateway`)",
        );
        findings.repaired_by(Repair::Leftover(path, lock));
    } else if socket["mode"] != "0600" {
        let mode = socket["mode"].as_str().unwrap_or_default();
        findings.problem("sockets", format!("{named} is open to others (mode {mode})"), format!("chmod 600 {named}"));
        findings.repaired_by(Repair::Socket(path));
    } else {
        findings.well("sockets", format!("{named} is served, and yours alone"));
    }
}

/// Owner, mode and syntax of every document; nothing is said of one that is not there.
pub(super) fn documents(findings: &mut Findings, place: &Place) {
    let state = &place.state;
    for directory in state.document_directories() {
        if let Ok(found) = directory.symlink_metadata()
            && found.is_dir()
            && found.uid() == process::effective_uid()
            && found.mode() & 0o077 != 0
        {
            let named = shown(&directory);
            let found = format!("{named} is open to others (mode {:03o})", found.mode() & 0o777);
            findings.problem("files", found, format!("chmod 700 {named}"));
            findings.repaired_by(Repair::Directory(directory));
        }
    }
    let mut seen = 0;
    for path in state.document_paths() {
        seen += usize::from(path.symlink_metadata().is_ok());
        document(findings, state, path);
    }
    if !findings.has("files") {
        findings.well("files", format!("{seen} documents can be read, and are yours alone"));
    }
}

fn document(findings: &mut Findings, state: &StateDir, path: PathBuf) {
    let is_secret = state.is_secret(&path);
    let contents = match files::read(&path, if is_secret { Care::Secret } else { Care::Inspect }) {
        Ok(Some(contents)) => contents,
        Ok(None) => return,
        Err(error) => return findings.sentence("files", error),
    };
    let named = shown(&path);
    // What is in openclaw.json and in the approvals document is judged by those who read them.
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let is_read_elsewhere = path == state.approvals() || path == state.config();
    if is_json && !is_read_elsewhere && serde_json::from_slice::<serde::de::IgnoredAny>(&contents.bytes).is_err() {
        return findings.problem(
            "files",
            format!("{named} is not JSON (any more); it is kept as it is, and nothing works that needs it"),
            "repair it, or move it away: what was paired or pinned in it is then forgotten",
        );
    }
    let mode = path.symlink_metadata().map_or(0, |found| found.mode() & 0o777);
    if mode & 0o077 != 0 {
        findings.problem(
            "files",
            format!("{named} can be read by others (mode {mode:03o})"),
            format!("chmod 600 {named}"),
        );
        findings.repaired_by(Repair::Document(path));
    }
}

/// Whether the audit log is whole.
pub(super) fn audit(findings: &mut Findings, place: &Place) {
    match audit::verify(&place.state) {
        Ok(found) if found.pointer("/break").is_none_or(Value::is_null) => {
            findings.well("audit", format!("{} records, none missing", text_at(&found, "/records")));
        }
        Ok(found) => {
            let remedy = "`openclaw mac-debug audit verify` says where; keep the files and find out who wrote there";
            let why = text_at(&found, "/break/why");
            findings.problem("audit", format!("the audit log is broken: {why}"), remedy);
        }
        Err(error) => findings.sentence("audit", error),
    }
}
