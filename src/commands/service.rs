//! `openclaw node install`, `openclaw app status` …: the words that are about a service.

use super::{failed, locate, say};
use crate::desktop::bundle;
use crate::exec::analysis::Host;
use crate::protocol::text;
use crate::service::{self, Role, Service, ServiceError, Services, Status, Verb};
use crate::state::{Environment, StateDir};
use crate::sys::spawn::is_executable;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What stands behind `gateway`, `node` or `app`.
pub(super) enum Word {
    /// Do it here and now; may be left out.
    Run,
    /// Something about the service.
    Service(Verb),
}

/// Understands the word.
pub(super) fn word(verb: Option<&str>) -> Result<Word, String> {
    let Some(verb) = verb.filter(|verb| *verb != "run") else { return Ok(Word::Run) };
    verb.parse().map(Word::Service).map_err(|()| {
        format!("`{verb}` is not known here; say run (or nothing), install, uninstall, start, stop, restart or status")
    })
}

/// The arguments that a service is to be started with.
pub(super) struct Kept(Vec<OsString>);

impl Kept {
    /// Remembers a flag that was given.
    pub fn option(&mut self, name: &str, value: Option<impl Into<OsString>>) {
        if let Some(value) = value {
            self.0.extend([name.into(), value.into()]);
        }
    }

    /// Remembers a switch that was given.
    pub fn switch(&mut self, name: &str, is_on: bool) {
        self.0.extend(is_on.then(|| name.into()));
    }
}

/// What the command line said of a service.
pub(super) struct Order {
    pub verb: Verb,
    pub role: Role,
    pub json: bool,
    pub state_dir: Option<PathBuf>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Does what the word says and tells how the service stands then. `keep` is asked only by `install`; it
/// also says what would stop the service from starting.
pub(super) fn carry_out(
    order: Order,
    environment: Environment,
    keep: impl FnOnce(&StateDir, &Environment, &mut Kept) -> Outcome<()>,
) -> ExitCode {
    let role = order.role;
    match done(order, environment, keep) {
        Ok(text) => say(&text),
        Err(error) => failed(role.word(), &*error),
    }
}

fn done(
    order: Order,
    mut environment: Environment,
    keep: impl FnOnce(&StateDir, &Environment, &mut Kept) -> Outcome<()>,
) -> Outcome<String> {
    let Order { verb, role, json, state_dir } = order;
    let state = locate(state_dir, &mut environment)?;
    let home = environment.home.as_deref().filter(|home| home.is_absolute());
    let services = Services::of(home.ok_or("HOME is not set to an absolute path")?, state.clone());
    match verb {
        Verb::Install => {
            let service = describe(role, &state, &environment, keep)?;
            services.install(service, environment.gateway_token.as_ref())?;
        }
        Verb::Start => services.start(role)?,
        Verb::Stop => services.stop(role)?,
        Verb::Restart => services.restart(role)?,
        Verb::Status => {}
        Verb::Uninstall => {
            if !services.uninstall(role)? && !json {
                return Ok(format!("{} was not installed as a service; nothing to do\n", role.word()));
            }
        }
    }
    let status = services.status(role);
    if json { Ok(format!("{}\n", serde_json::to_string_pretty(&status)?)) } else { Ok(sentence(&status)) }
}

/// What the service is to be; `keep` as for [`carry_out`].
pub(super) fn describe(
    role: Role,
    state: &StateDir,
    environment: &Environment,
    keep: impl FnOnce(&StateDir, &Environment, &mut Kept) -> Outcome<()>,
) -> Outcome<Service> {
    let mut kept = Kept(vec![role.word().into(), "run".into()]);
    kept.option("--state-dir", environment.state_dir.is_some().then(|| state.root()));
    keep(state, environment, &mut kept)?;
    if environment.gateway_password.is_some() {
        return Err("OPENCLAW_GATEWAY_PASSWORD is not kept for a service; unset it and write gateway.auth.password into openclaw.json (for --ssh: set OPENCLAW_GATEWAY_TOKEN)".into());
    }
    if role == Role::Gateway && environment.gateway_token.is_some() {
        return Err("OPENCLAW_GATEWAY_TOKEN is not kept for the gateway's service; unset it: the token of openclaw.json, or the one that is made at the first start, holds".into());
    }
    // Never a link to it: what the system knows of a program goes by where its file lies (spec mac-app §1.1).
    let program = std::env::current_exe()?.canonicalize()?;
    if bundle::is_translocated(&program) {
        return Err(bundle::TRANSLOCATED.into());
    }
    if !is_executable(&program) {
        return Err(format!("{} is gone; start the program that is there now", program.display()).into());
    }
    let config = environment.config_path.is_some().then(|| ("OPENCLAW_CONFIG_PATH", state.config().into()));
    let environment = config.into_iter().collect();
    let search_path = Host::of_this_process(None).search_path_text();
    Ok(Service { role, program, arguments: kept.0, environment, search_path, state: state.clone() })
}

/// The status for a person.
fn sentence(status: &Status) -> String {
    let mut out = match (status.installed, status.running, status.pid) {
        (false, false, _) => format!("{} is not installed as a service", status.service),
        (_, true, Some(pid)) => format!("{} runs as {} (process {pid})", status.service, status.name),
        (_, true, None) => format!("{} runs as {}", status.service, status.name),
        (true, false, _) => format!("{} is installed as {} and does not run", status.service, status.name),
    };
    if let (false, Some(code)) = (status.running, status.last_exit_code) {
        out.push_str(&format!("; it ended with exit code {code}"));
    }
    out.push('\n');
    if status.installed {
        out.push_str(&format!("file  {}\nlog   {}\n", status.file.display(), status.log));
    }
    if let Some(problem) = &status.problem {
        out.push_str(&format!("      {problem}\n"));
    }
    out.lines().map(|line| format!("{}\n", text::visible(line))).collect()
}

/// Puts the token that `install` stored where one of the environment would be.
pub(super) fn take_stored_token(
    role: Role,
    state: &StateDir,
    environment: &mut Environment,
) -> Result<(), ServiceError> {
    environment.gateway_token = Some(service::stored_token(state, role)?);
    Ok(())
}
