//! Bonjour in C: what is advertised in the local network. Source: spec mac-app (8.6).

use crate::library::Missing;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::time::{Duration, Instant};

type Reference = *mut c_void;
type BrowseReply =
    unsafe extern "C" fn(Reference, u32, u32, i32, *const c_char, *const c_char, *const c_char, *mut c_void);
type ResolveReply =
    unsafe extern "C" fn(Reference, u32, u32, i32, *const c_char, *const c_char, u16, u16, *const u8, *mut c_void);

functions! {
    /// The parts of `dns_sd.h` that looking takes.
    Bonjour from System {
        fn DNSServiceBrowse(made: *mut Reference, flags: u32, interface: u32, kind: *const c_char, domain: *const c_char, reply: BrowseReply, context: *mut c_void) -> i32;
        fn DNSServiceResolve(made: *mut Reference, flags: u32, interface: u32, name: *const c_char, kind: *const c_char, domain: *const c_char, reply: ResolveReply, context: *mut c_void) -> i32;
        fn DNSServiceRefSockFD(reference: Reference) -> c_int;
        fn DNSServiceProcessResult(reference: Reference) -> i32;
        fn DNSServiceRefDeallocate(reference: Reference);
    }
}

/// `kDNSServiceFlagsAdd`: it is there; without it, it has gone.
const FLAG_ADD: u32 = 2;
const NO_ERROR: i32 = 0;
const NOT_RUNNING: i32 = -65563;
const POLICY_DENIED: i32 = -65570;
/// The domain of the local network.
const LOCAL: &CStr = c"local.";

/// Something that is advertised. All of it is a stranger's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, as it is.
    pub instance: String,
    /// Its host, once it told.
    pub host: Option<String>,
    /// Its port; 0 as long as it did not tell.
    pub port: u16,
    /// Its keys and values: length-prefixed texts.
    pub text: Vec<u8>,
}

/// Why there was no look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrowseError {
    /// Not on this system.
    Missing(Missing),
    /// The name is none.
    Name,
    /// Bonjour's own code.
    Refused(i32),
}

impl fmt::Display for BrowseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Name => f.write_str("that cannot be the type of a service"),
            Self::Refused(POLICY_DENIED) => f.write_str(
                "this Mac does not let us look into the local network; allow it in System Settings, Privacy & Security, Local Network",
            ),
            Self::Refused(NOT_RUNNING) => f.write_str("the Bonjour service of this Mac does not run"),
            Self::Refused(code) => write!(f, "Bonjour refuses with code {code}"),
        }
    }
}

impl std::error::Error for BrowseError {}

/// What the browse callback tells.
#[derive(Default)]
struct Seen {
    /// Interface and name of what is new.
    new: Vec<(u32, CString)>,
    error: i32,
}

/// What the resolve callback tells.
#[derive(Default)]
struct Resolved {
    host: Option<String>,
    port: u16,
    text: Vec<u8>,
}

/// A running question; `T` is what its callback writes to, while its results are processed and at no other time.
struct Question<T> {
    bonjour: &'static Bonjour,
    reference: Reference,
    told: *mut T,
}

impl<T: Default> Question<T> {
    /// `ask` starts it with where to put the reference, and the callback's context.
    fn start(
        bonjour: &'static Bonjour,
        ask: impl FnOnce(*mut Reference, *mut c_void) -> i32,
    ) -> Result<Self, BrowseError> {
        let mut question = Self { bonjour, reference: ptr::null_mut(), told: Box::into_raw(Box::default()) };
        match ask(&raw mut question.reference, question.told.cast()) {
            NO_ERROR if !question.reference.is_null() => Ok(question),
            code => Err(BrowseError::Refused(code)),
        }
    }

    fn descriptor(&self) -> c_int {
        // SAFETY: a live reference.
        unsafe { (self.bonjour.DNSServiceRefSockFD)(self.reference) }
    }

    /// Takes what has come, which is something: otherwise this would wait.
    fn process(&mut self) -> Result<T, BrowseError> {
        // SAFETY: a live reference; its callback runs in here and writes to `told`, which nobody else holds.
        match unsafe { (self.bonjour.DNSServiceProcessResult)(self.reference) } {
            // SAFETY: made from a box and alive until this is dropped; no callback runs now.
            NO_ERROR => Ok(std::mem::take(unsafe { &mut *self.told })),
            code => Err(BrowseError::Refused(code)),
        }
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        if !self.reference.is_null() {
            // SAFETY: live until now, and never used again; no callback runs after it.
            unsafe { (self.bonjour.DNSServiceRefDeallocate)(self.reference) };
        }
        // SAFETY: made from a box in `start`, freed once, after the last callback.
        drop(unsafe { Box::from_raw(self.told) });
    }
}

