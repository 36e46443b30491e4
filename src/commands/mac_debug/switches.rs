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
    /// NAME (default: all), then on or off (default: tell how it stands)
    #[argh(positional)]
    words: Vec<String>,
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
    let words: Vec<&str> = flags.words.iter().map(String::as_str).collect();
    let (name, wanted) = match words.as_slice() {
        [] => (None, None),
        [name] => (Some(*name), None),
        [name, "on"] => (Some(*name), Some(true)),
        [name, "off"] => (Some(*name), Some(false)),
        _ => return Err(known()),
    };
    let named = name.map(|name| Switch::from_word(name).ok_or_else(known)).transpose()?;
    let switches = Switches::new(state);
    if let (Some(switch), Some(on)) = (named, wanted) {
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
