//! What this machine says it is.

/// `client.platform` of `connect`: `linux`, `macos 15.5`. Source: spec gateway §3.
pub fn platform() -> String {
    #[cfg(target_os = "macos")]
    {
        match sysctl_text(c"kern.osproductversion") {
            Some(version) => format!("macos {version}"),
            None => "macos".to_owned(),
        }
    }
    #[cfg(not(target_os = "macos"))]
    std::env::consts::OS.to_owned()
}

/// `client.deviceFamily` of `connect`; it must agree with [`platform`].
pub fn device_family() -> &'static str {
    if cfg!(target_os = "macos") { "Mac" } else { "Linux" }
}

/// `client.modelIdentifier` of `connect`, where the system tells one: `Mac15,6`.
pub fn model_identifier() -> Option<String> {
    #[cfg(target_os = "macos")]
    {
        sysctl_text(c"hw.model")
    }
    #[cfg(not(target_os = "macos"))]
    None
}

/// Bytes of memory, and how many of them programs could still get.
pub fn memory_bytes() -> Option<(u64, u64)> {
    #[cfg(target_os = "macos")]
    {
        // SAFETY: sysconf takes an integer and cannot fail for this name.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        let pages: u32 = sysctl_number(c"vm.page_free_count")?;
        Some((sysctl_number(c"hw.memsize")?, u64::from(pages).saturating_mul(page)))
    }
    #[cfg(not(target_os = "macos"))]
    {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
    }
}

/// A number of the kernel's, of exactly the size of `T`.
#[cfg(target_os = "macos")]
fn sysctl_number<T: Copy + Default>(name: &std::ffi::CStr) -> Option<T> {
    let mut value = T::default();
    let mut length = size_of::<T>();
    // SAFETY: `name` ends with a NUL; value and length name live memory of that size; nothing is
    // set. Only used with integers, for which every bit pattern is a value.
    let result =
        unsafe { libc::sysctlbyname(name.as_ptr(), (&raw mut value).cast(), &raw mut length, std::ptr::null_mut(), 0) };
    (result == 0 && length == size_of::<T>()).then_some(value)
}

/// A text value of the kernel's.
#[cfg(target_os = "macos")]
fn sysctl_text(name: &std::ffi::CStr) -> Option<String> {
    let mut value = [0_u8; 128];
    let mut length = value.len();
    // SAFETY: `name` ends with a NUL; value and length name live memory of that size; nothing is set.
    let result = unsafe {
        libc::sysctlbyname(name.as_ptr(), value.as_mut_ptr().cast(), &raw mut length, std::ptr::null_mut(), 0)
    };
    let text = value.get(..length)?.split(|byte| *byte == 0).next()?;
    (result == 0 && !text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}
