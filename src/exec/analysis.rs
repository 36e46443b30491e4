//! From a request to a plan: what argv[0] really names, where it would run, with which
//! environment, and whether it is a command of its own. Source: spec exec (d.1), (d.2), (d.5).
//!
//! This first version looks into no wrapper: everything that could start something else is
//! [`Form::Indirect`] or [`Form::Shell`] and can only be allowed by a person who sees all of it.

use super::plan::{
    After, CwdProblem, Directory, Executable, Form, Nature, NotUnderstood, Plan, Program, Sink, Stage, Step, Subject,
    Work, directory_identity,
};
use super::{display, env, identity};
use crate::protocol::node::RunRequest;
use crate::protocol::policy::Refusal;
use crate::sys;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a command finds around it, as far as it is not the request's business.
#[derive(Clone, Debug)]
pub struct Host {
    /// Of the user record, never of the environment.
    pub home: PathBuf,
    /// Of the user record.
    pub user: String,
    /// Of the user record.
    pub shell: String,
    /// Absolute directories in which bare names are looked up, and the child's `PATH`.
    pub search_path: Vec<PathBuf>,
    /// Directories whose programs are what their names say: shells, wrappers and safe bins must lie there.
    /// Never `PATH`.
    pub system_directories: Vec<PathBuf>,
    /// Our own environment; [`env::child_env`] takes very little of it.
    pub inherited: BTreeMap<String, String>,
    /// The soft limit of open files that children get; none leaves ours.
    pub open_files: Option<u64>,
}

impl Host {
    /// This process's user, its fixed search path and its environment. `open_files` is the soft
    /// limit as it was before we raised ours.
    pub fn of_this_process(open_files: Option<u64>) -> Self {
        let account = sys::account::current().unwrap_or_else(|| sys::account::Account {
            name: String::new(),
            home: PathBuf::from("/"),
            shell: String::from("/bin/sh"),
        });
        let inherited = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let search_path = search_path(&account.home);
        Self {
            home: account.home,
            user: account.name,
            shell: account.shell,
            search_path,
            system_directories: SYSTEM_DIRECTORIES.iter().map(PathBuf::from).collect(),
            inherited,
            open_files,
        }
    }

    /// The search path as `PATH` spells it.
    pub fn search_path_text(&self) -> String {
        self.search_path.iter().map(|directory| directory.to_string_lossy()).collect::<Vec<_>>().join(":")
    }

    /// Looks `name` up as the kernel and a shell would: with a `/` it is a path (relative to
    /// `cwd`, a leading `~/` is home), else the first executable regular file of the search path.
    /// The name is taken byte for byte (A68).
    pub fn resolve(&self, name: &str, cwd: &Path) -> Option<Executable> {
        if let Some(rest) = name.strip_prefix("~/") {
            return self.executable(&self.home.join(rest.trim_start_matches('/')));
        }
        if name.contains('/') {
            // `join` keeps `..` as it is: the kernel resolves it behind links, not as text.
            return self.executable(&cwd.join(name));
        }
        if name.is_empty() {
            return None;
        }
        self.search_path.iter().find_map(|directory| self.executable(&directory.join(name)))
    }

    fn executable(&self, path: &Path) -> Option<Executable> {
        let is_program = |path: &PathBuf| path.is_file() && sys::spawn::is_executable(path);
        let search = |name: &str| self.search_path.iter().map(|directory| directory.join(name)).find(is_program);
        identity::executable(path, &search)
    }
}

/// The original's own folders below home. Source: spec mac-app §1.11.
const MANAGED: &[&str] = &[".openclaw/bin", ".openclaw/tools/node/bin"];

/// Other managers' folders below home, on macOS. Source: spec mac-app §1.11.
const NODE_MANAGERS: &[&str] = &[".volta/bin", ".asdf/shims"];

/// Below home: one folder a version, and where its programs lie in it. Source: spec mac-app §1.11.
const NODE_VERSIONS: &[(&str, &str)] = &[
    (".local/share/fnm/node-versions", "installation/bin"),
    ("Library/Application Support/fnm/node-versions", "installation/bin"),
    (".nvm/versions/node", "bin"),
];

