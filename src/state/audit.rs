//! The audit log: who asked for what, what was decided and why, and how it ended.
//!
//! JSON lines, of which each names the SHA-256 of the bytes of the line before it: one that was removed, altered or moved
//! shows (`mac-debug audit verify`, H21). The first of a new log names 64 zeros; the first of a new file names the last
//! of the file before. The *head*, which record was the newest, stands in the lock's file: without it nobody could
//! tell a log from one whose last lines are gone. Whoever can write here as we do can make up a whole new log; it is
//! the fence that keeps commands away.
//!
//! A record is not synced to the disk, since a command would wait for it: a crash of the process loses nothing that
//! the system has taken. After a power failure the last lines may be missing, and the head then says that they are.

use super::{Care, DocumentLock, StateDir, StateError, files};
use crate::limits;
use crate::log;
use crate::protocol::policy::{Fence, Refusal};
use crate::protocol::text;
use crate::sys::clock;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Take, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hash that the first record of a new log names.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was decided about one request. Texts are kept escaped and bounded; secrets and values of the environment have
/// no place here.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision<'a> {
    /// Who asked, in words.
    #[serde(serialize_with = "bounded")]
    pub requester: &'a str,
    /// The caller's claim.
    #[serde(serialize_with = "bounded_option")]
    pub agent: Option<&'a str>,
    /// The caller's claim.
    #[serde(serialize_with = "bounded_option")]
    pub session: Option<&'a str>,
    /// The caller's name for this run.
    #[serde(serialize_with = "bounded_option")]
    pub run_id: Option<&'a str>,
    /// What the decision is bound to; none for a request that never became a plan.
    #[serde(serialize_with = "bounded_option")]
    pub plan_hash: Option<&'a str>,
    /// The command as a person is shown it, whole (`exec::display::quoted`).
    #[serde(flatten, serialize_with = "command")]
    pub command: &'a str,
    /// Working directory.
    #[serde(serialize_with = "bounded_option")]
    pub cwd: Option<&'a str>,
    /// Names, and only names, of what the caller added to the environment.
    #[serde(serialize_with = "names")]
    pub env: Vec<&'a str>,
    /// What decided: a rule, a person, the gateway.
    #[serde(serialize_with = "bounded")]
    pub by: &'a str,
    /// What the command is kept from.
    pub fence: Option<Fence>,
    /// By what means; none when nothing was fenced.
    #[serde(serialize_with = "bounded_option")]
    pub fence_mechanism: Option<&'a str>,
    /// Why it does not run; none when it was allowed.
    #[serde(flatten, serialize_with = "outcome")]
    pub refusal: Option<&'a Refusal>,
}

/// How an allowed command ended.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// None after a signal, and when it never started.
    pub exit_code: Option<i32>,
    /// It was stopped at its limit.
    pub timed_out: bool,
    /// From start to end.
    #[serde(rename = "durationMs", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Why it did not start, or was stopped.
    #[serde(serialize_with = "bounded_owned")]
    pub error: Option<String>,
}

/// The decision whose end is still to be told.
#[derive(Debug)]
#[must_use = "a decision without an end looks like a crash"]
pub struct Ticket {
    seq: u64,
}

/// A record's place in the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Its number, from 1.
    pub seq: u64,
    /// Hash of the line before it.
    pub prev: String,
    /// The line before it is no record: its writer was stopped in the middle.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub torn: bool,
}

impl Link {
    /// None if the line is no record.
    pub fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether it begins a log.
    pub fn is_first(&self) -> bool {
        self.seq == 1 && self.prev == NOTHING
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Event<'a> {
    Decision(&'a Decision<'a>),
    Edit(&'a Decision<'a>),
    Ended {
        of: u64,
        #[serde(flatten)]
        end: &'a End,
    },
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    link: Link,
    /// Milliseconds since 1970.
    at: i64,
    #[serde(flatten)]
    event: Event<'a>,
}

/// The audit log; one a process.
#[derive(Debug)]
pub struct AuditLog {
    files: [PathBuf; limits::AUDIT_FILES],
    /// Threads of this process wait here; the lock between processes is polled and knows no order.
    turn: Mutex<()>,
}

impl AuditLog {
    /// The log of this state directory. Creates nothing yet.
    pub fn new(state: &StateDir) -> Self {
        Self { files: state.audit(), turn: Mutex::new(()) }
    }

