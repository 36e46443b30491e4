//! Where this Mac is, by Core Location. Its manager belongs to the main thread, so what is asked goes there.

use crate::class::{self, Method};
use crate::foundation::{self, NSDate};
use crate::library::Missing;
use crate::runtime::{self, Bool, Id, Imp, Owned, Point, Sel, Shared};
use crate::{MainThread, When, on_main};
use std::cell::RefCell;
use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

objc_class! {
    CLLocationManager from CoreLocation {
        + enabled = "locationServicesEnabled" () -> Bool;
        - authorization = "authorizationStatus" () -> i32;
        - precision = "accuracyAuthorization" () -> isize;
        - set_delegate = "setDelegate:" (delegate: Id);
        - set_accuracy = "setDesiredAccuracy:" (meters: f64);
        - known = "location" () -> Id;
        - request_authorization = "requestWhenInUseAuthorization" ();
        - request = "requestLocation" ();
    }
}

objc_class! {
    CLLocation from CoreLocation {
        - coordinate = "coordinate" () -> Point;
        - horizontal_accuracy = "horizontalAccuracy" () -> f64;
        - vertical_accuracy = "verticalAccuracy" () -> f64;
        - altitude = "altitude" () -> f64;
        - speed = "speed" () -> f64;
        - course = "course" () -> f64;
        - timestamp = "timestamp" () -> Id;
    }
}

/// CLAccuracyAuthorizationFullAccuracy
const FULL: isize = 0;
/// kCLErrorDenied
const DENIED: isize = 1;
/// kCLErrorLocationUnknown: the system goes on trying.
const UNKNOWN: isize = 0;

/// Where this Mac is. What was negative (unknown) is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Radius, metres.
    pub accuracy: f64,
    /// Metres above the sea.
    pub altitude: Option<f64>,
    /// Metres a second.
    pub speed: Option<f64>,
    /// Degrees from north.
    pub course: Option<f64>,
    /// When it was found.
    pub at: SystemTime,
    /// Whether the owner gives exact locations.
    pub precise: bool,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationError {
    /// This system cannot do it.
    Missing(Missing),
    /// The owner has not allowed it, or has switched it off for the whole Mac.
    Denied,
    /// Not in time.
    TimedOut,
    /// What the system said.
    Failed(String),
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Denied => f.write_str("Location Services do not allow it"),
            Self::TimedOut => f.write_str("no location was found in time"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for LocationError {}

impl From<Missing> for LocationError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

type Answer = Result<Place, LocationError>;

/// Who waits; bounded by those who ask at the same time.
static WAITING: Mutex<Vec<SyncSender<Answer>>> = Mutex::new(Vec::new());
/// Those who may wait at the same time.
const WAITERS: usize = 16;

thread_local! {
    /// The main thread's manager; it lives as long as the process.
    static MANAGER: RefCell<Option<Owned>> = const { RefCell::new(None) };
}

fn tell(answer: &Answer) {
    for waiter in WAITING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _left = waiter.try_send(answer.clone());
    }
}

extern "C-unwind" fn updated(_: Id, _: Sel, manager: Id, locations: Id) {
    class::guarded((), || {
        // SAFETY: manager and array live during the call; the newest location is the last one.
        let place = unsafe { foundation::objects(locations).last().map(|location| read(manager, location)) };
        if let Some(place) = place {
            tell(&Ok(place));
        }
    });
}

extern "C-unwind" fn failed(_: Id, _: Sel, _: Id, error: Id) {
    class::guarded((), || {
        // SAFETY: the error lives during the call.
        let (code, words) = unsafe { (foundation::error_code(error), foundation::error_text(error)) };
        match code {
            UNKNOWN => {}
            DENIED => tell(&Err(LocationError::Denied)),
            _ => tell(&Err(LocationError::Failed(words))),
        }
    });
}

/// Does nothing: the status is read when somebody asks for it.
extern "C-unwind" fn authorization_changed(_: Id, _: Sel, _: Id) {}

/// # Safety
/// A live manager and a live location.
unsafe fn read(manager: Id, location: Id) -> Place {
    let known = |value: f64| Some(value).filter(|value| *value >= 0.0);
    // SAFETY: as the caller promises.
    unsafe {
        let coordinate = CLLocation::coordinate(location);
        let seconds = NSDate::since_1970(CLLocation::timestamp(location)).max(0.0);
        Place {
            latitude: coordinate.x,
            longitude: coordinate.y,
            accuracy: CLLocation::horizontal_accuracy(location),
            altitude: known(CLLocation::vertical_accuracy(location)).map(|_| CLLocation::altitude(location)),
            speed: known(CLLocation::speed(location)),
            course: known(CLLocation::course(location)),
            at: UNIX_EPOCH + Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            precise: CLLocationManager::precision(manager) == FULL,
        }
    }
}

fn delegate() -> Result<Shared, Missing> {
    static DELEGATE: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        type Code = unsafe extern "C-unwind" fn(Id, Sel, Id, Id);
        // SAFETY: only ever called by the runtime with the type that stands in `types`, which is the code's own.
        let code = |code: Code| unsafe { std::mem::transmute::<Code, Imp>(code) };
        let methods = [
            Method { selector: "locationManager:didUpdateLocations:", types: "v@:@@", code: code(updated) },
            Method { selector: "locationManager:didFailWithError:", types: "v@:@@", code: code(failed) },
            Method::action("locationManagerDidChangeAuthorization:", authorization_changed),
        ];
        let class = class::define("OpenClawNavigator", &["CLLocationManagerDelegate"], &methods)?;
        // SAFETY: a class of ours without state.
        Ok(unsafe { class::immortal(class) })
    };
    DELEGATE.get_or_init(make).clone()
}

