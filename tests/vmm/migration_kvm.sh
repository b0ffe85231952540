# SPDX-License-Identifier: GPL-2.0
# QEMU on KVM boots a stock Debian kernel and hands the guest over to a QEMU on loft while it works, and that one back; LOFT_LONG=1: ten
# times. What a guest on KVM must not have, README says: "From KVM to loft and back".
# seconds: 400
# part: 5
# kvm: neoverse-n1
# What is in single quotes is for the guest.
# shellcheck disable=SC2016
. /vmm/lib

trips=2
[ -z "${LOFT_LONG:-}" ] || trips=20
# On loft there is no PMU that could be switched off, and QEMU says so.
on_kvm=host,sve=off,pmu=off on_loft=host

# What a guest has been given and loft has not is said, and nothing runs.
device=/dev/kvm cpu=host,sve=off
start 1 -S
says monitor1 return 30
leaves
device=/dev/loft cpu=$on_loft
start 2 -incoming "file:$dir/state"
! wait "$qemu" || fail "a guest with a PMU has come to loft"
grep -q "error while loading state .*cpu" qemu2 || fail "QEMU says: $(cat qemu2)"
rm -f state

device=/dev/kvm cpu=$on_kvm
start 1
says log1 'built-in shell' 100
echo 'nproc; echo "answer: $((6 * 7))"' >&7
says log1 'answer: 42' 20
grep -q '^2' log1 || fail "the guest does not have two CPUs"
# The load: memory that is written all the time and has to stay what it is, the disk, and interrupts that go from CPU to CPU.
echo 'dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null; sum=$(md5sum </tmp/data)' >&7
echo 'work() { while :; do cp /tmp/data /tmp/data.$1; [ "$(md5sum </tmp/data.$1)" = "$sum" ] || echo "memory has changed"; done; }; work 1 & work 2 &' >&7
echo 'while :; do echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=64 2>/dev/null || echo "no disk"; done &' >&7
echo 'i=0; while :; do i=$((i + 1)); echo "tick $i"; sleep 1; done &' >&7
says log1 '^tick 2' 60

trip=0
while [ $trip -lt $trips ]; do
    trip=$((trip + 1))
    leaves
    if [ $device = /dev/kvm ]; then device=/dev/loft cpu=$on_loft; else device=/dev/kvm cpu=$on_kvm; fi
    start $((trip + 1)) -incoming "file:$dir/state"
    # It has to come further than where it was.
    before=$(grep -ho '^tick [0-9]*' log"$trip" | tail -n 1)
    says log"$n" "^tick $((${before#tick } + 3))" 60
    rm -f state
    ! grep -hE '^(memory has changed|no disk)|BUG:|WARNING:|rcu.*stall' log* || fail "that is not as it was, on $device"
    # The network card and the disk are those of the new QEMU. 10.0.2.2 is QEMU itself.
    echo "ifconfig eth0 10.0.2.15 && ping -c 1 -W 10 10.0.2.2; echo \"online: \$(cat /sys/devices/system/cpu/online) trip $trip\"" >&7
    says log"$n" "^online: 0-1 trip $trip" 60
    says log"$n" ' 0% packet loss' 30
    echo "$trip: on $device, $(grep -ho '^tick [0-9]*' log"$n" | tail -n 1)"
done
echo 'poweroff -f' >&7
wait "$qemu" || fail "QEMU ended with $?: $(cat qemu"$n")"