unsafe extern "C" fn browsed(
    _: Reference,
    flags: u32,
    interface: u32,
    error: i32,
    name: *const c_char,
    _: *const c_char,
    _: *const c_char,
    context: *mut c_void,
) {
    // SAFETY: the context that `browse` gave, which only this callback uses now.
    let seen = unsafe { &mut *context.cast::<Seen>() };
    if error != NO_ERROR {
        seen.error = error;
    } else if flags & FLAG_ADD != 0 && !name.is_null() {
        // SAFETY: a C string for the time of the call.
        seen.new.push((interface, unsafe { CStr::from_ptr(name) }.to_owned()));
    }
}

unsafe extern "C" fn resolved(
    _: Reference,
    _: u32,
    _: u32,
    error: i32,
    _: *const c_char,
    host: *const c_char,
    port: u16,
    length: u16,
    text: *const u8,
    context: *mut c_void,
) {
    if error != NO_ERROR {
        return;
    }
    // SAFETY: the context that `browse` gave, which only this callback uses now.
    let told = unsafe { &mut *context.cast::<Resolved>() };
    told.port = u16::from_be(port);
    if !host.is_null() {
        // SAFETY: a C string for the time of the call.
        told.host = Some(unsafe { CStr::from_ptr(host) }.to_string_lossy().into_owned());
    }
    if !text.is_null() {
        // SAFETY: that many bytes for the time of the call.
        told.text = unsafe { std::slice::from_raw_parts(text, usize::from(length)) }.to_vec();
    }
}

/// Listens for `window` to what advertises itself as `kind` in the local network, `most` at most.
///
/// # Errors
/// See [`BrowseError`].
pub fn browse(kind: &str, window: Duration, most: usize) -> Result<Vec<Service>, BrowseError> {
    let bonjour = Bonjour::get().map_err(|missing| BrowseError::Missing(missing.clone()))?;
    let kind = CString::new(kind).map_err(|_| BrowseError::Name)?;
    let deadline = Instant::now() + window;
    let mut browse = Question::<Seen>::start(bonjour, |made, context| {
        // SAFETY: two C strings, and a callback whose context is what it expects and outlives the question.
        unsafe { (bonjour.DNSServiceBrowse)(made, 0, 0, kind.as_ptr(), LOCAL.as_ptr(), browsed, context) }
    })?;
    let mut services: Vec<Service> = Vec::new();
    // Which service each is about.
    let mut questions: Vec<(usize, Question<Resolved>)> = Vec::new();
    loop {
        let mut waiting = vec![browse.descriptor()];
        waiting.extend(questions.iter().map(|(_, question)| question.descriptor()));
        let Some(ready) = wait(&waiting, deadline) else { return Ok(services) };
        let (news, answers) = ready.split_first().map_or((false, &[][..]), |(news, answers)| (*news, answers));
        let mut answers = answers.iter();
        questions.retain_mut(|(about, question)| {
            if answers.next() != Some(&true) {
                return true;
            }
            if let (Ok(told), Some(service)) = (question.process(), services.get_mut(*about)) {
                (service.host, service.port, service.text) = (told.host, told.port, told.text);
            }
            false
        });
        let seen = if news { browse.process()? } else { Seen::default() };
        if seen.error != NO_ERROR {
            return Err(BrowseError::Refused(seen.error));
        }
        for (interface, name) in seen.new {
            let instance = name.to_string_lossy().into_owned();
            // One on several interfaces is one.
            if services.len() >= most || services.iter().any(|service| service.instance == instance) {
                continue;
            }
            let question = Question::start(bonjour, |made, context| {
                let (name, kind) = (name.as_ptr(), kind.as_ptr());
                // SAFETY: as above.
                unsafe {
                    (bonjour.DNSServiceResolve)(made, 0, interface, name, kind, LOCAL.as_ptr(), resolved, context)
                }
            });
            questions.extend(question.ok().map(|question| (services.len(), question)));
            services.push(Service { instance, host: None, port: 0, text: Vec::new() });
        }
    }
}

/// Which of them are readable; none when the time is over.
fn wait(descriptors: &[c_int], deadline: Instant) -> Option<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> =
        descriptors.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    // Rounded up, so that the wait does not spin before its end.
    let millis = c_int::try_from(left.as_millis().saturating_add(1)).unwrap_or(c_int::MAX);
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: a live array of `count` pollfd structures. After an interruption nothing is ready, and we are asked again.
    unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
    Some(polled.iter().map(|fd| fd.revents != 0).collect())
}
