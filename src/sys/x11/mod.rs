//! A connection to an X server, by the server's own libraries.
//!
//! Each [`Server`] has one thread that alone uses its [`Connection`]; others hand it work and wait for a bounded time.
//! A server that does not answer has its socket shut down by whoever waited in vain, which is what gets the thread
//! out of Xlib again. Neither a refused request nor a lost connection ends the process.

mod library;
mod image;
mod input;
mod selection;
mod tree;

pub use image::Pixels;
pub use input::Keyboard;
pub use selection::hold_clipboard;
pub use tree::{Attributes, Monitor};

use crate::limits;
use library::{Display, Id, XErrorEvent, Xlib, Xrandr, Xres, Xtst};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_int, c_long, c_void};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A window's number.
pub type Window = u32;

/// Why the X server did not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// This library is missing or too old; what to do.
    Library(&'static str, &'static str),
    /// There is no X server under that name, or it lets us not in.
    NoDisplay,
    /// The server lacks this extension.
    Extension(&'static str),
    /// The server has ended or cut the connection.
    Lost,
    /// It did not answer in time, or the time for the whole action is over.
    Timeout,
    /// Too much waits for it already.
    Busy,
    /// It refused a request, with this error code (`BadWindow` is 3).
    Refused(u8),
    /// More than we take.
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(file, hint) => write!(f, "{file} cannot be used: {hint}"),
            Self::NoDisplay => {
                f.write_str("no X server answers: set DISPLAY (and XAUTHORITY) to the one of the desktop")
            }
            Self::Extension(name) => write!(f, "the X server lacks the extension {name}"),
            Self::Lost => f.write_str("the X server has closed the connection; try again"),
            Self::Timeout => f.write_str("the X server did not answer in time"),
            Self::Busy => f.write_str("too many actions wait for the X server; try again later"),
            Self::Refused(3 | 9) => f.write_str("the window is gone"),
            Self::Refused(code) => write!(f, "the X server refused a request (error {code})"),
            Self::TooLarge => f.write_str("this is larger than what is taken from the X server"),
        }
    }
}

impl std::error::Error for Error {}

/// The libraries of this process, opened at first use.
struct Libraries {
    x: Xlib,
    test: Xtst,
    resource: Xres,
    monitors: Option<Xrandr>,
}

fn libraries() -> Result<&'static Libraries, Error> {
    static LIBRARIES: OnceLock<Result<Libraries, Error>> = OnceLock::new();
    let opened = LIBRARIES.get_or_init(|| {
        let x = Xlib::open()?;
        // SAFETY: takes nothing; called before any other function of Xlib here, and harmless when the AppKit library of
        // this process has called it before.
        unsafe { (x.XInitThreads)() };
        Ok(Libraries { x, test: Xtst::open()?, resource: Xres::open()?, monitors: Xrandr::open().ok() })
    });
    opened.as_ref().map_err(|error| *error)
}

thread_local! {
    /// The last error code that the server sent to this thread's connection; 0 is none.
    static REFUSED: Cell<u8> = const { Cell::new(0) };
    /// This thread's connection is gone.
    static LOST: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" fn note_refusal(_: *mut Display, error: *mut XErrorEvent) -> c_int {
    // SAFETY: Xlib calls this with a live event, or so its manual says; null is survived.
    if let Some(error) = unsafe { error.as_ref() } {
        REFUSED.set(error.code);
    }
    0
}

unsafe extern "C" fn note_loss(_: *mut Display) -> c_int {
    LOST.set(true);
    0
}

/// Instead of `exit`.
unsafe extern "C" fn go_on(_: *mut Display, _: *mut c_void) {}

/// Xlib has one of each a process, and the AppKit library of this process sets its own: before each piece of work they
/// are ours again.
fn take_handlers(xlib: &Xlib) {
    // SAFETY: functions of this program, which stay.
    unsafe {
        (xlib.XSetErrorHandler)(Some(note_refusal));
        (xlib.XSetIOErrorHandler)(Some(note_loss));
    }
}

/// One connection. It belongs to one thread.
pub struct Connection {
    library: &'static Libraries,
    display: *mut Display,
    root: Id,
    /// A window of ours that is never shown: it owns the clipboard, and tells the server's number for this process.
    own: Id,
    atoms: RefCell<HashMap<&'static str, Id>>,
    /// When the work under way must have ended.
    deadline: Cell<Instant>,
}

