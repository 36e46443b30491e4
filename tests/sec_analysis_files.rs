//! Which files a command is and touches: safe bins, patterns, names and links; driven through the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_analysis;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};
use support_analysis::*;
use support_exec::*;

const SECRET: &str = "the-content-of-a-secret-file";

#[test]
fn sec_a77_safe_bins_get_their_words_as_they_are_and_read_no_file() {
    let bench = Bench::new();
    bench.programs(&["echo"]);
    fs::write(bench.work().join("f"), format!("{SECRET}\n")).unwrap();
    fs::create_dir(bench.work().join("dashed")).unwrap();
    fs::write(bench.work().join("dashed/-nf"), SECRET).unwrap();
    let (home_file, own) = ("~/x", bench.path("f"));
    for text in [
        "head *",
        "head f*",
        "head ?",
        "head [f]",
        "head $HOME/.ssh/id",
        "head \"$HOME/.ssh/id\"",
        "head ${HOME}/.ssh/id",
        "head $PWD/f",
        &format!("wc {home_file}"),
        "wc ~",
        "cut -c1- {a,b}",
        "cut -c1- f",
        "head \"$(cat f)\"",
        "head `echo f`",
        "head $X",
        "head -n1 f",
        "head -- f",
        "head -n1 - f",
        "head -n 1 <f",
        "cat f | head",
        "tail -n1 ./f",
        "uniq f",
        "tr a b f",
        "tr '*' x",
        "wc -l f g",
        "echo f | xargs head",
        &format!("head {own}"),
    ] {
        let reply = bench.send(&sh(text));
        assert!(!reply.value().to_string().contains(SECRET), "{text}");
        assert!(reply.is_refusal(), "{text}: {}", reply.value());
        bench.asks(&sh(text));
    }
    for command in [
        &["head", "*"][..],
        &["head", "$HOME/.ssh/id"],
        &["head", "$X"],
        &["wc", "~/x"],
        &["wc", "~"],
        &["cut", "-c1-", "{a,b}"],
        &["head", "$(cat f)"],
        &["head", "f"],
        &["head", &own],
        &["tail", "-n", "1", "../w/f"],
    ] {
        bench.asks(&argv(command));
    }
    // A name that an expansion would turn into an option.
    let why = bench.asks(&with(&sh("tail *"), &json!({"cwd": bench.work().join("dashed")})));
    assert!(why.contains("not understood"), "{why}");
    // The twins: filters that filter, and expanded words that are judged and run as they are.
    assert_eq!(bench.runs(&sh("echo 'a b' | cut -d ' ' -f2")), "b\n");
    assert_eq!(bench.runs(&sh("echo \"a b\" | wc -w")).trim(), "2");
    assert_eq!(bench.runs(&sh("echo fff | tr ? b")), "bbb\n", "`?` is the file `f`, and so the letter");
    assert_eq!(bench.runs(&sh("echo '$HOME *' | head -n1")), "$HOME *\n");
    assert_eq!(bench.runs(&argv(&["head", "-n", "1"])), "");
    bench.finish();
}

#[test]
fn sec_a79_options_that_are_not_known_are_not_safe() {
    let bench = Bench::with(&json!({"safeBins": ["cut", "uniq", "head", "tail", "tr", "wc", "sort"]}));
    bench.programs(&["echo"]);
    fs::write(bench.work().join("f"), SECRET).unwrap();
    let canary = bench.canary();
    for command in [
        "wc -lX".to_owned(),
        "wc -Xl".into(),
        "head -n5 -Z".into(),
        "head -qZ".into(),
        "tr -dQ a".into(),
        "tr -Qd a".into(),
        format!("uniq -cO{canary}"),
        format!("uniq -c {canary}"),
        format!("uniq - {canary}"),
        "wc -- f".into(),
        "wc - f".into(),
        "head -- - f".into(),
        "wc --unknown".into(),
        "head --unknown=1".into(),
        "tr --unknown a".into(),
        "head --quiet=x".into(),
        "head -5".into(),
        "head +5".into(),
        "sort --compress-prog=sh".into(),
        "sort --compress-program=sh".into(),
        "sort --compress-program sh".into(),
        "sort --comp=sh".into(),
        "sort --c=sh".into(),
        format!("sort --out={canary}"),
        format!("sort -ro{canary}"),
        format!("sort -k1 -o {canary}"),
        "wc --files0=x".into(),
        "wc --files0-from=x".into(),
        "wc --f=x".into(),
        "tail --f".into(),
        "tail --ret".into(),
        "tail -qf".into(),
        "tail -n1 -F f".into(),
        "cut -d".into(),
        "cut --output-d".into(),
        "head -n".into(),
        "head --l".into(),
    ] {
        bench.asks(&words(&command));
        bench.asks(&sh(&format!("echo x | {command}")));
    }
    // The twins. A single dash is the input, two end the options; neither is a file.
    for (command, expected) in [
        ("wc -l", "1"),
        ("wc --lin", "1"),
        ("wc -lw", "1 2"),
        ("head -n5", "b a"),
        ("head -qn5", "b a"),
        ("head --", "b a"),
        ("head -", "b a"),
        ("tr -d a", "b"),
        ("uniq -c", "1 b a"),
        ("sort -k1", "b a"),
    ] {
        let printed = bench.runs(&sh(&format!("echo 'b a' | {command}")));
        assert_eq!(
            printed.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>(),
            "{command}"
        );
    }
    bench.finish();
}

