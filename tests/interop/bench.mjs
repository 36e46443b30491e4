// The same client against the official product and ours, in one run: how long what an operator does takes, and what it weighs.
// Beside them stands the floor: that client against a server that answers at once and does nothing.
// Prints one table; fails only when a call fails. `node bench.mjs`; starts and ends everything itself.
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WebSocket, WebSocketServer } from "ws";
import { gateway, home, node, sleep, stop, stopAll, until } from "./peers.mjs";

const CONNECTS = 20;
const SEQUENTIAL = 300;
const TOGETHER = 1_500;
const IN_FLIGHT = 16;
const RUNS = 200;
const WARM = 50;
const TURNS = 10;
const IDLE_MS = 3_000;
const PAGE_KIB = 4;
const MAX_FRAME = 32 * 1024 * 1024;
const KINDS = ["official", "ours"];
const SCOPES = ["operator.read", "operator.write", "operator.admin", "operator.approvals", "operator.pairing"];
const ANSWERS_AT_ONCE = "--answer-at-once";
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stopAll().finally(() => process.exit(1)));

/** Milliseconds that each of `count` calls takes, one after the other. */
async function times(count, call) {
  const all = [];
  for (let at = 0; at < count; at += 1) {
    const began = performance.now();
    await call();
    all.push(performance.now() - began);
  }
  return all;
}
const percentile = (sorted, share) => sorted[Math.ceil((sorted.length * share) / 100) - 1];

/** Milliseconds that `count` calls take with `IN_FLIGHT` under way. */
async function together(count, call) {
  let left = count;
  const worker = async () => {
    while (left-- > 0) await call();
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return [performance.now() - began];
}

/**
 * An operator's connection that does as little as it can: the reference client's own work would be most of what is measured
 * of ours.
 */
function dial(url, token, scopes) {
  const socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: MAX_FRAME });
  const waiting = new Map();
  let calls = 0;
  const request = (method, params) =>
    new Promise((done, fail) => {
      const id = `${(calls += 1)}`;
      waiting.set(id, { done, fail });
      socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  const client = { id: "gateway-client", mode: "backend", version: "bench", platform: process.platform };
  const login = { minProtocol: 4, maxProtocol: 4, client, role: "operator", scopes, auth: { token } };
  return new Promise((open, fail) => {
    socket.on("error", fail);
    socket.on("message", (data) => {
      const frame = JSON.parse(data);
      if (frame.event === "connect.challenge") request("connect", login).then(() => open({ request, stop: () => socket.close() }), fail);
      if (frame.type !== "res") return;
      const { done, fail: refuse } = waiting.get(frame.id);
      waiting.delete(frame.id);
      if (frame.ok) done(frame.payload);
      else refuse(new Error(JSON.stringify(frame.error)));
    });
  });
}

/** Resident memory of a peer alone, and with all processes of its group, MiB. */
function resident({ child }) {
  let group = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      // After the name in parentheses: state, parent, group.
      const [, , of] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
      if (Number(of) === child.pid) group += pages(pid);
    } catch {
      // It has ended.
    }
  }
  return { alone: (pages(child.pid) * PAGE_KIB) / 1024, group: (group * PAGE_KIB) / 1024 };
}
const pages = (pid) => Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);

function allowRuns(path) {
  const policy = { version: 1, defaults: { security: "full", ask: "off" }, agents: {} };
  writeFileSync(join(path, ".openclaw/exec-approvals.json"), JSON.stringify(policy), { mode: 0o600 });
}

/** A gateway and a node of one product, paired and approved; `cold` is the time to the first `hello-ok`. */
async function begin(kind) {
  const began = performance.now();
  const { peer, url, token } = await gateway(kind);
  const cold = performance.now() - began;
  const owner = await dial(url, token, SCOPES);
  const path = home();
  if (kind === "ours") allowRuns(path); // the official node runs what it is asked to by default
  const first = node(kind, url, token, path, "bench");
  const pairing = () => owner.request("device.pair.list", {}).then(({ pending }) => pending[0]);
  const { requestId, deviceId } = await until("its pairing request", pairing);
  await owner.request("device.pair.approve", { requestId });
  await stop(first); // it waits for its owner; started again, it comes back
  const host = node(kind, url, token, path, "bench");
  const surface = () => owner.request("node.pair.list", {}).then(({ pending }) => pending[0]);
  await owner.request("node.pair.approve", { requestId: (await until("its surface", surface)).requestId });
  let calls = 0;
  const invoke = (command, params) =>
    owner.request("node.invoke", { nodeId: deviceId, command, params, timeoutMs: 60_000, idempotencyKey: `bench-${(calls += 1)}` });
  const which = () => invoke("system.which", { bins: ["sh"] });
  await until("an answer", () => which().then(() => true, () => false));
  return { kind, peer, host, url, token, cold, which, run: () => invoke("system.run", { command: ["/bin/true"] }) };
}

