//! H26: another gateway on the same port, with the same token, is another gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::json;
use std::rc::Rc;
use std::time::Duration;
use support::{Client, Finished, Gateway, Options, Process, TOKEN, TempDir, free_port, openclaw, wait_until};

/// Longer than a node waits before it tries again.
const WATCH: Duration = Duration::from_secs(3);

/// A gateway with this state directory, on this port.
fn gateway_on(port: u16, state: &Rc<TempDir>) -> Gateway {
    // The port may still be held by the connections of the one before.
    wait_until("a gateway on the port", || {
        let process = Process::spawn(Options::default().state(state).command(port));
        let mut gateway = Gateway { process, port, state: Rc::clone(state) };
        let up = wait_until("it listens or ends", || {
            let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            if gateway.process.ended().is_some() { Some(false) } else { listens().then_some(true) }
        });
        up.then_some(gateway)
    })
}

fn connected(owner: &mut Client) -> Option<String> {
    let list = owner.request("node.list", json!({})).unwrap();
    let row = list["nodes"].as_array()?.iter().find(|row| row["connected"] == true)?.clone();
    Some(row["nodeId"].as_str()?.to_owned())
}

fn start_node(home: &TempDir, url: &str) -> Process {
    let mut command = openclaw(home.path());
    command.args(["node", "run", "--url", url, "--exec-host", "local"]).env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    Process::spawn(command)
}

#[test]
fn sec_h26_a_gateway_that_was_exchanged_gets_no_node_and_no_tool() {
    let (known, other) = (Rc::new(TempDir::new()), Rc::new(TempDir::new()));
    let home = TempDir::new();
    let port = free_port();
    let url = format!("ws://127.0.0.1:{port}");
    let look = || -> Finished {
        let mut command = openclaw(home.path());
        command.args(["mac-debug", "--url", &url, "nodes"]).env("OPENCLAW_GATEWAY_TOKEN", TOKEN);
        Process::run(command)
    };
    let gateway = gateway_on(port, &known);
    let node = start_node(&home, &url);
    let id = wait_until("the node", || connected(&mut gateway.owner()));
    gateway.approve_surface(&id);
    let which = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["sh"]}, "idempotencyKey": "w"});
    gateway.owner().request("node.invoke", which.clone()).unwrap();
    assert_eq!(look().code, Some(0), "{:?}", look());
    gateway.stop();

    // Neither the node that lives nor one that starts anew nor the tool says anything to it.
    let gateway = gateway_on(port, &other);
    wait_until("the node's reason", || node.stderr().contains("gateway-pins.json").then_some(()));
    let fresh = start_node(&home, &url);
    wait_until("the same of one that starts", || fresh.stderr().contains("gateway-pins.json").then_some(()));
    let refused = look();
    assert!(refused.code != Some(0) && refused.stderr.contains("gateway-pins.json"), "{refused:?}");
    let mut owner = gateway.owner();
    let until = std::time::Instant::now() + WATCH;
    while std::time::Instant::now() < until {
        assert_eq!(connected(&mut owner), None);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(owner.request("device.pair.list", json!({})).unwrap(), json!({"pending": [], "paired": []}));
    assert!(owner.request("node.invoke", which.clone()).is_err());
    drop((fresh, node, owner));
    gateway.stop();

    // Twin: the one that is known.
    let gateway = gateway_on(port, &known);
    let _node = start_node(&home, &url);
    let mut owner = gateway.owner();
    assert_eq!(wait_until("the node, again", || connected(&mut owner)), id);
    owner.request("node.invoke", which).unwrap();
    assert_eq!(look().code, Some(0));
}
