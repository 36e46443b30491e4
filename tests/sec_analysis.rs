//! Command analysis and allowlists, driven through the built program: what a request really is decides
//! whether it runs unasked, whatever it looks like. Most cases run in an app that has nobody to ask, whose
//! refusal says that a person would have been asked, and why; the rest in one with a person on a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use support::{Pty, children, wait_until};
use support_exec::*;

const ASKED: &str = "SYSTEM_RUN_DENIED: approval required";
const NO_PROGRAM: &str = "SYSTEM_RUN_DENIED: approval requires a stable executable path";

/// The last words of a prompt.
const ANSWER: &str = "then Return: ";

/// An app that asks nobody, a workspace, and a policy that the test writes between its requests.
struct Bench {
    scratch: Scratch,
    app: App,
    exec: Exec,
    /// Processes of the app itself.
    own: Vec<u32>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With this as `tools.exec` of the owner's configuration.
    fn with(tools: &Value) -> Self {
        let scratch = workspace(tools);
        let app = App::start(&scratch);
        let exec = app.exec(&scratch);
        let own = children(app.pid());
        Self { scratch, app, exec, own }
    }

    fn work(&self) -> PathBuf {
        self.scratch.join("w")
    }

    /// A path in the workspace, as text.
    fn path(&self, name: &str) -> String {
        text_of(&self.work().join(name))
    }

    fn canary(&self) -> String {
        text_of(&self.scratch.canary())
    }

    /// `touch CANARY`
    fn touch(&self) -> String {
        format!("touch {}", self.canary())
    }

    /// Only these entries are on the list from now on: patterns, names of system programs, or objects.
    fn list(&self, entries: &[Value]) {
        write_list(&self.scratch, entries);
    }

    /// The same for system programs, by their paths.
    fn programs(&self, names: &[&str]) {
        self.list(&names.iter().map(|name| json!(program(name))).collect::<Vec<_>>());
    }

    fn stored(&self) -> Vec<u8> {
        fs::read(self.scratch.approvals_path()).unwrap()
    }

    fn send(&self, request: &Value) -> Reply {
        let mut request = request.clone();
        if request.get("cwd").is_none() {
            request["cwd"] = json!(self.work());
        }
        let reply = self.exec.request(&request);
        assert!(!self.scratch.canary().exists(), "the canary is there after {request}");
        reply
    }

    /// It is refused with this code, and does not run.
    fn refused(&self, request: &Value, code: &str) -> String {
        let reply = self.send(request);
        assert!(reply.is_refusal(), "{request} ran: {}", reply.value());
        reply.refused(code)["message"].as_str().unwrap().to_owned()
    }

    /// A person would be asked; returns why.
    fn asks(&self, request: &Value) -> String {
        let message = self.refused(request, "UNAVAILABLE");
        assert!(message.starts_with(ASKED), "{request}: {message}");
        message
    }

    /// There is no such program, so there is nothing to ask about.
    fn finds_nothing(&self, request: &Value) {
        let message = self.refused(request, "UNAVAILABLE");
        assert!(message.starts_with(NO_PROGRAM), "{request}: {message}");
    }

    /// It runs unasked and succeeds; what it prints.
    fn runs(&self, request: &Value) -> String {
        let payload = self.send(request).ran().clone();
        assert_eq!(payload["exitCode"], 0, "{request}: {payload}");
        payload["stdout"].as_str().unwrap().to_owned()
    }

