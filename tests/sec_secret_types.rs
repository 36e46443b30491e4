//! H27: secrets in memory. What is dropped is wiped, nothing prints or compares it, and no core file or debugger of the
//! same user gets at the rest. The allocator of this test program looks into each block that is given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use data_encoding::BASE64;
use openclaw::identity::device::DeviceKey;
use openclaw::identity::secret::Secret;
use openclaw::protocol::connect::{Auth, ConnectParams, SecretText};
use openclaw::state::config::SharedSecret;
use serde::Serialize;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use support::{Gateway, Options, Process};
use support_exec::*;

/// Unlike anything else in memory; 32 bytes, as long as a key.
const MARKER: &str = "Qx7vKm2sWp9tRf4dHz8nLc3bYe6gUj1a";

/// The system's allocator, which counts the blocks given back that hold what this thread watches for.
struct Watching;

thread_local! {
    static WATCHED: Cell<[u8; 32]> = const { Cell::new([0; 32]) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let watched = WATCHED.try_with(Cell::get).unwrap_or_default();
        if watched != [0; 32] {
            // SAFETY: the block is still ours, `size` bytes long, and volatile reads take whatever stands there.
            let byte = |at: usize| unsafe { block.add(at).read_volatile() };
            let holds = |start: usize| watched.iter().enumerate().all(|(at, wanted)| byte(start + at) == *wanted);
            if (0..(layout.size() + 1).saturating_sub(watched.len())).any(holds) {
                FOUND.set(FOUND.get() + 1);
            }
        }
        // SAFETY: the caller's promise about both.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// How many blocks with `marker` in them were given back when `value` was dropped.
fn left_by<T>(marker: [u8; 32], value: T) -> usize {
    // On the heap, so that what is not behind a pointer is seen as well.
    let value = Box::new(value);
    FOUND.set(0);
    WATCHED.set(marker);
    drop(value);
    WATCHED.set([0; 32]);
    FOUND.get()
}

fn marker() -> [u8; 32] {
    MARKER.as_bytes().try_into().unwrap()
}

#[test]
fn sec_h27_a_dropped_secret_is_wiped() {
    let text = || MARKER.to_owned();
    // The watch itself: what is no secret is found.
    assert_eq!(left_by(marker(), text()), 1, "nothing would be found");
    assert_eq!(left_by(marker(), marker()), 1);
    assert_eq!(left_by(marker(), vec![text(), text()]), 2);

    assert_eq!(left_by(marker(), Secret::new(text())), 0);
    assert_eq!(left_by(marker(), Secret::new(text()).copy()), 0);
    assert_eq!(left_by(marker(), SharedSecret::Token(Secret::new(text()))), 0);
    assert_eq!(left_by(marker(), SharedSecret::Password(Secret::new(text()))), 0);
    assert_eq!(left_by(marker(), SecretText::new(text())), 0);
    let members = ["token", "password", "deviceToken", "bootstrapToken"].map(|name| (name, Value::from(MARKER)));
    let members = json!(members.into_iter().collect::<std::collections::BTreeMap<_, _>>()).to_string();
    let auth: Auth = serde_json::from_str(&members).unwrap();
    assert_eq!(auth.device_token.as_ref().unwrap().expose(), MARKER);
    assert_eq!(left_by(marker(), auth), 0);
    // In the middle of an error: unwinding drops it too.
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _secret = Secret::new(text());
        FOUND.set(0);
        WATCHED.set(marker());
        std::panic::resume_unwind(Box::new(()));
    }));
    WATCHED.set([0; 32]);
    assert!(unwound.is_err() && FOUND.get() == 0);
}

#[test]
fn sec_h27_a_dropped_key_is_wiped() {
    let key = DeviceKey::generate();
    let document: Value = serde_json::from_str(&key.to_document(0)).unwrap();
    let pem = document["privateKeyPem"].as_str().unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(body.as_bytes()).unwrap();
    let seed: [u8; 32] = der[der.len() - 32..].try_into().unwrap();
    assert_eq!(left_by(seed, seed), 1, "the watch");
    assert_eq!(left_by(seed, key), 0);
}