    /// Writes down a decision, before anything starts: after a crash it stands there without its end.
    ///
    /// # Errors
    /// [`StateError::Audit`]. Then what was allowed must not start; what was denied stays denied, and the caller logs the error.
    pub fn decision(&self, decision: &Decision<'_>) -> Result<Ticket, StateError> {
        let seq = self.append(Event::Decision(decision)).map_err(|error| StateError::Audit(Box::new(error)))?;
        Ok(Ticket { seq })
    }

    /// Writes down an edit of the approvals document, before it is made, or that it was refused (A53, H15): its
    /// `command` says in words what it changes.
    ///
    /// # Errors
    /// [`StateError::Audit`]. Then what would be edited stays as it is.
    pub fn edit(&self, edit: &Decision<'_>) -> Result<(), StateError> {
        self.append(Event::Edit(edit)).map(drop).map_err(|error| StateError::Audit(Box::new(error)))
    }

    /// Writes down how it ended. The command has run already, so a failure is only logged.
    pub fn ended(&self, ticket: Ticket, end: &End) {
        if let Err(error) = self.append(Event::Ended { of: ticket.seq, end }) {
            log!("audit", "the end of record {} was not written: {error}", ticket.seq);
        }
    }

    fn append(&self, event: Event<'_>) -> Result<u64, StateError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let [path, ..] = &self.files;
        let lock = DocumentLock::take(path)?;
        let mut file = open(path)?;
        let mut size = size_of(&file, path)?;
        let end = match Head::read(lock.file()) {
            Some(head) if head.bytes == size => Tail { seq: head.seq, hash: head.hash, ..Tail::default() },
            // Not as the last writer left it.
            head => Tail::find(&file, path, head)?,
        };
        let link = Link { seq: end.seq.saturating_add(1), prev: end.hash, torn: end.is_torn };
        let seq = link.seq;
        let mut line = serde_json::to_vec(&Record { link, at: clock::wall_ms(), event })
            .map_err(|error| StateError::io("write", path, error.into()))?;
        let hash = hash(&line);
        line.push(b'\n');
        if size > 0 && size + line.len() as u64 > limits::AUDIT_FILE_BYTES {
            self.rotate()?;
            file = open(path)?;
            size = 0;
        } else if end.is_open {
            line.insert(0, b'\n');
        }
        let head = Head { seq, bytes: size + line.len() as u64, hash };
        let written = file.write_all(&line).and_then(|()| head.write(lock.file()));
        written.map_err(|error| {
            // A full disk leaves no half line behind.
            let _ = file.set_len(size);
            StateError::io("write", path, error)
        })?;
        Ok(seq)
    }

