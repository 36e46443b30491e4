//! What surrounds a command: no variable of a caller's, of ours or of a directory's chooses which code runs, and none of
//! ours is given on. Loader and shell variables, PATH and spellings stand in `app_run`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use support::{Client, Connect, Finished, Process, ScriptedGateway, TOKEN, free_port, wait_until};
use support_exec::*;

/// A101, with what programs of the same kind read.
const TOOLS: &[&str] = &[
    "GIT_EXTERNAL_DIFF",
    "GIT_EXEC_PATH",
    "GIT_SSH_COMMAND",
    "GIT_SSH",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY_0",
    "GIT_CONFIG_VALUE_0",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_PARAMETERS",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_TEMPLATE_DIR",
    "GIT_DIR",
    "GIT_PAGER",
    "PAGER",
    "MANPAGER",
    "EDITOR",
    "VISUAL",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "SUDO_EDITOR",
    "SVN_SSH",
    "HGRCPATH",
    "HOME",
    "SHELL",
    "ZDOTDIR",
    "FCEDIT",
    "XDG_CONFIG_HOME",
    "CURL_HOME",
    "WGETRC",
];

/// A102, with the compilers and package managers beside them.
const RUNTIMES: &[&str] = &[
    "NODE_OPTIONS",
    "NODE_PATH",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONBREAKPOINT",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "RUBYOPT",
    "RUBYLIB",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "MAVEN_OPTS",
    "GRADLE_OPTS",
    "DOTNET_STARTUP_HOOKS",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LUA_INIT",
    "LUA_PATH",
    "RUSTC_WRAPPER",
    "RUSTC",
    "RUSTFLAGS",
    "CARGO_HOME",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
    "CARGO_TARGET_AARCH64_APPLE_DARWIN_RUNNER",
    "CC",
    "CXX",
    "MAKEFLAGS",
    "GOFLAGS",
    "CLASSPATH",
    "PHPRC",
    "NPM_CONFIG_USERCONFIG",
    "npm_config_registry",
    "PIP_INDEX_URL",
    "OPENSSL_CONF",
    "BUNDLE_GEMFILE",
];

/// An app in which everything runs unasked, started with these variables besides the usual ones.
fn permissive(variables: &[(String, String)]) -> (Scratch, App, Exec) {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let mut command = scratch.openclaw(APP);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let app = App::start_with(&scratch, command);
    let exec = app.exec(&scratch);
    (scratch, app, exec)
}

fn invoke_run(scratch: &Scratch, request: &Value) -> Finished {
    scratch.mac_debug(&["invoke", "system.run", &request.to_string(), "--json"])
}

/// The names and values that `env` prints.
fn seen(output: &str) -> Vec<(&str, &str)> {
    output.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Each name is refused as an override, on both ways, and what our own environment has of it goes to no child.
fn are_refused(names: &[&str]) {
    let marker = "/nowhere/marker-7d1f";
    // HOME and SHELL are ours to say; HOME decides where an app's own home is.
    let inherited = names.iter().filter(|name| **name != "HOME").map(|name| ((*name).to_owned(), marker.to_owned()));
    let (scratch, _app, exec) = permissive(&inherited.collect::<Vec<_>>());
    wait_for_node(&scratch);
    let env = program("env");
    for name in names {
        for spelling in [(*name).to_owned(), name.to_lowercase()] {
            let reply = exec.request(&json!({ "command": [env], "env": { &spelling: marker } }));
            let message = reply.refused("INVALID_REQUEST")["message"].as_str().unwrap();
            assert!(
                message.contains("environment override rejected") && message.contains(&name.to_uppercase()),
                "{message}"
            );
        }
    }
    // The long way, all at once: none is lost among the others.
    let all: serde_json::Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!("x"))).collect();
    let refused = invoke_run(&scratch, &json!({ "command": [env], "env": all }));
    let words = words_of(&refused);
    assert!(refused.code != Some(0) && words.contains("INVALID_REQUEST"), "{refused:?}");
    for name in names {
        assert!(words.contains(&name.to_uppercase()), "{name}: {words}");
        let one = scratch.mac_debug(&["run", "--env", &format!("{name}=x"), "--", "env"]);
        assert!(one.code != Some(0) && !one.stdout.contains("PATH="), "{name}: {one:?}");
    }
    // As an assignment of `env`.
    for name in names.iter().take(12) {
        let reply = exec.request(&json!({ "command": [env, format!("{name}=x"), env] }));
        assert!(reply.refused("INVALID_REQUEST")["message"].as_str().unwrap().contains("assignment"), "{name}");
    }
    let good = exec.request(&json!({ "command": [env], "env": { "MODE": "fast" } }));
    let printed = good.ran()["stdout"].as_str().unwrap();
    assert!(seen(printed).contains(&("MODE", "fast")) && !printed.contains(marker), "{printed}");
}

