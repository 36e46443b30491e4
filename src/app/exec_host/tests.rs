//! The server through real sockets, with a scripted runner and person behind it.

use super::*;
use crate::identity::envelope::{answer_is_proven, request_mac};
use crate::protocol::exec_host::exec_line;
use crate::sys::clock::wall_ms;
use crate::sys::process;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

const TOKEN: &str = "a-token-of-some-length";

fn token() -> Secret {
    Secret::new(TOKEN.to_owned())
}

/// What it does depends on argv[0]: `wait` until its end, `panic`, anything else succeeds.
struct Scripted {
    ran: Mutex<Sender<RunRequest>>,
    ended: Mutex<Sender<()>>,
}

impl Runner for Scripted {
    fn run(
        &self,
        request: &RunRequest,
        _requester: &str,
        end: &Wake,
        _listener: Option<Listener<'_>>,
    ) -> Result<RunResult, Refusal> {
        self.ran.lock().unwrap().send(request.clone()).unwrap();
        match request.command[0].as_str() {
            "panic" => panic!("scripted"),
            "deny" => Err(Refusal::denied("user-denied", "SYSTEM_RUN_DENIED: user denied")),
            "wait" => {
                crate::sys::poll::wait_one(end.fd(), crate::sys::poll::Interest::Readable, None).unwrap();
                self.ended.lock().unwrap().send(()).unwrap();
                Ok(RunResult::default())
            }
            _ => Ok(RunResult { exit_code: Some(0), success: true, stdout: "done".into(), ..RunResult::default() }),
        }
    }
}

struct Says(Mutex<Sender<Question>>, Answer);

impl Person for Says {
    fn ask(&self, question: &Question, _withdrawn: &Wake) -> Answer {
        self.0.lock().unwrap().send(question.clone()).unwrap();
        self.1.clone()
    }
}

struct Fixture {
    host: Option<ExecHost>,
    directory: PathBuf,
    ran: Receiver<RunRequest>,
    ended: Receiver<()>,
    asked: Receiver<Question>,
}

impl Fixture {
    fn new(name: &str, answer: Answer) -> Self {
        Self::with(name, answer, Peers::new(|| false))
    }

    fn with(name: &str, answer: Answer, peers: Peers) -> Self {
        let directory = std::env::temp_dir().join(format!("oc-x-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let ((ran_in, ran), (ended_in, ended), (asked_in, asked)) = (channel(), channel(), channel());
        let services = Services {
            token: Box::new(|| Ok(token())),
            runner: Box::new(Scripted { ran: Mutex::new(ran_in), ended: Mutex::new(ended_in) }),
            person: Arc::new(Says(Mutex::new(asked_in), answer)),
            peers: Arc::new(peers),
        };
        let lease = SocketLease::bind(&directory.join("s")).unwrap();
        let host = Some(ExecHost::start(lease, services).unwrap());
        Self { host, directory, ran, ended, asked }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.join("s")).unwrap()
    }

    fn exchange(&self, bytes: &[u8]) -> String {
        exchange(&self.directory, bytes)
    }

    fn error(&self, line: &str) -> (String, String, String) {
        let answer: Value = serde_json::from_str(&self.exchange(line.as_bytes())).unwrap();
        assert_eq!(answer["ok"], false, "{answer}");
        let part = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        (part("code"), part("message"), part("reason"))
    }

    fn works(&self) {
        let answer = self.exchange(signed(&["true"]).as_bytes());
        assert!(answer.contains("\"stdout\":\"done\""), "{answer}");
        assert_eq!(self.ran.recv().unwrap().command, ["true"]);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.host.take());
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Sends `bytes`, half-closes, and reads the first line that is not blank; empty = closed.
fn exchange(directory: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(directory.join("s")).unwrap();
    // The server may close before it has read everything, that is one of the outcomes.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    first_line(&stream)
}

fn first_line(stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => return line,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither an answer nor a close: {error}"),
        }
    }
    String::new()
}

fn envelope(command: &[&str], nonce: &str, ts: i64) -> ExecEnvelope {
    let request_json = serde_json::json!({ "command": command }).to_string();
    let hmac = request_mac(&token(), nonce, ts, &request_json);
    ExecEnvelope { id: "id-1".into(), nonce: nonce.into(), ts, hmac, request_json }
}

