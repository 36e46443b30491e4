//! What lies on disk against those who would read it, replace it or break it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use openclaw::identity::random;
use openclaw::limits;
use openclaw::protocol::policy::{Ask, Security};
use openclaw::state::approvals::ApprovalsDocument;
use openclaw::state::approvals::wire::Form;
use openclaw::state::config::{Config, ExecConfig, SharedSecret};
use openclaw::state::paths::DeviceOwner;
use openclaw::state::store::Store;
use openclaw::state::{Care, DocumentLock, Environment, InstanceLock, StateDir, StateError, device_key, files};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that is removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ocs-{}", random::uuid()));
        std::fs::create_dir(&path).unwrap();
        chmod(&path, 0o700);
        Self(path)
    }

    fn environment(&self) -> Environment {
        Environment { state_dir: Some(self.0.join("s")), ..Environment::default() }
    }

    fn state(&self) -> StateDir {
        let state = StateDir::locate(&self.environment()).unwrap();
        state.prepare().unwrap();
        state
    }

    fn config(&self, text: &str) -> Result<Config, StateError> {
        let state = self.state();
        std::fs::write(state.config(), text).unwrap();
        Config::load(&state, &self.environment())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o777
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn variables(pairs: &[(&str, &str)]) -> Result<Environment, StateError> {
    Environment::from_variables(None, pairs.iter().map(|(name, value)| (name.into(), value.into())))
}

/// Every file below `directory` with its mode and content.
fn walk(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path));
            found.insert(path.clone(), (mode(&path), Vec::new()));
        } else {
            found.insert(path.clone(), (mode(&path), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

#[test]
fn sec_a02_there_is_always_a_secret() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let config = Config::load(&state, &scratch.environment()).unwrap();
    let Ok(SharedSecret::Token(made)) = config.shared_secret() else { panic!("no token") };
    assert_eq!(made.expose().len(), 43);
    let written: Value = serde_json::from_slice(&std::fs::read(state.config()).unwrap()).unwrap();
    assert_eq!(written["gateway"]["auth"]["token"], made.expose_text());
    assert_eq!(written["gateway"]["mode"], "local");
    assert_eq!(written["gateway"]["port"], 18_789);
    assert_eq!(mode(state.config()), 0o600);

    // The owner's file is never rewritten: the token gets a file of its own, and stays the same.
    let scratch = Scratch::new();
    let owners = "// mine\n{gateway: {port: 0x10,},}\n";
    let config = scratch.config(owners).unwrap();
    let state = scratch.state();
    assert_eq!(config.port, 16);
    assert_eq!(std::fs::read_to_string(state.config()).unwrap(), owners);
    assert_eq!(mode(&state.gateway_token()), 0o600);
    let again = Config::inspect(&state, &scratch.environment()).unwrap();
    let (Ok(SharedSecret::Token(first)), Ok(SharedSecret::Token(second))) =
        (config.shared_secret(), again.shared_secret())
    else {
        panic!("no token")
    };
    assert!(first.matches(second.expose()));
    assert!(scratch.config("{gateway:{auth:{mode:'none'}}}").is_err());
}

#[test]
fn sec_a03_a_missing_value_is_never_a_secret() {
    for word in ["undefined", "null", "None", "", " ", "NaN", "[object Object]", "short"] {
        let scratch = Scratch::new();
        for key in ["token", "password"] {
            let text = json!({ "gateway": { "auth": { key: word } } }).to_string();
            let error = scratch.config(&text).err().expect(word).to_string();
            assert!(error.contains(&format!("gateway.auth.{key}")), "{error}");
        }
        let state = scratch.state();
        std::fs::remove_file(state.config()).unwrap();
        for variable in ["OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD"] {
            let environment = variables(&[(variable, word)]).unwrap();
            let error = Config::load(&state, &environment).err().expect(word).to_string();
            assert!(error.contains(variable), "{error}");
        }
        std::fs::write(state.gateway_token(), word).unwrap();
        chmod(&state.gateway_token(), 0o600);
        assert!(Config::load(&state, &scratch.environment()).is_err(), "{word}");
    }
}

#[test]
fn unsupported_settings_stop_the_start_with_their_name() {
    for (text, name) in [
        ("{gateway:{auth:{mode:'trusted-proxy'}}}", "gateway.auth.mode"),
        ("{gateway:{auth:{mode:'password'}}}", "gateway.auth.mode"),
        ("{gateway:{trustedProxies:[]}}", "gateway.trustedProxies"),
        ("{gateway:{bind:'lan'}}", "gateway.bind"),
        ("{gateway:{bind:'0.0.0.0'}}", "gateway.bind"),
        ("{$include:'./x.json'}", "$include"),
        ("{gateway:{auth:{$include:'./x.json'}}}", "$include"),
        ("{gateway:{auth:{token:'${TOKEN}'}}}", "gateway.auth.token"),
        ("{gateway:{auth:{token:{source:'env',id:'TOKEN'}}}}", "gateway.auth.token"),
        ("{gateway:{auth:{token:5}}}", "gateway.auth.token"),
        ("{gateway:{tailscale:{mode:'serve'}}}", "gateway.tailscale.mode"),
        ("{gateway:{controlUi:{allowedOrigins:['*']}}}", "gateway.controlUi.allowedOrigins"),
        ("{gateway:{port:70000}}", "gateway.port"),
        ("{gateway:{port:'18789'}}", "gateway.port"),
        ("{gateway:[]}", "gateway"),
        ("{gateway:{nodes:{pairing:{autoApproveLocal:'no'}}}}", "gateway.nodes.pairing.autoApproveLocal"),
        ("{tools:[]}", "tools"),
        ("{tools:{exec:1}}", "tools.exec"),
        ("{tools:{exec:{mode:'strict'}}}", "tools.exec.mode"),
        ("{tools:{exec:{mode:1}}}", "tools.exec.mode"),
        ("{tools:{exec:{security:'FULL'}}}", "tools.exec.security"),
        ("{tools:{exec:{ask:'never'}}}", "tools.exec.ask"),
        ("{tools:{exec:{strictInlineEval:'yes'}}}", "tools.exec.strictInlineEval"),
        ("{tools:{exec:{safeBins:'jq'}}}", "tools.exec.safeBins"),
        ("{tools:{exec:{safeBins:[1]}}}", "tools.exec.safeBins"),
        ("{tools:{exec:{safeBinTrustedDirs:['bin']}}}", "tools.exec.safeBinTrustedDirs"),
        ("{tools:{exec:{safeBinProfiles:[]}}}", "tools.exec.safeBinProfiles"),
        ("{tools:{exec:{safeBinProfiles:{x:null}}}}", "tools.exec.safeBinProfiles.x"),
        ("{tools:{exec:{safeBinProfiles:{x:{maxPositional:-1}}}}}", "tools.exec.safeBinProfiles.x.maxPositional"),
        ("{tools:{exec:{safeBinProfiles:{x:{deniedFlags:'-f'}}}}}", "tools.exec.safeBinProfiles.x.deniedFlags"),
        ("[]", "openclaw.json"),
        ("{gateway:{},gateway:{}}", "line 1 column 13"),
    ] {
        let error = Scratch::new().config(text).err().expect(text).to_string();
        assert!(error.contains(name), "{text}: {error}");
    }
    let config = Scratch::new()
        .config("{agents:{x:'${Y}'},gateway:{mode:'local',bind:'loopback',auth:{mode:'password',password:'correct horse'},nodes:{pairing:{autoApproveLocal:false},commands:{allow:['a'],deny:['b']}}}}")
        .unwrap();
    assert!(!config.auto_approve_local);
    assert_eq!((config.allowed_commands, config.denied_commands), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert!(matches!(config.shared_secret, Some(SharedSecret::Password(_))));
}

#[test]
fn what_openclaw_json_says_about_commands_is_read() {
    let exec = |text: &str| Scratch::new().config(&format!("{{tools:{{exec:{text}}}}}")).unwrap().exec;
    assert_eq!(exec("{}"), ExecConfig::default());
    assert_eq!(exec("{host:'gateway',security:'full',ask:'off'}").security, Some(Security::Full));
    for (text, security, ask) in [
        ("{mode:'deny'}", Security::Deny, Ask::Off),
        ("{mode:'allowlist'}", Security::Allowlist, Ask::Off),
        ("{mode:'ask'}", Security::Allowlist, Ask::OnMiss),
        ("{mode:'auto'}", Security::Allowlist, Ask::OnMiss),
        ("{mode:'full'}", Security::Full, Ask::Off),
        ("{mode:'full',security:'allowlist',ask:'always'}", Security::Allowlist, Ask::Always),
        ("{mode:'deny',security:'full',ask:'off'}", Security::Deny, Ask::Off),
    ] {
        assert_eq!((exec(text).security, exec(text).ask), (Some(security), Some(ask)), "{text}");
    }
    let exec = exec(
        "{strictInlineEval:true,safeBins:[' JQ ','',],safeBinTrustedDirs:['/opt/bin'],
        safeBinProfiles:{Rg:{minPositional:3,maxPositional:1,allowedValueFlags:['-e'],deniedFlags:['--pre']},fd:{}}}",
    );
    assert!(exec.strict_inline_eval);
    assert_eq!(exec.safe_bins, Some(vec!["jq".to_owned()]));
    assert_eq!(exec.safe_bin_trusted_dirs, [Path::new("/opt/bin")]);
    let rg = &exec.safe_bin_profiles["rg"];
    assert_eq!((rg.min_positional, rg.max_positional), (3, Some(3)));
    assert_eq!((rg.allowed_value_flags[0].as_str(), rg.denied_flags[0].as_str()), ("-e", "--pre"));
    assert_eq!(exec.safe_bin_profiles["fd"].max_positional, None);
}

#[test]
fn sec_a121_a143_only_a_private_regular_file_is_a_secret() {
    let scratch = Scratch::new();
    let path = scratch.0.join("token");
    let good = scratch.0.join("good");
    let refused = |why: &str| {
        let answer = files::read(&path, Care::Secret);
        assert!(matches!(answer, Err(StateError::Unsafe { .. } | StateError::Broken { .. })), "{why}");
        let _ = std::fs::remove_file(&path);
    };
    std::fs::write(&good, "a token of some length\n").unwrap();
    chmod(&good, 0o600);
    assert_eq!(files::read(&good, Care::Secret).unwrap().unwrap().bytes, b"a token of some length\n");

    symlink(&good, &path).unwrap();
    refused("symbolic link");
    std::fs::hard_link(&good, &path).unwrap();
    refused("hard link");
    mkfifo(&path);
    refused("FIFO");
    std::fs::create_dir(&path).unwrap();
    assert!(files::read(&path, Care::Secret).is_err());
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    chmod(&path, 0o644);
    refused("readable by others");
    std::fs::write(&path, vec![b'x'; usize::try_from(limits::SECRET_FILE_BYTES).unwrap() + 1]).unwrap();
    chmod(&path, 0o600);
    refused("too large");
    assert!(files::read(Path::new("/dev/null"), Care::Secret).is_err());
    assert!(files::read(&path, Care::Secret).unwrap().is_none());

    // The whole way: a gateway token that others could read is not used, a trailing newline is fine.
    let state = scratch.state();
    std::fs::write(state.config(), "{}").unwrap();
    std::fs::write(state.gateway_token(), "a token of some length\n").unwrap();
    chmod(&state.gateway_token(), 0o644);
    assert!(Config::load(&state, &scratch.environment()).is_err());
    chmod(&state.gateway_token(), 0o600);
    let config = Config::load(&state, &scratch.environment()).unwrap();
    let Ok(SharedSecret::Token(token)) = config.shared_secret() else { panic!("no token") };
    assert_eq!(token.expose_text(), "a token of some length");
}

/// A link that comes and goes while the file is read never shows its target.
#[test]
fn sec_a143_swapped_between_look_and_read() {
    let scratch = Scratch::new();
    let (path, real, foreign) = (scratch.0.join("t"), scratch.0.join("real"), scratch.0.join("foreign"));
    std::fs::write(&foreign, "foreign").unwrap();
    chmod(&foreign, 0o600);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for _ in 0..2_000 {
                std::fs::write(&real, "real").unwrap();
                chmod(&real, 0o600);
                std::fs::rename(&real, &path).unwrap();
                symlink(&foreign, &real).unwrap();
                std::fs::rename(&real, &path).unwrap();
            }
        });
        let mut seen = 0;
        while !swapping.is_finished() {
            if let Ok(Some(contents)) = files::read(&path, Care::Secret) {
                assert_eq!(contents.bytes, b"real");
                seen += 1;
            }
        }
        assert!(seen > 0);
    });
}

