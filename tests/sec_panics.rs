//! A mistake of ours that ends in a panic ends one request (H22): it is answered, nothing runs, the service goes on, and
//! when it keeps happening nothing runs any more. No input makes our own code panic, so the parts around it do here:
//! policy, person and listener of the real decision and the real run, behind the real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use openclaw::app::exec_host::{ExecHost, Runner, Services};
use openclaw::app::peers::Peers;
use openclaw::exec::analysis::Host;
use openclaw::exec::approval::{Answer, Context, Guards, Origin, Person, PolicySource, Question, authorise};
use openclaw::exec::policy::Rules;
use openclaw::exec::progress::Listener;
use openclaw::exec::run::{RunOutcome, run};
use openclaw::identity::random;
use openclaw::identity::secret::Secret;
use openclaw::limits;
use openclaw::node::exec_host_client::{ExecHostClient, ExecHostPeer};
use openclaw::protocol::exec_host::ExecError;
use openclaw::protocol::node::{RunRequest, RunResult};
use openclaw::protocol::policy::{Ask, Decision, Fence, Refusal, Security};
use openclaw::state::approvals::{AllowEntry, EffectivePolicy};
use openclaw::state::audit::AuditLog;
use openclaw::state::{Environment, StateDir};
use openclaw::sys::fence::Fencer;
use openclaw::sys::wake::Wake;
use openclaw::transport::lease::SocketLease;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// The policy is read for the analysed command.
    Deciding,
    /// A person is asked.
    Asking,
    /// "Always" is stored.
    Storing,
    /// The policy is read again, right before the start.
    Starting,
    /// The command runs and prints.
    Running,
}

/// Everything that a request meets, with a fault in one place.
struct Fragile {
    at: At,
    is_faulty: AtomicBool,
    readings: AtomicUsize,
    guards: Arc<Guards>,
}

impl Fragile {
    fn fail_at(&self, here: At) {
        assert!(self.at != here || !self.is_faulty.load(Ordering::SeqCst), "a fault on purpose at {here:?}");
    }
}

impl PolicySource for Fragile {
    fn rules(&self, _: Option<&str>) -> Rules {
        let is_first = self.readings.fetch_add(1, Ordering::SeqCst) == 0;
        self.fail_at(if is_first { At::Deciding } else { At::Starting });
        let policy = EffectivePolicy {
            security: Security::Allowlist,
            ask: Ask::OnMiss,
            ask_fallback: Security::Deny,
            auto_allow_skills: false,
            allowlist: Vec::new(),
            denylist: Vec::new(),
            fence: Fence::State,
            trust_gateway_approvals: false,
            broken: None,
            snapshot: "1".to_owned(),
        };
        Rules { policy, safe_bins: Arc::default(), skills: Vec::new(), strict_inline_eval: false }
    }

    fn add_allow_always(&self, _: Option<&str>, _: &AllowEntry) -> Result<(), String> {
        self.fail_at(At::Storing);
        Ok(())
    }

    fn record_use(&self, _: &AllowEntry, _: &str, _: &str) {}
}

impl Person for Fragile {
    fn ask(&self, _: &Question, _: &Wake) -> Answer {
        self.fail_at(At::Asking);
        Answer::Decided(Decision::AllowAlways)
    }
}

struct Room(Arc<Fragile>);

