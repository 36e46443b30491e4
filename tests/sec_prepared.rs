//! What a gateway may have run with an approval: the plan that this node prepared for it, once. Driven
//! through the built program, with a gateway that says whatever a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use support::{Faketime, Process, ScriptedGateway, Seat};
use support_exec::*;

const AGENT: &str = "main";
const SESSION: &str = "agent:main:main";

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
        Self::with(exec_host, &[])
    }

    /// The same with more in its environment.
    fn with(exec_host: &str, environment: &[(String, String)]) -> Self {
        let scratch = Scratch::new();
        scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": true}}));
        let app = (exec_host == "app").then(|| App::start(&scratch));
        let gateway = ScriptedGateway::new();
        let mut command = scratch.openclaw(&["node", "run", "--url", &gateway.url(), "--exec-host", exec_host]);
        command.env("OPENCLAW_GATEWAY_TOKEN", "the-token-of-this-gateway-0123456789");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
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
        if request["env"].is_object() { amended(&run, &json!({"env": request["env"]})) } else { run }
    }

    fn run(&mut self, run: &Value) -> Result<Value, Value> {
        self.seat().invoke("system.run", run)
    }
}

/// The same in the request and in the plan that it carries: a gateway that lies thoroughly.
fn with_plan(run: &Value, change: &Value) -> Value {
    let mut changed = amended(run, change);
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
            for changed in [amended(&run, &change), with_plan(&run, &change)] {
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
        let run = node.prepare(&amended(&third, &json!({"timeoutMs": 5_000})));
        node.run(&amended(&run, &json!({"timeoutMs": 60_000}))).expect_err("another limit");
        node.run(&run).expect_err("no limit");
        assert_eq!(node.run(&amended(&run, &json!({"timeoutMs": 5_000}))).unwrap()["success"], true);
        assert!(["first", "second", "third"].iter().all(|name| node.scratch.join(name).exists()));
    }
}

/// A60: a script in a shell's text has no place in the wire's plan, also where more stands behind the text.
#[test]
fn sec_a60_a_script_inside_of_a_text_cannot_be_bound() {
    let mut node = Node::new("app");
    let script = node.scratch.join("script");
    fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
    set_mode(&script, 0o700);
    for line in ["sh ./script a b c d e f", "./script a b c d e f"] {
        for command in [json!(["sh", "-c", line]), json!(["sh", "-c", line, "x"])] {
            let request = json!({"command": command, "cwd": node.scratch.path()});
            let error = node.seat().invoke("system.run.prepare", &request).expect_err(line);
            assert!(error["message"].as_str().unwrap().contains("cannot safely bind"), "{command}: {error}");
        }
    }
    let run = node.prepare(&json!({"command": ["sh", "./script", "a"], "cwd": node.scratch.path()}));
    assert_eq!(node.run(&run).unwrap()["stdout"], "ran\n");
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

/// H14: what was prepared is worth something for 30 minutes and once, whatever the gateway says later.
#[test]
fn sec_h14_a_prepared_plan_ends_with_its_time() {
    let Some(faketime) = Faketime::find("sec_h14") else { return };
    let place = Scratch::new();
    let clock = faketime.clock(place.join("clock"));
    let mut node = Node::with("local", &clock.environment());
    let request = |name: &str| json!({"command": ["touch", name], "cwd": node.scratch.path()});
    let (first, second) = (request("first"), request("second"));
    let run = node.prepare(&first);
    for offset in ["+31m", "+1d", "+31m"] {
        clock.set(offset);
        node.run(&run).expect_err(offset);
    }
    // Over is over: it does not come back with the time.
    clock.set("+0");
    node.run(&run).expect_err("the time was over once");
    assert!(!node.scratch.join("first").exists());
    // Twin: in time it runs, also a while later, and once.
    let run = node.prepare(&second);
    clock.set("+29m");
    assert_eq!(node.run(&run).unwrap_or_else(|error| panic!("{error}"))["success"], true);
    assert!(node.scratch.join("second").exists());
    clock.set("+0");
    node.run(&run).expect_err("a second time, by a clock that was set back");
}

/// A63, the same at the node: its gateway says `approved`, and a word that is no decision.
#[test]
fn sec_a63_odd_decisions_of_a_gateway_allow_nothing() {
    for host in ["app", "local"] {
        let mut node = Node::new(host);
        let run = node.prepare(&json!({"command": ["touch", "x"], "cwd": node.scratch.path()}));
        for decision in [json!("allow"), json!("ALLOW-ONCE"), json!(""), json!(true), json!({}), json!("deny")] {
            node.run(&amended(&run, &json!({"approvalDecision": decision}))).expect_err(&decision.to_string());
        }
        assert!(!node.scratch.join("x").exists(), "{host}");
        // `approved` without a decision is an approval (exec c.4).
        assert_eq!(node.run(&amended(&run, &json!({"approvalDecision": null}))).unwrap()["success"], true, "{host}");
        assert!(node.scratch.join("x").exists());
    }
}

/// H16: the same at a node that has nobody to ask.
#[test]
fn sec_h16_a_node_with_nobody_to_ask_refuses_what_it_gives_to_main() {
    let open = json!({"security": "full", "ask": "off"});
    let mut node = Node::new("local");
    let run = |agent: Value| json!({"command": [program("touch"), "x"], "cwd": "/tmp", "agentId": agent});
    node.scratch.edit_approvals(|file| drop(file.insert("agents".into(), json!({"main": open}))));
    for agent in [json!(null), json!("unknown"), json!("main")] {
        node.run(&run(agent.clone())).expect_err(&agent.to_string());
    }
    node.scratch.edit_approvals(|file| drop(file.insert("defaults".into(), json!({"security": "full"}))));
    let run = json!({"command": ["true"]});
    assert_eq!(node.run(&run).unwrap()["success"], true, "the twin: what everybody may");
}
