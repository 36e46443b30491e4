//! The one place that decides where anything lies. Source: DESIGN "State", spec exec (a.1).

use super::{Environment, StateError, files};
use crate::limits;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Exists when the official product keeps its state in a database here; it then refuses to start
/// beside documents with the old names, so ours move to [`NATIVE`].
const OFFICIAL_DATABASE: &str = "state/openclaw.sqlite";
const NATIVE: &str = "native";

/// Our documents, relative to [`StateDir::documents`]; the list that moves to `native/`.
const APPROVALS: &str = "exec-approvals.json";
const NODE_CONFIG: &str = "node.json";
const GATEWAY_TOKEN: &str = "gateway-token";
const PAUSED: &str = "paused";
const SWITCHES: &str = "switches.json";
const CANVAS_FRAMES: &str = "canvas-frames.json";
const DEEP_LINK_KEY: &str = "deep-link-key";
const GATEWAY_PINS: &str = "identity/gateway-pins.json";
const GATEWAY_KEY: &str = "identity/gateway.json";
const DEVICES_PAIRED: &str = "devices/paired.json";
const DEVICES_PENDING: &str = "devices/pending.json";
const NODES_PAIRED: &str = "nodes/paired.json";
const NODES_PENDING: &str = "nodes/pending.json";
/// Newest first.
const AUDIT: [&str; limits::AUDIT_FILES] = ["audit.jsonl", "audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl"];
const DOCUMENTS: [&str; 23] = [
    APPROVALS,
    NODE_CONFIG,
    GATEWAY_TOKEN,
    PAUSED,
    SWITCHES,
    CANVAS_FRAMES,
    DEEP_LINK_KEY,
    GATEWAY_KEY,
    GATEWAY_PINS,
    DEVICES_PAIRED,
    DEVICES_PENDING,
    NODES_PAIRED,
    NODES_PENDING,
    DeviceOwner::NodeHost.key(),
    DeviceOwner::NodeHost.tokens(),
    DeviceOwner::App.key(),
    DeviceOwner::App.tokens(),
    DeviceOwner::NodeHost.service_token(),
    DeviceOwner::App.service_token(),
    AUDIT[0],
    AUDIT[1],
    AUDIT[2],
    AUDIT[3],
];

/// Directories of [`DOCUMENTS`]; a loosened one is repaired at start.
const DIRECTORIES: [&str; 3] = ["identity", "devices", "nodes"];

/// Sockets, always in the state directory itself.
const EXEC_SOCKET: &str = "exec-approvals.sock";
const GATEWAY_SOCKET: &str = "gateway.sock";
const CONTROL_SOCKET: &str = "mac-control.sock";
const BRIDGE_SOCKET: &str = "bridge.sock";
const SOCKETS: [&str; 4] = [EXEC_SOCKET, GATEWAY_SOCKET, CONTROL_SOCKET, BRIDGE_SOCKET];

/// Who connects to a gateway with a device key of its own. Two devices, since node host and app
/// may run side by side and a gateway knows one connection a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceOwner {
    /// `openclaw node`; the official name.
    NodeHost,
    /// The app's own node.
    App,
}

impl DeviceOwner {
    const fn key(self) -> &'static str {
        match self {
            Self::NodeHost => "identity/device.json",
            Self::App => "identity/app-device.json",
        }
    }

    const fn tokens(self) -> &'static str {
        match self {
            Self::NodeHost => "identity/device-auth.json",
            Self::App => "identity/app-device-auth.json",
        }
    }

    const fn service_token(self) -> &'static str {
        match self {
            Self::NodeHost => "identity/node-service-token",
            Self::App => "identity/app-service-token",
        }
    }
}

/// The state directory. Making this value looks, but creates nothing.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
    documents: PathBuf,
    config: PathBuf,
}

impl StateDir {
    /// Where state lies: `OPENCLAW_STATE_DIR` (`~/…` and paths relative to the home directory are
    /// understood), else `~/.openclaw`.
    ///
    /// # Errors
    /// There is no home directory to start from.
    pub fn locate(environment: &Environment) -> Result<Self, StateError> {
        let home = environment.home.as_deref().filter(|home| home.is_absolute());
        let root = match &environment.state_dir {
            Some(path) => under_home(path, home)?,
            None => under_home(Path::new(".openclaw"), home)?,
        };
        // The directory itself may be a link that its owner made; below it nothing may be.
        let root = if is_own_link(&root) { root.canonicalize().unwrap_or(root) } else { root };
        let config = match &environment.config_path {
            Some(path) => under_home(path, home)?,
            None => root.join("openclaw.json"),
        };
        let official = root.join(OFFICIAL_DATABASE).exists();
        let documents = if official { root.join(NATIVE) } else { root.clone() };
        Ok(Self { root, documents, config })
    }