impl Runner for Room {
    fn run(&self, request: &RunRequest, who: &str, end: &Wake, _: Option<Listener<'_>>) -> Result<RunResult, Refusal> {
        let parts = &self.0;
        parts.readings.store(0, Ordering::SeqCst);
        let host = Host::of_this_process(None);
        let context = Context {
            host: &host,
            policy: &**parts,
            origin: Origin::Socket,
            requester: who,
            prepared: None,
            screen_recording: false,
            guards: &parts.guards,
        };
        let authorised = authorise(request, &context, &**parts, end)?;
        let listener: Listener<'_> = &|_| parts.fail_at(At::Running);
        match run(authorised, end, Some(listener)) {
            RunOutcome::Finished(result) => Ok(result),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn sec_h22_a_panic_anywhere_ends_one_request_and_runs_nothing() {
    const TOKEN: &str = "a-token-of-some-length-0123456789";
    // The panics are meant.
    std::panic::set_hook(Box::new(|_| {}));
    let directory = std::env::temp_dir().canonicalize().unwrap().join(format!("ocp-{}", random::uuid()));
    fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
    let state = Environment { state_dir: Some(directory.join("s")), ..Environment::default() };
    let state = StateDir::locate(&state).unwrap();
    state.prepare().unwrap();
    // One for all: a lock that a panic poisons would show later.
    let audit = AuditLog::new(&state);
    let guards = Arc::new(Guards { fencer: Fencer::none("a test"), grants: Arc::default(), audit });
    let canary = directory.join("canary");
    for at in [At::Deciding, At::Asking, At::Storing, At::Starting, At::Running] {
        let parts = Arc::new(Fragile {
            at,
            is_faulty: AtomicBool::new(true),
            readings: AtomicUsize::new(0),
            guards: Arc::clone(&guards),
        });
        let services = Services {
            token: Box::new(|| Ok(Secret::new(TOKEN.to_owned()))),
            runner: Box::new(Room(Arc::clone(&parts))),
            person: Arc::new(Nobody),
            peers: Arc::new(Peers::new(|| false)),
        };
        let socket = directory.join(format!("{at:?}"));
        let host = ExecHost::start(SocketLease::bind(&socket).unwrap(), services).unwrap();
        let ask = |argv: Vec<String>| -> Result<RunResult, ExecError> {
            let token = Box::new(|| Ok(Secret::new(TOKEN.to_owned())));
            let client = ExecHostClient::new(socket.clone(), token, ExecHostPeer::Ours);
            let request = RunRequest { command: argv, cwd: Some("/".into()), ..RunRequest::default() };
            client.run(&request, &Wake::new().unwrap(), Some(Duration::from_secs(20)), None).unwrap()
        };
        let touch = || vec!["/usr/bin/touch".to_owned(), canary.to_str().unwrap().to_owned()];
        let marker = format!("600.{}", std::process::id());
        let say = || vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("echo x; exec sleep {marker}")];
        let set_faulty = |is_faulty| parts.is_faulty.store(is_faulty, Ordering::SeqCst);
        for round in 1..=limits::PANICS {
            set_faulty(true);
            let error = ask(if at == At::Running { say() } else { touch() }).unwrap_err();
            assert_eq!(error.code, "UNAVAILABLE", "{at:?}: {error:?}");
            assert!(error.message.contains("internal error"), "{at:?}: {error:?}");
            assert!(!canary.exists(), "{at:?}: it ran");
            let end = Instant::now() + Duration::from_secs(5);
            while is_running(&marker) {
                assert!(Instant::now() < end, "the command goes on with nobody to look after it");
                std::thread::sleep(Duration::from_millis(10));
            }
            set_faulty(false);
            let next = ask(vec!["/bin/echo".to_owned(), "works".to_owned()]);
            if round < limits::PANICS {
                assert_eq!(next.unwrap().stdout, "works\n", "{at:?}: the service goes on");
            } else {
                assert!(next.unwrap_err().message.contains("restart"), "{at:?}: no more after so many");
            }
        }
        assert_eq!(host.serving(), 0);
        host.stop();
    }
    assert!(fs::read_to_string(state.root().join("audit.jsonl")).is_ok_and(|log| log.contains("works")));
    fs::remove_dir_all(directory).unwrap();
}

fn is_running(marker: &str) -> bool {
    let listed = std::process::Command::new("ps").args(["-A", "-o", "stat=,args="]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed.lines().any(|line| line.contains(&format!("sleep {marker}")) && !line.starts_with('Z'))
}

struct Nobody;

impl Person for Nobody {
    fn ask(&self, _: &Question, _: &Wake) -> Answer {
        Answer::Nobody("a test".to_owned())
    }
}
