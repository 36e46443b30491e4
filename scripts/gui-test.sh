#!/usr/bin/env bash
# The panel and the menu under a virtual X server, driven as a person would (tests/gui.rs), and what the bridge may not do
# to them (tests/gui_bridge.rs). As root it runs as a throw-away
# user, since the AppKit-compatible library makes files in the home directory of the account.
#
#   scripts/gui-test.sh [FILTER]     GUI_TEST_PICTURES=DIRECTORY keeps pictures of the screen there
set -euo pipefail
cd "$(dirname "$0")/.."
user=openclaw-gui

missing=""
# command:package
for pair in Xvfb:xvfb openbox:openbox xdotool:xdotool xwininfo:x11-utils xprop:x11-utils wmctrl:wmctrl import:imagemagick xclip:xclip xterm:xterm faketime:faketime setpriv:util-linux; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
for pair in libgnustep-gui.so.0.29:libgnustep-gui0.29 libgnustep-base.so.1.28:libgnustep-base1.28 libobjc.so.4:libobjc4; do
    [[ $libraries == *"${pair%%:*}"* ]] || missing="$missing ${pair#*:}"
done
ls /usr/lib/GNUstep/Bundles/libgnustep-back-029.bundle >/dev/null 2>&1 || missing="$missing gnustep-back0.29-cairo"
if [ -n "$missing" ]; then
    echo "gui-test: missing, so nothing was tested; install (Debian 12): apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

tests="gui gui_bridge"
# shellcheck disable=SC2086,SC2046 # lists of words
build() { cargo test --locked --features gnustep $(printf -- '--test %s ' $tests) --no-run "$@"; }
build
place=$(mktemp -d /tmp/ocgui.XXXXXX)
made_user=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    if [ -n "$made_user" ]; then
        # Only this account's own: the library's daemon outlives the app by minutes.
        pkill -KILL -u "$user" 2>/dev/null || true
        userdel -r "$user" >/dev/null 2>&1 || true
    fi
    rm -rf "$place"
}
trap cleanup EXIT
built() { build --message-format=json 2>/dev/null | sed -n "s,.*\"name\":\"$1\".*\"executable\":\"\([^\"]*$2\)\".*,\1,p" | tail -n 1; }
for test in $tests; do cp "$(built "$test" '')" "$place/$test"; done
cp "$(built openclaw /openclaw)" "$place/openclaw"
chmod 755 "$place"
[ -d /tmp/.X11-unix ] || mkdir -m 1777 /tmp/.X11-unix
pictures=
if [ -n "${GUI_TEST_PICTURES:-}" ]; then
    mkdir -p "$GUI_TEST_PICTURES"
    kept=$(realpath "$GUI_TEST_PICTURES")
    pictures=$place/pictures
    mkdir -m 777 "$pictures"
fi

as_user=()
if [ "$(id -u)" = 0 ]; then
    id -u "$user" >/dev/null 2>&1 || { useradd -m "$user"; made_user=yes; }
    as_user=(setpriv --reuid "$user" --regid "$user" --init-groups)
fi
cd "$place"
status=0
# One at a time: each has a screen of its own, and two cores are soon busy.
for test in $tests; do
    "${as_user[@]}" env -i PATH=/usr/bin:/bin OPENCLAW_TEST_PROGRAM="$place/openclaw" \
        ${pictures:+GUI_TEST_PICTURES="$pictures"} "$place/$test" --test-threads=1 --nocapture "$@" || status=$?
done
[ -z "$pictures" ] || cp -r "$pictures/." "$kept"
exit "$status"
