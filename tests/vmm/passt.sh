# SPDX-License-Identifier: GPL-2.0
# A guest of loft's own launcher on a network that passt makes of it, without root. Debian's passt wants a root file system that is one:
# in a namespace of its own the disk's is moved there.
# seconds: 600
# part: 6
. /vmm/lib
device=/dev/loft
[ -e $device ] || device=/dev/kvm
chmod 666 $device
cp /bin/loft "$dir/"
cp /bin/busybox "$dir/busybox"
ln -s busybox "$dir/sh"
cp -r /guest/7.2/modules "$dir/"
mkdir -m 777 www spool bin
chmod 666 disk.img
echo page >www/page

network

# as_user COMMAND...: in the disk's root file system.
as_user() {
    # shellcheck disable=SC2016 # for the inner shells
    unshare -m sh -c 'cd /mnt/vmm && mount -o move . / && exec chroot . /tmp/qemu/busybox su user -s /tmp/qemu/sh -c "$1"' sh "$1"
}

# Nobody else may write to the directory of its guests.
as_user "mkdir -m 700 $dir/spool/run"

# guest OPTIONS CMD: with programs of $first before others.
first=
guest() {
    : >out
    : >err
    as_user "cd $dir && PATH=$first\$PATH LOFT_RUNTIME_DIR=$dir/spool/run timeout 200 ./loft run -k Image --modules modules -d disk.img --device $device $1 -- sh -c '$2'" >>out 2>>err </dev/null
}

# It is there without being asked for, set up by loft. The host's name server is on the loopback interface, of which the guest
# sees nothing else.
chroot "$root" /usr/sbin/dnsmasq --keep-in-foreground --user=root --pid-file= --no-resolv --no-hosts --bind-interfaces --listen-address=127.0.0.1 \
    --address=/host.example/192.0.2.7 &
resolver=$!
trap 'kill $resolver' EXIT
ends 0 "" 'ip -4 addr show eth0; cat /etc/resolv.conf; wget -q -T 5 -O- http://10.0.2.2:8080/page && exit 1
    nslookup host.example; udhcpc -f -n -q -i eth0 -s /bin/true 2>&1'
contains 'inet 10.0.2.15/24'
contains 'nameserver 10.0.2.3'
contains 'lease of 10.0.2.15 obtained'
contains '192.0.2.7'
! grep -q '^page$' out || fail "the guest reaches the host's loopback interface"

# To whom it was promised the loopback interface is there. No file is left where the disk has none.
ends 0 "-n user" 'wget -q -O- http://10.0.2.2:8080/page && grep nameserver /etc/resolv.conf'
contains '^page$'
contains 'nameserver 10.0.2.3'
ends 1 "-n none" 'test -e /etc/resolv.conf'

# A port of the host leads in. Whose input ends hangs up.
mkfifo silence
guest "-n user,tcp=2222:22" 'echo from the guest | nc -l -p 22' &
guest=$!
i=0
until answer=$(timeout 20 nc 127.0.0.1 2222 <>silence 2>/dev/null) && [ -n "$answer" ]; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 120 ] || { cat out err; fail "nobody answers at port 2222"; }
done
[ "$answer" = "from the guest" ] || fail "'$answer' answers"
wait $guest || { cat out err; fail "exit code $?"; }

# ssh takes that way, when it is known that somebody is there.
printf '#!%s/sh\necho ssh "$@"\n' "$dir" >bin/ssh
chmod 755 bin/ssh
# with COMMAND...: loft, as the user.
with() {
    as_user "cd $dir && PATH=$dir/bin:\$PATH LOFT_RUNTIME_DIR=$dir/spool/run timeout 100 ./loft $*" >out 2>err </dev/null
}
guest "--name web -n user,tcp=2223:22" 'sleep 1000' &
guest=$!
i=0
until with exec web -- true; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 120 ] || { cat out err; fail "the guest does not come up"; }
done
with ssh web && fail "ssh is run without a server"
contains 'no SSH server answers at port 22 of web' err
with exec web -- sh -c "'while :; do echo SSH-2.0-x | nc -l -p 22; done >/dev/null 2>&1 &'"
i=0
until with ssh me@web -- ls -l; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 20 ] || { cat out err; fail "there is no ssh"; }
done
contains '^ssh -p 2223 -o HostKeyAlias=loft-web me@127.0.0.1 ls -l$'
with stop -f -t 1 web
wait $guest
guest "--name web -n none" 'sleep 1000' &
guest=$!
i=0
until with ps && grep -q '^web ' out; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 60 ] || { cat out err; fail "the guest does not come up"; }
done
with ssh web && fail "ssh is run without a way"
contains 'no port of this machine leads to port 22 of web, and it has no vsock' err
with stop -f -t 1 web
wait $guest

ends 0 "-n none" 'ls /sys/class/net'
contains '^lo'
! grep -q eth0 out || fail "there is a network card"

# A jail has it, too: loft's thread that listens to it is inside. It is a user's of its own that the jail may not end.
code=0
# shellcheck disable=SC2016 # for the inner shells
unshare -m sh -c 'cd /mnt/vmm && mount -o move . / && exec chroot . /tmp/qemu/sh -c "$1"' sh "
    /tmp/qemu/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup; cd $dir && mkdir -m 700 jails &&
    LOFT_RUNTIME_DIR=$dir/jails /tmp/qemu/busybox timeout 200 ./loft run -k Image --modules modules -d disk.img --device $device \
        --jail 1000:1001 -- sh -c 'ip -4 addr show eth0; exit 7'" >out 2>err </dev/null || code=$?
[ $code = 7 ] || { cat out err; fail "exit code $code in a jail"; }
contains 'inet 10.0.2.15/24'

# One that cannot do what it was asked for says why, before there is a guest.
for background in "" "--detach"; do
    ends 125 "-n user,tcp=8080:80 $background" true
    contains 'passt has ended' err
    contains '127.0.0.1/8080:80' err
done
# One that nobody has asked for is done without.
printf '#!%s/sh\necho out of order >&2\nexit 1\n' "$dir" >bin/passt
chmod 755 bin/passt
first=$dir/bin:
ends 0 "" 'ls /sys/class/net'
contains '^lo'
! grep -q eth0 out || fail "there is a network card"
[ "$(grep -c . err)" = 1 ] || { cat err; fail "it is not said in one line"; }
contains 'the guest has no network: passt has ended: out of order' err
first=

# One that ends later is told of once.
: >out
guest "" 'while nslookup host.example | grep 192.0.2.7; do sleep 1; done; ip -4 addr show eth0' &
guest=$!
comes_up '192.0.2.7' 120
kill "$(pidof passt passt.avx2)"
wait $guest || { cat out err; fail "exit code $?"; }
contains 'inet 10.0.2.15/24'
[ "$(grep -c 'passt has ended; the guest has no network any more' err)" = 1 ] || { cat err; fail "it is not said once"; }

# passt ends with its guest.
sleep 1
! pidof passt passt.avx2 >/dev/null || fail "passt still runs"
