//! Load of this machine, for `node.host.stats`.

use super::platform;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What `node.host.stats` says; what the system does not tell is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostStats {
    /// Processors that are online.
    pub cpu_count: u64,
    /// Over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes that programs could still get.
    pub memory_free: u64,
    /// Bytes of the root file system, and how many of them we may still write.
    pub disk: Option<(u64, u64)>,
}

/// Reads them now; none when the system tells no memory size.
pub fn read() -> Option<HostStats> {
    let (memory_total, memory_free) = platform::memory_bytes()?;
    Some(HostStats {
        cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        load_average: load_average(),
        memory_total,
        memory_free,
        disk: disk(c"/"),
    })
}

fn load_average() -> Option<[f64; 3]> {
    let mut averages = [0.0; 3];
    // SAFETY: the pointer names three live doubles, and three is how many may be written.
    let count = unsafe { libc::getloadavg(averages.as_mut_ptr(), 3) };
    (count == 3).then_some(averages)
}

/// Bytes that we may still write where `path` lies.
pub fn free_bytes(path: &Path) -> Option<u64> {
    disk(&CString::new(path.as_os_str().as_bytes()).ok()?).map(|(_, available)| available)
}

fn disk(path: &CStr) -> Option<(u64, u64)> {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with a NUL, and the pointer names room for one statfs.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: statfs returned 0, so it has filled the structure.
    let found = unsafe { found.assume_init() };
    // macOS counts in u64 and u32, Linux in c_ulong and c_long: all of them are sizes.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between the platforms")]
    let (block, total, available) = (found.f_bsize as u64, found.f_blocks as u64, found.f_bavail as u64);
    Some((total.saturating_mul(block), available.saturating_mul(block)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_something_of_everything() {
        let stats = super::read().unwrap();
        assert!(stats.cpu_count > 0 && stats.memory_free > 0 && stats.memory_free <= stats.memory_total, "{stats:?}");
        assert!(stats.load_average.is_some_and(|load| load.iter().all(|load| *load >= 0.0)), "{stats:?}");
        assert!(stats.disk.is_some_and(|(total, available)| total > 0 && available <= total), "{stats:?}");
    }
}