fn signed(command: &[&str]) -> String {
    exec_line(&envelope(command, &random::uuid(), wall_ms()))
}

fn invalid_of(message: &str, reason: &str) -> (String, String, String) {
    ("INVALID_REQUEST".into(), message.into(), reason.into())
}

/// H02, exec b.3: the answer, its proof, its id; a refusal has the socket's code.
#[test]
fn sec_h02_answers_to_authenticated_requests_are_proven() {
    let fixture = Fixture::new("h02", Answer::TimedOut);
    for command in ["true", "deny"] {
        let envelope = envelope(&[command], &random::uuid(), wall_ms());
        let line = fixture.exchange(exec_line(&envelope).as_bytes());
        assert!(answer_is_proven(&token(), &envelope.nonce, &line), "{line}");
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&answer["type"], &answer["id"]), (&"exec-res".into(), &"id-1".into()));
        if command == "deny" {
            assert_eq!(answer["error"]["code"], "UNAVAILABLE");
            assert_eq!(answer["error"]["message"], "SYSTEM_RUN_DENIED: user denied");
            assert_eq!(answer["error"]["reason"], "user-denied");
        }
    }
    let refused = fixture.exchange(exec_line(&envelope(&["true"], "n", 0)).as_bytes());
    assert!(!refused.contains("\"mac\""), "{refused}");
}

