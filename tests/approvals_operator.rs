//! A command that waits for an operator's word: the gateway's records, and the app that asks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Client, Connect, Device, Gateway, Process, TOKEN, free_port, wait_until};
use support_exec::*;

const APPROVALS: &[&str] = &["operator.approvals"];
/// Sees what others ask.
const ADMIN: &[&str] = &["operator.admin"];
/// Longer than a test lasts, shorter than it waits.
const LONG_MS: u64 = 15_000;

fn asker(gateway: &Gateway) -> Client {
    Client::login(gateway, &Connect::backend(APPROVALS))
}

/// An approval client: a paired device that shows approvals to its person.
fn reviewer(gateway: &Gateway, scopes: &[&str]) -> Client {
    let connect = Connect::new("openclaw-macos", "ui", "operator", scopes).device(&Device::new());
    Client::login(gateway, &connect.set("client/displayName", json!("reviewer")))
}

fn ask(id: &str) -> Value {
    json!({"id": id, "host": "gateway", "command": "ls -la", "commandArgv": ["ls", "-la"], "timeoutMs": LONG_MS,
        "requireDeliveryRoute": false})
}

fn resolve(client: &mut Client, id: &str, decision: &str) -> Result<Value, Value> {
    client.request("exec.approval.resolve", json!({"id": id, "decision": decision}))
}

