// The exec-host client of the official node host against the exec socket of our app: the node runs nothing itself, it hands each
// command to the app. Environment: OPENCLAW_BIN. Exit code 0 only if every check held.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { freePort, home, log, node, operator, start, stopAll, until } from "./peers.mjs";

for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stopAll().finally(() => process.exit(1)));

const appHome = home();
const state = join(appHome, ".openclaw");
const port = await freePort();
const token = randomBytes(24).toString("hex");
const write = (name, document) => writeFileSync(join(state, name), `${JSON.stringify(document)}\n`, { mode: 0o600 });
write("openclaw.json", { gateway: { mode: "local", port, auth: { mode: "token", token } } });
write("exec-approvals.json", {
  version: 1,
  defaults: { security: "allowlist", ask: "off", askFallback: "deny" },
  agents: { "*": { allowlist: [{ pattern: "/usr/bin/id" }, { pattern: "/usr/bin/sleep" }] } },
});
const app = start("ours", ["app", "--ask", "none"], appHome);
const url = `ws://127.0.0.1:${port}`;
const owner = await operator(url, token, ["operator.admin"]);
const { socket } = await until("the app's exec socket", () => {
  const document = JSON.parse(readFileSync(join(state, "exec-approvals.json"), "utf8"));
  return document.socket?.token && document;
});

const hook = pathToFileURL(join(import.meta.dirname, "exec-host-hook.mjs")).href;
const nodeHome = home();
const more = { OPENCLAW_NODE_EXEC_HOST: "app", NODE_OPTIONS: `--import=${hook}` };
const host = node("official", url, token, nodeHome, "exec-host", more);
const { requestId, nodeId } = await until("the node's surface", async () => (await owner.request("node.pair.list", {})).pending[0]);
await owner.request("node.pair.approve", { requestId });

// The node's own policy lets everything through, so that what follows is the app's; its socket is the app's.
const policy = { version: 1, socket: { path: socket.path ?? join(state, "exec-approvals.sock"), token: socket.token }, defaults: { security: "full", ask: "off" } };
const { hash } = await until("the node's policy", () => owner.request("exec.approvals.node.get", { nodeId }).catch(() => undefined), 20_000);
await owner.request("exec.approvals.node.set", { nodeId, file: policy, baseHash: hash });

let failed = 0;
async function check(name, body) {
  const began = Date.now();
  try {
    await body();
    console.log(`ok   ${String(Date.now() - began).padStart(6)} ms  ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${String(Date.now() - began).padStart(6)} ms  ${name}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 400)}`);
  }
}
let calls = 0;
const run = (command, params = {}) =>
  owner.request("node.invoke", { nodeId, command: "system.run", params: { command, ...params }, idempotencyKey: `run-${(calls += 1)}` });
const audited = () => readFileSync(join(state, "audit.jsonl"), "utf8");

await check("a command on the app's allowlist runs in the app", async () => {
  const { payload } = await run(["/usr/bin/id", "-u"]);
  assert.equal(payload.success, true, JSON.stringify(payload));
  assert.equal(payload.stdout.trim(), String(process.getuid()));
  assert.match(audited(), /\/usr\/bin\/id/, "the app's audit log does not know it");
});
await check("a command that the app does not allow is denied", () =>
  assert.rejects(run(["/usr/bin/uname"]), /SYSTEM_RUN_DENIED/));
await check("a failing command gives its exit code", async () => {
  const { payload } = await run(["/usr/bin/id", "--no-such-option"]);
  assert.equal(payload.success, false);
  assert.equal(payload.exitCode, 1, JSON.stringify(payload));
});
await check("a command's own timeout ends it", async () => {
  const { payload } = await run(["/usr/bin/sleep", "20"], { timeoutMs: 500 });
  assert.equal(payload.timedOut, true, JSON.stringify(payload));
});
await check("eight at once", async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => run(["/usr/bin/id", "-u"])));
  assert(answers.every(({ payload }) => payload.success));
});
await check("without the app nothing runs", async () => {
  const gone = { ...policy, socket: { ...policy.socket, path: join(state, "nobody.sock") } };
  const now = await owner.request("exec.approvals.node.get", { nodeId });
  await owner.request("exec.approvals.node.set", { nodeId, file: gone, baseHash: now.hash });
  await assert.rejects(run(["/usr/bin/id", "-u"]), /COMPANION_APP_UNAVAILABLE/);
});

owner.stop();
if (failed) console.error(`the node said:\n${log(host)}\nthe app said:\n${log(app)}`);
await stopAll();
console.log(`${calls} commands, ${failed} checks failed`);
process.exit(failed === 0 ? 0 : 1);
