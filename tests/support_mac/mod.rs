//! A Mac of fakes: its tools are `fake.sh`, which records each call; home and checkout are directories of the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

pub mod plist;

use super::support::{Finished, Process, TempDir};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const JANE: &str = "Apple Development: Jane Doe (ABCDE12345)";
const TOOLS: [&str; 14] = [
    "cargo",
    "codesign",
    "git",
    "iconutil",
    "id",
    "launchctl",
    "lipo",
    "plutil",
    "ps",
    "security",
    "sips",
    "sleep",
    "uname",
    "xattr",
];

/// A Mac with a home and a checkout, both in a directory of the test.
pub struct Mac {
    pub directory: TempDir,
}

impl Mac {
    pub fn new() -> Self {
        let mac = Self { directory: TempDir::new() };
        for directory in ["home", "tools", "world/behave", "my checkout/macos", "temporary"] {
            fs::create_dir_all(mac.directory.join(directory)).unwrap();
        }
        let fake = include_str!("fake.sh").replace("@WORLD@", mac.world("").to_str().unwrap());
        write_program(&mac.world("fake.sh"), &fake);
        for tool in TOOLS {
            symlink(mac.world("fake.sh"), mac.directory.join("tools").join(tool)).unwrap();
        }
        for file in ["Cargo.toml", "Makefile"] {
            fs::copy(repository(file), mac.checkout(file)).unwrap();
        }
        for directory in ["scripts", "macos/bundle"] {
            fs::create_dir_all(mac.checkout(directory)).unwrap();
            for entry in fs::read_dir(repository(directory)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), mac.checkout(directory).join(entry.file_name())).unwrap();
                }
            }
        }
        fs::write(mac.world("team"), "ABCDE12345\n").unwrap();
        mac.identities(&[JANE]);
        mac
    }

    pub fn world(&self, name: &str) -> PathBuf {
        self.directory.join("world").join(name)
    }

    pub fn checkout(&self, name: &str) -> PathBuf {
        self.directory.join("my checkout").join(name)
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.directory.join("home").join(name)
    }

    pub fn bundle(&self, name: &str) -> PathBuf {
        self.checkout("dist/OpenClaw.app/Contents").join(name)
    }

    pub fn agent(&self) -> PathBuf {
        self.home("Library/LaunchAgents/ai.openclaw.mac.plist")
    }

    /// What the keychain has; the n-th has n for its SHA-1.
    pub fn identities(&self, names: &[&str]) {
        let lines = names.iter().enumerate().map(|(n, name)| format!("  {}) {:040X} \"{name}\"\n", n + 1, n + 1));
        fs::write(self.world("identities"), lines.collect::<String>() + "     1 valid identities found\n").unwrap();
    }

    /// What a tool does before, or instead of, what the fake does by itself.
    pub fn behave(&self, tool: &str, script: &str) {
        fs::write(self.world("behave").join(tool), script).unwrap();
    }

    /// An app that launchd runs.
    pub fn loaded(&self) -> &Self {
        fs::write(self.world("loaded"), "/Users/jane/OpenClaw.app/Contents/MacOS/openclaw\n").unwrap();
        self
    }

    /// An agent that `openclaw app install` wrote.
    pub fn installed(&self, flags: &[&str]) {
        fs::create_dir_all(self.agent().parent().unwrap()).unwrap();
        let words: String =
            ["/x/openclaw", "app", "run"].iter().chain(flags).map(|w| format!("<string>{w}</string>\n")).collect();
        let text = format!("Written by openclaw itself\n<key>ProgramArguments</key><array>\n{words}</array>\n");
        fs::write(self.agent(), text).unwrap();
    }

    /// The app's lock file names a process that was started as `path`.
    pub fn locked_by(&self, pid: u32, path: &str) {
        fs::create_dir_all(self.home(".openclaw")).unwrap();
        fs::write(self.home(".openclaw/app.lock"), format!("{pid}\n")).unwrap();
        fs::write(self.world(&format!("comm.{pid}")), format!("{path}\n")).unwrap();
    }

    pub fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.checkout("scripts").join(script));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.directory.join("tools").display()))
            .env("HOME", self.directory.join("home"))
            .env("TMPDIR", self.directory.join("temporary"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, script: &str, arguments: &[&str]) -> Finished {
        Process::run(self.command(script, arguments))
    }

    pub fn restart(&self, arguments: &[&str]) -> Finished {
        self.run("restart-mac.sh", arguments)
    }

    /// With variables of the shell.
    pub fn run_with(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut command = self.command(script, arguments);
        command.envs(variables.iter().copied());
        Process::run(command)
    }

    pub fn calls(&self) -> String {
        fs::read_to_string(self.world("calls")).unwrap_or_default()
    }

    pub fn forget_calls(&self) {
        drop(fs::remove_file(self.world("calls")));
    }

    /// The flags that the app was installed with.
    pub fn install_flags(&self) -> String {
        let calls = self.calls();
        let line = calls.lines().filter_map(|line| line.strip_prefix("openclaw [app] [install]")).next_back();
        line.expect("the app is installed").trim().to_owned()
    }

    /// The one call that signs.
    pub fn signing(&self) -> String {
        let calls = self.calls();
        let mut signing = calls.lines().filter(|line| line.starts_with("codesign [--force]"));
        let call = signing.next().expect("something is signed").to_owned();
        assert_eq!(signing.next(), None);
        call
    }

    /// Puts a bundle of an earlier build in place.
    pub fn old_bundle(&self) {
        fs::create_dir_all(self.bundle("MacOS")).unwrap();
        write_program(&self.bundle("MacOS/openclaw"), "#!/bin/sh\n# old\n");
    }

    pub fn has_old_bundle(&self) -> bool {
        let names: Vec<_> =
            fs::read_dir(self.checkout("dist")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["OpenClaw.app"], "nothing half-made lies about");
        fs::read_to_string(self.bundle("MacOS/openclaw")).unwrap().contains("# old")
    }
}

pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// It failed and says so.
#[track_caller]
pub fn fails(finished: &Finished, words: &str) {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(finished.code.is_some_and(|code| code != 0) && said.contains(words), "wanted \"{words}\": {finished:?}");
}

#[track_caller]
pub fn works(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

/// Each stands in the text, after the one before it.
#[track_caller]
pub fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("\"{part}\" is missing, or comes too early, in:\n{text}")
        };
        rest = after;
    }
}

/// A process of this test that stands for an app; reaped as soon as it ends, so that it is seen to have ended.
pub fn living() -> (u32, std::thread::JoinHandle<()>) {
    let mut child = Command::new("/bin/sleep").arg("20").spawn().unwrap();
    (child.id(), std::thread::spawn(move || drop(child.wait())))
}
