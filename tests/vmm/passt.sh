# SPDX-License-Identifier: GPL-2.0
# A guest of loft's own launcher on a network that passt makes of it, without root. Debian's passt wants a root file system that is one:
# in a namespace of its own the disk's is moved there.
# seconds: 300
. /vmm/lib
device=/dev/loft
[ -e $device ] || device=/dev/kvm
chmod 666 $device
cp /bin/loft "$dir/"
cp /bin/busybox "$dir/busybox"
ln -s busybox "$dir/sh"
cp -r /guest/7.2/modules "$dir/"
mkdir -m 777 www run
chmod 666 disk.img
echo page >www/page

# passt looks for the interface with the default route. There is nothing behind this one.
{ tunctl -t tap9 >/dev/null && ifconfig tap9 192.0.2.1 netmask 255.255.255.0 up && route add default gw 192.0.2.2; } || fail "no interface"
httpd -p 127.0.0.1:8080 -h "$dir/www"

# as_user COMMAND...: in the disk's root file system.
as_user() {
    # shellcheck disable=SC2016 # for the inner shells
    unshare -m sh -c 'cd /mnt/vmm && mount -o move . / && exec chroot . /tmp/qemu/busybox su user -s /tmp/qemu/sh -c "$1"' sh "$1"
}

# guest OPTIONS CMD
guest() {
    as_user "cd $dir && LOFT_RUNTIME_DIR=$dir/run timeout 200 ./loft run -k Image --modules modules -d disk.img --device $device $1 -- sh -c '$2'" >out 2>err </dev/null
}

contains() {
    grep -q "$1" out && return
    cat out err
    fail "'$1' is not in it"
}

# It is there without being asked for, set up by loft. What the guest asks for on the host's loopback interface it gets.
chroot "$root" /usr/sbin/dnsmasq --keep-in-foreground --user=root --pid-file= --no-resolv --no-hosts --bind-interfaces --listen-address=127.0.0.1 \
    --address=/host.example/192.0.2.7 &
resolver=$!
trap 'kill $resolver' EXIT
guest "" 'id -u; ip -4 addr show eth0; cat /etc/resolv.conf; wget -q -O- http://10.0.2.2:8080/page; nslookup host.example; udhcpc -f -n -q -i eth0 -s /bin/true 2>&1' ||
    { cat out err; fail "exit code $?"; }
contains 'inet 10.0.2.15/24'
contains 'nameserver 10.0.2.3'
contains '^page$'
contains 'lease of 10.0.2.15 obtained'
contains '192.0.2.7'

# A port of the host leads in. Whose input ends hangs up.
mkfifo silence
guest "-n user,tcp=2222:22" 'echo from the guest | nc -l -p 22' &
i=0
until answer=$(timeout 20 nc 127.0.0.1 2222 <>silence 2>/dev/null) && [ -n "$answer" ]; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 120 ] || { cat out err; fail "nobody answers at port 2222"; }
done
[ "$answer" = "from the guest" ] || fail "'$answer' answers"
wait $!

guest "-n none" 'ls /sys/class/net'
! grep -q eth0 out || fail "there is a network card"

# passt ends with its guest.
sleep 1
! pidof passt passt.avx2 >/dev/null || fail "passt still runs"
