//! `mac-debug selftest`: whether this build and this Mac fit: every foreign name, each kind of value, signature,
//! permissions, services. Harmless; asks nobody for anything.

use crate::app::control;
use crate::protocol::text;
use crate::service::{Role, Services};
use crate::state::{Environment, StateDir};
use crate::transport::code_identity::{self, Unidentified};
use openclaw_macos::selftest::{self, Check, Outcome};
use openclaw_macos::user_notifications::{self, Authorization, NotificationError};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Instant;

/// Every check, as `{"checks": [{group, name, state, seen, hint}], "bad": number}`; `state` is `good`, `bad` or `absent`.
pub fn run(state: &StateDir, environment: &Environment) -> Value {
    let mut checks = selftest::run();
    checks.push(signature());
    checks.push(notifications());
    checks.extend(services(state, environment));
    checks.extend(app(state));
    let bad = checks.iter().filter(|check| matches!(check.outcome, Outcome::Bad(..))).count();
    let checks: Vec<Value> = checks.into_iter().map(described).collect();
    json!({"checks": checks, "bad": bad})
}

fn described(check: Check) -> Value {
    let (state, seen, hint) = match check.outcome {
        Outcome::Good(seen) => ("good", seen, None),
        Outcome::Bad(seen, hint) => ("bad", seen, Some(hint)),
        Outcome::Absent(why) => ("absent", why, None),
    };
    json!({"group": check.group, "name": check.name, "state": state, "seen": seen, "hint": hint})
}

fn check(group: &'static str, name: impl Into<String>, outcome: Outcome) -> Check {
    Check { group, name: name.into(), outcome }
}

fn signature() -> Check {
    let outcome = match code_identity::own() {
        Ok(own) => Outcome::Good(format!("{} of team {}, valid, hardened", own.identifier, own.team)),
        Err(error @ Unidentified::NoSignatures) => Outcome::Absent(error.to_string()),
        Err(error @ Unidentified::Unsigned) => Outcome::Bad(
            error.to_string(),
            "macOS forgets permissions when an unsigned app changes; sign it: SIGN_IDENTITY=... make restart",
        ),
        Err(error) => Outcome::Bad(error.to_string(), "build and sign it again: make restart"),
    };
    check("signature", "this program's own", outcome)
}

fn notifications() -> Check {
    let outcome = match user_notifications::authorization(Instant::now() + crate::limits::NOTIFICATION_WAIT) {
        Ok(Authorization::Denied) => {
            Outcome::Bad("denied".to_owned(), "allow them in System Settings, Notifications, OpenClaw")
        }
        Ok(said) => Outcome::Good(format!("{said:?}")),
        Err(error @ NotificationError::NotHere(_)) => Outcome::Absent(error.to_string()),
        Err(error) => Outcome::Bad(error.to_string(), "is the app in /Applications and opened once?"),
    };
    check("notifications", "settings", outcome)
}

fn services(state: &StateDir, environment: &Environment) -> Vec<Check> {
    let Some(home) = environment.home.as_deref().filter(|home| home.is_absolute()) else { return Vec::new() };
    let services = Services::of(home, state.clone());
    let look = |role: Role| {
        let status = services.status(role);
        let ended = status.last_exit_code.map_or_else(String::new, |code| format!(", ended last with {code}"));
        let outcome = match (&status.problem, status.installed, status.running) {
            (Some(problem), ..) => Outcome::Absent(problem.clone()),
            (None, _, true) => Outcome::Good(format!("runs, pid {}", status.pid.unwrap_or_default())),
            (None, true, false) => {
                Outcome::Bad(format!("installed, but does not run{ended}"), "see its log: openclaw service status")
            }
            (None, false, false) => Outcome::Absent("not installed".to_owned()),
        };
        check("services", status.name, outcome)
    };
    Role::ALL.into_iter().map(look).collect()
}

/// Permissions are the app's: what another process may do says nothing of them.
fn app(state: &StateDir) -> Vec<Check> {
    match control::ask(state, &json!({"type": "permissions.status"})) {
        Err(why) => vec![check("permissions", "of the running app", Outcome::Absent(why))],
        Ok(answer) => {
            let permissions = answer.get("permissions").and_then(Value::as_object).cloned().unwrap_or_default();
            permissions.into_iter().map(|(name, said)| permission(name, &said)).collect()
        }
    }
}

fn permission(name: String, said: &Value) -> Check {
    let outcome = match said.as_str().unwrap_or_default() {
        "granted" => Outcome::Good("granted".to_owned()),
        "denied" => Outcome::Bad("denied".to_owned(), "openclaw mac-debug permissions request NAME opens the way"),
        other => Outcome::Absent(other.to_owned()),
    };
    check("permissions", name, outcome)
}

/// The same for a person.
pub fn text(report: &Value) -> String {
    let empty = Vec::new();
    let checks = report.get("checks").and_then(Value::as_array).unwrap_or(&empty);
    let word = |check: &Value, name: &str| text::visible(check.get(name).and_then(Value::as_str).unwrap_or_default());
    let width = checks.iter().map(|check| word(check, "name").chars().count()).max().unwrap_or_default();
    let (mut out, mut group) = (String::new(), String::new());
    for check in checks {
        let this = word(check, "group");
        if this != group {
            let _ = writeln!(out, "{this}");
            group = this;
        }
        let mark = match word(check, "state").as_str() {
            "good" => "ok",
            "bad" => "BAD",
            _ => "-",
        };
        let _ = writeln!(out, "  {mark:<3} {:<width$}  {}", word(check, "name"), word(check, "seen"));
        let hint = word(check, "hint");
        if !hint.is_empty() {
            let _ = writeln!(out, "      {:<width$}  -> {hint}", "");
        }
    }
    let bad = report.get("bad").and_then(Value::as_u64).unwrap_or_default();
    let _ = writeln!(out, "{}", if bad == 0 { "nothing is wrong".to_owned() } else { format!("{bad} wrong") });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_out_with_a_hint() {
        let checks = [
            check("signature", "own", Outcome::Bad("unsigned \u{1b}[2J".to_owned(), "sign it")),
            check("permissions", "camera", Outcome::Absent("notDetermined".to_owned())),
            permission("location".to_owned(), &json!("granted")),
        ];
        let report = json!({"checks": checks.map(described), "bad": 1});
        let shown = text(&report);
        assert!(shown.contains("BAD own") && shown.contains("-> sign it") && shown.contains("\\u{1B}[2J"), "{shown}");
        assert!(shown.contains("-   camera") && shown.contains("ok  location") && shown.contains("1 wrong"), "{shown}");
    }
}
