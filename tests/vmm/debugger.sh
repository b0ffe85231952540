# SPDX-License-Identifier: GPL-2.0
# QEMU's gdb stub: the guest's first instructions one by one, and to breakpoints in its kernel. A few packets of gdb's remote protocol
# are all that it takes.
# seconds: 90
. /vmm/lib
mkdir gdb
mkfifo gdb/stub.in gdb/stub.out
cat gdb/stub.out >gdb1 &
start 1 -S -gdb "pipe:$dir/gdb/stub"
exec 9<>gdb/stub.in

replies() { tr -cd '#' <gdb1 | wc -c; }

# gdb PACKET: sends it; what comes back is in $reply.
gdb() {
    before=$(replies)
    # shellcheck disable=SC2016 # the $ is gdb's
    printf '+$%s#%s' "$1" "$(printf %s "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) n += $i } END { printf "%02x", n % 256 }')" >&9
    i=0
    until [ "$(replies)" -gt "$before" ]; do
        [ $i -lt 100 ] || fail "no reply to $1: $(cat gdb1); QEMU: $(cat qemu1)"
        sleep 0.1
        i=$((i + 1))
    done
    reply=$(sed -n '$s/.*\$\([^$#]*\)#...*/\1/p' gdb1)
}

# pc: where it is, in hexadecimal.
pc() {
    gdb p20
    # Its bytes, the lowest first.
    printf '0x%x\n' "0x$(printf %s "$reply" | fold -w 2 | tac | tr -d '\n')"
}

# at ADDRESS WHAT
at() {
    now=$(pc)
    [ "$now" = "$(printf '0x%x' "$1")" ] || fail "after $2 the guest is at $now, not $1"
}

gdb '?'
at 0x40000000 "nothing"
# QEMU's own first instructions are five and a jump to the kernel.
for n in 4 8 12 16 20; do
    gdb s
    at $((0x40000000 + n)) "a step"
done
gdb s
kernel=$(pc)
if [ $((kernel & 0xffff)) -ne 0 ] || [ $((kernel)) -le $((0x40000000)) ]; then fail "the kernel begins at $kernel"; fi
# Its second instruction is a jump.
gdb "Z1,$(printf %x $((kernel + 4))),4"
[ "$reply" = OK ] || fail "no breakpoint: '$reply'"
gdb c
at $((kernel + 4)) "the breakpoint"
gdb "z1,$(printf %x $((kernel + 4))),4"
gdb s
entry=$(pc)
[ $((entry)) -gt $((kernel + 4)) ] || fail "the kernel's entry is at $entry"
gdb "Z0,$(printf %x $((entry + 4))),4"
gdb c
at $((entry + 4)) "the BRK"
echo '{"execute": "quit"}' >&8
wait "$qemu" || fail "QEMU ended with $?: $(cat qemu1)"