    /// Makes the directory ours: exists, owned by us, 0700; and moves documents of ours that lie
    /// where the official product would stumble over them. Long-running subcommands call this
    /// first; those that only look never do.
    ///
    /// # Errors
    /// A socket path would be too long (nothing was created), another owner, or the disk.
    pub fn prepare(&self) -> Result<(), StateError> {
        self.check_socket_paths()?;
        files::secure_directory(&self.root)?;
        if self.documents != self.root {
            files::secure_directory(&self.documents)?;
            self.move_documents()?;
        }
        for name in DIRECTORIES {
            let directory = self.documents.join(name);
            if directory.symlink_metadata().is_ok() {
                files::secure_directory(&directory)?;
            }
        }
        Ok(())
    }

    /// `sun_path` is checked before anything is created (A122).
    ///
    /// # Errors
    /// A sentence with the count.
    pub fn check_socket_paths(&self) -> Result<(), StateError> {
        for name in SOCKETS {
            let path = self.root.join(name);
            let bytes = path.as_os_str().len();
            if bytes > limits::SUN_PATH_BYTES {
                let what = format!(
                    "a socket path may have {} bytes and this one has {bytes}; set OPENCLAW_STATE_DIR to a shorter directory",
                    limits::SUN_PATH_BYTES
                );
                return Err(StateError::unsafe_file(&path, what));
            }
        }
        Ok(())
    }

    fn move_documents(&self) -> Result<(), StateError> {
        for name in DOCUMENTS {
            let (from, to) = (self.root.join(name), self.documents.join(name));
            if from.symlink_metadata().is_err() {
                continue;
            }
            if to.symlink_metadata().is_ok() {
                crate::log!("state", "{} is not used, {} is; remove one", from.display(), to.display());
                continue;
            }
            if let Some(parent) = to.parent() {
                files::secure_directory(parent)?;
            }
            std::fs::rename(&from, &to).map_err(|error| StateError::io("move", &from, error))?;
            crate::log!("state", "moved {} to {}, beside the official product", from.display(), to.display());
        }
        Ok(())
    }

