#!/usr/bin/env bash
# Lints, compiles and links the workspace for both Apple targets on Linux (x86_64, Debian 12), without an Apple SDK: with
# Debian's matched rustc, clippy, library source and lld (packages `rustc-web` and kin), and a text stub of libSystem.
# What comes out is checked, never run; a release is built on a Mac.
#
# Usage: scripts/check-macos.sh [STEP…]   steps: clippy build tests names (default: clippy build names)
# names: what is looked up at run time, which no linker sees (scripts/ffi-audit.sh).
# APPLE_CACHE: toolchain and std for the targets, about 1 GB, first time about 3 minutes (default ~/.cache/darwin-cross).
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- clippy build names
targets="aarch64-apple-darwin x86_64-apple-darwin"
cache=${APPLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darwin-cross}
toolchain=$cache/root
sdk=$cache/openclaw-sdk
export MACOSX_DEPLOYMENT_TARGET=15.0
# What the binary may name at link time. AppKit and kin are looked up at run time, so that gateway and node never load them.
allowed_libraries='/usr/lib/(libSystem.B|libiconv.2).dylib'

say() { printf 'check-macos %4ds: %s\n' "$SECONDS" "$*"; }
could_not_fetch() {
    echo "check-macos: could not fetch: $*" >&2
    exit 75
}

case $(uname -sm) in
    "Linux x86_64") ;;
    *) echo "check-macos: for Linux on x86_64; on a Mac 'make lint test' is the real thing" >&2; exit 1 ;;
esac

# --- toolchain: downloaded and unpacked into the cache, never installed ---

get_toolchain() {
    [ ! -e "$cache/toolchain.ok" ] || return 0
    say "fetching the toolchain (170 MB)"
    rm -rf "$toolchain" "$cache/debs"
    mkdir -p "$toolchain" "$cache/debs"
    [ "$(id -u)" != 0 ] || apt-get -qq update || could_not_fetch "apt's package lists"
    local base="rustc-web cargo-web rust-web-clippy rust-web-src libstd-rust-web-dev rust-web-llvm"
    local std llvm lld needed package
    std=$(apt-cache depends libstd-rust-web-dev 2>/dev/null | awk '/Depends: libstd-rust-web-/ {print $2}')
    [ -n "$std" ] || could_not_fetch "apt knows no rustc-web; this needs Debian 12 with its security suite"
    llvm=$(apt-cache depends "$std" | grep -oE 'libllvm[0-9]+' | head -n 1)
    lld=lld-${llvm#libllvm}
    # shellcheck disable=SC2086 # a list of package names
    needed=$(apt-get -s --no-install-recommends install $base "$lld" | awk '/^Inst/ {print $2}')
    (
        cd "$cache/debs"
        # shellcheck disable=SC2046,SC2086
        apt-get -qq -o APT::Sandbox::User=root download $(printf '%s\n' $base "$std" "$llvm" "$lld" $needed | sort -u)
    ) || could_not_fetch "Debian's Rust packages"
    for package in "$cache"/debs/*.deb; do
        case ${package##*/} in
            rust-web-src_*) dpkg --fsys-tarfile "$package" |
                tar -x -C "$toolchain" --wildcards './usr/src/*/library' './usr/lib/rustlib/*' ;;
            *) dpkg -x "$package" "$toolchain" ;;
        esac
    done
    rm -rf "$cache/debs"
    touch "$cache/toolchain.ok"
}

use_toolchain() {
    local linker target name
    linker=$(find "$toolchain/usr/bin" -name 'ld64.lld-*' | head -n 1)
    export PATH="$toolchain/usr/bin:$PATH" LD_LIBRARY_PATH="$toolchain/usr/lib/x86_64-linux-gnu"
    export RUSTC="$toolchain/usr/bin/rustc" SDKROOT="$sdk"
    unset RUSTUP_TOOLCHAIN RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER
    for target in $targets; do
        name=$(printf '%s' "$target" | tr 'a-z-' 'A-Z_')
        export "CARGO_TARGET_${name}_LINKER=$linker"
        export "CARGO_TARGET_${name}_RUSTFLAGS=-Clinker-flavor=ld64.lld -Clink-arg=-adhoc_codesign"
    done
}

# --- std for the targets: built once, from the source of the same version; its own dependencies are vendored there ---

