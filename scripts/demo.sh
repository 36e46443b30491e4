#!/usr/bin/env bash
# The whole chain on one terminal: starts the app with a throw-away state directory, asks it for one command, and the person at
# this terminal answers the prompt. Exit code: the command's. Usage: scripts/demo.sh [COMMAND…]
set -eu
cd "$(dirname "$0")/.."

if ! { : >/dev/tty; } 2>/dev/null; then
    echo "demo: nothing was started: the app asks a person on the terminal before a command runs, and there is no terminal here." >&2
    exit 1
fi
# shellcheck source=scripts/throwaway-app.sh
. scripts/throwaway-app.sh
[ $# -gt 0 ] || set -- uname -a

new_state
start_app --ask terminal --no-tcp
echo "\$ openclaw mac-debug run -- $*"
code=0
"$openclaw" mac-debug run -- "$@" || code=$?
[ "$code" = 0 ] || { echo "demo: exit code $code" >&2; show_log; }
exit "$code"
