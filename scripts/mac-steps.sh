# shellcheck shell=bash
# Sourced by restart-mac.sh, package-mac-app.sh and codesign-mac-app.sh. All of it is for the bash 3.2 of macOS: no
# associative arrays, no mapfile, and an empty array is "${a[@]+"${a[@]}"}" under `set -u`.

dry_run=
say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() {
    say "$*" >&2
    exit 1
}

# The comment at the head of the script is its help; the checkout is the directory by now.
show_help() {
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "scripts/${0##*/}"
    exit 0
}

# run COMMAND…: shows it, and does it unless this is a dry run.
run() {
    printf '+'
    printf ' %q' "$@"
    echo
    [ -n "$dry_run" ] || "$@"
}

# within SECONDS COMMAND…: five times a second, until it succeeds or the time is over.
within() {
    local tries=$(($1 * 5)) end=$((SECONDS + $1))
    shift
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ] || [ "$SECONDS" -ge "$end" ]; then return 1; fi
        sleep 0.2
    done
}

# Other systems may look at the steps, but do none.
need_a_mac() {
    [ -n "$dry_run" ] || [ "$(uname)" = Darwin ] || fail "this is for a Mac; elsewhere --dry-run shows the steps"
}

# team_of CODE: its TeamID, `not set` without one.
team_of() { codesign -dvv "$1" 2>&1 | sed -n 's/^TeamIdentifier=//p' || true; }
