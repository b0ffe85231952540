# SPDX-License-Identifier: GPL-2.0
# A launcher in a jail: nobody, nowhere, with bounds; its guest does not notice, and nothing is left of it.
# seconds: 600
# part: 5
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
grep -q cgroup2 /proc/mounts || {
    guest --jail 1000:1001 -- true
    expect_code 125
    says "$messages" 'needs cgroups: mount -t cgroup2'
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}
before=$(ls /proc/1/root)
# Where a process that has become another user can be looked into, the launcher still cannot, and its files in /proc are root's.
trap 'echo 0 >/proc/sys/fs/suid_dumpable; rm -rf "$dir"' EXIT
echo 1 >/proc/sys/fs/suid_dumpable
# A directory that is left open would lead out.
exec 9<"$dir"
guest --name held --jail 1000:1001 --detach -n tap=tap0 --vsock 77
exec 9<&-
expect_code 0
[ "$said" = held ] || fail "it says '$said'"
pid=$(loft ps --json | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
status=$(cat "/proc/$pid/status")
says "$status" '^Uid:	1000	1000	1000	1000$'
says "$status" '^Gid:	1001	1001	1001	1001$'
says "$status" '^Groups:	 *$'
for set in CapInh CapPrm CapEff CapAmb; do says "$status" "^$set:	0000000000000000\$"; done
says "$status" '^NoNewPrivs:	1$'
# shellcheck disable=SC2012 # there is no stat
[ "$(ls -ln "/proc/$pid/maps" | awk '{ print $3 }')" = 0 ] || fail "others of its user may look into it"
for file in "/proc/$pid"/fd/*; do [ ! -d "$file" ] || fail "it has the directory $(readlink "$file")"; done
[ -z "$(ls -A "/proc/$pid/root")" ] || fail "it sees files: $(ls -A "/proc/$pid/root")"
[ "$(grep -c . "/proc/$pid/mounts")" = 1 ] || fail "it has more mounts: $(cat "/proc/$pid/mounts")"
group=/loft/held-$pid.guest
[ "$(cat "/proc/$pid/cgroup")" = "0::$group" ] || fail "it is in the cgroup $(cat "/proc/$pid/cgroup")"
[ "$(cat "/sys/fs/cgroup$group/memory.max")" = $(((512 + 128 + 4) << 20)) ] || fail "its memory has no bound"
[ "$(cat "/sys/fs/cgroup$group/pids.max")" = 259 ] || fail "its threads have no bound"
[ "$before" = "$(ls /proc/1/root)" ] || fail "others see other files"

said=$(timeout 100 loft exec held -- sh -c 'modprobe virtio_net 2>/dev/null; ifconfig eth0 up && echo written >/root/jailed && sync && echo synced' </dev/null)
[ "$said" = synced ] || fail "it says '$said'"
# The kernel's threads for the devices are there by now.
cat "/proc/$pid"/task/*/comm | grep -q vhost || fail "it has no thread of vhost's"
for thread in "/proc/$pid"/task/*; do
    grep -q '^Uid:	1000	1000	1000	1000$' "$thread/status" || fail "$(cat "$thread/comm") is somebody else"
done
says "$(loft stat held)" '^user_time_ms +[0-9]+ '
loft stop -t 100 held || fail "it does not stop"
i=0
while [ -e "/sys/fs/cgroup$group" ] || [ -n "$(ls "$LOFT_RUNTIME_DIR")" ]; do
    [ $i -lt 50 ] || fail "something is left: $(ls "$LOFT_RUNTIME_DIR" /sys/fs/cgroup/loft)"
    sleep 0.1
    i=$((i + 1))
done

# Exit codes come out, signals go in.
guest --jail 1000:1001 -- sh -c 'cat /root/jailed; exit 5'
expect_code 5
[ "$said" = written ] || fail "it says '$said'"
loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" --jail 1000:1001 -- sleep 1000 >"$dir/out" 2>&1 </dev/null &
outer=$!
sleep 3
kill $outer
code=0
wait $outer || code=$?
expect_code 143

# A debugger's socket is removed, by the one outside.
guest --jail 1000:1001 --gdb "$dir/gdb" -- true
expect_code 0
[ ! -e "$dir/gdb" ] || fail "the debugger's socket is left"

# Who ignores its children's end is told of it nevertheless.
code=0
timeout 100 sh -c 'trap "" CHLD; exec "$@"' sh loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" \
    --jail 1000:1001 -- sh -c 'exit 6' </dev/null || code=$?
[ $code = 6 ] || fail "the exit code is $code where SIGCHLD is ignored"

guest --jail no-such-user -- true
expect_code 125
says "$messages" "no user 'no-such-user' in /etc/passwd"
guest --jail 0:0 -- true
expect_code 125
guest --jail 1000:1001 --on-reboot restart -- true
expect_code 125
says "$messages" 'leave out --jail, or --on-reboot restart'
