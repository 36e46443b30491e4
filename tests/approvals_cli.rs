//! `mac-debug approvals get|set|allowlist|denylist|mode|fence`: the approvals document of this machine, of
//! the gateway's and of a node, changed from the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;
use support::{
    Client, Connect, FakeNode, Finished, Gateway, Options, Process, Reply, Surface, free_port, mode, sha256_hex,
    wait_until,
};
use support_exec::*;

/// `mac-debug approvals …`. Where no gateway is, none of another program on the usual port counts.
fn approvals(scratch: &Scratch, arguments: &[&str]) -> Finished {
    let mut command = scratch.mac_debug_command(&[&["approvals"], arguments].concat());
    command.env("OPENCLAW_GATEWAY_PORT", free_port().to_string());
    Process::run(command)
}

/// The same; must go well.
fn done(scratch: &Scratch, arguments: &[&str]) -> String {
    let finished = approvals(scratch, arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{arguments:?}: {finished:?}");
    finished.stdout
}

/// The same; must be refused with this exit code and these words.
fn refused(scratch: &Scratch, arguments: &[&str], code: i32, words: &str) {
    let finished = approvals(scratch, arguments);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{arguments:?}: {finished:?}");
    assert!(finished.stderr.contains(words), "{arguments:?}: no {words:?} in {}", finished.stderr);
}

fn stored(scratch: &Scratch) -> Value {
    serde_json::from_slice(&fs::read(scratch.approvals_path()).unwrap()).unwrap()
}

/// A file with a new document.
fn file(scratch: &Scratch, document: &Value) -> String {
    let path = scratch.join("new.json");
    write_private(&path, document.to_string().as_bytes());
    path.to_str().unwrap().to_owned()
}

/// H25: looking creates nothing, not even the directory, and a fresh machine says what holds.
#[test]
fn sec_h25_get_creates_nothing() {
    let scratch = Scratch::new();
    let text = done(&scratch, &["get"]);
    assert!(text.contains("this machine") && text.contains("no document"), "{text}");
    let answer: Value = serde_json::from_str(&done(&scratch, &["get", "--json"])).unwrap();
    assert_eq!((&answer["exists"], &answer["file"]["agents"]), (&json!(false), &json!({})));
    assert!(answer["hash"].as_str().unwrap().starts_with("missing:"), "{answer}");
    assert!(!scratch.state().exists());
    scratch.approvals(&allowing_everything());
    set_mode(&scratch.approvals_path(), 0o644);
    let before = fs::read(scratch.approvals_path()).unwrap();
    let answer: Value = serde_json::from_str(&done(&scratch, &["get", "--json"])).unwrap();
    assert_eq!(answer["hash"], sha256_hex(&before));
    assert_eq!((fs::read(scratch.approvals_path()).unwrap(), mode(&scratch.approvals_path())), (before, 0o644));
    assert_eq!(fs::read_dir(scratch.state()).unwrap().count(), 1, "no lock either");
}

/// Every verb, on a machine where nothing is yet, without any gateway.
#[test]
fn a_fresh_document_is_made_verb_by_verb() {
    let verbs: [(&[&str], &str, Value); 6] = [
        (&["allowlist", "add", " /usr/bin/rg "], "/agents/*/allowlist/0/pattern", json!("/usr/bin/rg")),
        (&["denylist", "add", "sudo"], "/agents/*/denylist/0/pattern", json!("sudo")),
        (&["denylist", "add", "--command", "git push *"], "/agents/*/denylist/0/command", json!("git push *")),
        (&["mode", "deny", "--agent", "main"], "/agents/main", json!({"security": "deny", "ask": "off"})),
        (&["mode", "ask"], "/agents/*", json!({"security": "allowlist", "ask": "on-miss"})),
        (&["fence", "offline"], "/agents/*/fence", json!("offline")),
    ];
    for (verb, place, expected) in verbs {
        let scratch = Scratch::new();
        let text = done(&scratch, verb);
        assert!(text.contains("this machine") && text.contains(scratch.approvals_path().to_str().unwrap()), "{text}");
        let document = stored(&scratch);
        assert_eq!(document.pointer(place), Some(&expected), "{verb:?}: {document}");
        assert_eq!((mode(&scratch.state()), mode(&scratch.approvals_path())), (0o700, 0o600));
        assert_eq!(document["defaults"]["security"], "allowlist", "a fresh document says openly what holds");
        assert!(!text.contains(&socket_token(&scratch)), "{text}");
    }
    let scratch = Scratch::new();
    refused(&scratch, &["allowlist", "remove", "/bin/ls"], 1, "no such entry");
    refused(&scratch, &["denylist", "remove", "--command", "x"], 1, "no such entry");
    assert!(!scratch.approvals_path().exists());
    let new = file(&scratch, &json!({"version": 1, "agents": {"*": {"security": "full"}}}));
    let text = done(&scratch, &["set", &new]);
    assert!(text.contains("from now on allowed: everybody: security allowlist becomes full"), "{text}");
    assert_eq!(stored(&scratch)["agents"], json!({"*": {"security": "full"}}));
}

/// Every verb, on a document with things that we do not know in it.
#[test]
fn what_the_owner_has_stays_beside_a_change() {
    let scratch = Scratch::new();
    scratch.approvals(&json!({
        "version": 1, "ours": {"kept": 1.5}, "local": {"remoteEdits": "ask"},
        "agents": {"*": {"future": [1], "allowlist": ["/bin/ls"]}, "main": {"security": "deny"}},
    }));
    done(&scratch, &["allowlist", "add", "/bin/cat", "--arg-pattern", "-n .*"]);
    assert!(done(&scratch, &["allowlist", "add", "/bin/ls"]).contains("already has /bin/ls"));
    assert!(done(&scratch, &["allowlist", "add", "/bin/cat", "--agent", "main"]).contains("agent \"main\""));
    done(&scratch, &["denylist", "add", "/usr/bin/sudo"]);
    done(&scratch, &["denylist", "add", "--command", "/usr/bin/sudo"]);
    let document = stored(&scratch);
    let listed = &document["agents"]["*"]["allowlist"];
    assert_eq!((&listed[0], &listed[1]["argPattern"]), (&json!("/bin/ls"), &json!("-n .*")));
    let id = listed[1]["id"].as_str().unwrap();
    assert!(id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{id}");
    let text = done(&scratch, &["get"]);
    for words in [id, "allowlist  /bin/ls", "with arguments -n .*", "denylist  command /usr/bin/sudo", "security deny"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    // By id; by pattern; of one agent only; of one kind only.
    assert!(done(&scratch, &["allowlist", "remove", id]).contains("loses /bin/cat with arguments -n .*"));
    done(&scratch, &["allowlist", "remove", "/bin/ls"]);
    refused(&scratch, &["allowlist", "remove", "/bin/cat"], 1, "everybody: the allowlist has no such entry");
    done(&scratch, &["denylist", "remove", "--command", "/usr/bin/sudo"]);
    assert_eq!(stored(&scratch)["agents"]["*"]["denylist"][0]["pattern"], "/usr/bin/sudo");
    done(&scratch, &["denylist", "remove", "/usr/bin/sudo"]);
    done(&scratch, &["allowlist", "remove", "/bin/cat", "--agent", "main"]);
    let document = stored(&scratch);
    assert_eq!(document["agents"], json!({"*": {"future": [1]}, "main": {"security": "deny"}}));
    assert_eq!((&document["ours"], &document["local"]), (&json!({"kept": 1.5}), &json!({"remoteEdits": "ask"})));
    let text = done(&scratch, &["mode", "allow"]);
    assert!(
        text.contains("WARNING") && text.contains("EVERY command") && text.contains("\"main\" has its own"),
        "{text}"
    );
    assert_eq!(document["agents"]["main"], stored(&scratch)["agents"]["main"]);
    assert!(done(&scratch, &["fence", "none"]).contains("WARNING"));
    let answer: Value = serde_json::from_str(&done(&scratch, &["fence", "state", "--json"])).unwrap();
    assert!(answer["effect"][0].as_str().unwrap().contains("fence state"), "{answer}");
    assert_eq!(answer["hash"], sha256_hex(&fs::read(scratch.approvals_path()).unwrap()));
    assert!(!answer.to_string().contains(&socket_token(&scratch)));
}

/// A159: what stands in a document cannot draw on the terminal.
#[test]
fn sec_a159_a_document_is_shown_with_visible_escapes() {
    let scratch = Scratch::new();
    let hostile = "/bin/x\u{1b}]0;owned\u{7}\r\u{202e}";
    scratch.approvals(&json!({"version": 1, "agents": {"a\u{1b}[2J": {"denylist": [{"command": hostile}]}, "*": {
        "allowlist": [hostile, {"pattern": "/bin/y", "argPattern": hostile}], "note": hostile}}}));
    let shown = [
        done(&scratch, &["get"]),
        done(&scratch, &["allowlist", "remove", hostile]),
        done(&scratch, &["mode", "deny", "--agent", "b\u{1b}[2J"]),
        approvals(&scratch, &["allowlist", "remove", hostile, "--agent", "\u{1b}[2J"]).stderr,
    ];
    for text in shown {
        assert!(text.contains("\\u{1B}"), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let scratch = Scratch::new();
    let good = json!({"version": 1, "agents": {"*": {"allowlist": ["/bin/ls"]}}});
    scratch.approvals(&good);
    let before = fs::read(scratch.approvals_path()).unwrap();
    let missing = scratch.join("missing").to_str().unwrap().to_owned();
    let usage: &[(&[&str], &str)] = &[
        (&[], "subcommand"),
        (&["mode"], "mode"),
        (&["mode", "loose"], "say deny, ask or allow"),
        (&["fence", "State"], "say none, state"),
        (&["allowlist"], "subcommand"),
        (&["allowlist", "add"], "pattern"),
        (&["denylist", "add"], "--command"),
        (&["denylist", "add", "a", "--command", "b"], "--command"),
        (&["get", "--gateway", "--node", "x"], "not both"),
        (&["set", &missing], "cannot read"),
        (&["set"], "say a file"),
        (&["set", &missing, "--stdin"], "say a file"),
    ];
    for (arguments, words) in usage {
        refused(&scratch, arguments, 2, words);
    }
    for (arguments, words) in [
        (&["allowlist", "add", " "][..], "empty pattern"),
        (&["allowlist", "add", "/bin/a", "--arg-pattern", ""], "empty argPattern"),
        (&["denylist", "add", "--command", ""], "empty command"),
        (&["mode", "deny", "--agent", ""], "no agent"),
        (&["mode", "deny", "--agent", "__proto__"], "no agent"),
    ] {
        refused(&scratch, arguments, 1, words);
    }
    for (bad, code) in [
        ("", 2),
        ("{", 2),
        ("[]", 2),
        ("{\"version\":1,\"version\":1}", 2),
        ("{}", 1),
        ("{\"version\":2}", 1),
        ("{\"version\":1,\"agents\":{\"*\":{\"denylist\":[\"\"]}}}", 1),
        ("{\"version\":1,\"agents\":{\"*\":{\"denylist\":[{\"pattern\":\"x\",\"when\":1}]}}}", 1),
        ("{\"version\":1,\"defaults\":{\"fence\":\"moat\"}}", 1),
    ] {
        write_private(&scratch.join("bad.json"), bad.as_bytes());
        refused(&scratch, &["set", scratch.join("bad.json").to_str().unwrap()], code, "");
    }
    let finished = scratch.mac_debug(&["--url", "ws://127.0.0.1:1", "approvals", "mode", "deny"]);
    assert!(finished.code == Some(2) && finished.stderr.contains("whose document"), "{finished:?}");
    refused(&scratch, &["get", "--gateway"], 1, "no gateway");
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), before);
    for verb in ["get", "set", "allowlist", "denylist", "mode", "fence", "list", "deny"] {
        assert!(done(&scratch, &[verb, "--help"]).contains("Usage:"), "{verb}");
    }
    // A139: a broken document is shown as broken and never overwritten.
    for broken in ["{", "{\"version\":2}", "{\"version\":1,\"defaults\":{\"denylist\":[{}]}}"] {
        write_private(&scratch.approvals_path(), broken.as_bytes());
        let new = file(&scratch, &good);
        for verb in [&["get"][..], &["mode", "deny"], &["set", &new], &["denylist", "add", "x"]] {
            refused(&scratch, verb, 1, "left as it is");
        }
        assert_eq!(fs::read_to_string(scratch.approvals_path()).unwrap(), broken);
    }
}

/// `set` from standard input.
fn set_from_stdin(scratch: &Scratch, text: &str) -> std::process::Output {
    let mut command: Command = scratch.mac_debug_command(&["approvals", "set", "--stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A142, A157: what `get` says can be changed and set again; the token stays, the socket cannot move, and
/// a hash that holds no more is refused.
#[test]
fn sec_a142_a157_set_takes_back_what_get_gave_and_nothing_stale() {
    let scratch = Scratch::new();
    done(&scratch, &["mode", "ask"]);
    let token = socket_token(&scratch);
    let answer: Value = serde_json::from_str(&done(&scratch, &["get", "--json"])).unwrap();
    assert!(!answer.to_string().contains(&token));
    let (mut document, hash) = (answer["file"].clone(), answer["hash"].as_str().unwrap().to_owned());
    document["agents"]["*"]["denylist"] = json!(["/bin/dd"]);
    let output = set_from_stdin(&scratch, &document.to_string());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stored(&scratch)["agents"]["*"]["denylist"], json!(["/bin/dd"]));
    assert_eq!(socket_token(&scratch), token);
    let before = fs::read(scratch.approvals_path()).unwrap();
    refused(&scratch, &["set", &file(&scratch, &document), "--base-hash", &hash], 1, "changed; reload and retry");
    for socket in [json!({"path": "/tmp/x.sock"}), json!({"token": "another-token-0123456789abcdefghi"}), json!(1)] {
        document["socket"] = socket;
        refused(&scratch, &["set", &file(&scratch, &document)], 1, "socket");
    }
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), before);
    document.as_object_mut().unwrap().remove("socket");
    document["agents"]["*"]["fence"] = json!("workspace");
    let now = sha256_hex(&before);
    done(&scratch, &["set", &file(&scratch, &document), "--base-hash", &now]);
    assert_eq!((socket_token(&scratch), &stored(&scratch)["agents"]["*"]["fence"]), (token, &json!("workspace")));
}

/// A142: writers on the command line at the same time lose nothing of each other.
#[test]
fn sec_a142_two_writers_lose_nothing() {
    let scratch = Scratch::new();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for writer in ["a", "b"] {
            let (scratch, start) = (&scratch, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..5 {
                    done(scratch, &["allowlist", "add", &format!("/bin/{writer}{number}")]);
                    done(scratch, &["denylist", "add", &format!("/bin/no-{writer}{number}"), "--agent", writer]);
                }
            });
        }
    });
    let document = stored(&scratch);
    assert_eq!(document["agents"]["*"]["allowlist"].as_array().unwrap().len(), 10);
    for writer in ["a", "b"] {
        assert_eq!(document["agents"][writer]["denylist"].as_array().unwrap().len(), 5);
    }
}

