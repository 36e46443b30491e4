//! Asks on the controlling terminal. Source: mac-app 3.2 (which fields), NOTES "A child that
//! shares our terminal can answer for the person".

use super::notify::Notifications;
use super::{Desktop, Place, offers};
use crate::exec::approval::{Answer, Kind, Question, Span};
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::protocol::text;
use crate::sys::clock::Now;
use crate::sys::poll::{self, Interest, deadline_in};
use crate::sys::terminal::{Direction, Ready, Terminal};
use crate::sys::wake::Wake;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest line that a terminal gives in line mode, bytes; an answer is far shorter.
const LINE_BYTES: usize = 4096;
/// Spaces in a row that are shown as they are. More of them could push the rest of a command out
/// of view or draw what looks like other lines of the prompt (A67, A74), so the rest is escaped.
const SPACES_IN_A_ROW: usize = 4;
const BACKGROUND: &str = "the app is not in the foreground of its terminal";

/// A person at the controlling terminal.
pub struct TerminalDesktop {
    terminal: Terminal,
    said_background: AtomicBool,
}

impl TerminalDesktop {
    /// Opens the controlling terminal.
    ///
    /// # Errors
    /// There is none.
    pub fn open() -> io::Result<Self> {
        Ok(Self { terminal: Terminal::open()?, said_background: AtomicBool::new(false) })
    }

    fn nobody(&self) -> Answer {
        if !self.said_background.swap(true, Ordering::Relaxed) {
            log!("app", "{BACKGROUND}, so nobody is asked; bring it to the foreground");
        }
        Answer::Nobody(BACKGROUND.to_owned())
    }

    /// Shows the question and waits. The modes are put back when this returns or unwinds.
    fn converse(&self, question: &Question, place: Place, withdrawn: &Wake) -> io::Result<Reply> {
        let _modes = self.terminal.begin_prompt()?;
        let reply = self.exchange(question, place, withdrawn)?;
        let farewell = format!("\nopenclaw: {}\n\n", reply.sentence(question.kind));
        // As much as fits: the answer must not wait for a stopped terminal.
        let _ = self.terminal.write(farewell.as_bytes());
        Ok(reply)
    }

    fn exchange(&self, question: &Question, place: Place, withdrawn: &Wake) -> io::Result<Reply> {
        if let Some(end) = self.write(&fields(question, place, Now::read()), question, withdrawn)? {
            return Ok(end);
        }
        // What was typed before the whole question could be read, or was meant for something else
        // on this screen, is no answer to it (H05, H06).
        poll::wait_one(withdrawn.fd(), Interest::Readable, deadline_in(limits::PROMPT_DELAY))?;
        self.terminal.flush_input()?;
        if let Some(end) = self.write(&invitation(question), question, withdrawn)? {
            return Ok(end);
        }
        self.read(question, withdrawn)
    }