fn listed(client: &mut Client) -> Vec<String> {
    let list = client.request("exec.approval.list", json!({})).unwrap();
    list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until this many records wait.
fn wait_listed(client: &mut Client, count: usize) -> Vec<String> {
    wait_until("the records", || Some(listed(client)).filter(|ids| ids.len() == count))
}

/// frames/rpc-exec-approval-resolve-flow.json
#[test]
fn a_request_is_accepted_shown_answered_once_and_stays_answered() {
    let gateway = Gateway::new();
    let mut reviewer = reviewer(&gateway, &["operator.admin"]);
    let mut asker = asker(&gateway);
    let plan = json!({"argv": ["/bin/echo", "a b"], "cwd": "/tmp", "agentId": "main", "sessionKey": "s",
        "commandText": "/bin/echo \"a b\"", "commandPreview": null});
    let request = asker.start(
        "exec.approval.request",
        json!({"id": "r-1", "host": "node", "nodeId": "n", "command": "something else", "cwd": "/elsewhere",
            "systemRunPlan": plan, "timeoutMs": LONG_MS, "twoPhase": true}),
    );
    let accepted = asker.response(&request).unwrap();
    assert_eq!((&accepted["status"], &accepted["id"]), (&json!("accepted"), &json!("r-1")), "{accepted}");
    assert_eq!(accepted["deliveryRoute"], "approval-client");

    let shown = reviewer.event("exec.approval.requested");
    assert_eq!((&shown["id"], &shown["approvalKind"]), (&json!("r-1"), &json!("exec")), "{shown}");
    // The plan is what would run, so the plan is what is shown.
    assert_eq!(shown["request"]["command"], "/bin/echo 'a b'");
    assert_eq!((&shown["request"]["cwd"], &shown["request"]["agentId"]), (&json!("/tmp"), &json!("main")));
    assert_eq!(shown["request"]["allowedDecisions"], json!(["allow-once", "allow-always", "deny"]));
    let got = reviewer.request("exec.approval.get", json!({"id": "r-1"})).unwrap();
    assert_eq!((&got["commandText"], &got["nodeId"]), (&json!("/bin/echo 'a b'"), &json!("n")), "{got}");
    assert_eq!(reviewer.request("exec.approval.list", json!({})).unwrap(), json!([shown]));

    let waiting = asker.start("exec.approval.waitDecision", json!({"id": "r-1"}));
    for word in ["maybe", "ALLOW-ONCE", "allow", ""] {
        assert_eq!(resolve(&mut reviewer, "r-1", word).unwrap_err()["message"], "invalid decision", "{word}");
    }
    for odd in [json!(true), Value::Null, json!({})] {
        let error = reviewer.request("exec.approval.resolve", json!({"id": "r-1", "decision": odd})).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
    assert_eq!(resolve(&mut reviewer, "r-1", "allow-once").unwrap(), json!({"ok": true}));
    let waited = asker.response(&waiting).unwrap();
    assert_eq!((&waited["decision"], &waited["terminalReason"]), (&json!("allow-once"), &json!("user")), "{waited}");
    assert_eq!(asker.response(&request).unwrap()["decision"], "allow-once");
    let resolved = reviewer.event("exec.approval.resolved");
    assert_eq!((&resolved["decision"], &resolved["resolvedBy"]), (&json!("allow-once"), &json!("reviewer")));

    assert_eq!(resolve(&mut reviewer, "r-1", "allow-once").unwrap(), json!({"ok": true}), "the same again is fine");
    let error = resolve(&mut reviewer, "r-1", "deny").unwrap_err();
    assert_eq!(error["details"]["reason"], "APPROVAL_ALREADY_RESOLVED", "{error}");
    let again = asker.request("exec.approval.waitDecision", json!({"id": "r-1"})).unwrap();
    assert_eq!(again["decision"], "allow-once", "known for a while after the end");
    assert_eq!(listed(&mut reviewer), [""; 0]);
}

/// frames/rpc-exec-approval-no-route.json, -timeout.json, -deny-and-unknown.json; A63: nobody there
/// is said at once, and never means yes.
#[test]
fn sec_a63_without_an_answer_there_is_no_decision() {
    let gateway = Gateway::new();
    let mut asker = asker(&gateway);
    let started = Instant::now();
    let mut request = ask("no-route");
    request.as_object_mut().unwrap().remove("requireDeliveryRoute");
    let answer = asker.request("exec.approval.request", request).unwrap();
    assert!(answer["decision"].is_null() && started.elapsed() < Duration::from_secs(5), "{answer}");
    assert_eq!(
        resolve(&mut asker, "no-route", "allow-once").unwrap_err()["details"]["reason"],
        "APPROVAL_ALREADY_RESOLVED"
    );

    let started = Instant::now();
    let mut request = ask("slow");
    request["timeoutMs"] = json!(600);
    let answer = asker.request("exec.approval.request", request).unwrap();
    assert!(answer["decision"].is_null(), "{answer}");
    let took = started.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(5)).contains(&took), "the whole deadline: {took:?}");
    // A163: too late is too late.
    assert_eq!(
        resolve(&mut asker, "slow", "allow-once").unwrap_err()["details"]["reason"],
        "APPROVAL_ALREADY_RESOLVED"
    );

    let error = resolve(&mut asker, "nobody-knows", "deny").unwrap_err();
    assert_eq!(error["message"], "unknown or expired approval id");
    assert_eq!(error["details"]["reason"], "APPROVAL_NOT_FOUND");
    let error = asker.request("exec.approval.waitDecision", json!({"id": "nobody-knows"})).unwrap_err();
    assert_eq!(error["message"], "approval expired or not found");
    for (change, message) in [
        (json!({"host": "node"}), "nodeId is required for host=node"),
        (json!({"host": "node", "nodeId": "n"}), "systemRunPlan is required for host=node"),
        (json!({"id": "plugin:x"}), "approval ids starting with plugin: are reserved"),
        (json!({"command": "x".repeat(70_000), "commandArgv": null}), "command exceeds exec approval display limit"),
        (json!({"command": " ", "commandArgv": null}), "command is required, and the argv of a plan must not be empty"),
    ] {
        let mut request = ask("bad");
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(asker.request("exec.approval.request", request).unwrap_err()["message"], message);
    }
}

/// What is not offered is no answer, and an id is one record's.
#[test]
fn always_only_where_it_is_offered_and_ids_are_unique() {
    let gateway = Gateway::new();
    let (mut one, mut two) = (asker(&gateway), Client::login(&gateway, &Connect::backend(ADMIN)));
    let mut request = ask("once-only");
    request["unavailableDecisions"] = json!(["allow-always"]);
    let request = one.start("exec.approval.request", request);
    assert_eq!(wait_listed(&mut two, 1), ["once-only"]);
    let error = two.request("exec.approval.request", ask("once-only")).unwrap_err();
    assert_eq!(error["message"], "approval id already pending");
    let error = resolve(&mut two, "once-only", "allow-always").unwrap_err();
    assert_eq!(error["details"]["reason"], "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE");
    resolve(&mut two, "once-only", "deny").unwrap();
    assert_eq!(one.response(&request).unwrap()["decision"], "deny");
}

