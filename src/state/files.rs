//! Reading without being led astray and writing without leaving halves (A121, A137, A138, A141, A143).

use super::StateError;
use super::locks::DocumentLock;
use crate::identity::random;
use crate::limits;
use crate::sys::{clock, process};
use data_encoding::HEXLOWER;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Which bytes a path named when it was looked at; as long as it stays the same, the bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Status change time, nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl Stamp {
    /// The stamp in an open or named file's metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// True if the file was changed long enough before now that a further change would show: two
    /// writes within one tick of the file system's clock leave equal stamps.
    pub fn is_settled(&self) -> bool {
        let step = i128::try_from(limits::FILE_CLOCK_STEP.as_nanos()).unwrap_or(i128::MAX);
        i128::from(clock::wall_ms()) * 1_000_000 - self.ctime_ns > step
    }
}

/// How careful a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// A document: when others could read it, its mode is repaired and that is logged; when they
    /// could write it, it is refused, since what it says may be theirs (A121).
    Document,
    /// A file that is nothing but a secret: a looser mode than 0600 is refused, since somebody may
    /// have read it already.
    Secret,
    /// Look at a document and change nothing, not even its mode.
    Inspect,
}

/// A file's bytes and which file they came from.
pub struct Contents {
    /// All of it.
    pub bytes: Vec<u8>,
    /// At the moment of reading.
    pub stamp: Stamp,
}

impl Contents {
    /// The bytes as text.
    ///
    /// # Errors
    /// They are not UTF-8.
    pub fn text(&self, path: &Path) -> Result<&str, StateError> {
        std::str::from_utf8(&self.bytes).map_err(|_| StateError::broken(path, "it is not UTF-8 text"))
    }
}

/// The stamp of what `path` names now, without following a link; `None` when there is nothing.
///
/// # Errors
/// The system refused to look.
pub fn stamp(path: &Path) -> Result<Option<Stamp>, StateError> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::io("look at", path, error)),
    }
}

/// Reads a whole file through one descriptor that was checked: a regular file, ours, one name,
/// not larger than its bound, in a directory where nobody else can exchange it. `None` when there
/// is no such file.
///
/// # Errors
/// The file or its directory is not what it should be, or the system refused.
pub fn read(path: &Path, care: Care) -> Result<Option<Contents>, StateError> {
    let Some(mut file) = open(path, OpenOptions::new().read(true), care)? else { return Ok(None) };
    read_checked(&mut file, path, care).map(Some)
}

/// Opens a file that passes every check of [`read`] but the one of its size; a created one has mode 0600.
pub(super) fn open(path: &Path, options: &mut OpenOptions, care: Care) -> Result<Option<File>, StateError> {
    if !parent_is_safe(path)? {
        return Ok(None);
    }
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = match options.mode(FILE_MODE).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(StateError::unsafe_file(path, "it is a symbolic link; put a regular file there"));
        }
        Err(error) => return Err(StateError::io("open", path, error)),
    };
    check_file(&file, path, care)?;
    Ok(Some(file))
}

fn bound(care: Care) -> u64 {
    if care == Care::Secret { limits::SECRET_FILE_BYTES } else { limits::DOCUMENT_BYTES }
}

/// Reads until what was read is one state of the file: a writer that does not rename may be at work.
fn read_checked(file: &mut File, path: &Path, care: Care) -> Result<Contents, StateError> {
    let failed = |error| StateError::io("read", path, error);
    for _ in 0..READ_ATTEMPTS {
        let before = Stamp::of(&file.metadata().map_err(failed)?);
        let mut bytes = Vec::new();
        std::io::Seek::rewind(file).map_err(failed)?;
        (&*file).take(bound(care) + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > bound(care) {
            return Err(StateError::broken(path, format!("it is larger than {} bytes", bound(care))));
        }
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        if stamp == before {
            return Ok(Contents { bytes, stamp });
        }
    }
    Err(StateError::broken(path, "it keeps changing while it is read"))
}

const READ_ATTEMPTS: usize = 4;

fn check_file(file: &File, path: &Path, care: Care) -> Result<(), StateError> {
    let metadata = file.metadata().map_err(|error| StateError::io("look at", path, error))?;
    let refuse = |what: &str| Err(StateError::unsafe_file(path, what));
    if !metadata.is_file() {
        return refuse("it is not a regular file");
    }
    if metadata.uid() != process::effective_uid() {
        return refuse("it belongs to another user");
    }
    if metadata.nlink() != 1 {
        return refuse("it has a second name (hard link); copy it and put the copy there");
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match care {
        Care::Secret => refuse("others may read or write it; make a new secret and chmod it to 600"),
        Care::Document if mode & 0o022 != 0 => {
            refuse("others may have changed what it says; look through it, then chmod it to 600")
        }
        Care::Document => {
            file.set_permissions(Permissions::from_mode(FILE_MODE))
                .map_err(|error| StateError::io("chmod", path, error))?;
            crate::log!("state", "{} had mode {mode:o}; set to 600", path.display());
            Ok(())
        }
        Care::Inspect if mode & 0o022 != 0 => refuse("others may write it; chmod it to 600"),
        Care::Inspect => Ok(()),
    }
}

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const STICKY: u32 = 0o1000;

/// False if the directory of `path` does not exist.
fn parent_is_safe(path: &Path) -> Result<bool, StateError> {
    let parent = parent_of(path)?;
    let metadata = match parent.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StateError::io("look at", parent, error)),
    };
    let refuse = |what: &str| Err(StateError::unsafe_file(parent, what));
    if !metadata.is_dir() {
        return refuse("it is not a directory (links are not followed here)");
    }
    // Root may own a directory that an owner's config lies in; root can do anything anyway.
    if metadata.uid() != process::effective_uid() && metadata.uid() != 0 {
        return refuse("it belongs to another user");
    }
    // In a sticky directory others cannot replace a file of ours.
    if metadata.mode() & 0o022 != 0 && metadata.mode() & STICKY == 0 {
        return refuse("others may write in it; chmod it to 700");
    }
    Ok(true)
}

