#!/usr/bin/env bash
# Fails when the crates that a build compiles (normal and build dependencies, Linux and both Apple targets) are not
# exactly those in README's table between the `crates` marks: name, version, why it is there.
set -eu
cd "$(dirname "$0")/.."

targets="x86_64-unknown-linux-gnu aarch64-apple-darwin x86_64-apple-darwin"

tree=$(for target in $targets; do
    cargo tree --locked --workspace --edges normal,build --prefix none --target "$target"
done)
in_tree=$(printf '%s\n' "$tree" | awk '$1 !~ /^openclaw/ && NF {sub(/^v/, "", $2); print $1, $2}' | sort -u)
in_readme=$(awk -F '|' '
    /<!-- crates -->/ {inside = 1; next}
    /<!-- end of crates -->/ {inside = 0}
    inside && NF >= 5 && $2 !~ /^ *(crate|-+) *$/ {
        gsub(/[ `]/, "", $2); gsub(/ /, "", $3)
        why = $4; gsub(/ /, "", why)
        if (why == "") print $2, $3, "(no reason given)"; else print $2, $3
    }' README.md | sort -u)

grown=$(comm -23 <(printf '%s\n' "$in_tree") <(printf '%s\n' "$in_readme"))
gone=$(comm -13 <(printf '%s\n' "$in_tree") <(printf '%s\n' "$in_readme"))
if [ -n "$grown$gone" ]; then
    [ -z "$grown" ] || printf 'check-crates: in the tree, but not in the table of README.md:\n%s\n' "$grown" >&2
    [ -z "$gone" ] || printf 'check-crates: in the table of README.md, but not in the tree:\n%s\n' "$gone" >&2
    exit 1
fi
echo "check-crates: the tree is the table of README.md ($(printf '%s\n' "$in_tree" | wc -l | tr -d ' ') crates)"