/// A46: only operator.approvals and operator.admin answer; the record stays as it was.
#[test]
fn sec_a46_write_is_not_the_right_to_approve() {
    let gateway = Gateway::new();
    let mut asker = asker(&gateway);
    let request = asker.start("exec.approval.request", ask("r"));
    let mut writer = Client::login(&gateway, &Connect::cli(&["operator.write", "operator.read", "operator.pairing"]));
    let members = json!({"id": "r", "decision": "allow-once"});
    for (method, params) in [
        ("exec.approval.request", ask("mine")),
        ("exec.approval.resolve", members.clone()),
        ("exec.approval.waitDecision", json!({"id": "r"})),
        ("exec.approval.get", json!({"id": "r"})),
        ("exec.approval.list", json!({})),
        ("approval.get", json!({"id": "r"})),
        ("approval.resolve", json!({"id": "r", "kind": "exec", "decision": "allow-once"})),
    ] {
        let error = writer.request(method, params).unwrap_err();
        assert_eq!((&error["code"], &error["details"]["missingScope"]), (&json!("FORBIDDEN"), &json!(APPROVALS[0])));
    }
    for (method, params) in [
        ("exec.approvals.node.set", json!({"nodeId": "n", "file": {}})),
        ("exec.approvals.set", json!({"file": {}})),
        ("exec.approvals.get", json!({})),
    ] {
        let error = writer.request(method, params).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin", "{error}");
    }
    assert_eq!(writer.request("chat.send", members).unwrap_err()["message"], "unknown method: chat.send");
    let mut approver = Client::login(&gateway, &Connect::cli(ADMIN));
    assert_eq!(wait_listed(&mut approver, 1), ["r"]);
    resolve(&mut approver, "r", "deny").unwrap();
    assert_eq!(asker.response(&request).unwrap()["decision"], "deny");
}

/// A47: events go to approval clients with the scope, to nobody else, and not to the requester.
#[test]
fn sec_a47_only_approval_clients_hear_of_approvals() {
    let gateway = Gateway::new();
    let node = Device::new();
    let mut deaf = vec![
        Client::login(&gateway, &Connect::cli(&["operator.approvals", "operator.read", "operator.write"])),
        reviewer(&gateway, &["operator.pairing", "operator.read", "operator.write"]),
        // They may approve, but not what others ask.
        reviewer(&gateway, APPROVALS),
        Client::login(&gateway, &Connect::cli(APPROVALS).set("caps", json!(["exec-approvals"]))),
        Client::login(
            &gateway,
            &Connect::node(&node, &support::Surface::mac(&["system.run"])).set("caps", json!(["approvals"])),
        ),
    ];
    let mut hears = [
        reviewer(&gateway, ADMIN),
        Client::login(&gateway, &Connect::cli(ADMIN).set("caps", json!(["exec-approvals"]))),
    ];
    let mut asker = Client::login(&gateway, &Connect::backend(APPROVALS).set("caps", json!(["approvals"])));
    let request = asker.start("exec.approval.request", ask("r"));
    for client in &mut hears {
        assert_eq!(client.event("exec.approval.requested")["id"], "r");
    }
    resolve(&mut hears[0], "r", "deny").unwrap();
    for client in &mut hears {
        assert_eq!(client.event("exec.approval.resolved")["decision"], "deny");
    }
    assert_eq!(asker.response(&request).unwrap()["decision"], "deny");
    deaf.push(asker);
    for client in &mut deaf {
        client.no_event("exec.approval.requested");
        client.no_event("exec.approval.resolved");
    }
}

