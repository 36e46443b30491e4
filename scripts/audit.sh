#!/usr/bin/env bash
# What an auditor asks first, from the sources and from a running app: the crates and why each is there, the unsafe code,
# what listens, what is written, and known advisories where a tool for that is installed.
# Usage: scripts/audit.sh [crates|unsafe|sockets|files|advisories]…   (default: all; sockets and files start an app that is thrown away)
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- crates unsafe sockets files advisories

crates() {
    scripts/check-crates.sh
    awk '/<!-- crates -->/ {inside = 1; next} /<!-- end of crates -->/ {exit} inside' README.md
}

unsafe() {
    echo "blocks  impls  file (each block with its reason: scripts/check-source.sh)"
    find src macos -name '*.rs' | sort | xargs awk '
        /^[[:space:]]*\/\// {next}
        {blocks[FILENAME] += gsub(/unsafe *\{/, "&"); impls[FILENAME] += gsub(/unsafe impl/, "&")}
        END {
            for (file in blocks) if (blocks[file] + impls[file] > 0) {
                printf "%6d %6d  %s\n", blocks[file], impls[file], file | "sort -k3"
                all += blocks[file]; kinds += impls[file]
            }
            close("sort -k3")
            printf "%6d %6d  in all\n", all, kinds
        }'
}

# An app in local mode that has asked nobody and run nothing; once, however many want it.
started() {
    [ -z "${state:-}" ] || return 0
    # shellcheck source=scripts/throwaway-app.sh
    . scripts/throwaway-app.sh
    new_state
    start_app --ask none --port 0
}

sockets() {
    started
    echo "of process $app, openclaw app in local mode; state directory $(mode "$state") $state"
    # What the system says, not what we say.
    if command -v ss >/dev/null; then
        ss -Hlntup | grep "pid=$app," | awk '{print $1, "listens on", $5}' || true
        ss -Hlxp | grep "pid=$app," | awk '{print $5}' | while read -r path; do echo "unix listens on $(mode "$path") $path"; done
    else
        lsof -nP -a -p "$app" -i -U
    fi
}

files() {
    started
    echo "written by that start (mode, bytes, name in the state directory):"
    (cd "$state" && find . -type f ! -name app.log | sort | while read -r file; do
        printf '%s %7d  %s\n' "$(mode "$file")" "$(wc -c <"$file")" "${file#./}"
    done)
    echo "every name below the state directory (src/state/paths.rs):"
    sed 's,//.*,,' src/state/paths.rs | grep -ohE '"[a-z0-9./-]+\.(jsonl?|sock|token|lock)"|"[a-z/-]+-(token|key)"|"(paused|logs|native)"' |
        tr -d '"' | sort -u | tr '\n' ' ' | fold -sw 120
    printf '\noutside of it: see "What is written" in README.md\n'
}

mode() { stat -c %a "$1" 2>/dev/null || stat -f %Lp "$1"; }

advisories() {
    if cargo audit --version >/dev/null 2>&1; then cargo audit
    else echo "cargo-audit is not installed: no look-up of known advisories"; fi
    if cargo deny --version >/dev/null 2>&1; then cargo deny check advisories licenses sources
    else echo "cargo-deny is not installed: no look-up of licences and sources"; fi
}

for part in "$@"; do
    case $part in crates | unsafe | sockets | files | advisories) ;; *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
    printf '\n== %s\n' "$part"
    "$part"
done
