//! The bridge in this app, served exactly as long as its owner wants that. The switches are files that others change, so
//! they are looked at once a second. Source: spec mac-app (3.7), peekaboo-bridge §4; case A131.

use crate::bridge::{self, Serving};
use crate::desktop::automation::Automation;
use crate::exec::approval::Guards;
use crate::limits;
use crate::log;
use crate::protocol::peekaboo::types::HostKind;
use crate::state::audit;
use crate::state::switches::{Switch, Switches};
use crate::state::{StateDir, pause};
use crate::sys::poll::{Interest, deadline_in, wait_one};
use crate::sys::wake::Wake;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The app that permissions are granted to, as System Settings call it.
const HOLDER: &str = "OpenClaw.app";

/// How the bridge stands, for others; `off` until it was looked at first.
#[derive(Debug, Default)]
pub struct BridgeStanding(Mutex<String>);

impl BridgeStanding {
    /// In words: `serving` and where, or `off` and why.
    pub fn look(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if words.is_empty() { "off".to_owned() } else { words.clone() }
    }

    fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
}

/// What the bridge depends on.
pub struct Wanted {
    /// Where the owner's switches lie.
    pub state: StateDir,
    /// `--bridge`: as if its own switch were on.
    pub in_this_run: bool,
}

impl Wanted {
    /// # Errors
    /// Why not, for `status`.
    fn look(&self) -> Result<(), String> {
        let switches = Switches::new(&self.state);
        if !self.in_this_run && !switches.is_on(Switch::Bridge) {
            return Err("off".to_owned());
        }
        // It controls the computer, so it follows that switch too (A131).
        if !switches.is_on(Switch::ComputerControl) {
            return Err(format!("off: the switch {} is off", Switch::ComputerControl.word()));
        }
        if pause::is_on(&self.state.paused()) { Err("off: everything is paused".to_owned()) } else { Ok(()) }
    }
}

/// Keeps the bridge; dropping it ends the bridge and its connections.
pub struct BridgeKeeper {
    stop: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl BridgeKeeper {
    /// Serves `automation` whenever that is wanted, and says in `standing` how that goes.
    ///
    /// # Errors
    /// No threads or descriptors are left.
    pub fn start(
        wanted: Wanted,
        automation: Arc<dyn Automation>,
        guards: Arc<Guards>,
        standing: Arc<BridgeStanding>,
    ) -> io::Result<Self> {
        let stop = Arc::new(Wake::new()?);
        let stopped = Arc::clone(&stop);
        let keep = move || {
            let mut bridge = Bridge { automation, guards, serving: None, is_noted: false };
            while !stopped.is_fired() {
                let words = match wanted.look() {
                    Ok(()) => bridge.serve(&wanted.state),
                    Err(why) => bridge.end(why),
                };
                // That it serves says the bridge itself.
                if bridge.serving.is_none() && words != standing.look() {
                    log!("bridge", "{words}");
                }
                standing.set(words);
                let _ = wait_one(stopped.fd(), Interest::Readable, deadline_in(limits::SWITCHES_LOOK));
            }
            bridge.end(String::new());
        };
        let thread = thread::Builder::new().name("bridge".into()).stack_size(limits::PEER_STACK_BYTES).spawn(keep)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for BridgeKeeper {
    fn drop(&mut self) {
        self.stop.fire();
        self.thread.take().map(JoinHandle::join);
    }
}

struct Bridge {
    automation: Arc<dyn Automation>,
    guards: Arc<Guards>,
    serving: Option<Serving>,
    /// The audit log says that it is on.
    is_noted: bool,
}

impl Bridge {
    /// Serves, if it does not yet. Nothing is served that could not be noted before.
    fn serve(&mut self, state: &StateDir) -> String {
        if let Some(serving) = &self.serving {
            return format!("serving {}", serving.socket().display());
        }
        match self.open(state) {
            Ok(serving) => format!("serving {}", self.serving.insert(serving).socket().display()),
            Err(error) => format!("off: {error}"),
        }
    }

    fn open(&mut self, state: &StateDir) -> Result<Serving, String> {
        let home = std::env::home_dir().ok_or("HOME is not set")?;
        if !self.is_noted {
            self.note("the bridge is on: programs signed by its teams may see and control this desktop")?;
            self.is_noted = true;
        }
        bridge::serve(bridge::own_socket(state, &home), home, Arc::clone(&self.automation), HostKind::App, HOLDER)
    }

    /// Ends it, if it is served; `why` for others.
    fn end(&mut self, why: String) -> String {
        self.serving = None;
        if std::mem::take(&mut self.is_noted)
            && let Err(error) = self.note("the bridge is off")
        {
            log!("bridge", "its end was not noted: {error}");
        }
        why
    }

    fn note(&self, what: &str) -> Result<(), String> {
        let by = "the owner's switches";
        let requester = "the owner, at this machine";
        let edit = audit::Decision { requester, command: what, by, ..audit::Decision::default() };
        self.guards.audit.edit(&edit).map_err(|error| error.to_string())
    }
}
