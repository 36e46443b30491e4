//! `openclaw://…` links, which any web page can open: a message for an agent, sent only when the person in front of this
//! machine has seen all of it and said so, or when the link proves that the owner made it. Links about gateways change
//! nothing here: no address is ever taken from one (A28). Source: spec mac-app (3.6); cases A65, A167.

use super::status::About;
use crate::client::CallError;
use crate::exec::approval::{Answer, Kind, Person, Question};
use crate::gateway::scope;
use crate::identity::random;
use crate::identity::secret::Secret;
use crate::limits;
use crate::log;
use crate::protocol::policy::Decision;
use crate::state::{Care, StateDir, files, pause};
use crate::sys::wake::Wake;
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// What a link asks for.
pub enum Link {
    /// A message to an agent.
    Agent(AgentLink),
    /// Another gateway.
    Gateway,
}

/// `openclaw://agent?…`
#[derive(Default)]
pub struct AgentLink {
    message: String,
    session_key: Option<String>,
    thinking: Option<String>,
    deliver: bool,
    to: Option<String>,
    channel: Option<&'static str>,
    timeout_seconds: Option<u64>,
    key: Option<Secret>,
}

/// Why a link does nothing. No part of the link is repeated: its query may hold a key.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkError {
    /// It is no link of ours, or not a whole one; what is wrong with it.
    Malformed(&'static str),
    /// Everything is paused.
    Paused,
    /// One waits for the person already, or was opened less than a second ago.
    Busy,
    /// It is about a gateway.
    Gateway,
    /// There are no threads left.
    System(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the link was not followed: {what}"),
            Self::Paused => write!(f, "the link was not followed: {}", pause::SENTENCE),
            Self::Busy => f.write_str(
                "the link was not followed: another one waits for your answer, or was opened just now; open it again later",
            ),
            Self::Gateway => f.write_str(
                "the link was not followed: it names a gateway, and this app takes none from a link; if you trust it, start the app with --ssh USER@HOST",
            ),
            Self::System(why) => write!(f, "the link was not followed: {why}"),
        }
    }
}

impl std::error::Error for LinkError {}

const SCHEME: &str = "openclaw://";

/// Where an agent's answer can be delivered; anything else means the last one. Source: spec mac-app (3.6).
#[rustfmt::skip]
const CHANNELS: [&str; 11] = [
    "last", "whatsapp", "telegram", "discord", "googlechat", "slack", "signal", "imessage", "msteams", "bluebubbles",
    WEBCHAT,
];
/// Nothing can be delivered there.
const WEBCHAT: &str = "webchat";

impl Link {
    /// Reads a link. Each parameter at most once, and only those that are known.
    ///
    /// # Errors
    /// [`LinkError::Malformed`]
    pub fn parse(url: &str) -> Result<Self, LinkError> {
        if url.len() > limits::DEEP_LINK_BYTES {
            return Err(LinkError::Malformed("it is too long"));
        }
        let ours = LinkError::Malformed("it does not begin with openclaw://agent or openclaw://gateway");
        let is_scheme = |head: &str| head.eq_ignore_ascii_case(SCHEME);
        let Some(rest) = url.get(..SCHEME.len()).filter(|head| is_scheme(head)).and(url.get(SCHEME.len()..)) else {
            return Err(ours);
        };
        if url.contains('#') {
            return Err(LinkError::Malformed("it has a fragment"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        match place.strip_suffix('/').unwrap_or(place).to_ascii_lowercase().as_str() {
            "agent" => AgentLink::parse(query).map(Self::Agent),
            "gateway" | "gateway/add" => Ok(Self::Gateway),
            _ => Err(ours),
        }
    }
}

impl AgentLink {
    fn parse(query: &str) -> Result<Self, LinkError> {
        let mut link = Self::default();
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(LinkError::Malformed("a parameter has no value"))?;
            if seen.contains(&name) {
                return Err(LinkError::Malformed("a parameter stands there twice"));
            }
            seen.push(name);
            let value = decoded(value)?;
            if name != "message"
                && (value.chars().count() > limits::DEEP_LINK_FIELD_CHARS || value.contains(char::is_control))
            {
                return Err(LinkError::Malformed("a parameter is too long or has control characters"));
            }
            let text = Some(value.trim().to_owned()).filter(|text| !text.is_empty());
            match name {
                "message" => link.message = value,
                "sessionKey" => link.session_key = text,
                "thinking" => link.thinking = text,
                "deliver" => link.deliver = flag(&value)?,
                "to" => link.to = text,
                "channel" => {
                    let known = CHANNELS.into_iter().find(|channel| value.trim().eq_ignore_ascii_case(channel));
                    link.channel = Some(known.unwrap_or("last"));
                }
                "timeoutSeconds" => link.timeout_seconds = Some(seconds(&value)?),
                "key" => link.key = text.map(Secret::new),
                _ => return Err(LinkError::Malformed("it has a parameter that is not known")),
            }
        }
        if link.message.trim().is_empty() {
            return Err(LinkError::Malformed("it has no message"));
        }
        if link.message.chars().count() > limits::DEEP_LINK_MESSAGE_CHARS {
            return Err(LinkError::Malformed("its message is too long"));
        }
        link.deliver &= link.channel != Some(WEBCHAT);
        Ok(link)
    }

    fn question(&self) -> Question {
        let said = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}: {value}"));
        let delivery = self.deliver.then(|| {
            let to = self.to.as_deref().unwrap_or("whom the agent spoke with last");
            format!("the answer is sent to {to}, by {}", self.channel.unwrap_or("last"))
        });
        let notes = [said("thinking", &self.thinking), delivery].into_iter().flatten();
        let timeout = self.timeout_seconds.map(|seconds| format!("stopped after {seconds} s"));
        let requester = "a link that was opened on this machine, perhaps by a web page".to_owned();
        Question {
            session: self.session_key.clone(),
            notes: notes.chain(timeout).collect(),
            ..Question::of(Kind::Link, self.message.clone(), requester)
        }
    }

    /// Parameters of the gateway's `agent`.
    fn params(&self) -> Value {
        let mut params = json!({"message": self.message, "deliver": self.deliver, "idempotencyKey": random::uuid()});
        let optional = [
            ("sessionKey", self.session_key.clone().map(Value::from)),
            ("thinking", self.thinking.clone().map(Value::from)),
            ("to", self.to.clone().map(Value::from)),
            ("channel", self.channel.map(Value::from)),
            ("timeout", self.timeout_seconds.map(Value::from)),
        ];
        if let Some(members) = params.as_object_mut() {
            members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        params
    }
}

/// Percent-decoded UTF-8 text; a plus sign is one.
fn decoded(text: &str) -> Result<String, LinkError> {
    let wrong = LinkError::Malformed("its encoding is broken");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
        };
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(wrong),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(wrong)
}

fn flag(text: &str) -> Result<bool, LinkError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(LinkError::Malformed("`deliver` is neither true nor false")),
    }
}

