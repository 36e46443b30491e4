//! Which file a name really means, and whether it still does when it is about to run: links
//! resolved (A89), identity of the file, its content where somebody could rewrite it, and what the
//! kernel hands a `#!` file to. Source: spec exec (c.6), (d.2); issue part 2, point 5.

use super::plan::{BoundFile, Executable};
use crate::limits;
use crate::log;
use crate::state::files::Stamp;
use crate::sys::process;
use crate::sys::spawn;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The regular file that `path` leads to, bound by its content too where a command could rewrite it.
///
/// # Errors
/// There is none, or its content must be bound and cannot be read or is larger than
/// [`limits::HASHED_BYTES`]: such a file runs nowhere.
pub fn file(path: &Path) -> io::Result<BoundFile> {
    bind(path.canonicalize()?, is_rewritable)
}

/// The same, always with its hash: scripts among the arguments.
///
/// # Errors
/// As [`file`].
pub fn hashed(path: &Path) -> io::Result<BoundFile> {
    bind(path.canonicalize()?, |_, _| true)
}

/// The program that `path` leads to. `search` looks a bare name up as `env` will in a `#!` line. None
/// if it is no program, if what its `#!` line names is none, or if we cannot tell what that starts.
pub fn executable(path: &Path, search: &dyn Fn(&str) -> Option<PathBuf>) -> Option<Executable> {
    let file = program(path)?;
    let mut interpreters = Vec::new();
    add_interpreters(&file, search, limits::SCRIPT_LEVELS, &mut interpreters)?;
    Some(Executable { file, interpreters })
}

fn program(path: &Path) -> Option<BoundFile> {
    // A trailing `/` or `/.` must not name a file.
    let canonical = path.canonicalize().ok()?;
    if !spawn::is_executable(&canonical) {
        return None;
    }
    let told = |error: &io::Error| {
        if error.kind() == io::ErrorKind::FileTooLarge {
            log!("exec", "{}: {error}", path.display());
        }
    };
    bind(canonical, is_rewritable).inspect_err(told).ok()
}

/// `path` is canonical.
fn bind(path: PathBuf, needs_hash: impl Fn(&Path, &Metadata) -> bool) -> io::Result<BoundFile> {
    // By name: a program that we may execute needs not be one that we may read.
    let metadata = std::fs::symlink_metadata(&path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let identity = Stamp::of(&metadata);
    let sha256 = if needs_hash(&path, &metadata) { Some(content(&path, identity)?) } else { None };
    Ok(BoundFile { path, identity, sha256 })
}

/// Mode bits: writable by the group or by everybody.
const WRITABLE: u32 = 0o022;

/// Where the system keeps what only its updates change.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64", "/System", "/Library"];

/// Whether anybody but the system could change the content of the file or put another one in its
/// place: commands, which run as we do, or another user. Where we are root ourselves, the system is
/// what lies in its own directories.
fn is_rewritable(path: &Path, metadata: &Metadata) -> bool {
    let is_system = process::effective_uid() != 0 || SYSTEM.iter().any(|directory| path.starts_with(directory));
    let open = |metadata: &Metadata| !is_system || metadata.uid() != 0 || metadata.mode() & WRITABLE != 0;
    let directory = path.parent().map(std::fs::symlink_metadata);
    open(metadata) || !matches!(directory, Some(Ok(directory)) if !open(&directory))
}

/// Opens the file of this path and identity to read it; an error if it is another one by now.
fn open(path: &Path, identity: Stamp) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    still(&file, identity).map(|()| file)
}

fn still(file: &File, identity: Stamp) -> io::Result<()> {
    let same = Stamp::of(&file.metadata()?) == identity;
    if same { Ok(()) } else { Err(io::Error::other("it has just changed")) }
}

/// What was read of files whose content their identity tells for good, the oldest first.
struct Memory<T>(Mutex<VecDeque<(Stamp, T)>>);

static HASHES: Memory<String> = Memory::new();
static INTERPRETER_LINES: Memory<Option<InterpreterLine>> = Memory::new();