#[test]
fn sec_a90_filters_that_could_touch_files_or_start_programs_are_not_safe() {
    let names = ["cut", "uniq", "head", "tail", "tr", "wc", "sort", "grep", "jq", "awk", "mawk", "gawk", "sed"];
    let bench = Bench::with(&json!({"safeBins": names}));
    bench.programs(&["echo"]);
    for name in ["x", "file", ".env"] {
        fs::write(bench.work().join(name), format!("{SECRET}\n")).unwrap();
    }
    let (canary, touch) = (bench.canary(), bench.touch());
    let canary_of = |option: &str| format!("{option}{canary}");
    let awk = format!("BEGIN{{system(\"{touch}\")}}");
    for command in [
        &["grep", "-f", "x"][..],
        &["grep", "-fx"],
        &["grep", "--file=x"],
        &["grep", "--fil=x"],
        &["grep", "-e", "a", ".env"],
        &["grep", "a", ".env"],
        &["grep", "-r", "-e", "a"],
        &["grep", "-R", "-e", "a"],
        &["grep", "-re", "a"],
        &["grep", "--recursive", "-e", "a"],
        &["grep", "-d", "recurse", "-e", "a"],
        &["sort", "-o", &canary],
        &["sort", &canary_of("-o")],
        &["sort", &canary_of("--output=")],
        &["sort", "--compress-program=sh"],
        &["sort", "--files0-from=x"],
        &["sort", "-T", "."],
        &["sort", "x"],
        &["wc", "--files0-from", "x"],
        &["wc", "--files0-from=x"],
        &["jq", "-f", "x"],
        &["jq", "-n", "env"],
        &["jq", "."],
        &["jq", "--rawfile", "a", "x", "."],
        &["tail", "-f"],
        &["tail", "-f", "x"],
        &["tail", "--follow"],
        &["tail", "--retry"],
        &["tr", "a", "b", "file"],
        &["uniq", "x", &canary],
        &["awk", &awk],
        &["mawk", &awk],
        &["awk", "{print}", "x"],
        &["sed", &canary_of("w")],
        &["sed", "-n", "p", "x"],
        &["sed", "-i", "s/a/b/", "x"],
        &["sed", &format!("1e {touch}")],
    ] {
        if !have(command[0], "sec_a90") {
            continue;
        }
        let reply = bench.send(&argv(command));
        assert!(!reply.value().to_string().contains(SECRET), "{command:?}");
        bench.asks(&argv(command));
    }
    // The twins, in a pipeline.
    assert_eq!(bench.runs(&sh("echo apple | grep -e app")), "apple\n");
    assert_eq!(bench.runs(&sh("echo b,a | sort -t , -k 2")), "b,a\n");
    assert_eq!(bench.runs(&sh("echo apple | tail -n 1 | tr a b")), "bpple\n");
    bench.finish();
}

