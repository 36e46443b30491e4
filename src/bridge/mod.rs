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

use crate::desktop::automation::Automation;
use crate::log;
use crate::protocol::peekaboo::types::HostKind;
use crate::state::StateDir;
use crate::state::files::secure_directory;
use crate::sys::process::effective_uid;
use crate::transport::code_identity;
use crate::transport::connections::Listening;
use crate::transport::lease::{SocketLease, check_length};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// The socket of the Mac app of this name.
pub fn socket_of(app: &str, home: &Path) -> PathBuf {
    home.join("Library/Application Support").join(app).join(SOCKET)
}

/// Where our own host serves: where its clients look on macOS, elsewhere beside our other sockets.
pub fn own_socket(state: &StateDir, home: &Path) -> PathBuf {
    if cfg!(target_os = "macos") { socket_of("OpenClaw", home) } else { state.bridge_socket() }
}

/// A host that serves; dropping it ends it, and with it the legacy names.
pub struct Serving {
    _listening: Listening,
    socket: PathBuf,
    home: PathBuf,
}

/// Serves `socket` from now on: what the app calls while the bridge is switched on, and
/// `openclaw bridge serve`. `kind` says what this process is, `holder` which app a person grants
/// permissions to.
///
/// # Errors
/// A sentence: the socket cannot be had.
pub fn serve(
    socket: PathBuf,
    home: PathBuf,
    automation: Arc<dyn Automation>,
    kind: HostKind,
    holder: &str,
) -> Result<Serving, String> {
    let said = |error: &dyn std::fmt::Display| format!("the bridge cannot be opened: {error}");
    let directory = socket.parent().ok_or_else(|| said(&"its socket has no directory"))?;
    check_length(&socket).map_err(|error| said(&error))?;
    secure_directory(directory).map_err(|error| said(&error))?;
    let lease = SocketLease::bind(&socket).map_err(|error| said(&error))?;
    let lets_unsigned_in = lets_unsigned_in(std::env::var_os(UNSIGNED_VARIABLE).as_deref());
    if !cfg!(target_os = "macos") && !lets_unsigned_in {
        log!("bridge", "programs have no signatures on this system, so every client will be refused");
    }
    let options = host::Options {
        automation,
        signers: host::Signers::default(),
        identify: Box::new(code_identity::of_peer),
        lets_unsigned_in,
        kind,
        holder: holder.to_owned(),
    };
    let listening = host::start(lease, options).map_err(|error| said(&error))?;
    if cfg!(target_os = "macos") {
        link_legacy_names(&socket, &home);
    }
    log!("bridge", "serving {}", socket.display());
    Ok(Serving { _listening: listening, socket, home })
}

impl Serving {
    /// Where it serves.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        unlink_legacy_names(&self.socket, &self.home);
    }
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
