//! A connection to a gateway, ours or the official one.

pub mod gateway_key;
