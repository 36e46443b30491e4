//! Two approvals, kept on disk: the device (admits the connection) and the surface (what the node
//! offers). Source: spec gateway §5, exec g.7; cases A24, A35, A36, A39–A44, H20.

use super::command_policy;
use super::scope::{self, Role};
use super::setup;
use crate::identity::{random, secret};
use crate::limits;
use crate::protocol::connect::{ClientInfo, normalised};
pub use crate::protocol::node::Surface;
use crate::state::StateError;
use crate::state::paths::StateDir;
use crate::state::store::Store;
use crate::sys::clock;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// `approvedVia` of a device with the right shared secret on a direct local connection without an Origin. Source: spec
/// gateway §3.
pub const SILENT: &str = "silent";

/// Why a record could not be kept.
#[derive(Debug)]
pub enum RecordError {
    /// As many as we keep of these.
    Full(&'static str, usize),
    /// The disk.
    State(StateError),
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(what, most) => {
                write!(f, "there are {most} {what} already; approve, reject or remove some first")
            }
            Self::State(error) => error.fmt(f),
        }
    }
}

impl From<StateError> for RecordError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// A token of one role. Only its hash is kept (H20).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRecord {
    sha256: String,
    scopes: Vec<String>,
    created_at_ms: i64,
    /// Nobody was told it: the device gets another one when it comes with the shared secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    withheld: bool,
    /// Set: the device needs a new approval for this role, whatever else it can show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at_ms: Option<i64>,
}

/// A device that was admitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRecord {
    /// Hash of the key.
    pub device_id: String,
    /// The key, base64url.
    pub public_key: String,
    /// As it introduced itself.
    pub client: ClientInfo,
    /// A name that the owner gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Roles that were approved.
    pub roles: Vec<String>,
    /// Operator scopes that were approved.
    pub scopes: Vec<String>,
    /// `silent`, `owner`, `local-app` or `setup-link`.
    pub approved_via: String,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub approved_at_ms: i64,
    tokens: BTreeMap<String, TokenRecord>,
}

/// A device that waits for an approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDevice {
    /// Names the request.
    pub request_id: String,
    /// Hash of the key.
    pub device_id: String,
    /// The key, base64url.
    pub public_key: String,
    /// As it introduces itself.
    pub client: ClientInfo,
    /// Role asked for.
    pub role: String,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// The device is already paired and asks for more, or has changed.
    pub is_repair: bool,
    /// Milliseconds since 1970.
    pub ts: i64,
}

/// A surface that was approved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SurfaceRecord {
    /// The device id.
    pub node_id: String,
    /// What may be used.
    pub surface: Surface,
    /// As it introduced itself when it was approved.
    pub client: ClientInfo,
    /// A name that the owner gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub approved_at_ms: i64,
    /// Milliseconds since 1970; kept in memory, saved with the next change.
    pub last_seen_at_ms: i64,
    /// `connect` or `disconnect`.
    pub last_seen_reason: String,
}

/// A surface that waits for an approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingSurface {
    /// Names the request; another one than the device's.
    pub request_id: String,
    /// The device id.
    pub node_id: String,
    /// What it declares.
    pub surface: Surface,
    /// As it introduces itself.
    pub client: ClientInfo,
    /// Milliseconds since 1970.
    pub ts: i64,
}

/// Who wants in.
pub struct DeviceClaim<'a> {
    /// Checked against the key.
    pub device_id: &'a str,
    /// Checked against the signature.
    pub public_key: &'a str,
    /// Claims.
    pub client: &'a ClientInfo,
    /// Asked for.
    pub role: Role,
    /// Asked for.
    pub scopes: &'a [String],
}

/// A device is in.
pub struct Admitted {
    /// A token that was minted just now, to be shown once; and when.
    pub new_token: Option<(secret::Secret, i64)>,
}

