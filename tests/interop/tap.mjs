// A WebSocket relay on loopback that keeps every frame: between a peer and a gateway, it shows what they really say.
import { once } from "node:events";
import { WebSocket, WebSocketServer } from "ws";

// The protocol's own limit on a frame (spec gateway §2), with room for what an implementation under test gets wrong.
const MAX_FRAME = 32 * 1024 * 1024;
// 1005 and 1006 stand for "no code" and "no close frame"; neither may be sent.
const sendable = (code) => code !== 1005 && code !== 1006;

function relay(from, to, kept, conn, dir) {
  const early = []; // frames that came before the other side was open
  from.on("message", (data) => {
    const text = data.toString("utf8");
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      frame = text;
    }
    kept({ conn, dir, frame });
    if (to.readyState === WebSocket.OPEN) to.send(text);
    else early.push(text);
  });
  to.on("open", () => early.forEach((text) => to.send(text)));
  from.on("close", (code, reason) => {
    kept({ conn, dir, kind: "close", code, reason: reason.toString() });
    if (code === 1006) to.terminate();
    else if (sendable(code)) to.close(code, reason);
    else to.close();
  });
  from.on("error", (error) => kept({ conn, dir, kind: "error", message: error.message }));
}

/** Relays to `target` (ws://…). `take()` gives what passed since the last time, oldest first. */
export async function openTap(target) {
  const options = { perMessageDeflate: false, maxPayload: MAX_FRAME };
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, ...options });
  await once(server, "listening");
  const start = Date.now();
  let events = [];
  let connections = 0;
  const kept = (event) => events.push({ ms: Date.now() - start, ...event });
  server.on("connection", (peer, request) => {
    const conn = (connections += 1);
    kept({ conn, kind: "open", path: request.url });
    const gateway = new WebSocket(target, options);
    relay(peer, gateway, kept, conn, "client->gateway");
    relay(gateway, peer, kept, conn, "gateway->client");
  });
  return {
    port: server.address().port,
    url: `ws://127.0.0.1:${server.address().port}`,
    take() {
      const taken = events;
      events = [];
      return taken;
    },
    close() {
      for (const peer of server.clients) peer.terminate();
      server.close();
    },
  };
}
