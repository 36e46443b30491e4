//! The environment of a command: built from nothing, plus the caller's overrides as far as they
//! cannot change which code runs. Source: spec exec (d.7); cases A97–A103, H12.
//!
//! The original lets a child inherit everything that no list forbids. We name what it gets
//! instead, so the original's list C (inherited although forbidden as an override) is not needed
//! beyond the names in [`INHERITED`].

use super::analysis::Host;
use super::plan::Form;
use crate::protocol::policy::Refusal;
use std::collections::{BTreeMap, BTreeSet};

/// Refused as overrides, and never inherited. Source: spec exec (d.7), list A.
const BLOCKED: &str = "\
    ANT_OPTS BASHOPTS BASH_ENV BROWSER BZR_EDITOR BZR_PLUGIN_PATH BZR_SSH CARGO_BUILD_RUSTC \
    CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_RUSTC_WRAPPER CARGO_BUILD_RUSTDOC CATALINA_OPTS CC \
    CMAKE_CXX_COMPILER CMAKE_C_COMPILER CMAKE_TOOLCHAIN_FILE CONFIG_SHELL CONFIG_SITE CORECLR_PROFILER CPP CXX CXXCPP \
    DOTNET_ADDITIONAL_DEPS DOTNET_STARTUP_HOOKS ELIXIR_ERL_OPTIONS EMACSLOADPATH ENV ERL_AFLAGS ERL_FLAGS ERL_ZFLAGS \
    EXINIT FPATH GCONV_PATH GIT_ALLOW_PROTOCOL GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_DIR GIT_EDITOR \
    GIT_EXEC_PATH GIT_EXTERNAL_DIFF GIT_HOOK_PATH GIT_INDEX_FILE GIT_NAMESPACE GIT_OBJECT_DIRECTORY \
    GIT_PROTOCOL_FROM_USER GIT_SEQUENCE_EDITOR GIT_SSL_CAINFO GIT_SSL_CAPATH GIT_SSL_NO_VERIFY GIT_TEMPLATE_DIR \
    GIT_WORK_TREE GLIBC_TUNABLES GRADLE_OPTS GVIMINIT HELM_PLUGINS HGEDITOR HGMERGE HGRCPATH HOSTALIASES IFS \
    JAVA_OPTS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS JULIA_EDITOR KSH_ENV LUA_INIT LUA_INIT_5_1 LUA_INIT_5_2 LUA_INIT_5_3 \
    LUA_INIT_5_4 MAKE MAKEFLAGS MAVEN_OPTS MFLAGS MYVIMRC NODE_OPTIONS NODE_PATH NODE_REDIRECT_WARNINGS \
    NODE_REPL_EXTERNAL_MODULE NODE_REPL_HISTORY NODE_V8_COVERAGE PACKER_PLUGIN_PATH PERL5LIB PERL5OPT PS4 \
    PYTHONBREAKPOINT PYTHONHOME PYTHONPATH RUBYLIB RUBYOPT RUBYSHELL RUSTC RUSTC_WORKSPACE_WRAPPER RUSTC_WRAPPER \
    RUSTDOC R_ENVIRON R_ENVIRON_USER R_PROFILE R_PROFILE_USER SBT_OPTS SHELL SHELLOPTS SSLKEYLOGFILE SUDO_ASKPASS \
    SVN_EDITOR SVN_SSH TCLLIBPATH VAGRANT_VAGRANTFILE VIMINIT _JAVA_OPTIONS";

