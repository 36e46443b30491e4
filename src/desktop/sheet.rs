//! A question in the form of a panel: which lines, which buttons, and what each button means. Source: spec mac-app (3.2).

use super::offers;
use super::terminal::shown;
use crate::exec::approval::{Answer, Question, Span};
use crate::limits;
use crate::protocol::policy::Decision;
use openclaw_macos::appkit::panel::{Button, Sheet};

/// Stands beside the box to be ticked.
const ACKNOWLEDGEMENT: &str = "I know that this may run something else than what is shown.";

/// The panel, and what its buttons mean: the tag of a button is its answer's index. Index 0 is the refusal.
pub fn of(question: &Question) -> (Sheet, Vec<Answer>) {
    let answers: Vec<Answer> = offers(question).into_iter().rev().collect();
    let button = |(tag, answer): (isize, &Answer)| Button { tag, title: title(answer) };
    let sheet = Sheet {
        title: "OpenClaw".to_owned(),
        headline: "Allow this command?".to_owned(),
        rows: rows(question),
        acknowledgement: question.unbound.as_ref().map(|_| ACKNOWLEDGEMENT.to_owned()),
        buttons: (0..).zip(&answers).map(button).collect(),
    };
    (sheet, answers)
}

fn title(answer: &Answer) -> String {
    match answer {
        Answer::Decided(Decision::AllowOnce) => "Allow Once".to_owned(),
        Answer::Decided(Decision::AllowAlways) => "Always Allow".to_owned(),
        Answer::Granted(Span::Minutes) => format!("Allow {} Minutes", limits::GRANT_MINUTES.as_secs() / 60),
        Answer::Granted(Span::Session) => "Allow This Session".to_owned(),
        _ => "Don\u{2019}t Allow".to_owned(),
    }
}

/// The command first; each field on a line of its own that nothing in it can leave (A67, A74).
fn rows(question: &Question) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: &str| rows.push((label.to_owned(), shown(text)));
    row("Command", &question.command);
    row("Program", if question.executable.is_empty() { "(none was found)" } else { &question.executable });
    row("Directory", &question.cwd);
    row("Requester", &question.requester);
    for (label, claim) in [("Agent", &question.agent), ("Session", &question.session)] {
        if let Some(claim) = claim {
            row(label, &format!("says it is \"{claim}\""));
        }
    }
    question.env.iter().for_each(|variable| row("Sets", variable));
    question.notes.iter().for_each(|note| row("Note", note));
    match (&question.unbound, &question.allow_always) {
        (Some(why), _) => row("Careful", &format!("an answer cannot be bound to what this runs: {why}")),
        (None, Err(why)) => row("Not offered", &format!("Always Allow: {why}")),
        (None, Ok(())) => {}
    }
    rows
}
