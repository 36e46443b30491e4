//! The app from socket to child process, with a scripted person.

use super::queue::tests::{Script, scripted};
use super::*;
use crate::desktop::Place;
use crate::desktop::permissions::tests::Scripted;
use crate::desktop::permissions::{Capability, Grant, Permissions};
use crate::exec::approval::{Answer, Question};
use crate::exec::document::Settings;
use crate::identity::secret::Secret;
use crate::node::exec_host_client::{ExecHostClient, ExecHostPeer, HostUnreachable};
use crate::protocol::exec_host::ExecError;
use crate::protocol::node::{RunRequest, RunResult};
use crate::protocol::policy::Decision;
use crate::state::Environment;
use crate::sys::wake::Wake;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

const TOKEN: &str = "a-token-of-some-length";
const SOON: Duration = Duration::from_secs(10);

/// A desktop with permissions of its own.
struct Permitted(Box<dyn Desktop>, Arc<dyn Permissions>);

impl Desktop for Permitted {
    fn ask(&self, question: &Question, place: Place, withdrawn: &Wake) -> Answer {
        self.0.ask(question, place, withdrawn)
    }

    fn permissions(&self) -> Arc<dyn Permissions> {
        Arc::clone(&self.1)
    }
}

struct App {
    directory: PathBuf,
    state: StateDir,
    host: Option<AppHost>,
    shown: Receiver<(Question, Place)>,
    tell: Sender<Script>,
}

impl App {
    fn new(name: &str) -> Self {
        Self::with(name, Arc::new(crate::desktop::permissions::Unsupported))
    }

