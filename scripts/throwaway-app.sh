# shellcheck shell=bash
# Sourced by demo.sh and interop.sh: an app in local mode with a state directory that is removed again. Nothing of the
# owner's own set-up is read or touched, and only the process started here is ended.
#
# After `new_state`: $state, exported as OPENCLAW_STATE_DIR. After `start_app FLAGS…`: the app is up and its own node is connected.

app_deadline=20 # seconds for the app to come up
stop_deadline=5 # seconds for it to end after TERM

openclaw=${OPENCLAW_BIN:-target/release/openclaw}
[ -x "$openclaw" ] || { echo "${0##*/}: $openclaw is not built; run 'make build'" >&2; exit 1; }
# No configuration of the caller's: every OPENCLAW_ variable is dropped.
unset "${!OPENCLAW_@}"
app=
state=

# In /tmp, since the path of a Unix socket must be short.
new_state() {
    state=$(mktemp -d /tmp/openclaw.XXXXXX)
    export OPENCLAW_STATE_DIR=$state
    trap stop_app EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# No job control: the app stays in this script's process group, and may so prompt on this terminal.
start_app() {
    local started=$SECONDS
    "$openclaw" app "$@" 2>"$state/app.log" &
    app=$!
    until "$openclaw" mac-debug nodes --json 2>/dev/null | grep -q '"connected": *true'; do
        if ! kill -0 "$app" 2>/dev/null || [ $((SECONDS - started)) -ge "$app_deadline" ]; then
            echo "${0##*/}: the app did not come up" >&2
            show_log
            exit 1
        fi
        sleep 0.1
    done
}

show_log() {
    echo "the app said:" >&2
    cat "$state/app.log" >&2
}

stop_app() {
    trap - EXIT
    trap '' INT TERM HUP # a second Ctrl-C may not leave the app behind
    local waited=0
    if [ -n "$app" ]; then
        kill -TERM "$app" 2>/dev/null || true
        while kill -0 "$app" 2>/dev/null && [ "$waited" -lt $((stop_deadline * 10)) ]; do
            sleep 0.1
            waited=$((waited + 1))
        done
        kill -KILL "$app" 2>/dev/null || true
        wait "$app" 2>/dev/null || true
    fi
    rm -rf "$state"
}