/// A110: refused before reading, whatever the file's mode is. Needs root to be another user.
#[test]
fn sec_a126_a_program_that_becomes_another_one_after_it_was_admitted_is_refused() {
    use crate::transport::code_identity::Standing;
    // The test connects from this process, whose node is always served: so the standing is looked at in a child.
    let looks = AtomicUsize::new(0);
    let changing = move |_: &Stream| match looks.fetch_add(1, Ordering::SeqCst) {
        0..=2 => Standing::Ours,
        _ => Standing::Foreign("a.b of team ABCDE12345".to_owned()),
    };
    let peers = Peers { requires_own_team: Box::new(|| true), standing: Box::new(changing) };
    let fixture = Fixture::with("a126", Answer::TimedOut, peers);
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
        s.sendall(sys.argv[2].encode()); print(s.makefile().readline())";
    let ask = || {
        let output = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(fixture.directory.join("s"))
            .arg(signed(&["true"]))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(ask().contains("\"stdout\":\"done\""), "the same program twice");
    let changed = ask();
    assert!(changed.contains("\"decision\":\"deny\""), "{changed}");
    // Refused before reading: the answer may be lost to the reset.
    assert!(!ask().contains("done"), "a foreign one");
    assert_eq!(fixture.ran.try_iter().count(), 1);
}

#[test]
fn sec_a110_another_user_is_refused_before_reading() {
    const PATH: &str = "OC_TEST_A110";
    const LINE: &str = "OC_TEST_A110_LINE";
    if let Some(path) = std::env::var_os(PATH) {
        // This is the other user, see below.
        let stream = UnixStream::connect(path).unwrap();
        // Refused before reading: the server may be gone already.
        let _ = (&stream).write_all(std::env::var(LINE).unwrap().as_bytes());
        println!("answer: {}", first_line(&stream));
        return;
    }
    if process::effective_uid() != 0 {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let fixture = Fixture::new("a110", Answer::TimedOut);
    let path = fixture.directory.join("s");
    fs::set_permissions(&fixture.directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    // The test binary may lie where the other user cannot read it.
    let binary = fixture.directory.join("t");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let output = std::process::Command::new(&binary)
        .args(["--exact", "--nocapture", "app::exec_host::tests::sec_a110_another_user_is_refused_before_reading"])
        .env(PATH, &path)
        .env(LINE, signed(&["true"]))
        .current_dir("/")
        .uid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("answer: {\"type\":\"decision\"") && said.contains("\"decision\":\"deny\""), "{said}");
    assert!(fixture.ran.try_recv().is_err());
    fixture.works();
}

/// A111: exactly the 64 lower-case hex digits, computed over exactly these fields with this key.
#[test]
fn sec_a111_any_other_mac_is_invalid_auth() {
    let fixture = Fixture::new("a111", Answer::TimedOut);
    let good = || envelope(&["true"], &random::uuid(), wall_ms());
    let mut lines = Vec::new();
    for change in [
        |mac: &str| mac.to_uppercase(),
        |mac: &str| mac[..63].to_owned(),
        |mac: &str| format!("{mac}0"),
        |mac: &str| format!("{}{}", &mac[..63], if mac.ends_with('0') { '1' } else { '0' }),
        |_: &str| String::new(),
        |_: &str| "z".repeat(64),
    ] {
        let mut envelope = good();
        envelope.hmac = change(&envelope.hmac);
        lines.push(exec_line(&envelope));
    }
    let mut other_order = good();
    let ts = other_order.ts;
    other_order.hmac = request_mac(&token(), &other_order.request_json, ts, &other_order.nonce);
    lines.push(exec_line(&other_order));
    for key in ["", "another-token-of-some-length"] {
        let mut envelope = good();
        let key = Secret::new(key.to_owned());
        envelope.hmac = request_mac(&key, &envelope.nonce, envelope.ts, &envelope.request_json);
        lines.push(exec_line(&envelope));
    }
    let missing = exec_line(&good()).replace("\"hmac\"", "\"mac\"");
    let other_request = exec_line(&good()).replace("true", "false");
    let no_nonce = exec_line(&envelope(&["true"], "", wall_ms()));
    lines.extend([missing, other_request, no_nonce]);
    for line in lines {
        assert_eq!(fixture.error(&line), invalid_of("invalid auth", "hmac"), "{line}");
    }
    assert!(fixture.ran.try_recv().is_err());
    fixture.works();
}

/// A112: both sides of the window, the ends of the type, and what is no integer.
#[test]
fn sec_a112_timestamps() {
    let fixture = Fixture::new("a112", Answer::TimedOut);
    let now = wall_ms();
    for ts in [now - 11_000, now + 11_000, 0, -1, i64::MIN, i64::MAX, now / 1000] {
        let line = exec_line(&envelope(&["true"], &random::uuid(), ts));
        assert_eq!(fixture.error(&line), invalid_of("expired request", "ttl"), "{ts}");
    }
    for odd in ["1e30", "1.5", &format!("{now}.5"), "\"0\"", "null", "true", "[]", "99999999999999999999"] {
        let line = signed(&["true"]);
        let at = line.find("\"ts\":").unwrap() + 5;
        let end = at + line[at..].find(',').unwrap();
        let line = format!("{}{odd}{}", &line[..at], &line[end..]);
        assert_eq!(fixture.error(&line), invalid_of("expired request", "ttl"), "{odd}");
    }
    assert!(fixture.ran.try_recv().is_err());
    for ts in [now - 8_000, now + 8_000] {
        let line = exec_line(&envelope(&["true"], &random::uuid(), ts));
        assert!(fixture.exchange(line.as_bytes()).contains("\"ok\":true"));
    }
}

/// A116: silent and slow clients hold nobody up and are closed at the deadline.
#[test]
fn sec_a116_clients_that_never_speak() {
    process::settle();
    let fixture = Fixture::new("a116", Answer::TimedOut);
    let start = Instant::now();
    let idle: Vec<UnixStream> = (0..500).map(|_| fixture.connect()).collect();
    let slow: Vec<UnixStream> = (0..50).map(|_| fixture.connect()).collect();
    let asked = Instant::now();
    fixture.works();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let latest = start + limits::EXEC_LINE_DEADLINE + Duration::from_secs(5);
    let mut open = slow;
    while !open.is_empty() {
        assert!(Instant::now() < latest, "{} slow clients are still served", open.len());
        open.retain_mut(|stream| stream.write_all(b" ").is_ok());
        thread::sleep(Duration::from_millis(200));
    }
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "closed without a word");
    }
}

