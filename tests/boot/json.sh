# SPDX-License-Identifier: GPL-2.0
# --json: how the run ended and how long the parts of its boot took, as the last line of standard error; and `doctor` finds nothing missing here.
# seconds: 120
. /boot/lib
guest --json -- sh -c 'exit 3'
expect_code 3
says "$(echo "$messages" | tail -n 1)" '^\{.*3.*\}$'
# number NAME: of that line.
number() { echo "$messages" | tail -n 1 | sed -n "s/.*\"$1\":\([0-9]*\)[,}].*/\1/p"; }
for part in setup_us kernel_us init_us; do
    [ "$(number $part)" -gt 1000 ] || fail "$part is '$(number $part)'"
done
[ $((($(number kernel_us) + $(number init_us)) / 1000 - $(number boot_ms))) -le 1 ] || fail "the parts are not the whole: $messages"
[ $(($(number setup_us) / 1000 + $(number boot_ms))) -le "$(number runtime_ms)" ] || fail "the parts are more than all: $messages"
loft doctor --device "$DEVICE" >"$dir/out" 2>&1 || {
    cat "$dir/out"
    fail "doctor misses something"
}