#[test]
fn sec_a86_patterns_keep_case_and_directories() {
    let bench = Bench::new();
    let touch = bench.touch();
    let root = bench.work();
    let path = |name: &str| text_of(&root.join(name));
    for name in ["a/b/tool", "a//b/tool2", "bin/rg", "BIN/rg", "bin/deep/er/rg", "bin/rg2", "aXb/toolx"] {
        tool(&root.join(name), &touch);
    }
    let good = |name: &str| tool(&root.join(name), "echo good");
    for (pattern, misses, hits) in [
        ("a?b/tool", &["a/b/tool", "aXb/toolx"][..], &["a-b/tool", "aéb/tool"][..]),
        ("bin/Rg", &["bin/rg"], &["bin/Rg"]),
        ("bin/RG", &["bin/rg", "BIN/rg"], &["bin/RG"]),
        ("Bin/rg", &["bin/rg", "BIN/rg"], &["Bin/rg"]),
        ("bin/*", &["bin/deep/er/rg", "a/b/tool"], &["bin/star"]),
        ("*/rg", &["bin/deep/er/rg", "bin/rg2"], &["one/rg"]),
        ("bin/**", &["a/b/tool", "aXb/toolx"], &["bin/x/y/z"]),
        ("bin/r?", &["bin/rg2", "bin/deep/er/rg"], &["bin/rz"]),
        ("bin/rg?", &["bin/rg"], &["bin/rg_"]),
    ] {
        bench.list(&[json!(path(pattern))]);
        for miss in misses {
            if pattern == "bin/*" || !miss.starts_with("bin/rg") || !pattern.starts_with("bin/r?") {
                bench.asks(&argv(&[path(miss)]));
                bench.asks(&sh(&path(miss)));
            }
        }
        for hit in hits {
            good(hit);
            assert_eq!(bench.runs(&argv(&[path(hit)])), "good\n", "{pattern} {hit}");
            assert_eq!(bench.runs(&sh(&path(hit))), "good\n", "{pattern} {hit}");
        }
    }
    let uname = program("uname");
    for pattern in [
        "/usr/bin/Uname",
        "/USR/BIN/uname",
        "/usr/bin/unam",
        "usr/bin/uname",
        "/usr/bin/uname/",
        "/usr/?in?uname",
        "Uname",
        "UNAME",
    ] {
        bench.list(&[json!(pattern)]);
        bench.asks(&argv(&[&uname]));
        bench.asks(&words("uname"));
    }
    for pattern in [&uname, "/usr/bin/*", "/usr/**", "/usr/bin/unam?", "/**", "*"] {
        bench.list(&[json!(pattern)]);
        assert!(!bench.runs(&words("uname")).is_empty(), "{pattern}");
    }
    for name in ["/USR/BIN/uname", "/usr/bin/UNAME", "UNAME"] {
        bench.list(&[json!("/usr/bin/*"), json!("*")]);
        if !Path::new(name).exists() {
            bench.finds_nothing(&argv(&[name]));
        }
    }
    bench.finish();
}

#[test]
fn sec_a87_dots_are_resolved_before_they_are_matched() {
    let bench = Bench::new();
    let evil = tool(&bench.work().join("evil"), &bench.touch());
    bench.list(&[json!("/usr/bin/**"), json!("/bin/**")]);
    for argv0 in [
        format!("/usr/bin/../..{evil}"),
        format!("/usr/bin/./../..{evil}"),
        format!("//usr//bin//..//..{evil}"),
        format!("/usr/bin/../bin/../..{evil}"),
        format!("/usr/bin/../../{evil}"),
    ] {
        bench.asks(&argv(&[&argv0]));
        bench.asks(&sh(&argv0));
        bench.asks(&sh(&format!("true && '{argv0}'")));
        bench.asks(&argv(&["env", &argv0]));
    }
    for nothing in
        ["/usr/bin/./../x", "//usr//bin/../..", "/usr/bin/..", "/usr/bin/", "/usr/bin/./", "/usr/bin/uname/.."]
    {
        bench.finds_nothing(&argv(&[nothing]));
        assert!(bench.send(&sh(nothing)).is_refusal(), "{nothing}");
    }
    // Where `/bin` is a link, the kernel goes back from where it leads.
    assert!(bench.send(&argv(&[format!("/bin/..{evil}")])).is_refusal());
    // A pattern with dots means no other directory either.
    for pattern in ["/usr/bin/../../**", "/usr/bin/../..*", &format!("/usr/bin/../..{evil}")] {
        bench.list(&[json!(pattern)]);
        bench.asks(&argv(&[&evil]));
        bench.asks(&argv(&[&format!("/usr/bin/../..{evil}")]));
    }
    bench.list(&[json!("/usr/bin/**")]);
    let name = bench.runs(&words("uname"));
    for twin in ["/usr/bin/./uname", "//usr//bin//uname", "/usr/bin/../bin/uname", "/usr/lib/../bin/uname"] {
        assert_eq!(bench.runs(&argv(&[twin])), name, "{twin}");
    }
    bench.finish();
}

