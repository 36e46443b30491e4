//! What an argument vector really means: the command behind its transparent wrappers, its program,
//! and how an allowlist may match it. Names decide what a program is suspected of, its file decides
//! what it is trusted for. Source: spec exec (c.5), (d.5), (h.2); vectors `shell-allowlist`,
//! `argv-allowlist`.

mod interpreters;
mod packages;
mod wrappers;

use super::analysis::Host;
use super::identity;
use super::plan::{BoundFile, Executable, Nature, Operand, Subject};
use crate::limits;
use crate::sys;
use std::path::Path;

/// Where a command stands.
pub struct Place<'a> {
    /// What it finds around it.
    pub host: &'a Host,
    /// In which directory it runs.
    pub directory: &'a Path,
    /// Whether it is a command of a shell text; else an argument vector by itself.
    pub in_shell_text: bool,
    /// Whether a `cd` stands before it.
    pub after_cd: bool,
}

/// Shells, whatever language they speak. Source: spec exec (d.5), and their usual second names.
#[rustfmt::skip]
const SHELLS: &[&str] = &[
    "sh", "ash", "bash", "dash", "fish", "ksh", "lksh", "mksh", "oksh", "pdksh", "posh", "rbash", "rksh", "rzsh",
    "static-sh", "yash", "zsh", "csh", "tcsh", "osh", "ysh", "elvish", "nu", "xonsh", "ion", "cmd", "powershell",
    "pwsh", "busybox", "toybox",
];

/// Those whose language we read. Source: spec exec (d.5), without those of (h.2-2).
const UNDERSTOOD_SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ash", "ksh", "mksh", "yash"];

/// Programs that start the program their arguments name, or hand work to one. Source: spec exec (d.5),
/// with the kinds that it leaves out: tracers, loaders, job starters.
#[rustfmt::skip]
const CARRIERS: &[&str] = &[
    "env", "nice", "nohup", "timeout", "stdbuf", "time", "flock", "caffeinate", "sandbox-exec", "arch", "xcrun",
    "command", "builtin", "exec", "eval", "source", "sudo", "sudoedit", "doas", "su", "sg", "newgrp", "pkexec",
    "runuser", "gosu", "chroot", "setsid", "setpriv", "ionice", "chrt", "taskset", "numactl", "unshare", "nsenter",
    "bwrap", "firejail", "proot", "systemd-run", "script", "watch", "unbuffer", "xvfb-run", "proxychains", "torify",
    "torsocks", "linux32", "linux64", "setarch", "cpulimit", "catchsegv", "eatmydata", "xargs", "parallel",
    "fakeroot", "dbus-run-session", "dbus-launch", "ssh-agent", "strace", "ltrace", "perf", "valgrind", "gdb", "lldb",
    "dtrace", "dtruss", "capsh", "runcon", "prlimit", "choom", "at", "batch", "entr", "open", "launchctl",
    "start-stop-daemon", "run-parts", "pipesz", "coreutils",
];

/// `find` is a command of its own as long as it starts nothing.
const FIND_ACTIONS: &[&str] = &["-exec", "-execdir", "-ok", "-okdir"];

/// Words that mean something to a shell itself, and programs of these names (macOS has some) mean less.
#[rustfmt::skip]
const SHELL_WORDS: &[&str] = &[
    ".", "[[", "((", "alias", "autoload", "bg", "bind", "break", "builtin", "caller", "command", "compgen", "complete",
    "compopt", "continue", "coproc", "declare", "dirs", "disown", "emulate", "enable", "eval", "exec", "exit", "export",
    "fc", "fg", "function", "getopts", "hash", "help", "history", "jobs", "let", "local", "logout", "mapfile", "noglob",
    "popd", "pushd", "read", "readarray", "readonly", "return", "select", "set", "setopt", "shift", "shopt", "source",
    "suspend", "times", "trap", "type", "typeset", "ulimit", "umask", "unalias", "unset", "unsetopt", "wait", "zmodload",
];

