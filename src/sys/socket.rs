//! Sockets: who is at the other end, and sending without waiting.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// User id of the process that connected, from the kernel.
///
/// # Errors
/// The kernel does not say: treat the peer as a stranger (A110).
#[cfg(not(target_os = "macos"))]
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(peer_credentials(socket)?.uid)
}

/// Process id of the peer at the time it connected; for logs, never for decisions.
///
/// # Errors
/// The kernel does not say.
#[cfg(not(target_os = "macos"))]
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(peer_credentials(socket)?.pid).map_err(io::Error::other)
}

#[cfg(not(target_os = "macos"))]
fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: the pointers name a ucred and its length, both alive for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 && length as usize == size_of::<libc::ucred>() {
        Ok(credentials)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// User id of the process that connected, from the kernel.
///
/// # Errors
/// The kernel does not say: treat the peer as a stranger (A110).
#[cfg(target_os = "macos")]
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: both pointers name integers that live for the call.
    let result = unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if result == 0 { Ok(uid) } else { Err(io::Error::last_os_error()) }
}

/// Process id of the peer at the time it connected; for logs, never for decisions.
///
/// # Errors
/// The kernel does not say.
#[cfg(target_os = "macos")]
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut pid: libc::pid_t = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::pid_t>()).map_err(io::Error::other)?;
    // SAFETY: the pointers name a pid_t and its length, both alive for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERPID,
            (&raw mut pid).cast(),
            &raw mut length,
        )
    };
    if result == 0 { u32::try_from(pid).map_err(io::Error::other) } else { Err(io::Error::last_os_error()) }
}

/// Audit token of the process that used the other end last, as that process is now: its eight words name it and the
/// image that it runs. Source: spec mac-app (7.1)
///
/// # Errors
/// `Unsupported` where there is no such thing; else the peer has gone.
#[cfg(target_os = "macos")]
pub fn peer_token(socket: BorrowedFd<'_>) -> io::Result<[u8; 32]> {
    let mut token = [0_u8; 32];
    let mut length = libc::socklen_t::try_from(token.len()).map_err(io::Error::other)?;
    // SAFETY: the pointers name the buffer and its length, both alive for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERTOKEN,
            token.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize == token.len() { Ok(token) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// As on macOS; here nothing tells one image of a process from the next.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "macos"))]
pub fn peer_token(_socket: BorrowedFd<'_>) -> io::Result<[u8; 32]> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends what the kernel takes right now; never waits, never raises SIGPIPE.
///
/// # Errors
/// `WouldBlock` when the kernel takes nothing; anything else ends the connection.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "macos")]
    let flags = libc::MSG_DONTWAIT; // SIGPIPE is off by SO_NOSIGPIPE, see `no_sigpipe`
    #[cfg(not(target_os = "macos"))]
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: pointer and length name the live slice.
        let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// macOS knows no MSG_NOSIGNAL: every socket, accepted ones too, is told once. Elsewhere a no-op.
pub fn no_sigpipe(socket: BorrowedFd<'_>) {
    #[cfg(target_os = "macos")]
    {
        let on: libc::c_int = 1;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointer names an int that lives for the call. A failure only means that a
        // vanished peer raises SIGPIPE, which `process::ignore_sigpipe` has already taken care of.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE, (&raw const on).cast(), length);
        }
    }
    #[cfg(not(target_os = "macos"))]
    let _ = socket;
}

/// True when an accept failed for want of descriptors.
pub fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// For `OpenOptions::custom_flags`: a symbolic link at the end of the path is refused.
pub const O_NOFOLLOW: i32 = libc::O_NOFOLLOW;