#[test]
fn sec_a88_a_bare_name_is_a_look_up_and_nothing_else() {
    let bench = Bench::new();
    let touch = bench.touch();
    for place in ["uname", "sub/uname"] {
        tool(&bench.work().join(place), &touch);
    }
    tool(&bench.scratch.join("uname"), &touch);
    symlink(program("uname"), bench.work().join("linked")).unwrap();
    bench.list(&[json!("uname"), json!("linked"), json!("un*"), json!("*name")]);
    let outside = text_of(&bench.scratch.join("uname"));
    for argv0 in ["./uname", "sub/uname", "./sub/uname", "../uname", &outside, &bench.path("uname"), "./linked"] {
        bench.asks(&argv(&[argv0]));
        bench.asks(&argv(&["env", argv0]));
        bench.asks(&sh(argv0));
        bench.asks(&sh(&format!("true && {argv0}")));
    }
    // A real path is no bare name either, although it is the same file.
    bench.asks(&argv(&[program("uname")]));
    bench.finds_nothing(&words("linked"));
    // Nothing of the caller moves the look-up.
    for path in
        [".".to_owned(), text_of(&bench.work()), format!("{}:/usr/bin:/bin", text_of(&bench.work())), String::new()]
    {
        let reply = bench.send(&with(&words("uname"), &json!({"env": {"PATH": path}})));
        assert!(reply.is_refusal() || reply.ran()["exitCode"] == 0, "{path}: {}", reply.value());
    }
    let name = bench.runs(&words("uname"));
    assert!(!name.is_empty(), "from a directory that holds a `uname`");
    assert_eq!(bench.runs(&sh("uname")), name);
    assert_eq!(bench.runs(&sh("cd sub && uname")), name);
    assert_eq!(bench.runs(&words("env uname")), name);
    bench.finish();
}

#[test]
fn sec_a89_trust_is_in_the_real_path() {
    let mut attended = Attended::new();
    let work = attended.scratch.join("w");
    let evil = tool(&work.join("evil"), &attended.touch());
    let link = work.join("link");
    symlink(program("uname"), &link).unwrap();
    let by_link = argv(&[text_of(&link)]);
    let (prompt, reply) = attended.ask(&by_link, "always");
    assert!(prompt.unwrap().contains(&program("uname")), "the prompt shows the real path");
    reply.ran();
    let stored = attended.stored().to_string();
    assert!(stored.contains(&program("uname")) && !stored.contains("/link"), "{stored}");
    let (prompt, _) = attended.ask(&by_link, "deny");
    assert!(prompt.is_none(), "the twin: the same link to the same file");
    fs::remove_file(&link).unwrap();
    symlink(&evil, &link).unwrap();
    let shown = attended.denies(&by_link);
    assert!(shown.contains(&evil), "{shown}");
    // A path on the list is a real path: an entry for the link allows nothing, whatever it leads to.
    write_list(&attended.scratch, &[json!(link)]);
    attended.denies(&by_link);
    // A directory on the way is retargeted.
    fs::create_dir(work.join("good")).unwrap();
    fs::create_dir(work.join("bad")).unwrap();
    tool(&work.join("good/t"), "echo good");
    tool(&work.join("bad/t"), &attended.touch());
    symlink("good", work.join("d")).unwrap();
    write_list(&attended.scratch, &[json!(work.join("good/t")), json!(work.join("d/t"))]);
    let through = argv(&[text_of(&work.join("d/t"))]);
    let (prompt, reply) = attended.ask(&through, "deny");
    assert!(prompt.is_none() && reply.ran()["stdout"] == "good\n");
    fs::remove_file(work.join("d")).unwrap();
    symlink("bad", work.join("d")).unwrap();
    attended.denies(&through);
    attended.denies(&sh("d/t"));
    // A replaced file is another content, and an answer for the old one is none for it.
    let own = tool(&work.join("own"), "echo own");
    let (prompt, reply) = attended.ask(&argv(&[&own]), "once");
    assert!(prompt.is_some() && reply.ran()["stdout"] == "own\n");
    attended.finish();
}

