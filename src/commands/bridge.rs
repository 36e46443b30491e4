//! `openclaw bridge`

use super::{complain, failed, locate, say, usage};
use crate::bridge::client::{Candidate, Chosen, Client, Probe, Trouble, candidates, identity};
use crate::bridge::operations::Operations;
use crate::bridge::{own_socket, serve};
use crate::desktop::automation;
use crate::protocol::peekaboo::coding::decode;
use crate::protocol::peekaboo::types::{
    self as wire, CaptureMode, ClickTarget, ClickType, Direction, HandshakeAnswer, HostKind, MouseProfile, Point, Rect,
    Scale, Size, VisualizerMode, WindowTarget,
};
use crate::protocol::peekaboo::{Operation, Request, Response};
use crate::protocol::text::visible;
use crate::state::Environment;
use crate::sys::process;
use crate::sys::signal::Termination;
use argh::FromArgs;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// See and drive the desktop, through an app that may (PeekabooBridge). Asked are Peekaboo.app, Claude.app, OpenClaw.app,
/// and then this program itself; the first that does what is wanted does it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "bridge",
    note = "Words:
  status                        which hosts there are, and which one would be used
  permissions                   what it has been granted
  list apps | windows           running programs; windows of --app, --title or the program in front
  capture                       an image of --screen, --area, --window, --app or the window in front, into --out
  see                           buttons, fields … of --app or the program in front; keeps them as a snapshot for click
  click                         --at, --element of a snapshot, or what bears the text --query
  type TEXT                     into what has the keyboard, or into --element
  press KEYS                    a shortcut such as cmd,shift,4
  scroll up|down|left|right [N] N notches (default: 3), at the pointer or --element
  move | drag                   the pointer to --at; drag with --from
  window focus|close|minimize|maximize|place
                                --app, --title, --window or the one in front; place: --at, --size
  app launch|activate|hide|unhide|quit NAME
                                NAME: bundle id, name, or PID:n
  call OPERATION [JSON]         any operation of the protocol, with its payload
  serve                         be a host, for programs that an allowed team has signed",
    note = "Points are X,Y on the desktop, y downwards. Exit code: 0 done, 1 failed or refused, 2 wrong usage, 3 nobody here can do it.",
    example = "openclaw bridge capture --app TextEdit --out shot.png\nopenclaw bridge see --app TextEdit\nopenclaw bridge click --query Save"
)]
pub struct Flags {
    /// what to do, see below
    #[argh(positional)]
    word: String,
    /// what the word needs
    #[argh(positional)]
    arguments: Vec<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// say how it was decided whom to ask
    #[argh(switch)]
    verbose: bool,
    /// ask only the host at this socket (default: PEEKABOO_BRIDGE_SOCKET)
    #[argh(option)]
    bridge_socket: Option<PathBuf>,
    /// ask no host, do it in this program
    #[argh(switch)]
    no_remote: bool,
    /// limit of one answer in milliseconds (default: 10000; see: 30000)
    #[argh(option)]
    timeout: Option<u64>,
    /// a program: bundle id, name, or PID:n
    #[argh(option)]
    app: Option<String>,
    /// a window by a part of its title
    #[argh(option)]
    title: Option<String>,
    /// a window by its number
    #[argh(option)]
    window: Option<i64>,
    /// a screen by its number, from 0
    #[argh(option)]
    screen: Option<i64>,
    /// a rectangle, X,Y,WIDTH,HEIGHT
    #[argh(option, from_str_fn(numbers))]
    area: Option<[f64; 4]>,
    /// all pixels of the screen instead of one a point
    #[argh(switch)]
    native: bool,
    /// the PNG file to make
    #[argh(option)]
    out: Option<PathBuf>,
    /// a place, X,Y
    #[argh(option, from_str_fn(numbers))]
    at: Option<[f64; 2]>,
    /// where a drag begins, X,Y
    #[argh(option, from_str_fn(numbers))]
    from: Option<[f64; 2]>,
    /// a size, WIDTH,HEIGHT
    #[argh(option, from_str_fn(numbers))]
    size: Option<[f64; 2]>,
    /// an element by its id in a snapshot
    #[argh(option)]
    element: Option<String>,
    /// an element by what stands on it
    #[argh(option)]
    query: Option<String>,
    /// the snapshot that an element is of (default: the most recent one)
    #[argh(option)]
    snapshot: Option<String>,
    /// click with the right button
    #[argh(switch)]
    right: bool,
    /// click twice
    #[argh(switch)]
    double: bool,
    /// empty the field before typing
    #[argh(switch)]
    clear: bool,
    /// milliseconds between two characters or steps (default: 0), or of a movement (default: 200)
    #[argh(option)]
    delay: Option<i64>,
    /// quit without asking the program
    #[argh(switch)]
    force: bool,
    /// state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)
    #[argh(option)]
    state_dir: Option<PathBuf>,
}