    /// The end of a case: no canary, no child, and the service still answers a good request.
    fn finish(mut self) {
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
struct Attended {
    scratch: Scratch,
    terminal: Pty,
    exec: Exec,
    prompts: usize,
}

impl Attended {
    fn new() -> Self {
        let scratch = workspace(&json!({}));
        let terminal = app_on_terminal(&scratch);
        let exec = Exec::of(&scratch);
        Self { scratch, terminal, exec, prompts: 0 }
    }

    fn touch(&self) -> String {
        format!("touch {}", text_of(&self.scratch.canary()))
    }

    /// Sends it and answers the question if there is one: the question, and what came of it.
    fn ask(&mut self, request: &Value, answer: &str) -> (Option<String>, Reply) {
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
    fn denies(&mut self, request: &Value) -> String {
        let (prompt, reply) = self.ask(request, "deny");
        assert_eq!(reply.refused("UNAVAILABLE")["reason"], "user-denied", "{request}");
        prompt.unwrap_or_else(|| panic!("nobody was asked about {request}"))
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.scratch.approvals_path()).unwrap()).unwrap()
    }

    fn finish(self) {
        stays_absent(&self.scratch.canary());
        wait_until("the end of all shells and touches", || {
            processes_named(&text_of(&self.scratch.canary())).is_empty().then_some(())
        });
        write_list(&self.scratch, &[json!(program("echo"))]);
        self.exec.assert_works();
    }
}

/// A directory with a workspace `w`, a policy that lists nothing, and the owner's `tools.exec`.
fn workspace(tools: &Value) -> Scratch {
    let scratch = Scratch::new();
    make_dir(&scratch.join("w"));
    scratch.approvals(&json!({"version": 1}));
    let config = json!({"gateway": {"auth": {"token": support::TOKEN}}, "tools": {"exec": tools}});
    write_private(&scratch.state().join("openclaw.json"), config.to_string().as_bytes());
    scratch
}

fn write_list(scratch: &Scratch, entries: &[Value]) {
    let entry = |entry: &Value| if entry.is_string() { json!({"pattern": entry}) } else { entry.clone() };
    let list: Vec<Value> = entries.iter().map(entry).collect();
    scratch.edit_approvals(|document| {
        document.insert("agents".into(), json!({"*": {"allowlist": list}}));
    });
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A request for an argument vector.
fn argv<T: AsRef<str>>(words: &[T]) -> Value {
    json!({"command": words.iter().map(AsRef::as_ref).collect::<Vec<_>>()})
}

/// The same, written with blanks.
fn words(command: &str) -> Value {
    argv(&command.split(' ').collect::<Vec<_>>())
}

/// A request for a shell's text.
fn sh(text: &str) -> Value {
    argv(&["sh", "-c", text])
}

/// The request with more members, or other ones.
fn with(request: &Value, members: &Value) -> Value {
    let mut request = request.clone();
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    request
}

/// A program that does this.
fn tool(path: &Path, script: &str) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    text_of(path)
}

// ---- A76 ----

#[test]
fn sec_a76_the_argument_vector_alone_decides() {
    let bench = Bench::new();
    bench.programs(&["uname", "touch"]);
    let (touch, uname) = (bench.touch(), program("uname"));
    bench.programs(&["uname"]);
    let shell = ["/bin/sh", "-c", touch.as_str()];
    for (command, raw) in [
        (&shell[..], uname.as_str()),
        (&shell, "uname"),
        (&shell, "sh -c uname"),
        (&["sh", "-c", "uname", "x"], "uname"),
        (&["sh", "-c", "uname -s"], "uname  -s"),
        (&["sh", "-c", &touch, "uname"], "uname"),
        (&["sh", &touch, "-c", "uname"], "uname"),
        (&["env", "sh", "-c", &touch], "uname"),
        (&["nice", "sh", "-c", &touch], "uname"),
        (&[&uname], &touch),
        (&[&uname], &format!("/bin/sh -c '{touch}'")),
        (&[&uname], &format!("/bin/sh -c \"{touch}\"")),
        (&["uname", "-s"], "uname  -s"),
        (&["uname", "-s"], " uname -s"),
        (&["uname", "-s"], "uname -s "),
        (&["uname", "-s"], "uname\t-s"),
        (&["uname", "-s"], "uname -s\n"),
        (&["uname", "-s"], "uname\u{a0}-s"),
        (&["uname", "-s"], "uname -s\u{200b}"),
        (&["uname", "-s"], "uname -S"),
        (&["uname", "-s"], "UNAME -s"),
        (&["uname", "-s"], "uname '-s'"),
        (&["uname", "-s"], "uname"),
        (&["uname", "-s"], "-s"),
    ] {
        let message = bench.refused(&with(&argv(command), &json!({"rawCommand": raw})), "INVALID_REQUEST");
        assert!(message.contains("rawCommand"), "{command:?} {raw:?}: {message}");
    }
    for odd in [json!(1), json!([]), json!(["uname"]), json!({}), json!(true)] {
        bench.refused(&with(&argv(&["uname"]), &json!({"rawCommand": odd})), "INVALID_REQUEST");
    }
    // The twins: no claim at all, and claims that agree.
    let name = bench.runs(&argv(&["uname", "-s"]));
    for blank in [json!(null), json!(""), json!(" "), json!("\t\n"), json!("uname -s")] {
        assert_eq!(bench.runs(&with(&argv(&["uname", "-s"]), &json!({"rawCommand": blank}))), name);
    }
    for claim in ["uname -s", "sh -c \"uname -s\""] {
        assert_eq!(bench.runs(&with(&sh("uname -s"), &json!({"rawCommand": claim}))), name);
    }
    // A claim that agrees makes nothing of a command that is not on the list.
    bench.asks(&with(&sh(&touch), &json!({"rawCommand": touch})));
    // Through gateway and node the same.
    wait_for_node(&bench.scratch);
    for method in ["system.run", "system.run.prepare"] {
        let lie = with(&argv(&shell), &json!({"rawCommand": uname}));
        let refused = bench.scratch.mac_debug(&["invoke", method, &lie.to_string()]);
        assert!(refused.code == Some(1) && words_of(&refused).contains("rawCommand"), "{refused:?}");
        let truth = with(&argv(&["uname", "-s"]), &json!({"rawCommand": "uname -s"}));
        let done = bench.scratch.mac_debug(&["invoke", method, &truth.to_string()]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    bench.finish();
}

// ---- A77, A79, A90: safe bins ----

const SECRET: &str = "the-content-of-a-secret-file";

#[test]
fn sec_a77_safe_bins_get_their_words_as_they_are_and_read_no_file() {
    let bench = Bench::new();
    bench.programs(&["echo"]);
    fs::write(bench.work().join("f"), format!("{SECRET}\n")).unwrap();
    fs::create_dir(bench.work().join("dashed")).unwrap();
    fs::write(bench.work().join("dashed/-nf"), SECRET).unwrap();
    let (home_file, own) = ("~/x", bench.path("f"));
    for text in [
        "head *",
        "head f*",
        "head ?",
        "head [f]",
        "head $HOME/.ssh/id",
        "head \"$HOME/.ssh/id\"",
        "head ${HOME}/.ssh/id",
        "head $PWD/f",
        &format!("wc {home_file}"),
        "wc ~",
        "cut -c1- {a,b}",
        "cut -c1- f",
        "head \"$(cat f)\"",
        "head `echo f`",
        "head $X",
        "head -n1 f",
        "head -- f",
        "head -n1 - f",
        "head -n 1 <f",
        "cat f | head",
        "tail -n1 ./f",
        "uniq f",
        "tr a b f",
        "tr '*' x",
        "wc -l f g",
        "echo f | xargs head",
        &format!("head {own}"),
    ] {
        let reply = bench.send(&sh(text));
        assert!(!reply.value().to_string().contains(SECRET), "{text}");
        assert!(reply.is_refusal(), "{text}: {}", reply.value());
        bench.asks(&sh(text));
    }
    for command in [
        &["head", "*"][..],
        &["head", "$HOME/.ssh/id"],
        &["head", "$X"],
        &["wc", "~/x"],
        &["wc", "~"],
        &["cut", "-c1-", "{a,b}"],
        &["head", "$(cat f)"],
        &["head", "f"],
        &["head", &own],
        &["tail", "-n", "1", "../w/f"],
    ] {
        bench.asks(&argv(command));
    }
    // A name that an expansion would turn into an option.
    let why = bench.asks(&with(&sh("tail *"), &json!({"cwd": bench.work().join("dashed")})));
    assert!(why.contains("not understood"), "{why}");
    // The twins: filters that filter, and expanded words that are judged and run as they are.
    assert_eq!(bench.runs(&sh("echo 'a b' | cut -d ' ' -f2")), "b\n");
    assert_eq!(bench.runs(&sh("echo \"a b\" | wc -w")).trim(), "2");
    assert_eq!(bench.runs(&sh("echo fff | tr ? b")), "bbb\n", "`?` is the file `f`, and so the letter");
    assert_eq!(bench.runs(&sh("echo '$HOME *' | head -n1")), "$HOME *\n");
    assert_eq!(bench.runs(&argv(&["head", "-n", "1"])), "");
    bench.finish();
}

#[test]
fn sec_a79_options_that_are_not_known_are_not_safe() {
    let bench = Bench::with(&json!({"safeBins": ["cut", "uniq", "head", "tail", "tr", "wc", "sort"]}));
    bench.programs(&["echo"]);
    fs::write(bench.work().join("f"), SECRET).unwrap();
    let canary = bench.canary();
    for command in [
        "wc -lX".to_owned(),
        "wc -Xl".into(),
        "head -n5 -Z".into(),
        "head -qZ".into(),
        "tr -dQ a".into(),
        "tr -Qd a".into(),
        format!("uniq -cO{canary}"),
        format!("uniq -c {canary}"),
        format!("uniq - {canary}"),
        "wc -- f".into(),
        "wc - f".into(),
        "head -- - f".into(),
        "wc --unknown".into(),
        "head --unknown=1".into(),
        "tr --unknown a".into(),
        "head --quiet=x".into(),
        "head -5".into(),
        "head +5".into(),
        "sort --compress-prog=sh".into(),
        "sort --compress-program=sh".into(),
        "sort --compress-program sh".into(),
        "sort --comp=sh".into(),
        "sort --c=sh".into(),
        format!("sort --out={canary}"),
        format!("sort -ro{canary}"),
        format!("sort -k1 -o {canary}"),
        "wc --files0=x".into(),
        "wc --files0-from=x".into(),
        "wc --f=x".into(),
        "tail --f".into(),
        "tail --ret".into(),
        "tail -qf".into(),
        "tail -n1 -F f".into(),
        "cut -d".into(),
        "cut --output-d".into(),
        "head -n".into(),
        "head --l".into(),
    ] {
        bench.asks(&words(&command));
        bench.asks(&sh(&format!("echo x | {command}")));
    }
    // The twins. A single dash is the input, two end the options; neither is a file.
    for (command, expected) in [
        ("wc -l", "1"),
        ("wc --lin", "1"),
        ("wc -lw", "1       1"),
        ("head -n5", "b a"),
        ("head -qn5", "b a"),
        ("head --", "b a"),
        ("head -", "b a"),
        ("tr -d a", "b"),
        ("uniq -c", "1 b a"),
        ("sort -k1", "b a"),
    ] {
        let printed = bench.runs(&sh(&format!("echo 'b a' | {command}")));
        assert_eq!(
            printed.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>(),
            "{command}"
        );
    }
    bench.finish();
}

#[test]
fn sec_a90_filters_that_could_touch_files_or_start_programs_are_not_safe() {
    let names = ["cut", "uniq", "head", "tail", "tr", "wc", "sort", "grep", "jq", "awk", "mawk", "gawk", "sed"];
    let bench = Bench::with(&json!({"safeBins": names}));
    bench.programs(&["echo"]);
    for name in ["x", "file", ".env"] {
        fs::write(bench.work().join(name), format!("{SECRET}\n")).unwrap();
    }
    let (canary, touch) = (bench.canary(), bench.touch());
    let canary_of = |option: &str| format!("{option}{canary}");
    let awk = format!("BEGIN{{system(\"{touch}\")}}");
    for command in [
        &["grep", "-f", "x"][..],
        &["grep", "-fx"],
        &["grep", "--file=x"],
        &["grep", "--fil=x"],
        &["grep", "-e", "a", ".env"],
        &["grep", "a", ".env"],
        &["grep", "-r", "-e", "a"],
        &["grep", "-R", "-e", "a"],
        &["grep", "-re", "a"],
        &["grep", "--recursive", "-e", "a"],
        &["grep", "-d", "recurse", "-e", "a"],
        &["sort", "-o", &canary],
        &["sort", &canary_of("-o")],
        &["sort", &canary_of("--output=")],
        &["sort", "--compress-program=sh"],
        &["sort", "--files0-from=x"],
        &["sort", "-T", "."],
        &["sort", "x"],
        &["wc", "--files0-from", "x"],
        &["wc", "--files0-from=x"],
        &["jq", "-f", "x"],
        &["jq", "-n", "env"],
        &["jq", "."],
        &["jq", "--rawfile", "a", "x", "."],
        &["tail", "-f"],
        &["tail", "-f", "x"],
        &["tail", "--follow"],
        &["tail", "--retry"],
        &["tr", "a", "b", "file"],
        &["uniq", "x", &canary],
        &["awk", &awk],
        &["mawk", &awk],
        &["awk", "{print}", "x"],
        &["sed", &canary_of("w")],
        &["sed", "-n", "p", "x"],
        &["sed", "-i", "s/a/b/", "x"],
        &["sed", &format!("1e {touch}")],
    ] {
        if !have(command[0], "sec_a90") {
            continue;
        }
        let reply = bench.send(&argv(command));
        assert!(!reply.value().to_string().contains(SECRET), "{command:?}");
        bench.asks(&argv(command));
    }
    // The twins, in a pipeline.
    assert_eq!(bench.runs(&sh("echo apple | grep -e app")), "apple\n");
    assert_eq!(bench.runs(&sh("echo b,a | sort -t , -k 2")), "b,a\n");
    assert_eq!(bench.runs(&sh("echo apple | tail -n 1 | tr a b")), "bpple\n");
    bench.finish();
}

// ---- A78, A83, A84, A85: wrappers ----

#[test]
fn sec_a78_env_that_splits_a_string_is_never_looked_through() {
    let bench = Bench::new();
    let touch = bench.touch();
    let list = || bench.programs(&["env", "tr", "sh", "touch", "uname"]);
    list();
    let split = format!("sh -c '{touch}'");
    let all = |option: &str| format!("{option}{split}");
    for command in [
        &["env", "-S", &split][..],
        &["env", &all("-S")],
        &["env", &all("-vS")],
        &["env", "-vS", &split],
        &["env", &all("--split-string=")],
        &["env", "--split-string", &split],
        &["env", &all("--split=")],
        &["env", &all("--s=")],
        &["env", &all("-iS")],
        &["env", "-i", &all("-S")],
        &["env", "-S", &touch],
        &["/usr/bin/env", "-S\ttr"],
        &["/usr/bin/env", "-S tr a b"],
        &["/usr/bin/env", "-S", "uname"],
        &["nice", "env", &all("-S")],
        &["env", "env", &all("-S")],
        &["env", "--", "env", &all("-S")],
    ] {
        bench.asks(&argv(command));
    }
    for text in [format!("env -S \"{split}\""), format!("env -vS \"{split}\""), "env -S'uname'".into()] {
        bench.asks(&sh(&text));
    }
    assert!(!bench.runs(&argv(&["env", "uname"])).is_empty());
    assert_eq!(bench.runs(&sh("uname | env tr -d a-zA-Z0-9/_.-")).trim(), "");
    bench.finish();

    let mut attended = Attended::new();
    write_list(&attended.scratch, &[json!(program("env")), json!(program("sh"))]);
    let before = attended.stored();
    let split = argv(&["env", "-S", &format!("sh -c '{}'", attended.touch())]);
    let shown = attended.denies(&split);
    assert!(shown.contains("always is not offered"), "{shown}");
    let (prompt, reply) = attended.ask(&split, "always");
    assert!(prompt.is_some() && reply.is_refusal(), "a word that is not offered is no answer");
    assert_eq!(attended.stored(), before);
    attended.finish();
}

#[test]
fn sec_a83_what_stands_behind_env_decides() {
    let bench = Bench::new();
    let touch = bench.touch();
    tool(&bench.work().join("uname"), &touch);
    let work = text_of(&bench.work());
    let inner: &[&[&str]] = &[
        &[],
        &["A=1"],
        &["A=1", "B=2"],
        &["-i"],
        &["-"],
        &["-u", "X"],
        &["--unset=X"],
        &["-C", &work],
        &["--chdir", &work],
        &["-P", &work],
        &["--"],
        &["-0"],
        &["-v"],
        &["--ignore-environment"],
        &["--default-signal"],
        &["--block-signal=INT"],
        &["-a", "uname"],
        &["--argv0=uname"],
    ];
    for list in [&["env"][..], &["env", "uname"]] {
        bench.programs(list);
        for modifiers in inner {
            for env in ["env", "/usr/bin/env"] {
                for rest in [&["sh", "-c", &touch][..], &["sh"], &["touch", &bench.canary()]] {
                    bench.asks(&argv(&[&[env], *modifiers, rest].concat()));
                }
            }
        }
    }
    // A listed program behind what changes its surroundings is not that program any more.
    for modifiers in inner.iter().filter(|modifiers| !matches!(modifiers, [] | ["--"])) {
        bench.asks(&argv(&[&["env"], *modifiers, &["uname"]].concat()));
    }
    for loader in ["LD_PRELOAD=./x.so", "PATH=.", "BASH_ENV=./x", "LD_PRELOAD+=./x.so"] {
        let reply = bench.send(&argv(&["env", loader, "uname"]));
        assert!(reply.is_refusal(), "{loader}: {}", reply.value());
    }
    for text in ["env A=1 uname", "A=1 uname", "env -i uname", "env -C / uname", "env -u X uname"] {
        bench.asks(&sh(text));
    }
    let name = bench.runs(&argv(&["uname"]));
    for twin in ["env uname", "/usr/bin/env uname", "env -- uname", "env env uname"] {
        assert_eq!(bench.runs(&words(twin)), name, "{twin}");
        assert_eq!(bench.runs(&sh(twin)), name, "{twin}");
    }
    bench.programs(&["uname"]);
    assert_eq!(bench.runs(&words("env uname")), name, "the wrapper itself needs no entry");
    bench.finish();

    let mut attended = Attended::new();
    for command in ["env A=1 uname", "env -u X uname"] {
        let shown = attended.denies(&words(command));
        assert!(shown.contains("always is not offered"), "{shown}");
    }
    attended.finish();
}

#[test]
fn sec_a84_no_depth_of_wrappers_opens_the_list() {
    let bench = Bench::new();
    let touch = bench.touch();
    let rest = ["sh", "-c", touch.as_str()];
    let kinds: &[&[&str]] = &[&["env"], &["nice", "nohup"], &["env", "nice", "nohup", "timeout 5"]];
    let nested = |kind: &[&str], depth: usize, rest: &[&str]| -> Vec<String> {
        let wrappers = kind.iter().cycle().take(depth).flat_map(|wrapper| wrapper.split(' '));
        wrappers.chain(rest.iter().copied()).map(str::to_owned).collect()
    };
    let started = Instant::now();
    bench.programs(&["env", "nice", "nohup", "timeout", "uname"]);
    let name = bench.runs(&argv(&["uname"]));
    for depth in 1..=200 {
        for kind in kinds {
            bench.asks(&argv(&nested(kind, depth, &rest)));
            let harmless = argv(&nested(kind, depth, &["uname"]));
            if depth <= openclaw::limits::WRAPPERS {
                assert_eq!(bench.runs(&harmless), name, "{depth} of {kind:?}");
            } else if depth < 20 || depth % 20 == 0 {
                let why = bench.asks(&harmless);
                assert!(why.contains("wrappers"), "{why}");
            }
        }
    }
    // As much as a request may hold.
    let deep = nested(&["env"], 4_000, &rest);
    assert!(bench.send(&argv(&deep)).is_refusal());
    // In text and behind a shell.
    for depth in [1, 4, 5, 50] {
        bench.asks(&sh(&nested(&["env"], depth, &["sh", "-c", &format!("'{touch}'")]).join(" ")));
        bench.asks(&argv(&nested(&["sh", "-c"], depth * 2, &[&touch])));
    }
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    bench.finish();

    // What is asked about is what runs.
    let mut attended = Attended::new();
    for depth in [1, 4, 5, 6, 200] {
        let file = format!("depth-{depth}");
        let command = nested(&["env"], depth, &["sh", "-c", &format!("touch {file}")]);
        let (prompt, reply) = attended.ask(&argv(&command), "once");
        let prompt = prompt.unwrap().replace("\r\n", "");
        let shown = prompt.split("command    ").nth(1).unwrap_or_else(|| panic!("{prompt}"));
        assert_eq!(shown.matches("env ").count(), depth, "{shown}");
        assert!(shown.contains(&format!("'touch {file}'")), "{shown}");
        reply.ran();
        assert!(attended.scratch.join("w").join(&file).exists());
    }
    attended.finish();
}

#[test]
fn sec_a85_always_never_trusts_a_wrapper_or_a_shell() {
    let mut attended = Attended::new();
    let touch = attended.touch();
    let canary = text_of(&attended.scratch.canary());
    let payloads: &[&[&str]] = &[&["touch", &canary], &["sh", "-c", &touch], &["ls", &canary]];
    for (wrapper, inner) in [
        (&["sh", "-c"][..], &["ls"][..]),
        (&["env"], &["ls"]),
        (&["timeout", "5"], &["ls"]),
        (&["nice"], &["ls"]),
        (&["nohup"], &["ls"]),
        (&["stdbuf", "-o0"], &["ls"]),
        (&["env", "nice"], &["ls"]),
        (&["env", "sh", "-c"], &["ls"]),
    ] {
        attended.scratch.edit_approvals(|document| drop(document.remove("agents")));
        let command = argv(&[wrapper, inner].concat());
        let (prompt, reply) = attended.ask(&command, "always");
        let offered = !prompt.unwrap().contains("always is not offered");
        assert_eq!(offered, !reply.is_refusal(), "{command}");
        let is_shell = wrapper.contains(&"sh");
        assert!(!(is_shell && offered), "a shell's text cannot be allowed for ever");
        let stored = attended.stored();
        let list = stored["agents"]["*"]["allowlist"].as_array().cloned().unwrap_or_default();
        let patterns: Vec<&str> = list.iter().map(|entry| entry["pattern"].as_str().unwrap()).collect();
        assert_eq!(patterns, if offered { vec![program("ls")] } else { Vec::new() }, "{stored}");
        if offered {
            let (prompt, reply) = attended.ask(&command, "deny");
            assert!(prompt.is_none() && !reply.is_refusal(), "{command} is allowed now: {prompt:?}");
        }
        // The same wrapper with something else, also with the same program and other arguments.
        for payload in payloads {
            let other = match is_shell {
                true => argv(&[wrapper, &[&*payload.join(" ")]].concat()),
                false => argv(&[wrapper, payload].concat()),
            };
            attended.denies(&other);
        }
    }
    attended.finish();
}

// ---- A80, A81, A82, A95: texts ----

#[test]
fn sec_a80_every_command_of_a_text_must_be_listed() {
    let bench = Bench::new();
    bench.programs(&["echo"]);
    let touch = bench.touch();
    for text in [
        "echo x | node".to_owned(),
        format!("echo '{touch}' |& sh"),
        format!("echo '{touch}'|sh"),
        format!("echo '{touch}' | sh"),
        format!("true && {touch}"),
        "true && sh".into(),
        "false || sh".into(),
        format!("false || {touch}"),
        "echo; sh".into(),
        format!("echo;{touch}"),
        "echo & sh".into(),
        format!("echo x & {touch}"),
        format!("echo x &{touch}"),
        format!("echo\n{touch}"),
        format!("echo\r\n{touch}"),
        format!("echo x\n\n\t{touch}\n"),
        format!("echo x; echo y; echo z; {touch}"),
        format!("echo x && echo y || {touch}"),
        format!("echo x | echo y | {touch}"),
        format!("! {touch}"),
        format!("echo x;;{touch}"),
        format!("{touch};echo x"),
        format!("{touch} | echo x"),
        format!("( {touch} )"),
        format!("{{ {touch}; }}"),
        format!("if true; then {touch}; fi"),
        format!("while {touch}; do break; done"),
        format!("f() {{ {touch}; }}; f"),
        format!("echo x # y\n{touch}"),
        format!("echo x \\\n; {touch}"),
        format!("cd . && {touch}"),
        format!("echo x 2>&1 | {touch}"),
        format!("echo x 2>&1; {touch}"),
        format!("echo x >/dev/null&&{touch}"),
        "echo x > canary-by-redirection".into(),
        "echo x>>canary-by-redirection".into(),
        "echo x >| canary-by-redirection".into(),
        "echo x &> canary-by-redirection".into(),
        "echo x 2>canary-by-redirection".into(),
    ] {
        bench.asks(&sh(&text));
        assert!(!bench.work().join("canary-by-redirection").exists(), "{text}");
    }
    for shell in ["sh", "bash", "dash", "/bin/sh", "/bin/bash"] {
        for options in [&["-c"][..], &["-ec"], &["-e", "-c"], &["-o", "pipefail", "-c"], &["-lc"], &["-ic"]] {
            bench.asks(&argv(&[&[shell], options, &[&format!("echo x && {touch}")]].concat()));
        }
    }
    for (text, printed) in [
        ("echo x | echo y", "y\n"),
        ("true && echo y", "y\n"),
        ("false || echo y", "y\n"),
        ("echo x; echo y", "x\ny\n"),
        ("echo x\necho y", "x\ny\n"),
        ("echo x\r\necho y", "x\ny\n"),
        ("echo 'a; b && c | d & e'", "a; b && c | d & e\n"),
        ("echo a\\;b", "a;b\n"),
    ] {
        assert_eq!(bench.runs(&sh(text)), printed, "{text:?}");
    }
    bench.finish();
}

#[test]
fn sec_a81_substitution_is_seen_wherever_it_stands() {
    let bench = Bench::new();
    bench.programs(&["echo", "cat"]);
    let touch = bench.touch();
    for text in [
        format!("echo \"$({touch})\""),
        format!("echo $({touch})"),
        format!("echo x$({touch})y"),
        format!("echo `{touch}`"),
        format!("echo \"`{touch}`\""),
        format!("echo \"a\\\\`{touch}`\""),
        format!("echo \"${{x:-$({touch})}}\""),
        format!("echo ${{x:-$({touch})}}"),
        format!("echo ${{x:=`{touch}`}}"),
        format!("echo \"${{x#$({touch})}}\""),
        format!("echo $(( $({touch}) ))"),
        format!("echo $((a[$({touch})]))"),
        format!("echo \"$((`{touch}`))\""),
        format!("echo $[$({touch})]"),
        format!("cat <({touch})"),
        format!("echo x >({touch})"),
        format!("echo =({touch})"),
        format!("echo $'\\x24({touch})'"),
        format!("echo $'\\'$({touch})'"),
        format!("echo $\"$({touch})\""),
        format!("echo 'a'\"$({touch})\"'b'"),
        format!("echo 'a'$({touch})'b'"),
        format!("echo \"it's $({touch})\""),
        format!("echo ${{| {touch};}}"),
        format!("echo ${{ {touch};}}"),
        format!("\"$({touch})\""),
        format!("$({touch}) echo"),
        format!("X=$({touch}) echo x"),
        format!("echo x | cat \"$({touch})\""),
        format!("echo \\\\$({touch})"),
        format!("echo \"\\\\$({touch})\""),
        format!("echo ${{x}}`{touch}`"),
        format!("echo !`{touch}`"),
        format!("echo {{a,`{touch}`}}"),
        format!("echo *(e:'{touch}':)"),
    ] {
        let why = bench.asks(&sh(&text));
        assert!(why.contains("the text was not understood at byte "), "{text}: {why}");
    }
    // The twins: the same characters as text.
    for (text, printed) in [
        ("echo '$(touch x)'".to_owned(), "$(touch x)\n"),
        ("echo '`touch x`'".into(), "`touch x`\n"),
        ("echo \\$\\(touch x\\)".into(), "$(touch x)\n"),
        ("echo \"\\$(touch x)\"".into(), "$(touch x)\n"),
        ("echo \"\\`touch x\\`\"".into(), "`touch x`\n"),
        ("echo 'a'\"'b'\"".into(), "a'b'\n"),
    ] {
        assert_eq!(bench.runs(&sh(&text)), printed, "{text}");
    }
    assert_eq!(bench.runs(&argv(&["echo", "$(touch x)", "`x`"])), "$(touch x) `x`\n", "no shell reads argv");
    bench.finish();
}

#[test]
fn sec_a82_here_documents_are_not_understood() {
    let bench = Bench::new();
    bench.programs(&["echo", "cat"]);
    let touch = bench.touch();
    for text in [
        format!("cat <<EOF\n$({touch})\nEOF"),
        format!("cat <<EOF\n`{touch}`\nEOF\n"),
        "cat <<EOF\n$VAR\nEOF".into(),
        "cat <<EOF\n$1\nEOF".into(),
        "cat <<EOF\n$@\nEOF".into(),
        format!("cat <<EOF\n${{x:-$({touch})}}\nEOF"),
        format!("cat <<-EOF\n\t$({touch})\n\tEOF"),
        format!("cat <<EOF\n$({touch})"),
        "cat <<EOF".into(),
        "cat <<".into(),
        format!("cat <<A <<B\nx\nA\n$({touch})\nB"),
        format!("cat <<'A' <<B\nx\nA\n$({touch})\nB"),
        format!("cat <<EOF | echo x\n$({touch})\nEOF"),
        format!("cat <<EOF; echo x\n$({touch})\nEOF"),
        format!("cat <<EO\\F\nx\nEOF\n{touch}"),
        format!("cat <<'EOF'\nx\nEOF\n{touch}"),
        format!("cat 0<<EOF\n$({touch})\nEOF"),
        format!("cat <<< \"$({touch})\""),
        format!("cat <<<`{touch}`"),
        format!("echo x <<EOF && echo y\n$({touch})\nEOF"),
    ] {
        let why = bench.asks(&sh(&text));
        assert!(why.contains("not understood at byte ") && why.contains("here-"), "{text}: {why}");
    }
    assert_eq!(bench.runs(&sh("echo '<<EOF'; echo \"<<EOF\" | cat")), "<<EOF\n<<EOF\n");
    bench.finish();
}

#[test]
fn sec_a95_words_and_programs_that_start_others_need_a_person() {
    let bench = Bench::new();
    let touch = bench.touch();
    let canary = bench.canary();
    bench.programs(&["ls", "find", "xargs", "echo", "env"]);
    fs::write(bench.work().join("x"), format!("{touch}\n")).unwrap();
    for text in [
        "command sh".to_owned(),
        format!("command {touch}"),
        format!("command -- {touch}"),
        "command -p ls".into(),
        "command -v ls".into(),
        format!("builtin command {touch}"),
        "builtin echo x".into(),
        "exec sh".into(),
        format!("exec {touch}"),
        "exec ls".into(),
        "exec -a x ls".into(),
        format!("eval {touch}"),
        format!("eval '{touch}'"),
        "eval ls".into(),
        ". ./x".into(),
        "source ./x".into(),
        "source x".into(),
        "alias ls=sh".into(),
        format!("alias ls='{touch}'\nls"),
        format!("trap '{touch}' EXIT"),
        format!("coproc {touch}"),
        format!("time {touch}"),
        "export PATH=.; ls".into(),
        "set -- sh; \"$@\"".into(),
        "hash -p ./x ls; ls".into(),
        "enable -f ./x y".into(),
        format!("find . -exec {touch} \\;"),
        format!("find . -exec sh -c '{touch}' {{}} \\;"),
        format!("find . -execdir {touch} +"),
        format!("find . -ok {touch} \\;"),
        format!("find . -okdir {touch} \\;"),
        format!("find . -name x -o -exec {touch} {{}} +"),
        "echo sh|xargs env".into(),
        format!("echo {canary} | xargs touch"),
        "echo | xargs".into(),
        format!("xargs -I{{}} sh -c '{touch}'"),
        format!("nice find . -exec {touch} \\;"),
        format!("env xargs {touch}"),
        format!("\\command {touch}"),
        format!("\"exec\" {touch}"),
        format!("'.' ./x"),
    ] {
        bench.asks(&sh(&text));
    }
    for command in [
        &["find", ".", "-exec", "sh", "-c", &touch, ";"][..],
        &["find", ".", "-execdir", "touch", &canary, "+"],
        &["xargs", "touch", &canary],
        &["xargs"],
        &["env", "xargs", "touch", &canary],
        &["nice", "find", ".", "-ok", "touch", &canary, ";"],
    ] {
        bench.asks(&argv(command));
    }
    // By themselves these are the names of programs that are not there.
    for name in ["command", "exec", "eval", "source", "."] {
        let reply = bench.send(&argv(&[name, "sh", "-c", &touch]));
        assert!(reply.is_refusal(), "{name}: {}", reply.value());
    }
    // `find` can also write and delete.
    for text in [format!("find . -fprint {canary}"), format!("find . -fls {canary}")] {
        let reply = bench.exec.request(&with(&sh(&text), &json!({"cwd": bench.work()})));
        drop(reply); // listed without arguments, so it may: the owner has `argPattern` for that
        let _ = fs::remove_file(bench.scratch.canary());
    }
    assert_eq!(bench.runs(&sh("find . -name x")), "./x\n");
    assert_eq!(bench.runs(&sh("command ls")), "x\n", "`command NAME` is NAME");
    assert_eq!(bench.runs(&sh("echo '-exec'")), "-exec\n");
    bench.finish();
}

// ---- A86, A87, A88, A89, A96: patterns and paths ----

#[test]
fn sec_a86_patterns_keep_case_and_directories() {
    let bench = Bench::new();
    let touch = bench.touch();
    let root = bench.work();
    let path = |name: &str| text_of(&root.join(name));
    for name in ["a/b/tool", "a//b/tool2", "bin/rg", "BIN/rg", "bin/deep/er/rg", "bin/rg2", "aXb/toolx"] {
        tool(&root.join(name), &touch);
    }
    let good = |name: &str| tool(&root.join(name), "echo good");
    for (pattern, misses, hits) in [
        ("a?b/tool", &["a/b/tool", "aXb/toolx"][..], &["a-b/tool", "aéb/tool"][..]),
        ("bin/Rg", &["bin/rg"], &["bin/Rg"]),
        ("bin/RG", &["bin/rg", "BIN/rg"], &["bin/RG"]),
        ("Bin/rg", &["bin/rg", "BIN/rg"], &["Bin/rg"]),
        ("bin/*", &["bin/deep/er/rg", "a/b/tool"], &["bin/star"]),
        ("*/rg", &["bin/deep/er/rg", "bin/rg2"], &["one/rg"]),
        ("bin/**", &["a/b/tool", "aXb/toolx"], &["bin/x/y/z"]),
        ("bin/r?", &["bin/rg2", "bin/deep/er/rg"], &["bin/r_"]),
        ("bin/rg?", &["bin/rg"], &["bin/rg_"]),
    ] {
        bench.list(&[json!(path(pattern))]);
        for miss in misses {
            if pattern == "bin/*" || !miss.starts_with("bin/rg") || !pattern.starts_with("bin/r?") {
                bench.asks(&argv(&[path(miss)]));
                bench.asks(&sh(&path(miss)));
            }
        }
        for hit in hits {
            good(hit);
            assert_eq!(bench.runs(&argv(&[path(hit)])), "good\n", "{pattern} {hit}");
            assert_eq!(bench.runs(&sh(&path(hit))), "good\n", "{pattern} {hit}");
        }
    }
    let uname = program("uname");
    for pattern in [
        "/usr/bin/Uname",
        "/USR/BIN/uname",
        "/usr/bin/unam",
        "usr/bin/uname",
        "/usr/bin/uname/",
        "/usr/?in?uname",
        "Uname",
        "UNAME",
    ] {
        bench.list(&[json!(pattern)]);
        bench.asks(&argv(&[&uname]));
        bench.asks(&words("uname"));
    }
    for pattern in [&uname, "/usr/bin/*", "/usr/**", "/usr/bin/unam?", "/**", "*"] {
        bench.list(&[json!(pattern)]);
        assert!(!bench.runs(&words("uname")).is_empty(), "{pattern}");
    }
    for name in ["/USR/BIN/uname", "/usr/bin/UNAME", "UNAME"] {
        bench.list(&[json!("/usr/bin/*"), json!("*")]);
        if !Path::new(name).exists() {
            bench.finds_nothing(&argv(&[name]));
        }
    }
    bench.finish();
}

#[test]
fn sec_a87_dots_are_resolved_before_they_are_matched() {
    let bench = Bench::new();
    let evil = tool(&bench.work().join("evil"), &bench.touch());
    bench.list(&[json!("/usr/bin/**"), json!("/bin/**")]);
    for argv0 in [
        format!("/usr/bin/../..{evil}"),
        format!("/usr/bin/./../..{evil}"),
        format!("//usr//bin//..//..{evil}"),
        format!("/usr/bin/../bin/../..{evil}"),
        format!("/bin/../{evil}"),
        format!("/usr/bin/../../{evil}"),
    ] {
        bench.asks(&argv(&[&argv0]));
        bench.asks(&sh(&argv0));
        bench.asks(&sh(&format!("true && '{argv0}'")));
        bench.asks(&argv(&["env", &argv0]));
    }
    for nothing in
        ["/usr/bin/./../x", "//usr//bin/../..", "/usr/bin/..", "/usr/bin/", "/usr/bin/./", "/usr/bin/uname/.."]
    {
        bench.finds_nothing(&argv(&[nothing]));
        assert!(bench.send(&sh(nothing)).is_refusal(), "{nothing}");
    }
    // A pattern with dots means no other directory either.
    for pattern in ["/usr/bin/../../**", "/usr/bin/../..*", &format!("/usr/bin/../..{evil}")] {
        bench.list(&[json!(pattern)]);
        bench.asks(&argv(&[&evil]));
        bench.asks(&argv(&[&format!("/usr/bin/../..{evil}")]));
    }
    bench.list(&[json!("/usr/bin/**")]);
    let name = bench.runs(&words("uname"));
    for twin in ["/usr/bin/./uname", "//usr//bin//uname", "/usr/bin/../bin/uname", "/usr/lib/../bin/uname"] {
        assert_eq!(bench.runs(&argv(&[twin])), name, "{twin}");
    }
    bench.finish();
}

#[test]
fn sec_a88_a_bare_name_is_a_look_up_and_nothing_else() {
    let bench = Bench::new();
    let touch = bench.touch();
    for place in ["uname", "sub/uname"] {
        tool(&bench.work().join(place), &touch);
    }
    tool(&bench.scratch.join("uname"), &touch);
    symlink(program("uname"), bench.work().join("linked")).unwrap();
    bench.list(&[json!("uname"), json!("linked"), json!("un*"), json!("*name")]);
    let outside = text_of(&bench.scratch.join("uname"));
    for argv0 in ["./uname", "sub/uname", "./sub/uname", "../uname", &outside, &bench.path("uname"), "./linked"] {
        bench.asks(&argv(&[argv0]));
        bench.asks(&argv(&["env", argv0]));
        bench.asks(&sh(argv0));
        bench.asks(&sh(&format!("true && {argv0}")));
    }
    // A real path is no bare name either, although it is the same file.
    bench.asks(&argv(&[program("uname")]));
    bench.finds_nothing(&words("linked"));
    // Nothing of the caller moves the look-up.
    for path in
        [".".to_owned(), text_of(&bench.work()), format!("{}:/usr/bin:/bin", text_of(&bench.work())), String::new()]
    {
        let reply = bench.send(&with(&words("uname"), &json!({"env": {"PATH": path}})));
        assert!(reply.is_refusal() || reply.ran()["exitCode"] == 0, "{path}: {}", reply.value());
    }
    let name = bench.runs(&words("uname"));
    assert!(!name.is_empty(), "from a directory that holds a `uname`");
    assert_eq!(bench.runs(&sh("uname")), name);
    assert_eq!(bench.runs(&sh("cd sub && uname")), name);
    assert_eq!(bench.runs(&words("env uname")), name);
    bench.finish();
}

#[test]
fn sec_a89_trust_is_in_the_real_path() {
    let mut attended = Attended::new();
    let work = attended.scratch.join("w");
    let evil = tool(&work.join("evil"), &attended.touch());
    let link = work.join("link");
    symlink(program("uname"), &link).unwrap();
    let by_link = argv(&[text_of(&link)]);
    let (prompt, reply) = attended.ask(&by_link, "always");
    assert!(prompt.unwrap().contains(&program("uname")), "the prompt shows the real path");
    reply.ran();
    let stored = attended.stored().to_string();
    assert!(stored.contains(&program("uname")) && !stored.contains("/link"), "{stored}");
    let (prompt, _) = attended.ask(&by_link, "deny");
    assert!(prompt.is_none(), "the twin: the same link to the same file");
    fs::remove_file(&link).unwrap();
    symlink(&evil, &link).unwrap();
    let shown = attended.denies(&by_link);
    assert!(shown.contains(&evil), "{shown}");
    // A path on the list is a real path: an entry for the link allows nothing, whatever it leads to.
    write_list(&attended.scratch, &[json!(link)]);
    attended.denies(&by_link);
    // A directory on the way is retargeted.
    fs::create_dir(work.join("good")).unwrap();
    fs::create_dir(work.join("bad")).unwrap();
    tool(&work.join("good/t"), "echo good");
    tool(&work.join("bad/t"), &attended.touch());
    symlink("good", work.join("d")).unwrap();
    write_list(&attended.scratch, &[json!(work.join("good/t")), json!(work.join("d/t"))]);
    let through = argv(&[text_of(&work.join("d/t"))]);
    let (prompt, reply) = attended.ask(&through, "deny");
    assert!(prompt.is_none() && reply.ran()["stdout"] == "good\n");
    fs::remove_file(work.join("d")).unwrap();
    symlink("bad", work.join("d")).unwrap();
    attended.denies(&through);
    attended.denies(&sh("d/t"));
    // A replaced file is another content, and an answer for the old one is none for it.
    let own = tool(&work.join("own"), "echo own");
    let (prompt, reply) = attended.ask(&argv(&[&own]), "once");
    assert!(prompt.is_some() && reply.ran()["stdout"] == "own\n");
    attended.finish();
}

#[test]
fn sec_a96_patterns_are_no_regular_expressions() {
    let bench = Bench::new();
    let touch = bench.touch();
    let root = bench.work();
    let path = |name: &str| text_of(&root.join(name));
    for (pattern, hit, misses) in [
        ("g++", "g++", &["g", "gg", "ggg", "g+"][..]),
        ("a(b", "a(b", &["ab", "a"]),
        ("a)b", "a)b", &["ab"]),
        ("[", "[", &["x", "b"]),
        ("[ab]", "[ab]", &["a", "b"]),
        ("{a,b}", "{a,b}", &["a", "b"]),
        ("a|x", "a|x", &["a", "x"]),
        ("a.c", "a.c", &["abc"]),
        ("^a$", "^a$", &["a"]),
        ("x+", "x+", &["xx", "x"]),
        ("!a", "!a", &["b"]),
        ("(?i)a", "(?i)a", &["a", "A"]),
    ] {
        bench.list(&[json!(path(pattern))]);
        for miss in misses {
            tool(&root.join(miss), &touch);
            bench.asks(&argv(&[path(miss)]));
        }
        fs::remove_dir_all(&root).unwrap();
        make_dir(&root);
        tool(&root.join(hit), "echo good");
        assert_eq!(bench.runs(&argv(&[path(hit)])), "good\n", "{pattern}");
    }
    // Broken ones match nothing, stop nothing, and spoil no other entry.
    let uname = program("uname");
    for pattern in [
        "[",
        "\\",
        "\\\\",
        "(",
        ")",
        "+",
        "?",
        "{",
        "",
        " ",
        "/",
        "~",
        "~x",
        "//",
        "/a(b",
        "/usr/bin/[",
        "/usr/bin/uname\\",
        "\u{0}",
    ] {
        bench.list(&[json!(pattern)]);
        assert!(bench.send(&argv(&[&uname])).is_refusal(), "{pattern:?}");
        bench.list(&[json!(pattern), json!(uname)]);
        let reply = bench.send(&argv(&[&uname]));
        assert!(!reply.is_refusal(), "{pattern:?} beside a good one: {}", reply.value());
    }
    for broken in ["[", "(", "*", "a{", "\\", "(?=x)", "(a+)+$", &"(".repeat(10_000), &"(a*)*".repeat(200)] {
        bench.list(&[json!({"pattern": uname, "argPattern": broken})]);
        bench.asks(&argv(&[&uname, &"a".repeat(5_000)]));
    }
    // Time is linear: fifty `**/`, many stars, long names.
    let started = Instant::now();
    for pattern in [
        "/".to_owned() + &"**/".repeat(50),
        "**/".repeat(50) + "x",
        "/".to_owned() + &"*a".repeat(200),
        "**".repeat(2_000),
    ] {
        let entries: Vec<Value> = (0..20).map(|_| json!(format!("{pattern}nothing"))).collect();
        bench.list(&entries);
        bench.asks(&argv(&[&tool(&root.join("a".repeat(250)), &touch)]));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    bench.list(&[json!("/".to_owned() + &"**/".repeat(50) + "uname"), json!("/**/uname")]);
    assert!(!bench.runs(&words("uname")).is_empty());
    bench.finish();
}
