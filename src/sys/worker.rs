//! Threads for work that may take long. A thread that is done waits a moment for more: making one
//! (mapping a stack, faulting its pages in) costs more than most of what they do.

use crate::limits;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// An idle thread's place for its next job.
#[derive(Default)]
struct Worker {
    job: Mutex<Option<Job>>,
    given: Condvar,
}

/// The idle threads of this process; the last one was at work most recently.
static IDLE: Mutex<Vec<Arc<Worker>>> = Mutex::new(Vec::new());

/// Does `work` on a thread of its own. How many are under way is for the caller to bound.
///
/// # Errors
/// There is no thread left; `work` is dropped.
pub fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let job: Job = Box::new(work);
    let idle = lock(&IDLE).pop();
    if let Some(worker) = idle {
        *lock(&worker.job) = Some(job);
        worker.given.notify_one();
        return Ok(());
    }
    let thread = thread::Builder::new().name("worker".to_owned()).stack_size(limits::WORKER_STACK_BYTES);
    thread.spawn(move || work_on(job)).map(drop)
}

/// A job that panics ends its thread, which is on no list then.
fn work_on(first: Job) {
    let worker = Arc::new(Worker::default());
    let mut next = Some(first);
    while let Some(job) = next {
        job();
        next = worker.wait();
    }
}

impl Worker {
    /// The next job; none when there was none for a while, or enough others wait.
    fn wait(self: &Arc<Self>) -> Option<Job> {
        let mut idle = lock(&IDLE);
        if idle.len() >= limits::IDLE_WORKERS {
            return None;
        }
        idle.push(Arc::clone(self));
        drop(idle);
        let none = |job: &mut Option<Job>| job.is_none();
        let waited = self.given.wait_timeout_while(lock(&self.job), limits::IDLE_WORKER_TIME, none);
        let job = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        if job.is_some() || self.leave() {
            return job;
        }
        // Somebody has taken us off the list and is about to give us something.
        self.given.wait_while(lock(&self.job), none).unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Goes off the list; false if it was not there any more.
    fn leave(self: &Arc<Self>) -> bool {
        let mut idle = lock(&IDLE);
        let place = idle.iter().position(|other| Arc::ptr_eq(other, self));
        place.map(|place| idle.remove(place)).is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    #[test]
    fn jobs_run_at_once_threads_are_used_again_and_few_stay() {
        let (said, heard) = channel();
        let (gates, waiting): (Vec<_>, Vec<_>) = (0..2 * limits::IDLE_WORKERS).map(|_| channel::<()>()).unzip();
        for open in waiting {
            let said = said.clone();
            start(move || {
                said.send(thread::current().id()).unwrap();
                let _ = open.recv();
            })
            .unwrap();
        }
        // None of them waits for another one's end.
        let first: Vec<_> = (0..gates.len()).map(|_| heard.recv_timeout(Duration::from_secs(5)).unwrap()).collect();
        drop(gates);
        let deadline = Instant::now() + Duration::from_secs(5);
        while lock(&IDLE).len() < limits::IDLE_WORKERS && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(lock(&IDLE).len() <= limits::IDLE_WORKERS);
        start(move || said.send(thread::current().id()).unwrap()).unwrap();
        assert!(first.contains(&heard.recv_timeout(Duration::from_secs(5)).unwrap()));
    }
}
