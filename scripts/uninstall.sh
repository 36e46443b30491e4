#!/usr/bin/env bash
# Removes what `make install` and `make restart` put there: services and what a killed app left in the state directory,
# dist/OpenClaw.app, the binary, its man pages and completions. Not the documents in the state directory.
set -euo pipefail
cd "$(dirname "$0")/.."

app=dist/OpenClaw.app
prefix=${DESTDIR:-}${PREFIX:-$HOME/.local}
place=$prefix/bin/openclaw
share=$prefix/share
# A DESTDIR is a package that is being made: its services are nobody's.
if [ -z "${DESTDIR:-}" ]; then
    for openclaw in "$app/Contents/MacOS/openclaw" "$place"; do
        [ -x "$openclaw" ] || continue
        "$openclaw" app uninstall --all
        break # both know the same services
    done
fi
for file in "$app" "$place" "$share"/man/man1/openclaw.1 "$share"/man/man1/openclaw-*.1 \
    "$share/bash-completion/completions/openclaw" "$share/zsh/site-functions/_openclaw" \
    "$share/fish/vendor_completions.d/openclaw.fish"; do
    [ -e "$file" ] || [ -L "$file" ] || continue
    rm -rf "$file"
    echo "removed $file"
done
echo "the state directory stays (~/.openclaw, or OPENCLAW_STATE_DIR): policy, keys, audit log;" \
    "'openclaw app uninstall --state' of a build removes what is ours there, and asks first"
