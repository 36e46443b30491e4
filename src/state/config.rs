//! The owner's `openclaw.json`, as far as it concerns us. Read as JSON5, never rewritten but by [`rotate_token`]; unknown
//! keys are ignored; what we would have to understand but do not support stops the start with the
//! key's name. Source: DESIGN "State", issue "Drop-in spelling".

use super::{Care, DocumentLock, Environment, StateDir, StateError, files, json5, store};
use crate::identity::random;
use crate::identity::secret::Secret;
use crate::limits;
use crate::protocol::policy::{Ask, Security};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `gateway.port` when nothing says otherwise. Source: spec gateway §1.
pub const DEFAULT_PORT: u16 = 18_789;

/// Where the gateway of this machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayMode {
    /// Here.
    Local,
    /// Elsewhere; we reach it through a tunnel.
    Remote,
}

/// The one secret that admits operators and new devices.
pub enum SharedSecret {
    /// `auth.token` in `connect`.
    Token(Secret),
    /// `auth.password` in `connect`.
    Password(Secret),
}

impl SharedSecret {
    /// How it is named in messages: which kind, never what.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Password(_) => "password",
        }
    }

    /// Whether both are of one kind and equal.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) | (Self::Password(one), Self::Password(other)) => {
                one.matches(other.expose())
            }
            _ => false,
        }
    }
}

/// Where the shared secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// `OPENCLAW_GATEWAY_TOKEN` or `OPENCLAW_GATEWAY_PASSWORD`: fixed as long as the process lives.
    Environment,
    /// `gateway.auth` in the owner's file.
    Config,
    /// [`StateDir::gateway_token`].
    TokenFile,
}

/// `gateway.remote`. Source: spec mac-app §1.8.
pub struct Remote {
    /// `ws://…`; the client checks it.
    pub url: Option<String>,
    /// `transport` is `direct`: the URL is connected to, and no ssh is made use of.
    pub is_direct: bool,
    /// `sshTarget`, as it is written.
    pub ssh_target: Option<String>,
    /// `sshIdentity`: the key file for it.
    pub ssh_identity: Option<PathBuf>,
    /// The other gateway's shared token.
    pub token: Option<Secret>,
}

/// What the config file and the environment say together.
pub struct Config {
    /// `gateway.port`, or `OPENCLAW_GATEWAY_PORT`.
    pub port: u16,
    /// `gateway.mode`.
    pub mode: GatewayMode,
    /// `gateway.auth`, the environment, or the token that we made. Always there after
    /// [`Config::load`].
    pub shared_secret: Option<SharedSecret>,
    /// Where that was found.
    pub secret_origin: SecretOrigin,
    /// `gateway.nodes.pairing.autoApproveLocal`; true when absent.
    pub auto_approve_local: bool,
    /// `gateway.nodes.commands.allow`.
    pub allowed_commands: Vec<String>,
    /// `gateway.nodes.commands.deny`; wins over `allow`.
    pub denied_commands: Vec<String>,
    /// `gateway.controlUi.allowedOrigins`.
    pub allowed_origins: Vec<String>,
    /// `gateway.remote`.
    pub remote: Remote,
    /// `tools.exec`.
    pub exec: ExecConfig,
}

/// `tools.exec`, as far as it concerns commands that run here. Source: spec exec (c.2), (d.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// `safeBins`, names in lower case; none = the built-in list.
    pub safe_bins: Option<Vec<String>>,
    /// `safeBinTrustedDirs`, next to the built-in ones; absolute.
    pub safe_bin_trusted_dirs: Vec<PathBuf>,
    /// `safeBinProfiles`, by name in lower case.
    pub safe_bin_profiles: BTreeMap<String, SafeBinProfile>,
    /// `strictInlineEval`; false when absent.
    pub strict_inline_eval: bool,
    /// The most that may run: the stricter of `security` and what `mode` stands for. For
    /// `EffectivePolicy::tightened_by`, as `ask`.
    pub security: Option<Security>,
    /// The least that is asked: the stricter of `ask` and what `mode` stands for.
    pub ask: Option<Ask>,
}

