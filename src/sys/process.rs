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

/// Resident memory in bytes, where the system tells (Linux).
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf takes an integer and cannot fail for this name.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
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
