//! Who signed the program at the other end of a socket (mac-app §7.2).
//!
//! Only macOS has code signatures that the kernel vouches for. Elsewhere nobody is signed, so what
//! asks for a signature is refused unless its own rule has a way for that.

use super::stream::Stream;
use std::fmt;

/// The signature of a running program, checked against the kernel's own record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeIdentity {
    /// Apple's id of the team that signed it, ten capital letters and digits.
    pub team: String,
    /// Signing identifier: of an app its bundle id.
    pub identifier: String,
}

/// Why it is not known who signed a peer. Each of them refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// This system has no code signatures.
    NoSignatures,
    /// Nobody's signature, or nobody's in particular (ad hoc, self-signed).
    Unsigned,
    /// A signature that does not hold, or a program that could be made to do another's will; what is wrong with it.
    Untrustworthy(String),
    /// The peer ended, or became another program while it was looked at.
    Gone,
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignatures => f.write_str("this system has no code signatures"),
            Self::Unsigned => f.write_str("the program is not signed by a team"),
            Self::Untrustworthy(what) => write!(f, "the program's signature is not good enough: {what}"),
            Self::Gone => f.write_str("the program ended or became another one"),
        }
    }
}

impl std::error::Error for Unidentified {}

/// Who signed the program at the other end of `stream`, now. Slow on macOS (milliseconds), so called on the peer's thread.
///
/// # Errors
/// See [`Unidentified`].
pub fn of_peer(_stream: &Stream) -> Result<CodeIdentity, Unidentified> {
    Err(Unidentified::NoSignatures)
}
