//! Man pages and shell completions, from the same definitions as the flags and their help.

use super::{Openclaw, USAGE, complain, failed, say};
use crate::protocol::text;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs, Optionality};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print completions for a shell: bash, zsh or fish.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "openclaw completions bash > ~/.local/share/bash-completion/completions/openclaw"
)]
pub(super) struct Completions {
    /// bash, zsh or fish
    #[argh(positional)]
    shell: String,
}

/// Write the man pages into a directory.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "man", example = "openclaw man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// where to; it must be there
    #[argh(positional)]
    directory: PathBuf,
}

/// The definitions of everything.
pub(super) fn definitions() -> CommandInfoWithArgs {
    // argh knows no name of the first one.
    CommandInfoWithArgs { name: "openclaw", ..Openclaw::get_args_info() }
}

pub(super) fn completions(flags: &Completions) -> ExitCode {
    let root = definitions();
    let mut places = Vec::new();
    collect(&root, "openclaw", &mut places);
    match flags.shell.as_str() {
        "bash" => say(&bash(&places)),
        "zsh" => say(&zsh(&places)),
        "fish" => say(&fish(&places)),
        other => {
            complain(&format!("completions: there are none for `{other}`; say bash, zsh or fish"));
            ExitCode::from(USAGE)
        }
    }
}

pub(super) fn man(flags: &Man) -> ExitCode {
    let root = definitions();
    let pages = root.commands.iter().map(|below| (format!("openclaw {}", below.name), &below.command));
    for (place, command) in std::iter::once(("openclaw".to_owned(), &root)).chain(pages) {
        let file = flags.directory.join(format!("{}.1", place.replace(' ', "-")));
        if let Err(error) = write(&file, &page(&place, command)) {
            return failed("man", &format!("{}: {error}", text::visible(&file.to_string_lossy())));
        }
    }
    ExitCode::SUCCESS
}

/// For everybody to read, whatever our own files are.
fn write(file: &Path, page: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, page)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))
}

// ---- completions ----

/// Each command with the words that lead to it.
type Places<'a> = Vec<(String, &'a CommandInfoWithArgs)>;

fn collect<'a>(command: &'a CommandInfoWithArgs, place: &str, into: &mut Places<'a>) {
    into.push((place.to_owned(), command));
    for below in &command.commands {
        collect(&below.command, &format!("{place} {}", below.name), into);
    }
}

fn flags(command: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    command.flags.iter().filter(|flag| !flag.hidden)
}

/// The first sentence of a description, without what a shell's quotes would end at.
fn short(description: &str) -> String {
    let first = description.split_inclusive(". ").next().unwrap_or_default();
    first.trim_end().trim_end_matches('.').replace('\'', "’")
}

/// All places behind the first, as patterns of a `case`.
fn patterns(places: &Places<'_>) -> String {
    places.iter().skip(1).map(|(place, _)| format!("'{place}'")).collect::<Vec<_>>().join("|")
}

fn bash(places: &Places<'_>) -> String {
    let mut out = format!(
        "# bash completion for openclaw\n_openclaw() {{\n    local place=openclaw words= i\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        \
         case \"$place ${{COMP_WORDS[i]}}\" in\n            {}) place=\"$place ${{COMP_WORDS[i]}}\" ;;\n        esac\n    done\n    \
         case $place in\n",
        patterns(places)
    );
    for (place, command) in places {
        let words = command.commands.iter().map(|below| below.name).chain(flags(command).map(|flag| flag.long));
        let _ = writeln!(out, "        '{place}') words='{}' ;;", words.collect::<Vec<_>>().join(" "));
    }
    out.push_str(
        "    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n}\n\
         complete -o default -F _openclaw openclaw\n",
    );
    out
}

fn zsh(places: &Places<'_>) -> String {
    let mut out = format!(
        "#compdef openclaw\nlocal place=openclaw i\nlocal -a commands options\nfor ((i = 2; i < CURRENT; i++)); do\n    \
         case \"$place $words[i]\" in\n        {}) place=\"$place $words[i]\" ;;\n    esac\ndone\ncase $place in\n",
        patterns(places)
    );
    for (place, command) in places {
        let commands = command.commands.iter().map(|below| (below.name, below.command.description));
        let quoted = |(name, description): (&str, &str)| format!("'{name}:{}'", short(description));
        let commands: Vec<_> = commands.map(quoted).collect();
        let options: Vec<_> = flags(command).map(|flag| quoted((flag.long, flag.description))).collect();
        let _ = writeln!(out, "    '{place}') commands=({}) options=({}) ;;", commands.join(" "), options.join(" "));
    }
    out.push_str("esac\n_describe command commands\n_describe option options\n_files\n");
    out
}