#[test]
fn sec_a101_programs_that_tools_would_start_are_not_named_from_outside() {
    are_refused(TOOLS);
    // Agents say "no pager" all the time, and that is what they get.
    let (_scratch, _app, exec) = permissive(&[]);
    let quiet = json!({ "command": [program("env")], "env": { "PAGER": "cat", "GIT_PAGER": "" } });
    let printed = exec.request(&quiet).ran()["stdout"].as_str().unwrap().to_owned();
    assert!(seen(&printed).contains(&("PAGER", "")) && seen(&printed).contains(&("GIT_PAGER", "")), "{printed}");
    for value in ["cat x", "/bin/cat", "less", "cat;id"] {
        exec.request(&json!({ "command": [program("env")], "env": { "PAGER": value } })).refused("INVALID_REQUEST");
    }
}

#[test]
fn sec_a102_code_that_runtimes_would_load_is_not_named_from_outside() {
    are_refused(RUNTIMES);
}

/// A103: the same for a node that runs commands itself.
#[test]
fn sec_a103_a_node_of_its_own_gives_nothing_on() {
    let scratch = Scratch::new();
    scratch.approvals(&allowing_everything());
    let gateway = ScriptedGateway::new();
    let marker = "marker-41c0aa72e9b8d3f6";
    let mut command = scratch.openclaw(&["node", "run", "--url", &gateway.url(), "--exec-host", "local"]);
    command.env("OPENCLAW_GATEWAY_TOKEN", marker);
    for name in
        ["AWS_SECRET_ACCESS_KEY", "SSLKEYLOGFILE", "LD_LIBRARY_PATH", "GITHUB_TOKEN", "NODE_OPTIONS", "ANYTHING"]
    {
        command.env(name, marker);
    }
    let _node = Process::spawn(command);
    let ran = gateway.seat().invoke("system.run", &json!({ "command": ["/usr/bin/env"] })).unwrap();
    let printed = ran["stdout"].as_str().unwrap();
    assert!(printed.contains("PATH=") && printed.contains("OPENCLAW_CLI=1"), "{printed}");
    assert!(!printed.contains(marker) && !printed.contains("OPENCLAW_STATE_DIR"), "{printed}");
}

/// H12: of ten thousand names a child sees those that we name.
#[test]
fn sec_h12_a_child_sees_named_variables_only() {
    const NAMES: usize = 10_000;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let pieces = [
        "PATH", "HOME", "LANG", "TERM", "LC", "LD", "TMP", "DIR", "SSH", "AUTH", "SOCK", "http", "HTTP", "proxy",
        "PROXY", "OPENCLAW", "CLI", "USER", "SHELL", "GIT", "NODE", "X", "_", "a", "9", "é",
    ];
    let marker = "marker-b7";
    let mut names = BTreeSet::new();
    while names.len() < NAMES {
        let name: Vec<&str> = (0..=random(4)).map(|_| pieces[random(pieces.len() as u64) as usize]).collect();
        let name = name.join(["", "_"][random(2) as usize]);
        // These an app itself reads or is started with.
        if !["PATH", "HOME"].contains(&name.as_str()) && !name.starts_with("OPENCLAW_") {
            names.insert(name + &"Z".repeat(random(40) as usize));
        }
    }
    let variables: Vec<_> = names.iter().map(|name| (name.clone(), marker.to_owned())).collect();
    let (_scratch, _app, exec) = permissive(&variables);
    let inherited = [
        "TMPDIR",
        "LANG",
        "TERM",
        "SSH_AUTH_SOCK",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
    ];
    let fixed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "OPENCLAW_CLI"];
    for argv in [&[&*program("env")][..], &["env", "env"], &["sh", "-c", "env"], &["sh", "-c", "env | cat"]] {
        let reply = exec.run(argv);
        let printed = reply.ran()["stdout"].as_str().unwrap();
        assert!(!printed.is_empty());
        for (name, value) in seen(printed) {
            let is_ours = fixed.contains(&name) || ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
            let is_named = inherited.contains(&name) || name.starts_with("LC_");
            assert!(is_ours || is_named, "{argv:?}: {name}");
            assert!(!is_ours || !value.contains(marker), "{argv:?}: {name}={value}");
        }
    }
}