#[test]
fn sec_a122_a_long_path_is_refused_before_anything_exists() {
    let scratch = Scratch::new();
    let root = scratch.0.join("x".repeat(200));
    let environment = Environment { state_dir: Some(root.clone()), ..Environment::default() };
    let error = StateDir::locate(&environment).unwrap().prepare().unwrap_err().to_string();
    assert!(error.contains(&limits::SUN_PATH_BYTES.to_string()) && error.contains("OPENCLAW_STATE_DIR"), "{error}");
    assert!(!root.exists());
}

/// Every write is 0600 whatever the umask; what was loosened is tightened at the next start. The
/// umask is the process's, so a child process runs this test with another one.
#[test]
fn sec_a137_nobody_else_reads_state() {
    if std::env::var_os("STATE_TEST_LOOSE").is_none() {
        let program = std::env::current_exe().unwrap();
        let script = "umask 000; exec \"$0\" --exact sec_a137_nobody_else_reads_state";
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .env("STATE_TEST_LOOSE", "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let scratch = Scratch::new();
    let state = scratch.state();
    Config::load(&state, &scratch.environment()).unwrap();
    ApprovalsDocument::new(&state).ensure().unwrap();
    device_key::load_or_create(&state.device_key(DeviceOwner::App)).unwrap();
    let _lock = InstanceLock::take(&state.app_lock()).unwrap();
    let store = Store::<BTreeMap<String, u32>>::new(state.devices_paired());
    store.update(|value| value.insert("a".to_owned(), 1)).unwrap();
    let found = walk(state.root());
    assert!(found.len() >= 8);
    for (path, (mode, _)) in &found {
        assert_eq!(*mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    for path in [state.root().to_owned(), state.root().join("identity")] {
        chmod(&path, 0o755);
    }
    chmod(&state.approvals(), 0o644);
    state.prepare().unwrap();
    assert!(ApprovalsDocument::new(&state).effective(None, false).broken.is_none());
    assert_eq!((mode(state.root()), mode(&state.root().join("identity"))), (0o700, 0o700));
    assert_eq!(mode(&state.approvals()), 0o600);
}

const FULL: &str = r#"{"version":1,"defaults":{"security":"full","ask":"off"}}"#;

fn denies_all(state: &StateDir, why: &str) {
    let approvals = ApprovalsDocument::new(state);
    let policy = approvals.effective(None, true);
    assert_eq!((policy.security, policy.ask_fallback), (Security::Deny, Security::Deny), "{why}");
    assert!(policy.broken.is_some(), "{why}");
    assert!(approvals.ensure().is_err(), "{why}");
    assert!(approvals.add_allow_always(None, "/bin/ls", None).is_err(), "{why}");
    assert!(approvals.socket_token().is_err() && approvals.snapshot(Form::Whole).is_err(), "{why}");
}

#[test]
fn sec_a138_policy_behind_links_denies_and_nothing_is_written_through() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let (path, victim) = (state.approvals(), scratch.0.join("victim"));
    std::fs::write(&victim, FULL).unwrap();
    chmod(&victim, 0o600);
    symlink(&victim, &path).unwrap();
    denies_all(&state, "symbolic link");
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&victim, &path).unwrap();
    denies_all(&state, "hard link");
    std::fs::remove_file(&path).unwrap();
    mkfifo(&path);
    denies_all(&state, "FIFO");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    denies_all(&state, "directory");
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), FULL);

    std::fs::write(&path, FULL).unwrap();
    chmod(state.root(), 0o770);
    let policy = ApprovalsDocument::new(&state).effective(None, true);
    assert_eq!(policy.security, Security::Deny);
    chmod(state.root(), 0o700);
    assert_eq!(ApprovalsDocument::new(&state).effective(None, true).security, Security::Full);

    // A directory below the root that is a link is refused; the root itself may be one.
    let elsewhere = scratch.0.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, state.root().join("identity")).unwrap();
    assert!(device_key::load_or_create(&state.device_key(DeviceOwner::NodeHost)).is_err());
    assert!(walk(&elsewhere).is_empty());
    let link = scratch.0.join("link");
    symlink(state.root(), &link).unwrap();
    std::fs::remove_file(state.root().join("identity")).unwrap();
    let environment = Environment { state_dir: Some(link), ..Environment::default() };
    let linked = StateDir::locate(&environment).unwrap();
    linked.prepare().unwrap();
    assert_eq!(ApprovalsDocument::new(&linked).effective(None, true).security, Security::Full);
}