#[test]
fn sec_a96_patterns_are_no_regular_expressions() {
    let bench = Bench::new();
    let touch = bench.touch();
    let root = bench.work();
    let path = |name: &str| text_of(&root.join(name));
    for (pattern, hit, misses) in [
        ("g++", "g++", &["g", "gg", "ggg", "g+"][..]),
        ("a(b", "a(b", &["ab", "a"]),
        ("a)b", "a)b", &["ab"]),
        ("[", "[", &["x", "b"]),
        ("[ab]", "[ab]", &["a", "b"]),
        ("{a,b}", "{a,b}", &["a", "b"]),
        ("a|x", "a|x", &["a", "x"]),
        ("a.c", "a.c", &["abc"]),
        ("^a$", "^a$", &["a"]),
        ("x+", "x+", &["xx", "x"]),
        ("!a", "!a", &["b"]),
        ("(?i)a", "(?i)a", &["a", "A"]),
    ] {
        bench.list(&[json!(path(pattern))]);
        for miss in misses {
            tool(&root.join(miss), &touch);
            bench.asks(&argv(&[path(miss)]));
        }
        fs::remove_dir_all(&root).unwrap();
        make_dir(&root);
        tool(&root.join(hit), "echo good");
        assert_eq!(bench.runs(&argv(&[path(hit)])), "good\n", "{pattern}");
    }
    // Broken ones match nothing, stop nothing, and spoil no other entry.
    let uname = program("uname");
    for pattern in [
        "[",
        "\\",
        "\\\\",
        "(",
        ")",
        "+",
        "?",
        "{",
        "/",
        "~",
        "~x",
        "//",
        "/a(b",
        "/usr/bin/[",
        "/usr/bin/uname\\",
        "\u{0}",
    ] {
        bench.list(&[json!(pattern)]);
        assert!(bench.send(&argv(&[&uname])).is_refusal(), "{pattern:?}");
        bench.list(&[json!(pattern), json!(uname)]);
        let reply = bench.send(&argv(&[&uname]));
        assert!(!reply.is_refusal(), "{pattern:?} beside a good one: {}", reply.value());
    }
    // Blank ones are no patterns at all: the document is broken, and nothing runs.
    for blank in ["", " ", "\t\n"] {
        bench.list(&[json!(blank), json!(uname)]);
        assert!(bench.send(&argv(&[&uname])).is_refusal(), "{blank:?}");
    }
    for broken in ["[", "(", "*", "a{", "\\", "(?=x)", "^(a+)+$", &"(".repeat(10_000), &("(a*)*".repeat(200) + "b")] {
        bench.list(&[json!({"pattern": uname, "argPattern": broken})]);
        bench.asks(&argv(&[&uname, &("a".repeat(5_000) + "!")]));
    }
    // Time is linear: fifty `**/`, many stars, long names.
    let started = Instant::now();
    for pattern in [
        "/".to_owned() + &"**/".repeat(50),
        "**/".repeat(50) + "x",
        "/".to_owned() + &"*a".repeat(200),
        "**".repeat(2_000),
    ] {
        let entries: Vec<Value> = (0..20).map(|_| json!(format!("{pattern}nothing"))).collect();
        bench.list(&entries);
        bench.asks(&argv(&[&tool(&root.join("a".repeat(250)), &touch)]));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    bench.list(&[json!("/".to_owned() + &"**/".repeat(50) + "uname"), json!("/**/uname")]);
    assert!(!bench.runs(&words("uname")).is_empty());
    bench.finish();
}

// ---- spec exec h.2: what the original still allows ----

#[test]
fn sec_h2_defects_are_not_inherited() {
    let bench = Bench::new();
    let touch = bench.touch();
    let work = bench.work();
    let evil = |name: &str| tool(&work.join(name), &touch);
    bench.programs(&["uname", "echo"]);
    // 1: a wrapper or a shell that only has its name.
    for name in ["sh", "bash", "env", "nice", "timeout", "busybox"] {
        let own = evil(name);
        for argv0 in [&own, &format!("./{name}")] {
            bench.asks(&argv(&[argv0, "-c", "uname"]));
            bench.asks(&argv(&[argv0, "uname"]));
            bench.asks(&argv(&[argv0, "sh", "-c", "uname"]));
            bench.asks(&argv(&["env", argv0, "-c", "uname"]));
            bench.asks(&sh(&format!("{argv0} -c uname")));
        }
    }
    // 2: shells of other languages, which quote otherwise.
    for name in ["fish", "nu", "xonsh", "elvish", "pwsh", "cmd", "csh", "tcsh"] {
        let own = evil(name);
        bench.list(&[json!(own), json!(program("uname"))]);
        bench.asks(&argv(&[&own, "-c", "uname"]));
        bench.asks(&argv(&[&own, "-Command", "uname"]));
        assert!(bench.send(&argv(&[name, "-c", "uname"])).is_refusal(), "{name}");
    }
    bench.list(&[]);
    // 3: a subscript is code to some shells. 10: so is this arithmetic. 11: names are exact.
    for text in [
        format!("test -v 'a[$({touch})]'"),
        format!("[ -v 'a[$({touch})]' ]"),
        format!("test 'a[`{touch}`]' -eq 0"),
        "test -v a[0]".into(),
        "[ -v a[0] ]".into(),
        format!("true $[$({touch})]"),
        format!("cd \"$[`{touch}`]\""),
        "TRUE".into(),
        "Cd .".into(),
        "PWD".into(),
        "Test -e .".into(),
    ] {
        bench.asks(&sh(&text));
    }
    // 4: assignments that do not look like one.
    bench.programs(&["uname", "echo"]);
    for name in ["LD_PRELOAD+=./x.so", "A[0]=1", "A[$(uname)]=1", "A+=1", "PATH+=:.", "_=1", "BASH_ENV=./uname"] {
        bench.asks(&sh(&format!("{name} uname")));
        bench.asks(&sh(&format!("uname; {name} echo x")));
    }
    // 5: what a relative path names changes with the directory. 7: and not as its text says.
    evil("sub/tool");
    evil("elsewhere/tool");
    fs::create_dir(work.join("elsewhere/deep")).unwrap();
    symlink("elsewhere/deep", work.join("link")).unwrap();
    let good = tool(&work.join("tool"), "echo good");
    bench.list(&[json!(good)]);
    for text in ["cd sub && ./tool", "cd sub; ./tool", "cd sub && ../tool", "link/../tool", "cd link && ../tool"] {
        bench.asks(&sh(text));
    }
    bench.asks(&argv(&["link/../tool"]));
    bench.asks(&argv(&["env", "link/../tool"]));
    for path in ["./tool", "link/../../tool"] {
        assert_eq!(bench.runs(&sh(path)), "good\n", "{path}");
    }
    // 6: an argument pattern judges what the program gets.
    let entry = |arguments: &str| json!({"pattern": program("echo"), "argPattern": arguments});
    bench.list(&[entry("^(\\*|~|\\{a,b\\}|\\$HOME)$")]);
    for text in ["echo *", "echo ~", "echo {a,b}", "echo $HOME"] {
        bench.asks(&sh(text));
    }
    assert_eq!(bench.runs(&sh("echo '*'; echo '~'; echo \"{a,b}\"; echo \\$HOME")), "*\n~\n{a,b}\n$HOME\n");
    // 8: a package manager runs what it finds, and not the entry's program.
    let manager = tool(&work.join("npx"), &touch);
    bench.list(&[json!(good), json!(manager), json!("npx"), json!("npm"), json!("tool")]);
    for command in [&[&*manager, "tool"][..], &[&manager, "--yes", "tool"], &[&manager, &good]] {
        bench.asks(&argv(command));
    }
    // 9: what is not there, or cannot be started, is not allowed beforehand.
    fs::write(work.join("data"), "").unwrap();
    bench.list(&["missing", "data", "sub", "**"].map(|name| json!(bench.path(name))));
    for name in ["missing", "data", "sub"] {
        bench.finds_nothing(&argv(&[bench.path(name)]));
        assert!(bench.send(&sh(&bench.path(name))).is_refusal(), "{name}");
    }
    // 13: without a word in the document nothing runs unasked. 12: without an agent an entry holds.
    bench.scratch.edit_approvals(|document| drop(document.remove("agents")));
    bench.asks(&words("uname"));
    bench.asks(&with(&words("uname"), &json!({"agentId": "main"})));
    bench.programs(&["uname"]);
    assert!(!bench.runs(&words("uname")).is_empty());
    bench.finish();
}
