//! A question in the form of a panel: which lines, which buttons, and what each button means. Source: spec mac-app (3.2).

use super::offers;
use super::terminal::shown;
use crate::exec::approval::{Answer, Kind, Question, Span};
use crate::limits;
use crate::protocol::policy::Decision;
use openclaw_macos::appkit::panel::{Button, Sheet};

/// Stands beside the box to be ticked.
const ACKNOWLEDGEMENT: &str = "I know that this may run something else than what is shown.";

/// The panel, and what its buttons mean: the tag of a button is its answer's index. Index 0 leaves everything as it is.
pub fn of(question: &Question) -> (Sheet, Vec<Answer>) {
    let mut answers = offers(question);
    // It stands first, and what is pressed most often next to it: in their places whatever else is offered.
    answers.rotate_right(1);
    let button = |(tag, answer): (isize, &Answer)| Button { tag, title: title(question.kind, answer) };
    let headline = match question.kind {
        Kind::Command => "Allow this command?",
        Kind::Change => "Make this change?",
        Kind::Link => "A link was opened. Send its message to an agent?",
        Kind::Pairing => "Let this in at the gateway?",
        Kind::Page => "A canvas leads to this page. Open it in your browser?",
    };
    let sheet = Sheet {
        title: "OpenClaw".to_owned(),
        headline: headline.to_owned(),
        rows: rows(question),
        acknowledgement: question.unbound.as_ref().map(|_| ACKNOWLEDGEMENT.to_owned()),
        buttons: (0..).zip(&answers).map(button).collect(),
    };
    (sheet, answers)
}

fn title(kind: Kind, answer: &Answer) -> String {
    let title = match (kind, answer) {
        (_, Answer::Granted(Span::Minutes)) => {
            return format!("Allow {} Minutes", limits::GRANT_MINUTES.as_secs() / 60);
        }
        (_, Answer::Granted(Span::Session)) => "Allow This Session",
        (_, Answer::Decided(Decision::AllowAlways)) => "Always Allow",
        (_, Answer::Later) => "Later",
        (Kind::Command, Answer::Decided(Decision::AllowOnce)) => "Allow Once",
        (Kind::Change, Answer::Decided(Decision::AllowOnce)) => "Change",
        (Kind::Link, Answer::Decided(Decision::AllowOnce)) => "Send",
        (Kind::Pairing, Answer::Decided(Decision::AllowOnce)) => "Approve",
        (Kind::Page, Answer::Decided(Decision::AllowOnce)) => "Open",
        (Kind::Command, _) => "Don\u{2019}t Allow",
        (Kind::Change, _) => "Don\u{2019}t Change",
        (Kind::Link, _) => "Don\u{2019}t Send",
        (Kind::Pairing, _) => "Reject",
        (Kind::Page, _) => "Don\u{2019}t Open",
    };
    title.to_owned()
}