/// What `argv` means, whose first word starts `executable`. It never fails: what cannot be told is
/// [`Nature::PromptOnly`].
pub fn judge(argv: &[String], executable: Option<Executable>, place: &Place) -> Subject {
    let mut subject = Subject { argv: argv.to_vec(), executable, ..Subject::default() };
    if let Err(reason) = unwrap(&mut subject, place).and_then(|()| classify(&mut subject, place)) {
        // What such a command starts in its turn is not looked at, unless its file was found (A106, A108).
        if subject.operand.is_none() && reason != AFTER_CD {
            subject.unbound.get_or_insert_with(|| reason.clone());
        }
        subject.nature = Nature::PromptOnly(reason);
    }
    subject
}

/// A vector of a shell text without `command [--]` in front of it, which there means: the program, and no
/// function or alias of its name. It starts nothing, so neither do we start anything for it.
pub fn without_command(argv: &[String]) -> &[String] {
    let mut rest = argv;
    while rest.first().is_some_and(|name| name == "command") {
        rest = match rest {
            [_, dashes, inner @ ..] if dashes == "--" && !inner.is_empty() => inner,
            [_, inner @ ..] if inner.first().is_some_and(|name| !name.starts_with('-')) => inner,
            _ => break,
        };
    }
    rest
}

/// Whether only a shell can do what this word says.
pub fn is_shell_word(word: &str) -> bool {
    SHELL_WORDS.contains(&word)
}

/// Takes the transparent wrappers off. An error is a reason for [`Nature::PromptOnly`].
fn unwrap(subject: &mut Subject, place: &Place) -> Result<(), String> {
    loop {
        let name = subject.argv.first().ok_or("there is no command")?;
        if place.after_cd && is_relative(name) {
            return Err(AFTER_CD.to_owned());
        }
        let Some(inner) = wrappers::inner(&subject.argv, subject.executable.as_ref(), place)? else { return Ok(()) };
        if subject.wrappers.len() == limits::WRAPPERS {
            return Err(format!("more than {} wrappers stand in front of the command", limits::WRAPPERS));
        }
        subject.argv = inner.to_vec();
        subject.wrappers.extend(subject.executable.take());
        subject.executable = subject.argv.first().and_then(|name| place.resolve_wrapped(name));
    }
}

const AFTER_CD: &str = "after `cd` a program must be named by its name or its full path";

fn is_relative(name: &str) -> bool {
    name.contains('/') && !name.starts_with('/') && !name.starts_with("~/")
}

fn classify(subject: &mut Subject, place: &Place) -> Result<(), String> {
    let Some((name, arguments)) = subject.argv.split_first() else { return Ok(()) };
    if place.in_shell_text && subject.wrappers.is_empty() {
        if SHELL_WORDS.contains(&name.as_str()) {
            return Err(format!("`{name}` has a meaning only to a shell"));
        }
        if is_safe_builtin(name, arguments, subject.executable.as_ref(), place) {
            subject.nature = Nature::SafeBuiltin;
            return Ok(());
        }
    }
    let names: Vec<String> = names(name, subject.executable.as_ref()).collect();
    let is_one_of = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    if is_one_of(SHELLS) {
        return shell(subject, place);
    }
    if is_one_of(CARRIERS) || names.iter().any(|name| is_loader(name)) {
        return Err(format!("`{name}` starts other programs"));
    }
    if is_one_of(&["find"]) && arguments.iter().any(|argument| FIND_ACTIONS.contains(&argument.as_str())) {
        return Err("`find` starts other programs here".to_owned());
    }
    if is_one_of(&["make", "gmake"]) {
        if arguments.iter().any(|argument| is_make_code(argument)) {
            subject.nature = Nature::InlineCode("arguments of `make` name or hold code".to_owned());
        }
        return Ok(());
    }
    packages::judge(subject, &names, place)?;
    interpreters::judge(subject, &names, place);
    Ok(())
}

/// Options that name another makefile or hold a piece of one, also shortened, and variables, whose
/// values `make` expands. Source: spec exec (d.5).
fn is_make_code(argument: &str) -> bool {
    let is_long = ["--file", "--makefile", "--eval"]
        .iter()
        .any(|option| argument.len() > 2 && option.starts_with(argument.split('=').next().unwrap_or(argument)));
    let is_cluster = argument.starts_with('-') && !argument.starts_with("--") && argument.contains(['f', 'E']);
    is_long || is_cluster || argument.contains('=')
}

