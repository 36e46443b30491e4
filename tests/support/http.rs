//! Raw HTTP: exact bytes out, status and headers back.

use super::DEADLINE;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A byte stream over TCP or a Unix socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::Tcp(stream)
    }

    pub fn unix(path: &Path) -> Self {
        Self::Unix(UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Lets the next read wait until `deadline`.
    pub fn read_until(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(left)),
            Self::Unix(stream) => stream.set_read_timeout(Some(left)),
        }
        .unwrap();
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    /// That the peer has gone shows in what is read: its last words must not be lost to an answer that cannot be sent.
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        };
        written.or_else(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(buffer.len()),
            _ => Err(error),
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An HTTP answer. The body is what came until the end of the stream (never past an upgrade).
#[derive(Debug)]
pub struct HttpAnswer {
    /// 101, 400, 403 …; 0 when the peer closed without an answer.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes after the head; for 101 those that were already there.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A WebSocket upgrade whose every header a test can choose.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Request target.
    pub path: String,
    /// `None` leaves the header out.
    pub host: Option<String>,
    /// `Sec-WebSocket-Key`.
    pub key: String,
    /// More headers, in order.
    pub headers: Vec<(String, String)>,
}

impl Upgrade {
    /// What a correct client on this machine sends.
    pub fn to(port: u16) -> Self {
        Self {
            path: "/".to_owned(),
            host: Some(format!("127.0.0.1:{port}")),
            key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
            headers: Vec::new(),
        }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another `Host`.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\n", self.path);
        if let Some(host) = &self.host {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        text.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
        text.push_str(&format!("Sec-WebSocket-Key: {}\r\n", self.key));
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Sends `bytes` over a new TCP connection and reads the answer to its end.
pub fn send_raw(port: u16, bytes: &[u8]) -> HttpAnswer {
    let mut stream = Stream::tcp(port);
    // The peer may refuse, and close, before it has read everything.
    drop(stream.write_all(bytes));
    read_answer(&mut stream)
}

/// Reads one HTTP answer. After 101 the stream stands behind the head.
pub fn read_answer(stream: &mut Stream) -> HttpAnswer {
    let deadline = Instant::now() + DEADLINE;
    let mut bytes = Vec::new();
    let mut answer = HttpAnswer { status: 0, headers: Vec::new(), body: Vec::new() };
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.split("\r\n");
            answer.status = lines.next().unwrap().split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap();
            answer.headers = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            answer.body = bytes.split_off(end + 4);
            break;
        }
        if !read_more(stream, &mut bytes, deadline) {
            answer.body = bytes;
            return answer;
        }
    }
    if answer.status != 101 {
        while read_more(stream, &mut answer.body, deadline) {}
    }
    answer
}

/// Appends what comes next; `false` at the end of the stream. Panics when nothing comes at all.
fn read_more(stream: &mut Stream, bytes: &mut Vec<u8>, deadline: Instant) -> bool {
    let mut chunk = [0; 4096];
    stream.read_until(deadline);
    match stream.read(&mut chunk) {
        Ok(0) => false,
        Ok(count) => {
            bytes.extend_from_slice(&chunk[..count]);
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
        Err(error) => panic!("no end of the HTTP answer: {error}, so far {:?}", String::from_utf8_lossy(bytes)),
    }
}