/// Who sees and answers a record: administrators, the device that asked, the connection that asked. To everybody else
/// it is not there, whatever the method, also when they name themselves as reviewers.
#[test]
fn sec_a47_a_record_is_shown_to_its_requester_and_to_administrators_only() {
    let gateway = Gateway::new();
    let device = Device::new();
    let paired = |device: &Device| Connect::new("openclaw-macos", "ui", "operator", APPROVALS).device(device);
    let mut admin = reviewer(&gateway, ADMIN);
    let stranger = Device::new();
    let mut strangers = [
        Client::login(&gateway, &paired(&stranger)),
        Client::login(&gateway, &Connect::cli(APPROVALS).set("caps", json!(["approvals"]))),
    ];
    let mut twin = Client::login(&gateway, &paired(&device));
    for by_device in [true, false] {
        let id = if by_device { "of-a-device" } else { "of-a-connection" };
        let mut asker = if by_device { Client::login(&gateway, &paired(&device)) } else { asker(&gateway) };
        let mut asked = ask(id);
        asked["approvalReviewerDeviceIds"] = json!([stranger.id()]);
        let request = asker.start("exec.approval.request", asked);
        assert_eq!(admin.event("exec.approval.requested")["id"], id);
        assert_eq!(listed(&mut asker), [id]);
        if by_device {
            assert_eq!(twin.event("exec.approval.requested")["id"], id);
            assert_eq!(listed(&mut twin), [id]);
        }
        for client in &mut strangers {
            assert_eq!(listed(client), [""; 0]);
            for (method, params) in [
                ("exec.approval.get", json!({"id": id})),
                ("exec.approval.resolve", json!({"id": id, "decision": "allow-once"})),
                ("approval.get", json!({"id": id})),
                ("approval.resolve", json!({"id": id, "kind": "exec", "decision": "allow-once"})),
            ] {
                let error = client.request(method, params).unwrap_err();
                assert_eq!(error["details"]["reason"], "APPROVAL_NOT_FOUND", "{method}: {error}");
            }
            let error = client.request("exec.approval.waitDecision", json!({"id": id})).unwrap_err();
            assert_eq!(error["message"], "approval expired or not found");
            client.no_event("exec.approval.requested");
        }
        resolve(if by_device { &mut twin } else { &mut admin }, id, "deny").unwrap();
        assert_eq!(asker.response(&request).unwrap()["decision"], "deny");
        for client in &mut strangers {
            assert_eq!(client.request("approval.history", json!({})).unwrap(), json!({"items": []}));
            client.no_event("exec.approval.resolved");
        }
    }
}

/// A152: one client cannot take every place, and what others ask stays visible.
#[test]
fn sec_a152_floods_are_bounded() {
    let mut gateway = Gateway::new();
    let mut flood = asker(&gateway);
    let ids: Vec<String> =
        (0..1_000).map(|number| flood.start("exec.approval.request", ask(&format!("f{number}")))).collect();
    let error = flood.response(&ids[999]).unwrap_err();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)), "{error}");
    let mut other = Client::login(&gateway, &Connect::backend(ADMIN));
    let request = other.start("exec.approval.request", ask("other"));
    let seen = wait_listed(&mut other, 65);
    assert_eq!((seen[0].as_str(), seen[64].as_str()), ("f0", "other"), "in the order in which they came");

    let mut more: Vec<Client> = (0..4).map(|_| asker(&gateway)).collect();
    for (number, client) in more.iter_mut().enumerate() {
        for place in 0..64 {
            client.start("exec.approval.request", ask(&format!("m{number}-{place}")));
        }
        client.request("exec.approval.list", json!({})).unwrap();
    }
    assert_eq!(listed(&mut other).len(), 256);
    let error = asker(&gateway).request("exec.approval.request", ask("late")).unwrap_err();
    assert_eq!(error["code"], "UNAVAILABLE");
    // Gone clients leave their places.
    drop((flood, more));
    wait_listed(&mut other, 1);
    resolve(&mut other, "other", "deny").unwrap();
    assert_eq!(other.response(&request).unwrap()["decision"], "deny");
    gateway.assert_alive();
}

/// A163: a requester that has gone takes its request along; a late answer finds nothing.
#[test]
fn sec_a163_a_request_goes_with_its_requester() {
    let gateway = Gateway::new();
    let mut reviewer = reviewer(&gateway, ADMIN);
    let mut first = asker(&gateway);
    first.start("exec.approval.request", ask("first"));
    reviewer.event("exec.approval.requested");
    let waiting = reviewer.start("exec.approval.waitDecision", json!({"id": "first"}));
    // One connection's requests are handled in order: with this answer the other one waits.
    assert_eq!(listed(&mut reviewer), ["first"]);
    first.close();
    assert_eq!(reviewer.event("exec.approval.resolved")["decision"], "deny");
    assert!(reviewer.response(&waiting).unwrap()["decision"].is_null());
    let mut second = asker(&gateway);
    let request = second.start("exec.approval.request", ask("second"));
    assert_eq!(reviewer.event("exec.approval.requested")["id"], "second", "the next one shows at once");
    let error = resolve(&mut reviewer, "first", "allow-once").unwrap_err();
    assert_eq!(error["message"], "unknown or expired approval id");
    assert_eq!(listed(&mut reviewer), ["second"], "the late answer had no effect on another request");
    resolve(&mut reviewer, "second", "deny").unwrap();
    assert_eq!(second.response(&request).unwrap()["decision"], "deny");
}

