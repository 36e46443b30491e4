//! Blocks by hand (mac-app §8.8), one pattern for every completion handler: the block has a ticket, the waiter has the
//! other end of a channel. A late call finds no ticket and does nothing; nothing is freed twice or leaked.

use crate::library::{Library, Missing};
use crate::runtime::Id;
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The flag "a signature follows in the descriptor"; without copy and dispose helpers.
const HAS_SIGNATURE: i32 = 1 << 30;

/// Completion handlers that may be awaited at the same time.
const TICKETS: usize = 256;

#[repr(C)]
struct Descriptor {
    reserved: usize,
    size: usize,
    signature: *const c_char,
}

/// A block with one captured number.
#[repr(C)]
pub(crate) struct Block {
    isa: *const c_void,
    flags: i32,
    reserved: i32,
    invoke: *const c_void,
    descriptor: *const Descriptor,
    ticket: u64,
}

/// What is waited for, by ticket; each value is a `SyncSender` of the waiter's type.
static WAITING: Mutex<Option<HashMap<u64, Box<dyn Any + Send>>>> = Mutex::new(None);

/// Why a completion handler gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Not before the deadline.
    TimedOut,
    /// There are no blocks here, or too many are awaited.
    Missing(Missing),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the system did not answer in time"),
            Self::Missing(missing) => missing.fmt(f),
        }
    }
}

impl std::error::Error for Unanswered {}

/// A block that waits to be handed over, on whatever thread; a callee that keeps it copies it.
pub(crate) struct Literal(Box<Block>);

// SAFETY: plain memory with a number and addresses that live as long as the process.
unsafe impl Send for Literal {}

impl Literal {
    /// What a method takes; good as long as `self`.
    pub(crate) fn id(&self) -> Id {
        (&raw const *self.0).cast_mut().cast()
    }
}

/// The answer to a block, to be waited for; forgotten when dropped.
pub(crate) struct Awaited<V> {
    ticket: u64,
    answer: Receiver<V>,
}

impl<V> Awaited<V> {
    /// Waits until the block's code has [`answer`]ed it.
    ///
    /// # Errors
    /// [`Unanswered::TimedOut`].
    pub(crate) fn wait(self, deadline: Instant) -> Result<V, Unanswered> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.answer.recv_timeout(left).map_err(|_| Unanswered::TimedOut)
    }
}

impl<V> Drop for Awaited<V> {
    fn drop(&mut self) {
        drop(take(self.ticket));
    }
}

/// A block whose code is `invoke`, and the way to wait for it.
///
/// `invoke` is the address of an `extern "C-unwind" fn(*const Block, …)` with the arguments that `signature` says (mac-app
/// §8.8) and that calls `answer::<V>`.
///
/// # Errors
/// [`Unanswered::Missing`].
pub(crate) fn make<V: Send + 'static>(
    invoke: *const c_void,
    signature: &'static CStr,
) -> Result<(Literal, Awaited<V>), Unanswered> {
    let isa = Library::System.symbol("_NSConcreteStackBlock").map_err(Unanswered::Missing)?;
    let (ticket, answer) = ticket::<V>().map_err(Unanswered::Missing)?;
    // A callee that keeps the block copies it, but not its descriptor, which therefore lives for ever: one a signature.
    let descriptor = kept(Descriptor { reserved: 0, size: size_of::<Block>(), signature: signature.as_ptr() });
    let block = Block { isa, flags: HAS_SIGNATURE, reserved: 0, invoke, descriptor, ticket };
    Ok((Literal(Box::new(block)), Awaited { ticket, answer }))
}

/// Calls `start` with such a block and waits for its answer.
///
/// # Errors
/// See [`Unanswered`].
///
/// # Safety
/// `invoke` has the type that the callee calls it by; `start` hands the block to a method that takes one of this type.
pub(crate) unsafe fn wait<V: Send + 'static>(
    invoke: *const c_void,
    signature: &'static CStr,
    deadline: Instant,
    start: impl FnOnce(Id),
) -> Result<V, Unanswered> {
    let (literal, awaited) = make::<V>(invoke, signature)?;
    start(literal.id());
    awaited.wait(deadline)
}

/// The one descriptor of this signature, for ever.
fn kept(descriptor: Descriptor) -> *const Descriptor {
    static KEPT: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let signature = descriptor.signature as usize;
    if let Some((_, address)) = kept.iter().find(|(of, _)| *of == signature) {
        return *address as *const Descriptor;
    }
    let address: *const Descriptor = Box::leak(Box::new(descriptor));
    kept.push((signature, address as usize));
    address
}

fn ticket<V: Send + 'static>() -> Result<(u64, Receiver<V>), Missing> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (sender, receiver) = sync_channel::<V>(1);
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let waiting = waiting.get_or_insert_default();
    if waiting.len() >= TICKETS {
        return Err(Missing { name: "room for another completion handler".to_owned() });
    }
    let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
    waiting.insert(ticket, Box::new(sender));
    Ok((ticket, receiver))
}

fn take(ticket: u64) -> Option<Box<dyn Any + Send>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&ticket)
}

