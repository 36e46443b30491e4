// Our node at the official gateway: paired, approved, invoked, through restarts of either, exchanged tokens and setup links.
// `node node-official.mjs`; INTEROP_GATEWAY=ours and INTEROP_NODE=official put the other product there, which shows that the
// suite is right. Starts and ends everything itself. Exit code 0 only if every row held.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cli, gateway, home, log, operator, sleep, start, stop, stopAll, until } from "./peers.mjs";
import { openTap } from "./tap.mjs";

const { INTEROP_GATEWAY: gatewayKind = "official", INTEROP_NODE: nodeKind = "ours" } = process.env;
const OURS = nodeKind === "ours";
const NAME = "interop-node";
const BACK_MS = 60_000;
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stopAll().finally(() => process.exit(1)));

const rows = [];
/** Runs `body` as one row; what it returns is what later rows need. */
async function row(name, body) {
  const began = Date.now();
  let problem;
  const value = await Promise.resolve().then(body).catch((error) => { problem = error; });
  rows.push({ name, ok: !problem });
  console.log(`${problem ? "FAIL" : "ok  "} ${name} (${Date.now() - began} ms)${problem ? `\n     ${problem.stack}` : ""}`);
  return value;
}

let { peer, url, token } = await gateway(gatewayKind);
const tap = await openTap(url);
const frames = [];
const mark = () => frames.push(...tap.take());
const since = (start) => (mark(), frames.slice(start));
const logins = (from) => since(from).filter((event) => event.frame?.method === "connect");
const cliHome = home();
const flags = ["--url", url, "--token", token];
let watcher = await operator(url, token, ["operator.admin"]);

async function command(...args) {
  const done = await cli([...args, "--json", ...flags], cliHome);
  assert.equal(done.code, 0, `${args.join(" ")}: ${done.stdout}${done.stderr}`);
  return JSON.parse(done.stdout);
}

/** A node host in `path`; without `secret` it has only what the gateway gave it before. */
function begin(path, secret = token, ...more) {
  const { port } = new URL(tap.url);
  const args = ["node", "run", "--host", "127.0.0.1", "--port", port, "--display-name", NAME, ...more];
  if (OURS) args.push("--exec-host", "local");
  return start(nodeKind, args, path, secret ? { OPENCLAW_GATEWAY_TOKEN: secret } : {});
}
const policy = (path, defaults) => {
  const file = { version: 1, defaults, agents: {} };
  writeFileSync(join(path, ".openclaw/exec-approvals.json"), JSON.stringify(file), { mode: 0o600 });
};
const pendingDevice = () =>
  until("a pairing request", async () => (await watcher.request("device.pair.list", {})).pending[0], 30_000);
const pendingSurface = () =>
  until("a surface request", async () => (await watcher.request("node.pair.list", {})).pending[0], 30_000);
const found = async (id) => (await watcher.request("node.list", {})).nodes.find((entry) => entry.nodeId === id);
const connected = (id) => until("the node's connection", async () => (await found(id))?.connected && found(id), BACK_MS);
const gone = (id) => until("the end of the node's connection", async () => !(await found(id))?.connected, 10_000);
let calls = 0;
const invoke = (id, name, params) =>
  watcher.request("node.invoke", { nodeId: id, command: name, params, idempotencyKey: `interop-${(calls += 1)}` });
const ready = (id) =>
  until("an answer of the node", () => invoke(id, "system.which", { bins: ["sh"] }).catch(() => undefined), BACK_MS);
/** The gateway's answers to what the node sent as `method` since `from`. */
function answers(from, method, event) {
  const sent = since(from).filter(({ dir, frame }) =>
    dir === "client->gateway" && frame.method === method && (!event || frame.params.event === event));
  return sent.map(({ conn, frame }) =>
    since(from).find((other) => other.conn === conn && other.frame?.type === "res" && other.frame.id === frame.id)?.frame);
}
/** The gateway knows the run that `event` is about; for another it would say so. */
async function answered(from, event) {
  const [answer] = await until(event, () => answers(from, "node.event", event).every((entry) => entry) && answers(from, "node.event", event), 10_000);
  assert.deepEqual(answer?.payload, { ok: true });
}