/// `mac-debug approvals …` against this gateway.
fn at_gateway(gateway: &Gateway, arguments: &[&str]) -> Finished {
    Process::run(gateway.mac_debug(&[&["approvals"], arguments].concat()))
}

/// H15: on the gateway's machine what tightens is made; what loosens is refused, unless the owner
/// has allowed that there.
#[test]
fn sec_h15_the_gateways_own_document_is_only_tightened_from_outside() {
    let gateway = Gateway::start(Options::default());
    let path = gateway.state.join("exec-approvals.json");
    let finished = at_gateway(&gateway, &["get", "--gateway", "--json"]);
    assert_eq!((finished.code, &finished.json()["exists"]), (Some(0), &json!(false)), "{finished:?}");
    assert_eq!(finished.json()["resolvedDefaults"]["security"], "allowlist");
    assert!(!path.exists(), "looking creates nothing");
    let tight: [&[&str]; 4] = [
        &["denylist", "add", "/bin/dd"],
        &["fence", "workspace"],
        &["mode", "deny"],
        &["mode", "deny", "--agent", "x"],
    ];
    for verb in tight {
        let finished = at_gateway(&gateway, &[verb, &["--gateway"]].concat());
        assert_eq!(finished.code, Some(0), "{verb:?}: {finished:?}");
        assert!(finished.stdout.contains("the gateway's machine"), "{}", finished.stdout);
    }
    let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&document["agents"]["*"]["fence"], mode(&path)), (&json!("workspace"), 0o600));
    let token = document["socket"]["token"].as_str().unwrap();
    // The protocol has neither member, so the official CLI sees neither, and does not take them away.
    let mut cli = Client::login(&gateway, &Connect::cli(&["operator.admin"]));
    let wire = cli.request("exec.approvals.get", json!({})).unwrap();
    assert_eq!(
        wire["file"]["agents"],
        json!({"*": {"security": "deny", "ask": "off"}, "x": {"security": "deny", "ask": "off"}})
    );
    assert_eq!(wire["hash"], sha256_hex(&fs::read(&path).unwrap()));
    let params = json!({"file": wire["file"], "baseHash": wire["hash"]});
    assert_eq!(cli.request("exec.approvals.set", params).unwrap()["file"], wire["file"]);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(), document);
    let whole = at_gateway(&gateway, &["get", "--gateway", "--json"]).json();
    assert_eq!((&whole["whole"], &whole["file"]["agents"]), (&json!(true), &document["agents"]));
    let before = fs::read(&path).unwrap();
    let loose: [&[&str]; 6] = [
        &["allowlist", "add", "/bin/ls"],
        &["denylist", "remove", "/bin/dd"],
        &["fence", "state"],
        &["mode", "ask"],
        &["mode", "allow"],
        &["fence", "none", "--agent", "x"],
    ];
    for verb in loose {
        let finished = at_gateway(&gateway, &[verb, &["--gateway"]].concat());
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{verb:?}: {finished:?}");
        for words in ["loosens the policy", "remoteEdits", "APPROVAL_REQUIRED"] {
            assert!(finished.stderr.contains(words), "{verb:?}: {}", finished.stderr);
        }
    }
    // The same straight on the wire; and who is no admin sees and changes nothing (A53, A157).
    let mut owner = gateway.owner();
    let seen = owner.request("exec.approvals.get", json!({})).unwrap();
    assert!(!seen.to_string().contains(token), "{seen}");
    let set = |file: &Value, hash: &Value| json!({"file": file, "baseHash": hash});
    let error = owner.request("exec.approvals.set", set(&json!({"version": 1}), &seen["hash"])).unwrap_err();
    assert_eq!((&error["code"], &error["details"]["code"]), (&json!("FORBIDDEN"), &json!("APPROVAL_REQUIRED")));
    let mut moved = seen["file"].clone();
    moved["socket"] = json!({"path": "/tmp/x.sock"});
    for file in
        [moved, json!({"version": 2}), json!([]), json!("x"), json!({"version": 1, "local": {"remoteEdits": "allow"}})]
    {
        let error = owner.request("exec.approvals.set", set(&file, &seen["hash"])).unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{file}: {error}");
    }
    let error = owner.request("exec.approvals.get", json!({"nodeId": "x"})).unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("unexpected property 'nodeId'"), "{error}");
    let scopes = ["operator.read", "operator.write", "operator.pairing", "operator.approvals"];
    let mut others = Client::login(&gateway, &Connect::cli(&scopes));
    for (method, params) in
        [("exec.approvals.get", json!({})), ("exec.approvals.set", set(&seen["file"], &seen["hash"]))]
    {
        let error = others.request(method, params).unwrap_err();
        assert_eq!(error["details"]["missingScope"], "operator.admin", "{method}: {error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    let log = gateway.process.stderr();
    assert!(log.contains("approvals document: edited") && log.contains("refused an edit"), "{log}");
    let audit = fs::read_to_string(path.with_file_name("audit.jsonl")).unwrap();
    let noted = |decision: &str| audit.matches(&format!("\"decision\":\"{decision}\"")).count();
    assert_eq!((noted("allowed"), noted("denied")), (tight.len() + 1, loose.len() + 1), "{audit}");
    // The owner's own hand, then the owner's word.
    assert_eq!(at_gateway(&gateway, &["mode", "ask"]).code, Some(0));
    let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    document["local"] = json!({"remoteEdits": "allow"});
    fs::write(&path, document.to_string()).unwrap();
    let finished = at_gateway(&gateway, &["allowlist", "add", "/bin/ls", "--gateway", "--json"]);
    assert_eq!(finished.json()["file"]["agents"]["*"]["allowlist"][0]["pattern"], "/bin/ls", "{finished:?}");
}

/// A142: many on the command line at once, through the gateway: who came too late reads again, once;
/// whoever was told that it is done, has it in the document.
#[test]
fn sec_a142_through_the_gateway_nothing_that_was_confirmed_is_lost() {
    let gateway = Gateway::new();
    let start = Barrier::new(4);
    let confirmed: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let command =
                    gateway.mac_debug(&["approvals", "denylist", "add", &format!("/bin/{number}"), "--gateway"]);
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let finished = Process::run(command);
                    let stale = finished.stderr.contains("changed since last load");
                    assert!(finished.code == Some(0) || stale, "{finished:?}");
                    (finished.code == Some(0)).then(|| format!("/bin/{number}"))
                })
            })
            .collect();
        writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect()
    });
    let document: Value =
        serde_json::from_slice(&fs::read(gateway.state.join("exec-approvals.json")).unwrap()).unwrap();
    let entries = document["agents"]["*"]["denylist"].as_array().unwrap();
    let mut patterns: Vec<&str> = entries.iter().map(|entry| entry["pattern"].as_str().unwrap()).collect();
    patterns.sort_unstable();
    assert_eq!(patterns, confirmed);
    assert!(!confirmed.is_empty());
}

