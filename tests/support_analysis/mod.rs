//! What the tests of command analysis share: an app that has nobody to ask, whose refusal says that a person
//! would have been asked, and why; and one with a person on a terminal.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::support::{self, Pty, children, wait_until};
use crate::support_exec::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub const ASKED: &str = "SYSTEM_RUN_DENIED: approval required";
pub const NO_PROGRAM: &str = "SYSTEM_RUN_DENIED: approval requires a stable executable path";

/// The last words of a prompt.
const ANSWER: &str = "then Return: ";

/// An app that asks nobody, a workspace, and a policy that the test writes between its requests.
pub struct Bench {
    pub scratch: Scratch,
    app: App,
    pub exec: Exec,
    /// Processes of the app itself.
    own: Vec<u32>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With this as `tools.exec` of the owner's configuration.
    pub fn with(tools: &Value) -> Self {
        let scratch = workspace(tools);
        let app = App::start(&scratch);
        Self::of(scratch, app)
    }

    /// With these words in front of the app's command line.
    pub fn under(starter: &[&str]) -> Self {
        let scratch = workspace(&json!({}));
        let app = App::start_with(&scratch, scratch.openclaw_under(starter, APP));
        Self::of(scratch, app)
    }

    fn of(scratch: Scratch, app: App) -> Self {
        let exec = app.exec(&scratch);
        let own = children(app.pid());
        Self { scratch, app, exec, own }
    }

    pub fn work(&self) -> PathBuf {
        self.scratch.join("w")
    }

    /// A path in the workspace, as text.
    pub fn path(&self, name: &str) -> String {
        text_of(&self.work().join(name))
    }

    pub fn canary(&self) -> String {
        text_of(&self.scratch.canary())
    }

    /// `touch CANARY`
    pub fn touch(&self) -> String {
        format!("touch {}", self.canary())
    }

    /// Only these entries are on the list from now on: patterns, names of system programs, or objects.
    pub fn list(&self, entries: &[Value]) {
        write_list(&self.scratch, entries);
    }

    /// The same for system programs, by their paths.
    pub fn programs(&self, names: &[&str]) {
        self.list(&names.iter().map(|name| json!(program(name))).collect::<Vec<_>>());
    }

    pub fn send(&self, request: &Value) -> Reply {
        let mut request = request.clone();
        if request.get("cwd").is_none() {
            request["cwd"] = json!(self.work());
        }
        let reply = self.exec.request(&request);
        assert!(!self.scratch.canary().exists(), "the canary is there after {request}");
        reply
    }

    /// It is refused with this code, and does not run.
    pub fn refused(&self, request: &Value, code: &str) -> String {
        let reply = self.send(request);
        assert!(reply.is_refusal(), "{request} ran: {}", reply.value());
        reply.refused(code)["message"].as_str().unwrap().to_owned()
    }

    /// A person would be asked; returns why.
    pub fn asks(&self, request: &Value) -> String {
        let message = self.refused(request, "UNAVAILABLE");
        assert!(message.starts_with(ASKED), "{request}: {message}");
        message
    }

    /// There is no such program, so there is nothing to ask about.
    pub fn finds_nothing(&self, request: &Value) {
        let message = self.refused(request, "UNAVAILABLE");
        assert!(message.starts_with(NO_PROGRAM), "{request}: {message}");
    }

    /// It runs unasked and succeeds; what it prints.
    pub fn runs(&self, request: &Value) -> String {
        let payload = self.send(request).ran().clone();
        assert_eq!(payload["exitCode"], 0, "{request}: {payload}");
        payload["stdout"].as_str().unwrap().to_owned()
    }

    /// The end of a case: no canary, no child, and the service still answers a good request.
    pub fn finish(mut self) {
        stays_absent(&self.scratch.canary());
        wait_until("the end of all children", || {
            children(self.app.pid()).iter().all(|child| self.own.contains(child)).then_some(())
        });
        self.programs(&["echo"]);
        self.exec.assert_works();
        assert!(self.app.is_alive());
    }
}

