//! Landlock by its system calls (`linux/landlock.h`); the C library has no functions for it.

use super::*;

/// The first that knows truncation; before it, a file anywhere could be emptied.
const SUFFICIENT_VERSION: libc::c_long = 3;
/// `LANDLOCK_CREATE_RULESET_VERSION`
const ASK_VERSION: libc::c_uint = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`
const PATH_BENEATH: libc::c_uint = 1;
/// `LANDLOCK_ACCESS_FS_…` WRITE_FILE and TRUNCATE.
const WRITE_FILE: u64 = 1 << 1;
const TRUNCATE: u64 = 1 << 14;
/// WRITE_FILE, REMOVE_DIR to MAKE_SYM, REFER (link and rename across directories), TRUNCATE. What is
/// not among them, reading for one, stays allowed everywhere.
const WRITING: u64 = WRITE_FILE | 0x1FF << 4 | 1 << 13 | TRUNCATE;
/// Where writing leaves nothing behind.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];
/// The terminals that a command opens itself.
const TERMINALS: &str = "/dev/pts";

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    directory: libc::c_int,
}

pub(super) fn is_sufficient() -> bool {
    // SAFETY: without attributes, as the question for the version is asked.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u64>(), 0_usize, ASK_VERSION) };
    version >= SUFFICIENT_VERSION
}

/// Rules for a process that may write below these directories only. Attributes of files elsewhere
/// (mode, times) are beyond what Landlock knows.
pub(super) fn write_only_below(directories: &[&Path]) -> io::Result<OwnedFd> {
    let handled = WRITING;
    // SAFETY: the attributes are one integer (those that follow may be left out), their size is given.
    let ruleset =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of_val(&handled), 0_u32) };
    let ruleset = libc::c_int::try_from(ruleset).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    for directory in directories {
        allow(&ruleset, directory, WRITING)?;
    }
    for place in DEVICES.iter().chain([&TERMINALS]).map(Path::new).filter(|place| place.exists()) {
        allow(&ruleset, place, WRITE_FILE)?;
    }
    Ok(ruleset)
}

fn allow(ruleset: &OwnedFd, path: &Path, allowed: u64) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // O_PATH: a rule names a place, and opening a device may do something.
    let place = spawn::open_path(path).map_err(told)?;
    let rule = PathBeneath { allowed, directory: place.as_raw_fd() };
    // SAFETY: open descriptors and a live structure of the type that the constant names.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    };
    if result == 0 { Ok(()) } else { Err(told(io::Error::last_os_error())) }
}

/// Restricts this process for good. Async-signal-safe.
pub(super) unsafe fn restrict(ruleset: BorrowedFd<'_>) -> libc::c_int {
    // SAFETY: an open descriptor.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if result == 0 { 0 } else { -1 }
}
