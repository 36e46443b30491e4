//! `make demo`: the whole chain on one terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use std::process::{Command, Stdio};
use support::{Process, Pty, children, wait_until};
use support_exec::*;

/// `scripts/demo.sh`, which is all that `make demo` does after building, with the program under test.
fn demo(scratch: &Scratch, arguments: &[&str]) -> Command {
    let ours = scratch.openclaw(&[]);
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh")).args(arguments);
    command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("OPENCLAW_BIN", env!("CARGO_BIN_EXE_openclaw")).stdin(Stdio::null());
    command
}

/// State directories of demos that still lie about.
fn left_over(before: &[String]) -> Vec<String> {
    directories().into_iter().filter(|name| !before.contains(name)).collect()
}

fn directories() -> Vec<String> {
    let names =
        std::fs::read_dir("/tmp").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap_or_default());
    names.filter(|name| name.starts_with("openclaw.")).collect()
}

/// One test, since each looks at what the others would leave in `/tmp`.
#[test]
fn the_demo_asks_on_this_terminal_prints_the_output_and_cleans_up() {
    let scratch = Scratch::new();
    let before = directories();

    let mut terminal = Pty::spawn(demo(&scratch, &[]));
    terminal.expect("allow this command?");
    let shown = terminal.expect("then Return: ");
    assert!(shown.contains("uname -a") && shown.contains(&program("uname")), "{shown}");
    terminal.type_text("once\n");
    let expected = Command::new("uname").arg("-a").output().unwrap();
    terminal.expect(String::from_utf8(expected.stdout).unwrap().trim());
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0), "{screen}");
    wait_until("a clean /tmp", || left_over(&before).is_empty().then_some(()));

    let mut terminal = Pty::spawn(demo(&scratch, &["touch", scratch.canary().to_str().unwrap()]));
    terminal.expect("then Return: ");
    terminal.type_text("deny\n");
    let (code, screen) = terminal.finish();
    assert!(code.is_some_and(|code| code != 0), "{screen}");
    assert!(!scratch.canary().exists());
    wait_until("a clean /tmp", || left_over(&before).is_empty().then_some(()));

    // Ctrl-C at the prompt ends all of it.
    let mut terminal = Pty::spawn(demo(&scratch, &["touch", scratch.canary().to_str().unwrap()]));
    terminal.expect("then Return: ");
    let pid = terminal.pid();
    terminal.type_text("\u{3}");
    let (code, screen) = terminal.finish();
    assert!(code.is_none_or(|code| code != 0), "{screen}");
    assert!(children(pid).is_empty());
    assert!(!scratch.canary().exists());
    wait_until("a clean /tmp", || left_over(&before).is_empty().then_some(()));

    // Without a terminal: a reason, an exit code, nothing started.
    let mut command = Command::new("setsid");
    let inner = demo(&scratch, &[]);
    command.arg("-w").arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if have("setsid", "the demo without a terminal") {
        let nobody = Process::run(command);
        assert!(nobody.code.is_some_and(|code| code != 0), "{nobody:?}");
        assert!(nobody.stderr.contains("terminal"), "{nobody:?}");
    }
}
