//! What runs for an agent cannot approve itself; what was allowed for a while ends; what was decided is
//! written down; and looking changes nothing. Driven through the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::{Finished, Process, sha256_hex, wait_until};
use support_exec::*;

const BINARY: &str = env!("CARGO_BIN_EXE_openclaw");

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---- A75 ----

/// An app whose agents may run our own command line and a few tools, with a question that waits for an operator.
struct Cage {
    scratch: Scratch,
    app: App,
    exec: Exec,
    question: Option<JoinHandle<Reply>>,
    /// The approval that waits.
    id: String,
}

/// What every agent of the cage may run.
const TOOLS: [&str; 5] = ["cat", "cp", "tee", "env", "ls"];

impl Cage {
    fn new(fence: &str) -> Self {
        let scratch = Scratch::new();
        let mut document = allowing(&TOOLS);
        document["agents"]["*"]["allowlist"].as_array_mut().unwrap().push(json!({"pattern": BINARY}));
        document["defaults"] = json!({"fence": fence});
        scratch.approvals(&document);
        let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--no-tcp"]));
        wait_for_node(&scratch);
        let exec = app.exec(&scratch);
        let request = json!({"command": [program("touch"), scratch.canary()]});
        let asker = exec.clone();
        let question = Some(thread::spawn(move || asker.request(&request)));
        let id = wait_until("the question", || Some(waiting(&scratch).first()?["id"].as_str()?.to_owned()));
        Self { scratch, app, exec, question, id }
    }

    fn state(&self) -> String {
        text(&self.scratch.state()).to_owned()
    }

    /// `<program> mac-debug …` against the true state directory, as an agent would have it run.
    fn cli(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let state = self.state();
        let words = [&[program, "mac-debug", "--state-dir", &state], arguments].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs it; what it printed and its exit code, whether it succeeded or not.
    fn run(&self, command: &[String]) -> Value {
        let cwd = self.scratch.path();
        let reply = self.exec.request(&json!({"command": command, "cwd": cwd, "timeoutMs": 20_000}));
        reply.ran().clone()
    }
}

fn waiting(scratch: &Scratch) -> Vec<Value> {
    let list = scratch.mac_debug(&["approvals", "list", "--json"]);
    serde_json::from_str(&list.stdout).unwrap_or_default()
}

/// One way out of the cage: what an agent has run, and whether it has got what it wanted.
struct Attempt {
    what: &'static str,
    command: fn(&Cage) -> Vec<String>,
    worked: fn(&Cage, &Value) -> bool,
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

fn is_answered(cage: &Cage, _ran: &Value) -> bool {
    waiting(&cage.scratch).is_empty()
}

fn may_run_all(cage: &Cage, _ran: &Value) -> bool {
    fs::read_to_string(cage.scratch.approvals_path()).unwrap().contains("/usr/bin/*")
}

fn has_token(cage: &Cage, ran: &Value) -> bool {
    ran["stdout"].as_str().unwrap().contains(&cage.exec.token)
}

/// A document in which everything may run, where a command can read it.
fn forged(cage: &Cage) -> String {
    let path = cage.scratch.join("forged.json");
    let allow =
        json!({"version": 1, "socket": {"token": cage.exec.token}, "agents": {"*": {"allowlist": ["/usr/bin/*"]}}});
    write_private(&path, allow.to_string().as_bytes());
    text(&path).to_owned()
}

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        what: "the CLI adds an entry",
        command: |cage| cage.cli(BINARY, &["approvals", "allowlist", "add", "/usr/bin/*"]),
        worked: may_run_all,
    },
    Attempt {
        what: "the CLI adds an entry, behind sh -c",
        command: |cage| {
            let words = cage.cli(BINARY, &["approvals", "allowlist", "add", "/usr/bin/*"]);
            vec!["sh".to_owned(), "-c".to_owned(), quoted(&words)]
        },
        worked: may_run_all,
    },
    Attempt {
        what: "a renamed link adds an entry",
        command: |cage| {
            let link = cage.scratch.join("harmless");
            if !link.exists() {
                symlink(BINARY, &link).unwrap();
            }
            cage.cli(text(&link), &["approvals", "allowlist", "add", "/usr/bin/*"])
        },
        worked: may_run_all,
    },
    Attempt {
        what: "the CLI behind env adds an entry",
        command: |cage| {
            let words = cage.cli(BINARY, &["approvals", "allowlist", "add", "/usr/bin/*"]);
            [vec!["env".to_owned()], words].concat()
        },
        worked: may_run_all,
    },
    Attempt {
        what: "the CLI as another name of its state directory's owner",
        command: |cage| {
            let words = ["sh".to_owned(), "-c".to_owned()];
            let through =
                format!("{}/../{}", cage.state(), Path::new(&cage.state()).file_name().unwrap().to_str().unwrap());
            let words_in =
                [BINARY, "mac-debug", "--state-dir", &through, "approvals", "allowlist", "add", "/usr/bin/*"];
            [words.to_vec(), vec![quoted(&words_in.map(str::to_owned))]].concat()
        },
        worked: may_run_all,
    },
    Attempt {
        what: "a direct write of the document",
        command: |cage| vec!["cp".to_owned(), forged(cage), text(&cage.scratch.approvals_path()).to_owned()],
        worked: may_run_all,
    },
    Attempt {
        what: "a direct write through a pipeline",
        command: |cage| {
            let text = format!("cat '{}' | tee '{}'", forged(cage), text(&cage.scratch.approvals_path()));
            vec!["sh".to_owned(), "-c".to_owned(), text]
        },
        worked: may_run_all,
    },
    Attempt {
        what: "reading the socket's token",
        command: |cage| vec!["cat".to_owned(), text(&cage.scratch.approvals_path()).to_owned()],
        worked: has_token,
    },
    Attempt {
        what: "reading the gateway's token",
        command: |cage| vec!["cat".to_owned(), text(&cage.scratch.state().join("openclaw.json")).to_owned()],
        worked: |_, ran| ran["stdout"].as_str().unwrap().contains("\"token\""),
    },
    Attempt {
        what: "reading the gateway's token through the app's own directory",
        command: |cage| {
            let path = format!("/proc/{}/root{}/openclaw.json", cage.app.pid(), cage.state());
            vec!["cat".to_owned(), path]
        },
        // A non-dumpable app is not looked into without the fence either, unless we are root.
        worked: |_, ran| !is_root() || ran["stdout"].as_str().unwrap().contains("\"token\""),
    },
    Attempt {
        what: "asking the app for its grants",
        command: |cage| cage.cli(BINARY, &["grants", "list"]),
        worked: |_, ran| ran["stdout"].as_str().unwrap().contains("no command is granted"),
    },
    Attempt {
        what: "ending the owner's pause",
        command: |cage| cage.cli(BINARY, &["pause"]),
        worked: |cage, _| cage.scratch.mac_debug(&["resume"]).code == Some(0) && was_paused(cage),
    },
    Attempt {
        what: "looking at what waits",
        command: |cage| cage.cli(BINARY, &["approvals", "list"]),
        worked: |cage, ran| ran["stdout"].as_str().unwrap().contains(&cage.id),
    },
    // The last one: it answers the only question.
    Attempt {
        what: "answering the question, behind sh -c",
        command: |cage| {
            let words = cage.cli(BINARY, &["approvals", "allow-once", &cage.id]);
            vec!["sh".to_owned(), "-c".to_owned(), quoted(&words)]
        },
        worked: is_answered,
    },
];

/// Whether the log has seen the pause.
fn was_paused(cage: &Cage) -> bool {
    cage.scratch.state().exists()
}