/// Calls a block that was given to us, without arguments.
///
/// # Safety
/// `block` is nil or a live block that takes none and gives nothing.
pub(crate) unsafe fn call(block: *const Block) {
    // SAFETY: by the caller's promise; the code takes the block first.
    unsafe {
        if let Some(code) = code_of(block) {
            std::mem::transmute::<*const c_void, unsafe extern "C-unwind" fn(*const Block)>(code)(block);
        }
    }
}

/// As [`call`], with one number.
///
/// # Safety
/// `block` is nil or a live block that takes a `NSUInteger` or `NSInteger` and gives nothing.
pub(crate) unsafe fn call_with(block: *const Block, number: usize) {
    // SAFETY: as above.
    unsafe {
        if let Some(code) = code_of(block) {
            std::mem::transmute::<*const c_void, unsafe extern "C-unwind" fn(*const Block, usize)>(code)(block, number);
        }
    }
}

/// # Safety
/// `block` is nil or a live block.
unsafe fn code_of(block: *const Block) -> Option<*const c_void> {
    // SAFETY: alive; every block has its code there.
    (!block.is_null()).then(|| unsafe { (*block).invoke }).filter(|code| !code.is_null())
}

/// Answers whoever waits for `block`; a second or late answer goes nowhere. For the code of a block.
///
/// # Safety
/// `block` is what the code was called with.
pub(crate) unsafe fn answer<V: Send + 'static>(block: *const Block, value: V) {
    // SAFETY: the literal that `wait` made or a copy of it, whose last member is the ticket.
    let ticket = unsafe { (*block).ticket };
    if let Some(sender) = take(ticket).and_then(|sender| sender.downcast::<SyncSender<V>>().ok()) {
        // A full channel cannot be: one ticket, one answer. A waiter that left does not matter.
        let _left = sender.try_send(value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::mem::offset_of;

    /// Apple's layout on 64 bits (mac-app §8.8).
    #[test]
    fn a_literal_has_the_layout_that_callees_know() {
        assert_eq!(
            [
                offset_of!(Block, isa),
                offset_of!(Block, flags),
                offset_of!(Block, reserved),
                offset_of!(Block, invoke),
                offset_of!(Block, descriptor),
                offset_of!(Block, ticket),
                size_of::<Block>()
            ],
            [0, 8, 12, 16, 24, 32, 40]
        );
        assert_eq!(
            [
                offset_of!(Descriptor, reserved),
                offset_of!(Descriptor, size),
                offset_of!(Descriptor, signature),
                size_of::<Descriptor>()
            ],
            [0, 8, 16, 24]
        );
        assert_eq!(HAS_SIGNATURE, 0x4000_0000);
    }

    unsafe extern "C-unwind" fn doubled(block: *const Block, number: usize) {
        // SAFETY: a literal of ours.
        unsafe { answer(block, number * 2) };
    }

    fn literal(ticket: u64) -> Block {
        let signature = c"v16@?0Q8".as_ptr();
        let descriptor = kept(Descriptor { reserved: 0, size: size_of::<Block>(), signature });
        let invoke = doubled as unsafe extern "C-unwind" fn(*const Block, usize) as *const c_void;
        Block { isa: std::ptr::null(), flags: HAS_SIGNATURE, reserved: 0, invoke, descriptor, ticket }
    }

    #[test]
    fn the_code_of_a_literal_answers_its_ticket_once_and_late_calls_go_nowhere() {
        let (number, answered) = ticket::<usize>().unwrap();
        let block = literal(number);
        // As a callee does it: by the bytes, from a copy somewhere else.
        let bytes: Vec<u64> =
            // SAFETY: 40 bytes of a plain structure, read as words.
            unsafe { std::slice::from_raw_parts((&raw const block).cast::<u64>(), size_of::<Block>() / 8) }.to_vec();
        let copy: *const Block = bytes.as_ptr().cast();
        // SAFETY: a copy of the literal, and its code.
        unsafe { call_with(copy, 21) };
        assert_eq!(answered.recv(), Ok(42));
        // SAFETY: the same again: nobody waits any more, and no memory of the waiter is touched.
        unsafe { call_with(copy, 1) };
        assert!(answered.try_recv().is_err());
        // SAFETY: nil is not called.
        unsafe { call_with(std::ptr::null(), 1) };
        let (late, waiter) = ticket::<usize>().unwrap();
        drop(take(late));
        let block = literal(late);
        // SAFETY: a literal whose waiter has given up.
        unsafe { call_with(&raw const block, 1) };
        assert!(waiter.recv().is_err());
    }

    #[test]
    fn an_answer_of_another_type_is_none_and_descriptors_are_kept_once() {
        let (number, answered) = ticket::<String>().unwrap();
        let block = literal(number);
        // SAFETY: a literal of ours.
        unsafe { call_with(&raw const block, 1) };
        assert!(answered.recv().is_err());
        assert_eq!(literal(1).descriptor, literal(2).descriptor);
        // SAFETY: kept for ever.
        assert_eq!(unsafe { (*block.descriptor).size }, 40);
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn without_blocks_waiting_says_so_and_leaves_no_ticket() {
        // SAFETY: never started.
        let waited = unsafe { wait::<()>(std::ptr::null(), c"v8@?0", Instant::now(), |_| ()) };
        assert!(matches!(waited, Err(Unanswered::Missing(_))));
    }
}
