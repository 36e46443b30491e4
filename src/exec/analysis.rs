//! From a request to a plan: what its words really name, where it would run, with which environment,
//! and in which steps. Source: spec exec (d.1), (d.2), (d.5); issue part 2, points 1 and 2.

use super::plan::{
    After, Builtin, CwdProblem, Directory, Executable, Form, Nature, NotUnderstood, Plan, Program, Sink, Stage, Step,
    Work, directory_identity,
};
use super::shell::{self, SimpleCommand, Surroundings};
use super::subject::{self, Place};
use super::{display, env, identity};
use crate::limits;
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
    /// `directory`, a leading `~/` is home), else the first executable regular file of the search path.
    /// The name is taken byte for byte (A68). Links are resolved by the kernel, not as text.
    pub fn resolve(&self, name: &str, directory: &Path) -> Option<Executable> {
        identity::executable(&self.find(name, directory)?, &|name| self.find(name, directory))
    }

    /// The path by which a program is found, links not resolved.
    pub fn find(&self, name: &str, directory: &Path) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| path.is_file() && sys::spawn::is_executable(path);
        if let Some(rest) = name.strip_prefix("~/") {
            return Some(self.home.join(rest.trim_start_matches('/'))).filter(is_program);
        }
        if name.contains('/') {
            return Some(directory.join(name)).filter(is_program);
        }
        let named = Some(name).filter(|name| !name.is_empty())?;
        self.search_path.iter().map(|folder| folder.join(named)).find(is_program)
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

/// Where language tools put the programs that they install, below home; looked into last, so that nothing there
/// hides a program of the system's. ours: an agent's daily `cargo test` must be found
const TOOL_DIRECTORIES: &[&str] = &[".local/bin", ".cargo/bin", "go/bin", ".bun/bin", ".deno/bin"];

/// Where shells, wrappers and safe bins come from. Source: spec exec (d.6).
const SYSTEM_DIRECTORIES: &[&str] = &["/usr/bin", "/bin"];

/// Where bare names are looked up: a fixed list, never a PATH that somebody handed to us (A99).
/// Folders count only if they are there.
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
    list.extend(system.iter().map(PathBuf::from));
    list.extend(TOOL_DIRECTORIES.iter().map(|folder| home.join(folder)));
    list.retain(|folder| folder.is_absolute() && folder.is_dir() && !folder.to_string_lossy().contains(':'));
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
    raw.trim().is_empty() || raw == display::canonical(argv) || Some(raw) == subject::claimed_text(argv)
}

/// Turns a request into a plan. Nothing of the request is believed but what it wants.
///
/// # Errors
/// `INVALID_REQUEST` for a claim that does not fit, or an override that is refused.
pub fn analyse(request: &RunRequest, host: &Host) -> Result<Plan, Refusal> {
    let argv = &request.command;
    let first = argv.first().filter(|first| !first.trim().is_empty());
    let Some(first) = first else { return Err(Refusal::invalid("command required")) };
    if !request.raw_command.as_deref().is_none_or(|raw| raw_command_agrees(argv, raw)) {
        return Err(Refusal::invalid("INVALID_REQUEST: rawCommand does not match command"));
    }
    let (cwd, cwd_identity) = working_directory(request.cwd.as_deref(), host);
    let executable = host.resolve(first, &cwd);
    // What the program saw as its own name before a prepared plan put its path there. Believed only of a name that
    // leads to the same program, and then this is what is judged and shown, as it is what the program sees (A69).
    let is_its_name = |name: &&String| *name != first && host.resolve(name, &cwd) == executable;
    if let Some(name) = request.argv0.as_ref().filter(is_its_name) {
        let command = std::iter::once(name).chain(argv.iter().skip(1)).cloned().collect();
        return analyse(&RunRequest { command, raw_command: None, argv0: None, ..request.clone() }, host);
    }
    if subject::names(first, executable.as_ref()).any(|name| name == "env") {
        env::judge_assignments(argv.get(1..).unwrap_or_default())?;
    }
    let overrides = match &request.env {
        Some(overrides) => env::judge_overrides(overrides)?,
        None => BTreeMap::new(),
    };
    let form = if subject::is_shell(first, executable.as_ref()) { Form::Shell } else { Form::Direct };
    Ok(Plan {
        argv: argv.clone(),
        home: host.home.clone(),
        form,
        env: env::child_env(host, &overrides, form),
        overrides,
        command_preview: subject::claimed_text(argv).map(str::to_owned),
        command_text: display::canonical(argv),
        work: work(request, executable.as_ref(), host, &cwd, cwd_identity.ok()),
        executable,
        cwd,
        cwd_identity,
        agent_id: request.agent_id.clone(),
        session_key: request.session_key.clone(),
        timeout: request.timeout_ms.filter(|millis| *millis > 0).map(Duration::from_millis),
        needs_screen_recording: request.needs_screen_recording,
    })
}

