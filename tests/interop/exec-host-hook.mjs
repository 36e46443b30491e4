// Loaded into the official node host with --import: its use of the Mac app's exec socket is tied to macOS by one test of
// `process.platform`; everything behind that test is portable. Without this hook nothing of it could be tried on Linux.
import { registerHooks } from "node:module";

const TIED = /process\.platform === "darwin" && execHostEnforced/;

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.includes("/openclaw/dist/") || !loaded.source) return loaded;
    const source = Buffer.from(loaded.source).toString("utf8");
    return TIED.test(source) ? { ...loaded, source: source.replace(TIED, "execHostEnforced") } : loaded;
  },
});
