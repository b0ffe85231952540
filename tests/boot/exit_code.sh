# SPDX-License-Identifier: GPL-2.0
# The command's exit code and its two outputs are loft's own.
# seconds: 600
. /boot/lib
# The launcher raises this for itself.
ulimit -Sn 16
guest -- sh -c 'echo to-out; echo to-err >&2; exit 7'
expect_code 7
[ "$said" = to-out ] || fail "printed '$said'"
says "$messages" '^to-err$'
guest -- /no/such/program
expect_code 127
# SIGTERM ends what a command has started, as anywhere.
guest -- sh -c 'sh -c "kill \$\$; echo alive"; [ $? = 143 ] && kill -9 $$'
expect_code 137

# An output that nobody reads any more ends the command as a pipe does; one that is full is an error.
{
    timeout 250 loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" -- yes 2>"$dir/err" </dev/null
    echo $? >"$dir/code"
} | head -n 2 >"$dir/out"
code=$(cat "$dir/code")
expect_code 141
[ "$(cat "$dir/out")" = "$(printf 'y\ny')" ] || fail "printed '$(cat "$dir/out")'"
code=0
timeout 250 loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" -- echo lost >/dev/full 2>"$dir/err" </dev/null || code=$?
expect_code 125
says "$(cat "$dir/err")" 'standard output.*No space left'
