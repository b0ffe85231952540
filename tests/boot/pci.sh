# SPDX-License-Identifier: GPL-2.0
# A guest whose devices are on a PCI bus has all that one with windows has; its interrupts are messages, a queue's goes to the CPU
# whose queue it is, and no register is read or written to take one.
# seconds: 600
# part: 1
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"

# What a guest has on either transport. Its messages are of no use there: they are on the console.
for transport in mmio pci; do
    # shellcheck disable=SC2016 # for the guest's shell
    guest --transport $transport -c 3 --balloon --vsock 78 -n tap=tap0 --json -- sh -c '
        modprobe virtio_net 2>/dev/null
        ifconfig eth0 192.168.76.2 up && ping -c 3 -W 5 192.168.76.1 >/dev/null && echo net
        [ -e /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio* ] && echo vsock
        [ -e /sys/bus/virtio/drivers/virtio_balloon/virtio* ] && echo balloon
        dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c
        ls -d /sys/block/vda/mq/* | wc -l
        # Each CPU by itself, which has its queue to itself.
        for cpu in 0 1 2; do taskset $((1 << cpu)) dd if=/dev/vda of=/dev/null bs=4k count=100 skip=$((100 * cpu)) iflag=direct 2>/dev/null; done
        cat /proc/interrupts
        for irq in $(sed -n "s/^ *\([0-9]*\):.*-req\..*/\1/p" /proc/interrupts); do cat /proc/irq/$irq/effective_affinity_list; done'
    expect_code 0
    for word in net vsock balloon 16 3; do says "$said" "^$word\$"; done
    case $transport in
    mmio)
        says "$said" ' GICv3 .* virtio[0-9]'
        ! echo "$said" | grep -q MSI || fail "there are messages without PCI"
        ;;
    pci)
        ! echo "$said" | grep -q 'GICv3 .*virtio' || fail "a device on PCI has a line"
        for queue in virtio0-req.0 virtio0-req.1 virtio0-req.2 virtio1-input.0 virtio1-output.0; do
            says "$said" "^ *[0-9]+:.*[1-9].* ITS-.*$queue\$"
        done
        # Each queue of the disk has interrupted one CPU only, as often as that has asked for something.
        for queue in 0 1 2; do
            echo "$said" | awk -v queue="virtio0-req.$queue" '$NF == queue {
                for (cpu = 0; cpu < 3; cpu++) { if ($(2 + cpu) > 0) cpus++; if ($(2 + cpu) >= 90) busy++ }
            } END { exit !(cpus == 1 && busy == 1) }' || { echo "$said"; fail "queue $queue does not interrupt a CPU of its own"; }
        done
        [ "$(echo "$said" | tail -n 3 | sort | tr '\n' ' ')" = '0 1 2 ' ] || fail "the queues share CPUs"
        ;;
    esac
    # How often the launcher answered an access to a device.
    eval "$transport=$(echo "$messages" | sed -n 's/.*"launcher_mmio":\([0-9]*\).*/\1/p')"
done
# shellcheck disable=SC2154 # set by eval
echo "accesses to devices: mmio $mmio, pci $pci"

# The console, a command beside it, and a reboot, after which everything is set up anew.
guest --transport pci --name on-pci --detach --on-reboot restart
expect_code 0
timeout 100 loft exec on-pci -- sh -c 'echo kept >/root/file && sync && grep -c ITS- /proc/interrupts' </dev/null >"$dir/out" || fail "it runs no command"
says "$(cat "$dir/out")" '^[1-9]'
# accesses: how many accesses of the guest's the launcher has answered.
accesses() { loft stat on-pci | awk '$1 == "mmio_exit_user" { print $2 }'; }
before=$(accesses)
says "$before" '^[1-9]'
timeout 100 loft exec on-pci -- dd if=/dev/vda of=/dev/null bs=4k count=500 iflag=direct </dev/null || fail "it does not read its disk"
after=$(accesses)
# An interrupt of a window's takes two.
[ $((after - before)) -lt 100 ] || fail "500 reads take $((after - before)) accesses"
timeout 60 loft pause on-pci || fail "it is not paused"
timeout 60 loft resume on-pci || fail "it does not go on"
# what: what it was told to keep, and which boot this is.
what() { timeout 100 loft exec on-pci -- cat /root/file /proc/sys/kernel/random/boot_id </dev/null 2>/dev/null; }
before=$(what)
says "$before" '^kept$'
loft reboot on-pci || fail "it cannot be rebooted"
i=0
until said=$(what) && [ "$said" != "$before" ]; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 100 ] || fail "it is not up again"
done
says "$said" '^kept$'
loft stop -t 100 on-pci || fail "it does not stop"

# A jail and its sandbox have what it takes.
[ ! -e /sys/fs/cgroup ] || grep -q cgroup2 /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup
guest --transport pci --jail 1000:1001 -- sh -c 'cat /root/file; exit 5'
expect_code 5
[ "$said" = kept ] || fail "it says '$said'"
