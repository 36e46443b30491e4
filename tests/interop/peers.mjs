// Starts and stops the peers of the interop suites, official and ours, each in a state directory of its own.
import { spawn } from "node:child_process";
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { GatewayClient } from "@openclaw/gateway-client";

const OFFICIAL = join(import.meta.dirname, "node_modules/openclaw/openclaw.mjs");
const OURS = resolve(process.env.OPENCLAW_BIN ?? join(import.meta.dirname, "../../target/release/openclaw"));
const READY_MS = 90_000; // the official gateway takes 10 s on an idle machine of two cores, 30 s on a busy one
const STOP_MS = 10_000;
const COMMAND_MS = 60_000;

const running = new Set();
const directories = new Set();

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Repeats `look` until it gives something; fails after `ms`, saying what was waited for. */
export async function until(what, look, ms = READY_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms / 1000} s`);
    await sleep(200);
  }
}

/** A new state directory; in /tmp, since the path of a Unix socket must be short. */
export function home() {
  const path = mkdtempSync("/tmp/openclaw.");
  mkdirSync(join(path, ".openclaw"), { mode: 0o700 });
  directories.add(path);
  return path;
}

// Nothing of the caller's configuration reaches a peer.
function environment(homePath, more) {
  const path = `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`;
  return { PATH: path, HOME: homePath, OPENCLAW_STATE_DIR: join(homePath, ".openclaw"), NO_COLOR: "1", ...more };
}

function program(kind) {
  return kind === "official" ? [process.execPath, OFFICIAL] : [OURS];
}

/** Starts a peer that stays; its output is in `<home>/log`. */
export function start(kind, args, homePath, more = {}) {
  const [command, ...first] = program(kind);
  const log = openSync(join(homePath, "log"), "a", 0o600);
  const child = spawn(command, [...first, ...args], {
    env: environment(homePath, more),
    stdio: ["ignore", log, log],
    detached: true, // a process group of its own, so that stopping it ends its children too
  });
  const peer = { child, home: homePath, name: `${kind} ${args[0]}`, ended: false };
  peer.exit = new Promise((done) =>
    child.once("exit", (code, signal) => {
      peer.ended = true;
      done({ code, signal });
    }),
  );
  running.add(peer);
  return peer;
}

export function log(peer) {
  return readFileSync(join(peer.home, "log"), "utf8");
}

function signal(peer, name) {
  try {
    process.kill(-peer.child.pid, name);
  } catch {
    // The group has ended.
  }
}

/** Ends a peer and its children. */
export async function stop(peer) {
  signal(peer, "SIGTERM");
  const gone = await Promise.race([peer.exit, sleep(STOP_MS)]);
  signal(peer, "SIGKILL");
  if (!gone) await peer.exit;
  running.delete(peer);
}

/** Ends everything that was started here and removes its state. */
export async function stopAll() {
  await Promise.all([...running].map(stop));
  for (const path of directories) rmSync(path, { recursive: true, force: true });
}

export function freePort() {
  return new Promise((done, fail) => {
    const server = createServer().once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** Waits until somebody listens on a port, without the pauses that a client makes between two tries. */
export async function listening(port, ms = READY_MS) {
  const deadline = Date.now() + ms;
  const tried = () =>
    new Promise((done) => {
      const socket = createConnection(port, "127.0.0.1");
      socket.once("connect", () => done(socket.destroy())).once("error", () => done());
    });
  while (!(await tried()) && Date.now() < deadline) await sleep(1);
}

/** Runs the official CLI to its end: `{code, stdout, stderr, ms}`. */
export function cli(args, homePath, more = {}) {
  const began = Date.now();
  const [command, ...first] = program("official");
  const child = spawn(command, [...first, ...args], { env: environment(homePath, more), stdio: ["ignore", "pipe", "pipe"] });
  const result = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"]) child[stream].setEncoding("utf8").on("data", (text) => (result[stream] += text));
  const timer = setTimeout(() => child.kill("SIGKILL"), COMMAND_MS);
  return new Promise((done) =>
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      done({ code: code ?? signal, ms: Date.now() - began, ...result });
    }),
  );
}

/** The key pair of a device, as the reference client takes it. */
export function deviceIdentity() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  return {
    deviceId: createHash("sha256").update(raw).digest("hex"),
    publicKeyPem: publicKey.export({ format: "pem", type: "spki" }),
    privateKeyPem: privateKey.export({ format: "pem", type: "pkcs8" }),
  };
}

// What the reference client leaves to its host: a signature over the connect payload.
const hostDeps = {
  signDevicePayload: (pem, payload) => sign(null, Buffer.from(payload), pem).toString("base64url"),
  publicKeyRawBase64UrlFromPem: (pem) => createPublicKey(pem).export({ format: "der", type: "spki" }).subarray(-32).toString("base64url"),
};

/** An operator's connection of the reference client. It repeats itself while the gateway starts. */
export function operator(url, token, scopes, ms = READY_MS, more = {}) {
  return new Promise((done, fail) => {
    let last = "no answer";
    const client = new GatewayClient({
      url,
      token,
      role: "operator",
      scopes,
      hostDeps,
      onHelloOk: (hello) => {
        clearTimeout(timer);
        done({ client, hello, request: (...call) => client.request(...call), stop: () => client.stop() });
      },
      onConnectError: (error) => (last = error.message),
      ...more,
    });
    const timer = setTimeout(() => {
      client.stop();
      fail(new Error(`no connection to ${url} within ${ms / 1000} s: ${last}`));
    }, ms);
    client.start();
  });
}

/** Ours shows a loosening edit of the policy to a person; with this the owner has said that an admin may make it unseen. */
export function allowRemoteEdits(homePath) {
  const policy = { version: 1, defaults: {}, agents: {}, local: { remoteEdits: "allow" } };
  writeFileSync(join(homePath, ".openclaw/exec-approvals.json"), JSON.stringify(policy), { mode: 0o600 });
}

/** Starts a gateway that admits no device unasked, and waits until it accepts a connection. */
export async function gateway(kind) {
  const path = home();
  const port = await freePort();
  const token = randomBytes(24).toString("hex");
  const config = {
    gateway: {
      mode: "local",
      bind: "loopback",
      port,
      auth: { mode: "token", token },
      nodes: { pairing: { autoApproveLocal: false, sshVerify: false } },
    },
  };
  if (kind === "ours") allowRemoteEdits(path);
  const file = join(path, ".openclaw/openclaw.json");
  writeFileSync(file, `${JSON.stringify(config)}\n`, { mode: 0o600 });
  const peer = start(kind, ["gateway", "run"], path, { OPENCLAW_CONFIG_PATH: file });
  const url = `ws://127.0.0.1:${port}`;
  const connected = listening(port).then(() => operator(url, token, ["operator.read"]));
  const first = await Promise.race([connected, peer.exit]);
  if (!first.stop) throw new Error(`${peer.name} ended (${JSON.stringify(first)}):\n${log(peer)}`);
  first.stop();
  return { peer, url, token };
}

/** Starts a node host that connects to `url`. Restart it with the same `homePath` and it is the same node. */
export function node(kind, url, token, homePath, displayName, more = {}) {
  const { hostname, port } = new URL(url);
  const args = ["node", "run", "--host", hostname, "--port", port, "--display-name", displayName];
  if (kind === "ours") args.push("--exec-host", "local");
  return start(kind, args, homePath, { OPENCLAW_GATEWAY_TOKEN: token, ...more });
}