/// Files that other programs read on their own when they start in a directory.
fn hostile_directory(scratch: &Scratch) -> std::path::PathBuf {
    let directory = scratch.join("workspace");
    make_dir(&directory);
    let elsewhere = scratch.canary();
    let text = format!(
        "OPENCLAW_STATE_DIR={0}\nOPENCLAW_CONFIG_PATH={0}\nOPENCLAW_HOME={0}\nHOME={0}\nexport PATH={0}\n\
         OPENCLAW_GATEWAY_TOKEN=token-of-the-workspace-0123456789\nOPENCLAW_GATEWAY_PASSWORD=token-of-the-workspace-0123\n\
         OPENCLAW_GATEWAY_PORT=1\nOPENCLAW_GATEWAY_URL=ws://127.0.0.1:1\nGATEWAY_URL=ws://127.0.0.1:1\n\
         HTTPS_PROXY=http://127.0.0.1:1\nRUST_LOG=trace\nRUST_BACKTRACE=full\nLD_PRELOAD={0}\n",
        elsewhere.display()
    );
    for name in [".env", ".env.local", ".env.production", ".envrc", ".openclawrc"] {
        write_private(&directory.join(name), text.as_bytes());
    }
    let config =
        json!({ "gateway": { "port": 1, "auth": { "mode": "token", "token": "token-of-the-workspace-0123456789" } } });
    write_private(&directory.join("openclaw.json"), config.to_string().as_bytes());
    let policy = allowing_everything().to_string();
    write_private(&directory.join("exec-approvals.json"), policy.as_bytes());
    make_dir(&directory.join(".openclaw"));
    write_private(&directory.join(".openclaw/exec-approvals.json"), policy.as_bytes());
    write_private(&directory.join(".openclaw/openclaw.json"), config.to_string().as_bytes());
    directory
}

/// A104: where a program is started makes no difference to it.
#[test]
fn sec_a104_the_files_of_a_workspace_configure_nothing() {
    let scratch = Scratch::new();
    let workspace = hostile_directory(&scratch);
    let before = listing(&workspace);
    let state = scratch.join("home/.openclaw");
    make_dir(&state);
    let port = free_port();
    let config = json!({ "gateway": { "mode": "local", "port": port, "auth": { "mode": "token", "token": TOKEN } } });
    write_private(&state.join("openclaw.json"), config.to_string().as_bytes());
    let at = |directory: &Path, arguments: &[&str]| {
        let mut command = scratch.openclaw(arguments);
        command.current_dir(directory).env_remove("OPENCLAW_STATE_DIR");
        command
    };
    // The gateway alone: its port, its token.
    let gateway = Process::spawn(at(&workspace, &["gateway", "run"]));
    let socket = state.join("gateway.sock");
    wait_until("the gateway", || UnixStream::connect(&socket).ok());
    wait_until("its port", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let error =
        Client::unix_at(&socket).connect(&Connect::cli(&[]).token("token-of-the-workspace-0123456789")).unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISMATCH", "{error}");
    Client::unix_at(&socket).connect(&Connect::cli(&[])).unwrap();
    // The command line: the same words here and there.
    for arguments in [
        &["mac-debug", "status", "--json"][..],
        &["mac-debug", "nodes", "--json"],
        &["mac-debug", "approvals", "get", "--json"],
        &["mac-debug", "explain", "--cwd", "/", "--json", "--", "touch", "x"],
        &["mac-debug", "pair", "list", "--json"],
    ] {
        let [here, there] = [&workspace, &scratch.join("home")].map(|directory| {
            let finished = Process::run(at(directory, arguments));
            assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
            without_times(finished.json())
        });
        assert_eq!(here, there, "{arguments:?}");
    }
    // A node: the gateway that its own files name, and nothing that the workspace allows.
    let scripted = ScriptedGateway::new();
    let mut command = at(&workspace, &["node", "run", "--url", &scripted.url(), "--exec-host", "local"]);
    command.env("OPENCLAW_GATEWAY_TOKEN", "the-token-of-this-gateway-0123456789");
    let node = Process::spawn(command);
    let request = json!({ "command": [program("touch"), scratch.canary()] });
    let refused = scripted.seat().invoke("system.run", &request).unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("SYSTEM_RUN_DENIED"), "{refused}");
    drop((node, gateway));
    // The app with its own gateway and node.
    let mut app = Process::spawn(at(&workspace, APP));
    let exec_path = state.join("exec-approvals.sock");
    wait_until("the app", || {
        assert!(app.ended().is_none(), "{}", app.stderr());
        UnixStream::connect(&exec_path).ok()
    });
    let document: Value = serde_json::from_slice(&fs::read(state.join("exec-approvals.json")).unwrap()).unwrap();
    let exec = Exec { socket: exec_path, token: document["socket"]["token"].as_str().unwrap().to_owned() };
    exec.request(&request).refused("UNAVAILABLE");
    stays_absent(&scratch.canary());
    assert_eq!(listing(&workspace), before, "something was written into the workspace");
}

