//! `openclaw mac-debug switch`: what the owner lets agents do beside running commands. Read and written where it lies; a
//! running app follows within seconds.

use super::print;
use crate::commands::confirm::confirmed;
use crate::inspect::InspectError;
use crate::state::StateDir;
use crate::state::switches::{Switch, Switches};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// What agents may do here beside running commands: list, or NAME, or NAME on|off. Names: screen, camera, location,
/// precise-location, canvas, computer-control, apple-script, bridge. A running app follows by itself.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "switch", example = "openclaw mac-debug switch\nopenclaw mac-debug switch camera on")]
pub(super) struct Flags {
    /// switch on without asking
    #[argh(switch)]
    yes: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// which one (default: list all)
    #[argh(positional)]
    name: Option<String>,
    /// on or off (default: tell how it stands)
    #[argh(positional)]
    position: Option<String>,
}

/// Does it.
///
/// # Errors
/// There is no such switch, nobody can be asked, or the document cannot be written.
pub(super) fn run(state: &StateDir, flags: &Flags) -> Result<ExitCode, InspectError> {
    let known = || {
        let names = Switch::ALL.map(Switch::word).join(", ");
        InspectError::Usage(format!("say `switch`, `switch NAME` or `switch NAME on|off`; names: {names}"))
    };
    let named = flags.name.as_deref().map(|name| Switch::from_word(name).ok_or_else(known)).transpose()?;
    let switches = Switches::new(state);
    if let (Some(switch), Some(position)) = (named, &flags.position) {
        let on = match position.as_str() {
            "on" => true,
            "off" => false,
            _ => return Err(known()),
        };
        let what = format!("switch {} on: agents may {}", switch.word(), switch.meaning());
        if on && !switches.is_on(switch) && !confirmed(&[what], flags.yes)? {
            return Ok(ExitCode::FAILURE);
        }
        state.prepare()?;
        switches.set(switch, on)?;
    }
    let shown = Switch::ALL.into_iter().filter(|switch| named.is_none_or(|named| named == *switch));
    let stand: Vec<(Switch, bool)> = shown.map(|switch| (switch, switches.is_on(switch))).collect();
    let all: Value = stand.iter().map(|(switch, on)| (switch.word().to_owned(), json!(on))).collect();
    Ok(print(&json!({"switches": all}), flags.json, |_| text(&stand)))
}

fn text(stand: &[(Switch, bool)]) -> String {
    stand.iter().fold(String::new(), |mut out, (switch, on)| {
        let _ = writeln!(out, "{:<17} {:<4} {}", switch.word(), if *on { "on" } else { "off" }, switch.meaning());
        out
    })
}
