//! What the original's node host answers to whole invocations, against ours in process. Nothing runs
//! here that the original refuses; where else we differ, the difference must be one of [`CLASSES`], and
//! is printed with the case's id.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support_vectors;

use openclaw::exec::analysis::Host;
use openclaw::exec::approval::Guards;
use openclaw::exec::arguments;
use openclaw::exec::display;
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::exec::matching::SkillBin;
use openclaw::exec::prepare::PreparedPlans;
use openclaw::node::commands::{Commands, ExecHost};
use openclaw::node::policy_edits::PolicyEditor;
use openclaw::node::surface;
use openclaw::protocol::node::{InvokeRequest, name};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::audit::AuditLog;
use openclaw::state::config::Config;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::spawn::is_executable;
use openclaw::sys::wake::Wake;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use support_vectors::{Fixture, cases};

/// A difference: what, theirs, ours.
struct Difference {
    what: String,
    theirs: Value,
    ours: Value,
}

impl Difference {
    fn theirs(&self) -> &str {
        self.theirs.as_str().unwrap_or_default()
    }

    fn ours(&self) -> &str {
        self.ours.as_str().unwrap_or_default()
    }

    /// Theirs did it; we refuse, with this in the message.
    fn is_refusal(&self, message: &str) -> bool {
        self.what == "refused" && self.ours().contains(message)
    }

    /// Both refuse; these are the beginnings of the messages, or these the reasons in the event.
    fn is_word(&self, theirs: [&str; 2], ours: [&str; 2]) -> bool {
        let (message, reason) = (self.what == "message", self.what == "event.payload.reason");
        (message && self.theirs().starts_with(theirs[0]) && self.ours().starts_with(ours[0]))
            || (reason && self.theirs() == theirs[1] && self.ours() == ours[1])
    }
}

/// One case, with or without the owner's word that approvals made at the gateway count.
struct Subject<'a> {
    case: &'a Value,
    is_trusted: bool,
}

impl Subject<'_> {
    fn is_old(&self) -> bool {
        self.case["era"] == "2026.1"
    }

    fn input(&self) -> &Value {
        &self.case["in"]
    }

    fn param(&self, name: &str) -> &Value {
        &self.input()["params"][name]
    }

    fn decision(&self) -> &str {
        self.param("approvalDecision").as_str().unwrap_or_default()
    }

    /// Whether the request speaks of an approval made elsewhere.
    fn claims(&self) -> bool {
        self.decision().starts_with("allow-") || self.param("approved") == true || self.has_source()
    }

    fn has_source(&self) -> bool {
        self.param("approvalSource").is_string()
    }

    fn has_plan(&self) -> bool {
        self.input()["usesPreparedPlan"] == true
    }

    fn policy(&self, name: &str) -> &Value {
        &self.input()["approvalsFile"]["agents"]["main"][name]
    }
}