// ---- admitted ----------------------------------------------------------------------------------------------------------------
const nodeHome = home();
if (OURS) policy(nodeHome, { security: "full", ask: "off" });
let host = begin(nodeHome);
const device = await row("refused with PAIRING_REQUIRED, then waits and says what to run", async () => {
  const { requestId, deviceId } = await pendingDevice();
  await until("the sentence", () => log(host).includes(`devices approve ${requestId}`) || !OURS);
  await sleep(6_000); // several times the first pauses
  assert.equal(logins(0).length, 1, "it came back by itself");
  assert(!host.ended);
  return { requestId, deviceId };
});
const id = device.deviceId;
await row("devices approve", () => command("devices", "approve", device.requestId));
async function restart(...more) {
  await stop(host);
  host = begin(nodeHome, ...more);
}
await row("connects once started again; its surface waits", async () => {
  const from = mark();
  await restart();
  const { requestId, commands } = await pendingSurface();
  assert(commands.includes("system.run"));
  assert.deepEqual((await found(id)).commands, []);
  await command("nodes", "approve", requestId);
  await ready(id);
  assert.equal((await found(id)).approvalState, "approved");
  const told = ["node.skills.update", "node.pluginTools.update"];
  await until("what it tells of itself", () => told.every((method) => answers(from, method).some((answer) => answer?.ok)), 10_000).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(told.map((method) => answers(from, method)))}`);
  });
});
await row("nodes invoke system.which", async () => {
  const params = JSON.stringify({ bins: ["sh", "no-such-program"] });
  const { payload } = await command("nodes", "invoke", "--node", NAME, "--command", "system.which", "--params", params);
  assert.match(payload.bins.sh, /\/sh$/);
});
await row("system.run; its event belongs to the run", async () => {
  const from = mark();
  const { payload } = await invoke(id, "system.run", { command: ["/bin/echo", "hello"], timeoutMs: 10_000 });
  assert.deepEqual([payload.stdout, payload.exitCode], ["hello\n", 0]);
  await answered(from, "exec.finished");
});
await row("system.run refused by the node's policy; its event belongs to the run", async () => {
  if (!OURS) return; // it keeps its policy elsewhere
  policy(nodeHome, { security: "deny", ask: "off" });
  const from = mark();
  const refused = await invoke(id, "system.run", { command: ["/bin/echo", "no"] }).catch((error) => error);
  policy(nodeHome, { security: "full", ask: "off" });
  assert.match(refused.message, /SYSTEM_RUN_D/);
  await answered(from, "exec.denied");
});
await row("skills.bins is asked for where the policy counts on it", async () => {
  if (!OURS) return;
  policy(nodeHome, { security: "allowlist", ask: "off", autoAllowSkills: true });
  const from = mark();
  await invoke(id, "system.run", { command: ["/bin/echo", "no"] }).catch(() => {});
  policy(nodeHome, { security: "full", ask: "off" });
  const [answer] = await until("its answer", () => answers(from, "skills.bins").some((entry) => entry) && answers(from, "skills.bins"), 10_000);
  assert(Array.isArray(answer.payload?.bins), JSON.stringify(answer));
});
await row("system.run that takes too long is ended, and says nothing more", async () => {
  const from = mark();
  const call = { nodeId: id, command: "system.run", params: { command: ["/bin/sleep", "77"] }, timeoutMs: 1_000, idempotencyKey: "late" };
  await assert.rejects(watcher.request("node.invoke", call), /timed out/i);
  await sleep(500);
  assert(since(from).some(({ frame }) => frame?.event === "node.invoke.cancel"));
  assert.deepEqual(answers(from, "node.invoke.result"), []);
});

// ---- restarts ----------------------------------------------------------------------------------------------------------------
await row("comes back by itself when the gateway restarts", async () => {
  const from = mark();
  watcher.stop();
  await stop(peer);
  const end = await until("the close", () => since(from).find((event) => event.kind === "close" && event.dir === "gateway->client"));
  console.log(`     closed with ${end.code} ${end.reason}`);
  peer = start(gatewayKind, ["gateway", "run"], peer.home, { OPENCLAW_CONFIG_PATH: join(peer.home, ".openclaw/openclaw.json") });
  watcher = await operator(url, token, ["operator.admin"]);
  const began = Date.now();
  await connected(id);
  await ready(id);
  const tries = since(from).filter((event) => event.kind === "open").length;
  console.log(`     back ${Date.now() - began} ms after the first operator, ${tries} attempts`);
  assert.equal((await found(id)).approvalState, "approved");
});
await row("node.host.stats are taken", () => until("its load", async () => (await found(id)).hostStats?.cpuCount > 0, 10_000));
await row("comes back with its device token alone", async () => {
  const from = mark();
  await restart(null);
  await ready(id);
  const [login] = logins(from);
  assert.notEqual(login.frame.params.auth.token, token);
});
await row("a wrong shared token: the device token is the second try", async () => {
  await restart("not-the-token");
  await ready(id);
});

// ---- tokens and records ------------------------------------------------------------------------------------------------------
await row("devices rotate closes its connection; the old device token is refused", async () => {
  await restart(null);
  await ready(id);
  const from = mark();
  await command("devices", "rotate", "--device", id, "--role", "node");
  const end = await until("the close", () => since(from).find((event) => event.kind === "close"));
  assert.equal(end.code, 4001);
  await until("the refusal", () => since(from).some(({ frame }) => /MISMATCH/.test(frame?.error?.details?.code)), 30_000);
  await sleep(6_000);
  const tries = logins(from).length;
  console.log(`     ${tries} attempts, ${host.ended ? `ended with ${JSON.stringify(await host.exit)}` : "waits"}`);
  assert(tries <= 2);
});
await row("with the shared token it gets another one", async () => {
  await restart();
  await ready(id);
  await restart(null);
  await ready(id);
});
await row("nodes remove ends it; it waits for a new approval", async () => {
  const from = mark();
  await command("nodes", "remove", "--node", id);
  await until("a refusal or a new request", () => since(from).some(({ frame }) => frame?.error || frame?.event === "node.pair.resolved"), 30_000);
  await assert.rejects(invoke(id, "system.which", { bins: ["sh"] }));
  await sleep(3_000);
  const refusals = since(from).filter(({ frame }) => frame?.error).map(({ frame }) => frame.error.details?.code ?? frame.error.message);
  console.log(`     ${JSON.stringify(refusals)}, ${logins(from).length} attempts`);
  assert(logins(from).length <= 2);
});
await stop(host);
await row("a wrong token and no other: ends with status 1", async () => {
  const stranger = begin(home(), "not-the-token");
  const { code } = await stranger.exit;
  assert.equal(code, 1, log(stranger));
});

// ---- setup links -------------------------------------------------------------------------------------------------------------
await row("a setup link admits one node, once", async () => {
  const { setupCode, access } = await watcher.request("device.pair.setupCode", { bootstrapProfile: "node", includeQr: false, publicUrl: tap.url });
  assert.equal(access, "node");
  assert(!Buffer.from(setupCode, "base64url").toString().includes(token));
  const link = `oc-pair://${setupCode}`;
  const { hostname, port } = new URL(gatewayKind === "ours" ? url : tap.url); // ours names itself
  const invited = (path, way = ["--pair", link]) => {
    const args = ["node", "run", ...way, "--display-name", "invited"];
    if (OURS) args.push("--exec-host", "local", "--commands", "system.which");
    return start(nodeKind, args, path);
  };
  const guestHome = home();
  let guest = invited(guestHome);
  const byName = async () => (await watcher.request("node.list", {})).nodes.find((entry) => entry.displayName === "invited" && entry.connected);
  const { nodeId } = await until("the invited node", byName, BACK_MS);
  const pending = (await watcher.request("node.pair.list", {})).pending.find((entry) => entry.nodeId === nodeId);
  console.log(`     its surface ${pending ? "waits" : "is approved"}`);
  if (pending) await watcher.request("node.pair.approve", { requestId: pending.requestId });
  await ready(nodeId);
  if (OURS) assert.deepEqual((await found(nodeId)).commands, ["system.which"]);
  await stop(guest);
  await gone(nodeId);
  // The link is used up; what it got for it counts. Ours may be started with the link again.
  guest = invited(guestHome, OURS ? undefined : ["--host", hostname, "--port", port]);
  await ready(nodeId);
  await stop(guest);
  const second = invited(home());
  const { code } = await second.exit;
  assert.equal(code, 1, log(second));
  assert(!log(second).includes(setupCode));
});

await row("the app's own node", async () => {
  if (!OURS) return; // only ours is an app
  const appHome = home();
  const config = join(appHome, ".openclaw/openclaw.json");
  const auth = { mode: "token", token };
  writeFileSync(config, JSON.stringify({ gateway: { mode: "local", port: Number(new URL(tap.url).port), auth } }), { mode: 0o600 });
  const begun = () => start("ours", ["app", "--ask", "none"], appHome);
  let app = begun();
  const { requestId, deviceId } = await pendingDevice();
  await watcher.request("device.pair.approve", { requestId });
  await stop(app);
  app = begun();
  await watcher.request("node.pair.approve", { requestId: (await pendingSurface()).requestId });
  await ready(deviceId);
  await assert.rejects(invoke(deviceId, "system.run", { command: ["/bin/echo", "no"] }), /SYSTEM_RUN_DENIED/);
  await stop(app);
});

watcher.stop();
tap.close();
await stopAll();
const failed = rows.filter((entry) => !entry.ok);
console.log(`${gatewayKind} gateway, ${nodeKind} node: ${rows.length - failed.length} passed, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);