/// A device is not in yet.
pub struct PairingRequired {
    /// `not-paired`, `role-upgrade`, `scope-upgrade`, `metadata-upgrade`.
    pub reason: &'static str,
    /// The request that an owner can approve.
    pub request: PendingDevice,
    /// The request is new: tell the owners.
    pub is_new: bool,
    /// What is approved so far.
    pub approved: Option<(Vec<String>, Vec<String>)>,
}

/// Why a device did not get in.
pub enum NotAdmitted {
    /// An owner must approve.
    Required(Box<PairingRequired>),
    /// Too many requests wait, or the record cannot be written.
    Failed(String),
}

/// The state of a node's surface after it declared one.
#[derive(Clone, Debug, Default)]
pub struct SurfaceState {
    /// What was approved, whatever is declared now.
    pub approved: Option<Surface>,
    /// The request that waits, and whether it is new.
    pub pending: Option<(PendingSurface, bool)>,
}

/// The app that runs in this process, and exactly what it declares.
struct LocalApp {
    device_id: String,
    surface: Surface,
}

type ById<T> = BTreeMap<String, T>;

/// All records.
pub struct Pairing {
    devices: ById<DeviceRecord>,
    pending_devices: ById<PendingDevice>,
    surfaces: ById<SurfaceRecord>,
    pending_surfaces: ById<PendingSurface>,
    local_app: Option<LocalApp>,
    stores: Stores,
    /// As they were last written: what a failed write goes back to.
    saved_devices: (ById<DeviceRecord>, ById<PendingDevice>),
    saved_surfaces: (ById<SurfaceRecord>, ById<PendingSurface>),
    failing: bool,
}

struct Stores {
    devices: Store<ById<DeviceRecord>>,
    pending_devices: Store<ById<PendingDevice>>,
    surfaces: Store<ById<SurfaceRecord>>,
    pending_surfaces: Store<ById<PendingSurface>>,
}

impl Pairing {
    /// Reads the records.
    ///
    /// # Errors
    /// A record file is unsafe or broken; it stays as it is.
    pub fn load(state: &StateDir) -> Result<Self, StateError> {
        let stores = Stores {
            devices: Store::new(state.devices_paired()),
            pending_devices: Store::new(state.devices_pending()),
            surfaces: Store::new(state.nodes_paired()),
            pending_surfaces: Store::new(state.nodes_pending()),
        };
        let (devices, pending_devices) = (stores.devices.load()?, stores.pending_devices.load()?);
        let (surfaces, pending_surfaces) = (stores.surfaces.load()?, stores.pending_surfaces.load()?);
        Ok(Self {
            saved_devices: (devices.clone(), pending_devices.clone()),
            saved_surfaces: (surfaces.clone(), pending_surfaces.clone()),
            devices,
            pending_devices,
            surfaces,
            pending_surfaces,
            local_app: None,
            stores,
            failing: false,
        })
    }

    /// The app in this process hands over its node's device id and exact surface: a fact about
    /// this process, not about where a connection comes from.
    pub fn set_local_app(&mut self, device_id: String, surface: Surface) {
        self.local_app = Some(LocalApp { device_id, surface });
    }

    // ---- devices ----