/// What arguments a safe bin of the owner's may have. Source: spec exec (d.6) "Custom profiles".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeBinProfile {
    /// `minPositional`; 0 when absent.
    pub min_positional: usize,
    /// `maxPositional`, never less than `min_positional`; none = any number.
    pub max_positional: Option<usize>,
    /// `allowedValueFlags`: options that take a value, `-n` or `--name`.
    pub allowed_value_flags: Vec<String>,
    /// `deniedFlags`.
    pub denied_flags: Vec<String>,
}

impl Config {
    /// For the one who runs the gateway: what is missing is made. No file: one is written with a
    /// new token. A file without a token: the new token goes to [`StateDir::gateway_token`].
    ///
    /// # Errors
    /// The file is unsafe or broken, a key or variable is not supported or means nothing, or the
    /// system refused.
    pub fn load(state: &StateDir, environment: &Environment) -> Result<Self, StateError> {
        let mut config = Self::read(state, environment, Care::Document)?;
        if config.shared_secret.is_none() {
            make_token(state, config.port)?;
            config = Self::read(state, environment, Care::Document)?;
        }
        config.shared_secret()?;
        Ok(config)
    }

    /// For everybody else: creates and repairs nothing; [`Config::shared_secret`] may be an error
    /// afterwards.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn inspect(state: &StateDir, environment: &Environment) -> Result<Self, StateError> {
        Self::read(state, environment, Care::Inspect)
    }

    /// The shared secret.
    ///
    /// # Errors
    /// There is none yet.
    pub fn shared_secret(&self) -> Result<&SharedSecret, StateError> {
        self.shared_secret.as_ref().ok_or(StateError::NoSharedSecret)
    }

    /// The shared secret as it stands on disk now, whatever the environment says.
    ///
    /// # Errors
    /// As [`Config::inspect`], or there is none.
    pub fn stored_secret(state: &StateDir) -> Result<SharedSecret, StateError> {
        Self::inspect(state, &Environment::default())?.shared_secret.ok_or(StateError::NoSharedSecret)
    }

    fn read(state: &StateDir, environment: &Environment, care: Care) -> Result<Self, StateError> {
        let path = state.config();
        let document = match files::read(path, care)? {
            Some(contents) => {
                json5::parse(contents.text(path)?).map_err(|error| StateError::broken(path, error.to_string()))?
            }
            None => json!({}),
        };
        let root = Section { path, name: String::new(), value: Some(&document) };
        root.object()?;
        let gateway = root.section("gateway")?;
        refuse_unsupported(&root, &gateway)?;
        let nodes = gateway.section("nodes")?;
        let commands = nodes.section("commands")?;
        let remote = gateway.section("remote")?;
        let port = gateway.port()?;
        let (secret, secret_origin) = match shared_secret(&gateway.section("auth")?, environment)? {
            Some(secret) => {
                let variable = match &secret {
                    SharedSecret::Token(_) => &environment.gateway_token,
                    SharedSecret::Password(_) => &environment.gateway_password,
                };
                let origin = if variable.is_some() { SecretOrigin::Environment } else { SecretOrigin::Config };
                (Some(secret), origin)
            }
            None => (made_token(state)?, SecretOrigin::TokenFile),
        };
        Ok(Self {
            port: environment.gateway_port.or(port).unwrap_or(DEFAULT_PORT),
            // Source: spec mac-app §1.6; what the official app keeps elsewhere does not count.
            mode: match gateway.text("mode")? {
                None if remote.text("url")?.is_some_and(|url| !url.is_empty()) => GatewayMode::Remote,
                None | Some("local") => GatewayMode::Local,
                Some("remote") => GatewayMode::Remote,
                Some(_) => return Err(gateway.wrong("mode", "is neither `local` nor `remote`")),
            },
            shared_secret: secret,
            secret_origin,
            auto_approve_local: nodes.section("pairing")?.flag("autoApproveLocal")?.unwrap_or(true),
            allowed_commands: commands.texts("allow")?,
            denied_commands: commands.texts("deny")?,
            allowed_origins: allowed_origins(&gateway.section("controlUi")?)?,
            exec: exec_config(&root.section("tools")?.section("exec")?)?,
            remote: Remote {
                url: filled(remote.text("url")?),
                is_direct: remote.text("transport")? == Some("direct"),
                ssh_target: filled(remote.text("sshTarget")?),
                ssh_identity: filled(remote.text("sshIdentity")?).map(|path| match path.strip_prefix("~/") {
                    Some(rest) => environment.home.clone().unwrap_or_default().join(rest),
                    None => path.into(),
                }),
                token: match remote.text("token")? {
                    Some(token) => Some(remote.secret("token", token)?),
                    None => None,
                },
            },
        })
    }
}

