// Every command of the official CLI that reaches this far (spec gateway §7), against a running gateway with a node host of its own.
// Environment: INTEROP_URL, INTEROP_TOKEN; INTEROP_NODE says whose node host (official or ours); INTEROP_FRAMES=DIR keeps the
// frames of each command there. The gateway admits no device unasked (gateway.nodes.pairing.autoApproveLocal: false).
// Exit code 0 only if every command did what it does against the official gateway.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allowRemoteEdits, cli, deviceIdentity, home, log, node, operator, stop, stopAll, until } from "./peers.mjs";
import { faultsOf } from "./frames.mjs";
import { openTap } from "./tap.mjs";

const { INTEROP_URL: target, INTEROP_TOKEN: token, INTEROP_NODE: nodeKind = "official", INTEROP_FRAMES: frames } = process.env;
assert(target && token, "INTEROP_URL and INTEROP_TOKEN must be set; run.mjs does that");
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stopAll().finally(() => process.exit(1)));

const tap = await openTap(target);
const { url } = tap;
const cliHome = home();
const rows = [];
const conversation = [];
let taken = 0;

function keepFrames(name) {
  const events = tap.take();
  conversation.push(...events);
  if (!frames) return;
  mkdirSync(frames, { recursive: true });
  const file = `${String((taken += 1)).padStart(2, "0")}-${name.replace(/[^a-z0-9]+/gi, "-")}.json`;
  writeFileSync(join(frames, file), `${JSON.stringify({ scenario: name, events }, null, 1)}\n`);
}

/** Runs `body` as one row of the table. What it returns is what later rows need. */
async function row(name, body) {
  const began = Date.now();
  const entry = { name, ok: true, note: "" };
  rows.push(entry);
  let value;
  try {
    value = await body(entry);
  } catch (error) {
    entry.ok = false;
    entry.note = String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 300);
  }
  entry.ms ??= Date.now() - began;
  keepFrames(name);
  console.log(`${entry.ok ? "ok  " : "FAIL"} ${String(entry.ms).padStart(6)} ms  ${name}${entry.note ? `: ${entry.note}` : ""}`);
  return value;
}