type Covers = fn(&Subject<'_>, &Difference) -> bool;

const MISS: [&str; 2] = ["SYSTEM_RUN_DENIED: allowlist miss", "allowlist-miss"];
const REQUIRED: [&str; 2] = ["SYSTEM_RUN_DENIED: approval required", "approval-required"];
const DENIED: [&str; 2] = ["SYSTEM_RUN_DENIED: user denied", "user-denied"];
const NO_PLAN: &str = "explicit approval requires matching systemRunPlan";
const UNBOUND: &str = "approval cannot safely bind";

/// Every way in which we are stricter, or refuse with another word, and why.
const CLASSES: &[(&str, Covers)] = &[
    ("an approval counts only with the plan that was approved (A48, A113)", |subject, found| {
        let is_about_it = match found.what.as_str() {
            "refused" | "message" => found.ours() == NO_PLAN,
            "code" => found.ours() == "INVALID_REQUEST",
            "event.event" | "event.payload" => found.ours.is_null(),
            _ => false,
        };
        subject.is_old() && subject.claims() && is_about_it
    }),
    ("a no is final, whoever says it (A113)", |subject, found| {
        let is_about_it = found.is_refusal(DENIED[0]) || found.is_word(REQUIRED, DENIED) || found.is_word(MISS, DENIED);
        subject.decision() == "deny" && is_about_it
    }),
    ("an approval made at the gateway does not count until the owner says so (A113)", |subject, found| {
        let is_about_it = found.is_refusal(REQUIRED[0]) || (subject.has_source() && found.is_word(MISS, REQUIRED));
        !subject.is_trusted && subject.has_plan() && subject.claims() && is_about_it
    }),
    ("a text that was not understood is approved by a person who sees it, and nobody else", |subject, found| {
        let is_refusal = found.is_refusal(REQUIRED[0]) && found.ours().contains("the text was not understood");
        subject.has_plan()
            && subject.claims()
            && (is_refusal || (subject.has_source() && found.is_word(MISS, REQUIRED)))
    }),
    ("what an approval cannot be bound to is not prepared (A108)", |_, found| {
        (found.what == "prepare" && found.ours().contains(UNBOUND)) || found.is_refusal(UNBOUND)
    }),
    ("where the policy asks nobody, nobody's approval counts", |subject, found| {
        subject.policy("ask") == "off" && subject.claims() && found.is_refusal(MISS[0])
    }),
    (
        "only the answer to a question under an allowlist is stored, and for the program alone (A72)",
        |subject, found| {
            let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let (theirs, ours) = (entries(&found.theirs), entries(&found.ours));
            let is_stored = |entry: &Value| ours.contains(entry);
            found.what == "allowlist"
                && subject.decision() == "allow-always"
                && ours.iter().all(|entry| theirs.contains(entry))
                && theirs.iter().all(|entry| is_stored(entry) || entry["source"] == "allow-always")
        },
    ),
    ("the configuration tightens the document", |subject, found| {
        subject.is_old() && subject.input()["config"]["tools"].is_object() && found.is_refusal("SYSTEM_RUN_D")
    }),
    ("argv is text; nothing else is turned into it (A92)", |subject, found| {
        subject.is_old() && found.is_refusal("it must be an array of strings")
    }),
    ("a variable that must not be set refuses the run (A94, A95)", |subject, found| {
        subject.is_old() && found.is_refusal(" rejected (")
    }),
    ("a text that is claimed must be the command's (A76)", |subject, found| {
        subject.is_old() && found.is_refusal("rawCommand does not match command")
    }),
    ("parameters that are no object have an answer (A57)", |_, found| {
        let is_accident = found.theirs().is_empty() || found.theirs().starts_with("TypeError: ");
        is_accident && matches!(found.what.as_str(), "message" | "code")
    }),
    ("what cannot be executed is no program", |_, found| {
        let is_program = |path: &str| std::path::Path::new(path).is_file() && is_executable(path.as_ref());
        found.what.starts_with("payload.bins.") && found.ours.is_null() && !is_program(found.theirs())
    }),
    ("an edit that loosens the policy needs its owner (A53)", |subject, found| {
        !subject.is_trusted && found.is_refusal("this edit loosens the policy")
    }),
    ("the document has its own place and its own bytes", |_, found| {
        matches!(found.what.as_str(), "payload.path" | "payload.hash" | "payload.file.local")
    }),
    ("which script is missing is not told apart from other things that cannot be bound", |_, found| {
        found.what == "message" && found.theirs().ends_with("script operand") && found.ours().contains(UNBOUND)
    }),
    ("a program that is a script is bound by its content, whatever its name", |_, found| {
        found.what.ends_with("plan.mutableFileOperand") && found.theirs.is_null() && found.ours["argvIndex"] == 0
    }),
];

/// The one thing that runs although the original refuses it: by no rule, but since it cannot note the
/// use of an entry. By the catalogue's row A55, `*` is for callers who name no agent.
const RUNS_HERE: &[(&str, Covers)] = &[("the use of an entry for every agent can be noted here", |subject, found| {
    let message = found.theirs["error"]["message"].as_str().unwrap_or_default();
    message == "SYSTEM_RUN_DENIED: approval state could not be persisted"
        && subject.param("agentId").is_null()
        && subject.input()["approvalsFile"]["agents"]["*"]["allowlist"].is_array()
})];

/// A command line's world: the fixture's files, and a state directory of one case.
struct World<'a> {
    fixture: &'a Fixture,
    directory: PathBuf,
    commands: Commands,
    document: Arc<ApprovalsDocument>,
    prepared: PreparedPlans,
    /// Of the document, in the recording.
    their_hash: Mutex<String>,
}

