#!/usr/bin/env bash
# The new binary takes the place of the one that runs as a service, which is started again. Touches only services that
# were installed with `openclaw app install` or `openclaw node install`; anything started by hand goes on.
set -eu
cd "$(dirname "$0")/.."

openclaw=${OPENCLAW_BIN:-target/release/openclaw}
prefix=${PREFIX:-$HOME/.local}
place=$prefix/bin/openclaw
[ -x "$openclaw" ] || { echo "restart: $openclaw is not built; run 'make build'" >&2; exit 1; }

# field NAME: its value in the JSON on standard input, which has one member a line.
field() { sed -n -e "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" -e "s/^ *\"$1\": \([^\",]*\),\{0,1\}\$/\1/p"; }

installed=
for role in app node; do
    status=$("$openclaw" "$role" status --json)
    [ "$(printf '%s\n' "$status" | field installed)" = true ] || continue
    file=$(printf '%s\n' "$status" | field file)
    # What another path starts would go on as it is.
    grep -qF -e "$place\"" -e "$place<" "$file" || {
        echo "restart: the service \`$role\` does not start $place ($file)." >&2
        echo "Run: make install && $place $role install, with the flags that it is to have" >&2
        exit 1
    }
    installed="$installed $role"
done
[ -n "$installed" ] || {
    echo "restart: nothing is installed as a service, so there is nothing to restart." >&2
    echo "Run: make install && $place app install (or node install); 'openclaw app' by hand is ended with Ctrl-C." >&2
    exit 1
}

install -m 755 "$openclaw" "$place"
for role in $installed; do "$place" "$role" restart; done
