//! What is on its way to one peer. Any thread may push; nobody ever waits for a slow reader.
//!
//! A push sends at once what the kernel takes. The rest is the backlog, which a drainer thread
//! empties; the thread exists only as long as there is a backlog. Source: DESIGN "Threads and memory".

use super::stream::Stream;
use crate::limits;
use crate::sys::poll::{self, Interest};
use crate::sys::socket;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use tungstenite::Bytes;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role};

/// Backlog bytes of all peers of this process.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// What a frame is, which decides what happens when there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Must arrive: no room means that the peer is closed as a slow consumer.
    Must,
    /// May be dropped; a numbered one leaves a hole that the peer can see.
    Droppable,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Sent or queued.
    Accepted,
    /// No room for a droppable frame.
    Dropped,
    /// The peer is closing or gone.
    Closed,
}

/// The sending half of one WebSocket peer.
pub struct Outbox {
    stream: Arc<Stream>,
    role: Role,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    backlog: VecDeque<Vec<u8>>,
    /// Bytes of the first frame that the kernel has already taken.
    sent_of_first: usize,
    /// Bytes of the backlog.
    bytes: usize,
    /// A drainer thread is at work.
    draining: bool,
    /// A close frame is queued or the connection is broken: nothing else goes out.
    closing: bool,
    /// The reading thread has seen the end.
    reader_done: bool,
    /// Number of the last broadcast event.
    seq: u64,
    /// Droppable frames that found no room.
    dropped: u64,
}

