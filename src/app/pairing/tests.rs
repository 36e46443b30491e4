use super::*;
use crate::app::queue::ApprovalQueue;
use crate::app::queue::tests::{Script, Shown, scripted};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

fn node(id: &str, name: &str) -> Request {
    let row = json!({"requestId": id, "nodeId": "0123456789abcdef0123", "displayName": name, "platform": "macOS 15.1.0",
        "remoteIp": "::ffff:10.0.0.7", "commands": ["system.run"], "silent": true});
    Request::read(Sort::Node, &row, "another").unwrap()
}

struct Desk {
    desk: Arc<PairingDesk>,
    shown: Shown,
    tell: Sender<Script>,
}

impl Desk {
    fn new() -> Self {
        let (desktop, shown, tell) = scripted();
        let desk = Arc::new(PairingDesk::default());
        let asking = Arc::clone(&desk);
        thread::spawn(move || asking.ask_all(&ApprovalQueue::new(desktop), "ws://127.0.0.1:1"));
        Self { desk, shown, tell }
    }

    fn list(&self, listed: Vec<Request>) {
        self.desk.change(|table| table.update(listed));
    }

    fn next(&self) -> Question {
        self.shown.recv_timeout(Duration::from_secs(10)).unwrap().0
    }

    fn say(&self, answer: Answer) {
        self.tell.send(Script::Say(answer)).unwrap();
    }

    fn until(&self, what: impl Fn(&Table) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !what(&self.desk.table()) {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.desk.change(|table| {
            table.over = true;
            table.update(Vec::new());
        });
    }
}

/// A74: what a device says of itself stands where it cannot be taken for anything else.
#[test]
fn sec_a74_a_request_is_shown_with_its_fingerprint_and_address() {
    let question = node("r1", "Mac\n\napproved by admin").question("ws://127.0.0.1:1");
    assert_eq!(
        (question.kind, question.command.as_str()),
        (Kind::Pairing, "\"Mac\n\napproved by admin\" (0123456789abcdef)")
    );
    for fact in ["address: 10.0.0.7", "commands: system.run", "platform: macOS 15.1.0", "id: 0123456789abcdef0123"] {
        assert!(question.notes.iter().any(|note| note == fact), "{fact}: {question:?}");
    }
    let row =
        json!({"requestId": "r", "deviceId": "d", "role": "operator", "scopes": ["operator.admin"], "isRepair": true});
    let device = Request::read(Sort::Device, &row, "d").unwrap();
    assert!(device.facts.iter().any(|fact| fact == "scopes: operator.admin"), "{device:?}");
    assert!(device.facts.iter().any(|fact| fact.contains("another one")), "{device:?}");
    assert!(!device.facts.iter().any(|fact| fact.contains("own node")), "a device is no node");
    for broken in [json!({}), json!({"requestId": "r"}), json!({"deviceId": "d"}), json!(7)] {
        assert_eq!(Request::read(Sort::Device, &broken, ""), None);
    }
    let huge = json!({"requestId": "r", "deviceId": "d", "displayName": "x".repeat(limits::GATEWAY_QUESTION_BYTES)});
    assert_eq!(Request::read(Sort::Device, &huge, ""), None);
}

#[test]
fn later_keeps_it_in_the_list_until_it_is_asked_for() {
    let desk = Desk::new();
    desk.list(vec![node("r1", "a"), node("r2", "b")]);
    assert!(desk.next().command.contains("\"a\""));
    desk.say(Answer::Later);
    assert!(desk.next().command.contains("\"b\""));
    desk.say(Answer::TimedOut);
    desk.until(|table| table.later.len() == 2);
    desk.list(vec![node("r1", "a"), node("r2", "b")]);
    assert!(desk.shown.recv_timeout(Duration::from_millis(50)).is_err(), "it is not shown again by itself");
    assert_eq!(desk.desk.pending().len(), 2);
    desk.desk.ask_now("r2");
    assert!(desk.next().command.contains("\"b\""));
    desk.list(vec![node("r1", "a")]);
    desk.until(|table| table.shown.is_none());
    assert_eq!(desk.desk.pending(), [Pending { id: "r1".into(), who: "\"a\" (0123456789abcdef)".into() }]);
}

/// A164: another request under the same id is another question.
#[test]
fn sec_a164_what_was_shown_is_what_is_answered() {
    let desk = Desk::new();
    desk.list(vec![node("r1", "a")]);
    assert!(desk.next().command.contains("\"a\""));
    desk.list(vec![node("r1", "b")]);
    assert!(desk.next().command.contains("\"b\""), "the first one was withdrawn");
}

/// A152: a flood is bounded.
#[test]
fn sec_a152_a_flood_of_requests_is_bounded() {
    let mut table = Table::default();
    table.update((0..2 * limits::GATEWAY_QUESTIONS).map(|number| node(&number.to_string(), "x")).collect());
    assert_eq!(table.waiting.len(), limits::GATEWAY_QUESTIONS);
}
