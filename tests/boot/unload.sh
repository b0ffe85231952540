# SPDX-License-Identifier: GPL-2.0
# The module stays while a guest runs, goes when none is left, and can be loaded again.
# seconds: 180
. /boot/lib
[ "$DEVICE" = /dev/loft ] || skip "KVM is not a module"
loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" -- sleep 60 >/dev/null 2>&1 </dev/null &
running=$!
sleep 3
rmmod loft 2>/dev/null && fail "rmmod worked while a guest was running"
kill -0 $running || fail "the guest has ended early"
kill $running
wait $running
rmmod loft || fail "rmmod does not work after the guest has ended"
[ ! -e /dev/loft ] || fail "/dev/loft outlived the module"
insmod /loft.ko || fail "the module cannot be loaded again"
guest -- true
expect_code 0
