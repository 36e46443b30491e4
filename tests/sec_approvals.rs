//! Approval integrity and display, driven through the built program: the prompt of `openclaw app` on a
//! terminal, its exec socket, and a node whose gateway says whatever a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Process, QUIET, ScriptedGateway, Seat, signal, wait_until};
use support_exec::*;

const AGENT: &str = "main";
const SESSION: &str = "agent:main:main";

fn touch(scratch: &Scratch) -> Value {
    json!({"command": [program("touch"), scratch.canary()]})
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn with(request: &Value, change: &Value) -> Value {
    let mut changed = request.clone();
    changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    changed
}

// ---- a node, and a gateway that may lie ----

/// A node that believes its gateway's approvals of what it has prepared, and has nobody to ask.
struct Node {
    scratch: Scratch,
    seat: Option<Seat>,
    gateway: ScriptedGateway,
    _process: Process,
    _app: Option<App>,
}

impl Node {
    /// `exec_host`: who runs commands, `app` or `local`.
    fn new(exec_host: &str) -> Self {
        let scratch = Scratch::new();
        scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": true}}));
        let app = (exec_host == "app").then(|| App::start(&scratch));
        let gateway = ScriptedGateway::new();
        let mut command = scratch.openclaw(&["node", "run", "--url", &gateway.url(), "--exec-host", exec_host]);
        command.env("OPENCLAW_GATEWAY_TOKEN", "the-token-of-this-gateway-0123456789");
        let process = Process::spawn(command);
        let mut node = Self { scratch, seat: None, gateway, _process: process, _app: app };
        node.reconnect();
        node
    }

    /// The gateway hangs up, and the node comes again.
    fn reconnect(&mut self) {
        self.seat = None;
        self.seat = Some(self.gateway.seat());
    }

    fn seat(&mut self) -> &mut Seat {
        self.seat.as_mut().unwrap()
    }

    /// Has this prepared: the run that its gateway would send with an approval.
    fn prepare(&mut self, request: &Value) -> Value {
        let answer = self.seat().invoke("system.run.prepare", request).unwrap_or_else(|error| panic!("{error}"));
        let plan = &answer["plan"];
        let run = json!({"command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"],
            "agentId": plan["agentId"], "sessionKey": plan["sessionKey"], "runId": "r", "approved": true,
            "approvalDecision": "allow-once", "systemRunPlan": plan});
        if request["env"].is_object() { with(&run, &json!({"env": request["env"]})) } else { run }
    }

    fn run(&mut self, run: &Value) -> Result<Value, Value> {
        self.seat().invoke("system.run", run)
    }
}

/// The same in the request and in the plan that it carries: a gateway that lies thoroughly.
fn with_plan(run: &Value, change: &Value) -> Value {
    let mut changed = with(run, change);
    for (name, value) in change.as_object().unwrap() {
        changed["systemRunPlan"][if name == "command" { "argv" } else { name }] = value.clone();
    }
    if let Some(argv) = change["command"].as_array() {
        let words = argv.iter().map(|word| word.as_str().unwrap());
        let quoted = words.map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() });
        changed["systemRunPlan"]["commandText"] = json!(quoted.collect::<Vec<_>>().join(" "));
        changed.as_object_mut().unwrap().remove("rawCommand");
    }
    changed
}

/// A60, the node's part: what the gateway says is approved runs once if it is what was prepared here, and with one
/// change not at all; a try with a change takes nothing away.
#[test]
fn sec_a60_only_the_prepared_plan_runs_and_once() {
    for host in ["app", "local"] {
        let mut node = Node::new(host);
        let (here, there) = (node.scratch.join("here"), node.scratch.join("there"));
        make_dir(&here);
        make_dir(&there);
        let request = json!({"command": ["touch", "a b", "c"], "cwd": here, "agentId": AGENT, "sessionKey": SESSION,
            "env": {"MODE": "fast"}});
        let run = node.prepare(&request);
        let touch = program("touch");
        for change in [
            json!({"command": [touch, "a b", "d"]}),
            json!({"command": [touch, "a b", "c", "d"]}),
            json!({"command": [touch, "a b"]}),
            json!({"command": [touch, "a", "b", "c"]}),
            json!({"command": [touch, "a  b", "c"]}),
            json!({"command": [touch, "a b", "c "]}),
            json!({"command": [program("mkdir"), "a b", "c"]}),
            json!({"cwd": there}),
            json!({"cwd": null}),
            json!({"agentId": "other"}),
            json!({"agentId": null}),
            json!({"sessionKey": "agent:main:other"}),
            json!({"sessionKey": null}),
            json!({"env": {"MODE": "slow"}}),
            json!({"env": {"MODE": "fast", "MORE": "1"}}),
            json!({"env": {}}),
            json!({"env": null}),
            json!({"needsScreenRecording": true}),
            json!({"systemRunPlan": null}),
            json!({"systemRunPlan": {}}),
        ] {
            for changed in [with(&run, &change), with_plan(&run, &change)] {
                let error = node.run(&changed).expect_err(&change.to_string());
                assert!(error["message"].as_str().is_some_and(|why| why.len() > 8), "{change}: {error}");
            }
        }
        for directory in [&here, &there] {
            assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{host}: something ran");
        }
        assert_eq!(node.run(&run).unwrap_or_else(|error| panic!("{host}: {error}"))["success"], true);
        assert!(here.join("a b").exists() && here.join("c").exists());
        fs::remove_file(here.join("c")).unwrap();
        node.run(&run).expect_err("a second time");
        assert!(!here.join("c").exists());
    }
}

