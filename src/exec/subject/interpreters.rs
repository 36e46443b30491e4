//! Programs that run a program: from a file, which is then bound, or from their arguments, which then
//! an entry must name. Source: spec exec (d.5) "Inline interpreter code"; A93, A108.

use super::{Place, bind};
use crate::exec::plan::{Nature, Operand, Subject};

/// How some of them read their options: letters of short ones, which may stand together, and whole
/// long ones. An option that stands in no list is not read, and all behind it is unknown.
struct Interpreter {
    names: &'static [&'static str],
    /// With code as value.
    code: &'static str,
    /// Pulling in code that stands elsewhere.
    loads: &'static str,
    /// With a harmless value, in the same argument or the next.
    values: &'static str,
    /// With a harmless value that can only stand in the same argument.
    rests: &'static str,
    /// Harmless, without one.
    flags: &'static str,
    /// Harmless long ones.
    long_flags: &'static [&'static str],
    /// Whether the first argument that is no option is code, and no file.
    is_text: bool,
}

/// Long options with code, of whichever interpreter.
const LONG_CODE: &[&str] = &["--eval", "--print", "--execute", "--expression", "--source"];

const PLAIN: Interpreter = Interpreter {
    names: &[],
    code: "eE",
    loads: "",
    values: "",
    rests: "",
    flags: "",
    long_flags: &[],
    is_text: false,
};

#[rustfmt::skip]
const INTERPRETERS: &[Interpreter] = &[
    Interpreter { names: &["python", "pypy"], code: "c", loads: "m", values: "WX", flags: "bBdEIOPqRsSuv", ..PLAIN },
    Interpreter {
        names: &["node", "nodejs", "tsx", "ts-node"], code: "ep", loads: "r", values: "C",
        long_flags: &["--no-warnings", "--trace-warnings", "--enable-source-maps", "--max-old-space-size"], ..PLAIN
    },
    Interpreter { names: &["perl"], loads: "MmIdxS", rests: "iFC", flags: "aclnpstTuUwWX0123456789", ..PLAIN },
    Interpreter { names: &["ruby"], code: "e", loads: "rICSx", values: "E", rests: "iF", flags: "aclnpswUW0123456789", ..PLAIN },
    Interpreter { names: &["php"], code: "rBRE", loads: "dzcF", flags: "nqC", ..PLAIN },
    Interpreter { names: &["lua", "luajit"], code: "e", loads: "l", flags: "EW", ..PLAIN },
    Interpreter { names: &["osascript"], code: "e", values: "ls", ..PLAIN },
    Interpreter { names: &["expect", "guile"], code: "c", loads: "l", ..PLAIN },
    Interpreter { names: &["r", "rscript"], long_flags: &["--vanilla", "--no-save", "--quiet"], ..PLAIN },
    Interpreter { names: &["java"], code: "", long_flags: &["-jar"], ..PLAIN },
    Interpreter {
        names: &[
            "julia", "elixir", "groovy", "scala", "clojure", "clj", "raku", "racket", "sbcl", "ocaml", "swift", "tclsh",
            "wish", "irb", "iex", "jshell",
        ],
        ..PLAIN
    },
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk"], code: "e", loads: "fEil", values: "vF", is_text: true, ..PLAIN
    },
    Interpreter { names: &["sed", "gsed"], code: "e", loads: "f", rests: "i", flags: "nErsuz", is_text: true, ..PLAIN },
    Interpreter { names: &["ed", "ghc", "erl"], is_text: true, ..PLAIN },
];

/// Alone, they only make it tell about itself.
const QUESTIONS: &[&str] = &["--version", "-V", "-v", "-version", "--help", "-h"];

/// Whether a program of one of these names is an interpreter.
pub(super) fn is_one(names: &[String]) -> bool {
    find(names).is_some()
}

fn find(names: &[String]) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|known| names.iter().any(|name| known.names.contains(&name.as_str())))
}

/// Judges `subject` if it is one.
pub(super) fn judge(subject: &mut Subject, names: &[String], place: &Place) {
    let Some(interpreter) = find(names) else { return };
    let name = subject.argv.first().cloned().unwrap_or_default();
    let (reason, is_bound) = match interpreter.scan(&subject.argv) {
        Found::Question => return,
        Found::File(index) => {
            bind_operand(subject, index, place);
            return;
        }
        Found::Code => (format!("the code that `{name}` runs stands in its arguments"), true),
        Found::Loads(option) => (format!("{option} makes `{name}` load code from elsewhere"), false),
        Found::Unknown(option) => (format!("the option {option} of `{name}` is not read here"), false),
        Found::Nothing => (format!("`{name}` reads its program from its input"), false),
    };
    if !is_bound {
        subject.unbound = Some(reason.clone());
    }
    subject.nature = Nature::InlineCode(reason);
}

/// Binds the file that the argument at `index` names, or says that there is none.
pub(super) fn bind_operand(subject: &mut Subject, index: usize, place: &Place) {
    let argument = subject.argv.get(index).map(String::as_str).unwrap_or_default();
    match bind(&place.directory.join(argument)) {
        Some(file) if !argument.is_empty() => subject.operand = Some(Operand { index, file }),
        _ => subject.unbound = Some(format!("`{argument}` is no file that could be checked again when it runs")),
    }
}

/// What the arguments say about the program that runs.
enum Found {
    Question,
    File(usize),
    Code,
    Loads(String),
    Unknown(String),
    Nothing,
}

impl Interpreter {
    fn scan(&self, argv: &[String]) -> Found {
        let arguments = argv.get(1..).unwrap_or_default();
        if let [only] = arguments
            && QUESTIONS.contains(&only.as_str())
            && !only.strip_prefix('-').is_some_and(|letter| letter.len() == 1 && self.flags.contains(letter))
        {
            return Found::Question;
        }
        let mut index = 1;
        while let Some(argument) = argv.get(index) {
            let option = argument.split('=').next().unwrap_or(argument);
            if argument == "--" {
                index += 1;
                break;
            } else if self.long_flags.contains(&option) {
                index += 1;
            } else if LONG_CODE.contains(&option) {
                return Found::Code;
            } else if argument.starts_with("--") {
                return Found::Unknown(option.to_owned());
            } else if argument == "-" || !argument.starts_with('-') {
                break;
            } else {
                match self.cluster(argument) {
                    Ok(more) => index += 1 + more,
                    Err(found) => return found,
                }
            }
        }
        match argv.get(index) {
            None => Found::Nothing,
            Some(_) if self.is_text => Found::Code,
            Some(dash) if dash == "-" => Found::Nothing,
            Some(_) => Found::File(index),
        }
    }

    /// How many further arguments belong to a group of short options.
    fn cluster(&self, argument: &str) -> Result<usize, Found> {
        for (position, letter) in argument.char_indices().skip(1) {
            if self.code.contains(letter) {
                return Err(Found::Code);
            } else if self.values.contains(letter) {
                return Ok(usize::from(position + letter.len_utf8() == argument.len()));
            } else if self.rests.contains(letter) {
                return Ok(0);
            } else if self.loads.contains(letter) {
                return Err(Found::Loads(argument.to_owned()));
            } else if !self.flags.contains(letter) {
                return Err(Found::Unknown(argument.to_owned()));
            }
        }
        Ok(0)
    }
}
