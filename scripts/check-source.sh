#!/usr/bin/env bash
# House rules that neither rustc nor clippy knows. Every finding names its file and line.
set -eu
cd "$(dirname "$0")/.."

# Lines of code; comments help a reader and do not count. The plan was 20 000 for everything, which the first three parts
# alone do not meet; the Mac itself (AppKit and its neighbours, the bridge, automation) is the rest. What is read first,
# exec/ with policy and fence, stays a sixth of it.
SHIPPED_LINES=50000
FILE_LINES=700      # past it a file is reported: is it still one thing?
SECRETS='Secret|SecretText|Auth'

failed=0
# rule TEXT FINDINGS: prints the findings and remembers the failure.
rule() {
    [ -n "$2" ] || return 0
    printf 'check-source: %s:\n%s\n' "$1" "$2" >&2
    failed=1
}

files=$(find src macos tests -name '*.rs' -not -path '*/node_modules/*' | sort)
shipped=$(printf '%s\n' "$files" | grep -vE '^tests/|/tests(/|\.rs$)' || true)
[ -n "$shipped" ] || { echo "check-source: no sources found" >&2; exit 1; }

# shellcheck disable=SC2086 # paths of this repository have no spaces; the list is meant to be split
rule "unsafe outside src/sys and macos" "$(grep -nE '\bunsafe *(\{|\(|fn\b|impl\b|trait\b|extern\b)|\bunsafe$' $shipped /dev/null |
    grep -vE '^(src/sys/|macos/)|:[0-9]+:\s*//|unsafe_code' || true)"

# shellcheck disable=SC2086
rule "unsafe without a SAFETY comment on its statement" "$(awk '
    FNR == 1 {comment = ""}
    /^[[:space:]]*\/\// {comment = comment $0; next}
    /unsafe *\{|unsafe impl/ && (comment $0) !~ /SAFETY/ {print FILENAME ":" FNR ": " $0}
    /[;{},][[:space:]]*$/ {comment = ""} # the statement ends here' $files)"

# shellcheck disable=SC2086
rule "an ignored test without a reason (#[ignore = \"why\"])" "$(grep -nE '#\[ignore *\]' $files /dev/null || true)"

# A secret that can be printed, serialised or compared with == leaks or is compared in variable time.
# shellcheck disable=SC2086
rule "a secret type may not be Debug, Display, PartialEq or Serialize" "$(awk -v secrets="^($SECRETS)$" '
    FNR == 1 {derives = ""}
    /^[[:space:]]*#\[/ {derives = derives $0; if ($0 !~ /(struct|enum) /) next}
    match($0, /(struct|enum) +[A-Za-z]+/) {
        split(substr($0, RSTART, RLENGTH), word, / +/)
        if (word[2] ~ secrets && derives ~ /derive\([^)]*(Debug|Display|PartialEq|Serialize)/)
            print FILENAME ":" FNR ": " $0
    }
    match($0, /impl.*(Debug|Display|PartialEq|Serialize)[^ ]* +for +([A-Za-z_]+::)*[A-Za-z]+/) {
        last = split(substr($0, RSTART, RLENGTH), word, /[ :]+/)
        if (word[last] ~ secrets) print FILENAME ":" FNR ": " $0
    }
    /[^[:space:]]/ && !/^[[:space:]]*\/\// {derives = ""}' $shipped)"

# Paths of the machine where this is developed, and addresses of package registries.
here=$(dirname "$PWD")
machine='(^|[^T])[/]work[/]|[/]root[/]|[/]tmp[/]wt\b|https?:[/][/][a-z.-]*(npmjs|pypi|debian|crates)[a-z.-]*[/]'
case $here in / | /tmp | /home | "${TMPDIR:-/tmp}"*) ;; *) machine="$machine|(^|[^T])$here/" ;; esac
tracked=$(git ls-files 2>/dev/null) ||
    tracked=$(find . -type f -not -path './target/*' -not -path '*/node_modules/*' | sed 's,^\./,,')
rule "a path of one machine, or the address of a package registry" "$(printf '%s\n' "$tracked" | grep -v '^Cargo\.lock$' |
    tr '\n' '\0' | xargs -0 grep -nIE "$machine" /dev/null 2>/dev/null | cut -c1-160 || true)"

# Shipped lines: what stands before a file's test module, blank lines and comments aside.
# shellcheck disable=SC2086
lines=$(awk '
    FNR == 1 {tests = 0}
    /^(pub\([a-z]+\) )?mod [a-z_]+ \{/ && before == "#[cfg(test)]" {tests = 1}
    {before = $0}
    !tests && !/^[[:space:]]*(\/\/|$)/ {n++}
    END {print n + 0}' $shipped)
[ "$lines" -lt "$SHIPPED_LINES" ] || rule "the shipped source is too long" "$lines lines, limit $SHIPPED_LINES"

# shellcheck disable=SC2086
long=$(awk -v most="$FILE_LINES" '{n[FILENAME]++} END {for (f in n) if (n[f] > most) print f ": " n[f] " lines"}' $files | sort)
[ -z "$long" ] || printf 'check-source: over %s lines (is it still one thing?):\n%s\n' "$FILE_LINES" "$long"

[ "$failed" = 0 ] || exit 1
echo "check-source: house rules hold ($lines lines of shipped code of at most $SHIPPED_LINES)"
