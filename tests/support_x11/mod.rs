//! A virtual X server, programs on it, and a client of our own process that speaks the protocol itself.
#![allow(dead_code)]

pub mod png;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until `condition` gives something; panics with `what` after the deadline.
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program that ends with this.
pub struct Program {
    pub child: Child,
    output: Arc<Mutex<String>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let (said, mut pipe) = (Arc::clone(&output), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                said.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { child, output }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Its exit code, when it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A virtual X server of our own.
pub struct Display {
    pub server: Program,
    pub name: String,
}

impl Display {
    /// None, with a word about it, where Xvfb is not installed. `screen` as `1280x800x24`.
    pub fn start(screen: &str) -> Option<Self> {
        if Command::new("Xvfb").arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "Xvfb is not installed (Debian: xvfb)");
            eprintln!("SKIPPED: Xvfb is not installed (Debian: xvfb), so X11 was not tested");
            return None;
        }
        let arguments = ["-displayfd", "1", "-screen", "0", screen, "-nolisten", "tcp", "-noreset"];
        let server = Program::start(Command::new("Xvfb").args(arguments));
        let number = wait_until("the X server", || server.said().trim().parse::<u32>().ok());
        Some(Self { server, name: format!(":{number}") })
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("DISPLAY", &self.name).env("LC_ALL", "C.UTF-8").env_remove("XAUTHORITY");
        command
    }

    pub fn program(&self, program: &str, arguments: &[&str]) -> Program {
        Program::start(&mut self.command(program, arguments))
    }

    /// Runs a tool to its end and gives what it prints.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A window manager that runs.
    pub fn manager(&self) -> Program {
        let manager = self.program("openbox", &["--sm-disable"]);
        wait_until("the window manager", || {
            self.tool("xprop", &["-root", "_NET_SUPPORTING_WM_CHECK"]).contains('#').then_some(())
        });
        manager
    }
}

/// A client of this very process, as AppKit's connection is one: it speaks the protocol itself and so shares nothing
/// with the code under test.
pub struct OwnClient {
    socket: UnixStream,
    root: u32,
    base: u32,
    windows: u32,
}

impl OwnClient {
    pub fn connect(display: &Display) -> Self {
        let mut socket = UnixStream::connect(format!("/tmp/.X11-unix/X{}", &display.name[1..])).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut head = [0; 8];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 1, "the X server does not let us in");
        let mut setup = vec![0; 4 * usize::from(u16::from_le_bytes([head[6], head[7]]))];
        socket.read_exact(&mut setup).unwrap();
        let number = |at: usize| u32::from_le_bytes(setup[at..at + 4].try_into().unwrap());
        let vendor = usize::from(u16::from_le_bytes([setup[16], setup[17]])).next_multiple_of(4);
        Self { root: number(32 + vendor + 8 * usize::from(setup[21])), base: number(4), windows: 0, socket }
    }

    fn request(&mut self, opcode: u8, detail: u8, words: &[u32]) {
        let length = u16::try_from(words.len() + 1).unwrap().to_le_bytes();
        let mut bytes = vec![opcode, detail, length[0], length[1]];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.socket.write_all(&bytes).unwrap();
    }

    /// A white window that takes keys and buttons. `free`: no window manager is asked.
    pub fn window(&mut self, [x, y, width, height]: [u16; 4], free: bool) -> u32 {
        const INPUT_EVENTS: u32 = 0b100_1111; // keys, buttons, motion
        self.windows += 1;
        let window = self.base + self.windows;
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let mask = 1 << 1 | 1 << 9 | 1 << 11;
        let values = [0xff_ffff, u32::from(free), INPUT_EVENTS];
        let place = [pair(x, y), pair(width, height), pair(0, 1), 0, mask];
        self.request(1, 0, &[&[window, self.root][..], &place, &values].concat());
        // WM_NORMAL_HINTS: the place is the person's wish.
        let hints = [&[1_u32, u32::from(x), u32::from(y)][..], &[0; 15]].concat();
        self.request(18, 0, &[&[window, 40, 41, 32, 18][..], &hints].concat());
        self.request(8, 0, &[window]);
        self.settle();
        window
    }

    /// Takes the keyboard, as a prompt does.
    pub fn focus(&mut self, window: u32) {
        self.request(42, 2, &[window, 0]);
        self.settle();
    }

    pub fn raise(&mut self, window: u32) {
        self.request(12, 0, &[window, 1 << 6, 0]);
        self.settle();
    }

    /// Waits until the server has done all of it; the kinds of input events that came until then.
    pub fn settle(&mut self) -> Vec<u8> {
        self.request(43, 0, &[]); // GetInputFocus, for its answer
        let mut events = Vec::new();
        loop {
            let mut packet = [0; 32];
            self.socket.read_exact(&mut packet).unwrap();
            match packet[0] & 0x7f {
                1 => return events,
                0 => panic!("the X server refused request {} of the test: error {}", packet[10], packet[1]),
                kind @ 2..=6 => events.push(kind),
                _ => {}
            }
        }
    }
}