#[test]
fn sec_a139_a_broken_policy_denies_and_stays_as_it_is() {
    let large = format!("{{\"version\":1,\"x\":\"{}\"}}", "x".repeat(usize::try_from(limits::DOCUMENT_BYTES).unwrap()));
    let deep = format!("{{\"version\":1,\"x\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    for text in [
        "",
        "{",
        "{}",
        "[]",
        r#"{"version":0}"#,
        r#"{"version":2}"#,
        r#"{"version":"1"}"#,
        r#"{"version":1,"defaults":{"security":2}}"#,
        r#"{"version":1,"defaults":{"security":"everything"}}"#,
        r#"{"version":1,"defaults":{"ask":"Never"}}"#,
        r#"{"version":1,"defaults":{"security":"deny","security":"full"}}"#,
        r#"{"version":1,"agents":{"main":{"allowlist":[{"pattern":" "}]}}}"#,
        r#"{"version":1,"agents":{"__proto__":{"security":"full"}}}"#,
        r#"{"version":1,"local":{"trustGatewayApproval":true}}"#,
        r#"{"version":1,"local":{"remoteEdits":"yes"}}"#,
        r#"{"version":1,"defaults":{"security":"full"}"#,
        "\u{FEFF}{\"version\":1}",
        "{\"version\":1} // x",
        &deep,
        &large,
    ] {
        let scratch = Scratch::new();
        let state = scratch.state();
        std::fs::write(state.approvals(), text).unwrap();
        let shown = text.get(..60).unwrap_or(text);
        denies_all(&state, shown);
        assert_eq!(std::fs::read_to_string(state.approvals()).unwrap(), text, "{shown}");
    }
    let scratch = Scratch::new();
    let state = scratch.state();
    std::fs::write(state.approvals(), b"{\"version\":1,\"x\":\"\xFF\"}").unwrap();
    denies_all(&state, "not UTF-8");
    // Repaired by its owner, it holds again without a restart.
    let approvals = ApprovalsDocument::new(&state);
    assert_eq!(approvals.effective(None, true).security, Security::Deny);
    std::fs::write(state.approvals(), FULL).unwrap();
    assert_eq!(approvals.effective(None, true).security, Security::Full);
    std::fs::write(state.approvals(), FULL.replace("full", "deny")).unwrap();
    assert_eq!(approvals.effective(None, true).security, Security::Deny);
}

