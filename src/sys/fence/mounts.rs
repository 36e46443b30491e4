//! Where else a directory shows: its file system may be mounted more than once.

use super::*;

struct Mount {
    device: String,
    /// Which directory of the file system is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

/// The other places of `path`, by the text of `/proc/self/mountinfo` (proc(5)).
pub(super) fn places_of(mountinfo: &[u8], path: &Path) -> Vec<PathBuf> {
    let mounts: Vec<Mount> = mountinfo.split(|byte| *byte == b'\n').filter_map(parse).collect();
    // Of several on one point, the last lies on top.
    let own = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let Some(own) = own.max_by_key(|mount| mount.point.components().count()) else { return Vec::new() };
    let Ok(below) = path.strip_prefix(&own.point) else { return Vec::new() };
    let inner = own.root.join(below);
    let place = |mount: &Mount| match inner.strip_prefix(&mount.root) {
        Ok(below) => Some(mount.point.join(below)),
        Err(_) => mount.root.starts_with(&inner).then(|| mount.point.clone()),
    };
    let same = mounts.iter().filter(|mount| mount.device == own.device);
    // `join` of an empty path ends in a slash.
    same.filter_map(place).map(|place| place.components().collect()).filter(|place| place != path).collect()
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    Some(Mount { device, root: unescape(fields.next()?), point: unescape(fields.next()?) })
}

/// Space, tab, newline and backslash are written as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_wherever_its_file_system_is_mounted() {
        let mountinfo = b"20 1 8:1 / / rw - ext4 /dev/a rw\n\
            21 20 8:2 /@home /home rw - btrfs /dev/b rw\n\
            22 20 8:2 / /whole\\040disk rw - btrfs /dev/b rw\n\
            23 20 8:2 /@home/u/state/keys /keys rw - btrfs /dev/b rw\n\
            24 20 8:2 /@home/u/other /other rw - btrfs /dev/b rw\n\
            25 20 0:9 / /proc rw - proc proc rw\n";
        let places = places_of(mountinfo, Path::new("/home/u/state"));
        assert_eq!(places, ["/whole disk/@home/u/state", "/keys"].map(PathBuf::from));
        assert!(places_of(mountinfo, Path::new("/var/state")).is_empty());
    }
}