// Text for people may hold anything; for --json the answer is the whole output, but for a warning before it.
function json(result) {
  const at = result.stdout.search(/^[[{]/m);
  assert(at >= 0, `no JSON: ${result.stdout}${result.stderr}`);
  return JSON.parse(result.stdout.slice(at));
}

/** One CLI command: `expect` sees the result; without one, exit code 0 is enough. */
function command(args, expect = () => {}, { code = 0, more, flags = ["--url", url, "--token", token], name = args } = {}) {
  const shown = name.map((word) => (word.length > 40 ? `${word.slice(0, 8)}…` : word)).join(" ");
  return row(shown, async (entry) => {
    const result = await cli([...args, ...flags], cliHome, more);
    entry.ms = result.ms;
    const said = `${result.stdout}\n${result.stderr}`;
    assert.equal(result.code, code, `exit code ${result.code}: ${said}`);
    return expect(result, said);
  });
}

const asJson = (args, expect = (answer) => answer, options) => command([...args, "--json"], (result) => expect(json(result)), options);
const call = (method, params, expect, options) =>
  asJson(["gateway", "call", method, "--params", JSON.stringify(params)], expect, { name: ["gateway", "call", method], ...options });

const watcher = await operator(url, token, ["operator.admin"]);

// ---- reachability ------------------------------------------------------------------------------------------------------------
await call("health", {}, (health) => assert.equal(health.ok, true));
await call("status", {}, (status) => assert(status.runtimeVersion));
await call("system-presence", {}, (rows) => assert(rows.some((entry) => entry.reason === "self"), JSON.stringify(rows)));
await call("config.get", {}, (config) => {
  assert.equal(config.valid, true);
  assert(!JSON.stringify(config).includes(token), "the token is shown");
});
await command(["gateway", "call", "no.such.method"], (_, said) => assert.match(said, /unknown method/), { code: 1 });
await command(["gateway", "health"], (_, said) => assert.match(said, /OK/));
await asJson(["gateway", "probe"], (probe) => {
  assert.equal(probe.ok, true);
  const mine = probe.targets.find((entry) => entry.url === url);
  assert.equal(mine?.connect.ok, true, JSON.stringify(mine));
});
await command(["gateway", "status"], (_, said) => assert.match(said, /(RPC|Connectivity) probe: ok/i));
await command(["gateway", "health"], (_, said) => assert.match(said, /unauthorized|token/i), {
  code: 1,
  flags: ["--url", url, "--token", `${token}x`],
  name: ["gateway", "health", "(wrong token)"],
});
await command(["system", "presence"], (_, said) => assert.match(said, /gateway/i));

// The commands without --url find a gateway in their configuration.
const remote = join(cliHome, ".openclaw/remote.json");
writeFileSync(remote, JSON.stringify({ gateway: { mode: "remote", remote: { url, token } } }), { mode: 0o600 });
const configured = { flags: [], more: { OPENCLAW_CONFIG_PATH: remote } };
await command(["health"], undefined, configured);
await asJson(["status"], (status) => assert.equal(status.gateway.reachable, true, JSON.stringify(status.gateway)), configured);
await asJson(["nodes", "status"], (answer) => assert(Array.isArray(answer.nodes)), configured);

// ---- a node host is admitted as a device ------------------------------------------------------------------------------------
const nodeHome = home();
if (nodeKind === "ours") allowRemoteEdits(nodeHome);
let host = node(nodeKind, url, token, nodeHome, "interop");
async function restartNode() {
  await stop(host);
  host = node(nodeKind, url, token, nodeHome, "interop");
}
const pendingDevice = () =>
  until("the node's pairing request", async () => (await watcher.request("device.pair.list", {})).pending[0], 30_000);
const pendingSurface = () =>
  until("the node's surface", async () => (await watcher.request("node.pair.list", {})).pending[0], 30_000);
const nodeRow = async () => (await watcher.request("node.list", {})).nodes.find((entry) => entry.nodeId === nodeId);
const connectedNode = () => until("the node's connection", async () => (await nodeRow())?.connected && nodeRow(), 30_000);

const refused = await row("node run, refused", async () => (await pendingDevice()).requestId);
await asJson(["devices", "list"], ({ pending, paired }) => {
  assert.deepEqual(pending.map((entry) => [entry.requestId, entry.role]), [[refused, "node"]]);
  assert.deepEqual(paired, []);
});
await asJson(["devices", "reject", String(refused)]);
await restartNode();
const asked = await row("node run, asks again", async () => (await pendingDevice()).requestId);
const nodeId = await asJson(["devices", "approve", String(asked)], ({ requestId, device }) => {
  assert.equal(requestId, asked);
  assert(device.roles.includes("node"), JSON.stringify(device));
  return device.deviceId;
});

// ---- its surface -------------------------------------------------------------------------------------------------------------
await restartNode();
const surface = await row("node run, admitted", async () => (await pendingSurface()).requestId);
await asJson(["nodes", "list"], ({ pending }) => assert.deepEqual(pending.map((entry) => entry.requestId), [surface]));
await asJson(["nodes", "pending"], (pending) => assert.deepEqual(pending.map((entry) => entry.requestId), [surface]));
await asJson(["nodes", "reject", String(surface)], (answer) => assert.equal(answer.nodeId, nodeId));
await restartNode();
const again = await row("node run, offers again", async () => (await pendingSurface()).requestId);
await asJson(["nodes", "approve", String(again)], ({ node: approved }) => {
  assert.equal(approved.nodeId, nodeId);
  assert(approved.commands.includes("system.run"), JSON.stringify(approved));
});
await asJson(["nodes", "list"], ({ paired }) => assert.deepEqual(paired.map((entry) => entry.nodeId), [nodeId]), {
  name: ["nodes", "list", "(approved)"],
});
await command(["nodes", "list"], (_, said) => assert.match(said, /interop/));
await command(["nodes", "status"], (_, said) => assert.match(said, /Connected: 1/));
await asJson(["nodes", "status"], ({ nodes }) => assert.equal(nodes.find((entry) => entry.nodeId === nodeId)?.connected, true));
await asJson(["nodes", "describe", "--node", "interop"], (answer) => {
  assert.equal(answer.nodeId, nodeId);
  assert.equal(answer.approvalState, "approved");
});
await command(["nodes", "describe", "--node", "nobody"], (_, said) => assert.match(said, /unknown node/i), { code: 1 });

// ---- invocations -------------------------------------------------------------------------------------------------------------
const invoke = (name, params, expect, options) =>
  asJson(["nodes", "invoke", "--node", "interop", "--command", name, "--params", JSON.stringify(params)], expect, {
    name: ["nodes", "invoke", name],
    ...options,
  });
await row("node.invoke, ready", () =>
  until("the node's commands", () =>
    watcher
      .request("node.invoke", { nodeId, command: "system.which", params: { bins: ["sh"] }, idempotencyKey: "ready" })
      .catch(() => undefined), 15_000));
await invoke("system.which", { bins: ["sh", "no-such-program"] }, ({ ok, payload }) => {
  assert.equal(ok, true);
  assert.match(payload.bins.sh, /\/sh$/);
  assert.equal(payload.bins["no-such-program"], undefined);
});
await command(["nodes", "invoke", "--node", "interop", "--command", "no.such.command"], (_, said) => assert.match(said, /node command not allowed/), { code: 1 });
await command(["nodes", "notify", "--node", "interop", "--title", "T", "--body", "B"], (_, said) => assert.match(said, /node command not allowed/), { code: 1 });

// ---- policy ------------------------------------------------------------------------------------------------------------------
const policyFile = join(cliHome, "policy.json");
const setPolicy = (policy) => writeFileSync(policyFile, JSON.stringify({ version: 1, agents: {}, ...policy }));
for (const where of [["--gateway"], ["--node", "interop"]]) {
  const approvals = (verb, expect, ...more) => asJson(["approvals", ...verb, ...more, ...where], expect, { name: ["approvals", ...verb, ...where] });
  await approvals(["get"], (answer) => assert.equal(answer.file.version, 1));
  await command(["approvals", "get", ...where], (_, said) => assert.match(said, /approvals/i));
  setPolicy({ defaults: { security: "allowlist", ask: "off", askFallback: "deny" } });
  await approvals(["set"], (answer) => assert.equal(answer.file.defaults.security, "allowlist"), "--file", policyFile);
  await approvals(["allowlist", "add"], (answer) => assert.equal(answer.file.agents["*"].allowlist[0].pattern, "/usr/bin/uname"), "/usr/bin/uname");
  await approvals(["allowlist", "remove"], (answer) => assert.equal((answer.file.agents?.["*"]?.allowlist ?? []).length, 0), "/usr/bin/uname");
}
const run = (argv) => ({ nodeId, command: "system.run", params: { command: argv, timeoutMs: 10_000 }, idempotencyKey: argv.join(" ") });
await command(["gateway", "call", "node.invoke", "--params", JSON.stringify(run(["/bin/echo", "denied"]))], (_, said) => assert.match(said, /SYSTEM_RUN_DENIED/), {
  code: 1,
  name: ["gateway", "call", "node.invoke", "system.run", "(not on the allowlist)"],
});
setPolicy({ defaults: { security: "full", ask: "off" } });
await asJson(["approvals", "set", "--file", policyFile, "--node", "interop"], undefined, { name: ["approvals", "set", "(full)", "--node", "interop"] });
await call("node.invoke", run(["/bin/echo", "hello"]), ({ payload }) => assert.equal(payload.stdout, "hello\n"), {
  name: ["gateway", "call", "node.invoke", "system.run"],
});

// ---- approvals ---------------------------------------------------------------------------------------------------------------
async function pendingApproval(id) {
  const request = { id, command: "/bin/echo hello", commandArgv: ["/bin/echo", "hello"], host: "gateway", timeoutMs: 60_000 };
  const accepted = watcher.request("exec.approval.request", { ...request, twoPhase: true, requireDeliveryRoute: false });
  accepted.catch(() => {});
  await until("the approval", async () => (await watcher.request("exec.approval.list", {})).some((entry) => entry.id === id), 10_000);
}
const decision = (id) => watcher.request("exec.approval.waitDecision", { id }).then((answer) => answer.decision);
await row("exec.approval.request", () => pendingApproval("interop-1"));
await asJson(["approvals", "pending"], (answer) => assert(JSON.stringify(answer).includes("interop-1")));
await asJson(["approvals", "resolve", "interop-1", "allow-once"], async () => assert.equal(await decision("interop-1"), "allow-once"));
await row("exec.approval.request, again", () => pendingApproval("interop-2"));
await asJson(["approvals", "resolve", "interop-2", "deny"], async () => assert.equal(await decision("interop-2"), "deny"));
await command(["approvals", "resolve", "interop-3", "deny"], (_, said) => assert.match(said, /not found|unknown|expired/i), { code: 1 });

// ---- names, tokens, the end ---------------------------------------------------------------------------------------------------
await asJson(["nodes", "rename", "--node", "interop", "--name", "renamed"], async (answer) => {
  assert.deepEqual([answer.nodeId, answer.displayName], [nodeId, "renamed"]);
  assert.equal((await nodeRow()).displayName, "renamed");
});
await asJson(["devices", "rename", "--device", String(nodeId), "--name", "labelled"]);
await asJson(["devices", "list"], ({ paired }) => assert.equal(paired.find((entry) => entry.deviceId === nodeId)?.connected, true), {
  name: ["devices", "list", "(approved)"],
});
await row("node run, after a restart", async () => {
  await restartNode();
  await connectedNode();
});
await asJson(["devices", "rotate", "--device", String(nodeId), "--role", "node"], async (answer) => {
  assert.equal(answer.tokenDelivery, "withheld-cross-device");
  await until("the end of its connection", async () => log(host).includes("4001") || !(await nodeRow())?.connected || host.ended, 5_000);
});
await asJson(["devices", "revoke", "--device", String(nodeId), "--role", "node"], (answer) => assert.equal(typeof answer.revokedAtMs, "number"));
await row("node run, without its role", async () => {
  await restartNode();
  const request = await pendingDevice();
  assert.deepEqual([request.deviceId, request.role], [nodeId, "node"]);
});
await asJson(["nodes", "remove", "--node", String(nodeId)], async (answer) => {
  assert.equal(answer.nodeId, nodeId);
  assert.equal(await nodeRow(), undefined);
  const { paired } = await watcher.request("device.pair.list", {}); // its only role was the node's
  assert(!paired.some((entry) => entry.deviceId === nodeId), "the device is still paired");
});
await command(["devices", "remove", String(nodeId)], (_, said) => assert.match(said, /unknown deviceId/), {
  code: 1,
  name: ["devices", "remove", "(gone)"],
});
await row("node run, as new", async () => {
  await restartNode();
  await watcher.request("device.pair.approve", { requestId: (await pendingDevice()).requestId });
});
await asJson(["devices", "remove", String(nodeId)], async () => {
  const { paired } = await watcher.request("device.pair.list", {});
  assert(!paired.some((entry) => entry.deviceId === nodeId));
}, { name: ["devices", "remove", "(node)"] });
await stop(host);

// ---- an operator's device ----------------------------------------------------------------------------------------------------
// Not `gateway-client`: with the shared token that one needs no pairing, with a device or without.
const tablet = { deviceIdentity: deviceIdentity(), clientName: "openclaw-macos", mode: "ui" };
const tabletId = tablet.deviceIdentity.deviceId;
const scopes = ["operator.read"];
const tabletRequest = await row("operator with a device, refused", async () => {
  await assert.rejects(operator(url, token, scopes, 2_000, tablet), /pairing required/);
  return (await until("its request", async () => (await watcher.request("device.pair.list", {})).pending.find((entry) => entry.deviceId === tabletId), 5_000)).requestId;
});
await asJson(["devices", "approve", String(tabletRequest)], ({ device }) => assert.deepEqual(device.scopes, scopes), {
  name: ["devices", "approve", "(operator)"],
});
await row("operator with a device, admitted", async () => {
  const connected = await operator(url, token, scopes, 5_000, tablet);
  connected.stop();
  assert.deepEqual(connected.hello.auth.scopes, scopes);
});
await asJson(["devices", "rotate", "--device", tabletId, "--role", "operator"], (answer) => assert.deepEqual(answer.scopes, scopes));
await asJson(["devices", "remove", tabletId], async () => {
  const { paired } = await watcher.request("device.pair.list", {});
  assert(!paired.some((entry) => entry.deviceId === tabletId));
});

watcher.stop();
await row("every frame of the gateway fits the published schemas", (entry) => {
  const { checked, faults } = faultsOf([...conversation, ...tap.take()]);
  entry.note = `${checked} frames`;
  assert.deepEqual(faults, []);
});
tap.close();
await stopAll();
const failed = rows.filter((entry) => !entry.ok);
console.log(`${rows.length - failed.length} passed, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);