    /// Whether a device may connect as it asks. `unasked` = by what the connection may pair for the first
    /// time without a question: [`SILENT`] or [`setup::VIA`].
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(&mut self, claim: &DeviceClaim<'_>, unasked: Option<&str>) -> Result<Admitted, NotAdmitted> {
        let is_local_app = self.is_local_app(claim.device_id) && claim.role == Role::Node;
        let Some(record) = self.devices.get(claim.device_id) else {
            if let Some(via) = if is_local_app { Some("local-app") } else { unasked } {
                return self.pair_now(claim, via).map_err(|error| NotAdmitted::Failed(error.to_string()));
            }
            return Err(self.require(claim, "not-paired"));
        };
        let same_metadata = pinned(&record.client) == pinned(claim.client);
        let scopes_fit = claim.role == Role::Node || scope::covers(&record.scopes, claim.scopes);
        if record.public_key != claim.public_key || !same_metadata {
            return Err(self.require(claim, "metadata-upgrade"));
        }
        if !record.has_role(claim.role) || record.is_revoked(claim.role) {
            return Err(self.require(claim, "role-upgrade"));
        }
        if !scopes_fit {
            return Err(self.require(claim, "scope-upgrade"));
        }
        let scopes = match record.tokens.get(claim.role.word()) {
            // Whoever comes by a link has no token any more.
            Some(token) if !token.withheld && unasked != Some(setup::VIA) => return Ok(Admitted { new_token: None }),
            Some(token) => token.scopes.clone(),
            None if claim.role == Role::Operator => record.scopes.clone(),
            None => Vec::new(),
        };
        self.mint(claim.device_id, claim.role, scopes).map_err(|error| NotAdmitted::Failed(error.to_string()))
    }

    /// The scopes of a device token, if it is this device's for this role.
    pub fn token_scopes(&self, device_id: &str, role: Role, token: &[u8]) -> Option<Vec<String>> {
        let record = self.devices.get(device_id)?;
        let known = record.tokens.get(role.word())?;
        let given = hash(token);
        let right = known.revoked_at_ms.is_none() && secret::equal(known.sha256.as_bytes(), given.as_bytes());
        // Never more than the record allows now (A36).
        (right && record.has_role(role))
            .then(|| known.scopes.iter().filter(|scope| scope::satisfies(&record.scopes, scope)).cloned().collect())
    }

    fn pair_now(&mut self, claim: &DeviceClaim<'_>, via: &str) -> Result<Admitted, RecordError> {
        if self.devices.len() >= limits::PAIRED_DEVICES {
            return Err(RecordError::Full("paired devices", limits::PAIRED_DEVICES));
        }
        let scopes = if claim.role == Role::Operator { claim.scopes.to_vec() } else { Vec::new() };
        let now = clock::wall_ms();
        let record = DeviceRecord {
            device_id: claim.device_id.to_owned(),
            public_key: claim.public_key.to_owned(),
            client: claim.client.clone(),
            label: None,
            roles: vec![claim.role.word().to_owned()],
            scopes: scopes.clone(),
            approved_via: via.to_owned(),
            created_at_ms: now,
            approved_at_ms: now,
            tokens: BTreeMap::new(),
        };
        self.devices.insert(claim.device_id.to_owned(), record);
        self.pending_devices.retain(|_, pending| pending.device_id != claim.device_id);
        self.mint(claim.device_id, claim.role, scopes)
    }

    /// A new token for a role; shown once, kept as a hash.
    fn mint(&mut self, device_id: &str, role: Role, scopes: Vec<String>) -> Result<Admitted, RecordError> {
        let token = random::token::<{ random::TOKEN_BYTES }>();
        let now = clock::wall_ms();
        if let Some(record) = self.devices.get_mut(device_id) {
            let known =
                TokenRecord { sha256: hash(token.expose()), scopes, created_at_ms: now, ..TokenRecord::default() };
            record.tokens.insert(role.word().to_owned(), known);
        }
        self.save_devices()?;
        Ok(Admitted { new_token: Some((token, now)) })
    }

