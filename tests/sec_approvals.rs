//! What an answer is worth: odd ones, none, one that a changed policy overtakes, one for ever; and for
//! whom. Driven through the built program: the exec socket of `openclaw app`, and its prompt on a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Map, Value, json};
use std::fs;
use std::time::{Duration, Instant};
use support::{Process, wait_until};
use support_exec::*;

const AGENT: &str = "main";
const SESSION: &str = "agent:main:main";

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
        let request = amended(&touch(&scratch), &json!({"approvalDecision": decision}));
        assert!(exec.request(&request).is_refusal(), "{decision}");
        if !decision.is_null() {
            // What is beside it does not make it one.
            assert!(
                exec.request(&amended(&request, &json!({"approved": true}))).is_refusal(),
                "{decision} and approved"
            );
        }
    }
    for approved in [json!("true"), json!(1), json!("allow-once"), json!({}), json!(null), json!(false)] {
        assert!(exec.request(&amended(&touch(&scratch), &json!({"approved": approved}))).is_refusal(), "{approved}");
    }
    stays_absent(&scratch.canary());
    exec.request(&amended(&touch(&scratch), &json!({"approvalDecision": "allow-once"}))).ran();
    assert!(scratch.canary().exists());
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

/// A56: the invocation ends in time, and the question with it; whoever answers it later starts nothing.
#[test]
fn sec_a56_an_answer_after_the_end_starts_nothing() {
    let mut desk = Desk::new();
    let invoke = |desk: &Desk, limit: &str| {
        let run = touch(&desk.scratch).to_string();
        Process::spawn(desk.scratch.mac_debug_command(&["invoke", "system.run", &run, "--timeout", limit]))
    };
    wait_until("the app's node", || {
        desk.terminal.watch(Duration::from_millis(10));
        (desk.scratch.mac_debug(&["invoke", "system.which", r#"{"bins":["ls"]}"#]).code == Some(0)).then_some(())
    });
    let mut late = invoke(&desk, "1500");
    desk.prompt();
    while late.ended().is_none() {
        desk.terminal.watch(Duration::from_millis(10));
    }
    let late = late.finish();
    assert!(late.code != Some(0) && late.stderr.contains("TIMEOUT"), "{late:?}");
    desk.terminal.expect("withdrawn");
    desk.terminal.type_text("once\n");
    stays_absent(&desk.scratch.canary());
    let mut twin = invoke(&desk, "20000");
    desk.prompt();
    desk.terminal.type_text("once\n");
    while twin.ended().is_none() {
        desk.terminal.watch(Duration::from_millis(10));
    }
    assert_eq!(twin.finish().code, Some(0));
    assert!(desk.scratch.canary().exists());
}

// ---- the policy while a prompt is open ----

/// An edit of the stored document.
type Tighten = fn(&mut Map<String, Value>);

fn in_defaults(document: &mut Map<String, Value>, member: &str, value: Value) {
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
        let request = amended(&touch(&desk.scratch), &json!({"agentId": AGENT, "sessionKey": SESSION}));
        for word in ["once", "always", "15min", "session"] {
            desk.scratch.approvals(&amended(document, &json!({"socket": {"token": desk.exec.token}})));
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
    assert_eq!(desk.mac_debug(&["resume", "--yes"]).code, Some(0));
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
                vec!["sh", "-c", "id -u", "x"],
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
            // What cannot even be bound once has another word for once, and its own reason (A108).
            let is_unbound = shown.contains("an answer cannot be bound to what this runs: ");
            assert!(is_unbound || shown.contains("always is not offered: "), "{command:?}: it says why: {shown}");
            let (_, reply) = desk.answered(&request, if is_unbound { "unbound" } else { "once" });
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
    let tighten = |document: &mut Map<String, Value>| {
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
    let mut desk = Desk::with(&amended(&listed(&["touch", "echo"]), &json!({"defaults": {"ask": "always"}})));
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
        scratch.approvals(&amended(&listed(&["echo", "true"]), &json!({"socket": {"token": exec.token}})));
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

// ---- whose policy ----

/// A55: the agent and the session that a caller names bring none of their entries along; they are shown as what they
/// are, somebody's word. What that agent must not do, the caller must not either.
#[test]
fn sec_a55_a_claimed_agent_brings_nothing_along() {
    let document = json!({"version": 1, "agents": {
        "trusted": {"security": "full", "ask": "off", "allowlist": [{"pattern": program("touch")}]},
        "held": {"denylist": [{"pattern": program("echo")}]},
        "*": {"allowlist": [{"pattern": program("echo")}]}}});
    let mut desk = Desk::with(&document);
    let touch = touch(&desk.scratch);
    let claim = json!({"agentId": "trusted", "sessionKey": "agent:trusted:main"});
    for claims in [
        claim.clone(),
        json!({"sessionKey": "agent:trusted:main"}),
        json!({"agentId": "main", "sessionKey": "agent:trusted:main", "context": claim}),
        json!({"agent_id": "trusted", "agent": "trusted", "params": claim, "env": {"AGENT_ID": "trusted"}}),
    ] {
        let shown = desk.prompts(&amended(&touch, &claims));
        for name in ["agentId", "sessionKey"] {
            let said = claims[name].as_str().is_none_or(|claim| shown.contains(&format!("says it is \"{claim}\"")));
            assert!(said, "{claims}: {shown}");
        }
    }
    let echo = json!({"command": ["echo"]});
    desk.unasked(&amended(&echo, &claim)).ran();
    desk.unasked(&amended(&echo, &json!({"agentId": "held"}))).refused("UNAVAILABLE");
    stays_absent(&desk.scratch.canary());
}

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
        desk.prompts(&amended(&touch, &json!({"agentId": agent})));
        desk.unasked(&json!({"command": ["echo"], "agentId": agent})).ran();
    }
    desk.prompts(&touch);
    // A claimed name loosens nothing either: the caller only says that it is `main`.
    desk.prompts(&amended(&touch, &json!({"agentId": "main"})));
    stays_absent(&desk.scratch.canary());

    // And one that the document names is held by what it says there.
    let document = json!({"version": 1, "defaults": {"security": "full", "ask": "off"},
        "agents": {"main": {"security": "deny"}, "careful": {"security": "allowlist", "ask": "on-miss"}}});
    let mut desk = Desk::with(&document);
    let echo = json!({"command": ["echo"]});
    desk.unasked(&amended(&echo, &json!({"agentId": "main"}))).refused("UNAVAILABLE");
    desk.prompts(&amended(&echo, &json!({"agentId": "careful"})));
    desk.unasked(&echo).ran();
}