/// Refused as overrides although a person may have them. Source: spec exec (d.7), list B.
const BLOCKED_OVERRIDES: &str = "\
    ALL_PROXY AMQP_URL ANSIBLE_CALLBACK_PLUGINS ANSIBLE_COLLECTIONS_PATH ANSIBLE_CONFIG ANSIBLE_CONNECTION_PLUGINS \
    ANSIBLE_FILTER_PLUGINS ANSIBLE_INVENTORY_PLUGINS ANSIBLE_LIBRARY ANSIBLE_LOOKUP_PLUGINS ANSIBLE_MODULE_UTILS \
    ANSIBLE_REMOTE_TEMP ANSIBLE_ROLES_PATH ANSIBLE_STRATEGY_PLUGINS AWS_ACCESS_KEY_ID AWS_CONFIG_FILE \
    AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_SECRET_ACCESS_KEY \
    AWS_SECURITY_TOKEN AWS_SESSION_TOKEN AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE AZURE_AUTH_LOCATION \
    AZURE_CLIENT_ID AZURE_CLIENT_SECRET BUNDLE_GEMFILE BUN_CONFIG_REGISTRY CARGO_HOME CFLAGS CGO_CFLAGS CGO_LDFLAGS \
    CLASSPATH COMPOSER_HOME CONDA_DEFAULT_ENV CONDA_PREFIX CORECLR_PROFILER_PATH CPATH CPLUS_INCLUDE_PATH \
    CURL_CA_BUNDLE CURL_HOME C_INCLUDE_PATH DATABASE_URL DENO_DIR DOCKER_CERT_PATH DOCKER_CONTEXT DOCKER_HOST \
    DOCKER_TLS_VERIFY EDITOR FCEDIT GEM_HOME GEM_PATH GH_TOKEN GITHUB_TOKEN GITLAB_TOKEN GIT_ASKPASS GIT_PAGER \
    GIT_PROXY_COMMAND GIT_SSH GIT_SSH_COMMAND GOENV GOFLAGS GONOPROXY GONOSUMCHECK GONOSUMDB \
    GOOGLE_APPLICATION_CREDENTIALS GOPATH GOPRIVATE GOPROXY GRADLE_USER_HOME HELM_HOME HISTFILE HOME HTTPS_PROXY \
    HTTP_PROXY KUBECONFIG LDFLAGS LESSCLOSE LESSOPEN LIBRARY_PATH LUA_CPATH LUA_PATH MANPAGER MONGODB_URI \
    NODE_AUTH_TOKEN NODE_EXTRA_CA_CERTS NODE_TLS_REJECT_UNAUTHORIZED NO_PROXY NPM_TOKEN OBJC_INCLUDE_PATH \
    OPENSSL_CONF OPENSSL_ENGINES PAGER PERL5DB PERL5DBCMD PHPRC PHP_INI_SCAN_DIR PIP_CONFIG_FILE PIP_EXTRA_INDEX_URL \
    PIP_FIND_LINKS PIP_INDEX_URL PIP_PYPI_URL PIP_TRUSTED_HOST PROMPT_COMMAND PYTHONSTARTUP PYTHONUSERBASE REDIS_URL \
    REQUESTS_CA_BUNDLE RUSTFLAGS RUSTUP_DIST_ROOT RUSTUP_DIST_SERVER RUSTUP_HOME RUSTUP_TOOLCHAIN RUSTUP_UPDATE_ROOT \
    R_LIBS_USER SSH_ASKPASS SSH_AUTH_SOCK SSL_CERT_DIR SSL_CERT_FILE SUDO_EDITOR SYSTEMROOT TF_CLI_CONFIG_FILE \
    TF_PLUGIN_CACHE_DIR UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_INDEX UV_INDEX_URL UV_PYTHON VIRTUAL_ENV VISUAL WGETRC \
    WINDIR XDG_CACHE_HOME XDG_CONFIG_DIRS XDG_CONFIG_HOME XDG_DATA_DIRS XDG_DATA_HOME XDG_RUNTIME_DIR XDG_STATE_HOME \
    YARN_RC_FILENAME ZDOTDIR";

/// Prefixes of names that are refused like [`BLOCKED`].
const BLOCKED_PREFIXES: &[&str] = &["DYLD_", "LD_", "BASH_FUNC_"];

/// Prefixes of names that are refused like [`BLOCKED_OVERRIDES`].
const BLOCKED_OVERRIDE_PREFIXES: &[&str] = &["GIT_CONFIG_", "NPM_CONFIG_", "CARGO_REGISTRIES_", "TF_VAR_"];