/// One object of the config, with its dotted name for errors.
struct Section<'a> {
    path: &'a Path,
    name: String,
    /// `None` when absent.
    value: Option<&'a Value>,
}

impl<'a> Section<'a> {
    fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn wrong(&self, key: &str, what: &str) -> StateError {
        StateError::setting(self.name_of(key), format!("{what} ({})", self.path.display()))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.and_then(|value| value.get(key))
    }

    fn object(&self) -> Result<(), StateError> {
        match self.value {
            None | Some(Value::Object(_)) => Ok(()),
            Some(_) if self.name.is_empty() => Err(StateError::broken(self.path, "it is not an object")),
            Some(_) => {
                Err(StateError::setting(self.name.clone(), format!("is not an object ({})", self.path.display())))
            }
        }
    }

    fn section(&self, key: &str) -> Result<Section<'a>, StateError> {
        let section = Section { path: self.path, name: self.name_of(key), value: self.get(key) };
        section.object()?;
        Ok(section)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, StateError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.contains("${") => Err(self.wrong(
                key,
                "contains `${…}`, which is not supported here; write the text itself or use the environment variable",
            )),
            Some(Value::String(text)) => Ok(Some(text.trim())),
            Some(Value::Object(_)) => {
                Err(self.wrong(key, "is a secret reference, which is not supported here; write the text itself"))
            }
            Some(_) => Err(self.wrong(key, "is not a text")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, StateError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "is neither true nor false")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, StateError> {
        let wrong = || self.wrong(key, "is not a list of texts");
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(ToOwned::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn word<T>(&self, key: &str, from_word: impl Fn(&str) -> Option<T>, wrong: &str) -> Result<Option<T>, StateError> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        from_word(word).map(Some).ok_or_else(|| self.wrong(key, wrong))
    }

    fn count(&self, key: &str) -> Result<Option<usize>, StateError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| self.wrong(key, "is not a number of arguments"))
    }

    fn port(&self) -> Result<Option<u16>, StateError> {
        let Some(value) = self.get("port") else { return Ok(None) };
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
        port.map(Some).ok_or_else(|| self.wrong("port", "is not a port number (0–65535)"))
    }

    /// A secret that means something (A03).
    fn secret(&self, key: &str, text: &str) -> Result<Secret, StateError> {
        check_secret(text).map_err(|what| self.wrong(key, what))?;
        Ok(Secret::new(text.to_owned()))
    }
}

/// What a missing value becomes when somebody turned it into text (A03).
const NOT_SECRETS: [&str; 7] = ["undefined", "null", "none", "nan", "false", "true", "[object object]"];

fn check_secret(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("is empty; write a secret or remove it");
    }
    if NOT_SECRETS.contains(&text.trim().to_ascii_lowercase().as_str()) {
        return Err("is the text of a missing value, not a secret");
    }
    if text.chars().count() < limits::SHARED_SECRET_CHARS {
        return Err("is too short; a secret has at least 8 characters");
    }
    Ok(())
}

/// Keys that would change what the owner believes to be in force.
fn refuse_unsupported(root: &Section<'_>, gateway: &Section<'_>) -> Result<(), StateError> {
    for section in [root, gateway] {
        if section.get("$include").is_some() {
            return Err(section.wrong("$include", "is not supported here; put the settings into the file itself"));
        }
    }
    if has_include(gateway.value) {
        return Err(gateway.wrong("…$include", "is not supported here; put the settings into the file itself"));
    }
    if gateway.get("trustedProxies").is_some() {
        return Err(gateway.wrong("trustedProxies", "is not supported: there is no proxy mode; use an SSH tunnel"));
    }
    if !matches!(gateway.text("bind")?, None | Some("loopback" | "localhost" | "127.0.0.1" | "::1")) {
        return Err(gateway.wrong("bind", "is not loopback; this gateway is local only, use an SSH tunnel"));
    }
    if !matches!(gateway.section("tailscale")?.text("mode")?, None | Some("off")) {
        return Err(gateway.wrong("tailscale.mode", "is not supported: there is no proxy mode; use an SSH tunnel"));
    }
    if gateway.section("tls")?.flag("enabled")? == Some(true) {
        return Err(gateway.wrong("tls.enabled", "is not supported: this gateway is local only and has no TLS"));
    }
    Ok(())
}

