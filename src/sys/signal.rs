//! SIGTERM, SIGINT and SIGHUP as a descriptor: one place, no work in the handler.

use super::poll::{self, Interest};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Write end of the pipe that the handler writes to; -1 before [`Termination::install`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(signal: libc::c_int) {
    let byte = u8::try_from(signal).unwrap_or(u8::MAX);
    let fd = PIPE.load(Ordering::Relaxed);
    // SAFETY: write is async-signal-safe; the pointer names a live byte; the pipe is never closed.
    // Errors cannot be reported from here: a full pipe already says that a signal came.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
}

/// The signals that end a service.
pub struct Termination {
    reader: io::PipeReader,
}

impl Termination {
    /// Catches SIGTERM, SIGINT and SIGHUP from now on. Once a process.
    ///
    /// # Errors
    /// No descriptors, or already installed.
    pub fn install() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // The write end lives as long as the process: the handler may run at any time.
        let writer = std::mem::ManuallyDrop::new(writer);
        if PIPE.compare_exchange(-1, writer.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(io::Error::other("signals are already caught"));
        }
        Self::catch()?;
        Ok(Self { reader })
    }

    /// Catches them again, after a library has put handlers of its own in the place of ours.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn catch() -> io::Result<()> {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: an all-zero sigaction is valid; its fields are set below.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            // SAFETY: `action` is complete; `note` does async-signal-safe work only.
            let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Ends the service as SIGTERM does.
    pub fn request() {
        note(libc::SIGTERM);
    }

    /// Waits for one of them.
    ///
    /// # Errors
    /// The kernel's refusal to wait.
    pub fn wait(&self) -> io::Result<()> {
        poll::wait_one(self.reader.as_fd(), Interest::Readable, None).map(|_| ())
    }

    /// Readable once a signal came.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
