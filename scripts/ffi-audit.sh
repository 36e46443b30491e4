#!/usr/bin/env bash
# Compares every Objective-C class, selector, C function, variable, constant, structure and block in macos/src with the
# generated bindings of Apple's headers (scripts/ffi-audit/Cargo.toml names them; they are read, never compiled).
#
# Usage: scripts/ffi-audit.sh [--prove]   --prove: plant one fault at a time and fail unless each is found
# APPLE_CACHE: where the bindings are kept, 33 MB (default ~/.cache/darwin-cross). Exit 75: they could not be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${APPLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darwin-cross}
bindings=$cache/bindings-$(sha256sum scripts/ffi-audit/Cargo.lock | cut -c 1-16)
command -v python3 >/dev/null || { echo "ffi-audit: python3 is missing" >&2; exit 1; }
if [ ! -d "$bindings" ]; then
    mkdir -p "$cache"
    fetched=$(mktemp -d "$cache/bindings.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    cargo vendor -q --locked --manifest-path scripts/ffi-audit/Cargo.toml "$fetched/crates" >/dev/null ||
        { echo "ffi-audit: could not fetch the binding crates" >&2; exit 75; }
    mv "$fetched/crates" "$bindings"
fi
exec python3 -B scripts/ffi-audit/audit.py "$bindings" macos/src scripts/ffi-audit/allowed.txt "$@"
