//! Files, ids, odd JSON and odd children: what must hold however hard somebody tries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Client, Connect, Gateway, Incoming, Options, Process, ScriptedGateway, TOKEN, mode, wait_until};
use support_exec::*;

/// xorshift64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Everything below, with its kind and content.
fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        all.push((entry.path(), if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() }));
        if kind.is_dir() {
            all.extend(tree(&entry.path()));
        }
    }
    all.sort();
    all
}

// ---- A137, A140: a node and a gateway by themselves ----

#[test]
fn sec_a137_a140_a_fresh_node_alone_is_private_and_allows_nothing() {
    let scratch = Scratch::new();
    let gateway = ScriptedGateway::new();
    let arguments = ["node", "run", "--url", &gateway.url(), "--exec-host", "local"];
    let mut command = scratch.openclaw_under(&["sh", "-c", "umask 000; exec \"$0\" \"$@\""], &arguments);
    command.env("OPENCLAW_GATEWAY_TOKEN", "the-token-of-this-gateway-0123456789");
    let node = Process::spawn(command);
    let mut seat = gateway.seat();
    for agent in [Value::Null, json!("main"), json!("nobody"), json!("*")] {
        let request = json!({ "command": [program("touch"), scratch.canary()], "agentId": agent });
        let error = seat.invoke("system.run", &request).expect_err("a fresh node runs nothing unasked");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("approval required"), "asks, and there is nobody: {error}");
    }
    stays_absent(&scratch.canary());
    let files = tree(&scratch.state());
    assert!(files.len() > 2, "{files:?}");
    for (path, _) in &files {
        assert_eq!(mode(path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    assert_eq!(mode(&scratch.state()), 0o700);
    assert!(!node.stderr().contains("panicked"));
}

// ---- A138: the document behind links ----

/// Puts something else where the document was.
type Trap = fn(&Path, &Path);

const TRAPS: &[(&str, Trap)] = &[
    ("a symbolic link", |path, victim| symlink(victim, path).unwrap()),
    ("a hard link", |path, victim| fs::hard_link(victim, path).unwrap()),
    ("a dangling link", |path, victim| symlink(victim.with_extension("new"), path).unwrap()),
    ("a FIFO", |path, _| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("a directory", |path, _| make_dir(path)),
];

#[test]
fn sec_a138_behind_links_nothing_is_read_or_written() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing(&["echo"]));
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let exec = app.exec(&scratch);
    exec.assert_works();
    let path = scratch.approvals_path();
    let sound = fs::read(&path).unwrap();
    let victim = scratch.join("victim.json");
    let mut open = allowing_everything();
    open["socket"] = json!({ "token": exec.token });
    let (program, canary) = (program("touch"), scratch.canary());
    let touch = [&*program, canary.to_str().unwrap()];
    let nothing_happens = |what: &str| {
        let began = Instant::now();
        assert!(exec.run(&touch).is_refusal(), "{what}");
        for arguments in [&["allowlist", "add", "/bin/ls"][..], &["denylist", "add", "/bin/ls"], &["mode", "allow"]] {
            let edit = scratch.mac_debug(&[&["approvals"], arguments].concat());
            assert!(edit.code != Some(0), "{what}: {edit:?}");
            assert!(edit.stderr.contains("exec-approvals.json"), "{what}: {edit:?}");
        }
        assert!(scratch.mac_debug(&["run", "--", touch[0], touch[1]]).code != Some(0), "{what}");
        assert!(began.elapsed() < Duration::from_secs(15), "{what}: nothing hangs on it");
    };
    for (what, trap) in TRAPS {
        write_private(&victim, open.to_string().as_bytes());
        fs::remove_file(&path).unwrap();
        trap(&path, &victim);
        nothing_happens(what);
        assert_eq!(fs::read(&victim).unwrap(), open.to_string().as_bytes(), "{what}: written through");
        assert!(!victim.with_extension("new").exists(), "{what}: created through");
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let _ = fs::remove_file(&victim);
        write_private(&path, &sound);
        exec.assert_works();
    }
    // Of somebody else, and where others may exchange it.
    write_private(&path, open.to_string().as_bytes());
    for loose in [0o770, 0o777, 0o703] {
        set_mode(&scratch.state(), loose);
        assert!(exec.run(&touch).is_refusal(), "the directory is open to others: {loose:o}");
    }
    set_mode(&scratch.state(), 0o700);
    if is_root() {
        chown(&path, Some(65_534), None).unwrap();
        nothing_happens("another owner");
        assert_eq!(fs::read(&path).unwrap(), open.to_string().as_bytes());
        chown(&path, Some(0), None).unwrap();
        chown(scratch.state(), Some(65_534), None).unwrap();
        assert!(exec.run(&touch).is_refusal(), "the directory is somebody else's");
        chown(scratch.state(), Some(0), None).unwrap();
    } else {
        eprintln!("sec_a138: other owners are left out, because only root can make them");
    }
    stays_absent(&scratch.canary());
    write_private(&path, &sound);
    exec.assert_works();
}

/// A138: the state directory itself may be a link of its owner's.
#[test]
fn sec_a138_a_linked_state_directory_of_ones_own_is_fine() {
    let scratch = Scratch::new();
    make_dir(&scratch.join("real"));
    symlink(scratch.join("real"), scratch.state()).unwrap();
    scratch.approvals(&allowing(&["echo"]));
    App::start(&scratch).exec(&scratch).assert_works();
    assert!(scratch.join("real/exec-approvals.json").exists());
}

// ---- A141: half a write is none ----

/// The patterns of the document; it must be whole.
fn patterns(path: &Path) -> Vec<String> {
    let document: Value = serde_json::from_slice(&fs::read(path).unwrap()).expect("half a document");
    assert_eq!(document["kept"]["by"], "its owner", "an unrelated member is lost");
    let entries = document["agents"]["*"]["allowlist"].as_array().unwrap();
    entries.iter().map(|entry| entry["pattern"].as_str().unwrap().to_owned()).collect()
}

fn document_with_more(bytes: usize) -> Value {
    json!({ "version": 1, "kept": { "by": "its owner", "x": "x".repeat(bytes) },
        "agents": { "*": { "allowlist": [{ "pattern": "/bin/first" }] } } })
}

/// Five hundred writers of the built program, ended at any moment: the document is the old one or the new one, what was
/// confirmed stays, and what lies beside it is as private as it is.
#[test]
fn sec_a141_a_writer_that_is_killed_leaves_a_whole_document() {
    const WRITERS: usize = 500;
    let scratch = Scratch::new();
    let path = scratch.approvals(&document_with_more(20_000));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut confirmed = vec!["/bin/first".to_owned()];
    let mut killed = 0;
    let began = Instant::now();
    for number in 0..5 {
        let pattern = format!("/bin/whole{number}");
        assert_eq!(scratch.mac_debug(&["approvals", "allowlist", "add", &pattern]).code, Some(0));
        confirmed.push(pattern);
    }
    // What one takes from its start to its end.
    let usual = began.elapsed() / 5;
    for number in 0..WRITERS {
        let pattern = format!("/bin/n{number}");
        let mut command = scratch.mac_debug_command(&["approvals", "allowlist", "add", &pattern]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        // Anywhere between its start and a bit after its usual end; nothing is waited for.
        let limit = Duration::from_micros(random.below(usual.as_micros() as u64 * 3 / 2));
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() >= limit => {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_micros(100)),
            }
        };
        if status.success() {
            confirmed.push(pattern.clone());
        } else {
            killed += 1;
            assert_eq!(status.code(), None, "it failed without being killed: {status}");
        }
        let stored = patterns(&path);
        assert!(confirmed.iter().all(|pattern| stored.contains(pattern)), "what was confirmed is lost");
        let is_new = stored.contains(&pattern) && !confirmed.contains(&pattern);
        confirmed.extend(is_new.then_some(pattern));
        for (place, _) in tree(&scratch.state()) {
            assert_eq!(mode(&place) & 0o077, 0, "{}", place.display());
        }
    }
    println!("sec_a141: {killed} of {WRITERS} writers were killed, {} entries", confirmed.len());
    assert!(killed > WRITERS / 10 && killed < WRITERS, "the writers were not killed in the middle");
    let last = scratch.mac_debug(&["approvals", "allowlist", "add", "/bin/last"]);
    assert_eq!(last.code, Some(0), "{last:?}");
    let left = tree(&scratch.state());
    let left: Vec<_> = left.iter().filter(|(place, _)| place.to_string_lossy().contains(".tmp")).collect();
    assert!(left.len() <= 1, "unfinished files pile up: {left:?}");
}

