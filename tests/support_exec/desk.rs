//! An app on a terminal, somebody who asks it, and the person who answers.

use super::{Exec, Reply, Scratch, app_on_terminal};
use crate::support::{Finished, Process, Pty};
use serde_json::Value;
use std::fs;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The first and the last words of a prompt.
const QUESTION: &str = "allow this command?";
const ANSWER: &str = "then Return: ";

/// The app asks here.
pub struct Desk {
    pub scratch: Scratch,
    pub terminal: Pty,
    pub exec: Exec,
}

impl Desk {
    /// With the default policy.
    pub fn new() -> Self {
        Self::at(Scratch::new())
    }

    /// With this approvals document.
    pub fn with(document: &Value) -> Self {
        let scratch = Scratch::new();
        scratch.approvals(document);
        Self::at(scratch)
    }

    /// With what is there.
    pub fn at(scratch: Scratch) -> Self {
        let terminal = app_on_terminal(&scratch);
        let exec = Exec::of(&scratch);
        Self { scratch, terminal, exec }
    }

    /// Sends a request in the background.
    pub fn ask(&self, request: &Value) -> JoinHandle<Reply> {
        let (exec, request) = (self.exec.clone(), request.clone());
        thread::spawn(move || exec.request(&request))
    }

    /// Waits for the next prompt; its text.
    pub fn prompt(&mut self) -> String {
        self.terminal.expect(QUESTION);
        self.terminal.expect(ANSWER)
    }

    /// Waits for the beginning of the next prompt, before any answer counts.
    pub fn beginning(&mut self) {
        self.terminal.expect(QUESTION);
    }

    /// Waits for the end of a prompt that has begun.
    pub fn rest(&mut self) -> String {
        self.terminal.expect(ANSWER)
    }

    /// Reads the terminal while something else goes on.
    pub fn wait<T>(&mut self, thread: JoinHandle<T>) -> T {
        while !thread.is_finished() {
            self.terminal.watch(Duration::from_millis(10));
        }
        thread.join().unwrap()
    }

    /// Asks, and answers the prompt with `word`: what was shown, and what came of it.
    pub fn answered(&mut self, request: &Value, word: &str) -> (String, Reply) {
        let asked = self.ask(request);
        let shown = self.prompt();
        self.terminal.type_text(&format!("{word}\n"));
        (shown, self.wait(asked))
    }

    /// A prompt comes, and is answered with no: what was shown.
    pub fn prompts(&mut self, request: &Value) -> String {
        let (shown, reply) = self.answered(request, "deny");
        assert_eq!(reply.refused("UNAVAILABLE")["reason"], "user-denied", "{reply:?}");
        shown
    }

    /// Asks for something about which nobody is asked.
    pub fn unasked(&mut self, request: &Value) -> Reply {
        let before = self.questions();
        let asked = self.ask(request);
        while !asked.is_finished() {
            self.terminal.watch(Duration::from_millis(10));
            assert_eq!(self.questions(), before, "{request} asks:\n{}", self.terminal.screen());
        }
        asked.join().unwrap()
    }

    /// `openclaw mac-debug …` to its end, while the terminal is read.
    pub fn mac_debug(&mut self, arguments: &[&str]) -> Finished {
        let mut process = Process::spawn(self.scratch.mac_debug_command(arguments));
        while process.ended().is_none() {
            self.terminal.watch(Duration::from_millis(10));
        }
        process.finish()
    }

    /// How many prompts there were.
    pub fn questions(&self) -> usize {
        self.terminal.screen().matches(QUESTION).count()
    }

    /// The approvals document as it is stored.
    pub fn document(&self) -> String {
        fs::read_to_string(self.scratch.approvals_path()).unwrap()
    }

    /// The good request that must work after every case.
    pub fn assert_works(&mut self) {
        let (_, reply) = self.answered(&serde_json::json!({"command": ["printf", "still here"]}), "once");
        assert_eq!(reply.ran()["stdout"], "still here");
    }
}