/// A117: nothing is done with parts of a request.
#[test]
fn sec_a117_oversized_and_truncated_lines_do_nothing() {
    let fixture = Fixture::new("a117", Answer::TimedOut);
    let line = signed(&["true"]);
    let line = line.trim_end();
    let mut nul = line.as_bytes().to_vec();
    nul.extend_from_slice(b"\0\n");
    let too_long =
        format!("{}{}\n", line.trim_end_matches('}'), format_args!(",\"pad\":\"{}\"}}", "x".repeat(300_000)));
    for (what, bytes) in [
        ("300 kB without newline", vec![b'x'; 300_000]),
        ("a good line that is too long", too_long.into_bytes()),
        ("half a line", line.as_bytes()[..line.len() / 2].to_vec()),
        ("all but the last byte", line.as_bytes()[..line.len() - 1].to_vec()),
        ("garbage behind the value", format!("{line} x\n").into_bytes()),
        ("two values in one line", format!("{line}{line}\n").into_bytes()),
        ("invalid UTF-8", b"{\"type\":\"exec\xff\"}\n".to_vec()),
        ("NUL", nul),
        ("an unknown type", b"{\"type\":\"other\"}\n".to_vec()),
        ("a member twice", line.replacen("\"type\"", "\"type\":\"request\",\"type\"", 1).into_bytes()),
        ("nested deeply", format!("{}\n", "[".repeat(100_000)).into_bytes()),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(fixture.exchange(&bytes), "", "{what}");
    }
    assert!(fixture.ran.try_recv().is_err());
    // A whole request counts without its newline, and what follows its line does not.
    assert!(fixture.exchange(signed(&["a"]).trim_end().as_bytes()).contains("\"ok\":true"));
    assert!(fixture.exchange(format!("{}{}", signed(&["b"]), signed(&["c"])).as_bytes()).contains("\"ok\":true"));
    let ran: Vec<_> = fixture.ran.try_iter().flat_map(|request| request.command).collect();
    assert_eq!(ran, ["a", "b"]);
}

/// A120: a half-close is no departure; a close ends the run. The client sees blank lines meanwhile.
#[test]
fn sec_a120_a_requester_that_has_gone_ends_its_run() {
    let fixture = Fixture::new("a120", Answer::TimedOut);
    let mut stream = fixture.connect();
    stream.write_all(signed(&["wait"]).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    fixture.ran.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut byte = [0];
    stream.set_read_timeout(Some(limits::KEEPALIVE * 5)).unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"\n");
    assert!(fixture.ended.try_recv().is_err(), "the half-close ended it");
    drop(stream);
    fixture.ended.recv_timeout(Duration::from_secs(5)).unwrap();
    fixture.works();
}

/// A165: a stop ends what runs, answers it, closes who has not spoken, and unlinks the socket.
#[test]
fn sec_a165_stop_with_work_in_flight() {
    let mut fixture = Fixture::new("a165", Answer::TimedOut);
    let silent = fixture.connect();
    let mut stream = fixture.connect();
    stream.write_all(signed(&["wait"]).as_bytes()).unwrap();
    fixture.ran.recv_timeout(Duration::from_secs(5)).unwrap();
    let start = Instant::now();
    fixture.host.take().unwrap().stop();
    assert!(start.elapsed() < limits::EXEC_STOP_WAIT, "{:?}", start.elapsed());
    fixture.ended.try_recv().unwrap();
    assert!(first_line(&stream).contains("the app was stopped"));
    assert_eq!(first_line(&silent), "");
    assert!(!fixture.directory.join("s").exists());
}

/// H01: in a row and at the same time.
#[test]
fn sec_h01_a_line_works_once() {
    let fixture = Fixture::new("h01", Answer::TimedOut);
    let line = signed(&["true"]);
    assert!(fixture.exchange(line.as_bytes()).contains("\"ok\":true"));
    assert_eq!(fixture.error(&line), invalid_of("replayed request", "replay"));
    let line = signed(&["true"]);
    let (directory, line) = (&fixture.directory, line.as_bytes());
    let good = thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| exchange(directory, line))).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|line| line.contains("\"ok\":true")).count()
    });
    assert_eq!((good, fixture.ran.try_iter().count()), (1, 2));
}

/// H22: a panic is answered and does no harm; the third one ends the running of commands.
#[test]
fn sec_h22_a_panicking_run_is_an_internal_error() {
    let fixture = Fixture::new("h22", Answer::TimedOut);
    for _ in 1..limits::PANICS {
        let (code, message, _) = fixture.error(&signed(&["panic"]));
        assert!(code == "UNAVAILABLE" && message.contains("internal error"), "{code} {message}");
        assert_eq!(fixture.ran.recv().unwrap().command, ["panic"]);
        fixture.works();
    }
    fixture.error(&signed(&["panic"]));
    assert_eq!(fixture.ran.try_iter().count(), 1);
    let (_, message, _) = fixture.error(&signed(&["true"]));
    assert!(message.contains("restart"), "{message}");
    assert!(fixture.ran.try_recv().is_err());
}

