//! `system.notify` of a node: done only where it was declared, refused with the words of the protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use openclaw::exec::analysis::Host;
use openclaw::exec::document::{DocumentPolicy, Settings};
use openclaw::exec::prepare::PreparedPlans;
use openclaw::node::commands::{Commands, ExecHost};
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use openclaw::protocol::node::InvokeRequest;
use openclaw::protocol::notify::NOTIFY;
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::wake::Wake;
use std::sync::Arc;

fn notify(is_declared: bool, params: Option<&str>) -> String {
    let state = Environment { state_dir: Some(std::env::temp_dir().join("oc-nn")), ..Environment::default() };
    let state = StateDir::locate(&state).unwrap();
    let mut offered = openclaw::node::surface();
    offered.commands.extend(is_declared.then(|| NOTIFY.to_owned()));
    let token = Box::new(|| Err("none".to_owned()));
    let node = Commands {
        offered,
        host: Host::of_this_process(None),
        policy: Arc::new(DocumentPolicy {
            document: Arc::new(ApprovalsDocument::new(&state)),
            trusts_agent: false,
            settings: Settings::default(),
        }),
        exec_host: ExecHost::App(ExecHostClient::new(state.exec_socket(), token, ExecHostPeer::Ours)),
        notifications: Arc::default(),
        policy_editor: None,
        abilities: None,
        computer: None,
        requester: "a test".into(),
    };
    let request = InvokeRequest {
        id: "1".into(),
        node_id: "n".into(),
        command: NOTIFY.into(),
        params_json: params.map(str::to_owned),
        timeout_ms: None,
        idempotency_key: None,
        session_key: None,
    };
    let outcome = node.perform(&request, &PreparedPlans::default(), &Wake::new().unwrap(), None).unwrap();
    let error = outcome.result.unwrap_err();
    format!("{}: {}", error.code.unwrap(), error.message.unwrap())
}

#[test]
fn a_notification_is_refused_in_the_words_of_the_protocol() {
    let hello = Some(r#"{"title": "hello", "body": ""}"#);
    assert_eq!(notify(false, hello), "UNAVAILABLE: command not supported");
    assert_eq!(notify(true, hello), "UNAVAILABLE: notifications cannot be shown here");
    let empty = Some(r#"{"title": " ", "body": ""}"#);
    assert_eq!(notify(true, empty), "INVALID_REQUEST: INVALID_REQUEST: empty notification");
    assert!(notify(true, None).contains("paramsJSON required"));
}
