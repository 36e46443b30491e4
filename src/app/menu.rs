//! What the menu shows, and what becomes of a choice in it. Source: spec mac-app (3.5).

use super::control::Controls;
use super::status::{About, Mode};
use crate::desktop::appkit;
use crate::desktop::menu::{ExecMode, Menu, MenuAction, MenuState, Permission};
use crate::desktop::permissions::{Capability, Grant};
use crate::limits;
use crate::log;
use crate::node::policy_edits::{Caller, PolicyEditor};
use crate::protocol::policy::{Ask, Security};
use crate::service::{Role, log_file};
use crate::state::approvals::EVERY_AGENT;
use crate::state::approvals::wire::{Form, WHOLE};
use crate::state::pause;
use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::thread;

/// Where the menu's words come from and where choices go.
pub struct Sources {
    /// What there is to look at and to tighten.
    pub controls: Arc<Controls>,
    /// The policy, and who confirms what loosens it.
    pub editor: PolicyEditor,
    /// The nodes of the gateway, in words.
    pub nodes: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Keeps `menu` as things are, and carries out what is chosen, until the process ends.
///
/// # Errors
/// No threads are left.
pub fn start(menu: Arc<dyn Menu>, sources: Sources) -> io::Result<()> {
    let sources = Arc::new(sources);
    let follow = move || {
        let mut shown = None;
        loop {
            let state = sources.look();
            if shown.as_ref() != Some(&state) {
                menu.show(&state);
                shown = Some(state);
            }
            if let Some(action) = menu.next(limits::MENU_PAUSE) {
                Arc::clone(&sources).carry_out(action, Arc::clone(&menu));
            }
        }
    };
    spawn("menu", follow)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(limits::PEER_STACK_BYTES).spawn(work).map(drop)
}

impl Sources {
    fn look(&self) -> MenuState {
        let Controls { guards, queue, permissions, state, about, .. } = &*self.controls;
        let policy = self.editor.document.effective(None, false);
        let (node, (mut lines, is_lost)) = (about.node.look(), connection(about));
        let stands = Capability::all().map(|capability| (capability, permissions.status(capability)));
        let permissions: Vec<Permission> = stands
            .filter(|(_, grant)| *grant != Grant::Unsupported)
            .map(|(capability, grant)| Permission { capability, is_granted: grant == Grant::Granted })
            .collect();
        if !permissions.is_empty() {
            let granted = permissions.iter().filter(|permission| permission.is_granted).count();
            lines.push(format!("Permissions: {granted} of {}", permissions.len()));
        }
        let bridge = if state.bridge_socket().exists() { "on" } else { "off" };
        lines.push(format!("Bridge: {bridge}"));
        lines.extend(queue.away().map(|away| format!("Questions wait: {}", away.word())));
        lines.extend(
            policy.broken.as_ref().map(|_| "Everything is denied: the approvals document is broken".to_owned()),
        );
        MenuState {
            lines,
            is_troubled: is_lost || policy.broken.is_some(),
            waiting: queue.waiting(),
            is_paused: pause::is_on(&state.paused()),
            mode: policy.broken.is_none().then(|| mode(policy.security, policy.ask)),
            grants: guards.grants.list().len(),
            nodes: if node.connected { (self.nodes)() } else { Vec::new() },
            permissions,
            log: log_file(state, Role::App).to_string_lossy().into_owned(),
        }
    }

    /// What may wait for somebody gets a thread of its own: the menu goes on.
    fn carry_out(self: Arc<Self>, action: MenuAction, menu: Arc<dyn Menu>) {
        log!("app", "chosen in the menu: {action:?}");
        let carry_out = move || {
            if let Err(error) = self.perform(action) {
                log!("app", "that could not be done: {error}");
            }
            menu.look_again();
        };
        if let Err(error) = spawn("menu-action", carry_out) {
            log!("app", "that could not be done: {error}");
        }
    }

