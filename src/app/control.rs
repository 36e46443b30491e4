//! The app's control socket, for its owner's own tools: one JSON line with a `type`, one JSON line
//! back.
//!
//! Whoever is our user may speak here without a secret, so only verbs that look or tighten live
//! here. Commands are fenced away from this socket; one that came through could still loosen nothing.

use crate::client::Tunnel;
use crate::exec::approval::Guards;
use crate::limits;
use crate::protocol::policy::Refusal;
use crate::protocol::{strict, text};
use crate::state::StateDir;
use crate::sys::connect::connect_unix;
use crate::sys::{process, socket};
use crate::transport::connections::{Connections, Listening, is_own_user, send};
use crate::transport::lease::SocketLease;
use crate::transport::line::{LineError, LineReader};
use crate::transport::stream::Stream;
use serde_json::{Value, json};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

/// The name of the socket in logs.
const NAME: &str = "control";

/// What the verbs look at and tighten.
pub struct Controls {
    /// This app's grants, and what its commands are fenced by.
    pub guards: Arc<Guards>,
    /// The way to its gateway, if that is behind ssh.
    pub tunnel: Option<Tunnel>,
}

/// Answers a request with the members beside `ok`.
type Verb = fn(&Controls, &Value) -> Result<Value, Refusal>;

/// By `type`. Nothing in here may loosen anything.
const VERBS: &[(&str, Verb)] = &[("status", status), ("grants.list", list_grants), ("grants.revoke", revoke_grants)];

fn status(controls: &Controls, _request: &Value) -> Result<Value, Refusal> {
    let Guards { fencer, grants, .. } = &*controls.guards;
    let tunnel = controls.tunnel.as_ref().map(|tunnel| {
        let status = tunnel.status();
        json!({"target": status.target, "connected": status.connected, "trouble": status.trouble})
    });
    Ok(json!({"fence": fencer.mechanism(), "grants": grants.list().len(), "tunnel": tunnel}))
}

fn list_grants(controls: &Controls, _request: &Value) -> Result<Value, Refusal> {
    Ok(json!({"grants": controls.guards.grants.list()}))
}

fn revoke_grants(controls: &Controls, request: &Value) -> Result<Value, Refusal> {
    let id = request.get("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| Refusal::invalid("`id` must be the id of a grant, or \"all\""))?;
    Ok(json!({"revoked": controls.guards.grants.revoke(id)}))
}

/// Serves `lease` from now on, until the answer is dropped.
///
/// # Errors
/// No descriptors or threads are left.
pub fn start(lease: SocketLease, controls: Controls) -> io::Result<Listening> {
    let serve = move |stream: &Arc<Stream>, _: &_| {
        // Before anything is read.
        if is_own_user(NAME, stream)
            && let Some(line) = read(stream)
        {
            send(stream, &answer(line.and_then(|line| perform(&controls, &line))));
        }
    };
    Listening::start(NAME, lease, Arc::new(Connections::default()), serve)
}

/// The one line; none when there is nobody to answer.
fn read(stream: &Stream) -> Option<Result<Vec<u8>, Refusal>> {
    let mut reader = LineReader::new(stream, limits::CONTROL_LINE_BYTES);
    match reader.next_line(Instant::now() + limits::EXEC_LINE_DEADLINE) {
        Ok(line) => Some(Ok(line)),
        Err(LineError::Io(_)) => None,
        Err(error) => Some(Err(Refusal::invalid(error.to_string()))),
    }
}

fn perform(controls: &Controls, line: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(line).map_err(|_| Refusal::invalid("the line is not UTF-8"))?;
    strict::check(text, limits::STRICT_JSON_DEPTH).map_err(|error| Refusal::invalid(error.to_string()))?;
    let request: Value = serde_json::from_str(text).map_err(|error| Refusal::invalid(error.to_string()))?;
    let asked = request.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == asked) else {
        let known: Vec<&str> = VERBS.iter().map(|(name, _)| *name).collect();
        return Err(Refusal::invalid(format!("`type` must be one of: {}", known.join(", "))));
    };
    verb(controls, &request)
}

