# SPDX-License-Identifier: GPL-2.0
# A launcher in a jail: nobody, nowhere, with bounds; its guest does not notice, and nothing is left of it.
# seconds: 300
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
grep -q cgroup2 /proc/mounts || {
    guest --jail 1000:1001 -- true
    expect_code 125
    says "$messages" 'needs cgroups: mount -t cgroup2'
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}
before=$(ls /proc/1/root)
guest --name held --jail 1000:1001 --detach
expect_code 0
[ "$said" = held ] || fail "it says '$said'"
pid=$(loft ps --json | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
status=$(cat "/proc/$pid/status")
says "$status" '^Uid:	1000	1000	1000	1000$'
says "$status" '^Gid:	1001	1001	1001	1001$'
says "$status" '^Groups:	 *$'
for set in CapInh CapPrm CapEff CapAmb; do says "$status" "^$set:	0000000000000000\$"; done
says "$status" '^NoNewPrivs:	1$'
for thread in "/proc/$pid"/task/*; do
    grep -q '^Uid:	1000	1000	1000	1000$' "$thread/status" || fail "$(cat "$thread/comm") is somebody else"
done
[ -z "$(ls -A "/proc/$pid/root")" ] || fail "it sees files: $(ls -A "/proc/$pid/root")"
[ "$(grep -c . "/proc/$pid/mounts")" = 1 ] || fail "it has more mounts: $(cat "/proc/$pid/mounts")"
[ "$(cat "/proc/$pid/cgroup")" = 0::/loft/held ] || fail "it is in the cgroup $(cat "/proc/$pid/cgroup")"
[ "$(cat /sys/fs/cgroup/loft/held/memory.max)" = $(((512 + 128) << 20)) ] || fail "its memory has no bound"
[ "$(cat /sys/fs/cgroup/loft/held/pids.max)" = 257 ] || fail "its threads have no bound"
[ "$before" = "$(ls /proc/1/root)" ] || fail "others see other files"

said=$(timeout 100 loft exec held -- sh -c 'echo written >/root/jailed && sync && echo synced' </dev/null)
[ "$said" = synced ] || fail "it says '$said'"
loft stop -t 100 held || fail "it does not stop"
i=0
while [ -e /sys/fs/cgroup/loft/held ] || [ -n "$(ls "$LOFT_RUNTIME_DIR")" ]; do
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

guest --jail no-such-user -- true
expect_code 125
says "$messages" "no user 'no-such-user' in /etc/passwd"
guest --jail 0:0 -- true
expect_code 125
guest --jail 1000:1001 --on-reboot restart -- true
expect_code 125
says "$messages" 'leave out --jail, or --on-reboot restart'
