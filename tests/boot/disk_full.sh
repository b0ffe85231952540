# SPDX-License-Identifier: GPL-2.0
# The host has no space for what a guest writes: the guest is told, or with werror=stop paused until it is resumed.
# seconds: 600
# part: 3
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
guest=
mkdir "$dir/small"
mount -t tmpfs -o size=4M small "$dir/small"
trap 'kill $guest 2>/dev/null; umount -l "$dir/small"; rm -rf "$dir"' EXIT
write='dd if=/dev/urandom of=/dev/vdb bs=1M count=12 oflag=direct 2>/dev/null'

# small: the disk is empty, and the host has space for a part of it.
small() {
    rm -f "$dir/small/data.img"
    mount -o remount,size=4M "$dir/small"
    truncate -s 16M "$dir/small/data.img"
}
# start OPTIONS CMD: a guest with that disk as its second, in the background.
start() {
    : >"$dir/out"
    : >"$dir/err"
    loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk,snapshot" -d "$dir/small/data.img$1" --name full --device "$DEVICE" \
        -- sh -c "$2" >>"$dir/out" 2>>"$dir/err" </dev/null &
    guest=$!
}
# paused N: it was paused for the Nth time.
paused() {
    i=0
    until [ "$(grep -c 'data.img.*: No space left.*paused.*loft resume full' "$dir/err")" -ge "$1" ]; do
        sleep 0.5
        i=$((i + 1))
        [ $i -lt 240 ] || { cat "$dir/out" "$dir/err"; fail "it is not paused"; }
    done
    loft ps >"$dir/ps"
    says "$(cat "$dir/ps")" '^full +[0-9]+ paused'
}
# ends CODE
ends() {
    code=0
    wait $guest || code=$?
    expect_code "$1"
}

small
start "" "$write && exit 1; $write && exit 1; exit 7"
ends 7
[ "$(grep -c 'data.img: No space left' "$dir/err")" = 1 ] || { cat "$dir/err"; fail "it is not said once"; }

small
start ,werror=stop "$write && dd if=/dev/vdb bs=1M count=12 2>/dev/null | wc -c"
paused 1
loft resume full || fail "it cannot be resumed"
paused 2
mount -o remount,size=64M "$dir/small"
loft resume full || fail "it cannot be resumed"
ends 0
[ "$(cat "$dir/out")" = 12582912 ] || fail "what it wrote is not there"

# What it has not written when its command has ended it writes whenever there is space again.
small
start ,werror=stop 'mke2fs /dev/vdb >/dev/null && mount -t ext4 /dev/vdb /mnt && dd if=/dev/urandom of=/mnt/file bs=1M count=12 2>/dev/null &&
    md5sum </mnt/file; exit 7'
paused 1
sleep 25
kill -0 $guest || { cat "$dir/err"; fail "it is ended while it is paused"; }
mount -o remount,size=64M "$dir/small"
loft resume full || fail "it cannot be resumed"
ends 7
! grep -q 'I/O error' "$dir/err" || { cat "$dir/err"; fail "there are errors"; }
before=$(cat "$dir/out")
start "" 'mount -t ext4 /dev/vdb /mnt && md5sum </mnt/file'
ends 0
[ "$(cat "$dir/out")" = "$before" ] || fail "what it wrote is not there"

# Who waits can be ended, and says nothing more then.
small
start ,werror=stop "$write"
paused 1
loft stop -f -t 1 full || fail "it is not ended"
ends 102
[ "$(grep -c 'data.img' "$dir/err")" = 1 ] || { cat "$dir/err"; fail "it is not said once"; }

# What is written to a snapshot takes its space elsewhere.
small
export TMPDIR="$dir/small"
start ,snapshot,werror=stop "$write"
paused 1
grep -q "data.img (changes are kept in $dir/small): No space left" "$dir/err" || { cat "$dir/err"; fail "it is not said where"; }
mount -o remount,size=64M "$dir/small"
loft resume full || fail "it cannot be resumed"
ends 0
