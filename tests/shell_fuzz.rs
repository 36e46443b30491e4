//! The reader of shell text against everything that mutation finds (H23), and against real shells
//! (H24).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;
mod support_fuzz;

use openclaw::exec::display::quoted;
use openclaw::exec::plan::{After, NotUnderstood};
use openclaw::exec::shell::{Script, Surroundings, parse};
use openclaw::protocol::text;
use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use support::TempDir;
use support_fuzz::{Random, fuzz, trace};

const MUTATIONS: u64 = 20_000;
const GENERATED: usize = 10_000;
/// Of the generated lines that many at least must be understood, or the comparison says little.
const UNDERSTOOD: usize = 4_000;

/// A home with programs, and a working directory with files of odd names.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        let dir = TempDir::new();
        let files = [
            "a", "b", "x.rs", "y.rs", "a b", "-x", "[a]", "*", "?", "{a,b}", "$x", "'", "~", ".hid", "sub/a",
            "sub/y.rs", "sub/-z", "sub 2/a", "opt/ab", "#c", "=p9", "!x", "p1", "p9", "p1.rs",
        ];
        for name in files {
            let path = dir.join("work").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink("sub", dir.join("work/link")).unwrap();
        for directory in ["bin", "home/bin", "linked"] {
            fs::create_dir_all(dir.join(directory)).unwrap();
        }
        // There from the beginning, so that `../*` always finds the same.
        for name in ["log", "driver", "trace"] {
            fs::write(dir.join(name), "").unwrap();
        }
        let scratch = Self(dir);
        let log = scratch.log();
        for script in ["work/s1", "home/bin/s2", "bin/s3"] {
            let text = format!("#!/bin/sh\nprintf '%s\\0' C $(($# + 1)) \"$0\" \"$@\" >>{log}\n");
            fs::write(scratch.0.join(script), text).unwrap();
            fs::set_permissions(scratch.0.join(script), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for number in 1..=9 {
            let program = if number < 7 { "true" } else { "false" };
            let program = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(program));
            let program = program.iter().find(|program| program.exists()).unwrap();
            symlink(program, scratch.0.join(format!("linked/p{number}"))).unwrap();
        }
        symlink("../bin/s3", scratch.0.join("linked/s3")).unwrap();
        scratch
    }

    /// Whether none of the words is a path to something outside, which may change at any moment.
    fn is_ours(&self, listed: &[Vec<String>]) -> bool {
        let ours = self.0.path().to_str().unwrap();
        !listed.iter().flatten().any(|word| word.starts_with('/') && word != "/" && !word.starts_with(ours))
    }

    fn log(&self) -> String {
        self.0.join("log").to_str().unwrap().to_owned()
    }

    fn understand(&self, text: &str) -> Result<(Script, Vec<Vec<String>>), NotUnderstood> {
        let home = self.0.join("home");
        let work = self.0.join("work");
        let mut around = Surroundings::new(home.to_str().unwrap(), &work);
        let script = parse(text)?;
        let commands = script.steps.iter().flat_map(|step| &step.commands);
        let listed = commands.map(|command| command.expand(&mut around)).collect::<Result<_, _>>()?;
        Ok((script, listed))
    }

    /// `program` with an environment of ours only.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, path: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.0.join(path)).env("HOME", self.0.join("home")).env("LC_ALL", "C");
        command.current_dir(self.0.join("work"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Where a shell is found, if it is.
fn shell(name: &str) -> Option<String> {
    ["/bin", "/usr/bin"]
        .map(|directory| format!("{directory}/{name}"))
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// `text` as one word of any shell.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// H23: the target. Nothing panics; places are inside the text; what was understood has words, and
/// written in our quotes it is understood as the same words.
fn target(scratch: &Scratch, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (script, listed) = match scratch.understand(&text) {
        Ok(understood) => understood,
        Err(why) => {
            assert!(why.position <= text.len() && !why.reason.is_empty(), "{text:?}: {why:?}");
            return false;
        }
    };
    assert!(!script.steps.is_empty() && script.steps[0].after == After::Always);
    for command in script.steps.iter().flat_map(|step| &step.commands) {
        assert!(!command.words.is_empty() && text.is_char_boundary(command.position), "{text:?}");
    }
    for argv in listed {
        assert!(!argv[0].is_empty(), "{text:?}");
        // Not written for a shell: hidden characters as escapes, and a `=` in front without quotes.
        if argv.iter().any(|word| word.contains(text::is_hidden) || word.starts_with('=')) {
            continue;
        }
        // The name may be a reserved word that had quotes.
        let argv: Vec<String> = std::iter::once("x".to_owned()).chain(argv).collect();
        let written = quoted(&argv);
        let again = scratch.understand(&written).unwrap_or_else(|why| panic!("{text:?} became {written:?}: {why:?}"));
        assert_eq!(again.1, [argv], "{text:?} became {written:?}");
    }
    true
}

#[test]
fn sec_h23_reader_of_shell_text() {
    let scratch = Scratch::new();
    let characters: Vec<String> = "\"'\\$`~*?[]{}()<>|&;#!=-,. \n\rahP1/\0".chars().map(String::from).collect();
    let words: Vec<&str> =
        characters.iter().map(String::as_str).chain(NAMES.iter().copied()).chain(PIECES.iter().copied()).collect();
    let understood = Cell::new(0_u64);
    let target = |bytes: &[u8]| {
        let is_understood = target(&scratch, bytes);
        understood.set(understood.get() + u64::from(is_understood));
        trace((
            is_understood,
            String::from_utf8_lossy(bytes).split_whitespace().map(|word| word.len().min(9)).take(6).collect::<Vec<_>>(),
        ))
    };
    fuzz("shell", MUTATIONS, &words, target);
    println!("{} understood", understood.get());
    assert!(understood.get() > MUTATIONS / 20);
}

/// Mostly functions of the driver: processes take time.
const NAMES: &[&str] = &[
    "p1",
    "p2",
    "p3",
    "p4",
    "p5",
    "p6",
    "p7",
    "p8",
    "p9",
    "p1",
    "p2",
    "p3",
    "p4",
    "p5",
    "p6",
    "p7",
    "p8",
    "p9",
    "p1",
    "p2",
    "p3",
    "p4",
    "p5",
    "p6",
    "p7",
    "p8",
    "p9",
    "true",
    "false",
    ":",
    "echo",
    "printf",
    "nosuch",
    "'p1'",
    "p\"2\"",
    "\\p3",
    "''p4",
    "s3",
    "./s1",
    "~/bin/s2",
    "$HOME/bin/s2",
    "\"$HOME\"/bin/s2",
    "link/../s1",
];
const PIECES: &[&str] = &[
    "a",
    "b",
    "x.rs",
    "-x",
    "--o=v",
    "1",
    "2",
    "p9",
    "é",
    "%",
    "@",
    "+",
    ",",
    ".",
    "/",
    ":",
    "=",
    "!",
    "^",
    "#",
    "]",
    "}",
    "'a b'",
    "\"a b\"",
    "'*'",
    "\"*\"",
    "''",
    "\"\"",
    "'$(p9)'",
    "'`p9`'",
    "\"it's\"",
    "'\"'",
    "\"\\\"\\\\\\$\\`\\a\"",
    "'\\'",
    "\\ ",
    "\\*",
    "\\'",
    "\\\"",
    "\\$",
    "\\\\",
    "\\;",
    "\\a",
    "\\~",
    "'a\nb'",
    "*",
    "?",
    "*.rs",
    "[ab]",
    "[!a]",
    "[a-b]",
    "[",
    "[*",
    "[]",
    "[]a]",
    "?*",
    "./*",
    "sub/*",
    "*/*",
    "*/",
    "link/*",
    ".h*",
    "sub*/a",
    "~",
    "~/",
    "~/*",
    "$HOME",
    "${HOME}",
    "\"$HOME\"",
    "$PWD",
    "\"${PWD}/x\"",
    "$PWD/*",
    "$",
    "a$",
    "\"$\"",
    "$/",
    "{",
    "{a",
    "{}",
];
/// What must not be understood, or only in some places.
const ODD: &[&str] = &[
    "$(p9)",
    "`p9`",
    "\"$(p9)\"",
    "\"`p9`\"",
    "$((1))",
    "$[1]",
    "${x:-p9}",
    "$x",
    "$1",
    "$@",
    "$'p9'",
    "$\"p9\"",
    "{a,b}",
    "{1..3}",
    "~root",
    "~+",
    "a=~",
    "a:~",
    "=p9",
    "<(p9)",
    ">(p9)",
    ">x",
    ">>x",
    "<a",
    "<<a",
    "<<<a",
    "3>x",
    "&>x",
    "2>&12",
    "&",
    "(",
    ")",
    "(p9)",
    "A=1",
    "A+=1",
    "a[0]=1",
    "if",
    "then",
    "fi",
    "while",
    "do",
    "done",
    "{",
    "}",
    "[[",
    "]]",
    "!",
    "case",
    "in",
    "esac",
    "function",
    "\\\n",
    "\"",
    "'",
    "\\",
    "[[:alpha:]]",
    "[a/b]",
    "[^a]",
    "[\"a\"]",
    "**",
    "@(a)",
    ";;",
    "|&",
    "p9()",
    "{x}>/dev/null",
    "a>/dev/null",
    "#",
    "# p9",
    "\n",
];
const REDIRECTIONS: &[&str] = &[" 2>&1", " >/dev/null", " 1>/dev/null", " 2>/dev/null", "2>&1", ">/dev/null"];
const OPERATORS: &[&str] = &[
    " && ",
    " || ",
    "; ",
    " | ",
    "\n",
    "&&",
    "||",
    ";",
    "|",
    " &&\n",
    " |\n # p9\n ",
    ";\n\n",
    " # p9\n",
    " |& ",
    " ;; ",
    " & ",
];

fn generate(random: &mut Random) -> String {
    let mut line = String::new();
    for number in 0..=random.below(4) {
        if number > 0 {
            line += random.pick(OPERATORS);
        }
        if random.one_in(8) {
            line += "! ";
        }
        if random.one_in(16) {
            line += random.pick(REDIRECTIONS).trim_start();
            line += " ";
        }
        line += random.pick(NAMES);
        for _ in 0..random.below(4) {
            line += random.pick(&[" ", " ", " ", "  ", "\t"]);
            for _ in 0..=random.below(3) / 2 {
                let pieces = if random.one_in(24) { ODD } else { PIECES };
                line += random.pick(pieces);
            }
        }
        if random.one_in(6) {
            line += random.pick(REDIRECTIONS);
        }
    }
    if random.one_in(6) {
        let places: Vec<usize> = line.char_indices().map(|(place, _)| place).collect();
        let place = random.pick(&places);
        if random.one_in(2) {
            line.insert_str(place, random.pick(ODD));
        } else {
            line.remove(place);
        }
    }
    line
}

/// What runs, if the exit codes of all commands are known.
fn expected(script: &Script, listed: &[Vec<String>], work: &Path) -> Option<Vec<Vec<String>>> {
    let mut ran = Vec::new();
    let mut listed = listed.iter();
    let mut has_succeeded = true;
    for step in &script.steps {
        let commands: Vec<&Vec<String>> = listed.by_ref().take(step.commands.len()).collect();
        let runs = match step.after {
            After::Always => true,
            After::Success => has_succeeded,
            After::Failure => !has_succeeded,
        };
        let is_success = succeeds(&commands.last()?[0], work)?;
        if runs {
            ran.extend(commands.into_iter().filter(|argv| is_logged(&argv[0], work)).cloned());
            has_succeeded = is_success != step.is_negated;
        }
    }
    Some(ran)
}

fn succeeds(name: &str, work: &Path) -> Option<bool> {
    match name {
        "p1" | "p2" | "p3" | "p4" | "p5" | "p6" | "s3" | "true" | ":" | "echo" => Some(true),
        "p7" | "p8" | "p9" | "false" | "nosuch" => Some(false),
        _ => name.contains('/').then(|| work.join(name).is_file()),
    }
}

/// All our programs log; those of the shell do not.
fn is_logged(name: &str, work: &Path) -> bool {
    let is_number = |rest: &str| matches!(rest.as_bytes(), [b'1'..=b'9']);
    name == "s3" || name.strip_prefix('p').is_some_and(is_number) || (name.contains('/') && work.join(name).is_file())
}

/// Takes away from `listed` what ran; what is not there must not have run.
fn assert_listed(line: &str, who: &str, ran: &[Vec<String>], mut listed: Vec<Vec<String>>) {
    for argv in ran {
        let place = listed.iter().position(|candidate| candidate == argv);
        let place =
            place.unwrap_or_else(|| panic!("{who} ran {argv:?} for {line:?}; not yet run of the list: {listed:?}"));
        listed.remove(place);
    }
}

/// Of the generated lines those that are understood, and are about nothing outside the scratch directory.
fn understood_lines(scratch: &Scratch) -> Vec<Line> {
    let mut random = Random::new();
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    while seen.len() < GENERATED {
        let line = generate(&mut random);
        if seen.insert(line.clone())
            && let Ok((script, listed)) = scratch.understand(&line)
            && scratch.is_ours(&listed)
        {
            lines.push((line, script, listed));
        }
    }
    println!("{} of {GENERATED} lines understood", lines.len());
    assert!(lines.len() >= UNDERSTOOD && lines.len() <= GENERATED - GENERATED / 10);
    lines
}

/// H24: whenever we say "understood", a real shell runs only what we listed, with the same
/// arguments; and exactly what `&&`, `||`, `;` and `!` let run, where exit codes are known.
#[test]
fn sec_h24_differential_against_real_shells() {
    let scratch = Scratch::new();
    let lines: Vec<Line> =
        understood_lines(&scratch).into_iter().filter(|(_, script, listed)| !may_mix(script, listed)).collect();
    let mut shells = HashSet::new();
    for name in ["sh", "dash", "bash"] {
        let Some(shell) = shell(name) else {
            println!("skipped: there is no {name}");
            continue;
        };
        if !shells.insert(Path::new(&shell).canonicalize().unwrap()) {
            println!("{name} is one of the others");
            continue;
        }
        let runs = run_all(&scratch, &shell, &lines);
        let mut exact = 0;
        for ((line, script, listed), ran) in lines.iter().zip(runs) {
            assert_listed(line, name, &ran, listed.clone());
            if is_of_every_shell(line)
                && let Some(mut expected) = expected(script, listed, &scratch.0.join("work"))
            {
                let mut ran = ran;
                ran.sort();
                expected.sort();
                assert_eq!(ran, expected, "{name}: {line:?}");
                exact += 1;
            }
        }
        println!("{name}: {exact} lines ran exactly as expected");
        assert!(exact > lines.len() / 2);
    }
    assert!(shells.len() >= 2, "no shells to compare with");
}

fn is_of_every_shell(line: &str) -> bool {
    !line.contains(";;") && !line.contains("|&")
}

/// Shells write what has line breaks line by line, so that the logs of commands that run at the same
/// time would mix.
fn may_mix(script: &Script, listed: &[Vec<String>]) -> bool {
    script.steps.iter().any(|step| step.commands.len() > 1) && listed.iter().flatten().any(|word| word.contains('\n'))
}

type Line = (String, Script, Vec<Vec<String>>);

/// What each line made the shell run. One process of the shell evaluates them all; `p1` to `p9` are functions that log their arguments, files log theirs.
fn run_all(scratch: &Scratch, shell: &str, lines: &[Line]) -> Vec<Vec<Vec<String>>> {
    let log = scratch.log();
    fs::write(&log, "").unwrap();
    let mut driver = format!("log_argv() {{ printf '%s\\0' C \"$#\" \"$@\" >>{log}; }}\n");
    for number in 1..=9 {
        driver += &format!("p{number}() {{ log_argv p{number} \"$@\"; return {}; }}\n", u8::from(number >= 7));
    }
    for (number, (line, ..)) in lines.iter().enumerate() {
        driver += &format!("printf '%s\\0' L {number} >>{log}\n{}\n", evaluated(line));
    }
    let file = scratch.0.join("driver");
    fs::write(&file, driver).unwrap();
    assert!(scratch.command(shell, "bin").arg(&file).status().unwrap().code().is_some());
    let logged = String::from_utf8(fs::read(&log).unwrap()).unwrap();
    let mut fields = logged.split_terminator('\0').map(str::to_owned);
    let mut runs: Vec<Vec<Vec<String>>> = Vec::new();
    let bin = format!("{}/", scratch.0.join("bin").display());
    while let Some(kind) = fields.next() {
        let number: usize = fields.next().unwrap().parse().unwrap();
        if kind == "L" {
            assert_eq!(number, runs.len(), "{shell}: a line is missing");
            runs.push(Vec::new());
        } else {
            let mut argv: Vec<String> = fields.by_ref().take(number).collect();
            assert_eq!((kind.as_str(), argv.len()), ("C", number));
            argv[0] = argv[0].strip_prefix(&bin).unwrap_or(&argv[0]).to_owned();
            runs.last_mut().unwrap().push(argv);
        }
    }
    assert_eq!(runs.len(), lines.len(), "{shell} stopped early");
    runs
}

/// A command that runs `line`. One that is not of every shell ends the shell that does not know it.
fn evaluated(line: &str) -> String {
    let (open, close) = if is_of_every_shell(line) { ("", "") } else { ("( ", " )") };
    format!("{open}eval {}{close}", single_quoted(line))
}

/// The same with programs instead of functions, and the kernel's word for what was executed.
#[test]
fn sec_h24_differential_under_strace() {
    let scratch = Scratch::new();
    let trace = scratch.0.join("trace");
    let strace = |program: &str| {
        let mut command = scratch.command("/usr/bin/strace", "linked");
        command.args("-f --seccomp-bpf -qq -xx -s 65536 -e trace=execve,kill -e abbrev=none -o".split(' '));
        command.arg(&trace).arg(program);
        command
    };
    if !strace("/bin/true").status().is_ok_and(|status| status.success()) {
        println!("skipped: strace is not there or may not trace");
        return;
    }
    let lines = understood_lines(&scratch);
    let shell = shell("sh").expect("a shell");
    // One shell evaluates them all, and says by a system call where the next begins.
    let driver: String = lines.iter().map(|(line, ..)| format!("kill -0 $$\n{}\n", evaluated(line))).collect();
    let file = scratch.0.join("driver");
    fs::write(&file, driver).unwrap();
    assert!(strace(&shell).arg(&file).status().unwrap().code().is_some());
    let traced = fs::read_to_string(&trace).unwrap();
    let mut runs = traced.split("kill(");
    assert_eq!(runs.next().unwrap().lines().filter_map(traced_argv).count(), 1, "the driver's shell");
    let mut count = 0;
    for (line, _, listed) in &lines {
        let run = runs.next().unwrap_or_else(|| panic!("the shell ended before {line:?}"));
        let ran: Vec<Vec<String>> = run.lines().filter_map(traced_argv).collect();
        count += ran.len();
        assert_listed(line, "sh", &ran, listed.clone());
    }
    assert_eq!(runs.count(), 0);
    println!("{count} programs executed");
    assert!(count > lines.len() / 2);
}

/// The argument vector of a line of `strace -xx`, where it is one about an execution.
fn traced_argv(line: &str) -> Option<Vec<String>> {
    let (_, rest) = line.split_once("execve(")?;
    let (_, rest) = rest.split_once('[')?;
    let (argv, _) = rest.split_once(']')?;
    let word = |hex: &str| {
        let bytes = hex.trim_matches('"').split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap());
        String::from_utf8(bytes.collect()).unwrap()
    };
    Some(argv.split(", ").map(word).collect())
}
