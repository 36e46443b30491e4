// Every frame of a recorded conversation against the published schemas of the protocol.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Check, Errors } from "typebox/value";

const SCHEMA = join(import.meta.dirname, "node_modules/@openclaw/gateway-protocol/protocol.schema.json");
const { definitions } = JSON.parse(readFileSync(SCHEMA, "utf8"));

// The schema file says which envelopes there are; which payload belongs to which method stands in the names only.
const ANSWERS = {
  connect: "HelloOk",
  "exec.approvals.get": "ExecApprovalsSnapshot",
  "exec.approvals.set": "ExecApprovalsSnapshot",
  "exec.approvals.node.get": "ExecApprovalsNodeSnapshot",
  "exec.approvals.node.set": "ExecApprovalsNodeSnapshot",
};
const pascal = (name) => name.replace(/(?:^|[.-])(\w)/g, (_, first) => first.toUpperCase());
const named = (name, end) => (definitions[pascal(name) + end] ? pascal(name) + end : undefined);

// Where the product does not keep to its own schema (2026.9.6, in its recorded frames): members that it sends too, and one
// answer that it cuts short.
const ALSO_SENT = {
  HelloOk: {
    "": ["controlUiLinkReaders"],
    "/auth": ["method"],
    "/snapshot/presence/*": ["clientId"],
    "/snapshot/health/eventLoop": ["cpuBreakdown"],
  },
  EventFrame: { "": ["recipientProfileId"] },
};
const isBareOk = (schema, value) => schema === "NodeEventResult" && JSON.stringify(value) === '{"ok":true}';

function problems(schema, value) {
  if (Check(definitions[schema], value) || isBareOk(schema, value)) return [];
  const said = new Set();
  for (const { keyword, instancePath, message, params } of Errors(definitions[schema], value)) {
    const place = instancePath.replace(/\/\d+(?=\/|$)/g, "/*");
    if (keyword !== "additionalProperties") said.add(`${schema}${place}: ${message}`);
    else
      for (const name of params.additionalProperties)
        if (!ALSO_SENT[schema]?.[place]?.includes(name)) said.add(`${schema}${place}: unexpected ${name}`);
  }
  return [...said];
}

/** The frames that a gateway sent, against the schemas: how many, and each kind of fault once. `events` is what a tap took. */
export function faultsOf(events) {
  const methods = new Map(); // by connection and request id
  const found = new Set();
  let checked = 0;
  for (const { conn, dir, frame } of events) {
    if (typeof frame !== "object" || frame === null) continue;
    if (dir === "client->gateway") {
      if (frame.type === "req") methods.set(`${conn} ${frame.id}`, frame.method);
      continue;
    }
    checked += 1;
    const isEvent = frame.type === "event";
    const name = isEvent ? frame.event : methods.get(`${conn} ${frame.id}`);
    const all = problems(isEvent ? "EventFrame" : "ResponseFrame", frame);
    const schema = isEvent ? named(name, "Event") : name && (ANSWERS[name] ?? named(name, "Result"));
    if (schema && (isEvent || frame.ok)) all.push(...problems(schema, frame.payload));
    for (const problem of all) found.add(`${name}: ${problem}`);
  }
  return { checked, faults: [...found] };
}