/// Builtins that do no harm, whatever their arguments; what looks like a subscript or an expansion is
/// code to some shells. Source: spec exec (d.5), (h.2-3), (h.2-11).
fn is_safe_builtin(name: &str, arguments: &[String], executable: Option<&Executable>, place: &Place) -> bool {
    let arguments = match (name, arguments) {
        (":" | "true" | "false" | "pwd" | "cd", all) => all,
        // These two are programs when we run them: the system's own, or they need an entry.
        ("test", all) if executable.is_some_and(|file| place.is_system(name, file)) => all,
        ("[", [inner @ .., last]) if last == "]" && executable.is_some_and(|file| place.is_system(name, file)) => inner,
        _ => return false,
    };
    !arguments.iter().any(|argument| argument.contains(['[', '$', '`']))
}

/// A shell alone is judged by its path. Of one that is given a script, the script is what an
/// allowlist must name, and the shell is its wrapper. Everything else is text or another language.
fn shell(subject: &mut Subject, place: &Place) -> Result<(), String> {
    let (Some((name, arguments)), Some(executable)) = (subject.argv.split_first(), &subject.executable) else {
        return Err("a shell runs what it is told".to_owned());
    };
    if !subject.wrappers.is_empty() || !is_understood(name, executable) {
        return Err(format!("`{name}` is a shell behind another program, or one whose language is not read here"));
    }
    if arguments.is_empty() {
        return Ok(());
    }
    let is_flags = |argument: &&String| {
        argument
            .strip_prefix('-')
            .is_some_and(|letters| !letters.is_empty() && letters.chars().all(|c| "eux".contains(c)))
    };
    let flags = arguments.iter().take_while(is_flags).count();
    let script = arguments.get(flags).filter(|script| !script.starts_with(['-', '+']) && !script.is_empty());
    let script = script.ok_or_else(|| format!("`{name}` runs text, and text inside of text is not looked into"))?;
    if place.after_cd && !script.starts_with('/') {
        return Err(AFTER_CD.to_owned());
    }
    if !place.is_system(name, executable) {
        return Err(format!("`{name}` is not one of the system's shells"));
    }
    let bound = bind(&place.directory.join(script)).filter(is_shell_script);
    let Some((file, path)) = bound.and_then(|file| file.path.to_str().map(str::to_owned).map(|path| (file, path)))
    else {
        subject.unbound = Some(format!("`{script}` is no shell script that can be read"));
        return Err(format!("`{script}` is no shell script that can be read"));
    };
    // By its full path: a script is never found as a bare name.
    let argv = std::iter::once(path).chain(arguments.iter().skip(flags + 1).cloned()).collect();
    subject.wrappers.extend(subject.executable.take());
    subject.executable = Some(Executable { file: file.clone(), interpreters: Vec::new() });
    subject.operand = Some(Operand { index: 0, file });
    subject.argv = argv;
    Ok(())
}

/// A shell that is given no script runs what the command before it prints (A94).
pub fn reads_a_pipe(subject: &mut Subject) {
    let name = subject.argv.first().map(String::as_str).unwrap_or_default();
    if subject.nature == Nature::Plain && subject.operand.is_none() && is_shell(name, subject.executable.as_ref()) {
        let reason = format!("`{name}` runs what the command before it prints");
        subject.unbound.get_or_insert_with(|| reason.clone());
        subject.nature = Nature::PromptOnly(reason);
    }
}

/// Whether a shell may read it: a `#!` line for another language makes its text mean something else
/// to a shell than what its owner allowed.
fn is_shell_script(file: &BoundFile) -> bool {
    let Some(head) = identity::head(file).ok().filter(|head| !head.contains(&0)) else { return false };
    let Some(line) = head.strip_prefix(b"#!") else { return true };
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let mut words = line.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let first = words.next().unwrap_or_default();
    UNDERSTOOD_SHELLS.contains(&if first == "env" { words.next().unwrap_or_default() } else { first })
}