    fn require(&mut self, claim: &DeviceClaim<'_>, reason: &'static str) -> NotAdmitted {
        let now = clock::wall_ms();
        self.forget_old_devices(now);
        let approved = self.devices.get(claim.device_id).map(|record| (record.roles.clone(), record.scopes.clone()));
        let same = self.pending_devices.values().find(|pending| {
            pending.device_id == claim.device_id
                && pending.role == claim.role.word()
                && pending.scopes == claim.scopes
                && pinned(&pending.client) == pinned(claim.client)
        });
        if let Some(request) = same {
            let request = request.clone();
            return NotAdmitted::Required(Box::new(PairingRequired { reason, request, is_new: false, approved }));
        }
        // One request a device: a changed one replaces it under a new id, so that nobody approves
        // what they have not seen.
        self.pending_devices.retain(|_, pending| pending.device_id != claim.device_id);
        if self.pending_devices.len() >= limits::PAIRING_PENDING {
            return NotAdmitted::Failed(format!(
                "{} pairing requests wait already; approve or reject some, or wait five minutes",
                limits::PAIRING_PENDING
            ));
        }
        let request = PendingDevice {
            request_id: random::uuid(),
            device_id: claim.device_id.to_owned(),
            public_key: claim.public_key.to_owned(),
            client: claim.client.clone(),
            role: claim.role.word().to_owned(),
            scopes: claim.scopes.to_vec(),
            is_repair: approved.is_some(),
            ts: now,
        };
        self.pending_devices.insert(request.request_id.clone(), request.clone());
        if let Err(error) = self.save_devices() {
            return NotAdmitted::Failed(error.to_string());
        }
        NotAdmitted::Required(Box::new(PairingRequired { reason, request, is_new: true, approved }))
    }

    fn forget_old_devices(&mut self, now: i64) {
        let ttl = i64::try_from(limits::PAIRING_PENDING_TTL.as_millis()).unwrap_or(i64::MAX);
        self.pending_devices.retain(|_, pending| now.saturating_sub(pending.ts) < ttl);
    }

    /// Requests that wait, and devices that are in.
    pub fn devices(&mut self) -> (Vec<PendingDevice>, Vec<DeviceRecord>) {
        self.forget_old_devices(clock::wall_ms());
        (self.pending_devices.values().cloned().collect(), self.devices.values().cloned().collect())
    }

    /// One request that waits.
    pub fn pending_device(&mut self, request_id: &str) -> Option<PendingDevice> {
        self.forget_old_devices(clock::wall_ms());
        self.pending_devices.get(request_id).cloned()
    }