/// The system's directories on macOS. Source: spec mac-app §1.11.
#[rustfmt::skip]
const MAC_DIRECTORIES: &[&str] = &[
    "/opt/homebrew/bin", "/opt/homebrew/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/bin", "/usr/sbin",
    "/sbin",
];

/// The system's directories elsewhere. ours
const UNIX_DIRECTORIES: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where shells, wrappers and safe bins come from. Source: spec exec (d.6).
const SYSTEM_DIRECTORIES: &[&str] = &["/usr/bin", "/bin"];

/// Where bare names are looked up: a fixed list, never a PATH that somebody handed to us (A99).
/// Folders below home count only if they are there.
fn search_path(home: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = MANAGED.iter().map(|folder| home.join(folder)).collect();
    let system = if cfg!(target_os = "macos") {
        list.extend(NODE_MANAGERS.iter().map(|folder| home.join(folder)));
        list.extend(NODE_VERSIONS.iter().flat_map(|(folder, inside)| node_versions(&home.join(folder), inside)));
        list.push(home.join("Library/pnpm"));
        MAC_DIRECTORIES
    } else {
        UNIX_DIRECTORIES
    };
    list.retain(|folder| folder.is_absolute() && folder.is_dir() && !folder.to_string_lossy().contains(':'));
    list.extend(system.iter().map(PathBuf::from));
    list
}

/// Folders of installed versions that really hold a `node`, newest first.
fn node_versions(folder: &Path, inside: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let number = |name: &str| -> Vec<u64> {
        name.trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let mut versions: Vec<(Vec<u64>, PathBuf)> = entries
        .take(crate::limits::NODE_VERSIONS)
        .filter_map(Result::ok)
        .map(|entry| (number(&entry.file_name().to_string_lossy()), entry.path().join(inside)))
        .filter(|(_, programs)| programs.join("node").is_file())
        .collect();
    versions.sort_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, programs)| programs).collect()
}

/// Whether a claim about the text of a command fits its argument vector: the canonical display, or
/// what a shell is handed. A blank one claims nothing (A76).
pub fn raw_command_agrees(argv: &[String], raw: &str) -> bool {
    raw.trim().is_empty() || raw == display::canonical(argv) || Some(raw) == inline_text(argv)
}

/// Turns a request into a plan. Nothing of the request is believed but what it wants.
///
/// # Errors
/// `INVALID_REQUEST` for a claim that does not fit, or an override that is refused.
pub fn analyse(request: &RunRequest, host: &Host) -> Result<Plan, Refusal> {
    let argv = &request.command;
    let first = argv.first().filter(|first| !first.trim().is_empty());
    let Some(first) = first else { return Err(Refusal::invalid("command required")) };
    let command_text = display::canonical(argv);
    let inline = inline_text(argv);
    if !request.raw_command.as_deref().is_none_or(|raw| raw_command_agrees(argv, raw)) {
        return Err(Refusal::invalid("INVALID_REQUEST: rawCommand does not match command"));
    }
    let (cwd, cwd_identity) = working_directory(request.cwd.as_deref(), host);
    let executable = host.resolve(first, &cwd);
    let form = form(argv, executable.as_ref());
    if names(argv, executable.as_ref()).any(|name| name == "env") {
        env::judge_assignments(argv.get(1..).unwrap_or_default())?;
    }
    let overrides = match &request.env {
        Some(overrides) => env::judge_overrides(overrides)?,
        None => BTreeMap::new(),
    };
    Ok(Plan {
        argv: argv.clone(),
        home: host.home.clone(),
        work: work(argv, executable.as_ref(), form, cwd_identity.ok().map(|identity| (cwd.clone(), identity))),
        form,
        env: env::child_env(host, &overrides, form),
        overrides,
        command_preview: inline.map(str::to_owned),
        command_text,
        executable,
        cwd,
        cwd_identity,
        agent_id: request.agent_id.clone(),
        session_key: request.session_key.clone(),
        timeout: request.timeout_ms.filter(|millis| *millis > 0).map(Duration::from_millis),
        needs_screen_recording: request.needs_screen_recording,
    })
}

