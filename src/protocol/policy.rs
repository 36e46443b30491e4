//! The words of the exec policy, as the approvals document and the wire spell them.
//! Source: spec exec (a.2), (c).

use serde::{Deserialize, Serialize};

/// What may run. Ordered from strict to loose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Nothing runs.
    Deny,
    /// What the allowlist names.
    Allowlist,
    /// Anything.
    Full,
}

/// When a person is asked. Ordered from loose to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Never.
    Off,
    /// When the allowlist does not name the command.
    OnMiss,
    /// Before every command.
    Always,
}

/// What a command that runs for an agent is kept from. Ordered from loose to strict. ours
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// Nothing.
    None,
    /// Our state directory and sockets.
    State,
    /// Also writing anywhere but below the working directory and the temporary folder.
    Workspace,
    /// Also the network.
    Offline,
}

impl Fence {
    /// The word in the approvals document.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::State => "state",
            Self::Workspace => "workspace",
            Self::Offline => "offline",
        }
    }

    /// The exact word, and nothing like it.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "state" => Some(Self::State),
            "workspace" => Some(Self::Workspace),
            "offline" => Some(Self::Offline),
            _ => None,
        }
    }
}

/// A person's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// This once.
    AllowOnce,
    /// This once, and put it on the allowlist.
    AllowAlways,
    /// No.
    Deny,
}

impl Decision {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow-once",
            Self::AllowAlways => "allow-always",
            Self::Deny => "deny",
        }
    }

    /// The exact word, and nothing like it.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "allow-once" => Some(Self::AllowOnce),
            "allow-always" => Some(Self::AllowAlways),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

impl Security {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allowlist => "allowlist",
            Self::Full => "full",
        }
    }

    /// The exact word, and nothing like it.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "deny" => Some(Self::Deny),
            "allowlist" => Some(Self::Allowlist),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

impl Ask {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnMiss => "on-miss",
            Self::Always => "always",
        }
    }

    /// The exact word, and nothing like it.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "on-miss" => Some(Self::OnMiss),
            "always" => Some(Self::Always),
            _ => None,
        }
    }
}

/// A refusal of a command: what the caller is told and which event reason goes with it.
/// Source: spec exec (b.3), (c.4), (e.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Wire code: `INVALID_REQUEST`, `UNAVAILABLE`, `SYSTEM_RUN_DENIED`.
    pub code: &'static str,
    /// The sentence for the caller; says what to do where something can be done.
    pub message: String,
    /// Event reason, `None` where the original sends no event (`INVALID_REQUEST`).
    pub reason: Option<&'static str>,
}

impl Refusal {
    /// A malformed request: no event goes out.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: "INVALID_REQUEST", message: message.into(), reason: None }
    }

    /// A refusal by policy or person.
    pub fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: "SYSTEM_RUN_DENIED", message: message.into(), reason: Some(reason) }
    }
}
