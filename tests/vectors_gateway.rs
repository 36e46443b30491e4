//! The gateway's decisions against recorded ones: what an approval is bound to, what it forwards, what
//! approvers see, which commands a node may serve. Never more permissive than `out`; where ours is
//! stricter, the case and the reason are printed, and any other difference fails.
//! `OPENCLAW_VECTORS_DIR` names another directory than `tests/vectors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_vectors;

use openclaw::exec::display;
use openclaw::gateway::command_policy::{self, NotAllowed, OwnerLists, Platform};
use openclaw::gateway::run_binding::{BoundEnv, BoundRun, RunPlan};
use openclaw::gateway::run_guard::{Caller, Run, Ticket, unknown};
use openclaw::protocol::error::WireError;
use openclaw::protocol::exec_host::{Request, decision_line, parse_line};
use openclaw::protocol::node::{InvokeResult, NodeError, RunResult};
use openclaw::protocol::policy::Decision;
use openclaw::sys::clock::{Expiry, Now};
use openclaw::{limits, protocol};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::{Client, Connect, Gateway};
use support_vectors::cases;

fn stricter(case: &Value, reason: &str) {
    println!("{}: ours is stricter: {reason}", text(&case["id"]));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

// ---- what an approval is bound to ----

#[test]
fn vectors_approval_binding() {
    for case in cases("approval-binding.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        match text(&case["fn"]) {
            "approval-env-binding" => {
                let env = BoundEnv::read(input.get("env"));
                let keys: Vec<_> = env.sorted().into_iter().map(|(name, _)| name.clone()).collect();
                assert_eq!(json!({"envHash": env.hash(), "envKeys": keys}), *out, "{case}");
            }
            "approval-plan-normalize" => match (RunPlan::read(&input["plan"]), out.is_null()) {
                (None, true) => {}
                (None, false) if input["plan"]["argv"].as_array().unwrap().iter().any(|word| !word.is_string()) => {
                    stricter(&case, "an argument that is no text is not turned into one");
                }
                (ours, _) => assert_eq!(json!(ours), *out, "{case}"),
            },
            other => panic!("{other}"),
        }
    }
}

// ---- what the gateway forwards ----

/// What the guard made of one case: the forwarded parameters and whether the record is used up.
fn guard(input: &Value) -> (Result<Value, WireError>, bool) {
    let record = &input["approvalRecord"];
    let moment = |wall_ms: i64| {
        let passed = Duration::from_millis(u64::try_from(input["nowMs"].as_i64().unwrap() - wall_ms).unwrap_or(0));
        let ahead = Duration::from_millis(u64::try_from(wall_ms - input["nowMs"].as_i64().unwrap()).unwrap_or(0));
        // Far enough from the beginning of this clock to count back.
        Now { instant: Instant::now() + Duration::from_secs(3600) - passed + ahead, wall_ms }
    };
    let at = |wall_ms: i64, after: Duration| Expiry::after(moment(wall_ms), after);
    let resolved = record["resolvedAtMs"].as_i64();
    let request = &record["request"];
    let env_hash = request["systemRunBinding"]["envHash"].as_str().map(str::to_owned);
    let plan = RunPlan::read(&request["systemRunPlan"]).filter(|_| !request["systemRunBinding"].is_null());
    let run = plan.map(|plan| BoundRun { plan, env_hash });
    let client = &input["client"];
    let scopes = texts(&client["connect"]["scopes"]);
    let caller = Caller {
        node_id: text(&input["targetNodeId"]),
        device_id: client["connect"]["device"]["id"].as_str(),
        conn_id: text(&client["connId"]),
        may_approve: scopes.iter().any(|scope| scope == "operator.approvals" || scope == "operator.admin"),
    };
    let was_spent = !input["consumeSucceeds"].as_bool().unwrap();
    let mut spent = was_spent;
    let mut ticket = Ticket {
        node_id: request["nodeId"].as_str(),
        run: run.as_ref(),
        device_id: record["requestedByDeviceId"].as_str(),
        conn_id: text(&record["requestedByConnId"]),
        end: resolved.map(|_| record["decision"].as_str().map(|word| Decision::from_word(word).unwrap())),
        expires: at(record["expiresAtMs"].as_i64().unwrap_or_default(), Duration::ZERO),
        kept: at(resolved.unwrap_or_default(), limits::APPROVAL_KEPT),
        spent: &mut spent,
    };
    let params = serde_json::from_str::<Box<RawValue>>(&input["params"].to_string()).unwrap();
    let result = Run::read(Some(&params)).and_then(|mut run| {
        if let Some(id) = run.claims().map(str::to_owned) {
            let known = input["managerAvailable"] == true && record["id"] == json!(id);
            known.then_some(()).ok_or_else(|| unknown(&id))?;
            run.redeem(&mut ticket, &caller, moment(input["nowMs"].as_i64().unwrap()))?;
        }
        Ok(serde_json::from_str(&run.guarded().params_json).unwrap())
    });
    (result, spent && !was_spent)
}

