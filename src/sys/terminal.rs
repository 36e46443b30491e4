//! The controlling terminal, as far as a question on it needs: is it ours to use, its modes, its
//! input queue, and reads and writes that a wake or a deadline ends.

use super::wake::Wake;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

/// An open `/dev/tty`.
pub struct Terminal {
    /// Non-blocking: this open file description is ours alone, so nobody else sees the flag. A
    /// stopped terminal (Ctrl-S) can then hold up neither a write nor a deadline.
    tty: File,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The terminal is ready.
    Terminal,
    /// The wake was fired.
    Woken,
    /// The time is up.
    Deadline,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Input, or its end.
    Input,
    /// Room for output.
    Output,
}

impl Terminal {
    /// Opens the controlling terminal. It never becomes a child's descriptor (`O_CLOEXEC`), and
    /// opening it never makes it our controlling terminal (`O_NOCTTY`).
    ///
    /// # Errors
    /// The process has no controlling terminal.
    pub fn open() -> io::Result<Self> {
        let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let tty = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
        Ok(Self { tty })
    }

    /// Whether our process group is the one that the terminal's keys go to.
    pub fn is_foreground(&self) -> bool {
        // SAFETY: both calls take no pointers; the descriptor is open.
        unsafe { libc::tcgetpgrp(self.tty.as_raw_fd()) == libc::getpgrp() }
    }

    /// Sets the modes in which a person types a line and sees it, and throws away what was typed
    /// before. Dropping the answer puts the old modes back.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn begin_prompt(&self) -> io::Result<PromptModes<'_>> {
        let signals = StopSignalsBlocked::new()?;
        let before = self.modes()?;
        let mut wanted = before;
        wanted.c_iflag |= libc::ICRNL;
        wanted.c_iflag &= !(libc::IGNCR | libc::INLCR);
        wanted.c_oflag |= libc::OPOST | libc::ONLCR;
        wanted.c_lflag |= libc::ICANON | libc::ECHO | libc::ECHOE | libc::ISIG;
        self.set_modes(&wanted)?;
        let modes = PromptModes { terminal: self, before, _signals: signals };
        self.flush_input()?;
        Ok(modes)
    }

    /// Throws away what was typed and not read.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn flush_input(&self) -> io::Result<()> {
        // SAFETY: no pointers; the descriptor is open.
        check(unsafe { libc::tcflush(self.tty.as_raw_fd(), libc::TCIFLUSH) })
    }

    /// Reads what is there: in line mode one line, newline included; empty at the end of input.
    /// None when nothing is there.
    ///
    /// # Errors
    /// The terminal is gone, or belongs to another process group now.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match (&self.tty).read(buffer) {
            Ok(count) => Ok(buffer.get(..count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes as much of `bytes` as the terminal takes now; returns how much.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match (&self.tty).write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits until the terminal is ready, `wake` fires or `until` has come.
    ///
    /// # Errors
    /// The kernel's refusal.
    #[cfg(not(target_os = "macos"))]
    pub fn wait(&self, direction: Direction, wake: &Wake, until: Instant) -> io::Result<Ready> {
        use super::poll::{Interest, wait};
        let interest = match direction {
            Direction::Input => Interest::Readable,
            Direction::Output => Interest::Writable,
        };
        let ready = wait(&[(wake.fd(), Interest::Readable), (self.tty.as_fd(), interest)], Some(until))?;
        Ok(match ready.as_slice() {
            [true, ..] => Ready::Woken,
            [_, true] => Ready::Terminal,
            _ => Ready::Deadline,
        })
    }

    /// Waits until the terminal is ready, `wake` fires or `until` has come.
    ///
    /// # Errors
    /// The kernel's refusal.
    #[cfg(target_os = "macos")]
    pub fn wait(&self, direction: Direction, wake: &Wake, until: Instant) -> io::Result<Ready> {
        // macOS: `poll` and `kqueue` refuse terminals, `select` takes them, but only descriptors
        // below FD_SETSIZE. The terminal is opened at the start and so has a low number; the wake
        // may have any, and is therefore looked at in slices (not runnable on Linux).
        const SLICE: std::time::Duration = std::time::Duration::from_millis(100);
        let fd = self.tty.as_fd().as_raw_fd();
        if usize::try_from(fd).map_or(true, |fd| fd >= libc::FD_SETSIZE) {
            return Err(io::Error::other("the terminal's descriptor is too high for select"));
        }
        loop {
            if wake.is_fired() {
                return Ok(Ready::Woken);
            }
            let left = until.saturating_duration_since(Instant::now()).min(SLICE);
            let mut timeout = libc::timeval {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(0),
                tv_usec: libc::suseconds_t::try_from(left.subsec_micros()).unwrap_or(0),
            };
            // SAFETY: all bits zero is an empty set.
            let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
            // SAFETY: `set` is a live set and `fd` is below FD_SETSIZE, checked above.
            unsafe { libc::FD_SET(fd, &raw mut set) };
            let (input, output) = match direction {
                Direction::Input => (&raw mut set, std::ptr::null_mut()),
                Direction::Output => (std::ptr::null_mut(), &raw mut set),
            };
            // SAFETY: the sets and the timeout live across the call.
            let ready = unsafe { libc::select(fd + 1, input, output, std::ptr::null_mut(), &raw mut timeout) };
            if ready > 0 {
                return Ok(Ready::Terminal);
            }
            if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(io::Error::last_os_error());
            }
            if Instant::now() >= until {
                return Ok(Ready::Deadline);
            }
        }
    }

    fn modes(&self) -> io::Result<libc::termios> {
        // SAFETY: termios is plain data; all bits zero is a valid value of it.
        let mut modes: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `modes` is live and writable for the call.
        check(unsafe { libc::tcgetattr(self.tty.as_raw_fd(), &raw mut modes) })?;
        Ok(modes)
    }

    /// At once: waiting for the output to drain would hang on a stopped terminal.
    fn set_modes(&self, modes: &libc::termios) -> io::Result<()> {
        // SAFETY: `modes` is live for the call.
        check(unsafe { libc::tcsetattr(self.tty.as_raw_fd(), libc::TCSANOW, modes) })
    }
}