    /// Writes all of `shown`; an early end of the question is the answer.
    fn write(&self, shown: &str, question: &Question, withdrawn: &Wake) -> io::Result<Option<Reply>> {
        let mut rest = shown.as_bytes();
        while !rest.is_empty() {
            if let Some(end) = self.wait(Direction::Output, question, withdrawn)? {
                return Ok(Some(end));
            }
            let count = self.terminal.write(rest)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(None)
    }

    fn read(&self, question: &Question, withdrawn: &Wake) -> io::Result<Reply> {
        loop {
            if let Some(end) = self.wait(Direction::Input, question, withdrawn)? {
                return Ok(end);
            }
            if !self.terminal.is_foreground() {
                return Err(io::Error::other(BACKGROUND));
            }
            let mut buffer = [0; LINE_BYTES];
            let Some(line) = self.terminal.read(&mut buffer)? else { continue };
            // The machine may have slept, or the requester may have gone, while Return was pressed.
            if withdrawn.is_fired() {
                return Ok(Reply::Ended(Answer::Withdrawn));
            }
            if question.deadline.passed(Now::read()) {
                return Ok(Reply::Ended(Answer::TimedOut));
            }
            return Ok(Reply::of(line, question));
        }
    }

    /// None when the terminal is ready.
    fn wait(&self, direction: Direction, question: &Question, withdrawn: &Wake) -> io::Result<Option<Reply>> {
        loop {
            if question.deadline.passed(Now::read()) {
                return Ok(Some(Reply::Ended(Answer::TimedOut)));
            }
            match self.terminal.wait(direction, withdrawn, question.deadline.next_look())? {
                Ready::Terminal => return Ok(None),
                Ready::Woken => return Ok(Some(Reply::Ended(Answer::Withdrawn))),
                Ready::Deadline => {}
            }
        }
    }
}

impl Desktop for TerminalDesktop {
    fn ask(&self, question: &Question, place: Place, withdrawn: &Wake) -> Answer {
        if !self.terminal.is_foreground() {
            return self.nobody();
        }
        let _held = log::hold_back();
        match self.converse(question, place, withdrawn) {
            Ok(reply) => reply.into(),
            Err(_) if !self.terminal.is_foreground() => self.nobody(),
            Err(error) => Answer::Nobody(format!("the terminal failed: {error}")),
        }
    }

    fn notifications(&self) -> Arc<Notifications> {
        Arc::new(Notifications::of_this_system(None, || ()))
    }
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// By a word, or without one.
    Ended(Answer),
    /// By a line that is no answer, or the end of input; why it does not count.
    NotAllowed(String),
}

impl Reply {
    /// Only a whole line that is exactly one of the words is an answer (A63).
    fn of(line: &[u8], question: &Question) -> Self {
        let Some(line) = line.strip_suffix(b"\n") else {
            return match question.kind {
                Kind::Pairing => Self::Ended(Answer::Later),
                _ => Self::NotAllowed("the input ended without a whole line".to_owned()),
            };
        };
        let line = line.trim_ascii();
        let said = words(question).into_iter().find(|(word, _)| word.as_bytes() == line);
        match (said, &question.allow_always) {
            (Some((_, answer)), _) => Self::Ended(answer),
            (None, Err(why)) if line == ALWAYS.as_bytes() => {
                Self::NotAllowed(format!("`{ALWAYS}` is not possible here: {}", shown(why)))
            }
            // Nobody is turned away by accident.
            _ if question.kind == Kind::Pairing => Self::Ended(Answer::Later),
            _ => Self::NotAllowed("only a whole word that is offered is an answer".to_owned()),
        }
    }

    fn sentence(&self, kind: Kind) -> String {
        let wording = Wording::of(kind);
        match self {
            Self::Ended(Answer::Decided(Decision::AllowOnce)) => wording.allowed.to_owned(),
            Self::Ended(Answer::Decided(Decision::AllowAlways)) => "allowed, and will be from now on".to_owned(),
            Self::Ended(Answer::Decided(Decision::Deny)) => wording.denied.to_owned(),
            Self::Ended(Answer::Later) => "put off; `openclaw mac-debug pair list` has it".to_owned(),
            Self::Ended(Answer::Granted(_)) => {
                "allowed, and for a while again; `openclaw mac-debug grants` ends it".to_owned()
            }
            Self::Ended(Answer::TimedOut) => "no answer in time; an answer no longer counts".to_owned(),
            Self::Ended(Answer::Withdrawn) => "the question was withdrawn; an answer no longer counts".to_owned(),
            Self::Ended(Answer::Nobody(why)) | Self::NotAllowed(why) => format!("not allowed ({why})"),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Ended(answer) => answer,
            Reply::NotAllowed(_) => Self::Decided(Decision::Deny),
        }
    }
}

/// What a kind of question and its answers are called here.
struct Wording {
    headline: &'static str,
    /// What stands in the question's `command`.
    subject: &'static str,
    allow: &'static str,
    allowed: &'static str,
    deny: &'static str,
    denied: &'static str,
}

impl Wording {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Command => Self {
                headline: "allow this command?",
                subject: "command",
                allow: "once",
                allowed: "allowed this once",
                deny: "deny",
                denied: "denied",
            },
            Kind::Change => Self {
                headline: "make this change?",
                subject: "change",
                allow: "change",
                allowed: "changed",
                deny: "cancel",
                denied: "not changed",
            },
            Kind::Link => Self {
                headline: "a link was opened; send its message to an agent?",
                subject: "message",
                allow: "send",
                allowed: "it may be sent",
                deny: "cancel",
                denied: "not sent",
            },
            Kind::Pairing => Self {
                headline: "let this in at the gateway?",
                subject: "who",
                allow: "approve",
                allowed: "approved",
                deny: "reject",
                denied: "rejected",
            },
            Kind::Page => Self {
                headline: "a canvas leads to this page; open it in your browser?",
                subject: "address",
                allow: "open",
                allowed: "opened",
                deny: "cancel",
                denied: "not opened",
            },
        }
    }
}