/// Of a command of its own: one step of one stage.
fn work(
    argv: &[String],
    executable: Option<&Executable>,
    form: Form,
    directory: Option<(PathBuf, (u64, u64))>,
) -> Work {
    if form != Form::Direct {
        return Work::Opaque(NotUnderstood { reason: "it starts other programs".to_owned(), position: 0 });
    }
    let subject = Subject {
        argv: argv.to_vec(),
        executable: executable.cloned(),
        nature: Nature::Plain,
        wrappers: Vec::new(),
        operand: None,
        unbound: None,
    };
    let stage = Stage {
        argv: argv.to_vec(),
        program: executable.cloned().map_or(Program::Missing, Program::File),
        stdout: Sink::Output,
        stderr: Sink::Error,
        subject,
    };
    let directory = directory.map(|(path, identity)| Directory { path, identity });
    Work::Steps(vec![Step { after: After::Always, is_negated: false, directory, stages: vec![stage] }])
}

/// The canonical directory, or what is wrong with the one that was named. Without a name it is
/// this process's.
fn working_directory(named: Option<&str>, host: &Host) -> (PathBuf, Result<(u64, u64), CwdProblem>) {
    let here = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let wanted = match named.map(|named| (named, named.strip_prefix("~/"))) {
        None => here(),
        Some(("~", _)) => host.home.clone(),
        Some((_, Some(below))) => host.home.join(below.trim_start_matches('/')),
        Some((named, None)) => here().join(named),
    };
    let canonical = match wanted.canonicalize() {
        Ok(canonical) => canonical,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return (wanted, Err(CwdProblem::NotADirectory));
        }
        Err(_) => return (wanted, Err(CwdProblem::Missing)),
    };
    match directory_identity(&canonical) {
        Ok(identity) => (canonical, Ok(identity)),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => (wanted, Err(CwdProblem::NotADirectory)),
        Err(_) => (wanted, Err(CwdProblem::Missing)),
    }
}

/// Shells, whatever language they speak. Source: spec exec (d.5), and their usual second names.
#[rustfmt::skip]
const SHELLS: &[&str] = &[
    "sh", "ash", "bash", "dash", "fish", "ksh", "lksh", "mksh", "oksh", "pdksh", "posh", "rbash", "rksh", "rzsh",
    "static-sh", "yash", "zsh", "csh", "tcsh", "osh", "ysh", "elvish", "nu", "xonsh", "ion", "cmd", "powershell",
    "pwsh", "busybox", "toybox",
];

/// Programs that start the program their arguments name. Source: spec exec (d.5), with the kinds
/// that it leaves out: tracers, loaders, job starters.
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

/// Package managers run programs and scripts of packages. Source: spec exec (d.5).
#[rustfmt::skip]
const PACKAGE_CARRIERS: &[&str] = &[
    "npm", "npx", "pnpm", "pnpx", "yarn", "bun", "bunx", "deno", "corepack", "uv", "uvx", "pipx", "poetry", "bundle",
    "rake",
];

/// Programs whose arguments are a program text. Source: spec exec (d.5) "Inline interpreter code".
const TEXT_INTERPRETERS: &[&str] =
    &["awk", "gawk", "mawk", "nawk", "sed", "gsed", "make", "gmake", "osascript", "expect", "ed", "ghc", "erl"];

/// Interpreters that read a program file, or text after an option. Source: spec exec (d.5).
#[rustfmt::skip]
const FILE_INTERPRETERS: &[&str] = &[
    "python", "pypy", "node", "nodejs", "tsx", "ts-node", "perl", "ruby", "irb", "php", "lua", "luajit", "tclsh",
    "wish", "r", "rscript", "julia", "elixir", "iex", "guile", "groovy", "scala", "clojure", "clj", "raku", "java",
    "jshell", "racket", "sbcl", "ocaml", "swift",
];

/// `find` is a command of its own as long as it starts nothing.
const FIND_ACTIONS: &[&str] = &["-exec", "-execdir", "-ok", "-okdir"];