/// A164: equal ids at two gateways are two records.
#[test]
fn sec_a164_an_answer_stays_at_its_gateway() {
    let gateways = [Gateway::new(), Gateway::new()];
    let mut askers: Vec<Client> = gateways.iter().map(asker).collect();
    let requests: Vec<String> =
        askers.iter_mut().map(|client| client.start("exec.approval.request", ask("same"))).collect();
    let mut operators: Vec<Client> =
        gateways.iter().map(|gateway| Client::login(gateway, &Connect::backend(ADMIN))).collect();
    for operator in &mut operators {
        wait_listed(operator, 1);
    }
    resolve(&mut operators[1], "same", "allow-once").unwrap();
    assert_eq!(askers[1].response(&requests[1]).unwrap()["decision"], "allow-once");
    assert_eq!(listed(&mut operators[0]), ["same"], "the other one still waits");
    resolve(&mut operators[0], "same", "deny").unwrap();
    assert_eq!(askers[0].response(&requests[0]).unwrap()["decision"], "deny");
}

// ---- the app that asks operators ----

fn operator_app(scratch: &Scratch) -> App {
    let app = App::start_with(scratch, scratch.openclaw(&["app", "--ask", "operator", "--no-tcp"]));
    wait_for_node(scratch);
    app
}

/// The one approval that waits.
fn waiting(scratch: &Scratch) -> Value {
    wait_until("an approval", || {
        let list = scratch.mac_debug(&["approvals", "list", "--json"]);
        serde_json::from_str::<Value>(&list.stdout).ok()?.get(0).cloned()
    })
}

fn nothing_waits(scratch: &Scratch) {
    wait_until("an empty list", || {
        (scratch.mac_debug(&["approvals", "list"]).stdout == "nothing waits for an answer\n").then_some(())
    });
}

#[test]
fn an_operator_answers_for_the_person() {
    let scratch = Scratch::new();
    let app = operator_app(&scratch);
    let canary = scratch.canary();
    let touch = ["run", "--env", "NOTE=\u{1b}[2Jx", "--", "touch", canary.to_str().unwrap()];

    let run = Process::spawn(scratch.mac_debug_command(&touch));
    let row = waiting(&scratch);
    let id = row["id"].as_str().unwrap();
    assert_eq!(row["request"]["command"], format!("touch {}", canary.display()), "{row}");
    assert!((1..=120).contains(&row["secondsLeft"].as_i64().unwrap()), "{row}");
    let list = scratch.mac_debug(&["approvals", "list"]).stdout;
    for word in [id, canary.to_str().unwrap(), "NOTE=\\u{1B}[2Jx", "directory", "ends in"] {
        assert!(list.contains(word), "{word} in {list}");
    }
    let log = app.log();
    assert!(log.contains(&format!("approval {id} command: touch {}", canary.display())), "{log}");
    assert_eq!(log.matches(&format!("approval {id} waits")).count(), 1, "{log}");
    assert_eq!(scratch.mac_debug(&["approvals", "deny", id]).code, Some(0));
    let refused = run.finish();
    assert_eq!(refused.code, Some(126), "{refused:?}");
    assert!(refused.stderr.contains("user denied"), "{refused:?}");
    stays_absent(&canary);
    let late = scratch.mac_debug(&["approvals", "allow-once", id]);
    assert!(late.code == Some(1) && late.stderr.contains("APPROVAL") || late.stderr.contains("approval"), "{late:?}");

    let run = Process::spawn(scratch.mac_debug_command(&touch));
    let id = waiting(&scratch)["id"].as_str().unwrap().to_owned();
    assert_eq!(scratch.mac_debug(&["approvals", "allow-always", &id]).stdout, "answered: allow-always\n");
    assert_eq!(run.finish().code, Some(0));
    assert!(canary.exists());
    // Always means without another question, for exactly this.
    assert_eq!(scratch.mac_debug(&touch).code, Some(0));

    // What starts a shell is never offered as always.
    let run = Process::spawn(scratch.mac_debug_command(&["run", "--", "sh", "-c", "echo from the shell"]));
    let row = waiting(&scratch);
    assert_eq!(row["request"]["allowedDecisions"], json!(["allow-once", "deny"]));
    let id = row["id"].as_str().unwrap();
    assert_ne!(scratch.mac_debug(&["approvals", "allow-always", id]).code, Some(0));
    assert_eq!(scratch.mac_debug(&["approvals", "allow-once", id]).code, Some(0));
    assert_eq!(run.finish().stdout, "from the shell\n");
    nothing_waits(&scratch);
    for bad in [&["approvals", "allow", "x"][..], &["approvals", "deny"], &["approvals", "list", "x"]] {
        assert_eq!(scratch.mac_debug(bad).code, Some(2), "{bad:?}");
    }
}

