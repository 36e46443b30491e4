//! The gateway under long use: invocations and reconnects leave nothing behind. A normal run is short;
//! `OPENCLAW_SOAK=full` makes it the long one (100 000 invocations, 2 000 reconnects).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use serde_json::json;
use std::time::Instant;
use support::{Client, Connect, Device, Gateway, Process, Surface, wait_until};

/// Requests under way at once; more would measure queues, not leaks.
const IN_FLIGHT: usize = 16;

/// What the gateway weighs.
#[derive(Clone, Copy, Debug)]
struct Weight {
    memory: u64,
    threads: u64,
    descriptors: u64,
}

/// Looks once the connections that have ended are really gone.
fn weigh(gateway: &Gateway) -> Weight {
    let look = || {
        let status = Process::run(gateway.mac_debug(&["status", "--json"])).json();
        let status = &status["gateway"];
        let figure = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("no {name} in {status}"));
        let weight =
            Weight { memory: figure("memoryBytes"), threads: figure("threads"), descriptors: figure("descriptors") };
        (status["connections"].clone(), weight)
    };
    wait_until("ended connections are gone", || {
        let (connections, weight) = look();
        (connections == json!({"operators": 2, "nodes": 1})).then_some(weight)
    })
}

/// Invokes `count` times with [`IN_FLIGHT`] under way.
fn invoke(owner: &mut Client, node: &mut Client, id: &str, count: usize) {
    let params = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["ls"]}, "idempotencyKey": "soak"});
    let mut done = 0;
    while done < count {
        let batch = IN_FLIGHT.min(count - done);
        let asked: Vec<String> = (0..batch).map(|_| owner.start("node.invoke", params.clone())).collect();
        for _ in 0..batch {
            let request = node.event("node.invoke.request");
            let acknowledged = node.start(
                "node.invoke.result",
                json!({"id": request["id"], "nodeId": id, "ok": true, "payload": {"bins": {"ls": "/bin/ls"}}}),
            );
            node.response(&acknowledged).unwrap();
        }
        for id in asked {
            assert_eq!(owner.response(&id).unwrap()["payload"]["bins"]["ls"], "/bin/ls");
        }
        done += batch;
    }
}

/// Comes and goes `count` times: in turn a node, an operator, one who breaks off, one who is refused.
fn reconnect(gateway: &Gateway, count: usize) {
    let device = Device::new();
    let node = Connect::node(&device, &Surface::linux(&["system.which"]));
    for at in 0..count {
        match at % 4 {
            0 => drop(Client::login(gateway, &node)),
            1 => {
                let mut operator = Client::login(gateway, &Connect::cli(&["operator.read"]));
                operator.request("node.list", json!({})).unwrap();
                operator.close();
            }
            2 => drop(Client::tcp(gateway)),
            // Always the same wrong one: no lock-out.
            _ => drop(Client::tcp(gateway).connect(&Connect::cli(&[]).token("a wrong one")).unwrap_err()),
        }
    }
}

#[test]
fn long_use_leaves_nothing_behind() {
    let full = std::env::var("OPENCLAW_SOAK").is_ok_and(|word| word == "full");
    let (invocations, reconnects) = if full { (100_000, 2_000) } else { (10_000, 400) };
    let gateway = Gateway::new();
    let device = Device::new();
    let mut node = Client::login(&gateway, &Connect::node(&device, &Surface::linux(&["system.which"])));
    gateway.approve_surface(&device.id());
    let mut owner = Client::login(&gateway, &Connect::backend(&["operator.write"]));
    // Buffers and the allocator's own store grow to their size first.
    invoke(&mut owner, &mut node, &device.id(), invocations / 10);
    reconnect(&gateway, reconnects / 4);
    let before = weigh(&gateway);
    let started = Instant::now();
    invoke(&mut owner, &mut node, &device.id(), invocations);
    let invoked = (started.elapsed(), weigh(&gateway));
    reconnect(&gateway, reconnects);
    let after = weigh(&gateway);
    println!("soak: {before:?}");
    println!("soak: {:?} after {invocations} invocations in {:?}", invoked.1, invoked.0);
    println!("soak: {after:?} after {reconnects} reconnects in {:?}", started.elapsed() - invoked.0);
    for then in [invoked.1, after] {
        assert!(then.threads <= before.threads, "threads: {before:?} became {then:?}");
        assert!(then.descriptors <= before.descriptors, "descriptors: {before:?} became {then:?}");
        // Pages that the allocator happens to keep, not a byte an invocation.
        assert!(then.memory <= before.memory + 1024 * 1024, "memory: {before:?} became {then:?}");
    }
    drop((owner, node));
}
