//! What the menu shows, and what becomes of a choice in it. Source: spec mac-app (3.5).

use super::control::Controls;
use super::status::{About, Mode};
use super::switches::Switches;
use crate::desktop::appkit;
use crate::desktop::menu::{ExecMode, Menu, MenuAction, MenuState, Pairing, Permission};
use crate::desktop::permissions::{Capability, Grant};
use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::protocol::text;
use crate::service::{Role, Service, Services, log_file};
use crate::state::switches::{self, Switch};

use crate::sys::signal::Termination;
use crate::sys::wake::Wake;
use std::io;
use std::sync::Arc;
use std::thread;

/// Where the menu's words come from and where choices go.
pub struct Sources {
    /// What there is to look at and to tighten.
    pub controls: Arc<Controls>,
    /// How strict this machine is.
    pub switches: Switches,
    /// Who confirms what loosens that.
    pub person: Arc<dyn Person>,
    /// The nodes of the gateway, in words.
    pub nodes: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What "Launch at Login" switches.
    pub at_login: Option<Service>,
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
        let (mode, given) = (self.switches.mode(), switches::Switches::new(state));
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
        let bridge = about.bridge.look();
        lines.push(format!("Bridge: {}", if bridge.starts_with("serving") { "on" } else { &bridge }));
        lines.extend(queue.away().map(|away| format!("Questions wait: {}", away.word())));
        lines.extend(mode.as_ref().err().map(|_| "Everything is denied: the approvals document is broken".to_owned()));
        MenuState {
            lines,
            is_troubled: is_lost || mode.is_err(),
            waiting: queue.waiting(),
            pairings: pairings(about),
            is_paused: self.switches.is_paused(),
            mode: mode.ok(),
            grants: guards.grants.list().len(),
            nodes: if node.connected { (self.nodes)() } else { Vec::new() },
            permissions,
            switches: Switch::ALL.map(|switch| (switch, given.is_on(switch))).to_vec(),
            is_at_login: self.has_service(Role::App),
            can_set_at_login: self.at_login.is_some(),
            can_restart_gateway: self.has_service(Role::Gateway),
            log: log_file(state, Role::App).to_string_lossy().into_owned(),
        }
    }

    fn services(&self) -> Result<Services, &'static str> {
        let home = std::env::home_dir().ok_or("HOME is not set")?;
        Ok(Services::of(&home, self.controls.state.clone()))
    }

    fn has_service(&self, role: Role) -> bool {
        self.services().is_ok_and(|services| services.is_installed(role))
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
        let Controls { guards, permissions, state, about, .. } = &*self.controls;
        match action {
            // The desktop's own.
            MenuAction::ShowQuestion => Ok(()),
            MenuAction::ShowPairing(id) => {
                about.pairing.ask_now(&id);
                Ok(())
            }
            MenuAction::SetPaused(paused) => self.switches.set_paused(paused).map_err(|error| error.to_string()),
            MenuAction::SetMode(mode) => self.set_mode(mode),
            MenuAction::SetSwitch(switch, on) => self.set_switch(switch, on),
            MenuAction::EndGrants => {
                guards.grants.revoke("all");
                Ok(())
            }
            MenuAction::RequestPermission(capability) => {
                permissions.request(capability);
                Ok(())
            }
            MenuAction::OpenSettings(capability) => open(&capability.settings_url()),
            MenuAction::ShowLog => open(&log_file(state, Role::App).to_string_lossy()),
            MenuAction::SetAtLogin(is_on) => {
                let service = self.at_login.clone().ok_or("say `openclaw app install`")?;
                self.services()?.set_at_login(service, is_on).map_err(|error| error.to_string())
            }
            MenuAction::RestartGateway => self.services()?.restart(Role::Gateway).map_err(|error| error.to_string()),
            MenuAction::Quit => {
                Termination::request();
                Ok(())
            }
        }
    }

    /// What loosens is confirmed first.
    fn set_mode(&self, mode: ExecMode) -> Result<(), String> {
        if let Some(meaning) = mode.confirmation()
            && !self.is_confirmed(meaning)?
        {
            return Ok(());
        }
        for said in self.switches.set_mode(mode, true)? {
            log!("app", "{said}");
        }
        Ok(())
    }

    /// A press in a menu can be anybody's; one in the panel is a person's.
    fn set_switch(&self, switch: Switch, on: bool) -> Result<(), String> {
        let meaning = format!("from now on agents may {}, until you switch this back", switch.meaning());
        if on && !self.is_confirmed(&meaning)? {
            return Ok(());
        }
        switches::Switches::new(&self.controls.state).set(switch, on).map_err(|error| error.to_string())
    }

    fn is_confirmed(&self, meaning: &str) -> Result<bool, String> {
        let cancel = Wake::new().map_err(|error| error.to_string())?;
        let question = Question::of(Kind::Change, meaning.to_owned(), "the menu of this app".to_owned());
        match self.person.ask(&question, &cancel) {
            Answer::Decided(Decision::AllowOnce) => Ok(true),
            Answer::Nobody(why) => Err(why),
            _ => Ok(false),
        }
    }
}

fn pairings(about: &About) -> Vec<Pairing> {
    let pending = about.pairing.pending().into_iter();
    pending.map(|pending| Pairing { id: pending.id, who: text::visible(&pending.who) }).collect()
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
        Some(why) => format!("not connected ({})", text::visible(why)),
        None => "not connected".to_owned(),
    };
    (vec![format!("Gateway: {gateway}"), format!("Node: {stands}")], !node.connected && node.why.is_some())
}

pub(super) fn open(target: &str) -> Result<(), String> {
    appkit::open(target).map_err(|error| error.to_string())
}
