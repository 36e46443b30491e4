//! macOS: a Seatbelt profile. A process can only restrict itself, and after AppKit has started a fork
//! may do nothing but exec: so what is spawned is our own binary again, which reads its plan from
//! descriptor 3, restricts itself and execs in place. Seatbelt lets nobody inside start a set-uid program.
//!
//! Paths in a profile are judged after all links are resolved, at each access, so an open working
//! directory and `..` lead nowhere either.

use super::{Gap, RESERVED_NAME, UNHIDDEN, Walls, try_out};
use crate::limits;
use crate::sys::spawn::{self, HANDED_OVER_FROM};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What works here.
#[derive(Debug, Default)]
pub(super) struct Means {
    /// Our own binary, and what every profile begins with.
    seatbelt: Option<(PathBuf, Hidden)>,
}

/// Canonical paths that are kept from commands, but for the gaps.
#[derive(Debug)]
struct Hidden {
    paths: Vec<PathBuf>,
    gaps: Vec<PathBuf>,
    read_only_gaps: Vec<PathBuf>,
}

impl Means {
    pub(super) fn find(program: &Path, hidden: &[PathBuf], gaps: &[Gap]) -> (Self, String) {
        let canonical = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let read_only = gaps.iter().filter(|gap| !gap.is_writable);
        let hidden = Hidden {
            paths: hidden.iter().map(canonical).collect(),
            gaps: gaps.iter().map(|gap| gap.path.clone()).collect(),
            read_only_gaps: read_only.map(|gap| gap.path.clone()).collect(),
        };
        let means = Self { seatbelt: Some((program.to_owned(), hidden)) };
        let tried = means.enclose(&Walls::default()).and_then(|fence| {
            let Some((_, hidden)) = &means.seatbelt else { return Ok(()) };
            let first = hidden.paths.iter().find(|path| path.exists());
            first.map_or(Ok(()), |path| {
                // Succeeds if a program starts and what is hidden cannot be listed.
                let arguments = ["sh", "-c", "! /bin/ls \"$1\"", "sh"].map(OsString::from);
                let arguments: Vec<OsString> = arguments.into_iter().chain([path.into()]).collect();
                try_out(Path::new("/bin/sh"), &arguments, &fence)
            })
        });
        match tried {
            Ok(()) => (means, "Seatbelt".to_owned()),
            Err(reason) => (Self::default(), format!("none (no Seatbelt: {reason}): {UNHIDDEN}")),
        }
    }

    /// The gaps in what is hidden; none where nothing is.
    pub(super) fn gaps(&self) -> Option<&[PathBuf]> {
        self.seatbelt.as_ref().map(|(_, hidden)| hidden.gaps.as_slice())
    }

    pub(super) fn enclose(&self, walls: &Walls<'_>) -> Result<Enclosure, String> {
        match &self.seatbelt {
            Some((program, hidden)) => Ok(Enclosure(Some((program.clone(), hidden.profile(walls)?)))),
            None if walls.write_only_below.is_some() => Err("writing elsewhere cannot be prevented".into()),
            None if walls.no_network => Err("the network cannot be taken away".into()),
            None => Ok(Enclosure::none()),
        }
    }
}

/// Devices on which writing leaves nothing behind, and the command's own terminals and descriptors.
const DEVICES: &str = r#"(literal "/dev/null") (literal "/dev/zero") (literal "/dev/random") (literal "/dev/urandom")
  (literal "/dev/tty") (literal "/dev/ptmx") (literal "/dev/dtracehelper") (regex #"^/dev/ttys[0-9]+$") (subpath "/dev/fd")"#;

impl Hidden {
    /// In the language of profiles the last rule that fits decides.
    fn profile(&self, walls: &Walls<'_>) -> Result<String, String> {
        let mut profile = "(version 1)\n(allow default)\n".to_owned();
        if let Some(directories) = walls.write_only_below {
            let _ = write!(profile, "(deny file-write*)\n(allow file-write* {DEVICES}");
            for directory in directories {
                let canonical =
                    directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
                let _ = write!(profile, "\n  (subpath {})", quoted(&canonical)?);
            }
            profile.push_str(")\n");
        }
        let mut but_gaps = String::new();
        for gap in &self.gaps {
            let _ = write!(but_gaps, " (require-not (subpath {}))", quoted(gap)?);
        }
        for path in &self.paths {
            let path_text = quoted(path)?;
            let _ = writeln!(profile, "(deny file* (require-all (subpath {path_text}){but_gaps}))");
            let _ = writeln!(profile, "(deny network-outbound (remote unix-socket (subpath {path_text})))");
            // Rules go by path: nobody moves a directory above it, and it with that.
            for above in path.ancestors().skip(1) {
                let _ = writeln!(profile, "(deny file-write-unlink (literal {}))", quoted(above)?);
            }
        }
        for gap in &self.gaps {
            let _ = writeln!(profile, "(deny file-write-unlink (literal {}))", quoted(gap)?);
        }
        for gap in &self.read_only_gaps {
            let _ = writeln!(profile, "(deny file-write* (subpath {}))", quoted(gap)?);
        }
        if walls.no_network {
            profile.push_str("(deny network*)\n");
        }
        Ok(profile)
    }
}

/// A path as a string of the profile's language.
fn quoted(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| format!("{path:?} cannot be written in a Seatbelt profile"))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// What one command starts in: our own binary as launcher, and the profile.
#[derive(Debug)]
pub struct Enclosure(Option<(PathBuf, String)>);

/// What is started in place of a command, and what it is told then.
pub(in crate::sys) struct Launch<'a> {
    pub(in crate::sys) program: &'a Path,
    pub(in crate::sys) arguments: [OsString; 1],
    plan: Vec<u8>,
}

