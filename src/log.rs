//! The log: one line a record on standard error, escaped and bounded, so that no peer can write a
//! second line or a terminal code into it. Secrets never get here: their type cannot be printed.

use crate::limits;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Lines held back while a prompt stands on the same terminal. Oldest dropped beyond this.
const HELD_LINES: usize = 256;

struct Held {
    prompts: usize,
    lines: Vec<String>,
    dropped: usize,
}

static HELD: Mutex<Held> = Mutex::new(Held { prompts: 0, lines: Vec::new(), dropped: 0 });

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds log lines back as long as it lives: a prompt and the log share one screen.
pub struct HoldBack(());

/// Holds log lines back until the returned guard is dropped.
pub fn hold_back() -> HoldBack {
    held().prompts += 1;
    HoldBack(())
}

impl Drop for HoldBack {
    fn drop(&mut self) {
        let mut held = held();
        held.prompts = held.prompts.saturating_sub(1);
        if held.prompts > 0 {
            return;
        }
        if held.dropped > 0 {
            let dropped = std::mem::take(&mut held.dropped);
            emit(&format!("({dropped} log lines were dropped while a prompt stood)\n"));
        }
        for line in std::mem::take(&mut held.lines) {
            emit(&line);
        }
    }
}

/// Writes one record. `part` names the speaker: `gateway`, `node`, `app` …
pub fn line(part: &str, text: fmt::Arguments<'_>) {
    let mut out = format!("{part}: ");
    escape_into(&text.to_string(), limits::LOG_LINE_BYTES, &mut out);
    out.push('\n');
    let mut held = held();
    if held.prompts == 0 {
        emit(&out);
    } else if held.lines.len() < HELD_LINES {
        held.lines.push(out);
    } else {
        held.dropped += 1;
    }
}

/// A closed standard error must not end the process.
fn emit(line: &str) {
    let Some((path, file)) = FILE.get() else {
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    let _ = (&*file).write_all(line.as_bytes());
    turn_over(path, file);
}

/// The log's own file, where a service manager does not bound what standard error goes to.
static FILE: OnceLock<(PathBuf, File)> = OnceLock::new();

/// From now on the log goes to `path`, which is kept below its bound with one older file beside it, if standard error
/// goes to the file at `output`, as under launchd. That one is left for crashes, and cut at each start.
pub fn keep_bounded(output: &Path, path: PathBuf) {
    let Ok(standard) = std::io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
    if let (Ok(ours), Ok(named)) = (standard.metadata(), output.symlink_metadata())
        && named.is_file()
        && (ours.dev(), ours.ino()) == (named.dev(), named.ino())
        && let Ok(file) = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)
    {
        turn_over(output, &standard);
        let _ = FILE.set((path, file));
    }
}

fn turn_over(path: &Path, file: &File) {
    let is_full = file.metadata().is_ok_and(|found| found.len() > limits::LOG_FILE_BYTES);
    // Without room for a copy the old lines go: a full disk helps nobody.
    if is_full {
        let _ = std::fs::copy(path, path.with_extension("1.log"));
        let _ = file.set_len(0);
    }
}

/// Appends `text` with everything that could move a cursor or hide itself written as an escape;
/// stops after `limit` bytes and says so.
pub fn escape_into(text: &str, limit: usize, out: &mut String) {
    let start = out.len();
    for character in text.chars() {
        if out.len() - start >= limit {
            out.push_str("…(cut)");
            return;
        }
        if crate::protocol::text::is_hidden(character) {
            out.push_str(&crate::protocol::text::visible_escape(character));
        } else {
            out.push(character);
        }
    }
}

/// Logs one line: `log!("gateway", "listening on {address}")`.
#[macro_export]
macro_rules! log {
    ($part:expr, $($text:tt)*) => { $crate::log::line($part, format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_is_one_visible_line() {
        let mut out = String::new();
        escape_into("a\nb\x1b[2Jc\u{202e}d\u{2028}", 1_000, &mut out);
        assert_eq!(out, "a\\u{A}b\\u{1B}[2Jc\\u{202E}d\\u{2028}");
        let mut long = String::new();
        escape_into(&"x".repeat(5_000), 100, &mut long);
        assert!(long.len() < 120 && long.ends_with("…(cut)"));
    }
}