/// A60: what was prepared is bound to its connection, to the policy and to the files of that moment, and
/// to the limit that was named.
#[test]
fn sec_a60_a_prepared_plan_ends_with_what_it_was_made_for() {
    for host in ["app", "local"] {
        let mut node = Node::new(host);
        let request = |name: &str| json!({"command": ["touch", name], "cwd": node.scratch.path()});
        let (first, second, third) = (request("first"), request("second"), request("third"));

        // The owner changes what holds.
        let run = node.prepare(&first);
        node.scratch.edit_approvals(|file| drop(file.insert("defaults".into(), json!({"ask": "always"}))));
        node.run(&run).expect_err("the policy is another one");
        let run = node.prepare(&first);
        assert_eq!(node.run(&run).unwrap()["success"], true, "prepared again, under what holds now");

        // Another connection of the same node.
        let run = node.prepare(&second);
        node.reconnect();
        node.run(&run).expect_err("another connection");
        let run = node.prepare(&second);
        assert_eq!(node.run(&run).unwrap()["success"], true);

        // The directory is another one under the same name.
        let place = node.scratch.join("place");
        make_dir(&place);
        let run = node.prepare(&json!({"command": ["touch", "x"], "cwd": place}));
        fs::rename(&place, node.scratch.join("aside")).unwrap();
        make_dir(&place);
        node.run(&run).expect_err("another directory");
        assert!(!place.join("x").exists());

        // A limit that was prepared is part of it; without one the caller may name any.
        let run = node.prepare(&with(&third, &json!({"timeoutMs": 5_000})));
        node.run(&with(&run, &json!({"timeoutMs": 60_000}))).expect_err("another limit");
        node.run(&run).expect_err("no limit");
        assert_eq!(node.run(&with(&run, &json!({"timeoutMs": 5_000}))).unwrap()["success"], true);
        assert!(["first", "second", "third"].iter().all(|name| node.scratch.join(name).exists()));
    }
}

/// A60, A69: a plan has the program's path; the name that was sent comes back by the node's own memory, so that a
/// program of many names is the one that was asked for.
#[test]
fn sec_a60_a_program_sees_the_name_that_was_prepared() {
    let mut node = Node::new("app");
    let link = node.scratch.join("tool");
    symlink(program("ls"), &link).unwrap();
    let run = node.prepare(&json!({"command": [link, "--no-such-option"], "cwd": node.scratch.path()}));
    assert_eq!(run["command"][0], json!(program("ls")));
    let ran = node.run(&run).unwrap();
    assert!(ran["stderr"].as_str().unwrap().starts_with(text(&link)), "{ran}");
}

/// A62, the node's part: of twenty runs under one prepared plan, sent at once, one takes place.
#[test]
fn sec_a62_twenty_runs_at_once_use_one_approval_once() {
    const ROUNDS: usize = 8;
    const RUNS: usize = 20;
    for host in ["app", "local"] {
        let mut node = Node::new(host);
        let mut overlapping = 0;
        for round in 0..ROUNDS {
            let place = node.scratch.join(&format!("round{round}"));
            make_dir(&place);
            // Each run that takes place leaves a file of its own.
            let run = node.prepare(&json!({"command": ["mktemp", "XXXXXX"], "cwd": place}));
            let answers = node.seat().invoke_all("system.run", &vec![run; RUNS]);
            let winner = answers.iter().position(|(_, answer)| answer.is_ok()).expect("one runs");
            assert_eq!(answers.iter().filter(|(_, answer)| answer.is_ok()).count(), 1, "{host}: {answers:?}");
            assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "{host}");
            // A refusal that came before the winner's end was decided while that one was under way.
            overlapping += usize::from(winner > 0);
        }
        println!("sec_a62: the race was hit in {overlapping} of {ROUNDS} rounds ({host})");
        assert!(overlapping > 0, "{host}: no two of them met");
    }
}

// ---- decisions ----

/// A63: on the exec socket, with an owner who believes decisions made elsewhere, so that a good one would count.
#[test]
fn sec_a63_odd_decisions_on_the_exec_socket_allow_nothing() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": true}}));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let odd = [
        json!("allow"),
        json!("ALLOW-ONCE"),
        json!("allow_once"),
        json!("allow-once "),
        json!(" allow-once"),
        json!("once"),
        json!("yes"),
        json!("true"),
        json!(""),
        json!("approved"),
        json!("allow-forever"),
        json!(true),
        json!(1),
        json!(null),
        json!({}),
        json!({"decision": "allow-once"}),
        json!(["allow-once"]),
    ];
    for decision in odd {
        let request = with(&touch(&scratch), &json!({"approvalDecision": decision}));
        assert!(exec.request(&request).is_refusal(), "{decision}");
        if !decision.is_null() {
            // What is beside it does not make it one.
            assert!(exec.request(&with(&request, &json!({"approved": true}))).is_refusal(), "{decision} and approved");
        }
    }
    for approved in [json!("true"), json!(1), json!("allow-once"), json!({}), json!(null), json!(false)] {
        assert!(exec.request(&with(&touch(&scratch), &json!({"approved": approved}))).is_refusal(), "{approved}");
    }
    stays_absent(&scratch.canary());
    exec.request(&with(&touch(&scratch), &json!({"approvalDecision": "allow-once"}))).ran();
    assert!(scratch.canary().exists());
}