/// The command first; each field on a line of its own that nothing in it can leave (A67, A74).
fn rows(question: &Question) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: &str| rows.push((label.to_owned(), shown(text)));
    let is_command = question.kind == Kind::Command;
    let subject = match question.kind {
        Kind::Command => "Command",
        Kind::Change => "Change",
        Kind::Link => "Message",
        Kind::Pairing => "Who",
        Kind::Page => "Address",
    };
    row(subject, &question.command);
    if is_command {
        row("Program", if question.executable.is_empty() { "(none was found)" } else { &question.executable });
        row("Directory", &question.cwd);
    }
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
        (None, Err(why)) if is_command => row("Not offered", &format!("Always Allow: {why}")),
        _ => {}
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::clock::{Expiry, Now};
    use std::time::Duration;

    fn question() -> Question {
        Question {
            kind: Kind::Command,
            id: "q".into(),
            command: "uname -a".into(),
            executable: "/usr/bin/uname".into(),
            cwd: "/tmp".into(),
            env: vec!["A=b".into()],
            agent: Some("main".into()),
            session: Some("agent:main:main".into()),
            requester: "our own node".into(),
            notes: vec!["approved at the gateway".into()],
            allow_always: Ok(()),
            spans: vec![Span::Minutes, Span::Session],
            unbound: None,
            deadline: Expiry::after(Now::read(), Duration::from_secs(120)),
        }
    }

    fn row<'a>(sheet: &'a Sheet, label: &str) -> &'a str {
        let mut rows = sheet.rows.iter().filter(|(name, _)| name == label);
        let text = &rows.next().unwrap_or_else(|| panic!("no {label} in {sheet:?}")).1;
        assert_eq!(rows.next(), None, "{label} stands once");
        text
    }

    fn titles(question: &Question) -> Vec<String> {
        of(question).0.buttons.into_iter().map(|button| button.title).collect()
    }

    #[test]
    fn every_field_stands_once_and_the_buttons_have_their_places() {
        let (sheet, answers) = of(&question());
        for (label, text) in [
            ("Command", "uname -a"),
            ("Program", "/usr/bin/uname"),
            ("Directory", "/tmp"),
            ("Requester", "our own node"),
            ("Agent", "says it is \"main\""),
            ("Session", "says it is \"agent:main:main\""),
            ("Sets", "A=b"),
            ("Note", "approved at the gateway"),
        ] {
            assert_eq!(row(&sheet, label), text);
        }
        let all = ["Don\u{2019}t Allow", "Allow Once", "Always Allow", "Allow 15 Minutes", "Allow This Session"];
        assert_eq!(titles(&question()), all);
        assert_eq!(answers.first(), Some(&Answer::Decided(Decision::Deny)));
        assert_eq!(answers.get(2), Some(&Answer::Decided(Decision::AllowAlways)));
        assert_eq!((answers.len(), sheet.acknowledgement), (5, None));
        let shell = Question { allow_always: Err("it is a shell".into()), spans: vec![], ..question() };
        assert_eq!(titles(&shell), ["Don\u{2019}t Allow", "Allow Once"]);
        assert_eq!(row(&of(&shell).0, "Not offered"), "Always Allow: it is a shell");
    }

    /// A108: once only, and with a box to tick.
    #[test]
    fn sec_a108_what_cannot_be_bound_must_be_acknowledged() {
        let unbound = Question { unbound: Some("its code is in Makefile".into()), ..question() };
        assert_eq!(titles(&unbound), ["Don\u{2019}t Allow", "Allow Once"]);
        let (sheet, _) = of(&unbound);
        assert!(sheet.acknowledgement.is_some() && row(&sheet, "Careful").ends_with("its code is in Makefile"));
    }

    #[test]
    fn links_and_pairings_have_words_of_their_own() {
        let link = Question { kind: Kind::Link, allow_always: Err("no".into()), spans: vec![], ..question() };
        assert_eq!(titles(&link), ["Don\u{2019}t Send", "Send"]);
        let pairing = Question { kind: Kind::Pairing, ..link.clone() };
        assert_eq!(titles(&pairing), ["Later", "Approve", "Reject"]);
        assert_eq!(
            of(&pairing).1,
            [Answer::Later, Answer::Decided(Decision::AllowOnce), Answer::Decided(Decision::Deny)]
        );
        let (sheet, _) = of(&link);
        assert_eq!(row(&sheet, "Message"), "uname -a");
        assert!(!sheet.rows.iter().any(|(label, _)| label == "Program" || label == "Not offered"));
    }

    /// A64, A65: nothing is cut, wherever it stands.
    #[test]
    fn sec_a64_a65_everything_is_in_the_panel() {
        let text = "harmless ".repeat(27) + &"x".repeat(30_000) + "payload";
        let fill: [fn(&mut Question, String); 7] = [
            |question, text| question.command = text,
            |question, text| question.cwd = text,
            |question, text| question.env = vec![text],
            |question, text| question.agent = Some(text),
            |question, text| question.session = Some(text),
            |question, text| question.notes = vec![text],
            |question, text| (question.kind, question.command) = (Kind::Link, text),
        ];
        for fill in fill {
            let mut question = question();
            fill(&mut question, text.clone());
            assert!(of(&question).0.rows.iter().any(|(_, shown)| shown.contains(&text)));
        }
    }

    /// A66, A67, A74: each field is one line, nothing in it hides, and none can pass for another one.
    #[test]
    fn sec_a66_a67_a74_no_field_leaves_its_line() {
        let lie = format!("main\n\nNote\tApproved by admin\u{202e}\u{200b}\u{2028}{}x", " ".repeat(200));
        let fill: [fn(&mut Question, String); 8] = [
            |question, text| question.command = text,
            |question, text| question.executable = text,
            |question, text| question.cwd = text,
            |question, text| question.requester = text,
            |question, text| question.agent = Some(text),
            |question, text| question.env = vec![text],
            |question, text| question.notes = vec![text],
            |question, text| question.allow_always = Err(text),
        ];
        for fill in fill {
            let mut question = question();
            fill(&mut question, lie.clone());
            for (label, text) in of(&question).0.rows {
                assert!(!text.contains(crate::protocol::text::is_hidden), "{label}: {text}");
                assert!(!text.contains(&" ".repeat(10)), "{label}: padding draws no false line");
            }
        }
    }
}
