# SPDX-License-Identifier: GPL-2.0
# The command's exit code and its two outputs are loft's own.
# seconds: 240
. /boot/lib
guest -- sh -c 'echo to-out; echo to-err >&2; exit 7'
expect_code 7
[ "$said" = to-out ] || fail "printed '$said'"
says "$messages" '^to-err$'
guest -- /no/such/program
expect_code 127
guest -- sh -c 'kill -9 $$'
expect_code 137