/** The server of the floor, in a process of its own. */
async function floor() {
  const child = fork(import.meta.filename, [ANSWERS_AT_ONCE]);
  const [port] = await once(child, "message");
  const url = `ws://127.0.0.1:${port}`;
  const { request } = await dial(url, "", SCOPES);
  return { child, url, token: "", which: () => request("node.invoke", { command: "system.which", params: { bins: ["sh"] } }) };
}

function answerAtOnce() {
  process.on("disconnect", () => process.exit());
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
  server.on("listening", () => process.send(server.address().port));
  server.on("connection", (socket) => {
    socket.send(JSON.stringify({ type: "event", event: "connect.challenge", payload: {} }));
    socket.on("message", (data) => socket.send(JSON.stringify({ type: "res", id: JSON.parse(data).id, ok: true, payload: {} })));
  });
}

/**
 * What `measured` gives for each peer, a `TURNS`th of `count` at a time: they take turns, so that what else this machine does
 * meets all.
 */
async function each(peers, count, call, measured = times) {
  const all = peers.map(() => []);
  for (let turn = 0; turn < TURNS; turn += 1) {
    for (const [at, product] of peers.entries()) all[at].push(...(await measured(count / TURNS, () => call(product))));
  }
  return all.map((values) => values.sort((a, b) => a - b));
}

async function measure() {
  const products = [];
  for (const kind of KINDS) products.push(await begin(kind));
  const idle = await floor();
  const all = [...products, idle];
  await each(all, WARM, ({ which }) => which());
  await each(products, WARM, ({ run }) => run());
  const connects = await each(all, CONNECTS, async ({ url, token }) => (await dial(url, token, ["operator.read"])).stop());
  const sequential = await each(all, SEQUENTIAL, ({ which }) => which());
  const piled = await each(all, TOGETHER, ({ which }) => which(), together);
  const runs = await each(products, RUNS, ({ run }) => run());
  idle.child.kill();
  await sleep(IDLE_MS); // what is resident after this much idling
  const gateways = products.map(({ peer }) => resident(peer));
  const nodes = products.map(({ host }) => resident(host));
  return { colds: products.map(({ cold }) => cold), connects, sequential, piled, runs, gateways, nodes };
}

function print({ colds, connects, sequential, piled, runs, gateways, nodes }) {
  const at = (share, all) => all.map((sorted) => percentile(sorted, share));
  const rate = (elapsed) => (TOGETHER * 1000) / elapsed.reduce((sum, each) => sum + each);
  const rows = [
    ["gateway, cold start to hello-ok", "ms", colds],
    ["operator, connect to hello-ok, p50", "ms", at(50, connects)],
    ["system.which, sequential, p50", "ms", at(50, sequential)],
    ["system.which, sequential, p99", "ms", at(99, sequential)],
    [`system.which, ${IN_FLIGHT} in flight`, "calls/s", piled.map(rate)],
    ["system.run /bin/true, p50", "ms", at(50, runs)],
    ["system.run /bin/true, p99", "ms", at(99, runs)],
    ["gateway, resident", "MiB", gateways.map(({ alone }) => alone)],
    ["gateway with its children, resident", "MiB", gateways.map(({ group }) => group)],
    ["node, resident", "MiB", nodes.map(({ alone }) => alone)],
    ["node with its children, resident", "MiB", nodes.map(({ group }) => group)],
  ];
  const cell = (value) => (value?.toFixed(value < 10 ? 2 : 0) ?? "-").padStart(12);
  console.log(`${"".padEnd(40)}${"official".padStart(12)}${"ours".padStart(12)}${"floor".padStart(12)}${"ratio".padStart(10)}  unit`);
  for (const [name, unit, [official, ours, least]] of rows) {
    const ratio = unit === "calls/s" ? ours / official : official / ours;
    console.log(`${name.padEnd(40)}${cell(official)}${cell(ours)}${cell(least)}${`${ratio.toFixed(0)} ×`.padStart(10)}  ${unit}`);
  }
}

if (process.argv[2] === ANSWERS_AT_ONCE) answerAtOnce();
else {
  print(await measure().finally(stopAll));
  process.exit(0);
}