/// Exit code when neither a host nor this program can do what is asked.
const NOBODY: u8 = 3;

fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("say {N} numbers with commas between them"))
}

/// Does one thing; `serve` runs until a signal ends it.
pub fn run(flags: Flags, mut environment: Environment) -> ExitCode {
    if flags.word == "serve" {
        return match host(flags, environment) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed("bridge", &*error),
        };
    }
    let client = match client(&flags, &mut environment) {
        Ok(client) => client,
        Err(error) => return failed("bridge", &error),
    };
    if flags.word == "status" {
        return status(&flags, &client);
    }
    match request(&flags) {
        Ok(request) => perform(&flags, &client, request),
        Err(error) => usage(&format!("bridge {}: {error}", flags.word)),
    }
}

fn host(flags: Flags, mut environment: Environment) -> Result<(), Box<dyn std::error::Error>> {
    process::settle();
    let state = locate(flags.state_dir, &mut environment)?;
    state.prepare()?;
    let signals = Termination::install()?;
    let home = environment.home.ok_or("there is no home directory")?;
    let socket = flags.bridge_socket.unwrap_or_else(|| own_socket(&state, &home));
    let holder = "the program that `openclaw bridge serve` was started from";
    let serving = serve(socket, home, automation::open(), HostKind::Helper, holder)?;
    signals.wait()?;
    crate::log!("bridge", "stopping");
    drop(serving);
    Ok(())
}