/// A node's document, through the gateway: the same verbs; a refusal is the node's sentence.
#[test]
fn sec_a53_h15_a_nodes_document_through_the_gateway() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let _app = App::start(&scratch);
    wait_for_node(&scratch);
    let list = scratch.mac_debug(&["nodes", "--json"]).json();
    let id = list["nodes"][0]["nodeId"].as_str().unwrap().to_owned();
    let answer: Value = serde_json::from_str(&done(&scratch, &["get", "--node", &id, "--json"])).unwrap();
    assert_eq!(answer["file"]["agents"]["*"]["allowlist"][0]["pattern"], json!(program("echo")), "{answer}");
    assert_eq!(answer["hash"], sha256_hex(&fs::read(scratch.approvals_path()).unwrap()));
    assert!(!answer.to_string().contains(&socket_token(&scratch)));
    let text = done(&scratch, &["denylist", "add", "--command", "* --force*", "--node", &id[..8]]);
    assert!(text.contains("approvals document of node") && text.contains("the denylist gets * --force*"), "{text}");
    // As the official CLI asks for it: the protocol's members only, and an edit of those keeps the others.
    let config: Value = serde_json::from_slice(&fs::read(scratch.state().join("openclaw.json")).unwrap()).unwrap();
    let mut cli = Client::unix_at(&scratch.state().join("gateway.sock"));
    cli.connect(&Connect::cli(&["operator.admin"]).token(config["gateway"]["auth"]["token"].as_str().unwrap()))
        .unwrap();
    let wire = cli.request("exec.approvals.node.get", json!({"nodeId": id})).unwrap();
    assert!(!wire.to_string().contains("--force"), "{wire}");
    let params = json!({"nodeId": id, "file": wire["file"], "baseHash": wire["hash"]});
    assert_eq!(cli.request("exec.approvals.node.set", params).unwrap()["file"], wire["file"]);
    assert_eq!(stored(&scratch)["agents"]["*"]["denylist"][0]["command"], "* --force*");
    let before = fs::read(scratch.approvals_path()).unwrap();
    refused(&scratch, &["mode", "allow", "--node", &id], 1, "loosens the policy");
    refused(&scratch, &["denylist", "remove", "--command", "* --force*", "--node", &id], 1, "nobody can be asked");
    refused(&scratch, &["get", "--node", "nobody"], 2, "no node is called nobody");
    assert_eq!(fs::read(scratch.approvals_path()).unwrap(), before);
    let new = file(&scratch, &json!({"version": 1, "agents": {"*": {"security": "deny"}}}));
    refused(&scratch, &["set", &new, "--node", &id], 1, "the denylist loses * --force*");
    let mut document = answer["file"].clone();
    document["agents"]["*"] = json!({"security": "deny", "denylist": [{"command": "* --force*"}]});
    let new = file(&scratch, &document);
    refused(&scratch, &["set", &new, "--node", &id, "--base-hash", "stale"], 1, "exec approvals changed");
    done(&scratch, &["set", &new, "--node", &id]);
    assert_eq!(stored(&scratch)["agents"]["*"]["security"], "deny");
    let run = scratch.mac_debug(&["run", "--", "echo", "x"]);
    assert!(run.stderr.contains("security=deny"), "it holds at the next decision: {run:?}");
}

