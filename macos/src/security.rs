//! Security: whose signature a running program carries (mac-app §7.2). The values of Core Foundation are those of
//! Foundation under other names, and are released like them.

use crate::foundation::{self, NSDictionary, NSNumber};
use crate::library::Missing;
use crate::runtime::{self, Id, NIL, NSObject, Owned};
use std::fmt;

functions! {
    /// Code signing.
    Functions from Security {
        fn SecCodeCopySelf(flags: u32, code: *mut Id) -> i32;
        fn SecCodeCopyGuestWithAttributes(host: Id, attributes: Id, flags: u32, guest: *mut Id) -> i32;
        fn SecRequirementCreateWithString(text: Id, flags: u32, requirement: *mut Id) -> i32;
        fn SecCodeCheckValidity(code: Id, flags: u32, requirement: Id) -> i32;
        fn SecCodeCopySigningInformation(code: Id, flags: u32, information: *mut Id) -> i32;
        fn SecTaskCreateFromSelf(allocator: Id) -> Id;
        fn SecTaskCopyValueForEntitlement(task: Id, entitlement: Id, error: *mut Id) -> Id;
    }
}

variables! { Security {
    kSecGuestAttributeAudit: Id;
    kSecCodeInfoIdentifier: Id;
    kSecCodeInfoTeamIdentifier: Id;
    kSecCodeInfoFlags: Id;
    kSecCodeInfoStatus: Id;
    kSecCodeInfoEntitlementsDict: Id;
} }

/// `kSecCSSigningInformation` | `kSecCSRequirementInformation` | `kSecCSDynamicInformation`: team and flags, entitlements,
/// and the kernel's status.
const INFORMATION: u32 = 2 | 4 | 8;
/// `errSecCSUnsigned`
const UNSIGNED: i32 = -67062;
/// `errSecCSNoSuchCode`
const NO_SUCH_CODE: i32 = -67065;
/// Security's way to say the kernel's "no such process": 100000 and the number.
const NO_SUCH_PROCESS: i32 = 100_003;
const GET_TASK_ALLOW: &str = "com.apple.security.get-task-allow";

/// An audit token: which process, and which image of it. Handed over whole, never parsed.
pub type AuditToken = [u8; 32];

/// What a signature says, after it was found valid for the running code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Signing identifier.
    pub identifier: Option<String>,
    /// The team's id; none for ad hoc and self-signed.
    pub team: Option<String>,
    /// `kSecCodeInfoFlags`
    pub flags: u32,
    /// `kSecCodeInfoStatus`
    pub status: u32,
    /// Whether it lets any program of its user look into it.
    pub lets_debug: bool,
}

/// Why a signature is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityError {
    /// This system has no code signatures.
    Missing(Missing),
    /// There is none.
    Unsigned,
    /// There is no such process any more.
    Gone,
    /// Security's status, and of what.
    Failed(&'static str, i32),
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Unsigned => f.write_str("the program is not signed"),
            Self::Gone => f.write_str("the program has ended"),
            Self::Failed(what, status) => write!(f, "{what} failed with status {status}"),
        }
    }
}

impl std::error::Error for SecurityError {}

impl From<Missing> for SecurityError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

fn check(what: &'static str, status: i32) -> Result<(), SecurityError> {
    match status {
        0 => Ok(()),
        UNSIGNED => Err(SecurityError::Unsigned),
        NO_SUCH_CODE | NO_SUCH_PROCESS => Err(SecurityError::Gone),
        status => Err(SecurityError::Failed(what, status)),
    }
}

/// The object that a function wrote to its last argument, when its status is good.
///
/// # Safety
/// `call` writes nil or an object that is ours to release.
unsafe fn copied(what: &'static str, call: impl FnOnce(*mut Id) -> i32) -> Result<Owned, SecurityError> {
    let mut object = NIL;
    let status = call(&raw mut object);
    // SAFETY: by the caller's promise.
    let object = unsafe { Owned::adopt(object) };
    check(what, status)?;
    object.ok_or(SecurityError::Failed(what, 0))
}

/// A program that runs.
pub struct Code(Owned);

impl Code {
    /// This one.
    ///
    /// # Errors
    /// See [`SecurityError`].
    pub fn own() -> Result<Self, SecurityError> {
        let functions = Functions::get()?;
        // SAFETY: flags and a place for one object, which is ours then.
        unsafe { copied("SecCodeCopySelf", |code| (functions.SecCodeCopySelf)(0, code)) }.map(Self)
    }

    /// The one that this token names.
    ///
    /// # Errors
    /// See [`SecurityError`].
    pub fn of_process(token: &AuditToken) -> Result<Self, SecurityError> {
        let functions = Functions::get()?;
        let key = kSecGuestAttributeAudit()?;
        runtime::pooled(|| {
            let token = foundation::data(token);
            if token.is_null() || key.is_null() {
                return Err(SecurityError::Failed("making the attributes", 0));
            }
            // SAFETY: live objects of this pool; one key, one value; a place for one object, which is ours then.
            unsafe {
                let attributes = NSDictionary::with_objects(&raw const token, &raw const key, 1);
                copied("SecCodeCopyGuestWithAttributes", |code| {
                    (functions.SecCodeCopyGuestWithAttributes)(NIL, attributes, 0, code)
                })
            }
        })
        .map(Self)
    }