/// A63, the same at the node: its gateway says `approved`, and a word that is no decision.
#[test]
fn sec_a63_odd_decisions_of_a_gateway_allow_nothing() {
    for host in ["app", "local"] {
        let mut node = Node::new(host);
        let run = node.prepare(&json!({"command": ["touch", "x"], "cwd": node.scratch.path()}));
        for decision in [json!("allow"), json!("ALLOW-ONCE"), json!(""), json!(true), json!({}), json!("deny")] {
            node.run(&with(&run, &json!({"approvalDecision": decision}))).expect_err(&decision.to_string());
        }
        assert!(!node.scratch.join("x").exists(), "{host}");
        // `approved` without a decision is an approval (exec c.4).
        assert_eq!(node.run(&with(&run, &json!({"approvalDecision": null}))).unwrap()["success"], true, "{host}");
        assert!(node.scratch.join("x").exists());
    }
}

/// A63: nobody to ask is said at once; an app that dies, or whose terminal goes, has allowed nothing.
/// (A question that nobody answers in time: `sec_h28_a_jump_of_the_clock_extends_nothing`.)
#[test]
fn sec_a63_no_person_is_no_permission() {
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    let asked = Instant::now();
    let reply = app.exec(&scratch).request(&touch(&scratch));
    assert_eq!(reply.refused("UNAVAILABLE")["reason"], "approval-required");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(app);
    for number in [libc::SIGKILL, libc::SIGHUP] {
        let mut desk = Desk::new();
        let asked = desk.ask(&touch(&desk.scratch));
        desk.prompt();
        desk.terminal.signal(number);
        let reply = desk.wait(asked);
        assert!(reply.is_refusal(), "{number}: {reply:?}");
        stays_absent(&desk.scratch.canary());
    }
    let mut desk = Desk::new();
    desk.assert_works();
}

// ---- what the prompt shows ----

/// A64: twenty kilobytes with the harmful part in the middle, in one argument and in four thousand.
#[test]
fn sec_a64_the_whole_command_is_in_the_prompt() {
    let mut desk = Desk::new();
    let canary = text(&desk.scratch.canary()).to_owned();
    let script = format!("true {}; touch {canary}; true {}", "x".repeat(5_000), "y".repeat(15_000));
    let mut many = vec![program("touch"), canary.clone()];
    many.extend((0..4_000).map(|number| format!("{canary}.{number}")));
    for (command, parts) in [(vec![program("sh"), "-c".to_owned(), script.clone()], vec![script]), (many.clone(), many)]
    {
        let request = json!({"command": command});
        let shown = desk.prompts(&request);
        let line = shown.lines().find(|line| line.trim_start().starts_with("command ")).expect("the command");
        let mut rest = line;
        for part in &parts {
            let at = rest.find(part.as_str()).unwrap_or_else(|| panic!("{part} is not shown"));
            rest = &rest[at + part.len()..];
        }
        assert!(!Path::new(&canary).exists());
        let (again, reply) = desk.answered(&request, "once");
        assert!(again.contains(line), "the same is shown again");
        assert_eq!(reply.ran()["success"], true);
        fs::remove_file(&canary).unwrap();
    }
    // What no prompt could show is refused, and nobody is asked.
    for command in [
        vec![program("sh"), "-c".to_owned(), format!("true {}; touch {canary}", "x".repeat(150_000))],
        [vec![program("touch"), canary.clone()], vec!["a".to_owned(); 5_000]].concat(),
    ] {
        desk.unasked(&json!({"command": command})).refused("INVALID_REQUEST");
    }
    stays_absent(&desk.scratch.canary());
}

/// Characters that nobody sees, or that move what is seen (A66, A67), each with its escape.
const HIDDEN: [(&str, &str); 22] = [
    ("\u{200B}", "\\u{200B}"),
    ("\u{200D}", "\\u{200D}"),
    ("\u{202E}", "\\u{202E}"),
    ("\u{2066}", "\\u{2066}"),
    ("\u{2067}", "\\u{2067}"),
    ("\u{2068}", "\\u{2068}"),
    ("\u{2069}", "\\u{2069}"),
    ("\u{FEFF}", "\\u{FEFF}"),
    ("\u{AD}", "\\u{AD}"),
    ("\u{E0061}", "\\u{E0061}"),
    ("\u{2028}", "\\u{2028}"),
    ("\u{2029}", "\\u{2029}"),
    ("\u{A0}", "\\u{A0}"),
    ("\u{3164}", "\\u{3164}"),
    ("\n", "\\u{A}"),
    ("\r", "\\u{D}"),
    ("\u{8}", "\\u{8}"),
    ("\u{1B}[2J", "\\u{1B}[2J"),
    ("\t", "\\u{9}"),
    ("\u{7F}", "\\u{7F}"),
    ("\u{9B}2J", "\\u{9B}2J"),
    ("\u{85}", "\\u{85}"),
];

/// Asserts that `shown` has every escape so often and none of the characters.
fn is_escaped(shown: &str, what: &str) {
    let shown = shown.replace("\r\n", "\n");
    for (raw, escape) in HIDDEN {
        assert!(shown.contains(escape), "{what}: no {escape} in {shown:?}");
        // A line's end is the surface's own; that it is no other is seen from the number of lines.
        assert!(raw == "\n" || !shown.contains(raw), "{what}: {raw:?} in {shown:?}");
    }
}