impl Outbox {
    /// The sending half of `stream`. `role` decides whether frames are masked (RFC 6455 §5.3).
    pub fn new(stream: Arc<Stream>, role: Role) -> Arc<Self> {
        Arc::new(Self { stream, role, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Sends a text frame.
    pub fn text(self: &Arc<Self>, text: String, kind: Kind) -> Pushed {
        let frame = self.encode(text.into(), OpCode::Data(Data::Text));
        self.push(&mut self.state(), frame, kind)
    }

    /// Sends a broadcast event; `make` writes the text for this peer's next number.
    pub fn numbered(self: &Arc<Self>, make: impl FnOnce(u64) -> String) -> Pushed {
        let mut state = self.state();
        state.seq += 1;
        let frame = self.encode(make(state.seq).into(), OpCode::Data(Data::Text));
        self.push(&mut state, frame, Kind::Droppable)
    }

    /// Sends a ping.
    pub fn ping(self: &Arc<Self>) -> Pushed {
        let frame = self.format(Frame::ping(Bytes::new()));
        self.push(&mut self.state(), frame, Kind::Must)
    }

    /// Takes bytes that tungstenite has already framed (pong and close replies): whole, never
    /// waiting, dropped once we are closing.
    pub(super) fn framed(self: &Arc<Self>, bytes: &[u8]) {
        self.push(&mut self.state(), bytes.to_vec(), Kind::Must);
    }

    /// Closes from any thread: queues the close frame, then drains, shuts down and cuts in a
    /// thread of its own, so that the caller never waits.
    pub fn close(self: &Arc<Self>, code: u16, reason: &str) {
        if !self.begin_close(Some((code, reason))) {
            return;
        }
        self.finish_in_background();
    }

    /// Lets the backlog out, ends our direction, waits for the reader, cuts; never on the caller's time.
    fn finish_in_background(self: &Arc<Self>) {
        let outbox = Arc::clone(self);
        let finish = move || {
            outbox.drain_and_end();
            outbox.wait_reader();
            outbox.stream.shutdown(Shutdown::Both);
        };
        if thread::Builder::new().name("closer".into()).stack_size(limits::PEER_STACK_BYTES).spawn(finish).is_err() {
            self.stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether a close has begun or the connection is broken.
    pub fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Backlog in bytes.
    pub fn backlog_bytes(&self) -> usize {
        self.state().bytes
    }

    /// Droppable frames that found no room so far.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Queues the close frame and refuses everything after it; false if that had been done before.
    /// No code means that the peer closed first and got its reply already.
    pub(super) fn begin_close(self: &Arc<Self>, frame: Option<(u16, &str)>) -> bool {
        let mut state = self.state();
        self.begin_close_locked(&mut state, frame)
    }

    fn begin_close_locked(self: &Arc<Self>, state: &mut State, frame: Option<(u16, &str)>) -> bool {
        if state.closing {
            return false;
        }
        if let Some((code, reason)) = frame {
            let reason = crate::protocol::connect::close_reason(reason).to_owned();
            let close = Frame::close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }));
            let bytes = self.format(close);
            self.queue_or_send(state, bytes);
        }
        state.closing = true;
        true
    }

    /// Waits until the backlog is out (bounded), then ends the writing direction.
    pub(super) fn drain_and_end(&self) {
        let deadline = Instant::now() + limits::CLOSE_GRACE;
        let mut state = self.state();
        while !state.backlog.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.stream.shutdown(Shutdown::Write);
    }

    /// The reading thread says that it has seen the end.
    pub(super) fn reader_done(&self) {
        let mut state = self.state();
        state.reader_done = true;
        state.closing = true;
        self.changed.notify_all();
    }

    fn wait_reader(&self) {
        let deadline = Instant::now() + limits::CLOSE_GRACE;
        let mut state = self.state();
        while !state.reader_done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode(&self, payload: Bytes, opcode: OpCode) -> Vec<u8> {
        self.format(Frame::message(payload, opcode, true))
    }

    fn format(&self, mut frame: Frame) -> Vec<u8> {
        if self.role == Role::Client {
            frame.header_mut().mask = Some(crate::identity::random::public_bytes());
        }
        let mut bytes = Vec::with_capacity(frame.len());
        // Writing into a vector cannot fail.
        let _ = frame.format(&mut bytes);
        bytes
    }

    fn push(self: &Arc<Self>, state: &mut State, frame: Vec<u8>, kind: Kind) -> Pushed {
        if state.closing {
            return Pushed::Closed;
        }
        let waits = !state.backlog.is_empty();
        let room = state.bytes + frame.len() <= limits::OUTBOX_BYTES
            && TOTAL.load(Ordering::Relaxed) + frame.len() <= limits::OUTBOX_TOTAL_BYTES;
        if waits && !room {
            if kind == Kind::Droppable {
                state.dropped += 1;
                return Pushed::Dropped;
            }
            self.give_up_on_slow_peer(state);
            return Pushed::Closed;
        }
        self.queue_or_send(state, frame);
        if state.closing { Pushed::Closed } else { Pushed::Accepted }
    }

    /// Forgets what the peer has not begun to receive, queues the close frame after the rest, and
    /// cuts the connection when that has not helped.
    fn give_up_on_slow_peer(self: &Arc<Self>, state: &mut State) {
        let begun = usize::from(state.sent_of_first > 0);
        let kept: usize = state.backlog.iter().take(begun).map(Vec::len).sum();
        state.backlog.truncate(begun);
        let freed = state.bytes.saturating_sub(kept.saturating_sub(state.sent_of_first));
        state.bytes -= freed;
        TOTAL.fetch_sub(freed, Ordering::Relaxed);
        self.begin_close_locked(state, Some((1008, "slow consumer")));
        self.finish_in_background();
    }

    fn queue_or_send(self: &Arc<Self>, state: &mut State, frame: Vec<u8>) {
        let mut sent = 0;
        if state.backlog.is_empty() {
            match socket::send_now(self.stream.as_fd(), &frame) {
                Ok(count) if count == frame.len() => return,
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.broken(state);
                    return;
                }
            }
            state.sent_of_first = sent;
        }
        let left = frame.len() - sent;
        state.bytes += left;
        TOTAL.fetch_add(left, Ordering::Relaxed);
        state.backlog.push_back(frame);
        if !state.draining {
            let outbox = Arc::clone(self);
            let drain = move || outbox.drain();
            let drainer = thread::Builder::new().name("drainer".into()).stack_size(limits::PEER_STACK_BYTES);
            state.draining = drainer.spawn(drain).is_ok();
            if !state.draining {
                self.broken(state);
            }
        }
    }

    /// Empties the backlog and ends. No progress for the ping interval: the peer is cut.
    fn drain(&self) {
        loop {
            let deadline = Instant::now() + limits::PING_INTERVAL;
            let writable = poll::wait_one(self.stream.as_fd(), Interest::Writable, Some(deadline));
            let mut state = self.state();
            if !matches!(writable, Ok(true)) || !self.send_backlog(&mut state) {
                self.broken(&mut state);
            }
            if state.backlog.is_empty() {
                state.draining = false;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Sends what the kernel takes; false when the connection is broken.
    fn send_backlog(&self, state: &mut State) -> bool {
        while let Some(first) = state.backlog.front() {
            let rest = first.get(state.sent_of_first..).unwrap_or_default();
            match socket::send_now(self.stream.as_fd(), rest) {
                Ok(sent) => {
                    let done = sent == rest.len();
                    state.bytes = state.bytes.saturating_sub(sent);
                    TOTAL.fetch_sub(sent, Ordering::Relaxed);
                    if done {
                        state.backlog.pop_front();
                        state.sent_of_first = 0;
                    } else {
                        state.sent_of_first += sent;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn broken(&self, state: &mut State) {
        TOTAL.fetch_sub(state.bytes, Ordering::Relaxed);
        state.bytes = 0;
        state.backlog.clear();
        state.sent_of_first = 0;
        state.closing = true;
        self.stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        TOTAL.fetch_sub(state.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Outbox::new(Arc::new(Stream::unix(ours)), Role::Server), theirs)
    }

    #[test]
    fn frames_arrive_whole_and_in_order_past_a_full_kernel_buffer() {
        let (outbox, mut theirs) = pair();
        for number in 0..200_u32 {
            assert_eq!(outbox.text(format!("{number:05}{}", "x".repeat(9_995)), Kind::Must), Pushed::Accepted);
        }
        assert!(outbox.backlog_bytes() > 0);
        let mut all = vec![0; 200 * 10_004];
        theirs.read_exact(&mut all).unwrap();
        for (number, frame) in all.chunks(10_004).enumerate() {
            assert_eq!(&frame[4..9], format!("{number:05}").as_bytes());
        }
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        while outbox.backlog_bytes() > 0 && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(outbox.backlog_bytes(), 0);
    }

    #[test]
    fn events_are_dropped_and_responses_close_when_there_is_no_room() {
        let (outbox, theirs) = pair();
        let big = "x".repeat(16 * 1024 * 1024);
        let mut accepted = 0;
        while outbox.numbered(|_| big.clone()) == Pushed::Accepted {
            accepted += 1;
            assert!(accepted < 10);
        }
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(outbox.text(big, Kind::Must), Pushed::Closed);
        assert!(outbox.is_closing());
        drop(theirs);
    }

    #[test]
    fn numbers_count_from_one_without_holes() {
        let (outbox, mut theirs) = pair();
        for _ in 0..3 {
            outbox.numbered(|seq| format!("{seq}"));
        }
        let mut all = [0; 9];
        theirs.read_exact(&mut all).unwrap();
        assert_eq!([all[2], all[5], all[8]], *b"123");
    }
}