/// A163: the caller goes, and the record with it.
#[test]
fn sec_a163_a_withdrawn_command_is_withdrawn_at_the_gateway() {
    let scratch = Scratch::new();
    let _app = operator_app(&scratch);
    let run = Process::spawn(scratch.mac_debug_command(&["run", "--", "touch", scratch.canary().to_str().unwrap()]));
    let id = waiting(&scratch)["id"].as_str().unwrap().to_owned();
    drop(run);
    nothing_waits(&scratch);
    let late = scratch.mac_debug(&["approvals", "allow-once", &id]);
    assert!(late.code == Some(1) && late.stderr.contains("unknown or expired"), "{late:?}");
    stays_absent(&scratch.canary());
}

/// The gateway is restarted while a question stands: the app asks again, under the same id.
#[test]
fn a_question_survives_the_restart_of_the_gateway() {
    let scratch = Scratch::new();
    make_dir(&scratch.state());
    write_private(
        &scratch.state().join("openclaw.json"),
        json!({"gateway": {"auth": {"token": TOKEN}}}).to_string().as_bytes(),
    );
    let gateway = || {
        let process = Process::spawn(scratch.openclaw(&["gateway", "--port", &free_port().to_string()]));
        wait_until("the gateway", || process.stderr().contains("listening").then_some(()));
        process
    };
    let first = gateway();
    let app = App::start_with(&scratch, scratch.openclaw(&["app", "--ask", "operator"]));
    let mut exec = Some(std::thread::spawn({
        let exec = app.exec(&scratch);
        move || exec.run(&["echo", "after the restart"])
    }));
    let id = waiting(&scratch)["id"].clone();
    first.signal(libc::SIGTERM);
    first.finish();
    let _second = gateway();
    assert_eq!(waiting(&scratch)["id"], id);
    assert_eq!(scratch.mac_debug(&["approvals", "allow-once", id.as_str().unwrap()]).code, Some(0));
    let reply = exec.take().unwrap().join().unwrap();
    assert_eq!(reply.ran()["stdout"], "after the restart\n", "{}", app.log());
}

/// The methods by which the official CLI resolves: one record, whichever door it came through.
#[test]
fn the_methods_for_all_kinds_of_approvals_see_the_same_records() {
    let gateway = Gateway::new();
    let mut asker = asker(&gateway);
    let request = asker.start("exec.approval.request", ask("r"));
    let mut approver = Client::login(&gateway, &Connect::cli(ADMIN));
    assert_eq!(wait_listed(&mut approver, 1), ["r"]);
    for method in ["plugin.approval.list", "openclaw.approval.list"] {
        assert_eq!(approver.request(method, json!({})).unwrap(), json!([]), "{method}");
    }
    let pending = approver.request("approval.get", json!({"id": "r"})).unwrap()["approval"].clone();
    assert_eq!((&pending["id"], &pending["status"]), (&json!("r"), &json!("pending")), "{pending}");
    let shown = &pending["presentation"];
    assert_eq!(shown["kind"], "exec");
    let listed = approver.request("exec.approval.list", json!({})).unwrap()[0].clone();
    assert_eq!(shown["commandText"], listed["request"]["command"]);
    assert_eq!((&pending["createdAtMs"], &pending["expiresAtMs"]), (&listed["createdAtMs"], &listed["expiresAtMs"]));
    let decide = |decision: &str, kind: &str| json!({"id": "r", "kind": kind, "decision": decision});
    for bad in [decide("maybe", "exec"), decide("deny", "plugin")] {
        assert_eq!(approver.request("approval.resolve", bad).unwrap_err()["code"], "INVALID_REQUEST");
    }
    let answer = approver.request("approval.resolve", decide("deny", "exec")).unwrap();
    assert_eq!(answer["applied"], true);
    assert_eq!((&answer["approval"]["status"], &answer["approval"]["decision"]), (&json!("denied"), &json!("deny")));
    assert_eq!(asker.response(&request).unwrap()["decision"], "deny");
    // It is known for a while; who comes too late learns what holds.
    assert_eq!(approver.request("approval.get", json!({"id": "r"})).unwrap()["approval"], answer["approval"]);
    for late in ["deny", "allow-once"] {
        let late = approver.request("approval.resolve", decide(late, "exec")).unwrap();
        assert_eq!((&late["applied"], &late["approval"]), (&json!(false), &answer["approval"]));
    }
    for method in ["approval.get", "approval.resolve"] {
        let mut params = decide("deny", "exec");
        params["id"] = json!("nobody-knows");
        if method == "approval.get" {
            params = json!({"id": "nobody-knows"});
        }
        let error = approver.request(method, params).unwrap_err();
        assert_eq!(error["details"]["reason"], "APPROVAL_NOT_FOUND", "{error}");
    }
}

