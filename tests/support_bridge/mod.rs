//! A desktop that does what a test says, behind the real host and its real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

use openclaw::bridge::host::{self, Options, Signers};
use openclaw::desktop::automation::{
    Ability, Application, ApplicationChange, Area, Automation, Done, Element, ElementScope, ElementValue, Elements,
    Expected, Failure, Image, Key, Modifiers, Permission, Permissions, Point, Pointer, Rect, Scale, Screen, Scroll,
    Size, Window, WindowChange, WindowId,
};
use openclaw::protocol::peekaboo::types::HostKind;
use openclaw::protocol::peekaboo::{Request, Response};
use openclaw::transport::code_identity::{CodeIdentity, Unidentified};
use openclaw::transport::connections::Listening;
use openclaw::transport::lease::SocketLease;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub const ALL: &[Ability] = &[
    Ability::CaptureScreen,
    Ability::CaptureWindow,
    Ability::Applications,
    Ability::Windows,
    Ability::Pointer,
    Ability::Scroll,
    Ability::Keyboard,
    Ability::Targeted,
    Ability::FocusWindow,
    Ability::PlaceWindow,
    Ability::CloseWindow,
    Ability::MinimizeWindow,
    Ability::MaximizeWindow,
    Ability::Launch,
    Ability::Activate,
    Ability::Hide,
    Ability::Quit,
    Ability::Elements,
    Ability::ElementActions,
    Ability::Menus,
    Ability::MenuExtras,
    Ability::Dock,
    Ability::Dialogs,
];

pub struct Desk {
    pub abilities: &'static [Ability],
    pub permissions: Mutex<Permissions>,
    pub applications: Mutex<Vec<Application>>,
    pub windows: Mutex<Vec<Window>>,
    /// One element each failure, found by the text on it; a click on it fails like this.
    pub failures: Vec<(&'static str, Failure)>,
    /// What was done.
    pub done: Mutex<Vec<String>>,
    /// Scrolling waits until this is set.
    pub released: (Mutex<bool>, Condvar),
    /// How many are waiting there.
    pub hanging: AtomicU32,
    /// Bytes of an image.
    pub image_bytes: usize,
    pub faulty: AtomicBool,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            abilities: ALL,
            permissions: Mutex::new(Permissions::ALL),
            applications: Mutex::new(vec![application(501, "Editor"), application(502, "Other")]),
            windows: Mutex::new(vec![window(1, 501, (100.0, 100.0)), window(2, 502, (2_000.0, 100.0))]),
            failures: vec![
                ("fail:invalidInput", Failure::Invalid("bad keys".into())),
                ("fail:ax", Failure::Permission(Permission::Accessibility)),
                ("fail:sr", Failure::Permission(Permission::ScreenRecording)),
                ("fail:es", Failure::Permission(Permission::EventPosting)),
                ("fail:unavailable", Failure::NotSupported("service".into())),
                ("fail:notImplemented", Failure::NotSupported("thing".into())),
                ("fail:elementNotFound", Failure::NotFound("element Secret title".into())),
                ("fail:timeout", Failure::Timeout),
                ("fail:other", Failure::Internal("could not open /home/secret/file for Secret title".into())),
            ],
            done: Mutex::default(),
            released: (Mutex::new(false), Condvar::new()),
            hanging: AtomicU32::new(0),
            image_bytes: 16,
            faulty: AtomicBool::new(false),
        }
    }
}

pub fn application(pid: i32, name: &str) -> Application {
    let bundle_id = Some(format!("com.example.{name}"));
    Application { pid, name: name.to_owned(), bundle_id, active: pid == 501, ..Application::default() }
}

pub fn window(id: WindowId, pid: i32, (x, y): (f64, f64)) -> Window {
    Window {
        id,
        pid,
        title: format!("Window {id}"),
        bounds: Rect { origin: Point { x, y }, size: Size { width: 400.0, height: 300.0 } },
        on_screen: true,
        main: true,
        focused: id == 1,
        alpha: 1.0,
        ..Window::default()
    }
}

impl Desk {
    fn note(&self, what: impl Into<String>) -> Done {
        assert!(!self.faulty.load(Ordering::SeqCst), "a fault on purpose");
        self.done.lock().unwrap().push(what.into());
        Ok(())
    }

    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    pub fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }
}

impl Automation for Desk {
    fn abilities(&self) -> &[Ability] {
        self.abilities
    }

    fn permissions(&self) -> Permissions {
        *self.permissions.lock().unwrap()
    }

    fn screens(&self) -> Done<Vec<Screen>> {
        let bounds = Rect { origin: Point::default(), size: Size { width: 4_000.0, height: 1_000.0 } };
        Ok(vec![Screen { name: None, bounds, scale: 1.0 }])
    }

    fn applications(&self) -> Done<Vec<Application>> {
        Ok(self.applications.lock().unwrap().clone())
    }

    fn windows(&self) -> Done<Vec<Window>> {
        Ok(self.windows.lock().unwrap().clone())
    }

    fn capture(&self, area: Area, _: Scale) -> Done<Image> {
        self.note(format!("capture {area:?}"))?;
        Ok(Image { png: vec![7; self.image_bytes], width: 4, height: 4 })
    }

    fn pointer_position(&self) -> Done<Point> {
        Ok(Point::default())
    }

