//! Environment variables that are read once and then gone, so that no child, no crash report and
//! no later code sees them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Takes every variable whose name begins with `prefix` out of our environment. To be called
/// before the first thread starts.
///
/// # Errors
/// Another thread runs already: nothing was read or removed.
pub fn take_variables(prefix: &str) -> Result<Vec<(OsString, OsString)>, &'static str> {
    if thread_count() != Some(1) {
        return Err("the environment must be read before the first thread starts");
    }
    let found: Vec<_> =
        std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(prefix.as_bytes())).collect();
    for (name, _) in &found {
        // SAFETY: this is the only thread of the process (counted above, and only this thread
        // could start another), so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    Ok(found)
}

#[cfg(not(target_os = "macos"))]
fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// macOS has no /proc; the kernel tells the number with the task's resource use.
#[cfg(target_os = "macos")]
fn thread_count() -> Option<usize> {
    let mut info = std::mem::MaybeUninit::<libc::proc_taskinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_taskinfo>()).ok()?;
    // SAFETY: the buffer has `size` bytes and lives across the call, which writes at most that.
    let written =
        unsafe { libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, info.as_mut_ptr().cast(), size) };
    if written != size {
        return None;
    }
    // SAFETY: zeroed bytes are a valid proc_taskinfo, and the call has filled all of it.
    let threads = unsafe { info.assume_init() }.pti_threadnum;
    usize::try_from(threads).ok()
}

#[cfg(test)]
mod tests {
    /// Whoever runs tests has several threads, which is exactly what must be refused.
    #[test]
    fn nothing_is_removed_while_other_threads_run() {
        let before = std::env::vars_os().count();
        let other = std::thread::spawn(std::thread::park);
        assert!(super::take_variables("").is_err());
        assert_eq!(std::env::vars_os().count(), before);
        other.thread().unpark();
        other.join().unwrap();
    }
}
