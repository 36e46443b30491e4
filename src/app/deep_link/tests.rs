use super::*;
use crate::app::queue::ApprovalQueue;
use crate::app::queue::tests::{Script, Shown, scripted};
use crate::state::Environment;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

fn agent(url: &str) -> AgentLink {
    match Link::parse(url) {
        Ok(Link::Agent(link)) => link,
        Ok(Link::Gateway) => panic!("{url}"),
        Err(error) => panic!("{url}: {error}"),
    }
}

fn wrong(url: &str) -> String {
    match Link::parse(url) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{url} is taken"),
    }
}

#[test]
fn a_whole_link_is_read_and_made_a_request() {
    let link = agent(
        "OpenClaw://agent/?message=Say%20%22hi%22%0Anow+then&sessionKey=main&thinking=low&deliver=true&to=%2B49&channel=Signal&timeoutSeconds=30&key=k",
    );
    assert_eq!((link.message.as_str(), link.to.as_deref()), ("Say \"hi\"\nnow+then", Some("+49")));
    let params = link.params();
    let key = params["idempotencyKey"].as_str().unwrap().to_owned();
    let expected = json!({"message": "Say \"hi\"\nnow+then", "sessionKey": "main", "thinking": "low", "deliver": true,
        "to": "+49", "channel": "signal", "timeout": 30, "idempotencyKey": key});
    assert_eq!(params, expected, "and no key of the link");
    assert_ne!(link.params()["idempotencyKey"], params["idempotencyKey"], "fresh each time");
    assert_eq!(agent("openclaw://agent?message=x&channel=pigeon").channel, Some("last"));
    let web = agent("openclaw://agent?message=x&channel=webchat&deliver=1");
    assert!(!web.deliver, "nothing is delivered to webchat");
    let question = link.question();
    assert_eq!((question.kind, question.command.as_str()), (Kind::Link, link.message.as_str()));
    assert!(question.notes.iter().any(|note| note.contains("+49") && note.contains("signal")), "{question:?}");
    assert!(!format!("{question:?}").contains("\"k\""), "the key is shown nowhere");
}

#[test]
fn what_is_no_whole_link_is_refused() {
    for url in [
        "",
        "openclaw:",
        "openclaw://",
        "http://agent?message=x",
        "openclaw://agents?message=x",
        "openclaw://agent/x?message=x",
        "openclaw://me@agent?message=x",
        "openclaw://agent:80?message=x",
        "openclaw://agent",
        "openclaw://agent?message=",
        "openclaw://agent?message=%20%0A",
        "openclaw://agent?message",
        "openclaw://agent?message=x&message=y",
        "openclaw://agent?message=x#y",
        "openclaw://agent?message=%",
        "openclaw://agent?message=%4",
        "openclaw://agent?message=%zz",
        "openclaw://agent?message=%+1",
        "openclaw://agent?message=%ff",
        "openclaw://agent?message=x%00",
        "openclaw://agent?message=x&deliver=maybe",
        "openclaw://agent?message=x&timeoutSeconds=-1",
        "openclaw://agent?message=x&timeoutSeconds=%2B1",
        "openclaw://agent?message=x&timeoutSeconds=99999999999999999999",
        "openclaw://agent?message=x&sessionKey=a%0Ab",
        "openclaw://agent?message=x&command=rm",
        "\u{fe0f}openclaw://agent?message=x",
    ] {
        assert!(wrong(url).starts_with("the link was not followed: "), "{url}");
    }
    assert!(wrong(&format!("openclaw://agent?message=x&to={}", "y".repeat(257))).contains("too long"));
    for gateway in ["openclaw://gateway?host=evil.example", "openclaw://gateway/add?url=wss://evil.example&token=t"] {
        assert!(matches!(Link::parse(gateway), Ok(Link::Gateway)));
    }
}

