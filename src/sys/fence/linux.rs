//! Linux. First choice: namespaces, made once by a helper process (our own binary again) in which what
//! is hidden is covered by an empty file system. Each command's process joins them, which takes a few
//! system calls and none that is not async-signal-safe. A namespace of users makes that possible without
//! privileges, and keeps what is inside from looking into processes outside (`/proc/PID/root`, ptrace).
//! Second choice: Landlock, which can say where to write, but not what to leave out; and for the network
//! a filter of system calls, since Landlock knows no protocol but TCP.

mod landlock;
mod mounts;
mod network_filter;

use super::{Gap, RESERVED_NAME, UNHIDDEN, Walls, try_out};
use crate::limits;
use crate::sys::poll::{self, Interest};
use crate::sys::{process, spawn};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr::null;
use std::sync::Arc;

/// What works here.
#[derive(Debug, Default)]
pub(super) struct Means {
    namespaces: Option<Arc<Namespaces>>,
    landlock: bool,
}

/// Which namespaces are tried, best first. The kernel makes the one of users before the others.
const ATTEMPTS: [libc::c_int; 4] = [
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET,
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS,
    // For root, where namespaces of users are forbidden.
    libc::CLONE_NEWNS | libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
];

impl Means {
    pub(super) fn find(program: &Path, hidden: &[PathBuf], gaps: &[Gap]) -> (Self, String) {
        let landlock = landlock::is_sufficient();
        let writing = if landlock { "" } else { "no " };
        let mut refusal = None;
        for kinds in ATTEMPTS {
            let made = Namespaces::make(program, hidden, gaps, kinds);
            let means = made.map(|made| Self { namespaces: Some(Arc::new(made)), landlock });
            match means.and_then(|means| means.try_out(program)) {
                Ok(means) => {
                    let network = if means.has_network_namespace() { "" } else { "no " };
                    return (means, format!("mount namespace, {network}network namespace, {writing}Landlock"));
                }
                Err(error) => _ = refusal.get_or_insert(error),
            }
        }
        let why = refusal.unwrap_or_default();
        match (Self { namespaces: None, landlock }).try_out(program) {
            Ok(means) if landlock => (means, format!("Landlock only (no namespaces: {why}): {UNHIDDEN}")),
            other => {
                let lack = other.err().unwrap_or_else(|| "no Landlock, or an old one".to_owned());
                (Self::default(), format!("none (no namespaces: {why}; {lack}): {UNHIDDEN}"))
            }
        }
    }

    /// Starts a process behind everything there is.
    fn try_out(self, program: &Path) -> Result<Self, String> {
        let walls = Walls {
            write_only_below: self.landlock.then_some(&[]),
            no_network: network_filter::ARCHITECTURE.is_some() || self.has_network_namespace(),
        };
        let fence = self.enclose(&walls)?;
        try_out(program, &[RESERVED_NAME.into(), NOTHING.into()], &fence).map(|()| self)
    }

    /// The gaps in what is hidden; none where nothing is.
    pub(super) fn gaps(&self) -> Option<&[PathBuf]> {
        self.namespaces.as_ref().map(|namespaces| namespaces.gaps.as_slice())
    }

    fn has_network_namespace(&self) -> bool {
        self.namespaces.as_ref().is_some_and(|namespaces| namespaces.network.is_some())
    }

    pub(super) fn enclose(&self, walls: &Walls<'_>) -> Result<Enclosure, String> {
        let mut enclosure = Enclosure { namespaces: self.namespaces.clone(), ..Enclosure::none() };
        enclosure.no_new_privileges = true;
        if let Some(directories) = walls.write_only_below {
            if !self.landlock {
                return Err("writing elsewhere cannot be prevented: the kernel has no Landlock, or an old one".into());
            }
            let ruleset = landlock::write_only_below(directories);
            enclosure.ruleset =
                Some(ruleset.map_err(|error| format!("writing elsewhere cannot be prevented: {error}"))?);
        }
        enclosure.no_network = walls.no_network;
        enclosure.filters_network = walls.no_network && !self.has_network_namespace();
        if enclosure.filters_network && network_filter::ARCHITECTURE.is_none() {
            return Err("the network cannot be taken away: there are no network namespaces".into());
        }
        Ok(enclosure)
    }
}