    /// Admits the device of a request: merges role and scopes into its record.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn approve_device(&mut self, request_id: &str) -> Result<Option<DeviceRecord>, StateError> {
        let Some(request) = self.pending_devices.remove(request_id) else { return Ok(None) };
        let now = clock::wall_ms();
        let record = self.devices.entry(request.device_id.clone()).or_insert_with(|| DeviceRecord {
            device_id: request.device_id.clone(),
            public_key: request.public_key.clone(),
            client: request.client.clone(),
            label: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            approved_via: "owner".to_owned(),
            created_at_ms: now,
            approved_at_ms: now,
            tokens: BTreeMap::new(),
        });
        record.client = request.client;
        record.approved_at_ms = now;
        if !record.roles.contains(&request.role) {
            record.roles.push(request.role.clone());
        }
        if request.role == Role::Operator.word() {
            for scope in request.scopes {
                if !record.scopes.contains(&scope) {
                    record.scopes.push(scope);
                }
            }
        }
        // The old token of the role carries the old scopes; a new one comes with the next connect.
        record.tokens.remove(&request.role);
        let record = record.clone();
        self.save_devices()?;
        Ok(Some(record))
    }

    /// Forgets a request.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn reject_device(&mut self, request_id: &str) -> Result<Option<PendingDevice>, StateError> {
        let request = self.pending_devices.remove(request_id);
        if request.is_some() {
            self.save_devices()?;
        }
        Ok(request)
    }

    /// Forgets a device, its tokens and its surface.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn remove_device(&mut self, device_id: &str) -> Result<bool, StateError> {
        if !self.devices.contains_key(device_id) {
            return Ok(false);
        }
        // The surface first: when the second write fails, the device is still there to be removed again.
        self.remove_surface(device_id)?;
        self.devices.remove(device_id);
        self.pending_devices.retain(|_, pending| pending.device_id != device_id);
        self.save_devices()?;
        Ok(true)
    }

    /// One device.
    pub fn device(&self, device_id: &str) -> Option<&DeviceRecord> {
        self.devices.get(device_id)
    }

    /// Gives a device a name of the owner's.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn rename_device(&mut self, device_id: &str, label: &str) -> Result<bool, StateError> {
        let Some(record) = self.devices.get_mut(device_id) else { return Ok(false) };
        record.label = Some(label.to_owned());
        self.save_devices()?;
        Ok(true)
    }

    /// Another token for a role that was approved: the old one is worth nothing from now on. `scopes`
    /// are what the caller may hand out of what the record allows (A34); `is_told` says whether the device hears it.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn rotate_token(
        &mut self,
        device_id: &str,
        role: Role,
        scopes: Vec<String>,
        is_told: bool,
    ) -> Result<Admitted, RecordError> {
        let minted = self.mint(device_id, role, scopes)?;
        let token = self.devices.get_mut(device_id).and_then(|record| record.tokens.get_mut(role.word()));
        if let Some(token) = token.filter(|_| !is_told) {
            token.withheld = true;
            self.save_devices()?;
        }
        Ok(minted)
    }

    /// The role's token is worth nothing from now on, and the role needs a new approval.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn revoke_token(&mut self, device_id: &str, role: Role) -> Result<i64, StateError> {
        let now = clock::wall_ms();
        if let Some(record) = self.devices.get_mut(device_id) {
            let none = TokenRecord { created_at_ms: now, ..TokenRecord::default() };
            let token = record.tokens.entry(role.word().to_owned()).or_insert(none);
            token.sha256.clear();
            token.revoked_at_ms = Some(now);
        }
        self.save_devices()?;
        Ok(now)
    }

    /// Takes the node's role from a device, with its token and surface; a device without another
    /// role is forgotten.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn remove_node(&mut self, node_id: &str) -> Result<bool, StateError> {
        let Some(record) = self.devices.get(node_id).filter(|record| record.has_role(Role::Node)) else {
            return self.remove_surface(node_id);
        };
        if record.roles.len() == 1 {
            return self.remove_device(node_id);
        }
        // The surface first, as in `remove_device`.
        self.remove_surface(node_id)?;
        if let Some(record) = self.devices.get_mut(node_id) {
            record.roles.retain(|role| role != Role::Node.word());
            record.tokens.remove(Role::Node.word());
        }
        self.save_devices()?;
        Ok(true)
    }

    /// Whether the last write of a record failed.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// Writes the records of devices. What could not be written has not happened, here either: the
    /// caller is told so, and may try again.
    fn save_devices(&mut self) -> Result<(), StateError> {
        let devices = self.stores.devices.update(|stored| stored.clone_from(&self.devices));
        let written = devices
            .and_then(|()| self.stores.pending_devices.update(|stored| stored.clone_from(&self.pending_devices)));
        self.failing = written.is_err();
        if self.failing {
            (self.devices, self.pending_devices) = self.saved_devices.clone();
        } else {
            self.saved_devices = (self.devices.clone(), self.pending_devices.clone());
        }
        written
    }

    // ---- surfaces ----

    /// A node declares what it offers.
    ///
    /// # Errors
    /// Too many requests wait, or the record cannot be written.
    pub fn declare(
        &mut self,
        node_id: &str,
        surface: &Surface,
        client: &ClientInfo,
    ) -> Result<SurfaceState, RecordError> {
        let now = clock::wall_ms();
        if self.is_local_app(node_id) && self.local_app.as_ref().is_some_and(|app| app.surface.holds(surface)) {
            self.store_surface(node_id, surface.clone(), client, now);
            self.pending_surfaces.retain(|_, pending| pending.node_id != node_id);
            self.save_surfaces()?;
        }
        if let Some(record) = self.surfaces.get_mut(node_id) {
            record.last_seen_at_ms = now;
            record.last_seen_reason = "connect".to_owned();
            if record.surface.holds(surface) {
                record.surface.permissions.clone_from(&surface.permissions);
                let approved = Some(record.surface.clone());
                if self.pending_surfaces.values().any(|pending| pending.node_id == node_id) {
                    self.pending_surfaces.retain(|_, pending| pending.node_id != node_id);
                    self.save_surfaces()?;
                }
                return Ok(SurfaceState { approved, pending: None });
            }
        }
        let approved = self.surfaces.get(node_id).map(|record| record.surface.clone());
        let same =
            self.pending_surfaces.values().find(|pending| pending.node_id == node_id && pending.surface == *surface);
        if let Some(pending) = same {
            return Ok(SurfaceState { approved, pending: Some((pending.clone(), false)) });
        }
        self.pending_surfaces.retain(|_, pending| pending.node_id != node_id);
        if self.pending_surfaces.len() >= limits::PAIRING_PENDING {
            return Err(RecordError::Full("surface requests", limits::PAIRING_PENDING));
        }
        let pending = PendingSurface {
            request_id: random::uuid(),
            node_id: node_id.to_owned(),
            surface: surface.clone(),
            client: client.clone(),
            ts: now,
        };
        self.pending_surfaces.insert(pending.request_id.clone(), pending.clone());
        self.save_surfaces()?;
        Ok(SurfaceState { approved, pending: Some((pending, true)) })
    }

    /// Requests that wait, and surfaces that are approved.
    pub fn surfaces(&self) -> (Vec<PendingSurface>, Vec<SurfaceRecord>) {
        (self.pending_surfaces.values().cloned().collect(), self.surfaces.values().cloned().collect())
    }

    /// One request that waits.
    pub fn pending_surface(&self, request_id: &str) -> Option<&PendingSurface> {
        self.pending_surfaces.get(request_id)
    }

    /// What waits for one node.
    pub fn pending_surface_of(&self, node_id: &str) -> Option<&PendingSurface> {
        self.pending_surfaces.values().find(|pending| pending.node_id == node_id)
    }

    /// The approved surface of one node.
    pub fn surface(&self, node_id: &str) -> Option<&SurfaceRecord> {
        self.surfaces.get(node_id)
    }

    /// Devices that are in as nodes.
    pub fn node_devices(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.devices.values().filter(|record| record.has_role(Role::Node))
    }

    /// Approves the surface of a request.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn approve_surface(&mut self, request_id: &str) -> Result<Option<SurfaceRecord>, StateError> {
        let Some(request) = self.pending_surfaces.remove(request_id) else { return Ok(None) };
        self.store_surface(&request.node_id, request.surface, &request.client, clock::wall_ms());
        self.save_surfaces()?;
        Ok(self.surfaces.get(&request.node_id).cloned())
    }

    /// Forgets a request.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn reject_surface(&mut self, request_id: &str) -> Result<Option<PendingSurface>, StateError> {
        let request = self.pending_surfaces.remove(request_id);
        if request.is_some() {
            self.save_surfaces()?;
        }
        Ok(request)
    }

    /// Forgets an approved surface and what waits for the node.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn remove_surface(&mut self, node_id: &str) -> Result<bool, StateError> {
        let known = self.surfaces.remove(node_id).is_some();
        self.pending_surfaces.retain(|_, pending| pending.node_id != node_id);
        self.save_surfaces()?;
        Ok(known)
    }

    /// Gives a node a name of the owner's.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn rename_surface(&mut self, node_id: &str, label: &str) -> Result<bool, StateError> {
        let Some(record) = self.surfaces.get_mut(node_id) else { return Ok(false) };
        record.label = Some(label.to_owned());
        self.save_surfaces()?;
        Ok(true)
    }

    /// Notes that a node has gone.
    pub fn node_left(&mut self, node_id: &str) {
        if let Some(record) = self.surfaces.get_mut(node_id) {
            record.last_seen_at_ms = clock::wall_ms();
            record.last_seen_reason = "disconnect".to_owned();
        }
    }

    fn store_surface(&mut self, node_id: &str, surface: Surface, client: &ClientInfo, now: i64) {
        let old = self.surfaces.get(node_id);
        let record = SurfaceRecord {
            node_id: node_id.to_owned(),
            surface,
            client: client.clone(),
            label: old.and_then(|old| old.label.clone()),
            created_at_ms: old.map_or(now, |old| old.created_at_ms),
            approved_at_ms: now,
            last_seen_at_ms: now,
            last_seen_reason: "connect".to_owned(),
        };
        self.surfaces.insert(node_id.to_owned(), record);
    }

    /// The same for the records of surfaces.
    fn save_surfaces(&mut self) -> Result<(), StateError> {
        let surfaces = self.stores.surfaces.update(|stored| stored.clone_from(&self.surfaces));
        let written = surfaces
            .and_then(|()| self.stores.pending_surfaces.update(|stored| stored.clone_from(&self.pending_surfaces)));
        self.failing = written.is_err();
        if self.failing {
            (self.surfaces, self.pending_surfaces) = self.saved_surfaces.clone();
        } else {
            self.saved_surfaces = (self.surfaces.clone(), self.pending_surfaces.clone());
        }
        written
    }

    fn is_local_app(&self, device_id: &str) -> bool {
        self.local_app.as_ref().is_some_and(|app| app.device_id == device_id)
    }
}

