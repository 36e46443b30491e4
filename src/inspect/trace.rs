//! `mac-debug trace`: stands between a client and a gateway, passes every byte on as it is, and writes down what the
//! frames say, without their secrets (`protocol::redact`). Whoever connects here is to the gateway what it would be there,
//! and proves itself as there: nothing is added to a connection and nothing is kept of its credentials.

use super::InspectError;
use crate::client::{Endpoint, reach};
use crate::limits;
use crate::protocol::redact::redact;
use crate::sys::clock;
use crate::sys::wake::Wake;
use crate::transport::accept::Acceptor;
use crate::transport::stream::Stream;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// From the client to the gateway.
pub const TO_GATEWAY: &str = "toGateway";
/// From the gateway to the client.
pub const TO_CLIENT: &str = "toClient";

/// The recording: JSON lines `{"ts","connection","dir","frame"}`.
struct Recorder(Mutex<Written>);

struct Written {
    file: File,
    bytes: u64,
    is_full: bool,
}

impl Recorder {
    fn write(&self, connection: usize, direction: &str, frame: &Value) {
        let line = json!({"ts": clock::wall_ms(), "connection": connection, "dir": direction, "frame": frame});
        let line = format!("{line}\n");
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_full {
            return;
        }
        written.bytes += line.len() as u64;
        written.is_full = written.bytes > limits::TRACE_FILE_BYTES || written.file.write_all(line.as_bytes()).is_err();
        if written.is_full {
            crate::log!("trace", "the recording ends here: it is full, or the disk is; connections go on");
        }
    }
}

/// A relay that stands ready.
pub struct Trace {
    listener: TcpListener,
    gateway: Endpoint,
    recorder: Arc<Recorder>,
}

impl Trace {
    /// Listens on this loopback port (0 = a free one) and makes the recording, which must not be there yet.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(gateway: Endpoint, port: u16, out: &Path) -> Result<Self, InspectError> {
        let failed = |what: String, error: io::Error| InspectError::App(format!("{what}: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| failed(format!("port {port} cannot be listened on"), error))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
        let file = file.map_err(|error| failed(format!("{} cannot be made", out.display()), error))?;
        let recorder = Recorder(Mutex::new(Written { file, bytes: 0, is_full: false }));
        Ok(Self { listener, gateway, recorder: Arc::new(recorder) })
    }

    /// Where clients connect to instead.
    ///
    /// # Errors
    /// The listener is no socket any more.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("ws://{}", self.listener.local_addr()?))
    }

    /// Relays until `stop` is fired.
    ///
    /// # Errors
    /// The listener is no socket any more.
    pub fn run(self, stop: &Wake) -> io::Result<()> {
        let mut acceptor = Acceptor::new("trace", &self.listener)?;
        let (open, mut number) = (Arc::new(AtomicUsize::new(0)), 0);
        while let Some(client) = acceptor.next(stop) {
            if open.fetch_add(1, Ordering::SeqCst) >= limits::TRACE_CONNECTIONS {
                open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            number += 1;
            let (place, gateway, recorder) = (Arc::clone(&open), self.gateway.clone(), Arc::clone(&self.recorder));
            let work = move || {
                relay(client, &gateway, &recorder, number);
                place.fetch_sub(1, Ordering::SeqCst);
            };
            if let Err(error) = thread::Builder::new().name("relay".into()).spawn(work) {
                open.fetch_sub(1, Ordering::SeqCst);
                crate::log!("trace", "no thread for a connection: {error}");
            }
        }
        Ok(())
    }
}

/// One connection from its first byte to its last.
fn relay(client: Stream, gateway: &Endpoint, recorder: &Recorder, number: usize) {
    let gateway = match reach(gateway) {
        Ok(gateway) => gateway,
        Err(error) => {
            crate::log!("trace", "{error}");
            return recorder.write(number, TO_CLIENT, &json!({"failed": error.to_string()}));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(&gateway, &client, &mut Reader::new(recorder, number, TO_CLIENT)));
        pass(&client, &gateway, &mut Reader::new(recorder, number, TO_GATEWAY));
    });
}

