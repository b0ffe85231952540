# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts beside it: where things are kept, how progress is shown, how a cache entry is made.
# shellcheck shell=bash
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LOFT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/loft}
out=$top/out
mkdir -p "$cache" "$out"

die() { printf 'loft: %s\n' "$*" >&2; exit 1; }
say() { printf 'loft: %s\n' "$*" >&2; }

# run TITLE COMMAND...: runs a long command with its output in a log; shows the title and the seconds it has taken.
# On failure the end of the log is shown, and where the whole of it is.
run() {
    local title=$1 log started pid status=0
    shift
    mkdir -p "$cache/log"
    log=$(mktemp "$cache/log/XXXXXX.log")
    started=$SECONDS
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    if [ -t 2 ]; then
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r\033[Kloft: %s ... %ds' "$title" $((SECONDS - started)) >&2
            sleep 1
        done
        printf '\r\033[K' >&2
    else
        say "$title ..."
    fi
    wait "$pid" || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$log" >&2
        die "$title: failed with status $status after $((SECONDS - started)) s; the whole log is $log"
    fi
    rm -f "$log"
    say "$title: done in $((SECONDS - started)) s"
}

# with_lock NAME COMMAND...: one process at a time makes a cache entry; the others wait for it.
with_lock() {
    local name=$1
    shift
    exec 9>"$cache/$name.lock"
    if ! flock -n 9; then
        say "waiting for another process that prepares '$name'"
        flock 9
    fi
    "$@"
    exec 9>&-
}

# publish WORK FINAL: a finished directory takes its final name in one step, so a killed run leaves nothing half made.
publish() {
    sync -f "$1"
    rm -rf "$2"
    mv -T "$1" "$2"
}

digest() { sha256sum | cut -c1-16; }

# The Debian mirror of this machine's apt configuration, or LOFT_MIRROR.
# shellcheck disable=SC2016 # apt's own placeholders
debian_mirror() {
    local mirror=${LOFT_MIRROR:-}
    [ -n "$mirror" ] ||
        mirror=$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL)' 'Created-By: Packages' | awk '$2=="Debian" && $3=="Debian" {print $1; exit}')
    # Before the first `apt-get update` apt knows its sources but not who they are (and newer ones are silent unless asked so).
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --no-release-info --format '$(SITE) $(RELEASE)' | awk '$2 ~ /^(bookworm|trixie)$/ {print $1; exit}')
    [ -n "$mirror" ] || die "no Debian mirror in this machine's apt configuration; set LOFT_MIRROR to one"
    echo "$mirror"
}

# Who is not root is what root is in a user namespace of its own, with all user ids where the machine hands them out (uidmap,
# /etc/subuid): the build root is made with those. With one id alone it can be entered.
userns=()
if [ "$(id -u)" != 0 ]; then
    userns=(--user --map-root-user --map-auto)
    unshare "${userns[@]}" true 2>/dev/null || unset "userns[2]"
fi

# need_userns [all]: fails with what is missing where this user can have no user namespace, or not one with all user ids.
need_userns() {
    [ "$(id -u)" != 0 ] || return 0
    unshare "${userns[@]}" true 2>/dev/null ||
        die "without root this needs user namespaces, which this machine does not allow (sysctl user.max_user_namespaces, AppArmor): run it as root"
    [ -z "${1:-}" ] || [ -n "${userns[2]:-}" ] ||
        die "without root the build root is made with the user's range of user ids: install uidmap, have a line for $(id -un) in /etc/subuid and /etc/subgid, or run it as root"
}

# Installs python3, where it is missing.
need_python() {
    ! command -v python3 >/dev/null || return 0
    [ "$(id -u)" = 0 ] || die "python3 is missing: install it"
    run "updating the package lists" apt-get update
    run "installing python3" apt-get install -y --no-install-recommends python3
}

# Installs mmdebstrap, where it is missing: with python3, all that is installed on this machine.
need_mmdebstrap() {
    ! command -v mmdebstrap >/dev/null || return 0
    [ "$(id -u)" = 0 ] || die "mmdebstrap is missing: install it, or run this once as root"
    run "updating the package lists" apt-get update
    run "installing mmdebstrap" apt-get install -y --no-install-recommends mmdebstrap
}
