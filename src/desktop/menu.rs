//! The menu: what it shows, what can be chosen, and its words. Source: spec mac-app (3.5).

use super::permissions::Capability;
use crate::state::switches::Switch;
use openclaw_macos::appkit::menu::Item;
use std::time::Duration;

/// A menu that somebody can look at and choose from.
pub trait Menu: Send + Sync {
    /// Shows this from now on. Does not wait.
    fn show(&self, state: &MenuState);

    /// What was chosen next; none when nothing was for so long, or when there is something new to show.
    fn next(&self, patience: Duration) -> Option<MenuAction>;

    /// There is something new to show. Does not wait.
    fn look_again(&self);
}

/// Everything that the menu shows: plain values, made where waiting does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MenuState {
    /// Sentences on gateway, node, bridge and permissions.
    pub lines: Vec<String>,
    /// Something of that needs the owner.
    pub is_troubled: bool,
    /// Questions that wait for an answer.
    pub waiting: usize,
    /// What wants in at the gateway.
    pub pairings: Vec<Pairing>,
    /// Nothing may start.
    pub is_paused: bool,
    /// How strict this machine is; none when the document is broken.
    pub mode: Option<ExecMode>,
    /// Answers that still hold for a while.
    pub grants: usize,
    /// The nodes of the gateway, in words.
    pub nodes: Vec<String>,
    /// What the system lets us do.
    pub permissions: Vec<Permission>,
    /// What the owner has switched on.
    pub switches: Vec<(Switch, bool)>,
    /// The app is a service of this login.
    pub is_service: bool,
    /// The gateway is one of its own.
    pub can_restart_gateway: bool,
    /// Where the log is.
    pub log: String,
}

/// One permission of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Which.
    pub capability: Capability,
    /// We have it.
    pub is_granted: bool,
}

/// What the quick switch knows. Source: spec mac-app (3.5), "Exec Approvals".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecMode {
    /// Nothing runs.
    Deny,
    /// What is on the allowlist runs, the rest is asked.
    Ask,
    /// Everything runs unasked.
    Allow,
}

impl ExecMode {
    /// Every one, in the order of the menu.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Ask, Self::Allow];

    /// As in the menu.
    pub fn title(self) -> &'static str {
        match self {
            Self::Deny => "Deny Everything",
            Self::Ask => "Ask Me",
            Self::Allow => "Allow Everything\u{2026}",
        }
    }
}

/// A device or node that wants in at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Its name in the action.
    pub id: String,
    /// Who, in words.
    pub who: String,
}

/// What the owner chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MenuAction {
    /// Bring the question forward that waits. Done by the desktop itself.
    ShowQuestion,
    /// Ask about this pairing now.
    ShowPairing(String),
    /// Stop everything, or let it go on.
    SetPaused(bool),
    /// Be so strict.
    SetMode(ExecMode),
    /// Switch this on or off.
    SetSwitch(Switch, bool),
    /// End what was allowed for a while.
    EndGrants,
    /// Ask the system for this permission.
    RequestPermission(Capability),
    /// Open the system's settings for it.
    OpenSettings(Capability),
    /// Start the gateway's service again.
    RestartGateway,
    /// Show the log.
    ShowLog,
    /// End the app.
    Quit,
}

impl MenuState {
    /// The symbol in the menu bar (Apple's name of it), and what it means.
    pub fn symbol(&self) -> (&'static str, &'static str) {
        if self.waiting > 0 || !self.pairings.is_empty() {
            ("exclamationmark.shield.fill", "OpenClaw: a question waits")
        } else if self.is_paused {
            ("shield.slash", "OpenClaw: paused")
        } else if self.is_troubled {
            ("xmark.shield", "OpenClaw: something needs you")
        } else {
            ("checkmark.shield", "OpenClaw")
        }
    }