/// A node that knows the protocol's members only: what the protocol has can be changed there; a denylist, which would
/// be kept and mean nothing, is refused.
#[test]
fn where_only_the_protocols_members_count_no_denylist_is_promised() {
    let gateway = Gateway::start(Options::default());
    let node =
        FakeNode::approved(&gateway, &Surface::mac(&["system.execApprovals.get", "system.execApprovals.set"]), |_| {
            let file = json!({"version": 1, "agents": {"*": {"security": "deny"}}});
            Reply::Payload(json!({"path": "/elsewhere", "exists": true, "hash": "h", "file": file}))
        });
    let id = node.id();
    let finished = at_gateway(&gateway, &["get", "--node", &id]);
    assert!(finished.stdout.contains("as the protocol has it") && finished.stdout.contains("deny"), "{finished:?}");
    for verb in [&["denylist", "add", "/bin/dd"][..], &["denylist", "remove", "/bin/dd"], &["fence", "offline"]] {
        let finished = at_gateway(&gateway, &[verb, &["--node", &id]].concat());
        assert!(finished.code == Some(2) && finished.stderr.contains("on that machine"), "{finished:?}");
    }
    let asked = |invoke: &&Value| invoke["command"] == "system.execApprovals.set";
    assert_eq!(node.invokes().iter().filter(asked).count(), 0);
    assert_eq!(at_gateway(&gateway, &["mode", "deny", "--node", &id]).code, Some(0));
    assert_eq!(node.invokes().iter().filter(asked).count(), 1);
}