fn work(
    request: &RunRequest,
    executable: Option<&Executable>,
    host: &Host,
    cwd: &Path,
    cwd_identity: Option<(u64, u64)>,
) -> Work {
    let place = Place { host, directory: cwd, in_shell_text: false, after_cd: false };
    let directory = cwd_identity.map(|identity| Directory { path: cwd.to_owned(), identity });
    let argv = &request.command;
    // A login shell reads its start-up files first, unless the caller says that it means the text alone.
    let claimed = || {
        subject::login_shell_text(argv, executable, &place).filter(|text| request.raw_command.as_deref() == Some(text))
    };
    let text = subject::shell_text(argv, executable, &place).or_else(claimed);
    if let (Some(text), Some(directory)) = (text, &directory) {
        return read_text(text, host, directory.clone()).map_or_else(Work::Opaque, Work::Steps);
    }
    let stage = Stage {
        subject: subject::judge(argv, executable.cloned(), &place),
        argv: argv.clone(),
        program: executable.cloned().map_or(Program::Missing, Program::File),
        stdout: Sink::Output,
        stderr: Sink::Error,
    };
    Work::Steps(vec![Step { after: After::Always, is_negated: false, directory, stages: vec![stage] }])
}

/// Reads a shell's text, to be started in `directory`, as steps that we can do without the shell.
///
/// # Errors
/// Why that cannot be, and where in the text.
pub fn read_text(text: &str, host: &Host, directory: Directory) -> Result<Vec<Step>, NotUnderstood> {
    Reader::new(host, directory).read(text)
}

struct Reader<'a> {
    host: &'a Host,
    home: String,
    /// Where the next step starts.
    directory: Directory,
    has_changed_directory: bool,
    /// The last `cd` may not happen: only what `&&` makes depend on it may follow.
    is_conditional: bool,
    /// Every step so far was a `cd` that cannot fail.
    is_certain: bool,
    /// A program has run by now, so files may have changed.
    has_run: bool,
    /// What is left for globs.
    names: usize,
    time: Duration,
}

impl<'a> Reader<'a> {
    fn new(host: &'a Host, directory: Directory) -> Self {
        Self {
            host,
            home: host.home.to_string_lossy().into_owned(),
            directory,
            has_changed_directory: false,
            is_conditional: false,
            is_certain: true,
            has_run: false,
            names: limits::GLOB_NAMES,
            time: limits::GLOB_TIME,
        }
    }

    fn read(mut self, text: &str) -> Result<Vec<Step>, NotUnderstood> {
        let script = shell::parse(text)?;
        if script.steps.iter().map(|pipeline| pipeline.commands.len()).sum::<usize>() > limits::SHELL_COMMANDS {
            return not_understood("too many commands in one text", 0);
        }
        script.steps.iter().map(|pipeline| self.step(pipeline)).collect()
    }

    fn step(&mut self, pipeline: &shell::Pipeline) -> Result<Step, NotUnderstood> {
        let position = pipeline.commands.first().map_or(0, |command| command.position);
        if self.is_conditional && pipeline.after != After::Success {
            return not_understood("the directory depends on whether an earlier command succeeds", position);
        }
        let here = self.directory.clone();
        let mut stages = Vec::with_capacity(pipeline.commands.len());
        let mut changed = None;
        for command in &pipeline.commands {
            let argv = self.expand(command)?;
            if argv.first().is_some_and(|name| name == "cd") {
                if pipeline.commands.len() > 1 || pipeline.is_negated || pipeline.after == After::Failure {
                    return not_understood("`cd` anywhere but by itself or before `&&`", command.position);
                }
                changed = Some(self.change_to(&argv, command.position)?);
            }
            let mut stage = self.stage(argv, command)?;
            if !stages.is_empty() {
                subject::reads_a_pipe(&mut stage.subject);
            }
            stages.push(stage);
        }
        match changed {
            Some(directory) => {
                self.is_conditional |= pipeline.after == After::Success && !self.is_certain;
                self.is_certain |= pipeline.after == After::Always;
                self.directory = directory;
                self.has_changed_directory = true;
            }
            None => {
                self.is_certain = false;
                self.has_run |= stages.iter().any(|stage| matches!(stage.program, Program::File(_)));
            }
        }
        Ok(Step { after: pipeline.after, is_negated: pipeline.is_negated, directory: Some(here), stages })
    }