/// Refused by us although no list of the original names them. Source: cases A98 (`CDPATH` makes a
/// shell's `cd` go elsewhere), A99 (`PATH` is the original's own rule, outside its lists), A101 and A102:
/// the others make tar, make, rsync, ripgrep, ssh, a compiler and so on start or load what they name.
const BLOCKED_BESIDES: &str = "\
    BASH_LOADABLES_PATH CARGO_BUILD_RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CDPATH COMPILER_PATH CVS_RSH GCC_EXEC_PREFIX \
    GIO_EXTRA_MODULES GIO_MODULE_DIR GOROOT GTK_MODULES MAKEFILES OPENSSL_MODULES PATH PYTHONPYCACHEPREFIX \
    QT_PLUGIN_PATH RIPGREP_CONFIG_PATH RSYNC_CONNECT_PROG RSYNC_RSH RUSTDOCFLAGS SSH_SK_PROVIDER TAR_OPTIONS \
    YARN_YARN_PATH ZIPOPT";

/// Overrides that a command in a shell may get; others are dropped. Source: spec exec (d.7).
const SHELL_OVERRIDES: &str = "\
    TERM LANG LC_ALL LC_CTYPE LC_MESSAGES COLORTERM NO_COLOR FORCE_COLOR OPENCLAW_SUBAGENT_EXEC";

/// Names whose value our own environment gives. `LC_*` joins them. Source: issue part 1, point 6.
const INHERITED: &str = "\
    TMPDIR LANG TERM SSH_AUTH_SOCK http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY \
    ALL_PROXY";

/// Marks a child of ours; its value is always `1`. Source: spec exec (d.7).
const MARKER: &str = "OPENCLAW_CLI";

/// JavaScript's `__proto__` never reaches the original's check and is dropped here too.
const DROPPED: &str = "__proto__";

/// Judges what the caller wants to add: all of it, or a refusal that names what is wrong. Keys are
/// trimmed; the pagers' only accepted value is "no pager" and comes back empty (A101).
///
/// # Errors
/// `INVALID_REQUEST` in the original's words.
pub fn judge_overrides(overrides: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let mut blocked = BTreeSet::new();
    let mut invalid = BTreeSet::new();
    let mut accepted = BTreeMap::new();
    let mut folded = BTreeMap::<String, &str>::new();
    for (raw, value) in overrides {
        let key = raw.trim();
        if key == DROPPED {
            continue;
        }
        if !is_portable(key) {
            invalid.insert(if key.is_empty() { raw.as_str() } else { key });
            continue;
        }
        let upper = key.to_ascii_uppercase();
        // Two spellings of one name: which of them a program reads is a guess (A100).
        if let Some(other) = folded.insert(upper.clone(), raw) {
            invalid.extend([other, raw]);
        } else if is_pager(&upper) && matches!(value.trim(), "" | "cat") {
            accepted.insert(key.to_owned(), String::new());
        } else if is_blocked(&upper) {
            blocked.insert(upper);
        } else if upper != MARKER {
            accepted.insert(key.to_owned(), value.clone());
        }
    }
    if blocked.is_empty() && invalid.is_empty() {
        return Ok(accepted);
    }
    let mut problems = Vec::new();
    if !blocked.is_empty() {
        problems.push(format!("blocked override keys: {}", join(blocked.iter().map(String::as_str))));
    }
    if !invalid.is_empty() {
        problems.push(format!("invalid non-portable override keys: {}", join(invalid.into_iter())));
    }
    let problems = problems.join("; ");
    Err(Refusal::invalid(format!("SYSTEM_RUN_DENIED: environment override rejected ({problems})")))
}

/// Judges the `NAME=value` arguments of an `env` in argv by the same lists (A100). Every argument
/// that could be an assignment counts, wherever it stands: that `env` reads it as one is enough.
///
/// # Errors
/// `INVALID_REQUEST` in the original's words.
pub fn judge_assignments(argv: &[String]) -> Result<(), Refusal> {
    let blocked: BTreeSet<String> = argv
        .iter()
        .filter_map(|argument| argument.split_once('='))
        .filter(|(name, _)| is_portable(name))
        .map(|(name, value)| (name.to_ascii_uppercase(), value))
        .filter(|(name, value)| is_blocked(name) && !(is_pager(name) && matches!(*value, "" | "cat")))
        .map(|(name, _)| name)
        .collect();
    if blocked.is_empty() {
        return Ok(());
    }
    let names = join(blocked.iter().map(String::as_str));
    Err(Refusal::invalid(format!(
        "SYSTEM_RUN_DENIED: command env assignment rejected (blocked env assignment keys: {names})"
    )))
}

