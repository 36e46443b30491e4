#!/usr/bin/env bash
# The table of cases at the end of SECURITY.md: every case stands in it once, in order, with tests that exist.
# `--write` fills in the tests whose names begin with a case's number (sec_a60_a62_…).
set -eu
cd "$(dirname "$0")/.."

tests=$(grep -rhoE '\bfn [a-z0-9_]+' --include='*.rs' src macos tests | sed 's/^fn //' | sort -u)

if [ "${1:-}" = --write ]; then
    printf '%s\n' "$tests" | awk '
        NR == FNR {
            parts = split($0, word, "_")
            for (i = 1; i <= parts; i++) {
                if (word[i] == "sec") continue
                if (i == 1 || word[i] !~ /^[ah][0-9]+$/) break
                case_id = toupper(word[i])
                named[case_id] = (named[case_id] == "" ? "" : named[case_id] ", ") "`" $0 "`"
            }
            next
        }
        match($0, /^\| [AH][0-9]+ \|/) {
            split($0, cell, / *\| */)
            if (cell[2] in named) {print "| " cell[2] " | " cell[3] " | " named[cell[2]] " |"; next}
        }
        {print}' - SECURITY.md >SECURITY.md.new
    mv SECURITY.md.new SECURITY.md
fi

wrong=$({ printf '%s\n' "$tests"; echo; cat SECURITY.md; } | awk '
    !named {if ($0 == "") named = 1; else is_test[$0]; next}
    match($0, /^\| [AH][0-9]+ \|/) {
        split($0, cell, / *\| */)
        next_id = rows < 169 ? sprintf("A%02d", rows + 1) : sprintf("H%02d", rows - 168)
        rows++
        if (cell[2] != next_id) {print "SECURITY.md: " cell[2] " stands where " next_id " should"; exit}
        names = split(cell[4], name, "`")
        if (names < 2) print cell[2] ": no test: " cell[4]
        for (i = 2; i <= names; i += 2) if (!(name[i] in is_test)) print cell[2] ": there is no test " name[i]
    }
    END {if (rows != 197) print "SECURITY.md: " rows " cases, not 197"}')
[ -z "$wrong" ] || { printf 'security-table: %s\n' "$wrong" >&2; exit 1; }
echo "security-table: 197 cases, every named test exists"
