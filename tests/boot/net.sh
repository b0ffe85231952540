# SPDX-License-Identifier: GPL-2.0
# The guest and the server reach each other through the tap device.
# seconds: 120
. /boot/lib
guest -n tap=tap0 -- sh -c 'modprobe virtio_net 2>/dev/null; ifconfig eth0 192.168.76.2 up && ping -c 3 -W 5 192.168.76.1 && dd if=/dev/zero bs=1k count=512 2>/dev/null | nc 192.168.76.1 7777' &
# 512 KiB come through whole. The listener's own input stays open: at its end it would hang up.
mkfifo "$dir/silence"
received=$(timeout 100 nc -l -p 7777 <>"$dir/silence" | wc -c)
wait
[ "$received" = $((512 * 1024)) ] || {
    cat "$dir/out" "$dir/err"
    fail "$received bytes arrived"
}
says "$(cat "$dir/out")" ' 0% packet loss'
