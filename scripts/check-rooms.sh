#!/usr/bin/env bash
# Fails when a room under src/ imports a room above it. The order is that of the `mod` lines in
# src/lib.rs, top to bottom. Seen are `crate::room`, `crate::{room, …}` over several lines, and a chain of `super::` that
# leaves the room. main.rs and lib.rs stand above all rooms.
set -eu
cd "$(dirname "$0")/.."

rooms=$(sed -nE 's/^(pub )?mod ([a-z_]+);.*/\2/p' src/lib.rs)
[ -n "$rooms" ] || { echo "check-rooms: no rooms found in src/lib.rs" >&2; exit 1; }

for room in $rooms; do
    [ -e "src/$room.rs" ] || [ -e "src/$room/mod.rs" ] || { echo "check-rooms: src/lib.rs names $room, but there is no such room" >&2; exit 1; }
done

# shellcheck disable=SC2016 # the program is awk's, not the shell's
find src -name '*.rs' ! -path src/lib.rs ! -path src/main.rs | sort | xargs awk -v rooms="$rooms" '
BEGIN {
    count = split(rooms, name, /[ \n]+/)
    for (i = 1; i <= count; i++) place[name[i]] = i
}
FNR == 1 {
    path = FILENAME
    sub(/^src\//, "", path)
    sub(/\.rs$/, "", path)
    levels = split(path, part, "/")
    own = part[1]
    # How many `super::` lead out of the room from the top of this file; each inline `mod x {` adds one.
    out = (part[levels] == "mod") ? levels - 1 : levels
    state = ""; supers = 0; depth = 0; braces = 0; inline = 0; before = ""; last = ""
    if (!(own in place)) report(own " is not a room of src/lib.rs")
}
function report(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
function seen(room) {
    if (room in place && own in place && place[room] < place[own])
        report(own " imports " room ", which stands above it")
}
# One token of the source. States: "" outside, "start" after `crate` or enough `super`s, "head" where a
# room name must follow, "group" inside `{…}` past the head.
function token(t) {
    if (state == "start") {
        if (t == "as" || t == ";") report("`crate` under another name hides what is imported")
        if (t == "::") { state = "head"; return }
        state = ""
    }
    if (state == "head") {
        if (t == "{" && depth == 0) { depth = 1; return }
        if (t == "*") { report("a glob of the whole crate hides what is imported"); state = ""; depth = 0; return }
        if (t == "}") { state = ""; depth = 0; return }
        if (t == "self" && depth == 1) report("`crate` under another name hides what is imported")
        seen(t)
        state = depth ? "group" : ""
        return
    }
    if (state == "group") {
        if (t == "{") depth++
        if (t == "}" && --depth == 0) state = ""
        if (t == "," && depth == 1) state = "head"
        return
    }
    if (t == "crate") { state = "start"; supers = 0; return }
    if (t == "super") { if (++supers == out) { state = "start"; supers = 0 } return }
    if (t != "::") supers = 0
    if (t == "{") {
        braces++
        if (before == "mod") { opened[++inline] = braces; out++ }
    }
    if (t == "}") {
        if (inline && opened[inline] == braces) { inline--; out-- }
        braces--
    }
    before = last
    last = t
}
{
    line = $0
    gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
    gsub(/\047.\047/, "\"\"", line)
    sub(/\/\/.*/, "", line)
    while (match(line, /[A-Za-z_][A-Za-z0-9_]*|::|[^ \t]/)) {
        token(substr(line, RSTART, RLENGTH))
        line = substr(line, RSTART + RLENGTH)
    }
}
END { exit bad }
' || { echo "check-rooms: a room may import only rooms below it (order: src/lib.rs)" >&2; exit 1; }
echo "check-rooms: imports point downwards"
