//! The one instance that asks the person and runs commands.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`queue`] | brings the questions of all requesters to one person, one at a time |
//! | [`exec_host`] | the exec socket's server: who may ask, what was asked, the answer |
//! | [`runner`] | judges a command by the approvals document, has it asked, runs it |
//! | [`connections`] | counts the socket's connections and ends them |
//! | [`supervisor`] | `openclaw app`: all of this, and in local mode gateway and node |
//!
//! [`AppHost`] puts them together; whoever starts it holds the single-instance lock.

use crate::desktop::Desktop;
use crate::exec::analysis::Host;
use crate::exec::approval::Person;
use crate::exec::document::DocumentPolicy;
use crate::log;
use crate::state::StateDir;
use crate::state::approvals::ApprovalsDocument;
use crate::sys::process;
use crate::transport::lease::{LeaseError, SocketLease};
use exec_host::{ExecHost, Services};
use queue::ApprovalQueue;
use runner::CommandRunner;
use std::fmt;
use std::io;
use std::sync::Arc;

pub mod connections;
pub mod exec_host;
pub mod queue;
pub mod runner;
pub mod supervisor;

/// Why the app does not serve.
#[derive(Debug)]
pub enum AppError {
    /// The exec socket cannot be had.
    Socket(LeaseError),
    /// No descriptors or threads are left.
    Io(io::Error),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "the exec socket cannot be opened: {error}"),
            Self::Io(error) => write!(f, "the exec socket cannot be served: {error}"),
        }
    }
}

impl std::error::Error for AppError {}

/// The exec socket with everything behind it, until it is stopped or dropped.
pub struct AppHost {
    exec_host: ExecHost,
    person: Arc<dyn Person>,
}

impl AppHost {
    /// Serves the exec socket of `state`, asking on `desktop`. The approvals document is created
    /// with a socket token if there is none.
    ///
    /// # Errors
    /// See [`AppError`]; nothing is served then.
    pub fn start(state: &StateDir, desktop: Box<dyn Desktop>) -> Result<Self, AppError> {
        let document = Arc::new(ApprovalsDocument::new(state));
        if let Err(error) = document.ensure().and_then(|()| document.socket_token().map(drop)) {
            // It denies everything and is never overwritten (A139). The app still runs, so that it
            // works again as soon as the owner has repaired the file.
            log!("app", "every command is refused until this is repaired: {error}");
        }
        // Our own node relays for callers whom this socket cannot see, so an agent's name is a claim
        // here too and only ever tightens (stricter than the catalogue's row A55).
        let policy = DocumentPolicy { document: Arc::clone(&document), trusts_agent: false };
        let host = Host::of_this_process(process::found_open_files());
        let person: Arc<dyn Person> = Arc::new(ApprovalQueue::new(desktop));
        let services = Services {
            token: Box::new(move || document.socket_token().map_err(|error| error.to_string())),
            runner: Box::new(CommandRunner::new(host, policy, Arc::clone(&person))),
            person: Arc::clone(&person),
        };
        let lease = SocketLease::bind(&state.exec_socket()).map_err(AppError::Socket)?;
        Ok(Self { exec_host: ExecHost::start(lease, services).map_err(AppError::Io)?, person })
    }

    /// The approval queue, for what else has to be asked here.
    pub fn person(&self) -> &Arc<dyn Person> {
        &self.person
    }

    /// Withdraws prompts, kills commands, answers what can be answered, unlinks the socket.
    pub fn stop(self) {
        self.exec_host.stop();
    }
}

#[cfg(test)]
mod tests;
