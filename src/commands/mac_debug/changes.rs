//! What changes who and what may: pair, grants, token, pause, resume.

use super::print;
use crate::commands::confirm::confirmed;
use crate::commands::say;
use crate::inspect::{InspectError, Target, grants, pairing, token};
use crate::protocol::text;
use crate::state::{StateDir, StateError, pause};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Devices that want in and surfaces that nodes offer: list, approve ID, reject ID; or link: a setup link for one new
/// node, good once and for ten minutes (there: openclaw node --pair LINK). What it offers is approved here.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pair", example = "openclaw mac-debug pair list\nopenclaw mac-debug pair approve 3f2a")]
pub(super) struct Pair {
    /// with link: make it without asking
    #[argh(switch)]
    yes: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// list, approve, reject or link
    #[argh(positional)]
    verb: String,
    /// the request
    #[argh(positional)]
    request_id: Option<String>,
}

/// Commands that the person at the app allowed for a while (with the words `15min` or `session`): list, revoke ID, revoke
/// all. They end with the app, too.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "grants", example = "openclaw mac-debug grants list")]
pub(super) struct Grants {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// list or revoke
    #[argh(positional)]
    verb: String,
    /// the id that list shows, or all
    #[argh(positional)]
    id: Option<String>,
}

/// Exchange the shared token: rotate. Works where the token is in `gateway-token`, or in an openclaw.json that is still
/// exactly what the first start wrote; any other openclaw.json is its owner's, who is told what to change there. A running
/// gateway takes the new token at once and closes every session that the old one let in; paired devices come back.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "token", example = "openclaw mac-debug token rotate")]
pub(super) struct Token {
    /// do it without asking
    #[argh(switch)]
    yes: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// rotate
    #[argh(positional)]
    verb: String,
}

/// Stop everything: from now on no command starts on this machine, whatever policy or a person says. What runs goes on.
/// Holds until `resume`, also over a restart.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pause", example = "openclaw mac-debug pause")]
pub(super) struct Pause {}

/// Let commands start again after `pause`.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "resume", example = "openclaw mac-debug resume")]
pub(super) struct Resume {
    /// do it without asking
    #[argh(switch)]
    yes: bool,
}

pub(super) fn token(target: Target, flags: &Token) -> Result<ExitCode, InspectError> {
    match flags.verb.as_str() {
        "rotate" => {
            let what = format!(
                "exchange the shared token in {}; every session of the old one is closed",
                text::visible(&target.state.root().to_string_lossy())
            );
            if !confirmed(&[what], flags.yes)? {
                return Ok(ExitCode::FAILURE);
            }
            Ok(print(&token::rotate(target)?, flags.json, token::text))
        }
        other => Err(InspectError::Usage(format!("`token {other}` is not known; say rotate"))),
    }
}

/// Must work whatever else is broken.
pub(super) fn pause(state: &StateDir) -> Result<ExitCode, InspectError> {
    let effect = "paused: no command starts until `openclaw mac-debug resume`";
    Ok(switch(state, state.prepare().and_then(|()| pause::pause(state)), effect)?)
}

pub(super) fn resume(state: &StateDir, flags: &Resume) -> Result<ExitCode, InspectError> {
    if pause::is_on(&state.paused()) && !confirmed(&["let commands run again".to_owned()], flags.yes)? {
        return Ok(ExitCode::FAILURE);
    }
    Ok(switch(state, pause::resume(state), "commands may run again")?)
}

/// Says what it did, and where.
fn switch(state: &StateDir, done: Result<(), StateError>, effect: &str) -> Result<ExitCode, StateError> {
    done.map(|()| say(&format!("{effect} ({})\n", text::visible(&state.root().to_string_lossy()))))
}

pub(super) fn pair(target: &Target, flags: &Pair) -> Result<ExitCode, InspectError> {
    let request = || {
        flags
            .request_id
            .as_deref()
            .ok_or_else(|| InspectError::Usage("say which request; see `openclaw mac-debug pair list`".to_owned()))
    };
    match flags.verb.as_str() {
        "list" => Ok(print(&pairing::list(target)?, flags.json, pairing::text)),
        "link" => {
            let what = format!("make a link with which one new node may join {} within ten minutes", target.endpoint);
            if !confirmed(&[what], flags.yes)? {
                return Ok(ExitCode::FAILURE);
            }
            Ok(print(&pairing::link(target)?, flags.json, pairing::link_text))
        }
        "approve" => {
            let answer = pairing::resolve(target, request()?, true)?;
            Ok(print(&answer, flags.json, |_| "approved\n".to_owned()))
        }
        "reject" => {
            let answer = pairing::resolve(target, request()?, false)?;
            Ok(print(&answer, flags.json, |_| "rejected\n".to_owned()))
        }
        other => Err(InspectError::Usage(format!("`pair {other}` is not known; say list, approve, reject or link"))),
    }
}

pub(super) fn grants(state: &StateDir, flags: &Grants) -> Result<ExitCode, InspectError> {
    match (flags.verb.as_str(), &flags.id) {
        ("list", None) => Ok(print(&grants::list(state)?, flags.json, grants::text)),
        ("revoke", Some(id)) => Ok(print(&grants::revoke(state, id)?, flags.json, grants::revoked)),
        _ => {
            Err(InspectError::Usage("say `grants list`, or `grants revoke` and the id of a grant or `all`".to_owned()))
        }
    }
}