fn seconds(text: &str) -> Result<u64, LinkError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|seconds| digits && *seconds <= limits::DEEP_LINK_TIMEOUT_SECONDS);
    seconds.ok_or(LinkError::Malformed("`timeoutSeconds` is no number of seconds"))
}

/// Follows links, one at a time.
pub struct DeepLinks {
    state: StateDir,
    person: Arc<dyn Person>,
    about: Arc<About>,
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    is_busy: bool,
    last: Option<Instant>,
}

impl DeepLinks {
    /// Asks `person`, sends to the gateway of `about`.
    pub fn new(state: &StateDir, person: Arc<dyn Person>, about: Arc<About>) -> Arc<Self> {
        Arc::new(Self { state: state.clone(), person, about, turn: Mutex::default() })
    }

    /// Somebody opened a link: looks at it and, if it can be followed, asks on a thread of its own. What comes of it
    /// is logged, never with the link's query.
    ///
    /// # Errors
    /// See [`LinkError`]; nothing was or will be sent.
    pub fn open(self: &Arc<Self>, url: &str) -> Result<(), LinkError> {
        let opened = self.start(url);
        if let Err(error) = &opened {
            log!("app", "{error}");
        }
        opened
    }

    fn start(self: &Arc<Self>, url: &str) -> Result<(), LinkError> {
        let Link::Agent(link) = Link::parse(url)? else { return Err(LinkError::Gateway) };
        if pause::is_on(&self.state.paused()) {
            return Err(LinkError::Paused);
        }
        {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if turn.is_busy || turn.last.is_some_and(|last| last.elapsed() < limits::DEEP_LINK_PAUSE) {
                return Err(LinkError::Busy);
            }
            *turn = Turn { is_busy: true, last: Some(Instant::now()) };
        }
        let done = Done(Arc::clone(self));
        let thread = thread::Builder::new().name("deep-link".into()).stack_size(limits::WORKER_STACK_BYTES);
        let started = thread.spawn(move || {
            let came = done.0.follow(&link).unwrap_or_else(|why| format!("was not followed: {why}"));
            log!("app", "an openclaw://agent link {came}");
        });
        started.map(drop).map_err(|error| LinkError::System(error.to_string()))
    }

    /// What came of it, in words.
    fn follow(&self, link: &AgentLink) -> Result<String, String> {
        let by = if self.has_key(link) {
            "its key is the owner's"
        } else {
            let never = Wake::new().map_err(|error| error.to_string())?;
            match self.person.ask(&link.question(), &never) {
                Answer::Decided(Decision::AllowOnce | Decision::AllowAlways) | Answer::Granted(_) => {
                    "the person said so"
                }
                Answer::Decided(Decision::Deny) => return Err("the person said no".to_owned()),
                Answer::Nobody(why) => return Err(format!("nobody could be asked: {why}")),
                Answer::TimedOut | Answer::Withdrawn | Answer::Later => {
                    return Err("nobody answered in time".to_owned());
                }
            }
        };
        if pause::is_on(&self.state.paused()) {
            return Err(pause::SENTENCE.to_owned());
        }
        self.send(link).map(|()| format!("was followed; {by}"))
    }

    /// Only a key that the owner has put there counts; the app makes none (0600, at least 16 characters).
    fn has_key(&self, link: &AgentLink) -> bool {
        let path = self.state.deep_link_key();
        let (Some(given), Ok(Some(found))) = (&link.key, files::read(&path, Care::Secret)) else {
            return false;
        };
        let key = found.text(&path).map(str::trim).unwrap_or_default();
        key.len() >= limits::DEEP_LINK_KEY_BYTES && given.matches(key.as_bytes())
    }

    fn send(&self, link: &AgentLink) -> Result<(), String> {
        let route = self.about.route.get().ok_or("the app has no gateway")?;
        let client = super::supervisor::operator_client();
        let connection = route.open(client, &[scope::WRITE], &[], Box::new(|_, _, _| {})).map_err(|error| error.why)?;
        let answer = connection.call("agent", &link.params(), limits::REQUEST_DEADLINE);
        connection.close();
        match answer {
            Ok(_) => Ok(()),
            Err(CallError::Refused(error)) => Err(format!("the gateway refuses: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Makes room for the next link, on every way out.
struct Done(Arc<DeepLinks>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner).is_busy = false;
    }
}

#[cfg(test)]
mod tests;
