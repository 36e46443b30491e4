use super::*;
use crate::app::queue::ApprovalQueue;
use crate::app::queue::tests::{Script, Shown as Seen, scripted};
use crate::exec::approval::Question;
use crate::state::approvals::ApprovalsDocument;
use crate::state::{Environment, StateDir};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

fn record(id: &str, command: &str) -> Record {
    let row = json!({"id": id, "request": {"command": command}, "createdAtMs": 0, "expiresAtMs": 60_000});
    Record::read(&row.to_string()).unwrap()
}

fn requested(board: &Board, id: &str, command: &str) {
    let row = json!({"id": id, "request": {"command": command}, "createdAtMs": 0, "expiresAtMs": 60_000});
    board.on_event(event::EXEC_APPROVAL_REQUESTED, &row.to_string());
}

fn resolved(board: &Board, id: &str) {
    board.on_event(event::EXEC_APPROVAL_RESOLVED, &json!({"id": id, "decision": "deny"}).to_string());
}

/// A board before a scripted person; its thread ends with it.
struct Asking {
    board: Arc<Board>,
    seen: Seen,
    tell: Sender<Script>,
}

impl Asking {
    fn new() -> Self {
        let (desktop, seen, tell) = scripted();
        let board = Arc::new(Board::default());
        let variables = [("OPENCLAW_STATE_DIR".into(), "/nonexistent/openclaw".into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        let document = Arc::new(ApprovalsDocument::new(&state));
        let here = Here { gateway: "g".into(), node_id: "n".into(), document };
        let asking = Arc::clone(&board);
        thread::spawn(move || asking.ask_all(&ApprovalQueue::new(desktop), &here));
        Self { board, seen, tell }
    }

    fn next(&self) -> Question {
        self.seen.recv_timeout(Duration::from_secs(10)).unwrap().0
    }

    fn nothing_shown(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        while self.board.table().shown.is_some() {
            assert!(Instant::now() < end, "still shown");
            thread::sleep(Duration::from_millis(2));
        }
        self.seen.try_recv().is_err()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.board.change(|table| {
            table.over = true;
            table.keep(|_| false);
        });
    }
}

#[test]
fn what_is_known_is_bounded_and_the_rest_is_listed_later() {
    let mut table = Table { touched: Some(HashSet::new()), ..Table::default() };
    for number in 0..limits::GATEWAY_QUESTIONS {
        table.add(record(&format!("r{number}"), "x"));
    }
    table.add(record("r0", "y"));
    assert!(!table.missed && table.waiting[0].request["command"] == "y", "the same name is the same place");
    table.add(record("late", "x"));
    assert!(table.missed && table.waiting.len() == limits::GATEWAY_QUESTIONS);
    for number in 0..2 * limits::GATEWAY_EVENTS {
        table.touch(&number.to_string());
    }
    assert_eq!(table.touched.unwrap().len(), limits::GATEWAY_EVENTS);

    // As soon as nothing is left, the gateway is asked for the rest.
    let (board, again) = (Arc::new(Board::default()), Arc::new(Wake::new().unwrap()));
    board.change(|table| {
        table.missed = true;
        table.again = Some(Arc::clone(&again));
    });
    let asking = Arc::clone(&board);
    let thread = thread::spawn(move || asking.next(&Arc::new(Wake::new().unwrap())).is_none());
    assert!(poll::wait_one(again.fd(), Interest::Readable, Some(Instant::now() + Duration::from_secs(10))).unwrap());
    board.change(|table| table.over = true);
    assert!(thread.join().unwrap());
}

#[test]
fn one_at_a_time_and_each_once() {
    let asking = Asking::new();
    requested(&asking.board, "a", "one");
    assert_eq!(asking.next().command, "one");
    requested(&asking.board, "b", "two");
    // Heard again, by an event or a list: the same question.
    requested(&asking.board, "a", "one");
    requested(&asking.board, "b", "two");
    assert!(asking.seen.try_recv().is_err(), "two prompts at once");
    resolved(&asking.board, "a");
    let second = asking.next();
    assert_eq!((second.command.as_str(), second.notes.len()), ("two", 1), "{:?}", second.notes);
    resolved(&asking.board, "b");
    assert!(asking.nothing_shown());
    // The same name again, after its end, is a new question.
    requested(&asking.board, "b", "two");
    assert_eq!(asking.next().command, "two");
}

/// A164: under the same name another command is another question, and no answer goes over to it.
#[test]
fn sec_a164_another_command_under_a_name_is_asked_anew() {
    let asking = Asking::new();
    requested(&asking.board, "a", "ls");
    assert_eq!(asking.next().command, "ls");
    requested(&asking.board, "a", "rm -rf /");
    assert_eq!(asking.next().command, "rm -rf /");
    let table = asking.board.table();
    assert!(table.shown.as_ref().is_some_and(|shown| !shown.is_answered) && table.waiting.is_empty());
}

/// Nobody there is no answer: the record waits, and is shown once somebody is there.
#[test]
fn nobody_answers_nothing_and_silence_neither() {
    let asking = Asking::new();
    asking.tell.send(Script::Say(Answer::Nobody("in the background".into()))).unwrap();
    asking.tell.send(Script::Say(Answer::TimedOut)).unwrap();
    requested(&asking.board, "a", "one");
    assert_eq!(asking.next().command, "one");
    // Whatever happens has it look again.
    requested(&asking.board, "b", "two");
    let shown: Vec<String> = (0..2).map(|_| asking.next().command).collect();
    assert!(shown.contains(&"one".to_owned()) && shown.contains(&"two".to_owned()), "{shown:?}");
    let table = asking.board.table();
    assert!(table.shown.as_ref().is_some_and(|shown| !shown.is_answered));
}