/// An app on a terminal with somebody who answers as the test says.
pub struct Attended {
    pub scratch: Scratch,
    terminal: Pty,
    exec: Exec,
    prompts: usize,
}

impl Attended {
    pub fn new() -> Self {
        let scratch = workspace(&json!({}));
        let terminal = app_on_terminal(&scratch);
        let exec = Exec::of(&scratch);
        Self { scratch, terminal, exec, prompts: 0 }
    }

    pub fn touch(&self) -> String {
        format!("touch {}", text_of(&self.scratch.canary()))
    }

    /// Sends it and answers the question if there is one: the question, and what came of it.
    pub fn ask(&mut self, request: &Value, answer: &str) -> (Option<String>, Reply) {
        let mut request = request.clone();
        if request.get("cwd").is_none() {
            request["cwd"] = json!(self.scratch.join("w"));
        }
        let exec = self.exec.clone();
        let asked = thread::spawn(move || exec.request(&request));
        let mut prompt = None;
        while !asked.is_finished() {
            self.terminal.watch(Duration::from_millis(10));
            let screen = self.terminal.screen();
            if screen.matches(ANSWER).count() > self.prompts {
                prompt = Some(screen.split(ANSWER).nth(self.prompts).unwrap().to_owned());
                self.prompts += 1;
                self.terminal.type_text(&format!("{answer}\n"));
            }
        }
        (prompt, asked.join().unwrap())
    }

    /// It is asked about, and refused; the question.
    pub fn denies(&mut self, request: &Value) -> String {
        let (prompt, reply) = self.ask(request, "deny");
        assert_eq!(reply.refused("UNAVAILABLE")["reason"], "user-denied", "{request}");
        prompt.unwrap_or_else(|| panic!("nobody was asked about {request}"))
    }

    pub fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.scratch.approvals_path()).unwrap()).unwrap()
    }

    pub fn finish(self) {
        stays_absent(&self.scratch.canary());
        wait_until("the end of all shells and touches", || {
            processes_named(&text_of(&self.scratch.canary())).is_empty().then_some(())
        });
        write_list(&self.scratch, &[json!(program("echo"))]);
        self.exec.assert_works();
    }
}

/// Whether a prompt offers this answer.
pub fn offers(prompt: &str, answer: &str) -> bool {
    let invitation = prompt.rsplit("Type ").next().unwrap().split(" (").next().unwrap();
    invitation.split([',', ' ']).any(|offered| offered == answer)
}

/// A directory with a workspace `w`, a policy that lists nothing, and the owner's `tools.exec`.
pub fn workspace(tools: &Value) -> Scratch {
    let scratch = Scratch::new();
    make_dir(&scratch.join("w"));
    scratch.approvals(&json!({"version": 1}));
    let config = json!({"gateway": {"auth": {"token": support::TOKEN}}, "tools": {"exec": tools}});
    write_private(&scratch.state().join("openclaw.json"), config.to_string().as_bytes());
    scratch
}

pub fn write_list(scratch: &Scratch, entries: &[Value]) {
    let entry = |entry: &Value| if entry.is_string() { json!({"pattern": entry}) } else { entry.clone() };
    let list: Vec<Value> = entries.iter().map(entry).collect();
    scratch.edit_approvals(|document| {
        document.insert("agents".into(), json!({"*": {"allowlist": list}}));
    });
}

pub fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A request for an argument vector.
pub fn argv<T: AsRef<str>>(words: &[T]) -> Value {
    json!({"command": words.iter().map(AsRef::as_ref).collect::<Vec<_>>()})
}

/// The same, written with blanks.
pub fn words(command: &str) -> Value {
    argv(&command.split(' ').collect::<Vec<_>>())
}

/// A request for a shell's text.
pub fn sh(text: &str) -> Value {
    argv(&["sh", "-c", text])
}

/// The request with more members, or other ones.
pub fn with(request: &Value, members: &Value) -> Value {
    let mut request = request.clone();
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    request
}

/// A program that does this.
pub fn tool(path: &Path, script: &str) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    text_of(path)
}
