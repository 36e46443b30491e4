#!/usr/bin/env bash
# Ends the app, builds, packages and signs it, and has launchd start what was just built, so that macOS knows it by its
# signature and its permissions stay.
#
# Usage: scripts/restart-mac.sh [FLAGS] [-- FLAGS OF `openclaw app install`]
#
# --sign            only with an identity of the keychain; fail without one
# --no-sign         ad hoc, whatever the keychain has
#                   (neither: SIGN_IDENTITY, or the best identity there is, or else ad hoc)
# --attach-only     the app joins a gateway that runs, and starts none
# --no-attach-only  the end of that
# -w, --wait        if another restart is under way, wait for it, then go on; without it, leave it to that one
# --dry-run         shows the steps and does nothing
# -h, --help        these lines
#
# Flags that the app was installed with stay, unless others stand after `--`. Of this shell's environment the app gets
# nothing but HOME, USER, LOGNAME, TMPDIR and LANG. Only what this repository's app started is ended.
#
# SIGN_IDENTITY                what to sign with; see scripts/codesign-mac-app.sh --help
# BUILD_CONFIG, BUNDLE_ID      see scripts/package-mac-app.sh --help
# OPENCLAW_APP_WAIT_SECONDS    how long the app may take to answer; default 10
# OPENCLAW_RESTART_LOG         where all of this is written too; default ~/Library/Logs/OpenClaw/restart.log
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/mac-steps.sh

sign=auto
attach=
wait_for_other=
flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --sign | --no-sign)
            [ "$sign" = auto ] || [ "$sign" = "$1" ] || fail "--sign and --no-sign cannot both be"
            sign=$1
            ;;
        --attach-only | --no-attach-only) attach=$1 ;;
        -w | --wait) wait_for_other=1 ;;
        --dry-run) dry_run=1 ;;
        -h | --help) show_help ;;
        --)
            shift
            flags=("$@")
            break
            ;;
        *) fail "there is no flag $1; see --help" ;;
    esac
    shift
done
need_a_mac

uid=$(id -u)
[ -n "$dry_run" ] || [ "$uid" != 0 ] || fail "run this as the person who is logged in at the screen, without sudo"
label=ai.openclaw.mac
target=gui/$uid/$label
agent=$HOME/Library/LaunchAgents/$label.plist
app=$PWD/dist/OpenClaw.app
program=$app/Contents/MacOS/openclaw
config=${BUILD_CONFIG:-release}
answer_seconds=${OPENCLAW_APP_WAIT_SECONDS:-10}
case $answer_seconds in '' | *[!0-9]*) fail "OPENCLAW_APP_WAIT_SECONDS must be a number of seconds" ;; esac
log=${OPENCLAW_RESTART_LOG:-$HOME/Library/Logs/OpenClaw/restart.log}
lock=$HOME/Library/Logs/OpenClaw/restart.lock
stop_seconds=25  # launchd itself kills after 20
other_seconds=900 # a cold build in another terminal
is_stopped=

# --- one restart at a time: the lock is a symbolic link to its holder's process id, made in one step ---

lock_is_free() {
    local holder
    ln -s "$$" "$lock" 2>/dev/null && return 0
    holder=$(readlink "$lock") || return 1 # it went away meanwhile: try again
    case $(ps -p "$holder" -o command= 2>/dev/null || true) in
        *restart-mac.sh*) return 1 ;;
    esac
    say "the lock of process $holder, which has ended, is removed"
    rm -f "$lock"
    ln -s "$$" "$lock" 2>/dev/null
}

take_lock() {
    lock_is_free && return 0
    if [ -z "$wait_for_other" ]; then
        say "another restart is under way (process $(readlink "$lock" || true)); left to that one. --wait waits for it"
        exit 0
    fi
    say "waiting for another restart (process $(readlink "$lock" || true))"
    within "$other_seconds" lock_is_free || fail "the other restart takes longer than $other_seconds s"
}

# --- what runs now ---