impl Enclosure {
    /// No fence at all: the level `none`.
    pub fn none() -> Self {
        Self(None)
    }

    /// How to start this program inside; none if there is no fence.
    pub(in crate::sys) fn launch(&self, program: &Path, arguments: &[OsString]) -> Option<Launch<'_>> {
        let (launcher, profile) = self.0.as_ref()?;
        let fields =
            [OsStr::new(profile), program.as_os_str()].into_iter().chain(arguments.iter().map(OsString::as_os_str));
        // The count of what follows comes first, so that half a plan is none.
        let mut plan = (arguments.len() + 2).to_string().into_bytes();
        for field in fields {
            plan.push(0);
            plan.extend_from_slice(field.as_bytes());
        }
        Some(Launch { program: launcher, arguments: [RESERVED_NAME.into()], plan })
    }
}

/// The launcher's descriptor: its plan comes in, its failure goes out.
pub(in crate::sys) const CHANNEL: libc::c_int = 3;

impl Launch<'_> {
    /// Tells the launcher its plan; returns once it has become the program.
    ///
    /// # Errors
    /// What kept it from that.
    pub(in crate::sys) fn tell(&self, mut channel: UnixStream) -> io::Result<()> {
        channel.set_write_timeout(Some(limits::FENCE_WAIT))?;
        channel.set_read_timeout(Some(limits::FENCE_WAIT))?;
        channel.write_all(&self.plan)?;
        channel.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        channel.take(limits::FENCE_ANSWER_BYTES).read_to_end(&mut answer)?;
        if answer.is_empty() {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer);
        // A number is the system's refusal of the program, anything else a sentence about the fence.
        Err(answer.parse().map_or_else(|_| io::Error::other(answer.into_owned()), io::Error::from_raw_os_error))
    }
}

unsafe extern "C" {
    /// `sandbox.h`; with no flags `profile` is the profile itself.
    fn sandbox_init(profile: *const libc::c_char, flags: u64, error: *mut *mut libc::c_char) -> libc::c_int;
}

/// The launcher's work. It has no more rights than its caller.
pub(super) fn serve(_: Vec<OsString>) -> Result<(), String> {
    // SAFETY: integers only; a copy that exec closes.
    let copy = unsafe { libc::fcntl(CHANNEL, libc::F_DUPFD_CLOEXEC, HANDED_OVER_FROM) };
    let mut channel = UnixStream::from(spawn::owned(copy).map_err(|error| format!("there is no plan: {error}"))?);
    // SAFETY: nobody else in this process knows of it.
    unsafe { libc::close(CHANNEL) };
    let refusal = follow_plan(&mut channel);
    let _ = channel.write_all(refusal.as_bytes());
    Err(refusal)
}

/// Reads the plan, restricts this process, becomes the program. Returns only what went wrong.
fn follow_plan(channel: &mut UnixStream) -> String {
    let mut plan = Vec::new();
    if let Err(error) = channel.take(limits::FENCE_PLAN_BYTES).read_to_end(&mut plan) {
        return format!("the plan cannot be read: {error}");
    }
    let mut fields = plan.split(|byte| *byte == 0);
    let count = fields.next().and_then(|count| std::str::from_utf8(count).ok()?.parse::<usize>().ok());
    let fields: Vec<CString> = fields.filter_map(|field| CString::new(field).ok()).collect();
    let (Some([profile, program, arguments @ ..]), true) = (fields.get(..), count == Some(fields.len())) else {
        return "the plan is damaged; nothing was started".to_owned();
    };
    let mut reason = std::ptr::null_mut();
    // SAFETY: a NUL-terminated string, and a pointer that is written on failure.
    if unsafe { sandbox_init(profile.as_ptr(), 0, &raw mut reason) } != 0 {
        // SAFETY: null or a NUL-terminated string; it lives as long as this process, which ends soon.
        let reason = (!reason.is_null()).then(|| unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned());
        return format!("Seatbelt refused the fence: {}", reason.unwrap_or_default());
    }
    let arguments: Vec<_> = arguments.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the array ends with null and points to strings that live; the Rust runtime has ignored
    // this signal, which the program shall not inherit.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execv(program.as_ptr(), arguments.as_ptr());
    }
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL).to_string()
}
