//! `openclaw app uninstall`: the launch agent or unit, what an app leaves in the state directory when it is killed, and
//! at the owner's word everything that this program keeps.

use super::service::Order;
use super::{failed, locate, say};
use crate::protocol::text;
use crate::service::{Role, ServiceError, Services, log_file, output_file};
use crate::state::{Environment, InstanceLock, StateDir, StateError, files};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Read, Write as _};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How much goes.
pub(super) struct Extent {
    /// The services of gateway and node too.
    pub all: bool,
    /// And all documents of ours.
    pub state: bool,
    /// That was confirmed already.
    pub yes: bool,
}

/// Removes it and says what was removed.
pub(super) fn run(order: Order, extent: &Extent, environment: Environment) -> ExitCode {
    match done(order, extent, environment) {
        Ok(text) => say(&text),
        Err(error) => failed("app", &*error),
    }
}

fn done(order: Order, extent: &Extent, mut environment: Environment) -> Result<String, Box<dyn Error>> {
    let state = locate(order.state_dir, &mut environment)?;
    let home = environment.home.as_deref().filter(|home| home.is_absolute());
    let services = Services::of(home.ok_or("HOME is not set to an absolute path")?, state.clone());
    if extent.state && !extent.yes {
        confirm(&state)?;
    }
    let mut out = String::new();
    let roles: &[Role] = if extent.all || extent.state { &Role::ALL } else { &[Role::App] };
    for role in roles {
        let came = match services.uninstall(*role) {
            Ok(true) => "is no service any more".to_owned(),
            Ok(false) => "was not installed as a service; nothing to do".to_owned(),
            Err(error @ ServiceError::Foreign(_)) => format!("stays: {error}"),
            Err(error) => return Err(error.into()),
        };
        let _ = writeln!(out, "{} {came}", role.word());
    }
    let mut is_free = true;
    let of_app = [state.exec_socket(), state.control_socket(), state.bridge_socket()];
    for (lock, sockets) in [(state.app_lock(), &of_app[..]), (state.gateway_lock(), &[state.gateway_socket()])] {
        if let Err(error) = remove_leftovers(&lock, sockets) {
            is_free = false;
            let _ = writeln!(out, "what still runs keeps its sockets: {error}");
        }
    }
    if extent.state {
        if !is_free {
            return Err(format!("{}nothing was removed from the state directory: end what runs first", out).into());
        }
        remove_state(&state)?;
        let _ = writeln!(
            out,
            "removed our documents in {}; openclaw.json and what is not ours stay",
            state.root().display()
        );
    }
    if order.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&services.status(Role::App))?));
    }
    Ok(out.lines().map(|line| format!("{}\n", text::visible(line))).collect())
}

/// Asks at the terminal; nowhere else is an answer a person's.
fn confirm(state: &StateDir) -> Result<(), Box<dyn Error>> {
    let refused = "nothing was removed; say --yes, or type yes at a terminal";
    if !std::io::stdin().is_terminal() {
        return Err(refused.into());
    }
    let question = format!(
        "This removes the rules, keys, pairings and the audit log in {}. Type yes to go on: ",
        text::visible(&state.root().to_string_lossy())
    );
    std::io::stderr().write_all(question.as_bytes())?;
    let mut line = String::new();
    std::io::stdin().lock().take(16).read_line(&mut line)?;
    if line.trim() == "yes" { Ok(()) } else { Err(refused.into()) }
}

/// Sockets that somebody who was killed left behind. Whoever runs holds the lock.
fn remove_leftovers(lock: &Path, sockets: &[PathBuf]) -> Result<(), StateError> {
    if lock.symlink_metadata().is_err() {
        return Ok(());
    }
    let held = InstanceLock::take(lock)?;
    for socket in sockets {
        if socket.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
            files::discard(socket)?;
        }
    }
    files::discard(lock)?;
    drop(held);
    Ok(())
}

fn remove_state(state: &StateDir) -> Result<(), StateError> {
    state.remove_documents()?;
    // The locks of their leases, which outlive every holder.
    for socket in [state.exec_socket(), state.control_socket(), state.bridge_socket(), state.gateway_socket()] {
        files::discard(&socket.with_extension("sock.lock"))?;
    }
    for role in Role::ALL {
        for log in [log_file(state, role), output_file(state, role)] {
            files::discard(&log.with_extension("1.log"))?;
            files::discard(&log)?;
        }
    }
    // Each only if it is empty now.
    for directory in [state.logs(), state.documents().to_owned(), state.root().to_owned()] {
        let _ = std::fs::remove_dir(directory);
    }
    Ok(())
}