# Asks launchd for the job and sets $job to its answer; false if it is not loaded.
is_loaded() {
    local code=0
    job=$(launchctl print "$target" 2>&1) || code=$?
    case $code in
        0) return 0 ;;
        113) return 1 ;;
        125 | 134) fail "launchd has no session for windows here ($job); log in at this Mac's screen first" ;;
        *) fail "launchctl print $target failed ($code): $job" ;;
    esac
}
is_gone() { ! is_loaded; }

# The original product uses the same label.
refuse_foreign() {
    [ ! -e "$agent" ] || grep -qF 'Written by openclaw itself' "$agent" ||
        fail "$agent was not written by this program; remove it with what wrote it (the original product?), then run this again"
    is_loaded || return 0
    case $(printf '%s\n' "$job" | sed -n 's/^[[:space:]]*program = //p' | head -n 1) in
        '' | */openclaw) ;;
        *) fail "$label is another program's job: $job" ;;
    esac
}

# Sets $flags, unless they were given, to what the app is started with now.
keep_flags() {
    local position=1 word kept
    if [ "${#flags[@]}" = 0 ] && [ -e "$agent" ]; then
        while word=$(plutil -extract "ProgramArguments.$position" raw -o - "$agent" 2>/dev/null); do
            case $position/$word in
                1/app | 2/run) ;;
                *) flags+=("$word") ;;
            esac
            position=$((position + 1))
        done
    fi
    if [ -n "$attach" ]; then
        kept=()
        for word in ${flags[@]+"${flags[@]}"}; do [ "$word" = --attach-only ] || kept+=("$word"); done
        flags=(${kept[@]+"${kept[@]}"})
        [ "$attach" = --no-attach-only ] || flags+=("$attach")
    fi
}

# Sets $state and $inspect, the flags by which mac-debug finds it.
find_state() {
    local before='' word
    state=$HOME/.openclaw
    inspect=()
    for word in ${flags[@]+"${flags[@]}"}; do
        if [ "$before" = --state-dir ]; then
            state=$word
            inspect=(--state-dir "$word")
        fi
        before=$word
    done
}

stop_job() {
    local code=0
    if [ -z "$dry_run" ]; then is_loaded || return 0; fi
    run launchctl bootout "$target" || code=$?
    case $code in
        0 | 3 | 5 | 36 | 37 | 113) ;; # done, gone already, or still at it
        *) fail "launchctl bootout $target failed ($code)" ;;
    esac
    is_stopped=1
    [ -n "$dry_run" ] || within "$stop_seconds" is_gone || fail "the app still runs $stop_seconds s after launchctl bootout $target"
}

has_ended() { ! kill -0 "$1" 2>/dev/null; }

# An app that Finder or a terminal started: its lock file has its process id.
stop_by_hand() {
    local pid path
    pid=$(cat "$state/app.lock" 2>/dev/null || true)
    case $pid in '' | *[!0-9]*) return 0 ;; esac
    path=$(ps -p "$pid" -o comm= 2>/dev/null || true)
    case $path in
        */OpenClaw.app/Contents/MacOS/openclaw) ;;
        openclaw | */openclaw) fail "\`openclaw app\` was started by hand, as process $pid ($path); end it there (Ctrl-C), then run this again" ;;
        *) return 0 ;; # nobody, or another program has that number by now
    esac
    run kill -TERM "$pid"
    is_stopped=1
    [ -n "$dry_run" ] || within "$stop_seconds" has_ended "$pid" || fail "process $pid ($path) does not end"
}

# --- build, package, sign ---

package() {
    export BUILD_CONFIG=$config BUILD_ARCHS=host
    case $sign in
        --no-sign) export SIGN_IDENTITY=- ;;
        --sign) unset ALLOW_ADHOC_SIGNING ;;
        *) export ALLOW_ADHOC_SIGNING=1 ;;
    esac
    [ "$sign/${SIGN_IDENTITY:-}" != --sign/- ] || fail "--sign and SIGN_IDENTITY=- cannot both be"
    scripts/package-mac-app.sh ${dry_run:+--dry-run}
    is_stopped=
}

build() {
    local release=()
    [ "$config" != release ] || release=(--release)
    # As LSMinimumSystemVersion in macos/bundle/Info.plist.
    run env MACOSX_DEPLOYMENT_TARGET=15.0 cargo build ${release[@]+"${release[@]}"} --locked
}

