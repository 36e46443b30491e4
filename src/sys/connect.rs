//! Connecting to a Unix socket with a limit on the wait: a stuck server's full listen queue would
//! hold a plain `connect` for ever.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Connects to `path`, waiting at most `limit` for room in the listen queue.
///
/// # Errors
/// `TimedOut` after `limit`, `InvalidInput` for a path that the kernel would cut, else the kernel's.
pub fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let (address, length) = address(path)?;
    let socket = stream_socket()?;
    // Linux bounds the wait in connect by the send timeout; macOS refuses at once when the queue
    // is full. The timeout is reset below: the stream is like any other afterwards.
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(limit))?;
    // SAFETY: the pointer names a sockaddr_un of which the first `length` bytes are set.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Err(if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error });
    }
    stream.set_write_timeout(None)?;
    Ok(stream)
}

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: sockaddr_un is plain data; all bits zero is a valid value of it.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    // One byte stays for the NUL; an empty path would be another address family on Linux.
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in address.sun_path.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    let length = offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((address, libc::socklen_t::try_from(length).map_err(io::Error::other)?))
}

#[cfg(not(target_os = "macos"))]
fn stream_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked and owned at once.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(target_os = "macos")]
fn stream_socket() -> io::Result<OwnedFd> {
    // macOS has no SOCK_CLOEXEC; children start with POSIX_SPAWN_CLOEXEC_DEFAULT, which covers the
    // moment between the two calls.
    // SAFETY: no pointers; the result is checked and owned at once.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: F_SETFD takes an integer.
    if unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    #[test]
    fn connects_and_gives_up_on_a_full_queue() {
        let path = std::env::temp_dir().join(format!("oc-connect-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = connect_unix(&path, Duration::from_secs(5)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let mut queued = Vec::new();
        let start = Instant::now();
        let error = loop {
            match connect_unix(&path, Duration::from_millis(50)) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
            assert!(queued.len() < 100_000);
        };
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
        std::fs::remove_file(&path).unwrap();
        assert!(connect_unix(&path, Duration::from_secs(1)).is_err());
        let long = Path::new("/tmp").join("x".repeat(200));
        assert_eq!(connect_unix(&long, Duration::from_secs(1)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
