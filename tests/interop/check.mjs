// Drives a running gateway with the protocol's reference client and checks what comes back against the published schemas.
// Environment: INTEROP_URL, INTEROP_TOKEN. Exit code 0 only if every check held.
import assert from "node:assert/strict";
import { GatewayClient } from "@openclaw/gateway-client";
import { PROTOCOL_VERSION } from "@openclaw/gateway-protocol/version";
import { faultsOf } from "./frames.mjs";
import { openTap } from "./tap.mjs";

const target = process.env.INTEROP_URL;
const token = process.env.INTEROP_TOKEN;
assert(target && token, "INTEROP_URL and INTEROP_TOKEN must be set; scripts/interop.sh does that");

const tap = await openTap(target);
const { url } = tap;

// Longest the whole check may take: the gateway is local and idle.
const deadline = setTimeout(() => {
  console.error("interop: no result within 30 s");
  process.exit(1);
}, 30_000);

function connect(options) {
  return new Promise((resolve, reject) => {
    const client = new GatewayClient({
      url,
      role: "operator",
      minProtocol: PROTOCOL_VERSION,
      maxProtocol: PROTOCOL_VERSION,
      onHelloOk: (hello) => resolve({ client, hello }),
      onConnectError: (error) => {
        reject(error); // first: stopping reports an error of its own
        client.stop();
      },
      ...options,
    });
    client.start();
  });
}

let passed = 0;
let failed = 0;
async function check(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.error(`FAIL ${name}: ${error?.stack ?? error}`);
  }
}

await check("a wrong token is refused", () =>
  assert.rejects(connect({ token: `${token}x`, scopes: ["operator.read"] }), /unauthorized|token/i));

const { client, hello } = await connect({ token, scopes: ["operator.read", "operator.write"] });

await check("hello-ok says what was asked for and is there", () => {
  assert.equal(hello.protocol, PROTOCOL_VERSION);
  assert.deepEqual([...hello.auth.scopes].sort(), ["operator.read", "operator.write"]);
  for (const method of ["health", "node.list", "node.invoke"]) assert(hello.features.methods.includes(method), method);
});

await check("health answers without parameters", async () => {
  assert.equal(typeof (await client.request("health")), "object");
});

let node;
await check("node.list shows the app's own node, approved and connected", async () => {
  const { ts, nodes } = await client.request("node.list", {});
  assert.equal(typeof ts, "number");
  node = nodes.find((row) => row.connected && row.approvalState === "approved");
  assert(node, `no such node in ${JSON.stringify(nodes)}`);
  assert(node.commands.includes("system.which") && node.commands.includes("system.run"));
});

await check("node.describe gives the same node", async () => {
  const row = await client.request("node.describe", { nodeId: node.nodeId });
  assert.equal(row.nodeId, node.nodeId);
  assert.deepEqual(row.commands, node.commands);
});

await check("node.invoke system.which finds sh, and nothing that is not there", async () => {
  const answer = await client.request("node.invoke", {
    nodeId: node.nodeId,
    command: "system.which",
    params: { bins: ["sh", "no-such-program-here"] },
    idempotencyKey: "interop-which",
  });
  assert.equal(answer.ok, true);
  assert.equal(answer.nodeId, node.nodeId);
  assert.equal(answer.command, "system.which");
  assert.match(answer.payload.bins.sh, /^\/.*\/sh$/);
  assert.equal(answer.payload.bins["no-such-program-here"], undefined);
  assert.deepEqual(JSON.parse(answer.payloadJSON), answer.payload);
});

await check("a command that the node never declared is refused before dispatch", () =>
  assert.rejects(
    client.request("node.invoke", { nodeId: node.nodeId, command: "no.such.command", idempotencyKey: "interop-unknown" }),
    /node command not allowed/,
  ));

await check("a method beyond the scopes is refused with the scope's name", () =>
  assert.rejects(client.request("node.pair.list", {}), /missing scope: operator\.pairing/));

await check("an unknown method is refused by name", () =>
  assert.rejects(client.request("no.such.method", {}), /unknown method: no\.such\.method/));

await check("every frame fits the published schemas", () => {
  const { checked, faults } = faultsOf(tap.take());
  assert(checked > 0);
  assert.deepEqual(faults, []);
});

client.stop();
tap.close();
clearTimeout(deadline);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
