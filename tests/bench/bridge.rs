//! The bridge: one call beside the same bytes over a bare Unix socket, captures of a window, and what an idle host costs.
//! On Linux no program is signed, so only a build with debug assertions lets this one in: `--profile proof`.

use crate::gateway::{BINARY, Scratch};
use crate::{Figure, Outcome, at, sample};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Permissions, and a handshake as the official client sends it.
const PERMISSIONS: &str = r#"{"permissionsStatus":{}}"#;
const HANDSHAKE: &str =
    r#"{"handshake":{"_0":{"protocolVersion":{"major":1,"minor":7},"client":{"processIdentifier":1}}}}"#;
const WINDOWS: &str = r#"{"listWindows":{"_0":{"target":{"kind":"title","title":"bench"}}}}"#;

/// A host that is not up by then has failed.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long an idle host is watched.
const IDLE: Duration = Duration::from_secs(5);

/// A process that ends with this.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The figures; those that this machine or this build cannot give are left out with a word on stderr.
pub fn figures(samples: &impl Fn(usize) -> usize) -> Outcome<Vec<Figure>> {
    if !cfg!(debug_assertions) {
        eprintln!(
            "bench: nothing about the bridge: without signatures a release build lets nobody in; try \
             `cargo bench --profile proof --bench wire -- --bridge`"
        );
        return Ok(Vec::new());
    }
    let screen = Screen::start();
    if let Err(error) = &screen {
        eprintln!("bench: no captures by the bridge: no virtual X server ({error}; Debian: xvfb, x11-utils)");
    }
    let display = screen.as_ref().map_or("", |screen| &screen.display);
    let (scratch, host) = serve(display)?;
    let socket = scratch.path().join("bridge.sock");
    let mut figures = Vec::new();
    for (name, request) in [("handshake", HANDSHAKE), ("permissions", PERMISSIONS)] {
        let floor = echo(scratch.path(), call(&socket, request)?.len())?;
        let times = sample(samples(2_000), || call(&socket, request).map(drop), || call(&floor, request).map(drop))?;
        figures.extend([50, 99].map(|share| at(format!("bridge, {name}, p{share}"), share, &times)));
    }
    if screen.is_ok() {
        figures.push(captures(&socket, samples(30))?);
    }
    if cfg!(target_os = "linux") {
        thread::sleep(IDLE); // until threads that wait for more work have ended
        let before = cpu(host.0.id())?;
        thread::sleep(IDLE); // the measurement is what an idle host uses meanwhile
        let used = cpu(host.0.id())? - before;
        figures.push(Figure::new("bridge, idle, processor time in 5 s", "ms", used * 1e3));
    }
    Ok(figures)
}

fn serve(display: &str) -> Outcome<(Scratch, Ending)> {
    let scratch = Scratch::new()?;
    let mut command = Command::new(BINARY);
    command.args(["bridge", "serve"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(scratch.path().join("bench.log"))?);
    command.env("OPENCLAW_STATE_DIR", scratch.path()).env("DISPLAY", display);
    command.env("PEEKABOO_ALLOW_UNSIGNED_SOCKET_CLIENTS", "1");
    let host = Ending(command.spawn()?);
    let (started, socket) = (Instant::now(), scratch.path().join("bridge.sock"));
    while UnixStream::connect(&socket).is_err() {
        if started.elapsed() > START_DEADLINE {
            return Err("the bridge did not come up".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok((scratch, host))
}

/// One request over a connection of its own, as the protocol wants it.
fn call(socket: &Path, request: &str) -> Outcome<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() || answer.starts_with(r#"{"error""#) {
        return Err(format!("the bridge answered {answer:?}").into());
    }
    Ok(answer)
}

/// A socket that reads to the end and answers so many bytes, from one thread.
fn echo(directory: &Path, bytes: usize) -> Outcome<PathBuf> {
    let socket = directory.join(format!("echo-{bytes}.sock"));
    let listener = UnixListener::bind(&socket)?;
    let answer = vec![b'x'; bytes];
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let _ = stream.read_to_end(&mut request).and_then(|_| stream.write_all(&answer));
        }
    });
    Ok(socket)
}

/// A window of the whole screen, pictured and encoded, as base64 over the socket.
fn captures(socket: &Path, count: usize) -> Outcome<Figure> {
    let windows: serde_json::Value = serde_json::from_str(&call(socket, WINDOWS)?)?;
    let id = windows.pointer("/windows/_0/0/window_id").ok_or("the window is not there")?;
    let request = format!(
        r#"{{"captureWindow":{{"_0":{{"appIdentifier":"","windowId":{id},"visualizerMode":{{"screenshotFlash":{{}}}},"scale":{{"native":{{}}}}}}}}}}"#
    );
    call(socket, &request)?;
    let started = Instant::now();
    for _ in 0..count {
        call(socket, &request)?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    Ok(Figure { more_is_better: true, ..Figure::new("bridge, window of 1920x1080 as PNG (at least 10)", "1/s", rate) })
}

/// Processor time of all threads of a process so far, seconds.
fn cpu(pid: u32) -> Outcome<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// A virtual X server with a window that fills it.
struct Screen {
    display: String,
    _server: Ending,
    _window: Ending,
}

impl Screen {
    fn start() -> Outcome<Self> {
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", "1920x1080x24", "-nolisten", "tcp", "-noreset"]);
        let mut server = server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut number = String::new();
        let pipe = server.stdout.take().ok_or("no pipe")?;
        let server = Ending(server);
        BufReader::new(pipe).read_line(&mut number)?;
        let display = format!(":{}", number.trim());
        let mut window = Command::new("xmessage");
        window.args(["-name", "bench", "-title", "bench", "-geometry", "1920x1080+0+0", &"some text ".repeat(2_000)]);
        let window = Ending(window.env("DISPLAY", &display).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let started = Instant::now();
        loop {
            let look = Command::new("xwininfo").args(["-name", "bench"]).env("DISPLAY", &display).output()?;
            if String::from_utf8_lossy(&look.stdout).contains("IsViewable") {
                return Ok(Self { display, _server: server, _window: window });
            }
            if started.elapsed() > START_DEADLINE {
                return Err("no window came up".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
