# SPDX-License-Identifier: GPL-2.0
# QEMU boots a stock Debian kernel with two vCPUs, a disk and MSIs, and moves the guest to another QEMU while it works, where it goes
# on and is rebooted.
# seconds: 400
# What is in single quotes is for the guest.
# shellcheck disable=SC2016
. /vmm/lib

start 1
says log1 'built-in shell' 100
echo 'nproc; echo "nics: $(ls /sys/class/net)"; echo "msis: $(grep -c ITS-PCI-MSI /proc/interrupts)"; echo "answer: $((6 * 7))"' >&7
says log1 'answer: 42' 20
grep -q '^2' log1 || fail "the guest does not have two CPUs"
grep -q '^nics: .*eth0\|^eth0' log1 || fail "the guest has no network card"
grep -q '^msis: [1-9]' log1 || fail "the guest has no MSIs"
echo 'dd if=/dev/urandom of=/tmp/data bs=1M count=64 2>/dev/null; echo "sum: $(md5sum </tmp/data)"' >&7
says log1 '^sum: ' 60
echo 'i=0; while :; do i=$((i + 1)); echo "tick $i"; sleep 1; done &' >&7
says log1 '^tick 3' 20
leaves

start 2 -incoming "file:$dir/state"
says log2 '^tick [0-9]+' 40
echo 'echo "sum: $(md5sum </tmp/data)"; echo "online: $(cat /sys/devices/system/cpu/online)"' >&7
says log2 '^sum: ' 60
says log2 '^online: 0-1' 20
# The disk and the network card are of the new QEMU now. 10.0.2.2 is QEMU itself.
echo 'ifconfig eth0 10.0.2.15 && ping -c 1 -W 10 10.0.2.2; echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=1M count=16' >&7
says log2 ' 0% packet loss' 30
says log2 '16[+]0 records out' 30
[ "$(grep -o '^sum: [0-9a-f]*' log1)" = "$(grep -o '^sum: [0-9a-f]*' log2)" ] || fail "the guest's memory has changed"
echo 'reboot -f' >&7
says log2 'built-in shell' 100
echo 'echo "answer: $((6 * 9))"; poweroff -f' >&7
says log2 'answer: 54' 20
wait "$qemu" || fail "QEMU ended with $?: $(cat qemu2)"
