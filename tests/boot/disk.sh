# SPDX-License-Identifier: GPL-2.0
# What a guest writes is there in the next one; a read-only disk stays as it is; a disk is never opened for writing twice.
# seconds: 600
# part: 4
. /boot/lib
guest -- sh -c 'echo kept >/root/file && dd if=/dev/urandom of=/root/big bs=1M count=8 2>/dev/null && md5sum </root/big >/root/sum && sync'
expect_code 0
guest -- sh -c 'cat /root/file; md5sum </root/big | cmp - /root/sum && echo same'
expect_code 0
says "$said" '^kept$'
says "$said" '^same$'

before=$(md5sum <"$disk")
code=0
loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk,ro" --device "$DEVICE" -- sh -c 'cat /root/file; echo x >/root/file' \
    >"$dir/out" 2>&1 </dev/null || code=$?
[ "$code" != 0 ] || fail "a read-only disk was written"
says "$(cat "$dir/out")" '^kept$'
[ "$before" = "$(md5sum <"$disk")" ] || fail "a read-only disk has changed"

# A snapshot can be written, and is forgotten.
loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk,snapshot,serial=S-1" --device "$DEVICE" \
    -- sh -c 'echo written >/root/file; sync; echo 3 >/proc/sys/vm/drop_caches; cat /root/file /sys/block/vda/serial' >"$dir/out" 2>&1 </dev/null ||
    { cat "$dir/out"; fail "exit code $?"; }
[ "$(cat "$dir/out")" = "$(printf 'written\nS-1')" ] || { cat "$dir/out"; fail "it is not what was written"; }
[ "$before" = "$(md5sum <"$disk")" ] || fail "a disk with a snapshot has changed"

# A queue for each vCPU. What is discarded gives its space back, unless it is to keep it.
cp /guest/disk.img "$dir/space.img"
dd if=/dev/urandom of="$dir/space.img" bs=1M count=32 2>/dev/null
full=$(stat -c %b "$dir/space.img")
# shellcheck disable=SC2016 # for the guest's shell
guest -c 3 -d "$dir/space.img,discard=off" -- sh -c 'ls -d /sys/block/vda/mq/*; cat /sys/block/vdb/queue/discard_max_bytes'
expect_code 0
[ "$said" = "$(printf '/sys/block/vda/mq/%d\n' 0 1 2 && echo 0)" ] || fail "a guest with 3 vCPUs says: $said"
guest -c 2 -d "$dir/space.img" -- sh -c 'blkdiscard /dev/vdb && cat /sys/block/vdb/queue/discard_max_bytes'
expect_code 0
says "$said" '^[1-9]'
[ "$(stat -c %b "$dir/space.img")" -lt $((full / 2)) ] || fail "what was discarded has kept its space"

loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" -- sleep 40 >/dev/null 2>&1 </dev/null &
first=$!
# It has the disk from when it holds its lock.
inode=$(stat -c %i "$disk")
tries=0
until grep -q ":$inode " /proc/locks; do
    tries=$((tries + 1))
    [ $tries -le 60 ] || fail "the first loft does not lock its disk"
    sleep 1
done
guest -- true
kill $first
wait $first
expect_code 125
says "$messages" "disk\.img.*(use|lock)"
