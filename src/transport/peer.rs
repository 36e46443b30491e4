//! The reading half of one WebSocket peer, owned by its thread.

use super::outbox::Outbox;
use super::stream::Stream;
use crate::limits;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message, Utf8Bytes};

/// Why no more messages come.
#[derive(Debug)]
pub enum End {
    /// The peer closed, with its code and reason where it gave any.
    Closed(Option<(u16, String)>),
    /// A message over the limit: ours to close with 1009.
    TooLarge,
    /// Not WebSocket as we speak it: ours to close with 1002 or 1003.
    Protocol(&'static str),
    /// The deadline of [`Peer::set_deadline`] passed.
    Deadline,
    /// No answer to a ping.
    Silent,
    /// The connection broke.
    Broken,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(None) => f.write_str("closed by the peer"),
            Self::Closed(Some((code, reason))) => write!(f, "closed by the peer: {code} {reason}"),
            Self::TooLarge => f.write_str("message too large"),
            Self::Protocol(what) => f.write_str(what),
            Self::Deadline => f.write_str("too slow"),
            Self::Silent => f.write_str("no answer to a ping"),
            Self::Broken => f.write_str("connection broken"),
        }
    }
}

/// What tungstenite reads from and writes to: its writes (pong and close replies) enter the outbox
/// whole, so that they never wait and never interleave with ours.
struct Io {
    stream: Arc<Stream>,
    outbox: Arc<Outbox>,
    deadline: Option<Instant>,
    /// Whether anything was read since the last look.
    heard: bool,
}

impl Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.deadline {
            Some(deadline) => self.stream.read_until(buffer, deadline)?,
            None => self.stream.read_now(buffer)?,
        };
        self.heard = true;
        Ok(count)
    }
}

impl Write for Io {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.framed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connected WebSocket.
pub struct Peer {
    socket: WebSocket<Io>,
    outbox: Arc<Outbox>,
    /// A ping of ours has not been answered yet.
    pinged: bool,
    /// What [`Peer::gather`] has taken in.
    gathered: VecDeque<Result<Utf8Bytes, End>>,
}

impl Peer {
    /// Takes over an upgraded stream; `early` are bytes that came with the upgrade. Until
    /// [`Peer::logged_in`], messages may have [`limits::PRE_AUTH_FRAME_BYTES`].
    pub fn new(stream: Arc<Stream>, early: Vec<u8>, role: Role) -> Self {
        let outbox = Outbox::new(Arc::clone(&stream), role);
        let config = WebSocketConfig::default()
            .read_buffer_size(limits::WS_READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(limits::PRE_AUTH_FRAME_BYTES))
            .max_frame_size(Some(limits::PRE_AUTH_FRAME_BYTES));
        let io = Io { stream, outbox: Arc::clone(&outbox), deadline: None, heard: false };
        let socket = WebSocket::from_partially_read(io, early, role, Some(config));
        Self { socket, outbox, pinged: false, gathered: VecDeque::new() }
    }

    /// The sending half.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Every read until [`Peer::logged_in`] ends at this moment, however slowly bytes trickle.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.socket.get_mut().deadline = Some(deadline);
    }

    /// After login: the large limits, and pings instead of the deadline.
    pub fn logged_in(&mut self) {
        self.socket.set_config(|config| {
            config.max_message_size = Some(limits::FRAME_BYTES);
            config.max_frame_size = Some(limits::FRAME_BYTES);
        });
        let io = self.socket.get_mut();
        io.deadline = None;
        io.stream.set_read_timeout(Some(limits::PING_INTERVAL));
    }

    /// The next text message.
    ///
    /// # Errors
    /// Why there is none; the caller then calls [`Peer::close`] with a code that fits, or drops.
    pub fn receive(&mut self) -> Result<Utf8Bytes, End> {
        match self.gathered.pop_front() {
            Some(next) => next,
            None => self.receive_next(),
        }
    }

