# SPDX-License-Identifier: GPL-2.0
# The module stays while a guest runs, goes when none is left, and can be loaded again; it says what it has found, and takes no
# nonsense for a parameter.
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
for wrong in fast=2 fast=-1 kvm_node=2 poll_us=10001 poll_us=4294967295 poll_us=x wait_us=10001 wait_us=-1; do
    insmod /loft.ko $wrong 2>/dev/null && fail "$wrong is taken"
    says "$(dmesg | tail -n 3)" "loft: .${wrong#*=}. invalid for parameter .${wrong%=*}'"
done
# These were asked for; everything else stays for whoever looks at the kernel's messages after this test.
dmesg -c -r | grep -v 'invalid for parameter' | while IFS= read -r line; do echo "$line" >/dev/kmsg; done
insmod /loft.ko poll_us=7 || fail "the module cannot be loaded again"
says "$(dmesg | tail -n 3)" 'loft: [0-9.]+: VHE, .* VMIDs of (8|16) bits, .* waits in the vector of up to 500 us, polling for up to 7 us'
[ "$(cat /sys/module/loft/version)" = "$(loft --version | cut -d' ' -f2)" ] || fail "the module's version is not the launcher's"
parameters=$(cd /sys/module/loft/parameters && cat fast kvm_node poll_us | tr '\n' ' ')
[ "$parameters" = "1 0 7 " ] || fail "the parameters read '$parameters'"
rmmod loft
insmod /loft.ko || fail "the module cannot be loaded with its defaults"
guest -- true
expect_code 0