impl Place<'_> {
    /// What `name` starts behind a wrapper, where nobody expands `~`.
    fn resolve_wrapped(&self, name: &str) -> Option<Executable> {
        let literal = if name.starts_with("~/") { format!("./{name}") } else { name.to_owned() };
        self.host.resolve(&literal, self.directory)
    }

    /// Whether a program is what its name says: found in one of the system's directories, and its
    /// canonical file lies in one (h.2-1).
    fn is_system(&self, name: &str, executable: &Executable) -> bool {
        let is_listed = |folder: &Path| self.host.system_directories.iter().any(|listed| listed == folder);
        let is_found_there = if name.contains('/') {
            self.directory.join(name).parent().is_some_and(is_listed)
        } else {
            let is_program = |path: &Path| path.is_file() && sys::spawn::is_executable(path);
            let first = self.host.search_path.iter().find(|folder| is_program(&folder.join(name)));
            // It may be another name of one (`/usr/sbin` for `/usr/bin`).
            first.is_some_and(|folder| is_listed(folder) || folder.canonicalize().is_ok_and(|real| is_listed(&real)))
        };
        is_found_there && executable.file.path.parent().is_some_and(is_listed)
    }
}

/// Whether both names of the program are of shells whose language we read.
fn is_understood(name: &str, executable: &Executable) -> bool {
    let is = |names: Vec<String>| names.iter().any(|name| UNDERSTOOD_SHELLS.contains(&name.as_str()));
    is(spellings(base(name))) && is(spellings(&file_name(executable)))
}

/// Whether a program is a shell, by the name it is called or by its file.
pub fn is_shell(argv0: &str, executable: Option<&Executable>) -> bool {
    names(argv0, executable).any(|name| SHELLS.contains(&name.as_str()))
}

/// The text that `sh -c TEXT` runs, where `sh` is a system shell of a language that we read, wherever
/// the text does not depend on what stands behind it. None for a login or interactive shell, which
/// reads its start-up files first.
pub fn shell_text<'a>(argv: &'a [String], executable: Option<&Executable>, place: &Place) -> Option<&'a str> {
    let inline = inline(argv).filter(|inline| inline.is_plain && !inline.is_login)?;
    is_system_shell(argv, executable, place).then_some(inline.text)
}

/// The text of `sh -lc TEXT`, as old gateways send it together with a `rawCommand` that says the
/// same text; without such a claim it is not looked into. Vectors argv-0028, argv-0079.
pub fn login_shell_text<'a>(argv: &'a [String], executable: Option<&Executable>, place: &Place) -> Option<&'a str> {
    let inline = inline(argv).filter(|inline| inline.is_plain && inline.is_login)?;
    let is_sh = argv.first().is_some_and(|name| base(name) == "sh");
    (is_sh && is_system_shell(argv, executable, place)).then_some(inline.text)
}

/// The text that a shell is handed, by names alone: for claims and previews, never for a decision.
/// Source: spec exec (d.1).
pub fn claimed_text(argv: &[String]) -> Option<&str> {
    let name = argv.first()?;
    let inline = inline(argv).filter(|inline| inline.is_alone && (!inline.is_login || base(name) == "sh"));
    inline.filter(|_| is_shell(name, None)).map(|inline| inline.text)
}

fn is_system_shell(argv: &[String], executable: Option<&Executable>, place: &Place) -> bool {
    let (Some(name), Some(executable)) = (argv.first(), executable) else { return false };
    is_understood(name, executable) && place.is_system(name, executable)
}

/// A text in an argument vector.
struct Inline<'a> {
    text: &'a str,
    is_login: bool,
    /// Nothing stands behind it.
    is_alone: bool,
    /// It means what it says, whatever stands in front of it or behind.
    is_plain: bool,
}

/// Options that change nothing about what we would run, or (`errexit`) nothing while no `;` and no
/// line's end stands in the text. Other options (no globs, read only, restricted) do.
const TEXT_OPTIONS: &[&str] = &["pipefail", "nounset", "errexit", "xtrace", "extglob"];

