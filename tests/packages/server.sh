# SPDX-License-Identifier: GPL-2.0
# On the emulated server: boots the Debian on /dev/vda, which runs debian.sh and shuts down, in namespaces of its own. It has this
# server's devices, and its systemd and udev are in charge.
set -u
root=/mnt/deb
mkdir -p $root
mount -t ext4 /dev/vda $root || exit 1
mount -t tmpfs test $root/test
cp /packages/* $root/test/
mkdir $root/test/guest
mount -o bind /guest $root/test/guest
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
mkdir -p "$root/lib/modules/$(uname -r)"
cat >/tmp/boot <<'END'
mount -t devtmpfs dev /mnt/deb/dev
mount -t proc proc /mnt/deb/proc
mount --rbind /sys /mnt/deb/sys
exec chroot /mnt/deb /usr/bin/env -i container=test /usr/lib/systemd/systemd --log-target=null
END
# As it is written, so that it is there when the time is up.
: >$root/test/log
tail -f $root/test/log &
unshare -m -p -f sh /tmp/boot </dev/null >/dev/null 2>&1
sleep 1
kill $!
exit "$(cat $root/test/status 2>/dev/null || echo 99)"