#[test]
fn sec_a140_without_a_policy_a_person_is_asked() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let approvals = ApprovalsDocument::new(&state);
    for agent in [None, Some("main"), Some("unknown"), Some("*"), Some("")] {
        let policy = approvals.effective(agent, true);
        assert_eq!(
            (policy.security, policy.ask, policy.ask_fallback, policy.auto_allow_skills),
            (Security::Allowlist, Ask::OnMiss, Security::Deny, false)
        );
        assert!(policy.broken.is_none() && policy.allowlist.is_empty() && !policy.trust_gateway_approvals);
    }
    assert!(!state.approvals().exists(), "looking creates nothing");
    assert!(approvals.hash().starts_with("missing:e3b0c442"));
    let before = approvals.effective(None, false);
    approvals.ensure().unwrap();
    assert_eq!(approvals.effective(None, false), before, "creating it changes nothing");
}

#[test]
fn sec_h16_a55_an_agent_nobody_vouches_for_gets_no_more_than_everybody() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let text = r#"{"version":1,"defaults":{"security":"allowlist","askFallback":"allowlist"},"agents":{
        "*":{"allowlist":["/bin/every"]},
        "default":{"ask":"always"},
        "main":{"security":"full","askFallback":"full","autoAllowSkills":true,"allowlist":["/bin/main"]},
        "tight":{"security":"deny"}}}"#;
    std::fs::write(state.approvals(), text).unwrap();
    let approvals = ApprovalsDocument::new(&state);
    let base = approvals.effective(None, true);
    assert_eq!((base.security, base.ask, base.allowlist.len()), (Security::Allowlist, Ask::OnMiss, 1));
    for agent in ["", "unknown", "default", "*", "MAIN"] {
        assert_eq!(approvals.effective(Some(agent), true), base, "{agent}");
    }
    let trusted = approvals.effective(Some(" main "), true);
    assert_eq!((trusted.security, trusted.ask, trusted.allowlist.len()), (Security::Full, Ask::Always, 2));
    let claimed = approvals.effective(Some("main"), false);
    assert_eq!((claimed.security, claimed.ask), (Security::Allowlist, Ask::Always));
    assert_eq!((claimed.ask_fallback, claimed.auto_allow_skills), (Security::Allowlist, false));
    assert_eq!(claimed.allowlist, base.allowlist);
    assert_eq!(approvals.effective(Some("tight"), false).security, Security::Deny);
}

