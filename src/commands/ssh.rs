//! `--ssh` and what belongs to it, for every command that speaks to a gateway.

use super::service::Kept;
use crate::client::Tunnel;
use crate::client::tunnel::Target;
use std::io;
use std::path::{Path, PathBuf, absolute};

/// The way that the flags describe, if they do; `port` is the gateway's over there.
///
/// # Errors
/// A sentence.
pub fn tunnel(
    target: Option<Target>,
    identity: Option<&Path>,
    config: Option<&Path>,
    port: u16,
) -> Result<Option<Tunnel>, String> {
    match target {
        Some(target) => Tunnel::new(target, port, identity, config).map(Some),
        None if identity.is_some() || config.is_some() => {
            Err("--ssh-identity and --ssh-config are for --ssh; say that too".to_owned())
        }
        None => Ok(None),
    }
}

/// Has a service started with the same flags; it stands in another directory.
///
/// # Errors
/// There is no current directory.
pub fn keep(
    kept: &mut Kept,
    target: Option<Target>,
    identity: Option<PathBuf>,
    config: Option<PathBuf>,
) -> io::Result<()> {
    kept.option("--ssh", target.map(|target| target.to_string()));
    kept.option("--ssh-identity", identity.map(absolute).transpose()?);
    kept.option("--ssh-config", config.map(absolute).transpose()?);
    Ok(())
}
