//! The wire's plan has the program's path in front; the program itself sees the name that was sent
//! first, since some programs look at it to know what they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use openclaw::exec::analysis::Host;
use openclaw::exec::approval::Guards;
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::exec::prepare::PreparedPlans;
use openclaw::node::commands::{Commands, ExecHost};
use openclaw::protocol::node::{InvokeRequest, name};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::audit::AuditLog;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::wake::Wake;
use serde_json::{Value, json};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().canonicalize().unwrap().join(format!("oc-argv0-{}", std::process::id()));
        std::fs::create_dir_all(path.join("bin")).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node that runs commands itself, and whose owner lets the gateway's approvals count.
fn node(scratch: &Scratch) -> Commands {
    let state = Environment { state_dir: Some(scratch.0.join("state")), ..Environment::default() };
    let state = StateDir::locate(&state).unwrap();
    state.prepare().unwrap();
    let file = json!({"version": 1, "local": {"trustGatewayApprovals": true}, "defaults": {"ask": "on-miss"}});
    let mut options = std::fs::OpenOptions::new();
    let mut document = options.write(true).create_new(true).mode(0o600).open(state.approvals()).unwrap();
    std::io::Write::write_all(&mut document, file.to_string().as_bytes()).unwrap();
    let guards = Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
    let bin = vec![scratch.0.join("bin")];
    Commands {
        offered: openclaw::node::surface(),
        host: Host { search_path: bin, ..Host::of_this_process(None) },
        policy: Arc::new(DocumentPolicy {
            document: Arc::new(ApprovalsDocument::new(&state)),
            trusts_agent: true,
            settings: Settings::default(),
        }),
        exec_host: ExecHost::Local(Arc::new(guards)),
        notifications: Arc::default(),
        policy_editor: None,
        abilities: None,
        computer: None,
        requester: "a test".into(),
    }
}

fn invoke(node: &Commands, prepared: &PreparedPlans, command: &str, params: &Value) -> Result<Value, String> {
    let request = InvokeRequest {
        id: "1".into(),
        node_id: "n".into(),
        command: command.into(),
        params_json: Some(params.to_string()),
        timeout_ms: None,
        idempotency_key: None,
        session_key: None,
    };
    let outcome = node.perform(&request, prepared, &Wake::new().unwrap(), None).unwrap();
    outcome.result.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.message.unwrap())
}

#[test]
fn the_program_sees_the_name_that_was_sent() {
    let scratch = Scratch::new();
    // In its complaint a program tells what it was called.
    std::fs::copy("/bin/cat", scratch.0.join("bin/tool")).unwrap();
    symlink("tool", scratch.0.join("bin/cargo")).unwrap();
    let (node, prepared) = (node(&scratch), PreparedPlans::default());
    let sent = json!({"command": ["cargo", "/nothing/here"], "cwd": scratch.0});
    let plan = invoke(&node, &prepared, name::RUN_PREPARE, &sent).unwrap()["plan"].clone();
    let path = scratch.0.join("bin/tool").to_str().unwrap().to_owned();
    assert_eq!(plan["argv"][0], path);
    let approved =
        json!({"command": plan["argv"], "cwd": plan["cwd"], "approvalDecision": "allow-once", "systemRunPlan": plan});
    let result = invoke(&node, &prepared, name::RUN, &approved).unwrap();
    let said = result["stderr"].as_str().unwrap();
    assert!(said.starts_with("cargo: "), "{said}");
    // Once; and whoever sends the path himself is taken at his word.
    assert!(invoke(&node, &prepared, name::RUN, &approved).unwrap_err().starts_with("SYSTEM_RUN_DENIED"));
    let plan = invoke(&node, &prepared, name::RUN_PREPARE, &json!({"command": [path, "/nothing/here"]})).unwrap();
    let plan = &plan["plan"];
    let approved = json!({"command": plan["argv"], "cwd": plan["cwd"], "approved": true, "systemRunPlan": plan});
    let result = invoke(&node, &prepared, name::RUN, &approved).unwrap();
    assert!(result["stderr"].as_str().unwrap().starts_with(&format!("{path}: ")), "{result}");
}
