//! What a run has printed so far, told now and then while it goes on. Its result has all of it again.

use crate::limits;
use std::str;
use std::time::Instant;

/// Called with the next piece, at most [`limits::PROGRESS_CHUNK_BYTES`], on the thread that follows
/// the command: while this waits, nobody looks after the command.
pub type Listener<'a> = &'a dyn Fn(&str);

/// How much a listener has heard.
pub struct Progress<'a> {
    listener: Listener<'a>,
    /// Bytes of stdout and stderr.
    heard: [usize; 2],
    next: Instant,
}

impl<'a> Progress<'a> {
    /// Of a run that begins now.
    pub fn new(listener: Listener<'a>) -> Self {
        Self { listener, heard: [0; 2], next: Instant::now() + limits::PROGRESS_AFTER }
    }

    /// When [`Progress::tell`] has something to do; none while there is nothing new.
    pub fn due(&self, streams: [&[u8]; 2]) -> Option<Instant> {
        let is_new = streams.iter().zip(self.heard).any(|(bytes, heard)| bytes.len() > heard);
        is_new.then_some(self.next)
    }

    /// Tells a piece of each stream if it is time to.
    pub fn tell(&mut self, streams: [&[u8]; 2]) {
        let now = Instant::now();
        if self.due(streams).is_none_or(|due| now < due) {
            return;
        }
        self.next = now + limits::PROGRESS_INTERVAL;
        // Decoded, a byte becomes three at most.
        let mut room = limits::PROGRESS_CHUNK_BYTES / 3;
        let mut chunk = String::new();
        for (bytes, heard) in streams.into_iter().zip(&mut self.heard) {
            let piece = whole_characters(bytes.get(*heard..).unwrap_or_default(), room);
            *heard += piece.len();
            room -= piece.len();
            chunk.push_str(&String::from_utf8_lossy(piece));
        }
        if !chunk.is_empty() {
            (self.listener)(&chunk);
        }
    }
}

/// The first bytes, `most` at most, without a character of which only the beginning is there.
fn whole_characters(bytes: &[u8], most: usize) -> &[u8] {
    let piece = bytes.get(..most).unwrap_or(bytes);
    let tail = piece.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_begun = str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    if is_begun { piece.get(..piece.len() - tail.len()).unwrap_or(piece) } else { piece }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn pieces_fit_and_cut_no_character() {
        let mut out = "ä€".repeat(9_000).into_bytes();
        out.splice(0..0, [0xff; 9_000]);
        let told = RefCell::new(Vec::new());
        let listener = |chunk: &str| told.borrow_mut().push(chunk.to_owned());
        let mut progress = Progress::new(&listener);
        progress.tell([&out, b"err"]);
        assert!(told.borrow().is_empty(), "too soon");
        for end in [out.len() - 1, out.len()] {
            // More often than there are pieces.
            for _ in 0..64 {
                progress.next = Instant::now();
                progress.tell([&out[..end], b"err"]);
            }
            progress.tell([&out, b"err"]);
        }
        assert_eq!(progress.due([&out, b"err"]), None);
        let told = told.into_inner();
        assert!(told.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= limits::PROGRESS_CHUNK_BYTES));
        let whole = told.concat().replace(['e', 'r'], "");
        assert_eq!(whole, String::from_utf8_lossy(&out));
    }
}
