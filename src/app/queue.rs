//! The approval queue: one question at a time before the person, in the order in which they came.

use crate::desktop::presence::{Away, Presence};
use crate::desktop::{Desktop, Place};
use crate::exec::approval::{Answer, Person, Question};
use crate::limits;
use crate::log;
use crate::sys::clock::Now;
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Brings the questions of all requesters to one person.
pub struct ApprovalQueue {
    desktop: Box<dyn Desktop>,
    presence: Arc<Presence>,
    /// The front one is before the person. Each is fired when it becomes the front one.
    turns: Mutex<VecDeque<Arc<Wake>>>,
    panics: AtomicUsize,
}

impl ApprovalQueue {
    /// A queue before `desktop`.
    pub fn new(desktop: Box<dyn Desktop>) -> Self {
        let presence = desktop.presence();
        Self { desktop, presence, turns: Mutex::new(VecDeque::new()), panics: AtomicUsize::new(0) }
    }

    /// How many questions wait, the one before the person included.
    pub fn waiting(&self) -> usize {
        self.turns().len()
    }

    /// Why nothing is shown now, although somebody asks.
    pub fn away(&self) -> Option<Away> {
        self.presence.away()
    }

    /// Shows the question whenever the person can see it, until there is an answer that was given in sight of it. What
    /// is said while nobody sees the screen is nobody's word; the question goes on, and so does its deadline.
    fn present(&self, question: &Question, withdrawn: &Wake) -> io::Result<Answer> {
        loop {
            let (change, taken) = (Arc::new(Wake::new()?), Wake::new()?);
            if self.presence.watch(&change).is_some() {
                wait_for(&change, question, withdrawn)?;
            } else {
                let answer = thread::scope(|scope| {
                    let ends = [withdrawn.fd(), change.fd(), taken.fd()].map(|fd| (fd, Interest::Readable));
                    let taken = &taken;
                    let watch = move || {
                        let _ = poll::wait(&ends, None);
                        taken.fire();
                    };
                    let thread = thread::Builder::new().name("prompt-watch".into());
                    thread.stack_size(limits::PEER_STACK_BYTES).spawn_scoped(scope, watch)?;
                    let answer = self.show(question, taken);
                    let is_taken = taken.is_fired();
                    taken.fire();
                    Ok::<_, io::Error>(if is_taken { Answer::Withdrawn } else { answer })
                })?;
                if !change.is_fired() {
                    return Ok(answer);
                }
            }
            if withdrawn.is_fired() {
                return Ok(Answer::Withdrawn);
            }
            if question.deadline.passed(Now::read()) {
                return Ok(Answer::TimedOut);
            }
        }
    }

    /// No code that may panic runs under this lock.
    fn turns(&self) -> MutexGuard<'_, VecDeque<Arc<Wake>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place at the end; none when the queue is full.
    fn line_up(&self) -> io::Result<Option<Turn<'_>>> {
        let wake = Arc::new(Wake::new()?);
        let mut turns = self.turns();
        if turns.len() > limits::PROMPTS_QUEUED {
            return Ok(None);
        }
        if turns.is_empty() {
            wake.fire();
        }
        turns.push_back(Arc::clone(&wake));
        self.desktop.waiting(turns.len());
        Ok(Some(Turn { queue: self, wake }))
    }

    /// A backend that panics has asked nobody; one that keeps doing so is not tried again (H22).
    fn show(&self, question: &Question, withdrawn: &Wake) -> Answer {
        if self.panics.load(Ordering::SeqCst) >= limits::PANICS {
            return Answer::Nobody("the prompt has failed repeatedly; restart the app".to_owned());
        }
        let place = Place { number: 1, of: self.waiting() };
        catch_unwind(AssertUnwindSafe(|| self.desktop.ask(question, place, withdrawn))).unwrap_or_else(|_| {
            self.panics.fetch_add(1, Ordering::SeqCst);
            log!("app", "the prompt failed while asking question {}", question.id);
            Answer::Nobody("the prompt failed; see the app's log".to_owned())
        })
    }
}