fn client(flags: &Flags, environment: &mut Environment) -> Result<Client, String> {
    let state = locate(flags.state_dir.clone(), environment).map_err(|error| error.to_string())?;
    let home = environment.home.clone().unwrap_or_default();
    let variable = std::env::var_os("PEEKABOO_BRIDGE_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    let chosen = flags.bridge_socket.clone().or(variable);
    // `~` where no shell has replaced it.
    let chosen = chosen.map(|path| path.strip_prefix("~").map(|rest| home.join(rest)).unwrap_or(path));
    let none = flags.no_remote || std::env::var_os("PEEKABOO_NO_REMOTE").is_some();
    let own = own_socket(&state, &home);
    Ok(Client {
        candidates: if none { Vec::new() } else { candidates(&home, &own, chosen.as_deref()) },
        limit: flags.timeout.map(Duration::from_millis),
        local: Operations::new(automation::open()),
    })
}

// ---- status ----

fn status(flags: &Flags, client: &Client) -> ExitCode {
    let probes = client.probe();
    // The gate of the protocol: who cannot capture the screen is of no use. Source: spec §3
    let usable = |answer: &HandshakeAnswer| {
        let enabled = answer.enabled_operations.as_ref().unwrap_or(&answer.supported_operations);
        enabled.contains(&Operation::CaptureScreen)
    };
    let selected = probes.iter().find_map(|(candidate, outcome)| {
        outcome.as_ref().ok().filter(|answer| usable(answer)).map(|answer| (candidate, answer))
    });
    if flags.json {
        return say_json(&status_json(flags, &probes, selected));
    }
    let mut text = String::new();
    for (candidate, outcome) in &probes {
        let what = match outcome {
            Ok(answer) if usable(answer) => "ready".to_owned(),
            Ok(_) => "running, but it cannot capture the screen".to_owned(),
            Err(trouble) => trouble.to_string(),
        };
        let _ = writeln!(text, "{:<14} {what}", candidate.name);
        if flags.verbose {
            explain(&mut text, candidate, outcome);
        }
    }
    let local = client.local_handshake();
    let _ = match selected {
        Some((candidate, _)) => writeln!(text, "used would be: {}", candidate.name),
        None if usable(&local) => writeln!(text, "used would be: this program itself"),
        None => writeln!(
            text,
            "Nobody here can see the screen. Start one of: Peekaboo.app; Claude.app; OpenClaw.app with its bridge switched on \
             (`openclaw app`); or a host in this session, `openclaw bridge serve`."
        ),
    };
    if flags.verbose {
        let _ = writeln!(text, "this program   {}", summary(&local));
    }
    say(&text)
}

fn explain(text: &mut String, candidate: &Candidate, outcome: &Result<HandshakeAnswer, Trouble>) {
    let _ = writeln!(text, "    socket: {}", candidate.socket.display());
    match outcome {
        Ok(answer) => {
            let _ = writeln!(text, "    {}", summary(answer));
        }
        Err(trouble) => {
            let hint = match trouble {
                Trouble::Missing => Some("start it, and switch its bridge on, if it is to be used"),
                other => other.hint(),
            };
            if let Some(hint) = hint {
                let _ = writeln!(text, "    {hint}");
            }
        }
    }
}

fn summary(answer: &HandshakeAnswer) -> String {
    let wire::Version { major, minor } = answer.negotiated_version;
    let build = answer.build.as_deref().map_or_else(String::new, |build| format!(", build {}", visible(build)));
    let enabled = answer.enabled_operations.as_ref().map_or(answer.supported_operations.len(), Vec::len);
    let all = answer.supported_operations.len();
    let granted = answer.permissions.map_or_else(String::new, |granted| format!("; {}", permissions(&granted)));
    format!("protocol {major}.{minor}{build}; {enabled} of {all} operations permitted{granted}")
}

fn permissions(granted: &wire::PermissionsStatus) -> String {
    let word = |is: bool| if is { "granted" } else { "not granted" };
    format!(
        "screen recording {}, accessibility {}, event posting {}, automation {}",
        word(granted.screen_recording),
        word(granted.accessibility),
        word(granted.post_event),
        word(granted.apple_script)
    )
}

/// The members of the original's report. Source: spec §7
fn status_json(flags: &Flags, probes: &[Probe], selected: Option<(&Candidate, &HandshakeAnswer)>) -> Value {
    let result = |outcome: &Result<HandshakeAnswer, Trouble>| match outcome {
        Ok(answer) => json!({"success": {"_0": answer}}),
        Err(trouble) => {
            let (kind, code) = match trouble {
                Trouble::Refused(failure) => ("bridge", json!(failure.code)),
                _ => ("system", Value::Null),
            };
            json!({"failure": {"_0": {"kind": kind, "code": code, "message": trouble.to_string(), "hint": trouble.hint()}}})
        }
    };
    let candidates: Vec<Value> = probes
        .iter()
        .map(|(candidate, outcome)| {
            json!({"name": candidate.name, "socketPath": candidate.socket, "result": result(outcome)})
        })
        .collect();
    let selected = selected.map_or_else(
        || json!({"source": "local"}),
        |(candidate, answer)| json!({"source": "remote", "socketPath": candidate.socket, "handshake": answer}),
    );
    let skipped = probes.is_empty();
    let reason = skipped.then_some(if flags.no_remote { "--no-remote" } else { "PEEKABOO_NO_REMOTE" });
    json!({"remoteSkipped": skipped, "remoteSkipReason": reason, "selected": selected, "candidates": candidates,
        "client": identity()})
}

// ---- doing ----

fn perform(flags: &Flags, client: &Client, request: Request) -> ExitCode {
    let Some(operation) = request.operation() else {
        return usage("bridge call: a handshake is no operation; say status");
    };
    let (chosen, passed) = client.choose(operation);
    if flags.verbose || matches!(chosen, Chosen::Local) && !flags.json {
        passed.iter().for_each(|(candidate, trouble)| complain(&format!("bridge: {}: {trouble}", candidate.name)));
    }
    if flags.verbose {
        complain(&match &chosen {
            Chosen::Remote(candidate, _) => format!("bridge: asking {}", candidate.name),
            Chosen::Local => "bridge: doing it in this program".to_owned(),
        });
    }
    let outcome = match request {
        // Elements are looked up for a snapshot, which their ids then belong to.
        Request::DetectElements(asked) if flags.word == "see" => see(client, &chosen, asked),
        request => client.perform(&chosen, request),
    };
    match outcome.map_err(|trouble| (failure_code(&chosen, &trouble), trouble)) {
        Ok(response) => match show(flags, &response) {
            Ok(code) => code,
            Err(error) => failed("bridge", &error),
        },
        Err((code, trouble)) => {
            if flags.json {
                let answer = match &trouble {
                    Trouble::Refused(failure) => json!({"error": failure}),
                    other => json!({"error": {"message": other.to_string()}}),
                };
                let _ = say_json(&answer);
            } else {
                complain(&format!("bridge: {trouble}"));
                trouble.hint().into_iter().for_each(complain);
                if code == NOBODY {
                    complain("bridge: nobody here can do that; `openclaw bridge status --verbose` says what to start");
                }
            }
            ExitCode::from(code)
        }
    }
}

fn failure_code(chosen: &Chosen, trouble: &Trouble) -> u8 {
    match (chosen, trouble) {
        (Chosen::Local, Trouble::Refused(failure)) if failure.code == wire::ErrorCode::OperationNotSupported => NOBODY,
        _ => 1,
    }
}

fn see(client: &Client, chosen: &Chosen, asked: wire::DetectElements) -> Result<Response, Trouble> {
    let Response::SnapshotId(id) = client.perform(chosen, Request::CreateSnapshot(wire::Nothing {}))? else {
        return Err(Trouble::Garbled("it made no snapshot".to_owned()));
    };
    client.perform(chosen, Request::DetectElements(wire::DetectElements { snapshot_id: Some(id), ..asked }))
}

fn say_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => failed("bridge", &error),
    }
}