/// What the official node host is given to find the app: where it listens and the token. Looking makes neither.
#[test]
fn exec_host_link_names_the_socket_and_its_token() {
    let scratch = Scratch::new();
    let link = |arguments: &[&str]| scratch.mac_debug(&[&["exec-host"], arguments].concat());
    let none = link(&["link"]);
    assert!(none.code == Some(1) && none.stderr.contains("start the app once"), "{none:?}");
    assert!(!scratch.state().exists());
    let app = App::start(&scratch);
    let document = link(&["link", "--json"]).json();
    let socket = json!({"path": exec_socket(&scratch), "token": socket_token(&scratch)});
    assert_eq!(document, json!({"version": 1, "socket": socket}));
    let text = link(&["link"]).stdout;
    assert!(text.contains("OPENCLAW_NODE_EXEC_HOST=app") && text.contains(&socket_token(&scratch)), "{text}");
    assert_eq!(link(&["unlink"]).code, Some(2));
    drop(app);
    scratch.approvals(&json!({"version": 1, "socket": {"token": "short"}}));
    let short = link(&["link", "--json"]);
    assert!(short.code == Some(1) && !short.stderr.contains("\"short\""), "{short:?}");
}

/// The person at the node is asked, and what they allow is made.
#[test]
fn sec_h15_a_loosening_change_waits_for_the_person_at_the_node() {
    let scratch = Scratch::new();
    let mut terminal = app_on_terminal(&scratch);
    wait_until("the node", || {
        terminal.watch(Duration::from_millis(10));
        (scratch.mac_debug(&["invoke", "system.which", r#"{"bins":["ls"]}"#]).code == Some(0)).then_some(())
    });
    let list = scratch.mac_debug(&["nodes", "--json"]).json();
    let id = list["nodes"][0]["nodeId"].as_str().unwrap();
    let mut add =
        Process::spawn(scratch.mac_debug_command(&["approvals", "allowlist", "add", "/bin/ls", "--node", id]));
    terminal.expect("the allowlist gets /bin/ls");
    terminal.expect("then Return");
    terminal.type_text("change\n");
    while add.ended().is_none() {
        terminal.watch(Duration::from_millis(10));
    }
    let finished = add.finish();
    assert!(finished.code == Some(0) && finished.stdout.contains("gets /bin/ls"), "{finished:?}");
    assert_eq!(stored(&scratch)["agents"]["*"]["allowlist"][0]["pattern"], "/bin/ls");
}