#[test]
fn sec_a73_what_was_removed_stays_removed() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let approvals = ApprovalsDocument::new(&state);
    approvals.add_allow_always(Some("main"), "/bin/ls", None).unwrap();
    approvals.add_allow_always(None, "/bin/cat", Some("=x")).unwrap();
    approvals.add_allow_always(None, "/bin/cat", Some("=x")).unwrap();
    let policy = approvals.effective(Some("main"), true);
    let patterns: Vec<&str> = policy.allowlist.iter().map(|entry| entry.pattern.as_str()).collect();
    assert_eq!(patterns, ["/bin/cat", "/bin/ls"]);
    // Meanwhile the owner removes one, adds a plain one and something we do not know, and tightens.
    let mut document: Value = serde_json::from_slice(&std::fs::read(state.approvals()).unwrap()).unwrap();
    document["agents"]["main"]["allowlist"] = json!(["/bin/plain"]);
    document["agents"]["main"]["future"] = json!({ "kept": 1.5 });
    document["defaults"]["security"] = json!("deny");
    std::fs::write(state.approvals(), document.to_string()).unwrap();
    for entry in &policy.allowlist {
        approvals.record_use(entry, "ls -l", Path::new("/bin/ls")).unwrap();
    }
    let after = approvals.effective(Some("main"), true);
    assert_eq!(after.security, Security::Deny);
    assert_ne!(after.snapshot, policy.snapshot);
    let plain = after.allowlist.iter().find(|entry| entry.pattern == "/bin/plain").unwrap();
    approvals.record_use(plain, "plain -l", Path::new("/bin/plain")).unwrap();
    assert_eq!(approvals.effective(Some("main"), true).snapshot, after.snapshot, "a use changes no policy");
    let stored: Value = serde_json::from_slice(&std::fs::read(state.approvals()).unwrap()).unwrap();
    let main = &stored["agents"]["main"];
    assert_eq!(main["allowlist"].as_array().unwrap().len(), 1);
    assert_eq!(main["allowlist"][0]["lastUsedCommand"], "plain -l");
    assert_eq!(main["allowlist"][0]["id"], plain.id);
    assert_eq!(main["future"]["kept"], 1.5);
    assert!(stored["agents"]["*"]["allowlist"][0].get("lastUsedCommand").is_none());
}

