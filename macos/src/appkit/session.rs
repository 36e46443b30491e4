//! Whether the person sees this session's screen: it is locked, or another user's session is in front of it.

use crate::class::{self, Method, guarded};
use crate::foundation::string;
use crate::library::Missing;
use crate::main_thread::MainThread;
use crate::runtime::{self, Id, NIL, Sel};
use crate::workspace::NSWorkspace;
use std::sync::OnceLock;

objc_class! {
    NSNotificationCenter from Foundation {
        - add_observer = "addObserver:selector:name:object:" (observer: Id, action: Sel, name: Id, object: Id);
    }
}

objc_class! {
    NSDistributedNotificationCenter from Foundation {
        + default = "defaultCenter" () -> Id;
    }
}

variables! { AppKit {
    /// Another user's session comes to the front.
    NSWorkspaceSessionDidResignActiveNotification: Id;
    /// Ours is in front again.
    NSWorkspaceSessionDidBecomeActiveNotification: Id;
} }

/// What has happened to the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was locked.
    Locked,
    /// It was unlocked.
    Unlocked,
    /// Another user's session is in front.
    SwitchedOut,
    /// Ours is in front again.
    SwitchedIn,
}

/// Told on the main thread.
type Told = Box<dyn Fn(Change) + Send + Sync>;

static TOLD: OnceLock<Told> = OnceLock::new();

/// Tells of every change from now on; the first caller is told, the others are not.
///
/// # Errors
/// The system has no such news.
pub fn observe(_: MainThread, told: impl Fn(Change) + Send + Sync + 'static) -> Result<(), Missing> {
    // Its daemon would be started for nothing.
    if !cfg!(target_os = "macos") {
        return Err(Missing { name: "session news".to_owned() });
    }
    TOLD.get_or_init(|| Box::new(told));
    let methods = [
        Method::action("screenLocked:", locked),
        Method::action("screenUnlocked:", unlocked),
        Method::action("sessionLeft:", left),
        Method::action("sessionBack:", back),
    ];
    let class = class::define("OpenClawSession", &[], &methods)?;
    runtime::pooled(|| {
        let (resigned, became) =
            (NSWorkspaceSessionDidResignActiveNotification()?, NSWorkspaceSessionDidBecomeActiveNotification()?);
        // SAFETY: on the main thread; the observer lives for ever and has these methods; names are live strings.
        unsafe {
            let observer = class::immortal(class).0;
            let watch = |center: Id, action: &str, name: Id| {
                NSNotificationCenter::add_observer(center, observer, runtime::selector(action), name, NIL);
            };
            let everybody = NSDistributedNotificationCenter::default();
            watch(everybody, "screenLocked:", string("com.apple.screenIsLocked"));
            watch(everybody, "screenUnlocked:", string("com.apple.screenIsUnlocked"));
            let workspace = NSWorkspace::notification_center(NSWorkspace::shared());
            watch(workspace, "sessionLeft:", resigned);
            watch(workspace, "sessionBack:", became);
        }
        Ok(())
    })
}

fn tell(change: Change) {
    guarded((), || TOLD.get().into_iter().for_each(|told| told(change)));
}

extern "C-unwind" fn locked(_: Id, _: Sel, _: Id) {
    tell(Change::Locked);
}

extern "C-unwind" fn unlocked(_: Id, _: Sel, _: Id) {
    tell(Change::Unlocked);
}

extern "C-unwind" fn left(_: Id, _: Sel, _: Id) {
    tell(Change::SwitchedOut);
}

extern "C-unwind" fn back(_: Id, _: Sel, _: Id) {
    tell(Change::SwitchedIn);
}
