# SPDX-License-Identifier: GPL-2.0
# Runs on the emulated server: server.sh SIDE NAME... mounts the workloads' disk, makes a copy of it in memory, so that no figure has
# the emulated disk's time in it, and runs the driver. SIDE: native, kvm or loft.
# shellcheck shell=sh
set -e
mkdir /image
mount -t ext4 -o ro /dev/vda /image
for d in tmp run; do mount -t tmpfs -o size=3G $d /image/$d; done
for d in dev proc sys apps; do mount -o bind /$d /image/$d; done
mount -o bind /dev/pts /image/dev/pts
chroot /image /usr/bin/cp --sparse=always /dev/vda /tmp/disk.img
# It gets its own copy of what is not in the image.
mkdir /image/tmp/inner
mount -t ext4 -o loop /image/tmp/disk.img /image/tmp/inner
cp /apps/agent /image/tmp/inner/apps/
cp -r /apps/bin /image/tmp/inner/apps/
case $1 in
native)
    for d in dev proc sys; do mount -o bind /$d /image/tmp/inner/$d; done
    for d in tmp run; do mount -t tmpfs $d /image/tmp/inner/$d; done
    ;;
kvm) umount /image/tmp/inner && echo 0 >/sys/module/kvm/parameters/halt_poll_ns ;;
loft) umount /image/tmp/inner && insmod /loft.ko poll_us=0 ;;
esac
# What a boot leaves to be done is done then, the console's above all.
sleep 20
exec chroot /image /bin/bash /apps/driver "$@"
