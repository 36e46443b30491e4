// Drives a running gateway with the protocol's reference client and checks what comes back against the published schemas.
// Environment: INTEROP_URL, INTEROP_TOKEN. Exit code 0 only if every check held.
import assert from "node:assert/strict";
import { GatewayClient } from "@openclaw/gateway-client";
import { HelloOkSchema } from "@openclaw/gateway-protocol/schema";
import { PROTOCOL_VERSION } from "@openclaw/gateway-protocol/version";
import { Check, Errors } from "typebox/value";

const url = process.env.INTEROP_URL;
const token = process.env.INTEROP_TOKEN;
assert(url && token, "INTEROP_URL and INTEROP_TOKEN must be set; scripts/interop.sh does that");

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

// The published schema is older than the product: 2026.9.6 itself sends these members (frames of the recorded hello-ok).
const SENT_BY_THE_PRODUCT = { "/auth": ["method"], "/snapshot/presence": ["clientId"] };
function unexpected({ keyword, instancePath, params }) {
  if (keyword !== "additionalProperties") return true;
  const known = SENT_BY_THE_PRODUCT[instancePath.replace(/\/\d+$/, "")] ?? [];
  return !params.additionalProperties.every((name) => known.includes(name));
}

await check("hello-ok fits the published schema", () => {
  const problems = Check(HelloOkSchema, hello) ? [] : [...Errors(HelloOkSchema, hello)].filter(unexpected).slice(0, 5);
  assert.deepEqual(problems, []);
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

client.stop();
clearTimeout(deadline);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