fn has_include(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(members)) => {
            members.contains_key("$include") || members.values().any(|member| has_include(Some(member)))
        }
        Some(Value::Array(items)) => items.iter().any(|item| has_include(Some(item))),
        _ => false,
    }
}

fn filled(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// The environment wins over the file; `None` when neither has a secret of the mode.
fn shared_secret(auth: &Section<'_>, environment: &Environment) -> Result<Option<SharedSecret>, StateError> {
    let token = secret_of(auth, "token", "OPENCLAW_GATEWAY_TOKEN", environment.gateway_token.as_ref())?;
    let password = secret_of(auth, "password", "OPENCLAW_GATEWAY_PASSWORD", environment.gateway_password.as_ref())?;
    match auth.text("mode")? {
        Some("token") => Ok(token.map(SharedSecret::Token)),
        Some("password") => match password {
            Some(password) => Ok(Some(SharedSecret::Password(password))),
            None => Err(auth.wrong(
                "mode",
                "is `password` but there is no password; set gateway.auth.password or OPENCLAW_GATEWAY_PASSWORD",
            )),
        },
        None => Ok(token.map(SharedSecret::Token).or(password.map(SharedSecret::Password))),
        Some("none") => Err(auth.wrong("mode", "is `none`: a gateway without a secret is not started; use `token`")),
        Some(_) => Err(auth.wrong("mode", "is not supported; use `token` or `password`")),
    }
}

fn secret_of(
    auth: &Section<'_>,
    key: &str,
    variable: &str,
    from_environment: Option<&Secret>,
) -> Result<Option<Secret>, StateError> {
    let from_file = auth.text(key)?.map(|text| auth.secret(key, text)).transpose()?;
    let Some(secret) = from_environment else { return Ok(from_file) };
    let text = secret.expose_text().trim();
    check_secret(text).map_err(|what| StateError::setting(variable, what))?;
    Ok(Some(Secret::new(text.to_owned())))
}

fn allowed_origins(control_ui: &Section<'_>) -> Result<Vec<String>, StateError> {
    let origins = control_ui.texts("allowedOrigins")?;
    if origins.iter().any(|origin| origin.contains('*')) {
        return Err(control_ui.wrong("allowedOrigins", "contains `*`; name each origin"));
    }
    Ok(origins)
}

fn exec_config(exec: &Section<'_>) -> Result<ExecConfig, StateError> {
    // Source: spec exec (c.2); `auto` also has a reviewer, which we have not: a person is asked.
    let (mode_security, mode_ask) = match exec.text("mode")? {
        None => (None, None),
        Some("deny") => (Some(Security::Deny), Some(Ask::Off)),
        Some("allowlist") => (Some(Security::Allowlist), Some(Ask::Off)),
        Some("ask" | "auto") => (Some(Security::Allowlist), Some(Ask::OnMiss)),
        Some("full") => (Some(Security::Full), Some(Ask::Off)),
        Some(_) => return Err(exec.wrong("mode", "is none of deny, allowlist, ask, auto, full")),
    };
    let security = exec.word("security", Security::from_word, "is none of deny, allowlist, full")?;
    let ask = exec.word("ask", Ask::from_word, "is none of off, on-miss, always")?;
    let profiles = exec.section("safeBinProfiles")?;
    let mut safe_bin_profiles = BTreeMap::new();
    for name in profiles.value.and_then(Value::as_object).into_iter().flat_map(serde_json::Map::keys) {
        safe_bin_profiles.insert(name.trim().to_lowercase(), safe_bin_profile(&profiles.section(name)?)?);
    }
    let trusted: Vec<PathBuf> = exec.texts("safeBinTrustedDirs")?.iter().map(|dir| PathBuf::from(dir.trim())).collect();
    if !trusted.iter().all(|dir| dir.is_absolute()) {
        return Err(exec.wrong("safeBinTrustedDirs", "has a directory that does not begin with `/`"));
    }
    let names = |names: Vec<String>| {
        names.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
    };
    Ok(ExecConfig {
        safe_bins: exec.get("safeBins").map(|_| exec.texts("safeBins")).transpose()?.map(names),
        safe_bin_trusted_dirs: trusted,
        safe_bin_profiles,
        strict_inline_eval: exec.flag("strictInlineEval")?.unwrap_or(false),
        security: security.into_iter().chain(mode_security).min(),
        ask: ask.into_iter().chain(mode_ask).max(),
    })
}

fn safe_bin_profile(profile: &Section<'_>) -> Result<SafeBinProfile, StateError> {
    let min_positional = profile.count("minPositional")?.unwrap_or(0);
    Ok(SafeBinProfile {
        min_positional,
        max_positional: profile.count("maxPositional")?.map(|most| most.max(min_positional)),
        allowed_value_flags: profile.texts("allowedValueFlags")?,
        denied_flags: profile.texts("deniedFlags")?,
    })
}

/// The token that we made earlier for a config without one.
fn made_token(state: &StateDir) -> Result<Option<SharedSecret>, StateError> {
    let path = state.gateway_token();
    let Some(contents) = files::read(&path, Care::Secret)? else { return Ok(None) };
    let text = contents.text(&path)?.trim();
    check_secret(text).map_err(|what| StateError::broken(&path, format!("the token {what}")))?;
    Ok(Some(SharedSecret::Token(Secret::new(text.to_owned()))))
}

/// Makes a token: into a new config file when there is none, else into a file of its own, since
/// the config is the owner's.
fn make_token(state: &StateDir, port: u16) -> Result<(), StateError> {
    let token = random::token::<{ random::TOKEN_BYTES }>();
    let config = DocumentLock::take(state.config())?;
    if files::stamp(state.config())?.is_none() {
        files::replace(&config, first_config(state, port, &token)?.as_bytes())?;
        crate::log!("state", "wrote {} with a new gateway token", state.config().display());
        return Ok(());
    }
    let path = state.gateway_token();
    let lock = DocumentLock::take(&path)?;
    if files::stamp(&path)?.is_none() {
        files::replace(&lock, format!("{}\n", token.expose_text()).as_bytes())?;
        crate::log!("state", "{} has no token; made one in {}", state.config().display(), path.display());
    }
    Ok(())
}

/// The config that a first start writes.
fn first_config(state: &StateDir, port: u16, token: &Secret) -> Result<String, StateError> {
    let document = json!({ "gateway": {
        "mode": "local",
        "port": port,
        "auth": { "mode": "token", "token": token.expose_text() },
    } });
    store::to_text(state.config(), &document)
}

/// Replaces the shared token where that is ours to do: in [`StateDir::gateway_token`], or in a
/// config file that is byte for byte what our first start wrote. The file that was written; none
/// when the secret stands in a file of the owner, who changes it there.
///
/// # Errors
/// As [`Config::inspect`]; there is no secret yet; or the write failed and the old token holds.
pub fn rotate_token(state: &StateDir) -> Result<Option<PathBuf>, StateError> {
    let locks = (DocumentLock::take(state.config())?, DocumentLock::take(&state.gateway_token())?);
    let config = Config::inspect(state, &Environment::default())?;
    let SharedSecret::Token(old) = config.shared_secret()? else { return Ok(None) };
    let new = random::token::<{ random::TOKEN_BYTES }>();
    if config.secret_origin == SecretOrigin::TokenFile {
        files::replace(&locks.1, format!("{}\n", new.expose_text()).as_bytes())?;
        return Ok(Some(state.gateway_token()));
    }
    let ours = first_config(state, config.port, old)?;
    let is_ours = files::read(state.config(), Care::Inspect)?.is_some_and(|found| found.bytes == ours.as_bytes());
    if is_ours {
        files::replace(&locks.0, first_config(state, config.port, &new)?.as_bytes())?;
    }
    Ok(is_ours.then(|| state.config().to_owned()))
}
