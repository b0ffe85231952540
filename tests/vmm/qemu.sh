# SPDX-License-Identifier: GPL-2.0
# QEMU as Debian has it: boots a stock Debian kernel with two vCPUs, a disk and MSIs, moves the guest to another QEMU while it works,
# where it goes on and is rebooted. Runs on the emulated server; /dev/vda has QEMU.
# seconds: 240
set -u
root=/mnt/vmm dir=/tmp/qemu
mkdir -p $root $dir
mount -o ro /dev/vda $root
for d in dev proc sys tmp; do mount -o bind /$d $root/$d; done
cp /guest/7.2/Image /guest/7.2/initrd /guest/disk.img $dir/
cd $dir || exit 1

fail() {
    echo "FAIL: $*"
    for n in 1 2; do
        [ ! -e log$n ] || { echo "--- guest $n" && tail -n 30 log$n; }
        [ ! -e monitor$n ] || { echo "--- monitor $n" && tail -n 10 monitor$n; }
    done
    exit 1
}

# start N [OPTION...]: QEMU number N. Its guest's console is log$N and, to write to, fd 7; its monitor is monitor$N, and fd 8.
start() {
    n=$1
    shift
    rm -f ./*.in ./*.out
    mkfifo console.in console.out monitor.in monitor.out
    cat console.out >log"$n" &
    cat monitor.out >monitor"$n" &
    # The network card is a PCI device with MSIs, the disk is not.
    chroot $root /usr/bin/qemu-system-aarch64 -M virt,gic-version=3 -accel kvm -cpu host -smp 2 -m 512M -nodefaults -display none \
        -chardev pipe,id=console,path=$dir/console -serial chardev:console -chardev pipe,id=monitor,path=$dir/monitor -mon monitor,mode=control \
        -kernel $dir/Image -initrd $dir/initrd -append "console=ttyAMA0 panic=-1 rw quiet" \
        -drive file=$dir/disk.img,format=raw,if=none,id=disk -device virtio-blk-device,drive=disk \
        -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= "$@" >qemu"$n" 2>&1 &
    qemu=$!
    exec 7>console.in 8>monitor.in
    echo '{"execute": "qmp_capabilities"}' >&8
}

# says FILE PATTERN SECONDS: waits for it.
says() {
    i=0
    until grep -qE "$2" "$1"; do
        [ $i -lt "$3" ] || fail "no '$2' in $1 within $3 s; QEMU: $(cat qemu"$n")"
        kill -0 $qemu 2>/dev/null || fail "QEMU has ended: $(cat qemu"$n")"
        sleep 1
        i=$((i + 1))
    done
}

start 1
says log1 'built-in shell' 100
echo 'nproc; echo "nics: $(ls /sys/class/net)"; grep -c ITS-PCI-MSI /proc/interrupts; echo "answer: $((6 * 7))"' >&7
says log1 'answer: 42' 20
grep -q '^2' log1 || fail "the guest does not have two CPUs"
grep -q eth0 log1 || fail "the guest has no network card"
echo 'dd if=/dev/urandom of=/tmp/data bs=1M count=64 2>/dev/null; echo "sum: $(md5sum </tmp/data)"' >&7
says log1 '^sum: ' 60
echo 'i=0; while :; do i=$((i + 1)); echo "tick $i"; sleep 1; done &' >&7
says log1 '^tick 3' 20
echo '{"execute": "migrate", "arguments": {"uri": "file:/tmp/qemu/state"}}' >&8
i=0
while ! grep -q postmigrate monitor1; do
    [ $i -lt 60 ] || fail "the migration does not end"
    sleep 1
    i=$((i + 1))
    echo '{"execute": "query-status"}' >&8
done
echo '{"execute": "quit"}' >&8
wait $qemu || fail "QEMU ended with $?: $(cat qemu1)"

start 2 -incoming file:$dir/state
says log2 '^tick [0-9]+' 40
echo 'echo "sum: $(md5sum </tmp/data)"; echo "online: $(cat /sys/devices/system/cpu/online)"' >&7
says log2 '^sum: ' 60
says log2 '^online: 0-1' 20
[ "$(grep -o '^sum: [0-9a-f]*' log1)" = "$(grep -o '^sum: [0-9a-f]*' log2)" ] || fail "the guest's memory has changed"
echo 'reboot -f' >&7
says log2 'built-in shell' 100
echo 'echo "answer: $((6 * 9))"; poweroff -f' >&7
says log2 'answer: 54' 20
wait $qemu || fail "QEMU ended with $?: $(cat qemu2)"