/// A73, and its cost: a use that was noted a moment ago is not written again.
#[test]
fn sec_a73_a_use_is_written_at_most_once_a_minute() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let approvals = ApprovalsDocument::new(&state);
    approvals.add_allow_always(Some("main"), "/bin/l*", None).unwrap();
    let entry = approvals.effective(Some("main"), true).allowlist[0].clone();
    let stored = || std::fs::read_to_string(state.approvals()).unwrap();
    let set = |member: &str, value: Value| {
        let mut document: Value = serde_json::from_str(&stored()).unwrap();
        document["agents"]["main"]["allowlist"][0][member] = value;
        std::fs::write(state.approvals(), document.to_string()).unwrap();
    };
    let is_written = |path: &str| {
        let before = stored();
        approvals.record_use(&entry, "ls", Path::new(path)).unwrap();
        stored() != before
    };
    assert!(is_written("/bin/ls"), "the program is new");
    assert!(!is_written("/bin/ls"));
    assert!(is_written("/bin/ln"), "another program");
    assert!(!is_written("/bin/ln"));
    let now = openclaw::sys::clock::wall_ms();
    for (at, written) in [(now - 61_000, true), (now + 3_600_000, true), (now - 30_000, false)] {
        set("lastUsedAt", json!(at));
        assert_eq!(is_written("/bin/ln"), written, "{}", at - now);
    }
    set("lastUsedAt", json!(now as f64 - 0.5));
    assert!(!is_written("/bin/ln"), "the Mac app writes fractions");
    // Gone is gone, also for a store that has seen it.
    let mut document: Value = serde_json::from_str(&stored()).unwrap();
    document["agents"] = json!({});
    std::fs::write(state.approvals(), document.to_string()).unwrap();
    assert!(!is_written("/bin/other"));
    std::fs::remove_file(state.approvals()).unwrap();
    approvals.record_use(&entry, "ls", Path::new("/bin/ls")).unwrap();
    assert!(!state.approvals().exists());
}

#[test]
fn sec_a142_writers_do_not_lose_each_others_changes() {
    let scratch = Scratch::new();
    let state = scratch.state();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let state = &state;
            scope.spawn(move || {
                let approvals = ApprovalsDocument::new(state);
                for number in 0..10 {
                    approvals.add_allow_always(None, &format!("/bin/{writer}-{number}"), None).unwrap();
                }
            });
        }
    });
    assert_eq!(ApprovalsDocument::new(&state).effective(None, false).allowlist.len(), 40);
}

/// A get and a set through a peer that knows the protocol's members only, such as the official CLI, lose nothing
/// that the protocol has no member for, and loosen nothing (H15).
#[test]
fn sec_h15_what_the_wire_cannot_carry_outlives_an_edit() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let tools = json!([{"server": "s", "tool": "t", "source": "allow-always", "addedAt": 1}]);
    let stored = json!({
        "version": 1, "future": [1], "local": {"remoteEdits": "ask"},
        "socket": {"path": "/tmp/x.sock", "token": "t".repeat(32), "future": 1},
        "defaults": {"security": "allowlist", "fence": "workspace", "denylist": ["/bin/dd"], "allowlist": ["/bin/x"]},
        "agents": {
            "*": {"ask": "always", "denylist": [{"command": "rm *"}], "allowlist": [
                "/bin/ls",
                {"id": "1", "pattern": "/bin/cat", "note": "mine", "lastUsedAt": -1, "source": "allow-always"},
                {"pattern": "/bin/date", "note": "too", "lastUsedAt": 1.5, "commandText": "date"}]},
            "hidden": {"fence": "offline"},
            "tools": {"mcpTools": tools},
            "odd": {"mcpTools": [{"server": "s"}], "future": null},
        },
    });
    std::fs::create_dir_all(state.root()).unwrap();
    std::fs::write(state.approvals(), stored.to_string()).unwrap();
    let approvals = ApprovalsDocument::new(&state);
    let shown = approvals.snapshot(Form::Wire).unwrap();
    let expected = json!({
        "version": 1, "socket": {"path": "/tmp/x.sock"}, "defaults": {"security": "allowlist"},
        "agents": {
            "*": {"ask": "always", "allowlist": [
                {"pattern": "/bin/ls"},
                {"id": "1", "pattern": "/bin/cat", "source": "allow-always"},
                {"pattern": "/bin/date", "lastUsedAt": 1.5, "commandText": "date"}]},
            "hidden": {}, "tools": {"mcpTools": tools}, "odd": {},
        },
    });
    assert_eq!(shown.file, expected);
    assert_eq!(shown.hash, approvals.hash(), "of what is stored, not of what is shown");
    let set = |file: &Value| {
        let edit = approvals.propose(Some(file), Some(&approvals.hash()), Form::Wire).unwrap();
        (edit.loosened.clone(), approvals.apply(&edit, "a test").unwrap().file)
    };
    let now = || serde_json::from_slice::<Value>(&std::fs::read(state.approvals()).unwrap()).unwrap();
    // What was read, written back: the same document, but for the long form of an entry.
    let mut same = stored.clone();
    same["agents"]["*"]["allowlist"][0] = json!({"pattern": "/bin/ls"});
    assert_eq!(set(&shown.file), (Vec::new(), expected));
    assert_eq!(now(), same);
    // As little as may be said: what it drops is dropped, the rest is kept, where it stood.
    let (loosened, _) = set(&json!({"version": 1, "agents": {"*": {"ask": "always", "allowlist": [{"id": "1",
        "pattern": "/bin/cat", "source": "allow-always", "lastUsedAt": 5}]}}}));
    assert_eq!(loosened, Vec::<String>::new());
    let mut kept = same.clone();
    kept["defaults"].as_object_mut().unwrap().remove("security");
    kept["agents"]["*"]["allowlist"] =
        json!([{"id": "1", "pattern": "/bin/cat", "source": "allow-always", "lastUsedAt": 5, "note": "mine"}]);
    kept["agents"].as_object_mut().unwrap().remove("tools");
    assert_eq!(now(), kept);
    // What it does mention counts, and is judged.
    let (loosened, _) = set(&json!({"version": 1, "agents": {"*": {"denylist": []}}}));
    assert!(loosened.iter().any(|said| said.contains("the denylist loses rm *")), "{loosened:?}");
    assert_eq!(now()["agents"]["*"]["denylist"], json!([]));
    // The whole form is the whole document: what is not mentioned goes.
    let edit = approvals.propose(Some(&json!({"version": 1})), Some(&approvals.hash()), Form::Whole).unwrap();
    assert!(edit.loosened.iter().any(|said| said.contains("the denylist loses /bin/dd")), "{:?}", edit.loosened);
}