/// Passes bytes on in one direction until it ends.
fn pass(from: &Stream, to: &Stream, reader: &mut Reader<'_>) {
    let mut buffer = vec![0; limits::PIPE_BYTES];
    while let Ok(count @ 1..) = from.read_now(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        // Written down first: what an answer answers stands before it.
        reader.read(bytes);
        if to.write_until(bytes, Instant::now() + limits::TRACE_STALL).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write);
    from.shutdown(Shutdown::Read);
}

/// Understands one direction of a connection as it passes by; what it does not understand passes all the same.
struct Reader<'a> {
    recorder: &'a Recorder,
    connection: usize,
    direction: &'static str,
    /// What has come and is no whole head or frame yet.
    bytes: Vec<u8>,
    /// The pieces of a message.
    message: Vec<u8>,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    /// The HTTP head.
    Head,
    Frames,
    /// Not looked at any more.
    Over,
}

impl<'a> Reader<'a> {
    fn new(recorder: &'a Recorder, connection: usize, direction: &'static str) -> Self {
        Self { recorder, connection, direction, bytes: Vec::new(), message: Vec::new(), stage: Stage::Head }
    }

    fn write(&self, frame: &Value) {
        self.recorder.write(self.connection, self.direction, frame);
    }

    fn read(&mut self, bytes: &[u8]) {
        if self.stage == Stage::Over {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if self.stage == Stage::Head {
            self.head();
        }
        while self.stage == Stage::Frames && self.frame() {}
        if self.bytes.len() > limits::FRAME_BYTES + limits::PIPE_BYTES || self.message.len() > limits::FRAME_BYTES {
            self.give_up("a message is too large to be written down");
        }
    }

    fn give_up(&mut self, why: &str) {
        self.write(&json!({"notUnderstood": why}));
        self.stage = Stage::Over;
        (self.bytes, self.message) = (Vec::new(), Vec::new());
    }

    /// Only its first line: headers may have secrets in them.
    fn head(&mut self) {
        let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            if self.bytes.len() > limits::HTTP_HEAD_BYTES {
                self.give_up("this is no HTTP");
            }
            return;
        };
        let rest = self.bytes.split_off(end + 4);
        let head = String::from_utf8_lossy(&std::mem::replace(&mut self.bytes, rest)).into_owned();
        let line = head.lines().next().unwrap_or_default();
        // A query is where secrets were put once (A32).
        let line = line.split_once('?').map_or(line, |(before, _)| before);
        self.write(&json!({"http": line}));
        let is_upgraded = self.direction == TO_GATEWAY || line.split(' ').nth(1) == Some("101");
        self.stage = if is_upgraded { Stage::Frames } else { Stage::Over };
    }

    /// Takes one frame; false when there is no whole one.
    fn frame(&mut self) -> bool {
        let mut cursor = Cursor::new(self.bytes.as_slice());
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(error) => {
                self.give_up(&error.to_string());
                return false;
            }
        };
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let Some(end) = usize::try_from(length).ok().and_then(|length| start.checked_add(length)) else {
            self.give_up("a frame is too large");
            return false;
        };
        let Some(payload) = self.bytes.get(start..end) else { return false };
        let mask = header.mask.unwrap_or_default();
        let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.bytes.drain(..end);
        match header.opcode {
            _ if header.rsv1 => self.give_up("frames are compressed"),
            OpCode::Data(Data::Text | Data::Continue) => {
                self.message.extend_from_slice(&payload);
                if header.is_final {
                    let message = std::mem::take(&mut self.message);
                    self.message(&message);
                }
            }
            OpCode::Data(_) => self.write(&json!({"binaryBytes": payload.len()})),
            OpCode::Control(Control::Close) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).map(|reason| String::from_utf8_lossy(reason).into_owned());
                self.write(&json!({"close": code, "reason": reason}));
            }
            OpCode::Control(_) => {}
        }
        true
    }

    fn message(&self, text: &[u8]) {
        match serde_json::from_slice::<Value>(text) {
            Ok(mut frame) => {
                redact(&mut frame);
                self.write(&frame);
            }
            Err(_) => self.write(&json!({"notJsonBytes": text.len()})),
        }
    }
}