    fn perform(&self, action: MenuAction) -> Result<(), String> {
        let Controls { guards, permissions, state, .. } = &*self.controls;
        match action {
            // The desktop's own.
            MenuAction::ShowQuestion => Ok(()),
            MenuAction::SetPaused(true) => pause::pause(state).map_err(|error| error.to_string()),
            MenuAction::SetPaused(false) => pause::resume(state).map_err(|error| error.to_string()),
            MenuAction::SetMode(mode) => self.set_mode(mode),
            MenuAction::EndGrants => {
                guards.grants.revoke("all");
                Ok(())
            }
            MenuAction::RequestPermission(capability) => match permissions.request(capability) {
                Grant::NotDetermined | Grant::Granted => Ok(()),
                // The system asks only once.
                _ => open(&capability.settings_url()),
            },
            MenuAction::OpenSettings(capability) => open(&capability.settings_url()),
            MenuAction::ShowLog => open(&log_file(state, Role::App).to_string_lossy()),
            MenuAction::Quit => {
                Termination::request();
                Ok(())
            }
        }
    }

    /// As an edit from outside: what loosens is shown to the person before it counts.
    fn set_mode(&self, mode: ExecMode) -> Result<(), String> {
        let snapshot = self.editor.document.snapshot(Form::Whole).map_err(|error| error.to_string())?;
        let mut file = snapshot.file;
        let (security, ask) = match mode {
            ExecMode::Deny => (Security::Deny, Ask::Off),
            ExecMode::Ask => (Security::Allowlist, Ask::OnMiss),
            ExecMode::Allow => (Security::Full, Ask::Off),
        };
        let set = |level: &mut Value| {
            if let Some(members) = level.as_object_mut() {
                members.insert("security".to_owned(), security.word().into());
                members.insert("ask".to_owned(), ask.word().into());
            }
        };
        let members = file.as_object_mut().ok_or("the approvals document is no object")?;
        set(members.entry("defaults").or_insert_with(|| json!({})));
        // What is said for every agent goes before the defaults.
        let everyone = members.get_mut("agents").and_then(|agents| agents.get_mut(EVERY_AGENT));
        if let Some(everyone) = everyone.filter(|level| level.get("security").is_some() || level.get("ask").is_some()) {
            set(everyone);
        }
        let params = json!({"file": file, "baseHash": snapshot.hash, WHOLE: true}).to_string();
        let cancel = Wake::new().map_err(|error| error.to_string())?;
        let caller = Caller { requester: "the menu of this app", patience: limits::PROMPT_DEADLINE, cancel: &cancel };
        let edited = self.editor.set(Some(&params), &caller);
        edited.map(drop).map_err(|error| error.message.unwrap_or_default())
    }
}

/// Sentences on gateway and node, and whether the connection is lost.
fn connection(about: &About) -> (Vec<String>, bool) {
    let gateway = match about.gateway.get() {
        None => "starting".to_owned(),
        Some((Mode::Local, _)) => "in this app".to_owned(),
        Some((_, Some(endpoint))) => endpoint.to_string(),
        Some((_, None)) => "none".to_owned(),
    };
    let node = about.node.look();
    let stands = match &node.why {
        _ if node.connected => "connected".to_owned(),
        Some(why) => format!("not connected ({})", crate::protocol::text::visible(why)),
        None => "not connected".to_owned(),
    };
    (vec![format!("Gateway: {gateway}"), format!("Node: {stands}")], !node.connected && node.why.is_some())
}

/// What a command that no rule knows meets.
fn mode(security: Security, ask: Ask) -> ExecMode {
    match (security, ask) {
        (Security::Deny, _) => ExecMode::Deny,
        (Security::Full, Ask::Off) => ExecMode::Allow,
        _ => ExecMode::Ask,
    }
}

fn open(target: &str) -> Result<(), String> {
    appkit::open(target).map_err(|error| error.to_string())
}
