//! `make bench`: start-up, memory and round trips of the release binary, driven from outside as a client drives it,
//! and what the decision about a command costs.
//!
//! Each figure stands beside its floor, measured in the same run: what the machine needs for the
//! same bytes over the same kinds of sockets, or for the same process, without any of our work.
//!
//! Flags: `--json` prints one JSON array; `--quick` takes a tenth of the samples and leaves out how all of it grows with
//! the number of peers; `--scale` and `--bridge` show only that; `--exec` leaves out start-up, memory, relayed calls and growth.

mod bridge;
mod exec;
mod floor;
mod gateway;
mod scale;

use gateway::{Client, Invocation, Scratch, Server};
use openclaw::protocol::policy::Fence;
use serde_json::{Value, json};
use std::error::Error;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What every measurement may fail with; the first failure ends the run.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Requests under way at once in the throughput figures.
const IN_FLIGHT: usize = 16;
/// Ours and the floor take turns this often in one figure.
const TURNS: usize = 10;
/// How long a server is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

/// One measured value and what it is compared with.
struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    /// The least that the machine allows.
    floor: Option<f64>,
    /// What it shall not exceed. Only printed.
    target: Option<f64>,
    more_is_better: bool,
}

impl Figure {
    /// A value of which less is better, by itself.
    fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, floor: None, target: None, more_is_better: false }
    }

    /// How many times worse than the floor.
    fn ratio(&self) -> Option<f64> {
        let floor = self.floor?;
        Some(if self.more_is_better { floor / self.ours } else { self.ours / floor })
    }
}