/// A104, by the kernel's word: the files are not even opened.
#[test]
fn sec_a104_the_files_of_a_workspace_are_not_opened() {
    if !have("strace", "sec_a104") {
        return;
    }
    let scratch = Scratch::new();
    let workspace = hostile_directory(&scratch);
    let trace = scratch.join("trace");
    for arguments in [
        &["mac-debug", "status"][..],
        &["mac-debug", "explain", "--", "ls"],
        &["gateway", "run", "--no-tcp"],
        &["app", "--ask", "none", "--no-tcp"],
        &["node", "run", "--url", "ws://127.0.0.1:1"],
        &["bridge", "status"],
    ] {
        let mut traced = Command::new("strace");
        let ours = scratch.openclaw(arguments);
        traced.args(["-f", "-e", "trace=open,openat,openat2,execve", "-o"]).arg(&trace);
        traced.arg(ours.get_program()).args(ours.get_args());
        traced.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        traced.current_dir(&workspace).stdin(std::process::Stdio::null());
        traced.env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        let mut process = Process::spawn(traced);
        let sockets = ["gateway.sock", "exec-approvals.sock"].map(|name| scratch.state().join(name));
        wait_until("a start or an end", || {
            let is_up = sockets.iter().any(|socket| UnixStream::connect(socket).is_ok());
            let has_tried = process.stderr().contains("127.0.0.1:1") || process.stdout().contains("127.0.0.1:1");
            (process.ended().is_some() || is_up || has_tried).then_some(())
        });
        for child in support::children(process.pid()) {
            support::signal(child, libc::SIGTERM);
        }
        process.finish();
        let opened = fs::read_to_string(&trace).unwrap();
        if !opened.contains("execve(") {
            println!("sec_a104: left out, because tracing is not permitted here");
            return;
        }
        assert!(opened.contains("O_RDONLY"), "{arguments:?}: {opened}");
        for name in
            [".env", "workspace/openclaw", "workspace/exec", "\"openclaw.json", "\"exec-approvals", "\".openclaw"]
        {
            assert!(
                !opened.contains(&format!("{name}\"")) && !opened.contains(&format!("/{name}.")),
                "{arguments:?}: {name}: {opened}"
            );
        }
    }
}

/// Every file below, with its content.
fn listing(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(listing(&entry.path()));
        } else {
            all.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

/// Without what differs between two calls of one program.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            let changes =
                ["pid", "memoryBytes", "descriptors", "threads", "ts", "uptimeMs", "freeBytes", "clockAheadMs"];
            members.retain(|name, _| !changes.contains(&name.as_str()));
            for member in members.values_mut() {
                *member = without_times(member.take());
            }
        }
        Value::Array(elements) => {
            for element in elements {
                *element = without_times(element.take());
            }
        }
        _ => {}
    }
    value
}