fn parent_of(path: &Path) -> Result<&Path, StateError> {
    path.parent().ok_or_else(|| StateError::unsafe_file(path, "it has no directory"))
}

/// Creates the directory of `path` where it is missing, and checks it.
pub(super) fn ensure_parent(path: &Path) -> Result<(), StateError> {
    let parent = parent_of(path)?;
    create_directory(parent)?;
    parent_is_safe(path).map(|_| ())
}

fn create_directory(directory: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|error| StateError::io("create", directory, error))
}

/// Creates `directory` (and what is missing above it) with mode 0700, or checks that it is ours
/// and repairs its mode.
///
/// # Errors
/// Not a directory, a link, another owner, or the system refused.
pub fn secure_directory(directory: &Path) -> Result<(), StateError> {
    let failed = |doing| move |error| StateError::io(doing, directory, error);
    create_directory(directory)?;
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_DIRECTORY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(directory).map_err(failed("open"))?;
    let metadata = opened.metadata().map_err(failed("look at"))?;
    if metadata.uid() != process::effective_uid() {
        return Err(StateError::unsafe_file(directory, "it belongs to another user"));
    }
    let mode = metadata.mode() & 0o777;
    if mode != DIRECTORY_MODE {
        opened.set_permissions(Permissions::from_mode(DIRECTORY_MODE)).map_err(failed("chmod"))?;
        crate::log!("state", "{} had mode {mode:o}; set to 700", directory.display());
    }
    Ok(())
}

/// Replaces the locked document as a whole: a reader sees the old bytes or the new ones, also
/// after a power failure.
///
/// # Errors
/// Too large to be read again, or the system refused; the old bytes are still there and the temporary file is gone.
pub fn replace(lock: &DocumentLock, bytes: &[u8]) -> Result<(), StateError> {
    let path = lock.document();
    if bytes.len() as u64 > limits::DOCUMENT_BYTES {
        // Written, it could never be read again.
        let why = format!("it would be larger than {} bytes; remove what is not used any more", limits::DOCUMENT_BYTES);
        return Err(StateError::io("write", path, std::io::Error::new(ErrorKind::FileTooLarge, why)));
    }
    let parent = parent_of(path)?;
    remove_leftovers(path, parent);
    let temporary = parent.join(temporary_name(path));
    let written = write_new(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|error| StateError::io("replace", path, error)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    // Some file systems cannot sync a directory; the rename stands nevertheless.
    let _ = File::open(parent).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Removes the locked document, and its lock with it.
///
/// # Errors
/// The system refused.
pub fn remove(lock: DocumentLock) -> Result<(), StateError> {
    for path in [lock.document(), &lock.path()] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(StateError::io("remove", path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let failed = |error| StateError::io("write", path, error);
    let mut file = open_private(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Removes a file, if it is there, without the right to write it: for what nobody changes in parts.
///
/// # Errors
/// The system refused.
pub fn discard(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StateError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Opens a file of ours, created with mode 0600 whatever the umask is.
pub(super) fn open_private(path: &Path, options: &mut OpenOptions) -> Result<File, StateError> {
    let file = options
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| StateError::io("create", path, error))?;
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(|error| StateError::io("chmod", path, error))?;
    Ok(file)
}

/// A hidden file beside `path`: `.<name><suffix>`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(format!(".{}{suffix}", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn temporary_name(path: &Path) -> PathBuf {
    beside(path, &format!(".{}{TEMPORARY}", HEXLOWER.encode(&random::bytes::<8>())))
}

const TEMPORARY: &str = ".tmp";

/// What a writer that was killed left behind; we hold the document's lock, so nobody writes there.
fn remove_leftovers(path: &Path, parent: &Path) {
    let prefix = beside(path, ".");
    let prefix = prefix.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let Ok(entries) = parent.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(TEMPORARY)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
