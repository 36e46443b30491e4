//! The scripts that package, sign and restart the Mac app, among recorded fakes of a Mac's tools (tests/support_mac):
//! what they call, in which order, and what they do when one of these fails. And what stands in the bundle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_mac;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use support::{Process, wait_until};
use support_mac::*;

#[test]
fn a_restart_does_all_of_it_in_order() {
    let mac = Mac::new();
    mac.loaded().installed(&["--ask", "operator"]);
    let secrets = [("SIGN_IDENTITY", JANE), ("OPENCLAW_GATEWAY_TOKEN", "sesame"), ("OPENCLAW_STATE_DIR", "/nowhere")];
    let done = mac.run_with("restart-mac.sh", &[], &secrets);
    works(&done);
    in_order(
        &mac.calls(),
        &[
            "launchctl [print] [gui/501/ai.openclaw.mac]",
            "launchctl [bootout] [gui/501/ai.openclaw.mac]",
            "launchctl [print] [gui/501/ai.openclaw.mac]",
            "cargo [build] [--release] [--locked]",
            "plutil [-lint] [dist/.package.",
            "iconutil [-c] [icns]",
            "xattr [-cr]",
            "codesign [--force] [--sign] [Apple Development: Jane Doe (ABCDE12345)] [--options] [runtime] [--timestamp=none] [--entitlements] [macos/bundle/OpenClaw.entitlements]",
            "codesign [--verify] [--strict]",
            "codesign [-d] [--entitlements]",
            "codesign [-dvv]",
            "openclaw [app] [install] [--ask] [operator]",
            "launchctl [enable] [gui/501/ai.openclaw.mac]",
            "launchctl [bootstrap] [gui/501]",
            &format!("plutil [-lint] [{}]", mac.agent().display()),
            "openclaw [mac-debug] [grants] [list] [--json]",
            "openclaw [app] [status] [--json]",
        ],
    );
    assert!(!mac.calls().contains("security"), "the identity was given");
    for said in [
        "bundle id  ai.openclaw.mac\n",
        "TeamID     ABCDE12345\n",
        "pid        4711\n",
        "logs/app.log\n",
        "restart.log\n",
    ] {
        assert!(done.stdout.contains(said), "{said}: {}", done.stdout);
    }
    assert_eq!(fs::read_to_string(mac.home("Library/Logs/OpenClaw/restart.log")).unwrap(), done.stdout);

    let environment = fs::read_to_string(mac.world("environment")).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // bash adds the last three.
    let allowed = ["HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER", "PWD", "SHLVL", "_"];
    assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
    assert!(!done.stdout.contains("sesame"));

    let mode = |name| support::mode(&mac.bundle(name)) & 0o777;
    assert_eq!(mode("MacOS/openclaw"), 0o755);
    assert_eq!(fs::read(mac.bundle("MacOS/openclaw")).unwrap(), fs::read(mac.world("fake.sh")).unwrap());
    assert_eq!(fs::read_to_string(mac.bundle("Resources/OpenClaw.icns")).unwrap(), "icon\n");
    assert!(!mac.has_old_bundle());
    let mut left: Vec<_> = fs::read_dir(mac.home("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".openclaw", "Library"]);
    assert!(!mac.home("Library/Logs/OpenClaw/restart.lock").is_symlink(), "the lock is let go");
    assert_eq!(fs::read_dir(mac.directory.join("temporary")).unwrap().count(), 0);
}

#[test]
fn ending_the_job_waits_until_it_is_gone() {
    // Unloaded between both calls; or still at it, and gone with the third look.
    let leaving = "[ \"$1\" != print ] || [ ! -e \"$world/leaving\" ] || { echo x >>\"$world/leaving\"; \
                   [ \"$(wc -l <\"$world/leaving\")\" -lt 3 ] || rm -f \"$world/loaded\"; }\n\
                   if [ \"$1\" = bootout ]; then echo x >\"$world/leaving\"; exit CODE; fi";
    for code in ["3", "5", "36", "37", "113"] {
        let mac = Mac::new();
        mac.loaded().behave("launchctl", &leaving.replace("CODE", code));
        works(&mac.restart(&[]));
        let calls = mac.calls();
        let (stopping, _) = calls.split_once("cargo").unwrap();
        assert_eq!(stopping.matches("launchctl [print]").count(), 4, "{stopping}");
    }
    let mac = Mac::new();
    works(&mac.restart(&[]));
    assert!(!mac.calls().contains("bootout"), "nothing was loaded");

    let mac = Mac::new();
    mac.loaded().behave("launchctl", "[ \"$1\" != bootout ] || exit 1");
    fails(&mac.restart(&[]), "launchctl bootout gui/501/ai.openclaw.mac failed (1)");
    assert!(!mac.calls().contains("cargo"));
    mac.behave("launchctl", "[ \"$1\" != bootout ] || exit 0");
    fails(&mac.restart(&[]), "still runs 25 s after");
    assert!(!mac.calls().contains("cargo"));
}

#[test]
fn without_a_session_nothing_is_touched() {
    for code in ["125", "134"] {
        let mac = Mac::new();
        mac.behave("launchctl", &format!("echo 'Domain does not support specified action' >&2; exit {code}"));
        fails(&mac.restart(&[]), "log in at this Mac's screen first");
        assert!(!mac.calls().contains("cargo") && !mac.checkout("dist").exists());
    }
    let mac = Mac::new();
    mac.behave("id", "echo 0; exit");
    fails(&mac.restart(&[]), "without sudo");
}

#[test]
fn what_launchd_refuses_to_load_is_told() {
    for code in ["5", "37", "125"] {
        let mac = Mac::new();
        mac.behave("launchctl", &format!("[ \"$1\" != bootstrap ] || exit {code}"));
        let done = mac.restart(&[]);
        fails(&done, &format!("`bootstrap` failed: exit code {code}"));
        fails(&done, "was not installed as a launchd agent");
        assert!(!mac.calls().contains("mac-debug"));
    }
    let mac = Mac::new();
    mac.behave("plutil", "case \"$*\" in \"-lint \"*LaunchAgents*) exit 1 ;; esac");
    fails(&mac.restart(&[]), "the launchd agent is broken");
}

#[test]
fn a_failure_on_the_way_leaves_the_bundle_of_before() {
    let cases = [
        ("cargo", "echo 'error: it does not compile' >&2; exit 101", "it does not compile"),
        ("plutil", "[ \"$1\" != -lint ] || exit 1", "a property list is broken"),
        ("iconutil", "exit 1", "iconutil made no icon"),
        ("codesign", "[ \"$1\" != --force ] || exit 1", "codesign failed"),
        ("codesign", "[ \"$1\" != --verify ] || exit 1", "the signature does not hold"),
        (
            "codesign",
            "[ \"$2\" != --entitlements ] || { echo com.apple.security.get-task-allow; exit; }",
            "get-task-allow",
        ),
        (
            "codesign",
            "case \"$1 $3$2\" in \"-dvv \"*/openclaw) echo TeamIdentifier=OTHER12345 >&2; exit ;; esac",
            "TeamID mismatch",
        ),
        ("codesign", "[ \"$1\" != -dvv ] || { echo 'TeamIdentifier=not set' >&2; exit; }", "TeamID mismatch"),
        ("codesign", "[ \"$1\" != -dvv ] || exit 1", "tells no TeamIdentifier"),
    ];
    for (tool, behaviour, words) in cases {
        let mac = Mac::new();
        mac.old_bundle();
        mac.loaded().behave(tool, behaviour);
        let done = mac.restart(&[]);
        fails(&done, words);
        fails(&done, "the app is stopped");
        assert!(mac.has_old_bundle() && !mac.calls().contains("openclaw [app] [install]"), "{words}");
        assert!(!mac.home("Library/Logs/OpenClaw/restart.lock").is_symlink());
    }
    // The same with nothing that ran before.
    let mac = Mac::new();
    mac.behave("cargo", "exit 101");
    let done = mac.restart(&[]);
    assert!(done.code == Some(101) && !done.stdout.contains("the app is stopped"), "{done:?}");
}

#[test]
fn the_best_identity_signs() {
    const COMPANY: &str = "Developer ID Application: Doe & Sons (ABCDE12345)";
    let all = ["My own certificate", JANE, "Apple Distribution: Doe & Sons (ABCDE12345)", COMPANY];
    for (count, sha, timestamp) in
        [(1, 1, "--timestamp=none"), (2, 2, "--timestamp=none"), (3, 3, "--timestamp=none"), (4, 4, "--timestamp")]
    {
        let mac = Mac::new();
        mac.identities(&all[..count]);
        let done = mac.restart(&["--sign"]);
        works(&done);
        assert!(
            mac.signing().contains(&format!("[--sign] [{sha:040X}] [--options] [runtime] [{timestamp}]")),
            "{}",
            mac.signing()
        );
        assert!(done.stdout.contains(&format!("signing with {}", all[sha - 1])), "{}", done.stdout);
    }
    // By SHA-1, in small letters; the kind is the keychain's word.
    let mac = Mac::new();
    mac.identities(&["x", "x", "x", "x", "x", "x", "x", "x", "x", COMPANY]);
    let sha = format!("{:040x}", 10);
    works(&mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", &sha)]));
    assert!(mac.signing().contains(&format!("[{sha}] [--options] [runtime] [--timestamp]")), "{}", mac.signing());
    for (setting, flag) in [("on", "[--timestamp]"), ("off", "[--timestamp=none]")] {
        mac.forget_calls();
        works(&mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", COMPANY), ("CODESIGN_TIMESTAMP", setting)]));
        assert!(mac.signing().contains(flag), "{}", mac.signing());
    }
    fails(&mac.run_with("restart-mac.sh", &[], &[("CODESIGN_TIMESTAMP", "soon")]), "auto, on or off");

    fs::write(mac.world("team"), "OTHER12345\n").unwrap();
    fails(
        &mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", COMPANY)]),
        "the TeamID of the bundle is OTHER12345",
    );
    works(&mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", COMPANY), ("SKIP_TEAM_ID_CHECK", "1")]));
    // The brackets of this kind are not a team.
    works(&mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", JANE)]));
    fs::write(mac.world("team"), "not set\n").unwrap();
    let own = mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", "My own certificate")]);
    works(&own);
    assert!(own.stdout.contains("no TeamID: where one is asked for"), "{}", own.stdout);
}

#[test]
fn ad_hoc_says_what_it_costs() {
    let mac = Mac::new();
    mac.identities(&[]);
    fs::write(mac.world("team"), "not set\n").unwrap();
    let done = mac.restart(&[]);
    works(&done);
    assert!(done.stdout.contains("WARNING: ad hoc") && done.stdout.contains("TeamID     not set"), "{}", done.stdout);
    let signing = mac.signing();
    assert!(signing.contains("[--sign] [-] [--timestamp=none]") && !signing.contains("runtime"), "{signing}");

    fails(&mac.restart(&["--sign"]), "no identity for code is in the keychain");
    fails(&mac.run("codesign-mac-app.sh", &["my checkout/dist/OpenClaw.app"]), "ALLOW_ADHOC_SIGNING=1");
    fails(&mac.restart(&["--sign", "--no-sign"]), "cannot both be");
    fails(&mac.run_with("restart-mac.sh", &["--sign"], &[("SIGN_IDENTITY", "-")]), "cannot both be");

    mac.forget_calls();
    works(&mac.run_with("restart-mac.sh", &["--no-sign"], &[("SIGN_IDENTITY", JANE)]));
    assert!(mac.signing().contains("[--sign] [-]"));
    mac.behave("security", "exit 1");
    fails(&mac.restart(&[]), "the keychain cannot be read");
}

#[test]
fn another_signature_than_before_is_told() {
    let mac = Mac::new();
    works(&mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", JANE)]));
    let same = mac.run_with("restart-mac.sh", &[], &[("SIGN_IDENTITY", JANE)]);
    works(&same);
    assert!(!same.stdout.contains("WARNING"), "{}", same.stdout);
    let other = mac.restart(&["--no-sign"]);
    works(&other);
    assert!(other.stdout.contains("tccutil reset All ai.openclaw.mac\n"), "{}", other.stdout);
}

#[test]
fn an_app_that_does_not_answer_is_a_failure() {
    let mac = Mac::new();
    mac.behave("openclaw", "[ \"$1\" != mac-debug ] || exit 1");
    let done = mac.run_with("restart-mac.sh", &[], &[("OPENCLAW_APP_WAIT_SECONDS", "2")]);
    fails(&done, "within 2 s");
    fails(&done, "what the app logged");
    assert_eq!(mac.calls().matches("[mac-debug]").count(), 10);
    fails(&mac.run_with("restart-mac.sh", &[], &[("OPENCLAW_APP_WAIT_SECONDS", "soon")]), "number of seconds");

    let mac = Mac::new();
    mac.behave("openclaw", "[ \"$2\" != status ] || echo 815 >\"$HOME/.openclaw/app.lock\"");
    fails(&mac.restart(&[]), "end process 815");
}

#[test]
fn one_restart_at_a_time() {
    let mac = Mac::new();
    let lock = mac.home("Library/Logs/OpenClaw/restart.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    symlink("321", &lock).unwrap();
    let command = mac.world("command.321");
    fs::write(&command, "bash scripts/restart-mac.sh\n").unwrap();
    let log = mac.home("Library/Logs/OpenClaw/restart.log");
    fs::write(&log, "of the other").unwrap();
    let done = mac.restart(&[]);
    works(&done);
    assert!(done.stdout.contains("another restart is under way (process 321)"), "{done:?}");
    assert!(!mac.calls().contains("launchctl") && lock.is_symlink());
    assert_eq!(fs::read_to_string(&log).unwrap(), "of the other");

    let waiting = Process::spawn(mac.command("restart-mac.sh", &["--wait"]));
    wait_until("a restart that waits", || waiting.stdout().contains("waiting for another restart").then_some(()));
    fs::remove_file(&lock).unwrap();
    let done = waiting.finish();
    works(&done);
    assert!(mac.calls().contains("cargo") && !lock.is_symlink());

    // Its holder has ended, or its number is another program's by now.
    for holder in [None, Some("/bin/zsh\n")] {
        symlink("321", &lock).unwrap();
        fs::remove_file(&command).unwrap_or_default();
        if let Some(holder) = holder {
            fs::write(&command, holder).unwrap();
        }
        let done = mac.restart(&[]);
        works(&done);
        assert!(done.stdout.contains("the lock of process 321, which has ended, is removed"), "{done:?}");
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mac = Mac::new();
    mac.loaded().installed(&[]);
    fs::write(mac.agent(), "<plist>of the original product</plist>").unwrap();
    fails(&mac.restart(&[]), "was not written by this program");
    let mac = Mac::new();
    fs::write(mac.world("loaded"), "/Applications/OpenClaw.app/Contents/MacOS/OpenClaw\n").unwrap();
    fails(&mac.restart(&[]), "is another program's job");
    assert!(!mac.calls().contains("bootout"));

    // Started from a terminal, which is where it is ended.
    let (pid, ended) = living();
    let mac = Mac::new();
    mac.locked_by(pid, "target/release/openclaw");
    fails(&mac.restart(&[]), &format!("started by hand, as process {pid}"));
    assert!(!mac.calls().contains("cargo"));
    // The lock file is an old one.
    mac.locked_by(pid, "/bin/sleep");
    works(&mac.restart(&[]));
    assert!(!ended.is_finished(), "another program's process lives on");
    // Opened by Finder.
    mac.locked_by(pid, "/Applications/OpenClaw.app/Contents/MacOS/openclaw");
    works(&mac.restart(&[]));
    ended.join().unwrap();
    // One that does not end is not replaced.
    let mut deaf = Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; echo; exec sleep 20"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    deaf.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    mac.forget_calls();
    mac.locked_by(deaf.id(), "/Applications/OpenClaw.app/Contents/MacOS/openclaw");
    fails(&mac.restart(&[]), "does not end");
    assert!(!mac.calls().contains("cargo"));
    deaf.kill().unwrap();
    deaf.wait().unwrap();
}

#[test]
fn flags_of_before_stay() {
    let mac = Mac::new();
    let state = mac.directory.join("my state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("app.lock"), "4711\n").unwrap();
    let state = state.to_str().unwrap();
    mac.installed(&["--ask", "none", "--state-dir", state]);
    works(&mac.restart(&[]));
    assert_eq!(mac.install_flags(), format!("[--ask] [none] [--state-dir] [{state}]"));
    assert!(mac.calls().contains(&format!("openclaw [mac-debug] [--state-dir] [{state}] [grants]")));

    works(&mac.restart(&["--", "--ssh", "me@studio.example"]));
    assert_eq!(mac.install_flags(), "[--ssh] [me@studio.example]");
    works(&mac.restart(&["--attach-only"]));
    assert_eq!(mac.install_flags(), "[--ssh] [me@studio.example] [--attach-only]");
    works(&mac.restart(&[]));
    assert_eq!(mac.install_flags(), "[--ssh] [me@studio.example] [--attach-only]");
    // The owner's file that says the same.
    let marker = mac.home(".openclaw/disable-launchagent");
    fs::write(&marker, "").unwrap();
    works(&mac.restart(&["--attach-only"]));
    assert!(marker.exists());
    works(&mac.restart(&["--no-attach-only"]));
    assert!(!marker.exists());
    assert_eq!(mac.install_flags(), "[--ssh] [me@studio.example]");
    works(&mac.restart(&["--no-attach-only", "--", "--attach-only"]));
    assert_eq!(mac.install_flags(), "");
}

#[test]
fn a_node_that_starts_from_the_bundle_is_restarted() {
    let mac = Mac::new();
    let node = mac.home("Library/LaunchAgents/ai.openclaw.node.plist");
    fs::create_dir_all(node.parent().unwrap()).unwrap();
    mac.behave("openclaw", "[ \"$1 $2\" != 'node status' ] || { printf '{\\n  \"running\": true,\\n  \"file\": \"%s\"\\n}\\n' \"$HOME/Library/LaunchAgents/ai.openclaw.node.plist\"; exit; }");
    fs::write(&node, "<string>/usr/local/bin/openclaw</string>").unwrap();
    works(&mac.restart(&[]));
    assert!(!mac.calls().contains("openclaw [node] [restart]"));
    fs::write(&node, "<string>/x y/dist/OpenClaw.app/Contents/MacOS/openclaw</string>").unwrap();
    works(&mac.restart(&[]));
    assert!(mac.calls().contains("openclaw [node] [restart]"));
}

#[test]
fn both_kinds_of_mac_in_one_file() {
    let mac = Mac::new();
    let built = |name: &str, text: &str| {
        let path = mac.checkout("target").join(name).join("release/openclaw");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, text);
    };
    let package = |variables: &[(&str, &str)]| {
        let done = mac.run_with("package-mac-app.sh", &[], variables);
        (fs::read_to_string(mac.bundle("MacOS/openclaw")).unwrap_or_default(), done)
    };
    fails(&package(&[]).1, "target/release/openclaw is not built");
    built("", "host");
    works(&package(&[]).1);
    built("aarch64-apple-darwin", "arm ");
    assert_eq!(package(&[]).0, "host", "one of two is not both");
    fails(&package(&[("BUILD_ARCHS", "all")]).1, "target/x86_64-apple-darwin/release/openclaw is not built");
    built("x86_64-apple-darwin", "intel");
    assert_eq!(package(&[]).0, "arm intel");
    assert_eq!(package(&[("BUILD_ARCHS", "host")]).0, "host");
    // What was built for both kinds is older than what was built last.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(mac.checkout("target/release/openclaw")).unwrap().set_modified(later).unwrap();
    assert_eq!(package(&[]).0, "host");
    assert_eq!(package(&[("BUILD_ARCHS", "all")]).0, "arm intel");
    mac.behave("lipo", "exit 1");
    fails(&package(&[("BUILD_ARCHS", "all")]).1, "lipo could not join");
    assert_eq!(fs::read_to_string(mac.bundle("MacOS/openclaw")).unwrap(), "arm intel");

    for (name, value, words) in [
        ("BUILD_ARCHS", "sparc", "auto, host or all"),
        ("BUILD_CONFIG", "fast", "release or debug"),
        ("BUNDLE_ID", "com.example", "must be ai.openclaw.mac"),
        ("BUNDLE_ID", "ai.openclaw.mac.</string>", "letters, digits"),
        ("APP_VERSION", "1.0 & more", "letters, digits"),
        ("APP_BUILD", "many", "must be a number"),
    ] {
        fails(&package(&[(name, value)]).1, words);
    }
}

#[test]
fn without_the_tools_there_is_no_icon_and_it_says_so() {
    let mac = Mac::new();
    fs::remove_file(mac.directory.join("tools/iconutil")).unwrap();
    let done = mac.restart(&[]);
    works(&done);
    assert!(done.stdout.contains("no icon: sips and iconutil"), "{}", done.stdout);
    assert!(!mac.bundle("Resources/OpenClaw.icns").exists());
}

#[test]
fn a_debug_build_is_another_app_to_macos() {
    let mac = Mac::new();
    works(&mac.run_with("restart-mac.sh", &[], &[("BUILD_CONFIG", "debug")]));
    assert!(mac.calls().contains("cargo [build] [--locked]"));
    let list = plist::read(&fs::read_to_string(mac.bundle("Info.plist")).unwrap());
    assert_eq!(list.text("CFBundleIdentifier"), "ai.openclaw.mac.debug");
}

#[test]
fn a_dry_run_shows_the_steps_and_does_nothing() {
    let mac = Mac::new();
    mac.loaded().behave("uname", "echo Linux; exit");
    let steps = mac.run_with(
        "restart-mac.sh",
        &["--dry-run", "--no-attach-only", "--", "--ask", "none"],
        &[("SIGN_IDENTITY", JANE)],
    );
    works(&steps);
    in_order(
        &steps.stdout,
        &[
            "+ launchctl bootout gui/501/ai.openclaw.mac\n",
            "cargo build --release --locked\n",
            "+ plutil -lint",
            "+ iconutil",
            "+ codesign --force --sign Apple\\ Development:\\ Jane\\ Doe\\ \\(ABCDE12345\\)",
            "+ codesign --verify",
            "+ mv",
            "openclaw app install --ask none\n",
            "+ plutil -lint",
            "mac-control.sock",
        ],
    );
    works(&mac.run("package-mac-app.sh", &["--dry-run"]));
    works(&mac.run("codesign-mac-app.sh", &["--dry-run", "x.app"]));
    let calls = mac.calls();
    let asked = ["id ", "uname ", "git "];
    assert!(calls.lines().all(|line| asked.iter().any(|tool| line.starts_with(tool))), "{calls}");
    assert!(!mac.checkout("dist").exists() && fs::read_dir(mac.home("")).unwrap().count() == 0);

    for script in ["restart-mac.sh", "package-mac-app.sh", "codesign-mac-app.sh"] {
        let help = mac.run(script, &["--help"]);
        works(&help);
        assert!(help.stdout.contains("Usage: scripts/") && help.stdout.contains("--dry-run"), "{help:?}");
        fails(&mac.run(script, &["--fast"]), "there is no flag --fast");
        fails(&mac.run(script, if script == "codesign-mac-app.sh" { &["x.app"] } else { &[] }), "for a Mac");
    }
}

#[test]
fn make_restart_and_uninstall() {
    let mac = Mac::new();
    let make = |arguments: &[&str]| {
        let script = mac.command("", &[]);
        let mut make = Command::new("make");
        make.args(arguments).current_dir(mac.checkout("")).env_clear().stdin(Stdio::null());
        make.envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = Process::run(make);
        works(&done);
        done.stdout
    };
    assert!(make(&["restart"]).contains("the app runs"));
    assert!(mac.signing().contains("[--sign]"));
    mac.behave("uname", "echo Linux; exit");
    in_order(&make(&["-n", "restart"]), &["cargo build", "scripts/restart.sh"]);
    fs::remove_file(mac.world("behave/uname")).unwrap();

    let bin = mac.home(".local/bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("openclaw"), "#!/bin/sh\n");
    let share = mac.home(".local/share");
    let [ours, others] = [
        ["man/man1/openclaw.1", "man/man1/openclaw-mac-debug.1", "zsh/site-functions/_openclaw"],
        ["man/man1/openclawed.1", "man/man1/other.1", "zsh/site-functions/_other"],
    ]
    .map(|names| names.map(|name| share.join(name)));
    for file in ours.iter().chain(&others) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    make(&["uninstall"]);
    in_order(&mac.calls(), &["openclaw [app] [uninstall] [--all]"]);
    assert!(!ours.iter().any(|file| file.exists()) && others.iter().all(|file| file.exists()));
    assert!(!bin.join("openclaw").exists() && !mac.checkout("dist/OpenClaw.app").exists());
    assert!(mac.home(".openclaw").exists(), "the state stays");
    works(&mac.run("uninstall.sh", &[]));

    // What cannot be uninstalled keeps its program.
    mac.old_bundle();
    write_program(&mac.bundle("MacOS/openclaw"), "#!/bin/sh\nexit 1\n");
    assert_ne!(mac.run("uninstall.sh", &[]).code, Some(0));
    assert!(mac.bundle("MacOS/openclaw").exists());
}

#[test]
fn the_bundle_says_what_macos_asks_of_it() {
    let mac = Mac::new();
    let done = mac.run_with("restart-mac.sh", &[], &[("APP_VERSION", "1.2.3")]);
    works(&done);
    let list = plist::read(&fs::read_to_string(mac.bundle("Info.plist")).unwrap());
    for (key, value) in [
        ("CFBundleExecutable", "openclaw"),
        ("CFBundleIdentifier", "ai.openclaw.mac"),
        ("CFBundleShortVersionString", "1.2.3"),
        ("CFBundleVersion", "42"),
        ("CFBundlePackageType", "APPL"),
        ("OpenClawGitCommit", "abc1234"),
    ] {
        assert_eq!(list.text(key), value, "{key}");
    }
    let stamp = list.text("OpenClawBuildTimestamp");
    let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z");
    assert_eq!(list.get("LSUIElement"), &plist::Value::Bool(true));
    assert_eq!(
        list.get("NSBonjourServices"),
        &plist::Value::Array(vec![plist::Value::Text("_openclaw-gw._tcp".to_owned())])
    );
    let plist::Value::Array(links) = list.get("CFBundleURLTypes") else { panic!("no URL types") };
    assert_eq!(links[0].text("CFBundleURLName"), "ai.openclaw.mac.deeplink");
    assert_eq!(
        links[0].get("CFBundleURLSchemes"),
        &plist::Value::Array(vec![plist::Value::Text("openclaw".to_owned())])
    );
    // A program that uses one of these without its sentence is killed, or never asked for.
    for what in [
        "AppleEvents",
        "Camera",
        "LocalNetwork",
        "LocationAlwaysAndWhenInUse",
        "Location",
        "LocationWhenInUse",
        "Microphone",
        "SpeechRecognition",
    ] {
        assert!(list.text(&format!("NS{what}UsageDescription")).starts_with("OpenClaw "), "{what}");
    }

    let entitlements = plist::read(&fs::read_to_string(repository("macos/bundle/OpenClaw.entitlements")).unwrap());
    let plist::Value::Dict(members) = &entitlements else { panic!("no dictionary") };
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "com.apple.security.automation.apple-events",
            "com.apple.security.device.audio-input",
            "com.apple.security.device.camera",
            "com.apple.security.personal-information.location",
        ]
    );
    assert!(members.iter().all(|(_, value)| *value == plist::Value::Bool(true)));

    // One system version, in all places that have to say it.
    let version = format!("MACOSX_DEPLOYMENT_TARGET={}", list.text("LSMinimumSystemVersion"));
    for file in ["Makefile", "scripts/restart-mac.sh", "scripts/check-macos.sh"] {
        assert!(
            fs::read_to_string(repository(file)).unwrap().replace(" = ", "=").contains(&version),
            "{file}: {version}"
        );
    }
    // The words by which the script knows an agent of ours.
    let mark = "Written by openclaw itself";
    assert!(fs::read_to_string(repository("src/service/mod.rs")).unwrap().contains(mark));
    assert!(fs::read_to_string(repository("scripts/restart-mac.sh")).unwrap().contains(mark));

    let picture = fs::read(repository("macos/bundle/icon.png")).unwrap();
    let side = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    assert!(picture.starts_with(b"\x89PNG") && (side(16), side(20)) == (1024, 1024));
}

/// macOS has bash 3.2 and will not have another.
#[test]
fn nothing_that_the_old_bash_lacks() {
    let newer = [
        "mapfile",
        "readarray",
        "declare -A",
        "local -A",
        "local -n",
        "declare -n",
        "declare -g",
        "coproc",
        "|&",
        "&>>",
        "^^}",
        ",,}",
        "@Q}",
        "[[ -v",
        "wait -n",
        ";;&",
        "EPOCH",
        "BASHPID",
        "readlink -f",
        "realpath",
        "sed -i",
        "grep -P",
        "date -d",
        "stat -c",
    ];
    for script in ["mac-steps.sh", "restart-mac.sh", "package-mac-app.sh", "codesign-mac-app.sh", "uninstall.sh"] {
        let text = fs::read_to_string(repository("scripts").join(script)).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let found = newer.iter().find(|word| line.contains(**word));
            assert_eq!(found, None, "{script}:{}: {line}", number + 1);
            // Under `set -u` the old bash takes an empty array for an unset variable.
            let bare = line.replace("+\"${", "").split("\"${").skip(1).any(|rest| {
                let name = rest.split(['}', '[']).next().unwrap();
                ["flags", "kept", "inspect", "release"].contains(&name) && rest[name.len()..].starts_with("[@]")
            });
            assert!(!bare, "{script}:{}: {line}", number + 1);
        }
    }
}
