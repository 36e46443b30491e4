//! An answer is for what was asked about: a person allows a command on a terminal, and what changes
//! before the answer refuses the run. The races without a person stand beside the runner.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use support::{Pty, wait_until};
use support_exec::*;

/// The first and the last words of a prompt.
const QUESTION: &str = "allow this command?";
const ANSWER: &str = "then Return: ";

/// An app on a terminal, with the policy of a fresh directory, and a directory to work in.
struct Stage {
    scratch: Scratch,
    terminal: Pty,
    exec: Exec,
    work: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        let terminal = app_on_terminal(&scratch);
        let exec = Exec::of(&scratch);
        let work = scratch.join("w");
        make_dir(&work);
        Self { scratch, terminal, exec, work }
    }

    /// A file to work with, executable.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_private(&path, text.as_bytes());
        set_mode(&path, 0o700);
        path
    }

    /// A shell script under another program's name, whose body is `text`.
    fn stub(&self, name: &str, text: &str) -> String {
        let path = self.write(&format!("stubs/{name}"), &format!("#!{}\n{text}\n", program("sh")));
        path.to_str().unwrap().to_owned()
    }

    /// Asks about a command in the work directory, does `meanwhile` while the question is open, and
    /// types `word`; gives what was shown and the reply.
    fn ask(&mut self, argv: &[&str], meanwhile: impl FnOnce(), word: &str) -> (String, Reply) {
        self.ask_in(&self.work.clone(), argv, meanwhile, word)
    }

    fn ask_in(&mut self, cwd: &Path, argv: &[&str], meanwhile: impl FnOnce(), word: &str) -> (String, Reply) {
        let exec = self.exec.clone();
        let request = json!({ "command": argv, "cwd": cwd });
        let asked = thread::spawn(move || exec.request(&request));
        self.terminal.expect(QUESTION);
        let shown = self.terminal.expect(ANSWER);
        meanwhile();
        self.terminal.type_text(&format!("{word}\n"));
        while !asked.is_finished() {
            self.terminal.watch(Duration::from_millis(5));
        }
        (shown, asked.join().unwrap())
    }

    /// `once` runs it; gives what it printed.
    fn runs(&mut self, argv: &[&str]) -> String {
        self.runs_by(argv, "once")
    }

    /// The same for another word.
    fn runs_by(&mut self, argv: &[&str], word: &str) -> String {
        let (shown, reply) = self.ask(argv, || {}, word);
        assert_eq!(reply.ran()["success"], json!(true), "{argv:?}: {:?}\n{shown}", reply.value);
        reply.ran()["stdout"].as_str().unwrap().to_owned()
    }

    /// `once` comes too late: it has changed.
    fn refuses(&mut self, argv: &[&str], meanwhile: impl FnOnce()) {
        let (shown, reply) = self.ask(argv, meanwhile, "once");
        assert_changed(&reply, &format!("{argv:?}: {shown}"));
    }
}

fn assert_changed(reply: &Reply, what: &str) {
    let error = reply.refused("UNAVAILABLE");
    assert_eq!(error["reason"], json!("approval-required"), "{what}");
    assert!(error["message"].as_str().unwrap().contains("changed before execution"), "{what}: {error}");
}

/// A way to change a file whose new text is given.
type Change = fn(&Path, &str);

