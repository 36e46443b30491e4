//! Locks that end with their holder: `flock`, never `fcntl`, whose locks vanish with any close in
//! the process (NOTES "One process, several roles").

use super::{Care, StateError, files};
use crate::limits;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a waiting writer tries again.
const RETRY: Duration = Duration::from_millis(5);
/// Longer than [`InstanceLock::holder`] keeps the lock.
const GLANCE: Duration = Duration::from_millis(100);

/// Held by the one instance of a role as long as it lives.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock and writes our process id into it.
    ///
    /// # Errors
    /// [`StateError::AlreadyHeld`] with the holder's process id; or the system refused.
    pub fn take(path: &Path) -> Result<Self, StateError> {
        let mut file = open(path)?;
        if !lock_until(&file, path, GLANCE, File::try_lock)? {
            return Err(StateError::AlreadyHeld { path: path.to_owned(), pid: read_pid(&mut file) });
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.flush());
        written.map_err(|error| StateError::io("write", path, error))?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds the lock, and who. Creates nothing.
    pub fn holder(path: &Path) -> Option<Option<u32>> {
        let mut file = File::open(path).ok()?;
        // Let go at once; an instance that starts meanwhile waits longer than that.
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_pid(&mut file)),
            _ => None,
        }
    }
}

/// False if somebody else holds the lock for longer than `wait`.
fn lock_until(
    file: &File,
    path: &Path,
    wait: Duration,
    try_lock: fn(&File) -> Result<(), TryLockError>,
) -> Result<bool, StateError> {
    let deadline = Instant::now() + wait;
    loop {
        match try_lock(file) {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(StateError::io("lock", path, error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
        }
    }
}

fn lock_of(document: &Path) -> PathBuf {
    files::beside(document, ".lock")
}

fn open(path: &Path) -> Result<File, StateError> {
    files::open_private(path, OpenOptions::new().read(true).write(true).create(true))
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The right to write one document, for a read, a change and a write that belong together. Lies
/// in a file beside the document, since the document itself is replaced.
#[derive(Debug)]
pub struct DocumentLock {
    document: PathBuf,
    file: File,
}

impl DocumentLock {
    /// Waits for the right, at most [`limits::DOCUMENT_LOCK_WAIT`]. Creates the document's
    /// directory.
    ///
    /// # Errors
    /// [`StateError::Busy`]; an unsafe directory; or the system refused.
    pub fn take(document: &Path) -> Result<Self, StateError> {
        files::ensure_parent(document)?;
        let path = lock_of(document);
        Self::hold(document, open(&path)?, File::try_lock)
    }

    /// Keeps writers away for a look at what several of them write. Creates nothing: `None` if nobody has written yet.
    ///
    /// # Errors
    /// Those of [`DocumentLock::take`].
    pub fn share(document: &Path) -> Result<Option<Self>, StateError> {
        let file = files::open(&lock_of(document), OpenOptions::new().read(true), Care::Inspect)?;
        file.map(|file| Self::hold(document, file, File::try_lock_shared)).transpose()
    }

    fn hold(document: &Path, file: File, try_lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, StateError> {
        if !lock_until(&file, &lock_of(document), limits::DOCUMENT_LOCK_WAIT, try_lock)? {
            return Err(StateError::Busy { path: document.to_owned() });
        }
        Ok(Self { document: document.to_owned(), file })
    }

    /// The document that may be written.
    pub fn document(&self) -> &Path {
        &self.document
    }

    /// Where the lock itself lies.
    pub(super) fn path(&self) -> PathBuf {
        lock_of(&self.document)
    }

    /// The lock's own file; what stands in it is its holder's.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