/// A66, A67: in the prompt, whatever field holds them; and what runs has the bytes that were sent.
#[test]
fn sec_a66_a67_hidden_characters_are_visible_in_the_prompt() {
    let mut desk = Desk::new();
    let all: String = HIDDEN.iter().map(|(raw, _)| format!("a{raw}")).collect();
    let place = desk.scratch.join(&all);
    make_dir(&place);
    let plain = json!({"command": ["printf", "%s", "x"], "agentId": "a", "sessionKey": "s", "env": {"NOTE": "x"},
        "cwd": desk.scratch.path()});
    let lines = desk.prompts(&plain).lines().count();
    for change in [
        json!({"command": ["printf", "%s", all]}),
        json!({"agentId": all}),
        json!({"sessionKey": all}),
        json!({"env": {"NOTE": all}}),
        json!({"cwd": place}),
    ] {
        let shown = desk.prompts(&with(&plain, &change));
        is_escaped(&shown, &change.to_string());
        assert_eq!(shown.lines().count(), lines, "{shown}");
    }
    let (_, reply) = desk.answered(&with(&plain, &json!({"command": ["printf", "%s", all]})), "once");
    assert_eq!(reply.ran()["stdout"], json!(all), "what runs has the very bytes");
    // The escape itself, as text, is another argument and looks like another one.
    let shown = |text: &str, desk: &mut Desk| {
        let shown = desk.prompts(&json!({"command": ["printf", text]}));
        shown.lines().find(|line| line.trim_start().starts_with("command ")).unwrap().to_owned()
    };
    let (character, spelled) = (shown("\u{202E}", &mut desk), shown("\\u{202E}", &mut desk));
    assert!(character.contains("\\u{202E}") && spelled.contains("\\u{202E}"), "an escape is not escaped again");
    assert_ne!(character, spelled);
    let spaces = desk.prompts(&json!({"command": ["printf", format!("a{}b", " ".repeat(300))]}));
    assert!(!spaces.contains(&" ".repeat(60)), "padding moves nothing out of view: {spaces}");
}

/// A66, A67: what operators are shown, on the command line and by the gateway, and the audit log.
#[test]
fn sec_a66_a67_hidden_characters_are_visible_on_every_other_surface() {
    let scratch = Scratch::new();
    let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator", "--no-tcp"]));
    wait_for_node(&scratch);
    let all: String = HIDDEN.iter().map(|(raw, _)| format!("a{raw}")).collect();
    let exec = app.exec(&scratch);
    let request = json!({"command": ["printf", "%s", all], "agentId": all, "sessionKey": all});
    let asked = std::thread::spawn(move || exec.request(&request));
    let waiting = wait_until("the question", || {
        let list = scratch.mac_debug(&["approvals", "list", "--json"]).json();
        list.get(0).cloned()
    });
    is_escaped(waiting["request"]["command"].as_str().unwrap(), "the gateway's record");
    assert!(!waiting["request"]["command"].as_str().unwrap().contains('\n'));
    let list = scratch.mac_debug(&["approvals", "list"]).stdout;
    is_escaped(&list, "approvals list");
    assert!(list.lines().count() < 20, "{list}");
    is_escaped(&app.log(), "the app's log");
    let id = waiting["id"].as_str().unwrap();
    assert_eq!(scratch.mac_debug(&["approvals", "allow-once", id]).code, Some(0));
    assert_eq!(asked.join().unwrap().ran()["stdout"], json!(all));
    let table = scratch.mac_debug(&["audit", "show"]).stdout;
    is_escaped(&table, "audit show");
    assert_eq!(table.lines().count(), 2, "a head and one decision: {table}");
    let shown = scratch.mac_debug(&["audit", "show", "--json"]).json();
    for member in ["command", "agent", "session"] {
        is_escaped(shown["decisions"][0][member].as_str().unwrap(), member);
    }
}

/// A copy of a program of this machine under another name.
fn copy(of: &str, to: &Path) {
    fs::copy(program(of), to).unwrap();
    set_mode(to, 0o700);
}

/// A68: `tool` and `tool␠` are two files, `x` and `␠x` two arguments: to the eye, to the run, to an approval.
#[test]
fn sec_a68_white_space_is_shown_run_and_approved_as_it_is() {
    let mut desk = Desk::new();
    let (plain, spaced) = (desk.scratch.join("tool"), desk.scratch.join("tool "));
    copy("echo", &plain);
    copy("printf", &spaced);
    let run = |path: &Path, argument: &str| json!({"command": [path, argument]});
    let shown = desk.prompts(&run(&plain, "%%x"));
    assert!(shown.contains(&format!("command    {} %%x\r\n", plain.display())), "{shown}");
    let shown = desk.prompts(&run(&spaced, " %%x"));
    assert!(shown.contains(&format!("'{}' ' %%x'", spaced.display())), "quotes tell them apart: {shown}");
    let (_, reply) = desk.answered(&run(&spaced, " %%x"), "once");
    assert_eq!(reply.ran()["stdout"], " %x", "it was the other program, with the very argument");
    let (_, reply) = desk.answered(&run(&plain, "%%x"), "always");
    assert_eq!(reply.ran()["stdout"], "%%x\n");
    assert_eq!(desk.unasked(&run(&plain, "%%x")).ran()["stdout"], "%%x\n");
    for other in [run(&spaced, "%%x"), run(&plain, " %%x"), run(&plain, "%%x "), run(&spaced, " %%x")] {
        desk.prompts(&other);
    }
    // A name that would be trimmed in the document is not put there.
    let before = desk.document();
    let shown = desk.prompts(&run(&spaced, "x"));
    assert!(shown.contains("always is not offered"), "{shown}");
    assert_eq!(desk.document(), before);
    // The word in the document is not trimmed into the other one either.
    desk.scratch.approvals(&json!({"version": 1, "socket": {"token": desk.exec.token},
        "agents": {"*": {"allowlist": [{"pattern": text(&plain)}]}}}));
    desk.unasked(&run(&plain, "anything")).ran();
    desk.prompts(&run(&spaced, "anything"));
}

