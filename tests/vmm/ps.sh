# SPDX-License-Identifier: GPL-2.0
# `loft ps`, `top` and `stat` show the VM of a QEMU to the user who runs it and to root, and to nobody else.
# seconds: 200
. /vmm/lib
[ -e /dev/loft ] || { echo "skip: about loft alone" && exit 4; }
chmod 666 /dev/loft
cp /bin/loft /bin/busybox "$dir/"
ln -s busybox sh
export LOFT_RUNTIME_DIR="$dir/run"

# as USER COMMAND...: in the disk's root file system, where loft is KVM.
as() {
    # shellcheck disable=SC2016 # for the inner shells
    exec unshare -m sh -c 'cd /mnt/vmm && mount -o bind /dev/loft dev/kvm && mount -o move . / && exec chroot . /tmp/qemu/busybox su "$1" -s /tmp/qemu/sh -c "$2"' sh "$@"
}

# shows TEXT PATTERN
shows() {
    echo "$1" | grep -qE "$2" && return
    echo "$1"
    fail "'$2' is not in it"
}

[ "$(loft ps | wc -l)" = 1 ] || fail "there is a VM: $(loft ps)"
as user "exec qemu-system-aarch64 -M virt,gic-version=3 -accel kvm -cpu host -smp 2 -m 512M -nodefaults -display none -kernel $dir/Image" >qemu1 2>&1 &
qemu=$!
# A guest that does something, and has no memory but QEMU's: its own and that of the flash.
row="^\[qemu-system-aar\] +$qemu foreign +2 +[5-6][0-9.]+ MiB +[0-9:]+ +[1-9][0-9]*$"
i=0
until loft ps | grep -qE "$row"; do
    [ $i -lt 60 ] || fail "no '$row': $(loft ps; cat qemu1)"
    sleep 1
    i=$((i + 1))
done
shows "$(loft ps --json)" "^\{\"name\":\"\[qemu-system-aar\]\",\"pid\":$qemu,\"state\":\"foreign\",\"vcpus\":2,.*\"exits_per_second\":[1-9]"
shows "$(as user "$dir/loft ps")" "$row"
said=$(as nobody "$dir/loft ps") || fail "it fails"
[ "$(echo "$said" | wc -l)" = 1 ] || fail "others see it: $said"

shows "$(loft stat)" "^\[qemu-system-aar\]: process $qemu, up "
shows "$(loft stat)" '^exits_all +[1-9]'
said=$(loft top -n 1 -d 2)
shows "$said" '^\[qemu-system-aar\] +[0-9]+\.[0-9] +[0-9]+ +[0-9]+ '
[ "$(echo "$said" | wc -l)" = 2 ] || fail "there are other lines: $said"

kill "$qemu" && wait "$qemu"
qemu=''
[ "$(loft ps | wc -l)" = 1 ] || fail "it is still there: $(loft ps)"
