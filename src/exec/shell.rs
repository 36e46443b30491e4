//! The part of the POSIX shell language that is understood completely: words, quotes, escapes,
//! pipelines, `&&`, `||`, `;`, lines, comments, and a short list of conveniences that we perform
//! ourselves (`~`, `$HOME`, `$PWD`, file globs, `2>&1`, `>/dev/null`). Everything else is not
//! understood, with the reason and its place. Being smaller than a shell is the point. Time is
//! linear in the text, and nothing recurses. Source: issue part 2, point 1; spec exec (d.5), (h.2).

mod files;
mod word;

pub(super) use files::is_like;
pub use word::{Surroundings, Word};

use super::plan::{After, NotUnderstood, Sink};
use crate::limits;
use word::{Builder, Variable};

/// A text that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// In the order of the text; never empty.
    pub steps: Vec<Pipeline>,
}

/// Commands that run at the same time, the output of each the input of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// On what of the pipeline before it depends.
    pub after: After,
    /// `!` stands before it.
    pub is_negated: bool,
    /// Never empty.
    pub commands: Vec<SimpleCommand>,
}

/// A program's name and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleCommand {
    /// Never empty. The first contains no glob and is not a reserved word or an assignment.
    pub words: Vec<Word>,
    /// Where descriptor 1 leads.
    pub stdout: Sink,
    /// Where descriptor 2 leads.
    pub stderr: Sink,
    /// Of the first word, in bytes from the beginning of the text.
    pub position: usize,
}

impl SimpleCommand {
    /// The argument vector: not empty, nor is its first element.
    ///
    /// # Errors
    /// A word cannot be expanded ([`Word::expand`]), or the command's name comes out empty.
    pub fn expand(&self, around: &mut Surroundings) -> Result<Vec<String>, NotUnderstood> {
        let mut argv = Vec::with_capacity(self.words.len());
        for word in &self.words {
            argv.extend(word.expand(around)?);
        }
        if argv.first().is_none_or(String::is_empty) {
            return Err(not_understood("a command without a name", self.position));
        }
        Ok(argv)
    }
}

/// Reads a text as a shell would, as far as we understand it.
///
/// # Errors
/// The first thing in it that is not understood.
pub fn parse(text: &str) -> Result<Script, NotUnderstood> {
    if text.len() > limits::SHELL_TEXT_BYTES {
        return Err(not_understood("more text than is analysed", limits::SHELL_TEXT_BYTES));
    }
    if let Some(position) = text.find('\0') {
        return Err(not_understood("a NUL character", position));
    }
    let mut scanner = Scanner { text, at: 0 };
    let mut steps = Vec::new();
    let mut next = Some(After::Always);
    scanner.skip_lines();
    while let Some(after) = next {
        steps.push(scanner.pipeline(after)?);
        next = scanner.separator()?;
    }
    Ok(Script { steps })
}

fn not_understood(reason: &str, position: usize) -> NotUnderstood {
    NotUnderstood { reason: reason.to_owned(), position }
}

/// Unquoted in command position, these are syntax. `time` is not among them: we start the program
/// of that name, as the original does.
const RESERVED_WORDS: [&str; 20] = [
    "!", "{", "}", "[[", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in",
    "select", "then", "until", "while",
];

type Redirect = fn(&mut SimpleCommand);

/// The redirections that we perform, exactly so written, and what they do.
const REDIRECTIONS: [(&str, Redirect); 4] = [
    ("2>&1", |command| command.stderr = command.stdout),
    (">/dev/null", |command| command.stdout = Sink::Null),
    ("1>/dev/null", |command| command.stdout = Sink::Null),
    ("2>/dev/null", |command| command.stderr = Sink::Null),
];

/// What may stand behind a `$` that is then an ordinary character. Anything that is special there
/// in sh, bash or zsh, or was not thought of, is missing here.
const PLAIN_BEHIND_DOLLAR: &[u8] = b" \t\n\r\x0B\x0C/.,%\\]";
/// The same, and only within double quotes.
const PLAIN_BEHIND_QUOTED_DOLLAR: &[u8] = b"\"'|;<>)";

