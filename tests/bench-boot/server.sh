# SPDX-License-Identifier: GPL-2.0
# Runs on the emulated server: server.sh DEVICE ROUNDS measures boots on a hypervisor. Prints lines of JSON.
# shellcheck shell=sh
set -e
device=$1 rounds=$2 root=/mnt/vmm dir=/tmp/boot memory=512
mkdir -p $root $dir
mount -t ext4 -o ro /dev/vda $root
for d in dev proc sys tmp; do mount -o bind /$d $root/$d; done
cp /guest/disk.img /guest/Image $dir/

# The initial RAM disk that all have, but what it starts on the disk says that it is up.
mkdir $dir/over
sed 's|/sbin/init|/bin/sh -c "echo THE-ROOT-IS-UP; exec sleep 1000"|' /bench/guest-initrd >$dir/over/init
chmod 755 $dir/over/init
(cd $dir/over && echo init | cpio -o -H newc 2>/dev/null) >$dir/over.cpio
cat /guest/initrd $dir/over.cpio >$dir/initrd

# A kernel of the same size that says `@` at the serial port with its first instructions, which is at the same address in
# all machines, and waits: code1 of its header (Documentation/arch/arm64/booting.rst) branches to its last 32 bytes.
cp $dir/Image $dir/first
end=$(($(stat -c %s $dir/first) - 32))
# little N: a word.
little() { printf "\\$(printf %o $(($1 & 255)))\\$(printf %o $(($1 >> 8 & 255)))\\$(printf %o $(($1 >> 16 & 255)))\\$(printf %o $(($1 >> 24 & 255)))"; }
# movz x1, #0x900, lsl #16; movz w2, #'@'; strb w2, [x1]; movz w2, #'\n'; strb w2, [x1]; wfi; b .-4; nop
for word in 0xd2a12001 0x52800802 0x39000022 0x52800142 0x39000022 0xd503207f 0x17ffffff 0xd503201f; do
    little $word
done | dd of=$dir/first bs=4 seek=$((end / 4)) conv=notrunc 2>/dev/null
little $((0x14000000 | (end - 4) / 4)) | dd of=$dir/first bs=4 seek=1 conv=notrunc 2>/dev/null

# measure ROOT VMM WHAT MARKER CMD...: the first round only warms up what the kernel keeps of files.
measure() {
    in=$1 vmm=$2 what=$3 marker=$4 round=0
    shift 4
    while [ $round -le "$rounds" ]; do
        figures=$(/bench/until "$in" "$marker" $((memory * 1024)) "$@")
        [ $round = 0 ] ||
            echo "{\"vmm\":\"$vmm\",\"device\":\"$device\",\"what\":\"$what\",\"instructions\":${figures% *},\"resident\":${figures#* }}"
        round=$((round + 1))
    done
}

run="/bin/loft run -d $dir/disk.img -m ${memory}M -n none --device $device"
# shellcheck disable=SC2086 # words
{
    measure / loft first @ $run -k $dir/first -i $dir/initrd
    measure / loft up THE-ROOT-IS-UP $run -k $dir/Image -i $dir/initrd -p quiet
    measure / own first @ $run -k $dir/first --modules /guest/modules -v -- true
    measure / own up THE-ROOT-IS-UP $run -k $dir/Image --modules /guest/modules -- echo THE-ROOT-IS-UP
}
[ "$device" = /dev/kvm ] || exit 0
run="/usr/bin/qemu-system-aarch64 -M virt,gic-version=3 -accel kvm -cpu host -m $memory -nodefaults -display none -serial stdio
    -drive file=$dir/disk.img,format=raw,if=none,id=disk -device virtio-blk-device,drive=disk -device virtio-rng-device"
# shellcheck disable=SC2086 # words
{
    measure $root qemu first @ $run -kernel $dir/first -initrd $dir/initrd
    measure $root qemu up THE-ROOT-IS-UP $run -kernel $dir/Image -initrd $dir/initrd -append "panic=-1 earlycon console=ttyAMA0 quiet"
}