/// The complete environment of a child: what we fix, what we pass on, and the accepted overrides
/// as far as a command of this form gets them.
pub fn child_env(host: &Host, accepted: &BTreeMap<String, String>, form: Form) -> BTreeMap<String, String> {
    let inherited = host.inherited.iter().filter(|(name, _)| is_inherited(name));
    let mut env: BTreeMap<String, String> = inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
    let added = accepted.iter().filter(|(name, _)| form != Form::Shell || passes_into_shell(name));
    env.extend(added.map(|(name, value)| (name.clone(), value.clone())));
    env.extend([
        ("PATH".to_owned(), host.search_path_text()),
        ("HOME".to_owned(), host.home.to_string_lossy().into_owned()),
        ("USER".to_owned(), host.user.clone()),
        ("LOGNAME".to_owned(), host.user.clone()),
        ("SHELL".to_owned(), host.shell.clone()),
        (MARKER.to_owned(), "1".to_owned()),
    ]);
    env
}

/// Whether `list`, of names with blanks between them, has this one.
fn lists(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == name)
}

fn is_inherited(name: &str) -> bool {
    lists(INHERITED, name) || (name.starts_with("LC_") && is_portable(name))
}

/// `[A-Za-z_][A-Za-z0-9_()]*`.
fn is_portable(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'(' | b')'))
}

fn is_pager(upper: &str) -> bool {
    matches!(upper, "PAGER" | "GIT_PAGER")
}

fn is_blocked(upper: &str) -> bool {
    let starts = |prefix: &&str| upper.starts_with(*prefix);
    lists(BLOCKED, upper)
        || lists(BLOCKED_OVERRIDES, upper)
        || lists(BLOCKED_BESIDES, upper)
        || BLOCKED_PREFIXES.iter().any(starts)
        || BLOCKED_OVERRIDE_PREFIXES.iter().any(starts)
        || upper
            .strip_prefix("CARGO_TARGET_")
            .is_some_and(|rest| ["_LINKER", "_RUNNER", "_RUSTFLAGS"].iter().any(|end| rest.ends_with(end)))
}