fn main() -> ExitCode {
    let mut json = false;
    let mut share = 1;
    let mut parts = Parts { gateway: true, exec: true, scale: true, bridge: true };
    for flag in std::env::args().skip(1) {
        match flag.as_str() {
            "--json" => json = true,
            "--quick" => (share, parts.scale) = (10, false),
            "--exec" => (parts.gateway, parts.scale, parts.bridge) = (false, false, false),
            "--scale" => (parts.gateway, parts.exec, parts.bridge) = (false, false, false),
            "--bridge" => (parts.gateway, parts.exec, parts.scale) = (false, false, false),
            "--bench" => {} // from cargo
            other => {
                eprintln!("bench: unknown flag {other}; there are --json, --quick, --exec, --scale and --bridge");
                return ExitCode::from(2);
            }
        }
    }
    match measure(share, &parts) {
        Ok(figures) if json => {
            println!("{}", Value::from(figures.iter().map(as_json).collect::<Vec<_>>()));
            ExitCode::SUCCESS
        }
        Ok(figures) => {
            print_table(&figures);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured.
struct Parts {
    /// Start-up, memory, relayed calls.
    gateway: bool,
    /// Running commands.
    exec: bool,
    /// With many peers.
    scale: bool,
    /// Seeing the desktop.
    bridge: bool,
}

/// The figures of these parts, from a `share`th of the samples.
fn measure(share: usize, parts: &Parts) -> Outcome<Vec<Figure>> {
    let samples = |all: usize| (all / share).max(2);
    let mut figures = Vec::new();
    if parts.gateway || parts.exec {
        one_node(&samples, parts.gateway, &mut figures)?;
    }
    if parts.bridge {
        figures.extend(bridge::figures(&samples)?);
    }
    if parts.scale {
        figures.extend(scale::figures(&samples)?);
    }
    Ok(figures)
}

/// With one operator and the app's own node.
fn one_node(samples: &impl Fn(usize) -> usize, is_whole: bool, figures: &mut Vec<Figure>) -> Outcome<()> {
    if is_whole {
        let binary = std::fs::metadata(gateway::BINARY)?.len() as f64 / 1024.0;
        figures.push(Figure::new("release binary", "KiB", binary));
        figures.push(cold_start(samples(20))?);
        figures.extend(idle_memory()?);
    }

    let app = Server::start("app", &["--ask", "none"])?;
    let mut operator = app.operator()?;
    let node = operator.own_node()?;
    if is_whole {
        let which = json!({"nodeId": node, "command": "system.which", "params": {"bins": ["sh"]}});
        let which = Invocation::new(&which);
        let mut relay = floor::Relay::start(operator.sizes(&which)?)?;
        figures.extend(percentiles(
            ["system.which, sequential, p50", "system.which, sequential, p99"],
            sample(samples(3000), || operator.invoke(&which), || relay.round_trip())?,
        ));
        figures.push(in_flight(&mut operator, &mut relay, &which, samples(20_000))?);
    }

    let run = json!({"nodeId": node, "command": "system.run", "params": {"command": [floor::TRUE]}});
    let run = Invocation::new(&run);
    let mut runner = floor::Runner::start(operator.sizes(&run)?)?;
    figures.extend(percentiles(
        ["system.run /bin/true, sequential, p50", "system.run /bin/true, sequential, p99"],
        sample(samples(500), || operator.invoke(&run), || runner.run())?,
    ));
    let scratch = Scratch::new()?;
    let launcher = exec::Launcher::new(scratch.path())?;
    for level in [Fence::None, Fence::State, Fence::Workspace, Fence::Offline] {
        app.fence(level.word())?;
        let times = sample(samples(500), || operator.invoke(&run), || launcher.run(level))?;
        figures.push(median(format!("system.run and bare spawn, both fence {}, p50", level.word()), times));
    }
    figures.extend(exec::figures(samples)?);
    Ok(())
}

/// From spawn with an empty state directory to the first `hello-ok`. Floor: start of a bare process.
fn cold_start(count: usize) -> Outcome<Figure> {
    let mut ours = Vec::new();
    let mut floor = Vec::new();
    for _ in 0..count {
        let server = Server::prepare()?;
        let started = Instant::now();
        let server = server.spawn("gateway", &["run"])?;
        server.operator()?;
        ours.push(started.elapsed());

        let started = Instant::now();
        Command::new(floor::TRUE).stdin(Stdio::null()).status()?;
        floor.push(started.elapsed());
    }
    let floor = Some(milliseconds(percentile(&mut floor, 50)));
    let ours = milliseconds(percentile(&mut ours, 50));
    Ok(Figure { floor, ..Figure::new("gateway, cold start to hello-ok, p50", "ms", ours) })
}

/// Resident memory after [`IDLE`]. Floor: a bare process that sleeps.
fn idle_memory() -> Outcome<Vec<Figure>> {
    let gateway = Server::start("gateway", &["run"])?;
    drop(gateway.operator()?);
    let app = Server::start("app", &["--ask", "none"])?;
    app.operator()?.own_node()?;
    let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    std::thread::sleep(IDLE); // the measurement is what is resident after this much idling
    let floor = resident_kib(sleeper.id());
    sleeper.kill()?;
    sleeper.wait()?;
    let floor = Some(floor?);
    let figure = |name: &str, ours| Figure { floor, ..Figure::new(name, "KiB", ours) };
    Ok(vec![
        figure("gateway, idle, resident", resident_kib(gateway.pid())?),
        figure("app in local mode, idle, resident", resident_kib(app.pid())?),
    ])
}

/// Resident memory of a process, KiB.
fn resident_kib(pid: u32) -> Outcome<f64> {
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the process has ended")?;
        return Ok(line.trim().trim_end_matches(" kB").parse()?);
    }
    let output = Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Calls a second with [`IN_FLIGHT`] under way on one connection. Floor: the relay, equally full.
fn in_flight(operator: &mut Client, relay: &mut floor::Relay, call: &Invocation, count: usize) -> Outcome<Figure> {
    let (mut ours, mut floor) = (Duration::ZERO, Duration::ZERO);
    let each = count.div_ceil(TURNS);
    for _ in 0..TURNS {
        let started = Instant::now();
        operator.pipeline(call, each, IN_FLIGHT)?;
        ours += started.elapsed();
        let started = Instant::now();
        relay.pipeline(each, IN_FLIGHT)?;
        floor += started.elapsed();
    }
    let rate = |elapsed: Duration| (each * TURNS) as f64 / elapsed.as_secs_f64();
    let (ours, floor) = (rate(ours), Some(rate(floor)));
    Ok(Figure { floor, more_is_better: true, ..Figure::new("system.which, 16 in flight", "calls/s", ours) })
}

/// How long each of `count` calls of ours and of the floor takes; a few before warm caches up. They
/// take turns, so that what else this machine does meets both.
fn sample(
    count: usize,
    mut ours: impl FnMut() -> Outcome<()>,
    mut floor: impl FnMut() -> Outcome<()>,
) -> Outcome<[Vec<Duration>; 2]> {
    let each = count.div_ceil(TURNS);
    let mut all = [Vec::with_capacity(each * TURNS), Vec::with_capacity(each * TURNS)];
    let [of_ours, of_floor] = &mut all;
    for _ in 0..TURNS {
        sample_one(each, &mut ours, of_ours)?;
        sample_one(each, &mut floor, of_floor)?;
    }
    Ok(all)
}

fn sample_one(count: usize, call: &mut impl FnMut() -> Outcome<()>, all: &mut Vec<Duration>) -> Outcome<()> {
    for _ in 0..count / 10 {
        call()?;
    }
    for _ in 0..count {
        let started = Instant::now();
        call()?;
        all.push(started.elapsed());
    }
    Ok(())
}

fn percentiles(names: [&str; 2], times: [Vec<Duration>; 2]) -> Vec<Figure> {
    names.into_iter().zip([50, 99]).map(|(name, share)| at(name, share, &times)).collect()
}

fn median(name: impl Into<String>, times: [Vec<Duration>; 2]) -> Figure {
    at(name, 50, &times)
}

/// That share of our times and of the floor's.
fn at(name: impl Into<String>, share: usize, times: &[Vec<Duration>; 2]) -> Figure {
    let [ours, floor] = times.each_ref().map(|all| microseconds(percentile(&mut all.clone(), share)));
    Figure { floor: Some(floor), ..Figure::new(name, "µs", ours) }
}

/// The value that `share` percent of the samples do not exceed.
fn percentile(all: &mut [Duration], share: usize) -> Duration {
    all.sort_unstable();
    let place = (all.len() * share).div_ceil(100).saturating_sub(1);
    all.get(place).copied().unwrap_or_default()
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn as_json(figure: &Figure) -> Value {
    let (ratio, target) = (figure.ratio(), figure.target);
    json!({"name": figure.name, "unit": figure.unit, "value": figure.ours, "floor": figure.floor, "ratio": ratio, "target": target})
}

fn print_table(figures: &[Figure]) {
    let shown = |value: Option<f64>, digits| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    println!("{:<76}{:>10}{:>10}{:>8}  unit", "figure", "ours", "floor", "ratio");
    for figure in figures {
        let verdict = figure.target.map(|target| match figure.ours <= target {
            true => format!(" (at most {target}: ok)"),
            false => format!(" (at most {target}: over)"),
        });
        println!(
            "{:<76}{:>10}{:>10}{:>8}  {}{}",
            figure.name,
            shown(Some(figure.ours), 1),
            shown(figure.floor, 1),
            shown(figure.ratio(), 2),
            figure.unit,
            verdict.unwrap_or_default()
        );
    }
}
