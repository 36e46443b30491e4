//! What the text of a shell really does decides whether it runs unasked, whatever it looks like; driven through
//! the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_analysis;
mod support_exec;

use serde_json::json;
use std::fs;
use support_analysis::*;
use support_exec::*;

#[test]
fn sec_a76_the_argument_vector_alone_decides() {
    let bench = Bench::new();
    bench.programs(&["uname", "touch"]);
    let (touch, uname) = (bench.touch(), program("uname"));
    bench.programs(&["uname"]);
    let shell = ["/bin/sh", "-c", touch.as_str()];
    for (command, raw) in [
        (&shell[..], uname.as_str()),
        (&shell, "uname"),
        (&shell, "sh -c uname"),
        (&["sh", "-c", "uname", "x"], "uname"),
        (&["sh", "-c", "uname -s"], "uname  -s"),
        (&["sh", "-c", &touch, "uname"], "uname"),
        (&["sh", &touch, "-c", "uname"], "uname"),
        (&["env", "sh", "-c", &touch], "uname"),
        (&["nice", "sh", "-c", &touch], "uname"),
        (&[&uname], &touch),
        (&[&uname], &format!("/bin/sh -c '{touch}'")),
        (&[&uname], &format!("/bin/sh -c \"{touch}\"")),
        (&["uname", "-s"], "uname  -s"),
        (&["uname", "-s"], " uname -s"),
        (&["uname", "-s"], "uname -s "),
        (&["uname", "-s"], "uname\t-s"),
        (&["uname", "-s"], "uname -s\n"),
        (&["uname", "-s"], "uname\u{a0}-s"),
        (&["uname", "-s"], "uname -s\u{200b}"),
        (&["uname", "-s"], "uname -S"),
        (&["uname", "-s"], "UNAME -s"),
        (&["uname", "-s"], "uname '-s'"),
        (&["uname", "-s"], "uname"),
        (&["uname", "-s"], "-s"),
    ] {
        let message = bench.refused(&with(&argv(command), &json!({"rawCommand": raw})), "INVALID_REQUEST");
        assert!(message.contains("rawCommand"), "{command:?} {raw:?}: {message}");
    }
    for odd in [json!(1), json!([]), json!(["uname"]), json!({}), json!(true)] {
        bench.refused(&with(&argv(&["uname"]), &json!({"rawCommand": odd})), "INVALID_REQUEST");
    }
    // The twins: no claim at all, and claims that agree.
    let name = bench.runs(&argv(&["uname", "-s"]));
    for blank in [json!(null), json!(""), json!(" "), json!("\t\n"), json!("uname -s")] {
        assert_eq!(bench.runs(&with(&argv(&["uname", "-s"]), &json!({"rawCommand": blank}))), name);
    }
    for claim in ["uname -s", "sh -c \"uname -s\""] {
        assert_eq!(bench.runs(&with(&sh("uname -s"), &json!({"rawCommand": claim}))), name);
    }
    // A claim that agrees makes nothing of a command that is not on the list.
    bench.asks(&with(&sh(&touch), &json!({"rawCommand": touch})));
    // Through gateway and node the same.
    wait_for_node(&bench.scratch);
    for method in ["system.run", "system.run.prepare"] {
        let lie = with(&argv(&shell), &json!({"rawCommand": uname}));
        let refused = bench.scratch.mac_debug(&["invoke", method, &lie.to_string()]);
        assert!(refused.code == Some(1) && words_of(&refused).contains("rawCommand"), "{refused:?}");
        let truth = with(&argv(&["uname", "-s"]), &json!({"rawCommand": "uname -s"}));
        let done = bench.scratch.mac_debug(&["invoke", method, &truth.to_string()]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    bench.finish();
}

#[test]
fn sec_a80_every_command_of_a_text_must_be_listed() {
    let bench = Bench::new();
    bench.programs(&["echo"]);
    let touch = bench.touch();
    for text in [
        "echo x | node".to_owned(),
        format!("echo '{touch}' |& sh"),
        format!("echo '{touch}'|sh"),
        format!("echo '{touch}' | sh"),
        format!("true && {touch}"),
        "true && sh".into(),
        "false || sh".into(),
        format!("false || {touch}"),
        "echo; sh".into(),
        format!("echo;{touch}"),
        "echo & sh".into(),
        format!("echo x & {touch}"),
        format!("echo x &{touch}"),
        format!("echo\n{touch}"),
        format!("echo\r\n{touch}"),
        format!("echo x\n\n\t{touch}\n"),
        format!("echo x; echo y; echo z; {touch}"),
        format!("echo x && echo y || {touch}"),
        format!("echo x | echo y | {touch}"),
        format!("! {touch}"),
        format!("echo x;;{touch}"),
        format!("{touch};echo x"),
        format!("{touch} | echo x"),
        format!("( {touch} )"),
        format!("{{ {touch}; }}"),
        format!("if true; then {touch}; fi"),
        format!("while {touch}; do break; done"),
        format!("f() {{ {touch}; }}; f"),
        format!("echo x # y\n{touch}"),
        format!("echo x \\\n; {touch}"),
        format!("cd . && {touch}"),
        format!("echo x 2>&1 | {touch}"),
        format!("echo x 2>&1; {touch}"),
        format!("echo x >/dev/null&&{touch}"),
        "echo x > canary-by-redirection".into(),
        "echo x>>canary-by-redirection".into(),
        "echo x >| canary-by-redirection".into(),
        "echo x &> canary-by-redirection".into(),
        "echo x 2>canary-by-redirection".into(),
    ] {
        bench.asks(&sh(&text));
        assert!(!bench.work().join("canary-by-redirection").exists(), "{text}");
    }
    for shell in ["sh", "bash", "dash", "/bin/sh", "/bin/bash"] {
        for options in [&["-c"][..], &["-ec"], &["-e", "-c"], &["-o", "pipefail", "-c"], &["-lc"], &["-ic"]] {
            bench.asks(&argv(&[&[shell], options, &[&format!("echo x && {touch}")]].concat()));
        }
    }
    for (text, printed) in [
        ("echo x | echo y", "y\n"),
        ("true && echo y", "y\n"),
        ("false || echo y", "y\n"),
        ("echo x; echo y", "x\ny\n"),
        ("echo x\necho y", "x\ny\n"),
        ("echo x\r\necho y", "x\ny\n"),
        ("echo 'a; b && c | d & e'", "a; b && c | d & e\n"),
        ("echo a\\;b", "a;b\n"),
    ] {
        assert_eq!(bench.runs(&sh(text)), printed, "{text:?}");
    }
    bench.finish();
}

#[test]
fn sec_a81_substitution_is_seen_wherever_it_stands() {
    let bench = Bench::new();
    bench.programs(&["echo", "cat"]);
    let touch = bench.touch();
    for text in [
        format!("echo \"$({touch})\""),
        format!("echo $({touch})"),
        format!("echo x$({touch})y"),
        format!("echo `{touch}`"),
        format!("echo \"`{touch}`\""),
        format!("echo \"a\\\\`{touch}`\""),
        format!("echo \"${{x:-$({touch})}}\""),
        format!("echo ${{x:-$({touch})}}"),
        format!("echo ${{x:=`{touch}`}}"),
        format!("echo \"${{x#$({touch})}}\""),
        format!("echo $(( $({touch}) ))"),
        format!("echo $((a[$({touch})]))"),
        format!("echo \"$((`{touch}`))\""),
        format!("echo $[$({touch})]"),
        format!("cat <({touch})"),
        format!("echo x >({touch})"),
        format!("echo =({touch})"),
        format!("echo $'\\x24({touch})'"),
        format!("echo $'\\'$({touch})'"),
        format!("echo $\"$({touch})\""),
        format!("echo 'a'\"$({touch})\"'b'"),
        format!("echo 'a'$({touch})'b'"),
        format!("echo \"it's $({touch})\""),
        format!("echo ${{| {touch};}}"),
        format!("echo ${{ {touch};}}"),
        format!("\"$({touch})\""),
        format!("$({touch}) echo"),
        format!("X=$({touch}) echo x"),
        format!("echo x | cat \"$({touch})\""),
        format!("echo \\\\$({touch})"),
        format!("echo \"\\\\$({touch})\""),
        format!("echo ${{x}}`{touch}`"),
        format!("echo !`{touch}`"),
        format!("echo {{a,`{touch}`}}"),
        format!("echo *(e:'{touch}':)"),
    ] {
        let why = bench.asks(&sh(&text));
        assert!(why.contains("the text was not understood at byte "), "{text}: {why}");
    }
    // The twins: the same characters as text.
    for (text, printed) in [
        ("echo '$(touch x)'".to_owned(), "$(touch x)\n"),
        ("echo '`touch x`'".into(), "`touch x`\n"),
        ("echo \\$\\(touch x\\)".into(), "$(touch x)\n"),
        ("echo \"\\$(touch x)\"".into(), "$(touch x)\n"),
        ("echo \"\\`touch x\\`\"".into(), "`touch x`\n"),
        ("echo 'a'\"'b'\"".into(), "a'b'\n"),
    ] {
        assert_eq!(bench.runs(&sh(&text)), printed, "{text}");
    }
    assert_eq!(bench.runs(&argv(&["echo", "$(touch x)", "`x`"])), "$(touch x) `x`\n", "no shell reads argv");
    bench.finish();
}

#[test]
fn sec_a82_here_documents_are_not_understood() {
    let bench = Bench::new();
    bench.programs(&["echo", "cat"]);
    let touch = bench.touch();
    for text in [
        format!("cat <<EOF\n$({touch})\nEOF"),
        format!("cat <<EOF\n`{touch}`\nEOF\n"),
        "cat <<EOF\n$VAR\nEOF".into(),
        "cat <<EOF\n$1\nEOF".into(),
        "cat <<EOF\n$@\nEOF".into(),
        format!("cat <<EOF\n${{x:-$({touch})}}\nEOF"),
        format!("cat <<-EOF\n\t$({touch})\n\tEOF"),
        format!("cat <<EOF\n$({touch})"),
        "cat <<EOF".into(),
        "cat <<".into(),
        format!("cat <<A <<B\nx\nA\n$({touch})\nB"),
        format!("cat <<'A' <<B\nx\nA\n$({touch})\nB"),
        format!("cat <<EOF | echo x\n$({touch})\nEOF"),
        format!("cat <<EOF; echo x\n$({touch})\nEOF"),
        format!("cat <<EO\\F\nx\nEOF\n{touch}"),
        format!("cat <<'EOF'\nx\nEOF\n{touch}"),
        format!("cat 0<<EOF\n$({touch})\nEOF"),
        format!("cat <<< \"$({touch})\""),
        format!("cat <<<`{touch}`"),
        format!("echo x <<EOF && echo y\n$({touch})\nEOF"),
    ] {
        let why = bench.asks(&sh(&text));
        assert!(why.contains("not understood at byte ") && why.contains("here-"), "{text}: {why}");
    }
    assert_eq!(bench.runs(&sh("echo '<<EOF'; echo \"<<EOF\" | cat")), "<<EOF\n<<EOF\n");
    bench.finish();
}

#[test]
fn sec_a95_words_and_programs_that_start_others_need_a_person() {
    let bench = Bench::new();
    let touch = bench.touch();
    let canary = bench.canary();
    bench.programs(&["ls", "find", "xargs", "echo", "env"]);
    fs::write(bench.work().join("x"), format!("{touch}\n")).unwrap();
    for text in [
        "command sh".to_owned(),
        format!("command {touch}"),
        format!("command -- {touch}"),
        "command -p ls".into(),
        "command -v ls".into(),
        format!("builtin command {touch}"),
        "builtin echo x".into(),
        "exec sh".into(),
        format!("exec {touch}"),
        "exec ls".into(),
        "exec -a x ls".into(),
        format!("eval {touch}"),
        format!("eval '{touch}'"),
        "eval ls".into(),
        ". ./x".into(),
        "source ./x".into(),
        "source x".into(),
        "alias ls=sh".into(),
        format!("alias ls='{touch}'\nls"),
        format!("trap '{touch}' EXIT"),
        format!("coproc {touch}"),
        format!("time {touch}"),
        "export PATH=.; ls".into(),
        "set -- sh; \"$@\"".into(),
        "hash -p ./x ls; ls".into(),
        "enable -f ./x y".into(),
        format!("find . -exec {touch} \\;"),
        format!("find . -exec sh -c '{touch}' {{}} \\;"),
        format!("find . -execdir {touch} +"),
        format!("find . -ok {touch} \\;"),
        format!("find . -okdir {touch} \\;"),
        format!("find . -name x -o -exec {touch} {{}} +"),
        "echo sh|xargs env".into(),
        format!("echo {canary} | xargs touch"),
        "echo | xargs".into(),
        format!("xargs -I{{}} sh -c '{touch}'"),
        format!("nice find . -exec {touch} \\;"),
        format!("env xargs {touch}"),
        format!("\\command {touch}"),
        format!("\"exec\" {touch}"),
        "'.' ./x".into(),
    ] {
        bench.asks(&sh(&text));
    }
    for command in [
        &["find", ".", "-exec", "sh", "-c", &touch, ";"][..],
        &["find", ".", "-execdir", "touch", &canary, "+"],
        &["xargs", "touch", &canary],
        &["xargs"],
        &["env", "xargs", "touch", &canary],
        &["nice", "find", ".", "-ok", "touch", &canary, ";"],
    ] {
        bench.asks(&argv(command));
    }
    // By themselves these are the names of programs that are not there.
    for name in ["command", "exec", "eval", "source", "."] {
        let reply = bench.send(&argv(&[name, "sh", "-c", &touch]));
        assert!(reply.is_refusal(), "{name}: {}", reply.value());
    }
    // `find` can also write and delete.
    for text in [format!("find . -fprint {canary}"), format!("find . -fls {canary}")] {
        let reply = bench.exec.request(&with(&sh(&text), &json!({"cwd": bench.work()})));
        drop(reply); // listed without arguments, so it may: the owner has `argPattern` for that
        let _ = fs::remove_file(bench.scratch.canary());
    }
    assert_eq!(bench.runs(&sh("find . -name x")), "./x\n");
    assert_eq!(bench.runs(&sh("command ls")), "x\n", "`command NAME` is NAME");
    assert_eq!(bench.runs(&sh("echo '-exec'")), "-exec\n");
    bench.finish();
}

// ---- A94 ----

#[test]
fn sec_a94_names_are_bytes_and_what_is_decoded_is_not_run() {
    let bench = Bench::new();
    let touch = bench.touch();
    bench.programs(&["echo", "printf", "base64", "tr", "uname", "sh", "bash", "dash", "touch"]);
    // Full width, invisible characters, other alphabets, other forms of a letter: no such program.
    for name in
        ["ｓｈ", "s\u{200b}h", "\u{feff}sh", "sh\u{200d}", "ѕh", "s\u{301}h", "sh\u{a0}", "\u{202e}hs", "SH", "sh "]
    {
        bench.finds_nothing(&argv(&[name, "-c", &touch]));
        bench.asks(&sh(&format!("'{name}' -c '{touch}'")));
        bench.asks(&sh(&format!("uname; '{name}'")));
        bench.asks(&argv(&["env", name, "-c", &touch]));
    }
    bench.finds_nothing(&argv(&["ｕname"]));
    // What a program prints is nothing that a shell may read, even where both are on the list.
    for text in [
        format!("echo '{touch}' | sh"),
        format!("echo '{touch}' | bash"),
        format!("echo '{touch}' | /bin/sh"),
        format!("echo '{touch}' | tr x x | dash"),
        format!("echo '{touch}' | sh -s"),
        format!("echo '{touch}' | sh -"),
        format!("echo '{touch}' | sh | uname"),
        format!("echo '{touch}' | env sh"),
        format!("echo '{touch}' | command sh"),
        format!("echo '{touch}' |& sh -e"),
        format!("echo '{touch}' | sh /dev/stdin"),
        "echo dG91Y2ggY2FuYXJ5Cg== | base64 -d | sh".into(),
        "printf '\\x74\\x6f\\x75\\x63\\x68\\x20\\x63' | sh".into(),
        "printf '\\164\\157\\165\\143\\150\\40\\143' | bash".into(),
        "echo gbhpu | tr a-z n-za-m | sh".into(),
        "sh -c \"$(printf '\\x74\\x6f')\"".into(),
        "bash <(echo dG91Y2g= | base64 -d)".into(),
        "$(echo dG91Y2g= | base64 -d) c".into(),
        "eval \"`echo dG91Y2g= | base64 -d`\"".into(),
    ] {
        bench.asks(&sh(&text));
    }
    for name in ["canary", "c"] {
        assert!(!bench.work().join(name).exists(), "{name}");
    }
    // The twins: text in any alphabet, decoding that nothing runs, and a shell that has nothing to read.
    assert_eq!(bench.runs(&argv(&["echo", "ｓｈ s\u{200b}h"])), "ｓｈ s\u{200b}h\n");
    assert_eq!(bench.runs(&sh("echo dG91Y2g= | base64 -d")), "touch");
    assert_eq!(bench.runs(&argv(&["sh"])), "");
    bench.finish();
}

// ---- H07 ----

/// What the kernel was asked to start, from a request to its answer, is the plan and nothing else.
#[cfg(target_os = "linux")]
#[test]
fn sec_h07_exactly_the_analysed_arguments_are_started() {
    if !have("strace", "sec_h07") {
        return;
    }
    let options = ["-D", "-f", "-qq", "-y", "-s", "400", "-e", "trace=execve,execveat", "-e", "signal=none"];
    let bench = Bench::under(&[&["strace"], &options[..], &["-o", "trace"]].concat());
    bench.programs(&["echo", "sort", "uname", "ls"]);
    fs::write(bench.work().join("a b"), "").unwrap();
    let trace = || -> Vec<String> {
        let text = fs::read_to_string(bench.scratch.join("trace")).unwrap();
        text.lines().filter(|line| line.contains("exec") && line.contains("[\"")).map(str::to_owned).collect()
    };
    let mut seen = trace().len();
    assert!(seen > 0, "the app itself");
    let own = "$HOME \"$PWD\"/*";
    let work = text_of(&bench.work());
    for (text, printed, wanted) in [
        (
            "echo 'b;a$(x)' | sort -u | wc -l",
            "1",
            &[("echo", r#"["echo", "b;a$(x)"]"#), ("sort", r#"["sort", "-u"]"#), ("wc", r#"["wc", "-l"]"#)][..],
        ),
        ("uname >/dev/null && echo ls || uname -a", "ls", &[("uname", r#"["uname"]"#), ("echo", r#"["echo", "ls"]"#)]),
        ("true; cd . && pwd", &work, &[]),
        ("command echo '-n' 2>&1; ! false", "", &[("echo", r#"["echo", "-n"]"#)]),
        (
            &format!("echo \\{own}"),
            &format!("$HOME {work}/a b"),
            &[("echo", &format!(r#"["echo", "$HOME", "{work}/a b"]"#))],
        ),
    ] {
        assert_eq!(bench.runs(&sh(text)).trim(), printed, "{text}");
        let all = trace();
        let new: Vec<&String> = all.iter().skip(seen).collect();
        seen = all.len();
        assert_eq!(new.len(), wanted.len(), "{text}: {new:?}");
        for (name, argv) in wanted {
            let file = program(name);
            let is_it = |line: &&&String| line.contains(&format!("{file}>")) && line.contains(*argv);
            assert_eq!(new.iter().filter(is_it).count(), 1, "{text}: {name} {argv}: {new:?}");
        }
    }
    // The twin: an argument vector is started as it is, with its wrapper.
    bench.runs(&argv(&["env", "uname", "-s"]));
    assert!(trace()[seen..].iter().any(|line| line.contains(r#"["env", "uname", "-s"]"#)));
    bench.finish();
}