    fn pointer(&self, action: &Pointer, to: Option<i32>, expected: Expected) -> Done {
        if let Pointer::Click { at, .. } = action {
            let number = ((at.x - 105.0) / 10.0) as usize;
            if let Some((_, failure)) =
                self.failures.get(number).filter(|_| (100.0..120.0).contains(&at.y) && at.x >= 100.0)
            {
                return Err(failure.clone());
            }
        }
        self.note(format!("{action:?} to {to:?} {expected:?}"))
    }

    fn scroll(&self, _: &Scroll, _: Expected) -> Done {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        let released = self.released.0.lock().unwrap();
        drop(self.released.1.wait_while(released, |released| !*released).unwrap());
        self.note("scroll")
    }

    fn type_text(&self, text: &str, _: Duration, _: Expected) -> Done {
        self.note(format!("type {text}"))
    }

    fn press(&self, key: Key, modifiers: Modifiers, _: Duration, to: Option<i32>, _: Expected) -> Done {
        self.note(format!("press {key:?} {modifiers:?} to {to:?}"))
    }

    fn change_window(&self, window: WindowId, change: WindowChange) -> Done {
        self.note(format!("{change:?} {window}"))
    }

    fn change_application(&self, pid: i32, change: ApplicationChange) -> Done<bool> {
        self.note(format!("{change:?} {pid}")).map(|()| true)
    }

    fn launch(&self, identifier: &str) -> Done<Application> {
        self.note(format!("launch {identifier}")).map(|()| application(503, identifier))
    }

    fn elements(&self, _: &ElementScope) -> Done<Elements> {
        let windows = self.windows.lock().unwrap().clone();
        let labels = self.failures.iter().map(|(label, _)| *label).enumerate();
        let failing = labels.map(|(number, label)| element(label, 100.0 + 10.0 * number as f64, 100.0));
        let elements: Vec<_> = failing.chain([element("Save", 200.0, 200.0)]).collect();
        let application = self.applications.lock().unwrap()[0].clone();
        Ok(Elements { elements, application, window: windows.first().cloned(), ..Elements::default() })
    }

    fn set_value(&self, element: &Element, value: &ElementValue) -> Done<(Option<String>, Option<String>)> {
        self.note(format!("set {} {value:?}", element.handle)).map(|()| (None, None))
    }

    fn perform(&self, element: &Element, action: &str) -> Done {
        self.note(format!("perform {} {action}", element.handle))
    }

    fn carry_out(&self, request: &Request) -> Done<Response> {
        match request {
            Request::MenuExtraOpenMenuFrame(_) => Ok(Response::Rect(None)),
            _ => Err(Failure::NotSupported("this".to_owned())),
        }
    }
}

pub fn element(label: &str, x: f64, y: f64) -> Element {
    Element {
        handle: label.to_owned(),
        pid: 501,
        window: Some(1),
        label: Some(label.to_owned()),
        bounds: Rect { origin: Point { x, y }, size: Size { width: 10.0, height: 10.0 } },
        enabled: true,
        ..Element::default()
    }
}

/// A host on a socket of its own; everything goes when it is dropped.
pub struct Host {
    pub desk: Arc<Desk>,
    pub socket: PathBuf,
    directory: PathBuf,
    pub listening: Option<Listening>,
}

pub type Signature = Result<CodeIdentity, Unidentified>;

pub fn signed(team: &str, identifier: &str) -> Signature {
    Ok(CodeIdentity { team: team.to_owned(), identifier: identifier.to_owned() })
}

/// By a team and with an identifier that are allowed.
pub fn peekaboo() -> Signature {
    signed("Y5PE65HELJ", "boo.peekaboo.peekaboo")
}

impl Host {
    pub fn new(desk: Desk) -> Self {
        Self::with(desk, Signers::default(), false, |_| peekaboo())
    }

    /// `identify` is told how often it was asked before.
    pub fn with(
        desk: Desk,
        signers: Signers,
        lets_unsigned_in: bool,
        identify: impl Fn(u32) -> Signature + Send + Sync + 'static,
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new("/tmp").canonicalize().unwrap().join(format!("ocb{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let socket = directory.join("bridge.sock");
        let desk = Arc::new(desk);
        let asked = AtomicU32::new(0);
        let options = Options {
            automation: Arc::clone(&desk) as Arc<dyn Automation>,
            signers,
            identify: Box::new(move |_| identify(asked.fetch_add(1, Ordering::SeqCst))),
            lets_unsigned_in,
            kind: HostKind::App,
            holder: "OpenClaw.app".to_owned(),
        };
        let listening = host::start(SocketLease::bind(&socket).unwrap(), options).unwrap();
        Self { desk, socket, directory, listening: Some(listening) }
    }

    /// The answer to one request.
    pub fn ask(&self, request: &Value) -> Value {
        let answer = exchange(&self.socket, request.to_string().as_bytes());
        serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error} in {answer:?} to {request}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.desk.release();
        drop(self.listening.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Sends, half-closes, reads to the end.
pub fn exchange(socket: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A host that refuses before it has read everything may close on us.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The code of an error; empty for another answer.
pub fn code(answer: &Value) -> &str {
    answer.pointer("/error/_0/code").and_then(Value::as_str).unwrap_or_default()
}
