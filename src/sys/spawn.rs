//! Starting a program that was checked, in a session of its own, with nothing of ours but three
//! descriptors; and following it until it and what it left behind are gone.

use super::fence::Enclosure;
#[cfg(target_os = "macos")]
use super::fence::Launch;
use super::worker;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The file that is started.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// By absolute path; never looked up, never handed to a shell.
    Path(&'a Path),
    /// Exactly this open file, a binary; its path is not looked at again.
    #[cfg(not(target_os = "macos"))]
    Descriptor(BorrowedFd<'a>),
}

/// What to start. The environment is complete: nothing is inherited.
pub struct Command<'a> {
    /// The program.
    pub program: Program<'a>,
    /// argv, argv[0] included.
    pub arguments: &'a [OsString],
    /// `NAME`, value.
    pub environment: &'a [(OsString, OsString)],
    /// Working directory, from [`open_directory`].
    pub directory: BorrowedFd<'a>,
    /// The same one's canonical path: it is entered anew inside the fence, whose mounts are others,
    /// and must be that very directory there.
    pub directory_path: &'a Path,
    /// Its descriptors 0, 1 and 2.
    pub streams: [BorrowedFd<'a>; 3],
    /// Soft limit of open files; none leaves ours. macOS cannot set it for a child and leaves ours.
    pub open_files: Option<u64>,
    /// What it is kept from.
    pub fence: &'a Enclosure,
    /// A program of ours that serves only us: TERM when the thread that starts it ends, however that
    /// comes about. macOS has nothing of the kind: there it must end with its streams.
    pub ends_with_us: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Signals that a group can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// TERM: please end.
    Terminate,
    /// KILL: end.
    Kill,
}

/// A running program, leader of its own session and process group. Its process id stays reserved
/// until [`Child::release`] or drop, so that a signal to the group can never meet a stranger.
pub struct Child {
    group: libc::pid_t,
    /// End of stream as soon as the leader has exited.
    exited: PipeReader,
    exit: Arc<Mutex<Option<Exit>>>,
    release: Option<Sender<Option<Duration>>>,
}

/// Opens a directory to start programs in; the name is not looked up again.
///
/// # Errors
/// The kernel's.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    #[cfg(target_os = "linux")]
    let access = libc::O_PATH;
    // macOS' O_SEARCH is not in `libc`; a directory that may be entered but not read is refused.
    #[cfg(not(target_os = "linux"))]
    let access = libc::O_RDONLY;
    // SAFETY: `path` is a NUL-terminated string.
    let fd = unsafe { libc::open(path.as_ptr(), access | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    owned(fd)
}

/// A name of a place in the file system, whatever lies there; nothing is opened.
///
/// # Errors
/// The kernel's.
#[cfg(not(target_os = "macos"))]
pub(super) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a NUL-terminated string.
    owned(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })
}