/// A69: the prompt shows what is started and every argument, not only the harmless text inside.
#[test]
fn sec_a69_the_program_and_every_argument_are_shown() {
    let mut desk = Desk::new();
    let evil = desk.scratch.join("evil");
    make_dir(&evil);
    let sh = evil.join("sh");
    fs::write(&sh, format!("#!/bin/sh\ntouch {}\n", desk.scratch.canary().display())).unwrap();
    set_mode(&sh, 0o700);
    let (evil_sh, real_sh, env) = (text(&sh), program("sh"), program("env"));
    let evil = text(&evil);
    for (command, executable, line) in [
        (vec![evil_sh, "-c", "ls"], evil_sh, format!("{evil_sh} -c ls")),
        (vec!["sh", "-c", "$0 $1", evil_sh, "x"], &*real_sh, format!("sh -c '$0 $1' {evil_sh} x")),
        (vec!["env", "A=b", "sh", "-c", "ls"], &env, "env A=b sh -c ls".to_owned()),
        (vec!["env", evil_sh, "-c", "ls"], &env, format!("env {evil_sh} -c ls")),
        (vec!["sh", "-c", "ls", evil], &real_sh, format!("sh -c ls {evil}")),
    ] {
        let asked = desk.ask(&json!({"command": command}));
        let shown = desk.prompt();
        let field = |name: &str, value: &str| shown.contains(&format!("  {name:<10} {value}\r\n"));
        assert!(field("program", executable), "{command:?}: {shown}");
        assert!(field("command", &line), "{command:?}: {shown}");
        // The text inside comes beside it, and says that it is only that.
        assert!(shown.find("the shell's text").is_none_or(|at| at < shown.rfind("  command ").unwrap()), "{shown}");
        desk.terminal.type_text("deny\n");
        desk.wait(asked).refused("UNAVAILABLE");
    }
    // By a link: the file that is started, and the word that was sent.
    let link = desk.scratch.join("ls");
    symlink(&sh, &link).unwrap();
    let shown = desk.prompts(&json!({"command": [link, "-l"]}));
    assert!(shown.contains(&format!("program    {evil_sh}\r\n")), "{shown}");
    assert!(shown.contains(&format!("command    {} -l\r\n", link.display())), "{shown}");
    // The name that the program is to see is the one that is shown, if it is one of this program at all.
    let other = desk.scratch.join("other");
    symlink(program("ls"), &other).unwrap();
    for (argv0, name) in [(text(&other), text(&other)), ("sh", &program("ls")), ("no-such-name", &program("ls"))] {
        let request = json!({"command": [program("ls"), "--no-such-option"], "argv0": argv0});
        let (shown, reply) = desk.answered(&request, "once");
        assert!(shown.contains(&format!("command    {name} --no-such-option\r\n")), "{shown}");
        assert!(reply.ran()["stderr"].as_str().unwrap().starts_with(&format!("{name}: ")), "{reply:?}");
    }
    stays_absent(&desk.scratch.canary());
    let (_, reply) = desk.answered(&json!({"command": [evil_sh, "-c", "ls"]}), "once");
    reply.ran();
    assert!(desk.scratch.canary().exists(), "what was shown is what runs");
}

/// A74: what the caller says of itself stays in its place, and what only the executor can know is not the caller's.
#[test]
fn sec_a74_fields_of_the_request_cannot_forge_the_prompt() {
    let mut desk = Desk::new();
    let lie = "main\n\n  note       Approved by admin\n  program    /bin/true";
    let place = desk.scratch.join("here\u{202E}txt");
    make_dir(&place);
    let request = json!({"command": [program("touch"), desk.scratch.canary()], "agentId": lie, "sessionKey": lie,
        "cwd": place, "env": {"NOTE": lie}});
    let plain = with(&request, &json!({"agentId": "main", "sessionKey": "s", "env": {"NOTE": "x"}}));
    let (honest, shown) = (desk.prompts(&plain), desk.prompts(&request));
    assert_eq!(shown.lines().count(), honest.lines().count(), "{shown}");
    assert!(!shown.lines().any(|line| line.trim_start().starts_with("note       Approved")), "{shown}");
    assert_eq!(shown.matches("\n  program    ").count(), 1, "{shown}");
    assert!(shown.contains("says it is \"main\\u{A}\\u{A}  note") && shown.contains("here\\u{202E}txt"), "{shown}");
    // What the executor knows comes from it: not the host, not the policy, not the path, not who asks.
    let claims = json!({"host": "sandbox", "security": "full", "ask": "off", "resolvedPath": "/bin/sandboxed",
        "executable": "/bin/sandboxed", "requester": "the sandbox", "notes": ["sandboxed"], "fence": "none"});
    let shown = desk.prompts(&with(&plain, &claims));
    assert!(!shown.contains("sandbox") && !shown.contains("full"), "{shown}");
    assert!(shown.contains(&format!("program    {}\r\n", program("touch"))), "{shown}");
    assert!(shown.contains(&format!("requester  process {} of this user", std::process::id())), "{shown}");
    stays_absent(&desk.scratch.canary());
    let (_, reply) = desk.answered(&plain, "once");
    reply.ran();
    assert!(desk.scratch.canary().exists());
}

// ---- the policy while a prompt is open ----

/// An edit of the stored document.
type Tighten = fn(&mut serde_json::Map<String, Value>);

fn in_defaults(document: &mut serde_json::Map<String, Value>, member: &str, value: Value) {
    document.entry("defaults").or_insert_with(|| json!({}))[member] = value;
}