/// Why ours refuses what the original forwards; none if it should not.
fn refused_because(input: &Value, error: &WireError) -> Option<&'static str> {
    let (params, record) = (&input["params"], &input["approvalRecord"]);
    let plan = &record["request"]["systemRunPlan"];
    let members = [("command", "argv"), ("cwd", "cwd"), ("agentId", "agentId"), ("sessionKey", "sessionKey")];
    let names_another =
        members.iter().any(|(named, planned)| !params[named].is_null() && params[named] != plan[planned])
            || (!params["systemRunPlan"].is_null() && params["systemRunPlan"] != *plan)
            || (!params["rawCommand"].is_null() && params["rawCommand"] != plan["commandText"]);
    match error.detail_code() {
        "INVALID_REQUEST" if !params.is_object() => Some("parameters that are no object run nothing"),
        "APPROVAL_REQUEST_MISMATCH" if plan.is_null() => Some("without a plan nothing is bound"),
        "APPROVAL_REQUEST_MISMATCH" if names_another => Some("another run than the approved one is refused (A60)"),
        "APPROVAL_EXPIRED" if record["expiresAtMs"] == input["nowMs"] => Some("the end itself is past it"),
        "APPROVAL_REQUIRED" if params["approvalDecision"] == "deny" => Some("a no is final (A113)"),
        _ => None,
    }
}

#[test]
fn vectors_forward_guard() {
    for case in cases("forward-guard.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        match (guard(input), out["ok"] == true) {
            ((Ok(mut ours), spent), true) => {
                let mut theirs = out["params"].clone();
                theirs.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                if theirs.get("runId").is_none() {
                    assert!(ours.as_object_mut().unwrap().remove("runId").is_some(), "every run has a name: {case}");
                }
                if input["params"]["needsScreenRecording"] == true && theirs.get("approved").is_some() {
                    assert!(!spent && ours.get("approved").is_none(), "{case}");
                    stricter(&case, "what wants the screen is asked again (row A60)");
                    continue;
                }
                if ours["timeoutMs"] != theirs["timeoutMs"] {
                    stricter(&case, "the time is cut to what can be expected (row A60)");
                    theirs["timeoutMs"] = ours["timeoutMs"].clone();
                }
                assert_eq!(ours, theirs, "{case}");
                assert_eq!(spent, out["oneTimeGrantConsumed"] == true, "{case}");
            }
            ((Err(error), spent), true) => {
                assert!(!spent, "{case}");
                let why = refused_because(input, &error);
                stricter(&case, why.unwrap_or_else(|| panic!("{error}: {case}")));
            }
            ((Err(error), spent), false) => {
                assert!(!spent, "{case}");
                if input["managerAvailable"] == false {
                    stricter(&case, "our records are always there; this one is unknown");
                    continue;
                }
                let details = error.details.clone().unwrap_or_default();
                assert_eq!(
                    (error.message.as_str(), error.detail_code()),
                    (text(&out["message"]), text(&out["details"]["code"])),
                    "{case}"
                );
                for (name, value) in out["details"].as_object().unwrap() {
                    // The keys are known where the environments were compared.
                    assert!(
                        details[name] == *value || (name == "envKeys" && details[name].is_null()),
                        "{name}: {case}"
                    );
                }
            }
            ((Ok(ours), _), false) => panic!("more permissive: {ours} for {case}"),
        }
    }
}

