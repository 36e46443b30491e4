//! The exec socket's lines and its client against recorded vectors. `OPENCLAW_VECTORS_DIR` names
//! another directory than `tests/vectors`.
// A test stops at the first thing that is not as it should be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support_vectors;

use openclaw::identity::envelope::request_mac;
use openclaw::identity::secret::Secret;
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer, HostUnreachable};
use openclaw::protocol::exec_host::{BadLine, ExecEnvelope, ExecError, Request, exec_line, parse_line};
use openclaw::protocol::node::{RunRequest, RunResult, RunSource, parse_run};
use openclaw::sys::wake::Wake;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};
use support_vectors::cases;

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap()
}

#[test]
fn vectors_exec_line_build_and_parse() {
    for vector in cases("exec-line.jsonl") {
        let id = text(&vector, "/id");
        let request_json = text(&vector, "/out/requestJson");
        let nonce = text(&vector, "/in/nonce");
        let ts = vector.pointer("/in/ts").and_then(Value::as_i64).unwrap();
        let token = Secret::new(text(&vector, "/in/token").to_owned());
        let hmac = request_mac(&token, nonce, ts, request_json);
        assert_eq!(hmac, text(&vector, "/out/hmac"), "{id}");
        let envelope = ExecEnvelope {
            id: text(&vector, "/in/id").to_owned(),
            nonce: nonce.to_owned(),
            ts,
            hmac,
            request_json: request_json.to_owned(),
        };
        let line = text(&vector, "/out/line");
        assert_eq!(exec_line(&envelope), line, "{id}");
        match parse_line(line.trim_end_matches('\n').as_bytes()) {
            Ok(Request::Exec(parsed)) => {
                assert_eq!(
                    (parsed.id, parsed.nonce, parsed.ts, parsed.hmac, parsed.request_json),
                    (envelope.id, envelope.nonce, envelope.ts, envelope.hmac, envelope.request_json),
                    "{id}"
                );
            }
            // An empty nonce cannot be remembered: ours is stricter (exec b.5).
            Err(BadLine::Invalid { reason: "hmac", .. }) if nonce.is_empty() => {}
            other => panic!("{id}: {other:?}"),
        }
    }
}

/// Our client writes `requestJson` with the members and the order of the original's.
#[test]
fn vectors_exec_line_request_json_member_order() {
    let mut compared = 0;
    for vector in cases("exec-line.jsonl") {
        let request_json = text(&vector, "/out/requestJson");
        if vector.pointer("/in/request").and_then(Value::as_object).unwrap().len() != 9 {
            continue;
        }
        let request = parse_run(request_json, RunSource::Socket).unwrap();
        // The flag is a plain boolean here; the original also knows null for "not said".
        let expected = request_json.replace("\"needsScreenRecording\":null", "\"needsScreenRecording\":false");
        assert_eq!(serde_json::to_string(&request).unwrap(), expected);
        compared += 1;
    }
    assert!(compared >= 2);
}

#[test]
fn vectors_exec_client_behaviour() {
    for (index, vector) in cases("exec-client.jsonl").into_iter().enumerate() {
        let id = text(&vector, "/id");
        let directory = std::env::temp_dir().join(format!("oc-xc-{}-{index}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let path = directory.join("s");
        let scenario = text(&vector, "/in/scenario");
        let server = (scenario != "no-such-socket").then(|| {
            let listener = UnixListener::bind(&path).unwrap();
            let chunks = vector.pointer("/in/serverChunks").cloned().unwrap_or_default();
            let empty_token = scenario == "empty-token";
            thread::spawn(move || {
                if !empty_token {
                    serve(&listener, &chunks)
                }
            })
        });
        let token = if scenario == "empty-token" { " " } else { "a-token-of-some-length" };
        let source = Box::new(move || Ok(Secret::new(token.to_owned())));
        let client = ExecHostClient::new(path, source, ExecHostPeer::Official);
        let limit = vector.pointer("/in/timeoutMs").and_then(Value::as_u64).unwrap_or(400);
        let limit = Duration::from_millis(limit);
        let request = RunRequest { command: vec!["true".to_owned()], ..RunRequest::default() };
        let start = Instant::now();
        let outcome = client.run(&request, &Wake::new().unwrap(), Some(limit), None);
        let waited = start.elapsed() >= limit;
        let result = vector.pointer("/out/result").unwrap();
        match (&outcome, result.get("ok")) {
            (Ok(Ok(payload)), Some(Value::Bool(true))) => {
                let expected: RunResult = serde_json::from_value(result.get("payload").cloned().unwrap()).unwrap();
                assert_eq!(payload, &expected, "{id}");
            }
            (Ok(Err(error)), Some(Value::Bool(false))) => {
                let expected: ExecError = serde_json::from_value(result.get("error").cloned().unwrap()).unwrap();
                assert_eq!(error, &expected, "{id}");
            }
            (Err(_), None) => assert!(result.is_null(), "{id}"),
            _ => panic!("{id}: {outcome:?} instead of {result}"),
        }
        let waits = vector.pointer("/out/waitedForTimeout") == Some(&Value::Bool(true));
        assert_eq!(waited, waits, "{id}");
        assert_eq!(matches!(outcome, Err(HostUnreachable::TooSlow(_))), waits, "{id}");
        if let Some(server) = server {
            server.join().unwrap();
        }
        fs::remove_dir_all(directory).unwrap();
    }
}

/// Reads the request to its end, which the client marks by a half-close, then plays the chunks.
fn serve(listener: &UnixListener, chunks: &Value) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    assert!(matches!(parse_line(request.trim_end().as_bytes()), Ok(Request::Exec(_))));
    assert_eq!(reader.read_line(&mut String::new()).unwrap(), 0, "the client half-closes");
    for chunk in chunks.as_array().into_iter().flatten() {
        match chunk.get("write").and_then(Value::as_str) {
            Some(text) => (&stream).write_all(text.as_bytes()).unwrap(),
            None => return,
        }
    }
    // Stay until the client has what it wants, or its limit has passed.
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let wake = Wake::new().unwrap();
    openclaw::sys::poll::wait_gone(std::os::fd::AsFd::as_fd(&stream), &wake, deadline).unwrap();
}
