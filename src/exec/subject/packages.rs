//! Package managers: an entry for one allows what it does itself, never a program that it fetches or
//! finds for somebody (h.2-8). Source: spec exec (d.5) "Package managers"; A108.

use super::interpreters::bind_operand;
use super::{Place, bind};
use crate::exec::plan::{Nature, Operand, Subject};
use std::path::{Path, PathBuf};

/// What the first argument of one means. Words in no list are names of programs or scripts, or are
/// not known to us: never allowed by an entry.
struct Manager {
    names: &'static [&'static str],
    /// Its own work.
    own: &'static str,
    /// Runs what the package's files say, so that no answer can be bound to it.
    scripts: &'static str,
    /// The same, or the file that is named.
    run: &'static str,
    /// Takes code or reads it from the input.
    code: &'static str,
    /// Starts the one program that is named, if it is installed.
    starts: &'static str,
}

const NONE: Manager = Manager { names: &[], own: "", scripts: "", run: "", code: "", starts: "" };

#[rustfmt::skip]
const MANAGERS: &[Manager] = &[
    Manager {
        names: &["npm"],
        own: "install i add ci uninstall remove rm un update up outdated ls list view info show search audit fund pack \
            publish version config get set root prefix cache prune dedupe ping whoami login logout doctor link help why \
            explain query pkg rebuild",
        scripts: "run run-script rum urn test t tst start stop restart",
        starts: "exec x",
        ..NONE
    },
    Manager {
        names: &["pnpm"],
        own: "install i add remove rm update up outdated list ls why audit store config fetch prune pack publish link \
            unlink import init",
        scripts: "run test t start",
        starts: "exec",
        ..NONE
    },
    Manager {
        names: &["yarn"],
        own: "install add remove up upgrade info list why config cache init link unlink pack publish version outdated \
            audit import dedupe",
        scripts: "run test start",
        ..NONE
    },
    Manager {
        names: &["bun"],
        own: "install i add remove rm update outdated link unlink pm init audit info publish why upgrade build",
        scripts: "test",
        run: "run",
        code: "-e --eval -p --print",
        ..NONE
    },
    Manager {
        names: &["deno"],
        own: "fmt lint check info install add remove cache doc compile types upgrade uninstall outdated publish init",
        scripts: "task test bench",
        run: "run",
        code: "eval repl",
        ..NONE
    },
    Manager {
        names: &["uv"],
        own: "pip sync add remove lock tree venv init python cache version export self build publish",
        ..NONE
    },
    Manager { names: &["pipx"], own: "install uninstall list upgrade upgrade-all inject uninject reinstall", ..NONE },
    Manager {
        names: &["poetry"],
        own: "install add remove update lock show build publish check config init new env export version self",
        ..NONE
    },
    Manager {
        names: &["bundle"],
        own: "install update check list outdated add remove info lock package config show init clean doctor",
        ..NONE
    },
];

/// Nothing but starters of other programs.
const STARTERS: &[&str] = &["npx", "pnpx", "bunx", "uvx", "corepack"];

/// Options that decide which program runs a script, also shortened.
const SHELL_OPTIONS: &[&str] = &["--script-shell", "--node-options", "--shell-emulator", "--shell"];

/// Alone, they only make it tell about itself.
const QUESTIONS: &[&str] = &["--version", "-v", "-V", "--help", "-h"];

/// Harmless options between `run` and the file.
const RUN_FLAGS: &[&str] = &["-A", "-q", "--quiet", "--no-prompt", "--no-check"];

/// Whether a program of one of these names is a package manager.
pub(super) fn is_one(names: &[String]) -> bool {
    let is = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    is(STARTERS) || is(&["rake"]) || MANAGERS.iter().any(|manager| is(manager.names))
}

