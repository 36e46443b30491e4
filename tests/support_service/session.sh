#!/bin/sh
# Runs "$@" as if a user had logged in on a machine with systemd: a service manager and a bus of their own, in
# namespaces of their own, so that nothing outside is seen or changed, and all of it ends with this script.
# Exit code 77: this machine cannot do that, and the last line says why.
set -eu
skip() { echo "skipped: $1"; exit 77; }

case "${SESSION_STAGE:-start}" in
start)
    [ "$(id -u)" = 0 ] || skip "only root may make a cgroup and namespaces"
    for tool in unshare dbus-run-session systemctl systemd-analyze; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
    [ -x /usr/lib/systemd/systemd ] || skip "systemd is not installed"
    # Without a cgroup of its own the manager would sort the whole machine's processes into its groups.
    for top in /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ -e "$top/cgroup.procs" ] && [ "$(stat -fc %T "$top")" = cgroup2fs ] && break
        top=
    done
    [ -n "$top" ] || skip "there is no cgroup2 hierarchy"
    own="$top/openclaw-test-$$"
    mkdir "$own" 2>/dev/null || skip "no cgroup can be made in $top"
    # The shell that moved in ends first; only an empty group can be removed.
    trap 'find "$own" -depth -type d -exec rmdir {} \; 2>/dev/null || true' EXIT
    code=0
    SESSION_STAGE=joined sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$own" \
        unshare --mount --pid --fork --kill-child --cgroup --mount-proc sh "$0" "$@" || code=$?
    exit "$code"
    ;;
joined)
    [ "$(sed -n 's/^0:://p' /proc/self/cgroup)" = / ] || skip "the cgroup namespace does not begin at our own group"
    mount -t tmpfs none /run
    mkdir -p /run/systemd/system
    umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup || skip "a cgroup2 hierarchy cannot be mounted"
    mkdir -m 700 /run/user
    export XDG_RUNTIME_DIR=/run/user SESSION_STAGE=manager
    exec dbus-run-session -- sh "$0" "$@"
    ;;
manager)
    unset SESSION_STAGE
    /usr/lib/systemd/systemd --user >"$HOME/manager.log" 2>&1 &
    for _ in $(seq 100); do
        systemctl --user is-system-running >/dev/null 2>&1 && exec "$@"
        sleep 0.1
    done
    skip "systemd --user does not start: $(tail -1 "$HOME/manager.log")"
    ;;
esac