/// Whether this process may execute the file.
pub fn is_executable(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a NUL-terminated string.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// Starts `command`.
///
/// # Errors
/// The kernel's refusal to start this program, or too few descriptors, processes or threads. A fence
/// that could not be put up, or a working directory that is not the same inside it: with a sentence.
pub fn spawn(command: &Command<'_>) -> io::Result<Child> {
    let prepared = Prepared::new(command)?;
    let (exited, exit_note) = io::pipe()?;
    let exit = Arc::new(Mutex::new(None));
    let (release, released) = channel();
    let (start, started) = channel();
    // The thread comes first: once there is a process there is somebody who collects it.
    let noted = Arc::clone(&exit);
    worker::start(move || {
        if let Ok(pid) = started.recv() {
            follow(pid, &noted, exit_note, &released);
        }
    })?;
    let group = platform::start(&prepared)?;
    // The thread lives until it has received this.
    let _ = start.send(group);
    Ok(Child { group, exited, exit, release: Some(release) })
}

/// Waits for the leader without collecting it, says so, and collects it when nobody will send a
/// signal to the group any more.
fn follow(pid: libc::pid_t, exit: &Mutex<Option<Exit>>, note: PipeWriter, released: &Receiver<Option<Duration>>) {
    let ended = wait_without_collecting(pid);
    *exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    drop(note);
    // A dropped child is killed by its owner first.
    if let Ok(Some(grace)) = released.recv() {
        std::thread::sleep(grace);
        signal_group(pid, Stop::Kill);
    }
    let mut status = 0;
    loop {
        // SAFETY: `pid` is our child, not collected before; `status` is writable.
        let collected = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if collected >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn wait_without_collecting(pid: libc::pid_t) -> Exit {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid value of that plain structure.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = libc::id_t::try_from(pid).unwrap_or_default();
        // SAFETY: `info` is writable; WNOWAIT leaves the child to be collected later.
        let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if result == 0 {
            // SAFETY: waitid succeeded for an exited child, so the status member is the one in use.
            let status = unsafe { info.si_status() };
            return if info.si_code == libc::CLD_EXITED { Exit::Code(status & 0xFF) } else { Exit::Signal(status) };
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            // Cannot happen for a child of ours; whoever waits must go on all the same.
            return Exit::Signal(libc::SIGKILL);
        }
    }
}

fn signal_group(group: libc::pid_t, stop: Stop) {
    let signal = match stop {
        Stop::Terminate => libc::SIGTERM,
        Stop::Kill => libc::SIGKILL,
    };
    // SAFETY: no memory is involved. The leader is not collected yet, so the id is still its own.
    unsafe { libc::kill(-group, signal) };
}

impl Child {
    /// Readable once the leader has exited; for `poll`.
    pub fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }

    /// How it ended; none while it runs.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id, which is its group's and its session's.
    pub fn id(&self) -> i32 {
        self.group
    }

    /// Sends a signal to the leader and everything that stayed in its group.
    pub fn stop(&self, stop: Stop) {
        signal_group(self.group, stop);
    }

    /// Lets go of an exited leader. What is left of its group is killed after `kill_after`; with
    /// none it lives on. Does not block.
    pub fn release(mut self, kill_after: Option<Duration>) {
        if let Some(release) = self.release.take() {
            let _ = release.send(kill_after);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nobody follows it any more: it must not go on unseen.
        if self.release.is_some() {
            self.stop(Stop::Kill);
        }
    }
}

pub(super) fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lowest number for the descriptors that are handed over: above every number they will get.
pub(super) const HANDED_OVER_FROM: libc::c_int = 10;

/// Everything that a start needs, made before there is a second process.
struct Prepared<'a> {
    /// Empty for a descriptor.
    program: CString,
    #[cfg(not(target_os = "macos"))]
    descriptor: Option<BorrowedFd<'a>>,
    /// Keep what `arguments` and `environment` point to alive.
    _texts: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    streams: [OwnedFd; 3],
    directory: OwnedFd,
    #[cfg(not(target_os = "macos"))]
    directory_path: CString,
    #[cfg(not(target_os = "macos"))]
    open_files: Option<libc::rlimit>,
    #[cfg(not(target_os = "macos"))]
    fence: &'a Enclosure,
    #[cfg(not(target_os = "macos"))]
    ends_with_us: bool,
    #[cfg(target_os = "macos")]
    launch: Option<Launch<'a>>,
}

impl<'a> Prepared<'a> {
    fn new(command: &Command<'a>) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        #[cfg(not(target_os = "macos"))]
        let arguments = command.arguments;
        #[cfg(target_os = "macos")]
        let Program::Path(program) = command.program;
        #[cfg(target_os = "macos")]
        let launch = command.fence.launch(program, command.arguments);
        #[cfg(target_os = "macos")]
        let (program, arguments) =
            launch.as_ref().map_or((program, command.arguments), |launch| (launch.program, &launch.arguments));
        let arguments = arguments.iter().map(|argument| text(argument)).collect::<io::Result<Vec<_>>>()?;
        let pair = |(name, value): &(OsString, OsString)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            text(&pair)
        };
        let environment = command.environment.iter().map(pair).collect::<io::Result<Vec<_>>>()?;
        let pointers =
            |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
        let [input, output, error] = command.streams;
        Ok(Self {
            #[cfg(target_os = "macos")]
            program: text(program.as_os_str())?,
            #[cfg(not(target_os = "macos"))]
            program: match command.program {
                Program::Path(path) => text(path.as_os_str())?,
                Program::Descriptor(_) => CString::default(),
            },
            #[cfg(not(target_os = "macos"))]
            descriptor: match command.program {
                Program::Path(_) => None,
                Program::Descriptor(descriptor) => Some(descriptor),
            },
            arguments: pointers(&arguments),
            environment: pointers(&environment),
            _texts: arguments.into_iter().chain(environment).collect(),
            streams: [above(input)?, above(output)?, above(error)?],
            directory: above(command.directory)?,
            #[cfg(not(target_os = "macos"))]
            directory_path: text(command.directory_path.as_os_str())?,
            #[cfg(not(target_os = "macos"))]
            open_files: command.open_files.and_then(open_files),
            #[cfg(not(target_os = "macos"))]
            fence: command.fence,
            #[cfg(not(target_os = "macos"))]
            ends_with_us: command.ends_with_us,
            #[cfg(target_os = "macos")]
            launch,
        })
    }
}