fn show(flags: &Flags, response: &Response) -> Result<ExitCode, String> {
    if let Response::Capture(capture) = response
        && flags.word == "capture"
    {
        return save(flags, capture);
    }
    if flags.json {
        return Ok(say_json(response));
    }
    let mut text = String::new();
    match response {
        Response::Ok(()) => text.push_str("done\n"),
        Response::PermissionsStatus(granted) => {
            let _ = writeln!(text, "{}", permissions(granted).replace(", ", "\n"));
        }
        Response::Applications(list) => list.iter().for_each(|one| application_line(&mut text, one)),
        Response::Application(one) => application_line(&mut text, one),
        Response::Windows(list) => list.iter().for_each(|one| window_line(&mut text, one)),
        Response::Window(Some(one)) => window_line(&mut text, one),
        Response::ElementDetection(detection) | Response::Detection(detection) => elements(&mut text, detection),
        other => return Ok(say_json(other)),
    }
    Ok(say(&text))
}

fn application_line(text: &mut String, one: &wire::Application) {
    let mark = if one.is_active { '*' } else { ' ' };
    let bundle = one.bundle_identifier.as_deref().unwrap_or("-");
    let _ = writeln!(text, "{mark} {:>7}  {}  {}", one.process_identifier, visible(&one.name), visible(bundle));
}

fn window_line(text: &mut String, one: &wire::Window) {
    let Rect(Point(x, y), Size(width, height)) = one.bounds;
    let _ = writeln!(text, "{:>9}  {width}×{height} at {x},{y}  {}", one.window_id, visible(&one.title));
}

fn elements(text: &mut String, detection: &wire::Detection) {
    let lists = serde_json::to_value(&detection.elements).unwrap_or_default();
    let lists = lists.as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_array);
    let part = |element: &Value, name: &str| visible(element.get(name).and_then(Value::as_str).unwrap_or_default());
    for element in lists.flatten() {
        let (id, kind, label) = (part(element, "id"), part(element, "type"), part(element, "label"));
        let _ = writeln!(text, "{id:>9}  {kind:<11} {label}  {}", part(element, "value"));
    }
    let _ = writeln!(text, "snapshot {}", visible(&detection.snapshot_id));
}

/// Writes the image, never over something that is there.
fn save(flags: &Flags, capture: &wire::Capture) -> Result<ExitCode, String> {
    use std::io::Write as _;
    let path = flags.out.as_deref().ok_or("say with --out where the image is to go")?;
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(said)?;
    file.write_all(&capture.image_data.0).map_err(said)?;
    if flags.json {
        return Ok(say_json(&json!({"savedPath": path, "metadata": capture.metadata})));
    }
    let Size(width, height) = capture.metadata.size;
    let what = if capture.metadata.mode == CaptureMode::Screen { "the screen" } else { "what was asked for" };
    Ok(say(&format!("{}: {width}×{height} pixels of {what}\n", path.display())))
}

