//! The clipboard: in X a program that answers whoever asks (ICCCM 2).

use super::library::{Id, XEvent, XSelectionEvent, XSelectionRequestEvent};
use super::tree::decode;
use super::{Connection, Error, narrow, start};
use crate::limits;
use crate::sys::poll::{self, Interest};
use std::ffi::c_int;
use std::mem::zeroed;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

// Kinds of events (X.h).
const PROPERTY_NOTIFY: c_int = 28;
const SELECTION_CLEAR: c_int = 29;
const SELECTION_REQUEST: c_int = 30;
const SELECTION_NOTIFY: c_int = 31;
/// `PropertyNewValue`
const NEW_VALUE: c_int = 0;
/// `XA_ATOM`, a type.
const ATOM: Id = 4;

/// What text is called by those who ask for it.
const UTF8: &str = "UTF8_STRING";
const PLAIN: &str = "text/plain;charset=utf-8";

/// `PropModeReplace`
const REPLACE: c_int = 0;

/// What a property is given.
enum Data<'a> {
    Text(&'a str),
    Atoms(&'a [Id]),
}

/// What we wait for.
enum Event {
    /// The answer to our question; the property is 0 for a refusal.
    Answer {
        property: Id,
    },
    /// A property has a new value.
    Written {
        property: Id,
    },
    /// Somebody asks for what we hold.
    Question(XSelectionRequestEvent),
    /// Somebody else holds the clipboard now.
    Taken,
    Other,
}

impl Connection {
    /// The next event, or none until `deadline`.
    fn event(&self, deadline: Instant) -> Result<Option<Event>, Error> {
        // SAFETY: a live connection.
        if unsafe { (self.library.x.XPending)(self.display) } == 0 {
            self.refusal()?;
            let socket = self.socket()?;
            let ready = poll::wait(&[(socket.as_fd(), Interest::Readable)], Some(deadline)).map_err(|_| Error::Lost)?;
            // SAFETY: a live connection.
            if !ready.contains(&true) || unsafe { (self.library.x.XPending)(self.display) } == 0 {
                self.refusal()?;
                return Ok(ready.contains(&true).then_some(Event::Other));
            }
        }
        // SAFETY: integers, for which zeros are values.
        let mut event: XEvent = unsafe { zeroed() };
        // SAFETY: a live connection that has an event, and a live structure of an event's size.
        unsafe { (self.library.x.XNextEvent)(self.display, &raw mut event) };
        // SAFETY: all members begin with the kind, and the kind says which member it is.
        Ok(Some(unsafe {
            match event.kind {
                SELECTION_NOTIFY => Event::Answer { property: event.selection.property },
                PROPERTY_NOTIFY if event.property.state == NEW_VALUE => {
                    Event::Written { property: event.property.atom }
                }
                SELECTION_REQUEST => Event::Question(event.request),
                SELECTION_CLEAR => Event::Taken,
                _ => Event::Other,
            }
        }))
    }

    /// Waits for an event that `wanted` takes, until the time for this work ends.
    fn wait_for<T>(&self, wanted: impl Fn(Event) -> Option<T>) -> Result<T, Error> {
        let deadline = self.deadline.get().min(Instant::now() + limits::X11_CLIPBOARD_ANSWER);
        loop {
            match self.event(deadline)? {
                None => return Err(Error::Timeout),
                Some(event) => {
                    if let Some(found) = wanted(event) {
                        return Ok(found);
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
        }
    }

    /// The clipboard's text; none when it is empty or holds something else.
    ///
    /// # Errors
    /// Its owner does not answer; it is longer than [`limits::CLIPBOARD_BYTES`].
    pub fn clipboard(&self) -> Result<Option<String>, Error> {
        // A window of its own each time: what is left of a transfer that was given up goes with it.
        let window = self.hidden_window();
        let text = [UTF8, "STRING"].into_iter().find_map(|kind| self.convert(window, kind).transpose()).transpose();
        // SAFETY: a live connection and a window of ours.
        unsafe { (self.library.x.XDestroyWindow)(self.display, window) };
        text.map(|bytes| bytes.map(decode))
    }

    /// What the clipboard's owner gives as `kind`.
    fn convert(&self, window: Id, kind: &'static str) -> Result<Option<Vec<u8>>, Error> {
        let (clipboard, here) = (self.atom("CLIPBOARD")?, self.atom("OPENCLAW_CLIPBOARD")?);
        // SAFETY: a live connection and a window of ours.
        unsafe { (self.library.x.XConvertSelection)(self.display, clipboard, self.atom(kind)?, here, window, 0) };
        self.sync()?;
        let answered = |event| if let Event::Answer { property } = event { Some(property) } else { None };
        if self.wait_for(answered)? == 0 {
            return Ok(None);
        }
        let first = self.property(narrow(window), here, true)?;
        if first.kind != self.atom("INCR")? {
            return if first.bytes.len() > limits::CLIPBOARD_BYTES {
                Err(Error::TooLarge)
            } else {
                Ok(Some(first.bytes))
            };
        }
        // In pieces: each one that we delete lets the next one come, an empty one ends it.
        let mut bytes = Vec::new();
        loop {
            self.wait_for(|event| matches!(event, Event::Written { property } if property == here).then_some(()))?;
            let piece = self.property(narrow(window), here, true)?;
            if piece.bytes.is_empty() {
                return Ok(Some(bytes));
            }
            bytes.extend(piece.bytes);
            if bytes.len() > limits::CLIPBOARD_BYTES {
                return Err(Error::TooLarge);
            }
            self.pause(Duration::ZERO)?;
        }
    }

    /// Writes a property of somebody else's window.
    fn put(&self, window: Id, property: Id, kind: Id, data: &Data<'_>) {
        let (format, start, count) = match data {
            Data::Text(text) => (8, text.as_ptr(), text.len()),
            Data::Atoms(atoms) => (32, atoms.as_ptr().cast(), atoms.len()),
        };
        let count = c_int::try_from(count).unwrap_or(0);
        // SAFETY: a live connection and `count` live items: bytes for format 8, longs for format 32.
        unsafe {
            (self.library.x.XChangeProperty)(self.display, window, property, kind, format, REPLACE, start, count)
        };
    }

    /// Answers one question for what we hold.
    fn answer(&self, question: &XSelectionRequestEvent, text: &str) -> Result<(), Error> {
        let known @ [targets, utf8, plain] = [self.atom("TARGETS")?, self.atom(UTF8)?, self.atom(PLAIN)?];
        // Old programs name no property: ICCCM 2.2.
        let property = if question.property == 0 { question.target } else { question.property };
        let given = if question.target == targets {
            self.put(question.requestor, property, ATOM, &Data::Atoms(&known));
            true
        } else if [utf8, plain].contains(&question.target) {
            self.put(question.requestor, property, question.target, &Data::Text(text));
            true
        } else {
            false
        };
        let answer = XSelectionEvent {
            kind: SELECTION_NOTIFY,
            serial: 0,
            send_event: 1,
            display: self.display,
            requestor: question.requestor,
            selection: question.selection,
            target: question.target,
            property: if given { property } else { 0 },
            time: question.time,
        };
        let mut event = XEvent { selection: answer };
        // SAFETY: a live connection and a live event of the kind that it says.
        unsafe { (self.library.x.XSendEvent)(self.display, question.requestor, 0, 0, &raw mut event) };
        // Who asked may be gone again.
        self.sync().or_else(|error| if error == Error::Lost { Err(error) } else { Ok(()) })
    }

    /// Holds `text` out until somebody else has the clipboard or `deadline`.
    fn offer(&self, text: &str, deadline: Instant) -> Result<(), Error> {
        while let Some(event) = self.event(deadline)? {
            match event {
                Event::Question(question) => self.answer(&question, text)?,
                Event::Taken => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Puts `text` on the clipboard of the server `name`, for as long as nobody else puts something there, at most
/// [`limits::CLIPBOARD_HOLD`].
///
/// # Errors
/// It is longer than [`limits::CLIPBOARD_BYTES`]; the server cannot be reached.
pub fn hold_clipboard(name: Option<&str>, text: String) -> Result<(), Error> {
    if text.len() > limits::CLIPBOARD_BYTES {
        return Err(Error::TooLarge);
    }
    let claim = |connection: &Connection| {
        let clipboard = connection.atom("CLIPBOARD")?;
        // SAFETY: a live connection and a window of ours, which lives as long as the connection.
        let owner = unsafe {
            (connection.library.x.XSetSelectionOwner)(connection.display, clipboard, connection.own, 0);
            (connection.library.x.XGetSelectionOwner)(connection.display, clipboard)
        };
        connection.refusal()?;
        if owner == connection.own { Ok(()) } else { Err(Error::Busy) }
    };
    start(name, claim, move |connection| {
        let _ = connection.offer(&text, Instant::now() + limits::CLIPBOARD_HOLD);
    })
}