// ---- what approvers see ----

#[test]
fn vectors_approval_display() {
    let gateway = Gateway::new();
    let mut asker = Client::login(&gateway, &Connect::backend(&["operator.approvals"]));
    for case in cases("approval-display.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        let generated = || text(&input["textGen"]["unit"]).repeat(input["textGen"]["count"].as_u64().unwrap() as usize);
        let command = input["text"].as_str().map_or_else(generated, str::to_owned);
        let mut operator = Client::login(&gateway, &Connect::cli(&["operator.admin"]));
        let id = text(&case["id"]);
        let request = asker.start(
            "exec.approval.request",
            json!({"id": id, "command": command, "twoPhase": true, "requireDeliveryRoute": false}),
        );
        match asker.response(&request) {
            Ok(_) => {
                let shown = operator.request("exec.approval.get", json!({"id": id})).unwrap()["commandText"].clone();
                assert!(out["truncated"] == false && out["oversized"] == false, "{case}");
                if shown != out["text"] {
                    // Every character is still there, none of them hidden: then more is visible than there.
                    assert_eq!(text(&shown), protocol::text::visible(&command), "{case}");
                    assert!(!text(&shown).contains(protocol::text::is_hidden), "{case}");
                    stricter(&case, "shown whole");
                }
                operator.request("exec.approval.resolve", json!({"id": id, "decision": "deny"})).unwrap();
            }
            Err(error) => {
                assert_eq!(error["message"], "command exceeds exec approval display limit", "{case}");
                assert!(out["truncated"] == true || out["oversized"] == true, "{case}");
                stricter(&case, "what cannot be shown whole is not asked, instead of cut");
            }
        }
    }
}

/// The line of a prompt request on the exec socket, read as the original's client writes it.
#[test]
fn vectors_approval_line() {
    for case in cases("approval-line.jsonl") {
        let (input, line) = (&case["in"], text(&case["out"]["line"]));
        let Ok(Request::Prompt(prompt)) = parse_line(line.trim_end_matches('\n').as_bytes()) else { panic!("{case}") };
        assert_eq!((prompt.id.as_str(), prompt.token.expose()), (text(&input["id"]), text(&input["token"])), "{case}");
        let asked = prompt.request;
        let member = |name: &str| input["request"][name].as_str().map(str::to_owned);
        assert_eq!(Some(asked.command), member("command"), "{case}");
        for (ours, name) in [
            (asked.cwd, "cwd"),
            (asked.agent_id, "agentId"),
            (asked.resolved_path, "resolvedPath"),
            (asked.session_key, "sessionKey"),
        ] {
            assert_eq!(ours, member(name), "{case}");
        }
        // What the client makes of an answer is the word that ours says.
        let word = Decision::from_word(text(&case["out"]["clientResult"])).unwrap();
        let said: Value = serde_json::from_str(&decision_line(&prompt.id, word)).unwrap();
        assert_eq!((&said["decision"], &said["id"]), (&input["serverDecision"], &input["id"]), "{case}");
    }
}

// ---- which commands a node may serve ----

/// Everything that any platform may serve in some case, and what ours could.
fn universe(cases: &[Value]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for case in cases {
        for list in ["/out/runtime", "/out/pairing", "/legacy_2026_1", "/in/approvedCommands"] {
            names.extend(case.pointer(list).map(texts).unwrap_or_default());
        }
    }
    names
}

fn owner_lists(config: &Value) -> OwnerLists {
    let list = |name: &str| config.pointer(&format!("/gateway/nodes/commands/{name}")).map(texts).unwrap_or_default();
    OwnerLists { allow: list("allow"), deny: list("deny") }
}