/// What one command starts in. Holds descriptors only, so that joining needs no memory.
#[derive(Debug)]
pub struct Enclosure {
    namespaces: Option<Arc<Namespaces>>,
    no_network: bool,
    /// Without a namespace for that.
    filters_network: bool,
    ruleset: Option<OwnedFd>,
    no_new_privileges: bool,
}

/// Capabilities that root is left without, since they undo a fence: umount, ptrace, raw devices, the
/// kernel. Numbers of `linux/capability.h`: DAC_READ_SEARCH (files by handle), SYS_MODULE, SYS_RAWIO,
/// SYS_PTRACE, SYS_ADMIN, SYS_BOOT, MKNOD, PERFMON, BPF, CHECKPOINT_RESTORE.
const UNDOING_CAPABILITIES: [libc::c_int; 10] = [2, 16, 17, 19, 21, 22, 27, 38, 39, 40];

impl Enclosure {
    /// No fence at all: the level `none`.
    pub fn none() -> Self {
        Self { namespaces: None, no_network: false, filters_network: false, ruleset: None, no_new_privileges: false }
    }

    /// Whether a path means something else inside than outside.
    pub(in crate::sys) fn has_other_mounts(&self) -> bool {
        self.namespaces.is_some()
    }

    /// Joins the namespaces. Negative, with `errno`, on failure.
    ///
    /// # Safety
    /// Changes the process: only between the start of a new one and exec. Async-signal-safe.
    pub(in crate::sys) unsafe fn enter(&self) -> libc::c_int {
        let Some(namespaces) = &self.namespaces else { return 0 };
        let joined = [
            (namespaces.user.as_ref(), libc::CLONE_NEWUSER),
            (Some(&namespaces.mount), libc::CLONE_NEWNS),
            (namespaces.network.as_ref().filter(|_| self.no_network), libc::CLONE_NEWNET),
        ];
        for (namespace, kind) in joined {
            // SAFETY: an open descriptor and an integer.
            if namespace.is_some_and(|fd| unsafe { libc::setns(fd.as_raw_fd(), kind) } != 0) {
                return -1;
            }
        }
        if namespaces.covers.iter().all(Cover::is_in_place) {
            return 0;
        }
        // SAFETY: the address of this thread's own variable.
        unsafe { *libc::__errno_location() = libc::ESTALE };
        -1
    }

    /// Gives up what could undo the fence. Negative, with `errno`, on failure.
    ///
    /// # Safety
    /// As [`Enclosure::enter`], after it.
    pub(in crate::sys) unsafe fn shut(&self) -> libc::c_int {
        // SAFETY: integers and open descriptors only, but for capabilities, which see.
        unsafe {
            if self.namespaces.is_some() {
                for capability in UNDOING_CAPABILITIES {
                    if libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) == 1
                        && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
                    {
                        return -1;
                    }
                }
                if inherit_no_capability() != 0 {
                    return -1;
                }
            }
            if self.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return -1;
            }
            if self.ruleset.as_ref().is_some_and(|ruleset| landlock::restrict(ruleset.as_fd()) != 0) {
                return -1;
            }
            if self.filters_network { network_filter::install() } else { 0 }
        }
    }
}

/// What exec adds for root beyond the bounding set: nothing.
unsafe fn inherit_no_capability() -> libc::c_int {
    /// `linux/capability.h`: version 3, and the calling process.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    // Twice effective, permitted, inheritable.
    let mut sets = [0_u32; 6];
    let mut header = HEADER;
    // SAFETY: the kernel's two structures, of these integers, both writable.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) != 0 {
            return -1;
        }
        let [_, _, low, _, _, high] = &mut sets;
        (*low, *high) = (0, 0);
        header = HEADER;
        if libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) == 0 { 0 } else { -1 }
    }
}

