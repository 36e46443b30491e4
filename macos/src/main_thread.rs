//! Handing work to the main thread, to which AppKit belongs (mac-app §8.5).

use crate::class::{self, Method};
use crate::foundation;
use crate::library::Missing;
use crate::runtime::{self, Id, NIL, NSObject, Sel, Shared};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Proof that we are on the main thread. It cannot leave it.
#[derive(Clone, Copy)]
pub struct MainThread(PhantomData<*const ()>);

impl MainThread {
    /// On the main thread, the proof of it.
    pub fn here() -> Option<Self> {
        is_main().then_some(Self(PhantomData))
    }
}

#[cfg(target_os = "macos")]
fn is_main() -> bool {
    // SAFETY: no arguments, no preconditions.
    unsafe { libc::pthread_main_np() != 0 }
}

#[cfg(not(target_os = "macos"))]
fn is_main() -> bool {
    // SAFETY: no arguments, no preconditions. The main thread's id is the process's.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}

/// When a task may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Not while the person holds a button or a menu item: what they see does not change under their hand.
    Idle,
    /// Also then.
    Now,
}

type Task = Box<dyn FnOnce(MainThread) + Send>;

static IDLE: Mutex<VecDeque<Task>> = Mutex::new(VecDeque::new());
static NOW: Mutex<VecDeque<Task>> = Mutex::new(VecDeque::new());

impl When {
    fn queue(self) -> &'static Mutex<VecDeque<Task>> {
        match self {
            Self::Idle => &IDLE,
            Self::Now => &NOW,
        }
    }

    fn selector(self) -> &'static str {
        match self {
            Self::Idle => "runIdleTasks:",
            Self::Now => "runTasks:",
        }
    }
}

/// Has `task` run on the main thread, after this call returns, in order among those of the same `when`. Never waits.
///
/// # Errors
/// There is no AppKit here, so no loop that would run it.
pub fn on_main(when: When, task: impl FnOnce(MainThread) + Send + 'static) -> Result<(), Missing> {
    let target = target()?;
    when.queue().lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::new(task));
    runtime::pooled(|| {
        let modes = foundation::modes(when == When::Now)?;
        // SAFETY: our target lives for ever and has this method; the modes are an array of strings in the pool.
        unsafe { NSObject::perform_on_main(target.0, runtime::selector(when.selector()), NIL, false.into(), modes) };
        Ok(())
    })
}

fn target() -> Result<Shared, Missing> {
    static TARGET: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        let methods =
            [Method::action(When::Idle.selector(), run_idle_tasks), Method::action(When::Now.selector(), run_tasks)];
        // SAFETY: a class of ours without state.
        class::define("OpenClawHandOver", &[], &methods).map(|class| unsafe { class::immortal(class) })
    };
    TARGET.get_or_init(make).clone()
}

extern "C-unwind" fn run_idle_tasks(_: Id, _: Sel, _: Id) {
    run(When::Idle);
}

extern "C-unwind" fn run_tasks(_: Id, _: Sel, _: Id) {
    run(When::Now);
}

/// Takes the tasks out under the lock and runs them without it: one may hand over the next.
fn run(when: When) {
    let tasks = std::mem::take(&mut *when.queue().lock().unwrap_or_else(PoisonError::into_inner));
    let Some(main) = MainThread::here() else { return };
    for task in tasks {
        class::guarded((), || task(main));
    }
}