    /// The lines of the menu, and what their tags mean: one more than the index of the action.
    pub fn items(&self) -> (Vec<Item>, Vec<MenuAction>) {
        let mut table = Table::default();
        let mut items: Vec<Item> = self.lines.iter().map(|line| says(line)).collect();
        items.push(Item::default());
        let waiting = format!("Questions Waiting ({})", self.waiting);
        items.push(if self.waiting == 0 { says(&waiting) } else { table.choice(&waiting, MenuAction::ShowQuestion) });
        let pairings = self.pairings.iter().map(|pairing| {
            table.choice(&format!("Wants In: {}", pairing.who), MenuAction::ShowPairing(pairing.id.clone()))
        });
        items.extend(pairings.collect::<Vec<_>>());
        items.push(table.check("Pause Everything", self.is_paused, MenuAction::SetPaused(!self.is_paused)));
        let modes =
            ExecMode::ALL.map(|mode| table.check(mode.title(), self.mode == Some(mode), MenuAction::SetMode(mode)));
        items.push(group("Commands", modes.into()));
        if self.grants > 0 {
            items.push(table.choice(&format!("End Allowances ({})", self.grants), MenuAction::EndGrants));
        }
        items.push(Item::default());
        items.push(group("Nodes", self.nodes.iter().map(|node| says(node)).collect()));
        let permissions = self.permissions.iter().map(|permission| {
            let action = if permission.is_granted { MenuAction::OpenSettings } else { MenuAction::RequestPermission };
            table.check(permission.capability.title(), permission.is_granted, action(permission.capability))
        });
        let permissions: Vec<Item> = permissions.collect();
        if !permissions.is_empty() {
            items.push(group("Permissions", permissions));
        }
        let switches = self
            .switches
            .iter()
            .map(|(switch, on)| table.check(switch.title(), *on, MenuAction::SetSwitch(*switch, !on)));
        let switches: Vec<Item> = switches.collect();
        items.push(group("Capabilities", switches));
        // Not switched here: taking the service away would end the app in whose menu this stands.
        let (login, verb) = if self.is_service { ("on", "uninstall") } else { ("off", "install") };
        items.push(says(&format!("Launch at Login: {login} (openclaw app {verb})")));
        if self.can_restart_gateway {
            items.push(table.choice("Restart Gateway", MenuAction::RestartGateway));
        }
        // Elsewhere there is nothing to show it with.
        let log =
            if cfg!(target_os = "macos") { table.choice("Show Log", MenuAction::ShowLog) } else { says(&self.log) };
        items.push(log);
        items.push(table.choice("Quit OpenClaw", MenuAction::Quit));
        (items, table.0)
    }
}

/// A line that cannot be chosen.
fn says(text: &str) -> Item {
    Item { title: text.to_owned(), ..Item::default() }
}

/// A line with a menu of its own; none of an empty one can be chosen.
fn group(title: &str, items: Vec<Item>) -> Item {
    Item { items, ..says(title) }
}

#[derive(Default)]
struct Table(Vec<MenuAction>);

impl Table {
    fn choice(&mut self, title: &str, action: MenuAction) -> Item {
        self.0.push(action);
        Item { tag: isize::try_from(self.0.len()).unwrap_or(0), ..says(title) }
    }

    fn check(&mut self, title: &str, is_checked: bool, action: MenuAction) -> Item {
        Item { is_checked, ..self.choice(title, action) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen<'a>(items: &'a [Item], path: &[&str]) -> &'a Item {
        let (first, rest) = path.split_first().unwrap();
        let item = items.iter().find(|item| item.title == *first).unwrap_or_else(|| panic!("no {first} in {items:?}"));
        if rest.is_empty() { item } else { chosen(&item.items, rest) }
    }

    #[test]
    fn every_line_means_what_it_says() {
        let state = MenuState {
            waiting: 2,
            mode: Some(ExecMode::Ask),
            grants: 1,
            pairings: vec![Pairing { id: "p1".into(), who: "phone".into() }],
            nodes: vec!["this Mac: connected".to_owned()],
            permissions: vec![Permission { capability: Capability::Microphone, is_granted: false }],
            switches: vec![(Switch::Bridge, true)],
            ..MenuState::default()
        };
        let (items, actions) = state.items();
        let action = |path: &[&str]| &actions[usize::try_from(chosen(&items, path).tag).unwrap() - 1];
        assert_eq!(action(&["Questions Waiting (2)"]), &MenuAction::ShowQuestion);
        assert_eq!(action(&["Pause Everything"]), &MenuAction::SetPaused(true));
        assert_eq!(action(&["Wants In: phone"]), &MenuAction::ShowPairing("p1".into()));
        assert_eq!(action(&["Commands", "Allow Everything\u{2026}"]), &MenuAction::SetMode(ExecMode::Allow));
        assert_eq!(action(&["Permissions", "Microphone"]), &MenuAction::RequestPermission(Capability::Microphone));
        assert_eq!(action(&["Capabilities", "PeekabooBridge"]), &MenuAction::SetSwitch(Switch::Bridge, false));
        assert_eq!(action(&["Quit OpenClaw"]), &MenuAction::Quit);
        assert_eq!(chosen(&items, &["Nodes", "this Mac: connected"]).tag, 0);
        let marks = ExecMode::ALL.map(|mode| chosen(&items, &["Commands", mode.title()]).is_checked);
        assert_eq!(marks, [false, true, false]);
        let (items, _) = MenuState { is_paused: true, ..MenuState::default() }.items();
        assert_eq!(chosen(&items, &["Questions Waiting (0)"]).tag, 0);
        assert!(chosen(&items, &["Pause Everything"]).is_checked);
    }

    #[test]
    fn the_symbol_shows_what_matters_most() {
        let paused = MenuState { is_paused: true, is_troubled: true, ..MenuState::default() };
        assert_eq!(paused.symbol().0, "shield.slash");
        assert_eq!(MenuState { waiting: 1, ..paused }.symbol().0, "exclamationmark.shield.fill");
    }
}
