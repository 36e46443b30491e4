#!/usr/bin/env bash
# Makes dist/OpenClaw.app of a built binary, and signs it. Builds nothing, ends nothing, starts nothing. The bundle is put
# together and signed aside, and takes the old one's place only when it is whole.
#
# Usage: scripts/package-mac-app.sh [--dry-run]
#
# BUILD_CONFIG  release (default) or debug
# BUILD_ARCHS   host: what `cargo build` made; all: both Apple targets in one file; auto (default): all, where both are
#               built and neither is older than host. Both are built by
#               cargo build --release --locked --target aarch64-apple-darwin --target x86_64-apple-darwin
# BUNDLE_ID     default ai.openclaw.mac, for debug ai.openclaw.mac.debug. Permissions are given to one of these
# APP_VERSION   default: the version in Cargo.toml
# APP_BUILD     a number; default: how many commits there are
# SIGN_IDENTITY, ALLOW_ADHOC_SIGNING and others: see scripts/codesign-mac-app.sh --help
#
# --dry-run  shows the steps and does nothing
# --help     these lines
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/mac-steps.sh

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=1 ;;
        -h | --help) show_help ;;
        *) fail "there is no flag $1; see --help" ;;
    esac
    shift
done
need_a_mac

config=${BUILD_CONFIG:-release}
case $config in
    release) id=ai.openclaw.mac ;;
    debug) id=ai.openclaw.mac.debug ;;
    *) fail "BUILD_CONFIG is release or debug" ;;
esac
id=${BUNDLE_ID:-$id}
# Started without a subcommand, the binary is the app only in such a bundle.
case $id in
    ai.openclaw.mac | ai.openclaw.mac.*) ;;
    *) fail "BUNDLE_ID must be ai.openclaw.mac, or begin with ai.openclaw.mac and a dot" ;;
esac

built=${CARGO_TARGET_DIR:-target}
host=$built/$config/openclaw
arm=$built/aarch64-apple-darwin/$config/openclaw
intel=$built/x86_64-apple-darwin/$config/openclaw
app=dist/OpenClaw.app
template=macos/bundle/Info.plist

# Sets $binaries: the one or two files that go in.
choose_binaries() {
    binaries=("$host")
    case ${BUILD_ARCHS:-auto} in
        host) ;;
        all) binaries=("$arm" "$intel") ;;
        auto)
            if [ -x "$arm" ] && [ -x "$intel" ] && [ ! "$host" -nt "$arm" ] && [ ! "$host" -nt "$intel" ]; then
                binaries=("$arm" "$intel")
            fi
            ;;
        *) fail "BUILD_ARCHS is auto, host or all" ;;
    esac
    local binary
    for binary in "${binaries[@]}"; do
        [ -n "$dry_run" ] || [ -x "$binary" ] || fail "$binary is not built; see --help"
    done
}

# value NAME TEXT: an expression for sed that puts TEXT in NAME's place. Nothing that XML or sed would read otherwise.
value() {
    case $2 in
        '' | *[!A-Za-z0-9.:-]*) fail "$1 is \"$2\"; it must be of letters, digits, dots, colons and hyphens" ;;
    esac
    printf 's/@%s@/%s/' "$1" "$2"
}

# write_plist FILE
write_plist() {
    local version build commit
    version=${APP_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)}
    # A source archive has no history.
    build=${APP_BUILD:-$(git rev-list --count HEAD 2>/dev/null || echo 0)}
    case $build in '' | *[!0-9]*) fail "APP_BUILD must be a number" ;; esac
    commit=$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
    local id_value version_value build_value time_value commit_value
    id_value=$(value BUNDLE_ID "$id")
    version_value=$(value APP_VERSION "$version")
    build_value=$(value APP_BUILD "$build")
    time_value=$(value BUILD_TIMESTAMP "$(date -u +%Y-%m-%dT%H:%M:%SZ)")
    commit_value=$(value GIT_COMMIT "$commit")
    say "Info.plist: $id, version $version, build $build, commit $commit"
    [ -n "$dry_run" ] || sed -e "$id_value" -e "$version_value" -e "$build_value" -e "$time_value" -e "$commit_value" "$template" >"$1"
}

# make_icon DIRECTORY FILE
make_icon() {
    local size
    if [ -z "$dry_run" ] && ! { command -v sips && command -v iconutil; } >/dev/null; then
        say "no icon: sips and iconutil, which make it, are not here"
        return 0
    fi
    run mkdir "$1"
    for size in 16 32 128 256 512; do
        run sips -z "$size" "$size" macos/bundle/icon.png --out "$1/icon_${size}x${size}.png"
        run sips -z $((size * 2)) $((size * 2)) macos/bundle/icon.png --out "$1/icon_${size}x${size}@2x.png"
    done
    run iconutil -c icns -o "$2" "$1" || fail "iconutil made no icon of $1"
}

# Whatever happens, there is an app in its place, the new one or the old one.
clean_up() {
    if [ ! -e "$app" ] && [ -e "$staging/old" ]; then mv "$staging/old" "$app"; fi
    rm -rf "$staging"
}

choose_binaries
if [ -n "$dry_run" ]; then
    staging=dist/.package
else
    mkdir -p dist
    staging=$(mktemp -d dist/.package.XXXXXX)
    trap clean_up EXIT
fi
new=$staging/OpenClaw.app
run mkdir -p "$new/Contents/MacOS" "$new/Contents/Resources"
if [ "${#binaries[@]}" = 2 ]; then
    run lipo -create -output "$new/Contents/MacOS/openclaw" "${binaries[@]}" || fail "lipo could not join both binaries"
    run chmod 755 "$new/Contents/MacOS/openclaw"
else
    run install -m 755 "${binaries[0]}" "$new/Contents/MacOS/openclaw"
fi
write_plist "$new/Contents/Info.plist"
run plutil -lint "$new/Contents/Info.plist" macos/bundle/OpenClaw.entitlements || fail "a property list is broken; nothing was replaced"
make_icon "$staging/OpenClaw.iconset" "$new/Contents/Resources/OpenClaw.icns"
if [ -n "$dry_run" ]; then scripts/codesign-mac-app.sh --dry-run "$new"; else scripts/codesign-mac-app.sh "$new"; fi
[ ! -e "$app" ] || run mv "$app" "$staging/old"
run mv "$new" "$app"
say "$app is ready"