/// `approval.history`, and the words for every kind of end. Source: schema `ApprovalSnapshot`.
#[test]
fn what_has_ended_is_told_for_a_while_newest_first() {
    let gateway = Gateway::new();
    let mut asker = asker(&gateway);
    let mut admin = Client::login(&gateway, &Connect::cli(ADMIN));
    let unrouted = json!({"id": "unrouted", "command": "ls", "sessionKey": "s", "agentId": "main"});
    asker.request("exec.approval.request", unrouted).unwrap();
    let mut short = ask("slow");
    short["timeoutMs"] = json!(100);
    asker.request("exec.approval.request", short).unwrap();
    let allowed = asker.start("exec.approval.request", ask("allowed"));
    wait_listed(&mut admin, 1);
    resolve(&mut admin, "allowed", "allow-always").unwrap();
    asker.response(&allowed).unwrap();
    let waiting = asker.start("exec.approval.request", ask("waiting"));
    assert_eq!(wait_listed(&mut admin, 1), ["waiting"]);

    let history = |client: &mut Client, params: Value| client.request("approval.history", params);
    let items = history(&mut admin, json!({})).unwrap()["items"].clone();
    let words: Vec<_> =
        (0..3).map(|row| ["id", "status", "reason"].map(|name| items[row][name].as_str().unwrap())).collect();
    assert_eq!(
        words,
        [["allowed", "allowed", "user"], ["slow", "expired", "timeout"], ["unrouted", "denied", "no-route"]]
    );
    assert_eq!(items[0]["resolver"], json!({"kind": "runtime", "id": "cli"}));
    assert_eq!((&items[0]["decision"], &items[0]["source"]), (&json!("allow-always"), &json!({})));
    assert_eq!(items[2]["source"], json!({"agentId": "main", "sessionKey": "s"}));
    assert_eq!(items[2]["urlPath"], "/approve/unrouted");
    let first = history(&mut admin, json!({"limit": 1, "kind": "exec"})).unwrap();
    assert_eq!(first, json!({"items": [items[0]], "nextCursor": "allowed"}));
    let next = history(&mut admin, json!({"limit": 1, "cursor": "allowed"})).unwrap();
    assert_eq!(next, json!({"items": [items[1]], "nextCursor": "slow"}));
    let last = history(&mut admin, json!({"cursor": "slow"})).unwrap();
    assert_eq!((&last["items"][0], &last["nextCursor"]), (&items[2], &Value::Null));
    assert_eq!(history(&mut admin, json!({"kind": "plugin"})).unwrap(), json!({"items": []}));
    assert_eq!(history(&mut admin, json!({"cursor": "x"})).unwrap_err()["message"], "invalid approval.history cursor");
    for bad in [json!({"limit": 0}), json!({"kind": "any"}), json!({"cursor": ""}), json!({"x": 1})] {
        assert_eq!(history(&mut admin, bad).unwrap_err()["code"], "INVALID_REQUEST");
    }
    resolve(&mut admin, "waiting", "deny").unwrap();
    asker.response(&waiting).unwrap();
}
