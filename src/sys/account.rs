//! The account that this process runs under, from the user database: `HOME` and `USER` of the
//! environment are anybody's claim.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What the user database says of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: String,
}

/// Largest record that we read, bytes.
const RECORD_BYTES: usize = 64 * 1024;

/// The record of the effective user; none if the database has none or it does not fit.
pub fn current() -> Option<Account> {
    let mut buffer = vec![0_u8; RECORD_BYTES];
    let mut record = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: `record` and `buffer` are writable and live for the whole call, and the length is the
    // buffer's; on success `found` points to `record`, whose strings lie in `buffer`.
    let status = unsafe {
        libc::getpwuid_r(libc::geteuid(), record.as_mut_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
    };
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded and `found` is not null, so `record` was filled in.
    let record = unsafe { record.assume_init() };
    let text = |field: *const libc::c_char| {
        if field.is_null() {
            return [].as_slice();
        }
        // SAFETY: the strings of a filled record are NUL-terminated and lie in `buffer`, which is alive.
        unsafe { CStr::from_ptr(field) }.to_bytes()
    };
    Some(Account {
        name: String::from_utf8_lossy(text(record.pw_name)).into_owned(),
        home: PathBuf::from(OsStr::from_bytes(text(record.pw_dir))),
        shell: String::from_utf8_lossy(text(record.pw_shell)).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_an_account() {
        let account = super::current().unwrap();
        assert!(!account.name.is_empty() && account.home.is_absolute());
    }
}
