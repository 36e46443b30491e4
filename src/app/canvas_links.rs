//! Links that lead out of a canvas: a page there can follow one whenever it wants, so the person is asked about one at a
//! time, not again right after an answer, and only a yes opens it. Source: spec mac-app (8.7).

use crate::desktop::abilities::OpenOutside;
use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::sys::wake::Wake;
use crate::sys::worker;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Opens an address, or says why not.
type Open = fn(&str) -> Result<(), String>;

#[derive(Default)]
struct Turn {
    is_busy: bool,
    answered: Option<Instant>,
}

/// Asks `person` about each link, as far as there is time for it, and opens what they allow with `open`.
pub fn asker(person: Arc<dyn Person>, open: Open) -> OpenOutside {
    let turn = Arc::new(Mutex::new(Turn::default()));
    Arc::new(move |address| {
        if let Err(why) = consider(address, &person, open, &turn) {
            log!("canvas", "a link out of it was not followed: {why}");
        }
    })
}

fn consider(address: String, person: &Arc<dyn Person>, open: Open, turn: &Arc<Mutex<Turn>>) -> Result<(), String> {
    if address.len() > limits::CANVAS_LINK_BYTES {
        return Err("it is too long".to_owned());
    }
    {
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_busy || turn.answered.is_some_and(|at| at.elapsed() < limits::CANVAS_LINK_PAUSE) {
            return Err("another one waits for an answer, or just had one".to_owned());
        }
        turn.is_busy = true;
    }
    let (person, done) = (Arc::clone(person), Done(Arc::clone(turn)));
    let ask = move || {
        let said = follow(address, &*person, open);
        log!("canvas", "a link out of it {}", said.unwrap_or_else(|why| format!("was not followed: {why}")));
        drop(done);
    };
    worker::start(ask).map_err(|error| error.to_string())
}

fn follow(address: String, person: &dyn Person, open: Open) -> Result<String, String> {
    let never = Wake::new().map_err(|error| error.to_string())?;
    let question =
        Question::of(Kind::Page, address, "a page in the canvas, which an agent may have written".to_owned());
    match person.ask(&question, &never) {
        Answer::Decided(Decision::AllowOnce) => {
            open(&question.command).map(|()| "was opened; the person said so".to_owned())
        }
        Answer::Nobody(why) => Err(why),
        _ => Err("the person did not say yes".to_owned()),
    }
}

/// Makes room for the next one, on every way out.
struct Done(Arc<Mutex<Turn>>);

impl Drop for Done {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Turn { is_busy: false, answered: Some(Instant::now()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    /// Says what it was asked, and answers what it is told.
    struct Says(SyncSender<String>, Mutex<Receiver<Answer>>);

    impl Person for Says {
        fn ask(&self, question: &Question, _: &Wake) -> Answer {
            assert!(question.kind == Kind::Page && question.allow_always.is_err() && question.spans.is_empty());
            self.0.send(question.command.clone()).unwrap();
            self.1.lock().unwrap().recv().unwrap()
        }
    }

    static OPENED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn one_link_at_a_time_is_asked_about_and_only_a_yes_opens_it() {
        let patience = Duration::from_secs(5);
        let (asked, questions) = sync_channel(9);
        let (answer, answers) = sync_channel(9);
        let person: Arc<dyn Person> = Arc::new(Says(asked, Mutex::new(answers)));
        let turn = Arc::new(Mutex::new(Turn::default()));
        let open: Open = |address| {
            OPENED.lock().unwrap().push(address.to_owned());
            Ok(())
        };
        let try_one = |address: &str| consider(address.to_owned(), &person, open, &turn);
        assert!(try_one(&"x".repeat(limits::CANVAS_LINK_BYTES + 1)).is_err());
        let settled = || {
            let end = Instant::now() + patience;
            while turn.lock().unwrap().is_busy {
                assert!(Instant::now() < end);
                std::thread::yield_now();
            }
        };
        for (said, opened) in [
            (Answer::Decided(Decision::Deny), 0),
            (Answer::TimedOut, 0),
            (Answer::Nobody("nobody".to_owned()), 0),
            (Answer::Decided(Decision::AllowAlways), 0),
            (Answer::Decided(Decision::AllowOnce), 1),
        ] {
            try_one("https://example.com/?q=1").unwrap();
            assert_eq!(questions.recv_timeout(patience).unwrap(), "https://example.com/?q=1");
            assert!(try_one("https://example.com/2").is_err(), "one waits");
            answer.send(said).unwrap();
            settled();
            assert!(try_one("https://example.com/3").is_err(), "not right after an answer");
            assert_eq!(OPENED.lock().unwrap().len(), opened);
            turn.lock().unwrap().answered = Instant::now().checked_sub(limits::CANVAS_LINK_PAUSE);
        }
        assert!(questions.try_recv().is_err(), "nothing else was asked");
    }
}
