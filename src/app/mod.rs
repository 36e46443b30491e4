//! The one instance that asks the person and runs commands.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`queue`] | brings the questions of all requesters to one person, one at a time |
//! | [`exec_host`] | the exec socket's server: who may ask, what was asked, the answer |
//! | [`runner`] | judges a command by the approvals document, has it asked, runs it |
//! | [`operator`] | asks the operators of the gateway instead of a desktop |
//! | [`gateway_approvals`] | is an operator itself: puts what waits at the gateway before the person |
//! | [`gateway_question`] | what a gateway's approval record says, in words |
//! | [`pairing`] | puts what wants in at the gateway before the person |
//! | [`control`] | the control socket: looks and tightens, for `mac-debug`; [`control_envelope`] for the official command line |
//! | [`peers`] | who may speak on those sockets |
//! | [`status`] | what the app tells of itself |
//! | [`deep_link`] | `openclaw://` links, which the person confirms |
//! | [`canvas_links`] | links out of the canvas, which the person confirms |
//! | [`bridge_keeper`] | the bridge, as long as its owner wants it |
//! | [`menu`] | what the menu shows, and what becomes of a choice |
//! | [`switches`] | the menu's: how strict, and whether anything runs |
//! | [`supervisor`] | `openclaw app`: all of this, and in local mode gateway and node |
//!
//! [`AppHost`] puts them together; whoever starts it holds the single-instance lock.

use crate::desktop::Desktop;
use crate::desktop::automation::{self, Automation};
use crate::desktop::notify::Notifications;
use crate::exec::analysis::Host;
use crate::exec::approval::{Answer, Guards, Person, Question};
use crate::exec::document::{DocumentPolicy, Settings};
use crate::log;
use crate::state::approvals::ApprovalsDocument;
use crate::state::pause;
use crate::state::{StateDir, StateError};
use crate::sys::process;
use crate::sys::wake::Wake;
use crate::transport::connections::Listening;
use crate::transport::lease::{LeaseError, SocketLease};
use control::Controls;
use control_envelope::Gate;
use deep_link::DeepLinks;
use exec_host::{ExecHost, Services};
use peers::Peers;
use queue::ApprovalQueue;
use runner::CommandRunner;
use status::About;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub mod canvas_links;
pub mod bridge_keeper;
pub mod control;
pub mod control_envelope;
pub mod deep_link;
pub mod exec_host;
pub mod gateway_approvals;
pub mod gateway_question;
pub mod menu;
pub mod operator;
pub mod peers;
pub mod pairing;
pub mod queue;
pub mod runner;
pub mod status;
pub mod supervisor;
pub mod switches;

/// Why the app does not serve.
#[derive(Debug)]
pub enum AppError {
    /// A socket cannot be had.
    Socket(LeaseError),
    /// No descriptors or threads are left.
    Io(io::Error),
    /// State on disk.
    State(StateError),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "a socket of the app cannot be opened: {error}"),
            Self::Io(error) => write!(f, "a socket of the app cannot be served: {error}"),
            Self::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AppError {}

/// Exec and control socket with everything behind them, until they are stopped or dropped.
pub struct AppHost {
    exec_host: ExecHost,
    _control: Listening,
    controls: Arc<Controls>,
    person: Arc<dyn Person>,
    notifications: Arc<Notifications>,
    automation: Arc<dyn Automation>,
}

impl AppHost {
    /// Serves the sockets of `state`, asking on `desktop`. The approvals document is created
    /// with a socket token if there is none. `about` is what else there is to tell of it.
    ///
    /// # Errors
    /// See [`AppError`]; nothing is served then.
    pub fn start(
        state: &StateDir,
        desktop: Box<dyn Desktop>,
        settings: Settings,
        about: Arc<About>,
    ) -> Result<Self, AppError> {
        let document = Arc::new(ApprovalsDocument::new(state));
        if let Err(error) = document.ensure().and_then(|()| document.socket_token().map(drop)) {
            // It denies everything and is never overwritten (A139). The app still runs, so that it
            // works again as soon as the owner has repaired the file.
            log!("app", "every command is refused until this is repaired: {error}");
        }
        // Our own node relays for callers whom this socket cannot see, so an agent's name is a claim
        // here too and only ever tightens (stricter than the catalogue's row A55).
        let policy = DocumentPolicy { document: Arc::clone(&document), trusts_agent: false, settings };
        let host = Host::of_this_process(process::found_open_files());
        let guards = Arc::new(Guards::new(state));
        log!("app", "commands are fenced by: {}", guards.fencer.mechanism());
        let (permissions, notifications) = (desktop.permissions(), desktop.notifications());
        let queue = Arc::new(ApprovalQueue::new(desktop));
        let person: Arc<dyn Person> = Arc::new(UnlessPaused {
            document: Arc::clone(&document),
            queue: Arc::clone(&queue),
            notifications: Arc::clone(&notifications),
        });
        let runner =
            CommandRunner::new(host, policy, Arc::clone(&person), Arc::clone(&guards), Arc::clone(&permissions));
        let owner = Arc::clone(&document);
        let peers = Arc::new(Peers::new(move || owner.requires_own_team()));
        let services = Services {
            token: Box::new(move || document.socket_token().map_err(|error| error.to_string())),
            runner: Box::new(runner),
            person: Arc::clone(&person),
            peers: Arc::clone(&peers),
        };
        let gate = Gate::new(state).map_err(AppError::State)?;
        let links = DeepLinks::new(state, Arc::clone(&person), Arc::clone(&about));
        let controls =
            Arc::new(Controls { guards, queue, permissions, state: state.clone(), about, peers, gate, links });
        let lease = |path: &Path| SocketLease::bind(path).map_err(AppError::Socket);
        // Before anything can be granted, its end can be had.
        let control = control::start(lease(&state.control_socket())?, Arc::clone(&controls)).map_err(AppError::Io)?;
        let exec_host = ExecHost::start(lease(&state.exec_socket())?, services).map_err(AppError::Io)?;
        let automation = automation::open();
        Ok(Self { exec_host, _control: control, controls, person, notifications, automation })
    }

    /// The approval queue, for what else has to be asked here.
    pub fn person(&self) -> &Arc<dyn Person> {
        &self.person
    }

    /// What shows notifications here.
    pub fn notifications(&self) -> &Arc<Notifications> {
        &self.notifications
    }

    /// The desktop, for the bridge and for `computer.act`.
    pub fn automation(&self) -> &Arc<dyn Automation> {
        &self.automation
    }

    /// What there is to look at and to tighten, for the menu.
    pub fn controls(&self) -> &Arc<Controls> {
        &self.controls
    }

    /// Withdraws prompts, kills commands, answers what can be answered, unlinks the sockets.
    pub fn stop(self) {
        self.exec_host.stop();
    }
}

/// Asks nobody while everything is paused, and believes no answer that came meanwhile: whoever only
/// asks would run the command itself.
struct UnlessPaused {
    document: Arc<ApprovalsDocument>,
    queue: Arc<ApprovalQueue>,
    notifications: Arc<Notifications>,
}

impl Person for UnlessPaused {
    fn ask(&self, question: &Question, withdrawn: &Wake) -> Answer {
        let paused = || self.document.is_paused().then(|| Answer::Nobody(pause::SENTENCE.to_owned()));
        paused().unwrap_or_else(|| {
            self.notifications.announce_question();
            let answer = self.queue.ask(question, withdrawn);
            paused().unwrap_or(answer)
        })
    }
}

#[cfg(test)]
mod tests;
