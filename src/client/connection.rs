//! A logged-in connection: one thread reads, any thread calls.

use super::endpoint::Endpoint;
use super::error::{CallError, ConnectError};
use super::handshake::{self, Hello, Watch};
use super::options::ConnectOptions;
use super::pending::Pending;
use crate::identity::random;
use crate::limits;
use crate::protocol::error::WireError;
use crate::protocol::frame::{self, Incoming};
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
use crate::transport::outbox::{Kind, Outbox, Pushed};
use crate::transport::peer::{End, Peer};
use serde::Serialize;
use serde_json::value::RawValue;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Called on the reading thread for each event, in order: it must not wait for anything.
pub type EventHandler = Box<dyn Fn(&Link, &str, Option<&RawValue>) + Send>;

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The gateway's close code; none when the connection broke or we closed it.
    pub code: Option<u16>,
    /// In words.
    pub reason: String,
}

struct Shared {
    outbox: Arc<Outbox>,
    pending: Pending,
    /// Number of the last request; `connect` was 1.
    last_request: AtomicU64,
    hello: Hello,
    over: Wake,
    ended: OnceLock<Ended>,
}

/// A handle to a connection, for as many threads as want one.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

/// The connection itself; dropping it closes.
pub struct Connection(Link);

impl Connection {
    /// Connects and logs in. `on_event` hears every event after `hello-ok`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn open(endpoint: &Endpoint, options: &ConnectOptions, on_event: EventHandler) -> Result<Self, ConnectError> {
        let mut nobody = Watch { limit: limits::CONNECT_DEADLINE, on_step: &mut |_| {} };
        Self::open_watched(endpoint, options, on_event, &mut nobody)
    }

    /// [`Connection::open`], followed step by step.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn open_watched(
        endpoint: &Endpoint,
        options: &ConnectOptions,
        on_event: EventHandler,
        watch: &mut Watch<'_>,
    ) -> Result<Self, ConnectError> {
        let over = Wake::new().map_err(ConnectError::Thread)?;
        let (peer, hello) = handshake::log_in(endpoint, options, watch)?;
        let link = Link(Arc::new(Shared {
            outbox: Arc::clone(peer.outbox()),
            pending: Pending::new(),
            last_request: AtomicU64::new(1),
            hello,
            over,
            ended: OnceLock::new(),
        }));
        let reader = link.clone();
        thread::Builder::new()
            .name("gateway-link".into())
            .stack_size(limits::PEER_STACK_BYTES)
            .spawn(move || read(peer, &reader, &on_event))
            .map_err(ConnectError::Thread)?;
        Ok(Self(link))
    }

    /// A handle to it.
    pub fn link(&self) -> Link {
        self.0.clone()
    }

    /// Closes and waits, at most as long as a close may take, until the gateway knows.
    pub fn close(self) {
        self.0.close(1000, "");
        let deadline = Instant::now() + limits::CLOSE_GRACE;
        let _ = poll::wait_one(self.0.over_fd(), Interest::Readable, Some(deadline));
    }
}

impl Deref for Connection {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.close(1000, "");
    }
}

impl Link {
    /// What the gateway granted.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Calls a method and waits for its answer, at most `timeout`. An answer without payload is
    /// `null`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call<P: Serialize>(&self, method: &str, params: &P, timeout: Duration) -> Result<Box<RawValue>, CallError> {
        let deadline = Instant::now() + timeout.min(limits::INVOKE_TIMEOUT_MAX * 2);
        let id = self.next_id();
        let waiting = self.0.pending.enter(&id)?;
        self.send(&id, method, params)?;
        waiting.wait(deadline)
    }

    /// Sends a request whose answer nobody waits for.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn post<P: Serialize>(&self, method: &str, params: &P) -> Result<(), CallError> {
        self.send(&self.next_id(), method, params)
    }

    fn next_id(&self) -> String {
        // Relaxed: only the number has to be another one.
        format!("{}:{}", self.0.last_request.fetch_add(1, Ordering::Relaxed) + 1, random::uuid())
    }

    fn send<P: Serialize>(&self, id: &str, method: &str, params: &P) -> Result<(), CallError> {
        let text = frame::request(id, method, Some(params));
        if text.len() > limits::FRAME_BYTES {
            return Err(CallError::TooLarge(text.len()));
        }
        match self.0.outbox.text(text, Kind::Must) {
            Pushed::Accepted => Ok(()),
            Pushed::Dropped | Pushed::Closed => {
                Err(CallError::Ended(self.0.pending.ended().unwrap_or_else(|| "closing".to_owned())))
            }
        }
    }

    /// Closes from any thread without waiting.
    pub fn close(&self, code: u16, reason: &str) {
        self.0.outbox.close(code, reason);
    }

    /// Why the connection is over; none as long as it is not.
    pub fn ended(&self) -> Option<&Ended> {
        self.0.ended.get()
    }

    /// Readable once the connection is over.
    pub fn over_fd(&self) -> BorrowedFd<'_> {
        self.0.over.fd()
    }

    /// Everybody who waits learns that it is over; the first reason stays.
    fn end(&self, ended: Ended) {
        self.0.pending.end(&ended.reason);
        let _ = self.0.ended.set(ended);
    }
}

/// Runs however the reading thread ends, even by a panic of the event handler.
struct Finally<'a>(&'a Link);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.end(Ended { code: None, reason: "the reading thread failed".to_owned() });
        self.0.close(1011, "");
        self.0.0.over.fire();
    }
}

fn read(mut peer: Peer, link: &Link, on_event: &EventHandler) {
    let _finally = Finally(link);
    let silence = link.hello().tick_interval * limits::SILENT_TICKS;
    loop {
        // The gateway ticks: silence means that it is gone, whatever TCP says.
        peer.set_deadline(Instant::now() + silence);
        match peer.receive() {
            Ok(text) => dispatch(&text, link, on_event),
            Err(End::Deadline) => {
                link.end(Ended { code: None, reason: "the gateway fell silent".to_owned() });
                return peer.close(4000, "tick timeout");
            }
            Err(end) => {
                let code = match &end {
                    End::Closed(Some((code, _))) => Some(*code),
                    _ => None,
                };
                link.end(Ended { code, reason: end.to_string() });
                return peer.end(&end);
            }
        }
    }
}

fn dispatch(text: &str, link: &Link, on_event: &EventHandler) {
    let Ok(incoming) = serde_json::from_str::<Incoming<'_>>(text) else {
        crate::log!("client", "ignored a frame of the gateway that is not understood ({} bytes)", text.len());
        return;
    };
    match (incoming.kind.as_ref(), incoming.id, incoming.event) {
        ("res", Some(id), _) => {
            let answer = if incoming.ok {
                Ok(incoming.payload.unwrap_or(RawValue::NULL).to_owned())
            } else {
                Err(incoming.error.unwrap_or_else(|| WireError::unavailable("refused without a reason")))
            };
            link.0.pending.answer(&id, answer);
        }
        ("event", _, Some(event)) => on_event(link, &event, incoming.payload),
        _ => {}
    }
}