/// The word for "from now on".
const ALWAYS: &str = "always";

/// The words that answer a question, and what each means. What cannot be bound gets a word of its
/// own, so that no habit of typing `once` allows it (A108).
fn words(question: &Question) -> Vec<(String, Answer)> {
    let wording = Wording::of(question.kind);
    let word = |answer: &Answer| match answer {
        Answer::Decided(Decision::AllowOnce) if question.unbound.is_some() => "unbound".to_owned(),
        Answer::Decided(Decision::AllowOnce) => wording.allow.to_owned(),
        Answer::Decided(Decision::AllowAlways) => ALWAYS.to_owned(),
        Answer::Granted(Span::Minutes) => format!("{}min", limits::GRANT_MINUTES.as_secs() / 60),
        Answer::Granted(Span::Session) => "session".to_owned(),
        Answer::Later => "later".to_owned(),
        _ => wording.deny.to_owned(),
    };
    offers(question).into_iter().map(|answer| (word(&answer), answer)).collect()
}

/// `raw` in a form that cannot leave its place on the screen.
pub fn shown(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut spaces = 0;
    for character in text::visible(raw).chars() {
        spaces = if character == ' ' { spaces + 1 } else { 0 };
        if spaces > SPACES_IN_A_ROW {
            out.push_str(&text::visible_escape(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// What is asked. One field a line; nothing is cut, the terminal wraps what is long. The
/// command stands last, so that no length of it moves the other fields out of view.
fn fields(question: &Question, place: Place, now: Now) -> String {
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<10} {value}");
    };
    let program = if question.executable.is_empty() { "(none was found)" } else { &question.executable };
    let wording = Wording::of(question.kind);
    if question.kind == Kind::Command {
        field("program", &shown(program));
        field("directory", &shown(&question.cwd));
    }
    field("requester", &shown(&question.requester));
    if let Some(agent) = &question.agent {
        field("agent", &format!("says it is \"{}\"", shown(agent)));
    }
    if let Some(session) = &question.session {
        field("session", &format!("says it is \"{}\"", shown(session)));
    }
    for variable in &question.env {
        field("sets", &shown(variable));
    }
    for note in &question.notes {
        field("note", &shown(note));
    }
    if let Some(why) = &question.unbound {
        field("note", &format!("an answer cannot be bound to what this runs: {}", shown(why)));
    }
    let seconds = question.deadline.instant().saturating_duration_since(now.instant).as_secs();
    field("ends in", &format!("{seconds} s"));
    field(wording.subject, &shown(&question.command));
    let queue = if place.of > 1 { format!(" ({} of {})", place.number, place.of) } else { String::new() };
    format!("\nopenclaw: {}{queue}\n{out}", wording.headline)
}

/// The last line: which words are answers.
fn invitation(question: &Question) -> String {
    let mut words: Vec<String> = words(question).into_iter().map(|(word, _)| word).collect();
    let last = words.pop().unwrap_or_default();
    let remark = match (&question.unbound, &question.allow_always) {
        (Some(_), _) => " (unbound allows it this once, whatever it turns out to run)".to_owned(),
        (None, Err(why)) => format!(" ({ALWAYS} is not offered: {})", shown(why)),
        (None, Ok(())) => String::new(),
    };
    let remark = if question.kind == Kind::Command { remark } else { String::new() };
    format!("Type {} or {last}{remark}, then Return: ", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Expiry;
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
            spans: Vec::new(),
            unbound: None,
            deadline: Expiry::after(Now::read(), Duration::from_secs(120)),
        }
    }

    fn text_of(question: &Question) -> String {
        fields(question, Place { number: 1, of: 3 }, Now::read()) + &invitation(question)
    }

    #[test]
    fn the_prompt_has_every_field_once() {
        let text = text_of(&question());
        for part in [
            "(1 of 3)",
            "program    /usr/bin/uname\n",
            "directory  /tmp\n",
            "requester  our own node\n",
            "says it is \"main\"\n",
            "says it is \"agent:main:main\"\n",
            "sets       A=b\n",
            "note       approved at the gateway\n",
            "command    uname -a\n",
            "Type once, always or deny, then Return: ",
        ] {
            assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        }
        let no_always = Question { allow_always: Err("it is a shell".into()), ..question() };
        assert!(text_of(&no_always).contains("Type once or deny (always is not offered: it is a shell)"));
        assert!(!fields(&question(), Place { number: 1, of: 1 }, Now::read()).contains("of 1"));
    }

    /// A64: nothing is cut, however long.
    #[test]
    fn sec_a64_the_whole_command_is_shown() {
        let command = format!("echo {} && rm -rf /tail", "x".repeat(20_000));
        assert!(text_of(&Question { command: command.clone(), ..question() }).contains(&command));
    }

    /// What a link asks for is such a question.
    #[test]
    fn sec_a65_a_long_text_hides_nothing_wherever_it_stands() {
        let text = "harmless ".repeat(27) + &"x".repeat(30_000) + "payload";
        let fill: [fn(&mut Question, String); 6] = [
            |question, text| question.command = text,
            |question, text| question.cwd = text,
            |question, text| question.env = vec![text],
            |question, text| question.agent = Some(text),
            |question, text| question.session = Some(text),
            |question, text| question.notes = vec![text],
        ];
        for fill in fill {
            let mut question = question();
            fill(&mut question, text.clone());
            assert!(text_of(&question).contains(&text));
        }
    }

    /// A66, A67: one visible line, whatever the command holds.
    #[test]
    fn sec_a66_a67_what_hides_or_moves_is_an_escape() {
        let command =
            format!("ls{}\r\x08\x1b[2J\t\x7f\u{9b}\u{202e}\u{200b}\u{e0061}\u{2028}\u{a0}x", "\n".repeat(200));
        let text = text_of(&Question { command, ..question() });
        assert_eq!(text.lines().count(), text_of(&question()).lines().count());
        assert!(
            text.contains("\\u{D}\\u{8}\\u{1B}[2J\\u{9}\\u{7F}\\u{9B}\\u{202E}\\u{200B}\\u{E0061}\\u{2028}\\u{A0}x")
        );
        assert!(text.chars().all(|character| character == '\n' || !text::is_hidden(character)));
        let padded = text_of(&Question { command: format!("ls {} ; rm", " ".repeat(500)), ..question() });
        assert!(!padded.contains(&" ".repeat(20)), "padding cannot draw a false line");
    }

    /// A74: every claimed field stays on its own line.
    #[test]
    fn sec_a74_fields_cannot_forge_others() {
        let lie = "main\n\n  note       Approved by admin\u{202e}".to_owned();
        let plain = text_of(&question()).lines().count();
        for question in [
            Question { agent: Some(lie.clone()), ..question() },
            Question { session: Some(lie.clone()), ..question() },
            Question { cwd: lie.clone(), ..question() },
            Question { executable: lie.clone(), ..question() },
            Question { requester: lie.clone(), ..question() },
            Question { env: vec![lie.clone()], ..question() },
            Question { notes: vec![lie.clone()], ..question() },
            Question { allow_always: Err(lie.clone()), ..question() },
        ] {
            let text = text_of(&question);
            assert_eq!(text.lines().count(), plain, "{text}");
            assert!(!text.contains("\n  note       Approved by admin"), "{text}");
        }
    }

    fn reply(line: &str, question: &Question) -> Reply {
        Reply::of(line.as_bytes(), question)
    }

    /// What a line means to the one who asked.
    fn answer(line: &str, question: &Question) -> Answer {
        reply(line, question).into()
    }

    const ONCE: Answer = Answer::Decided(Decision::AllowOnce);
    const ALWAYS_ALLOWED: Answer = Answer::Decided(Decision::AllowAlways);
    const DENIED: Answer = Answer::Decided(Decision::Deny);

    /// A63: only the exact words decide, and each only where it was offered.
    #[test]
    fn sec_a63_odd_answers_are_not_permission() {
        let plain = question();
        assert_eq!(answer("once\n", &plain), ONCE);
        assert_eq!(answer(" always \n", &plain), ALWAYS_ALLOWED);
        assert_eq!(reply("deny\n", &plain), Reply::Ended(DENIED));
        for odd in [
            "",
            "\n",
            "once",
            "ONCE\n",
            "y\n",
            "yes\n",
            "allow\n",
            "allow-once\n",
            "once once\n",
            "on\n",
            "o\0nce\n",
            "15min\n",
            "session\n",
            "unbound\n",
            "15\n",
        ] {
            let reply = reply(odd, &plain);
            assert!(matches!(reply, Reply::NotAllowed(_)), "{odd:?}: {reply:?}");
            assert_eq!(Answer::from(reply), DENIED);
        }
        let shell = Question { allow_always: Err("a shell".into()), ..question() };
        assert!(matches!(reply("always\n", &shell), Reply::NotAllowed(why) if why.contains("a shell")));
    }

    #[test]
    fn each_kind_has_its_own_words_and_none_of_the_others() {
        let later = Answer::Later;
        let link = Question { kind: Kind::Link, allow_always: Err("once".into()), ..question() };
        assert_eq!(invitation(&link), "Type send or cancel, then Return: ");
        let text = text_of(&link);
        assert!(text.contains("  message    uname -a\n") && !text.contains("program"), "{text}");
        for (line, expected) in [("send\n", &ONCE), ("cancel\n", &DENIED), ("once\n", &DENIED), ("\n", &DENIED)] {
            assert_eq!(answer(line, &link), *expected, "{line:?}");
        }
        let pairing = Question { kind: Kind::Pairing, ..link };
        assert_eq!(invitation(&pairing), "Type approve, reject or later, then Return: ");
        for (line, expected) in [
            ("approve\n", &ONCE),
            ("reject\n", &DENIED),
            ("later\n", &later),
            ("once\n", &later),
            ("\n", &later),
            ("", &later),
        ] {
            assert_eq!(answer(line, &pairing), *expected, "{line:?}");
        }
        for word in ["send\n", "approve\n", "later\n"] {
            assert_eq!(answer(word, &question()), DENIED, "{word:?}");
        }
    }

    #[test]
    fn grants_are_offered_and_taken_only_as_the_question_says() {
        let (minutes, session) = (Answer::Granted(Span::Minutes), Answer::Granted(Span::Session));
        let both = Question { spans: vec![Span::Minutes, Span::Session], ..question() };
        assert_eq!(invitation(&both), "Type once, always, 15min, session or deny, then Return: ");
        assert_eq!((answer("15min\n", &both), answer("session\n", &both)), (minutes.clone(), session));
        assert_eq!((answer("once\n", &both), answer("15 min\n", &both)), (ONCE, DENIED));
        let one = Question { spans: vec![Span::Minutes], allow_always: Err("it is a shell".into()), ..question() };
        let expected = "Type once, 15min or deny (always is not offered: it is a shell), then Return: ";
        assert_eq!(invitation(&one), expected);
        assert_eq!((answer("15min\n", &one), answer("session\n", &one)), (minutes, DENIED));
    }

    /// A108: what an answer cannot be bound to is not allowed by a word that people type out of habit,
    /// and for no longer than once.
    #[test]
    fn sec_a108_what_cannot_be_bound_has_a_word_of_its_own() {
        let unbound = Question {
            unbound: Some("its code\nis in Makefile".into()),
            spans: vec![Span::Minutes, Span::Session],
            ..question()
        };
        let text = text_of(&unbound);
        assert!(
            text.contains("\n  note       an answer cannot be bound to what this runs: its code\\u{A}is in Makefile\n")
        );
        assert!(invitation(&unbound).starts_with("Type unbound or deny (unbound allows it this once, "), "{text}");
        for word in ["once", "always", "15min", "session", "yes", ""] {
            assert_eq!(answer(&format!("{word}\n"), &unbound), DENIED, "{word}");
        }
        assert_eq!((answer("unbound\n", &unbound), answer("deny\n", &unbound)), (ONCE, DENIED));
    }

    /// H05: what comes by itself or by accident is no: Return alone, the end of input, half a line.
    #[test]
    fn sec_h05_return_alone_and_the_end_of_input_deny() {
        let offered = Question { spans: vec![Span::Minutes, Span::Session], ..question() };
        for line in ["\n", " \n", "\r\n", "", "once", "always", "\u{1b}\n"] {
            assert_eq!(answer(line, &offered), DENIED, "{line:?}");
        }
    }

    /// H06: nothing is cut or paged, so the whole question has been written before its last line, and
    /// [`sec_a63_a_person_at_a_real_terminal`] shows that nothing counts before that line.
    #[test]
    fn sec_h06_the_invitation_comes_last_and_the_command_right_before_it() {
        let command = format!("echo {} /tail", "x y".repeat(7_000));
        let text = text_of(&Question { command: command.clone(), ..question() });
        assert!(text.ends_with(&format!("  command    {command}\nType once, always or deny, then Return: ")));
    }

    const THIS: &str = "desktop::terminal::tests::sec_a63_a_person_at_a_real_terminal";
    const ROLE: &str = "OC_TEST_TERMINAL";

    /// What the process on the terminal does; prints the answer.
    fn ask_as(role: &str) {
        let desktop = TerminalDesktop::open().unwrap();
        let wake = std::sync::Arc::new(Wake::new().unwrap());
        let deadline = if role == "short" { 1_500 } else { 20_000 };
        let deadline = Expiry::after(Now::read(), Duration::from_millis(deadline));
        let allow_always = if role == "no-always" { Err("it is a shell".to_owned()) } else { Ok(()) };
        let (spans, unbound) = match role {
            "spans" => (vec![Span::Minutes, Span::Session], None),
            "unbound" => (vec![Span::Minutes], Some("its code is in Makefile".to_owned())),
            _ => (Vec::new(), None),
        };
        // More than a terminal holds that nobody reads.
        let command = if role == "long" { "x".repeat(300_000) } else { "uname -a".to_owned() };
        let question = Question { deadline, allow_always, spans, unbound, command, ..question() };
        if role == "withdraw" {
            let wake = std::sync::Arc::clone(&wake);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1_000));
                wake.fire();
            });
        }
        println!("answer: {:?}", desktop.ask(&question, Place { number: 1, of: 1 }, &wake));
    }

    /// Runs this test again as another process.
    fn again(role: &str) -> std::process::Command {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", THIS]).env(ROLE, role).stdout(std::process::Stdio::piped());
        command
    }

    fn answer_of(child: std::process::Child) -> String {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.split_once("answer: ")).unwrap_or_else(|| panic!("{text}")).1.to_owned()
    }

    /// Plays the person before one question: false if it could not type as early as the role asks.
    fn converse_with(role: &str, typed: &str, expected: &str) -> bool {
        use crate::sys::terminal::pseudo::PseudoTerminal;
        use std::io::{Read, Write};
        let terminal = PseudoTerminal::new();
        terminal.make_raw();
        let before = terminal.local_modes();
        // Typed before the question can be read, so no answer to it.
        (&terminal.person).write_all(b"once\nonce\r").unwrap();
        let started = std::time::Instant::now();
        let child = terminal.spawn(&mut again(role));
        let mut is_early = true;
        if role != "background" {
            let mut seen = String::new();
            let mut types_early = matches!(role, "early" | "long");
            while !seen.contains("then Return") {
                let mut piece = [0; 4096];
                let count = (&terminal.person).read(&mut piece).unwrap();
                seen.push_str(&String::from_utf8_lossy(&piece[..count]));
                if types_early && seen.contains("  command ") {
                    types_early = false;
                    (&terminal.person).write_all(b"once\r").unwrap();
                    // Of the long one most is not yet written, so that any time is early.
                    is_early = role == "long" || started.elapsed() < limits::PROMPT_DELAY;
                }
            }
            assert_ne!(terminal.local_modes(), before, "the prompt needs line mode and echo");
            (&terminal.person).write_all(typed.as_bytes()).unwrap();
        }
        let answer = answer_of(child);
        assert!(!is_early || answer.contains(expected), "{role} {typed:?}: {answer}");
        assert_eq!(terminal.local_modes(), before, "{role} {typed:?}: modes are not restored");
        is_early
    }

    /// The whole of it on a pseudo-terminal: type-ahead, modes, words, deadline, withdrawal.
    #[test]
    fn sec_a63_a_person_at_a_real_terminal() {
        use std::os::unix::process::CommandExt;
        match std::env::var(ROLE).ok().as_deref() {
            Some("background") => {
                // In a group of its own: the terminal stays with us.
                let child = again("plain").process_group(0).spawn().unwrap();
                return println!("answer: {}", answer_of(child));
            }
            Some(role) => return ask_as(role),
            None => {}
        }
        let allowed_once = "Decided(AllowOnce)";
        for (role, typed, expected) in [
            ("plain", "once\r", allowed_once),
            ("plain", "always\r", "Decided(AllowAlways)"),
            ("plain", "deny\r", "Decided(Deny)"),
            ("plain", "yes\r", "Decided(Deny)"),
            ("plain", "\x04", "Decided(Deny)"),
            ("plain", "once\x04", "Decided(Deny)"),
            ("plain", "onx\x7fce\r", allowed_once),
            ("no-always", "always\r", "Decided(Deny)"),
            ("spans", "15min\r", "Granted(Minutes)"),
            ("spans", "session\r", "Granted(Session)"),
            ("plain", "15min\r", "Decided(Deny)"),
            ("unbound", "once\r", "Decided(Deny)"),
            ("unbound", "unbound\r", allowed_once),
            ("early", "deny\r", "Decided(Deny)"),
            ("long", "deny\r", "Decided(Deny)"),
            ("plain", "\r", "Decided(Deny)"),
            ("short", "once", "TimedOut"),
            ("withdraw", "", "Withdrawn"),
            ("background", "", "Nobody("),
        ] {
            let conclusive = (0..20).any(|_| converse_with(role, typed, expected));
            assert!(conclusive, "{role}: this machine is too slow to type early");
        }
    }
}