/// The main thread's manager, for the length of `work`.
fn with_manager<T>(_: MainThread, work: impl FnOnce(Id) -> T) -> Result<T, Missing> {
    let delegate = delegate()?;
    MANAGER.with_borrow_mut(|manager| {
        if manager.is_none() {
            // SAFETY: plain `init` makes it whole; on the main thread; the delegate lives for ever.
            *manager = unsafe { runtime::new(CLLocationManager::class()) };
            if let Some(manager) = manager {
                // SAFETY: the new manager.
                unsafe { CLLocationManager::set_delegate(manager.id(), delegate.0) };
            }
        }
        let manager = manager.as_ref().ok_or_else(|| Missing { name: "CLLocationManager".to_owned() })?;
        Ok(work(manager.id()))
    })
}

/// Whether this system has Core Location.
pub fn is_here() -> bool {
    !CLLocationManager::class().is_null()
}

/// `CLAuthorizationStatus` of this program, and whether Location Services are on at all. Never asks. Not on the main
/// thread: the second is slow.
///
/// # Errors
/// See [`LocationError`].
pub fn authorization(patience: Duration) -> Result<(i32, bool), LocationError> {
    if !is_here() {
        return Err(Missing { name: "CoreLocation".to_owned() }.into());
    }
    let (sender, answer) = sync_channel(1);
    on_main(When::Now, move |main| {
        // SAFETY: the live manager, on the main thread.
        let status = with_manager(main, |manager| unsafe { CLLocationManager::authorization(manager) });
        let _left = sender.try_send(status);
    })?;
    let status = answer.recv_timeout(patience).map_err(|_| LocationError::TimedOut)??;
    // SAFETY: a class method without arguments.
    Ok((status, unsafe { CLLocationManager::enabled() }.is()))
}

/// The same status without a wait: on the main thread.
pub(crate) fn status(main: MainThread) -> Result<i32, Missing> {
    // SAFETY: the live manager, on the main thread.
    with_manager(main, |manager| unsafe { CLLocationManager::authorization(manager) })
}

/// Has the system ask the person; the answer comes by itself later. The app's alone.
///
/// # Errors
/// There is no Core Location.
pub fn ask() -> Result<(), Missing> {
    on_main(When::Now, |main| {
        // SAFETY: the live manager, on the main thread. Both calls: the second is what makes some systems show the question.
        let _gone = with_manager(main, |manager| unsafe {
            CLLocationManager::request_authorization(manager);
            CLLocationManager::request(manager);
        });
    })
}

/// Where this Mac is, at best `meters` exact; what is younger than `max_age` is taken as it is.
///
/// # Errors
/// See [`LocationError`].
pub fn locate(meters: f64, max_age: Option<Duration>, patience: Duration) -> Answer {
    if !is_here() {
        return Err(Missing { name: "CoreLocation".to_owned() }.into());
    }
    let (sender, answer) = sync_channel(1);
    {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITERS {
            waiting.remove(0);
        }
        waiting.push(sender);
    }
    on_main(When::Now, move |main| {
        // SAFETY: the live manager, on the main thread.
        let asked = with_manager(main, |manager| unsafe { ask_for(manager, meters, max_age) });
        if let Err(missing) = asked {
            tell(&Err(missing.into()));
        }
    })?;
    answer.recv_timeout(patience).unwrap_or(Err(LocationError::TimedOut))
}

/// # Safety
/// A live manager, on the main thread.
unsafe fn ask_for(manager: Id, meters: f64, max_age: Option<Duration>) {
    // SAFETY: as the caller promises; a location that is known is the manager's or the pool's.
    unsafe {
        CLLocationManager::set_accuracy(manager, meters);
        let known = CLLocationManager::known(manager);
        if let (Some(max_age), false) = (max_age, known.is_null()) {
            let place = read(manager, known);
            if place.at.elapsed().is_ok_and(|age| age <= max_age) {
                return tell(&Ok(place));
            }
        }
        CLLocationManager::request(manager);
    }
}