/// Carriage return, vertical tab and form feed are blanks of the original's grammar, though not of
/// sh (vectors shell-0103, -0598, -0599): harmless, since what we start is what we read.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0B | 0x0C)
}

fn ends_word(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'\n' | b';' | b'&' | b'|')
}

/// `NAME=`, `NAME+=`, `NAME[`: in command position an assignment (h.2-4).
fn is_assignment(raw: &str) -> bool {
    let rest = raw.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    rest.len() < raw.len()
        && !raw.starts_with(|c: char| c.is_ascii_digit())
        && (rest.starts_with(['=', '[']) || rest.starts_with("+="))
}

struct Scanner<'a> {
    text: &'a str,
    /// In bytes, always at a character's border.
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn is_at_word_end(&self) -> bool {
        self.peek().is_none_or(ends_word)
    }

    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.get(..rest.bytes().take_while(|byte| accepts(*byte)).count()).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// Only `wanted`, if it stands here.
    fn take(&mut self, wanted: &str) -> bool {
        let is_here = self.rest().starts_with(wanted);
        self.at += if is_here { wanted.len() } else { 0 };
        is_here
    }

    fn fail<T>(&self, reason: &str) -> Result<T, NotUnderstood> {
        Err(not_understood(reason, self.at))
    }

    /// To the next word, operator or line's end.
    fn skip_blanks(&mut self) {
        self.take_while(is_blank);
        if self.peek() == Some(b'#') {
            self.take_while(|byte| byte != b'\n');
        }
    }

    /// To the next word or operator.
    fn skip_lines(&mut self) {
        self.skip_blanks();
        while self.take("\n") {
            self.skip_blanks();
        }
    }

    /// What stands behind a pipeline, and on what the next one depends; none at the end of the text.
    fn separator(&mut self) -> Result<Option<After>, NotUnderstood> {
        let (after, may_end) = if self.take("&&") {
            (After::Success, false)
        } else if self.take("||") {
            (After::Failure, false)
        } else if self.take(";;") {
            // As the original: between two commands it separates them (vector shell-0079).
            (After::Always, false)
        } else if self.take(";") || self.take("\n") || self.rest().is_empty() {
            (After::Always, true)
        } else {
            return self.fail(if self.rest().starts_with("&>") {
                "a redirection"
            } else {
                "a command in the background"
            });
        };
        self.skip_lines();
        Ok((!may_end || !self.rest().is_empty()).then_some(after))
    }

    fn pipeline(&mut self, after: After) -> Result<Pipeline, NotUnderstood> {
        let is_negated = self.rest().strip_prefix('!').is_some_and(|rest| rest.bytes().next().is_some_and(is_blank));
        self.at += usize::from(is_negated);
        let mut commands = vec![self.command()?];
        while !self.rest().starts_with("||") && self.take("|") {
            if self.take("&")
                && let Some(command) = commands.last_mut()
            {
                command.stderr = command.stdout;
            }
            self.skip_lines();
            commands.push(self.command()?);
        }
        Ok(Pipeline { after, is_negated, commands })
    }

    fn command(&mut self) -> Result<SimpleCommand, NotUnderstood> {
        let mut command =
            SimpleCommand { words: Vec::new(), stdout: Sink::Output, stderr: Sink::Error, position: self.at };
        self.skip_blanks();
        while !self.is_at_word_end() {
            if let Some(redirect) = self.redirection() {
                redirect(&mut command);
            } else if command.words.is_empty() {
                command.position = self.at;
                command.words.push(self.command_word()?);
            } else {
                command.words.push(self.word()?);
            }
            self.skip_blanks();
        }
        if command.words.is_empty() { self.fail("a command is missing") } else { Ok(command) }
    }

    fn redirection(&mut self) -> Option<Redirect> {
        let is_here = |written: &str| {
            self.rest().strip_prefix(written).is_some_and(|rest| rest.bytes().next().is_none_or(ends_word))
        };
        let (written, redirect) = REDIRECTIONS.iter().find(|(written, _)| is_here(written))?;
        self.at += written.len();
        Some(*redirect)
    }

    fn command_word(&mut self) -> Result<Word, NotUnderstood> {
        let start = self.at;
        let word = self.word()?;
        let raw = self.text.get(start..self.at).unwrap_or_default();
        let reason = if RESERVED_WORDS.contains(&raw) {
            "a reserved word of the shell"
        } else if is_assignment(raw) {
            "an assignment"
        } else if word.has_pattern() {
            "a command's name that is a pattern"
        } else if word.is_empty() {
            "a command without a name"
        } else {
            return Ok(word);
        };
        Err(not_understood(reason, start))
    }

    fn word(&mut self) -> Result<Word, NotUnderstood> {
        let mut word = Builder::new(self.at);
        while !self.is_at_word_end() {
            match self.peek() {
                Some(b'\'') => {
                    let quoted = self.rest().get(1..).unwrap_or_default();
                    let Some(end) = quoted.find('\'') else { return self.fail("an open quote") };
                    word.text(quoted.get(..end).unwrap_or_default());
                    self.at += end + 2;
                }
                Some(b'"') => self.double_quotes(&mut word)?,
                Some(b'\\') => {
                    let escaped = self.escaped()?;
                    word.text(escaped);
                    self.at += 1 + escaped.len();
                }
                Some(b'$') => self.dollar(&mut word, false)?,
                Some(b'`') => return self.fail("a command substitution"),
                Some(b'<' | b'>') => return self.fail(self.redirection_name()),
                Some(b'(' | b')') => {
                    return self.fail("a parenthesis: a subshell, a function, or a pattern of some shells");
                }
                _ => {
                    let start = self.at;
                    let run = self.take_while(|byte| !ends_word(byte) && !b"'\"\\$`<>()".contains(&byte));
                    word.run(run, start, self.is_at_word_end())?;
                }
            }
        }
        Ok(word.finish())
    }

    fn redirection_name(&self) -> &'static str {
        let rest = self.rest();
        if rest.starts_with("<<<") {
            "a here-string"
        } else if rest.starts_with("<<") {
            "a here-document"
        } else if rest.starts_with("<(") || rest.starts_with(">(") {
            "a process substitution"
        } else {
            "a redirection other than 2>&1, >/dev/null, 1>/dev/null and 2>/dev/null"
        }
    }

    /// The character behind the backslash that stands here.
    fn escaped(&self) -> Result<&'a str, NotUnderstood> {
        let rest = self.rest().get(1..).unwrap_or_default();
        if rest.starts_with('\n') || rest.starts_with("\r\n") {
            return self.fail("a continued line");
        }
        match rest.chars().next() {
            Some(character) => Ok(rest.get(..character.len_utf8()).unwrap_or_default()),
            None => self.fail("a backslash at the end"),
        }
    }

    fn double_quotes(&mut self, word: &mut Builder) -> Result<(), NotUnderstood> {
        let start = self.at;
        self.at += 1;
        loop {
            word.text(self.take_while(|byte| !b"\"\\$`".contains(&byte)));
            match self.peek() {
                Some(b'\\') => {
                    let escaped = self.escaped()?;
                    if !matches!(escaped, "\"" | "\\" | "$" | "`") {
                        word.text("\\");
                    }
                    word.text(escaped);
                    self.at += 1 + escaped.len();
                }
                Some(b'$') => self.dollar(word, true)?,
                Some(b'`') => return self.fail("a command substitution"),
                Some(_) => {
                    self.at += 1;
                    return Ok(());
                }
                None => return Err(not_understood("an open quote", start)),
            }
        }
    }

    /// The `$` that stands here: one of our two variables, or an ordinary character.
    fn dollar(&mut self, word: &mut Builder, is_quoted: bool) -> Result<(), NotUnderstood> {
        let start = self.at;
        let rest = self.rest().get(1..).unwrap_or_default();
        let is_braced = rest.starts_with('{');
        let name = rest.get(usize::from(is_braced)..).unwrap_or_default();
        let length = name.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let (name, behind) = name.split_at_checked(length).unwrap_or_default();
        let variable = match name {
            "HOME" => Some(Variable::Home),
            "PWD" => Some(Variable::Directory),
            _ => None,
        };
        let reason = match (variable, rest.bytes().next()) {
            (Some(variable), _)
                if if is_braced { behind.starts_with('}') } else { !behind.starts_with(['[', ':']) } =>
            {
                self.at += 1 + length + 2 * usize::from(is_braced);
                word.variable(variable, is_quoted, start);
                return Ok(());
            }
            // zsh reads these as a part of a value.
            (Some(_), _) if !is_braced => "a variable with [ or : behind it",
            (_, next)
                if next.is_none_or(|next| {
                    PLAIN_BEHIND_DOLLAR.contains(&next) || (is_quoted && PLAIN_BEHIND_QUOTED_DOLLAR.contains(&next))
                }) =>
            {
                self.at += 1;
                word.text("$");
                return Ok(());
            }
            (_, Some(b'(')) if !rest.starts_with("((") => "a command substitution",
            (_, Some(b'(' | b'[')) => "arithmetic",
            (_, Some(b'\'' | b'"')) => "a quote with $ before it",
            _ => "an expansion other than $HOME and $PWD",
        };
        Err(not_understood(reason, start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    /// Every command's argument vector, in order; or the reason and its place.
    fn expanded(text: &str, around: &mut Surroundings) -> Result<Vec<Vec<String>>, NotUnderstood> {
        parse(text)?.steps.iter().flat_map(|step| &step.commands).map(|command| command.expand(around)).collect()
    }

    fn around() -> Surroundings<'static> {
        Surroundings::new("/home/u", Path::new("/no/such/directory"))
    }

    /// The commands of an understood text; words of one are divided by `¦`.
    fn commands(text: &str) -> Vec<String> {
        let found = expanded(text, &mut around());
        found.unwrap_or_else(|why| panic!("{text:?}: {why:?}")).iter().map(|argv| argv.join("¦")).collect()
    }

    fn refusal(text: &str) -> NotUnderstood {
        match expanded(text, &mut around()) {
            Err(why) => why,
            Ok(argv) => panic!("{text:?} was understood as {argv:?}"),
        }
    }

    /// A directory of the test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn with(name: &str, files: &[&str]) -> Self {
            let path = std::env::temp_dir().join(format!("oc-shell-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            for file in files {
                let file = path.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            Self(path)
        }

        fn found(&self, text: &str) -> Result<String, NotUnderstood> {
            // A busy machine is not what these tests are about.
            let mut around = Surroundings { time: Duration::from_secs(60), ..Surroundings::new("/home/u", &self.0) };
            let found = expanded(text, &mut around)?;
            Ok(found.iter().map(|argv| argv.join("¦")).collect::<Vec<_>>().join("⏎"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn words_quotes_and_escapes() {
        for (text, expected) in [
            ("ls -la", "ls¦-la"),
            ("  ls \t -la  ", "ls¦-la"),
            ("'ls' \"-l\"a''", "ls¦-la"),
            ("ls '' \"\" x", "ls¦¦¦x"),
            (r"\ls a\;b \'\ \\ it\'s", r"ls¦a;b¦' \¦it's"),
            (r#"ls "a'b" 'a"b' "a\"b\\\$\`\n""#, r#"ls¦a'b¦a"b¦a"b\$`\n"#),
            ("ls '$(id) `id` $USER \\' \"&& rm; |\"", "ls¦$(id) `id` $USER \\¦&& rm; |"),
            ("ls 'a\nb' \"\nrm x\" \\é", "ls¦a\nb¦\nrm x¦é"),
            ("ls # comment 'open $(", "ls"),
            ("ls x#y '#' \\#", "ls¦x#y¦#¦#"),
            ("ls $ a$ $/ $. \"$\" \"a$|b$)'\" '$' x$%", "ls¦$¦a$¦$/¦$.¦$¦a$|b$)'¦$¦x$%"),
            ("[ a = b ]", "[¦a¦=¦b¦]"),
            (
                "echo ! !! !x a!b 1 {} { } {a} {a.b} a,b ^ % @ + if then A=1 ]",
                "echo¦!¦!!¦!x¦a!b¦1¦{}¦{¦}¦{a}¦{a.b}¦a,b¦^¦%¦@¦+¦if¦then¦A=1¦]",
            ),
            ("'if' x", "if¦x"),
            ("'A=1' x", "A=1¦x"),
            ("1=2 x", "1=2¦x"),
            ("ls '=x' '~' \\~ a~b x\"~\" ''~", "ls¦=x¦~¦~¦a~b¦x~¦~"),
            (
                "ls '*' \\* \"?\" '[a]' \\[a] [ a[ [] a[] ] '{a,b}' {a\\,b} {'a,b'}",
                "ls¦*¦*¦?¦[a]¦[a]¦[¦a[¦[]¦a[]¦]¦{a,b}¦{a,b}¦{a,b}",
            ),
        ] {
            assert_eq!(commands(text), [expected], "{text:?}");
        }
    }

    #[test]
    fn home_and_directory() {
        for (text, expected) in [
            ("~/bin/x ~ ~/ ~//a", "/home/u/bin/x¦/home/u¦/home/u/¦/home/u//a"),
            ("ls $HOME ${HOME} \"$HOME/a b\" \"${PWD}x\"", "ls¦/home/u¦/home/u¦/home/u/a b¦/no/such/directoryx"),
            ("$HOME/bin/x a$PWD/b --x=$HOME", "/home/u/bin/x¦a/no/such/directory/b¦--x=/home/u"),
        ] {
            assert_eq!(commands(text), [expected], "{text:?}");
        }
        let odd = Path::new("/a b/*");
        for text in ["ls $PWD", "ls x${PWD}"] {
            let why = expanded(text, &mut Surroundings::new("/h", odd)).unwrap_err();
            assert_eq!(why.reason, "a variable that must stand in double quotes here", "{text}");
        }
        let quoted = expanded("ls \"$PWD\"/x", &mut Surroundings::new("/h", odd)).unwrap();
        assert_eq!(quoted, [["ls", "/a b/*/x"]]);
        for text in ["ls ~", "ls \"$HOME\"", "ls $HOME"] {
            assert!(expanded(text, &mut Surroundings::new("", odd)).is_err(), "{text}");
        }
    }

    #[test]
    fn operators() {
        use After::{Always, Failure, Success};
        let shape = |text: &str| -> Vec<(After, bool, usize)> {
            let script = parse(text).unwrap_or_else(|why| panic!("{text:?}: {why:?}"));
            script.steps.iter().map(|step| (step.after, step.is_negated, step.commands.len())).collect()
        };
        for (text, expected) in [
            ("a", vec![(Always, false, 1)]),
            ("a;", vec![(Always, false, 1)]),
            ("\n\n a \n # x\n", vec![(Always, false, 1)]),
            ("a&&b||c;d", vec![(Always, false, 1), (Success, false, 1), (Failure, false, 1), (Always, false, 1)]),
            ("a | b|c", vec![(Always, false, 3)]),
            ("a |& b", vec![(Always, false, 2)]),
            ("! a | b && ! c", vec![(Always, true, 2), (Success, true, 1)]),
            ("a ;; b", vec![(Always, false, 1), (Always, false, 1)]),
            ("a;\n\nb\nc", vec![(Always, false, 1); 3]),
            ("a && # x\n\n b |\n c ||\n d", vec![(Always, false, 1), (Success, false, 2), (Failure, false, 1)]),
            ("a\r\nb\r\n", vec![(Always, false, 1); 2]),
        ] {
            assert_eq!(shape(text), expected, "{text:?}");
        }
        assert_eq!(commands("a\rb\x0Bc\x0Cd"), ["a¦b¦c¦d"]);
        assert_eq!(parse("a b;  c").unwrap().steps[1].commands[0].position, 6);
    }

    #[test]
    fn redirections_take_effect_in_their_order() {
        use Sink::{Error, Null, Output};
        for (text, stdout, stderr) in [
            ("a", Output, Error),
            ("a 2>&1", Output, Output),
            ("a >/dev/null", Null, Error),
            ("1>/dev/null a", Null, Error),
            ("a 2>/dev/null b", Output, Null),
            ("a >/dev/null 2>&1", Null, Null),
            ("a 2>&1 >/dev/null", Null, Output),
            ("a |& b", Output, Output),
            ("a >/dev/null|& b", Null, Null),
            ("a 2>&1&&b", Output, Output),
            ("a '2>&1' \\>/dev/null", Output, Error),
        ] {
            let command = parse(text).unwrap_or_else(|why| panic!("{text:?}: {why:?}")).steps[0].commands[0].clone();
            assert_eq!((command.stdout, command.stderr), (stdout, stderr), "{text:?}");
        }
    }

    /// A81, A82, A95 and h.2 items 3, 4, 6, 10: none of what a shell would do behind our back.
    #[test]
    fn sec_a81_a82_whatever_is_not_known_is_not_understood() {
        for (text, position, reason) in [
            ("", 0, "a command is missing"),
            (" \t# only a comment", 18, "a command is missing"),
            ("''", 0, "a command without a name"),
            ("ls &&", 5, "a command is missing"),
            ("| ls", 0, "a command is missing"),
            ("ls |", 4, "a command is missing"),
            ("ls && && cat", 6, "a command is missing"),
            ("ls\n;rm", 3, "a command is missing"),
            ("ls ;;", 5, "a command is missing"),
            ("ls |&& cat", 5, "a command is missing"),
            (";ls", 0, "a command is missing"),
            (">/dev/null", 10, "a command is missing"),
            ("! ! ls", 2, "a reserved word"),
            ("!\nls", 0, "a reserved word"),
            ("ls | ! cat", 5, "a reserved word"),
            ("ls &", 3, "a command in the background"),
            ("ls & cat", 3, "a command in the background"),
            ("ls &> x", 3, "a redirection"),
            ("echo \"$(touch x)\"", 6, "a command substitution"),
            ("echo `id`", 5, "a command substitution"),
            ("echo \"`id`\"", 6, "a command substitution"),
            ("echo \"${x:-$(id)}\"", 6, "an expansion"),
            ("echo $((1))", 5, "arithmetic"),
            ("echo $[1+1]", 5, "arithmetic"),
            ("echo \"$[1]\"", 6, "arithmetic"),
            ("echo $'\\x24(id)'", 5, "a quote with $"),
            ("echo $\"hi\"", 5, "a quote with $"),
            ("echo $USER", 5, "an expansion"),
            ("echo $HOMEX", 5, "an expansion"),
            ("echo ${HOME:-x}", 5, "an expansion"),
            ("echo ${HOME", 5, "an expansion"),
            ("echo ${!x}", 5, "an expansion"),
            ("echo $$", 5, "an expansion"),
            ("echo $1", 5, "an expansion"),
            ("echo $;", 5, "an expansion"),
            ("echo $é", 5, "an expansion"),
            ("echo \"$@\"", 6, "an expansion"),
            ("echo $HOME[1]", 5, "a variable with"),
            ("echo \"$HOME:h\"", 6, "a variable with"),
            ("echo {a,b}", 9, "a brace expansion"),
            ("echo {1..3}", 10, "a brace expansion"),
            ("echo {\"a\",$HOME}", 15, "a brace expansion"),
            ("echo [{a,b}]", 10, "a brace expansion"),
            ("ls ~root", 3, "a home directory"),
            ("ls ~+", 3, "a home directory"),
            ("ls ~'x'", 3, "a home directory"),
            ("ls ~$HOME", 3, "a home directory"),
            ("ls a=~/x", 5, "~ behind"),
            ("ls a:~", 5, "~ behind"),
            ("ls =rm", 3, "a word that begins with ="),
            ("ls ='x'", 3, "a word that begins with ="),
            ("cat < x", 4, "a redirection"),
            ("cat <<EOF\n$(id)\nEOF", 4, "a here-document"),
            ("cat <<'EOF'\nx\nEOF", 4, "a here-document"),
            ("cat <<< hi", 4, "a here-string"),
            ("cat <(id)", 4, "a process substitution"),
            ("cat >(id)", 4, "a process substitution"),
            ("ls > /dev/null", 3, "a redirection"),
            ("ls >/dev/nullx", 3, "a redirection"),
            ("ls >/dev/null#x", 3, "a redirection"),
            ("ls >>/dev/null", 3, "a redirection"),
            ("ls a>/dev/null", 4, "a redirection"),
            ("ls 3>/dev/null", 4, "a redirection"),
            ("ls {x}>/dev/null", 6, "a redirection"),
            ("ls \"2\">&1", 6, "a redirection"),
            ("ls 2>&12", 4, "a redirection"),
            ("ls >&2", 3, "a redirection"),
            ("A=1 ls", 0, "an assignment"),
            ("A=1", 0, "an assignment"),
            ("LD_PRELOAD+=./x.so ls", 0, "an assignment"),
            ("a[1]=2 ls", 0, "an assignment"),
            ("a[1 + 2]=3 ls", 0, "an assignment"),
            ("! A=1 ls", 2, "an assignment"),
            (">/dev/null A=1 ls", 11, "an assignment"),
            ("(ls)", 0, "a parenthesis"),
            ("ls && (cat x)", 6, "a parenthesis"),
            ("f() { ls; }", 1, "a parenthesis"),
            ("ls !(x)", 4, "a parenthesis"),
            ("ls *(e:'rm x':)", 4, "a parenthesis"),
            ("{ ls; }", 0, "a reserved word"),
            ("if true; then ls; fi", 0, "a reserved word"),
            ("true; [[ -f x ]]", 6, "a reserved word"),
            ("coproc ls", 0, "a reserved word"),
            ("ls \\\n-la", 3, "a continued line"),
            ("ls \\\r\n-la", 3, "a continued line"),
            ("ls \"a\\\nb\"", 5, "a continued line"),
            ("ls 'x", 3, "an open quote"),
            ("ls \"x", 3, "an open quote"),
            ("ls \"x\\", 5, "a backslash at the end"),
            ("ls x\\", 4, "a backslash at the end"),
            ("l* -la", 0, "a command's name that is a pattern"),
            ("/usr/b?n/ls", 0, "a command's name that is a pattern"),
            ("[ab] x", 0, "a command's name that is a pattern"),
            ("ls **/x", 4, "**"),
            ("ls [[:alpha:]]", 3, "a bracket pattern"),
            ("ls [^a]", 3, "[^"),
            ("ls [a/b]", 3, "a bracket pattern"),
            ("ls [\"a\"]", 7, "a bracket pattern"),
            ("ls [a\\]b]", 7, "a bracket pattern"),
            ("ls \0rm", 3, "a NUL"),
            ("# \0", 2, "a NUL"),
        ] {
            let why = refusal(text);
            assert!(why.reason.starts_with(reason), "{text:?}: {why:?}");
            assert_eq!(why.position, position, "{text:?}: {}", why.reason);
        }
    }

    /// A67, A94: exact characters, and nothing that hides a command.
    #[test]
    fn sec_a67_a94_characters_are_what_they_are() {
        for (text, expected) in [
            ("ls\u{A0}-la", "ls\u{A0}-la"),
            ("ls\u{200B} -la", "ls\u{200B}¦-la"),
            ("ls\u{7}", "ls\u{7}"),
            ("\u{FF4C}\u{FF53} x", "\u{FF4C}\u{FF53}¦x"),
            ("ls\u{FF1B}rm x", "ls\u{FF1B}rm¦x"),
            ("ls \u{2028}rm\u{85}x", "ls¦\u{2028}rm\u{85}x"),
        ] {
            assert_eq!(commands(text), [expected], "{text:?}");
        }
    }

    #[test]
    fn globs() {
        let files = ["a.rs", "b.rs", "c.txt", ".hidden", "sub/x.rs", "sub/y", "sub-2/x.rs", "[odd]", "a b", "é1"];
        let scratch = Scratch::with("globs", &files);
        std::os::unix::fs::symlink("sub", scratch.0.join("link")).unwrap();
        for (pattern, expected) in [
            ("*.rs", "a.rs¦b.rs"),
            ("[ab].rs", "a.rs¦b.rs"),
            ("[!a].rs [!b-z].rs [a^].rs", "b.rs¦a.rs¦a.rs"),
            ("?.*", "a.rs¦b.rs¦c.txt"),
            ("*", "[odd]¦a b¦a.rs¦b.rs¦c.txt¦link¦sub¦sub-2¦é1"),
            (".h*", ".hidden"),
            ("[.]h*", "[.]h*"),
            ("*/x.rs", "link/x.rs¦sub-2/x.rs¦sub/x.rs"),
            ("s*/", "sub-2/¦sub/"),
            ("./s*/../a.*", "./sub-2/../a.rs¦./sub/../a.rs"),
            ("link//[x]*", "link//x.rs"),
            ("c.txt/* nosuch/*", "c.txt/*¦nosuch/*"),
            ("a.rs/../*.rs */nosuch", "a.rs/../*.rs¦*/nosuch"),
            ("'['* [o* [p*", "[odd]¦[odd]¦[p*"),
            ("a' '? a\\ * '*'*", "a b¦a b¦**"),
            ("?1", "é1"),
            ("*.r[r-t] *.r[]s] *.r[-s] [c-a]*", "a.rs¦b.rs¦a.rs¦b.rs¦a.rs¦b.rs¦[c-a]*"),
            ("\"$PWD\"/su?", &format!("{}/sub", scratch.0.display())),
        ] {
            assert_eq!(scratch.found(&format!("ls {pattern}")).unwrap(), format!("ls¦{expected}"), "{pattern}");
        }
    }

    #[test]
    fn globs_find_nothing_that_reads_as_an_option_or_is_no_text() {
        let scratch = Scratch::with("dash", &["-rf", "x"]);
        assert!(scratch.found("rm *").unwrap_err().reason.contains("with - at its beginning"));
        assert_eq!(scratch.found("rm ./* x*").unwrap(), "rm¦./-rf¦./x¦x");
        for pattern in [".*", "./.?", ".?*", ".[!x]"] {
            assert!(scratch.found(&format!("rm {pattern}")).unwrap_err().reason.contains("finds . or .."), "{pattern}");
        }
        assert!(scratch.found("rm *//").unwrap_err().reason.contains("// behind it"));
        let odd = std::ffi::OsString::from_vec(b"\xFF".to_vec());
        // Some file systems refuse such a name themselves.
        if fs::write(scratch.0.join(odd), "").is_ok() {
            assert!(scratch.found("rm x*").unwrap_err().reason.contains("not Unicode"));
        }
    }

    #[test]
    fn globs_share_one_budget() {
        let names: Vec<String> = (0..100).map(|number| format!("file-{number}")).collect();
        let scratch = Scratch::with("budget", &names.iter().map(String::as_str).collect::<Vec<_>>());
        let enough = "* ".repeat(limits::GLOB_NAMES / 100);
        let mut around = Surroundings { time: Duration::from_secs(60), ..Surroundings::new("/h", &scratch.0) };
        let argv = expanded(&format!("ls {enough}"), &mut around).unwrap();
        assert_eq!(argv[0].len(), 1 + limits::GLOB_NAMES);
        assert!(expanded("ls file-1*", &mut around).unwrap_err().reason.contains("too many names"));
        let mut late = Surroundings { time: Duration::ZERO, ..Surroundings::new("/h", &scratch.0) };
        assert!(expanded("ls *", &mut late).unwrap_err().reason.contains("too long"));
    }

    /// Twice the text takes about twice the time, whatever it consists of.
    #[test]
    fn time_is_linear() {
        let limit = limits::SHELL_TEXT_BYTES;
        let started = Instant::now();
        for unit in
            ["[", "[]", "[!", "{", "{a,", "*a", "'' ", "\"$HOME\"", "$HOME", "a;", "a|", "! ", "\\a", "~", "#\n"]
                .iter()
                .chain(&["[a", "[a\"\"", "a[b]", "./", "?*", "a=", "2>&1 ", "$"])
        {
            let text = format!("ls {}", unit.repeat((limit - 3) / unit.len()));
            let _ = expanded(&text, &mut around());
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert!(parse(&format!("ls {}", "a".repeat(limit - 3))).is_ok());
        let why = parse(&format!("ls {}", "a".repeat(limit - 2))).unwrap_err();
        assert_eq!((why.reason.as_str(), why.position), ("more text than is analysed", limit));
    }
}
