//! A connection that has logged in. Only the handshake makes one, so no method can be reached
//! before (H18).

use super::Core;
use super::command_policy::Platform;
use super::pairing::Surface;
use super::scope::{self, Role};
use crate::limits;
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::WireError;
use crate::protocol::frame;
use crate::sys::clock::Expiry;
use crate::transport::outbox::{Kind, Outbox};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One logged-in connection.
pub struct Session {
    /// Of this process, counted up.
    pub number: u64,
    /// `server.connId` of hello-ok.
    pub conn_id: String,
    /// What it is.
    pub role: Role,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Who it says it is.
    pub client: ClientInfo,
    /// It shows approvals to a person, by its own word.
    pub shows_approvals: bool,
    /// It wants to hear what the commands that it asked for print.
    pub hears_progress: bool,
    /// Proven device id; none for a device-less operator.
    pub device_id: Option<String>,
    /// Which of the gateway's shared secrets let it in; none when a device token did.
    pub admitted_by: Option<u64>,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Milliseconds since 1970.
    pub connected_at_ms: i64,
    /// Of a node.
    pub node: Option<NodeSession>,
    /// Whatever it was asked to do has been answered for it; nothing more may be asked of it.
    pub gone: AtomicBool,
}

/// What only a node's connection has.
pub struct NodeSession {
    /// Checked against its family.
    pub platform: Platform,
    /// What it declared, cut to what its platform may serve.
    pub declared: Surface,
    /// PATH as declared.
    pub path_env: Option<String>,
    live: Mutex<Live>,
}

/// What changes while a node is connected.
#[derive(Default)]
pub struct Live {
    /// What an owner approved, whatever is declared.
    pub approved: Option<Surface>,
    /// Last `node.host.stats`.
    pub host_stats: Option<Value>,
    /// Runs that were dispatched on this connection and have not finished.
    pub runs: HashMap<String, Run>,
}

/// A dispatched run, for matching its events.
pub struct Run {
    /// If the run named one.
    pub session_key: Option<String>,
    /// Forgotten after this.
    pub until: Expiry,
}

impl NodeSession {
    /// A node that declared this.
    pub fn new(platform: Platform, declared: Surface, path_env: Option<String>, approved: Option<Surface>) -> Self {
        Self { platform, declared, path_env, live: Mutex::new(Live { approved, ..Live::default() }) }
    }

    /// What changes while it is connected.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declared and approved: what can be used now.
    pub fn effective(&self) -> Surface {
        let live = self.live();
        let Some(approved) = &live.approved else { return Surface::default() };
        let both = |declared: &[String], approved: &[String]| {
            declared.iter().filter(|name| approved.contains(name)).cloned().collect()
        };
        Surface {
            caps: both(&self.declared.caps, &approved.caps),
            commands: both(&self.declared.commands, &approved.commands),
            permissions: self.declared.permissions.clone(),
        }
    }
}

impl Session {
    /// Whether it has a scope. Nodes have none.
    pub fn may(&self, needed: &str) -> bool {
        self.role == Role::Operator && scope::satisfies(&self.scopes, needed)
    }

    /// Whether it may know of the pairing of a device, and touch it: who is a device without admin of its
    /// own only, the owner's device-less tools of each (A44).
    pub fn sees(&self, device_id: &str) -> bool {
        let is_own = || self.device_id.as_deref().is_none_or(|own| own == device_id);
        self.may(scope::PAIRING) && (self.may(scope::ADMIN) || is_own())
    }

    /// Sends a frame that must arrive.
    pub fn send(&self, text: String) {
        self.outbox.text(text, Kind::Must);
    }

    /// A name for logs.
    pub fn label(&self) -> String {
        let name = self.client.display_name.as_deref().unwrap_or(&self.client.id);
        format!("{} {name} ({})", self.role.word(), self.conn_id)
    }
}

/// Serves a session until its connection ends: one request after the other, in order. What takes
/// long is answered later by whoever finishes it.
pub fn serve(core: &Arc<Core>, session: &Arc<Session>, peer: &mut crate::transport::peer::Peer) -> Leave {
    let mut unauthorized = 0;
    loop {
        let text = match peer.receive() {
            Ok(text) => text,
            Err(end) => return Leave::Ended(end),
        };
        match frame::parse_request(text.as_str()) {
            // A login has no way back: no second identity, no other role (H18).
            Ok(request) if request.method == "connect" => {
                let message = "connect is only valid as the first request";
                session.send(frame::response_error(&request.id, &WireError::invalid(message)));
                return Leave::Close(1008, message);
            }
            Ok(request) => match super::methods::handle(core, session, &request) {
                Ok(()) => unauthorized = 0,
                Err(super::methods::WrongRole) => {
                    unauthorized += 1;
                    let message = format!("unauthorized role: {}", session.role.word());
                    session.send(frame::response_error(&request.id, &WireError::invalid(message)));
                    if unauthorized == limits::UNAUTHORIZED_IN_A_ROW {
                        return Leave::Close(1008, "repeated unauthorized calls");
                    }
                }
            },
            Err(frame::BadFrame::NotJson) => {
                crate::log!("gateway", "{} sent a frame that is not JSON; ignored", session.label());
            }
            Err(frame::BadFrame::NotRequest { id, why }) => {
                let error = WireError::invalid(format!("invalid request frame: {why}"));
                session.send(frame::response_error(id.as_deref().unwrap_or("invalid"), &error));
            }
        }
    }
}

/// How a session ended.
pub enum Leave {
    /// The peer, or the connection.
    Ended(crate::transport::peer::End),
    /// We close, with this code and reason.
    Close(u16, &'static str),
}