    /// Removes everything of ours that is no socket, lock or log, with the locks of documents. What the owner wrote stays.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove_documents(&self) -> Result<(), StateError> {
        let ours = DOCUMENTS.iter().map(|name| self.documents.join(name));
        for document in ours.chain([self.control_token()]) {
            for path in [files::beside(&document, ".lock"), document] {
                files::discard(&path)?;
            }
        }
        // Each only if it is empty now.
        for name in DIRECTORIES {
            let _ = std::fs::remove_dir(self.documents.join(name));
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where our documents lie: the directory itself, or `native/` beside the official product.
    pub fn documents(&self) -> &Path {
        &self.documents
    }

    /// The owner's `openclaw.json`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The approvals document.
    pub fn approvals(&self) -> PathBuf {
        self.documents.join(APPROVALS)
    }

    /// The node host's own settings.
    pub fn node_config(&self) -> PathBuf {
        self.documents.join(NODE_CONFIG)
    }

    /// The shared token that we made for a config file without one.
    pub fn gateway_token(&self) -> PathBuf {
        self.documents.join(GATEWAY_TOKEN)
    }

    /// What the owner has switched on.
    pub fn switches(&self) -> PathBuf {
        self.documents.join(SWITCHES)
    }

    /// Where the canvas of each session was last.
    pub fn canvas_frames(&self) -> PathBuf {
        self.documents.join(CANVAS_FRAMES)
    }

    /// There as long as nothing may run.
    pub fn paused(&self) -> PathBuf {
        self.documents.join(PAUSED)
    }

    /// With this key a link asks nobody.
    pub fn deep_link_key(&self) -> PathBuf {
        self.documents.join(DEEP_LINK_KEY)
    }

    /// The keys of gateways that we have logged in to.
    pub fn gateway_pins(&self) -> PathBuf {
        self.documents.join(GATEWAY_PINS)
    }

    /// The gateway's key.
    pub fn gateway_key(&self) -> PathBuf {
        self.documents.join(GATEWAY_KEY)
    }

    /// A device key of ours.
    pub fn device_key(&self, owner: DeviceOwner) -> PathBuf {
        self.documents.join(owner.key())
    }

    /// The tokens that gateways gave to a device of ours.
    pub fn device_tokens(&self, owner: DeviceOwner) -> PathBuf {
        self.documents.join(owner.tokens())
    }

    /// The shared token that a service was installed with.
    pub fn service_token(&self, owner: DeviceOwner) -> PathBuf {
        self.documents.join(owner.service_token())
    }

    /// Devices that our gateway has paired.
    pub fn devices_paired(&self) -> PathBuf {
        self.documents.join(DEVICES_PAIRED)
    }

    /// Devices that wait for pairing.
    pub fn devices_pending(&self) -> PathBuf {
        self.documents.join(DEVICES_PENDING)
    }

    /// Approved node surfaces.
    pub fn nodes_paired(&self) -> PathBuf {
        self.documents.join(NODES_PAIRED)
    }

    /// Node surfaces that wait for approval.
    pub fn nodes_pending(&self) -> PathBuf {
        self.documents.join(NODES_PENDING)
    }

    /// The files of the audit log, newest first.
    pub fn audit(&self) -> [PathBuf; limits::AUDIT_FILES] {
        AUDIT.map(|name| self.documents.join(name))
    }

    /// Every document of ours, whether or not it is there, and none of anybody else's.
    pub fn document_paths(&self) -> impl Iterator<Item = PathBuf> {
        DOCUMENTS.iter().map(|name| self.documents.join(name)).chain([self.config.clone()])
    }

    /// The directories of those that lie in one.
    pub fn document_directories(&self) -> impl Iterator<Item = PathBuf> {
        DIRECTORIES.iter().map(|name| self.documents.join(name))
    }

    /// Whether a document is nothing but a secret.
    pub fn is_secret(&self, document: &Path) -> bool {
        let services = [DeviceOwner::NodeHost, DeviceOwner::App].map(DeviceOwner::service_token);
        let keys = [DeviceOwner::NodeHost, DeviceOwner::App].map(DeviceOwner::key);
        let names = [GATEWAY_TOKEN, GATEWAY_KEY].into_iter().chain(services).chain(keys);
        names.into_iter().any(|name| self.documents.join(name) == document)
    }

    /// The exec socket.
    pub fn exec_socket(&self) -> PathBuf {
        self.root.join(EXEC_SOCKET)
    }

    /// The gateway's Unix socket.
    pub fn gateway_socket(&self) -> PathBuf {
        self.root.join(GATEWAY_SOCKET)
    }

    /// The app's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join(CONTROL_SOCKET)
    }

    /// What the official command line proves itself with there; beside the socket, where it looks for it.
    pub fn control_token(&self) -> PathBuf {
        self.root.join("mac-control.token")
    }

    /// The PeekabooBridge socket.
    pub fn bridge_socket(&self) -> PathBuf {
        self.root.join(BRIDGE_SOCKET)
    }

    /// Whoever made this file wants no gateway started here; we never make it. Source: spec mac-app §1.2, §1.7.
    pub fn attach_only_marker(&self) -> PathBuf {
        self.root.join("disable-launchagent")
    }

    /// Held by the one app.
    pub fn app_lock(&self) -> PathBuf {
        self.root.join("app.lock")
    }

    /// Held by the one gateway.
    pub fn gateway_lock(&self) -> PathBuf {
        self.root.join("gateway.lock")
    }

    /// Log files under launchd.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// A link that we, or root, made: somebody else's could lead anywhere.
fn is_own_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| {
        found.is_symlink() && (found.uid() == crate::sys::process::effective_uid() || found.uid() == 0)
    })
}

/// `~`, `~/x` and relative paths are taken from the home directory.
fn under_home(path: &Path, home: Option<&Path>) -> Result<PathBuf, StateError> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let Some(home) = home else {
        return Err(StateError::setting("HOME", "is not set to an absolute path; set it or OPENCLAW_STATE_DIR"));
    };
    Ok(home.join(path.strip_prefix("~").unwrap_or(path)))
}
