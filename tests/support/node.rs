//! A node that a test scripts.

use super::client::{Client, Connect, Incoming};
use super::device::Device;
use super::gateway::Gateway;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a node declares.
#[derive(Clone, Debug)]
pub struct Surface {
    pub display_name: String,
    pub platform: String,
    pub device_family: String,
    pub caps: Vec<String>,
    pub commands: Vec<String>,
    pub permissions: Option<Value>,
}

impl Surface {
    /// A Linux node with these commands.
    pub fn linux(commands: &[&str]) -> Self {
        Self {
            display_name: "test node".to_owned(),
            platform: "linux".to_owned(),
            device_family: "Linux".to_owned(),
            caps: vec!["system".to_owned()],
            commands: commands.iter().map(|name| (*name).to_owned()).collect(),
            permissions: None,
        }
    }

    /// A Mac with these commands. frames/node-mac-pairing-surface.json
    pub fn mac(commands: &[&str]) -> Self {
        Self {
            display_name: "macnode".to_owned(),
            platform: "macos 15.5".to_owned(),
            device_family: "Mac".to_owned(),
            permissions: Some(json!({"accessibility": true, "screenRecording": false})),
            ..Self::linux(commands)
        }
    }

    pub(super) fn connect_members(&self) -> Vec<(String, Value)> {
        let mut members = vec![
            ("client/displayName".to_owned(), json!(self.display_name)),
            ("client/platform".to_owned(), json!(self.platform)),
            ("client/deviceFamily".to_owned(), json!(self.device_family)),
            ("caps".to_owned(), json!(self.caps)),
            ("commands".to_owned(), json!(self.commands)),
        ];
        if let Some(permissions) = &self.permissions {
            members.push(("permissions".to_owned(), permissions.clone()));
        }
        members
    }
}

/// What a scripted node answers to one invocation.
#[derive(Clone, Debug)]
pub enum Reply {
    /// `ok:true` with this payload object.
    Payload(Value),
    /// `ok:false` with this code and message.
    Error(&'static str, &'static str),
    /// Nothing.
    Silence,
}

/// A node on a thread of its own, for tests whose other side is a program. A test that wants to
/// hold both ends logs a [`Client`] in with [`Connect::node`] instead.
pub struct FakeNode {
    device: Device,
    invokes: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    /// Logs in, has the surface approved, then answers each `node.invoke.request` by `script`.
    pub fn approved(gateway: &Gateway, surface: &Surface, script: impl Fn(&Value) -> Reply + Send + 'static) -> Self {
        let node = Self::pending(gateway, surface, script);
        gateway.approve_surface(&node.id());
        node
    }

    /// The same without approval.
    pub fn pending(gateway: &Gateway, surface: &Surface, script: impl Fn(&Value) -> Reply + Send + 'static) -> Self {
        let device = Device::new();
        let mut client = Client::login(gateway, &Connect::node(&device, surface));
        let invokes = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&invokes), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let frame = match client.poll(Instant::now() + Duration::from_millis(50)) {
                    None => continue,
                    Some(Incoming::Closed(_)) => break,
                    Some(Incoming::Frame(frame)) => frame,
                };
                if frame["event"] != "node.invoke.request" {
                    continue;
                }
                let request = frame["payload"].clone();
                seen.lock().unwrap().push(request.clone());
                let mut result = json!({"id": request["id"], "nodeId": request["nodeId"]});
                match script(&request) {
                    Reply::Payload(payload) => {
                        result["ok"] = json!(true);
                        result["payload"] = payload;
                    }
                    Reply::Error(code, message) => {
                        result["ok"] = json!(false);
                        result["error"] = json!({"code": code, "message": message});
                    }
                    Reply::Silence => continue,
                }
                client.start("node.invoke.result", result);
            }
        });
        Self { device, invokes, stop, thread: Some(thread) }
    }

    /// Its device id, which is also its node id.
    pub fn id(&self) -> String {
        self.device.id()
    }

    /// Payloads of the `node.invoke.request` events so far.
    pub fn invokes(&self) -> Vec<Value> {
        self.invokes.lock().unwrap().clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
