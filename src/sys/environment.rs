//! Environment variables that are read once and then gone, so that no child, no crash report and
//! no later code sees them.

use super::process;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Takes every variable whose name begins with `prefix` out of our environment. To be called
/// before the first thread starts.
///
/// # Errors
/// Another thread runs already: nothing was read or removed.
pub fn take_variables(prefix: &str) -> Result<Vec<(OsString, OsString)>, &'static str> {
    if process::threads() != Some(1) {
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
