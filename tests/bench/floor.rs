//! What the machine needs without us: the same bytes over the same kinds of sockets, through as many threads.

use crate::Outcome;
use crate::gateway::{Sizes, discard};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// The command that does nothing.
pub const TRUE: &str = if cfg!(target_os = "macos") { "/usr/bin/true" } else { "/bin/true" };

/// Four hops: caller → TCP → middle → Unix socket → end, and back; the middle has a thread a direction.
pub struct Relay {
    caller: TcpStream,
    sizes: Sizes,
    buffer: Vec<u8>,
}

impl Relay {
    /// Starts the threads; they end when the caller's stream is dropped.
    pub fn start(sizes: Sizes) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let caller = TcpStream::connect(listener.local_addr()?)?;
        let (middle, _) = listener.accept()?;
        for stream in [&caller, &middle] {
            stream.set_nodelay(true)?;
        }
        let (middle_to_end, end) = UnixStream::pair()?;
        forward(middle.try_clone()?, middle_to_end.try_clone()?, sizes.request, sizes.request);
        forward(end.try_clone()?, end, sizes.request, sizes.answer);
        forward(middle_to_end, middle, sizes.answer, sizes.answer);
        Ok(Self { caller, sizes, buffer: Vec::new() })
    }

    /// One request out, one answer back.
    pub fn round_trip(&mut self) -> Outcome<()> {
        self.pipeline(1, 1)
    }

    /// `count` round trips with `in_flight` under way.
    pub fn pipeline(&mut self, count: usize, in_flight: usize) -> Outcome<()> {
        let request = vec![b'x'; self.sizes.request];
        for _ in 0..in_flight.min(count) {
            self.caller.write_all(&request)?;
        }
        for answered in 1..=count {
            discard(&mut self.caller, &mut self.buffer, self.sizes.answer)?;
            if answered + in_flight <= count {
                self.caller.write_all(&request)?;
            }
        }
        Ok(())
    }
}

/// A thread that answers each `input` bytes of one stream with `output` bytes on the other, until either ends.
fn forward(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, input: usize, output: usize) {
    thread::spawn(move || {
        let mut buffer = Vec::new();
        let message = vec![b'x'; output];
        while discard(&mut from, &mut buffer, input).is_ok() && to.write_all(&message).is_ok() {}
    });
}

/// A relay, one line over a Unix socket, and one process: the hops of `system.run`.
pub struct Runner {
    relay: Relay,
    socket: PathBuf,
}

impl Runner {
    /// Starts the relay and the socket's server.
    pub fn start(sizes: Sizes) -> Outcome<Self> {
        let socket = PathBuf::from(format!("/tmp/openclaw-bench-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&socket)?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stream.is_err() || stream.is_ok_and(|stream| serve(stream).is_err()) {
                    break;
                }
            }
        });
        Ok(Self { relay: Relay::start(sizes)?, socket })
    }

    /// One relayed call whose end asks the socket for one process.
    pub fn run(&mut self) -> Outcome<()> {
        self.relay.round_trip()?;
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(&line(self.relay.sizes.request))?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        if answer.ends_with('\n') { Ok(()) } else { Err("the floor's runner gave no answer".into()) }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// One line in, one process, one line out.
fn serve(stream: UnixStream) -> std::io::Result<()> {
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    let output = Command::new(TRUE).stdin(Stdio::null()).output()?;
    (&stream).write_all(&line(request.len() + output.stdout.len()))
}

fn line(bytes: usize) -> Vec<u8> {
    let mut line = vec![b'x'; bytes.saturating_sub(1)];
    line.push(b'\n');
    line
}