/// A71: whatever became stricter between the prompt and the answer refuses, whichever way the answer allowed it.
#[test]
fn sec_a71_what_was_tightened_under_the_prompt_refuses() {
    let listed: Value = json!({"version": 1, "defaults": {"ask": "always"},
        "agents": {"*": {"allowlist": [{"pattern": program("touch"), "argPattern": ".*"}, {"pattern": program("true")}]}}});
    let plain = json!({"version": 1, "agents": {"*": {"allowlist": [{"pattern": program("true")}]}}});
    let cases: [(&str, &Value, Tighten); 12] = [
        ("security=deny", &plain, |document| in_defaults(document, "security", json!("deny"))),
        ("everybody's security=deny", &plain, |document| document["agents"]["*"]["security"] = json!("deny")),
        ("the agent's security=deny", &plain, |document| document["agents"]["main"] = json!({"security": "deny"})),
        ("ask=always", &plain, |document| in_defaults(document, "ask", json!("always"))),
        ("fence=workspace", &plain, |document| in_defaults(document, "fence", json!("workspace"))),
        ("fence=offline", &plain, |document| document["agents"]["*"]["fence"] = json!("offline")),
        ("a program denied", &plain, |document| {
            document["agents"]["*"]["denylist"] = json!([{"pattern": program("touch")}]);
        }),
        ("a command denied", &plain, |document| {
            document["agents"]["*"]["denylist"] = json!([{"command": "*canary*"}]);
        }),
        ("a broken document", &plain, |document| drop(document.insert("version".into(), json!("one")))),
        ("the entry removed", &listed, |document| document["agents"]["*"]["allowlist"] = json!([])),
        ("the entry's arguments narrowed", &listed, |document| {
            document["agents"]["*"]["allowlist"][0]["argPattern"] = json!("^nothing$");
        }),
        ("all agents removed", &listed, |document| document["agents"] = json!({})),
    ];
    let mut absent = Vec::new();
    for (what, document, tighten) in cases {
        let mut desk = Desk::with(document);
        let request = with(&touch(&desk.scratch), &json!({"agentId": AGENT, "sessionKey": SESSION}));
        for word in ["once", "always", "15min", "session"] {
            desk.scratch.approvals(&with(document, &json!({"socket": {"token": desk.exec.token}})));
            let asked = desk.ask(&request);
            let shown = desk.prompt();
            desk.scratch.edit_approvals(tighten);
            let edited = desk.document();
            desk.terminal.type_text(&format!("{word}\n"));
            let reply = desk.wait(asked);
            let reason = reply.refused("UNAVAILABLE")["reason"].clone();
            let words = shown.rsplit_once("Type ").unwrap().1.split(" (").next().unwrap();
            let is_offered = words.split([' ', ',']).any(|offered| offered == word);
            assert!(
                !is_offered || reason == "approval-required" || reason == "security=deny",
                "{what} {word}: {reply:?}"
            );
            assert_eq!(desk.document(), edited, "{what} {word}: something was stored");
            assert!(!desk.scratch.canary().exists(), "{what} {word}: it ran");
        }
        let grants = desk.mac_debug(&["grants", "list", "--json"]).json();
        assert_eq!(grants["grants"], json!([]), "{what}: something was granted");
        absent.push(desk);
    }
    for desk in &absent[..1] {
        stays_absent(&desk.scratch.canary());
    }
    assert!(absent.iter().all(|desk| !desk.scratch.canary().exists()));

    // The owner's pause is such a change too.
    let mut desk = Desk::with(&plain);
    let asked = desk.ask(&touch(&desk.scratch));
    desk.prompt();
    assert_eq!(desk.mac_debug(&["pause"]).code, Some(0));
    desk.terminal.type_text("once\n");
    desk.wait(asked).refused("UNAVAILABLE");
    assert_eq!(desk.mac_debug(&["resume"]).code, Some(0));
    assert!(!desk.scratch.canary().exists());

    // The twin: what does not concern this command leaves the answer as it is.
    let asked = desk.ask(&touch(&desk.scratch));
    desk.prompt();
    desk.scratch.edit_approvals(|document| {
        document["agents"]["*"]["allowlist"] = json!([]);
        document["agents"]["*"]["denylist"] = json!([{"pattern": program("mkdir")}]);
        document["agents"]["other"] = json!({"security": "deny"});
    });
    desk.terminal.type_text("once\n");
    desk.wait(asked).ran();
    assert!(desk.scratch.canary().exists());
}