/// Whatever bytes come, there is an answer and never a repetition of the link.
#[test]
fn sec_a167_no_text_breaks_the_reader() {
    let seeds = ["openclaw://agent?message=%F0%9F%98%80&deliver=1&key=sesame", "openclaw://gateway/add?url=x&sesame=1"];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    for _ in 0..20_000 {
        let mut text: Vec<char> = seeds[next() % 2].chars().collect();
        for _ in 0..=next() % 4 {
            let at = next() % text.len();
            let odd = ['%', '&', '=', '?', '#', '/', '\0', '\u{202e}', 'é', '\u{10ffff}', ':', '0'];
            match next() % 3 {
                0 => text[at] = odd[next() % odd.len()],
                1 => text.insert(at, odd[next() % odd.len()]),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = Link::parse(&text) {
            assert!(!error.to_string().contains("sesame"), "{text}");
        }
    }
}

/// A65: what is too long is refused, and everything else is shown whole.
#[test]
fn sec_a65_a_message_is_shown_whole_or_not_at_all() {
    let long = |count: usize| format!("openclaw://agent?message={}", "%C3%A9".repeat(count));
    let most = limits::DEEP_LINK_MESSAGE_CHARS;
    assert_eq!(agent(&long(most)).question().command, "é".repeat(most));
    assert!(wrong(&long(most + 1)).contains("too long"));
    assert!(wrong(&long(30_000)).contains("too long"));
    assert!(wrong(&format!("openclaw://gateway?host={}", "x".repeat(limits::DEEP_LINK_BYTES))).contains("too long"));
}

struct Desk {
    directory: PathBuf,
    links: Arc<DeepLinks>,
    shown: Shown,
    tell: Sender<Script>,
}

impl Desk {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("oc-l-{}", random::uuid()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        let (desktop, shown, tell) = scripted();
        let links = DeepLinks::new(&state, Arc::new(ApprovalQueue::new(desktop)), Arc::default());
        Self { directory, links, shown, tell }
    }

    fn shown(&self) -> Question {
        self.shown.recv_timeout(Duration::from_secs(10)).unwrap().0
    }

    fn answer(&self, decision: Decision) {
        self.tell.send(Script::Say(Answer::Decided(decision))).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while self.links.turn.lock().unwrap().is_busy {
            assert!(Instant::now() < end, "it goes on");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn forget_time(&self) {
        self.links.turn.lock().unwrap().last = None;
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const LINK: &str = "openclaw://agent?message=hello&key=not-the-right-key";

/// A167: a question for each link, also for the same one again and for one with a forged key; one at a time, one a
/// second; none while everything is paused.
#[test]
fn sec_a167_each_link_is_asked_about_alone() {
    let desk = Desk::new();
    std::fs::write(desk.directory.join("deep-link-key"), "the-right-key-of-the-owner").unwrap();
    std::fs::set_permissions(desk.directory.join("deep-link-key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.links.open(LINK).unwrap();
    assert_eq!((desk.shown().command.as_str(), desk.links.open(LINK)), ("hello", Err(LinkError::Busy)));
    desk.forget_time();
    assert_eq!(desk.links.open(LINK), Err(LinkError::Busy), "one waits");
    desk.answer(Decision::Deny);
    desk.links.turn.lock().unwrap().last = Some(Instant::now());
    assert_eq!(desk.links.open(LINK), Err(LinkError::Busy), "within a second");
    desk.forget_time();
    desk.links.open(LINK).unwrap();
    assert_eq!(desk.shown().command, "hello", "the same again is asked again");
    desk.answer(Decision::Deny);
    desk.forget_time();
    std::fs::write(desk.directory.join("paused"), "").unwrap();
    assert_eq!(desk.links.open(LINK), Err(LinkError::Paused));
    assert_eq!(desk.links.open("openclaw://gateway?host=evil.example"), Err(LinkError::Gateway));
    assert!(desk.shown.try_recv().is_err());
}

/// Only a key that the owner keeps for himself replaces the question.
#[test]
fn sec_a167_a_key_counts_only_from_a_private_file() {
    let desk = Desk::new();
    let path = desk.directory.join("deep-link-key");
    let link = agent("openclaw://agent?message=hello&key=the-right-key-of-the-owner");
    assert!(!desk.links.has_key(&link), "there is no file");
    for (text, mode, counts) in [
        ("the-right-key-of-the-owner\n", 0o600, true),
        ("the-right-key-of-the-owner", 0o644, false),
        ("the-right-key-of-the-owne", 0o600, false),
        ("", 0o600, false),
    ] {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(desk.links.has_key(&link), counts, "{text:?} {mode:o}");
    }
    std::fs::write(&path, "short").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!desk.links.has_key(&agent("openclaw://agent?message=hello&key=short")), "a short key is none");
}
