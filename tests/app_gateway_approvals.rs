//! What waits for approval at a gateway, answered by the person at the app.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Client, Connect, Device, Process, Pty, QUIET, TOKEN, free_port, wait_until};
use support_exec::*;

const QUESTION: &str = "allow this command?";
const ANSWER: &str = "then Return: ";
const APPROVALS: &[&str] = &["operator.approvals"];
/// Who sees what others asked.
const ALL_APPROVALS: &[&str] = &["operator.approvals", "operator.admin"];
/// Longer than a test lasts, shorter than it waits.
const LONG_MS: u64 = 15_000;

/// A scratch whose gateway's token the tests know.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    let config = json!({"gateway": {"auth": {"token": TOKEN}}}).to_string();
    write_private(&scratch.state().join("openclaw.json"), config.as_bytes());
    scratch
}

/// An app on a terminal of its own, its gateway inside.
fn start() -> (Scratch, Pty) {
    let scratch = scratch();
    let terminal = app_on_terminal(&scratch);
    (scratch, terminal)
}

/// An app that joins a gateway of others shows that its node wants in there.
fn let_own_node_in(terminal: &mut Pty) {
    let shown = terminal.expect("Type approve, reject or later, then Return: ");
    assert!(shown.contains("it is this app's own node"), "{shown}");
    terminal.type_text("approve\n");
    terminal.expect("approve by the person here");
}

/// The agent's side of the gateway at `scratch`.
fn agent(scratch: &Scratch) -> Client {
    agent_as(scratch, &Connect::backend(APPROVALS)).0
}

fn agent_as(scratch: &Scratch, connect: &Connect) -> (Client, Value) {
    let socket = scratch.state().join("gateway.sock");
    wait_until("the gateway", || std::os::unix::net::UnixStream::connect(&socket).ok());
    let mut client = Client::unix_at(&socket);
    let hello = client.connect(connect).unwrap();
    (client, hello)
}

/// As an agent's host flow asks: with the plan that the node has prepared.
fn request(id: &str, argv: &[&str]) -> Value {
    let plan = json!({"argv": argv, "cwd": "/tmp", "agentId": "main", "sessionKey": "agent:main:tests",
        "commandText": argv.join(" "), "commandPreview": null});
    json!({"id": id, "host": "node", "nodeId": "some-node", "command": argv.join(" "), "systemRunPlan": plan,
        "timeoutMs": LONG_MS, "twoPhase": true, "requireDeliveryRoute": false})
}

fn ask(agent: &mut Client, request: Value) -> String {
    let request = agent.start("exec.approval.request", request);
    assert_eq!(agent.response(&request).unwrap()["status"], "accepted");
    request
}

/// What the agent was told in the end.
fn decision(terminal: &mut Pty, agent: &mut Client, request: &str) -> Value {
    terminal.watch(Duration::from_millis(50));
    agent.response(request).unwrap()["decision"].clone()
}

/// Waits for the next prompt; gives its text.
fn prompt(terminal: &mut Pty) -> String {
    terminal.expect(QUESTION);
    terminal.expect(ANSWER)
}

fn prompts(terminal: &Pty) -> usize {
    terminal.screen().matches(QUESTION).count()
}

fn resolve(client: &mut Client, id: &str, decision: &str) -> Result<Value, Value> {
    client.request("exec.approval.resolve", json!({"id": id, "decision": decision}))
}

#[test]
fn the_person_sees_who_asks_for_what_and_answers_the_agent() {
    let (scratch, mut terminal) = start();
    let mut agent = agent(&scratch);
    for (id, word, decided) in
        [("r-1", "once", "allow-once"), ("r-2", "deny", "deny"), ("r-3", "always", "allow-always")]
    {
        let asked = ask(&mut agent, request(id, &["/bin/echo", "two words"]));
        let shown = prompt(&mut terminal);
        for part in [
            "/bin/echo 'two words'",
            "a client of the gateway at ",
            "agent      says it is \"main\"",
            "session    says it is \"agent:main:tests\"",
            "directory  the gateway says \"/tmp\"",
            "the gateway says that it would run elsewhere: host node, node some-node",
            "Type once, always or deny",
        ] {
            assert!(shown.contains(part), "{part} is not shown: {shown}");
        }
        terminal.type_text(&format!("{word}\n"));
        assert_eq!(decision(&mut terminal, &mut agent, &asked), decided);
    }
    // What the gateway does not offer is not offered here either, and no other word is an answer.
    let mut once_only = request("r-4", &["ls"]);
    once_only["ask"] = json!("always");
    let asked = ask(&mut agent, once_only);
    let shown = prompt(&mut terminal);
    assert!(shown.contains("Type once or deny (always is not offered: the gateway"), "{shown}");
    assert!(shown.contains("ask=\"always\""), "{shown}");
    terminal.type_text("always\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "deny");
    // With somebody at the app the gateway has a way to a person.
    let mut routed = request("r-5", &["ls"]);
    routed["requireDeliveryRoute"] = json!(true);
    let asked = agent.start("exec.approval.request", routed);
    assert_eq!(agent.response(&asked).unwrap()["deliveryRoute"], "approval-client");
    prompt(&mut terminal);
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "allow-once");
    // Nothing of this was a command of this machine.
    assert_eq!(scratch.mac_debug(&["audit", "show"]).stdout.matches("allowed").count(), 0);
}

