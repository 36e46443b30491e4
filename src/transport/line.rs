//! One line of bytes with a size limit and an absolute deadline.

use super::stream::Stream;
use std::io;
use std::time::Instant;

/// Why there is no line.
#[derive(Debug)]
pub enum LineError {
    /// The peer closed; what came before it, without a newline.
    Ended(Vec<u8>),
    /// More bytes than allowed without a newline.
    TooLong,
    /// The deadline passed first.
    TooSlow,
    /// The connection broke.
    Io(io::Error),
}

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(_) => f.write_str("the peer closed before the end of a line"),
            Self::TooLong => f.write_str("the line is too long"),
            Self::TooSlow => f.write_str("the line did not come in time"),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

/// Reads lines from a stream; bytes after a newline wait for the next call.
pub struct LineReader<'a> {
    stream: &'a Stream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no newline.
    searched: usize,
    limit: usize,
}

impl<'a> LineReader<'a> {
    /// Lines of at most `limit` bytes without the newline.
    pub fn new(stream: &'a Stream, limit: usize) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0, limit }
    }

    /// The next line without its newline.
    ///
    /// # Errors
    /// See [`LineError`].
    pub fn next_line(&mut self, deadline: Instant) -> Result<Vec<u8>, LineError> {
        let mut piece = [0_u8; 4096];
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.pop();
                return if line.len() > self.limit { Err(LineError::TooLong) } else { Ok(line) };
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Err(LineError::TooLong);
            }
            let count = match self.stream.read_until(&mut piece, deadline) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(LineError::TooSlow),
                Err(error) => return Err(LineError::Io(error)),
            };
            if count == 0 {
                return Err(LineError::Ended(std::mem::take(&mut self.buffer)));
            }
            self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::deadline_in;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn lines_come_one_by_one_and_limits_hold() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Stream::unix(ours);
        let mut reader = LineReader::new(&stream, 8);
        let soon = || deadline_in(Duration::from_millis(50)).unwrap();
        theirs.write_all(b"one\ntwo\n\nhalf").unwrap();
        assert_eq!(reader.next_line(soon()).unwrap(), b"one");
        assert_eq!(reader.next_line(soon()).unwrap(), b"two");
        assert_eq!(reader.next_line(soon()).unwrap(), b"");
        assert!(matches!(reader.next_line(soon()), Err(LineError::TooSlow)));
        drop(theirs);
        assert!(matches!(reader.next_line(soon()), Err(LineError::Ended(rest)) if rest == b"half"));

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Stream::unix(ours);
        theirs.write_all(&[b'x'; 9]).unwrap();
        assert!(matches!(LineReader::new(&stream, 8).next_line(soon()), Err(LineError::TooLong)));
    }
}
