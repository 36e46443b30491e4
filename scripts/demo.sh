#!/usr/bin/env bash
# The whole chain on one terminal: starts the app in a throw-away state directory, asks it for one command, and the
# person at this terminal answers the prompt. Exit code: the command's. Usage: scripts/demo.sh [COMMAND…]
set -eu
cd "$(dirname "$0")/.."

openclaw=${OPENCLAW_BIN:-target/release/openclaw}
ready_seconds=20

[ -x "$openclaw" ] || { echo "demo: $openclaw is not built; run 'make demo'" >&2; exit 1; }
if ! { : >/dev/tty; } 2>/dev/null; then
    echo "demo: nothing was started: the app asks a person on the terminal before it runs a command, and there is no terminal here." >&2
    exit 1
fi
[ $# -gt 0 ] || set -- uname -a

# Nothing of the owner's own set-up is used or touched. /tmp, since a Unix socket's path must be short.
unset "${!OPENCLAW_@}"
state=$(mktemp -d /tmp/openclaw-demo.XXXXXX)
export OPENCLAW_STATE_DIR=$state
app=

# shellcheck disable=SC2317 # called by the trap
finish() {
    trap - EXIT INT TERM HUP
    if [ -n "$app" ]; then
        kill -TERM "$app" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$app" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$app" 2>/dev/null || true
        wait "$app" 2>/dev/null || true
    fi
    rm -rf "$state"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# No job control: the app stays in this process group, which is the terminal's foreground group, and so may prompt here.
"$openclaw" app --ask terminal --no-tcp 2>"$state/app.log" &
app=$!

until "$openclaw" mac-debug nodes --json 2>/dev/null | grep -q '"connected": *true'; do
    if ! kill -0 "$app" 2>/dev/null || [ "$SECONDS" -ge "$ready_seconds" ]; then
        echo "demo: the app did not come up; it said:" >&2
        cat "$state/app.log" >&2
        exit 1
    fi
    sleep 0.1
done

echo "\$ openclaw mac-debug run -- $*"
code=0
"$openclaw" mac-debug run -- "$@" || code=$?
[ "$code" = 0 ] || { echo "demo: exit code $code; the app said:" >&2; cat "$state/app.log" >&2; }
exit "$code"