    fn expand(&mut self, command: &SimpleCommand) -> Result<Vec<String>, NotUnderstood> {
        let mut around =
            Surroundings { home: &self.home, directory: &self.directory.path, names: self.names, time: self.time };
        let argv = command.expand(&mut around)?;
        if self.has_run && (around.names, around.time) != (self.names, self.time) {
            return not_understood("file names that an earlier command may have changed", command.position);
        }
        (self.names, self.time) = (around.names, around.time);
        // `command NAME` is NAME.
        let argv = subject::without_command(&argv).to_vec();
        let bytes = argv.iter().map(String::len).sum::<usize>();
        if argv.len() > limits::ARGV_ELEMENTS || bytes > limits::ARGV_BYTES {
            return not_understood("a command that is too long", command.position);
        }
        Ok(argv)
    }

    /// Where `cd` leads: known now and checked again before the run, as every directory is.
    fn change_to(&self, argv: &[String], position: usize) -> Result<Directory, NotUnderstood> {
        let target = match argv.get(1..).unwrap_or_default() {
            [] => self.home.as_str(),
            [target] if !target.starts_with('-') && !target.is_empty() => target.as_str(),
            [dashes, target] if dashes == "--" => target.as_str(),
            _ => return not_understood("an option of `cd`", position),
        };
        // A shell goes back as text, the kernel behind a link: they agree only on leading ones.
        let is_back = |part: &&str| *part == "..";
        if target.split('/').skip_while(is_back).any(|part| part == "..") {
            return not_understood("`..` behind a name in `cd`", position);
        }
        if self.has_run && !Path::new(target).is_absolute() && !self.directory.path.join(target).exists() {
            return not_understood("a directory that an earlier command may make", position);
        }
        let path = self.directory.path.join(target).canonicalize();
        let found = path.and_then(|path| Ok(Directory { identity: directory_identity(&path)?, path }));
        found.or_else(|_| not_understood("`cd` to a directory that is not there", position))
    }

    fn stage(&self, argv: Vec<String>, command: &SimpleCommand) -> Result<Stage, NotUnderstood> {
        let directory = &self.directory.path;
        let place = Place { host: self.host, directory, in_shell_text: true, after_cd: self.has_changed_directory };
        let name = argv.first().map(String::as_str).unwrap_or_default();
        let found = self.host.resolve(name, directory);
        let subject = subject::judge(&argv, found.clone(), &place);
        let position = command.position;
        if subject::is_shell_word(name) && subject.nature != Nature::SafeBuiltin {
            return not_understood(&format!("`{name}` means something to a shell only"), position);
        }
        let program = match builtin(name).filter(|_| subject.nature == Nature::SafeBuiltin) {
            Some(builtin) => Program::Builtin(builtin),
            None => {
                let Some(program) = found else {
                    let why = if name.contains('/') { "is no program" } else { "is not in the search path" };
                    return not_understood(&format!("`{name}` {why}"), position);
                };
                // What an earlier command makes or changes is the shell's business.
                if self.has_run && name.contains('/') && program.file.sha256.is_some() {
                    return not_understood(&format!("`{name}`, which an earlier command may change"), position);
                }
                Program::File(program)
            }
        };
        Ok(Stage { argv, program, stdout: command.stdout, stderr: command.stderr, subject })
    }
}

/// What we do ourselves; `test` and `[` are programs of the system.
fn builtin(name: &str) -> Option<Builtin> {
    match name {
        "true" | ":" | "cd" => Some(Builtin::True),
        "false" => Some(Builtin::False),
        "pwd" => Some(Builtin::Pwd),
        _ => None,
    }
}

fn not_understood<T>(reason: &str, position: usize) -> Result<T, NotUnderstood> {
    Err(NotUnderstood { reason: reason.to_owned(), position })
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
