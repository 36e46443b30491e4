//! Locks that end with their holder: `flock`, never `fcntl`, whose locks vanish with any close in
//! the process (NOTES "One process, several roles").

use super::{StateError, files};
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
        if !lock_until(&file, path, Instant::now() + GLANCE)? {
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

/// False if somebody else holds the lock until `deadline`.
fn lock_until(file: &File, path: &Path, deadline: Instant) -> Result<bool, StateError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(StateError::io("lock", path, error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
        }
    }
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
    _file: File,
}

impl DocumentLock {
    /// Waits for the right, at most [`limits::DOCUMENT_LOCK_WAIT`]. Creates the document's
    /// directory.
    ///
    /// # Errors
    /// [`StateError::Busy`]; an unsafe directory; or the system refused.
    pub fn take(document: &Path) -> Result<Self, StateError> {
        files::ensure_parent(document)?;
        let path = files::beside(document, ".lock");
        let file = open(&path)?;
        if !lock_until(&file, &path, Instant::now() + limits::DOCUMENT_LOCK_WAIT)? {
            return Err(StateError::Busy { path: document.to_owned() });
        }
        Ok(Self { document: document.to_owned(), _file: file })
    }

    /// The document that may be written.
    pub fn document(&self) -> &Path {
        &self.document
    }
}
