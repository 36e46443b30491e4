//! Accepting connections until told to stop. No failure ends it (A118).

use crate::limits;
use crate::log;
use crate::sys::poll::{self, Interest, deadline_in};
use crate::sys::socket;
use crate::sys::wake::Wake;
use crate::transport::stream::Stream;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

/// A listener of either kind.
pub trait Listener: AsFd {
    /// A connection that may have vanished between poll and accept must not hang the loop.
    ///
    /// # Errors
    /// The listener is no socket any more.
    fn never_wait(&self) -> io::Result<()>;

    /// The next connection, blocking from then on.
    ///
    /// # Errors
    /// The kernel's.
    fn take(&self) -> io::Result<Stream>;
}

impl Listener for UnixListener {
    fn never_wait(&self) -> io::Result<()> {
        self.set_nonblocking(true)
    }

    fn take(&self) -> io::Result<Stream> {
        let (stream, _) = self.accept()?;
        // macOS: an accepted socket inherits the listener's non-blocking flag, on Linux it does not.
        stream.set_nonblocking(false)?;
        Ok(Stream::unix(stream))
    }
}

impl Listener for TcpListener {
    fn never_wait(&self) -> io::Result<()> {
        self.set_nonblocking(true)
    }

    fn take(&self) -> io::Result<Stream> {
        let (stream, _) = self.accept()?;
        stream.set_nonblocking(false)?;
        Stream::tcp(stream)
    }
}

/// Accepts from one listener.
pub struct Acceptor<'a, L> {
    part: &'static str,
    listener: &'a L,
    /// Given up when descriptors run out, so that a waiting client can be told so by a close.
    spare: Option<File>,
    failing: bool,
}

impl<'a, L: Listener> Acceptor<'a, L> {
    /// `part` names the service in the log.
    ///
    /// # Errors
    /// The listener is no socket any more.
    pub fn new(part: &'static str, listener: &'a L) -> io::Result<Self> {
        listener.never_wait()?;
        Ok(Self { part, listener, spare: spare(), failing: false })
    }

    /// The next connection; none once `stop` is fired.
    pub fn next(&mut self, stop: &Wake) -> Option<Stream> {
        loop {
            let ready =
                poll::wait(&[(stop.fd(), Interest::Readable), (self.listener.as_fd(), Interest::Readable)], None);
            if stop.is_fired() {
                return None;
            }
            match ready.and_then(|_| self.listener.take()) {
                Ok(stream) => {
                    self.failing = false;
                    return Some(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.back_off(&error, stop),
            }
        }
    }

    /// Says so once, lets one waiting client go, and waits a little.
    fn back_off(&mut self, error: &io::Error, stop: &Wake) {
        if !std::mem::replace(&mut self.failing, true) {
            log!(self.part, "connections cannot be accepted at the moment: {error}");
        }
        if socket::out_of_descriptors(error) {
            self.spare = None;
            drop(self.listener.take());
            self.spare = spare();
        }
        let _ = poll::wait_one(stop.fd(), Interest::Readable, deadline_in(limits::ACCEPT_BACKOFF));
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