/// What may happen to a file while its question is open. The last one puts back all that a program
/// can put back.
const CHANGES: &[(&str, Change)] = &[
    ("rewritten", |path, text| fs::write(path, text).unwrap()),
    ("replaced", |path, text| {
        let other = path.with_extension("other");
        fs::write(&other, text).unwrap();
        set_mode(&other, 0o700);
        fs::rename(other, path).unwrap();
    }),
    ("a link now", |path, text| {
        let other = path.with_extension("other");
        fs::write(&other, text).unwrap();
        set_mode(&other, 0o700);
        fs::remove_file(path).unwrap();
        symlink(other, path).unwrap();
    }),
    ("a link to the same content", |path, _| {
        let other = path.with_extension("other");
        fs::rename(path, &other).unwrap();
        symlink(other, path).unwrap();
    }),
    ("appended to", |path, text| {
        use std::io::Write;
        write!(File::options().append(true).open(path).unwrap(), "\n{text}").unwrap();
    }),
    ("gone", |path, _| fs::remove_file(path).unwrap()),
    ("of the same size and time", |path, text| {
        let before = fs::metadata(path).unwrap();
        let size = usize::try_from(before.len()).unwrap();
        fs::write(path, format!("{text:<size$}").get(..size).unwrap()).unwrap();
        File::options().append(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    }),
];

#[test]
fn sec_a105_a_directory_that_leads_elsewhere_at_the_answer() {
    let mut stage = Stage::new();
    let at = stage.work.clone();
    let prepare = || {
        let _ = fs::remove_dir_all(&at);
        for directory in ["real/sub", "evil/sub"] {
            fs::create_dir_all(at.join(directory)).unwrap();
        }
        symlink(at.join("real"), at.join("link")).unwrap();
        for (place, says) in [("real", "good"), ("evil", "evil")] {
            let script = at.join(place).join("sub/x");
            fs::write(&script, format!("#!/bin/sh\necho {says}\n")).unwrap();
            set_mode(&script, 0o700);
        }
    };
    let replace = |from: &str, to: &str| {
        fs::rename(at.join(from), at.join("old")).unwrap();
        symlink(at.join(to), at.join(from)).unwrap();
    };
    let changes: [(&str, &dyn Fn()); 4] = [
        // The approved directory is still where it was: it may run there, and nowhere else.
        ("the link in its path", &|| {
            fs::remove_file(at.join("link")).unwrap();
            symlink(at.join("evil"), at.join("link")).unwrap();
        }),
        ("a parent is a link now", &|| replace("real", "evil")),
        ("it is a link itself", &|| replace("real/sub", "evil/sub")),
        ("it is another directory", &|| {
            fs::rename(at.join("real/sub"), at.join("old")).unwrap();
            fs::create_dir(at.join("real/sub")).unwrap();
        }),
    ];
    for (what, change) in changes {
        for argv in [&["./x"][..], &["pwd", "-P"]] {
            prepare();
            let (_, reply) = stage.ask_in(&at.join("link/sub"), argv, change, "once");
            if what == "the link in its path" {
                let out = reply.ran()["stdout"].as_str().unwrap();
                let real = format!("{}\n", at.join("real/sub").display());
                assert_eq!(out, if argv.len() == 1 { "good\n" } else { &real }, "{what}");
            } else {
                assert_changed(&reply, what);
            }
        }
    }
    prepare();
    let (shown, reply) = stage.ask_in(&at.join("link/sub"), &["./x"], || {}, "once");
    assert_eq!(reply.ran()["stdout"], json!("good\n"));
    assert!(shown.contains(at.join("real/sub").to_str().unwrap()), "shown as it really is: {shown}");
}

/// Interpreters with the words before their script, the script's name, and its texts: good, evil. Where
/// one is not installed, a shell under its name stands for it: what is tested is ours.
fn interpreters(stage: &Stage) -> Vec<(Vec<String>, &'static str, &'static str, &'static str)> {
    let shell = ("echo good # a line that is long enough to be replaced", "echo evil");
    let script = ("console.log('good') // a line that is long enough to be replaced", "console.log('evil')");
    let python = ("print('good') # a line that is long enough to be replaced", "print('evil')");
    let mut all = Vec::new();
    for (name, words, file, (good, evil)) in [
        ("sh", &[][..], "x.sh", shell),
        ("bash", &["-eu"], "x.sh", shell),
        ("python3", &["-u"], "x.py", python),
        ("node", &["--no-warnings"], "x.js", script),
        ("perl", &[], "x.pl", ("print \"good\\n\"; # a line that is long enough", "print \"evil\\n\";")),
        ("bun", &["run"], "x.ts", script),
        ("deno", &["run", "-A"], "x.ts", script),
    ] {
        let found = ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(name).exists());
        let (first, good, evil) = if found {
            (name.to_owned(), good, evil)
        } else {
            println!("sec_a106: {name} is not installed here; a shell of this name stands for it");
            let skip = words.len();
            (stage.stub(name, &format!("shift {skip}; exec {} \"$@\"", program("sh"))), shell.0, shell.1)
        };
        let words = std::iter::once(first).chain(words.iter().map(|word| (*word).to_owned())).collect();
        all.push((words, file, good, evil));
    }
    all
}