/// The line, newline included.
fn answer(outcome: Result<Value, Refusal>) -> String {
    let ok = outcome.is_ok();
    let mut answer =
        outcome.unwrap_or_else(|refusal| json!({"error": {"code": refusal.code, "message": refusal.message}}));
    if let Some(members) = answer.as_object_mut() {
        members.insert("ok".to_owned(), ok.into());
    }
    format!("{answer}\n")
}

/// Asks the running app, as its owner's tools do; returns the members of its answer.
///
/// # Errors
/// A sentence: there is no app, or it refuses.
pub fn ask(state: &StateDir, request: &Value) -> Result<Value, String> {
    let path = state.control_socket();
    let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let stream = connect_unix(&path, limits::EXEC_LINE_DEADLINE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no app runs here ({}); start it with `openclaw app`", path.display())
        }
        _ => broken(&error),
    })?;
    if socket::peer_uid(stream.as_fd()).ok() != Some(process::effective_uid()) {
        return Err(broken(&"it is another user's program that serves there; nothing was sent"));
    }
    let (stream, deadline) = (Stream::unix(stream), Instant::now() + limits::EXEC_ANSWER_DEADLINE);
    stream.write_until(format!("{request}\n").as_bytes(), deadline).map_err(|error| broken(&error))?;
    let mut reader = LineReader::new(&stream, limits::EXEC_ANSWER_BYTES);
    let line = reader.next_line(deadline).map_err(|error| broken(&error))?;
    let answer: Value = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok(answer);
    }
    let why = answer.pointer("/error/message").and_then(Value::as_str);
    Err(format!("the app refuses: {}", text::visible(why.unwrap_or("it does not say why"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::approval::Span;
    use crate::exec::grants::tests::plan;
    use crate::state::Environment;
    use crate::state::audit::AuditLog;
    use crate::sys::fence::Fencer;
    use std::os::unix::fs::DirBuilderExt;

    #[test]
    fn grants_are_listed_and_ended_over_the_socket() {
        let directory = std::env::temp_dir().join(format!("oc-k-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        let guards = Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit: AuditLog::new(&state) };
        let grants = Arc::clone(&guards.grants);
        grants.add(&plan("echo \u{1b}[2J"), Span::Session);
        grants.add(&plan("id"), Span::Minutes);
        let lease = SocketLease::bind(&state.control_socket()).unwrap();
        let listening = start(lease, Controls { guards: Arc::new(guards), tunnel: None }).unwrap();
        let answer = ask(&state, &json!({"type": "grants.list"})).unwrap();
        let expected = json!({"id": "1", "agentId": "main", "sessionKey": "s", "command": "echo $'\\u{1B}[2J'",
            "span": "this session", "remainingMs": answer["grants"][0]["remainingMs"], "uses": 0});
        assert_eq!((answer["grants"].as_array().unwrap().len(), &answer["grants"][0]), (2, &expected));
        assert!(answer["grants"][0]["remainingMs"].as_u64().unwrap() > 1_000_000);
        let status = ask(&state, &json!({"type": "status"})).unwrap();
        assert!(status["fence"].as_str().unwrap().starts_with("none (a test)") && status["grants"] == 2, "{status}");
        let ended = ask(&state, &json!({"type": "grants.revoke", "id": "1"})).unwrap();
        assert_eq!((&ended["revoked"], grants.list().len()), (&json!(1), 1));
        let refusal = ask(&state, &json!({"type": "grants.add"})).unwrap_err();
        assert!(refusal.contains("grants.list, grants.revoke"), "{refusal}");
        // As many as there can be, each as long as it can be, fit into the answer.
        for number in 0..limits::GRANTS {
            let text = format!("{number}{}", "\u{1}".repeat(limits::GRANT_TEXT_BYTES));
            let (agent_id, session_key) = (Some(text.clone()), Some(text.clone()));
            grants.add(&crate::exec::plan::Plan { agent_id, session_key, ..plan(&text) }, Span::Minutes);
        }
        let answer = ask(&state, &json!({"type": "grants.list"})).unwrap();
        assert_eq!(answer["grants"].as_array().unwrap().len(), limits::GRANTS);
        drop(listening);
        assert!(ask(&state, &json!({"type": "grants.list"})).unwrap_err().contains("no app runs here"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
