//! Which commands a node may serve: platform allowlist ∩ declared ∩ approved, then the owner's own
//! allow and deny lists. Source: spec gateway §5, exec g.3, vectors `node-command-policy`.

use crate::protocol::connect::normalised;
use crate::protocol::node::name;

/// A platform whose name **and** device family agree; everything else is unknown and gets least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// `macos`, `macos 15.5` with a Mac.
    Mac,
    /// `linux` with Linux.
    Linux,
    /// `windows` with Windows.
    Windows,
    /// `ios` with an iPhone.
    Ios,
    /// Android.
    Android,
    /// Anything else.
    Unknown,
}

/// Commands that need the approved surface, on every desktop platform.
const HOST_COMMANDS: &[&str] = &[
    "agent.cli.claude.run.v1",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "desktop.stream",
    "fs.listDir",
    "mcp.tools.call.v1",
    "screen.snapshot",
    name::EXEC_APPROVALS_GET,
    name::EXEC_APPROVALS_SET,
    name::RUN,
    name::RUN_PREPARE,
    name::WHICH,
    "terminal.upload",
];

#[rustfmt::skip]
const MAC: &[&str] = &[
    "calendar.events", "camera.list", "camera.ptz.status", "canvas.eval", "canvas.hide", "canvas.navigate",
    "canvas.present", "canvas.snapshot", "computer.act", "contacts.search", "device.apps", "device.info",
    "device.status", "location.get", "motion.activity", "motion.pedometer", "photos.latest", "reminders.list",
    "system.notify",
];
const LINUX: &[&str] = &["computer.act", "system.notify"];
const WINDOWS: &[&str] =
    &["camera.list", "computer.act", "device.info", "device.status", "location.get", "system.notify"];
#[rustfmt::skip]
const IOS: &[&str] = &[
    "calendar.events", "camera.list", "contacts.search", "device.info", "device.status", "location.get",
    "motion.activity", "motion.pedometer", "photos.latest", "reminders.list", "system.notify", "watch.notify",
    "watch.status",
];
#[rustfmt::skip]
const ANDROID: &[&str] = &[
    "calendar.events", "callLog.search", "camera.list", "contacts.search", "device.apps", "device.health",
    "device.info", "device.permissions", "device.status", "location.get", "mobile.ui.act", "mobile.ui.observe",
    "motion.activity", "motion.pedometer", "notifications.actions", "notifications.list", "photos.latest",
    "reminders.list", "system.notify",
];
const UNKNOWN: &[&str] = &["camera.list", "location.get", "system.notify"];

/// Commands that an approver of the surface needs `operator.admin` for: whoever has mouse and keyboard can run anything, so
/// `computer.act` is among them (stricter than the original).
const ADMIN_COMMANDS: &[&str] =
    &[name::RUN, name::RUN_PREPARE, name::WHICH, "computer.act", "fs.listDir", "terminal.upload"];
/// Prefixes of the same.
const ADMIN_PREFIXES: &[&str] = &["browser.proxy", name::EXEC_APPROVALS];

/// Tells the platform from what the client says; a repaired version number is not a change.
pub fn platform(platform: &str, device_family: &str) -> Platform {
    let (platform, family) = (normalised(platform), normalised(device_family));
    let android = platform.starts_with("android") && family == "android";
    match (platform.as_str(), family.as_str()) {
        ("", family) if family == "mac" || family.starts_with("mac ") => Platform::Mac,
        (name, "mac") if is_macos(name) => Platform::Mac,
        ("linux", "linux") => Platform::Linux,
        ("windows", "windows") => Platform::Windows,
        (name, "iphone") if name == "ios" || name.starts_with("ios ") => Platform::Ios,
        _ if android => Platform::Android,
        _ => Platform::Unknown,
    }
}

