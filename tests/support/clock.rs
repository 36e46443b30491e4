//! A wall clock that a test moves while the program runs.

use std::fs;
use std::path::{Path, PathBuf};

/// The library that moves the clock of a program.
pub struct Faketime(PathBuf);

impl Faketime {
    /// None where it is not installed; says then that `test` is left out.
    pub fn find(test: &str) -> Option<Self> {
        let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib"]
            .into_iter()
            .map(|place| Path::new(place).join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists());
        if found.is_none() {
            assert!(std::env::var_os("CI").is_none(), "{test}: libfaketime is not installed");
            eprintln!("{test}: left out, because libfaketime is not installed");
        }
        found.map(Self)
    }

    /// A clock that is right until it is moved; `file` is where its offset stands.
    pub fn clock(&self, file: PathBuf) -> Clock {
        let clock = Clock { library: self.0.clone(), file };
        clock.set("+0");
        clock
    }
}

/// The wall clock of a program; its monotonic one stays true.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// `+1d`, `-1d`, `+31m`, `+0`.
    pub fn set(&self, offset: &str) {
        // Renamed into place: the program may read it at any time.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// What the program must be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}