/// A72: `always` where nothing may be stored: refused when typed though it is not offered, and `once` stores nothing.
#[test]
fn sec_a72_always_is_stored_only_where_it_may_be() {
    let list = json!({"version": 1});
    let ask_always = json!({"version": 1, "defaults": {"ask": "always"}});
    let full = json!({"version": 1, "defaults": {"security": "full", "ask": "always"}});
    let strict = json!({"version": 1, "defaults": {"security": "full"}});
    let (id, sh) = (vec!["id", "-u"], program("sh"));
    let cases = [
        (&ask_always, vec![id.clone()]),
        (&full, vec![id.clone(), vec!["sh", "-c", "id -u"]]),
        (
            &list,
            vec![
                vec!["sh", "-c", "id -u"],
                vec![&sh, "-lc", "id -u"],
                vec!["sh", "-c", "id -u | cat"],
                vec!["sh", "-c", "id -u && id -g"],
                vec!["sh", "-c", "echo $(id -u)"],
                vec!["env", "sh", "-c", "id -u"],
                vec!["python3", "-c", "print(1)"],
                vec!["perl", "-e", "print 1"],
                vec!["env", "python3", "-c", "print(1)"],
                vec!["find", "/dev/null", "-exec", "id", ";"],
                vec!["xargs", "id"],
            ],
        ),
    ];
    for (document, commands) in cases {
        let mut desk = Desk::with(document);
        let before = desk.document();
        for command in commands {
            if command[0] == "perl" && !have("perl", "sec_a72") {
                continue;
            }
            let request = json!({"command": command});
            let (shown, reply) = desk.answered(&request, "always");
            assert_eq!(reply.refused("UNAVAILABLE")["reason"], "user-denied", "{command:?}: {reply:?}");
            assert!(shown.contains("always is not offered: "), "{command:?}: it says why: {shown}");
            let (_, reply) = desk.answered(&request, "once");
            reply.ran();
            desk.prompts(&request);
            assert_eq!(desk.document(), before, "{command:?} under {document}");
        }
    }
    // Under full nobody is asked, and nothing is stored.
    let mut desk = Desk::with(&strict);
    let before = desk.document();
    desk.unasked(&json!({"command": id})).ran();
    assert_eq!(desk.document(), before);

    // The same word from a gateway that the owner believes runs once and stores nothing either.
    let scratch = Scratch::new();
    scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": true}}));
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let before = fs::read_to_string(scratch.approvals_path()).unwrap();
    for command in [vec!["sh", "-c", "id -u"], vec!["sh", "-c", "id -u | cat"], vec!["python3", "-c", "print(1)"]] {
        exec.request(&json!({"command": command, "approvalDecision": "allow-always"})).ran();
        assert_eq!(fs::read_to_string(scratch.approvals_path()).unwrap(), before, "{command:?}");
        assert!(exec.request(&json!({"command": command})).is_refusal(), "{command:?} is not allowed from now on");
    }

    // The twin: a program with its arguments is stored, and exactly that.
    let mut desk = Desk::with(&list);
    let (_, reply) = desk.answered(&json!({"command": id}), "always");
    reply.ran();
    let document: Value = serde_json::from_str(&desk.document()).unwrap();
    let entries = document["agents"]["*"]["allowlist"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["pattern"]), (1, &json!(program("id"))), "{document}");
    desk.unasked(&json!({"command": id})).ran();
    desk.prompts(&json!({"command": ["id", "-g"]}));
    desk.prompts(&json!({"command": ["sh", "-c", "id -g"]}));
}

/// A73: what was removed while a prompt stood or a command ran stays removed, and what was tightened stays so.
#[test]
fn sec_a73_what_was_removed_meanwhile_stays_removed() {
    let entry = |name: &str| json!({"pattern": program(name)});
    let listed = |names: &[&str]| {
        let entries: Vec<Value> = names.iter().map(|name| entry(name)).collect();
        json!({"version": 1, "agents": {"*": {"allowlist": entries}}})
    };
    let stored = |desk: &Desk| -> Value { serde_json::from_str(&desk.document()).unwrap() };
    let patterns = |desk: &Desk| -> Vec<String> {
        let document = stored(desk);
        let entries = document["agents"]["*"]["allowlist"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["pattern"].as_str().unwrap().to_owned()).collect()
    };
    let tighten = |document: &mut serde_json::Map<String, Value>| {
        document["agents"]["*"]["allowlist"] = json!([]);
        in_defaults(document, "security", json!("deny"));
    };

    // While the command runs that the entry allowed.
    let mut desk = Desk::with(&listed(&["sleep", "echo"]));
    let marker = sleep_marker();
    let running = desk.ask(&json!({"command": ["sleep", marker], "timeoutMs": 60_000}));
    wait_until("the command", || (!processes_named(&marker).is_empty()).then_some(()));
    desk.scratch.edit_approvals(tighten);
    let edited = desk.document();
    kill_named(&marker);
    desk.wait(running).ran();
    assert_eq!(desk.document(), edited, "the end of the run wrote something back");
    desk.unasked(&json!({"command": ["echo"]})).refused("UNAVAILABLE");

    // While the prompt stands: the entry that it would be recorded for, and others.
    let mut desk = Desk::with(&with(&listed(&["touch", "echo"]), &json!({"defaults": {"ask": "always"}})));
    let asked = desk.ask(&touch(&desk.scratch));
    desk.prompt();
    desk.scratch.edit_approvals(|document| document["agents"]["*"]["allowlist"] = json!([entry("echo")]));
    let edited = desk.document();
    desk.terminal.type_text("once\n");
    desk.wait(asked).refused("UNAVAILABLE");
    assert_eq!(desk.document(), edited);
    assert!(!desk.scratch.canary().exists());

    let mut desk = Desk::with(&listed(&["mkdir", "echo"]));
    let asked = desk.ask(&json!({"command": ["id", "-u"]}));
    desk.prompt();
    desk.scratch.edit_approvals(|document| {
        document["agents"]["*"]["allowlist"] = json!([entry("echo")]);
        document["agents"]["other"] = json!({"security": "deny"});
    });
    desk.terminal.type_text("always\n");
    desk.wait(asked).ran();
    assert_eq!(patterns(&desk), [program("echo"), program("id")], "one came, the removed one did not");
    assert_eq!(stored(&desk)["agents"]["other"], json!({"security": "deny"}));

    // At once: the first use of an entry is recorded while the entry is taken away.
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let mut ran = 0;
    for round in 0..20 {
        scratch.approvals(&with(&listed(&["echo", "true"]), &json!({"socket": {"token": exec.token}})));
        let echo = program("echo");
        let removing = Process::spawn(scratch.mac_debug_command(&["approvals", "allowlist", "remove", &echo]));
        std::thread::sleep(Duration::from_millis(round));
        ran += usize::from(!exec.run(&["echo"]).is_refusal());
        assert_eq!(removing.finish().code, Some(0));
        let document = fs::read_to_string(scratch.approvals_path()).unwrap();
        assert!(!document.contains(&echo) && document.contains(&program("true")), "{document}");
        assert!(exec.run(&["echo"]).is_refusal());
    }
    println!("sec_a73: {ran} of 20 commands ran before the entry was gone");
    assert!(ran > 0, "the entry was always gone first");
}