impl Person for ApprovalQueue {
    fn ask(&self, question: &Question, withdrawn: &Wake) -> Answer {
        let turn = match self.line_up() {
            Ok(Some(turn)) => turn,
            Ok(None) => {
                let most = limits::PROMPTS_QUEUED;
                return Answer::Nobody(format!("{most} questions wait for the person already; try again later"));
            }
            Err(error) => return Answer::Nobody(format!("the question could not be queued: {error}")),
        };
        let answer = match turn.wait(question, withdrawn) {
            Ok(()) => self.present(question, withdrawn).unwrap_or_else(|error| failed(&error)),
            Err(answer) => answer,
        };
        drop(turn);
        // Nobody's decision outlives its question, whatever the backend says (A163).
        match answer {
            Answer::Decided(_) | Answer::Granted(_) if withdrawn.is_fired() => Answer::Withdrawn,
            Answer::Decided(_) | Answer::Granted(_) if question.deadline.passed(Now::read()) => Answer::TimedOut,
            answer => answer,
        }
    }
}

fn failed(error: &io::Error) -> Answer {
    Answer::Nobody(format!("the queue failed: {error}"))
}

/// Waits for `change` or the question's end.
fn wait_for(change: &Wake, question: &Question, withdrawn: &Wake) -> io::Result<()> {
    let ends = [(withdrawn.fd(), Interest::Readable), (change.fd(), Interest::Readable)];
    while !poll::wait(&ends, Some(question.deadline.next_look()))?.contains(&true) {
        if question.deadline.passed(Now::read()) {
            break;
        }
    }
    Ok(())
}

/// A place in the queue; dropping it leaves the queue and lets the next one come forward.
struct Turn<'a> {
    queue: &'a ApprovalQueue,
    wake: Arc<Wake>,
}

