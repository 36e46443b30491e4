// One suite against one gateway: `node run.mjs official|ours [SUITE.mjs]`. With `official` the suite itself is shown to be right.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { gateway, log, stopAll } from "./peers.mjs";

const LAST_LINES = 40;

const [kind, suite = "cli.mjs"] = process.argv.slice(2);
if (kind !== "official" && kind !== "ours") {
  console.error("usage: node run.mjs official|ours [SUITE.mjs]");
  process.exit(2);
}
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stopAll().finally(() => process.exit(1)));

const began = Date.now();
const { peer, url, token } = await gateway(kind);
console.log(`the ${kind} gateway accepted a connection after ${Date.now() - began} ms`);
const child = spawn(process.execPath, [join(import.meta.dirname, suite)], {
  stdio: "inherit",
  env: { ...process.env, INTEROP_URL: url, INTEROP_TOKEN: token },
});
const [code] = await once(child, "exit");
if (code !== 0) console.error(`the ${kind} gateway said last:\n${log(peer).split("\n").slice(-LAST_LINES).join("\n")}`);
await stopAll();
process.exit(code ?? 1);