impl Connection {
    /// Connects to `name`, or to what `DISPLAY` says.
    fn open(name: Option<&str>, deadline: Instant) -> Result<Self, Error> {
        let library = libraries()?;
        let name = name.map(CString::new).transpose().map_err(|_| Error::NoDisplay)?;
        // SAFETY: null or a text that ends with a NUL and outlives the call.
        let display = unsafe { (library.x.XOpenDisplay)(name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr())) };
        if display.is_null() {
            return Err(Error::NoDisplay);
        }
        LOST.set(false);
        take_handlers(&library.x);
        // SAFETY: go_on is a function of this program, and does not use its data; `display` is live.
        let root = unsafe {
            (library.x.XSetIOErrorExitHandler)(display, Some(go_on), std::ptr::null_mut());
            (library.x.XDefaultRootWindow)(display)
        };
        let (atoms, deadline) = (RefCell::default(), Cell::new(deadline));
        let mut connection = Self { library, display, root, own: 0, atoms, deadline };
        connection.own = connection.hidden_window();
        let mut out = [0; 4];
        let [a, b, c, d] = &mut out;
        // SAFETY: a live connection and four live integers.
        let test = unsafe { (library.test.XTestQueryExtension)(display, a, b, c, d) };
        // SAFETY: a live connection and two live integers.
        let resource = unsafe { (library.resource.XResQueryExtension)(display, a, b) };
        match (test, resource) {
            (0, _) => Err(Error::Extension("XTEST")),
            (_, 0) => Err(Error::Extension("X-Resource")),
            // Without it nobody could tell which windows are ours (H04).
            _ if connection.own_pid()?.is_none() => Err(Error::Extension("X-Resource for clients of this machine")),
            _ => Ok(connection),
        }
    }

    /// This process, as the server knows it: another number than ours where it runs in another pid namespace.
    ///
    /// # Errors
    /// The server is gone.
    pub fn own_pid(&self) -> Result<Option<i32>, Error> {
        self.pid(narrow(self.own))
    }

    /// A window of ours that is never shown.
    fn hidden_window(&self) -> Id {
        let xlib = &self.library.x;
        // SAFETY: a live connection, and then a window of ours.
        unsafe {
            let window = (xlib.XCreateSimpleWindow)(self.display, self.root, -1, -1, 1, 1, 0, 0, 0);
            (xlib.XSelectInput)(self.display, window, PROPERTY_CHANGES);
            window
        }
    }

    /// A copy of its socket.
    fn socket(&self) -> Result<OwnedFd, Error> {
        // SAFETY: the connection is live, and so is its descriptor while `self` is borrowed.
        let socket = unsafe { BorrowedFd::borrow_raw((self.library.x.XConnectionNumber)(self.display)) };
        socket.try_clone_to_owned().map_err(|_| Error::Lost)
    }

    /// The root window.
    pub fn root(&self) -> Window {
        narrow(self.root)
    }

    /// Sends what waits, and waits until the server has done it.
    ///
    /// # Errors
    /// The server refused something since the last look, or is gone.
    pub fn sync(&self) -> Result<(), Error> {
        // SAFETY: a live connection.
        unsafe { (self.library.x.XSync)(self.display, 0) };
        self.refusal()
    }

    /// What the server said to the requests before, which are answered.
    fn refusal(&self) -> Result<(), Error> {
        match (LOST.get(), REFUSED.take()) {
            (true, _) => Err(Error::Lost),
            (false, 0) => Ok(()),
            (false, code) => Err(Error::Refused(code)),
        }
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// The time for this work ends before.
    pub fn pause(&self, time: Duration) -> Result<(), Error> {
        let left = self.deadline.get().saturating_duration_since(Instant::now());
        thread::sleep(time.min(left));
        if time < left { Ok(()) } else { Err(Error::Timeout) }
    }

    /// The number of a name; asked for once.
    fn atom(&self, name: &'static str) -> Result<Id, Error> {
        if let Some(atom) = self.atoms.borrow().get(name) {
            return Ok(*atom);
        }
        let text = CString::new(name).map_err(|_| Error::TooLarge)?;
        // SAFETY: a live connection, and a text that ends with a NUL.
        let atom = unsafe { (self.library.x.XInternAtom)(self.display, text.as_ptr(), 0) };
        self.refusal()?;
        self.atoms.borrow_mut().insert(name, atom);
        Ok(atom)
    }

    /// Does `work` while the server serves nobody else, so that what was looked at is still so when it is acted
    /// on. `work` must not wait for anything but the server.
    ///
    /// # Errors
    /// Those of `work`; the server refused something or is gone.
    pub fn alone<T, E: From<Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        struct Grab<'a>(&'a Connection);
        impl Drop for Grab<'_> {
            fn drop(&mut self) {
                // SAFETY: a live connection.
                unsafe { (self.0.library.x.XUngrabServer)(self.0.display) };
                // Ends the grab now; what the server refused stays noted for the next look.
                // SAFETY: as above.
                unsafe { (self.0.library.x.XSync)(self.0.display, 0) };
            }
        }
        // SAFETY: a live connection.
        unsafe { (self.library.x.XGrabServer)(self.display) };
        let grab = Grab(self);
        let done = work();
        drop(grab);
        self.refusal().map_err(E::from).and(done)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened in `open`, closed here only. Xlib's own calls on a lost connection do nothing.
        unsafe { (self.library.x.XCloseDisplay)(self.display) };
    }
}