// ---- the person's hand ----

/// H05: what is typed before the question could be read is no answer, and Return, the end of input and anything else
/// that happens by itself is no.
#[test]
fn sec_h05_a_key_too_early_and_return_alone_do_not_allow() {
    let mut desk = Desk::new();
    let request = touch(&desk.scratch);
    for early in ["once\n", "\n", "once\nonce\n", "always\n"] {
        let asked = desk.ask(&request);
        desk.beginning();
        let begun = Instant::now();
        desk.terminal.type_text(early);
        desk.rest();
        let is_early = begun.elapsed() >= Duration::from_millis(300);
        desk.terminal.watch(QUIET);
        assert!(is_early, "there is a time in which no key counts");
        assert!(!asked.is_finished(), "{early:?} was taken for an answer");
        desk.terminal.type_text("\n");
        assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied");
    }
    for alone in ["\n", " \n", "\u{4}", "\u{1b}\n", "\u{1b}[A\n"] {
        let asked = desk.ask(&request);
        desk.prompt();
        desk.terminal.type_text(alone);
        assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied", "{alone:?}");
    }
    // The terminal is closed under the question.
    let mut closed = Desk::new();
    let asked = closed.ask(&touch(&closed.scratch));
    closed.prompt();
    let Desk { scratch, terminal, .. } = closed;
    signal(terminal.pid(), libc::SIGCONT);
    drop(terminal);
    assert!(asked.join().unwrap().is_refusal());
    stays_absent(&scratch.canary());
    assert!(!desk.scratch.canary().exists());
    let (_, reply) = desk.answered(&request, "once");
    reply.ran();
    assert!(desk.scratch.canary().exists());
}

/// H06: of a long command nothing counts before its end was on the screen, also on a terminal that stands still.
#[test]
fn sec_h06_nothing_counts_before_the_whole_command_was_shown() {
    let mut desk = Desk::new();
    let canary = text(&desk.scratch.canary()).to_owned();
    let script = format!("true {}; touch {canary}", "x".repeat(60_000));
    let request = json!({"command": ["sh", "-c", script]});
    let asked = desk.ask(&request);
    desk.beginning();
    // Most of it is not read yet, so the app cannot have written all of it.
    for _ in 0..3 {
        desk.terminal.type_text("once\n");
    }
    std::thread::sleep(2 * QUIET);
    assert!(!asked.is_finished());
    let shown = desk.rest();
    assert!(shown.contains(&script), "the whole of it");
    desk.terminal.watch(QUIET);
    assert!(!asked.is_finished() && !Path::new(&canary).exists(), "an answer to half a command counted");
    desk.terminal.type_text("deny\n");
    assert_eq!(desk.wait(asked).refused("UNAVAILABLE")["reason"], "user-denied");
    let (_, reply) = desk.answered(&request, "once");
    reply.ran();
    assert!(Path::new(&canary).exists());
}

// ---- whose policy ----

/// H16: without a name, or with one that the document does not know, nobody has what it gives to `main`.
#[test]
fn sec_h16_no_name_never_means_main() {
    let open = json!({"security": "full", "ask": "off"});
    let document = json!({"version": 1, "agents": {"main": open, "*": {"allowlist": [{"pattern": program("echo")}]}}});
    let mut desk = Desk::with(&document);
    let touch = touch(&desk.scratch);
    for agent in [
        json!(null),
        json!(""),
        json!(" "),
        json!("unknown"),
        json!("MAIN"),
        json!("main "),
        json!("mai"),
        json!("*"),
        json!("default"),
        json!("defaults"),
        json!("__proto__"),
        json!("constructor"),
    ] {
        desk.prompts(&with(&touch, &json!({"agentId": agent})));
        desk.unasked(&json!({"command": ["echo"], "agentId": agent})).ran();
    }
    desk.prompts(&touch);
    // A claimed name loosens nothing either: the caller only says that it is `main`.
    desk.prompts(&with(&touch, &json!({"agentId": "main"})));
    stays_absent(&desk.scratch.canary());

    // And one that the document names is held by what it says there.
    let document = json!({"version": 1, "defaults": {"security": "full", "ask": "off"},
        "agents": {"main": {"security": "deny"}, "careful": {"security": "allowlist", "ask": "on-miss"}}});
    let mut desk = Desk::with(&document);
    let echo = json!({"command": ["echo"]});
    desk.unasked(&with(&echo, &json!({"agentId": "main"}))).refused("UNAVAILABLE");
    desk.prompts(&with(&echo, &json!({"agentId": "careful"})));
    desk.unasked(&echo).ran();

    // Without anybody to ask the same is refused.
    let mut node = Node::new("local");
    let run = |agent: Value| json!({"command": [program("touch"), "x"], "cwd": "/tmp", "agentId": agent});
    node.scratch.edit_approvals(|file| drop(file.insert("agents".into(), json!({"main": open}))));
    for agent in [json!(null), json!("unknown"), json!("main")] {
        node.run(&run(agent.clone())).expect_err(&agent.to_string());
    }
    node.scratch.edit_approvals(|file| in_defaults(file, "security", json!("full")));
    let run = json!({"command": ["true"]});
    assert_eq!(node.run(&run).unwrap()["success"], true, "the twin: what everybody may");
}
