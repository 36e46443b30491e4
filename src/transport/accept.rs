//! Accepting Unix connections until told to stop. No failure ends it (A118).

use crate::limits;
use crate::log;
use crate::sys::poll::{self, Interest, deadline_in};
use crate::sys::socket;
use crate::sys::wake::Wake;
use crate::transport::stream::Stream;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

/// Accepts from one listener.
pub struct Acceptor<'a> {
    part: &'static str,
    listener: &'a UnixListener,
    /// Given up when descriptors run out, so that a waiting client can be told so by a close.
    spare: Option<File>,
    failing: bool,
}

impl<'a> Acceptor<'a> {
    /// `part` names the service in the log.
    ///
    /// # Errors
    /// The listener is no socket any more.
    pub fn new(part: &'static str, listener: &'a UnixListener) -> io::Result<Self> {
        // A connection may vanish between poll and accept; a blocking accept would then hang.
        listener.set_nonblocking(true)?;
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
            match ready.and_then(|_| self.accept()) {
                Ok(stream) => {
                    self.failing = false;
                    return Some(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.back_off(&error, stop),
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.listener.accept()?;
        // macOS: an accepted socket inherits the listener's non-blocking flag, on Linux it does not.
        stream.set_nonblocking(false)?;
        Ok(Stream::unix(stream))
    }

    /// Says so once, lets one waiting client go, and waits a little.
    fn back_off(&mut self, error: &io::Error, stop: &Wake) {
        if !std::mem::replace(&mut self.failing, true) {
            log!(self.part, "connections cannot be accepted at the moment: {error}");
        }
        if socket::out_of_descriptors(error) {
            self.spare = None;
            drop(self.accept());
            self.spare = spare();
        }
        let _ = poll::wait_one(stop.fd(), Interest::Readable, deadline_in(limits::ACCEPT_BACKOFF));
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