    /// Takes in the messages that have arrived already, without waiting, for [`Peer::receive`] to
    /// return later; says how many there are. It stops after more than `most`, or a frame's worth of
    /// bytes; what else has come stays in the kernel. For use before login.
    pub fn gather(&mut self, most: usize) -> usize {
        let deadline = self.socket.get_mut().deadline.replace(Instant::now());
        let mut bytes = 0;
        while self.gathered.len() <= most && bytes <= limits::PRE_AUTH_FRAME_BYTES {
            match self.receive_next() {
                Err(End::Deadline) => break,
                Ok(text) => {
                    bytes += text.len();
                    self.gathered.push_back(Ok(text));
                }
                Err(end) => {
                    self.gathered.push_back(Err(end));
                    break;
                }
            }
        }
        self.socket.get_mut().deadline = deadline;
        self.gathered.len()
    }

    fn receive_next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            let result = self.socket.read();
            if std::mem::take(&mut self.socket.get_mut().heard) {
                self.pinged = false;
            }
            match result {
                // Whatever comes after our close frame is not acted upon.
                Ok(_) if self.outbox.is_closing() => {}
                Ok(Message::Text(text)) => return Ok(text),
                Ok(Message::Binary(_)) => return Err(End::Protocol("text frames only")),
                Ok(Message::Close(frame)) => {
                    // Sends the reply that tungstenite has prepared.
                    let _ = self.socket.flush();
                    return Err(End::Closed(frame.map(|frame| (frame.code.into(), frame.reason.to_string()))));
                }
                Ok(Message::Ping(_)) => {
                    let _ = self.socket.flush();
                }
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if is_timeout(&error) => self.on_silence()?,
                Err(Error::Capacity(_)) => return Err(End::TooLarge),
                Err(Error::Utf8(_)) => return Err(End::Protocol("text is not UTF-8")),
                Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Err(End::Closed(None));
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Err(End::Closed(None)),
                Err(Error::Protocol(_)) => return Err(End::Protocol("WebSocket protocol error")),
                Err(_) => return Err(End::Broken),
            }
        }
    }

    /// A read ran out of time: before login that is the end, afterwards the ping clock.
    fn on_silence(&mut self) -> Result<(), End> {
        if self.socket.get_ref().deadline.is_some() {
            return Err(End::Deadline);
        }
        if self.pinged {
            return Err(End::Silent);
        }
        self.pinged = true;
        self.outbox.ping();
        Ok(())
    }

    /// The one way to end: queue the close frame, let the backlog out, end our direction, read and
    /// discard for a bounded time, cut. A TCP socket closed with unread input would send a reset
    /// that destroys our last frame.
    pub fn close(self, code: u16, reason: &str) {
        self.outbox.begin_close(Some((code, reason)));
        self.finish();
    }

    /// Ends after [`Peer::receive`] said that it is over: with the code that fits.
    pub fn end(self, end: &End) {
        match end {
            End::TooLarge => self.close(1009, ""),
            End::Protocol(what) => self.close(1002, what),
            End::Deadline => self.close(1000, ""),
            End::Closed(_) => {
                self.outbox.begin_close(None);
                self.finish();
            }
            End::Silent | End::Broken => {
                self.outbox.reader_done();
                self.socket.get_ref().stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn finish(self) {
        self.outbox.drain_and_end();
        let stream = &self.socket.get_ref().stream;
        discard(stream);
        self.outbox.reader_done();
        stream.shutdown(Shutdown::Both);
    }
}

/// Reads and throws away until the peer ends its direction, bounded in time and bytes.
pub fn discard(stream: &Stream) {
    let deadline = Instant::now() + limits::CLOSE_GRACE;
    let mut piece = [0_u8; 4096];
    let mut count = 0;
    while count < limits::CLOSE_DRAIN_BYTES {
        match stream.read_until(&mut piece, deadline) {
            Ok(0) | Err(_) => return,
            Ok(more) => count += more,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