impl PendingSurface {
    /// Scopes that an approver needs.
    pub fn required_scopes(&self) -> Vec<&'static str> {
        command_policy::required_approve_scopes(&self.surface.commands)
    }
}

impl DeviceRecord {
    /// Whether the role needs a new approval.
    pub fn is_revoked(&self, role: Role) -> bool {
        self.tokens.get(role.word()).is_some_and(|token| token.revoked_at_ms.is_some())
    }

    /// Whether a role was approved.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.iter().any(|approved| approved == role.word())
    }

    /// `{role, scopes, createdAtMs}` of each token, never the token.
    pub fn token_rows(&self) -> Vec<serde_json::Value> {
        self.tokens
            .iter()
            .map(|(role, token)| {
                let mut row =
                    serde_json::json!({"role": role, "scopes": token.scopes, "createdAtMs": token.created_at_ms});
                if let (Some(at), Some(members)) = (token.revoked_at_ms, row.as_object_mut()) {
                    members.insert("revokedAtMs".to_owned(), at.into());
                }
                row
            })
            .collect()
    }
}

fn hash(token: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(token))
}

/// Platform and family as they are pinned: macOS version digits do not count, and the node host's
/// `darwin` is `macos` (A43 and its row).
fn pinned(client: &ClientInfo) -> (String, String) {
    let mut platform = normalised(&client.platform);
    if client.id == "node-host" && platform == "darwin" {
        platform = "macos".to_owned();
    }
    if let Some(rest) = platform.strip_prefix("macos")
        && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ' '))
    {
        platform = "macos".to_owned();
    }
    (platform, normalised(client.device_family.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macos_updates_are_no_change_and_other_platforms_are() {
        let client = |platform: &str, family: &str| ClientInfo {
            id: "node-host".into(),
            platform: platform.into(),
            device_family: Some(family.into()),
            ..ClientInfo::default()
        };
        assert_eq!(pinned(&client("macos 15.5", "Mac")), pinned(&client("macos 16.0.1", "mac")));
        assert_eq!(pinned(&client("darwin", "Mac")), pinned(&client("macos", "Mac")));
        assert_ne!(pinned(&client("linux", "Linux")), pinned(&client("macos", "Mac")));
        assert_ne!(pinned(&client("macos x", "Mac")), pinned(&client("macos", "Mac")));
    }
}