/// Source: spec exec (d.5) "Option scanning"; vectors `argv-allowlist`.
fn inline(argv: &[String]) -> Option<Inline<'_>> {
    let (mut is_login, mut stops_at_failure, mut is_plain) = (false, false, true);
    let mut arguments = argv.iter().skip(1);
    loop {
        let argument = arguments.next()?.as_str();
        // As letters: `c` is followed by the text, `o` by the name of an option, `=` by a file that
        // only an interactive shell reads, `?` stands for what we do not know.
        let letters = match argument {
            "--interactive" => return None,
            "--login" => "l",
            "--command" => "c",
            "--rcfile" | "--init-file" => "=",
            "-O" | "+o" | "+O" => "o",
            _ if argument.starts_with("--") => "?",
            _ => argument.strip_prefix(['-', '+'])?,
        };
        let has_text = letters.contains('c');
        if letters.is_empty()
            || letters.contains(['i', 's'])
            || (has_text && (argument.starts_with('+') || !letters.ends_with('c')))
        {
            return None;
        }
        is_login |= letters.contains('l');
        stops_at_failure |= letters.contains('e');
        is_plain &= letters.chars().all(|letter| "ceuxlo=".contains(letter));
        if letters == "=" {
            arguments.next()?;
        }
        for _ in letters.matches('o') {
            let option = arguments.next()?.as_str();
            is_plain &= TEXT_OPTIONS.contains(&option);
            stops_at_failure |= option == "errexit";
        }
        if has_text {
            let text = arguments.next()?.as_str();
            let is_alone = arguments.next().is_none();
            // What follows is `$0` and so on; an option there would be one of the shell (`sh -c -e ls`).
            is_plain &= is_alone || !text.contains('$');
            is_plain &= !stops_at_failure || !text.contains([';', '\n']);
            return (!text.starts_with(['-', '+'])).then_some(Inline { text, is_login, is_alone, is_plain });
        }
    }
}

/// The dynamic loader runs the program that it is given.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld-musl") || matches!(name, "ld" | "ld.so" | "dyld")
}

/// The names that a program goes by, as the lists here spell them: how it is called and what its file
/// is called; either suffices to suspect it (a link `tool` to `bash`, a link `sh` to a tool).
pub fn names<'a>(argv0: &'a str, executable: Option<&'a Executable>) -> impl Iterator<Item = String> + 'a {
    let called = spellings(base(argv0));
    let interpreters = executable.into_iter().flat_map(|executable| spellings(&file_name(executable)));
    called.into_iter().chain(interpreters)
}

/// A name, also without a version (`python3.11`, `bash-5.2`), an ending, or GNU's `g` on macOS.
fn spellings(name: &str) -> Vec<String> {
    let lower = name.trim().to_lowercase();
    let lower = lower.strip_suffix(".exe").unwrap_or(&lower);
    let plain = lower.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    let without_g = plain.strip_prefix('g').unwrap_or(plain);
    [lower, plain, without_g].map(str::to_owned).to_vec()
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn file_name(executable: &Executable) -> String {
    executable.file.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The pattern of what "always" would store: next time exactly this program must be recognised again, and
/// it must do the same. Source: spec exec (c.5).
///
/// # Errors
/// A sentence that says why not.
pub fn durable(subject: &Subject) -> Result<&str, String> {
    match &subject.nature {
        Nature::Plain => {}
        Nature::SafeBuiltin => return Err("it needs no entry".to_owned()),
        Nature::InlineCode(reason) | Nature::PromptOnly(reason) => return Err(reason.clone()),
    }
    if let Some(reason) = &subject.unbound {
        return Err(reason.clone());
    }
    let path = subject.path().ok_or("the program was not found, or its path is not Unicode")?;
    if path.contains(['*', '?', '\\']) || path.trim() != path {
        return Err("the program's path has characters that mean something else in an allowlist".to_owned());
    }
    let argv0 = subject.argv.first().map(String::as_str).unwrap_or_default();
    let names: Vec<String> = names(argv0, subject.executable.as_ref()).collect();
    let is = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    if subject.operand.is_some() || is(SHELLS) || is(&["find", "make", "gmake"]) || interpreters::is_one(&names) {
        return Err("it runs whatever its program file or its arguments hold next time".to_owned());
    }
    if packages::is_one(&names) {
        return Err("a package manager runs whatever the packages hold next time".to_owned());
    }
    Ok(path)
}

/// The regular file behind `path`, with its hash.
fn bind(path: &Path) -> Option<BoundFile> {
    identity::hashed(path).ok()
}

#[cfg(test)]
pub(super) mod tests;
