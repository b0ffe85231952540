#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# watch.sh DEVICE: on the server, for scripts/bench-anatomy, which is at the other end of the virtio port loft.control: it says
# `PROGRAM CASE`, and that runs without end until it says `next`; `end` ends all.
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" != loft.control ] || control=/dev/${port##*/}
done
exec 3<>"$control"
while read -r program case <&3 && [ "$program" != end ]; do
    LOFT_BENCH_ENDLESS=1 "/bench/$program" "$1" "$case" >/tmp/said 2>&1 3<&- &
    echo started >&3
    read -r _ <&3
    if kill -0 $! 2>/dev/null; then
        echo running >&3
    else
        { grep -m1 '^# ' /tmp/said || echo 'it ended'; } >&3
    fi
    { kill -KILL $! && wait $!; } 2>/dev/null
done
cat /proc/kallsyms >/kallsyms