/// A copy of `fd` out of the way of the numbers that the child will use.
fn above(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open; the call takes no memory.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HANDED_OVER_FROM) })
}

/// The limit with this soft value; the hard one stays.
#[cfg(not(target_os = "macos"))]
fn open_files(soft: u64) -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    known.then(|| libc::rlimit { rlim_cur: soft.min(limit.rlim_max), ..limit })
}

/// Linux: as vfork does, the new process borrows our memory, and this thread sleeps, until exec: no
/// page tables are copied, and a failure is simply written down. Between the two only
/// async-signal-safe calls: other threads go on and may hold any lock.
#[cfg(not(target_os = "macos"))]
mod platform {
    use super::Prepared;
    use std::io;
    use std::os::fd::AsRawFd;

    /// Highest signal number that is put back to its default.
    const LAST_SIGNAL: libc::c_int = 64;
    /// The kernel's `sigaction` structure, or more than it: default action, no flags, no mask.
    const DEFAULT_ACTION: [u64; 8] = [0; 8];
    /// Bytes of the kernel's signal set.
    const SIGNAL_SET_BYTES: usize = 8;
    /// Descriptors that are marked one by one where the kernel has no `close_range` for that.
    const CLOSE_ONE_BY_ONE: libc::c_int = 65_536;
    /// Stack of [`become_program`]; what it calls needs a small part of it.
    const STACK_BYTES: usize = 32 * 1024;

