//! The newest lines of a file that somebody else writes, rotates and cuts.

use crate::limits;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Follows one file.
pub struct Tail {
    path: PathBuf,
    /// Which file was read so far, and up to where.
    seen: Option<(u64, u64)>,
    /// A line whose end is not written yet.
    open: Vec<u8>,
}

impl Tail {
    /// From its newest end on, as far back as [`limits::LOG_TAIL_BYTES`].
    pub fn from_before(path: PathBuf) -> Self {
        Self { path, seen: None, open: Vec::new() }
    }

    /// From now on.
    pub fn from_now(path: PathBuf) -> Self {
        let seen = path.metadata().ok().map(|found| (found.ino(), found.len()));
        Self { seen: seen.or(Some((0, 0))), ..Self::from_before(path) }
    }

    /// The lines that came since the last look; none of a file that is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        // Opening a pipe would wait for its writer.
        if !self.path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Ok(Vec::new());
        }
        let mut file = File::open(&self.path)?;
        let found = file.metadata()?;
        let (inode, size) = (found.ino(), found.len());
        let oldest = size.saturating_sub(limits::LOG_TAIL_BYTES);
        let from = match self.seen {
            Some((before, at)) if before == inode && at <= size => at.max(oldest),
            Some(_) => 0,
            None => oldest,
        };
        let is_new = self.seen.is_none_or(|(before, at)| before != inode || at > size || from > at);
        if is_new {
            self.open.clear();
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = std::mem::take(&mut self.open);
        let count = file.take(limits::LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        self.seen = Some((inode, from + count as u64));
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(open) = pieces.next_back()
            && (open.len() as u64) < limits::LOG_TAIL_BYTES
        {
            self.open = open.to_vec();
        }
        // The first piece of a file that was entered in the middle is no whole line.
        let skipped = usize::from(is_new && from > 0);
        Ok(pieces.skip(skipped).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn lines_come_once_also_over_a_rotation_and_a_cut() {
        let path = std::env::temp_dir().join(format!("oc-tail-{}", std::process::id()));
        fs::write(&path, "old\n").unwrap();
        let mut tail = Tail::from_now(path.clone());
        let mut before = Tail::from_before(path.clone());
        assert_eq!(before.lines().unwrap(), ["old"]);
        let append = |text: &str| {
            fs::OpenOptions::new().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("one\ntw");
        assert_eq!(tail.lines().unwrap(), ["one"]);
        append("o\n");
        assert_eq!(tail.lines().unwrap(), ["two"]);
        assert_eq!(before.lines().unwrap(), ["one", "two"]);
        let old = path.with_extension("1");
        fs::rename(&path, &old).unwrap();
        assert!(tail.lines().unwrap().is_empty());
        append("three\n");
        assert_eq!(tail.lines().unwrap(), ["three"]);
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append("4\n");
        assert_eq!(tail.lines().unwrap(), ["4"]);
        // Only the newest end of something huge.
        let line = format!("{}\n", "x".repeat(1023));
        fs::write(&old, line.repeat(2048)).unwrap();
        let lines = Tail::from_before(old.clone()).lines().unwrap();
        assert!(lines.len() == 1023 && lines.iter().all(|line| line.len() == 1023), "{}", lines.len());
        fs::remove_file(&path).unwrap();
        fs::remove_file(&old).unwrap();
    }
}
