# SPDX-License-Identifier: GPL-2.0
# --json: how the run ended, as the last line of standard error; and `doctor` finds nothing missing here.
# seconds: 120
. /boot/lib
guest --json -- sh -c 'exit 3'
expect_code 3
says "$(echo "$messages" | tail -n 1)" '^\{.*3.*\}$'
loft doctor --device "$DEVICE" >"$dir/out" 2>&1 || {
    cat "$dir/out"
    fail "doctor misses something"
}