/// The form, judged by what the caller called the program and by what it really is: either of the
/// two names is enough to make it indirect (a link `tool` to `bash`, a link `sh` to a tool).
fn form(argv: &[String], executable: Option<&Executable>) -> Form {
    let of = |name: String| {
        let arguments = argv.get(1..).unwrap_or_default();
        let name = name.as_str();
        if SHELLS.contains(&name) {
            Form::Shell
        } else if CARRIERS.contains(&name)
            || PACKAGE_CARRIERS.contains(&name)
            || TEXT_INTERPRETERS.contains(&name)
            || is_loader(name)
            || (name == "find" && arguments.iter().any(|argument| FIND_ACTIONS.contains(&argument.as_str())))
            || (FILE_INTERPRETERS.contains(&name) && arguments.first().is_none_or(|first| first.starts_with('-')))
        {
            Form::Indirect
        } else {
            Form::Direct
        }
    };
    let forms: Vec<Form> = names(argv, executable).map(of).collect();
    [Form::Shell, Form::Indirect].into_iter().find(|form| forms.contains(form)).unwrap_or(Form::Direct)
}

/// The dynamic loader runs the program that it is given.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld-musl") || matches!(name, "ld" | "ld.so" | "dyld")
}

/// Whether the program is an interpreter, so that allowing it for ever would allow whatever its
/// program file holds later. Source: spec exec (c.5).
pub fn is_interpreter(plan: &Plan) -> bool {
    names(&plan.argv, plan.executable.as_ref())
        .any(|name| FILE_INTERPRETERS.contains(&name.as_str()) || TEXT_INTERPRETERS.contains(&name.as_str()))
}

/// The names a program goes by, as the lists above spell them.
fn names<'a>(argv: &'a [String], executable: Option<&'a Executable>) -> impl Iterator<Item = String> + 'a {
    let called = argv.first().map(|first| first.rsplit('/').next().unwrap_or(first).to_owned());
    let real = executable
        .and_then(|executable| executable.file.path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    [called, real].into_iter().flatten().flat_map(|name| {
        // Also a name with a version (`python3.11`, `bash-5.2`), an ending, or GNU's `g` on macOS.
        let lower = name.trim().to_lowercase();
        let lower = lower.strip_suffix(".exe").unwrap_or(&lower).to_owned();
        let plain = lower.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_')).to_owned();
        let without_g = plain.strip_prefix('g').unwrap_or(&plain).to_owned();
        [lower, plain, without_g]
    })
}

/// The text that a shell is told to run, when nothing else decides what it means: `sh -c TEXT`
/// with options in front and nothing behind. A login or interactive shell reads its start-up files
/// first and is none of these, except `sh -lc`, as old gateways send it. Source: spec exec (d.1),
/// (d.5) "Option scanning"; vectors `argv-allowlist`.
fn inline_text(argv: &[String]) -> Option<&str> {
    if !names(argv, None).any(|name| SHELLS.contains(&name.as_str())) {
        return None;
    }
    let is_plain_sh = argv.first().is_some_and(|first| first.rsplit('/').next() == Some("sh"));
    let mut arguments = argv.iter().skip(1);
    while let Some(argument) = arguments.next() {
        let argument = argument.as_str();
        match argument {
            "--login" | "--interactive" => return None,
            "--command" => return only(arguments),
            "-o" | "-O" | "+o" | "+O" | "--rcfile" | "--init-file" => {
                arguments.next()?;
            }
            _ if argument.starts_with("--") && argument.len() > 2 => {}
            _ => {
                let cluster = argument.strip_prefix('-').filter(|cluster| !cluster.is_empty())?;
                if cluster.contains('i') || (cluster.contains('l') && !is_plain_sh) {
                    return None;
                }
                match cluster.split_once('c') {
                    Some((_, "")) => return only(arguments),
                    Some(_) => return None,
                    None => {}
                }
            }
        }
    }
    None
}

fn only<'a>(mut rest: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let text = rest.next()?;
    rest.next().is_none().then_some(text)
}
