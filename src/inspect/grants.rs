//! `mac-debug grants`: what the running app may do again without a question, and the end of it.

use super::{InspectError, shown, table};
use crate::app::control;
use crate::state::StateDir;
use serde_json::{Value, json};

/// The app's grants, oldest first: `{"ok":true,"grants":[…]}`.
///
/// # Errors
/// No app runs.
pub fn list(state: &StateDir) -> Result<Value, InspectError> {
    control::ask(state, &json!({"type": "grants.list"})).map_err(InspectError::App)
}

/// The same for a person.
pub fn text(list: &Value) -> String {
    let row = |grant: &Value| {
        let left = grant.get("remainingMs").and_then(Value::as_u64).unwrap_or(0).div_ceil(60_000);
        let cell = |member| shown(grant, member).into_owned();
        let mut cells: Vec<_> = ["id", "agentId", "sessionKey", "span"].map(cell).into();
        cells.extend([format!("{left} min"), cell("uses"), cell("command")]);
        cells
    };
    let rows: Vec<_> = list.get("grants").and_then(Value::as_array).into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return "no command is granted for a while\n".to_owned();
    }
    table(&["ID", "AGENT", "SESSION", "FOR", "LEFT", "USES", "COMMAND"], &rows)
}

/// Ends one, or every one for `all`: `{"ok":true,"revoked":1}`.
///
/// # Errors
/// No app runs.
pub fn revoke(state: &StateDir, id: &str) -> Result<Value, InspectError> {
    control::ask(state, &json!({"type": "grants.revoke", "id": id})).map_err(InspectError::App)
}

/// The same for a person.
pub fn revoked(answer: &Value) -> String {
    match answer.get("revoked").and_then(Value::as_u64) {
        None | Some(0) => "there is no such grant; see `openclaw mac-debug grants list`\n".to_owned(),
        Some(1) => "one grant has ended\n".to_owned(),
        Some(count) => format!("{count} grants have ended\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A159: what an agent claims cannot leave its cell.
    #[test]
    fn sec_a159_the_table_is_safe_on_a_terminal() {
        let grant = json!({"id": "1", "agentId": "a\n\u{1b}[2J", "sessionKey": null, "span": "15 minutes",
            "remainingMs": 60_001, "uses": 3, "command": "echo\nx"});
        let shown = text(&json!({"ok": true, "grants": [grant]}));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert!(lines[0].starts_with("ID  AGENT"), "{shown}");
        assert!(lines[1].contains("a\\u{A}\\u{1B}[2J") && lines[1].contains("2 min"), "{shown}");
        assert!(lines[1].ends_with("3     echo\\u{A}x"), "{shown}");
    }
}