/// The places behind the fence, kept alive by their descriptors.
#[derive(Debug)]
struct Namespaces {
    /// None for root where they are forbidden.
    user: Option<OwnedFd>,
    mount: OwnedFd,
    network: Option<OwnedFd>,
    covers: Vec<Cover>,
    /// What lies in a covered directory and shows all the same.
    gaps: Vec<PathBuf>,
}

/// A hidden path, and what it names behind the fence.
#[derive(Debug)]
struct Cover {
    path: CString,
    /// Device and inode of what lies over it; none if there was nothing to hide.
    identity: Option<(u64, u64)>,
}

impl Cover {
    /// Whether the path still leads to the cover: whoever replaces a directory outside takes the cover
    /// away with the old one. Async-signal-safe.
    fn is_in_place(&self) -> bool {
        // SAFETY: an all-zero `stat` is valid memory for the call that fills it; `path` is NUL-terminated.
        let found = unsafe {
            let mut metadata: libc::stat = std::mem::zeroed();
            (libc::stat(self.path.as_ptr(), &raw mut metadata) == 0).then_some((metadata.st_dev, metadata.st_ino))
        };
        found == self.identity
    }
}

impl Namespaces {
    /// Lets a helper make them, and takes hold of them.
    fn make(program: &Path, hidden: &[PathBuf], gaps: &[Gap], kinds: libc::c_int) -> Result<Self, String> {
        let canonical: Vec<Option<PathBuf>> = hidden.iter().map(|path| fs::canonicalize(path).ok()).collect();
        let mut helper = Helper::start(program, kinds, canonical.iter().flatten(), gaps)?;
        let place = PathBuf::from(format!("/proc/{}", helper.child.id()));
        let told = |what: &str, error: io::Error| format!("{what}: {error}");
        helper.expect(UNSHARED)?;
        let has = |kind| kinds & kind != 0;
        if has(libc::CLONE_NEWUSER) {
            map_users(&place).map_err(|error| told("mapping users", error))?;
        }
        helper.go_on().map_err(|error| told("the helper is gone", error))?;
        helper.expect(COVERED)?;
        let open = |name: &str| File::open(place.join("ns").join(name)).map(OwnedFd::from);
        let namespace = |kind, name| has(kind).then(|| open(name)).transpose();
        let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let inside = |path: &Path| identity(&place.join("root").join(path.strip_prefix("/").ok()?));
        let cover = |(path, canonical): (&PathBuf, &Option<PathBuf>)| {
            let identity = canonical.as_deref().and_then(inside);
            Ok(Cover { path: CString::new(path.as_os_str().as_bytes())?, identity })
        };
        let is_open = |path: &&PathBuf| identity(path).is_some_and(|outside| inside(path) == Some(outside));
        let taken = || -> io::Result<Self> {
            Ok(Self {
                user: namespace(libc::CLONE_NEWUSER, "user")?,
                mount: open("mnt")?,
                network: namespace(libc::CLONE_NEWNET, "net")?,
                covers: hidden.iter().zip(&canonical).map(cover).collect::<io::Result<_>>()?,
                gaps: gaps.iter().map(|gap| &gap.path).filter(is_open).cloned().collect(),
            })
        };
        let made = taken().map_err(|error| told("taking hold of the namespaces", error))?;
        let is_hidden = |cover: &Cover| {
            let outside = identity(Path::new(OsStr::from_bytes(cover.path.as_bytes())));
            outside.is_none() || outside != cover.identity
        };
        let all = made.covers.iter().all(is_hidden);
        all.then_some(made).ok_or_else(|| "the helper did not hide what it was told to hide".to_owned())
    }
}

