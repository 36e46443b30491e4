//! `--ssh` and what belongs to it, for every command that speaks to a gateway.

use super::service::Kept;
use crate::client::tunnel::Target;
use crate::client::{Endpoint, Tunnel};
use crate::state::config::{Config, GatewayMode};
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

/// The gateway elsewhere that the settings name: behind ssh, or where a tunnel of the owner's ends. Source: spec mac-app §1.8.
///
/// # Errors
/// A sentence: it cannot be reached, or must not be.
pub fn configured(config: &Config) -> Result<Option<Endpoint>, String> {
    let remote = &config.remote;
    if config.mode != GatewayMode::Remote {
        return Ok(None);
    }
    let is_ssh = !remote.is_direct && remote.ssh_target.is_some();
    let wrong = |key: &str, why: &dyn std::fmt::Display| format!("gateway.remote.{key}: {why}");
    let (Some(target), true) = (&remote.ssh_target, is_ssh) else {
        let url = remote.url.as_deref().map(Endpoint::from_url).transpose();
        return url.map_err(|error| wrong("url", &error));
    };
    let target = target.parse().map_err(|error: String| wrong("sshTarget", &error))?;
    // Of the URL only the port counts: the connection is made over there.
    let authority = remote.url.as_deref().and_then(|url| Some(url.split_once("://")?.1.trim_end_matches('/')));
    let port = authority.and_then(|authority| authority.rsplit_once(':')?.1.parse().ok()).unwrap_or(config.port);
    let tunnel = Tunnel::new(target, port, remote.ssh_identity.as_deref(), None);
    tunnel.map(|tunnel| Some(Endpoint::Ssh(tunnel))).map_err(|error| wrong("sshTarget", &error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Environment, StateDir};
    use serde_json::{Value, json};

    fn configured_by(gateway: &Value) -> Result<Option<String>, String> {
        let directory = std::env::temp_dir().join(format!("oc-r-{}", crate::identity::random::uuid()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("openclaw.json"), json!({"gateway": gateway}).to_string()).unwrap();
        let environment =
            Environment { home: Some("/home/me".into()), state_dir: Some(directory.clone()), ..Environment::default() };
        let state = StateDir::locate(&environment).unwrap();
        let config = Config::inspect(&state, &environment).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        configured(&config).map(|place| place.map(|place| place.pin_name()))
    }

    /// Source: spec mac-app §1.6, §1.8.
    #[test]
    fn the_settings_name_a_gateway_elsewhere() {
        for (gateway, place) in [
            (json!({}), None),
            (json!({"mode": "local", "remote": {"url": "ws://127.0.0.1:9", "sshTarget": "me@mac"}}), None),
            (json!({"mode": "remote"}), None),
            (json!({"remote": {"url": ""}}), None),
            (json!({"remote": {"url": "ws://127.0.0.1:9"}}), Some("loopback:9")),
            (json!({"mode": "remote", "remote": {"sshTarget": "me@mac"}}), Some("ssh:[mac]::18789")),
            (json!({"port": 7, "mode": "remote", "remote": {"sshTarget": "me@mac:2222"}}), Some("ssh:[mac]:2222:7")),
            (json!({"remote": {"url": "wss://mac.example:443/", "sshTarget": "me@mac"}}), Some("ssh:[mac]::443")),
            (
                json!({"remote": {"url": "ws://127.0.0.1:9", "sshTarget": "me@mac", "transport": "direct"}}),
                Some("loopback:9"),
            ),
        ] {
            assert_eq!(configured_by(&gateway).unwrap().as_deref(), place, "{gateway}");
        }
    }

    #[test]
    fn what_would_be_in_clear_on_a_network_is_refused_with_the_way_out() {
        for (url, why) in [
            ("ws://203.0.113.7:18789", "--ssh USER@HOST"),
            ("ws://192.168.1.2:18789", "--ssh USER@HOST"),
            ("wss://gateway.example", "no TLS here"),
        ] {
            let error = configured_by(&json!({"remote": {"url": url, "transport": "direct"}})).unwrap_err();
            assert!(error.starts_with("gateway.remote.url: ") && error.contains(why), "{error}");
        }
        let error = configured_by(&json!({"mode": "remote", "remote": {"sshTarget": "-oProxyCommand=x"}})).unwrap_err();
        assert!(error.starts_with("gateway.remote.sshTarget: "), "{error}");
    }
}
