use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A small machine: `sys/` are the system's programs, `bin/` others, `here/` is where commands run.
pub(in crate::exec) struct Tree {
    pub(in crate::exec) root: PathBuf,
    pub(in crate::exec) host: Host,
}

impl Tree {
    pub(in crate::exec) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("oc-subj-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().canonicalize().unwrap().join(name);
        let host = Host {
            home: root.join("home"),
            user: "u".into(),
            shell: "/bin/sh".into(),
            search_path: ["bin", "sys", "late"].map(|folder| root.join(folder)).to_vec(),
            system_directories: vec![root.join("sys")],
            inherited: BTreeMap::new(),
            open_files: None,
        };
        let tree = Self { root, host };
        for name in [
            "sh",
            "bash",
            "dash",
            "zsh",
            "fish",
            "csh",
            "env",
            "nice",
            "nohup",
            "timeout",
            "stdbuf",
            "time",
            "flock",
            "sudo",
            "xargs",
            "find",
            "ls",
            "cat",
            "head",
            "wc",
            "test",
            "[",
            "strace",
            "setsid",
            "ld-linux-x86-64.so.2",
        ] {
            tree.program(&format!("sys/{name}"));
        }
        for name in [
            "python3.11",
            "node",
            "perl",
            "ruby",
            "osascript",
            "awk",
            "sed",
            "make",
            "npm",
            "npx",
            "pnpm",
            "yarn",
            "bun",
            "deno",
            "uvx",
            "rg",
            "cargo",
            "java",
            "swift",
        ] {
            tree.program(&format!("bin/{name}"));
        }
        symlink("python3.11", tree.root.join("bin/python3")).unwrap();
        fs::create_dir_all(tree.root.join("home")).unwrap();
        tree.file("here/script.sh", "#!/bin/sh\nls\n");
        tree.file("here/a.py", "print(1)\n");
        tree
    }