/// Judges `subject` if it is one.
///
/// # Errors
/// A reason for [`Nature::PromptOnly`].
pub(super) fn judge(subject: &mut Subject, names: &[String], place: &Place) -> Result<(), String> {
    let is = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    if is(&["rake"]) {
        subject.unbound = Some("what `rake` runs stands in files that its arguments do not name".to_owned());
        return Ok(());
    }
    if is(STARTERS) {
        // `corepack` and the others that fetch what they run name no file that is there.
        return Err(starts(subject, is(&["npx"]).then_some(1), place));
    }
    let Some(manager) = MANAGERS.iter().find(|manager| is(manager.names)) else { return Ok(()) };
    let name = subject.argv.first().cloned().unwrap_or_default();
    let Some(word) = subject.argv.get(1).cloned() else {
        if manager.code.contains("repl") {
            subject.nature = Nature::InlineCode(format!("`{name}` reads its program from its input"));
            subject.unbound = Some(format!("`{name}` reads its program from its input"));
        }
        return Ok(());
    };
    let has = |list: &str| list.split_whitespace().any(|known| known == word);
    if subject.argv.len() == 2 && QUESTIONS.contains(&word.as_str()) {
        return Ok(());
    }
    if has(manager.code) || manager.code.split_whitespace().any(|code| word.starts_with(&format!("{code}="))) {
        subject.nature = Nature::InlineCode(format!("the code that `{name}` runs stands in its arguments"));
        return Ok(());
    }
    if let Some(option) = subject.argv.iter().take_while(|word| *word != "--").find(|word| picks_shell(word)) {
        return Err(format!("{option} decides what `{name}` starts"));
    }
    if has(manager.own) {
        return Ok(());
    }
    if has(manager.scripts) {
        subject.unbound = Some(format!("what `{name} {word}` runs stands in files that its arguments do not name"));
        return Ok(());
    }
    if has(manager.run) {
        return run(subject, place);
    }
    if !manager.run.is_empty() && word.contains(['/', '.']) && bind(&place.directory.join(&word)).is_some() {
        // `bun FILE`, `deno FILE`
        bind_operand(subject, 1, place);
        return Ok(());
    }
    let dashes = usize::from(subject.argv.get(2).is_some_and(|word| word == "--"));
    Err(starts(subject, has(manager.starts).then_some(2 + dashes), place))
}

/// Source: spec exec (d.5) "shell-mode options".
fn picks_shell(word: &str) -> bool {
    let option = word.split('=').next().unwrap_or(word);
    option.len() > 3 && option.starts_with("--") && SHELL_OPTIONS.iter().any(|known| known.starts_with(option))
}

/// `run FILE` binds the file; `run NAME` runs what the package says under that name.
fn run(subject: &mut Subject, place: &Place) -> Result<(), String> {
    let is_harmless = |word: &&String| {
        RUN_FLAGS.contains(&word.as_str()) || word.starts_with("--allow-") || word.starts_with("--deny-")
    };
    let index = 2 + subject.argv.iter().skip(2).take_while(is_harmless).count();
    match subject.argv.get(index) {
        Some(option) if option.starts_with('-') => {
            let reason = format!("the option {option} is not read here");
            subject.unbound = Some(reason.clone());
            Err(reason)
        }
        _ => {
            bind_operand(subject, index, place);
            Ok(())
        }
    }
}

/// A program of a package: never by an entry; an answer is bound to it if the argument at `index`
/// names one file.
fn starts(subject: &mut Subject, index: Option<usize>, place: &Place) -> String {
    let name = subject.argv.first().cloned().unwrap_or_default();
    let named = index.and_then(|index| Some((index, subject.argv.get(index)?)));
    let found = named
        .filter(|(_, program)| !program.is_empty() && !program.starts_with('-'))
        .and_then(|(index, program)| Some(Operand { index, file: bind(&installed(program, place.directory)?)? }));
    if found.is_none() {
        subject.unbound = Some(format!("`{name}` starts a program that its arguments do not name as a file"));
    }
    subject.operand = found;
    format!("`{name}` starts programs of packages")
}

/// The file of a program that a package installed here or further up.
fn installed(program: &str, directory: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        let path = directory.join(program);
        return path.is_file().then_some(path);
    }
    let levels = directory.ancestors().take(crate::limits::PACKAGE_LEVELS);
    levels.map(|level| level.join("node_modules/.bin").join(program)).find(|path| path.is_file())
}
