//! What changes something and names no object says what it will do, and does it when it is told to (H25).

use crate::inspect::InspectError;
use std::io::{BufRead, IsTerminal, Write};

/// True if the person wants it: `--yes`, or the word on the terminal. What will be done stands in `what`, a line each.
///
/// # Errors
/// Nobody can be asked; the sentence says what would have been done.
pub(super) fn confirmed(what: &[String], yes: bool) -> Result<bool, InspectError> {
    let lines: String = what.iter().map(|line| format!("  {line}\n")).collect();
    if yes {
        super::complain(&format!("this is done:\n{lines}"));
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(InspectError::Usage(format!("nothing was changed; with --yes this is done:\n{lines}")));
    }
    super::complain(&format!("this would be done:\n{lines}"));
    let _ = std::io::stderr().write_all(b"do it? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let is_yes = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        super::complain("nothing was changed");
    }
    Ok(is_yes)
}
