//! The fence, by real attempts from inside it: at each level, with each means that the kernel offers
//! to somebody, and without any fence, where all of them must succeed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use openclaw::sys::fence::{Enclosure, Fencer, Gap, Walls};
use openclaw::sys::poll::{self, Interest};
use openclaw::sys::spawn::{self, Command, Exit, Program};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::TempDir;

const TOKEN: &str = "the token that nobody may read";
/// Set for a process that tries things from inside.
const SCRATCH: &str = "FENCE_SCRATCH";
/// Set for a run of these tests under other circumstances: what the mechanism must begin with.
const EXPECTED: &str = "FENCE_EXPECTED";
/// The product's binary in such a run.
const BINARY: &str = "FENCE_BINARY";

/// `state` (hidden), `work` (the working directory), `elsewhere`, `temporary`; and listeners.
struct Scene {
    scratch: TempDir,
    _socket: UnixListener,
    token: File,
    /// Many, and none marked to be closed.
    _leaks: Vec<OwnedFd>,
    tcp: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let scratch = TempDir::new();
        for name in ["state", "work", "elsewhere", "temporary"] {
            fs::create_dir(scratch.join(name)).unwrap();
        }
        fs::write(scratch.join("state/token"), TOKEN).unwrap();
        fs::write(scratch.join("state/approvals.json"), "{}").unwrap();
        fs::write(scratch.join("elsewhere/kept"), "content").unwrap();
        let socket = UnixListener::bind(scratch.join("state/app.sock")).unwrap();
        let token = File::open(scratch.join("state/token")).unwrap();
        let directory = File::open(scratch.join("state")).unwrap();
        // SAFETY: fresh descriptors that nobody else owns.
        let leak = |_| unsafe { OwnedFd::from_raw_fd(libc::dup(directory.as_raw_fd())) };
        let leaks = (0..100).map(leak).collect();
        Self { scratch, _socket: socket, token, _leaks: leaks, tcp: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn hidden(&self) -> Vec<PathBuf> {
        vec![self.scratch.join("state")]
    }

    fn fencer(&self) -> Fencer {
        Fencer::prepare(&binary(), &self.hidden(), &[])
    }

    fn work(&self) -> PathBuf {
        self.scratch.join("work")
    }

    /// Runs a program in `work`; its exit and what it printed.
    fn run(&self, fence: &Enclosure, program: Program<'_>, arguments: &[&str]) -> io::Result<(Exit, String)> {
        self.run_in(&self.work(), fence, program, arguments)
    }

    fn run_in(
        &self,
        directory_path: &Path,
        fence: &Enclosure,
        program: Program<'_>,
        arguments: &[&str],
    ) -> io::Result<(Exit, String)> {
        let directory = spawn::open_directory(directory_path)?;
        let null = File::open("/dev/null")?;
        let (mut output, into) = io::pipe()?;
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        let variables = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            (SCRATCH, self.scratch.path().to_str().unwrap().to_owned()),
            ("FENCE_PARENT", std::process::id().to_string()),
            ("FENCE_PARENT_FD", self.token.as_raw_fd().to_string()),
            ("FENCE_PORT", self.tcp.local_addr()?.port().to_string()),
        ];
        let mut environment = variables.map(|(name, value)| (name.into(), value.into())).to_vec();
        environment.extend(std::env::var_os("FENCE_AGAIN").map(|again| ("FENCE_AGAIN".into(), again)));
        let child = spawn::spawn(&Command {
            program,
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_fd(),
            directory_path,
            streams: [null.as_fd(), into.as_fd(), into.as_fd()],
            open_files: None,
            fence,
            ends_with_us: false,
        })?;
        drop(into);
        let mut text = Vec::new();
        output.read_to_end(&mut text)?;
        poll::wait_one(child.exited(), Interest::Readable, poll::deadline_in(Duration::from_secs(30)))?;
        let exit = child.exit().expect("it has not ended");
        child.release(None);
        Ok((exit, String::from_utf8_lossy(&text).into_owned()))
    }

