#!/usr/bin/env bash
# Signs an app bundle so that macOS knows the next build as the same program, and checks the outcome.
#
# Usage: scripts/codesign-mac-app.sh [--dry-run] BUNDLE
#
# SIGN_IDENTITY        what to sign with: a name of the keychain ("Apple Development: Jane Doe (ABCDE12345)", or your own
#                      self-signed certificate), its SHA-1, or - for ad hoc. Without it the first valid one of Developer
#                      ID Application, Apple Distribution, Apple Development, any other
# ALLOW_ADHOC_SIGNING  1: where there is no identity, sign ad hoc. Each build then counts as another program: macOS
#                      forgets every permission that was given to the last one, and nothing can check a TeamID
# CODESIGN_TIMESTAMP   auto (default: Apple's time stamp for Developer ID only), on or off; on needs the network
# SKIP_TEAM_ID_CHECK   1: accept whatever TeamID comes out
#
# --dry-run  shows the steps and does nothing
# --help     these lines
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
. scripts/mac-steps.sh

bundle=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=1 ;;
        -h | --help) show_help ;;
        -*) fail "there is no flag $1; see --help" ;;
        *) bundle=${1%/} ;;
    esac
    shift
done
case $bundle in
    '') fail "say which bundle; see --help" ;;
    /*) ;;
    *) bundle=$here/$bundle ;;
esac
need_a_mac
[ -n "$dry_run" ] || [ -x "$bundle/Contents/MacOS/openclaw" ] ||
    fail "$bundle has no Contents/MacOS/openclaw; scripts/package-mac-app.sh makes a bundle"
[ ! -e "$bundle/Contents/Frameworks" ] || fail "$bundle has frameworks, and only its one executable would be signed"
entitlements=macos/bundle/OpenClaw.entitlements

# One line an identity that is valid for code: SHA-1, blank, name.
identities() { security find-identity -v -p codesigning | sed -n 's/^ *[0-9]*) \([0-9A-F]\{40\}\) "\(.*\)"$/\1 \2/p'; }

# Sets $identity, which codesign is given, and $name, which tells its kind.
choose_identity() {
    local kind known line
    identity=${SIGN_IDENTITY:-}
    name=$identity
    case ${#identity}/$identity in
        */*[!0-9A-Fa-f]*) return 0 ;; # ad hoc, or a name
        0/ | 40/*) ;;
        *) return 0 ;;
    esac
    if [ -n "$dry_run" ]; then
        identity=${identity:-IDENTITY}
        return 0
    fi
    known=$(identities) || fail "the keychain cannot be read: security find-identity -v -p codesigning"
    if [ -n "$identity" ]; then # a SHA-1; the keychain has it in capitals
        line=$(printf '%s\n' "$known" | grep -i "^$identity " || true)
        name=${line#* }
        return 0
    fi
    for kind in 'Developer ID Application:' 'Apple Distribution:' 'Apple Development:' ''; do
        line=$(printf '%s\n' "$known" | grep "^[0-9A-F]* $kind" | head -n 1 || true)
        [ -n "$line" ] || continue
        identity=${line%% *}
        name=${line#* }
        say "signing with $name"
        return 0
    done
    [ "${ALLOW_ADHOC_SIGNING:-}" = 1 ] ||
        fail "no identity for code is in the keychain: set SIGN_IDENTITY, or ALLOW_ADHOC_SIGNING=1 for a build that loses its permissions"
    identity=-
}

# Sets the arguments that depend on the identity.
choose_options() {
    options=(--timestamp=none)
    case ${CODESIGN_TIMESTAMP:-auto}/$name in
        on/* | auto/"Developer ID Application:"*) [ "$identity" = - ] || options=(--timestamp) ;;
        auto/* | off/*) ;;
        *) fail "CODESIGN_TIMESTAMP is auto, on or off" ;;
    esac
    if [ "$identity" = - ]; then
        say "WARNING: ad hoc. macOS takes the next build for another program and forgets each permission that you give to this one"
    else
        options=(--options runtime "${options[@]}")
    fi
}

# What was signed is what was meant: whole, one team, no door for debuggers.
check() {
    local team code wanted
    codesign --verify --strict --verbose=2 "$bundle" || fail "the signature does not hold"
    # Whoever may attach a debugger has every permission of the app.
    case $(codesign -d --entitlements - --xml "$bundle" 2>/dev/null) in
        *get-task-allow*) fail "the signature has com.apple.security.get-task-allow, which lets any program attach to the app" ;;
    esac
    [ "${SKIP_TEAM_ID_CHECK:-}" != 1 ] || return 0
    team=$(team_of "$bundle")
    [ -n "$team" ] || fail "codesign tells no TeamIdentifier of $bundle"
    find "$bundle/Contents" -type f -perm -100 -print | while IFS= read -r code; do
        [ "$(team_of "$code")" = "$team" ] || fail "TeamID mismatch: $code has $(team_of "$code"), the bundle has $team"
    done
    case $name in
        # Here the brackets hold the team; those of Apple Development hold the developer.
        "Developer ID Application: "*\) | "Apple Distribution: "*\))
            wanted=${name##*\(}
            wanted=${wanted%\)}
            ;;
        "Apple Development: "*) wanted=$team ;;
        *) wanted= ;;
    esac
    if [ -n "$wanted" ]; then
        if [ "$team" != "$wanted" ] || [ "$team" = "not set" ]; then
            fail "TeamID mismatch: $name was to sign, and the TeamID of the bundle is $team"
        fi
    elif [ "$team" = "not set" ]; then
        say "no TeamID: where one is asked for, this app is refused"
    fi
    say "signed: TeamID $team"
}

choose_identity
choose_options
run xattr -cr "$bundle"
# One executable and no frameworks: signing the bundle signs all there is.
run codesign --force --sign "$identity" "${options[@]}" --entitlements "$entitlements" "$bundle" ||
    fail "codesign failed. \`security find-identity -v -p codesigning\` lists the identities; over ssh, \`security unlock-keychain\` comes first"
if [ -n "$dry_run" ]; then
    run codesign --verify --strict --verbose=2 "$bundle"
    run codesign -dvv "$bundle"
else
    check
fi
