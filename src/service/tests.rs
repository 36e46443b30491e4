//! Every order that a manager is given, and every line of the files, on any system.

use super::launchd::Launchd;
use super::systemd::Systemd;
use super::tool::Answer;
use super::*;
use std::cell::RefCell;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

/// What would mean something to XML, to systemd or to a shell.
const AWKWARD: &str = r#"a "b" 'c' <d> & %h $HOME ${X} \ ;é"#;

struct Scratch {
    home: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let home = std::env::temp_dir().join(format!("oc-svc-{}", crate::identity::random::uuid()));
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { home }
    }

    fn state(&self) -> StateDir {
        StateDir::locate(&Environment { state_dir: Some(self.home.join("state")), ..Environment::default() }).unwrap()
    }

    fn service(&self, role: Role, arguments: &[&str]) -> Service {
        Service {
            role,
            program: PathBuf::from("/opt/open claw/openclaw"),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: vec![("OPENCLAW_CONFIG_PATH", AWKWARD.into())],
            search_path: "/usr/bin:/a & b".into(),
            state: self.state(),
        }
    }

    fn services(&self, manager: impl Manager + 'static) -> Services {
        let state = self.state();
        state.prepare().unwrap();
        Services { manager: Box::new(manager), state }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A launchd that has at most one job; each order that it was given, without `print`.
#[derive(Default)]
struct FakeLaunchd {
    orders: Vec<String>,
    is_loaded: bool,
    /// Looks during which a job that was booted out is still there.
    lingers: u32,
    /// Exit codes of the next `bootstrap`s.
    refusals: Vec<i32>,
    /// It never lets go of a job.
    is_stuck: bool,
}

fn launchd(home: &Path) -> (Launchd, Rc<RefCell<FakeLaunchd>>) {
    let fake = Rc::new(RefCell::new(FakeLaunchd::default()));
    let shared = Rc::clone(&fake);
    let tool = move |arguments: &[&str]| {
        let mut fake = shared.borrow_mut();
        let order = arguments[0];
        if order != "print" {
            let shown: Vec<&str> = arguments.iter().map(|word| word.rsplit('/').next().unwrap()).collect();
            fake.orders.push(shown.join(" "));
        }
        let code = match order {
            "print" if fake.is_loaded => 0,
            "print" if fake.lingers > 0 => {
                fake.lingers -= 1;
                0
            }
            "print" => 113,
            "bootstrap" if !fake.refusals.is_empty() => fake.refusals.remove(0),
            "bootstrap" => {
                fake.is_loaded = true;
                0
            }
            "bootout" => {
                fake.is_loaded = fake.is_stuck;
                fake.lingers = 2;
                36
            }
            _ => 0,
        };
        let text = "gui/501/ai.openclaw.node = {\n\tstate = running\n\tpid = 7\n}\n".to_owned();
        Ok(Answer { code: Some(code), text })
    };
    (Launchd::new(home, Box::new(tool)), fake)
}

/// A systemd that runs everything; each order that it was given, without `show`.
fn systemd(home: &Path) -> (Systemd, Rc<RefCell<Vec<String>>>) {
    let orders = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&orders);
    let tool = move |arguments: &[&str]| {
        if arguments[0] != "show" {
            shared.borrow_mut().push(arguments.join(" "));
        }
        Ok(Answer { code: Some(0), text: "LoadState=loaded\nActiveState=active\nMainPID=7\n".to_owned() })
    };
    (Systemd::in_directory(home.join("units"), Box::new(tool)), orders)
}

fn orders(fake: &Rc<RefCell<FakeLaunchd>>) -> Vec<String> {
    std::mem::take(&mut fake.borrow_mut().orders)
}

