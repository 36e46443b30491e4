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