/// A163: what has ended elsewhere, or by its clock, or with its requester, is withdrawn; a late word does nothing.
#[test]
fn sec_a163_what_has_ended_elsewhere_is_withdrawn() {
    let (scratch, mut terminal) = start();
    let mut requester = agent(&scratch);
    let mut operator = agent_as(&scratch, &Connect::backend(ALL_APPROVALS)).0;
    let asked = ask(&mut requester, request("elsewhere", &["ls"]));
    prompt(&mut terminal);
    resolve(&mut operator, "elsewhere", "deny").unwrap();
    terminal.expect("withdrawn");
    terminal.expect("approval elsewhere has ended at the gateway: deny by gateway-client");
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut requester, &asked), "deny");

    let mut short = request("short", &["ls"]);
    short["timeoutMs"] = json!(2_000);
    let asked = ask(&mut requester, short);
    prompt(&mut terminal);
    terminal.expect("no longer counts");
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut requester, &asked), Value::Null);

    ask(&mut requester, request("gone", &["ls"]));
    prompt(&mut terminal);
    drop(requester);
    terminal.expect("withdrawn");
    terminal.type_text("once\n");
    terminal.watch(QUIET);
    assert_eq!(resolve(&mut operator, "gone", "deny").unwrap_err()["details"]["reason"], "APPROVAL_NOT_FOUND");
    // The next one is a new one, and the old words are no answer to it.
    let asked = ask(&mut operator, request("next", &["id"]));
    prompt(&mut terminal);
    terminal.watch(QUIET);
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut operator, &asked), "allow-once");
    assert_eq!(prompts(&terminal), 4, "{}", terminal.screen());
}

/// The gateway restarts while a question stands: the records are gone, so is the question; what is asked again under
/// the same name, is asked again.
#[test]
fn a_restart_of_the_gateway_asks_nothing_twice_and_loses_nothing() {
    let scratch = scratch();
    let gateway = || {
        let process = Process::spawn(scratch.openclaw(&["gateway", "--port", &free_port().to_string()]));
        wait_until("the gateway", || process.stderr().contains("listening").then_some(()));
        process
    };
    let first = gateway();
    let mut terminal = app_on_terminal(&scratch);
    let_own_node_in(&mut terminal);
    let mut requester = agent(&scratch);
    ask(&mut requester, request("r", &["echo", "before"]));
    assert!(prompt(&mut terminal).contains("echo before"));
    first.signal(libc::SIGTERM);
    first.finish();
    let _second = gateway();
    terminal.expect("withdrawn");
    terminal.type_text("once\n");
    let mut requester = agent(&scratch);
    let asked = ask(&mut requester, request("r", &["echo", "after"]));
    assert!(prompt(&mut terminal).contains("echo after"));
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut requester, &asked), "allow-once");
    assert_eq!(prompts(&terminal), 2, "{}", terminal.screen());
}

/// The connection breaks while a question stands, and the gateway goes on: the same question, asked once, and the word
/// goes over the next connection.
#[test]
fn a_broken_connection_asks_nothing_twice() {
    let (scratch, mut terminal) = start();
    let device = Device::new();
    let connect = Connect::new("openclaw-linux", "ui", "operator", APPROVALS).device(&device);
    let hello = agent_as(&scratch, &connect).1;
    // Its own token outlives the shared one.
    let mut agent = agent_as(&scratch, &connect.device_token(hello["auth"]["deviceToken"].as_str().unwrap())).0;
    let asked = ask(&mut agent, request("r", &["ls"]));
    prompt(&mut terminal);
    // A login with a new shared token ends every session of the old one, the app's among them.
    let config = json!({"gateway": {"auth": {"token": "another-token-0123456789"}}}).to_string();
    write_private(&scratch.state().join("openclaw.json"), config.as_bytes());
    assert_eq!(scratch.mac_debug(&["nodes"]).code, Some(0));
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "allow-once");
    terminal.watch(QUIET);
    assert_eq!(prompts(&terminal), 1, "{}", terminal.screen());
    assert!(terminal.screen().contains("connecting again"), "nothing broke: {}", terminal.screen());
}