/// Ourselves to ourselves; root, who may, everybody.
fn map_users(place: &Path) -> io::Result<()> {
    let map = |own: &str, id: u32| -> io::Result<String> {
        if process::effective_uid() != 0 {
            return Ok(format!("{id} {id} 1\n"));
        }
        // First inside, first outside, count: everybody whom we see ourselves.
        let lines = fs::read_to_string(own)?;
        let same = |line: &str| {
            let mut fields = line.split_whitespace();
            let (first, count) = (fields.next()?, fields.nth(1)?);
            Some(format!("{first} {first} {count}\n"))
        };
        Ok(lines.lines().filter_map(same).collect())
    };
    // SAFETY: both calls take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    if user != 0 {
        // Without this, nobody but root may map groups.
        fs::write(place.join("setgroups"), "deny")?;
    }
    fs::write(place.join("uid_map"), map("/proc/self/uid_map", user)?)?;
    fs::write(place.join("gid_map"), map("/proc/self/gid_map", group)?)
}

/// What the helper says when it has its own namespaces, when everything is hidden; and its task when
/// it is to do nothing but end.
const UNSHARED: &str = "unshared";
const COVERED: &str = "covered";
const NOTHING: &str = "nothing";
/// What the helper is told before each gap; every path that stands without is hidden.
const GAP: &str = "gap";
const GAP_TO_READ: &str = "gap-to-read";

/// The process that makes the namespaces; ends when dropped.
struct Helper {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Helper {
    fn start<'a>(
        program: &Path,
        kinds: libc::c_int,
        hidden: impl Iterator<Item = &'a PathBuf>,
        gaps: &[Gap],
    ) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.arg0(RESERVED_NAME).arg(kinds.to_string()).args(hidden).env_clear().current_dir("/");
        for gap in gaps {
            command.arg(if gap.is_writable { GAP } else { GAP_TO_READ }).arg(&gap.path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let answers = child.stdout.take().ok_or("the helper has no output")?;
        Ok(Self { child, answers: BufReader::new(answers) })
    }

    /// Its next line must be this one; any other says what failed.
    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        let answers = self.answers.get_ref().as_fd();
        let ready = poll::wait_one(answers, Interest::Readable, poll::deadline_in(limits::FENCE_WAIT));
        let mut line = String::new();
        if ready.unwrap_or(false) {
            // It writes a line at once.
            let _ = self.answers.by_ref().take(limits::FENCE_ANSWER_BYTES).read_line(&mut line);
        }
        match line.trim_end() {
            line if line == wanted => Ok(()),
            "" => Err(format!("the helper did not get as far as {wanted:?}")),
            refusal => Err(refusal.to_owned()),
        }
    }

    fn go_on(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"\n"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // What it made lives on as long as somebody holds it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper's work: `kinds` of namespaces, then what to hide. It has no more rights than its caller.
pub(super) fn serve(arguments: Vec<OsString>) -> Result<(), String> {
    let mut arguments = arguments.into_iter();
    let task = arguments.next().unwrap_or_default();
    if task == NOTHING {
        return Ok(());
    }
    let answer = |line: &str| {
        let mut output = io::stdout().lock();
        writeln!(output, "{line}").and_then(|()| output.flush()).map_err(|error| error.to_string())
    };
    let made = || -> Result<(), String> {
        let kinds = task.to_str().and_then(|kinds| kinds.parse().ok()).ok_or("no such task")?;
        // SAFETY: an integer; this process has one thread.
        succeed(unsafe { libc::unshare(kinds) }, || "unshare".to_owned())?;
        answer(UNSHARED)?;
        io::stdin().read_exact(&mut [0]).map_err(|error| error.to_string())?;
        hide(arguments)?;
        if kinds & libc::CLONE_NEWNET != 0 {
            // Programs that talk to themselves; without it they are merely offline too.
            let _ = raise_loopback();
        }
        answer(COVERED)
    };
    if let Err(refusal) = made() {
        answer(&refusal)?;
        return Err(refusal);
    }
    // Until the caller has taken hold of everything, or is gone.
    io::stdin().read_to_end(&mut Vec::new()).map(drop).map_err(|error| error.to_string())
}

/// Covers every path, wherever it can be reached, but for the gaps; and the raw devices, on which root would find it.
fn hide(mut arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    // What the host mounts later shall appear here too; what is mounted here is nobody else's business.
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_SLAVE, None)?;
    let mounts = fs::read("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let (mut paths, mut gaps) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        if argument != GAP && argument != GAP_TO_READ {
            paths.push(PathBuf::from(argument));
        } else if let Some(path) = arguments.next().map(PathBuf::from)
            // Before it is covered; what is a link by now is none.
            && let Ok(held) = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&path)
        {
            gaps.push((path, held, argument == GAP));
        }
    }
    for path in paths {
        for place in mounts::places_of(&mounts, &path) {
            cover(&place)?;
        }
        cover(&path)?;
        for (gap, held, is_writable) in &gaps {
            if gap.parent() == Some(&path) {
                open_gap(&path, gap, held, *is_writable)?;
            }
        }
    }
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    for device in devices.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device())) {
        cover(&device.path())?;
    }
    Ok(())
}

