//! A flag that a `poll` can wait for: ends waits on prompts, runs and accept loops.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fired once, seen by everybody who polls [`Wake::fd`] from then on.
#[derive(Debug)]
pub struct Wake {
    fired: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

/// Fires when it goes: the end of what holds it.
#[derive(Debug)]
pub struct FireOnDrop(pub Arc<Wake>);

impl Drop for FireOnDrop {
    fn drop(&mut self) {
        self.0.fire();
    }
}

impl Wake {
    /// A flag that has not been fired.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { fired: AtomicBool::new(false), reader, writer })
    }

    /// Fires it; a second time does nothing. The byte is never read, so every poll sees it.
    pub fn fire(&self) {
        if !self.fired.swap(true, Ordering::SeqCst) {
            let _ = (&self.writer).write_all(&[1]);
        }
    }

    /// Whether it was fired.
    pub fn is_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    /// Readable once fired.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