#[test]
fn sec_a106_a_script_that_changed_before_the_answer() {
    let mut stage = Stage::new();
    for (number, (words, file, good, evil)) in interpreters(&stage).into_iter().enumerate() {
        let argv: Vec<&str> = words.iter().map(String::as_str).chain([file, "argument"]).collect();
        // All changes to the first one's script, one to each other's: a question takes its time.
        let changes = CHANGES.iter().cycle().skip(number).take(if number == 0 { CHANGES.len() } else { 1 });
        for (how, change) in changes {
            let path = stage.write(file, good);
            println!("{argv:?}, {how}");
            stage.refuses(&argv, || change(&path, evil));
            let _ = fs::remove_file(&path);
        }
        let path = stage.write(file, good);
        let (shown, reply) = stage.ask(&argv, || {}, "once");
        assert!(shown.contains(&format!("bound to the content of {}", path.display())), "{shown}");
        assert_eq!(reply.ran()["stdout"], json!("good\n"), "{argv:?}");
        // By its whole path, and by a link that is there from the beginning.
        let link = stage.work.join("link");
        symlink(&path, &link).unwrap();
        for name in [path.to_str().unwrap(), link.to_str().unwrap()] {
            let argv: Vec<&str> = words.iter().map(String::as_str).chain([name]).collect();
            // Some interpreters judge a script by the ending of its name.
            let (_, reply) = stage.ask(&argv, || {}, "once");
            assert_eq!(reply.ran()["stdout"], json!("good\n"), "{argv:?}");
            stage.refuses(&argv, || fs::write(&path, evil).unwrap());
            stage.write(file, good);
        }
        fs::remove_file(link).unwrap();
    }
}

/// The same inside of a text that we run ourselves, and behind a wrapper.
#[test]
fn sec_a106_scripts_in_texts_and_behind_wrappers() {
    let mut stage = Stage::new();
    for argv in [
        &["sh", "-c", "uname && sh x.sh | cat"][..],
        &["nice", "./x.sh"],
        &["env", "nice", "./x.sh"],
        &["sh", "-c", "nice ./x.sh"],
        &["sh", "-c", "./x.sh"],
    ] {
        for (how, change) in CHANGES {
            let path = stage.write("x.sh", "#!/bin/sh\necho good # long enough to be replaced by something else\n");
            println!("{argv:?}, {how}");
            stage.refuses(argv, || change(&path, "#!/bin/sh\necho evil\n"));
            let _ = fs::remove_file(&path);
        }
        stage.write("x.sh", "#!/bin/sh\necho good\n");
        assert!(stage.runs(argv).ends_with("good\n"));
    }
    // A shell behind another program is not looked into: only the word that says so allows it.
    let argv = ["nice", "sh", "x.sh"];
    let (shown, reply) = stage.ask(&argv, || {}, "once");
    assert!(shown.contains("Type unbound or deny"), "{shown}");
    assert_eq!(reply.refused("UNAVAILABLE")["reason"], json!("user-denied"));
    assert_eq!(stage.runs_by(&argv, "unbound"), "good\n");
}

#[test]
fn sec_a107_a_program_that_changed_before_the_answer() {
    let mut stage = Stage::new();
    let binary = fs::read(program("echo")).unwrap();
    for is_script in [true, false] {
        let make = |stage: &Stage| {
            let path = stage.write("bin/tool", "#!/bin/sh\necho good; # long enough to be replaced by another\n");
            if !is_script {
                fs::write(&path, &binary).unwrap();
            }
            path
        };
        for (how, change) in CHANGES {
            let path = make(&stage);
            println!("script: {is_script}, {how}");
            stage.refuses(&[path.to_str().unwrap(), "good"], || change(&path, "#!/bin/sh\necho evil\n"));
            let _ = fs::remove_file(&path);
        }
        let path = make(&stage);
        assert_eq!(stage.runs(&[path.to_str().unwrap(), "good"]), "good\n");
        // A link to it that leads elsewhere: what was bound is the file behind it.
        let link = stage.work.join("tool");
        symlink(&path, &link).unwrap();
        let evil = stage.write("bin/evil", "#!/bin/sh\necho evil\n");
        let (_, reply) = stage.ask(
            &["./tool", "good"],
            || {
                fs::remove_file(&link).unwrap();
                symlink(&evil, &link).unwrap();
            },
            "once",
        );
        assert!(reply.value()["ok"] == json!(false) || reply.ran()["stdout"] == json!("good\n"), "{:?}", reply.value);
        fs::remove_file(&link).unwrap();
    }
    // The interpreter of a `#!` line is part of the program.
    let shell = stage.work.join("shell");
    fs::copy(program("sh"), &shell).unwrap();
    let tool = stage.write("by-copy", &format!("#!{}\necho good\n", shell.display()));
    assert_eq!(stage.runs(&[tool.to_str().unwrap()]), "good\n");
    stage.refuses(&[tool.to_str().unwrap()], || {
        fs::remove_file(&shell).unwrap();
        fs::copy(program("true"), &shell).unwrap();
    });
    // What only the system writes goes on working.
    assert!(!stage.runs(&["uname", "-s"]).is_empty());
}

