//! `mac-debug logs`: where the log of each part lies, and its newest lines.

use super::InspectError;
use super::tail::Tail;
use crate::limits;
use crate::protocol::text;
use crate::service::{Role, Services, log_file};
use crate::state::{Environment, StateDir};
use std::path::PathBuf;
use std::str::FromStr;

/// Whose log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The app, and what runs inside it.
    App,
    /// The gateway: a file of its own if it has one, else its lines in the app's.
    Gateway,
    /// The node host.
    Node,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "app" => Ok(Self::App),
            "gateway" => Ok(Self::Gateway),
            "node" => Ok(Self::Node),
            _ => Err("say app, gateway or node".to_owned()),
        }
    }
}

/// The log of one part.
pub struct Log {
    /// What launchd wrote down of crashes, and the log itself.
    tails: Vec<Tail>,
    /// Only lines that begin so.
    prefix: &'static str,
}

impl Log {
    /// Finds it.
    ///
    /// # Errors
    /// There is none; the sentence says where else to look.
    pub fn find(state: &StateDir, environment: &Environment, part: Part) -> Result<Self, InspectError> {
        let own = state.logs().join("gateway.log");
        let (role, path, prefix) = match part {
            Part::App => (Role::App, log_file(state, Role::App), ""),
            Part::Node => (Role::Node, log_file(state, Role::Node), ""),
            // As the official service, or whoever starts `openclaw gateway` so, writes it.
            Part::Gateway if own.exists() => (Role::App, own, ""),
            Part::Gateway => (Role::App, log_file(state, Role::App), "gateway: "),
        };
        let output = path.with_file_name(format!("{}-stdout.log", role.word()));
        let found: Vec<PathBuf> = [output, path.clone()].into_iter().filter(|path| path.exists()).collect();
        if !found.is_empty() {
            return Ok(Self { tails: found.into_iter().map(Tail::from_before).collect(), prefix });
        }
        Err(InspectError::App(elsewhere(state, environment, role, path)))
    }

    /// The lines that came since the last look, safe on a terminal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn lines(&mut self) -> Result<Vec<String>, InspectError> {
        let mut out = Vec::new();
        for tail in &mut self.tails {
            let lines = tail.lines().map_err(|error| InspectError::App(format!("the log cannot be read: {error}")))?;
            let ours = lines.iter().filter(|line| line.starts_with(self.prefix));
            out.extend(ours.map(|line| text::visible(text::prefix(line, limits::LOG_LINE_BYTES))));
        }
        Ok(out)
    }
}

fn elsewhere(state: &StateDir, environment: &Environment, role: Role, path: PathBuf) -> String {
    let home = environment.home.as_deref().filter(|home| home.is_absolute());
    let service = home.map(|home| Services::of(home, state.clone()).status(role));
    match service.filter(|service| service.installed && service.manager == "systemd") {
        Some(service) => format!("the log is in the journal: {}", service.log),
        None => format!(
            "there is no {}: what was started by hand logs to where it was started; a service of launchd logs there (openclaw {} install)",
            text::visible(&path.to_string_lossy()),
            role.word()
        ),
    }
}
