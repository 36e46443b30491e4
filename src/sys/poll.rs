//! Waiting for descriptors.

use super::wake::Wake;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What to wait for on one descriptor.
#[derive(Clone, Copy)]
pub enum Interest {
    /// Data, end of stream or an error.
    Readable,
    /// Room to write, or an error.
    Writable,
}

/// Waits until one of `fds` is ready or `deadline` (none = for ever) has passed. The answer says
/// for each descriptor whether it is ready; all false means the deadline.
///
/// # Errors
/// The kernel's refusal; an interruption is not one.
pub fn wait(fds: &[(BorrowedFd<'_>, Interest)], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, interest)| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: match interest {
                Interest::Readable => libc::POLLIN,
                Interest::Writable => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    poll(&mut polled, deadline)?;
    Ok(polled.iter().map(|fd| fd.revents != 0).collect())
}

/// `poll` that goes on after an interruption with the time that is left.
fn poll(polled: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout = match deadline {
            None => -1,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that a wait never ends before its deadline and spins.
                i32::try_from(left.as_millis().saturating_add(u128::from(!left.is_zero()))).unwrap_or(i32::MAX)
            }
        };
        let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
        // SAFETY: `polled` is a live array of `count` pollfd structures.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) };
        if ready > 0 || (ready == 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline)) {
            return Ok(());
        }
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Why [`wait_gone`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The peer has closed both directions.
    Peer,
    /// The wake was fired.
    Woken,
    /// The deadline passed.
    Deadline,
}

/// Waits until the peer of a Unix socket has gone altogether. A peer that only closed its writing
/// half is still there: official clients half-close right after their request (spec exec b.4).
///
/// # Errors
/// The kernel's refusal.
#[cfg(not(target_os = "macos"))]
pub fn wait_gone(socket: BorrowedFd<'_>, wake: &Wake, deadline: Option<Instant>) -> io::Result<Gone> {
    // Linux: with `events = 0` poll reports POLLHUP and POLLERR only, and POLLHUP only when both
    // directions are closed (NOTES, tried).
    let mut polled = [
        libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 },
        libc::pollfd { fd: wake.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 },
    ];
    poll(&mut polled, deadline)?;
    Ok(match polled {
        [_, woken] if woken.revents != 0 => Gone::Woken,
        [gone, _] if gone.revents != 0 => Gone::Peer,
        _ => Gone::Deadline,
    })
}

/// Waits until the peer of a Unix socket has gone altogether. A peer that only closed its writing
/// half is still there: official clients half-close right after their request (spec exec b.4).
///
/// # Errors
/// The kernel's refusal.
#[cfg(target_os = "macos")]
pub fn wait_gone(socket: BorrowedFd<'_>, wake: &Wake, deadline: Option<Instant>) -> io::Result<Gone> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // macOS: poll reports POLLHUP for a socket registered for reading already at the half-close,
    // which would cancel every official request. So only the write filter is watched, where
    // EV_EOF means that the peer's reading half is gone too (NOTES; not runnable on Linux).
    // SAFETY: kqueue has no arguments; the result is checked and owned at once.
    let queue = unsafe { libc::kqueue() };
    if queue < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `queue` is a fresh descriptor that nobody else owns.
    let queue = unsafe { OwnedFd::from_raw_fd(queue) };
    let change = |fd: i32, filter: i16| libc::kevent {
        ident: usize::try_from(fd).unwrap_or(0),
        filter,
        flags: libc::EV_ADD | libc::EV_CLEAR,
        fflags: 0,
        data: 0,
        udata: std::ptr::null_mut(),
    };
    let changes = [change(socket.as_raw_fd(), libc::EVFILT_WRITE), change(wake.fd().as_raw_fd(), libc::EVFILT_READ)];
    let mut pending: &[libc::kevent] = &changes;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(left.subsec_nanos() as i32),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut event = change(-1, 0);
        let count = i32::try_from(pending.len()).unwrap_or(0);
        // SAFETY: `pending` holds `count` changes, `event` has room for one event.
        let ready = unsafe { libc::kevent(queue.as_raw_fd(), pending.as_ptr(), count, &raw mut event, 1, timeout) };
        match ready {
            0 => return Ok(Gone::Deadline),
            1.. if event.filter == libc::EVFILT_READ => return Ok(Gone::Woken),
            1.. if event.flags & libc::EV_EOF != 0 => return Ok(Gone::Peer),
            1.. => {}
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        pending = &[];
    }
}

/// Waits for one descriptor; false means the deadline.
///
/// # Errors
/// The kernel's refusal.
pub fn wait_one(fd: BorrowedFd<'_>, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
    Ok(wait(&[(fd, interest)], deadline)?.first().copied().unwrap_or(false))
}

/// `Instant` that far from now, or none when it cannot be expressed.
pub fn deadline_in(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// A120: a half-close is not a departure, a close is; and the wake ends the wait.
    #[test]
    fn sec_a120_half_close_is_not_gone() {
        let wake = Wake::new().unwrap();
        let soon = || deadline_in(Duration::from_millis(50));
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(wait_gone(ours.as_fd(), &wake, soon()).unwrap(), Gone::Deadline);
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wait_gone(ours.as_fd(), &wake, soon()).unwrap(), Gone::Deadline);
        drop(theirs);
        assert_eq!(wait_gone(ours.as_fd(), &wake, None).unwrap(), Gone::Peer);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        wake.fire();
        assert_eq!(wait_gone(ours.as_fd(), &wake, None).unwrap(), Gone::Woken);
    }
}
