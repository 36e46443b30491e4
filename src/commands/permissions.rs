//! `openclaw mac-debug permissions`: what macOS lets the running app do. The app is asked, and it alone makes the
//! system ask. Source: spec mac-app (2.1), (4.3).

use super::say;
use crate::app::control;
use crate::inspect::InspectError;
use crate::protocol::text;
use crate::state::StateDir;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// What the system lets the running app do: status, or request NAME, which has the app make macOS ask you, if it still
/// asks. Names: appleScript, notifications, accessibility, screenRecording, microphone, speechRecognition, camera,
/// location, eventPosting.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "permissions", example = "openclaw mac-debug permissions status")]
pub struct Flags {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// status or request
    #[argh(positional)]
    verb: String,
    /// what to request
    #[argh(positional)]
    name: Option<String>,
}

/// Does it.
///
/// # Errors
/// A sentence: there is no app, or it refuses.
pub fn run(state: &StateDir, flags: &Flags) -> Result<ExitCode, InspectError> {
    let request = match (flags.verb.as_str(), &flags.name) {
        ("status", None) => json!({"type": "permissions.status"}),
        ("request", Some(name)) => json!({"type": "permissions.request", "name": name}),
        _ => return Err(InspectError::Usage("say: permissions status, or permissions request NAME".to_owned())),
    };
    let answer = control::ask(state, &request).map_err(InspectError::App)?;
    if flags.json {
        return Ok(say(&format!("{answer}\n")));
    }
    let mut out = String::new();
    let word = |value: &Value| text::visible(value.as_str().unwrap_or_default());
    for (name, state) in answer.get("permissions").and_then(Value::as_object).into_iter().flatten() {
        let _ = writeln!(out, "{:<18} {}", text::visible(name), word(state));
    }
    if let (Some(name), Some(state), Some(pane)) = (answer.get("name"), answer.get("state"), answer.get("settings")) {
        let _ = writeln!(out, "{:<18} {}", word(name), word(state));
        if state == "denied" {
            let _ = writeln!(out, "macOS asks only once; allow it in System Settings: open '{}'", word(pane));
        }
    }
    Ok(say(&out))
}