impl<T: Clone> Memory<T> {
    const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<(Stamp, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of this file, else what `read` reads of it.
    fn recall(&self, identity: Stamp, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some((_, known)) = self.entries().iter().find(|(known, _)| *known == identity) {
            return Ok(known.clone());
        }
        // Before the first byte is read: what is written later has a later time.
        let is_settled = identity.is_settled();
        let found = read()?;
        if is_settled {
            let mut entries = self.entries();
            if entries.len() >= limits::REMEMBERED_FILES {
                entries.pop_front();
            }
            entries.push_back((identity, found.clone()));
        }
        Ok(found)
    }
}

/// Hex SHA-256 of the file of this path and identity.
fn content(path: &Path, identity: Stamp) -> io::Result<String> {
    HASHES.recall(identity, || hash(path, identity))
}

fn hash(path: &Path, identity: Stamp) -> io::Result<String> {
    if identity.size > limits::HASHED_BYTES {
        let most = limits::HASHED_BYTES / (1024 * 1024);
        let text = format!(
            "commands could rewrite it, and it is too large to be bound by content ({most} MiB); \
             install it where only the system writes"
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let file = open(path, identity)?;
    let mut hasher = Sha256::new();
    // A file that grows meanwhile has changed, and ends the reading.
    let mut left = (&file).take(identity.size.saturating_add(1));
    let mut piece = [0; limits::OUTPUT_CHUNK_BYTES];
    loop {
        match left.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => hasher.update(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    still(&file, identity)?;
    Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()))
}

/// Whether the content is what was bound. The cache makes it a look-up, unless the file was too young
/// for its identity to be believed; then it is read again.
pub(super) fn has_same_content(file: &BoundFile) -> bool {
    file.sha256.as_ref().is_none_or(|bound| content(&file.path, file.identity).is_ok_and(|now| now == *bound))
}

/// The program's file, opened once and still what was bound; none if it is not. What runs by this
/// descriptor is that file, whatever its name comes to mean.
///
/// # Errors
/// It cannot be opened.
#[cfg(not(target_os = "macos"))]
pub fn open_unchanged(file: &BoundFile) -> io::Result<Option<File>> {
    // PATH: a program that we may execute needs not be one that we may read.
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(&file.path)?;
    Ok((still(&opened, file.identity).is_ok() && has_same_content(file)).then_some(opened))
}

/// Adds what the kernel hands `file` to, and what that one starts when it is `env`. `levels` is how
/// many more scripts may interpret scripts. None as in [`executable`].
fn add_interpreters(
    file: &BoundFile,
    search: &dyn Fn(&str) -> Option<PathBuf>,
    levels: usize,
    interpreters: &mut Vec<BoundFile>,
) -> Option<()> {
    let Some((interpreter, argument)) = interpreter_line(file)? else { return Some(()) };
    let deeper = levels.checked_sub(1)?;
    // The kernel would start a relative one from the working directory.
    let named = Some(Path::new(&interpreter)).filter(|path| path.is_absolute())?;
    let found = program(named)?;
    let is_env = [named, &found.path].iter().any(|path| path.file_name().is_some_and(|name| name == "env"));
    interpreters.push(found.clone());
    add_interpreters(&found, search, deeper, interpreters)?;
    if is_env {
        let started = program(&search(started_by_env(&argument)?)?)?;
        interpreters.push(started.clone());
        add_interpreters(&started, search, deeper, interpreters)?;
    }
    Some(())
}

/// The beginning of the file: as much as the kernel reads of it, and one byte more.
pub(super) fn head(file: &BoundFile) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(limits::INTERPRETER_LINE_BYTES + 1);
    let opened = open(&file.path, file.identity)?;
    opened.take(limits::INTERPRETER_LINE_BYTES as u64 + 1).read_to_end(&mut head)?;
    Ok(head)
}

/// Interpreter and argument of a `#!` line.
type InterpreterLine = Option<(String, String)>;

/// The `#!` line of a file, if it has one; none if that is longer than the kernel reads, or is no text.
fn interpreter_line(file: &BoundFile) -> Option<InterpreterLine> {
    match INTERPRETER_LINES.recall(file.identity, || Ok(interpreter_line_of(&head(file)?))) {
        Ok(line) => line,
        // Without a hash it is not ours, and who may not read it is no interpreter.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(None),
        Err(_) => None,
    }
}

fn interpreter_line_of(head: &[u8]) -> Option<InterpreterLine> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Some(None) };
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => rest.get(..end)?,
        None => Some(rest).filter(|_| head.len() <= limits::INTERPRETER_LINE_BYTES)?,
    };
    let line = std::str::from_utf8(line).ok().filter(|line| !line.contains('\0'))?;
    let line = line.trim_matches([' ', '\t']);
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Some(Some((interpreter.to_owned(), argument.trim_start_matches([' ', '\t']).to_owned())))
}