/// `PropertyChangeMask`
const PROPERTY_CHANGES: c_long = 1 << 22;

/// Numbers of windows and atoms have 29 bits.
fn narrow(id: Id) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A connection and the thread that uses it.
pub struct Server {
    jobs: SyncSender<Job>,
    socket: OwnedFd,
    thread: Weak<()>,
}

/// Threads that use a connection, or still try to get one.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// One of [`THREADS`].
struct Counted;

impl Counted {
    fn new() -> Result<Self, Error> {
        let more = |count| (count < limits::X11_CONNECTIONS).then_some(count + 1);
        THREADS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map_err(|_| Error::Busy)?;
        Ok(Self)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Opens a connection on a thread of its own, which goes on with `work`. What is returned comes from `ready`.
fn start<T: Send + 'static>(
    name: Option<&str>,
    ready: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    work: impl FnOnce(&Connection) + Send + 'static,
) -> Result<T, Error> {
    let (say, heard) = sync_channel(1);
    let (name, counted) = (name.map(str::to_owned), Counted::new()?);
    let thread = thread::Builder::new().name("x11".to_owned()).stack_size(limits::WORKER_STACK_BYTES);
    let body = move || {
        let _counted = counted;
        match Connection::open(name.as_deref(), Instant::now() + limits::X11_ACTION) {
            Err(error) => drop(say.send(Err(error))),
            Ok(connection) => {
                let result = ready(&connection);
                let usable = result.is_ok();
                // Nobody waits any more: no thread stays behind.
                if say.send(result).is_ok() && usable {
                    work(&connection);
                }
            }
        }
    };
    thread.spawn(body).map_err(|_| Error::Busy)?;
    heard.recv_timeout(limits::X11_ACTION).map_err(|_| Error::Timeout)?
}

impl Server {
    /// Connects to the server `name`, or to what `DISPLAY` says.
    ///
    /// # Errors
    /// A library or extension is missing, or there is no such server.
    pub fn open(name: Option<&str>) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel(limits::X11_JOBS);
        let lives = Arc::new(());
        let thread = Arc::downgrade(&lives);
        let work = move |connection: &Connection| {
            serve(connection, &queue);
            drop(lives);
        };
        let socket = start(name, Connection::socket, work)?;
        Ok(Self { jobs, socket, thread })
    }

    /// False when the connection is lost.
    pub fn is_open(&self) -> bool {
        self.thread.strong_count() > 0
    }

    /// Does `work` on the connection's thread, after what others have given it.
    ///
    /// # Errors
    /// Those of `work`; it took longer than [`limits::X11_ACTION`]; the connection is lost ([`Error::Lost`]: open anew).
    pub fn run<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let deadline = Instant::now() + limits::X11_ACTION;
        let (say, heard) = sync_channel(1);
        let job = Box::new(move |connection: &Connection| {
            connection.deadline.set(deadline);
            // What is late already is not begun: nobody waits for it any more.
            let _ = say.send(connection.pause(Duration::ZERO).map_err(E::from).and_then(|()| work(connection)));
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Lost,
        })?;
        // Work ends by itself at its deadline, and all that was given before had an earlier one. Past both, the
        // server hangs.
        heard.recv_timeout(limits::X11_ACTION + limits::X11_GRACE).map_err(|error| match error {
            RecvTimeoutError::Disconnected => Error::Lost,
            RecvTimeoutError::Timeout => {
                self.hang_up();
                Error::Timeout
            }
        })?
    }

    fn hang_up(&self) {
        // SAFETY: a descriptor of ours; shutdown touches no memory.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// Does what is given until nobody can give more or the connection is lost.
fn serve(connection: &Connection, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        take_handlers(&connection.library.x);
        REFUSED.set(0);
        job(connection);
        if LOST.get() {
            return;
        }
    }
}
