//! This process: who we are, what we may open, what nobody may look into.

use crate::limits;
use std::io;

/// Our effective user id.
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Descriptor limit that we found at start; children get it back.
static FOUND_OPEN_FILES: std::sync::OnceLock<u64> = std::sync::OnceLock::new();

/// The soft limit of open files that we were started with.
pub fn found_open_files() -> Option<u64> {
    FOUND_OPEN_FILES.get().copied()
}

/// What every long-running subcommand does first: ignore SIGPIPE, raise the descriptor limit (launchd
/// gives 256), forbid core dumps and tracing by others, keep the allocator small.
pub fn settle() {
    ignore_sigpipe();
    raise_open_files();
    close_to_others();
    small_heap();
}

/// A vanished reader is an error of that write, never the end of the process.
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer names a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    let _ = FOUND_OPEN_FILES.set(limit.rlim_cur);
    // macOS refuses RLIM_INFINITY and anything over OPEN_MAX (10 240) here.
    let most = if cfg!(target_os = "macos") { 10_240 } else { limits::OPEN_FILES };
    let wanted = most.min(limit.rlim_max);
    if wanted > limit.rlim_cur {
        limit.rlim_cur = wanted;
        // SAFETY: the pointer names a live rlimit. A refusal leaves the old limit, which works too.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// No core dump holds our keys, and no process of the same user attaches to us.
fn close_to_others() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer names a live rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_DUMPABLE takes one integer.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
    #[cfg(all(target_os = "macos", not(debug_assertions)))]
    // SAFETY: PT_DENY_ATTACH ignores the other arguments.
    unsafe {
        libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0);
    }
}

/// glibc makes up to eight heaps a core, and keeps what threads freed; a thousand peers would look
/// like a leak.
fn small_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two integers; called before the first thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}

/// Sets the umask so that nothing we create is open to others, whatever the caller's was (A137).
pub fn private_umask() {
    // SAFETY: umask takes an integer and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// What this process weighs; each figure is missing where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
}

/// Looks at this process. Nobody else can: it hides from tracing (see [`settle`]).
pub fn footprint() -> Footprint {
    // The look itself opens one.
    let descriptors = std::fs::read_dir("/dev/fd").ok().map(|entries| entries.count().saturating_sub(1));
    let (resident_bytes, threads) = memory_and_threads();
    Footprint { resident_bytes, threads, descriptors: descriptors.and_then(|count| u64::try_from(count).ok()) }
}

/// How many threads this process has, where the system tells.
pub fn threads() -> Option<u64> {
    memory_and_threads().1
}

#[cfg(not(target_os = "macos"))]
fn memory_and_threads() -> (Option<u64>, Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    (figure("VmRSS:").map(|kibibytes| kibibytes * 1_024), figure("Threads:"))
}

/// macOS has no /proc; the kernel tells both with the task's resource use.
#[cfg(target_os = "macos")]
fn memory_and_threads() -> (Option<u64>, Option<u64>) {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut info: libc::proc_taskinfo = unsafe { std::mem::zeroed() };
    let size = libc::c_int::try_from(size_of::<libc::proc_taskinfo>()).unwrap_or(0);
    // SAFETY: pointer and size name the live structure; our own id needs no right.
    let written =
        unsafe { libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, (&raw mut info).cast(), size) };
    if written == size { (Some(info.pti_resident_size), u64::try_from(info.pti_threadnum).ok()) } else { (None, None) }
}

/// The machine's name, else `openclaw`.
pub fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: pointer and length name the live array; one byte is left for the NUL.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let text = name.split(|byte| *byte == 0).next().and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text {
        Some(text) if result == 0 && !text.is_empty() => text.to_owned(),
        _ => "openclaw".to_owned(),
    }
}

/// What the system calls a process of our own user, if it tells.
#[cfg(not(target_os = "macos"))]
pub fn name_of(pid: u32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// What the system calls a process of our own user, if it tells.
#[cfg(target_os = "macos")]
pub fn name_of(pid: u32) -> Option<String> {
    let mut name = [0_u8; 64];
    let room = u32::try_from(name.len()).ok()?;
    // SAFETY: pointer and length name the live array.
    let length = unsafe { libc::proc_name(i32::try_from(pid).ok()?, name.as_mut_ptr().cast(), room) };
    let named = name.get(..usize::try_from(length).ok()?).filter(|name| !name.is_empty())?;
    Some(String::from_utf8_lossy(named).into_owned())
}

/// Closes standard output's claim on a pipe whose reader has left: turns EPIPE into a quiet end.
///
/// # Errors
/// Anything but a broken pipe.
pub fn quiet_epipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
