//! Who listens on a TCP port; for messages, and for deciding whether a listener is our own user's.

/// Process id of the listener on a loopback port, if it can be found out (Linux: our own user's
/// processes only).
#[cfg(target_os = "linux")]
pub fn holder_of(port: u16) -> Option<u32> {
    let inode = listening_socket(port)?.inode;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        });
        if holds {
            return Some(pid);
        }
    }
    None
}

/// User id of the listener on a loopback port.
#[cfg(target_os = "linux")]
pub fn owner_of(port: u16) -> Option<u32> {
    listening_socket(port).map(|socket| socket.uid)
}

#[cfg(target_os = "linux")]
struct Listening {
    uid: u32,
    inode: u64,
}

/// Reads `/proc/net/tcp` and `tcp6`: the row in state LISTEN (`0A`) on that port.
#[cfg(target_os = "linux")]
fn listening_socket(port: u16) -> Option<Listening> {
    let suffix = format!(":{port:04X}");
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else { continue };
        for row in text.lines().skip(1) {
            let fields: Vec<&str> = row.split_whitespace().collect();
            if let [_, local, _, "0A", _, _, _, uid, _, inode, ..] = fields.as_slice()
                && local.ends_with(&suffix)
                && let (Ok(uid), Ok(inode)) = (uid.parse(), inode.parse())
            {
                return Some(Listening { uid, inode });
            }
        }
    }
    None
}

/// Not found out on this system yet: macOS needs libproc, which comes with the Mac parts. Callers
/// treat "unknown" as "somebody else".
#[cfg(not(target_os = "linux"))]
pub fn holder_of(_port: u16) -> Option<u32> {
    None
}

/// See [`holder_of`].
#[cfg(not(target_os = "linux"))]
pub fn owner_of(_port: u16) -> Option<u32> {
    None
}