/// Whether `$type` implements `$bound`: a type's own constant goes before one of a trait.
macro_rules! implements {
    ($type:ty: $($bound:tt)+) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "used where the bound does not hold")]
        trait Otherwise {
            const IS: bool = false;
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "used where the bound holds")]
        impl<T: ?Sized + $($bound)+> Probe<T> {
            const IS: bool = true;
        }
        Probe::<$type>::IS
    }};
}

macro_rules! says_nothing {
    ($($type:ty),+) => {$(
        assert!(!implements!($type: Debug), "{} is Debug", stringify!($type));
        assert!(!implements!($type: Display), "{} is Display", stringify!($type));
        assert!(!implements!($type: Serialize), "{} is Serialize", stringify!($type));
        assert!(!implements!($type: PartialEq), "{} has ==", stringify!($type));
        assert!(!implements!($type: PartialEq<str>), "{} has == with text", stringify!($type));
        assert!(!implements!($type: PartialEq<String>), "{} has == with text", stringify!($type));
        assert!(!implements!($type: AsRef<[u8]>), "{} gives itself away", stringify!($type));
        assert!(!implements!($type: std::ops::Deref), "{} gives itself away", stringify!($type));
        assert!(!implements!($type: Clone), "{} is copied without a word", stringify!($type));
    )+};
}

#[test]
fn sec_h27_no_trait_prints_or_compares_a_secret() {
    // The probe: what a text can do is seen.
    assert!(implements!(String: Debug) && implements!(String: Display) && implements!(String: Serialize));
    assert!(implements!(String: PartialEq) && implements!(String: PartialEq<str>) && implements!(String: Clone));
    says_nothing!(Secret, SharedSecret, SecretText, Auth, DeviceKey, Option<Secret>);
    // What holds secrets beside other things cannot be printed whole by mistake.
    assert!(!implements!(ConnectParams: Debug) && !implements!(ConnectParams: Serialize));
}

/// No core file has our memory, and no process of the same user attaches to us.
#[test]
fn sec_h27_no_core_and_no_debugger() {
    if !cfg!(target_os = "linux") {
        eprintln!("sec_h27: left out, because there is no /proc here");
        return;
    }
    let scratch = Scratch::new();
    let app = App::start(&scratch);
    let gateway = Gateway::start(Options::default().no_tcp());
    let mut node =
        scratch.openclaw(&["node", "run", "--socket", gateway.socket().to_str().unwrap(), "--exec-host", "local"]);
    node.env("OPENCLAW_GATEWAY_TOKEN", support::TOKEN).env("OPENCLAW_STATE_DIR", scratch.join("node"));
    let node = Process::spawn(node);
    support::wait_until("the node", || node.stderr().contains("connected").then_some(()));
    for (name, pid) in [("app", app.pid()), ("gateway", gateway.process.pid()), ("node", node.pid())] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(words, ["0", "0"], "{name}: {core}");
    }
    // The kernel gives a process's files to root where nobody may attach; for one of root's that cannot be seen.
    let attaches = |pid: u32| std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid() != 0;
    if !is_root() {
        assert!(attaches(std::process::id()), "the twin");
        assert!(!attaches(app.pid()) && !attaches(gateway.process.pid()) && !attaches(node.pid()));
        return;
    }
    if !have("setpriv", "sec_h27") {
        return;
    }
    let home = Scratch::new();
    let binary = home.join("openclaw");
    std::fs::copy(env!("CARGO_BIN_EXE_openclaw"), &binary).unwrap();
    set_mode(&binary, 0o755);
    std::os::unix::fs::chown(home.path(), Some(65_534), Some(65_534)).unwrap();
    let as_another = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(arguments);
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").current_dir(home.path());
        Process::spawn(command)
    };
    let ours = as_another(&[text(&binary), "gateway", "run", "--no-tcp", "--state-dir", text(&home.join("state"))]);
    support::wait_until("the gateway of another user", || home.join("state/gateway.sock").exists().then_some(()));
    let twin = as_another(&["sleep", "60"]);
    support::wait_until("the twin is another user's", || attaches(twin.pid()).then_some(()));
    assert!(!attaches(ours.pid()), "another program of its user can read its memory");
}