/// What cannot be bound: the arguments, and the files that it would run.
fn unbound(stage: &Stage) -> Vec<Vec<String>> {
    let canary = stage.scratch.canary();
    let touch = format!("touch {}", canary.display());
    let python = format!("open({:?}, 'w')", canary.to_str().unwrap());
    let script = format!("require('fs').writeFileSync({:?}, '')", canary.to_str().unwrap());
    for (name, text) in [
        ("a", &touch),
        ("b", &touch),
        ("m.py", &python),
        ("a.js", &script),
        ("b.js", &script),
        ("a.awk", &format!("BEGIN {{ system(\"{touch}\") }}")),
        ("b.awk", &"BEGIN {}".to_owned()),
    ] {
        stage.write(name, text);
    }
    stage.write("package.json", &json!({ "scripts": { "x": touch }, "name": "n", "version": "1.0.0" }).to_string());
    // The text of a package's script does not lie here: a stub does what the manager would.
    let [npm, pnpm, yarn, npx] = ["npm", "pnpm", "yarn", "npx"].map(|name| stage.stub(name, &touch));
    let mut all: Vec<Vec<String>> = [
        &[&*npm, "run", "x"][..],
        &[&pnpm, "dlx", "y"],
        &[&yarn, "run", "x"],
        &[&npx, "--yes", "y"],
        &["sh", "-c", ". ./a; ./b"],
        &["bash", "-c", "source a"],
        &["sh", "-c", "x=./b; $x"],
        &["sh", "-c", "for each in ./b; do sh $each; done"],
        &["sh", "-c", &format!("{npm} run x | cat")],
    ]
    .iter()
    .map(|argv| argv.iter().map(|word| (*word).to_owned()).collect())
    .collect();
    for (name, words) in [
        ("python3", "-m m"),
        ("node", "--require ./a.js b.js"),
        ("node", "-r ./a.js b.js"),
        ("awk", "-f a.awk -f b.awk"),
    ] {
        if have(name, "sec_a108") {
            all.push(std::iter::once(name).chain(words.split(' ')).map(str::to_owned).collect());
        }
    }
    all
}

#[test]
fn sec_a108_what_cannot_be_bound_needs_a_word_of_its_own() {
    let mut stage = Stage::new();
    let canary = stage.scratch.canary();
    for (number, argv) in unbound(&stage).into_iter().enumerate() {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let words = ["once", "always", "15min", "session", "UNBOUND", "unbound once"];
        for word in &words[..if number == 0 { words.len() } else { 1 }] {
            let (shown, reply) = stage.ask(&argv, || {}, word);
            assert!(shown.contains("an answer cannot be bound to what this runs: "), "{argv:?}: {shown}");
            let invitation = shown.lines().find(|line| line.contains("Type ")).unwrap();
            assert!(invitation.contains("Type unbound or deny"), "{argv:?}: {shown}");
            assert_eq!(reply.refused("UNAVAILABLE")["reason"], json!("user-denied"), "{argv:?}, {word}");
            assert!(!canary.exists(), "{argv:?}, {word}");
        }
        let (_, reply) = stage.ask(&argv, || {}, "unbound");
        reply.ran();
        assert!(canary.exists(), "{argv:?}: the explicit word runs it: {:?}", reply.value);
        fs::remove_file(&canary).unwrap();
    }
    stays_absent(&canary);
}

/// An approval made elsewhere is not even prepared for it.
#[test]
fn sec_a108_what_cannot_be_bound_is_not_prepared() {
    let stage = Stage::new();
    wait_for_node(&stage.scratch);
    let prepare = |argv: &[String]| {
        let request = json!({ "command": argv, "cwd": stage.work });
        stage.scratch.mac_debug(&["invoke", "system.run.prepare", &request.to_string(), "--json"])
    };
    for argv in unbound(&stage) {
        let refused = prepare(&argv);
        assert_ne!(refused.code, Some(0), "{argv:?}: {refused:?}");
        let words = words_of(&refused);
        assert!(words.contains("approval cannot safely bind this interpreter/runtime command"), "{argv:?}: {words}");
    }
    stage.write("x.sh", "echo good");
    let good = prepare(&["sh".to_owned(), "x.sh".to_owned()]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("mutableFileOperand"), "{good:?}");
    stays_absent(&stage.scratch.canary());
}