/// An empty directory over a directory, the null device over anything else; what is not there, or
/// already behind another cover, needs none.
fn cover(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if !metadata.is_dir() {
        return mount(Some("/dev/null"), path, None, libc::MS_BIND, None);
    }
    mount(Some("openclaw"), path, Some("tmpfs"), COVERED_WITH, Some("mode=555,size=4k"))
}

const COVERED_WITH: libc::c_ulong = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Lets a directory show through the cover over the one that it lies in. If that fails it stays covered.
fn open_gap(covered: &Path, gap: &Path, held: &File, is_writable: bool) -> Result<(), String> {
    mount(None, covered, None, (libc::MS_REMOUNT | COVERED_WITH) & !libc::MS_RDONLY, None)?;
    if fs::create_dir(gap).is_ok() {
        let source = format!("/proc/self/fd/{}", held.as_raw_fd());
        let shown = mount(Some(&source), gap, None, libc::MS_BIND, None);
        if shown.is_ok() && !is_writable && make_read_only(gap).is_err() {
            unmount(gap)?;
        }
    }
    mount(None, covered, None, libc::MS_REMOUNT | COVERED_WITH, None)
}

/// A remount would have to repeat every flag of the mount below, which nobody inside may change.
fn make_read_only(place: &Path) -> Result<(), String> {
    /// `struct mount_attr`: what to set, what to clear, propagation, mapping of users.
    const READ_ONLY: [u64; 4] = [1, 0, 0, 0];
    let path = CString::new(place.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a NUL-terminated path and the kernel's structure of these integers, with its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            0_u32,
            READ_ONLY.as_ptr(),
            size_of_val(&READ_ONLY),
        )
    };
    succeed(if result == 0 { 0 } else { -1 }, || format!("make {} read-only", place.display()))
}

fn unmount(place: &Path) -> Result<(), String> {
    let path = CString::new(place.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a NUL-terminated path.
    succeed(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }, || format!("unmount {}", place.display()))
}

fn mount(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: libc::c_ulong,
    options: Option<&str>,
) -> Result<(), String> {
    let text = |text: &[u8]| CString::new(text).map_err(|error| error.to_string());
    let optional = |value: Option<&str>| value.map(|value| text(value.as_bytes())).transpose();
    let (source, kind, options) = (optional(source)?, optional(kind)?, optional(options)?);
    let place = text(target.as_os_str().as_bytes())?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
    // SAFETY: each pointer is null or a NUL-terminated string that outlives the call.
    let result =
        unsafe { libc::mount(pointer(&source), place.as_ptr(), pointer(&kind), flags, pointer(&options).cast()) };
    succeed(result, || format!("mount over {}", target.display()))
}

fn succeed(result: libc::c_int, what: impl Fn() -> String) -> Result<(), String> {
    if result < 0 { Err(format!("{}: {}", what(), io::Error::last_os_error())) } else { Ok(()) }
}

fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: a structure of integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: an open socket and a live request.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