// ---- words to requests ----

fn request(flags: &Flags) -> Result<Request, String> {
    let arguments: Vec<&str> = flags.arguments.iter().map(String::as_str).collect();
    Ok(match (flags.word.as_str(), arguments.as_slice()) {
        ("permissions", []) => Request::PermissionsStatus(()),
        ("list", ["apps" | "applications"]) => Request::ListApplications(()),
        ("list", ["windows"]) => Request::ListWindows(wire::WindowRequest { target: window(flags) }),
        ("capture", []) => {
            if flags.out.is_none() {
                return Err("say with --out where the image is to go".to_owned());
            }
            capture(flags)
        }
        ("see", []) => Request::DetectElements(wire::DetectElements {
            image_data: Default::default(),
            snapshot_id: None,
            window_context: Some(wire::WindowContext {
                application_name: flags.app.clone(),
                window_title: flags.title.clone(),
                window_id: flags.window,
                ..Default::default()
            }),
        }),
        ("click", []) => Request::Click(wire::Click {
            target: click_target(flags)?,
            click_type: match (flags.right, flags.double) {
                (true, true) => return Err("--right or --double, not both".to_owned()),
                (true, false) => ClickType::Right,
                (false, true) => ClickType::Double,
                (false, false) => ClickType::Single,
            },
            snapshot_id: flags.snapshot.clone(),
        }),
        ("type", [text]) => Request::Type(wire::Type {
            text: (*text).to_owned(),
            clear_existing: flags.clear,
            typing_delay: flags.delay.unwrap_or(0),
            target: flags.element.clone().or(flags.query.clone()),
            snapshot_id: flags.snapshot.clone(),
        }),
        ("press", [keys]) => Request::Hotkey(wire::Hotkey { keys: (*keys).to_owned(), hold_duration: 0 }),
        ("scroll", [direction, rest @ ..]) => scroll(flags, direction, rest)?,
        ("move", []) => Request::MoveMouse(wire::MoveMouse {
            to: place(flags.at, "--at")?,
            duration: flags.delay.unwrap_or(200),
            steps: STEPS,
            profile: MouseProfile::Linear,
        }),
        ("drag", []) => Request::Drag(wire::Drag {
            from: place(flags.from, "--from")?,
            to: place(flags.at, "--at")?,
            duration: flags.delay.unwrap_or(200),
            steps: STEPS,
            profile: MouseProfile::Linear,
            modifiers: None,
        }),
        ("window", [change]) => change_window(flags, change)?,
        ("app", [change, name]) => change_app(flags, change, name)?,
        ("call", [operation]) => named(operation, "{}")?,
        ("call", [operation, payload]) => named(operation, payload)?,
        _ => return Err("no such word, or it needs something else; `openclaw bridge --help` lists them".to_owned()),
    })
}

/// Steps of one movement of the pointer.
const STEPS: i64 = 20;

fn place(given: Option<[f64; 2]>, flag: &str) -> Result<Point, String> {
    given.map(|[x, y]| Point(x, y)).ok_or_else(|| format!("say where with {flag} X,Y"))
}

fn window(flags: &Flags) -> WindowTarget {
    match (flags.window, flags.app.clone(), flags.title.clone()) {
        (Some(window_id), ..) => WindowTarget::WindowId { window_id },
        (None, Some(app), Some(title)) => WindowTarget::ApplicationAndTitle { app, title },
        (None, Some(app), None) => WindowTarget::Application { app },
        (None, None, Some(title)) => WindowTarget::Title { title },
        (None, None, None) => WindowTarget::Frontmost,
    }
}

fn capture(flags: &Flags) -> Request {
    let visualizer_mode = VisualizerMode::ScreenshotFlash(());
    let scale = if flags.native { Scale::Native(()) } else { Scale::Logical(()) };
    match (flags.area, flags.screen, flags.window, &flags.app) {
        (Some([x, y, width, height]), ..) => {
            let rect = Rect(Point(x, y), Size(width, height));
            Request::CaptureArea(wire::CaptureArea { rect, visualizer_mode, scale })
        }
        (None, display_index @ Some(_), ..) => {
            Request::CaptureScreen(wire::CaptureScreen { visualizer_mode, scale, display_index })
        }
        (None, None, None, None) => Request::CaptureFrontmost(wire::CaptureFrontmost { visualizer_mode, scale }),
        (None, None, window_id, app) => Request::CaptureWindow(wire::CaptureWindow {
            app_identifier: app.clone().unwrap_or_default(),
            visualizer_mode,
            scale,
            window_index: None,
            window_id,
        }),
    }
}