build_std() {
    local target wanted="" shim=$cache/stdshim vendor=$toolchain/usr/lib/rustlib/src/rust/library/vendor
    for target in $targets; do [ -e "$cache/std-$target.ok" ] || wanted="$wanted --target $target"; done
    [ -n "$wanted" ] || return 0
    say "building std for$wanted"
    rm -rf "$shim"
    mkdir -p "$shim/src"
    : >"$shim/src/lib.rs"
    printf '[package]\nname = "stdshim"\nversion = "0.0.0"\nedition = "2021"\n' >"$shim/Cargo.toml"
    # As in rustc's own build: the crate panic_abort is compiled with that strategy.
    # shellcheck disable=SC2016
    printf '%s\n' '#!/bin/sh' 'case " $* " in *" --crate-name panic_abort "*) exec "$@" -Cpanic=abort ;; esac' 'exec "$@"' \
        >"$shim/wrapper"
    chmod +x "$shim/wrapper"
    (
        cd "$shim"
        # shellcheck disable=SC2086
        CARGO_HOME="$shim/home" CARGO_TARGET_DIR="$shim/target" RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER="$shim/wrapper" \
            RUSTFLAGS=-Cembed-bitcode=yes cargo build -q --release --offline $wanted \
            --config 'source.crates-io.replace-with="vendored"' --config "source.vendored.directory=\"$vendor\"" \
            -Zbuild-std=std,panic_unwind,panic_abort,test,proc_macro
    )
    for target in $targets; do
        [ -d "$shim/target/$target/release/deps" ] || continue
        rm -rf "$toolchain/usr/lib/rustlib/$target/lib"
        mkdir -p "$toolchain/usr/lib/rustlib/$target/lib"
        find "$shim/target/$target/release/deps" -name 'lib*.rlib' ! -name 'libstdshim*' \
            -exec cp {} "$toolchain/usr/lib/rustlib/$target/lib/" \;
        touch "$cache/std-$target.ok"
    done
    rm -rf "$shim"
}

# --- stub SDK: a misspelt C function is a link error, whatever our own declaration says ---

# stub FILE INSTALL_NAME SYMBOL…: a text library; a name with $ exists on Intel only, but for $DARWIN_EXTSN.
stub() {
    local file=$1 install=$2 all="[ x86_64-macos, arm64-macos ]"
    shift 2
    printf '%s\n' "$@" | awk -v install="$install" -v all="$all" -v quote="'" '
        /\$/ && !/\$DARWIN_EXTSN$/ {intel = intel (intel ? ", " : "") quote $0 quote; next}
        {both = both (both ? ",\n      " : "") quote $0 quote}
        END {
            printf "--- !tapi-tbd\ntbd-version: 4\ntargets: %s\ninstall-name: %s%s%s\nexports:\n", all, quote, install, quote
            printf "  - targets: %s\n    symbols: [ %s ]\n", all, both
            if (intel) printf "  - targets: [ x86_64-macos ]\n    symbols: [ %s ]\n", intel
            print "..."
        }' >"$file"
}

make_sdk() {
    local alias
    mkdir -p "$sdk/usr/lib"
    # shellcheck disable=SC2046
    stub "$sdk/usr/lib/libSystem.tbd" /usr/lib/libSystem.B.dylib $(grep -v '^#' scripts/apple/libsystem-symbols.txt)
    for alias in libc libm libpthread libdl; do ln -sf libSystem.tbd "$sdk/usr/lib/$alias.tbd"; done
    stub "$sdk/usr/lib/libiconv.tbd" /usr/lib/libiconv.2.dylib _iconv _iconv_open _iconv_close
}

# --- the check itself ---

# Each binary must be for its target, have an entry point, and name no library that is not allowed.
verify() {
    local dump target binary foreign
    dump=$(find "$toolchain/usr/bin" "$toolchain"/usr/lib/llvm-*/bin -name 'llvm-objdump*' | head -n 1)
    for target in $targets; do
        binary=$CARGO_TARGET_DIR/$target/release/openclaw
        "$dump" --macho --private-headers "$binary" | grep -q LC_MAIN || { echo "check-macos: $binary has no entry point" >&2; exit 1; }
        foreign=$("$dump" --macho --dylibs-used "$binary" | awk 'NR > 1 {print $1}' | grep -vE "^$allowed_libraries$" || true)
        [ -z "$foreign" ] || { printf 'check-macos: %s names a library at link time:\n%s\n' "$binary" "$foreign" >&2; exit 1; }
        say "$target: $(wc -c <"$binary") bytes, system libraries only"
    done
}

mkdir -p "$cache"
CARGO_TARGET_DIR=$(mkdir -p "${CARGO_TARGET_DIR:-target}/apple" && cd "${CARGO_TARGET_DIR:-target}/apple" && pwd)
export CARGO_TARGET_DIR
cargo fetch -q --locked || could_not_fetch "crates"
get_toolchain
use_toolchain
say "$(rustc --version)"
build_std
make_sdk
target_flags=""
for target in $targets; do target_flags="$target_flags --target $target"; done
for step in "$@"; do
    say "$step"
    # shellcheck disable=SC2086
    case $step in
        clippy) cargo clippy -q --locked --workspace --all-targets $target_flags -- -D warnings ;;
        build)
            cargo build -q --locked --release $target_flags
            verify
            ;;
        names) scripts/ffi-audit.sh ;;
        tests) cargo test -q --locked --workspace --no-run $target_flags ;;
        *) echo "check-macos: unknown step $step (clippy, build, tests, names)" >&2; exit 2 ;;
    esac
done
say "passed: $*"
