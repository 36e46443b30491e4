//! PeekabooBridge: seeing and driving this machine's desktop through the one app that holds the
//! permissions, for programs that an allowed team has signed. Source: spec peekaboo-bridge.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`host`] | one request a connection: who asks, what, may they, in time; the answer |
//! | [`operations`] | what each operation needs and does, on any [`Automation`](crate::desktop::automation::Automation) |
//! | [`targets`] | which program, window or place is meant |
//! | [`keys`] | shortcuts in words, and ways of the pointer |
//! | [`snapshots`] | what a client saw, for clicks that come later |
//! | [`client`] | the other end: finds a host and asks it |

use crate::log;
use crate::sys::process::effective_uid;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

pub mod client;
pub mod host;
pub mod keys;
pub mod operations;
pub mod snapshots;
pub mod targets;

/// The file name of every bridge socket. Source: spec §1
const SOCKET: &str = "bridge.sock";
/// Names that OpenClaw had; programs of those days look for its socket there. Source: spec §1
const LEGACY: [&str; 3] = ["clawdbot", "clawdis", "moltbot"];

/// Where programs keep what is theirs.
fn support(home: &Path) -> PathBuf {
    if cfg!(target_os = "macos") { home.join("Library/Application Support") } else { home.join(".local/share") }
}

/// The socket of the app of this name.
pub fn socket_of(app: &str, home: &Path) -> PathBuf {
    support(home).join(app).join(SOCKET)
}

/// Makes the legacy names lead to our socket: only in directories that are ours alone, and only where
/// nothing lies, or a link that leads there already (A134).
pub fn link_legacy_names(socket: &Path, home: &Path) {
    for name in LEGACY {
        let link = socket_of(name, home);
        if fs::read_link(&link).is_ok_and(|target| target == socket) {
            continue;
        }
        // Making a link fails when anything lies there.
        if let Err(error) = own_directory(link.parent()).and_then(|()| symlink(socket, &link)) {
            log!("bridge", "{} was left as it is: {error}", link.display());
        }
    }
}

/// Makes a directory of ours, or checks that it is one into which nobody else can put anything.
fn own_directory(directory: Option<&Path>) -> io::Result<()> {
    let directory = directory.ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    if found.is_dir() && found.uid() == effective_uid() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("its directory is not only ours"))
}

/// Removes them again, where they still lead to our socket.
pub fn unlink_legacy_names(socket: &Path, home: &Path) {
    for link in LEGACY.map(|name| socket_of(name, home)) {
        if fs::read_link(&link).is_ok_and(|target| target == socket) {
            let _ = fs::remove_file(link);
        }
    }
}

/// The variable by which a host lets unsigned programs of its own user in. Source: spec §4
pub const UNSIGNED_VARIABLE: &str = "PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS";

/// Whether unsigned programs of our own user may come in: in debug builds, when the variable is exactly
/// `1`. A release build says that it ignores it (A128).
pub fn lets_unsigned_in(variable: Option<&OsStr>) -> bool {
    let asked = variable.is_some_and(|value| value == "1");
    if asked && cfg!(debug_assertions) {
        log!("bridge", "DANGER: {UNSIGNED_VARIABLE}=1, so EVERY program of this user may use the desktop through us");
    } else if variable.is_some() {
        log!("bridge", "{UNSIGNED_VARIABLE} is ignored: it works in debug builds only, and only as 1");
    }
    asked && cfg!(debug_assertions)
}