    fn with(name: &str, permissions: Arc<dyn Permissions>) -> Self {
        let directory = std::env::temp_dir().join(format!("oc-a-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let variables = [("OPENCLAW_STATE_DIR".into(), directory.clone().into())];
        let state = StateDir::locate(&Environment::from_variables(None, variables).unwrap()).unwrap();
        state.prepare().unwrap();
        let (desktop, shown, tell) = scripted();
        let mut app = Self { directory, state, host: None, shown, tell };
        app.set_policy("allowlist", "deny");
        let desktop = Box::new(Permitted(desktop, permissions));
        app.host = Some(AppHost::start(&app.state, desktop, Settings::default(), Arc::default()).unwrap());
        app
    }

    fn set_policy(&self, security: &str, fallback: &str) {
        let text = format!(
            r#"{{"version":1,"socket":{{"token":"{TOKEN}"}},
                "defaults":{{"security":"{security}","ask":"on-miss","askFallback":"{fallback}"}}}}"#
        );
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(self.state.approvals()).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    fn client(&self) -> ExecHostClient {
        let token = Box::new(|| Ok(Secret::new(TOKEN.to_owned())));
        ExecHostClient::new(self.state.exec_socket(), token, ExecHostPeer::Ours)
    }

    fn ask(&self, request: &RunRequest) -> Result<RunResult, ExecError> {
        self.client().run(request, &Wake::new().unwrap(), Some(SOON), None).unwrap()
    }

    fn say(&self, decision: Decision) {
        self.tell.send(Script::Say(Answer::Decided(decision))).unwrap();
    }

    /// A command that would leave a trace.
    fn canary(&self) -> (RunRequest, PathBuf) {
        let path = self.directory.join("canary");
        (command(&["/usr/bin/touch", &path.to_string_lossy()]), path)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.host.take());
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn command(argv: &[&str]) -> RunRequest {
    let command = argv.iter().map(|argument| (*argument).to_owned()).collect();
    RunRequest { command, agent_id: Some("main".into()), cwd: Some("/".into()), ..RunRequest::default() }
}

fn reason(outcome: Result<RunResult, ExecError>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code, "UNAVAILABLE", "{error:?}");
    error.reason.unwrap_or_default()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_person_is_asked_and_the_output_comes_back() {
    let app = App::new("asked");
    app.say(Decision::AllowOnce);
    let result = app.ask(&command(&["/bin/echo", "a  b"])).unwrap();
    assert_eq!((result.exit_code, result.stdout.as_str()), (Some(0), "a  b\n"));
    let (question, place) = app.shown.recv().unwrap();
    assert_eq!(place, Place { number: 1, of: 1 });
    assert!(question.command.contains("a  b"), "{}", question.command);
    assert_eq!(question.agent.as_deref(), Some("main"));
    assert_eq!(question.requester, "this app's own node");
    // Once is once; always is from now on.
    app.say(Decision::AllowAlways);
    app.ask(&command(&["/bin/echo", "c"])).unwrap();
    assert_eq!(app.shown.try_iter().count(), 1);
}

/// A70: listed or not, nothing runs without an answer; each way in which there is none.
#[test]
fn sec_a70_the_app_never_approves_silently() {
    let app = App::new("a70");
    let (request, canary) = app.canary();
    for (script, expected) in [
        (Script::Say(Answer::Decided(Decision::Deny)), "user-denied"),
        (Script::Say(Answer::Nobody("nobody here".into())), "approval-required"),
        (Script::Say(Answer::TimedOut), "approval-required"),
        (Script::Panic, "approval-required"),
    ] {
        app.tell.send(script).unwrap();
        assert_eq!(reason(app.ask(&request)), expected);
        assert_eq!(app.shown.try_iter().count(), 1, "{expected}: a question was shown");
        assert!(!canary.exists());
    }
    app.say(Decision::AllowOnce);
    assert!(app.ask(&request).unwrap().success);
    assert!(canary.exists(), "the canary sings when it may");
}

/// A71: what became stricter while the prompt stood counts, not what held when it was asked.
#[test]
fn sec_a71_a_policy_tightened_during_the_prompt() {
    let app = App::new("a71");
    let (request, canary) = app.canary();
    let client = app.client();
    thread::scope(|scope| {
        let running = scope.spawn(|| client.run(&request, &Wake::new().unwrap(), Some(SOON), None).unwrap());
        app.shown.recv_timeout(SOON).unwrap();
        app.set_policy("deny", "deny");
        app.say(Decision::AllowAlways);
        assert_eq!(reason(running.join().unwrap()), "security=deny");
    });
    assert!(!canary.exists());
    assert!(!fs::read_to_string(app.state.approvals()).unwrap().contains("touch"), "nothing was stored");
}

/// A113: a decision in the request is no evidence, and a `deny` in it is final.
#[test]
fn sec_a113_a_decision_in_the_request_does_not_replace_the_prompt() {
    let app = App::new("a113");
    let (request, canary) = app.canary();
    let before = fs::read_to_string(app.state.approvals()).unwrap();
    for word in ["allow-once", "allow-always"] {
        let request = RunRequest { approval_decision: Some(word.into()), ..request.clone() };
        app.say(Decision::Deny);
        assert_eq!(reason(app.ask(&request)), "user-denied");
        assert_eq!(app.shown.try_iter().count(), 1, "{word}");
    }
    let denied = RunRequest { approval_decision: Some("deny".into()), ..request };
    assert_eq!(reason(app.ask(&denied)), "user-denied");
    assert_eq!(app.shown.try_iter().count(), 0);
    assert!(!canary.exists());
    assert_eq!(fs::read_to_string(app.state.approvals()).unwrap(), before);
}

/// A120: prompt and process group end with their requester, and a late answer does nothing.
#[test]
fn sec_a120_prompt_and_process_group_end_with_the_requester() {
    let app = App::new("a120");
    let (request, canary) = app.canary();
    let cancel = Wake::new().unwrap();
    let client = app.client();
    thread::scope(|scope| {
        let asked = scope.spawn(|| client.run(&request, &cancel, Some(SOON * 2), None));
        app.shown.recv_timeout(SOON).unwrap();
        cancel.fire();
        assert!(matches!(asked.join().unwrap(), Err(HostUnreachable::Cancelled)));
    });
    until("the withdrawal", || app.host.as_ref().unwrap().exec_host.serving() == 0);
    app.say(Decision::AllowOnce);
    let pid_file = app.directory.join("pid");
    let script = format!("sleep 600 & echo $! > {}.new; mv {0}.new {0}; wait", pid_file.display());
    let request = command(&["/bin/sh", "-c", &script]);
    let cancel = Wake::new().unwrap();
    let client = app.client();
    thread::scope(|scope| {
        let running = scope.spawn(|| client.run(&request, &cancel, Some(SOON * 2), None));
        until("the start", || pid_file.exists());
        cancel.fire();
        assert!(matches!(running.join().unwrap(), Err(HostUnreachable::Cancelled)));
    });
    assert_dead(&pid_file);
    assert!(!canary.exists());
}

/// A165: a stop ends prompts and commands at once and takes the socket away.
#[test]
fn sec_a165_stop_during_prompt_and_run() {
    let mut app = App::new("a165");
    let pid_file = app.directory.join("pid");
    let script = format!("sleep 600 & echo $! > {}.new; mv {0}.new {0}; wait", pid_file.display());
    let (running, asked) = (command(&["/bin/sh", "-c", &script]), app.canary());
    let host = app.host.take().unwrap();
    thread::scope(|scope| {
        let (one, two) = (app.client(), app.client());
        app.say(Decision::AllowOnce);
        let runs = scope.spawn(move || one.run(&running, &Wake::new().unwrap(), Some(SOON * 2), None).unwrap());
        until("the start", || pid_file.exists());
        let asks = scope.spawn(move || two.run(&asked.0, &Wake::new().unwrap(), Some(SOON * 2), None).unwrap());
        app.shown.recv_timeout(SOON).unwrap();
        app.shown.recv_timeout(SOON).unwrap();
        host.stop();
        assert_eq!(runs.join().unwrap().unwrap_err().code, "UNAVAILABLE");
        assert_eq!(asks.join().unwrap().unwrap_err().code, "UNAVAILABLE");
    });
    assert_dead(&pid_file);
    assert!(!app.state.exec_socket().exists() && !app.directory.join("canary").exists());
}

/// A123: a run over its own limit is a result that says so, and the child is gone.
#[test]
fn sec_a123_a_timeout_is_reported_as_one() {
    let app = App::new("a123");
    app.say(Decision::AllowOnce);
    let start = Instant::now();
    let result = app.ask(&RunRequest { timeout_ms: Some(300), ..command(&["/bin/sleep", "60"]) }).unwrap();
    assert!(result.timed_out && !result.success, "{result:?}");
    assert!(start.elapsed() < SOON);
}

/// `needsScreenRecording` only checks: without the permission nobody is asked and nothing prompts. Source: spec
/// mac-app (2.1).
#[test]
fn what_needs_the_screen_runs_only_with_the_permission() {
    let permissions = Arc::new(Scripted::default());
    let app = App::with("screen", Arc::clone(&permissions) as _);
    let request = RunRequest { needs_screen_recording: true, ..command(&["true"]) };
    for grant in [Grant::Unsupported, Grant::Denied, Grant::NotDetermined, Grant::Restricted, Grant::Unknown] {
        permissions.set(Capability::ScreenRecording, grant);
        let error = app.ask(&request).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.reason.as_deref()),
            ("PERMISSION_MISSING: screenRecording", Some("permission:screenRecording"))
        );
    }
    assert_eq!(app.shown.try_iter().count(), 0);
    permissions.set(Capability::ScreenRecording, Grant::Granted);
    app.say(Decision::AllowOnce);
    assert!(app.ask(&request).unwrap().success);
    assert!(permissions.requested.lock().unwrap().is_empty());
}

/// exec b.5: a token changed in the document counts from the next request on.
#[test]
fn the_token_is_read_anew() {
    let app = App::new("token");
    let changed = fs::read_to_string(app.state.approvals()).unwrap().replace(TOKEN, "another-token-of-some-length");
    fs::write(app.state.approvals(), changed).unwrap();
    let outcome = app.client().run(&command(&["true"]), &Wake::new().unwrap(), Some(SOON), None);
    assert!(matches!(outcome, Err(HostUnreachable::Unproven(said)) if said == "invalid auth"));
    assert_eq!(app.shown.try_iter().count(), 0);
}

fn assert_dead(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap().trim().to_owned();
    assert!(!pid.is_empty());
    let process = PathBuf::from("/proc").join(&pid);
    let dead = || fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "));
    until("the end of the process", dead);
}