impl<'a> World<'a> {
    fn new(fixture: &'a Fixture, case: &Value, is_trusted: bool) -> Self {
        let directory = PathBuf::from(fixture.path("state"));
        let _ = std::fs::remove_dir_all(&directory);
        let environment = || Environment { state_dir: Some(directory.clone()), ..Environment::default() };
        let state = StateDir::locate(&environment()).unwrap();
        state.prepare().unwrap();
        let input = &case["in"];
        if let Some(file) = text_of(fixture, &document_of(case, is_trusted)) {
            write_private(&state.approvals(), &file);
        }
        write_private(state.config(), &input["config"].to_string());
        let settings = Settings::of(&Config::inspect(&state, &environment()).unwrap().exec);
        // What the gateway of the recording answers to `skills.bins`.
        let gh = SkillBin { name: "gh".into(), path: fixture.path("usr/local/bin/gh").into() };
        settings.skills.lock().unwrap().push(gh);
        let document = Arc::new(ApprovalsDocument::new(&state));
        let guards = Guards {
            fencer: Fencer::none("the programs are the fixture's"),
            grants: Arc::default(),
            audit: AuditLog::new(&state),
        };
        let commands = Commands {
            offered: surface(),
            host: host(fixture),
            policy: Arc::new(DocumentPolicy { document: Arc::clone(&document), trusts_agent: true, settings }),
            exec_host: ExecHost::Local(Arc::new(guards)),
            notifications: Arc::default(),
            policy_editor: Some(PolicyEditor { document: Arc::clone(&document), person: None }),
            abilities: None,
            computer: None,
            requester: "the vectors".into(),
        };
        Self {
            fixture,
            directory,
            commands,
            document,
            prepared: PreparedPlans::default(),
            their_hash: Mutex::default(),
        }
    }

    /// Result and events, as the vectors write them.
    fn invoke(&self, command: &str, params: &Value) -> (Value, Vec<Value>) {
        let text = match params.get("raw") {
            Some(raw) => raw.as_str().unwrap().to_owned(),
            None => params.to_string(),
        };
        let request = InvokeRequest {
            id: "1".into(),
            node_id: "n".into(),
            command: command.into(),
            params_json: Some(text),
            timeout_ms: None,
            idempotency_key: None,
            session_key: None,
        };
        let outcome = self.commands.perform(&request, &self.prepared, &Wake::new().unwrap(), None).unwrap();
        let result = match outcome.result {
            Ok(payload) => json!({"ok": true, "payload": serde_json::from_str::<Value>(&payload).unwrap()}),
            Err(error) => json!({"ok": false, "error": error}),
        };
        let event = outcome.event.map(|(event, payload)| json!({"event": event, "payload": payload}));
        (self.abstracted(&result), event.iter().map(|event| self.abstracted(event)).collect())
    }