#[test]
fn vectors_node_command_policy() {
    let cases = cases("node-command-policy.jsonl");
    let names = universe(&cases);
    for case in &cases {
        let (input, out) = (&case["in"], &case["out"]);
        if case["fn"] == "node-command-allowed" {
            let (allowed, declared) = (texts(&input["allowlist"]), texts(&input["declaredCommands"]));
            let owner = OwnerLists { allow: allowed.clone(), deny: Vec::new() };
            let command = text(&input["command"]).trim();
            let ours = command_policy::check(Platform::Unknown, &owner, &allowed, &declared, command);
            let said = ours.map_err(NotAllowed::reason);
            assert_eq!(said.is_ok(), out["ok"] == true, "{case}");
            assert_eq!(said.err(), out["reason"].as_str(), "{case}");
            continue;
        }
        let platform = command_policy::platform(text(&input["platform"]), text(&input["deviceFamily"]));
        let owner = owner_lists(&input["config"]);
        let approved = texts(&input["approvedCommands"]);
        let is_allowed = |command: &String| {
            let declared = std::slice::from_ref(command);
            command_policy::check(platform, &owner, &approved, declared, command) != Err(NotAllowed::NotAllowlisted)
        };
        let may_declare = |command: &String| command_policy::may_declare(platform, &owner, command);
        compare_commands(case, "runtime", platform, names.iter().filter(|name| is_allowed(name)).collect());
        if out.get("pairing").is_some() {
            compare_commands(case, "pairing", platform, names.iter().filter(|name| may_declare(name)).collect());
        }
    }
}

fn compare_commands(case: &Value, list: &str, platform: Platform, ours: BTreeSet<&String>) {
    let theirs = texts(&case["out"][list]);
    let theirs: BTreeSet<&String> = theirs.iter().collect();
    // The original's canvas plugin adds these to a Mac (spec gateway §5); ours has no plugins.
    let is_canvas = |name: &&&String| platform == Platform::Mac && name.starts_with("canvas.");
    let more: Vec<_> = ours.difference(&theirs).filter(|name| !is_canvas(name)).collect();
    assert!(more.is_empty(), "more permissive: {more:?} for {list} of {case}");
    let less: Vec<_> = theirs.difference(&ours).collect();
    if !less.is_empty() {
        assert_eq!(platform, Platform::Unknown, "{less:?}: {case}");
        stricter(case, &format!("{list}: a platform's name is plain ASCII, so this one is unknown: without {less:?}"));
    }
}

// ---- small helpers ----

#[test]
fn vectors_gateway_side() {
    for case in cases("gateway-side.jsonl") {
        let (input, out) = (&case["in"], &case["out"]);
        match text(&case["fn"]) {
            "safe-executable-value" => stricter(&case, "no configuration of ours names a program to start"),
            "format-command" => assert_eq!(display::canonical(&texts(&input["argv"])), text(out), "{case}"),
            "truncate-output" => {
                // The limit is fixed: what is more than the case's goes behind as filler.
                let most = usize::try_from(input["maxChars"].as_u64().unwrap()).unwrap();
                let filler = "z".repeat(limits::EVENT_OUTPUT_UNITS - most);
                let stdout = format!("{}{filler}", text(&input["raw"]));
                let ours = display::output_tail(&RunResult { stdout, ..RunResult::default() });
                assert_eq!(ours, format!("{}{filler}", text(&out["text"])), "{case}");
                assert_eq!(ours.starts_with("... (truncated) "), out["truncated"] == true, "{case}");
            }
            "invoke-result-params" => {
                let (frame, result) = (&input["frame"], &input["result"]);
                let error = result.get("error").filter(|error| !error.is_null());
                let ours = InvokeResult {
                    id: text(&frame["id"]).to_owned(),
                    node_id: text(&frame["nodeId"]).to_owned(),
                    ok: result["ok"] == true,
                    payload_json: result["payloadJSON"].as_str().map(str::to_owned),
                    error: error.map(|error| serde_json::from_value::<NodeError>(error.clone()).unwrap()),
                };
                let mut theirs: Map<String, Value> = out.as_object().unwrap().clone();
                if theirs.remove("payload").is_some() {
                    println!("{}: ours sends payloads as payloadJSON only", text(&case["id"]));
                }
                assert_eq!(json!(ours), Value::Object(theirs), "{case}");
            }
            // Played to a real node in `vectors_forward`.
            "coerce-invoke" => {}
            other => panic!("{other}"),
        }
    }
}