/// The name in `#!/usr/bin/env NAME` or `#!/usr/bin/env -S [VARIABLE=value …] NAME …`. None for
/// everything else that `env` can be told: it would have to be understood completely.
fn started_by_env(argument: &str) -> Option<&str> {
    let split = argument.strip_prefix("-S");
    // Without `-S` one word on Linux, several on macOS.
    if split.is_none() && argument.contains([' ', '\t']) && !cfg!(target_os = "macos") {
        return None;
    }
    let text = split.unwrap_or(argument);
    let is_assignment = |word: &&str| word.contains('=') && !word.starts_with("PATH=");
    let name = text.split([' ', '\t']).filter(|word| !word.is_empty()).find(|word| !is_assignment(word))?;
    // A relative path would be looked up from the working directory.
    let is_found = !name.contains('/') || name.starts_with('/');
    (is_found && !name.starts_with('-') && !name.contains('=') && !text.contains(['\\', '\'', '"', '$', '#']))
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, SystemTime};

    /// A directory of this test, gone at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("oc-id-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let directory = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory.canonicalize().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn nowhere(_: &str) -> Option<PathBuf> {
        None
    }

    fn interpreters(path: &Path, search: &dyn Fn(&str) -> Option<PathBuf>) -> Option<Vec<PathBuf>> {
        executable(path, search).map(|found| found.interpreters.into_iter().map(|file| file.path).collect())
    }

    fn real(path: &str) -> PathBuf {
        Path::new(path).canonicalize().unwrap()
    }

    /// A89: what is bound is the file behind the link, and the link's new target is another one.
    #[test]
    fn sec_a89_identity_is_of_the_real_path() {
        let scratch = Scratch::new();
        let (good, other) = (scratch.write("good", "good"), scratch.write("other", "evil"));
        let link = scratch.0.join("link");
        symlink(&good, &link).unwrap();
        let bound = file(&link).unwrap();
        assert_eq!(bound.path, good);
        std::fs::remove_file(&link).unwrap();
        symlink(&other, &link).unwrap();
        assert!(bound.is_unchanged(), "the good file is where it was");
        assert_ne!(file(&link).unwrap(), bound);
        std::fs::remove_file(&good).unwrap();
        symlink(&other, &good).unwrap();
        assert!(!bound.is_unchanged(), "its own path has become a link");
    }

    #[test]
    fn what_commands_could_rewrite_is_bound_by_content() {
        let scratch = Scratch::new();
        let ours = scratch.write("ours", "abc");
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file(&ours).unwrap().sha256.as_deref(), Some(hash));
        assert_eq!(file(Path::new("/bin/sh")).unwrap().sha256, None, "the system's own");
        assert!(hashed(Path::new("/bin/sh")).unwrap().sha256.is_some());
        assert!(file(&scratch.0).is_err(), "a directory");
        assert!(file(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn every_kind_of_change_shows() {
        let scratch = Scratch::new();
        let changes: [&dyn Fn(&Path); 5] = [
            &|path| std::fs::write(path, "other").unwrap(),
            &|path| std::fs::write(path, "longer text").unwrap(),
            &|path| std::fs::remove_file(path).unwrap(),
            &|path| {
                let other = scratch.write("other", "right");
                std::fs::rename(other, path).unwrap();
            },
            // The content alone, all that a program can put back put back.
            &|path| {
                let before = path.metadata().unwrap().modified().unwrap();
                std::fs::write(path, "wrong").unwrap();
                File::options().append(true).open(path).unwrap().set_modified(before).unwrap();
            },
        ];
        for change in changes {
            let path = scratch.write("tool", "right");
            let bound = file(&path).unwrap();
            assert!(bound.is_unchanged());
            #[cfg(not(target_os = "macos"))]
            assert!(open_unchanged(&bound).unwrap().is_some());
            change(&path);
            assert!(!bound.is_unchanged());
            #[cfg(not(target_os = "macos"))]
            assert!(!matches!(open_unchanged(&bound), Ok(Some(_))));
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Written twice within one step of a coarse clock: only the content tells, so nothing so young is
    /// remembered.
    #[test]
    fn a_young_file_is_read_again() {
        let scratch = Scratch::new();
        let path = scratch.write("tool", "right");
        let before = file(&path).unwrap();
        scratch.write("tool", "wrong");
        // What a coarse clock leaves: the identity of now, the content of before.
        let coarse = BoundFile { identity: file(&path).unwrap().identity, ..before };
        assert!(!coarse.is_unchanged());
        let old = SystemTime::now() - Duration::from_secs(3_600);
        File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        let bound = file(&path).unwrap();
        assert!(HASHES.entries().iter().all(|(known, _)| *known != bound.identity), "its status changed just now");
        assert!(executable(&path, &nowhere).is_some());
        assert!(INTERPRETER_LINES.entries().iter().all(|(known, _)| *known != bound.identity));
    }

    #[test]
    fn old_files_are_read_once_and_the_cache_is_bounded() {
        // Everybody's, and older than this test.
        let old = Path::new("/bin/sh");
        let identity = hashed(old).unwrap().identity;
        assert_eq!(HASHES.entries().iter().filter(|(known, _)| *known == identity).count(), 1);
        hashed(old).unwrap();
        assert_eq!(HASHES.entries().iter().filter(|(known, _)| *known == identity).count(), 1);
        assert!(HASHES.entries().len() <= limits::REMEMBERED_FILES);
        for _ in 0..2 {
            executable(old, &nowhere).unwrap();
            let lines = INTERPRETER_LINES.entries();
            assert_eq!(lines.iter().filter(|(known, _)| *known == identity).count(), 1);
            assert!(lines.len() <= limits::REMEMBERED_FILES);
        }
    }

    #[test]
    fn too_large_to_be_bound_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.write("large", "");
        File::options().append(true).open(&path).unwrap().set_len(limits::HASHED_BYTES + 1).unwrap();
        assert_eq!(file(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(executable(&path, &nowhere).is_none());
    }

    #[test]
    fn interpreters_of_scripts() {
        let scratch = Scratch::new();
        let (sh, env) = (real("/bin/sh"), real("/usr/bin/env"));
        let found =
            |text: &str| interpreters(&scratch.write("tool", text), &|name| name.ends_with("sh").then(|| sh.clone()));
        assert_eq!(found("no line"), Some(vec![]));
        assert_eq!(found("#!/bin/sh\n"), Some(vec![sh.clone()]));
        assert_eq!(found("#! \t/bin/sh\t -e \nx"), Some(vec![sh.clone()]));
        assert_eq!(found("#!/bin/sh"), Some(vec![sh.clone()]), "the line ends with the file");
        for text in ["#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh -e\n", "#!/usr/bin/env -S A=1 sh\n"] {
            assert_eq!(found(text), Some(vec![env.clone(), sh.clone()]), "{text}");
        }
        for text in [
            "#!\n",
            "#!bin/sh\n",
            "#!/nonexistent\n",
            "#!/etc/passwd\n",
            "#!/usr/bin/env\n",
            "#!/usr/bin/env nothing\n",
            "#!/usr/bin/env -S PATH=/x sh\n",
            "#!/usr/bin/env -S -i sh\n",
            "#!/usr/bin/env -S 'sh' x\n",
            "#!/usr/bin/env -i\n",
            "#!/usr/bin/env bin/sh\n",
            "#!/bin/sh\0x\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        let padded = |bytes: usize| format!("#!/bin/sh {}\n", "x".repeat(bytes - "#!/bin/sh ".len()));
        assert!(found(&padded(limits::INTERPRETER_LINE_BYTES - 1)).is_some());
        assert_eq!(found(&padded(limits::INTERPRETER_LINE_BYTES + 1)), None);
        // One script may interpret another, a third one not.
        let one = scratch.write("one", "#!/bin/sh\n");
        let two = scratch.write("two", &format!("#!{}\n", one.display()));
        assert_eq!(interpreters(&two, &nowhere), Some(vec![one, sh.clone()]));
        let three = scratch.write("three", &format!("#!{}\n", two.display()));
        assert_eq!(interpreters(&three, &nowhere), None);
        let itself = scratch.write("self", &format!("#!{}\n", scratch.0.join("self").display()));
        assert_eq!(interpreters(&itself, &nowhere), None);
        std::fs::set_permissions(&itself, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(executable(&itself, &nowhere), None, "not executable");
    }
}