    fn shell(&self, fence: &Enclosure, text: &str) -> (Exit, String) {
        self.run(fence, Program::Path(Path::new("/bin/sh")), &["sh", "-c", text]).unwrap()
    }

    /// What can be done from inside: name → whether it worked.
    fn attempts(&self, fence: &Enclosure) -> BTreeMap<String, bool> {
        fs::write(self.scratch.join("state/approvals.json"), "{}").unwrap();
        let own = std::env::current_exe().unwrap();
        let (exit, text) = self
            .run(fence, Program::Path(&own), &["attempt", "--exact", "attempts_from_inside", "--nocapture"])
            .unwrap();
        assert_eq!(exit, Exit::Code(0), "{text}");
        let line = |line: &str| {
            // The harness writes the test's name before the first one.
            let (name, result) = line.split_once('@')?.1.split_once('=')?;
            Some((name.to_owned(), result.starts_with("true")))
        };
        let found: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        assert!(found.len() > 15, "{text}");
        found
    }
}

fn binary() -> PathBuf {
    std::env::var_os(BINARY).map_or_else(|| env!("CARGO_BIN_EXE_openclaw").into(), PathBuf::from)
}

fn is_permitted(result: io::Result<impl Sized>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// Not a test unless started by [`Scene::attempts`]: tries everything and says what worked.
#[test]
fn attempts_from_inside() {
    let Some(scratch) = std::env::var_os(SCRATCH).map(PathBuf::from) else { return };
    let parent = std::env::var("FENCE_PARENT").unwrap();
    let port: u16 = std::env::var("FENCE_PORT").unwrap().parse().unwrap();
    let state = scratch.join("state");
    let token = state.join("token");
    let is_token = |path: &Path| match fs::read_to_string(path) {
        Ok(text) if text == TOKEN => Ok(()),
        Ok(text) => Err(format!("another content: {text:?}")),
        Err(error) => Err(error.to_string()),
    };
    let said = |name: &str, result: Result<(), String>| println!("@{name}={} {result:?}", result.is_ok());
    let shown = |path: &str, inner: &Path| PathBuf::from(format!("/proc/{parent}/{path}{}", inner.display()));

    said("read token", is_token(&token));
    said("read token by a relative path", is_token(Path::new("../state/token")));
    said("read token by another process's root", is_token(&shown("root", &token)));
    said("look into another process's directory", is_permitted(fs::read_dir(shown("cwd", Path::new("/")))));
    let descriptor = PathBuf::from(format!("/proc/{parent}/fd/{}", std::env::var("FENCE_PARENT_FD").unwrap()));
    said("open another process's descriptor", is_token(&descriptor));
    said("read another process's memory", is_permitted(File::open(shown("mem", Path::new("")))));
    said("trace another process", {
        let pid: libc::pid_t = parent.parse().unwrap();
        // SAFETY: attaches and detaches; no memory of ours is involved.
        unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0);
            is_permitted(if seized == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
        }
    });
    if let Some(again) = std::env::var_os("FENCE_AGAIN") {
        said("read token by a second mount", is_token(&Path::new(&again).join(token.strip_prefix("/tmp").unwrap())));
    }
    said("connect to the socket", is_permitted(UnixStream::connect(state.join("app.sock"))));
    said("edit the approvals document", {
        let edited = OpenOptions::new().append(true).open(state.join("approvals.json"));
        is_permitted(edited.and_then(|mut file| file.write_all(b" ")))
    });
    let fresh = Path::new("fresh.json");
    fs::write(fresh, "{\"mine\":true}").unwrap();
    said("replace the approvals document", is_permitted(fs::rename(fresh, state.join("approvals.json"))));
    said("create a file beside it", is_permitted(File::create(state.join("created"))));
    said("move the directory away", {
        let moved = fs::rename(&state, scratch.join("moved"));
        if moved.is_ok() {
            fs::rename(scratch.join("moved"), &state).unwrap();
        }
        is_permitted(moved)
    });
    said("find it through an inherited descriptor", {
        let below = |fd: i32, name: &str| is_token(Path::new(&format!("/proc/self/fd/{fd}/{name}"))).is_ok();
        let found = (3..256).any(|fd| below(fd, "token") || below(fd, "../state/token"));
        if found { Ok(()) } else { Err("no".to_owned()) }
    });
    let target = std::ffi::CString::new(state.to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    said("read token after umount", is_token(&token));
    let nested = |text: &str| {
        let output = std::process::Command::new("unshare").args(["-Urm", "sh", "-c", text]).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if text.contains(TOKEN) { Ok(()) } else { Err(text) }
    };
    let (path, below) = (state.display(), scratch.display());
    said("umount in a nested namespace", nested(&format!("umount -l {path}; umount -R {path}; cat {path}/token")));
    let aside = format!("mkdir -p n; mount --bind {below} n; cat n/state/token; mount -t tmpfs x n; cat {path}/token");
    said("mount the parent in a nested namespace", nested(&aside));
    said("enter another process's namespaces", {
        let output = std::process::Command::new("nsenter").args(["-m", "-t", &parent, "cat"]).arg(&token).output();
        match output {
            Ok(output) if output.stdout == TOKEN.as_bytes() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    said("read a raw disk", {
        let mut disks = fs::read_dir("/dev").unwrap().flatten();
        let disk = disks.any(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_block_device())
                && File::open(entry.path()).and_then(|mut file| file.read(&mut [0])).is_ok_and(|count| count > 0)
        });
        if disk { Ok(()) } else { Err("none".to_owned()) }
    });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    said("gain privileges", if status.contains("NoNewPrivs:\t1") { Err("no".into()) } else { Ok(()) });

    let kept = scratch.join("elsewhere/kept");
    said("write elsewhere", is_permitted(OpenOptions::new().append(true).open(&kept)));
    said("truncate elsewhere", {
        let path = std::ffi::CString::new(kept.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path.
        let result = unsafe { libc::truncate(path.as_ptr(), 7) };
        is_permitted(if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
    });
    said("create elsewhere", is_permitted(fs::write(scratch.join("elsewhere/created"), "")));
    said("remove elsewhere", is_permitted(fs::remove_file(scratch.join("elsewhere/created"))));
    said("link elsewhere", is_permitted(std::os::unix::fs::symlink("/", scratch.join("elsewhere").join(&parent))));
    let _ = fs::remove_file(scratch.join("elsewhere").join(&parent));
    said("read elsewhere", is_permitted(fs::read(&kept)));
    said("write in the working directory", {
        fs::create_dir_all("a/b").unwrap();
        is_permitted(fs::write("a/b/c", "x").and_then(|()| fs::rename("a/b/c", "a/c")))
    });
    said("write in the temporary folder", is_permitted(fs::write(scratch.join("temporary/x"), "x")));
    said("write to the null device", is_permitted(fs::write("/dev/null", "x")));
    said("list processes", is_permitted(fs::read("/proc/self/stat")));

    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    said("connect by TCP", is_permitted(TcpStream::connect_timeout(&address, Duration::from_secs(5))));
    said("listen and connect to oneself", {
        let listener = TcpListener::bind("127.0.0.1:0");
        is_permitted(listener.and_then(|listener| TcpStream::connect(listener.local_addr()?)))
    });
}

/// What hides the state directory, and what keeps processes outside out of reach.
const HIDDEN: [&str; 15] = [
    "read token",
    "read token by a relative path",
    "read token by another process's root",
    "look into another process's directory",
    "open another process's descriptor",
    "read another process's memory",
    "trace another process",
    "connect to the socket",
    "edit the approvals document",
    "replace the approvals document",
    "create a file beside it",
    "move the directory away",
    "read token after umount",
    "enter another process's namespaces",
    "read a raw disk",
];
const NEVER: [&str; 3] = [
    "find it through an inherited descriptor",
    "umount in a nested namespace",
    "mount the parent in a nested namespace",
];
const WRITING: [&str; 5] =
    ["write elsewhere", "truncate elsewhere", "create elsewhere", "remove elsewhere", "link elsewhere"];
const ALWAYS: [&str; 5] = [
    "read elsewhere",
    "write in the working directory",
    "write in the temporary folder",
    "write to the null device",
    "list processes",
];
const NETWORK: &str = "connect by TCP";

fn assert_all(found: &BTreeMap<String, bool>, names: &[&str], expected: bool, level: &str) {
    for name in names {
        assert_eq!(found.get(*name), Some(&expected), "level {level}: {name}");
    }
}

/// Without a fence everything works, so the attempts are real ones.
#[test]
fn without_a_fence_all_attempts_succeed() {
    let scene = Scene::new();
    let found = scene.attempts(&Enclosure::none());
    // What the machine itself forbids to everybody (Yama), to users who are not root, or has not at all.
    let depends = ["read another process's memory", "trace another process", "read a raw disk"];
    let depends = |name: &&str| !depends.contains(name) && *name != "enter another process's namespaces";
    let hidden: Vec<&str> = HIDDEN.into_iter().filter(depends).collect();
    assert_all(&found, &hidden, true, "none");
    assert_all(&found, &[NEVER[0]], false, "none");
    assert_all(&found, &WRITING, true, "none");
    assert_all(&found, &ALWAYS, true, "none");
    assert_all(&found, &[NETWORK, "gain privileges", "listen and connect to oneself"], true, "none");
}

/// Each level keeps what it promises; where the kernel lacks the means, it says so and does not run.
#[test]
fn each_level_keeps_what_it_promises() {
    let scene = Scene::new();
    if std::env::var_os("FENCE_CLOSED").is_some() {
        // As the product's services are: nobody looks into them, which may not get into their own way.
        openclaw::sys::process::settle();
    }
    let fencer = scene.fencer();
    println!("mechanism: {}", fencer.mechanism());
    if let Ok(expected) = std::env::var(EXPECTED) {
        assert!(fencer.mechanism().starts_with(&expected), "{}", fencer.mechanism());
    }
    let hides = fencer.mechanism().starts_with("mount namespace");
    assert_ne!(hides, fencer.mechanism().contains("not fenced: token files are readable by commands"));
    let (work, temporary) = (scene.work(), scene.scratch.join("temporary"));
    let below: [&Path; 2] = [&work, &temporary];
    let writing = Some(below.as_slice());
    let levels = [
        ("state", Walls::default()),
        ("workspace", Walls { write_only_below: writing, no_network: false }),
        ("offline", Walls { write_only_below: writing, no_network: true }),
    ];
    for (level, walls) in levels {
        let enclosure = match fencer.enclose(&walls) {
            Ok(enclosure) => enclosure,
            Err(reason) => {
                assert_ne!(level, "state", "{reason}");
                println!("skipped, level {level}: {reason}");
                continue;
            }
        };
        let found = scene.attempts(&enclosure);
        if hides {
            assert_all(&found, &HIDDEN, false, level);
        } else {
            assert_all(&found, &["read token", "connect to the socket"], true, level);
        }
        if std::env::var_os("FENCE_AGAIN").is_some() {
            assert_all(&found, &["read token by a second mount"], false, level);
        }
        assert_all(&found, &NEVER, false, level);
        assert_all(&found, &["gain privileges"], false, level);
        assert_all(&found, &ALWAYS, true, level);
        assert_all(&found, &WRITING, level == "state", level);
        assert_all(&found, &[NETWORK], level != "offline", level);
        // Where a namespace is missing, there are no sockets at all.
        assert_all(&found, &["listen and connect to oneself"], hides || level != "offline", level);
        assert_eq!(fs::read(scene.scratch.join("state/token")).unwrap(), TOKEN.as_bytes());
    }
}

/// The same with less: as a user who is not root, without namespaces of users, without any. Each
/// needs something itself and says when it is not there.
#[test]
fn each_level_under_other_circumstances() {
    if std::env::var_os(EXPECTED).is_some() {
        return;
    }
    let place = TempDir::new();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = place.join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let own = copy(&std::env::current_exe().unwrap(), "tests");
    let product = copy(&binary(), "openclaw");
    let limit = |what: &str| {
        format!("for kind in {what}; do echo 0 >/proc/sys/user/max_${{kind}}_namespaces; done && exec \"$@\"")
    };
    let (no_users, none) = (limit("user"), limit("user mnt net"));
    let again =
        format!("mkdir -p {0} && mount --bind /tmp {0} && FENCE_AGAIN={0} exec \"$@\"", place.join("again").display());
    let closed = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "env", "FENCE_CLOSED=1"];
    let circumstances: [(&str, &[&str]); 5] = [
        ("mount namespace", &closed),
        ("mount namespace", &["unshare", "-Urm", "sh", "-c", &again, "sh"]),
        ("mount namespace", &["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]),
        ("mount namespace", &["unshare", "-Urm", "sh", "-c", &no_users, "sh"]),
        ("Landlock only", &["unshare", "-Urm", "sh", "-c", &none, "sh"]),
    ];
    for (expected, prefix) in circumstances {
        let (first, rest) = prefix.split_first().unwrap();
        // Whether it can be had is asked first, so that a failure afterwards is one of ours.
        let can = std::process::Command::new(first).args(rest).arg("true").output();
        if !can.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped, {prefix:?}: {can:?}");
            continue;
        }
        let mut command = std::process::Command::new(first);
        command.args(rest).arg(&own).args(["--exact", "each_level_keeps_what_it_promises", "--nocapture"]);
        let output = command.env(EXPECTED, expected).env(BINARY, &product).current_dir("/").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{prefix:?}: {text}");
        assert!(text.contains("1 passed"), "{text}");
        text.lines()
            .filter(|line| line.contains("mechanism:") || line.contains("skipped"))
            .for_each(|line| println!("{line}"));
    }
}

/// A working directory that the fence hides is refused; so is one that was replaced.
#[test]
fn a_hidden_working_directory_is_refused() {
    let scene = Scene::new();
    let fencer = scene.fencer();
    if !fencer.mechanism().starts_with("mount namespace") {
        return println!("skipped: {}", fencer.mechanism());
    }
    let fence = fencer.enclose(&Walls::default()).unwrap();
    let inner = scene.scratch.join("state/inner");
    fs::create_dir(&inner).unwrap();
    for directory in [scene.scratch.join("state"), inner] {
        let program = Program::Path(Path::new("/bin/pwd"));
        assert!(scene.run_in(&directory, &Enclosure::none(), program, &["pwd"]).is_ok());
        let error = scene.run_in(&directory, &fence, program, &["pwd"]).unwrap_err().to_string();
        assert!(error.contains("working directory"), "{error}");
    }
}

/// The workspaces and programs that the original keeps in the state directory stay in reach, and nothing beside them.
#[test]
fn gaps_show_what_lies_in_them_and_nothing_else() {
    let scene = Scene::new();
    let state = scene.scratch.join("state");
    for name in ["workspace", "bin", "behind"] {
        fs::create_dir(state.join(name)).unwrap();
        fs::write(state.join(name).join("file"), "content").unwrap();
    }
    symlink(&state, state.join("workspace-link")).unwrap();
    symlink("../token", state.join("workspace/token")).unwrap();
    let gap = |name: &str, is_writable| Gap { path: state.join(name), is_writable };
    let gaps = [gap("workspace", true), gap("bin", false), gap("workspace-link", true), gap("absent", true)];
    let fencer = Fencer::prepare(&binary(), &scene.hidden(), &gaps);
    if !fencer.mechanism().starts_with("mount namespace") {
        assert!(!fencer.hides(&state));
        return println!("skipped: {}", fencer.mechanism());
    }
    for (place, hidden) in
        [("", true), ("behind", true), ("workspace-link", true), ("workspace", false), ("bin", false)]
    {
        assert_eq!(fencer.hides(&state.join(place)), hidden, "{place}");
    }
    assert!(!fencer.hides(&scene.work()));
    let fence = fencer.enclose(&Walls::default()).unwrap();
    let inside = |text: &str| {
        let program = Program::Path(Path::new("/bin/sh"));
        scene.run_in(&state.join("workspace"), &fence, program, &["sh", "-c", text]).unwrap()
    };
    for (text, works) in [
        ("cat file && echo more >> file && mkdir new && ls ../bin && cat ../bin/file", true),
        ("echo more >> ../bin/file", false),
        ("touch ../bin/planted", false),
        ("cat token", false),
        ("cat ../token", false),
        ("cat ../behind/file", false),
        ("ls ../workspace-link/token", false),
        ("mkdir ../other", false),
        ("umount . || umount .. || mount -o remount,rw ../bin", false),
        ("test \"$(ls -A ..)\" = \"$(printf 'bin\nworkspace')\"", true),
    ] {
        let (exit, said) = inside(text);
        assert_eq!(exit == Exit::Code(0), works, "{text}: {said}");
    }
    assert_eq!(fs::read_to_string(state.join("bin/file")).unwrap(), "content");
}

/// The cover lies on the directory that was there; another one in its place must not be open.
#[test]
fn a_replaced_state_directory_stops_everything() {
    let scene = Scene::new();
    let fencer = scene.fencer();
    if !fencer.mechanism().starts_with("mount namespace") {
        return println!("skipped: {}", fencer.mechanism());
    }
    let fence = fencer.enclose(&Walls::default()).unwrap();
    let program = Program::Path(Path::new("/bin/true"));
    assert_eq!(scene.run(&fence, program, &["true"]).unwrap().0, Exit::Code(0));
    let state = scene.scratch.join("state");
    fs::rename(&state, scene.scratch.join("old")).unwrap();
    fs::create_dir(&state).unwrap();
    fs::write(state.join("token"), TOKEN).unwrap();
    let error = scene.run(&fence, program, &["true"]).unwrap_err().to_string();
    assert!(error.contains("fence"), "{error}");
}

/// What is missing needs no cover; what comes later is not left open.
#[test]
fn a_hidden_path_that_comes_later_stops_everything() {
    let scene = Scene::new();
    let late = scene.scratch.join("late");
    let fencer = Fencer::prepare(&binary(), &[scene.scratch.join("state"), late.clone()], &[]);
    if !fencer.mechanism().starts_with("mount namespace") {
        return println!("skipped: {}", fencer.mechanism());
    }
    let fence = fencer.enclose(&Walls::default()).unwrap();
    let program = Program::Path(Path::new("/bin/true"));
    assert_eq!(scene.run(&fence, program, &["true"]).unwrap().0, Exit::Code(0));
    fs::create_dir(&late).unwrap();
    assert!(scene.run(&fence, program, &["true"]).is_err());
}

/// A file and a link to the directory are hidden too, and so is what a second mount shows.
#[test]
fn files_and_links_are_hidden() {
    let scene = Scene::new();
    let (file, link) = (scene.scratch.join("key"), scene.scratch.join("link"));
    let socket = scene.scratch.join("other.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::write(&file, TOKEN).unwrap();
    std::os::unix::fs::symlink(scene.scratch.join("state"), &link).unwrap();
    let fencer = Fencer::prepare(&binary(), &[file.clone(), link.clone(), socket.clone()], &[]);
    if !fencer.mechanism().starts_with("mount namespace") {
        return println!("skipped: {}", fencer.mechanism());
    }
    let fence = fencer.enclose(&Walls::default()).unwrap();
    let text =
        format!("cat {} {}/token {}", file.display(), link.display(), scene.scratch.join("state/token").display());
    assert!(!scene.shell(&fence, &text).1.contains(TOKEN));
    assert!(scene.shell(&Enclosure::none(), &text).1.contains(TOKEN));
    // No program of every system connects to a Unix socket; but a covered one is no socket any more.
    let text = format!("test -S {}", socket.display());
    assert_eq!(scene.shell(&fence, &text).0, Exit::Code(1));
    assert_eq!(scene.shell(&Enclosure::none(), &text).0, Exit::Code(0));
}

/// An open binary is what starts, whatever its path names meanwhile; it knows where it lies.
#[test]
fn a_program_starts_by_descriptor_inside_the_fence() {
    let scene = Scene::new();
    let path = scene.scratch.join("program");
    fs::copy("/bin/readlink", &path).unwrap();
    let file = File::open(&path).unwrap();
    let fences = [Enclosure::none(), scene.fencer().enclose(&Walls::default()).unwrap()];
    for fence in &fences {
        let program = Program::Descriptor(file.as_fd());
        let (exit, text) = scene.run(fence, program, &["readlink", "/proc/self/exe"]).unwrap();
        assert_eq!((exit, text.trim_end()), (Exit::Code(0), path.to_str().unwrap()));
    }
    fs::write(scene.scratch.join("other"), "no program").unwrap();
    fs::rename(scene.scratch.join("other"), &path).unwrap();
    let (exit, _) = scene.run(&fences[1], Program::Descriptor(file.as_fd()), &["readlink", "/proc/self/exe"]).unwrap();
    assert_eq!(exit, Exit::Code(0));
}

/// A program that cannot be started says why, as without a fence.
#[test]
fn a_missing_program_is_named_as_such() {
    let scene = Scene::new();
    for fence in [Enclosure::none(), scene.fencer().enclose(&Walls::default()).unwrap()] {
        let error = scene.run(&fence, Program::Path(Path::new("/no/such/program")), &["x"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

/// The helper does nothing for those who do not know its tasks, and the reserved name is no command.
#[test]
fn the_helper_refuses_what_it_does_not_know() {
    use std::os::unix::process::CommandExt;
    for arguments in [&["x", "/etc"][..], &[]] {
        let output = std::process::Command::new(binary()).arg0("openclaw-fence").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(126));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("covered"));
    }
}

/// Not a test but a measurement: `cargo test --release --test fence -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn the_price_of_a_fence() {
    let scene = Scene::new();
    let (work, temporary) = (scene.work(), scene.scratch.join("temporary"));
    let below: [&Path; 2] = [&work, &temporary];
    let offline = Walls { write_only_below: Some(&below), no_network: true };
    let begun = Instant::now();
    let fencer = scene.fencer();
    println!("prepare: {:?}", begun.elapsed());
    let enclose = |walls: &Walls<'_>| fencer.enclose(walls).unwrap();
    let kinds: [(&str, &dyn Fn() -> Enclosure); 3] =
        [("none", &Enclosure::none), ("state", &|| enclose(&Walls::default())), ("offline", &|| enclose(&offline))];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); kinds.len()];
    for _ in 0..500 {
        for ((_, fence), times) in kinds.iter().zip(&mut times) {
            let begun = Instant::now();
            let fence = fence();
            scene.run(&fence, Program::Path(Path::new("/bin/true")), &["true"]).unwrap();
            times.push(begun.elapsed());
        }
    }
    for ((level, _), times) in kinds.iter().zip(&mut times) {
        times.sort();
        let at = |percent| times[times.len() * percent / 100];
        println!("{level}: p5 {:?}, p50 {:?}, p95 {:?}", at(5), at(50), at(95));
    }
}