#[test]
fn launchd_is_given_the_right_orders_in_the_right_order() {
    let scratch = Scratch::new();
    let (manager, fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    let uid = crate::sys::process::effective_uid().to_string();
    let load = [
        "enable ai.openclaw.node".to_owned(),
        format!("bootstrap {uid} ai.openclaw.node.plist"),
        "kickstart ai.openclaw.node".to_owned(),
    ];
    let service = || scratch.service(Role::Node, &["node", "run"]);
    services.install(service(), None).unwrap();
    assert_eq!(orders(&fake), load);
    services.install(service(), None).unwrap();
    assert_eq!(orders(&fake), [""; 0], "nothing has changed");
    services.install(scratch.service(Role::Node, &["node", "run", "--port", "1"]), None).unwrap();
    let reload = [&["bootout ai.openclaw.node".to_owned()][..], &load].concat();
    assert_eq!(orders(&fake), reload, "other arguments");
    let token = Secret::new("sesame-open-1".to_owned());
    services.install(scratch.service(Role::Node, &["node", "run", "--port", "1"]), Some(&token)).unwrap();
    assert_eq!(orders(&fake), reload, "a token");
    services.install(scratch.service(Role::Node, &["node", "run", "--port", "1"]), None).unwrap();
    assert_eq!(orders(&fake), [""; 0], "the token is kept");
    services.restart(Role::Node).unwrap();
    assert_eq!(orders(&fake), ["kickstart -k ai.openclaw.node"]);
    services.start(Role::Node).unwrap();
    assert_eq!(orders(&fake), [""; 0], "it runs");
    services.stop(Role::Node).unwrap();
    assert_eq!(orders(&fake), ["bootout ai.openclaw.node"]);
    services.stop(Role::Node).unwrap();
    assert_eq!(orders(&fake), [""; 0], "it is stopped");
    fake.borrow_mut().refusals = vec![37, 5];
    services.start(Role::Node).unwrap();
    assert_eq!(
        orders(&fake),
        [&load[..2], &load[1..2], &load[1..]].concat(),
        "it is asked again while launchd is busy"
    );
    assert!(services.uninstall(Role::Node).unwrap());
    assert_eq!(orders(&fake), ["bootout ai.openclaw.node"]);
    assert!(!services.uninstall(Role::Node).unwrap());
    assert_eq!(orders(&fake), [""; 0]);
    let left: Vec<_> = std::fs::read_dir(scratch.home.join("Library/LaunchAgents")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!scratch.state().service_token(DeviceOwner::NodeHost).exists());
}

/// mac-app 1.4: the menu's switch is for the logins to come; what runs now may be the app in whose menu it is.
#[test]
fn what_starts_at_login_is_switched_without_ending_or_starting_anything() {
    let scratch = Scratch::new();
    let (manager, fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    let (service, file) = (scratch.service(Role::App, &["app", "run"]), services.manager.file(Role::App));
    for is_loaded in [false, true] {
        fake.borrow_mut().is_loaded = is_loaded;
        services.set_at_login(service.clone(), true).unwrap();
        assert_eq!(orders(&fake), ["enable ai.openclaw.mac"]);
        assert!(services.is_installed(Role::App) && services.refuse_foreign(Role::App).unwrap());
        for _ in 0..2 {
            services.set_at_login(service.clone(), false).unwrap();
            assert_eq!((orders(&fake), file.exists()), (vec![], false));
        }
        assert_eq!(fake.borrow().is_loaded, is_loaded);
    }
    std::fs::write(&file, "somebody else's").unwrap();
    for is_on in [true, false] {
        let refused = services.set_at_login(service.clone(), is_on);
        assert!(matches!(refused, Err(ServiceError::Foreign(_))));
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"somebody else's");
    let (manager, asked) = systemd(&scratch.home);
    let services = scratch.services(manager);
    services.set_at_login(service.clone(), true).unwrap();
    services.set_at_login(service, false).unwrap();
    let expected = ["daemon-reload", "enable openclaw-app.service", "disable openclaw-app.service", "daemon-reload"];
    assert_eq!((asked.take(), services.is_installed(Role::App)), (expected.map(str::to_owned).to_vec(), false));
}

#[test]
fn a_refusal_of_launchd_is_told() {
    let scratch = Scratch::new();
    let (manager, fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    fake.borrow_mut().refusals = vec![125];
    let error = services.install(scratch.service(Role::App, &["app", "run"]), None).unwrap_err();
    assert!(error.to_string().contains("log in at this Mac's screen"), "{error}");
    for (code, words) in [(78, "78"), (119, "launchctl enable"), (113, "install it again"), (3, "no such job")] {
        fake.borrow_mut().refusals = vec![code];
        let error = services.start(Role::App).unwrap_err();
        let ServiceError::Tool(asked, said) = &error else { panic!("{code}: {error}") };
        assert!(asked.starts_with("bootstrap gui/") && said.contains(words), "{code}: {error}");
    }
    fake.borrow_mut().refusals = vec![134];
    assert!(matches!(services.start(Role::App), Err(ServiceError::NoManager(why)) if why.contains("screen")));
}

/// A second look at a job that ends slowly, and one that never ends: `bootout` alone is not believed (P8).
#[test]
fn a_job_that_does_not_go_is_waited_for_and_told() {
    let scratch = Scratch::new();
    let (manager, fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    services.install(scratch.service(Role::Gateway, &["gateway", "run"]), None).unwrap();
    fake.borrow_mut().is_stuck = true;
    let error = services.stop(Role::Gateway).unwrap_err().to_string();
    assert!(error.contains("bootout gui/") && error.contains("still runs after 5 s"), "{error}");
    assert_eq!(orders(&fake)[3..], ["bootout ai.openclaw.gateway"], "it is asked once");
    assert!(services.is_installed(Role::Gateway), "what runs keeps its file");
    fake.borrow_mut().is_stuck = false;
    assert!(services.uninstall(Role::Gateway).unwrap());
}

#[test]
fn a_gateway_has_no_token_of_a_service() {
    let scratch = Scratch::new();
    let (manager, _fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    let token = Secret::new("sesame-open-4".to_owned());
    services.install(scratch.service(Role::Gateway, &["gateway", "run"]), Some(&token)).unwrap();
    let text = std::fs::read_to_string(services.manager.file(Role::Gateway)).unwrap();
    assert!(text.contains("ai.openclaw.gateway") && !text.contains(STORED_TOKEN) && !text.contains("sesame"));
    assert!(stored_token(&scratch.state(), Role::Gateway).is_err());
}

#[test]
fn systemd_is_given_the_right_orders_in_the_right_order() {
    let scratch = Scratch::new();
    let (manager, orders) = systemd(&scratch.home);
    let orders = || std::mem::take(&mut *orders.borrow_mut());
    let services = scratch.services(manager);
    services.install(scratch.service(Role::App, &["app", "run"]), None).unwrap();
    assert_eq!(orders(), ["daemon-reload", "enable openclaw-app.service", "restart openclaw-app.service"]);
    services.install(scratch.service(Role::App, &["app", "run"]), None).unwrap();
    assert_eq!(orders(), ["daemon-reload", "enable openclaw-app.service", "start openclaw-app.service"]);
    assert!(services.uninstall(Role::App).unwrap());
    assert_eq!(orders(), ["stop openclaw-app.service", "disable openclaw-app.service", "daemon-reload"]);
}

#[test]
fn without_a_manager_nothing_is_written_and_nothing_is_no_error() {
    let scratch = Scratch::new();
    let tool =
        |_: &[&str]| Ok(Answer { code: Some(1), text: "Failed to connect to bus: No medium found\n".to_owned() });
    let services = scratch.services(Systemd::in_directory(scratch.home.join("units"), Box::new(tool)));
    let error =
        services.install(scratch.service(Role::Node, &["node"]), Some(&Secret::new("t".repeat(9)))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("No medium found") && text.contains("`run`"), "{text}");
    assert!(!scratch.home.join("units").exists());
    assert!(!scratch.state().service_token(DeviceOwner::NodeHost).exists());
    assert!(!services.uninstall(Role::Node).unwrap());
    let status = services.status(Role::Node);
    assert!(!status.installed && !status.running && status.problem.is_some_and(|why| why.contains("No medium found")));
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let scratch = Scratch::new();
    let (manager, fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    let path = services.manager.file(Role::Node);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "<plist/>").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let all = [
        services.install(scratch.service(Role::Node, &["node"]), None),
        services.uninstall(Role::Node).map(drop),
        services.start(Role::Node),
        services.stop(Role::Node),
        services.restart(Role::Node),
    ];
    for result in all {
        assert!(matches!(result, Err(ServiceError::Foreign(ref found)) if *found == path));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "<plist/>");
    assert_eq!(orders(&fake), [""; 0]);
}

#[test]
fn the_token_is_nowhere_but_in_its_own_file() {
    let scratch = Scratch::new();
    let (manager, _fake) = launchd(&scratch.home);
    let services = scratch.services(manager);
    let token = Secret::new("sesame-open-2".to_owned());
    services.install(scratch.service(Role::Node, &["node", "run"]), Some(&token)).unwrap();
    let text = std::fs::read_to_string(services.manager.file(Role::Node)).unwrap();
    assert!(text.contains(STORED_TOKEN) && !text.contains("sesame"), "{text}");
    let path = scratch.state().service_token(DeviceOwner::NodeHost);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(stored_token(&scratch.state(), Role::Node).unwrap().matches(b"sesame-open-2"));
    assert!(stored_token(&scratch.state(), Role::App).is_err());
}

#[test]
fn the_state_directory_is_the_one_of_the_install() {
    let scratch = Scratch::new();
    let (manager, _fake) = launchd(&scratch.home);
    let mut services = scratch.services(manager);
    let odd = Environment { state_dir: Some(scratch.home.join(AWKWARD)), ..Environment::default() };
    services.state = StateDir::locate(&odd).unwrap();
    services.state.prepare().unwrap();
    let service = Service { state: services.state.clone(), ..scratch.service(Role::Node, &["node"]) };
    services.install(service, Some(&Secret::new("sesame-open-3".to_owned()))).unwrap();
    let token = services.state.service_token(DeviceOwner::NodeHost);
    assert!(token.exists());
    services.state = scratch.state();
    assert_eq!(services.status(Role::Node).log, scratch.home.join(AWKWARD).join("logs/node.log").to_str().unwrap());
    services.uninstall(Role::Node).unwrap();
    assert!(!token.exists());
}

#[test]
fn both_files_hold_any_text_of_one_line_and_refuse_the_rest() {
    let scratch = Scratch::new();
    let (plist, _fake) = launchd(&scratch.home);
    let unit = Systemd::in_directory(scratch.home.clone(), Box::new(|_| Ok(Answer::default())));
    let service = scratch.service(Role::Node, &["node", "--display-name", AWKWARD]);
    let text = plist.render(&service).unwrap();
    assert_eq!(strings(&text, "ProgramArguments"), ["/opt/open claw/openclaw", "node", "--display-name", AWKWARD]);
    assert_eq!(strings(&text, "EnvironmentVariables"), ["/usr/bin:/a & b", AWKWARD]);
    let text = unit.render(&service).unwrap();
    let line =
        r#"ExecStart=":/opt/open claw/openclaw" "node" "--display-name" "a \"b\" 'c' <d> & %%h $HOME ${X} \\ ;é""#;
    assert!(text.lines().any(|found| found == line), "{text}");
    for bad in ["a\nb", "a\rb", "a\tb", "a\u{0}b", "\u{1b}[2J", "\u{85}", "\u{ffff}"] {
        for manager in [&plist as &dyn Manager, &unit] {
            let service = scratch.service(Role::Node, &["node", bad]);
            assert!(matches!(manager.render(&service), Err(ServiceError::Text(_))), "{bad:?}");
            let mut service = scratch.service(Role::Node, &["node"]);
            service.program = PathBuf::from(format!("/{bad}"));
            assert!(matches!(manager.render(&service), Err(ServiceError::Text(_))), "{bad:?}");
            let mut service = scratch.service(Role::Node, &["node"]);
            service.environment[0].1 = OsString::from_vec(b"\xff".to_vec());
            assert!(matches!(manager.render(&service), Err(ServiceError::Text(_))));
        }
    }
}

/// The strings below a key of a property list that is well-formed XML.
fn strings(text: &str, key: &str) -> Vec<String> {
    let (mut open, mut found, mut last, mut is_below) = (Vec::new(), Vec::new(), String::new(), false);
    let body = text.split_once("<plist").unwrap().1.split_once('>').unwrap().1;
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag that ends");
        let mut references = text.split('&').skip(1).map(|rest| rest.split_once(';').map(|(name, _)| name));
        assert!(!text.contains(['"', '\'']), "{text}");
        assert!(references.all(|name| matches!(name, Some("amp" | "lt" | "gt" | "quot" | "apos"))), "{text}");
        if let Some(tag) = tag.strip_suffix('/') {
            assert!(tag == "true" || tag == "false", "{tag}");
        } else if let Some(name) = tag.strip_prefix('/') {
            if name == "plist" {
                break;
            }
            assert_eq!(open.pop().as_deref(), Some(name), "in {text}");
            match name {
                "key" if open.len() == 1 => is_below = last == key,
                "string" if is_below => found.push(super::launchd::unescaped(&last)),
                _ => {}
            }
        } else {
            open.push(tag.to_owned());
            last = text.to_owned();
        }
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

#[test]
fn a_launch_agent_comes_back_after_a_crash_and_stays_down_after_a_wanted_end() {
    let scratch = Scratch::new();
    let (manager, _fake) = launchd(&scratch.home);
    let text: String = manager.render(&scratch.service(Role::App, &["app"])).unwrap().split_whitespace().collect();
    for part in [
        "<key>Label</key><string>ai.openclaw.mac</string>",
        "<key>RunAtLoad</key><true/>",
        "<key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>",
        "<key>LimitLoadToSessionType</key><string>Aqua</string>",
        "<key>ProcessType</key><string>Interactive</string>",
        &format!("<key>WorkingDirectory</key><string>{}</string>", scratch.home.display()),
        &format!(
            "<key>StandardErrorPath</key><string>{}/logs/app-stdout.log</string>",
            scratch.state().root().display()
        ),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let node = manager.render(&scratch.service(Role::Node, &["node"])).unwrap();
    assert!(node.contains("ai.openclaw.node") && !node.contains("Aqua"), "{node}");
}