#[test]
fn sec_a157_the_wire_never_sees_the_token() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let approvals = ApprovalsDocument::new(&state);
    approvals.ensure().unwrap();
    let token = approvals.socket_token().unwrap();
    assert_eq!(token.expose().len(), 32);
    for form in [Form::Whole, Form::Wire] {
        let snapshot = approvals.snapshot(form).unwrap();
        assert!(!snapshot.file.to_string().contains(token.expose_text()));
        assert_eq!(snapshot.file["socket"], json!({ "path": state.exec_socket() }));
        assert!(snapshot.exists && snapshot.hash == approvals.hash() && snapshot.hash.len() == 64);
    }
    let stored = std::fs::read_to_string(state.approvals()).unwrap();
    std::fs::write(state.approvals(), stored.replace(token.expose_text(), "tooshort")).unwrap();
    assert!(approvals.socket_token().is_err());
}

/// A writer that is killed at any moment leaves the old document or the new one. The writer is this
/// test in a child process.
#[test]
fn sec_a141_killed_writers_leave_whole_documents() {
    if let Some(root) = std::env::var_os("STATE_TEST_WRITER") {
        let environment = Environment { state_dir: Some(root.into()), ..Environment::default() };
        let store = Store::<Vec<String>>::new(StateDir::locate(&environment).unwrap().devices_paired());
        for round in 0_usize.. {
            store.update(|value| *value = vec![round.to_string(); 2_000]).unwrap();
        }
    }
    let scratch = Scratch::new();
    let state = scratch.state();
    let store = Store::<Vec<String>>::new(state.devices_paired());
    let mut rounds = std::collections::BTreeSet::new();
    for kill in 0..25_u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sec_a141_killed_writers_leave_whole_documents"])
            .env("STATE_TEST_WRITER", state.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is chosen by the number of the round; nothing is waited for.
        std::thread::sleep(Duration::from_millis(5 + kill * 3));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let value = store.load().unwrap();
        assert!(value.is_empty() || (value.len() == 2_000 && value.iter().all(|round| *round == value[0])));
        rounds.extend(value.into_iter().next());
        for (path, (mode, _)) in walk(state.root()) {
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    }
    assert!(rounds.len() > 1, "the writers never wrote");
    store.update(|value| value.clear()).unwrap();
    let left: Vec<_> =
        walk(state.root()).into_keys().filter(|path| path.extension().is_some_and(|it| it == "tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_broken_store_is_kept() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let store = Store::<BTreeMap<String, u32>>::new(state.nodes_paired());
    assert!(store.load().unwrap().is_empty());
    assert!(!state.nodes_paired().exists());
    store.update(|value| value.insert("a".to_owned(), 1)).unwrap();
    for text in ["{\"a\":1,\"a\":2}", "{\"a\":\"secret\"}", "{"] {
        std::fs::write(state.nodes_paired(), text).unwrap();
        let error = store.update(|value| value.insert("b".to_owned(), 2)).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(std::fs::read_to_string(state.nodes_paired()).unwrap(), text);
    }
}

#[test]
fn one_instance_holds_the_lock_and_says_who() {
    let scratch = Scratch::new();
    let state = scratch.state();
    assert_eq!(InstanceLock::holder(&state.gateway_lock()), None);
    let lock = InstanceLock::take(&state.gateway_lock()).unwrap();
    let Err(StateError::AlreadyHeld { pid, .. }) = InstanceLock::take(&state.gateway_lock()) else {
        panic!("taken twice")
    };
    assert_eq!(pid, Some(std::process::id()));
    assert_eq!(InstanceLock::holder(&state.gateway_lock()), Some(pid));
    drop(lock);
    InstanceLock::take(&state.gateway_lock()).unwrap();
    let document = DocumentLock::take(&state.approvals()).unwrap();
    let start = Instant::now();
    assert!(matches!(DocumentLock::take(&state.approvals()), Err(StateError::Busy { .. })));
    assert!(start.elapsed() >= limits::DOCUMENT_LOCK_WAIT);
    drop(document);
}

/// H25: those who only look change nothing, not even a mode.
#[test]
fn sec_h25_looking_creates_and_repairs_nothing() {
    let scratch = Scratch::new();
    let environment = scratch.environment();
    let state = StateDir::locate(&environment).unwrap();
    assert!(Config::inspect(&state, &environment).unwrap().shared_secret().is_err());
    ApprovalsDocument::for_inspection(&state).effective(None, false);
    assert!(!state.root().exists());
    state.prepare().unwrap();
    std::fs::write(state.config(), "{gateway:{auth:{token:'0123456789'}}}").unwrap();
    std::fs::write(state.approvals(), FULL).unwrap();
    chmod(state.config(), 0o644);
    chmod(&state.approvals(), 0o644);
    let before = walk(state.root());
    assert!(Config::inspect(&state, &environment).unwrap().shared_secret().is_ok());
    assert!(ApprovalsDocument::for_inspection(&state).effective(None, false).broken.is_none());
    assert_eq!(walk(state.root()), before);
}

#[test]
fn beside_the_official_product_our_documents_move_once() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let approvals = ApprovalsDocument::new(&state);
    approvals.add_allow_always(None, "/bin/ls", None).unwrap();
    let key = device_key::load_or_create(&state.device_key(DeviceOwner::NodeHost)).unwrap();
    std::fs::create_dir(state.root().join("state")).unwrap();
    std::fs::write(state.root().join("state/openclaw.sqlite"), "").unwrap();
    let beside = scratch.state();
    assert_eq!(beside.documents(), state.root().join("native"));
    assert!(!state.approvals().exists() && !state.device_key(DeviceOwner::NodeHost).exists());
    assert_eq!(ApprovalsDocument::new(&beside).effective(None, false).allowlist.len(), 1);
    assert_eq!(device_key::load_or_create(&beside.device_key(DeviceOwner::NodeHost)).unwrap().id(), key.id());
    assert_eq!(beside.exec_socket(), state.exec_socket());
    assert_eq!(beside.config(), state.config());
    scratch.state();
}

#[test]
fn state_directories_are_found_from_home() {
    let locate = |value: Option<&str>| {
        let home = Some(PathBuf::from("/home/x"));
        let environment = Environment { home, state_dir: value.map(PathBuf::from), ..Environment::default() };
        StateDir::locate(&environment).unwrap().root().to_owned()
    };
    assert_eq!(locate(None), Path::new("/home/x/.openclaw"));
    assert_eq!(locate(Some("~")), Path::new("/home/x"));
    assert_eq!(locate(Some("~/a")), Path::new("/home/x/a"));
    assert_eq!(locate(Some("a/b")), Path::new("/home/x/a/b"));
    assert_eq!(locate(Some("/a")), Path::new("/a"));
    assert!(StateDir::locate(&Environment::default()).is_err());
    assert!(variables(&[("OPENCLAW_GATEWAY_PORT", "x")]).is_err());
    let environment =
        variables(&[("OPENCLAW_GATEWAY_PORT", "1"), ("OPENCLAW_STATE_DIR", ""), ("OPENCLAW_X", "")]).unwrap();
    assert_eq!((environment.gateway_port, environment.state_dir), (Some(1), None));
}

/// A document never grows to what could not be read again.
#[test]
fn a_document_that_would_be_too_large_is_not_written() {
    let scratch = Scratch::new();
    let path = scratch.state().documents().join("devices.json");
    let store = Store::<BTreeMap<String, String>>::new(path);
    store.update(|all| all.insert("a".to_owned(), "b".to_owned())).unwrap();
    let half = "x".repeat(usize::try_from(limits::DOCUMENT_BYTES / 2).unwrap());
    let add = |name: &str| store.update(|all| drop(all.insert(name.to_owned(), half.clone())));
    let error = ["c", "d"].into_iter().find_map(|name| add(name).err()).unwrap();
    assert!(error.to_string().contains("larger than"), "{error}");
    let kept = store.load().unwrap();
    assert!(kept["a"] == "b" && kept["c"] == half && !kept.contains_key("d"));
}