    /// Every file one place older; the oldest is gone. Stopped in the middle, it leaves a free place and loses nothing.
    fn rotate(&self) -> Result<(), StateError> {
        for (newer, older) in self.files.iter().zip(self.files.iter().skip(1)).rev() {
            match fs::rename(newer, older) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StateError::io("rename", newer, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, StateError> {
    let file = files::open(path, OpenOptions::new().read(true).append(true).create(true), Care::Document)?;
    file.ok_or_else(|| StateError::io("open", path, ErrorKind::NotFound.into()))
}

fn size_of(file: &File, path: &Path) -> Result<u64, StateError> {
    Ok(file.metadata().map_err(|error| StateError::io("look at", path, error))?.len())
}

/// Hash of a line without its end, in hex.
pub fn hash(line: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(line))
}

/// Which record was the newest.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its number.
    pub seq: u64,
    /// Size of its file with it.
    bytes: u64,
    /// Its hash.
    pub hash: String,
}

impl Head {
    fn read(file: &File) -> Option<Self> {
        let mut buffer = [0; HEAD_BYTES];
        file.read_exact_at(&mut buffer, 0).ok()?;
        let mut words = std::str::from_utf8(&buffer).ok()?.split_ascii_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (seq, bytes) = (number()?, number()?);
        Some(Self { seq, bytes, hash: words.next()?.to_owned() })
    }

    /// Always as many bytes, so that nothing of an earlier one is left.
    fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(format!("{:020} {:020} {}\n", self.seq, self.bytes, self.hash).as_bytes(), 0)
    }
}

/// Two numbers and a hash, each with what ends it.
const HEAD_BYTES: usize = 21 + 21 + 65;

/// What the next record follows.
struct Tail {
    seq: u64,
    hash: String,
    /// The last line is no record.
    is_torn: bool,
    /// The last line has no end.
    is_open: bool,
}

impl Default for Tail {
    fn default() -> Self {
        Self { seq: 0, hash: NOTHING.to_owned(), is_torn: false, is_open: false }
    }
}

impl Tail {
    /// Goes on from the last line of the file if the record that `head` names is there, or right before it: a writer was
    /// stopped before it could write the head. Else from the head, and the chain shows forever what is missing.
    fn find(file: &File, path: &Path, mut head: Option<Head>) -> Result<Self, StateError> {
        let mut tail = Self::default();
        for line in Lines::new(file, u64::MAX) {
            let line = line.map_err(|error| StateError::io("read", path, error))?;
            let link = Link::of(&line.bytes);
            tail.hash = hash(&line.bytes);
            tail.is_torn = link.is_none();
            tail.is_open = !line.has_end;
            head =
                head.filter(|head| head.hash != tail.hash && link.as_ref().is_none_or(|link| link.prev != head.hash));
            tail.seq = link.map_or(tail.seq, |link| link.seq);
        }
        Ok(match head {
            // The first line of a new file is torn.
            Some(head) if tail.seq == 0 && tail.is_torn => Self { seq: head.seq, ..tail },
            Some(head) => Self { seq: head.seq, hash: head.hash, ..tail },
            None => tail,
        })
    }
}

/// One line, or as much of it as a record may have.
pub struct Line {
    /// Without the line's end.
    pub bytes: Vec<u8>,
    has_end: bool,
}

/// The lines of one file.
pub struct Lines<R>(Take<BufReader<R>>);

impl<R: Read> Lines<R> {
    fn new(file: R, size: u64) -> Self {
        Self(BufReader::new(file).take(size))
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        match (&mut self.0).take(limits::AUDIT_RECORD_BYTES + 1).read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => {
                let has_end = bytes.pop_if(|last| *last == b'\n').is_some();
                Some(Ok(Line { bytes, has_end }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// The log at one moment.
pub struct Snapshot {
    /// Its files, oldest first, with what each had at that moment.
    pub files: Vec<(PathBuf, Lines<File>)>,
    /// The newest record, where its writer could say so.
    pub head: Option<Head>,
    /// As many files as are kept: older ones were rotated away.
    pub is_full: bool,
}

/// Looks at the log and creates nothing.
///
/// # Errors
/// A file is not what it should be, or the system refused.
pub fn look(state: &StateDir) -> Result<Snapshot, StateError> {
    let paths = state.audit();
    let [newest, ..] = &paths;
    // Held only here: no writer waits for the reading.
    let lock = DocumentLock::share(newest)?;
    let mut found = Vec::new();
    for path in paths.into_iter().rev() {
        if let Some(file) = files::open(&path, OpenOptions::new().read(true), Care::Inspect)? {
            let size = size_of(&file, &path)?;
            found.push((path, Lines::new(file, size)));
        }
    }
    let is_full = found.len() == limits::AUDIT_FILES;
    Ok(Snapshot { files: found, head: lock.and_then(|lock| Head::read(lock.file())), is_full })
}

fn cut(raw: &str) -> String {
    let mut out = String::new();
    log::escape_into(raw, limits::AUDIT_TEXT_BYTES, &mut out);
    out
}

fn bounded<S: Serializer>(raw: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&cut(raw))
}

fn bounded_option<S: Serializer>(raw: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    raw.map(cut).serialize(serializer)
}

fn bounded_owned<S: Serializer>(raw: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    raw.as_deref().map(cut).serialize(serializer)
}

fn names<S: Serializer>(names: &[&str], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&cut(&names.join(" ")))
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The command; of one that is too long the beginning, and what tells it from every other.
fn command<S: Serializer>(whole: &str, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Command<'a> {
        command: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        command_bytes: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        command_sha256: Option<String>,
    }
    let visible = text::visible(whole);
    let kept = text::prefix(&visible, limits::AUDIT_COMMAND_BYTES);
    let is_cut = kept.len() < visible.len();
    Command {
        command: kept,
        command_bytes: is_cut.then_some(whole.len()),
        command_sha256: is_cut.then(|| hash(whole.as_bytes())),
    }
    .serialize(serializer)
}

fn outcome<S: Serializer>(refusal: &Option<&Refusal>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Outcome<'a> {
        decision: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        refusal: Option<Told<'a>>,
    }
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(serialize_with = "bounded")]
        code: &'a str,
        #[serde(serialize_with = "bounded")]
        message: &'a str,
    }
    Outcome {
        decision: if refusal.is_some() { "denied" } else { "allowed" },
        refusal: refusal.map(|refusal| Told { code: refusal.code, message: &refusal.message }),
    }
    .serialize(serializer)
}
