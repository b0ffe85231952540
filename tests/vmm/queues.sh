# SPDX-License-Identifier: GPL-2.0
# A network card with several queues: on a tap with multi_queue, which Debian's ip makes, each vCPU of a guest of loft's own launcher
# has a pair of them, which the host's vhost-net serves, or the launcher.
# seconds: 900
# part: 1
. /vmm/lib
export LOFT_RUNTIME_DIR=$dir/run
device=/dev/loft
[ -e $device ] || device=/dev/kvm
chroot "$root" /usr/bin/ip tuntap del dev tap8 mode tap multi_queue 2>/dev/null
chroot "$root" /usr/bin/ip tuntap add dev tap8 mode tap multi_queue || fail "no tap with several queues"
ifconfig tap8 192.168.77.1 netmask 255.255.255.0 up
[ ! -e /sys/fs/cgroup ] || grep -q cgroup2 /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup

# without_vhost COMMAND...: it finds no vhost-net.
without_vhost() {
    unshare -m sh -c 'mount -o bind /dev/null /dev/vhost-net && exec "$@"' sh "$@"
}

# guest CMD OPTION...
guest() {
    cmd=$1
    shift
    $hide loft run -k Image --modules /guest/7.2/modules -d disk.img --device $device "$@" -- sh -c "$cmd" >out 2>err </dev/null
}

# What a guest does: it uses the card on each of its CPUs, and again when its driver has had it anew.
# shellcheck disable=SC2016 # for the guest's shell
use='
    up() {
        ifconfig eth0 192.168.77.2 up && echo $(ls /sys/class/net/eth0/queues)
        for cpu in 0 1; do taskset $((1 << cpu)) ping -q -c 40 -i 0.1 -W 5 192.168.77.1 | sed "s/^/cpu $cpu: /"; done
    }
    modprobe virtio_net 2>/dev/null
    up
    cat /proc/interrupts
    cd /sys/bus/virtio/drivers/virtio_net && for card in virtio*; do echo $card >unbind; echo $card >bind; done
    up'

for hide in '' without_vhost; do
    for transport in mmio pci; do
        # A jail, which has no rights, serves them as well.
        jail=''
        [ "$transport" = mmio ] || jail='--jail 1000:1001'
        # shellcheck disable=SC2086 # words
        guest "$use" -c 2 --transport $transport -n tap=tap8 $jail &
        guest=$!
        # A thread of the kernel's for each pair; or of the launcher's, beside that of the control queue.
        if [ -z "$hide" ]; then threads='2 1'; else threads='0 3'; fi
        i=0
        until [ "$(cat /proc/[0-9]*/task/*/comm 2>/dev/null | awk '/^vhost-/ { v++ } /^virtio-net$/ { n++ } END { print v + 0, n + 0 }')" = "$threads" ]; do
            sleep 0.2
            i=$((i + 1))
            { [ $i -lt 600 ] && kill -0 $guest 2>/dev/null; } || { cat out err; fail "two pairs are not served by threads: $threads"; }
        done
        wait $guest || { cat out err; fail "exit code $?"; }
        [ "$(grep -c '^rx-0 rx-1 tx-0 tx-1$' out)" = 2 ] || { cat out err; fail "the guest does not have two pairs"; }
        for cpu in 0 1; do
            [ "$(grep -c "^cpu $cpu: 40 packets transmitted, 40 packets received" out)" = 2 ] || { cat out err; fail "no traffic on CPU $cpu"; }
            [ $transport = mmio ] || awk -v queue="virtio1-input.$cpu" -v cpu=$cpu '$NF == queue { own = $(2 + cpu); other = $(3 - cpu) } END { exit !(own >= 30 && other == 0) }' out ||
                { cat out err; fail "CPU $cpu does not have the interrupts of its queue alone"; }
        done
    done
done
hide=

# As many as there are vCPUs, and as the tap can have.
ends 0 'ls /sys/class/net/eth0/queues | xargs' -c 1 -n tap=tap8
contains '^rx-0 tx-0$'
ends 0 'ls /sys/class/net/eth0/queues | xargs' -c 2 -n tap=tap0
contains '^rx-0 tx-0$'

# Whose is a tap that several processes could attach to.
guest 'echo up; sleep 1000' -c 2 -n tap=tap8 --name first &
guest=$!
comes_up up 60
timeout 60 loft run -k Image -i initrd --device $device -n tap=tap8 >out2 2>err2 </dev/null && fail "two guests have a tap"
contains "the tap interface 'tap8' is in use" err2
loft stop -f -t 1 first
wait $guest
chroot "$root" /usr/bin/ip tuntap del dev tap8 mode tap multi_queue
