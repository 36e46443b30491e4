//! A Unix socket of ours: in a directory that only we can enter, 0600 from its first instant, a
//! live one never replaced, a dead one replaced, and only our own unlinked again.
//! Cases A114, A115, A122, A137, H11.

use crate::limits;
use crate::sys::{process, socket};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why there is no socket.
#[derive(Debug)]
pub enum LeaseError {
    /// The path does not fit into the kernel's structure.
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Somebody serves there.
    Live(PathBuf),
    /// Something that is not a socket of ours lies there.
    Foreign(PathBuf, &'static str),
    /// A directory on the way is open to others.
    Directory(PathBuf, &'static str),
    /// The system's refusal.
    Io(PathBuf, io::Error),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { path, bytes } => write!(
                f,
                "the socket path {} has {bytes} bytes and the system allows {}; set OPENCLAW_STATE_DIR to a shorter directory",
                path.display(),
                limits::SUN_PATH_BYTES
            ),
            Self::Live(path) => write!(f, "another process serves {}; stop it first", path.display()),
            Self::Foreign(path, what) => {
                write!(f, "{} is {what}; move it away, we do not touch it", path.display())
            }
            Self::Directory(path, what) => write!(
                f,
                "{} {what}, so others could replace our socket; fix it, or set OPENCLAW_STATE_DIR to another directory",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LeaseError {}

/// A bound socket that is unlinked when dropped, if it is still the one that we made.
#[derive(Debug)]
pub struct SocketLease {
    listener: UnixListener,
    path: PathBuf,
    made: (u64, u64),
}

impl SocketLease {
    /// Binds `path`. The directory is created 0700 when missing.
    ///
    /// # Errors
    /// See [`LeaseError`]; nothing is changed then.
    pub fn bind(path: &Path) -> Result<Self, LeaseError> {
        let io = |error| LeaseError::Io(path.to_path_buf(), error);
        check_length(path)?;
        let directory = path.parent().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
        private_directory(directory)?;
        // One starter at a time looks, removes and binds; the lock file is never removed, so that
        // two starters never lock two different files of the same name.
        let lock_path = path.with_extension("sock.lock");
        let lock = open_lock(&lock_path).map_err(|error| LeaseError::Io(lock_path.clone(), error))?;
        lock.lock().map_err(|error| LeaseError::Io(lock_path, error))?;
        remove_dead(path)?;
        // The umask is 077 since the start of the process and the directory is 0700: the socket
        // is never wider than 0600, not even between bind and the check below.
        let listener = UnixListener::bind(path).map_err(io)?;
        let made = fs::symlink_metadata(path).map_err(io)?;
        if made.permissions().mode() & 0o177 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        }
        Ok(Self { listener, path: path.to_path_buf(), made: (made.dev(), made.ino()) })
    }

    /// The listener.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketLease {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses a path that the kernel would cut (A122).
///
/// # Errors
/// [`LeaseError::TooLong`].
pub fn check_length(path: &Path) -> Result<(), LeaseError> {
    let bytes = path.as_os_str().len();
    if bytes > limits::SUN_PATH_BYTES { Err(LeaseError::TooLong { path: path.to_path_buf(), bytes }) } else { Ok(()) }
}

fn open_lock(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(socket::O_NOFOLLOW)
        .open(path)
}

/// Creates the directory 0700 if missing; it and every directory above it must be safe: ours or
/// root's, and not writable by others unless sticky (H11).
fn private_directory(directory: &Path) -> Result<(), LeaseError> {
    let io = |error| LeaseError::Io(directory.to_path_buf(), error);
    if !directory.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    }
    let real = fs::canonicalize(directory).map_err(io)?;
    let own = fs::metadata(&real).map_err(io)?;
    let us = process::effective_uid();
    if own.uid() != us {
        return Err(LeaseError::Directory(real, "belongs to another user"));
    }
    if own.permissions().mode() & 0o077 != 0 {
        return Err(LeaseError::Directory(real, "can be entered by other users (mode is not 0700)"));
    }
    for above in real.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(io)?;
        if !safe_ancestor(&metadata, us) {
            return Err(LeaseError::Directory(above.to_path_buf(), "can be changed by other users"));
        }
    }
    Ok(())
}

fn safe_ancestor(metadata: &Metadata, us: u32) -> bool {
    let mode = metadata.permissions().mode();
    let owner_is_safe = metadata.uid() == us || metadata.uid() == 0;
    owner_is_safe && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

/// Removes a dead socket of ours; leaves everything else alone.
fn remove_dead(path: &Path) -> Result<(), LeaseError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LeaseError::Io(path.to_path_buf(), error)),
    };
    let foreign = |what| LeaseError::Foreign(path.to_path_buf(), what);
    if found.file_type().is_symlink() {
        return Err(foreign("a symbolic link"));
    }
    if !found.file_type().is_socket() {
        return Err(foreign("not a socket"));
    }
    if found.uid() != process::effective_uid() {
        return Err(foreign("a socket of another user"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(LeaseError::Live(path.to_path_buf())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| LeaseError::Io(path.to_path_buf(), error))
        }
        // A full listen queue, or anything else that is not "nobody there": do not replace it.
        Err(_) => Err(LeaseError::Live(path.to_path_buf())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("oc-lease-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        directory
    }

    #[test]
    fn sec_a115_only_our_own_dead_socket_is_replaced() {
        let directory = scratch("a115");
        let path = directory.join("s.sock");
        let first = SocketLease::bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(SocketLease::bind(&path), Err(LeaseError::Live(_))));
        // A dead one: the file stays when the process dies without dropping the lease.
        let mut dead = first;
        dead.made = (0, 0);
        drop(dead);
        assert!(path.exists());
        let second = SocketLease::bind(&path).unwrap();
        // Somebody replaced the file: it is not ours any more, so it stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(SocketLease::bind(&path), Err(LeaseError::Foreign(_, "not a socket"))));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(directory.join("victim"), &path).unwrap();
        assert!(matches!(SocketLease::bind(&path), Err(LeaseError::Foreign(_, "a symbolic link"))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn sec_h11_directories_that_others_can_change_are_refused() {
        let directory = scratch("h11");
        let open = directory.join("open");
        fs::create_dir(&open).unwrap();
        let inner = open.join("inner");
        fs::DirBuilder::new().mode(0o700).create(&inner).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(SocketLease::bind(&inner.join("s")), Err(LeaseError::Directory(..))));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(SocketLease::bind(&inner.join("s")).is_ok());
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(SocketLease::bind(&inner.join("s")), Err(LeaseError::Directory(..))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn sec_a122_a_long_path_is_refused_before_anything_is_made() {
        let directory = scratch("a122");
        let path = directory.join("x".repeat(120)).join("s.sock");
        let error = SocketLease::bind(&path).unwrap_err();
        assert!(error.to_string().contains("OPENCLAW_STATE_DIR"), "{error}");
        assert!(!path.parent().unwrap().exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