/// `npx NAME` and `pnpm exec NAME` start one file that lies there: the answer is for that file.
#[test]
fn sec_a108_the_one_program_of_a_package_is_bound() {
    let mut stage = Stage::new();
    let npx = stage.stub("npx", "exec node_modules/.bin/\"$@\"");
    let [npm, pnpm] = ["npm", "pnpm"].map(|name| stage.stub(name, "shift; exec node_modules/.bin/\"$@\""));
    for argv in [&[&*npx, "tool"][..], &[&pnpm, "exec", "tool"], &[&npm, "exec", "tool"]] {
        for (how, change) in CHANGES {
            let path = stage.write(
                "node_modules/.bin/tool",
                "#!/bin/sh\necho good # long enough to be replaced by something else\n",
            );
            println!("{argv:?}, {how}");
            stage.refuses(argv, || change(&path, "#!/bin/sh\necho evil\n"));
            let _ = fs::remove_file(&path);
        }
        let path = stage.write("node_modules/.bin/tool", "#!/bin/sh\necho good\n");
        let (shown, reply) = stage.ask(argv, || {}, "once");
        assert!(shown.contains(&format!("bound to the content of {}", path.display())), "{shown}");
        assert_eq!(reply.ran()["stdout"], json!("good\n"));
    }
}

/// What runs is what was sent, element by element, whatever analysis took apart.
#[test]
fn sec_a109_what_runs_is_the_argv_that_was_allowed() {
    let mut stage = Stage::new();
    let bare = ["env", "-i", "sh", "-c", "echo \"$HOME\""];
    assert_eq!(stage.runs_by(&bare, "unbound"), "\n", "`env -i` means what it says");
    assert_eq!(stage.runs(&["sh", "-c", "echo \"$HOME\""]).lines().count(), 1);
    let list = stage.write("list", "#!/bin/sh\nfor word; do printf '<%s>' \"$word\"; done\n");
    let list = list.to_str().unwrap();
    let odd = ["", " ", "a  b", "-n", "--", "$HOME", "*", "'", "\"", "\\", "a\nb", "é\u{202e}", "~"];
    let expected: String = odd.iter().map(|word| format!("<{word}>")).collect();
    for (before, word) in [
        (&[][..], "once"),
        (&["nice"], "once"),
        (&["nice", "-n", "5", "env"], "once"),
        // Told more than to start a command, `env` is not looked behind.
        (&["env", "A=b"], "unbound"),
        (&["env", "-i"], "unbound"),
    ] {
        let argv = [before, &[list], &odd].concat();
        assert_eq!(stage.runs_by(&argv, word), expected, "{before:?}");
    }
    if cfg!(target_os = "linux") {
        // As the kernel has it, argv[0] included.
        for argv in [
            &["sh", "-c", "cat /proc/$$/cmdline", "zero", ""][..],
            &["env", "-i", "sh", "-c", "cat /proc/$$/cmdline"],
            &["cat", "/proc/self/cmdline"],
        ] {
            // A text with parameters, or behind another program, is not looked into.
            let word = if argv[0] == "cat" { "once" } else { "unbound" };
            let (_, reply) = stage.ask(argv, || {}, word);
            let own: &[&str] = if argv[0] == "env" { &argv[2..] } else { argv };
            let expected: String = own.iter().map(|word| format!("{word}\0")).collect();
            assert_eq!(reply.ran()["stdout"].as_str().unwrap(), expected, "{argv:?}");
        }
    }
    // The same on the long way, by the gateway's own plan.
    wait_until("the node", || {
        let found = stage.scratch.mac_debug(&["invoke", "system.which", r#"{"bins":["ls"]}"#]);
        (found.code == Some(0)).then_some(())
    });
    let request: Value = json!({ "command": ["nice", list, "a  b", ""], "cwd": stage.work });
    let scratch = stage.scratch.path().to_owned();
    let mut command = stage.scratch.mac_debug_command(&["invoke", "system.run", &request.to_string(), "--json"]);
    command.current_dir(scratch);
    let invoked = thread::spawn(move || support::Process::run(command));
    stage.terminal.expect(QUESTION);
    stage.terminal.expect(ANSWER);
    stage.terminal.type_text("once\n");
    while !invoked.is_finished() {
        stage.terminal.watch(Duration::from_millis(5));
    }
    let invoked = invoked.join().unwrap();
    assert!(invoked.stdout.contains("<a  b><>"), "{invoked:?}");
}
