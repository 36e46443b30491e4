//! Wrappers that change how a command runs, and not what runs. Source: spec exec (d.5) "Dispatch
//! wrappers". Stricter: `sandbox-exec` takes a policy as code, and `xcrun` and `env -` (which takes
//! `PATH` away) look the command up elsewhere than we do.

use super::{Place, base, file_name};
use crate::exec::plan::Executable;

/// How one is called.
struct Wrapper {
    name: &'static str,
    /// Options without a value. An option that stands in no list is not read.
    flags: &'static [&'static str],
    /// Options whose value is the next argument, or stands behind `=`.
    values: &'static [&'static str],
    /// Arguments in front of the command.
    operands: usize,
}

#[rustfmt::skip]
const WRAPPERS: &[Wrapper] = &[
    Wrapper { name: "env", flags: &[], values: &[], operands: 0 },
    Wrapper { name: "nice", flags: &[], values: &["-n", "--adjustment"], operands: 0 },
    Wrapper { name: "nohup", flags: &[], values: &[], operands: 0 },
    Wrapper {
        name: "timeout", flags: &["--foreground", "--preserve-status", "-v", "--verbose"],
        values: &["-k", "--kill-after", "-s", "--signal"], operands: 1,
    },
    Wrapper { name: "stdbuf", flags: &[], values: &["-i", "--input", "-o", "--output", "-e", "--error"], operands: 0 },
    Wrapper { name: "time", flags: &["-p"], values: &[], operands: 0 },
    Wrapper {
        name: "flock", flags: &["-s", "--shared", "-x", "-e", "--exclusive", "-n", "--nonblock", "-o", "--close"],
        values: &["-w", "--timeout", "-E", "--conflict-exit-code"], operands: 1,
    },
];

#[rustfmt::skip]
const MAC_WRAPPERS: &[Wrapper] = &[
    Wrapper { name: "caffeinate", flags: &["-d", "-i", "-m", "-s", "-u"], values: &["-t", "-w"], operands: 0 },
    Wrapper { name: "arch", flags: &["-arm64", "-arm64e", "-x86_64"], values: &["-arch"], operands: 0 },
];

/// The command that `argv` carries, if its program is one of these and the system's own.
///
/// # Errors
/// It is, but what it is told is not read here.
pub(super) fn inner<'a>(
    argv: &'a [String],
    executable: Option<&Executable>,
    place: &Place,
) -> Result<Option<&'a [String]>, String> {
    let (Some(name), Some(executable)) = (argv.first(), executable) else { return Ok(None) };
    let all = WRAPPERS.iter().chain(if cfg!(target_os = "macos") { MAC_WRAPPERS } else { &[] });
    let mut known = all.filter(|wrapper| wrapper.name == base(name) && wrapper.name == file_name(executable));
    let Some(wrapper) = known.next() else { return Ok(None) };
    if !place.is_system(name, executable) {
        return Err(format!("`{name}` is not the system's own"));
    }
    let inner = argv.get(wrapper.options(argv)? + wrapper.operands..).unwrap_or_default();
    match inner.first() {
        None => Err(format!("`{name}` has no command")),
        Some(first) if first.starts_with('-') || (wrapper.name == "env" && first.contains('=')) => {
            Err(format!("`{name}` is told more than to start a command: {first}"))
        }
        Some(_) => Ok(Some(inner)),
    }
}

impl Wrapper {
    /// Where its options end.
    fn options(&self, argv: &[String]) -> Result<usize, String> {
        let mut index = 1;
        while let Some(argument) = argv.get(index).filter(|argument| argument.starts_with('-')) {
            let (option, has_value) = match argument.split_once('=') {
                Some((option, _)) if option.starts_with("--") => (option, true),
                _ => (argument.as_str(), false),
            };
            let is_niceness = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            index += match option {
                "--" => return Ok(index + 1),
                _ if self.values.contains(&option) && has_value => 1,
                _ if self.values.contains(&option) => 2,
                _ if self.flags.contains(&option) && !has_value => 1,
                _ if self.name == "nice" && argument.strip_prefix('-').is_some_and(is_niceness) => 1,
                _ => return Err(format!("the option {argument} of `{}` is not read here", self.name)),
            };
        }
        Ok(index)
    }
}