fn fish(places: &Places<'_>) -> String {
    let quoted = |text: &str| format!("'{}'", short(text).replace('\\', "\\\\"));
    let mut out = format!(
        "# fish completion for openclaw\nfunction __openclaw_at\n    set -l place openclaw\n    \
         for word in (commandline -opc)[2..-1]\n        contains -- \"$place $word\" {}; and set place \"$place $word\"\n    \
         end\n    test \"$place\" = \"$argv[1]\"\nend\n",
        patterns(places).replace('|', " ")
    );
    for (place, command) in places {
        let at = format!("complete -c openclaw -n '__openclaw_at \"{place}\"'");
        for below in &command.commands {
            let _ = writeln!(out, "{at} -f -a {} -d {}", below.name, quoted(below.command.description));
        }
        for flag in flags(command) {
            let value = if matches!(flag.kind, FlagInfoKind::Option { .. }) { " -r" } else { "" };
            let letter = flag.short.map_or_else(String::new, |letter| format!(" -s {letter}"));
            let long = flag.long.trim_start_matches('-');
            let _ = writeln!(out, "{at} -l {long}{letter}{value} -d {}", quoted(flag.description));
        }
    }
    out
}

// ---- man pages ----

/// Text as `man` reads it: no letter of it is a command.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace("{{", "{").replace("}}", "}");
    let line = |line: &str| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn page(place: &str, command: &CommandInfoWithArgs) -> String {
    let name = place.replace(' ', "-");
    let mut out = format!(
        ".TH {} 1 \"\" \"openclaw {}\" \"OpenClaw\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n{}\n.SH DESCRIPTION\n{}\n",
        roff(&name.to_uppercase()),
        crate::gateway::VERSION,
        roff(&name),
        roff(&short(command.description)),
        synopsis(place, command),
        roff(command.description),
    );
    out.push_str(&options(command, ".SH OPTIONS\n"));
    if place == "openclaw" {
        out.push_str(".SH COMMANDS\n");
        for below in &command.commands {
            let (name, about) = (roff(below.name), roff(&short(below.command.description)));
            let _ = write!(out, ".TP\n.BR openclaw\\-{name} (1)\n{about}\n");
        }
    } else if !command.commands.is_empty() {
        out.push_str(".SH COMMANDS\n");
        out.push_str(&sections(place, command));
    }
    out.push_str(&closing(command, [".SH EXIT STATUS\n", ".SH EXAMPLES\n", ".SH NOTES\n"]));
    if place != "openclaw" {
        out.push_str(".SH SEE ALSO\n.BR openclaw (1)\n");
    }
    out
}

/// The commands below, one after the other, with those below them.
fn sections(place: &str, command: &CommandInfoWithArgs) -> String {
    let mut out = String::new();
    for below in &command.commands {
        let (place, command) = (format!("{place} {}", below.name), &below.command);
        let _ =
            write!(out, ".SS {}\n{}\n.PP\n{}\n", roff(&place), synopsis(&place, command), roff(command.description));
        out.push_str(&options(command, ""));
        out.push_str(&closing(command, [".PP\nExit status:\n", ".PP\nExample:\n", ".PP\n"]));
        out.push_str(&sections(&place, command));
    }
    out
}

fn synopsis(place: &str, command: &CommandInfoWithArgs) -> String {
    let mut out = format!(".B {}\n", roff(place));
    let mut word = |text: String, optionality: &Optionality| {
        let _ = match optionality {
            Optionality::Required => writeln!(out, "{}", roff(&text)),
            Optionality::Optional => writeln!(out, "[{}]", roff(&text)),
            Optionality::Repeating | Optionality::Greedy => writeln!(out, "[{}...]", roff(&text)),
        };
    };
    for flag in flags(command) {
        word(spelled(flag), &flag.optionality);
    }
    for positional in command.positionals.iter().filter(|positional| !positional.hidden) {
        word(positional.name.to_uppercase(), &positional.optionality);
    }
    if !command.commands.is_empty() {
        out.push_str("COMMAND ...\n");
    }
    out.trim_end().to_owned()
}

/// `--name VALUE`
fn spelled(flag: &FlagInfo<'_>) -> String {
    match flag.kind {
        FlagInfoKind::Switch => flag.long.to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} {}", flag.long, arg_name.to_uppercase()),
    }
}

fn options(command: &CommandInfoWithArgs, heading: &str) -> String {
    let positionals = command.positionals.iter().filter(|positional| !positional.hidden);
    let positionals = positionals.map(|positional| (positional.name.to_uppercase(), positional.description));
    let rows: Vec<_> = positionals.chain(flags(command).map(|flag| (spelled(flag), flag.description))).collect();
    let rows = rows.iter().map(|(name, about)| format!(".TP\n.B {}\n{}\n", roff(name), roff(about)));
    heading.to_owned() + &rows.collect::<String>()
}

fn closing(command: &CommandInfoWithArgs, [codes, examples, notes]: [&str; 3]) -> String {
    let mut out = String::new();
    if !command.error_codes.is_empty() {
        out.push_str(codes);
    }
    for code in command.error_codes {
        let _ = write!(out, ".TP\n.B {}\n{}\n", code.code, roff(code.description));
    }
    if !command.examples.is_empty() {
        let lines = command.examples.iter().flat_map(|example| example.lines()).map(|line| roff(line.trim()));
        let _ = write!(out, "{examples}.nf\n{}\n.fi\n", lines.collect::<Vec<_>>().join("\n"));
    }
    for note in command.notes {
        let _ = writeln!(out, "{notes}{}", roff(note));
    }
    out
}
