//! The harness itself: what the other tests rely on must be able to fail.
mod support;

use std::process::Command;
use support::{Pty, TempDir, mode};

#[test]
fn a_terminal_is_the_programs_controlling_terminal() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo ready > /dev/tty; read answer < /dev/tty; echo \"got <$answer>\"; exit 7"]);
    let mut terminal = Pty::spawn(command);
    terminal.expect("ready");
    terminal.type_text("once\n");
    terminal.expect("got <once>");
    assert_eq!(terminal.finish().0, Some(7));
}

#[test]
fn a_temporary_directory_is_private_and_short_and_goes_away() {
    let directory = TempDir::new();
    let path = directory.path().to_owned();
    assert_eq!(mode(&path), 0o700);
    assert!(path.as_os_str().len() < 40, "{}", path.display());
    drop(directory);
    assert!(!path.exists());
}
