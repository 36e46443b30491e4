//! The system's random numbers, and ids and tokens made of them.

use super::secret::Secret;
use data_encoding::BASE64URL_NOPAD;
use std::cell::RefCell;

/// Bytes of the exec socket's token. Source: spec exec a.6.
pub const SOCKET_TOKEN_BYTES: usize = 24;
/// Bytes of a shared or device token. Source: spec gateway §3.
pub const TOKEN_BYTES: usize = 32;

/// Fills `bytes`; ends the process if the system has no random numbers, since nothing that we
/// could do then would be safe.
pub fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        crate::log!("openclaw", "the system gives no random numbers; stopping");
        std::process::abort();
    }
}

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A token of `N` random bytes, base64url without padding.
pub fn token<const N: usize>() -> Secret {
    Secret::new(BASE64URL_NOPAD.encode(&bytes::<N>()))
}

thread_local! {
    /// Random bytes fetched ahead, and how many of them are used up.
    static AHEAD: RefCell<([u8; AHEAD_BYTES], usize)> = const { RefCell::new(([0; AHEAD_BYTES], AHEAD_BYTES)) };
}

/// Bytes that one system call fetches for ids and masks.
const AHEAD_BYTES: usize = 256;

/// `N` random bytes for what is not secret: ids, and the masks of frames. Each is handed out once;
/// asking the system for every frame would cost more than the frame.
pub fn public_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= AHEAD_BYTES) };
    AHEAD.with_borrow_mut(|(ahead, used)| {
        if *used + N > ahead.len() {
            fill(ahead);
            *used = 0;
        }
        let taken = ahead.get(*used..).and_then(|rest| rest.first_chunk()).copied();
        *used += N;
        taken.unwrap_or_else(bytes)
    })
}

/// A random UUID (version 4), lower case.
pub fn uuid() -> String {
    let mut raw = public_bytes::<16>();
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut raw;
    *version = (*version & 0x0F) | 0x40;
    *variant = (*variant & 0x3F) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&raw);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_tokens_have_their_forms() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(id, uuid());
        assert_eq!(token::<SOCKET_TOKEN_BYTES>().expose().len(), 32);
        assert_eq!(token::<TOKEN_BYTES>().expose().len(), 43);
    }
}