/// On a full disk an edit fails, the document stays, and with space again it goes on.
#[cfg(target_os = "linux")]
#[test]
fn sec_a141_on_a_full_disk_the_old_document_stays() {
    let scratch = Scratch::new();
    let path = scratch.approvals(&document_with_more(20_000));
    let openclaw = scratch.mac_debug_command(&[]);
    let script = format!(
        "mount -t tmpfs -o size=256k,mode=700 tmpfs \"$S\" || exit 77
         cp \"$1\" \"$S/exec-approvals.json\" && chmod 600 \"$S/exec-approvals.json\"
         umask 077; head -c 300k /dev/zero >\"$S/full\" 2>/dev/null; truncate -s -{} \"$S/full\"
         before=$(sha256sum <\"$S/exec-approvals.json\")
         for try in 1 2 3; do \"$0\" mac-debug approvals allowlist add /bin/ls && exit 2; done
         [ \"$before\" = \"$(sha256sum <\"$S/exec-approvals.json\")\" ] || exit 3
         rm \"$S/full\"; \"$0\" mac-debug approvals allowlist add /bin/ls || exit 4
         grep -q /bin/ls \"$S/exec-approvals.json\" && grep -q /bin/first \"$S/exec-approvals.json\" || exit 5
         ls -A \"$S\" | grep tmp && exit 6; exit 0",
        8 * 1024
    );
    let copy = scratch.join("document");
    fs::copy(&path, &copy).unwrap();
    let user = if is_root() { &["-m"][..] } else { &["-Urm"] };
    let mut command = Command::new("unshare");
    command.args(user).args(["sh", "-c", &script]).arg(openclaw.get_program()).arg(&copy);
    command.env_clear().envs(openclaw.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("S", scratch.state()).current_dir(scratch.path()).stdin(std::process::Stdio::null());
    let finished = Process::run(command);
    let words = words_of(&finished);
    if finished.code == Some(77) || words.contains("unshare failed") {
        println!("sec_a141: left out, because no private mount can be made here: {words}");
        return;
    }
    assert_eq!(finished.code, Some(0), "{words}");
    assert!(words.contains("exec-approvals.json") && words.to_lowercase().contains("space"), "it says why: {words}");
}

// ---- A143: secrets behind links ----

/// The owner's password and token files, by the built program: only a private regular file is one.
#[test]
fn sec_a143_a_secret_that_others_could_place_starts_no_gateway() {
    const GOOD: &str = "a-good-token-0123456789abcdef0123456789";
    let scratch = Scratch::new();
    let state = scratch.state();
    make_dir(&state);
    write_private(&state.join("openclaw.json"), b"{\"gateway\":{\"mode\":\"local\"}}");
    let path = state.join("gateway-token");
    let victim = scratch.join("victim");
    let start = || scratch.openclaw(&["gateway", "run", "--no-tcp"]);
    let traps: [(&str, &dyn Fn()); 7] = [
        ("a symbolic link", &|| symlink(&victim, &path).unwrap()),
        ("a hard link", &|| fs::hard_link(&victim, &path).unwrap()),
        ("a FIFO", &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success())),
        ("a directory", &|| make_dir(&path)),
        ("a device", &|| symlink("/dev/zero", &path).unwrap()),
        ("readable by others", &|| {
            write_private(&path, GOOD.as_bytes());
            set_mode(&path, 0o644);
        }),
        ("of another owner", &|| {
            write_private(&path, GOOD.as_bytes());
            if is_root() {
                chown(&path, Some(65_534), None).unwrap();
            } else {
                set_mode(&path, 0o640);
            }
        }),
    ];
    for (what, trap) in traps {
        write_private(&victim, GOOD.as_bytes());
        trap();
        let words = must_fail(start(), what);
        assert!(words.contains("gateway-token"), "{what}: {words}");
        assert!(!words.contains("a-good-token"), "{what}: the secret is shown");
        assert_eq!(fs::read(&victim).unwrap(), GOOD.as_bytes(), "{what}");
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
    }
    write_private(&path, format!("{GOOD}\n").as_bytes());
    let _gateway = Process::spawn(start());
    let socket = state.join("gateway.sock");
    wait_until("the gateway", || std::os::unix::net::UnixStream::connect(&socket).ok());
    Client::unix_at(&socket).connect(&Connect::cli(&[]).token(GOOD)).unwrap();
}

// ---- A144: ids are no paths ----

#[test]
fn sec_a144_ids_are_no_parts_of_paths() {
    let long = "i".repeat(300);
    let hostile = [
        "../x",
        "..",
        ".",
        "..%2fx",
        "%2e%2e/x",
        "/etc/x",
        "a/b",
        "a\\b",
        "x\0y",
        "~/x",
        "\u{2024}\u{2024}/x",
        "\u{ff0e}\u{ff0e}\u{ff0f}x",
        "x\ny",
        " ../x",
        &long,
    ];
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    wait_for_node(&scratch);
    let exec = app.exec(&scratch);
    let nodes = scratch.mac_debug(&["nodes", "--json"]).json();
    let token = fs::read_to_string(scratch.state().join("openclaw.json")).unwrap();
    let token: Value = serde_json::from_str(&token).unwrap();
    let connect = Connect::cli(&["operator.admin"]).token(token["gateway"]["auth"]["token"].as_str().unwrap());
    let mut operator = Client::unix_at(&scratch.state().join("gateway.sock"));
    operator.connect(&connect).unwrap();
    let node = nodes.to_string();
    let node = node.split('"').find(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).unwrap();
    let names = |directory: &Path| tree(directory).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    // The audit log exists from the first run on.
    exec.assert_works();
    let before = names(scratch.path());
    for id in hostile {
        // Where the caller chooses an id that is kept.
        let request = json!({"id": id, "host": "gateway", "command": "ls", "timeoutMs": 1_000, "twoPhase": true,
            "requireDeliveryRoute": false});
        let error = operator.request("exec.approval.request", request).expect_err(id);
        assert_eq!(error["code"], "INVALID_REQUEST", "{id:?}: {error}");
        for method in ["exec.approval.get", "exec.approval.waitDecision"] {
            operator.request(method, json!({ "id": id })).expect_err(id);
        }
        operator.request("exec.approval.resolve", json!({ "id": id, "decision": "allow-once" })).expect_err(id);
        for method in ["node.pair.approve", "device.pair.approve", "node.pair.reject"] {
            operator.request(method, json!({ "requestId": id })).expect_err(id);
        }
        for method in ["node.describe", "node.pair.remove", "exec.approvals.node.get"] {
            operator.request(method, json!({ "nodeId": id })).expect_err(id);
        }
        assert!(scratch.mac_debug(&["pair", "approve", &id.replace('\0', "%00")]).code != Some(0), "{id:?}");
        assert!(scratch.mac_debug(&["grants", "revoke", &id.replace('\0', "%00")]).code.is_some());
        // Where it is only said along: who asks, in which session, in which run, for which request.
        let run = json!({"command": [program("true")], "runId": id, "agentId": id, "sessionKey": id});
        let invoke = json!({"nodeId": node, "command": "system.run", "idempotencyKey": id, "params": run});
        let _ = operator.request("node.invoke", invoke);
        let mut line = exec.signed(&run.to_string());
        line.insert("id".into(), json!(id));
        let _ = exec.send(&line);
        let _ = exec.send(&exec.signed_at(&run.to_string(), &format!("{id}{}", fresh_nonce()), now_ms()));
        assert_eq!(names(scratch.path()), before, "{id:?}: a file came or went");
    }
    exec.assert_works();
    for id in ["r-1", "7f8a4c66-2f0e-4c93-9d0e-0c2a3b7f1e55", "a.b_c:d"] {
        let request = json!({"id": id, "host": "gateway", "command": "ls", "timeoutMs": 1_000, "twoPhase": true,
            "requireDeliveryRoute": false});
        assert_eq!(operator.request("exec.approval.request", request).unwrap()["id"], *id);
    }
}

// ---- H13: no privileges ----

#[cfg(target_os = "linux")]
#[test]
fn sec_h13_a_child_gains_no_privileges_and_leaves_no_core() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let mut document = allowing_everything();
    document["agents"] = json!({ "free": { "fence": "none" } });
    document["local"] = json!({ "trustGatewayApprovals": true });
    scratch.approvals(&document);
    let starter = ["sh", "-c", "ulimit -c unlimited; exec \"$0\" \"$@\""];
    let app = App::start_with(&scratch, scratch.openclaw_under(&starter, APP));
    let exec = app.exec(&scratch);
    let limits =
        exec.run(&[&program("sh"), "-c", "ulimit -c; ulimit -H -c; cat /proc/self/status; cat /proc/self/stat"]);
    let limits = limits.ran()["stdout"].as_str().unwrap().to_owned();
    let lines: Vec<&str> = limits.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0", "0"), "core files");
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{limits}");
    let stat: Vec<&str> = lines.last().unwrap().rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!((stat[2], stat[4]), (stat[3], "0"), "a session of its own without a terminal");
    // A program that becomes somebody else: only root can make one.
    if !is_root() {
        eprintln!("sec_h13: the helper that changes its user is left out, because only root can make one");
        return;
    }
    let helper = scratch.join("helper");
    fs::copy(program("id"), &helper).unwrap();
    chown(&helper, Some(65_534), None).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
    let bare = Command::new(&helper).arg("-u").output().unwrap();
    if String::from_utf8_lossy(&bare.stdout).trim() != "65534" {
        eprintln!("sec_h13: left out, because this file system honours no set-user-id");
        return;
    }
    let helper = helper.to_str().unwrap();
    assert_eq!(exec.run(&[helper, "-u"]).ran()["stdout"], json!("0\n"), "it became somebody else");
    let mut free = allowing_everything();
    free["defaults"]["fence"] = json!("none");
    free["socket"] = json!({ "token": exec.token });
    scratch.approvals(&free);
    assert_eq!(exec.run(&[helper, "-u"]).ran()["stdout"], json!("65534\n"), "the level `none` leaves it alone");
}

// ---- H14: an approval is for one node, one plan, once ----

/// A node that believes its gateway's approvals.
fn believing_node() -> (Scratch, Process, support::Seat, ScriptedGateway) {
    let scratch = Scratch::new();
    scratch.approvals(&json!({ "version": 1, "local": { "trustGatewayApprovals": true } }));
    let gateway = ScriptedGateway::new();
    let mut command = scratch.openclaw(&["node", "run", "--url", &gateway.url(), "--exec-host", "local"]);
    command.env("OPENCLAW_GATEWAY_TOKEN", "the-token-of-this-gateway-0123456789");
    let process = Process::spawn(command);
    let seat = gateway.seat();
    (scratch, process, seat, gateway)
}

/// Every text in `value`, by the path to it.
fn texts(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.is_empty() => found.push(at.to_owned()),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                texts(element, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                texts(member, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// H14, as far as a node needs no key for it: what a gateway forwards as approved is bound to what this node prepared. One
/// bit more, another node, a second time: refused.
#[test]
fn sec_h14_what_a_gateway_forwards_as_approved_is_bound() {
    let (here, _one, mut seat, _gateway) = believing_node();
    let (_there, _two, mut other, _other_gateway) = believing_node();
    let request = json!({"command": [program("touch"), here.canary()], "cwd": here.path(), "agentId": "main",
        "sessionKey": "agent:main:main"});
    let prepare = |seat: &mut support::Seat| {
        let plan = seat.invoke("system.run.prepare", &request).unwrap()["plan"].clone();
        json!({"command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"], "agentId": plan["agentId"],
            "sessionKey": plan["sessionKey"], "runId": "r", "approved": true, "approvalDecision": "allow-once",
            "systemRunPlan": plan})
    };
    let run = prepare(&mut seat);
    let mut places = Vec::new();
    texts(&run["systemRunPlan"], "/systemRunPlan", &mut places);
    // Of the policy the node believes its own word only, and that one is part of what it has prepared.
    places.retain(|place| !place.contains("policySnapshot"));
    texts(&run["command"], "/command", &mut places);
    places.extend(["/cwd", "/agentId", "/sessionKey"].map(str::to_owned));
    assert!(places.len() > 8, "{places:?}");
    for place in &places {
        let mut changed = run.clone();
        let text = changed.pointer_mut(place).unwrap();
        let mut bytes = text.as_str().unwrap().as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        *text = json!(String::from_utf8(bytes).unwrap());
        seat.invoke("system.run", &changed).expect_err(place);
    }
    for decision in [json!("allow_once"), json!(true), json!("deny"), Value::Null] {
        let mut changed = run.clone();
        changed["approvalDecision"] = decision.clone();
        if decision.is_null() {
            changed["approved"] = json!("true");
        }
        seat.invoke("system.run", &changed).expect_err(&decision.to_string());
        // A decision that is none may have used the plan up: the next round has one of its own.
        assert!(!here.canary().exists(), "{decision}");
    }
    let run = prepare(&mut seat);
    other.invoke("system.run", &run).expect_err("another node");
    assert!(!here.canary().exists());
    assert_eq!(seat.invoke("system.run", &run).unwrap()["success"], true);
    assert!(here.canary().exists());
    fs::remove_file(here.canary()).unwrap();
    seat.invoke("system.run", &run).expect_err("a second time");
    stays_absent(&here.canary());
}

// ---- H17: strict JSON ----

/// What is wrong with a text whatever it says: each is put in place of a good object's text.
fn odd_texts(good: &Value) -> Vec<String> {
    let text = good.to_string();
    let inner = &text[1..text.len() - 1];
    let mut odd: Vec<String> = vec![
        String::new(),
        " ".into(),
        "{".into(),
        "}".into(),
        "null".into(),
        "true".into(),
        "1".into(),
        "\"x\"".into(),
        "[]".into(),
        "{}".into(),
        "NaN".into(),
        "Infinity".into(),
        "undefined".into(),
        format!("\u{feff}{text}"),
        format!("[{text}]"),
        format!("{text}{text}"),
        format!("{text} x"),
        format!("{text},"),
        format!("{text}\0"),
        format!("\0{text}"),
        format!("({text})"),
        format!("/*c*/{text}"),
        format!("//c\n{text} }}"),
        format!("{{{inner},}}"),
        format!("{{,{inner}}}"),
        format!("{{{inner}"),
        format!("{inner}"),
        format!("{{{inner}]"),
        text.replace('"', "'"),
        text.replace(':', "="),
        text.replace(',', ";"),
        text.replace("\":", "\" "),
    ];
    // Numbers that are none, values that are none, text that is none.
    for value in [
        "NaN",
        "-NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "0x10",
        "1_000",
        "--1",
        "nul",
        "True",
        "undefined",
        "'x'",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00x\"",
        "\"\\ud800\\u0041\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"a\u{1}b\"",
        "\"open",
        "`x`",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1,\"a\":2}",
        "{1:2}",
        "// x",
    ] {
        odd.push(format!("{{{inner},\"zz\":{value}}}"));
    }
    for depth in [33, 200, 10_000] {
        odd.push(format!("{{{inner},\"zz\":{}1{}}}", "[".repeat(depth), "]".repeat(depth)));
        odd.push(format!("{{{inner},\"zz\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth)));
        odd.push(format!("{{{inner},\"zz\":{}", "[".repeat(depth)));
    }
    // Each member twice, spelled alike and with an escape, the same and another value; each cut off.
    for (name, value) in good.as_object().unwrap() {
        let escaped: String = name.chars().map(|character| format!("\\u{:04x}", character as u32)).collect();
        odd.extend([
            format!("{{{inner},\"{name}\":{value}}}"),
            format!("{{\"{name}\":null,{inner}}}"),
            format!("{{{inner},\"{escaped}\":{value}}}"),
        ]);
        odd.push(text.split_at(text.find(&format!("\"{name}\"")).unwrap()).0.to_owned());
    }
    for cut in (1..text.len()).step_by(text.len().div_ceil(40)).filter(|cut| text.is_char_boundary(*cut)) {
        odd.push(text[..cut].to_owned());
    }
    odd
}

#[test]
fn sec_h17_odd_lines_on_the_exec_socket_run_nothing() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let app = App::start(&scratch);
    let exec = app.exec(&scratch);
    let request =
        json!({"command": [program("touch"), scratch.canary()], "cwd": "/", "agentId": "main", "env": {"A": "b"}});
    // The line: signed well, written oddly.
    let lines = odd_texts(&Value::Object(exec.signed(&request.to_string())));
    // The authenticated text, in a good line.
    let inner = odd_texts(&request);
    println!("sec_h17: {} lines, {} requests", lines.len(), inner.len());
    assert!(lines.len() + inner.len() > 200);
    for line in &lines {
        let reply = exec.send_bytes(format!("{line}\n").as_bytes(), "");
        assert!(reply.is_refusal(), "{line:?}: {reply:?}");
    }
    for text in &inner {
        let reply = exec.send(&exec.signed(text));
        assert!(reply.is_refusal(), "{text:?}: {reply:?}");
    }
    // Bytes that are no text at all.
    let mut line = Value::Object(exec.signed(&request.to_string())).to_string().into_bytes();
    line.truncate(line.len() - 1);
    for bad in [&b",\"zz\":\"\xff\"}"[..], b",\"zz\":\"\xc0\xaf\"}", b",\"zz\":\"\xed\xa0\x80\"}"] {
        let reply = exec.send_bytes(&[&line, bad, b"\n"].concat(), "");
        assert!(reply.is_refusal(), "{reply:?}");
    }
    assert!(!app.log().contains("panicked"), "{}", app.log());
    stays_absent(&scratch.canary());
    exec.request(&request).ran();
}

#[test]
fn sec_h17_odd_frames_at_the_gateway_do_nothing() {
    let gateway = Gateway::start(Options::default());
    let connect = Connect::cli(&["operator.admin", "operator.read"]);
    // Before login: no text but a request logs in.
    let first = Client::unix(&gateway);
    let good = json!({"type": "req", "id": "1", "method": "connect", "params": connect.params(&first.challenge)});
    let mut frames = odd_texts(&good);
    let params = odd_texts(&good["params"]);
    let place = good["params"].to_string();
    frames.extend(params.iter().map(|odd| good.to_string().replace(&place, odd)));
    println!("sec_h17: {} frames before login", frames.len());
    assert!(frames.len() > 200);
    for frame in &frames {
        let mut client = Client::unix(&gateway);
        client.send_text(frame);
        match client.next() {
            Incoming::Closed(_) => {}
            Incoming::Frame(answer) => assert_eq!(answer["ok"], false, "{frame:?}: {answer}"),
        }
    }
    // After login: what is odd is answered with an error or not at all, and the session goes on.
    let mut client = Client::unix(&gateway);
    client.connect(&connect).unwrap();
    let request = json!({"type": "req", "id": "odd", "method": "exec.approvals.get", "params": {}});
    client.request("exec.approvals.get", json!({})).unwrap();
    for frame in odd_texts(&request) {
        client.send_text(&frame);
        let answered = client.start("health", json!({}));
        loop {
            match client.next() {
                Incoming::Frame(answer) if answer["id"] == answered.as_str() => break,
                Incoming::Frame(answer) => {
                    assert!(answer["type"] == "event" || answer["ok"] == false, "{frame:?}: {answer}")
                }
                Incoming::Closed(_) => {
                    client = Client::unix(&gateway);
                    client.connect(&connect).unwrap();
                    break;
                }
            }
        }
    }
    // Unknown members where every member counts.
    let mut login = Client::unix(&gateway);
    let mut params = connect.params(&login.challenge);
    params["trusted"] = json!(true);
    login.connect_with(params).expect_err("an unknown member of connect");
    let set = json!({"baseHash": "x", "file": {"version": 1}, "force": true});
    client.request("exec.approvals.set", set).expect_err("an unknown member of exec.approvals.set");
    client.request("health", json!({})).unwrap();
    let log = gateway.process.stderr();
    assert!(!log.contains("panicked") && !log.contains(TOKEN), "{log}");
}