fn click_target(flags: &Flags) -> Result<ClickTarget, String> {
    match (flags.at, flags.element.clone(), flags.query.clone()) {
        (Some([x, y]), None, None) => Ok(ClickTarget::Coordinates { x, y }),
        (None, Some(value), None) => Ok(ClickTarget::ElementId { value }),
        (None, None, Some(value)) => Ok(ClickTarget::Query { value }),
        _ => Err("say one of --at X,Y, --element ID, --query TEXT".to_owned()),
    }
}

fn scroll(flags: &Flags, direction: &str, rest: &[&str]) -> Result<Request, String> {
    let direction: Direction =
        serde_json::from_value(json!(direction)).map_err(|_| "say up, down, left or right".to_owned())?;
    let amount = match rest {
        [] => 3,
        [amount] => amount.parse().map_err(|_| "the number of notches is a whole number".to_owned())?,
        _ => return Err("say a direction and a number of notches".to_owned()),
    };
    let target = flags.element.clone().or(flags.query.clone());
    let (delay, snapshot_id) = (flags.delay.unwrap_or(0), flags.snapshot.clone());
    let request = wire::ScrollRequest { direction, amount, smooth: false, delay, target, snapshot_id };
    Ok(Request::Scroll(wire::Scroll { request }))
}

fn change_window(flags: &Flags, change: &str) -> Result<Request, String> {
    let target = window(flags);
    Ok(match (change, flags.at, flags.size) {
        ("focus", ..) => Request::FocusWindow(wire::WindowRequest { target }),
        ("close", ..) => Request::CloseWindow(wire::WindowRequest { target }),
        ("minimize", ..) => Request::MinimizeWindow(wire::WindowRequest { target }),
        ("maximize", ..) => Request::MaximizeWindow(wire::WindowRequest { target }),
        ("place", Some([x, y]), Some([width, height])) => {
            Request::SetWindowBounds(wire::SetWindowBounds { target, bounds: Rect(Point(x, y), Size(width, height)) })
        }
        ("place", Some([x, y]), None) => Request::MoveWindow(wire::MoveWindow { target, position: Point(x, y) }),
        ("place", None, Some([width, height])) => {
            Request::ResizeWindow(wire::ResizeWindow { target, size: Size(width, height) })
        }
        ("place", None, None) => return Err("say --at X,Y, --size WIDTH,HEIGHT, or both".to_owned()),
        _ => return Err("say focus, close, minimize, maximize or place".to_owned()),
    })
}

fn change_app(flags: &Flags, change: &str, name: &str) -> Result<Request, String> {
    let identifier = name.to_owned();
    Ok(match change {
        "launch" => Request::LaunchApplication(wire::AppRequest { identifier }),
        "activate" => Request::ActivateApplication(wire::AppRequest { identifier }),
        "hide" => Request::HideApplication(wire::AppRequest { identifier }),
        "unhide" => Request::UnhideApplication(wire::AppRequest { identifier }),
        "quit" => Request::QuitApplication(wire::QuitApplication { identifier, force: flags.force }),
        _ => return Err("say launch, activate, hide, unhide or quit".to_owned()),
    })
}

/// Any operation by its name, with its payload as JSON.
fn named(operation: &str, payload: &str) -> Result<Request, String> {
    let operation: Operation = operation.parse().map_err(|_| format!("{} is no operation", visible(operation)))?;
    let payload: Value = serde_json::from_str(payload).map_err(|error| format!("the payload is no JSON: {error}"))?;
    let name = operation.to_string();
    // The one whose request has another name than its entry in lists. Source: spec §3
    let name = name.strip_prefix('_').unwrap_or(&name);
    let request = json!({name: {"_0": payload}});
    decode(request.to_string().as_bytes()).map_err(|error| format!("{name} cannot be asked like this: {error}"))
}