# By what macOS knows the app, and so its permissions. It stands behind a # when nothing but this build meets it.
requirement() { codesign -d -r- "$app" 2>/dev/null | sed -n 's/^#* *designated => //p' || true; }

bundle_id() { plutil -extract CFBundleIdentifier raw -o - "$app/Contents/Info.plist"; }

# --- start and see ---

# The new binary, with nothing of this shell's environment that an app could be led or told by.
openclaw=(env -i "HOME=$HOME" "USER=${USER:-}" "LOGNAME=${LOGNAME:-}" "TMPDIR=${TMPDIR:-/tmp}" "LANG=${LANG:-C}"
    PATH=/usr/bin:/bin:/usr/sbin:/sbin "$program")
answers() { "${openclaw[@]}" mac-debug ${inspect[@]+"${inspect[@]}"} grants list --json >/dev/null 2>&1; }

# field NAME: its value in the JSON on standard input, which has one member a line.
field() { sed -n -e "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" -e "s/^ *\"$1\": \([^\",]*\),\{0,1\}\$/\1/p"; }

start() {
    run "${openclaw[@]}" app install ${flags[@]+"${flags[@]}"} || fail "the app was not installed as a launchd agent, and does not run; the reason stands above"
    run plutil -lint "$agent" || fail "the launchd agent is broken"
}

wait_for_answer() {
    within "$answer_seconds" answers && return 0
    say "the app does not answer on its control socket within $answer_seconds s. launchd says:"
    "${openclaw[@]}" app status || true
    local app_log
    app_log=$("${openclaw[@]}" app status --json | field log || true)
    say "the end of $app_log:"
    tail -n 20 "$app_log" || true
    fail "the app did not start"
}

report() {
    local status pid team
    status=$("${openclaw[@]}" app status --json)
    pid=$(printf '%s\n' "$status" | field pid)
    [ "$pid" = "$(cat "$state/app.lock")" ] ||
        fail "an app answers, but it is not the one that launchd started (process $pid): end process $(cat "$state/app.lock"), then run this again"
    team=$(team_of "$app")
    say "the app runs"
    printf '%-10s %s\n' 'bundle id' "$(bundle_id)" \
        TeamID "${team:-not set}" pid "$pid" log "$(printf '%s\n' "$status" | field log)" 'this log' "$log"
}

# A node or gateway that starts from the same bundle still runs the old binary.
restart_others() {
    local role status
    for role in gateway node; do
        status=$("${openclaw[@]}" "$role" status --json 2>/dev/null) || continue
        [ "$(printf '%s\n' "$status" | field running)" = true ] || continue
        if grep -qF '/OpenClaw.app/Contents/MacOS/openclaw</string>' "$(printf '%s\n' "$status" | field file)"; then
            run "${openclaw[@]}" "$role" restart
        fi
    done
}

tell_if_stopped() {
    [ "$?" = 0 ] || [ -z "$is_stopped" ] ||
        say "the app is stopped. When what is said above is mended, run this again; for the build of before: $program app start" >&2
}

restart() {
    trap tell_if_stopped EXIT
    local before=''
    [ -n "$dry_run" ] || refuse_foreign
    keep_flags
    find_state
    stop_job
    stop_by_hand
    if [ "$attach" = --no-attach-only ] && [ -e "$state/disable-launchagent" ]; then run rm "$state/disable-launchagent"; fi
    build
    [ -n "$dry_run" ] || [ ! -d "$app" ] || before=$(requirement)
    package
    if [ -n "$before" ] && [ "$before" != "$(requirement)" ]; then
        say "WARNING: signed otherwise than the app before, so macOS asks for every permission again. To remove the old entries: tccutil reset All $(bundle_id)"
    fi
    start
    if [ -n "$dry_run" ]; then
        say "then: wait $answer_seconds s for the app to answer on $state/mac-control.sock; print bundle id, TeamID, pid and log"
    else
        wait_for_answer
        report
        restart_others
    fi
}

if [ -n "$dry_run" ]; then
    restart
else
    mkdir -p "$(dirname "$lock")" "$(dirname "$log")"
    take_lock
    trap 'rm -f "$lock"' EXIT
    (restart) 2>&1 | tee "$log"
fi