    /// With the vectors' words for what depends on where the fixture lies, and without null members.
    fn abstracted(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let some = members.iter().filter(|(_, value)| !value.is_null());
                let mut members: Map<String, Value> =
                    some.map(|(name, value)| (name.clone(), self.abstracted(value))).collect();
                if let (Some(path), Some(Value::String(hash))) = (members.get("path"), members.get("sha256")) {
                    let content = std::fs::read(path.as_str().unwrap()).unwrap();
                    if *hash == data_encoding::HEXLOWER.encode(&Sha256::digest(content)) {
                        members.insert("sha256".into(), "sha256-of-file".into());
                    }
                }
                if members.get("argPattern").and_then(Value::as_str).is_some_and(arguments::is_hash) {
                    members.insert("argPattern".into(), "cwd-hash".into());
                }
                Value::Object(members)
            }
            Value::Array(items) => items.iter().map(|item| self.abstracted(item)).collect(),
            other => other.clone(),
        }
    }

    fn stored(&self) -> Value {
        let text = std::fs::read_to_string(self.document.path()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The allowlist of `main`, as the vectors write it.
    fn allowlist(&self) -> Value {
        let stored = self.stored();
        let entries = stored["agents"]["main"]["allowlist"].as_array().cloned().unwrap_or_default();
        let entries = entries.iter().map(|entry| {
            let mut entry = self.abstracted(entry).as_object().unwrap().clone();
            let used = entry.remove("lastUsedAt").is_some();
            entry.remove("id");
            entry.insert("used".into(), used.into());
            Value::Object(entry)
        });
        entries.collect()
    }

    fn text(&self, value: &Value) -> Value {
        text_of(self.fixture, value).map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default()
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn text_of(fixture: &Fixture, value: &Value) -> Option<String> {
    (!value.is_null()).then(|| fixture.text(&value.to_string().into()).unwrap())
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The approvals document of a case: with the newer original's defaults where it is of that era, and
/// with the owner's word on what comes from outside.
fn document_of(case: &Value, is_trusted: bool) -> Value {
    let mut file = case["in"]["approvalsFile"].clone();
    if file.is_null() {
        return file;
    }
    if case["era"] == "2026.9" {
        let mut defaults = json!({"security": "full", "ask": "off", "askFallback": "deny"});
        defaults.as_object_mut().unwrap().extend(file["defaults"].as_object().cloned().unwrap_or_default());
        file["defaults"] = defaults;
    }
    if is_trusted {
        file["local"] = json!({"trustGatewayApprovals": true, "remoteEdits": "allow"});
    }
    file
}

fn host(fixture: &Fixture) -> Host {
    let directories = ["usr/local/bin", "usr/bin", "bin"].map(|below| PathBuf::from(fixture.path(below)));
    Host {
        home: fixture.path("home").into(),
        user: "user".into(),
        shell: "/bin/sh".into(),
        system_directories: directories[1..].to_vec(),
        search_path: directories.to_vec(),
        inherited: BTreeMap::new(),
        open_files: None,
    }
}

/// A text, or what the vector says of a long one.
fn is_text(theirs: &Value, ours: &Value) -> bool {
    let (Some(length), Some(ours)) = (theirs["length"].as_u64(), ours.as_str()) else { return theirs == ours };
    let part = |name: &str| theirs[name].as_str().unwrap();
    ours.chars().count() as u64 == length
        && theirs["utf8Bytes"].as_u64().is_none_or(|bytes| ours.len() as u64 == bytes)
        && ours.starts_with(part("head"))
        && ours.ends_with(part("tail"))
}

/// Whether a message is the contract's, perhaps with a sentence of ours behind it. What the original
/// adds on further lines is advice.
fn is_message(theirs: &str, ours: &str) -> bool {
    let theirs = theirs.lines().next().unwrap_or_default();
    ours == theirs || ours.strip_prefix(theirs).is_some_and(|rest| rest.starts_with(": "))
}

/// Notes each member in which two objects differ.
fn compare(what: &str, theirs: &Value, ours: &Value, found: &mut Vec<Difference>) {
    let names: BTreeSet<&String> =
        [theirs, ours].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    for name in names {
        let (theirs, ours) = (&theirs[name], &ours[name]);
        let is_same = match (name.as_str(), theirs, ours) {
            (_, Value::Object(_), Value::Object(_)) if theirs.get("length").is_none() => {
                compare(&format!("{what}.{name}"), theirs, ours, found);
                true
            }
            // The system's words are not part of the contract; a sentence before them is.
            ("error" | "output", Value::String(theirs), Value::String(ours))
                if theirs.contains("launch or output") || theirs.starts_with("spawn ") =>
            {
                !ours.is_empty() && theirs.split(" (os reported").next() == Some(ours)
                    || !theirs.contains("os reported")
            }
            ("runId", Value::String(theirs), Value::String(ours)) if theirs == "<uuid>" => ours.len() == 36,
            _ => is_text(theirs, ours),
        };
        if !is_same {
            let what = format!("{what}.{name}");
            found.push(Difference { what, theirs: theirs.clone(), ours: ours.clone() });
        }
    }
}

/// What the recording did to the prepared plan before it was sent back, in the vector's words; none if
/// they are not known here.
fn alter(plan: &mut Value, description: &str) -> Option<()> {
    let words: Vec<&str> = description.split(' ').collect();
    match words.as_slice() {
        _ if description.ends_with("+plan") => {}
        ["plan", "argv", ..] => plan["argv"].as_array_mut().unwrap().push("y".into()),
        ["plan", "cwd", ..] => plan["cwd"] = "/".into(),
        ["plan", "agent" | "agentId", ..] => plan["agentId"] = "other".into(),
        ["plan", "session" | "sessionKey", ..] => plan["sessionKey"] = "other".into(),
        ["plan", "text" | "commandText", ..] => plan["commandText"] = "other".into(),
        ["no", "policy", "snapshot"] => drop(plan.as_object_mut().unwrap().remove("policySnapshot")),
        _ => return None,
    }
    Some(())
}

fn is_edit(case: &Value) -> bool {
    case["in"]["command"].as_str().is_some_and(|command| command.starts_with(name::EXEC_APPROVALS))
}

/// What the older original would say today: words and members that only its successor has.
fn modernised(case: &Value) -> Value {
    let mut out = case["out"].clone();
    if case["era"] != "2026.1" {
        return out;
    }
    let message = out["result"]["error"]["message"].as_str().unwrap_or_default();
    if message.starts_with("SYSTEM_RUN_") || message.starts_with("PERMISSION_MISSING") {
        out["result"]["error"]["code"] = "SYSTEM_RUN_DENIED".into();
    }
    let words = case["in"]["params"]["command"].as_array().cloned().unwrap_or_default();
    let words: Vec<String> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let is_overdue = |of: &Value| of["timedOut"] == true;
    if is_overdue(&out["result"]["payload"]) {
        out["result"]["payload"]["exitCode"] = 124.into();
    }
    for event in out["events"].as_array_mut().into_iter().flatten() {
        let payload = &mut event["payload"];
        payload["suppressNotifyOnExit"] = false.into();
        if case["in"]["params"]["rawCommand"].is_string() {
            payload["command"] = display::canonical(&words).into();
        }
        if is_overdue(payload) {
            payload["exitCode"] = 124.into();
        }
    }
    out
}

/// Runs one case; none when it cannot be told how.
fn differences(world: &World<'_>, subject: &Subject<'_>) -> Option<Vec<Difference>> {
    let (case, out) = (subject.case, &modernised(subject.case));
    let mut params = world.text(&case["in"]["params"]);
    let mut found = Vec::new();
    let command = case["in"]["command"].as_str().unwrap();
    let unnamed = command == name::RUN && subject.is_old() && params.get("agentId").is_none();
    if let Some(members) = params.as_object_mut().filter(|members| unnamed && !members.contains_key("raw")) {
        // It took `main` for granted.
        members.insert("agentId".into(), "main".into());
    }
    if let Some(Value::String(hash)) = params.get_mut("baseHash")
        && hash.trim() == world.their_hash.lock().unwrap().as_str()
    {
        *hash = hash.replace(hash.trim(), &world.document.hash());
    }
    if case["in"]["usesPreparedPlan"] == true {
        let mut asked = params.as_object().unwrap().clone();
        asked.retain(|name, _| !name.starts_with("approv") && name != "runId");
        let (result, _) = world.invoke(name::RUN_PREPARE, &Value::Object(asked));
        let theirs = world.abstracted(&world.text(&out["prepare"]));
        let mut plan = world.text(&out["prepare"]["plan"]);
        if result["ok"] == true {
            plan = result["payload"]["plan"].clone();
            let ours = json!({
                "ok": true,
                "execPolicy": result["payload"]["execPolicy"],
                "coverageComplete": result["payload"]["allowAlwaysCoverage"]["complete"],
                "plan": plan,
            });
            compare("prepare", &theirs, &ours, &mut found);
        } else {
            let ours = result["error"]["message"].clone();
            found.push(Difference { what: "prepare".into(), theirs: true.into(), ours });
        }
        alter(&mut plan, case["in"]["desc"].as_str().unwrap())?;
        params["systemRunPlan"] = plan;
    }
    let before = world.allowlist();
    let (ours, events) = world.invoke(command, &params);
    let theirs = world.abstracted(&world.text(&out["result"]));
    if let Some(hash) = theirs["payload"]["hash"].as_str() {
        *world.their_hash.lock().unwrap() = hash.to_owned();
    }
    let text = |result: &Value, member: &str| result["error"][member].as_str().unwrap_or_default().to_owned();
    match (theirs["ok"] == true, ours["ok"] == true) {
        (false, true) => {
            found.push(Difference { what: "ran".into(), theirs: theirs.clone(), ours: ours["payload"].clone() })
        }
        (true, false) => {
            found.push(Difference { what: "refused".into(), theirs: true.into(), ours: text(&ours, "message").into() });
            assert_eq!(before, world.allowlist(), "{}: a refused run leaves a trace", case["id"]);
            assert!(events.iter().all(|event| event["event"] == "exec.denied"), "{}", case["id"]);
        }
        (true, true) => compare("payload", &theirs["payload"], &ours["payload"], &mut found),
        (false, false) => {
            for (member, is_same) in [
                ("code", text(&theirs, "code") == text(&ours, "code")),
                ("message", is_message(&text(&theirs, "message"), &text(&ours, "message"))),
            ] {
                if !is_same {
                    let (theirs, ours) = (text(&theirs, member).into(), text(&ours, member).into());
                    found.push(Difference { what: member.into(), theirs, ours });
                }
            }
        }
    }
    if theirs["ok"] == ours["ok"] {
        let their_events = world.text(&out["events"]);
        let their_events: Vec<Value> = their_events.as_array().unwrap().iter().map(|e| world.abstracted(e)).collect();
        for index in 0..their_events.len().max(events.len()) {
            let [theirs, ours] = [&their_events, &events].map(|events| events.get(index).unwrap_or(&Value::Null));
            compare("event", theirs, ours, &mut found);
        }
        if let Some(theirs) = out.get("allowlistAfter") {
            let theirs = world.abstracted(&world.text(theirs));
            let ours = world.allowlist();
            if theirs != ours {
                found.push(Difference { what: "allowlist".into(), theirs, ours });
            }
        }
        if let Some(theirs) = out.get("socketOnDisk") {
            assert_eq!(*theirs, world.stored()["socket"], "{case}");
        }
    }
    Some(found)
}

#[test]
fn vectors_node_host() {
    let fixture = Fixture::new();
    std::env::set_current_dir(fixture.path("work")).unwrap();
    let cases = cases("node-host.jsonl");
    let mut used = BTreeSet::new();
    let (mut equal, mut stricter, mut failed) = (0, 0, Vec::new());
    for is_trusted in [true, false] {
        let mut world: Option<World<'_>> = None;
        for case in cases.iter().filter(|case| case["fn"] != "node-connect-options") {
            let id = case["id"].as_str().unwrap();
            let subject = Subject { case, is_trusted };
            // The editing cases are one story.
            let goes_on = is_edit(case) && case["in"]["approvalsFile"].is_null();
            if !goes_on {
                drop(world.take());
            }
            let world = world.get_or_insert_with(|| World::new(&fixture, case, is_trusted));
            let Some(found) = differences(world, &subject) else {
                println!("{id}: not run: what was done to the plan is not in the vector");
                continue;
            };
            let mut is_equal = true;
            for difference in found {
                let table = if difference.what == "ran" { RUNS_HERE } else { CLASSES };
                match table.iter().find(|(_, covers)| covers(&subject, &difference)) {
                    Some((reason, _)) => {
                        is_equal = false;
                        used.insert(*reason);
                        println!(
                            "{id}: ours is {}: {reason}",
                            if difference.what == "ran" { "other" } else { "stricter" }
                        );
                    }
                    None => failed.push(format!(
                        "{id} {is_trusted} {}: {}: {} but {}",
                        case["in"]["desc"], difference.what, difference.theirs, difference.ours
                    )),
                }
            }
            *(if is_equal { &mut equal } else { &mut stricter }) += 1;
        }
    }
    println!("{} cases, each with trust and without: {equal} equal, {stricter} stricter", cases.len());
    assert!(failed.is_empty(), "{} differences:\n{}", failed.len(), failed.join("\n"));
    let unused: Vec<&str> = [CLASSES, RUNS_HERE]
        .concat()
        .iter()
        .map(|(reason, _)| *reason)
        .filter(|reason| !used.contains(reason))
        .collect();
    let are_ours = std::env::var_os("OPENCLAW_VECTORS_DIR").is_none();
    assert!(!are_ours || unused.is_empty(), "no case needs: {unused:?}");
}

/// `node-connect-options`: as what a node introduces itself.
#[test]
fn vectors_node_connect_options() {
    let case = &cases("node-host.jsonl")[0];
    assert_eq!(case["fn"], "node-connect-options");
    let ours = surface();
    for command in case["out"]["commands"].as_array().unwrap() {
        assert!(ours.commands.iter().any(|ours| *ours == *command), "{command}");
    }
    assert_eq!(json!(ours.caps), case["out"]["caps"]);
    assert_eq!(json!(ours.permissions), case["out"]["permissions"]);
}