    pub(in crate::exec) fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(in crate::exec) fn program(&self, path: &str) -> PathBuf {
        let path = self.file(path, "#!/bin/sh\nexit 0\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(in crate::exec) fn work(&self) -> PathBuf {
        self.root.join("here")
    }

    fn judge_in(&self, command: &str, in_shell_text: bool, after_cd: bool) -> Subject {
        let directory = self.work();
        let argv = argv(command);
        let argv = if in_shell_text { without_command(&argv) } else { &argv };
        judge(argv, self.found(argv), &Place { host: &self.host, directory: &directory, in_shell_text, after_cd })
    }

    fn found(&self, argv: &[String]) -> Option<Executable> {
        self.host.resolve(argv.first()?, &self.work())
    }

    /// An argument vector by itself; words are parted by one blank.
    pub(in crate::exec) fn alone(&self, command: &str) -> Subject {
        self.judge_in(command, false, false)
    }

    /// A command of a shell text.
    pub(in crate::exec) fn in_text(&self, command: &str) -> Subject {
        self.judge_in(command, true, false)
    }

    fn text(&self, words: &[&str]) -> Option<String> {
        let directory = self.work();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let place = Place { host: &self.host, directory: &directory, in_shell_text: false, after_cd: false };
        shell_text(&words, self.found(&words).as_ref(), &place).map(str::to_owned)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(in crate::exec) fn argv(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn is_prompt_only(subject: &Subject) -> bool {
    matches!(subject.nature, Nature::PromptOnly(_))
}

fn is_code(subject: &Subject) -> bool {
    matches!(subject.nature, Nature::InlineCode(_))
}

fn file(subject: &Subject) -> String {
    subject.executable.as_ref().map(file_name).unwrap_or_default()
}

/// A83: the decision is about the inner program; anything that changes what it gets is read by nobody.
#[test]
fn sec_a83_wrappers_are_judged_by_what_they_start() {
    let tree = Tree::new();
    for command in [
        "env ls",
        "env -- ls",
        "nice ls",
        "nice -n 5 ls",
        "nice -5 ls",
        "nice --adjustment=3 ls",
        "nohup ls",
        "nohup -- ls",
        "timeout 5 ls",
        "timeout -k 1 5 ls",
        "timeout -s KILL 5 ls",
        "timeout --signal=KILL 5 ls",
        "stdbuf -o L ls",
        "time -p ls",
        "flock lock ls",
        "flock -n lock ls",
        "nice nohup timeout 5 ls",
        "env env env ls",
    ] {
        let subject = tree.alone(command);
        assert_eq!(subject.nature, Nature::Plain, "{command}");
        assert_eq!((subject.argv.as_slice(), file(&subject).as_str()), (argv("ls").as_slice(), "ls"), "{command}");
        assert!(!subject.wrappers.is_empty(), "{command}");
    }
    for command in [
        "env A=1 ls",
        "env -- A=1 ls",
        "env -i ls",
        "env - ls",
        "env -u X ls",
        "env -C / ls",
        "env -P /x ls",
        "env -S ls",
        "env -vS ls",
        "env -iS ls",
        "env --split-string=ls",
        "env --sp=ls",
        "env -Sls",
        "env",
        "env --",
        "env A=1",
        "nice",
        "nice -x ls",
        "nice -n",
        "timeout 5",
        "timeout 5 -- ls",
        "timeout -x 5 ls",
        "stdbuf -oL ls",
        "time -o out ls",
        "flock lock -c ls",
        "flock 9",
        "sudo ls",
        "setsid ls",
        "strace ls",
        "xargs ls",
        "ld-linux-x86-64.so.2 /bin/ls",
        "env sh -c ls",
        "env -- sh",
        "nice bash -c ls",
        "env bash script.sh",
        "env sudo ls",
        "nice xargs ls",
    ] {
        assert!(is_prompt_only(&tree.alone(command)), "{command}");
        assert!(is_prompt_only(&tree.in_text(command)), "{command}");
    }
}

/// A84: at most four wrappers, whichever.
#[test]
fn sec_a84_depth_of_wrappers_is_bounded() {
    let tree = Tree::new();
    for depth in 1..=200 {
        let mixed: String = ["env ", "nice ", "nohup "].iter().cycle().take(depth).copied().collect();
        assert_eq!(is_prompt_only(&tree.alone(&format!("{mixed}ls"))), depth > limits::WRAPPERS, "{depth}");
        assert!(is_prompt_only(&tree.alone(&format!("{mixed}sh -c ls"))), "{depth}");
    }
}

/// h.2-1: a wrapper or shell that is not the system's own is never looked into.
#[test]
fn only_the_systems_wrappers_are_looked_into() {
    let tree = Tree::new();
    for name in ["here/env", "here/sh", "here/busybox", "home/nice"] {
        tree.program(name);
    }
    for command in ["./env ls", "~/nice ls", "./busybox sh -c ls"] {
        assert!(is_prompt_only(&tree.alone(command)), "{command}");
    }
    assert_eq!(tree.text(&["sh", "-c", "ls"]).as_deref(), Some("ls"));
    let sh = tree.root.join("sys/sh");
    assert_eq!(tree.text(&[sh.to_str().unwrap(), "-c", "ls"]).as_deref(), Some("ls"));
    assert_eq!(tree.text(&["./sh", "-c", "ls"]), None);
    assert_eq!(tree.text(&["../sys/../sys/sh", "-c", "ls"]), None);
    // Planted in front of the system's directories, as a link to the real one or not.
    symlink(tree.root.join("sys/sh"), tree.root.join("bin/sh")).unwrap();
    symlink(tree.root.join("sys/env"), tree.root.join("bin/env")).unwrap();
    assert_eq!(tree.text(&["sh", "-c", "ls"]), None);
    assert!(is_prompt_only(&tree.alone("env ls")));
    // A link in the system's directory that leads out of it.
    fs::remove_file(tree.root.join("sys/dash")).unwrap();
    symlink(tree.root.join("here/sh"), tree.root.join("sys/dash")).unwrap();
    assert_eq!(tree.text(&["dash", "-c", "ls"]), None);
}

#[test]
fn texts_of_shells() {
    let tree = Tree::new();
    for (words, expected) in [
        (&["sh", "-c", "ls -la"][..], Some("ls -la")),
        (&["zsh", "-euc", "ls"], Some("ls")),
        (&["bash", "-e", "-u", "-c", "ls"], Some("ls")),
        (&["bash", "-o", "pipefail", "-c", "ls"], Some("ls")),
        (&["bash", "-O", "extglob", "-c", "ls"], Some("ls")),
        (&["sh", "+x", "-c", "ls"], Some("ls")),
        (&["bash", "--init-file", "./x", "-c", "ls"], Some("ls")),
        (&["bash", "-euo", "pipefail", "-c", "ls && ls"], Some("ls && ls")),
        (&["bash", "-euo", "pipefail", "-c", "ls; ls"], None),
        (&["bash", "-o", "errexit", "-c", "ls\nls"], None),
        (&["bash", "-o", "noglob", "-c", "ls"], None),
        (&["sh", "-nc", "ls"], None),
        (&["sh", "-fc", "ls"], None),
        (&["sh", "-rc", "ls"], None),
        (&["sh", "+c", "ls"], None),
        (&["sh", "-", "-c", "ls"], None),
        (&["bash", "-c", "ls", "extra"], Some("ls")),
        (&["bash", "-c", "ls", "--"], Some("ls")),
        (&["bash", "-c", "$0 \"$@\"", "ls"], None),
        (&["bash", "-c", "$0"], Some("$0")),
        (&["sh", "-lc", "ls"], None),
        (&["bash", "--login", "-c", "ls"], None),
        (&["bash", "-ic", "ls"], None),
        (&["bash", "-i", "-c", "ls"], None),
        (&["bash", "--interactive", "-c", "ls"], None),
        (&["bash", "-cls"], None),
        (&["bash", "-c", "--", "ls"], None),
        (&["sh", "-c", "-e", "ls"], None),
        (&["bash", "-sc", "ls"], None),
        (&["bash", "--rcfile"], None),
        (&["bash", "--posix", "-c", "ls"], None),
        (&["bash", "-c"], None),
        (&["bash"], None),
        (&["bash", "script.sh", "-c", "ls"], None),
        (&["fish", "-c", "ls"], None),
        (&["csh", "-c", "ls"], None),
        (&["ls", "-c", "ls"], None),
        (&["nosuch", "-c", "ls"], None),
    ] {
        assert_eq!(tree.text(words).as_deref(), expected, "{words:?}");
    }
    let directory = tree.work();
    let place = Place { host: &tree.host, directory: &directory, in_shell_text: false, after_cd: false };
    for (command, expected) in [("sh -lc ls", Some("ls")), ("bash -lc ls", None), ("sh -c ls", None)] {
        let words = argv(command);
        assert_eq!(login_shell_text(&words, tree.found(&words).as_ref(), &place), expected, "{command}");
    }
    assert_eq!(claimed_text(&argv("/any/sh -lc ls")), Some("ls"));
    assert_eq!(claimed_text(&argv("bash --posix -nec a;b")), Some("a;b"));
    assert_eq!(claimed_text(&argv("bash -c ls extra")), None);
    assert_eq!(claimed_text(&argv("ls -c ls")), None);
}

#[test]
fn shells_by_themselves() {
    let tree = Tree::new();
    assert_eq!(tree.in_text("bash").nature, Nature::Plain);
    for command in [
        "bash -s",
        "bash --version",
        "sh -c ls",
        "bash -x",
        "fish",
        "csh x",
        "bash nosuch.sh",
        "bash -i script.sh",
        "bash -o x",
    ] {
        assert!(is_prompt_only(&tree.in_text(command)), "{command}");
    }
    for command in ["bash script.sh a", "sh ./script.sh a", "bash -eu script.sh a"] {
        let subject = tree.in_text(command);
        let script = tree.work().join("script.sh");
        assert_eq!(subject.nature, Nature::Plain, "{command}");
        assert_eq!(subject.argv, [script.to_str().unwrap(), "a"], "{command}");
        assert_eq!((subject.path(), subject.bare_name()), (script.to_str(), None));
        assert!(subject.operand.is_some_and(|operand| operand.index == 0 && operand.file.sha256.is_some()));
        assert_eq!(subject.wrappers.len(), 1);
    }
    // An allowed tool in another language is no shell script.
    tree.file("here/tool.py", "#!/usr/bin/env python3\nimport os\n");
    assert!(is_prompt_only(&tree.in_text("bash tool.py")));
    tree.program("here/sh");
    assert!(is_prompt_only(&tree.in_text("./sh script.sh")));
    assert!(is_shell("/x/bash-5.2", None) && !is_shell("ls", None));
}

/// A95: words that only a shell understands, and programs that start others.
#[test]
fn sec_a95_builtins_and_helpers_are_carriers() {
    let tree = Tree::new();
    for command in [
        "exec ls",
        "exec -a x ls",
        "builtin ls",
        "eval ls",
        ". ./x",
        "source x",
        "alias ls=rm",
        "set -e",
        "export X=1",
        "trap ls EXIT",
        "read x",
        "unset X",
        "coproc ls",
        "[[ -f x ]]",
        "command -v ls",
        "command -p ls",
        "command",
        "command sh -c ls",
        "find . -exec ls {} ;",
        "find . -ok ls ;",
        "find . -execdir ls +",
        "xargs",
        "command eval ls",
    ] {
        assert!(is_prompt_only(&tree.in_text(command)), "{command}");
    }
    for command in ["command ls", "command -- ls", "command command ls"] {
        let subject = tree.in_text(command);
        assert_eq!((subject.nature, subject.argv.len(), subject.wrappers.len()), (Nature::Plain, 1, 0), "{command}");
    }
    assert!(is_prompt_only(&tree.alone("command ls")));
    assert_eq!(tree.in_text("find . -name x -delete").nature, Nature::Plain);
    assert_eq!(tree.alone("exec ls").executable, None);
}

/// h.2-3, h.2-11: exact names, no subscript, no expansion; programs only the system's own.
#[test]
fn safe_builtins() {
    let tree = Tree::new();
    for command in [":", "true x", "false", "pwd -P", "cd sub", "cd", "test -f x", "[ -f x ]", "[ ]"] {
        assert_eq!(tree.in_text(command).nature, Nature::SafeBuiltin, "{command}");
        assert_ne!(tree.alone(command).nature, Nature::SafeBuiltin, "{command}");
    }
    for command in [
        "test -v a[$(id)]",
        "[ -v a[0] ]",
        "test a`id`",
        "test $x",
        "[ x",
        "CD sub",
        "True",
        "./test x",
        "/usr/bin/true",
        "nice test x",
    ] {
        assert_ne!(tree.in_text(command).nature, Nature::SafeBuiltin, "{command}");
    }
    tree.program("bin/test");
    assert_eq!(tree.in_text("test x").nature, Nature::Plain);
}

/// h.2-5: what a relative path names changes with the directory.
#[test]
fn after_cd_no_relative_program() {
    let tree = Tree::new();
    tree.program("here/tool");
    for command in ["./tool", "../here/tool", "nice ./tool", "bash script.sh", "bash ./script.sh"] {
        assert!(is_prompt_only(&tree.judge_in(command, true, true)), "{command}");
        assert!(!is_prompt_only(&tree.judge_in(command, true, false)), "{command}");
    }
    assert_eq!(tree.judge_in("ls", true, true).nature, Nature::Plain);
}

/// A93: code in arguments, from elsewhere, or from the input.
#[test]
fn sec_a93_inline_code_needs_its_arguments_named() {
    let tree = Tree::new();
    for (command, is_bound) in [
        ("python3 -c x", true),
        ("python3 -cx", true),
        ("python3 -uc x", true),
        ("python3 -W ignore -c x", true),
        ("node -e 1", true),
        ("node -pe 1", true),
        ("node --eval=1", true),
        ("node --print 1", true),
        ("perl -e 1", true),
        ("perl -lane 1", true),
        ("perl -pi.bak -e 1", true),
        ("ruby -ne 1", true),
        ("osascript -e x", true),
        ("awk {print} x", true),
        ("sed -n 1p", true),
        ("sed -i s/a/b/ x", true),
        ("bun -e x", true),
        ("deno eval x", true),
        ("python3 -m http.server", false),
        ("python3", false),
        ("python3 -", false),
        ("python3 -v", false),
        ("node --require ./a b.js", false),
        ("node -r ./a b.js", false),
        ("node --import ./a b.js", false),
        ("node --loader=./a b.js", false),
        ("node --test a.js b.js", false),
        ("perl -MFoo x", false),
        ("perl -Ifoo x", false),
        ("ruby -rfoo x", false),
        ("awk -f x y", false),
        ("sed -f x", false),
        ("sed -i -f x", false),
        ("deno", false),
        ("perl -d x", false),
        ("node -i", false),
    ] {
        let subject = tree.alone(command);
        assert!(is_code(&subject), "{command}: {:?}", subject.nature);
        assert_eq!(subject.unbound.is_none(), is_bound, "{command}");
        assert!(durable(&subject).is_err(), "{command}");
    }
    for command in ["make -f x", "make --eval=x", "make --mak=x", "make SHELL=./x", "make -kf x"] {
        assert!(is_code(&tree.alone(command)), "{command}");
    }
    for command in ["python3 --version", "node -v", "perl -v", "make all", "make -j4", "awk --version"] {
        assert_eq!(tree.alone(command).nature, Nature::Plain, "{command}");
    }
}

/// A108: a file is bound by content, or it is said that nothing can be.
#[test]
fn sec_a108_operands_are_bound_or_said_not_to_be() {
    let tree = Tree::new();
    let tool = tree.program("here/node_modules/.bin/tool");
    for (command, index) in [
        ("python3 a.py data", 1),
        ("python3 -u -W ignore a.py", 4),
        ("node --no-warnings a.py", 2),
        ("nice python3 a.py", 1),
        ("java -jar a.py", 2),
        ("bun run a.py", 2),
        ("bun ./a.py", 1),
        ("deno run -A --allow-net=x a.py", 4),
        ("osascript -l JavaScript a.py", 3),
    ] {
        let subject = tree.alone(command);
        let operand = subject.operand.clone().unwrap_or_else(|| panic!("{command}: {subject:?}"));
        assert_eq!((&subject.nature, operand.index), (&Nature::Plain, index), "{command}");
        assert!(operand.file.path.ends_with("here/a.py") && operand.file.sha256.is_some(), "{command}");
        assert!(durable(&subject).is_err(), "{command}");
    }
    for (command, index) in
        [("npx tool x", 1), ("npm exec tool", 2), ("npm exec -- tool x", 3), ("pnpm exec tool", 2), ("npx ./a.py", 1)]
    {
        let subject = tree.alone(command);
        assert!(is_prompt_only(&subject), "{command}");
        assert_eq!(subject.operand.map(|operand| operand.index), Some(index), "{command}");
        assert_eq!(subject.unbound, None, "{command}");
    }
    assert_eq!(tree.alone("npx tool").operand.map(|operand| operand.file.path), Some(tool));
    for command in [
        "npx -y tool",
        "npx nosuch",
        "npx --package=x tool",
        "npm x nosuch",
        "pnpm dlx tool",
        "pnpm tool x",
        "yarn tool",
        "yarn dlx tool",
        "uvx tool",
        "bunx tool",
        "npm init x",
        "deno run --preload x a.py",
    ] {
        let subject = tree.alone(command);
        assert!(is_prompt_only(&subject) && subject.unbound.is_some() && subject.operand.is_none(), "{command}");
    }
    for command in [
        "npm run x",
        "npm test",
        "pnpm run x",
        "yarn run x",
        "bun run x",
        "deno task x",
        "python3 nosuch.py",
        "swift build",
    ] {
        let subject = tree.alone(command);
        assert!(subject.nature == Nature::Plain && subject.unbound.is_some(), "{command}");
    }
    for command in ["npm install x", "yarn add x", "pnpm install", "npm", "npm --version", "cargo test"] {
        let subject = tree.alone(command);
        assert!(subject.nature == Nature::Plain && subject.unbound.is_none(), "{command}");
    }
    for command in ["npm run x --script-shell=./x", "npm run x --script-sh ./x", "npm --prefix x run y"] {
        assert!(is_prompt_only(&tree.alone(command)), "{command}");
    }
    assert_eq!(tree.alone("npm run x -- --script-shell=./x").nature, Nature::Plain);
}

/// A85: never the wrapper, the shell, the interpreter, the package manager.
#[test]
fn sec_a85_what_may_be_stored() {
    let tree = Tree::new();
    for command in ["ls", "env ls", "timeout 5 ls", "nice ls", "nohup ls", "stdbuf -o 0 ls", "cargo test"] {
        assert_eq!(durable(&tree.alone(command)).map(drop), Ok(()), "{command}");
    }
    for command in [
        "sh",
        "bash script.sh",
        "sh -c ls",
        "python3 --version",
        "npm install x",
        "npx tool",
        "nosuch",
        "env A=1 ls",
        "make",
        "find .",
        "sudo ls",
        "awk --version",
    ] {
        assert!(durable(&tree.alone(command)).is_err(), "{command}");
    }
    assert!(durable(&tree.in_text("cd x")).is_err());
    tree.program("bin/od*d");
    assert!(durable(&tree.alone("od*d")).is_err());
}

/// A91: argv[0] is a program's name, whatever it looks like. A94: exact bytes.
#[test]
fn sec_a91_a94_odd_names_are_no_programs() {
    let tree = Tree::new();
    for command in ["FOO=bar /bin/sh -c x", "-i sh", "-S sh", "-- sh", "ｓｈ -c x", "s\u{200b}h -c x", "LS", " ls"] {
        assert_eq!(tree.alone(command).executable, None, "{command}");
    }
    assert!(is_prompt_only(&judge(
        &[],
        None,
        &Place { host: &tree.host, directory: &tree.work(), in_shell_text: false, after_cd: false }
    )));
    // By its file, a link of any name is what it leads to.
    symlink(tree.root.join("sys/bash"), tree.root.join("bin/tool")).unwrap();
    symlink(tree.root.join("sys/xargs"), tree.root.join("bin/map")).unwrap();
    assert!(is_prompt_only(&tree.alone("tool -c x")) && is_prompt_only(&tree.alone("map ls")));
}