    /// What both processes see.
    struct Shared<'a> {
        prepared: &'a Prepared<'a>,
        /// What failed; none once the program runs.
        failure: Option<Failure>,
    }

    /// Where a start ended, with its `errno`.
    #[derive(Clone, Copy)]
    enum Failure {
        Fence(libc::c_int),
        Directory(libc::c_int),
        Program(libc::c_int),
    }

    impl From<Failure> for io::Error {
        fn from(failure: Failure) -> Self {
            let told = |code, what: &str| {
                let error = Self::from_raw_os_error(code);
                Self::new(error.kind(), format!("{what} ({error})"))
            };
            match failure {
                Failure::Fence(code) => told(
                    code,
                    "the fence could not be put up; if what it hides was moved or replaced, start openclaw again",
                ),
                Failure::Directory(code) => {
                    told(code, "its working directory was replaced, or lies where the fence lets nobody in")
                }
                Failure::Program(code) => Self::from_raw_os_error(code),
            }
        }
    }

    pub(super) fn start(prepared: &Prepared<'_>) -> io::Result<libc::pid_t> {
        let mut shared = Shared { prepared, failure: None };
        // Of this type for its alignment, which every stack that we know asks for.
        let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
        let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
        // SAFETY: an all-zero sigset_t is valid memory for the calls that fill it.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are writable. Signals wait, so that no handler of ours runs in the child.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack grows down from its end and is the child's alone; it and `shared` live on
        // until the child has left our memory, which is when CLONE_VFORK lets this thread go on. The
        // child runs `become_program` only, which keeps to async-signal-safe calls and ends in exec or _exit.
        let pid = unsafe { libc::clone(become_program, top.cast(), flags, (&raw mut shared).cast()) };
        let error = io::Error::last_os_error();
        // SAFETY: `before` was filled above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
        if pid < 0 {
            return Err(error);
        }
        // SAFETY: a live local. The child has written to it behind the compiler's back.
        let failure = unsafe { (&raw const shared.failure).read_volatile() };
        let Some(failure) = failure else { return Ok(pid) };
        let mut status = 0;
        // SAFETY: `pid` is our child, about to exit; nobody else knows it.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        Err(failure.into())
    }

    /// Runs in the child and never returns. `shared` is a [`Shared`] that lives until exec.
    extern "C" fn become_program(shared: *mut libc::c_void) -> libc::c_int {
        let shared: *mut Shared<'_> = shared.cast();
        // SAFETY: all calls are async-signal-safe, all memory was made before, and `errno` is that of
        // the thread that sleeps meanwhile.
        unsafe {
            let prepared = (*shared).prepared;
            let failure = match prepare_process(prepared) {
                Err(failure) => failure,
                Ok(()) => {
                    // Without a descriptor the path is absolute, and the first two say nothing.
                    let file = prepared.descriptor.map_or(libc::AT_FDCWD, |descriptor| descriptor.as_raw_fd());
                    let (arguments, environment) = (prepared.arguments.as_ptr(), prepared.environment.as_ptr());
                    let path = prepared.program.as_ptr();
                    libc::syscall(libc::SYS_execveat, file, path, arguments, environment, libc::AT_EMPTY_PATH);
                    Failure::Program(errno())
                }
            };
            (&raw mut (*shared).failure).write_volatile(Some(failure));
            libc::_exit(127)
        }
    }

    fn errno() -> libc::c_int {
        // SAFETY: the address of this thread's own variable.
        unsafe { *libc::__errno_location() }
    }

    /// Makes this process what the program shall find itself in.
    unsafe fn prepare_process(prepared: &Prepared<'_>) -> Result<(), Failure> {
        let done = |result: libc::c_int, failure: fn(libc::c_int) -> Failure| {
            if result >= 0 { Ok(()) } else { Err(failure(errno())) }
        };
        // SAFETY: as in `become_program`, the only caller.
        unsafe {
            done(libc::setsid(), Failure::Program)?;
            if prepared.ends_with_us {
                done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), Failure::Program)?;
            }
            done(prepared.fence.enter(), Failure::Fence)?;
            done(change_directory(prepared), Failure::Directory)?;
            done(prepared.fence.shut(), Failure::Fence)?;
            for (stream, number) in prepared.streams.iter().zip(0..) {
                done(libc::dup2(stream.as_raw_fd(), number), Failure::Program)?;
            }
            keep_the_rest_from_the_program();
            let core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            done(libc::setrlimit(libc::RLIMIT_CORE, &raw const core), Failure::Program)?;
            if let Some(limit) = &prepared.open_files {
                done(libc::setrlimit(libc::RLIMIT_NOFILE, limit), Failure::Program)?;
            }
            for signal in 1..=LAST_SIGNAL {
                // KILL and STOP refuse, and need nothing. Not the C library's function: it refuses
                // its own two signals, which we may have inherited as ignored.
                libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), 0, SIGNAL_SET_BYTES);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            done(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()), Failure::Program)
        }
    }

    /// Behind other mounts the descriptor would still lead, by `..`, through those that the fence
    /// replaced: there the path is opened anew, and must name the same directory.
    unsafe fn change_directory(prepared: &Prepared<'_>) -> libc::c_int {
        let judged = prepared.directory.as_raw_fd();
        // SAFETY: as in `become_program`; an all-zero `stat` is valid memory for the calls that fill it.
        unsafe {
            if !prepared.fence.has_other_mounts() {
                return libc::fchdir(judged);
            }
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let inside = libc::open(prepared.directory_path.as_ptr(), flags);
            let (mut there, mut here): (libc::stat, libc::stat) = std::mem::zeroed();
            if inside < 0 || libc::fstat(inside, &raw mut there) != 0 || libc::fstat(judged, &raw mut here) != 0 {
                return -1;
            }
            if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) {
                *libc::__errno_location() = libc::ESTALE;
                return -1;
            }
            libc::fchdir(inside)
        }
    }

    /// Nothing above the standard descriptors outlives exec. They stay open until then, since the
    /// program itself may be one of them.
    unsafe fn keep_the_rest_from_the_program() {
        let first = libc::STDERR_FILENO + 1;
        // SAFETY: no memory is involved.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
                for fd in first..CLOSE_ONE_BY_ONE {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
        }
    }
}