impl Turn<'_> {
    /// Waits to be the front one; an end before that is the answer.
    fn wait(&self, question: &Question, withdrawn: &Wake) -> Result<(), Answer> {
        loop {
            if withdrawn.is_fired() {
                return Err(Answer::Withdrawn);
            }
            if question.deadline.passed(Now::read()) {
                return Err(Answer::TimedOut);
            }
            if self.wake.is_fired() {
                return Ok(());
            }
            let ends = [(withdrawn.fd(), Interest::Readable), (self.wake.fd(), Interest::Readable)];
            poll::wait(&ends, Some(question.deadline.next_look())).map_err(|error| failed(&error))?;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.queue.turns();
        turns.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
        self.queue.desktop.waiting(turns.len());
        if let Some(next) = turns.front() {
            next.fire();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exec::approval::{Kind, Span};
    use crate::protocol::policy::Decision;
    use crate::sys::clock::Expiry;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    /// What the scripted person does with a question.
    pub enum Script {
        /// Answers.
        Say(Answer),
        /// Breaks.
        Panic,
    }

    /// Reports every question shown and does what it is told for each.
    pub struct Scripted {
        shown: Mutex<Sender<(Question, Place)>>,
        script: Mutex<Receiver<Script>>,
    }

    /// What was shown, and where it stood.
    pub type Shown = Receiver<(Question, Place)>;

    /// A desktop, what it shows, and what it is told.
    pub fn scripted() -> (Box<dyn Desktop>, Shown, Sender<Script>) {
        let (shown, see) = channel();
        let (tell, script) = channel();
        (Box::new(Scripted { shown: Mutex::new(shown), script: Mutex::new(script) }), see, tell)
    }

    impl Desktop for Scripted {
        fn ask(&self, question: &Question, place: Place, withdrawn: &Wake) -> Answer {
            let _ = self.shown.lock().unwrap().send((question.clone(), place));
            loop {
                let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
                match next {
                    Ok(Script::Say(answer)) => return answer,
                    Ok(Script::Panic) => panic!("scripted"),
                    Err(_) => {}
                }
                if withdrawn.is_fired() {
                    return Answer::Withdrawn;
                }
                if question.deadline.passed(Now::read()) {
                    return Answer::TimedOut;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// A question that lives for `after`.
    pub fn question(id: &str, after: Duration) -> Question {
        Question {
            kind: Kind::Command,
            id: id.into(),
            command: "true".into(),
            executable: "/bin/true".into(),
            cwd: "/".into(),
            env: Vec::new(),
            agent: None,
            session: None,
            requester: "a test".into(),
            notes: Vec::new(),
            allow_always: Ok(()),
            spans: Vec::new(),
            unbound: None,
            deadline: Expiry::after(Now::read(), after),
        }
    }

    const LONG: Duration = Duration::from_secs(30);

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < end, "{what} did not happen");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn one_at_a_time_in_order_with_the_place_in_the_queue() {
        let (desktop, shown, tell) = scripted();
        let queue = ApprovalQueue::new(desktop);
        thread::scope(|scope| {
            for (index, id) in ["a", "b", "c"].into_iter().enumerate() {
                let queue = &queue;
                scope.spawn(move || queue.ask(&question(id, LONG), &Wake::new().unwrap()));
                until("lining up", || queue.waiting() == index + 1);
            }
            assert_eq!(shown.recv().unwrap().0.id, "a");
            assert!(shown.try_recv().is_err(), "only one is shown");
            tell.send(Script::Say(Answer::Decided(Decision::Deny))).unwrap();
            let (second, place) = shown.recv().unwrap();
            assert_eq!((second.id.as_str(), place), ("b", Place { number: 1, of: 2 }));
            tell.send(Script::Say(Answer::Decided(Decision::AllowOnce))).unwrap();
            assert_eq!(shown.recv().unwrap().0.id, "c");
            tell.send(Script::Say(Answer::Decided(Decision::AllowOnce))).unwrap();
        });
        assert_eq!(queue.waiting(), 0);
    }

    /// A163: what was withdrawn or has expired never shows, and the next one comes at once.
    #[test]
    fn sec_a163_withdrawn_and_expired_questions_never_show() {
        let (desktop, shown, tell) = scripted();
        let queue = ApprovalQueue::new(desktop);
        let (first, second, never) = (Wake::new().unwrap(), Wake::new().unwrap(), Wake::new().unwrap());
        thread::scope(|scope| {
            let one = scope.spawn(|| queue.ask(&question("one", LONG), &first));
            until("the first prompt", || shown.try_recv().is_ok());
            let two = scope.spawn(|| queue.ask(&question("two", LONG), &second));
            until("lining up", || queue.waiting() == 2);
            let expired = queue.ask(&question("expired", Duration::from_millis(20)), &never);
            assert_eq!(expired, Answer::TimedOut, "the deadline counts from the enqueuing");
            let three = scope.spawn(|| queue.ask(&question("three", LONG), &never));
            until("lining up", || queue.waiting() == 3);
            second.fire();
            assert_eq!(two.join().unwrap(), Answer::Withdrawn);
            first.fire();
            assert_eq!(one.join().unwrap(), Answer::Withdrawn);
            assert_eq!(shown.recv().unwrap().0.id, "three");
            tell.send(Script::Say(Answer::Decided(Decision::AllowOnce))).unwrap();
            assert_eq!(three.join().unwrap(), Answer::Decided(Decision::AllowOnce));
        });
    }

    /// A163: an answer that comes with the end of its question is none.
    #[test]
    fn sec_a163_a_late_answer_is_no_answer() {
        struct Late(Duration, Answer);
        impl Desktop for Late {
            fn ask(&self, question: &Question, _place: Place, withdrawn: &Wake) -> Answer {
                if self.0.is_zero() {
                    withdrawn.fire();
                } else {
                    until("the end", || question.deadline.passed(Now::read()));
                }
                self.1.clone()
            }
        }
        for answer in [Answer::Decided(Decision::AllowAlways), Answer::Granted(Span::Minutes)] {
            let wake = Wake::new().unwrap();
            let queue = ApprovalQueue::new(Box::new(Late(Duration::from_millis(5), answer.clone())));
            assert_eq!(queue.ask(&question("q", Duration::from_millis(5)), &wake), Answer::TimedOut);
            let queue = ApprovalQueue::new(Box::new(Late(Duration::ZERO, answer)));
            assert_eq!(queue.ask(&question("q", LONG), &wake), Answer::Withdrawn);
        }
    }

    /// Two answers for one question: a person at a screen that somebody locks.
    struct Screen(Arc<Presence>, Box<dyn Desktop>);

    impl Desktop for Screen {
        fn ask(&self, question: &Question, place: Place, withdrawn: &Wake) -> Answer {
            self.1.ask(question, place, withdrawn)
        }

        fn presence(&self) -> Arc<Presence> {
            Arc::clone(&self.0)
        }
    }

    /// A70, A163: a locked screen takes the prompt away and answers nothing; what is said meanwhile is nobody's word.
    #[test]
    fn sec_a163_a_locked_screen_holds_prompts_and_answers_none() {
        let (desktop, shown, tell) = scripted();
        let presence = Arc::new(Presence::default());
        let queue = ApprovalQueue::new(Box::new(Screen(Arc::clone(&presence), desktop)));
        let never = Wake::new().unwrap();
        thread::scope(|scope| {
            presence.left(Away::Locked);
            presence.left(Away::SwitchedOut);
            let asked = scope.spawn(|| queue.ask(&question("q", LONG), &never));
            until("lining up", || queue.waiting() == 1);
            presence.returned(Away::Locked);
            assert_eq!(queue.away(), Some(Away::SwitchedOut), "one reason is enough");
            assert!(shown.recv_timeout(Duration::from_millis(50)).is_err(), "nothing is shown to nobody");
            presence.returned(Away::SwitchedOut);
            shown.recv().unwrap();
            presence.left(Away::Locked);
            presence.returned(Away::Locked);
            shown.recv().unwrap();
            tell.send(Script::Say(Answer::Decided(Decision::AllowOnce))).unwrap();
            assert_eq!(asked.join().unwrap(), Answer::Decided(Decision::AllowOnce));
        });
    }

    /// The deadline goes on, the requester may go, and neither needs the screen.
    #[test]
    fn sec_a163_behind_a_locked_screen_questions_end_as_ever() {
        let (desktop, shown, _tell) = scripted();
        let presence = Arc::new(Presence::default());
        presence.left(Away::Locked);
        let queue = ApprovalQueue::new(Box::new(Screen(Arc::clone(&presence), desktop)));
        let gone = Wake::new().unwrap();
        assert_eq!(queue.ask(&question("q", Duration::from_millis(30)), &gone), Answer::TimedOut);
        gone.fire();
        assert_eq!(queue.ask(&question("q", LONG), &gone), Answer::Withdrawn);
        assert_eq!(shown.try_iter().count(), 0);
    }

    /// What a person said at the moment of the lock is not taken for an answer.
    #[test]
    fn sec_a163_an_answer_that_comes_with_the_lock_is_ignored() {
        struct Locking(Arc<Presence>, AtomicUsize);
        impl Desktop for Locking {
            fn ask(&self, _question: &Question, _place: Place, _withdrawn: &Wake) -> Answer {
                if self.1.fetch_add(1, Ordering::SeqCst) > 0 {
                    return Answer::Decided(Decision::Deny);
                }
                self.0.left(Away::Locked);
                self.0.returned(Away::Locked);
                Answer::Decided(Decision::AllowAlways)
            }
            fn presence(&self) -> Arc<Presence> {
                Arc::clone(&self.0)
            }
        }
        let presence = Arc::new(Presence::default());
        let queue = ApprovalQueue::new(Box::new(Locking(presence, AtomicUsize::new(0))));
        assert_eq!(queue.ask(&question("q", LONG), &Wake::new().unwrap()), Answer::Decided(Decision::Deny));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (desktop, shown, _tell) = scripted();
        let queue = ApprovalQueue::new(desktop);
        let end = Wake::new().unwrap();
        thread::scope(|scope| {
            for index in 0..=limits::PROMPTS_QUEUED {
                let (queue, end) = (&queue, &end);
                scope.spawn(move || queue.ask(&question("q", LONG), end));
                until("lining up", || queue.waiting() == index + 1);
            }
            let refused = queue.ask(&question("one more", LONG), &end);
            assert!(matches!(refused, Answer::Nobody(why) if why.contains("try again")));
            end.fire();
        });
        assert_eq!(queue.waiting(), 0);
        assert_eq!(shown.try_iter().count(), 1, "the withdrawn ones never showed");
    }

    /// H22: a panic in the backend asks nobody, breaks nothing, and too many stop the asking.
    #[test]
    fn sec_h22_a_panicking_prompt_denies_and_the_queue_lives() {
        let (desktop, shown, tell) = scripted();
        let queue = ApprovalQueue::new(desktop);
        let wake = Wake::new().unwrap();
        for _ in 0..limits::PANICS - 1 {
            tell.send(Script::Panic).unwrap();
            assert!(matches!(queue.ask(&question("q", LONG), &wake), Answer::Nobody(_)));
        }
        tell.send(Script::Say(Answer::Decided(Decision::AllowOnce))).unwrap();
        assert_eq!(queue.ask(&question("q", LONG), &wake), Answer::Decided(Decision::AllowOnce));
        tell.send(Script::Panic).unwrap();
        assert!(matches!(queue.ask(&question("q", LONG), &wake), Answer::Nobody(_)));
        let before = shown.try_iter().count();
        assert!(matches!(queue.ask(&question("q", LONG), &wake), Answer::Nobody(why) if why.contains("restart")));
        assert_eq!((before, shown.try_iter().count()), (limits::PANICS + 1, 0));
    }
}