    /// Checks the running code against its signature and the kernel's record, then against `requirement`, in Apple's
    /// language for that; nothing else is asked of it if there is none. Milliseconds, with reads from disk.
    ///
    /// # Errors
    /// It is not valid, or not what is required.
    pub fn check(&self, requirement: Option<&str>) -> Result<(), SecurityError> {
        let functions = Functions::get()?;
        runtime::pooled(|| {
            let required = requirement.map(|text| {
                let text = foundation::string(text);
                // SAFETY: a live string, and a place for one object, which is ours then.
                unsafe {
                    copied("SecRequirementCreateWithString", |made| {
                        (functions.SecRequirementCreateWithString)(text, 0, made)
                    })
                }
            });
            let required = required.transpose()?;
            let required = required.as_ref().map_or(NIL, Owned::id);
            // SAFETY: live code, and a requirement or nil.
            check("SecCodeCheckValidity", unsafe { (functions.SecCodeCheckValidity)(self.0.id(), 0, required) })
        })
    }

    /// What its signature says. Only worth something after [`Code::check`].
    ///
    /// # Errors
    /// See [`SecurityError`].
    pub fn signature(&self) -> Result<Signature, SecurityError> {
        let functions = Functions::get()?;
        let keys = [
            kSecCodeInfoIdentifier()?,
            kSecCodeInfoTeamIdentifier()?,
            kSecCodeInfoFlags()?,
            kSecCodeInfoStatus()?,
            kSecCodeInfoEntitlementsDict()?,
        ];
        runtime::pooled(|| {
            // SAFETY: live code, and a place for one object, which is ours then.
            let information = unsafe {
                copied("SecCodeCopySigningInformation", |made| {
                    (functions.SecCodeCopySigningInformation)(self.0.id(), INFORMATION, made)
                })
            }?;
            // SAFETY: a dictionary; the keys are strings that live for ever.
            let [identifier, team, flags, status, entitlements] =
                keys.map(|key| unsafe { NSDictionary::object_for(information.id(), key) });
            // SAFETY: values of that dictionary, alive as long as it, or nil; each is looked at as what it is only.
            unsafe {
                Ok(Signature {
                    identifier: foundation::text(identifier),
                    team: foundation::text(team),
                    flags: number(flags),
                    status: number(status),
                    lets_debug: is_dictionary(entitlements)
                        && number(NSDictionary::object_for(entitlements, foundation::string(GET_TASK_ALLOW))) != 0,
                })
            }
        })
    }
}

/// Whether this program has an entitlement that is a yes.
pub fn is_entitled(entitlement: &str) -> bool {
    let Ok(functions) = Functions::get() else { return false };
    runtime::pooled(|| {
        // SAFETY: the default allocator; what these functions give is ours to release, and looked at as what it is only.
        unsafe {
            let Some(task) = Owned::adopt((functions.SecTaskCreateFromSelf)(NIL)) else { return false };
            let name = foundation::string(entitlement);
            let value = Owned::adopt((functions.SecTaskCopyValueForEntitlement)(task.id(), name, std::ptr::null_mut()));
            value.is_some_and(|value| number(value.id()) != 0)
        }
    })
}

/// The bits of an `NSNumber`; 0 of nil and of anything else.
///
/// # Safety
/// `object` is nil or alive.
unsafe fn number(object: Id) -> u32 {
    // SAFETY: alive; the value of numbers only.
    unsafe {
        if NSObject::is_kind_of_class(object, NSNumber::class()).is() {
            NSNumber::integer_value(object) as u32
        } else {
            0
        }
    }
}

/// # Safety
/// `object` is nil or alive.
unsafe fn is_dictionary(object: Id) -> bool {
    // SAFETY: as the caller promises.
    unsafe { NSObject::is_kind_of_class(object, NSDictionary::class()).is() }
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_nobody_is_signed() {
        assert!(matches!(Code::own().err(), Some(SecurityError::Missing(_))));
        assert!(matches!(Code::of_process(&[0; 32]).err(), Some(SecurityError::Missing(_))));
        assert!(!is_entitled("com.apple.developer.usernotifications.time-sensitive"));
    }

    #[test]
    fn statuses_tell_what_is_gone_from_what_is_wrong() {
        assert_eq!(check("x", 0), Ok(()));
        assert_eq!(check("x", UNSIGNED), Err(SecurityError::Unsigned));
        assert_eq!(check("x", NO_SUCH_CODE), Err(SecurityError::Gone));
        assert_eq!(check("x", -67050), Err(SecurityError::Failed("x", -67050)));
    }
}