fn passes_into_shell(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    lists(SHELL_OVERRIDES, &upper) || upper.starts_with("LC_") || is_pager(&upper)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        let overrides = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        judge_overrides(&overrides).map_err(|refusal| refusal.message)
    }

    /// A97, A98, A101, A102: every name of the cases is refused, alone and in any case.
    #[test]
    fn sec_a97_a98_a101_a102_hooks_are_refused() {
        for name in "LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES DYLD_FRAMEWORK_PATH BASH_ENV ENV \
            PROMPT_COMMAND CDPATH IFS GIT_EXTERNAL_DIFF GIT_EXEC_PATH GIT_SSH_COMMAND GIT_CONFIG_COUNT \
            GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0 GIT_CONFIG_GLOBAL GIT_EDITOR GIT_PAGER PAGER MANPAGER EDITOR VISUAL \
            BROWSER LESSOPEN NODE_OPTIONS NODE_PATH PYTHONPATH PYTHONSTARTUP PYTHONBREAKPOINT RUBYOPT RUBYLIB PERL5OPT \
            PERL5LIB JAVA_TOOL_OPTIONS _JAVA_OPTIONS MAVEN_OPTS GRADLE_OPTS DOTNET_STARTUP_HOOKS GLIBC_TUNABLES \
            CARGO_TARGET_X_LINKER CARGO_TARGET_X_RUNNER"
            .split_whitespace()
        {
            let expected = format!("SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: {name})");
            assert_eq!(judge(&[(name, "x")]), Err(expected.clone()), "{name}");
            assert_eq!(judge(&[(&name.to_lowercase(), "x")]), Err(expected), "{name}");
        }
        assert!(judge(&[("BASH_FUNC_ls%%", "x")]).unwrap_err().contains("non-portable override keys: BASH_FUNC_ls%%"));
        assert_eq!(judge(&[("PAGER", "cat"), ("GIT_PAGER", "")]).unwrap()["PAGER"], "");
        assert!(judge(&[("CARGO_TARGET_DIR", "/x"), ("LDX", "1"), ("FOO", "2")]).is_ok());
    }

    /// A99, A100: no spelling of PATH passes, and no key that only looks harmless.
    #[test]
    fn sec_a99_a100_spellings() {
        for name in ["PATH", "Path", "PATH ", " path"] {
            assert!(judge(&[(name, "/x")]).unwrap_err().ends_with("(blocked override keys: PATH)"), "{name}");
        }
        assert!(judge(&[(" LD_PRELOAD", "x")]).unwrap_err().ends_with("(blocked override keys: LD_PRELOAD)"));
        for name in ["LD_PRELOAD=x", "A\nLD_PRELOAD", "A\0B", "", "1A", "A-B"] {
            assert!(judge(&[(name, "x")]).unwrap_err().contains("invalid non-portable override keys: "), "{name:?}");
        }
        assert!(judge(&[("Foo", "1"), ("FOO", "2")]).unwrap_err().contains("override keys: FOO, Foo"));
        let both = judge(&[("PATH", "x"), ("B C", "x"), ("IFS", "x")]).unwrap_err();
        assert_eq!(
            both,
            "SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: IFS, PATH; invalid non-portable \
             override keys: B C)"
        );
        let argv = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(judge_assignments(&argv("LD_PRELOAD=x ls")).is_err());
        assert!(judge_assignments(&argv("-i FOO=1 PAGER=cat ls")).is_ok());
    }

    /// A103, H12: whatever our environment holds, a child sees only names of the list.
    #[test]
    fn sec_a103_h12_child_env_is_built_from_nothing() {
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        let mut inherited = BTreeMap::new();
        for _ in 0..10_000 {
            let mut name = String::new();
            for _ in 0..=(seed % 9) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                name.push(char::from(b"ABCDEFGLPRSTUXY_abcpxy0129"[(seed % 26) as usize]));
            }
            inherited.insert(name, "secret".to_owned());
        }
        for name in ["OPENCLAW_GATEWAY_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSLKEYLOGFILE", "LD_PRELOAD", "PATH", "HOME"] {
            inherited.insert(name.to_owned(), "secret".to_owned());
        }
        inherited.insert("LANG".to_owned(), "C".to_owned());
        inherited.insert("LC_TIME".to_owned(), "C".to_owned());
        let host = Host {
            home: "/home/u".into(),
            user: "u".into(),
            shell: "/bin/sh".into(),
            search_path: vec!["/usr/bin".into(), "/bin".into()],
            system_directories: Vec::new(),
            inherited,
            open_files: None,
        };
        let env = child_env(&host, &BTreeMap::new(), Form::Direct);
        let fixed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", MARKER];
        for (name, value) in &env {
            assert!(fixed.contains(&name.as_str()) || is_inherited(name), "{name}");
            assert!(value != "secret" || is_inherited(name), "{name}");
        }
        assert_eq!(env["PATH"], "/usr/bin:/bin");
        assert_eq!((env["HOME"].as_str(), env["LC_TIME"].as_str()), ("/home/u", "C"));
    }

    #[test]
    fn a_shell_gets_only_harmless_overrides() {
        let host = Host {
            home: "/".into(),
            user: "u".into(),
            shell: String::new(),
            search_path: Vec::new(),
            system_directories: Vec::new(),
            inherited: BTreeMap::new(),
            open_files: None,
        };
        let accepted = judge(&[("FOO", "1"), ("LC_ALL ", "C"), ("no_color", "1")]).unwrap();
        let env = child_env(&host, &accepted, Form::Shell);
        assert_eq!((env.get("FOO"), env["LC_ALL"].as_str(), env["no_color"].as_str()), (None, "C", "1"));
        assert_eq!(child_env(&host, &accepted, Form::Direct)["FOO"], "1");
    }
}
