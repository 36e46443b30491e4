//! TCP on loopback and Unix sockets as one type.

use crate::sys::poll::{self, Interest};
use crate::sys::socket;
use crate::sys::wake::FireOnDrop;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connected stream. Shared by a reading thread and the outbox, never cloned.
#[derive(Debug)]
pub enum Stream {
    /// Over loopback.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over the standard streams of a program of ours, which is told when nobody holds this any more.
    Program(UnixStream, FireOnDrop),
}

impl Stream {
    /// Takes over an accepted or connected TCP stream; small frames leave at once.
    ///
    /// # Errors
    /// The peer has already gone.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        socket::no_sigpipe(stream.as_fd());
        Ok(Self::Tcp(stream))
    }

    /// Takes over an accepted or connected Unix stream.
    pub fn unix(stream: UnixStream) -> Self {
        socket::no_sigpipe(stream.as_fd());
        Self::Unix(stream)
    }

    /// Takes over our end of a program's standard streams.
    pub fn program(stream: UnixStream, gone: FireOnDrop) -> Self {
        socket::no_sigpipe(stream.as_fd());
        Self::Program(stream, gone)
    }

    /// The peer's address; none for a Unix socket.
    pub fn peer_address(&self) -> Option<IpAddr> {
        match self {
            // A v4 address in v6 clothes is the v4 address (A11).
            Self::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip().to_canonical()),
            Self::Unix(_) | Self::Program(..) => None,
        }
    }

    /// Ends one or both directions; errors mean that it is over already.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) | Self::Program(stream, _) => stream.shutdown(how),
        };
    }

    /// Longest wait of one read; none waits for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        let _ = match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) | Self::Program(stream, _) => stream.set_read_timeout(timeout),
        };
    }

    /// Reads what is there; waits for it, at most until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; else the kernel's.
    pub fn read_until(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        if !poll::wait_one(self.as_fd(), Interest::Readable, Some(deadline))? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.read_now(buffer)
    }

    /// One plain read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => (&mut &*stream).read(buffer),
                Self::Unix(stream) | Self::Program(stream, _) => (&mut &*stream).read(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes everything, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; else the kernel's.
    pub fn write_until(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match socket::send_now(self.as_fd(), bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !poll::wait_one(self.as_fd(), Interest::Writable, Some(deadline))? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) | Self::Program(stream, _) => stream.as_fd(),
        }
    }
}
