//! Keys, tokens, signatures, the HMAC envelope, the replay guard and the secret type.

pub mod device;
pub mod envelope;
pub mod random;
pub mod replay;
pub mod secret;