/// While everything is paused nobody is asked and nothing is answered; afterwards what still waits is asked.
#[test]
fn a_pause_keeps_the_question_for_later() {
    let (scratch, mut terminal) = start();
    let mut agent = agent(&scratch);
    assert_eq!(scratch.mac_debug(&["pause"]).code, Some(0));
    let asked = ask(&mut agent, request("r", &["ls"]));
    terminal.watch(QUIET);
    assert_eq!(prompts(&terminal), 0, "{}", terminal.screen());
    assert_eq!(scratch.mac_debug(&["resume"]).code, Some(0));
    prompt(&mut terminal);
    terminal.type_text("deny\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "deny");
    // The end of the app is the end of its questions, and of nothing else.
    ask(&mut agent, request("s", &["ls"]));
    prompt(&mut terminal);
    terminal.signal(libc::SIGTERM);
    terminal.expect("withdrawn");
    assert_eq!(terminal.finish().0, Some(0));
}

/// A66, A67, A74: everything that the requester wrote stands in its line, and nothing of it hides.
#[test]
fn sec_a66_a67_a74_what_a_gateway_relays_cannot_draw() {
    let (scratch, mut terminal) = start();
    let mut agent = agent(&scratch);
    let trick = "x\n  note       approved by admin\r\u{1b}[2J\u{8}\u{9b}\u{202e}\u{200b}\u{2028}y";
    let mut hostile = request("h", &["touch", trick, &"\n".repeat(200)]);
    for member in ["nodeId", "resolvedPath", "security", "runId", "sessionId", "turnSourceChannel"] {
        hostile[member] = json!(trick);
    }
    hostile["warningText"] = json!(trick.repeat(50));
    for member in ["cwd", "agentId", "sessionKey"] {
        hostile["systemRunPlan"][member] = json!(trick);
    }
    let asked = ask(&mut agent, hostile);
    let shown = prompt(&mut terminal);
    let hidden: Vec<char> = shown
        .replace("\r\n", "")
        .chars()
        .filter(|character| character.is_control() || "\u{202e}\u{200b}\u{2028}".contains(*character))
        .collect();
    assert_eq!(hidden, Vec::<char>::new(), "{shown:?}");
    assert!(!shown.contains("\n  note       approved by admin"), "{shown}");
    assert!(shown.lines().count() < 20, "the height is not the requester's: {shown}");
    assert_eq!(shown.matches("\\u{A}").count(), 200 + 50 + 6, "nothing is cut: {shown}");
    terminal.type_text("deny\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "deny");
}

/// A152: a thousand requests are one prompt at a time, and this machine's own commands come in between.
#[test]
fn sec_a152_a_flood_of_requests_leaves_the_prompt_usable() {
    let (scratch, mut terminal) = start();
    let exec = Exec::of(&scratch);
    let mut flood: Vec<Client> = (0..5).map(|_| agent(&scratch)).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        for place in 0..200 {
            client.start("exec.approval.request", request(&format!("f{number}-{place}"), &["true"]));
        }
        terminal.watch(Duration::from_millis(1));
    }
    let mut owner = agent_as(&scratch, &Connect::backend(ALL_APPROVALS)).0;
    assert_eq!(owner.request("exec.approval.list", json!({})).unwrap().as_array().unwrap().len(), 256);
    prompt(&mut terminal);
    terminal.type_text("deny\n");
    let own = std::thread::spawn(move || exec.run(&["uname"]));
    // At most one of the gateway's is before it.
    let mut before = 0;
    while !prompt(&mut terminal).contains("this user, through the exec socket") {
        before += 1;
        assert!(before < 3, "{}", terminal.screen());
        terminal.type_text("deny\n");
    }
    terminal.type_text("once\n");
    wait_until("the own command", || {
        terminal.watch(Duration::from_millis(10));
        own.is_finished().then_some(())
    });
    own.join().unwrap().ran();
    let shown = prompt(&mut terminal);
    assert!(shown.contains(" more wait at the gateway"), "{shown}");
    drop(flood);
    terminal.expect("withdrawn");
    let mut agent = agent(&scratch);
    let asked = ask(&mut agent, request("after", &["id"]));
    assert!(prompt(&mut terminal).contains("command    id"), "{}", terminal.screen());
    terminal.type_text("once\n");
    assert_eq!(decision(&mut terminal, &mut agent, &asked), "allow-once");
}

/// Two apps at one gateway: both persons are asked, the first word counts, the other question goes.
#[test]
fn the_first_of_two_apps_answers() {
    let (ours, other) = (scratch(), scratch());
    let port = free_port().to_string();
    let app = |scratch: &Scratch| Pty::spawn(scratch.openclaw(&["app", "--ask", "terminal", "--port", &port]));
    let mut first = app(&ours);
    let mut agent = agent(&ours);
    let mut second = app(&other);
    second.expect("the gateway is ws:");
    let_own_node_in(&mut second);
    for (id, word, decided) in [("a", "once", "allow-once"), ("b", "deny", "deny")] {
        let asked = ask(&mut agent, request(id, &["ls"]));
        prompt(&mut first);
        prompt(&mut second);
        second.type_text(&format!("{word}\n"));
        assert_eq!(decision(&mut second, &mut agent, &asked), decided);
        first.expect(&format!("approval {id} has ended at the gateway: {decided} by openclaw app on "));
    }
}

/// Nobody is told of where nobody can be asked: no desktop, operators instead, or not wanted.
#[test]
fn an_app_without_a_person_is_no_operator() {
    for arguments in [
        &["app", "--no-tcp", "--ask", "none"][..],
        &["app", "--no-tcp", "--ask", "operator"],
        // Without a controlling terminal.
        &["app", "--no-tcp", "--ask", "terminal"],
    ] {
        let scratch = scratch();
        let mut command = scratch.openclaw_under(&["setsid"], arguments);
        command.stdin(std::process::Stdio::null());
        let app = App::start_with(&scratch, command);
        no_route(&scratch);
        drop(app);
    }
    let scratch = scratch();
    let mut terminal = Pty::spawn(scratch.openclaw(&["app", "--no-tcp", "--no-gateway-approvals"]));
    terminal.expect("app: ready;");
    no_route(&scratch);
    terminal.watch(QUIET);
    assert_eq!(prompts(&terminal), 0, "{}", terminal.screen());
}

fn no_route(scratch: &Scratch) {
    let (mut agent, end) = (agent(scratch), Instant::now() + Duration::from_secs(1));
    while Instant::now() < end {
        let mut routed = request("x", &["ls"]);
        let members = routed.as_object_mut().unwrap();
        members.remove("id");
        members.remove("requireDeliveryRoute");
        let asked = agent.start("exec.approval.request", routed);
        assert_eq!(agent.response(&asked).unwrap()["deliveryRoute"], "none");
        assert_eq!(agent.response(&asked).unwrap()["decision"], Value::Null);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command of this machine that the gateway has asked about: what the answer is worth here is said, and unless the
/// owner trusts the gateway's approvals this machine asks for itself, saying that the gateway was asked before.
#[test]
fn a_command_for_this_machine_says_that_its_own_rules_come_next() {
    for (trusts, says) in
        [(false, "whose own rules come next"), (true, "on your word alone if this machine has prepared it")]
    {
        let scratch = scratch();
        scratch.approvals(&json!({"version": 1, "local": {"trustGatewayApprovals": trusts}}));
        let mut terminal = app_on_terminal(&scratch);
        wait_for_node(&scratch);
        let scopes = ["operator.approvals", "operator.read", "operator.write"];
        let mut agent = agent_as(&scratch, &Connect::backend(&scopes)).0;
        let nodes = agent.request("node.list", json!({})).unwrap();
        let node = nodes["nodes"][0]["nodeId"].clone();
        let canary = scratch.canary();
        let argv = json!([program("touch"), canary]);
        let invoke = |command: &str, params: Value| json!({"nodeId": node, "command": command, "params": params, "idempotencyKey": format!("{command}-1")});
        let prepared = agent
            .request("node.invoke", invoke("system.run.prepare", json!({"command": argv, "cwd": "/tmp"})))
            .unwrap();
        let plan = prepared["payload"]["plan"].clone();
        let asked = ask(
            &mut agent,
            json!({"id": "own", "host": "node", "nodeId": node, "systemRunPlan": plan, "timeoutMs": LONG_MS,
                "twoPhase": true, "requireDeliveryRoute": false}),
        );
        let shown = prompt(&mut terminal);
        assert!(shown.contains(says) && shown.contains("it would run on this machine"), "{shown}");
        terminal.type_text("once\n");
        assert_eq!(decision(&mut terminal, &mut agent, &asked), "allow-once");
        let run = json!({"command": argv, "cwd": "/tmp", "systemRunPlan": plan, "runId": "own", "approved": true,
            "approvalDecision": "allow-once"});
        let run = agent.start("node.invoke", invoke("system.run", run));
        if !trusts {
            let shown = prompt(&mut terminal);
            assert!(shown.contains("the gateway says that it was approved there (allow-once)"), "{shown}");
            assert!(!canary.exists());
            terminal.type_text("once\n");
        }
        terminal.watch(Duration::from_millis(100));
        let ran = agent.response(&run).unwrap();
        assert_eq!(ran["payload"]["success"], true, "{ran}");
        assert!(canary.exists());
        assert_eq!(prompts(&terminal), if trusts { 1 } else { 2 }, "{}", terminal.screen());
    }
}