/// `macos`, or `macos` with up to three numbers.
fn is_macos(platform: &str) -> bool {
    let Some(rest) = platform.strip_prefix("macos") else { return false };
    if rest.is_empty() {
        return true;
    }
    rest.strip_prefix(' ').is_some_and(|version| {
        let parts: Vec<&str> = version.split('.').collect();
        parts.len() <= 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// The owner's `gateway.nodes.commands` lists; deny wins.
#[derive(Clone, Debug, Default)]
pub struct OwnerLists {
    /// Also allowed, dangerous ones included.
    pub allow: Vec<String>,
    /// Never allowed.
    pub deny: Vec<String>,
}

impl OwnerLists {
    fn allows(&self, command: &str) -> bool {
        self.allow.iter().any(|allowed| allowed.trim() == command)
    }

    fn denies(&self, command: &str) -> bool {
        self.deny.iter().any(|denied| denied.trim() == command)
    }
}

fn defaults(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::Mac => MAC,
        Platform::Linux => LINUX,
        Platform::Windows => WINDOWS,
        Platform::Ios => IOS,
        Platform::Android => ANDROID,
        Platform::Unknown => UNKNOWN,
    }
}

fn has_host_commands(platform: Platform) -> bool {
    matches!(platform, Platform::Mac | Platform::Linux | Platform::Windows)
}

/// Whether a node of this platform may ever serve `command`: what its declared list is cut to.
pub fn may_declare(platform: Platform, owner: &OwnerLists, command: &str) -> bool {
    !owner.denies(command)
        && (defaults(platform).contains(&command)
            || (has_host_commands(platform) && HOST_COMMANDS.contains(&command))
            || owner.allows(command))
}

/// Why a command is not forwarded, in the original's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// Not in the allowlist of this node.
    NotAllowlisted,
    /// The node declared nothing.
    NothingDeclared,
    /// The node did not declare it.
    NotDeclared,
}

impl NotAllowed {
    /// `details.reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAllowlisted => "command not allowlisted",
            Self::NothingDeclared => "node did not declare commands",
            Self::NotDeclared => "command not declared by node",
        }
    }
}

/// Whether `command` may be forwarded to a node with this approved surface and live declaration.
///
/// # Errors
/// The first reason, in the order of spec exec g.3.
pub fn check(
    platform: Platform,
    owner: &OwnerLists,
    approved: &[String],
    declared: &[String],
    command: &str,
) -> Result<(), NotAllowed> {
    let is_approved = approved.iter().any(|name| name == command);
    let plain = defaults(platform).contains(&command) || owner.allows(command);
    let host = has_host_commands(platform) && HOST_COMMANDS.contains(&command) && is_approved;
    if owner.denies(command) || !(plain || host) {
        return Err(NotAllowed::NotAllowlisted);
    }
    if declared.is_empty() {
        return Err(NotAllowed::NothingDeclared);
    }
    // Approved too: a command added at a reconnect stays out of reach until it is approved (A42).
    if !declared.iter().any(|name| name == command) || !is_approved {
        return Err(NotAllowed::NotDeclared);
    }
    Ok(())
}

/// Scopes that an approver of a surface with these commands needs. Source: spec gateway §5.
pub fn required_approve_scopes(commands: &[String]) -> Vec<&'static str> {
    if commands.iter().any(|command| is_admin_command(command)) {
        vec![super::scope::PAIRING, super::scope::ADMIN]
    } else if commands.is_empty() {
        vec![super::scope::PAIRING]
    } else {
        vec![super::scope::PAIRING, super::scope::WRITE]
    }
}

fn is_admin_command(command: &str) -> bool {
    ADMIN_COMMANDS.contains(&command) || ADMIN_PREFIXES.iter().any(|prefix| command.starts_with(prefix))
}

/// Commands that `node.invoke` forwards for `operator.admin` only. Source: spec gateway §4.
pub fn invoke_needs_admin(command: &str) -> bool {
    command.starts_with("browser.proxy") || matches!(command, "fs.listDir" | "terminal.upload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_and_family_must_agree() {
        for (name, family, expected) in [
            ("macos", "Mac", Platform::Mac),
            ("macOS 15.5.1", "Mac", Platform::Mac),
            ("", "Mac mini", Platform::Mac),
            ("macos", "", Platform::Unknown),
            ("macos evil", "Mac", Platform::Unknown),
            ("darwin", "Mac", Platform::Unknown),
            ("linux", "Linux", Platform::Linux),
            ("linux", "", Platform::Unknown),
            ("haiku", "Haiku", Platform::Unknown),
        ] {
            assert_eq!(platform(name, family), expected, "{name} {family}");
        }
    }

    #[test]
    fn declared_approved_and_allowed_must_meet() {
        let run = vec![name::RUN.to_owned()];
        let none = Vec::new();
        let owner = OwnerLists::default();
        let denied = OwnerLists { allow: run.clone(), deny: run.clone() };
        assert_eq!(check(Platform::Linux, &owner, &run, &run, name::RUN), Ok(()));
        assert_eq!(check(Platform::Linux, &owner, &none, &run, name::RUN), Err(NotAllowed::NotAllowlisted));
        assert_eq!(check(Platform::Linux, &owner, &run, &none, name::RUN), Err(NotAllowed::NothingDeclared));
        assert_eq!(check(Platform::Unknown, &owner, &run, &run, name::RUN), Err(NotAllowed::NotAllowlisted));
        assert_eq!(check(Platform::Linux, &denied, &run, &run, name::RUN), Err(NotAllowed::NotAllowlisted));
        assert_eq!(check(Platform::Linux, &owner, &run, &run, "SYSTEM.RUN"), Err(NotAllowed::NotAllowlisted));
    }
}
