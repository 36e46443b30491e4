//! What finds gateways and tries them: discover, connect.

use super::{Named, print};
use crate::app::supervisor::operator_client;
use crate::client::{Credentials, Role, attach};
use crate::commands::complain;
use crate::gateway::scope;
use crate::identity::secret::Secret;
use crate::inspect::discover::{Search, Way};
use crate::inspect::{InspectError, connect, discover};
use crate::limits;
use crate::protocol::connect::ClientInfo;
use crate::protocol::text;
use crate::state::config::GatewayMode;
use crate::state::pins::GatewayPins;
use crate::state::{Environment, StateDir};
use argh::{ArgsInfo, FromArgs};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Find the gateways that make themselves known in the local network (Bonjour; ours never does), or in a domain. It asks
/// the neighbours once and shows what they say of themselves; nothing is connected to.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "discover",
    example = "openclaw mac-debug discover --timeout 5000",
    note = "What gateways say of themselves is not checked by anybody. Finding none is no error."
)]
pub(super) struct Discover {
    /// how long to listen, in milliseconds (default: 2000, at least 100)
    #[argh(option, default = "limits::DISCOVERY_WINDOW_MS")]
    timeout: u64,
    /// list this machine's own gateways, too
    #[argh(switch)]
    include_local: bool,
    /// ask this machine's name servers for the gateways of this domain, too (default: OPENCLAW_WIDE_AREA_DOMAIN)
    #[argh(option)]
    domain: Option<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Try a login, step by step, and say what it would take where it fails. Without a device, so nothing is paired; nothing
/// is pinned or stored. The secret is the one that belongs to the gateway; one that is given here goes before it.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "connect",
    example = "openclaw mac-debug connect\nopenclaw mac-debug connect --url ws://127.0.0.1:18789 --token-file token --json",
    error_code(0, "logged in, and the gateway is well"),
    error_code(1, "logged in and it is not well, or something on this machine"),
    error_code(2, "what was asked for cannot be tried"),
    error_code(3, "nobody listens there, or ssh does not get there"),
    error_code(4, "something else than a gateway, or another user's, listens there"),
    error_code(5, "another gateway than the known one: its key differs"),
    error_code(6, "token or password missing or wrong"),
    error_code(7, "the gateway wants a device, or has not approved it"),
    error_code(8, "protocol, role, scopes or client do not fit"),
    error_code(9, "not now: starting, stopping, too slow, locked out for a while")
)]
pub(super) struct Connect {
    /// a gateway on this machine, ws://127.0.0.1:PORT
    #[argh(option)]
    url: Option<String>,
    /// a gateway that discover shows, by its name or stableID
    #[argh(option)]
    discovered: Option<String>,
    /// local or remote: which gateway of openclaw.json (default: its gateway.mode)
    #[argh(option, from_str_fn(mode))]
    mode: Option<GatewayMode>,
    /// file with the token
    #[argh(option)]
    token_file: Option<PathBuf>,
    /// read the token from standard input
    #[argh(switch)]
    token_stdin: bool,
    /// the token; other programs of this machine see it, so better use the two above
    #[argh(option)]
    token: Option<String>,
    /// file with the password
    #[argh(option)]
    password_file: Option<PathBuf>,
    /// read the password from standard input
    #[argh(switch)]
    password_stdin: bool,
    /// the password; other programs of this machine see it, so better use the two above
    #[argh(option)]
    password: Option<String>,
    /// how long each step may take, in milliseconds (default: 15000, at least 250)
    #[argh(option, default = "15_000")]
    timeout: u64,
    /// have the gateway probe what its health rests on
    #[argh(switch)]
    probe: bool,
    /// who we say we are (default: cli)
    #[argh(option)]
    client_id: Option<String>,
    /// and as what (default: cli)
    #[argh(option)]
    client_mode: Option<String>,
    /// name that the gateway shows for us
    #[argh(option)]
    display_name: Option<String>,
    /// operator (default) or node
    #[argh(option, from_str_fn(role), default = "Role::Operator")]
    role: Role,
    /// scopes to ask for, with commas between (default: operator.read)
    #[argh(option, default = "scope::READ.to_owned()")]
    scopes: String,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Least limit of one step. Source: spec mac-app (4.1).
const CONNECT_MS_MIN: u64 = 250;

fn mode(word: &str) -> Result<GatewayMode, String> {
    match word {
        "local" => Ok(GatewayMode::Local),
        "remote" => Ok(GatewayMode::Remote),
        _ => Err("the modes are local and remote".to_owned()),
    }
}

fn role(word: &str) -> Result<Role, String> {
    Role::from_word(word).ok_or_else(|| "the roles are operator and node".to_owned())
}

pub(super) fn discover(environment: &Environment, flags: Discover) -> Result<ExitCode, InspectError> {
    let search = Search {
        window: connect::limit(flags.timeout, limits::DISCOVERY_WINDOW_MS_MIN)?,
        include_local: flags.include_local,
        domain: flags.domain.or_else(|| environment.wide_area_domain.clone()),
    };
    let found = discover::discover(&search).map_err(InspectError::Usage)?;
    Ok(print(&found, flags.json, discover::text))
}

pub(super) fn connect(
    state: StateDir,
    environment: Environment,
    mut named: Named,
    flags: Connect,
) -> Result<ExitCode, InspectError> {
    if flags.url.is_some() && named.url.is_some() {
        return Err(InspectError::Usage("say --url once".to_owned()));
    }
    named.url = flags.url.or(named.url);
    if let Some(name) = &flags.discovered {
        if named.is_any() {
            return Err(InspectError::Usage("say one of --url, --ssh and --discovered".to_owned()));
        }
        go_to(&mut named, name, &state, &environment)?;
    }
    let credentials = Given {
        token: one("token", flags.token, flags.token_file, flags.token_stdin)?,
        password: one("password", flags.password, flags.password_file, flags.password_stdin && !flags.token_stdin)?,
    };
    let cli = operator_client();
    let check = connect::Check {
        endpoint: named.endpoint(&state, &environment)?,
        mode: flags.mode,
        credentials: credentials.any(),
        client: ClientInfo {
            id: flags.client_id.unwrap_or(cli.id),
            mode: flags.client_mode.unwrap_or(cli.mode),
            display_name: flags.display_name,
            ..cli
        },
        role: flags.role,
        scopes: flags.scopes.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        limit: connect::limit(flags.timeout, CONNECT_MS_MIN)?,
        probe: flags.probe,
    };
    let (report, class) = connect::connect(state, &environment, check)?;
    print(&report, flags.json, connect::text);
    Ok(ExitCode::from(class as u8))
}

/// The gateway that the person named, as it says of itself.
fn go_to(named: &mut Named, name: &str, state: &StateDir, environment: &Environment) -> Result<(), InspectError> {
    let window = Duration::from_millis(limits::DISCOVERY_WINDOW_MS);
    let search = Search { window, include_local: true, domain: environment.wide_area_domain.clone() };
    let found = discover::discover(&search).map_err(InspectError::Usage)?;
    match discover::way_to_named(&found, name).map_err(InspectError::Usage)? {
        Way::Here(port) => {
            // A stranger's word led us there, so it must be ours.
            attach::check(port, attach::is_pinned(&GatewayPins::new(state), port)?).map_err(InspectError::Held)?;
            named.url = Some(format!("ws://localhost:{port}"));
        }
        Way::Ssh(target, port) => (named.ssh, named.port) = (Some(target), Some(port)),
    }
    Ok(())
}

/// What was given for this one login.
struct Given {
    token: Option<Secret>,
    password: Option<Secret>,
}

impl Given {
    fn any(self) -> Option<Credentials> {
        let Self { token, password } = self;
        (token.is_some() || password.is_some()).then(|| Credentials { token, password, ..Credentials::default() })
    }
}

/// The secret of one kind, from the one place that was named.
fn one(kind: &str, word: Option<String>, file: Option<PathBuf>, stdin: bool) -> Result<Option<Secret>, InspectError> {
    let refused = |what: String| InspectError::Usage(what);
    let mut content = String::new();
    let read = match (word, file, stdin) {
        (None, None, false) => return Ok(None),
        (Some(word), None, false) => {
            complain(&format!(
                "warning: --{kind} shows the {kind} to every program of this machine; use --{kind}-file or --{kind}-stdin"
            ));
            content = word;
            Ok(0)
        }
        (None, Some(path), false) => std::fs::File::open(&path)
            .and_then(|file| file.take(limits::SECRET_FILE_BYTES).read_to_string(&mut content))
            .map_err(|error| format!("{}: {error}", text::visible(&path.to_string_lossy()))),
        (None, None, true) => std::io::stdin()
            .take(limits::SECRET_FILE_BYTES)
            .read_to_string(&mut content)
            .map_err(|error| format!("standard input: {error}")),
        _ => Err(format!("say one of --{kind}, --{kind}-file and --{kind}-stdin")),
    };
    read.map_err(refused)?;
    // No second copy.
    content.truncate(content.trim_end().len());
    let secret = Secret::new(content);
    if secret.expose().is_empty() { Err(refused(format!("the {kind} is empty"))) } else { Ok(Some(secret)) }
}