/// The terminal is set up for a question as long as this lives.
pub struct PromptModes<'a> {
    terminal: &'a Terminal,
    before: libc::termios,
    _signals: StopSignalsBlocked,
}

impl Drop for PromptModes<'_> {
    /// Puts the modes back and discards a half-typed answer. When a shell has taken the terminal
    /// from us meanwhile, its modes are the shell's, which sets them for whom it puts in front.
    fn drop(&mut self) {
        if self.terminal.is_foreground() {
            let _ = self.terminal.flush_input();
            let _ = self.terminal.set_modes(&self.before);
        }
    }
}

/// Blocks the signals that would stop the whole process when it touches a terminal that has just
/// been given to another group; the calls answer with an error instead. A signal mask belongs to
/// one thread, so this cannot be sent to another.
struct StopSignalsBlocked {
    before: libc::sigset_t,
    _this_thread: PhantomData<*const ()>,
}

impl StopSignalsBlocked {
    fn new() -> io::Result<Self> {
        // SAFETY: sigset_t is plain data, initialised by sigemptyset; all pointers are to locals.
        let (code, before) = unsafe {
            let mut block: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut block);
            libc::sigaddset(&raw mut block, libc::SIGTTOU);
            libc::sigaddset(&raw mut block, libc::SIGTTIN);
            (libc::pthread_sigmask(libc::SIG_BLOCK, &raw const block, &raw mut before), before)
        };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(Self { before, _this_thread: PhantomData })
    }
}

impl Drop for StopSignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask on this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A pseudo-terminal with a process of its own session on it, for tests.
#[cfg(test)]
pub(crate) mod pseudo {
    use super::check;
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    pub struct PseudoTerminal {
        /// What a person types goes in here, what they see comes out.
        pub person: File,
        process: OwnedFd,
    }

    impl PseudoTerminal {
        pub fn new() -> Self {
            let (mut person, mut process) = (-1, -1);
            let none = std::ptr::null_mut();
            // SAFETY: the first two pointers name integers, the others may be null.
            let code = unsafe { libc::openpty(&raw mut person, &raw mut process, none, none.cast(), none.cast()) };
            check(code).unwrap();
            for fd in [person, process] {
                // SAFETY: F_SETFD takes an integer.
                check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).unwrap();
            }
            // SAFETY: fresh descriptors that nobody else owns.
            unsafe { Self { person: File::from_raw_fd(person), process: OwnedFd::from_raw_fd(process) } }
        }

        /// Starts `command` as the leader of a session with this terminal.
        pub fn spawn(&self, command: &mut Command) -> Child {
            let fd = self.process.as_raw_fd();
            let take_terminal = move || {
                // SAFETY: both calls are async-signal-safe and take no pointers.
                if unsafe { libc::setsid() < 0 || libc::ioctl(fd, libc::TIOCSCTTY as _, 0) < 0 } {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            };
            // SAFETY: the closure does async-signal-safe work only.
            unsafe { command.pre_exec(take_terminal) };
            command.spawn().unwrap()
        }

        /// The local modes: line mode, echo, signals.
        pub fn local_modes(&self) -> libc::tcflag_t {
            self.modes().c_lflag
        }

        /// As a full-screen program leaves it: no lines, no echo.
        pub fn make_raw(&self) {
            let mut modes = self.modes();
            modes.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
            modes.c_iflag &= !libc::ICRNL;
            // SAFETY: `modes` is live for the call.
            check(unsafe { libc::tcsetattr(self.process.as_raw_fd(), libc::TCSANOW, &raw const modes) }).unwrap();
        }

        fn modes(&self) -> libc::termios {
            // SAFETY: termios is plain data; all bits zero is a valid value of it.
            let mut modes: libc::termios = unsafe { std::mem::zeroed() };
            // SAFETY: `modes` is live and writable for the call.
            check(unsafe { libc::tcgetattr(self.process.as_raw_fd(), &raw mut modes) }).unwrap();
            modes
        }
    }
}
