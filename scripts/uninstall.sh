#!/usr/bin/env bash
# Removes what `make install` and `make restart` put there: services, dist/OpenClaw.app, the binary. Not the state directory.
set -euo pipefail
cd "$(dirname "$0")/.."

app=dist/OpenClaw.app
place=${DESTDIR:-}${PREFIX:-$HOME/.local}/bin/openclaw
# A DESTDIR is a package that is being made: its services are nobody's.
if [ -z "${DESTDIR:-}" ]; then
    for openclaw in "$app/Contents/MacOS/openclaw" "$place"; do
        [ -x "$openclaw" ] || continue
        for role in app gateway node; do "$openclaw" "$role" uninstall; done
        break # both know the same services
    done
fi
for file in "$app" "$place"; do
    [ -e "$file" ] || [ -L "$file" ] || continue
    rm -rf "$file"
    echo "removed $file"
done
echo "the state directory stays (~/.openclaw, or OPENCLAW_STATE_DIR): policy, keys, audit log"
