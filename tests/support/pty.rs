//! A pseudo-terminal with a program on it: what a person at a terminal sees and types.

use super::DEADLINE;
use super::process::signal;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program whose controlling terminal is ours; killed with its group when dropped.
pub struct Pty {
    master: File,
    child: Child,
    screen: Vec<u8>,
    /// Bytes of `screen` that [`Pty::expect`] has already passed.
    seen: usize,
}

impl Pty {
    /// Starts `command` as leader of a new session on a new terminal, which is also its standard
    /// input, output and error.
    pub fn spawn(mut command: Command) -> Self {
        let (master, slave) = open();
        command
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        // SAFETY: between fork and exec only setsid and ioctl run, both async-signal-safe, on
        // descriptor 0, which std has already set to the slave side.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY as _, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // `command` holds our copies of the slave side; without dropping them the end never shows.
        drop(command);
        Self { master, child, screen: Vec::new(), seen: 0 }
    }

    /// Its process id, which is also its session and process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types `text`; a Return is `\n`.
    pub fn type_text(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` stands on the screen behind what earlier calls have passed; returns what
    /// came up to its end. Panics with the whole screen when it does not come.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let new = &self.screen[self.seen..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let end = at + text.len();
                let passed = String::from_utf8_lossy(&new[..end]).into_owned();
                self.seen += end;
                return passed;
            }
            assert!(self.read(deadline), "no {text:?} on the screen:\n{}", self.screen());
        }
    }

    /// Everything that has been read so far; lines end in `\r\n`.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen).into_owned()
    }

    /// Reads what comes within `time`.
    pub fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.read(until) {}
    }

    /// Sends a signal to the program.
    pub fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }

    /// Reads to the end, waits for the program; returns exit code (none after a signal) and screen.
    pub fn finish(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + DEADLINE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            self.read((Instant::now() + Duration::from_millis(20)).min(deadline));
            assert!(Instant::now() < deadline, "did not end:\n{}", self.screen());
        };
        self.watch(Duration::from_millis(100));
        (code, self.screen())
    }

    /// Whether the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        self.termios().c_lflag & libc::ECHO != 0
    }

    /// The terminal's modes.
    pub fn termios(&self) -> libc::termios {
        let mut modes = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is open, and tcgetattr fills the whole struct when it returns 0.
        unsafe {
            assert_eq!(libc::tcgetattr(self.master.as_raw_fd(), modes.as_mut_ptr()), 0);
            modes.assume_init()
        }
    }

    /// Reads once; `false` at the deadline and at the end of the terminal.
    fn read(&mut self, deadline: Instant) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.master.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => {
                    self.screen.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // EIO: nobody has the other side open any more.
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // The whole process group: the program may be `make`, with the real one below it.
        if let (Ok(None), Ok(group)) = (self.child.try_wait(), libc::pid_t::try_from(self.child.id())) {
            // SAFETY: kill takes two integers; our child is alive or unreaped, so its id is still its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A terminal's two sides, both close-on-exec; the master side does not block.
fn open() -> (File, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: openpty writes two descriptors; name, modes and size may be null.
    let done = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(done, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: both descriptors are open and nobody else's.
    let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    for descriptor in [master.as_raw_fd(), slave.as_raw_fd()] {
        // SAFETY: fcntl with integers on an open descriptor.
        assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
    (master, slave)
}