/// exec b.3 and H17: what is inside the envelope.
#[test]
fn sec_h17_request_json_is_strict_but_may_grow() {
    let fixture = Fixture::new("h17", Answer::TimedOut);
    let with = |request_json: &str| {
        let mut envelope = envelope(&[], &random::uuid(), wall_ms());
        envelope.hmac = request_mac(&token(), &envelope.nonce, envelope.ts, request_json);
        envelope.request_json = request_json.to_owned();
        exec_line(&envelope)
    };
    for bad in
        ["", "{", "null", "[]", r#"{"command":["a"],"command":["b"]}"#, r#"{"command":"ls"}"#, r#"{"command":[1]}"#]
    {
        assert_eq!(fixture.error(&with(bad)), invalid_of("invalid payload", "json"), "{bad}");
    }
    for empty in ["{}", r#"{"command":[]}"#, r#"{"command":[" "]}"#] {
        assert_eq!(fixture.error(&with(empty)), invalid_of("command required", "invalid"), "{empty}");
    }
    assert!(fixture.ran.try_recv().is_err());
    assert!(fixture.exchange(with(r#"{"command":["a"],"policySnapshot":{"x":1}}"#).as_bytes()).contains("\"ok\":true"));
}

#[test]
fn too_many_requests_are_told_so() {
    let fixture = Fixture::new("busy", Answer::TimedOut);
    let waiting: Vec<UnixStream> = (0..limits::EXEC_CONNECTIONS)
        .map(|_| {
            let mut stream = fixture.connect();
            stream.write_all(signed(&["wait"]).as_bytes()).unwrap();
            fixture.ran.recv_timeout(Duration::from_secs(5)).unwrap();
            stream
        })
        .collect();
    let (code, message, _) = fixture.error(&signed(&["true"]));
    assert!(code == "UNAVAILABLE" && message.starts_with("busy"), "{code} {message}");
    drop(waiting);
    for _ in 0..limits::EXEC_CONNECTIONS {
        fixture.ended.recv_timeout(Duration::from_secs(5)).unwrap();
    }
    let end = Instant::now() + Duration::from_secs(5);
    while fixture.host.as_ref().unwrap().serving() > 0 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(2));
    }
    fixture.works();
}

fn prompt_line(token: &str, request: &str) -> String {
    format!(r#"{{"type":"request","token":"{token}","id":"p-1","request":{request}}}{}"#, '\n')
}

/// exec b.2 and A63: only a person who was asked allows, and only a known requester gets one asked.
#[test]
fn sec_a63_a_prompt_request_is_answered_by_a_person_or_denied() {
    let request = r#"{"command":"ls -la","cwd":"/tmp","agentId":"main","resolvedPath":"/bin/ls","host":"node"}"#;
    for (answer, expected) in [
        (Answer::Decided(Decision::AllowOnce), "allow-once"),
        (Answer::Decided(Decision::AllowAlways), "allow-always"),
        (Answer::Decided(Decision::Deny), "deny"),
        (Answer::Nobody("why".into()), "deny"),
        (Answer::TimedOut, ""),
        (Answer::Withdrawn, ""),
    ] {
        let fixture = Fixture::new(&format!("p{expected}{}", answer == Answer::TimedOut), answer);
        for wrong in ["", "another-token-of-some-length", &TOKEN.to_uppercase()] {
            assert!(fixture.exchange(prompt_line(wrong, request).as_bytes()).contains("\"decision\":\"deny\""));
        }
        assert!(fixture.asked.try_recv().is_err(), "nobody is asked for a stranger");
        let line = fixture.exchange(prompt_line(TOKEN, request).as_bytes());
        let wanted = match expected {
            "" => String::new(),
            word => format!(r#"{{"type":"decision","id":"p-1","decision":"{word}"}}"#),
        };
        assert_eq!(line, wanted);
        let asked = fixture.asked.recv().unwrap();
        assert_eq!(asked.command, "ls -la");
        assert_eq!(asked.executable, "says it is \"/bin/ls\"", "it is a claim");
        assert_eq!(fixture.exchange(prompt_line(TOKEN, "{}").as_bytes()), "", "no command");
    }
}