/// posix_spawn: after AppKit has started, a fork without exec is not allowed, and the few system
/// calls between the two are the kernel's here. accept and pipe have no atomic close-on-exec on
/// macOS, hence `CLOEXEC_DEFAULT`: only what an action names reaches the child (mac-app §8.13).
#[cfg(target_os = "macos")]
mod platform {
    use super::super::fence::CHANNEL;
    use super::{Prepared, above};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    /// `spawn.h`; not in `libc`.
    const POSIX_SPAWN_SETSID: libc::c_int = 0x0400;

    pub(super) fn start(prepared: &Prepared<'_>) -> io::Result<libc::pid_t> {
        let Some(launch) = &prepared.launch else { return spawn(prepared, None) };
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = above(theirs.as_fd())?;
        let pid = spawn(prepared, Some(theirs.as_fd()))?;
        // Otherwise its end would not be the end of the conversation.
        drop(theirs);
        launch.tell(ours).map(|()| pid).inspect_err(|_| {
            let mut status = 0;
            // SAFETY: `pid` is our child; nobody else knows it.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, &raw mut status, 0);
            }
        })
    }

    /// `channel` is for a launcher.
    fn spawn(prepared: &Prepared<'_>, channel: Option<BorrowedFd<'_>>) -> io::Result<libc::pid_t> {
        let mut attributes = Attributes::new()?;
        let mut actions = Actions::new()?;
        let [input, output, error] = &prepared.streams;
        let mut pid = 0;
        // SAFETY: attributes and actions were initialised and live past the call, as do the sets; the
        // arrays of `prepared` end with null and point to strings that it owns.
        let code = unsafe {
            let (mut all, mut none): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigemptyset(&raw mut none);
            let flags = POSIX_SPAWN_SETSID
                | libc::POSIX_SPAWN_CLOEXEC_DEFAULT
                | libc::POSIX_SPAWN_SETSIGDEF
                | libc::POSIX_SPAWN_SETSIGMASK;
            check(libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &raw const all))?;
            check(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const none))?;
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as libc::c_short))?;
            let streams = [(input.as_fd(), 0), (output.as_fd(), 1), (error.as_fd(), 2)];
            for (fd, number) in streams.into_iter().chain(channel.map(|channel| (channel, CHANNEL))) {
                check(libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, fd.as_raw_fd(), number))?;
            }
            check(libc::posix_spawn_file_actions_addfchdir_np(&raw mut actions.0, prepared.directory.as_raw_fd()))?;
            libc::posix_spawn(
                &raw mut pid,
                prepared.program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                prepared.arguments.as_ptr().cast(),
                prepared.environment.as_ptr().cast(),
            )
        };
        check(code)?;
        Ok(pid)
    }

    struct Attributes(libc::posix_spawnattr_t);

    impl Attributes {
        fn new() -> io::Result<Self> {
            let mut attributes = std::ptr::null_mut();
            // SAFETY: `attributes` is writable; on macOS the type is one pointer.
            check(unsafe { libc::posix_spawnattr_init(&raw mut attributes) })?;
            Ok(Self(attributes))
        }
    }

    impl Drop for Attributes {
        fn drop(&mut self) {
            // SAFETY: initialised in `new`, destroyed once.
            unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
        }
    }

    struct Actions(libc::posix_spawn_file_actions_t);

    impl Actions {
        fn new() -> io::Result<Self> {
            let mut actions = std::ptr::null_mut();
            // SAFETY: `actions` is writable; on macOS the type is one pointer.
            check(unsafe { libc::posix_spawn_file_actions_init(&raw mut actions) })?;
            Ok(Self(actions))
        }
    }

    impl Drop for Actions {
        fn drop(&mut self) {
            // SAFETY: initialised in `new`, destroyed once.
            unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
        }
    }

    /// These functions return the error instead of setting it.
    fn check(code: libc::c_int) -> io::Result<()> {
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
    }
}
